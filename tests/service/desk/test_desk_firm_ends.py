"""How firm quotes end: in time, on demand, with their process, and with everything released."""

from __future__ import annotations

import pytest

from service.desk.firm import FirmStatus
from service.desk.orders import QuoteOrder
from tests.service.desk.desk_room import (
    BUY,
    COINBASE,
    KRAKEN,
    PLENTY,
    SELL,
    Room,
    SlowByTheClock,
    market,
    order,
    outcome,
    refused,
)
from tests.service.shown import money

NOTHING_HELD = {"USDT": ("1000000", "0"), "BTC": ("1000", "0")}


@pytest.mark.parametrize(
    ("ttl_ms", "before_ms", "expected"),
    [
        (3_000, 200, "filled"),
        (3_000, 1, "filled"),
        (3_000, 0, "quote_expired"),
        (3_000, -50, "quote_expired"),
        (10_000, 200, "filled"),
        (10_000, -50, "quote_expired"),
        (None, 1, "filled"),
        (None, 0, "quote_expired"),
    ],
)
async def test_a_firm_quote_expires_at_its_millisecond(room, clock, ttl_ms, before_ms, expected):
    """
    200 ms before its end a firm quote is filled, 50 ms after it is not, and a late order is told a new price.
    """
    quote = await room.give(ttl_ms=ttl_ms)
    clock.advance((ttl_ms or 3_000) - before_ms)
    if expected == "filled":
        assert "filled" == await outcome(room, quote)
        return
    refusal = await refused(room.execute(QuoteOrder(quote.quote_id)))
    assert (expected, quote.request) == (refusal.code, refusal.context["fresh_quote"].request)
    assert () == await room.recorded()


@pytest.mark.parametrize(("waits_ms", "expected"), [(49, "filled"), (50, "quote_expired")])
async def test_a_firm_quotes_end_is_judged_when_it_is_claimed(room, clock, waits_ms, expected):
    """
    What counts is the moment of the claim, however early the order was sent.
    """
    quote = await room.give()
    clock.advance(2_950)
    slow = room.another_desk(SlowByTheClock(room.ledger, clock, waits_ms))
    if expected == "filled":
        assert "filled" == (await slow.execute(order(QuoteOrder(quote.quote_id)))).status
    else:
        assert expected == (await refused(slow.execute(order(QuoteOrder(quote.quote_id))))).code


async def test_an_expired_quotes_holds_are_released_by_themselves(room, clock):
    """
    Liquidity is free at the end of the quote's time, funds as soon as the desk has tended to it.
    """
    kept, over = await room.give(BUY, "1", ttl_ms=9_000), await room.give(SELL, "1")
    clock.advance(3_000)
    assert ("0 + 1", "0 + 0") == (room.taken(BUY), room.taken(SELL))
    assert FirmStatus.EXPIRED == (await room.firm.find("alice", over.quote_id)).status
    await room.firm.tend()

    assert {"USDT": ("1000000", "101.101"), "BTC": ("1000", "0")} == await room.balances()
    assert [kept.quote_id] == [one.quote_id for one in await room.ledger.open_firm_quotes()]
    assert FirmStatus.EXPIRED == (await room.ledger.firm_quote("alice", over.quote_id)).status
    assert "quote_expired" == await outcome(room, over)
    # There is nothing left to tend to.
    head = room.ledger.head
    await room.firm.tend()
    assert head == room.ledger.head


async def test_what_expired_is_available_to_the_very_next_order(clock, ledger):
    """
    Nobody has to wait for the desk to tend to an expired quote: not for the funds, not for another quote.
    """
    room = Room(clock, ledger)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    await room.bank.open("alice")
    await room.bank.deposit("alice", {"USDT": -PLENTY["USDT"] + money("102")})
    await room.give()
    assert "insufficient_balance" == (await room.execute(market(BUY, "1"), "a")).reject_code
    clock.advance(3_000)

    assert "filled" == (await room.execute(market(BUY, "1"), "b")).status
    assert () == tuple(await room.ledger.open_firm_quotes())
    assert {"USDT": ("0.899", "0"), "BTC": ("1001", "0")} == await room.balances()


async def test_a_quote_that_is_let_go_holds_nothing(room):
    """
    DELETE releases funds and liquidity at once; the quote cannot be filled any more, and stays released.
    """
    quote = await room.give()
    gone = await room.firm.let_go("alice", quote.quote_id)

    assert (FirmStatus.RELEASED, "0 + 0") == (gone.status, room.taken())
    assert NOTHING_HELD == await room.balances()
    assert "quote_void" == await outcome(room, quote)
    assert gone == await room.firm.let_go("alice", quote.quote_id) == await room.firm.find("alice", quote.quote_id)
    assert NOTHING_HELD == await room.balances()


