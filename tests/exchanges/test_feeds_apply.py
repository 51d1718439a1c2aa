"""Other venues, symbols and numbers while the feeds run, over real sockets."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest

from exchanges.clock import SystemClock
from exchanges.errors import VenueConfigError
from exchanges.feeds import Feeds, VenueConfig
from exchanges.simulator import run_in_thread

SYMBOL = "BTC/USDT"


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread() as running:
        yield running


@pytest.fixture
def config(simulator):
    def make(name, **settings):
        given = {"poll_interval_ms": 100, "rate_limit_ms": 0, "depth": 10} | settings
        return VenueConfig(name, given.pop("exchange", name), base_url=simulator.base_url, **given)

    return make


@asynccontextmanager
async def started(configs, symbols=(SYMBOL,)):
    feeds = Feeds(configs, symbols, Decimal(100), SystemClock())
    try:
        await feeds.start()
        yield feeds
    finally:
        await feeds.close()


def seen(feeds, symbol=SYMBOL):
    return {source.venue: source for source in feeds.board.sources(symbol, SystemClock().now_ns())}


async def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it has not come to this in time"
        await asyncio.sleep(0.01)


def live(feeds, *venues, symbol=SYMBOL):
    return list(venues) == [venue for venue, source in seen(feeds, symbol).items() if source.live]


async def test_venues_are_swapped_while_the_others_go_on(config):
    """
    One venue goes, another comes; the one that stays is asked by the same loop as before, and was never out.
    """
    async with started([config("okx"), config("bybit")]) as feeds:
        await until(lambda: live(feeds, "okx", "bybit"))
        stays = feeds.venues[0]

        await feeds.apply([config("okx"), config("kraken")], [SYMBOL], Decimal(100))

        assert stays is feeds.venues[0]
        assert ["okx", "kraken"] == list(seen(feeds))
        assert live(feeds, "okx")
        await until(lambda: live(feeds, "okx", "kraken"))
        polls = stays.config, feeds.board.tally("okx").accepted
        await until(lambda: feeds.board.tally("okx").accepted > polls[1])


async def test_changed_number_does_not_take_the_venue_out(config):
    """
    A venue whose depth changes counts with its old book until it shows the new one.
    """
    async with started([config("okx"), config("bybit")]) as feeds:
        await until(lambda: live(feeds, "okx", "bybit"))

        await feeds.apply([config("okx", depth=20), config("bybit")], [SYMBOL], Decimal(100))

        def deeper():
            assert live(feeds, "okx", "bybit")
            return 20 == len(seen(feeds)["okx"].book.bids)

        await until(deeper)


async def test_name_that_stands_for_another_exchange_begins_anew(config):
    """
    A book of the former exchange is not the new one's.
    """
    async with started([config("mine", exchange="okx"), config("bybit")]) as feeds:
        await until(lambda: live(feeds, "mine", "bybit"))

        await feeds.apply([config("mine", exchange="kraken"), config("bybit")], [SYMBOL], Decimal(100))

        assert ("warming", None) == (seen(feeds)["mine"].state, seen(feeds)["mine"].book)
        await until(lambda: live(feeds, "mine", "bybit"))


async def test_symbols_come_and_go(config):
    """
    A new symbol gets its books, one that is not served any more has none, and what stays was never out.
    """
    async with started([config("okx"), config("bybit")], (SYMBOL, "BTC/USDC")) as feeds:
        await until(lambda: live(feeds, "okx", "bybit"))

        await feeds.apply([config("okx"), config("bybit")], ["ETH/USDT", SYMBOL], Decimal(100))

        assert live(feeds, "okx", "bybit")
        assert ("ETH/USDT", SYMBOL) == tuple(feeds.board.symbols)
        assert {} == seen(feeds, "BTC/USDC")
        await until(lambda: live(feeds, "okx", "bybit", symbol="ETH/USDT"))


async def test_venues_may_all_go_and_come_back(config):
    """
    Without a venue nothing is live, and that is all.
    """
    async with started([config("okx")]) as feeds:
        await feeds.apply([], [SYMBOL], Decimal(100))
        assert {} == seen(feeds)
        await feeds.apply([config("okx")], [SYMBOL], Decimal(100))
        await until(lambda: live(feeds, "okx"))


async def test_what_cannot_work_changes_nothing(config):
    """
    All mistakes are told at once, and everything is as it was.
    """
    async with started([config("okx"), config("bybit")]) as feeds:
        await until(lambda: live(feeds, "okx", "bybit"))
        before = list(feeds.venues)
        wrong = [
            replace(config("okx"), exchange="okxx"),
            config("bybit", symbols={SYMBOL: "BTC/USDD"}),
            config("kraken", poll_interval_ms=1_000, stale_after_ms=1_500),
        ]
        with pytest.raises(VenueConfigError) as caught:
            await feeds.apply(wrong, [SYMBOL], Decimal(100))

        assert [
            "venues.okx.exchange: ccxt knows no exchange 'okxx'; the nearest are okx, okxus, myokx",
            "venues.kraken.stale_after_ms: 1500 is less than twice the effective interval of 1000 ms; at least 2000 is "
            "needed",
            "venues.bybit.symbols: the venue does not trade 'BTC/USDD'; the nearest are BTC/USDT, BTC/USDC, ETH/USDT",
        ] == caught.value.problems
        assert before == feeds.venues
        assert live(feeds, "okx", "bybit")


async def test_symbol_that_no_venue_trades_is_refused(config):
    """
    Where every venue has told what it trades, a symbol that nobody knows is a mistake.
    """
    async with started([config("okx"), config("bybit")]) as feeds:
        with pytest.raises(VenueConfigError) as caught:
            await feeds.apply([config("okx"), config("bybit")], [SYMBOL, "BTC/USDD"], Decimal(100))
        assert ["market.symbols: no venue trades 'BTC/USDD'; the nearest are BTC/USDT, BTC/USDC, ETH/USDT"] == (
            caught.value.problems
        )
        # A new venue may trade it.
        await feeds.apply([config("okx"), config("kraken")], [SYMBOL, "BTC/USD"], Decimal(100))
        await until(lambda: live(feeds, "kraken", symbol="BTC/USD"))
