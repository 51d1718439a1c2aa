"""Speak as OKX spot does, over REST and as a stream."""

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
    stripped,
)


class _Okx:
    """
    OKX spot.

    "Get order book", "Get full order book" and "Get instruments",
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-order-book.
    Errors: "Error Code", https://www.okx.com/docs-v5/en/#error-code.
    Streams: "WS / Order book channel",
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel.
    """

    name = "okx"
    hosts: tuple[str, ...] = ("www.okx.com",)
    stream_hosts: tuple[str, ...] = ("ws.okx.com",)
    begins_with_answer = False
    readers_cut = False
    keeps_alive: bytes | None = None
    pings_every_ms: int | None = None
    unexpected = (
        b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot",'
        b'"data":[{"asks":[["1",[]],[{},"1"]],"bids":[[{},"1"]],"ts":"1"}]}'
    )
    _listings: ClassVar[Mapping[str, Listing]] = market_ids(VENUES["okx"].listings, "-")
    _most: ClassVar[Mapping[str, int]] = {"/api/v5/market/books": 400, "/api/v5/market/books-full": 5000}

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        if path == "/api/v5/public/instruments":
            spot = query.get("instType") == "SPOT"
            return self._answer([self._instrument(*row) for row in self._listings.items()] if spot else [])
        if path not in self._most:
            return None
        if not query.get("instId"):
            return DepthRequest(None, refusal=self._error("50014", "Parameter instId can not be empty.", 400))
        listing = self._listings.get(query["instId"])
        if listing is None:
            return DepthRequest(None, refusal=self._error("51001", "Instrument ID does not exist", 200))
        most = self._most[path]
        try:
            depth = depth_asked(query.get("sz"), 1, most + 1)
        except ValueError:
            depth = None
        if depth is None or depth > most:
            return DepthRequest(listing.symbol, refusal=self._error("51000", "Parameter sz error.", 400))
        return DepthRequest(listing.symbol, depth, full_format=path.endswith("-full"))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        level = self._full_level if request.full_format else self.level
        book: dict[str, object] = {
            "asks": rows(asks, level, moment),
            "bids": rows(bids, level, moment),
            "ts": str(moment.time_ms),
        }
        if not request.full_format:
            book["seqId"] = moment.sequence
        return orjson.dumps({"code": "0", "msg": "", "data": [book]})

    def level(self, level: Level, moment: Moment) -> list[object]:
        # The third is no longer used by the venue and always "0".
        return [stripped(level.price), stripped(level.quantity), "0", str(level.orders)]

    def _full_level(self, level: Level, moment: Moment) -> list[object]:
        return [stripped(level.price), stripped(level.quantity), str(level.orders)]

    def too_many_requests(self) -> bytes:
        return orjson.dumps({"msg": "Too Many Requests", "code": "50011"})

    def _answer(self, data: list[object]) -> Reply:
        return json_reply(200, {"code": "0", "data": data, "msg": ""})

    def _error(self, code: str, message: str, status: int) -> Reply:
        return json_reply(status, {"code": code, "data": [], "msg": message})

    def _instrument(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "alias": "", "auctionEndTime": "", "baseCcy": listing.base, "category": "1", "ctMult": "", "ctType": "",
            "ctVal": "", "ctValCcy": "", "expTime": "", "instFamily": "", "instId": market_id, "instType": "SPOT",
            "lever": "", "listTime": "1548133413000", "lotSz": digits(listing.quantity_step),
            "maxLmtAmt": "20000000", "maxLmtSz": "9999999999", "maxMktAmt": "1000000", "maxMktSz": "1000000",
            "minSz": digits(listing.quantity_min), "optType": "", "quoteCcy": listing.quote, "ruleType": "normal",
            "settleCcy": "", "state": "live", "stk": "", "tickSz": digits(listing.price_step), "uly": "",
        }  # fmt: skip

    def sequence(self, moment: Moment) -> int | None:
        return moment.sequence

    def streams_at(self, path: str) -> bool:
        return path == "/ws/v5/public"

    def greeting(self, caller: Caller) -> Sequence[bytes]:
        return ()

    def repeats_after_ms(self, channel: Channel) -> int | None:
        return 60_000

    def hear(self, text: str, caller: Caller) -> Sequence[Heard]:
        if text == "ping":
            return [b"pong"]
        request = read_object(text) or {}
        operation, arguments = request.get("op"), request.get("args")
        if operation not in ("subscribe", "unsubscribe") or not isinstance(arguments, list):
            return [self._stream_error(caller, "60012", f"Illegal request: {text[:1000]}")]
        heard: list[Heard] = []
        for argument in arguments:
            named = argument if isinstance(argument, dict) else {}
            listing = self._listings.get(str(named.get("instId")))
            if named.get("channel") != "books" or listing is None:
                named_as = ",".join(f"{name}:{value}" for name, value in named.items())
                message = f"Wrong URL or {named_as} doesn't exist. Please use the correct URL, channel and parameters."
                heard.append(self._stream_error(caller, "60018", message))
                continue
            channel = Channel(listing.symbol, 400, str(named["instId"]))
            heard.append(orjson.dumps({"event": operation, "arg": named, "connId": f"{caller.number:08x}"}))
            heard.append(Subscribe(channel) if operation == "subscribe" else Unsubscribe(channel))
        return heard

    def message(self, channel: Channel, change: Change) -> bytes | None:
        book = {
            "asks": stream_rows(change.asks, self.stream_level),
            "bids": stream_rows(change.bids, self.stream_level),
            "ts": str(change.moment.time_ms),
            "seqId": change.moment.sequence,
            "prevSeqId": -1 if change.first else change.before.sequence,
        }
        argument = {"channel": "books", "instId": channel.topic}
        return orjson.dumps({"arg": argument, "action": "snapshot" if change.first else "update", "data": [book]})

    def stream_level(self, level: Level) -> object:
        return [stripped(level.price), stripped(level.quantity), "0", str(level.orders)]

    def _stream_error(self, caller: Caller, code: str, message: str) -> bytes:
        return orjson.dumps({"event": "error", "code": code, "msg": message, "connId": f"{caller.number:08x}"})


OKX: StreamWire = _Okx()
