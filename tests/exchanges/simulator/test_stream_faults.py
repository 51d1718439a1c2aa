"""Each fault of a stream does what its description says, on the wire; the venue's REST side stays as it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import aiohttp
import pytest

from exchanges.simulator import FAULTS
from tests.exchanges.simulator.conftest import STREAM_ADDRESS, Lab, Line, asking, until

STREAMED = ("binance", "kraken", "okx", "bybit", "bitstamp")
STEPS = 4
GOODBYE = (1000).to_bytes(2, "big")
HANDSHAKE = (
    b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)
OVERSIZE_BYTES = 6 * 2**20
ANSWERS = {"binance": 1, "kraken": 2, "okx": 2, "bybit": 2, "bitstamp": 1}  # So many messages follow a subscription.
REST = {
    "binance": "/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=20",
    "kraken": "/api.kraken.com/0/public/Depth?pair=XBTUSDT&count=20",
    "okx": "/www.okx.com/api/v5/market/books?instId=BTC-USDT&sz=20",
    "bybit": "/api.bybit.com/v5/market/orderbook?category=spot&symbol=BTCUSDT&limit=20",
    "bitstamp": "/www.bitstamp.net/api/v2/order_book/btcusdt/",
}


class Pair:
    """The same subscriptions to a broken simulator and to a sound one: BTC/USDT, and ETH/USDT that is left alone."""

    def __init__(self, broken: Line, sound: Line) -> None:
        self._lines = broken, sound

    @classmethod
    async def of(cls, lab: Lab, sound: Lab, venue: str) -> Pair:
        """Subscribe to both, BTC/USDT first: its message of a step is then sent first."""
        lines = [await one.subscribed(venue) for one in (lab, sound)]
        for line in lines:
            await line.say(asking(venue, "ETH/USDT"))
            await until(lambda line=line: len(line.messages) >= ANSWERS[venue])
        return cls(*lines)

    async def told(self, lab: Lab, steps: int = STEPS) -> tuple[list[str], list[str]]:
        """Move the market on step by step, and give what both told of BTC/USDT."""
        for line in self._lines:
            line.messages.clear()
        for step in range(1, steps + 1):
            lab.step()
            for line in self._lines:
                await until(lambda line=line, step=step: len(self._of_eth(line)) == step)
        broken, sound = ([one for one in line.messages if one not in self._of_eth(line)] for line in self._lines)
        assert steps == len(sound)
        return broken, sound

    def _of_eth(self, line: Line) -> list[str]:
        return [message for message in line.messages if "ETH" in message or "_ethusdt" in message]


# What a stream tells, compared with the genuine messages of the same steps.


def lost(told: list[str], genuine: list[str]) -> None:
    """The first is missing."""
    assert genuine[1:] == told


def repeated(told: list[str], genuine: list[str]) -> None:
    """The first stands twice."""
    assert [genuine[0], *genuine] == told


def reordered(told: list[str], genuine: list[str]) -> None:
    """The first two have changed places."""
    assert [genuine[1], genuine[0], *genuine[2:]] == told


def wrong_sequence(told: list[str], genuine: list[str]) -> None:
    """The first differs in one number only, which is 7 too high."""
    assert genuine[1:] == told[1:]
    numbers = [one for one in zip(flat(told[0]), flat(genuine[0]), strict=True) if one[0] != one[1]]
    assert [7] == [int(wrong) - int(right) for wrong, right in numbers]


def bad_checksum(told: list[str], genuine: list[str]) -> None:
    """The first differs in its checksum only."""
    assert genuine[1:] == told[1:]
    wrong, right = (json.loads(message)["data"][0] for message in (told[0], genuine[0]))
    assert wrong.pop("checksum") != right.pop("checksum")
    assert wrong == right


def broken_json(told: list[str], genuine: list[str]) -> None:
    """The first breaks off in the middle."""
    assert [genuine[0][: len(genuine[0]) // 2], *genuine[1:]] == told


def unexpected(told: list[str], genuine: list[str]) -> None:
    """In place of the first is something else, in good JSON."""
    assert genuine[1:] == told[1:]
    assert json.loads(told[0]) != json.loads(genuine[0])


def flat(message: str) -> list[Any]:
    """All leaves of a message, in order."""

    def leaves(value: Any) -> Any:
        if isinstance(value, dict | list):
            for one in value.values() if isinstance(value, dict) else value:
                yield from leaves(one)
        else:
            yield value

    return list(leaves(json.loads(message)))


DELTA_FAULTS = {
    "lost": lost,
    "repeated": repeated,
    "reordered": reordered,
    "wrong_sequence": wrong_sequence,
    "bad_checksum": bad_checksum,
    "broken_json": broken_json,
    "unexpected": unexpected,
}


@pytest.mark.parametrize("venue", STREAMED)
async def test_fault_of_a_change_strikes_one_and_the_stream_goes_on(lab, sound, venue):
    """Each fault does its work on the next change, later ones are genuine, and so are REST books all along."""
    pair = await Pair.of(lab, sound, venue)
    for fault, check in DELTA_FAULTS.items():
        if venue in FAULTS[fault].venues:
            await lab.switch(venue=venue, symbol="BTC/USDT", fault=fault)
            check(*await pair.told(lab))
            assert await lab.get(REST[venue]) == await sound.get(REST[venue])


async def test_fault_of_changes_strikes_every_nth(lab, sound):
    """With `every`, each nth change is struck for as long as the fault is on, and none afterwards."""
    pair = await Pair.of(lab, sound, "okx")
    await lab.switch(venue="okx", symbol="BTC/USDT", fault="lost", every=3)
    broken, genuine = await pair.told(lab, 7)
    assert [message for n, message in enumerate(genuine, 1) if n % 3] == broken

    await lab.switch(venue="okx", fault=None)
    broken, genuine = await pair.told(lab, 3)
    assert genuine == broken


async def test_late_changes_come_in_order_once_their_time_is_over(lab, sound):
    """Nothing comes before the delay is over by the venue's clock, then each change at its time."""
    pair = await Pair.of(lab, sound, "bybit")
    await lab.switch(venue="bybit", symbol="BTC/USDT", fault="late", delay_ms=400)

    broken, genuine = await pair.told(lab, 4)
    assert [] == broken
    later, more = await pair.told(lab, 4)
    assert genuine == later
    await lab.switch(venue="bybit", fault=None)
    line = lab.lines[0]
    await until(lambda: len([one for one in line.messages if "BTC" in one]) == 8)
    assert [*genuine, *more] == [one for one in line.messages if "BTC" in one]


