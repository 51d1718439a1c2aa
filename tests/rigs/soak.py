"""The service over a while, with faults on and off at random: it ends with no more memory, sockets and tasks."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from exchanges.simulator import VENUES
from tests.rigs.asking import Asker
from tests.rigs.clients import calling
from tests.rigs.ledgers import database
from tests.rigs.probed import STREAMED, ProbedService, ProbedSetup, Sample
from tests.rigs.simulated import SimulatedVenues, simulated_venues
from tests.rigs.venue_faults import CASES, Case, Watcher, settled

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BTC/USD", "ETH/USD", "BTC/USDC")
"""Each venue has those that it trades: three to five."""
ASK_EVERY_MS = 50
SAMPLE_S = 5.0
ON_S, OFF_S = (0.5, 5.0), (0.2, 2.0)
QUIET_AFTER = 8
"""After so many faults all is let come to rest, and what is held then is counted."""
QUIET_S = 2.0
FLAT_WITHIN = 2
"""Descriptors, sockets and tasks may differ by so many between the quiet moments at the beginning and at the end."""


@dataclass(frozen=True)
class Length:
    """
    How long everything is.

    Args:
        warm_up_s: What is measured before does not count.
        slope_kb_max: Of resident memory, per ten minutes.
        flat_within: So many descriptors, sockets and tasks may be more at the end.
    """

    minutes: float = 20.0
    warm_up_s: float = 240.0
    slope_kb_max: float = 1_024.0
    quiet_after: int = QUIET_AFTER
    flat_within: int = FLAT_WITHIN


IN_FULL = Length()


def venue_tables(simulator_url: str) -> dict[str, dict[str, Any]]:
    """Give the settings of all venues: those that can be streamed are."""
    shared = {"base_url": simulator_url, "rate_limit_ms": 0, "depth": 50, "poll_interval_ms": 200}
    transports = {name: "stream" if name in STREAMED else "poll" for name in VENUES}
    return {
        name: {**shared, "exchange": name, "transport": transport, "stale_after_ms": 3_000}
        for name, transport in transports.items()
    }


@dataclass
class Measured:
    """What the service measured of itself: all along, and at quiet moments; each with when (s since the start)."""

    all: list[tuple[float, Sample]] = field(default_factory=list)
    quiet: list[tuple[float, Sample]] = field(default_factory=list)
    faults: int = 0
    not_quiet: int = 0


async def soak(
    folder: Path,
    length: Length = IN_FULL,
    *,
    cases: Sequence[Case] = CASES,
    seed: int = 1,
    fault: str | None = None,
) -> dict[str, Any]:
    """Have faults at random for a while; give figures, with ``ok``."""
    with database("sqlite", folder) as made:
        async with simulated_venues() as simulated:
            tables = venue_tables(simulated.base_url)
            setup = ProbedSetup(made.url, folder / "service.log", SYMBOLS, tables, broken=(fault,) if fault else ())
            async with ProbedService(setup) as service, calling() as session:
                watcher = Watcher(service, made.keys["ann"], session)
                asker = Asker(service.address, made.keys["ann"])
                async with asker.asking(ASK_EVERY_MS):
                    measured = await _run(simulated, watcher, cases, random.Random(seed), length)
    return _judged(measured, watcher, asker, length)


async def _run(
    simulated: SimulatedVenues, watcher: Watcher, cases: Sequence[Case], chance: random.Random, length: Length
) -> Measured:
    measured, began_s = Measured(), time.monotonic()
    sampling = asyncio.create_task(_sample(measured, watcher.service, began_s))
    await _rest(measured, watcher, began_s)
    for number in count(1):
        if time.monotonic() - began_s > length.minutes * 60:
            break
        case = chance.choice(cases)
        await simulated.switch(case.fault, case.exchange, scope=case.scope, **case.options)
        await asyncio.sleep(chance.uniform(*ON_S))
        await simulated.switch(None, case.exchange)
        await asyncio.sleep(chance.uniform(*OFF_S))
        measured.faults = number
        if number % length.quiet_after == 0:
            await _rest(measured, watcher, began_s)
    await _rest(measured, watcher, began_s)
    sampling.cancel()
    return measured


async def _sample(measured: Measured, service: ProbedService, began_s: float) -> None:
    while True:
        await asyncio.sleep(SAMPLE_S)
        measured.all.append((time.monotonic() - began_s, await service.sample()))


async def _rest(measured: Measured, watcher: Watcher, began_s: float) -> None:
    """Wait until all is well, and count what is held then."""
    if not await settled(watcher):
        measured.not_quiet += 1
        return
    await asyncio.sleep(QUIET_S)
    measured.quiet.append((time.monotonic() - began_s, await watcher.service.sample()))


def _judged(measured: Measured, watcher: Watcher, asker: Asker, length: Length) -> dict[str, Any]:
    warm = [(at_s, sample.rss_kb) for at_s, sample in measured.all if at_s > length.warm_up_s]
    slope_kb = round(linear_regression(*zip(*warm, strict=True)).slope * 600) if len(warm) > 1 else None
    quiet = [sample for at_s, sample in measured.quiet if at_s > length.warm_up_s] or [one for _, one in measured.quiet]
    third = max(1, len(quiet) // 3)
    levels = {
        what: [median(getattr(sample, what) for sample in part) for part in (quiet[:third], quiet[-third:])]
        for what in ("files", "sockets", "tasks")
    }
    risen = [what for what, (first, last) in levels.items() if last - first > length.flat_within]
    everything = [sample for _, sample in (*measured.all, *measured.quiet)]
    figures: dict[str, Any] = {
        "minutes": length.minutes,
        "faults": measured.faults,
        "quiet_moments": len(measured.quiet),
        "not_quiet": measured.not_quiet,
        "rss_kb": [warm[0][1], warm[-1][1]] if warm else None,
        "slope_kb_per_10_min": slope_kb,
        "levels": levels,
        "risen": risen,
        "quotes": sum(answer.status == 200 for answer in asker.answers),
        "refused": dict(asker.refusals),
        "failed": dict(asker.failed),
        "errors": watcher.errors[:5],
        "blocked_max_ms": max(sample.blocked_ms for sample in everything),
    }
    sound = not (asker.failed or watcher.errors or measured.not_quiet or risen) and len(quiet) > 1
    return figures | {"ok": bool(sound and slope_kb is not None and slope_kb <= length.slope_kb_max)}
