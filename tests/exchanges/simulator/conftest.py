"""A simulator whose clock a test moves, and unmodified ccxt that is sent there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from exchanges.simulator import create_app

STARTED_S = 1_800_000_000.0
SEED = 7


class HeldClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        """Start at a fixed time."""
        self.now_s = STARTED_S

    def __call__(self) -> float:
        """Read it."""
        return self.now_s


def redirected(exchange: Any, base_url: str) -> Any:
    """Send every address of a ccxt exchange to the simulator."""

    def mapped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        value = re.sub(r"^https?://", f"{base_url}/", value)
        return re.sub(r"^wss?://", f"{base_url.replace('http', 'ws', 1)}/", value)

    exchange.urls["api"] = mapped(exchange.urls["api"])
    exchange.timeout_on_exit = 0
    return exchange


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Wait for *condition* to hold, and give what it gave."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (held := condition()):
        assert asyncio.get_running_loop().time() < deadline, "The condition did not come to hold."
        await asyncio.sleep(0.002)
    return held


@pytest.fixture
def held_clock() -> HeldClock:
    """The venues' clock."""
    return HeldClock()


@pytest.fixture
async def simulator(held_clock) -> AsyncIterator[TestServer]:
    """A simulator with seed 7, 50 s after its start."""
    async with TestServer(create_app(SEED, held_clock)) as server:
        held_clock.now_s += 50
        yield server
