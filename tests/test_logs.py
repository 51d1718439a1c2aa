"""The log: one line of JSON per record, whatever is in it, and no credential in any of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, InvalidHeader
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from service import logs
from service.log_lines import LINES_TOGETHER_MAX
from service.tracing import handle

ROOT = Path(__file__).parent.parent
KEY = "iob_live_a1b2c3d4e5_" + "S3cret" * 8
LOCAL = "a local variable"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


pytestmark = pytest.mark.usefixtures("logging_as_before")


@pytest.fixture
def written() -> Callable[[], list[dict[str, Any]]]:
    """Log JSON to memory, and return what has been written so far."""
    stream = io.BytesIO()
    logs.configure("json", "info", stream)
    return lambda: parsed(stream.getvalue())


def parsed(data: bytes) -> list[dict[str, Any]]:
    """Parse each line on its own, strictly."""
    assert not data or data.endswith(b"\n")
    return [orjson.loads(line) for line in data.split(b"\n")[:-1]]


def lines_of(format: str, log: Callable[[Any], object], level: str = "info") -> bytes:
    """Return what *log* writes when called with a logger."""
    stream = io.BytesIO()
    logs.configure(format, level, stream)
    log(structlog.get_logger())
    return stream.getvalue()


class Raising:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Hidden(str):
    """A text that hides itself where it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Hidden(…)"


@dataclass
class Credentials:
    """A value with a field that is not to be shown."""

    name: str = "desk"
    word: str = field(default="hunter2", repr=False)


class Side(StrEnum):
    """A side."""

    BUY = "buy"


class Step(IntEnum):
    """A step."""

    ONE = 1


class Breaking(Mapping[str, int]):
    """A table that cannot be read."""

    def __getitem__(self, key: str) -> int:
        """Fail."""
        raise RuntimeError("no items")

    def __iter__(self) -> Iterator[str]:
        """Fail."""
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        """Fail."""
        raise RuntimeError("no length")

    def __repr__(self) -> str:
        return "Breaking()"


