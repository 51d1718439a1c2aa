"""The feeds, over real sockets: books as the venues show them, in good time, and nobody waits for anybody.

What each fault of a venue does to it is in test_faults.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from exchanges import ccxt_venue, continuity, feed
from exchanges.clock import MS, SystemClock
from exchanges.errors import VenueConfigError
from exchanges.feeds import Feeds, VenueConfig, stable_pairs
from exchanges.simulator import VENUES, SimulatedMarket, run_in_thread

FIVE = ("binance", "kraken", "okx", "bybit", "bitstamp")


@dataclass
class Skipping(SystemClock):
    """The machine's clock, which can be put ahead."""

    ahead_ns: int = 0

    def now_ns(self):
        return super().now_ns() + self.ahead_ns


@contextlib.asynccontextmanager
async def started(configs, symbols=("BTC/USDT",), clock=None, wait_s=10.0):
    """Run feeds for as long as the context lasts."""
    feeds = Feeds(configs, symbols, Decimal(100), clock or SystemClock())
    try:
        await feeds.start(wait_s)
        yield feeds
    finally:
        await feeds.close()


def quick(name, base_url, exchange=None, **settings):
    settings = {"poll_interval_ms": 100, "rate_limit_ms": 0, "stale_after_ms": 1_000} | settings
    return VenueConfig(name, exchange or name, base_url=base_url, **settings)


def seen(feeds, symbol="BTC/USDT"):
    return {source.venue: source for source in feeds.board.sources(symbol, feeds._clock.now_ns())}


async def until(condition, within_s=5.0):
    """Wait for a condition; give what it gave, the last time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        await asyncio.sleep(0.01)


def all_live(feeds, symbol="BTC/USDT"):
    return all(source.live for source in seen(feeds, symbol).values())


async def switch(base_url, venue, fault, **options):
    async with aiohttp.ClientSession() as session:
        await session.post(
            f"{base_url}/faults", json={"venue": venue, "fault": fault, **options}, raise_for_status=True
        )


class StandingMarket:
    """A simulator's clock that stands still after its start, so that a book can be computed beside it."""

    def __init__(self):
        self.reads = 0

    def __call__(self):
        self.reads += 1
        return 1_800_000_000.0 + (50.0 if self.reads > 1 else 0.0)


async def test_books_on_the_board_are_the_ones_the_venues_show():
    """
    Price by price and quantity by quantity, what counts is what the market holds.
    """
    symbols = ("BTC/USDT", "ETH/USDT")
    with run_in_thread(seed=7, clock=StandingMarket()) as simulator:
        # The venues' clocks stand still, so the books of those whose time counts grow old however slow this machine is.
        configs = [quick(name, simulator.base_url, depth=20, stale_after_ms=60_000) for name in VENUES]
        async with started(configs, symbols) as feeds:
            assert await until(lambda: all(all_live(feeds, symbol) for symbol in symbols))
            market = SimulatedMarket(7)
            for symbol in symbols:
                for venue, source in seen(feeds, symbol).items():
                    shown = market.book(venue, symbol, 50_000, 20)
                    assert [level[:2] for level in shown.bids] == list(source.book.bids)
                    assert [level[:2] for level in shown.asks] == list(source.book.asks)
                    rules = VENUES[venue].listings[symbol]
                    assert (rules.price_step, rules.quantity_step) == (
                        source.instrument.price_step, source.instrument.quantity_step,
                    )  # fmt: skip
            # The settings' order, not that of the answers.
            assert list(VENUES) == list(seen(feeds))


# A venue of our own, in KuCoin's format, of which only the depths are known beforehand.

KUCOIN_ROW = {
    "name": "", "feeCurrency": "USDT", "market": "USDS", "baseMinSize": "0.00001", "quoteMinSize": "0.01",
    "baseMaxSize": "1000", "quoteMaxSize": "9999999", "baseIncrement": "0.00000001", "quoteIncrement": "0.000001",
    "priceIncrement": "0.1", "priceLimitRate": "0.1", "isMarginEnabled": False, "enableTrading": True,
}  # fmt: skip


