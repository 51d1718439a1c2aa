"""Serve the simulated venues on loopback, at ``http://127.0.0.1:PORT/<original host>/<path>`` and ``ws://`` the same.

ccxt runs unmodified against it once its addresses are sent there.  ``POST /faults`` makes venues misbehave while they
run, ``GET /faults`` says how they can and do, ``GET /scenario`` what happens by itself, ``GET /sent``
tells what was sent when, ``GET /`` lists what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from exchanges.simulator.blobs import Blobs
from exchanges.simulator.faults import FAULTS, Kind, SwitchError, read_switch, spoil
from exchanges.simulator.market import VENUES
from exchanges.simulator.playing import Play, add_play
from exchanges.simulator.sent import Note
from exchanges.simulator.shocks import Shocks
from exchanges.simulator.streams import Streams
from exchanges.simulator.venues import Active, Clock, Venues
from exchanges.simulator.wires import STREAM_WIRES, WIRES
from exchanges.simulator.wires.wire import DepthRequest, Reply, StreamWire, Wire

_BODY_BYTES_MAX = 16 * 1024
_LOOK_S = 0.2  # How often a held request looks whether its client is still there.
_DRIP_PIECES, _DRIP_S = 100, 0.4
_NOTHING = Reply(200, b"")
_ACCEPT_TURNS = 3  # So many turns of the loop after it was accepted, a connection is known to the application.


class _Routes:
    """The handlers."""

    def __init__(self, venues: Venues, blobs: Blobs, streams: Streams) -> None:
        self._venues = venues
        self._blobs = blobs
        self._streams = streams
        self._started = venues.moment(0)

    async def index(self, request: web.Request) -> web.Response:
        venues = {
            wire.name: {
                "hosts": wire.hosts,
                "stream_hosts": STREAM_WIRES[wire.name].stream_hosts if wire.name in STREAM_WIRES else (),
                "symbols": list(VENUES[wire.name].listings),
            }
            for wire in WIRES.values()
        }
        return _json({
            "market_data": "simulated", "seed": self._venues.market.seed, "venues": venues, "faults": "/faults",
            "sent": "/sent", "scenario": "/scenario",
        })  # fmt: skip

    async def faults(self, request: web.Request) -> web.Response:
        names = {fault.name: fault.description for fault in FAULTS.values()}
        scopes = {fault.name: fault.scopes for fault in FAULTS.values()}
        return _json({"faults": names, "scopes": scopes, "active": self._venues.listing()})

    async def switch(self, request: web.Request) -> web.Response:
        try:
            switch = read_switch(orjson.loads(await request.read()))
        except SwitchError as error:
            return _json({"error": str(error), "nearest": error.nearest}, 400)
        except ValueError as error:
            return _json({"error": f"The body is not JSON: {error}", "nearest": ()}, 400)
        self._venues.switch(switch)
        self._streams.strike()
        return _json({"active": self._venues.listing()})

    async def sent(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not (after.isascii() and after.isdigit() and len(after) < 19):
            return _json({"error": "The parameter 'after' must be a whole number.", "nearest": ()}, 400)
        return _json({"sent": self._venues.sent.listing(int(after))})

    async def venue(self, request: web.Request) -> web.StreamResponse:
        host, _, rest = request.path.removeprefix("/").partition("/")
        host, path = host.partition(":")[0], f"/{rest}"
        if host in self._venues.stream_hosts:
            return await self._stream(request, self._venues.stream_hosts[host], path)
        wire = self._venues.hosts.get(host)
        if wire is None:
            hosts = [*self._venues.hosts, *self._venues.stream_hosts]
            nearest = difflib.get_close_matches(host[:100], hosts, n=3)
            return _json({"error": "No venue has this host.", "nearest": nearest}, 404)
        asked = wire.read(path, request.query, self._venues.moment(self._venues.elapsed_ms()).time_ms)
        if asked is None:
            return _no_path(wire)
        active = self._venues.polled(wire.name, asked)
        if active is None:
            return _response(self._genuine(wire, asked, None))
        return await self._faulty(request, wire, asked, active)

    async def _stream(self, request: web.Request, wire: StreamWire, path: str) -> web.StreamResponse:
        if not wire.streams_at(path):
            return _no_path(wire)
        active = self._venues.streamed(wire.name)
        if active and active.name in _CONNECTION_FAULTS:
            return await _CONNECTION_FAULTS[active.name](request, active, lambda: _NOTHING)
        if active and active.fault.kind is Kind.REPLY:
            return _response(spoil(active.name, _NOTHING, wire, active.options))
        return await self._streams.connect(request, wire)

    def _genuine(self, wire: Wire, asked: DepthRequest | Reply, active: Active | None) -> Reply:
        if isinstance(asked, Reply):
            return asked
        reply, moment = self._venues.depth(wire, asked, active)
        if asked.refusal is None and asked.symbol is not None:
            self._venues.sent.add(Note(wire.name, asked.symbol, wire.sequence(moment), moment.time_ms, "poll"))
        return reply

    async def _faulty(
        self, request: web.Request, wire: Wire, asked: DepthRequest | Reply, active: Active
    ) -> web.StreamResponse:
        name = active.name
        if name in _CONNECTION_FAULTS:
            return await _CONNECTION_FAULTS[name](request, active, lambda: self._genuine(wire, asked, None))
        if active.fault.kind is not Kind.REPLY:
            return _response(self._genuine(wire, asked, active))
        if name == "gzip_bomb":
            return _response(await self._blobs.bomb())
        if name == "huge" and isinstance(asked, DepthRequest) and asked.refusal is None:
            return _response(await self._blobs.answer(wire.name, asked.symbol or "", self._started))
        genuine = self._genuine(wire, asked, None)
        return _response(genuine if name == "huge" else spoil(name, genuine, wire, active.options))


def _no_path(wire: Wire) -> web.Response:
    return _json({"error": f"The simulated {wire.name} does not serve this path.", "nearest": ()}, 404)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(body=reply.body, status=reply.status, headers=headers)


async def _hold(request: web.Request, active: Active, seconds: float) -> bool:
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


async def _freeze(request: web.Request, active: Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    await _hold(request, active, float("inf"))
    return _abort(request)


async def _slow(request: web.Request, active: Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    await _hold(request, active, active.options["delay_ms"] / 1000)
    return _response(genuine())


async def _drip(request: web.Request, active: Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    body, response = await _begin(request, genuine())
    piece = max(1, len(body) // _DRIP_PIECES)
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(body), piece):
            await response.write(body[start : start + piece])
            if not await _hold(request, active, _DRIP_S):
                _abort(request)
                break
    return response


async def _cut(request: web.Request, active: Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    body, response = await _begin(request, genuine())
    with contextlib.suppress(ConnectionError):
        await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()  # Sends what is written, unlike abort.
    return response


async def _refuse(request: web.Request, active: Active, genuine: Callable[[], Reply]) -> web.StreamResponse:
    return _abort(request)


async def _begin(request: web.Request, reply: Reply) -> tuple[bytes, web.StreamResponse]:
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type})
    response.content_length = len(reply.body)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
    return reply.body, response


_CONNECTION_FAULTS: Mapping[
    str, Callable[[web.Request, Active, Callable[[], Reply]], Awaitable[web.StreamResponse]]
] = {"freeze": _freeze, "slow": _slow, "drip": _drip, "cut": _cut, "refuse": _refuse}


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _json({"error": error.reason, "nearest": ()}, error.status)


def create_app(
    seed: int = 7, clock: Clock = time.time, speed: float = 1.0, play: Play | None = None
) -> web.Application:
    """
    Build the application of all venues.

    Args:
        seed: Of the market.
        clock: Unix time in seconds.  Simulated time is what has passed on it since this call, times *speed*.
        speed: How fast the market goes: 1 as a real one, 0.1 ten times slower; from 0.01 to 10.
        play: What happens by itself; the scenario's own seed is not looked at.

    Raises:
        ValueError: The speed is out of range.
    """
    venues = Venues(seed, clock, speed, play.scenario.shocks() if play else Shocks())
    blobs = Blobs(venues.market)
    streams = Streams(venues, blobs)
    routes = _Routes(venues, blobs, streams)
    app = web.Application(client_max_size=_BODY_BYTES_MAX, middlewares=[_errors_as_json])
    app.router.add_get("/", routes.index, allow_head=False)
    app.router.add_get("/faults", routes.faults, allow_head=False)
    app.router.add_post("/faults", routes.switch)
    app.router.add_get("/sent", routes.sent, allow_head=False)
    add_play(app, play, venues)
    app.router.add_get("/{rest:.+}", routes.venue, allow_head=False)

    async def let_go(app: web.Application) -> None:
        venues.end_all()
        await streams.end()

    app.on_shutdown.append(let_go)
    return app


@contextlib.asynccontextmanager
async def running(
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 7,
    clock: Clock = time.time,
    speed: float = 1.0,
    play: Play | None = None,
) -> AsyncIterator[str]:
    """
    Serve on the current event loop for as long as the context lasts.

    Args:
        port: 0 takes a free one.
        speed: How fast the market goes, from 0.01 to 10; 1 is as a real one.

    Yields:
        The base address, with the port and without a slash at its end.

    Raises:
        OSError: The port is taken.
        ValueError: The speed is out of range.
    """
    app = create_app(seed, clock, speed, play)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=5.0)
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

    def __init__(
        self,
        host: str,
        port: int,
        seed: int,
        clock: Clock = time.time,
        speed: float = 1.0,
        play: Play | None = None,
    ) -> None:
        """Start, and wait until requests are taken; use `run_in_thread`."""
        self.base_url = ""
        self._arguments = (host, port, seed, clock, speed, play)
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
        except (OSError, OverflowError, ValueError) as error:  # The port is taken, or is none; or no such speed.
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        async with running(*self._arguments) as base_url:
            self.base_url = base_url
            self._started.set()
            await self._stop.wait()


def run_in_thread(
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 7,
    clock: Clock = time.time,
    speed: float = 1.0,
    play: Play | None = None,
) -> Simulator:
    """
    Serve from a daemon thread, so that no work of the simulator's stands on the caller's event loop.

    Raises:
        OSError: The port is taken.
        ValueError: The speed is out of range.
    """
    return Simulator(host, port, seed, clock, speed, play)
