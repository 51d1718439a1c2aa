"""Write one JSON object per line to one stream, whatever is logged and whoever logs it.

``structlog.get_logger()`` → one processor that makes bytes → one write.  Records of the standard library's logging
(aiohttp, asyncio, ccxt, SQLAlchemy, Alembic, warnings) take the same processor and the same stream.

A log call never raises and never breaks a line: what JSON cannot hold is written as text, and a line that nobody
takes (closed pipe, full disk) is dropped.  As a second line of defence, anything that looks like one of our API keys,
and the value of any key that is named like a credential, is masked.
"""

from __future__ import annotations

import atexit
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from time import time
from typing import Any, BinaryIO
from uuid import UUID

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from service.log_lines import LineWriter
from service.tracing import handled

SERVICE_NAME = "internal-orderbook"
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
DEPTH_MAX = 12
ITEMS_MAX = 1_000
FRAMES_MAX = 20
INTEGERS = range(-(2**63), 2**64)
ORJSON_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_APPEND_NEWLINE

ECS_VERSION = "8.17.0"
ECS_NAMES = {
    "logger": "log.logger",
    "request_id": "http.request.id",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "trace_id": "trace.id",
    "span_id": "span.id",
}

Render = Callable[[WrappedLogger, str, EventDict], bytes]
"""A structlog processor that ends the chain; in place of the logger it may get a record, and takes its time."""


