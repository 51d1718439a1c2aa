"""Speak the REST formats of six venues: read a request's path, render instruments and books as the venue does.

Pure.  One class a venue, all of one shape (`Wire`); `WIRES` is the table of them.  Paths are as the venues' own hosts
see them: the server puts the host in front.

Each class names the venue's pages for its format.  The shapes were written from the samples of those answers in ccxt
4.5.90 and from recorded bodies (read 2026-11); where they leave a detail open, what ccxt's parser accepts decided.  Of
the pages themselves only Coinbase's first was at hand, so an error's exact text may differ from the venue's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar, Protocol, cast

import orjson

from exchanges.simulator.market import VENUES, Book, Level, Listing

Query = Mapping[str, str]
Side = Sequence[Level] | orjson.Fragment  # A fragment is a side that has been rendered already.


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DepthRequest:
    """
    Hold what a request for a book asks for.

    ``depth`` is the levels per side as the venue will cut them, all it has if None.  ``refusal`` is set where the
    venue answers with its own error instead; ``symbol`` is then None if it was the symbol that the venue does not know.
    """

    symbol: str | None
    depth: int | None = None
    full_format: bool = False
    refusal: Reply | None = None


class Wire(Protocol):
    """Translate between one venue's REST format and the simulator's values."""

    name: str
    hosts: tuple[str, ...]

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        """
        Understand a GET request.

        Args:
            path: From the first slash after the host.
            time_ms: The venue's clock, Unix time.

        Returns:
            What book is asked for; or the whole answer for instruments and the like; or None for a path that is not
            spoken here.
        """

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        """Render a book that was generated at *time_ms* (Unix time); *request* has a symbol and no refusal."""

    def level(self, level: Level, time_ms: int) -> list[object]:
        """Render one level."""

    def too_many_requests(self) -> bytes:
        """Say, in the venue's own words, that its rate limit is exceeded."""


def _json(status: int, value: object) -> Reply:
    return Reply(status, orjson.dumps(value))


def _digits(number: Decimal | None, places: int = 0) -> str | None:
    """Write *number* with at least *places* decimals and never fewer than it has; None stays None (JSON null)."""
    if number is None:
        return None
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and -exponent < places:
        return format(number, f".{places}f")
    return format(number, "f")


def _stripped(number: Decimal | None) -> str | None:
    text = _digits(number)
    return text.rstrip("0").rstrip(".") if text and "." in text else text


def _places(step: Decimal) -> int:
    return max(0, -int(step.as_tuple().exponent))


def _side(side: Side, level: Callable[[Level, int], list[object]], time_ms: int) -> object:
    return side if isinstance(side, orjson.Fragment) else [level(one, time_ms) for one in side]