def itself() -> list[Any]:
    """Return a list that contains itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


def nested(depth: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_line_begins_with_time_level_and_event(written: Callable[[], list[dict[str, Any]]]) -> None:
    """
    A person who scrolls finds the time, the level and the event first, then the rest as it was given.
    """
    before = datetime.now(UTC)
    structlog.get_logger().info("venue.live", venue="kraken", age_ms=12)

    (line,) = written()
    assert ["timestamp", "level", "event", "venue", "age_ms"] == list(line)
    assert ("info", "venue.live", "kraken", 12) == (line["level"], line["event"], line["venue"], line["age_ms"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert abs((datetime.fromisoformat(line["timestamp"]) - before).total_seconds()) < 5


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.10"), "0.10"),
        (10**30, "1" + "0" * 30),
        (2**64 - 1, 2**64 - 1),
        (float("nan"), None),
        (float("-inf"), None),
        ({1: 2, None: 3}, {"1": 2, "None": 3}),
        (b"\xffab", "\\xffab"),
        ("\ud800", "\\ud800"),
        ({"\ud800": 1}, {"\\ud800": 1}),
        (Raising(), "<Raising without repr>"),
        ([Raising(), 10**30], ["<Raising without repr>", "1" + "0" * 30]),
        (10**5000, "<int without repr>"),
        (Side.BUY, "buy"),
        ([Side.BUY, Step.ONE, 10**30], ["buy", 1, "1" + "0" * 30]),
        (("a", 1), ["a", 1]),
        ({"a"}, ["a"]),
        (CIMultiDict(a="b"), {"a": "b"}),
        (Hidden("hunter2"), "Hidden(…)"),
        (Credentials(), "Credentials(name='desk')"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ([datetime(2026, 1, 2, tzinfo=UTC), 10**30], ["2026-01-02T00:00:00+00:00", "1" + "0" * 30]),
        (ValueError("why"), "why"),
        ("two\nlines\r\u2028", "two\nlines\r\u2028"),
        (Breaking(), "Breaking()"),
        ("x" * 20_000, "x" * 8192 + "…"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_that_json_does_not_know_is_written_as_text(
    written: Callable[[], list[dict[str, Any]]], value: object, expected: object
) -> None:
    """
    Whatever is logged gives a line; nothing is raised at the caller.
    """
    structlog.get_logger().info("odd", value=value)

    (line,) = written()
    assert expected == line["value"]


@pytest.mark.parametrize("value", [itself(), nested(100), nested(5000)], ids=["itself", "100", "5000"])
def test_value_without_end_is_cut(written: Callable[[], list[dict[str, Any]]], value: object) -> None:
    """
    A value that contains itself or goes very deep gives a line of bounded length.
    """
    structlog.get_logger().info("deep", value=value)

    (line,) = written()
    assert "deep" == line["event"]
    assert len(json.dumps(line)) < 30_000


TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates too
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.decimals()
    | st.datetimes()
    | st.binary()
    | TEXTS
    | st.builds(Raising)
    | st.builds(Credentials),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(TEXTS | st.integers() | st.none(), inner),
    max_leaves=12,
)


@given(
    st.sampled_from(["json", "ecs", "console"]),
    TEXTS,
    st.dictionaries(
        TEXTS | st.sampled_from(["level", "timestamp", "exc_info", "status"]),
        ANYTHING,
        max_size=6,
    ),
)
def test_any_event_gives_exactly_one_line(format: str, event: str, values: dict[str, Any]) -> None:
    """
    No name and no value, however odd, raises, breaks a line or makes one that is not JSON.
    """
    stream = io.BytesIO()
    render = logs.RENDERERS[format](logs.LineWriter(stream))

    line = render(None, "info", {**values, "event": event})

    assert b"\n" == line[-1:]
    assert 1 == line.count(b"\n")
    if format == "console":
        assert "Z  info" in line.decode()
        assert all(char.isprintable() for char in line.decode()[:-1])
    else:
        record = orjson.loads(line)
        assert "info" == record["level" if format == "json" else "log.level"]


MASKED = "iob_live_***"


@pytest.mark.parametrize("format", ["json", "ecs", "console"])
@pytest.mark.parametrize(
    "values",
    [
        {"note": f"got {KEY} from a client"},
        {"note": KEY.replace("live", "test")},
        {"deep": [{"x": (KEY,)}]},
        {"deep": {KEY: 1}},
        {"raw": KEY.encode()},
        {"headers": {"X-API-Key": "S3cret"}},
        {"headers": {"x_api_key": "S3cret"}},
        {"headers": {b"Authorization": b"S3cret"}},
        {"headers": [("Authorization", "Bearer S3cret")]},
        {"headers": CIMultiDict({"Proxy-Authorization": "S3cret"})},
        {"headers": "{'X-Api-Key': 'S3cret', 'a': 'b'}"},
        {"note": "Authorization: Bearer S3cret"},
        {"note": "(b'x-api-key', b'S3cret')"},
        {"headers": [[b"X-Api-Key", {"a": "S3cret"}]]},
        {"authorization": "S3cret"},
        {"api_key": ["S3cret"]},
        {"error": ValueError(KEY)},
        {"big": 10**30, "note": KEY},
        {"long": "x" * 8190 + KEY},
    ],
)
def test_no_credential_reaches_the_log(format: str, values: dict[str, Any]) -> None:
    """
    A key that was logged by mistake is masked, wherever in the record it stands.
    """
    line = lines_of(format, lambda log: log.warning("oops", **values))

    assert b"oops" in line
    assert b"***" in line or "long" in values
    assert b"S3cret" not in line


@pytest.mark.parametrize("format", ["json", "ecs", "console"])
def test_no_credential_in_event_or_traceback(format: str) -> None:
    """
    Neither the event's own text nor that of an exception, its notes or its causes shows a key.
    """

    def log(logger: Any) -> None:
        try:
            try:
                raise KeyError(KEY)
            except KeyError as error:
                raise ValueError(f"bad {KEY}") from error
        except ValueError as error:
            error.add_note(f"seen {KEY}")
            logger.exception(f"failed with {KEY}")

    line = lines_of(format, log)

    assert b"S3cret" not in line
    assert 3 <= line.count(b"iob_live_***")


@pytest.mark.parametrize("text", ["authorization required", "api keys were revoked", "iob_live_", "the secret is out"])
def test_ordinary_words_are_left_alone(written: Callable[[], list[dict[str, Any]]], text: str) -> None:
    """
    Masking does not eat sentences.
    """
    structlog.get_logger().info(text)

    assert text == written()[0]["event"]


def test_traceback_has_frames_and_no_locals(written: Callable[[], list[dict[str, Any]]]) -> None:
    """
    Where it failed is logged; what the variables held is not.
    """

    def deep(depth: int) -> None:
        kept = LOCAL + "!"
        if not depth:
            raise ValueError(f"two\nlines {len(kept)}")
        deep(depth - 1)

    try:
        deep(50)
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = written()
    (stack,) = line["exception"]
    assert ("error", "ValueError", "two\nlines 17") == (line["level"], stack["exc_type"], stack["exc_value"])
    assert 21 == len(stack["frames"])
    assert "deep" == stack["frames"][-1]["name"]
    assert LOCAL + "!" not in json.dumps(line)


def test_ecs_line_has_the_names_of_the_schema() -> None:
    """
    What a search engine knows by name stands under that name, everything else in an object of ours.
    """

    def log(logger: Any) -> None:
        try:
            raise ValueError("why")
        except ValueError:
            logger.exception("request", status=500, method="GET", symbol="BTC/USDT")
        logger.info("execution", status="rejected")

    first, second = parsed(lines_of("ecs", log))

    assert ("error", "request", "internal-orderbook") == (first["log.level"], first["message"], first["service.name"])
    assert first["@timestamp"].endswith("Z")
    assert ("ValueError", "why") == (first["error.type"], first["error.message"])
    assert first["error.stack_trace"].startswith("Traceback")
    assert (500, "GET", {"symbol": "BTC/USDT"}) == (
        first["http.response.status_code"],
        first["http.request.method"],
        first["iob"],
    )
    assert {"status": "rejected"} == second["iob"]


def test_traceback_as_text_is_bounded() -> None:
    """
    A runaway recursion leaves the last frames, not thousands.
    """

    def ping(depth: int) -> None:
        pong(depth)

    def pong(depth: int) -> None:
        if not depth:
            raise ValueError("why")
        ping(depth - 1)

    def log(logger: Any) -> None:
        try:
            ping(50)
        except ValueError:
            logger.exception("failed")

    (line,) = parsed(lines_of("ecs", log))
    assert 20 == line["error.stack_trace"].count("File ")


def test_console_line_is_plain_text() -> None:
    """
    Without a terminal there are no colours, and what could steer one is escaped.
    """
    line = lines_of("console", lambda log: log.warning("a\nb\x1b[31m", venue="kraken", n=[1]), "debug").decode()

    assert re.fullmatch(r"\S+Z  warning   a\\nb\\x1b\[31m  venue=kraken n=\[1\]\n", line)


def test_console_traceback_stands_indented_below_its_line() -> None:
    """
    A person reads the traceback as Python writes it.
    """

    def log(logger: Any) -> None:
        try:
            raise ValueError("why\x1b[31m")
        except ValueError:
            logger.exception("failed")

    first, second, *rest = lines_of("console", log).decode().splitlines()

    assert first.endswith("error     failed")
    assert "    Traceback (most recent call last):" == second
    assert "    ValueError: why\\x1b[31m" == rest[-1]


class Terminal(io.BytesIO):
    """A stream that a person watches."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_console_is_coloured_on_a_terminal() -> None:
    """
    A warning stands out for whoever watches.
    """
    stream = Terminal()
    logs.configure("console", "info", stream)
    structlog.get_logger().warning("venue.stale")

    assert b"\x1b[33mwarning" in stream.getvalue()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
