"""Write what a board is told as lines of text, and read it back, exact to the last digit.

Pure: no clock, no I/O.  A line is a JSON list: a letter, the ns since the line before, and what was told.  Of a book,
only what changed since the venue's last book of the symbol is written.  Numbers beyond 64 bit (prices and quantities
are whole numbers of 10**-18) are brought below by taking out the powers of ten that a column's numbers share.

A recording may come from anybody: whatever is not just as this module writes it is refused, never repaired.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import compress
from operator import ne
from typing import Any, NamedTuple

import orjson

from exchanges.book import LEVELS_MAX, SCALE, SEQUENCE_MAX, Ladder, VenueBook
from exchanges.errors import RecordingError
from exchanges.inputs import (
    Arranged,
    Doubted,
    Emptied,
    Failed,
    Input,
    Instructed,
    Published,
    Rejected,
    Seated,
    Spoiled,
    Unseated,
)
from exchanges.instruments import Instrument

VERSION = 1
NOW_MAX_NS = 2**63 - 1
"""Of the boot-time clock: 292 years."""
_NUMBER_MAX = 10**36
"""Of prices and quantities in 10**-18; a book's own checks let 30 digits pass, sums of levels some more."""
SEATS_MAX = 100_000
VENUES_MAX, SYMBOLS_MAX = 1_000, 10_000
STALE_AFTER_MS_MAX = 10**9
_PLAIN_MAX = 2**63 - 1
_TENS = tuple(10**power for power in range(SCALE + 1))
_UNIT = 10**SCALE

_VENUE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_EXCHANGE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9]{1,40}/[A-Z0-9]{1,40}", re.ASCII)
_RULE = re.compile(r"[0-9]{1,30}(\.[0-9]{1,18})?", re.ASCII)
_FEE = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,40})?", re.ASCII)
_BPS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,36}", re.ASCII)

_NOTHING = Ladder((), ())

Column = list[Any]


class Ended(NamedTuple):
    """
    The last thing in a recording.

    Args:
        reason: ``closed`` by who made it, or ``cut``: the file ends before the recording does.
    """

    reason: str


CUT, CLOSED = "cut", "closed"


@dataclass(frozen=True, slots=True)
class RecordedVenue:
    """
    A venue as it was set up.

    Args:
        symbols: What the venue traded a served symbol as, where that was another symbol.
    """

    name: str
    exchange: str
    poll_interval_ms: int
    stale_after_ms: int
    symbols: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """
    What a recording begins with.

    Args:
        market_data: ``live``, ``simulated`` or ``replay``: where the books came from.
        started_at: UTC ...
        started_ns: ... and the same moment on the boot-time clock, which all times in the recording are of.
        outlier_bps: By which the board left venues out.
        symbols: Those that were served.
    """

    market_data: str
    started_at: datetime
    started_ns: int
    outlier_bps: Decimal
    symbols: tuple[str, ...]
    venues: tuple[RecordedVenue, ...]

    def encode(self) -> bytes:
        """Write it as one line."""
        fields = {"version": VERSION, **asdict(self), "outlier_bps": f"{self.outlier_bps:f}"}
        return orjson.dumps({**fields, "started_at": self.started_at.isoformat()})

    @classmethod
    def decode(cls, line: bytes) -> Header:
        """
        Read it.

        Raises:
            RecordingError: If it is of another version, or not what a recording begins with.
        """
        fields = _parsed(line)
        _require(type(fields) is dict, "a recording begins with its header")
        version = fields.pop("version", None)
        if version != VERSION:
            raise RecordingError(f"it is of version {str(version)[:20]!r}; this service reads version {VERSION}")
        try:
            header = _header(**fields)
        except TypeError as error:
            raise RecordingError("its header has not the fields of a header") from error
        return header


