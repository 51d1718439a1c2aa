"""Record what the feeds show: beside a running service, or by themselves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from exchanges.board import Board
from exchanges.clock import Clock, SystemClock
from exchanges.errors import RecordingError, VenueConfigError
from exchanges.feeds import Feeds, VenueConfig
from exchanges.recorded import CLOSED, Header, RecordedVenue
from exchanges.recording import Recorder
from service.errors import ConfigError
from service.progress import Progress, duration, progress
from service.settings import Settings

TELL_EVERY_S = 10.0


class RunningVenue(Protocol):
    """What a recording says of a venue: how it is set up, and the intervals that follow."""

    @property
    def config(self) -> VenueConfig:
        """Give its settings."""

    @property
    def poll_interval_ms(self) -> int:
        """Give the effective interval."""

    @property
    def stale_after_ms(self) -> int:
        """Give the age at which its books stop counting."""


class RunningFeeds(Protocol):
    """What can be recorded: live, simulated or replayed venues."""

    @property
    def board(self) -> Board:
        """Give what they keep up to date."""

    @property
    def venues(self) -> Sequence[RunningVenue]:
        """Give the venues that are switched on."""


def header_of(settings: Settings, feeds: RunningFeeds, clock: Clock) -> Header:
    """Give what a recording of these feeds begins with."""
    return Header(
        market_data=settings.service.mode,
        started_at=clock.utc(),
        started_ns=clock.now_ns(),
        outlier_bps=settings.market.outlier_bps,
        symbols=settings.market.symbols,
        venues=tuple(
            RecordedVenue(
                name=venue.config.name,
                exchange=venue.config.exchange,
                poll_interval_ms=venue.poll_interval_ms,
                stale_after_ms=venue.stale_after_ms,
                symbols=dict(venue.config.symbols),
            )
            for venue in feeds.venues
        ),
    )


@asynccontextmanager
async def recording(settings: Settings, feeds: RunningFeeds, clock: Clock) -> AsyncIterator[None]:
    """
    Record what feeds that have not been started show, if the settings want it.

    Raises:
        ConfigError: If the file cannot be made.
    """
    if not settings.recording.file:
        yield
        return
    path = Path(settings.recording.file)
    named = path.with_name(f"{path.stem}-{clock.utc():%Y%m%dT%H%M%S.%f}Z{path.suffix}")
    bytes_max = settings.recording.file_mb_max * 1_000_000
    try:
        recorder = Recorder(named, header_of(settings, feeds, clock), feeds.board, clock, bytes_max)
    except RecordingError as error:
        raise ConfigError([f"recording.file: {error}"]) from error
    try:
        yield
    finally:
        await asyncio.to_thread(recorder.close)


async def record(
    settings: Settings, configs: Sequence[VenueConfig], path: Path, seconds: float | None, say: Callable[[str], None]
) -> bool:
    """
    Run the settings' feeds and record them, until SIGINT, SIGTERM or the end of *seconds*.

    Args:
        say: Tells a person now and then how far it is.

    Returns:
        False if something else has ended it.

    Raises:
        ConfigError: With what keeps it from starting.
    """
    if settings.service.mode == "replay":
        raise ConfigError(['service.mode: is "replay"; what is played has been recorded already'])
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    try:
        feeds = Feeds(configs, settings.market.symbols, settings.market.outlier_bps, clock)
    except VenueConfigError as error:
        raise ConfigError(error.problems) from error
    try:
        recorder = Recorder(path, header_of(settings, feeds, clock), feeds.board, clock)
        try:
            await _record_until(stop, feeds, recorder, seconds, say)
        finally:
            await asyncio.to_thread(recorder.close)
    except RecordingError as error:
        raise ConfigError([str(error)]) from error
    finally:
        await feeds.close()
    say(f"{_so_far(recorder, feeds)}: {recorder.stopped}")
    return recorder.stopped == CLOSED


async def _record_until(
    stop: asyncio.Event, feeds: Feeds, recorder: Recorder, seconds: float | None, say: Callable[[str], None]
) -> None:
    try:
        with progress(lambda: f"waiting for {', '.join(feeds.unheard())}"):
            await feeds.start()
    except VenueConfigError as error:
        raise ConfigError(error.problems) from error
    say(f"recording to {recorder.path}; Ctrl-C ends it")
    with progress("recording") as shown:
        await _told_until(stop, feeds, recorder, seconds, say, shown)


async def _told_until(
    stop: asyncio.Event,
    feeds: Feeds,
    recorder: Recorder,
    seconds: float | None,
    say: Callable[[str], None],
    shown: Progress,
) -> None:
    """Wait for the end; meanwhile it is shown how far it is, or told now and then where nothing can be shown."""
    loop = asyncio.get_running_loop()
    ends = None if seconds is None else loop.time() + seconds
    tell_at = loop.time() + TELL_EVERY_S
    while not stop.is_set() and recorder.stopped is None and (ends is None or loop.time() < ends):
        if shown.shown:
            left = "" if ends is None else f", {duration(ends - loop.time())} left"
            shown.tell(doing=f"recording: {_so_far(recorder, feeds)}{left}")
        elif loop.time() >= tell_at:
            tell_at += TELL_EVERY_S
            say(_so_far(recorder, feeds))
        await _within(stop, min(0.2, TELL_EVERY_S if ends is None else max(0.0, ends - loop.time())))


async def _within(stop: asyncio.Event, seconds: float) -> None:
    """Wait until it is to stop, but not for longer than this."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


def _so_far(recorder: Recorder, feeds: Feeds) -> str:
    return f"{recorder.books} books of {len(feeds.board.symbols)} symbols, {recorder.megabytes} MB"