async def test_oversize_frame_is_valid_and_5_to_8_mib(lab):
    """A change is replaced by a message of the venue's shape that is far too long."""
    for venue in STREAMED:
        line = await lab.subscribed(venue)
        await lab.switch(venue=venue, fault="oversize")
        lab.step()
        message = (await until(lambda line=line: line.messages))[0]
        assert 5 * 2**20 < len(message) < 8 * 2**20
        assert isinstance(json.loads(message), dict)


async def test_text_that_is_not_utf8_comes_as_a_text_frame(lab):
    """A reader that checks text closes with 1007."""
    for venue in STREAMED:
        line = await lab.subscribed(venue)
        await lab.switch(venue=venue, fault="bad_utf8")
        lab.step()
        await until(lambda line=line: line.ended)
        assert isinstance(line.error, aiohttp.WebSocketError)
        assert 1007 == line.error.code


# Faults of the line.


async def test_silence_answers_pings_and_goes_on_where_it_stopped(lab):
    """No change and no first book comes, pongs and heartbeats do; afterwards one change makes up for all."""
    line = await lab.subscribed("kraken")
    await lab.switch(venue="kraken", fault="silence")
    await line.say(asking("kraken", "ETH/USDT"))
    await line.say('{"method": "ping", "req_id": 7}')
    await line.socket.ping()
    await until(lambda: line.pongs)
    lab.step(10)
    await until(lambda: '{"channel":"heartbeat"}' in line.messages)
    assert not [message for message in line.messages if '"book","type"' in message]
    assert any('"pong"' in message for message in line.messages)

    line.messages.clear()
    await lab.switch(venue="kraken", fault=None)
    lab.step()
    await until(lambda: len([message for message in line.messages if '"data"' in message]) == 2)
    types = {json.loads(one)["data"][0]["symbol"]: json.loads(one)["type"] for one in line.messages if '"data"' in one}
    assert {"BTC/USDT": "update", "ETH/USDT": "snapshot"} == types


