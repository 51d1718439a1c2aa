"""One client of a stream: what waits for it, and whether it reads.

Between a topic and a client stands the latest value of each subscription, never a queue; executions alone are queued,
up to a bound.  What is written stands whole in the transport's buffer, and nothing is written while that is full.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import deque
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from service.api.stream_messages import Refusal, Value, value_frame
from service.api.stream_topics import Topic
from service.keys import Principal

PING_EVERY_S = 15.0
READ_WITHIN_S = 10.0
"""A client that shows for so long no sign of reading, while something waits for it or a ping is out, is closed."""
CLOSE_WITHIN_S = 2.0
"""How long a client has to answer that it is closed."""
_LOOK_AGAIN_S = 0.02
WRITTEN_MAX_BYTES = 64 * 1024
"""What may stand in the transport's buffer before no further frame is begun; the kernel is given as much again."""
WAITING_MAX = 500
WAITING_MAX_BYTES = 256 * 1024
"""Executions that may wait for a client, all of its subscriptions together."""
REPLIES_MAX = 32
"""Answers to its messages that may wait for a client before no further message is read."""

_PING_BYTES = 8
_TEXT, _PING, _PONG = 0x81, 0x89, 0x8A
"""How whole frames begin."""
GOING_AWAY, UNSUPPORTED, POLICY, TRY_LATER = 1001, 1003, 1008, 1013


SubscriptionKey = tuple[str, str | None, str | None]
"""Channel, symbol and the client's own name."""


class Subscription:
    """One client's part in a topic."""

    def __init__(self, client: Client, topic: Topic, began: bytes) -> None:
        """Begin with the value after this one; *began* is how its frames begin."""
        self.client = client
        self.topic = topic
        self._began = began
        self._number = 0
        self._waiting: deque[tuple[int, Value]] = deque()
        self._missed = 0

    def offer(self, value: Value) -> None:
        """Have the client told of a value, in place of the one that waits; executions wait in a row."""
        client = self.client
        self._number += 1
        if not self.topic.executions:
            client.skipped += len(self._waiting)
            self._waiting.clear()
        else:
            size = len(value) if isinstance(value, bytes) else 0
            if client.queued + 1 > WAITING_MAX or client.queued_bytes + size > WAITING_MAX_BYTES:
                self.miss(1)
                return
            client.queued, client.queued_bytes = client.queued + 1, client.queued_bytes + size
        self._waiting.append((self._number, value))
        client.ready(self)

    def miss(self, count: int) -> None:
        """Have the client told that it is not told of all: *count* more, and whatever waits for it."""
        missed = count + len(self._waiting)
        self.forget()
        self._missed += missed
        self.client.skipped += missed
        self.client.ready(self)

    def forget(self) -> None:
        """Let go of what waits."""
        if self.topic.executions:
            self.client.queued -= len(self._waiting)
            self.client.queued_bytes -= sum(len(value) for _, value in self._waiting if isinstance(value, bytes))
        self._waiting.clear()

    def take(self, request_id: str) -> bytes:
        """Give the frame whose turn it is."""
        if self._missed:
            number = self._number - len(self._waiting)
            value: Value = Refusal(
                "overloaded",
                "executions were left out here, since too many waited to be read: GET /v1/executions lists them",
                extra={"missed": self._missed},
            )
            self._missed = 0
        else:
            number, value = self._waiting.popleft()
            if self.topic.executions:
                self.client.queued -= 1
                self.client.queued_bytes -= len(value) if isinstance(value, bytes) else 0
        return value_frame(self._began, number, value, request_id)

    @property
    def waits(self) -> bool:
        """Tell whether there is more to tell."""
        return bool(self._waiting or self._missed)


