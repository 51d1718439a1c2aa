"""Unmodified ccxt, sent to the simulator, sees six real venues."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt.async_support as ccxt_async
import pytest
from aiohttp.test_utils import TestServer

from exchanges.simulator import VENUES, SimulatedMarket, create_app

STARTED_S = 1_800_000_000.0


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        """Start at a fixed time."""
        self.now_s = STARTED_S

    def __call__(self) -> float:
        """Read it."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """The venues' clock."""
    return Clock()


@pytest.fixture
async def server(clock) -> AsyncIterator[TestServer]:
    """A simulator with seed 7, 50 s after its start."""
    async with TestServer(create_app(7, clock)) as server:
        clock.now_s += 50
        yield server


def redirected(venue: str, base_url: str) -> Any:
    """A ccxt exchange whose every address leads to the simulator."""
    exchange = getattr(ccxt_async, venue)(
        {"options": {"fetchMarkets": {"types": ["spot"]}}, "enableRateLimit": False, "timeout": 5000}
    )

    def mapped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        return re.sub(r"^https?://", f"{base_url}/", value) if isinstance(value, str) else value

    exchange.urls["api"] = mapped(exchange.urls["api"])
    exchange.timeout_on_exit = 0
    return exchange


@pytest.fixture(params=list(VENUES))
async def exchange(request, server) -> AsyncIterator[Any]:
    """Each venue in turn, as ccxt has it, with nothing loaded yet."""
    exchange = redirected(request.param, str(server.make_url("")).rstrip("/"))
    yield exchange
    await exchange.close()


async def test_markets_load_with_and_without_currencies(exchange):
    """Exactly the venue's spot symbols are found, whether or not it asks for currencies first."""
    assert set(VENUES[exchange.id].listings) == set(await exchange.load_markets())

    exchange.has["fetchCurrencies"] = False
    assert set(VENUES[exchange.id].listings) == set(await exchange.load_markets(True))


async def test_markets_load_for_all_types_of_instrument(exchange):
    """Without the option that asks for spot only, ccxt gets empty lists of derivatives and the same symbols."""
    exchange.options["fetchMarkets"] = {}

    assert set(VENUES[exchange.id].listings) == set(await exchange.load_markets())


MINIMUMS_IN_CCXT = {  # Which of the two minimums the venue's format carries.
    "binance": ("amount", "cost"),
    "kraken": ("amount", "cost"),
    "coinbaseexchange": ("cost",),
    "okx": ("amount",),
    "bybit": ("amount", "cost"),
    "bitstamp": ("cost",),
}
TAKER = {"binance": 0.001, "kraken": 0.004, "coinbaseexchange": 0.006, "okx": 0.0015, "bybit": 0.001, "bitstamp": 0.004}


async def test_steps_minimums_and_fees_arrive(exchange):
    """Price step, quantity step, minimums and taker fee are in ccxt what the market was made with."""
    markets = await exchange.load_markets()

    for symbol, listing in VENUES[exchange.id].listings.items():
        market = markets[symbol]
        assert market["spot"]
        assert market["active"]
        assert listing.price_step == Decimal(repr(market["precision"]["price"]))
        assert listing.quantity_step == Decimal(repr(market["precision"]["amount"]))
        expected = {"amount": listing.quantity_min, "cost": listing.notional_min}
        for minimum in ("amount", "cost"):
            if minimum in MINIMUMS_IN_CCXT[exchange.id]:
                assert expected[minimum] == Decimal(repr(market["limits"][minimum]["min"]))
            else:
                assert market["limits"][minimum]["min"] is None
        if symbol.startswith(("BTC", "ETH")):
            assert TAKER[exchange.id] == market["taker"] == VENUES[exchange.id].taker_fee_bps / 10_000
    if exchange.id == "kraken":
        assert 0.002 == markets["USDT/USD"]["taker"]


async def test_books_are_the_markets_to_the_last_digit(exchange):
    """Every price and quantity that ccxt hands out is, by its repr, the market's own decimal."""
    market = SimulatedMarket(7)

    for symbol in VENUES[exchange.id].listings:
        book = await exchange.fetch_order_book(symbol, 100)
        depth = None if exchange.id in ("coinbaseexchange", "bitstamp") else 100
        expected = market.book(exchange.id, symbol, 50_000, depth)
        for side in ("bids", "asks"):
            levels = [(Decimal(repr(float(level[0]))), Decimal(repr(float(level[1])))) for level in book[side]]
            assert [(level.price, level.quantity) for level in getattr(expected, side)] == levels


TIMES = {  # (timestamp, nonce) of a book made 50 s after the start, as ccxt reads them.
    "binance": (None, 18_000_000_500),
    "kraken": (None, None),
    "coinbaseexchange": (None, 18_000_000_500),
    "okx": (1_800_000_050_000, None),
    "bybit": (1_800_000_050_000, None),
    "bitstamp": (1_800_000_050_000, 1_800_000_050_000_000),
}


async def test_times_and_sequences_follow_the_venues_clock(exchange, clock):
    """What a venue says of a book's time moves with its clock, in steps of the market."""
    book = await exchange.fetch_order_book("BTC/USDT", 5)
    assert TIMES[exchange.id] == (book["timestamp"], book["nonce"])

    clock.now_s += 1.05  # Ten steps, and half of one.
    later = await exchange.fetch_order_book("BTC/USDT", 5)
    units_per_s = {"timestamp": 1000, "nonce": 1_000_000 if exchange.id == "bitstamp" else 10}
    for name, per_s in units_per_s.items():
        assert later[name] is None or later[name] - book[name] == per_s


async def test_kraken_levels_carry_the_second_of_their_last_change(server):
    """No level of kraken's is younger than now or older than a quantity lives."""
    exchange = redirected("kraken", str(server.make_url("")).rstrip("/"))
    try:
        book = await exchange.fetch_order_book("BTC/USD", 50)
    finally:
        await exchange.close()

    assert all(STARTED_S + 39 <= level[2] <= STARTED_S + 50 for level in book["bids"] + book["asks"])


async def test_unknown_symbol_is_refused_in_the_venues_own_words(exchange):
    """An error of ccxt's tells of an unknown symbol: a bad symbol where its table of errors says so."""
    await exchange.load_markets()
    unlisted = exchange.safe_market_structure({**exchange.markets["BTC/USDT"], "id": "NOPE", "symbol": "NOPE/USDT"})
    exchange.markets["NOPE/USDT"] = unlisted
    # ccxt has no row for kraken's text, coinbaseexchange's reads as an order that is not found.
    bad_symbol = exchange.id in ("binance", "okx", "bybit")

    with pytest.raises(ccxt_async.BadSymbol if bad_symbol else ccxt_async.ExchangeError):
        await exchange.fetch_order_book("NOPE/USDT", 5)


@pytest.mark.parametrize("fault", ["nan", "negative", "zero", "none_level"])
async def test_bad_numbers_come_through_ccxt_unrepaired(exchange, server, fault):
    """A level that cannot be is in ccxt's book, at two places: nothing before the book's own checks would notice."""
    switch = {"venue": exchange.id, "fault": fault}
    async with aiohttp.ClientSession() as session, session.post(server.make_url("/faults"), json=switch) as response:
        assert 200 == response.status

    book = await exchange.fetch_order_book("BTC/USDT", 20)

    numbers = [number for level in book["bids"] for number in level[:2]]
    bad = [number for number in numbers if number is None or not math.isfinite(number) or number <= 0]
    assert 2 == len(bad)
