"""Read requests by their schemas, and refuse with everything that is wrong at once.

aiohttp-apispec's validation middleware calls ``ContractParser.parse`` with the schemas that its decorators put on a
handler; the same schemas make the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from marshmallow import Schema, ValidationError
from multidict import MultiMapping

from service.api.fields import JsonNumber
from service.api.reading import Reader, plain_query
from service.errors import Fault, RequestError

BODY_MAX_BYTES = 64 * 1024
FAULTS_MAX = 50
"""So many are told; what is beyond is not even looked for, or 64 KiB of unknown names keep everybody waiting."""
KEY_HEADER = "Idempotency-Key"
_STAND_IN = "-"
"""In place of a header that is wrong, so that its field is not called missing as well."""

_ORDER = (
    "invalid_parameter",
    "unknown_parameter",
    "unknown_field",
    "duplicate_field",
    "missing_parameter",
    "conflicting_parameters",
)
_POINTER_ESCAPES = str.maketrans({"~": "~0", "/": "~1"})


class ContractParser:
    """Load a schema from one part of a request."""

    def __init__(self) -> None:
        self._readers: dict[Schema, Reader] = {}

    async def read_plain(self, request: web.Request) -> dict[str, Mapping[str, Any]] | None:
        """
        Give what the schemas of a request's handler load, by the names under which a request keeps it.

        Returns:
            None where anything about the request is not plain: ``parse`` takes its time then, and says what is wrong.

        Raises:
            RequestError: 400, for a body that is no JSON object.
        """
        handler = request.match_info.handler
        also = getattr(handler, "__also_check__", None)
        loaded: dict[str, Mapping[str, Any]] = {}
        for declared in handler.__schemas__:  # type: ignore[attr-defined]
            schema, location = declared["schema"], declared["location"]
            data = await _plain(request, location)
            values = None if data is None else self._reader(schema).read(data)
            if values is None or (location != "match_info" and also is not None and also(request, data)):
                return None
            loaded[declared["put_into"]] = values
        return loaded

    def _reader(self, schema: Schema) -> Reader:
        reader = self._readers.get(schema)
        if reader is None:
            reader = self._readers[schema] = Reader(schema)
        return reader

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
            faults += _unknown_parameters(request) + _header_faults(request, data)
            kind, unknown_code = "pointer", "unknown_field"
        else:
            values = request.query if location == "querystring" else request.match_info
            data, faults = _single_values(values)
            kind, unknown_code = "parameter", "unknown_parameter"
        try:
            loaded = schema.load(bounded(data, schema))
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
    faults = sorted(faults, key=lambda fault: (_ORDER.index(fault.code), fault.where))[:FAULTS_MAX]
    return RequestError(faults[0].code, faults[0].detail, faults)


def bounded(data: Mapping[str, Any], schema: Schema) -> Mapping[str, Any]:
    """Give what a schema knows of some values, and of what it does not know no more than is told."""
    if len(data) <= FAULTS_MAX:
        return data
    unknown = [name for name in data if name not in schema.fields]
    beyond = set(unknown[FAULTS_MAX:])
    return {name: value for name, value in data.items() if name not in beyond}


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


def names_request(field: str, pattern: re.Pattern[str], form: str) -> Callable[[Handler], Handler]:
    """Let the header ``Idempotency-Key`` stand in for a field of a handler's body that has *pattern*."""

    def mark(handler: Handler) -> Handler:
        handler.__named_by__ = (field, pattern, form)  # type: ignore[attr-defined]
        return handler

    return mark


def _header_faults(request: web.Request, data: dict[str, Any]) -> list[Fault]:
    """Put what ``Idempotency-Key`` says into a body that does not say it itself; tell what is wrong with it."""
    given = set(request.headers.getall(KEY_HEADER, []))
    named_by = getattr(request.match_info.handler, "__named_by__", None)
    if not given or named_by is None:
        return []
    field, pattern, form = named_by
    # A structured field's string stands in quotation marks (draft-ietf-httpapi-idempotency-key-header-07).
    values = {value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value for value in given}
    value = min(values)
    said = data.setdefault(field, value)
    if len(values) > 1:
        return [_fault(KEY_HEADER, "parameter", "duplicate_field", "stands more than once")]
    if not pattern.fullmatch(value):
        data[field] = _STAND_IN if said == value else said
        return [_fault(KEY_HEADER, "parameter", "invalid_parameter", form)]
    if said != value:
        return [_fault(KEY_HEADER, "parameter", "conflicting_parameters", f"differs from {field} in the body")]
    return []


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


async def _plain(request: web.Request, location: str) -> Mapping[str, Any] | None:
    """Give one part of a request as it came; None if something is wrong with it, or not plain."""
    if location == "match_info":
        return request.match_info
    query = request.rel_url.raw_query_string
    if location == "querystring":
        return plain_query(query)
    data, faults = await _body(request)
    return None if query or faults or _header_faults(request, data) else data


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
