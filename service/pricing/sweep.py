"""Find how an order is spread over the venues for the best net price.

Pure: no clock, no I/O, no logging.  Quoting and mock-filling share this, so an order on the same book gets exactly the
fills it was quoted.  A spread is one quantity per venue: each venue is taken best first, so its quantity says which
levels are taken, and ``VenueSide`` what they cost.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from service.market.side import VenueSide

Quantities = Sequence[int]
"""One per venue of a side, in its order; whole numbers of 10**-18 of the base asset."""


def sweep(venues: Sequence[VenueSide], quantity: int, least: Quantities, most: Quantities) -> list[int]:
    """
    Take the cheapest *quantity* that gives each venue no less and no more than it may have.

    Costs a few bisections per venue, however deep the order goes.

    Args:
        least: Per venue, from 0; together at most *quantity*.
        most: Per venue, from *least* to its depth.

    Returns:
        Quantities that sum to *quantity*, or to all of *most* where that is less.
    """
    if quantity >= sum(most):
        return list(most)
    cost = _end(venues, quantity, least, most)
    taken = [
        min(max(venue.reach[bisect_left(venue.costs, cost)], low), high)
        for venue, low, high in zip(venues, least, most, strict=True)
    ]
    left = quantity - sum(taken)
    for number, venue in enumerate(venues):
        if left <= 0:
            break
        there = min(venue.reach[bisect_right(venue.costs, cost)], most[number])
        more = min(left, max(0, there - taken[number]))
        taken[number] += more
        left -= more
    return taken


def _end(venues: Sequence[VenueSide], quantity: int, least: Quantities, most: Quantities) -> int:
    """
    Find the smallest cost up to which the venues give *quantity* together.

    The levels that may be it are halved again and again, by the middle one of the venue that has most of them.
    """
    low = [0] * len(venues)
    high = [len(venue.costs) for venue in venues]
    found = None
    while True:
        widest = max(range(len(venues)), key=lambda number: high[number] - low[number])
        if high[widest] == low[widest]:
            break
        pivot = venues[widest].costs[(low[widest] + high[widest]) // 2]
        ends = [
            bisect_right(venue.costs, pivot, start, stop) for venue, start, stop in zip(venues, low, high, strict=True)
        ]
        there = sum(
            min(max(venue.reach[end], fewest), at_most)
            for venue, end, fewest, at_most in zip(venues, ends, least, most, strict=True)
        )
        if there >= quantity:
            found = pivot
            high = [
                bisect_left(venue.costs, pivot, start, end) for venue, start, end in zip(venues, low, ends, strict=True)
            ]
        else:
            low = ends
    if found is None:
        raise ValueError("the venues together do not give the quantity")
    return found


def adjusted(
    venues: Sequence[VenueSide], quantities: Quantities, quantity: int, least: Quantities, most: Quantities
) -> list[int]:
    """
    Bring a cheapest spread to other limits by moving as little as they ask for.

    Args:
        quantities: The cheapest for its own sum, but for those that *least* and *most* have just moved.

    Returns:
        What ``sweep`` would give: the next cheapest is added, or the dearest given back, until the sum is *quantity*,
        or nothing more may be moved.
    """
    taken = [min(max(one, low), high) for one, low, high in zip(quantities, least, most, strict=True)]
    missing = quantity - sum(taken)
    while missing > 0 and (found := _next(venues, taken, most)) is not None:
        number, room = found
        more = min(missing, room)
        taken[number] += more
        missing -= more
    while missing < 0 and (found := _last(venues, taken, least)) is not None:
        number, room = found
        less = min(-missing, room)
        taken[number] -= less
        missing += less
    return taken


def _next(venues: Sequence[VenueSide], taken: Quantities, most: Quantities) -> tuple[int, int] | None:
    """Find the venue with the cheapest level that is not used up, and how much of that may be added."""
    found, cost = None, 0
    for number, (venue, there, at_most) in enumerate(zip(venues, taken, most, strict=True)):
        if there < at_most:
            level = bisect_right(venue.reach, there) - 1
            if found is None or venue.costs[level] < cost:
                found, cost = (number, min(venue.reach[level + 1], at_most) - there), venue.costs[level]
    return found


def _last(venues: Sequence[VenueSide], taken: Quantities, least: Quantities) -> tuple[int, int] | None:
    """Find the venue with the dearest level that is used, and how much of that may be given back."""
    found, cost = None, 0
    for number, (venue, there, at_least) in enumerate(zip(venues, taken, least, strict=True)):
        if there > at_least:
            level = bisect_left(venue.reach, there) - 1
            if found is None or venue.costs[level] >= cost:
                found, cost = (number, there - max(venue.reach[level], at_least)), venue.costs[level]
    return found
