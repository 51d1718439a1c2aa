"""Every fault of every simulated venue on one running service: none breaks it, and each is seen by its reason."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import aiohttp

from exchanges.simulator import FAULTS, VENUES
from exchanges.simulator.faults import Kind
from tests.rigs.asking import Asker, strict
from tests.rigs.clients import calling
from tests.rigs.ledgers import database
from tests.rigs.probed import STREAMED, ProbedService, ProbedSetup, Sample
from tests.rigs.simulated import SimulatedVenues, simulated_venues

SYMBOLS = ("BTC/USDT", "ETH/USDT")
STALE_AFTER_MS = 2_000
ASK_EVERY_MS = 50
LOOK_S = 0.05
SEEN_WITHIN_S = 12.0
UNSEEN_S = 3.0
"""So long a fault that does not show is on."""
BACK_WITHIN_S = 45.0
BLOCKED_MAX_MS = 100.0
P99_MAX_MS = 100.0
GROWTH_MAX_KB = 50 * 1_024
OPTIONS = {"every": 3, "retry_after_s": 1}


class Case(NamedTuple):
    """One fault of one exchange; *scope* is "depth" for answers to requests, "stream" for streams."""

    scope: str
    fault: str
    exchange: str

    @property
    def venue(self) -> str:
        """Name the venue of the service that has it: each exchange is there once polled, and once streamed."""
        return self.exchange if self.scope == "stream" or self.exchange not in STREAMED else polled(self.exchange)

    @property
    def options(self) -> dict[str, int]:
        """Give the numbers that the fault is told: short pauses, and single changes spoilt again and again."""
        return {name: OPTIONS[name] for name in FAULTS[self.fault].options if name in OPTIONS}

    @property
    def of_handshakes(self) -> bool:
        """Tell whether it meets a stream when its connection is made, and not later."""
        return self.scope == "stream" and FAULTS[self.fault].kind in (Kind.CONNECTION, Kind.REPLY)

    @property
    def harmless(self) -> bool:
        """Tell whether nothing of it is to be seen."""
        return self.exchange in HARMLESS.get((self.scope, self.fault), ())


def polled(exchange: str) -> str:
    """Name the venue that polls an exchange which another one streams."""
    return f"{exchange}-polled"


CASES = tuple(
    Case(scope, fault.name, exchange)
    for scope, exchanges in (("depth", tuple(VENUES)), ("stream", STREAMED))
    for fault in FAULTS.values()
    if scope in fault.scopes
    for exchange in exchanges
    if scope == "depth" or exchange in fault.venues
)
"""All of them, such that the same venue is not the next one again."""

BREAKS, BROKEN_REASON = "broken_json", "bad_message"
HARMLESS = {
    ("depth", "clock_stopped"): ("binance", "kraken"),
    ("depth", "clock_back"): ("kraken",),
    ("depth", "clock_forward"): ("kraken",),
    ("stream", "zero"): ("binance", "okx", "bitstamp"),
    ("stream", "duplicate"): ("binance", "okx", "bybit", "bitstamp"),
    ("stream", "repeated"): ("binance", "kraken", "bitstamp"),
}
"""Faults that may show at some venues as nothing at all; `docs/faults.md` says why."""


@dataclass
class Seen:
    """By what reasons a fault was seen, in ``GET /v1/venues`` (states and counters) and in the log."""

    reasons: set[str] = field(default_factory=set)
    after_s: float | None = None
    back_s: float | None = None


@dataclass
class Watcher:
    """Looks at the service from outside: at its venues and at its log."""

    service: ProbedService
    key: str
    session: aiohttp.ClientSession
    counted: dict[str, Counter[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    async def look(self) -> dict[str, tuple[bool, set[str]]]:
        """Give for each venue whether all is well with it, and all reasons that have been told since the last look."""
        url, headers = f"{self.service.address}/v1/venues", {"X-API-Key": self.key}
        async with self.session.get(url, headers=headers) as response:
            venues = strict(await response.read())["venues"]
        logged = self._logged()
        return {venue["venue"]: self._standing(venue, logged) for venue in venues}

    def _standing(self, venue: dict[str, Any], logged: dict[str, set[str]]) -> tuple[bool, set[str]]:
        name = venue["venue"]
        reasons = {symbol["reason"] for symbol in venue["symbols"] if symbol["reason"]} | logged[name]
        counts = Counter(venue["rejected"]) + Counter(venue["failed"])
        before, self.counted[name] = self.counted.get(name, counts), counts
        reasons |= {reason for reason, count in counts.items() if count > before[reason]}
        live = all(symbol["state"] == "live" for symbol in venue["symbols"])
        as_set_up = venue["transport"] == self.service.setup.venues[name]["transport"]
        return live and as_set_up, reasons - {"no_book_yet"}

    def _logged(self) -> dict[str, set[str]]:
        reasons: dict[str, set[str]] = defaultdict(set)
        for line in self.service.new_lines():
            if line["level"] in ("error", "critical"):
                self.errors.append(str(line)[:1_000])
            if "venue" in line and line.get("reason"):
                reasons[line["venue"]].add(line["reason"])
        return reasons


async def settled(watcher: Watcher) -> bool:
    """Wait until all is well with every venue; give up after a while, and tell."""
    deadline = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < deadline:
        if all(well for well, _ in (await watcher.look()).values()):
            return True
        await asyncio.sleep(LOOK_S)
    return False


def venue_tables(simulator_url: str) -> dict[str, dict[str, Any]]:
    """Give the settings of all venues: each exchange polled, and streamed where it can be."""
    shared = {
        "base_url": simulator_url, "poll_interval_ms": 300, "rate_limit_ms": 0, "depth": 50,
        "stale_after_ms": STALE_AFTER_MS,
    }  # fmt: skip
    tables = {name: {"exchange": name, "transport": "stream", **shared} for name in STREAMED}
    for name in VENUES:
        tables[polled(name) if name in STREAMED else name] = {"exchange": name, "transport": "poll", **shared}
    return tables


async def venue_faults(folder: Path, cases: Sequence[Case] = CASES, *, fault: str | None = None) -> dict[str, Any]:
    """Go through faults, one after the other; give figures, with ``ok`` and the reasons of each."""
    with database("sqlite", folder) as made:
        async with simulated_venues() as simulated:
            log, tables = folder / "service.log", venue_tables(simulated.base_url)
            setup = ProbedSetup(made.url, log, SYMBOLS, tables, broken=(fault,) if fault else ())
            async with ProbedService(setup) as service, calling() as session:
                watcher = Watcher(service, made.keys["ann"], session)
                asker = Asker(service.address, made.keys["ann"])
                run = _Run(simulated, watcher)
                await run.all_live()
                before = await service.sample()
                async with asker.asking(ASK_EVERY_MS):
                    await run.go_through(cases)
                    await run.all_live()
                after, alive = await service.sample(), service.alive
    return _judged(run, asker, [before, *run.samples, after], alive)


class _Run:
    """One way through the cases."""

    def __init__(self, simulated: SimulatedVenues, watcher: Watcher) -> None:
        self._simulated, self.watcher = simulated, watcher
        self.seen: dict[Case, Seen] = {}
        self.samples: list[Sample] = []
        self._well: dict[str, bool] = {}
        self._ended_s: dict[str, tuple[Case, float]] = {}

    async def all_live(self) -> None:
        """Wait until all is well everywhere."""
        deadline = time.monotonic() + BACK_WITHIN_S
        while time.monotonic() < deadline:
            await self._look()
            if self._well and all(self._well.values()):
                return
            await asyncio.sleep(LOOK_S)

    async def go_through(self, cases: Sequence[Case]) -> None:
        """Switch each fault on until it is seen; while its venue comes back, the next one's turn comes."""
        for case in cases:
            deadline = time.monotonic() + BACK_WITHIN_S
            while not self._well[case.venue] and time.monotonic() < deadline:
                await self._look()
                await asyncio.sleep(LOOK_S)
            await self._one(case)
            self.samples.append(await self.watcher.service.sample())

    async def _one(self, case: Case) -> None:
        seen = self.seen[case] = Seen()
        await self._look()
        await self._simulated.switch(case.fault, case.exchange, scope=case.scope, **case.options)
        if case.of_handshakes:  # The connection that is there has to break first.
            await self._simulated.switch(BREAKS, case.exchange, scope="stream", symbol=SYMBOLS[0])
        began_s = time.monotonic()
        while time.monotonic() < began_s + (UNSEEN_S if case.harmless else SEEN_WITHIN_S):
            seen.reasons |= (await self._look())[case.venue] - ({BROKEN_REASON} if case.of_handshakes else set())
            if seen.reasons:
                seen.after_s = time.monotonic() - began_s
                break
            await asyncio.sleep(LOOK_S)
        await self._simulated.switch(None, case.exchange)
        self._ended_s[case.venue] = (case, time.monotonic())
        self._well[case.venue] = False

    async def _look(self) -> dict[str, set[str]]:
        standings = await self.watcher.look()
        for venue, (well, _) in standings.items():
            self._well[venue] = well
            if well and venue in self._ended_s:
                case, ended_s = self._ended_s.pop(venue)
                self.seen[case].back_s = time.monotonic() - ended_s
        return {venue: reasons for venue, (_, reasons) in standings.items()}


