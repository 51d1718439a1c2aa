"""Whose request is being handled, for every line that is logged and every row of the journal that is written meanwhile.

A caller's place in a trace is read from ``traceparent``: https://www.w3.org/TR/trace-context/ (read 2026-11).  Tasks
that a request starts know it for as long as it lasts, and no longer: what goes on afterwards is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
"""Section 3.2.2: lower case only; zeros alone are no id, and ff is no version."""


class Handled:
    """
    A request from its first look to its log line.

    Args:
        request_id: The caller's, or one made for it.
        trace_id: 32 hex digits, or None where the caller is in no trace.
        span_id: 16 hex digits: what of the caller the request is part of.
    """

    __slots__ = ("over", "request_id", "span_id", "trace_id")

    def __init__(self, request_id: str, trace_id: str | None = None, span_id: str | None = None) -> None:
        self.request_id = request_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.over = False


_HANDLED: ContextVar[Handled | None] = ContextVar("handled", default=None)


def handle(request_id: str, traceparents: Sequence[str] = ()) -> Handled:
    """
    Begin a request in the running task; whoever began it says when it is ``over``.

    Args:
        traceparents: The values of its header fields of that name; what is no valid one, or several, counts as none.
    """
    trace_id, span_id = read_traceparent(traceparents[0]) if len(traceparents) == 1 else (None, None)
    handled = Handled(request_id, trace_id, span_id)
    _HANDLED.set(handled)
    return handled


def handled() -> Handled | None:
    """Give the request that is being handled, or None."""
    found = _HANDLED.get()
    return None if found is None or found.over else found


def read_traceparent(text: str) -> tuple[str, str] | tuple[None, None]:
    """Give the ids of the trace and of the caller's span in it, or nothing of what the specification calls invalid."""
    found = _TRACEPARENT.fullmatch(text)
    if found is None or (found[1] == "00" and found[4] is not None):  # Only a later version may go on.
        return None, None
    return found[2], found[3]
