"""Prove the record: the chain unbroken, every balance the sum of its entries, and name the first row that is wrong.

One pass over the journal with all that hangs on it, by its numbers; nothing is written but by ``rebuild``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from exchanges.book import Side
from service.accounting import MONEY_SCALE
from service.desk.accounts import Position
from service.desk.execution import REJECTED
from service.desk.firm import FirmStatus
from service.ledger import schema
from service.ledger.journal import BEGINNING, chained

_ROWS_AT_ONCE = 10_000
_TOLD_EVERY = 1_000
_JOURNAL = (
    schema.journal.c.seq,
    schema.journal.c.ref,
    schema.journal.c.kind,
    schema.journal.c.account,
    schema.journal.c.at,
    schema.journal.c.request_id,
    schema.journal.c.trace_id,
)


@dataclass(slots=True)
class Report:
    """
    What was found.

    Args:
        faults: Sentences; the first names the first row that is wrong.
        rows: Of the journal.
        head: The journal's last number and hash.
    """

    faults: list[str] = field(default_factory=list)
    rows: int = 0
    entries: int = 0
    executions: int = 0
    head: tuple[int, bytes] = (0, BEGINNING)


class _Rows:
    """Rows of a table in the order of their journal's number, to be taken number by number."""

    def __init__(self, connection: sa.Connection, statement: sa.Select[Any]) -> None:
        result = connection.execute(statement.execution_options(yield_per=_ROWS_AT_ONCE))
        self._rows: Iterator[Any] = iter(result)
        self._next = next(self._rows, None)

    def of(self, seq: int) -> list[Any]:
        """Take the rows of a number."""
        found = []
        while self._next is not None and self._next[0] == seq:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found

    def strays(self, seq: int) -> list[Any]:
        """Take the rows of smaller numbers: their journal's row is not there."""
        found = []
        while self._next is not None and self._next[0] < seq:
            found.append(self._next)
            self._next = next(self._rows, None)
        return found


class _Proof:
    """What has been read so far, and what it comes to."""

    def __init__(self) -> None:
        self.report = Report()
        self.balances: Counter[tuple[str, str]] = Counter()
        self.positions: dict[tuple[str, str], Position] = {}
        self._accounts: set[str] = set()

    def fault(self, sentence: str) -> None:
        self.report.faults.append(sentence)

    def opened(self, account: str) -> bool:
        return account in self._accounts

    def take(self, row: Any, execution: Any | None, fills: list[Any], entries: list[Any], stored: bytes) -> None:
        """Take one row of the journal with what hangs on it."""
        seq, _, kind, account, *_ = row
        before_seq, before = self.report.head
        if seq != before_seq + 1:
            self.fault(f"journal row {before_seq + 1} is missing")
        hashed = chained(before, row, execution=execution, fills=fills, entries=[list(entry[1:]) for entry in entries])
        if hashed != stored:
            self.fault(f"journal row {seq} ({kind} of {account}) does not match what is on record of it")
        # What comes after is held against what is stored, so that each fault is told once.
        self.report.head = (seq, stored)
        self.report.rows += 1
        self.report.entries += len(entries)
        self._accounts.add(account)
        if kind == "reset":
            self.positions = {key: one for key, one in self.positions.items() if key[0] != account}
        try:
            self._add_up(seq, entries)
            if execution is not None:
                self._trade(execution)
        except (TypeError, ValueError, ArithmeticError):  # SQLite keeps whatever somebody writes.
            self.fault(f"journal row {seq} has something else on record where an amount or a side belongs")
        if (kind == "execution") != (execution is not None):
            self.fault(f"journal row {seq} is of kind {kind} and has {'an' if execution else 'no'} execution")
        elif execution is not None:
            self.report.executions += 1

    def _add_up(self, seq: int, entries: list[Any]) -> None:
        sums: Counter[str] = Counter()
        for _, _, account, asset, amount in entries:
            self.balances[account, asset] += amount
            sums[asset] += amount
        for asset, amount in sums.items():
            if amount:
                self.fault(f"the entries of journal row {seq} do not sum to zero in {asset}")

    def _trade(self, execution: Any) -> None:
        if execution.status == REJECTED:
            return
        key = execution.account, execution.symbol
        quantity, total = _amount(execution.filled_quantity), _amount(execution.total)
        position = self.positions.get(key, Position())
        self.positions[key] = position.after(Side(execution.side), quantity, total)


def verify(connection: sa.Connection, tell: Callable[[int, int], object] | None = None) -> Report:
    """
    Read everything that is on record, in one transaction, and hold it against itself.

    Args:
        tell: Told now and then how many rows of the journal have been read, and of how many.
    """
    proof = _read(connection, tell)
    _hold_against_balances(connection, proof)
    _hold_against_positions(connection, proof)
    return proof.report