class Encoder:
    """Writes lines, each of which rests on those before it."""

    def __init__(self, started_ns: int) -> None:
        """Begin at the header's ``started_ns``."""
        self._at_ns = started_ns
        self._seats: dict[tuple[str, str], int] = {}
        self._sides: dict[tuple[int, int], tuple[Ladder, dict[int, int]]] = {}

    def line(self, told: Input, now_ns: int) -> bytes:
        """Write what a board was told; *now_ns* is when, where that does not say so itself."""
        match told:
            case Published(book, now_ns, frozen_side):
                seat = self._seats[book.venue, book.symbol]
                age_ns, changes = (
                    now_ns - book.received_at_ns,
                    (self._changes(seat, 0, book.bids), self._changes(seat, 1, book.asks)),
                )
                return self._dump("b", now_ns, seat, age_ns, book.sequence, int(frozen_side), *changes)
            case Rejected(venue, symbol, reason, now_ns):
                return self._dump("r", now_ns, self._seats[venue, symbol], reason)
            case Doubted(venue, symbol, reason, now_ns):
                return self._dump("d", now_ns, self._seats[venue, symbol], reason)
            case Emptied(venue, symbol, reason, now_ns):
                return self._dump("n", now_ns, self._seats[venue, symbol], reason)
            case Failed(venue, symbol, reason, now_ns, at_once):
                return self._dump("f", now_ns, self._seats[venue, symbol], reason, int(at_once))
            case Spoiled(reason, now_ns):
                return self._dump("x", now_ns, reason)
            case Seated(venue, symbol, stale_after_ms, now_ns):
                self._seats.setdefault((venue, symbol), len(self._seats))
                return self._dump("s", now_ns, venue, symbol, stale_after_ms)
            case Unseated(venue, symbol):
                return self._dump("u", now_ns, venue, symbol)
            case Arranged(venues, symbols, outlier_bps):
                return self._dump("a", now_ns, venues, symbols, f"{outlier_bps:f}")
            case _:
                return self._rules(told.instrument, now_ns)

    def _rules(self, rules: Instrument, now_ns: int) -> bytes:
        numbers = (rules.price_step, rules.quantity_step, rules.quantity_min, rules.notional_min, rules.taker_fee_bps)
        written = [None if number is None else f"{number:f}" for number in numbers]
        return self._dump("i", now_ns, self._seats[rules.venue, rules.symbol], *written)

    def end(self, now_ns: int) -> bytes:
        """Write the last line of a recording that is whole."""
        return self._dump("e", now_ns)

    def _dump(self, letter: str, now_ns: int, *fields: Any) -> bytes:
        since_ns, self._at_ns = now_ns - self._at_ns, now_ns
        return orjson.dumps((letter, since_ns, *fields))

    def _changes(self, seat: int, side: int, ladder: Ladder) -> Column:
        """Write a side as what changed: [] for nothing, else whether it begins anew, two powers of ten, two columns."""
        prices, quantities = ladder.prices, ladder.quantities
        shown, rows = self._sides.get((seat, side), (_NOTHING, {}))
        before = shown.quantities if shown.prices == prices else tuple(map(rows.get, prices))
        if before == quantities and len(prices) == len(rows):
            return []
        differs = list(map(ne, quantities, before))
        changed = list(compress(prices, differs))
        changed_quantities = list(compress(quantities, differs))
        rows.update(zip(changed, changed_quantities, strict=True))
        gone = list(rows.keys() - prices) if len(rows) > len(prices) else []
        for price in gone:
            del rows[price]
        self._sides[seat, side] = ladder, rows
        if anew := len(changed) + len(gone) > len(rows):
            changed, changed_quantities = list(prices), list(quantities)
        else:
            changed += gone
            changed_quantities += [0] * len(gone)
        price_power, changed = _shortened(changed)
        quantity_power, changed_quantities = _shortened(changed_quantities)
        return [int(anew), price_power, quantity_power, changed, changed_quantities]


