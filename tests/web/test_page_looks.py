"""How the page looks: readable by everybody, at every width, in light and dark, and at rest while its numbers change.

The pictures of this file are written into the folder that ``SCREENSHOTS`` names, or into a temporary one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

NARROW = {"viewport": {"width": 360, "height": 800}}
USUAL = {"viewport": {"width": 1280, "height": 900}}
WIDE = {"viewport": {"width": 1920, "height": 1080}}
SHIFTED_MAX = 0.01
"""Layout shift as browsers count it; 0.1 in all is called good.  Digits move a little where decimals come and go."""
VIEWS = {
    "light": {**USUAL, "color_scheme": "light"},
    "dark": {**USUAL, "color_scheme": "dark"},
    "narrow": {**NARROW, "color_scheme": "light"},
    "wide": {**WIDE, "color_scheme": "light"},
}


@pytest.fixture
def pictures(tmp_path):
    """Give the folder that pictures go to."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def faults_for_some(page, part=None):
    """Have axe look at the page, or a part of it, as it is; gives what it finds, each with the elements."""
    found = (await Axe().run(page, context=part)).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: " + "; ".join(str(node["target"]) for node in one["nodes"])
        for one in found
    ]


async def busy(seen, served):
    """Bring the page to where most of it is in use: a fill, a rejection on record, and a price."""
    served.market.at_rest = True
    for number, quantity in enumerate(("0.4", "1.25", "90")):
        order = {"symbol": "BTC/USDT", "side": "buy", "quantity": quantity, "client_order_id": f"before-{number}"}
        await served.ask("POST", "/execute", body=order, refused=True)
    await seen.enter()
    await seen.ask_for("2")
    await seen.execute.click()
    await expect(seen.fill).to_be_visible()


@pytest.mark.parametrize("view", VIEWS)
async def test_page_is_for_everybody(visit, served, pictures, view):
    """
    Nothing is found (by axe) that keeps anybody from using the page in use, and at no width does it run over the side.
    """
    seen = await visit(**VIEWS[view])
    await busy(seen, served)

    assert 0 == await seen.page.evaluate("document.scrollingElement.scrollWidth - document.documentElement.clientWidth")
    await seen.page.screenshot(path=pictures / f"{view}.png")
    if view != "wide":  # It differs from the others by where things stand, and by nothing that axe looks at.
        assert [] == await faults_for_some(seen.page)


@pytest.mark.parametrize("view", ["light", "dark", "narrow"])
async def test_what_opens_and_what_refuses_is_for_everybody(visit, served, pictures, view):
    """
    The key form, a refused key, the dialogs, a refusal, venues that are down and a lost connection are, too.
    """
    seen = await visit(**VIEWS[view])
    seen.expect_in_console("status of 409|WebSocket connection to .* failed|net::ERR_CONNECTION_REFUSED")
    looked = {}

    async def look(name, part=None):
        looked[name] = await faults_for_some(seen.page, part)
        await seen.page.screenshot(path=pictures / f"{view}-{name}.png")

    await seen.page.get_by_label("API key").fill("iob_test_nonsense")
    await seen.page.get_by_role("button", name="Open").click()
    await expect(seen.page.get_by_role("alert")).to_be_visible()
    await look("key")
    await busy(seen, served)
    await seen.page.get_by_role("button", name="Shortcuts").click()
    await look("shortcuts", "dialog[open]")
    await seen.page.keyboard.press("Escape")
    await seen.executions.get_by_role("button").first.click()
    await expect(seen.page.get_by_role("dialog", name="Execution")).to_be_visible()
    await look("execution", "dialog[open]")
    await seen.page.keyboard.press("Escape")
    await seen.ask_for("17")
    await seen.execute.click()
    await expect(seen.refusal).to_be_visible()
    await look("refusal", ".panel.ticket")
    served.market.fail("unreachable")
    await expect(seen.page.get_by_test_id("no-price")).to_be_visible()
    await look("down", ".panel.book")
    await served.stop()
    await expect(seen.stale).to_be_visible()
    await look("stale", ".page")

    assert {name: [] for name in looked} == looked


@pytest.mark.parametrize("view", ["narrow", "light", "wide"])
async def test_nothing_jumps(visit, served, view):
    """
    While books and quotes come, numbers change and nothing else: no part of the page moves.
    """
    seen = await visit(**VIEWS[view])
    await seen.enter()
    await seen.ask_for("2.5")
    await seen.moves()
    await seen.page.evaluate("watched.shifted = 0; watched.moved.length = 0")
    before = served.market.shown
    for _ in range(3):
        await seen.moves()
    served.market.fall_silent("okx")
    await expect(seen.lamp("okx")).to_have_attribute("data-state", "stale")
    await seen.moves()

    assert served.market.shown > before
    shifted, moved = await seen.page.evaluate("[watched.shifted, watched.moved]")
    assert [] == moved
    assert shifted < SHIFTED_MAX


async def test_motion_is_reduced_for_those_who_want_it(visit, served):
    """
    Whoever has asked for little motion sees no transition and no animation.
    """
    seen = await visit(reduced_motion="reduce")
    await seen.enter()
    await seen.ask_for("1")
    moving = await seen.page.evaluate(
        "document.getAnimations().filter(one => one.effect.getComputedTiming().activeDuration > 50).length"
    )

    assert 0 == moving
