"""Machines that lose power lose nothing that was confirmed."""

from __future__ import annotations

import pytest

from tests.rigs.power_cut import power_cut


async def test_power_cut_loses_nothing(run):
    """
    Whatever the disk has kept of what was not yet synced, every confirmed order is there and everything adds up.
    """
    figures = await run(power_cut, 24, 20)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
async def test_power_cut_finds_answers_before_the_sync(run):
    """
    With synchronous=NORMAL, confirmed orders are lost.
    """
    figures = await run(power_cut, 24, 20, fault="synchronous_normal")

    assert not figures["ok"]
    assert figures["cuts_that_lost"] > 0, str(figures)
