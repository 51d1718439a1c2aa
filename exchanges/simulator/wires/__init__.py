"""Speak the formats of six venues: read a request's path, render instruments and books, stream changes as they do.

Pure.  One module a venue, all of one shape (`wire`); `WIRES` is the table of them, `STREAM_WIRES` of those that stream
too.  Paths are as the venues' own hosts see them: the server puts the host in front.

Each class names the venue's pages for its format.  The shapes were written from the samples of those messages in ccxt
4.5.90 and from recorded bodies (read 2026-11); where they leave a detail open, what ccxt's parser accepts decided.  Of
the pages themselves only Coinbase's first and Kraken's on streams were at hand, so an error's exact text may differ
from the venue's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import cast

import orjson

from exchanges.simulator.market import Book, Level
from exchanges.simulator.wires.binance import BINANCE
from exchanges.simulator.wires.bitstamp import BITSTAMP
from exchanges.simulator.wires.bybit import BYBIT
from exchanges.simulator.wires.coinbaseexchange import COINBASEEXCHANGE
from exchanges.simulator.wires.kraken import KRAKEN
from exchanges.simulator.wires.okx import OKX
from exchanges.simulator.wires.wire import DepthRequest, Moment, StreamWire, Wire

STREAM_WIRES: Mapping[str, StreamWire] = {wire.name: wire for wire in (BINANCE, KRAKEN, OKX, BYBIT, BITSTAMP)}
WIRES: Mapping[str, Wire] = {wire.name: wire for wire in (BINANCE, KRAKEN, COINBASEEXCHANGE, OKX, BYBIT, BITSTAMP)}


def render(wire: Wire, request: DepthRequest, book: Book, moment: Moment) -> bytes:
    """Write *book* as the venue would answer it, made at *moment*."""
    return wire.depth(request, book.bids, book.asks, moment)


def render_long(wire: Wire, request: DepthRequest, book: Book, moment: Moment, levels: int) -> bytes:
    """Write a book of *levels* levels a side, as `long_sides` makes them."""
    return wire.depth(request, *long_sides(book, levels, lambda level: wire.level(level, moment)), moment)


def long_sides(book: Book, levels: int, row: Callable[[Level], object]) -> tuple[orjson.Fragment, orjson.Fragment]:
    """
    Make sides of *levels* levels, each with the quantity of the best one, at no more cost than copying text.

    Prices lie close together, within 1 % of the best; sides are sorted and the book is uncrossed.

    Args:
        row: Renders one level.
    """
    bids, asks = (_long_side(side[0], away, levels, row) for side, away in ((book.bids, -1), (book.asks, 1)))
    return bids, asks


def _long_side(best: Level, away: int, levels: int, row: Callable[[Level], object]) -> orjson.Fragment:
    best_price = cast(Decimal, best.price)
    mark = Decimal("0.123454321")
    before, after = orjson.dumps(row(best._replace(price=mark))).split(str(mark).encode())
    start, step = int(best_price * 10**10), away * int(best_price * 10**8) // levels
    parts = (b"%s%d.%010d%s" % (before, *divmod(start + n * step, 10**10), after) for n in range(levels))
    return orjson.Fragment(b"[" + b",".join(parts) + b"]")