@pytest.mark.parametrize("make", [structlog.get_logger, lambda: logging.getLogger("library")])
def test_level_holds_for_both_kinds_of_loggers(make: Callable[[], Any], level: str, expected: list[str]) -> None:
    """
    What is less severe than the level is not written, whoever logs it.
    """

    def log(_: Any) -> None:
        for name in ("debug", "info", "warning", "error"):
            getattr(make(), name)("x")

    assert expected == [line["level"] for line in parsed(lines_of("json", log, level))]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(10, "debug"), (15, "debug"), (25, "info"), (39, "warning"), (45, "error"), (60, "critical")],
)
def test_level_that_a_library_has_made_up_is_written_as_one_of_ours(number: int, expected: str) -> None:
    """
    Whoever sorts lines by their level finds one of five words there, the nearest that is no more severe.
    """
    [line] = parsed(lines_of("json", lambda _: logging.getLogger("library").log(number, "x"), "debug"))

    assert expected == line["level"]


@pytest.mark.parametrize("make", [structlog.get_logger, lambda: logging.getLogger("library")])
def test_level_alone_can_be_changed(make: Callable[[], Any]) -> None:
    """
    Another level counts at once for all loggers; the format and the stream stay as they are.
    """
    stream = io.BytesIO()
    logs.configure("ecs", "info", stream)
    log = make()
    for level in ("warning", "debug", "info"):
        logs.set_level(level)
        for name in ("debug", "info", "warning"):
            getattr(log, name)(f"{name} at {level}")

    assert [
        "warning at warning", "debug at debug", "info at debug", "warning at debug", "info at info", "warning at info"
    ] == [line["message"] for line in parsed(stream.getvalue())]  # fmt: skip
    assert logging.WARNING == logging.getLogger("sqlalchemy").level


