"""Make frozen values of JSON messages, as their fields' types say.

Lenient in what may grow: what a message has beyond its fields is left in ``raw``.  Strict in what is needed: a field
that is missing, or of another form, is `Undecodable` with its place.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

M = TypeVar("M", bound="Message")
_Read = Callable[[Any, str], Any]


class Undecodable(ValueError):
    """Say where a message is not what it has to be; never what stands there."""


@dataclass(frozen=True, slots=True)
class Message:
    """Be a message, or a part of one; ``raw`` is all of it as it came, with what this version does not know."""

    raw: Mapping[str, Any] = field(repr=False, compare=False, kw_only=True)


def decode(kind: type[M], raw: object, place: str = "") -> M:
    """
    Make a message of what JSON gave.

    Args:
        kind: The message's class.
        place: Where it stands, for the error's text.

    Raises:
        Undecodable: If something that it needs is missing, or is not what it has to be.
    """
    reader: _Read = _reader(kind)  # type: ignore[arg-type]  # typeshed's Hashable does not know classes.
    message: M = reader(raw, place or kind.__name__)
    return message


@cache
def _reader(kind: Any) -> _Read:
    """Find how a type is read."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = _reader(next(one for one in arguments if one is not types.NoneType))
        return lambda value, place: None if value is None else inner(value, place)
    if origin is Literal:
        return lambda value, place: _need(isinstance(value, str) and value in arguments, value, place)
    if origin is tuple:
        return _list_reader(_reader(arguments[0]))
    if origin is Mapping:
        return _table_reader(_reader(arguments[1]))
    if isinstance(kind, type) and issubclass(kind, Message):
        return _message_reader(kind)
    return _PLAIN[kind]


def _message_reader(kind: type[Message]) -> _Read:
    hints = get_type_hints(kind)
    wanted = [
        (one.name, _reader(hints[one.name]), one.default is MISSING and one.default_factory is MISSING)
        for one in fields(kind)
        if one.name != "raw"
    ]

    def read(value: Any, place: str) -> Message:
        _need(isinstance(value, Mapping), value, place)
        found = {}
        for name, inner, required in wanted:
            if name in value:
                found[name] = inner(value[name], f"{place}.{name}")
            elif required:
                raise Undecodable(f"{place}.{name} is missing")
        return kind(**found, raw=value)

    return read


def _list_reader(inner: _Read) -> _Read:
    def read(value: Any, place: str) -> tuple[Any, ...]:
        _need(isinstance(value, list), value, place)
        return tuple(inner(item, f"{place}[{number}]") for number, item in enumerate(value))

    return read


def _table_reader(inner: _Read) -> _Read:
    def read(value: Any, place: str) -> Mapping[str, Any]:
        _need(isinstance(value, dict), value, place)
        return {name: inner(item, f"{place}.{name}") for name, item in value.items()}

    return read


def _need(right: bool, value: Any, place: str) -> Any:
    if not right:
        raise Undecodable(f"{place} is not what it has to be")
    return value


def _decimal(value: Any, place: str) -> Decimal:
    try:
        number = Decimal(_need(isinstance(value, str), value, place))
    except InvalidOperation:
        raise Undecodable(f"{place} is no number") from None
    return number if number.is_finite() else _need(False, value, place)


def _moment(value: Any, place: str) -> datetime:
    try:
        time = datetime.fromisoformat(_need(isinstance(value, str), value, place))
    except ValueError:
        raise Undecodable(f"{place} is no time") from None
    _need(time.tzinfo is not None, value, place)
    return time.astimezone(UTC)


_PLAIN: Mapping[Any, _Read] = {
    str: lambda value, place: _need(isinstance(value, str), value, place),
    bool: lambda value, place: _need(isinstance(value, bool), value, place),
    int: lambda value, place: _need(isinstance(value, int) and not isinstance(value, bool), value, place),
    Decimal: _decimal,
    datetime: _moment,
}
