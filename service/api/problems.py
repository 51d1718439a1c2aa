"""Every code of the contract, and the problem+json bodies (RFC 9457) that carry them.

A problem never echoes what it did not understand: only names that look like names are repeated.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.errors import Fault

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Code:
    """
    What a code means to a client.

    Args:
        retry: ``never``, ``same_request`` or ``new_quote``.
        execution_state: ``not_executed``, ``executed`` or ``unknown``.
        retry_after_s: Of the ``Retry-After`` header, where there always is one.
    """

    status: int
    retry: str
    meaning: str
    execution_state: str = "not_executed"
    retry_after_s: int | None = None


CODES: Mapping[str, Code] = {
    "body_too_large": Code(413, "never", "The body is larger than 64 KiB."),
    "unsupported_media_type": Code(415, "never", "The body is not plain UTF-8 application/json."),
    "method_not_allowed": Code(405, "never", "The route does not know this method; see the Allow header."),
    "not_found": Code(404, "never", "There is no such route, account, venue or key."),
    "unauthenticated": Code(401, "never", "The API key is missing, unknown, revoked or expired."),
    "insufficient_scope": Code(403, "never", "The API key lacks the scope of this route."),
    "address_not_allowed": Code(403, "never", "The API key may not be used from this address."),
    "origin_not_allowed": Code(403, "never", "The Origin is not one whose pages may open a stream here."),
    "rate_limited": Code(429, "same_request", "Too many requests; nothing has run.", retry_after_s=1),
    "too_many_open_quotes": Code(429, "same_request", "The account has too many open firm quotes.", retry_after_s=1),
    "malformed_request": Code(400, "never", "The request is not HTTP as the server understands it."),
    "malformed_json": Code(400, "never", "The body is not a JSON object."),
    "invalid_parameter": Code(400, "never", "A value is not of the form that is asked for."),
    "unknown_parameter": Code(400, "never", "A query parameter is not known; nothing was guessed."),
    "unknown_field": Code(400, "never", "A field of the body is not known; nothing was guessed."),
    "duplicate_field": Code(400, "never", "A field or parameter stands more than once."),
    "missing_parameter": Code(400, "never", "A required field or parameter is missing."),
    "conflicting_parameters": Code(400, "never", "Fields or parameters exclude each other."),
    "unknown_symbol": Code(404, "never", "The symbol is not served here."),
    "unknown_quote": Code(404, "never", "No such quote was given to this account."),
    "unknown_execution": Code(404, "never", "This account has no such execution."),
    "client_order_id_reused": Code(422, "never", "The client_order_id was used before with another body."),
    "quantity_step": Code(422, "never", "The quantity is finer than any venue's step."),
    "quantity_too_small": Code(422, "never", "The quantity is smaller than any venue accepts."),
    "notional_too_small": Code(422, "never", "The order is worth less than any venue accepts."),
    "quantity_too_large": Code(422, "never", "The order comes to more than the ledger can hold."),
    "invalid_settings": Code(422, "never", "The settings have mistakes; nothing was changed."),
    "quote_expired": Code(410, "new_quote", "The quote's time is over."),
    "quote_void": Code(410, "new_quote", "The firm quote was let go, or its process is no more."),
    "order_expired": Code(410, "never", "The order's valid_until has passed."),
    "quote_used": Code(409, "new_quote", "The quote has been executed before."),
    "price_moved": Code(409, "new_quote", "The market no longer gives the quoted total."),
    "limit_not_met": Code(409, "never", "The limit price leaves too little to fill the order."),
    "slippage_exceeded": Code(409, "never", "The order would move the price further than it allows."),
    "insufficient_liquidity": Code(409, "never", "The books hold less than was asked for."),
    "insufficient_balance": Code(409, "never", "The account has too little available."),
    "risk_limit": Code(409, "never", "A limit of risk does not allow the order."),
    "execution_in_progress": Code(
        409, "same_request", "The same order is being executed.", execution_state="unknown", retry_after_s=1
    ),
    "no_fresh_market_data": Code(503, "same_request", "No books that can be believed.", retry_after_s=1),
    "venues_disagree": Code(503, "same_request", "The venues contradict each other.", retry_after_s=1),
    "overloaded": Code(503, "same_request", "Too much is waiting.", retry_after_s=1),
    "ledger_unavailable": Code(503, "same_request", "The record cannot be written.", retry_after_s=1),
    "shutting_down": Code(503, "same_request", "The service is stopping.", retry_after_s=1),
    "outcome_unknown": Code(
        503,
        "same_request",
        "Whether the order was executed cannot be told yet; send the same request again.",
        execution_state="unknown",
        retry_after_s=1,
    ),
    "internal_error": Code(500, "same_request", "A bug.", execution_state="unknown"),
}
"""In the order checked.  A code is added here, and in the documentation, together with what can produce it."""

_NAME = re.compile(r"[A-Za-z0-9_./~-]{1,40}", re.ASCII)
"""Longer than all of ours, and shorter than the secret part of a key."""
KEY_PATTERN = re.compile(r"iob_(live|test)_", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def sane_request_id(offered: str) -> str:
    """Give the id that a caller offers for its request, if that is a sane one, else a new one."""
    sane = _REQUEST_ID.fullmatch(offered) and not KEY_PATTERN.search(offered)
    return offered if sane else secrets.token_hex(8)


def problem(
    code: str,
    detail: str,
    request_id: str,
    *,
    faults: Sequence[Fault] = (),
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """
    Write the body of a refusal.

    Args:
        code: One of ``CODES``.
        detail: A sentence for a person.
        faults: All things wrong with the request.
        extra: Further members: ``execution_id``, ``fresh_quote``, ``sources``.
    """
    meaning = CODES[code]
    body: dict[str, Any] = {
        "type": f"/problems/{code.replace('_', '-')}",
        "title": code.replace("_", " ").capitalize(),
        "status": meaning.status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "retry": meaning.retry,
        "execution_state": meaning.execution_state,
    }
    if faults:
        body["errors"] = [_fault(fault) for fault in faults]
    body.update(extra or {})
    return orjson.dumps(body)


def _fault(fault: Fault) -> dict[str, Any]:
    entry = {fault.kind: speakable(fault.where), "code": fault.code, "detail": fault.detail}
    if fault.suggested is not None:
        entry["suggested"] = fault.suggested
    return entry


def speakable(name: str) -> str:
    """Give a name back if it looks like a name and like no key; else an empty one."""
    return name if _NAME.fullmatch(name) and not KEY_PATTERN.search(name) else ""
