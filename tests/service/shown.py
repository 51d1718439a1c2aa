"""What the venues show, made into sources and a consolidated book without a board."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from exchanges.board import Source
from exchanges.book import Side, units
from exchanges.clock import MS
from exchanges.health import State
from exchanges.instruments import Instrument
from service.accounting import MONEY_SCALE
from service.market.book import BookSide, ConsolidatedBook
from service.market.side import direct
from service.market.view import own_side
from service.pricing.bounds import Ask
from tests.conftest import venue_book
from tests.service.oracle import Shown

NOW_NS = 1_000_000 * MS


def instrument(venue, fee_bps=0, symbol="BTC/USDT", *, step=None, quantity_min=None, notional_min=None):
    """A symbol's fee on a venue, and as many of its rules as are given."""
    rules = [None if rule is None else Decimal(rule) for rule in (step, quantity_min, notional_min)]
    return Instrument(venue, symbol, None, *rules, Decimal(fee_bps))


def source(book, fee_bps=0, *, state=State.LIVE, reason=None, age_ms=5, **rules):
    """A venue's part with this book."""
    rules = instrument(book.venue, fee_bps, book.symbol, **rules)
    return Source(book.venue, book.symbol, state, reason, NOW_NS, book, age_ms, rules)


def sources_of(ladders, fees=None):
    """One live source per drawn ladder."""
    return [source(venue_book(venue, ladder), (fees or {}).get(venue, 0)) for venue, ladder in ladders.items()]


def merged(sources, symbol="BTC/USDT"):
    """The consolidated book of some sources, all of which are used as they are."""

    def side(of):
        return BookSide(
            of,
            [
                direct(of, own_side(of, one.book.asks if of is Side.BUY else one.book.bids, one.book, one.instrument))
                for one in sources
            ],
        )

    return ConsolidatedBook(symbol, side(Side.SELL), side(Side.BUY))


def consolidated(ladders, fees=None):
    """The merged book of drawn ladders."""
    return merged(sources_of(ladders, fees))


def ask(quantity=None, *, total=None, slippage_bps_max=None, limit_price=None):
    """What is asked for, in a trader's numbers."""
    return Ask(
        quantity=None if quantity is None else units(Decimal(quantity)),
        total=None if total is None else money(total),
        slippage_bps_max=None if slippage_bps_max is None else Decimal(slippage_bps_max),
        limit_price=None if limit_price is None else units(Decimal(limit_price)),
    )


def money(number):
    """An amount of money at its scale."""
    return int(Decimal(number).scaleb(MONEY_SCALE))


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
