"""What a connection may take of the service: time, bytes, and its place among others."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager

import pytest

from service.api.connection import (
    ANSWER_WITHIN_S,
    BODY_WITHIN_S,
    HEAD_MAX_BYTES,
    HEAD_WITHIN_S,
    HEADERS_MAX,
    KEPT_ALIVE_S,
    LINE_MAX_BYTES,
    PIPELINED_MAX,
)
from service.api.server import _UNREAD_S

IN_TIME_S, LATE_S = -0.5, 0.5
"""Before and after a limit: far enough for a slow machine."""
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
"""Asks a route for another protocol that speaks none."""
MUCH = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200
"""More to answer than all buffers on the way hold."""


class Wire:
    """A client's end of a connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data):
        self.writer.write(data)

    async def answer(self):
        """Give the next answer: its status, headers in lower case, and body."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("ascii")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(first.split()[1]), headers, body

    async def rest(self):
        """Give all that comes before the connection ends."""
        parts = []
        async with asyncio.timeout(5):
            try:
                while part := await self.reader.read(65_536):
                    parts.append(part)
            except ConnectionError:
                pass
        return b"".join(parts)

    @property
    def ended(self):
        return self.reader.at_eof() or self.reader.exception() is not None


@asynccontextmanager
async def wire(house, *, limit=2**16):
    """Connect."""
    reader, writer = await asyncio.open_connection(house.client.host, house.client.port, limit=limit)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


async def until(true):
    """Wait for what is about to be true."""
    async with asyncio.timeout(5):
        while True:
            if true():
                return
            await asyncio.sleep(0)


def connected(house, number=1):
    return lambda: len(house.connections.ours) == number


def execute_head(house, length, *more):
    key = house.keys["all"].encode()
    lines = [b"POST /execute HTTP/1.1", b"Host: x", b"X-API-Key: " + key, b"Content-Type: application/json", *more]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length, b"", b""])


# Time


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"\r\n"])
async def test_head_that_does_not_come_is_not_waited_for(house, sent):
    """
    A client that does not finish its request's head, or never begins it, is cut in time and told nothing.
    """
    async with wire(house) as slow:
        slow.send(sent)
        await until(connected(house))
        await house.sweep(HEAD_WITHIN_S + IN_TIME_S)
        assert connected(house)()
        await house.sweep(HEAD_WITHIN_S + LATE_S)
        assert b"" == await slow.rest()
    [line] = house.lines()
    assert ("connections.cut", 1, 0, 0, 0) == tuple(
        line[key] for key in ("event", "heads", "bodies", "answers", "turned_away")
    )


async def test_head_that_comes_byte_by_byte_is_not_waited_for(house):
    """
    Each byte more does not win another ten seconds.
    """
    async with wire(house) as slow:
        slow.send(b"GET /hea")
        await until(lambda: [c._head_bytes for c, _ in house.connections.ours] == [8])
        began = house.connections.ours[0][0]._head_since
        slow.send(b"l")
        await until(lambda: [c._head_bytes for c, _ in house.connections.ours] == [9])
        assert began == house.connections.ours[0][0]._head_since
        await house.sweep(HEAD_WITHIN_S + LATE_S)
        assert b"" == await slow.rest()


async def test_body_that_never_ends_is_not_waited_for(house):
    """
    A body that stops coming is refused in time, with one line and no traceback, and the connection ends.
    """
    async with wire(house) as slow:
        slow.send(execute_head(house, 20) + b"{")
        await until(lambda: [c.under_way(0, 0) for c, _ in house.connections.ours] == [True])
        await house.sweep(BODY_WITHIN_S + IN_TIME_S)
        assert house.connections.ours[0][0].under_way(0, 0)
        await house.sweep(BODY_WITHIN_S + LATE_S)
        status, _, body = await slow.answer()
        assert (400, "malformed_request") == (status, json.loads(body)["code"])
        assert b"" == await slow.rest()
    assert [("malformed_request", "/execute")] == [(line["code"], line["route"]) for line in house.lines("request")]
    assert {"request", "connections.cut"} == {line["event"] for line in house.lines()}


async def test_body_that_nobody_reads_is_not_waited_for(house):
    """
    A body where none is wanted is answered at once, and its rest is given up in time.
    """
    async with wire(house) as slow:
        slow.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{")
        assert 200 == (await slow.answer())[0]
        await house.sweep(BODY_WITHIN_S + LATE_S)
        assert b"" == await slow.rest()


async def test_connection_that_owes_nothing_is_kept(house):
    """
    Between requests a connection may rest, also after a body that came in parts.
    """
    order = json.dumps({"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}).encode()
    async with wire(house) as idle:
        idle.send(execute_head(house, len(order)) + order[:9])
        await until(lambda: [c.under_way(0, 0) for c, _ in house.connections.ours] == [True])
        idle.send(order[9:])
        assert 201 == (await idle.answer())[0]
        await house.sweep(KEPT_ALIVE_S - 1)
        idle.send(ALIVE)
        assert 200 == (await idle.answer())[0]
    assert [] == house.lines("connections.cut")


@pytest.mark.parametrize("last", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
async def test_client_that_does_not_read_is_cut(house, last):
    """
    Whoever asks and does not take the answers holds them for ten seconds, and no longer.
    """
    async with wire(house, limit=1) as deaf:
        deaf.send(MUCH + last)
        await until(lambda: [c.unread for c, _ in house.connections.ours] == [True])
        await house.sweep(ANSWER_WITHIN_S + IN_TIME_S)
        assert connected(house)()
        await house.sweep(ANSWER_WITHIN_S + LATE_S)
        await until(connected(house, 0))
    assert 1 == house.lines("connections.cut")[-1]["answers"]


async def test_many_are_cut_a_few_at_a_time(house):
    """
    Whoever asks while many are cut is answered in between.
    """
    wires = [await asyncio.open_connection(house.client.host, house.client.port) for _ in range(60)]
    for _, writer in wires:
        writer.write(execute_head(house, 20))
    await until(lambda: sum(c.under_way(0, 0) for c, _ in house.connections.ours) == 60)
    sweep = asyncio.create_task(house.sweep(BODY_WITHIN_S + LATE_S))
    await house.get("/healthz", key=None)
    first = next(number for number, line in enumerate(house.lines("request")) if line["route"] == "/healthz")
    await sweep
    await until(lambda: len(house.lines("request")) == 61)
    assert first < 50
    for _, writer in wires:
        writer.transport.abort()


# Bytes


LONG = {
    "target": b"GET /quote?symbol=" + b"a" * (LINE_MAX_BYTES + 1) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "header": b"GET /quote HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"a" * (LINE_MAX_BYTES + 1) + b"\r\n\r\n",
    "name": b"GET /quote HTTP/1.1\r\nHost: x\r\n" + b"a" * (LINE_MAX_BYTES + 1) + b": 1\r\n\r\n",
    "headers": b"GET /quote HTTP/1.1\r\nHost: x\r\n" + b"a: 1\r\n" * HEADERS_MAX + b"\r\n",
    "head": b"GET /quote HTTP/1.1\r\nHost: x\r\n" + (b"a: " + b"b" * 4_000 + b"\r\n") * 9 + b"\r\n",
}


@pytest.mark.parametrize("data", LONG.values(), ids=LONG)
@pytest.mark.parametrize("parts", [1, 5])
async def test_head_that_is_too_large_is_refused(house, data, parts):
    """
    Too much in a head is refused, however it comes.
    """
    async with wire(house) as large:
        size = len(data) // parts + 1
        for at in range(0, len(data), size):
            large.send(data[at : at + size])
            await asyncio.sleep(0)
        status, _, body = await large.answer()
        assert (400, "malformed_request") == (status, json.loads(body)["code"])


async def test_head_within_all_bounds_is_read(house):
    """
    The bounds themselves are allowed.
    """
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"a: 1\r\n" * (HEADERS_MAX - 5)
    for _ in range(3):
        head += b"b: " + b"b" * (LINE_MAX_BYTES - 1) + b"\r\n"
    rest = HEAD_MAX_BYTES - len(head) - 100
    head += b"b: " + b"c" * rest + b"\r\n\r\n"
    async with wire(house) as large:
        large.send(head)
        assert 200 == (await large.answer())[0]


async def test_head_that_never_ends_is_not_kept(house):
    """
    A head is refused at its bound, not when it ends.
    """
    async with wire(house) as endless:
        endless.send(b"GET /quote HTTP/1.1\r\nHost: x\r\n" + (b"a: " + b"b" * 4_000 + b"\r\n") * 9)
        status, _, _ = await endless.answer()
        assert (400, b"") == (status, await endless.rest())


HEAD_BEGINS = b"GET / HTTP/1.1\r\nHost: x\r\n"
LINES = (b"a: " + b"b" * 4_000 + b"\r\n") * 40


@pytest.mark.parametrize("before", [ALIVE, ALIVE * 40, UPGRADE], ids=["one", "many", "upgrade"])
async def test_head_that_begins_behind_another_request_is_bounded_too(house, before):
    """
    It is refused at its bound even if it has come in one with what is before it.
    """
    async with wire(house) as client:
        await until(lambda: [c._waiter is not None for c, _ in house.connections.ours] == [True])
        house.connections.ours[0][0].data_received(before + HEAD_BEGINS + LINES)
        for _ in range(before.count(b"\r\n\r\n")):
            assert 200 == (await client.answer())[0]
        status, _, _ = await client.answer()
        assert (400, b"") == (status, await client.rest())


async def test_head_that_begins_behind_another_request_is_not_waited_for(house):
    """
    Its time runs from its first bytes.
    """
    async with wire(house) as client:
        client.send(ALIVE + HEAD_BEGINS)
        assert 200 == (await client.answer())[0]
        await house.sweep(HEAD_WITHIN_S + IN_TIME_S)
        assert connected(house)()
        await house.sweep(HEAD_WITHIN_S + LATE_S)
        assert b"" == await client.rest()


async def test_body_that_nobody_wants_is_given_up(house):
    """
    What is too large is answered while it comes, and some more of it is read, so that its sender sees the answer.
    """
    async with wire(house) as flood:
        key = house.keys["all"].encode()
        flood.send(
            b"POST /execute HTTP/1.1\r\nHost: x\r\nX-API-Key: " + key + b"\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        async with asyncio.timeout(5):
            try:
                while True:
                    flood.send(chunk)
                    await flood.writer.drain()
                    await asyncio.sleep(0)
            except ConnectionError:
                pass
        await until(connected(house, 0))
    assert ["body_too_large"] == [line["code"] for line in house.lines("request")]


async def test_body_behind_a_declined_upgrade_is_not_waited_for(house):
    """
    Who asks for another protocol first has not won more time for what comes behind.
    """
    async with wire(house) as slow:
        slow.send(UPGRADE + execute_head(house, 20) + b"{")
        assert 200 == (await slow.answer())[0]
        await until(lambda: [c._body is not None for c, _ in house.connections.ours] == [True])
        await house.sweep(BODY_WITHIN_S + LATE_S)
        status, _, body = await slow.answer()
        assert (400, "malformed_request") == (status, json.loads(body)["code"])
        assert b"" == await slow.rest()


@pytest.mark.parametrize(
    "behind",
    [
        *(data for data in LONG.values()),
        ALIVE.replace(b"HTTP/1.1", b"HTTP/1.2"),
        ALIVE.replace(b"Host", b"Transfer-Encoding: gzip, chunked\r\nHost") + b"0\r\n\r\n",
    ],
)
async def test_request_behind_a_declined_upgrade_is_held_to_the_same(house, behind):
    """
    It is no less bounded than any other.
    """
    async with wire(house) as client:
        client.send(UPGRADE + behind)
        assert 200 == (await client.answer())[0]
        status, _, body = await client.answer()
        assert (400, "malformed_request") == (status, json.loads(body)["code"])


@pytest.mark.parametrize("size", [1_000, 1_000_000])
async def test_requests_behind_declined_upgrades_are_answered_in_their_order(house, size):
    """
    However many of them ask for another protocol, and however it comes.
    """
    asked = [str(number) for number in range(2_000)]
    data = b"".join(
        (UPGRADE if number % 300 == PIPELINED_MAX else ALIVE).replace(b"Host", b"X-Request-Id: %d\r\nHost" % number)
        for number in range(len(asked))
    )
    async with wire(house) as client:
        await until(lambda: [c._waiter is not None for c, _ in house.connections.ours] == [True])
        [(connection, transport)] = house.connections.ours
        for at in range(0, len(data), size):
            await until(transport.is_reading)
            connection.data_received(data[at : at + size])
        assert asked == [(await client.answer())[1]["x-request-id"] for _ in asked]


async def test_pipelined_requests_are_answered_in_their_order(house):
    """
    A client may send many requests before it reads; each is answered, in its turn.
    """
    asked = [f"{number}-{number % 7}" for number in range(150)]
    async with wire(house) as eager:
        for name in asked:
            eager.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + name.encode() + b"\r\n\r\n")
        assert asked == [(await eager.answer())[1]["x-request-id"] for _ in asked]


async def test_pipelined_requests_wait_outside(house):
    """
    While one is answered, only some of those behind it are taken in.
    """
    gate = house.ledger.gates["transact"] = asyncio.Event()
    order = json.dumps({"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}).encode()
    async with wire(house) as eager:
        eager.send(execute_head(house, len(order)) + order)
        await house.ledger.waiting.wait()
        [(connection, _)] = house.connections.ours
        for _ in range(500):
            eager.send(ALIVE)
            await asyncio.sleep(0)
        await until(lambda: connection._buffer_paused)
        assert PIPELINED_MAX <= len(connection._messages) < 4 * PIPELINED_MAX
        gate.set()
        assert [201] + [200] * 500 == [(await eager.answer())[0] for _ in range(501)]


# Room


ROOM = {"service": {"connections_per_address_max": 3, "connections_max": 4}}


@pytest.mark.parametrize("house", [ROOM], indirect=True)
async def test_one_address_has_so_many_connections(house):
    """
    One more than an address may have is turned away, and comes in when another is gone.
    """
    async with wire(house) as first, wire(house), wire(house):
        await until(connected(house, 3))
        async with wire(house) as fourth:
            fourth.send(ALIVE)
            status, headers, body = await fourth.answer()
            assert (503, "overloaded", "1") == (status, json.loads(body)["code"], headers["retry-after"])
            assert "server" not in headers
            assert b"" == await fourth.rest()
        first.writer.transport.abort()
        await until(connected(house, 2))
        async with wire(house) as fifth:
            fifth.send(ALIVE)
            assert 200 == (await fifth.answer())[0]
    await house.sweep()
    assert 1 == house.lines("connections.cut")[-1]["turned_away"]


@pytest.mark.parametrize("house", [{"service": {**ROOM["service"], "connections_per_address_max": 9}}], indirect=True)
async def test_all_addresses_have_so_many_connections(house):
    """
    One more than there may be in all is turned away, whoever it is.
    """
    async with wire(house), wire(house), wire(house), wire(house):
        await until(connected(house, 4))
        async with wire(house) as fifth:
            assert 503 == (await fifth.answer())[0]


@pytest.mark.parametrize("house", [{"service": {**ROOM["service"], "trusted_proxies": ["127.0.0.1"]}}], indirect=True)
async def test_proxy_has_the_room_of_all_its_clients(house):
    """
    An address that stands for many clients is only counted among all.
    """
    async with wire(house), wire(house), wire(house):
        await until(connected(house, 3))
        async with wire(house) as fourth:
            fourth.send(ALIVE)
            assert 200 == (await fourth.answer())[0]


# What HTTP leaves open


LOOKS = {
    # An answer is its status, and what is said of the connection.
    "head": (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, None),
    "head of nothing": (b"HEAD /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404, None),
    "options": (b"OPTIONS /execute HTTP/1.1\r\nHost: x\r\n\r\n", 405, None),
    "options of all": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, None),
    "trace": (b"TRACE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405, None),
    "absolute": (b"GET http://elsewhere:1/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, None),
    "close": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200, "close"),
    "1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", 200, "close"),
    "1.0 kept": (b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, "keep-alive"),
    "a blank line before": (b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, None),
}


@pytest.mark.parametrize(("data", "status", "connection"), LOOKS.values(), ids=LOOKS)
async def test_odd_but_sound_requests_have_their_answers(house, data, status, connection):
    """
    What HTTP allows and few send is answered as it is written down, and the connection with it.
    """
    async with wire(house) as odd:
        odd.send(data)
        head = (await odd.reader.readuntil(b"\r\n\r\n")).decode("ascii")
        assert status == int(head.split()[1])
        said = re.search(r"\r\nConnection: (.*)\r\n", head)
        if connection == "close":
            assert b"HTTP/" not in await odd.rest()
        elif not data.startswith(b"HEAD"):
            await odd.reader.readexactly(int(re.search(r"\r\nContent-Length: (\d+)", head)[1]))
        if connection != "close":
            assert (said and said[1]) == connection
            odd.send(ALIVE)
            assert 200 == (await odd.answer())[0]


async def test_client_that_asks_before_it_sends_is_told_to_go_on(house):
    """
    ``Expect: 100-continue`` is answered at once, and the request when its body is there.
    """
    order = json.dumps({"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}).encode()
    async with wire(house) as polite:
        polite.send(execute_head(house, len(order), b"Expect: 100-continue"))
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await polite.reader.readuntil(b"\r\n\r\n")
        polite.send(order)
        assert 201 == (await polite.answer())[0]


# The end


async def test_finishing_waits_for_what_is_under_way(house):
    """
    Whoever asks while the last orders are recorded is told that the service stops, on a connection that ends with it.
    """
    gate = house.ledger.gates["transact"] = asyncio.Event()
    order = asyncio.create_task(house.buy())
    await house.ledger.waiting.wait()
    house.desk.close()
    finishing = asyncio.create_task(house.client.server.runner.finish(5))
    await asyncio.sleep(0)
    async with wire(house) as late:
        late.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = await late.answer()
        assert (503, "close", b"") == (status, headers["connection"], await late.rest())
    assert not finishing.done()
    gate.set()
    assert 201 == (await order).status
    await finishing
    assert [] == house.lines("service.impatient")


async def test_finishing_has_an_end(house):
    """
    What does not get done in time is left behind, and said so.
    """
    house.ledger.gates["transact"] = asyncio.Event()
    order = asyncio.create_task(house.buy())
    await house.ledger.waiting.wait()
    await house.client.server.runner.finish(0.05)
    assert [1] == [line["under_way"] for line in house.lines("service.impatient")]
    house.ledger.gates["transact"].set()
    await order


async def test_finishing_does_not_wait_for_who_does_not_read(house):
    """
    An answer that nobody takes is as good as given, after a while.
    """
    async with wire(house, limit=1) as deaf:
        deaf.send(MUCH)
        await until(lambda: [c.unread for c, _ in house.connections.ours] == [True])
        [(connection, _)] = house.connections.ours
        now = asyncio.get_running_loop().time()
        assert connection.under_way(now, _UNREAD_S)
        assert not connection.under_way(now + _UNREAD_S, _UNREAD_S)
        async with asyncio.timeout(5):
            await house.client.server.runner.cleanup()