class Decoder:
    """Reads lines in the order in which they were written."""

    def __init__(self, started_ns: int) -> None:
        """Begin at the header's ``started_ns``."""
        self._at_ns = started_ns
        self._numbers: dict[tuple[str, str], int] = {}
        self._seats: list[tuple[str, str]] = []
        self._seated: set[tuple[str, str]] = set()
        self._sides: dict[tuple[int, int], tuple[dict[int, int], Ladder]] = {}

    def read(self, line: bytes) -> tuple[int, Input | Ended]:
        """
        Read a line: when (boot-time clock, ns), and what a board was told.

        Raises:
            RecordingError: If it is none that an ``Encoder`` would have written.
        """
        fields = _parsed(line)
        _require(type(fields) is list and len(fields) >= 2, "a line is a list of a letter, a time and more")
        letter, since_ns, *rest = fields
        known = LINES.get(letter) if type(letter) is str else None
        if known is None or len(rest) != known[0]:
            raise RecordingError("a line is of no known kind")
        self._at_ns += _whole(since_ns, -NOW_MAX_NS, NOW_MAX_NS)
        _whole(self._at_ns, 0, NOW_MAX_NS)
        return self._at_ns, known[1](self, *rest)

    def _book(self, seat: Any, age_ns: Any, sequence: Any, frozen_side: Any, bids: Any, asks: Any) -> Input:
        venue, symbol = self._seat(seat)
        received_at_ns = _whole(self._at_ns - _whole(age_ns, -NOW_MAX_NS, NOW_MAX_NS), 0, NOW_MAX_NS)
        if sequence is not None:
            _whole(sequence, 0, SEQUENCE_MAX)
        frozen = bool(_whole(frozen_side, 0, 1))
        sides = self._ladder(seat, 0, bids), self._ladder(seat, 1, asks)
        _require(sides[0].prices[0] < sides[1].prices[0], "a book is crossed or locked")
        return Published(VenueBook(venue, symbol, *sides, received_at_ns, sequence), self._at_ns, frozen)

    def _rejected(self, seat: Any, reason: Any) -> Input:
        return Rejected(*self._seat(seat), _reason(reason), self._at_ns)

    def _doubted(self, seat: Any, reason: Any) -> Input:
        return Doubted(*self._seat(seat), _reason(reason), self._at_ns)

    def _emptied(self, seat: Any, reason: Any) -> Input:
        return Emptied(*self._seat(seat), _reason(reason), self._at_ns)

    def _failed(self, seat: Any, reason: Any, at_once: Any) -> Input:
        return Failed(*self._seat(seat), _reason(reason), self._at_ns, bool(_whole(at_once, 0, 1)))

    def _spoiled(self, reason: Any) -> Input:
        return Spoiled(_reason(reason), self._at_ns)

    def _seated_(self, venue: Any, symbol: Any, stale_after_ms: Any) -> Input:
        name = (_text(venue, _VENUE), _text(symbol, _SYMBOL))
        if name not in self._numbers:
            _require(len(self._seats) < SEATS_MAX, "there are too many venues and symbols")
            self._numbers[name] = len(self._seats)
            self._seats.append(name)
        self._seated.add(name)
        return Seated(*name, _whole(stale_after_ms, 1, STALE_AFTER_MS_MAX), self._at_ns)

    def _unseated(self, venue: Any, symbol: Any) -> Input:
        name = (_text(venue, _VENUE), _text(symbol, _SYMBOL))
        self._seated.discard(name)
        return Unseated(*name)

    def _arranged(self, venues: Any, symbols: Any, outlier_bps: Any) -> Input:
        names, served = _texts(venues, _VENUE, VENUES_MAX), _texts(symbols, _SYMBOL, SYMBOLS_MAX)
        self._seated &= {(venue, symbol) for venue, symbol in self._seated if venue in names and symbol in served}
        return Arranged(names, served, Decimal(_text(outlier_bps, _BPS)))

    def _instructed(self, seat: Any, *written: Any) -> Input:
        *rules, fee = written
        venue, symbol = self._seat(seat)
        steps = [None if rule is None else Decimal(_text(rule, _RULE)) for rule in rules]
        _require(all(step is None or step > 0 for step in steps), "a rule of an instrument is 0")
        price_step, quantity_step, quantity_min, notional_min = steps
        fee_bps = Decimal(_text(fee, _FEE))
        return Instructed(Instrument(venue, symbol, price_step, quantity_step, quantity_min, notional_min, fee_bps))

    def _ended(self) -> Ended:
        return Ended(CLOSED)

    def _seat(self, seat: Any) -> tuple[str, str]:
        name = self._seats[_whole(seat, 0, len(self._seats) - 1)]
        _require(name in self._seated, "a venue is told of a symbol that it has no seat for")
        return name

    def _ladder(self, seat: int, side: int, changes: Any) -> Ladder:
        kept = self._sides.get((seat, side))
        _require(type(changes) is list, "a side of a book is no list")
        if not changes:
            if kept is None:
                raise RecordingError("a first book has no levels")
            return kept[1]
        _require(len(changes) == 5, "a side of a book has not its five parts")
        anew, price_power, quantity_power, prices, quantities = changes
        rows = {} if _whole(anew, 0, 1) or kept is None else kept[0]
        prices, quantities = _lengthened(prices, price_power), _lengthened(quantities, quantity_power)
        _require(len(prices) == len(quantities), "a side of a book has more prices than quantities, or fewer")
        for price, quantity in zip(prices, quantities, strict=True):
            if quantity:
                rows[price] = quantity
            elif rows.pop(price, None) is None:
                raise RecordingError("a level goes that was not there")
        _require(0 < len(rows) <= LEVELS_MAX, f"a side of a book has not 1 to {LEVELS_MAX} levels")
        _require(0 not in rows, "a price is 0")
        best_first = tuple(sorted(rows, reverse=side == 0))
        ladder = Ladder(best_first, tuple(map(rows.__getitem__, best_first)))
        self._sides[seat, side] = rows, ladder
        return ladder


