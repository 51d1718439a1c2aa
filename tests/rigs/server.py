"""The service's own application over books that stand still, in a process that starts at once and may be killed.

A fork server has imported everything, so that a process is there in some milliseconds.  The venues' feeds are the one
part that is missing; faults are planted here and nowhere else.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aiohttp import web

from exchanges.board import Board
from exchanges.book import Ladder, Level, VenueBook
from exchanges.clock import SystemClock
from exchanges.instruments import Instrument
from service import logs
from service.api.server import Runner
from service.app import CUT_AFTER_S, create_app, finish
from service.control import LocalKeyDesk, serving
from service.desk.keeper import KEEPER
from service.keys import KeyRing, quote_key
from service.ledger.opening import ledger_path, open_ledger
from service.ledger.protocol import Ledger
from service.settings import Settings
from tests.rigs.faults import FAULTS
from tests.standing import StandingFeeds

PEPPER = b"a pepper of at least 32 characters"
ACCOUNTS = ("ann", "ben", "cid", "dee", "eve")
SYMBOLS = ("BTC/USDT", "ETH/USDT")
VENUES = ("kraken", "okx")
STARTS_WITHIN_S = 60.0
ENDS_WITHIN_S = 20.0
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.rigs.server", "service.ledger.postgres"])
_FOR_EVER_MS = 10**9
_MID = {"BTC/USDT": 64_000, "ETH/USDT": 2_500}

Ladders = dict[tuple[str, str], list[tuple[str, str]]]
"""What each venue asks for each symbol: price and quantity, best first.  Bids mirror it below the mid."""


def _deep() -> Ladders:
    return {
        (venue, symbol): [(str(_MID[symbol] + 1 + 2 * n + shift), "1000000") for n in range(5)]
        for symbol in SYMBOLS
        for shift, venue in enumerate(VENUES)
    }


@dataclass(frozen=True)
class Setup:
    """
    How a server is set up.

    Args:
        taken: The setting of that name.
        ladders: What the venues show; by default more than anybody takes.
        faults: Names of ``FAULTS`` that are planted.
    """

    url: str
    taken: str = "off"
    ladders: Ladders = field(default_factory=_deep)
    faults: tuple[str, ...] = ()
    ttl_ms: int = 60_000

    def settings(self) -> Settings:
        """Give the service's settings."""
        venue = {"base_url": "http://127.0.0.1:9", "stale_after_ms": 60_000, "taker_fee_bps": 10}
        much = "10000000000"
        return Settings.model_validate(
            {
                "service": {"mode": "simulated"},
                "ledger": {"url": self.url},
                "market": {"symbols": list(SYMBOLS)},
                "quotes": {"ttl_ms": self.ttl_ms},
                "liquidity": {"taken": self.taken},
                "limits": {"quote_per_s": 0, "execute_per_s": 0, "failed_keys_per_s": 0},
                "accounts": {"starting_balances": {"USDT": much, "BTC": much, "ETH": much}},
                "venues": {name: {"exchange": name, **venue} for name in VENUES},
            }
        )


class Server:
    """A server process."""

    def __init__(self, setup: Setup) -> None:
        """Be ready to start."""
        self.setup = setup
        self.process: Any = None
        self.address = ""

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        ours, theirs = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=_run, args=(self.setup, theirs), daemon=True)
        self.process.start()
        theirs.close()
        try:
            told = await asyncio.wait_for(asyncio.to_thread(ours.recv), STARTS_WITHIN_S)
        except EOFError:
            raise RuntimeError("the server ended instead of starting") from None
        finally:
            ours.close()
        self.address = f"http://127.0.0.1:{told}"

    async def kill(self) -> None:
        """End it in the middle of whatever it is doing."""
        self.process.kill()
        await self._gone()

    async def stop(self) -> int:
        """Let it finish; gives its exit status."""
        self.process.terminate()
        return await self._gone()

    @property
    def pid(self) -> int:
        """Give the process."""
        pid: int = self.process.pid
        return pid

    async def _gone(self) -> int:
        await asyncio.to_thread(self.process.join, ENDS_WITHIN_S)
        if self.process.is_alive():
            self.process.kill()
            raise RuntimeError("the server did not end")
        status: int = self.process.exitcode
        self.process.close()
        return status

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *failed: object) -> None:
        try:
            self.process.is_alive()
        except ValueError:
            return  # It has been ended.
        await (self.kill() if failed[0] is not None else self.stop())


def _run(setup: Setup, told: Any) -> None:
    """Be the server."""
    logs.configure("json", "critical", sys.stderr.buffer)
    gc.freeze()
    for fault in setup.faults:
        FAULTS[fault]()
    asyncio.run(_serve(setup, told))


async def _serve(setup: Setup, told: Any) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ledger = open_ledger(setup.settings())
    ring = KeyRing(PEPPER, "simulated")
    ring.hold(await ledger.keys())
    app = application(setup, ledger, ring)
    path = ledger_path(setup.settings())
    async with AsyncExitStack() as stack:
        if path is not None:
            await stack.enter_async_context(serving(LocalKeyDesk(ledger, ring), path))
        await stack.enter_async_context(app[KEEPER].keeping(ring))
        runner = Runner(app, shutdown_timeout=CUT_AFTER_S)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.send(runner.addresses[0][1])
        told.close()
        await stop.wait()
        await finish(app, runner)
        await runner.cleanup()
    await ledger.close()


def application(setup: Setup, ledger: Ledger, ring: KeyRing) -> web.Application:
    """Make the service's application over books that stand still."""
    clock = SystemClock()
    key = quote_key(PEPPER, ledger.ledger_id)
    feeds = StandingFeeds.of(_board(setup.ladders, clock), VENUES)
    return create_app(setup.settings(), feeds, ledger, ring, key, clock)


def _board(ladders: Ladders, clock: SystemClock) -> Board:
    board, now_ns = Board(Decimal(100)), clock.now_ns()
    for venue, symbol in ladders:
        board.seat(venue, symbol, _FOR_EVER_MS, now_ns)
        board.instruct(
            Instrument(venue, symbol, Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"), None, Decimal(10))
        )
    for (venue, symbol), asked in ladders.items():
        asks = [Level(Decimal(price), Decimal(quantity)) for price, quantity in asked]
        bids = [Level(2 * _MID[symbol] - level.price, level.quantity) for level in asks]
        board.publish(VenueBook(venue, symbol, Ladder.of(bids), Ladder.of(asks), now_ns, None), now_ns)
    return board
