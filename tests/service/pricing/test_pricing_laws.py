"""Laws of pricing, over random books of several venues; fractions are the oracle."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exchanges.book import Level, Side, VenueBook
from service.accounting import EXACT
from service.market.book import merge
from service.pricing.quote import price
from service.pricing.sweep import Bound, sweep
from tests.service import oracle
from tests.service.shown import NOW_NS, as_shown, source

UNIT = Fraction(1, 10**8)
TICKS = [Decimal("0.01"), Decimal("0.00000001"), Decimal("0.123456789012"), Decimal(1)]
QUANTITIES = st.one_of(
    st.integers(1, 30).map(Decimal),  # So that levels are equal at times ...
    st.decimals(Decimal("0.000000000001"), 50, places=12, allow_nan=False, allow_infinity=False).filter(bool),
)


@st.composite
def venue_books(draw, venue, tick):
    """A venue's book around price 1000 ticks, which may cross other venues' books and share prices with them."""
    best_bid = draw(st.integers(985, 1005))
    best_ask = best_bid + draw(st.integers(1, 15))
    sides = []
    for best, away in ((best_bid, -1), (best_ask, 1)):
        gaps = draw(st.lists(st.integers(1, 4), max_size=4))
        prices = [best + away * sum(gaps[:n]) for n in range(len(gaps) + 1)]
        sides.append(tuple(Level(EXACT.multiply(tick, Decimal(one)), draw(QUANTITIES)) for one in prices))
    return VenueBook(venue, "BTC/USDT", *sides, NOW_NS, None)


@st.composite
def markets(draw):
    """One to four venues' sources, with different fees."""
    tick = draw(st.sampled_from(TICKS))
    names = draw(st.lists(st.sampled_from(["bitstamp", "coinbase", "kraken", "okx"]), min_size=1, unique=True))
    fees = st.sampled_from([Decimal(0), Decimal(10), Decimal(26), Decimal("12.5"), Decimal("0.0001"), Decimal(60)])
    return [source(draw(venue_books(name, tick)), draw(fees)) for name in names]


SIDES = st.sampled_from(list(Side))
MARKUPS = st.sampled_from([Decimal(0), Decimal(5), Decimal("0.333"), Decimal(120)])
WANTED = st.one_of(QUANTITIES, st.integers(1, 400).map(Decimal))


@st.composite
def orders(draw):
    """A market, a side, a quantity, and at times a limit or a slippage bound near the prices that are shown."""
    sources = draw(markets())
    book = merge("BTC/USDT", sources)
    side = draw(SIDES)
    shown = [level.price for level in book.levels(side)]
    limit = draw(st.one_of(st.none(), st.sampled_from(shown)))
    bound = draw(
        st.one_of(
            st.none(), st.decimals(-50, 300, places=4, allow_nan=False, allow_infinity=False), st.just(Decimal(0))
        )
    )
    return sources, book, side, draw(WANTED), limit, bound


def quoted(order, markup_bps=Decimal(0)):
    _, book, side, quantity, limit, bound = order
    return price(book, side, quantity, limit_price=limit, slippage_bps_max=bound, markup_bps=markup_bps)


def or_none(number):
    return None if number is None else Fraction(number)


@settings(max_examples=600, deadline=None)
@given(orders(), MARKUPS)
def test_every_number_is_that_of_an_independent_computation_in_fractions(order, markup_bps):
    """
    Fills, money, prices, basis points, legs, waterfall and comparison are right to the last digit.
    """
    sources, _, side, quantity, limit, bound = order
    expected = oracle.priced(
        as_shown(sources),
        side.value,
        Fraction(quantity),
        limit=or_none(limit),
        bound_bps=or_none(bound),
        markup_bps=Fraction(markup_bps),
    )

    assert expected == oracle.numbers_of(quoted(order, markup_bps))


@settings(max_examples=250, deadline=None)
@given(orders())
def test_fills_never_exceed_what_was_seen_or_asked_for(order):
    """
    No level gives more than rests there, none is used twice, and nobody gets more than was asked for.
    """
    _, book, side, quantity, _, _ = order
    priced = quoted(order)

    seen = list(book.levels(side))
    for fill in priced.fills:
        assert 0 < fill.quantity <= fill.level.quantity
        seen.remove(fill.level)
    assert quantity == priced.quantity + priced.shortfall
    assert priced.shortfall >= 0
    assert (priced.stopped_by is None) == (priced.shortfall == 0)


@settings(max_examples=250, deadline=None)
@given(orders())
def test_fills_are_the_best_part_of_what_may_be_taken(order):
    """
    Nothing that is left over, and may be taken, has a better net price than what was taken.
    """
    _, book, side, _, limit, bound = order
    assume(bound is None)
    priced = quoted(order)

    def allowed(level):
        return limit is None or (level.price <= limit if side is Side.BUY else level.price >= limit)

    taken = {fill.level: fill.quantity for fill in priced.fills}
    left = [level for level in book.levels(side) if allowed(level) and taken.get(level, 0) < level.quantity]
    assert all(map(allowed, taken))
    for level in left:
        for fill in priced.fills:
            if side is Side.BUY:
                assert fill.level.net_price <= level.net_price
            else:
                assert fill.level.net_price >= level.net_price
    if priced.shortfall:
        assert not left


