"""Taken liquidity as orders meet it: nobody gets twice what the venues show once."""

from __future__ import annotations

import asyncio
from collections import Counter

import orjson
import pytest

from service.accounting import price_text
from service.desk.orders import QuoteOrder
from service.errors import OutcomeUnknown, Unavailable
from service.market.taken import OFF, PER_ACCOUNT
from tests.service.desk.desk_room import (
    BUY,
    IOC,
    SELL,
    Room,
    Wrapped,
    market,
    order,
    outcome,
    refused,
)

DEPTH = """
    .   103  10
    .   101  10
    10   99   .
    """
TEN = """
    .   102   4
    .   101   6
    10   99   .
    """


def room_of(clock, ledger, ladder=DEPTH, **more):
    room = Room(clock, ledger, fees_bps={"kraken": 0}, firm_venues_min=1, **more)
    room.publish(kraken=ladder)
    return room


@pytest.fixture
def room(clock, ledger):
    return room_of(clock, ledger)


def fills(answer):
    """What was filled, or why nothing was: "quantity @ price" best first."""
    if answer.reject_code is not None:
        return answer.reject_code
    return ", ".join(f"{fill['quantity']} @ {fill['price']}" for fill in orjson.loads(answer.receipt)["fills"])


async def buys(room, quantity, client_order_id, **more):
    return fills(await room.execute(market(BUY, quantity), client_order_id, **more))


# Charged


async def test_the_second_of_two_orders_for_most_of_a_level_pays_more(room):
    """
    What the first has taken is gone for the second, whoever sends it; only the other side of the book is as it was.
    """
    assert "6 @ 101" == await buys(room, "6", "a")
    assert "4 @ 101, 2 @ 103" == await buys(room, "6", "b", account="bob")
    assert "10 @ 99" == fills(await room.execute(market(SELL, "10"), "c"))
    assert ("12 + 0", "10 + 0") == (room.taken(BUY), room.taken(SELL))


async def test_or_gets_nothing_where_there_is_no_more(clock, ledger):
    """
    Where the level is all there is the second order is refused for want of liquidity, or gets the rest of it.
    """
    room = room_of(clock, ledger, ". 101 10\n1 99 .")

    assert "6 @ 101" == await buys(room, "6", "a")
    assert "insufficient_liquidity" == await buys(room, "6", "b")
    assert "4 @ 101" == fills(await room.execute(market(BUY, "6", IOC), "c"))
    assert "insufficient_liquidity" == fills(await room.execute(market(BUY, "6", IOC), "d"))
    assert "10 + 0" == room.taken()


async def test_quotes_are_of_what_is_left_and_say_what_is_taken(room):
    """
    A quote leaves out what was taken before, and discloses it.
    """
    await room.execute(market(BUY, "6"))
    quote = room.quote("6")
    priced = quote.sides[BUY]

    assert ["4", "2"] == [price_text(fill.quantity) for fill in priced.fills]
    assert "6" == price_text(priced.book.side(BUY).taken)
    assert "filled" == await outcome(room, quote, "b")


async def test_a_quote_that_others_have_taken_from_has_moved(room):
    """
    An indicative quote holds nothing: what somebody else took first makes it dearer.
    """
    quote = room.quote("6")
    await room.execute(market(BUY, "6"), "a", account="bob")

    assert "price_moved" == await outcome(room, quote, "b")
    assert "6 + 0" == room.taken()


# Explained


@pytest.mark.parametrize(
    ("ladder", "expected"),
    [
        # The venue shows 6 less, as if it had been taken there: charged once.
        (". 103 10\n. 101 4\n10 99 .", "4 @ 101, 1 @ 103"),
        # Half of it is explained, half still charged.
        (". 103 10\n. 101 7\n10 99 .", "4 @ 101, 1 @ 103"),
        # Gone and come back within one message: all of the level has been replaced.
        (". 103 10\n10 99 .", "5 @ 103"),
        # The same again explains nothing, and more than before is simply more.
        (". 103 10\n. 101 10\n10 99 .", "4 @ 101, 1 @ 103"),
        (". 103 10\n. 101 11\n10 99 .", "5 @ 101"),
        # A better price has nothing to do with it.
        (". 103 10\n. 101 10\n. 100.5 1\n10 99 .", "1 @ 100.5, 4 @ 101"),
    ],
)
async def test_what_the_venue_explains_is_charged_once(room, ladder, expected):
    """
    Of ten at 101 six are taken: four are left, whether the venue still shows ten or only four.
    """
    await room.execute(market(BUY, "6"), "a")
    room.publish(kraken=ladder)

    assert expected == await buys(room, "5", "b")


