"""The routes of the contract.

A handler reads what the schemas made of the request, asks the desk or the market, and renders; it decides nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from aiohttp_apispec import docs, json_schema, match_info_schema, querystring_schema, response_schema

from exchanges.board import Board, Source, Tally
from exchanges.book import Side, units
from exchanges.clock import Clock
from service.accounting import MONEY_SCALE, bps_text, money_text, price_text
from service.api import schemas
from service.api.middleware import PRINCIPAL, RECORD, Handler, needs
from service.api.openapi import describe_codes
from service.api.parsing import also_check
from service.api.problems import CODES
from service.api.render import (
    book_message,
    depth_message,
    quote_message,
    source_message,
    symbol_message,
    venue_message,
)
from service.desk.desk import Answer, Desk
from service.desk.orders import DirectOrder, Order, QuoteOrder, QuoteRequest, TimeInForce
from service.errors import Fault, RequestError, Unavailable
from service.ledger.protocol import Ledger
from service.market.book import Snapshot
from service.market.screening import used
from service.market.symbols import resolve
from service.market.view import MarketView
from service.pricing.bounds import Ask
from service.pricing.depth import bands
from service.pricing.quote import SideQuote

_DOCS = Path(__file__).parent / "docs_ui"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png"}
_EXECUTION_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)

_GENERAL = ("unauthenticated", "insufficient_scope", "internal_error")
_PARAMETERS = ("invalid_parameter", "unknown_parameter", "duplicate_field", "missing_parameter")
_AMOUNTS = ("quantity_step", "quantity_too_small", "notional_too_small")
_MARKET_DATA = ("no_fresh_market_data", "venues_disagree")


@dataclass(frozen=True, slots=True)
class VenueReport:
    """
    A venue as the operator set it up, and how it is doing.

    Args:
        poll_interval_ms: Effective; None for one that is not enabled.
        tally: None for one that is not enabled.
    """

    name: str
    enabled: bool
    poll_interval_ms: int | None
    tally: Tally | None


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes answer from."""

    desk: Desk
    market: MarketView
    ledger: Ledger
    clock: Clock
    market_data: str
    board: Board
    venues: Callable[[], Sequence[VenueReport]]
    openapi: Callable[[], bytes]


API: web.AppKey[Api] = web.AppKey("api", Api)


def operation(
    summary: str, description: str, answer: type[schemas.AnswerSchema], codes: tuple[str, ...], status: int = 200
) -> Callable[[Handler], Handler]:
    """Describe a handler for the OpenAPI document: what it answers, and every code it may refuse with."""

    def describe(handler: Handler) -> Handler:
        handler = docs(summary=summary, description=description)(handler)
        handler = response_schema(answer, status)(handler)
        for refused_with, text in describe_codes(codes).items():
            handler = response_schema(schemas.ProblemSchema, refused_with, description=text)(handler)
        return handler

    return describe


def _json(body: Mapping[str, Any] | bytes, status: int = 200) -> web.Response:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return web.Response(body=data, status=status, content_type="application/json")


def _venue_faults(request: web.Request, query: Mapping[str, str]) -> list[Fault]:
    """Find names of venues that the service does not have, or that cannot serve the symbol, and a choice of none."""
    api = request.app[API]
    named = {
        name: query[name].split(",")
        for name in ("venues", "exclude_venues")
        if schemas.VenueList.pattern.fullmatch(query.get(name, ""))
    }
    if not named:
        return []
    known = {report.name: report.enabled for report in api.venues()}
    symbol = resolve(query.get("symbol") or query.get("ticker") or "", api.market.symbols)
    serving = None if symbol is None else api.market.serving(symbol)
    faults = []
    for parameter, names in named.items():
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                detail = "names a venue that is not in the settings"
                faults.append(Fault(parameter, "invalid_parameter", detail, near[0] if near else None))
            elif parameter == "venues" and not known[name]:
                faults.append(Fault(parameter, "invalid_parameter", f"names {name}, which is switched off"))
            elif parameter == "venues" and serving is not None and name not in serving:
                faults.append(Fault(parameter, "invalid_parameter", f"names {name}, which does not trade {symbol}"))
    chosen = set(named.get("venues", known if serving is None else serving))
    if not faults and not chosen - set(named.get("exclude_venues", ())):
        faults.append(Fault("exclude_venues", "conflicting_parameters", "leaves no venue"))
    return faults


