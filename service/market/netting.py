"""Leave out of the venues' sides what fills and holds have taken of them.

Pure: no clock, no I/O, no logging.  Taken is what a venue itself shows, at its own price: so it is left out before
anything is converted, and of the stable pairs' own sides, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from exchanges.book import Side
from service.market.book import BookSide, Netted
from service.market.conversion import StablePair
from service.market.screening import Part
from service.market.side import OwnSide, VenueSide, direct, place_of
from service.market.taken import NOTHING, Charge, Charges


def charges_on(parts: Sequence[Part], charges: Charges) -> Iterator[Charge]:
    """Give what is taken of all that a book is made from: the venues' own sides and their stable pairs'."""
    for part in parts:
        for side in Side:
            yield charges.of(part.source.venue, part.source.symbol, side)
    pairs = {id(part.pair): part.pair for part in parts if part.pair is not None}
    for pair in pairs.values():
        for one in chain(pair.bids.values(), pair.asks.values()):
            yield charges.of(one.venue, one.symbol, one.side)


def without_taken(side: Side, own: OwnSide, charge: Charge) -> OwnSide:
    """Give what is left of a venue's side, which may be empty; the very same one where nothing of it is taken."""
    there = _there(side, own, charge)
    if not there:
        return own
    levels = [
        (price, quantity - there.get(price, 0))
        for price, quantity in zip(own.prices, own.quantities, strict=True)
        if quantity > there.get(price, 0)
    ]
    return replace(
        own, prices=[price for price, _ in levels], quantities=[quantity for _, quantity in levels], shown=own
    )


def pair_without_taken(pair: StablePair, side: Side, charges: Charges) -> StablePair:
    """Give a stable pair with what is left behind orders of *side*; the very same one where nothing of it is taken."""
    shown = pair.sides(side)
    left = {venue: _left(one, charges.of(venue, pair.symbol, one.side)) for venue, one in shown.items()}
    if all(left[venue] is one for venue, one in shown.items()):
        return pair
    return replace(pair, asks=left) if pair.crossing(side) is Side.BUY else replace(pair, bids=left)


def netted(shown: BookSide, own_sides: Iterable[OwnSide], charges: Charges) -> Netted:
    """Say what is left out of a side of which the venues show *own_sides*."""
    levels, filled = {}, {}
    for own in own_sides:
        charge = charges.of(own.venue, own.symbol, shown.side)
        there = levels[own.venue] = _there(shown.side, own, charge)
        filled[own.venue] = {price: min(quantity, charge.taken.get(price, 0)) for price, quantity in there.items()}
    everything, taken = (sum(sum(of.values()) for of in by_venue.values()) for by_venue in (levels, filled))
    return Netted(shown, levels, filled, taken, everything - taken)


def _left(one: VenueSide, charge: Charge) -> VenueSide:
    if charge is NOTHING:
        return one
    own = OwnSide(one.venue, one.symbol, one.prices, one.quantities, one.taker_rate, one.rules)
    left = without_taken(one.side, own, charge)
    return one if left is own else direct(one.side, left)


def _there(side: Side, own: OwnSide, charge: Charge) -> dict[int, int]:
    """Give how much of what is charged the venue shows, by price."""
    there = {}
    for price, quantity in charge.all.items():
        place = place_of(side, own.prices, price)
        if place < len(own.prices) and own.prices[place] == price:
            there[price] = min(quantity, own.quantities[place])
    return there
