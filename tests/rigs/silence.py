"""Silence of every kind: venues that say nothing more, and a service that is stopped itself; no old price is served."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.rigs.asking import Asker, Fill, Quoted
from tests.rigs.ledgers import database
from tests.rigs.simulated import SimulatedVenues, Waves, now_ms, simulated_venues
from tests.rigs.whole_service import Service

STREAMED = ("binance", "kraken", "okx", "bybit", "bitstamp")
POLLED = ("coinbaseexchange",)
ONE = "okx"
EVERY_MS = 25
LIVE_WITHIN_S = 30.0
LOOK_BACK_MS = 60_000
BUSY_MS = 200
"""What may pass beyond a book's age, between the venue's market and the client."""
_CALM_MS = 1_000
_DRIFT = Waves(Decimal(99), every_ms=20_000, over_ms=20_000)
"""Five bps a second: an old price is no longer there, and yet no venue that is behind stands out."""
_STORM = Waves(Decimal(95), every_ms=20_000, over_ms=8_000)
_MARKET_LASTS_MS = 300_000


@dataclass(frozen=True)
class Silence:
    """
    One kind of it.

    Args:
        stream: What streams do; None leaves the venues alone and stops the service.
        everywhere: All venues, or one.
        asked_too: Requests are not answered either.
    """

    name: str
    stream: str | None
    everywhere: bool = True
    asked_too: bool = False

    async def begin(self, simulated: SimulatedVenues, service: Service) -> None:
        """Let it begin."""
        if self.stream is None:
            service.hold_still()
            return
        venue = "*" if self.everywhere else ONE
        if self.asked_too:
            await simulated.switch("freeze", venue, scope="depth")
        await simulated.switch(self.stream, venue, scope="stream")

    async def end(self, simulated: SimulatedVenues, service: Service) -> None:
        """Let it end."""
        if self.stream is None:
            service.go_on()
        else:
            await simulated.switch(None)


_WAYS = {"data stops, pongs come": "silence", "no pongs": "mute", "half-open socket": "half_open"}
_OF_VENUES = tuple(
    Silence(f"{way}, {'requests too, ' if asked_too else ''}{'all venues' if everywhere else 'one venue'}", *how)
    for way, fault in _WAYS.items()
    for everywhere in (False, True)
    for asked_too in (False, True)
    for how in ((fault, everywhere, asked_too),)
)
STOPPED = Silence("service stopped", None)
KINDS = (*_OF_VENUES, STOPPED)


@dataclass(frozen=True)
class Length:
    """
    How long everything is.

    Args:
        slack_ms: See ``BUSY_MS``.
        storm: What the market does while the service is stopped, and how often.
    """

    silent_ms: int = 10_000
    stale_after_ms: int = 5_000
    back_within_s: float = 20.0
    slack_ms: int = BUSY_MS
    storm: Waves = _STORM


IN_FULL = Length()


def streamed_and_polled(simulator_url: str, stale_after_ms: int) -> str:
    """Give the settings of all simulated venues: those that can be streamed are."""
    return "".join(
        f'[venues.{name}]\nbase_url = "{simulator_url}"\ntransport = "{transport}"\npoll_interval_ms = 500\n'
        f"rate_limit_ms = 0\ndepth = 100\nstale_after_ms = {stale_after_ms}\n"
        for names, transport in ((STREAMED, "stream"), (POLLED, "poll"))
        for name in names
    )


async def silence(
    folder: Path, kinds: Sequence[Silence] = KINDS, *, length: Length = IN_FULL, fault: str | None = None
) -> dict[str, Any]:
    """Go through kinds of silence, each with a service of its own; give figures, with ``ok``."""
    figures: dict[str, Any] = {}
    for number, kind in enumerate(kinds):
        place = folder / str(number)
        place.mkdir()
        figures[kind.name] = await _one(place, kind, length, fault)
    return {"kinds": figures, "ok": all(one["ok"] for one in figures.values())}


async def _one(folder: Path, kind: Silence, length: Length, fault: str | None) -> dict[str, Any]:
    waves = length.storm if kind.stream is None else _DRIFT
    with database("sqlite", folder) as made:
        async with simulated_venues(waves.moves(_MARKET_LASTS_MS)) as simulated:
            venues = streamed_and_polled(simulated.base_url, length.stale_after_ms)
            async with Service(made.url, folder, "", (), fault, venues) as service:
                asker = Asker(service.address, made.keys["ann"], keep_fills=True)
                async with asker.asking(EVERY_MS):
                    live = await asker.until(lambda answer: answer.whole, LIVE_WITHIN_S)
                    began_ms, ended_ms, back = await _silent(kind, length, simulated, service, asker)
        return _judged(kind, length, simulated, asker, live is not None, began_ms, ended_ms, back)


async def _silent(
    kind: Silence, length: Length, simulated: SimulatedVenues, service: Service, asker: Asker
) -> tuple[int, int, Quoted | None]:
    """Have the silence; give when it began and ended, and the first answer afterwards that all venues had a part in."""
    await asyncio.sleep(_CALM_MS / 1_000)
    if kind.stream is None:
        every_ms = length.storm.every_ms
        await asyncio.sleep((every_ms - (now_ms() - simulated.started_ms + _CALM_MS // 2) % every_ms) / 1_000)
    began_ms = now_ms()
    await kind.begin(simulated, service)
    await asyncio.sleep(length.silent_ms / 1_000)
    await kind.end(simulated, service)
    ended_ms = now_ms()
    back = await asker.until(lambda answer: answer.whole, length.back_within_s, ended_ms)
    await asyncio.sleep(_CALM_MS / 1_000)
    return began_ms, ended_ms, back


def _judged(
    kind: Silence,
    length: Length,
    simulated: SimulatedVenues,
    asker: Asker,
    live: bool,
    began_ms: int,
    ended_ms: int,
    back: Quoted | None,
) -> dict[str, Any]:
    limit_ms = length.stale_after_ms + length.slack_ms
    ages: Counter[int | None] = Counter()
    wrong: Counter[tuple[str, int]] = Counter()
    for answer in asker.answers:
        at_ms = _served_at_ms(answer, began_ms, ended_ms) if kind.stream is None else answer.received_at_ms
        for fill in answer.fills:
            age = _age_ms(simulated, fill, at_ms)
            ages[age] += 1
            if age is None or age > limit_ms:
                wrong[fill.venue, answer.received_at_ms - began_ms] += 1
    known = [age for age in ages if age is not None]
    meanwhile = [answer for answer in asker.answers if began_ms <= answer.received_at_ms <= ended_ms]
    figures: dict[str, Any] = {
        "oldest_ms": max(known, default=None),
        "too_old": sum(count for age, count in ages.items() if age is not None and age > limit_ms),
        "never_there": ages[None],
        "wrong": [f"{venue} {after_ms} ms: {count}" for (venue, after_ms), count in wrong.most_common(5)],
        "fills": ages.total(),
        "quotes": sum(answer.status == 200 for answer in asker.answers),
        "refused": dict(asker.refusals),
        "refused_meanwhile": sum(answer.status != 200 for answer in meanwhile),
        "back_s": None if back is None else (back.received_at_ms - ended_ms) / 1_000,
        "failed": dict(asker.failed),
    }
    right = live and back is not None and figures["fills"] and not asker.failed
    return figures | {"ok": bool(right and not figures["too_old"] and not figures["never_there"])}


def _age_ms(simulated: SimulatedVenues, fill: Fill, at_ms: int) -> int | None:
    return simulated.stood_ms_before(fill.venue, fill.symbol, fill.side, fill.price, at_ms, LOOK_BACK_MS)


def _served_at_ms(answer: Quoted, stopped_ms: int, went_on_ms: int) -> int:
    """
    Give the moment that an answer's prices are held against.

    What was on its way when the service was stopped had been answered; no service can take it back.
    """
    made_at_ms = answer.made_at_ms or answer.received_at_ms
    on_its_way = (
        answer.asked_at_ms <= stopped_ms <= went_on_ms <= answer.received_at_ms and made_at_ms <= stopped_ms + 50
    )
    return made_at_ms if on_its_way else answer.received_at_ms
