"""Speak as Kraken spot does, over REST and as a stream (version 2)."""

from __future__ import annotations

import zlib
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
    iso,
    json_reply,
    places,
    read_object,
    rows,
    stream_rows,
    strings,
)


class _Kraken:
    """
    Kraken spot.

    "Get Order Book", "Get Tradable Asset Pairs" and "Get Asset Info",
    https://docs.kraken.com/api-reference/market-data/get-order-book.
    Errors come with status 200: "Errors", https://docs.kraken.com/api/docs/guides/global-intro.
    Streams: "Book", https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/book, and
    "Book checksum (WebSocket v2)", https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2 (read 2026-11).
    """

    name = "kraken"
    hosts: tuple[str, ...] = ("api.kraken.com",)
    stream_hosts: tuple[str, ...] = ("ws.kraken.com",)
    begins_with_answer = False
    readers_cut = True
    keeps_alive: bytes | None = b'{"channel":"heartbeat"}'
    pings_every_ms: int | None = None
    unexpected = b'{"channel":"book","type":"update","data":[]}'
    _depths = (10, 25, 100, 500, 1000)
    _altnames: ClassVar[Mapping[str, str]] = {"BTC": "XBT"}
    _assets: ClassVar[Mapping[str, tuple[str, int, int]]] = {  # Name, decimals, decimals displayed.
        "BTC": ("XXBT", 10, 5),
        "ETH": ("XETH", 10, 5),
        "USD": ("ZUSD", 4, 2),
        "USDT": ("USDT", 8, 4),
        "USDC": ("USDC", 8, 4),
    }
    # The old pairs have both assets by their long names, the newer ones are called by their altname.
    _old_ids: ClassVar[Mapping[str, str]] = {"BTC/USD": "XXBTZUSD", "ETH/USD": "XETHZUSD", "USDT/USD": "USDTZUSD"}

    def __init__(self) -> None:
        self._listings: dict[str, Listing] = {}
        for listing in VENUES["kraken"].listings.values():
            for known_as in (self._id(listing), self._altname(listing), self._wsname(listing)):
                self._listings[known_as] = listing

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        if path == "/0/public/Assets":
            return self._result({asset: self._asset(code) for code, (asset, _, _) in self._assets.items()})
        if path == "/0/public/AssetPairs":
            listings = VENUES["kraken"].listings.values()
            return self._result({self._id(listing): self._pair(listing) for listing in listings})
        if path != "/0/public/Depth":
            return None
        listing = self._listings.get(query.get("pair", ""))
        if listing is None:
            message = "EQuery:Unknown asset pair" if "pair" in query else "EGeneral:Invalid arguments"
            return DepthRequest(None, refusal=self._error(message))
        try:
            return DepthRequest(listing.symbol, depth_asked(query.get("count"), 100, 500))
        except ValueError:
            return DepthRequest(listing.symbol, refusal=self._error("EGeneral:Invalid arguments:count"))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        book = {"asks": rows(asks, self.level, moment), "bids": rows(bids, self.level, moment)}
        market_id = self._id(VENUES["kraken"].listings[request.symbol or ""])
        return orjson.dumps({"error": [], "result": {market_id: book}})

    def level(self, level: Level, moment: Moment) -> list[object]:
        return [digits(level.price, 5), digits(level.quantity, 3), (moment.time_ms - level.age_ms) // 1000]

    def too_many_requests(self) -> bytes:
        return orjson.dumps({"error": ["EAPI:Rate limit exceeded"]})

    def _result(self, result: object) -> Reply:
        return json_reply(200, {"error": [], "result": result})

    def _error(self, message: str) -> Reply:
        return json_reply(200, {"error": [message]})

    def _asset(self, code: str) -> dict[str, object]:
        _, decimals, display_decimals = self._assets[code]
        return {
            "aclass": "currency",
            "altname": self._altnames.get(code, code),
            "decimals": decimals,
            "display_decimals": display_decimals,
            "status": "enabled",
        }

    def _pair(self, listing: Listing) -> dict[str, object]:
        taker_fee_bps = 20 if listing.base in ("USDT", "USDC") else VENUES["kraken"].taker_fee_bps
        return {
            "altname": self._altname(listing),
            "wsname": self._wsname(listing),
            "aclass_base": "currency",
            "base": self._assets[listing.base][0],
            "aclass_quote": "currency",
            "quote": self._assets[listing.quote][0],
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": places(listing.price_step),
            "lot_decimals": places(listing.quantity_step),
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, taker_fee_bps / 100]],
            "fees_maker": [[0, taker_fee_bps / 160]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": str(listing.quantity_min),
            "costmin": str(listing.notional_min),
            "tick_size": str(listing.price_step),
            "status": "online",
        }

    def _altname(self, listing: Listing) -> str:
        return self._altnames.get(listing.base, listing.base) + listing.quote

    def _wsname(self, listing: Listing) -> str:
        return f"{self._altnames.get(listing.base, listing.base)}/{listing.quote}"

    def _id(self, listing: Listing) -> str:
        return self._old_ids.get(listing.symbol) or self._altname(listing)

    def sequence(self, moment: Moment) -> int | None:
        return None

    def streams_at(self, path: str) -> bool:
        return path == "/v2"

    def greeting(self, caller: Caller) -> Sequence[bytes]:
        status = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": caller.number}
        return [orjson.dumps({"channel": "status", "type": "update", "data": [status]})]

    def repeats_after_ms(self, channel: Channel) -> int | None:
        return None

    def hear(self, text: str, caller: Caller) -> Sequence[Heard]:
        request = read_object(text)
        if request is None:
            return [self._said(caller, {}, success=False, error="Malformed request")]
        method, params = request.get("method"), request.get("params")
        if method == "ping":
            return [self._said(caller, request, method="pong")]
        if method not in ("subscribe", "unsubscribe"):
            return [self._said(caller, request, success=False, error="Malformed request")]
        refused = {"method": method, "success": False}
        if not isinstance(params, dict) or params.get("channel") != "book" or not strings(params.get("symbol")):
            return [self._said(caller, request, **refused, error="Subscription name invalid")]
        depth = params.get("depth", 10)
        if depth not in self._depths:
            return [self._said(caller, request, **refused, error="Subscription depth not supported")]
        heard: list[Heard] = []
        for symbol in strings(params["symbol"]):
            channel = Channel(symbol, depth, f"book-{depth}-{symbol}")
            subscribed = any(symbol == on.symbol for on in caller.channels)
            error = self._refusal(symbol, subscribed, method == "subscribe")
            if error:
                heard.append(self._said(caller, request, **refused, symbol=symbol, error=error))
                continue
            result = {"channel": "book", "depth": depth, "symbol": symbol}
            if method == "subscribe":
                result["snapshot"] = True
            heard.append(self._said(caller, request, method=method, result=result, success=True))
            heard.append(Subscribe(channel) if method == "subscribe" else Unsubscribe(channel))
        return heard

    def message(self, channel: Channel, change: Change) -> bytes | None:
        book = {
            "symbol": channel.symbol,
            "bids": stream_rows(change.bids, self.stream_level),
            "asks": stream_rows(change.asks, self.stream_level),
            "checksum": self._checksum(channel.symbol, change),
            "timestamp": iso(change.moment.time_ms),
        }
        return orjson.dumps({"channel": "book", "type": "snapshot" if change.first else "update", "data": [book]})

    def stream_level(self, level: Level) -> object:
        return {"price": _number(digits(level.price)), "qty": _number(digits(level.quantity, 8))}

    def _refusal(self, symbol: str, subscribed: bool, subscribing: bool) -> str | None:
        if symbol not in VENUES["kraken"].listings:
            return f"Currency pair not supported {symbol}"
        if subscribing == subscribed:
            return "Already subscribed" if subscribing else "Subscription Not Found"
        return None

    def _said(self, caller: Caller, request: Mapping[str, object], **fields: object) -> bytes:
        if "req_id" in request:
            fields["req_id"] = request["req_id"]
        return orjson.dumps({**fields, "time_in": iso(caller.time_ms), "time_out": iso(caller.time_ms)})

    def _checksum(self, symbol: str, change: Change) -> int:
        listing = VENUES["kraken"].listings[symbol]
        decimals = places(listing.price_step), places(listing.quantity_step)
        bare = [
            (digits(number, most) or "").replace(".", "").lstrip("0")
            for side in (change.book.asks, change.book.bids)
            for level in side[:10]
            for number, most in zip(level[:2], decimals, strict=True)
        ]
        return zlib.crc32("".join(bare).encode())


def _number(text: str | None) -> object:
    """Write a number without quotes, as long as JSON has it."""
    return text if text is None or text == "NaN" else orjson.Fragment(text)


KRAKEN: StreamWire = _Kraken()
