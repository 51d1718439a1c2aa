"""Get a venue's books by asking for them, symbol after symbol, evenly spaced.

A venue in trouble is probed at least every second; one that asks for a pause gets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from exchanges.board import Board
from exchanges.book import BookRejected
from exchanges.clock import MS, Clock
from exchanges.errors import VenueFailure
from exchanges.intake import PROBE_INTERVAL_MAX_MS, Intake
from exchanges.line import Line


class Polling:
    """One venue's polls."""

    def __init__(
        self,
        venue: str,
        symbols: Sequence[str],
        poll_interval_ms: int,
        line: Line,
        intake: Intake,
        board: Board,
        clock: Clock,
    ) -> None:
        """
        Prepare; nothing is asked yet.

        Args:
            symbols: The venue's own, each with a seat on the board.
            poll_interval_ms: Effective time between two polls of one symbol.
        """
        self._venue = venue
        self._symbols = symbols
        self._poll_interval_ms = poll_interval_ms
        self._line = line
        self._intake = intake
        self._board = board
        self._clock = clock

    async def run(self) -> None:
        """Poll until cancelled; without a symbol there is nothing to do."""
        now_ns = self._clock.now_ns()
        spacing_ns = self._poll_interval_ms * MS // max(1, len(self._symbols))
        due_ns = {symbol: now_ns + place * spacing_ns for place, symbol in enumerate(self._symbols)}
        while due_ns:
            symbol = min(due_ns, key=due_ns.__getitem__)
            await asyncio.sleep(max(0.0, (due_ns[symbol] - self._clock.now_ns()) / 1_000_000_000))
            pause_s = await self._poll(symbol)
            started_ns = self._line.last_request_ns
            if pause_s is None:
                due_ns[symbol] = started_ns + self._interval_ms(symbol) * MS
            else:
                due_ns[symbol] = self._clock.now_ns() + round(pause_s * 1_000) * MS

    def _interval_ms(self, symbol: str) -> int:
        """Poll a symbol in trouble more often, within the venue's limit, so that it is back soon."""
        source = self._board.source(self._venue, symbol, self._clock.now_ns())
        if source is not None and source.live:
            return self._poll_interval_ms
        return min(self._poll_interval_ms, max(self._line.rate_limit_ms, PROBE_INTERVAL_MAX_MS // 2))

    async def _poll(self, symbol: str) -> float | None:
        """Poll once and publish; give the seconds to wait before this symbol's next poll if no answer came."""
        try:
            answer = await self._line.book(symbol)
            self._board.tally(self._venue).answered_s.add(answer.took_s)
            self._intake.take(*answer)
        except BookRejected as rejected:
            self._intake.reject(symbol, rejected)
        except VenueFailure as failure:
            return self._intake.failed([symbol], failure)
        return None
