"""Servers that are killed lose nothing that was confirmed."""

from __future__ import annotations

import pytest

from tests.rigs.faults import GAP_S
from tests.rigs.kill import kill, kill_service

IN_THE_GAP_MS = (int(GAP_S * 400), int(GAP_S * 800))
"""When what the first answer was followed by is in a fault's gap."""

TRIES = 4
"""A machine that is busy can be late for the gap."""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_killed_server_loses_nothing_and_does_nothing_twice(run, kind):
    """
    What was confirmed before the server was killed is on record as it was confirmed, whole, and once.
    """
    figures = await run(kill, 3, kind=kind)

    assert figures["ok"], str(figures)
    assert figures["answered"] > 0 < figures["resent"]


async def test_killed_service_loses_nothing(run):
    """
    The service as its command starts it is no different.
    """
    figures = await run(kill_service, 1, kind="sqlite")

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        ("acknowledge_before_commit", "lost"),
        ("two_transactions", "half_done"),
        ("no_unique_key", "duplicated"),
        ("idempotency_in_memory", "duplicated"),
    ],
)
async def test_kill_finds_broken_copies(run, fault, trouble):
    """
    A server that breaks its word in one of these ways is found out by being killed.
    """
    for _ in range(TRIES):
        figures = await run(kill, 1, kind="sqlite", fault=fault, load_ms=IN_THE_GAP_MS)
        if figures[trouble]:
            break

    assert not figures["ok"]
    assert figures[trouble] > 0, str(figures)
