"""Say what an order that is filled, or held, takes of the venues' own levels.

Pure: no clock, no I/O, no logging.
"""

from __future__ import annotations

from service.market.side import VenueSide
from service.market.taken import LevelKey, Lot
from service.pricing.quote import SideQuote


def lots(priced: SideQuote, ref: str, account: str, at_ms: int, held_until_ms: int | None = None) -> list[Lot]:
    """
    Give one lot per level, at the venue's own price, in the order in which they are taken.

    What goes through a stable pair takes of that one's levels, too: of its base asset, rounded up.

    Args:
        ref: Of the execution, or of the firm quote.
        at_ms: When it is taken: UTC, milliseconds of the epoch.
        held_until_ms: When a firm quote's hold ends; None for what is filled.
    """
    venues = {venue.venue: venue for venue in priced.book.side(priced.side).venues}
    taken: dict[LevelKey, tuple[VenueSide, int]] = {}

    def take(venue: VenueSide, price: int, quantity: int) -> None:
        key = LevelKey(venue.venue, venue.symbol, venue.side, price)
        taken[key] = (venue, taken[key][1] + quantity if key in taken else quantity)

    for fill in priced.fills:
        venue, hop = venues[fill.venue], fill.hop
        take(venue, fill.price if hop is None else hop.own_price, fill.quantity)
        if hop is not None and venue.conversion is not None:
            take(venue.conversion.through[hop.venue], hop.price, hop.used(fill.quantity))
    return [
        Lot(
            ref=ref,
            n=n,
            key=key,
            left=quantity,
            since_ms=at_ms,
            step=max(1, venue.rules.step),
            shown=venue.shown_at(key.price),
            account=account,
            held_until_ms=held_until_ms,
        )
        for n, (key, (venue, quantity)) in enumerate(taken.items())
    ]
