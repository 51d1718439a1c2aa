"""End the service with orders under way and clients that do nothing: it exits in time, and no order is in doubt."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import aiohttp

from exchanges.simulator import run_in_thread
from tests.rigs.clients import Clients, calling
from tests.rigs.ledgers import Database, database
from tests.rigs.record import examine, judged
from tests.rigs.server import Server, Setup
from tests.rigs.whole_service import Service

EXITS_WITHIN_S = 15.0
EXECUTES, DEAD = 50, 50
_SENT_BEFORE_S = 0.3
"""How long before its end the orders are sent: each takes longer."""
_POLITE = {"/readyz 503 close", "/quote 503 close", "/execute 503 close", "gone"}
"""What whoever asks anew may be answered."""
_ASKED = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 50
_SUBSCRIBED = json.dumps({"op": "subscribe", "channel": "book", "symbol": "BTC/USDT", "depth": 100}).encode()


async def shutdown(
    kind: str, folder: Path, *, dead: int = DEAD, within_s: float = EXITS_WITHIN_S, fault: str = "slow_record"
) -> dict[str, Any]:
    """
    Send SIGTERM at the worst moment; give figures, with ``ok``.

    Args:
        dead: So many streams, and as many of each other kind of client that does nothing.
        within_s: How long it may take to exit; a second later it is killed.
    """
    with database(kind, folder) as made:
        return await _shutdown(made, lambda *faults: Server(Setup(made.url, faults=faults)), dead, within_s, fault)


async def shutdown_service(kind: str, folder: Path) -> dict[str, Any]:
    """Do the same to the whole service, as its command starts it, with feeds of simulated venues."""
    with run_in_thread() as simulator, database(kind, folder) as made:

        def make(*faults: str) -> Service:
            return Service(made.url, folder, simulator.base_url, fault=faults[0] if faults else None)

        return await _shutdown(made, make, DEAD, EXITS_WITHIN_S, "slow_record")


async def _shutdown(
    made: Database, make: Callable[..., Server | Service], dead: int, within_s: float, fault: str
) -> dict[str, Any]:
    clients, key = Clients(made.keys, random.Random(1)), next(iter(made.keys.values()))
    async with (
        make(fault) as server,
        _dead(server.address, list(made.keys.values()), dead) as kinds,
        calling() as session,
    ):
        await _settled(server.address)
        keys = [clients.order() for _ in range(EXECUTES)]
        under_way = [asyncio.create_task(clients.send(session, server.address, key)) for key in keys]
        await asyncio.sleep(_SENT_BEFORE_S)
        began, pid = time.monotonic(), server.pid
        exiting = asyncio.create_task(server.stop())
        heard = await _heard_meanwhile(server.address, key, exiting, began + within_s + 1)
        if not exiting.done():
            os.kill(pid, signal.SIGKILL)
        status, took_s = await exiting, time.monotonic() - began
        answers = await asyncio.gather(*under_way, return_exceptions=True)
    answered, unanswered = len(clients.answers), sum(isinstance(one, BaseException) for one in answers)
    async with make() as again:
        await clients.resend(again.address, list(clients.orders))
    figures = judged(clients, examine(made.url, clients.orders, clients.answers))
    polite = heard.keys() <= _POLITE and heard.keys() != {"gone"}
    late = took_s > within_s
    return figures | {
        "ok": figures["ok"] and status == 0 and not late and polite and answered > 0 == unanswered,
        "exit": status,
        "exited_after_s": round(took_s, 1),
        "late": int(late),
        "answered": answered,
        "unanswered": unanswered,
        "dead": dict(kinds),
        "heard": dict(heard),
    }


async def _settled(address: str) -> None:
    """Wait until it has done what it can for those that do nothing, and has time again."""
    async with calling() as session:
        quick = 0
        deadline = time.monotonic() + EXITS_WITHIN_S
        while quick < 5 and time.monotonic() < deadline:
            began = time.monotonic()
            async with session.get(f"{address}/healthz") as response:
                await response.read()
            quick = quick + 1 if time.monotonic() - began < 0.02 else 0
            await asyncio.sleep(0.02)


async def _heard_meanwhile(address: str, key: str, exiting: asyncio.Task[int], deadline: float) -> Counter[str]:
    """Ask anew all the time until it has exited, or until the deadline; gives the answers."""
    heard: Counter[str] = Counter()
    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.01", "client_order_id": "late"}
    async with calling() as session:
        session.headers["X-API-Key"] = key
        while not exiting.done() and time.monotonic() < deadline:
            await _stopping(session, address)
            for path, request in (
                ("/readyz", {"method": "GET"}),
                ("/quote", {"method": "GET", "params": {"symbol": "BTC/USDT", "quantity": "1"}}),
                ("/execute", {"method": "POST", "json": order}),
            ):
                try:
                    async with session.request(url=address + path, **request) as response:
                        await response.read()
                        heard[f"{path} {response.status} {response.headers.get('Connection')}"] += 1
                except (aiohttp.ClientError, OSError):
                    heard["gone"] += 1
            await asyncio.sleep(0.1)
    return heard


async def _stopping(session: aiohttp.ClientSession, address: str) -> None:
    """Give the signal the time that it takes to be noticed."""
    try:
        for _ in range(20):
            async with session.get(f"{address}/readyz") as response:
                if response.status == 503:
                    return
            await asyncio.sleep(0.01)
    except (aiohttp.ClientError, OSError):
        return


@asynccontextmanager
async def _dead(address: str, keys: Sequence[str], number: int) -> AsyncIterator[Counter[str]]:
    """Have so many of each kind of client that does nothing; gives how many there are."""
    kinds: Counter[str] = Counter()
    async with AsyncExitStack() as stack:
        for key in islice(cycle(keys), number):
            upgraded = await _stream(stack, address, key)
            kinds["streams" if upgraded else "deaf instead of streams"] += 1
            for name, sent in _clients(key).items():
                await _connected(stack, address, sent)
                kinds[name] += 1
        yield kinds


def _clients(key: str) -> dict[str, bytes]:
    head = f"POST /execute HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n".encode()
    return {
        "deaf": _ASKED,
        "silent": b"",
        "half a head": b"GET /quote HTTP/1.1\r\nHost: x\r\n",
        "half a body": head + b"Content-Length: 100\r\n\r\n{",
    }


async def _stream(stack: AsyncExitStack, address: str, key: str) -> bool:
    """Open a stream and never read it; where there is none, ask for much instead."""
    nonce = base64.b64encode(b"0123456789abcdef").decode()
    upgrade = (
        f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n"
    ).encode()
    client = await _connected(stack, address, upgrade)
    answer = await asyncio.get_running_loop().sock_recv(client, 4_096)
    upgraded = answer.startswith(b"HTTP/1.1 101")
    await asyncio.get_running_loop().sock_sendall(client, _masked(_SUBSCRIBED) if upgraded else _ASKED)
    return upgraded


def _masked(payload: bytes) -> bytes:
    """Make a frame of text, with a mask that changes nothing."""
    return bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload


async def _connected(stack: AsyncExitStack, address: str, sent: bytes) -> socket.socket:
    host, _, port = address.removeprefix("http://").rpartition(":")
    client = socket.socket()
    stack.callback(client.close)
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    if sent:
        await loop.sock_sendall(client, sent)
    return client
