"""The Python client's streams with the real service."""

from __future__ import annotations

import asyncio

import pytest

from service.client import (
    BookUpdate,
    ExecutionUpdate,
    NotAllowed,
    NotFound,
    NoValue,
    OrderBookClient,
    QuoteUpdate,
    Retries,
    Unauthenticated,
    VenuesUpdate,
    channels,
)

WITHIN_S = 20


@pytest.fixture
async def client_of(house):
    """Make a client for one of the house's keys."""
    clients = []

    async def make(key="all"):
        url = f"http://{house.client.host}:{house.client.port}"
        client = OrderBookClient(url, house.keys[key], retries=Retries(attempts_max=1))
        clients.append(await client.__aenter__())
        return client

    yield make
    for client in clients:
        await client.close()


async def until(stream, wanted):
    """Give the first update of a kind."""
    async with asyncio.timeout(WITHIN_S):
        async for update in stream:
            if isinstance(update, wanted):
                return update
    raise AssertionError("the stream has ended")


async def test_everything_is_streamed_and_a_streamed_quote_is_executed(house, client_of):
    """
    Each channel gives its first value at once; a quote from the stream is executed, and its execution is streamed.
    """
    client = await client_of()
    quote = channels.quote("btc-usdt", quantity="0.2", side="buy", venues=["kraken", "okx"])
    seen = {}
    async with client.stream(
        quote, channels.book("BTC/USDT", depth=2, view="gross"), channels.venues(), channels.executions()
    ) as stream:
        async with asyncio.timeout(WITHIN_S):
            while len(seen) < 3:
                update = await anext(stream)
                seen[type(update)] = update
        assert {QuoteUpdate, BookUpdate, VenuesUpdate} == seen.keys()
        assert quote is seen[QuoteUpdate].subscription
        assert 2 == len(seen[BookUpdate].book.bids)
        assert "kraken" == seen[VenuesUpdate].venues[0].venue

        execution = await client.execute(seen[QuoteUpdate].quote, client_order_id="streamed")
        assert execution.execution_id == (await until(stream, ExecutionUpdate)).execution.execution_id

        house.clock.advance(60_000)
        assert "no_fresh_market_data" == (await until(stream, NoValue)).error.code
        house.show()
        assert isinstance(await until(stream, QuoteUpdate), QuoteUpdate)


async def test_subscriptions_change_while_a_stream_runs(client_of):
    """
    Two quotes of one symbol are followed apart, and each is let go for itself.
    """
    client = await client_of()
    small, large = (channels.quote("BTC/USDT", quantity=quantity) for quantity in ("0.1", "0.3"))
    async with client.stream(small) as stream:
        assert small is (await until(stream, QuoteUpdate)).subscription
        await stream.subscribe(large)
        while (await until(stream, QuoteUpdate)).subscription is not large:
            pass
        await stream.unsubscribe(large)
        assert stream.connected


@pytest.mark.parametrize(
    ("key", "symbol", "expected"),
    [
        ("revoked", "BTC/USDT", Unauthenticated),
        ("account", "BTC/USDT", NotAllowed),
        ("all", "BTX/USDT", NotFound),
    ],
)
async def test_what_will_never_do_is_raised(client_of, key, symbol, expected):
    """
    A refused key and a symbol that is not served end a stream with the class of who can act.
    """
    client = await client_of(key)
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(expected):
            await anext(client.stream(channels.quote(symbol, quantity="1")))
