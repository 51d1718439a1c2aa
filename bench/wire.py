"""From a venue's wire to a quote: how old a change is when the first answer shows it, streamed and polled.

Six simulated venues, in a process of their own, stamp each change and each answer that they send; a client asks for
quotes without a pause and notes when it first sees each of a venue's sequences.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp

from bench.figures import show, spread
from bench.processes import Service, running

SYMBOLS = ("BTC/USDT", "ETH/USDT")
SECONDS = 10.0
ROUNDS = 3
ROWS = """
[venues.{name}]
exchange = "{exchange}"
transport = "{transport}"
base_url = "BASE_URL"
poll_interval_ms = 500
rate_limit_ms = 0
"""
VENUES = "".join(
    ROWS.format(name=name, exchange=exchange, transport=transport)
    for name, exchange, transport in (
        ("streamed", "binance", "stream"),
        ("polled", "binance", "poll"),
        ("kraken", "kraken", "stream"),
        ("okx", "okx", "stream"),
        ("bybit", "bybit", "stream"),
        ("bitstamp", "bitstamp", "stream"),
    )
)


def run() -> dict[str, Any]:
    """Measure and print."""
    return asyncio.run(_measured())


async def _measured() -> dict[str, Any]:
    with running(SYMBOLS, VENUES) as service:
        await asyncio.sleep(5.0)
        result: dict[str, Any] = {}
        print("from a venue's send to the first quote that contains it, in ms")
        async with aiohttp.ClientSession(headers=service.headers) as session:
            for venue, transport in (("streamed", "stream"), ("polled", "poll")):
                medians, p99s, cpu, seen = [], [], [], 0
                for _ in range(ROUNDS):
                    cpu_before, began = service.cpu_s(), time.perf_counter()
                    delays = await _delays(session, service, venue, transport)
                    cpu.append((service.cpu_s() - cpu_before) / (time.perf_counter() - began) * 100)
                    medians.append(delays[len(delays) // 2])
                    p99s.append(delays[int(len(delays) * 0.99)])
                    seen += len(delays)
                result[venue] = {
                    "changes": seen, "median_ms": spread(medians), "p99_ms": spread(p99s),
                    "cpu_percent_of_one_core": spread(cpu),
                }  # fmt: skip
                show(f"{venue}, median", result[venue]["median_ms"])
                show(f"{venue}, p99", result[venue]["p99_ms"])
        return result


async def _delays(session: aiohttp.ClientSession, service: Service, venue: str, transport: str) -> list[float]:
    """Ask without a pause for some time; give the delay of each change that was seen, sorted."""
    url = f"http://127.0.0.1:{service.port}/quote?symbol=BTC/USDT&quantity=0.1&venues={venue}"
    first_seen: dict[int, int] = {}
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        async with session.get(url) as response:
            answer = await response.json()
        at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for source in answer["sources"]:
            if source["venue"] == venue and source["sequence"] is not None:
                first_seen.setdefault(source["sequence"], at_ns)
    first_seen.pop(min(first_seen))  # It was there before anybody looked.
    async with session.get(f"{service.simulator_url}/sent") as response:
        sent = (await response.json())["sent"]
    delays = []
    for note in sent:
        mine = note["venue"] == "binance" and note["symbol"] == "BTC/USDT" and note["transport"] == transport
        if mine and note["sequence"] in first_seen:
            delays.append((first_seen.pop(note["sequence"]) - note["sent_at_ns"]) / 1_000_000)
    return sorted(delays)
