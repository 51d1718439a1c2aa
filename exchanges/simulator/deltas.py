"""Find what has changed between two books, as a stream tells it.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from exchanges.simulator.market import Book, Level

_NONE_LEFT = Decimal(0)
Resting = Mapping[Decimal | None, Decimal | None]
"""Quantities by price; of a price that stands twice, the last."""


class Shown(NamedTuple):
    """Hold a book as the readers of a stream have it."""

    book: Book
    bids: Resting
    asks: Resting


def shown(book: Book) -> Shown:
    """Take *book* as what readers have been shown."""
    return Shown(book, _resting(book.bids), _resting(book.asks))


def changes(
    before: Shown, now: Shown, cut_at: int | None, between: Sequence[Shown] = ()
) -> tuple[list[Level], list[Level]]:
    """
    Tell what has changed.

    Args:
        between: What readers were not shown, but may have been answered with: what changed and changed back is told,
            too.
        cut_at: Readers cut their books to so many levels a side: of a level that is only pushed below the last one,
            nothing is said.  None if they do not.

    Returns:
        For bids and asks, the levels that are new or differ in quantity, best first, then those that are gone, with
        quantity zero.  A price that stands twice is told each time.
    """
    return (
        _side([state.bids for state in (before, *between)], now.bids, now.book.bids, cut_at, -1),
        _side([state.asks for state in (before, *between)], now.asks, now.book.asks, cut_at, 1),
    )


def _resting(side: Sequence[Level]) -> Resting:
    return {level.price: level.quantity for level in side}


def _side(states: Sequence[Resting], now: Resting, side: Sequence[Level], cut_at: int | None, away: int) -> list[Level]:
    twice = len(now) < len(side)
    first, *others = states
    told = [
        level
        for level in side
        if twice
        or first.get(level.price, _NONE_LEFT) != level.quantity
        or (others and any(state.get(level.price, _NONE_LEFT) != level.quantity for state in others))
    ]
    last = side[-1].price if cut_at is not None and len(side) >= cut_at else None
    before = dict.fromkeys(price for state in states for price in state)
    gone = [price for price in before if price not in now and not _beyond(price, last, away)]
    return told + [Level(price, _NONE_LEFT, 0, 0) for price in gone]


def _beyond(price: Decimal | None, last: Decimal | None, away: int) -> bool:
    if price is None or last is None or price.is_nan() or last.is_nan():
        return False
    return (price - last) * away > 0
