"""Serve the simulated venues on loopback, at ``http://127.0.0.1:PORT/<original host>/<path>``.

ccxt runs unmodified against it once its addresses are sent there.  ``POST /faults`` makes venues misbehave while they
run, ``GET /faults`` says how they can and do, ``GET /`` lists what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import threading
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from exchanges.simulator.faults import (
    FAULTS,
    TIME_SHIFT_MS,
    Fault,
    Kind,
    Switch,
    SwitchError,
    distort,
    freeze_bids,
    read_switch,
    spoil,
)
from exchanges.simulator.market import STEP_MS, VENUES, Book, SimulatedMarket
from exchanges.simulator.wire import WIRES, DepthRequest, Reply, Wire, render, render_long

Clock = Callable[[], float]

_BODY_BYTES_MAX = 16 * 1024
_LOOK_S = 0.2  # How often a held request looks whether its client is still there.
_DRIP_PIECES, _DRIP_S = 100, 0.4
_HUGE_BYTES = 6 * 1024 * 1024
_BOMB_BYTES = 64 * 1024 * 1024
_ACCEPT_TURNS = 3  # So many turns of the loop after it was accepted, a connection is known to the application.


@dataclass(frozen=True, slots=True)
class _Active:
    """A fault that is on, since when in simulated time, and the signal that it is off again."""

    fault: Fault
    scope: str
    options: Mapping[str, int]
    since_ms: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class _Venues:
    """The venues' common state: the market, the clock, and the faults that are on."""

    def __init__(self, seed: int, clock: Clock) -> None:
        self.market = SimulatedMarket(seed)
        self._clock = clock
        self.started_ms = int(clock() * 1000)
        self.hosts = {host: wire for wire in WIRES.values() for host in wire.hosts}
        self._active: dict[tuple[str, str | None], _Active] = {}
        self._blobs = asyncio.Lock()

    def elapsed_ms(self) -> int:
        """Give the simulated time, on a step of the market."""
        elapsed_ms = max(0, int(self._clock() * 1000) - self.started_ms)
        return elapsed_ms - elapsed_ms % STEP_MS

    def switch(self, switch: Switch) -> None:
        """Switch faults on or off; requests held by a fault that ends are let go."""
        for venue in switch.venues:
            for key in [key for key in self._active if key[0] == venue and switch.symbol in (None, key[1])]:
                if switch.fault is None or key[1] == switch.symbol:
                    self._active.pop(key).ended.set()
            if switch.fault is not None:
                active = _Active(switch.fault, switch.scope, switch.options, self.elapsed_ms())
                self._active[venue, switch.symbol] = active

    def end_all(self) -> None:
        """Switch all faults off."""
        self.switch(Switch(tuple(VENUES), None, None, "depth", {}))

    def active(self, venue: str, asked: DepthRequest | Reply) -> _Active | None:
        """Find the fault that a request to *venue* meets; a symbol's own comes before the venue's."""
        whole = self._active.get((venue, None))
        if isinstance(asked, Reply):
            return whole if whole and whole.scope == "all" else None
        return self._active.get((venue, asked.symbol)) if (venue, asked.symbol) in self._active else whole

    def listing(self) -> list[dict[str, object]]:
        """Describe the faults that are on."""
        return [
            {"venue": venue, "symbol": symbol, "fault": on.fault.name, "scope": on.scope, **on.options,
             "since_ms": self.started_ms + on.since_ms}
            for (venue, symbol), on in sorted(self._active.items(), key=lambda item: (item[0][0], item[0][1] or ""))
        ]  # fmt: skip

    def depth(self, wire: Wire, asked: DepthRequest, active: _Active | None) -> Reply:
        """Answer a request for a book, distorted if the fault that is on says so."""
        if asked.refusal is not None:
            return asked.refusal
        name = active.fault.name if active else ""
        if name == "wrong_symbol":
            asked = replace(asked, symbol=_next_symbol(wire.name, asked.symbol))
        book, at_ms = self.book(wire, asked, active)
        time_ms = self.started_ms + at_ms + TIME_SHIFT_MS.get(name, 0)
        return Reply(200, render(wire, asked, book, time_ms))

    def book(self, wire: Wire, asked: DepthRequest, active: _Active | None) -> tuple[Book, int]:
        """Give the book to show, and the simulated time at which the venue says it was made."""
        symbol, at_ms = asked.symbol or "", self.elapsed_ms()
        listing = VENUES[wire.name].listings[symbol]
        name = active.fault.name if active else ""
        if active and name == "clock_stopped":
            at_ms = active.since_ms
        book = self.market.book(wire.name, symbol, at_ms, asked.depth)
        if active and name == "frozen_side":
            book = freeze_bids(self.market.book(wire.name, symbol, active.since_ms, asked.depth), book, listing)
        if active and active.fault.kind is Kind.BOOK:
            book = distort(name, book, listing)
        return book, at_ms

    async def blob(self, wire: Wire, asked: DepthRequest | Reply, name: str) -> Reply:
        """Make, or take from its cache, a body that is too long to be made on the event loop."""
        async with self._blobs:
            if name == "gzip_bomb" or not isinstance(asked, DepthRequest):
                return Reply(200, await asyncio.to_thread(_bomb), headers={"Content-Encoding": "gzip"})
            body = await asyncio.to_thread(_huge, self.market, self.started_ms, wire.name, asked.symbol or "")
            return Reply(200, body)


