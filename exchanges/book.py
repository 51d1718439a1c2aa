"""One venue's order book, and the checks that it must pass before it counts.

Pure: no clock, no I/O, no logging.  A book is accepted whole or rejected whole, with one reason; nothing in it is
repaired.  ccxt answers garbage with an empty book and no exception on most venues, so these checks, and not its
exceptions, decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from exchanges.clock import MS

LEVELS_MAX = 5_000
"""Levels a side that a book keeps at most."""
NUMBER_MAX = 1e12
"""Prices and quantities have at most 12 integer digits ..."""
NUMBER_MIN = 1e-18
"""... and nothing is traded in finer amounts than this; smaller ones are a fault of the message."""
CLOCK_LAG_MAX_MS = 5_000
"""How much later than usual a venue's time of generation may come in."""
LEAP_MIN, LEAP_FACTOR = 10_000, 1_000
"""A sequence that runs ahead by more than both this number and this many times its recent pace has leapt: believing it
would make every book after it look old."""
PACE_MIN_NS = 3_000 * MS
"""A pace is known after this long."""
HISTORY_NS = 30_000 * MS
"""How far back "recent" reaches, and how long a venue that began anew must agree with itself to be believed."""
FROZEN_SIDE_NS = 30_000 * MS
FROZEN_SIDE_BOOKS = 10
"""One side is frozen when it stood still this long, over at least so many changes of the other."""


class Side(StrEnum):
    """Side of an order: the client's.  BUY lifts asks, SELL hits bids."""

    BUY = "buy"
    SELL = "sell"


class Level(NamedTuple):
    """One price (quote asset per base asset) and the quantity (base asset) resting there."""

    price: Decimal
    quantity: Decimal


class Reject(StrEnum):
    """Why a book does not count."""

    EMPTY = "empty"
    ONE_SIDED = "one_sided"
    BAD_NUMBER = "bad_number"
    CROSSED = "crossed"
    LOCKED = "locked"
    DUPLICATE_PRICE = "duplicate_price"
    WRONG_SYMBOL = "wrong_symbol"
    TOO_LARGE = "too_large"
    OUT_OF_ORDER = "out_of_order"
    LAGGING = "lagging"


class BookRejected(ValueError):
    """Say which check a book failed."""

    def __init__(self, reason: Reject) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RawBook:
    """
    A book as a venue's message gave it, unchecked.

    Args:
        symbol: What the message says it is for.
        bids: ``[price, quantity, ...]`` rows of floats, in any order.
        asks: The same.
        sequence: The venue's own number of this state of the book, if it has one.
        time_ms: The venue's own time of it, Unix milliseconds, if it sends one.
    """

    symbol: str | None
    bids: Sequence[Any]
    asks: Sequence[Any]
    sequence: int | None = None
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class VenueBook:
    """
    A checked book of one venue; replaced whole, never edited.

    Args:
        venue: The venue's name in the settings.
        symbol: What is traded, ``BTC/USDT``.
        bids: Best (highest) first, never empty.
        asks: Best (lowest) first, never empty, all above the bids.
        received_at_ns: Boot-time clock; when its request was sent, or earlier where the venue's own clock shows
            that the book is older.
        sequence: The venue's own number of this state, if it has one.
    """

    venue: str
    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    received_at_ns: int
    sequence: int | None

    @property
    def mid(self) -> Decimal:
        """Give (best bid + best ask) / 2."""
        return (self.bids[0].price + self.asks[0].price) / 2


def decode(
    raw: RawBook,
    *,
    venue: str,
    symbol: str,
    received_at_ns: int,
    depth: int = LEVELS_MAX,
    merge_repeats: bool = False,
) -> VenueBook:
    """
    Check a raw book whole and make it exact.

    Every level is checked; then each side is cut to *depth* levels (at most ``LEVELS_MAX``).

    Args:
        raw: Floats as ccxt hands them out; ``Decimal(repr(x))`` gives back the text the venue sent.
        received_at_ns: Boot-time clock.
        merge_repeats: Add up levels of one price; only for venues whose documented format repeats prices.

    Raises:
        BookRejected: With the first check that failed.
    """
    if raw.symbol != symbol:
        raise BookRejected(Reject.WRONG_SYMBOL)
    if not raw.bids and not raw.asks:
        raise BookRejected(Reject.EMPTY)
    if not raw.bids or not raw.asks:
        raise BookRejected(Reject.ONE_SIDED)
    bids = _sorted_side(raw.bids, descending=True)
    asks = _sorted_side(raw.asks, descending=False)
    if bids[0][0] > asks[0][0]:
        raise BookRejected(Reject.CROSSED)
    if bids[0][0] == asks[0][0]:
        raise BookRejected(Reject.LOCKED)
    depth = min(depth, LEVELS_MAX)
    return VenueBook(
        venue=venue,
        symbol=symbol,
        bids=_exact_side(bids, depth, merge_repeats),
        asks=_exact_side(asks, depth, merge_repeats),
        received_at_ns=received_at_ns,
        sequence=raw.sequence,
    )


