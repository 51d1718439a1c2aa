"""Merge the levels of all venues of a side, piece by piece where it is asked for.

Pure: no clock, no I/O, no logging.  Levels of a side that changes many times a second are mostly never reached; so the
side is cut at some of its costs, and between two cuts it is merged when an order first ends there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import chain
from math import isqrt
from typing import NamedTuple

from service.market.side import VenueSide


class Place(NamedTuple):
    """
    A level in the merged order, and what has been taken before an order comes to it.

    Args:
        venue: Number of the venue whose level it is.
        level: Its number on that venue, from 0.
        reach: All of the quantity before it.
        quantities: The same per venue.
        notional: Price x quantity before it, exact: a whole number of 10**-36.
        subtotal: Money before it.
        fees: Money before it.
        others_accept: All venues but its own would accept what they give before it as an order.
    """

    venue: int
    level: int
    reach: int
    quantities: tuple[int, ...]
    notional: int
    subtotal: int
    fees: int
    others_accept: bool


class _Piece(NamedTuple):
    """The levels between two cuts: the quantity up to and including each, and the level's place."""

    reach: list[int]
    places: list[Place]


class Merged:
    """All levels of a side in the order of their costs; equal ones in the venues' order."""

    def __init__(self, venues: Sequence[VenueSide]) -> None:
        """Cut the side into pieces of about the square root of its levels."""
        self._venues = venues
        every = max(1, isqrt(sum(len(venue.costs) for venue in venues)))
        cuts = sorted(chain.from_iterable(venue.costs[every - 1 :: every] for venue in venues))
        ends = [[*(bisect_right(venue.costs, cut) for cut in cuts), len(venue.costs)] for venue in venues]
        self._ends = [[0] * len(venues), *map(list, zip(*ends, strict=True))]
        reached = [[venue.reach[end] for end in own] for venue, own in zip(venues, ends, strict=True)]
        self._reach = list(map(sum, zip(*reached, strict=True)))
        self._pieces: list[_Piece | None] = [None] * len(self._reach)

    def place(self, quantity: int) -> Place:
        """Find the level in which an order of *quantity*, at most all there is, ends."""
        number = bisect_left(self._reach, quantity)
        piece = self._pieces[number]
        if piece is None:
            piece = self._pieces[number] = self._merge(self._ends[number], self._ends[number + 1])
        return piece.places[bisect_left(piece.reach, quantity)]

    def _merge(self, starts: Sequence[int], stops: Sequence[int]) -> _Piece:
        venues = self._venues
        levels = sorted(
            (venue.costs[level], number, level)
            for number, venue in enumerate(venues)
            for level in range(starts[number], stops[number])
        )
        quantities = [venue.reach[start] for venue, start in zip(venues, starts, strict=True)]
        notional = sum(venue.notionals[start] for venue, start in zip(venues, starts, strict=True))
        subtotal = sum(venue.subtotals[start] for venue, start in zip(venues, starts, strict=True))
        fees = sum(venue.fees[start] for venue, start in zip(venues, starts, strict=True))
        refusing = [not venue.accepts(taken) for venue, taken in zip(venues, quantities, strict=True)]
        reach, reaches, places = sum(quantities), [], []
        for _, number, level in levels:
            venue = venues[number]
            others_accept = sum(refusing) == refusing[number]
            places.append(Place(number, level, reach, tuple(quantities), notional, subtotal, fees, others_accept))
            quantities[number] = venue.reach[level + 1]
            refusing[number] = not venue.accepts(quantities[number])
            reach += venue.quantities[level]
            notional += venue.notionals[level + 1] - venue.notionals[level]
            subtotal += venue.subtotals[level + 1] - venue.subtotals[level]
            fees += venue.fees[level + 1] - venue.fees[level]
            reaches.append(reach)
        return _Piece(reaches, places)
