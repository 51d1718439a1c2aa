"""Say whether work may begin, or what waits already would make all answers late.

The event loop does one thing at a time, so what waits for it is the queue.  How long, is felt by being called late: if
for a whole interval nothing has come in time, and it was requests that were in the way, more arrives than can be
answered, and not a burst that will pass (controlled delay, RFC 8289).  Then a request that has waited longer than the
target is sent away at once, at a fraction of an answer's cost, while it can still be sent again in good time; orders
wait for longer than prices.

Pure: every moment is an argument.
"""

from __future__ import annotations

from typing import Final

from service.api.limits import Kind

MS: Final = 1_000_000
TARGET_NS: Final = 10 * MS
"""A wait that nobody minds."""
INTERVAL_NS: Final = 200 * MS
"""A burst may take so long; five to ten times the target."""
REQUESTS_MIN: Final = 32
"""So many between two feelings are a queue; a loop that is late with fewer has a slow machine, or other work."""
WAIT_MAX_NS: Final[dict[Kind, int]] = {"quote": TARGET_NS, "execute": 20 * TARGET_NS}
"""What a request may have waited while there is too much work."""


class Admission:
    """Knows how late things are."""

    def __init__(self) -> None:
        self._late_since_ns: int | None = None
        self._asked = 0

    def feel(self, late_ns: int, now_ns: int) -> None:
        """Take note that the loop came *late_ns* later than it was asked to."""
        if late_ns <= TARGET_NS or self._asked < REQUESTS_MIN:
            self._late_since_ns = None
        elif self._late_since_ns is None:
            self._late_since_ns = now_ns
        self._asked = 0

    def overloaded(self, now_ns: int) -> bool:
        """Tell whether nothing has been in time for a whole interval."""
        return self._late_since_ns is not None and now_ns - self._late_since_ns > INTERVAL_NS

    def admits(self, kind: Kind, arrived_ns: int, now_ns: int) -> bool:
        """Tell whether a request that arrived then may begin now."""
        self._asked += 1
        return now_ns - arrived_ns <= WAIT_MAX_NS[kind] or not self.overloaded(now_ns)
