"""Raw WebSocket frames as an attacker sends them: each ends its stream with the code it ought to, or is refused."""

from __future__ import annotations

import asyncio
import json
import struct

import pytest

from tests.api.test_connections import wire
from tests.api.test_hostile_requests import ALIVE, CANARY, get

STREAM = b"/v1/stream"
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
NONCE = b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="
TEXT, BINARY, CLOSE, PING = 0x1, 0x2, 0x8, 0x9
FINAL = 0x80
PROTOCOL, UNSUPPORTED, NOT_TEXT, TOO_LARGE = 1002, 1003, 1007, 1009
REFUSED = "refused"
"""An answer that says what was wrong; the stream goes on."""


def frame(opcode, payload=b"", *, first=FINAL, mask=b"abcd", length=None):
    """
    Make a frame.

    Args:
        first: Bits beside the opcode.
        mask: None sends it as a server would.
        length: What it says of its length: the second byte and whatever follows, without the mask's bit.
    """
    if length is None:
        size = len(payload)
        if size < 126:
            length = bytes([size])
        else:
            length = b"\x7e" + struct.pack("!H", size) if size < 65_536 else b"\x7f" + struct.pack("!Q", size)
    if mask is None:
        return bytes([first | opcode]) + length + payload
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([first | opcode, length[0] | 0x80]) + length[1:] + mask + masked


