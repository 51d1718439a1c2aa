"""Serve the API over simulated books, and a bare handler with an answer of the same size, from one loop.

Prints the two ports and the key as one JSON line, and at the end how long the loop was held up.  With ``no-metrics``
nothing is counted, with ``no-logs`` no request leaves a line: for measuring what that costs.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from time import perf_counter

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
from service.metrics.instruments import Instruments
from service.settings import Settings
from tests.standing import StandingFeeds

SYMBOL = "BTC/USDT"
DEPTH = 100
BOOKS_PER_S = 20
BOOKS_EACH = 50
"""Made beforehand for each venue, and shown in turn."""
PROBE_S = 0.005


class Uncounted(Instruments):
    """Counts nothing."""

    def answered(self, *told: object) -> None:
        """Do nothing, like all of these."""

    shed = connected = cut = quoted = realised = committed = commit_failed = recorded = woken = answered  # type: ignore[assignment]


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
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        logs.configure("json", "error" if "no-logs" in sys.argv else "info", log)
        ledger = SqliteLedger.open(Path(folder) / "ledger.db", "simulated", starting_balances(settings))
        ring = KeyRing(b"bench" * 8, "simulated")
        key, stored = ring.make("bench", ["quote", "execute", "account"], datetime.now(UTC))
        ring.hold([stored])
        board = simulated_board(market, venues)
        shown_ms = range(0, BOOKS_EACH * 1_000 * len(venues) // BOOKS_PER_S, 1_000 * len(venues) // BOOKS_PER_S)
        books = [simulated_book(market, venue, at_ms, 0) for at_ms in shown_ms for venue in venues]
        counted = Uncounted() if "no-metrics" in sys.argv else None
        feeds = StandingFeeds.of(board, venues)
        app = create_app(settings, feeds, ledger, ring, b"k" * 32, clock, instruments=counted)
        ports = [await listen(Runner(app)), await listen(web.AppRunner(bare_app(), access_log=None))]
        sys.stdout.write(orjson.dumps({"ports": ports, "key": key}).decode() + "\n")
        sys.stdout.flush()
        gc.collect()
        gc.freeze()  # As the service does once it has started.
        late_ms: list[float] = []
        await asyncio.wait(
            [
                asyncio.create_task(keep_books(board, books, clock)),
                asyncio.create_task(probe(late_ms)),
                asyncio.create_task(asyncio.to_thread(sys.stdin.read)),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
        late_ms.sort()
        pauses = {"p99": late_ms[int(len(late_ms) * 0.99)], "longest": late_ms[-1], "samples": len(late_ms)}
        sys.stdout.write(orjson.dumps({"pauses_ms": pauses}).decode() + "\n")
        sys.stdout.flush()
        await ledger.close()


async def keep_books(board: Board, books: Sequence[VenueBook], clock: SystemClock) -> None:
    """Replace one venue's book after the other."""
    for book in cycle(books):
        now_ns = clock.now_ns()
        board.beat(now_ns)
        board.publish(replace(book, received_at_ns=now_ns), now_ns)
        await asyncio.sleep(1 / BOOKS_PER_S)


async def probe(late_ms: list[float]) -> None:
    """Note how much later than it should the loop comes back to this."""
    while True:
        due = perf_counter() + PROBE_S
        await asyncio.sleep(PROBE_S)
        late_ms.append((perf_counter() - due) * 1_000)


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
