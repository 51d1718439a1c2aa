"""Serve the API over simulated books, and a bare handler with an answer of the same size, from one loop.

Prints the two ports and the key as one JSON line.  Books are replaced as venues polled every 500 ms would.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import time

import orjson
import uvloop
from aiohttp import web

from exchanges.board import Board
from exchanges.book import Ladder, VenueBook
from exchanges.clock import SystemClock
from exchanges.instruments import Instrument
from exchanges.simulator import VENUES, SimulatedMarket
from service import logs
from service.api.server import Runner
from service.app import create_app
from service.keys import KeyRing
from service.ledger.opening import starting_balances
from service.ledger.sqlite import SqliteLedger
from service.settings import Settings
from tests.standing import StandingFeeds

SYMBOL = "BTC/USDT"
DEPTH = 100
INTERVAL_S = 0.5


def simulated_board(market: SimulatedMarket, venues: list[str]) -> Board:
    """Make a board with instruments as the simulated venues have them."""
    board, now_ns = Board(Settings.model_fields["market"].annotation(symbols=(SYMBOL,)).outlier_bps), 0
    for venue in venues:
        listing, fee = VENUES[venue].listings[SYMBOL], VENUES[venue].taker_fee_bps
        board.seat(venue, SYMBOL, 5_000, now_ns)
        board.instruct(
            Instrument(
                venue,
                SYMBOL,
                listing.price_step,
                listing.quantity_step,
                listing.quantity_min,
                listing.notional_min,
                fee,
            )
        )
    return board


def simulated_book(market: SimulatedMarket, venue: str, at_ms: int, now_ns: int, depth: int = DEPTH) -> VenueBook:
    """Take a venue's book from the simulated market."""
    book = market.book(venue, SYMBOL, at_ms, depth)
    sides = [Ladder.of((level.price, level.quantity) for level in side) for side in (book.bids, book.asks)]
    return VenueBook(venue, SYMBOL, sides[0], sides[1], now_ns, None)


async def main() -> None:
    """Serve until the standard input closes."""
    clock, market = SystemClock(), SimulatedMarket(7)
    venues = [venue for venue in VENUES if SYMBOL in VENUES[venue].listings]
    settings = Settings.model_validate(
        {
            "service": {"mode": "simulated"},
            "market": {"symbols": (SYMBOL,)},
            # What an order takes is back for the next one, and nobody runs out of money.
            "liquidity": {"taken_half_life_ms": 0},
            # Counted, and never reached.
            "limits": {"quote_per_s": 1_000_000, "execute_per_s": 1_000_000},
            "accounts": {"starting_balances": {"USDT": "10000000000", "BTC": "1000000"}},
            "venues": {venue: {"exchange": venue, "base_url": "http://127.0.0.1"} for venue in venues},
        }
    )
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("wb") as devnull:
        logs.configure("json", "info", devnull)
        ledger = SqliteLedger.open(Path(folder) / "ledger.db", "simulated", starting_balances(settings))
        ring = KeyRing(b"bench" * 8, "simulated")
        key, stored = ring.make("bench", ["quote", "execute", "account"], datetime.now(UTC))
        ring.hold([stored])
        board = simulated_board(market, venues)
        app = create_app(settings, StandingFeeds.of(board, venues), ledger, ring, b"k" * 32, clock)
        ports = [await listen(Runner(app)), await listen(web.AppRunner(bare_app(), access_log=None))]
        sys.stdout.write(orjson.dumps({"ports": ports, "key": key}).decode() + "\n")
        sys.stdout.flush()
        await asyncio.wait(
            [
                asyncio.create_task(keep_books(board, market, venues, clock)),
                asyncio.create_task(asyncio.to_thread(sys.stdin.read)),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
        await ledger.close()


async def keep_books(board: Board, market: SimulatedMarket, venues: list[str], clock: SystemClock) -> None:
    """Replace one venue's book after the other, each once per interval."""
    started = time()
    while True:
        for venue in venues:
            now_ns = clock.now_ns()
            board.beat(now_ns)
            board.publish(simulated_book(market, venue, int((time() - started) * 1_000), now_ns), now_ns)
            await asyncio.sleep(INTERVAL_S / len(venues))


def bare_app() -> web.Application:
    """Answer with as many bytes as the query asks for, and do nothing else."""
    bodies: dict[str, bytes] = {}

    async def handler(request: web.Request) -> web.Response:
        size = request.query_string
        if size not in bodies:
            bodies[size] = b"x" * int(size)
        return web.Response(body=bodies[size], content_type="application/json")

    app = web.Application()
    app.router.add_get("/bare", handler)
    return app


async def listen(runner: web.AppRunner) -> int:
    """Start on a free port."""
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


if __name__ == "__main__":
    uvloop.run(main())
