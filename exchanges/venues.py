"""Facts about venues that ccxt does not tell, as rows.

Pure.  A venue without a row works: it is asked without a limit, its time is trusted for order only, and ccxt's
own interval between requests holds.  Facts marked "ccxt 4.5.90" were read in that version's code and seen in the
requests it sends; the others name the venue's page or the recording they were seen in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from exchanges.checksum import KrakenChecksum

Depths = range | tuple[int, ...] | None


def accepted_depth(depths: Depths, wanted: int) -> int | None:
    """Give the levels to ask for: the fewest accepted that reach *wanted*, else the most; None for no limit."""
    if depths is None:
        return None
    if isinstance(depths, range):
        return min(max(wanted, depths[0]), depths[-1])
    return next((accepted for accepted in depths if accepted >= wanted), depths[-1])


class Link(NamedTuple):
    """
    A stream message's place among those of its book.

    Args:
        market_id: The venue's own name of the symbol.
        previous: The sequence that must have come before; None for a snapshot.
    """

    market_id: str
    sequence: int
    previous: int | None


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """
    What is known about an exchange's streamed books, as ccxt.pro makes them.

    Args:
        depths: Levels a side that may be subscribed to; None where ccxt must be given no limit: it would throw away
            levels that the venue's changes do not repeat.
        time_is_generation: Its messages bear the time at which they were made.
        time_ms: Finds that time, Unix milliseconds, in ccxt's book, where it is not the book's ``timestamp``.
        link: Finds a message's place in its sequence, where the venue numbers messages and ccxt does not look.
        checksum: Finds a message's checksum of the book, where the venue sends one and ccxt does not look.
        keeps_every_level: ccxt would throw away what lies beyond the number of levels in its snapshot; the venue's
            changes do not repeat it, and the market may move there.
        change_sequence: Finds a change's own sequence, where ccxt would forget the changes that came while it waited
            for its snapshot unless one of them bears the snapshot's very number.
    """

    depths: Depths = None
    time_is_generation: bool = False
    time_ms: Callable[[Mapping[str, Any]], int | None] | None = None
    link: Callable[[Any], Link | None] | None = None
    checksum: Callable[[Any], KrakenChecksum | None] | None = None
    keeps_every_level: bool = False
    change_sequence: Callable[[Mapping[str, Any]], int] | None = None

    def depth(self, wanted: int) -> int | None:
        """Give the levels to subscribe to; None for no limit."""
        return accepted_depth(self.depths, wanted)


@dataclass(frozen=True, slots=True)
class VenueFacts:
    """
    What is known about one of ccxt's exchanges.

    Args:
        depths: Levels a side it may be asked for: a range, the accepted values in rising order, or None where the
            request has no limit or nothing is known.
        time_is_generation: Its time stands for the moment the answer was made, so it tells the answer's age.
        time_is_local: The "time" that ccxt reports is this machine's own clock and says nothing.
        repeats_prices: Its documented format may list a price more than once.
        request_interval_ms: Between two depth requests, where ccxt weighs them heavier than ``rateLimit`` alone.
        time_ms: Finds in the answer's JSON the venue's time in Unix milliseconds, where ccxt does not pass it on.
        market_id: Finds in the answer's JSON the venue's own name of the symbol that the book is for, where the answer
            says it and ccxt does not look.
        whole_book: It answers with every level it has, tens of thousands of them: too many to be parsed between two
            requests of others.
        options: For ccxt's constructor.
        stream: Its streamed books.
    """

    depths: Depths = None
    time_is_generation: bool = False
    time_is_local: bool = False
    repeats_prices: bool = False
    request_interval_ms: int | None = None
    time_ms: Callable[[Any], int] | None = None
    market_id: Callable[[Any], str] | None = None
    whole_book: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: StreamFacts = StreamFacts()

    def depth(self, wanted: int) -> int | None:
        """Give the levels to ask for; None for no limit."""
        return accepted_depth(self.depths, wanted)


def _bybit_link(message: Any) -> Link | None:
    """
    Read the update id of a Bybit order book message: a change's is one more than the one before.

    "Orderbook" of its v5 WebSocket reference (bybit-exchange.github.io/docs/v5/websocket/public/orderbook, read
    2026-11) calls it a sequence that begins anew at 1 with a snapshot.  Should it ever skip numbers, the stream is
    taken for one with gaps, and the venue is polled.
    """
    if not isinstance(message, dict) or not str(message.get("topic", "")).startswith("orderbook."):
        return None
    data = message["data"]
    previous = None if message.get("type") == "snapshot" or data["u"] == 1 else data["u"] - 1
    return Link(str(data["s"]), data["u"], previous)


# "E" is the event's time; "U" and "u" are looked at by ccxt.  ccxt 4.5.90 keeps 1000 levels a side: in six recorded
# minutes of BTC/USDT one that it had thrown away came to be among the best three.
_BINANCE_STREAM = StreamFacts(time_is_generation=True, keeps_every_level=True)

VENUES: Mapping[str, VenueFacts] = {
    # Binance, "Order book" of its spot API reference: limit 1 to 5000.
    "binance": VenueFacts(depths=range(1, 5001), stream=_BINANCE_STREAM),
    "binanceus": VenueFacts(depths=range(1, 5001), stream=_BINANCE_STREAM),
    # Bitfinex, "Book" of its v2 API reference: raw books (ccxt 4.5.90's default, R0) repeat prices, aggregated ones
    # (P0) do not; len is 1, 25 or 100.  ccxt 4.5.90 reports this machine's clock as the time.
    "bitfinex": VenueFacts(
        depths=(1, 25, 100),
        time_is_local=True,
        repeats_prices=True,
        options={"fetchOrderBook": {"precision": "P0"}},
    ),
    # Bitstamp: no limit is offered.  microtimestamp moves in quiet markets too: in recorded bodies of five symbols
    # fetched within three seconds, thin ones among them, each is about the time of its own request.
    # Its streamed changes bear a microtimestamp each, and nothing that would show that one is missing.  An answer shows
    # the changes up to its own microtimestamp, which is that of one of them in two of five recorded bodies only.
    "bitstamp": VenueFacts(
        time_is_generation=True,
        whole_book=True,
        # ccxt 4.5.90 waits for seven changes, which takes a thin symbol longer than a stream is given, and then asks
        # so many times at most for a snapshot that is no older than the first of them.
        options={"watchOrderBook": {"snapshotDelay": 0, "maxRetries": 10}},
        stream=StreamFacts(
            time_is_generation=True,
            time_ms=lambda book: book["nonce"] and book["nonce"] // 1_000,
            change_sequence=lambda change: int(change["microtimestamp"]),
        ),
    ),
    # Bybit, "Get Orderbook" (bybit-exchange.github.io/docs/v5/market/orderbook): spot limit 1 to 200; ts is when the
    # system generated the data; s is the symbol.  100 ms between requests by ccxt 4.5.90's weights.
    "bybit": VenueFacts(
        depths=range(1, 201),
        time_is_generation=True,
        request_interval_ms=100,
        market_id=lambda body: str(body["result"]["s"]),
        stream=StreamFacts(depths=(1, 50, 200, 1000), time_is_generation=True, link=_bybit_link),
    ),
    # Coinbase Exchange, "Get product book" (docs.cdp.coinbase.com/api-reference/exchange-api): the answer bears the
    # time it was made; ccxt 4.5.90 drops it, and always asks for the whole book (level 2).
    "coinbaseexchange": VenueFacts(
        time_is_generation=True,
        whole_book=True,
        time_ms=lambda body: round(datetime.fromisoformat(body["time"]).timestamp() * 1_000),
    ),
    # Crypto.com: ccxt 4.5.90 cuts the depth to 50.
    "cryptocom": VenueFacts(depths=range(1, 51)),
    # Gate: ccxt 4.5.90 cuts the limit to 1000.
    "gate": VenueFacts(depths=range(1, 1001)),
    # Gemini: two requests a second, by ccxt 4.5.90's weights.
    "gemini": VenueFacts(request_interval_ms=500),
    # HTX: ccxt 4.5.90 refuses any other depth.
    "htx": VenueFacts(depths=(5, 10, 20, 150)),
    # Kraken, "Get Order Book" (docs.kraken.com/api-reference/market-data/get-order-book): count up to 500; the book is
    # keyed by its pair.  1200 ms between requests by ccxt 4.5.90's weights.  Streams: "Book" of its WebSocket v2
    # reference (docs.kraken.com/api/docs/websocket-v2/book, read 2026-11).
    "kraken": VenueFacts(
        depths=range(1, 501),
        request_interval_ms=1200,
        market_id=lambda body: str(next(iter(body["result"]))),
        stream=StreamFacts(
            depths=(10, 25, 100, 500, 1000), time_is_generation=True, checksum=KrakenChecksum.of_message
        ),
    ),
    # KuCoin: ccxt 4.5.90 refuses any other depth.
    "kucoin": VenueFacts(depths=(20, 100)),
    # MEXC: 150 ms by ccxt 4.5.90's weights.
    "mexc": VenueFacts(request_interval_ms=150),
    # OKX, "GET / Order book" (okx.com/docs-v5): sz up to 400; ts is when the book was generated.
    # Streams: prevSeqId is looked at by ccxt.
    "okx": VenueFacts(depths=range(1, 401), time_is_generation=True, stream=StreamFacts(time_is_generation=True)),
}

UNKNOWN = VenueFacts()


def facts(exchange: str) -> VenueFacts:
    """Give what is known about a ccxt exchange id, or the row of one nothing is known about."""
    return VENUES.get(exchange, UNKNOWN)


def request_interval_ms(exchange: str, depth: int, ccxt_rate_limit_ms: float) -> int:
    """
    Give the default time between two depth requests.

    Binance weighs by depth: 50 ms up to 100 levels, 250 to 500, 500 to 1000, 2500 above (ccxt 4.5.90's weights).
    """
    if exchange in ("binance", "binanceus"):
        return next((interval for most, interval in ((100, 50), (500, 250), (1000, 500)) if depth <= most), 2500)
    return facts(exchange).request_interval_ms or round(ccxt_rate_limit_ms)