@dataclass
class Kucoin:
    """A loopback venue that notes when it was asked for what."""

    symbols: tuple = ("BTC-USDT", "ETH-USDT")
    base_url: str = ""
    asked: list = field(default_factory=list)
    depth: object = None
    instruments: object = None
    sequence: int = 0

    async def serve(self, request):
        path = request.path.removeprefix("/api.kucoin.com")
        self.asked.append((time.monotonic(), path, request.query.get("symbol")))
        if path == "/api/v2/symbols":
            if self.instruments is not None:
                return await self.instruments(request)
            rows = [
                {"symbol": symbol, "baseCurrency": symbol.split("-")[0], "quoteCurrency": "USDT"} | KUCOIN_ROW
                for symbol in self.symbols
            ]
            return web.json_response({"code": "200000", "data": rows})
        if path == "/api/v1/market/allTickers":
            return web.json_response({"code": "200000", "data": {"time": 1, "ticker": []}})
        if self.depth is not None:
            answer = await self.depth(request)
            if answer is not None:
                return answer
        return self.book()

    def book(self, mid=100):
        self.sequence += 1
        book = {
            "time": 1_900_000_000_000 + self.sequence, "sequence": str(self.sequence),
            "bids": [[str(mid - 1), "1"]], "asks": [[str(mid + 1), "1"]],
        }  # fmt: skip
        return web.json_response({"code": "200000", "data": book})

    def polls(self, symbol=None):
        return [at for at, path, name in self.asked if "orderbook" in path and symbol in (None, name)]

    def loads(self):
        return [at for at, path, _ in self.asked if path == "/api/v2/symbols"]


@pytest.fixture
async def kucoin():
    venue = Kucoin()
    app = web.Application()
    app.router.add_get("/{path:.*}", venue.serve)
    async with TestServer(app) as server:
        venue.base_url = str(server.make_url("")).rstrip("/")
        yield venue


async def test_venue_nobody_wrote_code_for_works_by_its_row_in_the_settings(recorded, kucoin):
    """
    KuCoin's recorded instruments and books, served on loopback, are on the board by naming the exchange.
    """
    folder = recorded / "rest_depth"
    bodies = {"BCHSV-USDT": folder / "KUCOIN__BCHSV-USDT.json", "SNX-BTC": folder / "KUCOIN__SNX-BTC.json"}

    async def instruments(request):
        return web.Response(text=(recorded / "rest_markets" / "kucoin_symbols.json").read_text())

    async def depth(request):
        return web.Response(text=bodies[request.query["symbol"]].read_text())

    kucoin.instruments, kucoin.depth = instruments, depth
    config = quick("mine", kucoin.base_url, "kucoin", depth=50)
    async with started([config], ("BSV/USDT", "SNX/BTC")) as feeds:
        assert await until(lambda: all_live(feeds, "BSV/USDT") and all_live(feeds, "SNX/BTC"))
        for symbol, body in zip(("BSV/USDT", "SNX/BTC"), bodies.values(), strict=True):
            source = seen(feeds, symbol)["mine"]
            written = json.loads(body.read_text())["data"]
            exactly = [(Decimal(price), Decimal(quantity)) for price, quantity in written["asks"][:50]]
            assert exactly == list(source.book.asks)
            assert int(written["sequence"]) == source.book.sequence
            assert Decimal(10) == source.instrument.taker_fee_bps
    # 50 levels wanted: a hundred is the least that it offers above that.
    assert {"/api/v1/market/orderbook/level2_100"} == {path for _, path, _ in kucoin.asked if "orderbook" in path}


# How often.


async def test_polls_are_spread_evenly_and_never_closer_than_the_limit(kucoin):
    """
    Two symbols and a limit of 80 ms: every request waits for its turn, and the symbols take turns.
    """
    config = quick("kucoin", kucoin.base_url, poll_interval_ms=10, rate_limit_ms=80)
    async with started([config], ("BTC/USDT", "ETH/USDT")) as feeds:
        assert 160 == feeds.venues[0].poll_interval_ms
        assert await until(lambda: len(kucoin.polls()) >= 10)

    polls = [entry for entry in kucoin.asked if "orderbook" in entry[1]][1:10]  # The first one opens its connection.
    # The server's own wake-ups jitter; the mean of eight gaps does not.
    assert 0.075 * 8 <= polls[-1][0] - polls[0][0]
    names = [name for _, _, name in polls]
    assert {4, 5} == {names.count("BTC-USDT"), names.count("ETH-USDT")}


