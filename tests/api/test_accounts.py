"""Paper accounts over HTTP: what they have, how they are opened, funded and reset."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.api.conftest import LADDERS

START = {"USDT": "100000000", "BTC": "10000", "ETH": "10000"}
"""What every account of these tests begins with."""


async def admin(house, path, body=None, **options):
    return await house.ask("POST", f"/v1/admin/accounts{path}", body=body, key="admin", **options)


async def deposit(house, asset, amount, account="alice"):
    return await admin(house, f"/{account}/deposits", {"asset": asset, "amount": amount})


def totals(account):
    return {asset: balance["total"] for asset, balance in account["balances"].items()}


def plain(number):
    """Write a sum as the service does, without trailing zeros."""
    return f"{number.normalize():f}"


# What an account has


async def test_account_that_was_never_used_has_its_starting_balances(house):
    """
    An account needs no opening: its first look shows what it can trade with.
    """
    account = await house.account()
    assert ("alice", START, []) == (account["account"], totals(account), account["positions"])
    assert {"BTC", "ETH", "USDT"} == set(account["balances"])
    for balance in account["balances"].values():
        assert ("0", balance["total"]) == (balance["held"], balance["available"])
    assert [] == (await house.get("/v1/account/entries")).json["entries"]


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_fill_moves_the_balances_that_it_says(house, side):
    """
    A buy costs its total and brings its quantity, a sell the other way round, and the execution shows both.
    """
    execution = (await house.buy(side=side)).json
    sign = 1 if side == "buy" else -1
    after = {
        "USDT": plain(Decimal(START["USDT"]) - sign * Decimal(execution["total"])),
        "BTC": plain(Decimal(START["BTC"]) + sign * Decimal("0.2")),
    }
    assert {asset: {"before": START[asset], "after": after[asset]} for asset in after} == execution["balances"]
    assert START | after == totals(await house.account())


async def test_second_fill_begins_where_the_first_has_ended(house):
    """
    Balances go on from fill to fill, and a replay moves nothing again.
    """
    first, second = (await house.buy("a")).json, (await house.buy("b")).json
    await house.buy("b")
    for asset in ("BTC", "USDT"):
        assert first["balances"][asset]["after"] == second["balances"][asset]["before"]
    balances = totals(await house.account())
    assert {asset: change["after"] for asset, change in second["balances"].items()} == {
        asset: balances[asset] for asset in ("BTC", "USDT")
    }


@pytest.mark.parametrize(
    "fields", [{"dry_run": True}, {"limit_price": "1"}, {"quantity": "5000"}, {"symbol": "NO/NO"}, {"quantity": "0"}]
)
async def test_what_is_not_filled_moves_nothing(house, fields):
    """
    A dry run shows what balances would be; it and every refusal leave them as they are.
    """
    reply = await house.buy(**fields)
    if reply.status == 200:
        assert START["BTC"] != reply.json["balances"]["BTC"]["after"]
    assert START == totals(await house.account())


async def test_position_shows_cost_and_profit_at_mid(house):
    """
    A position's cost has fees and markup in it; what it would bring is told at mid.
    """
    execution = (await house.buy(symbol="ETH/USDT", quantity="2")).json
    [position] = (await house.account())["positions"]
    assert ("ETH/USDT", "2", execution["all_in_price"], "0", "2500.35") == tuple(
        position[name] for name in ("symbol", "quantity", "average_cost", "realised_pnl", "mid")
    )
    assert Decimal("5000.7") - Decimal(execution["total"]) == Decimal(position["unrealised_pnl"]) < 0


async def test_selling_what_was_bought_realises_the_loss(house):
    """
    Who buys and sells at once has paid the spread and the fees: that is the realised loss, and nothing is left open.
    """
    bought = (await house.buy("a", symbol="ETH/USDT", quantity="2")).json
    sold = (await house.buy("b", symbol="ETH/USDT", quantity="2", side="sell")).json
    [position] = (await house.account())["positions"]
    assert ("0", None, "0") == tuple(position[name] for name in ("quantity", "average_cost", "unrealised_pnl"))
    lost = Decimal(sold["total"]) - Decimal(bought["total"])
    assert lost == Decimal(position["realised_pnl"]) < 0
    assert plain(Decimal(START["USDT"]) + lost) == totals(await house.account())["USDT"]


async def test_short_position_is_negative(house):
    """
    Selling what was not bought before is a position below zero, at what it brought.
    """
    sold = (await house.buy(symbol="ETH/USDT", quantity="2", side="sell")).json
    [position] = (await house.account())["positions"]
    assert ("-2", sold["all_in_price"]) == (position["quantity"], position["average_cost"])
    assert Decimal(sold["total"]) - Decimal("5000.7") == Decimal(position["unrealised_pnl"]) < 0


async def test_position_without_a_price_has_no_profit_yet(house):
    """
    Without books that can be believed an account is still shown; only what depends on mid is open.
    """
    await house.buy(symbol="ETH/USDT", quantity="2")
    house.clock.advance(6_000)
    house.show({key: drawn for key, drawn in LADDERS.items() if key[1] == "BTC/USDT"})
    [position] = (await house.account())["positions"]
    assert ("2", None, None) == tuple(position[name] for name in ("quantity", "unrealised_pnl", "mid"))


async def test_accounts_do_not_see_each_other(house):
    """
    One account's fill is no other's: balances and positions are its own.
    """
    await house.buy()
    theirs = await house.account(key="bob")
    assert ("bob", START, []) == (theirs["account"], totals(theirs), theirs["positions"])


# What it can pay


@pytest.mark.parametrize("house", [{"accounts": {"starting_balances": {"USDT": "1000", "BTC": "0.1"}}}], indirect=True)
@pytest.mark.parametrize(
    "fields",
    [
        {"quantity": "0.016"},
        {"quantity": "0.2", "side": "sell"},
        {"quantity": "0.10001", "side": "sell"},
        {"symbol": "ETH/USDT", "quantity": "0.1", "side": "sell"},
    ],
)
async def test_order_that_cannot_be_paid_is_refused_on_record(house, fields):
    """
    Nobody sells what he has not, or buys for more than he has; the refusal is an execution, and moves nothing.
    """
    refused = await house.buy(**fields)
    assert (409, "insufficient_balance") == (refused.status, refused.code)
    execution = (await house.get(f"/v1/executions/{refused.json['execution_id']}")).json
    assert ("rejected", "insufficient_balance", {}) == tuple(
        execution[name] for name in ("status", "reject_code", "balances")
    )
    assert {"USDT": "1000", "BTC": "0.1"} == totals(await house.account())


@pytest.mark.parametrize("house", [{"accounts": {"starting_balances": {"USDT": "1000", "BTC": "0.1"}}}], indirect=True)
async def test_all_of_a_balance_can_be_spent_and_not_a_unit_more(house):
    """
    An order may leave nothing behind: what it comes to is held against what there is, to the last unit.
    """
    sold = await house.buy("a", quantity="0.1", side="sell")
    assert (201, "0") == (sold.status, sold.json["balances"]["BTC"]["after"])
    short = await house.buy("b", quantity="0.0001", side="sell")
    assert "insufficient_balance" == short.code
    there = sold.json["balances"]["USDT"]["after"]
    bought = await house.buy("c", quantity=None, total=there)
    assert (201, True) == (bought.status, Decimal(bought.json["balances"]["USDT"]["after"]) >= 0)
    assert bought.json["balances"]["USDT"]["after"] == plain(Decimal(there) - Decimal(bought.json["total"]))


@pytest.mark.parametrize("house", [{"accounts": {"starting_balances": {"USDT": "20000"}}}], indirect=True)
async def test_what_is_held_cannot_be_spent_twice(house):
    """
    Funds behind an open firm quote pay for nothing else; once it is let go, they do.
    """
    firm = (await house.firm()).json
    assert "insufficient_balance" == (await house.buy("a")).code
    assert "insufficient_balance" == (await house.firm()).code
    await house.ask("DELETE", f"/v1/quotes/{firm['quote_id']}")
    assert 201 == (await house.buy("b")).status


@pytest.mark.parametrize(
    ("house", "fields", "code"),
    [
        ({"risk": {"order_notional_max": "12804.9"}}, {}, None),
        ({"risk": {"order_notional_max": "12804.89999999"}}, {}, "risk_limit"),
        ({"risk": {"daily_notional_max": "12804.89999999"}}, {}, "risk_limit"),
        ({"risk": {"position_max": {"BTC": "0.2"}}}, {}, None),
        ({"risk": {"position_max": {"BTC": "0.19999"}}}, {}, "risk_limit"),
        ({"risk": {"position_max": {"BTC": "0.19999"}}}, {"side": "sell"}, "risk_limit"),
        ({"risk": {"position_max": {"ETH": "0.1"}}}, {}, None),
        ({"risk": {"trading_enabled": False}}, {}, "risk_limit"),
    ],
    indirect=["house"],
)
async def test_limits_of_risk_hold_for_every_order(house, fields, code):
    """
    An order that is just within its limits is filled; one that breaks any of them is refused, on record.
    """
    reply = await house.buy(**fields)
    assert (code, 409 if code else 201) == (reply.code, reply.status)
    [execution] = (await house.get("/v1/executions")).json["executions"]
    assert ("rejected" if code else "filled", code) == (execution["status"], execution["reject_code"])


@pytest.mark.parametrize("house", [{"risk": {"daily_notional_max": 20_000}}], indirect=True)
async def test_daily_limit_begins_anew_with_the_day(house):
    """
    What was filled today counts until midnight UTC, for this account alone.
    """
    assert 201 == (await house.buy("a")).status
    assert "risk_limit" == (await house.buy("b")).code
    body = {"symbol": "BTC/USDT", "side": "sell", "quantity": "0.2", "client_order_id": "c"}
    assert 201 == (await house.execute(body, key="bob")).status
    house.clock.advance(12 * 3_600_000)
    house.show()
    assert 201 == (await house.buy("d")).status


# Opening, funding, resetting


async def test_account_is_opened_once(house):
    """
    Opening gives the starting balances; opening again changes nothing and shows the account as it stands.
    """
    first = await admin(house, "", {"account": "carol"})
    assert (201, "carol", START) == (first.status, first.json["account"], totals(first.json))
    await deposit(house, "BTC", "1", "carol")
    again = await admin(house, "", {"account": "carol"})
    assert (200, START | {"BTC": "10001"}) == (again.status, totals(again.json))


async def test_account_that_has_traded_is_open(house):
    """
    An account's first order opens it, so that an admin finds it with its fills.
    """
    execution = (await house.buy()).json
    found = await admin(house, "", {"account": "alice"})
    assert (200, execution["balances"]["USDT"]["after"]) == (found.status, totals(found.json)["USDT"])


@pytest.mark.parametrize(
    ("asset", "amount", "total"),
    [
        ("BTC", "0.5", "10000.5"),
        ("BTC", "0.00000001", "10000.00000001"),
        ("BTC", "0.500000000000", "10000.5"),
        ("USDT", "50000000", "150000000"),
        ("SOL", "7", "7"),
    ],
)
async def test_deposit_adds_exactly_what_it_says(house, asset, amount, total):
    """
    A deposit is there at once, to the last unit, and can be of an asset that the account never had.
    """
    await admin(house, "", {"account": "alice"})
    reply = await deposit(house, asset, amount)
    assert (201, "alice", total) == (reply.status, reply.json["account"], totals(reply.json)[asset])
    assert reply.json == await house.account()


async def test_deposit_stops_at_what_a_ledger_can_hold(house):
    """
    A balance may be as large as the ledger's integers, and not one unit larger.
    """
    await admin(house, "", {"account": "alice"})
    most = await deposit(house, "SOL", "92233720368.54775807")
    assert (201, "92233720368.54775807") == (most.status, totals(most.json)["SOL"])
    refused = await deposit(house, "SOL", "0.00000001")
    assert (422, [("/amount", "quantity_too_large")]) == (refused.status, refused.faults)
    assert "92233720368.54775807" == totals(await house.account())["SOL"]


async def test_reset_brings_back_the_beginning_and_keeps_the_record(house):
    """
    After a reset an account has its starting balances and no position; what it has executed stays on record.
    """
    execution = (await house.buy()).json
    await deposit(house, "SOL", "7")
    reset = await admin(house, "/alice/reset")
    assert (200, START, []) == (
        reset.status,
        {asset: total for asset, total in totals(reset.json).items() if total != "0"},
        reset.json["positions"],
    )
    assert reset.json == await house.account()
    assert 200 == (await house.get(f"/v1/executions/{execution['execution_id']}")).status
    assert execution["execution_id"] == (await house.buy()).json["execution_id"]


@pytest.mark.parametrize("house", [{"risk": {"daily_notional_max": 20_000}}], indirect=True)
async def test_reset_ends_the_days_turnover(house):
    """
    A reset account may trade its daily notional anew.
    """
    await house.buy("a")
    assert "risk_limit" == (await house.buy("b")).code
    await admin(house, "/alice/reset")
    assert 201 == (await house.buy("c")).status


@pytest.mark.parametrize("body", [b"{", b'{"account": "bob"}', b"x" * 1_000])
async def test_reset_reads_no_body(house, body):
    """
    A reset says all in its address: whatever is sent along is not read, and touches no other account.
    """
    await house.buy()
    await admin(house, "", {"account": "bob"})
    await deposit(house, "BTC", "1", "bob")
    assert 200 == (await admin(house, "/alice/reset", raw=body)).status
    assert START == totals(await house.account())
    assert "10001" == totals(await house.account(key="bob"))["BTC"]


@pytest.mark.parametrize("account", ["nobody", "NOBODY", "a:b", "desk:deposits", "-x", "x" * 33, "%00", "%FF"])
async def test_account_that_is_not_there_is_not_found(house, account):
    """
    Nobody funds or resets what was never opened, the ledger's own accounts least of all; what cannot be a name is not
    even logged.
    """
    for reply in (await deposit(house, "BTC", "1", account), await admin(house, f"/{account}/reset")):
        assert (404, "not_found") == (reply.status, reply.code)
    assert {"nobody" if account == "nobody" else None} == {line.get("for_account") for line in house.lines("request")}


@pytest.mark.parametrize(
    ("path", "body", "faults"),
    [
        ("", {}, [("/account", "missing_parameter")]),
        ("", {"account": "a", "balance": "1"}, [("/balance", "unknown_field")]),
        ("", {"account": 5}, [("/account", "invalid_parameter")]),
        ("", {"account": None}, [("/account", "invalid_parameter")]),
        ("", {"account": "Alice"}, [("/account", "invalid_parameter")]),
        ("", {"account": ""}, [("/account", "invalid_parameter")]),
        ("", {"account": "x" * 33}, [("/account", "invalid_parameter")]),
        ("", {"account": "desk:deposits"}, [("/account", "invalid_parameter")]),
        ("/alice/deposits", {}, [("/amount", "missing_parameter"), ("/asset", "missing_parameter")]),
        ("/alice/deposits", {"asset": "BTC", "amount": 1}, [("/amount", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "BTC", "amount": 1.5}, [("/amount", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "BTC", "amount": "-1"}, [("/amount", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "BTC", "amount": "0"}, [("/amount", "invalid_parameter")]),
        # What the ledger would have to cut is refused.
        ("/alice/deposits", {"asset": "BTC", "amount": "0.000000001"}, [("/amount", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "BTC", "amount": "1.123456789"}, [("/amount", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "btc", "amount": "1"}, [("/asset", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "BTC/USDT", "amount": "1"}, [("/asset", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "X" * 21, "amount": "1"}, [("/asset", "invalid_parameter")]),
        ("/alice/deposits", {"asset": ["BTC"], "amount": "1"}, [("/asset", "invalid_parameter")]),
        ("/alice/deposits", {"asset": "BTC", "amount": "1", "ref": "x"}, [("/ref", "unknown_field")]),
    ],
)
async def test_mistake_of_an_admin_is_named_and_moves_nothing(house, path, body, faults):
    """
    What is wrong with an admin's body is told by its place, and no account is touched.
    """
    await admin(house, "", {"account": "alice"})
    reply = await admin(house, path, body)
    assert (400, faults) == (reply.status, reply.faults)
    assert START == totals(await house.account())


async def test_account_routes_refuse_parameters(house):
    """
    Balances are shown whole: a parameter that would choose among them is refused.
    """
    for method, path, key in (("GET", "/v1/account", "all"), ("POST", "/v1/admin/accounts/alice/reset", "admin")):
        reply = await house.ask(method, f"{path}?asset=BTC", key=key)
        assert (400, [("asset", "unknown_parameter")]) == (reply.status, reply.faults)


async def test_line_of_an_admin_names_the_account_it_is_about(house):
    """
    Who has funded or reset whose account is in the log.
    """
    await admin(house, "", {"account": "carol"})
    await deposit(house, "BTC", "1", "carol")
    await admin(house, "/carol/reset")
    assert [("alice", "carol")] * 3 == [(line["account"], line["for_account"]) for line in house.lines("request")]
