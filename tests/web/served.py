"""The service in process, with a real ledger, on simulated venues whose books go on moving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from exchanges.board import Board
from exchanges.book import Ladder, Level, VenueBook
from exchanges.clock import MS
from exchanges.instruments import Instrument
from exchanges.simulator.market import STEP_MS, VENUES, SimulatedMarket
from service.api.guard import GUARD
from service.api.server import Runner
from service.app import create_app, finish, room
from service.desk.keeper import KEEPER
from service.keys import KeyRing, quote_key
from service.ledger.opening import starting_balances
from service.ledger.sqlite import SqliteLedger
from service.settings import Settings
from tests.standing import STALE_AFTER_MS, StandingFeeds

PEPPER = b"a pepper of at least 32 characters"
SYMBOLS = ("BTC/USDT", "ETH/USDT")
SCOPES = {
    "all": ("quote", "execute", "account"),
    "watch": ("quote",),
    "admin": ("admin",),
}
SETTINGS: dict[str, Any] = {
    "service": {"mode": "simulated"},
    "market": {"symbols": list(SYMBOLS)},
    "limits": {"quote_per_s": 0, "execute_per_s": 0, "failed_keys_per_s": 0},
    "accounts": {"starting_balances": {"USDT": "1000000", "BTC": "10", "ETH": "100"}},
    "venues": {name: {"exchange": name} for name in VENUES},
}
NAME = "desk.test"
SLOW_MS = 600_000
"""The service's date is so far behind the browser's: a page that compares the two is found out."""


class AheadClock:
    """The machine's clock, put forward by as much as it is told."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def now_ns(self) -> int:
        return time.monotonic_ns() + self._ahead_ms * MS

    def utc(self) -> datetime:
        return datetime.now(UTC) + timedelta(milliseconds=self._ahead_ms - SLOW_MS)

    def advance(self, ms: int) -> None:
        self._ahead_ms += ms


@dataclass
class Market:
    """
    Venues that show a new book of every symbol, some times a second.

    Args:
        at_rest: Whether the books that are shown are the same ones again and again, so that a price stays as it is.
        still: Venues that say nothing more.
    """

    board: Board
    clock: AheadClock
    depth: int = 60
    every_s: float = 0.2
    at_rest: bool = False
    still: set[str] = field(default_factory=set)
    shown: int = 0
    step: int = 0
    _simulated: SimulatedMarket = field(default_factory=lambda: SimulatedMarket(7))

    def open(self) -> None:
        """Seat every venue, and show the first books."""
        for name, venue in VENUES.items():
            for symbol in SYMBOLS:
                self.board.seat(name, symbol, STALE_AFTER_MS, self.clock.now_ns())
                listing = venue.listings[symbol]
                steps = (listing.price_step, listing.quantity_step, listing.quantity_min, listing.notional_min)
                self.board.instruct(Instrument(name, symbol, *steps, venue.taker_fee_bps))
        self.show()

    def show(self) -> None:
        """Show the next book of every venue that is not still."""
        self.shown += 1
        self.step += not self.at_rest
        for name in VENUES.keys() - self.still:
            for symbol in SYMBOLS:
                bids, asks = self._simulated.book(name, symbol, self.step * STEP_MS, self.depth)
                sides = (Ladder.of([Level(level.price, level.quantity) for level in side]) for side in (bids, asks))
                now_ns = self.clock.now_ns()
                self.board.publish(VenueBook(name, symbol, *sides, now_ns, self.shown), now_ns)

    def fail(self, reason: str) -> None:
        """Have every venue be out of reach."""
        self.still = set(VENUES)
        for name in VENUES:
            for symbol in SYMBOLS:
                self.board.fail(name, symbol, reason, self.clock.now_ns(), at_once=True)

    def fall_silent(self, *venues: str) -> None:
        """Have venues say nothing more, until their books are too old; the others go on."""
        self.still = set(venues)
        self.clock.advance(STALE_AFTER_MS + 1)
        self.show()

    async def moving(self) -> None:
        """Go on showing, until cancelled."""
        while True:
            await asyncio.sleep(self.every_s)
            self.show()


