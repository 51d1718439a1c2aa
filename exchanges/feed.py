"""Keep one venue's books on the board: instruments first, then polls or a stream, for as long as the service runs.

One request is in flight per venue, evenly spaced, never closer than the venue's limit, each under a deadline of its
own.  A venue whose stream cannot be kept up is polled meanwhile.  No venue waits for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from exchanges.board import Board
from exchanges.clock import MS, Clock
from exchanges.errors import VenueConfigError, VenueFailure, VenueMisuse
from exchanges.instruments import Instrument
from exchanges.intake import PROBE_INTERVAL_MAX_MS, Intake
from exchanges.line import Line, VenueConfig
from exchanges.offloop import OffLoop
from exchanges.polling import Polling
from exchanges.streaming import Streaming
from exchanges.together import run_together

INSTRUMENTS_TIMEOUT_MS = 10_000
"""For the first load; a refresh, which no poll waits for longer than it must, gets half of ``stale_after_ms``."""
INSTRUMENTS_REFRESH_MS = 24 * 3_600_000
INSTRUMENTS_RETRY_MS = 3_600_000
"""After a refresh that failed; what was there stays."""
LOOK_S = 0.5
FALLBACK_S, FALLBACK_MAX_S = 60.0, 900.0
"""How long a venue is polled before its stream is tried again; twice as long after each try that failed."""
STALE_AFTER_MS = 5_000

log = structlog.get_logger()


class VenueFeed:
    """One venue's loop."""

    def __init__(
        self,
        config: VenueConfig,
        symbols: Sequence[str],
        board: Board,
        clock: Clock,
        offloop: OffLoop,
        pairs: Sequence[tuple[str, str]] = (),
    ) -> None:
        """
        Prepare the venue; nothing is asked, and the board does not know of it yet.

        Args:
            symbols: Those that are served; the venue's own are asked for.
            pairs: Symbols of stable pairs, of which the venue is asked for the ones that it trades.

        Raises:
            VenueConfigError: If the venue's settings cannot work.
        """
        self.config = config
        self.wants = (tuple(symbols), tuple(pairs))
        self._line = Line(config, clock, offloop)
        own_symbols = list(dict.fromkeys(config.own(symbol) for symbol in symbols))
        more_pairs = [pair for pair in pairs if not set(pair) & set(own_symbols)]
        books = len(own_symbols) + len(more_pairs)  # Of a pair's two names, a venue has one at most.
        self.poll_interval_ms = max(config.poll_interval_ms, self._line.rate_limit_ms * books)
        self.stale_after_ms = config.stale_after_ms or max(STALE_AFTER_MS, 2 * self.poll_interval_ms + 1_000)
        if self.stale_after_ms < 2 * self.poll_interval_ms:
            raise VenueConfigError(
                [
                    f"venues.{config.name}.stale_after_ms: {self.stale_after_ms} is less than twice the effective "
                    f"interval of {self.poll_interval_ms} ms; at least {2 * self.poll_interval_ms} is needed"
                ]
            )
        self._board = board
        self._clock = clock
        self._wanted = frozenset(own_symbols)
        self.symbols = [*own_symbols, *(symbol for pair in more_pairs for symbol in pair)]
        self._asked = self._intake(time_is_generation=self._line.facts.time_is_generation)
        self._polling = Polling(config.name, self.symbols, self.poll_interval_ms, self._line, self._asked, board, clock)
        streamed = self._intake(time_is_generation=self._line.facts.stream.time_is_generation)
        self._streaming = Streaming(
            config.name, self.symbols, self.stale_after_ms, self._line, streamed, self._asked, board, clock
        )
        self.fallback_reason: str | None = None
        self.first_load = asyncio.Event()
        self.known_symbols: frozenset[str] = frozenset()

    def _intake(self, *, time_is_generation: bool) -> Intake:
        return Intake(self.config.name, self.symbols, self._board, self._clock, time_is_generation=time_is_generation)

    @property
    def transport(self) -> str:
        """Tell how the books come at present: "poll" or "stream"."""
        return "poll" if self.fallback_reason is not None else self.config.transport

    def take_seats(self) -> None:
        """Show the venue on the board, for each of its symbols."""
        for symbol in self.symbols:
            self._board.seat(self.config.name, symbol, self.stale_after_ms, self._clock.now_ns())

    async def run(self) -> None:
        """Load instruments, then get books, until cancelled; an unexpected error is logged and the loop goes on."""
        while True:
            try:
                await self._load_instruments_until_there()
                await run_together(self._refresh_instruments(), self._get_books())
                return
            except Exception as error:
                log.exception("feed.failed", venue=self.config.name)
                self._asked.fail_all(type(error).__name__)
                await asyncio.sleep(PROBE_INTERVAL_MAX_MS / 1_000)

    async def close(self) -> None:
        """Close the venue's connections."""
        await self._line.close()

    async def _load_instruments_until_there(self) -> None:
        while not self.known_symbols:
            pause_s = await self._load_instruments(INSTRUMENTS_TIMEOUT_MS)
            self.first_load.set()
            if pause_s is not None:
                await asyncio.sleep(pause_s)

    async def _load_instruments(self, timeout_ms: int) -> float | None:
        """Load instruments once; give the seconds to wait before the next try if that failed."""
        try:
            instruments = await self._line.instruments(timeout_ms)
        except VenueFailure as failure:
            return self._asked.failed(self.symbols, failure)
        self._asked.forgive()
        self._seat_symbols(instruments)
        return None

    async def _refresh_instruments(self) -> None:
        """Load instruments anew every day; what was there stays, if nothing better comes."""
        due_ns = self._clock.now_ns() + INSTRUMENTS_REFRESH_MS * MS
        while True:
            await asyncio.sleep(LOOK_S)  # By the clock that goes on while the machine sleeps.
            if self._clock.now_ns() >= due_ns:
                failed = await self._load_instruments(self.stale_after_ms // 2) is not None
                due_ns = self._clock.now_ns() + (INSTRUMENTS_RETRY_MS if failed else INSTRUMENTS_REFRESH_MS) * MS

    def _seat_symbols(self, instruments: dict[str, Instrument]) -> None:
        """Keep the rules of the symbols that the venue trades, and leave the others to the other venues."""
        first = not self.known_symbols
        self.known_symbols = frozenset(instruments)
        for symbol in list(self.symbols):
            if symbol in instruments:
                self._board.instruct(instruments[symbol])
            elif first:
                if symbol in self._wanted:
                    log.info("venue.symbol_unknown", venue=self.config.name, symbol=symbol)
                self.symbols.remove(symbol)
                self._board.unseat(self.config.name, symbol)

    async def _get_books(self) -> None:
        if self.config.transport == "poll":
            await self._polling.run()
            return
        pause_s = FALLBACK_S
        while self.symbols:
            started_ns = self._clock.now_ns()
            failure = await self._streaming.run()
            if self._clock.now_ns() - started_ns > FALLBACK_MAX_S * 1_000 * MS:
                pause_s = FALLBACK_S
            self.fallback_reason = failure.reason
            log.warning("venue.transport", venue=self.config.name, transport="poll", reason=failure.reason)
            if isinstance(failure, VenueMisuse):
                pause_s = FALLBACK_MAX_S
            await run_together(self._polling.run(), self._until_streamed(pause_s))
            pause_s = min(2 * pause_s, FALLBACK_MAX_S)
            self.fallback_reason = None
            log.info("venue.transport", venue=self.config.name, transport="stream", reason=None)

    async def _until_streamed(self, pause_s: float) -> None:
        """Wait until a trial shows that the stream works again."""
        await asyncio.sleep(pause_s)
        while not await self._streaming.trial():
            pause_s = min(2 * pause_s, FALLBACK_MAX_S)
            await asyncio.sleep(pause_s)


__all__ = ["VenueConfig", "VenueFeed"]
