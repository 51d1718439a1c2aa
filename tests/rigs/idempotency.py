"""Send every order twenty times at once, and again after a restart: it is done once, and always answered the same."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

from tests.rigs.clients import Answer, Clients, OrderKey, calling
from tests.rigs.faults import WITHOUT_UNIQUE_KEY
from tests.rigs.ledgers import database
from tests.rigs.record import examine, judged
from tests.rigs.server import Server, Setup

DUPLICATES = 20
IDS_AT_ONCE = 10


async def idempotency(kind: str, folder: Path, ids: int, *, fault: str | None = None) -> dict[str, Any]:
    """Use *ids* ids; give figures, with ``ok``."""
    with database(kind, folder, unique=fault not in WITHOUT_UNIQUE_KEY) as made:
        setup = Setup(made.url, faults=(fault,) if fault else ())
        clients = Clients(made.keys, random.Random(1))
        keys = [clients.order() for _ in range(ids)]
        async with Server(setup) as server:
            first = await _all(clients, server.address, keys)
        async with Server(setup) as server:
            second = await _all(clients, server.address, keys)
            reused = await _other_bodies(clients, server.address, keys)
        trouble = examine(made.url, clients.orders, clients.answers)
    figures = judged(clients, trouble)
    # One of each is new, all others are told what it was told.
    new = sum(answer.status == 201 for answers in first for answer in answers)
    filled = sum(clients.answers[key].filled for key in keys if key in clients.answers)
    again = Counter(answer.status for answers in second for answer in answers)
    ok = figures["ok"] and new == filled and not again[201] and reused == {"client_order_id_reused": ids}
    figures |= {"ids": ids, "duplicates": DUPLICATES, "new": new, "new_after_restart": again[201]}
    return figures | {"ok": ok, "other_body": dict(reused), "rejected": ids - filled}


async def _all(clients: Clients, address: str, keys: list[OrderKey]) -> list[list[Answer]]:
    """Send each order twenty times, all twenty at once, some orders at a time."""
    waiting, answers = iter(keys), []
    async with calling() as session:

        async def sender() -> None:
            for key in waiting:
                all_at_once = (clients.send(session, address, key) for _ in range(DUPLICATES))
                answers.append(await asyncio.gather(*all_at_once))

        await asyncio.gather(*(sender() for _ in range(IDS_AT_ONCE)))
    return answers


async def _other_bodies(clients: Clients, address: str, keys: list[OrderKey]) -> Counter[str]:
    """Send another order under each id."""
    found: Counter[str] = Counter()
    async with calling() as session:
        for key in keys:
            body = clients.orders[key] | {"quantity": "1.5"}
            found[(await clients.send(session, address, key, body)).code or "filled"] += 1
    return found