async def test_first_poll_waits_for_the_limit_after_the_instruments(kucoin):
    """
    A request is a request: the one for the instruments counts, too.
    """
    async with started([quick("kucoin", kucoin.base_url, rate_limit_ms=500)]):
        assert await until(lambda: kucoin.polls())
    assert 0.25 <= kucoin.polls()[0] - kucoin.loads()[0]


async def test_one_request_is_under_way_per_venue(kucoin):
    """
    A venue that takes its time is not asked again meanwhile.
    """
    under_way, most = 0, 0

    async def depth(request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.03)
        under_way -= 1

    kucoin.depth = depth
    config = quick("kucoin", kucoin.base_url, poll_interval_ms=10)
    async with started([config], ("BTC/USDT", "ETH/USDT")):
        assert await until(lambda: len(kucoin.polls()) >= 8)
    assert 1 == most


async def test_poll_interval_keeps_its_pace(kucoin):
    """
    Without a limit a symbol is asked at its interval, not as fast as the venue answers.
    """
    async with started([quick("kucoin", kucoin.base_url)]):
        assert await until(lambda: len(kucoin.polls()) >= 7)
    polls = kucoin.polls()[1:7]  # The first one also opens its connection.
    assert 0.45 <= polls[-1] - polls[0]


# Trouble of one symbol, and of a whole venue.


async def test_symbol_that_a_venue_no_longer_knows_does_not_stop_the_others(kucoin):
    """
    One delisted symbol is down; the venue's other symbols go on as before.
    """

    async def depth(request):
        if request.query["symbol"] == "ETH-USDT":
            return web.json_response({"code": "400100", "msg": "Unsupported trading pair."}, status=200)
        return None

    kucoin.depth = depth
    async with started([quick("kucoin", kucoin.base_url)], ("BTC/USDT", "ETH/USDT")) as feeds:
        assert await until(lambda: "not_supported" == seen(feeds, "ETH/USDT")["kucoin"].reason)
        polls = len(kucoin.polls("BTC-USDT"))
        assert await until(lambda: len(kucoin.polls("BTC-USDT")) > polls + 15)
        assert seen(feeds)["kucoin"].live
        # And it is not asked for again soon.
        assert 1 == len(kucoin.polls("ETH-USDT"))


async def test_trouble_of_one_symbol_is_told_once_and_probed_ever_less(kucoin):
    """
    While a venue's other symbols go on, the one in trouble fills neither the log nor the venue's limit.
    """

    async def depth(request):
        if request.query["symbol"] == "ETH-USDT":
            return web.json_response({}, status=503)
        return None

    kucoin.depth = depth
    with capture_logs() as logs:
        async with started([quick("kucoin", kucoin.base_url)], ("BTC/USDT", "ETH/USDT")) as feeds:
            assert await until(lambda: "down" == seen(feeds, "ETH/USDT")["kucoin"].state)
            assert await until(lambda: len(kucoin.polls("ETH-USDT")) >= 5)
            assert seen(feeds)["kucoin"].live
    assert 1 == sum(entry["event"] == "venue.request_failed" for entry in logs)


@pytest.mark.parametrize("retry_after", ["0.6", "1.5"])
async def test_pause_that_a_venue_asks_for_is_kept_for_all_of_its_symbols(kucoin, retry_after):
    """
    After a 429 with Retry-After nothing is asked of the venue until that time has gone by.
    """
    refused_at = None

    async def depth(request):
        nonlocal refused_at
        if refused_at is None and len(kucoin.polls()) > 4:
            refused_at = time.monotonic()
            return web.json_response({"code": "429000", "msg": ""}, status=429, headers={"Retry-After": retry_after})
        return None

    kucoin.depth = depth
    async with started([quick("kucoin", kucoin.base_url)], ("BTC/USDT", "ETH/USDT")) as feeds:
        assert await until(lambda: refused_at and "rate_limited" == seen(feeds)["kucoin"].reason)
        assert "rate_limited" == seen(feeds, "ETH/USDT")["kucoin"].reason
        assert await until(lambda: all_live(feeds) and all_live(feeds, "ETH/USDT"))

    after = [at for at, _, _ in kucoin.asked if at > refused_at]
    assert float(retry_after) <= after[0] - refused_at + 0.01


