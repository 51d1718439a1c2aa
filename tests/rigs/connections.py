"""Break the connection to PostgreSQL around COMMIT, and restart it under load: each order is still done once."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from tests.rigs.clients import Answer, Clients, OrderKey, calling
from tests.rigs.ledgers import database
from tests.rigs.outages import traded
from tests.rigs.postgres import AFTER, AT, BEFORE, Proxy, private_server
from tests.rigs.record import examine, judged, on_record
from tests.rigs.server import Server, Setup

TOGETHER_MAX = 5
"""Orders that are sent at once, and share a transaction as it happens."""
_UNDER_LOAD_S = 0.5


async def cut_at_commit(
    folder: Path, requests: int, *, fault: str | None = None, modes: tuple[str, ...] = (BEFORE, AT, AFTER)
) -> dict[str, Any]:
    """Cut a connection for every few of *requests*; give figures, with ``ok``."""
    with database("postgresql", folder) as made:
        clients = Clients(made.keys, random.Random(1))
        denied, first = 0, []
        async with (
            Proxy(made.url).passing() as proxy,
            Server(Setup(proxy.url, faults=(fault,) if fault else ())) as server,
            calling() as session,
        ):
            number = 0
            while len(clients.orders) < requests:
                proxy.cut(modes[number % len(modes)])
                number += 1
                together = min(clients.chance.randrange(1, TOGETHER_MAX + 1), requests - len(clients.orders))
                keys = [clients.order() for _ in range(together)]
                answers = await asyncio.gather(*(clients.send(session, server.address, key) for key in keys))
                denied += _denied(made.url, dict(zip(keys, answers, strict=True)))
                first += answers
            proxy.cut(None)
            await clients.resend(server.address, clients.orders)
        trouble = examine(made.url, clients.orders, clients.answers)
    figures = judged(clients, trouble) | {
        "cuts": proxy.cuts,
        "denied": denied,
        "slowest_s": round(max(answer.after_s for answer in first), 3),
    }
    return figures | {"ok": figures["ok"] and not denied and proxy.cuts == number}


def _denied(url: str, answers: dict[OrderKey, Answer]) -> int:
    """Count orders of which it was said that nothing was executed, and that are on record."""
    told = {key for key, answer in answers.items() if answer.code == "ledger_unavailable"}
    return len(told & on_record(url)) if told else 0


async def restarts(folder: Path, times: int, *, fault: str | None = None, back_within_s: float = 5) -> dict[str, Any]:
    """Restart a server of our own under load, *times* times, without letting it finish; give figures, with ``ok``."""
    with private_server() as postgres, database("postgresql", folder, server=postgres.url) as made:
        clients = Clients(made.keys, random.Random(1))
        back_s: list[float | None] = []
        async with Server(Setup(made.url, faults=(fault,) if fault else ())) as server:
            async with traded(clients, server.address):
                for _ in range(times):
                    await clients.next_answer()
                    await asyncio.sleep(_UNDER_LOAD_S)
                    began = time.monotonic()
                    await asyncio.to_thread(postgres.restart)
                    back_s.append(await _filled_since(clients, began, time.monotonic(), back_within_s))
            if None not in back_s:
                await clients.resend(server.address, clients.unanswered)
        trouble = examine(made.url, clients.orders, clients.answers)
    other = sum(not one.final and one.status != 503 for one in clients.heard)
    figures = judged(clients, trouble) | {
        "restarts": times,
        "refused_otherwise": other,
        "back_max_s": None if None in back_s else max(filter(None, back_s)),
        "slowest_s": round(max(one.after_s for one in clients.heard), 3),
    }
    in_time = None not in back_s and figures["back_max_s"] <= back_within_s
    return figures | {"ok": figures["ok"] and in_time and not other}


async def _filled_since(clients: Clients, began: float, ready: float, within_s: float) -> float | None:
    """Give how long after *began* an order was filled that was sent when the database was *ready*, or None."""
    while time.monotonic() < ready + within_s:
        for answer in reversed(clients.heard):
            if answer.asked_at_s < ready:
                break
            if answer.filled:
                return round(answer.asked_at_s + answer.after_s - began, 3)
        await asyncio.sleep(0.01)
    return None
