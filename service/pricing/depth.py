"""Say how much rests within so many basis points of mid.

Pure: no clock, no I/O, no logging.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from exchanges.book import Side
from service.accounting import up
from service.market.book import ConsolidatedBook

_ONE = 10**16
"""A distance of 1; basis points in requests have up to 12 decimals."""


class Resting(NamedTuple):
    """Base asset (a whole number of 10**-18) and what it comes to before fees (money), per side of the book."""

    bid_quantity: int
    bid_notional: int
    ask_quantity: int
    ask_notional: int


class Band(NamedTuple):
    """What rests within *bps* of mid by the prices that are shown, in all and per venue."""

    bps: Decimal
    all: Resting
    venues: dict[str, Resting]


def bands(book: ConsolidatedBook, distances_bps: Sequence[Decimal]) -> list[Band]:
    """Measure the book within each distance, in the order given; a level at the very distance is within."""
    return [_band(book, distance) for distance in distances_bps]


def _band(book: ConsolidatedBook, distance_bps: Decimal) -> Band:
    share = int(distance_bps * 10**12)
    bids = _within(book, Side.SELL, up(book.twice_mid * (_ONE - share), 2 * _ONE))
    asks = _within(book, Side.BUY, book.twice_mid * (_ONE + share) // (2 * _ONE))
    venues = {venue: Resting(*bids.get(venue, (0, 0)), *asks.get(venue, (0, 0))) for venue in book.venues}
    return Band(distance_bps, Resting(*map(sum, zip(*venues.values(), strict=True))), venues)


def _within(book: ConsolidatedBook, side: Side, limit_price: int) -> dict[str, tuple[int, int]]:
    found = {}
    for venue in book.side(side).venues:
        quantity = venue.within(limit_price)
        found[venue.venue] = (quantity, venue.amounts(quantity).subtotal if quantity else 0)
    return found
