"""Merge the venues' books into one, ranked by what the client really pays or receives.

Pure: no clock, no I/O, no logging.  What may be believed is decided by ``service.market.screening``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from math import gcd
from typing import NamedTuple

from exchanges.board import Source
from exchanges.book import BUY, SCALE, Side, decimal
from service.accounting import QUANTITY_UNIT, RATE_ONE, RATE_SCALE, up
from service.market.merged import Merged
from service.market.side import VenueSide


class BookLevel(NamedTuple):
    """
    One venue's level in the consolidated book; whole numbers at the scales of ``service.accounting``.

    Args:
        price: Quote asset per base asset, after conversion, before fees.
        quantity: Base asset, as the venue shows it.
        rate: The taker fee.
        taken: What fills and holds have taken of the quantity.
        held: What of that is held, and may come back.
    """

    venue: str
    price: int
    quantity: int
    rate: int
    taken: int = 0
    held: int = 0

    def net_price(self, side: Side) -> Decimal:
        """Give what a taker on *side* pays or receives per unit with the fee."""
        sign = 1 if side is BUY else -1
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


@dataclass(frozen=True, slots=True)
class Netted:
    """
    What is left out of a side because fills and holds have taken it.

    Args:
        shown: The side as the venues show it.
        levels: How much of each level, by venue and the venue's own price.
        filled: How much of that by fills.
        taken: By fills, in all: base asset.  What went through stable pairs' books is not in it.
        held: By holds.
    """

    shown: BookSide
    levels: Mapping[str, Mapping[int, int]]
    filled: Mapping[str, Mapping[int, int]]
    taken: int
    held: int


class BookSide:
    """What orders of one side can take, over all venues; empty only where all of it has been taken."""

    def __init__(
        self,
        side: Side,
        venues: Sequence[VenueSide],
        by_itself: Callable[[VenueSide], VenueSide] | None = None,
        netted: Netted | None = None,
    ) -> None:
        """
        Take the venues' sides in the order of the settings, which decides among equal prices.

        Args:
            by_itself: Gives a venue's side as it is where no other venue takes of a stable pair beside it.
            netted: What is left out, if anything is.
        """
        self.side = side
        self._by_itself = by_itself
        self._netted = netted
        self.venues = tuple(venues)
        self.depths = tuple(venue.depth for venue in venues)
        self.depth = sum(self.depths)
        self.reads = 0
        """How often an order has been spread over it."""

    @property
    def shown(self) -> BookSide:
        """Give the side as the venues show it: itself where nothing is taken."""
        return self if self._netted is None else self._netted.shown

    @property
    def taken(self) -> int:
        """Give what fills have taken of it: base asset; what they took of stable pairs is not counted."""
        return 0 if self._netted is None else self._netted.taken

    @property
    def held(self) -> int:
        """Give what holds have taken of it, in the same way."""
        return 0 if self._netted is None else self._netted.held

    @cached_property
    def alone(self) -> tuple[VenueSide, ...]:
        """Give each of ``venues`` as it would be if the order went nowhere else."""
        return self.venues if self._by_itself is None else tuple(map(self._by_itself, self.venues))

    @cached_property
    def merged(self) -> Merged:
        """Merge the levels, once; see there for what that costs when."""
        return Merged(self.venues)

    @cached_property
    def top(self) -> Top:
        """Give the best price that is shown, taken or not."""
        sign = 1 if self.side is BUY else -1
        best = min(self.shown.venues, key=lambda venue: sign * venue.prices[0])
        return Top(best.venue, best.prices[0], best.best_at_mid)

    @cached_property
    def step(self) -> int:
        """Give the finest step of an order's quantity among the venues that show something."""
        return min(venue.rules.step or 1 for venue in self.shown.venues)

    @cached_property
    def common_step(self) -> int:
        """Give what all that the venues can fill together is a multiple of."""
        return gcd(*[venue.step for venue in self.venues])

    @cached_property
    def order_step(self) -> int:
        """Give what the quantity of an order, or of an answer, is a multiple of: of at most 8 decimals."""
        return max(self.step, QUANTITY_UNIT)

    @cached_property
    def order_min(self) -> int:
        """Give the smallest quantity that any venue would look at."""
        step = self.order_step
        smallest = min(max(venue.rules.quantity_min, venue.rules.step, step) for venue in self.venues)
        return up(smallest, step) * step

    @cached_property
    def order_least(self) -> int:
        """Give the smallest quantity that any venue would accept, its notional looked at as well."""
        return max(self.order_min, up(self.least, self.order_step) * self.order_step)

    @cached_property
    def least(self) -> int:
        """Give the smallest order that any venue accepts, or more than ``depth`` where there is none."""
        return min((venue.least for venue in self.venues), default=self.step)

    def levels(self, *, gross: bool = False, limit: int | None = None) -> Iterator[BookLevel]:
        """Give the best *limit* levels that are shown, ranked by net or gross price, and what is taken of each."""
        sign = 1 if self.side is BUY else -1
        rows = [
            (sign * price if gross else cost, number, BookLevel(venue.venue, price, quantity, rate, *taken))
            for number, venue in enumerate(self.shown.venues)
            for price, quantity, rate, cost, taken in zip(
                venue.prices[:limit],
                venue.quantities[:limit],
                venue.rates[:limit],
                venue.costs[:limit],
                self._taken_of(venue, limit),
                strict=True,
            )
        ]
        rows.sort(key=lambda row: row[:2])
        return (level for _, _, level in rows[:limit])

    def _taken_of(self, venue: VenueSide, limit: int | None) -> list[tuple[int, int]]:
        """
        Give what is taken of a venue's best levels, and what of that is held.

        Of a level that is converted in pieces the best ones are taken first, and what is held is taken last.
        """
        quantities = venue.quantities[:limit]
        left = {} if self._netted is None else dict(self._netted.levels.get(venue.venue, {}))
        if self._netted is None or not left:
            return [(0, 0)] * len(quantities)
        filled = dict(self._netted.filled.get(venue.venue, {}))
        taken = []
        for price, quantity in zip(venue.own_prices, quantities, strict=False):
            gone = min(quantity, left.get(price, 0))
            by_fills = min(gone, filled.get(price, 0))
            left[price], filled[price] = left.get(price, 0) - gone, filled.get(price, 0) - by_fills
            taken.append((gone, gone - by_fills))
        return taken


