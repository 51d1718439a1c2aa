"""Say whether work may begin, or what waits already would make all answers late.

The event loop takes in what has come, then answers all of it, then looks again.  What it takes in at once is the queue:
as many wait as came together.  If for a whole interval each look has found a crowd, more arrives than can be answered,
and not a burst that will pass (as controlled delay tells them apart, RFC 8289).  While a crowd is being answered, a few
that come meanwhile, or none, tell nothing.  From then on only so many of each look are answered, and the rest are sent
away at once, at a fraction of an answer's cost, to come again when they are told.  Orders are let in long after prices.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

from service.api.limits import Kind

MS: Final = 1_000_000
INTERVAL_NS: Final = 200 * MS
"""So long a crowd may last: a burst."""
AHEAD_MAX: Final[dict[Kind, int]] = {"quote": 32, "execute": 1_024}
"""What may have come before a request at the same look while there is too much work."""
_TURNS: Final = 2
"""After a crowd is taken in: of the loop, until its handlers have run."""


class Admission:
    """Knows how many come together."""

    def __init__(
        self, call_soon: Callable[[Callable[[], None]], Any], now_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        """Be empty; *call_soon* calls a function as soon as all that has come is taken in."""
        self._call_soon = call_soon
        self._now_ns = now_ns
        self._together = 0
        self._latest_ns = 0
        self._idle_since_ns = 0
        self._crowds = 0
        self._crowded_since_ns: int | None = None

    def arrive(self, now_ns: int) -> int:
        """Take note that something has come; gives how many have come before it at the same look."""
        if not self._together:
            if not self._crowds and now_ns - max(self._latest_ns, self._idle_since_ns) > INTERVAL_NS:
                self._crowded_since_ns = None
            self._call_soon(self._taken_in)
        self._latest_ns = now_ns
        self._together += 1
        return self._together - 1

    def _taken_in(self) -> None:
        if self._together > AHEAD_MAX["quote"]:
            if self._crowded_since_ns is None:
                self._crowded_since_ns = self._latest_ns
            self._crowds += 1
            self._call_soon(lambda: self._work_off(_TURNS))
        elif not self._crowds:
            self._crowded_since_ns = None
        self._together = 0

    def _work_off(self, turns: int) -> None:
        """Wait until a crowd is answered: so long nothing is quiet, however long that takes or few come meanwhile."""
        if turns:
            self._call_soon(lambda: self._work_off(turns - 1))
        else:
            self._crowds -= 1
            self._idle_since_ns = self._now_ns()

    def overloaded(self, now_ns: int) -> bool:
        """Tell whether there has been a crowd for a whole interval."""
        return self._crowded_since_ns is not None and now_ns - self._crowded_since_ns > INTERVAL_NS

    def admits(self, kind: Kind, ahead: int, now_ns: int) -> bool:
        """Tell whether a request that came after *ahead* others may be answered."""
        return ahead < AHEAD_MAX[kind] or not self.overloaded(now_ns)
