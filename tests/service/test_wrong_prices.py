"""One venue of several shows wrong prices: what is quoted meanwhile."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.board import Board
from exchanges.book import Side, units
from exchanges.health import apart
from service.market.book import NoBook
from service.market.screening import Rules
from service.market.view import MarketView
from service.pricing.quote import price
from tests.conftest import venue_book
from tests.service.shown import ask, instrument

HONEST = Decimal(60_000)
NAMES = ("binance", "kraken", "okx", "bybit", "bitstamp")


class Market:
    """So many venues, the last of which can be made to lie."""

    def __init__(self, clock, count):
        self.clock, self.venues = clock, NAMES[:count]
        self.board = Board(Decimal(100))
        for venue in self.venues:
            self.board.seat(venue, "BTC/USDT", 5_000, clock.now_ns())
            self.board.instruct(instrument(venue, 10))
        self.view = MarketView(self.board, Rules(), {"BTC/USDT": dict.fromkeys(self.venues, "BTC/USDT")})

    def updates(self, factor, *, for_ms=4_000, every_ms=250):
        """Let all venues show their books again and again; give what is quoted after each one's."""
        for _ in range(0, for_ms, every_ms):
            for number, venue in enumerate(self.venues):
                mid = HONEST * Decimal(factor) if venue == self.venues[-1] else HONEST + number
                ladder = f". {mid + 5} 1\n1 {mid - 5} ."
                now_ns = self.clock.now_ns()
                self.board.publish(venue_book(venue, ladder, received_at_ns=now_ns), now_ns)
                yield self.view.book("BTC/USDT", now_ns)
            self.clock.advance(every_ms)


@pytest.mark.parametrize(
    ("count", "factor", "refused"),
    [
        # One venue alone: a leap is held; 10 times or a tenth for as long as it is tried here, see test_health.py.
        (1, "10", {"no_fresh_market_data"}),
        (1, "0.1", {"no_fresh_market_data"}),
        # Two disagree: nobody can tell who is right.
        (2, "10", {"venues_disagree"}),
        (2, "0.1", {"venues_disagree"}),
        (2, "1.015", {"venues_disagree"}),
        # Three and more: the one that is wrong is left out, and quotes go on.
        (3, "10", set()),
        (3, "0.1", set()),
        (3, "1.015", set()),
        (5, "10", set()),
        (5, "0.1", set()),
        (5, "1.015", set()),
    ],
)
def test_no_quote_is_made_of_a_wrong_venues_prices(clock, count, factor, refused):
    """
    While one venue shows prices 10 times, a tenth or 1.5 % off, quotes are honest to 1 %, or refused as the rules say.
    """
    market = Market(clock, count)
    assert all(not isinstance(one, NoBook) for one in market.updates(1))

    codes = set()
    for seen in market.updates(factor):
        if isinstance(seen, NoBook):
            codes.add(seen.code)
            continue
        for side in Side:
            paid = price(seen.book, side, ask("0.5")).average_price
            assert not apart(units(paid), units(HONEST), Decimal(100))
    assert refused == codes - (set() if refused else {"venues_disagree"})
    if refused:
        assert isinstance(seen, NoBook)
    else:
        assert market.venues[-1] not in seen.book.venues

    # The trouble is over: within five seconds quotes are made of all venues again.
    assert count == len(list(market.updates(1, for_ms=5_000))[-1].book.venues)


def test_one_venue_alone_that_is_a_little_wrong_cannot_be_told_from_a_market_that_moved(clock):
    """
    Nothing but other venues can show that a lone venue is 1.5 % off: it is quoted, and the answer names one venue.
    """
    market = Market(clock, 1)
    list(market.updates(1))
    seen = list(market.updates("1.015"))

    assert not any(isinstance(one, NoBook) for one in seen)
    assert ("binance",) == seen[-1].book.venues
