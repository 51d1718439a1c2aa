"""Hold what clients were told against what is on record.

Reads the database with statements of its own; the service's own proof comes on top.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from service.ledger.opening import reading_ledger
from service.ledger.verify import verify
from tests.rigs.clients import Answer, Clients, OrderKey
from tests.rigs.server import Setup


@dataclass(frozen=True)
class Trouble:
    """
    What is wrong; all of it is 0 in a record that can be trusted.

    Args:
        lost: Answers that are not on record as they were given.
        duplicated: Executions beyond the first of a client_order_id.
        half_done: Executions without their fills or entries, or the other way round.
        balances_off: Balances that are not the sum of their entries.
        unasked: Executions that nobody has sent.
        unproven: Sentences of the service's own proof.
    """

    lost: int
    duplicated: int
    half_done: int
    balances_off: int
    unasked: int
    unproven: int

    def figures(self) -> dict[str, int]:
        return asdict(self)

    @property
    def found(self) -> bool:
        """Tell whether anything is wrong."""
        return any(asdict(self).values())


def examine(url: str, orders: Mapping[OrderKey, object], answers: Mapping[OrderKey, Answer]) -> Trouble:
    """Read a record while no server writes."""
    with reading_ledger(Setup(url).settings()) as connection:
        executions = connection.exec_driver_sql(
            "SELECT seq, account, client_order_id, execution_id, status, filled_quantity, receipt FROM executions"
        ).all()
        by_order = {(row.account, row.client_order_id): row for row in executions}
        counted = Counter((row.account, row.client_order_id) for row in executions)
        return Trouble(
            lost=sum(_lost(answer, by_order.get(key)) for key, answer in answers.items()),
            duplicated=len(executions) - len(counted),
            half_done=_half_done(connection, executions),
            balances_off=_balances_off(connection),
            unasked=len(counted.keys() - orders.keys()),
            unproven=len(verify(connection).faults),
        )


def on_record(url: str) -> set[OrderKey]:
    """Give the orders that are on record."""
    with reading_ledger(Setup(url).settings()) as connection:
        rows = connection.exec_driver_sql("SELECT account, client_order_id FROM executions")
        return {(row.account, row.client_order_id) for row in rows}


def _lost(answer: Answer, row: sa.Row | None) -> bool:
    if row is None:
        return True
    if answer.filled:
        return bytes(row.receipt) != answer.body
    return row.execution_id != answer.execution_id or row.status != "rejected"


def _half_done(connection: sa.Connection, executions: list[sa.Row]) -> int:
    filled = Counter()
    for seq, quantity in connection.exec_driver_sql("SELECT execution_seq, quantity FROM fills"):
        filled[seq] += _units(quantity)
    sums: dict[int, Counter[str]] = {}
    for seq, asset, amount in connection.exec_driver_sql("SELECT seq, asset, amount FROM entries"):
        sums.setdefault(seq, Counter())[asset] += amount
    refs = {seq: (kind, ref) for seq, kind, ref in connection.exec_driver_sql("SELECT seq, kind, ref FROM journal")}
    wrong = 0
    for row in executions:
        whole = (
            filled[row.seq] == _units(row.filled_quantity)
            and (row.seq in sums) == (row.status != "rejected")
            and not any(sums.get(row.seq, {}).values())
            and refs.get(row.seq) == ("execution", row.execution_id)
        )
        wrong += not whole
    known = {row.seq for row in executions}
    orphans = {seq for seq, (kind, _) in refs.items() if kind == "execution"} | filled.keys()
    return wrong + len({seq for seq in orphans if seq not in known and (seq in refs or filled[seq])})


def _balances_off(connection: sa.Connection) -> int:
    sums: Counter[tuple[str, str]] = Counter()
    owners = set(connection.exec_driver_sql("SELECT account FROM accounts").scalars())
    for account, asset, amount in connection.exec_driver_sql("SELECT account, asset, amount FROM entries"):
        if account in owners:
            sums[account, asset] += amount
    rows = connection.exec_driver_sql("SELECT account, asset, total, held FROM balances").all()
    balances = {(account, asset): total for account, asset, total, _ in rows}
    held = sum(1 for *_, amount in rows if amount)
    return held + sum(1 for key in balances.keys() | sums.keys() if balances.get(key, 0) != sums[key])


def _units(text: str) -> int:
    """Read an amount exactly, as a whole number of 10**-18."""
    whole, _, rest = text.partition(".")
    return int(whole + rest.ljust(18, "0"))


def judged(clients: Clients, trouble: Trouble) -> dict[str, Any]:
    """Give the figures of any rig that has clients and a record, with ``ok``."""
    unresolved, changed = len(clients.unanswered), len(clients.changed)
    return {
        "ok": not trouble.found and not unresolved and not changed,
        "sent": len(clients.orders),
        **trouble.figures(),
        "unresolved": unresolved,
        "changed": changed,
        "refusals": dict(clients.refusals),
    }
