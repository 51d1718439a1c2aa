"""A scenario is played as the simulator's clock passes its events, and says where it stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from exchanges.simulator import Play, SimulatedMarket, create_app, run_in_thread, scenario_names
from exchanges.simulator.faults import read_switch
from exchanges.simulator.playing import add_play
from exchanges.simulator.scenario import Event, read_scenario
from exchanges.simulator.shocks import Shocks
from exchanges.simulator.venues import Venues

STORY = read_scenario("story", """
description = "okx goes, the price falls, okx returns."
seed = 5
[[event]]
at_s = 10
says = "okx freezes."
venue = "okx"
fault = "freeze"
[[event]]
at_s = 20
says = "BTC falls."
asset = "BTC"
price_percent = 50
over_s = 20
[[event]]
at_s = 30
says = "okx is back."
venue = "okx"
fault = "off"
""")  # fmt: skip
STARTED_S = 1_800_000_000.0
OKX = "/www.okx.com/api/v5/market/books?instId=BTC-USDT&sz=1"


@dataclass
class Stage:
    """A simulator whose clock the test holds."""

    session: aiohttp.ClientSession
    server: TestServer | None = None
    now_s: float = STARTED_S
    told: list[str] = field(default_factory=list)
    handled: asyncio.Event = field(default_factory=asyncio.Event)
    """A request has come to be handled."""

    def put(self, elapsed_s: float) -> None:
        """Put the clock to so long after the start."""
        self.now_s = STARTED_S + elapsed_s

    async def get(self, path: str) -> Any:
        """Ask for a path."""
        assert self.server is not None
        async with self.session.get(self.server.make_url(path)) as response:
            assert 200 == response.status
            return await response.json()

    async def faults(self) -> list[tuple[str, int]]:
        """Give the faults that are on, and since when, in milliseconds after the start."""
        active = (await self.get("/faults"))["active"]
        return [(one["fault"], one["since_ms"] - round(STARTED_S * 1_000)) for one in active]

    async def until_told(self, lines: int) -> None:
        """Wait until so many lines have been told, without asking the simulator for anything."""
        async with asyncio.timeout(15):
            while True:
                if len(self.told) >= lines:
                    return
                await asyncio.sleep(0.01)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """The story, at its start."""
    async with aiohttp.ClientSession() as session:
        stage = Stage(session)
        app = create_app(5, lambda: stage.now_s, play=Play(STORY, stage.told.append))

        @web.middleware
        async def handling(request: web.Request, handler: Handler) -> web.StreamResponse:
            stage.handled.set()
            return await handler(request)

        app.middlewares.append(handling)
        async with TestServer(app) as stage.server:
            yield stage


async def test_fault_is_switched_when_the_clock_passes_its_event_and_not_before(stage):
    """The fault is on from its time exactly, whenever it is that somebody asks, and off from its end."""
    stage.put(9.9)
    assert [] == await stage.faults()
    stage.put(12.3)
    assert [("freeze", 10_000)] == await stage.faults()
    stage.put(29.9)
    assert [("freeze", 10_000)] == await stage.faults()
    stage.put(30)
    assert [] == await stage.faults()


async def test_event_is_met_at_its_own_time(stage):
    """When the clock stands on an event it has happened."""
    stage.put(10)
    assert [("freeze", 10_000)] == await stage.faults()


def test_stream_meets_a_fault_at_its_time_though_nobody_asks_for_anything():
    """Who is told changes is told spoilt ones from the time of the event exactly."""
    now_s = [STARTED_S]
    venues = Venues(5, lambda: now_s[0])
    spoilt = read_switch({"venue": "okx", "fault": "crossed", "scope": "stream"})
    story = replace(STORY, events=(Event(10_000, "okx streams crossed books.", spoilt), *STORY.events[1:]))
    add_play(web.Application(), Play(story), venues)

    now_s[0] += 9.9
    assert venues.streamed("okx", "BTC/USDT") is None
    now_s[0] += 1
    active = venues.streamed("okx", "BTC/USDT")
    assert active is not None
    assert ("crossed", 10_000) == (active.name, active.since_ms)
    now_s[0] += 20
    assert venues.streamed("okx", "BTC/USDT") is None


async def test_clock_that_leaps_over_events_meets_them_all_in_their_order(stage):
    """What lies between is told, and what is over by then is over."""
    stage.put(39)
    assert [] == await stage.faults()
    assert ["story 10 s: okx freezes.", "story 20 s: BTC falls.", "story 30 s: okx is back."] == stage.told

    stage.put(40)
    await stage.faults()
    assert ["story 40 s: The scenario is over; the market goes on."] == stage.told[3:]


async def test_request_that_is_held_is_let_go_though_nobody_asks_for_anything(stage):
    """The end of a fault that leaves a request without an answer does not wait for another request."""
    stage.put(10)
    held = asyncio.create_task(stage.get(OKX))
    await stage.handled.wait()
    await stage.until_told(1)
    stage.put(30)

    async with asyncio.timeout(15):  # The connection is dropped; aiohttp asks once more, of a venue that is back.
        await asyncio.gather(held, return_exceptions=True)


async def test_price_moves_with_the_clock(stage):
    """Books are those of the market with the scenario's moves in it, at any moment."""
    market = SimulatedMarket(5, Shocks((event.at_ms, event.does) for event in STORY.events[1:2]))
    for at_s in (5, 30, 35, 90):
        stage.put(at_s)
        expected = market.book("okx", "BTC/USDT", at_s * 1_000, 1).asks[0].price
        assert expected == Decimal((await stage.get(OKX))["data"][0]["asks"][0][0])

    assert expected < 40_000


async def test_scenario_tells_what_happens_now_and_what_comes_next(stage):
    """Name, time, the last event, the next one and how long it will be; all of them; and what else is shipped."""
    stage.put(12.5)
    shown = await stage.get("/scenario")
    told = shown["scenario"]
    assert ("story", STORY.description, 12.5, 40.0, False) == (
        told["name"], told["description"], told["elapsed_s"], told["ends_s"], told["over"],
    )  # fmt: skip
    assert {"at_s": 10.0, "says": "okx freezes."} == told["now"]
    assert {"at_s": 20.0, "says": "BTC falls.", "in_s": 7.5} == told["next"]
    assert [10.0, 20.0, 30.0] == [event["at_s"] for event in told["events"]]
    assert set(scenario_names()) == set(shown["shipped"])

    stage.put(0)
    told = (await stage.get("/scenario"))["scenario"]
    assert (None, 10.0) == (told["now"], told["next"]["in_s"])
    stage.put(35)
    told = (await stage.get("/scenario"))["scenario"]
    assert ("okx is back.", None, False) == (told["now"]["says"], told["next"], told["over"])
    stage.put(40)
    told = (await stage.get("/scenario"))["scenario"]
    assert (None, None, True) == (told["now"], told["next"], told["over"])


async def test_simulator_without_a_scenario_names_those_that_are_shipped():
    """Nothing is played, and what could be is listed with what it is about."""
    with run_in_thread() as simulator:
        async with aiohttp.ClientSession() as session, session.get(f"{simulator.base_url}/scenario") as response:
            shown = await response.json()

    assert None is shown["scenario"]
    assert set(scenario_names()) == set(shown["shipped"])
    assert all(shown["shipped"].values())
