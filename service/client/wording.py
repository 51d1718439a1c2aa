"""Say values as the service takes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote as percent_encoded

Amount = Decimal | str | int
"""A number that is exact; a text is sent as it is."""


def amount_text(amount: Amount | None) -> str | None:
    """
    Write an amount, if there is one.

    Raises:
        TypeError: For a float: it has lost digits before it gets here.
    """
    if amount is None or isinstance(amount, str):
        return amount
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int):
        raise TypeError(f"an amount is a Decimal, a text or a whole number, not a {type(amount).__name__}")
    return format(amount, "f") if isinstance(amount, Decimal) else str(amount)


def moment_text(time: datetime | str | None) -> str | None:
    """
    Write a time in UTC, if there is one; a text is sent as it is.

    Raises:
        ValueError: For a time without a zone.
    """
    if time is None or isinstance(time, str):
        return time
    if time.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return time.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def names_text(names: Collection[str] | None) -> str | None:
    """Write names with commas between them, if there are any; a text is sent as it is."""
    return names if names is None or isinstance(names, str) else ",".join(names)


def given(**values: Any) -> Mapping[str, Any]:
    """Keep what was given."""
    return {name: value for name, value in values.items() if value is not None}


def segment(text: str) -> str:
    """Write an id as one segment of a path, whatever it holds."""
    return percent_encoded(text, safe="")
