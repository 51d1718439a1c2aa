"""The simulated venues as a process of their own, and what their books truly were at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from exchanges.simulator import SimulatedMarket, running
from exchanges.simulator.market import STEP_MS
from exchanges.simulator.playing import Play
from exchanges.simulator.scenario import Event, Scenario
from exchanges.simulator.shocks import ONE, Move, Shocks
from tests.rigs.clients import calling
from tests.rigs.server import ENDS_WITHIN_S, FORKS, STARTS_WITHIN_S

SEED = 7
LEVELS = 200
"""So many levels a side of the true book are looked at; services take fewer."""


def now_ms() -> int:
    """Give Unix time as the simulated venues have it."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Waves:
    """
    A market that falls and climbs again without end: each *every_ms* it begins to go to the other of two prices.

    Args:
        percent: Of the usual price, at the bottom.
        over_ms: How long it takes; then it stands still.
    """

    percent: Decimal
    every_ms: int
    over_ms: int

    def moves(self, until_ms: int) -> list[tuple[int, Move]]:
        """Give the moves of a market of that age."""
        bottom = int(self.percent * ONE / 100)
        return [
            (at_ms, Move(self.over_ms, asset, ONE if number % 2 else bottom))
            for number, at_ms in enumerate(range(self.every_ms, until_ms, self.every_ms))
            for asset in ("BTC", "ETH")
        ]


class SimulatedVenues:
    """A process of simulated venues: use `simulated_venues`."""

    def __init__(self, base_url: str, started_ms: int, moves: Sequence[tuple[int, Move]]) -> None:
        self.base_url = base_url
        self.started_ms = started_ms
        self._market = SimulatedMarket(SEED, Shocks(moves))
        self._prices: dict[tuple[str, str, int], tuple[frozenset[Decimal], frozenset[Decimal]]] = {}

    async def switch(self, fault: str | None, venue: str = "*", **options: Any) -> None:
        """Switch a fault on, or with None off."""
        async with (
            calling() as session,
            session.post(f"{self.base_url}/faults", json={"venue": venue, "fault": fault, **options}) as response,
        ):
            if response.status != 200:
                raise ValueError(await response.text())

    def stood_ms_before(
        self, venue: str, symbol: str, side: str, price: Decimal, at_ms: int, back_ms: int
    ) -> int | None:
        """
        Give how long before *at_ms* (Unix time) a price stood in a venue's book for the last time.

        Args:
            side: "buy" looks among asks, "sell" among bids.

        Returns:
            0 if it stands there at *at_ms*; None if it did not stand there within *back_ms*.
        """
        elapsed_ms = at_ms - self.started_ms
        step = elapsed_ms // STEP_MS
        while step >= 0 and elapsed_ms - (step + 1) * STEP_MS <= back_ms:
            if price in self._at(venue, symbol, step)[side == "buy"]:
                return max(0, elapsed_ms - (step + 1) * STEP_MS)
            step -= 1
        return None

    def _at(self, venue: str, symbol: str, step: int) -> tuple[frozenset[Decimal], frozenset[Decimal]]:
        """Give all prices of bids and asks at a step."""
        key = (venue, symbol, step)
        if key not in self._prices:
            book = self._market.book(venue, symbol, step * STEP_MS, LEVELS)
            bids, asks = (frozenset(level.price for level in side if level.price is not None) for side in book)
            self._prices[key] = bids, asks
        return self._prices[key]


@asynccontextmanager
async def simulated_venues(moves: Iterable[tuple[int, Move]] = ()) -> AsyncIterator[SimulatedVenues]:
    """
    Run the simulated venues in a process of their own.

    Args:
        moves: What the market does beside its wandering, each with the simulated time in ms at which it begins.
    """
    planned = tuple(moves)
    ours, theirs = FORKS.Pipe()
    process = FORKS.Process(target=_run, args=(planned, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        base_url, started_ms = await asyncio.wait_for(asyncio.to_thread(ours.recv), STARTS_WITHIN_S)
        yield SimulatedVenues(base_url, started_ms, planned)
    finally:
        ours.close()
        await asyncio.to_thread(process.join, ENDS_WITHIN_S)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()


def _run(moves: Sequence[tuple[int, Move]], told: Any) -> None:
    """Be the venues, until whoever asked for them closes the pipe."""
    asyncio.run(_serve(moves, told))


async def _serve(moves: Sequence[tuple[int, Move]], told: Any) -> None:
    clock, play = _Clock(), None
    if moves:
        events = tuple(Event(at_ms, "The market moves.", move) for at_ms, move in moves)
        play = Play(Scenario("waves", "The market falls and climbs.", SEED, events))
    async with running(seed=SEED, clock=clock, play=play) as base_url:
        told.send((base_url, clock.began_ms))
        await asyncio.to_thread(_until_closed, told)


class _Clock:
    """The machine's clock, which remembers when it was first looked at: that is when the market began."""

    began_ms: int | None = None

    def __call__(self) -> float:
        now_s = time.time()
        if self.began_ms is None:
            self.began_ms = int(now_s * 1_000)
        return now_s


def _until_closed(told: Any) -> None:
    try:
        told.recv()
    except EOFError:
        pass
