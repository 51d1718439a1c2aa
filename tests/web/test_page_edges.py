"""The page where things are odd: lost answers, held keys, numbers of any size, keys that change hands."""

from __future__ import annotations

import json
import re

import pytest
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOWLY = {"limits": {"quote_per_s": 4, "execute_per_s": 0, "failed_keys_per_s": 0}}


async def executions(served):
    """Give what is on record."""
    return (await served.ask("GET", "/v1/executions"))["executions"]


async def with_a_price(visit, served, quantity="0.5", *, times_held=False):
    """Open the page on a market at rest, and ask for a price; the page's time may be one that the test moves."""
    seen = await visit()
    if times_held:
        await seen.page.clock.install()
    await seen.enter()
    served.market.at_rest = True
    await seen.ask_for(quantity)
    return seen


# Orders


async def test_held_keys_execute_once(visit, served):
    """A key that is held down, on the button or as a shortcut, is one order and no more."""
    seen = await visit()
    await seen.enter()
    served.market.at_rest = True
    for press, quantity in (("Control+Enter", "0.5"), ("Enter", "0.75")):
        await seen.ask_for(quantity)
        await seen.execute.focus()
        *modifiers, key = press.split("+")
        for modifier in modifiers:
            await seen.page.keyboard.down(modifier)
        await seen.page.keyboard.down(key)
        await expect(seen.fill).to_contain_text(f"Bought {quantity} BTC")
        await expect(seen.execute).to_be_enabled()
        for _ in range(3):
            await seen.execute.focus()
            await seen.page.keyboard.down(key)  # Again without letting go: a repetition.
        await seen.page.keyboard.up(key)
        for modifier in modifiers:
            await seen.page.keyboard.up(modifier)
        await expect(seen.execute).to_be_enabled()

    assert ["0.75", "0.5"] == [one["filled_quantity"] for one in await executions(served)]


async def test_what_a_list_hides_is_not_executed(visit, served):
    """While a list lies over the ticket, the shortcut for execution does nothing."""
    seen = await with_a_price(visit, served)
    await seen.page.get_by_role("button", name="Shortcuts").click()
    await expect(seen.page.get_by_role("dialog")).to_be_visible()
    await seen.page.keyboard.press("Control+Enter")
    await seen.page.keyboard.press("Escape")
    await expect(seen.page.get_by_role("dialog")).to_be_hidden()
    await seen.execute.click()
    await expect(seen.fill).to_be_visible()

    assert ["0.5"] == [one["filled_quantity"] for one in await executions(served)]


REFUSED = {
    "type": "/problems/rate-limited",
    "title": "Rate limited",
    "status": 429,
    "detail": "this key has been used too often; nothing has run",
    "code": "rate_limited",
    "request_id": "r-1",
    "retry": "same_request",
    "execution_state": "not_executed",
}


async def lose_then(seen, status, body, content_type, *, arrives=False):
    """
    Lose the first order, or its answer, and answer those after it in the service's place, until told to stop.

    Gives what is sent, and a list: once it holds something, orders pass.
    """
    sent, passing = [], []

    async def answer(route):
        sent.append(route.request.post_data_json["client_order_id"])
        if passing:
            await route.continue_()
        elif len(sent) == 1:
            if arrives:
                await route.fetch()
            await route.abort()
        else:
            await route.fulfill(status=status, body=body, content_type=content_type)

    seen.expect_in_console("Failed to load resource")
    await seen.page.route("**/execute", answer)
    return sent, passing


async def until_there(seen, what):
    """Let time pass, until the page has sent an order as often as it will and says what has become of it."""
    for _ in range(60):
        if await what.count():
            return
        await seen.page.clock.run_for(1_000)


NOT_THE_ORDERS = pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (429, json.dumps(REFUSED), "application/problem+json"),
        (502, '{"message": "bad gateway"}', "application/json"),
        (200, '{"login": "here"}', "application/json"),
    ],
    ids=["too often", "a proxy's own", "a portal's own"],
)


