"""A few faults of venues on one running service, and how the rig that tries them all is turned red."""

from __future__ import annotations

import pytest

from tests.rigs.venue_faults import Case, venue_faults

pytestmark = pytest.mark.rig

FEW = (
    Case("depth", "crossed", "bitstamp"),
    Case("stream", "lost", "kraken"),
    Case("stream", "broken_json", "okx"),
    Case("depth", "huge", "coinbaseexchange"),
    Case("stream", "close", "binance"),
)


async def test_faults_break_nothing_and_are_seen(run):
    """
    Each is seen by its reason while quotes go on from the other venues, and its venue comes back.
    """
    figures = await run(venue_faults, FEW)

    kept = ("unseen", "not_back", "failed", "errors")
    assert {name: figures[name] for name in kept} == {"unseen": [], "not_back": [], "failed": {}, "errors": []}
    assert ["bad_checksum"] == figures["reasons"]["stream lost kraken"]


@pytest.mark.broken_copy
@pytest.mark.parametrize(("fault", "figure"), [("loop_blocked", "blocked_max_ms"), ("anything_goes", "unseen")])
async def test_faults_find_broken_copies(run, fault, figure):
    """
    A service that computes for long about a bad book, or believes it, is found out.
    """
    figures = await run(venue_faults, FEW[:1], fault=fault)

    assert not figures["ok"]
    assert figures[figure] and (figure == "unseen" or figures[figure] > 200), str(figures)
