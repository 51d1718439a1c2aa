"""Remember what mock fills and holds have taken of the venues' levels until the venues have replaced it.

Pure: no clock, no I/O, no logging.  What was taken is explained when its level shrinks or vanishes: then the venue's
own book leaves it out.  Of what a fill took, nothing returns for a half-life, and half of the rest after each full
one.  A new snapshot alone ends nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Final, NamedTuple

from exchanges.book import Ladder, Side, VenueBook
from service.market.side import place_of

SHARED: Final = "shared"
PER_ACCOUNT: Final = "per_account"
OFF: Final = "off"
"""Whose takings count for an account: everybody's, its own, or none."""
OVER_MAX = 10_000
"""Of so many executions and quotes it is known which lots have been explained whole, should they be added again."""
_EVERYBODY: Final = ""
_HALVINGS_MAX: Final = 200
"""Nothing is left of any quantity after so many."""


class LevelKey(NamedTuple):
    """
    A level of a venue.

    Args:
        symbol: The venue's own, ``BTC/USD`` where it is converted.
        side: Of the order that takes it: BUY lifts asks.
        price: The venue's own, a whole number of 10**-18.
    """

    venue: str
    symbol: str
    side: Side
    price: int


class Lot(NamedTuple):
    """
    What one fill or hold has taken of one level.

    Args:
        ref: Of the execution or of the firm quote that took it.
        n: Its number within *ref*.
        left: What is still charged as of *since_ms*, a whole number of 10**-18 of the base asset of the key's symbol.
        since_ms: UTC, milliseconds of the epoch; the half-lives count from then.
        step: The venue's quantity step, at least 1.
        shown: What the venue showed there when it was taken, or when it was last explained.
        account: Whose it is.
        held_until_ms: When a firm quote's hold ends; None for what was filled.
    """

    ref: str
    n: int
    key: LevelKey
    left: int
    since_ms: int
    step: int
    shown: int
    account: str
    held_until_ms: int | None


@dataclass(frozen=True)
class Charge:
    """What is taken by fills, and by holds, of one side of a venue's book: quantities by the venue's own price."""

    taken: Mapping[int, int]
    held: Mapping[int, int]

    @cached_property
    def all(self) -> Mapping[int, int]:
        """Give what is taken in both ways."""
        prices = dict.fromkeys((*self.taken, *self.held))
        return {price: self.taken.get(price, 0) + self.held.get(price, 0) for price in prices}


NOTHING: Final = Charge({}, {})


@dataclass(slots=True, eq=False)
class _Open:
    """
    A lot that is not over.

    Args:
        left: What is charged now.
        due_ms: When that changes by itself.
    """

    lot: Lot
    level: _Level
    left: int = 0
    due_ms: int = 0


@dataclass(slots=True, eq=False)
class _Level:
    """
    A level of which something is taken.

    Args:
        shown: What the venue showed there when that was last known ...
        newest_ms: ... by the newest lot, or None since a book has told.
        open: Oldest first.
    """

    takings: _Takings
    price: int
    shown: int = 0
    newest_ms: int | None = -1
    taken: int = 0
    held: int = 0
    open: dict[tuple[str, int], _Open] = field(default_factory=dict)

    def told(self, lot: Lot) -> None:
        """Believe the newest lot's word for what is shown, until a book tells."""
        if self.newest_ms is not None and lot.since_ms >= self.newest_ms:
            self.shown, self.newest_ms = lot.shown, lot.since_ms

    def change(self, more: int, *, held: bool) -> None:
        """Charge more, or less."""
        if held:
            self.held += more
        else:
            self.taken += more
        self.takings.settled = self.takings.settled and not more


@dataclass(slots=True, eq=False)
class _Takings:
    """What is taken of one side of a venue's book: its levels by price, and the charge that they come to."""

    levels: dict[int, _Level] = field(default_factory=dict)
    settled: bool = True
    charge: Charge = NOTHING

    def charged(self) -> Charge:
        """Give the charge; the one that was given before as long as nothing in it has changed."""
        if not self.settled:
            levels = self.levels.values()
            charge = Charge(
                {level.price: level.taken for level in levels if level.taken},
                {level.price: level.held for level in levels if level.held},
            )
            self.settled = True
            if charge != self.charge:
                self.charge = charge
        return self.charge


_Books = dict[tuple[str, str], dict[tuple[str, Side], _Takings]]
"""By venue and symbol, and then by whose they are and the order's side."""


class Charges:
    """What is taken of every book, as it counts for one account; to be read before anything else is taken."""

    __slots__ = ("_books", "owner")

    def __init__(self, books: _Books, owner: str) -> None:
        """Read what is the *owner*'s: an account's, or everybody's."""
        self._books = books
        self.owner = owner

    def __bool__(self) -> bool:
        return bool(self._books)

    def of(self, venue: str, symbol: str, side: Side) -> Charge:
        """Give what is taken of a venue's own symbol; the very same object as long as that has not changed."""
        by_owner = self._books.get((venue, symbol))
        takings = None if by_owner is None else by_owner.get((self.owner, side))
        return NOTHING if takings is None else takings.charged()


