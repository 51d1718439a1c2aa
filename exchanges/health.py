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
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from statistics import median

from exchanges.clock import MS

REJECTS_MAX = 3
REJECTS_WINDOW_NS = 60_000 * MS
"""So many rejected books within so long make a venue suspect."""
CONFIRMATIONS = 3
CONFIRM_NS = 1_000 * MS
"""So many accepted books over at least so long end it."""
FAILURES_MAX = 3
"""So many requests in a row without a book take a venue down."""
JUMP_BPS_MAX = 500
JUMP_WINDOW_NS = 10_000 * MS
"""A mid that moves by more than this within so long is held back ..."""
JUMP_CONFIRM_NS = 2_000 * MS
"""... until ``CONFIRMATIONS`` further updates over at least so long agree with it."""


class State(StrEnum):
    """Where a venue stands with one symbol."""

    WARMING = "warming"
    LIVE = "live"
    STALE = "stale"
    SUSPECT = "suspect"
    DOWN = "down"


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
        self._stale_after_ns = stale_after_ns
        self._received_at_ns: int | None = None
        self._rejects: deque[int] = deque()
        self._failures = 0
        self._good_since: deque[int] = deque()

    def status(self, now_ns: int) -> Status:
        """Give the state as it is at *now_ns*, having looked at the book's age."""
        if self._received_at_ns is not None and now_ns - self._received_at_ns > self._stale_after_ns:
            self._move(Event.AGED, STALE_REASON, self._received_at_ns + self._stale_after_ns)
        return self._status

    def spoiled(self, reason: str, now_ns: int) -> None:
        """Take note that the book in hand may be older than it seems; the next one will do."""
        self._move(Event.AGED, reason, now_ns)

    def accepted(self, now_ns: int, received_at_ns: int) -> None:
        """Take note of a book that passed its own checks and the screen."""
        self.status(now_ns)
        self._failures = 0
        self._received_at_ns = received_at_ns
        if now_ns - received_at_ns > self._stale_after_ns:
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


def outliers(mids: Mapping[str, Decimal], outlier_bps: Decimal) -> frozenset[str]:
    """
    Name the venues whose mid is more than *outlier_bps* from the median of all.

    Three or more venues are needed to tell who is wrong; with fewer nobody is named.  Where not even two agree with
    the median, nobody can be believed and all are named.
    """
    if len(mids) < 3:
        return frozenset()
    middle = median(mids.values())
    out = frozenset(venue for venue, mid in mids.items() if apart_bps(mid, middle) > outlier_bps)
    return frozenset(mids) if len(mids) - len(out) < 2 else out


def apart_bps(mid: Decimal, other: Decimal) -> Decimal:
    """Give the distance of two mids in basis points of *other*."""
    return abs(mid - other) / other * 10_000


class JumpGuard:
    """Hold a symbol back when its mid leaps, until further updates confirm the new price."""

    def __init__(self) -> None:
        """Begin without a history."""
        self._recent: deque[tuple[int, Decimal]] = deque()
        self._held_since_ns: int | None = None
        self._held_mid = Decimal(0)
        self._confirmations = 0

    @property
    def held(self) -> bool:
        """Tell whether the last leap is still unconfirmed."""
        return self._held_since_ns is not None

    def observe(self, mid: Decimal, now_ns: int) -> None:
        """Take note of the mid after an accepted book, and hold, confirm or release."""
        while self._recent and now_ns - self._recent[0][0] > JUMP_WINDOW_NS:
            self._recent.popleft()
        leapt = any(apart_bps(mid, earlier) > JUMP_BPS_MAX for _, earlier in self._recent)
        if not leapt and (self._recent or not self.held):
            self._settle(mid, now_ns)
        elif self._held_since_ns is None or apart_bps(mid, self._held_mid) > JUMP_BPS_MAX:
            self._held_since_ns, self._held_mid, self._confirmations = now_ns, mid, 0
        else:
            self._confirmations += 1
            if self._confirmations >= CONFIRMATIONS and now_ns - self._held_since_ns >= JUMP_CONFIRM_NS:
                self._recent.clear()
                self._settle(mid, now_ns)

    def _settle(self, mid: Decimal, now_ns: int) -> None:
        self._recent.append((now_ns, mid))
        self._held_since_ns = None
