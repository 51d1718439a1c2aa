"""The record in a SQLite file: what is on disk when, who may open it, and how it behaves when the disk does not."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import ConfigError
from service.ledger import sqlite
from service.ledger.sqlite import LedgerLocked, SqliteLedger
from tests.ledger.ledger_cases import (
    Outcome,
    execution,
    fill,
    money,
    reaches,
    record,
    select,
    stuck_commit,
)

PROGRAM = Path(__file__).with_name("ledger_cases.py")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path):
    ledger = SqliteLedger.open(path, "simulated")
    yield ledger
    await ledger.close()


def refusal_of(path, mode="simulated"):
    """Open what must be refused; give the one sentence."""
    with pytest.raises(ConfigError) as refused:
        SqliteLedger.open(path, mode)
    (sentence,) = refused.value.problems
    assert sentence.startswith("ledger.url: ") and "\n" not in sentence
    return sentence


# On disk before the answer


@pytest.mark.parametrize("engine", ["_engine", "_read_engine"])
async def test_connections_are_set_to_lose_nothing(ledger, engine):
    """
    Every connection has a write-ahead log, syncs at every commit, checks references and waits for locks.
    """
    with getattr(ledger, engine).connect() as connection:
        found = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 1500} == found


@pytest.mark.parametrize(
    ("pragma", "weaker"),
    [("synchronous", "NORMAL"), ("synchronous", "OFF"), ("foreign_keys", "OFF"), ("busy_timeout", "0")],
)
async def test_weaker_settings_are_read_back_and_refused(path, monkeypatch, pragma, weaker):
    """
    A database that does not keep what was asked of it is not used, and is free for the next try.
    """
    monkeypatch.setitem(sqlite._PRAGMAS, pragma, (weaker, sqlite._PRAGMAS[pragma][1]))

    assert f"does not keep {pragma}={weaker}; it would lose what was confirmed" in refusal_of(path)

    monkeypatch.undo()
    await SqliteLedger.open(path, "simulated").close()


async def test_database_that_has_no_write_ahead_log_is_refused(path, monkeypatch):
    """
    A file system on which SQLite falls back to another journal is no place for the record.
    """
    monkeypatch.setitem(sqlite._PRAGMAS, "journal_mode", ("DELETE", "wal"))

    assert "does not keep journal_mode" in refusal_of(path)


async def test_nothing_is_acknowledged_before_it_is_committed(ledger, path):
    """
    While the commit is under way the order has no answer, and nobody else sees it.
    """
    with stuck_commit(ledger) as inside:
        order = asyncio.ensure_future(record(ledger, execution("a")))
        await reaches(inside.is_set)
        await asyncio.sleep(0.02)
        assert not order.done()
        assert [(0,)] == select(path, "SELECT count(*) FROM executions")
        assert await ledger.find_client_order("demo", "a") is None

    assert (await order)[0] is Outcome.RECORDED
    assert [("a",)] == select(path, "SELECT client_order_id FROM executions ORDER BY seq")


async def test_orders_that_wait_share_one_commit(ledger):
    """
    While one commit is synced the others gather, and the next commit takes them all.
    """
    commits = []
    sa.event.listen(ledger._engine, "commit", commits.append)
    with stuck_commit(ledger) as inside:
        first = asyncio.ensure_future(record(ledger, execution()))
        await reaches(inside.is_set)
        rest = [asyncio.ensure_future(record(ledger, execution())) for _ in range(100)]
        await reaches(lambda: len(ledger._waiting) == 100)
    await asyncio.gather(first, *rest)

    assert 2 == len(commits)


async def test_batch_with_repeats_and_a_broken_order_settles_each_for_itself(ledger):
    """
    Inside one shared commit: one id twice, one quote twice, and an order that the database refuses.
    """
    quote = b"q" * 16
    orders = [
        execution("a", quote_key=quote),
        execution("a", quote_key=quote),
        execution("b", quote_key=quote),
        execution("c", fills=(fill(), fill(book_age_ms=None))),
        execution("c"),
        execution("d"),
    ]
    with stuck_commit(ledger) as inside:
        first = asyncio.ensure_future(record(ledger, execution()))
        await reaches(inside.is_set)
        rest = [asyncio.ensure_future(record(ledger, order)) for order in orders]
        await reaches(lambda: len(ledger._waiting) == len(orders))
    await first
    results = await asyncio.gather(*rest, return_exceptions=True)

    assert isinstance(results[3], sa.exc.IntegrityError)
    del results[3]
    assert [Outcome.RECORDED, Outcome.KNOWN, Outcome.QUOTE_USED, Outcome.RECORDED, Outcome.RECORDED] == [
        outcome for outcome, _ in results
    ]


async def test_amounts_are_kept_in_plain_notation(ledger, path):
    """
    The tables read as a person would write them: no exponents, no trailing zeros, fills best first.
    """
    await record(ledger, execution("a"))

    assert [("3", "0", "304.2", "2026-11-01T12:00:00.000000Z")] == select(
        path, "SELECT requested_quantity, markup, total, executed_at FROM executions"
    )
    assert [(0, "kraken", "101", "1", 7), (1, "coinbase", "101.5", "2", None)] == select(
        path, "SELECT n, venue, price, quantity, sequence FROM fills ORDER BY n"
    )


async def test_order_for_a_total_is_kept_as_it_was_asked(ledger, path):
    """
    An order for an amount of money has a total on record and no quantity asked for; every amount to its last digit.
    """
    dust = fill(price="0.000000000000000001", quantity="0.00000001")
    await record(ledger, execution("a", requested_quantity=None, requested_total=money("304.20000001"), fills=(dust,)))

    assert [(None, "304.20000001", "3")] == select(
        path, "SELECT requested_quantity, requested_total, filled_quantity FROM executions"
    )
    assert [("0.000000000000000001", "0.00000001")] == select(path, "SELECT price, quantity FROM fills")


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("executions", "account, client_order_id"),
        ("executions", "execution_id"),
        ("quote_uses", "quote_key"),
        ("fills", "execution_seq, n"),
    ],
)
async def test_database_itself_refuses_a_second_one(ledger, path, table, columns):
    """
    That an id or a quote counts once does not hang on the program alone.
    """
    await record(ledger, execution(quote_key=b"q" * 16))
    names = [name for _, name, *_ in select(path, f"PRAGMA table_info({table})")]
    # The same row once more, with every other column that has to be unique made different.
    other = {"seq": "seq + 1", "execution_id": "'x'", "client_order_id": "'x'"}
    values = [other.get(name, name) if name not in columns.split(", ") else name for name in names]

    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} FROM {table} LIMIT 1")


async def test_numbers_of_executions_are_not_given_twice(ledger, path):
    """
    A cursor never means another execution than it did, even if the newest ones were taken out by hand.
    """
    await record(ledger, execution())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM fills")
        connection.execute("DELETE FROM executions")
        connection.execute("DELETE FROM entries")
        connection.execute("DELETE FROM journal")
    await record(ledger, execution())

    assert [(3,)] == select(path, "SELECT seq FROM executions")


def test_killed_process_leaves_every_acknowledged_order_whole(path):
    """
    Kill -9 in the midst of recording, again and again: what was acknowledged is there, and nothing is there in part.
    """
    acknowledged = set()
    for cycle in range(3):
        with subprocess.Popen([sys.executable, PROGRAM, "record", path], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(random.Random(cycle).randrange(20, 300)):
                acknowledged.add(process.stdout.readline().strip())
            process.kill()
            acknowledged.update(line.strip() for line in process.stdout if line.endswith("\n"))
        asyncio.run(SqliteLedger.open(path, "simulated").close())

    assert acknowledged <= {
        client_order_id for (client_order_id,) in select(path, "SELECT client_order_id FROM executions ORDER BY seq")
    }
    whole = select(
        path,
        "SELECT (SELECT count(*) FROM fills WHERE execution_seq = seq),"
        " (SELECT count(*) FROM quote_uses WHERE execution_seq = seq AND quote_uses.quote_key = executions.quote_key)"
        " FROM executions",
    )
    assert {(2, 1)} == set(whole)
    assert [(2 * len(whole), len(whole))] == select(
        path, "SELECT (SELECT count(*) FROM fills), (SELECT count(*) FROM quote_uses)"
    )
    assert [] == select(path, "PRAGMA foreign_key_check")
    assert [("ok",)] == select(path, "PRAGMA integrity_check")


# Who may open it


def test_one_process_has_it_open(path):
    """
    A second process is told who has the record; when the first is killed, it may open it at once.
    """
    with subprocess.Popen(
        [sys.executable, PROGRAM, "hold", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert "open\n" == holder.stdout.readline()
        with pytest.raises(LedgerLocked, match=r"another process has .*ledger\.db open"):
            SqliteLedger.open(path, "simulated")
        holder.kill()
        holder.wait()
        asyncio.run(SqliteLedger.open(path, "simulated").close())


async def test_closed_ledger_is_free(path):
    """
    Closing lets go of the lock; closing again does no harm.
    """
    for _ in range(2):
        ledger = SqliteLedger.open(path, "simulated")
        await ledger.close()
        await ledger.close()


@pytest.mark.parametrize(("made_under", "opened_under"), [("simulated", "live"), ("live", "simulated")])
async def test_mode_is_stamped(path, made_under, opened_under):
    """
    Simulated fills never stand among real ones, and the message says what to do.
    """
    await SqliteLedger.open(path, made_under).close()

    sentence = refusal_of(path, opened_under)

    assert f"made under service.mode '{made_under}' and does not open under '{opened_under}'" in sentence
    assert "name another file" in sentence
    await SqliteLedger.open(path, made_under).close()


async def test_files_are_open_to_their_owner_alone(tmp_path):
    """
    The record and its folder are nobody else's to read, whatever the umask.
    """
    path = tmp_path / "new" / "ledger.db"
    before = os.umask(0)
    try:
        ledger = SqliteLedger.open(path, "simulated")
        await record(ledger, execution())
    finally:
        os.umask(before)

    assert 0o700 == path.parent.stat().st_mode & 0o777
    assert {0o600} == {file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    await ledger.close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"id,price\n1,2\n", "is not a SQLite database; move it away or name another file"),
        (b"SQL", "is not a SQLite database"),
        (b"SQLite format 3\x00" + b"\xff" * 5_000, "cannot be used: file is not a database"),
        (b"SQLite format 3\x00", "cannot be used: file is not a database"),
    ],
)
async def test_foreign_file_is_refused_and_left_alone(path, content, expected):
    """
    A file that is something else is named, and not a byte of it changes.
    """
    path.write_bytes(content)

    assert expected in refusal_of(path)
    assert content == path.read_bytes()


async def test_database_of_another_program_is_refused_and_left_alone(path):
    """
    Our tables are not put among those of others.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE keys (id INTEGER PRIMARY KEY)")
    before = path.read_bytes()

    assert "is the database of another program; name another file" in refusal_of(path)
    assert before == path.read_bytes()


