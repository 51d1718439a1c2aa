"""What is answered about the market: book, depth, symbols, venues, and whether the service is ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from service.client.decoding import Message
from service.client.quotes import Source

View = Literal["net", "gross"]
"""Whether levels are ranked with the venues' fees or without."""


@dataclass(frozen=True, slots=True)
class Level(Message):
    """A venue's level: an order gets ``quantity`` less ``taken`` of it; ``held`` is the part that firm quotes hold."""

    price: Decimal
    net_price: Decimal
    quantity: Decimal
    taken: Decimal
    held: Decimal
    venue: str


@dataclass(frozen=True, slots=True)
class Book(Message):
    """The consolidated book, the best levels first."""

    symbol: str
    view: View
    market_data: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    crossed: bool
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Resting(Message):
    """What rests within a distance of mid; notionals in the quote asset, before fees."""

    bid_quantity: Decimal
    bid_notional: Decimal
    ask_quantity: Decimal
    ask_notional: Decimal


@dataclass(frozen=True, slots=True)
class VenueResting(Resting):
    """The same on one venue."""

    venue: str


@dataclass(frozen=True, slots=True)
class Band(Resting):
    """What rests within ``bps`` of mid, in all and per venue."""

    bps: Decimal
    venues: tuple[VenueResting, ...]


@dataclass(frozen=True, slots=True)
class Depth(Message):
    """Liquidity near mid."""

    symbol: str
    market_data: str
    mid: Decimal
    bands: tuple[Band, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class VenueSymbol(Message):
    """A venue's standing with one symbol."""

    symbol: str
    state: str
    reason: str | None
    age_ms: int | None
    sequence: int | None
    levels: int | None
    taker_fee_bps: Decimal | None


@dataclass(frozen=True, slots=True)
class Venue(Message):
    """A venue; its own state is the worst of its symbols'."""

    venue: str
    enabled: bool
    poll_interval_ms: int | None
    transport: str
    state: str | None
    reason: str | None
    since: datetime | None
    symbols: tuple[VenueSymbol, ...]
    taker_fee_bps: Decimal | None
    accepted: int
    rejected: Mapping[str, int]
    failed: Mapping[str, int]
    reconnects: int


@dataclass(frozen=True, slots=True)
class SwitchedVenue(Venue):
    """A venue that was switched, and for how long."""

    in_force: str


@dataclass(frozen=True, slots=True)
class Venues(Message):
    """All venues of the settings in force."""

    venues: tuple[Venue, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Reloaded(Message):
    """What reading the settings again came to: names of keys."""

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Instrument(Message):
    """A symbol's rules on one venue; None where the venue names none."""

    venue: str
    symbol: str
    price_step: Decimal | None
    quantity_step: Decimal | None
    quantity_min: Decimal | None
    notional_min: Decimal | None
    taker_fee_bps: Decimal


@dataclass(frozen=True, slots=True)
class Symbol(Message):
    """A symbol; its own rules are the most permissive of its venues'."""

    symbol: str
    base_asset: str
    quote_asset: str
    quantity_step: Decimal | None
    quantity_min: Decimal | None
    notional_min: Decimal | None
    venues: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class Symbols(Message):
    """All symbols of the settings in force."""

    symbols: tuple[Symbol, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Health(Message):
    """The process is alive."""

    status: str


@dataclass(frozen=True, slots=True)
class SymbolReadiness(Message):
    """Whether one symbol can be quoted; ``sources`` where it cannot."""

    symbol: str
    live_venues: int
    venues_min: int
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Readiness(Message):
    """All symbols can be quoted."""

    status: str
    symbols: tuple[SymbolReadiness, ...]
