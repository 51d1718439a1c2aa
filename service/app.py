"""Put the service together: the one place where settings, feeds, market, desk, ledger, keys and HTTP meet."""

from __future__ import annotations

import asyncio
import gc
import signal
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import structlog
from aiohttp import web
from aiohttp_apispec import validation_middleware

from exchanges.board import Board
from exchanges.clock import Clock, SystemClock
from exchanges.errors import RecordingError, VenueConfigError
from exchanges.feeds import Feeds, VenueConfig
from exchanges.recording import Recording
from exchanges.replay import ReplayedFeeds
from service import logs
from service.api.admission import Admission
from service.api.guard import GUARD, Guard
from service.api.handlers import API, Api, VenueReport
from service.api.metrics_routes import metrics_port
from service.api.middleware import contract, drop_server_header
from service.api.openapi import OpenApi
from service.api.parsing import BODY_MAX_BYTES
from service.api.render_quote import firm_message
from service.api.render_record import receipt
from service.api.routes import add_routes
from service.api.server import ADMISSION, Runner, listen
from service.api.stream import STREAMS, close_streams, open_streams
from service.control import LocalKeyDesk, serving
from service.desk.bank import Bank
from service.desk.desk import Desk
from service.desk.firm_quotes import FirmQuotes
from service.desk.floor import Floor, milliseconds
from service.desk.keeper import KEEPER, Keeper
from service.desk.quote_id import QuoteSigner
from service.errors import ConfigError
from service.hanging_up import HangUp
from service.keys import KeyRing, load_pepper, quote_key
from service.ledger.opening import ledger_path, open_ledger, starting_balances
from service.ledger.protocol import Ledger
from service.market.taken import TakenLiquidity
from service.market.view import MarketView
from service.metrics.exposition import METRICS, Metrics
from service.metrics.instruments import Instruments
from service.metrics.readings import House
from service.notifying import notifying
from service.progress import progress
from service.recording import recording
from service.room_rules import desk_rules, door, listings, market_rules, room, switched_on, venue_configs
from service.settings import Settings
from service.switching import Switching

FINISHED_WITHIN_S = 7.0
"""So long is waited at the end for what is under way: longer than a body may take, or the record."""
CUT_AFTER_S = 1.0
"""So long, twice, is waited for handlers that have not ended by then."""

log = structlog.get_logger()

# aiohttp-apispec keeps plain strings as keys of applications and requests; aiohttp would say so once per key.
warnings.filterwarnings("ignore", category=web.NotAppKeyWarning)


class RunningVenue(Protocol):
    """A venue that is switched on."""

    config: VenueConfig
    poll_interval_ms: int
    """The effective one."""
    fallback_reason: str | None
    """Why its books come otherwise than the settings say, or None."""

    @property
    def transport(self) -> str:
        """Give how its books come at present."""


class VenueFeeds(Protocol):
    """Whoever keeps a board up to date; ``exchanges.feeds.Feeds`` says what its methods promise."""

    board: Board

    @property
    def venues(self) -> Sequence[RunningVenue]:
        """Give the venues that are switched on."""

    async def apply(
        self, configs: Sequence[VenueConfig], symbols: Sequence[str], outlier_bps: Decimal, *, unserved: bool = False
    ) -> None:
        """Change to other venues, symbols and numbers, all in one step."""