class Client:
    """A connection, from its handshake to its end."""

    def __init__(self, request: web.Request, writer: AbstractStreamWriter, request_id: str) -> None:
        """Take over a connection that speaks WebSocket; *writer* waits until it may be written to again."""
        if request.transport is None:
            raise ConnectionResetError("it is gone already")
        self.request_id: Final = request_id
        self.principal: Principal | None = None
        self.subscriptions: dict[SubscriptionKey, Subscription] = {}
        self.sent = self.skipped = self.queued = self.queued_bytes = 0
        self.ending: tuple[int, str] | None = None
        self.until: asyncio.Timeout | None = None
        """Ends what the client is being heard by."""
        self._loop = asyncio.get_running_loop()
        self.opened_at = self._loop.time()
        self._transport, self._protocol, self._writer = request.transport, request.protocol, writer
        self._replies: deque[bytes] = deque()
        self._ready: dict[Subscription, None] = {}
        self._room = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._pinged_at = self.opened_at
        self._ping: bytes | None = None
        """What the ping says that is out."""
        self._read_at = self.opened_at
        self._blocked_at: float | None = None
        self._written = self._unsent = self._gone = 0
        self._transport.set_write_buffer_limits(high=WRITTEN_MAX_BYTES)
        if (connection := self._transport.get_extra_info("socket")) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WRITTEN_MAX_BYTES)

    # Writing

    def reply(self, frame: bytes) -> None:
        """Answer a message."""
        self._replies.append(frame)
        self._flush()

    async def room(self) -> None:
        """Wait while too many answers are not read."""
        while len(self._replies) > REPLIES_MAX and self.ending is None:
            self._room.clear()
            await self._room.wait()

    def pong(self, payload: bytes) -> None:
        """Answer a ping, unless the client does not read."""
        if not self._protocol.writing_paused and self.ending is None:
            self._write(_PONG, payload)

    def ready(self, subscription: Subscription) -> None:
        """Let a subscription that has something to tell have its turn."""
        self._ready[subscription] = None
        self._flush()

    def drop(self, subscription: Subscription) -> None:
        """Tell nothing more of a subscription."""
        subscription.forget()
        self._ready.pop(subscription, None)

    def _flush(self) -> None:
        """Write what waits, answers first, then each subscription in its turn, as far as there is room."""
        while self.ending is None and not self._transport.is_closing():
            if not self._replies and not self._ready:
                return
            if self._protocol.writing_paused:
                self._wait_for_room()
                return
            if self._replies:
                self._write(_TEXT, self._replies.popleft())
                self._room.set()
                continue
            subscription = next(iter(self._ready))
            del self._ready[subscription]
            self._write(_TEXT, subscription.take(self.request_id))
            self.sent += 1
            if subscription.waits:
                self._ready[subscription] = None

    def _write(self, head: int, payload: bytes) -> None:
        """Write one whole frame; aiohttp's own way is a coroutine, and this is done for every client of a topic."""
        size = len(payload)
        if size < 126:
            header = bytes((head, size))
        elif size < 65_536:
            header = bytes((head, 126)) + size.to_bytes(2, "big")
        else:
            header = bytes((head, 127)) + size.to_bytes(8, "big")
        if not self._transport.is_closing():
            self._transport.write(header + payload)
            self._written += len(header) + size

    def _wait_for_room(self) -> None:
        if self._draining is None:
            self._blocked_at = self._loop.time()
            self._draining = asyncio.create_task(self._drain(), name="stream drain")

    async def _drain(self) -> None:
        """Write again as soon as there is room."""
        try:
            while self._protocol.writing_paused and not self._transport.is_closing():
                await self._writer.drain()
        except ConnectionError:
            pass  # Whoever hears the client finds out.
        self._draining, self._blocked_at = None, None
        self._read_at = self._loop.time()
        self._flush()

    # Reading

    def ponged(self, payload: bytes) -> None:
        """Take note that the client has read what was written before the ping, if it knows what that said."""
        if payload == self._ping:
            self._ping = None
            self._read_at = self._loop.time()

    def look_after(self) -> None:
        """Ping, and close a client that does not read; to be called every now and then."""
        if self.ending is not None:
            return
        now = self._loop.time()
        before, self._unsent = self._unsent, self._transport.get_write_buffer_size()
        gone, self._gone = self._gone, self._written - self._unsent
        if before and self._gone > gone:  # The kernel was full, so it has made room by handing some of it over.
            self._read_at = now
        waiting = [at for at in (self._blocked_at, self._pinged_at if self._ping else None) if at is not None]
        if waiting and now - max(self._read_at, min(waiting)) >= READ_WITHIN_S:
            self.end(TRY_LATER, "nothing was read for too long")
        elif not self._ping and now - self._pinged_at >= PING_EVERY_S:
            self._pinged_at, self._ping = now, secrets.token_bytes(_PING_BYTES)
            self._write(_PING, self._ping)

    # The end

    def end(self, code: int, reason: str) -> None:
        """Close the connection; what waits is let go."""
        if self.ending is not None:
            return
        self.ending = (code, reason)
        self._ready.clear()
        self._replies.clear()
        self._room.set()
        if self.until is not None and not self.until.expired():
            self.until.reschedule(self._loop.time())

    async def close(self, connection: web.WebSocketResponse) -> None:
        """Say why it is closed and wait for the answer, for a while; then let go of the connection."""
        code, reason = self.ending or (1000, "")
        self.ending = (code, reason)
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await connection.close(code=code, message=reason.encode(), drain=False)
                while self._transport.get_write_buffer_size():  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(_LOOK_AGAIN_S)
        except TimeoutError:
            pass
        finally:
            if not self._transport.is_closing() or self._transport.get_write_buffer_size():
                self._transport.abort()
        if self._draining is not None:
            await asyncio.wait({self._draining}, timeout=CLOSE_WITHIN_S)