async def still(line: Line, lab: Lab) -> None:
    """Ask all that a venue answers, move on, let other connections hear of it, and find that nothing came."""
    await line.socket.ping()
    await line.say('{"op": "ping"}')
    other = await lab.subscribed("okx")
    for count in range(1, 4):
        lab.step()
        await until(lambda count=count: len(other.messages) == count)
    assert (0, [], False) == (line.pongs, line.messages, line.ended)


@pytest.mark.parametrize("fault", ["mute", "half_open"])
async def test_dead_line_says_nothing_and_stays_open_until_the_fault_ends(lab, fault):
    """Neither data nor pongs nor an end; new connections are as dead; when the fault ends, both are cut."""
    line = await lab.subscribed("bybit")
    await lab.switch(venue="bybit", fault=fault)
    lab.step()
    new = await lab.line("bybit", asking("bybit"))
    line.messages.clear()
    await still(line, lab)
    await still(new, lab)

    await lab.switch(venue="bybit", fault=None)
    await until(lambda: line.ended and new.ended)


async def test_goodbye_is_answered_unless_the_line_is_mute(lab):
    """A client that closes is closed in turn, at once; one whose line is mute gets no answer to that."""
    line = await lab.subscribed("okx")
    await line.socket.send_frame(GOODBYE, aiohttp.WSMsgType.CLOSE)
    await until(lambda: line.ended)
    assert 1000 == line.socket.close_code

    line = await lab.subscribed("bybit")
    await lab.switch(venue="bybit", fault="mute")
    await line.socket.send_frame(GOODBYE, aiohttp.WSMsgType.CLOSE)
    await still_silent(line, lab)
    assert not line.ended
    await lab.switch(venue="bybit", fault=None)
    await until(lambda: line.ended)
    assert 1006 == line.socket.close_code


async def test_half_open_line_takes_no_more_than_its_buffers(lab):
    """What the client sends is not read: in the end it cannot send more, and that does not change."""
    line = await lab.subscribed("bybit")
    await lab.switch(venue="bybit", fault="half_open")
    connection = line.socket._writer.transport
    for _ in range(400):
        if connection.get_write_buffer_size() == 0:  # Else saying more would wait.
            await line.say("x" * 60_000)
    await still_silent(line, lab)

    assert connection.get_write_buffer_size() > 0
    await lab.switch(venue="bybit", fault=None)
    await until(lambda: line.ended)


async def test_close_ends_the_connections_that_there_are_with_its_code(lab):
    """Both connections are closed with the code; one made afterwards lives, and is closed by the next such fault."""
    lines = [await lab.subscribed("binance"), await lab.line("binance")]
    await lab.switch(venue="binance", fault="close", close_code=1008)
    await until(lambda: all(line.ended for line in lines))
    assert [1008, 1008] == [line.socket.close_code for line in lines]

    line = await lab.subscribed("binance")
    lab.step()
    await until(lambda: line.messages)
    await lab.switch(venue="binance", symbol="ETH/USDT", fault="close")
    lab.step()
    await until(lambda: len(line.messages) == 2)
    await lab.switch(venue="binance", symbol="BTC/USDT", fault="close")
    await until(lambda: line.ended)
    assert 1012 == line.socket.close_code


async def test_storm_cuts_each_connection_within_its_time(lab):
    """The ones that there are at once, new ones at some time before the 200 ms are over, without a close frame."""
    old = await lab.subscribed("bitstamp")
    lab.step(10)
    await lab.switch(venue="bitstamp", fault="storm")
    await until(lambda: old.ended)
    new = [await lab.subscribed("bitstamp") for _ in range(3)]
    assert not any(line.ended for line in new)

    lab.step(2)
    await until(lambda: all(line.ended for line in new))
    assert [1006] * 4 == [line.socket.close_code for line in (old, *new)]