async def test_pause_of_nothing_is_no_invitation_to_hammer(kucoin):
    """
    Retry-After: 0 does not make a venue that refuses be asked as fast as it answers.
    """

    async def depth(request):
        return web.json_response({}, status=429, headers={"Retry-After": "0"})

    kucoin.depth = depth
    async with started([quick("kucoin", kucoin.base_url)]) as feeds:
        assert await until(lambda: len(kucoin.polls()) >= 5)
        assert "rate_limited" == seen(feeds)["kucoin"].reason
    polls = kucoin.polls()[:5]
    assert 0.38 <= polls[-1] - polls[0]


async def test_ban_without_a_time_is_kept_for_the_default_pause(monkeypatch):
    """
    A 403 with a page of HTML stops the venue for a minute (here: a second), and then it is back.
    """
    assert 60 == ccxt_venue.PAUSE_DEFAULT_S
    monkeypatch.setattr(ccxt_venue, "PAUSE_DEFAULT_S", 1.0)
    with run_in_thread() as simulator:
        async with started([quick(name, simulator.base_url) for name in FIVE]) as feeds:
            assert await until(lambda: all_live(feeds))
            await switch(simulator.base_url, "okx", "forbidden")
            assert await until(lambda: "banned" == seen(feeds)["okx"].reason)
            banned_at = time.monotonic()
            await switch(simulator.base_url, "okx", None)
            assert "live live down live live" == " ".join(source.state for source in seen(feeds).values())
            assert await until(lambda: all_live(feeds))
            assert 0.9 <= time.monotonic() - banned_at


async def test_frozen_side_is_found_and_ends(monkeypatch):
    """
    A venue whose bids stand still while its asks move is out, the others stay, and it is back afterwards.
    """
    monkeypatch.setattr(continuity, "FROZEN_SIDE_NS", 1_500 * MS)
    with run_in_thread() as simulator:
        configs = [quick(name, simulator.base_url, depth=20) for name in FIVE]
        async with started(configs) as feeds:
            assert await until(lambda: all_live(feeds))
            await switch(simulator.base_url, "okx", "frozen_side")
            assert await until(lambda: "frozen_side" == seen(feeds)["okx"].reason, 10)
            assert 4 == sum(source.live for source in seen(feeds).values())
            await switch(simulator.base_url, "okx", None)
            assert await until(lambda: all_live(feeds))


async def test_slow_venue_counts_with_its_honest_age(kucoin):
    """
    A book that was half a second under way is half a second old when it comes in.
    """

    async def depth(request):
        await asyncio.sleep(0.5)

    kucoin.depth = depth
    async with started([quick("kucoin", kucoin.base_url, stale_after_ms=5_000)]) as feeds:
        ages = []

        def noted():
            source = seen(feeds)["kucoin"]
            if source.live:
                ages.append(source.age_ms)
            return len(kucoin.polls()) >= 4

        assert await until(noted)
    assert 495 <= min(ages)


async def test_venue_that_freezes_does_not_slow_the_others():
    """
    While one venue takes requests and never answers, the others are as fresh as before.
    """
    with run_in_thread() as simulator:
        async with started([quick(name, simulator.base_url) for name in FIVE]) as feeds:
            assert await until(lambda: all_live(feeds))
            await switch(simulator.base_url, "kraken", "freeze")
            assert await until(lambda: not seen(feeds)["kraken"].live)
            asked_at = {venue: set() for venue in FIVE}

            def noted():
                for venue, source in seen(feeds).items():
                    asked_at[venue].add(source.book.received_at_ns)
                return all(len(asked_at[venue]) > 5 for venue in FIVE if venue != "kraken")

            # One wait for kraken's answer alone takes three seconds.
            assert await until(noted, 8)
            assert 1 == len(asked_at["kraken"])


# Instruments.


async def test_instruments_are_loaded_anew_every_day(kucoin):
    """
    A day later the steps are the new ones, without a restart.
    """
    clock = Skipping()
    async with started([quick("kucoin", kucoin.base_url)], clock=clock) as feeds:
        assert await until(lambda: all_live(feeds))
        clock.ahead_ns += (feed.INSTRUMENTS_REFRESH_MS - 60_000) * MS
        assert await until(lambda: all_live(feeds))
        assert 1 == len(kucoin.loads())
        clock.ahead_ns += 61_000 * MS
        assert await until(lambda: len(kucoin.loads()) == 2)
        assert await until(lambda: all_live(feeds))


