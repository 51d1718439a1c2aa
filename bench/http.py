"""The two verbs over HTTP, everything on, each in turn with a bare handler of the same size on the same loop."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench.books import SYMBOL
from bench.figures import ratios, show, spread
from bench.load import Load, load

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 32
CLIENTS = 128


def run() -> dict[str, Any]:
    """Measure and print."""
    return uvloop.run(quote_over_http())


async def quote_over_http() -> dict[str, Any]:
    """Ask for quotes of both sides, then execute, while the venues' books are replaced 20 times a second."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        told = json.loads(server.stdout.readline())
        (port, bare_port), headers = told["ports"], {"X-API-Key": told["key"]}
        await asyncio.sleep(1.0)
        servers = Servers(server.pid, port, bare_port)
        result = {
            "quote": await beside_bare("GET /quote", servers, question, headers, CONNECTIONS),
            "execute": await beside_bare("POST /execute", servers, lambda: "/execute", headers, CLIENTS, order),
        }
        server.stdin.close()
        pauses = json.loads(server.stdout.readline())["pauses_ms"]
    result["pauses_ms"] = pauses
    print(f"pauses of the loop: p99 {pauses['p99']:.1f} ms, longest {pauses['longest']:.1f} ms of {pauses['samples']}")
    return result


@dataclass(frozen=True)
class Servers:
    """The service and the bare handler: one process."""

    pid: int
    port: int
    bare_port: int

    def cpu_s(self) -> float:
        """Give the CPU seconds that they have used, to the nanosecond."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


def question() -> str:
    """Ask for another quantity each time, from 0.001 to 3."""
    return f"/quote?symbol={SYMBOL}&quantity={random.randint(100, 300_000) / 100_000:.5f}"


def order() -> bytes:
    """Make an order that nobody has sent before."""
    fields = {"symbol": SYMBOL, "side": "buy", "quantity": "0.1", "client_order_id": secrets.token_hex(12)}
    return json.dumps(fields).encode()


async def beside_bare(
    title: str,
    servers: Servers,
    path: Callable[[], str],
    headers: dict[str, str],
    connections: int,
    body: Callable[[], bytes] | None = None,
) -> dict[str, Any]:
    """
    Load the service and the bare handler in turn.

    Beside requests a second it gives CPU time a request, whose ratio says the same on a machine that others use, too.
    """
    size = (await load(servers.port, path, headers, connections=1, seconds=0.5, body=body)).body_bytes
    ours, bares, ours_us, bares_us = [], [], [], []

    async def loaded(port: int, path: Callable[[], str], body: Callable[[], bytes] | None) -> tuple[Load, float]:
        before_s = servers.cpu_s()
        found = await load(port, path, headers, connections=connections, seconds=SECONDS, body=body)
        return found, (servers.cpu_s() - before_s) * 1e6 / (found.per_s * SECONDS)

    for _ in range(ROUNDS):
        for into, cpu_us, asked in (
            (bares, bares_us, (servers.bare_port, lambda: f"/bare?{size}", None)),
            (ours, ours_us, (servers.port, path, body)),
        ):
            found, us = await loaded(*asked)
            into.append(found)
            cpu_us.append(us)
    result = {
        "connections": connections,
        "body_bytes": size,
        "errors": sum(one.errors for one in ours),
        "per_s": spread([one.per_s for one in ours]),
        "bare_per_s": spread([bare.per_s for bare in bares]),
        "ratio": ratios([bare.per_s for bare in bares], [one.per_s for one in ours]),
        "cpu_us": spread(ours_us),
        "bare_cpu_us": spread(bares_us),
        "cpu_ratio": ratios(ours_us, bares_us),
        "p50_ms": spread([one.p50_ms for one in ours]),
        "p99_ms": spread([one.p99_ms for one in ours]),
        "p99_over_p50": spread([one.p99_ms / one.p50_ms for one in ours]),
    }
    print(f"{title}, {size} bytes, {connections} connections, {ROUNDS} rounds of {SECONDS:g} s in turn")
    for name, figures in result.items():
        if isinstance(figures, dict):
            show(name, figures)
    return result
