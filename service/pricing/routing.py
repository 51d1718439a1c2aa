"""Give every venue an order that it would accept.

Pure: no clock, no I/O, no logging.  A venue takes a multiple of its quantity step, at least its minimum quantity and
its minimum notional, or nothing.  Almost always the cheapest spread is of that kind.  Where it is not, the order is
solved by branch and bound: a venue that got too little gets nothing, or its least; one that got a broken step gets the
step below, or the step above; and each of both is swept again within these limits.  The cheapest sweep is looked at
first, so the first one that every venue accepts is the best there is.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import count
from math import gcd
from typing import NamedTuple

from exchanges.book import Side
from service.accounting import NOTIONAL, RATED_NOTIONAL, up
from service.market.book import BookSide
from service.market.side import Amounts, VenueSide
from service.pricing.sweep import Quantities, adjusted, sweep

NODES_MAX = 64
"""So many sweeps are tried before the best one found counts."""
NO_MATTER = 10**7
"""Parts of the cost of which one is not looked for: a thousandth of a basis point."""
MERGE_AFTER = 4
"""A side that is read so often is merged where it is read: the first few orders cost less without, many less with."""


class Spread(NamedTuple):
    """
    What each venue of a side gives, in the side's order, and what it comes to.

    ``quantity`` is the sum of ``quantities``; ``notional`` the exact sum of price x quantity, a whole number of
    10**-36; ``subtotal`` and ``fees`` are money, sums of fills that each rounded for itself.  ``amounts`` are those of
    the venues that give something, without a markup, where they have been looked up.
    """

    quantities: Quantities
    quantity: int
    notional: int
    subtotal: int
    fees: int
    amounts: Sequence[Amounts] | None = None


def route(side: BookSide, quantity: int, most: Quantities | None = None) -> Spread:
    """
    Spread an order over the venues.

    Args:
        quantity: A whole number of 10**-18 of the base asset, > 0.
        most: What each venue may give at most (a limit price leaves its worse levels alone); None for all.

    Returns:
        A quantity per venue that the venue accepts; together at most *quantity*.  Less than that is all that is left
        where the book ends, or what no venue would accept.
    """
    venues = side.venues
    if most is None:
        side.reads += 1
        most = side.depths
        if side.reads > MERGE_AFTER and quantity < side.depth:
            return _at_once(side, quantity)
    return _accepted(venues, quantity, sweep(venues, quantity, (0,) * len(venues), most), most)


def _at_once(side: BookSide, quantity: int) -> Spread:
    """Read a spread off the merged side."""
    number, level, reach, before, notional, subtotal, fees, others_accept = side.merged.place(quantity)
    venue = side.venues[number]
    part = quantity - reach
    quantities = list(before)
    quantities[number] += part
    if not (others_accept and venue.accepts(quantities[number])):
        return _accepted(side.venues, quantity, quantities, side.depths)
    more = venue.prices[level] * part
    return Spread(
        quantities,
        quantity,
        notional + more,
        subtotal + (-(-more // NOTIONAL) if side.side is Side.BUY else more // NOTIONAL),
        fees - (-more * venue.rates[level] // RATED_NOTIONAL),
    )


def _accepted(venues: Sequence[VenueSide], quantity: int, quantities: Quantities, most: Quantities) -> Spread:
    """Sum up the cheapest spread, or the best one that every venue accepts."""
    if _refusing(venues, quantities) is not None:
        quantities = _Router(venues, quantity, most).solve(quantities)
    return spread_of(venues, quantities)


def _refusing(venues: Sequence[VenueSide], quantities: Quantities) -> int | None:
    """Find the first venue that would refuse its part."""
    for number, (venue, taken) in enumerate(zip(venues, quantities, strict=True)):
        if not venue.accepts(taken):
            return number
    return None


def spread_of(venues: Sequence[VenueSide], quantities: Quantities) -> Spread:
    """Sum up what quantities per venue come to."""
    amounts = [venue.amounts(taken) for venue, taken in zip(venues, quantities, strict=True) if taken]
    quantity = notional = subtotal = fees = 0
    for taken, _, _, venue_notional, venue_subtotal, fee, _ in amounts:
        quantity += taken
        notional += venue_notional
        subtotal += venue_subtotal
        fees += fee
    return Spread(quantities, quantity, notional, subtotal, fees, amounts)


def alone(venue: VenueSide, quantity: int, most: int) -> int:
    """Give how much of *quantity* one venue by itself would fill: all or, within its rules, as much as it can."""
    taken = quantity if quantity < most else most
    taken -= taken % venue.step
    return taken if taken >= venue.least else 0


class _Worth(NamedTuple):
    """How good a spread is: what it leaves unfilled, then what it costs net of fees (what it brings, negative)."""

    shortfall: int
    cost: int

    @property
    def enough(self) -> _Worth:
        """Give what is as good, or worse by so little that looking for better is no use."""
        return _Worth(self.shortfall, self.cost + abs(self.cost) // NO_MATTER)


class _Found(NamedTuple):
    """A spread that every venue accepts."""

    worth: _Worth
    quantities: Quantities


class _Node(NamedTuple):
    """The cheapest spread within limits, still to be looked at; *number* keeps equals in the order of their making."""

    worth: _Worth
    number: int
    quantities: Quantities
    least: Quantities
    most: Quantities


class _Router:
    """One order's branch and bound."""

    def __init__(self, venues: Sequence[VenueSide], quantity: int, most: Quantities) -> None:
        self._venues = venues
        self._steps = [venue.step for venue in venues]
        self._quantity = quantity - quantity % gcd(*self._steps)  # The rest of it can be had in no way.
        self._most = most
        self._numbers = count()

    def solve(self, quantities: Quantities) -> Quantities:
        """Give the best spread that all venues accept, beginning at the cheapest one, which some refuse."""
        heap: list[_Node] = []
        nothing = (0,) * len(self._venues)
        if sum(quantities) != self._quantity:
            quantities = adjusted(self._venues, quantities, self._quantity, nothing, self._most)
        self._push(heap, quantities, nothing, self._most)
        best = _Found(_Worth(self._quantity, 0), (0,) * len(self._venues))
        looked_at = 0
        while heap and looked_at < NODES_MAX:
            looked_at += 1
            node = heapq.heappop(heap)
            number = _refusing(self._venues, node.quantities)
            best = _better(best, self._mended(node) if number is not None else _Found(node.worth, node.quantities))
            if number is None or best.worth <= node.worth.enough:
                break
            self._branch(heap, node, number)
        return self._not_worse_than_one(best).quantities

    def _branch(self, heap: list[_Node], node: _Node, number: int) -> None:
        """Give one venue no more than it accepts below what it got, or no less than it accepts above."""
        venue, taken = self._venues[number], node.quantities[number]
        below = alone(venue, taken, taken)
        above = max(venue.least, below + self._steps[number])
        limits = [(node.least, _with(node.most, number, below))]
        if above <= node.most[number] and sum(node.least) - node.least[number] + above <= self._quantity:
            limits.append((_with(node.least, number, above), node.most))
        for least, most in limits:
            self._push(heap, adjusted(self._venues, node.quantities, self._quantity, least, most), least, most)

    def _push(self, heap: list[_Node], quantities: Quantities, least: Quantities, most: Quantities) -> None:
        cost = sum([venue.cost(taken) for venue, taken in zip(self._venues, quantities, strict=True) if taken])
        worth = _Worth(self._quantity - sum(quantities), cost)
        heapq.heappush(heap, _Node(worth, next(self._numbers), quantities, least, most))

    def _mended(self, node: _Node) -> _Found:
        """Cut every venue's part to what it accepts, and let one of them absorb what that leaves."""
        cut = [
            alone(venue, taken, taken) if taken else 0
            for venue, taken in zip(self._venues, node.quantities, strict=True)
        ]
        changes = [(number, taken) for number, taken in enumerate(cut) if taken != node.quantities[number]]
        best = base = self._moved(_Found(node.worth, node.quantities), changes)
        giver, given = 0, -1
        for number, taken in changes:
            if node.quantities[number] - taken > given:
                giver, given = number, node.quantities[number] - taken
        enough = node.worth.enough
        for number in self._by_cost(cut):
            best = _better(best, self._moved(base, self._absorbed(cut, number, giver, base.worth.shortfall)))
            if best.worth <= enough:
                break
        return best

    def _absorbed(self, cut: Quantities, number: int, giver: int, left: int) -> list[tuple[int, int]]:
        """Give *left* to a venue, with so much of the giver's part that it is accepted; or as much of it as may be."""
        venue, taken = self._venues[number], cut[number]
        if number != giver:
            from_giver = up(max(0, venue.least - taken - left), self._steps[giver]) * self._steps[giver]
            wanted, kept = taken + left + from_giver, cut[giver] - from_giver
            if (
                wanted <= self._most[number]
                and venue.accepts(wanted)
                and kept >= 0
                and self._venues[giver].accepts(kept)
            ):
                return [(number, wanted), (giver, kept)]
        return [(number, alone(venue, taken + left, self._most[number]))]

    def _moved(self, found: _Found, changes: Iterable[tuple[int, int]]) -> _Found:
        """Change what some venues give."""
        (shortfall, cost), quantities = found.worth, list(found.quantities)
        for number, taken in changes:
            before = quantities[number]
            if taken != before:
                venue = self._venues[number]
                shortfall += before - taken
                cost += venue.cost(taken) - venue.cost(before)
                quantities[number] = taken
        return _Found(_Worth(shortfall, cost), quantities)

    def _by_cost(self, taken: Quantities) -> list[int]:
        """Name the venues that have more, the one whose next level is the cheapest first."""
        next_costs = [
            (venue.costs[bisect_right(venue.reach, there) - 1 if there else 0], number)
            for number, (venue, there, most) in enumerate(zip(self._venues, taken, self._most, strict=True))
            if there < most
        ]
        next_costs.sort()
        return [number for _, number in next_costs]

    def _not_worse_than_one(self, best: _Found) -> _Found:
        """Use one venue only, where that is better."""
        quantity = self._quantity
        for number, (venue, most) in enumerate(zip(self._venues, self._most, strict=True)):
            shortfall, cost = best.worth
            if not shortfall and venue.costs[0] * quantity >= cost:
                continue  # Even all of it at the best price would be no better.
            taken = alone(venue, quantity, most)
            if taken and quantity - taken <= shortfall:
                worth = _Worth(quantity - taken, venue.cost(taken))
                best = _better(best, _Found(worth, _with((0,) * len(self._venues), number, taken)))
        return best


def _better(one: _Found, other: _Found) -> _Found:
    """Choose the cheaper one, the first among equals."""
    return other if other.worth < one.worth else one


def _with(quantities: Quantities, number: int, quantity: int) -> Quantities:
    """Put one quantity in the place of another."""
    return (*quantities[:number], quantity, *quantities[number + 1 :])
