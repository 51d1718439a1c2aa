"""Unmodified ccxt.pro follows the simulated streams: after every step its book is the market's own."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import Any

import ccxt.pro as ccxt_pro
import pytest

from exchanges.simulator import SimulatedMarket
from tests.exchanges.simulator.conftest import SEED, STARTED_S, HeldClock, redirected, until

STREAMED = ("binance", "kraken", "okx", "bybit", "bitstamp")
LIMITS = {"kraken": 25, "bybit": 50}  # Binance must not be told one; the others have one depth.


class Follower:
    """Watch one symbol through ccxt.pro, and keep the last book and all errors."""

    def __init__(self, exchange: Any, symbol: str, limit: int | None) -> None:
        self.book: Any = None
        self.errors: list[Exception] = []
        self._exchange, self._symbol, self._limit = exchange, symbol, limit
        self.task = asyncio.create_task(self._watch())

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Both sides of the last book, to the digit."""
        bids, asks = (
            [(Decimal(repr(float(price))), Decimal(repr(float(quantity)))) for price, quantity, *_ in self.book[side]]
            for side in ("bids", "asks")
        )
        return bids, asks

    async def _watch(self) -> None:
        while True:
            try:
                self.book = await self._exchange.watch_order_book(self._symbol, self._limit)
            except ccxt_pro.BaseError as error:
                self.errors.append(error)
                await asyncio.sleep(0.01)


@pytest.fixture
async def exchange(request, simulator):
    """A venue as ccxt.pro has it, sent to the simulator."""
    made = getattr(ccxt_pro, request.param)(
        {"options": {"fetchMarkets": {"types": ["spot"]}}, "enableRateLimit": False, "timeout": 5000}
    )
    yield redirected(made, str(simulator.make_url("")).rstrip("/"))
    await made.close()


@pytest.fixture
async def follow(exchange):
    """Start followers, and end them with the test."""
    followers: list[Follower] = []

    def start(symbol: str, limit: int | None) -> Follower:
        followers.append(Follower(exchange, symbol, limit))
        return followers[-1]

    yield start
    for follower in followers:
        follower.task.cancel()
    await asyncio.gather(*(follower.task for follower in followers), return_exceptions=True)


def market_levels(venue: str, symbol: str, at_ms: int, depth: int | None) -> Any:
    """What the market says that the venue shows."""
    book = SimulatedMarket(SEED).book(venue, symbol, at_ms, depth)
    return tuple([(level.price, level.quantity) for level in side] for side in book)


async def synced(follower: Follower, clock: HeldClock, elapsed_ms: int, expected: Any) -> int:
    """Move the clock on, step by step, until ccxt has a book: some venues need changes before they ask for one."""
    for at_ms in range(elapsed_ms, elapsed_ms + 3000, 100):
        clock.now_s = STARTED_S + at_ms / 1000
        with contextlib.suppress(AssertionError):
            wanted = expected(at_ms)
            await until(lambda wanted=wanted: follower.book is not None and follower.levels() == wanted, 0.3)
            return at_ms
    raise AssertionError(f"ccxt had no right book: {follower.errors}")


@pytest.mark.parametrize("exchange", STREAMED, indirect=True)
async def test_ccxt_follows_a_stream_to_the_digit(exchange, follow, held_clock):
    """Through thirty steps, one at a time and some at once, ccxt's streamed book is the market's."""
    symbol, limit = "BTC/USDT", LIMITS.get(exchange.id)

    def expected(at_ms: int) -> Any:
        return market_levels(exchange.id, symbol, at_ms, limit)

    follower = follow(symbol, limit)
    elapsed_ms = await synced(follower, held_clock, 50_000, expected)
    for step in range(30):
        elapsed_ms += 100 if step % 7 else 900
        held_clock.now_s = STARTED_S + elapsed_ms / 1000
        wanted = expected(elapsed_ms)
        await until(lambda wanted=wanted: follower.levels() == wanted)

    assert [] == follower.errors
