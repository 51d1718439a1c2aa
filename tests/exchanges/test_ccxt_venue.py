"""Real ccxt, fed with what venues did answer: exact books and rules, errors by who can act, and no way out."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
from decimal import Decimal

import pytest
from aiohttp import ClientConnectionError, web
from aiohttp.test_utils import TestServer
from aioresponses import aioresponses
from yarl import URL

from exchanges.book import BookRejected, RawBook, Reject, decode, units
from exchanges.ccxt_venue import PAUSE_DEFAULT_S, CcxtVenue, exchange_ids
from exchanges.errors import VenueConfigError, VenueFailure, VenueMisuse, VenueRefusal
from exchanges.http import BODY_MAX_BYTES, PAUSE_MAX_S

ANY = re.compile(".*")
WITHOUT_BOOKS = frozenset(["derive", "mudrex"])
BINANCE = json.dumps({"symbols": [{
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "isSpotTradingAllowed": True,
    "filters": [{"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"}],
}]})  # fmt: skip


def bitstamp_market(pair, name, base_decimals, counter_decimals):
    """
    A row of /api/v2/markets/ in the format that ccxt reads today; the recorded instruments are of the one before.
    """
    base, counter = name.split("/")
    return {
        "name": name, "market_symbol": pair, "base_currency": base, "base_decimals": base_decimals,
        "counter_currency": counter, "counter_decimals": counter_decimals, "minimum_order_value": "10",
        "trading": "Enabled", "instant_order_counter_decimals": 2, "instant_and_market_orders": "Enabled",
        "description": f"{base} / {counter}", "market_type": "SPOT",
    }  # fmt: skip


def bitstamp_markets(folder):
    """
    The recorded instruments, their fields put under today's names.
    """
    old = json.loads((folder / "rest_markets" / "bitstamp_trading-pairs-info.json").read_text())
    return [
        {**bitstamp_market(row["url_symbol"], row["name"], row["base_decimals"], row["counter_decimals"]),
         "minimum_order_value": row["minimum_order"].split()[0], "trading": row["trading"]}
        for row in old
    ]  # fmt: skip


def kraken_pairs(folder):
    """
    Without dark pools, and with the status that the venue now sends with each pair.
    """
    body = json.loads((folder / "rest_markets" / "kraken_AssetPairs.json").read_text())
    body["result"] = {
        key: pair | {"status": "online"} for key, pair in body["result"].items() if not key.endswith(".d")
    }
    return body


def instruments_body(folder, exchange):
    names = {
        "binance": "binance_exchangeInfo.json", "coinbaseexchange": "coinbaseexchange_products.json",
        "okx": "okx_instruments_spot.json", "kucoin": "kucoin_symbols.json",
    }  # fmt: skip
    if exchange == "bitstamp":
        return json.dumps(bitstamp_markets(folder))
    if exchange == "kraken":
        return json.dumps(kraken_pairs(folder))
    return (folder / "rest_markets" / names[exchange]).read_text()


@pytest.fixture
async def made():
    """Make venues that are closed at the end."""
    venues = []

    def make(exchange, **settings):
        venues.append(CcxtVenue(exchange, exchange, **settings))
        return venues[-1]

    yield make
    for venue in venues:
        await venue.close()


async def loaded(venue, body):
    with aioresponses() as answers:
        answers.get(ANY, body=body, repeat=True)
        return await venue.load_instruments()


async def asked(venue, symbol="BTC/USDT", depth=100, **answer):
    """
    Ask for a book that is answered with *answer*.
    """
    with aioresponses() as answers:
        answers.get(ANY, **answer)
        return await venue.fetch_book(symbol, depth)


RECORDED_DEPTH = [
    ("BINANCE__BLZETH", "binance", "BLZ/ETH"),
    ("BINANCE__LRCBTC", "binance", "LRC/BTC"),
    ("BINANCE__NKNUSDT", "binance", "NKN/USDT"),
    ("BINANCE__RUNEEUR", "binance", "RUNE/EUR"),
    ("BITSTAMP__adaeur", "bitstamp", "ADA/EUR"),
    ("BITSTAMP__ethusd", "bitstamp", "ETH/USD"),
    ("BITSTAMP__usdteur", "bitstamp", "USDT/EUR"),
    ("BITSTAMP__usdtusd", "bitstamp", "USDT/USD"),
    ("BITSTAMP__xrpeur", "bitstamp", "XRP/EUR"),
    # ccxt calls BCHSV by its later name.
    ("KUCOIN__BCHSV-USDT", "kucoin", "BSV/USDT"),
    ("KUCOIN__CAPP-BTC", "kucoin", "CAPP/BTC"),
    ("KUCOIN__SNX-BTC", "kucoin", "SNX/BTC"),
]


@pytest.mark.parametrize(("name", "exchange", "symbol"), RECORDED_DEPTH, ids=[row[0] for row in RECORDED_DEPTH])
async def test_recorded_book_keeps_every_price_and_quantity_to_the_last_digit(recorded, made, name, exchange, symbol):
    """
    What the venue wrote is what is dealt on: every level, no digit lost on the way through ccxt's floats.
    """
    text = (recorded / "rest_depth" / f"{name}.json").read_text()
    venue = made(exchange)
    assert symbol in await loaded(venue, instruments_body(recorded, exchange))

    raw = await asked(venue, symbol, 5_000, body=text)
    book = decode(raw, venue=exchange, symbol=symbol, received_at_ns=0)

    written = json.loads(text)
    written = written.get("data", written)
    for side, levels, descending in (("bids", book.bids, True), ("asks", book.asks, False)):
        exactly = [(Decimal(row[0]), Decimal(row[1])) for row in written[side]]
        assert sorted(exactly, reverse=descending) == list(levels)
    assert book.bids[0] < book.asks[0]
    sequences = {"binance": "lastUpdateId", "bitstamp": "microtimestamp", "kucoin": "sequence"}
    assert int(written[sequences[exchange]]) == book.sequence
    times = {"binance": None, "bitstamp": int(written.get("microtimestamp", 0)) // 1000, "kucoin": written.get("time")}
    assert times[exchange] == raw.time_ms


@pytest.mark.parametrize(("exchange", "count", "symbol", "rules"), [
    # Price step, quantity step, least quantity, least notional, taker fee in basis points.
    ("binance", 1262, "BTC/USDT", "0.01 0.00001 0.00001 10 10"),
    ("binance", 1262, "NKN/USDT", "0.0001 1 1 10 10"),
    ("binance", 1262, "BLZ/ETH", "0.00000001 1 1 0.005 10"),
    # ccxt takes REPV2 for REP: four of 293 pairs share a symbol.
    ("kraken", 289, "BTC/USD", "0.1 0.00000001 0.0002 - 26"),
    ("kraken", 289, "ETH/USDT", "0.01 0.00000001 0.005 - 26"),
    # Stable against stable has its own fee.
    ("kraken", 289, "USDT/USD", "0.0001 0.00000001 5 - 20"),
    ("bitstamp", 140, "ADA/EUR", "0.00001 0.00000001 - 20 40"),
    ("bitstamp", 140, "USDT/USD", "0.00001 0.00001 - 20 40"),
    ("coinbaseexchange", 162, "BTC/USD", "0.01 0.00000001 - 5 60"),
    ("coinbaseexchange", 162, "ETH/BTC", "0.00001 0.00000001 - 0.001 60"),
    ("okx", 513, "BTC/USDT", "0.1 0.00000001 0.00001 - 15"),
    ("okx", 513, "ETH/USDT", "0.01 0.000001 0.001 - 15"),
    ("kucoin", 633, "CAPP/BTC", "0.0000000001 0.01 10 0.00001 10"),
    ("kucoin", 633, "BSV/USDT", "0.001 0.00000001 0.001 0.05 10"),
])  # fmt: skip
async def test_recorded_instruments_become_exact_rules(recorded, made, exchange, count, symbol, rules):
    """
    Steps, minimums and fees are the venue's own, exactly; a rule that it does not publish is missing.
    """
    instruments = await loaded(made(exchange), instruments_body(recorded, exchange))
    one = instruments[symbol]

    expected = [None if rule == "-" else Decimal(rule) for rule in rules.split()]
    assert expected == [
        one.price_step, one.quantity_step, one.quantity_min, one.notional_min, one.taker_fee_bps
    ]  # fmt: skip
    assert (exchange, symbol) == (one.venue, one.symbol)
    # Nothing of them is zero, negative or of another kind than spot.
    assert all(re.fullmatch(r"[^/:]+/[^/:]+", symbol) for symbol in instruments)
    for each in instruments.values():
        numbers = (each.price_step, each.quantity_step, each.quantity_min, each.notional_min)
        assert all(number is None or number > 0 for number in numbers)
    assert count == len(instruments)


async def test_fee_of_the_settings_takes_the_place_of_the_venues(made):
    """
    The operator's own tier is what an order pays.
    """
    venue = made("bitstamp", taker_fee_bps=Decimal("12.5"))
    instruments = await loaded(venue, json.dumps([bitstamp_market("btcusd", "BTC/USD", 8, 0)]))

    assert Decimal("12.5") == instruments["BTC/USD"].taker_fee_bps


async def test_perpetuals_and_halted_symbols_are_not_offered(made):
    """
    Only what can be bought on the spot is served.
    """
    rows = [
        bitstamp_market("btcusd", "BTC/USD", 8, 0),
        bitstamp_market("btcusd-perp", "BTC/USD", 8, 0) | {"market_type": "PERPETUAL", "payoff_type": "Linear"},
        bitstamp_market("ethusd", "ETH/USD", 8, 1) | {"trading": "Disabled"},
    ]

    assert ["BTC/USD"] == list(await loaded(made("bitstamp"), json.dumps(rows)))


@pytest.mark.parametrize("body", ["[]", "{}", "null", "", "<html></html>", BINANCE.replace("TRADING", "BREAK")])
async def test_answer_without_instruments_is_a_failure_and_leaves_the_known_ones(made, body):
    """
    A page of HTML is not a venue that delisted everything: its symbols stay known, and books still come.
    """
    venue = made("binance")
    for _ in range(2):
        with pytest.raises(VenueFailure, match="no_instruments") as caught:
            await loaded(venue, body)
        assert not isinstance(caught.value, VenueMisuse)
        assert ["BTC/USDT"] == list(await loaded(venue, BINANCE))
    with pytest.raises(VenueFailure, match="no_instruments"):
        await loaded(venue, body)
    raw = await asked(venue, body='{"lastUpdateId": 5, "bids": [["1", "1"]], "asks": [["2", "1"]]}')

    assert RawBook("BTC/USDT", [[1.0, 1.0]], [[2.0, 1.0]], 5, None) == raw


async def test_venue_that_publishes_no_fee_needs_one_of_the_operator(made):
    """
    No fee is invented: until it is set the venue stays out, and asking again would not help.
    """
    row = {
        "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "minTradeAmount": "0", "pricePrecision": "2",
        "quantityPrecision": "6", "quotePrecision": "8", "status": "online", "minTradeUSDT": "1",
    }  # fmt: skip
    body = json.dumps({"code": "00000", "msg": "success", "data": [row]})
    with pytest.raises(VenueMisuse, match=r"no_fee: set venues\.bitget\.taker_fee_bps"):
        await loaded(made("bitget"), body)

    instruments = await loaded(made("bitget", taker_fee_bps=Decimal(10)), body)
    assert Decimal("0.01") == instruments["BTC/USDT"].price_step


# What else comes instead of a book.


NOON, HALF_PAST = "Sun, 01 Nov 2026 12:00:00 GMT", "Sun, 01 Nov 2026 12:30:00 GMT"


@pytest.mark.parametrize(("answer", "kind", "reason", "pause_s"), [
    ({"status": 429, "headers": {"Retry-After": "7"}}, VenueRefusal, "rate_limited", 7),
    ({"status": 429, "headers": {"Retry-After": "0.5"}}, VenueRefusal, "rate_limited", 0.5),
    # A date counts from the answer's own clock, not from ours.
    ({"status": 429, "headers": {"Retry-After": HALF_PAST, "Date": NOON}}, VenueRefusal, "rate_limited", 1_800),
    ({"status": 429, "headers": {"Retry-After": NOON}}, VenueRefusal, "rate_limited", 0),
    ({"status": 503, "headers": {"Retry-After": "30"}}, VenueRefusal, "http_503", 30),
    # No more than a day, whatever it says.
    ({"status": 429, "headers": {"Retry-After": "99999999"}}, VenueRefusal, "rate_limited", PAUSE_MAX_S),
    # Without a time it is probed like any failure.
    ({"status": 429}, VenueFailure, "http_429", None),
    ({"status": 429, "headers": {"Retry-After": "Sun, 99 Nov"}}, VenueFailure, "http_429", None),
    ({"status": 429, "headers": {"Retry-After": "-1"}}, VenueFailure, "http_429", None),
    ({"status": 418, "headers": {"Retry-After": "9"}}, VenueRefusal, "banned", 9),
    ({"status": 418}, VenueRefusal, "banned", PAUSE_DEFAULT_S),
    ({"status": 403, "body": "<html>no</html>"}, VenueRefusal, "banned", PAUSE_DEFAULT_S),
    ({"status": 403, "headers": {"Retry-After": "soon"}}, VenueRefusal, "banned", PAUSE_DEFAULT_S),
    ({"status": 401, "body": "{}"}, VenueMisuse, "authentication", None),
    ({"status": 400, "body": '{"code":-1121,"msg":"Invalid symbol."}'}, VenueMisuse, "not_supported", None),
    ({"status": 500, "body": "<html>sorry</html>"}, VenueFailure, "http_500", None),
    ({"status": 502}, VenueFailure, "http_502", None),
    ({"status": 503, "body": "<html>sorry</html>"}, VenueFailure, "http_503", None),
    ({"status": 404, "body": "{}"}, VenueFailure, "http_404", None),
    ({"status": 200, "body": '{"code":-1000,"msg":"x"}'}, VenueFailure, "bad_response", None),
    ({"exception": TimeoutError()}, VenueFailure, "timeout", None),
    ({"exception": ClientConnectionError("refused")}, VenueFailure, "unreachable", None),
])  # fmt: skip
async def test_error_is_told_by_who_can_act(made, answer, kind, reason, pause_s):
    """
    Time heals failures, a pause is kept as it was asked for, and what needs an operator says so.
    """
    venue = made("binance")
    await loaded(venue, BINANCE)
    with pytest.raises(VenueFailure) as caught:
        await asked(venue, **answer)

    assert kind is type(caught.value)
    assert reason == caught.value.reason
    assert pause_s == getattr(caught.value, "pause_s", None)
    assert len(caught.value.detail) <= 200


@pytest.mark.parametrize("body", ["<html></html>", '{"lastUpdateId":1,"bids":[["1"', "", "null", "{}", "[]"])
async def test_garbage_with_status_200_never_is_a_book(made, body):
    """
    A page of HTML becomes an empty book in ccxt; no such book counts.
    """
    venue = made("binance")
    await loaded(venue, BINANCE)
    with pytest.raises((VenueFailure, BookRejected), match=r"^(bad_response|empty)"):
        decode(await asked(venue, body=body), venue="binance", symbol="BTC/USDT", received_at_ns=0)


async def test_refusal_is_heard_beside_other_answers(made):
    """
    Of two requests for the instruments one is refused, whichever comes in first: the pause is kept.
    """
    for refused, answered in (("symbols", "allTickers"), ("allTickers", "symbols")):
        with aioresponses() as answers:
            answers.get(re.compile(f".*{refused}.*"), status=429, headers={"Retry-After": "4"}, body="{}")
            answers.get(re.compile(f".*{answered}.*"), body='{"code":"200000","data":[]}')
            with pytest.raises(VenueRefusal) as caught:
                await made("kucoin").load_instruments()
        assert 4 == caught.value.pause_s


async def test_symbol_that_a_venue_does_not_list_is_misuse(made):
    """
    A symbol it never had is not a trouble of the venue's.
    """
    venue = made("binance")
    await loaded(venue, BINANCE)
    with pytest.raises(VenueMisuse):
        await venue.fetch_book("DOGE/USDT", 10)


KRAKEN = json.dumps({"error": [], "result": {"XXBTZUSD": {
    "altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1, "lot_decimals": 8,
    "fees": [[0, 0.26]], "fees_maker": [[0, 0.16]], "ordermin": "0.0002", "status": "online",
}}})  # fmt: skip
BYBIT = json.dumps({"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": [{
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading",
    "lotSizeFilter": {"basePrecision": "0.000001", "minOrderQty": "0.000011", "minOrderAmt": "5"},
    "priceFilter": {"tickSize": "0.1"},
}]}})  # fmt: skip


def kraken_book(name):
    return {"error": [], "result": {name: {"bids": [["1", "1", 0]], "asks": [["2", "1", 0]]}}}


def bybit_book(name):
    return {"retCode": 0, "retMsg": "OK", "result": {"s": name, "b": [["1", "1"]], "a": [["2", "1"]], "ts": 5}}


@pytest.mark.parametrize(("exchange", "instruments", "symbol", "answer", "right"), [
    ("bybit", BYBIT, "BTC/USDT", bybit_book("BTCUSDT"), True),
    ("bybit", BYBIT, "BTC/USDT", bybit_book("BTCUSDC"), False),
    ("kraken", KRAKEN, "BTC/USD", kraken_book("XXBTZUSD"), True),
    ("kraken", KRAKEN, "BTC/USD", kraken_book("XBT/USD"), True),
    ("kraken", KRAKEN, "BTC/USD", kraken_book("XXBTZEUR"), False),
    ("kraken", KRAKEN, "BTC/USD", kraken_book("XBTUSDT"), False),
])  # fmt: skip
async def test_book_of_another_symbol_is_refused_where_the_answer_says_so(
    made, exchange, instruments, symbol, answer, right
):
    """
    BTC/USDC at the price of BTC/USDT looks sound; only its name gives it away.
    """
    venue = made(exchange)
    await loaded(venue, instruments)
    raw = await asked(venue, symbol, body=json.dumps(answer))
    if right:
        assert symbol == raw.symbol
        assert units(Decimal("1.5")) == decode(raw, venue=exchange, symbol=symbol, received_at_ns=0).mid
    else:
        with pytest.raises(BookRejected) as caught:
            decode(raw, venue=exchange, symbol=symbol, received_at_ns=0)
        assert Reject.WRONG_SYMBOL is caught.value.reason


@pytest.mark.parametrize("body", [{"retCode": 0, "result": {}}, {"retCode": 0}, {"retCode": 0, "result": None}, []])
async def test_answer_without_a_name_is_judged_by_its_book(made, body):
    """
    What is not an answer with a book in it is refused for having none.
    """
    venue = made("bybit")
    await loaded(venue, BYBIT)
    try:
        raw = await asked(venue, body=json.dumps(body))
    except VenueFailure:
        return
    assert not raw.bids and not raw.asks


async def test_clock_of_this_machine_is_not_taken_for_the_venues(made):
    """
    The time of bitfinex's books is our own clock's in ccxt, which says nothing.
    """
    assert made("bitfinex").facts.time_is_local


# Nothing gets out.


def addresses(value):
    if isinstance(value, dict):
        return [address for item in value.values() for address in addresses(item)]
    if isinstance(value, list):
        return [address for item in value for address in addresses(item)]
    return [value] if isinstance(value, str) and "//" in value else []


def test_every_address_of_every_venue_is_redirected():
    """
    Whatever venue is named, with a base_url none of its addresses leads to the real one.
    """
    count = 0
    for exchange in sorted(exchange_ids() - WITHOUT_BOOKS):
        real = CcxtVenue("it", exchange)
        sent = CcxtVenue("it", exchange, base_url="http://127.0.0.1:9001/")
        before, after = addresses(real._ccxt.urls), addresses(sent._ccxt.urls)
        assert len(before) == len(after)
        for was, now in zip(before, after, strict=True):
            assert re.match(r"(http|ws)://127\.0\.0\.1:9001/[^/:]+", now), (exchange, was, now)
            # The original host comes first in the path, without its port, then the original path.
            assert was.partition("://")[2].split("/")[0].split(":")[0] in now
            assert now.startswith("ws://") == was.startswith("ws")
        count += 1
    assert count > 90


async def test_request_to_another_host_is_refused(made):
    """
    An address that ccxt keeps elsewhere, or a venue that sends us on, does not lead out.
    """

    async def elsewhere(request):
        raise web.HTTPFound("http://localhost:1/api/v3/exchangeInfo")

    app = web.Application()
    app.router.add_get("/{path:.*}", elsewhere)
    async with TestServer(app) as server:
        venue = made("binance", base_url=str(server.make_url("")))
        with pytest.raises(VenueFailure, match="unreachable"):
            await venue.load_instruments()
        # As if an address had been forgotten.
        venue._ccxt.urls["api"]["public"] = "http://localhost:1/api/v3"
        with pytest.raises(VenueFailure, match="unreachable") as caught:
            await venue.load_instruments()

    assert "localhost is outside of base_url" in str(caught.value.__cause__.__cause__)


async def test_request_goes_to_the_original_host_below_the_base_url(made):
    """
    One loopback server can play all venues: it sees which one is meant.
    """
    seen = []

    async def anything(request):
        seen.append(request.path)
        return web.Response(text=BINANCE)

    app = web.Application()
    app.router.add_get("/{path:.*}", anything)
    async with TestServer(app) as server:
        assert ["BTC/USDT"] == list(await made("binance", base_url=str(server.make_url("/sim/"))).load_instruments())

    assert ["/sim/api.binance.com/api/v3/exchangeInfo"] == seen


# Sizes, over real sockets.


class Loopback:
    """A server that answers the instruments soundly and everything else as it is told."""

    def __init__(self):
        self.depth = None

    async def answer(self, request):
        if request.path.endswith("/exchangeInfo"):
            return web.Response(text=BINANCE)
        return await self.depth(request)


@pytest.fixture
async def loopback(made):
    """A venue whose books come from a loopback server's handler."""
    told = Loopback()
    app = web.Application()
    app.router.add_get("/{path:.*}", told.answer)
    async with TestServer(app) as server:
        told.venue = made("binance", base_url=str(server.make_url("")))
        await told.venue.load_instruments()
        yield told
        await told.venue.close()