@dataclass(frozen=True)
class ConsolidatedBook:
    """
    All live venues' levels of one symbol; what they show is never empty on either side.

    Args:
        bids: What an order to SELL takes.
        asks: What an order to BUY takes.
        gross: The book as the venues show it, where what has been taken is left out of this one.
    """

    symbol: str
    bids: BookSide
    asks: BookSide
    gross: ConsolidatedBook | None = None

    @property
    def shown(self) -> ConsolidatedBook:
        """Give the book as the venues show it: itself where nothing is taken."""
        return self.gross or self

    @cached_property
    def written(self) -> dict[str, str]:
        """Keep texts that are the same in all answers from this book, for those who write them."""
        return {}

    @cached_property
    def base_asset(self) -> str:
        """Give what is bought and sold."""
        return self.symbol.partition("/")[0]

    @cached_property
    def quote_asset(self) -> str:
        """Give what is paid."""
        return self.symbol.partition("/")[2]

    def side(self, side: Side) -> BookSide:
        """Give what an order of this side takes."""
        return self.asks if side is BUY else self.bids

    @cached_property
    def twice_mid(self) -> int:
        """Give best bid + best ask, crossed or not, by the prices that are shown: a whole number of 10**-18."""
        return self.bids.top.price + self.asks.top.price

    @cached_property
    def mid(self) -> Decimal:
        """Give (best bid + best ask) / 2."""
        return decimal(self.twice_mid * 5, SCALE + 1)

    @cached_property
    def crossed(self) -> bool:
        """Tell whether one venue bids more than another asks."""
        return self.bids.top.price > self.asks.top.price

    @cached_property
    def venues(self) -> tuple[str, ...]:
        """Name the venues whose levels are shown."""
        return tuple(dict.fromkeys(venue.venue for venue in (*self.bids.shown.venues, *self.asks.shown.venues)))


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
