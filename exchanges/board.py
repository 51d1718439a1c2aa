"""The latest book of every venue and symbol, and whether it counts.

Pure: no clock, no I/O; every call is told the time.  One writer per venue and symbol, any number of readers; between
them stands the latest value, never a queue.  Staleness is judged when a book is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from exchanges.book import VenueBook
from exchanges.clock import MS
from exchanges.distribution import Distribution
from exchanges.health import (
    FROZEN_SIDE_REASON,
    OUTLIER_REASON,
    Health,
    JumpGuard,
    State,
    Status,
    median,
    outliers,
)
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

STALL_NS = 500 * MS
"""A gap between two beats that makes every book unusable until it is refreshed: who could not read the clock could
not read the sockets either."""
NEVER_NS = 2**63
STALLED_REASON = "loop_stalled"
ANSWERED_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
STREAMED_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds by which a venue's times are counted."""


class Source(NamedTuple):
    """
    One venue's part in a symbol at one moment.

    Args:
        state: Only a LIVE source's book may be used.
        reason: Why it is not live; None if it is.
        since_ns: Of the state, boot-time clock.
        book: The latest that was accepted, or None; beware that it may not count.
        age_ms: Of *book*.
        instrument: The venue's rules for the symbol; None until they are loaded.
    """

    venue: str
    symbol: str
    state: State
    reason: str | None
    since_ns: int
    book: VenueBook | None
    age_ms: int | None
    instrument: Instrument | None

    @property
    def live(self) -> bool:
        """Tell whether the book counts."""
        return self.state is State.LIVE

    def at(self, now_ns: int) -> Source:
        """Give it as it is at another moment, if nothing but its age is different then."""
        venue, symbol, state, reason, since_ns, book, _, instrument = self
        age_ms = None if book is None else (now_ns - book.received_at_ns) // MS
        return Source(venue, symbol, state, reason, since_ns, book, age_ms, instrument)

    @property
    def sequence(self) -> int | None:
        """Give the venue's own number of the book, if there is one."""
        return None if self.book is None else self.book.sequence


@dataclass(slots=True)
class _Seat:
    """What the board keeps of one venue and symbol."""

    health: Health
    told: Status
    stale_after_ns: int
    book: VenueBook | None = None
    """The latest that was believed ..."""
    shown: VenueBook | None = None
    """... and the latest that passed its own checks: an outlier's prices count when the next one is looked for."""
    instrument: Instrument | None = None


@dataclass(slots=True)
class Tally:
    """
    What has come of a venue since the start.

    Args:
        accepted: Books that counted.
        rejected: Books that did not, by reason.
        failed: Requests and streams that gave no book, by reason.
        reconnects: Streams that were made anew.
        answered_s: What requests took that gave a book.
        streamed_s: How old streamed books were by the venue's own time of them, where it tells one.
    """

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    answered_s: Distribution = field(default_factory=lambda: Distribution(ANSWERED_S))
    streamed_s: Distribution = field(default_factory=lambda: Distribution(STREAMED_S))


OnChange = Callable[[str, str, Status, Status], None]
OnBook = Callable[[VenueBook, int], None]
OnInput = Callable[[Input], None]


