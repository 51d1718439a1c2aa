"""Speak as Binance spot does, over REST and as a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import orjson

from exchanges.simulator.market import VENUES, Level, Listing
from exchanges.simulator.wires.wire import (
    Caller,
    Change,
    Channel,
    DepthRequest,
    Heard,
    Moment,
    Query,
    Reply,
    Side,
    StreamWire,
    Subscribe,
    Unsubscribe,
    depth_asked,
    digits,
    json_reply,
    market_ids,
    read_object,
    rows,
    stream_rows,
    strings,
)


class _Binance:
    """
    Binance spot.

    "Market Data endpoints: Order book" and "General endpoints: Exchange information",
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api.
    Errors: "Error codes", https://developers.binance.com/docs/binance-spot-api-docs/errors.
    Streams: "Diff. Depth Stream" and "How to manage a local order book correctly",
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams.
    """

    name = "binance"
    hosts: tuple[str, ...] = ("api.binance.com", "fapi.binance.com", "dapi.binance.com")
    stream_hosts: tuple[str, ...] = ("stream.binance.com",)
    begins_with_answer = True
    readers_cut = False
    keeps_alive: bytes | None = None
    pings_every_ms: int | None = 20_000
    unexpected = b"[1]"
    _operations: ClassVar[Mapping[str, type[Subscribe] | type[Unsubscribe]]] = {
        "SUBSCRIBE": Subscribe,
        "UNSUBSCRIBE": Unsubscribe,
    }
    _listings: ClassVar[Mapping[str, Listing]] = market_ids(VENUES["binance"].listings, "")

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        if path == "/api/v3/exchangeInfo":
            return json_reply(200, self._exchange_info([self._symbol(*row) for row in self._listings.items()], time_ms))
        if path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"):
            return json_reply(200, self._exchange_info([], time_ms))  # No derivatives here.
        if path != "/api/v3/depth":
            return None
        if "symbol" not in query:
            message = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            return DepthRequest(None, refusal=self._error(-1102, message))
        listing = self._listings.get(query["symbol"])
        if listing is None:
            return DepthRequest(None, refusal=self._error(-1121, "Invalid symbol."))
        try:
            return DepthRequest(listing.symbol, depth_asked(query.get("limit"), 100, 5000))
        except ValueError:
            message = "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."
            return DepthRequest(listing.symbol, refusal=self._error(-1100, message))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        return orjson.dumps(
            {
                "lastUpdateId": moment.sequence,
                "bids": rows(bids, self.level, moment),
                "asks": rows(asks, self.level, moment),
            }
        )

    def level(self, level: Level, moment: Moment) -> list[object]:
        return [digits(level.price, 8), digits(level.quantity, 8)]

    def too_many_requests(self) -> bytes:
        message = "Too many requests; current limit of IP is 6000 requests per minute."
        return orjson.dumps({"code": -1003, "msg": message})

    def _error(self, code: int, message: str) -> Reply:
        return json_reply(400, {"code": code, "msg": message})

    def _exchange_info(self, symbols: list[object], time_ms: int) -> dict[str, object]:
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        return {
            "timezone": "UTC", "serverTime": time_ms, "rateLimits": [limit], "exchangeFilters": [], "symbols": symbols,
        }  # fmt: skip

    def _symbol(self, market_id: str, listing: Listing) -> dict[str, object]:
        price_step, quantity_step = digits(listing.price_step, 8), digits(listing.quantity_step, 8)
        return {
            "symbol": market_id,
            "status": "TRADING",
            "baseAsset": listing.base,
            "baseAssetPrecision": 8,
            "quoteAsset": listing.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "icebergAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": price_step,
                    "maxPrice": "1000000.00000000",
                    "tickSize": price_step,
                },
                {
                    "filterType": "LOT_SIZE",
                    "minQty": digits(listing.quantity_min, 8),
                    "maxQty": "9000000.00000000",
                    "stepSize": quantity_step,
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": digits(listing.notional_min, 8),
                    "applyMinToMarket": True,
                    "maxNotional": "9000000.00000000",
                    "applyMaxToMarket": False,
                    "avgPriceMins": 5,
                },
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        }

    def sequence(self, moment: Moment) -> int | None:
        return moment.sequence

    def streams_at(self, path: str) -> bool:
        return path == "/ws" or path.startswith("/ws/")

    def greeting(self, caller: Caller) -> Sequence[bytes]:
        return ()

    def repeats_after_ms(self, channel: Channel) -> int | None:
        return None

    def hear(self, text: str, caller: Caller) -> Sequence[Heard]:
        request = read_object(text)
        if request is None:
            return [self._stream_error(3, "Invalid JSON: expected a request object", None)]
        made = self._operations.get(str(request.get("method")))
        if made is None:
            return [self._stream_error(2, "Invalid request: unknown method", request.get("id"))]
        channels = [self._channel(topic) for topic in strings(request.get("params"))]
        known = [channel for channel in channels if channel]
        if not channels or len(known) < len(channels):
            return [self._stream_error(2, "Invalid request: invalid stream", request.get("id"))]
        return [orjson.dumps({"result": None, "id": request.get("id")}), *(made(channel) for channel in known)]

    def message(self, channel: Channel, change: Change) -> bytes | None:
        if change.first:
            return None
        return orjson.dumps(
            {
                "e": "depthUpdate",
                "E": change.moment.time_ms,
                "s": channel.symbol.replace("/", ""),
                "U": change.before.sequence + 1,
                "u": change.moment.sequence,
                "b": stream_rows(change.bids, self.stream_level),
                "a": stream_rows(change.asks, self.stream_level),
            }
        )

    def stream_level(self, level: Level) -> object:
        return [digits(level.price, 8), digits(level.quantity, 8)]

    def _channel(self, topic: str) -> Channel | None:
        market_id, _, stream = topic.partition("@")
        listing = self._listings.get(market_id.upper())
        if listing is None or market_id != market_id.lower() or stream != "depth@100ms":
            return None
        return Channel(listing.symbol, None, topic)

    def _stream_error(self, code: int, message: str, request_id: object) -> bytes:
        return orjson.dumps({"error": {"code": code, "msg": message}, "id": request_id})


BINANCE: StreamWire = _Binance()