@NOT_THE_ORDERS
async def test_lost_answer_is_never_called_nothing(visit, served, status, body, content_type):
    """
    An order of which no answer came is not called refused by what never looked for it; nor is it forgotten when
    something else is typed, and no other is executed before it is settled.
    """
    seen = await with_a_price(visit, served, times_held=True)
    sent, passing = await lose_then(seen, status, body, content_type)
    await seen.execute.click()
    await until_there(seen, seen.refusal)
    await expect(seen.refusal).to_contain_text("The outcome is not known yet")
    await expect(seen.execute).to_be_disabled()
    await seen.ticket.get_by_label("Quantity").fill("0.25")
    await expect(seen.refusal).to_contain_text("The outcome is not known yet")
    await seen.page.keyboard.press("Control+Enter")

    passing.append(True)
    await seen.page.get_by_role("button", name="Send the same order again").click()
    await expect(seen.refusal.or_(seen.fill)).not_to_contain_text("not known yet")
    assert {sent[0]} == set(sent)
    assert {sent[0]} >= {one["client_order_id"] for one in await executions(served)}


async def test_order_without_an_answer_can_be_set_aside(visit, served):
    """Whoever does not want to send it again goes on with another one; it is never sent any more."""
    seen = await with_a_price(visit, served, times_held=True)
    sent, passing = await lose_then(seen, 502, "{}", "application/json")
    await seen.execute.click()
    await until_there(seen, seen.refusal)
    passing.append(True)
    lost = len(sent)
    await seen.page.get_by_role("button", name="Set it aside").click()
    await expect(seen.refusal).to_have_count(0)
    await seen.ask_for("0.25")
    await seen.execute.click()
    await expect(seen.fill).to_contain_text("Bought 0.25 BTC")

    [recorded] = await executions(served)
    assert [recorded["client_order_id"]] == sent[lost:]
    assert sent[0] != recorded["client_order_id"]


async def test_lost_answer_is_found_on_record(visit, served):
    """An order whose answer was lost is shown as what the account's executions tell of it."""
    seen = await with_a_price(visit, served, times_held=True)
    await lose_then(seen, 502, "{}", "application/json", arrives=True)
    await seen.execute.click()
    await until_there(seen, seen.fill)
    [recorded] = await executions(served)
    await expect(seen.fill).to_have_attribute("data-execution", recorded["execution_id"])


# The address, the key, the stream


async def test_broken_address_does_no_harm(visit, served):
    """What stands after # and is no symbol, or not even a text, leads to the first symbol."""
    seen = await visit()
    await seen.page.goto(f"{served.address}/#%E0%A4%A")
    await seen.enter()
    await expect(seen.page.get_by_role("combobox", name="Symbol")).to_have_value("BTC/USDT")


async def test_what_is_answered_late_is_not_shown_to_the_next(visit, served):
    """A fill whose answer comes after the key was forgotten is not shown to whoever opens the page next."""
    seen = await with_a_price(visit, served)
    held = []

    async def hold(route):
        held.append((route, await route.fetch()))

    await seen.page.route("**/execute", hold)
    await seen.execute.click()
    await expect(seen.page.get_by_text("Waiting for the answer")).to_be_visible()
    await seen.page.get_by_role("button", name="Forget key").click()
    await seen.page.get_by_label("API key").fill(served.keys["watch"])
    await seen.page.get_by_role("button", name="Open").click()
    await seen.is_live()
    async with seen.page.expect_response("**/execute"):
        [(route, response)] = held
        await route.fulfill(response=response)
    await expect(seen.ticket.get_by_label("Quantity")).to_have_value("")
    await expect(seen.fill).to_have_count(0)


