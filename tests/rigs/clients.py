"""Clients that execute orders, send some of them again, and remember every answer."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

OrderKey = tuple[str, str]
"""Account and client_order_id."""
GIVES_UP_AFTER_S = 20.0
_RESENDS_AT_ONCE = 50


@dataclass(frozen=True)
class Answer:
    """What came back, when it had been asked for (monotonic), and after how long."""

    status: int
    body: bytes
    asked_at_s: float
    after_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def filled(self) -> bool:
        """Tell whether it confirms a fill."""
        return self.status in (200, 201)

    @property
    def code(self) -> str | None:
        """Give the code of a refusal."""
        return None if self.filled else str(self.json.get("code"))

    @property
    def execution_id(self) -> str | None:
        """Give the execution that it is about, if it is on record."""
        found: str | None = self.json.get("execution_id")
        return found

    @property
    def final(self) -> bool:
        """Tell whether the order's outcome is known for ever."""
        return self.filled or self.execution_id is not None

    @property
    def meaning(self) -> Any:
        """Give what must be the same whenever the order is sent again."""
        return self.body if self.filled else (self.status, self.code, self.execution_id)


@dataclass
class Clients:
    """
    All clients together.

    Args:
        keys: Of the accounts.
        orders: Bodies that were sent.
        answers: The first final answer of each.
        heard: All answers, in the order of their coming.
        changed: Orders that were later answered otherwise.
        refusals: Counts of codes of answers that were not final.
    """

    keys: dict[str, str]
    chance: random.Random
    orders: dict[OrderKey, dict[str, Any]] = field(default_factory=dict)
    answers: dict[OrderKey, Answer] = field(default_factory=dict)
    heard: list[Answer] = field(default_factory=list)
    changed: set[OrderKey] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._sent: list[OrderKey] = []
        self._next = asyncio.Event()

    @property
    def unanswered(self) -> list[OrderKey]:
        """Give the orders whose outcome nobody was told."""
        return [key for key in self.orders if key not in self.answers]

    def order(self, account: str | None = None, **fields: Any) -> OrderKey:
        """Make a new order: most fill, some are refused for their limit."""
        account = account or self.chance.choice(list(self.keys))
        symbol, side = self.chance.choice(["BTC/USDT", "ETH/USDT"]), self.chance.choice(["buy", "sell"])
        body = {"symbol": symbol, "side": side, "quantity": str(Decimal(self.chance.randrange(1, 5_000)) / 100_000)}
        if self.chance.random() < 0.05:
            body |= {"side": "buy", "limit_price": "1"}
        key = (account, f"order-{len(self.orders)}")
        self.orders[key] = body | {"client_order_id": key[1]} | fields
        self._sent.append(key)
        return key

    def earlier(self) -> OrderKey:
        """Choose an order that was sent before."""
        return self.chance.choice(self._sent)

    async def send(
        self, session: aiohttp.ClientSession, address: str, key: OrderKey, body: dict[str, Any] | None = None
    ) -> Answer:
        """
        Send an order, or send it again.

        Args:
            body: Another body than the order's own; its answer is not remembered.

        Raises:
            aiohttp.ClientError: If the connection broke.
        """
        began = time.monotonic()
        headers = {"X-API-Key": self.keys[key[0]], "Content-Type": "application/json"}
        data = json.dumps(body or self.orders[key]).encode()
        async with session.post(f"{address}/execute", data=data, headers=headers) as response:
            answer = Answer(response.status, await response.read(), began, time.monotonic() - began)
        if body is None:
            self._remember(key, answer)
        return answer

    async def next_answer(self) -> None:
        """Wait for an answer, whatever it is."""
        self._next.clear()
        async with asyncio.timeout(GIVES_UP_AFTER_S):
            await self._next.wait()

    def _remember(self, key: OrderKey, answer: Answer) -> None:
        self._next.set()
        self.heard.append(answer)
        if not answer.final:
            self.refusals[str(answer.code)] += 1
        elif key not in self.answers:
            self.answers[key] = answer
        elif self.answers[key].meaning != answer.meaning:
            self.changed.add(key)

    async def trade(self, address: str, executors: int, duplicates: float = 0.1, pause_s: float = 0.0) -> None:
        """Execute until the server is gone or this is cancelled: each executor one order after another."""

        async def executor(session: aiohttp.ClientSession) -> None:
            while True:
                again = self._sent and self.chance.random() < duplicates
                try:
                    await self.send(session, address, self.earlier() if again else self.order())
                except (aiohttp.ClientError, OSError):
                    return
                if pause_s:
                    await asyncio.sleep(pause_s)

        async with calling() as session:
            await asyncio.gather(*(executor(session) for _ in range(executors)))

    async def resend(self, address: str, keys: Iterable[OrderKey], tries: int = 10) -> None:
        """Send orders again until each has a final answer, as far as *tries* go."""
        waiting = iter(list(keys))

        async def executor(session: aiohttp.ClientSession) -> None:
            for key in waiting:
                for _ in range(tries):
                    try:
                        if (await self.send(session, address, key)).final:
                            break
                    except (aiohttp.ClientError, OSError):
                        pass
                    await asyncio.sleep(0.05)

        async with calling() as session:
            await asyncio.gather(*(executor(session) for _ in range(_RESENDS_AT_ONCE)))


@asynccontextmanager
async def calling():
    """Open connections to a server."""
    timeout = aiohttp.ClientTimeout(total=GIVES_UP_AFTER_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


def codes(answers: Collection[Answer]) -> dict[str, int]:
    """Count answers by code, fills by their status."""
    return dict(Counter(answer.code or str(answer.status) for answer in answers))
