"""Genuine books of four venues, caught at one instant, against fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import orjson
import pytest

from exchanges.book import RawBook, Side, decimal, decode
from service.accounting import rate
from service.market.book import NoBook
from service.market.screening import Part, Rules, crossed_too_far, screen
from service.pricing.quote import price
from tests.service import oracle
from tests.service.shown import NOW_NS, ask, merged, source

FEES_BPS = {"bitfinex": 20, "bitstamp": 40, "coinbase": 60, "bittrex": Decimal("35.5")}
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


@pytest.fixture(scope="module", params=[(number, base) for number in (1, 2) for base in ("BTC", "ETH")], ids=str)
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
    book = merged(sources, symbol)

    assert {"bitfinex", "bitstamp", "bittrex", "coinbase"} == set(book.venues)
    for side in Side:
        for gross in (False, True):
            assert oracle.ranked(market, side.value, gross=gross) == [
                (
                    Fraction(level.price, 10**18),
                    Fraction(level.quantity, 10**18),
                    level.venue,
                    Fraction(level.rate, 10**6),
                    Fraction(level.net_price(side)),
                )
                for level in book.side(side).levels(gross=gross)
            ]
    bid, ask_price = oracle.best_prices(market)
    assert (bid, ask_price) == tuple(Fraction(top.price, 10**18) for top in (book.bids.top, book.asks.top))
    assert oracle.mid(market) == Fraction(book.mid)
    assert book.crossed


@pytest.mark.parametrize("side", list(Side))
def test_quotes_are_right_to_the_last_digit(capture, side):
    """
    From dust to more than there is, at market, with a limit and with a bound: every number of the quote is exact.
    """
    market, sources, symbol = capture
    book = merged(sources, symbol)
    limit = book.side(side).venues[0].prices[40]
    orders = [(quantity, {}) for quantity in QUANTITIES]
    orders += [("37.5", {"limit_price": decimal(limit)}), ("500000", {"slippage_bps_max": "12.5"})]
    orders += [(None, {"slippage_bps_max": "7.25"}), (None, {"total": "1234567.89"})]
    for quantity, bounds in orders:
        expected = oracle.priced(
            market,
            side.value,
            None if quantity is None else oracle.fraction(quantity),
            limit=oracle_bound(bounds, "limit_price"),
            bound_bps=oracle_bound(bounds, "slippage_bps_max"),
            total=oracle_bound(bounds, "total"),
            markup_bps=Fraction(3, 2),
        )
        for _ in range(2):  # The sides are merged on the way.
            priced = price(book, side, ask(quantity, **bounds), rate(Decimal("1.5")))
            assert expected == oracle.numbers_of(priced)


def oracle_bound(bounds, name):
    return oracle.fraction(bounds[name]) if name in bounds else None


def test_the_default_rules_refuse_what_crosses_too_far(capture):
    """
    Bitfinex was far above the others: with one other venue it is refused, with three it is left out or refused.
    """
    _, sources, symbol = capture
    by_venue = {one.venue: Part(one) for one in sources}
    two = [by_venue["bitfinex"], by_venue["coinbase"]]
    refused = screen(symbol, two, Rules())
    if isinstance(refused, NoBook):
        assert "venues_disagree" == refused.code
    else:
        assert crossed_too_far(merged([part.source for part in two], symbol), Rules())

    four = screen(symbol, list(by_venue.values()), Rules())
    left = [part.source for part in four if part.used]
    if len(left) == len(four):
        assert crossed_too_far(merged(left, symbol), Rules())
    else:
        assert ["bitfinex"] == [part.source.venue for part in four if part.source.reason == "outlier"]
