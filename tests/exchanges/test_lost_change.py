"""A change that is lost on a venue's stream: once that shows, nothing is made of the book until it is whole again.

Through unmodified ccxt.pro and real sockets, on each of the simulated venues that stream.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from weakref import WeakKeyDictionary

import aiohttp
import pytest

from exchanges import streaming, venues
from exchanges.board import STALLED_REASON, Board
from exchanges.book import Ladder
from exchanges.clock import SystemClock
from exchanges.feeds import Feeds, VenueConfig
from exchanges.simulator import SimulatedMarket, run_in_thread
from exchanges.simulator.market import STEP_MS
from exchanges.venues import VENUES

log = logging.getLogger(__name__)

SYMBOL = "BTC/USDT"
SEED = 7
DEPTHS = {"kraken": 10, "okx": 10, "binance": 10, "bybit": 10, "bitstamp": 100}
"""Ten levels a side are what Kraken sums up; far from the touch, a lost change stays wrong for some seconds."""
MARKET = SimulatedMarket(SEED)
UNUSABLE_WITHIN_LOOKS = 20
"""Looks at the board, each in a turn of the loop of its own and a millisecond after the last one at the earliest."""
RIGHT_AGAIN_WITHIN_S = 5
MORE_CHANGES = 3
TRIES = 5
CROSS_CHECK_MS = (300, 600)
PATIENCE_S = 15
ASKING_MS = streaming.ANSWERS * (streaming.SETTLE_MS + streaming.AGAIN_MS)
BUSY_S = 3
"""How long a request may take on a machine that has other things to do."""
STEPS_BACK = 50
REVEALING = ("binance", "okx", "bybit", "kraken")


class Began:
    """The machine's clock, which remembers when it was first read: that is when the market began."""

    first_s = None

    def __call__(self):
        now_s = time.time()
        self.first_s = self.first_s or now_s
        return now_s


def numbers(message):
    """Give the number that a change says came before it, and its own, where the venue has numbers."""
    if message.get("e") == "depthUpdate":
        return message["U"] - 1, message["u"]
    if message.get("arg", {}).get("channel") == "books" and message.get("action") in ("snapshot", "update"):
        return message["data"][0]["prevSeqId"], message["data"][0]["seqId"]
    if str(message.get("topic", "")).startswith("orderbook."):
        return message["data"]["u"] - 1, message["data"]["u"]
    return None


@dataclass
class Heard:
    """What one socket has told so far, as far as it takes to see that something is missing."""

    last: int | None = None
    sides: tuple[dict, dict] = field(default_factory=lambda: ({}, {}))

    def shows_a_gap(self, message):
        if message.get("channel") == "book" and "data" in message:
            return self._sums_differ(message["type"], message["data"][0])
        both = numbers(message)
        if both is None:
            return False
        before, self.last = self.last, both[1]
        return before is not None and both[0] != before

    def _sums_differ(self, kind, told):
        """Keep the book that Kraken's messages make, and hold it against the sum of the one they were made from."""
        if kind == "snapshot":
            self.sides = ({}, {})
        bare = ""
        for side, rows, away in zip(self.sides, (told["bids"], told["asks"]), (-1, 1), strict=True):
            side.update((row["price"], row["qty"]) for row in rows)
            best = sorted((price for price, quantity in side.items() if quantity), key=lambda price: price * away)
            kept = {price: side[price] for price in best[: DEPTHS["kraken"]]}
            side.clear()
            side.update(kept)
            text = "".join(_bare(f"{price:.1f}") + _bare(f"{quantity:.8f}") for price, quantity in kept.items())
            bare = text + bare  # Asks come first.
        return told["checksum"] != zlib.crc32(bare.encode())


def _bare(number):
    return number.replace(".", "").lstrip("0")


@dataclass
class Wire:
    """What arrives on a stream's sockets, and when it first shows that what is to be lost is missing."""

    losing: bool = False
    shown_at_s: float | None = None
    _heard: WeakKeyDictionary = field(default_factory=lambda: WeakKeyDictionary())

    def lose(self):
        self.losing, self.shown_at_s = True, None

    def hear(self, socket, data):
        message = json.loads(data)
        if isinstance(message, dict) and self._heard.setdefault(socket, Heard()).shows_a_gap(message) and self.losing:
            self.shown_at_s = self.shown_at_s or time.perf_counter()


