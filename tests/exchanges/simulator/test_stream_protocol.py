"""What a stream says and hears, venue by venue, as a raw client sees it."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from exchanges.simulator import running
from exchanges.simulator.market import Book, Level
from exchanges.simulator.sent import KEPT, Note, SentLog
from exchanges.simulator.venues import Venues
from exchanges.simulator.wires.kraken import KRAKEN
from exchanges.simulator.wires.wire import Change, Channel, Moment
from tests.exchanges.simulator.conftest import STARTED_S, STREAM_ADDRESS, HeldClock, Line, asking, until

STREAMED = ("binance", "kraken", "okx", "bybit", "bitstamp")


def answered(text: str) -> dict[str, Any]:
    """An answer without what differs from connection to connection."""
    answer = json.loads(text)
    return {name: value for name, value in answer.items() if name not in ("connId", "conn_id", "time_in", "time_out")}


ACKNOWLEDGED = {  # To subscribing to BTC/USDT, and to ending that.
    "binance": ({"result": None, "id": 1}, {"result": None, "id": 1}),
    "kraken": (
        {"method": "subscribe", "req_id": 1, "success": True,
         "result": {"channel": "book", "depth": 10, "symbol": "BTC/USDT", "snapshot": True}},
        {"method": "unsubscribe", "req_id": 1, "success": True,
         "result": {"channel": "book", "depth": 10, "symbol": "BTC/USDT"}},
    ),
    "okx": (
        {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}},
        {"event": "unsubscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}},
    ),
    "bybit": (
        {"success": True, "ret_msg": "subscribe", "req_id": "1", "op": "subscribe"},
        {"success": True, "ret_msg": "", "req_id": "1", "op": "unsubscribe"},
    ),
    "bitstamp": (
        {"event": "bts:subscription_succeeded", "channel": "diff_order_book_btcusdt", "data": {}},
        {"event": "bts:unsubscription_succeeded", "channel": "diff_order_book_btcusdt", "data": {}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("venue", STREAMED)
async def test_subscription_is_acknowledged_and_ends_when_told(lab, venue):
    """The venue's own acknowledgements; after the second no change comes, while another channel goes on."""
    line = await lab.line(venue, asking(venue), asking(venue, "ETH/USDT"))
    await until(lambda: ACKNOWLEDGED[venue][0] in [answered(one) for one in line.messages])
    lab.step()
    await until(lambda: len([one for one in line.messages if is_change(venue, one)]) == 2)

    line.messages.clear()
    await line.say(asking(venue, verb="unsubscribe"))
    await until(lambda: ACKNOWLEDGED[venue][1] in [answered(one) for one in line.messages])
    line.messages.clear()
    lab.step()
    await until(lambda: line.messages)
    lab.step()
    await until(lambda: len(line.messages) >= 2)
    assert all("ETH" in one or "ethusdt" in one for one in line.messages)


def is_change(venue: str, message: str) -> bool:
    """Whether a message tells a change of a book."""
    marks = {"binance": '"depthUpdate"', "kraken": '"book","type":"update"', "okx": '"update"', "bybit": '"delta"'}
    return marks.get(venue, '"event":"data"') in message


