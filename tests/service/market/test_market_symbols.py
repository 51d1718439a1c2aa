"""How people write a symbol."""

from __future__ import annotations

import pytest

from service.market.symbols import SYMBOL_PATTERN, nearest, resolve

SERVED = ["BTC/USDT", "ETH/USDT", "ETH/BTC", "BTC/USD", "A/BC", "AB/C", "odd/One"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("BTC/USDT", "BTC/USDT"),
        ("btc/usdt", "BTC/USDT"),
        ("BTC-USDT", "BTC/USDT"),
        ("btc_usdt", "BTC/USDT"),
        ("BTCUSDT", "BTC/USDT"),
        ("ethbtc", "ETH/BTC"),
        # USD is not USDT.
        ("BTC/USD", "BTC/USD"),
        ("BTCUSD", "BTC/USD"),
        ("ETH/USD", None),
        ("ETHUSD", None),
        # It could be A/BC or AB/C: not for us to choose.
        ("ABC", None),
        ("A-BC", "A/BC"),
        ("USDT/BTC", None),
        ("DOGE/USDT", None),
        ("BTC", None),
        # A symbol that is served as it stands is meant as it stands.
        ("odd/One", "odd/One"),
    ],
)
def test_a_symbol_is_understood_where_it_can_mean_only_one(text, meant):
    """
    BTC/USDT may be written in several ways, but never stands for another asset.
    """
    assert SYMBOL_PATTERN.fullmatch(text)
    assert meant == resolve(text, SERVED)


@pytest.mark.parametrize(
    "text", ["", "/", "BTC/", "/USDT", "BTC/USDT/EUR", "BTC USDT", "BTC//USDT", "\uff22TC", "A" * 41]
)
def test_what_is_not_a_symbol_is_not_looked_up(text):
    """
    Only letters, digits and one separator make a symbol.
    """
    assert SYMBOL_PATTERN.fullmatch(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BTCC/USDT", ["BTC/USDT", "BTC/USD"]),
        ("eth/usd", ["ETH/USDT"]),
        ("XXXXXXXX", []),
    ],
)
def test_the_nearest_symbols_are_named_likest_first(text, expected):
    """
    A misspelt symbol is answered with those that look like it.
    """
    found = nearest(text, ["BTC/USDT", "ETH/USDT", "BTC/USD", "SOL/EUR"])

    assert expected == found[: len(expected)]
    assert (not expected) == (not found)
    assert len(found) <= 3
