"""The log's JSON schema: the page's events and keys, the code's, with types that real lines have."""

from __future__ import annotations

import io
import re
from typing import Any, get_args

import pytest
import structlog
from jsonschema import Draft202012Validator

from exchanges.book import Reject
from exchanges.health import State
from exchanges.replay import CUT, DAMAGED
from service import logs
from service.api.problems import CODES
from service.desk.firm import FirmStatus
from service.keys import SCOPES
from service.settings_tables import ServiceSettings
from tests.log_lines import EVENTS, SCHEMA, branch, faults, whole
from tests.test_documentation import ROOT, log_calls, logged_events, rows

STATES = {state.value for state in State}
STATE_KEYS = {"venue", "symbol", "reason", "state_before", "reason_before"}


def own(event):
    """Give a branch's own keys with their types."""
    properties = SCHEMA["$defs"][event]["properties"]
    return {key: kind for key, kind in properties.items() if key not in ("event", "level", "exception")}


def keys(event):
    """Give the keys of an event that its line always has, and those that it may have."""
    needed = set(SCHEMA["$defs"][event].get("required", ())) - {"exception"}
    return needed, set(own(event)) - needed


def levels(event):
    level = SCHEMA["$defs"][event]["properties"]["level"]
    return {level["const"]} if "const" in level else set(level["enum"])


def test_schema_is_one():
    """
    It is valid JSON Schema, draft 2020-12, and every event has its own branch.
    """
    Draft202012Validator.check_schema(SCHEMA)

    assert len(set(EVENTS)) == len(EVENTS)
    assert all({"const": event} == SCHEMA["$defs"][event]["properties"]["event"] for event in EVENTS)
    assert all(SCHEMA["$defs"][event]["unevaluatedProperties"] is False for event in EVENTS)


def test_schema_says_what_the_page_says():
    """
    Events, levels, keys and meanings are those of docs/logs.md.
    """
    listed = {}
    for name, level, cell, meaning in rows("docs/logs.md", r"`[a-z_.]+`"):
        needed, _, optional = cell.partition(", and where they apply")
        always = STATE_KEYS if cell == "the same" else set(re.findall(r"`(\w+)`", needed))
        listed[name.strip("`")] = (set(level.split(", ")), always, set(re.findall(r"`(\w+)`", optional)), meaning)

    assert listed == {event: (levels(event), *keys(event), SCHEMA["$defs"][event]["description"]) for event in EVENTS}


def test_schema_has_the_events_and_keys_of_the_code():
    """
    Whatever the code logs has a branch with its keys, and there is no branch for what it does not log.
    """
    logged = logged_events()
    state_keys = logged.pop("venue.{state}")
    logged |= {f"venue.{state}": state_keys for state in STATES}

    assert logged == {event: keys(event)[0] for event in EVENTS}


def test_tracebacks_are_on_the_lines_that_the_code_logs_them_on():
    """
    A bug's line has its exception, and no other line of ours has one.
    """
    raising = {call.args[0].value for logger, call in log_calls() if logger == "log.exception"}

    assert raising == {event for event in EVENTS if "exception" in SCHEMA["$defs"][event].get("required", ())}
    assert raising == {event for event in EVENTS if "exception" in SCHEMA["$defs"][event]["properties"]}


def test_words_of_the_schema_are_the_program_s():
    """
    Codes, states, checks and reasons are listed as the program has them, so that a misspelt one is found.
    """
    kinds = SCHEMA["$defs"]
    page = (ROOT / "docs/logs.md").read_text().partition("Reasons of venues' states")[2].partition("In a quote's")[0]

    assert list(CODES) == kinds["code"]["enum"]
    assert STATES == set(kinds["state"]["enum"])
    assert [check.value for check in Reject] == kinds["check"]["enum"]
    assert set(re.findall(r"`(\w+)`", page)) - {"http_"} == set(kinds["reason"]["anyOf"][0]["enum"])
    assert {status.value for status in FirmStatus} == set(own("request")["quote_status"]["enum"])
    assert set(SCOPES) == set(own("key.made")["scopes"]["items"]["enum"])
    assert set(get_args(ServiceSettings.model_fields["mode"].annotation)) == set(
        own("service.started")["market_data"]["enum"]
    )
    assert {CUT, DAMAGED} < set(own("replay.ended")["reason"]["enum"])


