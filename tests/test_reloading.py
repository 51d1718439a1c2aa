"""Other settings while the service runs on feeds over real sockets: nobody who asks meanwhile is let down."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from structlog.testing import capture_logs

from exchanges.simulator import run_in_thread
from service.app import running
from service.control import key_desk
from service.errors import ConfigError
from service.keys import load_pepper
from service.settings import load_settings
from service.switching import Switching

WITHIN_S = 20
HEAD = """
[service]
port = 0
mode = "simulated"
[ledger]
url = "sqlite:///{folder}/ledger.db"
[limits]
quote_per_s = 0
[market]
symbols = {symbols}
"""
VENUE = '[venues.{name}]\nbase_url = "{url}"\nrate_limit_ms = 0\npoll_interval_ms = 100\n'


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread() as simulator:
        yield simulator


async def until(look, wanted):
    """Look again until there is what is wanted."""
    deadline = time.monotonic() + WITHIN_S
    while (found := await look()) != wanted:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def until_quoted(answers, *venues):
    """Wait until a quote has used all of these."""

    async def quoted():
        return answers[200, " ".join(venues)] > 0

    await until(quoted, True)


class Operated:
    """A running service, the settings file it was started with, and keys to ask it."""

    def __init__(self, folder, simulator_url):
        self.file = folder / "settings.toml"
        self.folder, self.simulator_url = folder, simulator_url
        self.hangup = asyncio.Event()
        self.session = self.address = None

    def write(self, venues, symbols=("BTC/USDT",), more=""):
        text = HEAD.format(folder=self.folder, symbols=list(symbols)) + more
        text += "".join(VENUE.format(name=name, url=self.simulator_url) for name in venues)
        self.file.write_text(text)

    def read(self):
        return load_settings(self.file, {})

    @asynccontextmanager
    async def serving(self):
        settings = self.read()
        async with running(settings, {}, read=self.read, hangup=self.hangup) as self.address:
            async with key_desk(settings, lambda: load_pepper({}, self.folder / "ledger.db").secret) as keys:
                text, _ = await keys.create("tester", ["quote", "execute", "account", "admin"])
            async with aiohttp.ClientSession(self.address, headers={"X-API-Key": text}) as self.session:
                yield self

    async def ask(self, method, path, **options):
        async with self.session.request(method, path, **options) as response:
            return response.status, await response.json(content_type=None)

    async def reload(self):
        return await self.ask("POST", "/v1/admin/reload")

    async def states(self):
        _, page = await self.ask("GET", "/v1/venues")
        return {row["venue"]: row["state"] for row in page["venues"]}

    async def until_live(self, *venues):
        """Wait until just these venues are live."""
        await until(self.states, dict.fromkeys(venues, "live"))

    async def until_status(self, status, path):
        """Wait until a path answers so."""

        async def answered():
            return (await self.ask("GET", path))[0]

        await until(answered, status)

    @asynccontextmanager
    async def quoted(self):
        """Quote all along; gives a count of answers by status and venues used, complete in the end."""
        answers = Counter()

        async def quote():
            while True:
                status, quote = await self.ask("GET", "/quote?symbol=BTC/USDT&quantity=0.1")
                used = [source["venue"] for source in quote.get("sources", []) if source["used"]]
                answers[status, " ".join(used) or quote["code"]] += 1
                await asyncio.sleep(0.01)

        task = asyncio.create_task(quote())
        try:
            yield answers
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def operated(tmp_path, simulator, monkeypatch):
    """A machine that is busy for half a second fails no test; what a stalled loop means has tests of its own."""
    monkeypatch.setattr("exchanges.board.STALL_NS", 60 * 10**9)
    return Operated(tmp_path, simulator.base_url)


async def test_two_venues_are_swapped_under_quotes(operated):
    """
    Two venues go and two come, and go again, by route and by signal: no quote fails, and a broken file between changes
    nothing and says why.
    """
    first, second = ["binance", "kraken", "okx", "bybit"], ["binance", "kraken", "bitstamp", "coinbaseexchange"]
    operated.write(first)
    async with operated.serving(), operated.quoted() as answers:
        await operated.until_live(*first)
        operated.write(second)
        _, reloaded = await operated.reload()
        assert {f"venues.{name}" for name in (*first[2:], *second[2:])} == set(reloaded["changed"])
        await operated.until_live(*second)
        await until_quoted(answers, *second)

        operated.write(second, more="venues_min = 0\ncolour = 1\n")
        status, refused = await operated.reload()
        assert (422, ["market.venues_min", "market.colour"]) == (
            status,
            [one["parameter"] for one in refused["errors"]],
        )
        assert dict.fromkeys(second, "live") == await operated.states()

        operated.write(first)
        operated.hangup.set()
        await operated.until_live(*first)
        await until_quoted(answers, *first)
    assert {200} == {status for status, _ in answers}, answers


async def test_symbol_and_numbers_change_under_quotes(operated):
    """
    A symbol more is one book more of every venue; nobody who quotes the others notices.
    """
    venues = ["binance", "kraken", "okx"]
    operated.write(venues)
    async with operated.serving(), operated.quoted() as answers:
        await operated.until_live(*venues)
        operated.write(venues, ("BTC/USDT", "ETH/USDT"), "venues_min = 3\n")
        assert ["market.symbols", "market.venues_min"] == (await operated.reload())[1]["changed"]
        await operated.until_status(200, "/quote?symbol=ETH/USDT&quantity=1")
        assert [["BTC/USDT", "ETH/USDT"]] * 3 == [
            [entry["symbol"] for entry in row["symbols"]]
            for row in (await operated.ask("GET", "/v1/venues"))[1]["venues"]
        ]
    assert {200} == {status for status, _ in answers}, answers


async def test_symbol_that_nobody_trades_is_refused_with_the_nearest(operated):
    """
    What stops a start stops a reload: a symbol that no venue trades changes nothing.
    """
    operated.write(["okx"])
    async with operated.serving():
        await operated.until_live("okx")
        operated.write(["okx"], ("BTC/UDST",))
        status, refused = await operated.reload()
        assert (422, "market.symbols") == (status, refused["errors"][0]["parameter"])
        assert "no venue trades 'BTC/UDST'; the nearest are BTC/USDT" in refused["errors"][0]["detail"]
        assert 200 == (await operated.ask("GET", "/quote?symbol=BTC/USDT&quantity=0.1"))[0]


async def test_venue_is_switched_at_runtime(operated):
    """
    A venue that is switched off is not asked any more; switched on again it warms up and counts. Without any, nothing
    is quoted.
    """
    operated.write(["okx"], ("BTC/USDT", "ETH/USDT"))
    async with operated.serving():
        await operated.until_live("okx")
        status, off = await operated.ask("POST", "/v1/admin/venues/okx/disable")
        assert (200, False, None) == (status, off["enabled"], off["poll_interval_ms"])
        assert 503 == (await operated.ask("GET", "/quote?symbol=BTC/USDT&quantity=0.1"))[0]
        accepted = off["accepted"]

        status, on = await operated.ask("POST", "/v1/admin/venues/okx/enable")
        assert (200, True, "warming", 100) == (status, on["enabled"], on["state"], on["poll_interval_ms"])
        await operated.until_live("okx")
        assert 200 == (await operated.ask("GET", "/quote?symbol=BTC/USDT&quantity=0.1"))[0]
        [row] = (await operated.ask("GET", "/v1/venues"))[1]["venues"]
        assert 0 <= accepted < row["accepted"]


async def test_last_venue_of_a_symbol_may_be_disabled(operated):
    """
    A symbol that no venue is left for is refused as ever, and all others are quoted.
    """
    operated.write(["okx", "coinbaseexchange"], ("BTC/USDT", "BTC/USD"))
    async with operated.serving():
        await operated.until_status(200, "/readyz")
        assert 200 == (await operated.ask("POST", "/v1/admin/venues/coinbaseexchange/disable"))[0]
        status, refused = await operated.ask("GET", "/quote?symbol=BTC/USD&quantity=0.1")
        assert (503, "no_fresh_market_data") == (status, refused["code"])
        assert 200 == (await operated.ask("GET", "/quote?symbol=BTC/USDT&quantity=0.1"))[0]


async def test_broken_reload_does_not_end_the_watch_for_signals(operated):
    """
    A bug in one reload, or a mistake in the file, is logged, and the next signal is heeded.
    """
    operated.write(["okx"])
    outcomes = [RuntimeError("a bug"), ConfigError(["one", "two"]), None]

    def read():
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return operated.read()

    hangup = asyncio.Event()
    with capture_logs() as lines:
        task = asyncio.create_task(Switching(operated.read(), read, None).reload_at(hangup))

        async def count():
            return len(lines)

        for number in (1, 2, 3):
            hangup.set()
            await until(count, number)
        task.cancel()
    assert ["settings.failed", "settings.refused", "settings.reloaded"] == [line["event"] for line in lines]
    assert ["one", "two"] == lines[1]["problems"]
