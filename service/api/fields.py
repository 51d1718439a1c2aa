"""What stands in a request: types of its fields, each read by one rule, which the OpenAPI document gives too."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from marshmallow import ValidationError, fields

from service.accounting import MONEY_SCALE
from service.keys import (
    ACCOUNT,
    ADDRESSES_MAX,
    LABEL,
    LABEL_FORM,
    PER_S_MAX,
    SCOPES,
    KeyLimits,
    address_ranges,
    nearest_scope,
)
from service.market.symbols import SYMBOL_PATTERN

AMOUNT_PATTERN = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?$"
_NOT_ZERO = r"(?!0(\.0+)?$)"
CLIENT_ORDER_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_AMOUNT = re.compile(AMOUNT_PATTERN[1:-1], re.ASCII)
_BELOW_10000 = r"(0|[1-9][0-9]{0,3})(\.[0-9]{1,12})?"
_CLIENT_ORDER_ID = re.compile(CLIENT_ORDER_ID_PATTERN[1:-1], re.ASCII)
_TIME = re.compile(
    r"[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
    re.ASCII,
)
_VENUE = r"[a-z0-9][a-z0-9_-]{0,31}"
_VENUES = re.compile(f"{_VENUE}(,{_VENUE}){{0,63}}", re.ASCII)


def fault(code: str, detail: str) -> list[dict[str, str]]:
    """Give a message that ``service.api.parsing`` turns into a fault; marshmallow adds lists up, and mixes dicts."""
    return [{"code": code, "detail": detail}]


_MESSAGES: dict[str, Any] = {
    "required": fault("missing_parameter", "is required"),
    "null": fault("invalid_parameter", "must not be null; leave it out"),
}


@dataclass(frozen=True, slots=True)
class JsonNumber:
    """A number in a JSON body as it was written; no amount is one: a float has lost digits before anyone sees it."""

    text: str


class _Text(fields.Field[Any]):
    """A string that is read by a pattern of its own; anything else is one fault."""

    pattern: ClassVar[re.Pattern[str]]
    form: ClassVar[str]
    documented: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, metadata: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Take marshmallow's options; *metadata* adds to what the OpenAPI document says of the type."""
        documented = {"type": "string", **self.documented, **(metadata or {})}
        super().__init__(error_messages=_MESSAGES, metadata=documented, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise ValidationError(fault("invalid_parameter", self.form))
        return self.read(value)

    def read(self, text: str) -> Any:
        """Make a value of a text that has the form."""
        return text


class Amount(_Text):
    """A decimal string, > 0 unless *zero*; loads as an exact ``Decimal``."""

    pattern = _AMOUNT
    form = 'must be a decimal string such as "1.5", at most 12 digits before and 12 after the point'

    documented: ClassVar = {"pattern": AMOUNT_PATTERN, "format": "decimal"}

    def __init__(self, *, zero: bool = False, metadata: Mapping[str, Any] | None = None, **options: Any) -> None:
        pattern = self.documented["pattern"] if zero else f"^{_NOT_ZERO}{self.documented['pattern'][1:]}"
        super().__init__(metadata={"pattern": pattern, **(metadata or {})}, **options)
        self._zero = zero

    def read(self, text: str) -> Decimal:
        """Make an exact number."""
        number = Decimal(text)
        if not number and not self._zero:
            raise ValidationError(fault("invalid_parameter", "must be greater than zero"))
        return number


class Symbol(_Text):
    """``BTC/USDT`` in any of its spellings, not yet looked up."""

    pattern = SYMBOL_PATTERN
    form = "must be a symbol such as BTC/USDT"
    documented: ClassVar = {"pattern": f"^{SYMBOL_PATTERN.pattern}$"}


class MoneyAmount(Amount):
    """An amount as balances keep it: with at most 8 decimals."""

    documented: ClassVar = {
        "pattern": rf"^(0|[1-9][0-9]{{0,11}})(\.[0-9]{{1,{MONEY_SCALE}}}0{{0,{12 - MONEY_SCALE}}})?$",
        "format": "decimal",
    }

    def read(self, text: str) -> Decimal:
        """Make an exact number, and refuse what would be cut."""
        number = super().read(text)
        if len(text.partition(".")[2].rstrip("0")) > MONEY_SCALE:
            raise ValidationError(fault("invalid_parameter", f"must have at most {MONEY_SCALE} decimals"))
        return number


class ClientOrderId(_Text):
    """The client's name for an order."""

    pattern = _CLIENT_ORDER_ID
    form = "must be 1 to 64 of A-Z a-z 0-9 _ -"
    documented: ClassVar = {"pattern": CLIENT_ORDER_ID_PATTERN}


class QuoteId(_Text):
    """An opaque quote id; whether it is genuine is for the desk to say."""

    pattern = re.compile(r"[A-Za-z0-9._-]{1,4096}", re.ASCII)
    form = "must be a quote_id as it was given"
    documented: ClassVar = {"pattern": "^[A-Za-z0-9._-]+$", "maxLength": 4096}


class Moment(_Text):
    """An RFC 3339 time with an offset; loads in UTC."""

    pattern = _TIME
    form = "must be an RFC 3339 time such as 2026-11-01T12:00:00.000Z"
    documented: ClassVar = {"format": "date-time", "pattern": f"^{_TIME.pattern}$"}

    def read(self, text: str) -> datetime:
        """Make a time in UTC."""
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError(fault("invalid_parameter", self.form)) from None


class VenueList(_Text):
    """Comma-separated names of venues; loads sorted, without repeats."""

    pattern = _VENUES
    form = "must be names of venues with commas between them"
    documented: ClassVar = {"pattern": f"^{_VENUES.pattern}$"}

    def read(self, text: str) -> tuple[str, ...]:
        """Make a sorted tuple."""
        return tuple(sorted(set(text.split(","))))


class VenueNames(VenueList):
    """The same in a body, where it may be a list as well."""

    documented: ClassVar = {
        "type": ["array", "string"],
        "items": {"type": "string", "pattern": f"^{_VENUE}$"},
        "minItems": 1,
        "maxItems": 64,
        "pattern": f"^{_VENUES.pattern}$",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if isinstance(value, list) and all(isinstance(name, str) and "," not in name for name in value):
            value = ",".join(value)
        return super()._deserialize(value, attr, data, **kwargs)


class AccountName(_Text):
    """The name of a client's account."""

    pattern = ACCOUNT
    form = "must be 1 to 32 of a-z 0-9 _ -, the first a letter or digit"
    documented: ClassVar = {"pattern": f"^{ACCOUNT.pattern}$"}


class Asset(_Text):
    """The code of an asset."""

    pattern = re.compile(r"[A-Z0-9]{1,20}", re.ASCII)
    form = "must be an asset in upper-case letters and digits"
    documented: ClassVar = {"pattern": "^[A-Z0-9]{1,20}$"}


class Distances(_Text):
    """Comma-separated basis points, each below 10,000; loads as Decimals in the order given."""

    pattern = re.compile(rf"{_AMOUNT.pattern}(,{_AMOUNT.pattern}){{0,19}}", re.ASCII)
    form = "must be up to 20 numbers of basis points with commas between them"
    documented: ClassVar = {"pattern": f"^{_BELOW_10000}(,{_BELOW_10000}){{0,19}}$"}

    def read(self, text: str) -> tuple[Decimal, ...]:
        """Make numbers."""
        distances = tuple(dict.fromkeys(map(Decimal, text.split(","))))
        if max(distances) >= 10_000:
            raise ValidationError(fault("invalid_parameter", "must each be below 10000"))
        return distances


class Choice(_Text):
    """One of some words."""

    pattern = re.compile(r"[a-z_]{1,32}", re.ASCII)
    form = "is not one of the words allowed"

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__(metadata={"enum": list(words), **options.pop("metadata", {})}, **options)
        self._words = words

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if value not in self._words:
            raise ValidationError(fault("invalid_parameter", f"must be one of {', '.join(self._words)}"))
        return str(value)


class Count(_Text):
    """A whole number in a query string."""

    pattern = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
    form = "must be a whole number"

    def __init__(self, most: int, **options: Any) -> None:
        documented = {"type": "integer", "minimum": 1, "maximum": most, **options.pop("metadata", {})}
        super().__init__(metadata=documented, **options)
        self._most = most

    def read(self, text: str) -> int:
        """Make a number in range."""
        if int(text) > self._most:
            raise ValidationError(fault("invalid_parameter", f"must be from 1 to {self._most}"))
        return int(text)


class Milliseconds(fields.Field[Any]):
    """A duration in a body: a whole number."""

    def __init__(self, least: int, most: int, **options: Any) -> None:
        documented = {"type": "integer", "minimum": least, "maximum": most, **options.pop("metadata", {})}
        super().__init__(error_messages=_MESSAGES, metadata=documented, **options)
        self._least, self._most = least, most

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        number = self.read(value)
        if number is None:
            detail = f"must be a whole number from {self._least} to {self._most}"
            raise ValidationError(fault("invalid_parameter", detail))
        return number

    def read(self, value: Any) -> int | None:
        """Give the number, or None if it is none of these."""
        text = value.text if isinstance(value, JsonNumber) else ""
        text = re.sub(r"\.0{1,9}$", "", text, flags=re.ASCII)  # To JSON Schema 100.0 is a whole number.
        if not re.fullmatch(r"[1-9][0-9]{0,9}", text, re.ASCII) or not self._least <= int(text) <= self._most:
            return None
        return int(text)


class Cursor(_Text):
    """What ``next_cursor`` of the page before said; loads as the number that it stands for."""

    pattern = re.compile(r"[0-7][0-9a-f]{15}", re.ASCII)
    form = "must be a next_cursor as it was given"
    documented: ClassVar = {"pattern": f"^{pattern.pattern}$"}

    @staticmethod
    def write(after: int) -> str:
        """Make a cursor."""
        return f"{after:016x}"

    def read(self, text: str) -> int:
        """Make a number again."""
        return int(text, 16)


class KeyCursor(_Text):
    """What ``next_cursor`` of the page before said; loads as the id of that page's last key."""

    pattern = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
    form = Cursor.form
    documented: ClassVar = {"maxLength": 32}

    @staticmethod
    def write(key_id: str) -> str:
        """Make a cursor."""
        return base64.urlsafe_b64encode(f"k{key_id}".encode()).rstrip(b"=").decode()

    def read(self, text: str) -> str:
        """Make an id again."""
        try:
            key_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        except ValueError:
            key_id = ""
        if not re.fullmatch(r"k[0-9A-Za-z]{1,20}", key_id, re.ASCII):
            raise ValidationError(fault("invalid_parameter", self.form))
        return key_id[1:]


class Flag(fields.Field[Any]):
    """``true`` or ``false``: the JSON words in a body, the same words in a query string."""

    def __init__(self, *, in_query: bool = False, description: str = "", **options: Any) -> None:
        """Say whether the words come as text."""
        metadata = {"type": "boolean", "description": description}
        super().__init__(error_messages=_MESSAGES, metadata=metadata, **options)
        self._in_query = in_query

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        if self._in_query and value in ("true", "false"):
            return bool(value == "true")
        raise ValidationError(fault("invalid_parameter", "must be true or false"))


class WholeNumber(Milliseconds):
    """A whole number in a body, 0 among them."""

    def read(self, value: Any) -> int | None:
        """Give the number, or None if it is none of these."""
        zero = isinstance(value, JsonNumber) and re.fullmatch(r"-?0(\.0{1,9})?", value.text, re.ASCII)
        return 0 if zero and not self._least else super().read(value)


class Label(_Text):
    """What a key is for, in its owner's words; no key."""

    pattern = LABEL
    form = LABEL_FORM.replace("a label is", "must be").replace(", begins", ", must begin").replace("and is", "and be")
    documented: ClassVar = {"pattern": f"^{LABEL.pattern}$"}


class _Texts(fields.Field[Any]):
    """A list of strings that is read as a whole; anything else is one fault."""

    form: ClassVar[str]
    documented: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, metadata: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Take marshmallow's options; *metadata* adds to what the OpenAPI document says of the type."""
        documented = {"type": "array", **self.documented, **(metadata or {})}
        super().__init__(error_messages=_MESSAGES, metadata=documented, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise ValidationError(fault("invalid_parameter", self.form))
        return self.read(value)

    def read(self, texts: list[str]) -> tuple[str, ...]:
        """Make a value of a list of texts."""
        return tuple(texts)


class Scopes(_Texts):
    """What a key may do."""

    form = f"must be a list of at least one of {', '.join(SCOPES)}"
    documented: ClassVar = {"items": {"type": "string", "enum": list(SCOPES)}, "minItems": 1}

    def read(self, texts: list[str]) -> tuple[str, ...]:
        """Give the scopes, each of which is one; the nearest is suggested for the first that is not."""
        wrong = [text for text in texts if text not in SCOPES]
        if wrong or not texts:
            near = nearest_scope(wrong[0]) if wrong else None
            raise ValidationError([{"code": "invalid_parameter", "detail": self.form, "suggested": near}])
        return tuple(texts)


class Addresses(_Texts):
    """Ranges of addresses in CIDR notation, IPv4 and IPv6; loads as the ranges are written."""

    form = "must be a list of ranges such as 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32"
    documented: ClassVar = {
        "items": {"type": "string", "examples": ["192.0.2.0/24", "192.0.2.7", "2001:db8::/32"]},
        "maxItems": ADDRESSES_MAX,
    }

    def read(self, texts: list[str]) -> tuple[str, ...]:
        """Give the ranges, once each."""
        try:
            return tuple(map(str, address_ranges(texts)))
        except ValueError as error:
            raise ValidationError(fault("invalid_parameter", str(error))) from None


class Limits(fields.Field[Any]):
    """Requests a second that a key may make, by class."""

    _NAMES: ClassVar = ("quote_per_s", "execute_per_s")

    def __init__(self, **options: Any) -> None:
        number = {"type": "integer", "minimum": 0, "maximum": PER_S_MAX}
        documented = {"type": "object", "properties": dict.fromkeys(self._NAMES, number), "additionalProperties": False}
        documented |= options.pop("metadata", {})
        super().__init__(error_messages=_MESSAGES, metadata=documented, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> KeyLimits:
        one = WholeNumber(0, PER_S_MAX)
        numbers = {name: one.read(value[name]) for name in value} if isinstance(value, dict) else {"": None}
        if numbers.keys() - set(self._NAMES) or None in numbers.values():
            detail = f"must be an object of {' and '.join(self._NAMES)}, whole numbers from 0 to {PER_S_MAX}"
            raise ValidationError(fault("invalid_parameter", detail))
        return KeyLimits(**numbers)


PLAIN_FIELDS = (_Text, _Texts, Milliseconds, Limits, Flag, fields.String)
"""Fields that read a value by themselves, whatever stands beside it; see ``service.api.reading``."""
