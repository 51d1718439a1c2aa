"""Every REST fault of the simulator on one venue of six, through unmodified ccxt and real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from time import monotonic

import aiohttp
import pytest

from exchanges.clock import SystemClock
from exchanges.feeds import Feeds, VenueConfig
from exchanges.health import apart, median
from exchanges.simulator import FAULTS, running

VENUES = ("binance", "kraken", "coinbaseexchange", "okx", "bybit", "bitstamp")
SYMBOL = "BTC/USDT"
STALE_AFTER_MS = 2_000
STACKS = 4
TRIES = 3

OUT = {
    # It stops answering, or answers too late: its last book gets old.
    ("okx", "freeze"): {"stale", "timeout"},
    ("okx", "slow"): {"stale", "timeout"},
    ("okx", "drip"): {"stale", "timeout"},
    # It breaks off.
    ("okx", "cut"): {"unreachable"},
    ("okx", "refuse"): {"unreachable"},
    # It answers something else, which ccxt takes for an empty book more often than not.
    ("okx", "html"): {"empty"},
    ("bitstamp", "html"): {"bad_response"},
    ("okx", "truncated"): {"empty"},
    ("okx", "no_body"): {"empty"},
    ("okx", "null"): {"empty"},
    ("okx", "empty_object"): {"bad_response"},
    ("binance", "empty_object"): {"empty"},
    # Its book cannot be.
    ("okx", "empty"): {"empty"},
    ("okx", "one_sided"): {"one_sided"},
    ("okx", "nan"): {"bad_number"},
    ("okx", "negative"): {"bad_number"},
    ("okx", "zero"): {"bad_number"},
    ("okx", "none_level"): {"bad_number"},
    ("okx", "crossed"): {"crossed"},
    ("okx", "locked"): {"locked"},
    ("okx", "duplicate"): {"duplicate_price"},
    ("okx", "huge"): {"too_large"},
    ("okx", "gzip_bomb"): {"too_large"},
    # Its prices are not the market's.
    ("okx", "tenfold"): {"outlier"},
    ("okx", "tenth"): {"outlier"},
    ("okx", "off_by_1_5_percent"): {"outlier"},
    ("okx", "jump"): {"outlier"},
    # Another symbol's book: said where the answer names it, found by its prices elsewhere.
    ("okx", "wrong_symbol"): {"outlier"},
    ("bybit", "wrong_symbol"): {"wrong_symbol"},
    ("kraken", "wrong_symbol"): {"wrong_symbol"},
    # Its clock or its numbering goes wrong.
    ("okx", "clock_stopped"): {"stale", "lagging"},
    ("bitstamp", "clock_stopped"): {"stale", "lagging"},
    ("bybit", "clock_stopped"): {"stale", "lagging"},
    ("coinbaseexchange", "clock_stopped"): {"stale", "lagging"},
    ("okx", "clock_back"): {"out_of_order"},
    ("binance", "clock_back"): {"out_of_order"},
    ("okx", "clock_forward"): {"out_of_order"},
    ("binance", "clock_forward"): {"out_of_order"},
    # It refuses.
    ("okx", "rate_limited"): {"rate_limited"},
    ("okx", "banned"): {"banned"},
    ("okx", "server_error"): {"http_500"},
    ("okx", "unavailable"): {"http_503"},
}
"""Venue and fault, and the reasons it may be out for."""

ELSEWHERE = {
    "forbidden": "a 403 without a time stops the venue for a minute, see test_feed.py",
    "frozen_side": "takes five seconds and ten books to show, see test_feed.py",
}


feeds_clock = SystemClock()


@dataclass
class Seen:
    """What the board showed while a fault was on, and after."""

    reasons: set[str] = field(default_factory=set)
    out: bool = False
    strange: list[str] = field(default_factory=list)
    others_out: set[tuple[str, str]] = field(default_factory=set)
    back_after_s: float | None = None


async def live_once(feeds, venue):
    """Wait until a venue has given its first book."""
    async with asyncio.timeout(12):
        while True:
            sources = feeds.board.sources(SYMBOL, feeds_clock.now_ns())
            if any(source.live for source in sources if source.venue == venue):
                return
            await asyncio.sleep(0.02)


async def watch(feeds, venue, seen, until):
    """Look at the board again and again until *until* says it is enough, 12 seconds at most."""
    started = monotonic()
    while monotonic() - started < 12:
        sources = {source.venue: source for source in feeds.board.sources(SYMBOL, feeds_clock.now_ns())}
        faulty = sources.pop(venue)
        # A machine too busy to run the loop for half a second takes every venue out until its next book.
        seen.others_out |= {
            (source.venue, source.reason) for source in sources.values() if out_for_its_own_sake(source)
        }
        honest = median([source.book.mid for source in sources.values()])
        if not faulty.live:
            seen.reasons.add(faulty.reason)
        if faulty.live and apart(faulty.book.mid, honest, Decimal(50)):
            seen.strange.append(f"{faulty.book.mid} beside {honest}")
        if faulty.live and faulty.age_ms > STALE_AFTER_MS:
            seen.strange.append(f"{faulty.age_ms} ms old")
        if until(faulty):
            return monotonic() - started
        await asyncio.sleep(0.02)
    return None


def out_for_its_own_sake(source):
    """Tell whether a venue is out, and not because this machine was busy."""
    return not source.live and source.reason != "loop_stalled"


async def run_case(feeds, session, base_url, venue, fault):
    """Switch a fault on, look at the board for a while, switch it off, and wait for the venue to be back."""
    await watch(feeds, venue, Seen(), lambda source: source.live)
    one = Seen()
    options = {"retry_after_s": 1} if fault in ("rate_limited", "banned") else {}
    await session.post(f"{base_url}/faults", json={"venue": venue, "fault": fault, **options})
    one.out = await watch(feeds, venue, one, out_for_its_own_sake) is not None
    for _ in range(20):
        await watch(feeds, venue, one, lambda source: True)
        await asyncio.sleep(0.02)
    await session.post(f"{base_url}/faults", json={"venue": venue, "fault": None})
    one.back_after_s = await watch(feeds, venue, one, lambda source: source.live)
    return one


async def run_stack(cases):
    """Go through some faults, one after the other, on a simulator and feeds of their own."""
    seen = {}
    async with running() as base_url, aiohttp.ClientSession() as session:
        configs = [
            VenueConfig(name, name, 200, 0, depth=20, stale_after_ms=STALE_AFTER_MS, base_url=base_url)
            for name in VENUES
        ]
        feeds = Feeds(configs, [SYMBOL], Decimal(100), feeds_clock)
        await feeds.start()
        try:
            for venue in VENUES:
                await live_once(feeds, venue)
            for venue, fault in cases:
                for _ in range(TRIES):  # A machine too busy to run the loop keeps every venue out, but not every time.
                    seen[venue, fault] = await run_case(feeds, session, base_url, venue, fault)
                    if not seen[venue, fault].others_out:
                        break
        finally:
            await feeds.close()
    return seen


@pytest.fixture(scope="module")
def seen():
    """Everything that was seen, of all faults; several stacks run side by side, since most of it is waiting."""

    async def run_all():
        cases = list(OUT)
        stacks = await asyncio.gather(*(run_stack(cases[place::STACKS]) for place in range(STACKS)))
        return {case: one for stack in stacks for case, one in stack.items()}

    return asyncio.run(run_all())


@pytest.mark.parametrize(("venue", "fault"), OUT)
def test_faulty_venue_is_out_for_its_reason_and_back_soon(seen, venue, fault):
    """
    A venue in trouble is left out with its reason, its numbers are never used, the others go on, and it is back
    within five seconds of the end of its trouble.
    """
    one = seen[venue, fault]

    assert one.out
    assert one.reasons & OUT[venue, fault]
    assert None not in one.reasons
    assert not one.strange
    assert not one.others_out
    assert one.back_after_s is not None
    assert one.back_after_s < 5


def test_every_fault_is_tried():
    """
    A fault of requests that nobody tries is not one that is handled.
    """
    of_requests = {name for name, fault in FAULTS.items() if "depth" in fault.scopes}
    assert of_requests == {fault for _, fault in OUT} | set(ELSEWHERE)