@dataclass
class Seen:
    """What the board showed."""

    wire: Wire
    lost_at_s: float = 0
    usable_looks: int = 0
    """How often the book could still be used after the message that shows that one is missing."""
    unusable_at_s: float | None = None
    reason: str | None = None
    right_at_s: float | None = None
    wrong_before: int = 0
    wrong_after: list = field(default_factory=list)

    @property
    def shown_at_s(self):
        """When the venue's own messages showed it; when an answer did, where they do not."""
        return self.wire.shown_at_s or self.unusable_at_s

    @property
    def too_late(self):
        return self.usable_looks >= UNUSABLE_WITHIN_LOOKS

    @property
    def right_after_s(self):
        return None if self.right_at_s is None else self.right_at_s - self.shown_at_s


class Stream:
    """The feed of one streamed venue, and the true book to hold it against."""

    def __init__(self, feeds, clock, began, simulator):
        self._feeds, self._clock, self._began, self.simulator = feeds, clock, began, simulator
        self._venue = feeds.venues[0].config.name
        self._true = {}

    def source(self):
        return self._feeds.board.source(self._venue, SYMBOL, self._clock.now_ns())

    def right(self, book):
        """Tell whether the market has shown this book in the last seconds."""
        step = int((time.time() - self._began.first_s) * 1_000) // STEP_MS
        return any((book.bids, book.asks) == self._book(at) for at in range(step, max(-1, step - STEPS_BACK), -1))

    def _book(self, step):
        if step not in self._true:
            book = MARKET.book(self._venue, SYMBOL, step * STEP_MS, DEPTHS[self._venue])
            self._true[step] = tuple(Ladder.of((level.price, level.quantity) for level in side) for side in book)
        return self._true[step]

    async def lose_one(self, wire, patience_s):
        """Lose a change, and look at the board at every moment until the book is right again."""
        await until(lambda: self.source().live and self.right(self.source().book), PATIENCE_S)
        await self._go_on()
        seen = Seen(wire)
        looking = asyncio.create_task(self._look(seen))
        async with aiohttp.ClientSession() as session:
            wire.lose()
            seen.lost_at_s = time.perf_counter()
            await self._switch(session, "lost")
            await until(lambda: seen.unusable_at_s is not None or seen.too_late, patience_s)
            await self._switch(session, None)  # It would lose one of each connection's changes.
            await until(lambda: seen.right_at_s is not None, patience_s)
        await self._go_on()
        looking.cancel()
        return seen

    async def _go_on(self):
        """Let some more changes come."""
        tally = self._feeds.board.tally(self._venue)
        wanted = tally.accepted + MORE_CHANGES
        await until(lambda: tally.accepted >= wanted, PATIENCE_S)

    async def _switch(self, session, fault):
        body = {"venue": self._venue, "fault": fault, "scope": "stream"}
        assert (await session.post(f"{self.simulator.base_url}/faults", json=body)).status == 200

    async def _look(self, seen):
        while True:
            source, now_s = self.source(), time.perf_counter()
            wrong = source.live and not self.right(source.book)
            if source.live and seen.unusable_at_s is None and seen.wire.shown_at_s is not None:
                seen.usable_looks += 1
            if not source.live:
                if seen.lost_at_s and seen.unusable_at_s is None:
                    seen.unusable_at_s, seen.reason = now_s, source.reason
            elif wrong and seen.shown_at_s is None:
                seen.wrong_before += 1
            elif wrong and now_s > seen.shown_at_s:
                seen.wrong_after.append(now_s - seen.shown_at_s)
            elif not wrong and seen.unusable_at_s is not None:
                seen.right_at_s = seen.right_at_s or now_s
            await asyncio.sleep(0.001)


async def until(true, within_s):
    """Wait until something is true; give up after a while, and let the figures tell."""
    deadline = time.perf_counter() + within_s
    while time.perf_counter() < deadline:
        if true():
            return
        await asyncio.sleep(0.005)


@asynccontextmanager
async def streaming_venue(name):
    began, clock = Began(), SystemClock()
    with run_in_thread(seed=SEED, clock=began) as simulator:
        config = VenueConfig(name, name, 500, 0, DEPTHS[name], 5_000, base_url=simulator.base_url, transport="stream")
        feeds = Feeds([config], [SYMBOL], Decimal(100), clock)
        await feeds.start()
        try:
            yield Stream(feeds, clock, began, simulator)
        finally:
            await feeds.close()


