"""The record in a SQLite file: what is on disk when, who may open it, and how it behaves when the disk does not."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.errors import ConfigError, OutcomeUnknown, Unavailable
from service.ledger import sqlite
from service.ledger.protocol import Outcome
from service.ledger.sqlite import LedgerLocked, SqliteLedger
from tests.ledger.ledger_cases import NOON, execution, fill, money

PROGRAM = Path(__file__).with_name("ledger_cases.py")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path):
    ledger = SqliteLedger.open(path, "simulated")
    yield ledger
    await ledger.close()


@pytest.fixture
def answer_soon(monkeypatch):
    """Let callers lose patience after 0.2 s, so that tests need not wait for 2."""
    monkeypatch.setattr(sqlite, "ANSWER_WITHIN_S", 0.2)


@contextmanager
def stuck_commit(ledger):
    """Keep the writer inside its next commit until the block ends; gives an event: it is there."""
    inside, go_on = threading.Event(), threading.Event()

    def wait(connection):
        inside.set()
        go_on.wait(10)

    sa.event.listen(ledger._engine, "commit", wait)
    try:
        yield inside
    finally:
        go_on.set()


@contextmanager
def locked_by_another(path):
    """Let another connection hold the write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def reaches(condition, within_s=5.0):
    """Wait until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.005)


async def until_recorded(ledger, client_order_id):
    """Try until the record answers: what went before may still be waiting for a lock."""
    for _ in range(20):
        try:
            return (await ledger.record(execution(client_order_id)))[0]
        except Unavailable:
            continue
    raise AssertionError("the record did not recover")


def select(path, statement):
    """Read the file past the ledger, as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


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
        order = asyncio.ensure_future(ledger.record(execution("a")))
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
        first = asyncio.ensure_future(ledger.record(execution()))
        await reaches(inside.is_set)
        rest = [asyncio.ensure_future(ledger.record(execution())) for _ in range(100)]
        await reaches(lambda: ledger._writer._waiting.qsize() == 100)
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
        execution("c", fills=(fill(), fill(venue=None))),
        execution("c"),
        execution("d"),
    ]
    with stuck_commit(ledger) as inside:
        first = asyncio.ensure_future(ledger.record(execution()))
        await reaches(inside.is_set)
        rest = [asyncio.ensure_future(ledger.record(order)) for order in orders]
        await reaches(lambda: ledger._writer._waiting.qsize() == len(orders))
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
    await ledger.record(execution("a"))

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
    await ledger.record(execution("a", requested_quantity=None, requested_total=money("304.20000001"), fills=(dust,)))

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
    await ledger.record(execution(quote_key=b"q" * 16))
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
    await ledger.record(execution())
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM fills")
        connection.execute("DELETE FROM executions")
    await ledger.record(execution())

    assert [(2,)] == select(path, "SELECT seq FROM executions")


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
        await ledger.record(execution())
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


# Trouble


async def test_database_locked_by_another_is_unavailable_and_recovers(ledger, path):
    """
    While another program locks the file orders are refused in time, reads go on, and afterwards all is well.
    """
    await ledger.record(execution("before"))
    with locked_by_another(path):
        started = time.monotonic()
        results = await asyncio.gather(*(ledger.record(execution(f"{n}")) for n in range(5)), return_exceptions=True)
        assert time.monotonic() - started < 2.5
        assert await ledger.find_client_order("demo", "before") is not None
    assert [("ledger_unavailable", Unavailable)] * 5 == [(error.code, type(error)) for error in results]

    assert (await ledger.record(execution("after")))[0] is Outcome.RECORDED
    assert [("before",), ("after",)] == select(path, "SELECT client_order_id FROM executions ORDER BY seq")


async def test_short_lock_of_another_is_waited_out(ledger, path):
    """
    A backup that has the file for a moment makes orders wait, not fail.
    """
    with locked_by_another(path):
        order = asyncio.ensure_future(ledger.record(execution()))
        await reaches(lambda: ledger._writer._waiting.empty() and not order.done())
        await asyncio.sleep(0.1)

    assert (await order)[0] is Outcome.RECORDED


async def test_order_taken_back_never_runs(ledger, path, answer_soon):
    """
    Who was told that nothing was executed can rely on it, even if the database is free a moment later.
    """
    with locked_by_another(path):
        with pytest.raises(Unavailable, match="nothing was executed") as refused:
            await ledger.record(execution("taken back"))
        assert not isinstance(refused.value, OutcomeUnknown)
    await until_recorded(ledger, "after")

    assert [("after",)] == select(path, "SELECT client_order_id FROM executions ORDER BY seq")


async def test_order_behind_a_slow_disk_is_taken_back(ledger, path, answer_soon):
    """
    An order that waited behind a slow commit and did not begin is refused for certain and never runs.
    """
    with stuck_commit(ledger) as inside:
        first = asyncio.ensure_future(ledger.record(execution("first")))
        await reaches(inside.is_set)
        with pytest.raises(Unavailable) as refused:
            await ledger.record(execution("second"))
        with pytest.raises(OutcomeUnknown):
            await first
    await until_recorded(ledger, "third")

    assert ("ledger_unavailable", Unavailable) == (refused.value.code, type(refused.value))
    assert [("first",), ("third",)] == select(path, "SELECT client_order_id FROM executions ORDER BY seq")


