"""Rules that OpenAPI cannot state, for schemathesis: what is good for itself, but not together, is brought in line.

A parameter's schema knows of no other parameter, a body's of no header, and neither of what the service has: its
venues, the sides of a quote.  Requests that are meant to be refused are sent as they were made.
"""

from __future__ import annotations

import base64
import json
import os
from binascii import crc32
from typing import Any

import schemathesis

AMOUNTS = ("quantity", "total", "slippage_bps_max")
ANY_SYMBOL = {"only": ("kraken", "coinbaseexchange"), "not": ("binance", "okx")}
"""Venues to choose and to leave out, so that some are left; each of the first has every symbol of the demo."""
OF_A_QUOTE = {"quote_id", "side", "tolerance_bps", "client_order_id", "valid_until", "dry_run"}
WITHIN_REACH = {
    "symbol": ("BTC/USDT", "ETH/USDT", "BTC-USDT", "btcusdt"),
    "quantity": ("0.01", "0.5", "1"),
    "total": ("100", "2500.5", "60000"),
}
OF_A_KEY = {"addresses": ["127.0.0.0/8", "::1"], "expires_at": "2999-01-01T00:00:00Z"}
SPARED = "bitstamp"
"""The one venue that may be switched off: the others are what every other answer depends on."""


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Bring a request that is meant to be good in line, just before it is sent."""
    if "/admin/keys/" in case.path and str(case.path_parameters.get("id", "-")) in os.environ["IOB_API_KEY"]:
        case.path_parameters["id"] = "another"  # Whoever asks would be shut out.
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    path = case.path.removeprefix("/v1")
    for asked in (case.query, case.body):
        if isinstance(asked, dict):
            _reach(asked)
    if path == "/quote" and isinstance(case.query, dict):
        _agree_on_quote(case.query)
    elif path == "/execute" and isinstance(case.body, dict):
        _agree_on_order(case)
    elif path == "/quotes" and isinstance(case.body, dict):
        _use_venues(case.body)
    elif path.startswith("/admin/venues/"):
        case.path_parameters["venue"] = SPARED
    elif path == "/admin/keys" and case.method == "GET":
        case.query.pop("cursor", None)  # It stands for a key that there must be.
    elif path == "/admin/keys" and isinstance(case.body, dict):
        case.body |= {name: good for name, good in OF_A_KEY.items() if name in case.body}


def _reach(asked: dict[str, Any]) -> None:
    """Make three of four requests of a symbol that is served, and of an amount that the venues have."""
    for name, served in WITHIN_REACH.items():
        if name in asked and (chosen := crc32(str(asked[name]).encode())) % 4:
            asked[name] = served[chosen % len(served)]


def _agree_on_quote(query: dict[str, Any]) -> None:
    if "symbol" in query:
        query.pop("ticker", None)
    elif "ticker" not in query:
        query["symbol"] = "BTC/USDT"
    given = [name for name in AMOUNTS if name in query]
    for name in given[1:]:
        del query[name]
    if not given:
        query["quantity"] = "1"
    if query.get("side", "both") == "both":
        query.pop("limit_price", None)
    _use_venues(query)


def _use_venues(asked: dict[str, Any]) -> None:
    """Name venues that there are, in the same form: two, without which nothing is firm, or as many as were named."""
    for name, known in (("venues", ANY_SYMBOL["only"]), ("exclude_venues", ANY_SYMBOL["not"])):
        if name in asked:
            count = max(2, len(asked[name] if isinstance(asked[name], list) else asked[name].split(",")))
            asked[name] = list(known[:count]) if isinstance(asked[name], list) else ",".join(known[:count])


def _agree_on_order(case: Any) -> None:
    body, header = case.body, (case.headers or {}).get("Idempotency-Key")
    if header is not None:
        body["client_order_id"] = header.strip('"')
    if "quote_id" not in body:
        body.setdefault("client_order_id", "schemathesis")
        return
    for name in set(body) - OF_A_QUOTE:  # A link's body is laid over one that was made.
        del body[name]
    body.setdefault("client_order_id", "schemathesis")
    sides = _sides(body["quote_id"])
    if not sides:
        body.pop("side", None)
    elif body.get("side") not in sides:
        body["side"] = sides[0]


def _sides(quote_id: str) -> list[str]:
    """Read the sides out of an indicative quote's id; what is none, or firm, has nothing to say."""
    try:
        payload = quote_id.split(".")[1]
        return list(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))[6])
    except (ValueError, LookupError):
        return []
