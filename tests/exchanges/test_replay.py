"""A replay: its clock never runs ahead of what was played, and its board is the recorded one's at every moment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from exchanges.clock import MS
from exchanges.errors import VenueConfigError
from exchanges.health import State
from exchanges.instruments import Instrument
from exchanges.line import VenueConfig
from exchanges.recorded import RecordedVenue
from exchanges.recording import Recorder, Recording
from exchanges.replay import ReplayClock, ReplayedFeeds
from tests.exchanges.test_recorded import HEADER
from tests.exchanges.test_recording import Told

BTC = "BTC/USDT"
WITHIN_S = 20.0


def venues(*names, **settings):
    return [VenueConfig(name, name, **settings) for name in names]


@pytest.fixture
def told(clock):
    return Told(clock)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "books.rec"


@pytest.fixture
def record(path, told):
    """Record what a function does to a board."""

    def record_what(happens):
        header = replace(
            HEADER,
            started_ns=told.clock.now_ns(),
            venues=(
                RecordedVenue("kraken", "kraken", 700, 5_000),
                RecordedVenue("okx", "okx", 500, 5_000),
                RecordedVenue("bybit", "bybit", 500, 5_000),
            ),
        )
        recorder = Recorder(path, header, told.board, told.clock)
        happens(told)
        recorder.close()
        return path

    return record_what


def a_second(told):
    """Show 20 books of two venues over a second."""
    told.board.instruct(Instrument("okx", BTC, None, None, None, None, Decimal(10)))
    for n in range(10):
        told.show("kraken", 10_000 + n)
        told.show("okx", 10_001 + n)


async def until(condition):
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to this in time"
        await asyncio.sleep(0.01)


async def played(path, configs, speed=1_000.0, **settings):
    """Play a recording to its end; give the feeds and what was accepted, and when."""
    settings = {"symbols": [BTC], "outlier_bps": Decimal(100)} | settings
    feeds, accepted = ReplayedFeeds(Recording(path), configs, speed=speed, **settings), []
    feeds.board.follow(lambda book, now_ns: accepted.append((book, now_ns, feeds.clock.now_ns())))
    await feeds.start()
    await asyncio.wait_for(feeds.ended.wait(), WITHIN_S)
    return feeds, accepted


class Real:
    """Real time, held."""

    def __init__(self):
        self.ns = 77

    def __call__(self):
        return self.ns


def test_clock_stands_until_it_is_started():
    """
    However long it takes to set the service up, the replay begins at the recording's beginning.
    """
    real = Real()
    clock = ReplayClock(HEADER, 50.0, real)
    clock.hold(None)
    real.ns += 1_000 * MS

    assert (HEADER.started_ns, HEADER.started_at) == (clock.now_ns(), clock.utc())
    clock.start()
    real.ns += 10 * MS
    assert (HEADER.started_ns + 500 * MS, HEADER.started_at + timedelta(milliseconds=500)) == (
        clock.now_ns(),
        clock.utc(),
    )


def test_clock_does_not_run_ahead_of_what_is_played():
    """
    A busy machine makes a replay slower; it never makes its books older.
    """
    real = Real()
    clock = ReplayClock(HEADER, 2.0, real)
    clock.start()
    clock.hold(HEADER.started_ns + 100 * MS)
    real.ns += 40 * MS

    assert HEADER.started_ns + 80 * MS == clock.now_ns()
    assert 0.01 == clock.real_s_until(HEADER.started_ns + 100 * MS)
    real.ns += 1_000 * MS
    assert HEADER.started_ns + 100 * MS == clock.now_ns()
    clock.hold(None)
    assert HEADER.started_ns + 2_080 * MS == clock.now_ns()


async def test_books_come_in_their_order_at_their_times(record, told):
    """
    Every accepted book is accepted again, at its own moment, and the clock says just that moment.
    """
    accepted = []
    told.board.follow(lambda book, now_ns: accepted.append((book, now_ns, now_ns)))
    feeds, again = await played(record(a_second), venues("kraken", "okx"))
    await feeds.close()

    assert (20, accepted) == (len(again), again)
    assert told.board.tally("okx") == feeds.board.tally("okx")


async def test_replay_keeps_its_speed(record):
    """
    A second of recording takes no less than a tenth of a second at ten times its speed.
    """
    path, began = record(a_second), time.monotonic()
    feeds, _ = await played(path, venues("kraken", "okx"), speed=10.0)
    await feeds.close()

    assert time.monotonic() - began >= 0.095


async def test_venues_are_stale_at_the_end(record):
    """
    After its end nothing of a recording counts any more, and it does not begin anew.
    """
    with capture_logs() as logs:
        feeds, accepted = await played(record(a_second), venues("kraken", "okx"))
        sources = feeds.board.sources(BTC, feeds.clock.now_ns())
        await feeds.close()

    assert {State.STALE} == {source.state for source in sources}
    ended = [line for line in logs if line["event"] == "replay.ended"]
    assert [("closed", 20)] == [(line["reason"], line["books"]) for line in ended]
    assert 20 == len(accepted)


async def test_time_goes_on_after_the_end(record):
    """
    The books grow old as they would have.
    """
    feeds, _ = await played(record(a_second), venues("kraken", "okx"))
    then_ns = feeds.clock.now_ns()
    await until(lambda: feeds.clock.now_ns() > then_ns + 5_000 * MS)
    source = feeds.board.source("okx", BTC, feeds.clock.now_ns())
    await feeds.close()

    assert (State.STALE, "stale") == (source.state, source.reason)
    assert source.age_ms > 5_000


@pytest.mark.parametrize(
    ("spoilt", "reason", "event"),
    [
        (lambda data: data[:-30], "cut", None),
        (lambda data: data[:-3] + b"xxx", "damaged", "replay.damaged"),
    ],
)
async def test_recording_that_is_not_whole_is_played_as_far_as_it_goes(record, spoilt, reason, event):
    """
    What is there is played; the end says that it was not the recording's own.
    """
    path = record(lambda told: told.show("kraken", 10_000))
    path.write_bytes(spoilt(path.read_bytes()))
    with capture_logs() as logs:
        feeds, _ = await played(path, venues("kraken", "okx"))
        await feeds.close()

    assert [reason] == [line["reason"] for line in logs if line["event"] == "replay.ended"]
    assert (event is not None) == (event in [line["event"] for line in logs])


async def test_bug_in_the_player_ends_the_replay(record, monkeypatch):
    """
    What nobody expected ends in the log, and in books that do not count; never in books that seem to stand still.
    """
    feeds = ReplayedFeeds(Recording(record(a_second)), venues("kraken", "okx"), [BTC], Decimal(100), 1_000.0)
    monkeypatch.setattr(feeds.board, "take", lambda told: 1 / 0)
    with capture_logs() as logs:
        await feeds.start()
        await asyncio.wait_for(feeds.ended.wait(), WITHIN_S)
        await feeds.close()

    assert ["replay.failed", "replay.ended"] == [line["event"] for line in logs if line["event"].startswith("replay")]


async def test_venue_that_is_not_wanted_is_left_out(record):
    """
    A venue that the settings leave out has no seat, and what it showed is held against nobody.
    """
    feeds, accepted = await played(record(a_second), venues("okx"))
    sources = feeds.board.sources(BTC, feeds.clock.now_ns())
    await feeds.close()

    assert (["okx"], {"okx"}, 10) == (
        [source.venue for source in sources],
        {book.venue for book, _, _ in accepted},
        len(accepted),
    )


async def test_settings_may_say_otherwise_than_the_recording(record):
    """
    Another fee or another age at which books go stale can be tried out on what was recorded.
    """

    def quiet(told):
        a_second(told)
        told.clock.advance(1_000)
        told.board.reject("okx", BTC, "crossed", told.clock.now_ns())

    configs = venues("kraken", "okx", stale_after_ms=800, taker_fee_bps=Decimal(3))
    with capture_logs() as logs:
        feeds, _ = await played(record(quiet), configs)
        source = feeds.board.source("okx", BTC, feeds.clock.now_ns())
        await feeds.close()

    assert Decimal(3) == source.instrument.taker_fee_bps
    assert "stale" in [line["reason"] for line in logs if line["event"] == "venue.stale"]


@pytest.mark.parametrize(
    ("outlier_bps", "rejected"),
    [
        # As recorded.
        ("100.5", 1),
        # Another one is tried out from the beginning to the end.
        ("20", 4),
    ],
)
async def test_another_outlier_rule_can_be_tried_out(record, told, outlier_bps, rejected):
    """
    The settings' number counts where it is another than the recording began with, whatever was changed meanwhile.
    """

    def outlying(told):
        told.board.seat("bybit", BTC, 5_000, told.clock.now_ns())
        for arranged in (None, Decimal(100)):
            if arranged is not None:
                told.board.arrange(["kraken", "okx", "bybit"], [BTC], arranged)
            told.show("kraken", 10_000)
            told.show("okx", 10_001)
            told.show("bybit", 10_099 if arranged is None else 10_199)
            told.show("bybit", 10_050)

    told.board.arrange(["kraken", "okx"], [BTC], Decimal("100.5"))
    path = record(outlying)
    feeds, _ = await played(path, venues("kraken", "okx", "bybit"), outlier_bps=Decimal(outlier_bps))
    await feeds.close()

    assert rejected == feeds.board.tally("bybit").rejected["outlier"]


async def test_stall_of_the_machine_is_none_of_the_recording(record):
    """
    The watch for gaps is the recording machine's: what it found is in the recording, and nothing comes on top.
    """
    feeds = ReplayedFeeds(Recording(record(a_second)), venues("kraken", "okx"), [BTC], Decimal(100))
    await feeds.start()
    await until(lambda: feeds.board.source("okx", BTC, feeds.clock.now_ns()) is not None)
    await until(lambda: feeds.board.source("okx", BTC, feeds.clock.now_ns()).live)
    time.sleep(0.6)  # noqa: ASYNC251 - longer than a gap of the watch

    assert feeds.board.source("okx", BTC, feeds.clock.now_ns()).live
    await feeds.close()


def test_venues_and_symbols_must_be_in_the_recording(record):
    """
    What the recording does not have is named, with what it has.
    """
    with Recording(record(a_second)) as recording, pytest.raises(VenueConfigError) as refused:
        ReplayedFeeds(recording, venues("kraken", "binance"), [BTC, "DOGE/USDT"], Decimal(100))

    assert [
        "venues.binance: is not in the recording, which has kraken, okx, bybit",
        "market.symbols: DOGE/USDT is not in the recording, which has BTC/USDT, ETH/USDT",
    ] == refused.value.problems


async def test_replay_takes_no_other_settings_while_it_runs(record):
    """
    A reload of a replay is refused with a sentence.
    """
    with Recording(record(a_second)) as recording:
        feeds = ReplayedFeeds(recording, venues("kraken", "okx"), [BTC], Decimal(100))
        await feeds.apply(venues("kraken", "okx"), [BTC], Decimal(100))  # Nothing that concerns it is other.
        for other in ((venues("kraken"), Decimal(100)), (venues("kraken", "okx"), Decimal(99))):
            with pytest.raises(VenueConfigError, match="start it anew"):
                await feeds.apply(other[0], [BTC], other[1])


async def test_venues_of_a_replay_say_what_they_are(record):
    """
    Who lists the venues finds the recorded interval, and that they are replayed.
    """
    with Recording(record(a_second)) as recording:
        feeds = ReplayedFeeds(recording, venues("okx", "kraken"), [BTC], Decimal(100))

    assert [("okx", 500, 5_000, "replay", None, 0), ("kraken", 700, 5_000, "replay", None, 0)] == [
        (
            venue.config.name,
            venue.poll_interval_ms,
            venue.stale_after_ms,
            venue.transport,
            venue.fallback_reason,
            venue.reconnects,
        )
        for venue in feeds.venues
    ]
