"""Clients that send byte by byte are cut, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.rigs.slow_connections import slow_connections


async def test_slow_connections_are_cut(run):
    """
    Heads and bodies that do not come are given up in time; whoever asks meanwhile is answered.
    """
    figures = await run(slow_connections, 100, within_s=4, faults=["quick_to_cut"])

    assert (0, {}) == (figures["left"], figures["failed"]), str(figures)
    assert {"heads": 100, "bodies": 100} == figures["opened"]


@pytest.mark.broken_copy
async def test_slow_connections_find_a_broken_copy(run):
    """
    A service that waits for them for as long as they like is found out.
    """
    figures = await run(slow_connections, 20, within_s=2, faults=["quick_to_cut", "never_cut"])

    assert not figures["ok"]
    assert 40 == figures["left"], str(figures)