async def test_letting_go_of_what_is_over_changes_nothing_of_it(room, clock):
    """
    An expired quote stays expired and a used one used; what else has expired meanwhile is released with it.
    """
    used, late = await room.give(quantity="0.1"), await room.give(quantity="0.1")
    await outcome(room, used)
    other = await room.give(SELL, "0.1")
    clock.advance(3_000)

    assert FirmStatus.USED == (await room.firm.let_go("alice", used.quote_id)).status
    assert {"0"} == {held for _, held in (await room.balances()).values()}
    assert FirmStatus.EXPIRED == (await room.firm.let_go("alice", late.quote_id)).status
    third = await room.give(SELL, "0.1")
    clock.advance(3_000)
    assert FirmStatus.EXPIRED == (await room.firm.let_go("alice", third.quote_id)).status
    assert FirmStatus.EXPIRED == (await room.firm.find("alice", other.quote_id)).status
    assert {"0"} == {held for _, held in (await room.balances()).values()}


async def test_of_two_hundred_expiries_none_is_filled_late_and_nothing_stays_held(clock, ledger):
    """
    Whatever the moment of its order, a firm quote is filled before its end and never after it.
    """
    room = Room(clock, ledger, firm_open_max=1_000)
    for n in range(200):
        room.publish(kraken=KRAKEN, coinbase=COINBASE)
        quote = await room.give(BUY if n % 2 else SELL, "0.001")
        clock.advance(2_800 if n % 4 == 0 else 3_050)
        assert ("filled" if n % 4 == 0 else "quote_expired") == await outcome(room, quote, f"a{n}")
    await room.firm.tend()

    assert {"0"} == {held for _, held in (await room.balances()).values()}
    assert () == tuple(await room.ledger.open_firm_quotes())
    assert room.taken(BUY).endswith("+ 0")
    assert room.taken(SELL).endswith("+ 0")


async def test_a_restart_voids_what_was_open(clock, ledger, tmp_path):
    """
    The promises of a process end with it: none is filled, nothing is held, all liquidity is free.
    """
    room = Room(clock, ledger)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    quotes = [await room.give(BUY if n % 2 else SELL, "0.1", ttl_ms=10_000) for n in range(19)]
    over = await room.give(BUY, "0.1", ttl_ms=1)
    clock.advance(1)
    await room.restart(tmp_path / "ledger.db")
    try:
        assert ["quote_void"] * 19 == [await outcome(room, quote, f"a{n}") for n, quote in enumerate(quotes)]
        assert "quote_expired" == await outcome(room, over)
        assert NOTHING_HELD == await room.balances()
        assert ("0 + 0", "0 + 0") == (room.taken(BUY), room.taken(SELL))
        assert {FirmStatus.VOID} == {(await room.firm.find("alice", one.quote_id)).status for one in quotes}
        assert "open" == (await room.give(ttl_ms=10_000)).status
    finally:
        await room.ledger.close()


async def test_a_used_quote_is_used_after_a_restart_too(clock, ledger, tmp_path):
    """
    What was filled before is not void, and its liquidity stays taken.
    """
    room = Room(clock, ledger)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    quote = await room.give()
    first = await room.execute(QuoteOrder(quote.quote_id))
    await room.restart(tmp_path / "ledger.db")
    try:
        assert "quote_used" == await outcome(room, quote, "b")
        assert first.receipt == (await room.execute(QuoteOrder(quote.quote_id))).receipt
        assert "1 + 0" == room.taken()
    finally:
        await room.ledger.close()


async def test_a_quote_that_had_expired_before_a_reset_is_expired_after_it(room, clock):
    """
    A reset makes nothing void that was over by itself.
    """
    late, let_go = await room.give(BUY, "0.5"), await room.give(BUY, "0.5", ttl_ms=10_000)
    clock.advance(3_000)
    await room.bank.reset("alice")

    assert ["quote_expired", "quote_void"] == [await outcome(room, quote) for quote in (late, let_go)]
    assert NOTHING_HELD == await room.balances()


async def test_a_reset_account_has_no_open_quotes(room):
    """
    A reset lets go of everything: balances are the starting ones, and what was promised is void.
    """
    bought, sold = await room.give(BUY, "1"), await room.give(SELL, "1")
    await room.execute(market(BUY, "1"))
    await room.bank.reset("alice")

    assert NOTHING_HELD == await room.balances()
    assert ("1 + 0", "0 + 0") == (room.taken(BUY), room.taken(SELL))
    assert ["quote_void"] * 2 == [await outcome(room, quote, "b") for quote in (bought, sold)]
    assert {} == {
        symbol: position for symbol, position in (await room.bank.holdings("alice")).positions.items() if any(position)
    }