async def test_a_level_that_came_back_is_new(room):
    """
    When the level was gone and is there again nothing of it is taken any more.
    """
    await room.execute(market(BUY, "6"), "a")
    room.publish(kraken=". 103 10\n10 99 .")
    room.publish(kraken=DEPTH)

    assert "10 @ 101" == await buys(room, "10", "b")


# Given back


async def test_nothing_comes_back_before_the_half_life_and_half_right_after(room, clock):
    """
    Thirty seconds all of it is missing, however often the venue shows its book; then half of it, then a quarter.
    """
    await room.execute(market(BUY, "8"), "a")
    for after_ms, expected in ((29_999, "8 + 0"), (1, "4 + 0"), (29_999, "4 + 0"), (1, "2 + 0"), (30_000, "1 + 0")):
        clock.advance(after_ms)
        room.publish(kraken=DEPTH)
        assert expected == room.taken()

    assert "9 @ 101, 1 @ 103" == await buys(room, "10", "b")


async def test_a_half_life_of_nothing_gives_all_back_at_once_but_holds_hold(clock, ledger):
    """
    With a half-life of 0 fills take nothing, and a firm quote still holds what it promises.
    """
    room = room_of(clock, ledger, half_life_ms=0)
    assert ["10 @ 101", "10 @ 101"] == [await buys(room, "10", name) for name in "ab"]
    await room.give(BUY, "6")

    assert "4 @ 101, 1 @ 103" == await buys(room, "5", "c")


# At once


async def test_sixty_takers_of_one_on_a_depth_of_ten_are_ten_fills(clock, ledger):
    """
    Six at 101 and four at 102, each once, whoever comes first; fifty get nothing.
    """
    room = room_of(clock, ledger, TEN)
    answers = await asyncio.gather(
        *(room.execute(market(BUY, "1"), f"a{n}", account=f"account{n % 7}") for n in range(60))
    )

    assert {"1 @ 101": 6, "1 @ 102": 4, "insufficient_liquidity": 50} == Counter(map(fills, answers))
    assert "10 + 0" == room.taken()


async def test_sixty_takers_in_batches_of_the_record_are_ten_fills_too(clock, ledger, monkeypatch):
    """
    It makes no difference how many orders share a transaction.
    """
    monkeypatch.setattr("service.ledger.sql.BATCH_MAX", 7)
    room = room_of(clock, ledger, TEN)
    answers = await asyncio.gather(*(room.execute(market(BUY, "1"), f"a{n}") for n in range(60)))

    assert {"1 @ 101": 6, "1 @ 102": 4, "insufficient_liquidity": 50} == Counter(map(fills, answers))


async def test_sixty_quotes_at_the_best_price_are_six_fills(clock, ledger):
    """
    Everyone was quoted the best price; who comes after it was taken is told that the price moved.
    """
    room = room_of(clock, ledger, TEN)
    quotes = [room.quote("1") for _ in range(60)]
    outcomes = await asyncio.gather(*(outcome(room, quote, f"a{n}") for n, quote in enumerate(quotes)))

    assert {"filled": 6, "price_moved": 54} == Counter(outcomes)


