"""The page under load, for a while only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.rigs.frames import FAULTS, FRAME_MS_MAX, Length, frames
from tests.tools import tool

pytestmark = pytest.mark.rig

SHORT = Length(seconds=6.0, samples=3, frame_ms_max=200.0, books_per_s_min=1.0)
"""How smooth it is on a busy machine is no matter here."""


@pytest.fixture(autouse=True)
def browser():
    """Without one there is nothing to measure."""
    return tool("chromium")


async def test_page_keeps_up_with_twenty_books_a_second(run):
    """
    Twenty books a second of 400 levels are shown, the page's memory does not grow, and it loads in little.
    """
    figures = await run(frames, SHORT)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize("fault", FAULTS)
async def test_frames_finds_a_broken_copy(run, fault):
    """
    A page that keeps what it hears, and one that works for too long on it, are found out.
    """
    figures = await run(frames, replace(SHORT, frame_ms_max=FRAME_MS_MAX if fault == "jank" else 1_000.0), fault=fault)

    assert not figures["ok"]
    grown_kb = figures["heap_kb"][-1] - figures["heap_kb"][0]
    found = {"leak": grown_kb > 1_000, "jank": figures["long_tasks"] > 0}
    assert found[fault], str(figures)
