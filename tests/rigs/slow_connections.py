"""A thousand heads and a thousand bodies that come byte by byte, while others ask: nobody else notices them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp

from tests.rigs.clients import calling
from tests.rigs.ledgers import database
from tests.rigs.server import FORKS, STARTS_WITHIN_S, Server, Setup
from tests.rigs.simulated import simulated_venues
from tests.rigs.whole_service import Service

EACH = 1_000
CUT_WITHIN_S = 15.0
P99_MS = 50.0
GROWS_KB_MAX = 50 * 1_024
_ASK_EVERY_S = 0.02
_AT_ONCE = 50
_QUIET_S = 3.0
"""So long it is asked before, for comparison."""
HEADS, BODIES = "heads", "bodies"


async def slow_connections(
    folder: Path, each: int = EACH, *, within_s: float = CUT_WITHIN_S, faults: Sequence[str] = ()
) -> dict[str, Any]:
    """Let so many of each kind come to a server over books that stand still; give figures, with ``ok``."""
    with database("sqlite", folder) as made:
        async with Server(Setup(made.url, faults=tuple(faults))) as server:
            return await _attacked(server, made.keys["ann"], each, within_s)


async def slow_connections_of_service(folder: Path) -> dict[str, Any]:
    """Do the same to the whole service, as its command starts it, with feeds of simulated venues."""
    with database("sqlite", folder) as made:
        async with simulated_venues() as venues, Service(made.url, folder, venues.base_url) as service:
            return await _attacked(service, made.keys["ann"], EACH, CUT_WITHIN_S)


async def _attacked(server: Server | Service, key: str, each: int, within_s: float) -> dict[str, Any]:
    asker = Asker(server.address, key)
    async with asker.asking():
        await asyncio.sleep(min(_QUIET_S, within_s / 4))
        before_ms, asker.alive_ms, before_kb = asker.alive_ms, [], resident_kb(server.pid)
        largest_kb = before_kb
        attack = asyncio.create_task(_attack(server.address, key, each, within_s))
        while not attack.done():
            await asyncio.sleep(0.1)
            largest_kb = max(largest_kb, resident_kb(server.pid))
        cut = await attack
    p99_ms, grown_kb = quantiles(asker.alive_ms, n=100)[-1], largest_kb - before_kb
    slowest_s = max(max(one.after_s, default=0.0) for one in cut.values())
    left = sum(one.left for one in cut.values())
    unnoticed = p99_ms < P99_MS and not asker.failed and not asker.refused
    return {
        "ok": unnoticed and not left and slowest_s < within_s and grown_kb < GROWS_KB_MAX,
        "opened": {kind: one.opened for kind, one in cut.items()},
        "left": left,
        "cut_after_s": {kind: round(max(one.after_s, default=0.0), 1) for kind, one in cut.items()},
        "healthz_p50_ms": round(median(asker.alive_ms), 1),
        "healthz_p99_ms": round(p99_ms, 1),
        "healthz_p99_before_ms": round(quantiles(before_ms, n=100)[-1], 1),
        "asked": len(asker.alive_ms),
        "quote_p99_ms": round(quantiles(asker.quote_ms, n=100)[-1], 1),
        "grown_mb": round(grown_kb / 1_024, 1),
        "refused": asker.refused,
        "failed": dict(asker.failed),
    }


def resident_kb(pid: int) -> int:
    """Give a process's resident memory."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


class Asker:
    """Clients that want to know: whether it lives, on a connection of its own each time, and for a quote."""

    def __init__(self, address: str, key: str) -> None:
        self._address, self._key = address, key
        self.alive_ms: list[float] = []
        self.quote_ms: list[float] = []
        self.failed: Counter[str] = Counter()
        self.refused = 0

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask meanwhile."""
        async with calling() as session:
            tasks = [
                asyncio.create_task(self._over_and_over(session, "/healthz", self._life, {"Connection": "close"})),
                asyncio.create_task(self._over_and_over(session, "/quote?symbol=BTC/USDT&quantity=1", self._quote, {})),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _life(self, took_ms: float) -> None:
        self.alive_ms.append(took_ms)

    def _quote(self, took_ms: float) -> None:
        self.quote_ms.append(took_ms)

    async def _over_and_over(self, session: aiohttp.ClientSession, path: str, told: Any, more: dict[str, str]) -> None:
        while True:
            began = time.monotonic()
            try:
                async with session.get(self._address + path, headers={"X-API-Key": self._key} | more) as response:
                    await response.read()
                    if response.status == 503:
                        self.refused += 1
                    elif response.status != 200:
                        self.failed[f"{path} {response.status}"] += 1
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failed[type(error).__name__] += 1
            told((time.monotonic() - began) * 1_000)
            await asyncio.sleep(max(0.0, began + _ASK_EVERY_S - time.monotonic()))


# The slow ones, in a process of their own


class Cut:
    """What became of one kind: how many were opened, after how long each was cut, and how many are left."""

    def __init__(self, opened: int, after_s: Sequence[float]) -> None:
        self.opened, self.after_s, self.left = opened, tuple(after_s), opened - len(after_s)


async def _attack(address: str, key: str, each: int, within_s: float) -> dict[str, Cut]:
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_be_slow, args=(address, key, each, within_s, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        told: dict[str, Cut] = await asyncio.wait_for(asyncio.to_thread(ours.recv), 2 * within_s + STARTS_WITHIN_S)
    finally:
        ours.close()
        await asyncio.to_thread(process.join)
        process.close()
    return told


def _be_slow(address: str, key: str, each: int, within_s: float, told: Any) -> None:
    told.send(asyncio.run(_slow(address, key, each, within_s)))


class _Slow(asyncio.Protocol):
    """Sends the beginning, then a byte now and then."""

    def __init__(self, begin: bytes) -> None:
        self._begin = begin
        self._began_s = time.monotonic()
        self.after_s: float | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._begin)

    def drip(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(b"1")

    def connection_lost(self, error: Exception | None) -> None:
        self.after_s = time.monotonic() - self._began_s


async def _slow(address: str, key: str, each: int, within_s: float) -> dict[str, Cut]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    begin = {
        HEADS: b"GET /quote HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        BODIES: f"POST /execute HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
        "Content-Length: 1000\r\n\r\n{".encode(),
    }
    kinds: dict[str, list[_Slow]] = {HEADS: [], BODIES: []}
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)

    async def connect(kind: str) -> None:
        async with gate:
            slow = _Slow(begin[kind])
            kinds[kind].append(slow)
            await loop.create_connection(lambda: slow, host, int(port))

    await asyncio.gather(*(connect(kind) for _ in range(each) for kind in kinds))
    everybody = [slow for members in kinds.values() for slow in members]
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and any(slow.after_s is None for slow in everybody):
        for number, slow in enumerate(everybody):
            slow.drip()
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
    return {
        kind: Cut(len(members), [slow.after_s for slow in members if slow.after_s is not None])
        for kind, members in kinds.items()
    }
