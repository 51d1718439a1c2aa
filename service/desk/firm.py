"""Firm quotes: a price that is honoured until it expires, with funds and liquidity held for it.

Pure values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from exchanges.book import Side
from service.desk.execution import ExecutedFill
from service.desk.orders import QuoteRequest


class FirmStatus(StrEnum):
    """What has become of a firm quote."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"
    RELEASED = "released"
    VOID = "void"
    """The process that gave it is no more."""


@dataclass(frozen=True, slots=True)
class FirmQuote:
    """
    A firm quote.

    Args:
        quote_id: 32 hex digits.
        instance: Of the process that gave it.
        quantity: A whole number of 10**-18 of the base asset.
        subtotal: Money, like ``fees``, ``markup`` and ``total``.
        fills: What it is filled with, whatever the market does.
        held_asset: What is kept of the account's, and ``held_amount`` of it, a whole number of 10**-8.
        message: The body that it was answered with, JSON.
        execution_id: Of the fill that used it, or None.
    """

    quote_id: str
    account: str
    instance: str
    status: FirmStatus
    request: QuoteRequest
    side: Side
    quantity: int
    subtotal: int
    fees: int
    markup: int
    total: int
    fills: tuple[ExecutedFill, ...]
    held_asset: str
    held_amount: int
    created_at: datetime
    expires_at: datetime
    message: bytes
    execution_id: str | None = None

    @property
    def open(self) -> bool:
        """Tell whether its holds stand."""
        return self.status is FirmStatus.OPEN

    def ended(self, status: FirmStatus, execution_id: str | None = None) -> FirmQuote:
        """Give it with what has become of it."""
        return replace(self, status=status, execution_id=execution_id)
