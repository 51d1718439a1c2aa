"""Orders that venues would accept: steps and minimums, against an exhaustive search on small books."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import product
from random import Random

import pytest

from exchanges.book import UNIT, Side, units
from service.accounting import NOTIONAL, price_text
from service.desk.orders import amount_faults, total_faults
from service.market.book import BookSide, ConsolidatedBook
from service.market.side import OrderRules, VenueSide
from service.pricing.quote import price
from service.pricing.routing import MERGE_AFTER, NODES_MAX, route
from service.pricing.sweep import sweep
from tests.conftest import venue_book
from tests.service.shown import ask, merged, source

BUY, SELL = Side.BUY, Side.SELL


def drawn(priced):
    legs = ", ".join(f"{leg.venue} {price_text(leg.amounts.quantity)}" for leg in priced.legs)
    return legs + ("" if priced.stopped_by is None else f" | {priced.stopped_by}")


def asks(**venues):
    """A book whose asks are drawn, each venue as (ladder, rules)."""
    return merged(
        [source(venue_book(venue, ladder + "\n999 90 ."), 0, **rules) for venue, (ladder, rules) in venues.items()]
    )


@pytest.mark.parametrize(
    ("venues", "quantity", "expected"),
    [
        # The cheap venue takes whole coins only: the half goes to the next one.
        ({"coarse": (". 101 5", {"step": "1"}), "fine": (". 102 5", {"step": "0.1"})}, "2.5", "coarse 2, fine 0.5"),
        # What is left for the dearer venue is less than its minimum: it gets its minimum, the cheap one less ...
        (
            {"cheap": (". 101 5", {"step": "0.1"}), "dear": (". 102 5", {"step": "0.1", "quantity_min": "1"})},
            "5.5",
            "cheap 4.5, dear 1",
        ),
        # ... or nothing, where a third one is cheaper than that.
        (
            {
                "cheap": (". 101 5", {"step": "0.1"}),
                "dear": (". 102 5", {"step": "0.1", "quantity_min": "3"}),
                "third": (". 102.5 5", {"step": "0.1"}),
            },
            "5.5",
            "cheap 5, third 0.5",
        ),
        # A minimum of notional: 0.1 at 101 is 10.1.
        ({"cheap": (". 101 5", {"notional_min": "10.2"}), "dear": (". 102 5", {})}, "0.1", "dear 0.1"),
        ({"cheap": (". 101 5", {"notional_min": "10.1"}), "dear": (". 102 5", {})}, "0.1", "cheap 0.1"),
        # What no venue takes is shortfall, and is called so.
        (
            {"coarse": (". 101 5", {"step": "1"}), "small": (". 102 0.2", {"step": "0.1"})},
            "2.5",
            "coarse 2, small 0.2 | rules",
        ),
        ({"only": (". 101 5", {"step": "0.4"})}, "1", "only 0.8 | rules"),
        # A minimum over two levels.
        ({"only": (". 103 1\n. 101 1", {"notional_min": "150"}), "other": (". 104 9", {})}, "1.4", "other 1.4"),
        ({"only": (". 103 1\n. 101 1", {"notional_min": "150"}), "other": (". 104 9", {})}, "1.5", "only 1.5"),
        # A venue with less than its own minimum takes nothing.
        ({"tiny": (". 101 1", {"quantity_min": "2"}), "other": (". 104 9", {})}, "1", "other 1"),
        ({"tiny": (". 101 1", {"notional_min": "200"}), "other": (". 104 9", {})}, "2", "other 2"),
        # Steps that do not divide each other: 1.2 and 0.5 are 1.7.
        ({"a": (". 101 3", {"step": "0.4"}), "b": (". 102 3", {"step": "0.5"})}, "1.7", "a 1.2, b 0.5"),
    ],
)  # fmt: skip
def test_each_venue_gets_an_order_that_it_accepts(venues, quantity, expected):
    """
    A leg is a multiple of its venue's step and above its minimums, and what does not fit goes to the next best venue.
    """
    book = asks(**venues)
    for reads in (0, MERGE_AFTER):
        book.asks.reads = reads
        assert expected == drawn(price(book, BUY, ask(quantity)))


def test_limit_holds_while_routing():
    """
    A venue's worse levels stay alone when the order is spread anew.
    """
    book = asks(
        coarse=(". 105 5\n. 101 1", {"step": "1"}),
        fine=(". 102 0.3\n. 104 9", {"step": "0.1"}),
    )
    assert "coarse 1, fine 0.3 | limit" == drawn(price(book, BUY, ask("1.5", limit_price="103")))
    assert "coarse 1, fine 0.5" == drawn(price(book, BUY, ask("1.5", limit_price="104")))


def test_answers_to_totals_are_routable():
    """
    The quantity that a total buys is one that the venues accept.
    """
    book = asks(coarse=(". 101 5", {"step": "1"}), fine=(". 102 5", {"step": "0.1"}))

    assert "coarse 2, fine 0.4" == drawn(price(book, BUY, ask(total="250")))
    assert "coarse 2, fine 0.3" == drawn(price(book, BUY, ask(total="242.7")))


# What a client is told.


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("1", []),
        ("0.3", []),
        ("1.05", [("quantity_step", "1")]),
        ("0.25", [("quantity_step", "0.3"), ("quantity_too_small", "0.3")]),
        ("0.2", [("quantity_too_small", "0.3")]),
    ],
)
def test_quantity_that_no_venue_accepts_is_refused_with_one_that_some_would(quantity, expected):
    """
    A quantity is held against the finest step and the smallest minimum of the venues.
    """
    book = asks(
        coarse=(". 101 5", {"step": "1"}),
        fine=(". 102 5", {"step": "0.1", "quantity_min": "0.3", "notional_min": "30"}),
    )

    assert expected == [(fault.code, fault.suggested) for fault in amount_faults(book, [BUY], ask(quantity))]
    assert [] == amount_faults(book, [BUY], ask(total="1"))


def test_notional_that_no_venue_accepts_is_refused_with_the_least_quantity():
    """
    Where the quantity is enough and its worth is not, the least quantity whose worth is enough on both sides is told.
    """
    book = asks(only=(". 101 5", {"step": "0.01", "notional_min": "10"}))
    buy, sell, both = (
        [(fault.code, fault.suggested) for fault in amount_faults(book, sides, ask("0.01"))]
        for sides in ([BUY], [SELL], [BUY, SELL])
    )

    # 0.1 at 101 is 10.1; 0.11 at 90 is 9.9.
    assert ([("notional_too_small", "0.1")], [("notional_too_small", "0.12")]) == (buy, sell)
    assert sell == both
    [fault] = total_faults([price(book, BUY, ask(total="9"))])
    assert ("total", "notional_too_small", "10.1") == (fault.where, fault.code, fault.suggested)
    assert [] == total_faults([price(book, BUY, ask(total="10.1"))])
    assert [] == total_faults([price(book, BUY, ask("1"))])


def test_book_that_no_order_fits_is_thin_not_small():
    """
    Where a venue shows less than its own minimum nothing that a client could send would fit: that is depth.
    """
    book = asks(tiny=(". 101 1", {"quantity_min": "0.1", "notional_min": "200"}))

    assert [] == amount_faults(book, [BUY], ask("1"))
    assert " | rules" == drawn(price(book, BUY, ask("1")))
    assert " | rules" == drawn(price(book, BUY, ask(total="50")))


# Against exhaustive search.

STEPS = (1, 2, 5, 10)
CASES = 3_000


def small_side(random, side):
    """Up to three venues of up to four levels, with steps and minimums, in whole small units."""
    sign = 1 if side is BUY else -1
    venues = []
    for number in range(random.randint(1, 3)):
        step = random.choice(STEPS)
        price_now, prices, quantities = 1_000 + sign * random.randint(0, 12), [], []
        for _ in range(random.randint(1, 4)):
            prices.append(price_now * UNIT)
            quantities.append(step * random.randint(1, max(1, 10 // step)) * UNIT)
            price_now += sign * random.randint(1, 9)
        rate = random.choice([0, 10_000_000, 26_000_000])
        rules = OrderRules(
            step * UNIT, random.choice([0, 0, 2, 4]) * UNIT, random.choice([0, 0, 1_500, 3_500]) * UNIT
        )  # fmt: skip
        venues.append(VenueSide(side, f"v{number}", "BTC/USDT", prices, quantities, (rate,) * len(prices), rate, rules))
    return BookSide(side, venues)


def admissible(venue, quantity):
    if quantity == 0:
        return True
    if quantity % venue.rules.step or quantity < venue.rules.quantity_min:
        return False
    return venue.amounts(quantity).notional >= venue.rules.notional_min * UNIT


def worth(side, quantities):
    """What is left unfilled comes first, then the exact cost net of fees."""
    cost = Fraction(0)
    for venue, quantity in zip(side.venues, quantities, strict=True):
        left = quantity
        for price_, there, rate in zip(venue.prices, venue.quantities, venue.rates, strict=True):
            take = min(left, there)
            sign = 1 if side.side is BUY else -1
            cost += sign * Fraction(price_ * take, NOTIONAL) * (1 + sign * Fraction(rate, 10**10))
            left -= take
    return -sum(quantities), cost


def optimum(side, wanted):
    choices = [
        [q * UNIT for q in range(venue.depth // UNIT + 1) if q * UNIT <= wanted and admissible(venue, q * UNIT)]
        for venue in side.venues
    ]
    return min(worth(side, chosen) for chosen in product(*choices) if sum(chosen) <= wanted)


def test_routing_is_admissible_and_as_good_as_an_exhaustive_search():
    """
    Of 3,000 small books no route is inadmissible or worse than a single venue, and all but 1 % are the very best there
    is; those are within one basis point of it.
    """
    random, missed = Random(20261125), []
    for _ in range(CASES):
        side = small_side(random, random.choice(list(Side)))
        wanted = random.randint(1, 40) * UNIT
        side.reads = random.choice([0, MERGE_AFTER])
        spread = route(side, wanted)
        assert all(admissible(venue, taken) for venue, taken in zip(side.venues, spread.quantities, strict=True))
        assert spread.quantity == sum(spread.quantities) <= wanted
        for number, venue in enumerate(side.venues):
            alone = [0] * len(side.venues)
            alone[number] = max(q * UNIT for q in range(wanted // UNIT + 1)
                                if q * UNIT <= venue.depth and admissible(venue, q * UNIT))  # fmt: skip
            assert worth(side, spread.quantities) <= worth(side, alone)
        best, found = optimum(side, wanted), worth(side, spread.quantities)
        if found != best:
            missed.append((found[0] - best[0], abs(found[1] / best[1] - 1) * 10_000 if found[0] == best[0] else None))

    assert len(missed) <= CASES // 100
    assert all(unfilled == 0 and bps <= 1 for unfilled, bps in missed)


@pytest.mark.parametrize("side", list(Side))
def test_odd_rest_among_many_equal_venues_goes_where_it_is_accepted(side):
    """
    A dozen venues with the same coarse step tie at every level: the rest that none of them takes, less than the fine
    venue's minimum, is rounded out of one of them, and nothing is left unfilled.
    """
    sign, step, fine = 1 if side is BUY else -1, 10**13, 10**10
    prices = [(64_000 + sign * level) * UNIT for level in range(5)]
    coarse = [
        VenueSide(side, f"coarse {n}", "BTC/USDT", prices, (UNIT,) * 5, (10**7,) * 5, 10**7, OrderRules(step, step))
        for n in range(12)
    ]
    dear = VenueSide(
        side, "fine", "BTC/USDT", prices, (UNIT,) * 5, (2 * 10**7,) * 5, 2 * 10**7, OrderRules(fine, 5 * step)
    )
    wanted = 14 * UNIT + 123_450_000 * fine + 678 * fine
    spread = route(BookSide(side, [*coarse, dear]), wanted)

    assert wanted == spread.quantity
    assert 5 * step + 678 * fine == spread.quantities[-1]
    assert all(venue.accepts(taken) for venue, taken in zip([*coarse, dear], spread.quantities, strict=True))


@pytest.mark.parametrize("each", [1, 4])
def test_quantity_that_no_steps_add_up_to_is_filled_as_far_as_they_do(each):
    """
    29 is the largest number that steps of 6, 10 and 15 do not make, though they have no common divisor; 28 it is,
    whether the search ends or is ended.
    """
    venues = [
        VenueSide(BUY, f"v{step}-{n}", "BTC/USDT", [100 * UNIT], [30 * UNIT], (0,), 0, OrderRules(step * UNIT))
        for step in (6, 10, 15)
        for n in range(each)
    ]

    assert 28 * UNIT == route(BookSide(BUY, venues), 29 * UNIT).quantity


def test_search_that_takes_too_long_still_gives_what_venues_accept():
    """
    Many venues with odd steps: after so many sweeps the best found counts, and it is never inadmissible.
    """
    random = Random(7)
    venues = []
    for number in range(20):
        step = (1_000 + 7 * number) * 10**12
        prices = [(1_000 + number % 3 + level) * UNIT for level in range(5)]
        quantities = [step * random.randint(1, 400) for _ in prices]
        venues.append(
            VenueSide(BUY, f"v{number}", "BTC/USDT", prices, quantities, (0,) * 5, 0, OrderRules(step, 20 * step))
        )
    side = BookSide(BUY, venues)
    wanted = side.depth // 3 + 1
    spread = route(side, wanted)

    assert all(venue.accepts(taken) for venue, taken in zip(venues, spread.quantities, strict=True))
    assert 0.99 * wanted <= spread.quantity <= wanted
    assert NODES_MAX < 1_000


def test_one_sided_consolidated_books_need_both_sides_for_mid_only():
    """
    Routing looks at one side; what the other shows does not matter.
    """
    side = BookSide(BUY, [VenueSide(BUY, "a", "BTC/USDT", [101 * UNIT], [UNIT], (0,), 0)])
    book = ConsolidatedBook("BTC/USDT", side, side)

    assert units(Decimal(1)) == price(book, BUY, ask("1")).quantity


def test_sweep_of_more_than_there_is_is_a_bug_and_says_so():
    """
    Limits of more than a venue has are refused, not filled.
    """
    venue = VenueSide(BUY, "v", "BTC/USDT", [UNIT], [UNIT], (0,), 0, OrderRules())

    with pytest.raises(ValueError, match="do not give the quantity"):
        sweep([venue], 2 * UNIT, [0], [3 * UNIT])