async def test_firm_quotes_at_once_hold_no_more_than_there_is(clock, ledger):
    """
    Ten promises of one on a depth of ten, and each of them is kept.
    """
    room = room_of(clock, ledger, TEN, firm_open_max=100)
    given = await asyncio.gather(*(room.give(BUY, "1") for _ in range(30)), return_exceptions=True)
    quotes = [one for one in given if not isinstance(one, Exception)]
    assert ["insufficient_liquidity"] * 20 == [one.code for one in given if isinstance(one, Exception)]
    assert "insufficient_liquidity" == await buys(room, "1", "x")
    outcomes = await asyncio.gather(*(outcome(room, quote, f"a{n}") for n, quote in enumerate(quotes)))

    assert ["filled"] * 10 == outcomes
    assert "10 + 0" == room.taken()


async def test_one_quote_and_forty_callers_are_one_fill_and_one_taking(room):
    """
    One gets it, thirty-nine are told the same, and the book has given once.
    """
    quote = room.quote("1")
    outcomes = await asyncio.gather(*(outcome(room, quote, f"a{n}") for n in range(40)))

    assert {"filled": 1, "quote_used": 39} == Counter(outcomes)
    assert "1 + 0" == room.taken()


# On record


async def test_takings_survive_the_process(clock, ledger, tmp_path):
    """
    After a restart the same is missing, explained in part as it was, and comes back at the same moment.
    """
    room = room_of(clock, ledger)
    await room.execute(market(BUY, "8"), "a")
    clock.advance(10_000)
    room.publish(kraken=". 103 10\n. 101 8\n10 99 .")
    assert "6 + 0" == room.taken()
    await room.restart(tmp_path / "ledger.db")
    try:
        assert "6 + 0" == room.taken()
        assert "2 @ 101, 1 @ 103" == await buys(room, "3", "b")
        clock.advance(19_999)
        assert "9 + 0" == room.taken()
        clock.advance(1)
        assert "6 + 0" == room.taken()
    finally:
        await room.ledger.close()


async def test_what_shrank_while_the_service_was_down_is_explained_when_it_is_back(clock, ledger, tmp_path):
    """
    What the venue showed at the fill is on record: its first book after a restart explains what is missing since.
    """
    room = room_of(clock, ledger)
    await room.execute(market(BUY, "6"), "a")
    room.shown["kraken"] = ". 103 10\n. 101 4\n10 99 ."
    await room.restart(tmp_path / "ledger.db")
    try:
        assert "0 + 0" == room.taken()
        assert "4 @ 101, 1 @ 103" == await buys(room, "5", "b")
    finally:
        await room.ledger.close()


async def test_what_was_explained_before_a_restart_is_not_explained_again_after_it(clock, ledger, tmp_path):
    """
    Where a shrinking level explained the first of two takings, the same book explains nothing of the second one.
    """
    room = room_of(clock, ledger)
    await room.execute(market(BUY, "3"), "a")
    await room.execute(market(BUY, "3"), "b")
    room.publish(kraken=". 103 10\n. 101 7\n10 99 .")
    assert "3 + 0" == room.taken()
    await room.restart(tmp_path / "ledger.db")
    try:
        assert "3 + 0" == room.taken()
        assert "4 @ 101, 1 @ 103" == await buys(room, "5", "c")
    finally:
        await room.ledger.close()


async def test_what_is_over_stays_over_after_a_restart(clock, ledger, tmp_path):
    """
    What was wholly explained before is not charged again.
    """
    room = room_of(clock, ledger)
    await room.execute(market(BUY, "6"), "a")
    room.publish(kraken=". 103 10\n. 101 4\n10 99 .")
    room.publish(kraken=DEPTH)
    await room.restart(tmp_path / "ledger.db")
    try:
        assert "10 @ 101" == await buys(room, "10", "b")
    finally:
        await room.ledger.close()


class FailsToCommit(Wrapped):
    """A ledger that breaks after the decision: nothing of it is on record."""

    failing = True
    error = Unavailable("ledger_unavailable", "broken")

    async def transact(self, claim, decide):
        def decide_and_break(state):
            result, changes = decide(state)
            if self.failing:
                raise self.error
            return result, changes

        return await self._ledger.transact(claim, decide_and_break)


