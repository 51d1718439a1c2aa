"""What can go wrong with a request, by who can act.

    OrderBookError
    ├── RequestRefused         you: the request will never do as it is
    │   ├── InvalidRequest         400, 413, 415, 422: what is wrong with it stands in ``errors``
    │   ├── NotFound               404, 405: no such route, symbol, quote, execution, account, venue or key
    │   └── OrderRejected          409: decided against, on the market, the balance or a limit
    ├── KeyRefused             whoever gave you the key
    │   ├── Unauthenticated        401: it is missing, unknown, revoked or expired
    │   └── NotAllowed             403: it may not do this, or not from here
    ├── NewQuoteNeeded         you, with another quote: 409, 410; ``fresh_quote`` is one
    ├── Unavailable            time: nothing has run, and it was tried until the deadline
    │   ├── RateLimited            429
    │   └── NoAnswer               nobody answers, or a proxy does
    ├── OutcomeUnknown         time, then you: it may have run; find out before you send anything else
    └── ServiceFault           whoever runs the service
        ├── InternalError          500: a bug
        └── UnexpectedAnswer       no answer of this service: a proxy's page, or a message that cannot be read

A class is for deciding what to do; ``code`` says exactly what it was, as the service does (``docs/errors.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from service.client.decoding import Undecodable, decode
from service.client.quotes import Quote, Source

Retry = Literal["never", "same_request", "new_quote"]
ExecutionState = Literal["not_executed", "executed", "unknown"]
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing wrong with a request.

    Args:
        where: Name of the parameter, or JSON pointer into the body.
        suggested: A value that would have done, where one is known.
    """

    where: str
    code: str
    detail: str
    suggested: str | None = None


