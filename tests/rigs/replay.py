"""Record the feeds at work, play the recording twice, and hold what was shown against it: books, states and quotes.

The feeds poll and stream simulated venues through ccxt, and some get into trouble meanwhile; quotes are computed at
the very moment at which a book is accepted.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from exchanges.board import Board, Source
from exchanges.book import Side, VenueBook, units
from exchanges.clock import SystemClock
from exchanges.feeds import Feeds, VenueConfig
from exchanges.recorded import CLOSED, Ended
from exchanges.recording import Recorder, Recording
from exchanges.replay import ReplayClock, ReplayedFeeds
from exchanges.simulator import run_in_thread
from service.market.book import NoBook
from service.market.screening import Rules
from service.market.view import MarketView
from service.pricing.bounds import Ask
from service.pricing.quote import price
from service.recording import header_of
from service.settings import Settings

SYMBOLS = ("BTC/USDT", "ETH/USDT", "USDT/USD")
OUTLIER_BPS = Decimal(100)
QUANTITY = {"BTC/USDT": "1.5", "ETH/USDT": "7", "USDT/USD": "2500"}
STREAMED = ("binance", "kraken")
TROUBLE = (
    ("okx", "crossed"),
    ("kraken", "bad_checksum"),
    ("bybit", "refuse"),
    ("coinbaseexchange", "tenfold"),
    ("binance", "wrong_sequence"),
)
"""Faults of venues, one after the other and with as much time between them."""
STALL_S = 0.6
ENDS_WITHIN_S = 600.0


class Witness:
    """
    Sees what a board accepts, and what it would cost to buy and to sell at that moment.

    A *clock*, if there is one, has to stand at that moment, too.
    """

    def __init__(self, board: Board, configs: Sequence[VenueConfig], quote_every: int) -> None:
        self.board = board
        self.books = 0
        self.off_time = 0
        self.clock: ReplayClock | None = None
        self.quotes: list[str] = []
        self._every = quote_every
        self._digest = hashlib.sha256()
        listings = {symbol: {config.name: config.own(symbol) for config in configs} for symbol in SYMBOLS}
        self._view = MarketView(board, Rules(outlier_bps=OUTLIER_BPS), listings)
        board.follow(self._see)

    @property
    def digest(self) -> str:
        """Give the digest of all books and their moments, in order."""
        return self._digest.hexdigest()

    def _see(self, book: VenueBook, now_ns: int) -> None:
        self.books += 1
        self.off_time += self.clock is not None and self.clock.now_ns() != now_ns
        self._digest.update(repr((book, now_ns)).encode())
        if self.books % self._every == 0:
            self.quotes += [quoted(self._view, symbol, now_ns) for symbol in SYMBOLS]

    def at(self, now_ns: int) -> list[str]:
        """Give the quotes of any other moment."""
        return [quoted(self._view, symbol, now_ns) for symbol in SYMBOLS]


def quoted(view: MarketView, symbol: str, now_ns: int) -> str:
    """Write a quote of both sides, or why there is none, to the last digit."""
    looked = view.book(symbol, now_ns)
    parts = " ".join(_part(source) for source in looked.sources)
    if isinstance(looked, NoBook):
        return f"{symbol} {looked.code} {looked.detail} {parts}"
    sides = []
    for side in Side:
        priced = price(looked.book, side, Ask(quantity=units(Decimal(QUANTITY[symbol]))))
        legs = [(leg.venue, leg.amounts) for leg in priced.legs]
        sides.append(f"{side} {priced.total} {priced.all_in_price} {priced.waterfall} {legs}")
    return f"{symbol} {looked.book.twice_mid} {sides} {parts}"


def _part(source: Source) -> str:
    return f"{source.venue}:{source.state}:{source.reason}:{source.age_ms}:{source.sequence}"


async def replay(folder: Path, seconds: float, speed: float = 50.0, quote_every: int = 5) -> dict[str, Any]:
    """Run the rig; *seconds* are recorded."""
    path = folder / "books.rec"
    with run_in_thread(port=0, seed=7) as simulator:
        configs = _configs(simulator.base_url)
        recorded, moments = await _record(path, configs, simulator.base_url, seconds, quote_every)
    stepped, off = _step(path, configs, quote_every, moments)
    began = time.monotonic()
    plays = [await _play(path, configs, speed, quote_every) for _ in range(2)]
    took_s = (time.monotonic() - began) / 2
    off_time = sum(play.off_time for play in plays)
    same_books = all(play.digest == recorded.digest for play in (stepped, *plays))
    differing = [
        sum(one != other for one, other in zip(recorded.quotes, play.quotes, strict=False))
        + abs(len(recorded.quotes) - len(play.quotes))
        for play in (stepped, *plays)
    ]
    refused = sum(" venues_disagree " in quote or " no_fresh_market_data " in quote for quote in recorded.quotes)
    same = same_books and not any(differing) and not off and not off_time
    return {
        "ok": same and refused < len(recorded.quotes),
        "recorded_s": seconds,
        "books": recorded.books,
        "same_books": same_books,
        "quotes": len(recorded.quotes),
        "refused": refused,
        "quotes_that_differ": differing,
        "moments": len(moments),
        "moments_that_differ": off,
        "books_at_another_time": off_time,
        "wanted_speed": speed,
        "speed": round(seconds / took_s, 1),
        "kilobytes": round(path.stat().st_size / 1_000, 1),
    }


def _configs(base_url: str) -> list[VenueConfig]:
    quick = {"poll_interval_ms": 300, "rate_limit_ms": 0, "stale_after_ms": 1_000, "base_url": base_url}
    configs = [
        VenueConfig(name, name, **quick, transport="stream" if name in STREAMED else "poll")
        for name in ("binance", "kraken", "okx", "bybit", "coinbaseexchange")
    ]
    return [*configs, VenueConfig("bitstamp", "bitstamp", **quick, symbols={"BTC/USDT": "BTC/USD"})]


def _settings() -> Settings:
    """Give what the header is made from: how the venues are set up is the feeds' own affair."""
    market = {"symbols": SYMBOLS, "outlier_bps": OUTLIER_BPS}
    return Settings.model_validate({"service": {"mode": "simulated"}, "market": market, "venues": {}})


