"""Play a recording as venues: what a board was told is told to another one, at the recording's own times.

A replay has a clock of its own, which runs from the recording's beginning at a speed, and never past what has not been
played yet: whoever reads clock and board finds what whoever read them at that moment of the recording would have found,
to the digit, however fast it is played and however busy the machine is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from exchanges.board import Board
from exchanges.changes import log_change
from exchanges.errors import RecordingError, VenueConfigError
from exchanges.inputs import Arranged, Input, Instructed, Published, Seated, venue_of
from exchanges.line import VenueConfig
from exchanges.recorded import CUT, Ended, Header, RecordedVenue
from exchanges.recording import Recording

REPORT_EVERY_S = 0.1
BUSY_MAX_S = 0.005
"""So long what is due is played without letting others have their turn."""
ENDED_REASON = "replay_ended"
DAMAGED = "damaged"

log = structlog.get_logger()


class ReplayClock:
    """The recording's time.  It stands still until it is started."""

    def __init__(self, header: Header, speed: float, real_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Stand at the recording's beginning; *speed* is how many times as fast as real time it runs."""
        self._header = header
        self._speed = speed
        self._real_ns = real_ns
        self._started_real_ns: int | None = None
        self._limit_ns: int | None = header.started_ns

    def now_ns(self) -> int:
        """Give the recording's boot-time clock; never goes back."""
        running_ns = self._running_ns()
        return running_ns if self._limit_ns is None else min(running_ns, self._limit_ns)

    def utc(self) -> datetime:
        """Give the recording's wall-clock time in UTC."""
        header = self._header
        return header.started_at + timedelta(microseconds=(self.now_ns() - header.started_ns) // 1_000)

    def start(self) -> None:
        """Let it run."""
        self._started_real_ns = self._real_ns()

    def hold(self, limit_ns: int | None) -> None:
        """Let it run no further than *limit_ns*, which never goes back; None for no limit any more."""
        self._limit_ns = limit_ns

    def real_s_until(self, due_ns: int) -> float:
        """Give the real seconds until a moment of the recording is due; 0 or less if it is."""
        return (due_ns - self._running_ns()) / self._speed / 1_000_000_000

    def _running_ns(self) -> int:
        started_real_ns = self._started_real_ns
        elapsed_ns = 0 if started_real_ns is None else self._real_ns() - started_real_ns
        return self._header.started_ns + round(elapsed_ns * self._speed)


@dataclass(slots=True)
class ReplayedVenue:
    """A venue of a recording, as the feeds' venues are."""

    config: VenueConfig
    poll_interval_ms: int
    stale_after_ms: int
    transport: str = "replay"
    fallback_reason: str | None = None
    reconnects: int = 0


class ReplayedFeeds:
    """The venues of a recording, and the board they keep: in the place of ``Feeds``."""

    def __init__(
        self,
        recording: Recording,
        configs: Sequence[VenueConfig],
        symbols: Sequence[str],
        outlier_bps: Decimal,
        speed: float = 1.0,
    ) -> None:
        """
        Prepare a replay.

        Args:
            configs: The recording's venues that are wanted; what was told of the others is left out.  Their
                ``stale_after_ms`` and ``taker_fee_bps``, where they have one, take the place of what was recorded.
            outlier_bps: Where it is another than the recording began with, in the place of whatever was recorded.

        Raises:
            VenueConfigError: If venues or symbols are wanted that the recording does not have.
        """
        self.recording = recording
        self.clock = ReplayClock(recording.header, speed)
        self.board = Board(outlier_bps, log_change)
        self._goes_by = (list(configs), tuple(symbols), outlier_bps)
        self._configs = {config.name: config for config in configs}
        problems = _unrecorded(recording.header, self._configs, symbols)
        if problems:
            recording.close()
            raise VenueConfigError(problems)
        recorded = {venue.name: venue for venue in recording.header.venues}
        self.venues = [_venue(config, recorded[config.name]) for config in configs]
        self.ended = asyncio.Event()
        """Set once the recording is played to its end."""
        self._outlier_bps = None if outlier_bps == recording.header.outlier_bps else outlier_bps
        self._due_ns = recording.header.started_ns
        self._books = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, wait_s: float = 0.0) -> None:
        """Begin to play; *wait_s* is for what has to be waited for, and here nothing has."""
        self.clock.start()
        self._tasks = [
            asyncio.create_task(self._play(), name="replay"),
            asyncio.create_task(self._report(), name="replay report"),
        ]

    async def apply(
        self, configs: Sequence[VenueConfig], symbols: Sequence[str], outlier_bps: Decimal, *, unserved: bool = False
    ) -> None:
        """
        Refuse other venues, symbols or numbers: what was played by now had been judged by the old ones.

        Raises:
            VenueConfigError: Unless all is as it was.
        """
        if (list(configs), tuple(symbols), outlier_bps) == self._goes_by:
            return
        raise VenueConfigError(["service.mode: a replay takes no other venues or symbols while it runs; start it anew"])

    async def close(self) -> None:
        """Stop playing."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.recording.close()

    async def _play(self) -> None:
        try:
            reason = await self._play_to_the_end()
        except RecordingError as error:
            log.warning("replay.damaged", path=str(self.recording.path), error=str(error))
            reason = DAMAGED
        except Exception:
            log.exception("replay.failed", path=str(self.recording.path))
            reason = "failed"
        self.clock.hold(None)
        self.board.spoil(ENDED_REASON, self.clock.now_ns())
        self.board.report(self.clock.now_ns())
        log.info("replay.ended", path=str(self.recording.path), reason=reason, books=self._books)
        self.ended.set()

    async def _play_to_the_end(self) -> str:
        """Play all there is; give how the recording ended."""
        reason = CUT
        while (lines := await asyncio.to_thread(self.recording.lines)) is not None:
            turn_ends = time.monotonic() + BUSY_MAX_S
            for line in lines:
                at_ns, told = self.recording.read(line)
                self._due_ns = max(self._due_ns, at_ns)
                self.clock.hold(self._due_ns)
                wait_s = self.clock.real_s_until(self._due_ns)
                if wait_s > 0 or time.monotonic() > turn_ends:
                    await asyncio.sleep(max(0.0, wait_s))
                    turn_ends = time.monotonic() + BUSY_MAX_S
                if isinstance(told, Ended):
                    reason = told.reason
                else:
                    self._take(told)
        return reason

    def _take(self, told: Input) -> None:
        """Tell the board, in the settings' words where they say otherwise."""
        config = self._configs.get(venue_of(told) or "")
        match told:
            case Seated() if config is not None and config.stale_after_ms is not None:
                told = told._replace(stale_after_ms=config.stale_after_ms)
            case Instructed(instrument) if config is not None and config.taker_fee_bps is not None:
                told = Instructed(replace(instrument, taker_fee_bps=config.taker_fee_bps))
            case Arranged() if self._outlier_bps is not None:
                told = told._replace(outlier_bps=self._outlier_bps)
            case Published():
                self._books += 1
        if config is not None or venue_of(told) is None:
            self.board.take(told)

    async def _report(self) -> None:
        """Have what only time changes told to whom it may concern; the board's watch for gaps is not begun."""
        while True:
            self.board.report(self.clock.now_ns())
            await asyncio.sleep(REPORT_EVERY_S)


def _venue(config: VenueConfig, recorded: RecordedVenue) -> ReplayedVenue:
    return ReplayedVenue(config, recorded.poll_interval_ms, config.stale_after_ms or recorded.stale_after_ms)


def _unrecorded(header: Header, configs: Mapping[str, VenueConfig], symbols: Sequence[str]) -> list[str]:
    """Name what is wanted and not in the recording."""
    venues = {venue.name: venue for venue in header.venues}
    recorded = {*header.symbols, *(own for venue in header.venues for own in venue.symbols.values())}
    problems = [
        f"venues.{name}: is not in the recording, which has {', '.join(venues)}"
        for name in configs
        if name not in venues
    ]
    return problems + [
        f"market.symbols: {symbol} is not in the recording, which has {', '.join(sorted(recorded))}"
        for symbol in symbols
        if symbol not in recorded
    ]
