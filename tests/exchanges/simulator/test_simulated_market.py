"""The simulated market is one market: the same for everyone who asks, and lawful at every moment."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.simulator.market import STEP_MS, VENUES, Book, Level, SimulatedMarket

WEEK_MS = 7 * 24 * 3600 * 1000
MARKET = SimulatedMarket(7)
LISTINGS = [(venue.name, listing) for venue in VENUES.values() for listing in venue.listings.values()]

listings = st.sampled_from(LISTINGS)
moments = st.integers(0, 8 * WEEK_MS)


def price(level: Level) -> Decimal:
    """The level's price, which the market always has."""
    assert level.price is not None
    return level.price


def quantity(level: Level) -> Decimal:
    """The level's quantity, which the market always has."""
    assert level.quantity is not None
    return level.quantity


def mid(book: Book) -> Decimal:
    """Halfway between the best prices."""
    return (price(book.bids[0]) + price(book.asks[0])) / 2


@settings(deadline=None, max_examples=80)
@given(listings, moments, st.integers(-(2**63), 2**63))
def test_every_book_is_sorted_uncrossed_on_step_and_positive(where, at_ms, seed):
    """No book of any seed at any moment breaks a rule that the venue's own books keep."""
    venue, listing = where
    book = SimulatedMarket(seed).book(venue, listing.symbol, at_ms, 200)

    bids, asks = [price(level) for level in book.bids], [price(level) for level in book.asks]
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert bids[0] < asks[0]
    assert 200 == len(bids) == len(asks)
    for level in (*book.bids, *book.asks):
        assert price(level) > 0 == price(level) % listing.price_step
        assert quantity(level) >= listing.quantity_min
        assert quantity(level) % listing.quantity_step == quantity(level) % listing.quantity_shown == 0
        assert level.age_ms >= 0 < level.orders


@settings(deadline=None, max_examples=40)
@given(listings, moments, st.lists(st.tuples(listings, moments), max_size=4))
def test_book_depends_on_nothing_asked_before(where, at_ms, asked_before):
    """A market that was asked all along and one that is asked for the first time show the same book."""
    venue, listing = where
    asked = SimulatedMarket(11)
    for (other_venue, other), other_ms in asked_before:
        asked.book(other_venue, other.symbol, other_ms, 5)

    assert SimulatedMarket(11).book(venue, listing.symbol, at_ms) == asked.book(venue, listing.symbol, at_ms)


def test_market_that_is_followed_is_the_one_that_is_asked_once():
    """Step by step, back and forth, what is kept of earlier moments changes no book."""
    followed = SimulatedMarket(7)
    for at_ms in (*range(50_000, 56_000, 100), *range(54_000, 50_000, -700)):
        asked_once = SimulatedMarket(7).book("binance", "ETH/USDT", at_ms, 60)
        assert asked_once == followed.book("binance", "ETH/USDT", at_ms, 60)


@settings(deadline=None, max_examples=40)
@given(listings, moments, st.integers(1, 2000))
def test_shallow_book_is_the_top_of_the_deep_one(where, at_ms, depth):
    """Asking for fewer levels changes none of them."""
    venue, listing = where
    full = MARKET.book(venue, listing.symbol, at_ms)

    assert Book(full.bids[:depth], full.asks[:depth]) == MARKET.book(venue, listing.symbol, at_ms, depth)


def test_book_stands_still_within_a_step():
    """Two answers with the same time on them are the same answer."""
    assert MARKET.book("okx", "BTC/USDT", 5000) == MARKET.book("okx", "BTC/USDT", 5000 + STEP_MS - 1)


def test_seeds_give_different_markets():
    """Another seed is another market, and its own again and again."""
    assert MARKET.book("okx", "BTC/USDT", 0) == SimulatedMarket(7).book("okx", "BTC/USDT", 0)
    assert MARKET.book("okx", "BTC/USDT", 0) != SimulatedMarket(8).book("okx", "BTC/USDT", 0)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["BTC/USDT", "ETH/USDT", "BTC/USD", "ETH/USD", "USDT/USD", "USDC/USD", "USDC/USDT"]), moments)
