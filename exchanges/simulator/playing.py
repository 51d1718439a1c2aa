"""Play a scenario on the simulated venues, as their clock passes its events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from exchanges.simulator.faults import Switch
from exchanges.simulator.market import STEP_MS
from exchanges.simulator.scenario import Scenario
from exchanges.simulator.scenario_files import shipped_scenarios
from exchanges.simulator.venues import Venues

Tell = Callable[[str], None]
"""Takes a line for the person at the terminal."""


def _tell_nobody(line: str) -> None:
    """Keep a line to oneself."""


@dataclass(frozen=True, slots=True)
class Play:
    """A scenario, and who is told of each of its events in a line, on the thread that plays it."""

    scenario: Scenario
    tell: Tell = _tell_nobody

    def invitation(self, address: str) -> str:
        """Announce it in a line: what will happen, and where at the simulator's *address* it is followed."""
        return f"scenario {self.scenario.name} (GET {address}/scenario): {self.scenario.description}"


class Playing:
    """
    How far a scenario has been played.

    Its moves are in the market from the start, since that is a function of time; what is done here is to switch its
    faults, at their times exactly, before anything is answered that is later.
    """

    def __init__(self, play: Play, venues: Venues) -> None:
        """Begin before the first event."""
        self.scenario = play.scenario
        self._venues = venues
        self._tell = play.tell
        self._passed = 0
        self._over = False

    def catch_up(self) -> None:
        """Do what is due by now."""
        elapsed_ms, events = self._venues.elapsed_ms(), self.scenario.events
        while self._passed < len(events) and events[self._passed].at_ms <= elapsed_ms:
            event = events[self._passed]
            self._passed += 1
            if isinstance(event.does, Switch):
                self._venues.switch(event.does, event.at_ms)
            self._tell(self._line(event.at_ms, event.says))
        if not self._over and elapsed_ms >= self.scenario.ends_ms:
            self._over = True
            self._tell(self._line(self.scenario.ends_ms, "The scenario is over; the market goes on."))

    def _line(self, at_ms: int, says: str) -> str:
        return f"{self.scenario.name} {at_ms / 1000:g} s: {says}"

    async def keep_up(self) -> None:
        """Look at the clock once a step, until the scenario is over: who waits for an answer asks for nothing."""
        while not self._over:
            self.catch_up()
            await asyncio.sleep(STEP_MS / 1000)

    def state(self) -> dict[str, object]:
        """Describe the scenario, and where it stands."""
        scenario = self.scenario
        events = [{"at_s": event.at_ms / 1000, "says": event.says} for event in scenario.events]
        return {
            "name": scenario.name,
            "description": scenario.description,
            **scenario.position(self._venues.elapsed_ms()),
            "events": events,
        }


def add_play(app: web.Application, play: Play | None, venues: Venues) -> None:
    """Let an application play to its *venues* what there is to be played, and say how far it is: ``GET /scenario``."""
    playing = Playing(play, venues) if play is not None else None

    async def show(request: web.Request) -> web.Response:
        shipped = {name: scenario.description for name, scenario in shipped_scenarios().items()}
        shown = {"scenario": playing and playing.state(), "shipped": shipped}
        return web.Response(body=orjson.dumps(shown), content_type="application/json")

    app.router.add_get("/scenario", show, allow_head=False)
    if playing is None:
        return

    @web.middleware
    async def on_time(request: web.Request, handler: Handler) -> web.StreamResponse:
        playing.catch_up()  # A fault that is switched by hand comes after what is due already.
        return await handler(request)

    async def beside(app: web.Application) -> AsyncIterator[None]:
        keeping_up = asyncio.create_task(playing.keep_up(), name="scenario")
        yield
        keeping_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping_up

    venues.catch_up = playing.catch_up
    app.middlewares.append(on_time)
    app.cleanup_ctx.append(beside)
