"""Two processes on one PostgreSQL record: what one has taken, held or let go counts for the other."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest

from service.desk.firm import FirmStatus
from service.desk.orders import QuoteOrder
from service.ledger.postgres import PostgresLedger
from service.market.taken import PER_ACCOUNT
from tests.databases import new_database
from tests.service.desk.desk_room import BUY, PLENTY, Room, market, outcome, refused

TEN = """
    .   102   4
    .   101   6
    10   99   .
    """


@pytest.fixture
async def two_ledgers():
    with new_database() as url:
        both = [PostgresLedger.open(url, "simulated", PLENTY) for _ in range(2)]
        yield both
        for ledger in both:
            await ledger.close()


def rooms_of(clock, ledgers, **more):
    rooms = [Room(clock, ledger, fees_bps={"kraken": 0}, firm_venues_min=1, **more) for ledger in ledgers]
    for room in rooms:
        room.publish(kraken=TEN)
    return rooms


@pytest.fixture
def rooms(clock, two_ledgers):
    return rooms_of(clock, two_ledgers)


async def buys(room, quantity, client_order_id, **more):
    """What was filled, or why nothing was: "quantity @ price" best first."""
    answer = await room.execute(market(BUY, quantity), client_order_id, **more)
    if answer.reject_code is not None:
        return answer.reject_code
    return ", ".join(f"{fill['quantity']} @ {fill['price']}" for fill in orjson.loads(answer.receipt)["fills"])


async def test_sixty_takers_at_two_processes_are_ten_fills(rooms):
    """
    Six at 101 and four at 102, each once, at whichever process; fifty get nothing.
    """
    bought = await asyncio.gather(*(buys(rooms[n % 2], "1", f"a{n}", account=f"account{n % 5}") for n in range(60)))

    assert {"1 @ 101": 6, "1 @ 102": 4, "insufficient_liquidity": 50} == Counter(bought)


async def test_one_quote_and_forty_callers_at_two_processes_are_one_fill(rooms):
    """
    A quote is good once, wherever it was given and wherever it is used.
    """
    quote = rooms[0].quote("1")
    outcomes = await asyncio.gather(*(outcome(rooms[n % 2], quote, f"a{n}") for n in range(40)))

    assert {"filled": 1, "quote_used": 39} == Counter(outcomes)


async def test_equal_orders_at_two_processes_are_one_execution(rooms):
    """
    A retry that goes to the other process gets the first one's receipt.
    """
    answers = await asyncio.gather(*(rooms[n % 2].execute(market(BUY, "1")) for n in range(20)))

    assert 1 == len({answer.receipt for answer in answers})
    assert 1 == sum(not answer.replayed for answer in answers)
    assert {"USDT": ("999899", "0"), "BTC": ("1001", "0")} == await rooms[1].balances()


@pytest.mark.parametrize("releasing", [0, 1])
async def test_a_hold_is_a_hold_for_both_processes_until_it_is_let_go(rooms, releasing):
    """
    What one process promised the other does not sell; once released, at either, it is free for both.
    """
    here, there = rooms
    quote = await here.give(BUY, "10", ttl_ms=10_000)
    assert ["insufficient_liquidity"] * 2 == [await buys(room, "1", f"a{n}") for n, room in enumerate(rooms)]
    assert FirmStatus.RELEASED == (await rooms[releasing].firm.let_go("alice", quote.quote_id)).status

    assert "2 @ 101" == await buys(there, "2", "b")
    assert "4 @ 101, 1 @ 102" == await buys(here, "5", "c")


async def test_a_firm_quote_is_honoured_at_the_other_process_and_charged_once(rooms):
    """
    Given here and filled there: at its total, and the book has given it once, for both.
    """
    here, there = rooms
    quote = await here.give(BUY, "3", ttl_ms=10_000)
    there.publish(kraken=". 110 9\n9 109 .")
    answer = await there.execute(QuoteOrder(quote.quote_id))
    assert ("filled", "303") == (answer.status, orjson.loads(answer.receipt)["total"])
    assert "quote_used" == await outcome(here, quote, "b")

    assert "3 @ 101, 1 @ 102" == await buys(here, "4", "c")


async def test_what_is_over_is_not_remembered_for_ever(clock, two_ledgers, monkeypatch):
    """
    A process keeps the names of what others took only as long as it is charged.
    """
    monkeypatch.setattr("service.desk.floor.KEPT_MIN", 2)
    rooms = here, there = rooms_of(clock, two_ledgers)
    for n in range(8):
        assert "1 @ 101" == await buys(here, "1", f"a{n}")
        assert "1 @ 101" == await buys(there, "1", f"b{n}")
        clock.advance(3_600_000)
        for room in rooms:
            room.publish(kraken=TEN)
            assert "0 + 0" == room.taken()
            await room.ledger.keep_lots(room.floor.taken.changed())

    assert max(len(room.floor._on_record) for room in rooms) <= 3


async def test_per_account_counts_at_both_processes(clock, two_ledgers):
    """
    An account's own takings follow it from process to process, and nobody else's do.
    """
    here, there = rooms_of(clock, two_ledgers, taken=PER_ACCOUNT)

    assert "6 @ 101" == await buys(here, "6", "a")
    assert "4 @ 102" == await buys(there, "4", "b")
    assert "6 @ 101" == await buys(there, "6", "c", account="bob")


async def test_the_quotes_of_a_process_that_is_no_more_are_void_at_the_other(rooms):
    """
    When one process ends, however, the other one voids its open promises and frees what they held.
    """
    here, there = rooms
    quote, own = await here.give(BUY, "6", ttl_ms=10_000), await there.give(BUY, "1", ttl_ms=10_000)
    await here.ledger.close()
    await there.firm.tend()

    assert "quote_void" == await outcome(there, quote)
    assert "6 @ 101" == await buys(there, "6", "b")
    assert "filled" == await outcome(there, own, "c")
    assert {"0"} == {held for _, held in (await there.balances()).values()}
    assert "ledger_unavailable" == (await refused(here.execute(market(BUY, "1"), "d"))).code
