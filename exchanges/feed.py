"""Keep the board up to date: one supervised loop per venue, polling its symbols in turn.

One request is in flight per venue, evenly spaced, never closer than the venue's limit, each under a deadline of its
own.  A venue in trouble is probed at least every second; one that asks for a pause gets it.  No venue waits for
another.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from difflib import get_close_matches

import structlog

from exchanges.board import Board
from exchanges.book import BookRejected, RawBook, Reject, decode
from exchanges.ccxt_venue import CcxtVenue, exchange_ids
from exchanges.clock import MS, Clock
from exchanges.continuity import Continuity
from exchanges.errors import VenueConfigError, VenueFailure, VenueMisuse, VenueRefusal
from exchanges.health import State, Status
from exchanges.instruments import Instrument

POLL_TIMEOUT_MS = 3_000
"""A poll that takes longer has failed; what it brought would be that old."""
INSTRUMENTS_TIMEOUT_MS = 10_000
"""For the first load; a refresh, which no poll waits for longer than it must, gets half of ``stale_after_ms``."""
INSTRUMENTS_REFRESH_MS = 24 * 3_600_000
INSTRUMENTS_RETRY_MS = 3_600_000
"""After a refresh that failed; no book is polled while one is under way."""
PROBE_INTERVAL_MAX_MS = 1_000
PROBE_INTERVAL_MIN_MS = 100
MISUSE_PAUSE_S = 60.0
"""What will not work again unless someone changes something is tried again this seldom."""
BEAT_MS = 100
STALE_AFTER_MS = 5_000

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VenueConfig:
    """
    How to poll one venue.

    Args:
        name: The venue's name in all answers.
        exchange: ccxt's id.
        poll_interval_ms: Wanted time between two polls of one symbol.
        rate_limit_ms: Least time between two requests to the venue; None for ccxt's, 0 for none.
        depth: Levels a side.
        stale_after_ms: Age at which a book stops counting; None for the default.
        taker_fee_bps: In place of what the venue reports.
        base_url: See ``CcxtVenue``.
        symbols: What the venue trades a served symbol as, where that is another symbol.
    """

    name: str
    exchange: str
    poll_interval_ms: int = 1_000
    rate_limit_ms: int | None = None
    depth: int = 100
    stale_after_ms: int | None = None
    taker_fee_bps: Decimal | None = None
    base_url: str | None = None
    symbols: Mapping[str, str] = field(default_factory=dict)

    def own(self, symbol: str) -> str:
        """Give what the venue trades a served symbol as."""
        return self.symbols.get(symbol, symbol)


def stable_pairs(configs: Sequence[VenueConfig], symbols: Sequence[str]) -> list[tuple[str, str]]:
    """
    Name the symbols that prices are converted through, for all venues that serve a symbol from another one.

    Returns:
        Per pair of assets, the two symbols that it may be traded as, the one in the served symbol's terms first.
    """
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for config in configs:
        for symbol in symbols:
            wanted, own = symbol.partition("/")[2], config.own(symbol).partition("/")[2]
            if own != wanted:
                pairs.setdefault(frozenset((wanted, own)), (f"{wanted}/{own}", f"{own}/{wanted}"))
    return list(pairs.values())


class VenueFeed:
    """One venue's loop."""

    def __init__(
        self,
        config: VenueConfig,
        symbols: Sequence[str],
        board: Board,
        clock: Clock,
        pairs: Sequence[tuple[str, str]] = (),
    ) -> None:
        """
        Prepare the venue and take its seats on the board.

        Args:
            symbols: Those that are served; the venue's own are asked for.
            pairs: Symbols of stable pairs, of which the venue is asked for the ones that it trades.

        Raises:
            VenueConfigError: If the venue's settings cannot work.
        """
        self.config = config
        self._venue = CcxtVenue(
            config.name, config.exchange, base_url=config.base_url, taker_fee_bps=config.taker_fee_bps
        )
        limit = config.rate_limit_ms
        self._rate_limit_ms = self._venue.rate_limit_ms(config.depth) if limit is None else limit
        own_symbols = list(dict.fromkeys(config.own(symbol) for symbol in symbols))
        more_pairs = [pair for pair in pairs if not set(pair) & set(own_symbols)]
        books = len(own_symbols) + len(more_pairs)  # Of a pair's two names, a venue has one at most.
        self.poll_interval_ms = max(config.poll_interval_ms, self._rate_limit_ms * books)
        self.stale_after_ms = config.stale_after_ms or max(STALE_AFTER_MS, 2 * self.poll_interval_ms + 1_000)
        if self.stale_after_ms < 2 * self.poll_interval_ms:
            raise VenueConfigError(
                [
                    f"venues.{config.name}.stale_after_ms: {self.stale_after_ms} is less than twice the effective "
                    f"interval of {self.poll_interval_ms} ms; at least {2 * self.poll_interval_ms} is needed"
                ]
            )
        self._board = board
        self._clock = clock
        self._wanted = frozenset(own_symbols)
        self._symbols = [*own_symbols, *(symbol for pair in more_pairs for symbol in pair)]
        self._continuity = {symbol: self._new_continuity() for symbol in self._symbols}
        self._instruments_due_ns = 0
        self._last_request_ns: int | None = None
        self._resume_ns = 0
        self._failures: Counter[str] = Counter()
        self._rejects: dict[str, Reject] = {}
        self.first_load = asyncio.Event()
        self.known_symbols: frozenset[str] = frozenset()
        for symbol in self._symbols:
            board.seat(config.name, symbol, self.stale_after_ms, clock.now_ns())

    def _new_continuity(self) -> Continuity:
        return Continuity(time_is_generation=self._venue.facts.time_is_generation)

    async def run(self) -> None:
        """Load instruments, then poll, until cancelled; an unexpected error is logged and the loop goes on."""
        while True:
            try:
                await self._load_instruments_until_there()
                await self._poll_in_turn()
                return
            except Exception as error:
                log.exception("feed.failed", venue=self.config.name)
                self._fail_all(type(error).__name__, at_once=True)
                await asyncio.sleep(PROBE_INTERVAL_MAX_MS / 1_000)

    async def close(self) -> None:
        """Close the venue's connections."""
        await self._venue.close()

    def unknown_mappings(self) -> list[str]:
        """Name the symbols that the settings want the venue to serve others from, and that it does not trade."""
        return [
            f"venues.{self.config.name}.symbols: the venue does not trade {own!r}{_nearest(own, self.known_symbols)}"
            for own in self.config.symbols.values()
            if self.known_symbols and own not in self.known_symbols
        ]

    async def _load_instruments_until_there(self) -> None:
        while not self.known_symbols:
            pause_s = await self._load_instruments(INSTRUMENTS_TIMEOUT_MS)
            self.first_load.set()
            if pause_s is not None:
                await asyncio.sleep(pause_s)

    async def _load_instruments(self, timeout_ms: int) -> float | None:
        """Load instruments once; give the seconds to wait before the next try if that failed."""
        await self._keep_rate_limit()
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                instruments = await self._venue.load_instruments()
        except TimeoutError:
            return self._failed(self._symbols, VenueFailure("timeout", "instruments did not come in time"))
        except VenueFailure as failure:
            return self._failed(self._symbols, failure)
        self._failures.clear()
        self._instruments_due_ns = self._clock.now_ns() + INSTRUMENTS_REFRESH_MS * MS
        self._seat_symbols(instruments)
        return None

    def _seat_symbols(self, instruments: dict[str, Instrument]) -> None:
        """Keep the rules of the symbols that the venue trades, and leave the others to the other venues."""
        first = not self.known_symbols
        self.known_symbols = frozenset(instruments)
        for symbol in list(self._symbols):
            if symbol in instruments:
                self._board.instruct(instruments[symbol])
            elif first:
                if symbol in self._wanted:
                    log.info("venue.symbol_unknown", venue=self.config.name, symbol=symbol)
                self._symbols.remove(symbol)
                self._board.unseat(self.config.name, symbol)

    async def _poll_in_turn(self) -> None:
        now_ns = self._clock.now_ns()
        spacing_ns = self.poll_interval_ms * MS // max(1, len(self._symbols))
        due_ns = {symbol: now_ns + place * spacing_ns for place, symbol in enumerate(self._symbols)}
        while due_ns:
            symbol = min(due_ns, key=due_ns.__getitem__)
            await self._sleep_until(due_ns[symbol])
            if self._clock.now_ns() >= self._instruments_due_ns:
                self._instruments_due_ns = self._clock.now_ns() + INSTRUMENTS_RETRY_MS * MS
                await self._load_instruments(self.stale_after_ms // 2)  # What was there stays, if nothing better comes.
            await self._keep_rate_limit()
            started_ns = self._clock.now_ns()
            pause_s = await self._poll(symbol)
            if pause_s is None:
                due_ns[symbol] = started_ns + self._interval_ms(symbol) * MS
            else:
                due_ns[symbol] = self._clock.now_ns() + round(pause_s * 1_000) * MS

    def _interval_ms(self, symbol: str) -> int:
        """Poll a symbol in trouble more often, within the venue's limit, so that it is back soon."""
        source = self._board.source(self.config.name, symbol, self._clock.now_ns())
        if source is not None and source.live:
            return self.poll_interval_ms
        return min(self.poll_interval_ms, max(self._rate_limit_ms, PROBE_INTERVAL_MAX_MS // 2))

    async def _poll(self, symbol: str) -> float | None:
        """Poll once and publish; give the seconds to wait before this symbol's next poll if no answer came."""
        sent_at_ns = self._clock.now_ns()
        try:
            async with asyncio.timeout(POLL_TIMEOUT_MS / 1_000):
                raw = await self._venue.fetch_book(symbol, self.config.depth)
            self._publish(symbol, raw, sent_at_ns)
        except BookRejected as rejected:
            self._reject(symbol, rejected)
        except TimeoutError:
            return self._failed([symbol], VenueFailure("timeout"))
        except VenueFailure as failure:
            return self._failed([symbol], failure)
        self._failures.pop(symbol, None)
        return None

    def _reject(self, symbol: str, rejected: BookRejected) -> None:
        if self._rejects.get(symbol) != rejected.reason:
            log.warning("book.rejected", venue=self.config.name, symbol=symbol, reason=rejected.reason.value)
            self._rejects[symbol] = rejected.reason
        self._board.reject(self.config.name, symbol, rejected.reason.value, self._clock.now_ns())

    def _publish(self, symbol: str, raw: RawBook, sent_at_ns: int) -> None:
        continuity = self._continuity[symbol]
        answered_at_ns = self._clock.now_ns()
        book = decode(
            raw,
            venue=self.config.name,
            symbol=symbol,
            received_at_ns=sent_at_ns,
            depth=self.config.depth,
            merge_repeats=self._venue.facts.repeats_prices,
        )
        book = replace(book, received_at_ns=continuity.received_at_ns(raw, sent_at_ns, answered_at_ns))
        continuity.accept(raw, book, answered_at_ns)
        self._rejects.pop(symbol, None)
        self._board.publish(book, answered_at_ns, frozen_side=continuity.frozen_side(answered_at_ns))

    def _failed(self, symbols: Sequence[str], failure: VenueFailure) -> float:
        """Take note of a request without an answer; give the seconds to wait before the next one."""
        self._failures.update(symbols)
        in_a_row = max((self._failures[symbol] for symbol in symbols), default=1)
        if isinstance(failure, VenueRefusal):
            self._fail_all(failure.reason, at_once=True)
            pause_ms = max(round(failure.pause_s * 1_000), PROBE_INTERVAL_MIN_MS)
            self._resume_ns = self._clock.now_ns() + pause_ms * MS
            log.warning("venue.paused", venue=self.config.name, reason=failure.reason, pause_ms=pause_ms)
            return pause_ms / 1_000
        lasting = isinstance(failure, VenueMisuse)
        for symbol in symbols:
            self._board.fail(self.config.name, symbol, failure.reason, self._clock.now_ns(), at_once=lasting)
        if in_a_row == 1:
            log.info("venue.request_failed", venue=self.config.name, reason=failure.reason, detail=failure.detail)
        if lasting:
            return MISUSE_PAUSE_S
        ceiling_ms = min(PROBE_INTERVAL_MAX_MS, PROBE_INTERVAL_MIN_MS * 2 ** min(in_a_row, 10))
        return random.uniform(PROBE_INTERVAL_MIN_MS, ceiling_ms) / 1_000

    def _fail_all(self, reason: str, *, at_once: bool) -> None:
        for symbol in self._symbols:
            self._board.fail(self.config.name, symbol, reason, self._clock.now_ns(), at_once=at_once)

    async def _keep_rate_limit(self) -> None:
        """Wait until the venue may be asked again, for whatever symbol."""
        due_ns = self._resume_ns
        if self._last_request_ns is not None:
            due_ns = max(due_ns, self._last_request_ns + self._rate_limit_ms * MS)
        await self._sleep_until(due_ns)
        self._last_request_ns = self._clock.now_ns()

    async def _sleep_until(self, due_ns: int) -> None:
        wait_s = (due_ns - self._clock.now_ns()) / 1_000_000_000
        await asyncio.sleep(max(0.0, wait_s))


class Feeds:
    """All venues' loops and the board they keep."""

    def __init__(
        self, configs: Sequence[VenueConfig], symbols: Sequence[str], outlier_bps: Decimal, clock: Clock
    ) -> None:
        """
        Prepare every venue; nothing is asked yet.

        Raises:
            VenueConfigError: With the problems of all venues.
        """
        self._clock = clock
        self.board = Board(outlier_bps, self._log_change)
        self.venues: list[VenueFeed] = []
        self._symbols = symbols
        problems: list[str] = []
        pairs = stable_pairs(configs, symbols)
        for config in configs:
            try:
                self.venues.append(VenueFeed(config, symbols, self.board, clock, pairs))
            except VenueConfigError as error:
                problems += error.problems
        if problems:
            raise VenueConfigError(problems)
        self._tasks: list[asyncio.Task[None]] = []

    def _log_change(self, venue: str, symbol: str, before: Status, after: Status) -> None:
        level = log.info if after.state in (State.LIVE, State.WARMING) else log.warning
        level(
            f"venue.{after.state}",
            venue=venue,
            symbol=symbol,
            reason=after.reason,
            state_before=before.state.value,
            reason_before=before.reason,
        )

    async def start(self, wait_s: float = 10.0) -> None:
        """
        Start all loops, and wait up to *wait_s* until every venue has answered, or failed, once.

        Raises:
            VenueConfigError: For each symbol that no venue trades, if at least one venue has told what it trades.
        """
        self._tasks = [asyncio.create_task(feed.run(), name=f"feed {feed.config.name}") for feed in self.venues]
        self._tasks.append(asyncio.create_task(self._beat(), name="beat"))
        first_loads = asyncio.gather(*(feed.first_load.wait() for feed in self.venues))
        try:
            async with asyncio.timeout(wait_s):
                await first_loads
        except TimeoutError:
            log.warning(
                "venues.late", venues=[feed.config.name for feed in self.venues if not feed.first_load.is_set()]
            )
        problems = [problem for feed in self.venues for problem in feed.unknown_mappings()]
        loaded = [feed for feed in self.venues if feed.known_symbols]
        for symbol in self._symbols:
            asked = [feed for feed in loaded if symbol not in feed.config.symbols]
            mapped = len(asked) < len(loaded)
            if loaded and not mapped and not any(symbol in feed.known_symbols for feed in asked):
                known = frozenset().union(*(feed.known_symbols for feed in loaded))
                problems.append(f"market.symbols: no venue trades {symbol!r}{_nearest(symbol, known)}")
        if problems:
            raise VenueConfigError(problems)

    async def _beat(self) -> None:
        while True:
            self.board.beat(self._clock.now_ns())
            await asyncio.sleep(BEAT_MS / 1_000)

    async def close(self) -> None:
        """Stop all loops and close all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(feed.close() for feed in self.venues))


def _nearest(symbol: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(symbol, list(known), n=3, cutoff=0.5)
    return f"; the nearest are {', '.join(nearest)}" if nearest else ""


__all__ = ["Feeds", "VenueConfig", "VenueFeed", "exchange_ids"]
