"""What an account cannot pay for, and what its limits do not allow: refused on record, for good."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest

from service.desk.accounts import RiskLimits
from service.desk.orders import QuoteOrder
from tests.service.desk.desk_room import (
    BUY,
    COINBASE,
    IOC,
    KRAKEN,
    SELL,
    Room,
    market,
    order,
    outcome,
    refused,
)
from tests.service.shown import money

HALF_A_DAY_MS = 12 * 3_600_000
STOPPED = RiskLimits(trading_enabled=False)


def room_of(clock, ledger, **more):
    room = Room(clock, ledger, **more)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    return room


async def poor(room, usdt="0", btc="0", account="alice"):
    """Leave an account with so much."""
    await room.bank.open(account)
    await room.bank.deposit(account, {"USDT": money(usdt) - money(1_000_000), "BTC": money(btc) - money(1_000)})


# What the account has


@pytest.mark.parametrize(
    ("usdt", "btc", "terms", "code"),
    [
        ("101.101", "0", market(BUY, "1"), None),
        # The fee is part of what has to be there.
        ("101.10099999", "0", market(BUY, "1"), "insufficient_balance"),
        ("101", "0", market(BUY, "1"), "insufficient_balance"),
        ("0", "1", market(SELL, "1"), None),
        ("0", "0.99999999", market(SELL, "1"), "insufficient_balance"),
        ("1000", "0", market(SELL, "0.5"), "insufficient_balance"),
        ("409.615", "0", market(BUY, "5", IOC), None),
        ("409.61499999", "0", market(BUY, "5", IOC), "insufficient_balance"),
        ("101.101", "0", market(BUY, total="101.101"), None),
        ("101.1", "0", market(BUY, total="101.101"), "insufficient_balance"),
        # What the market does not allow is said before what the account cannot pay.
        ("0", "0", market(BUY, "5"), "insufficient_liquidity"),
        ("0", "0", market(BUY, "2", limit_price="101"), "limit_not_met"),
    ],
)
async def test_an_order_needs_its_total_and_a_sale_its_quantity(room, usdt, btc, terms, code):
    """
    An account spends what it has, to the last digit, and not one digit more.
    """
    await poor(room, usdt, btc)
    before = await room.balances()
    answer = await room.execute(terms)

    assert code == answer.reject_code
    if code is not None:
        assert before == await room.balances()
        assert ("0 + 0", "0 + 0") == (room.taken(BUY), room.taken(SELL))
        body = orjson.loads(answer.receipt)
        assert ("rejected", code, "0", [], {}) == tuple(
            body[name] for name in ("status", "reject_code", "filled_quantity", "fills", "balances")
        )


async def test_what_cannot_be_paid_stays_refused_though_the_money_comes(room):
    """
    A refusal is the outcome of its id for ever; the next id is judged by what there is then.
    """
    await poor(room, "100")
    first = await room.execute(market(BUY, "1"))
    await room.bank.deposit("alice", {"USDT": money(5)})
    again = await room.execute(market(BUY, "1"))

    assert ("insufficient_balance", False) == (first.reject_code, first.replayed)
    assert ("rejected", "insufficient_balance", first.execution_id, first.receipt, True) == (
        again.status, again.reject_code, again.execution_id, again.receipt, again.replayed,
    )  # fmt: skip
    assert [first.execution_id] == [one.execution_id for one in await room.recorded()]
    assert "filled" == (await room.execute(market(BUY, "1"), "b")).status


async def test_a_quote_that_cannot_be_paid_is_not_used_up(room):
    """
    An order on a quote that the account cannot pay is refused with a fresh quote, and the quote is still good.
    """
    await poor(room, "100")
    quote = room.quote()
    answer = await room.execute(QuoteOrder(quote.quote_id))
    assert ("insufficient_balance", quote.request) == (answer.reject_code, answer.fresh_quote.request)

    await room.bank.deposit("alice", {"USDT": money(5)})
    assert "filled" == await outcome(room, quote, "b")


async def test_orders_at_once_do_not_spend_the_same_money(room):
    """
    Twenty orders race for the money of three: three are filled and nothing is overdrawn.
    """
    await poor(room, "31")
    answers = await asyncio.gather(*(room.execute(market(BUY, "0.1"), f"a{n}") for n in range(20)))

    assert ["filled"] * 3 + ["insufficient_balance"] * 17 == sorted(one.reject_code or one.status for one in answers)
    assert {"USDT": ("0.6697", "0"), "BTC": ("0.3", "0")} == await room.balances()


async def test_what_was_received_can_be_spent_at_once(room):
    """
    The money of a sale is there for the next order, and so are the coins of a purchase.
    """
    await poor(room, "0", "1")

    assert "filled" == (await room.execute(market(SELL, "1"), "a")).status
    assert "filled" == (await room.execute(market(BUY, "0.97"), "b")).status
    assert "filled" == (await room.execute(market(SELL, "0.97"), "c")).status
    assert {"USDT": ("95.79797", "0"), "BTC": ("0", "0")} == await room.balances()


async def test_accounts_do_not_share(room):
    """
    One account's poverty is not another's.
    """
    await poor(room)

    assert "insufficient_balance" == (await room.execute(market(BUY, "1"))).reject_code
    assert "filled" == (await room.execute(market(BUY, "1"), account="bob")).status


# Limits


@pytest.mark.parametrize(
    ("limits", "before", "terms", "code"),
    [
        (RiskLimits(), [], market(BUY, "4"), None),
        (STOPPED, [], market(BUY, "0.1"), "risk_limit"),
        (STOPPED, [], market(SELL, "0.1"), "risk_limit"),
        # Price x quantity, without fees.
        (RiskLimits(order_notional_max=money(101)), [], market(BUY, "1"), None),
        (RiskLimits(order_notional_max=money("100.99999999")), [], market(BUY, "1"), "risk_limit"),
        # What is filled counts, not what is asked for.
        (RiskLimits(order_notional_max=money(409)), [], market(BUY, "9", IOC), None),
        (RiskLimits(order_notional_max=money("408.99999999")), [], market(BUY, "9", IOC), "risk_limit"),
        (RiskLimits(daily_notional_max=money(200)), [market(BUY, "1")], market(SELL, "1"), None),
        (RiskLimits(daily_notional_max=money("199.99999999")), [market(BUY, "1")], market(SELL, "1"), "risk_limit"),
        # A refused order is not turned over.
        (RiskLimits(daily_notional_max=money(200)), [market(BUY, "9"), market(BUY, "3")], market(BUY, "1"), None),
        (RiskLimits(position_max={"BTC": money(2)}), [market(BUY, "1")], market(BUY, "1"), None),
        (RiskLimits(position_max={"BTC": money(2)}), [market(BUY, "1")], market(BUY, "1.00000001"), "risk_limit"),
        (RiskLimits(position_max={"BTC": money(2)}), [market(BUY, "1")], market(SELL, "3"), None),
        (RiskLimits(position_max={"BTC": money(2)}), [market(BUY, "1")], market(SELL, "3.1"), "risk_limit"),
        (RiskLimits(position_max={"ETH": money(2)}), [], market(BUY, "3"), None),
        # What there is not, is said before what is not allowed.
        (STOPPED, [], market(BUY, "5"), "insufficient_liquidity"),
    ],
)
async def test_limits_of_risk_refuse_what_passes_them(clock, ledger, limits, before, terms, code):
    """
    A limit may be reached and not passed; what it refuses is on record, takes nothing and moves nothing.
    """
    room = room_of(clock, ledger, risk=limits)
    for n, one in enumerate(before):
        await room.execute(one, f"before{n}")
    balances, taken = await room.balances(), (room.taken(BUY), room.taken(SELL))
    answer = await room.execute(terms)

    assert code == answer.reject_code
    if code is not None:
        assert (balances, taken) == (await room.balances(), (room.taken(BUY), room.taken(SELL)))
        assert answer.receipt == (await room.ledger.find_execution("alice", answer.execution_id)).receipt


async def test_the_balance_comes_before_the_limits(clock, ledger):
    """
    An order that can neither be paid nor is allowed is refused for the money.
    """
    room = room_of(clock, ledger, risk=STOPPED)
    await poor(room)

    assert "insufficient_balance" == (await room.execute(market(BUY, "1"))).reject_code


async def test_a_limit_that_is_lifted_leaves_what_was_refused_refused(room):
    """
    The same id gets the same refusal when trading is on again; a new one is filled.
    """
    stopped = room.another_desk(rules=replace(room.rules, risk=STOPPED))
    first = await stopped.execute(order(market(BUY, "1")))
    again = await room.execute(market(BUY, "1"))

    assert ("rejected", "risk_limit") == (first.status, first.reject_code)
    assert ("risk_limit", first.execution_id, first.receipt, True) == (
        again.reject_code, again.execution_id, again.receipt, again.replayed,
    )  # fmt: skip
    assert "filled" == (await room.execute(market(BUY, "1"), "b")).status


async def test_a_days_notional_ends_with_the_day(clock, ledger):
    """
    What was turned over until midnight (UTC) does not count after it, and what is turned over then does.
    """
    room = room_of(clock, ledger, risk=RiskLimits(daily_notional_max=money(150)))
    assert "filled" == (await room.execute(market(BUY, "1"), "a")).status
    clock.advance(HALF_A_DAY_MS - 1)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    assert "risk_limit" == (await room.execute(market(BUY, "1"), "b")).reject_code
    clock.advance(1)

    assert "filled" == (await room.execute(market(BUY, "1"), "c")).status
    assert "risk_limit" == (await room.execute(market(SELL, "1"), "d")).reject_code
    assert {"USDT": money(101)} == (await room.bank.holdings("alice")).turnover


async def test_orders_at_once_do_not_pass_a_limit_together(clock, ledger):
    """
    Twenty orders race for room for three.
    """
    room = room_of(clock, ledger, risk=RiskLimits(position_max={"BTC": money("0.3")}))
    answers = await asyncio.gather(*(room.execute(market(BUY, "0.1"), f"a{n}") for n in range(20)))

    assert ["filled"] * 3 + ["risk_limit"] * 17 == sorted(one.reject_code or one.status for one in answers)


async def test_a_firm_quote_is_held_to_the_limits_when_it_is_given(clock, ledger):
    """
    What an order could not have is not promised either.
    """
    room = room_of(clock, ledger, risk=RiskLimits(order_notional_max=money(100)))

    assert "risk_limit" == (await refused(room.give(BUY, "1"))).code
    assert "0 + 0" == room.taken()
    assert "filled" == await outcome(room, await room.give(BUY, "0.9"))


# Dry runs


@pytest.mark.parametrize(
    ("limits", "terms", "code"),
    [
        (RiskLimits(), market(BUY, "1"), None),
        (RiskLimits(), market(BUY, "2"), "insufficient_balance"),
        (RiskLimits(order_notional_max=money(50)), market(BUY, "1"), "risk_limit"),
        (STOPPED, market(BUY, "1"), "risk_limit"),
    ],
)
async def test_a_dry_run_says_it_and_records_and_takes_nothing(clock, ledger, limits, terms, code):
    """
    A dry run is judged like the order itself, and leaves no trace in record, book or balances.
    """
    room = room_of(clock, ledger, risk=limits)
    await poor(room, "102")
    before, head = await room.balances(), room.ledger.head
    for _ in range(2):
        answer = await room.execute(terms, dry_run=True)
        assert (code, None, False) == (answer.reject_code, answer.execution_id, answer.replayed)

    assert (before, head, ()) == (await room.balances(), room.ledger.head, await room.recorded())
    assert ("0 + 0", "0 + 0") == (room.taken(BUY), room.taken(SELL))
    assert code == (await room.execute(terms)).reject_code


async def test_a_dry_run_of_an_account_that_never_was_does_not_open_it(room):
    """
    A dry run is judged by the starting balances, and the account is no more there than before.
    """
    answer = await room.execute(market(BUY, "1"), account="eve", dry_run=True)

    assert "999898.899" == orjson.loads(answer.receipt)["balances"]["USDT"]["after"]
    assert None is await room.ledger.holdings("eve", room.clock.utc())


@pytest.mark.parametrize(
    "risk", [RiskLimits(daily_notional_max=money(250)), RiskLimits(position_max={"BTC": money("1.5")})]
)
async def test_open_firm_quotes_count_together_against_a_limit(clock, ledger, risk):
    """
    Quotes that are each within a limit do not pass it together once they are filled; what is let go counts no more.
    """
    room = room_of(clock, ledger, risk=risk)
    first = await room.give(quantity="1")

    assert "risk_limit" == (await refused(room.give(quantity="1.5"))).code

    await room.firm.let_go("alice", first.quote_id)
    assert (await room.give(quantity="1.5")).open