def test_logger_made_before_follows_the_new_settings() -> None:
    """
    A module's logger, made when the module was imported, writes to where the settings say.
    """
    log = structlog.get_logger()
    first, second = io.BytesIO(), io.BytesIO()
    logs.configure("json", "info", first)
    log.info("one")
    logs.configure("json", "info", second)
    log.info("two")
    logging.getLogger("library").info("three")

    assert ["one"] == [line["event"] for line in parsed(first.getvalue())]
    assert ["two", "three"] == [line["event"] for line in parsed(second.getvalue())]


def test_context_is_on_lines_of_both_kinds(written: Callable[[], list[dict[str, Any]]]) -> None:
    """
    Whose request is being handled stands on every line logged meanwhile, and on none logged afterwards.
    """

    def handle_one(request_id: str, *traceparents: str) -> None:
        handled = handle(request_id, traceparents)
        structlog.get_logger().info("ours")
        logging.getLogger("library").info("theirs")
        handled.over = True
        structlog.get_logger().info("after")

    handle_one("r1")
    handle_one("r2", f"00-{TRACE}-{SPAN}-01")

    ids = [(line.get("request_id"), line.get("trace_id"), line.get("span_id")) for line in written()]
    nobody = (None, None, None)
    assert [*[("r1", None, None)] * 2, nobody, *[("r2", TRACE, SPAN)] * 2, nobody] == ids


# The standard library's logging


def test_record_of_a_library_is_a_line_like_ours(written: Callable[[], list[dict[str, Any]]]) -> None:
    """
    Messages of aiohttp and ccxt can be searched like our own.
    """
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("sqlalchemy.pool").exception("lost %s\nconnection", "a")

    (line,) = written()
    assert ["timestamp", "level", "event", "logger", "exception"] == list(line)
    assert ("error", "lost a\nconnection", "sqlalchemy.pool") == (line["level"], line["event"], line["logger"])
    assert "ValueError" == line["exception"][0]["exc_type"]


