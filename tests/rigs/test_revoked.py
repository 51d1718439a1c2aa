"""A key that is revoked stops working everywhere, at once or soon after."""

from __future__ import annotations

import pytest

from tests.rigs.revocation import revocation


@pytest.mark.parametrize(("kind", "way"), [("sqlite", "command"), ("postgresql", "route")])
async def test_revocation_holds_within_a_second_on_every_process(run, kind, way):
    """
    Under 50 requests a second to each process the last one that is granted comes within a second.
    """
    figures = await run(revocation, 1, kind=kind, ways=(way,))

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
async def test_revocation_finds_broken_copies(run):
    """
    A service that keeps a revoked key in force is found out.
    """
    figures = await run(revocation, 1, kind="postgresql", ways=("route",), fault="keys_stay_in_force")

    assert not figures["ok"]
    assert figures["last_success_after_s"] > 1 and 200 in figures["unexpected"], str(figures)
