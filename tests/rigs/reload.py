"""Swap venues of a service that is being asked, by signal, by route and one by one, with broken files in between."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp

from exchanges.simulator import run_in_thread
from service.control import key_desk
from service.keys import load_pepper
from tests.rigs.clients import calling
from tests.rigs.ledgers import database
from tests.rigs.server import PEPPER, Setup
from tests.rigs.whole_service import Service

PER_SECOND = 200
ORDERS_EVERY = 20
"""Every so many quotes there is an order too."""
FIRST, SECOND = ("binance", "kraken", "okx", "bybit"), ("binance", "kraken", "bitstamp", "coinbaseexchange")
BROKEN = "depth = 0\n[quotes]\nttl_sm = 3\n"
BROKEN_ABOUT = {"venues.coinbaseexchange.depth", "quotes.ttl_sm"}
STALLED = "loop_stalled"
OF_A_BUSY_MACHINE = {STALLED, "outcome_unknown", "ledger_unavailable", "overloaded"}
_WITHIN_S = 20.0


@dataclass
class Heard:
    """What the clients were answered."""

    took_ms: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    late: int = 0
    """Requests that could not be sent in time: the rate was not kept."""


async def reload(folder: Path, seconds: float, *, fault: str | None = None, busy: bool = False) -> dict[str, Any]:
    """
    Swap two of four venues at least once, and for some seconds, under load; give figures, with ``ok``.

    Args:
        busy: The machine does other things too: that the service had no turn for half a second, or no disk, says
            nothing.
    """
    with run_in_thread() as simulator, database("sqlite", folder) as made:
        async with Service(made.url, folder, simulator.base_url, FIRST, fault) as service:
            pepper = load_pepper({"IOB_PEPPER": PEPPER.decode()}, made.path).secret
            async with key_desk(Setup(made.url).settings(), lambda: pepper) as keys:
                key, _ = await keys.create("ann", ["quote", "execute", "admin"])
            async with calling() as session:
                session.headers["X-API-Key"] = key
                heard = Heard()
                operator = Operator(service, session, heard)
                await operator.until_live(FIRST)
                ends = time.monotonic() + seconds
                async with _asked(service.address, session, heard):
                    while time.monotonic() < ends and not operator.wrong:
                        await operator.swap()
        figures = {
            "seconds": seconds,
            "asked": len(heard.took_ms),
            "late": heard.late,
            "failed": dict(heard.failed),
            "p99_ms": round(quantiles(heard.took_ms, n=100)[-1], 1),
            "slowest_ms": round(max(heard.took_ms), 1),
            "changes": operator.changes,
            "refused": operator.refused,
            "wrong": operator.wrong,
            "used": dict(heard.used),
        }
    done = operator.changes > 0 < operator.refused and {" ".join(FIRST), " ".join(SECOND)} <= heard.used.keys()
    failed = heard.failed.keys() - (OF_A_BUSY_MACHINE if busy else set())
    return {"ok": done and not failed and not operator.wrong, **figures}


@asynccontextmanager
async def _asked(address: str, session: aiohttp.ClientSession, heard: Heard) -> AsyncIterator[None]:
    """Ask at a steady rate, whether or not the answers come."""
    asking: set[asyncio.Task[None]] = set()

    async def ask() -> None:
        began = time.monotonic()
        for number in count():
            due = began + number / PER_SECOND
            heard.late += time.monotonic() > due + 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for one in [_quote] + [_order] * (number % ORDERS_EVERY == 0):
                task = asyncio.create_task(one(address, session, heard, number))
                asking.add(task)
                task.add_done_callback(asking.discard)

    load = asyncio.create_task(ask())
    try:
        yield
    finally:
        load.cancel()
        await asyncio.gather(load, *asking, return_exceptions=True)


async def _quote(address: str, session: aiohttp.ClientSession, heard: Heard, number: int) -> None:
    symbol = ("BTC/USDT", "ETH/USDT")[number % 2]
    quote = await _heard(heard, session.get(f"{address}/quote", params={"symbol": symbol, "quantity": "0.1"}))
    if symbol == "BTC/USDT":
        heard.used[" ".join(source["venue"] for source in quote.get("sources", []) if source["used"])] += 1


async def _order(address: str, session: aiohttp.ClientSession, heard: Heard, number: int) -> None:
    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.01", "client_order_id": f"order-{number}"}
    await _heard(heard, session.post(f"{address}/execute", json=order))


async def _heard(heard: Heard, request: Any) -> dict[str, Any]:
    began = time.monotonic()
    try:
        async with request as response:
            answer: dict[str, Any] = await response.json(content_type=None)
            status = response.status
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        answer, status = {"code": type(error).__name__}, 0
    heard.took_ms.append((time.monotonic() - began) * 1_000)
    if status not in (200, 201):
        stalled = STALLED in {source["reason"] for source in answer.get("sources", [])}
        heard.failed[STALLED if stalled else str(answer["code"])] += 1
    return answer


class Operator:
    """Whoever edits the settings, and looks whether the service does what they say."""

    def __init__(self, service: Service, session: aiohttp.ClientSession, heard: Heard) -> None:
        self._service = service
        self._session = session
        self._heard = heard
        self.changes = 0
        self.refused = 0
        self.wrong: list[str] = []

    async def swap(self) -> None:
        """Change to the second venues and back: by signal, by route, and one by one; break the file in between."""
        self._service.write(SECOND)
        self._service.hang_up()
        self.changes += 1
        await self.until_live(SECOND)
        await self._until_quoted(SECOND)
        await self._break_by_signal()
        await self._break_by_route()
        self._service.write(FIRST)
        await self._post("/v1/admin/reload")
        await self.until_live(FIRST)
        await self._until_quoted(FIRST)
        for verb, among in (("disable", FIRST[:2]), ("enable", FIRST)):
            for venue in FIRST[2:]:
                await self._post(f"/v1/admin/venues/{venue}/{verb}")
            await self.until_live(among)

    async def until_live(self, venues: Sequence[str]) -> None:
        """Wait until just these of the venues are enabled, and live."""
        wanted = dict.fromkeys(venues, "live")
        await self._until(f"{', '.join(venues)} live", self._states, lambda states: states == wanted)

    async def _until_quoted(self, venues: Sequence[str]) -> None:
        """Wait until a quote more has used all of these."""
        name = " ".join(venues)
        before = self._heard.used[name]

        async def used() -> int:
            return self._heard.used[name]

        await self._until(f"quoted on {name}", used, lambda times: times > before)

    async def _states(self) -> dict[str, str]:
        async with self._session.get(f"{self._service.address}/v1/venues") as response:
            rows = (await response.json())["venues"]
        return {row["venue"]: row["state"] for row in rows if row["enabled"]}

    async def _until(self, what: str, look: Callable[[], Awaitable[Any]], enough: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while not enough(found := await look()):
            if time.monotonic() > deadline:
                self.wrong.append(f"not {what} in {_WITHIN_S} s: {found}")
                return
            await asyncio.sleep(0.05)

    async def _break_by_signal(self) -> None:
        before, known = await self._enabled(), len(self._service.logged("settings.refused"))
        self._service.write(SECOND, BROKEN)
        self._service.hang_up()

        async def refused() -> int:
            return len(self._service.logged("settings.refused"))

        await self._until("refused", refused, lambda number: number > known)
        told = self._service.logged("settings.refused")[-1:]
        self._judge([problem.partition(": ")[0] for line in told for problem in line["problems"]])
        await self._unchanged(before)

    async def _break_by_route(self) -> None:
        before = await self._enabled()
        async with self._session.post(f"{self._service.address}/v1/admin/reload") as response:
            answer = await response.json(content_type=None)
        self._judge([fault["parameter"] for fault in answer.get("errors", [])])
        await self._unchanged(before)

    def _judge(self, about: list[str]) -> None:
        self.refused += 1
        if set(about) != BROKEN_ABOUT:
            self.wrong.append(f"a broken file was refused for {about}")

    async def _unchanged(self, before: list[str]) -> None:
        if (after := await self._enabled()) != before:
            self.wrong.append(f"a broken file changed {before} to {after}")

    async def _enabled(self) -> list[str]:
        return list(await self._states())

    async def _post(self, path: str) -> None:
        async with self._session.post(self._service.address + path) as response:
            self.changes += 1
            if response.status != 200:
                self.wrong.append(f"{path} was answered {response.status}: {await response.text()}")
