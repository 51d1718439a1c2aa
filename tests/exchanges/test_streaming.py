"""A venue's stream, message by message: what is believed, what is thrown away, and when the venue is polled instead.

The venue is one of our own that speaks Bybit's formats, so that every message, and every silence, is the test's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from exchanges import board, continuity, feed, streaming
from exchanges.clock import MS, SystemClock
from exchanges.errors import VenueConfigError
from exchanges.feeds import Feeds, VenueConfig

SYMBOL = "BTC/USDT"
INSTRUMENT = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading", "marginTrading": "none",
    "lotSizeFilter": {"basePrecision": "0.000001", "quotePrecision": "0.01", "minOrderQty": "0.0001",
                      "maxOrderQty": "100", "minOrderAmt": "1", "maxOrderAmt": "1000000"},
    "priceFilter": {"tickSize": "0.1"},
}  # fmt: skip


@dataclass
class Bybit:
    """A loopback venue whose book the test writes."""

    base_url: str = ""
    bids: dict = field(default_factory=lambda: {"100": "1", "99": "2"})
    asks: dict = field(default_factory=lambda: {"101": "1", "102": "2"})
    sockets: list = field(default_factory=list)
    subscribed: int = 0
    asked: int = 0
    update_id: int = 0
    refusing: bool = False
    snapshots: bool = True
    answers: bool = True
    shown_over_rest: dict | None = None
    ahead_ms: int = 0

    async def instruments(self, request):
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": {"list": [INSTRUMENT]}})

    async def book(self, request):
        self.asked += 1
        if not self.answers:
            return web.Response(status=503)
        bids = self.bids if self.shown_over_rest is None else self.shown_over_rest
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": self._data(bids, self.asks, self.now_ms())})

    async def socket(self, request):
        if self.refusing:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            command = message.json()
            if command.get("op") == "ping":
                await socket.send_json({"op": "pong", "success": True})
            elif command.get("op") == "subscribe":
                self.subscribed += 1
                await socket.send_json(
                    {"success": True, "op": "subscribe", "conn_id": "x", "req_id": command["req_id"]}
                )
                if self.snapshots:
                    await self.send(self.bids, self.asks, kind="snapshot")
        return socket

    def _data(self, bids, asks, time_ms):
        rows = [[[price, quantity] for price, quantity in side.items()] for side in (bids, asks)]
        return {"s": "BTCUSDT", "b": rows[0], "a": rows[1], "u": self.update_id, "seq": self.update_id, "ts": time_ms}

    async def send(self, bids, asks=(), *, kind="delta", late_ms=0, update_id=None):
        """Send a change, numbered after the last one, or a snapshot."""
        self.update_id = self.update_id + 1 if update_id is None else update_id
        made_ms = self.now_ms() - late_ms
        data = self._data(bids, dict(asks), made_ms)
        message = {"topic": "orderbook.200.BTCUSDT", "type": kind, "ts": made_ms, "data": data}
        await self.sockets[-1].send_json(message)

    async def change(self, **bids):
        """Set quantities of bids, named like b100, and tell the stream."""
        changed = {price.removeprefix("b"): quantity for price, quantity in bids.items()}
        self.bids = {price: quantity for price, quantity in (self.bids | changed).items() if quantity != "0"}
        await self.send(changed)

    def now_ms(self):
        return time.time_ns() // MS + self.ahead_ms


@pytest.fixture
async def bybit(monkeypatch):
    monkeypatch.setattr(board, "STALL_NS", 10_000 * MS)  # The machine may hold these tests up without a stall.
    venue = Bybit()
    app = web.Application()
    app.router.add_get("/api.bybit.com/v5/market/instruments-info", venue.instruments)
    app.router.add_get("/api.bybit.com/v5/market/orderbook", venue.book)
    app.router.add_get("/stream.bybit.com/v5/public/spot", venue.socket)
    async with TestServer(app) as server:
        venue.base_url = str(server.make_url("")).rstrip("/")
        yield venue


@dataclass
class Skipping(SystemClock):
    """The machine's clock, which can be put ahead."""

    ahead_ns: int = 0

    def now_ns(self):
        return super().now_ns() + self.ahead_ns