def padded(length):
    """A sound book in a body of *length* bytes."""
    book = b'{"lastUpdateId":1,"bids":[["1","1"]],"asks":[["2","1"]]'
    return book + b" " * (length - len(book) - 1) + b"}"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("length", "taken"), [
    (1_000, True),
    (BODY_MAX_BYTES, True),
    (BODY_MAX_BYTES + 1, False),
    # Sixteen times what is taken: as gzip, a hundred kilobytes on the wire.
    (16 * BODY_MAX_BYTES, False),
])  # fmt: skip
async def test_body_over_four_mebibytes_is_refused_unread(loopback, length, taken, packed):
    """
    Neither a flood nor a bomb costs more than four mebibytes; the connection is dropped.
    """
    body = padded(min(length, BODY_MAX_BYTES + 1))
    body = body[:-1] + b" " * (length - len(body)) + b"}"
    if packed:
        body = await asyncio.to_thread(gzip.compress, body, 1)

    async def depth(request):
        return web.Response(body=body, headers={"Content-Encoding": "gzip"} if packed else {})

    loopback.depth = depth
    if taken:
        assert [[1.0, 1.0]] == (await loopback.venue.fetch_book("BTC/USDT", 10)).bids
    else:
        with pytest.raises(BookRejected) as caught:
            await loopback.venue.fetch_book("BTC/USDT", 10)
        assert Reject.TOO_LARGE is caught.value.reason


