"""Run every measurement, print medians and ratios, and write ``bench/results.json``."""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import uvloop

from bench.load import load
from bench.server import SYMBOL, simulated_board
from exchanges.board import Board
from exchanges.book import RawBook, Side, VenueBook, decode
from exchanges.clock import MS
from exchanges.simulator import VENUES, SimulatedMarket
from service.market.book import ConsolidatedBook, Rules
from service.market.view import MarketView
from service.pricing.quote import price

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 32
UPDATE_LEVELS = 400
UPDATES = 60


def main() -> int:
    """Measure everything; give the exit status."""
    results = {
        "machine": {"python": platform.python_version(), "system": platform.system(), "processor": platform.machine()},
        "quote_over_http": uvloop.run(quote_over_http()),
        "book_update": book_update(),
    }
    path = Path(__file__).with_name("results.json")
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {path.name}")
    return 0


async def quote_over_http() -> dict[str, Any]:
    """Ask for quotes of both sides, everything on, in turn with a bare handler of the same size on the same loop."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        told = json.loads(server.stdout.readline())
        (quote_port, bare_port), headers = told["ports"], {"X-API-Key": told["key"]}
        path = f"/quote?symbol={SYMBOL}&quantity=1.5"
        await asyncio.sleep(1.0)
        size = (await load(quote_port, path, headers, connections=1, seconds=0.5)).body_bytes
        quotes, bares = [], []
        for _ in range(ROUNDS):
            bares.append(await load(bare_port, f"/bare?{size}", {}, connections=CONNECTIONS, seconds=SECONDS))
            quotes.append(await load(quote_port, path, headers, connections=CONNECTIONS, seconds=SECONDS))
        server.stdin.close()
    ratios = [quote.per_s / bare.per_s for quote, bare in zip(quotes, bares, strict=True)]
    result = {
        "connections": CONNECTIONS,
        "body_bytes": size,
        "errors": sum(quote.errors for quote in quotes),
        "quotes_per_s": spread([quote.per_s for quote in quotes]),
        "bare_per_s": spread([bare.per_s for bare in bares]),
        "ratio": spread(ratios),
        "p50_ms": spread([quote.p50_ms for quote in quotes]),
        "p99_ms": spread([quote.p99_ms for quote in quotes]),
    }
    print(f"GET /quote, both sides, {size} bytes, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS:g} s in turn")
    show("quotes/s", result["quotes_per_s"])
    show("bare handler/s", result["bare_per_s"])
    show("ratio", result["ratio"])
    show("p50 ms", result["p50_ms"])
    show("p99 ms", result["p99_ms"])
    return result


def book_update() -> dict[str, Any]:
    """Accept a book of one venue of five (checks, exact numbers, publish), then answer the next quote."""
    market = SimulatedMarket(7)
    venues = [venue for venue in VENUES if SYMBOL in VENUES[venue].listings][:5]
    board = simulated_board(market, venues)
    view = MarketView(board, Rules(outlier_bps=Decimal(100)))
    raws = {(venue, n): raw_book(market, venue, n * 500) for n in range(UPDATES // len(venues) + 1) for venue in venues}
    now_ns = 0
    accept_ms, quote_ms = [], []
    for (venue, _), raw in raws.items():
        now_ns += 100 * MS

        def accept(venue: str = venue, raw: RawBook = raw, now_ns: int = now_ns) -> None:
            publish(board, decode(raw, venue=venue, symbol=SYMBOL, received_at_ns=now_ns), now_ns)

        accept_ms.append(timed(accept))
        quote_ms.append(timed(lambda now_ns=now_ns: quote_both(view, now_ns)))
    levels = len(raws[(venues[0], 0)].bids)
    warm = len(venues)
    result = {
        "venues": len(venues),
        "levels_a_side": levels,
        "accept_cpu_ms": spread(accept_ms[warm:]),
        "next_quote_cpu_ms": spread(quote_ms[warm:]),
        "both_cpu_ms": spread([a + q for a, q in zip(accept_ms[warm:], quote_ms[warm:], strict=True)]),
    }
    print(f"one book update, {len(venues)} venues, about {levels} levels a side (CPU time)")
    show("accept ms", result["accept_cpu_ms"])
    show("next quote ms", result["next_quote_cpu_ms"])
    return result


def raw_book(market: SimulatedMarket, venue: str, at_ms: int) -> RawBook:
    """Give a venue's book as ccxt would: rows of floats."""
    book = market.book(venue, SYMBOL, at_ms, UPDATE_LEVELS)
    sides = [[[float(level.price), float(level.quantity)] for level in side] for side in (book.bids, book.asks)]
    return RawBook(SYMBOL, sides[0], sides[1])


def publish(board: Board, book: VenueBook, now_ns: int) -> None:
    """Put a book on the board."""
    board.publish(book, now_ns)


def quote_both(view: MarketView, now_ns: int) -> None:
    """Price both sides of a deep order."""
    book = view.book(SYMBOL, now_ns)
    assert isinstance(book, ConsolidatedBook)
    for side in Side:
        price(book, side, Decimal("1.5"))


def timed(work: Callable[[], None]) -> float:
    """Give the CPU milliseconds that *work* takes."""
    started = process_time()
    work()
    return (process_time() - started) * 1_000


def spread(figures: list[float]) -> dict[str, float]:
    """Give median, least and most."""
    return {
        "median": round(median(figures), 4),
        "min": round(min(figures), 4),
        "max": round(max(figures), 4),
        "samples": len(figures),
    }


def show(name: str, figures: dict[str, float]) -> None:
    """Print one row."""
    print(f"  {name:16} median {figures['median']:10.3f}   min {figures['min']:10.3f}   max {figures['max']:10.3f}")


if __name__ == "__main__":
    sys.exit(main())