class Board:
    """Latest books, their standing, and what the venues say of each other."""

    def __init__(self, outlier_bps: Decimal, on_change: OnChange | None = None) -> None:
        """
        Begin empty.

        Args:
            outlier_bps: Distance from the median mid at which a venue is left out.
            on_change: Called with venue, symbol, the status before and the status now, once per change.
        """
        self._outlier_bps = outlier_bps
        self._on_change = on_change
        self._seats: dict[str, dict[str, _Seat]] = {}
        self._guards: dict[str, JumpGuard] = {}
        self._tallies: dict[str, Tally] = {}
        self._followers: list[OnBook] = []
        self._watchers: tuple[OnInput, ...] = ()
        self._last_beat_ns: int | None = None
        self._refreshed_after_ns = 0
        self._standing = 0
        self._stands_until_ns = -1

    def follow(self, on_book: OnBook) -> None:
        """Call *on_book* with every book that is accepted, and when (boot-time clock, ns); it must be quick."""
        self._followers.append(on_book)

    def watch(self, on_input: OnInput) -> None:
        """
        Call *on_input* with all that the board is told, before the board acts on it; it must be quick.

        It is first told of the seats that are there, so that another board that takes all of it (``take``) is the same
        one; to be called before the first book comes in.
        """
        for symbol, seats in self._seats.items():
            for venue, seat in seats.items():
                on_input(Seated(venue, symbol, seat.stale_after_ns // MS, seat.told.since_ns))
                if seat.instrument is not None:
                    on_input(Instructed(seat.instrument))
        self._watchers += (on_input,)

    def unwatch(self, on_input: OnInput) -> None:
        """Call *on_input* no more."""
        self._watchers = tuple(watcher for watcher in self._watchers if watcher != on_input)

    def take(self, told: Input) -> None:
        """Do what another board did when it was told this."""
        match told:
            case Published(book, now_ns, frozen_side):
                self.publish(book, now_ns, frozen_side=frozen_side)
            case Rejected():
                self.reject(*told)
            case Doubted():
                self.doubt(*told)
            case Emptied():
                self.empty(*told)
            case Failed(venue, symbol, reason, now_ns, at_once):
                self.fail(venue, symbol, reason, now_ns, at_once=at_once)
            case Spoiled():
                self.spoil(*told)
            case Seated():
                self.seat(*told)
            case Unseated():
                self.unseat(*told)
            case Arranged():
                self.arrange(*told)
            case _:
                self.instruct(told.instrument)

    def _tell(self, told: Input) -> None:
        self._stands_until_ns = -1
        for on_input in self._watchers:
            on_input(told)

    def seat(self, venue: str, symbol: str, stale_after_ms: int, now_ns: int) -> None:
        """Make room for a venue's book of a symbol, warming; one that has a seat keeps it, and its book."""
        self._tell(Seated(venue, symbol, stale_after_ms, now_ns))
        seats = self._seats.setdefault(symbol, {})
        if venue in seats:
            seats[venue].health.status(now_ns)  # What went stale by then did so by the age that held till then.
            seats[venue].stale_after_ns = stale_after_ms * MS
            seats[venue].health.stale_after_ns = stale_after_ms * MS
        else:
            health = Health(now_ns, stale_after_ms * MS)
            seats[venue] = _Seat(health, health.status(now_ns), stale_after_ms * MS)
        self._guards.setdefault(symbol, JumpGuard())
        self._tallies.setdefault(venue, Tally())

    def unseat(self, venue: str, symbol: str) -> None:
        """Take a venue away from a symbol that it does not trade, or that is not served any more."""
        self._tell(Unseated(venue, symbol))
        self._seats.get(symbol, {}).pop(venue, None)

    def arrange(self, venues: Sequence[str], symbols: Sequence[str], outlier_bps: Decimal) -> None:
        """
        Put what is shown into the settings' order.

        Args:
            venues: All of them; seats of others are taken away.
            symbols: All that have seats; what is known of others is forgotten.
            outlier_bps: As from now.
        """
        self._tell(Arranged(tuple(venues), tuple(symbols), outlier_bps))
        self._outlier_bps = outlier_bps
        self._seats = {
            symbol: {venue: self._seats[symbol][venue] for venue in venues if venue in self._seats[symbol]}
            for symbol in symbols
            if symbol in self._seats
        }
        self._guards = {symbol: self._guards[symbol] for symbol in self._seats}

    def instruct(self, instrument: Instrument) -> None:
        """Keep a venue's rules for a symbol."""
        if (seat := self._seat(instrument.venue, instrument.symbol)) is not None:
            self._tell(Instructed(instrument))
            seat.instrument = instrument

    @property
    def symbols(self) -> Sequence[str]:
        """Name the symbols, in the order of their coming."""
        return tuple(self._seats)

    def tally(self, venue: str) -> Tally:
        """Give a venue's counters."""
        return self._tallies[venue]

    def held(self, symbol: str) -> bool:
        """Tell whether the symbol's price leapt and has not been confirmed."""
        guard = self._guards.get(symbol)
        return guard is not None and guard.held

    def sources(self, symbol: str, now_ns: int) -> tuple[Source, ...]:
        """Give every venue's part in a symbol as it is at *now_ns*, in the settings' order."""
        self._notice_stall(now_ns)
        return tuple(self._source(venue, symbol, seat, now_ns) for venue, seat in self._seats.get(symbol, {}).items())

    def _seat(self, venue: str, symbol: str) -> _Seat | None:
        """Find a seat; who has lost his may still have something under way."""
        return self._seats.get(symbol, {}).get(venue)

    def seated(self, venue: str, symbol: str) -> bool:
        """Tell whether a venue has a seat for a symbol."""
        return venue in self._seats.get(symbol, ())

    def standing(self, now_ns: int) -> int:
        """Give a number that is the same again as long as every source is the same but for its age."""
        self._notice_stall(now_ns)
        if now_ns > self._stands_until_ns:
            self._standing += 1
            ends = (seat.health.ages_at_ns for seats in self._seats.values() for seat in seats.values())
            self._stands_until_ns = min((end for end in ends if end is not None and end >= now_ns), default=NEVER_NS)
        return self._standing

    def source(self, venue: str, symbol: str, now_ns: int) -> Source | None:
        """Give one venue's part in a symbol as it is at *now_ns*, or None where it has no seat."""
        self._notice_stall(now_ns)
        seat = self._seat(venue, symbol)
        return None if seat is None else self._source(venue, symbol, seat, now_ns)

    def _source(self, venue: str, symbol: str, seat: _Seat, now_ns: int) -> Source:
        status = seat.health.status(now_ns)
        age_ms = None if seat.book is None else (now_ns - seat.book.received_at_ns) // MS
        return Source(venue, symbol, status.state, status.reason, status.since_ns, seat.book, age_ms, seat.instrument)

    def publish(self, book: VenueBook, now_ns: int, *, frozen_side: bool = False) -> None:
        """
        Take a book that passed its own checks, and hold it against the other venues'.

        A book that was asked for before the event loop stalled is dropped: nobody can tell how old it is.
        """
        self._notice_stall(now_ns)
        seats = self._seats.get(book.symbol, {})
        seat = seats.get(book.venue)
        if seat is None:
            return
        self._tell(Published(book, now_ns, frozen_side))
        if book.received_at_ns < self._refreshed_after_ns:
            return
        seat.shown = book
        out = outliers(_fresh_mids(seats, now_ns), self._outlier_bps)
        if book.venue in out or frozen_side:
            reason = OUTLIER_REASON if book.venue in out else FROZEN_SIDE_REASON
            self._tallies[book.venue].rejected[reason] += 1
            seat.health.doubted(reason, now_ns)
        else:
            self._tallies[book.venue].accepted += 1
            seat.book = book
            seat.health.accepted(now_ns, book.received_at_ns)
            for on_book in self._followers:
                on_book(book, now_ns)
        for venue in out - {book.venue}:
            seats[venue].health.doubted(OUTLIER_REASON, now_ns, by_its_own_book=False)
        live = _live_mids(seats, now_ns)
        if book.venue in live:
            self._guards[book.symbol].observe(median(live.values()), now_ns)
        self._report(book.symbol, now_ns)

    def reject(self, venue: str, symbol: str, reason: str, now_ns: int) -> None:
        """Take note of a book that failed a check."""
        self._tallies[venue].rejected[reason] += 1
        if (seat := self._seat(venue, symbol)) is not None:
            self._tell(Rejected(venue, symbol, reason, now_ns))
            seat.health.rejected(reason, now_ns)
        self._report(symbol, now_ns)

    def doubt(self, venue: str, symbol: str, reason: str, now_ns: int) -> None:
        """Take note that a book that had been accepted has turned out to be wrong."""
        self._tallies[venue].rejected[reason] += 1
        if (seat := self._seat(venue, symbol)) is not None:
            self._tell(Doubted(venue, symbol, reason, now_ns))
            seat.health.doubted(reason, now_ns, by_its_own_book=False)
        self._report(symbol, now_ns)

    def empty(self, venue: str, symbol: str, reason: str, now_ns: int) -> None:
        """Throw a book away that cannot be kept up to date; the next whole one takes its place."""
        if (seat := self._seat(venue, symbol)) is not None:
            self._tell(Emptied(venue, symbol, reason, now_ns))
            seat.book = seat.shown = None
            seat.health.emptied(reason, now_ns)
        self._report(symbol, now_ns)

    def stalled_since(self, since_ns: int, now_ns: int) -> bool:
        """Tell whether the event loop has stalled since: what waited in a socket meanwhile is old."""
        self._notice_stall(now_ns)
        return since_ns < self._refreshed_after_ns

    def fail(self, venue: str, symbol: str, reason: str, now_ns: int, *, at_once: bool = False) -> None:
        """Take note of a request that gave no book."""
        if (seat := self._seat(venue, symbol)) is not None:
            self._tell(Failed(venue, symbol, reason, now_ns, at_once))
            seat.health.failed(reason, now_ns, at_once=at_once)
        self._report(symbol, now_ns)

    def beat(self, now_ns: int) -> None:
        """Show that the event loop is running; the first beat begins the watch for gaps."""
        if self._last_beat_ns is None:
            self._last_beat_ns = now_ns
        self._notice_stall(now_ns)
        self._last_beat_ns = now_ns
        self.report(now_ns)

    def _notice_stall(self, now_ns: int) -> None:
        if self._last_beat_ns is None or now_ns - self._last_beat_ns <= STALL_NS:
            return
        self._last_beat_ns = now_ns
        self.spoil(STALLED_REASON, now_ns)

    def spoil(self, reason: str, now_ns: int) -> None:
        """Make every book unusable until it is refreshed by one that is asked for from now on."""
        self._tell(Spoiled(reason, now_ns))
        self._refreshed_after_ns = now_ns
        for seats in self._seats.values():
            for seat in seats.values():
                seat.health.spoiled(reason, now_ns)

    def report(self, now_ns: int) -> None:
        """Tell ``on_change`` of every status that is not what it was when it was last told."""
        for symbol in self._seats:
            self._report(symbol, now_ns)

    def _report(self, symbol: str, now_ns: int) -> None:
        for venue, seat in self._seats.get(symbol, {}).items():
            status = seat.health.status(now_ns)
            before, seat.told = seat.told, status
            if self._on_change is not None and (before.state, before.reason) != (status.state, status.reason):
                self._on_change(venue, symbol, before, status)


def _fresh_mids(seats: Mapping[str, _Seat], now_ns: int) -> dict[str, int]:
    return {
        venue: seat.shown.mid
        for venue, seat in seats.items()
        if seat.shown is not None and now_ns - seat.shown.received_at_ns <= seat.stale_after_ns
    }


def _live_mids(seats: Mapping[str, _Seat], now_ns: int) -> dict[str, int]:
    return {
        venue: seat.book.mid
        for venue, seat in seats.items()
        if seat.book is not None and seat.health.status(now_ns).state is State.LIVE
    }
