"""Write whole lines to one stream, whoever writes them: at once, or together with others."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from typing import BinaryIO

LINES_TOGETHER_MAX = 128
"""So many lines wait at most for the event loop's next turn, to be written at once."""


class LineWriter:
    """
    Write whole lines to a binary stream, from any thread, and never raise.

    On an event loop, lines of level ``info`` and below wait for its next turn, and are written together; anything else
    is written at once, after what waits.  A line that cannot be written is dropped.  If part of it was, the next one
    begins on a line of its own.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        # Reentrant: the garbage collector may run a __del__ that warns, and so logs, while we hold it.
        self._lock = threading.RLock()
        self._torn = False
        self._waiting: list[bytes] = []

    def isatty(self) -> bool:
        """Say whether a person is watching."""
        try:
            return self._stream.isatty()
        except ValueError:
            return False

    def msg(self, line: bytes) -> None:
        """Write what waits and then *line*, which ends with its line feed."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for one in (b"".join(waiting), line):
                if one:
                    self._put(one)

    def later(self, line: bytes) -> None:
        """Write *line* with others at the event loop's next turn, or at once where there is no event loop."""
        loop = asyncio._get_running_loop()
        if loop is None:
            self.msg(line)
            return
        with self._lock:
            self._waiting.append(line)
            waiting = len(self._waiting)
        if waiting == 1:
            loop.call_soon(self.flush)
        elif waiting >= LINES_TOGETHER_MAX:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self.msg(b"")

    log = warn = warning = error = critical = fatal = exception = msg
    debug = info = later

    def _put(self, lines: bytes) -> None:
        try:
            self._write(b"\n" + lines if self._torn else lines)
            self._stream.flush()
        except OSError as error:
            if error.errno == errno.EPIPE:
                self._give_up()
        except (ValueError, RuntimeError):  # closed, or called from a signal handler inside a write
            pass

    def _write(self, line: bytes) -> None:
        """Write all of *line*, or of several: one call, unless an unbuffered stream (``python -u``) takes less."""
        rest = memoryview(line)
        try:
            while rest:
                taken = self._stream.write(rest)
                if not taken:  # a full pipe that does not block
                    break
                rest = rest[taken:]
        except BlockingIOError as error:
            rest = rest[error.characters_written :]
        finally:
            if len(rest) < len(line):
                self._torn = bool(rest)

    def _give_up(self) -> None:
        """Point a pipe that nobody reads any more at nothing, or Python's own flush at exit fails over it."""
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            pass
