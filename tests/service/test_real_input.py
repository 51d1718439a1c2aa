"""Genuine books in their venues' own wire formats, through unmodified ccxt, to quotes and fills."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from functools import partial

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from exchanges.book import Side
from exchanges.clock import SystemClock
from exchanges.feeds import Feeds, VenueConfig
from service.accounting import plain, rate
from service.api.render_record import receipt
from service.desk.desk import Desk
from service.desk.floor import DeskRules, Floor
from service.desk.orders import DirectOrder, Order, QuoteOrder, QuoteRequest, TimeInForce
from service.desk.quote_id import QuoteSigner
from service.errors import Unavailable
from service.ledger.sqlite import SqliteLedger
from service.market.screening import Rules
from service.market.taken import OFF, TakenLiquidity
from service.market.view import MarketView
from tests.service import oracle
from tests.service.shown import ask, money

SYMBOLS = ["BTC/USD", "ETH/USD"]
FEES_BPS = {"bitfinex": "20", "bitstamp": "40", "coinbase": "60"}
DEPTHS = {"bitfinex": 100, "bitstamp": 5_000, "coinbase": 5_000}
EXCHANGES = {"bitfinex": "bitfinex", "bitstamp": "bitstamp", "coinbase": "coinbaseexchange"}
MARKUP_BPS = "1.25"
PLENTY = {asset: money("1000000000") for asset in ("USD", "BTC", "ETH")}
# Above the venues' minimums, where routing has nothing to mend; see test_pricing_routing.py for where it has.
QUANTITIES = ["0.12345", "1.5", "100", "1000000"]


class Venues:
    """Three venues on one loopback server; each serves its captured books in its own format."""

    def __init__(self, rows):
        self.rows = {(row["venue"], f"{row['base']}/{row['quote']}"): row for row in rows}
        self.asked = Counter()
        self.all_asked_twice = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/{host}/{path:.*}", self.answer)

    async def answer(self, request):
        path = request.match_info["path"].strip("/")
        match request.match_info["host"], path.split("/"):
            case "api-pub.bitfinex.com", ["v2", "conf", _]:
                body = self.bitfinex_instruments()
            case "api-pub.bitfinex.com", ["v2", "book", market, "P0"]:
                # The venue gives as many levels as it is asked for.
                body = self.bitfinex_book(self.row("bitfinex", market[1:]), int(request.query["len"]))
            case "www.bitstamp.net", ["api", "v2", "markets"]:
                body = self.bitstamp_instruments()
            case "www.bitstamp.net", ["api", "v2", "order_book", market]:
                body = self.bitstamp_book(self.row("bitstamp", market.upper()))
            case "api.exchange.coinbase.com", ["products"]:
                body = self.coinbase_instruments()
            case "api.exchange.coinbase.com", ["products", market, "book"]:
                assert "2" == request.query["level"]
                body = self.coinbase_book(self.row("coinbase", market.replace("-", "")))
            case _:
                raise web.HTTPNotFound
        return web.Response(body=body, content_type="application/json")

    async def served_once_more(self):
        """Wait until every venue's books have been asked for anew, and taken."""
        self.asked.clear()
        self.all_asked_twice.clear()
        async with asyncio.timeout(20):
            await self.all_asked_twice.wait()

    def row(self, venue, market):
        symbol = f"{market[:3]}/{market[3:]}"
        self.asked[venue, symbol] += 1
        # One request is in flight per venue: who is asked again has had its books taken.
        if len(self.asked) == len(EXCHANGES) * len(SYMBOLS) and min(self.asked.values()) > 1:
            self.all_asked_twice.set()
        return self.rows[venue, symbol]

    def bitfinex_instruments(self):
        rules = [None, None, None, "0.00006", "2000.0", *[None] * 7]
        return orjson.dumps([[["BTCUSD", rules], ["ETHUSD", rules]], [], [], ["BTCUSD", "ETHUSD"]])

    def bitfinex_book(self, row, length):
        # [price, count, amount], bids above zero and asks below, as JSON numbers: the venue's own digits.
        bids = [f"[{price},1,{quantity}]" for price, quantity in row["bids"][:length]]
        asks = [f"[{price},2,-{quantity}]" for price, quantity in row["asks"][:length]]
        return f"[{','.join(bids + asks)}]".encode()

    def bitstamp_instruments(self):
        return orjson.dumps(
            [
                {
                    "name": symbol, "market_symbol": symbol.replace("/", "").lower(), "base_currency": symbol[:3],
                    "base_decimals": 8, "counter_currency": "USD", "counter_decimals": 2, "minimum_order_value": "10",
                    "trading": "Enabled", "instant_order_counter_decimals": 2, "instant_and_market_orders": "Enabled",
                    "description": symbol, "market_type": "SPOT",
                }
                for symbol in SYMBOLS
            ]
        )  # fmt: skip

    def bitstamp_book(self, row):
        now_us = time.time_ns() // 1_000
        times = {"timestamp": str(now_us // 10**6), "microtimestamp": str(now_us)}
        return orjson.dumps({**times, "bids": row["bids"], "asks": row["asks"]})

    def coinbase_instruments(self):
        return orjson.dumps(
            [
                {
                    "id": symbol.replace("/", "-"), "base_currency": symbol[:3], "quote_currency": "USD",
                    "quote_increment": "0.01", "base_increment": "0.00000001", "display_name": symbol.replace("/", "-"),
                    "min_market_funds": "1", "margin_enabled": False, "post_only": False, "limit_only": False,
                    "cancel_only": False, "status": "online", "status_message": "", "trading_disabled": False,
                    "fx_stablecoin": False, "max_slippage_percentage": "0.02", "auction_mode": False,
                    "high_bid_limit_percentage": "",
                }
                for symbol in SYMBOLS
            ]
        )  # fmt: skip

    def coinbase_book(self, row):
        sides = {side: [[*level, 3] for level in row[side]] for side in ("bids", "asks")}
        return orjson.dumps({"sequence": 7, "auction_mode": False, "auction": None, **sides})

    def market(self, symbol):
        """What was served, in fractions."""
        return {
            venue: oracle.Shown(
                *(
                    [tuple(map(oracle.fraction, level)) for level in self.rows[venue, symbol][side][:depth]]
                    for side in ("bids", "asks")
                ),
                oracle.fraction(FEES_BPS[venue]),
            )
            for venue, depth in DEPTHS.items()
        }


class Service:
    """Feeds, market and desk, with real clocks and a real ledger."""

    def __init__(self, venues, feeds, ledger):
        self.venues = venues
        self.market = MarketView(
            feeds.board,
            Rules(3, Decimal(1_000), Decimal(1_000)),
            {symbol: dict.fromkeys(EXCHANGES, symbol) for symbol in SYMBOLS},
        )
        self.clock = SystemClock()
        rules = DeskRules(market_data="simulated", markup_rate=rate(Decimal(MARKUP_BPS)), starting=PLENTY)
        # Every order is held against the books as they were served, whatever the orders before it have taken.
        floor = Floor(self.market, ledger, self.clock, rules, list(EXCHANGES), TakenLiquidity(OFF, 0))
        self.desk = Desk(floor, QuoteSigner(bytes(range(32))), receipt)

    async def when_live(self, ask):
        """Ask again as long as a machine that is too busy makes the books unusable; nothing was executed then."""
        while True:
            try:
                return await ask()
            except Unavailable:
                await self.venues.served_once_more()

    async def book(self, symbol):
        return self.desk.look(symbol, "alice").book

    async def quote(self, symbol, quantity, *sides):
        return self.desk.quote("alice", QuoteRequest(symbol, ask(quantity), sides))

    async def execute(self, terms, client_order_id):
        fingerprint = hashlib.sha256(client_order_id.encode()).digest()
        return orjson.loads((await self.desk.execute(Order("alice", client_order_id, fingerprint, terms))).receipt)

    async def execute_quote(self, symbol, quantity, side, client_order_id):
        quote = await self.quote(symbol, quantity, side)
        return await self.execute(QuoteOrder(quote.quote_id), client_order_id)


@pytest.fixture(params=[1, 2])
async def venues(request, recorded):
    """The captured books of three venues, being served."""
    return Venues(orjson.loads((recorded / "multi_venue" / f"btc-eth-usd_{request.param}.json").read_bytes()))


@pytest.fixture
def expected(venues):
    """Every quote in fractions, computed before the feeds run: it takes long enough to stall them."""
    return {
        (symbol, quantity, side): oracle.priced(
            venues.market(symbol), side.value, oracle.fraction(quantity), markup_bps=oracle.fraction(MARKUP_BPS)
        )
        for symbol in SYMBOLS
        for quantity in QUANTITIES
        for side in Side
    }


@pytest.fixture
async def service(venues, tmp_path):
    """A service whose feeds have taken every book at least once."""
    async with TestServer(venues.app) as server:
        base_url = str(server.make_url("")).rstrip("/")
        configs = [
            VenueConfig(
                name, exchange, poll_interval_ms=100, rate_limit_ms=0, depth=DEPTHS[name], base_url=base_url,
                taker_fee_bps=Decimal(FEES_BPS[name]),
            )
            for name, exchange in EXCHANGES.items()
        ]  # fmt: skip
        feeds = Feeds(configs, SYMBOLS, Decimal(1_000), SystemClock())
        ledger = SqliteLedger.open(tmp_path / "ledger.db", "simulated", PLENTY)
        try:
            await feeds.start()
            async with asyncio.timeout(20):
                await venues.all_asked_twice.wait()
            yield Service(venues, feeds, ledger)
        finally:
            await feeds.close()
            await ledger.close()


async def test_books_come_through_ccxt_as_they_were_sent(service, venues):
    """
    Every level that a venue sent is in the consolidated book, digit by digit, ranked net of its fee.
    """
    books = {symbol: await service.when_live(partial(service.book, symbol)) for symbol in SYMBOLS}

    for symbol, book in books.items():
        market = venues.market(symbol)
        assert set(EXCHANGES) == set(book.venues)
        for side in Side:
            assert oracle.ranked(market, side.value) == [
                (
                    Fraction(level.price, 10**18),
                    Fraction(level.quantity, 10**18),
                    level.venue,
                    Fraction(level.rate, 10**6),
                    Fraction(level.net_price(side)),
                )
                for level in book.side(side).levels()
            ]
        assert oracle.mid(market) == Fraction(book.mid)


async def test_quotes_and_fills_of_real_books_are_right_to_the_last_digit(expected, service):
    """
    What a client is quoted, and then filled at, is what the served books and fees give in fractions.
    """
    for n, ((symbol, quantity, side), numbers) in enumerate(expected.items()):
        both = await service.when_live(partial(service.quote, symbol, quantity, Side.BUY, Side.SELL))
        assert numbers == oracle.numbers_of(both.sides[side])

        direct = DirectOrder(symbol, side, ask(quantity), TimeInForce.IOC)
        assert_filled(await service.when_live(partial(service.execute, direct, f"direct-{n}")), numbers)
        on_quote = await service.when_live(partial(service.execute_quote, symbol, quantity, side, f"quote-{n}"))
        if numbers["stopped_by"] is None:
            assert_filled(on_quote, numbers)
            assert "0" == on_quote["versus_quote_bps"]
        else:
            assert ("rejected", "insufficient_liquidity") == (on_quote["status"], on_quote["reject_code"])


def assert_filled(body, expected):
    """Hold a receipt against the fractions."""
    assert ("filled" if expected["stopped_by"] is None else "partially_filled") == body["status"]
    for name in ("subtotal", "fees", "markup", "total", "average_price", "all_in_price"):
        assert expected[name] == Fraction(body[name])
        assert body[name] == plain(Decimal(body[name]))
    assert expected["quantity"] == Fraction(body["filled_quantity"])
    assert [(venue, price, quantity, fee) for venue, price, quantity, _, _, fee, _ in expected["fills"]] == [
        (fill["venue"], *(Fraction(fill[name]) for name in ("price", "quantity", "fee"))) for fill in body["fills"]
    ]
