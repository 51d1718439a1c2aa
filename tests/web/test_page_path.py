"""A person's path through the page: from the key to a fill and what became of it, by mouse and by keyboard."""

from __future__ import annotations

import json
import re

import pytest
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def executions(served):
    """Give what is on record, newest first."""
    return (await served.ask("GET", "/v1/executions"))["executions"]


def amount(value):
    """Find an amount by the text of the API that it stands for."""
    return f'[data-value="{value}"]'


def row_of(seen, recorded):
    """Find an execution among those that the page lists."""
    return seen.executions.locator(f'[data-execution="{recorded["execution_id"]}"]')


async def test_person_buys_and_sees_what_became_of_it(visit, served):
    """
    Somebody with a key picks a symbol, watches its book, has a price, takes it, and sees the fill and the balance.
    """
    seen = await visit()
    await seen.enter()
    await seen.page.get_by_role("combobox", name="Symbol").select_option("ETH/USDT")
    await expect(seen.asks.first).to_have_attribute("data-price", re.compile(r"^[0-9]{4}(\.|$)"))
    await seen.moves()

    served.market.at_rest = True
    await seen.ask_for("2")
    await expect(seen.waterfall.locator("[data-step=total]")).to_contain_text("bps")
    await expect(seen.page.get_by_test_id("countdown")).to_contain_text("good for")
    total = await seen.page.get_by_test_id("total").locator("[data-value]").get_attribute("data-value")
    await seen.execute.click()

    await expect(seen.fill).to_contain_text("Bought 2 ETH")
    [recorded] = await executions(served)
    told = ("symbol", "side", "status", "filled_quantity", "total")
    assert ("ETH/USDT", "buy", "filled", "2", total) == tuple(recorded[name] for name in told)
    row = row_of(seen, recorded)
    await expect(row.locator(amount(total))).to_be_visible()
    balances = (await served.ask("GET", "/v1/account"))["balances"]
    assert "102" == balances["ETH"]["total"]
    for asset in ("ETH", "USDT"):
        of_asset = seen.account.locator(f"[data-asset={asset}]")
        await expect(of_asset.locator(amount(balances[asset]["total"])).first).to_be_attached()


async def test_waterfall_is_the_quotes(visit, served):
    """
    The picture has a bar for each step of the quote that is shown, and its numbers are the quote's own.
    """
    seen = await visit()
    await seen.enter()
    served.market.at_rest = True
    await seen.ask_for("3", "Sell")

    quote = await served.ask("GET", "/quote?symbol=BTC/USDT&quantity=3&side=sell")
    for line in quote["sell"]["waterfall"]:
        step = seen.waterfall.locator(f"[data-step={line['step']}]")
        await expect(step.locator(amount(line["amount"])).first).to_be_attached()
        await expect(step.locator(amount(line["bps"])).first).to_be_attached()


async def test_keyboard_is_enough(visit, served):
    """
    Without a mouse: the key, a symbol, a side, a quantity, a price and its execution, in the order of the page.
    """
    seen = await visit()
    keyboard = seen.page.keyboard
    await expect(seen.page.get_by_label("API key")).to_be_focused()
    await keyboard.type(seen.key)
    await keyboard.press("Enter")
    await seen.is_live()
    served.market.at_rest = True

    await tab_to(seen, seen.page.get_by_role("combobox", name="Symbol"))
    await keyboard.type("ETH")
    await expect(seen.asks.first).to_have_attribute("data-price", re.compile(r"^[0-9]{4}(\.|$)"))
    await tab_to(seen, seen.ticket.get_by_role("radio", name="Buy"))
    await keyboard.press("ArrowRight")
    await tab_to(seen, seen.ticket.get_by_label("Quantity"))
    await keyboard.type("1.5")
    await expect(seen.execute).to_contain_text("sell 1.5")
    await expect(seen.execute).to_be_enabled()
    await tab_to(seen, seen.execute)
    await keyboard.press("Enter")

    await expect(seen.fill).to_contain_text("Sold 1.5 ETH")
    assert ["sell"] == [one["side"] for one in await executions(served)]


async def tab_to(seen, wanted):
    """Go from field to field until this one is reached; what has the focus shows it."""
    for _ in range(60):
        await seen.page.keyboard.press("Tab")
        if await wanted.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"no way to {wanted} by the keyboard")


async def test_changed_amount_is_never_executed_as_the_old_one(visit, served):
    """
    Whoever changes the amount and executes at once executes what the ticket says, or nothing.
    """
    seen = await visit()
    await seen.enter()
    served.market.at_rest = True
    await seen.ask_for("2")

    await seen.ticket.get_by_label("Quantity").fill("3")
    await seen.page.keyboard.press("Control+Enter")
    await seen.page.keyboard.press("Control+Enter")
    await expect(seen.execute).to_contain_text("buy 3")
    await expect(seen.execute).to_be_enabled()
    if not await executions(served):
        await seen.execute.click()
    await expect(seen.fill).to_contain_text("Bought 3 BTC")

    assert ["3"] == [one["filled_quantity"] for one in await executions(served)]


