"""Merge the venues' books into one, ranked by what the client really pays or receives.

Pure: no clock, no I/O, no logging.  What may be believed is decided by ``service.market.screening``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import NamedTuple

from exchanges.board import Source
from exchanges.book import SCALE, Side, decimal
from service.accounting import RATE_ONE, RATE_SCALE
from service.market.merged import Merged
from service.market.side import VenueSide


class BookLevel(NamedTuple):
    """
    One venue's level in the consolidated book; whole numbers at the scales of ``service.accounting``.

    Args:
        price: Quote asset per base asset, after conversion, before fees.
        quantity: Base asset.
        rate: The taker fee.
    """

    venue: str
    price: int
    quantity: int
    rate: int

    def net_price(self, side: Side) -> Decimal:
        """Give what a taker on *side* pays or receives per unit with the fee."""
        sign = 1 if side is Side.BUY else -1
        return decimal(self.price * (RATE_ONE + sign * self.rate), SCALE + RATE_SCALE)


class Top(NamedTuple):
    """
    The best price of a side by what the venues show, and whose it is.

    Args:
        at_mid: The same price where a converted venue's is converted at the stable pair's mid.
    """

    venue: str
    price: int
    at_mid: int


class BookSide:
    """What orders of one side can take, over all venues; never empty."""

    def __init__(
        self, side: Side, venues: Sequence[VenueSide], by_itself: Callable[[VenueSide], VenueSide] | None = None
    ) -> None:
        """
        Take the venues' sides in the order of the settings, which decides among equal prices.

        Args:
            by_itself: Gives a venue's side as it is where no other venue takes of a stable pair beside it.
        """
        self.side = side
        self._by_itself = by_itself
        self.venues = tuple(venues)
        self.depths = tuple(venue.depth for venue in venues)
        self.depth = sum(self.depths)
        self.reads = 0
        """How often an order has been spread over it."""

    def by_itself(self, venue: VenueSide) -> VenueSide:
        """Give one of ``venues`` as it would be if the order went nowhere else."""
        return venue if self._by_itself is None else self._by_itself(venue)

    @cached_property
    def merged(self) -> Merged:
        """Merge the levels, once; see there for what that costs when."""
        return Merged(self.venues)

    @cached_property
    def top(self) -> Top:
        """Give the best price that is shown."""
        sign = 1 if self.side is Side.BUY else -1
        best = min(self.venues, key=lambda venue: sign * venue.prices[0])
        return Top(best.venue, best.prices[0], best.best_at_mid)

    @cached_property
    def step(self) -> int:
        """Give the finest step of an order's quantity among the venues."""
        return min(venue.rules.step or 1 for venue in self.venues)

    @cached_property
    def least(self) -> int:
        """Give the smallest order that any venue accepts."""
        return min(venue.least for venue in self.venues)

    def levels(self, *, gross: bool = False, limit: int | None = None) -> Iterator[BookLevel]:
        """Give the best *limit* levels, ranked by net or gross price."""
        sign = 1 if self.side is Side.BUY else -1
        rows = [
            (sign * price if gross else cost, number, BookLevel(venue.venue, price, quantity, rate))
            for number, venue in enumerate(self.venues)
            for price, quantity, rate, cost in zip(
                venue.prices[:limit], venue.quantities[:limit], venue.rates[:limit], venue.costs[:limit], strict=True
            )
        ]
        rows.sort(key=lambda row: row[:2])
        return (level for _, _, level in rows[:limit])


@dataclass(frozen=True)
class ConsolidatedBook:
    """
    All live venues' levels of one symbol; never empty on either side.

    Args:
        bids: What an order to SELL takes.
        asks: What an order to BUY takes.
    """

    symbol: str
    bids: BookSide
    asks: BookSide

    @property
    def base_asset(self) -> str:
        """Give what is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote_asset(self) -> str:
        """Give what is paid."""
        return self.symbol.partition("/")[2]

    def side(self, side: Side) -> BookSide:
        """Give what an order of this side takes."""
        return self.asks if side is Side.BUY else self.bids

    @cached_property
    def twice_mid(self) -> int:
        """Give best bid + best ask, crossed or not, by the prices that are shown: a whole number of 10**-18."""
        return self.bids.top.price + self.asks.top.price

    @cached_property
    def mid(self) -> Decimal:
        """Give (best bid + best ask) / 2."""
        return decimal(self.twice_mid * 5, SCALE + 1)

    @property
    def crossed(self) -> bool:
        """Tell whether one venue bids more than another asks."""
        return self.bids.top.price > self.asks.top.price

    @cached_property
    def venues(self) -> tuple[str, ...]:
        """Name the venues whose levels are in it."""
        return tuple(dict.fromkeys(venue.venue for venue in (*self.bids.venues, *self.asks.venues)))


class Snapshot(NamedTuple):
    """A consolidated book, and every venue's part in it when it was asked for (boot-time clock), used or not."""

    book: ConsolidatedBook
    sources: tuple[Source, ...]
    at_ns: int


@dataclass(frozen=True, slots=True)
class NoBook:
    """Why there is no consolidated book: a code of the contract, a sentence, and every venue's part."""

    code: str
    detail: str
    sources: tuple[Source, ...]
