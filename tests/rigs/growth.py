"""Measure how fast a record grows: by executions of few and of many fills, by firm quotes, and while nothing is asked.

What is watched after a fill is on record a minute later, and is waited for.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from exchanges.simulator import run_in_thread
from tests.rigs.clients import calling
from tests.rigs.ledgers import Database, database
from tests.rigs.whole_service import Service

VENUES = ("kraken", "okx", "binance", "bybit", "bitstamp", "coinbaseexchange")
TIMES, IDLE_S, WATCHED_S = 1_000, 60.0, 66.0
SMALL, LARGE = "0.01", "0.3"
_AT_ONCE = 8
_AS_SHIPPED = {"IOB_LIQUIDITY__TAKEN": "shared", "IOB_LIQUIDITY__TAKEN_HALF_LIFE_MS": "50"}
"""Taken liquidity is written down as well; it comes back at once, so that every order is filled, and at many levels."""


async def growth(
    kind: str, folder: Path, times: int = TIMES, idle_s: float = IDLE_S, watched_s: float = WATCHED_S
) -> dict[str, Any]:
    """Do each thing *times* times on a whole service; give figures, with ``ok``."""
    with run_in_thread() as simulator, database(kind, folder) as made:
        async with Service(made.url, folder, simulator.base_url, VENUES, env=_AS_SHIPPED) as service:
            counted = _Counted(made, service.address, times, watched_s)
            figures: dict[str, Any] = {"empty_kb": _size(made) // 1_000}
            figures["small"] = await counted.executions(SMALL)
            figures["large"] = await counted.executions(LARGE)
            more = [figures["large"][name] - figures["small"][name] for name in ("bytes_each", "fills_each")]
            figures["bytes_each_fill_more"] = round(more[0] / more[1]) if more[1] > 0 else None
            figures["firm_quotes"] = await counted.firm_quotes()
            before = _size(made)
            await asyncio.sleep(idle_s)
            figures["idle_bytes"] = _size(made) - before
    return {"ok": figures["small"]["executions"] > 0 < figures["large"]["executions"], **figures}


class _Counted:
    """Things done, and what a record has grown by."""

    def __init__(self, made: Database, address: str, times: int, watched_s: float) -> None:
        self._made, self._address, self._times, self._watched_s = made, address, times, watched_s
        self._keys = list(made.keys.values())

    async def executions(self, quantity: str) -> dict[str, float]:
        """Execute orders of a quantity, buying and selling by turns."""
        before = self._state()

        async def one(session: Any, n: int) -> None:
            order = {"symbol": "BTC/USDT", "side": ("buy", "sell")[n % 2], "quantity": quantity, "time_in_force": "ioc"}
            await self._post(session, "/execute", n, order | {"client_order_id": str(uuid4())})

        await self._each(one)
        await asyncio.sleep(self._watched_s)
        executions, fills, size = (after - was for was, after in zip(before, self._state(), strict=True))
        return {
            "executions": executions,
            "fills_each": round(fills / executions, 1),
            "bytes_each": round(size / executions),
        }

    async def firm_quotes(self) -> dict[str, float]:
        """Ask for firm quotes, and let each go again."""
        before, given = _size(self._made), 0

        async def one(session: Any, n: int) -> None:
            nonlocal given
            quote = await self._post(session, "/v1/quotes", n, {"symbol": "BTC/USDT", "side": "buy", "quantity": SMALL})
            if "quote_id" in quote:
                given += 1
                where = f"{self._address}/v1/quotes/{quote['quote_id']}"
                async with session.delete(where, headers=self._headers(n)) as response:
                    await response.read()

        await self._each(one)
        return {"given": given, "bytes_each": round((_size(self._made) - before) / max(1, given))}

    async def _each(self, one: Callable[[Any, int], Awaitable[None]]) -> None:
        numbers = iter(range(self._times))

        async def go_on(session: Any) -> None:
            for n in numbers:
                await one(session, n)

        async with calling() as session:
            await asyncio.gather(*(go_on(session) for _ in range(_AT_ONCE)))

    async def _post(self, session: Any, route: str, n: int, body: dict[str, str]) -> dict[str, Any]:
        async with session.post(f"{self._address}{route}", json=body, headers=self._headers(n)) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
            return answer

    def _headers(self, n: int) -> dict[str, str]:
        return {"X-API-Key": self._keys[n % len(self._keys)]}

    def _state(self) -> tuple[int, int, int]:
        counted = [int(_ask(self._made, f"SELECT count(*) FROM {table}")) for table in ("executions", "fills")]
        return counted[0], counted[1], _size(self._made)


def _size(made: Database) -> int:
    """Give the bytes of a record, those that wait in the write-ahead log included."""
    if made.url.startswith("postgresql"):
        return int(_ask(made, "SELECT pg_database_size(current_database())"))
    return int(_ask(made, "PRAGMA page_count")) * int(_ask(made, "PRAGMA page_size"))


def _ask(made: Database, statement: str) -> Any:
    if made.url.startswith("postgresql"):
        with psycopg.connect(made.url, autocommit=True) as connection:
            return connection.execute(statement).fetchone()[0]
    with closing(sqlite3.connect(made.path)) as connection:
        return connection.execute(statement).fetchone()[0]
