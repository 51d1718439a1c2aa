"""A backup that is taken under load holds all that was confirmed before it began; and how fast a record grows."""

from __future__ import annotations

import pytest

from tests.rigs.backup import backup
from tests.rigs.growth import growth

SHORTENED = {"filling_s": 2.0, "steady_s": 2.0}


@pytest.mark.rig
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_restored_backup_has_every_confirmed_execution_and_trades_on(run, kind):
    """
    Byte for byte, proved, under the same keys, in another place.
    """
    figures = await run(backup, kind=kind, **SHORTENED)

    assert figures["ok"], str(figures)
    assert figures["confirmed_before"] > 0 < figures["confirmed_meanwhile"]


@pytest.mark.rig
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_more_fills_take_more_of_the_record(run, kind):
    """
    An order that reaches deep is larger on record than one that is filled at the top.
    """
    figures = await run(growth, kind=kind, times=40, idle_s=0.0, watched_s=0.0)

    assert figures["ok"], str(figures)
    assert figures["small"]["fills_each"] < figures["large"]["fills_each"], str(figures)
    assert figures["small"]["bytes_each"] < figures["large"]["bytes_each"], str(figures)


@pytest.mark.broken_copy
async def test_backup_finds_that_the_file_alone_is_no_backup(run):
    """
    What stands in the write-ahead log is missing from a copy of the ledger's file.
    """
    figures = await run(backup, kind="sqlite", careless=True, **SHORTENED)

    assert not figures["ok"]
    assert figures["missing"] > 0 < figures["lost"], str(figures)
