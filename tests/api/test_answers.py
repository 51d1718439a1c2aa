"""What is answered, recomputed by hand from the strings, with fractions."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

import pytest

from exchanges.board import Board
from service.api.handlers import API
from service.app import create_app
from service.errors import Unavailable
from service.settings import Settings
from tests.api.conftest import FEES_BPS, LADDERS, NUMBER, SETTINGS, Server, without_realism
from tests.standing import StandingFeeds

MARKUP_BPS = 2
UNIT = Fraction(1, 10**8)
STEPS = ["mid", "half_spread", "depth", "conversion", "fees", "markup", "total"]
QUOTE_MEMBERS = {
    "quote_id", "kind", "executed", "market_data", "execution", "symbol", "base_asset", "quote_asset", "requested",
    "created_at", "expires_at", "expires_in_ms", "buy", "sell", "market", "liquidity", "sources", "warnings",
}  # fmt: skip
SIDE_MEMBERS = {
    "fillable", "quantity", "shortfall", "average_price", "best_price", "worst_price", "all_in_price", "subtotal",
    "fees", "markup", "total", "pays", "receives", "slippage_bps", "waterfall", "legs", "best_single_venue",
    "saving_bps",
}  # fmt: skip
THIN = {
    ("kraken", "BTC/USDT"): "0.3 64000 .\n. 64010 0.25",
    ("coinbase", "BTC/USDT"): "0.4 64001 .\n. 64011 0.5",
    ("okx", "BTC/USDT"): "0.1 63999 .\n. 64009 0.1",
}


def ladder(side):
    """Give all BTC/USDT levels that an order of this side takes: (net price, price, quantity, venue), best first."""
    rows = []
    for (venue, symbol), drawn in LADDERS.items():
        for line in drawn.strip().splitlines() if symbol == "BTC/USDT" else ():
            bid, price, ask = line.split()
            quantity = ask if side == "buy" else bid
            if quantity != ".":
                fee = Fraction(FEES_BPS[venue]) / 10_000
                net = Fraction(price) * (1 + fee if side == "buy" else 1 - fee)
                rows.append((net, Fraction(price), Fraction(quantity), venue))
    return sorted(rows, reverse=side == "sell")


def walk(side, quantity, limit=None, venues=None):
    """Fill an order the naive way: (venue, price, quantity)."""
    fills, left = [], Fraction(quantity)
    for _, price, there, venue in ladder(side):
        worse = limit is not None and (price > Fraction(limit) if side == "buy" else price < Fraction(limit))
        if left and not worse and (venues is None or venue in venues):
            take = min(left, there)
            fills.append((venue, price, take))
            left -= take
    return fills


def up(number):
    return -(-number // UNIT) * UNIT


def down(number):
    return number // UNIT * UNIT


def rounded_to(number, digits=12):
    """Round half-even to so many significant digits, as prices are shown."""
    exponent = len(str(number.numerator // number.denominator)) - digits if number >= 1 else -digits
    scale = Fraction(10) ** exponent
    return round(number / scale) * scale  # Python rounds half to even.


def check_side(message, side, quantity, *, limit=None, venues=None):
    """Hold one side of a quote to the naive walk, money to the last digit."""
    fills = walk(side, quantity, limit, venues)
    buying = side == "buy"
    rounded, sign = (up, 1) if buying else (down, -1)
    filled = sum((taken for _, _, taken in fills), Fraction(0))
    notional = sum((price * taken for _, price, taken in fills), Fraction(0))
    subtotal = sum((rounded(price * taken) for _, price, taken in fills), Fraction(0))
    fees = sum((up(price * taken * Fraction(FEES_BPS[venue]) / 10_000) for venue, price, taken in fills), Fraction(0))
    markup = sum((up(price * taken * MARKUP_BPS / 10_000) for _, price, taken in fills), Fraction(0))
    total = subtotal + sign * (fees + markup)

    assert (filled, Fraction(quantity) - filled) == (Fraction(message["quantity"]), Fraction(message["shortfall"]))
    assert message["fillable"] == (filled == Fraction(quantity))
    assert [subtotal, fees, markup, total] == [
        Fraction(message[name]) for name in ("subtotal", "fees", "markup", "total")
    ]
    assert ("USDT", "BTC") == (message["pays"], message["receives"])[:: 1 if buying else -1]
    prices = [price for _, price, _ in fills]
    best, worst = (min, max) if buying else (max, min)
    assert (best(prices), worst(prices)) == (Fraction(message["best_price"]), Fraction(message["worst_price"]))
    assert rounded_to(subtotal / filled) == Fraction(message["average_price"])
    assert rounded_to(total / filled) == Fraction(message["all_in_price"])

    by_venue = {}
    for venue, price, taken in fills:
        by_venue.setdefault(venue, []).append((price, taken))
    assert list(by_venue) == [leg["venue"] for leg in message["legs"]]
    for leg in message["legs"]:
        own = by_venue[leg["venue"]]
        assert ("BTC/USDT", len(own), None) == (leg["symbol"], leg["levels"], leg["conversion"])
        assert Fraction(FEES_BPS[leg["venue"]]) == Fraction(leg["fee_bps"])
        assert worst(price for price, _ in own) == Fraction(leg["worst_price"])
        assert rounded_to(Fraction(leg["subtotal"]) / Fraction(leg["quantity"])) == Fraction(leg["average_price"])
    for name, of_legs in {"quantity": "quantity", "subtotal": "subtotal", "fees": "fee"}.items():
        assert Fraction(message[name]) == sum(Fraction(leg[of_legs]) for leg in message["legs"])

    *steps, last = message["waterfall"]
    assert STEPS == [step["step"] for step in message["waterfall"]]
    assert total == Fraction(last["amount"]) == sum(Fraction(step["amount"]) for step in steps)
    assert Fraction(last["bps"]) == sum(Fraction(step["bps"]) for step in steps)
    amounts = {step["step"]: Fraction(step["amount"]) for step in steps}
    assert (0, sign * fees, sign * markup) == (amounts["conversion"], amounts["fees"], amounts["markup"])
    mid = (Fraction("64009") + Fraction("64001.5")) / 2 if venues is None else None
    if mid is not None:
        assert round(mid * filled / UNIT) * UNIT == amounts["mid"]
        slippage = sign * (notional - mid * filled) / (mid * filled) * 10_000
        assert round(slippage * 10_000) == Fraction(message["slippage_bps"]["from_mid"]) * 10_000
    slippage = sign * (notional - best(prices) * filled) / (best(prices) * filled) * 10_000
    assert round(slippage * 10_000) == Fraction(message["slippage_bps"]["from_best"]) * 10_000


# GET /quote


@pytest.mark.parametrize("quantity", ["0.00001", "0.1", "0.12346", "1.5", "3.33333", "9"])
async def test_quote_of_both_sides_adds_up(house, quantity):
    """
    Both sides of a quote are what walking the venues' books by hand gives, to the last digit.
    """
    message = (await house.quote(f"symbol=BTC/USDT&quantity={quantity}")).json
    assert QUOTE_MEMBERS == set(message)
    for side in ("buy", "sell"):
        assert SIDE_MEMBERS == set(message[side])
        check_side(message[side], side, quantity)


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_quote_of_one_side_leaves_the_other_null(house, side):
    """
    Who asks for one side gets the same numbers, and null for the other.
    """
    one = (await house.quote(f"symbol=BTC/USDT&quantity=1.5&side={side}")).json
    both = (await house.quote("symbol=BTC/USDT&quantity=1.5&side=both")).json
    assert (both[side], None) == (one[side], one["sell" if side == "buy" else "buy"])
    assert ({"quantity": "1.5", "side": side}, "both") == (one["requested"], both["requested"]["side"])


async def test_quote_says_what_it_is(house):
    """
    A quote names itself: indicative, not executed, of live prices, and when it ends.
    """
    message = (await house.quote("symbol=BTC/USDT&quantity=1.50")).json
    assert ("indicative", False, "live", "mock") == tuple(
        message[name] for name in ("kind", "executed", "market_data", "execution")
    )
    assert ("BTC/USDT", "BTC", "USDT") == tuple(message[name] for name in ("symbol", "base_asset", "quote_asset"))
    assert ("2026-11-01T12:00:00.000Z", "2026-11-01T12:00:03.000Z", 3_000) == tuple(
        message[name] for name in ("created_at", "expires_at", "expires_in_ms")
    )
    assert {
        "mid": "64005.25",
        "best_bid": {"price": "64001.5", "venue": "coinbase"},
        "best_ask": {"price": "64009", "venue": "okx"},
        "spread_bps": "1.1718",
        "crossed": False,
    } == message["market"]
    assert [] == message["warnings"]
    assert [
        {"venue": "kraken", "state": "live", "used": True, "reason": None, "age_ms": 0, "sequence": NUMBER},
        {"venue": "coinbase", "state": "live", "used": True, "reason": None, "age_ms": 0, "sequence": None},
        {"venue": "okx", "state": "live", "used": True, "reason": None, "age_ms": 0, "sequence": NUMBER},
    ] == message["sources"]


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_fills_are_the_walk_level_by_level(house, side):
    """
    With fills=true every level that is taken is shown, best first, each rounded for itself.
    """
    message = (await house.quote(f"symbol=BTC/USDT&quantity=6.5&side={side}&fills=true")).json[side]
    fills = message["fills"]
    assert SIDE_MEMBERS | {"fills"} == set(message)
    assert walk(side, "6.5") == [(fill["venue"], Fraction(fill["price"]), Fraction(fill["quantity"])) for fill in fills]
    for fill in fills:
        notional = Fraction(fill["price"]) * Fraction(fill["quantity"])
        assert (up if side == "buy" else down)(notional) == Fraction(fill["subtotal"])
        assert up(notional * Fraction(FEES_BPS[fill["venue"]]) / 10_000) == Fraction(fill["fee"])
    without = (await house.quote(f"symbol=BTC/USDT&quantity=6.5&side={side}&fills=false")).json[side]
    assert "fills" not in without


@pytest.mark.parametrize(("side", "limit"), [("buy", "64025.55"), ("buy", "64010.1"), ("sell", "63990")])
async def test_limit_leaves_worse_levels_alone(house, side, limit):
    """
    Levels worse than the limit are not touched, and what is missing is shortfall.
    """
    message = (await house.quote(f"symbol=BTC/USDT&quantity=9&side={side}&limit_price={limit}")).json
    assert limit == message["requested"]["limit_price"]
    check_side(message[side], side, "9", limit=limit)


@pytest.mark.parametrize(
    ("query", "used"),
    [
        ("venues=kraken", ["kraken"]),
        ("venues=okx,kraken", ["kraken", "okx"]),
        ("venues=kraken,kraken", ["kraken"]),
        ("exclude_venues=okx", ["kraken", "coinbase"]),
        ("venues=kraken,okx&exclude_venues=okx", ["kraken"]),
    ],
)
async def test_choice_of_venues_is_kept(house, query, used):
    """
    Only the venues chosen are used; the others are named as excluded.
    """
    message = (await house.quote(f"symbol=BTC/USDT&quantity=1&side=buy&{query}")).json
    assert used == [source["venue"] for source in message["sources"] if source["used"]]
    assert {"excluded"} >= {source["reason"] for source in message["sources"] if not source["used"]}
    check_side(message["buy"], "buy", "1", venues=used)
    assert (["single_venue"] if len(used) == 1 else []) == [warning["code"] for warning in message["warnings"]]


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("venues=krakn", [("venues", "invalid_parameter", "kraken")]),
        ("exclude_venues=okex,coinbse", [("exclude_venues", "invalid_parameter", "coinbase"),
                                         ("exclude_venues", "invalid_parameter", "okx")]),
        ("venues=zzzzzzzz", [("venues", "invalid_parameter", None)]),
        # Switched off: it could never answer.
        ("venues=kraken,bitstamp", [("venues", "invalid_parameter", None)]),
        ("venues=kraken&exclude_venues=kraken", [("exclude_venues", "conflicting_parameters", None)]),
        ("exclude_venues=kraken,coinbase,okx,bitstamp", [("exclude_venues", "conflicting_parameters", None)]),
    ],
)  # fmt: skip
async def test_unknown_venue_is_refused_with_the_nearest(house, query, faults):
    """
    A mistyped venue must not silently make a worse price; the answer says which was probably meant.
    """
    errors = (await house.quote(f"symbol=BTC/USDT&quantity=1&{query}")).json["errors"]
    found = [(error["parameter"], error["code"], error.get("suggested")) for error in errors]
    assert sorted(faults, key=str) == sorted(found, key=str)


async def test_venue_that_cannot_answer_is_refused_by_name_with_everything_else(house):
    """
    A venue that is switched off or does not trade the symbol could never answer; the rest is told in the same breath.
    """
    reply = await house.quote("symbol=ETH/USDT&quantity=x&venues=kraken,okx,bitstamp,krakn&exclude_venues=okx,bitstamp")
    assert [
        ("quantity", 'must be a decimal string such as "1.5", at most 12 digits before and 12 after the point'),
        ("venues", "names okx, which does not trade ETH/USDT"),
        ("venues", "names bitstamp, which is switched off"),
        ("venues", "names a venue that is not in the settings"),
    ] == [(error["parameter"], error["detail"]) for error in reply.json["errors"]]
    # What is left out may be anything that the settings name.
    assert 200 == (await house.quote("symbol=ETH/USDT&quantity=1&exclude_venues=okx,bitstamp")).status


@pytest.mark.parametrize(
    "spelling", ["BTC/USDT", "btc/usdt", "BTC-USDT", "btc_usdt", "BTCUSDT", "btcusdt", "BTC%2FUSDT"]
)
async def test_symbol_is_understood_in_its_spellings(house, spelling):
    """
    However it is written, answers say BTC/USDT; ``ticker`` is the same parameter.
    """
    for parameter in ("symbol", "ticker"):
        assert "BTC/USDT" == (await house.quote(f"{parameter}={spelling}&quantity=1")).json["symbol"]
    assert "BTC/USDT" == (await house.get(f"/v1/book?symbol={spelling}")).json["symbol"]
    assert "BTC/USDT" == (await house.buy(symbol=spelling.replace("%2F", "/"))).json["symbol"]


async def test_unknown_symbol_is_refused_with_the_nearest(house):
    """
    A mistyped symbol is answered with the one that was probably meant, in query and body alike.
    """
    [in_query] = (await house.quote("symbol=BTC/USTD&quantity=1")).json["errors"]
    [in_body] = (await house.buy(symbol="BTC/USTD")).json["errors"]
    assert ("symbol", "BTC/USDT") == (in_query["parameter"], in_query["suggested"])
    assert ("/symbol", "BTC/USDT") == (in_body["pointer"], in_body["suggested"])


async def test_thin_book_is_information(house):
    """
    More than there is is quoted as what there is, with the rest as shortfall and a warning.
    """
    house.show(THIN)
    message = (await house.quote("symbol=BTC/USDT&quantity=5")).json
    assert (False, "0.85", "4.15") == tuple(message["buy"][name] for name in ("fillable", "quantity", "shortfall"))
    assert (False, "0.8", "4.2") == tuple(message["sell"][name] for name in ("fillable", "quantity", "shortfall"))
    assert [{"code": "thin"}] == message["warnings"]
    assert (None, None) == (message["buy"]["best_single_venue"], message["buy"]["saving_bps"])


async def test_side_with_nothing_has_no_prices(house):
    """
    A limit that nothing meets leaves a side without prices, and without money.
    """
    message = (await house.quote("symbol=BTC/USDT&quantity=5&side=buy&limit_price=1")).json["buy"]
    prices = ("average_price", "best_price", "worst_price", "all_in_price", "best_single_venue", "saving_bps")
    assert [None] * 6 == [message[name] for name in prices]
    assert {"from_mid": None, "from_best": None} == message["slippage_bps"]
    assert ["0", "5", "0", "0", []] == [
        message[name] for name in ("quantity", "shortfall", "subtotal", "total", "legs")
    ]


async def test_best_single_venue_is_what_routing_is_held_against(house):
    """
    The best venue alone is never better than the route, and the saving is the difference.
    """
    buy = (await house.quote("symbol=BTC/USDT&quantity=0.5&side=buy")).json["buy"]
    single = buy["best_single_venue"]
    alone = (await house.quote(f"symbol=BTC/USDT&quantity=0.5&side=buy&venues={single['venue']}")).json["buy"]
    assert single["all_in_price"] == alone["all_in_price"]
    saving = (Fraction(alone["total"]) - Fraction(buy["total"])) / Fraction(alone["total"]) * 10_000
    assert round(saving * 10_000) == Fraction(buy["saving_bps"]) * 10_000 >= 0


async def test_source_that_is_not_used_has_its_reason(house):
    """
    Every venue of a symbol is named with its state, its age and why it does not count.
    """
    house.clock.advance(5_001)
    house.show({key: drawn for key, drawn in LADDERS.items() if key[0] == "kraken"}, age_ms=20)
    house.board.fail("okx", "BTC/USDT", "banned", house.clock.now_ns(), at_once=True)
    message = (await house.quote("symbol=BTC/USDT&quantity=1&side=buy")).json
    assert [("kraken", "live", True, None, 20), ("coinbase", "stale", False, "stale", 5_001),
            ("okx", "down", False, "banned", 5_001)] == [
        tuple(source[name] for name in ("venue", "state", "used", "reason", "age_ms")) for source in message["sources"]
    ]  # fmt: skip
    assert [{"code": "single_venue"}] == message["warnings"]


async def test_crossed_market_is_said(house):
    """
    Venues that cross each other a little are used, and the answer says so.
    """
    house.show({("okx", "BTC/USDT"): "1 64020 .\n. 64030 1"})
    message = (await house.quote("symbol=BTC/USDT&quantity=0.1")).json
    assert (True, [{"code": "crossed"}]) == (message["market"]["crossed"], message["warnings"])
    assert Decimal(message["market"]["spread_bps"]) < 0
    assert True is (await house.get("/v1/book?symbol=BTC/USDT")).json["crossed"]


@pytest.mark.parametrize("path", ["/quote?symbol=BTC/USDT&quantity=1", "/v1/venues", "/healthz", "/readyz", "/docs"])
async def test_head_is_get_without_the_body(house, path):
    """
    HEAD answers what GET does, with its length, and sends no body.
    """
    got, head = await house.get(path), await house.ask("HEAD", path)
    assert (200, got.headers["Content-Length"], b"") == (head.status, head.headers["Content-Length"], head.body)


@pytest.mark.parametrize("route", ["/quote", "/execute"])
async def test_root_and_v1_answer_alike(house, route):
    """
    The two verbs stand at the root and under /v1, over the same record.
    """
    if route == "/quote":
        first, second = [(await house.get(f"{at}?symbol=BTC/USDT&quantity=1")).json for at in ("/quote", "/v1/quote")]
        assert first.pop("quote_id") != second.pop("quote_id")
        assert first == second
    else:
        body = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
        replies = [await house.ask("POST", at, body=body) for at in ("/execute", "/v1/execute")]
        assert [201, 200] == [reply.status for reply in replies]
        assert replies[0].body == replies[1].body


# POST /execute


async def test_execution_on_a_quote_is_what_was_quoted(house):
    """
    On the same book an order gets exactly the fills, fees and total that it was quoted.
    """
    quoted = (await house.quote("symbol=BTC/USDT&quantity=1.5&fills=true")).json
    for side in ("buy", "sell"):
        fresh = (await house.quote("symbol=BTC/USDT&quantity=1.5")).json["quote_id"]
        reply = await house.execute({"quote_id": fresh, "side": side, "client_order_id": side})
        executed = reply.json
        assert (201, None) == (reply.status, reply.headers.get("Idempotent-Replayed"))
        for name in ("average_price", "all_in_price", "subtotal", "fees", "markup", "total"):
            assert quoted[side][name] == executed[name]
        assert quoted[side]["fills"] == [
            {name: fill[name] for name in ("venue", "symbol", "price", "quantity", "subtotal", "fee", "conversion")}
            for fill in executed["fills"]
        ]
        assert Fraction(executed["markup"]) == sum(Fraction(fill["markup"]) for fill in executed["fills"])
        assert ("filled", "0", fresh, "1.5", "1.5", "0") == tuple(
            executed[name] for name in ("status", "versus_quote_bps", "quote_id", "requested_quantity",
                                        "filled_quantity", "unfilled_quantity")
        )  # fmt: skip


async def test_execution_says_what_it_is(house):
    """
    An execution names its order, what came of it, and the books that it was filled from.
    """
    house.clock.advance(84)
    message = (await house.buy(side="sell", quantity="0.6")).json
    assert re.fullmatch("[0-9a-f]{32}", message["execution_id"])
    assert ("filled", None, "a", None, "live", "mock", False, "BTC/USDT", "sell", "fok") == tuple(
        message[name] for name in ("status", "reject_code", "client_order_id", "quote_id", "market_data", "execution",
                                   "dry_run", "symbol", "side", "time_in_force")
    )  # fmt: skip
    assert (None, "2026-11-01T12:00:00.084Z") == (message["versus_quote_bps"], message["executed_at"])
    fills = [(fill["venue"], fill["book_age_ms"], fill["sequence"]) for fill in message["fills"]]
    assert fills
    assert {84} == {age_ms for _, age_ms, _ in fills}
    assert all(sequence == (None if venue == "coinbase" else NUMBER) for venue, _, sequence in fills)


async def test_ioc_takes_what_there_is(house):
    """
    IOC fills in part where FOK is refused.
    """
    house.show(THIN)
    refused = await house.buy(quantity="5")
    message = (await house.buy("b", quantity="5", time_in_force="ioc")).json
    assert "insufficient_liquidity" == refused.code
    assert ("partially_filled", "ioc", "0.85", "4.15") == tuple(
        message[name] for name in ("status", "time_in_force", "filled_quantity", "unfilled_quantity")
    )


async def test_better_market_is_the_clients(house):
    """
    Whoever executes a quote after prices improved pays less, and the answer says by how much.
    """
    quoted = (await house.quote("symbol=BTC/USDT&quantity=0.1&side=buy")).json
    house.show({("okx", "BTC/USDT"): "1 63999 .\n. 64005 1"})
    executed = (await house.execute({"quote_id": quoted["quote_id"], "client_order_id": "a"})).json
    was, is_now = Fraction(quoted["buy"]["total"]), Fraction(executed["total"])
    assert is_now < was
    assert round((is_now - was) / was * 10**8) == Fraction(executed["versus_quote_bps"]) * 10**4


async def test_tolerance_lets_a_little_worse_pass(house):
    """
    With a tolerance an order fills at somewhat worse than quoted, but no further.
    """
    for tolerance, status in {"0.5": 409, "2": 201}.items():
        quoted = (await house.quote("symbol=BTC/USDT&quantity=0.1&side=buy")).json["quote_id"]
        house.show({("okx", "BTC/USDT"): "1 63999 .\n. 64018 1"})
        body = {"quote_id": quoted, "client_order_id": f"t{status}", "tolerance_bps": tolerance}
        assert status == (await house.execute(body)).status
        house.show()


async def test_replay_is_the_first_answer_byte_for_byte(house):
    """
    The same order again gets the same bytes, whatever has happened since, in whatever order its fields come.
    """
    first = await house.buy()
    house.clock.advance(60_000)
    again = await house.buy()
    fields = {"client_order_id": "a", "quantity": "0.2", "side": "buy", "symbol": "BTC/USDT"}
    reordered = await house.execute(fields)
    for reply in (again, reordered):
        assert (200, "true", first.body) == (reply.status, reply.headers["Idempotent-Replayed"], reply.body)
    assert 1 == len((await house.get("/v1/executions")).json["executions"])


async def test_order_outlives_its_symbol_and_its_quote(house, aiohttp_client):
    """
    A retry gets its execution though the service no longer serves the symbol; a new order for it is refused.
    """
    first = await house.buy()
    settings = Settings.model_validate({**SETTINGS, "market": {"symbols": ["ETH/USDT"]}})
    elsewhere = create_app(
        settings, StandingFeeds.of(Board(Decimal(100))), house.ledger, house.ring, b"k" * 32, house.clock
    )
    house.client = await aiohttp_client(Server(elsewhere))
    again = await house.buy()
    assert (200, first.body) == (again.status, again.body)
    assert "unknown_symbol" == (await house.buy("b")).code


async def test_same_id_of_two_accounts_is_two_orders(house):
    """
    A client_order_id belongs to its account.
    """
    body = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
    first, second = await house.execute(body), await house.execute(body, key="bob")
    assert [201, 201] == [first.status, second.status]
    assert first.json["execution_id"] != second.json["execution_id"]


async def test_dry_run_checks_all_and_records_nothing(house):
    """
    A dry run answers as the order would, and leaves neither an execution nor a used id or quote behind.
    """
    quoted = (await house.quote("symbol=BTC/USDT&quantity=0.2&side=buy")).json["quote_id"]
    dry = await house.execute({"quote_id": quoted, "client_order_id": "a", "dry_run": True})
    refused = await house.buy(dry_run=True, limit_price="1")
    wet = await house.execute({"quote_id": quoted, "client_order_id": "a"})

    assert (200, None, True) == (dry.status, dry.json["execution_id"], dry.json["dry_run"])
    assert ("limit_not_met", False) == (refused.code, "execution_id" in refused.json)
    assert 201 == wet.status
    differing = {"execution_id", "dry_run"}
    assert differing == {name for name, value in dry.json.items() if wet.json[name] != value}
    assert 1 == len((await house.get("/v1/executions")).json["executions"])


# GET /v1/executions


async def executions(house, query="", **options):
    return (await house.get(f"/v1/executions?{query}", **options)).json


def ids(page):
    return [execution["client_order_id"] for execution in page["executions"]]


async def five(house):
    """Make five executions, a minute apart: a, b (ETH), c (rejected), d (in part), e."""
    for name, fields in {
        "a": {}, "b": {"symbol": "ETH/USDT"}, "c": {"limit_price": "1"},
        "d": {"quantity": "900", "time_in_force": "ioc"}, "e": {"side": "sell"},
    }.items():  # fmt: skip
        await house.buy(name, **fields)
        house.clock.advance(60_000)
        house.show()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 500])
async def test_pages_give_every_execution_once_newest_first(house, limit):
    """
    Following the cursors shows each execution once, though new ones come in meanwhile.
    """
    await five(house)
    seen, cursor = [], ""
    while cursor is not None:
        page = await executions(house, f"limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        assert len(page["executions"]) <= limit
        seen += ids(page)
        cursor = page["next_cursor"]
        await house.buy(f"new{len(seen)}")
    assert list("edcba") == seen


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "edcba"),
        ("symbol=ETH/USDT", "b"),
        ("symbol=eth-usdt", "b"),
        ("status=filled", "eba"),
        ("status=rejected", "c"),
        ("status=partially_filled", "d"),
        ("since=2026-11-01T12:03:00Z", "ed"),
        ("since=2026-11-01T12:03:00.000001Z", "e"),
        ("since=2026-11-01T14:03:00%2B02:00", "ed"),
        ("since=1000-01-01T00:00:00Z", "edcba"),
        ("since=2027-01-01T00:00:00Z", ""),
        ("status=filled&symbol=BTC/USDT&since=2026-11-01T12:01:00Z", "e"),
    ],
)
async def test_filters_choose_executions(house, query, expected):
    """
    Symbol, status and time narrow the list, each and together.
    """
    await five(house)
    assert list(expected) == ids(await executions(house, query))


async def test_execution_is_given_as_it_was_answered(house):
    """
    By its id, by the client's own, and in the list: always what was answered at first, and behind it what was seen
    since.
    """
    first = await house.buy()
    by_id = await house.get(f"/v1/executions/{first.json['execution_id']}")
    by_client_id = await house.get("/v1/executions/by-client-id/a")
    assert by_id.body == by_client_id.body
    assert first.body[:-1] == by_id.body.partition(b',"realism":')[0]
    assert first.json == without_realism(by_id.json)
    assert [by_id.json] == (await executions(house))["executions"]


async def test_another_accounts_executions_look_absent(house):
    """
    What belongs to someone else looks exactly like what does not exist.
    """
    execution_id = (await house.buy()).json["execution_id"]
    assert ([], None) == tuple((await executions(house, key="bob")).values())
    for there, nowhere in {execution_id: "0" * 32, "by-client-id/a": "by-client-id/b"}.items():
        theirs = (await house.get(f"/v1/executions/{there}", key="bob")).json
        absent = (await house.get(f"/v1/executions/{nowhere}", key="bob")).json
        assert theirs | {"request_id": ""} == absent | {"request_id": ""}


@pytest.mark.parametrize("name", ["x", "A" * 32, "0" * 33, "%00", "%FF", "..%2F..", "by-client-id"])
async def test_what_is_no_id_is_an_unknown_one(house, name):
    """
    An id of no possible form is unknown like any other.
    """
    assert "unknown_execution" == (await house.get(f"/v1/executions/{name}")).code
    assert "unknown_execution" == (await house.get(f"/v1/executions/by-client-id/{name}")).code


# The market: book, venues, symbols, readiness


@pytest.mark.parametrize("view", ["net", "gross"])
async def test_book_ranks_every_level_with_its_venue(house, view):
    """
    All venues' levels stand in one book, ranked by what they cost with fees, or by what the venues show.
    """
    message = (await house.get(f"/v1/book?symbol=BTC/USDT&view={view}")).json
    assert ("BTC/USDT", view, "live", False) == tuple(
        message[name] for name in ("symbol", "view", "market_data", "crossed")
    )
    for side, name in {"buy": "asks", "sell": "bids"}.items():
        levels = ladder(side)
        if view == "gross":
            levels.sort(key=lambda level: level[1], reverse=side == "sell")
        assert levels == [
            (Fraction(level["net_price"]), Fraction(level["price"]), Fraction(level["quantity"]), level["venue"])
            for level in message[name]
        ]
    assert ["kraken", "coinbase", "okx"] == [source["venue"] for source in message["sources"]]


async def test_depth_cuts_the_book(house):
    """
    Depth is levels a side, best first.
    """
    whole = (await house.get("/v1/book?symbol=BTC/USDT")).json
    cut = (await house.get("/v1/book?symbol=BTC/USDT&depth=2")).json
    assert (whole["bids"][:2], whole["asks"][:2]) == (cut["bids"], cut["asks"])


async def test_venues_show_how_they_are_doing(house):
    """
    Each venue of the settings with its symbols, fees and counters; its own state is its worst symbol's.
    """
    house.clock.advance(1_500)
    now_ns = house.clock.now_ns()
    house.board.reject("coinbase", "ETH/USDT", "crossed", now_ns)
    house.board.fail("okx", "BTC/USDT", "banned", now_ns, at_once=True)
    page = (await house.get("/v1/venues")).json
    kraken, coinbase, okx, bitstamp = page["venues"]

    assert None is page["next_cursor"]
    assert {
        "venue": "kraken", "enabled": True, "poll_interval_ms": 1_000, "transport": "poll", "state": "live",
        "reason": None, "since": "2026-11-01T12:00:00.000Z", "taker_fee_bps": "26", "accepted": 2, "rejected": {},
        "failed": {}, "reconnects": 0,
        "symbols": [
            {"symbol": symbol, "state": "live", "reason": None, "age_ms": 1_500, "sequence": NUMBER,
             "levels": levels, "taker_fee_bps": "26"}
            for symbol, levels in {"BTC/USDT": 6, "ETH/USDT": 2}.items()
        ],
    } == kraken  # fmt: skip
    assert ("live", {"crossed": 1}, 2) == (coinbase["state"], coinbase["rejected"], coinbase["accepted"])
    assert ("down", "banned", "2026-11-01T12:00:01.500Z", ["BTC/USDT"]) == (
        okx["state"], okx["reason"], okx["since"], [entry["symbol"] for entry in okx["symbols"]],
    )  # fmt: skip
    assert {
        "venue": "bitstamp", "enabled": False, "poll_interval_ms": None, "transport": "poll", "state": None,
        "reason": None, "since": None, "symbols": [], "taker_fee_bps": None, "accepted": 0, "rejected": {},
        "failed": {}, "reconnects": 0,
    } == bitstamp  # fmt: skip


async def test_venues_show_what_gave_no_book_and_how_books_come(house):
    """
    Requests and streams without a book are counted by reason; a stream that is polled meanwhile says so, and why.
    """
    kraken, coinbase, _ = house.feeds.venues
    for venue in (kraken, coinbase):
        venue.fallback_reason = "stream_silent"
    house.feeds.venues[2].transport = "stream"
    tally = house.board.tally("kraken")
    tally.failed.update(["timeout", "timeout", "http_502"])
    tally.reconnects = 3
    house.board.fail("coinbase", "BTC/USDT", "banned", house.clock.now_ns(), at_once=True)
    rows = (await house.get("/v1/venues")).json["venues"]

    assert (
        [
            ("poll", "live", "stream_silent", {"timeout": 2, "http_502": 1}, 3),
            ("poll", "down", "banned", {}, 0),  # Why it is down matters more.
            ("stream", "live", None, {}, 0),
        ]
        == [tuple(row[name] for name in ("transport", "state", "reason", "failed", "reconnects")) for row in rows[:3]]
    )


async def test_symbols_show_their_rules(house):
    """
    Each symbol with every venue's rules; the outer ones are what a routed order may use.
    """
    page = (await house.get("/v1/symbols")).json
    bitcoin, ether = page["symbols"]
    assert None is page["next_cursor"]
    assert ("BTC/USDT", "BTC", "USDT", "0.00000001", None, None) == tuple(
        bitcoin[name] for name in ("symbol", "base_asset", "quote_asset", "quantity_step", "quantity_min",
                                   "notional_min")
    )  # fmt: skip
    assert ["kraken", "coinbase"] == [rules["venue"] for rules in ether["venues"]]
    assert {"venue": "kraken", "symbol": "ETH/USDT", "price_step": "0.01", "quantity_step": "0.00001",
            "quantity_min": "0.0001", "notional_min": "5", "taker_fee_bps": "26"} == ether["venues"][0]  # fmt: skip
    # A venue that names no minimum leaves none to keep.
    assert ("0.00001", None, "5") == tuple(ether[name] for name in ("quantity_step", "quantity_min", "notional_min"))


async def test_life_and_readiness(house):
    """
    Ready with fresh books; alive, but not ready, without them, with the reasons of each symbol and venue.
    """
    ready = await house.get("/readyz", key=None)
    assert (200, "ready") == (ready.status, ready.json["status"])
    assert [("BTC/USDT", 3, 1), ("ETH/USDT", 2, 1)] == [
        (entry["symbol"], entry["live_venues"], entry["venues_min"]) for entry in ready.json["symbols"]
    ]
    house.clock.advance(5_001)
    house.show({key: drawn for key, drawn in LADDERS.items() if key[1] == "BTC/USDT"})
    house.board.fail("kraken", "ETH/USDT", "banned", house.clock.now_ns(), at_once=True)
    unready = await house.get("/readyz", key=None)
    [ether] = unready.json["symbols"]
    assert (503, "no_fresh_market_data") == (unready.status, unready.code)
    assert ("ETH/USDT", 0, 1) == (ether["symbol"], ether["live_venues"], ether["venues_min"])
    assert [("kraken", "down", "banned", False), ("coinbase", "stale", "stale", False)] == [
        (source["venue"], source["state"], source["reason"], source["used"]) for source in ether["sources"]
    ]
    assert {"status": "alive"} == (await house.get("/healthz", key=None)).json


@pytest.mark.parametrize("house", [{"market": {"venues_min": 3}}], indirect=True)
async def test_symbol_needs_as_many_venues_as_the_settings_say(house):
    """
    With three venues needed, a symbol that two trade is neither ready nor quoted.
    """
    unready = await house.get("/readyz", key=None)
    assert [("ETH/USDT", 2, 3)] == [
        (entry["symbol"], entry["live_venues"], entry["venues_min"]) for entry in unready.json["symbols"]
    ]
    assert "no_fresh_market_data" == (await house.quote("symbol=ETH/USDT&quantity=1")).code
    assert 200 == (await house.quote("symbol=BTC/USDT&quantity=1")).status


async def test_stopping_service_begins_nothing_new(house):
    """
    A service that is stopping is alive and not ready, and says so to whoever wants anything; an order on record has its
    answer still.
    """
    first = await house.buy()
    house.app[API].desk.close()
    assert 200 == (await house.get("/healthz", key=None)).status
    for path in ("/readyz", "/quote?symbol=BTC/USDT&quantity=1", "/v1/venues", "/v1/executions"):
        assert "shutting_down" == (await house.get(path)).code
    assert ["shutting_down"] * 2 == [(await house.buy("b")).code, (await house.firm()).code]
    assert (200, first.body) == ((again := await house.buy()).status, again.body)


# Headers


async def test_refusal_for_now_says_how_long(house):
    """
    Whoever knows how long the trouble lasts has the last word on Retry-After.
    """
    house.ledger.trouble["transact"] = Unavailable("overloaded", "too many orders wait", retry_after_s=7)
    assert "7" == (await house.buy()).headers["Retry-After"]


@pytest.mark.parametrize("offered", ["a", "0f3c-1", "req.7_B", "x" * 64])
async def test_sane_request_id_is_kept(house, offered):
    """
    The caller's own id of a request comes back in header, problem and log line.
    """
    good = await house.get("/healthz", headers={"X-Request-Id": offered})
    bad = await house.get("/nothing", headers={"X-Request-Id": offered})
    assert [offered] * 3 == [good.headers["X-Request-Id"], bad.headers["X-Request-Id"], bad.json["request_id"]]
    assert {offered} == {line["request_id"] for line in house.lines("request")}


@pytest.mark.parametrize("offered", ["", " ", "a b", "x" * 65, "é", "a,b", "<b>", "../x", "iob_live_x", "a.IOB_TEST_x"])
async def test_insane_request_id_is_replaced(house, offered):
    """
    What could break a log or hide a key is not taken as an id.
    """
    first = await house.get("/healthz", headers={"X-Request-Id": offered})
    second = await house.get("/healthz", headers={"X-Request-Id": offered})
    assert re.fullmatch("[0-9a-f]{16}", first.headers["X-Request-Id"])
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]


@pytest.mark.parametrize(
    "path",
    ["/v1/account/balances", "/v1/admin/accounts/alice", "/web",
     "/v1/admin/venues", "/quote/", "//quote", "/QUOTE", "/v2/quote", "/docs/", "/docs/../x"],
)  # fmt: skip
async def test_what_is_not_there_is_not_found(house, path):
    """
    What this version does not offer answers 404 for every key and none: there are no stubs.
    """
    for key in ("all", "admin", None):
        assert (path, "not_found") == (path, (await house.get(path, key=key)).code)


async def test_nearest_venue_is_looked_for_a_few_times_only(house):
    """
    Of a long list all unknown names are told, and for the first of them what they may mean.
    """
    names = ",".join(f"kraken{number}" for number in range(20))
    faults = (await house.quote(f"symbol=BTC/USDT&quantity=1&venues={names}")).json["errors"]

    assert (20, 8) == (len(faults), sum("suggested" in fault for fault in faults))
