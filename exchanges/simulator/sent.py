"""Remember what was sent when, so that a reader's delay can be told from the moment in which a venue sent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from exchanges.clock import Clock, SystemClock

KEPT = 4096
"""So many sends are remembered."""


@dataclass(frozen=True, slots=True)
class Note:
    """
    Hold what a book or change is known by.

    Attributes:
        sequence: As a reader of the venue's streams has it; None where the venue numbers nothing and *time_ms* must do.
        time_ms: What the venue says of when it was made, Unix time.
        transport: ``stream`` or ``poll``.
    """

    venue: str
    symbol: str
    sequence: int | None
    time_ms: int
    transport: str


class SentLog:
    """Keep the last sends, oldest first."""

    def __init__(self, clock: Clock | None = None) -> None:
        """Start empty; *clock* is the machine's if None."""
        self._clock = clock or SystemClock()
        self._sends: deque[tuple[int, Note, int]] = deque(maxlen=KEPT)
        self._count = 0

    def add(self, note: Note) -> None:
        """Remember that this is being sent now."""
        self._count += 1
        self._sends.append((self._count, note, self._clock.now_ns()))

    def listing(self, after: int = 0) -> list[dict[str, object]]:
        """Describe the sends whose number is above *after*; ``sent_at_ns`` is the boot-time clock's."""
        return [
            {"number": number, "venue": note.venue, "symbol": note.symbol, "sequence": note.sequence,
             "time_ms": note.time_ms, "transport": note.transport, "sent_at_ns": sent_at_ns}
            for number, note, sent_at_ns in self._sends if number > after
        ]  # fmt: skip
