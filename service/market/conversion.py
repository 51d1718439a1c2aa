"""Serve a symbol from a venue that trades it in another quote asset, through the live stable pair.

Pure: no clock, no I/O, no logging.  USD, USDT and USDC are different assets.  What an order on such a venue needs, or
brings, is exchanged at the executable side of the stable pair's own book, level by level, with its depth and its fee;
never at 1 and never at mid.  Depth of the stable pair that one level has used is not there for the next, whichever
venue shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from exchanges.book import UNIT, Side
from exchanges.health import apart
from service.accounting import RATE_ONE, significant_down, significant_near, significant_up, up
from service.market.side import Conversion, Hop, OwnSide, VenueSide

PIECE_UNIT = 10**10
"""A level that needs several of the stable pair's is cut at multiples of 10**-8 of the base asset."""


@dataclass(frozen=True, slots=True)
class StablePair:
    """
    The book of a stable pair as it is now.

    Args:
        symbol: ``USDT/USD``.
        quote_asset: Of the symbol that is served: the asset that is converted to.
        mid: Of the pair's consolidated book, a whole number of 10**-18.
        bids: By venue, in the order of the settings; their orders SELL.
        asks: By venue; their orders BUY.
        received_at_ns: Of the pair's books, by venue.
    """

    symbol: str
    quote_asset: str
    mid: int
    bids: Mapping[str, VenueSide]
    asks: Mapping[str, VenueSide]
    received_at_ns: Mapping[str, int]

    @property
    def base_is_quote(self) -> bool:
        """Tell whether the pair's base asset is the asset that is converted to."""
        return self.symbol.partition("/")[0] == self.quote_asset

    def crossing(self, side: Side) -> Side:
        """Give the side of the conversion's own order behind an order of *side*."""
        if self.base_is_quote:
            return Side.SELL if side is Side.BUY else Side.BUY
        return side

    def sides(self, side: Side) -> Mapping[str, VenueSide]:
        """Give what the conversion behind an order of *side* takes from."""
        return self.asks if self.crossing(side) is Side.BUY else self.bids

    def at_mid(self, own_price: int) -> int:
        """Convert a price at the pair's mid, half-even to 12 significant digits; for comparing, never for paying."""
        if self.base_is_quote:
            return significant_near(own_price * UNIT, self.mid)
        return significant_near(own_price * self.mid, UNIT)

    def depegged(self, depeg_bps: Decimal) -> bool:
        """Tell whether the pair is further from 1 than it may be."""
        return apart(self.mid, UNIT, depeg_bps)


@dataclass(slots=True)
class _Stock:
    """What has not been used yet of a stable pair's side on one venue."""

    side: VenueSide
    place: int = 0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.side.quantities[0] if self.there else 0

    @property
    def there(self) -> bool:
        return self.place < len(self.side.quantities)

    def advance(self) -> None:
        self.place += 1
        if self.there:
            self.left = self.side.quantities[self.place]


@dataclass(frozen=True, slots=True)
class _Offer:
    """A venue's level at what it comes to through one level of the stable pair."""

    stock: _Stock
    place: int
    price: int
    rate: int
    cost: int
    hop: Hop


@dataclass(slots=True)
class _Cursor:
    """How far a venue's levels have been taken, and what has been made of them."""

    own: OwnSide
    place: int = 0
    left: int = field(init=False)
    offer: _Offer | None = None
    prices: list[int] = field(default_factory=list)
    quantities: list[int] = field(default_factory=list)
    rates: list[int] = field(default_factory=list)
    hops: list[Hop] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = self.own.quantities[0]

    def advance(self) -> None:
        self.place += 1
        self.offer = None
        if self.place < len(self.own.quantities):
            self.left = self.own.quantities[self.place]


