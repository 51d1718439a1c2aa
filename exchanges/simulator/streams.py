"""Stream the simulated venues' books over WebSocket: each channel is worked out once a step, for all its readers.

A channel's changes go from what its readers were last told to the book of the market's latest step.  A step in which
nothing changed sends nothing.
"""

from __future__ import annotations

import asyncio
import itertools

from aiohttp import web

from exchanges.simulator.connections import Connection, Frame
from exchanges.simulator.deltas import changes, shown
from exchanges.simulator.market import Book
from exchanges.simulator.sent import Note
from exchanges.simulator.venues import Venues
from exchanges.simulator.wires.wire import Change, Channel, Moment, StreamWire, Subscribe, Unsubscribe

LOOK_S = 0.02
"""How often the clock is read, as it may be one that a test moves."""
_HEARTBEAT_MS = 1000


class Stream:
    """One channel of one venue."""

    def __init__(self, venues: Venues, wire: StreamWire, channel: Channel) -> None:
        """Begin with the book as it is."""
        self.readers: dict[Connection, bool] = {}  # Whether each has had its first message.
        self._venues, self._wire, self._channel = venues, wire, channel
        book, self._moment = self._look()
        self._shown = shown(book)
        self._number = self._moment.sequence
        self._told_ms = venues.now_ms()

    def join(self, reader: Connection) -> None:
        """Tell *reader* all of the book, and all changes from now on."""
        if reader in self.readers:
            return
        self.readers[reader] = False
        self.advance()
        self._greet()

    def leave(self, reader: Connection) -> None:
        """Tell *reader* no more."""
        self.readers.pop(reader, None)

    def advance(self) -> None:
        """Tell the readers what has changed."""
        book, moment = self._look()
        now = shown(book)
        cut_at = self._channel.depth if self._wire.readers_cut else None
        bids, asks = changes(self._shown, now, cut_at)
        if bids or asks or self._overdue():
            change = Change(bids, asks, book, self._moment, moment, self._number + 1)
            self._shown, self._moment, self._number = now, moment, self._number + 1
            self._told_ms = self._venues.now_ms()
            self._tell(change)

    def _look(self) -> tuple[Book, Moment]:
        active = self._venues.streamed(self._wire.name, self._channel.symbol)
        return self._venues.book(self._wire.name, self._channel.symbol, self._channel.depth, active)

    def _overdue(self) -> bool:
        after_ms = self._wire.repeats_after_ms(self._channel)
        return after_ms is not None and self._venues.now_ms() - self._told_ms >= after_ms

    def _greet(self) -> None:
        book = self._shown.book
        first = Change(book.bids, book.asks, book, self._moment, self._moment, self._number, first=True)
        data = self._wire.message(self._channel, first)
        for reader, met in self.readers.items():
            if not met:
                self.readers[reader] = True
                if data is not None:
                    reader.send(Frame(data, self._note(self._moment)))

    def _tell(self, change: Change) -> None:
        data = self._wire.message(self._channel, change)
        if data is not None:
            frame = Frame(data, self._note(change.moment))
            for reader, met in self.readers.items():
                if met:
                    reader.send(frame)

    def _note(self, moment: Moment) -> Note:
        sequence = self._wire.sequence(moment)
        return Note(self._wire.name, self._channel.symbol, sequence, moment.time_ms, "stream")


class Streams:
    """All connections, and the channels that they are subscribed to."""

    def __init__(self, venues: Venues) -> None:
        """Start with none."""
        self._venues = venues
        self._connections: dict[Connection, None] = {}
        self._streams: dict[tuple[str, Channel], Stream] = {}
        self._numbers = itertools.count(1)
        self._pump: asyncio.Task[None] | None = None
        self._told_ms = -1

    async def connect(self, request: web.Request, wire: StreamWire) -> web.StreamResponse:
        """Serve one WebSocket connection until it ends."""
        connection = Connection(wire, request, next(self._numbers), self._venues.now_ms)
        self._connections[connection] = None
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._go_on())
        try:
            return await connection.run(self._hear, self._venues.sent)
        finally:
            for channel in connection.channels:
                self._leave(connection, channel)
            del self._connections[connection]

    async def end(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(connection.close(1001) for connection in list(self._connections)))
        if self._pump is not None:
            self._pump.cancel()

    def _hear(self, connection: Connection, text: str) -> None:
        for part in connection.wire.hear(text, connection.caller()):
            if isinstance(part, Subscribe):
                key = connection.wire.name, part.channel
                if key not in self._streams:
                    self._streams[key] = Stream(self._venues, connection.wire, part.channel)
                connection.channels.add(part.channel)
                self._streams[key].join(connection)
            elif isinstance(part, Unsubscribe):
                connection.channels.discard(part.channel)
                self._leave(connection, part.channel)
            else:
                connection.send(Frame(part))

    def _leave(self, connection: Connection, channel: Channel) -> None:
        key = connection.wire.name, channel
        if key in self._streams:
            self._streams[key].leave(connection)
            if not self._streams[key].readers:
                del self._streams[key]

    async def _go_on(self) -> None:
        step_ms = -1
        while self._connections:
            if self._venues.elapsed_ms() != step_ms:
                step_ms = self._venues.elapsed_ms()
                for stream in list(self._streams.values()):
                    stream.advance()
                    await asyncio.sleep(0)  # So that what is ready goes out before the next is worked out.
            for connection in list(self._connections):
                await self._keep_alive(connection)
            await asyncio.sleep(min(LOOK_S, self._venues.next_step_s()))

    async def _keep_alive(self, connection: Connection) -> None:
        now_ms, wire = self._venues.now_ms(), connection.wire
        if wire.keeps_alive and connection.channels and now_ms - connection.sent_ms >= _HEARTBEAT_MS:
            connection.sent_ms = now_ms
            connection.send(Frame(wire.keeps_alive))
        if wire.pings_every_ms and now_ms - connection.pinged_ms >= wire.pings_every_ms:
            await connection.ping()
