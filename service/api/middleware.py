"""One pass around every request: identify, authorise, answer, turn refusals into problems, write one log line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from time import monotonic_ns, perf_counter_ns
from typing import Any, Final, NamedTuple

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service.api.admission import Admission
from service.api.guard import Guard, RateLimited
from service.api.limits import Kind
from service.api.parsing import check_media_type, refuse_query
from service.api.problems import CODES, CONTENT_TYPE, problem, sane_request_id
from service.api.render import source_message
from service.api.render_quote import quote_message
from service.errors import RequestError, Unavailable
from service.keys import Principal
from service.metrics.instruments import Instruments
from service.tracing import handle

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PRINCIPAL: Final = web.RequestKey("principal", Principal)
LIMIT: Final = web.RequestKey("limit", tuple)
"""The header fields ``RateLimit-Policy`` and ``RateLimit`` of the answer."""
RECORD: Final = web.RequestKey("record", dict)
"""What the handler wants on the request's log line."""
REQUEST_ID: Final = web.RequestKey("request_id", str)

log = structlog.get_logger()


def needs(*scopes: str | None, kind: Kind = "quote") -> Callable[[Handler], Handler]:
    """
    Mark a handler with the scopes that its callers' keys must have; None opens it to everyone.

    Args:
        kind: Which of a key's limits its requests count against.
    """

    def mark(handler: Handler) -> Handler:
        handler.__scopes__ = [scope for scope in scopes if scope is not None]  # type: ignore[attr-defined]
        handler.__kind__ = kind  # type: ignore[attr-defined]
        return handler

    return mark


def contract(guard: Guard, admission: Admission, closing: Callable[[], bool], counted: Instruments) -> Any:
    """
    Make the middleware that stands around all others.

    Args:
        closing: Says whether the service is stopping: then nothing new is begun.  Orders are the desk's to refuse,
            which knows those that are on record.
        counted: Told of every request and how it was answered.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        started_ns = perf_counter_ns()
        request_id = sane_request_id(request.headers.get("X-Request-Id", ""))
        handled = handle(request_id, request.headers.getall("traceparent", ()))
        record: dict[str, Any] = {}
        request[RECORD], request[REQUEST_ID] = record, request_id
        try:
            response = await _answered(request, handler, guard, admission, closing)
            route, took_ns = _route(request), perf_counter_ns() - started_ns
            counted.answered(request.method, route, response.status, record.get("code", ""), took_ns / 1_000_000_000)
            log.info(
                "request",
                request_id=request_id,
                method=request.method,
                route=route,
                status=response.status,
                duration_ms=took_ns / 1_000_000,
                remote=guard.address(request),
                **record,
            )
        finally:
            handled.over = True
        return response

    return middleware


async def _answered(
    request: web.Request, handler: Handler, guard: Guard, admission: Admission, closing: Callable[[], bool]
) -> web.StreamResponse:
    """Give an answer in any case: what the handler says, or a problem."""
    request_id, record = request[REQUEST_ID], request[RECORD]
    try:
        response = await _answer(request, handler, guard, admission, closing)
    except RequestError as error:
        response = _refusal(error, request_id, record)
    except Unavailable as error:
        response = _unavailable(error, request_id, record)
    except web.HTTPException as error:
        response = _http_error(error, request_id, record)
    except Exception:
        log.exception("request.failed", request_id=request_id)
        record["code"] = "internal_error"
        response = _problem("internal_error", "an error of the service; it has been logged", request_id)
    if not response.prepared:
        headers = response.headers
        headers["X-Request-Id"] = request_id
        headers.setdefault("Cache-Control", "no-store")
        limit = request.get(LIMIT)
        if limit is not None:
            headers["RateLimit-Policy"], headers["RateLimit"] = limit
    return response


class _Marks(NamedTuple):
    """
    What a handler was marked with.

    Args:
        reads: There are schemas for what it reads ...
        body: ... of the body, whose parser looks at a query, too ...
        query: ... or of the query.
    """

    scopes: Sequence[str]
    kind: Kind
    reads: bool
    body: bool
    query: bool


@lru_cache(1_024)
def _marks(handler: Handler) -> _Marks:
    locations = {schema["location"] for schema in getattr(handler, "__schemas__", ())}
    return _Marks(
        scopes=getattr(handler, "__scopes__", ()),
        kind=getattr(handler, "__kind__", "quote"),
        reads=bool(locations),
        body="json" in locations,
        query="querystring" in locations,
    )


async def _answer(
    request: web.Request, handler: Handler, guard: Guard, admission: Admission, closing: Callable[[], bool]
) -> web.StreamResponse:
    """Check in the contract's order, then let the handler answer."""
    failed = request.match_info.http_exception
    if failed is not None:
        raise failed
    target = request.match_info.handler
    scopes, kind, reads, body, query = _marks(target)
    if scopes and not admission.admits(kind, request.protocol.ahead, monotonic_ns()):  # type: ignore[attr-defined]
        # Before all else: what it would be refused for, or granted, costs the time that is missing.
        raise Unavailable("overloaded", CODES["overloaded"].meaning)
    if body:
        check_media_type(request)
        await _read_body(request)
    if scopes:
        _admit(request, guard, scopes, kind)
        if "execute" not in scopes and closing():
            raise Unavailable("shutting_down", CODES["shutting_down"].meaning)
    if not body and not query:
        refuse_query(request)
    if reads:
        plain = await request.app["_apispec_parser"].read_plain(request)
        if plain is not None:
            for name, values in plain.items():
                request[name] = values
            return await target(request)
    return await handler(request)  # Through aiohttp-apispec's validation, which refuses it or reads it with more care.


