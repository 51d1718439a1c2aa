"""Serve the application over HTTP: so many connections and no more, swept for those whose clients owe something."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from service.addresses import network_of
from service.api.admission import Admission
from service.api.connection import (
    BODY_WITHIN_S,
    HEADERS_MAX,
    KEPT_ALIVE_S,
    LINE_MAX_BYTES,
    Connection,
    refuse,
)
from service.errors import ConfigError
from service.metrics.exposition import METRICS
from service.metrics.instruments import Instruments

SWEEP_EVERY_S: Final = 1.0
_CUT_AT_ONCE: Final = 20
_BETWEEN_CUTS_S: Final = 0.01
"""A thousand that are cut at once are a thousand answers at once, which everybody else would wait for."""
_DESCRIPTORS_KEPT: Final = 256
"""For the record, the venues and whatever else opens files."""
_LOOK_EVERY_S: Final = 0.02
_UNREAD_S: Final = 2.0
"""At the end, nobody who does not read an answer is waited for longer."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Room:
    """
    How many connections there may be.

    Args:
        per_address: From one IPv4 address, or from one IPv6 network of 64 bits.
        total: From all.
        is_proxy: Tells whether an address stands for many clients; then it is counted in total alone.
    """

    per_address: int = 2_500
    total: int = 5_000
    is_proxy: Callable[[str], bool] = field(default=lambda address: False)


ADMISSION: web.AppKey[Admission] = web.AppKey("admission", Admission)


class Server(web.Server):
    """A server that makes our connections, and knows them all."""

    def __init__(self, handler: Any, room: Room, admission: Admission, counted: Instruments, **options: Any) -> None:
        """Have room for so many connections, admit what *admission* does, and have it *counted*."""
        super().__init__(handler, **options)
        self.admission = admission
        self.counted = counted
        self.shed = 0
        """Requests that were sent away without a look, since the latest sweep."""
        self._room = room
        self._total = affordable(room.total)
        self._open = 0
        self._groups: Counter[str] = Counter()
        self._turned_away = 0

    def __call__(self) -> RequestHandler:
        """Make a connection."""
        return Connection(self, loop=self._loop, **self._kwargs)

    @property
    def ours(self) -> list[tuple[Connection, asyncio.Transport]]:
        """Give every connection with its transport."""
        return cast(list[tuple[Connection, asyncio.Transport]], list(self._connections.items()))

    def admit(self, transport: asyncio.BaseTransport) -> str | None:
        """Count a connection; gives whom it is counted for, or None if there is no room."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        group = "" if self._room.is_proxy(address) else network_of(address)
        if self._open >= self._total or (group and self._groups[group] >= self._room.per_address):
            self._turned_away += 1
            self.counted.cut("turned_away")
            return None
        self._open += 1
        self.counted.connected(1)
        self._groups[group] += 1
        return group

    def let_go(self, group: str) -> None:
        """Count a connection out that ``admit`` has counted."""
        self._open -= 1
        self.counted.connected(-1)
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]

    async def sweep(self, now: float) -> None:
        """Cut connections whose clients have owed something for too long, a few at a time; one line tells of all."""
        cut: Counter[str] = Counter()
        for connection, transport in self.ours:
            owed = connection.overdue(now, transport)
            if owed is None:
                continue
            connection.cut(owed, transport)
            cut[owed] += 1
            self.counted.cut(owed)
            if cut.total() % _CUT_AT_ONCE == 0:
                await asyncio.sleep(_BETWEEN_CUTS_S)
        turned_away, self._turned_away = self._turned_away, 0
        if self.shed:
            log.warning("requests.shed", count=self.shed)
            self.shed = 0
        if cut or turned_away:
            log.warning(
                "connections.cut",
                heads=cut["heads"],
                bodies=cut["bodies"],
                answers=cut["answers"],
                turned_away=turned_away,
                open=self._open,
            )

    async def sweeping(self) -> None:
        """Sweep every second, for ever."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self.sweep(self._loop.time())
            except Exception:
                log.exception("connections.failed")


class Runner(web.AppRunner):
    """Runs an application behind ``Server``."""

    def __init__(self, app: web.Application, room: Room | None = None, **options: Any) -> None:
        """Take aiohttp's options; there is no access log, and request bodies are never decompressed."""
        bounds = {
            "keepalive_timeout": KEPT_ALIVE_S,
            "lingering_time": BODY_WITHIN_S,
            "max_line_size": LINE_MAX_BYTES,
            "max_field_size": LINE_MAX_BYTES,
            "max_headers": HEADERS_MAX,
            "auto_decompress": False,
        }
        super().__init__(app, access_log=None, **{**bounds, **options})
        self._room = room or Room()
        self._sweeping: asyncio.Task[None] | None = None
        self._finishing = False

    @property
    def connections(self) -> Server:
        """Give the server with all its connections; only between ``setup`` and ``cleanup``."""
        return cast(Server, self.server)

    async def setup(self) -> None:
        """Be ready to listen."""
        await super().setup()
        self._sweeping = asyncio.create_task(self.connections.sweeping(), name="connections")

    async def finish(self, within_s: float) -> None:
        """Wait until what is under way is answered, but no longer than so; every answer ends its connection now."""
        loop = asyncio.get_running_loop()
        self._finishing = True
        deadline = loop.time() + within_s
        while (now := loop.time()) < deadline:
            if not any(connection.under_way(now, _UNREAD_S) for connection, _ in self.connections.ours):
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        log.warning(
            "service.impatient",
            under_way=sum(connection.under_way(now, _UNREAD_S) for connection, _ in self.connections.ours),
        )

    async def cleanup(self) -> None:
        """Listen no more, and end all connections; whoever does not read is not waited for."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        if self.server is not None:
            for connection, transport in self.connections.ours:
                if connection.unread:
                    transport.abort()
        await super().cleanup()

    async def _make_server(self) -> web.Server:
        made, counted = await super()._make_server(), self.app[METRICS].instruments

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                response = await made.request_handler(request)
            except web.HTTPException as error:  # An Expect header that aiohttp does not know; its answer repeats it.
                return refuse(counted, "malformed_request", 400, error)
            if self._finishing:
                response.force_close()
            return response

        options = {"request_factory": made.request_factory, **made._kwargs}
        return Server(answer, self._room, self.app[ADMISSION], counted, **options)


def affordable(wanted: int) -> int:
    """Let the process open as many files as it may; gives how many connections that is good for, at most *wanted*."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, min(wanted, soft - _DESCRIPTORS_KEPT))
    return wanted


async def listen(runner: Runner, host: str, port: int, table: str = "service") -> str:
    """
    Listen there; gives the address.

    Args:
        table: Of the settings, whose ``port`` that is.

    Raises:
        ConfigError: If somebody else does, or it cannot be.
    """
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigError([f"{table}.port: cannot listen on {host}:{port}: {error.strerror}"]) from error
    bound = runner.addresses[0]
    name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return f"http://{name}:{bound[1]}"
