"""One venue's order book, and the checks that it must pass before it counts.

Pure: no clock, no I/O, no logging.  A book is accepted whole or rejected whole, with one reason; nothing in it is
repaired.  ccxt answers garbage with an empty book and no exception on most venues, so these checks, and not its
exceptions, decide.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from enum import StrEnum
from itertools import repeat
from operator import truediv
from typing import Any, Final, NamedTuple, overload

SCALE = 18
UNIT = 10**SCALE
"""Prices (quote asset per base asset) and quantities (base asset) are whole numbers of 10**-18 wherever they are
computed with: exact, and fast.  ``Decimal`` is for what people and messages read."""
LEVELS_MAX = 5_000
"""Levels a side that a book keeps at most."""
NUMBER_MAX = 1e12
"""Prices and quantities have at most 12 integer digits ..."""
NUMBER_MIN = 1e-18
"""... and nothing is traded in finer amounts than this; smaller ones are a fault of the message."""
SEQUENCE_MAX = 2**63 - 1
"""A venue's sequence, or its time in Unix milliseconds, is a whole number from 0 to this."""
_EXACT = Context(prec=100)
_ONE = Decimal(1)
_FLOAT_DIGITS = 10**15
"""A decimal number of fewer digits than this has is given back by the float nearest to it."""
_SAMPLE, _TRIES = 4, 4
"""So many numbers of a column tell how many decimals its numbers have; one that has more tells it anew, so often."""


def units(number: Decimal) -> int:
    """
    Give a price or a quantity as a whole number of 10**-18.

    Raises:
        ValueError: If it has more decimals than that.
    """
    scaled = number.scaleb(SCALE, _EXACT)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{number} has more than {SCALE} decimals")
    return whole


def decimal(number: int, scale: int = SCALE) -> Decimal:
    """Give a whole number of 10**-scale as a Decimal, exactly and without trailing zeros or an exponent."""
    exact_number = Decimal(number).scaleb(-scale, _EXACT).normalize(_EXACT)
    return exact_number if _exponent(exact_number) < 0 else exact_number.quantize(_ONE, context=_EXACT)


class Side(StrEnum):
    """Side of an order: the client's.  BUY lifts asks, SELL hits bids."""

    BUY = "buy"
    SELL = "sell"

    __hash__ = str.__hash__  # Enum's own takes five times as long.


BUY: Final = Side.BUY
"""The member itself, for what runs often: a name takes a tenth of the time that looking it up in its class does."""
SELL: Final = Side.SELL