@dataclass
class Served:
    """
    The service, and the one way to ask it past the browser.

    Args:
        keys: Texts of keys, by what they may do; see ``SCOPES``.
        address: Where it answers; it stays the same when it is started again.
        named_address: The same by a name, which browsers do not trust as much.
    """

    folder: Path
    settings: Settings
    keys: dict[str, str]
    market_of: Callable[[Board, AheadClock], Market] = Market
    clock: AheadClock = field(default_factory=AheadClock)
    address: str = ""
    named_address: str = ""
    _port: int = 0
    _running: AsyncExitStack | None = None
    market: Market = field(init=False)
    ring: KeyRing = field(init=False)
    app: web.Application = field(init=False)
    ledger: SqliteLedger = field(init=False)

    async def start(self) -> None:
        """Begin, as a new process would: nothing is left but what is on record, and the address."""
        async with AsyncExitStack() as stack:
            settings, mode = self.settings, self.settings.service.mode
            ledger = self.ledger = SqliteLedger.open(self.folder / "ledger.db", mode, starting_balances(settings))
            stack.push_async_callback(ledger.close)
            self.ring = KeyRing(PEPPER, mode)
            self.ring.hold(await ledger.keys())
            board = Board(settings.market.outlier_bps)
            feeds = StandingFeeds.of(board, VENUES, self.clock.now_ns)
            signing_key = quote_key(PEPPER, ledger.ledger_id)
            self.app = create_app(settings, feeds, ledger, self.ring, signing_key, self.clock)
            self.market = self.market_of(board, self.clock)
            self.market.open()
            await stack.enter_async_context(self.app[KEEPER].keeping(self.ring))
            runner = Runner(self.app, room(settings, self.app[GUARD]), shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", self._port)
            await site.start()
            self._port = runner.addresses[0][1]
            self.address = f"http://127.0.0.1:{self._port}"
            self.named_address = f"http://{NAME}:{self._port}"
            stack.push_async_callback(finish, self.app, runner)
            stack.push_async_callback(_cancelled, asyncio.create_task(self.market.moving()))
            self._running = stack.pop_all()

    async def stop(self) -> None:
        """End; nobody answers on the address any more."""
        if self._running is not None:
            await self._running.aclose()
            self._running = None

    async def ask(
        self, method: str, path: str, *, key: str = "all", body: Mapping[str, Any] | None = None, refused: bool = False
    ) -> Any:
        """
        Ask it past the browser; gives what it answers.

        Args:
            refused: Whether that may be a refusal.
        """
        async with (
            aiohttp.ClientSession(headers={"X-API-Key": self.keys[key]}) as session,
            session.request(method, f"{self.address}{path}", json=body) as response,
        ):
            answer = await response.json(content_type=None)
            assert refused or response.status < 400, answer
            return answer

    async def revoke(self, key: str) -> None:
        """Take a key out of force, as an operator does."""
        key_id = self.keys[key].split("_")[2]
        await self.ask("DELETE", f"/v1/admin/keys/{key_id}", key="admin")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


_MADE: dict[str, tuple[bytes, dict[str, str]]] = {}
"""Ledgers with an account and its keys, by mode, as files: making one takes longer than copying it."""


async def _with_keys(folder: Path, settings: Settings) -> dict[str, str]:
    """Put a ledger with an account and its keys into a folder; gives the keys' texts."""
    path, mode = folder / "ledger.db", settings.service.mode
    if mode not in _MADE:
        texts = await _made(path, settings)
        _MADE[mode] = path.read_bytes(), texts
    made, texts = _MADE[mode]
    path.write_bytes(made)
    return dict(texts)


async def _made(path: Path, settings: Settings) -> dict[str, str]:
    ledger = SqliteLedger.open(path, settings.service.mode, starting_balances(settings))
    ring, now = KeyRing(PEPPER, settings.service.mode), datetime.now(UTC) - timedelta(days=1)
    texts = {}
    try:
        await ledger.open_account("demo", now)
        for name, allowed in SCOPES.items():
            texts[name], key = ring.make("demo", allowed, now)
            await ledger.add_key(key)
    finally:
        await ledger.close()
    return texts


@asynccontextmanager
async def serving(
    folder: Path,
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    market_of: Callable[[Board, AheadClock], Market] = Market,
) -> AsyncIterator[Served]:
    """
    Run the service on a ledger of its own.

    Args:
        tables: Settings that differ, table by table.
        market_of: Makes the venues on its board.
    """
    changed = {name: {**SETTINGS.get(name, {}), **table} for name, table in (tables or {}).items()}
    settings = Settings.model_validate({**SETTINGS, **changed})
    served = Served(folder, settings, await _with_keys(folder, settings), market_of)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()