def _next_symbol(venue: str, symbol: str | None) -> str:
    symbols = list(VENUES[venue].listings)
    return symbols[(symbols.index(symbol or "") + 1) % len(symbols)]


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    rows = b"[0,0]," * (1024 * 1024 // 6)
    parts = [packer.compress(b"[")]
    parts += [packer.compress(rows) for _ in range(_BOMB_BYTES // len(rows) + 1)]
    return b"".join((*parts, packer.compress(b"[0,0]]"), packer.flush()))


@lru_cache(maxsize=6)
def _huge(market: SimulatedMarket, time_ms: int, venue: str, symbol: str) -> bytes:
    wire, asked = WIRES[venue], DepthRequest(symbol)
    book = market.book(venue, symbol, 0, 1)
    a_thousand = len(render_long(wire, asked, book, time_ms, 1000))
    return render_long(wire, asked, book, time_ms, _HUGE_BYTES * 1000 // a_thousand)


class _Routes:
    """The handlers."""

    def __init__(self, venues: _Venues) -> None:
        self._venues = venues

    async def index(self, request: web.Request) -> web.Response:
        venues = {
            wire.name: {"hosts": wire.hosts, "symbols": list(VENUES[wire.name].listings)} for wire in WIRES.values()
        }
        return _json({
            "market_data": "simulated", "seed": self._venues.market.seed, "venues": venues, "faults": "/faults",
        })  # fmt: skip

    async def faults(self, request: web.Request) -> web.Response:
        names = {fault.name: fault.description for fault in FAULTS.values()}
        return _json({"faults": names, "active": self._venues.listing()})

    async def switch(self, request: web.Request) -> web.Response:
        try:
            switch = read_switch(orjson.loads(await request.read()))
        except SwitchError as error:
            return _json({"error": str(error), "nearest": error.nearest}, 400)
        except ValueError as error:
            return _json({"error": f"The body is not JSON: {error}", "nearest": ()}, 400)
        self._venues.switch(switch)
        return _json({"active": self._venues.listing()})

    async def venue(self, request: web.Request) -> web.StreamResponse:
        host, _, rest = request.path.removeprefix("/").partition("/")
        wire = self._venues.hosts.get(host)
        if wire is None:
            nearest = difflib.get_close_matches(host[:100], self._venues.hosts, n=3)
            return _json({"error": "No venue has this host.", "nearest": nearest}, 404)
        now_ms = self._venues.started_ms + self._venues.elapsed_ms()
        asked = wire.read(f"/{rest}", request.query, now_ms)
        if asked is None:
            return _json({"error": f"The simulated {wire.name} does not serve this path.", "nearest": ()}, 404)
        active = self._venues.active(wire.name, asked)
        if active is None:
            return _response(self._genuine(wire, asked, None))
        return await self._faulty(request, wire, asked, active)

    def _genuine(self, wire: Wire, asked: DepthRequest | Reply, active: _Active | None) -> Reply:
        return asked if isinstance(asked, Reply) else self._venues.depth(wire, asked, active)

    async def _faulty(
        self, request: web.Request, wire: Wire, asked: DepthRequest | Reply, active: _Active
    ) -> web.StreamResponse:
        name = active.fault.name
        if name in _CONNECTION_FAULTS:
            return await _CONNECTION_FAULTS[name](request, active, lambda: self._genuine(wire, asked, None))
        if active.fault.kind is not Kind.REPLY:
            return _response(self._genuine(wire, asked, active))
        unknown = isinstance(asked, DepthRequest) and asked.refusal is not None
        if name == "gzip_bomb" or (name == "huge" and not unknown):
            return _response(await self._venues.blob(wire, asked, name))
        genuine = self._genuine(wire, asked, None)
        return _response(genuine if name == "huge" else spoil(name, genuine, wire, active.options))


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(body=reply.body, status=reply.status, headers=headers)


async def _hold(request: web.Request, active: _Active, seconds: float) -> bool:
    """Wait until the fault ends or its client leaves, at most *seconds*; say whether all of them went by."""
    deadline = time.monotonic() + seconds
    while not active.ended.is_set() and request.transport is not None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(active.ended.wait(), min(left_s, _LOOK_S))
    return False


def _abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # Goes nowhere: the connection is gone.


async def _freeze(request: web.Request, active: _Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    await _hold(request, active, float("inf"))
    return _abort(request)


async def _slow(request: web.Request, active: _Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    await _hold(request, active, active.options["delay_ms"] / 1000)
    return _response(genuine())


async def _drip(request: web.Request, active: _Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    body, response = await _begin(request, genuine())
    piece = max(1, len(body) // _DRIP_PIECES)
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(body), piece):
            await response.write(body[start : start + piece])
            if not await _hold(request, active, _DRIP_S):
                _abort(request)
                break
    return response


async def _cut(request: web.Request, active: _Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    body, response = await _begin(request, genuine())
    with contextlib.suppress(ConnectionError):
        await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()  # Sends what is written, unlike abort.
    return response


async def _refuse(request: web.Request, active: _Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    return _abort(request)


async def _begin(request: web.Request, reply: Reply) -> tuple[bytes, web.StreamResponse]:
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
    response.content_length = len(reply.body)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    return reply.body, response


_CONNECTION_FAULTS: Mapping[
    str, Callable[[web.Request, _Active, Callable[[], Reply]], Awaitable[web.StreamResponse]]
] = {"freeze": _freeze, "slow": _slow, "drip": _drip, "cut": _cut, "refuse": _refuse}


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json({"error": error.reason, "nearest": ()}, error.status)


def create_app(seed: int = 7, clock: Clock = time.time) -> web.Application:
    """
    Build the application of all venues.

    Args:
        seed: Of the market.
        clock: Unix time in seconds.  Simulated time is what has passed on it since this call.
    """
    venues = _Venues(seed, clock)
    routes = _Routes(venues)
    app = web.Application(client_max_size=_BODY_BYTES_MAX, middlewares=[_errors_as_json])
    app.router.add_get("/", routes.index, allow_head=False)
    app.router.add_get("/faults", routes.faults, allow_head=False)
    app.router.add_post("/faults", routes.switch)
    app.router.add_get("/{rest:.+}", routes.venue, allow_head=False)

    async def let_go(app: web.Application) -> None:
        venues.end_all()

    app.on_shutdown.append(let_go)
    return app


@contextlib.asynccontextmanager
async def running(
    host: str = "127.0.0.1", port: int = 0, seed: int = 7, clock: Clock = time.time
) -> AsyncIterator[str]:
    """
    Serve on the current event loop for as long as the context lasts.

    Args:
        port: 0 takes a free one.

    Yields:
        The base address, with the port and without a slash at its end.

    Raises:
        OSError: The port is taken.
    """
    runner = web.AppRunner(create_app(seed, clock), handler_cancellation=True, access_log=None, shutdown_timeout=5.0)
    await runner.setup()
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(runner.server, host, port)  # type: ignore[arg-type]
        try:
            yield f"http://{f'[{host}]' if ':' in host else host}:{listener.sockets[0].getsockname()[1]}"
        finally:
            # asyncio forgets to close what it accepts in the moment in which a listener closes: accept no more before.
            for listening in listener.sockets:
                loop.remove_reader(listening)
            for _ in range(_ACCEPT_TURNS):
                await asyncio.sleep(0)
            listener.close()
    finally:
        await runner.cleanup()


async def serve(host: str = "127.0.0.1", port: int = 9001, seed: int = 7) -> None:
    """Serve until cancelled.  Raises OSError if the port is taken."""
    async with running(host, port, seed):
        await asyncio.Event().wait()


class Simulator:
    """
    A running simulator, on an event loop and a thread of its own.

    Also a context manager that closes at its end.

    Attributes:
        base_url: Such as ``http://127.0.0.1:49152``.
    """

    def __init__(self, host: str, port: int, seed: int, clock: Clock = time.time) -> None:
        """Start, and wait until requests are taken; use `run_in_thread`."""
        self.base_url = ""
        self._arguments = (host, port, seed, clock)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def __enter__(self) -> Simulator:
        """Give itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Drop all requests, free the port, end the thread.  Closing twice is fine."""
        with contextlib.suppress(RuntimeError):  # The loop is closed already.
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except (OSError, OverflowError) as error:  # The port is taken, or is none.
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        async with running(*self._arguments) as base_url:
            self.base_url = base_url
            self._started.set()
            await self._stop.wait()


def run_in_thread(host: str = "127.0.0.1", port: int = 0, seed: int = 7, clock: Clock = time.time) -> Simulator:
    """
    Serve from a daemon thread, so that no work of the simulator's stands on the caller's event loop.

    Raises:
        OSError: The port is taken.
    """
    return Simulator(host, port, seed, clock)
