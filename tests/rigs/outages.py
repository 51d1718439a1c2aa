"""Take the disk or the database away for a while: orders are refused in good time, and filled by themselves after."""

from __future__ import annotations

import asyncio
import http.client
import random
import resource
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.rigs.clients import Clients
from tests.rigs.ledgers import Database, NotHere, database
from tests.rigs.record import examine, judged
from tests.rigs.server import FORKS, Server, Setup

EXECUTORS = 20
PAUSE_S = 0.02
_UNDER_LOAD_FIRST_S = 0.5
_HEALTH_EVERY_S = 0.02
_TMPFS_BYTES = 32 * 1_024 * 1_024
_WRITES_MAX_BYTES = 64


class Within(NamedTuple):
    """How soon an order is refused, a health check answered, and the next order filled when the outage is over."""

    refused_s: float = 2.5
    health_ms: float = 50
    back_s: float = 5


IN_GOOD_TIME = Within()
Outage = Callable[[Database, Server], AbstractContextManager[None]]


async def outage(
    kind: str,
    folder: Path,
    how: str,
    seconds: float,
    *,
    fault: str | None = None,
    within: Within = IN_GOOD_TIME,
) -> dict[str, Any]:
    """Have an outage, one of ``OUTAGES``, for some seconds under load; give figures, with ``ok``."""
    take_away, room = OUTAGES[how]
    with room(folder) as place, database(kind, place) as made:
        clients = Clients(made.keys, random.Random(1))
        async with Server(Setup(made.url, faults=(fault,) if fault else ())) as server:
            async with _health_watched(server.address) as health_ms, traded(clients, server.address):
                await clients.next_answer()
                await asyncio.sleep(_UNDER_LOAD_FIRST_S)
                with take_away(made, server):
                    began = time.monotonic()
                    await asyncio.sleep(seconds)
                    ended = time.monotonic()
                back_s = await _back(clients, ended, within.back_s)
            if back_s is not None:
                await clients.resend(server.address, clients.unanswered)
        trouble = examine(made.url, clients.orders, clients.answers)
    meanwhile = [one for one in clients.heard if one.asked_at_s >= began and one.asked_at_s + one.after_s <= ended]
    filled = sum(one.filled for one in meanwhile)
    other = sum(not one.final and one.status != 503 for one in clients.heard)
    slowest_s = max(one.after_s for one in clients.heard)
    figures = judged(clients, trouble) | {
        "seconds": seconds,
        "refused": sum(one.status == 503 for one in meanwhile),
        "filled_meanwhile": filled,
        "refused_otherwise": other,
        "slowest_s": round(slowest_s, 3),
        "back_s": back_s,
        "health_max_ms": round(max(health_ms), 1),
    }
    in_time = slowest_s <= within.refused_s and back_s is not None and max(health_ms) <= within.health_ms
    # On a full disk, what was written before may be written over.
    right = figures["refused"] > 0 and not other and not (filled and how != "disk full")
    return figures | {"ok": figures["ok"] and in_time and right}


@asynccontextmanager
async def traded(clients: Clients, address: str) -> AsyncIterator[None]:
    """Execute meanwhile."""
    load = asyncio.create_task(clients.trade(address, EXECUTORS, duplicates=0, pause_s=PAUSE_S))
    try:
        yield
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


@asynccontextmanager
async def _health_watched(address: str) -> AsyncIterator[list[float]]:
    """Ask all along, from a process of its own, whether the server lives; gives in the end how long answers took."""
    took_ms: list[float] = []
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=_watch_health, args=(address, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield took_ms
    finally:
        ours.send(None)
        took_ms += await asyncio.to_thread(ours.recv)
        ours.close()
        await asyncio.to_thread(process.join)
        process.close()


def _watch_health(address: str, told: Any) -> None:
    took_ms = []
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    while not told.poll(_HEALTH_EVERY_S):
        began = time.monotonic()
        connection.request("GET", "/healthz")
        with connection.getresponse() as response:
            response.read()
        took_ms.append((time.monotonic() - began) * 1_000 if response.status == 200 else float("inf"))
    connection.close()
    told.send(took_ms)


async def _back(clients: Clients, ended: float, within_s: float) -> float | None:
    """Give how long it took until an order that was sent afterwards was filled, or None."""
    looked = 0
    while time.monotonic() < ended + within_s:
        for answer in clients.heard[looked:]:
            if answer.filled and answer.asked_at_s >= ended:
                return round(answer.asked_at_s + answer.after_s - ended, 3)
        looked = len(clients.heard)
        await asyncio.sleep(0.01)
    return None


@contextmanager
def _locked(made: Database, server: Server) -> Iterator[None]:
    """Hold the database in a transaction of somebody else's."""
    if made.url.startswith("sqlite"):
        with closing(sqlite3.connect(made.path, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
        return
    with psycopg.connect(made.url) as other:
        other.execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


@contextmanager
def _nothing_written(made: Database, server: Server) -> Iterator[None]:
    """Forbid the process to write into any file beyond a few bytes."""
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (_WRITES_MAX_BYTES, hard))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def _disk_filled(made: Database, server: Server) -> Iterator[None]:
    """Fill the file system with another file."""
    filler = made.path.with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4_096)):
                pass
        except OSError:
            pass
        yield
        filler.unlink()


@contextmanager
def _as_it_is(folder: Path) -> Iterator[Path]:
    yield folder


@contextmanager
def _small(folder: Path) -> Iterator[Path]:
    """Mount a small file system, which takes the rights of root."""
    place = folder / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise NotHere("no right to mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


OUTAGES: dict[str, tuple[Outage, Callable[[Path], AbstractContextManager[Path]]]] = {
    "locked": (_locked, _as_it_is),
    "nothing written": (_nothing_written, _as_it_is),
    "disk full": (_disk_filled, _small),
}