def test_units_are_in_the_names():
    """
    A key that ends with its unit has the type of that unit.
    """
    for event in EVENTS:
        for key, kind in own(event).items():
            assert key.endswith("_ms") == (kind == {"$ref": "#/$defs/ms"}), (event, key)
            assert key.endswith("_bps") <= ("decimal" in str(kind)), (event, key)
            assert key.endswith("_at") == (kind == {"$ref": "#/$defs/time"}), (event, key)


HEAD = {"timestamp": "2026-11-29T02:20:00.000Z", "level": "warning"}
PAUSED = {**HEAD, "event": "venue.paused", "venue": "okx", "reason": "rate_limited", "pause_ms": 5000}
LIBRARY = {**HEAD, "event": "whatever it says", "logger": "aiohttp.server"}


@pytest.mark.parametrize(
    ("line", "valid"),
    [
        (PAUSED, True),
        (PAUSED | {"request_id": "r1"}, True),
        (PAUSED | {"request_id": "r1", "trace_id": "1" * 32, "span_id": "2" * 16}, True),
        (PAUSED | {"reason": "http_503"}, True),
        (LIBRARY, True),
        # A library may say what is the name of one of our events.
        (LIBRARY | {"event": "request"}, True),
        # Not a line of ours.
        (PAUSED | {"event": "venue.pause"}, False),
        (PAUSED | {"level": "info"}, False),
        (PAUSED | {"pause_s": 5}, False),
        (PAUSED | {"pause_ms": "5000"}, False),
        (PAUSED | {"pause_ms": -1}, False),
        (PAUSED | {"reason": "rate limited"}, False),
        (PAUSED | {"reason": None}, False),
        (PAUSED | {"timestamp": "2026-11-29 02:20:00"}, False),
        (PAUSED | {"request_id": "r 1"}, False),
        (PAUSED | {"request_id": "r1", "trace_id": "0" * 32, "span_id": "2" * 16}, False),
        (PAUSED | {"request_id": "r1", "trace_id": "1" * 32}, False),
        (PAUSED | {"exception": []}, False),
        ({key: value for key, value in PAUSED.items() if key != "venue"}, False),
        (LIBRARY | {"venue": "okx"}, False),
        (HEAD | {"event": "settings.failed", "level": "error"}, False),
        ({"message": "hello"}, False),
        ("hello", False),
    ],
)
def test_schema_takes_lines_of_the_log_and_nothing_else(line: Any, valid: bool):
    """
    What is misspelt, mistyped, missing or too much is no line of the log.
    """
    assert valid == whole().is_valid(line)
    if isinstance(line, dict):
        assert valid == (not faults(line))


def test_whatever_a_traceback_is_made_of_has_a_place_in_the_schema():
    """
    Chains, groups, notes and mistakes of syntax are written as the schema says.
    """
    stream = io.BytesIO()
    logs.configure("json", "info", stream)
    log = structlog.get_logger()

    def deep(left):
        return deep(left - 1) if left else 1 / 0

    def syntax():
        compile("a b", "made up", "exec")

    def chain():
        try:
            deep(50)
        except ZeroDivisionError as error:
            error.add_note("seen")
            raise ExceptionGroup("both", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])]) from error

    for fails in (syntax, chain):
        try:
            fails()
        except Exception:
            log.exception("settings.failed")

    lines = [logs.orjson.loads(line) for line in stream.getvalue().splitlines()]
    assert [[], []] == [faults(line) for line in lines]
    assert [[], []] == [list(whole().iter_errors(line)) for line in lines]
    assert branch("settings.failed").is_valid(lines[0])
