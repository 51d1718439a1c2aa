"""The proof of the record: whatever is changed behind the service's back is found, and the first bad row is named."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest

from exchanges.book import Side
from service.desk.accounts import deposit, settlement
from service.ledger.protocol import Changes, Claim
from service.ledger.verify import verify
from tests.ledger.ledger_cases import NOON, TRACE, execution, handling, money

STARTING = {"USDT": money(1_000_000), "BTC": money(10)}


@pytest.fixture
async def filled(ledger):
    """
    A ledger in which two accounts have bought and sold, one has been reset, and an order was refused; that one came
    with a request.
    """
    ledger._starting = STARTING
    for n, (account, side) in enumerate([("alice", "buy"), ("bob", "buy"), ("alice", "sell"), ("bob", "buy")]):
        await record(ledger, execution(account=account, side=side), n)
    with handling("r1", TRACE):
        await record(ledger, execution(account="alice", status="rejected", fees=0, total=0, filled_quantity=0), 4)
    await reset(ledger, "bob")
    await record(ledger, execution(account="bob"), 6)
    return ledger


async def record(ledger, one, minutes):
    claim = Claim(
        secrets.token_hex(16), one.account, NOON + timedelta(minutes=minutes), client_order_id=one.client_order_id
    )

    def decide(state):
        side, holdings = Side(one.side), state.holdings
        entries = settlement(one.account, one.symbol, side, one.fills) if one.fills else ()
        if entries:
            quantity = one.filled_quantity // 10**10
            holdings = holdings.with_entries(one.account, entries)
            holdings = holdings.with_fill(one.symbol, side, quantity, one.subtotal, one.total)
        return None, Changes("execution", execution=one, holdings=holdings, entries=entries)

    await ledger.transact(claim, decide)


async def reset(ledger, account):
    claim = Claim(secrets.token_hex(16), account, NOON)

    def decide(state):
        entries = deposit(
            account, {asset: STARTING[asset] - balance.total for asset, balance in state.holdings.balances.items()}
        )
        holdings = state.holdings.with_entries(account, entries)
        return None, Changes("reset", holdings=type(holdings)(holdings.balances), entries=entries)

    await ledger.transact(claim, decide)


def proof(ledger):
    with ledger._read_engine.connect() as connection:
        return verify(connection)


def tamper(ledger, *statements):
    """Change the database as somebody would who has it to himself: no constraint stops it."""
    connection = ledger._engine.raw_connection()
    sqlite = ledger._engine.dialect.name == "sqlite"
    off, on = ("OFF", "ON") if sqlite else ("replica", "origin")
    switch = "PRAGMA foreign_keys = {}" if sqlite else "SET session_replication_role = {}"
    cursor = connection.cursor()
    for statement in (switch.format(off), *statements, switch.format(on)):
        cursor.execute(statement)
    connection.commit()
    connection.close()


async def test_record_that_was_left_alone_is_proved(filled):
    """
    Everything adds up: as many rows as were written, and no fault.
    """
    report = proof(filled)

    assert [] == report.faults
    assert (9, 6) == (report.rows, report.executions)
    assert report.head[0] == filled.head[0]
    assert report.head[1] == filled.head[1]


async def test_proof_tells_how_far_it_is(filled, monkeypatch):
    """
    Whoever waits is told how many rows have been read, and of how many.
    """
    monkeypatch.setattr("service.ledger.verify._TOLD_EVERY", 4)
    told = []
    with filled._read_engine.connect() as connection:
        verify(connection, lambda *counted: told.append(counted))

    assert [(4, 9), (8, 9)] == told


async def test_empty_record_is_proved(ledger):
    """
    A record in which nothing has happened yet has nothing to be wrong.
    """
    assert [] == proof(ledger).faults


@pytest.mark.parametrize(("statements", "first"), [
    # An amount that is one unit larger.
    (["UPDATE entries SET amount = amount + 1 WHERE seq = 2 AND n = 0"], "journal row 2 "),
    # One character of an answer.
    (["UPDATE executions SET symbol = 'BTC/USDC' WHERE seq = 4"], "journal row 4 "),
    (["UPDATE executions SET fingerprint = receipt WHERE seq = 2"], "journal row 2 "),
    (["UPDATE fills SET price = '101.1' WHERE execution_seq = 4 AND n = 1"], "journal row 4 "),
    (["UPDATE journal SET account = 'bob' WHERE seq = 2"], "journal row 2 "),
    # Another's request, or none, or one where there was none.
    (["UPDATE journal SET request_id = 'r2' WHERE seq = 7"], "journal row 7 "),
    (["UPDATE journal SET request_id = NULL, trace_id = NULL WHERE seq = 7"], "journal row 7 "),
    (["UPDATE journal SET trace_id = NULL WHERE seq = 7"], "journal row 7 "),
    (["UPDATE journal SET request_id = '' WHERE seq = 2"], "journal row 2 "),
    # A row that is gone, with and without what hangs on it.
    (["DELETE FROM entries WHERE seq = 4 AND n = 1"], "journal row 4 "),
    (["DELETE FROM fills WHERE execution_seq = 4 AND n = 0"], "journal row 4 "),
    (["DELETE FROM journal WHERE seq = 5"], "the execution of journal row 5 stands without it"),
    (
        [
            "DELETE FROM entries WHERE seq = 5",
            "DELETE FROM fills WHERE execution_seq = 5",
            "DELETE FROM executions WHERE seq = 5",
            "DELETE FROM journal WHERE seq = 5",
        ],
        "journal row 5 is missing",
    ),
    # The last one.
    (
        [
            "DELETE FROM entries WHERE seq = 9",
            "DELETE FROM fills WHERE execution_seq = 9",
            "DELETE FROM executions WHERE seq = 9",
            "DELETE FROM journal WHERE seq = 9",
        ],
        "the journal ends with row 8",
    ),
    (["DELETE FROM executions WHERE seq = 7"], "journal row 7 "),
    # Two that changed places.
    (
        [
            "UPDATE entries SET seq = 1000 WHERE seq = 2",
            "UPDATE entries SET seq = 2 WHERE seq = 5",
            "UPDATE entries SET seq = 5 WHERE seq = 1000",
        ],
        "journal row 2 ",
    ),
    (
        [
            "UPDATE journal SET ref = 'x' WHERE seq = 2",
            "UPDATE journal SET ref = (SELECT ref FROM journal WHERE seq = 5) || 'y' WHERE seq = 2",
        ],
        "journal row 2 ",
    ),
    # What is derived.
    (["UPDATE balances SET total = 1 WHERE account = 'alice' AND asset = 'BTC'"], "the balance of alice in BTC"),
    (["DELETE FROM balances WHERE account = 'bob' AND asset = 'USDT'"], "the balance of bob in USDT is missing"),
    (["UPDATE balances SET held = 1 WHERE account = 'bob' AND asset = 'BTC'"], "of bob's BTC 1 is held"),
    (["UPDATE positions SET cost = cost + 1 WHERE account = 'bob'"], "the position of bob in BTC/USDT"),
    (["UPDATE ledger SET journal_seq = 8"], "the journal ends with row 9"),
])  # fmt: skip
async def test_whatever_was_changed_is_found_and_the_first_row_named(filled, statements, first):
    """
    Nothing can be edited, removed or swapped without a sentence that says where.
    """
    tamper(filled, *statements)

    faults = proof(filled).faults

    assert faults
    assert faults[0].startswith(first)


@pytest.mark.parametrize(("statement", "faults"), [
    ("UPDATE entries SET amount = 'much' WHERE seq = 2 AND n = 0", ["journal row 2 (", "journal row 2 has"]),
    ("UPDATE executions SET total = 'much' WHERE seq = 4", ["journal row 4 (", "journal row 4 has"]),
    ("UPDATE executions SET side = 'both' WHERE seq = 4", ["journal row 4 (", "journal row 4 has"]),
    # What comes after it is chained to it as well.
    ("UPDATE journal SET hash = 'none' WHERE seq = 4", ["journal row 4 (", "journal row 5 ("]),
    ("UPDATE ledger SET journal_hash = 'none'", ["the journal ends with row 9, and the ledger says with row 9"]),
    ("UPDATE balances SET total = 'much' WHERE account = 'bob'", ["the balance of bob in BTC is much"]),
    ("UPDATE positions SET cost = 'much' WHERE account = 'bob'", ["the position of bob in BTC/USDT"]),
    ("DELETE FROM ledger", ["the ledger's own row is missing"]),
])  # fmt: skip
@pytest.mark.parametrize("implementation", ["sqlite"], indirect=True)
async def test_what_is_of_another_kind_is_found_too(filled, statement, faults):
    """
    SQLite takes any value for any column: it is a fault like any other, and no end of the proof.
    """
    tamper(filled, statement)

    found = proof(filled).faults

    assert faults == [found[n][: len(fault)] for n, fault in enumerate(faults)]


async def test_one_fault_is_told_once(filled):
    """
    A row that was changed does not make every row after it look changed.
    """
    tamper(filled, "UPDATE executions SET receipt = fingerprint WHERE seq = 2")

    assert ["journal row 2 (execution of alice) does not match what is on record of it"] == proof(filled).faults


async def test_balances_and_positions_are_written_anew_from_the_entries(filled):
    """
    What is derived can be lost whole: it comes back to the last unit.
    """
    tamper(filled, "DELETE FROM balances", "UPDATE positions SET quantity = 7, cost = 0")
    assert proof(filled).faults

    report = await filled.rebuild()

    assert [] == report.faults
    assert [] == proof(filled).faults


async def test_broken_chain_stays_broken(filled):
    """
    Writing balances anew mends no entry that somebody changed.
    """
    tamper(filled, "UPDATE entries SET amount = amount + 1 WHERE seq = 2 AND n = 0")

    assert (await filled.rebuild()).faults
