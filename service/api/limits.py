"""Limit how often a key, or an address without a valid one, is answered.

Token buckets in the form of the generic cell rate algorithm (ITU-T I.371, annex A): a bucket is one number, the moment
when it will be full again.  Pure: the moment is an argument.  Header fields: draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Literal

S: Final = 1_000_000_000
WINDOW_S: Final = 2
"""A full bucket holds what may be asked for in so long."""
BUCKETS_MAX: Final = 10_000
"""Of addresses; full buckets go first, then the oldest."""

Kind = Literal["quote", "execute"]


@dataclass(frozen=True, slots=True)
class LimitRules:
    """Requests per second; 0 is no limit."""

    quote_per_s: int
    execute_per_s: int
    failed_keys_per_s: int


class Bucket:
    """One holder's tokens for one kind of request."""

    __slots__ = ("_full_at_ns", "_interval_ns", "_kind", "policy")

    def __init__(self, kind: str, per_s: int) -> None:
        """Begin full, with *per_s* > 0 tokens coming in a second."""
        self._kind = kind
        self._interval_ns = S // per_s
        self._full_at_ns = 0
        self.policy = f'"{kind}";q={per_s * WINDOW_S};w={WINDOW_S}'

    def take(self, now_ns: int) -> int:
        """Take a token; give 0, or the nanoseconds until there is one."""
        full_at_ns = max(self._full_at_ns, now_ns) + self._interval_ns
        missing_ns = full_at_ns - now_ns - WINDOW_S * S
        if missing_ns > 0:
            return missing_ns
        self._full_at_ns = full_at_ns
        return 0

    def state(self, now_ns: int) -> str:
        """Write the header field ``RateLimit``: what is left, and the seconds until it is full."""
        empty_ns = max(self._full_at_ns - now_ns, 0)
        return f'"{self._kind}";r={(WINDOW_S * S - empty_ns) // self._interval_ns};t={-(-empty_ns // S)}'

    def full(self, now_ns: int) -> bool:
        """Tell whether forgetting it would change nothing."""
        return self._full_at_ns <= now_ns


class Buckets:
    """The buckets of all holders."""

    def __init__(self, holders_max: int = BUCKETS_MAX) -> None:
        self._buckets: dict[Hashable, Bucket] = {}
        self._holders_max = holders_max

    def of(self, holder: Hashable, kind: str, per_s: int, now_ns: int) -> Bucket:
        """Give a holder's bucket, a full one where there is none yet; another limit is another bucket."""
        found = self._buckets.get((holder, kind, per_s))
        if found is None:
            self._make_room(now_ns)
            found = self._buckets[(holder, kind, per_s)] = Bucket(kind, per_s)
        return found

    def _make_room(self, now_ns: int) -> None:
        if len(self._buckets) < self._holders_max:
            return
        self._buckets = {holder: bucket for holder, bucket in self._buckets.items() if not bucket.full(now_ns)}
        while len(self._buckets) >= self._holders_max:
            self._buckets.pop(next(iter(self._buckets)))
