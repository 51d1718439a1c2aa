"""Firm quotes over HTTP: held, honoured, let go, and refused for every mistake in asking."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.api.test_codes import DEARER

ASKED = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2"}


async def given(house, **fields):
    """Give a firm quote that was given."""
    reply = await house.firm(**fields)
    assert 201 == reply.status, reply.json
    return reply.json


async def execute(house, quote, client_order_id="a", **fields):
    return await house.execute({"quote_id": quote["quote_id"], "client_order_id": client_order_id, **fields})


async def standing(house, quote):
    return (await house.get(f"/v1/quotes/{quote['quote_id']}")).json


async def let_go(house, quote, **options):
    return await house.ask("DELETE", f"/v1/quotes/{quote['quote_id']}", **options)


# What is given


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_firm_quote_is_the_indicative_one_held(house, side):
    """
    A firm quote costs what an indicative one costs at the moment, and says that it is firm, open, and what is held.
    """
    indicative = (await house.quote(f"symbol=BTC/USDT&quantity=0.2&side={side}")).json
    firm = await given(house, side=side)
    for name in ("symbol", "base_asset", "quote_asset", "requested", "buy", "sell", "market", "sources", "warnings"):
        assert indicative[name] == firm[name]
    assert ("firm", "open", False, None) == tuple(firm[name] for name in ("kind", "status", "executed", "execution_id"))
    assert ("2026-11-01T12:00:00.000Z", "2026-11-01T12:00:03.000Z", 3_000) == tuple(
        firm[name] for name in ("created_at", "expires_at", "expires_in_ms")
    )
    assert firm["held"] == ({"USDT": firm["buy"]["total"]} if side == "buy" else {"BTC": "0.2"})


async def test_firm_quote_for_a_total_keeps_within_it(house):
    """
    A total is answered by the largest quantity that comes to no more, and what is held is what it comes to.
    """
    firm = await given(house, quantity=None, total="5000")
    assert Decimal(firm["buy"]["total"]) <= 5000
    assert {"USDT": firm["buy"]["total"]} == firm["held"]
    assert {"total": "5000", "side": "buy"} == firm["requested"]


@pytest.mark.parametrize(
    "venues",
    [
        {"venues": ["okx", "kraken"]},
        {"venues": "okx,kraken"},
        {"exclude_venues": ["coinbase"]},
        {"exclude_venues": "coinbase"},
    ],
)
async def test_venues_are_chosen_by_a_list_or_by_text(house, venues):
    """
    Only the venues that were chosen hold anything, however the choice is written.
    """
    firm = await given(house, **venues)
    assert {"kraken", "okx"} >= {leg["venue"] for leg in firm["buy"]["legs"]}
    assert {"kraken", "okx"} == {source["venue"] for source in firm["sources"] if source["used"]}
    [(name, chosen)] = venues.items()
    assert sorted(chosen.split(",") if isinstance(chosen, str) else chosen) == firm["requested"][name]


@pytest.mark.parametrize(
    ("ttl_ms", "expires_at"), [(100, "12:00:00.100Z"), (2_500, "12:00:02.500Z"), (10_000, "12:00:10.000Z")]
)
async def test_firm_quote_lasts_as_long_as_it_was_asked_to(house, ttl_ms, expires_at):
    """
    A client says for how long a price has to stand.
    """
    firm = await given(house, ttl_ms=ttl_ms)
    assert (f"2026-11-01T{expires_at}", ttl_ms) == (firm["expires_at"], firm["expires_in_ms"])


@pytest.mark.parametrize("house", [{"quotes": {"ttl_ms": 60_000, "firm_ttl_ms_max": 5_000}}], indirect=True)
async def test_firm_quote_never_outlasts_what_the_settings_allow(house):
    """
    Whoever does not say how long gets no longer than whoever does.
    """
    assert 5_000 == (await given(house))["expires_in_ms"]
    assert 5_000 == (await given(house, ttl_ms=5_000))["expires_in_ms"]
    too_long = await house.firm(ttl_ms=5_001)
    assert (400, [("/ttl_ms", "invalid_parameter")]) == (too_long.status, too_long.faults)
    assert "5000" in too_long.json["detail"]


# What is held, and what becomes of it


async def test_firm_quote_holds_funds_until_it_is_let_go(house):
    """
    What a firm quote holds is still the account's, but no other order can use it.
    """
    before = (await house.account())["balances"]["USDT"]
    firm = await given(house)
    during = (await house.account())["balances"]["USDT"]
    assert (before["total"], firm["held"]["USDT"]) == (during["total"], during["held"])
    assert Decimal(before["available"]) - Decimal(firm["held"]["USDT"]) == Decimal(during["available"])
    released = await let_go(house, firm)
    assert (200, "released", {}, 0) == (
        released.status,
        released.json["status"],
        released.json["held"],
        released.json["expires_in_ms"],
    )
    assert before == (await house.account())["balances"]["USDT"]


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_firm_quote_is_filled_at_its_total_though_the_market_moves(house, side):
    """
    The price was promised: an order on it is filled at the quoted total, against us if need be.
    """
    firm = await given(house, side=side)
    house.show(DEARER)
    reply = await execute(house, firm)
    assert (201, "filled", firm["quote_id"], "0") == (
        reply.status,
        reply.json["status"],
        reply.json["quote_id"],
        reply.json["versus_quote_bps"],
    )
    assert firm[side]["total"] == reply.json["total"]
    assert {leg["venue"]: leg["quantity"] for leg in firm[side]["legs"]}.keys() == {
        fill["venue"] for fill in reply.json["fills"]
    }
    used = await standing(house, firm)
    assert ("used", True, reply.json["execution_id"], {}) == tuple(
        used[name] for name in ("status", "executed", "execution_id", "held")
    )
    balances = (await house.account())["balances"]
    assert {"0"} == {balance["held"] for balance in balances.values()}
    assert {asset: change["after"] for asset, change in reply.json["balances"].items()} == {
        asset: balances[asset]["total"] for asset in ("BTC", "USDT")
    }


async def test_firm_quote_is_filled_though_the_market_is_gone(house):
    """
    A promise needs no fresh books: what it is filled with was held when it was given.
    """
    firm = await given(house, ttl_ms=10_000)
    house.clock.advance(9_000)
    assert "no_fresh_market_data" == (await house.quote()).code
    assert (201, firm["buy"]["total"]) == ((reply := await execute(house, firm)).status, reply.json["total"])


async def test_repeated_order_on_a_firm_quote_is_replayed(house):
    """
    The same order again gets the same bytes, though the quote is used and its time is over.
    """
    firm = await given(house)
    first = await execute(house, firm)
    house.clock.advance(60_000)
    again = await execute(house, firm)
    assert (200, first.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])


@pytest.mark.parametrize(("advance_ms", "outcome"), [(2_999, (201, None)), (3_000, (410, "quote_expired"))])
async def test_firm_quote_is_honoured_to_its_last_millisecond(house, advance_ms, outcome):
    """
    Until it expires it is filled; from then on it is gone.
    """
    firm = await given(house)
    house.clock.advance(advance_ms)
    house.show()
    reply = await execute(house, firm)
    assert outcome == (reply.status, reply.code)


async def test_expired_firm_quote_shows_itself_expired(house):
    """
    Nobody needs to have ended it: whoever looks after its time sees it expired, and its hold is not renewed by looking.
    """
    firm = await given(house)
    house.clock.advance(1_000)
    still = await standing(house, firm)
    assert ("open", 2_000) == (still["status"], still["expires_in_ms"])
    house.clock.advance(2_000)
    over = await standing(house, firm)
    assert ("expired", {}, 0, False) == tuple(over[name] for name in ("status", "held", "expires_in_ms", "executed"))
    assert "expired" == (await let_go(house, firm)).json["status"]
    assert "0" == (await house.account())["balances"]["USDT"]["held"]


async def test_letting_go_changes_nothing_that_has_ended(house):
    """
    DELETE can be sent again, and takes back no fill.
    """
    used, released = await given(house), await given(house)
    await execute(house, used)
    for quote, status in ((used, "used"), (released, "released"), (released, "released")):
        reply = await let_go(house, quote)
        assert (200, status) == (reply.status, reply.json["status"])
    assert "used" == (await standing(house, used))["status"]


async def test_reset_lets_open_firm_quotes_go(house):
    """
    A reset account owes and is owed nothing: its quotes are void for execution and hold nothing.
    """
    firm = await given(house)
    await house.ask("POST", "/v1/admin/accounts/alice/reset", key="admin")
    assert "released" == (await standing(house, firm))["status"]
    assert "quote_void" == (await execute(house, firm)).code
    assert "0" == (await house.quote("symbol=BTC/USDT&quantity=0.2&side=buy")).json["liquidity"]["held"]


async def test_other_side_than_was_promised_is_refused(house):
    """
    A firm quote has one side; an order that names another is a mistake, and the quote stays open.
    """
    firm = await given(house)
    wrong = await execute(house, firm, side="sell")
    assert (400, [("/side", "conflicting_parameters")]) == (wrong.status, wrong.faults)
    assert 201 == (await execute(house, firm, side="buy")).status


async def test_dry_run_on_a_firm_quote_leaves_it_open(house):
    """
    Trying out what would happen uses nothing up.
    """
    firm = await given(house)
    tried = await execute(house, firm, dry_run=True)
    assert (200, None, firm["buy"]["total"]) == (tried.status, tried.json["execution_id"], tried.json["total"])
    assert firm == await standing(house, firm)
    assert 201 == (await execute(house, firm)).status


@pytest.mark.parametrize("house", [{"quotes": {"firm_open_max": 2}}], indirect=True)
async def test_too_many_open_quotes_makes_room_by_ending_one(house):
    """
    The limit counts open quotes of one account: another account has its own, and one that ended counts no more.
    """
    first, second = await given(house), await given(house)
    refused = await house.firm()
    assert (429, "too_many_open_quotes", "same_request") == (refused.status, refused.code, refused.json["retry"])
    assert 201 == (await house.firm(key="bob")).status
    await let_go(house, first)
    await given(house)
    assert "too_many_open_quotes" == (await house.firm()).code
    house.clock.advance(3_000)
    house.show()
    await given(house)
    assert "expired" == (await standing(house, second))["status"]


@pytest.mark.parametrize("house", [{"quotes": {"firm_venues_min": 3}}], indirect=True)
async def test_firm_quote_needs_as_many_venues_as_the_settings_say(house):
    """
    A promise does not rest on fewer venues than the operator wants, and the refusal shows which are there.
    """
    await given(house)
    house.board.fail("okx", "BTC/USDT", "banned", house.clock.now_ns(), at_once=True)
    refused = await house.firm()
    assert (503, "no_fresh_market_data") == (refused.status, refused.code)
    assert ("okx", "down", "banned") in [
        (source["venue"], source["state"], source["reason"]) for source in refused.json["sources"]
    ]
    assert 200 == (await house.quote()).status


@pytest.mark.parametrize("house", [{"risk": {"trading_enabled": False}}], indirect=True)
async def test_kill_switch_gives_no_firm_quotes(house):
    """
    With trading switched off nothing is promised; prices are still quoted.
    """
    assert "risk_limit" == (await house.firm()).code
    assert 200 == (await house.quote()).status


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"quantity": "5000"}, "insufficient_liquidity"),
        ({"limit_price": "1"}, "limit_not_met"),
        ({"quantity": "1.000000001"}, "quantity_step"),
        ({"quantity": "0.000001"}, "quantity_too_small"),
        ({"symbol": "ETH/USDT", "quantity": "0.001", "exclude_venues": "coinbase"}, "no_fresh_market_data"),
        ({"symbol": "DOGE/USDT"}, "unknown_symbol"),
        ({"symbol": "BTC/USDX"}, "unknown_symbol"),
    ],
)
async def test_what_cannot_be_promised_is_refused_and_holds_nothing(house, fields, code):
    """
    A firm quote is for all of it or for nothing, and one that is not given leaves no trace.
    """
    refused = await house.firm(**fields)
    assert code == refused.code
    assert {"0"} == {balance["held"] for balance in (await house.account())["balances"].values()}
    assert [] == await house.ledger.open_firm_quotes()


# Whose it is


async def test_another_accounts_firm_quote_looks_absent(house):
    """
    Looking at, letting go of, or executing someone else's quote tells nothing, and does nothing to it.
    """
    firm = await given(house)
    absent = {"quote_id": "0" * 32}
    for ask in (
        lambda quote: house.get(f"/v1/quotes/{quote['quote_id']}", key="bob"),
        lambda quote: let_go(house, quote, key="bob"),
        lambda quote: house.execute({"quote_id": quote["quote_id"], "client_order_id": "b"}, key="bob"),
    ):
        theirs, nowhere = await ask(firm), await ask(absent)
        assert (404, "unknown_quote") == (theirs.status, theirs.code)
        assert theirs.json | {"request_id": ""} == nowhere.json | {"request_id": ""}
    assert firm == await standing(house, firm)


@pytest.mark.parametrize("name", ["x", "A" * 32, "0" * 31, "0" * 33, "%00", "%FF", "q2.a.b"])
async def test_what_cannot_be_a_firm_quote_is_unknown(house, name):
    """
    No id breaks anything: what was never given is not there.
    """
    for method in ("GET", "DELETE"):
        reply = await house.ask(method, f"/v1/quotes/{name}")
        assert (404, "unknown_quote") == (reply.status, reply.code)


# What is wrong with the asking


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"sum": "1"}, [("/sum", "unknown_field")]),
        ({"client_order_id": "a"}, [("/client_order_id", "unknown_field")]),
        ({"slippage_bps_max": "1"}, [("/slippage_bps_max", "unknown_field")]),
        ({"symbol": None}, [("/symbol", "missing_parameter")]),
        ({"side": None}, [("/side", "missing_parameter")]),
        ({"quantity": None}, [("/quantity", "missing_parameter")]),
        ({"total": "1"}, [("/total", "conflicting_parameters")]),
        ({"symbol": 5}, [("/symbol", "invalid_parameter")]),
        ({"side": "both"}, [("/side", "invalid_parameter")]),
        ({"side": ["buy"]}, [("/side", "invalid_parameter")]),
        ({"quantity": 0.2}, [("/quantity", "invalid_parameter")]),
        ({"quantity": "0"}, [("/quantity", "invalid_parameter")]),
        ({"limit_price": 64000}, [("/limit_price", "invalid_parameter")]),
        ({"ttl_ms": "3000"}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": 3000.5}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": 0.5}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": True}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": [3000]}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": 0}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": -100}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": 99}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": 10_001}, [("/ttl_ms", "invalid_parameter")]),
        ({"ttl_ms": 10**30}, [("/ttl_ms", "invalid_parameter")]),
        ({"venues": 5}, [("/venues", "invalid_parameter")]),
        ({"venues": []}, [("/venues", "invalid_parameter")]),
        ({"venues": ["kraken", 5]}, [("/venues", "invalid_parameter")]),
        ({"venues": "kraken,"}, [("/venues", "invalid_parameter")]),
        ({"venues": ["Kraken"]}, [("/venues", "invalid_parameter")]),
        ({"venues": {"kraken": True}}, [("/venues", "invalid_parameter")]),
        ({"venues": ["bitstamp", "okx"]}, [("/venues", "invalid_parameter")]),
        ({"symbol": "ETH/USDT", "venues": ["okx", "kraken"]}, [("/venues", "invalid_parameter")]),
        ({"exclude_venues": ["kraken", "coinbase", "okx"]}, [("/exclude_venues", "conflicting_parameters")]),
        # All faults at once, and a symbol that is not served is looked at after them.
        (
            {"symbol": "NO/NO", "ttl_ms": "1", "venues": ["krakn"], "sum": 1},
            [("/ttl_ms", "invalid_parameter"), ("/venues", "invalid_parameter"), ("/sum", "unknown_field")],
        ),
    ],
)
async def test_mistake_in_asking_is_named_and_nothing_is_held(house, fields, faults):
    """
    Every fault of a firm quote's body is told by its place, and the market never hears of it.
    """
    reply = await house.firm(**fields)
    assert (400, faults) == (reply.status, reply.faults)
    assert faults[0][1] == reply.code
    assert [] == await house.ledger.open_firm_quotes()


async def test_null_and_repeated_fields_are_refused(house):
    """
    A field that is null, or stands twice, is a mistake: it is not quietly left out.
    """
    null = await house.ask("POST", "/v1/quotes", body={**ASKED, "ttl_ms": None})
    assert [("/ttl_ms", "invalid_parameter")] == null.faults
    twice = await house.ask("POST", "/v1/quotes", raw=json.dumps(ASKED).encode()[:-1] + b',"side":"sell"}')
    assert [("/side", "duplicate_field")] == twice.faults


@pytest.mark.parametrize("venues", ["krakn", ["okx", "krakn"], "okx,krakn"])
async def test_unknown_venue_is_answered_with_the_one_that_was_meant(house, venues):
    """
    A mistyped venue is refused with the name that would do.
    """
    reply = await house.firm(venues=venues)
    [fault] = reply.json["errors"]
    assert ("/venues", "invalid_parameter", "kraken") == (fault["pointer"], fault["code"], fault["suggested"])


async def test_unknown_symbol_is_answered_with_the_one_that_was_meant(house):
    """
    A mistyped symbol is refused with the nearest one that is served.
    """
    [fault] = (await house.firm(symbol="BTC/USDX")).json["errors"]
    assert ("/symbol", "unknown_symbol", "BTC/USDT") == (fault["pointer"], fault["code"], fault["suggested"])


@pytest.mark.parametrize("body", [b"{", b'{"symbol": "NO/NO"}', b"[1]", b"\xff", b"x" * 1_000])
async def test_letting_go_reads_no_body(house, body):
    """
    DELETE says all in its address: whatever is sent along is not read, and the connection goes on.
    """
    firm = await given(house)
    assert (200, "released") == ((reply := await let_go(house, firm, raw=body)).status, reply.json["status"])
    assert 200 == (await house.quote()).status


async def test_firm_routes_refuse_parameters(house):
    """
    These routes have no query: a parameter is refused, and the quote stands.
    """
    firm = await given(house)
    for method in ("GET", "DELETE"):
        reply = await house.ask(method, f"/v1/quotes/{firm['quote_id']}?force=true")
        assert (400, [("force", "unknown_parameter")]) == (reply.status, reply.faults)
    asked = await house.ask("POST", "/v1/quotes?ttl_ms=500", body=ASKED)
    assert (400, [("ttl_ms", "unknown_parameter")]) == (asked.status, asked.faults)
    assert "open" == (await standing(house, firm))["status"]


# What is logged


async def test_line_of_a_firm_quote_says_what_it_is_about(house):
    """
    A firm quote's line has what was asked, which venues hold it, and its name, which its later lines have too.
    """
    firm = await given(house)
    await standing(house, firm)
    await let_go(house, firm)
    asked, seen, gone = house.lines("request")
    assert ("BTC/USDT", "buy", "0.2", firm["quote_id"], "open") == tuple(
        asked[name] for name in ("symbol", "side", "quantity", "quote_id", "quote_status")
    )
    assert sorted(leg["venue"] for leg in firm["buy"]["legs"]) == asked["venues"]
    assert [(firm["quote_id"], "open"), (firm["quote_id"], "released")] == [
        (line["quote_id"], line["quote_status"]) for line in (seen, gone)
    ]
