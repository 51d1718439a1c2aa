"""A stream as its reader sees it: the latest of everything, what happened to the connection, and its end."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web

from service.api.problems import CODES, problem
from service.client import (
    BookUpdate,
    ExecutionUpdate,
    Interrupted,
    InvalidRequest,
    NotAllowed,
    NotFound,
    NoValue,
    OrderBookClient,
    OrderBookError,
    QuoteUpdate,
    Resumed,
    Unauthenticated,
    UnexpectedAnswer,
    VenuesUpdate,
    channels,
)
from tests.client.loopback import BOOK, EXECUTION, KEY, QUOTE, HeldTime, serving

WITHIN_S = 10


class Connection:
    """One client's WebSocket, from the server's side."""

    def __init__(self, request, socket):
        self.request, self.socket = request, socket
        self.said = asyncio.Queue()
        self.close_code = None

    async def listen(self):
        """Hear what the client sends, until it closes."""
        async for message in self.socket:
            self.said.put_nowait(message.json())
        self.close_code = self.socket.close_code

    async def read(self):
        """Give the next message that the client sends."""
        async with asyncio.timeout(WITHIN_S):
            return await self.said.get()

    async def send(self, **frame):
        await self.socket.send_str(json.dumps(frame))

    async def tell(self, subscription, sequence, data=None, error=None):
        """Send a subscription's value, or why there is none."""
        frame = {"channel": subscription.channel, "symbol": subscription.symbol, "id": subscription.id}
        value = {"data": data} if error is None else {"error": refused(error)}
        await self.send(**frame, sequence=sequence, **value)

    async def end(self, code=1001):
        """Close it."""
        await self.socket.close(code=code)

    def cut(self):
        """Break it, without a word."""
        self.request.transport.abort()


def refused(code, **more):
    return json.loads(problem(code, "a sentence", "id", extra={"op": "subscribe", **more}))


class StreamServer:
    """Takes connections, or refuses them with what stands in ``refusals``."""

    def __init__(self):
        self.refusals = []
        self.keys = []
        self.connections = asyncio.Queue()

    async def handle(self, request):
        assert "/v1/stream" == request.path
        self.keys.append(request.headers["X-API-Key"])
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return web.Response(status=status, headers=headers)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(request, socket)
        self.connections.put_nowait(connection)
        await connection.listen()
        return socket

    async def connection(self):
        """Give the next connection."""
        async with asyncio.timeout(WITHIN_S):
            return await self.connections.get()


@asynccontextmanager
async def streaming(held=None):
    """Give a server of streams, and a client."""
    server, held = StreamServer(), held or HeldTime()
    async with serving(server.handle) as url, OrderBookClient(url, KEY, retries=held.retries(backoff_s=1.0)) as client:
        yield server, client


async def following(stream):
    """Give the next update; a stream that gives none is at fault."""
    async with asyncio.timeout(WITHIN_S):
        return await anext(stream)


def start(stream):
    """Begin to ask for the next update."""
    return asyncio.create_task(following(stream))