@pytest.mark.parametrize(("venue", "text", "answer"), [
    ("binance", asking("binance", "NOPE/USDT"),
     {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 1}),
    ("binance", '{"method": "SUBSCRIBE", "params": [], "id": 4}',
     {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 4}),
    ("binance", '{"method": "SUBSCRIBE", "params": ["btcusdt@depth5"], "id": 4}',
     {"error": {"code": 2, "msg": "Invalid request: invalid stream"}, "id": 4}),
    ("binance", '{"method": "NOPE", "id": 4}',
     {"error": {"code": 2, "msg": "Invalid request: unknown method"}, "id": 4}),
    ("binance", "{", {"error": {"code": 3, "msg": "Invalid JSON: expected a request object"}, "id": None}),
    ("kraken", asking("kraken", "NOPE/USD"), {"method": "subscribe", "success": False, "symbol": "NOPE/USD",
     "error": "Currency pair not supported NOPE/USD", "req_id": 1}),
    ("kraken", asking("kraken", depth=7), {"method": "subscribe", "success": False, "req_id": 1,
     "error": "Subscription depth not supported"}),
    ("kraken", asking("kraken", verb="unsubscribe"), {"method": "unsubscribe", "success": False, "symbol": "BTC/USDT",
     "error": "Subscription Not Found", "req_id": 1}),
    ("kraken", '{"method": "subscribe", "params": {"channel": "nope", "symbol": ["BTC/USD"]}}',
     {"method": "subscribe", "success": False, "error": "Subscription name invalid"}),
    ("kraken", '{"method": "nope"}', {"success": False, "error": "Malformed request"}),
    ("kraken", "[]", {"success": False, "error": "Malformed request"}),
    ("kraken", '{"method": "ping", "req_id": 3}', {"method": "pong", "req_id": 3}),
    ("okx", '{"op": "subscribe", "args": [{"channel": "books", "instId": "NOPE-USDT"}, 5]}', {"event": "error",
     "code": "60018", "msg": "Wrong URL or channel:books,instId:NOPE-USDT doesn't exist. Please use the correct URL, "
     "channel and parameters."}),
    ("okx", '{"op": "nope"}', {"event": "error", "code": "60012", "msg": 'Illegal request: {"op": "nope"}'}),
    ("bybit", asking("bybit", "NOPE/USDT"), {"success": False, "ret_msg": "Invalid symbol :[orderbook.50.NOPEUSDT]",
     "req_id": "1", "op": "subscribe"}),
    ("bybit", asking("bybit", depth=7), {"success": False, "req_id": "1", "op": "subscribe",
     "ret_msg": "error:handler not found,topic:orderbook.7.BTCUSDT"}),
    ("bybit", '{"op": "nope"}', {"success": False, "ret_msg": "error:invalid op", "op": "nope"}),
    ("bybit", '{"op": "ping", "req_id": "9"}', {"success": True, "ret_msg": "pong", "req_id": "9", "op": "ping"}),
    ("bitstamp", asking("bitstamp", "NOPE/USDT"), {"event": "bts:error", "channel": "diff_order_book_nopeusdt",
     "data": {"code": None, "message": "Bad subscription string."}}),
    ("bitstamp", "null",
     {"event": "bts:error", "channel": "", "data": {"code": None, "message": "Incorrect JSON format."}}),
    ("bitstamp", '{"event": "bts:heartbeat"}',
     {"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}),
])  # fmt: skip
async def test_what_a_venue_does_not_take_it_answers_in_its_own_words(lab, venue, text, answer):
    """Unknown symbols, depths, channels and requests, and pings, each as the venue answers them."""
    line = await lab.line(venue, text)
    await until(lambda: answer in [answered(one) for one in line.messages])


async def test_okx_answers_its_text_ping(lab):
    """Its ping is no JSON, and its pong neither."""
    line = await lab.line("okx", "ping")
    await until(lambda: ["pong"] == line.messages)


@pytest.mark.parametrize(("venue", "repeated"), [
    ("binance", {"result": None, "id": 1}),
    ("kraken", {"method": "subscribe", "success": False, "symbol": "BTC/USDT", "error": "Already subscribed",
     "req_id": 1}),
    ("okx", ACKNOWLEDGED["okx"][0]),
    ("bybit", {"success": False, "ret_msg": "error:already subscribed,topic:orderbook.50.BTCUSDT", "req_id": "1",
     "op": "subscribe"}),
    ("bitstamp", ACKNOWLEDGED["bitstamp"][0]),
])  # fmt: skip
async def test_second_subscription_to_a_channel_changes_nothing(lab, venue, repeated):
    """It is refused or acknowledged, no second book comes, and each change is told once."""
    line = await lab.subscribed(venue)
    await line.say(asking(venue))
    await until(lambda: line.messages)
    lab.step()
    await until(lambda: len(line.messages) == 2)

    assert repeated == answered(line.messages[0])
    assert is_change(venue, line.messages[1])


async def test_kraken_greets_before_anything_else(lab):
    """A status message stands first on each connection."""
    line = await lab.line("kraken")
    await until(lambda: line.messages)
    assert "online" == json.loads(line.messages[0])["data"][0]["system"]


async def test_readers_of_one_channel_are_told_the_same(lab):
    """One who came later has the first book of then, and from there on the same changes to the byte."""
    early = await lab.subscribed("okx")
    lab.step()
    await until(lambda: early.messages)
    late = await lab.line("okx", asking("okx"))
    await until(lambda: len(late.messages) == 2)
    first = json.loads(late.messages[1])
    assert ("snapshot", -1) == (first["action"], first["data"][0]["prevSeqId"])
    for line in (early, late):
        line.messages.clear()
    lab.step()
    await until(lambda: early.messages and late.messages)
    assert early.messages == late.messages
    assert first["data"][0]["seqId"] == json.loads(late.messages[0])["data"][0]["prevSeqId"]


async def test_two_depths_of_a_symbol_are_two_channels(lab):
    """A shallow and a deep subscription of two clients do not disturb each other."""
    shallow, deep = await lab.line("kraken", asking("kraken")), await lab.line("kraken", asking("kraken", depth=500))
    await until(lambda: len(shallow.messages) == len(deep.messages) == 3)
    assert (10, 500) == tuple(len(json.loads(line.messages[2])["data"][0]["bids"]) for line in (shallow, deep))


async def test_bybits_best_prices_are_told_whole_and_again_after_three_seconds(lab):
    """At depth 1 each message is a snapshot; without a change the same one comes again, under the same number."""
    line = await lab.subscribed("bybit", depth=1)
    lab.step()
    await until(lambda: line.messages)
    await lab.switch(venue="bybit", fault="clock_stopped", scope="stream")
    lab.step(30)
    await until(lambda: len(line.messages) == 2)

    first, again = (json.loads(message) for message in line.messages)
    assert ["snapshot", "snapshot"] == [first["type"], again["type"]]
    assert first["data"]["u"] == again["data"]["u"]
    assert (first["data"]["b"], first["data"]["a"]) == (again["data"]["b"], again["data"]["a"])


async def test_okx_repeats_its_sequence_after_a_quiet_minute(lab):
    """Without a change for 60 s, a message without levels says that there was none."""
    line = await lab.subscribed("okx")
    await lab.switch(venue="okx", fault="clock_stopped", scope="stream")
    lab.step(600)
    await until(lambda: line.messages)

    update = json.loads(line.messages[0])["data"][0]
    assert ([], []) == (update["bids"], update["asks"])
    assert update["prevSeqId"] == update["seqId"] == 18_000_000_500


async def test_bybits_numbers_have_no_gaps(lab):
    """From the first book on, each change's number is one more, however many steps it spans."""
    line = await lab.line("bybit", asking("bybit"))
    await until(lambda: len(line.messages) == 2)
    for steps in (1, 5, 2):
        before = len(line.messages)
        lab.step(steps)
        await until(lambda before=before: len(line.messages) > before)
    numbers = [json.loads(message)["data"]["u"] for message in line.messages[1:]]
    assert list(range(numbers[0], numbers[0] + 4)) == numbers


async def test_step_without_a_change_says_nothing(lab):
    """Within a step of the market, and where a channel's levels stay, no message comes."""
    line = await lab.line("bybit", asking("bybit", "USDC/USDT", 1), asking("bybit"))
    await until(lambda: len(line.messages) == 4)
    line.messages.clear()
    lab.clock.now_s += 0.05
    for count in range(1, 11):
        lab.step()
        await until(lambda count=count: len([one for one in line.messages if "BTC" in one]) == count)
    assert len([one for one in line.messages if "USDC" in one]) < 10


async def test_binance_pings_its_clients(lab):
    """A ping frame every 20 s."""
    address = lab.server.make_url(STREAM_ADDRESS["binance"])
    async with lab.session.ws_connect(address, autoping=False) as socket:
        lab.step(200)
        message = await socket.receive(10)
        assert aiohttp.WSMsgType.PING is message.type


@pytest.mark.parametrize(("path", "status"), [
    ("/ws.kraken.com/v1", 404),
    ("/stream.bybit.com/v5/public/linear", 404),
    ("/ws.kraken.com/v2", 400),  # Right, but not a handshake.
])  # fmt: skip
async def test_what_is_no_stream_is_refused_in_json(lab, path, status):
    """Other paths of a stream's host, and plain requests to it."""
    async with lab.session.get(lab.server.make_url(path)) as response:
        assert status == response.status
        assert (await response.json())["error"]


def test_krakens_own_example_has_its_checksum():
    """The book that Kraken's page on the checksum takes apart has the sum that it gives (read 2026-11)."""
    asks = """45285.2 0.00100000  45286.4 1.54571953  45286.6 1.54571109  45289.6 1.54560911  45290.2 0.15890660
              45291.8 1.54553491  45294.7 0.04454749  45296.1 0.35380000  45297.5 0.09945542  45299.5 0.18772827"""
    bids = """45283.5 0.10000000  45283.4 1.54582015  45282.1 0.10000000  45281.0 0.10000000  45280.3 1.54592586
              45279.0 0.07990000  45277.6 0.03310103  45277.5 0.30000000  45277.3 1.54602737  45276.6 0.15445238"""

    def side(text: str) -> tuple[Level, ...]:
        numbers = [Decimal(number) for number in text.split()]
        return tuple(Level(*pair, 1, 0) for pair in zip(numbers[::2], numbers[1::2], strict=True))

    book = Book(side(bids), side(asks))
    moment = Moment(0, 0)
    message = KRAKEN.message(Channel("BTC/USD", 10, ""), Change((), (), book, moment, moment, 1))
    assert 3310070434 == json.loads(message or "")["data"][0]["checksum"]


# What was sent when.


async def test_sends_are_noted_as_a_reader_of_the_stream_has_them(lab):
    """Streamed and polled, with the venue's sequence where it has one, its time, and a boot-time stamp."""
    started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    wanted: list[dict[str, Any]] = []
    sequences = {"binance": 18_000_000_501, "okx": 18_000_000_501, "bitstamp": 1_800_000_050_100_000}
    lines = [await lab.subscribed(venue) for venue in STREAMED]
    lab.step()
    await until(lambda: all(line.messages for line in lines))
    await lab.get("/www.okx.com/api/v5/market/books?instId=ETH-USDT&sz=20")

    sends = (await lab.get("/sent"))["sent"]
    sends = [send for send in sends if send["time_ms"] == 1_800_000_050_100]
    for send in sends:
        assert started_ns < send.pop("sent_at_ns") < time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        del send["number"]
    for venue, symbol, transport in (
        *((venue, "BTC/USDT", "stream") for venue in STREAMED),
        ("okx", "ETH/USDT", "poll"),
    ):
        row = {"venue": venue, "symbol": symbol, "sequence": sequences.get(venue), "time_ms": 1_800_000_050_100}
        wanted.append({**row, "transport": transport})
    assert sorted(wanted, key=str) == sorted(sends, key=str)


async def test_only_later_sends_are_listed_on_demand(lab):
    """With the last number that was seen, only what came after it is listed."""
    for _ in range(3):
        await lab.get("/www.okx.com/api/v5/market/books?instId=ETH-USDT&sz=20")

    numbers = [send["number"] for send in (await lab.get("/sent"))["sent"]]
    assert [1, 2, 3] == numbers
    assert [3] == [send["number"] for send in (await lab.get("/sent?after=2"))["sent"]]
    assert "error" in await lab.get("/sent?after=x")


def test_last_few_thousand_sends_are_kept():
    """The oldest are forgotten."""
    log = SentLog()
    for n in range(KEPT + 10):
        log.add(Note("okx", "BTC/USDT", n, n, "stream"))
    assert list(range(11, KEPT + 11)) == [send["number"] for send in log.listing()]


# Slow motion.


@pytest.mark.parametrize(("speed", "steps"), [(0.1, 1), (1.0, 10), (5.0, 50)])
def test_market_goes_at_its_speed_and_times_stay_the_clocks(speed, steps):
    """In one second the market makes that many steps; the last one's time is not ahead of the clock, nor far behind."""
    clock = HeldClock()
    venues = Venues(7, clock, speed)
    clock.now_s += 1

    assert steps * 100 == venues.elapsed_ms()
    moment = venues.moment(venues.elapsed_ms())
    assert STARTED_S * 1000 + 1000 == moment.time_ms
    assert STARTED_S * 10 + steps == moment.sequence
    assert 0 < venues.next_step_s() <= 0.1 / speed


@pytest.mark.parametrize("speed", [0, -1, 0.001, 11, float("nan")])
async def test_speed_out_of_range_is_refused(speed):
    """The market neither stands still nor runs away."""
    with pytest.raises(ValueError, match=r"from 0\.01 to 10"):
        async with running(speed=speed):
            pass


async def test_slow_market_streams_slowly(session):
    """At a hundredth of its speed the market stands for 10 s: a first book, and no change at once."""
    async with running(speed=0.01) as base_url, session.ws_connect(base_url + STREAM_ADDRESS["okx"]) as socket:
        line = Line(socket)
        await line.say(asking("okx"))
        await until(lambda: len(line.messages) == 2)
        await line.say("ping")
        await until(lambda: "pong" in line.messages)
        assert 3 == len(line.messages)
        line.task.cancel()
