"""
An order's price by the contract's words and fractions alone; nothing of the service is imported here.

`desk.md`: best first, net of the taker fee.  Each fill rounds for itself at 8 decimals: subtotal up for a buy and down
for a sell, fee and markup up.  Legs and totals are sums of rounded fills.  Prices that are quotients have 12
significant digits, basis points 4 decimals, both half to even.  Mid is (best bid + best ask) / 2 by the prices shown.
"""

from __future__ import annotations

from collections import namedtuple
from fractions import Fraction
from math import ceil, floor

Shown = namedtuple("Shown", "bids asks fee_bps")
"""One venue: lists of (price, quantity), and its taker fee."""
Taken = namedtuple("Taken", "venue price quantity fee_bps")

UNIT = 10**8


def up(amount):
    return Fraction(ceil(amount * UNIT), UNIT)


def down(amount):
    return Fraction(floor(amount * UNIT), UNIT)


def near(amount):
    return Fraction(round(amount * UNIT), UNIT)  # round() of a fraction goes half to even.


def four_decimals(number):
    return Fraction(round(number * 10**4), 10**4)


def twelve_digits(number):
    if not number:
        return Fraction(0)
    scale = Fraction(1)
    while abs(number) * scale < 10**11:
        scale *= 10
    while abs(number) * scale >= 10**12:
        scale /= 10
    return round(number * scale) / scale


def fraction(number):
    return Fraction(str(number))


def ranked(market, side, *, gross=False):
    """Every venue's levels as (price, quantity, venue, fee, net price), best first."""
    levels = []
    sign = 1 if side == "buy" else -1
    for venue, shown in market.items():
        for price, quantity in shown.asks if side == "buy" else shown.bids:
            net = price * (1 + sign * shown.fee_bps / 10_000)
            keys = (sign * price, sign * net) if gross else (sign * net, sign * price)
            levels.append((*keys, -quantity, venue, price, quantity, shown.fee_bps, net))
    levels.sort()
    return [(price, quantity, venue, fee, net) for *_, venue, price, quantity, fee, net in levels]


def best_prices(market):
    bid = max(price for shown in market.values() for price, _ in shown.bids)
    ask = min(price for shown in market.values() for price, _ in shown.asks)
    return bid, ask


def mid(market):
    return sum(best_prices(market)) / 2


def walked(market, side, quantity, limit=None, bound_bps=None):
    """What is taken of which level, and what the walk ended with: None, "limit", "slippage" or "depth"."""
    taken, left, skipped = [], quantity, False
    sign = 1 if side == "buy" else -1
    worst_average = None if bound_bps is None else mid(market) * (1 + sign * bound_bps / 10_000)
    for price, there, venue, fee, _ in ranked(market, side):
        if limit is not None and sign * (price - limit) > 0:
            skipped = True
            continue
        take = min(left, there)
        if worst_average is not None and sign * (price - worst_average) > 0:
            # (N + price q) / (Q + q) = worst average, solved for q.
            room = sum(sign * (worst_average - t.price) * t.quantity for t in taken)
            most = max(Fraction(0), room / (sign * (price - worst_average)))
            if most < take:
                cut = down(most)
                return [*taken, *([Taken(venue, price, cut, fee)] if cut else [])], "slippage"
        taken.append(Taken(venue, price, take, fee))
        left -= take
        if not left:
            return taken, None
    return taken, "limit" if skipped else "depth"


def money(taken, side, markup_bps):
    subtotal = sum((up if side == "buy" else down)(t.price * t.quantity) for t in taken)
    fees = sum(up(t.price * t.quantity * t.fee_bps / 10_000) for t in taken)
    markup = sum(up(t.price * t.quantity * markup_bps / 10_000) for t in taken)
    total = subtotal + fees + markup if side == "buy" else subtotal - fees - markup
    return Fraction(subtotal), Fraction(fees), Fraction(markup), Fraction(total)


def alone(market, side, quantity, limit, markup_bps):
    """The venue that would fill the quantity best by itself, and its total; None where none can."""
    totals = []
    for venue, shown in market.items():
        taken, ended = walked({venue: shown}, side, quantity, limit)
        if ended is None:
            total = money(taken, side, markup_bps)[3]
            totals.append((total if side == "buy" else -total, venue, total))
    return min(totals)[1:] if totals else None