def _judged(run: _Run, asker: Asker, samples: Sequence[Sample], alive: bool) -> dict[str, Any]:
    took_ms = [answer.took_ms for answer in asker.answers if answer.status == 200]
    unseen = [case for case, seen in run.seen.items() if not (seen.reasons or case.harmless)]
    slow_back = [case for case, seen in run.seen.items() if seen.back_s is None]
    figures: dict[str, Any] = {
        "cases": len(run.seen),
        "unseen": [" ".join(case) for case in unseen],
        "not_back": [" ".join(case) for case in slow_back],
        "seen_after_max_s": round(max((seen.after_s or 0 for seen in run.seen.values()), default=0), 2),
        "back_max_s": round(max((seen.back_s or 0 for seen in run.seen.values()), default=0), 2),
        "quotes": len(took_ms),
        "refused": dict(asker.refusals),
        "failed": dict(asker.failed),
        "errors": run.watcher.errors[:5],
        "p99_ms": round(quantiles(took_ms, n=100)[98], 1) if len(took_ms) > 1 else None,
        "late_max_ms": max(sample.late_ms for sample in samples),
        "blocked_max_ms": max(sample.blocked_ms for sample in samples),
        "blocked_most": _blocked_most(run, samples),
        "growth_kb": samples[-1].rss_kb - samples[0].rss_kb,
        "rss_max_kb": max(sample.rss_kb for sample in samples),
        "reasons": {" ".join(case): sorted(seen.reasons) for case, seen in run.seen.items()},
    }
    sound = alive and not (unseen or slow_back or asker.refusals or asker.failed or run.watcher.errors) and took_ms
    quick = figures["blocked_max_ms"] <= BLOCKED_MAX_MS and (figures["p99_ms"] or 0) <= P99_MAX_MS
    return figures | {"ok": bool(sound and quick and figures["growth_kb"] <= GROWTH_MAX_KB)}


def _blocked_most(run: _Run, samples: Sequence[Sample]) -> list[str]:
    """Name the cases during which the event loop was kept longest."""
    each = zip(run.seen, samples[1:], strict=False)
    longest = sorted(each, key=lambda one: one[1].blocked_ms, reverse=True)[:5]
    return [f"{' '.join(case)}: {sample.blocked_ms} ms" for case, sample in longest]
