"""Whether a venue's book for a symbol counts: a state machine as a table, and the screens across venues.

Pure: no clock, no I/O, no logging; every call is told the time.

    warming ──book──▶ live ──age──▶ stale ──book──▶ live
                       │ ▲            │
                  doubt│ │3 good books│doubt
                       ▼ │            ▼
                      suspect ◀───────┘        any ──3 failures, a ban──▶ down ──book──▶ live

Only a live venue contributes.  Staleness is judged when a book is read, not when a feed notices something.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from exchanges.clock import MS

REJECTS_MAX = 3
REJECTS_WINDOW_NS = 60_000 * MS
"""So many rejected books within so long make a venue suspect."""
CONFIRMATIONS = 3
CONFIRM_NS = 1_000 * MS
"""So many accepted books over at least so long end it."""
FAILURES_MAX = 3
"""So many requests in a row without a book take a venue down."""
JUMP_BPS_MAX = Decimal(500)
JUMP_WINDOW_NS = 10_000 * MS
"""A mid that moves by more than this within so long is held back ..."""
JUMP_CONFIRM_NS = 2_000 * MS
"""... until ``CONFIRMATIONS`` further updates over at least so long agree with it."""
LEAP_BPS_MAX = Decimal(3_000)
LEAP_CONFIRM_NS = 60_000 * MS
"""One of more than this is hardly a market's: it must stand for so long."""


class State(StrEnum):
    """Where a venue stands with one symbol."""

    WARMING = "warming"
    LIVE = "live"
    STALE = "stale"
    SUSPECT = "suspect"
    DOWN = "down"

    __hash__ = str.__hash__  # Enum's own takes five times as long.


class Event(StrEnum):
    """What may change a state."""

    GOOD_BOOK = "good_book"
    AGED = "aged"
    DOUBTED = "doubted"
    CONFIRMED = "confirmed"
    GAVE_OUT = "gave_out"


TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.WARMING, Event.GOOD_BOOK): State.LIVE,
    (State.STALE, Event.GOOD_BOOK): State.LIVE,
    (State.DOWN, Event.GOOD_BOOK): State.LIVE,
    (State.LIVE, Event.AGED): State.STALE,
    (State.LIVE, Event.DOUBTED): State.SUSPECT,
    (State.STALE, Event.DOUBTED): State.SUSPECT,
    (State.SUSPECT, Event.CONFIRMED): State.LIVE,
    (State.WARMING, Event.GAVE_OUT): State.DOWN,
    (State.LIVE, Event.GAVE_OUT): State.DOWN,
    (State.STALE, Event.GAVE_OUT): State.DOWN,
    (State.SUSPECT, Event.GAVE_OUT): State.DOWN,
}
"""What is not in the table changes nothing."""

LIVE_REASON = None
STALE_REASON = "stale"
OUTLIER_REASON = "outlier"
FROZEN_SIDE_REASON = "frozen_side"


@dataclass(frozen=True, slots=True)
class Status:
    """A state, why, and since when (boot-time clock, ns).  ``reason`` is None when live."""

    state: State
    reason: str | None
    since_ns: int


class Health:
    """One venue's standing with one symbol."""

    def __init__(self, now_ns: int, stale_after_ns: int) -> None:
        """Begin warming; *stale_after_ns* is the age at which a book stops counting."""
        self._status = Status(State.WARMING, "no_book_yet", now_ns)
        self.stale_after_ns = stale_after_ns
        self._received_at_ns: int | None = None
        self._rejects: deque[int] = deque()
        self._failures = 0
        self._good_since: deque[int] = deque()

    def status(self, now_ns: int) -> Status:
        """Give the state as it is at *now_ns*, having looked at the book's age."""
        if self._received_at_ns is not None and now_ns - self._received_at_ns > self.stale_after_ns:
            self._move(Event.AGED, STALE_REASON, self._received_at_ns + self.stale_after_ns)
            if self._status.state is State.STALE:  # What had spoiled its book before does not matter any more.
                self._status = Status(State.STALE, STALE_REASON, self._status.since_ns)
        return self._status

    @property
    def ages_at_ns(self) -> int | None:
        """Give the last moment at which the book in hand is not too old, or None where there is none."""
        return None if self._received_at_ns is None else self._received_at_ns + self.stale_after_ns

    def spoiled(self, reason: str, now_ns: int) -> None:
        """Take note that the book in hand may be older than it seems; the next one will do."""
        self.status(now_ns)
        self._move(Event.AGED, reason, now_ns)

    def emptied(self, reason: str, now_ns: int) -> None:
        """Take note that there is no book in hand any more; the next one will do."""
        self.status(now_ns)
        self._received_at_ns = None
        self._good_since.clear()
        self._move(Event.AGED, reason, now_ns)
        self._status = Status(self._status.state, reason, self._status.since_ns)

    def accepted(self, now_ns: int, received_at_ns: int) -> None:
        """Take note of a book that passed its own checks and the screen."""
        self.status(now_ns)
        self._failures = 0
        self._received_at_ns = received_at_ns
        if now_ns - received_at_ns > self.stale_after_ns:
            return
        self._good_since.append(now_ns)
        if self._status.state is State.SUSPECT:
            if len(self._good_since) >= CONFIRMATIONS and now_ns - self._good_since[0] >= CONFIRM_NS:
                self._move(Event.CONFIRMED, LIVE_REASON, now_ns)
                self._rejects.clear()
        else:
            self._move(Event.GOOD_BOOK, LIVE_REASON, now_ns)
        while len(self._good_since) > CONFIRMATIONS and now_ns - self._good_since[1] >= CONFIRM_NS:
            self._good_since.popleft()

    def rejected(self, reason: str, now_ns: int) -> None:
        """Take note of a book that failed a check; the third within a minute makes the venue suspect."""
        self.status(now_ns)
        self._failures = 0
        self._good_since.clear()
        self._rejects.append(now_ns)
        while self._rejects[0] < now_ns - REJECTS_WINDOW_NS:
            self._rejects.popleft()
        if len(self._rejects) >= REJECTS_MAX:
            self._move(Event.DOUBTED, reason, now_ns)
        self._restate(reason)

    def doubted(self, reason: str, now_ns: int, *, by_its_own_book: bool = True) -> None:
        """
        Take note that a book that passed its own checks is not to be believed (an outlier, a frozen side).

        Args:
            by_its_own_book: It has just come in; otherwise other venues' books have brought it to light.
        """
        self.status(now_ns)
        self._good_since.clear()
        if by_its_own_book:
            self._failures = 0
            # It shows that the venue answers, but must not bring it back: through live to suspect in one step.
            self._move(Event.GOOD_BOOK, reason, now_ns)
        self._move(Event.DOUBTED, reason, now_ns)
        if self._status.state is State.SUSPECT:
            self._restate(reason)

    def failed(self, reason: str, now_ns: int, *, at_once: bool = False) -> None:
        """Take note of a request that gave no book; the third in a row, or one *at_once*, takes the venue down."""
        self.status(now_ns)
        self._good_since.clear()
        self._failures += 1
        if at_once or self._failures >= FAILURES_MAX:
            self._move(Event.GAVE_OUT, reason, now_ns)
        self._restate(reason)

    def _move(self, event: Event, reason: str | None, at_ns: int) -> None:
        state = TRANSITIONS.get((self._status.state, event))
        if state is not None:
            self._status = Status(state, reason, at_ns)

    def _restate(self, reason: str) -> None:
        """Keep the reason of a venue in trouble up to date; a live one has none, a stale one is stale."""
        if self._status.state in (State.WARMING, State.SUSPECT, State.DOWN):
            self._status = Status(self._status.state, reason, self._status.since_ns)


