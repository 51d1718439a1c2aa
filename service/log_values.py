"""Bring whatever is logged to what a line of JSON can hold: bounded, and without credentials.

Nothing here raises, whatever a foreign value does where it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

MASK = "***"
KEY_PATTERN = re.compile(r"iob_(live|test)_[0-9A-Za-z]+_[0-9A-Za-z]*")
CREDENTIALS = frozenset(
    {
        "api-key",
        "apikey",
        "authorization",
        "cookie",
        "password",
        "pepper",
        "proxy-authorization",
        "secret",
        "set-cookie",
        "x-api-key",
    }
)
HEADER_PATTERN = re.compile(
    r"\b((?:x[-_])?api[-_]?key|(?:proxy[-_])?authorization)"
    r"(['\"]*\s*[:=,(]\s*(?:b(?=['\"]))?['\"]*)((?:bearer|basic|digest)\s+)?[^\s'\",;)}]+",
    re.IGNORECASE,
)
SUSPICIOUS = (b"iob_", b"api", b"authorization", b"cookie", b"password", b"pepper", b"secret")
"""Of which a line must contain one (in lower case) to be worth the slow look for credentials."""

TEXT_MAX = 8_192
LINE_MAX = 16_384
"""A longer one is looked through for what is to be cut ..."""
PLAIN_LINE_MAX = 131_072
"""... and if it is longer than this then, each part of more than ``PART_MAX`` becomes text."""
PART_MAX = 4_096
FRAMES_KEPT = 5
DEPTH_MAX = 12
ITEMS_MAX = 1_000
VALUES_MAX = 10_000
"""Of a line that is looked through, however they are nested."""
INTEGERS = range(-(2**63), 2**64)
ORJSON_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_APPEND_NEWLINE


def encode(record: dict[str, Any]) -> bytes:
    """Make one line of *record*: as it is where that is harmless, as plain and masked values otherwise."""
    try:
        line = orjson.dumps(record, default=_default, option=ORJSON_OPTIONS)
    except TypeError:  # more than 64 bits, lone surrogates, keys that are no texts, too deep
        return _encode_plain(record)
    if len(line) > LINE_MAX or _is_suspicious(line.lower()):
        return _encode_plain(record)
    return line


def _encode_plain(record: dict[str, Any]) -> bytes:
    """Make one line of *record* copied; of one that is too long all the same, what is too long of it is cut as text."""
    copied = plain(record)
    line = orjson.dumps(copied, option=ORJSON_OPTIONS)
    if len(line) <= PLAIN_LINE_MAX:
        return line
    shown: dict[str, Any] = {}
    room = PLAIN_LINE_MAX
    for key, value in copied.items():
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if len(text) > PART_MAX:
            whole = key == "exception" and isinstance(value, list)
            value = _cut_stacks(value) if whole else text[:PART_MAX] + "…"
        room -= len(orjson.dumps({key: value}))
        if room < 0:
            break
        shown[key] = value
    return orjson.dumps(shown, option=ORJSON_OPTIONS)


def _cut_stacks(stacks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave of an exception of thousands what it is itself, and where it was raised."""
    first = stacks[0]
    frames = first["frames"][-FRAMES_KEPT:]
    return [{"exc_type": first["exc_type"], "exc_value": first["exc_value"], "frames": frames}]


def _is_suspicious(line: bytes) -> bool:
    for name in SUSPICIOUS:  # noqa: SIM110 - any() takes three times as long
        if name in line:
            return True
    return False


def _default(value: object) -> object:
    """Write what orjson does not know: tables and lists of other kinds as such, anything else as text."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return text_of(value)


def plain(value: object, depth: int = 0, left: Iterator[int] | None = None) -> Any:
    """
    Copy *value* as what JSON holds: cut where it is long, deep or much, masked where it looks like a credential.

    Args:
        left: Has as many items as there may still be values.
    """
    left = iter(range(VALUES_MAX)) if left is None else left
    if depth > 1 and next(left, None) is None:  # A line's own keys do not count.
        return "…"
    try:
        if isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, bool):
            return value
        if type(value) is float or (type(value) is int and value in INTEGERS):
            return value  # what is not finite becomes null
        if isinstance(value, Mapping) and depth < DEPTH_MAX:
            return dict(_plain_items(value, depth, left))
        if isinstance(value, list | tuple | set | frozenset) and depth < DEPTH_MAX:
            return _plain_list(value, depth, left)
    except Exception:  # noqa: BLE001 - whatever a foreign value raises where it is looked at: the line matters more
        return mask(text_of(value))
    return mask(text_of(value))


def _plain_items(mapping: Mapping[Any, object], depth: int, left: Iterator[int]) -> Iterable[tuple[str, Any]]:
    """Copy at most ITEMS_MAX items; a credential's value goes without a look."""
    for key, inner in list(mapping.items())[:ITEMS_MAX]:
        name = mask(text_of(str.__str__(key) if isinstance(key, str) else key))  # multidict's keys are a kind of str
        yield name, MASK if _names_credential(name) else plain(inner, depth + 1, left)


def _plain_list(values: Iterable[object], depth: int, left: Iterator[int]) -> list[Any]:
    """Copy at most ITEMS_MAX values; a pair that begins with a credential's name is a header."""
    items = list(values)[:ITEMS_MAX]
    if len(items) == 2 and isinstance(items[0], str | bytes):
        [(name, value)] = _plain_items({items[0]: items[1]}, depth, left)
        return [name, value]
    return [plain(item, depth + 1, left) for item in items]


def _names_credential(name: str) -> bool:
    return name.lower().replace("_", "-") in CREDENTIALS


def text_of(value: object) -> str:
    """Return a text that UTF-8 can hold, for any value at all."""
    try:
        if type(value) is str:
            text = value
        elif isinstance(value, bytes | bytearray):
            text = value[:TEXT_MAX].decode("utf-8", "backslashreplace")
        elif isinstance(value, Decimal | BaseException | UUID):
            text = str(value)
        elif isinstance(value, date):
            text = value.isoformat()
        else:
            text = repr(value)
        return text[:TEXT_MAX].encode("utf-8", "backslashreplace").decode() + ("…" if len(text) > TEXT_MAX else "")
    except Exception:  # noqa: BLE001 - whatever a foreign __repr__ raises: the line matters more
        return f"<{class_name(value)} without repr>"


def class_name(value: object) -> str:
    """Name a value's class, whatever that class makes of its name."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def mask(text: str) -> str:
    """Hide what looks like one of our keys, and what follows the name of a header that carries credentials."""
    if "iob_" in text:
        text = KEY_PATTERN.sub(rf"iob_\1_{MASK}", text)
    return HEADER_PATTERN.sub(rf"\1\2\3{MASK}", text)
