"""Speak as Bitstamp does, over REST and as a stream."""

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
    digits,
    json_reply,
    market_ids,
    places,
    read_object,
    rows,
    stream_rows,
)


class _Bitstamp:
    """
    Bitstamp.

    "Order book" and "Markets", https://www.bitstamp.net/api/#tag/Order-book and
    https://www.bitstamp.net/api/#tag/Market-info.  The whole book is always sent.
    Errors: "Response codes", https://www.bitstamp.net/api/#section/Response-codes.
    Streams: "WebSocket API v2", https://www.bitstamp.net/websocket/v2/.
    """

    name = "bitstamp"
    hosts: tuple[str, ...] = ("www.bitstamp.net",)
    stream_hosts: tuple[str, ...] = ("ws.bitstamp.net",)
    begins_with_answer = True
    readers_cut = False
    keeps_alive: bytes | None = None
    pings_every_ms: int | None = None
    unexpected = (
        b'{"data":{"timestamp":"1","microtimestamp":"9000000000000000","bids":[[[],"1"]],"asks":[[[],"1"]]},'
        b'"channel":"diff_order_book_btcusd","event":"data"}'
    )
    _listings: ClassVar[Mapping[str, Listing]] = {
        market_id.lower(): listing for market_id, listing in market_ids(VENUES["bitstamp"].listings, "").items()
    }

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        match path.strip("/").split("/"):
            case ["api", "v2", "markets"]:
                return json_reply(200, [self._market(*row) for row in self._listings.items()])
            case ["api", "v2", "currencies"]:
                return json_reply(200, [self._currency(code) for code in ("BTC", "ETH", "USD", "USDT", "USDC")])
            case ["api", "v2", "order_book", pair]:
                if pair in self._listings:
                    return DepthRequest(self._listings[pair].symbol)
                error = {"status": "error", "reason": "Currency pair not found.", "response_code": "404.002"}
                return DepthRequest(None, refusal=json_reply(404, error))
        return None

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        return orjson.dumps(
            {
                "timestamp": str(moment.time_ms // 1000),
                "microtimestamp": str(moment.time_ms * 1000),
                "bids": rows(bids, self.level, moment),
                "asks": rows(asks, self.level, moment),
            }
        )

    def level(self, level: Level, moment: Moment) -> list[object]:
        return [digits(level.price), digits(level.quantity, 8)]

    def too_many_requests(self) -> bytes:
        reason = "Request rejected due to exceeded rate limit."
        return orjson.dumps({"status": "error", "reason": reason, "response_code": "400.002"})

    def _market(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "name": listing.symbol,
            "market_symbol": market_id,
            "base_currency": listing.base,
            "base_decimals": places(listing.quantity_step),
            "counter_currency": listing.quote,
            "counter_decimals": places(listing.price_step),
            "minimum_order_value": str(listing.notional_min),
            "trading": "Enabled",
            "instant_order_counter_decimals": 2,
            "instant_and_market_orders": "Enabled",
            "description": f"{listing.base} / {listing.quote}",
            "market_type": "SPOT",
        }

    def _currency(self, code: str) -> dict[str, object]:
        kind, decimals = ("fiat", 2) if code == "USD" else ("crypto", 8)
        return {
            "name": code, "currency": code, "type": kind, "symbol": code, "decimals": decimals, "logo": "",
            "available_supply": "0", "deposit": "Enabled", "withdrawal": "Enabled", "networks": [],
        }  # fmt: skip

    def sequence(self, moment: Moment) -> int | None:
        return moment.time_ms * 1000

    def streams_at(self, path: str) -> bool:
        return path == "/"

    def greeting(self, caller: Caller) -> Sequence[bytes]:
        return ()

    def repeats_after_ms(self, channel: Channel) -> int | None:
        return None

    def hear(self, text: str, caller: Caller) -> Sequence[Heard]:
        request = read_object(text) or {}
        event, data = request.get("event"), request.get("data")
        if event == "bts:heartbeat":
            return [self._said("bts:heartbeat", "", {"status": "success"})]
        if event not in ("bts:subscribe", "bts:unsubscribe") or not isinstance(data, dict):
            return [self._said("bts:error", "", {"code": None, "message": "Incorrect JSON format."})]
        topic = str(data.get("channel"))
        listing = self._listings.get(topic.removeprefix("diff_order_book_"))
        if listing is None or not topic.startswith("diff_order_book_"):
            return [self._said("bts:error", topic, {"code": None, "message": "Bad subscription string."})]
        channel = Channel(listing.symbol, None, topic)
        if event == "bts:subscribe":
            return [self._said("bts:subscription_succeeded", topic, {}), Subscribe(channel)]
        return [self._said("bts:unsubscription_succeeded", topic, {}), Unsubscribe(channel)]

    def message(self, channel: Channel, change: Change) -> bytes | None:
        if change.first:
            return None
        book = {
            "timestamp": str(change.moment.time_ms // 1000),
            "microtimestamp": str(change.moment.time_ms * 1000),
            "bids": stream_rows(change.bids, self.stream_level),
            "asks": stream_rows(change.asks, self.stream_level),
        }
        return self._said("data", channel.topic, book)

    def stream_level(self, level: Level) -> object:
        return [digits(level.price), digits(level.quantity, 8)]

    def _said(self, event: str, topic: str, data: object) -> bytes:
        return orjson.dumps({"event": event, "channel": topic, "data": data})


BITSTAMP: StreamWire = _Bitstamp()