async def test_order_is_executed_once_though_its_answer_is_lost(visit, served):
    """
    A double click is one order; and one whose answer never came is sent again as the same, and executed once.
    """
    seen = await visit()
    seen.expect_in_console("Failed to load resource: net::ERR_FAILED")
    await seen.enter()
    served.market.at_rest = True
    lost = []

    async def lose_the_first(route):
        if lost:
            await route.continue_()
        else:
            lost.append(await (await route.fetch()).json())
            await route.abort()

    await seen.page.route("**/execute", lose_the_first)
    await seen.ask_for("0.5")
    await seen.execute.dblclick()

    await expect(seen.fill).to_have_attribute("data-execution", re.compile("."))
    [recorded] = await executions(served)
    assert recorded["execution_id"] == lost[0]["execution_id"] == await seen.fill.get_attribute("data-execution")


async def test_refused_order_is_explained(visit, served):
    """
    Whoever cannot pay is told so in words, sees that nothing was executed, and finds the rejection on record.
    """
    seen = await visit()
    seen.expect_in_console("Failed to load resource: the server responded with a status of 409")
    await seen.enter()
    served.market.at_rest = True
    await seen.ask_for("17")
    await seen.execute.click()

    await expect(seen.refusal).to_have_attribute("data-code", "insufficient_balance")
    await expect(seen.refusal).to_contain_text("Nothing was executed")
    await expect(seen.refusal).to_contain_text("USDT")
    await expect(seen.page.get_by_role("alert")).to_contain_text("Not executed")
    [recorded] = await executions(served)
    row = row_of(seen, recorded)
    await expect(row).to_contain_text("Insufficient balance")


async def test_impossible_amount_comes_with_one_that_would_do(visit, served):
    """
    An amount that no venue takes is refused with the next one that would do, which a press of a button takes.
    """
    seen = await visit()
    await seen.enter()
    await seen.ticket.get_by_label("Quantity").fill("0.000000001")
    await expect(seen.refusal).to_contain_text("Quantity")
    await expect(seen.execute).to_be_disabled()

    await seen.refusal.get_by_role("button", name="Use").first.click()
    await expect(seen.refusal).to_be_hidden()
    await expect(seen.execute).to_be_enabled()


async def test_total_is_asked_for_instead(visit, served):
    """
    A total in money is quoted as the quantity that it buys, and takes the place of the quantity.
    """
    seen = await visit()
    await seen.enter()
    served.market.at_rest = True
    await seen.ask_for("1")
    await seen.ticket.get_by_label("Total").fill("10000")
    await expect(seen.ticket.get_by_label("Quantity")).to_have_value("")
    quote = await served.ask("GET", "/quote?symbol=BTC/USDT&total=10000&side=buy")
    await expect(seen.execute).to_contain_text(f"buy {quote['buy']['quantity']}")


async def test_execution_opens_with_its_fills_and_realism(visit, served):
    """
    Each execution says how much of it was still there, and opens with its costs and fills; Escape closes it.
    """
    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "2", "client_order_id": "before"}
    recorded = await served.ask("POST", "/execute", body=order)
    survival = [{"after_ms": after_ms, "share": share} for after_ms, share in ((50, "1"), (250, "0.93"), (1000, "0.7"))]
    markout = [{"after_s": after_s, "bps": bps} for after_s, bps in ((1, "-1.2"), (10, "0.4"), (60, "2.5"))]
    seen_since = {"pending": False, "survival": survival, "markout_bps": markout}
    await served.ledger.add_realism(recorded["execution_id"], json.dumps(seen_since).encode())
    seen = await visit()
    await seen.enter()
    await expect(row_of(seen, recorded)).to_contain_text("100 % · 93 % · 70 %")
    await expect(row_of(seen, recorded)).to_contain_text("-1.2 · +0.4 · +2.5 bps")
    await seen.executions.get_by_role("button").first.click()

    dialog = seen.page.get_by_role("dialog", name="Execution")
    await expect(dialog).to_contain_text(recorded["execution_id"])
    for venue in {fill["venue"] for fill in recorded["fills"]}:
        await expect(dialog.get_by_role("table", name="Fills")).to_contain_text(venue)
    await expect(dialog.locator(amount(recorded["total"]))).to_be_attached()
    await seen.page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()


async def test_page_works_by_any_name(visit, served):
    """
    By a plain address that is not this machine's own, where browsers withhold some of their means, it works as well.
    """
    seen = await visit(address=served.named_address)
    assert not await seen.page.evaluate("isSecureContext")
    await seen.enter()
    served.market.at_rest = True
    await seen.ask_for("1")
    await seen.execute.click()

    await expect(seen.fill).to_contain_text("Bought 1 BTC")