def _sorted_side(rows: Sequence[Any], *, descending: bool) -> list[tuple[float, float]]:
    """Give (price, quantity) floats best first, or reject a row that is not two plausible numbers."""
    levels: list[tuple[float, float]] = []
    for row in rows:
        try:
            price, quantity = row[0], row[1]
            # A NaN fails every comparison, a None or a string raises.
            plausible = NUMBER_MIN <= price < NUMBER_MAX and NUMBER_MIN <= quantity < NUMBER_MAX
        except (TypeError, IndexError, KeyError):
            raise BookRejected(Reject.BAD_NUMBER) from None
        if not plausible:
            raise BookRejected(Reject.BAD_NUMBER)
        levels.append((price, quantity))
    levels.sort(key=_price, reverse=descending)
    return levels


def _price(level: tuple[float, float]) -> float:
    return level[0]


def _exact_side(rows: list[tuple[float, float]], depth: int, merge_repeats: bool) -> tuple[Level, ...]:
    if not merge_repeats:
        if any(better[0] == worse[0] for better, worse in pairwise(rows)):
            raise BookRejected(Reject.DUPLICATE_PRICE)
        return tuple(Level(exact(price), exact(quantity)) for price, quantity in rows[:depth])
    merged: dict[Decimal, Decimal] = {}
    for price, quantity in rows:
        key = exact(price)
        merged[key] = merged.get(key, Decimal(0)) + exact(quantity)
    return tuple(Level(price, quantity) for price, quantity in list(merged.items())[:depth])


def exact(number: float) -> Decimal:
    """Give the shortest decimal that reads back as this float: the venue's own text, up to 15 significant digits."""
    return Decimal(repr(number))


@dataclass(frozen=True, slots=True)
class _Restart:
    """A run of refused books that agree with each other: the venue may have begun anew."""

    since_ns: int
    sequence: int | None
    time_ms: int | None
    offset_ms: int | None