def _depth_asked(text: str | None, default: int | None, most: int) -> int | None:
    """Give the depth to serve, or raise ValueError for a text that is no positive number."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ValueError(text)
    return min(int(text), most)


class _Binance:
    """
    Binance spot.

    "Market Data endpoints: Order book" and "General endpoints: Exchange information",
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api.
    Errors: "Error codes", https://developers.binance.com/docs/binance-spot-api-docs/errors.
    """

    name = "binance"
    hosts: tuple[str, ...] = ("api.binance.com", "fapi.binance.com", "dapi.binance.com")
    _listings: ClassVar[Mapping[str, Listing]] = {
        listing.symbol.replace("/", ""): listing for listing in VENUES["binance"].listings.values()
    }

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        if path == "/api/v3/exchangeInfo":
            return _json(200, self._exchange_info([self._symbol(*row) for row in self._listings.items()], time_ms))
        if path in ("/fapi/v1/exchangeInfo", "/dapi/v1/exchangeInfo"):
            return _json(200, self._exchange_info([], time_ms))  # No derivatives here.
        if path != "/api/v3/depth":
            return None
        if "symbol" not in query:
            message = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            return DepthRequest(None, refusal=self._error(-1102, message))
        listing = self._listings.get(query["symbol"])
        if listing is None:
            return DepthRequest(None, refusal=self._error(-1121, "Invalid symbol."))
        try:
            return DepthRequest(listing.symbol, _depth_asked(query.get("limit"), 100, 5000))
        except ValueError:
            message = "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'."
            return DepthRequest(listing.symbol, refusal=self._error(-1100, message))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        return orjson.dumps(
            {
                "lastUpdateId": time_ms // 100,
                "bids": _side(bids, self.level, time_ms),
                "asks": _side(asks, self.level, time_ms),
            }
        )

    def level(self, level: Level, time_ms: int) -> list[object]:
        return [_digits(level.price, 8), _digits(level.quantity, 8)]

    def too_many_requests(self) -> bytes:
        message = "Too many requests; current limit of IP is 6000 requests per minute."
        return orjson.dumps({"code": -1003, "msg": message})

    def _error(self, code: int, message: str) -> Reply:
        return _json(400, {"code": code, "msg": message})

    def _exchange_info(self, symbols: list[object], time_ms: int) -> dict[str, object]:
        limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        return {
            "timezone": "UTC", "serverTime": time_ms, "rateLimits": [limit], "exchangeFilters": [], "symbols": symbols,
        }  # fmt: skip

    def _symbol(self, market_id: str, listing: Listing) -> dict[str, object]:
        price_step, quantity_step = _digits(listing.price_step, 8), _digits(listing.quantity_step, 8)
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
                    "minQty": _digits(listing.quantity_min, 8),
                    "maxQty": "9000000.00000000",
                    "stepSize": quantity_step,
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": _digits(listing.notional_min, 8),
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


class _Kraken:
    """
    Kraken spot.

    "Get Order Book", "Get Tradable Asset Pairs" and "Get Asset Info",
    https://docs.kraken.com/api-reference/market-data/get-order-book.
    Errors come with status 200: "Errors", https://docs.kraken.com/api/docs/guides/global-intro.
    """

    name = "kraken"
    hosts: tuple[str, ...] = ("api.kraken.com",)
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
            return DepthRequest(listing.symbol, _depth_asked(query.get("count"), 100, 500))
        except ValueError:
            return DepthRequest(listing.symbol, refusal=self._error("EGeneral:Invalid arguments:count"))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        book = {"asks": _side(asks, self.level, time_ms), "bids": _side(bids, self.level, time_ms)}
        market_id = self._id(VENUES["kraken"].listings[request.symbol or ""])
        return orjson.dumps({"error": [], "result": {market_id: book}})

    def level(self, level: Level, time_ms: int) -> list[object]:
        return [_digits(level.price, 5), _digits(level.quantity, 3), (time_ms - level.age_ms) // 1000]

    def too_many_requests(self) -> bytes:
        return orjson.dumps({"error": ["EAPI:Rate limit exceeded"]})

    def _result(self, result: object) -> Reply:
        return _json(200, {"error": [], "result": result})

    def _error(self, message: str) -> Reply:
        return _json(200, {"error": [message]})

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
            "pair_decimals": _places(listing.price_step),
            "lot_decimals": _places(listing.quantity_step),
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


class _CoinbaseExchange:
    """
    Coinbase Exchange.

    "Get product book" (read 2026-11), "Get all known trading pairs" and "Get all known currencies",
    https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-book.
    """

    name = "coinbaseexchange"
    hosts: tuple[str, ...] = ("api.exchange.coinbase.com",)
    _listings: ClassVar[Mapping[str, Listing]] = {
        listing.symbol.replace("/", "-"): listing for listing in VENUES["coinbaseexchange"].listings.values()
    }
    _currencies: ClassVar[Mapping[str, str]] = {
        "BTC": "0.00000001",
        "ETH": "0.00000001",
        "USDT": "0.000001",
        "USD": "0.01",
    }

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        if path == "/products":
            return _json(200, [self._product(*row) for row in self._listings.items()])
        if path == "/currencies":
            return _json(200, [self._currency(*row) for row in self._currencies.items()])
        match path.split("/"):
            case ["", "products", product, "book"]:
                return self._book(product, query)
        return None

    def _book(self, product: str, query: Query) -> DepthRequest:
        listing = self._listings.get(product)
        if listing is None:
            return DepthRequest(None, refusal=_json(404, {"message": "NotFound"}))
        match query.get("level", "1"):
            case "1":
                return DepthRequest(listing.symbol, 1)
            case "2":
                return DepthRequest(listing.symbol)
        return DepthRequest(listing.symbol, refusal=_json(400, {"message": "Invalid level"}))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        return orjson.dumps(
            {
                "bids": _side(bids, self.level, time_ms),
                "asks": _side(asks, self.level, time_ms),
                "sequence": time_ms // 100,
                "auction_mode": False,
                "auction": None,
                "time": _iso(time_ms),
            }
        )

    def level(self, level: Level, time_ms: int) -> list[object]:
        return [_digits(level.price), _digits(level.quantity), level.orders]

    def too_many_requests(self) -> bytes:
        return orjson.dumps({"message": "Public rate limit exceeded"})

    def _product(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "id": market_id,
            "base_currency": listing.base,
            "quote_currency": listing.quote,
            "quote_increment": str(listing.price_step),
            "base_increment": _digits(listing.quantity_step),
            "display_name": f"{listing.base}-{listing.quote}",
            "min_market_funds": str(listing.notional_min),
            "margin_enabled": False,
            "post_only": False,
            "limit_only": False,
            "cancel_only": False,
            "status": "online",
            "status_message": "",
            "trading_disabled": False,
            "fx_stablecoin": listing.base == "USDT",
            "max_slippage_percentage": "0.02000000",
            "auction_mode": False,
            "high_bid_limit_percentage": "",
        }

    def _currency(self, code: str, precision: str) -> dict[str, object]:
        return {
            "id": code,
            "name": code,
            "min_size": precision,
            "status": "online",
            "message": "",
            "max_precision": precision,
            "convertible_to": [],
            "details": {"type": "fiat" if code == "USD" else "crypto", "symbol": None},
            "default_network": "",
            "supported_networks": [],
            "display_name": code,
        }


class _Okx:
    """
    OKX spot.

    "Get order book", "Get full order book" and "Get instruments",
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-order-book.
    Errors: "Error Code", https://www.okx.com/docs-v5/en/#error-code.
    """

    name = "okx"
    hosts: tuple[str, ...] = ("www.okx.com",)
    _listings: ClassVar[Mapping[str, Listing]] = {
        listing.symbol.replace("/", "-"): listing for listing in VENUES["okx"].listings.values()
    }
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
            depth = _depth_asked(query.get("sz"), 1, most + 1)
        except ValueError:
            depth = None
        if depth is None or depth > most:
            return DepthRequest(listing.symbol, refusal=self._error("51000", "Parameter sz error.", 400))
        return DepthRequest(listing.symbol, depth, full_format=path.endswith("-full"))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        level = self._full_level if request.full_format else self.level
        book: dict[str, object] = {
            "asks": _side(asks, level, time_ms),
            "bids": _side(bids, level, time_ms),
            "ts": str(time_ms),
        }
        if not request.full_format:
            book["seqId"] = time_ms // 100
        return orjson.dumps({"code": "0", "msg": "", "data": [book]})

    def level(self, level: Level, time_ms: int) -> list[object]:
        # The third is no longer used by the venue and always "0".
        return [_stripped(level.price), _stripped(level.quantity), "0", str(level.orders)]

    def _full_level(self, level: Level, time_ms: int) -> list[object]:
        return [_stripped(level.price), _stripped(level.quantity), str(level.orders)]

    def too_many_requests(self) -> bytes:
        return orjson.dumps({"msg": "Too Many Requests", "code": "50011"})

    def _answer(self, data: list[object]) -> Reply:
        return _json(200, {"code": "0", "data": data, "msg": ""})

    def _error(self, code: str, message: str, status: int) -> Reply:
        return _json(status, {"code": code, "data": [], "msg": message})

    def _instrument(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "alias": "", "auctionEndTime": "", "baseCcy": listing.base, "category": "1", "ctMult": "", "ctType": "",
            "ctVal": "", "ctValCcy": "", "expTime": "", "instFamily": "", "instId": market_id, "instType": "SPOT",
            "lever": "", "listTime": "1548133413000", "lotSz": _digits(listing.quantity_step),
            "maxLmtAmt": "20000000", "maxLmtSz": "9999999999", "maxMktAmt": "1000000", "maxMktSz": "1000000",
            "minSz": _digits(listing.quantity_min), "optType": "", "quoteCcy": listing.quote, "ruleType": "normal",
            "settleCcy": "", "state": "live", "stk": "", "tickSz": _digits(listing.price_step), "uly": "",
        }  # fmt: skip


class _Bybit:
    """
    Bybit spot, v5.

    "Get Orderbook", https://bybit-exchange.github.io/docs/v5/market/orderbook, and "Get Instruments Info",
    https://bybit-exchange.github.io/docs/v5/market/instrument.  A limit above 200 is cut to 200.
    Errors come with status 200: "Error Codes", https://bybit-exchange.github.io/docs/v5/error.
    """

    name = "bybit"
    hosts: tuple[str, ...] = ("api.bybit.com",)
    _listings: ClassVar[Mapping[str, Listing]] = {
        listing.symbol.replace("/", ""): listing for listing in VENUES["bybit"].listings.values()
    }

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
            return DepthRequest(listing.symbol, _depth_asked(query.get("limit"), 1, 200))
        except ValueError:
            refusal = self._answer(10001, "Request parameter error.", {}, time_ms)
            return DepthRequest(listing.symbol, refusal=refusal)

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        result = {
            "s": (request.symbol or "").replace("/", ""),
            "b": _side(bids, self.level, time_ms),
            "a": _side(asks, self.level, time_ms),
            "ts": time_ms,
            "u": time_ms // 100,
            "seq": time_ms,
            "cts": time_ms,
        }
        return self._answer(0, "OK", result, time_ms).body

    def level(self, level: Level, time_ms: int) -> list[object]:
        return [_stripped(level.price), _stripped(level.quantity)]

    def too_many_requests(self) -> bytes:
        message = "Too many visits. Exceeded the API Rate Limit."
        return orjson.dumps({"retCode": 10006, "retMsg": message, "result": {}, "retExtInfo": {}})

    def _answer(self, code: int, message: str, result: object, time_ms: int) -> Reply:
        return _json(200, {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": time_ms})

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
                "basePrecision": _digits(listing.quantity_step),
                "quotePrecision": "0.0000001",
                "minOrderQty": _digits(listing.quantity_min),
                "maxOrderQty": "9000000",
                "minOrderAmt": _digits(listing.notional_min),
                "maxOrderAmt": "8000000",
            },
            "priceFilter": {"tickSize": _digits(listing.price_step)},
            "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        }


class _Bitstamp:
    """
    Bitstamp.

    "Order book" and "Markets", https://www.bitstamp.net/api/#tag/Order-book and
    https://www.bitstamp.net/api/#tag/Market-info.  The whole book is always sent.
    Errors: "Response codes", https://www.bitstamp.net/api/#section/Response-codes.
    """

    name = "bitstamp"
    hosts: tuple[str, ...] = ("www.bitstamp.net",)
    _listings: ClassVar[Mapping[str, Listing]] = {
        listing.symbol.replace("/", "").lower(): listing for listing in VENUES["bitstamp"].listings.values()
    }

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        match path.strip("/").split("/"):
            case ["api", "v2", "markets"]:
                return _json(200, [self._market(*row) for row in self._listings.items()])
            case ["api", "v2", "currencies"]:
                return _json(200, [self._currency(code) for code in ("BTC", "ETH", "USD", "USDT", "USDC")])
            case ["api", "v2", "order_book", pair]:
                if pair in self._listings:
                    return DepthRequest(self._listings[pair].symbol)
                error = {"status": "error", "reason": "Currency pair not found.", "response_code": "404.002"}
                return DepthRequest(None, refusal=_json(404, error))
        return None

    def depth(self, request: DepthRequest, bids: Side, asks: Side, time_ms: int) -> bytes:
        return orjson.dumps(
            {
                "timestamp": str(time_ms // 1000),
                "microtimestamp": str(time_ms * 1000),
                "bids": _side(bids, self.level, time_ms),
                "asks": _side(asks, self.level, time_ms),
            }
        )

    def level(self, level: Level, time_ms: int) -> list[object]:
        return [_digits(level.price), _digits(level.quantity, 8)]

    def too_many_requests(self) -> bytes:
        reason = "Request rejected due to exceeded rate limit."
        return orjson.dumps({"status": "error", "reason": reason, "response_code": "400.002"})

    def _market(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "name": listing.symbol,
            "market_symbol": market_id,
            "base_currency": listing.base,
            "base_decimals": _places(listing.quantity_step),
            "counter_currency": listing.quote,
            "counter_decimals": _places(listing.price_step),
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


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


WIRES: Mapping[str, Wire] = {
    wire.name: wire for wire in (_Binance(), _Kraken(), _CoinbaseExchange(), _Okx(), _Bybit(), _Bitstamp())
}


def render(wire: Wire, request: DepthRequest, book: Book, time_ms: int) -> bytes:
    """Write *book* as the venue would, generated at *time_ms* (Unix time)."""
    return wire.depth(request, book.bids, book.asks, time_ms)


def render_long(wire: Wire, request: DepthRequest, book: Book, time_ms: int, levels: int) -> bytes:
    """
    Write a book of *levels* levels a side, each with the quantity of the best one, at no more cost than copying text.

    Prices lie close together, within 1 % of the best; sides are sorted and the book is uncrossed.
    """
    sides = []
    for side, away in ((book.bids, -1), (book.asks, 1)):
        best, best_price = side[0], cast(Decimal, side[0].price)
        mark = Decimal("0.123454321")
        before, after = orjson.dumps(wire.level(best._replace(price=mark), time_ms)).split(str(mark).encode())
        start, step = int(best_price * 10**10), away * int(best_price * 10**8) // levels
        parts = (b"%s%d.%010d%s" % (before, *divmod(start + n * step, 10**10), after) for n in range(levels))
        sides.append(orjson.Fragment(b"[" + b",".join(parts) + b"]"))
    return wire.depth(request, sides[0], sides[1], time_ms)
