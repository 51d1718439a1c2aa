"""docs/pricing.md takes one real quote apart; every number on it is computed here a second time, in fractions."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest

from exchanges.board import Board
from exchanges.book import RawBook, Side, decode
from exchanges.instruments import Instrument
from exchanges.simulator import VENUES, SimulatedMarket
from service.accounting import bps_text, money_text, plain, price_text, rate, rate_text
from service.market.screening import Rules
from service.market.view import MarketView
from service.pricing.quote import price
from tests.service.oracle import four_decimals, near, twelve_digits
from tests.service.shown import ask

PAGE = Path(__file__).parents[1] / "docs/pricing.md"
SEED, AT_MS, QUANTITY, MARKUP_BPS = 7, 50_000, "0.19", 1
FEES_BPS = {"binance": 10, "bybit": 10, "bitstamp": 3}
NOTHING = "\N{EN DASH}"
TRADED = [("binance", "BTC/USDT"), ("bybit", "BTC/USDT"), ("bitstamp", "BTC/USD"), ("bitstamp", "USDT/USD")]


@pytest.fixture(scope="module")
def quoted():
    """The quote that the page is about, on the books that three simulated venues show at one moment."""
    market, board = SimulatedMarket(SEED), Board(Decimal(100))
    for venue, symbol in TRADED:
        rules = VENUES[venue].listings[symbol]
        board.seat(venue, symbol, 5_000, 0)
        board.instruct(
            Instrument(venue, symbol, rules.price_step, rules.quantity_step, rules.quantity_min, rules.notional_min,
                       Decimal(FEES_BPS[venue]))
        )  # fmt: skip
        shown = market.book(venue, symbol, AT_MS, 100)
        rows = [[[float(row.price), float(row.quantity)] for row in side] for side in (shown.bids, shown.asks)]
        board.publish(decode(RawBook(symbol, *rows), venue=venue, symbol=symbol, received_at_ns=0), 0)
    own = {"binance": "BTC/USDT", "bybit": "BTC/USDT", "bitstamp": "BTC/USD"}
    book = MarketView(board, Rules(), {"BTC/USDT": own}).book("BTC/USDT", 0).book
    return price(book, Side.BUY, ask(QUANTITY), rate(Decimal(MARKUP_BPS)))


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text()


def cells(page, header):
    """The rows of the table that has this header, without their ticks."""
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def money(number):
    return plain(Decimal(number.numerator) / Decimal(number.denominator))


def up(number):
    return Fraction(ceil(number * 10**8), 10**8)


def test_fills_on_the_page_are_the_quotes_and_round_as_it_says(quoted, page):
    """
    Every fill's price, subtotal, fee and markup follow from the level by the page's own words.
    """
    expected = []
    for fill in quoted.fills:
        shown = fill.hop
        at, quantity = Fraction(fill.price, 10**18), Fraction(fill.quantity, 10**18)
        if shown is None:
            own, stable, fee = at, None, Fraction(FEES_BPS[fill.venue], 10_000)
        else:
            own, stable = Fraction(shown.own_price, 10**18), Fraction(shown.price, 10**18)
            # Twelve digits, against the client.
            digits = Fraction(1, 10 ** (12 - len(str(int(own / stable)))))
            assert at == ceil(own / stable / digits) * digits
            fee = Fraction(FEES_BPS[fill.venue], 10_000)
            fee = (1 + fee) / (1 - fee) - 1
            fee = Fraction(ceil(fee * 10**10), 10**10)
        assert up(at * quantity) == Fraction(fill.subtotal, 10**8)
        assert up(at * quantity * fee) == Fraction(fill.fee, 10**8)
        assert up(at * quantity * MARKUP_BPS / 10_000) == Fraction(fill.markup, 10**8)
        expected.append(
            [fill.venue, price_text(fill.quantity), money(own), NOTHING if stable is None else money(stable),
             price_text(fill.price), money_text(fill.subtotal), rate_text(fill.rate), money_text(fill.fee),
             money_text(fill.markup)]
        )  # fmt: skip

    assert expected == cells(
        page, "venue | quantity | shown at | stable pair at | price | subtotal | fee, bps | fee | markup"
    )


def test_waterfall_on_the_page_is_the_quotes_and_follows_from_the_fills(quoted, page):
    """
    Each line is the difference that the page says it is, and the last is the sum of all others.
    """
    quantity = Fraction(QUANTITY)
    fills = [(Fraction(fill.price, 10**18), Fraction(fill.quantity, 10**18), fill.hop) for fill in quoted.fills]
    stable_bid, stable_ask = (Fraction(one, 10**18) for one in stable_top(quoted))
    stable_mid = (stable_bid + stable_ask) / 2
    mid = Fraction(quoted.book.twice_mid, 2 * 10**18)
    best = Fraction(quoted.book.asks.top.at_mid, 10**18)
    at_stable_mid = sum(
        up(taken * (at if hop is None else twelve_digits(Fraction(hop.own_price, 10**18) / stable_mid)))
        for at, taken, hop in fills
    )
    subtotal = sum(up(at * taken) for at, taken, _ in fills)
    fees, markup = Fraction(quoted.fees, 10**8), Fraction(quoted.markup, 10**8)
    lines = {
        "mid": near(mid * quantity),
        "half_spread": near(best * quantity) - near(mid * quantity),
        "depth": at_stable_mid - near(best * quantity),
        "conversion": subtotal - at_stable_mid,
        "fees": fees,
        "markup": markup,
    }
    lines["total"] = sum(lines.values())
    shares = {name: four_decimals(amount / lines["mid"] * 10_000) for name, amount in lines.items()}
    shares["mid"] = Fraction(0)
    shares["total"] = sum(share for name, share in shares.items() if name != "total")

    assert [[name, money(amount), money(shares[name])] for name, amount in lines.items()] == [
        row[:3] for row in cells(page, "step | amount, USDT | bps | from")
    ]
    assert [(step.name, money_text(step.amount), bps_text(step.bps)) for step in quoted.waterfall] == [
        (name, money(amount), money(shares[name])) for name, amount in lines.items()
    ]


def stable_top(quoted):
    """The best bid and ask of the stable pair, as the page's simulated bitstamp shows them."""
    book = SimulatedMarket(SEED).book("bitstamp", "USDT/USD", AT_MS, 1)
    return tuple(int(side[0].price * 10**18) for side in (book.bids, book.asks))


