"""Orders without a quote, repeats, and what a desk does without a market."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchanges.book import Side
from service.accounting import money_text, plain, price_text, rate
from service.desk import desk as desk_module
from service.desk.orders import QuoteOrder
from service.errors import Fault, RequestError, Unavailable
from service.market.taken import OFF
from tests.conftest import HeldClock
from tests.service.desk.desk_room import (
    BUY,
    BUY_ONE,
    COINBASE,
    IOC,
    KRAKEN,
    LOWER,
    SELL,
    STALE_AFTER_MS,
    Room,
    Wrapped,
    market,
    order,
    refused,
)
from tests.service.shown import ask


class SlowToRecord(Wrapped):
    """A ledger that takes an order on when it is told to go on."""

    def __init__(self, ledger):
        super().__init__(ledger)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def transact(self, claim, decide):
        if claim.client_order_id is not None:
            self.asked.set()
            await self.go_on.wait()
        return await self._ledger.transact(claim, decide)


@pytest.fixture
def room(clock, ledger):
    """What one order takes is not missing for the next: that has tests of its own."""
    room = Room(clock, ledger, taken=OFF)
    room.publish(coinbase=COINBASE, kraken=KRAKEN)
    return room


# Orders without a quote


@pytest.mark.parametrize(
    ("terms", "status", "code", "filled", "total"),
    [
        (market(BUY, "1"), "filled", None, "1", "101.101"),
        (market(SELL, "1"), "filled", None, "1", "98.901"),
        (market(BUY, "4"), "filled", None, "4", "409.615"),
        (market(BUY, "5"), "rejected", "insufficient_liquidity", "0", "0"),
        (market(BUY, "5", IOC), "partially_filled", None, "4", "409.615"),
        (market(BUY, "2", limit_price="101"), "rejected", "limit_not_met", "0", "0"),
        (market(BUY, "2", IOC, limit_price="101"), "partially_filled", None, "1", "101.101"),
        (market(BUY, "2", IOC, limit_price="100"), "rejected", "limit_not_met", "0", "0"),
        (market(BUY, "2", slippage_bps_max="149"), "rejected", "slippage_exceeded", "0", "0"),
        (market(BUY, "2", slippage_bps_max="150"), "filled", None, "2", "203.203"),
        (market(BUY, "2", IOC, slippage_bps_max="100"), "partially_filled", None, "1", "101.101"),
        (market(BUY, "2", IOC, slippage_bps_max="99"), "rejected", "slippage_exceeded", "0", "0"),
        (market(SELL, "2", limit_price="98"), "filled", None, "2", "196.803"),
        # For a total: the largest quantity that comes to no more, to the eighth decimal.
        (market(BUY, total="101.101"), "filled", None, "1", "101.101"),
        (market(BUY, total="120"), "filled", None, "1.18509921", "119.99999954"),
        (market(SELL, total="98.901"), "filled", None, "1", "98.901"),
        (market(BUY, total="9999"), "rejected", "insufficient_liquidity", "0", "0"),
        (market(BUY, None, IOC, total="9999"), "partially_filled", None, "4", "409.615"),
        (market(BUY, total="9999", limit_price="101"), "rejected", "limit_not_met", "0", "0"),
        (market(BUY, total="9999", slippage_bps_max="100"), "rejected", "slippage_exceeded", "0", "0"),
    ],
)
async def test_orders_fill_or_are_refused_on_record(room, terms, status, code, filled, total):
    """
    FOK is all or nothing, IOC what can be had within limit and bound; every outcome is on record and repeatable.
    """
    answer = await room.execute(terms)
    body = orjson.loads(answer.receipt)

    assert (status, code) == (answer.status, answer.reject_code)
    assert (status, code, filled, total) == (
        body["status"], body["reject_code"], body["filled_quantity"], body["total"],
    )  # fmt: skip
    if terms.ask.quantity is None:
        assert None is body["requested_quantity"]
        assert money_text(terms.ask.total) == body["requested_total"]
        assert ("0" if status == "filled" else None) == body["unfilled_quantity"]
    else:
        parts = Decimal(body["filled_quantity"]) + Decimal(body["unfilled_quantity"])
        assert Decimal(price_text(terms.ask.quantity)) == parts == Decimal(body["requested_quantity"])
    assert answer.fresh_quote is None
    (stored,) = await room.recorded()
    assert (answer.execution_id, status, code, answer.receipt) == (
        stored.execution_id, stored.status, stored.reject_code, stored.receipt,
    )  # fmt: skip

    # By now the market is another, the outcome is not.
    room.publish(coinbase=LOWER, kraken=LOWER)
    again = await room.execute(terms)
    assert (answer.status, answer.reject_code, answer.execution_id, answer.receipt, True) == (
        again.status, again.reject_code, again.execution_id, again.receipt, again.replayed,
    )  # fmt: skip
    assert 1 == len(await room.recorded())


@pytest.mark.parametrize(("late_ms", "code"), [(-1, None), (0, None), (1, "order_expired")])
async def test_an_order_is_good_until_its_own_time(room, clock, late_ms, code):
    """
    After valid_until an order is not even looked at, and its id stays free.
    """
    valid_until = clock.utc() - timedelta(milliseconds=late_ms)
    if code is None:
        assert "filled" == (await room.execute(BUY_ONE, valid_until=valid_until)).status
    else:
        refusal = await refused(room.execute(BUY_ONE, valid_until=valid_until))
        assert (code, "/valid_until") == (refusal.code, refusal.faults[0].where)
        assert () == await room.recorded()
        assert "filled" == (await room.execute(BUY_ONE)).status


@pytest.mark.parametrize(
    ("terms", "status", "code"),
    [
        (BUY_ONE, "filled", None),
        (market(BUY, "5"), "rejected", "insufficient_liquidity"),
        (market(BUY, "5", IOC), "partially_filled", None),
    ],
)
async def test_a_dry_run_checks_everything_and_touches_nothing(room, terms, status, code):
    """
    A dry run says what would happen; its id is as free afterwards as before, and one that is used does not matter.
    """
    dry = await room.execute(terms, dry_run=True)
    body = orjson.loads(dry.receipt)

    assert (status, code, None, False) == (dry.status, dry.reject_code, dry.execution_id, dry.replayed)
    assert (None, True, status) == (body["execution_id"], body["dry_run"], body["status"])
    assert () == await room.recorded()
    real = await room.execute(terms)
    assert (status, False) == (real.status, real.replayed)
    assert None is (await room.execute(terms, dry_run=True)).execution_id
    assert 1 == len(await room.recorded())


async def test_a_dry_run_on_a_quote_does_not_use_it(room):
    """
    A dry run on a quote leaves it good, and one that would be refused brings a fresh quote.
    """
    quote = room.quote()
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id), dry_run=True)).status
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status
    assert "quote_used" == (await refused(room.execute(QuoteOrder(quote.quote_id), dry_run=True))).code

    thin = await room.execute(QuoteOrder(room.quote("9").quote_id), dry_run=True)
    assert "insufficient_liquidity" == thin.reject_code
    assert ask("9") == thin.fresh_quote.request.ask


async def test_a_symbol_is_understood_and_an_unknown_one_is_named_with_the_nearest(room):
    """
    An order for btc-usdt is one for BTC/USDT; one for what is not served is told what is.
    """
    body = orjson.loads((await room.execute(replace(BUY_ONE, symbol="btc-usdt"))).receipt)
    assert "BTC/USDT" == body["symbol"]

    near = await refused(room.execute(replace(BUY_ONE, symbol="BTC/USD"), "b"))
    far = await refused(room.execute(replace(BUY_ONE, symbol="XXX/YYY"), "b"))
    assert ("unknown_symbol", "BTC/USDT", "/symbol") == (near.code, near.faults[0].suggested, near.faults[0].where)
    assert ("unknown_symbol", None) == (far.code, far.faults[0].suggested)
    with pytest.raises(RequestError, match="unknown_symbol"):
        room.desk.resolve("nope", Fault("symbol", "unknown_symbol", "is not served"))


async def test_a_quote_whose_symbol_is_gone_says_so(room, clock, ledger):
    """
    A genuine quote of a symbol that is no longer served cannot be filled.
    """
    terms = room.signer.open(room.quote().quote_id)
    gone = room.signer.seal(replace(terms, request=replace(terms.request, symbol="ETH/USDT")))

    assert "unknown_symbol" == (await refused(room.execute(QuoteOrder(gone)))).code


# Repeats


async def test_a_repeated_order_gets_the_first_answer_byte_for_byte(room, clock):
    """
    A retry with the same body gets the stored execution and writes nothing, also when its quote has expired.
    """
    terms = QuoteOrder(room.quote().quote_id)
    first = await room.execute(terms)
    clock.advance(10_000)
    room.publish(coinbase=LOWER, kraken=LOWER)
    second = await room.execute(terms)

    assert (False, True) == (first.replayed, second.replayed)
    assert (first.receipt, first.execution_id) == (second.receipt, second.execution_id)
    assert (None, None) == (second.decision, second.fresh_quote)
    assert 1 == len(await room.recorded())


async def test_a_client_order_id_is_one_order_for_ever(room):
    """
    The same id with another body is refused; another account may use it.
    """
    await room.execute(BUY_ONE)

    assert "client_order_id_reused" == (await refused(room.execute(market(BUY, "1.1")))).code
    assert "filled" == (await room.execute(BUY_ONE, account="bob")).status
    assert (1, 1) == (len(await room.recorded()), len(await room.recorded("bob")))


async def test_twenty_equal_orders_at_once_are_one_execution(room):
    """
    Retries that overtake each other all get the one execution's receipt.
    """
    answers = await asyncio.gather(*(room.execute(BUY_ONE) for _ in range(20)))

    assert 1 == len({answer.receipt for answer in answers}) == len(await room.recorded())
    assert 1 == sum(not answer.replayed for answer in answers)


async def test_equal_orders_at_two_desks_are_one_execution(room):
    """
    Two processes that share the record answer one order once, and know another body for what it is.
    """
    other = room.another_desk()
    answers = await asyncio.gather(room.execute(BUY_ONE), other.execute(order(BUY_ONE)))
    assert 1 == len({answer.receipt for answer in answers}) == len(await room.recorded())
    assert [False, True] == sorted(answer.replayed for answer in answers)

    outcomes = await asyncio.gather(
        room.execute(BUY_ONE, "b"), other.execute(order(market(BUY, "1.1"), "b")), return_exceptions=True
    )
    assert ["client_order_id_reused"] == [error.code for error in outcomes if isinstance(error, RequestError)]
    assert 2 == len(await room.recorded())


async def test_a_repeat_that_waited_too_long_is_told_that_the_first_is_still_running(room, monkeypatch):
    """
    While the first request is being recorded its repeat waits, then gives up, and is answered later.
    """
    monkeypatch.setattr(desk_module, "IN_PROGRESS_WAIT_S", 0.05)
    slow = SlowToRecord(room.ledger)
    desk = room.another_desk(slow)
    first = asyncio.ensure_future(desk.execute(order(BUY_ONE)))
    await slow.asked.wait()

    assert "execution_in_progress" == (await refused(desk.execute(order(BUY_ONE)))).code
    # Nobody else is kept waiting, but for the record itself.
    assert "filled" == (await desk.execute(order(BUY_ONE, "b", dry_run=True))).status
    monkeypatch.setattr(desk_module, "IN_PROGRESS_WAIT_S", 60)
    waiting = asyncio.ensure_future(desk.execute(order(BUY_ONE)))
    await asyncio.sleep(0)
    slow.go_on.set()
    assert (await first).receipt == (await waiting).receipt == (await desk.execute(order(BUY_ONE))).receipt
    assert 1 == len(await room.recorded())


async def test_a_repeat_after_the_first_was_broken_off_is_executed(room):
    """
    A client that hangs up before the record was asked may send its order again.
    """
    slow = SlowToRecord(room.ledger)
    desk = room.another_desk(slow)
    first = asyncio.ensure_future(desk.execute(order(BUY_ONE)))
    await slow.asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    slow.go_on.set()
    assert not (await desk.execute(order(BUY_ONE))).replayed


# No market, no desk


async def test_without_fresh_market_data_nothing_is_executed_and_the_id_stays_free(room, clock):
    """
    An order on stale books is refused for now, leaves no record, and succeeds when the market is back.
    """
    quote = room.quote()
    clock.advance(STALE_AFTER_MS + 1)
    refusal = await refused(room.execute(BUY_ONE))
    assert "no_fresh_market_data" == refusal.code
    assert ["stale", "stale"] == [source.reason for source in refusal.sources]
    with pytest.raises(Unavailable, match="no_fresh_market_data"):
        room.quote()
    # A quote that has expired in the meantime brings no fresh one.
    expired = await refused(room.execute(QuoteOrder(quote.quote_id)))
    assert ("quote_expired", None) == (expired.code, expired.context["fresh_quote"])

    assert () == await room.recorded()
    room.publish(kraken=KRAKEN)
    assert "filled" == (await room.execute(BUY_ONE)).status


async def test_an_order_is_decided_on_the_market_of_when_the_record_is_its_own(room, clock):
    """
    An order that waits for the record is not filled from books that have gone stale meanwhile, and its id stays free.
    """
    quote = room.quote("1", venues=("kraken",))
    slow = SlowToRecord(room.ledger)
    desk = room.another_desk(slow)
    waiting = [
        asyncio.ensure_future(desk.execute(order(terms, client_order_id)))
        for client_order_id, terms in (("a", BUY_ONE), ("b", QuoteOrder(quote.quote_id)))
    ]
    await slow.asked.wait()
    clock.advance(STALE_AFTER_MS + 1)
    slow.go_on.set()

    refusals = [await refused(one) for one in waiting]
    assert ["no_fresh_market_data", "quote_expired"] == [refusal.code for refusal in refusals]
    # Where nobody can be quoted any more the refusal stands alone.
    assert None is refusals[1].context["fresh_quote"]
    assert () == await room.recorded()


async def test_a_closing_desk_takes_no_orders_but_answers_for_old_ones(room):
    """
    A desk that is stopping refuses what is new, and still says what became of an order it had.
    """
    first = await room.execute(BUY_ONE)
    room.desk.close()

    assert "shutting_down" == (await refused(room.execute(BUY_ONE, "b"))).code
    assert "shutting_down" == (await refused(room.execute(BUY_ONE, dry_run=True))).code
    assert first.receipt == (await room.execute(BUY_ONE)).receipt
    assert 1 == len(await room.recorded())


# One walk

PRICES = st.decimals("90", "110", places=3, allow_nan=False, allow_infinity=False)
QUANTITIES = st.decimals("0.00000001", "5", places=8, allow_nan=False, allow_infinity=False)
SIDES = st.lists(st.tuples(PRICES, QUANTITIES), min_size=1, max_size=5, unique_by=lambda level: level[0])
COUNTER = itertools.count()


@st.composite
def ladders(draw):
    middle = draw(st.decimals("99", "101", places=3, allow_nan=False, allow_infinity=False))
    lines = [f". {middle + 1} 1", f"1 {middle - 1} ."]
    for price, quantity in draw(SIDES):
        if price > middle + 1:
            lines.append(f". {price} {quantity}")
        if price < middle - 1:
            lines.append(f"{quantity} {price} .")
    return "\n".join(lines)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kraken=ladders(),
    coinbase=ladders(),
    quantity=QUANTITIES,
    side=st.sampled_from(list(Side)),
    markup_bps=st.sampled_from([Decimal(0), Decimal("7.5")]),
)
async def test_quoting_and_filling_are_the_same_walk(ledger, kraken, coinbase, quantity, side, markup_bps):
    """
    An order right after its quote, on it or with the same terms, gets the quoted fills to the last digit.
    """
    room = Room(HeldClock(), ledger, taken=OFF, markup_rate=rate(markup_bps))
    room.publish(kraken=kraken, coinbase=coinbase)
    quote = room.quote(plain(quantity), (BUY, SELL))
    on_quote = await room.execute(QuoteOrder(quote.quote_id, side), f"a{next(COUNTER)}")
    direct = await room.execute(market(side, plain(quantity), IOC), f"a{next(COUNTER)}")

    priced = quote.sides[side]
    assert priced.fills == on_quote.decision.priced.fills == direct.decision.priced.fills
    if priced.fillable:
        body, direct_body = orjson.loads(on_quote.receipt), orjson.loads(direct.receipt)
        assert money_text(priced.total) == body["total"] == direct_body["total"]
        assert "0" == body["versus_quote_bps"]
        assert body["fills"] == direct_body["fills"]
    else:
        assert "insufficient_liquidity" == on_quote.reject_code
