"""All that a board is ever told, as values.

Pure.  A board judges by nothing else: two boards that were told the same, in the same order, are the same board, and
at every moment give the same sources.  That is what a recording holds, and why a replay is exact.

Times are of the boot-time clock, in ns.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from exchanges.book import VenueBook
from exchanges.instruments import Instrument


class Seated(NamedTuple):
    """Room was made for a venue's book of a symbol."""

    venue: str
    symbol: str
    stale_after_ms: int
    now_ns: int


class Unseated(NamedTuple):
    """A venue was taken away from a symbol that it does not trade, or that is not served any more."""

    venue: str
    symbol: str


class Arranged(NamedTuple):
    """Other venues, symbols and numbers took effect; seats of venues and symbols that are not named went."""

    venues: tuple[str, ...]
    symbols: tuple[str, ...]
    outlier_bps: Decimal


class Instructed(NamedTuple):
    """A venue's rules for a symbol came to be known, or changed."""

    instrument: Instrument


class Published(NamedTuple):
    """A book passed its own checks; what the other venues' books say of it is for the board to find."""

    book: VenueBook
    now_ns: int
    frozen_side: bool


class Rejected(NamedTuple):
    """A book failed a check."""

    venue: str
    symbol: str
    reason: str
    now_ns: int


class Doubted(NamedTuple):
    """A book that had been accepted turned out to be wrong."""

    venue: str
    symbol: str
    reason: str
    now_ns: int


class Emptied(NamedTuple):
    """A book was thrown away that could not be kept up to date."""

    venue: str
    symbol: str
    reason: str
    now_ns: int


class Failed(NamedTuple):
    """A request gave no book."""

    venue: str
    symbol: str
    reason: str
    now_ns: int
    at_once: bool


class Spoiled(NamedTuple):
    """Every book became unusable until it is refreshed."""

    reason: str
    now_ns: int


Input = Seated | Unseated | Arranged | Instructed | Published | Rejected | Doubted | Emptied | Failed | Spoiled


def venue_of(told: Input) -> str | None:
    """Name the venue that something was told of; None where it is of all of them."""
    match told:
        case Published(book=book):
            return book.venue
        case Instructed(instrument=instrument):
            return instrument.venue
        case Spoiled() | Arranged():
            return None
        case _:
            return told.venue
