"""Price a taker order by walking the consolidated book.

Pure: no clock, no I/O, no logging.  Quoting and mock-filling share this walk, so an order on the same book gets
exactly the fills it was quoted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import NamedTuple

from exchanges.book import Side
from service.accounting import BPS, EXACT, ZERO, money_down, money_up
from service.market.book import BookLevel

QUANTITY_UNIT = Decimal("1e-8")
"""What a slippage bound cuts a fill to a multiple of, in the base asset."""


class Fill(NamedTuple):
    """What an order gets from one level.

    ``subtotal`` (rounded up for a buy, down for a sell), ``fee`` and ``markup`` (both rounded up) are in the quote
    asset; each is rounded from the exact price x quantity.
    """

    level: BookLevel
    quantity: Decimal
    subtotal: Decimal
    fee: Decimal
    markup: Decimal


@dataclass(frozen=True, slots=True)
class Bound:
    """
    How far an order may move the price.

    Args:
        mid: Quote asset per base asset, > 0.
        slippage_bps_max: From *mid* to the average price, worse for the client counted positive; fees not counted.
    """

    mid: Decimal
    slippage_bps_max: Decimal

    def average_price(self, side: Side) -> Decimal:
        """Give the worst average price that keeps within the bound."""
        share = self.slippage_bps_max / BPS
        return self.mid * (1 + share) if side is Side.BUY else self.mid * (1 - share)


@dataclass(frozen=True, slots=True)
class Sweep:
    """
    The fills of one order, in the order they were taken: best net price first.

    Args:
        stopped_by: ``None`` if all was filled, else what ended it: ``limit``, ``slippage`` or ``depth``.
    """

    fills: tuple[Fill, ...]
    stopped_by: str | None

    @property
    def filled(self) -> Decimal:
        """Sum the fills' quantities, base asset."""
        return exact_sum(fill.quantity for fill in self.fills)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Sum without rounding."""
    with localcontext(EXACT):
        return sum(amounts, ZERO)


def sweep(
    levels: Iterable[BookLevel],
    side: Side,
    quantity: Decimal,
    *,
    limit_price: Decimal | None = None,
    bound: Bound | None = None,
    markup_bps: Decimal = ZERO,
) -> Sweep:
    """
    Take levels best first until *quantity*, the limit, the bound or the end of the book is reached.

    Args:
        levels: Best net price first: asks for a buy, bids for a sell.
        side: The client's: BUY lifts asks, SELL hits bids.
        quantity: Base asset, > 0.
        limit_price: Quote asset per base asset.  Worse levels are left alone, wherever they rank.
        bound: Ends the walk where the average price would leave it.
        markup_bps: The desk's margin, of each fill's notional.

    Returns:
        A sweep with ``filled <= quantity``.  A thin book is not an error: the order's time in force decides what
        a shortfall means.
    """
    fills: list[Fill] = []
    left = quantity
    limited = False
    with localcontext(EXACT):
        for level in levels:
            if limit_price is not None and _worse(level.price, limit_price, side):
                limited = True
                continue
            take = min(left, level.quantity)
            if bound is not None:
                allowed = _within(bound, side, fills, level)
                if allowed < take:
                    cut = allowed.quantize(QUANTITY_UNIT, ROUND_FLOOR)
                    if cut > 0:
                        fills.append(_fill(level, cut, side, markup_bps))
                    return Sweep(tuple(fills), "slippage")
            fills.append(_fill(level, take, side, markup_bps))
            left -= take
            if not left:
                return Sweep(tuple(fills), None)
    return Sweep(tuple(fills), "limit" if limited else "depth")


def _worse(price: Decimal, limit_price: Decimal, side: Side) -> bool:
    return price > limit_price if side is Side.BUY else price < limit_price


def _within(bound: Bound, side: Side, fills: list[Fill], level: BookLevel) -> Decimal:
    """Give how much of *level* can be taken before the average price of all fills leaves the bound."""
    average = bound.average_price(side)
    excess = level.price - average if side is Side.BUY else average - level.price
    if excess <= 0:
        return level.quantity
    slack = sum(((average - fill.level.price) * fill.quantity for fill in fills), ZERO)
    if side is Side.SELL:
        slack = -slack
    return slack / excess


def _fill(level: BookLevel, quantity: Decimal, side: Side, markup_bps: Decimal) -> Fill:
    notional = level.price * quantity
    return Fill(
        level=level,
        quantity=quantity,
        subtotal=money_up(notional) if side is Side.BUY else money_down(notional),
        fee=money_up(notional * level.fee_bps / BPS),
        markup=money_up(notional * markup_bps / BPS),
    )
