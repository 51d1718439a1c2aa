"""Whatever is logged, in whatever format: a line, of bounded length, without local variables, and nothing raised."""

from __future__ import annotations

import ast
import io
import logging
import math
import sys

import orjson
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from service import logs
from tests.log_lines import faults
from tests.test_documentation import log_calls

FORMATS = ["json", "ecs", "console"]
LINE_MAX = 131_072
"""Half of what the shipped configuration of rsyslog takes."""
HIDDEN = "what a local variable holds"


def fails(*_, **__):
    raise RuntimeError("not even this")


class Unshowable:
    """An object that does none of what is asked of it when it is shown, compared or looked up."""

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __format__ = fails
    __class__ = property(fails)


class Endless:
    def __repr__(self):
        return repr(self)


class Hungry:
    def __repr__(self):
        raise MemoryError


class OddKey(str):
    __slots__ = ()
    __str__ = __repr__ = lower = fails

    def __hash__(self):
        return 1


class OddMapping(dict):
    items = keys = values = fails


class Nameless(type):
    def __getattribute__(cls, name):
        if name in ("__name__", "__qualname__", "__module__"):
            fails()
        return super().__getattribute__(name)


class Unnamed(metaclass=Nameless):
    __repr__ = fails


def itself():
    table, row = {}, []
    table["row"], table["table"] = row, table
    row += [table, row]
    return table