@needs("quote")
@operation(
    "Get quote",
    "What buying, selling, or either, would cost now: net of fees, over all live venues, explained line by line.",
    schemas.QuoteSchema,
    (*_GENERAL, *_PARAMETERS, "conflicting_parameters", "unknown_symbol", *_AMOUNTS, *_MARKET_DATA),
)
@querystring_schema(schemas.QuoteQuery)
@also_check(_venue_faults)
async def get_quote(request: web.Request) -> web.Response:
    """Answer ``GET /quote``."""
    api, query = request.app[API], request["querystring"]
    symbol = api.desk.resolve(
        query.get("symbol") or query["ticker"], Fault("symbol", "unknown_symbol", "is not served")
    )
    side = query["side"]
    wanted = QuoteRequest(
        symbol=symbol,
        ask=_ask(query),
        sides=(Side.BUY, Side.SELL) if side == "both" else (Side(side),),
        venues=query.get("venues"),
        exclude_venues=query.get("exclude_venues"),
    )
    request[RECORD].update(symbol=symbol, side=side)
    _record_amounts(request[RECORD], wanted.ask)
    quote = api.desk.quote(request[PRINCIPAL].account, wanted)
    request[RECORD].update(
        venues=quote.snapshot.book.venues,
        book_age_ms=_book_age_ms(quote.snapshot),
    )
    return _json(quote_message(quote, with_fills=query["fills"]))


def _ask(values: Mapping[str, Any]) -> Ask:
    """Bring a request's amounts to the service's scales; a total is cut to money's."""
    quantity, total, limit_price = values.get("quantity"), values.get("total"), values.get("limit_price")
    return Ask(
        quantity=None if quantity is None else units(quantity),
        total=None if total is None else int(total.scaleb(MONEY_SCALE)),
        slippage_bps_max=values.get("slippage_bps_max"),
        limit_price=None if limit_price is None else units(limit_price),
    )


def _record_amounts(record: dict[str, Any], ask: Ask) -> None:
    """Put what a request asks for on its log line."""
    if ask.quantity is not None:
        record["quantity"] = price_text(ask.quantity)
    if ask.total is not None:
        record["total"] = money_text(ask.total)


def _book_age_ms(snapshot: Snapshot) -> int:
    """Give the age of the oldest venue's book that is in it."""
    return max(source.age_ms or 0 for source in snapshot.sources if used(source))


_QUOTE_CODES = (
    "unknown_quote",
    "quote_expired",
    "order_expired",
    "quote_used",
    "price_moved",
    "limit_not_met",
    "slippage_exceeded",
    "insufficient_liquidity",
    "execution_in_progress",
)
_EXECUTE_CODES = (
    "body_too_large",
    "unsupported_media_type",
    *_GENERAL,
    "malformed_json",
    "invalid_parameter",
    "unknown_parameter",
    "unknown_field",
    "duplicate_field",
    "missing_parameter",
    "conflicting_parameters",
    "unknown_symbol",
    "client_order_id_reused",
    *_AMOUNTS,
    *_QUOTE_CODES,
    *_MARKET_DATA,
    "overloaded",
    "ledger_unavailable",
    "shutting_down",
    "outcome_unknown",
)


@needs("execute")
@operation(
    "Execute order",
    "Mock-fill an order at once, on record: on a quote, or directly. The same client_order_id is always safe to send "
    "again: the first answer is given back (200, Idempotent-Replayed: true). A dry run checks everything, records "
    "nothing and answers 200.",
    schemas.ExecutionSchema,
    _EXECUTE_CODES,
    201,
)
@response_schema(schemas.ExecutionSchema, 200, description="It was on record, or it was a dry run.")
@json_schema(schemas.ExecuteBody)
async def post_execute(request: web.Request) -> web.Response:
    """Answer ``POST /execute``."""
    api, body = request.app[API], request["json"]
    account = request[PRINCIPAL].account
    order = Order(
        account=account,
        client_order_id=body["client_order_id"],
        fingerprint=await _fingerprint(request, account),
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
    response = _json(answer.receipt, 200 if answer.replayed or order.dry_run else 201)
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
        ask=_ask(body),
        time_in_force=TimeInForce(body.get("time_in_force", "fok")),
    )


async def _fingerprint(request: web.Request, account: str) -> bytes:
    """Hash the body as parsed, keys sorted, and the account: spelling and order of fields do not matter."""
    fields = orjson.loads(await request.read())
    return hashlib.sha256(orjson.dumps([account, fields], option=orjson.OPT_SORT_KEYS)).digest()


