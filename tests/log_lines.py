"""The log's schema, for tests that hold real lines to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

import service

PATH = Path(service.__file__).with_name("log.schema.json")
SCHEMA: Mapping[str, Any] = json.loads(PATH.read_text())
EVENTS = tuple(branch["$ref"].removeprefix("#/$defs/") for branch in SCHEMA["else"]["oneOf"])


@cache
def whole() -> Draft202012Validator:
    """Give what tells whether a line is one of the log's."""
    return Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)


@cache
def branch(event: str | None) -> Draft202012Validator:
    """Give what tells whether a line is one of this event, or for None a library's, and what is wrong with it."""
    part = {"$ref": f"#/$defs/{event or 'library'}", "$defs": SCHEMA["$defs"]}
    return Draft202012Validator(part, format_checker=Draft202012Validator.FORMAT_CHECKER)


def faults(line: Mapping[str, Any]) -> list[str]:
    """Give what is wrong with a line."""
    event = None if "logger" in line else str(line.get("event"))
    if event is not None and event not in EVENTS:
        return [f"{event}: no such event"]
    return [f"{event}: {error.json_path}: {error.message[:200]}" for error in branch(event).iter_errors(line)]


def hold_to_schema(lines: Iterable[Mapping[str, Any]]) -> None:
    """Hold lines of the log to its schema."""
    found = [fault for line in lines for fault in faults(line)]
    assert not found, found[:20]