def _admit(request: web.Request, guard: Guard, scopes: Sequence[str], kind: Kind) -> None:
    """Find whose request it is, whether the key may do this, and whether not too often."""
    principal = guard.identify(request)
    request[PRINCIPAL] = principal
    request[RECORD].update(account=principal.account, key_id=principal.key_id)
    for scope in scopes:
        if scope not in principal.scopes:
            raise RequestError("insufficient_scope", f"this route needs a key with the scope {scope!r}")
    limit = guard.count(principal, kind)
    if limit is not None:
        request[LIMIT] = limit


async def _read_body(request: web.Request) -> None:
    if request.content.is_eof():  # All of it has come already.
        await request.read()
        return
    try:
        await request.read()  # No longer than a connection lets it take.
    except (OSError, HttpProcessingError):
        raise RequestError("malformed_request", "the body broke off, or did not come in time") from None


def _refusal(error: RequestError, request_id: str, record: dict[str, Any]) -> web.Response:
    record["code"] = error.code
    extra = {name: value for name, value in error.context.items() if value is not None}
    if "fresh_quote" in extra:
        extra["fresh_quote"] = orjson.Fragment(quote_message(extra["fresh_quote"]))
    response = _problem(error.code, error.detail, request_id, faults=error.faults, extra=extra)
    if isinstance(error, RateLimited):
        response.headers.update(error.headers)
    return response


def _unavailable(error: Unavailable, request_id: str, record: dict[str, Any]) -> web.Response:
    record["code"] = error.code
    extra = {"sources": [{**source_message(source), "used": False} for source in error.sources]}
    response = _problem(error.code, error.detail, request_id, extra=extra if error.sources else None)
    response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _http_error(error: web.HTTPException, request_id: str, record: dict[str, Any]) -> web.Response:
    """Turn what aiohttp itself refuses into a problem."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    code = codes.get(error.status, "malformed_request" if error.status < 500 else "internal_error")
    record["code"] = code
    response = _problem(code, CODES[code].meaning, request_id)
    if isinstance(error, web.HTTPMethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return response


def _problem(code: str, detail: str, request_id: str, **parts: Any) -> web.Response:
    meaning = CODES[code]
    response = web.Response(
        body=problem(code, detail, request_id, **parts), status=meaning.status, content_type=CONTENT_TYPE
    )
    if meaning.retry_after_s is not None:
        response.headers["Retry-After"] = str(meaning.retry_after_s)
    if code == "unauthenticated":
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _route(request: web.Request) -> str | None:
    """Give the route's pattern, never the path itself: a path may hold anything."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


async def drop_server_header(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Say nothing of what the service is made of."""
    response.headers.pop("Server", None)