@pytest.mark.parametrize(("fault", "status", "headers"), [
    ("rate_limited", 429, {"Retry-After": "2"}),
    ("banned", 418, {"Retry-After": "2"}),
    ("forbidden", 403, {}),
    ("server_error", 500, {}),
    ("unavailable", 503, {}),
    ("html", 200, {}),
])  # fmt: skip
async def test_handshake_is_refused_with_a_status(lab, fault, status, headers):
    """Connections that there are go on; REST is not concerned."""
    line = await lab.subscribed("okx")
    await lab.switch(venue="okx", fault=fault, scope="stream")

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await lab.line("okx")
    assert status == refused.value.status
    assert headers.items() <= dict(refused.value.headers).items()
    assert "0" == (await lab.get(REST["okx"]))["code"]
    lab.step()
    await until(lambda: line.messages)


async def test_handshake_is_dropped(lab):
    """No byte of an answer."""
    await lab.switch(venue="okx", fault="refuse", scope="stream")
    with pytest.raises(aiohttp.ClientConnectionError):
        await lab.line("okx")


async def test_handshake_hangs_until_the_fault_ends_and_is_dropped_then(lab):
    """A held handshake gets no byte."""
    await lab.switch(venue="okx", fault="freeze", scope="stream")
    # A plain socket: aiohttp's client asks once more on a fresh connection when one is dropped.
    reader, writer = await asyncio.open_connection(lab.server.host, lab.server.port)
    writer.write(HANDSHAKE % STREAM_ADDRESS["okx"].encode())
    held = asyncio.create_task(reader.read())
    done, _ = await asyncio.wait([held], timeout=0.3)
    assert not done

    await lab.switch(venue="okx", fault=None)
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionResetError):
            assert b"" == await held
    writer.close()


async def test_reader_that_does_not_read_is_cut_off(lab):
    """What waits for a reader is bounded: past that its connection is gone, and other readers go on."""
    reader, writer = await asyncio.open_connection(lab.server.host, lab.server.port, limit=1)
    writer.write(HANDSHAKE % STREAM_ADDRESS["bybit"].encode())
    asked = asking("bybit").encode()
    writer.write(bytes([0x81, 0x80 | len(asked), 0, 0, 0, 0]) + asked)  # One short frame, masked with nothing.
    line = await lab.subscribed("bybit")
    await lab.switch(venue="bybit", fault="oversize", every=1)

    for count in range(1, 12):
        lab.step()
        await until(lambda count=count: len(line.messages) >= count)
        line.messages[:] = [""] * count
    await lab.switch(venue="bybit", fault=None)
    read = 0
    async with asyncio.timeout(15):
        with contextlib.suppress(ConnectionResetError):
            while some := await reader.read(2**20):
                read += len(some)
    assert read < 8 * OVERSIZE_BYTES
    writer.close()
    assert not line.ended


# Faults of the book and of the view, on a stream.


def rows(venue: str, message: str) -> tuple[list[Any], list[Any]]:
    """The levels that a message tells, as pairs of price and quantity."""
    told = json.loads(message)
    book = {"binance": told, "bitstamp": told.get("data"), "bybit": told.get("data")}.get(venue) or told["data"][0]
    sides = [book.get(name, book.get(name[:1])) for name in ("bids", "asks")]
    if venue == "kraken":
        sides = [[[level["price"], level["qty"]] for level in side] for side in sides]
    bids, asks = ([level[:2] for level in side] for side in sides)
    return bids, asks