ODD = [
    lambda: Unshowable(),
    lambda: Endless(),
    lambda: Hungry(),
    lambda: Unnamed(),
    lambda: itself(),
    lambda: OddMapping(a=1),
    lambda: {OddKey("a"): 1},
    lambda: {(1, (2,)): {3: Unshowable()}, None: 4, b"\xff": 5, 10**400: 6, "\ud800": "\udfff"},
    lambda: {Unshowable: Unshowable},
    lambda: 10**5000,
    lambda: -(2**63) - 1,
    lambda: math.nan,
    lambda: -math.inf,
    lambda: "\ud800\x00\n\u2028",
    lambda: float("1e308") * 10j,
    lambda: memoryview(b"\xff"),
    lambda: object,
    lambda: ...,
    lambda: NotImplemented,
    lambda: iter([1]),
    lambda: (n for n in range(3)),
    lambda: sys,
    lambda: fails,
    lambda: ["x" * 300_000],
    lambda: [["x" * 100] * 300] * 40,
    lambda: {str(n): "x" * 100 for n in range(2_000)},
]
TREES = st.recursive(
    st.integers(0, len(ODD) - 1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
"""Numbers of odd values, as nobody else is to look at them."""


def grown(tree):
    """Give what a tree of numbers stands for."""
    if isinstance(tree, list):
        return [grown(one) for one in tree]
    if isinstance(tree, dict):
        return {key: grown(one) for key, one in tree.items()}
    return ODD[tree]()


def written(format, log):
    """Give what *log*, told a logger, has written."""
    stream = io.BytesIO()
    logs.configure(format, "info", stream)
    log(structlog.get_logger())
    return stream.getvalue()


def check(format, data, lines=1):
    """Hold what was written to what is true of all lines: one each, of bounded length, that can be parsed."""
    assert data.endswith(b"\n")
    if format == "console":
        assert all(char.isprintable() or char == "\n" for char in data.decode())
        return [{"text": data.decode()}]
    assert lines == data.count(b"\n")
    assert max(map(len, data.splitlines())) <= LINE_MAX
    records = [orjson.loads(line) for line in data.splitlines()]
    assert all(isinstance(record, dict) for record in records)
    return records


@pytest.mark.parametrize("format", FORMATS)
@given(tree=TREES, title=TREES | st.text())
@settings(max_examples=60)
def test_whatever_is_logged_gives_a_line(format, tree, title):
    """
    A value, or an event, that breaks whoever looks at it costs itself, and nobody else anything.
    """
    event = title if isinstance(title, str) else grown(title)
    data = written(format, lambda log: log.info(event, venue="kraken", value=grown(tree)))

    check(format, data)
    assert b"kraken" in data


@pytest.mark.parametrize("format", ["json", "ecs"])
def test_line_is_bounded_however_its_values_are_nested(format):
    """
    A million values in one line are no million values on disk, and what else is on it is there.
    """
    data = written(format, lambda log: log.warning("x", much=[["x" * 100] * 1_000] * 1_000, itself=[itself()] * 3, n=1))

    (record,) = check(format, data)
    assert "x" == record["event" if format == "json" else "message"]
    assert 1 == record.get("n", 1)


class Unequal(Exception):
    """An exception that cannot be asked anything."""

    __str__ = __repr__ = __eq__ = __bool__ = __len__ = fails

    def __hash__(self):
        return 1


class UnnamedError(Exception, metaclass=Nameless):
    """An exception whose class does not tell its name."""


def raised(error, cause=None):
    """Give an exception as it is once it was raised, by a function with a variable that is nobody's business."""
    hidden = HIDDEN.upper()
    try:
        if hidden:
            raise error from cause
    except BaseException as caught:  # noqa: BLE001 - whatever it is, it is given
        return caught


def circle():
    first, second = raised(ValueError("first")), raised(ValueError("second"))
    first.__cause__, second.__cause__ = second, first
    return first


def contexts_in_a_circle():
    first, second = raised(ValueError("first")), raised(ValueError("second"))
    first.__context__, second.__context__ = second, first
    return first


def chain(length):
    error = None
    for number in range(length):
        error = raised(ValueError(number), error)
    return error


def nest(depth):
    error = raised(ValueError("innermost"))
    for _ in range(depth):
        error = raised(ExceptionGroup("again", [error]))
    return error


def with_notes(notes):
    error = raised(ValueError("why"))
    error.__notes__ = notes
    return error


def deep():
    def down():
        hidden = HIDDEN.upper()
        return down() or hidden

    try:
        down()
    except RecursionError as error:
        return error


def mistake_of_syntax():
    error = raised(SyntaxError("why", ("file", 1, 1, "a b\n")))
    error.lineno, error.text = "no number", 5
    return error


ERRORS = {
    "plain": lambda: raised(ValueError("why")),
    "not raised": lambda: ValueError("why"),
    "chained": lambda: raised(ValueError("why"), raised(KeyError("before"))),
    "circle": circle,
    "contexts in a circle": contexts_in_a_circle,
    "its own cause": lambda: with_cause(lambda error: error),
    "unequal": lambda: raised(Unequal()),
    "unequal cause": lambda: raised(ValueError("why"), raised(Unequal())),
    "unnamed": lambda: raised(UnnamedError("why")),
    "group": lambda: raised(ExceptionGroup("both", [raised(ValueError("a")), raised(Unequal())])),
    "long chain": lambda: chain(2_000),
    "deep group": lambda: nest(3_000),
    "wide group": lambda: raised(ExceptionGroup("many", [raised(ValueError("x" * 100)) for _ in range(5_000)])),
    "long": lambda: raised(ValueError("x" * 1_000_000)),
    "odd text": lambda: raised(ValueError("\ud800\x00\n\u2028", Unshowable)),
    "notes that are none": lambda: with_notes(5),
    "odd notes": lambda: with_notes([Unshowable(), "\ud800", 10**5000]),
    "many notes": lambda: with_notes(["x" * 1_000] * 5_000),
    "recursion": deep,
    "syntax": mistake_of_syntax,
    "exit": lambda: raised(SystemExit(3)),
}


def with_cause(cause):
    error = raised(ValueError("why"))
    error.__cause__ = cause(error)
    return error


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_whatever_is_raised_gives_a_line_without_local_variables(format, make):
    """
    An exception that cannot be shown, or has no end, is told as far as it goes; what variables held is never told.
    """
    error = make()
    data = written(format, lambda log: log.error("settings.failed", exc_info=error))

    (record,) = check(format, data)
    assert HIDDEN.upper().encode() not in data
    if format == "console":
        assert "settings.failed" in record["text"]
    else:
        assert ("settings.failed", "error") == (
            record.get("event", record.get("message")), record.get("level", record.get("log.level"))
        )  # fmt: skip
    if format == "json":
        assert [] == faults(record)


@pytest.mark.parametrize("format", FORMATS)
def test_traceback_has_its_frames_and_no_local_variables(format):
    """
    In every format it is told where it failed, through causes and groups, and not what the variables held.
    """
    group = raised(ExceptionGroup("both", [raised(ValueError("one"))]), raised(KeyError("cause")))
    data = written(format, lambda log: log.error("failed", exc_info=group)).decode()

    assert data.count("test_log_values.py") >= 3
    assert all(word in data for word in ("ExceptionGroup", "ValueError", "KeyError", "both", "one", "cause"))
    assert HIDDEN.upper() not in data


EXC_INFOS = {
    "none is handled": True,
    "none": (None, None, None),
    "no exception": (1, 2, 3),
    "text": "text",
    "number": 5,
    "unshowable": Unshowable(),
    "triple": (ValueError, ValueError("x"), None),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", EXC_INFOS)
def test_exc_info_that_is_none_is_passed_over(format, name):
    """
    A log call that is told nonsense about an exception is a line all the same.
    """
    check(format, written(format, lambda log: log.error("failed", exc_info=EXC_INFOS[name])))


RECORDS = {
    "time": {"created": math.nan},
    "endless time": {"created": math.inf},
    "late": {"created": 1e30},
    "early": {"created": -1e30},
    "no time": {"created": "noon"},
    "level": {"levelname": 7},
    "name": {"name": Unshowable()},
    "message": {"msg": Unshowable()},
    "arguments": {"msg": "%d", "args": ("x",)},
    "odd arguments": {"msg": "%s %s", "args": (Unshowable(), Endless())},
    "exception": {"exc_info": (ValueError, Unshowable(), None)},
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", RECORDS)
def test_record_of_a_library_gives_a_line_whatever_it_holds(format, name):
    """
    A library that breaks its own record gets a line, and no exception.
    """
    whole = {"msg": "x", "levelno": 40, "levelname": "ERROR", "name": "library", **RECORDS[name]}

    def log(_):
        (handler,) = (one for one in logging.getLogger().handlers if isinstance(one, logs.StandardLibraryHandler))
        handler.handle(logging.makeLogRecord(whole))

    check(format, written(format, log))


@pytest.mark.parametrize("format", FORMATS)
def test_line_that_cannot_be_made_says_so(format, monkeypatch):
    """
    Should all else fail, there is a line of the same level that names the event and what went wrong.
    """
    monkeypatch.setattr(logs, "_timestamp", lambda logger: fails() if logger else "2026-11-29T02:20:00.000Z")
    monkeypatch.setattr(logs, "plain", lambda value: fails() if "a" in value else value)
    monkeypatch.setattr(
        logs, "encode", lambda record: fails() if b"kraken" in repr(record).encode() else orjson.dumps(record) + b"\n"
    )
    data = written(format, lambda log: log.error("venue.down", a="kraken"))

    (record,) = check(format, data)
    assert b"venue.down could not be written: RuntimeError" in data
    if format == "json":
        assert ("error", "service.logs", []) == (record["level"], record["logger"], faults(record))


def test_no_log_call_has_arguments_that_could_fail_to_fit():
    """
    Every log call has its event and nothing else by position: structlog would put the rest into the event, or raise.
    """
    calls = [call for logger, call in log_calls() if logger != "level" or isinstance(call.args[0], ast.JoinedStr)]

    assert len(calls) > 40
    for call in calls:
        assert 1 == len(call.args), ast.unparse(call)
        assert isinstance(call.args[0], ast.Constant | ast.JoinedStr), ast.unparse(call)
