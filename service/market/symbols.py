"""Understand the ways people write a symbol.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches

SYMBOL_PATTERN = re.compile(r"[A-Za-z0-9]{1,20}([/_-]?[A-Za-z0-9]{1,20})?", re.ASCII)
"""What may be looked up at all."""


def resolve(text: str, symbols: Collection[str]) -> str | None:
    """
    Find the symbol meant by ``BTC/USDT``, ``BTC-USDT``, ``btc/usdt`` or, where it can mean only one, ``BTCUSDT``.

    Args:
        text: Matches ``SYMBOL_PATTERN``.
        symbols: Those that are served.

    Returns:
        One of *symbols*, or None.
    """
    if text in symbols:
        return text
    upper = text.upper()
    if re.search(r"[/_-]", upper):
        spelt = re.sub(r"[/_-]", "/", upper)
        return spelt if spelt in symbols else None
    meant = [symbol for symbol in symbols if symbol.replace("/", "") == upper]
    return meant[0] if len(meant) == 1 else None


def nearest(text: str, symbols: Collection[str]) -> list[str]:
    """Name up to three of *symbols* that look like *text*, the likest first."""
    return get_close_matches(text.upper(), list(symbols), n=3, cutoff=0.5)
