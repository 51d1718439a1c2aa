"""What recording costs: the same feeds by turns with and without it, and the process's CPU time.

The feeds poll the simulated venues, which are a process of their own, through ccxt: 30 books of 100 levels, each of
them four times a second.  Nearly all levels of these books change from one to the next, which is the most that there
can be to record.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import uvloop

from bench.figures import ratios, show, spread
from bench.processes import told
from bench.steady import SYMBOLS
from exchanges.clock import SystemClock
from exchanges.feeds import Feeds, VenueConfig
from exchanges.inputs import Input, Published
from exchanges.recorded import Encoder
from exchanges.recording import LEVEL, Recorder
from exchanges.simulator import VENUES
from service import logs
from service.recording import header_of
from service.settings import Settings

ROUNDS = 12
SECONDS = 5.0
INTERVAL_MS = 250
LINES_A_BLOCK = 50
"""About what there is to write every half second."""


def run() -> dict[str, Any]:
    """Measure and print."""
    return uvloop.run(cost())


async def cost() -> dict[str, Any]:
    """Let the feeds run, and record every second round of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Path("/dev/null").open("wb") as devnull,
        subprocess.Popen(
            [sys.executable, "-m", "service", "simulator", "--port", "0"], stderr=subprocess.PIPE, text=True
        ) as simulator,
    ):
        logs.configure("json", "error", devnull)
        base_url = told(simulator, r"on (http://\S+)")
        clock, settings = SystemClock(), _settings(base_url)
        configs = [
            VenueConfig(name, name, poll_interval_ms=INTERVAL_MS, rate_limit_ms=0, base_url=base_url) for name in VENUES
        ]
        feeds = Feeds(configs, SYMBOLS, Decimal(100), clock)
        await feeds.start()
        await asyncio.sleep(3.0)
        without, recorded, per_s, sizes = [], [], [], []
        for number in range(ROUNDS):
            without.append((await _cpu_us_per_book(feeds))[0])
            path = Path(folder) / f"{number}.rec"
            recorder = Recorder(path, header_of(settings, feeds, clock), feeds.board, clock)
            cpu_us, books_per_s = await _cpu_us_per_book(feeds)
            recorder.close()
            recorded.append(cpu_us)
            per_s.append(books_per_s)
            sizes.append(path.stat().st_size / recorder.books)
        inputs: list[Input] = []
        feeds.board.watch(inputs.append)
        await asyncio.sleep(SECONDS)
        feeds.board.unwatch(inputs.append)
        await feeds.close()
        simulator.terminate()
    alone = [_recording_us_per_book(inputs) for _ in range(ROUNDS)]
    more = [one - other for one, other in zip(recorded, without, strict=True)]
    result = {
        "books_per_s": spread(per_s),
        "feeds_alone_us_per_book": spread(without),
        "feeds_recorded_us_per_book": spread(recorded),
        "recorded_over_alone": ratios(without, recorded),
        "recording_by_itself_us_per_book": spread(alone),
        "cost_percent_of_one_core": spread([us * rate / 10_000 for us, rate in zip(more, per_s, strict=True)]),
        "bytes_per_book": spread(sizes),
    }
    print("recording what the feeds show, 100 levels a side: CPU time of the process")
    for name, figures in result.items():
        show(name, figures)
    return result


async def _cpu_us_per_book(feeds: Feeds) -> tuple[float, float]:
    """Give the CPU time that this process takes per book that is accepted, and how many there are in a second."""
    cpu_before, books_before, began = process_time(), _accepted(feeds), perf_counter()
    await asyncio.sleep(SECONDS)
    books = _accepted(feeds) - books_before
    return (process_time() - cpu_before) * 1_000_000 / books, books / (perf_counter() - began)


def _recording_us_per_book(inputs: Sequence[Input]) -> float:
    """Give the CPU time that writing down what the board was told takes by itself, however busy the machine is."""
    books = sum(isinstance(one, Published) for one in inputs)
    encoder, began = Encoder(0), process_time()
    for start in range(0, len(inputs), LINES_A_BLOCK):
        block = b"\n".join(encoder.line(one, 0) for one in inputs[start : start + LINES_A_BLOCK])
        zlib.compress(block, LEVEL)
    return (process_time() - began) * 1_000_000 / books


def _accepted(feeds: Feeds) -> int:
    return sum(feeds.board.tally(venue.config.name).accepted for venue in feeds.venues)


def _settings(base_url: str) -> Settings:
    venues = {name: {"exchange": name, "base_url": base_url} for name in VENUES}
    return Settings.model_validate({"service": {"mode": "simulated"}, "market": {"symbols": SYMBOLS}, "venues": venues})
