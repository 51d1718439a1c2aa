"""The engine as one would write it first, to be held against for speed: Decimals, one merge, one walk."""

from __future__ import annotations

from decimal import ROUND_CEILING, Context, Decimal
from typing import NamedTuple

from exchanges.book import VenueBook

_EXACT = Context(prec=100)
_UNIT = Decimal("1e-8")


class Level(NamedTuple):
    """A venue's ask, ranked by what it costs with the fee."""

    net_price: Decimal
    venue: str
    price: Decimal
    quantity: Decimal
    fee_bps: Decimal


def merged_asks(books: list[VenueBook], fees_bps: list[Decimal]) -> list[Level]:
    """Merge all venues' asks, cheapest first."""
    return sorted(
        Level(price * (1 + fee / 10_000), book.venue, price, quantity, fee)
        for book, fee in zip(books, fees_bps, strict=True)
        for price, quantity in book.asks
    )


def walk(levels: list[Level], quantity: Decimal) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """Take levels until the quantity is reached; give quantity, subtotal and fee per venue."""
    taken: dict[str, tuple[Decimal, Decimal, Decimal]] = {}
    left = quantity
    for level in levels:
        take = min(left, level.quantity)
        notional = level.price * take
        subtotal = notional.quantize(_UNIT, ROUND_CEILING, _EXACT)
        fee = (notional * level.fee_bps / 10_000).quantize(_UNIT, ROUND_CEILING, _EXACT)
        before = taken.get(level.venue, (Decimal(0), Decimal(0), Decimal(0)))
        taken[level.venue] = (before[0] + take, before[1] + subtotal, before[2] + fee)
        left -= take
        if not left:
            break
    return taken