def test_venues_cross_each_other_by_less_than_10_bps(symbol, at_ms):
    """Venues disagree a little, as they do, and never so much that one looks wrong."""
    books = [MARKET.book(venue.name, symbol, at_ms, 1) for venue in VENUES.values() if symbol in venue.listings]
    best_bid, best_ask = max(price(book.bids[0]) for book in books), min(price(book.asks[0]) for book in books)

    assert (best_bid - best_ask) / best_ask * 10_000 < 10


def test_venues_do_cross_each_other_now_and_then():
    """Within an hour there is a moment at which one venue bids more than another asks."""
    crossed = 0
    for at_ms in range(0, 3_600_000, 60_000):
        books = [MARKET.book(venue, "BTC/USDT", at_ms, 1) for venue in VENUES]
        crossed += max(price(book.bids[0]) for book in books) > min(price(book.asks[0]) for book in books)

    assert crossed > 0


def test_venues_drift_apart_without_jumps():
    """What a venue's mid stands above another's changes by little in any tenth of a second."""

    def apart_bps(at_ms: int) -> Decimal:
        kraken, coinbase = (mid(MARKET.book(venue, "BTC/USD", at_ms, 1)) for venue in ("kraken", "coinbaseexchange"))
        return (kraken / coinbase - 1) * 10_000

    moments_ms = range(29_900, 3_600_000, 30_000)
    assert max(abs(apart_bps(at_ms + 100) - apart_bps(at_ms)) for at_ms in moments_ms) < 0.1


@pytest.mark.parametrize("venue", VENUES)
def test_venue_rests_20_to_60_btc_within_50_bps(venue):
    """On average over an hour, a venue's BTC/USDT book is as deep as a real one."""
    depths = []
    for at_ms in range(0, 3_600_000, 180_000):
        book = MARKET.book(venue, "BTC/USDT", at_ms)
        reach = mid(book) * 50 / 10_000
        levels = (*book.bids, *book.asks)
        depths.append(sum(quantity(level) for level in levels if abs(price(level) - mid(book)) < reach))

    assert 18 < sum(depths) / len(depths) < 66


def test_quantities_stay_for_seconds_and_are_then_replenished():
    """A tenth of a second later most of the book still stands; half a minute later most quantities are new."""

    def resting(at_ms: int) -> dict[Decimal, Decimal]:
        book = MARKET.book("bybit", "BTC/USDT", at_ms, 100)
        return {price(level): quantity(level) for level in (*book.bids, *book.asks)}

    def kept(later_ms: int) -> float:
        now, later = resting(1_003_900), resting(1_003_900 + later_ms)
        return sum(now[at] == later[at] for at in now.keys() & later.keys()) / len(now.keys() & later.keys())

    assert kept(100) > 0.9
    assert kept(30_000) < 0.1


def test_mid_wanders_like_a_market_and_comes_back():
    """BTC moves about 0.7 bp in a second and stays within a few percent of 64,000 over eight weeks."""
    seconds = [mid(MARKET.book("binance", "BTC/USDT", n * 1000, 1)) for n in range(1500)]
    moves = [(after / before - 1) * 10_000 for before, after in pairwise(seconds)]
    weeks = [mid(MARKET.book("binance", "BTC/USDT", n * WEEK_MS // 20, 1)) for n in range(160)]

    assert 0.6 < (sum(move * move for move in moves) / len(moves)).sqrt() < 0.85
    assert 60_000 < min(weeks) < max(weeks) < 68_000


def test_dollar_prices_are_tether_prices_through_usdt_usd():
    """BTC/USD is BTC/USDT at the price of USDT/USD, within what venues differ and rounding to a step."""
    mids = {symbol: mid(MARKET.book("bitstamp", symbol, 777_000, 1)) for symbol in ("BTC/USD", "BTC/USDT", "USDT/USD")}

    assert abs(mids["BTC/USDT"] * mids["USDT/USD"] / mids["BTC/USD"] - 1) * 10_000 < 4


def test_unlisted_symbol_is_a_key_error():
    """A venue has no book for what it does not list."""
    with pytest.raises(KeyError):
        MARKET.book("binance", "BTC/USD", 0)
