"""One venue's side of a consolidated book, as an order may take it.

Pure: no clock, no I/O, no logging.  All numbers are whole, at the scales of ``service.accounting``.  Running sums are
made once per book, so that what a quantity costs takes a bisection, however deep it goes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import mul
from typing import NamedTuple

from exchanges.book import BUY, UNIT, Side
from service.accounting import NOTIONAL, RATE_ONE, RATED_NOTIONAL, down, up


class Hop(NamedTuple):
    """
    How one level of a converted venue becomes money of the quote asset: through one level of a stable pair.

    Args:
        symbol: The stable pair, ``USDT/USD``.
        own_price: As the venue shows it, in the venue's own quote asset.
        price_at_mid: The level's price if it were converted at the stable pair's mid.
        venue: Where the stable pair's level rests.
        price: Of the stable pair's level.
        uses: The stable pair's base asset that is used per base asset of the order, as numerator and denominator.
    """

    symbol: str
    own_price: int
    price_at_mid: int
    venue: str
    price: int
    uses: tuple[int, int]

    def used(self, quantity: int) -> int:
        """Give how much of the stable pair's base asset a quantity of the order's uses, rounded up."""
        return up(quantity * self.uses[0], self.uses[1])


@dataclass(frozen=True, slots=True)
class Conversion:
    """
    What a converted venue's levels go through.

    Args:
        symbol: The stable pair, ``USDT/USD``.
        side: Of the conversion's own order: SELL hits the stable pair's bids.
        base_is_quote: The stable pair's base asset is the quote asset that is converted to.
        received_at_ns: Of the stable pair's books, by venue.
        hops: One per level.
        through: What the hops take from, by venue.
    """

    symbol: str
    side: Side
    base_is_quote: bool
    received_at_ns: Mapping[str, int]
    hops: tuple[Hop, ...]
    through: Mapping[str, VenueSide]


@dataclass(frozen=True, slots=True)
class OrderRules:
    """
    What one venue accepts as an order; whole numbers of 10**-18, 0 where the venue names no rule.

    Args:
        step: An order's quantity is a multiple of it.
        quantity_min: Base asset.
        notional_min: The venue's own quote asset.
    """

    step: int = 0
    quantity_min: int = 0
    notional_min: int = 0


@dataclass(frozen=True, slots=True)
class OwnSide:
    """
    One venue's side in its own quote asset, best first.

    Args:
        rate: The venue's taker fee.
        shown: As the venue shows it, where what has been taken is left out here; it may then be empty.
    """

    venue: str
    symbol: str
    prices: Sequence[int]
    quantities: Sequence[int]
    rate: int
    rules: OrderRules
    shown: OwnSide | None = None


def place_of(side: Side, prices: Sequence[int], price: int) -> int:
    """Give the place among prices, best first for an order of *side*, where a price stands or would stand."""
    if side is BUY:
        return bisect_left(prices, price)
    return bisect_left(prices, -price, key=int.__neg__)


class Amounts(NamedTuple):
    """
    What a quantity on one venue comes to, in the quote asset; sums of fills, each of which rounded for itself.

    Args:
        levels: Fills, the last of which may take a part of its level.
        worst_price: Of the last of them.
        notional: Sum of price x quantity, exact: a whole number of 10**-36.
    """

    quantity: int
    levels: int
    worst_price: int
    notional: int
    subtotal: int
    fee: int
    markup: int


class Fill(NamedTuple):
    """
    What an order gets from one level of one venue.

    ``subtotal`` (rounded up for a buy, down for a sell), ``fee`` and ``markup`` (both rounded up) are money of the
    quote asset, each rounded from the exact price x quantity.
    """

    venue: str
    symbol: str
    price: int
    quantity: int
    rate: int
    subtotal: int
    fee: int
    markup: int
    hop: Hop | None


@dataclass(frozen=True)
class VenueSide:
    """
    One venue's side, best first; empty only where a stable pair's has all been taken.

    Args:
        side: Of the order that takes it: BUY lifts asks.
        symbol: The venue's own.
        prices: Quote asset per base asset, after conversion, before fees.
        quantities: Base asset.
        rates: Taker fees, the conversion's included.
        taker_rate: The venue's own taker fee alone.
        rules: The venue's.
        conversion: Or None where the venue trades in the quote asset itself.
        shown: The venue's own levels as it shows them, where those here are others: converted, or without what has
            been taken.
    """

    side: Side
    venue: str
    symbol: str
    prices: Sequence[int]
    quantities: Sequence[int]
    rates: Sequence[int]
    taker_rate: int
    rules: OrderRules = OrderRules()
    conversion: Conversion | None = None
    shown: OwnSide | None = None

    @cached_property
    def written(self) -> dict[int, str]:
        """Keep texts of what whole levels come to, by quantity, for those who write them."""
        return {}

    @cached_property
    def costs(self) -> list[int]:
        """Rank the levels over all venues: what one unit costs net of fees, or the negative of what it brings."""
        if self.side is BUY:
            return [price * (RATE_ONE + rate) for price, rate in zip(self.prices, self.rates, strict=True)]
        return [price * (rate - RATE_ONE) for price, rate in zip(self.prices, self.rates, strict=True)]

    @cached_property
    def reach(self) -> list[int]:
        """Sum the quantities of the best 0, 1, 2 … levels."""
        return list(accumulate(self.quantities, initial=0))

    @property
    def depth(self) -> int:
        """Give all that rests there."""
        return self.reach[-1]

    @cached_property
    def _notionals(self) -> list[int]:
        return [price * quantity for price, quantity in zip(self.prices, self.quantities, strict=True)]

    @cached_property
    def notionals(self) -> list[int]:
        """Sum price x quantity of the best 0, 1, 2 … levels, exactly: whole numbers of 10**-36."""
        return list(accumulate(self._notionals, initial=0))

    @cached_property
    def subtotals(self) -> list[int]:
        """Sum the money of the best 0, 1, 2 … levels, each rounded for itself."""
        if self.side is BUY:
            return list(accumulate([-(-notional // NOTIONAL) for notional in self._notionals], initial=0))
        return list(accumulate([notional // NOTIONAL for notional in self._notionals], initial=0))

    @cached_property
    def fees(self) -> list[int]:
        """Sum the fees of the best 0, 1, 2 … levels, each rounded for itself."""
        fees = [
            -(-notional * rate // RATED_NOTIONAL) for notional, rate in zip(self._notionals, self.rates, strict=True)
        ]
        return list(accumulate(fees, initial=0))

    @cached_property
    def _markups(self) -> dict[int, list[int]]:
        return {}

    def _markup_sums(self, markup: int) -> list[int]:
        """Sum what whole levels are marked up by, once per rate of markup."""
        sums = self._markups.get(markup)
        if sums is None:
            sums = list(accumulate([up(notional * markup, RATED_NOTIONAL) for notional in self._notionals], initial=0))
            self._markups[markup] = sums
        return sums

    @cached_property
    def _at_mid(self) -> list[int]:
        """Sum what whole levels come to when converted at the stable pair's mid."""
        if self.conversion is None:
            return self.subtotals
        hops = zip(self.conversion.hops, self.quantities, strict=True)
        return list(accumulate([self._rounded(hop.price_at_mid * quantity) for hop, quantity in hops], initial=0))

    def amounts(self, quantity: int, markup: int = 0) -> Amounts:
        """
        Say what taking *quantity*, best first, comes to.

        Args:
            quantity: From 1 to ``depth``.
            markup: The desk's margin, a rate of each fill's notional.
        """
        whole = bisect_right(self.reach, quantity) - 1
        part = quantity - self.reach[whole]
        if not part:
            return self._whole_levels(whole, markup)
        notional, subtotal, fee = self.notionals[whole], self.subtotals[whole], self.fees[whole]
        price = self.prices[whole]
        more = price * part
        subtotal += -(-more // NOTIONAL) if self.side is BUY else more // NOTIONAL
        fee -= -more * self.rates[whole] // RATED_NOTIONAL
        marked = self._markup_sums(markup)[whole] + up(more * markup, RATED_NOTIONAL) if markup else 0
        return Amounts(quantity, whole + 1, price, notional + more, subtotal, fee, marked)

    def _whole_levels(self, levels: int, markup: int) -> Amounts:
        found = self._amounts.get((levels, markup))
        if found is None:
            found = self._amounts[levels, markup] = Amounts(
                self.reach[levels],
                levels,
                self.prices[levels - 1],
                self.notionals[levels],
                self.subtotals[levels],
                self.fees[levels],
                self._markup_sums(markup)[levels] if markup else 0,
            )
        return found

    @cached_property
    def _amounts(self) -> dict[tuple[int, int], Amounts]:
        return {}

    def cost(self, quantity: int) -> int:
        """Say what *quantity*, best first, costs net of fees before any rounding, or the negative of what it brings."""
        if not quantity:
            return 0
        whole = bisect_right(self.reach, quantity) - 1
        part = quantity - self.reach[whole]
        return self._costs[whole] + (self.costs[whole] * part if part else 0)

    @cached_property
    def _costs(self) -> list[int]:
        """Sum the costs of the best 0, 1, 2 … levels."""
        return list(accumulate(map(mul, self.costs, self.quantities), initial=0))

    def at_mid(self, quantity: int) -> int:
        """Say what the subtotal would be if conversions were at the stable pair's mid."""
        whole = bisect_right(self.reach, quantity) - 1
        part = quantity - self.reach[whole]
        if not part:
            return self._at_mid[whole]
        price = self.prices[whole] if self.conversion is None else self.conversion.hops[whole].price_at_mid
        return self._at_mid[whole] + self._rounded(price * part)

    @property
    def own_prices(self) -> Sequence[int]:
        """Give the levels' prices as the venue shows them."""
        return self.prices if self.conversion is None else [hop.own_price for hop in self.conversion.hops]

    @property
    def best_at_mid(self) -> int:
        """Give the best price, converted at the stable pair's mid."""
        return self.prices[0] if self.conversion is None else self.conversion.hops[0].price_at_mid

    def fills(self, quantity: int, markup: int = 0) -> list[tuple[int, Fill]]:
        """Take *quantity* level by level, best first, each fill with its rank."""
        return [
            (self.costs[place], self._fill(place, taken, markup)) for place, taken in enumerate(self.taken(quantity))
        ]

    def taken(self, quantity: int) -> list[int]:
        """Give how much *quantity* takes of each level, best first."""
        whole = bisect_right(self.reach, quantity) - 1
        part = quantity - self.reach[whole]
        return [*self.quantities[:whole], *([part] if part else [])]

    def _fill(self, place: int, quantity: int, markup: int) -> Fill:
        price, rate = self.prices[place], self.rates[place]
        notional = price * quantity
        return Fill(
            venue=self.venue,
            symbol=self.symbol,
            price=price,
            quantity=quantity,
            rate=rate,
            subtotal=self._rounded(notional),
            fee=up(notional * rate, RATED_NOTIONAL),
            markup=up(notional * markup, RATED_NOTIONAL),
            hop=None if self.conversion is None else self.conversion.hops[place],
        )

    def _rounded(self, notional: int) -> int:
        return up(notional, NOTIONAL) if self.side is BUY else down(notional, NOTIONAL)

    @cached_property
    def least(self) -> int:
        """Give the smallest quantity that the venue accepts as an order, or more than ``depth`` where there is none."""
        step = self.step
        least = max(step, self.rules.quantity_min)
        needed = self.rules.notional_min * UNIT
        reached = 0
        for price, quantity, before in zip(self.own_prices, self.quantities, self.reach, strict=False):
            if reached >= needed:
                break
            short = up(needed - reached, price)
            least = max(least, before + min(short, quantity))
            reached += price * quantity
        if reached < needed:
            least = self.depth + step
        return up(least, step) * step

    @cached_property
    def step(self) -> int:
        """Give what an order's quantity is a multiple of."""
        return max(1, self.rules.step)

    def accepts(self, quantity: int) -> bool:
        """Tell whether the venue would accept an order of this size; one of nothing is none."""
        return not quantity or (quantity >= self.least and not quantity % self.step)

    def shown_at(self, own_price: int) -> int:
        """Give the quantity that the venue shows at one of its own prices."""
        levels = self.shown or self
        return levels.quantities[place_of(self.side, levels.prices, own_price)]

    def within(self, limit_price: int) -> int:
        """Sum the quantities at prices that are not worse than a limit."""
        if self.side is BUY:
            return self.reach[bisect_right(self.prices, limit_price)]
        return self.reach[bisect_right(self.prices, -limit_price, key=int.__neg__)]


def direct(side: Side, own: OwnSide) -> VenueSide:
    """Give a side of a venue that trades in the quote asset itself."""
    return VenueSide(
        side=side,
        venue=own.venue,
        symbol=own.symbol,
        prices=own.prices,
        quantities=own.quantities,
        rates=(own.rate,) * len(own.prices),
        taker_rate=own.rate,
        rules=own.rules,
        shown=own.shown,
    )