class Streamed:
    """The feeds of one streamed venue, and what the board shows of it."""

    def __init__(self, feeds, clock):
        self.feeds, self._clock = feeds, clock

    @property
    def source(self):
        return self.feeds.board.source("bybit", SYMBOL, self._clock.now_ns())

    @property
    def bids(self):
        source = self.source
        levels = source.book.bids if source.live else ()
        return " ".join(f"{level.price:f}x{level.quantity:f}" for level in levels)

    @property
    def seen(self):
        return (str(self.source.state), self.source.reason)

    @property
    def tally(self):
        return self.feeds.board.tally("bybit")

    @property
    def venue(self):
        return self.feeds.venues[0]

    async def shows(self, bids):
        await until(lambda: bids == self.bids)


@contextlib.asynccontextmanager
async def streamed(venue, clock=None, **settings):
    clock = clock or SystemClock()
    given = {"rate_limit_ms": 0, "poll_interval_ms": 100, "stale_after_ms": 20_000} | settings
    config = VenueConfig("bybit", "bybit", base_url=venue.base_url, transport="stream", **given)
    feeds = Feeds([config], [SYMBOL], Decimal(100), clock)
    try:
        await feeds.start()
        yield Streamed(feeds, clock)
    finally:
        await feeds.close()


async def until(condition):
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it has not come to this in time"
        await asyncio.sleep(0.005)


# What is believed.


async def test_book_is_the_snapshot_and_every_change_after_it(bybit):
    """
    Levels come, change and go as the venue says, and each state of the book is shown.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        await bybit.change(b100="3", b98="5")
        await stream.shows("100x3 99x2 98x5")
        await bybit.change(b100="0")
        await stream.shows("99x2 98x5")
        assert ("stream", None, 0) == (stream.venue.transport, stream.venue.fallback_reason, stream.tally.reconnects)
        assert 0 == bybit.asked


async def test_delay_of_a_streamed_book_counts_by_the_venues_clock(bybit):
    """
    A book that was two seconds under way is counted as such, and nothing as an answer to a request.
    """
    bybit.snapshots = False
    async with streamed(bybit) as stream:
        await until(lambda: bybit.subscribed)
        await bybit.send(bybit.bids, bybit.asks, kind="snapshot", late_ms=2_000)
        await stream.shows("100x1 99x2")
        delays = stream.tally.streamed_s
        assert 1 == sum(delays.counts)
        assert 2.0 <= delays.sum < 7.0
        assert 0 == sum(stream.tally.answered_s.counts)


async def test_age_of_a_streamed_book_counts_by_the_venues_clock(bybit):
    """
    A change that was four seconds under way is four seconds old when it comes in; one of six is refused.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        await bybit.send({"100": "2"}, late_ms=4_000)
        await until(lambda: "out_of_order" in stream.tally.rejected)
        await bybit.send({"100": "3"})
        await stream.shows("100x3 99x2")
        assert 1_000 > stream.source.age_ms


async def test_depth_is_cut_to_what_the_settings_ask_for(bybit):
    """
    The stream's deeper levels are kept by it, not shown.
    """
    async with streamed(bybit, depth=1) as stream:
        await stream.shows("100x1")
        await bybit.change(b100="0")
        await stream.shows("99x2")


# What is thrown away.


