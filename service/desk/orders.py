"""What clients ask of the desk, checked for form, and how an order is decided.

Pure values and one pure decision: the same order on the same book always has the same outcome.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from exchanges.book import Side
from service.accounting import QUANTITY_UNIT, RATE_ONE, bps, money_text, price_text, rate
from service.errors import Fault
from service.market.book import BookSide, ConsolidatedBook, Snapshot
from service.pricing.bounds import Ask
from service.pricing.quote import SideQuote, price


class TimeInForce(StrEnum):
    """FOK fills all or nothing, IOC what can be had now; neither ever rests."""

    FOK = "fok"
    IOC = "ioc"


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """
    A question for an indicative quote.

    Args:
        symbol: One that the desk serves.
        ask: How much; a limit price goes with one side only.
        sides: One or both, in the order of the answer.
        venues: Only these, or None for all; sorted.
        exclude_venues: All but these, or None; sorted.
    """

    symbol: str
    ask: Ask
    sides: tuple[Side, ...]
    venues: tuple[str, ...] | None = None
    exclude_venues: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """
    An indicative quote: what each side would get from one book.

    ``quote_id`` is opaque; times are UTC.
    """

    quote_id: str
    request: QuoteRequest
    market_data: str
    created_at: datetime
    expires_at: datetime
    sides: dict[Side, SideQuote]
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class QuotedSide:
    """What was promised for one side: how much could be had, for what total, and whether that is all that was asked."""

    quantity: int
    total: int
    fillable: bool


@dataclass(frozen=True, slots=True)
class DirectOrder:
    """An order for a quantity or a total, at market, or with a limit or a slippage bound."""

    symbol: str
    side: Side
    ask: Ask
    time_in_force: TimeInForce = TimeInForce.FOK


@dataclass(frozen=True, slots=True)
class QuoteOrder:
    """An order on an indicative quote; ``side`` may be None where the quote has one side only."""

    quote_id: str
    side: Side | None = None
    tolerance_bps: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """
    One ``POST /execute``.

    Args:
        account: Whose order it is.
        client_order_id: The client's name for it, for ever.
        fingerprint: SHA-256 over the request as parsed and the account.
        terms: What is wanted.
        valid_until: UTC; the order is not even looked at later.
        dry_run: Check everything, record nothing.
    """

    account: str
    client_order_id: str
    fingerprint: bytes
    terms: DirectOrder | QuoteOrder
    valid_until: datetime | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Promise:
    """What a quote promised, and how much worse the fill may be."""

    quoted: QuotedSide
    tolerance_bps: Decimal

    def broken_by(self, side: Side, total: int) -> bool:
        """Tell whether *total* is worse than was promised."""
        worse_by = total - self.quoted.total if side is Side.BUY else self.quoted.total - total
        return worse_by * RATE_ONE > abs(self.quoted.total) * rate(self.tolerance_bps)

    def versus_quote_bps(self, side: Side, total: int) -> int | None:
        """Give how much worse (positive) or better the total is than promised, in basis points of the promise."""
        if not self.quoted.total:
            return None
        worse_by = total - self.quoted.total if side is Side.BUY else self.quoted.total - total
        return bps(worse_by, abs(self.quoted.total))


_UNFILLED_CODES = {
    "limit": "limit_not_met",
    "slippage": "slippage_exceeded",
    "depth": "insufficient_liquidity",
    "rules": "insufficient_liquidity",
}


def refusal(priced: SideQuote, time_in_force: TimeInForce, promise: Promise | None) -> str | None:
    """
    Decide an order that was priced on the book as it is now.

    Returns:
        The contract's code of what it is refused for, or None if it fills (IOC: in part).
    """
    if promise is not None and not promise.quoted.fillable:
        return _UNFILLED_CODES["depth"]  # The quote itself had promised less than was asked for.
    if priced.stopped_by is not None and (time_in_force is TimeInForce.FOK or not priced.quantity):
        return _UNFILLED_CODES[priced.stopped_by]
    if promise is not None and promise.broken_by(priced.side, priced.total):
        return "price_moved"
    return None


def amount_faults(book: ConsolidatedBook, sides: Collection[Side], ask: Ask) -> list[Fault]:
    """
    Say what is wrong with the quantity that is asked for, if no venue of the book would accept it.

    Returns:
        Faults of the parameter ``quantity``, one per code, each suggesting what both sides would accept.
    """
    if ask.quantity is None:
        return []
    found: dict[str, tuple[str, int]] = {}
    for side in sides:
        for code, detail, suggested in _amount_faults(book.side(side), ask.quantity):
            if code not in found or suggested > found[code][1]:
                found[code] = (detail, suggested)
    return [Fault("quantity", code, detail, price_text(suggested)) for code, (detail, suggested) in found.items()]


def _amount_faults(side: BookSide, quantity: int) -> Iterator[tuple[str, str, int]]:
    step, smallest, least = side.order_step, side.order_min, side.order_least
    if quantity % step:
        floor = quantity // step * step
        yield "quantity_step", f"must be a multiple of {price_text(step)}", max(floor, least)
    if quantity < smallest:
        yield "quantity_too_small", f"must be at least {price_text(smallest)} for any venue to accept it", least
    elif quantity < least <= side.depth:
        yield "notional_too_small", "is worth less than any venue accepts as an order", least


def total_faults(sides: Collection[SideQuote]) -> list[Fault]:
    """
    Say that the total that is asked for buys or brings less than any venue accepts as an order, where that is so.

    Returns:
        At most one fault of the parameter ``total``, suggesting what all *sides* would accept, where there is that.
    """
    unmet = [
        priced for priced in sides if priced.ask.total is not None and not priced.quantity and priced.stopped_by is None
    ]
    if not unmet:
        return []
    least = [_least_total(priced) for priced in unmet]
    suggested = None if None in least else money_text(max(total for total in least if total is not None))
    return [Fault("total", "notional_too_small", "is worth less than any venue accepts as an order", suggested)]


def _least_total(priced: SideQuote) -> int | None:
    """Give what the smallest order within the limit comes to, or None where there is none."""
    least = max(QUANTITY_UNIT, priced.book.side(priced.side).least)
    smallest = price(priced.book, priced.side, priced.ask._replace(quantity=least, total=None), priced.markup_rate)
    return smallest.total if smallest.fillable else None
