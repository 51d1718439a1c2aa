"""Count how values are spread: how many are within each of some bounds, and what they sum up to.

Pure: no clock, no I/O, no logging.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate


@dataclass(slots=True)
class Distribution:
    """
    Values counted by bounds; one that is added costs the same however many there were.

    Args:
        bounds: Ascending; a value that is equal to one is within it.
        counts: By the least bound that a value is within; the last is for those beyond all bounds.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    sum: float = 0.0

    def __post_init__(self) -> None:
        """Begin empty."""
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def within(self) -> list[int]:
        """Give how many values are within each bound, those within lower ones included, and at the end all."""
        return list(accumulate(self.counts))