class Kept:
    """A book that is kept up to date by changes alone, and cut to its depth, as a reader does."""

    def __init__(self, depth: int, bids: list[Any], asks: list[Any]) -> None:
        self._depth = depth
        self._sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
        self.apply(bids, asks)

    def apply(self, bids: list[Any], asks: list[Any]) -> None:
        for side, told in zip(self._sides, (bids, asks), strict=True):
            for price, quantity in told:
                side[float(price)] = float(quantity)
                if not float(quantity):
                    del side[float(price)]
        for side, order in zip(self._sides, (reversed, iter), strict=True):
            for price in list(order(sorted(side)))[self._depth :]:
                del side[price]

    @property
    def sides(self) -> tuple[list[float], list[float]]:
        """The prices, best first."""
        return sorted(self._sides[0], reverse=True), sorted(self._sides[1])


SHAPES = {
    "empty": lambda bids, asks, was: not bids and not asks,
    "one_sided": lambda bids, asks, was: bids and not asks,
    "crossed": lambda bids, asks, was: bids[0] > asks[0],
    "locked": lambda bids, asks, was: bids[0] == asks[0],
    "tenfold": lambda bids, asks, was: abs(bids[0] / was / 10 - 1) < 0.001,
    "tenth": lambda bids, asks, was: abs(bids[0] / was * 10 - 1) < 0.001,
    "off_by_1_5_percent": lambda bids, asks, was: abs(bids[0] / was / 1.015 - 1) < 0.001,
    "jump": lambda bids, asks, was: abs(bids[0] / was / 1.08 - 1) < 0.001,
    "wrong_symbol": lambda bids, asks, was: bids[0] < was / 5 and bids[0] < asks[0],
    "frozen_side": lambda bids, asks, was: bids[0] == was and bids[0] < asks[0],
}


@pytest.mark.parametrize("venue", ["kraken", "okx", "bybit"])
async def test_bad_book_reaches_whoever_applies_the_changes(lab, venue):
    """A reader's book has the shape that the fault says, through changes alone, and is sound again afterwards."""
    line = await lab.line(venue, asking(venue))
    await until(lambda: any("snapshot" in one and "book" in one for one in line.messages[ANSWERS[venue] - 1 :]))
    book = Kept({"kraken": 10, "okx": 400, "bybit": 50}[venue], *rows(venue, line.messages[-1]))
    for fault, has_shape in SHAPES.items():
        was = book.sides[0][0]
        await lab.switch(venue=venue, fault=fault, scope="stream")
        await _apply_next(lab, line, venue, book)
        assert has_shape(*book.sides, was), (fault, book.sides[0][:3], book.sides[1][:3])

        await lab.switch(venue=venue, fault=None, scope="stream")
        await _apply_next(lab, line, venue, book)
        assert book.sides[0][0] < book.sides[1][0]
        assert abs(book.sides[0][0] / was - 1) < 0.001


async def _apply_next(lab: Lab, line: Line, venue: str, book: Kept) -> None:
    line.messages.clear()
    lab.step()
    await until(lambda: line.messages)
    book.apply(*rows(venue, line.messages[0]))


@pytest.mark.parametrize("venue", STREAMED)
async def test_bad_numbers_are_told_as_they_are(lab, venue):
    """NaN, null, zero and less than zero stand in a change, in the venue's own format; a price stands twice."""
    line = await lab.subscribed(venue)
    for fault, is_bad in (
        ("nan", lambda number: number is not None and float(number) != float(number)),
        ("negative", lambda number: number is not None and float(number) < 0),
        ("none_level", lambda number: number is None),
    ):
        await lab.switch(venue=venue, fault=fault, scope="stream")
        line.messages.clear()
        lab.step()
        await until(lambda: line.messages)
        assert any(is_bad(number) for level in rows(venue, line.messages[0])[0] for number in level)
    await lab.switch(venue=venue, fault="duplicate", scope="stream")
    line.messages.clear()
    lab.step()
    await until(lambda: line.messages)
    prices = [price for price, _ in rows(venue, line.messages[0])[0]]
    assert len(prices) > len(set(prices))


