"""
An order's price by the contract's words and fractions alone; nothing of the service is imported here.

`desk.md`: best first, net of the taker fee.  Each fill rounds for itself at 8 decimals: subtotal up for a buy and down
for a sell, fee and markup up.  Legs and totals are sums of rounded fills.  Prices that are quotients have 12
significant digits, basis points 4 decimals, both half to even.  Mid is (best bid + best ask) / 2 by the prices shown.
A total or a slippage is answered by the largest multiple of 10**-8 that keeps within it; slippage is that of the
notional, before any rounding.

Venues have no steps and no minimums here: what those change is held against an exhaustive search of its own.
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
    """Every venue's levels as (price, quantity, venue, fee, net price), best first; the venues' order breaks ties."""
    levels = []
    sign = 1 if side == "buy" else -1
    for number, (venue, shown) in enumerate(market.items()):
        for price, quantity in shown.asks if side == "buy" else shown.bids:
            net = price * (1 + sign * shown.fee_bps / 10_000)
            levels.append((sign * price if gross else sign * net, number, venue, price, quantity, shown.fee_bps, net))
    levels.sort(key=lambda level: level[:2])
    return [(price, quantity, venue, fee, net) for *_, venue, price, quantity, fee, net in levels]


def best_prices(market):
    bid = max(price for shown in market.values() for price, _ in shown.bids)
    ask = min(price for shown in market.values() for price, _ in shown.asks)
    return bid, ask


def mid(market):
    return sum(best_prices(market)) / 2


def walked(market, side, quantity, limit=None):
    """What is taken of which level, and what the walk ended with: None, "limit" or "depth"."""
    return walk(ranked(market, side), side, quantity, limit)


def walk(levels, side, quantity, limit):
    taken, left, skipped = [], quantity, False
    sign = 1 if side == "buy" else -1
    for price, there, venue, fee, _ in levels:
        if limit is not None and sign * (price - limit) > 0:
            skipped = True
            continue
        take = min(left, there)
        if take:
            taken.append(Taken(venue, price, take, fee))
            left -= take
        if not left:
            return taken, None
    return taken, "limit" if skipped else "depth"


def bounded(market, side, quantity, limit=None, bound_bps=None, total=None, markup_bps=Fraction(0)):
    """The same, within a slippage and a total; a quantity of None is all there is."""
    levels = ranked(market, side)
    everything = sum((there for _, there, *_ in levels), Fraction(0))
    taken, ended = walk(levels, side, everything if quantity is None else quantity, limit)
    if quantity is None:
        left_out = limit is not None and len(taken) < len(levels)
        reached = total is None or total == money(taken, side, markup_bps)[3]
        ended = None if reached else "limit" if left_out else "depth"
    middle = mid(market)

    def broken(before, last):
        return what_breaks(side, middle, summed(before, last and comes_to(last, side, markup_bps)), bound_bps, total)

    sums = [(Fraction(0),) * 3]
    for one in taken:
        sums.append(summed(sums[-1], comes_to(one, side, markup_bps)))
    if what_breaks(side, middle, sums[-1], bound_bps, total) is None:
        return taken, ended
    whole = max(
        (n for n in range(len(taken)) if what_breaks(side, middle, sums[n], bound_bps, total) is None), default=0
    )
    before, next_one = sums[whole], taken[whole]
    filled = sum((t.quantity for t in taken[:whole]), Fraction(0))
    low, high = ceil(filled * UNIT), ceil((filled + next_one.quantity) * UNIT)
    if low != filled * UNIT:
        low -= 1
    # Between level ends the money is that of the whole levels and of one part.
    part = None
    first = low
    while high - low > 1:
        half = (low + high) // 2
        one = next_one._replace(quantity=Fraction(half, UNIT) - filled)
        if one.quantity > 0 and broken(before, one) is None:
            low, part = half, one
        else:
            high = half
    if low == first and Fraction(low, UNIT) < filled:
        raise NotImplementedError("a level that ends between two units")
    more = next_one._replace(quantity=Fraction(low + 1, UNIT) - filled)
    ended = broken(before, more)
    kept = [*taken[:whole], *([part] if part else [])]
    return kept, None if ended == "total" or (quantity is None and total is None) else ended


def comes_to(one, side, markup_bps):
    """Quantity, notional and what is paid or received in all, of one fill."""
    return one.quantity, one.price * one.quantity, money([one], side, markup_bps)[3]


def summed(one, other):
    return tuple(map(sum, zip(one, other, strict=True))) if other else one


def what_breaks(side, middle, sums, bound_bps, total):
    """The bound that what is taken does not keep within, by what it really comes to."""
    sign = 1 if side == "buy" else -1
    quantity, notional, in_all = sums
    if total is not None and in_all > total:
        return "total"
    at_mid = middle * quantity
    if bound_bps is not None and sign * (notional - at_mid) > bound_bps / 10_000 * at_mid:
        return "slippage"
    return None


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
            totals.append((total if side == "buy" else -total, len(totals), venue, total))
    return min(totals)[2:] if totals else None


def priced(market, side, quantity, *, limit=None, bound_bps=None, total=None, markup_bps=Fraction(0)):
    """Every number of a quote's side, by name."""
    asked_total = total
    taken, ended = bounded(market, side, quantity, limit, bound_bps, total, markup_bps)
    subtotal, fees, markup, total = money(taken, side, markup_bps)
    filled = sum((t.quantity for t in taken), Fraction(0))
    notional = sum((t.price * t.quantity for t in taken), Fraction(0))
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
        "shortfall": quantity - filled
        if quantity is not None
        else asked_total - total
        if asked_total is not None and ended is not None
        else Fraction(0),
        "subtotal": subtotal,
        "fees": fees,
        "markup": markup,
        "total": total,
        "average_price": twelve_digits(subtotal / filled) if filled else None,
        "all_in_price": twelve_digits(total / filled) if filled else None,
        "best_price": None if best is None else sign * best,
        "worst_price": None if worst is None else sign * worst,
        "from_mid_bps": four_decimals(sign * (notional / filled / middle - 1) * 10_000) if filled else None,
        "from_best_bps": four_decimals(sign * (notional / filled / (sign * best) - 1) * 10_000) if filled else None,
        # Money and basis points of the lines add up to those of the last.
        "waterfall": [*zip(lines, shares, strict=True), (total, sum(shares))],
        "legs": legs(taken, side),
        "single": None
        if single is None
        else (
            single[0],
            twelve_digits(single[1] / filled),
            four_decimals(sign * (single[1] - total) / single[1] * 10_000) if single[1] > 0 else Fraction(0),
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

    def at(scale):
        return lambda number: None if number is None else Fraction(number, 10**scale)

    price, money_at, bps_at = at(18), at(8), at(4)
    single = side_quote.best_single_venue

    def exact(number):
        return None if number is None else Fraction(number)

    of_money = side_quote.ask.quantity is None and side_quote.ask.total is not None
    return {
        "stopped_by": side_quote.stopped_by,
        **{name: price(getattr(side_quote, name)) for name in ("quantity", "best_price", "worst_price")},
        **{name: money_at(getattr(side_quote, name)) for name in ("subtotal", "fees", "markup", "total")},
        **{name: bps_at(getattr(side_quote, name)) for name in ("from_mid_bps", "from_best_bps")},
        "average_price": exact(side_quote.average_price),
        "all_in_price": exact(side_quote.all_in_price),
        "shortfall": (money_at if of_money else price)(side_quote.shortfall),
        "waterfall": [(money_at(step.amount), bps_at(step.bps)) for step in side_quote.waterfall],
        "legs": [
            (
                leg.venue,
                price(leg.amounts.quantity),
                Fraction(leg.average_price),
                price(leg.amounts.worst_price),
                money_at(leg.amounts.subtotal),
                money_at(leg.amounts.fee),
                Fraction(leg.source.taker_rate, 10**6),
                leg.amounts.levels,
            )
            for leg in side_quote.legs
        ],
        "single": None if single is None else (single.venue, Fraction(single.all_in_price), bps_at(single.saving_bps)),
        "fills": [
            (
                fill.venue,
                price(fill.price),
                price(fill.quantity),
                Fraction(fill.rate, 10**6),
                money_at(fill.subtotal),
                money_at(fill.fee),
                money_at(fill.markup),
            )
            for fill in side_quote.fills
        ],
    }