def outliers(mids: Mapping[str, int], outlier_bps: Decimal) -> frozenset[str]:
    """
    Name the venues whose mid is more than *outlier_bps* from the median of all.

    Three or more venues are needed to tell who is wrong; with fewer nobody is named.  Where not even two agree with
    the median, nobody can be believed and all are named.
    """
    if len(mids) < 3:
        return frozenset()
    middle = median(mids.values())
    out = frozenset(venue for venue, mid in mids.items() if apart(mid, middle, outlier_bps))
    return frozenset(mids) if len(mids) - len(out) < 2 else out


def median(mids: Collection[int]) -> int:
    """Give the middle one of whole numbers, or half the sum of the middle two, rounded down."""
    ordered = sorted(mids)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2


def apart(mid: int, other: int, bps_max: Decimal) -> bool:
    """Tell whether two mids are more than *bps_max*, which has at most 6 decimals, of *other* from each other."""
    return abs(mid - other) * 10_000_000_000 > int(bps_max * 1_000_000) * other


class _Extremes:
    """The lowest and the highest of recent mids, at a cost that does not grow with their number."""

    def __init__(self) -> None:
        self._lows: deque[tuple[int, int]] = deque()
        self._highs: deque[tuple[int, int]] = deque()

    def add(self, mid: int, now_ns: int) -> None:
        """Take note of a mid; earlier ones that are no more extreme will never be asked for again."""
        while self._lows and self._lows[-1][1] >= mid:
            self._lows.pop()
        while self._highs and self._highs[-1][1] <= mid:
            self._highs.pop()
        self._lows.append((now_ns, mid))
        self._highs.append((now_ns, mid))

    def since(self, from_ns: int) -> list[int]:
        """Give the lowest and the highest mid since *from_ns*, and forget what was before; nothing if there is none."""
        for extremes in (self._lows, self._highs):
            while extremes and extremes[0][0] < from_ns:
                extremes.popleft()
        return [extremes[0][1] for extremes in (self._lows, self._highs) if extremes]


class JumpGuard:
    """Hold a symbol back when its mid leaps, until further updates confirm the new price."""

    def __init__(self) -> None:
        """Begin without a history."""
        self._recent = _Extremes()
        self._leapt_from = 0
        self._held_since_ns: int | None = None
        self._held_mid = 0
        self._confirmations = 0
        self._confirm_ns = JUMP_CONFIRM_NS

    @property
    def held(self) -> bool:
        """Tell whether the last leap is still unconfirmed."""
        return self._held_since_ns is not None

    def observe(self, mid: int, now_ns: int) -> None:
        """Take note of the mid after an accepted book, and hold, confirm or release."""
        if not self.held:
            recent = self._recent.since(now_ns - JUMP_WINDOW_NS)
            far_off = [earlier for earlier in recent if apart(mid, earlier, JUMP_BPS_MAX)]
            self._leapt_from = max(far_off, key=lambda earlier: abs(mid - earlier), default=mid)
        if not apart(mid, self._leapt_from, JUMP_BPS_MAX):
            self._settle(mid, now_ns)
        elif self._held_since_ns is None or apart(mid, self._held_mid, JUMP_BPS_MAX):
            self._held_since_ns, self._held_mid, self._confirmations = now_ns, mid, 0
            far = apart(mid, self._leapt_from, LEAP_BPS_MAX)
            self._confirm_ns = LEAP_CONFIRM_NS if far else JUMP_CONFIRM_NS
        else:
            self._confirmations += 1
            if self._confirmations >= CONFIRMATIONS and now_ns - self._held_since_ns >= self._confirm_ns:
                self._recent = _Extremes()
                self._settle(mid, now_ns)

    def _settle(self, mid: int, now_ns: int) -> None:
        self._recent.add(mid, now_ns)
        self._held_since_ns = None
