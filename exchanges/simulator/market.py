"""Show the books of six venues over one seeded market, at any moment of simulated time.

Pure and deterministic: a book depends on the seed, the shocks, the venue, the symbol and the elapsed milliseconds, and
on nothing that was asked before.  Mids are Brownian paths in Lévy's construction: the value at a step is found by
halving an interval eighteen times, so a week-old market answers as fast as a new one and remembers nothing.  Shocks are
factors on top.  All arithmetic is on integers, so that every machine computes the same market.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from exchanges.simulator.shocks import ONE, Shocks

STEP_MS = 100  # The market moves ten times a second; in between, every answer is the same.

_BP = 10**6  # One basis point of ONE.
_PRICE = 10**12  # Scale of a mid: quote asset per base asset.
_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_OTHER_ODD = 0xD1B54A32D192ED03


class Level(NamedTuple):
    """
    Hold one price and the quantity resting there.

    ``None`` and NaN never come from the market, only from a fault.  ``age_ms`` is the time since the venue last
    replenished the level; ``orders`` is how many orders make up the quantity.
    """

    price: Decimal | None
    quantity: Decimal | None
    orders: int
    age_ms: int


class Book(NamedTuple):
    """Hold both sides of a book, best price first."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol's rules on a venue.  Prices and notionals in the quote asset, quantities in the base asset."""

    symbol: str
    price_step: Decimal
    quantity_step: Decimal
    quantity_min: Decimal
    notional_min: Decimal
    quantity_shown: Decimal  # Books show multiples of this; it is the quantity step unless the venue shows less.

    @property
    def base(self) -> str:
        """Name the base asset."""
        return self.symbol.partition("/")[0]

    @property
    def quote(self) -> str:
        """Name the quote asset."""
        return self.symbol.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Venue:
    """What sets a venue apart: fees, spread, depth, and what it lists."""

    name: str
    taker_fee_bps: int
    bias_bps: Decimal  # How far its mids stand from the market's in the long run; at most 0.4 either way.
    half_spread_bps: Decimal
    depth_btc: int  # BTC resting within 50 bps of the mid, both sides together; other bases in proportion.
    levels: int  # Levels per side in its full book.
    listings: Mapping[str, Listing]


def _listed(rows: str) -> dict[str, Listing]:
    listings = {}
    for row in rows.strip().splitlines():
        symbol, *numbers = row.split()
        price_step, quantity_step, quantity_min, notional_min, *shown = map(Decimal, numbers)
        listings[symbol] = Listing(
            symbol, price_step, quantity_step, quantity_min, notional_min, shown[0] if shown else quantity_step
        )
    return listings


# Steps, minimums and fees are of the size that the venues had lately, not a copy of what they publish today; where each
# venue publishes its own is said in `wire`.
# Columns: symbol, price step, quantity step, least quantity, least notional, and the quantity step of its books.
VENUES: Mapping[str, Venue] = {
    venue.name: venue
    for venue in (
        Venue("binance", 10, Decimal("0"), Decimal("0.02"), 57, 1000, _listed("""
            BTC/USDT   0.01     0.00001     0.00001   5
            ETH/USDT   0.01     0.0001      0.0001    5
            USDC/USDT  0.00001  1           1         5
            BTC/USDC   0.01     0.00001     0.00001   5
        """)),
        Venue("kraken", 40, Decimal("0.2"), Decimal("0.15"), 35, 500, _listed("""
            BTC/USD    0.1      0.00000001  0.00005   0.5  0.001
            ETH/USD    0.01     0.00000001  0.001     0.5  0.001
            BTC/USDT   0.1      0.00000001  0.00005   0.5  0.001
            ETH/USDT   0.01     0.00000001  0.001     0.5  0.001
            USDT/USD   0.00001  0.00000001  5         0.5  0.001
            USDC/USD   0.0001   0.00000001  5         0.5  0.001
            USDC/USDT  0.0001   0.00000001  5         0.5  0.001
        """)),
        Venue("coinbaseexchange", 60, Decimal("-0.2"), Decimal("0.05"), 50, 400, _listed("""
            BTC/USD    0.01     0.00000001  0.00000001  1
            ETH/USD    0.01     0.00000001  0.00000001  1
            BTC/USDT   0.01     0.00000001  0.00000001  1
            ETH/USDT   0.01     0.00000001  0.00000001  1
            USDT/USD   0.00001  0.01        0.01        1
        """)),
        Venue("okx", 15, Decimal("0.1"), Decimal("0.05"), 45, 400, _listed("""
            BTC/USDT   0.1      0.00000001  0.00001   0
            ETH/USDT   0.01     0.000001    0.0001    0
            BTC/USDC   0.1      0.00000001  0.00001   0
            USDC/USDT  0.0001   0.0001      1         0
        """)),
        Venue("bybit", 10, Decimal("-0.1"), Decimal("0.05"), 40, 200, _listed("""
            BTC/USDT   0.1      0.000001    0.000011  5
            ETH/USDT   0.01     0.00001     0.0001    5
            BTC/USDC   0.1      0.000001    0.000011  5
            USDC/USDT  0.0001   0.01        1         1
        """)),
        Venue("bitstamp", 40, Decimal("0.3"), Decimal("0.6"), 28, 300, _listed("""
            BTC/USD    1        0.00000001  0.00000001  10
            ETH/USD    0.1      0.00000001  0.00000001  10
            BTC/USDT   1        0.00000001  0.00000001  10
            ETH/USDT   0.1      0.00000001  0.00000001  10
            USDT/USD   0.00001  0.00001     0.00001     10
            USDC/USD   0.00001  0.00001     0.00001     10
        """)),
    )
}  # fmt: skip

