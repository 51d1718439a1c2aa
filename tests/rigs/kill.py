"""Kill the server under load, again and again, and see whether anything that was answered is lost or done twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchanges.simulator import run_in_thread
from tests.rigs.clients import Clients
from tests.rigs.faults import WITHOUT_UNIQUE_KEY
from tests.rigs.ledgers import Database, database
from tests.rigs.record import examine, judged
from tests.rigs.server import Server, Setup
from tests.rigs.whole_service import Service

EXECUTORS = 50
LOAD_MS = (10, 250)
"""How long it is under load, from the first answer on."""
ASKED_AGAIN_MAX = 500
"""So many of the answered orders are sent once more in the end, beside those that were not."""


async def kill(
    kind: str, folder: Path, cycles: int, *, fault: str | None = None, load_ms: tuple[int, int] = LOAD_MS
) -> dict[str, Any]:
    """
    Kill it *cycles* times; give figures, with ``ok``.

    Args:
        load_ms: For how long it is under load before, at least and at most.
    """
    with database(kind, folder, unique=fault not in WITHOUT_UNIQUE_KEY) as made:
        setup = Setup(made.url, faults=(fault,) if fault else ())
        return await _kill(made, lambda: Server(setup), cycles, load_ms)


async def kill_service(kind: str, folder: Path, cycles: int) -> dict[str, Any]:
    """Do the same to the whole service, as its command starts it, with feeds of simulated venues."""
    with run_in_thread() as simulator, database(kind, folder) as made:
        return await _kill(made, lambda: Service(made.url, folder, simulator.base_url), cycles, LOAD_MS)


async def _kill(
    made: Database, make: Callable[[], Server | Service], cycles: int, load_ms: tuple[int, int]
) -> dict[str, Any]:
    chance = random.Random(1)
    clients = Clients(made.keys, chance)
    for _ in range(cycles):
        server = make()
        await server.start()
        load = asyncio.create_task(clients.trade(server.address, EXECUTORS))
        await clients.next_answer()
        await asyncio.sleep(chance.randrange(*load_ms) / 1_000)
        await server.kill()
        await load
    answered, resent = len(clients.answers), clients.unanswered
    again = chance.sample(list(clients.answers), min(answered, ASKED_AGAIN_MAX))
    async with make() as server:
        await clients.resend(server.address, resent + again)
    trouble = examine(made.url, clients.orders, clients.answers)
    return judged(clients, trouble) | {"cycles": cycles, "answered": answered, "resent": len(resent)}