def converted(side: Side, own: Sequence[OwnSide], pair: StablePair) -> list[VenueSide]:
    """
    Give what orders of *side* can take of these venues through a stable pair, in its price.

    Levels are taken best first over all the venues, and the stable pair's with them.  A venue is served from its own
    book of the pair where it has one, else from the best of all.  What the stable pair's depth is not enough for is
    not there; a venue of which nothing is there is left out.
    """
    cursors = [_Cursor(one) for one in own if one.prices]
    through = pair.sides(side)
    stocks = {venue: _Stock(stable) for venue, stable in through.items()}
    while (found := _next(side, cursors, stocks, pair)) is not None:
        _take(*found)
    return [
        VenueSide(
            side=side,
            venue=cursor.own.venue,
            symbol=cursor.own.symbol,
            prices=cursor.prices,
            quantities=cursor.quantities,
            rates=cursor.rates,
            taker_rate=cursor.own.rate,
            rules=cursor.own.rules,
            conversion=Conversion(
                pair.symbol, pair.crossing(side), pair.base_is_quote, pair.received_at_ns, tuple(cursor.hops), through
            ),
            shown=cursor.own.shown or cursor.own,
        )
        for cursor in cursors
        if cursor.prices
    ]


def _next(
    side: Side, cursors: Sequence[_Cursor], stocks: Mapping[str, _Stock], pair: StablePair
) -> tuple[_Cursor, _Offer] | None:
    """Find the venue whose next level comes out best, with its offer; the settings' order decides among equals."""
    best: tuple[_Cursor, _Offer] | None = None
    for cursor in cursors:
        stock = _serving(cursor.own.venue, stocks)
        if stock is None or cursor.place == len(cursor.own.prices):
            continue
        offer = cursor.offer
        if offer is None or offer.stock is not stock or offer.place != stock.place:
            offer = cursor.offer = _offer(side, cursor, stock, pair)
        if best is None or offer.cost < best[1].cost:
            best = (cursor, offer)
    return best


def _serving(venue: str, stocks: Mapping[str, _Stock]) -> _Stock | None:
    own = stocks.get(venue)
    if own is not None:
        return own if own.there else None
    there = (stock for stock in stocks.values() if stock.there)
    return min(there, key=lambda stock: stock.side.costs[stock.place], default=None)


def _offer(side: Side, cursor: _Cursor, stock: _Stock, pair: StablePair) -> _Offer:
    own_price, own_rate = cursor.own.prices[cursor.place], cursor.own.rate
    price, rate = stock.side.prices[stock.place], stock.side.rates[stock.place]
    sign = 1 if side is Side.BUY else -1
    needed = own_price * (RATE_ONE + sign * own_rate)  # Per base asset, of the venue's quote asset, fee included.
    if pair.base_is_quote:
        comes_to = (own_price * UNIT, price)
        uses = (needed, price * (RATE_ONE - sign * rate))
        factor = (RATE_ONE * (RATE_ONE + sign * own_rate), RATE_ONE - sign * rate)
    else:
        comes_to = (own_price * price, UNIT)
        uses = (needed, UNIT * RATE_ONE)
        factor = ((RATE_ONE + sign * own_rate) * (RATE_ONE + sign * rate), RATE_ONE)
    joint_rate = up(sign * (factor[0] - RATE_ONE * factor[1]), factor[1])
    total_price = significant_up(*comes_to) if side is Side.BUY else significant_down(*comes_to)
    return _Offer(
        stock=stock,
        place=stock.place,
        price=total_price,
        rate=joint_rate,
        cost=sign * total_price * (RATE_ONE + sign * joint_rate),
        hop=Hop(pair.symbol, own_price, pair.at_mid(own_price), stock.side.venue, price, uses),
    )


def _take(cursor: _Cursor, offer: _Offer) -> None:
    """Take what the stable level is enough for of the venue's level, and go on to the next of the one that is empty."""
    stock, (numerator, denominator) = offer.stock, offer.hop.uses
    enough = stock.left * denominator // numerator
    served = cursor.left if enough >= cursor.left else enough // PIECE_UNIT * PIECE_UNIT
    if served:
        cursor.prices.append(offer.price)
        cursor.quantities.append(served)
        cursor.rates.append(offer.rate)
        cursor.hops.append(offer.hop)
        stock.left -= min(stock.left, offer.hop.used(served))
    cursor.left -= served
    if cursor.left:
        stock.advance()  # What is left of it is worth less than a unit of the base asset.
    else:
        cursor.advance()
