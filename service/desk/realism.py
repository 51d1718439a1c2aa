"""Watch the real books after each mock fill: was the quantity still there, and which way did the price go?

Survival: the share of what an execution filled that its venues still showed at its prices or better, a moment after.
Mark-out: how far the consolidated mid has moved since, positive the client's way.  Nothing of it is exact money, and
nothing depends on it: what could not be seen in time is left open rather than guessed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heapify, heappop, heappush
from typing import Any, Final

import structlog

from exchanges.board import Board
from exchanges.book import Side, VenueBook
from exchanges.clock import MS, Clock
from service.accounting import bps, bps_text, near, text
from service.market.book import NoBook
from service.market.view import MarketView

log = structlog.get_logger()

SURVIVAL_AFTER_MS: Final = (50, 250, 1000)
MARKOUT_AFTER_S: Final = (1, 10, 60)
LATE_MS_MAX: Final = 50
LATE_PART: Final = 5
"""A point that is late by more than ``LATE_MS_MAX`` and a fifth of its delay is left open: it would be another one."""
WATCHED_MAX: Final = 10_000
"""Executions that are watched at once."""
STEPS_MAX: Final = 20
"""Points that are judged before others have their turn in the event loop."""
SHARE_SCALE: Final = 4

_SECOND_MS: Final = 1_000
_MOMENTS_MS: Final = tuple(sorted({*SURVIVAL_AFTER_MS, *(after_s * _SECOND_MS for after_s in MARKOUT_AFTER_S)}))

share_text = partial(text, SHARE_SCALE)
"""Write a share of 1."""


@dataclass(frozen=True, slots=True)
class FilledLevel:
    """
    What one level of one venue gave.

    Args:
        symbol: The venue's own.
        price: As the venue shows it, in its own quote asset: a whole number of 10**-18.
        quantity: Base asset, a whole number of 10**-18.
    """

    venue: str
    symbol: str
    price: int
    quantity: int


@dataclass(frozen=True, slots=True)
class Watched:
    """
    A mock fill to be held against the books that follow it.

    Args:
        symbol: As it is served.
        side: Of the client's order: what a BUY has taken are asks.
        levels: In any order.
        mid: Twice the consolidated mid at the fill, as ``ConsolidatedBook.twice_mid``, positive.
        at_ns: Of the fill, boot-time clock.
    """

    execution_id: str
    account: str
    symbol: str
    side: Side
    levels: tuple[FilledLevel, ...]
    mid: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Realism:
    """
    How far a mock fill can be believed; not exact money.

    Args:
        survival: (after_ms, share) in order of time; the share a whole number of 10**-4, None where nothing was seen.
        markout_bps: (after_s, basis points) in order of time; a whole number of 10**-4, None where nothing was seen.
        pending: The watch is not over.
    """

    survival: tuple[tuple[int, int | None], ...]
    markout_bps: tuple[tuple[int, int | None], ...]
    pending: bool

    def message(self) -> dict[str, Any]:
        """Give it as the contract writes it: decimal strings, and null for what was not seen."""
        return {
            "pending": self.pending,
            "survival": [
                {"after_ms": after_ms, "share": None if share is None else share_text(share)}
                for after_ms, share in self.survival
            ],
            "markout_bps": [
                {"after_s": after_s, "bps": None if moved is None else bps_text(moved)}
                for after_s, moved in self.markout_bps
            ],
        }


def pending_realism() -> Realism:
    """Give what is known of an execution whose watch is not over: nothing."""
    return Realism(
        survival=tuple((after_ms, None) for after_ms in SURVIVAL_AFTER_MS),
        markout_bps=tuple((after_s, None) for after_s in MARKOUT_AFTER_S),
        pending=True,
    )


def unseen_realism() -> Realism:
    """Give what is known of an execution whose watch was broken off: nothing, for ever."""
    return replace(pending_realism(), pending=False)


WATCH_S: Final = 75
"""A watch that has told of nothing for so long is over: its process is no more."""

OnDone = Callable[[str, str, Realism], None]


@dataclass(slots=True)
class _Watch:
    """An execution that is being watched, and what has been seen so far."""

    fill: Watched
    moments_over: int = 0
    shares: dict[int, int] = field(default_factory=dict)
    markouts: dict[int, int] = field(default_factory=dict)

    def due_ns(self) -> int:
        """Give when its next moment comes."""
        return self.fill.at_ns + _MOMENTS_MS[self.moments_over] * MS

    def realism(self) -> Realism:
        """Give what was seen, as the end of the watch."""
        return Realism(
            survival=tuple((after_ms, self.shares.get(after_ms)) for after_ms in SURVIVAL_AFTER_MS),
            markout_bps=tuple((after_s, self.markouts.get(after_s)) for after_s in MARKOUT_AFTER_S),
            pending=False,
        )


class RealismWatch:
    """The mock fills of the last minute, and when each is to be looked at; one event loop's."""

    def __init__(
        self, market: MarketView, board: Board, clock: Clock, done: OnDone, watched_max: int = WATCHED_MAX
    ) -> None:
        """
        Begin with nothing to watch.

        Args:
            done: Called once per execution with its id, its account and what was seen, when all points are over; it
                must be quick.
            watched_max: Executions watched at once, at least 1.
        """
        self._market = market
        self._board = board
        self._clock = clock
        self._done = done
        self._watched_max = watched_max
        self._watches: dict[int, _Watch] = {}
        """By number, in the order of their coming."""
        self._due: list[tuple[int, int]] = []
        """A heap of (due_ns, number): one for each watch, and what is left of those that were ended early."""
        self._over: deque[_Watch] = deque(maxlen=watched_max)
        """What ``done`` has not been told of."""
        self._count = 0
        self._woken = asyncio.Event()

    def watch(self, fill: Watched) -> None:
        """
        Watch a fill from now on; quick, and it cannot fail.

        While there is no room the oldest is finished as it is: its open points are None.  ``advance`` tells of it; if
        nobody ever calls that, the oldest of the finished are forgotten.
        """
        while len(self._watches) >= self._watched_max:
            self._over.append(self._watches.pop(next(iter(self._watches))))
        watch = _Watch(fill)
        self._count += 1
        self._watches[self._count] = watch
        heappush(self._due, (watch.due_ns(), self._count))
        if len(self._due) > 2 * self._watched_max:
            self._due = [entry for entry in self._due if entry[1] in self._watches]
            heapify(self._due)
        if self._over or self._due[0][1] == self._count:
            self._woken.set()

    def advance(self, now_ns: int, steps_max: int | None = None) -> float | None:
        """
        Do all that is due, or the first *steps_max* of it.

        What ``done`` or a judgement raises comes through, with its execution behind it: the next call goes on with
        the others.

        Args:
            now_ns: Boot-time clock.

        Returns:
            Seconds until the next point is due, 0 if more may be, or None if nothing is watched.
        """
        steps = 0
        while self._step(now_ns):
            steps += 1
            if steps == steps_max:
                return 0.0
        return (self._due[0][0] - now_ns) / (_SECOND_MS * MS) if self._due else None

    async def run(self) -> None:
        """Judge each point when it is due, until cancelled; an unexpected error is logged and the loop goes on."""
        while True:
            self._woken.clear()
            try:
                wait_s = self.advance(self._clock.now_ns(), STEPS_MAX)
            except Exception:
                log.exception("realism.failed")
                wait_s = 0.0
            await self._wait(wait_s)

    async def _wait(self, wait_s: float | None) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _step(self, now_ns: int) -> bool:
        """Do one thing, or tell that there is nothing to do yet."""
        if self._over:
            over = self._over.popleft()
            self._done(over.fill.execution_id, over.fill.account, over.realism())
            return True
        while self._due and self._due[0][1] not in self._watches:
            heappop(self._due)
        if not self._due or self._due[0][0] > now_ns:
            return False
        due_ns, number = heappop(self._due)
        self._look(number, due_ns, now_ns)
        return True

    def _look(self, number: int, due_ns: int, now_ns: int) -> None:
        watch = self._watches[number]
        after_ms = _MOMENTS_MS[watch.moments_over]
        watch.moments_over += 1
        try:
            if (now_ns - due_ns) <= LATE_MS_MAX * MS + after_ms * MS // LATE_PART:
                self._see(watch, after_ms, now_ns)
        finally:  # Whatever it raised: that point stays open, and the next one is looked at.
            self._go_on(number, watch, after_ms)

    def _go_on(self, number: int, watch: _Watch, after_ms: int) -> None:
        if after_ms == SURVIVAL_AFTER_MS[-1]:
            watch.fill = replace(watch.fill, levels=())  # They are most of what it takes to keep a fill for a minute.
        if watch.moments_over == len(_MOMENTS_MS):
            self._over.append(self._watches.pop(number))
        else:
            heappush(self._due, (watch.due_ns(), number))

    def _see(self, watch: _Watch, after_ms: int, now_ns: int) -> None:
        if after_ms in SURVIVAL_AFTER_MS:
            share = self._share(watch.fill, now_ns)
            if share is not None:
                watch.shares[after_ms] = share
        after_s, rest_ms = divmod(after_ms, _SECOND_MS)
        if after_s in MARKOUT_AFTER_S and not rest_ms:
            moved = self._markout(watch.fill, now_ns)
            if moved is not None:
                watch.markouts[after_s] = moved

    def _share(self, fill: Watched, now_ns: int) -> int | None:
        """Give the share still there, half-even to 4 decimals, of the levels that can be judged, if there are any."""
        by_book: dict[tuple[str, str], list[FilledLevel]] = {}
        for level in fill.levels:
            by_book.setdefault((level.venue, level.symbol), []).append(level)
        filled = there = 0
        for (venue, symbol), levels in by_book.items():
            source = self._board.source(venue, symbol, now_ns)
            if source is None or not source.live or source.book is None or source.book.received_at_ns <= fill.at_ns:
                continue
            filled += sum(level.quantity for level in levels)
            there += still_there(fill.side, levels, source.book)
        return near(there * 10**SHARE_SCALE, filled) if filled else None

    def _markout(self, fill: Watched, now_ns: int) -> int | None:
        """Give how far mid has moved the client's way since the fill, in 10**-4 bps, if there is a book."""
        if fill.symbol not in self._market.symbols:  # Not served any more.
            return None
        snapshot = self._market.book(fill.symbol, now_ns)
        if isinstance(snapshot, NoBook):
            return None
        up = bps(snapshot.book.twice_mid - fill.mid, fill.mid)
        return up if fill.side is Side.BUY else -up


def still_there(side: Side, levels: Iterable[FilledLevel], book: VenueBook) -> int:
    """
    Sum what a book still shows of the levels that one order has taken from it, at each one's price or better.

    The same visible quantity counts for one of them only.  Shared out best price first it goes as far as it can: what
    is good enough for a level is good enough for every worse one.

    Args:
        side: The client's: what a BUY has taken are asks.
        levels: All of this book's venue and symbol, in any order.

    Returns:
        Base asset, a whole number of 10**-18.
    """
    ladder, sign = (book.asks, 1) if side is Side.BUY else (book.bids, -1)
    prices, quantities = ladder.prices, ladder.quantities
    shown = counted = place = 0
    for level in sorted(levels, key=lambda level: sign * level.price):
        while place < len(prices) and sign * prices[place] <= sign * level.price:
            shown += quantities[place]
            place += 1
        counted += min(level.quantity, shown - counted)
    return counted
