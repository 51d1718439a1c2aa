"""Genuine books of four venues, caught at one instant, against fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import orjson
import pytest

from exchanges.book import RawBook, Side, decode
from service.market.book import NoBook, Rules, merge, screen
from service.pricing.quote import price
from tests.service import oracle
from tests.service.shown import NOW_NS, source

FEES_BPS = {"bitfinex": 20, "bitstamp": 40, "coinbase": 60, "bittrex": Decimal("35.5")}
WIDE = Rules(crossed_bps_max=Decimal(1_000), outlier_bps=Decimal(1_000))
QUANTITIES = ["0.00012345", "1", "37.123456789012", "2500", "1000000"]


def captured(recorded, number, base):
    """The venues' rows for one symbol, as text."""
    rows = orjson.loads((recorded / "multi_venue" / f"btc-eth-usd_{number}.json").read_bytes())
    return {row["venue"]: row for row in rows if (row["base"], row["quote"]) == (base, "USD")}


def decoded(rows, base):
    """Sources of the books as ccxt hands them out, in floats."""
    symbol = f"{base}/USD"
    books = [
        decode(
            RawBook(
                symbol, *([[float(number) for number in level] for level in row[side]] for side in ("bids", "asks"))
            ),
            venue=venue,
            symbol=symbol,
            received_at_ns=NOW_NS,
        )
        for venue, row in rows.items()
    ]
    return [source(book, FEES_BPS[book.venue]) for book in books]


def as_sent(rows):
    """The same in fractions, out of the venues' own text; a book is cut to 5,000 levels a side."""
    return {
        venue: oracle.Shown(
            *(
                [tuple(map(oracle.fraction, level)) for level in sorted(row[side], key=best)[:5_000]]
                for side, best in (
                    ("bids", lambda level: -Decimal(level[0])),
                    ("asks", lambda level: Decimal(level[0])),
                )
            ),
            oracle.fraction(FEES_BPS[venue]),
        )
        for venue, row in rows.items()
    }


@pytest.fixture(params=[(number, base) for number in (1, 2) for base in ("BTC", "ETH")], ids=str)
def capture(request, recorded):
    """The market in fractions and the sources in decimals, out of one capture."""
    number, base = request.param
    rows = captured(recorded, number, base)
    return as_sent(rows), decoded(rows, base), f"{base}/USD"


def test_the_merged_book_is_the_captures_to_the_last_digit(capture):
    """
    Every level of every venue is in the book once, at its own price with its own fee, in the order of net and gross.
    """
    market, sources, symbol = capture
    screened = screen(symbol, sources, WIDE)
    book = merge(symbol, screened)

    assert {"bitfinex", "bitstamp", "bittrex", "coinbase"} == set(book.venues)
    for side in Side:
        for gross, levels in ((False, book.levels(side)), (True, book.gross(side))):
            assert oracle.ranked(market, side.value, gross=gross) == [
                (*map(Fraction, level[1:3]), level.venue, Fraction(level.fee_bps), Fraction(level.net_price))
                for level in levels
            ]
    bid, ask = oracle.best_prices(market)
    assert (bid, ask, oracle.mid(market)) == tuple(map(Fraction, (book.best_bid.price, book.best_ask.price, book.mid)))
    assert book.crossed


@pytest.mark.parametrize("side", list(Side))
def test_quotes_are_right_to_the_last_digit(capture, side):
    """
    From dust to more than there is, at market, with a limit and with a bound: every number of the quote is exact.
    """
    market, sources, symbol = capture
    book = merge(symbol, screen(symbol, sources, WIDE))
    limit = book.levels(side)[40].price
    orders = [(quantity, {}) for quantity in QUANTITIES]
    orders += [("37.5", {"limit_price": limit}), ("500000", {"slippage_bps_max": Decimal("12.5")})]
    for quantity, bounds in orders:
        expected = oracle.priced(
            market,
            side.value,
            oracle.fraction(quantity),
            limit=None if "limit_price" not in bounds else Fraction(limit),
            bound_bps=None if "slippage_bps_max" not in bounds else Fraction("12.5"),
            markup_bps=Fraction(3, 2),
        )
        priced = price(book, side, Decimal(quantity), markup_bps=Decimal("1.5"), **bounds)
        assert expected == oracle.numbers_of(priced)
        assert "slippage_bps_max" not in bounds or priced.stopped_by == "slippage"


def test_the_default_rules_refuse_what_crosses_too_far(capture):
    """
    Bitfinex was far above the others: with one other venue it is refused, with three it is left out or refused.
    """
    _, sources, symbol = capture
    by_venue = {one.venue: one for one in sources}
    two = screen(symbol, [by_venue["bitfinex"], by_venue["coinbase"]], Rules())
    assert isinstance(two, NoBook)
    assert "venues_disagree" == two.code

    four = screen(symbol, sources, Rules())
    if isinstance(four, NoBook):
        assert ("venues_disagree", {"crossed"}) == (four.code, {one.reason for one in four.sources})
    else:
        assert ["bitfinex"] == [one.venue for one in four if one.reason == "outlier"]
        assert "bitfinex" not in merge(symbol, four).venues
