"""Back up a service under load, restore it elsewhere, and see whether anything that was confirmed before is missing.

What is run is what ``docs/operating.md`` says: ``internal-orderbook ledger backup`` or ``pg_dump``, a new folder or
database, ``ledger verify``, and a service that is started there and knows the same keys.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import re
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from exchanges.simulator import run_in_thread
from tests.databases import SERVER
from tests.rigs.clients import Answer, Clients, OrderKey, calling
from tests.rigs.ledgers import NotHere, database
from tests.rigs.record import examine
from tests.rigs.server import PEPPER
from tests.rigs.whole_service import Service

FILLING_S, STEADY_S = 60.0, 20.0
FILLERS, EXECUTORS, PAUSE_S = 40, 8, 0.05
ORDERS_AFTERWARDS = 100
_AT_ONCE = 20


async def backup(
    kind: str, folder: Path, *, filling_s: float = FILLING_S, steady_s: float = STEADY_S, careless: bool = False
) -> dict[str, Any]:
    """
    Fill a record, trade on at a steady pace, back up meanwhile, restore; give figures, with ``ok``.

    Args:
        careless: Copy the database's file alone, as somebody may who does not know better.
    """
    for tool in ("pg_dump", "pg_restore") if kind == "postgresql" else ():
        if shutil.which(tool) is None:
            raise NotHere(f"{tool} is not installed")
    home, elsewhere = folder / "home", folder / "elsewhere"
    for place in (home, elsewhere):
        place.mkdir()
    with run_in_thread() as simulator, database(kind, home) as made, _empty(kind, elsewhere) as restored_url:
        pepper = home / "pepper"
        pepper.touch(0o600)
        pepper.write_bytes(PEPPER)
        clients = Clients(made.keys, random.Random(1))
        async with _service(kind, made.url, home, simulator.base_url) as service:
            await _trade_for(clients, service.address, FILLERS, 0.0, filling_s)
            async with _trading(clients, service.address):
                await asyncio.sleep(steady_s)
                before = len(clients.heard)
                confirmed = dict(clients.answers)
                began_s = time.monotonic()
                copy = await _back_up(kind, made.url, home, careless)
                took_s = time.monotonic() - began_s
                await asyncio.sleep(steady_s)
            steady = [one for one in clients.heard[:before] if one.asked_at_s > began_s - steady_s]
            during = [one for one in clients.heard if began_s <= one.asked_at_s <= began_s + took_s]
            later = [one for one in clients.heard if one.asked_at_s > began_s + took_s]
        size = copy.stat().st_size
        await _restore(kind, copy, elsewhere, restored_url)
        restored = _service(kind, restored_url, elsewhere, simulator.base_url)
        proved = await _command(elsewhere, restored_url, "ledger", "verify", settings=home)
        missing, afterwards = await _look(clients, restored, confirmed)
        proved_again = await _command(elsewhere, restored_url, "ledger", "verify", settings=home)
        trouble = examine(restored_url, clients.orders, confirmed)
    return {
        "ok": proved == proved_again == 0 and not missing and not trouble.found and afterwards == ORDERS_AFTERWARDS,
        "confirmed_before": len(confirmed),
        "confirmed_meanwhile": len([one for one in during if one.filled]),
        "missing": missing,
        **trouble.figures(),
        "verify": [proved, proved_again],
        "executed_afterwards": afterwards,
        "backup_mb": round(size / 1e6, 1),
        "backup_s": round(took_s, 2),
        "before_ms": _spread(steady),
        "meanwhile_ms": _spread(during),
        "afterwards_ms": _spread(later),
    }


def _service(kind: str, url: str, folder: Path, simulator_url: str) -> Service:
    """Give a service; where it can, it has its pepper from beside its ledger."""
    return Service(url, folder, simulator_url, env=_secrets(kind))


def _secrets(kind: str) -> dict[str, str]:
    return {"IOB_PEPPER": "" if kind == "sqlite" else PEPPER.decode()}


@contextmanager
def _empty(kind: str, folder: Path) -> Iterator[str]:
    """Give the address of a ledger elsewhere, of which nothing is there yet but an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'ledger.db'}"
        return
    name = f"iob_rig_{secrets.token_hex(6)}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield re.sub(r"/[^/?]*($|\?)", rf"/{name}\1", SERVER)
    finally:
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _trading(clients: Clients, address: str) -> AsyncIterator[None]:
    """Have clients execute at a steady pace meanwhile."""
    trading = asyncio.create_task(clients.trade(address, EXECUTORS, pause_s=PAUSE_S))
    try:
        yield
    finally:
        trading.cancel()
        await asyncio.gather(trading, return_exceptions=True)