async def test_slow_commit_leaves_the_outcome_unknown(ledger, answer_soon):
    """
    If the disk does not answer in time nobody guesses; asking again tells.
    """
    with stuck_commit(ledger):
        with pytest.raises(OutcomeUnknown) as unknown:
            await ledger.record(execution("a"))
        assert "outcome_unknown" == unknown.value.code
    await until_recorded(ledger, "b")

    assert await ledger.find_client_order("demo", "a") is not None


async def test_slow_reader_is_unavailable_and_recovers(ledger, answer_soon):
    """
    A question that gets no answer in time is refused; the next one is answered.
    """
    go_on = threading.Event()
    ledger._reader.submit(go_on.wait, 10)
    with pytest.raises(Unavailable, match="ledger_unavailable"):
        await ledger.keys()
    go_on.set()

    assert [] == await ledger.keys()


async def test_full_disk_is_unavailable_and_recovers(ledger, path):
    """
    On a full disk orders are refused whole, reads go on, and once there is room again so do orders.
    """
    await ledger.record(execution("before"))
    with ledger._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    large = [execution(f"{n}", quote_key=bytes([n]) * 16, fills=(fill(),) * 500) for n in range(8)]
    results = await asyncio.gather(*map(ledger.record, large), return_exceptions=True)

    assert {("ledger_unavailable", Unavailable)} == {(error.code, type(error)) for error in results}
    assert await ledger.find_client_order("demo", "before") is not None
    assert await ledger.quote_used(bytes(16)) is False
    assert [(1, 2, 0)] == select(
        path,
        "SELECT (SELECT count(*) FROM executions), (SELECT count(*) FROM fills), (SELECT count(*) FROM quote_uses)",
    )

    with ledger._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert {Outcome.RECORDED} == {(await ledger.record(one))[0] for one in large}


async def test_full_queue_is_overloaded(path, monkeypatch):
    """
    When too many orders wait the next is turned away at once; those that wait are recorded.
    """
    monkeypatch.setattr(sqlite, "QUEUE_MAX", 3)
    ledger = SqliteLedger.open(path, "simulated")
    with stuck_commit(ledger) as inside:
        waiting = [asyncio.ensure_future(ledger.record(execution()))]
        await reaches(inside.is_set)
        waiting += [asyncio.ensure_future(ledger.record(execution())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await ledger.record(execution())
        assert "overloaded" == refused.value.code

    assert {Outcome.RECORDED} == {outcome for outcome, _ in await asyncio.gather(*waiting)}
    await ledger.close()


async def test_more_orders_than_a_batch_holds_are_all_recorded(path, monkeypatch):
    """
    A long queue is worked off in several commits.
    """
    monkeypatch.setattr(sqlite, "BATCH_MAX", 4)
    ledger = SqliteLedger.open(path, "simulated")
    outcomes = await asyncio.gather(*(ledger.record(execution()) for _ in range(50)))
    await ledger.close()

    assert {Outcome.RECORDED} == {outcome for outcome, _ in outcomes}
    assert [(50,)] == select(path, "SELECT count(*) FROM executions")


async def test_damaged_file_is_unavailable_not_an_accident(path):
    """
    Where the file is damaged, reading and writing are refused as unavailable; the rest goes on.
    """
    ledger = SqliteLedger.open(path, "simulated")
    await ledger.record(execution())
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'executions'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    ledger = SqliteLedger.open(path, "simulated")

    with pytest.raises(Unavailable, match="ledger_unavailable"):
        await ledger.record(execution())
    with pytest.raises(Unavailable, match="ledger_unavailable"):
        await ledger.executions("demo")
    assert [] == await ledger.keys()
    await ledger.close()


async def test_moved_copy_of_the_file_is_the_same_record(path, tmp_path):
    """
    A closed ledger is one file: it can be copied elsewhere and opened.
    """
    ledger = SqliteLedger.open(path, "simulated")
    await ledger.record(execution("a"))
    await ledger.revoke_key("none", NOON)
    await ledger.close()
    shutil.copy(path, tmp_path / "copy.db")
    copy = SqliteLedger.open(tmp_path / "copy.db", "simulated")

    assert ledger.ledger_id == copy.ledger_id
    assert await copy.find_client_order("demo", "a") is not None
    await copy.close()


async def test_killed_writer_of_another_program_is_recovered_from(path):
    """
    A program killed while it held the write lock does not keep us out.
    """
    ledger = SqliteLedger.open(path, "simulated")
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE')"
    )
    program += "; print(1, flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program, path], stdin=pipe, stdout=pipe) as other:  # noqa: ASYNC220
        other.stdout.readline()
        waiting = asyncio.ensure_future(ledger.record(execution()))
        await asyncio.sleep(0)
        other.kill()
        assert (await waiting)[0] is Outcome.RECORDED
    await ledger.close()
