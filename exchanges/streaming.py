"""Get a venue's books from its stream, and do what ccxt.pro does not: find out when a stream lies.

A stream that breaks (a gap, a wrong sum, a message that cannot be, a socket that closes) is thrown away whole, its
books with it, and made anew.  One that is silent is held against an answer to a request: a quiet market's book is
confirmed, a dead stream's is found out.  Every book is held against an answer now and then, for what its stream does
not reveal.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog

from exchanges.board import Board
from exchanges.book import BookRejected, RawBook
from exchanges.ccxt_venue import CcxtStream
from exchanges.clock import MS, Clock
from exchanges.crosscheck import Shown, around, contradictions, reached
from exchanges.errors import VenueFailure, VenueMisuse, VenueRefusal
from exchanges.health import FROZEN_SIDE_REASON
from exchanges.intake import Intake, jittered_ms
from exchanges.line import Line
from exchanges.together import run_together

FIRST_BOOK_MS = 10_000
"""A stream on which a book has not come so long after it was subscribed to does not work, and the venue is polled."""
SUBSCRIBE_MS = 200
"""Between two subscriptions: Binance takes 5 messages a second ("WebSocket Streams: general information",
developers.binance.com/docs/binance-spot-api-docs/web-socket-streams, read 2026-11), others more."""
REJECTS_MAX = 3
"""So many books in a row that fail a check, and the next ones, which are made from them, will as well."""
BREAKS_MAX = 3
BREAKS_WINDOW_NS = 180_000 * MS
"""So many breaks within so long, and the venue is polled."""
CROSS_CHECK_MS = (30_000, 60_000)
"""Between two answers that a book is held against, evenly spread."""
FROZEN_CHECK_NS = 5_000 * MS
"""How soon after one answer another one is asked for, while one side of a book stands still and the other moves."""
SETTLE_MS = 1_000
"""How long a stream may take to show what an answer has shown."""
AGAIN_MS = 500
"""Before a stream is held against another answer: one that was of no use, or one that spoke against it."""
ANSWERS = 2
"""So many in a row must contradict the same level: one may show what came and went between two changes."""
HISTORY_NS = 2_000 * MS
"""So long a stream's books are kept, for answers that are older than they seem."""
UNKEYED_SHARE_MAX = 0.1
"""Where nothing says which moment an answer shows, so many of its levels may be another moment's."""
GUARD_MS = 50

log = structlog.get_logger()


