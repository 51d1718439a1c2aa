"""One service process at work: 60 books polled twice a second through ccxt, and 500 quotes a second answered.

The simulated venues, in a process of their own, list 30 symbols in all; so that there are 60 books each venue is set up
under two names, and quotes are of the six first ones.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.figures import show, spread
from bench.load import load_at
from exchanges.simulator import VENUES

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BTC/USD", "ETH/USD", "USDT/USD", "USDC/USD", "USDC/USDT", "BTC/USDC")
QUOTES_PER_S = 500
SECONDS = 5.0
PACE = "\npoll_interval_ms = 500\nrate_limit_ms = 0"
ROUNDS = 4
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def run() -> dict[str, Any]:
    """Measure and print."""
    return asyncio.run(steady())


async def steady() -> dict[str, Any]:
    """Let the service work for a while, and read from the system what it used."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "service", "simulator", "--port", "0"], stderr=subprocess.PIPE, text=True
        ) as simulator,
    ):
        base_url = _told(simulator, r"on (http://\S+)")
        settings = Path(folder) / "settings.toml"
        settings.write_text(_settings(base_url, folder))
        env = {**os.environ, "IOB_PEPPER": "p" * 32}
        key = _run("keys", "create", "--account", "bench", "--scopes", "quote", settings=settings, env=env)
        with subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--settings", settings],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env,
        ) as service:  # fmt: skip
            port = int(_told(service, r"on http://127.0.0.1:(\d+)"))
            await asyncio.sleep(5.0)
            first_ones = ",".join(f"{venue}1" for venue in VENUES)
            path, headers = f"/quote?symbol=BTC/USDT&quantity=1.5&venues={first_ones}", {"X-API-Key": key}
            cpu, rss, p99, errors, per_s = [], [], [], 0, []
            for _ in range(ROUNDS):
                cpu_before, began = _cpu_s(service.pid), perf_counter()
                found = await load_at(port, path, headers, per_s=QUOTES_PER_S, seconds=SECONDS)
                cpu.append((_cpu_s(service.pid) - cpu_before) / (perf_counter() - began) * 100)
                rss.append(_rss_mb(service.pid))
                p99.append(found.p99_ms)
                per_s.append(found.per_s)
                errors += found.errors
            service.terminate()
        simulator.terminate()
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


def _settings(base_url: str, folder: str) -> str:
    symbols = ", ".join(f'"{symbol}"' for symbol in SYMBOLS)
    venues = "\n".join(
        f'[venues.{venue}{copy}]\nexchange = "{venue}"\nbase_url = "{base_url}"{PACE}'
        for venue in VENUES
        for copy in (1, 2)
    )
    return (
        f'[service]\nmode = "simulated"\nport = 0\n[market]\nsymbols = [{symbols}]\n'
        f'[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n{venues}\n'
    )


def _told(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a process says on its standard error until it has said this."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found[1]
    raise RuntimeError("it ended without saying so")


def _run(*words: str, settings: Path, env: dict[str, str]) -> str:
    command = [sys.executable, "-m", "service", *words, "--settings", str(settings)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _rss_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1_024 if found else 0.0
