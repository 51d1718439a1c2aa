"""Quotes as they are answered.

Amounts are `Decimal`, times `datetime` in UTC.  Words that may grow (states, reasons, steps, warnings) are `str`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from service.client.decoding import Message

Side = Literal["buy", "sell"]
"""Of an order: the client's."""
Sides = Literal["buy", "sell", "both"]
FirmStatus = Literal["open", "used", "expired", "released", "void"]


@dataclass(frozen=True, slots=True)
class Slippage(Message):
    """Positive is worse for the client; fees not counted."""

    from_mid: Decimal | None
    from_best: Decimal | None


@dataclass(frozen=True, slots=True)
class Step(Message):
    """A line of the waterfall; all but the last sum to the last."""

    step: str
    amount: Decimal
    bps: Decimal


@dataclass(frozen=True, slots=True)
class LegConversion(Message):
    """How a leg's fills became money of the quote asset."""

    symbol: str
    side: Side
    rate: Decimal
    age_ms: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Hop(Message):
    """Which level of the stable pair a fill was converted through."""

    symbol: str
    venue: str
    price: Decimal
    own_price: Decimal


@dataclass(frozen=True, slots=True)
class Leg(Message):
    """All the fills of one venue."""

    venue: str
    symbol: str
    quantity: Decimal
    average_price: Decimal
    worst_price: Decimal
    subtotal: Decimal
    fee: Decimal
    fee_bps: Decimal
    levels: int
    conversion: LegConversion | None


@dataclass(frozen=True, slots=True)
class QuoteFill(Message):
    """What one level would give."""

    venue: str
    symbol: str
    price: Decimal
    quantity: Decimal
    subtotal: Decimal
    fee: Decimal
    conversion: Hop | None


@dataclass(frozen=True, slots=True)
class BestSingleVenue(Message):
    """The venue that alone would be best."""

    venue: str
    all_in_price: Decimal


@dataclass(frozen=True, slots=True)
class QuoteSide(Message):
    """One side of a quote; ``fills`` is empty unless they were asked for."""

    fillable: bool
    quantity: Decimal
    shortfall: Decimal
    average_price: Decimal | None
    best_price: Decimal | None
    worst_price: Decimal | None
    all_in_price: Decimal | None
    subtotal: Decimal
    fees: Decimal
    markup: Decimal
    total: Decimal
    pays: str
    receives: str
    slippage_bps: Slippage
    waterfall: tuple[Step, ...]
    legs: tuple[Leg, ...]
    best_single_venue: BestSingleVenue | None
    saving_bps: Decimal | None
    fills: tuple[QuoteFill, ...] = ()


@dataclass(frozen=True, slots=True)
class VenuePrice(Message):
    """A price and who shows it."""

    price: Decimal
    venue: str


@dataclass(frozen=True, slots=True)
class Market(Message):
    """The consolidated book's top, by the prices the venues show."""

    mid: Decimal
    best_bid: VenuePrice
    best_ask: VenuePrice
    spread_bps: Decimal
    crossed: bool


@dataclass(frozen=True, slots=True)
class Liquidity(Message):
    """What is left out of the sides that were asked for, in the base asset."""

    taken: Decimal
    held: Decimal


@dataclass(frozen=True, slots=True)
class Source(Message):
    """A venue's part in an answer."""

    venue: str
    state: str
    used: bool
    reason: str | None
    age_ms: int | None
    sequence: int | None


@dataclass(frozen=True, slots=True)
class Warned(Message):
    """Something to know that is not wrong."""

    code: str


@dataclass(frozen=True, slots=True)
class Requested(Message):
    """The question, as it was understood."""

    side: Sides
    quantity: Decimal | None = None
    total: Decimal | None = None
    slippage_bps_max: Decimal | None = None
    limit_price: Decimal | None = None
    venues: tuple[str, ...] | None = None
    exclude_venues: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Quote(Message):
    """What an order would get now; the side not asked for is None."""

    quote_id: str
    kind: str
    executed: bool
    market_data: str
    execution: str
    symbol: str
    base_asset: str
    quote_asset: str
    requested: Requested
    created_at: datetime
    expires_at: datetime
    expires_in_ms: int
    buy: QuoteSide | None
    sell: QuoteSide | None
    market: Market
    liquidity: Liquidity
    sources: tuple[Source, ...]
    warnings: tuple[Warned, ...]

    def side(self, name: Side | None = None) -> QuoteSide:
        """
        Give one side; *name* may be left out where there is only one.

        Raises:
            LookupError: If that side was not asked for, or both were and none is named.
        """
        there = {"buy": self.buy, "sell": self.sell}
        found = [side for asked, side in there.items() if side is not None and name in (None, asked)]
        if len(found) != 1:
            raise LookupError("the quote has both sides: name one" if found else f"the quote has no side {name}")
        return found[0]


@dataclass(frozen=True, slots=True)
class FirmQuote(Quote):
    """A price that is honoured until it expires; ``held`` of the balance, by asset, while it is open."""

    status: FirmStatus
    held: Mapping[str, Decimal]
    execution_id: str | None = None
