"""Laws of pricing, over random books of several venues; fractions are the oracle."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from exchanges.book import UNIT, Ladder, Side, VenueBook, decimal, units
from service.accounting import rate
from service.pricing.bounds import Ask
from service.pricing.quote import price
from service.pricing.routing import MERGE_AFTER
from tests.service import oracle
from tests.service.shown import NOW_NS, as_shown, merged, source

MONEY_UNIT = Fraction(1, 10**8)
TICKS = [Decimal("0.01"), Decimal("0.00000001"), Decimal("0.123456789012"), Decimal(1)]
COARSE = st.integers(1, 30).map(Decimal)  # So that levels are equal at times ...
FINE = st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-8))
FINER = st.integers(1, 10**13).map(lambda n: Decimal(n).scaleb(-12))
QUANTITIES = COARSE | FINE
FEES = st.sampled_from([Decimal(fee) for fee in ("0", "10", "26", "12.5", "0.0001", "60")])
MARKUPS = st.sampled_from([Decimal(markup) for markup in ("0", "5", "0.333", "120")])
SIDES = st.sampled_from(list(Side))
WANTED = QUANTITIES | st.integers(1, 400).map(Decimal)
BOUNDS = st.integers(-50, 3000).map(lambda n: Decimal(n) / 10)


@st.composite
def venue_books(draw, venue, tick, quantities):
    """A venue's book around price 1000 ticks, which may cross other venues' books and share prices with them."""
    best_bid = draw(st.integers(985, 1005))
    best_ask = best_bid + draw(st.integers(1, 15))
    sides = []
    for best, away in ((best_bid, -1), (best_ask, 1)):
        gaps = draw(st.lists(st.integers(1, 4), max_size=4))
        prices = [best + away * sum(gaps[:n]) for n in range(len(gaps) + 1)]
        sides.append(Ladder.of([(tick * one, draw(quantities)) for one in prices]))
    return VenueBook(venue, "BTC/USDT", *sides, NOW_NS, None)


@st.composite
def markets(draw, quantities=QUANTITIES):
    """One to four venues' sources, with different fees; asked before so often that the sides are merged, or not."""
    tick = draw(st.sampled_from(TICKS))
    names = draw(st.lists(st.sampled_from(["bitstamp", "coinbase", "kraken", "okx"]), min_size=1, unique=True))
    sources = [source(draw(venue_books(name, tick, quantities)), draw(FEES)) for name in names]
    book = merged(sources)
    if draw(st.booleans()):
        book.bids.reads = book.asks.reads = MERGE_AFTER
    return sources, book


@st.composite
def limits(draw, book, side):
    """No limit, or a price that is shown."""
    shown = [one for venue in book.side(side).venues for one in venue.prices]
    return draw(st.none() | st.sampled_from(shown))


@st.composite
def orders(draw, quantities=QUANTITIES):
    """A market, a side, and a quantity with a limit at times."""
    sources, book = draw(markets(quantities))
    side = draw(SIDES)
    return sources, book, side, Ask(units(draw(WANTED if quantities is QUANTITIES else quantities)),
                                    limit_price=draw(limits(book, side)))  # fmt: skip


@st.composite
def bounded_orders(draw):
    """A market, a side, and a total or a slippage bound, or a quantity within a bound."""
    sources, book = draw(markets(FINE))
    side = draw(SIDES)
    limit = draw(limits(book, side))
    slippage = draw(BOUNDS)
    total = draw(st.integers(1, 10**14))
    kind = draw(st.sampled_from(["total", "slippage", "quantity", "both"]))
    return sources, book, side, {
        "total": Ask(total=total, limit_price=limit),
        "slippage": Ask(slippage_bps_max=slippage, limit_price=limit),
        "quantity": Ask(units(draw(WANTED)), slippage_bps_max=slippage, limit_price=limit),
        "both": Ask(total=total, slippage_bps_max=slippage, limit_price=limit),
    }[kind]  # fmt: skip


def expected(sources, side, ask, markup_bps):
    return oracle.priced(
        as_shown(sources),
        side.value,
        None if ask.quantity is None else Fraction(ask.quantity, UNIT),
        limit=None if ask.limit_price is None else Fraction(ask.limit_price, UNIT),
        bound_bps=None if ask.slippage_bps_max is None else Fraction(ask.slippage_bps_max),
        total=None if ask.total is None else Fraction(ask.total, 10**8),
        markup_bps=Fraction(markup_bps),
    )


@given(orders(QUANTITIES | FINER), MARKUPS)
def test_every_number_is_that_of_an_independent_computation_in_fractions(order, markup_bps):
    """
    Fills, money, prices, basis points, legs, waterfall and comparison are right to the last digit.
    """
    sources, book, side, ask = order
    priced = price(book, side, ask, rate(markup_bps))

    assert expected(sources, side, ask, markup_bps) == oracle.numbers_of(priced)