@pytest.mark.parametrize("served", [SLOWLY], indirect=True)
async def test_everything_comes_though_the_key_may_ask_seldom(visit, served):
    """With a key that may ask a few times a second, what was put off is asked for again until it is there."""
    seen = await visit()
    seen.expect_in_console("status of 429")
    await seen.enter()
    for symbol in ("ETH/USDT", "BTC/USDT", "ETH/USDT", "BTC/USDT", "ETH/USDT"):
        await seen.page.get_by_role("combobox", name="Symbol").select_option(symbol)
    await seen.page.get_by_label("Levels").select_option("25")
    await expect(seen.asks.first).to_be_visible()
    await expect(seen.page.get_by_test_id("no-price")).to_have_count(0)
    await expect(seen.lamp("okx")).to_have_attribute("data-state", "live")
    await expect(seen.account.locator("[data-asset=BTC]")).to_be_visible()


async def test_sleep_is_not_taken_for_silence_that_is_short(visit, served):
    """Once the machine has slept, of which the page's own clock knows nothing, all is old until something new comes."""
    seen = await visit()
    await seen.enter()
    await seen.ask_for("0.5")
    await seen.page.evaluate(
        """() => {
            const shown = document.querySelector("[data-testid=connection]");
            const noted = document.documentElement.dataset;
            const note = () => noted.seen = `${noted.seen ?? ""} ${shown.dataset.state}`;
            new MutationObserver(note).observe(shown, {attributeFilter: ["data-state"]});
            const now = Date.now;
            Date.now = () => now() + 3_600_000;
        }"""
    )
    await expect(seen.page.locator("html")).to_have_attribute("data-seen", re.compile("stale"))
    await seen.is_live()
    await seen.moves()


async def test_page_works_where_the_browser_keeps_nothing(visit, served):
    """In a browser that refuses pages any storage the page works all the same, and keeps the key while it is open."""
    seen = await visit()
    refuse = "get() { throw new DOMException('Access is denied', 'SecurityError') }"
    await seen.page.add_init_script(
        f"for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, {{{refuse}}})"
    )
    await seen.page.reload()
    await seen.enter()
    await seen.page.get_by_role("button", name="Theme").click()
    await expect(seen.page.locator("html")).to_have_attribute("data-theme", "dark")
    await seen.page.goto("about:blank")  # Nobody can look into what is not there.


# Numbers of any size


def faked(levels):
    """Have the books that come through a stream hold other levels."""

    def between(socket):
        server = socket.connect_to_server()

        def told(message):
            frame = json.loads(message)
            if frame.get("channel") == "book" and "data" in frame:
                frame["data"] |= levels
            socket.send(json.dumps(frame))

        server.on_message(told)

    return between


def level(price, net_price, quantity):
    return {
        "price": price,
        "net_price": net_price,
        "quantity": quantity,
        "venue": "binance",
        "taken": "0",
        "held": "0",
    }


async def test_small_prices_and_large_quantities_can_be_read(visit, served):
    """Prices that differ in the eighth digit look different, and no digit of a large quantity is lost unseen."""
    seen = await visit()
    asks = [level("0.00001234", "0.000012352340", "98765432109"), level("0.00001235", "0.00001236235", "12345678.12")]
    bids = [level("0.00001233", "0.00001231767", "412345678901")]
    await seen.page.route_web_socket(re.compile("/v1/stream"), faked({"asks": asks, "bids": bids}))
    await seen.enter()
    await seen.page.get_by_text("Gross", exact=True).click()
    first, second = (seen.asks.nth(n).locator(".price") for n in (0, 1))
    await expect(first).to_contain_text("0.00001234")
    await expect(second).to_contain_text("0.00001235")
    cut = await seen.page.evaluate(
        """[...document.querySelectorAll(".level:not([hidden]) > span")].filter(cell =>
            cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).textOverflow !== "ellipsis")
            .map(cell => `${cell.className}: ${cell.textContent}`)"""
    )
    assert [] == cut