@pytest.mark.parametrize("status", [200, 503])
async def test_refresh_that_fails_leaves_the_books_alone_and_is_tried_again_in_an_hour(kucoin, status):
    """
    A venue whose list of instruments breaks goes on being dealt on by yesterday's rules.
    """
    clock = Skipping()
    async with started([quick("kucoin", kucoin.base_url)], clock=clock) as feeds:
        assert await until(lambda: all_live(feeds))

        async def instruments(request):
            return web.Response(text="<html></html>", status=status)

        kucoin.instruments = instruments
        clock.ahead_ns += (feed.INSTRUMENTS_REFRESH_MS + 1_000) * MS
        assert await until(lambda: len(kucoin.loads()) == 2)
        polls = len(kucoin.polls())
        assert await until(lambda: len(kucoin.polls()) > polls + 10)
        assert all_live(feeds)
        assert 2 == len(kucoin.loads())

        kucoin.instruments = None
        clock.ahead_ns += (feed.INSTRUMENTS_RETRY_MS + 1_000) * MS
        assert await until(lambda: len(kucoin.loads()) == 3)
        assert await until(lambda: all_live(feeds))


async def test_venue_that_cannot_load_its_instruments_is_tried_again(kucoin):
    """
    A venue that is in trouble at our start warms up once its trouble is over.
    """

    async def instruments(request):
        return web.Response(text="<html></html>")

    kucoin.instruments = instruments
    async with started([quick("kucoin", kucoin.base_url)]) as feeds:
        source = seen(feeds)["kucoin"]
        assert ("warming", "no_instruments") == (source.state, source.reason)
        kucoin.instruments = None
        assert await until(lambda: all_live(feeds))


async def test_refusal_of_the_instruments_pauses_the_venue(kucoin):
    """
    The pause that a venue asks for is kept before the first instruments, too.
    """

    async def instruments(request):
        return web.json_response({}, status=418, headers={"Retry-After": "0.5"})

    kucoin.instruments = instruments
    async with started([quick("kucoin", kucoin.base_url)]) as feeds:
        assert "banned" == seen(feeds)["kucoin"].reason
        kucoin.instruments = None
        assert await until(lambda: all_live(feeds))
    first, second, *_ = kucoin.loads()
    assert 0.49 <= second - first


async def test_unexpected_error_is_survived(kucoin, monkeypatch):
    """
    An error that nobody thought of takes the venue down for a second, not the loop.
    """
    monkeypatch.setattr(feed, "PROBE_INTERVAL_MAX_MS", 200)
    async with started([quick("kucoin", kucoin.base_url)]) as feeds:
        assert await until(lambda: all_live(feeds))
        broken = feeds.venues[0]._line._venue
        fetch, broken.fetch_book = broken.fetch_book, None
        assert await until(lambda: "TypeError" == seen(feeds)["kucoin"].reason)
        broken.fetch_book = fetch
        assert await until(lambda: all_live(feeds))


# A stall of our own loop.


async def test_stall_of_the_event_loop_makes_no_price_usable_until_it_is_renewed(kucoin):
    """
    After a second in which nothing ran, no book counts; a moment later, asked for anew, they do.
    """
    async with started([quick("kucoin", kucoin.base_url, stale_after_ms=60_000)]) as feeds:
        assert await until(lambda: all_live(feeds))
        time.sleep(0.7)  # noqa: ASYNC251 Stalls the loop, which is what this is about.
        source = seen(feeds)["kucoin"]
        assert ("stale", "loop_stalled") == (source.state, source.reason)
        assert await until(lambda: all_live(feeds))


# Start.


