"""Venues whose books stand on a board by hand, in place of feeds that ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from exchanges.board import Board
from exchanges.feeds import VenueConfig

STALE_AFTER_MS = 5_000


@dataclass
class StandingVenue:
    """A venue that somebody else keeps up to date."""

    config: VenueConfig
    poll_interval_ms: int = 1_000
    transport: str = "poll"
    fallback_reason: str | None = None


@dataclass
class StandingFeeds:
    """A board with the venues that are on it."""

    board: Board
    venues: list[StandingVenue] = field(default_factory=list)
    now_ns: Callable[[], int] = lambda: 0

    @classmethod
    def of(cls, board: Board, names: Iterable[str] = (), now_ns: Callable[[], int] = lambda: 0) -> StandingFeeds:
        """Name the venues that are switched on."""
        return cls(board, [StandingVenue(VenueConfig(name, name)) for name in names], now_ns)

    async def apply(
        self, configs: Sequence[VenueConfig], symbols: Sequence[str], outlier_bps: Decimal, *, unserved: bool = False
    ) -> None:
        """Seat venues and symbols that come, warming; those that stay keep their books."""
        names = {venue.config.name for venue in self.venues}
        seats = {(config.name, config.own(symbol)) for config in configs for symbol in symbols}
        before = self.board.symbols
        for venue, symbol in sorted(seats):
            if venue not in names or symbol not in before:
                self.board.seat(venue, symbol, STALE_AFTER_MS, self.now_ns())
        self.board.arrange([config.name for config in configs], sorted({symbol for _, symbol in seats}), outlier_bps)
        self.venues = [StandingVenue(config) for config in configs]
