"""Quotes that are sent away unread while there is too much work: they, and nothing else on their connections."""

from __future__ import annotations

import asyncio
import re

import pytest

from service.api import admission as admission_module
from service.api.connection import HEAD_WITHIN_S
from service.api.server import ADMISSION
from tests.api.test_connections import ALIVE, connected, until, wire

PLAIN = b"GET /quote?symbol=BTC/USDT&quantity=1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def overloaded(house, monkeypatch):
    """Let there be too much work for a single quote."""
    monkeypatch.setattr(house.app[ADMISSION], "overloaded", lambda now_ns: True)
    monkeypatch.setitem(admission_module.AHEAD_MAX, "quote", 0)


def with_line(line):
    return PLAIN.replace(b"Host", line + b"\r\nHost")


@pytest.mark.parametrize("turns", range(6))
async def test_quote_behind_another_request_is_sent_away_in_its_turn(house, overloaded, turns):
    """
    Answers come in the order of their requests, whenever the second one comes.
    """
    async with wire(house) as client:
        await until(lambda: [c._waiter is not None for c, _ in house.connections.ours] == [True])
        connection = house.connections.ours[0][0]
        connection.data_received(ALIVE)
        for _ in range(turns):
            await asyncio.sleep(0)
        connection.data_received(PLAIN)

        assert [200, 503] == [(await client.answer())[0] for _ in range(2)]


async def test_body_of_a_quote_that_is_sent_away_is_no_request(house, overloaded):
    """
    What follows a head that announces a body is that body, or whoever shares the connection gets another's answer.
    """
    async with wire(house) as client:
        client.send(with_line(b"Content-Length: %d" % len(ALIVE)))
        assert 503 == (await client.answer())[0]
        client.send(ALIVE + ALIVE)
        assert (200, b'{"status":"alive"}') == (await client.answer())[::2]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.reader.read(1)


@pytest.mark.parametrize(
    "request_bytes",
    [PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"), with_line(b"Connection: close"), with_line(b"connection: x, CLOSE")],
)
async def test_connection_that_is_to_end_with_the_answer_does(house, overloaded, request_bytes):
    """
    A client that reads to the end of its connection is not kept waiting for it.
    """
    async with wire(house) as client:
        client.send(request_bytes)
        assert 503 == (await client.answer())[0]
        assert b"" == await client.rest()


async def test_plain_quotes_are_sent_away_unread(house, overloaded):
    """
    Of whole requests without a body not even a line of the log is made, and their connection stays.
    """
    async with wire(house) as client:
        await until(connected(house))
        for _ in range(3):
            client.send(PLAIN)
            assert 503 == (await client.answer())[0]
        client.send(ALIVE)
        assert 200 == (await client.answer())[0]
    assert ["/healthz"] == [line["route"] for line in house.lines("request")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"X-Request-Id: mine-1", "mine-1"),
        (b"x-request-id:  mine.2 ", "mine.2"),
        (b"X-Request-Id: not sane", None),
        (b"X-Request-Id: iob_live_ABC", None),
        (b"Y-X-Request-Id: another", None),
    ],
)
async def test_refusal_bears_the_callers_id(house, overloaded, line, expected):
    """
    It is found in the caller's log as well, as with every other answer; one that is not sane is not repeated.
    """
    reply = await house.wire(with_line(line))

    assert (503, "overloaded") == (reply.status, reply.code)
    given = reply.headers["X-Request-Id"]
    assert expected == given if expected else re.fullmatch("[0-9a-f]{16}", given)


async def test_client_that_was_only_sent_away_is_not_cut(house, overloaded):
    """
    It has sent its heads in time, whoever has read them.
    """
    async with wire(house) as client:
        client.send(PLAIN)
        assert 503 == (await client.answer())[0]
        await house.sweep(HEAD_WITHIN_S + 1)
        client.send(PLAIN)
        assert 503 == (await client.answer())[0]
    assert not house.lines("connections.cut")


async def test_client_that_does_not_read_is_not_written_to_for_ever(house, overloaded):
    """
    Once its buffers are full it is not read from any more: what it is told of is not kept for it.
    """
    async with wire(house) as client:
        await until(connected(house))
        client.reader._transport.pause_reading()
        [(connection, transport)] = house.connections.ours
        for _ in range(20_000):
            if not transport.is_reading():
                break
            connection.data_received(PLAIN)
            await asyncio.sleep(0)

        assert not transport.is_reading()
        assert transport.get_write_buffer_size() < 128 * 1024