async def test_empty_file_becomes_a_ledger(path):
    """
    A file made beforehand, for its mode's sake, is taken.
    """
    path.touch(0o600)

    await SqliteLedger.open(path, "simulated").close()


async def test_newer_schema_is_refused(path):
    """
    A ledger that a later version has brought forward is not touched by an older one.
    """
    await SqliteLedger.open(path, "simulated").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    assert "was made by a newer version of this service" in refusal_of(path)
    assert [("9999",)] == select(path, "SELECT version_num FROM alembic_version")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (".", "Is a directory"),
        ("..", "Is a directory"),
        ("/", "is not the name of a file"),
        (":memory:", "is not the name of a file; the record is kept in one"),
        ("file/ledger.db", "its folder is a file"),
        ("nul\0.db", "not a file name"),
        ("x" * 300, "File name too long"),
        ("folder", "Is a directory"),
    ],
)
async def test_what_is_no_file_is_refused(tmp_path, monkeypatch, name, expected):
    """
    A name that cannot be a file's is refused in a sentence.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    assert expected in refusal_of(Path(name))


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
async def test_folder_without_permission_is_refused(tmp_path):
    """
    A folder that the user may not write to is named with the reason.
    """
    tmp_path.chmod(0o500)

    assert "Permission denied" in refusal_of(tmp_path / "ledger.db")


async def test_lock_that_the_file_system_cannot_give_is_not_another_process(path, monkeypatch):
    """
    "Another process has it open" is said only if that is so.
    """

    def no_locks(file, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(sqlite.fcntl, "flock", no_locks)

    assert "cannot be used: No locks available" in refusal_of(path)
