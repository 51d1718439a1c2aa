"""Take in what comes of a venue: every book through the same checks, every failure to the board and the log."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import structlog

from exchanges.board import Board
from exchanges.book import BookRejected, RawBook, Reject, VenueBook
from exchanges.clock import Clock
from exchanges.continuity import Continuity
from exchanges.errors import VenueFailure, VenueMisuse, VenueRefusal
from exchanges.line import PAUSE_MIN_MS

PROBE_INTERVAL_MAX_MS = 1_000
PROBE_INTERVAL_MIN_MS = 100
MISUSE_PAUSE_S = 60.0
"""What will not work again unless someone changes something is tried again this seldom."""

log = structlog.get_logger()


def jittered_ms(in_a_row: int) -> float:
    """Give the time before the next try after so many failures in a row, with full jitter."""
    ceiling_ms = min(PROBE_INTERVAL_MAX_MS, PROBE_INTERVAL_MIN_MS * 2 ** min(in_a_row, 10))
    return random.uniform(PROBE_INTERVAL_MIN_MS, ceiling_ms)


class Intake:
    """One venue's door to the board, for the books of one way of getting them."""

    def __init__(
        self, venue: str, symbols: Sequence[str], board: Board, clock: Clock, *, time_is_generation: bool
    ) -> None:
        """
        Begin without a history.

        Args:
            symbols: The venue's own; the sequence is read again with every failure of all.
            time_is_generation: See ``Continuity``.
        """
        self._venue = venue
        self._symbols = symbols
        self._board = board
        self._clock = clock
        self._time_is_generation = time_is_generation
        self._continuity: dict[str, Continuity] = {}
        self._failures: Counter[str] = Counter()
        self._rejects: dict[str, Reject] = {}

    def aged(self, raw: RawBook, book: VenueBook, sent_at_ns: int, answered_at_ns: int) -> VenueBook:
        """
        Hold a checked book against those before it, and give it the moment that its age counts from.

        Args:
            sent_at_ns: When it was asked for, or came of itself.

        Raises:
            BookRejected: If it does not follow them.
        """
        continuity = self._of(book.symbol)
        book = replace(book, received_at_ns=continuity.received_at_ns(raw, sent_at_ns, answered_at_ns))
        continuity.accept(raw, book, answered_at_ns)
        return book

    def take(
        self,
        raw: RawBook,
        book: VenueBook,
        sent_at_ns: int,
        answered_at_ns: int,
        *,
        frozen_side_counts: bool = True,
    ) -> VenueBook:
        """
        Publish a checked book, with the moment that its age counts from.

        Args:
            frozen_side_counts: A side that stands still while the other moves spoils the book.

        Raises:
            BookRejected: If it does not follow the ones before.
        """
        book = self.aged(raw, book, sent_at_ns, answered_at_ns)
        self._failures.pop(book.symbol, None)
        self._rejects.pop(book.symbol, None)
        frozen = frozen_side_counts and self.frozen_side(book.symbol, answered_at_ns)
        self._board.publish(book, answered_at_ns, frozen_side=frozen)
        return book

    def frozen_side(self, symbol: str, now_ns: int) -> bool:
        """Tell whether one side of a symbol's books has stood still while the other moved."""
        return self._of(symbol).frozen_side(now_ns)

    def _of(self, symbol: str) -> Continuity:
        if symbol not in self._continuity:
            self._continuity[symbol] = Continuity(time_is_generation=self._time_is_generation)
        return self._continuity[symbol]

    def reject(self, symbol: str, rejected: BookRejected) -> None:
        """Take note of a book that failed a check; the log hears of each reason once."""
        self._failures.pop(symbol, None)
        if self._rejects.get(symbol) != rejected.reason:
            log.warning("book.rejected", venue=self._venue, symbol=symbol, reason=rejected.reason.value)
            self._rejects[symbol] = rejected.reason
        self._board.reject(self._venue, symbol, rejected.reason.value, self._clock.now_ns())

    def failed(self, symbols: Sequence[str], failure: VenueFailure) -> float:
        """Take note of a request without an answer; give the seconds to wait before the next one."""
        self._board.tally(self._venue).failed[failure.reason] += 1
        self._failures.update(symbols)
        in_a_row = max((self._failures[symbol] for symbol in symbols), default=1)
        if isinstance(failure, VenueRefusal):
            self.fail_all(failure.reason)
            pause_ms = max(round(failure.pause_s * 1_000), PAUSE_MIN_MS)
            log.warning("venue.paused", venue=self._venue, reason=failure.reason, pause_ms=pause_ms)
            return pause_ms / 1_000
        lasting = isinstance(failure, VenueMisuse)
        for symbol in symbols:
            self._board.fail(self._venue, symbol, failure.reason, self._clock.now_ns(), at_once=lasting)
        if in_a_row == 1:
            log.info("venue.request_failed", venue=self._venue, reason=failure.reason, detail=failure.detail)
        return MISUSE_PAUSE_S if lasting else jittered_ms(in_a_row) / 1_000

    def fail_all(self, reason: str) -> None:
        """Take the whole venue down at once."""
        for symbol in self._symbols:
            self._board.fail(self._venue, symbol, reason, self._clock.now_ns(), at_once=True)

    def forgive(self) -> None:
        """Forget failures: the venue has answered."""
        self._failures.clear()