LINES: Mapping[str, tuple[int, Any]] = {
    "b": (6, Decoder._book),
    "r": (2, Decoder._rejected),
    "d": (2, Decoder._doubted),
    "n": (2, Decoder._emptied),
    "f": (3, Decoder._failed),
    "x": (1, Decoder._spoiled),
    "s": (3, Decoder._seated_),
    "u": (2, Decoder._unseated),
    "a": (3, Decoder._arranged),
    "i": (6, Decoder._instructed),
    "e": (0, Decoder._ended),
}
"""Letters of lines, with how many fields follow the time and who reads them."""


def _shortened(numbers: Sequence[int]) -> tuple[int, Column]:
    """Take out the powers of ten that all the numbers share; what is still beyond 64 bit becomes text."""
    shared, power = math.gcd(_UNIT, *numbers), 0
    while power < SCALE and shared % _TENS[power + 1] == 0:
        power += 1
    tens = _TENS[power]
    short = [number // tens for number in numbers]
    return power, short if max(short, default=0) <= _PLAIN_MAX else [n if n <= _PLAIN_MAX else str(n) for n in short]


def _lengthened(column: Any, power: Any) -> list[int]:
    tens = _TENS[_whole(power, 0, SCALE)]
    _require(type(column) is list and len(column) <= 2 * LEVELS_MAX, "a column of a book is none")
    numbers = [(number if type(number) is int else int(_text(number, _DIGITS))) * tens for number in column]
    _require(
        not numbers or (min(numbers) >= 0 and max(numbers) < _NUMBER_MAX), "a number of a book is out of its range"
    )
    return numbers


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RecordingError("a line is not JSON") from error


def _require(fulfilled: bool, problem: str) -> None:
    if not fulfilled:
        raise RecordingError(problem)


def _whole(number: Any, low: int, high: int) -> int:
    if type(number) is not int or not low <= number <= high:
        raise RecordingError("a number is not a whole one, or out of its range")
    return number


def _text(text: Any, form: re.Pattern[str]) -> str:
    if type(text) is not str or not form.fullmatch(text):
        raise RecordingError("a text is not of its form")
    return text


def _texts(texts: Any, form: re.Pattern[str], count_max: int) -> tuple[str, ...]:
    _require(type(texts) is list and len(texts) <= count_max, "a list of names is none")
    names = tuple(_text(text, form) for text in texts)
    _require(len(set(names)) == len(names), "a name stands there twice")
    return names


def _reason(text: Any) -> str:
    if type(text) is not str or not 0 < len(text) <= 100 or not text.isprintable():
        raise RecordingError("a reason is not a short text")
    return text


def _header(market_data: Any, started_at: Any, started_ns: Any, outlier_bps: Any, symbols: Any, venues: Any) -> Header:
    _require(market_data in ("live", "simulated", "replay"), "its header names no market data")
    _require(bool(symbols), "its header names no symbols")
    _require(type(venues) is list and 0 < len(venues) <= VENUES_MAX, "its header names no venues")
    try:
        moment = datetime.fromisoformat(started_at)
        _require(moment.tzinfo is not None, "its header's time has no zone")
        moment = moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordingError("its header's time is none") from error
    # A replay's clock goes on after the end of a recording: both must be years from where times end.
    _require(1970 <= moment.year <= 2200, "its header's time is none")
    named = tuple(_recorded_venue(**venue) if type(venue) is dict else _recorded_venue() for venue in venues)
    _require(len({venue.name for venue in named}) == len(named), "its header names a venue twice")
    return Header(
        market_data,
        moment,
        _whole(started_ns, 0, NOW_MAX_NS // 2),
        Decimal(_text(outlier_bps, _BPS)),
        _texts(symbols, _SYMBOL, SYMBOLS_MAX),
        named,
    )


def _recorded_venue(
    name: Any = None,
    exchange: Any = None,
    poll_interval_ms: Any = None,
    stale_after_ms: Any = None,
    symbols: Any = None,
) -> RecordedVenue:
    _require(type(symbols) is dict and len(symbols) <= SYMBOLS_MAX, "a venue of its header has no symbols")
    return RecordedVenue(
        _text(name, _VENUE),
        _text(exchange, _EXCHANGE),
        _whole(poll_interval_ms, 0, STALE_AFTER_MS_MAX),
        _whole(stale_after_ms, 1, STALE_AFTER_MS_MAX),
        {_text(symbol, _SYMBOL): _text(own, _SYMBOL) for symbol, own in symbols.items()},
    )


__all__ = ["CLOSED", "CUT", "LINES", "Decoder", "Encoder", "Ended", "Header", "RecordedVenue", "RecordingError"]