def _read(connection: sa.Connection, tell: Callable[[int, int], object] | None = None) -> _Proof:
    proof = _Proof()
    ledger = connection.execute(schema.select_ledger).first()
    if ledger is None:
        proof.fault("the ledger's own row is missing, which says where its journal ends")
        return proof
    start = ledger.journal_start
    proof.report.head = (start, BEGINNING)
    executions = _Rows(
        connection,
        sa.select(schema.executions).where(schema.executions.c.seq > start).order_by(schema.executions.c.seq),
    )
    fills = _Rows(
        connection,
        sa.select(schema.fills)
        .where(schema.fills.c.execution_seq > start)
        .order_by(schema.fills.c.execution_seq, schema.fills.c.n),
    )
    entries = _Rows(connection, sa.select(schema.entries).order_by(schema.entries.c.seq, schema.entries.c.n))
    statement = sa.select(*_JOURNAL, schema.journal.c.hash).order_by(schema.journal.c.seq)
    journal = connection.execute(statement.execution_options(yield_per=_ROWS_AT_ONCE))
    for *row, stored in journal:
        _tell_strays(proof, executions, fills, entries, row[0])
        found = executions.of(row[0])
        proof.take(row, found[0] if found else None, fills.of(row[0]), entries.of(row[0]), _hash(stored))
        if tell is not None and proof.report.rows % _TOLD_EVERY == 0:
            tell(proof.report.rows, ledger.journal_seq - start)
    _tell_strays(proof, executions, fills, entries, 2**63)
    head = (ledger.journal_seq, BEGINNING if ledger.journal_hash is None else _hash(ledger.journal_hash))
    if head != proof.report.head:
        proof.fault(f"the journal ends with row {proof.report.head[0]}, and the ledger says with row {head[0]}")
    return proof


def _tell_strays(proof: _Proof, executions: _Rows, fills: _Rows, entries: _Rows, seq: int) -> None:
    for name, rows in (("execution", executions), ("fill", fills), ("entry", entries)):
        for row in rows.strays(seq):
            proof.fault(f"the {name} of journal row {row[0]} stands without it")


def _hold_against_balances(connection: sa.Connection, proof: _Proof) -> None:
    held = _held(connection, proof)
    sums = {key: total for key, total in proof.balances.items() if proof.opened(key[0])}
    for row in connection.execute(sa.select(schema.balances).order_by(*schema.balances.primary_key.columns)):
        key = row.account, row.asset
        total = sums.pop(key, 0)
        if row.total != total:
            proof.fault(f"the balance of {row.account} in {row.asset} is {row.total}, and its entries sum to {total}")
        if row.held != held[key]:
            proof.fault(f"of {row.account}'s {row.asset} {row.held} is held, and its open quotes hold {held[key]}")
        if _is_whole(row.total) and _is_whole(row.held) and row.total < row.held:
            proof.fault(f"of {row.account}'s {row.asset} more is held than there is")
    for (account, asset), total in sums.items():
        if total:
            proof.fault(f"the balance of {account} in {asset} is missing; its entries sum to {total}")


def _held(connection: sa.Connection, proof: _Proof) -> Counter[tuple[str, str]]:
    held: Counter[tuple[str, str]] = Counter()
    quotes = schema.firm_quotes.c
    of_open = sa.select(quotes.quote_id, quotes.account, quotes.held_asset, quotes.held_amount).where(
        quotes.status == FirmStatus.OPEN.value
    )
    for quote in connection.execute(of_open):
        if _is_whole(quote.held_amount):
            held[quote.account, quote.held_asset] += quote.held_amount
        else:
            proof.fault(f"what the firm quote {quote.quote_id} holds is no amount")
    return held


def _hold_against_positions(connection: sa.Connection, proof: _Proof) -> None:
    stored = {
        (row.account, row.symbol): Position(row.quantity, row.cost, row.realised_pnl)
        for row in connection.execute(sa.select(schema.positions))
    }
    for key in sorted(stored.keys() | proof.positions.keys()):
        if stored.get(key, Position()) != proof.positions.get(key, Position()):
            proof.fault(f"the position of {key[0]} in {key[1]} is not what its executions come to")


def rebuild(connection: sa.Connection) -> Report:
    """
    Write balances and positions anew from entries and executions, and verify again.

    Only what is derived is touched; a broken chain stays broken.  What is held is written anew as well.
    """
    proof = _read(connection)
    held = _held(connection, proof)
    connection.execute(schema.balances.delete())
    connection.execute(schema.positions.delete())
    balances = [
        {"account": account, "asset": asset, "total": total, "held": held[account, asset]}
        for (account, asset), total in proof.balances.items()
        if proof.opened(account)
    ]
    positions = [
        {"account": account, "symbol": symbol, **position._asdict()}
        for (account, symbol), position in proof.positions.items()
    ]
    if balances:
        connection.execute(schema.balances.insert(), balances)
    if positions:
        connection.execute(schema.positions.insert(), positions)
    return verify(connection)


def _is_whole(value: object) -> bool:
    """Tell whether a number is one: SQLite keeps whatever somebody writes into a column."""
    return isinstance(value, int)


def _hash(stored: object) -> bytes:
    """Give a hash as it is on record, whatever stands there."""
    return bytes(stored) if isinstance(stored, bytes | memoryview) else repr(stored).encode()


def _amount(text: str) -> int:
    """Read a decimal as a whole number of 10**-8; it has no more decimals."""
    return int(Decimal(text).scaleb(MONEY_SCALE))