async def test_gap_in_the_venues_numbers_empties_the_book_until_a_new_snapshot(bybit):
    """
    The change after a lost one is not believed, nor anything before it: a moment later a snapshot is.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        bybit.snapshots = False
        bybit.bids["97"] = "9"
        await bybit.send({"100": "7"}, update_id=bybit.update_id + 2)
        await until(lambda: ("stale", "sequence_gap") == stream.seen)
        assert stream.source.book is None
        bybit.snapshots = True
        await until(lambda: 2 == bybit.subscribed)
        await bybit.send(bybit.bids, bybit.asks, kind="snapshot")
        await stream.shows("100x1 99x2 97x9")
        assert (1, 1) == (stream.tally.reconnects, stream.tally.failed["sequence_gap"])


@pytest.mark.parametrize(("text", "reason"), [
    ('{"topic": "orderbook.200.BTCUSDT", "type"', "bad_message"),
    ('{"topic": "orderbook.200.BTCUSDT", "type": "delta", "data": 7}', "bad_message"),
    ('{"topic": "orderbook.200.BTCUSDT", "type": "delta", "data": {"s": "BTCUSDT", "b": [["x"]], "a": [], "u": 2}}',
     "bad_message"),
    ('{"padding": "' + "x" * (4 * 1024 * 1024) + '"}', "too_large"),
], ids=["cut", "shape", "numbers", "too_long"])  # fmt: skip
async def test_message_that_breaks_ccxt_does_not_hang_the_stream(bybit, text, reason):
    """
    Ccxt's loop would end for good at it; here the stream is made anew, and says why.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        await bybit.sockets[-1].send_str(text)
        await until(lambda: stream.tally.failed[reason])
        await stream.shows("100x1 99x2")
        assert 2 == bybit.subscribed


async def test_binary_garbage_does_not_hang_the_stream(bybit):
    """
    A frame that is no text, and not UTF-8, is a message that cannot be.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        await bybit.sockets[-1].send_bytes(b"\xff\xfe\x00")
        await until(lambda: stream.tally.failed["bad_message"])
        await stream.shows("100x1 99x2")


@pytest.mark.parametrize("code", [1000, 1006, 1011, 1013])
async def test_closed_socket_is_opened_again(bybit, code):
    """
    Whatever the venue gives as its reason, the book is emptied, and there again a moment later.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        bybit.bids["98"] = "4"
        if code == 1006:
            bybit.sockets[-1]._req.transport.abort()
        else:
            await bybit.sockets[-1].close(code=code)
        await stream.shows("100x1 99x2 98x4")
        assert 1 == stream.tally.failed["disconnected"]


async def test_book_that_cannot_be_is_refused_and_then_the_stream_made_anew(bybit):
    """
    One crossed state is waited out; after three in a row the stream is not believed any more.
    """
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        await bybit.send({"103": "1"})
        await until(lambda: 1 == stream.tally.rejected["crossed"])
        await bybit.send({"103": "0", "98": "1"})
        await stream.shows("100x1 99x2 98x1")
        assert 1 == bybit.subscribed
        for quantity in ("1", "2", "3"):
            await bybit.send({"103": quantity})
            await until(lambda quantity=quantity: 1 + int(quantity) == stream.tally.rejected["crossed"])
        await until(lambda: 2 == bybit.subscribed)
        await until(lambda: 1 == stream.tally.failed["crossed"])


async def test_stall_of_the_loop_makes_the_stream_anew(bybit):
    """
    What waited in the socket while nothing ran is old, whenever it is read.
    """
    clock = Skipping()
    async with streamed(bybit, clock) as stream:
        await stream.shows("100x1 99x2")
        clock.ahead_ns, bybit.ahead_ms = 11_000 * MS, 11_000
        assert ("stale", "loop_stalled") == stream.seen
        await stream.shows("100x1 99x2")
        assert 2 <= bybit.subscribed == 1 + stream.tally.failed["loop_stalled"]


# Silence.


async def test_quiet_market_is_confirmed_by_asking(bybit):
    """
    A stream that has nothing to say stays live for as long as the venue itself shows the same book.
    """
    async with streamed(bybit, stale_after_ms=400) as stream:
        await stream.shows("100x1 99x2")
        until_ns = SystemClock().now_ns() + 1_500 * MS

        def still_live():
            assert stream.source.live
            return SystemClock().now_ns() > until_ns

        await until(still_live)
        assert (1, 0) == (bybit.subscribed, stream.tally.reconnects)
        assert 3 <= bybit.asked