@pytest.mark.parametrize(("fault", "hours"), [("clock_back", -1), ("clock_forward", 1)])
async def test_stream_with_a_shifted_clock_is_one_hour_off(lab, fault, hours):
    """Time and sequence of a change are an hour off; the change goes on from what was sent before."""
    line = await lab.subscribed("okx")
    await lab.switch(venue="okx", fault=fault, scope="stream")
    lab.step(2)
    await until(lambda: line.messages)

    change = json.loads(line.messages[0])["data"][0]
    sequence = 18_000_000_500
    assert (str(1_800_000_050_200 + hours * 3_600_000), sequence + 2 + hours * 36_000) == (
        change["ts"],
        change["seqId"],
    )
    assert sequence == change["prevSeqId"]


async def test_stopped_clock_says_nothing_new(lab):
    """A stream whose venue stands still is silent."""
    line = await lab.subscribed("bybit")
    await lab.switch(venue="bybit", fault="clock_stopped", scope="stream")
    await still_silent(line, lab)


async def still_silent(line: Line, lab: Lab) -> None:
    """Move on until others have heard of it, and find that nothing came."""
    other = await lab.subscribed("okx")
    lab.step(5)
    await until(lambda: other.messages)
    assert [] == line.messages


# The switchboard.


async def test_faults_of_requests_and_of_streams_leave_each_other_alone(lab):
    """Both can be on at once; ending one leaves the other; ending without a scope ends both."""

    async def active() -> set[tuple[str, str]]:
        return {(row["fault"], row["scope"]) for row in (await lab.get("/faults"))["active"]}

    await lab.switch(venue="okx", fault="null")
    await lab.switch(venue="okx", fault="crossed", scope="stream")
    assert {("null", "depth"), ("crossed", "stream")} == await active()
    await lab.switch(venue="okx", fault=None, scope="stream")
    assert {("null", "depth")} == await active()
    await lab.switch(venue="okx", fault="silence")
    assert {("null", "depth"), ("silence", "stream")} == await active()
    await lab.switch(venue="okx", fault=None)
    assert set() == await active()


async def test_stream_faults_for_all_venues_are_for_those_that_have_them(lab):
    """A star means the venues that stream, or the ones whose format has what the fault spoils."""
    for fault, venues in (("lost", set(STREAMED)), ("wrong_sequence", {"binance", "okx", "bybit"})):
        answer = await lab.switch(venue="*", fault=fault)
        assert venues == {row["venue"] for row in answer["active"] if row["fault"] == fault}
        await lab.switch(venue="*", fault=None)


@pytest.mark.parametrize("body", [
    {"venue": "coinbaseexchange", "fault": "lost"},  # It does not stream.
    {"venue": "bitstamp", "fault": "wrong_sequence"},  # Its changes have none.
    {"venue": "okx", "fault": "lost", "scope": "depth"},
    {"venue": "okx", "fault": "storm", "symbol": "BTC/USDT"},  # A new connection has no symbol.
    {"venue": "okx", "fault": "refuse", "scope": "stream", "symbol": "BTC/USDT"},
    {"venue": "okx", "fault": "close", "close_code": 999},
    {"venue": "okx", "fault": "close", "close_code": 1006},  # Never sent: RFC 6455, section 7.4.1.
    {"venue": "okx", "fault": "lost", "delay_ms": 5},
])  # fmt: skip
async def test_switchboard_refuses_stream_faults_that_cannot_be(lab, body):
    """400, and nothing is switched."""
    async with lab.session.post(lab.server.make_url("/faults"), json=body) as response:
        assert 400 == response.status
    assert [] == (await lab.get("/faults"))["active"]


def test_every_fault_of_streams_is_tested():
    """The tables above, and the tests named for a fault, name all of them."""
    here = {name for name, fault in FAULTS.items() if "stream" in fault.scopes}
    lines = {"silence", "mute", "half_open", "close", "storm", "late", "oversize", "bad_utf8"}
    handshake = {"rate_limited", "banned", "forbidden", "server_error", "unavailable", "html", "refuse", "freeze"}
    views = {"clock_stopped", "clock_back", "clock_forward", "nan", "negative", "zero", "none_level", "duplicate"}

    assert here == {*DELTA_FAULTS, *SHAPES, *lines, *handshake, *views}
