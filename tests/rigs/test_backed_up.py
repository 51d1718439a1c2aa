"""A backup that is taken under load holds all that was confirmed before it began."""

from __future__ import annotations

import pytest

from tests.rigs.backup import backup

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


@pytest.mark.broken_copy
async def test_backup_finds_that_the_file_alone_is_no_backup(run):
    """
    What stands in the write-ahead log is missing from a copy of the ledger's file.
    """
    figures = await run(backup, kind="sqlite", careless=True, **SHORTENED)

    assert not figures["ok"]
    assert figures["missing"] > 0 < figures["lost"], str(figures)
