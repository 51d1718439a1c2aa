"""What takes long runs beside the loop that answers requests."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

import pytest

from exchanges import ccxt_venue, line
from exchanges.clock import SystemClock
from exchanges.feeds import Feeds, VenueConfig
from exchanges.offloop import OffLoop
from exchanges.simulator import run_in_thread


async def where():
    await asyncio.sleep(0)
    return threading.current_thread().name


async def test_work_runs_on_a_thread_of_its_own():
    """
    Its result and its errors come back to whoever waits.
    """

    async def fails():
        raise ValueError("as it was raised")

    offloop = OffLoop()
    try:
        assert "offloop" == await offloop.run(where())
        with pytest.raises(ValueError, match="as it was raised"):
            await offloop.run(fails())
    finally:
        offloop.close()


async def test_who_stops_waiting_stops_the_work():
    """
    A poll that took too long does not go on where nobody sees it.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def for_ever():
        try:
            await asyncio.Event().wait()
        finally:
            loop.call_soon_threadsafe(ended.set)

    offloop = OffLoop()
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await offloop.run(for_ever())
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        offloop.close()


async def test_what_still_runs_ends_with_the_thread():
    """
    Nothing is left behind, and the thread is gone; one that never worked has none.
    """
    OffLoop().close()
    offloop, begun = OffLoop(), threading.Event()

    async def for_ever():
        begun.set()
        await asyncio.Event().wait()

    waiting = asyncio.create_task(offloop.run(for_ever()))
    assert await asyncio.to_thread(begun.wait, 10)
    offloop.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert "offloop" not in [thread.name for thread in threading.enumerate()]


async def test_instruments_and_whole_books_are_read_off_the_loop(monkeypatch):
    """
    A venue that answers with every level it has is parsed and checked there; one that was asked for a few is not.
    """
    seen = {}

    def noting(what, function):
        def noted(*values, **named):
            name = getattr(values[0], "name", None) or named["venue"]
            seen[what, name] = threading.current_thread().name
            return function(*values, **named)

        return noted

    monkeypatch.setattr(line, "decode", noting("book", line.decode))
    instrument = noting("instruments", ccxt_venue.CcxtVenue._instrument)
    monkeypatch.setattr(ccxt_venue.CcxtVenue, "_instrument", instrument)
    with run_in_thread() as simulator:
        configs = [
            VenueConfig(name, name, base_url=simulator.base_url, rate_limit_ms=0)
            for name in ("coinbaseexchange", "bitstamp", "okx")
        ]
        feeds = Feeds(configs, ["BTC/USDT"], Decimal(100), SystemClock())
        try:
            await feeds.start()
            live, venues = asyncio.Event(), set()
            feeds.board.follow(lambda book, now_ns: venues.add(book.venue) or (len(venues) == 3 and live.set()))
            async with asyncio.timeout(20):
                await live.wait()
        finally:
            await feeds.close()
    assert {"coinbaseexchange": "offloop", "bitstamp": "offloop", "okx": "offloop"} == {
        venue: thread for (what, venue), thread in seen.items() if what == "instruments"
    }
    books = {venue: thread for (what, venue), thread in seen.items() if what == "book"}
    assert ("offloop", "offloop") == (books["coinbaseexchange"], books["bitstamp"])
    assert "offloop" != books["okx"]
