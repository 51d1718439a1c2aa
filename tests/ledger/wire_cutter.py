"""A wire to PostgreSQL that is cut where a test wants it: before, during or after a COMMIT."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from enum import StrEnum


class Cut(StrEnum):
    """When the wire breaks."""

    BEFORE_COMMIT = "before the server sees it"
    BEFORE_ANSWER = "before its answer comes back"
    AFTER_ANSWER = "after its answer came back"


class WireCutter:
    """Passes everything on, both ways, until a COMMIT comes along whose turn it is."""

    def __init__(self, host, port):
        self._server = host, port
        self.when = None
        self.every = 2
        """The first of so many COMMITs is cut."""
        self.cuts = 0
        self.dead = False
        """Nobody gets through."""
        self._commits = 0
        self._wires = set()

    async def _wire(self, reader, writer):
        if self.dead:
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_connection(*self._server)
        wire = _Wire(writer, server_writer)
        self._wires.add(wire)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._up(wire, reader))
                group.create_task(self._down(wire, server_reader))
        except* (ConnectionError, OSError):
            pass
        finally:
            wire.cut()
            self._wires.discard(wire)

    async def _up(self, wire, reader):
        while data := await reader.read(65_536):
            if self.when is not None and b"COMMIT" in data:
                self._commits += 1
                if self._commits % self.every == 1 % self.every:
                    self.cuts += 1
                    wire.waits_for = self.when
                    if self.when is Cut.BEFORE_COMMIT:
                        break
            wire.up.write(data)
            await wire.up.drain()
        wire.cut()

    async def _down(self, wire, reader):
        while data := await reader.read(65_536):
            if wire.waits_for is Cut.BEFORE_ANSWER:
                break
            wire.down.write(data)
            await wire.down.drain()
            if wire.waits_for is Cut.AFTER_ANSWER:
                break
        wire.cut()


class _Wire:
    def __init__(self, down, up):
        self.down, self.up = down, up
        self.waits_for = None

    def cut(self):
        """Break it on both sides; what was written before still arrives."""
        self.down.close()
        self.up.close()


@asynccontextmanager
async def cut_wire(host, port):
    """Stand between a client and PostgreSQL at *host* and *port*; gives the cutter and the port to connect to."""
    cutter = WireCutter(host, port)
    tasks = set()

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        await cutter._wire(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield cutter, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for wire in list(cutter._wires):
            wire.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