def _record_answer(request: web.Request, answer: Answer) -> None:
    record = request[RECORD]
    record.update(execution_id=answer.execution_id, execution_status=answer.status, replayed=answer.replayed)
    if answer.ledger_ms is not None:
        record.update(ledger_ms=answer.ledger_ms)
    decision = answer.decision
    if decision is not None:
        filled = decision.reject_code is None
        record.update(
            symbol=decision.symbol,
            side=decision.side.value,
            filled=price_text(decision.priced.quantity) if filled else "0",
            slippage_bps=_slippage(decision.priced) if filled else None,
            venues=[leg.venue for leg in decision.priced.legs],
            book_age_ms=_book_age_ms(decision.snapshot),
        )
        _record_amounts(record, decision.priced.ask)


def _slippage(priced: SideQuote) -> str | None:
    return None if priced.from_mid_bps is None else bps_text(priced.from_mid_bps)


@needs("account")
@operation(
    "List executions",
    "This account's executions, filled and rejected, newest first.",
    schemas.ExecutionsSchema,
    (*_GENERAL, *_PARAMETERS[:3], "unknown_symbol", "ledger_unavailable"),
)
@querystring_schema(schemas.ExecutionsQuery)
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
    return _json(
        {
            "executions": [orjson.Fragment(execution.receipt) for execution in page.executions],
            "next_cursor": None if page.next_after is None else schemas.Cursor.write(page.next_after),
        }
    )


@needs("account")
@operation(
    "Get execution",
    "One of this account's executions, as it was answered.",
    schemas.ExecutionSchema,
    (*_GENERAL, "unknown_parameter", "unknown_execution", "ledger_unavailable"),
)
@match_info_schema(schemas.ExecutionPath)
async def get_execution(request: web.Request) -> web.Response:
    """Answer ``GET /v1/executions/{id}``."""
    execution_id = request["match_info"]["id"]
    stored = None
    if _EXECUTION_ID.fullmatch(execution_id):
        stored = await request.app[API].ledger.find_execution(request[PRINCIPAL].account, execution_id)
    if stored is None:
        raise RequestError("unknown_execution", CODES["unknown_execution"].meaning)
    return _json(stored.receipt)


@needs("account")
@operation(
    "Get execution by client order id",
    "The execution that one of this account's client_order_ids stands for, as it was answered.",
    schemas.ExecutionSchema,
    (*_GENERAL, "unknown_parameter", "unknown_execution", "ledger_unavailable"),
)
@match_info_schema(schemas.ClientOrderPath)
async def get_execution_by_client_id(request: web.Request) -> web.Response:
    """Answer ``GET /v1/executions/by-client-id/{client_order_id}``."""
    client_order_id = request["match_info"]["client_order_id"]
    stored = None
    if re.fullmatch(schemas.CLIENT_ORDER_ID_PATTERN, client_order_id, re.ASCII):
        stored = await request.app[API].ledger.find_client_order(request[PRINCIPAL].account, client_order_id)
    if stored is None:
        raise RequestError("unknown_execution", CODES["unknown_execution"].meaning)
    return _json(stored.receipt)


@needs("quote")
@operation(
    "Get book",
    "The consolidated book: every level with its venue, ranked by net or gross price.",
    schemas.BookSchema,
    (*_GENERAL, *_PARAMETERS, "unknown_symbol", *_MARKET_DATA),
)
@querystring_schema(schemas.BookQuery)
async def get_book(request: web.Request) -> web.Response:
    """Answer ``GET /v1/book``."""
    api, query = request.app[API], request["querystring"]
    symbol = api.desk.resolve(query["symbol"], Fault("symbol", "unknown_symbol", "is not served"))
    request[RECORD].update(symbol=symbol)
    snapshot = api.desk.look(symbol)
    return _json(book_message(snapshot, query["view"], query["depth"], api.market_data))


@needs("quote")
@operation(
    "Get depth",
    "How much rests within so many basis points of mid, in all and per venue.",
    schemas.DepthSchema,
    (*_GENERAL, *_PARAMETERS, "unknown_symbol", *_MARKET_DATA),
)
@querystring_schema(schemas.DepthQuery)
async def get_depth(request: web.Request) -> web.Response:
    """Answer ``GET /v1/depth``."""
    api, query = request.app[API], request["querystring"]
    symbol = api.desk.resolve(query["symbol"], Fault("symbol", "unknown_symbol", "is not served"))
    request[RECORD].update(symbol=symbol)
    snapshot = api.desk.look(symbol)
    return _json(depth_message(snapshot, bands(snapshot.book, query["bps"]), api.market_data))