def priced(market, side, quantity, *, limit=None, bound_bps=None, markup_bps=Fraction(0)):
    """Every number of a quote's side, by name."""
    taken, ended = walked(market, side, quantity, limit, bound_bps)
    subtotal, fees, markup, total = money(taken, side, markup_bps)
    filled = sum((t.quantity for t in taken), Fraction(0))
    sign = 1 if side == "buy" else -1
    middle = mid(market)
    best_shown = best_prices(market)[1 if side == "buy" else 0]
    best = min((sign * t.price for t in taken), default=None)
    worst = max((sign * t.price for t in taken), default=None)
    single = alone(market, side, filled, limit, markup_bps) if filled else None
    at_mid, at_best = near(middle * filled), near(best_shown * filled)
    lines = [at_mid, at_best - at_mid, subtotal - at_best, Fraction(0), sign * fees, sign * markup]
    shares = [Fraction(0), *(four_decimals(line / at_mid * 10_000) if at_mid else Fraction(0) for line in lines[1:])]
    return {
        "stopped_by": ended,
        "quantity": filled,
        "shortfall": quantity - filled,
        "subtotal": subtotal,
        "fees": fees,
        "markup": markup,
        "total": total,
        "average_price": twelve_digits(subtotal / filled) if filled else None,
        "all_in_price": twelve_digits(total / filled) if filled else None,
        "best_price": None if best is None else sign * best,
        "worst_price": None if worst is None else sign * worst,
        "from_mid_bps": four_decimals(sign * (subtotal / filled / middle - 1) * 10_000) if filled else None,
        "from_best_bps": four_decimals(sign * (subtotal / filled / (sign * best) - 1) * 10_000) if filled else None,
        # Money and basis points of the lines add up to those of the last.
        "waterfall": [*zip(lines, shares, strict=True), (total, sum(shares))],
        "legs": legs(taken, side),
        "single": None
        if single is None
        else (
            single[0],
            twelve_digits(single[1] / filled),
            four_decimals(sign * (single[1] - total) / single[1] * 10_000) if single[1] else Fraction(0),
        ),
        "fills": [
            (
                *t,
                (up if side == "buy" else down)(t.price * t.quantity),
                up(t.price * t.quantity * t.fee_bps / 10_000),
                up(t.price * t.quantity * markup_bps / 10_000),
            )
            for t in taken
        ],
    }


def legs(taken, side):
    found = []
    for venue in dict.fromkeys(t.venue for t in taken):
        own = [t for t in taken if t.venue == venue]
        quantity = sum(t.quantity for t in own)
        subtotal, fee, _, _ = money(own, side, Fraction(0))
        worst = (max if side == "buy" else min)(t.price for t in own)
        found.append(
            (venue, quantity, twelve_digits(subtotal / quantity), worst, subtotal, fee, own[0].fee_bps, len(own))
        )
    return found


def numbers_of(side_quote):
    """The same names and fractions out of the service's own answer, so that the two compare with ``==``."""

    def of(number):
        return None if number is None else Fraction(number)

    single = side_quote.best_single_venue
    plain = (
        "quantity shortfall subtotal fees markup total average_price all_in_price best_price worst_price "
        "from_mid_bps from_best_bps"
    )
    return {
        "stopped_by": side_quote.stopped_by,
        **{name: of(getattr(side_quote, name)) for name in plain.split()},
        "waterfall": [(Fraction(step.amount), Fraction(step.bps)) for step in side_quote.waterfall],
        "legs": [
            (
                leg.venue,
                *map(Fraction, (leg.quantity, leg.average_price, leg.worst_price, leg.subtotal, leg.fee, leg.fee_bps)),
                leg.levels,
            )
            for leg in side_quote.legs
        ],
        "single": None if single is None else (single.venue, of(single.all_in_price), of(single.saving_bps)),
        "fills": [
            (
                fill.level.venue,
                *map(
                    Fraction,
                    (fill.level.price, fill.quantity, fill.level.fee_bps, fill.subtotal, fill.fee, fill.markup),
                ),
            )
            for fill in side_quote.fills
        ],
    }