@pytest.fixture
def wire(monkeypatch):
    """Listen in on every WebSocket of this process that a client opens."""
    heard = Wire()
    receive = aiohttp.ClientWebSocketResponse.receive

    async def receive_and_listen(self, timeout=None):
        message = await receive(self, timeout)
        if message.type is aiohttp.WSMsgType.TEXT:
            heard.hear(self, message.data)
        return message

    monkeypatch.setattr(aiohttp.ClientWebSocketResponse, "receive", receive_and_listen)
    monkeypatch.setattr(streaming, "CROSS_CHECK_MS", CROSS_CHECK_MS)
    return heard


async def lose_one(venue, wire, patience_s=PATIENCE_S):
    """Lose a change; again where the machine held this process up meanwhile: the stream then begins anew for that."""
    for _ in range(TRIES):
        async with streaming_venue(venue) as stream:
            seen = await stream.lose_one(wire, patience_s)
        found_s = seen.unusable_at_s and seen.unusable_at_s - seen.lost_at_s
        after = (seen.usable_looks, seen.right_after_s)
        log.info("%s: found %s s after the loss, %s looks after it showed, right after %s s", venue, found_s, *after)
        if seen.too_late or seen.reason != STALLED_REASON:
            break
    return seen


@pytest.mark.parametrize("venue", REVEALING)
async def test_lost_change_makes_a_book_unusable_once_it_shows(venue, wire):
    """
    From the message that shows that one is missing, the book is out at once, and nothing is made of it until it is
    whole again, within seconds.
    """
    seen = await lose_one(venue, wire)

    assert seen.wire.shown_at_s is not None
    assert seen.unusable_at_s is not None
    assert not seen.too_late
    assert not seen.wrong_after
    assert seen.right_after_s is not None
    assert seen.right_after_s < RIGHT_AGAIN_WITHIN_S


async def test_lost_change_that_nothing_shows_is_found_by_asking(wire):
    """
    Bitstamp's messages do not show it: the book is wrong until it is next held against an answer, and not after.
    """
    seen = await lose_one("bitstamp", wire)

    assert seen.wire.shown_at_s is None
    assert seen.unusable_at_s is not None
    assert seen.unusable_at_s - seen.lost_at_s < (CROSS_CHECK_MS[1] + ASKING_MS) / 1_000 + BUSY_S
    assert not seen.wrong_after
    assert seen.right_after_s is not None
    assert seen.right_after_s < RIGHT_AGAIN_WITHIN_S


def keep_the_book(monkeypatch):
    monkeypatch.setattr(Board, "empty", lambda *arguments: None)


def look_at_no_numbers(monkeypatch):
    facts = replace(VENUES["bybit"].stream, link=None)
    monkeypatch.setitem(venues.VENUES, "bybit", replace(VENUES["bybit"], stream=facts))
    never_ask(monkeypatch)


def sum_nothing_up(monkeypatch):
    facts = replace(VENUES["kraken"].stream, checksum=None)
    monkeypatch.setitem(venues.VENUES, "kraken", replace(VENUES["kraken"], stream=facts))
    never_ask(monkeypatch)


def never_ask(monkeypatch):
    monkeypatch.setattr(streaming, "CROSS_CHECK_MS", (10**9, 10**9))


@pytest.mark.parametrize(
    ("venue", "broken"),
    [
        ("okx", keep_the_book),
        ("bybit", look_at_no_numbers),
        ("kraken", sum_nothing_up),
    ],
)
async def test_lost_change_finds_broken_copies(venue, broken, wire, monkeypatch):
    """
    A feed that goes on with its book after a gap, or does not look for gaps, is found out.
    """
    broken(monkeypatch)
    seen = await lose_one(venue, wire, patience_s=3)

    assert seen.too_late


async def test_lost_change_finds_that_nobody_asks(wire, monkeypatch):
    """
    Without answers to be held against, Bitstamp's book is wrong until its own levels collide, if they do.
    """
    never_ask(monkeypatch)
    seen = await lose_one("bitstamp", wire, patience_s=3)

    assert seen.wrong_before > 0
    assert seen.reason in (None, "crossed", "locked")
