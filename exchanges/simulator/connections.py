"""Hold one WebSocket connection of a simulated venue: what it is sent goes through a queue of bounded length.

Whoever does not read is cut off, as venues do, before what waits for it costs memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from exchanges.simulator.sent import Note, SentLog
from exchanges.simulator.venues import Active
from exchanges.simulator.wires.wire import Caller, Channel, StreamWire

QUEUED_MAX = 256
QUEUED_BYTES_MAX = 16 * 1024 * 1024
"""So many frames, and so many bytes of them, wait for a reader; with more it is cut off."""
MESSAGE_BYTES_MAX = 64 * 1024
_CLOSE_WITHIN_S = 1.0


@dataclass(slots=True)
class Frame:
    """One text frame on its way to all readers of a stream; what it tells is noted when it is first sent."""

    data: bytes
    note: Note | None = None


class Connection:
    """
    One client of one venue.

    Attributes:
        channels: What it is subscribed to.
        made_ms: When it was made, by the venues' clock.
        sent_ms: When it was last sent anything.
        mute: Whether it sends nothing and leaves unheard what it reads.
        struck: The fault of the line that has been done to it last.
    """

    def __init__(self, wire: StreamWire, request: web.Request, number: int, now_ms: Callable[[], int]) -> None:
        """Take a connection whose handshake is still to be answered: see `run`."""
        self.wire = wire
        self.number = number
        self.channels: set[Channel] = set()
        self.made_ms = self.sent_ms = self.pinged_ms = now_ms()
        self.mute = False
        self.struck: Active | None = None
        self._now_ms = now_ms
        self._request = request
        # The sizes of frames are what a reader of the wire counts, so nothing is deflated.
        self._socket = web.WebSocketResponse(
            timeout=_CLOSE_WITHIN_S, autoclose=False, autoping=False, compress=False, max_msg_size=MESSAGE_BYTES_MAX
        )
        self._queue: asyncio.Queue[Frame] = asyncio.Queue(QUEUED_MAX)
        self._queued_bytes = 0
        self._cut = asyncio.Event()

    def caller(self) -> Caller:
        """Say who it is, to the venue's wire."""
        return Caller(self.number, frozenset(self.channels), self._now_ms())

    def send(self, frame: Frame) -> None:
        """Send a frame after those that wait; cut the connection if too many do."""
        if self.mute:
            return
        self._queued_bytes += len(frame.data)
        if self._queue.full() or self._queued_bytes > QUEUED_BYTES_MAX:
            self.cut()
        else:
            self._queue.put_nowait(frame)

    def cut(self) -> None:
        """Drop the connection at once, without a word."""
        self._cut.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    def stop_reading(self) -> None:
        """Leave what the client sends where it is."""
        if self._request.transport is not None:
            self._request.transport.pause_reading()

    async def close(self, code: int) -> None:
        """Close properly, with *code*."""
        with contextlib.suppress(ConnectionError):
            await self._socket.close(code=code)

    async def ping(self) -> None:
        """Send a ping frame."""
        self.pinged_ms = self._now_ms()
        with contextlib.suppress(ConnectionError):
            await self._socket.ping()

    async def run(self, hear: Callable[[Connection, str], None], sent: SentLog) -> web.WebSocketResponse:
        """Answer the handshake, then hear and send until either side ends it."""
        await self._socket.prepare(self._request)
        for data in self.wire.greeting(self.caller()):
            self.send(Frame(data))
        writing = asyncio.create_task(self._write(sent))
        try:
            await self._read(hear)
        finally:
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writing
        return self._socket

    async def _read(self, hear: Callable[[Connection, str], None]) -> None:
        async for message in self._socket:
            if self.mute:
                continue
            if message.type is WSMsgType.TEXT:
                hear(self, message.data)
            elif message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError):
                    await self._socket.pong(message.data)
        if self.mute:
            await self._cut.wait()  # The client has said goodbye, and is not answered either.

    async def _write(self, sent: SentLog) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                frame = await self._queue.get()
                self._queued_bytes -= len(frame.data)
                if self.mute:
                    continue
                if frame.note is not None:
                    sent.add(frame.note)
                    frame.note = None
                self.sent_ms = self._now_ms()
                await self._socket.send_frame(frame.data, WSMsgType.TEXT)
