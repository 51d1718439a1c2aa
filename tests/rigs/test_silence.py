"""Silence, shortened: no price is served that is older than the settings allow."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.rigs.silence import KINDS, STOPPED, Length, silence
from tests.rigs.simulated import Waves

pytestmark = pytest.mark.rig

FALLS = Waves(Decimal(95), every_ms=7_000, over_ms=2_500)
SHORT = Length(silent_ms=3_500, stale_after_ms=1_500, back_within_s=40.0, slack_ms=1_500, storm=FALLS)
"""What a busy machine adds counts as slack here."""
DATA_STOPS = next(kind for kind in KINDS if kind.name == "data stops, pongs come, requests too, all venues")


@pytest.mark.parametrize("kind", [DATA_STOPS, STOPPED], ids=lambda kind: kind.name)
async def test_silence_costs_no_honest_price(run, kind):
    """
    Venues that say nothing more are left out before their prices are old, as is everything after a stop of the service.
    """
    figures = await run(silence, [kind], length=SHORT)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(("kind", "fault"), [(DATA_STOPS, "never_stale"), (STOPPED, "gaps_uncounted")])
async def test_silence_finds_broken_copies(run, kind, fault):
    """
    A service that believes books for ever, or whose clock stands still while it does, is found out.
    """
    figures = await run(silence, [kind], length=SHORT, fault=fault)

    assert not figures["ok"]
    (one,) = figures["kinds"].values()
    assert one["too_old"] or one["never_there"], str(figures)
