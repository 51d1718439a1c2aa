"""How an order is decided, as tables."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.book import Side
from service.accounting import bps_text
from service.desk.orders import Promise, QuotedSide, TimeInForce, refusal
from service.pricing.quote import price
from tests.service.shown import ask, consolidated, money

BUY, SELL = Side.BUY, Side.SELL
FOK, IOC = TimeInForce.FOK, TimeInForce.IOC

# Mid is 100.
BOOK = consolidated(
    {
        "kraken": """
            .   102   1
            .   101   1
            1    99   .
            1    98   .
            """
    }
)


def promise(total, tolerance_bps="0", *, fillable=True):
    return Promise(QuotedSide(10**18, money(total), fillable), Decimal(tolerance_bps))


@pytest.mark.parametrize(
    ("side", "quantity", "time_in_force", "bounds", "expected"),
    [
        (BUY, "2", FOK, {}, None),
        (BUY, "2", IOC, {}, None),
        # All or nothing; or what can be had.
        (BUY, "3", FOK, {}, "insufficient_liquidity"),
        (BUY, "3", IOC, {}, None),
        (BUY, "2", FOK, {"limit_price": "101"}, "limit_not_met"),
        (BUY, "2", IOC, {"limit_price": "101"}, None),
        (BUY, "2", FOK, {"limit_price": "102"}, None),
        (SELL, "2", FOK, {"limit_price": "99"}, "limit_not_met"),
        (SELL, "2", FOK, {"limit_price": "98"}, None),
        (BUY, "2", FOK, {"slippage_bps_max": "149"}, "slippage_exceeded"),
        (BUY, "2", IOC, {"slippage_bps_max": "149"}, None),
        (BUY, "2", FOK, {"slippage_bps_max": "150"}, None),
        (SELL, "2", FOK, {"slippage_bps_max": "149"}, "slippage_exceeded"),
        # Nothing at all is no fill for anybody.
        (BUY, "1", IOC, {"limit_price": "100.99"}, "limit_not_met"),
        (BUY, "1", IOC, {"slippage_bps_max": "99"}, "slippage_exceeded"),
        # Where some levels were worse than the limit, the limit is what it failed for.
        (BUY, "3", FOK, {"limit_price": "101.5"}, "limit_not_met"),
        (BUY, "3", FOK, {"limit_price": "102"}, "insufficient_liquidity"),
    ],
)
def test_an_order_is_refused_for_what_it_failed_for(side, quantity, time_in_force, bounds, expected):
    """
    FOK is all or nothing, IOC takes what it can get, and the code says what was missing.
    """
    priced = price(BOOK, side, ask(quantity, **bounds))

    assert expected == refusal(priced, time_in_force, None)


@pytest.mark.parametrize(
    ("side", "promised", "expected"),
    [
        # One costs 101 and brings 99 now.
        (BUY, promise("101"), None),
        (BUY, promise("100.99999999"), "price_moved"),
        (BUY, promise("200"), None),
        (SELL, promise("99"), None),
        (SELL, promise("99.00000001"), "price_moved"),
        (SELL, promise("1"), None),
        # 100 bps of 100 are 1 ...
        (BUY, promise("100", "100"), None),
        (BUY, promise("100", "99.9999"), "price_moved"),
        (SELL, promise("100", "100"), None),
        (SELL, promise("100", "99.9999"), "price_moved"),
        # ... and of a promise that is negative (a sell of dust, less than its fees) slack is on the same side.
        (SELL, promise("-100", "0"), None),
        # A quote that had not enough stays one that had not enough, whatever the book holds now.
        (BUY, promise("1000", fillable=False), "insufficient_liquidity"),
    ],
)
def test_an_order_on_a_quote_fills_at_the_promise_or_better(side, promised, expected):
    """
    What was promised is the worst that a client gets, but for the tolerance that the client gave.
    """
    assert expected == refusal(price(BOOK, side, ask("1")), FOK, promised)


def test_missing_liquidity_is_said_before_a_moved_price():
    """
    A book that has become too thin is insufficient_liquidity, though its price moved as well.
    """
    assert "insufficient_liquidity" == refusal(price(BOOK, BUY, ask("3")), FOK, promise("1"))


@pytest.mark.parametrize(
    ("side", "promised", "total", "expected"),
    [
        (BUY, "100", "101", "100"),
        (BUY, "100", "99", "-100"),
        (SELL, "100", "99", "100"),
        (SELL, "100", "101", "-100"),
        (BUY, "3", "3.001", "3.3333"),
        (SELL, "-100", "-101", "100"),
        (BUY, "0", "1", None),
    ],
)
def test_versus_quote_is_positive_where_it_is_worse_for_the_client(side, promised, total, expected):
    """
    How far a fill is from its quote, in basis points of the quote; better is negative.
    """
    versus = promise(promised).versus_quote_bps(side, money(total))

    assert expected == (None if versus is None else bps_text(versus))


def test_tolerance_of_a_negative_promise_is_slack_and_not_its_opposite():
    """
    A tolerance only ever gives way, whatever the sign of what was promised.
    """
    assert not promise("-100", "100").broken_by(SELL, money("-101"))
    assert promise("-100", "100").broken_by(SELL, money("-101.00000001"))