async def _trade_for(clients: Clients, address: str, executors: int, pause_s: float, for_s: float) -> None:
    trading = asyncio.create_task(clients.trade(address, executors, pause_s=pause_s))
    await asyncio.sleep(for_s)
    trading.cancel()
    await asyncio.gather(trading, return_exceptions=True)


async def _back_up(kind: str, url: str, home: Path, careless: bool) -> Path:
    copy = home / "backup"
    if careless:
        shutil.copy(home / "ledger.db", copy)
        shutil.copy(home / "pepper", home / "backup.pepper")
    elif kind == "sqlite":
        assert 0 == await _command(home, url, "ledger", "backup", str(copy), settings=home)
    else:
        await _run("pg_dump", "--format=custom", f"--file={copy}", f"--dbname={url}")
    return copy


async def _restore(kind: str, copy: Path, elsewhere: Path, url: str) -> None:
    if kind == "sqlite":
        shutil.copy(copy, elsewhere / "ledger.db")
        shutil.copy(copy.with_name("backup.pepper"), elsewhere / "pepper")
    else:
        await _run("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner", f"--dbname={url}", str(copy))


async def _run(*words: str, env: Mapping[str, str] | None = None) -> None:
    process = await asyncio.create_subprocess_exec(*words, env=env)
    if await process.wait() != 0:
        raise RuntimeError(f"{words[0]} ends with {process.returncode}")


async def _command(folder: Path, url: str, *words: str, settings: Path) -> int:
    """Run a command of the service on a ledger; gives its exit status."""
    kind = "postgresql" if url.startswith("postgresql") else "sqlite"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", "10", sys.executable, "-m", "service", *words, "--settings", str(settings / "settings.toml")),
        env=environment | _secrets(kind) | {"IOB_LEDGER__URL": url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


async def _look(clients: Clients, service: Service, confirmed: Mapping[OrderKey, Answer]) -> tuple[int, int]:
    """Ask a restored service for all that was confirmed, and trade on it; how much is missing, how much it fills."""
    filled = {key: answer for key, answer in confirmed.items() if answer.filled}
    newcomers = Clients(clients.keys, random.Random(2))
    keys = [newcomers.order(client_order_id=f"afterwards-{n}") for n in range(ORDERS_AFTERWARDS)]
    async with service, calling() as session:
        missing = await _missing(session, service.address, clients.keys, filled)
        done = 0
        for key in keys:
            newcomers.orders[key].pop("limit_price", None)
            done += (await newcomers.send(session, service.address, key)).status == 201
            clients.orders[key[0], newcomers.orders[key]["client_order_id"]] = newcomers.orders[key]
    return missing, done


async def _missing(session: Any, address: str, keys: Mapping[str, str], filled: Mapping[OrderKey, Answer]) -> int:
    """Count executions that are not answered byte for byte as they were confirmed; what was seen afterwards follows."""
    waiting, missing = iter(list(filled.items())), 0

    async def ask() -> None:
        nonlocal missing
        for (account, _), answer in waiting:
            where = f"{address}/v1/executions/{answer.execution_id}"
            async with session.get(where, headers={"X-API-Key": keys[account]}) as response:
                missing += not (await response.read()).startswith(answer.body[:-1])

    await asyncio.gather(*(ask() for _ in range(_AT_ONCE)))
    return missing


def _spread(answers: Collection[Answer]) -> dict[str, float]:
    """Give how long answers took: how many there are, their median, 99th percentile and maximum."""
    took = sorted(1_000 * one.after_s for one in answers) or [math.nan]
    places = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {"n": len(answers)} | {
        name: round(took[min(len(took) - 1, int(len(took) * place))], 1) for name, place in places.items()
    }
