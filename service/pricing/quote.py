"""Say what an order would really cost, and explain it to the last digit.

Pure: no clock, no I/O, no logging.  Whole numbers at the scales of ``service.accounting``; prices that are
quotients are Decimals of 12 significant digits.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from exchanges.book import BUY, Side
from service.accounting import NOTIONAL, RATED_NOTIONAL, bps, near, quotient, ratio
from service.market.book import ConsolidatedBook
from service.market.side import Amounts, Fill, VenueSide
from service.pricing.bounds import Ask, fill
from service.pricing.routing import Spread


class LegConversion(NamedTuple):
    """
    How one venue's fills became money of the quote asset.

    Args:
        symbol: The stable pair.
        side: Of the conversion's own order.
        rate: Of the pair, on average, in its own terms (quote asset of the pair per its base asset).
        received_at_ns: Of the oldest of the pair's books that were used.
        cost: Money: what is paid more, or received less, than at the pair's mid; before fees.
    """

    symbol: str
    side: Side
    rate: Decimal
    received_at_ns: int
    cost: int


class Leg(NamedTuple):
    """All the fills of one venue; prices and money in the quote asset, before fees but for ``amounts.fee``."""

    source: VenueSide
    amounts: Amounts

    @property
    def venue(self) -> str:
        """Name the venue."""
        return self.source.venue

    @property
    def average_price(self) -> Decimal:
        """Give subtotal / quantity."""
        return ratio(self.amounts.subtotal, self.amounts.quantity)

    @property
    def at_stable_mid(self) -> int:
        """Give what the subtotal would be if the venue's prices were converted at the stable pair's mid."""
        source, amounts = self
        return amounts.subtotal if source.conversion is None else source.at_mid(amounts.quantity)

    @property
    def conversion(self) -> LegConversion | None:
        """Say how it was converted, if it was."""
        conversion = self.source.conversion
        if conversion is None:
            return None
        quantity, levels, _, notional, subtotal, _, _ = self.amounts
        hops = conversion.hops[:levels]
        own = sum(hop.own_price * taken for hop, taken in zip(hops, self.source.taken(quantity), strict=True))
        over = subtotal - self.source.at_mid(quantity)
        return LegConversion(
            symbol=conversion.symbol,
            side=conversion.side,
            rate=quotient(own, notional) if conversion.base_is_quote else quotient(notional, own),
            received_at_ns=min(conversion.received_at_ns[hop.venue] for hop in hops),
            cost=over if self.source.side is BUY else -over,
        )


STEPS = ("mid", "half_spread", "depth", "conversion", "fees", "markup", "total")
"""Lines of the waterfall."""


class Step(NamedTuple):
    """One line of the waterfall: signed money in the quote asset, and the same in basis points of the mid line."""

    name: str
    amount: int
    bps: int


class SingleVenue(NamedTuple):
    """What the best venue alone would take, or give, for the same quantity, and what routing saves against it."""

    venue: str
    total: int
    quantity: int
    saving_bps: int

    @property
    def all_in_price(self) -> Decimal:
        """Give total / quantity."""
        return ratio(self.total, self.quantity)


class SideQuote(NamedTuple):
    """
    What one side of an order gets from one book.

    Prices and slippage are None where nothing fills.

    Args:
        ask: What was asked for.
        spread: Which venue gives how much, and what that comes to ...
        legs: ... by venue, in the order the venues were first used.
        stopped_by: None if all was filled, else what ended it: ``limit``, ``slippage``, ``depth`` or ``rules``; see
            ``Filled``.
        markup: What the desk adds, money; each fill's rounded up.
        markup_rate: What it adds, as a rate of the notional.
    """

    book: ConsolidatedBook
    side: Side
    ask: Ask
    spread: Spread
    legs: tuple[Leg, ...]
    stopped_by: str | None
    markup: int
    markup_rate: int

    @property
    def quantity(self) -> int:
        """Give what is filled, base asset."""
        return self.spread.quantity

    @property
    def subtotal(self) -> int:
        """Give the sum of price x quantity, each fill rounded for itself."""
        return self.spread.subtotal

    @property
    def fees(self) -> int:
        """Give the sum of the fills' fees."""
        return self.spread.fees

    @property
    def total(self) -> int:
        """Give what is paid for a buy (subtotal + fees + markup), received for a sell (subtotal - fees - markup)."""
        costs = self.spread.fees + self.markup
        return self.spread.subtotal + costs if self.side is BUY else self.spread.subtotal - costs

    @property
    def fillable(self) -> bool:
        """Tell whether all that was asked for can be had."""
        return self.stopped_by is None and self.quantity > 0

    @property
    def shortfall(self) -> int:
        """Give what is missing of what was asked for: of a quantity, or of a total in money."""
        if self.ask.quantity is not None:
            return self.ask.quantity - self.quantity
        if self.ask.total is not None and self.stopped_by is not None:
            return self.ask.total - self.total
        return 0

    @property
    def best_price(self) -> int | None:
        """Give the best price of a fill."""
        if not self.legs:
            return None
        firsts = [leg.source.prices[0] for leg in self.legs]
        return min(firsts) if self.side is BUY else max(firsts)

    @property
    def worst_price(self) -> int | None:
        """Give the worst price of a fill."""
        if not self.legs:
            return None
        lasts = [leg.amounts.worst_price for leg in self.legs]
        return max(lasts) if self.side is BUY else min(lasts)

    @property
    def average_price(self) -> Decimal | None:
        """Give subtotal / quantity."""
        return ratio(self.subtotal, self.quantity) if self.quantity else None

    @property
    def all_in_price(self) -> Decimal | None:
        """Give total / quantity."""
        return ratio(self.total, self.quantity) if self.quantity else None

    @property
    def from_mid_bps(self) -> int | None:
        """Give how much worse the average price, before any rounding, is than mid; fees not counted."""
        return self.worse_by_bps(self.book.twice_mid, 2)

    @property
    def from_best_bps(self) -> int | None:
        """Give how much worse the average price is than the best fill's."""
        best = self.best_price
        return None if best is None else self.worse_by_bps(best)

    def worse_by_bps(self, price: int, times: int = 1) -> int | None:
        """Give how much worse the average price, before any rounding, is than a price that was added up *times*."""
        reference = price * self.spread.quantity
        if not reference:
            return None
        over = times * self.spread.notional - reference
        return bps(over if self.side is BUY else -over, reference)

    @property
    def lines(self) -> list[tuple[int, int]]:
        """
        Go from mid to total in ``STEPS``, each in money and in basis points of mid.

        Lines are differences of amounts at the money's scale, the last their sum.
        """
        quantity, buying = self.spread.quantity, self.side is BUY
        top = self.book.side(self.side).top
        at_mid = near(self.book.twice_mid * quantity, 2 * NOTIONAL)
        at_best = near(top.at_mid * quantity, NOTIONAL)
        at_stable_mid = sum([leg.at_stable_mid for leg in self.legs])
        fees, markup = (self.fees, self.markup) if buying else (-self.fees, -self.markup)
        amounts = (at_best - at_mid, at_stable_mid - at_best, self.subtotal - at_stable_mid, fees, markup)
        shares = [bps(amount, at_mid) if amount and at_mid else 0 for amount in amounts]
        # The last line's basis points are the sum of the others', as its money is.
        return [
            (at_mid, 0),
            *zip(amounts, shares, strict=True),
            (at_mid + sum(amounts), sum(shares)),
        ]

    @property
    def waterfall(self) -> tuple[Step, ...]:
        """Name the lines."""
        return tuple(Step(name, amount, share) for name, (amount, share) in zip(STEPS, self.lines, strict=True))

    @property
    def best_single_venue(self) -> SingleVenue | None:
        """Find the venue that alone would fill the same quantity best, or None where none could fill it."""
        side, quantity, limit_price = self.book.side(self.side), self.spread.quantity, self.ask.limit_price
        if not quantity:
            return None
        costs = [
            (venue.cost(quantity), number)
            for number, venue in enumerate(side.alone)
            if quantity <= (venue.reach[-1] if limit_price is None else venue.within(limit_price))
            and venue.accepts(quantity)
        ]
        costs.sort()
        sign = 1 if self.side is BUY else -1
        found, best = None, 0
        for cost, number in costs:
            if found is not None and cost > best * RATED_NOTIONAL:
                break  # Rounding and a markup only make it worse.
            net = sign * _total(self.side, side.alone[number].amounts(quantity, self.markup_rate))
            if found is None or (net, number) < (best, found):
                found, best = number, net
        if found is None:
            return None
        total = sign * best
        saving = best - sign * self.total
        return SingleVenue(side.alone[found].venue, total, quantity, bps(saving, total) if total > 0 else 0)

    @property
    def fills(self) -> list[Fill]:
        """Give every single fill, best net price first."""
        ranked = [
            (rank, number, fill)
            for number, (venue, taken) in enumerate(
                zip(self.book.side(self.side).venues, self.spread.quantities, strict=True)
            )
            if taken
            for rank, fill in venue.fills(taken, self.markup_rate)
        ]
        ranked.sort(key=lambda row: row[:2])
        return [fill for _, _, fill in ranked]


def price(book: ConsolidatedBook, side: Side, ask: Ask, markup_rate: int = 0) -> SideQuote:
    """
    Price an order on the book as it is.

    Args:
        ask: How much is wanted, and within which bounds.
        markup_rate: The desk's margin, a rate of the notional.
    """
    spread, stopped_by = fill(book, side, ask, markup_rate)
    sources = [(venue, taken) for venue, taken in zip(book.side(side).venues, spread.quantities, strict=True) if taken]
    if markup_rate or spread.amounts is None:
        legs = [Leg(venue, venue.amounts(taken, markup_rate)) for venue, taken in sources]
    else:
        legs = [Leg(venue, amounts) for (venue, _), amounts in zip(sources, spread.amounts, strict=True)]
    legs.sort(key=_first_cost)
    markup = sum([leg.amounts.markup for leg in legs]) if markup_rate else 0
    return SideQuote(book, side, ask, spread, tuple(legs), stopped_by, markup, markup_rate)


def _first_cost(leg: Leg) -> int:
    return leg.source.costs[0]


def _total(side: Side, amounts: Amounts) -> int:
    if side is BUY:
        return amounts.subtotal + amounts.fee + amounts.markup
    return amounts.subtotal - amounts.fee - amounts.markup