def create_app(
    settings: Settings,
    feeds: VenueFeeds,
    ledger: Ledger,
    ring: KeyRing,
    signing_key: bytes,
    clock: Clock,
    read: Callable[[], Settings] | None = None,
    instruments: Instruments | None = None,
) -> web.Application:
    """
    Make the HTTP application over a board that somebody keeps up to date.

    Args:
        read: Gives the settings anew, as ``Switching`` wants it; without it they stay as they are.
        instruments: Told of all that is counted, in place of new ones.
    """
    instruments = instruments or Instruments()
    board = feeds.board
    market = MarketView(board, market_rules(settings), listings(settings))
    taken = TakenLiquidity(settings.liquidity.taken, settings.liquidity.taken_half_life_ms)
    floor = Floor(market, ledger, clock, desk_rules(settings), switched_on(settings), taken)
    floor.follow(board)
    firm = FirmQuotes(floor, firm_message)
    keeper = Keeper(floor, firm, board, instruments.realised)
    desk = Desk(floor, QuoteSigner(signing_key), receipt, keeper.watch)
    guard = Guard(ring)
    guard.serve(*door(settings))
    switching = Switching(settings, read or (lambda: settings), partial(_go_by, feeds, floor, guard))
    admission = Admission(lambda taken_in: asyncio.get_running_loop().call_soon(taken_in))
    app = web.Application(
        middlewares=[contract(guard, admission, lambda: floor.closing, instruments), validation_middleware],
        client_max_size=BODY_MAX_BYTES,
    )
    add_routes(app)
    app.on_response_prepare.append(drop_server_header)
    openapi = OpenApi(
        app,
        title="Internal order book",
        version=version("internal-orderbook"),
        description="What an order would really cost over many venues, and its mock execution on record. "
        "Nothing is traded: prices can be live, execution is always a mock.",
    )
    app[API] = Api(
        desk=desk,
        firm=firm,
        bank=Bank(floor),
        market=market,
        ledger=ledger,
        clock=clock,
        market_data=settings.service.mode,
        board=board,
        venues=partial(_reports, switching, feeds),
        switching=switching,
        openapi=openapi.document,
        key_desk=LocalKeyDesk(ledger, ring),
    )
    app[ADMISSION], app[GUARD], app[KEEPER] = admission, guard, keeper
    open_streams(app, ring)
    app[METRICS] = Metrics(instruments, _house(settings, app, taken))
    app.cleanup_ctx.append(app[METRICS].counting)
    return app


def _house(settings: Settings, app: web.Application, taken: TakenLiquidity) -> House:
    """Show Prometheus what the routes answer from."""
    api = app[API]
    return House(
        version=version("internal-orderbook"),
        market_data=api.market_data,
        ledger_kind="sqlite" if ledger_path(settings) is not None else "postgresql",
        board=api.board,
        market=api.market,
        taken=taken,
        ledger=api.ledger,
        clock=api.clock,
        venues=api.venues,
        firm_open=lambda: api.firm.open,
        streams=lambda: len(app[STREAMS].clients),
    )


async def _go_by(feeds: VenueFeeds, floor: Floor, guard: Guard, settings: Settings, *, unserved: bool) -> None:
    """Have the feeds and all that answers requests go by other settings, as ``Switching`` wants it."""
    configs, market = venue_configs(settings), settings.market
    try:
        await feeds.apply(configs, market.symbols, market.outlier_bps, unserved=unserved)
    except VenueConfigError as error:
        raise ConfigError(error.problems) from error
    # No await from here on: no request sees some of it without the rest.
    floor.market.serve(market_rules(settings), listings(settings))
    floor.serve(desk_rules(settings), switched_on(settings))
    floor.taken.halve_every(settings.liquidity.taken_half_life_ms, milliseconds(floor.clock.utc()))
    floor.ledger.begin_with(starting_balances(settings))
    guard.serve(*door(settings))
    logs.set_level(settings.logs.level)


def _reports(switching: Switching, feeds: VenueFeeds) -> Sequence[VenueReport]:
    """Tell of every venue of the settings in force, in their order."""
    running = {venue.config.name: venue for venue in feeds.venues}
    reports = []
    for name, venue in switching.settings.venues.items():
        feed = running.get(name)
        reports.append(
            VenueReport(name, venue.enabled, venue.transport)
            if feed is None
            else VenueReport(
                name,
                venue.enabled,
                feed.transport,
                poll_interval_ms=feed.poll_interval_ms,
                fallback_reason=feed.fallback_reason,
                tally=feeds.board.tally(name),
            )
        )
    return reports