async def test_instruments_may_be_larger_than_a_book(made):
    """
    Two thousand instruments are more bytes than any book.
    """

    async def instruments(request):
        return web.Response(text=BINANCE + " " * (2 * BODY_MAX_BYTES))

    app = web.Application()
    app.router.add_get("/{path:.*}", instruments)
    async with TestServer(app) as server:
        assert await made("binance", base_url=str(server.make_url(""))).load_instruments()


async def test_answer_that_breaks_off_is_unreachable(loopback):
    """
    Half of a body is no book.
    """

    async def depth(request):
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(padded(500))
        request.transport.close()
        return response

    loopback.depth = depth
    with pytest.raises(VenueFailure, match="unreachable"):
        await loopback.venue.fetch_book("BTC/USDT", 10)


async def test_venue_that_nobody_serves_is_unreachable(made):
    """
    A refused connection is a failure that time may heal.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(VenueFailure, match="unreachable"):
        await made("binance", base_url=f"http://127.0.0.1:{port}").load_instruments()


# Settings.


def test_unknown_exchange_is_refused_with_the_nearest_names():
    """
    Who misspells a venue is told what it may have been.
    """
    with pytest.raises(VenueConfigError) as caught:
        CcxtVenue("mine", "krakn")

    assert 1 == len(caught.value.problems)
    assert caught.value.problems[0].startswith("venues.mine.exchange: ccxt knows no exchange 'krakn'")
    assert "kraken" in caught.value.problems[0]


@pytest.mark.parametrize("exchange", sorted(WITHOUT_BOOKS))
def test_exchange_without_order_books_is_refused(exchange):
    """
    A venue that shows no book cannot be a venue here.
    """
    with pytest.raises(VenueConfigError, match=rf"^venues\.it\.exchange: {exchange} offers no order books$"):
        CcxtVenue("it", exchange)


def test_redirect_keeps_the_scheme_of_the_base_url():
    """
    Behind https, WebSockets are sealed, too.
    """
    venue = CcxtVenue("okx", "okx", base_url="https://127.0.0.1:9001")
    assert all(URL(address).scheme in ("https", "wss") for address in addresses(venue._ccxt.urls))
