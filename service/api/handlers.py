"""What all routes share: what they answer from, how they are described, how an answer is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp_apispec import docs, response_schema

from exchanges.board import Board, Tally
from exchanges.book import units
from exchanges.clock import Clock
from service.accounting import MONEY_SCALE, money_text, price_text
from service.api import answers
from service.api.fields import VenueList
from service.api.middleware import Handler
from service.api.openapi import describe_codes
from service.control import KeyDesk
from service.desk.bank import Bank
from service.desk.desk import Desk
from service.desk.firm_quotes import FirmQuotes
from service.errors import Fault
from service.ledger.protocol import Ledger
from service.market.symbols import resolve
from service.market.view import MarketView
from service.pricing.bounds import Ask
from service.switching import Switching

GENERAL = (
    "unauthenticated",
    "insufficient_scope",
    "address_not_allowed",
    "rate_limited",
    "overloaded",
    "shutting_down",
    "internal_error",
)
PARAMETERS = ("invalid_parameter", "unknown_parameter", "duplicate_field", "missing_parameter")
AMOUNTS = ("quantity_step", "quantity_too_small", "notional_too_small")
MARKET_DATA = ("no_fresh_market_data", "venues_disagree")


WRITES = ("ledger_unavailable", "outcome_unknown")
BODIES = (
    "body_too_large",
    "unsupported_media_type",
    "malformed_json",
    "invalid_parameter",
    "unknown_parameter",
    "unknown_field",
    "duplicate_field",
    "missing_parameter",
    "conflicting_parameters",
)


@dataclass(frozen=True, slots=True)
class VenueReport:
    """
    A venue as the operator set it up, and how it is doing.

    Args:
        transport: How its books come at present; where it is not enabled, how they would.
        poll_interval_ms: Effective; None for one that is not enabled.
        fallback_reason: Why it is polled although it is set up to stream, or None.
        tally: None for one that is not enabled.
    """

    name: str
    enabled: bool
    transport: str
    poll_interval_ms: int | None = None
    fallback_reason: str | None = None
    tally: Tally | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes answer from."""

    desk: Desk
    firm: FirmQuotes
    bank: Bank
    market: MarketView
    ledger: Ledger
    clock: Clock
    market_data: str
    board: Board
    venues: Callable[[], Sequence[VenueReport]]
    switching: Switching
    openapi: Callable[[], bytes]
    key_desk: KeyDesk


API: web.AppKey[Api] = web.AppKey("api", Api)


def operation(
    summary: str, description: str, answer: type[answers.AnswerSchema], codes: tuple[str, ...], status: int = 200
) -> Callable[[Handler], Handler]:
    """Describe a handler for the OpenAPI document: what it answers, and every code it may refuse with."""

    def describe(handler: Handler) -> Handler:
        handler = docs(summary=summary, description=description)(handler)
        handler = response_schema(answer, status)(handler)
        for refused_with, text in describe_codes(codes).items():
            handler = response_schema(answers.ProblemSchema, refused_with, description=text)(handler)
        return handler

    return describe


def json_answer(body: Mapping[str, Any] | bytes, status: int = 200) -> web.Response:
    """Answer with JSON."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(body=data, status=status, content_type="application/json")


def kept_answer(
    request: web.Request, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with what does not change while the process runs: 304 to whoever has it already."""
    tag = _tag(body)
    known = any(other.value in (tag, "*") for other in request.if_none_match or ())
    response = web.Response(status=304) if known else web.Response(body=body, content_type=content_type)
    response.headers.update({**_KEPT, **(headers or {})})
    response.etag = tag
    return response


_KEPT: Final = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


@lru_cache(maxsize=128)
def _tag(body: bytes) -> str:
    return sha256(body).hexdigest()[:32]


def ask_of(values: Mapping[str, Any]) -> Ask:
    """Bring a request's amounts to the service's scales; a total is cut to money's."""
    quantity, total, limit_price = values.get("quantity"), values.get("total"), values.get("limit_price")
    return Ask(
        quantity=None if quantity is None else units(quantity),
        total=None if total is None else int(total.scaleb(MONEY_SCALE)),
        slippage_bps_max=values.get("slippage_bps_max"),
        limit_price=None if limit_price is None else units(limit_price),
    )


def record_amounts(record: dict[str, Any], ask: Ask) -> None:
    """Put what a request asks for on its log line."""
    if ask.quantity is not None:
        record["quantity"] = price_text(ask.quantity)
    if ask.total is not None:
        record["total"] = money_text(ask.total)


_SUGGESTED_MAX: Final = 8
"""A list of unknown venues is told in full, but looking for the nearest name takes longer than a quote."""


def venue_faults(request: web.Request, asked: Mapping[str, Any]) -> list[Fault]:
    """Find names of venues that the service does not have, or that cannot serve the symbol, and a choice of none."""
    if "venues" not in asked and "exclude_venues" not in asked:
        return []
    api = request.app[API]
    named = {
        name: text.split(",")
        for name in ("venues", "exclude_venues")
        if VenueList.pattern.fullmatch(text := _joined(asked.get(name, "")))
    }
    if not named:
        return []
    known = {report.name: report.enabled for report in api.venues()}
    symbol = resolve(str(asked.get("symbol") or asked.get("ticker") or ""), api.market.symbols)
    serving = None if symbol is None else api.market.serving(symbol)
    faults: list[Fault] = []
    for parameter, names in named.items():
        for name in names:
            if name not in known:
                detail = "names a venue that is not in the settings"
                near = nearest_venue(name, known) if len(faults) < _SUGGESTED_MAX else None
                faults.append(Fault(parameter, "invalid_parameter", detail, near))
            elif parameter == "venues" and not known[name]:
                faults.append(Fault(parameter, "invalid_parameter", f"names {name}, which is switched off"))
            elif parameter == "venues" and serving is not None and name not in serving:
                faults.append(Fault(parameter, "invalid_parameter", f"names {name}, which does not trade {symbol}"))
    chosen = set(named.get("venues", known if serving is None else serving))
    if not faults and not chosen - set(named.get("exclude_venues", ())):
        faults.append(Fault("exclude_venues", "conflicting_parameters", "leaves no venue"))
    return faults


def nearest_venue(name: str, known: Iterable[str]) -> str | None:
    """Give the venue that a misspelt name may mean."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return near[0] if near else None


def _joined(names: object) -> str:
    """Give a list of names, as a body may have it, as the text that a query has."""
    if isinstance(names, list):
        return ",".join(map(str, names))
    return names if isinstance(names, str) else ""
