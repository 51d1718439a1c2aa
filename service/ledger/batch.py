"""One transaction of many operations: read what they claim, let each decide on what those before it left, write it all.

Reading and writing are set-based: a few statements, however many operations share the transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from service.desk.accounts import Balance, Holdings, Position, deposit
from service.desk.execution import Execution
from service.desk.firm import FirmQuote
from service.errors import ServiceError
from service.ledger import records, schema
from service.ledger.journal import BEGINNING, chained
from service.ledger.protocol import Changes, Claim, Decide, State, StoredExecution
from service.market.taken import Lot
from service.tracing import Handled

Rows = list[dict[str, Any]]
Insert = Callable[[sa.Connection, sa.Table, list[tuple[Any, ...]]], None]


@dataclass(slots=True)
class Operation:
    """
    One caller's piece of a transaction.

    Args:
        claim: And ``decide``, of a decision; or
        run: What is simply done with the connection.
        handled: Whose request it is, or None.
        result: What it comes to once the transaction is synced.
        error: What the caller is told in its place.
        changes: What it writes, if anything.
        attempted: A commit with it in it has been tried and its outcome is not known.
        taken_back: The caller was told that nothing is done.
    """

    claim: Claim | None = None
    decide: Decide[Any] | None = None
    run: Callable[[sa.Connection], Any] | None = None
    handled: Handled | None = None
    result: Any = None
    error: Exception | None = None
    changes: Changes | None = None
    attempted: bool = False
    taken_back: bool = False


@dataclass(slots=True)
class _Account:
    """An account as the transaction sees it, and what is on record of it."""

    opened: bool = False
    to_open: bool = False
    holdings: Holdings = field(default_factory=Holdings)
    stored: Holdings = field(default_factory=Holdings)
    turnover: dict[tuple[str, str], int] = field(default_factory=dict)
    turnover_stored: dict[tuple[str, str], int] = field(default_factory=dict)
    firm: dict[str, FirmQuote] = field(default_factory=dict)


class Batch:
    """Operations that share a transaction."""

    def __init__(
        self, operations: Sequence[Operation], starting: Mapping[str, int], instance: str, *, shared: bool
    ) -> None:
        """
        Take the operations in their order.

        Args:
            starting: What an account begins with, by asset.
            instance: This process.
            shared: Other processes' takings are read as well.
        """
        self._instance = instance
        self.operations = operations
        self._starting = starting
        self._shared = shared
        self._claims = [operation.claim for operation in operations if operation.claim is not None]
        self._known: dict[tuple[str, str], StoredExecution] = {}
        self._used: set[bytes] = set()
        self._done: set[str] = set()
        self._accounts: dict[str, _Account] = defaultdict(_Account)
        self._lots: dict[str, list[Lot]] = {}  # By symbol, and by what has taken them.
        self._head: tuple[int, bytes] = (0, BEGINNING)

    @property
    def locks(self) -> list[str]:
        """Name everything that is claimed, in the order in which it must be locked: symbols, then accounts."""
        symbols = {f"symbol {symbol}" for claim in self._claims for symbol in claim.symbols}
        return [*sorted(symbols), *sorted({f"account {claim.account}" for claim in self._claims})]

    def read(self, connection: sa.Connection) -> None:
        """Read what is claimed; it must be locked."""
        if not self._claims:
            return
        self._read_done(connection)
        accounts = list({claim.account for claim in self._claims})
        of_accounts = {"accounts": accounts}
        for row in connection.execute(schema.select_accounts, of_accounts):
            self._accounts[row.account].opened = True
        self._read_known(connection, accounts)
        keys = [claim.quote_key for claim in self._claims if claim.quote_key is not None]
        if keys:
            self._used.update(
                bytes(row.quote_key) for row in connection.execute(schema.select_quote_uses, {"keys": keys})
            )
        self._read_holdings(connection, accounts)
        asked = [claim.firm_quote_id for claim in self._claims if claim.firm_quote_id is not None]
        for row in connection.execute(schema.select_firm_quotes, {**of_accounts, "ids": asked}):
            self._accounts[row.account].firm[row.quote_id] = records.stored_firm_quote(row)
        symbols = list({symbol for claim in self._claims for symbol in claim.symbols})
        if self._shared and (symbols or asked):
            wanted = {"symbols": symbols, "refs": asked, "instance": self._instance}
            for row in connection.execute(schema.select_lots_of, wanted):
                lot = records.stored_lot(row)
                self._lots.setdefault(lot.key.symbol, []).append(lot)
                self._lots.setdefault(lot.ref, []).append(lot)

    def _read_done(self, connection: sa.Connection) -> None:
        """Find which operations an earlier attempt, whose outcome was not known, has written after all."""
        refs = [one.claim.ref for one in self.operations if one.claim is not None and one.attempted]
        if refs:
            self._done.update(row.ref for row in connection.execute(schema.select_refs, {"refs": refs}))

    def _read_known(self, connection: sa.Connection, accounts: list[str]) -> None:
        ids = [claim.client_order_id for claim in self._claims if claim.client_order_id is not None]
        if ids:
            for row in connection.execute(schema.select_client_orders, {"accounts": accounts, "ids": ids}):
                self._known[row.account, row.client_order_id] = records.stored_execution(row)

    def _read_holdings(self, connection: sa.Connection, accounts: list[str]) -> None:
        days = list({_day(claim) for claim in self._claims})
        of_accounts: dict[str, Any] = {"accounts": accounts}
        balances, positions, turnover = _by_account(), _by_account(), _by_account()
        for row in connection.execute(schema.select_balances, of_accounts):
            balances[row.account][row.asset] = Balance(row.total, row.held)
        for row in connection.execute(schema.select_positions, of_accounts):
            positions[row.account][row.symbol] = Position(row.quantity, row.cost, row.realised_pnl)
        for row in connection.execute(schema.select_turnover, {**of_accounts, "days": days}):
            turnover[row.account][row.day, row.asset] = row.notional
        for account in accounts:
            known = self._accounts[account]
            known.holdings = known.stored = Holdings(balances[account], positions[account])
            known.turnover, known.turnover_stored = dict(turnover[account]), turnover[account]
            if not known.opened:
                known.holdings = known.stored.with_entries(account, deposit(account, self._starting))

    def decide(self) -> None:
        """Let every operation decide, each on what those before it left; on the event loop."""
        for operation in self.operations:
            claim, decide = operation.claim, operation.decide
            operation.error = operation.changes = None
            if claim is None or decide is None or claim.ref in self._done or operation.taken_back:
                continue
            try:
                operation.result, operation.changes = decide(self._state(claim))
            except ServiceError as error:  # It is the caller's; the others go on.
                operation.error = error
            else:
                self._apply(claim, operation.changes)

    def _state(self, claim: Claim) -> State:
        account, day = self._accounts[claim.account], _day(claim)
        holdings = account.holdings
        return State(
            known=self._known.get((claim.account, claim.client_order_id or "")),
            quote_used=claim.quote_key in self._used,
            opened=account.opened,
            holdings=replace(
                holdings,
                turnover={asset: notional for (of_day, asset), notional in account.turnover.items() if of_day == day},
            ),
            firm=account.firm.get(claim.firm_quote_id or ""),
            open_firm=tuple(
                sorted((quote for quote in account.firm.values() if quote.open), key=lambda quote: quote.created_at)
            ),
            lots=tuple(lot for name in (*claim.symbols, claim.firm_quote_id or "") for lot in self._lots.get(name, ())),
        )

    def _apply(self, claim: Claim, changes: Changes | None) -> None:
        if changes is None:
            return
        account, day = self._accounts[claim.account], _day(claim)
        account.to_open = account.to_open or not account.opened
        account.opened = True
        if changes.holdings is not None:
            account.holdings = changes.holdings
            account.turnover.update({(day, asset): notional for asset, notional in changes.holdings.turnover.items()})
        for quote in changes.firm:
            account.firm[quote.quote_id] = quote
        for ref in changes.released:
            self._lots = {name: [lot for lot in lots if lot.ref != ref] for name, lots in self._lots.items()}
        execution = changes.execution
        if execution is not None:
            self._known[execution.account, execution.client_order_id] = stored_execution(execution)
            if execution.uses_quote and execution.quote_key is not None:
                self._used.add(execution.quote_key)

    def write(self, connection: sa.Connection, head: tuple[int, bytes], insert: Insert) -> tuple[int, bytes]:
        """
        Write what was decided, after the journal's *head*, then do what is simply to be done.

        Args:
            insert: Puts many rows into a table.

        Returns:
            The journal's head afterwards.
        """
        rows: dict[str, Rows] = defaultdict(list)
        for operation in self.operations:
            claim, changes = operation.claim, operation.changes
            if claim is None or changes is None:
                continue
            if self._accounts[claim.account].to_open:
                self._accounts[claim.account].to_open = False
                opening = replace(claim, ref=f"account {claim.account}")
                opened = Changes("account", entries=deposit(claim.account, self._starting))
                head = _gather(rows, opening, opened, head, operation.handled)
            rows["lot"] += [records.lot_row(lot, self._instance) for lot in changes.lots]
            head = _gather(rows, claim, changes, head, operation.handled)
        self._gather_accounts(rows)
        for name, target in _TARGETS.items():
            if not rows[name]:
                continue
            if isinstance(target, sa.Update):
                connection.execute(target, rows[name])
            else:
                insert(connection, target, list(map(_IN_ORDER[name], rows[name])))
        if rows["journal"]:
            connection.execute(schema.ledger.update().values(journal_seq=head[0], journal_hash=head[1]))
        for operation in self.operations:
            if operation.run is not None and not operation.taken_back:
                operation.result = operation.run(connection)
        return head

    def _gather_accounts(self, rows: dict[str, Rows]) -> None:
        """Compare each account with what is on record."""
        for name, account in self._accounts.items():
            if not account.opened:
                continue
            before, after = account.stored, account.holdings
            for asset, balance in after.balances.items():
                if before.balances.get(asset) != balance:
                    row = {"total": balance.total, "held": balance.held}
                    _put(rows, "balance", asset in before.balances, {"account": name, "asset": asset}, row)
            for symbol, position in after.positions.items():
                if before.positions.get(symbol) != position:
                    known = symbol in before.positions
                    _put(rows, "position", known, {"account": name, "symbol": symbol}, position._asdict())
            for symbol in before.positions.keys() - after.positions.keys():
                _put(rows, "position", True, {"account": name, "symbol": symbol}, Position()._asdict())
            for (day, asset), notional in account.turnover.items():
                if account.turnover_stored.get((day, asset)) != notional:
                    known = (day, asset) in account.turnover_stored
                    key = {"account": name, "asset": asset, "day": day}
                    _put(rows, "turnover", known, key, {"notional": notional})


def _getter(table: sa.Table) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Give what brings a row into the order of a table's columns."""
    names = [column.name for column in table.columns]
    if len(names) == 1:
        return lambda row: (row[names[0]],)
    return itemgetter(*names)


