"""The routes of the contract.

A handler reads what the schemas made of the request, asks the desk or the market, and renders; it decides nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from aiohttp import web
from aiohttp_apispec import json_schema, match_info_schema, querystring_schema, response_schema

from exchanges.book import BUY, SELL, Side
from service.accounting import bps_text, price_text
from service.api import answers, answers_record, requests
from service.api.account_routes import ACCOUNT_ROUTES
from service.api.fields import CLIENT_ORDER_ID_PATTERN, ClientOrderId, Cursor
from service.api.firm_routes import FIRM_ROUTES
from service.api.handlers import (
    AMOUNTS,
    API,
    BODIES,
    GENERAL,
    MARKET_DATA,
    PARAMETERS,
    WRITES,
    Api,
    ask_of,
    json_answer,
    operation,
    record_amounts,
    venue_faults,
)
from service.api.key_routes import KEY_ROUTES
from service.api.metrics_routes import METRICS_ROUTES
from service.api.middleware import PRINCIPAL, RECORD, needs
from service.api.parsing import also_check, names_request
from service.api.problems import CODES
from service.api.render import (
    book_message,
    depth_message,
    symbol_message,
)
from service.api.render_quote import quote_message
from service.api.render_record import execution_message
from service.api.stream_routes import STREAM_ROUTES
from service.api.system_routes import SYSTEM_ROUTES
from service.api.venue_routes import VENUE_ROUTES
from service.api.web_routes import WEB_ROUTES
from service.desk.deciding import Decision
from service.desk.desk import Answer
from service.desk.orders import DirectOrder, Order, QuoteOrder, QuoteRequest, TimeInForce
from service.desk.realism import WATCH_S
from service.errors import Fault, RequestError
from service.ledger.protocol import StoredExecution
from service.market.book import Snapshot
from service.market.screening import used
from service.metrics.exposition import METRICS
from service.pricing.depth import bands
from service.pricing.quote import SideQuote

_EXECUTION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@needs("quote")
@operation(
    "Get quote",
    "What buying, selling, or either, would cost now: net of fees, over all live venues, explained line by line.",
    answers.QuoteSchema,
    (*GENERAL, *PARAMETERS, "conflicting_parameters", "unknown_symbol", *AMOUNTS, *MARKET_DATA),
)
@querystring_schema(requests.QuoteQuery)
@also_check(venue_faults)
async def get_quote(request: web.Request) -> web.Response:
    """Answer ``GET /quote``."""
    api, query = request.app[API], request["querystring"]
    symbol = api.desk.resolve(
        query.get("symbol") or query["ticker"], Fault("symbol", "unknown_symbol", "is not served")
    )
    side = query["side"]
    wanted = QuoteRequest(
        symbol=symbol,
        ask=ask_of(query),
        sides=(BUY, SELL) if side == "both" else (Side(side),),
        venues=query.get("venues"),
        exclude_venues=query.get("exclude_venues"),
    )
    request[RECORD].update(symbol=symbol, side=side)
    record_amounts(request[RECORD], wanted.ask)
    quote = api.desk.quote(request[PRINCIPAL].account, wanted)
    request[RECORD].update(
        venues=quote.snapshot.book.venues,
        book_age_ms=_book_age_ms(quote.snapshot),
    )
    request.app[METRICS].instruments.quoted(symbol, "indicative")
    return json_answer(quote_message(quote, with_fills=query["fills"]))


def _book_age_ms(snapshot: Snapshot) -> int:
    """Give the age of the oldest venue's book that is in it."""
    return max([source.age_ms or 0 for source in snapshot.sources if used(source)])


_QUOTE_CODES = (
    "unknown_quote",
    "quote_expired",
    "quote_void",
    "order_expired",
    "quote_used",
    "price_moved",
    "limit_not_met",
    "slippage_exceeded",
    "insufficient_liquidity",
    "insufficient_balance",
    "risk_limit",
    "execution_in_progress",
)
_EXECUTE_CODES = (
    *GENERAL,
    *BODIES,
    "unknown_symbol",
    "client_order_id_reused",
    *AMOUNTS,
    "quantity_too_large",
    *_QUOTE_CODES,
    *MARKET_DATA,
    *WRITES,
)


