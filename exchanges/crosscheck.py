"""Hold a streamed book against one that was asked for, to find what its stream does not reveal.

Pure.  Some venues' streams say nothing of a change that was lost (Bitstamp's among them); the book then shows levels
that are not there, or hides some that are, until they change again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from exchanges.book import Ladder, VenueBook

CLOCKS_APART_MS = 500
"""By how much the clocks of a venue's answers and streams may differ."""


class Shown(NamedTuple):
    """
    A book as a venue showed it, with its own marks of the moment.

    Args:
        sequence: The venue's number of this state, if it has one.
        time_ms: The venue's time of it, if it sends one.
    """

    book: VenueBook
    sequence: int | None
    time_ms: int | None


def reached(streamed: Shown, asked: Shown) -> bool:
    """Tell whether a stream has come as far as an answer."""
    place, goal, margin, _ = _placed(streamed, asked)
    return place >= goal + margin


def around(streamed: Sequence[Shown], asked: Shown) -> tuple[bool, Sequence[Shown]]:
    """
    Find the part of a stream among which an answer was made.

    Args:
        streamed: One after the other, at least one.

    Returns:
        Whether the venue's own sequence or time told so, and the books from the last one that is surely older to the
        first one that is surely newer, or to the end; none if all of them are newer.
    """
    keyed = _placed(streamed[-1], asked)[3]
    if not keyed:
        return False, streamed
    places = [_placed(shown, asked) for shown in streamed]
    older = [n for n, (place, goal, margin, _) in enumerate(places) if place <= goal - margin]
    newer = [n for n, (place, goal, margin, _) in enumerate(places) if place >= goal + margin]
    if not older:
        return True, ()
    return True, streamed[older[-1] : newer[0] + 1 if newer else len(streamed)]


def _placed(streamed: Shown, asked: Shown) -> tuple[int, int, int, bool]:
    """Give the places of both on the best scale they share, how far apart they may seem, and whether it is theirs."""
    if streamed.sequence is not None and asked.sequence is not None:
        return streamed.sequence, asked.sequence, 0, True
    if streamed.time_ms is not None and asked.time_ms is not None:
        return streamed.time_ms, asked.time_ms, CLOCKS_APART_MS, True
    return streamed.book.received_at_ns, asked.book.received_at_ns, 0, False


def contradictions(asked: VenueBook, streamed: Sequence[VenueBook]) -> frozenset[tuple[int, int, int]]:
    """
    Find the levels that stood still in the stream while the venue showed something else.

    A level that the stream changed meanwhile says nothing: nobody knows at which moment the answer was made.  One that
    came and went between two messages of the stream, which tell of a tenth of a second each, is found here, too: of a
    book that is wrong, the next answer says the same.

    Args:
        asked: The book that the venue answered with.
        streamed: What the stream showed, one after the other, around the moment at which the answer was made.

    Returns:
        Each as its side (-1 for bids, 1 for asks), its price, and the quantity that the venue showed, 0 if none.
    """
    bids = [book.bids for book in streamed]
    asks = [book.asks for book in streamed]
    return frozenset((*_of_side(asked.bids, bids, -1), *_of_side(asked.asks, asks, 1)))


def _of_side(asked: Ladder, streamed: Sequence[Ladder], away: int) -> list[tuple[int, int, int]]:
    """Compare the prices that all of them reach; *away* is 1 where prices rise away from the market."""
    reach = min(side.prices[-1] * away for side in (asked, *streamed))
    shown = _levels(asked, reach, away)
    states = [_levels(side, reach, away) for side in streamed]
    still = {
        price: states[0].get(price, 0)
        for price in set(shown).union(*states)
        if all(state.get(price, 0) == states[0].get(price, 0) for state in states)
    }
    return [(away, price, shown.get(price, 0)) for price, quantity in still.items() if shown.get(price, 0) != quantity]


def _levels(side: Ladder, reach: int, away: int) -> dict[int, int]:
    return {
        price: quantity for price, quantity in zip(side.prices, side.quantities, strict=True) if price * away <= reach
    }