class OrderBookError(Exception):
    """
    Be the root of what a request can end in.

    Attributes:
        code: As the service says it; None where the answer was none of the service's, or there was none.
        status: HTTP status; None where there was no answer.
        detail: A sentence for a person.
        retry: What may help.
        execution_state: Whether anything has happened, over all attempts at this request.
        errors: All faults of the request.
        fresh_quote: A quote for the same question, where there is a market.
        sources: Every venue's reason, where market data is what is missing.
        execution_id: Of the record, where the order was decided against.
        client_order_id: Of the order: asking with it again, or for it, is always safe.
        retry_after_s: How long to wait at least, where that was said.
        request_id: Finds the request in the service's log.
        raw: The problem as it came; empty where there was none.
        body: All that was answered, as it came.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        execution_state: ExecutionState = "not_executed",
        retry: Retry = "never",
        retry_after_s: float | None = None,
        request_id: str | None = None,
        raw: Mapping[str, Any] | None = None,
        body: bytes = b"",
    ) -> None:
        raw = raw or {}
        self.detail = detail
        self.code: str | None = _text(raw, "code")
        super().__init__(detail if self.code is None else f"{self.code}: {detail}")
        self.status = status
        self.execution_state: ExecutionState = execution_state
        self.retry: Retry = retry
        self.retry_after_s = retry_after_s
        self.request_id = request_id
        self.execution_id = _text(raw, "execution_id")
        self.client_order_id: str | None = None
        self.errors: tuple[Fault, ...] = _faults(raw.get("errors"))
        self.fresh_quote: Quote | None = _fresh_quote(raw.get("fresh_quote"))
        self.sources: tuple[Source, ...] = _sources(raw.get("sources"))
        self.raw = raw
        self.body = body


class RequestRefused(OrderBookError):
    """Say that the request will never do as it is."""


class InvalidRequest(RequestRefused):
    """Name everything that is wrong with the request in ``errors``."""


class NotFound(RequestRefused):
    """Say that what was asked for is not there, or not yours."""


class OrderRejected(RequestRefused):
    """Say why the order was decided against; where it has an ``execution_id`` it is on record, for ever."""


class KeyRefused(OrderBookError):
    """Say that this key will not do."""


class Unauthenticated(KeyRefused):
    """Say that the key is missing, unknown, revoked or expired."""


class NotAllowed(KeyRefused):
    """Say that the key lacks a scope, or may not be used from here."""


class NewQuoteNeeded(OrderBookError):
    """Say that the quote is no good any more; ``fresh_quote`` is another one, to be decided on anew."""


class Unavailable(OrderBookError):
    """Say that it cannot be done at present, and that nothing has run."""


class RateLimited(Unavailable):
    """Say that too much was asked for."""


class NoAnswer(Unavailable):
    """Say that the service was not reached, and that nothing has run."""


class OutcomeUnknown(OrderBookError):
    """Say that the request may have run: the same order again, or a look at what is on record, will tell."""


class ServiceFault(OrderBookError):
    """Say that the service, or what stands before it, is at fault."""


class InternalError(ServiceFault):
    """Say that the service met a bug."""


class UnexpectedAnswer(ServiceFault):
    """Say that what answered is not this service, or not a version that this client can read."""


CODES: Mapping[str, type[OrderBookError]] = {
    "body_too_large": InvalidRequest,
    "unsupported_media_type": InvalidRequest,
    "method_not_allowed": NotFound,
    "not_found": NotFound,
    "unauthenticated": Unauthenticated,
    "insufficient_scope": NotAllowed,
    "address_not_allowed": NotAllowed,
    "origin_not_allowed": NotAllowed,
    "rate_limited": RateLimited,
    "too_many_open_quotes": RateLimited,
    "malformed_request": InvalidRequest,
    "malformed_json": InvalidRequest,
    "invalid_parameter": InvalidRequest,
    "unknown_parameter": InvalidRequest,
    "unknown_field": InvalidRequest,
    "duplicate_field": InvalidRequest,
    "missing_parameter": InvalidRequest,
    "conflicting_parameters": InvalidRequest,
    "unknown_symbol": NotFound,
    "unknown_quote": NotFound,
    "unknown_execution": NotFound,
    "client_order_id_reused": InvalidRequest,
    "quantity_step": InvalidRequest,
    "quantity_too_small": InvalidRequest,
    "notional_too_small": InvalidRequest,
    "quantity_too_large": InvalidRequest,
    "invalid_settings": InvalidRequest,
    "quote_expired": NewQuoteNeeded,
    "quote_void": NewQuoteNeeded,
    "order_expired": OrderRejected,
    "quote_used": NewQuoteNeeded,
    "price_moved": NewQuoteNeeded,
    "limit_not_met": OrderRejected,
    "slippage_exceeded": OrderRejected,
    "insufficient_liquidity": OrderRejected,
    "insufficient_balance": OrderRejected,
    "risk_limit": OrderRejected,
    "execution_in_progress": OutcomeUnknown,
    "no_fresh_market_data": Unavailable,
    "venues_disagree": Unavailable,
    "overloaded": Unavailable,
    "ledger_unavailable": Unavailable,
    "shutting_down": Unavailable,
    "outcome_unknown": OutcomeUnknown,
    "internal_error": InternalError,
}
"""The class of each code; another one, of a later service, goes by its status."""

_STATUSES: Mapping[int, type[OrderBookError]] = {
    401: Unauthenticated,
    403: NotAllowed,
    404: NotFound,
    405: NotFound,
    409: OrderRejected,
    410: NewQuoteNeeded,
    429: RateLimited,
    503: Unavailable,
}


def problem_error(
    status: int,
    raw: Mapping[str, Any],
    *,
    body: bytes = b"",
    request_id: str | None,
    retry_after_s: float | None = None,
) -> OrderBookError:
    """Make the error that a problem of the service stands for."""
    fallback = _STATUSES.get(status, InternalError if status >= 500 else InvalidRequest)
    kind = CODES.get(str(raw.get("code")), fallback)
    state: ExecutionState = _one_of(raw.get("execution_state"), "not_executed", "executed", otherwise="unknown")
    retry: Retry = _one_of(raw.get("retry"), "same_request", "new_quote", otherwise="never")
    if kind is Unavailable and state != "not_executed":
        kind = OutcomeUnknown
    return kind(
        _text(raw, "detail") or f"the service answered with status {status}",
        status=status,
        execution_state=state,
        retry=retry,
        retry_after_s=retry_after_s,
        request_id=_text(raw, "request_id") or request_id,
        raw=raw,
        body=body,
    )


def status_error(status: int, detail: str, **parts: Any) -> OrderBookError:
    """Make the error that a bare status stands for, where there is no more than that."""
    return _STATUSES.get(status, UnexpectedAnswer)(detail, status=status, **parts)


def read_problem(content_type: str, body: bytes) -> Mapping[str, Any] | None:
    """Give the problem that an answer is, or None where it is none."""
    if content_type.partition(";")[0].strip().lower() != PROBLEM:
        return None
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return raw if isinstance(raw, dict) and isinstance(raw.get("code"), str) else None


def _one_of(value: object, *known: Any, otherwise: Any) -> Any:
    return value if value in known else otherwise


def _text(raw: Mapping[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) else None


def _faults(listed: object) -> tuple[Fault, ...]:
    return tuple(
        Fault(
            _text(fault, "parameter") or _text(fault, "pointer") or "",
            _text(fault, "code") or "",
            _text(fault, "detail") or "",
            _text(fault, "suggested"),
        )
        for fault in (listed if isinstance(listed, Sequence) else ())
        if isinstance(fault, dict)
    )


def _fresh_quote(raw: object) -> Quote | None:
    """Read the quote that came with a refusal; the refusal counts without it, too."""
    try:
        return None if raw is None else decode(Quote, raw)
    except Undecodable:
        return None


def _sources(listed: object) -> tuple[Source, ...]:
    try:
        return tuple(decode(Source, raw) for raw in listed) if isinstance(listed, list) else ()
    except Undecodable:
        return ()
