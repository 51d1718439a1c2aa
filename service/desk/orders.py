"""What clients ask of the desk, checked for form, and how an order is decided.

Pure values and one pure decision: the same order on the same book always has the same outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from enum import StrEnum

from exchanges.book import Side
from service.accounting import BPS, EXACT, bps
from service.desk.quote_id import QuotedSide
from service.market.book import ConsolidatedBook
from service.pricing.quote import SideQuote


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
        quantity: Base asset, > 0.
        sides: One or both, in the order of the answer.
        limit_price: Quote asset per base asset; only with one side.
        venues: Only these, or None for all; sorted.
        exclude_venues: All but these, or None; sorted.
    """

    symbol: str
    quantity: Decimal
    sides: tuple[Side, ...]
    limit_price: Decimal | None = None
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
    book: ConsolidatedBook


@dataclass(frozen=True, slots=True)
class DirectOrder:
    """An order at market, or with a limit or a slippage bound."""

    symbol: str
    side: Side
    quantity: Decimal
    time_in_force: TimeInForce = TimeInForce.FOK
    limit_price: Decimal | None = None
    slippage_bps_max: Decimal | None = None


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

    def broken_by(self, side: Side, total: Decimal) -> bool:
        """Tell whether *total* is worse than was promised."""
        with localcontext(EXACT):
            slack = abs(self.quoted.total) * self.tolerance_bps / BPS
            if side is Side.BUY:
                return total > self.quoted.total + slack
            return total < self.quoted.total - slack

    def versus_quote_bps(self, side: Side, total: Decimal) -> Decimal | None:
        """Give how much worse (positive) or better the total is than promised, in basis points of the promise."""
        if not self.quoted.total:
            return None
        with localcontext(EXACT):
            worse_by = total - self.quoted.total if side is Side.BUY else self.quoted.total - total
            return bps(worse_by, abs(self.quoted.total))


_UNFILLED_CODES = {"limit": "limit_not_met", "slippage": "slippage_exceeded", "depth": "insufficient_liquidity"}


def refusal(priced: SideQuote, time_in_force: TimeInForce, promise: Promise | None) -> str | None:
    """
    Decide an order that was priced on the book as it is now.

    Returns:
        The contract's code of what it is refused for, or None if it fills (IOC: in part).
    """
    if promise is not None and promise.quoted.quantity < priced.requested:
        return _UNFILLED_CODES["depth"]  # The quote itself had promised less than was asked for.
    if priced.stopped_by is not None and (time_in_force is TimeInForce.FOK or not priced.quantity):
        return _UNFILLED_CODES[priced.stopped_by]
    if promise is not None and promise.broken_by(priced.side, priced.total):
        return "price_moved"
    return None
