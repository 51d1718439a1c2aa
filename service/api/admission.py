"""Say whether work may begin, or what waits already would make all answers late.

The event loop takes in what has come, then answers all of it, then looks again.  What it takes in at once is the queue:
as many wait as came together.  If for a whole interval each look has found a crowd, more arrives than can be answered,
and not a burst that will pass (as controlled delay tells them apart, RFC 8289).  From then on only so many of each look
are answered, and the rest are sent away at once, at a fraction of an answer's cost, to come again when they are told.
Orders are let in long after prices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from service.api.limits import Kind

MS: Final = 1_000_000
INTERVAL_NS: Final = 200 * MS
"""So long a crowd may last: a burst."""
AHEAD_MAX: Final[dict[Kind, int]] = {"quote": 32, "execute": 1_024}
"""What may have come before a request at the same look while there is too much work."""


class Admission:
    """Knows how many come together."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], Any]) -> None:
        """Be empty; *call_soon* calls a function as soon as all that has come is taken in."""
        self._call_soon = call_soon
        self._together = 0
        self._latest_ns = 0
        self._crowded_since_ns: int | None = None

    def arrive(self, now_ns: int) -> int:
        """Take note that something has come; gives how many have come before it at the same look."""
        if not self._together:
            if now_ns - self._latest_ns > INTERVAL_NS:
                self._crowded_since_ns = None
            self._call_soon(self._taken_in)
        self._latest_ns = now_ns
        self._together += 1
        return self._together - 1

    def _taken_in(self) -> None:
        if self._together <= AHEAD_MAX["quote"]:
            self._crowded_since_ns = None
        elif self._crowded_since_ns is None:
            self._crowded_since_ns = self._latest_ns
        self._together = 0

    def overloaded(self, now_ns: int) -> bool:
        """Tell whether there has been a crowd for a whole interval."""
        return self._crowded_since_ns is not None and now_ns - self._crowded_since_ns > INTERVAL_NS

    def admits(self, kind: Kind, ahead: int, now_ns: int) -> bool:
        """Tell whether a request that came after *ahead* others may be answered."""
        return ahead < AHEAD_MAX[kind] or not self.overloaded(now_ns)
