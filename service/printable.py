"""Make texts from elsewhere harmless to a terminal: whoever answers may have put there what moves its cursor, or worse.

Pure: no clock, no I/O, no logging.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def printable(text: str) -> str:
    """Put U+FFFD in place of every character that is not shown; line feeds stay, and so does the length."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def printable_values(answer: Any) -> Any:
    """Give a JSON value with all its texts printable, names included."""
    match answer:
        case str():
            return printable(answer)
        case Mapping():
            return {printable(name): printable_values(value) for name, value in answer.items()}
        case list():
            return [printable_values(value) for value in answer]
    return answer
