"""Tell the person at the terminal what a command is busy with, once it has taken longer than a second.

One line on stderr that is written over and wiped out at the end; nothing at all where stderr is no terminal.  The
cursor waits at the line's beginning, so that a log line or a sentence that comes meanwhile is written over it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

SHOWN_AFTER_S = 1.0
EVERY_S = 0.2
_WIPE = "\x1b[K"


class Progress:
    """
    What is being done, and how far it is.

    Args:
        doing: A phrase such as "verifying the record", or what gives it; it is called from another thread.
        unit: What is counted, such as "rows".
        clock: Gives seconds.
    """

    def __init__(
        self, doing: str | Callable[[], str], unit: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._doing, self._unit, self._clock = doing, unit, clock
        self._began = clock()
        self._done, self._total = 0, 0
        self.shown = False
        """Whether somebody is looking at it, or will be if it takes longer."""

    def tell(
        self, done: int | None = None, total: int | None = None, *, doing: str | Callable[[], str] | None = None
    ) -> None:
        """Note how much is done, of how much, or what is being done now; this costs nothing."""
        if done is not None:
            self._done = done
        if total is not None:
            self._total = total
        if doing is not None:
            self._doing = doing

    def line(self, width: int) -> str:
        """Give what is to be shown, in less than *width* columns."""
        doing = self._doing if isinstance(self._doing, str) else self._doing()
        passed_s = self._clock() - self._began
        unit = f" {self._unit}" if self._unit else ""
        if self._total:
            part = min(1.0, self._done / self._total)
            text = f"{doing}: {self._done:,} of {self._total:,}{unit}, {part:.0%}"
            if part:
                text += f", {duration(passed_s / part - passed_s)} left"
        else:
            counted = f": {self._done:,}{unit}" if self._done else ""
            text = f"{doing}{counted} ({duration(passed_s)})"
        return text if len(text) < width else text[: max(0, width - 4)] + "..."


def duration(seconds: float) -> str:
    """Give a duration as a person reads it: 7 s, 1:05 min, 2:00:09 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02} h" if hours else f"{minutes}:{second:02} min"


@contextmanager
def progress(
    doing: str | Callable[[], str], *, unit: str = "", silent: bool = False, to: TextIO | None = None
) -> Iterator[Progress]:
    """
    Show what is done within it, if that takes longer than a second and stderr is a terminal.

        with progress("copying the record", unit="pages") as shown:
            shown.tell(done, total)

    Args:
        silent: Show nothing: what is asked for is for a program.
        to: The terminal; stderr, if left out.
    """
    told = Progress(doing, unit)
    stream = sys.stderr if to is None else to
    if silent or not writes_over(stream):
        yield told
        return
    told.shown = True
    over = threading.Event()
    drawing = threading.Thread(target=_draw, args=(told, stream, over), name="progress", daemon=True)
    drawing.start()
    try:
        yield told
    finally:
        over.set()
        drawing.join()


def writes_over(stream: TextIO) -> bool:
    """Tell whether what is written there can be written over: a terminal that knows how."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _draw(told: Progress, stream: TextIO, over: threading.Event) -> None:
    """Draw until it is over, and leave nothing behind."""
    wait_s = SHOWN_AFTER_S
    while not over.wait(wait_s):
        try:
            width = os.get_terminal_size(stream.fileno()).columns or 80  # Some terminals do not know their size.
            stream.write(f"\r{told.line(width)}{_WIPE}\r")
            stream.flush()
        except (OSError, ValueError):
            return  # The terminal is gone.
        wait_s = EVERY_S
    if wait_s == EVERY_S:
        try:
            stream.write(f"\r{_WIPE}")
            stream.flush()
        except (OSError, ValueError):
            return


def wiped(text: str, stream: TextIO) -> str:
    """Give a line to be printed on a stream where a longer one may stand, to be written over."""
    return text + _WIPE if writes_over(stream) else text