class Continuity:
    """Hold each book of one venue and symbol against the ones before it.

    Finds what no single book shows: a sequence or a clock that goes back, answers from an old cache, one side that
    stands still while the other moves.  A venue that numbers its books anew, or sets its clock, is believed again
    after ``HISTORY_NS`` of books that agree with each other; a clock that stands still never agrees.
    """

    def __init__(self, *, time_is_generation: bool) -> None:
        """
        Begin without a history.

        Args:
            time_is_generation: The venue documents its time as that of the message's generation, so that it
                may be read as a sign of age; elsewhere it may be the last change, and only its order counts.
        """
        self._time_is_generation = time_is_generation
        self._sequence: int | None = None
        self._sequences: deque[tuple[int, int]] = deque()
        self._time_ms: int | None = None
        # (when, offset to our clock) of accepted books, offsets rising: the first is the smallest recent one.
        self._offsets: deque[tuple[int, int]] = deque()
        self._restart: _Restart | None = None
        self._sides: tuple[tuple[Level, ...], tuple[Level, ...]] | None = None
        self._still_since_ns = [0, 0]
        self._moves_of_the_other = [0, 0]

    def received_at_ns(self, raw: RawBook, sent_at_ns: int, answered_at_ns: int) -> int:
        """
        Give the moment that the book's age counts from: *sent_at_ns*, or earlier by the venue's own clock.

        The promptest time of generation among the recent answers shows by how much this one is older.

        Raises:
            BookRejected: OUT_OF_ORDER where the sequence or the time went back or the clock leapt ahead, LAGGING
                where the time is over ``CLOCK_LAG_MAX_MS`` behind.
        """
        late_ms = self._late_ms(raw, answered_at_ns)
        reason = self._breach(raw, late_ms, answered_at_ns)
        if reason is None:
            return min(sent_at_ns, answered_at_ns - late_ms * MS)
        if self._began_anew(raw, answered_at_ns):
            self._sequence = self._time_ms = None
            self._sequences.clear()
            self._offsets.clear()
            return sent_at_ns
        raise BookRejected(reason)

    def _late_ms(self, raw: RawBook, answered_at_ns: int) -> int:
        """Give how much later than the promptest recent one this book's time came in; 0 where that means nothing."""
        if raw.time_ms is None or not self._time_is_generation or not self._offsets:
            return 0
        return answered_at_ns // MS - raw.time_ms - self._offsets[0][1]

    def _breach(self, raw: RawBook, late_ms: int, at_ns: int) -> Reject | None:
        if raw.sequence is not None and self._sequence is not None:
            ahead = raw.sequence - self._sequence
            if ahead < 0 or (ahead > LEAP_MIN and self._leapt(ahead, at_ns)):
                return Reject.OUT_OF_ORDER
        if raw.time_ms is not None and self._time_ms is not None and raw.time_ms < self._time_ms:
            return Reject.OUT_OF_ORDER
        if late_ms > CLOCK_LAG_MAX_MS:
            return Reject.LAGGING
        return Reject.OUT_OF_ORDER if late_ms < -CLOCK_LAG_MAX_MS else None

    def _leapt(self, ahead: int, at_ns: int) -> bool:
        """Tell whether the sequence has run *ahead* out of all proportion to its recent pace, if that is known."""
        (first_at_ns, first), (last_at_ns, last) = self._sequences[0], self._sequences[-1]
        if last == first or last_at_ns - first_at_ns < PACE_MIN_NS:
            return False
        return ahead * (last_at_ns - first_at_ns) > LEAP_FACTOR * (last - first) * (at_ns - last_at_ns)

    def _began_anew(self, raw: RawBook, at_ns: int) -> bool:
        """Tell whether refused books have agreed with each other for ``HISTORY_NS``."""
        offset_ms = None if raw.time_ms is None else at_ns // MS - raw.time_ms
        run = self._restart
        agrees = (
            run is not None
            and (raw.sequence is None or run.sequence is None or raw.sequence >= run.sequence)
            and (
                offset_ms is None
                or run.offset_ms is None
                or not self._time_is_generation
                or abs(offset_ms - run.offset_ms) <= CLOCK_LAG_MAX_MS
            )
            and (raw.time_ms is None or run.time_ms is None or raw.time_ms >= run.time_ms)
        )
        if run is None or not agrees:
            self._restart = _Restart(at_ns, raw.sequence, raw.time_ms, offset_ms)
            return False
        self._restart = _Restart(run.since_ns, raw.sequence, raw.time_ms, run.offset_ms)
        return at_ns - run.since_ns >= HISTORY_NS

    def accept(self, raw: RawBook, book: VenueBook, answered_at_ns: int) -> None:
        """Remember an accepted book."""
        self._restart = None
        self._sequence = raw.sequence
        self._time_ms = raw.time_ms
        if raw.sequence is not None:
            self._sequences.append((answered_at_ns, raw.sequence))
            while self._sequences[0][0] < answered_at_ns - HISTORY_NS:
                self._sequences.popleft()
        if raw.time_ms is not None:
            offset = answered_at_ns // MS - raw.time_ms
            while self._offsets and self._offsets[-1][1] >= offset:
                self._offsets.pop()
            self._offsets.append((answered_at_ns, offset))
            while self._offsets[0][0] < answered_at_ns - HISTORY_NS:
                self._offsets.popleft()
        self._watch_sides((book.bids, book.asks), answered_at_ns)

    def _watch_sides(self, sides: tuple[tuple[Level, ...], tuple[Level, ...]], at_ns: int) -> None:
        before, self._sides = self._sides, sides
        moved = [True, True] if before is None else [sides[i] != before[i] for i in (0, 1)]
        for side, other in ((0, 1), (1, 0)):
            if moved[side]:
                self._still_since_ns[side] = at_ns
                self._moves_of_the_other[side] = 0
            elif moved[other]:
                self._moves_of_the_other[side] += 1

    def frozen_side(self, at_ns: int) -> bool:
        """Tell whether one side has stood still while the other moved."""
        return any(
            self._moves_of_the_other[side] >= FROZEN_SIDE_BOOKS and at_ns - self._still_since_ns[side] >= FROZEN_SIDE_NS
            for side in (0, 1)
        )
