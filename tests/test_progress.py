"""What a command says while it is busy: one line, at a terminal only, wiped in the end."""

from __future__ import annotations

import io
import os
import time

import pytest

from service.command_line import say
from service.progress import Progress, duration, progress

WITHIN_S = 20


class HeldSeconds:
    def __init__(self):
        self.now_s = 1_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def terminal(monkeypatch):
    """Give what is written on by a command, and what reads all that was written."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("service.progress.SHOWN_AFTER_S", 0.0)
    master, slave = os.openpty()
    os.set_blocking(master, False)
    written = bytearray()

    def read():
        try:
            written.extend(os.read(master, 65_536))
        except BlockingIOError:
            pass
        return written.decode()

    with os.fdopen(slave, "w") as stream:
        yield stream, read
    os.close(master)


def until(read, text):
    deadline = time.monotonic() + WITHIN_S
    while text not in read():
        assert time.monotonic() < deadline, read()


@pytest.mark.parametrize(
    ("passed_s", "told", "expected"),
    [
        (3, {}, "verifying the record (3 s)"),
        (3, {"done": 12_000}, "verifying the record: 12,000 rows (3 s)"),
        # What is left takes as long as what is done took.
        (30, {"done": 12_000, "total": 48_000}, "verifying the record: 12,000 of 48,000 rows, 25%, 1:30 min left"),
        (30, {"done": 0, "total": 48_000}, "verifying the record: 0 of 48,000 rows, 0%"),
        (7_300, {"doing": lambda: "waiting for kraken, okx"}, "waiting for kraken, okx (2:01:40 h)"),
    ],
)
def test_line_says_how_far_it_is(passed_s, told, expected):
    """
    What is done, of how much, and how long it will take, as far as is known.
    """
    clock = HeldSeconds()
    one = Progress("verifying the record", "rows", clock)
    one.tell(**told)
    clock.now_s += passed_s

    assert expected == one.line(80)


def test_line_fits_the_terminal():
    """
    On a narrow terminal the line is cut, so that it can be written over.
    """
    assert "verifying t..." == Progress("verifying the record").line(15)


def test_durations_are_read_by_people():
    """
    Seconds, minutes and hours, each with its unit.
    """
    assert ["0 s", "59 s", "1:00 min", "59:59 min", "1:00:00 h"] == [duration(s) for s in (0.9, 59, 60, 3_599, 3_600)]


def test_terminal_shows_it_and_nothing_is_left(terminal):
    """
    The line appears, follows what is told, and is wiped at the end; a sentence that comes meanwhile stands alone.
    """
    stream, read = terminal
    with progress("copying", unit="pages", to=stream) as shown:
        until(read, "\rcopying (0 s)\x1b[K\r")
        shown.tell(5, 10)
        until(read, "\rcopying: 5 of 10 pages, 50%, 0 s left\x1b[K\r")

    assert shown.shown
    assert read().endswith("\r\x1b[K")


def test_sentence_is_written_over_it(terminal, monkeypatch):
    """
    What is said to a person wipes the rest of the line that it is written over.
    """
    stream, read = terminal
    monkeypatch.setattr("sys.stderr", stream)
    say("short")

    until(read, "short\x1b[K\r\n")


@pytest.mark.parametrize("silent", [True, False])
def test_nothing_is_shown_to_programs(terminal, monkeypatch, silent):
    """
    A pipe, a terminal that cannot, and a command for a program get nothing.
    """
    stream, read = terminal
    pipe = io.StringIO()
    if not silent:
        monkeypatch.setenv("TERM", "dumb")
    for to in (stream, pipe):
        with progress("copying", silent=silent, to=to) as shown:
            assert not shown.shown

    assert "" == read() == pipe.getvalue()