def test_record_keeps_the_time_it_was_made(written: Callable[[], list[dict[str, Any]]]) -> None:
    """
    A record that waited in a queue shows when it happened.
    """
    record = logging.makeLogRecord({"msg": "x", "levelno": 30, "levelname": "WARNING", "created": 1_750_000_000.1239})
    logging.getLogger().handle(record)

    assert "2025-06-15T15:06:40.123Z" == written()[0]["timestamp"]


def logs_handler() -> logging.Handler:
    """Return the handler that was put in place."""
    return next(each for each in logging.getLogger().handlers if isinstance(each, logs.StandardLibraryHandler))


@pytest.mark.parametrize("arguments", [("only one",), (Raising(), "x")])
def test_record_with_wrong_arguments_is_still_a_line(
    written: Callable[[], list[dict[str, Any]]], capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...]
) -> None:
    """
    A library's mistake in a log call costs the arguments, not the line, and says nothing on stderr.
    """
    library = logging.getLogger("library")
    library.handlers = [logs_handler()]
    library.propagate = False  # pytest's own handler raises, which ours must not
    try:
        library.warning("%s of %s", *arguments)
    finally:
        library.handlers, library.propagate = [], True

    assert "%s of %s" == written()[0]["event"]
    assert "" == capsys.readouterr().err


