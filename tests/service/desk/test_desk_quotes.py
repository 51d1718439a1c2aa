"""Quotes, and orders on them, on a board fed by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest

from service.accounting import money_text, rate
from service.desk.floor import DeskRules
from service.desk.orders import QuoteOrder
from service.desk.quote_id import QuoteSigner
from service.errors import RequestError
from service.market.taken import OFF
from tests.service.desk.desk_room import (
    BUY,
    BUY_ONE,
    COINBASE,
    FEES_BPS,
    HIGHER,
    KRAKEN,
    LOWER,
    SELL,
    STALE_AFTER_MS,
    Room,
    SlowByTheClock,
    market,
    order,
    refused,
)
from tests.service.shown import instrument, money


@pytest.fixture
def room(clock, ledger):
    """What one order takes is not missing for the next: that has tests of its own."""
    room = Room(clock, ledger, taken=OFF)
    room.publish(coinbase=COINBASE, kraken=KRAKEN)
    return room


async def test_a_quote_executes_at_the_quoted_total(room):
    """
    On the same book an order gets exactly the fills and the total that it was quoted.
    """
    quote = room.quote("2.5")
    answer = await room.execute(QuoteOrder(quote.quote_id))

    priced = quote.sides[BUY]
    body = orjson.loads(answer.receipt)
    assert ("filled", None, False, None) == (answer.status, answer.reject_code, answer.replayed, answer.fresh_quote)
    assert money_text(priced.total) == body["total"] == "254.806"  # 203.203 + 51.5 and 20 bps of it.
    assert "0" == body["versus_quote_bps"]
    assert quote.quote_id == body["quote_id"]
    assert ("2.5", "2.5", "0") == (body["requested_quantity"], body["filled_quantity"], body["unfilled_quantity"])
    assert [("kraken", "101", "1"), ("kraken", "102", "1"), ("coinbase", "103", "0.5")] == [
        (fill["venue"], fill["price"], fill["quantity"]) for fill in body["fills"]
    ]
    assert [2, 2, 1] == [fill["sequence"] for fill in body["fills"]]
    assert answer.receipt == (await room.ledger.find_execution("alice", answer.execution_id)).receipt


async def test_a_fill_tells_the_age_of_the_book_it_came_from(room, clock):
    """
    Each fill says how old its venue's book was when the order was decided.
    """
    clock.advance(70)
    room.publish(coinbase=COINBASE)
    clock.advance(7)

    fills = orjson.loads((await room.execute(market(BUY, "3"))).receipt)["fills"]
    assert [("kraken", 77), ("kraken", 77), ("coinbase", 7)] == [(fill["venue"], fill["book_age_ms"]) for fill in fills]


async def test_a_fill_has_its_own_markup_which_is_in_the_total(clock, ledger):
    """
    The desk's margin is charged alike on a quote and on a fill.
    """
    room = Room(clock, ledger, taken=OFF, markup_rate=rate(Decimal(100)))
    room.publish(kraken=KRAKEN)
    quote = room.quote()

    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)
    assert ("101", "0.101", "1.01", "102.111") == (body["subtotal"], body["fees"], body["markup"], body["total"])
    assert "102.111" == money_text(quote.sides[BUY].total)
    direct = orjson.loads((await room.execute(BUY_ONE, "b")).receipt)
    assert "102.111" == direct["total"]


async def test_quotes_of_both_sides_need_a_side_and_have_both(room):
    """
    On a quote of both sides the order says which one; on a quote of one side it need not, and cannot say the other.
    """
    both, bought = room.quote(sides=(BUY, SELL)), room.quote(sides=(BUY,))
    missing = await refused(room.execute(QuoteOrder(both.quote_id)))
    wrong = await refused(room.execute(QuoteOrder(bought.quote_id, SELL)))

    assert ("missing_parameter", "/side") == (missing.code, missing.faults[0].where)
    assert ("conflicting_parameters", "/side") == (wrong.code, wrong.faults[0].where)
    sold = await room.execute(QuoteOrder(both.quote_id, SELL))
    assert "98.901" == orjson.loads(sold.receipt)["total"]
    # Good for one fill of one side.
    assert "quote_used" == (await refused(room.execute(QuoteOrder(both.quote_id, BUY), "b"))).code
    assert "filled" == (await room.execute(QuoteOrder(bought.quote_id, BUY), "c")).status


@pytest.mark.parametrize(("after_ms", "code"), [(2_999, None), (3_000, "quote_expired"), (3_001, "quote_expired")])
async def test_a_quote_expires_at_its_millisecond(room, clock, after_ms, code):
    """
    A quote is good until just before expires_at, and a late order is told a new price at once.
    """
    clock.advance(7)
    quote = room.quote()
    assert timedelta(milliseconds=3_000) == quote.expires_at - quote.created_at
    clock.advance(after_ms)

    if code is None:
        assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status
    else:
        refusal = await refused(room.execute(QuoteOrder(quote.quote_id)))
        assert code == refusal.code
        assert clock.utc() == refusal.context["fresh_quote"].created_at
        assert quote.request == refusal.context["fresh_quote"].request
        assert () == await room.recorded()


async def test_parts_of_a_millisecond_do_not_lengthen_a_quote(clock, ledger):
    """
    What a quote shows is what counts: its times are whole milliseconds.
    """
    clock._utc += timedelta(microseconds=999)
    room = Room(clock, ledger)
    room.publish(kraken=KRAKEN)
    quote = room.quote()

    assert (0, 0) == (quote.created_at.microsecond, quote.expires_at.microsecond)
    assert quote.expires_at == room.signer.open(quote.quote_id).expires_at
    clock.advance(2_999)
    clock._utc += timedelta(microseconds=1)
    assert "quote_expired" == (await refused(room.execute(QuoteOrder(quote.quote_id)))).code


async def test_expiry_is_judged_at_the_decision_and_not_before_the_record_was_asked(room, clock):
    """
    No fill on a quote is dated after the quote's end, however slow the record is.
    """
    quote = room.quote()
    clock.advance(2_990)
    slow = room.another_desk(SlowByTheClock(room.ledger, clock, 10))

    assert "quote_expired" == (await refused(slow.execute(order(QuoteOrder(quote.quote_id))))).code
    assert () == await room.recorded()


async def test_a_changed_foreign_or_invented_quote_is_unknown(room, clock, ledger):
    """
    An id that was not given to this account, in this mode, exactly so, is no quote.
    """
    quote = room.quote()
    forged = room.signer.open(quote.quote_id)
    cheaper = {BUY: replace(forged.sides[BUY], total=money(1_000))}
    other_key = QuoteSigner(b"x" * 32).seal(replace(forged, sides=cheaper))
    for quote_id in ("", "q1", other_key, quote.quote_id + "A", quote.quote_id[:-1]):
        assert "unknown_quote" == (await refused(room.execute(QuoteOrder(quote_id)))).code
    for place in range(len(quote.quote_id)):
        changed = quote.quote_id[:place] + ("A" if quote.quote_id[place] != "A" else "B") + quote.quote_id[place + 1 :]
        assert "unknown_quote" == (await refused(room.execute(QuoteOrder(changed)))).code
    assert "unknown_quote" == (await refused(room.execute(QuoteOrder(quote.quote_id), account="bob"))).code
    live = room.another_desk(rules=DeskRules(market_data="live"))
    assert "unknown_quote" == (await refused(live.execute(order(QuoteOrder(quote.quote_id))))).code

    assert () == await room.recorded()
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status


async def test_a_quote_fills_once(room):
    """
    A second order on a used quote is refused with a fresh quote, and nothing of it is recorded.
    """
    quote = room.quote()
    await room.execute(QuoteOrder(quote.quote_id), "a")
    refusal = await refused(room.execute(QuoteOrder(quote.quote_id), "b"))

    assert "quote_used" == refusal.code
    assert quote.request == refusal.context["fresh_quote"].request
    assert quote.quote_id != refusal.context["fresh_quote"].quote_id
    assert ["a"] == [one.client_order_id for one in await room.recorded()]
    # The refused order's id was not used up.
    assert "filled" == (await room.execute(BUY_ONE, "b")).status


async def test_forty_orders_on_one_quote_at_once_are_one_fill(room):
    """
    However many orders race for a quote, one gets it.
    """
    quote = room.quote()
    answers = await asyncio.gather(
        *(room.execute(QuoteOrder(quote.quote_id), f"a{n}") for n in range(40)), return_exceptions=True
    )

    filled = [answer for answer in answers if not isinstance(answer, Exception)]
    lost = [answer for answer in answers if isinstance(answer, RequestError)]
    assert (1, 39) == (len(filled), len(lost))
    assert {"quote_used"} == {error.code for error in lost}
    assert all(error.context["fresh_quote"] is not None for error in lost)
    assert [filled[0].execution_id] == [one.execution_id for one in await room.recorded()]


async def test_a_rejection_does_not_use_the_quote(room):
    """
    After the price came back a quote that was refused for it can still be filled.
    """
    quote = room.quote()
    room.publish(coinbase=HIGHER, kraken=HIGHER)
    moved = await room.execute(QuoteOrder(quote.quote_id), "a")
    room.publish(coinbase=COINBASE, kraken=KRAKEN)
    filled = await room.execute(QuoteOrder(quote.quote_id), "b")

    assert ("rejected", "price_moved") == (moved.status, moved.reject_code)
    assert quote.request == moved.fresh_quote.request
    assert "102.102" == money_text(moved.fresh_quote.sides[BUY].total)
    assert "filled" == filled.status


@pytest.mark.parametrize(
    ("side", "now", "tolerance_bps", "expected"),
    [
        # Quoted 101.101 for a buy and 98.901 for a sell; now 102.102 or 100.1, and 99.9 or 97.902.
        (BUY, HIGHER, None, ("price_moved", None, "0")),
        (BUY, HIGHER, "99", ("price_moved", None, "0")),
        (BUY, HIGHER, "99.1", (None, "99.0099", "102.102")),
        (BUY, LOWER, None, (None, "-99.0099", "100.1")),
        (SELL, LOWER, None, ("price_moved", None, "0")),
        (SELL, LOWER, "101", ("price_moved", None, "0")),
        (SELL, LOWER, "101.1", (None, "101.0101", "97.902")),
        (SELL, HIGHER, None, (None, "-101.0101", "99.9")),
        (BUY, KRAKEN, "0", (None, "0", "101.101")),
    ],
)
async def test_a_moved_price_is_refused_beyond_the_tolerance_and_improvement_is_the_clients(
    room, side, now, tolerance_bps, expected
):
    """
    A quote is filled at its total or better; worse only within the client's tolerance, and what is better is theirs.
    """
    quote = room.quote(sides=(side,))
    room.publish(coinbase=now, kraken=now)
    tolerance = None if tolerance_bps is None else Decimal(tolerance_bps)
    answer = await room.execute(QuoteOrder(quote.quote_id, tolerance_bps=tolerance))

    body = orjson.loads(answer.receipt)
    assert expected == (answer.reject_code, body["versus_quote_bps"], body["total"])


async def test_the_desks_tolerance_holds_where_the_order_names_none(clock, ledger):
    """
    An order's own tolerance goes before the desk's, even where it is none at all.
    """
    room = Room(clock, ledger, taken=OFF, tolerance_bps=Decimal(100))
    room.publish(kraken=KRAKEN)
    quote = room.quote()
    room.publish(kraken=HIGHER)

    assert "price_moved" == (await room.execute(QuoteOrder(quote.quote_id, tolerance_bps=Decimal(0)), "a")).reject_code
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id), "b")).status


@pytest.mark.parametrize(
    ("quantity", "more"),
    [("9", {}), ("2", {"limit_price": "101"}), ("1", {"limit_price": "100"}), (None, {"total": "99999"})],
)
async def test_a_quote_that_could_not_be_filled_executes_to_insufficient_liquidity(room, quantity, more):
    """
    A quote of less than was asked for is information, not something that can be had, even when the book has grown.
    """
    quote = room.quote(quantity, **more)
    assert not quote.sides[BUY].fillable

    for client_order_id in "ab":
        answer = await room.execute(QuoteOrder(quote.quote_id), client_order_id)
        assert ("rejected", "insufficient_liquidity") == (answer.status, answer.reject_code)
        room.publish(coinbase=LOWER, kraken=LOWER)


async def test_a_quote_keeps_its_limit_and_its_venues(room):
    """
    What the quote was asked for holds for its fill: no other venue and no worse price comes in later.
    """
    coinbase = room.quote(venues=("coinbase",))
    without = room.quote(exclude_venues=("kraken",))
    limited = room.quote(limit_price="101.5")
    assert ["103.206", "103.206", "101.101"] == [money_text(q.sides[BUY].total) for q in (coinbase, without, limited)]
    assert ["coinbase"] == [leg.venue for leg in without.sides[BUY].legs]

    for n, quote in enumerate((coinbase, without)):
        body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id), f"a{n}")).receipt)
        assert ["coinbase"] == [fill["venue"] for fill in body["fills"]]
    room.publish(coinbase=HIGHER, kraken=HIGHER)
    moved = await room.execute(QuoteOrder(limited.quote_id, tolerance_bps=Decimal(10_000)), "b")
    assert "limit_not_met" == moved.reject_code


async def test_a_quote_made_with_a_total_fills_the_quantity_that_it_was_quoted(room):
    """
    When the price gets better a quote for a total costs less; it does not become a larger order.
    """
    quote = room.quote(total="101.101")
    room.publish(coinbase=LOWER, kraken=LOWER)
    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)

    assert ("1", None, "1", "0") == (
        body["requested_quantity"], body["requested_total"], body["filled_quantity"], body["unfilled_quantity"],
    )  # fmt: skip
    assert ("100.1", "-99.0099") == (body["total"], body["versus_quote_bps"])


async def test_a_quote_made_with_a_slippage_bound_fills_the_quantity_that_it_was_quoted(room):
    """
    What keeps within the bound is found once, when the quote is given.
    """
    quote = room.quote(slippage_bps_max="100")
    assert "filled" == (answer := await room.execute(QuoteOrder(quote.quote_id))).status
    assert "1" == orjson.loads(answer.receipt)["filled_quantity"]


async def test_a_margin_of_ones_own_takes_the_place_of_the_desks(clock, ledger):
    """
    An account with a margin of its own is quoted and filled with that; everyone else with the desk's.
    """
    rates = {"bob": rate(Decimal(100)), "eve": 0}
    room = Room(clock, ledger, markup_rate=rate(Decimal(10)), account_markup_rates=rates)
    room.publish(kraken=KRAKEN)

    assert ["0.101", "1.01", "0"] == [
        money_text(room.quote(account=account).sides[BUY].markup) for account in ("alice", "bob", "eve")
    ]
    assert "1.01" == orjson.loads((await room.execute(BUY_ONE, account="bob")).receipt)["markup"]


@pytest.mark.parametrize(
    ("amounts", "code", "where", "suggested"),
    [
        ({"quantity": "1.000000001"}, "quantity_step", "quantity", "1"),
        ({"quantity": "0.000000001"}, "quantity_step", "quantity", "0.00000001"),
        ({"total": "0.00000001"}, "notional_too_small", "total", "0.00000102"),
    ],
)
async def test_an_amount_that_no_venue_accepts_is_refused_and_not_recorded(room, amounts, code, where, suggested):
    """
    The refusal says which amount would do, uses up no id, and points to where the amount was said.
    """
    with pytest.raises(RequestError) as quoted:
        room.quote(**amounts)
    ordered = await refused(room.execute(market(BUY, **amounts)))

    assert [(code, where, suggested, "parameter")] == [
        (fault.code, fault.where, fault.suggested, fault.kind) for fault in quoted.value.faults[:1]
    ]
    assert (code, "/" + where, suggested, "pointer") == (
        ordered.code, ordered.faults[0].where, ordered.faults[0].suggested, ordered.faults[0].kind,
    )  # fmt: skip
    assert () == await room.recorded()
    assert "filled" == (await room.execute(BUY_ONE)).status


async def test_what_is_wrong_with_an_amount_is_said_before_what_is_late(room, clock):
    """
    A quantity that nobody accepts comes before an order's own end, and that before missing market data.
    """
    late = clock.utc() - timedelta(seconds=1)
    assert "quantity_step" == (await refused(room.execute(market(BUY, "0.000000001"), valid_until=late))).code
    quote = room.quote()
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status
    # On a quote: its own end, the order's end, and only then that it was used.
    assert "order_expired" == (await refused(room.execute(QuoteOrder(quote.quote_id), "b", valid_until=late))).code
    clock.advance(STALE_AFTER_MS + 1)
    assert "order_expired" == (await refused(room.execute(BUY_ONE, "c", valid_until=late))).code
    assert "quote_expired" == (await refused(room.execute(QuoteOrder(quote.quote_id), "d", valid_until=late))).code


async def test_an_expired_quote_is_expired_though_its_question_cannot_be_asked_again(room, clock):
    """
    Where the venue with the fine step is gone there is no fresh quote, but the code is the quote's own.
    """
    room.board.instruct(instrument("coinbase", FEES_BPS["coinbase"], step="0.1"))
    quote = room.quote("1.05")
    room.board.fail("kraken", "BTC/USDT", "banned", clock.now_ns(), at_once=True)
    clock.advance(3_000)

    expired = await refused(room.execute(QuoteOrder(quote.quote_id)))
    assert ("quote_expired", None) == (expired.code, expired.context.get("fresh_quote"))


async def test_a_recorded_refusal_is_answered_as_it_was_recorded(room, clock):
    """
    An order that was refused on record is told so at once, and not only when it is sent again.
    """
    room.board.instruct(instrument("coinbase", FEES_BPS["coinbase"], step="0.1"))
    quote = room.quote("1.05")
    room.board.fail("kraken", "BTC/USDT", "banned", clock.now_ns(), at_once=True)

    answers = [await room.execute(QuoteOrder(quote.quote_id)) for _ in range(2)]
    assert ["insufficient_liquidity"] * 2 == [answer.reject_code for answer in answers]
    assert [False, True] == [answer.replayed for answer in answers]
    assert None is answers[0].fresh_quote
