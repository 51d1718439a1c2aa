"""Speak as Coinbase Exchange does, over REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import orjson

from exchanges.simulator.market import VENUES, Level, Listing
from exchanges.simulator.wires.wire import (
    DepthRequest,
    Moment,
    Query,
    Reply,
    Side,
    Wire,
    digits,
    iso,
    json_reply,
    market_ids,
    rows,
)


class _CoinbaseExchange:
    """
    Coinbase Exchange.

    "Get product book" (read 2026-11), "Get all known trading pairs" and "Get all known currencies",
    https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-book.
    """

    name = "coinbaseexchange"
    hosts: tuple[str, ...] = ("api.exchange.coinbase.com",)
    _listings: ClassVar[Mapping[str, Listing]] = market_ids(VENUES["coinbaseexchange"].listings, "-")
    _currencies: ClassVar[Mapping[str, str]] = {
        "BTC": "0.00000001",
        "ETH": "0.00000001",
        "USDT": "0.000001",
        "USD": "0.01",
    }

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        if path == "/products":
            return json_reply(200, [self._product(*row) for row in self._listings.items()])
        if path == "/currencies":
            return json_reply(200, [self._currency(*row) for row in self._currencies.items()])
        match path.split("/"):
            case ["", "products", product, "book"]:
                return self._book(product, query)
        return None

    def _book(self, product: str, query: Query) -> DepthRequest:
        listing = self._listings.get(product)
        if listing is None:
            return DepthRequest(None, refusal=json_reply(404, {"message": "NotFound"}))
        match query.get("level", "1"):
            case "1":
                return DepthRequest(listing.symbol, 1)
            case "2":
                return DepthRequest(listing.symbol)
        return DepthRequest(listing.symbol, refusal=json_reply(400, {"message": "Invalid level"}))

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        return orjson.dumps(
            {
                "bids": rows(bids, self.level, moment),
                "asks": rows(asks, self.level, moment),
                "sequence": moment.sequence,
                "auction_mode": False,
                "auction": None,
                "time": iso(moment.time_ms),
            }
        )

    def level(self, level: Level, moment: Moment) -> list[object]:
        return [digits(level.price), digits(level.quantity), level.orders]

    def too_many_requests(self) -> bytes:
        return orjson.dumps({"message": "Public rate limit exceeded"})

    def _product(self, market_id: str, listing: Listing) -> dict[str, object]:
        return {
            "id": market_id,
            "base_currency": listing.base,
            "quote_currency": listing.quote,
            "quote_increment": str(listing.price_step),
            "base_increment": digits(listing.quantity_step),
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

    def sequence(self, moment: Moment) -> int | None:
        return moment.sequence


COINBASEEXCHANGE: Wire = _CoinbaseExchange()
