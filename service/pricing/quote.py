"""Say what an order would really cost, and explain it to the last digit.

Pure: no clock, no I/O, no logging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

from exchanges.book import Side
from service.accounting import EXACT, ZERO, bps, money_near, ratio
from service.market.book import ConsolidatedBook
from service.pricing.sweep import Bound, Fill, Sweep, exact_sum, sweep


@dataclass(frozen=True, slots=True)
class Leg:
    """All the fills of one venue; prices and money in the quote asset, before fees but for ``fee``."""

    venue: str
    symbol: str
    quantity: Decimal
    average_price: Decimal
    worst_price: Decimal
    subtotal: Decimal
    fee: Decimal
    fee_bps: Decimal
    levels: int


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the waterfall: signed money in the quote asset, and the same in basis points of the mid line."""

    name: str
    amount: Decimal
    bps: Decimal


@dataclass(frozen=True, slots=True)
class SingleVenue:
    """What the best venue alone would take for the same quantity, and what routing saves against it."""

    venue: str
    all_in_price: Decimal
    saving_bps: Decimal


@dataclass(frozen=True, slots=True)
class SideQuote:
    """
    What one side of an order gets from one book.

    All money in the quote asset; quantities in the base asset; prices before fees, but for ``all_in_price``.
    Prices and slippage are None where nothing fills.

    Args:
        requested: What was asked for; ``quantity + shortfall`` is it.
        total: Paid for a buy (subtotal + fees + markup), received for a sell (subtotal - fees - markup).
        stopped_by: See ``Sweep``.
    """

    side: Side
    requested: Decimal
    quantity: Decimal
    shortfall: Decimal
    stopped_by: str | None
    average_price: Decimal | None
    best_price: Decimal | None
    worst_price: Decimal | None
    all_in_price: Decimal | None
    subtotal: Decimal
    fees: Decimal
    markup: Decimal
    total: Decimal
    from_mid_bps: Decimal | None
    from_best_bps: Decimal | None
    waterfall: tuple[Step, ...]
    legs: tuple[Leg, ...]
    best_single_venue: SingleVenue | None
    fills: tuple[Fill, ...]

    @property
    def fillable(self) -> bool:
        """Tell whether all that was asked for can be had."""
        return not self.shortfall


def price(
    book: ConsolidatedBook,
    side: Side,
    quantity: Decimal,
    *,
    limit_price: Decimal | None = None,
    slippage_bps_max: Decimal | None = None,
    markup_bps: Decimal = ZERO,
) -> SideQuote:
    """
    Price an order for *quantity* on the book as it is.

    Args:
        quantity: Base asset, > 0.
        limit_price: Levels worse than this are left alone.
        slippage_bps_max: Ends the walk where the average price would be further from mid.
        markup_bps: The desk's margin, of the notional.
    """
    bound = None if slippage_bps_max is None else Bound(book.mid, slippage_bps_max)
    levels = book.levels(side)
    swept = sweep(levels, side, quantity, limit_price=limit_price, bound=bound, markup_bps=markup_bps)
    with localcontext(EXACT):
        return _explain(book, side, quantity, swept, markup_bps, limit_price)


def _explain(
    book: ConsolidatedBook,
    side: Side,
    requested: Decimal,
    swept: Sweep,
    markup_bps: Decimal,
    limit_price: Decimal | None,
) -> SideQuote:
    fills = swept.fills
    quantity = swept.filled
    subtotal = exact_sum(fill.subtotal for fill in fills)
    fees = exact_sum(fill.fee for fill in fills)
    markup = exact_sum(fill.markup for fill in fills)
    total = _total(side, subtotal, fees, markup)
    shown = [fill.level.price for fill in fills]
    best, worst = (min, max) if side is Side.BUY else (max, min)
    worse = 1 if side is Side.BUY else -1
    best_price = best(shown, default=None)
    return SideQuote(
        side=side,
        requested=requested,
        quantity=quantity,
        shortfall=requested - quantity,
        stopped_by=swept.stopped_by,
        average_price=ratio(subtotal, quantity) if quantity else None,
        best_price=best_price,
        worst_price=worst(shown, default=None),
        all_in_price=ratio(total, quantity) if quantity else None,
        subtotal=subtotal,
        fees=fees,
        markup=markup,
        total=total,
        from_mid_bps=_slippage(subtotal, book.mid * quantity, worse),
        from_best_bps=None if best_price is None else _slippage(subtotal, best_price * quantity, worse),
        waterfall=_waterfall(book, side, quantity, subtotal, fees, markup),
        legs=_legs(book.symbol, side, fills),
        best_single_venue=_best_single_venue(book, side, quantity, total, markup_bps, limit_price),
        fills=fills,
    )