@needs("quote")
@operation(
    "List venues",
    "Every venue of the settings: state, reason, age, counters and fees.",
    schemas.VenuesSchema,
    (*_GENERAL, "unknown_parameter"),
)
async def get_venues(request: web.Request) -> web.Response:
    """Answer ``GET /v1/venues``."""
    api = request.app[API]
    now_ns, now = api.clock.now_ns(), api.clock.utc()
    by_venue: dict[str, list[Source]] = {}
    for symbol in api.board.symbols:
        for source in api.board.sources(symbol, now_ns):
            by_venue.setdefault(source.venue, []).append(source)
    return _json(
        {
            "venues": [
                venue_message(
                    report.name,
                    by_venue.get(report.name, []),
                    enabled=report.enabled,
                    poll_interval_ms=report.poll_interval_ms,
                    accepted=0 if report.tally is None else report.tally.accepted,
                    rejected={} if report.tally is None else report.tally.rejected,
                    since=_since(by_venue.get(report.name, []), now_ns, now),
                )
                for report in api.venues()
            ],
            "next_cursor": None,
        }
    )


def _since(sources: Sequence[Source], now_ns: int, now: datetime) -> dict[str, datetime]:
    """Put the beginnings of states, which the boot-time clock measured, on the wall clock."""
    return {source.symbol: now - timedelta(microseconds=(now_ns - source.since_ns) // 1_000) for source in sources}


@needs("quote")
@operation(
    "List symbols",
    "Every symbol of the settings with its rules on each venue.",
    schemas.SymbolsSchema,
    (*_GENERAL, "unknown_parameter"),
)
async def get_symbols(request: web.Request) -> web.Response:
    """Answer ``GET /v1/symbols``."""
    api = request.app[API]
    now_ns = api.clock.now_ns()
    return _json(
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


@needs(None)
@docs(security=[])
@operation("Check life", "200 while the process runs.", schemas.HealthSchema, ())
async def get_healthz(request: web.Request) -> web.Response:
    """Answer ``GET /healthz``."""
    return _json({"status": "alive"})


@needs(None)
@docs(security=[])
@operation(
    "Check readiness",
    "200 if every symbol has enough live venues, else 503 with every venue's reason.",
    schemas.ReadinessSchema,
    ("no_fresh_market_data", "shutting_down"),
)
async def get_readyz(request: web.Request) -> web.Response:
    """Answer ``GET /readyz``."""
    api = request.app[API]
    now_ns = api.clock.now_ns()
    if api.desk.closing:
        raise Unavailable("shutting_down", CODES["shutting_down"].meaning)
    needed = api.market.venues_min
    symbols = []
    for symbol in api.market.symbols:
        sources = api.market.sources(symbol, now_ns)
        live = sum(used(source) for source in sources)
        entry: dict[str, Any] = {"symbol": symbol, "live_venues": live, "venues_min": needed}
        if live < needed:
            entry["sources"] = [{**source_message(source), "used": False} for source in sources]
        symbols.append(entry)
    short = [entry for entry in symbols if "sources" in entry]
    if short:
        names = ", ".join(entry["symbol"] for entry in short)
        raise RequestError("no_fresh_market_data", f"too few live venues: {names}", symbols=short)
    return _json({"status": "ready", "symbols": symbols})


async def get_openapi(request: web.Request) -> web.Response:
    """Answer ``GET /openapi.json``."""
    return _json(request.app[API].openapi())


async def get_docs(request: web.Request) -> web.StreamResponse:
    """Answer ``GET /docs`` and the files of its page."""
    name = request.match_info.get("file", "index.html")
    if name not in _docs_files():
        raise web.HTTPNotFound
    return web.Response(
        body=(_DOCS / name).read_bytes(),
        content_type=_DOCS_TYPES[Path(name).suffix],
        headers={
            "Content-Security-Policy": _DOCS_POLICY,
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )


def _docs_files() -> Collection[str]:
    return {path.name for path in _DOCS.iterdir() if path.suffix in _DOCS_TYPES}


def add_routes(app: web.Application) -> None:
    """Put every route of the contract on *app*."""
    app.router.add_get("/quote", get_quote)
    app.router.add_get("/v1/quote", get_quote)
    app.router.add_post("/execute", post_execute)
    app.router.add_post("/v1/execute", post_execute)
    app.router.add_get("/v1/executions", get_executions)
    app.router.add_get("/v1/executions/by-client-id/{client_order_id}", get_execution_by_client_id)
    app.router.add_get("/v1/executions/{id}", get_execution)
    app.router.add_get("/v1/book", get_book)
    app.router.add_get("/v1/depth", get_depth)
    app.router.add_get("/v1/venues", get_venues)
    app.router.add_get("/v1/symbols", get_symbols)
    app.router.add_get("/healthz", get_healthz)
    app.router.add_get("/readyz", get_readyz)
    app.router.add_get("/openapi.json", get_openapi)
    app.router.add_get("/docs", get_docs)
    app.router.add_get("/docs/{file}", get_docs)
