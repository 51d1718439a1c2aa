"""Speak as Bybit spot does (v5), over REST and as a stream."""

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
    stripped,
)


class _Bybit:
    """
    Bybit spot, v5.

    "Get Orderbook", https://bybit-exchange.github.io/docs/v5/market/orderbook, and "Get Instruments Info",
    https://bybit-exchange.github.io/docs/v5/market/instrument.  A limit above 200 is cut to 200.
    Errors come with status 200: "Error Codes", https://bybit-exchange.github.io/docs/v5/error.
    Streams: "Orderbook", https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook.
    """

    name = "bybit"
    hosts: tuple[str, ...] = ("api.bybit.com",)
    stream_hosts: tuple[str, ...] = ("stream.bybit.com",)
    begins_with_answer = False
    readers_cut = False
    keeps_alive: bytes | None = None
    pings_every_ms: int | None = None
    unexpected = (
        b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1,"data":{"s":"BTCUSDT","b":[[[],"1"]],"a":[[[],"1"]]}}'
    )
    _depths = ("1", "50", "200", "1000")
    _listings: ClassVar[Mapping[str, Listing]] = market_ids(VENUES["bybit"].listings, "")

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        spot = query.get("category") == "spot"
        if path == "/v5/market/instruments-info":
            instruments = [self._instrument(*row) for row in self._listings.items()] if spot else []
            result = {"category": "spot" if spot else "", "list": instruments, "nextPageCursor": ""}
            return self._answer(0, "OK", result, time_ms)
        if path != "/v5/market/orderbook":
            return None
        listing = self._listings.get(query.get("symbol", "")) if spot else None
        if listing is None:
            return DepthRequest(None, refusal=self._answer(10001, "Not supported symbols", {}, time_ms))
        try:
            return DepthRequest(listing.symbol, depth_asked(query.get("limit"), 1, 200))
        except ValueError:
            refusal = self._answer(10001, "Request parameter error.", {}, time_ms)
            return DepthRequest(listing.symbol, refusal=refusal)

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        result = {
            "s": (request.symbol or "").replace("/", ""),
            "b": rows(bids, self.level, moment),
            "a": rows(asks, self.level, moment),
            "ts": moment.time_ms,
            "u": moment.sequence,
            "seq": moment.time_ms,
            "cts": moment.time_ms,
        }
        return self._answer(0, "OK", result, moment.time_ms).body

    def level(self, level: Level, moment: Moment) -> list[object]:
        return [stripped(level.price), stripped(level.quantity)]

    def too_many_requests(self) -> bytes:
        message = "Too many visits. Exceeded the API Rate Limit."
        return orjson.dumps({"retCode": 10006, "retMsg": message, "result": {}, "retExtInfo": {}})

    def _answer(self, code: int, message: str, result: object, time_ms: int) -> Reply:
        return json_reply(
            200, {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": time_ms}
        )

    def _instrument(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "symbol": market_id,
            "baseCoin": listing.base,
            "quoteCoin": listing.quote,
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "none",
            "stTag": "0",
            "lotSizeFilter": {
                "basePrecision": digits(listing.quantity_step),
                "quotePrecision": "0.0000001",
                "minOrderQty": digits(listing.quantity_min),
                "maxOrderQty": "9000000",
                "minOrderAmt": digits(listing.notional_min),
                "maxOrderAmt": "8000000",
            },
            "priceFilter": {"tickSize": digits(listing.price_step)},
            "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        }

    def sequence(self, moment: Moment) -> int | None:
        return None

    def streams_at(self, path: str) -> bool:
        return path == "/v5/public/spot"

    def greeting(self, caller: Caller) -> Sequence[bytes]:
        return ()

    def repeats_after_ms(self, channel: Channel) -> int | None:
        return 3000 if channel.depth == 1 else None

    def hear(self, text: str, caller: Caller) -> Sequence[Heard]:
        request = read_object(text) or {}
        operation, topics = str(request.get("op", "")), strings(request.get("args"))
        if operation == "ping":
            return [self._said(caller, request, "pong")]
        if operation not in ("subscribe", "unsubscribe"):
            return [self._said(caller, request, "error:invalid op", success=False)]
        channels = []
        for topic in topics:
            channel, error = self._channel(topic)
            if operation == "subscribe" and channel in caller.channels:
                error = f"error:already subscribed,topic:{topic}"
            if channel is None or error:
                return [self._said(caller, request, error, success=False)]
            channels.append(channel)
        made: type[Subscribe] | type[Unsubscribe] = Subscribe if operation == "subscribe" else Unsubscribe
        said = self._said(caller, request, operation if operation == "subscribe" else "")
        return [said, *(made(channel) for channel in channels)]

    def message(self, channel: Channel, change: Change) -> bytes | None:
        whole = change.first or channel.depth == 1
        bids, asks = (change.book.bids, change.book.asks) if channel.depth == 1 else (change.bids, change.asks)
        book = {
            "s": channel.symbol.replace("/", ""),
            "b": stream_rows(bids, self.stream_level),
            "a": stream_rows(asks, self.stream_level),
            "u": change.number,
            "seq": change.moment.time_ms,
        }
        return orjson.dumps(
            {
                "topic": channel.topic,
                "type": "snapshot" if whole else "delta",
                "ts": change.moment.time_ms,
                "data": book,
                "cts": change.moment.time_ms,
            }
        )

    def stream_level(self, level: Level) -> object:
        return [stripped(level.price), stripped(level.quantity)]

    def _channel(self, topic: str) -> tuple[Channel | None, str]:
        match topic.split("."):
            case ["orderbook", depth, market_id] if depth in self._depths:
                listing = self._listings.get(market_id)
                if listing is not None:
                    return Channel(listing.symbol, int(depth), topic), ""
                return None, f"Invalid symbol :[{topic}]"
        return None, f"error:handler not found,topic:{topic}"

    def _said(self, caller: Caller, request: Mapping[str, object], text: str, success: bool = True) -> bytes:
        said = {"success": success, "ret_msg": text, "conn_id": f"simulated-{caller.number}"}
        if "req_id" in request:
            said["req_id"] = request["req_id"]
        return orjson.dumps({**said, "op": request.get("op", "")})


BYBIT: StreamWire = _Bybit()
