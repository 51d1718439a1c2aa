"""Genuine recordings of venues' streams, played by loopback venues through unmodified ccxt.pro to the board.

A recording is played one message at a time: the next one is sent when what the last one made is on the board.  The
clock is the recording's own.  What the board must hold is computed beside it from the recorded lines, in Decimals.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import time
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

import ccxt.pro
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from exchanges import streaming
from exchanges.clock import MS
from exchanges.feeds import Feeds, VenueConfig

PATIENCE_S = 20
BEAT_MS = 400
"""The clock is moved by no more than this between two beats of the board, as a loop that runs would."""


def messages(path):
    """Give what a recording received, with its time in ns: ``ns json`` or ``seconds: json`` a line."""
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        at, _, text = line.partition(" ")
        if text.startswith("{") and at[:1].isdigit():
            yield (round(Decimal(at[:-1]) * 1_000_000_000) if at.endswith(":") else int(at)), json.loads(text)


class BookFromLines:
    """A book as the recorded lines alone make it: no float anywhere, and no limit to its depth."""

    def __init__(self, bids, asks):
        self._quantities = ({}, {})
        self._sorted = ([], [])  # Bids by -price: best first on both sides.
        self.change(bids, asks)

    def change(self, bids, asks):
        for side, levels in enumerate((bids, asks)):
            for price, quantity, *_ in levels:
                self._set(side, Decimal(price), Decimal(quantity))

    def _set(self, side, price, quantity):
        key = price if side else -price
        known = key in self._quantities[side]
        if not known and quantity:
            self._sorted[side].insert(bisect_left(self._sorted[side], key), key)
        elif known and not quantity:
            del self._sorted[side][bisect_left(self._sorted[side], key)]
        if quantity:
            self._quantities[side][key] = quantity
        else:
            self._quantities[side].pop(key, None)

    def top(self, depth):
        """Give the best levels of both sides as (price, quantity)."""
        return tuple([(abs(key), self._quantities[side][key]) for key in self._sorted[side][:depth]] for side in (0, 1))

    def written(self, depth):
        """Give the best levels of both sides as a venue writes them."""
        return tuple([[f"{price:f}", f"{quantity:f}"] for price, quantity in side] for side in self.top(depth))


@dataclass
class Venue:
    """A loopback venue: answers requests by their path, and sends on its socket what it is told to."""

    answers: Callable[[str, dict], object]
    """Gives the body for a path without its host, and the query; may be awaited."""
    greets: Callable[[dict], list[dict]]
    """Gives what a message to the venue is answered with."""
    base_url: str = ""
    asked: list = field(default_factory=list)
    heard: list = field(default_factory=list)
    """Each message, and the socket that it came by: ccxt opens one per symbol of Binance's."""

    async def serve(self, request):
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        path = request.match_info["path"].strip("/")
        self.asked.append(path)
        body = self.answers(path, request.query)
        if asyncio.iscoroutine(body):
            body = await body
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body if isinstance(body, bytes) else json.dumps(body).encode())

    async def _stream(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data.startswith("{"):
                for answer in self.greets(json.loads(message.data)):
                    await socket.send_str(json.dumps(answer))
                self.heard.append((message.data, socket))
        return socket

    async def send(self, message, topic=""):
        """Send a message by the socket that *topic* was subscribed on."""
        socket = next(socket for heard, socket in self.heard if topic in heard)
        await socket.send_str(json.dumps(message))


async def until(condition):
    """Wait for a condition, without wasting any time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it has not come"
        await asyncio.sleep(0)


class Played:
    """Feeds of one streamed venue on the recording's clock, and what is seen of its board."""

    def __init__(self, venue, feeds, clock, symbols):
        self.venue, self.feeds, self.clock, self.symbols = venue, feeds, clock, symbols
        self.board, self.name = feeds.board, feeds.venues[0].config.name
        self._began_ns, self._clock_began_ns = None, clock.now_ns()
        self._latest = {}
        self.came = Counter()
        self.compared = self.wrong = self.crossed = 0
        self.board.follow(self._note)

    def _note(self, book, now_ns):
        """Count a book that is new; one that an answer has confirmed is the old one with a new age."""
        before = self._latest.get(book.symbol)
        self._latest[book.symbol] = book
        self.came[book.symbol] += before is None or before.bids is not book.bids

    @property
    def tally(self):
        return self.board.tally(self.name)

    def book(self, symbol):
        return self.board.source(self.name, symbol, self.clock.now_ns()).book

    def sequence(self, symbol):
        book = self.book(symbol)
        return None if book is None else book.sequence

    def levels(self, symbol):
        book = self.book(symbol)
        return list(map(tuple, book.bids)), list(map(tuple, book.asks))

    def move_to(self, at_ns):
        """Move the clock to a moment of the recording."""
        self._began_ns = self._began_ns or at_ns
        due_ns = self._clock_began_ns + at_ns - self._began_ns
        while self.clock.now_ns() < due_ns:
            self.clock.advance(min(BEAT_MS, -(-(due_ns - self.clock.now_ns()) // MS)))
            self.board.beat(self.clock.now_ns())

    async def first_books(self):
        await until(lambda: all(self.came[symbol] for symbol in self.symbols))

    async def send(self, message, symbol, expected, topic=""):
        """Send a message, wait until the book that it makes has been taken or rejected, and compare."""
        came, rejected = self.came[symbol], self.tally.rejected.total()
        await self.venue.send(message, topic)
        await until(lambda: self.came[symbol] > came or self.tally.rejected.total() > rejected)
        self.compare(symbol, expected)

    def compare(self, symbol, expected):
        """Hold the board's book against the expected one, and look for crossed books among all that it holds."""
        depth = self.feeds.venues[0].config.depth
        self.compared += 1
        self.wrong += expected.top(depth) != self.levels(symbol)
        for each in self.symbols:
            book = self.book(each)
            self.crossed += book is not None and max(book.bids.prices) >= min(book.asks.prices)

    def came_to(self):
        """Tell what came of it, and print it (pytest -s)."""
        tally = self.tally
        print(  # noqa: T201
            f"\n{self.name}: {self.compared} books compared, {self.wrong} wrong, {self.crossed} crossed; "
            f"{tally.accepted} accepted, rejected {dict(tally.rejected)}, failed {dict(tally.failed)}, "
            f"{tally.reconnects} reconnects, {Counter(self.venue.asked).total()} requests"
        )
        trouble = [*tally.rejected.elements(), *tally.failed.elements()]
        return self.wrong, self.crossed, trouble, tally.reconnects


ALL_GOOD = (0, 0, [], 0)


@contextlib.asynccontextmanager
async def played(venue, exchange, symbols, clock, **settings):
    """Run feeds of a streamed loopback venue for as long as the context lasts."""
    settings = {"taker_fee_bps": Decimal(10), "depth": 100, "stale_after_ms": 60_000} | settings
    app = web.Application()
    app.router.add_get("/{host}{path:(/.*)?}", venue.serve)
    async with TestServer(app) as server:
        venue.base_url = str(server.make_url("")).rstrip("/")
        config = VenueConfig(
            exchange, exchange, base_url=venue.base_url, transport="stream", rate_limit_ms=0, **settings
        )
        feeds = Feeds([config], symbols, Decimal(100), clock)
        try:
            await feeds.start(PATIENCE_S)
            await until(lambda: len(venue.heard) >= len(symbols))
            yield Played(venue, feeds, clock, symbols)
        finally:
            await feeds.close()


@pytest.fixture(autouse=True)
def subscribed_at_once(monkeypatch):
    """The venue is not a real one; it takes all subscriptions at once."""
    monkeypatch.setattr(streaming, "SUBSCRIBE_MS", 0)


def instruments(recorded, file):
    return (recorded / "rest_markets" / file).read_bytes()


# Binance.


class Binance:
    """A loopback Binance whose depth snapshot is the recorded one first, and then the book as it stands."""

    def __init__(self, recorded, snapshots):
        """*snapshots* by the venue's symbol, as recorded."""
        self._instruments = instruments(recorded, "binance_exchangeInfo.json")
        self._snapshots = snapshots
        self.books = {name: BookFromLines(body["bids"], body["asks"]) for name, body in snapshots.items()}
        self.last = {name: body["lastUpdateId"] for name, body in snapshots.items()}
        self.begun = asyncio.Event()
        self._given = set()
        self.venue = Venue(self._answer, lambda heard: [{"result": None, "id": heard["id"]}])

    def _answer(self, path, query):
        if path == "api/v3/exchangeInfo":
            return self._instruments
        return self._depth(query["symbol"], int(query["limit"])) if path == "api/v3/depth" else None

    async def _depth(self, name, limit):
        await self.begun.wait()
        if name not in self._given:
            self._given.add(name)
            return self._snapshots[name]
        bids, asks = self.books[name].written(limit)
        return {"lastUpdateId": self.last[name], "bids": bids, "asks": asks}

    def apply(self, diff):
        """Bring the book that is computed beside ours up to a diff."""
        if diff["u"] > self.last[diff["s"]]:
            assert diff["U"] <= self.last[diff["s"]] + 1
            self.books[diff["s"]].change(diff["b"], diff["a"])
            self.last[diff["s"]] = diff["u"]


def recorded_binance(recorded):
    """Give the snapshot, the diffs before it and those after it, of six minutes of BTC/USDT."""
    before, after, snapshot = [], [], None
    for at_ns, message in messages(recorded / "streams" / "binance_btcusdt_20240808.gz"):
        if "lastUpdateId" in message:
            snapshot = message
        elif message["stream"].endswith("@depth@100ms"):
            (before if snapshot is None else after).append((at_ns, message["data"]))
    return snapshot, before, after


@pytest.mark.parametrize(("depth", "diffs"), [(100, None), (700, 300)])
async def test_book_is_the_one_that_the_recorded_lines_make_after_every_diff(recorded, clock, depth, diffs):
    """
    Six minutes of Binance's BTC/USDT: after every diff, every level that the board holds is the venue's.
    """
    snapshot, before, after = recorded_binance(recorded)
    binance = Binance(recorded, {"BTCUSDT": snapshot})
    ours = binance.books["BTCUSDT"]
    async with played(binance.venue, "binance", ["BTC/USDT"], clock, depth=depth) as play:
        # The recording's first diffs came before its snapshot; the last of them reaches beyond it.
        for at_ns, diff in before:
            play.move_to(at_ns)
            await binance.venue.send(diff)
            binance.apply(diff)
        binance.begun.set()
        await play.first_books()
        play.compare("BTC/USDT", ours)
        for at_ns, diff in after[:diffs]:
            play.move_to(at_ns)
            binance.apply(diff)
            await play.send(diff, "BTC/USDT", ours)
            assert diff["u"] == play.sequence("BTC/USDT")
        assert ALL_GOOD == play.came_to()
    assert 1 + len(after[:diffs]) == play.compared
    assert diffs is not None or 3_449 == play.compared


async def test_thin_symbols_of_binance_are_right_after_every_diff(recorded, clock):
    """
    Four symbols, for each of which ccxt opens a connection, each with its own recorded snapshot.
    """
    names = {"NKNUSDT": "NKN/USDT", "BLZETH": "BLZ/ETH", "LRCBTC": "LRC/BTC", "RUNEEUR": "RUNE/EUR"}
    folder = recorded / "rest_depth"
    binance = Binance(recorded, {name: json.loads((folder / f"BINANCE__{name}.json").read_text()) for name in names})
    binance.begun.set()
    async with played(binance.venue, "binance", list(names.values()), clock) as play:
        await play.first_books()
        for at_ns, message in messages(recorded / "streams" / "BINANCE.ws.1.0.gz"):
            diff, topic = message["data"], message["stream"]
            if not topic.endswith("@depth@100ms") or diff["u"] <= binance.last[diff["s"]]:
                continue
            play.move_to(at_ns)
            binance.apply(diff)
            await play.send(diff, names[diff["s"]], binance.books[diff["s"]], topic)
        assert ALL_GOOD == play.came_to()
    assert 172 == play.compared


# OKX.


def okx_sum(bids, asks):
    """Compute the checksum that OKX sends with its books: of the best 25 levels, as it writes them, side by side."""
    columns = [
        ":".join(levels[place][:2])
        for place in range(25)
        for levels in (bids, asks)
        if place < len(levels)
    ]  # fmt: skip
    checksum = zlib.crc32(":".join(columns).encode())
    return checksum - (1 << 32) if checksum >= 1 << 31 else checksum


async def test_books_of_okx_have_the_sum_that_okx_says(recorded, clock):
    """
    Every recorded book of BTC/USDT is taken, is not crossed, is what the lines make and adds up as the venue says.
    """
    rows = json.loads(instruments(recorded, "okx_instruments_spot.json"))
    okx = Venue(
        lambda path, query: rows if path == "api/v5/public/instruments" else None,
        lambda heard: [{"event": "subscribe", "arg": arg} for arg in heard["args"]],
    )
    ours = BookFromLines((), ())
    async with played(okx, "okx", ["BTC/USDT"], clock) as play:
        for at_ns, message in messages(recorded / "streams" / "OKX.ws.1.0.gz"):
            if message.get("arg") != {"channel": "books", "instId": "BTC-USDT"} or "data" not in message:
                continue
            play.move_to(at_ns)
            (body,) = message["data"]
            ours.change(body["bids"], body["asks"])
            await play.send(message, "BTC/USDT", ours)
            held = [[[f"{price:f}", f"{quantity:f}"] for price, quantity in side] for side in play.levels("BTC/USDT")]
            assert body["checksum"] == okx_sum(*held)
        assert ALL_GOOD == play.came_to()
    assert 98 == play.compared == play.tally.accepted


# Bitstamp.


class Bitstamp:
    """A loopback Bitstamp with the recorded answers of five symbols, given when the stream has come to their time."""

    NAMES = ("adaeur", "ethusd", "usdteur", "usdtusd", "xrpeur")

    def __init__(self, recorded):
        old = {row["url_symbol"]: row for row in json.loads(instruments(recorded, "bitstamp_trading-pairs-info.json"))}
        self._instruments = [self._row(old[name]) for name in self.NAMES]
        self.symbols = {name: old[name]["name"] for name in self.NAMES}
        folder = recorded / "rest_depth"
        self.bodies = {name: json.loads((folder / f"BITSTAMP__{name}.json").read_text()) for name in self.NAMES}
        self.books = {name: BookFromLines(body["bids"], body["asks"]) for name, body in self.bodies.items()}
        self.at = {name: int(body["microtimestamp"]) for name, body in self.bodies.items()}
        self.begun = asyncio.Event()
        self.older_answers = 0
        self._given = set()
        self.venue = Venue(
            self._answer,
            lambda heard: [heard["data"] | {"event": "bts:subscription_succeeded", "data": {}}],
        )

    @staticmethod
    def _row(old):
        """Write an instrument, recorded in 2022, as the venue writes it today."""
        base, quote = old["name"].split("/")
        return {
            "name": old["name"], "market_symbol": old["url_symbol"], "market_type": "SPOT", "trading": "Enabled",
            "base_currency": base, "counter_currency": quote, "base_decimals": old["base_decimals"],
            "counter_decimals": old["counter_decimals"], "minimum_order_value": old["minimum_order"].split()[0],
            "instant_and_market_orders": "Enabled", "description": old["description"],
            "instant_order_counter_decimals": 2,
        }  # fmt: skip

    def _answer(self, path, query):
        if path == "api/v2/markets":
            return self._instruments
        return self._depth(path.rpartition("/")[2]) if path.startswith("api/v2/order_book/") else None

    async def _depth(self, name):
        await self.begun.wait()
        if self.older_answers:
            self.older_answers -= 1
            return self.bodies[name] | {"microtimestamp": "1641343690000000"}
        if name not in self._given:
            self._given.add(name)
            return self.bodies[name]
        bids, asks = self.books[name].written(None)
        at = self.at[name]
        return {"timestamp": str(at // 1_000_000), "microtimestamp": str(at), "bids": bids, "asks": asks}

    def apply(self, name, change):
        """Bring the book that is computed beside ours up to a change."""
        if int(change["microtimestamp"]) > self.at[name]:
            self.books[name].change(change["bids"], change["asks"])
            self.at[name] = int(change["microtimestamp"])

    def recording(self, recorded):
        """Give the recorded changes of the symbols whose answers are there, with their names."""
        for at_ns, message in messages(recorded / "streams" / "BITSTAMP.ws.1.0.gz"):
            channel, _, name = message["channel"].rpartition("_")
            if channel == "diff_order_book" and message["event"] == "data" and name in self.symbols:
                yield at_ns, message, name


async def test_books_of_bitstamp_are_right_after_every_change(recorded, clock):
    """
    Five symbols with the answers recorded beside them, which most often show a moment between two changes.
    """
    bitstamp = Bitstamp(recorded)
    newer = Counter()
    async with played(bitstamp.venue, "bitstamp", list(bitstamp.symbols.values()), clock) as play:
        for at_ns, message, name in bitstamp.recording(recorded):
            bitstamp.apply(name, message["data"])
            if bitstamp.begun.is_set():
                play.move_to(at_ns)
                await play.send(message, bitstamp.symbols[name], bitstamp.books[name])
                assert bitstamp.at[name] == play.sequence(bitstamp.symbols[name])
                continue
            # As in the recording, the answers come after changes that are newer than they are.
            await bitstamp.venue.send(message)
            newer[name] += message["data"]["microtimestamp"] > bitstamp.bodies[name]["microtimestamp"]
            if all(newer[name] for name in bitstamp.NAMES):
                bitstamp.begun.set()
                await play.first_books()
                for each, symbol in bitstamp.symbols.items():
                    play.compare(symbol, bitstamp.books[each])
        assert ALL_GOOD == play.came_to()
    assert 300 < play.compared


async def test_book_of_bitstamp_comes_with_the_first_change(recorded, clock):
    """
    A thin symbol's book is there at once, even if the first answers are older than the change.
    """
    bitstamp = Bitstamp(recorded)
    bitstamp.older_answers = 7
    bitstamp.begun.set()
    _, message, name = next(bitstamp.recording(recorded))
    async with played(bitstamp.venue, "bitstamp", [bitstamp.symbols[name]], clock) as play:
        await bitstamp.venue.send(message)
        await play.first_books()
        play.compare(play.symbols[0], bitstamp.books[name])
        assert ALL_GOOD == play.came_to()


async def test_half_a_stream_is_found_out_by_an_answer(recorded, clock):
    """
    A side that stands still while the other moves is no fault in itself: the venue is asked, and here it shows another.
    """
    bitstamp = Bitstamp(recorded)
    bitstamp.begun.set()
    async with played(bitstamp.venue, "bitstamp", ["ETH/USD"], clock) as play:
        began_ns = clock.now_ns()
        for at_ns, message, name in bitstamp.recording(recorded):
            if name != "ethusd":
                continue
            play.move_to(at_ns)
            if clock.now_ns() - began_ns > 20_000 * MS:  # Long before it would be asked anyway.
                break
            bitstamp.apply(name, message["data"])
            await bitstamp.venue.send(message | {"data": message["data"] | {"asks": []}})
            await until(lambda: play.tally.failed or bitstamp.at["ethusd"] == play.sequence("ETH/USD"))
        await until(lambda: play.tally.failed)
        assert {"rest_disagrees": 1} == play.tally.failed


# Coinbase Exchange.


async def test_books_of_coinbase_exchange_are_right_after_every_change(recorded, clock, monkeypatch):
    """
    Ten symbols; ccxt asks for a key to subscribe, which the loopback venue does not look at.
    """
    for name in ("apiKey", "secret", "password"):
        monkeypatch.setattr(ccxt.pro.coinbaseexchange, name, base64.b64encode(b"none").decode())
    rows = json.loads(instruments(recorded, "coinbaseexchange_products.json"))
    recording = [
        (at_ns, message)
        for at_ns, message in messages(recorded / "streams" / "COINBASE.ws.28.0.gz")
        if message["type"] in ("snapshot", "l2update")
    ]
    symbols = sorted({message["product_id"].replace("-", "/") for _, message in recording})
    books, times = {}, {}

    def answers(path, query):
        if path == "products":
            return rows
        symbol = path.split("/")[1].replace("-", "/")
        bids, asks = ([[*level, 1] for level in side] for side in books[symbol].written(None))
        return {"sequence": 1, "time": times[symbol], "bids": bids, "asks": asks}

    coinbase = Venue(answers, lambda heard: [])
    async with played(coinbase, "coinbaseexchange", symbols, clock, depth=20) as play:
        for at_ns, message in recording:
            play.move_to(at_ns)
            symbol = message["product_id"].replace("-", "/")
            if message["type"] == "snapshot":
                books[symbol] = BookFromLines(message["bids"], message["asks"])
            else:
                times[symbol] = message["time"]
                for side, price, quantity in message["changes"]:
                    books[symbol].change(*([[(price, quantity)], []] if side == "buy" else [[], [(price, quantity)]]))
            await play.send(message, symbol, books[symbol])
        assert ALL_GOOD == play.came_to()
    assert len(recording) == play.compared