def test_numbers_in_the_text_are_the_quotes(quoted, page):
    """
    Prices, slippage and comparison named on the page are those of the quote.
    """
    single = quoted.best_single_venue
    conversion = next(leg.conversion for leg in quoted.legs if leg.conversion is not None)
    stable_bid, stable_ask = (price_text(one) for one in stable_top(quoted))
    values = {
        "mid": plain(quoted.book.mid),
        "best bid": price_text(quoted.book.bids.top.price),
        "best ask": price_text(quoted.book.asks.top.price),
        "stable bid": stable_bid,
        "stable ask": stable_ask,
        "subtotal": money_text(quoted.subtotal),
        "fees": money_text(quoted.fees),
        "markup": money_text(quoted.markup),
        "total": money_text(quoted.total),
        "average_price": plain(quoted.average_price),
        "all_in_price": plain(quoted.all_in_price),
        "from_mid": bps_text(quoted.from_mid_bps),
        "from_best": bps_text(quoted.from_best_bps),
        "best_single_venue": f"{single.venue} at {plain(single.all_in_price)}",
        "saving_bps": bps_text(single.saving_bps),
        "rate": plain(conversion.rate),
        "cost": money_text(conversion.cost),
    }
    named = dict(re.findall(r"\*\*([\w ]+)\*\* `([^`]+)`", page))

    assert values == named