def _total(side: Side, subtotal: Decimal, fees: Decimal, markup: Decimal) -> Decimal:
    return subtotal + fees + markup if side is Side.BUY else subtotal - fees - markup


def _slippage(subtotal: Decimal, reference: Decimal, worse: int) -> Decimal | None:
    return bps(worse * (subtotal - reference), reference) if reference else None


def _waterfall(
    book: ConsolidatedBook, side: Side, quantity: Decimal, subtotal: Decimal, fees: Decimal, markup: Decimal
) -> tuple[Step, ...]:
    """Go from mid to total; each line is a difference of amounts at the money's scale, and the last is their sum."""
    at_mid = money_near(book.mid * quantity)
    at_best = money_near(book.best(side).price * quantity)
    cost = 1 if side is Side.BUY else -1
    lines = {
        "mid": at_mid,
        "half_spread": at_best - at_mid,
        "depth": subtotal - at_best,
        "conversion": ZERO,
        "fees": cost * fees,
        "markup": cost * markup,
    }
    shares = {name: bps(amount, at_mid) if at_mid else ZERO for name, amount in lines.items()} | {"mid": ZERO}
    # The last line's basis points are the sum of the others', as its money is.
    lines["total"], shares["total"] = exact_sum(lines.values()), exact_sum(shares.values())
    return tuple(Step(name, amount, shares[name]) for name, amount in lines.items())


def _legs(symbol: str, side: Side, fills: Sequence[Fill]) -> tuple[Leg, ...]:
    """Gather the fills by venue, in the order the venues were first used."""
    by_venue: dict[str, list[Fill]] = {}
    for fill in fills:
        by_venue.setdefault(fill.level.venue, []).append(fill)
    worst = max if side is Side.BUY else min
    legs = []
    for venue, own in by_venue.items():
        quantity = exact_sum(fill.quantity for fill in own)
        subtotal = exact_sum(fill.subtotal for fill in own)
        legs.append(
            Leg(
                venue=venue,
                symbol=symbol,
                quantity=quantity,
                average_price=ratio(subtotal, quantity),
                worst_price=worst(fill.level.price for fill in own),
                subtotal=subtotal,
                fee=exact_sum(fill.fee for fill in own),
                fee_bps=own[0].level.fee_bps,
                levels=len(own),
            )
        )
    return tuple(legs)


def _best_single_venue(
    book: ConsolidatedBook,
    side: Side,
    quantity: Decimal,
    total: Decimal,
    markup_bps: Decimal,
    limit_price: Decimal | None,
) -> SingleVenue | None:
    """Find the venue that alone would fill the same quantity best, or None where none could fill it."""
    if not quantity:
        return None
    alone: dict[str, Decimal] = {}
    for venue in book.venues:
        own = [level for level in book.levels(side) if level.venue == venue]
        swept = sweep(own, side, quantity, limit_price=limit_price, markup_bps=markup_bps)
        if swept.stopped_by is None:
            alone[venue] = _total(
                side,
                exact_sum(fill.subtotal for fill in swept.fills),
                exact_sum(fill.fee for fill in swept.fills),
                exact_sum(fill.markup for fill in swept.fills),
            )
    if not alone:
        return None
    venue = min(alone, key=lambda name: (alone[name] if side is Side.BUY else -alone[name], name))
    saving = alone[venue] - total if side is Side.BUY else total - alone[venue]
    return SingleVenue(venue, ratio(alone[venue], quantity), bps(saving, alone[venue]) if alone[venue] else ZERO)