@pytest.mark.parametrize(("settings", "problem"), [
    ({"stale_after_ms": 1_999, "poll_interval_ms": 1_000},
     "venues.mine.stale_after_ms: 1999 is less than twice the effective interval of 1000 ms; at least 2000 is needed"),
    # Two symbols at 1,200 ms each.
    ({"exchange": "kraken", "rate_limit_ms": None, "stale_after_ms": 4_000},
     "venues.mine.stale_after_ms: 4000 is less than twice the effective interval of 2400 ms; at least 4800 is needed"),
    ({"exchange": "binanse"}, "venues.mine.exchange: ccxt knows no exchange 'binanse'; the nearest are binance"),
])  # fmt: skip
def test_setting_that_cannot_work_is_said_at_start(settings, problem):
    """
    The operator reads which key is wrong, why, and what would do.
    """
    config = replace(VenueConfig("mine", "okx", rate_limit_ms=0), **settings)
    with pytest.raises(VenueConfigError) as caught:
        Feeds([config], ["BTC/USDT", "ETH/USDT"], Decimal(100), SystemClock())

    assert caught.value.problems[0].startswith(problem)


def test_problems_of_all_venues_are_told_at_once():
    """
    One start, one list of everything that is wrong.
    """
    configs = [VenueConfig("a", "nosuch"), VenueConfig("b", "okx"), VenueConfig("c", "nosuch")]
    with pytest.raises(VenueConfigError) as caught:
        Feeds(configs, ["BTC/USDT"], Decimal(100), SystemClock())

    assert ["venues.a", "venues.c"] == [problem[:8] for problem in caught.value.problems]


@pytest.mark.parametrize(("symbols", "limit", "interval_ms", "stale_ms"), [
    (1, 0, 1_000, 5_000), (1, 1_200, 1_200, 5_000), (2, 1_200, 2_400, 5_800), (5, 1_200, 6_000, 13_000),
])  # fmt: skip
def test_defaults_follow_the_rate_limit(symbols, limit, interval_ms, stale_ms):
    """
    A venue that may be asked seldom is polled seldom, and its books may be older.
    """
    names = [f"S{number}/USDT" for number in range(symbols)]
    [venue] = Feeds([VenueConfig("okx", "okx", rate_limit_ms=limit)], names, Decimal(100), SystemClock()).venues

    assert (interval_ms, stale_ms) == (venue.poll_interval_ms, venue.stale_after_ms)


async def test_symbol_that_no_venue_trades_is_refused_with_the_nearest(kucoin):
    """
    A misspelled symbol fails at start, with those it may have been.
    """
    feeds = Feeds([quick("kucoin", kucoin.base_url)], ["BTC/USDT", "BTC/USDR", "XXXXXX"], Decimal(100), SystemClock())
    try:
        with pytest.raises(VenueConfigError) as caught:
            await feeds.start()
    finally:
        await feeds.close()

    assert [
        "market.symbols: no venue trades 'BTC/USDR'; the nearest are BTC/USDT, ETH/USDT",
        "market.symbols: no venue trades 'XXXXXX'",
    ] == caught.value.problems


async def test_symbol_that_only_some_venues_trade_is_served_by_those():
    """
    A venue that does not list a symbol is no source of it.
    """
    with run_in_thread() as simulator:
        configs = [quick(name, simulator.base_url) for name in ("okx", "kraken")]
        async with started(configs, ("BTC/USDT", "BTC/USD")) as feeds:
            assert await until(lambda: all_live(feeds) and all_live(feeds, "BTC/USD"))
            assert ["kraken"] == list(seen(feeds, "BTC/USD"))


async def test_venue_without_any_of_the_symbols_rests(kucoin):
    """
    A venue that trades none of them is asked for nothing.
    """
    kucoin.symbols = ("DOGE-USDT",)
    with run_in_thread() as simulator:
        configs = [quick("okx", simulator.base_url), quick("kucoin", kucoin.base_url)]
        async with started(configs) as feeds:
            assert await until(lambda: all_live(feeds))
            assert ["okx"] == list(seen(feeds))
    assert not kucoin.polls()


async def test_start_waits_no_longer_than_it_was_told(kucoin):
    """
    A venue that does not answer holds up the start for so long, not for ever; it goes on warming.
    """
    ended = asyncio.Event()

    async def instruments(request):
        await ended.wait()

    kucoin.instruments = instruments
    before = time.monotonic()
    async with started([quick("kucoin", kucoin.base_url)], ("ANY/THING",), wait_s=0.2) as feeds:
        # Nobody has told what it trades, so no symbol is called unknown.
        assert 0.2 <= time.monotonic() - before < 2
        assert ["warming"] == [source.state for source in seen(feeds, "ANY/THING").values()]
    ended.set()