@needs("execute", kind="execute")
@operation(
    "Execute order",
    "Mock-fill an order at once, on record: on a quote, or directly. The same client_order_id is always safe to send "
    "again: the first answer is given back (200, Idempotent-Replayed: true). A dry run checks everything, records "
    "nothing and answers 200.",
    answers_record.ExecutionSchema,
    _EXECUTE_CODES,
    201,
)
@response_schema(answers_record.ExecutionSchema, 200, description="It was on record, or it was a dry run.")
@json_schema(requests.ExecuteBody)
@names_request("client_order_id", ClientOrderId.pattern, ClientOrderId.form)
async def post_execute(request: web.Request) -> web.Response:
    """Answer ``POST /execute``."""
    api, body = request.app[API], request["json"]
    account = request[PRINCIPAL].account
    order = Order(
        account=account,
        client_order_id=body["client_order_id"],
        fingerprint=await _fingerprint(request, account, body["client_order_id"]),
        terms=_order_terms(body),
        valid_until=body.get("valid_until"),
        dry_run=body["dry_run"],
    )
    request[RECORD].update(client_order_id=order.client_order_id, side=body.get("side"))
    answer = await api.desk.execute(order)
    _record_answer(request, answer)
    if answer.reject_code is not None:
        raise RequestError(
            answer.reject_code,
            CODES[answer.reject_code].meaning,
            execution_id=answer.execution_id,
            fresh_quote=answer.fresh_quote,
        )
    response = json_answer(answer.receipt, 200 if answer.replayed or order.dry_run else 201)
    if answer.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _order_terms(body: Mapping[str, Any]) -> DirectOrder | QuoteOrder:
    if "quote_id" in body:
        side = Side(body["side"]) if "side" in body else None
        return QuoteOrder(body["quote_id"], side, body.get("tolerance_bps"))
    return DirectOrder(
        symbol=body["symbol"],
        side=Side(body["side"]),
        ask=ask_of(body),
        time_in_force=TimeInForce(body.get("time_in_force", "fok")),
    )


async def _fingerprint(request: web.Request, account: str, client_order_id: str) -> bytes:
    """Hash the body as parsed, keys sorted, and the account: spelling and order of fields do not matter."""
    fields = orjson.loads(await request.read())
    fields["client_order_id"] = client_order_id  # Wherever it stood.
    return hashlib.sha256(orjson.dumps([account, fields], option=orjson.OPT_SORT_KEYS)).digest()


def _record_answer(request: web.Request, answer: Answer) -> None:
    record = request[RECORD]
    record.update(execution_id=answer.execution_id, execution_status=answer.status, replayed=answer.replayed)
    if answer.ledger_ms is not None:
        record.update(ledger_ms=answer.ledger_ms)
    if answer.decision is not None:
        _record_decision(record, answer.decision)


def _record_decision(record: dict[str, Any], decision: Decision) -> None:
    execution, priced, snapshot = decision.execution, decision.priced, decision.snapshot
    record.update(symbol=execution.symbol, side=execution.side, filled=price_text(execution.filled_quantity))
    if priced is None or snapshot is None:  # A firm quote, filled as promised.
        record.update(venues=sorted({fill.venue for fill in execution.fills}))
        return
    record.update(
        slippage_bps=_slippage(priced) if execution.reject_code is None else None,
        venues=[leg.venue for leg in priced.legs],
        book_age_ms=_book_age_ms(snapshot),
    )
    record_amounts(record, priced.ask)


def _slippage(priced: SideQuote) -> str | None:
    return None if priced.from_mid_bps is None else bps_text(priced.from_mid_bps)


async def _with_realism(api: Api, executions: Sequence[StoredExecution]) -> list[bytes]:
    """Write executions with what was seen after their fills."""
    seen = await api.ledger.realism([execution.execution_id for execution in executions])
    watched_since = api.clock.utc() - timedelta(seconds=WATCH_S)
    return [
        execution_message(execution, seen.get(execution.execution_id), execution.executed_at > watched_since)
        for execution in executions
    ]


@needs("account")
@operation(
    "List executions",
    "This account's executions, filled and rejected, newest first.",
    answers_record.ExecutionsSchema,
    (*GENERAL, *PARAMETERS[:3], "unknown_symbol", "ledger_unavailable"),
)
@querystring_schema(requests.ExecutionsQuery)
async def get_executions(request: web.Request) -> web.Response:
    """Answer ``GET /v1/executions``."""
    api, query = request.app[API], request["querystring"]
    symbol = query.get("symbol")
    if symbol is not None:
        symbol = api.desk.resolve(symbol, Fault("symbol", "unknown_symbol", "is not served"))
    page = await api.ledger.executions(
        request[PRINCIPAL].account,
        symbol=symbol,
        status=query.get("status"),
        since=query.get("since"),
        after=query.get("cursor"),
        limit=query["limit"],
    )
    return json_answer(
        {
            "executions": [orjson.Fragment(body) for body in await _with_realism(api, page.executions)],
            "next_cursor": None if page.next_after is None else Cursor.write(page.next_after),
        }
    )


