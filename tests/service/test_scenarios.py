"""The scenarios that are shipped, sped up, through real feeds: what the service quotes meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from decimal import Decimal
from time import time

import pytest

from exchanges.book import VenueBook
from exchanges.clock import MS, SystemClock
from exchanges.feed import VenueConfig
from exchanges.feeds import Feeds
from exchanges.simulator import Play, SimulatedMarket, load_scenario, running, scenario_names
from exchanges.simulator.market import STEP_MS
from exchanges.simulator.shocks import Move
from service.market.book import NoBook
from service.market.screening import Rules
from service.market.view import MarketView

SYMBOL, STABLE_PAIR = "BTC/USDT", "USDT/USD"
OWN = {"bitstamp": "BTC/USD"}
"""Its dollars are converted through the stable pair, as in the demo."""
FREEZES = "binance"
"""The one venue that any scenario keeps from answering; where another one does not, this machine is too busy."""
STALE_AFTER_MS = 2_000
TRIES = 3

SPED_UP = {
    # Name: when its events are, and how long its moves take, in seconds; and when enough is seen.
    "venue_outage": ([7, 13, 19, 26], [], 31),
    "flash_crash": ([7, 7.4, 12, 12], [4, 4, 40, 40], 24),
    "depeg": ([7, 22], [60, 8], 32),
    "crossed_feed": ([7, 13, 18, 24], [], 29),
    "one_sided_book": ([7, 13, 19], [], 24),
}
VENUES = {
    "venue_outage": ("binance", "kraken", "okx", "bitstamp"),
    "flash_crash": ("binance", "kraken", "okx", "bitstamp"),
    "depeg": ("binance", "kraken", "okx", "bybit", "bitstamp"),
    "crossed_feed": ("binance", "kraken", "okx", "bybit"),
    "one_sided_book": ("binance", "coinbaseexchange", "okx"),
}
"""Those that it is about, and some that go on; the more there are, the sooner this machine is too busy."""
AT_ONCE = (("venue_outage", "depeg"), ("crossed_feed", "flash_crash", "one_sided_book"))
"""Which are played side by side, since most of it is waiting."""


def sped_up(name):
    """Give a shipped scenario with its events sooner; what they are stays as it is."""
    scenario = load_scenario(name)
    times_s, overs_s, _ = SPED_UP[name]
    overs = iter(overs_s)
    return replace(
        scenario,
        events=tuple(
            replace(
                event,
                at_ms=round(at_s * 1_000),
                does=replace(event.does, over_ms=next(overs) * 1_000) if isinstance(event.does, Move) else event.does,
            )
            for event, at_s in zip(scenario.events, times_s, strict=True)
        ),
    )


@dataclass(frozen=True)
class Look:
    """What was quoted at one moment of simulated time."""

    at_s: float
    mid: int | None
    code: str | None
    used: frozenset[str]
    reasons: dict[str, str | None]
    busy: bool
    """This machine was too busy to read its sockets in time."""


@dataclass
class Seen:
    """Everything that was quoted while a scenario was played."""

    scenario: object
    looks: list[Look] = field(default_factory=list)
    books: dict[VenueBook, tuple[float, float]] = field(default_factory=dict)
    """Every book that was quoted from: not made before, and first seen, in simulated milliseconds."""
    ages_ms: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def between(self, from_s, until_s):
        """Give what was seen within a time, moments of a busy machine apart."""
        return [look for look in self.looks if from_s <= look.at_s <= until_s and not look.busy]

    def look(self, at_s, elapsed_ms, view, now_ns):
        """Take note of what is quoted now."""
        seen = view.book(SYMBOL, now_ns)
        sources = {source.venue: source for source in seen.sources}
        quoted = not isinstance(seen, NoBook)
        used = {venue: one for venue, one in sources.items() if quoted and one.live and one.reason is None}
        for source in used.values():
            made_ms = elapsed_ms - (now_ns - source.book.received_at_ns) / MS
            self.books.setdefault(source.book, (made_ms, elapsed_ms))
            self.ages_ms.append(source.age_ms)
        self.looks.append(
            Look(
                at_s,
                seen.book.twice_mid // 2 if quoted else None,
                None if quoted else seen.code,
                frozenset(used),
                {venue: source.reason for venue, source in sources.items()},
                any(
                    source.reason == "loop_stalled" or (source.reason in ("stale", "timeout") and venue != FREEZES)
                    for venue, source in sources.items()
                ),
            )
        )


async def play(name):
    """Play a scenario to feeds, from the moment at which all venues are live."""
    seen, clock = Seen(sped_up(name)), SystemClock()
    started_s = time()
    async with running(seed=seen.scenario.seed, play=Play(seen.scenario, seen.told.append)) as base_url:
        configs = [
            VenueConfig(
                venue,
                venue,
                500,
                0,
                depth=20,
                stale_after_ms=STALE_AFTER_MS,
                base_url=base_url,
                symbols={SYMBOL: OWN[venue]} if venue in OWN else {},
            )
            for venue in VENUES[name]
        ]
        feeds = Feeds(configs, [SYMBOL], Decimal(100), clock)
        listings = {SYMBOL: {venue: OWN.get(venue, SYMBOL) for venue in VENUES[name]}}
        view = MarketView(feeds.board, Rules(), listings)
        await feeds.start()
        try:
            while (at_s := time() - started_s) < SPED_UP[name][2]:
                seen.look(at_s, at_s * 1_000, view, clock.now_ns())
                await asyncio.sleep(0.05)
        finally:
            await feeds.close()
    return seen


def disturbed(seen):
    """Tell whether this machine, and not a venue, kept quotes from being made: before it began, or for long."""
    busy = sum(look.busy for look in seen.looks)
    live_before = any(all_used(seen, look) for look in seen.between(4, 7))
    return not live_before or busy * 5 > len(seen.looks)


@pytest.fixture(scope="module")
def all_seen():
    """Everything that was seen, of all scenarios."""

    async def play_all():
        seen = {}
        for _ in range(TRIES):
            for together in AT_ONCE:
                names = [name for name in together if name not in seen or disturbed(seen[name])]
                seen.update(zip(names, await asyncio.gather(*map(play, names)), strict=True))
        return seen

    return asyncio.run(play_all())


def reasons(looks, venue):
    """Give all reasons that a venue was out for, but for its being live."""
    return {look.reasons[venue] for look in looks} - {None}


def assert_quoted_without(venue, looks):
    """All the time there are quotes, and none is made of the venue."""
    assert looks
    assert all(look.mid is not None for look in looks)
    assert not any(venue in look.used for look in looks)


def all_used(seen, look):
    """Tell whether quotes are made of every venue at a moment."""
    return len(VENUES[seen.scenario.name]) == len(look.used)


def assert_all_used(seen, from_s, until_s):
    """At some moment of these, quotes are made of every venue."""
    assert any(all_used(seen, look) for look in seen.between(from_s, until_s))


@pytest.mark.parametrize("name", SPED_UP)
def test_no_quote_is_made_of_a_price_that_is_older_than_it_says_or_was_never_shown(all_seen, name):
    """
    Whatever happens, each best price that is quoted was the venue's own at the time it is said to be of.
    """
    seen = all_seen[name]
    market = SimulatedMarket(seen.scenario.seed, seen.scenario.shocks())

    assert len(seen.books) > 20
    assert max(seen.ages_ms) <= STALE_AFTER_MS
    for book, (made_ms, seen_ms) in seen.books.items():
        moments = range(max(0, int(made_ms) - 2 * STEP_MS), int(seen_ms) + 2 * STEP_MS, STEP_MS)
        tops = [market.book(book.venue, book.symbol, at_ms, 1) for at_ms in moments]
        shown = (book.bids[0].price, book.asks[0].price)
        assert shown in [(top.bids[0].price, top.asks[0].price) for top in tops], (book.venue, made_ms, seen_ms)


@pytest.mark.parametrize("name", SPED_UP)
def test_each_event_is_told_and_the_market_is_calm_after_the_last(all_seen, name):
    """
    The person at the terminal reads every event in its order; when it is over, quotes are made of every venue again.
    """
    seen = all_seen[name]
    told = [line for line in seen.told if "over" not in line]

    assert [f"{name} {event.at_ms / 1_000:g} s: {event.says}" for event in seen.scenario.events] == told
    last_s = seen.scenario.events[-1].at_ms / 1_000
    assert_all_used(seen, last_s, 1_000)


def test_venue_outage(all_seen):
    """
    A venue that drops connections is down, one that does not answer goes stale; quotes go on without, and it returns.
    """
    seen = all_seen["venue_outage"]

    okx_out, binance_out = seen.between(10, 13), seen.between(21.5, 26)
    assert_quoted_without("okx", okx_out)
    assert_quoted_without("binance", binance_out)
    assert {"unreachable"} == reasons(okx_out, "okx")
    assert reasons(binance_out, "binance") <= {"stale", "timeout"}
    assert_all_used(seen, 13, 19)


def test_flash_crash(all_seen):
    """
    While the price leaps nothing is quoted; then the new price is, once it is confirmed, and never the old one again.
    """
    seen = all_seen["flash_crash"]
    before = [look.mid for look in seen.between(4, 7) if look.mid][-1]

    falling = seen.between(8.5, 13)
    leaping = [look.at_s for look in seen.between(7, 24) if "jump" in look.reasons.values()]
    assert falling[0].at_s - 1 < leaping[0] < falling[-1].at_s
    assert all(look.mid is None for look in seen.between(leaping[0], leaping[-1]))
    refusals = {look.code for look in seen.between(7, 24) if look.mid is None}
    assert refusals <= {"no_fresh_market_data", "venues_disagree"}
    after = [look.mid for look in seen.between(11, 24) if look.mid is not None]
    assert after
    assert all(before * 85 < mid * 100 < before * 93 for mid in after)
    # Two seconds and three books after the last leap it is believed.
    assert leaping[-1] < 17
    believed = [look.mid is not None for look in seen.between(17, 24)]
    assert sum(believed) * 10 > len(believed) * 9


def test_depeg(all_seen):
    """
    What is converted through a dollar that is not worth one is left out beyond depeg_bps; the others go on at what
    they show.
    """
    seen = all_seen["depeg"]
    market = SimulatedMarket(seen.scenario.seed, seen.scenario.shocks())

    def worth(at_s):
        """What a USDT fetches in dollars, and whether that is too far from one for converting."""
        top = market.book("kraken", STABLE_PAIR, round(at_s * 1_000), 1)
        mid = (top.bids[0].price + top.asks[0].price) / 2
        return mid, abs(mid - 1) > Rules().depeg_bps / 10_000

    def since(at_s, back_s):
        return [worth(at_s - back_s * place / 10)[1] for place in range(11)]

    lag_s = STALE_AFTER_MS / 1_000 + 0.5
    depegged = [look for look in seen.between(7, 32) if all(since(look.at_s, lag_s))]
    assert len(depegged) > 10
    assert_quoted_without("bitstamp", depegged)
    assert "depegged" in reasons(depegged, "bitstamp")
    assert all(len(look.used) >= 4 for look in depegged)

    sound = [look for look in seen.between(5, 32) if not any(since(look.at_s, lag_s))]
    assert not any(look.reasons["bitstamp"] == "depegged" for look in sound)
    # BTC keeps its worth in dollars, and so is dearer in USDT.
    before = next(look.mid for look in seen.between(4, 7) if look.mid)
    assert max(look.mid for look in depegged) * 1_000 > before * 1_008
    assert min(worth(place / 10)[0] for place in range(70, 320)) < Decimal("0.99")


@pytest.mark.parametrize(
    ("venue", "reason", "from_s", "until_s"), [("kraken", "crossed", 9, 13), ("bybit", "locked", 20, 24)]
)
def test_crossed_feed(all_seen, venue, reason, from_s, until_s):
    """
    A venue that bids above, or at, its asks is out with the reason; quotes go on without it.
    """
    looks = all_seen["crossed_feed"].between(from_s, until_s)

    assert_quoted_without(venue, looks)
    assert {reason} == reasons(looks, venue)


def test_one_sided_book(all_seen):
    """
    A venue that shows no asks is out as one-sided; quotes go on without its bids.
    """
    looks = all_seen["one_sided_book"].between(9, 19)

    assert_quoted_without("coinbaseexchange", looks)
    assert {"one_sided"} == reasons(looks, "coinbaseexchange")


def test_every_scenario_that_is_shipped_is_played():
    """
    A scenario that nobody plays is not one whose answer is known.
    """
    assert set(scenario_names()) == set(SPED_UP)
