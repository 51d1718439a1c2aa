"""What the venues show, made into sources and a consolidated book without a board."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from exchanges.board import Source
from exchanges.clock import MS
from exchanges.health import State
from exchanges.instruments import Instrument
from service.market.book import merge
from tests.conftest import venue_book
from tests.service.oracle import Shown

NOW_NS = 1_000_000 * MS


def instrument(venue, fee_bps=0, symbol="BTC/USDT"):
    """A symbol without any rule but its fee."""
    return Instrument(venue, symbol, None, None, None, None, Decimal(fee_bps))


def source(book, fee_bps=0, *, state=State.LIVE, reason=None, age_ms=5):
    """A venue's part with this book."""
    return Source(
        book.venue, book.symbol, state, reason, NOW_NS, book, age_ms, instrument(book.venue, fee_bps, book.symbol)
    )


def sources_of(ladders, fees=None):
    """One live source per drawn ladder."""
    return [source(venue_book(venue, ladder), (fees or {}).get(venue, 0)) for venue, ladder in ladders.items()]


def consolidated(ladders, fees=None):
    """The merged book of drawn ladders."""
    return merge("BTC/USDT", sources_of(ladders, fees))


def as_shown(sources):
    """The same sources as the oracle wants them: fractions by venue."""
    return {
        one.venue: Shown(
            [(Fraction(price), Fraction(quantity)) for price, quantity in one.book.bids],
            [(Fraction(price), Fraction(quantity)) for price, quantity in one.book.asks],
            Fraction(one.instrument.taker_fee_bps),
        )
        for one in sources
    }
