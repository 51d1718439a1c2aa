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
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from exchanges.book import BUY
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
    quantities: Quantities = sweep(venues, quantity, (0,) * len(venues), most)
    if _refusing(venues, quantities):
        quantities = _Router(side, quantity, most).solve(quantities)
    return spread_of(venues, quantities)


def _at_once(side: BookSide, quantity: int) -> Spread:
    """Read a spread off the merged side."""
    number, level, reach, before, notional, subtotal, fees, others_accept = side.merged.place(quantity)
    venue = side.venues[number]
    part = quantity - reach
    quantities = list(before)
    quantities[number] += part
    if not (others_accept and venue.accepts(quantities[number])):
        return spread_of(side.venues, _Router(side, quantity, side.depths).solve(quantities))
    more = venue.prices[level] * part
    return Spread(
        quantities,
        quantity,
        notional + more,
        subtotal + (-(-more // NOTIONAL) if side.side is BUY else more // NOTIONAL),
        fees - (-more * venue.rates[level] // RATED_NOTIONAL),
    )


def _refusing(venues: Sequence[VenueSide], quantities: Quantities) -> list[int]:
    """Find the venues that would refuse their parts."""
    return [
        number
        for number, (venue, taken) in enumerate(zip(venues, quantities, strict=True))
        if taken and not venue.accepts(taken)
    ]


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


_Worth = tuple[int, int]
"""How good a spread is: what it leaves unfilled, then what it costs net of fees (what it brings, negative)."""


class _Found(NamedTuple):
    """A spread that every venue accepts."""

    worth: _Worth
    quantities: Quantities


_Changes = tuple[tuple[int, int], ...]
"""What some venues give in place of what they gave, by number."""


class _Node(NamedTuple):
    """The cheapest spread within limits, still to be looked at; *number* keeps equals in the order of their making."""

    worth: _Worth
    number: int
    quantities: Quantities
    least: Quantities
    most: Quantities


class _Router:
    """One order's branch and bound."""

    def __init__(self, side: BookSide, quantity: int, most: Quantities) -> None:
        self._venues = side.venues
        self._quantity = quantity - quantity % side.common_step  # The rest of it can be had in no way.
        self._most = most
        self._numbers = count()

    def solve(self, quantities: Quantities) -> Quantities:
        """Give the best spread that all venues accept, beginning at the cheapest one, which some refuse."""
        nothing = (0,) * len(self._venues)
        if sum(quantities) != self._quantity:
            quantities = adjusted(self._venues, quantities, self._quantity, nothing, self._most)
        best = _Found((self._quantity, 0), nothing)
        heap = [self._node(quantities, nothing, self._most)]
        looked_at = 0
        while heap and looked_at < NODES_MAX:
            looked_at += 1
            node = heapq.heappop(heap)
            refusing = _refusing(self._venues, node.quantities)
            best = _better(best, self._mended(node, refusing) if refusing else _Found(node.worth, node.quantities))
            if not refusing or best.worth <= _enough(node.worth):
                break
            self._branch(heap, node, refusing[0])
        return self._not_worse_than_one(best).quantities

    def _branch(self, heap: list[_Node], node: _Node, number: int) -> None:
        """Give one venue no more than it accepts below what it got, or no less than it accepts above."""
        venue, taken = self._venues[number], node.quantities[number]
        below = alone(venue, taken, taken)
        above = max(venue.least, below + venue.step)
        limits = [(node.least, _with(node.most, number, below))]
        if above <= node.most[number] and sum(node.least) - node.least[number] + above <= self._quantity:
            limits.append((_with(node.least, number, above), node.most))
        for least, most in limits:
            quantities = adjusted(self._venues, node.quantities, self._quantity, least, most)
            heapq.heappush(heap, self._node(quantities, least, most))

    def _node(self, quantities: Quantities, least: Quantities, most: Quantities) -> _Node:
        cost = sum([venue.cost(taken) for venue, taken in zip(self._venues, quantities, strict=True) if taken])
        return _Node((self._quantity - sum(quantities), cost), next(self._numbers), quantities, least, most)

    def _mended(self, node: _Node, refusing: Sequence[int]) -> _Found:
        """Cut every venue's part to what it accepts, and let one of them absorb what that leaves."""
        venues, enough, cut = self._venues, _enough(node.worth), list(node.quantities)
        (left, cost), giver, given = node.worth, 0, -1
        for number in refusing:
            venue, taken = venues[number], cut[number]
            cut[number] = kept = alone(venue, taken, taken)
            left += taken - kept
            cost += venue.cost(kept) - venue.cost(taken)
            if taken - kept > given:
                giver, given = number, taken - kept
        best: _Worth = (left, cost)
        changes: _Changes = ()
        for number in self._by_cost(cut):
            absorbed = self._absorbed(cut, number, giver, left)
            worth = self._worth(cut, (left, cost), absorbed)
            if worth < best:
                best, changes = worth, absorbed
            if best <= enough:
                break
        for number, taken in changes:
            cut[number] = taken
        return _Found(best, cut)

    def _absorbed(self, cut: Quantities, number: int, giver: int, left: int) -> _Changes:
        """Give *left* to a venue, with so much of the giver's part that it is accepted; or as much of it as may be."""
        venue, wanted = self._venues[number], cut[number] + left
        if number != giver:
            giving = self._venues[giver]
            from_giver = up(venue.least - wanted, giving.step) * giving.step if wanted < venue.least else 0
            kept = cut[giver] - from_giver
            if (
                wanted + from_giver <= self._most[number]
                and venue.accepts(wanted + from_giver)
                and kept >= 0
                and giving.accepts(kept)
            ):
                return ((number, wanted + from_giver), (giver, kept))
        return ((number, alone(venue, wanted, self._most[number])),)

    def _worth(self, quantities: Quantities, worth: _Worth, changes: _Changes) -> _Worth:
        """Give the worth of a spread after some venues' parts have changed."""
        shortfall, cost = worth
        for number, taken in changes:
            before = quantities[number]
            if taken != before:
                venue = self._venues[number]
                shortfall += before - taken
                cost += venue.cost(taken) - venue.cost(before)
        return shortfall, cost

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
                worth = (quantity - taken, venue.cost(taken))
                best = _better(best, _Found(worth, _with((0,) * len(self._venues), number, taken)))
        return best


def _enough(worth: _Worth) -> _Worth:
    """Give what is as good, or worse by so little that looking for better is no use."""
    shortfall, cost = worth
    return shortfall, cost + abs(cost) // NO_MATTER


def _better(one: _Found, other: _Found) -> _Found:
    """Choose the cheaper one, the first among equals."""
    return other if other.worth < one.worth else one


def _with(quantities: Quantities, number: int, quantity: int) -> Quantities:
    """Put one quantity in the place of another."""
    return (*quantities[:number], quantity, *quantities[number + 1 :])
