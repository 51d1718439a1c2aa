"""What metrics and log lines cost: the two verbs over HTTP with both, with either and with neither, in turn.

Four servers of the same kind run side by side, and only one of them is asked at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.figures import ratios, show, spread
from bench.http import CLIENTS, CONNECTIONS, Servers, order, question
from bench.load import Load, load

ROUNDS, SECONDS = 25, 0.6
"""Many short ones: what else the machine does is the same for neighbours."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "on": (),
    "without_metrics": ("no-metrics",),
    "without_logs": ("no-logs",),
    "off": ("no-metrics", "no-logs"),
}


@dataclass(frozen=True)
class Asked:
    """One server, and a key for it."""

    servers: Servers
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """Give what a request needs."""
        return {"X-API-Key": self.key}


def run() -> dict[str, Any]:
    """Measure and print."""
    return uvloop.run(measured())


async def measured() -> dict[str, Any]:
    """Start the servers, and load them in turn."""
    with ExitStack() as stack:
        asked = {name: _started(stack, options) for name, options in VARIANTS.items()}
        await asyncio.sleep(1.0)
        return {
            "load_average": round(os.getloadavg()[0], 2),
            "quote": await in_turn("GET /quote", asked, question, CONNECTIONS),
            "execute": await in_turn("POST /execute", asked, lambda: "/execute", CLIENTS, order),
        }


def _started(stack: ExitStack, options: tuple[str, ...]) -> Asked:
    server = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-m", "bench.server", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    )
    assert server.stdout is not None
    assert server.stdin is not None
    stack.callback(_end, server)
    told = json.loads(server.stdout.readline())
    return Asked(Servers(server.pid, *told["ports"]), told["key"])


def _end(server: subprocess.Popen[str]) -> None:
    """Let a server end, and hear what it says last."""
    assert server.stdin is not None
    server.stdin.close()
    assert server.stdout is not None
    server.stdout.read()


async def in_turn(
    title: str,
    asked: dict[str, Asked],
    path: Callable[[], str],
    connections: int,
    body: Callable[[], bytes] | None = None,
) -> dict[str, Any]:
    """Load each server in turn, again and again; ratios are of rounds, so that what slows the machine slows both."""
    found: dict[str, list[Load]] = {name: [] for name in asked}
    cpu_us: dict[str, list[float]] = {name: [] for name in asked}
    names = deque(asked)
    for number in range(ROUNDS + 1):
        names.rotate()  # None is always the first one, or the last.
        for name in names:
            one = asked[name]
            before_s = one.servers.cpu_s()
            took = await load(one.servers.port, path, one.headers, connections=connections, seconds=SECONDS, body=body)
            if number:  # The first round warms everything up.
                found[name].append(took)
                cpu_us[name].append((one.servers.cpu_s() - before_s) * 1e6 / (took.per_s * SECONDS))
    result: dict[str, Any] = {"connections": connections}
    print(f"{title}, {connections} connections, {ROUNDS} rounds of {SECONDS:g} s in turn")
    for name, loads in found.items():
        result[name] = {
            "errors": sum(one.errors for one in loads),
            "per_s": spread([one.per_s for one in loads]),
            "p50_ms": spread([one.p50_ms for one in loads]),
            "p99_ms": spread([one.p99_ms for one in loads]),
            "cpu_us": spread(cpu_us[name]),
        }
        for figure in ("per_s", "p99_ms", "cpu_us"):
            show(f"{name}, {figure}", result[name][figure])
    for name in ("on", "without_metrics", "without_logs"):
        rates = ratios([one.per_s for one in found["off"]], [one.per_s for one in found[name]])
        late = ratios([one.p99_ms for one in found["off"]], [one.p99_ms for one in found[name]])
        costs = ratios(cpu_us["off"], cpu_us[name])
        result[f"{name}_over_off"] = {"per_s": rates, "p99_ms": late, "cpu_us": costs}
        for figure, figures in result[f"{name}_over_off"].items():
            show(f"{name} over off, {figure}", figures)
    return result