async def test_dead_stream_is_found_out_by_asking(bybit):
    """
    The socket is open and answers pings, but the market has moved on without it: the book is a suspect's, until three
    good ones.
    """
    async with streamed(bybit, stale_after_ms=1_000) as stream:
        await stream.shows("100x1 99x2")
        bybit.bids = {"100": "8", "99": "2"}
        await until(lambda: ("suspect", "rest_disagrees") == stream.seen)
        await until(lambda: stream.source.book is None)
        await until(lambda: 2 == bybit.subscribed)
        for _ in range(8):
            await asyncio.sleep(0.2)
            await bybit.change(b98="1", b97="1")
        await until(lambda: stream.source.live)


async def test_silent_stream_of_a_venue_that_does_not_answer_gets_stale(bybit):
    """
    Nobody can tell whether its market is quiet: no price counts that is older than the settings allow.
    """
    async with streamed(bybit, stale_after_ms=500) as stream:
        await stream.shows("100x1 99x2")
        bybit.answers = False
        await until(lambda: not stream.source.live)
        await until(lambda: stream.tally.failed["silent"])
        bybit.answers = True
        await until(lambda: stream.source.live)


async def test_change_that_was_lost_without_a_trace_is_found_by_the_cross_check(bybit, monkeypatch):
    """
    While the stream goes on, a level of it that the venue does not show any more gives it away.
    """
    monkeypatch.setattr(streaming, "CROSS_CHECK_MS", (300, 300))
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        del bybit.bids["99"]

        async def go_on():
            while not stream.tally.rejected["rest_disagrees"]:
                await bybit.change(b98="1" if bybit.bids.get("98") == "2" else "2")
                await asyncio.sleep(0.05)

        async with asyncio.timeout(15):
            await go_on()
        await until(lambda: 2 == bybit.subscribed)


async def test_level_that_came_and_went_between_two_changes_says_nothing_against_the_stream(bybit, monkeypatch):
    """
    An answer may show a moment that no message of the stream is about; the next one does not show it again.
    """
    monkeypatch.setattr(streaming, "CROSS_CHECK_MS", (200, 200))
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")

        async def go_on(checks):
            while bybit.asked < checks:
                bybit.shown_over_rest = {**bybit.bids, f"99.{bybit.asked % 9 + 1}": "1"}
                await bybit.change(b98="1" if bybit.bids.get("98") == "2" else "2")
                await asyncio.sleep(0.02)

        async with asyncio.timeout(30):
            await go_on(checks=6)
        assert (0, 1) == (stream.tally.rejected["rest_disagrees"], bybit.subscribed)


async def test_answer_of_no_use_says_nothing_against_the_stream(bybit, monkeypatch):
    """
    A venue whose REST fails or shows nonsense is streamed as before.
    """
    monkeypatch.setattr(streaming, "CROSS_CHECK_MS", (100, 100))
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        bybit.answers = False
        await until(lambda: stream.tally.failed["http_503"])
        bybit.answers, bybit.shown_over_rest = True, {"500": "1"}
        await until(lambda: stream.tally.failed["crossed"])
        assert (True, 1) == (stream.source.live, bybit.subscribed)


@pytest.mark.parametrize("over_rest", [False, True])
async def test_side_that_stands_still_is_asked_about(bybit, monkeypatch, over_rest):
    """
    While the other side moves, answers tell: one that moves gives the stream away, one that never does the venue.
    """
    monkeypatch.setattr(streaming, "FROZEN_CHECK_NS", 50 * MS)
    monkeypatch.setattr(continuity, "FROZEN_SIDE_NS", 300 * MS)
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")

        async def move_bids_alone():
            number = 0
            while stream.seen not in (("suspect", "rest_disagrees"), ("suspect", "frozen_side")):
                number += 1
                await bybit.change(b98=str(number))
                if not over_rest:
                    bybit.asks = {"101": str(number), "102": "5"}
                await asyncio.sleep(0.02)

        async with asyncio.timeout(15):
            await move_bids_alone()
        assert ("suspect", "frozen_side" if over_rest else "rest_disagrees") == stream.seen


