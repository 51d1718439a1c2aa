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
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from service.log_lines import LineWriter
from service.log_values import class_name, encode, mask, plain, text_of
from service.tracing import handled

SERVICE_NAME = "internal-orderbook"
FRAMES_MAX = 20

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
    render = unfailing(RENDERERS[format](lines))
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


def _title(event: EventDict) -> str:
    """Take a line's event out of it; it is a text, whatever was given for one."""
    title = event.pop("event", "")
    return title if type(title) is str else text_of(title)


# Three formats


def json_lines(lines: LineWriter) -> Render:
    """Make lines of ``timestamp``, ``level``, ``event`` and the rest as it came; ours win over keys of these names."""
    transform = ExceptionDictTransformer(show_locals=False, max_frames=FRAMES_MAX, use_rich=False)

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        head = {
            "timestamp": _timestamp(logger),
            "level": method,
            "event": _title(event),
        }
        raised = _exc_info(event.pop("exc_info", None))
        if raised:
            event["exception"] = _stacks(transform, raised)
        return encode({**head, **event, **head})

    return render


def ecs_lines(lines: LineWriter) -> Render:
    """Make lines with the names of the Elastic Common Schema; keys it has no name for stand in the object ``iob``."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        record: dict[str, Any] = {
            "@timestamp": _timestamp(logger),
            "log.level": method,
            "message": _title(event),
            "ecs.version": ECS_VERSION,
            "service.name": SERVICE_NAME,
        }
        raised = _exc_info(event.pop("exc_info", None))
        if raised:
            record["error.type"] = type.__dict__["__qualname__"].__get__(raised[0])  # whatever the class makes of it
            record["error.message"] = text_of(raised[1])
            record["error.stack_trace"] = _traceback(raised)
        own: dict[str, Any] = {}
        for key, value in event.items():
            if key in ECS_NAMES and (key != "status" or type(value) is int):  # an execution has a status too
                record[ECS_NAMES[key]] = value
            else:
                own[key] = value
        if own:
            record["iob"] = own
        return encode(record)

    return render


def console_lines(lines: LineWriter) -> Render:
    """Make lines for people: coloured on a terminal, one record a line, a traceback indented below it."""
    colours = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
    coloured = lines.isatty()

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        raised = _exc_info(event.pop("exc_info", None))
        title = _printable(plain(event.pop("event", "")))
        level = f"{method:<8}"
        if coloured and method in colours:
            level = f"{colours[method]}{level}\x1b[0m"
        pairs = [f"{_printable(key)}={_printable(value)}" for key, value in plain(event).items()]
        text = "  ".join([_timestamp(logger), level, title, " ".join(pairs)]).rstrip()
        if raised:
            text += "".join(f"\n    {_printable(line)}" for line in mask(text_of(_traceback(raised))).splitlines())
        return text.encode() + b"\n"

    return render


def unfailing(render: Render) -> Render:
    """Have a line in any case: for what could not be made one, a line that says so, of the same level."""

    def render_or_say(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        title = event.get("event")
        try:
            return render(logger, method, event)
        except Exception as error:  # noqa: BLE001 - nobody is kept from what he does by a line of the log
            failed = f"{mask(text_of(title))} could not be written: {class_name(error)}"
            return render(None, text_of(method), {"event": failed, "logger": __name__})

    return render_or_say


RENDERERS: Mapping[str, Callable[[LineWriter], Render]] = {
    "json": json_lines,
    "console": console_lines,
    "ecs": ecs_lines,
}


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
    return None if value is None or value is False else _exc_info(sys.exc_info())


def _traceback(raised: ExcInfo) -> str:
    """Write a traceback as text, without local variables."""
    try:
        return "".join(traceback.format_exception(*raised, limit=-FRAMES_MAX))
    except Exception as error:  # noqa: BLE001 - too deep a group, notes that are none
        return f"{class_name(raised[1])}: {text_of(raised[1])}\n(without traceback: {class_name(error)})\n"


def _stacks(transform: ExceptionDictTransformer, raised: ExcInfo) -> list[dict[str, Any]]:
    """Write a traceback as JSON, without local variables."""
    try:
        return transform(raised)
    except Exception as error:  # noqa: BLE001 - as above, and causes that are not to be asked whether they are there
        note = f"without traceback: {class_name(error)}"
        name = class_name(raised[1])
        return [{"exc_type": name, "exc_value": text_of(raised[1]), "exc_notes": [note], "frames": []}]


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


_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
)


def _level(number: int) -> str:
    """Name a record's level by ours, whatever its library calls it: whoever reads the lines knows five."""
    return next((name for least, name in _LEVELS if number >= least), "debug")


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
            message = text_of(record.msg)
        event = {
            "event": message,
            "logger": record.name,
            "exc_info": record.exc_info,
        }
        level = _level(record.levelno)
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
                break
            seen.add(id(error))
            error = error.__cause__ or error.__context__
        return True
