"""Each fault does what its description says, on the wire, and the switchboard refuses what it does not understand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from exchanges.simulator import FAULTS, VENUES, SimulatedMarket, create_app, run_in_thread, running

STARTED_S = 1_800_000_000.0
DEPTH = {  # Where each venue's BTC/USDT book is, 20 levels where it can be told.
    "binance": "/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=20",
    "kraken": "/api.kraken.com/0/public/Depth?pair=XBTUSDT&count=20",
    "coinbaseexchange": "/api.exchange.coinbase.com/products/BTC-USDT/book?level=2",
    "okx": "/www.okx.com/api/v5/market/books?instId=BTC-USDT&sz=20",
    "bybit": "/api.bybit.com/v5/market/orderbook?category=spot&symbol=BTCUSDT&limit=20",
    "bitstamp": "/www.bitstamp.net/api/v2/order_book/btcusdt/",
}
INSTRUMENTS = {
    "binance": "/api.binance.com/api/v3/exchangeInfo",
    "kraken": "/api.kraken.com/0/public/AssetPairs",
    "coinbaseexchange": "/api.exchange.coinbase.com/products",
    "okx": "/www.okx.com/api/v5/public/instruments?instType=SPOT",
    "bybit": "/api.bybit.com/v5/market/instruments-info?category=spot",
    "bitstamp": "/www.bitstamp.net/api/v2/markets/",
}
Side = list[tuple[Decimal | None, Decimal | None]]


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        """Start at a fixed time."""
        self.now_s = STARTED_S

    def __call__(self) -> float:
        """Read it."""
        return self.now_s


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes


@dataclass
class Client:
    """A small HTTP client of one simulator."""

    session: aiohttp.ClientSession
    server: TestServer
    clock: Clock

    async def get(self, path: str) -> Answer:
        """Ask for a path."""
        async with self.session.get(self.server.make_url(path)) as response:
            return Answer(response.status, response.headers, await response.read())

    async def switch(self, **body: Any) -> Answer:
        """Switch a fault."""
        return await self.post(json.dumps(body).encode())

    async def post(self, body: bytes) -> Answer:
        """Send a body to the switchboard."""
        async with self.session.post(self.server.make_url("/faults"), data=body) as response:
            return Answer(response.status, response.headers, await response.read())

    async def book(self, venue: str) -> tuple[Side, Side]:
        """Get the venue's BTC/USDT book."""
        return sides(venue, (await self.get(DEPTH[venue])).body)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client of a simulator with seed 7, 50 s after its start."""
    clock = Clock()
    async with (
        TestServer(create_app(7, clock)) as server,
        aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=10),
            auto_decompress=False,
        ) as session,
    ):
        clock.now_s += 50
        yield Client(session, server, clock)


def sides(venue: str, body: bytes, market_id: str = "XBTUSDT") -> tuple[Side, Side]:
    """Take the two sides out of a venue's answer."""
    answer = json.loads(body)
    match venue:
        case "kraken":
            answer = answer["result"][market_id]
        case "okx":
            answer = answer["data"][0]
        case "bybit":
            answer = {"bids": answer["result"]["b"], "asks": answer["result"]["a"]}

    def side(levels: list[list[str | None]]) -> Side:
        return [tuple(None if text is None else Decimal(text) for text in level[:2]) for level in levels]  # type: ignore[misc]

    return side(answer["bids"]), side(answer["asks"])


def prices(side: Side) -> list[Any]:
    """The prices of a side."""
    return [price for price, _ in side]


# Faults of the book: each is compared with the genuine book of the same moment.


