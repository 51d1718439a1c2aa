"""Books for measuring: of the seeded simulated market, never constants."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from exchanges.book import Ladder, RawBook, Side, VenueBook, decode
from exchanges.instruments import Instrument
from exchanges.simulator import VENUES, SimulatedMarket
from exchanges.simulator.market import Book, Level
from service.market.book import BookSide, ConsolidatedBook
from service.market.side import direct
from service.market.view import own_side

SYMBOL = "BTC/USDT"
LEVELS = 500
_SHOWN = 1_000
_STEP = Decimal("0.01")
_FEES_BPS = ("10", "26", "15", "40", "7.5", "20")


class Books:
    """As many venues as wanted: binance's book in as many simulated markets, all moved to the first one's price."""

    def __init__(self, seed: int = 7) -> None:
        """Take markets of *seed* and the ones after it."""
        self._seed = seed
        self._markets: dict[int, SimulatedMarket] = {}
        rules = VENUES["binance"].listings[SYMBOL]
        self._rules = (rules.price_step, rules.quantity_step, rules.quantity_min, rules.notional_min)

    def raw(self, number: int, at_ms: int = 50_000, levels: int = LEVELS) -> RawBook:
        """Give a venue's book as ccxt would, rows of floats; beyond 1,000 levels, with others further out."""
        to = self._shown(0, at_ms, 1)
        first = self._shown(number, at_ms, min(levels, _SHOWN))
        bids, asks = moved(first.bids, to.bids[0].price), moved(first.asks, to.asks[0].price)
        while len(bids) < levels:
            more = self._shown(number, at_ms + 10_000 * len(bids) // _SHOWN, min(levels - len(bids), _SHOWN))
            bids += moved(more.bids, bids[-1].price - _STEP)
            asks += moved(more.asks, asks[-1].price + _STEP)
        sides = [[[float(level.price), float(level.quantity)] for level in side] for side in (bids, asks)]
        return RawBook(SYMBOL, sides[0], sides[1])

    def _shown(self, number: int, at_ms: int, levels: int) -> Book:
        market = self._markets.setdefault(number, SimulatedMarket(self._seed + number))
        return market.book("binance", SYMBOL, at_ms, levels)

    def instrument(self, number: int) -> Instrument:
        """Give a venue's rules; fees differ."""
        return Instrument(self.name(number), SYMBOL, *self._rules, Decimal(_FEES_BPS[number % len(_FEES_BPS)]))

    def name(self, number: int) -> str:
        """Give a venue's name."""
        return f"venue{number}"

    def accepted(self, raw: RawBook, number: int) -> VenueBook:
        """Check a book as a feed does."""
        return decode(raw, venue=self.name(number), symbol=SYMBOL, received_at_ns=0)

    def consolidated(self, books: list[VenueBook]) -> ConsolidatedBook:
        """Merge the books of venues 0, 1, 2 …"""
        return ConsolidatedBook(SYMBOL, self._side(Side.SELL, books), self._side(Side.BUY, books))

    def _side(self, side: Side, books: list[VenueBook]) -> BookSide:
        return BookSide(
            side,
            [
                direct(
                    side, own_side(side, book.asks if side is Side.BUY else book.bids, book, self.instrument(number))
                )
                for number, book in enumerate(books)
            ],
        )


def moved(levels: Sequence[Level], best_price: Decimal) -> list[Level]:
    """Move a side, so that its best price is another one."""
    by = best_price - levels[0].price
    return [level._replace(price=level.price + by) for level in levels]


def rows(ladder: Ladder) -> list[list[float]]:
    """Give a side as rows of floats."""
    return [[float(level.price), float(level.quantity)] for level in ladder]
