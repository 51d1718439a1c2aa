"""Read what there is, when Prometheus asks: venues, books, what is taken of them, quotes, record, streams.

What is not in the settings any more is not there to be read, so that its series end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Protocol

from exchanges.board import Board, Source, Tally
from exchanges.book import SCALE, Side
from exchanges.clock import Clock
from exchanges.health import State
from service.accounting import MONEY_SCALE
from service.ledger.protocol import Ledger
from service.market.book import NoBook
from service.market.screening import used
from service.market.taken import TakenLiquidity
from service.market.view import MarketView
from service.metrics import catalogue
from service.metrics.instruments import Instruments, Reading
from service.pricing.depth import bands

DEPTH_BPS: Final = (10, 50)
_UNIT: Final = 10**SCALE
_BPS: Final = 10_000


class Venue(Protocol):
    """A venue of the settings, switched on or not."""

    @property
    def name(self) -> str:
        """Give its name in all answers."""

    @property
    def enabled(self) -> bool:
        """Tell whether it is asked."""

    @property
    def transport(self) -> str:
        """Give how its books come at present."""

    @property
    def tally(self) -> Tally | None:
        """Give what has come of it; None for one that is not enabled."""


@dataclass(frozen=True, slots=True)
class House:
    """
    What is read.

    Args:
        firm_open: Gives the number of open firm quotes.
        streams: Gives the number of open WebSockets.
    """

    version: str
    market_data: str
    ledger_kind: str
    board: Board
    market: MarketView
    taken: TakenLiquidity
    ledger: Ledger
    clock: Clock
    venues: Callable[[], Sequence[Venue]]
    firm_open: Callable[[], int]
    streams: Callable[[], int]

    def sources_of_readings(self, instruments: Instruments) -> dict[str, Callable[[], Iterator[Reading]]]:
        """Give everything that readings come from, by name; one that fails leaves the others alone."""
        return {
            "build": self.build,
            "server": instruments.of_server,
            "streams": self.of_streams,
            "desk": lambda: instruments.of_desk(frozenset(self.market.symbols)),
            "firm quotes": self.of_firm_quotes,
            "venues": self.of_venues,
            "states": self.of_states,
            "books": self.of_books,
            "taken": self.of_taken,
            "ledger": instruments.of_ledger,
            "record": self.of_record,
        }

    def build(self) -> Iterator[Reading]:
        """Say what runs."""
        yield catalogue.BUILD_INFO, (self.version, self.market_data, self.ledger_kind), 1

    def of_streams(self) -> Iterator[Reading]:
        """Count WebSockets."""
        yield catalogue.STREAMS, (), self.streams()

    def of_firm_quotes(self) -> Iterator[Reading]:
        """Count open firm quotes."""
        yield catalogue.FIRM_OPEN, (), self.firm_open()

    def of_record(self) -> Iterator[Reading]:
        """Look at the ledger's queue, and whether it works."""
        yield catalogue.LEDGER_QUEUE, (), self.ledger.queued
        yield catalogue.LEDGER_UP, (), int(self.ledger.up)

    def of_venues(self) -> Iterator[Reading]:
        """Tell what has come of every venue."""
        for venue in self.venues():
            yield catalogue.VENUE_ENABLED, (venue.name, venue.transport), int(venue.enabled)
            tally = venue.tally
            if tally is None:
                continue
            yield catalogue.VENUE_ACCEPTED, (venue.name,), tally.accepted
            yield catalogue.VENUE_RECONNECTS, (venue.name,), tally.reconnects
            for reason, count in tally.rejected.items():
                yield catalogue.VENUE_REJECTED, (venue.name, reason), count
            for reason, count in tally.failed.items():
                yield catalogue.VENUE_FAILURES, (venue.name, reason), count
            yield catalogue.VENUE_POLL, (venue.name,), tally.answered_s
            yield catalogue.VENUE_DELAY, (venue.name,), tally.streamed_s

    def of_states(self) -> Iterator[Reading]:
        """Tell where every venue stands with every symbol."""
        now_ns = self.clock.now_ns()
        for symbol in self.market.symbols:
            for source in self.market.sources(symbol, now_ns):
                for state in State:
                    labels = (source.venue, symbol, state.value)
                    yield catalogue.VENUE_STATE, labels, int(source.state is state)
                if source.age_ms is not None:
                    yield catalogue.VENUE_AGE, (source.venue, symbol), source.age_ms / 1_000

    def of_books(self) -> Iterator[Reading]:
        """Look at every consolidated book, as the venues show it."""
        now_ns = self.clock.now_ns()
        for symbol in self.market.symbols:
            yield from self._of_book(symbol, now_ns)

    def _of_book(self, symbol: str, now_ns: int) -> Iterator[Reading]:
        sources = self.market.sources(symbol, now_ns)
        yield catalogue.BOOK_LIVE, (symbol,), sum(map(used, sources))
        looked = self.market.book(symbol, now_ns)
        if isinstance(looked, NoBook):
            yield catalogue.BOOK_QUOTABLE, (symbol,), 0
            bid, ask = best(symbol, sources)
        else:
            book = looked.book
            bid, ask = book.bids.top.price, book.asks.top.price
            yield catalogue.BOOK_QUOTABLE, (symbol,), 1
            yield catalogue.BOOK_MID, (symbol,), (bid + ask) / (2 * _UNIT)
            yield catalogue.BOOK_SPREAD, (symbol,), over(ask, bid)
            for distance, band in zip(DEPTH_BPS, bands(book, [Decimal(bps) for bps in DEPTH_BPS]), strict=True):
                within, labels = band.all, str(distance)
                yield catalogue.BOOK_DEPTH, (symbol, "bid", labels), within.bid_notional / 10**MONEY_SCALE
                yield catalogue.BOOK_DEPTH, (symbol, "ask", labels), within.ask_notional / 10**MONEY_SCALE
        crossed_bps = max(0.0, over(bid, ask))
        yield catalogue.BOOK_CROSSED, (symbol,), int(crossed_bps > 0)
        yield catalogue.BOOK_CROSSED_BPS, (symbol,), crossed_bps

    def of_taken(self) -> Iterator[Reading]:
        """Tell what is taken and held of every venue's symbol, as the venue trades it."""
        now_ns, charged = self.clock.now_ns(), self.taken.totals(_milliseconds(self.clock.utc()))
        for symbol in self.board.symbols:
            for source in self.board.sources(symbol, now_ns):
                for side in Side:
                    taken, held = charged.get((source.venue, symbol, side), (0, 0))
                    labels = (symbol, source.venue, side.value)
                    yield catalogue.TAKEN, labels, taken / _UNIT
                    yield catalogue.HELD, labels, held / _UNIT


def best(symbol: str, sources: Sequence[Source]) -> tuple[int, int]:
    """Give the best bid and ask of the live venues that trade the symbol itself, 0 and 0 where there are none."""
    books = [source.book for source in sources if used(source) and source.symbol == symbol and source.book is not None]
    if not books:
        return 0, 0
    return max(book.bids.prices[0] for book in books), min(book.asks.prices[0] for book in books)


def over(high: int, low: int) -> float:
    """Give by how many basis points of their middle one price is above another."""
    return (high - low) * 2 * _BPS / (high + low) if high + low else 0.0


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)
