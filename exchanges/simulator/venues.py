"""Keep what all simulated venues have in common: the market, the clock, and the faults that are on."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from exchanges.simulator.faults import TIME_SHIFT_MS, Fault, Kind, Switch, distort, freeze_bids
from exchanges.simulator.market import STEP_MS, VENUES, Book, SimulatedMarket
from exchanges.simulator.sent import SentLog
from exchanges.simulator.shocks import Shocks
from exchanges.simulator.wires import STREAM_WIRES, WIRES, render
from exchanges.simulator.wires.wire import DepthRequest, Moment, Reply, Wire

Clock = Callable[[], float]
SPEED_MIN, SPEED_MAX = 0.01, 10.0
ANSWERS_KEPT = 64
"""So many answers of a symbol are remembered."""


@dataclass(frozen=True, slots=True)
class Active:
    """A fault that is on, since when in simulated time, and the signal that it is off again."""

    fault: Fault
    scope: str
    options: Mapping[str, int]
    since_ms: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        """Name the fault."""
        return self.fault.name


class Venues:
    """
    The venues' common state.

    Args:
        clock: Unix time in seconds.  Simulated time is what has passed on it since this call, times *speed*.
        speed: How fast the market goes, 1 as a real one; times on the wire are always the clock's.
        shocks: What the market does on top of its seed.

    Attributes:
        catch_up: Called before any fault is looked for, so that what is due by the clock is switched first.

    Raises:
        ValueError: The speed is not from ``SPEED_MIN`` to ``SPEED_MAX``.
    """

    def __init__(self, seed: int, clock: Clock, speed: float = 1.0, shocks: Shocks | None = None) -> None:
        """Start the market of *seed* now, with no fault on."""
        if not SPEED_MIN <= speed <= SPEED_MAX:
            raise ValueError(f"The speed must be from {SPEED_MIN} to {SPEED_MAX}.")
        self.market = SimulatedMarket(seed, shocks or Shocks())
        self.catch_up: Callable[[], None] = lambda: None
        self.sent = SentLog()
        self.hosts = {host: wire for wire in WIRES.values() for host in wire.hosts}
        self.stream_hosts = {host: wire for wire in STREAM_WIRES.values() for host in wire.stream_hosts}
        self._clock = clock
        self._speed = speed
        self._started_ms = self.now_ms()
        self._answers: dict[tuple[str, str], deque[int]] = {}
        self._active: dict[tuple[str, str | None, bool], Active] = {}

    def now_ms(self) -> int:
        """Read the clock, Unix time."""
        return round(self._clock() * 1000)

    def elapsed_ms(self) -> int:
        """Give the simulated time, on a step of the market."""
        elapsed_ms = max(0, int((self.now_ms() - self._started_ms) * self._speed))
        return elapsed_ms - elapsed_ms % STEP_MS

    def next_step_s(self) -> float:
        """Give how long it is until the market's next step, by the clock."""
        return max(0.0, (self.moment(self.elapsed_ms() + STEP_MS).time_ms / 1000) - self._clock())

    def moment(self, at_ms: int) -> Moment:
        """Give what the venues' clocks and counts say at a simulated time that is on a step."""
        return Moment(self._started_ms + math.ceil(at_ms / self._speed), (self._started_ms + at_ms) // STEP_MS)

    def switch(self, switch: Switch, since_ms: int | None = None) -> None:
        """Switch faults on or off, as of now or of *since_ms*; what is held by a fault that ends is let go."""
        if since_ms is None:
            since_ms = self.elapsed_ms()
        for venue in switch.venues:
            for key in [key for key in self._active if key[0] == venue and switch.symbol in (None, key[1])]:
                concerned = switch.scope is None or key[2] == switch.streamed
                if concerned and (switch.fault is None or key[1] == switch.symbol):
                    self._active.pop(key).ended.set()
            if switch.fault is not None:
                active = Active(switch.fault, switch.scope or "", switch.options, since_ms)
                self._active[venue, switch.symbol, switch.streamed] = active

    def end_all(self) -> None:
        """Switch all faults off."""
        self.switch(Switch(tuple(VENUES), None, None, None, {}))

    def polled(self, venue: str, asked: DepthRequest | Reply) -> Active | None:
        """Find the fault that a request to *venue* meets; a symbol's own comes before the venue's."""
        self.catch_up()
        whole = self._active.get((venue, None, False))
        if isinstance(asked, Reply):
            return whole if whole and whole.scope == "all" else None
        return self._active.get((venue, asked.symbol, False), whole)

    def streamed(self, venue: str, symbol: str | None = None) -> Active | None:
        """Find the fault that *venue*'s stream of *symbol* meets, or without one, that any connection meets."""
        self.catch_up()
        whole = self._active.get((venue, None, True))
        return whole if symbol is None else self._active.get((venue, symbol, True), whole)

    def listing(self) -> list[dict[str, object]]:
        """Describe the faults that are on."""
        self.catch_up()
        in_order = sorted(self._active.items(), key=lambda item: (item[0][0], item[0][1] or "", item[0][2]))
        return [
            {"venue": venue, "symbol": symbol, "fault": on.name, "scope": on.scope, **on.options,
             "since_ms": self.moment(on.since_ms).time_ms}
            for (venue, symbol, _), on in in_order
        ]  # fmt: skip

    def depth(self, wire: Wire, asked: DepthRequest, active: Active | None) -> tuple[Reply, Moment]:
        """Answer a request for a book, distorted if the fault that is on says so."""
        if asked.refusal is not None:
            return asked.refusal, self.moment(self.elapsed_ms())
        if active and active.name == "wrong_symbol":
            asked = replace(asked, symbol=next_symbol(wire.name, asked.symbol))
            active = None
        symbol, at_ms = asked.symbol or "", self.elapsed_ms()
        answers = self._answers.setdefault((wire.name, symbol), deque(maxlen=ANSWERS_KEPT))
        if not answers or answers[-1] != at_ms:
            answers.append(at_ms)
        book, moment = self.book(wire.name, symbol, asked.depth, active, at_ms)
        return Reply(200, render(wire, asked, book, moment)), moment

    def answered(self, venue: str, symbol: str) -> Iterable[int]:
        """Give the simulated times of the last books that requests were answered with, oldest first."""
        return self._answers.get((venue, symbol), ())

    def book(
        self, venue: str, symbol: str, depth: int | None, active: Active | None, at_ms: int | None = None
    ) -> tuple[Book, Moment]:
        """Give the book to show, now or at another simulated time, and when the venue says it was made."""
        at_ms = self.elapsed_ms() if at_ms is None else at_ms
        listing = VENUES[venue].listings[symbol]
        name = active.name if active else ""
        if name == "wrong_symbol":
            symbol = next_symbol(venue, symbol)
        if active and name == "clock_stopped":
            at_ms = active.since_ms
        book = self.market.book(venue, symbol, at_ms, depth)
        if active and name == "frozen_side":
            book = freeze_bids(self.market.book(venue, symbol, active.since_ms, depth), book, listing)
        if active and active.fault.kind is Kind.BOOK:
            book = distort(name, book, listing)
        moment, shift_ms = self.moment(at_ms), TIME_SHIFT_MS.get(name, 0)
        return book, Moment(moment.time_ms + shift_ms, moment.sequence + shift_ms // STEP_MS)


def next_symbol(venue: str, symbol: str | None) -> str:
    """Name the symbol that the venue lists after *symbol*."""
    symbols = list(VENUES[venue].listings)
    return symbols[(symbols.index(symbol or "") + 1) % len(symbols)]
