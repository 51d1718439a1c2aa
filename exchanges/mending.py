"""Mend what ccxt.pro 4.5.90 does to some venues' streamed books, on one of its exchange objects.

Nothing here imports ccxt: these are the methods that its exchange objects call on themselves.
"""

from __future__ import annotations

from typing import Any

from exchanges.venues import StreamFacts

def mend(pro: Any, stream: StreamFacts) -> None:
    """Take the place of what would lose levels."""
    if stream.keeps_every_level:
        make_book = pro.order_book
        pro.order_book = lambda snapshot={}, depth=None: make_book(snapshot)
