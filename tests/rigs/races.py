"""Let many callers want the same thing at once: one quote, and the last of a level."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.rigs.clients import Answer, Clients, calling, codes
from tests.rigs.ledgers import Database, database
from tests.rigs.record import examine
from tests.rigs.server import Ladders, Server, Setup

CALLERS = 40
TAKERS = 60
SHOWN: Ladders = {
    ("kraken", "BTC/USDT"): [("64001", "3"), ("64003", "2")],
    ("okx", "BTC/USDT"): [("64002", "4"), ("64004", "1")],
}
"""Ten in all, of the base asset."""
LEVELS = {"64001": 3, "64002": 4, "64003": 2, "64004": 1}


async def one_quote(
    kind: str, folder: Path, processes: int, rounds: int, *, fault: str | None = None
) -> dict[str, Any]:
    """Let 40 callers execute the same quote, each under an id of its own; give figures, with ``ok``."""
    with database(kind, folder) as made:
        clients = Clients(made.keys, random.Random(1))
        async with running(Setup(made.url, faults=(fault,) if fault else ()), processes) as servers:
            outcomes = [codes(await _execute_one_quote(clients, servers, made)) for _ in range(rounds)]
        trouble = examine(made.url, clients.orders, clients.answers)
    expected = {"201": 1, "quote_used": CALLERS - 1}
    wrong = [outcome for outcome in outcomes if outcome != expected]
    return {
        "ok": not trouble.found and not wrong and not clients.changed,
        "processes": processes,
        "rounds": rounds,
        **trouble.figures(),
        "otherwise": wrong,
    }


async def _execute_one_quote(clients: Clients, servers: list[Server], made: Database) -> list[Answer]:
    account = "ann"
    async with calling() as session:
        query = {"symbol": "BTC/USDT", "quantity": "0.5", "side": "buy"}
        headers = {"X-API-Key": made.keys[account]}
        async with session.get(f"{servers[0].address}/quote", params=query, headers=headers) as response:
            quote_id = (await response.json())["quote_id"]
        keys = []
        for _ in range(CALLERS):
            key = clients.order(account)
            clients.orders[key] = {"quote_id": quote_id, "client_order_id": key[1]}
            keys.append(key)
        sent = (clients.send(session, servers[n % len(servers)].address, key) for n, key in enumerate(keys))
        return await asyncio.gather(*sent)


async def last_of_a_level(
    kind: str, folder: Path, processes: int, rounds: int, *, fault: str | None = None, taken: str = "shared"
) -> dict[str, Any]:
    """Let 60 takers of 1 share a depth of 10, each round on a ledger of its own; give figures, with ``ok``."""
    expected = {"201": 10, "insufficient_liquidity": TAKERS - 10}
    wrong, fills = [], 0
    for number in range(rounds):
        room = folder / str(number)
        room.mkdir()
        with database(kind, room) as made:
            setup = Setup(made.url, taken=taken, ladders=SHOWN, faults=(fault,) if fault else ())
            clients = Clients(made.keys, random.Random(number))
            async with running(setup, processes) as servers, calling() as session:
                fields = {"symbol": "BTC/USDT", "side": "buy", "quantity": "1"}
                keys = [clients.order() for _ in range(TAKERS)]
                for key in keys:
                    clients.orders[key] = fields | {"client_order_id": key[1]}
                sent = (clients.send(session, servers[n % processes].address, key) for n, key in enumerate(keys))
                answers = await asyncio.gather(*sent)
            trouble = examine(made.url, clients.orders, clients.answers)
            at = _levels(answers)
            fills += sum(at.values())
            if codes(answers) != expected or at != LEVELS or trouble.found:
                wrong.append(codes(answers) | at | trouble.figures())
    return {"ok": not wrong, "processes": processes, "rounds": rounds, "filled": fills, "otherwise": wrong}


def _levels(answers: list[Answer]) -> dict[str, int]:
    """Give what was filled at each price."""
    at: dict[str, Decimal] = {}
    for answer in answers:
        for fill in answer.json["fills"] if answer.filled else ():
            at[fill["price"]] = at.get(fill["price"], Decimal(0)) + Decimal(fill["quantity"])
    return {price: int(quantity) if quantity == int(quantity) else quantity for price, quantity in sorted(at.items())}


@asynccontextmanager
async def running(setup: Setup, processes: int) -> AsyncIterator[list[Server]]:
    """Run one server, or several on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Server(setup)) for _ in range(processes)]