class TakenLiquidity:
    """All lots that are not over; used from one thread."""

    def __init__(self, mode: str, half_life_ms: int) -> None:
        """
        Begin empty.

        Args:
            mode: ``SHARED``, ``PER_ACCOUNT`` or ``OFF``.
            half_life_ms: 0: what a fill takes is back at once; holds hold.
        """
        self._mode = mode
        self._half_life_ms = half_life_ms
        self._now_ms = 0
        self._books: _Books = {}
        self._lots: dict[str, dict[int, _Open]] = {}
        self._due: list[tuple[int, int, _Open]] = []
        self._numbers = count()
        self._changed: dict[tuple[str, int], Lot] = {}
        self._over: dict[str, set[int]] = {}

    def add(self, lots: Iterable[Lot]) -> None:
        """Charge what has been taken; of a lot that is known already, the smaller remainder counts."""
        for lot in lots:
            known = self._lots.get(lot.ref, {}).get(lot.n)
            if known is not None:
                self._keep_smaller(known, lot)
            elif self._counts(lot):
                self._open(lot)

    def counting(self, lots: Iterable[Lot]) -> tuple[Lot, ...]:
        """Give those of new lots that will be charged to anybody."""
        return tuple(lot for lot in lots if self._counts(lot))

    def drop(self, ref: str) -> list[Lot]:
        """
        Forget what a hold, or a fill that came to nothing, has taken.

        Returns:
            Its lots that are not over; they can be added again.
        """
        lots = self.held(ref)
        for one in list(self._lots.get(ref, {}).values()):
            self._close(one)
        self._over.pop(ref, None)
        return lots

    def held(self, ref: str) -> list[Lot]:
        """Give the lots of *ref* that are not over."""
        return [one.lot._replace(shown=one.level.shown) for one in self._lots.get(ref, {}).values()]

    def takes_of(self, ref: str, symbols: Collection[str]) -> bool:
        """Tell whether *ref* has taken of venues' own *symbols* what is not over."""
        return any(one.lot.key.symbol in symbols for one in self._lots.get(ref, {}).values())

    def observe(self, book: VenueBook, now_ms: int) -> None:
        """Let a venue's new book explain what it leaves out."""
        by_owner = self._books.get((book.venue, book.symbol))
        if by_owner is None:
            return
        self._advance(now_ms)
        for (_, side), takings in list(by_owner.items()):
            ladder = book.asks if side is Side.BUY else book.bids
            for price, level in list(takings.levels.items()):
                there = _shown_at(side, ladder, price)
                if there is not None:
                    self._explain(level, there)

    def of(self, account: str, now_ms: int) -> Charges:
        """Give what counts for an account at *now_ms* (UTC, milliseconds of the epoch)."""
        self._advance(now_ms)
        return Charges(self._books, self._owner(account))

    def totals(self, now_ms: int) -> dict[tuple[str, str, Side], tuple[int, int]]:
        """Sum up what is taken, and what is held, by whoever: by venue, its own symbol, and the orders' side."""
        self._advance(now_ms)
        sums: dict[tuple[str, str, Side], tuple[int, int]] = {}
        for (venue, symbol), by_owner in self._books.items():
            for (_, side), takings in by_owner.items():
                charge = takings.charged()
                taken, held = sums.get((venue, symbol, side), (0, 0))
                sums[venue, symbol, side] = taken + sum(charge.taken.values()), held + sum(charge.held.values())
        return sums

    def halve_every(self, half_life_ms: int, now_ms: int) -> None:
        """
        Let what fills have taken come back at another pace; what has come back is not taken again.

        Args:
            half_life_ms: Counts from each lot's last halving.
            now_ms: UTC, milliseconds of the epoch.
        """
        self._advance(now_ms)
        if half_life_ms == self._half_life_ms:
            return
        every = [one for of_ref in self._lots.values() for one in of_ref.values() if one.lot.held_until_ms is None]
        for opened in every:
            opened.lot = opened.lot._replace(left=opened.left, since_ms=opened.due_ms - self._half_life_ms)
            self._changed[opened.lot.ref, opened.lot.n] = opened.lot
        self._half_life_ms = half_life_ms
        for opened in every:
            if half_life_ms:
                self._settle(opened)
            else:
                self._end(opened)

    def changed(self) -> list[Lot]:
        """Give the lots whose level or pace has changed, or that are over (``left`` is 0), since the last time."""
        lots = list(self._changed.values())
        self._changed.clear()
        return lots

    def _owner(self, account: str) -> str:
        return account if self._mode == PER_ACCOUNT else _EVERYBODY

    def _counts(self, lot: Lot) -> bool:
        if self._mode == OFF or lot.left <= 0 or lot.n in self._over.get(lot.ref, ()):
            return False
        return self._half_life_ms > 0 or lot.held_until_ms is not None

    def _open(self, lot: Lot) -> None:
        venue, symbol, side, price = lot.key
        takings = self._books.setdefault((venue, symbol), {}).setdefault((self._owner(lot.account), side), _Takings())
        level = takings.levels.get(price)
        if level is None:
            level = takings.levels[price] = _Level(takings, price)
        level.told(lot)
        opened = _Open(lot, level)
        level.open[lot.ref, lot.n] = self._lots.setdefault(lot.ref, {})[lot.n] = opened
        self._settle(opened)

    def _close(self, opened: _Open) -> None:
        """Forget a lot."""
        lot, level = opened.lot, opened.level
        level.change(-opened.left, held=lot.held_until_ms is not None)
        opened.left = 0
        del level.open[lot.ref, lot.n]
        del self._lots[lot.ref][lot.n]
        if not self._lots[lot.ref]:
            del self._lots[lot.ref]
        if not level.open:
            self._forget(lot)

    def _forget(self, lot: Lot) -> None:
        """Forget the level of which this lot was the last."""
        venue, symbol, side, price = lot.key
        books, owner = self._books[venue, symbol], self._owner(lot.account)
        del books[owner, side].levels[price]
        if not books[owner, side].levels:
            del books[owner, side]
        if not books:
            del self._books[venue, symbol]

    def _keep_smaller(self, known: _Open, lot: Lot) -> None:
        """Compare what is left at the later of both times, from when on both shrink alike."""
        at_ms = max(known.lot.since_ms, lot.since_ms)
        if self._left(lot, at_ms) < self._left(known.lot, at_ms):
            known.lot = known.lot._replace(left=lot.left, since_ms=lot.since_ms)
            self._settle(known)

    def _periods(self, lot: Lot, now_ms: int) -> int:
        """Count the full half-lives."""
        return max(0, (now_ms - lot.since_ms) // self._half_life_ms)

    def _due_ms(self, lot: Lot) -> int:
        """Give when what is charged changes next by itself."""
        if lot.held_until_ms is not None:
            return lot.held_until_ms
        return lot.since_ms + (self._periods(lot, self._now_ms) + 1) * self._half_life_ms

    def _left(self, lot: Lot, now_ms: int) -> int:
        """Give what of a lot is charged at a time; halving and flooring again and again comes to one division."""
        if lot.held_until_ms is not None:
            return lot.left if now_ms < lot.held_until_ms else 0
        periods = self._periods(lot, now_ms)
        return lot.left // (lot.step << min(periods, _HALVINGS_MAX)) * lot.step if periods else lot.left

    def _settle(self, opened: _Open) -> None:
        """Charge what is left of a lot now, and see when to look again."""
        lot = opened.lot
        left = self._left(lot, self._now_ms)
        opened.level.change(left - opened.left, held=lot.held_until_ms is not None)
        opened.left = left
        if not left:
            self._end(opened)
            return
        due_ms = self._due_ms(lot)
        if due_ms != opened.due_ms:
            opened.due_ms = due_ms
            heapq.heappush(self._due, (due_ms, next(self._numbers), opened))

    def _end(self, opened: _Open) -> None:
        self._changed[opened.lot.ref, opened.lot.n] = opened.lot._replace(left=0)
        self._close(opened)

    def _advance(self, now_ms: int) -> None:
        """Let time pass; what it has given back is not taken again where the clock is set back."""
        self._now_ms = now_ms
        while self._due and self._due[0][0] <= now_ms:
            due_ms, _, opened = heapq.heappop(self._due)
            if opened.left and opened.due_ms == due_ms:
                self._settle(opened)

    def _explain(self, level: _Level, there: int) -> None:
        """Hold a level's lots against what the venue shows there now: 0 explains them all."""
        less = level.shown - there if there else level.taken + level.held
        level.shown, level.newest_ms = there, None
        if less <= 0:
            return
        for opened in list(level.open.values()):
            if less:
                explained = min(opened.left, less)
                less -= explained
                self._explained(opened, opened.left - explained)
            else:  # It has to be on record, or what explained the others would explain this one after a restart.
                opened.lot = opened.lot._replace(shown=there)
                self._changed[opened.lot.ref, opened.lot.n] = opened.lot

    def _explained(self, opened: _Open, left: int) -> None:
        """Count from the last halving that was."""
        lot = opened.lot
        since_ms = lot.since_ms if lot.held_until_ms is not None else opened.due_ms - self._half_life_ms
        opened.lot = lot._replace(left=left, since_ms=since_ms, shown=opened.level.shown)
        if left:
            self._changed[lot.ref, lot.n] = opened.lot
            self._settle(opened)
            return
        self._over.setdefault(lot.ref, set()).add(lot.n)
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]
        self._end(opened)


def _shown_at(side: Side, ladder: Ladder, price: int) -> int | None:
    """Give what a ladder shows at a price, or None where it does not reach so far."""
    place = place_of(side, ladder.prices, price)
    if place == len(ladder.prices):
        return None
    return ladder.quantities[place] if ladder.prices[place] == price else 0