_SHORT = {"account": "a", "asset": "b", "symbol": "b", "day": "d"}
_TARGETS: dict[str, sa.Table | sa.Update] = {
    "account": schema.accounts,
    "journal": schema.journal,
    "execution": schema.executions,
    "fill": schema.fills,
    "quote_use": schema.quote_uses,
    "entry": schema.entries,
    "new balance": schema.balances,
    "balance": schema.update_balance,
    "new position": schema.positions,
    "position": schema.update_position,
    "new turnover": schema.turnover,
    "turnover": schema.update_turnover,
    "new firm quote": schema.firm_quotes,
    "firm quote": schema.update_firm_quote,
    "lot": schema.takings,
    "ended": schema.end_lots,
}
"""Tables that get rows and statements that change some, in this order: what is referred to is there."""
_IN_ORDER: dict[str, Callable[[dict[str, Any]], tuple[Any, ...]]] = {
    name: _getter(target) for name, target in _TARGETS.items() if isinstance(target, sa.Table)
}


def _put(rows: dict[str, Rows], name: str, known: bool, key: dict[str, str], values: dict[str, Any]) -> None:
    if known:
        rows[name].append({_SHORT[column]: value for column, value in key.items()} | values)
    else:
        rows[f"new {name}"].append(key | values)


def _gather(
    rows: dict[str, Rows], claim: Claim, changes: Changes, head: tuple[int, bytes], handled: Handled | None
) -> tuple[int, bytes]:
    """Turn one operation's changes into rows."""
    execution = changes.execution
    seq = head[0] + 1
    fills: Rows = []
    own_row: dict[str, Any] | None = None
    if execution is not None:
        own_row = {"seq": seq, **records.execution_row(execution)}
        fills = records.fill_rows(execution, seq)
        rows["execution"].append(own_row)
        rows["fill"] += fills
        if execution.uses_quote and execution.quote_key is not None:
            rows["quote_use"].append({"quote_key": execution.quote_key, "execution_seq": seq})
    if changes.kind == "account":
        rows["account"].append({"account": claim.account})
    entries = [
        {"seq": seq, "n": n, "account": entry.account, "asset": entry.asset, "amount": entry.amount}
        for n, entry in enumerate(changes.entries)
    ]
    rows["entry"] += entries
    rows["ended"] += [{"a": ref} for ref in changes.released]
    for quote in changes.firm:
        if quote.open:
            rows["new firm quote"].append(records.firm_quote_row(quote))
        else:
            row = {"a": quote.quote_id, "status": quote.status.value, "execution_id": quote.execution_id}
            rows["firm quote"].append(row)
    if changes.kind == "quiet":
        return head  # Nothing of it is a matter of the journal.
    journal = {
        "seq": seq,
        "ref": claim.ref,
        "kind": changes.kind,
        "account": claim.account,
        "at": records.moment_text(claim.now),
        "request_id": None if handled is None else handled.request_id,
        "trace_id": None if handled is None else handled.trace_id,
    }
    hashed = chained(
        head[1],
        list(journal.values()),
        execution=None if own_row is None else _IN_ORDER["execution"](own_row),
        fills=map(_IN_ORDER["fill"], fills),
        entries=[list(entry.values())[1:] for entry in entries],
    )
    rows["journal"].append({**journal, "hash": hashed})
    return seq, hashed


def stored_execution(execution: Execution) -> StoredExecution:
    """Give an execution as it will be read."""
    return StoredExecution(
        execution.execution_id,
        execution.account,
        execution.client_order_id,
        execution.fingerprint,
        execution.status,
        execution.reject_code,
        execution.executed_at,
        execution.receipt,
    )


def _by_account() -> dict[str, dict[Any, Any]]:
    return defaultdict(dict)


def _day(claim: Claim) -> str:
    return claim.now.date().isoformat()