@dataclass(slots=True)
class _Watch:
    """What is known of one symbol's stream."""

    alive_at_ns: int
    checked_at_ns: int
    next_check_ns: int
    resume_ns: int = 0
    """No check before this: the venue's limit is for more than doubts."""
    history: deque[Shown] = field(default_factory=deque)
    """Its latest books, in the order of their coming."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    check: asyncio.Task[None] | None = None

    def add(self, shown: Shown, now_ns: int) -> None:
        """Keep a book, and forget those that no answer will show; all of them count while a check is under way."""
        self.alive_at_ns = now_ns
        self.history.append(shown)
        while (
            self.check is None and len(self.history) > 1 and self.history[1].book.received_at_ns < now_ns - HISTORY_NS
        ):
            self.history.popleft()
        self.changed.set()


class Streaming:
    """One venue's streams."""

    def __init__(
        self,
        venue: str,
        symbols: Sequence[str],
        stale_after_ms: int,
        line: Line,
        intake: Intake,
        asked: Intake,
        board: Board,
        clock: Clock,
    ) -> None:
        """
        Prepare; nothing is connected yet.

        Args:
            symbols: The venue's own, each with a seat on the board.
            intake: For what is streamed.
            asked: For what is asked for: its history of sequences and times is another one.
        """
        self._venue = venue
        self._symbols = symbols
        self._stale_after_ms = stale_after_ms
        self._line = line
        self._intake = intake
        self._asked = asked
        self._board = board
        self._clock = clock

    @property
    def _again_ms(self) -> int:
        return min(AGAIN_MS, self._stale_after_ms // 8)

    @property
    def _all_there_ms(self) -> int:
        return FIRST_BOOK_MS + SUBSCRIBE_MS * len(self._symbols)

    async def run(self) -> VenueFailure:
        """Stream until it cannot be kept up; say why."""
        breaks: deque[int] = deque()
        while True:
            failure = await self._one_stream()
            now_ns = self._clock.now_ns()
            if failure.reason != "loop_stalled":
                breaks.append(now_ns)
            while breaks and breaks[0] < now_ns - BREAKS_WINDOW_NS:
                breaks.popleft()
            if isinstance(failure, VenueMisuse | NeverCame) or len(breaks) >= BREAKS_MAX:
                return failure
            await asyncio.sleep(jittered_ms(len(breaks)) / 1_000)
            self._board.tally(self._venue).reconnects += 1

    def _broken(self, failure: VenueFailure) -> None:
        """Empty the books: without the changes that are missing now they are nobody's."""
        self._board.tally(self._venue).failed[failure.reason] += 1
        for symbol in self._symbols:
            self._board.empty(self._venue, symbol, failure.reason, self._clock.now_ns())
        if isinstance(failure, VenueRefusal):
            self._line.pause(failure)
        log.warning("stream.broken", venue=self._venue, reason=failure.reason, detail=failure.detail)

    async def trial(self) -> bool:
        """Tell whether a stream shows every symbol's book in time; nothing of it is published, but why it does not."""
        reason = await self._tried()
        if reason is not None:
            self._board.tally(self._venue).failed[reason] += 1
        return reason is None

    async def _tried(self) -> str | None:
        try:
            stream = await self._line.open_stream()
        except VenueFailure as failure:
            return failure.reason
        try:
            async with asyncio.timeout(self._all_there_ms / 1_000):
                await asyncio.gather(*(self._first(stream, place) for place in range(len(self._symbols))))
        except VenueFailure as failure:
            return failure.reason
        except BookRejected as rejected:
            return rejected.reason.value
        except TimeoutError:
            return "silent"
        finally:
            await stream.close()
        return None

    async def _first(self, stream: CcxtStream, place: int) -> None:
        await asyncio.sleep(place * SUBSCRIBE_MS / 1_000)
        symbol = self._symbols[place]
        self._line.decoded(await stream.next_book(symbol), symbol, self._clock.now_ns())

    async def _one_stream(self) -> VenueFailure:
        """Keep the books by one connection until something is wrong with it; say what."""
        try:
            stream = await self._line.open_stream()
        except VenueFailure as failure:
            self._broken(failure)
            return failure
        try:
            ended = await self._until_broken(stream)
            self._broken(ended)  # Before anything is waited for: nobody may be quoted from these books any more.
            return ended
        finally:
            await stream.close()

    async def _until_broken(self, stream: CcxtStream) -> VenueFailure:
        opened_at_ns = self._clock.now_ns()
        watches = {
            symbol: _Watch(opened_at_ns, opened_at_ns, opened_at_ns + round(random.uniform(*CROSS_CHECK_MS)) * MS)
            for symbol in self._symbols
        }
        followed = (
            self._follow(stream, opened_at_ns, symbol, watch, place * SUBSCRIBE_MS / 1_000)
            for place, (symbol, watch) in enumerate(watches.items())
        )
        try:
            await run_together(*followed, self._guard(opened_at_ns, watches))
        except VenueFailure as failure:
            return failure
        finally:
            checks = [watch.check for watch in watches.values() if watch.check is not None]
            for check in checks:
                check.cancel()
            await asyncio.gather(*checks, return_exceptions=True)
        raise AssertionError("a stream ends with a failure only")

    async def _follow(self, stream: CcxtStream, opened_at_ns: int, symbol: str, watch: _Watch, after_s: float) -> None:
        """Publish each of a symbol's books as it comes."""
        await asyncio.sleep(after_s)
        rejects = 0
        while True:
            raw = await stream.next_book(symbol)
            now_ns = self._clock.now_ns()
            if self._board.stalled_since(opened_at_ns, now_ns):
                raise VenueFailure("loop_stalled", "what waited in the socket is old")
            try:
                self._take(symbol, raw, watch, now_ns)
                rejects = 0
            except BookRejected as rejected:
                self._intake.reject(symbol, rejected)
                rejects += 1
                if rejects >= REJECTS_MAX:
                    raise VenueFailure(rejected.reason.value, "the streamed book cannot be") from rejected

    def _take(self, symbol: str, raw: RawBook, watch: _Watch, now_ns: int) -> None:
        # In a stream, a side of a thin market may stand still over many changes of the other: an answer will tell.
        decoded = self._line.decoded(raw, symbol, now_ns)
        book = self._intake.take(raw, decoded, now_ns, now_ns, frozen_side_counts=False)
        watch.add(Shown(book, raw.sequence, raw.time_ms), now_ns)
        if raw.time_ms is not None:
            late_s = self._clock.utc().timestamp() - raw.time_ms / 1_000
            self._board.tally(self._venue).streamed_s.add(max(0.0, late_s))
        if self._intake.frozen_side(symbol, now_ns):
            watch.next_check_ns = min(watch.next_check_ns, watch.checked_at_ns + FROZEN_CHECK_NS)

    async def _guard(self, opened_at_ns: int, watches: dict[str, _Watch]) -> None:
        """Look out for silence, and let every book be checked in its turn."""
        while True:
            await asyncio.sleep(GUARD_MS / 1_000)
            now_ns = self._clock.now_ns()
            if self._board.stalled_since(opened_at_ns, now_ns):
                raise VenueFailure("loop_stalled", "what waited in the sockets is old")
            for symbol, watch in watches.items():
                if watch.check is not None and watch.check.done():
                    watch.check = watch.check.result()
                silent_ms = (now_ns - watch.alive_at_ns) // MS
                if not watch.history:
                    if now_ns - opened_at_ns > self._all_there_ms * MS:
                        raise NeverCame("silent", f"{symbol} has not come")
                elif silent_ms > self._stale_after_ms:
                    raise VenueFailure("silent", f"nothing of {symbol} for {silent_ms} ms")
                elif watch.check is None and (
                    now_ns >= watch.next_check_ns
                    or (silent_ms > self._stale_after_ms // 2 and now_ns >= watch.resume_ns)
                ):
                    watch.check = asyncio.create_task(self._check(symbol, watch))

    async def _check(self, symbol: str, watch: _Watch) -> None:
        """
        Hold a symbol's book against an answer to a request, and against the next ones if they differ.

        Raises:
            VenueFailure: ``rest_disagrees``, ``frozen_side``.
        """
        try:
            wrong = await self._contradicted(symbol, watch)
            for _ in range(ANSWERS - 1):
                if wrong:
                    await asyncio.sleep(self._again_ms / 1_000)  # For an answer of another moment.
                    wrong &= await self._contradicted(symbol, watch)
            if wrong:
                raise self._disagreement(symbol, len(wrong))
            if self._asked.frozen_side(symbol, asked_at_ns := self._clock.now_ns()):
                self._board.doubt(self._venue, symbol, FROZEN_SIDE_REASON, asked_at_ns)
                raise _Disagreement(FROZEN_SIDE_REASON, f"one side of {symbol} stands still in the answers, too")
        except (BookRejected, VenueFailure) as trouble:
            if isinstance(trouble, _Disagreement):
                raise
            # The answer was of no use; the stream is none the worse for it.
            reason = trouble.reason.value if isinstance(trouble, BookRejected) else trouble.reason
            self._board.tally(self._venue).failed[reason] += 1
        finally:
            watch.checked_at_ns = now_ns = self._clock.now_ns()
            watch.resume_ns = now_ns + self._again_ms * MS
            watch.next_check_ns = now_ns + round(random.uniform(*CROSS_CHECK_MS)) * MS

    async def _contradicted(self, symbol: str, watch: _Watch) -> frozenset[tuple[int, int, int]]:
        """
        Ask for a symbol's book; confirm the stream's if they agree, else give the levels that speak against it.

        Raises:
            VenueFailure: Also ``rest_disagrees``, if the stream does not move at all and the answer has.
        """
        answer = await self._line.book(symbol)
        self._board.tally(self._venue).answered_s.add(answer.took_s)
        asked = Shown(self._asked.aged(*answer), answer.raw.sequence, answer.raw.time_ms)
        deadline_ns = self._clock.now_ns() + min(SETTLE_MS, self._stale_after_ms // 4) * MS
        while wrong := _wrong(watch.history, asked):
            left_ns = deadline_ns - self._clock.now_ns()
            if reached(watch.history[-1], asked):
                return wrong
            if left_ns <= 0:
                if watch.history[-1].book.received_at_ns > answer.sent_at_ns:
                    return frozenset()  # It moves, but lags behind.
                raise self._disagreement(symbol, len(wrong))
            watch.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_ns / 1_000_000_000):
                    await watch.changed.wait()
        latest = watch.history[-1].book
        if wrong is not None and asked.book.received_at_ns > latest.received_at_ns:
            watch.alive_at_ns = max(watch.alive_at_ns, asked.book.received_at_ns)
            self._board.publish(replace(latest, received_at_ns=asked.book.received_at_ns), self._clock.now_ns())
        return frozenset()

    def _disagreement(self, symbol: str, levels: int) -> _Disagreement:
        self._board.doubt(self._venue, symbol, "rest_disagrees", self._clock.now_ns())
        return _Disagreement("rest_disagrees", f"{levels} levels of {symbol} are not as the venue shows them")


def _wrong(history: Sequence[Shown], asked: Shown) -> frozenset[tuple[int, int, int]] | None:
    """Find the levels that speak against a stream; None if some do, but the answer may be older than all of it."""
    keyed, shown = around(tuple(history), asked)
    wrong = contradictions(asked.book, [state.book for state in shown or history])
    tolerated = 0 if keyed else UNKEYED_SHARE_MAX * (len(asked.book.bids) + len(asked.book.asks))
    if len(wrong) <= tolerated:
        return frozenset()
    return wrong if shown else None


class NeverCame(VenueFailure):
    """Say that a stream has not shown its first books in time."""


class _Disagreement(VenueFailure):
    """Say that the venue's answers speak against its stream."""
