"""A soak of seconds: too short to see memory grow, long enough to see what is not given back."""

from __future__ import annotations

import pytest

from tests.rigs.soak import Length, soak
from tests.rigs.venue_faults import Case

pytestmark = pytest.mark.rig

SHORT = Length(minutes=0.1, warm_up_s=0.0, slope_kb_max=10_000_000.0, quiet_after=2, flat_within=8)
"""With one look at each end, what happens to be going on at the moment counts."""
LONGER = Length(minutes=0.4, warm_up_s=0.0, slope_kb_max=1_000_000.0, quiet_after=3)
BREAKING = (Case("stream", "broken_json", "okx"), Case("stream", "unexpected", "binance"))


async def test_what_broke_is_given_back(run):
    """
    After streams that broke, as many sockets and tasks are held as before.
    """
    figures = await run(soak, SHORT, cases=BREAKING)

    assert ({}, [], []) == (figures["failed"], figures["errors"], figures["risen"])


@pytest.mark.broken_copy
@pytest.mark.parametrize(("fault", "risen"), [("connections_kept", "sockets"), ("tasks_kept", "tasks")])
async def test_soak_finds_broken_copies(run, fault, risen):
    """
    A service that leaves connections open, or something waiting for each stream that broke, is found out.
    """
    figures = await run(soak, LONGER, cases=BREAKING, fault=fault)

    assert not figures["ok"]
    assert risen in figures["risen"], str(figures["levels"])