def empty(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """Nothing on either side."""
    assert ([], []) == after


def one_sided(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """The bids alone."""
    assert (before[0], []) == after


def nan(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """Best quantity and a middle price are no numbers."""
    assert after[0][0][1].is_nan()
    assert after[0][len(after[0]) // 2][0].is_nan()


def negative(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """Best quantity and a middle price are below zero."""
    middle = len(before[0]) // 2
    assert (-before[0][0][1], -before[0][middle][0]) == (after[0][0][1], after[0][middle][0])
    assert before[1] == after[1]


def zero(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """Best quantity and a middle price are nothing."""
    assert after[0][0][1] == 0 == after[0][len(after[0]) // 2][0]


def none_level(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """A middle level has neither price nor quantity."""
    assert (None, None) == after[0][len(after[0]) // 2]


def crossed(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """The best bid is above the best ask."""
    assert after[0][0][0] > after[1][0][0] == before[1][0][0]


def locked(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """The best bid is the best ask."""
    assert after[0][0][0] == after[1][0][0] == before[1][0][0]


def duplicate(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
    """One price stands twice, with different quantities."""
    assert len(before[0]) + 1 == len(after[0])
    assert after[0][1][0] == after[0][2][0]
    assert after[0][1][1] != after[0][2][1]


def times(factor: str) -> Any:
    """All prices are multiplied, to within a price step."""

    def multiplied(before: tuple[Side, Side], after: tuple[Side, Side]) -> None:
        for side_before, side_after in zip(before, after, strict=True):
            assert len(side_before) == len(set(prices(side_after)))
            for was, now in zip(prices(side_before), prices(side_after), strict=True):
                assert abs(was * Decimal(factor) - now) <= 1
        assert after[0][0][0] < after[1][0][0]

    return multiplied


BOOK_FAULTS = {
    "empty": empty,
    "one_sided": one_sided,
    "nan": nan,
    "negative": negative,
    "zero": zero,
    "none_level": none_level,
    "crossed": crossed,
    "locked": locked,
    "duplicate": duplicate,
    "tenfold": times("10"),
    "tenth": times("0.1"),
    "off_by_1_5_percent": times("1.015"),
    "jump": times("1.08"),
}


@pytest.mark.parametrize("venue", VENUES)
async def test_fault_of_the_book_shows_on_the_wire(client, venue):
    """Each venue can show each kind of bad book in its own format, and a sound one again afterwards."""
    before = await client.book(venue)

    for fault, check in BOOK_FAULTS.items():
        await client.switch(venue=venue, fault=fault)
        answer = await client.get(DEPTH[venue])
        assert 200 == answer.status
        check(before, sides(venue, answer.body))

    await client.switch(venue=venue, fault=None)
    assert before == await client.book(venue)


# Faults of the reply: status, content type, and what the body is.
PAGE, OWN_ERROR, HALF = object(), object(), object()
REPLIES = {
    "html": (200, "text/html", PAGE),
    "truncated": (200, "application/json", HALF),
    "no_body": (200, "application/json", b""),
    "null": (200, "application/json", b"null"),
    "empty_object": (200, "application/json", b"{}"),
    "rate_limited": (429, "application/json", OWN_ERROR),
    "banned": (418, "application/json", OWN_ERROR),
    "forbidden": (403, "text/html", PAGE),
    "server_error": (500, "text/html", PAGE),
    "unavailable": (503, "text/html", PAGE),
}
OWN_ERRORS = {
    "binance": ("code", -1003),
    "kraken": ("error", ["EAPI:Rate limit exceeded"]),
    "coinbaseexchange": ("message", "Public rate limit exceeded"),
    "okx": ("code", "50011"),
    "bybit": ("retCode", 10006),
    "bitstamp": ("response_code", "400.002"),
}


@pytest.mark.parametrize("venue", VENUES)
async def test_fault_of_the_reply_replaces_it(client, venue):
    """Pages, halves, nothing, and refusals in the venue's own words, with the status that the table says."""
    genuine = await client.get(DEPTH[venue])

    for fault, (status, content_type, body) in REPLIES.items():
        await client.switch(venue=venue, fault=fault)
        answer = await client.get(DEPTH[venue])
        assert (status, content_type) == (answer.status, answer.headers["Content-Type"])
        assert ("2" if status in (418, 429) else None) == answer.headers.get("Retry-After")
        if body is PAGE:
            assert answer.body.startswith(b"<!DOCTYPE html>")
        elif body is HALF:
            assert genuine.body[: len(genuine.body) // 2] == answer.body
        elif body is OWN_ERROR:
            name, value = OWN_ERRORS[venue]
            assert value == json.loads(answer.body)[name]
        else:
            assert body == answer.body


@pytest.mark.parametrize("venue", VENUES)
async def test_huge_is_valid_and_5_to_8_mib(client, venue):
    """A huge body is a book like any other, only far too long: sorted, uncrossed, in the venue's format."""
    await client.switch(venue=venue, fault="huge")

    answer = await client.get(DEPTH[venue])

    assert 5 * 2**20 < len(answer.body) < 8 * 2**20
    bids, asks = sides(venue, answer.body)
    assert prices(bids[:100]) == sorted(set(prices(bids[:100])), reverse=True)
    assert prices(asks[:100]) == sorted(set(prices(asks[:100])))
    assert bids[0][0] < asks[0][0]
    assert bids[-1][0] > 0


async def test_gzip_bomb_is_small_and_inflates_to_64_mib(client):
    """Less than 100 KiB on the wire are 64 MiB of JSON."""
    await client.switch(venue="okx", fault="gzip_bomb")

    answer = await client.get(DEPTH["okx"])

    assert "gzip" == answer.headers["Content-Encoding"]
    assert len(answer.body) < 100 * 1024
    inflated = zlib.decompress(answer.body, 31)
    assert 64 * 2**20 <= len(inflated) < 66 * 2**20
    assert (b"[[0,0],", b"[0,0]]") == (inflated[:7], inflated[-6:])


# Faults of the view.


async def test_wrong_symbol_answers_with_the_next_one(client):
    """The answer is another symbol's book, under that symbol's name where the format has one."""
    await client.switch(venue="*", fault="wrong_symbol")
    market = SimulatedMarket(7)

    for venue, next_symbol, market_id in (
        ("binance", "ETH/USDT", ""),
        ("kraken", "ETH/USDT", "ETHUSDT"),
        ("bybit", "ETH/USDT", ""),
        ("bitstamp", "ETH/USDT", ""),
    ):
        answer = await client.get(DEPTH[venue])
        expected = market.book(venue, next_symbol, 50_000, 20).bids[0].price
        assert expected == sides(venue, answer.body, market_id)[0][0][0]
    assert "ETHUSDT" == json.loads((await client.get(DEPTH["bybit"])).body)["result"]["s"]


async def test_stopped_clock_repeats_one_answer(client):
    """Ten seconds after its clock stopped, the venue sends the same bytes; then it catches up."""
    before = await client.get(DEPTH["okx"])
    await client.switch(venue="okx", fault="clock_stopped")
    client.clock.now_s += 10

    assert before.body == (await client.get(DEPTH["okx"])).body
    await client.switch(venue="okx", fault=None)
    assert before.body != (await client.get(DEPTH["okx"])).body


@pytest.mark.parametrize(("fault", "hours"), [("clock_back", -1), ("clock_forward", 1)])
async def test_shifted_clock_is_one_hour_off(client, fault, hours):
    """Times and sequences are an hour off on an otherwise current book."""

    def stamps(body: bytes) -> tuple[int, int]:
        answer = json.loads(body)["data"][0]
        return int(answer["ts"]), answer["seqId"]

    before = (await client.get(DEPTH["okx"])).body
    await client.switch(venue="okx", fault=fault)
    after = (await client.get(DEPTH["okx"])).body

    assert (stamps(before)[0] + hours * 3_600_000, stamps(before)[1] + hours * 36_000) == stamps(after)
    assert sides("okx", before) == sides("okx", after)


async def test_frozen_side_keeps_its_bids_and_never_crosses(client):
    """Bids stay to the digit while asks move, above them, for as long as the fault is on."""
    bids, asks = await client.book("okx")
    await client.switch(venue="okx", fault="frozen_side")

    for _ in range(50):
        client.clock.now_s += 200
        bids_now, asks_now = await client.book("okx")
        assert bids == bids_now
        assert asks != asks_now
        assert bids_now[0][0] < asks_now[0][0]


# Faults of the connection.


async def test_frozen_request_hangs_until_the_fault_ends_and_is_never_answered(client):
    """A held request gets no byte; once the fault is off its connection closes, and the next request is answered."""
    await client.switch(venue="okx", fault="freeze")
    # A plain socket: aiohttp's client asks once more on a fresh connection when one is dropped.
    reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
    writer.write(f"GET {DEPTH['okx']} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    held = asyncio.create_task(reader.read())
    done, _ = await asyncio.wait([held], timeout=0.3)
    assert not done

    await client.switch(venue="okx", fault=None)
    with contextlib.suppress(ConnectionResetError):
        assert b"" == await held
    writer.close()
    assert 200 == (await client.get(DEPTH["okx"])).status


async def test_frozen_request_ends_with_its_client(client):
    """A client that gives up leaves nothing behind in the server."""
    await client.switch(venue="okx", fault="freeze")
    tasks = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.get(DEPTH["okx"])

    left = asyncio.all_tasks() - tasks
    if left:
        _, left = await asyncio.wait(left, timeout=2)
    assert not left


@pytest.mark.parametrize("fault", ["freeze", "slow", "drip"])
async def test_server_stops_at_once_with_requests_held(fault):
    """Stopping does not wait for a fault to end."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(3):
        async with running() as base_url:
            await (await session.post(f"{base_url}/faults", json={"venue": "okx", "fault": fault})).release()
            held = asyncio.create_task(session.get(base_url + DEPTH["okx"]))
            await asyncio.wait([held], timeout=0.2)
        await asyncio.wait([held])
        if held.exception() is None:
            held.result().close()


async def test_slow_answers_after_its_delay(client):
    """The answer is genuine, and not there before the delay is over; 2 s unless told otherwise."""
    genuine = await client.get(DEPTH["okx"])
    await client.switch(venue="okx", fault="slow", delay_ms=250)
    started = asyncio.get_running_loop().time()

    answer = await client.get(DEPTH["okx"])

    assert genuine.body == answer.body
    assert asyncio.get_running_loop().time() - started >= 0.25
    assert 2000 == json.loads((await client.switch(venue="okx", fault="slow")).body)["active"][0]["delay_ms"]


async def test_drip_sends_headers_at_once_and_the_body_in_pieces(client):
    """Headers and the first bytes come at once; at their pace the whole would take more than 30 s."""
    genuine = await client.get(DEPTH["okx"])
    await client.switch(venue="okx", fault="drip")

    async with client.session.get(client.server.make_url(DEPTH["okx"])) as response:
        assert len(genuine.body) == response.content_length
        first = await response.content.readany()
        second = await response.content.readany()

    assert genuine.body.startswith(first + second)
    assert len(first + second) < len(genuine.body) / 40


async def test_cut_closes_in_the_middle_of_the_body(client):
    """The announced length does not arrive: half of the body does."""
    genuine = await client.get(DEPTH["okx"])
    await client.switch(venue="okx", fault="cut")

    async with client.session.get(client.server.make_url(DEPTH["okx"])) as response:
        assert len(genuine.body) == response.content_length
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_refuse_drops_the_connection(client):
    """No byte of a reply."""
    await client.switch(venue="okx", fault="refuse")

    with pytest.raises(aiohttp.ClientConnectionError):
        await client.get(DEPTH["okx"])


def test_every_fault_is_tested():
    """The tables above, and the tests named for a fault, name all of them."""
    named = {"huge", "gzip_bomb", "wrong_symbol", "clock_stopped", "clock_back", "clock_forward", "frozen_side"}

    requests = {name for name, fault in FAULTS.items() if "depth" in fault.scopes}
    assert requests == {*BOOK_FAULTS, *REPLIES, *named, "freeze", "slow", "drip", "cut", "refuse"}


# What ccxt does not hand on.


async def test_times_and_sequences_that_ccxt_ignores_are_there_too(client):
    """A reader of the raw answers finds each venue's own time and sequence."""

    async def raw(venue: str) -> Any:
        return json.loads((await client.get(DEPTH[venue])).body)

    okx, bybit, coinbase = (await raw("okx"))["data"][0], (await raw("bybit")), await raw("coinbaseexchange")
    assert ("1800000050000", 18_000_000_500) == (okx["ts"], okx["seqId"])
    result = bybit["result"]
    stamps = (1_800_000_050_000, 1_800_000_050_000, 18_000_000_500, 1_800_000_050_000)
    assert stamps == (result["ts"], result["cts"], result["u"], result["seq"])
    assert ("2027-01-15T08:00:50.000000Z", 18_000_000_500) == (coinbase["time"], coinbase["sequence"])
    assert "1800000050" == (await raw("bitstamp"))["timestamp"]


# The switchboard.


async def test_fault_meets_only_its_venue_symbol_and_scope(client):
    """Without more said, a fault leaves other venues, other symbols' books and instruments alone."""
    await client.switch(venue="okx", fault="null", symbol="ETH/USDT")
    assert b"null" != (await client.get(DEPTH["okx"])).body
    assert b"null" == (await client.get(DEPTH["okx"].replace("BTC-", "ETH-"))).body

    await client.switch(venue="okx", fault="null")
    assert b"null" == (await client.get(DEPTH["okx"])).body
    assert b"null" != (await client.get(DEPTH["bybit"])).body
    assert b"null" != (await client.get(INSTRUMENTS["okx"])).body

    await client.switch(venue="*", fault="null", scope="all")
    for venue in VENUES:
        assert b"null" == (await client.get(DEPTH[venue])).body == (await client.get(INSTRUMENTS[venue])).body


async def test_faults_end_one_by_one_or_together(client):
    """Off for a symbol ends that symbol's; off for a venue ends all of the venue's; off for * ends everything."""

    async def active() -> set[tuple[str, str | None, str]]:
        rows = json.loads((await client.get("/faults")).body)["active"]
        return {(row["venue"], row["symbol"], row["fault"]) for row in rows}

    await client.switch(venue="okx", fault="nan", symbol="ETH/USDT")
    await client.switch(venue="okx", fault="freeze")
    await client.switch(venue="*", fault="html", symbol="BTC/USD")
    by_symbol = {(venue, "BTC/USD", "html") for venue in ("kraken", "coinbaseexchange", "bitstamp")}
    assert {("okx", None, "freeze"), ("okx", "ETH/USDT", "nan"), *by_symbol} == await active()

    await client.switch(venue="okx", fault=None, symbol="ETH/USDT")
    assert {("okx", None, "freeze"), *by_symbol} == await active()
    await client.switch(venue="okx", fault=None)
    assert by_symbol == await active()
    await client.switch(venue="*", fault=None)
    assert set() == await active()


@pytest.mark.parametrize(("body", "nearest"), [
    (b'{"venue": "krakn", "fault": "freeze"}', "kraken"),
    (b'{"venue": "okx", "fault": "frezze"}', "freeze"),
    (b'{"venue": "okx", "fault": "freeze", "simbol": "BTC/USDT"}', "symbol"),
    (b'{"venue": "okx", "fault": "freeze", "symbol": "BTC/UST"}', "BTC/USDT"),
    (b'{"venue": "okx", "fault": "freeze", "scope": "al"}', "all"),
    (b'{"venue": "okx", "fault": "nan", "scope": "all"}', "depth"),  # Instruments have no book to spoil.
    (b'{"venue": "okx", "fault": "freeze", "symbol": "BTC/USDT", "scope": "all"}', "depth"),
    (b'{"venue": "okx"}', "fault"),
    (b'{"fault": null}', "venue"),
    (b'{"venue": "okx", "fault": "freeze", "delay_ms": 5}', None),  # A field of another fault.
    (b'{"venue": "okx", "fault": "slow", "delay_ms": -1}', None),
    (b'{"venue": "okx", "fault": "slow", "delay_ms": true}', None),
    (b'{"venue": "okx", "fault": "slow", "delay_ms": 0.5}', None),
    (b'{"venue": ["okx"], "fault": {}}', None),
    (b'{"venue": "okx", "fault": ""}', None),
    (b"[]", None),
    (b"null", None),
    (b"", None),
    (b'{"venue": "okx", ', None),
    (b"\xff\xfe", None),
    (b"[" * 10_000, None),
])  # fmt: skip
async def test_switchboard_refuses_what_it_does_not_understand(client, body, nearest):
    """400, the nearest names that would do, and nothing switched."""
    answer = await client.post(body)

    assert 400 == answer.status
    refusal = json.loads(answer.body)
    assert refusal["error"]
    assert nearest is None or nearest in refusal["nearest"]
    assert [] == json.loads((await client.get("/faults")).body)["active"]


async def test_switchboard_refuses_a_long_body(client):
    """Bodies are bounded."""
    assert 413 == (await client.post(b" " * 20_000)).status


async def test_faults_are_listed_with_what_they_do(client):
    """Every name comes with a sentence, and what is on with its numbers."""
    await client.switch(venue="kraken", fault="rate_limited", retry_after_s=7)

    listed = json.loads((await client.get("/faults")).body)

    assert set(FAULTS) == set(listed["faults"])
    assert all(text.endswith(".") for text in listed["faults"].values())
    assert [
        {
            "venue": "kraken",
            "symbol": None,
            "fault": "rate_limited",
            "scope": "depth",
            "retry_after_s": 7,
            "since_ms": 1_800_000_050_000,
        }
    ] == listed["active"]
    assert "7" == (await client.get(DEPTH["kraken"])).headers["Retry-After"]


# What is served where.


async def test_index_says_what_is_simulated(client):
    """The first page lists venues, hosts and symbols, and says that none of it is real."""
    index = json.loads((await client.get("/")).body)

    assert ("simulated", 7) == (index["market_data"], index["seed"])
    assert {name: list(venue.listings) for name, venue in VENUES.items()} == {
        name: venue["symbols"] for name, venue in index["venues"].items()
    }


@pytest.mark.parametrize("path", [
    "/nowhere",
    "/api.binance.com/",
    "/api.binance.com/api/v3/klines?symbol=BTCUSDT",
    "/api.exchange.coinbase.com/products/BTC-USD/trades",
    "/www.okx.com",
    "/%ff%fe/..%2f",
])  # fmt: skip
async def test_unknown_path_is_404_in_json(client, path):
    """What is not served says so, in JSON."""
    answer = await client.get(path)

    assert 404 == answer.status
    assert json.loads(answer.body)["error"]


@pytest.mark.parametrize(("path", "status", "levels"), [
    ("/api.binance.com/api/v3/depth?symbol=BTCUSDT", 200, 100),
    ("/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=9999", 200, 1000),  # All that it has.
    ("/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=x", 400, "-1100"),
    ("/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=" + "9" * 5000, 400, "-1100"),
    ("/api.binance.com/api/v3/depth?symbol=NOPE", 400, "-1121"),
    ("/api.binance.com/api/v3/depth", 400, "-1102"),
    ("/api.kraken.com/0/public/Depth?pair=XBTUSDT", 200, 100),
    ("/api.kraken.com/0/public/Depth?pair=XBTUSDT&count=9999", 200, 500),
    ("/api.kraken.com/0/public/Depth?pair=XBTUSDT&count=0", 200, "EGeneral:Invalid arguments"),
    ("/api.kraken.com/0/public/Depth?pair=NOPE", 200, "EQuery:Unknown asset pair"),
    ("/api.exchange.coinbase.com/products/BTC-USDT/book", 200, 1),
    ("/api.exchange.coinbase.com/products/BTC-USDT/book?level=2", 200, 400),
    ("/api.exchange.coinbase.com/products/BTC-USDT/book?level=9", 400, "Invalid level"),
    ("/api.exchange.coinbase.com/products/NOPE/book?level=2", 404, "NotFound"),
    ("/www.okx.com/api/v5/market/books?instId=BTC-USDT", 200, 1),
    ("/www.okx.com/api/v5/market/books?instId=BTC-USDT&sz=400", 200, 400),
    ("/www.okx.com/api/v5/market/books?instId=BTC-USDT&sz=401", 400, "51000"),
    ("/www.okx.com/api/v5/market/books-full?instId=BTC-USDT&sz=401", 200, 400),
    ("/www.okx.com/api/v5/market/books?instId=NOPE", 200, "51001"),
    ("/www.okx.com/api/v5/market/books", 400, "50014"),
    ("/api.bybit.com/v5/market/orderbook?category=spot&symbol=BTCUSDT", 200, 1),
    ("/api.bybit.com/v5/market/orderbook?category=spot&symbol=BTCUSDT&limit=500", 200, 200),
    ("/api.bybit.com/v5/market/orderbook?category=spot&symbol=BTCUSDT&limit=-1", 200, "10001"),
    ("/api.bybit.com/v5/market/orderbook?category=linear&symbol=BTCUSDT", 200, "Not supported symbols"),
    ("/www.bitstamp.net/api/v2/order_book/btcusdt/", 200, 300),
    ("/www.bitstamp.net/api/v2/order_book/nope/", 404, "Currency pair not found"),
])  # fmt: skip
async def test_venue_honours_its_own_depth_rules_and_errors(client, path, status, levels):
    """Each venue has its own default, its own most, and its own words for what it does not take."""
    venue = next(name for name, known in DEPTH.items() if known.split("/")[1] == path.split("/")[1])

    answer = await client.get(path)

    assert status == answer.status
    if isinstance(levels, str):
        assert levels in answer.body.decode()
    else:
        assert [levels, levels] == [len(side) for side in sides(venue, answer.body)]


async def test_simulator_runs_in_a_thread_of_its_own():
    """It answers beside the caller's loop, frees its port and its thread when closed, and can close twice."""
    with run_in_thread() as simulator:
        async with aiohttp.ClientSession() as session, session.get(simulator.base_url) as response:
            assert 200 == response.status
        port = int(simulator.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            run_in_thread(port=port)

    simulator.close()
    assert "simulator" not in {thread.name for thread in threading.enumerate()}
    with run_in_thread(port=port) as again:
        assert simulator.base_url == again.base_url