# Polled instead.


@pytest.fixture
def quick_fallback(monkeypatch):
    monkeypatch.setattr(feed, "FALLBACK_S", 0.2)
    monkeypatch.setattr(feed, "FALLBACK_MAX_S", 0.4)


async def test_venue_whose_stream_is_refused_is_polled_and_streamed_again_later(bybit, quick_fallback):
    """
    Three tries, then polls, and a trial now and then; its state tells how its books come.
    """
    bybit.refusing = True
    with capture_logs() as logs:
        async with streamed(bybit) as stream:
            await stream.shows("100x1 99x2")
            assert ("poll", "http_503") == (stream.venue.transport, stream.venue.fallback_reason)
            assert 3 == stream.tally.failed["http_503"]
            await until(lambda: 4 == stream.tally.failed["http_503"])
            bybit.bids["98"] = "4"
            await stream.shows("100x1 99x2 98x4")
            bybit.refusing = False
            await until(lambda: "stream" == stream.venue.transport)
            await until(lambda: 2 == bybit.subscribed)
            await bybit.change(b97="1")
            await stream.shows("100x1 99x2 98x4 97x1")
    changes = [entry["transport"] for entry in logs if entry["event"] == "venue.transport"]
    assert ["poll", "stream"] == changes


async def test_stream_that_never_shows_a_book_is_left_for_polls_at_once(bybit, monkeypatch, quick_fallback):
    """
    A socket that takes subscriptions and says nothing is not tried three times first; trials find that it still does.
    """
    monkeypatch.setattr(streaming, "FIRST_BOOK_MS", 100)
    bybit.snapshots = False
    async with streamed(bybit) as stream:
        await stream.shows("100x1 99x2")
        assert ("poll", "silent") == (stream.venue.transport, stream.venue.fallback_reason)
        await until(lambda: stream.tally.failed["silent"] >= 3)
        assert "poll" == stream.venue.transport
        assert stream.source.live


async def test_breaks_that_come_too_often_end_in_polls(bybit, quick_fallback):
    """
    A stream that is cut again and again is not kept up; the books are.
    """
    async with streamed(bybit) as stream:

        async def cut():
            while stream.venue.transport == "stream":
                if bybit.sockets and not bybit.sockets[-1].closed and bybit.subscribed == len(bybit.sockets):
                    await bybit.sockets[-1].close()
                await asyncio.sleep(0.01)

        async with asyncio.timeout(15):
            await cut()
        assert "disconnected" == stream.venue.fallback_reason
        await until(lambda: stream.source.live)


async def test_venue_that_wants_a_key_for_its_stream_is_polled_at_once(quick_fallback):
    """
    Coinbase Exchange streams books to its customers only: nothing is gained by asking again soon.
    """
    from exchanges.simulator import run_in_thread

    with run_in_thread() as simulator:
        config = VenueConfig(
            "coinbaseexchange", "coinbaseexchange", base_url=simulator.base_url, rate_limit_ms=0, transport="stream"
        )
        feeds = Feeds([config], [SYMBOL], Decimal(100), SystemClock())
        try:
            await feeds.start()
            await until(lambda: "poll" == feeds.venues[0].transport)
            assert "authentication" == feeds.venues[0].fallback_reason
            await until(lambda: feeds.board.source("coinbaseexchange", SYMBOL, SystemClock().now_ns()).live)
        finally:
            await feeds.close()


def test_venue_that_ccxt_cannot_stream_is_a_mistake_in_the_settings():
    """
    It is said at start, with what would work.
    """
    with pytest.raises(VenueConfigError) as caught:
        Feeds([VenueConfig("bitbns", "bitbns", transport="stream")], [SYMBOL], Decimal(100), SystemClock())
    assert ['venues.bitbns.transport: ccxt streams nothing of bitbns; it can be "poll" only'] == caught.value.problems