async def test_close_is_prompt_while_a_venue_hangs():
    """
    Stopping does not wait for a venue that never answers.
    """
    with run_in_thread() as simulator:
        async with started([quick("okx", simulator.base_url)]) as feeds:
            assert await until(lambda: all_live(feeds))
            await switch(simulator.base_url, "okx", "freeze")
            await asyncio.sleep(0.2)
            before = time.monotonic()
        assert time.monotonic() - before < 1


async def test_symbol_is_served_from_another_one_with_the_stable_pair_beside_it():
    """
    A venue that serves BTC/USDT from BTC/USD is asked for BTC/USD, and every venue for the stable pair that it trades.
    """
    with run_in_thread() as simulator:
        configs = [
            quick("bitstamp", simulator.base_url, depth=20, symbols={"BTC/USDT": "BTC/USD"}),
            quick("kraken", simulator.base_url, depth=20),
            quick("binance", simulator.base_url, depth=20),
        ]
        async with started(configs) as feeds:

            def live(symbol):
                return {venue for venue, source in seen(feeds, symbol).items() if source.live}

            assert await until(
                lambda: {"BTC/USD": {"bitstamp"}, "BTC/USDT": {"kraken", "binance"}, "USDT/USD": {"bitstamp", "kraken"}}
                == {symbol: live(symbol) for symbol in ("BTC/USD", "BTC/USDT", "USDT/USD")}
            )  # fmt: skip
            # The other way of writing the pair is nobody's.
            assert () == feeds.board.sources("USD/USDT", feeds._clock.now_ns())


@pytest.mark.parametrize(("symbols", "mapped", "problems"), [
    (("BTC/USDT",), {"BTC/USDT": "BTC/USX"}, ["venues.bitstamp.symbols: the venue does not trade 'BTC/USX'"]),
    (("BTC/UST",), {}, ["market.symbols: no venue trades 'BTC/UST'; the nearest are BTC/USDT"]),
    (("BTC/EUR",), {"BTC/EUR": "BTC/USD"}, []),
])  # fmt: skip
async def test_symbol_that_nobody_trades_stops_the_start(symbols, mapped, problems):
    """
    A misspelled symbol, or one that a venue is to serve another from, is named with the nearest ones.
    """
    with run_in_thread() as simulator:
        config = quick("bitstamp", simulator.base_url, symbols=mapped)
        feeds = Feeds([config], symbols, Decimal(100), SystemClock())
        try:
            if problems:
                with pytest.raises(VenueConfigError) as caught:
                    await feeds.start()
                assert len(problems) == len(caught.value.problems)
                for told, expected in zip(caught.value.problems, problems, strict=True):
                    assert told.startswith(expected)
            else:
                await feeds.start()
        finally:
            await feeds.close()


def test_stable_pairs_are_those_between_what_is_served_and_what_is_traded():
    """
    Each pair of assets is named once, in both of its spellings; who converts nothing needs none.
    """
    plain, usd = quick("okx", "http://x"), quick("kraken", "http://x", symbols={"BTC/USDT": "BTC/USD"})
    usdc = quick("coinbase", "http://x", symbols={"ETH/USDT": "ETH/USDC", "BTC/USD": "BTC/USDT"})
    served = ("BTC/USDT", "ETH/USDT", "BTC/USD")

    assert [] == stable_pairs([plain], served)
    assert [("USDT/USD", "USD/USDT"), ("USDT/USDC", "USDC/USDT")] == stable_pairs([plain, usd, usdc], served)


async def test_rejects_are_counted_by_plain_words(kucoin):
    """
    What a counter is called can be written into any message.
    """

    async def depth(request):
        return web.json_response({"code": "200000", "data": {"time": 1, "sequence": "1", "bids": [], "asks": []}})

    kucoin.depth = depth
    async with started([quick("kucoin", kucoin.base_url)]) as feeds:
        assert await until(lambda: feeds.board.tally("kucoin").rejected["empty"] >= 1)
        assert {str} == {type(reason) for reason in feeds.board.tally("kucoin").rejected}
