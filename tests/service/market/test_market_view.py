"""The book as it is when it is asked for, over a board fed by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from exchanges.board import Board
from service.market.book import NoBook, Rules
from service.market.view import MarketView
from tests.conftest import venue_book
from tests.service.shown import instrument

LADDER = """
    .   101   1
    1    99   .
    """
WIDER = """
    .   102   1
    1    98   .
    """
STALE_AFTER_MS = 5_000


class Market:
    """A board with two venues, and a view of it."""

    def __init__(self, clock):
        self.clock = clock
        self.board = Board(Decimal(100))
        for venue in ("coinbase", "kraken"):
            self.board.seat(venue, "BTC/USDT", STALE_AFTER_MS, clock.now_ns())
            self.board.instruct(instrument(venue, 10))
        self.view = MarketView(self.board, Rules())

    def publish(self, venue, ladder=LADDER, sequence=None):
        now_ns = self.clock.now_ns()
        self.board.publish(venue_book(venue, ladder, received_at_ns=now_ns, sequence=sequence), now_ns)

    def book(self, chosen=None):
        return self.view.book("BTC/USDT", self.clock.now_ns(), chosen)


@pytest.fixture
def market(clock):
    market = Market(clock)
    market.publish("coinbase", sequence=1)
    market.publish("kraken", sequence=1)
    return market


def test_the_merged_book_is_kept_until_a_venues_book_is_replaced(market, clock):
    """
    Asking twice merges once; a new book of any venue makes a new one.
    """
    first = market.book()
    clock.advance(40)
    second = market.book()
    assert first.asks is second.asks
    assert first.bids is second.bids
    assert (first.best_bid, first.best_ask, first.mid) == (second.best_bid, second.best_ask, second.mid)

    market.publish("kraken", WIDER, sequence=2)
    third = market.book()
    assert third.asks is not second.asks
    assert ["99", "98"] == [str(level.price) for level in third.bids]


def test_ages_and_sequences_are_those_of_the_moment_of_asking(market, clock):
    """
    A kept book tells how old each venue's part is now.
    """
    assert [0, 0] == [one.age_ms for one in market.book().sources]

    clock.advance(40)
    market.publish("kraken", sequence=2)
    clock.advance(2)
    assert [(42, 1), (2, 2)] == [(one.age_ms, one.sequence) for one in market.book().sources]
    clock.advance(5)
    assert [(47, 1), (7, 2)] == [(one.age_ms, one.sequence) for one in market.book().sources]


def test_a_venue_that_goes_stale_leaves_the_book_when_it_is_read(market, clock):
    """
    Nobody has to notice that a venue fell silent: its levels are gone when its book is too old.
    """
    clock.advance(1_000)
    market.publish("kraken")
    clock.advance(STALE_AFTER_MS - 1_000)
    assert ("coinbase", "kraken") == market.book().venues

    clock.advance(1)
    assert ("kraken",) == market.book().venues
    assert [("stale", 5_001), (None, 4_001)] == [(one.reason, one.age_ms) for one in market.book().sources]
    clock.advance(1_000)
    refused = market.book()
    assert isinstance(refused, NoBook)
    assert "no_fresh_market_data" == refused.code

    market.publish("coinbase")
    assert ("coinbase",) == market.book().venues


def test_chosen_venues_do_not_disturb_what_is_kept_for_all(market):
    """
    A request for one venue gets that one's levels and leaves the book of all as it was.
    """
    everyone = market.book()
    chosen = market.book({"kraken"})

    assert ("kraken",) == chosen.venues
    assert {"kraken"} == {level.venue for level in chosen.asks}
    assert ["excluded", None] == [one.reason for one in chosen.sources]
    assert everyone.asks is market.book().asks
    # All of them by name are all of them.
    assert everyone.asks is market.book({"kraken", "coinbase"}).asks


def test_the_first_request_may_be_for_chosen_venues(market):
    """
    A book of some venues is never taken for the book of all.
    """
    assert ("kraken",) == market.book({"kraken"}).venues
    assert ("coinbase", "kraken") == market.book().venues


def test_a_leap_of_the_price_is_held_until_it_is_confirmed(clock):
    """
    After a leap of more than 5 % there is no book until three further updates over two seconds agree.
    """
    market = Market(clock)
    market.board.unseat("coinbase", "BTC/USDT")
    market.publish("kraken")
    leapt = ". 111 1\n1 109 ."
    clock.advance(100)
    market.publish("kraken", leapt)
    held = market.book()
    assert ("no_fresh_market_data", ["jump"]) == (held.code, [one.reason for one in held.sources])

    for _ in range(3):
        clock.advance(700)
        market.publish("kraken", leapt)
    assert "110" == str(market.book().mid)


def test_a_symbol_needs_at_least_one_venue(clock):
    """
    The view tells how many venues a symbol needs, which is never none.
    """
    board = Market(clock).board

    assert [1, 1, 3] == [MarketView(board, replace(Rules(), venues_min=n)).venues_min for n in (0, 1, 3)]
    assert ("BTC/USDT",) == tuple(MarketView(board, Rules()).symbols)
