"""Keep the board up to date: all venues' loops, and the change from one set of them to another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches

import structlog

from exchanges.board import Board
from exchanges.ccxt_venue import exchange_ids
from exchanges.changes import log_change
from exchanges.clock import Clock
from exchanges.errors import VenueConfigError
from exchanges.feed import VenueFeed
from exchanges.line import VenueConfig
from exchanges.offloop import OffLoop

BEAT_MS = 100

log = structlog.get_logger()


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
        self._offloop = OffLoop()
        self.board = Board(outlier_bps, log_change)
        self.venues: list[VenueFeed] = []
        self._symbols: Sequence[str] = ()
        self._tasks: dict[VenueFeed, asyncio.Task[None]] = {}
        self._beating: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._put(self._wanted(configs, symbols), symbols, outlier_bps)

    def _wanted(self, configs: Sequence[VenueConfig], symbols: Sequence[str]) -> list[VenueFeed]:
        """
        Give a feed for each config: the one that runs, if it would be the same.

        Raises:
            VenueConfigError: With the problems of all venues.
        """
        pairs = stable_pairs(configs, symbols)
        wants = (tuple(symbols), tuple(pairs))
        feeds, problems = [], []
        for config in configs:
            same = [feed for feed in self.venues if feed.config == config and feed.wants == wants]
            try:
                feeds += same or [VenueFeed(config, symbols, self.board, self._clock, self._offloop, pairs)]
            except VenueConfigError as error:
                problems += error.problems
        if problems:
            raise VenueConfigError(problems)
        return feeds

    def _put(self, feeds: list[VenueFeed], symbols: Sequence[str], outlier_bps: Decimal) -> None:
        """Show these feeds' venues on the board, and no others."""
        before = {feed.config.name: feed for feed in self.venues}
        for feed in feeds:
            former = before.get(feed.config.name)
            if former is not None and former is not feed:
                for symbol in former.symbols:
                    if symbol not in feed.symbols or not _same_exchange(former.config, feed.config):
                        self.board.unseat(feed.config.name, symbol)
            if former is not feed:
                feed.take_seats()
        self.venues, self._symbols = feeds, symbols
        shown = dict.fromkeys(symbol for feed in feeds for symbol in feed.symbols)
        self.board.arrange([feed.config.name for feed in feeds], list(shown), outlier_bps)

    async def start(self, wait_s: float = 10.0) -> None:
        """
        Start all loops, and wait up to *wait_s* until every venue has answered, or failed, once.

        Raises:
            VenueConfigError: For each symbol that no venue trades, if at least one venue has told what it trades.
        """
        self._run()
        self._beating = asyncio.create_task(self._beat(), name="beat")
        await self._loaded(self.venues, wait_s)
        problems = _problems([feed.config for feed in self.venues], self._symbols, self._known())
        if problems:
            raise VenueConfigError(problems)

    def _known(self) -> dict[str, frozenset[str]]:
        """Give what each venue trades, of those that have told."""
        return {feed.config.name: feed.known_symbols for feed in self.venues if feed.known_symbols}

    def _run(self) -> None:
        """Run the loops of the venues that are there, and end those of the venues that are not."""
        for feed in self.venues:
            if feed not in self._tasks:
                self._tasks[feed] = asyncio.create_task(feed.run(), name=f"feed {feed.config.name}")
        for feed in set(self._tasks) - set(self.venues):
            running = self._tasks.pop(feed)
            running.cancel()
            task = asyncio.create_task(_close_after(running, feed), name=f"close {feed.config.name}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _loaded(self, feeds: Sequence[VenueFeed], wait_s: float) -> None:
        """Wait until every venue has told what it trades, or failed to, but not for ever."""
        try:
            async with asyncio.timeout(wait_s):
                await asyncio.gather(*(feed.first_load.wait() for feed in feeds))
        except TimeoutError:
            log.warning("venues.late", venues=_unheard(feeds))

    def unheard(self) -> list[str]:
        """Name the venues that have not answered yet, nor failed to."""
        return _unheard(self.venues)

    async def apply(
        self, configs: Sequence[VenueConfig], symbols: Sequence[str], outlier_bps: Decimal, *, unserved: bool = False
    ) -> None:
        """
        Change to other venues, symbols and numbers while everything runs.

        Venues that stay as they are go on untouched.  One whose settings change begins anew, and keeps the book it had
        until then, unless it shows another exchange's or another symbol's now.  The change is made in one step.

        Args:
            unserved: A symbol that no venue trades is no mistake: somebody has switched its venues off.

        Raises:
            VenueConfigError: With everything that cannot work; nothing has changed then.
        """
        running = {feed.config.name: feed.config for feed in self.venues}
        known = {
            config.name: self._known()[config.name]
            for config in configs
            if config.name in self._known() and _same_exchange(running[config.name], config)
        }
        # A venue that is new may trade whatever the others do not.
        told = len(known) == len(configs) and not unserved
        problems = _problems(configs, symbols if told else (), known)
        try:
            feeds = self._wanted(configs, symbols)
        except VenueConfigError as error:
            raise VenueConfigError(error.problems + problems) from error
        if problems:
            raise VenueConfigError(problems)
        self._put(feeds, symbols, outlier_bps)
        self._run()

    async def _beat(self) -> None:
        while True:
            self.board.beat(self._clock.now_ns())
            await asyncio.sleep(BEAT_MS / 1_000)

    async def close(self) -> None:
        """Stop all loops and close all connections."""
        self.venues = []
        self._run()
        if self._beating is not None:
            self._beating.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        self._offloop.close()


def _problems(configs: Sequence[VenueConfig], symbols: Sequence[str], known: Mapping[str, frozenset[str]]) -> list[str]:
    """Name the symbols that the settings ask for and that nobody trades, as far as the venues have told."""
    problems = [
        f"venues.{config.name}.symbols: the venue does not trade {own!r}{_nearest(own, known[config.name])}"
        for config in configs
        if config.name in known
        for own in config.symbols.values()
        if own not in known[config.name]
    ]
    loaded = [config for config in configs if config.name in known]
    for symbol in symbols:
        mapped = any(symbol in config.symbols for config in loaded)
        if loaded and not mapped and not any(symbol in known[config.name] for config in loaded):
            everything = frozenset().union(*(known[config.name] for config in loaded))
            problems.append(f"market.symbols: no venue trades {symbol!r}{_nearest(symbol, everything)}")
    return problems


def _nearest(symbol: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(symbol, sorted(known), n=3, cutoff=0.5)
    return f"; the nearest are {', '.join(nearest)}" if nearest else ""


def _unheard(feeds: Sequence[VenueFeed]) -> list[str]:
    return [feed.config.name for feed in feeds if not feed.first_load.is_set()]


def _same_exchange(one: VenueConfig, other: VenueConfig) -> bool:
    return (one.exchange, one.base_url) == (other.exchange, other.base_url)


async def _close_after(running: asyncio.Task[None], feed: VenueFeed) -> None:
    await asyncio.gather(running, return_exceptions=True)
    await feed.close()


__all__ = ["Feeds", "VenueConfig", "VenueFeed", "exchange_ids", "stable_pairs"]
