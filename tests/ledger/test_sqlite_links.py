"""One file is one record under every name; a closed record says so at once; errors repeat no values."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from service.errors import ConfigError, Unavailable
from service.ledger.sqlite import LedgerLocked, SqliteLedger
from tests.ledger.ledger_cases import execution, record


@pytest.mark.parametrize("linked", ["file", "folder"])
async def test_link_to_an_open_ledger_is_that_ledger(tmp_path, linked):
    """
    A second server does not get in through another name of the file: one lock holds for all of them.
    """
    path = tmp_path / "real" / "ledger.db"
    ledger = SqliteLedger.open(path, "simulated")
    link = tmp_path / ("link.db" if linked == "file" else "link")
    link.symlink_to(path if linked == "file" else path.parent)

    with pytest.raises(LedgerLocked, match="another process has"):
        SqliteLedger.open(link if linked == "file" else link / "ledger.db", "simulated")
    await ledger.close()


def test_links_in_a_circle_are_refused(tmp_path):
    """
    A name that leads nowhere is a sentence for the operator.
    """
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to("a.db")

    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteLedger.open(tmp_path / "a.db", "simulated")


async def test_closed_ledger_refuses_at_once(tmp_path):
    """
    What comes after the close is refused without waiting, reads and writes alike; closing again is nothing.
    """
    ledger = SqliteLedger.open(tmp_path / "ledger.db", "simulated")
    await ledger.close()
    await ledger.close()

    started = time.monotonic()
    for late in (record(ledger, execution()), ledger.find_client_order("demo", "a"), ledger.keys()):
        with pytest.raises(Unavailable, match="ledger_unavailable"):
            await late
    assert time.monotonic() - started < 1


async def test_errors_do_not_repeat_what_was_to_be_written(tmp_path, logged):
    """
    An operation that breaks is logged without its values: receipts belong to clients.
    """
    ledger = SqliteLedger.open(tmp_path / "ledger.db", "simulated")
    first = execution(client_order_id="first")
    await record(ledger, first)

    with pytest.raises((Unavailable, sa.exc.IntegrityError)) as refused:
        await record(ledger, execution(client_order_id="clients-own", execution_id=first.execution_id))

    assert "clients-own" not in str(refused.value)
    assert "clients-own" not in repr(logged)
    await ledger.close()