def configure(format: str, level: str, stream: BinaryIO | None = None) -> None:
    """
    Send what structlog and the standard library log to *stream*; may be called again.

    Args:
        format: ``json``, ``console`` or ``ecs``.
        level: ``debug``, ``info``, ``warning`` or ``error``: what is less severe is not written.
        stream: Where bytes go; the process's standard output by default.
    """
    lines = LineWriter(stream or sys.stdout.buffer)
    atexit.register(lines.flush)  # What a loop that ended has left waiting.
    render = RENDERERS[format](lines)
    structlog.configure(
        processors=[_add_request, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,  # costs 1 µs a line, and loggers made before follow
    )
    _adopt_standard_logging(render, lines, logging.getLevelNamesMapping()[level.upper()])


def set_level(level: str) -> None:
    """Write what is at least as severe as *level* from now on, to where ``configure`` said, and in its format."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    number = logging.getLevelNamesMapping()[level.upper()]
    for handler in logging.getLogger().handlers:
        if isinstance(handler, StandardLibraryHandler):
            handler.setLevel(number)
    _set_standard_level(number)


def _add_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Say whose request is being handled, on a line that does not say so itself."""
    request = handled()
    if request is not None:
        event.setdefault("request_id", request.request_id)
        if request.trace_id is not None:
            event.setdefault("trace_id", request.trace_id)
            event.setdefault("span_id", request.span_id)
    return event


# Three formats


def json_lines(lines: LineWriter) -> Render:
    """Make lines of ``timestamp``, ``level``, ``event`` and the rest as it came; ours win over keys of these names."""
    transform = ExceptionDictTransformer(show_locals=False, max_frames=FRAMES_MAX, use_rich=False)

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        head = {
            "timestamp": _timestamp(logger),
            "level": method,
            "event": event.pop("event", ""),
        }
        raised = _exc_info(event.pop("exc_info", None))
        if raised:
            event["exception"] = transform(raised)
        return _encode({**head, **event, **head})

    return render


def ecs_lines(lines: LineWriter) -> Render:
    """Make lines with the names of the Elastic Common Schema; keys it has no name for stand in the object ``iob``."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        record: dict[str, Any] = {
            "@timestamp": _timestamp(logger),
            "log.level": method,
            "message": event.pop("event", ""),
            "ecs.version": ECS_VERSION,
            "service.name": SERVICE_NAME,
        }
        raised = _exc_info(event.pop("exc_info", None))
        if raised:
            record["error.type"] = raised[0].__qualname__
            record["error.message"] = _text(raised[1])
            record["error.stack_trace"] = _traceback(raised)
        own: dict[str, Any] = {}
        for key, value in event.items():
            if key in ECS_NAMES and (key != "status" or type(value) is int):  # an execution has a status too
                record[ECS_NAMES[key]] = value
            else:
                own[key] = value
        if own:
            record["iob"] = own
        return _encode(record)

    return render


def console_lines(lines: LineWriter) -> Render:
    """Make lines for people: coloured on a terminal, one record a line, a traceback indented below it."""
    colours = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
    coloured = lines.isatty()

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        raised = _exc_info(event.pop("exc_info", None))
        title = _printable(_plain(event.pop("event", "")))
        level = f"{method:<8}"
        if coloured and method in colours:
            level = f"{colours[method]}{level}\x1b[0m"
        pairs = [f"{_printable(key)}={_printable(value)}" for key, value in _plain(event).items()]
        text = "  ".join([_timestamp(logger), level, title, " ".join(pairs)]).rstrip()
        if raised:
            text += "".join(f"\n    {_printable(line)}" for line in _mask(_text(_traceback(raised))).splitlines())
        return text.encode() + b"\n"

    return render


RENDERERS: Mapping[str, Callable[[LineWriter], Render]] = {
    "json": json_lines,
    "console": console_lines,
    "ecs": ecs_lines,
}


# What JSON can hold


def _encode(record: dict[str, Any]) -> bytes:
    """Make one line of *record*: as it is where that is harmless, as plain and masked values otherwise."""
    try:
        line = orjson.dumps(record, default=_default, option=ORJSON_OPTIONS)
    except TypeError:  # more than 64 bits, lone surrogates, keys that are no texts, too deep
        return orjson.dumps(_plain(record), option=ORJSON_OPTIONS)
    if len(line) > LINE_MAX or _is_suspicious(line.lower()):
        return orjson.dumps(_plain(record), option=ORJSON_OPTIONS)
    return line


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
    return _text(value)


def _plain(value: object, depth: int = 0) -> Any:
    """Copy *value* as what JSON holds: cut where it is long or deep, masked where it looks like a credential."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool):
        return value
    if type(value) is float or (type(value) is int and value in INTEGERS):
        return value  # what is not finite becomes null
    try:
        if isinstance(value, Mapping) and depth < DEPTH_MAX:
            return dict(_plain_items(value, depth))
        if isinstance(value, list | tuple | set | frozenset) and depth < DEPTH_MAX:
            return _plain_list(value, depth)
    except Exception:  # noqa: BLE001 - whatever a foreign mapping raises: the line matters more
        return _text(value)
    return _mask(_text(value))


def _plain_items(mapping: Mapping[Any, object], depth: int) -> Iterable[tuple[str, Any]]:
    """Copy at most ITEMS_MAX items; a credential's value goes without a look."""
    for key, inner in list(mapping.items())[:ITEMS_MAX]:
        name = _mask(_text(str.__str__(key) if isinstance(key, str) else key))  # multidict's keys are a kind of str
        yield name, MASK if _names_credential(name) else _plain(inner, depth + 1)


def _plain_list(values: Iterable[object], depth: int) -> list[Any]:
    """Copy at most ITEMS_MAX values; a pair that begins with a credential's name is a header."""
    items = list(values)[:ITEMS_MAX]
    if len(items) == 2 and isinstance(items[0], str | bytes):
        [(name, value)] = _plain_items({items[0]: items[1]}, depth)
        return [name, value]
    return [_plain(item, depth + 1) for item in items]


def _names_credential(name: str) -> bool:
    return name.lower().replace("_", "-") in CREDENTIALS


def _text(value: object) -> str:
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
        return f"<{type(value).__name__} without repr>"


def _mask(text: str) -> str:
    """Hide what looks like one of our keys, and what follows the name of a header that carries credentials."""
    if "iob_" in text:
        text = KEY_PATTERN.sub(rf"iob_\1_{MASK}", text)
    return HEADER_PATTERN.sub(rf"\1\2\3{MASK}", text)


def _printable(value: Any) -> str:
    """Write a plain value for a terminal: what would break its line or steer it is escaped."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _timestamp(logger: object) -> str:
    """Write the moment of a record, or now, as RFC 3339 in UTC to the millisecond."""
    seconds, milliseconds = divmod(
        int((logger.created if isinstance(logger, logging.LogRecord) else time()) * 1_000), 1_000
    )
    return f"{_second(seconds)}.{milliseconds:03}Z"


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


ExcInfo = tuple[type[BaseException], BaseException, Any]


def _exc_info(value: object) -> ExcInfo | None:
    """Find the exception that ``exc_info`` stands for: itself, its triple, or True for the one being handled."""
    if isinstance(value, BaseException):
        return type(value), value, value.__traceback__
    if isinstance(value, tuple) and len(value) == 3:
        return _exc_info(value[1]) if isinstance(value[1], BaseException) else None
    return _exc_info(sys.exc_info()) if value else None


def _traceback(raised: ExcInfo) -> str:
    """Write a traceback as text, without local variables."""
    return "".join(traceback.format_exception(*raised, limit=-FRAMES_MAX))


# The standard library's logging


def _adopt_standard_logging(render: Render, lines: LineWriter, level: int) -> None:
    """Make our handler the root's, and set the few loggers right that would say too much."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, StandardLibraryHandler)]:
        root.removeHandler(handler)
    root.addHandler(StandardLibraryHandler(render, lines, level))
    _set_standard_level(level)
    logging.captureWarnings(True)
    logging.getLogger("aiohttp.access").disabled = True  # each request leaves a line of our own
    server = logging.getLogger("aiohttp.server")
    server.filters = [kept for kept in server.filters if not isinstance(kept, MalformedRequestFilter)]
    server.addFilter(MalformedRequestFilter())


def _set_standard_level(level: int) -> None:
    logging.getLogger().setLevel(level)
    # At DEBUG ccxt writes whole requests with their headers, and database drivers every statement with its values.
    for name in ("ccxt.base.exchange", "aiosqlite"):
        logging.getLogger(name).setLevel(max(level, logging.INFO))
    logging.getLogger("sqlalchemy").setLevel(max(level, logging.WARNING))


class StandardLibraryHandler(logging.Handler):
    """Turn a record into the event dict that structlog would have made, and send it the same way."""

    def __init__(self, render: Render, lines: LineWriter, level: int) -> None:
        super().__init__(level)
        self._render = render
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; a message whose arguments do not fit is written without them."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a foreign mistake in a log call, or a foreign __str__
            message = _text(record.msg)
        event = {
            "event": message,
            "logger": record.name,
            "exc_info": record.exc_info,
        }
        level = record.levelname.lower()
        self._lines.msg(self._render(record, level, _add_request(None, level, event)))


class MalformedRequestFilter(logging.Filter):
    """
    Replace aiohttp's reports of unparseable requests by a fixed event.

    Their messages and exceptions quote the lines that could not be parsed, which may hold an API key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Strip the record where its exception comes of aiohttp's parser; let every record pass."""
        from aiohttp.http_exceptions import HttpProcessingError  # whoever logs here has imported it

        error = record.exc_info[1] if record.exc_info else None
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            if isinstance(error, HttpProcessingError):
                record.msg, record.args = "request.malformed", ()
                record.exc_info = record.exc_text = record.stack_info = None
                record.levelno = min(record.levelno, logging.WARNING)
                record.levelname = logging.getLevelName(record.levelno)
                break
            seen.add(id(error))
            error = error.__cause__ or error.__context__
        return True