async def settled(condition):
    """Wait until the other side has noticed."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.001)


def quote_of(total):
    return QUOTE | {"buy": QUOTE["buy"] | {"total": total}}


async def test_each_channel_gives_its_own_kind_of_update():
    """
    The key is in the handshake; what is subscribed to is asked for, and comes as values with the frame as it came.
    """
    wanted = [
        channels.quote("BTC/USDT", quantity=Decimal("1.5"), side="buy", venues=["okx"]),
        channels.book("BTC/USDT", depth=5),
        channels.venues(),
        channels.executions(),
    ]
    quote, book, venues, executions = wanted
    async with streaming() as (server, client):
        stream = client.stream(*wanted)
        first = start(stream)
        connection = await server.connection()
        assert [
            {
                "op": "subscribe",
                "channel": "quote",
                "symbol": "BTC/USDT",
                "id": quote.id,
                "quantity": "1.5",
                "side": "buy",
                "venues": ["okx"],
            },
            {"op": "subscribe", "channel": "book", "symbol": "BTC/USDT", "id": book.id, "depth": 5},
            {"op": "subscribe", "channel": "venues", "id": venues.id},
            {"op": "subscribe", "channel": "executions", "id": executions.id},
        ] == [await connection.read() for _ in wanted]
        assert [KEY] == server.keys and "key" not in str(connection.request.url)

        await connection.send(op="subscribe", id=quote.id)
        await connection.send(op="brand_new")
        await connection.send(channel="quote", id="of-nobody", sequence=1, data=None)
        await connection.tell(quote, 1, QUOTE | {"new": 1})
        update = await first
        assert isinstance(update, QuoteUpdate) and stream.connected
        assert (quote, 1, Decimal("96114.48")) == (update.subscription, update.sequence, update.quote.side().total)
        assert 1 == update.quote.raw["new"] == update.raw["data"]["new"]

        await connection.tell(book, 1, BOOK)
        await connection.tell(venues, 1, {"venues": [], "next_cursor": None})
        await connection.tell(executions, 1, EXECUTION)
        assert [BookUpdate, VenuesUpdate, ExecutionUpdate] == [type(await following(stream)) for _ in range(3)]


async def test_broken_stream_is_made_anew_and_says_so():
    """
    A reader is told when what it has gets old, and when it is kept up to date again; everything is subscribed to anew.
    """
    held = HeldTime()
    quote = channels.quote("BTC/USDT", quantity="1.5")
    async with streaming(held) as (server, client):
        stream = client.stream(quote)
        first = start(stream)
        connection = await server.connection()
        await connection.read()
        await connection.tell(quote, 1, QUOTE)
        await first

        server.refusals += [(503, {}), (503, {"Retry-After": "9"}), (429, {}), (502, {})]
        interrupted = start(stream)
        connection.cut()
        assert isinstance(await interrupted, Interrupted)

        resumed = start(stream)
        connection = await server.connection()
        assert quote.message("subscribe") == await connection.read()
        await connection.tell(quote, 1, QUOTE)
        # Waiting grows as it does between attempts at a request.
        assert [1, 2, 13, 5, 5] == held.slept
        assert Resumed(26.0) == await resumed
        assert isinstance(await following(stream), QuoteUpdate)

        # A connection that has given something has ended the growing.
        await connection.end()
        assert isinstance(await following(stream), Interrupted)
        again = start(stream)
        await server.connection()
        assert isinstance(await again, Resumed)
        assert 1 == held.slept[-1]


async def test_service_that_is_not_there_yet_is_waited_for():
    """
    A stream can be opened before the service listens: that is an interruption like any other.
    """
    async with streaming() as (server, client):
        server.refusals += [(503, {})]
        stream = client.stream(channels.venues())
        assert isinstance(await following(stream), Interrupted)
        resumed = start(stream)
        await server.connection()
        assert isinstance(await resumed, Resumed)


async def test_slow_reader_gets_the_latest_and_every_execution():
    """
    What is not read in time is replaced by what is newer; executions are all there, in their order.
    """
    quote, executions, venues = channels.quote("BTC/USDT", quantity="1"), channels.executions(), channels.venues()
    async with streaming() as (server, client):
        stream = client.stream(quote, executions, venues)
        first = start(stream)
        connection = await server.connection()
        await connection.tell(venues, 1, {"venues": [], "next_cursor": None})
        await first
        for number in range(1, 6):
            await connection.tell(quote, number, quote_of(str(number)))
            await connection.tell(executions, number, EXECUTION | {"client_order_id": str(number)})
        await connection.tell(venues, 2, {"venues": [], "next_cursor": None})
        await settled(lambda: len(stream._waiting) == 7)

        updates = [await following(stream) for _ in range(7)]
        [last] = [update for update in updates if isinstance(update, QuoteUpdate)]
        assert (5, Decimal(5)) == (last.sequence, last.quote.side().total)
        executed = [update.execution.client_order_id for update in updates if isinstance(update, ExecutionUpdate)]
        assert ["1", "2", "3", "4", "5"] == executed


async def test_value_from_after_an_interruption_is_not_given_before_it():
    """
    A reader that was away sees what happened in its order: a new value does not look like one from before.
    """
    quote = channels.quote("BTC/USDT", quantity="1")
    async with streaming() as (server, client):
        stream = client.stream(quote)
        first = start(stream)
        connection = await server.connection()
        await connection.tell(quote, 1, QUOTE)
        await first
        await connection.tell(quote, 2, quote_of("2"))
        await settled(lambda: stream._waiting)
        for _ in range(3):
            connection.cut()
            connection = await server.connection()
        await connection.tell(quote, 1, quote_of("3"))
        await settled(lambda: any(getattr(one, "sequence", 0) == 1 for one in stream._waiting.values()))

        assert [Interrupted, Resumed, QuoteUpdate] == [type(await following(stream)) for _ in range(3)]
        assert not stream._waiting


async def test_subscription_without_a_value_says_why():
    """
    Where there is no price the reader is told, and when there is one again; left-out executions are told of as well.
    """
    quote, executions = channels.quote("BTC/USDT", quantity="1"), channels.executions()
    async with streaming() as (server, client):
        stream = client.stream(quote, executions)
        first = start(stream)
        connection = await server.connection()
        await connection.tell(quote, 1, error="no_fresh_market_data")
        update = await first
        assert isinstance(update, NoValue)
        assert (quote, "no_fresh_market_data") == (update.subscription, update.error.code)
        await connection.tell(quote, 2, QUOTE)
        assert isinstance(await following(stream), QuoteUpdate)

        await connection.tell(executions, 1, EXECUTION)
        await connection.tell(executions, 2, error="overloaded")
        await connection.tell(executions, 3, EXECUTION)
        assert [ExecutionUpdate, NoValue, ExecutionUpdate] == [type(await following(stream)) for _ in range(3)]


# Its end


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, Unauthenticated), (403, NotAllowed), (404, NotFound), (400, UnexpectedAnswer), (200, UnexpectedAnswer)],
)
async def test_refused_key_ends_it(status, expected):
    """
    What connecting anew does not mend is raised, once.
    """
    async with streaming() as (server, client):
        server.refusals += [(status, {})]
        stream = client.stream(channels.venues())
        with pytest.raises(OrderBookError) as raised:
            await following(stream)
        assert (expected, status) == (type(raised.value), raised.value.status)
        assert [] == [update async for update in stream]
        assert 1 == len(server.keys)


async def test_revoked_key_ends_it():
    """
    A stream whose key is revoked says that it is interrupted, and then why it stays so.
    """
    async with streaming() as (server, client):
        stream = client.stream(channels.venues())
        first = start(stream)
        connection = await server.connection()
        server.refusals += [(401, {})]
        await connection.end(1008)
        assert "1008" in (await first).error.detail
        with pytest.raises(Unauthenticated):
            await following(stream)


@pytest.mark.parametrize("code", [code for code in CODES if CODES[code].retry == "never"][:12])
async def test_refused_subscription_ends_it(code):
    """
    A subscription that will never do is raised with all that is wrong with it.
    """
    async with streaming() as (server, client):
        stream = client.stream(channels.quote("nonsense", quantity="1"))
        first = start(stream)
        connection = await server.connection()
        await connection.send(error=refused(code, errors=[{"pointer": "/symbol", "code": code, "detail": "is not"}]))
        with pytest.raises(OrderBookError) as raised:
            await first
        assert (code, "/symbol") == (raised.value.code, raised.value.errors[0].where)


async def test_subscription_that_may_do_later_is_asked_for_again():
    """
    A subscription that is refused for now is asked for anew, like a connection that broke.
    """
    async with streaming() as (server, client):
        stream = client.stream(channels.venues())
        first = start(stream)
        connection = await server.connection()
        await connection.send(error=refused("shutting_down"))
        assert "shutting_down" == (await first).error.code
        second = start(stream)
        await server.connection()
        assert isinstance(await second, Resumed)


@pytest.mark.parametrize("frame", ['{"channel": ', "7", '{"sequence": 1, "id": "ID", "data": {"quote_id": 7}}'])
async def test_frame_that_cannot_be_read_ends_it(frame):
    """
    A frame of something that is not this service is not passed over.
    """
    quote = channels.quote("BTC/USDT", quantity="1")
    async with streaming() as (server, client):
        stream = client.stream(quote)
        first = start(stream)
        connection = await server.connection()
        await connection.socket.send_str(frame.replace("ID", quote.id))
        with pytest.raises(UnexpectedAnswer):
            await first


async def test_leaving_closes_it():
    """
    Leaving the loop and the client closes the connection; leaving a stream's own block does so at once.
    """
    async with streaming() as (server, client):
        venues = channels.venues()
        async with client.stream(venues) as stream:
            first = start(stream)
            connection = await server.connection()
            await connection.read()
            await connection.tell(venues, 1, {"venues": [], "next_cursor": None})
            await first
        await settled(lambda: connection.close_code == aiohttp.WSCloseCode.OK)
        assert [] == [update async for update in stream] and not stream.connected

        other = client.stream(venues)
        waiting = start(other)
        connection = await server.connection()
        await connection.read()
        await client.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
        await settled(lambda: connection.close_code == aiohttp.WSCloseCode.OK)
        assert [] == [task for task in asyncio.all_tasks() if "_follow" in str(task.get_coro())]


async def test_subscriptions_change_while_it_runs():
    """
    More can be followed, and less; the next connection is asked for what is wanted then.
    """
    quote, venues = channels.quote("BTC/USDT", quantity="1"), channels.venues()
    async with streaming() as (server, client):
        stream = client.stream(quote)
        await stream.subscribe(venues)
        first = start(stream)
        connection = await server.connection()
        assert ["quote", "venues"] == [(await connection.read())["channel"] for _ in range(2)]
        await stream.unsubscribe(quote)
        gone = {"op": "unsubscribe", "channel": "quote", "symbol": "BTC/USDT", "id": quote.id}
        assert gone == await connection.read()
        await connection.tell(quote, 1, QUOTE)
        connection.cut()
        assert isinstance(await first, Interrupted)
        resumed = start(stream)
        connection = await server.connection()
        assert "venues" == (await connection.read())["channel"]
        await resumed


async def test_refused_subscription_is_an_invalid_request():
    """
    What is wrong with a subscription is the caller's to mend.
    """
    async with streaming() as (server, client):
        first = start(client.stream(channels.book("BTC/USDT", depth=0)))
        connection = await server.connection()
        await connection.send(error=refused("invalid_parameter"))
        with pytest.raises(InvalidRequest):
            await first
