"""Broken copies of feeds: each plants one fault into the process that calls it, to see a rig turn red."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from exchanges import line
from exchanges.board import Board
from exchanges.book import Ladder, RawBook, VenueBook
from exchanges.ccxt_venue import CcxtStream
from exchanges.clock import MS, SystemClock
from exchanges.errors import VenueFailure
from exchanges.streaming import Streaming

_BLOCKED_S = 0.3
_GAP_NS = 200 * MS


def never_stale() -> None:
    """Believe a book for ever."""
    seat = Board.seat

    def seat_for_ever(self: Board, venue: str, symbol: str, stale_after_ms: int, now_ns: int) -> None:
        seat(self, venue, symbol, 1_000 * stale_after_ms, now_ns)

    Board.seat = seat_for_ever  # type: ignore[method-assign]


def silence_believed() -> None:
    """Take a silent stream's book for one of now, without asking the venue."""

    async def believe(self: Streaming, symbol: str, watch: Any) -> None:
        now_ns = watch.alive_at_ns = self._clock.now_ns()
        self._board.publish(replace(watch.history[-1].book, received_at_ns=now_ns), now_ns)

    Streaming._check = believe  # type: ignore[method-assign]


def gaps_uncounted() -> None:
    """Judge age by a clock that stands still while the process does."""
    now_ns, state = SystemClock.now_ns, {"read": 0, "shown": 0}

    def now_without_gaps_ns(self: SystemClock) -> int:
        read_ns = now_ns(self)
        passed_ns = read_ns - state["read"] if state["read"] else read_ns
        if state["read"]:
            passed_ns = min(passed_ns, _GAP_NS)
        state["read"], state["shown"] = read_ns, state["shown"] + passed_ns
        return state["shown"]

    SystemClock.now_ns = now_without_gaps_ns  # type: ignore[method-assign]


def connections_kept() -> None:
    """Leave the connections of a broken stream open."""
    kept = []

    async def keep(self: CcxtStream) -> None:
        kept.append(self)

    CcxtStream.close = keep  # type: ignore[method-assign]


def tasks_kept() -> None:
    """Leave something waiting for each stream that broke."""
    broken, kept = Streaming._broken, []

    def break_and_wait(self: Streaming, failure: VenueFailure) -> None:
        broken(self, failure)
        kept.append(asyncio.ensure_future(asyncio.Event().wait()))

    Streaming._broken = break_and_wait  # type: ignore[method-assign]


def books_kept() -> None:
    """Remember every book."""
    publish, kept = Board.publish, []

    def publish_and_keep(self: Board, book: VenueBook, now_ns: int, **options: Any) -> None:
        kept.append(book)
        publish(self, book, now_ns, **options)

    Board.publish = publish_and_keep  # type: ignore[method-assign]


def loop_blocked() -> None:
    """Think for a long while about every book that is rejected."""
    reject = Board.reject

    def reject_slowly(self: Board, *arguments: Any) -> None:
        until_s = time.process_time() + _BLOCKED_S
        while time.process_time() < until_s:
            pass
        reject(self, *arguments)

    Board.reject = reject_slowly  # type: ignore[method-assign]


def anything_goes() -> None:
    """Believe books without looking at them."""
    line.decode = _decoded_unseen  # type: ignore[assignment]


def _decoded_unseen(raw: RawBook, *, venue: str, symbol: str, received_at_ns: int, **_: Any) -> VenueBook:
    sides = [
        Ladder.of([(Decimal(repr(row[0])), Decimal(repr(row[1]))) for row in side]) for side in (raw.bids, raw.asks)
    ]
    return VenueBook(venue, symbol, *sides, received_at_ns, raw.sequence)


FEED_FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        never_stale,
        silence_believed,
        gaps_uncounted,
        connections_kept,
        tasks_kept,
        books_kept,
        loop_blocked,
        anything_goes,
    )
}