async def _record(
    path: Path, configs: Sequence[VenueConfig], base_url: str, seconds: float, quote_every: int
) -> tuple[Witness, list[tuple[int, list[str]]]]:
    clock = SystemClock()
    feeds = Feeds(configs, SYMBOLS, OUTLIER_BPS, clock)
    recorder = Recorder(path, header_of(_settings(), feeds, clock), feeds.board, clock)
    witness, moments = Witness(feeds.board, configs, quote_every), []
    trouble = asyncio.create_task(_trouble(base_url, seconds))
    try:
        await feeds.start()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            await asyncio.sleep(0.09)
            now_ns = clock.now_ns()
            moments.append((now_ns, witness.at(now_ns)))
        await trouble
    finally:
        trouble.cancel()
        await feeds.close()
        recorder.close()
    return witness, moments


async def _trouble(base_url: str, seconds: float) -> None:
    """Have venues fail, and the event loop stall."""
    async with aiohttp.ClientSession() as session:
        for venue, fault in TROUBLE:
            for one in (fault, None):
                await asyncio.sleep(seconds / (2 * len(TROUBLE) + 1))
                await session.post(f"{base_url}/faults", json={"venue": venue, "fault": one}, raise_for_status=True)
    time.sleep(STALL_S)  # noqa: ASYNC251


def _step(
    path: Path, configs: Sequence[VenueConfig], quote_every: int, moments: Sequence[tuple[int, list[str]]]
) -> tuple[Witness, int]:
    """Tell a board all of a recording without any clock; give how many quotes of moments between are others."""
    board, off, waiting = Board(OUTLIER_BPS), 0, list(reversed(moments))
    witness = Witness(board, configs, quote_every)
    with Recording(path) as recording:
        for at_ns, told in recording:
            while waiting and waiting[-1][0] < at_ns:
                now_ns, quotes = waiting.pop()
                off += quotes != witness.at(now_ns)
            if isinstance(told, Ended):
                off += told.reason != CLOSED
            else:
                board.take(told)
    return witness, off


async def _play(path: Path, configs: Sequence[VenueConfig], speed: float, quote_every: int) -> Witness:
    feeds = ReplayedFeeds(Recording(path), configs, SYMBOLS, OUTLIER_BPS, speed)
    witness = Witness(feeds.board, configs, quote_every)
    witness.clock = feeds.clock
    try:
        await feeds.start()
        await asyncio.wait_for(feeds.ended.wait(), ENDS_WITHIN_S)
    finally:
        await feeds.close()
    return witness
