"""What a small model knows of accounts, promises and levels: nothing of how the desk does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from exchanges.book import units
from tests.service.desk.desk_room import HALF_LIFE_MS
from tests.service.shown import money

STARTING = {"USDT": money(400), "BTC": money(4)}


@dataclass
class Owned:
    """What the model knows of an account since it was opened or reset."""

    balances: dict = field(default_factory=lambda: dict(STARTING))
    position: int = 0
    paid: int = 0
    turnover: int = 0


@dataclass
class Promise:
    """A quote that was given; ``held`` is None where it was indicative."""

    quote_id: str
    account: str
    side: object
    quantity: int
    total: int
    fillable: bool
    fills: list
    expires_ms: int
    held: tuple | None = None
    became: str | None = None
    """The code that an order on it gets by now, or None."""


@dataclass
class Taking:
    """What was filled or is held of a level."""

    quantity: int
    at_ms: int
    promise: Promise | None = None
    gone: bool = False
    """Its level had vanished, and with that it is over ..."""
    back: bool = False
    """... unless the process ended before that was on record: then it may be charged again."""


class Level:
    """What was taken of a level, from below and from above."""

    def __init__(self):
        self.takings = []
        self.explained = 0

    def least(self, now_ms):
        """So much is charged at least: what the half-life keeps whole, less all that the venue has ever explained."""
        whole = sum(one.quantity for one in self.takings if self._counts(one, now_ms, whole=True))
        return max(0, whole - self.explained)

    def most(self, now_ms):
        """So much is charged at most: everything, halved once per half-life."""
        return sum(
            one.quantity >> (0 if one.promise else (now_ms - one.at_ms) // HALF_LIFE_MS)
            for one in self.takings
            if self._counts(one, now_ms)
        )

    def _counts(self, one, now_ms, *, whole=False):
        if one.gone and (whole or not one.back):
            return False
        if one.promise is not None:
            return one.promise.became is None and now_ms < one.promise.expires_ms
        return not whole or now_ms - one.at_ms < HALF_LIFE_MS


def fills_of(body):
    """Venue, price and quantity of what a receipt tells of."""
    return [(fill["venue"], fill["price"], units(Decimal(fill["quantity"]))) for fill in body["fills"]]
