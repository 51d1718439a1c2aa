"""One service process at work: 60 books polled twice a second through ccxt, and 500 quotes a second answered.

The simulated venues, in a process of their own, list 30 symbols in all; so that there are 60 books each venue is set up
under two names, and quotes are of the six first ones.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from bench.figures import show, spread
from bench.load import load_at
from bench.processes import running
from exchanges.simulator import VENUES

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BTC/USD", "ETH/USD", "USDT/USD", "USDC/USD", "USDC/USDT", "BTC/USDC")
QUOTES_PER_S = 500
SECONDS = 5.0
ROUNDS = 4
VENUES_TWICE = "\n".join(
    f'[venues.{venue}{copy}]\nexchange = "{venue}"\nbase_url = "BASE_URL"\npoll_interval_ms = 500\nrate_limit_ms = 0'
    for venue in VENUES
    for copy in (1, 2)
)


def run() -> dict[str, Any]:
    """Measure and print."""
    return asyncio.run(steady())


async def steady() -> dict[str, Any]:
    """Let the service work for a while, and read from the system what it used."""
    with running(SYMBOLS, VENUES_TWICE) as service:
        await asyncio.sleep(5.0)
        first_ones = ",".join(f"{venue}1" for venue in VENUES)
        path = f"/quote?symbol=BTC/USDT&quantity=1.5&venues={first_ones}"
        cpu, rss, p99, errors, per_s = [], [], [], 0, []
        for _ in range(ROUNDS):
            cpu_before, began = service.cpu_s(), perf_counter()
            found = await load_at(service.port, path, service.headers, per_s=QUOTES_PER_S, seconds=SECONDS)
            cpu.append((service.cpu_s() - cpu_before) / (perf_counter() - began) * 100)
            rss.append(service.rss_mb())
            p99.append(found.p99_ms)
            per_s.append(found.per_s)
            errors += found.errors
    books = 2 * sum(symbol in venue.listings for venue in VENUES.values() for symbol in SYMBOLS)
    result = {
        "books": books, "polls_per_s": 2 * books, "errors": errors, "quotes_per_s": spread(per_s),
        "cpu_percent_of_one_core": spread(cpu), "rss_mb": spread(rss), "p99_ms": spread(p99),
    }  # fmt: skip
    print(f"one process: {books} books of 100 levels polled twice a second through ccxt, {QUOTES_PER_S} quotes/s")
    for name, figures in result.items():
        if isinstance(figures, dict):
            show(name, figures)
    return result
