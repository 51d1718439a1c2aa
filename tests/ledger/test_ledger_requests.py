"""Which request a row of the journal was written for: on the row, under the chain, and not in the way of older rows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import sqlalchemy as sa

from service.ledger import schema
from service.ledger.journal import BEGINNING, chained
from service.ledger.postgres import PostgresLedger
from service.ledger.protocol import Changes
from service.ledger.sqlite import SqliteLedger
from service.ledger.verify import verify
from service.tracing import handled
from tests.databases import ask
from tests.ledger.ledger_cases import (
    NOON,
    STARTING,
    TRACE,
    Outcome,
    claim,
    execution,
    firm_quote,
    handling,
    hold_for,
    in_one_batch,
    record,
)

BACK = (
    "ALTER TABLE journal DROP COLUMN request_id",
    "ALTER TABLE journal DROP COLUMN trace_id",
    "UPDATE alembic_version SET version_num = '0004'",
)
"""What makes a ledger one of the version before."""


def journal(ledger):
    """Give kind, request and trace of each row, oldest first."""
    one = schema.journal.c
    with ledger._read_engine.connect() as connection:
        rows = connection.execute(sa.select(one.kind, one.request_id, one.trace_id).order_by(one.seq))
        return [tuple(row) for row in rows]


def faults(ledger):
    with ledger._read_engine.connect() as connection:
        return verify(connection).faults


async def test_each_row_says_which_request_it_was_written_for(ledger):
    """
    An order, a firm quote and an opening lead back to their requests, and so does what opened the account on the way.
    """

    async def ask_as(request_id, trace_id, work):
        with handling(request_id, trace_id):
            return await work

    quiet = ledger.transact(claim(), lambda state: (None, Changes("deposit")))
    await in_one_batch(
        ledger,
        ask_as("r1", TRACE, record(ledger, execution("a"))),
        ask_as("r2", None, hold_for(ledger, firm_quote("f"))),
        quiet,
        ask_as("r3", None, ledger.open_account("bob", NOON)),
    )

    assert [
        ("account", "r1", TRACE),
        ("execution", "r1", TRACE),
        ("firm_quote", "r2", None),
        ("deposit", None, None),
        ("account", "r3", None),
    ] == journal(ledger)[2:]  # After what the others waited for.
    assert [] == faults(ledger)


async def test_order_that_is_sent_again_stays_with_its_first_request(ledger):
    """
    A retry has an id of its own, and changes nothing of what was recorded for the first.
    """
    one = execution("a")
    with handling("first", TRACE):
        await record(ledger, one)
    with handling("second"):
        outcome, _ = await record(ledger, one)

    assert Outcome.KNOWN is outcome
    assert {("first", TRACE)} == {row[1:] for row in journal(ledger)}


async def test_writer_is_not_the_first_request_s(ledger):
    """
    The ledger's writer begins with the first request, and works for all: what it says is not laid at that one's door.
    """
    with handling("r1"):
        assert await ledger.transact(claim(), lambda state: (handled(), None)) is None
        assert "r1" == handled().request_id
        await record(ledger, execution("a"))
    await record(ledger, execution("b"))

    assert [("account", "r1", None), ("execution", "r1", None), ("execution", None, None)] == journal(ledger)


def test_row_without_a_request_is_hashed_as_ever():
    """
    Rows of earlier versions lead to the hashes that those versions wrote.
    """
    row = (1, "a1", "deposit", "demo", "2026-11-01T12:00:00.000000Z")
    entries = [(0, "demo", "USDT", 5), (1, "world", "USDT", -5)]
    written = "972b57dfafcd21b095dd67e8c5a3214cf5b0d940393fd4e7344a09bdd49fc13c"

    assert written == chained(BEGINNING, row, entries=entries).hex()
    assert written == chained(BEGINNING, (*row, None, None), entries=entries).hex()
    assert written != chained(BEGINNING, (*row, "r1", None), entries=entries).hex()


async def forward(ledger, reopen, back):
    """Write a row, have the record made one of the version before, bring it forward, and write another."""
    await record(ledger, execution("a"))
    await ledger.close()
    back()
    ledger = reopen()
    before = faults(ledger)
    with handling("r1"):
        await record(ledger, execution("b"))
    seen = journal(ledger), before, faults(ledger)
    await ledger.close()
    return seen


FORWARD = [("account", None, None), ("execution", None, None), ("execution", "r1", None)], [], []


async def test_sqlite_record_of_the_version_before_stays_proved(tmp_path, empty_ledger):
    """
    Rows that know no request are proved after the upgrade as before it, and the chain goes on from them.
    """
    path = tmp_path / "ledger.db"
    shutil.copy(empty_ledger, path)

    def back():
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(";".join(BACK))

    assert FORWARD == await forward(
        SqliteLedger.open(path, "simulated", STARTING), lambda: SqliteLedger.open(path, "simulated", STARTING), back
    )


async def test_postgres_record_of_the_version_before_stays_proved(postgres_url):
    """
    The same on PostgreSQL.
    """

    def back():
        for statement in BACK:
            ask(postgres_url, statement)

    assert FORWARD == await forward(
        PostgresLedger.open(postgres_url, "simulated", STARTING),
        lambda: PostgresLedger.open(postgres_url, "simulated", STARTING),
        back,
    )
