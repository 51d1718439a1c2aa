"""Facts about venues: how deep each may be asked, how often, and that each exists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.ccxt_venue import CcxtVenue, exchange_ids
from exchanges.venues import UNKNOWN, VENUES, Link, VenueFacts, facts, request_interval_ms


@pytest.mark.parametrize("exchange", VENUES)
def test_every_venue_with_a_fact_is_one_of_ccxts(exchange):
    """
    A fact about a venue that nobody can name would never be used.
    """
    assert exchange in exchange_ids()


@pytest.mark.parametrize(("exchange", "wanted", "asked"), [
    ("binance", 100, 100),
    ("binance", 1, 1),
    ("binance", 9_999, 5_000),
    ("bitfinex", 1, 1),
    ("bitfinex", 2, 25),
    ("bitfinex", 26, 100),
    # The most it has.
    ("bitfinex", 5_000, 100),
    ("bybit", 5_000, 200),
    ("cryptocom", 100, 50),
    ("gate", 2_000, 1_000),
    ("htx", 6, 10),
    ("htx", 100, 150),
    ("kraken", 5_000, 500),
    ("kucoin", 1, 20),
    ("kucoin", 20, 20),
    ("kucoin", 21, 100),
    ("okx", 5_000, 400),
    # It has no limit to ask with: everything comes, and is cut.
    ("bitstamp", 10, None),
    ("coinbaseexchange", 10, None),
    # Nothing is known of it.
    ("hitbtc", 10, None),
])  # fmt: skip
def test_depth_asked_for_is_the_least_that_suffices(exchange, wanted, asked):
    """
    A venue is asked for what it accepts: no fewer levels than wanted, if it has so many.
    """
    assert asked == facts(exchange).depth(wanted)


def test_venue_that_gives_no_fewer_than_five_is_asked_for_five():
    """
    Who wants one level of it gets five.
    """
    assert 5 == VenueFacts(depths=range(5, 11)).depth(1)


@given(st.sampled_from(sorted(VENUES)), st.integers(1, 5_000), st.integers(1, 5_000))
def test_more_levels_wanted_never_ask_for_fewer(exchange, few, many):
    """
    Whoever wants a deeper book does not get a shallower one.
    """
    known = facts(exchange)
    asked = [known.depth(wanted) for wanted in sorted((few, many))]

    assert asked == [None, None] or asked[0] <= asked[1]
    assert asked[0] is None or asked[0] in known.depths


@pytest.mark.parametrize(("exchange", "depth", "interval_ms"), [
    ("binance", 1, 50), ("binance", 100, 50), ("binance", 101, 250), ("binance", 500, 250), ("binance", 1_000, 500),
    ("binance", 1_001, 2_500), ("binance", 5_000, 2_500),
    # Deeper than it goes: it is asked for 5,000.
    ("binance", 6_000, 2_500),
    ("binanceus", 100, 50),
    ("kraken", 10, 1_200), ("kraken", 500, 1_200), ("gemini", 10, 500), ("bybit", 10, 100), ("mexc", 10, 150),
    # Nothing known: what ccxt says, in whole milliseconds.
    ("hitbtc", 10, 3), ("coinbaseexchange", 10, 3),
])  # fmt: skip
def test_least_time_between_requests(exchange, depth, interval_ms):
    """
    A venue is asked no more often than its weights allow; a deeper book costs more where it does.
    """
    assert interval_ms == request_interval_ms(exchange, depth, 3.3)


def test_unknown_venue_is_trusted_with_nothing():
    """
    Without a fact, time says nothing about age, and prices do not repeat.
    """
    assert UNKNOWN == facts("hitbtc")
    assert not (UNKNOWN.time_is_generation or UNKNOWN.time_is_local or UNKNOWN.repeats_prices)


def test_interval_of_ccxt_is_the_default():
    """
    A venue without a row keeps ccxt's own interval, a known one its own.
    """
    assert 1_200 == CcxtVenue("kraken", "kraken").rate_limit_ms(100)
    assert 50 == CcxtVenue("mine", "binance").rate_limit_ms(100)
    assert 0 < CcxtVenue("hitbtc", "hitbtc").rate_limit_ms(100) < 5_000


@pytest.mark.parametrize(("exchange", "wanted", "subscribed"), [
    # ccxt would throw levels away that Binance's changes do not repeat.
    ("binance", 20, None),
    ("kraken", 20, 25),
    ("kraken", 5_000, 1_000),
    ("bybit", 100, 200),
    ("okx", 20, None),
    ("bitstamp", 20, None),
    ("hitbtc", 20, None),
])  # fmt: skip
def test_depth_subscribed_to_is_one_that_the_stream_has(exchange, wanted, subscribed):
    """
    A stream is asked for the least of its depths that suffices, or for no depth where there is only one.
    """
    assert subscribed == facts(exchange).stream.depth(wanted)


@pytest.mark.parametrize(("message", "link"), [
    ({"topic": "orderbook.50.BTCUSDT", "type": "snapshot", "data": {"s": "BTCUSDT", "u": 7}}, Link("BTCUSDT", 7, None)),
    ({"topic": "orderbook.50.BTCUSDT", "type": "delta", "data": {"s": "BTCUSDT", "u": 8}}, Link("BTCUSDT", 8, 7)),
    # Its service was restarted: a snapshot, whatever it is called.
    ({"topic": "orderbook.50.BTCUSDT", "type": "delta", "data": {"s": "BTCUSDT", "u": 1}}, Link("BTCUSDT", 1, None)),
    ({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "data": []}, None),
    ({"op": "pong"}, None),
    ("pong", None),
])  # fmt: skip
def test_bybits_changes_follow_each_other_by_number(message, link):
    """
    A change says which one must have come before it; other messages say nothing.
    """
    assert link == facts("bybit").stream.link(message)