@needs("account")
@operation(
    "Get execution",
    "One of this account's executions, as it was answered.",
    answers_record.ExecutionSchema,
    (*GENERAL, "unknown_parameter", "unknown_execution", "ledger_unavailable"),
)
@match_info_schema(requests.ExecutionPath)
async def get_execution(request: web.Request) -> web.Response:
    """Answer ``GET /v1/executions/{id}``."""
    execution_id = request["match_info"]["id"]
    stored = None
    if _EXECUTION_ID.fullmatch(execution_id):
        stored = await request.app[API].ledger.find_execution(request[PRINCIPAL].account, execution_id)
    if stored is None:
        raise RequestError("unknown_execution", CODES["unknown_execution"].meaning)
    return json_answer((await _with_realism(request.app[API], [stored]))[0])


@needs("account")
@operation(
    "Get execution by client order id",
    "The execution that one of this account's client_order_ids stands for, as it was answered.",
    answers_record.ExecutionSchema,
    (*GENERAL, "unknown_parameter", "unknown_execution", "ledger_unavailable"),
)
@match_info_schema(requests.ClientOrderPath)
async def get_execution_by_client_id(request: web.Request) -> web.Response:
    """Answer ``GET /v1/executions/by-client-id/{client_order_id}``."""
    client_order_id = request["match_info"]["client_order_id"]
    stored = None
    if re.fullmatch(CLIENT_ORDER_ID_PATTERN, client_order_id, re.ASCII):
        stored = await request.app[API].ledger.find_client_order(request[PRINCIPAL].account, client_order_id)
    if stored is None:
        raise RequestError("unknown_execution", CODES["unknown_execution"].meaning)
    return json_answer((await _with_realism(request.app[API], [stored]))[0])


@needs("quote")
@operation(
    "Get book",
    "The consolidated book: every level with its venue, ranked by net or gross price.",
    answers.BookSchema,
    (*GENERAL, *PARAMETERS, "unknown_symbol", *MARKET_DATA),
)
@querystring_schema(requests.BookQuery)
async def get_book(request: web.Request) -> web.Response:
    """Answer ``GET /v1/book``."""
    api, query = request.app[API], request["querystring"]
    symbol = api.desk.resolve(query["symbol"], Fault("symbol", "unknown_symbol", "is not served"))
    request[RECORD].update(symbol=symbol)
    snapshot = api.desk.look(symbol, request[PRINCIPAL].account)
    return json_answer(book_message(snapshot, query["view"], query["depth"], api.market_data))


@needs("quote")
@operation(
    "Get depth",
    "How much rests within so many basis points of mid, in all and per venue.",
    answers.DepthSchema,
    (*GENERAL, *PARAMETERS, "unknown_symbol", *MARKET_DATA),
)
@querystring_schema(requests.DepthQuery)
async def get_depth(request: web.Request) -> web.Response:
    """Answer ``GET /v1/depth``."""
    api, query = request.app[API], request["querystring"]
    symbol = api.desk.resolve(query["symbol"], Fault("symbol", "unknown_symbol", "is not served"))
    request[RECORD].update(symbol=symbol)
    snapshot = api.desk.look(symbol, request[PRINCIPAL].account)
    return json_answer(depth_message(snapshot, bands(snapshot.book, query["bps"]), api.market_data))


@needs("quote")
@operation(
    "List symbols",
    "Every symbol of the settings with its rules on each venue.",
    answers.SymbolsSchema,
    (*GENERAL, "unknown_parameter"),
)
async def get_symbols(request: web.Request) -> web.Response:
    """Answer ``GET /v1/symbols``."""
    api = request.app[API]
    now_ns = api.clock.now_ns()
    return json_answer(
        {
            "symbols": [
                symbol_message(
                    symbol,
                    [
                        source.instrument
                        for source in api.market.sources(symbol, now_ns)
                        if source.instrument is not None
                    ],
                )
                for symbol in api.market.symbols
            ],
            "next_cursor": None,
        }
    )


def add_routes(app: web.Application) -> None:
    """Put every route of the contract on *app*."""
    routes = [
        *FIRM_ROUTES,
        *ACCOUNT_ROUTES,
        *KEY_ROUTES,
        *VENUE_ROUTES,
        *SYSTEM_ROUTES,
        *STREAM_ROUTES,
        *METRICS_ROUTES,
        *WEB_ROUTES,
    ]
    app.router.add_routes(routes)
    app.router.add_get("/quote", get_quote)
    app.router.add_get("/v1/quote", get_quote)
    app.router.add_post("/execute", post_execute)
    app.router.add_post("/v1/execute", post_execute)
    app.router.add_get("/v1/executions", get_executions)
    app.router.add_get("/v1/executions/by-client-id/{client_order_id}", get_execution_by_client_id)
    app.router.add_get("/v1/executions/{id}", get_execution)
    app.router.add_get("/v1/book", get_book)
    app.router.add_get("/v1/depth", get_depth)
    app.router.add_get("/v1/symbols", get_symbols)
