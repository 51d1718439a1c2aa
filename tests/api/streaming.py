"""A client of a stream, for tests."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.api.conftest import check_problem_body

WITHIN_S = 10


@dataclass
class Stream:
    """One open stream, and all that was heard on it."""

    connection: aiohttp.ClientWebSocketResponse
    heard: list[dict] = field(default_factory=list)

    async def say(self, **message):
        await self.connection.send_str(json.dumps(message))

    async def hear(self):
        """Give the next frame, held to the contract."""
        async with asyncio.timeout(WITHIN_S):
            frame = json.loads(await self.connection.receive_str())
        self.heard.append(frame)
        if "error" in frame:
            check_problem_body(frame["error"])
        return frame

    async def until(self, wanted):
        """Give the first frame from now on of which *wanted* holds."""
        while not wanted(frame := await self.hear()):
            pass
        return frame

    async def ask(self, **message):
        """Send a message, and give the answer to it."""
        await self.say(**message)
        return await self.until(lambda frame: "channel" not in frame or "op" in frame)

    async def subscribe(self, **wanted):
        """Subscribe, and be sure of it."""
        answer = await self.ask(op="subscribe", **wanted)
        assert "subscribed" == answer.get("op"), answer

    async def closed(self):
        """Hear on until the end; give the code that it was closed with."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                message = await self.connection.receive()
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING):
                    return self.connection.close_code
                self.heard.append(json.loads(message.data))


@asynccontextmanager
async def streaming(house, *, key="all", headers=None, **options):
    """Open a stream with one of the house's keys in its header, or with None."""
    sent = dict(headers or {})
    if key is not None:
        sent["X-API-Key"] = house.keys[key]
    async with house.client.ws_connect("/v1/stream", headers=sent, **options) as connection:
        yield Stream(connection)


class Raw:
    """A client that writes and reads its own frames, and reads only when it is told to."""

    def __init__(self, reader, writer, head=b""):
        self.reader, self.writer, self.head = reader, writer, head

    async def frame(self, head, payload, mask=b"\x01\x02\x03\x04"):
        """Send one frame; *head* is its first byte."""
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0xFF]) + size.to_bytes(8, "big")
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.writer.write(bytes([head]) + length + mask + masked)
        await self.writer.drain()

    async def say(self, **message):
        await self.frame(0x81, json.dumps(message).encode())

    async def hear(self):
        """Give the next frame's first byte and payload; nothing is answered, no ping and no close."""
        async with asyncio.timeout(WITHIN_S):
            head, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return head, await self.reader.readexactly(size)

    async def values(self):
        """Read on to the end; give the frames that were whole."""
        frames = []
        try:
            while (heard := await self.hear())[0] != 0x88:
                if heard[0] == 0x81:
                    frames.append(json.loads(heard[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        return frames


@asynccontextmanager
async def raw_stream(house, *, key="all", room=4_096):
    """Open a stream as a client that holds *room* bytes unread at most."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (house.client.host, house.client.port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=room)
        try:
            writer.write(
                f"GET /v1/stream HTTP/1.1\r\nHost: desk\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"X-API-Key: {house.keys[key]}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            yield Raw(reader, writer, head)
        finally:
            writer.close()


async def eventually(condition):
    """Wait until a condition holds."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110 - what it is about tells nobody
            await asyncio.sleep(0.01)
