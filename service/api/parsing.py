"""Read requests by their schemas, and refuse with everything that is wrong at once.

aiohttp-apispec's validation middleware calls ``ContractParser.parse`` with the schemas that its decorators put on a
handler; the same schemas make the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from marshmallow import Schema, ValidationError
from multidict import MultiMapping

from service.errors import Fault, RequestError

BODY_MAX_BYTES = 64 * 1024

_ORDER = (
    "invalid_parameter",
    "unknown_parameter",
    "unknown_field",
    "duplicate_field",
    "missing_parameter",
    "conflicting_parameters",
)
_POINTER_ESCAPES = str.maketrans({"~": "~0", "/": "~1"})


@dataclass(frozen=True, slots=True)
class JsonNumber:
    """A number in a JSON body as it was written; no amount is one: a float has lost digits before anyone sees it."""

    text: str


class ContractParser:
    """Load a schema from one part of a request."""

    async def parse(
        self, schema: Schema, request: web.Request, *, location: str, unknown: str | None = None
    ) -> Mapping[str, Any]:
        """
        Give the loaded values.

        Raises:
            RequestError: 400, with all faults found.
        """
        handler = request.match_info.handler
        if location == "json":
            data, faults = await _body(request)
            faults += _unknown_parameters(request)
            kind, unknown_code = "pointer", "unknown_field"
        else:
            values = request.query if location == "querystring" else request.match_info
            data, faults = _single_values(values)
            kind, unknown_code = "parameter", "unknown_parameter"
        try:
            loaded = schema.load(data)
        except ValidationError as error:
            faults += faults_of(error.messages, kind, unknown_code)
        if location != "match_info" and (also := getattr(handler, "__also_check__", None)) is not None:
            faults += [
                fault if kind == "parameter" else replace(fault, where=f"/{fault.where}", kind=kind)
                for fault in also(request, data)
            ]
        if faults:
            raise refused(faults)
        return loaded  # type: ignore[no-any-return]


def refused(faults: list[Fault]) -> RequestError:
    """Make one refusal of several faults; its own code is the first of theirs in the contract's order."""
    faults = sorted(faults, key=lambda fault: (_ORDER.index(fault.code), fault.where))
    return RequestError(faults[0].code, faults[0].detail, faults)


def refuse_query(request: web.Request) -> None:
    """Refuse any query on a route that has no parameters."""
    if request.query:
        raise refused(_unknown_parameters(request))


def _unknown_parameters(request: web.Request) -> list[Fault]:
    return [Fault(name, "unknown_parameter", "is not a parameter of this route") for name in request.query]


def also_check(check: Callable[[web.Request, Mapping[str, str]], list[Fault]]) -> Callable[[Handler], Handler]:
    """Let a handler's query or body be checked for what its schema cannot know, so that all faults are told at once."""

    def mark(handler: Handler) -> Handler:
        handler.__also_check__ = check  # type: ignore[attr-defined]
        return handler

    return mark


def check_media_type(request: web.Request) -> None:
    """
    Refuse a body that is not plain JSON in UTF-8, or that announces more than ``BODY_MAX_BYTES``.

    Raises:
        RequestError: 413 or 415.
    """
    if request.content_length is not None and request.content_length > BODY_MAX_BYTES:
        raise RequestError("body_too_large", f"at most {BODY_MAX_BYTES} bytes are read")
    if any(value.lower() != "identity" for value in request.headers.getall("Content-Encoding", [])):
        raise RequestError("unsupported_media_type", "send the body without a Content-Encoding")
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise RequestError("unsupported_media_type", "send application/json in UTF-8")


async def _body(request: web.Request) -> tuple[dict[str, Any], list[Fault]]:
    try:
        text = (await request.read()).decode("utf-8")
    except ValueError:
        raise RequestError("malformed_json", "the body is not JSON in UTF-8") from None
    return read_object(text, "the body")


def read_object(text: str, what: str) -> tuple[dict[str, Any], list[Fault]]:
    """
    Read a JSON object whose numbers stay as they were written; gives it with a fault for each name that stands twice.

    Raises:
        RequestError: If it is none; *what* says of what this is told.
    """
    duplicates: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in pairs:
            if name in made:
                duplicates.append(name)
            made[name] = value
        return made

    try:
        data = json.loads(
            text,
            object_pairs_hook=unique,
            parse_int=JsonNumber,
            parse_float=JsonNumber,
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError):
        raise RequestError("malformed_json", f"{what} is not JSON in UTF-8") from None
    if not isinstance(data, dict):
        raise RequestError("malformed_json", f"{what} is not a JSON object")
    faults = [_fault(name, "pointer", "duplicate_field", "stands more than once") for name in dict.fromkeys(duplicates)]
    return data, faults


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _single_values(values: MultiMapping[str] | Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    seen: dict[str, str] = {}
    faults = []
    for name, value in values.items():
        if name in seen:
            faults.append(_fault(name, "parameter", "duplicate_field", "stands more than once"))
        seen[name] = value
    return seen, faults


def faults_of(messages: Any, kind: str, unknown_code: str, name: str = "") -> list[Fault]:
    """Give the faults in marshmallow's nest of messages; a leaf is text, or {"code", "detail"} of a schema of ours."""
    if isinstance(messages, dict) and isinstance(messages.get("code"), str):  # a field of that name has a list
        code = unknown_code if messages["code"] == "unknown" else messages["code"]
        return [_fault(name, kind, code, messages["detail"], messages.get("suggested"))]
    if isinstance(messages, dict):
        return [
            fault
            for key, inner in messages.items()
            for fault in faults_of(inner, kind, unknown_code, f"{name}/{key}" if name else str(key))
        ]
    if isinstance(messages, Iterable) and not isinstance(messages, str):
        return [fault for inner in messages for fault in faults_of(inner, kind, unknown_code, name)]
    return [_fault(name, kind, "invalid_parameter", re.sub(r"\.$", "", str(messages)).lower())]


def _fault(name: str, kind: str, code: str, detail: str, suggested: str | None = None) -> Fault:
    where = name if kind == "parameter" else "/" + "/".join(part.translate(_POINTER_ESCAPES) for part in [name])
    return Fault(where, code, detail, suggested, kind)