@settings(max_examples=250, deadline=None)
@given(orders(), MARKUPS)
def test_parts_add_up_and_each_fill_is_rounded_in_its_direction(order, markup_bps):
    """
    Fills sum to legs, legs to the side, and the waterfall to the total, to the last digit.
    """
    _, _, side, _, _, _ = order
    priced = quoted(order, markup_bps)

    for fill in priced.fills:
        notional = Fraction(fill.level.price) * Fraction(fill.quantity)
        over = Fraction(fill.subtotal) - notional
        assert 0 <= (over if side is Side.BUY else -over) < UNIT
        assert 0 <= Fraction(fill.fee) - notional * Fraction(fill.level.fee_bps) / 10_000 < UNIT
        assert 0 <= Fraction(fill.markup) - notional * Fraction(markup_bps) / 10_000 < UNIT
    sign = 1 if side is Side.BUY else -1
    assert priced.subtotal == sum(fill.subtotal for fill in priced.fills) == sum(leg.subtotal for leg in priced.legs)
    assert priced.fees == sum(fill.fee for fill in priced.fills) == sum(leg.fee for leg in priced.legs)
    assert priced.quantity == sum(leg.quantity for leg in priced.legs)
    assert len(priced.fills) == sum(leg.levels for leg in priced.legs)
    assert len(priced.legs) == len({leg.venue for leg in priced.legs})
    assert priced.total == priced.subtotal + sign * (priced.fees + priced.markup)
    *lines, total = priced.waterfall
    assert priced.total == total.amount == sum(line.amount for line in lines)
    assert total.bps == sum(line.bps for line in lines)
    assert ["mid", "half_spread", "depth", "conversion", "fees", "markup", "total"] == [
        step.name for step in priced.waterfall
    ]


@settings(max_examples=250, deadline=None)
@given(orders())
def test_a_limit_or_a_bound_is_never_broken(order):
    """
    No fill is worse than the limit, and the average of the exact notionals is within the slippage bound.

    The subtotal that is shown, each fill of which is rounded, is off by less than one unit per fill.
    """
    sources, _, side, _, limit, bound = order
    priced = quoted(order)

    sign = 1 if side is Side.BUY else -1
    for fill in priced.fills:
        assert limit is None or sign * fill.level.price <= sign * limit
    exact = sum(Fraction(fill.level.price) * Fraction(fill.quantity) for fill in priced.fills)
    assert 0 <= sign * (Fraction(priced.subtotal) - exact) <= len(priced.fills) * UNIT
    if bound is not None and priced.quantity:
        worst = oracle.mid(as_shown(sources)) * (1 + sign * Fraction(bound) / 10_000)
        assert sign * exact <= sign * worst * Fraction(priced.quantity)


@settings(max_examples=150, deadline=None)
@given(orders(), QUANTITIES, MARKUPS)
def test_buying_more_never_costs_less(order, more, markup_bps):
    """
    A larger buy costs at least as much in all, and gets at least as much.
    """
    _sources, book, _, quantity, limit, bound = order
    less, larger = (
        price(book, Side.BUY, wanted, limit_price=limit, slippage_bps_max=bound, markup_bps=markup_bps)
        for wanted in (quantity, quantity + more)
    )

    assert less.quantity <= larger.quantity
    assert less.total <= larger.total
    assert less.subtotal <= larger.subtotal


@settings(max_examples=150, deadline=None)
@given(orders())
def test_routing_is_never_worse_than_the_best_single_venue(order):
    """
    No venue alone would fill the same quantity better, but for what the rounding of each fill costs.

    Before the markup: a markup is of the notional, so it weighs on a high price more than on a high fee.
    """
    sources, _, side, _, limit, _ = order
    priced = quoted(order)
    assume(priced.best_single_venue is not None)

    _, single_total = oracle.alone(
        as_shown(sources), side.value, Fraction(priced.quantity), or_none(limit), Fraction(0)
    )
    worse_by = Fraction(priced.total) - single_total
    assert (worse_by if side is Side.BUY else -worse_by) < 2 * len(priced.fills) * UNIT  # Subtotal and fee.


@settings(max_examples=100, deadline=None)
@given(orders(), MARKUPS, st.randoms(use_true_random=False))
def test_equal_inputs_give_equal_outputs(order, markup_bps, random):
    """
    The same books give the same quote, in whatever order the venues stand.
    """
    sources, _, side, quantity, limit, bound = order
    shuffled = random.sample(sources, len(sources))
    again = (shuffled, merge("BTC/USDT", shuffled), side, quantity, limit, bound)

    assert quoted(order, markup_bps) == quoted(order, markup_bps) == quoted(again, markup_bps)


@settings(max_examples=100, deadline=None)
@given(orders())
def test_a_quote_is_the_sweep_it_was_made_from(order):
    """
    The quote holds the walk's own fills, so that what was quoted is what is filled.
    """
    _, book, side, quantity, limit, bound = order
    bounded = None if bound is None else Bound(book.mid, bound)

    swept = sweep(book.levels(side), side, quantity, limit_price=limit, bound=bounded)
    priced = quoted(order)
    assert (swept.fills, swept.stopped_by, swept.filled) == (priced.fills, priced.stopped_by, priced.quantity)
