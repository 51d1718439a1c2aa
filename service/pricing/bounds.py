"""Answer how much: a quantity, a total, or the most within a slippage, each within a limit price.

Pure: no clock, no I/O, no logging.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from exchanges.book import BUY, Side
from service.market.book import BookSide, ConsolidatedBook
from service.pricing.routing import Spread, route
from service.pricing.sweep import Quantities

_SLIPPAGE_ONE = 10**16
"""A slippage of 1; basis points in requests have up to 12 decimals."""


class Ask(NamedTuple):
    """
    How much is wanted: the most that keeps within everything that is given; at least one of the first three is.

    Args:
        quantity: Base asset, a whole number of 10**-18.
        total: Quote asset, money: all that is paid (buy) or received (sell), fees and markup included.
        slippage_bps_max: From mid to the average price, worse for the client counted positive; fees not counted.
        limit_price: A whole number of 10**-18; levels worse than it are left alone.
    """

    quantity: int | None = None
    total: int | None = None
    slippage_bps_max: Decimal | None = None
    limit_price: int | None = None


class Filled(NamedTuple):
    """
    How far an order gets.

    Args:
        stopped_by: None if it is all that was asked for, else what ended it: ``limit``, ``slippage``, ``depth``, or
            ``rules`` where more was there, in amounts that no venue accepts.
    """

    spread: Spread
    stopped_by: str | None


def fill(book: ConsolidatedBook, side: Side, ask: Ask, markup_rate: int = 0) -> Filled:
    """
    Give the most that keeps within *ask*, spread over the venues for the best net price.

    An answer to a total or a slippage is a multiple of the finest quantity step; one step more would break its bound.
    """
    quantity, total, slippage_bps_max, limit_price = ask
    if quantity is not None and total is None and slippage_bps_max is None and limit_price is None:
        spread = route(book.side(side), quantity)
        if spread.quantity == quantity:
            return Filled(spread, None)
    return _Bounds(book, side, ask, markup_rate).fill()


class _Bounds:
    """One order's bounds on one book."""

    def __init__(self, book: ConsolidatedBook, side: Side, ask: Ask, markup_rate: int) -> None:
        self._book = book
        self._side: BookSide = book.side(side)
        self._buying = side is BUY
        self._ask = ask
        self._markup_rate = markup_rate
        self._most: Quantities | None = None
        self._there = self._side.depth
        if ask.limit_price is not None:
            self._most = [venue.within(ask.limit_price) for venue in self._side.venues]
            self._there = sum(self._most)
        self._slippage = 0 if ask.slippage_bps_max is None else int(ask.slippage_bps_max * 10**12)

    def fill(self) -> Filled:
        ask = self._ask
        if not self._there:
            return Filled(self._nothing, self._what_is_missing(self._nothing))
        ceiling = self._there if ask.quantity is None else ask.quantity
        spread = route(self._side, ceiling, self._most)
        reason = self._broken(spread)
        if reason is None:
            return Filled(spread, None if self._is_all(spread) else self._what_is_missing(spread))
        spread = self._largest(min(ceiling, self._there))
        reason = self._broken(route(self._side, spread.quantity + self._step, self._most)) or reason
        if reason == "total" or (ask.quantity is None and ask.total is None):
            return Filled(spread, None)
        return Filled(spread, reason)

    def _is_all(self, spread: Spread) -> bool:
        """Tell whether a spread that keeps within the bounds is all that was asked for."""
        quantity, total, _, _ = self._ask
        if quantity is not None:
            return spread.quantity == quantity
        return total is None or self._total(spread) == total

    def _what_is_missing(self, spread: Spread) -> str:
        wanted = self._there if self._ask.quantity is None else self._ask.quantity
        if spread.quantity < min(wanted, self._there):
            return "rules"
        return "limit" if self._there < self._side.depth else "depth"

    def _broken(self, spread: Spread) -> str | None:
        """Name the bound that a spread breaks, if it does."""
        if self._ask.total is not None and self._total(spread) > self._ask.total:
            return "total"
        if self._ask.slippage_bps_max is not None and self._slips(spread):
            return "slippage"
        return None

    def _total(self, spread: Spread) -> int:
        costs = spread.fees + markup_of(self._side, spread.quantities, self._markup_rate)
        return spread.subtotal + costs if self._buying else spread.subtotal - costs

    def _slips(self, spread: Spread) -> bool:
        """Tell whether a spread's average price is further from mid than it may be."""
        at_mid = self._book.twice_mid * spread.quantity
        over = 2 * spread.notional - at_mid
        allowed = self._slippage * at_mid
        return (over if self._buying else -over) * _SLIPPAGE_ONE > allowed

    def _largest(self, most: int) -> Spread:
        """Find the largest spread of whole steps that keeps within all bounds, where *most* does not."""
        step = self._step
        low, high = 0, -(-most // step)
        if self._ask.slippage_bps_max is not None:
            low, high = self._last_crossing(low, high)
        best = self._kept(low * step) or self._nothing
        while high - low > 1:
            middle = (low + high) // 2
            spread = self._kept(middle * step)
            if spread is None:
                high = middle
            else:
                best, low = spread, middle
        return best

    def _kept(self, quantity: int) -> Spread | None:
        """Give the spread of *quantity*, or of what venues accept of it, if that keeps within the bounds."""
        spread = route(self._side, quantity, self._most) if quantity else self._nothing
        return spread if self._broken(spread) is None else None

    def _last_crossing(self, low: int, high: int) -> tuple[int, int]:
        """
        Give the steps, from *low* to *high*, between which a spread leaves a slippage bound for good.

        Slippage is of prices without fees, and levels rank with them: where fees differ it may shrink again on the way,
        until the last level whose price is within the bound by itself.  From there back, level by level, the first end
        that keeps within it is the last one that does.
        """
        share = self._slippage if self._buying else -self._slippage
        price = self._book.twice_mid * (_SLIPPAGE_ONE + share) // (2 * _SLIPPAGE_ONE)
        venues = self._side.venues
        within = [bisect_left(venue.reach, venue.within(price)) for venue in venues]
        worse = [venue.costs[count] for venue, count in zip(venues, within, strict=True) if count < len(venue.costs)]
        better = [venue.costs[count - 1] for venue, count in zip(venues, within, strict=True) if count]
        last, first = max(better, default=None), min(worse, default=None)
        costs = {
            cost
            for venue in venues
            for cost in venue.costs[
                0 if first is None else bisect_left(venue.costs, first) : 0
                if last is None
                else bisect_right(venue.costs, last)
            ]
        }
        ends = [self._up_to(cost, bisect_left) // self._step for cost in sorted(costs)]
        ends.append(0 if last is None else self._up_to(last, bisect_right) // self._step)
        for end in reversed(ends):
            if low < end < high:
                if self._kept(end * self._step) is not None:
                    return end, high
                high = end
        return low, high

    def _up_to(self, cost: int, bisect: Callable[[list[int], int], int]) -> int:
        most = self._most or self._side.depths
        return sum(
            min(venue.reach[bisect(venue.costs, cost)], at_most)
            for venue, at_most in zip(self._side.venues, most, strict=True)
        )

    @property
    def _step(self) -> int:
        return self._side.order_step

    @property
    def _nothing(self) -> Spread:
        return Spread((0,) * len(self._side.venues), 0, 0, 0, 0)


def markup_of(side: BookSide, quantities: Quantities, markup_rate: int) -> int:
    """Give what the desk adds to quantities per venue."""
    if not markup_rate:
        return 0
    return sum(
        venue.amounts(taken, markup_rate).markup for venue, taken in zip(side.venues, quantities, strict=True) if taken
    )
