"""What the page shows when something is wrong: with venues, with the connection, with the key."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from exchanges.simulator.market import VENUES
from service.api import stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_CONNECTION = "WebSocket connection to .* failed|net::ERR_CONNECTION_REFUSED"
LIVE = {"service": {"mode": "live"}}
REPLAY = {
    "service": {"mode": "replay"},
    "replay": {"file": "market.rec"},
    "venues": {name: {"exchange": name, "transport": "replay"} for name in VENUES},
}


# Venues


async def test_stale_venue_is_left_out_and_comes_back(visit, served):
    """
    A venue that falls silent has its lamp say so and why, and its levels are gone from the ladder, until it is back.
    """
    seen = await visit()
    await seen.enter()
    await expect(seen.ladder.locator("[data-venue=binance]").first).to_be_attached()
    served.market.fall_silent("binance")

    await expect(seen.lamp("binance")).to_have_attribute("data-state", "stale")
    await expect(seen.lamp("binance")).to_contain_text("its book is too old")
    await expect(seen.ladder.locator("[data-venue=binance]:not([hidden])")).to_have_count(0)
    await expect(seen.lamp("okx")).to_have_attribute("data-state", "live")
    await seen.moves()

    served.market.still.clear()
    await expect(seen.lamp("binance")).to_have_attribute("data-state", "live")
    await expect(seen.ladder.locator("[data-venue=binance]:not([hidden])").first).to_be_attached()


async def test_no_price_where_no_venue_can_be_believed(visit, served):
    """
    With all venues down there is no price, but each venue's reason, and nothing can be executed; then it comes back.
    """
    seen = await visit()
    await seen.enter()
    await seen.ask_for("1")
    served.market.fail("unreachable")

    await expect(seen.refusal).to_have_attribute("data-code", "no_fresh_market_data")
    for venue in VENUES:
        await expect(seen.lamp(venue)).to_have_attribute("data-state", "down")
        await expect(seen.refusal).to_contain_text(f"{venue} down: it cannot be reached")
    await expect(seen.page.get_by_test_id("no-price")).to_be_visible()
    await expect(seen.page.get_by_test_id("total").locator("[data-value]")).to_have_count(0)
    await expect(seen.execute).to_be_disabled()

    served.market.still.clear()
    await expect(seen.execute).to_be_enabled()
    await expect(seen.page.get_by_test_id("no-price")).to_be_hidden()
    await seen.moves()


# The connection


async def test_restart_is_shown_and_survived(visit, served):
    """
    While the service is away the page says that what it shows is old, and takes no order; then it goes on by itself.
    """
    seen = await visit()
    seen.expect_in_console(NO_CONNECTION)
    await seen.enter()
    await seen.ask_for("1")
    await served.stop()

    await expect(seen.connection).to_have_attribute("data-state", "stale")
    await expect(seen.stale).to_contain_text("STALE")
    await expect(seen.execute).to_be_disabled()

    await served.start()
    await seen.is_live()
    await expect(seen.stale).to_be_hidden()
    await seen.moves()
    served.market.at_rest = True
    await seen.ask_for("2")
    await seen.execute.click()
    await expect(seen.fill).to_contain_text("Bought 2 BTC")


async def test_silence_is_noticed(visit, served):
    """
    A connection that is open but says nothing is not taken for a quiet market: the page says that it is stale.
    """
    seen = await visit()
    passing = [True]

    def between(socket):
        server = socket.connect_to_server()
        server.on_message(lambda message: passing[0] and socket.send(message))

    await seen.page.route_web_socket(re.compile("/v1/stream"), between)
    await seen.enter()
    passing[0] = False

    await expect(seen.connection).to_have_attribute("data-state", "stale")
    await expect(seen.execute).to_be_disabled()
    passing[0] = True
    await seen.is_live()


# The key


@pytest.fixture
def hurried(monkeypatch):
    """Streams whose keys are looked after all the time."""
    monkeypatch.setattr(stream, "LOOK_AFTER_S", 0.02)


async def test_revoked_key_leads_back_to_the_form(hurried, visit, served):
    """
    Whose key is revoked is told so, sees nothing more, and is asked for another one.
    """
    seen = await visit()
    seen.expect_in_console("Failed to load resource: the server responded with a status of 401")
    await seen.enter()
    await served.revoke("all")

    await expect(seen.page.get_by_label("API key")).to_be_visible()
    await expect(seen.page.get_by_role("alert")).to_contain_text("revoked")
    await expect(seen.ladder).to_be_hidden()
    assert 0 == await seen.page.evaluate("sessionStorage.length")

    seen.key = served.keys["watch"]
    await seen.enter()


async def test_wrong_key_is_refused_with_a_reason(visit, served):
    """
    A key that is none is turned away at the form, and is not kept.
    """
    seen = await visit()
    await seen.page.get_by_label("API key").fill("iob_test_nonsense")
    await seen.page.get_by_role("button", name="Open").click()

    await expect(seen.page.get_by_role("alert")).to_contain_text("does not take this key")
    await expect(seen.page.get_by_label("API key")).to_be_enabled()
    assert 0 == await seen.page.evaluate("sessionStorage.length")


async def test_key_lives_as_long_as_the_tab(visit, served):
    """
    A reload keeps the key; another tab has to be given it; and it is forgotten when somebody says so.
    """
    seen = await visit()
    await seen.enter()
    await seen.page.reload()
    await seen.is_live()
    assert [seen.key] == await seen.page.evaluate("Object.values(sessionStorage)")

    other = await seen.context.new_page()
    await other.goto(served.address)
    await expect(other.get_by_label("API key")).to_be_visible()
    await other.close()

    await seen.page.get_by_role("button", name="Forget key").click()
    await expect(seen.page.get_by_label("API key")).to_be_visible()
    assert 0 == await seen.page.evaluate("sessionStorage.length")
    assert seen.key not in await seen.page.content()


async def test_key_that_may_only_look(visit, served):
    """
    With a key that may not execute there are prices, and it is said why there is no execution and no account.
    """
    seen = await visit(key="watch")
    await seen.enter()
    await seen.ticket.get_by_label("Quantity").fill("1")
    await expect(seen.page.get_by_test_id("total").locator("[data-value]")).to_be_attached()

    await expect(seen.execute).to_be_disabled()
    await expect(seen.ticket).to_contain_text("lacks the scope “execute”")
    await expect(seen.account).to_contain_text("lacks the scope “account”")


# What kind of prices they are


@pytest.mark.parametrize(("served", "word"), [({}, "SIMULATED"), (REPLAY, "REPLAYED")], indirect=["served"])
async def test_prices_that_are_not_live_are_called_so(visit, served, word):
    """
    That prices are simulated or replayed cannot be missed: it is said in capitals, at the top, from the first book on.
    """
    seen = await visit()
    await seen.enter()
    banner = seen.page.get_by_test_id("market-data")
    await expect(banner).to_contain_text(word)
    await expect(banner).to_be_in_viewport()


@pytest.mark.parametrize("served", [LIVE], indirect=True)
async def test_live_prices_are_not_called_simulated(visit, served):
    """
    Live prices are called live, and executions mock.
    """
    seen = await visit()
    await seen.enter()
    banner = seen.page.get_by_test_id("market-data")
    await expect(banner).to_contain_text("Live prices")
    await expect(banner).to_contain_text("mock")
    await expect(banner).not_to_contain_text("SIMULATED")
