"""Stream the simulated venues' books over WebSocket: each channel is worked out once a step, for all its readers.

A channel's changes go from what its readers were last told to the book of the market's latest step.  A step in which
nothing changed sends nothing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence

from aiohttp import web

from exchanges.simulator.blobs import Blobs
from exchanges.simulator.connections import Connection, Frame
from exchanges.simulator.deltas import Shown, changes, shown
from exchanges.simulator.faults import Kind
from exchanges.simulator.market import Book
from exchanges.simulator.sent import Note
from exchanges.simulator.spoiling import Spoiling
from exchanges.simulator.venues import Active, Venues
from exchanges.simulator.wires.wire import Change, Channel, Moment, StreamWire, Subscribe, Unsubscribe

LOOK_S = 0.02
"""How often the clock is read, as it may be one that a test moves."""
_HEARTBEAT_MS = 1000
_GOING_AWAY = 1001


class Stream:
    """One channel of one venue."""

    def __init__(self, venues: Venues, blobs: Blobs, wire: StreamWire, channel: Channel) -> None:
        """Begin with the book as it is."""
        self._blobs = blobs
        self._spoiling = Spoiling()
        self._late: deque[tuple[int, Frame, Sequence[Connection]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.readers: dict[Connection, bool] = {}  # Whether each is to be told changes: it has its first book.
        self._venues, self._wire, self._channel = venues, wire, channel
        self._looked_ms = venues.elapsed_ms()
        book, self._moment = self._look()
        self._shown = shown(book)
        self._number = self._moment.sequence
        self._told_ms = venues.now_ms()

    def join(self, reader: Connection) -> None:
        """Tell *reader* all of the book, and all changes from now on."""
        if reader not in self.readers:
            self.readers[reader] = self._wire.begins_with_answer
            self.advance()

    def leave(self, reader: Connection) -> None:
        """Tell *reader* no more."""
        self.readers.pop(reader, None)

    def advance(self) -> None:
        """Tell the readers what has changed."""
        active = self._active()
        self.release()
        if active and active.name == "silence":
            return
        book, moment = self._look()
        now = shown(book)
        cut_at = self._channel.depth if self._wire.readers_cut else None
        bids, asks = changes(self._shown, now, cut_at, self._between())
        if bids or asks:
            self._tell(Change(bids, asks, book, self._moment, moment, self._number + 1), active)
        elif self._overdue():
            again = Moment(moment.time_ms, self._moment.sequence)
            self._tell(Change((), (), book, self._moment, again, self._number), active)
        self._shown = now
        self._greet()

    def release(self) -> None:
        """Send what was late for long enough, or all of it once nothing is to be late any more."""
        active = self._active()
        late = active is not None and active.name == "late"
        while self._late and (not late or self._late[0][0] <= self._venues.now_ms()):
            _, frame, readers = self._late.popleft()
            for reader in readers:
                reader.send(frame)

    def _active(self) -> Active | None:
        return self._venues.streamed(self._wire.name, self._channel.symbol)

    def _look(self) -> tuple[Book, Moment]:
        return self._venues.book(self._wire.name, self._channel.symbol, self._channel.depth, self._active())

    def _between(self) -> list[Shown]:
        """Give the books of steps that were not told but answered with: a reader may have begun with any of them."""
        since_ms, self._looked_ms = self._looked_ms, self._venues.elapsed_ms()
        if not self._wire.begins_with_answer:
            return []
        venue, channel, active = self._wire.name, self._channel, self._active()
        return [
            shown(self._venues.book(venue, channel.symbol, channel.depth, active, at_ms)[0])
            for at_ms in self._venues.answered(venue, channel.symbol)
            if since_ms < at_ms < self._looked_ms
        ]

    def _overdue(self) -> bool:
        after_ms = self._wire.repeats_after_ms(self._channel)
        return after_ms is not None and self._venues.now_ms() - self._told_ms >= after_ms

    def _greet(self) -> None:
        new = [reader for reader, met in self.readers.items() if not met]
        if not new:
            return
        book = self._shown.book
        first = Change(book.bids, book.asks, book, self._moment, self._moment, self._number, first=True)
        data = self._wire.message(self._channel, first)
        if data is not None:
            self._send(Frame(data, self._note(self._moment)), new)
        self.readers.update(dict.fromkeys(new, True))

    def _tell(self, change: Change, active: Active | None) -> None:
        self._moment, self._number, self._told_ms = change.moment, change.number, self._venues.now_ms()
        frames = self._spoiling.frames(self._wire, self._channel, change, active)
        readers = [reader for reader, met in self.readers.items() if met]
        if frames is None:
            task = asyncio.create_task(self._tell_at_length(change))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        for data, genuine in frames:
            self._send(Frame(data, self._note(genuine.moment) if genuine else None), readers)

    async def _tell_at_length(self, change: Change) -> None:
        frame = Frame(await self._blobs.message(self._wire.name, self._channel, change))
        self._send(frame, [reader for reader, met in self.readers.items() if met])

    def _send(self, frame: Frame, readers: Sequence[Connection]) -> None:
        active = self._active()
        if active is not None and active.name == "late":
            self._late.append((self._venues.now_ms() + active.options["delay_ms"], frame, readers))
            return
        for reader in readers:
            reader.send(frame)

    def _note(self, moment: Moment) -> Note:
        sequence = self._wire.sequence(moment)
        return Note(self._wire.name, self._channel.symbol, sequence, moment.time_ms, "stream")


class Streams:
    """All connections, and the channels that they are subscribed to."""

    def __init__(self, venues: Venues, blobs: Blobs) -> None:
        """Start with none."""
        self._venues, self._blobs = venues, blobs
        self._connections: dict[Connection, None] = {}
        self._streams: dict[tuple[str, Channel], Stream] = {}
        self._numbers = itertools.count(1)
        self._pump: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(self, request: web.Request, wire: StreamWire) -> web.StreamResponse:
        """Serve one WebSocket connection until it ends."""
        connection = Connection(wire, request, next(self._numbers), self._venues.now_ms)
        self._connections[connection] = None
        self._spare(connection, self._venues.streamed(wire.name))
        self._strike(connection)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._go_on())
        try:
            return await connection.run(self._hear, self._venues.sent)
        finally:
            for channel in connection.channels:
                self._leave(connection, channel)
            del self._connections[connection]

    def strike(self) -> None:
        """Do to all connections what faults of the line say, and let go what such a fault has held."""
        for connection in list(self._connections):
            self._strike(connection)

    async def end(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            if connection.mute:
                connection.cut()
        await asyncio.gather(*(connection.close(_GOING_AWAY) for connection in self._connections))
        if self._pump is not None:
            self._pump.cancel()

    def _hear(self, connection: Connection, text: str) -> None:
        for part in connection.wire.hear(text, connection.caller()):
            if isinstance(part, Subscribe):
                self._spare(connection, self._venues.streamed(connection.wire.name, part.channel.symbol))
                connection.channels.add(part.channel)
                self._stream(connection.wire, part.channel).join(connection)
            elif isinstance(part, Unsubscribe):
                connection.channels.discard(part.channel)
                self._leave(connection, part.channel)
            else:
                connection.send(Frame(part))

    def _stream(self, wire: StreamWire, channel: Channel) -> Stream:
        if (wire.name, channel) not in self._streams:
            self._streams[wire.name, channel] = Stream(self._venues, self._blobs, wire, channel)
        return self._streams[wire.name, channel]

    def _leave(self, connection: Connection, channel: Channel) -> None:
        key = connection.wire.name, channel
        if key in self._streams:
            self._streams[key].leave(connection)
            if not self._streams[key].readers:
                del self._streams[key]

    async def _go_on(self) -> None:
        step_ms = -1
        while self._connections:
            self.strike()
            if self._venues.elapsed_ms() != step_ms:
                step_ms = self._venues.elapsed_ms()
                for stream in list(self._streams.values()):
                    stream.advance()
                    await asyncio.sleep(0)  # So that what is ready goes out before the next is worked out.
            for stream in list(self._streams.values()):
                stream.release()
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

    def _spare(self, connection: Connection, active: Active | None) -> None:
        """Keep a connection that is new here from a fault that is done to those that there were."""
        if active is not None and active.name == "close":
            connection.struck = active

    def _strike(self, connection: Connection) -> None:
        """Do to a connection what a fault of its line says; cut it where one ends that kept it mute."""
        if connection.mute:
            if connection.struck is not None and connection.struck.ended.is_set():
                connection.cut()
            return
        for symbol in (None, *(channel.symbol for channel in connection.channels)):
            active = self._venues.streamed(connection.wire.name, symbol)
            if active is None or active.fault.kind is not Kind.LINE:
                continue
            if active.name in ("mute", "half_open"):
                connection.struck, connection.mute = active, True
                if active.name == "half_open":
                    connection.stop_reading()
            elif active.name == "storm" and self._venues.now_ms() - connection.made_ms >= self._life_ms(
                connection, active
            ):
                connection.cut()
            elif active.name == "close" and connection.struck is not active:
                connection.struck = active
                task = asyncio.create_task(connection.close(active.options["close_code"]))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _life_ms(self, connection: Connection, storm: Active) -> int:
        """Scatter the lives of connections over the time that a storm leaves them, the same each time."""
        within_ms = storm.options["within_ms"]
        return connection.number * 7919 % within_ms if within_ms else 0
