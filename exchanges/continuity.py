"""Hold each book of one venue and symbol against the ones before it.

Pure: every call is told the time.  Finds what no single book shows: a sequence or a clock that goes back or leaps
ahead, answers from an old cache, one side that stands still while the other moves.
"""

from __future__ import annotations

from collections import deque

from exchanges.book import BookRejected, Ladder, RawBook, Reject, VenueBook
from exchanges.clock import MS

CLOCK_LAG_MAX_MS = 5_000
"""How much later than usual a venue's time of generation may come in."""
LEAP_MIN, LEAP_FACTOR = 10_000, 1_000
"""A sequence that runs ahead by more than both this number and this many times its recent pace has leapt: believing it
would make every book after it look old."""
PACE_MIN_NS = 3_000 * MS
"""A pace is known after this long."""
HISTORY_NS = 30_000 * MS
"""How far back "recent" reaches, and how long a venue that began anew must agree with itself to be believed."""
FROZEN_SIDE_NS = 5_000 * MS
FROZEN_SIDE_BOOKS = 10
"""One side is frozen when it stood still this long, over at least so many changes of the other."""


class _Numbering:
    """A run of books that agree with each other about the venue's sequence and clock."""

    def __init__(self, since_ns: int, *, time_is_generation: bool) -> None:
        self.since_ns = since_ns
        self._time_is_generation = time_is_generation
        self._sequence: int | None = None
        self._time_ms: int | None = None
        self._sequences: deque[tuple[int, int]] = deque()
        # (when, offset to our clock), offsets rising: the first is the smallest recent one.
        self._offsets: deque[tuple[int, int]] = deque()

    def late_ms(self, raw: RawBook, at_ns: int) -> int:
        """Give how much later than the promptest recent one a book's time came in; 0 where that means nothing."""
        if raw.time_ms is None or not self._time_is_generation or not self._offsets:
            return 0
        return at_ns // MS - raw.time_ms - self._offsets[0][1]

    def breach(self, raw: RawBook, at_ns: int, doubted_since_ns: int | None) -> Reject | None:
        """
        Say what keeps a book from being the next of this run.

        Args:
            doubted_since_ns: When the first book since the last good one did not fit; what is ahead of the pace then
                does not become credible by being repeated.
        """
        if raw.sequence is not None and self._sequence is not None:
            ahead = raw.sequence - self._sequence
            if ahead < 0 or (ahead > LEAP_MIN and self._leapt(ahead, doubted_since_ns or at_ns)):
                return Reject.OUT_OF_ORDER
        if raw.time_ms is not None and self._time_ms is not None and raw.time_ms < self._time_ms:
            return Reject.OUT_OF_ORDER
        late_ms = self.late_ms(raw, at_ns)
        if late_ms > CLOCK_LAG_MAX_MS:
            return Reject.LAGGING
        return Reject.OUT_OF_ORDER if late_ms < -CLOCK_LAG_MAX_MS else None

    def _leapt(self, ahead: int, at_ns: int) -> bool:
        """Tell whether the sequence has run *ahead* out of all proportion to its recent pace, if that is known."""
        (first_at_ns, first), (last_at_ns, last) = self._sequences[0], self._sequences[-1]
        if last == first or last_at_ns - first_at_ns < PACE_MIN_NS:
            return False
        return ahead * (last_at_ns - first_at_ns) > LEAP_FACTOR * (last - first) * (at_ns - last_at_ns)

    def take(self, raw: RawBook, at_ns: int) -> None:
        """Add a book that fits."""
        self._sequence, self._time_ms = raw.sequence, raw.time_ms
        if raw.sequence is not None:
            self._sequences.append((at_ns, raw.sequence))
            while self._sequences[0][0] < at_ns - HISTORY_NS:
                self._sequences.popleft()
        if raw.time_ms is not None:
            offset = at_ns // MS - raw.time_ms
            while self._offsets and self._offsets[-1][1] >= offset:
                self._offsets.pop()
            self._offsets.append((at_ns, offset))
            while self._offsets[0][0] < at_ns - HISTORY_NS:
                self._offsets.popleft()


class Continuity:
    """
    What is known of one venue's books of one symbol.

    A venue that numbers its books anew, or sets its clock, is believed again after ``HISTORY_NS`` of books that agree
    with each other; a clock that stands still never agrees.  A venue that then goes on where it had left off is
    believed at once.
    """

    def __init__(self, *, time_is_generation: bool) -> None:
        """
        Begin without a history.

        Args:
            time_is_generation: The venue documents its time as that of the message's generation, so that it
                may be read as a sign of age; elsewhere it may be the last change, and only its order counts.
        """
        self._time_is_generation = time_is_generation
        self._believed = self._numbering(0)
        self._former: _Numbering | None = None
        self._anew: _Numbering | None = None
        self._doubted_since_ns: int | None = None
        self._sides: tuple[Ladder, Ladder] | None = None
        self._still_since_ns = [0, 0]
        self._moves_of_the_other = [0, 0]

    def _numbering(self, since_ns: int) -> _Numbering:
        return _Numbering(since_ns, time_is_generation=self._time_is_generation)

    def received_at_ns(self, raw: RawBook, sent_at_ns: int, answered_at_ns: int) -> int:
        """
        Give the moment that the book's age counts from: *sent_at_ns*, or earlier by the venue's own clock.

        The promptest time of generation among the recent answers shows by how much this one is older.

        Raises:
            BookRejected: OUT_OF_ORDER where the sequence or the time went back or the clock leapt ahead, LAGGING
                where the time is over ``CLOCK_LAG_MAX_MS`` behind.
        """
        reason = self._believed.breach(raw, answered_at_ns, self._doubted_since_ns)
        if reason is not None:
            self._doubted_since_ns = self._doubted_since_ns or answered_at_ns
            if self._former is not None and self._former.breach(raw, answered_at_ns, None) is None:
                self._believed, self._former = self._former, None
            elif not self._began_anew(raw, answered_at_ns):
                raise BookRejected(reason)
        return min(sent_at_ns, answered_at_ns - self._believed.late_ms(raw, answered_at_ns) * MS)

    def _began_anew(self, raw: RawBook, at_ns: int) -> bool:
        """Tell whether books that do not fit have agreed with each other for ``HISTORY_NS``, and go on with them."""
        if self._anew is None or self._anew.breach(raw, at_ns, None) is not None:
            self._anew = self._numbering(at_ns)
        self._anew.take(raw, at_ns)
        if at_ns - self._anew.since_ns < HISTORY_NS:
            return False
        self._believed, self._former, self._anew = self._anew, self._believed, None
        return True

    def accept(self, raw: RawBook, book: VenueBook, answered_at_ns: int) -> None:
        """Remember an accepted book."""
        self._anew = self._doubted_since_ns = None
        self._believed.take(raw, answered_at_ns)
        self._watch_sides((book.bids, book.asks), answered_at_ns)

    def _watch_sides(self, sides: tuple[Ladder, Ladder], at_ns: int) -> None:
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
