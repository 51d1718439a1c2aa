"""Tell how much time has passed, and what time it is; the one place that reads a clock.

Ages come from the boot-time clock, which goes on while a machine is suspended and is never set.  The wall clock
is for what people read.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

MS = 1_000_000
"""Nanoseconds in a millisecond."""

# CLOCK_MONOTONIC stands still while a Linux machine is suspended; it is the fallback where the other is missing.
_BOOT_TIME = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


class Clock(Protocol):
    """A clock that is passed in, so that a test can hold its own."""

    def now_ns(self) -> int:
        """Give nanoseconds since some fixed moment; never goes back, counts suspended time."""

    def utc(self) -> datetime:
        """Give the wall-clock time in UTC."""


class SystemClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Give nanoseconds since the machine was started."""
        return time.clock_gettime_ns(_BOOT_TIME) if _BOOT_TIME is not None else time.monotonic_ns()

    def utc(self) -> datetime:
        """Give the wall-clock time in UTC."""
        return datetime.now(UTC)