FRAMES = {
    # How a frame is made.
    # Masks are for proxies on the way, which a stream that came here has passed; aiohttp does not insist on them.
    "no mask": (frame(TEXT, b"{}", mask=None), REFUSED),
    "the first reserved bit": (frame(TEXT, b"{}", first=FINAL | 0x40), PROTOCOL),
    "the second reserved bit": (frame(TEXT, b"{}", first=FINAL | 0x20), PROTOCOL),
    "the third reserved bit": (frame(TEXT, b"{}", first=FINAL | 0x10), PROTOCOL),
    "all reserved bits": (frame(TEXT, b"{}", first=FINAL | 0x70), PROTOCOL),
    "a kind that is none": (frame(0x3, b"{}"), PROTOCOL),
    "a kind of control that is none": (frame(0xB, b"{}"), PROTOCOL),
    "the last kind": (frame(0xF), PROTOCOL),
    "no frame": (b"\xff" * 64, PROTOCOL),
    "HTTP": (ALIVE, PROTOCOL),
    # Control frames.
    "half a ping": (frame(PING, b"a", first=0), PROTOCOL),
    "half a close": (frame(CLOSE, b"\x03\xe8", first=0), PROTOCOL),
    "a ping of 126 bytes": (frame(PING, b"a" * 126), PROTOCOL),
    "a ping of 64 KiB": (frame(PING, b"a" * 65_536), PROTOCOL),
    "a close of one byte": (frame(CLOSE, b"\x03"), PROTOCOL),
    "a close of 130 bytes": (frame(CLOSE, b"\x03\xe8" + b"a" * 128), PROTOCOL),
    "a close with a code that is never sent": (frame(CLOSE, struct.pack("!H", 1005)), PROTOCOL),
    "a close with a code of nobody": (frame(CLOSE, struct.pack("!H", 999)), PROTOCOL),
    "a close whose reason is no text": (frame(CLOSE, b"\x03\xe8\xff\xfe"), NOT_TEXT),
    # Messages in parts.
    "the rest of nothing": (frame(0, b"{}"), PROTOCOL),
    "a message within another": (frame(TEXT, b"{", first=0) + frame(TEXT, b"}"), PROTOCOL),
    "parts of another kind": (frame(TEXT, b"{", first=0) + frame(BINARY, b"}"), PROTOCOL),
    "parts that come to too much": (frame(TEXT, b" " * 40_000, first=0) + frame(0, b" " * 40_000, first=0), TOO_LARGE),
    "parts without end": (frame(TEXT, first=0) + frame(0, b" " * 700, first=0) * 100, TOO_LARGE),
    # Lengths.
    "more than 64 KiB": (frame(TEXT, b" " * 65_537), TOO_LARGE),
    "2 GiB, it says": (frame(TEXT, length=b"\x7f" + struct.pack("!Q", 2**31)), TOO_LARGE),
    "8 EiB, it says": (frame(TEXT, length=b"\x7f" + struct.pack("!Q", 2**63 - 1)), TOO_LARGE),
    "a negative length": (frame(TEXT, length=b"\x7f" + struct.pack("!Q", 2**64 - 1)), TOO_LARGE),
    # What they say.
    "not UTF-8": (frame(TEXT, b'{"op": "\xff"}'), NOT_TEXT),
    "half a surrogate": (frame(TEXT, b"\xed\xa0\x80"), NOT_TEXT),
    "bytes": (frame(BINARY, b"{}"), UNSUPPORTED),
    "no JSON": (frame(TEXT, CANARY), REFUSED),
    "nothing": (frame(TEXT), REFUSED),
    "a list": (frame(TEXT, b"[]"), REFUSED),
    "60,000 brackets": (frame(TEXT, b"[" * 60_000), REFUSED),
    "an order to do nothing": (frame(TEXT, b"{}"), REFUSED),
    "an op that nobody knows": (frame(TEXT, json.dumps({"op": CANARY.decode()}).encode()), REFUSED),
    "a field twice": (frame(TEXT, b'{"op": "ping", "op": "auth"}'), REFUSED),
    "not a number": (frame(TEXT, b'{"op": "subscribe", "channel": "book", "depth": NaN}'), REFUSED),
    "a mask of nothing": (frame(TEXT, b"{}", mask=b"\0\0\0\0"), REFUSED),
    "an empty beginning": (frame(TEXT, first=0) + frame(0, b"{}"), REFUSED),
    "a ping within a message": (frame(TEXT, b"{", first=0) + frame(PING, CANARY[:0]) + frame(0, b"}"), REFUSED),
}  # fmt: skip
HANDSHAKES = {
    "an old version": (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 6", NONCE),
    "no version": (b"Connection: Upgrade", b"Upgrade: websocket", NONCE),
    "no nonce": UPGRADE,
    "a nonce that is none": (*UPGRADE, b"Sec-WebSocket-Key: " + CANARY),
    "no upgrade": (b"Sec-WebSocket-Version: 13", NONCE),
    "another protocol within": (*UPGRADE, NONCE, b"Sec-WebSocket-Protocol: " + CANARY),
}


@pytest.fixture(autouse=True)
def streams(house):
    """Skip where there are no streams."""
    if STREAM.decode() not in {getattr(route.resource, "canonical", "") for route in house.app.router.routes()}:
        pytest.skip("there are no streams")


async def frames_of(client):
    """Read frames until the end; gives them as opcode and payload."""
    data, found = await client.rest(), []
    while len(data) >= 2:
        opcode, length = data[0] & 15, data[1]
        at = 2
        if length == 126:
            length, at = struct.unpack("!H", data[2:4])[0], 4
        elif length == 127:
            length, at = struct.unpack("!Q", data[2:10])[0], 10
        found.append((opcode, data[at : at + length]))
        data = data[at + length :]
    return found


async def heard(house, sent, *, closing):
    """Open a stream and send *sent*, then a close; gives the code that it was closed with and what was said."""
    async with wire(house) as client:
        client.send(get(STREAM, *UPGRADE, NONCE).replace(b"{key}", house.keys["all"].encode()))
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"\r\nserver:" not in head.lower()
        client.send(sent)
        if closing:
            client.send(frame(CLOSE, struct.pack("!H", 1000)))
        came = await frames_of(client)
    closed = [struct.unpack("!H", payload[:2])[0] for opcode, payload in came if opcode == CLOSE]
    texts = [payload for opcode, payload in came if opcode == TEXT]
    return closed, texts


async def test_hostile_frames_end_their_streams(house):
    """
    A frame that breaks the protocol ends its stream with the protocol's code; a message that is none is refused.
    """
    wrong, gate = {}, asyncio.Semaphore(8)

    async def hold(name, sent, expected):
        async with gate:
            closed, texts = await heard(house, sent, closing=expected == REFUSED)
        refused = [text for text in texts if "error" in json.loads(text)]
        seen = REFUSED if closed == [1000] and len(refused) == 1 else closed
        if seen != (REFUSED if expected == REFUSED else [expected]):
            wrong[name] = seen
        if any(CANARY in text for text in texts):
            wrong[f"{name}, repeated"] = texts

    await asyncio.gather(*(hold(name, *row) for name, row in FRAMES.items()))
    assert not wrong, "\n".join(f"{name}: {seen}" for name, seen in wrong.items())
    assert CANARY not in house.log.getvalue()
    assert [] == [line for line in house.lines() if line["level"] in ("error", "critical")]
    assert 200 == (await house.get("/healthz", key=None)).status


@pytest.mark.parametrize("lines", HANDSHAKES.values(), ids=HANDSHAKES)
async def test_handshake_that_is_none_is_refused(house, lines):
    """
    What does not ask for a stream as the protocol says gets a problem like any other.
    """
    reply = await house.wire(get(STREAM, *lines).replace(b"{key}", house.keys["all"].encode()))
    assert (400, "malformed_request") == (reply.status, reply.code)
    assert CANARY not in reply.body + repr(reply.headers).encode() + house.log.getvalue()