_ASSETS_PER_BTC = {"BTC": 1, "ETH": 16, "USDT": 64_000, "USDC": 64_000}  # For depth of like notional.
_TYPICAL_MID = {
    "BTC/USDT": 64_000, "BTC/USD": 64_000, "BTC/USDC": 64_000, "ETH/USDT": 3_400, "ETH/USD": 3_400,
    "USDT/USD": 1, "USDC/USD": 1, "USDC/USDT": 1,
}  # fmt: skip
_SLOTS_PER_BP = 4  # A book has room for one level in each quarter of a basis point.
_LIFE_MS = (2_000, 10_000)  # How long a quantity rests, at least and at most.
_WINDOW_MS = 4_000
_WINDOWS = 4  # So many windows reach back to when the oldest quantity was placed.
_LEVELS_WITHIN_50_BPS = 470  # Both sides, weighted by how quantities grow away from the touch (see _Ladder.level).
_CALM = Shocks()


class SimulatedMarket:
    """
    Answer for every venue's books, now and at any other moment.

    Args:
        seed: The same seed gives the same market.
        shocks: What prices and depths do on top of that; nothing by default.
    """

    def __init__(self, seed: int, shocks: Shocks = _CALM) -> None:
        """Make the market of *seed* and *shocks*; nothing is computed yet."""
        self.seed = seed
        self._shocks = shocks
        self._btc = _Path(_key(seed, "btc"), 0.7)
        self._eth = _Path(_key(seed, "eth"), 0.5)  # On top of 0.8 of what BTC does.
        self._usdt = _Path(_key(seed, "usdt"), 0.013)
        self._usdc = _Path(_key(seed, "usdc"), 0.005)
        self._mids = lru_cache(maxsize=64)(self._mids_at)
        self._ladders = {
            (venue.name, symbol): _Ladder(seed, venue, listing)
            for venue in VENUES.values()
            for symbol, listing in venue.listings.items()
        }

    def book(self, venue: str, symbol: str, at_ms: int, depth: int | None = None) -> Book:
        """
        Draw the book that a venue shows.

        Args:
            venue: A name in ``VENUES``.
            symbol: One that the venue lists.
            at_ms: Elapsed simulated time; rounded down to ``STEP_MS``.
            depth: Levels per side, at least 1; all that the venue has if None or more than it has.

        Returns:
            An uncrossed book on the venue's steps, each price once, every quantity positive.

        Raises:
            KeyError: The venue is unknown, or does not list the symbol.
        """
        ladder = self._ladders[venue, symbol]
        step = at_ms // STEP_MS
        on_step_ms = step * STEP_MS
        window = on_step_ms // _WINDOW_MS
        numerator, denominator = self._shocks.price(symbol, on_step_ms)
        # Whoever rests quantities moves them along with a shock: past mids are taken as if it had always been there.
        mid, *past = (
            self._mids(at)[symbol] * numerator // denominator
            for at in (step, *((window - n) * _WINDOW_MS // STEP_MS for n in range(_WINDOWS)))
        )
        quantities = self._shocks.depth(symbol.partition("/")[0], on_step_ms)
        return ladder.book(mid, past, on_step_ms, depth, quantities)

    def _mids_at(self, step: int) -> dict[str, int]:
        btc, usdt_usd = self._btc.at(step), 9_997 * _PRICE // 10_000 * (ONE + self._usdt.at(step)) // ONE
        usdc_usd = _PRICE * (ONE + self._usdc.at(step)) // ONE
        btc_usdt = 64_000 * _PRICE * (ONE + btc) // ONE
        eth_usdt = 3_400 * _PRICE * (ONE + btc * 4 // 5 + self._eth.at(step)) // ONE
        btc_usd = btc_usdt * usdt_usd // _PRICE
        return {
            "BTC/USDT": btc_usdt,
            "ETH/USDT": eth_usdt,
            "USDT/USD": usdt_usd,
            "USDC/USD": usdc_usd,
            "BTC/USD": btc_usd,
            "ETH/USD": eth_usdt * usdt_usd // _PRICE,
            "BTC/USDC": btc_usd * _PRICE // usdc_usd,
            "USDC/USDT": usdc_usd * _PRICE // usdt_usd,
        }


class _Path:
    """A random walk that comes back: a Brownian bridge between independent points seven hours apart."""

    _WIDTH = 2**18  # Steps from one fixed point to the next.

    def __init__(self, key: int, bps_per_sqrt_second: float) -> None:
        def deviation(steps: float) -> int:
            return int(bps_per_sqrt_second * _BP * math.sqrt(steps * STEP_MS / 1000))

        self._key, self._far_key = key, _mix(key)
        self._far = deviation(self._WIDTH / 2)
        # A bridge over w steps deviates at its middle by half of what a walk over w steps does.
        self._near = [deviation(2**power) // 2 for power in range(18, 0, -1)]

    def at(self, step: int) -> int:
        """Give the relative move away from the typical mid, in units of ``ONE``."""
        start = step - step % self._WIDTH
        left = _normal(self._far_key, start, self._far)
        right = _normal(self._far_key, start + self._WIDTH, self._far)
        width = self._WIDTH
        for deviation in self._near:
            width //= 2
            middle = (left + right) // 2 + _normal(self._key, start + width, deviation)
            if step < start + width:
                right = middle
            else:
                start, left = start + width, middle
        return left


class _Moment(NamedTuple):
    """What all levels of a book have in common; see `_Ladder.book`."""

    at_ms: int
    past_ticks: Sequence[int]
    quantities: int


class _Rest(NamedTuple):
    """A quantity from when it was placed to when another takes its place, and what it was worked out from."""

    since_ms: int
    until_ms: int
    placed_in: int
    quantities: int
    price: Decimal
    quantity: Decimal
    orders: int


class _Ladder:
    """The levels of one symbol on one venue: the touch follows the mid, the rest stands at fixed prices."""

    _DRIFT_MS = 30_000

    def __init__(self, seed: int, venue: Venue, listing: Listing) -> None:
        steady = listing.base.startswith("USD")
        self._listing = listing
        self._levels = venue.levels
        self._offset_key = _key(seed, venue.name, listing.symbol, "offset")
        self._keys = {side: _key(seed, venue.name, listing.symbol, side) for side in ("bids", "asks")}
        self._bias = int(venue.bias_bps * _BP) // (4 if steady else 1)
        self._drift = _BP // (4 if steady else 1)
        self._half_spread = int(venue.half_spread_bps * _BP)
        self._tick = int(listing.price_step * _PRICE)
        slot = _TYPICAL_MID[listing.symbol] * _PRICE // 10_000 // _SLOTS_PER_BP
        self._slot_ticks = max(1, (slot + self._tick // 2) // self._tick)
        self._slot_width = max(1, self._slot_ticks * self._tick // slot)  # In quarters of a basis point.
        self._shown_lots = int(listing.quantity_shown / listing.quantity_step)
        least = max(1, int(listing.quantity_min / listing.quantity_step))
        self._least_shown = -(-least // self._shown_lots)
        mean = Decimal(venue.depth_btc * _ASSETS_PER_BTC[listing.base] * self._slot_width) / _LEVELS_WITHIN_50_BPS
        self._mean_lots = int(mean / listing.quantity_step)
        # What was worked out for one moment mostly holds for the next, too; forgotten when it has become too much.
        self._known_max = 16 * self._levels
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        self._rests: dict[tuple[int, int, int], _Rest] = {}

    def book(self, mid: int, past_mids: Sequence[int], at_ms: int, depth: int | None, quantities: int) -> Book:
        """
        Draw the book around *mid*.

        Args:
            past_mids: At the start of each window, this one's first.  A quantity depends on how far away the mid was
                when it was placed, not on where the mid went since.
            quantities: A factor on all of them, in units of ``ONE``.
        """
        moment = _Moment(at_ms, [one // self._tick for one in past_mids], quantities)
        mid = mid * (ONE + self._offset(at_ms)) // ONE
        half_spread = mid * self._half_spread // ONE
        best_bid = (mid - half_spread) // self._tick
        best_ask = -(-(mid + half_spread) // self._tick)  # Above the best bid, as the half spread is not zero.
        count = self._levels if depth is None else min(depth, self._levels)
        return Book(
            self._side(self._keys["bids"], best_bid, -1, count, moment),
            self._side(self._keys["asks"], best_ask, 1, count, moment),
        )

    def _offset(self, at_ms: int) -> int:
        node, since_ms = divmod(at_ms, self._DRIFT_MS)
        here, there = (
            _mix(self._offset_key + n * _GOLDEN & _WORD) % (2 * self._drift) - self._drift for n in (node, node + 1)
        )
        return self._bias + here + (there - here) * since_ms // self._DRIFT_MS

    def _side(self, key: int, best: int, away: int, count: int, moment: _Moment) -> tuple[Level, ...]:
        levels = [self._level(key, best, _mix(key ^ best), moment)]
        slot = best // self._slot_ticks
        while len(levels) < count:
            luck, tick = self._place(key, slot)
            if tick < 1:
                break
            if luck & 3 and (tick - best) * away > 0:  # One slot in four is a gap.
                levels.append(self._level(key, tick, luck, moment))
            slot += away
        return tuple(levels)

    def _place(self, key: int, slot: int) -> tuple[int, int]:
        """Give a slot's luck and the tick at which its level stands."""
        place = self._places.get((key, slot))
        if place is None:
            luck = _mix(key + slot * _GOLDEN & _WORD)
            place = luck, slot * self._slot_ticks + (luck >> 2) % self._slot_ticks
            if len(self._places) > self._known_max:
                self._places.clear()
            self._places[key, slot] = place
        return place

    def _level(self, key: int, tick: int, luck: int, moment: _Moment) -> Level:
        at_ms = moment.at_ms
        rest = self._rests.get((key, tick, luck))
        if (
            rest is None
            or not rest.since_ms <= at_ms < rest.until_ms
            or rest.quantities != moment.quantities
            or rest.placed_in != moment.past_ticks[at_ms // _WINDOW_MS - rest.since_ms // _WINDOW_MS]
        ):
            rest = self._rest(key, tick, luck, moment)
            if len(self._rests) > self._known_max:
                self._rests.clear()
            self._rests[key, tick, luck] = rest
        return Level(rest.price, rest.quantity, rest.orders, at_ms - rest.since_ms)

    def _rest(self, key: int, tick: int, luck: int, moment: _Moment) -> _Rest:
        """Work out what rests at a price at a moment."""
        at_ms = moment.at_ms
        life_ms = _LIFE_MS[0] + (luck >> 20) % (_LIFE_MS[1] - _LIFE_MS[0])
        epoch, age_ms = divmod(at_ms + (luck >> 33) % 65_536, life_ms)
        fresh = _mix(key + tick * _GOLDEN + epoch * _OTHER_ODD & _WORD)
        share = 0x2000 + (fresh & 0xFFFF) * 7 // 8  # Squared, for many small quantities and a few large ones.
        since_ms = at_ms - age_ms
        placed_in = moment.past_ticks[at_ms // _WINDOW_MS - since_ms // _WINDOW_MS]
        distance = abs(tick - placed_in) // self._slot_ticks * self._slot_width
        lots = 3 * self._mean_lots * share * share * (40 + min(distance, 200)) // (100 << 32)
        if fresh >> 16 & 63 == 0:
            lots *= 6
        lots = lots * moment.quantities // ONE
        return _Rest(
            since_ms=since_ms,
            until_ms=since_ms + life_ms,
            placed_in=placed_in,
            quantities=moment.quantities,
            price=self._listing.price_step * tick,
            quantity=self._listing.quantity_shown * max(self._least_shown, lots // self._shown_lots),
            orders=1 + (fresh >> 24) % 7,
        )


def _key(seed: int, *names: str) -> int:
    return int.from_bytes(hashlib.blake2b("\n".join((str(seed), *names)).encode(), digest_size=8).digest())


def _mix(word: int) -> int:
    """
    Scatter a 64-bit word.

    The finalizer of splitmix64: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _WORD
    return word ^ word >> 31


def _normal(key: int, index: int, deviation: int) -> int:
    """Draw a nearly normal number, never beyond 3.5 deviations: the sum of four even ones."""
    word = _mix(key + index * _GOLDEN & _WORD)
    total = (word & 0xFFFF) + (word >> 16 & 0xFFFF) + (word >> 32 & 0xFFFF) + (word >> 48)
    return (total - 131_070) * deviation // 37_837
