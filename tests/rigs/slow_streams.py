"""Clients of streams that never read, beside one that does: they cost little memory and are closed, and it lags little.

Then a key is revoked, and its streams are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from service.control import RemoteKeyDesk, socket_path
from tests.rigs.ledgers import Database, database
from tests.rigs.probed import ProbedService, ProbedSetup
from tests.rigs.simulated import now_ms, simulated_venues
from tests.rigs.soak import venue_tables

SYMBOLS = ("BTC/USDT", "ETH/USDT")
QUOTE = {"op": "subscribe", "channel": "quote", "symbol": "BTC/USDT", "quantity": "1"}
WANTED = (
    QUOTE,
    {"op": "subscribe", "channel": "book", "symbol": "BTC/USDT", "depth": 500},
    {"op": "subscribe", "channel": "book", "symbol": "ETH/USDT", "depth": 500},
    {"op": "subscribe", "channel": "venues"},
    {"op": "subscribe", "channel": "executions"},
)
"""What each slow client asks for: as much as it can."""
LAG_MS_MAX = 250.0
RSS_KB_MAX = 50 * 1_024
REVOKED_S_MAX = 5.0
_SAMPLE_S = 0.5


@dataclass(frozen=True)
class Length:
    """
    How many and how long.

    Args:
        closed_within_s: All clients that do not read have to be closed by then.
        lag_ms_max: What a machine that does other things too may add counts as well.
        room_bytes: What the kernel holds for a client that does not read; None leaves it to the kernel.
        hurried: See ``ProbedSetup``.
    """

    clients: int = 200
    calm_s: float = 5.0
    closed_within_s: float = 45.0
    streams_revoked: int = 10
    lag_ms_max: float = LAG_MS_MAX
    room_bytes: int | None = None
    hurried: bool = False


IN_FULL = Length()


@dataclass
class Healthy:
    """A client that reads; how old each quote was when it came, and how long it was waited for."""

    key: str
    lags_ms: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    closed: bool = False
    numbers: list[int] = field(default_factory=list)

    async def read(self, address: str) -> None:
        """Read until cancelled."""
        async with aiohttp.ClientSession() as session, _stream(session, address, self.key) as connection:
            await connection.send_json(QUOTE)
            at_s = time.monotonic()
            async for message in connection:
                heard_ms, frame = now_ms(), json.loads(message.data)
                if "error" in frame:
                    self.refusals[frame["error"]["code"]] += 1
                elif "data" in frame:
                    made_ms = datetime.fromisoformat(frame["data"]["created_at"]).timestamp() * 1_000
                    self.lags_ms.append(heard_ms - made_ms)
                    self.gaps_ms.append((time.monotonic() - at_s) * 1_000)
                    self.numbers.append(frame["sequence"])
                    at_s = time.monotonic()
        self.closed = True


def _stream(session: aiohttp.ClientSession, address: str, key: str) -> Any:
    return session.ws_connect(f"{address}/v1/stream", headers={"X-API-Key": key}, max_msg_size=0)


async def _deaf(address: str, key: str, room_bytes: int | None) -> socket.socket:
    """Open a stream, subscribe to much, and never read anything of it."""
    host, port = urlsplit(address).hostname, urlsplit(address).port
    loop, connection = asyncio.get_running_loop(), socket.socket()
    connection.setblocking(False)
    if room_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room_bytes)
    await loop.sock_connect(connection, (host, port))
    handshake = (
        f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-API-Key: {key}\r\n\r\n"
    )
    await loop.sock_sendall(connection, handshake.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += await loop.sock_recv(connection, 1)
    if b" 101 " not in answer:
        raise RuntimeError(answer.decode())
    for wanted in WANTED:
        payload = json.dumps(wanted).encode()
        await loop.sock_sendall(connection, bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big") + bytes(4) + payload)
    return connection


def _service(made: Database, folder: Path, simulator_url: str, length: Length, fault: str | None) -> ProbedService:
    setup = ProbedSetup(
        made.url,
        folder / "service.log",
        SYMBOLS,
        venue_tables(simulator_url),
        hurried=length.hurried,
        broken=(fault,) if fault else (),
        streams_per_key=length.clients + 100,
    )
    return ProbedService(setup)


async def slow_streams(folder: Path, length: Length = IN_FULL, *, fault: str | None = None) -> dict[str, Any]:
    """Have clients that do not read, then a revocation; give figures, with ``ok``."""
    async with AsyncExitStack() as stack:
        made = stack.enter_context(database("sqlite", folder))
        simulated = await stack.enter_async_context(simulated_venues())
        service = await stack.enter_async_context(_service(made, folder, simulated.base_url, length, fault))
        healthy = Healthy(made.keys["ann"])
        async with _reading(healthy, service.address):
            slow = await _deaf_clients(service, made.keys["ben"], length, healthy)
        revoked = await _revoked(service, made, length)
    return _judged(healthy, slow, revoked, length)


@asynccontextmanager
async def _reading(healthy: Healthy, address: str) -> AsyncIterator[None]:
    reading = asyncio.create_task(healthy.read(address))
    try:
        while not healthy.lags_ms:
            if reading.done():
                await reading
            await asyncio.sleep(0.05)
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _deaf_clients(service: ProbedService, key: str, length: Length, healthy: Healthy) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        # What comes to be held once, for the first of them, is not theirs.
        stack.enter_context(contextlib.closing(await _deaf(service.address, key, length.room_bytes)))
        await asyncio.sleep(length.calm_s)
        before_kb = (await service.sample()).rss_kb
        for warming_up in (healthy.lags_ms, healthy.gaps_ms, healthy.refusals):
            warming_up.clear()
        began_s = time.monotonic()
        for _ in range(length.clients):
            stack.enter_context(contextlib.closing(await _deaf(service.address, key, length.room_bytes)))
        opened_s = time.monotonic() - began_s
        highest_kb, closed_s, ends = before_kb, None, []
        while closed_s is None and time.monotonic() - began_s < opened_s + length.closed_within_s:
            await asyncio.sleep(_SAMPLE_S)
            highest_kb = max(highest_kb, (await service.sample()).rss_kb)
            ends += [line for line in service.new_lines() if line.get("close_code") == 1013]
            if len(ends) > length.clients:
                closed_s = round(time.monotonic() - began_s - opened_s, 1)
    return {
        "opened_s": round(opened_s, 1),
        "rss_before_kb": before_kb,
        "rss_more_kb": highest_kb - before_kb,
        "closed": len(ends),
        "closed_after_s": closed_s,
        "skipped": sum(line["frames_skipped"] for line in ends),
        "sent": sum(line["frames_sent"] for line in ends),
    }


async def _revoked(service: ProbedService, made: Database, length: Length) -> dict[str, Any]:
    key = made.keys["cid"]
    connector = aiohttp.UnixConnector(str(socket_path(made.path)))
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        streams = []
        for _ in range(length.streams_revoked):
            streams.append(await stack.enter_async_context(_stream(session, service.address, key)))
            await streams[-1].send_json(QUOTE)
        control = await stack.enter_async_context(aiohttp.ClientSession("http://control", connector=connector))
        began_s = time.monotonic()
        await RemoteKeyDesk(control).revoke(key.split("_")[2])
        ended = await asyncio.gather(*(_closed(stream) for stream in streams))
    return {"codes": sorted({code for code, _ in ended}), "after_s": round(max(at for _, at in ended) - began_s, 2)}


async def _closed(stream: Any) -> tuple[int | None, float]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REVOKED_S_MAX + 1):
            async for _ in stream:
                pass
    return stream.close_code, time.monotonic()


def _judged(healthy: Healthy, slow: dict[str, Any], revoked: dict[str, Any], length: Length) -> dict[str, Any]:
    lags = sorted(healthy.lags_ms)
    figures = {
        **slow,
        "quotes": len(lags),
        "lag_ms": {"p50": round(lags[len(lags) // 2]), "max": round(lags[-1])},
        "gap_ms_max": round(max(healthy.gaps_ms)),
        "refused": dict(healthy.refusals),
        "healthy_closed": healthy.closed,
        "revoked": revoked,
    }
    in_order = healthy.numbers == sorted(set(healthy.numbers))
    sound = not healthy.closed and in_order and slow["closed_after_s"] is not None and slow["skipped"] > 0
    held = slow["rss_more_kb"] < RSS_KB_MAX and lags[-1] < length.lag_ms_max
    ended = revoked["codes"] == [1008] and revoked["after_s"] <= REVOKED_S_MAX
    return figures | {"ok": bool(sound and held and ended)}