class Level(NamedTuple):
    """One price (quote asset per base asset) and the quantity (base asset) resting there."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Ladder(Sequence[Level]):
    """
    One side of a book, best price first: two columns of whole numbers of 10**-18, read as levels.

    Args:
        prices: Quote asset per base asset.
        quantities: Base asset, at the price of the same place.
    """

    prices: tuple[int, ...]
    quantities: tuple[int, ...]

    @classmethod
    def of(cls, levels: Iterable[tuple[Decimal, Decimal]]) -> Ladder:
        """Make a ladder of (price, quantity), best price first."""
        rows = [(units(price), units(quantity)) for price, quantity in levels]
        return cls(tuple(price for price, _ in rows), tuple(quantity for _, quantity in rows))

    def __len__(self) -> int:
        return len(self.prices)

    @overload
    def __getitem__(self, place: int) -> Level: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Level]: ...

    def __getitem__(self, place: int | slice) -> Level | Sequence[Level]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        return Level(decimal(self.prices[place]), decimal(self.quantities[place]))

    def __iter__(self) -> Iterator[Level]:
        return map(Level, map(decimal, self.prices), map(decimal, self.quantities))


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
    bids: Ladder
    asks: Ladder
    received_at_ns: int
    sequence: int | None

    @property
    def mid(self) -> int:
        """Give (best bid + best ask) / 2, a whole number of 10**-18, rounded down."""
        return (self.bids.prices[0] + self.asks.prices[0]) // 2


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
    if not all(number is None or _is_count(number) for number in (raw.sequence, raw.time_ms)):
        raise BookRejected(Reject.BAD_NUMBER)
    if not raw.bids and not raw.asks:
        raise BookRejected(Reject.EMPTY)
    if not raw.bids or not raw.asks:
        raise BookRejected(Reject.ONE_SIDED)
    bids = _side(raw.bids, descending=True, depth=min(depth, LEVELS_MAX), merge_repeats=merge_repeats)
    asks = _side(raw.asks, descending=False, depth=min(depth, LEVELS_MAX), merge_repeats=merge_repeats)
    if bids.prices[0] >= asks.prices[0]:
        raise BookRejected(Reject.LOCKED if bids.prices[0] == asks.prices[0] else Reject.CROSSED)
    return VenueBook(
        venue=venue,
        symbol=symbol,
        bids=bids,
        asks=asks,
        received_at_ns=received_at_ns,
        sequence=raw.sequence,
    )


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number <= SEQUENCE_MAX


def _side(rows: Sequence[Any], *, descending: bool, depth: int, merge_repeats: bool) -> Ladder:
    """Check all rows of a side, and make the best *depth* of them exact."""
    try:
        prices, quantities = [row[0] for row in rows], [row[1] for row in rows]
        plausible = _plausible(prices) and _plausible(quantities)
    except (TypeError, IndexError, KeyError, OverflowError):  # None, a text or a whole number beyond all floats
        plausible = False
    if not plausible:
        raise BookRejected(Reject.BAD_NUMBER)
    best_first = sorted(prices, reverse=descending)
    if best_first != prices:
        places = sorted(range(len(prices)), key=prices.__getitem__, reverse=descending)
        prices, quantities = best_first, [quantities[place] for place in places]
    repeats = len(set(prices)) != len(prices)
    if repeats and not merge_repeats:
        raise BookRejected(Reject.DUPLICATE_PRICE)
    if repeats:
        return _merged(prices, quantities, depth)
    return Ladder(tuple(_column(prices[:depth])), tuple(_column(quantities[:depth])))


def _plausible(column: Sequence[Any]) -> bool:
    """Tell whether these are all finite numbers in range; a NaN or an infinity spoils the sum."""
    return min(column) >= NUMBER_MIN and max(column) < NUMBER_MAX and math.isfinite(sum(column))


def _merged(prices: Sequence[float], quantities: Sequence[float], depth: int) -> Ladder:
    merged: dict[int, int] = {}
    for price, quantity in zip(_column(prices), _column(quantities), strict=True):
        merged[price] = merged.get(price, 0) + quantity
    rows = list(merged.items())[:depth]
    return Ladder(tuple(price for price, _ in rows), tuple(quantity for _, quantity in rows))


def _column(numbers: Sequence[float]) -> list[int]:
    """Give floats as whole numbers of 10**-18: those of the texts that the venue sent."""
    decimals = max(map(_decimals, numbers[:_SAMPLE]))
    for _ in range(_TRIES):
        if decimals > SCALE:
            break
        scale = float(10**decimals)
        whole = [int(number * scale + 0.5) for number in numbers]
        if max(whole) >= _FLOAT_DIGITS:
            break
        back = list(map(truediv, whole, repeat(scale)))
        if back == numbers:
            factor: int = 10 ** (SCALE - decimals)
            return [number * factor for number in whole]
        decimals = _decimals(next(number for number, other in zip(numbers, back, strict=True) if number != other))
    return list(map(_whole, numbers))


def _decimals(number: float) -> int:
    return -_exponent(exact(number))


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return min(0, exponent) if isinstance(exponent, int) else 0


def _whole(number: float) -> int:
    try:
        return units(exact(number))
    except ValueError:
        raise BookRejected(Reject.BAD_NUMBER) from None


def exact(number: float) -> Decimal:
    """Give the shortest decimal that reads back as this float: the venue's own text, up to 15 significant digits."""
    return Decimal(repr(number))
