"""The book as it is when it is asked for, over a board fed by hand."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from exchanges.board import Board
from service.accounting import price_text
from service.market import view
from service.market.book import NoBook
from service.market.screening import Rules
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
LISTINGS = {"BTC/USDT": {"coinbase": "BTC/USDT", "kraken": "BTC/USDT"}}


class Market:
    """A board with two venues, and a view of it."""

    def __init__(self, clock):
        self.clock = clock
        self.board = Board(Decimal(100))
        for venue in ("coinbase", "kraken"):
            self.board.seat(venue, "BTC/USDT", STALE_AFTER_MS, clock.now_ns())
            self.board.instruct(instrument(venue, 10))
        self.view = MarketView(self.board, Rules(), LISTINGS)

    def publish(self, venue, ladder=LADDER, sequence=None):
        now_ns = self.clock.now_ns()
        self.board.publish(venue_book(venue, ladder, received_at_ns=now_ns, sequence=sequence), now_ns)

    def look(self, chosen=None):
        return self.view.book("BTC/USDT", self.clock.now_ns(), chosen)

    def book(self, chosen=None):
        return self.look(chosen).book

    def sources(self, chosen=None):
        return self.look(chosen).sources


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
    assert first is second

    market.publish("kraken", WIDER, sequence=2)
    third = market.book()
    assert third is not second
    assert ["99", "98"] == [price_text(level.price) for level in third.bids.levels()]
    # What did not change is not made again.
    assert third.bids.venues[0] is second.bids.venues[0]


def test_ages_and_sequences_are_those_of_the_moment_of_asking(market, clock):
    """
    A kept book tells how old each venue's part is now.
    """
    assert [0, 0] == [one.age_ms for one in market.sources()]

    clock.advance(40)
    market.publish("kraken", sequence=2)
    clock.advance(2)
    assert [(42, 1), (2, 2)] == [(one.age_ms, one.sequence) for one in market.sources()]
    clock.advance(5)
    assert [(47, 1), (7, 2)] == [(one.age_ms, one.sequence) for one in market.sources()]


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
    assert [("stale", 5_001), (None, 4_001)] == [(one.reason, one.age_ms) for one in market.sources()]
    clock.advance(1_000)
    refused = market.look()
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
    assert {"kraken"} == {level.venue for level in chosen.asks.levels()}
    assert ["excluded", None] == [one.reason for one in market.sources({"kraken"})]
    assert everyone is market.book()
    assert chosen is market.book({"kraken"})


def test_the_first_request_may_be_for_chosen_venues(market):
    """
    A book of some venues is never taken for the book of all.
    """
    assert ("kraken",) == market.book({"kraken"}).venues
    assert ("coinbase", "kraken") == market.book().venues


def test_books_that_were_not_asked_for_the_longest_are_forgotten(market, monkeypatch):
    """
    Choices of venues are many; only so many books of them are kept.
    """
    monkeypatch.setattr(view, "KEPT_MAX", 2)
    everyone, kraken = market.book(), market.book({"kraken"})
    assert everyone is market.book()

    market.book({"coinbase"})
    assert everyone is market.book()
    assert kraken is not market.book({"kraken"})


def test_books_that_cross_by_too_much_are_not_merged(market):
    """
    Venues that would pay each other a fortune are not both right: there is no book, and each says why.
    """
    market.publish("kraken", ". 101.01 1\n1 100.99 .")
    market.publish("coinbase", ". 100.10 1\n1 100.08 .")
    refused = market.look()

    assert isinstance(refused, NoBook)
    assert ("venues_disagree", ["crossed", "crossed"]) == (refused.code, [one.reason for one in refused.sources])


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
    held = market.look()
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

    assert [1, 1, 3] == [MarketView(board, replace(Rules(), venues_min=n), LISTINGS).venues_min for n in (0, 1, 3)]
    assert ("BTC/USDT",) == tuple(MarketView(board, Rules(), LISTINGS).symbols)


def test_other_rules_and_listings_count_from_the_next_look_on(market):
    """
    Who has looked goes on with what was seen; the next one sees other venues by other rules, and nothing kept is left.
    """
    before = market.look()
    market.view.serve(Rules(), LISTINGS)
    assert market.book() is not before.book
    market.view.serve(Rules(), {"BTC/USDT": {"kraken": "BTC/USDT"}})
    assert (("kraken",), ["kraken"]) == (market.book().venues, market.view.serving("BTC/USDT"))
    assert ("coinbase", "kraken") == before.book.venues

    market.view.serve(replace(Rules(), venues_min=3), LISTINGS)
    assert (3, "no_fresh_market_data") == (market.view.venues_min, market.look().code)
    market.view.serve(Rules(), {"ETH/USDT": {"kraken": "ETH/USDT"}})
    assert ["ETH/USDT"] == list(market.view.symbols)
