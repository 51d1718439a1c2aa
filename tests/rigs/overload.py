"""Three times what the service can answer: it answers nearly as much as ever, nearly as fast, and sends the rest away."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tests.rigs.ledgers import database
from tests.rigs.server import FORKS, STARTS_WITHIN_S, Server, Setup

QUOTE = "/quote?symbol=BTC/USDT&quantity=1.5"
EXPECTED = frozenset({200, 201, 429, 503})


@dataclass(frozen=True)
class Load:
    """
    How much is asked, for how long.

    Args:
        connections: Of clients that each ask again as soon as they are answered: what saturates the service.
        clients: Of the overload; all of them together want *times* what was answered before.
        obey: They wait as long as ``Retry-After`` says; otherwise they ask on.
        orders_per_s: Beside the quotes, by clients of their own.
    """

    calm_s: float = 10.0
    connections: int = 32
    overload_s: float = 60.0
    times: float = 3.0
    clients: int = 256
    obey: bool = True
    orders_per_s: float = 20.0
    normal_within_s: float = 5.0


IN_FULL = Load()


@dataclass
class Heard:
    """What clients were answered: how often each status, and after how many milliseconds what was granted."""

    statuses: Counter[int] = field(default_factory=Counter)
    granted_ms: list[float] = field(default_factory=list)

    def note(self, status: int, took_s: float) -> None:
        """Take note of an answer."""
        self.statuses[status] += 1
        if status < 300:
            self.granted_ms.append(took_s * 1_000)

    @property
    def granted(self) -> int:
        """Count what was granted."""
        return len(self.granted_ms)

    @property
    def p99_ms(self) -> float:
        """Give the time within which 99 of 100 grants came."""
        return quantiles(self.granted_ms, n=100)[-1] if len(self.granted_ms) > 1 else float("inf")


async def overload(folder: Path, load: Load = IN_FULL, *, faults: Sequence[str] = ()) -> dict[str, Any]:
    """Saturate a server over books that stand still, then ask for more; give figures, with ``ok``."""
    with database("sqlite", folder) as made:
        async with Server(Setup(made.url, faults=tuple(faults))) as server:
            calm, heard, orders, normal_after_s = await _asked(server.address, made.keys["ann"], load)
    peak_per_s = calm.granted / load.calm_s
    goodput = heard.granted / load.overload_s / peak_per_s
    slower = heard.p99_ms / calm.p99_ms
    return {
        "ok": goodput >= 0.8
        and slower <= 2.0
        and set(heard.statuses) | set(orders.statuses) <= EXPECTED
        and normal_after_s <= load.normal_within_s,
        "peak_per_s": round(peak_per_s),
        "asked_per_s": round(heard.statuses.total() / load.overload_s),
        "goodput": round(goodput, 2),
        "statuses": dict(sorted(heard.statuses.items())),
        "p99_ms": {"calm": round(calm.p99_ms, 1), "overloaded": round(heard.p99_ms, 1)},
        "p50_ms": {"calm": _median(calm.granted_ms), "overloaded": _median(heard.granted_ms)},
        "orders": dict(sorted(orders.statuses.items())),
        "orders_p99_ms": round(orders.p99_ms, 1),
        "normal_after_s": normal_after_s,
    }


def _median(numbers: Sequence[float]) -> float:
    return round(sorted(numbers)[len(numbers) // 2], 1) if numbers else float("inf")


async def _asked(address: str, key: str, load: Load) -> tuple[Heard, Heard, Heard, float]:
    """Ask from a process of its own, so that the clients take none of the service's time."""
    ours, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_ask, args=(address, key, load, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        within_s = load.calm_s + load.overload_s + 2 * load.normal_within_s + STARTS_WITHIN_S
        told: tuple[Heard, Heard, Heard, float] = await asyncio.wait_for(asyncio.to_thread(ours.recv), within_s)
    finally:
        ours.close()
        process.terminate()
        await asyncio.to_thread(process.join)
        process.close()
    return told


def _ask(address: str, key: str, load: Load, told: Any) -> None:
    """Be all the clients."""
    told.send(uvloop.run(_everything(urlsplit(address).port or 80, key, load)))
    told.close()


async def _everything(port: int, key: str, load: Load) -> tuple[Heard, Heard, Heard, float]:
    await _saturate(port, key, load.connections, min(2.0, load.calm_s))  # What is made at first use is made.
    calm = await _saturate(port, key, load.connections, load.calm_s)
    per_client_s = load.clients / (load.times * calm.granted / load.calm_s)
    heard, orders = Heard(), Heard()
    ends_at = time.perf_counter() + load.overload_s
    await asyncio.gather(
        *(_demand(port, _get(key), heard, per_client_s, ends_at, load.obey) for _ in range(load.clients)),
        *(
            _demand(port, _order(key), orders, 10 / load.orders_per_s, ends_at, load.obey)
            for _ in range(10 if load.orders_per_s else 0)
        ),
    )
    ended_at = time.perf_counter()
    while True:
        after = await _saturate(port, key, load.connections, min(1.0, load.calm_s))
        normal_after_s = round(time.perf_counter() - ended_at, 1)
        calm_again = set(after.statuses) == {200} and after.p99_ms <= 2 * calm.p99_ms
        if calm_again or normal_after_s > load.normal_within_s:
            return calm, heard, orders, normal_after_s


def _get(key: str) -> Callable[[], bytes]:
    request = f"GET {QUOTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n\r\n".encode()
    return lambda: request


def _order(key: str) -> Callable[[], bytes]:
    def make() -> bytes:
        name = secrets.token_hex(12)
        body = f'{{"symbol":"BTC/USDT","side":"buy","quantity":"0.001","client_order_id":"{name}"}}'
        return (
            f"POST /execute HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    return make


async def _saturate(port: int, key: str, connections: int, seconds: float) -> Heard:
    """Ask on each connection again as soon as it is answered."""
    heard, ends_at = Heard(), time.perf_counter() + seconds

    async def over_and_over() -> None:
        connection = await _connected(port)
        request = _get(key)()
        while (began := time.perf_counter()) < ends_at:
            status, _ = await connection.ask(request)
            heard.note(status, time.perf_counter() - began)
        connection.close()

    await asyncio.gather(*(over_and_over() for _ in range(connections)))
    return heard


async def _demand(
    port: int, make: Callable[[], bytes], heard: Heard, every_s: float, ends_at: float, obey: bool
) -> None:
    """Be a client that wants something every so often, at moments of its own, until the end."""
    connection = await _connected(port)
    due = time.perf_counter() + random.random() * every_s
    while True:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        began = time.perf_counter()
        if began >= ends_at:
            break
        status, retry_after_s = await connection.ask(make())
        answered = time.perf_counter()
        heard.note(status, answered - began)
        due = max(due + random.expovariate(1 / every_s), answered)
        if obey and retry_after_s:
            due = answered + retry_after_s * (1 + random.random() / 2)
    connection.close()


async def _connected(port: int) -> _Connection:
    _, connection = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return connection


class _Connection(asyncio.Protocol):
    """Asks one thing after the other, at as little cost as can be; 0 is the status of a connection that broke."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._got = b""
        self._waiting: asyncio.Future[tuple[int, float]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, float]]:
        """Send a request; gives its status and the seconds of ``Retry-After``."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            self._waiting.set_result((0, 1.0))
        else:
            self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        """Wait for the whole answer."""
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._got[:end].lower()
        if len(self._got) < end + 4 + int(_value(head, b"content-length") or 0):
            return
        self._got = b""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), float(_value(head, b"retry-after") or 0)))

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((0, 1.0))

    def close(self) -> None:
        """Ask no more."""
        self._transport.close()


def _value(head: bytes, name: bytes) -> bytes:
    """Give a header's value in a lower-case head."""
    return head.partition(b"\r\n" + name + b": ")[2].partition(b"\r\n")[0]