@given(bounded_orders(), MARKUPS)
def test_totals_and_bounds_are_answered_as_fractions_answer_them(order, markup_bps):
    """
    The largest quantity within a total, a slippage, or both, is right to the last digit, with all that follows from it.
    """
    sources, book, side, ask = order
    priced = price(book, side, ask, rate(markup_bps))

    assert expected(sources, side, ask, markup_bps) == oracle.numbers_of(priced)


@given(bounded_orders(), MARKUPS)
def test_answers_to_totals_and_bounds_are_maximal(order, markup_bps):
    """
    What is answered keeps within every bound, and one step more would not, or is not there.
    """
    sources, book, side, ask = order
    priced = price(book, side, ask, rate(markup_bps))
    middle = oracle.mid(as_shown(sources))

    def breaks(quote):
        notional, total = Fraction(quote.spread.notional, UNIT**2), Fraction(quote.total, 10**8)
        at_mid = middle * Fraction(quote.quantity, UNIT)
        over = notional - at_mid if side is Side.BUY else at_mid - notional
        too_much = ask.total is not None and total > Fraction(ask.total, 10**8)
        slips = ask.slippage_bps_max is not None and over > Fraction(ask.slippage_bps_max) / 10_000 * at_mid
        return too_much or slips

    assert not breaks(priced)
    if ask.quantity is None or priced.quantity < ask.quantity:
        step = 10**10
        more = price(book, side, Ask(priced.quantity // step * step + step, limit_price=ask.limit_price),
                     rate(markup_bps))  # fmt: skip
        assert not more.fillable or breaks(more) or priced.quantity > more.quantity
    assert priced.stopped_by != "slippage" or ask.slippage_bps_max is not None


@given(orders(QUANTITIES | FINER))
def test_fills_never_exceed_what_was_seen_or_asked_for(order):
    """
    No level gives more than rests there, none is used twice, and nobody gets more than was asked for.
    """
    _, book, side, ask = order
    priced = price(book, side, ask)

    seen = {(level.venue, level.price): level.quantity for level in book.side(side).levels()}
    for fill in priced.fills:
        assert 0 < fill.quantity <= seen.pop((fill.venue, fill.price))
    assert ask.quantity == priced.quantity + priced.shortfall
    assert priced.shortfall >= 0
    assert (priced.stopped_by is None) == (priced.shortfall == 0)


@given(orders(QUANTITIES | FINER))
def test_fills_are_the_cheapest_part_of_what_may_be_taken(order):
    """
    Nothing that is left over, and may be taken, has a better net price than what was taken.
    """
    _, book, side, ask = order
    priced = price(book, side, ask)
    sign = 1 if side is Side.BUY else -1

    def allowed(one):
        return ask.limit_price is None or sign * one.price <= sign * ask.limit_price

    def net(one):
        return sign * one.price * (10**10 + sign * one.rate)

    taken = {(fill.venue, fill.price): fill.quantity for fill in priced.fills}
    left = [
        level
        for level in book.side(side).levels()
        if allowed(level) and taken.get((level.venue, level.price), 0) < level.quantity
    ]
    assert all(map(allowed, priced.fills))
    if priced.fills and left:
        assert max(map(net, priced.fills)) <= min(map(net, left))
    if priced.shortfall:
        assert not left


@given(orders(QUANTITIES | FINER), MARKUPS)
def test_parts_add_up_and_each_fill_is_rounded_in_its_direction(order, markup_bps):
    """
    Fills sum to legs, legs to the side, and the waterfall to the total, to the last digit.
    """
    _, book, side, ask = order
    priced = price(book, side, ask, rate(markup_bps))

    for fill in priced.fills:
        notional = Fraction(fill.price, UNIT) * Fraction(fill.quantity, UNIT)
        over = Fraction(fill.subtotal, 10**8) - notional
        assert 0 <= (over if side is Side.BUY else -over) < MONEY_UNIT
        assert 0 <= Fraction(fill.fee, 10**8) - notional * Fraction(fill.rate, 10**10) < MONEY_UNIT
        assert 0 <= Fraction(fill.markup, 10**8) - notional * Fraction(markup_bps) / 10_000 < MONEY_UNIT
    sign = 1 if side is Side.BUY else -1
    amounts = [leg.amounts for leg in priced.legs]
    assert priced.subtotal == sum(fill.subtotal for fill in priced.fills) == sum(one.subtotal for one in amounts)
    assert priced.fees == sum(fill.fee for fill in priced.fills) == sum(one.fee for one in amounts)
    assert priced.markup == sum(fill.markup for fill in priced.fills) == sum(one.markup for one in amounts)
    assert priced.quantity == sum(one.quantity for one in amounts)
    assert len(priced.fills) == sum(one.levels for one in amounts)
    assert len(priced.legs) == len({leg.venue for leg in priced.legs})
    assert priced.total == priced.subtotal + sign * (priced.fees + priced.markup)
    *lines, total = priced.waterfall
    assert priced.total == total.amount == sum(line.amount for line in lines)
    assert total.bps == sum(line.bps for line in lines)
    assert ["mid", "half_spread", "depth", "conversion", "fees", "markup", "total"] == [
        step.name for step in priced.waterfall
    ]


@given(orders(), QUANTITIES, MARKUPS, st.none() | BOUNDS)
def test_buying_more_never_costs_less(order, more, markup_bps, bound):
    """
    A larger buy costs at least as much in all, and gets at least as much.
    """
    _, book, _, ask = order
    less, larger = (
        price(book, Side.BUY, ask._replace(quantity=wanted, slippage_bps_max=bound), rate(markup_bps))
        for wanted in (ask.quantity, ask.quantity + units(more))
    )

    assert less.quantity <= larger.quantity
    assert less.total <= larger.total
    assert less.subtotal <= larger.subtotal


@given(orders())
def test_routing_is_never_worse_than_the_best_single_venue(order):
    """
    No venue alone would fill the same quantity better, but for what the rounding of each fill costs.

    Before the markup: a markup is of the notional, so it weighs on a high price more than on a high fee.
    """
    sources, book, side, ask = order
    priced = price(book, side, ask)
    assume(priced.best_single_venue is not None)

    limit = None if ask.limit_price is None else Fraction(ask.limit_price, UNIT)
    _, single_total = oracle.alone(as_shown(sources), side.value, Fraction(priced.quantity, UNIT), limit, Fraction(0))
    worse_by = Fraction(priced.total, 10**8) - single_total
    rounding = 2 * len(priced.fills) * MONEY_UNIT  # Subtotal and fee.
    assert (worse_by if side is Side.BUY else -worse_by) < rounding


@given(markets(), SIDES, QUANTITIES, QUANTITIES, MARKUPS)
def test_splitting_an_order_in_two_costs_what_one_costs(market, side, first, second, markup_bps):
    """
    Two orders, the second on what the first has left, cost together what one of both costs, but for rounding.

    The fill that is cut in two rounds twice, in subtotal, fee and markup: three units of the last digit.
    """
    sources, book = market
    both = price(book, side, Ask(units(first) + units(second)), rate(markup_bps))
    assume(both.fillable)
    one = price(book, side, Ask(units(first)), rate(markup_bps))
    two = price(merged(without(sources, side, one)), side, Ask(units(second)), rate(markup_bps))

    assert both.quantity == one.quantity + two.quantity
    apart = one.total + two.total - both.total
    assert 0 <= (apart if side is Side.BUY else -apart) <= 3


def without(sources, side, priced):
    """What the venues show once an order has taken its fills."""
    taken = {(fill.venue, fill.price): fill.quantity for fill in priced.fills}
    left = []
    for one in sources:
        name = "asks" if side is Side.BUY else "bids"
        ladder = getattr(one.book, name)
        rows = [
            (decimal(p), decimal(q - taken.get((one.venue, p), 0)))
            for p, q in zip(ladder.prices, ladder.quantities, strict=True)
            if q > taken.get((one.venue, p), 0)
        ]
        if rows:
            left.append(one._replace(book=replace(one.book, **{name: Ladder.of(rows)})))
    return left


@given(orders(), MARKUPS)
def test_equal_inputs_give_equal_outputs(order, markup_bps):
    """
    The same books give the same quote, whether the sides have been merged or not.
    """
    sources, _, side, ask = order
    fresh, worn = merged(sources), merged(sources)
    worn.bids.reads = worn.asks.reads = MERGE_AFTER

    first, second = (oracle.numbers_of(price(book, side, ask, rate(markup_bps))) for book in (fresh, worn))
    assert first == second


@pytest.mark.parametrize("side", list(Side))
def test_a_side_with_one_level_is_merged_too(side):
    """
    The smallest book there is answers like any other.
    """
    book = merged([source(VenueBook("kraken", "BTC/USDT", Ladder.of([(Decimal(99), Decimal(1))]),
                                    Ladder.of([(Decimal(101), Decimal(1))]), NOW_NS, None))])  # fmt: skip
    book.side(side).reads = MERGE_AFTER

    assert UNIT // 2 == price(book, side, Ask(UNIT // 2)).quantity
    assert (UNIT, "depth") == ((one := price(book, side, Ask(2 * UNIT))).quantity, one.stopped_by)
