"""Ask a venue over REST: one request at a time, never closer than its limit, each under a deadline of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from exchanges.book import RawBook, VenueBook, decode
from exchanges.ccxt_venue import CcxtStream, CcxtVenue
from exchanges.clock import MS, Clock
from exchanges.errors import VenueConfigError, VenueFailure, VenueRefusal
from exchanges.instruments import Instrument
from exchanges.offloop import OffLoop
from exchanges.venues import VenueFacts

POLL_TIMEOUT_MS = 3_000
"""A poll that takes longer has failed; what it brought would be that old."""
PAUSE_MIN_MS = 100

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class VenueConfig:
    """
    How to get one venue's books.

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
        transport: "poll", or "stream" (which falls back to polling while it cannot be kept up); "replay" is no feed's.
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
    transport: str = "poll"

    def own(self, symbol: str) -> str:
        """Give what the venue trades a served symbol as."""
        return self.symbols.get(symbol, symbol)


class Answer(NamedTuple):
    """A book that was asked for: as it came, checked, and when it was asked for and came (boot-time clock, ns)."""

    raw: RawBook
    book: VenueBook
    sent_at_ns: int
    answered_at_ns: int

    @property
    def took_s(self) -> float:
        """Give the seconds from asking to the checked book."""
        return (self.answered_at_ns - self.sent_at_ns) / 1_000_000_000


class Line:
    """The way to one venue."""

    def __init__(self, config: VenueConfig, clock: Clock, offloop: OffLoop) -> None:
        """
        Prepare the venue without connecting.

        Args:
            offloop: Where instruments, and books that are too long, are read.

        Raises:
            VenueConfigError: If the venue's settings cannot work.
        """
        self._config = config
        self._clock = clock
        self._offloop = offloop
        # ccxt loads instruments for a second and keeps them in the object that loaded them.
        self._loader = self._new_venue()
        self._venue = self._loader if self._loader.facts.whole_book else self._new_venue()
        if config.transport == "stream" and not self._venue.streams:
            raise VenueConfigError(
                [f'venues.{config.name}.transport: ccxt streams nothing of {config.exchange}; it can be "poll" only']
            )
        limit = config.rate_limit_ms
        self.rate_limit_ms = self._venue.rate_limit_ms(config.depth) if limit is None else limit
        self._one_at_a_time = asyncio.Lock()
        self.last_request_ns = -self.rate_limit_ms * MS
        self._resume_ns = 0

    def _new_venue(self) -> CcxtVenue:
        config = self._config
        return CcxtVenue(config.name, config.exchange, base_url=config.base_url, taker_fee_bps=config.taker_fee_bps)

    @property
    def facts(self) -> VenueFacts:
        """Give what is known about the venue."""
        return self._venue.facts

    async def instruments(self, timeout_ms: int) -> dict[str, Instrument]:
        """
        Load all spot instruments, by symbol.

        Raises:
            VenueFailure: If they did not come, or not in time.
        """
        async with self._one_at_a_time:
            await self._keep_limit()
            loaded = await self._within(timeout_ms, self._offloop.run(self._loader.load_instruments()))
            if self._venue is not self._loader:
                self._venue.know(self._loader)
            return loaded

    async def book(self, symbol: str) -> Answer:
        """
        Ask for a symbol's book once.

        Raises:
            VenueFailure: If no book came, or not in time.
            BookRejected: If it failed a check.
        """
        async with self._one_at_a_time:
            await self._keep_limit()
            sent_at_ns = self._clock.now_ns()
            asked = self._ask(symbol, sent_at_ns)
            if self.facts.whole_book:
                asked = self._offloop.run(asked)
            raw, book = await self._within(POLL_TIMEOUT_MS, asked)
            return Answer(raw, book, sent_at_ns, self._clock.now_ns())

    async def _ask(self, symbol: str, sent_at_ns: int) -> tuple[RawBook, VenueBook]:
        raw = await self._venue.fetch_book(symbol, self._config.depth)
        book = self.decoded(raw, symbol, sent_at_ns)
        return replace(raw, bids=(), asks=()), book

    def decoded(self, raw: RawBook, symbol: str, received_at_ns: int) -> VenueBook:
        """
        Check a book whole and make it exact.

        Raises:
            BookRejected: With the first check that failed.
        """
        return decode(
            raw,
            venue=self._config.name,
            symbol=symbol,
            received_at_ns=received_at_ns,
            depth=self._config.depth,
            merge_repeats=self.facts.repeats_prices,
        )

    async def open_stream(self) -> CcxtStream:
        """
        Prepare a connection for streamed books.

        Raises:
            VenueFailure: If ccxt offers none.
        """
        await self._wait_until(self._resume_ns)
        return await self._venue.open_stream(self._config.depth)

    async def _within(self, timeout_ms: int, asked: Coroutine[Any, Any, Result]) -> Result:
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                return await asked
        except TimeoutError as error:
            raise VenueFailure("timeout", "no answer in time") from error
        except VenueRefusal as refusal:
            self.pause(refusal)
            raise

    def pause(self, refusal: VenueRefusal) -> None:
        """Leave the venue alone for as long as it wants."""
        self._resume_ns = self._clock.now_ns() + max(round(refusal.pause_s * 1_000), PAUSE_MIN_MS) * MS

    async def _keep_limit(self) -> None:
        """Wait until the venue may be asked again, for whatever symbol."""
        await self._wait_until(max(self._resume_ns, self.last_request_ns + self.rate_limit_ms * MS))
        self.last_request_ns = self._clock.now_ns()

    async def _wait_until(self, due_ns: int) -> None:
        await asyncio.sleep(max(0.0, (due_ns - self._clock.now_ns()) / 1_000_000_000))

    async def close(self) -> None:
        """Close the venue's connections."""
        await self._offloop.run(self._loader.close())
        if self._venue is not self._loader:
            await self._venue.close()