def test_warning_is_a_line() -> None:
    """
    A deprecation is a line on the log, not stray text on stderr.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        (line,) = parsed(lines_of("json", lambda _: warnings.warn("old ways", stacklevel=1)))
        logging.captureWarnings(False)

    assert ("warning", "py.warnings") == (line["level"], line["logger"])
    assert "UserWarning: old ways" in line["event"]


@pytest.mark.parametrize(
    ("name", "lowest"),
    [
        # Whole requests, with their headers.
        ("ccxt.base.exchange", "info"),
        # Statements, with their values.
        ("sqlalchemy.engine.Engine", "warning"),
        ("aiosqlite", "info"),
        # A line per request is written by us.
        ("aiohttp.access", None),
    ],
)
def test_libraries_never_say_too_much(name: str, lowest: str | None) -> None:
    """
    Even at level debug no library writes headers, statements or a second line per request.
    """

    def log(_: Any) -> None:
        for level in ("debug", "info", "warning"):
            getattr(logging.getLogger(name), level)("x")

    lines = parsed(lines_of("json", log, "debug"))

    assert lowest == (lines[0]["level"] if lines else None)


async def test_malformed_request_leaves_no_value_in_the_log(
    written: Callable[[], list[dict[str, Any]]], aiohttp_server: Callable[..., Any]
) -> None:
    """
    A request that cannot be parsed may hold an API key; the log says that it came, and nothing of it.
    """
    server: TestServer = await aiohttp_server(web.Application())
    for request in (
        b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: S3cret\x00\x01\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX API Key S3cret\r\n\r\n",
        b"GET /\x00S3cret HTTP/9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"S3cret" * 5000 + b"\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(request)
        assert b" 400 " in await reader.readline()
        writer.close()

    lines = written()
    assert [("request.malformed", "warning", "aiohttp.server")] * 4 == [
        (line["event"], line["level"], line["logger"]) for line in lines
    ]
    assert all(line.keys() == {"timestamp", "level", "event", "logger"} for line in lines)


def test_exception_caused_by_the_parser_is_stripped_and_others_are_not(
    written: Callable[[], list[dict[str, Any]]],
) -> None:
    """
    Only what aiohttp's parser raised is taken out; a fault of ours keeps its traceback.
    """
    server = logging.getLogger("aiohttp.server")
    for error in (InvalidHeader(b"S3cret"), HttpProcessingError(message="S3cret"), ZeroDivisionError("ours")):
        server.error("Error from %s", "S3cret", exc_info=error)
    wrapped = RuntimeError("body S3cret")
    wrapped.__cause__ = InvalidHeader("S3cret")
    server.error("Unhandled", exc_info=wrapped)

    lines = written()
    assert ["request.malformed", "request.malformed", "Error from S3cret", "request.malformed"] == [
        line["event"] for line in lines
    ]
    assert [False, False, True, False] == ["exception" in line for line in lines]


def test_malformed_requests_stay_silent_above_their_level() -> None:
    """
    They are the caller's fault, so an operator who wants only errors does not see them.
    """

    def log(_: Any) -> None:
        logging.getLogger("aiohttp.server").error("x", exc_info=InvalidHeader("S3cret"))

    assert b"" == lines_of("json", log, "error")


# The stream


class Reluctant(io.RawIOBase):
    """An unbuffered stream that takes as many bytes as the script says, or raises what stands there."""

    def __init__(self, *script: int | Exception | None) -> None:
        self.script = list(script)
        self.taken = b""

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: Any) -> int | None:
        """Follow the script, then take everything."""
        step = self.script.pop(0) if self.script else len(data)
        if isinstance(step, Exception):
            raise step
        self.taken += bytes(data[:step]) if step else b""
        return step


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # All at once.
        ([], [1, 2]),
        # A stream that takes little at a time gets the rest.
        ([3, 4], [1, 2]),
        # A full disk costs lines, never the caller.
        ([FULL], [2]),
        ([FULL, FULL], []),
        # A line that was cut does not spoil the next one.
        ([5, FULL], ["torn", 2]),
        ([5, None], ["torn", 2]),
        ([None], [2]),
        ([ValueError("closed")], [2]),
        ([BlockingIOError(11, "again", 0)], [2]),
        ([BlockingIOError(11, "again", 7)], ["torn", 2]),
    ],
)
def test_stream_that_refuses_costs_lines_and_nothing_else(script: list[Any], expected: list[Any]) -> None:
    """
    Trouble with the log never reaches the caller, and the lines that arrive are whole.
    """
    stream = Reluctant(*script)
    if script and isinstance(script[0], BlockingIOError):
        stream.taken = b'{"n":1}'[: script[0].characters_written]  # what the error says was taken
    logs.configure("json", "info", stream)  # type: ignore[arg-type]  # raw, as stdout is under python -u
    log = structlog.get_logger()
    log.info("x", n=1)
    log.info("x", n=2)

    found = [
        orjson.loads(line)["n"] if line.endswith(b"}") and line.startswith(b'{"timestamp"') else "torn"
        for line in stream.taken.splitlines()
    ]
    assert expected == found


def test_closed_stream_is_ignored() -> None:
    """
    Lines logged after the stream was closed go nowhere.
    """
    stream = io.BytesIO()
    logs.configure("json", "info", stream)
    stream.close()

    structlog.get_logger().info("x")
    logging.getLogger("library").warning("x")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_process_survives_the_end_of_its_reader(unbuffered: str) -> None:
    """
    When the program that reads our log ends, the service goes on, and ends cleanly when it is told to.
    """
    code = "import sys, structlog; from service import logs\n"
    code += "logs.configure('json', 'info'); log = structlog.get_logger()\n"
    code += "log.info('first')\nsys.stdin.readline()\nfor n in range(5000): log.info('x', n=n)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"first" in process.stdout.readline()
    process.stdout.close()
    process.stdout = None
    _, errors = process.communicate(b"\n", timeout=30)

    assert (0, b"") == (process.returncode, errors)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("buffering", [0, -1])
def test_full_disk_does_not_reach_the_caller(buffering: int) -> None:
    """
    A disk without room costs the lines.
    """
    stream = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering)
    logs.configure("json", "info", stream)
    for _ in range(1000):
        structlog.get_logger().info("x" * 100)
    with pytest.raises(OSError, match="No space") if buffering else Path(os.devnull).open():
        stream.close()


class Counting(io.BytesIO):
    """A stream that counts how often it is written to."""

    writes = 0

    def write(self, data: Any) -> int:
        """Count."""
        self.writes += 1
        return super().write(data)


def test_lines_of_one_turn_of_the_loop_are_written_together_and_in_order() -> None:
    """
    A busy loop asks the system once for many lines; a warning waits for nothing, nor does what was logged before it.
    """
    stream = Counting()
    logs.configure("json", "info", stream)
    log = structlog.get_logger()

    async def turns() -> list[int]:
        seen = []
        for number in range(3):
            log.info("a", n=number)
        seen.append(len(parsed(stream.getvalue())))
        await asyncio.sleep(0)
        seen.append(len(parsed(stream.getvalue())))
        log.info("a", n=3)
        log.warning("a", n=4)
        seen.append(len(parsed(stream.getvalue())))
        for number in range(5, 5 + LINES_TOGETHER_MAX):
            log.info("a", n=number)
        seen.append(len(parsed(stream.getvalue())))
        log.info("a", n=5 + LINES_TOGETHER_MAX)
        return seen

    assert [0, 3, 5, 5 + LINES_TOGETHER_MAX] == asyncio.run(turns())
    assert list(range(6 + LINES_TOGETHER_MAX)) == [line["n"] for line in parsed(stream.getvalue())]
    assert 5 == stream.writes


def test_lines_that_wait_when_the_process_ends_are_written() -> None:
    """
    A loop that is abandoned has left its last lines behind; they are written on the way out.
    """
    code = "import asyncio, structlog\nfrom service import logs\nlogs.configure('json', 'info')\n"
    code += "async def end():\n    structlog.get_logger().info('last')\n    raise SystemExit(3)\n"
    code += "loop = asyncio.new_event_loop()\nloop.run_until_complete(end())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)

    assert (3, ["last"]) == (ended.returncode, [line["event"] for line in parsed(ended.stdout)])


def test_threads_do_not_mix_their_lines() -> None:
    """
    Lines that many threads write at once stay whole, and none is lost.
    """
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", 0) as stream:
        logs.configure("json", "info", stream)

        def work(number: int) -> None:
            for count in range(100):
                structlog.get_logger().info("x" * 3000, number=number, count=count)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        data = bytearray()
        reader = threading.Thread(target=lambda: data.extend(iter_pipe(reading)))
        for thread in [*threads, reader]:
            thread.start()
        for thread in threads:
            thread.join()
    reader.join()

    assert {(n, c) for n in range(8) for c in range(100)} == {
        (line["number"], line["count"]) for line in parsed(bytes(data))
    }


def iter_pipe(reading: int) -> bytes:
    """Read a pipe to its end."""
    with os.fdopen(reading, "rb") as stream:
        return stream.read()


def test_warning_from_the_collector_inside_a_write_does_not_deadlock() -> None:
    """
    An object that warns when it is thrown away may do so while a line is being written.
    """

    class Warning_(io.BytesIO):
        busy = False

        def write(self, data: Any) -> int:
            if not self.busy:
                self.busy = True
                logging.getLogger("py.warnings").warning("unclosed")
            return super().write(data)

    stream = Warning_()
    logs.configure("json", "info", stream)
    worker = threading.Thread(target=lambda: structlog.get_logger().info("x"), daemon=True)
    worker.start()
    worker.join(5)

    assert not worker.is_alive()
    assert ["unclosed", "x"] == [line["event"] for line in parsed(stream.getvalue())]


def test_standard_output_is_the_default(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """
    Without a stream, lines go to where standard output goes at that moment.
    """
    logs.configure("json", "info")
    structlog.get_logger().info("x")

    assert "x" == parsed(capsysbinary.readouterr().out)[0]["event"]
