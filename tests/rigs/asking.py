"""A client that asks for quotes all the time, and remembers every answer."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import aiohttp

from tests.rigs.clients import calling
from tests.rigs.simulated import now_ms

AT_ONCE_MAX = 40
"""So many questions wait for an answer at once, and no more are asked then."""
_NO_NUMBER = re.compile(rb'(?<![\w"])[+-]?(nan|inf|infinity)\b|"[+-]?(nan|inf|infinity)"', re.IGNORECASE)
QUANTITIES = {"BTC/USDT": "5", "ETH/USDT": "80"}
"""Enough to reach into every venue's book."""


class Fill(NamedTuple):
    """One level of one venue, as a quote has it; *side* is the client's."""

    venue: str
    symbol: str
    side: str
    price: Decimal


@dataclass(frozen=True)
class Quoted:
    """
    An answer; times are Unix milliseconds.

    Args:
        made_at_ms: By the service's own clock; None for a refusal.
        code: Of a refusal.
        venues_out: Those that were not used, and why.
    """

    asked_at_ms: int
    received_at_ms: int
    made_at_ms: int | None
    status: int
    code: str | None
    fills: tuple[Fill, ...]
    venues_out: Mapping[str, str]

    @property
    def whole(self) -> bool:
        """Tell whether it is a quote that every venue had a part in."""
        return self.status == 200 and not self.venues_out

    @property
    def took_ms(self) -> int:
        """Give how long it took."""
        return self.received_at_ms - self.asked_at_ms


class NotANumber(ValueError):
    """Say that an answer holds what is no number, as a number or as a word."""


def strict(body: bytes) -> Any:
    """
    Read JSON.

    Raises:
        NotANumber: If there is NaN or Infinity in it.
    """
    found = _NO_NUMBER.search(body)
    if found is not None:
        raise NotANumber(body[max(0, found.start() - 200) : found.end()].decode())
    return json.loads(body)


@dataclass
class Asker:
    """
    The client.

    Args:
        query: Beside symbol and quantity.
        keep_fills: Whether every single fill is remembered, which takes a megabyte a second.
        refusals: Counts of codes of answers without a price.
        failed: What went wrong otherwise: connections, status 500, numbers that are none.
    """

    address: str
    key: str
    query: Mapping[str, str] = field(default_factory=dict)
    keep_fills: bool = False
    answers: list[Quoted] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    async def ask(self, session: aiohttp.ClientSession, symbol: str) -> None:
        """Ask once."""
        query = {"symbol": symbol, "quantity": QUANTITIES[symbol], "fills": "true", **self.query}
        asked_at_ms = now_ms()
        try:
            async with session.get(f"{self.address}/quote", params=query, headers={"X-API-Key": self.key}) as response:
                body, received_at_ms = await response.read(), now_ms()
            answer = strict(body)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self.failed[f"{type(error).__name__}: {error}"[:200]] += 1
            return
        if response.status not in (200, 503):
            self.failed[f"{response.status} {body[:200]!r}"] += 1
        if response.status != 200:
            self.refusals[str(answer.get("code"))] += 1
        quoted = _quoted(asked_at_ms, received_at_ms, response.status, answer)
        self.answers.append(quoted if self.keep_fills else replace(quoted, fills=()))

    @asynccontextmanager
    async def asking(self, every_ms: int, symbols: Sequence[str] = tuple(QUANTITIES)) -> AsyncIterator[None]:
        """Ask at this pace meanwhile, whether or not earlier questions have been answered."""
        asking = asyncio.create_task(self._ask_on(every_ms, symbols))
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask_on(self, every_ms: int, symbols: Sequence[str]) -> None:
        waiting: set[asyncio.Task[None]] = set()
        asked, began_s = 0, time.monotonic()
        async with calling() as session:
            try:
                while True:
                    asked += 1
                    if len(waiting) < AT_ONCE_MAX:
                        task = asyncio.create_task(self.ask(session, symbols[asked % len(symbols)]))
                        waiting.add(task)
                        task.add_done_callback(waiting.discard)
                    await asyncio.sleep(max(0.0, began_s + asked * every_ms / 1_000 - time.monotonic()))
            finally:
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)

    async def until(
        self, enough: Callable[[Quoted], bool], within_s: float, since_ms: int | None = None
    ) -> Quoted | None:
        """Wait for an answer to a question that was asked since then (now, by default); None if it does not come."""
        since_ms, looked = since_ms or now_ms(), len(self.answers)
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for answer in self.answers[looked:]:
                if answer.asked_at_ms >= since_ms and enough(answer):
                    return answer
            looked = len(self.answers)
            await asyncio.sleep(0.01)
        return None


def _quoted(asked_at_ms: int, received_at_ms: int, status: int, answer: Mapping[str, Any]) -> Quoted:
    if status != 200:
        return Quoted(asked_at_ms, received_at_ms, None, status, str(answer.get("code")), (), {})
    fills = tuple(
        Fill(fill["venue"], fill["symbol"], side, Decimal(fill["price"]))
        for side in ("buy", "sell")
        for fill in (answer[side] or {}).get("fills", ())
    )
    made_at_ms = round(datetime.fromisoformat(answer["created_at"]).timestamp() * 1_000)
    out = {source["venue"]: str(source["reason"]) for source in answer["sources"] if not source["used"]}
    return Quoted(asked_at_ms, received_at_ms, made_at_ms, status, None, fills, out)