async def test_an_order_that_could_not_be_recorded_gives_its_liquidity_back(room, clock):
    """
    What was decided and not written has taken nothing, and the same order is filled when the record is back.
    """
    broken = FailsToCommit(room.ledger)
    room.sit_down(broken)
    room.publish(kraken=DEPTH)

    assert "ledger_unavailable" == (await refused(room.execute(market(BUY, "6")))).code
    assert ("0 + 0", ()) == (room.taken(), await room.recorded())
    broken.failing = False
    assert "6 @ 101" == await buys(room, "6", "a")
    assert "6 + 0" == room.taken()


async def test_a_firm_quote_that_could_not_be_recorded_is_as_it_was(room):
    """
    Neither a hold that failed, nor a fill or an end that failed, has changed what is held.
    """
    broken = FailsToCommit(room.ledger)
    room.sit_down(broken)
    room.publish(kraken=DEPTH)
    assert "ledger_unavailable" == (await refused(room.give(BUY, "6"))).code
    assert "0 + 0" == room.taken()
    broken.failing = False
    quote = await room.give(BUY, "6")
    broken.failing = True
    for failed in (room.execute(QuoteOrder(quote.quote_id)), room.firm.let_go("alice", quote.quote_id)):
        assert "ledger_unavailable" == (await refused(failed)).code
        assert "0 + 6" == room.taken()

    broken.failing = False
    assert "filled" == await outcome(room, quote)
    assert "6 + 0" == room.taken()


async def test_what_may_be_on_record_stays_taken(room):
    """
    Where nobody knows whether the fill was written its liquidity counts as taken: too little is better than twice.
    """
    broken = FailsToCommit(room.ledger)
    broken.error = OutcomeUnknown("outcome_unknown", "who knows")
    room.sit_down(broken)
    room.publish(kraken=DEPTH)

    assert "outcome_unknown" == (await refused(room.execute(market(BUY, "6")))).code
    assert "6 + 0" == room.taken()


async def test_a_client_that_hangs_up_in_the_middle_changes_nothing(room):
    """
    An order that the record has taken on is recorded though nobody waits, and charged once.
    """
    decided = asyncio.Event()

    class TellsOfDecisions(Wrapped):
        async def transact(self, claim, decide):
            def decide_and_tell(state):
                decided.set()
                return decide(state)

            return await self._ledger.transact(claim, decide_and_tell)

    room.sit_down(TellsOfDecisions(room.ledger))
    room.publish(kraken=DEPTH)
    first = asyncio.ensure_future(room.execute(market(BUY, "6"), "a"))
    await decided.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    again = await room.execute(market(BUY, "6"), "a")
    assert ("6 @ 101", True) == (fills(again), again.replayed)
    assert "6 + 0" == room.taken()
    assert 1 == len(await room.recorded())


# Modes


async def test_per_account_everyone_has_a_book_of_their_own(clock, ledger, tmp_path):
    """
    What one account took is missing for that one only, after a restart too.
    """
    room = room_of(clock, ledger, taken=PER_ACCOUNT)
    assert "6 @ 101" == await buys(room, "6", "a")
    await room.give(BUY, "3", account="bob")
    assert ("6 + 0", "0 + 3", "0 + 0") == tuple(room.taken(account=name) for name in ("alice", "bob", "eve"))
    assert "4 @ 101, 2 @ 103" == await buys(room, "6", "b")
    assert "6 @ 101" == await buys(room, "6", "c", account="eve")
    await room.restart(tmp_path / "ledger.db")
    try:
        assert ("12 + 0", "0 + 0", "6 + 0") == tuple(room.taken(account=name) for name in ("alice", "bob", "eve"))
    finally:
        await room.ledger.close()


async def test_switched_off_nothing_is_ever_taken(clock, ledger):
    """
    Everyone gets the whole book again and again, and a firm quote keeps its price without holding the book.
    """
    room = room_of(clock, ledger, taken=OFF)
    quote = await room.give(BUY, "10")
    assert ["10 @ 101"] * 3 == [await buys(room, "10", name) for name in "abc"]
    assert "0 + 0" == room.taken()
    assert "10 @ 101" == fills(await room.desk.execute(order(QuoteOrder(quote.quote_id), "d")))
