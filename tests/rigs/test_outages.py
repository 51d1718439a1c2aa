"""Without a disk or a database, orders are refused in good time, and all goes on by itself afterwards."""

from __future__ import annotations

import pytest

from tests.rigs.connections import cut_at_commit, restarts
from tests.rigs.outages import Within, outage

pytestmark = pytest.mark.rig

UNHURRIED = Within(refused_s=15, health_ms=5_000, back_s=30)
"""On a machine that runs other tests too, figures of time say nothing."""


@pytest.mark.parametrize(
    ("kind", "how", "seconds"),
    [
        ("sqlite", "locked", 3),  # Longer than anybody may wait for an answer.
        ("postgresql", "locked", 3),
        ("sqlite", "nothing written", 1),
    ],
)
async def test_outage_refuses_and_passes(run, kind, how, seconds):
    """
    While the record cannot be written, an order gets 503 and is not executed; afterwards it is, without a restart.
    """
    figures = await run(outage, how, seconds, kind=kind, within=UNHURRIED)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(
    ("how", "seconds", "fault"),
    [
        ("locked", 3, "patient"),
        ("nothing written", 1, "never_again"),
    ],
)
async def test_outage_finds_broken_copies(run, how, seconds, fault):
    """
    A service that lets callers wait for the disk, or gives it up for good, is found out.
    """
    figures = await run(
        outage, how, seconds, kind="sqlite", fault=fault, within=UNHURRIED._replace(refused_s=2.5, back_s=1)
    )

    assert not figures["ok"]
    assert figures["slowest_s"] > 2.5 or figures["back_s"] is None, str(figures)


async def test_connection_cut_at_commit_does_each_order_once(run):
    """
    Whether COMMIT arrived or not, each order is done once, and nobody hears of a fill that is not on record.
    """
    figures = await run(cut_at_commit, 12)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(
    ("fault", "mode", "trouble"),
    [
        ("commit_believed", "before", "lost"),
        ("commit_disbelieved", "after", "denied"),
    ],
)
async def test_connection_cut_finds_guesses(run, fault, mode, trouble):
    """
    A ledger that guesses the outcome of a COMMIT confirms what is not there, or denies what is.
    """
    figures = await run(cut_at_commit, 4, fault=fault, modes=(mode,))

    assert not figures["ok"]
    assert figures[trouble] > 0, str(figures)


async def test_restarted_database_is_used_again(run):
    """
    When PostgreSQL is back after a crash, orders are filled again at once.
    """
    figures = await run(restarts, 1, back_within_s=UNHURRIED.back_s)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
async def test_restart_finds_a_database_given_up(run):
    """
    A service that never asks the database again is found out.
    """
    figures = await run(restarts, 1, fault="never_again", back_within_s=1)

    assert not figures["ok"]
    assert figures["back_max_s"] is None, str(figures)
