"""The record in a SQLite file when the disk is full, slow, locked or damaged: refused whole, and back later."""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from service.errors import OutcomeUnknown, Unavailable
from service.ledger import sql, sqlite
from service.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import (
    NOON,
    STARTING,
    Outcome,
    execution,
    fill,
    quote_used,
    reaches,
    record,
    select,
    stuck_commit,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path):
    ledger = SqliteLedger.open(path, "simulated", STARTING)
    yield ledger
    await ledger.close()


@pytest.fixture
def answer_soon(monkeypatch):
    """Let callers lose patience after 0.2 s, so that tests need not wait for 2."""
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 0.2)


@contextmanager
def locked_by_another(path):
    """Let another connection hold the write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def until_recorded(ledger, client_order_id):
    """Try until the record answers: what went before may still be waiting for a lock."""
    for _ in range(20):
        try:
            return (await record(ledger, execution(client_order_id)))[0]
        except Unavailable:
            continue
    raise AssertionError("the record did not recover")


async def test_database_locked_by_another_is_unavailable_and_recovers(ledger, path):
    """
    While another program locks the file orders are refused in time, reads go on, and afterwards all is well.
    """
    await record(ledger, execution("before"))
    with locked_by_another(path):
        started = time.monotonic()
        results = await asyncio.gather(*(record(ledger, execution(f"{n}")) for n in range(5)), return_exceptions=True)
        assert time.monotonic() - started < 2.5
        assert await ledger.find_client_order("demo", "before") is not None
    assert [("ledger_unavailable", Unavailable)] * 5 == [(error.code, type(error)) for error in results]

    assert (await record(ledger, execution("after")))[0] is Outcome.RECORDED
    assert [("before",), ("after",)] == select(path, "SELECT client_order_id FROM executions ORDER BY seq")


async def test_short_lock_of_another_is_waited_out(ledger, path):
    """
    A backup that has the file for a moment makes orders wait, not fail.
    """
    with locked_by_another(path):
        order = asyncio.ensure_future(record(ledger, execution()))
        await reaches(lambda: not ledger._waiting and not order.done())
        await asyncio.sleep(0.1)

    assert (await order)[0] is Outcome.RECORDED


async def test_order_taken_back_never_runs(ledger, path, answer_soon):
    """
    Who was told that nothing was executed can rely on it, even if the database is free a moment later.
    """
    with locked_by_another(path):
        with pytest.raises(Unavailable, match="nothing was executed") as refused:
            await record(ledger, execution("taken back"))
        assert not isinstance(refused.value, OutcomeUnknown)
    await until_recorded(ledger, "after")

    assert [("after",)] == select(path, "SELECT client_order_id FROM executions ORDER BY seq")


async def test_order_behind_a_slow_disk_is_taken_back(ledger, path, answer_soon):
    """
    An order that waited behind a slow commit and did not begin is refused for certain and never runs.
    """
    with stuck_commit(ledger) as inside:
        first = asyncio.ensure_future(record(ledger, execution("first")))
        await reaches(inside.is_set)
        with pytest.raises(Unavailable) as refused:
            await record(ledger, execution("second"))
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
            await record(ledger, execution("a"))
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
    await record(ledger, execution("before"))
    with ledger._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    large = [execution(f"{n}", quote_key=bytes([n]) * 16, fills=(fill(),) * 500) for n in range(8)]
    results = await asyncio.gather(*(record(ledger, one) for one in large), return_exceptions=True)

    assert {("ledger_unavailable", Unavailable)} == {(error.code, type(error)) for error in results}
    assert await ledger.find_client_order("demo", "before") is not None
    assert await quote_used(ledger, bytes(16)) is False
    assert [(1, 2, 0)] == select(
        path,
        "SELECT (SELECT count(*) FROM executions), (SELECT count(*) FROM fills), (SELECT count(*) FROM quote_uses)",
    )

    with ledger._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert {Outcome.RECORDED} == {(await record(ledger, one))[0] for one in large}


async def test_more_orders_than_a_batch_holds_are_all_recorded(path, monkeypatch):
    """
    A long queue is worked off in several commits.
    """
    monkeypatch.setattr(sql, "BATCH_MAX", 4)
    ledger = SqliteLedger.open(path, "simulated")
    outcomes = await asyncio.gather(*(record(ledger, execution()) for _ in range(50)))
    await ledger.close()

    assert {Outcome.RECORDED} == {outcome for outcome, _ in outcomes}
    assert [(50,)] == select(path, "SELECT count(*) FROM executions")


async def test_damaged_file_is_unavailable_not_an_accident(path):
    """
    Where the file is damaged, reading and writing are refused as unavailable; the rest goes on.
    """
    ledger = SqliteLedger.open(path, "simulated")
    await record(ledger, execution())
    await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'executions'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    ledger = SqliteLedger.open(path, "simulated")

    with pytest.raises(Unavailable, match="ledger_unavailable"):
        await record(ledger, execution())
    with pytest.raises(Unavailable, match="ledger_unavailable"):
        await ledger.executions("demo")
    assert [] == await ledger.keys()
    await ledger.close()


async def test_moved_copy_of_the_file_is_the_same_record(path, tmp_path):
    """
    A closed ledger is one file: it can be copied elsewhere and opened.
    """
    ledger = SqliteLedger.open(path, "simulated")
    await record(ledger, execution("a"))
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
        waiting = asyncio.ensure_future(record(ledger, execution()))
        await asyncio.sleep(0)
        other.kill()
        assert (await waiting)[0] is Outcome.RECORDED
    await ledger.close()


async def test_long_lock_of_another_is_unavailable_all_along(path, monkeypatch):
    """
    However long another program locks the file, and whenever orders come, they are refused for certain.
    """
    monkeypatch.setitem(sqlite._PRAGMAS, "busy_timeout", ("50", 50))
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 0.07)  # Some give up while they wait for the lock, some before.
    ledger, refusals = SqliteLedger.open(path, "simulated", STARTING), []

    async def client(name):
        for n in range(8):
            with pytest.raises(Unavailable) as refused:
                await record(ledger, execution(f"{name}-{n}"))
            refusals.append((refused.value.code, type(refused.value)))
            assert [] == await ledger.keys()

    with locked_by_another(path):
        await asyncio.gather(*map(client, "abcde"))
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 60)

    assert [("ledger_unavailable", Unavailable)] * 40 == refusals
    assert Outcome.RECORDED is (await record(ledger, execution("after")))[0]
    assert [("after",)] == select(path, "SELECT client_order_id FROM executions")
    await ledger.close()


async def test_file_that_may_not_grow_is_unavailable_and_recovers(ledger, path):
    """
    Where the write-ahead log hits the end of the disk at the COMMIT nothing is half done, and later all is well.
    """
    await record(ledger, execution("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name("ledger.db-wal").stat().st_size
    large = [execution(f"{n}", quote_key=bytes([n]) * 16, fills=(fill(),) * 300) for n in range(4)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10_000, hard))
    try:
        results = [
            result for one in large for result in await asyncio.gather(record(ledger, one), return_exceptions=True)
        ]
        assert await ledger.find_client_order("demo", "before") is not None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert [("ledger_unavailable", Unavailable)] * 4 == [(error.code, type(error)) for error in results]
    assert [("before",)] == select(path, "SELECT client_order_id FROM executions")
    before = await ledger.holdings("demo", NOON)
    assert STARTING["USDT"] + select(path, "SELECT sum(amount) FROM entries WHERE account = 'demo' AND seq > 1"
        " AND asset = 'USDT'")[0][0] == before.balance("USDT").total  # fmt: skip

    assert [Outcome.RECORDED] * 4 == [(await record(ledger, one))[0] for one in large]
    assert [("ok",)] == select(path, "PRAGMA integrity_check")
    assert [] == select(path, "PRAGMA foreign_key_check")
