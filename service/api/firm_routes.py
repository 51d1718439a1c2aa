"""Firm quotes over HTTP."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp_apispec import json_schema, match_info_schema

from exchanges.book import Side
from service.api import answers, requests
from service.api.handlers import (
    AMOUNTS,
    API,
    BODIES,
    GENERAL,
    MARKET_DATA,
    WRITES,
    ask_of,
    json_answer,
    operation,
    record_amounts,
    venue_faults,
)
from service.api.middleware import PRINCIPAL, RECORD, needs
from service.api.parsing import also_check
from service.api.render import firm_quote_message
from service.desk.firm import FirmQuote
from service.desk.orders import QuoteRequest
from service.errors import Fault, RequestError
from service.metrics.exposition import METRICS

_QUOTE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


def _faults(request: web.Request, asked: Mapping[str, Any]) -> list[Fault]:
    """Find what the schema cannot know: venues, and a time that the settings do not allow."""
    faults, ttl_ms = venue_faults(request, asked), requests.FIRM_TTL_MS.read(asked.get("ttl_ms"))
    most = request.app[API].desk.rules.firm_ttl_ms_max
    if ttl_ms is not None and ttl_ms > most:
        faults.append(Fault("ttl_ms", "invalid_parameter", f"must be at most {most} here"))
    return faults


@needs("quote", "execute", kind="execute")
@operation(
    "Give firm quote",
    "A price that is honoured until it expires, whatever the market does: funds and liquidity are held for it. "
    "It is executed like any other quote.",
    answers.FirmQuoteSchema,
    (
        *GENERAL,
        "too_many_open_quotes",
        *BODIES,
        "unknown_symbol",
        *AMOUNTS,
        "quantity_too_large",
        "limit_not_met",
        "insufficient_liquidity",
        "insufficient_balance",
        "risk_limit",
        *MARKET_DATA,
        *WRITES,
    ),
    201,
)
@json_schema(requests.FirmQuoteBody)
@also_check(_faults)
async def post_firm_quote(request: web.Request) -> web.Response:
    """Answer ``POST /v1/quotes``."""
    api, body = request.app[API], request["json"]
    fault = Fault("/symbol", "unknown_symbol", "is not served", kind="pointer")
    wanted = QuoteRequest(
        symbol=api.desk.resolve(body["symbol"], fault),
        ask=ask_of(body),
        sides=(Side(body["side"]),),
        venues=body.get("venues"),
        exclude_venues=body.get("exclude_venues"),
    )
    request[RECORD].update(symbol=wanted.symbol, side=body["side"])
    record_amounts(request[RECORD], wanted.ask)
    quote = await api.firm.give(request[PRINCIPAL].account, wanted, body.get("ttl_ms"))
    _record(request, quote)
    request.app[METRICS].instruments.quoted(wanted.symbol, "firm")
    request[RECORD].update(venues=sorted({fill.venue for fill in quote.fills}))
    return json_answer(firm_quote_message(quote, quote.created_at), 201)


@needs("quote")
@operation(
    "Get firm quote",
    "A firm quote of this account as it stands.",
    answers.FirmQuoteSchema,
    (*GENERAL, "unknown_parameter", "unknown_quote", "ledger_unavailable"),
)
@match_info_schema(requests.FirmQuotePath)
async def get_firm_quote(request: web.Request) -> web.Response:
    """Answer ``GET /v1/quotes/{id}``."""
    api = request.app[API]
    quote = await api.firm.find(request[PRINCIPAL].account, _quote_id(request))
    _record(request, quote)
    return json_answer(firm_quote_message(quote, api.clock.utc()))


@needs("quote")
@operation(
    "Let firm quote go",
    "Release what a firm quote holds; one that is not open any more is answered as it stands.",
    answers.FirmQuoteSchema,
    (*GENERAL, "unknown_parameter", "unknown_quote", *WRITES),
)
@match_info_schema(requests.FirmQuotePath)
async def delete_firm_quote(request: web.Request) -> web.Response:
    """Answer ``DELETE /v1/quotes/{id}``."""
    api = request.app[API]
    quote = await api.firm.let_go(request[PRINCIPAL].account, _quote_id(request))
    _record(request, quote)
    return json_answer(firm_quote_message(quote, api.clock.utc()))


def _record(request: web.Request, quote: FirmQuote) -> None:
    request[RECORD].update(quote_id=quote.quote_id, quote_status=quote.status.value)


def _quote_id(request: web.Request) -> str:
    quote_id: str = request["match_info"]["id"]
    if not _QUOTE_ID.fullmatch(quote_id):
        raise RequestError("unknown_quote", "no such quote was given to this account")
    return quote_id


FIRM_ROUTES = (
    web.post("/v1/quotes", post_firm_quote),
    web.get("/v1/quotes/{id}", get_firm_quote),
    web.delete("/v1/quotes/{id}", delete_firm_quote),
)
