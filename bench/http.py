"""``GET /quote`` over HTTP, everything on, in turn with a bare handler of the same size on the same loop."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import uvloop

from bench.books import SYMBOL
from bench.figures import ratios, show, spread
from bench.load import load

ROUNDS = 5
SECONDS = 3.0
CONNECTIONS = 32


def run() -> dict[str, Any]:
    """Measure and print."""
    return uvloop.run(quote_over_http())


async def quote_over_http() -> dict[str, Any]:
    """Ask for quotes of both sides, while the venues' books are replaced."""
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
    result = {
        "connections": CONNECTIONS,
        "body_bytes": size,
        "errors": sum(quote.errors for quote in quotes),
        "quotes_per_s": spread([quote.per_s for quote in quotes]),
        "bare_per_s": spread([bare.per_s for bare in bares]),
        "ratio": ratios([bare.per_s for bare in bares], [quote.per_s for quote in quotes]),
        "p50_ms": spread([quote.p50_ms for quote in quotes]),
        "p99_ms": spread([quote.p99_ms for quote in quotes]),
    }
    print(f"GET /quote, both sides, {size} bytes, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS:g} s in turn")
    for name, figures in result.items():
        if isinstance(figures, dict):
            show(name, figures)
    return result