@asynccontextmanager
async def running(
    settings: Settings,
    env: Mapping[str, str],
    clock: Clock | None = None,
    read: Callable[[], Settings] | None = None,
    hangup: asyncio.Event | None = None,
) -> AsyncIterator[str]:
    """
    Run the whole service; gives the address it answers on.

    On the way out it begins nothing new, finishes what is under way, and closes everything in the order of use.

    Args:
        read: Gives the settings anew, as ``Switching`` wants it.
        hangup: Set by whoever wants them to be read again.

    Raises:
        ConfigError: With what keeps it from starting.
    """
    clock = clock or SystemClock()
    path = ledger_path(settings)
    async with AsyncExitStack() as stack:
        feeds, clock = _feeds(settings, clock)  # Before anything is made: its settings may not work.
        stack.push_async_callback(feeds.close)
        await stack.enter_async_context(recording(settings, feeds, clock))
        pepper = load_pepper(env, path)
        if pepper.made_at is not None:
            log.info("pepper.made", path=str(pepper.made_at))
        ledger = open_ledger(settings)
        stack.push_async_callback(ledger.close)
        ring = KeyRing(pepper.secret, settings.service.mode)
        ring.hold(await ledger.keys())
        if path is not None:
            await stack.enter_async_context(serving(LocalKeyDesk(ledger, ring), path))
        signing_key = quote_key(pepper.secret, ledger.ledger_id)
        app = create_app(settings, feeds, ledger, ring, signing_key, clock, read)
        await stack.enter_async_context(app[KEEPER].keeping(ring))
        runner = Runner(app, room(settings, app[GUARD]), shutdown_timeout=CUT_AFTER_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        address = await listen(runner, settings.service.host, settings.service.port)
        # It ends after what is under way: whoever hangs on to it keeps nobody from being told that the service stops.
        await stack.enter_async_context(metrics_port(app, settings.metrics.host, settings.metrics.port))
        stack.push_async_callback(finish, app, runner)
        switching = app[API].switching
        async with switching.waiting():
            await _start(feeds)  # It answers meanwhile: that it lives, and what it is waiting for.
        if hangup is not None:
            stack.push_async_callback(_cancelled, asyncio.create_task(switching.reload_at(hangup), name="hangup"))
        log.info("service.started", address=address, market_data=settings.service.mode, symbols=settings.market.symbols)
        yield address
        log.info("service.stopping")


async def finish(app: web.Application, runner: Runner) -> None:
    """Begin nothing new, and finish what is under way; whoever keeps us waiting for too long is left alone."""
    app[API].desk.close()
    await runner.finish(FINISHED_WITHIN_S)
    await close_streams(app)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _feeds(settings: Settings, clock: Clock) -> tuple[Feeds | ReplayedFeeds, Clock]:
    """Prepare the venues, and give the clock that their books go by."""
    configs, symbols, outlier_bps = venue_configs(settings), settings.market.symbols, settings.market.outlier_bps
    try:
        if settings.service.mode != "replay":
            return Feeds(configs, symbols, outlier_bps, clock), clock
        recorded = Recording(Path(settings.replay.file))
        replayed = ReplayedFeeds(recorded, configs, symbols, outlier_bps, float(settings.replay.speed))
    except VenueConfigError as error:
        raise ConfigError(error.problems) from error
    except RecordingError as error:
        raise ConfigError([f"replay.file: {error}"]) from error
    return replayed, replayed.clock


async def _start(feeds: Feeds | ReplayedFeeds) -> None:
    try:
        with progress(partial(_waiting_for, feeds)):
            await feeds.start()
    except VenueConfigError as error:
        raise ConfigError(error.problems) from error


def _waiting_for(feeds: Feeds | ReplayedFeeds) -> str:
    return f"waiting for {', '.join(feeds.unheard())}" if isinstance(feeds, Feeds) else "starting the replay"


async def serve(
    settings: Settings,
    env: Mapping[str, str],
    started: Callable[[str], object] | None = None,
    read: Callable[[], Settings] | None = None,
) -> None:
    """
    Run the service until SIGTERM or SIGINT, or until its terminal is gone; SIGHUP otherwise reads the settings again.

    Whoever started it as systemd does is told that it is ready, alive and stopping.

    Args:
        started: Told the address once there is one; an awaitable result is awaited beside the service.
        read: Gives the settings anew, as ``Switching`` wants it.

    Raises:
        ConfigError: With what keeps it from starting.
    """
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    HangUp.of_process().serve(stop, hangup)
    async with running(settings, env, read=read, hangup=hangup) as address:
        # What was built up until here stays: the collector need not walk through it, ccxt's tables above all, again.
        gc.collect()
        gc.freeze()
        task = None
        if started is not None:
            result = started(address)
            task = asyncio.ensure_future(result) if asyncio.iscoroutine(result) else None
        async with notifying(env):
            await stop.wait()
        if task is not None:
            task.cancel()
    log.info("service.stopped")
