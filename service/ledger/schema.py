"""The ledger's tables and statements, alike on every database.

Decimals are text in plain notation, times RFC 3339 text in UTC with microseconds, all of one length: they sort as text.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from service.accounting import money_text, price_text
from service.desk.execution import Execution
from service.ledger.protocol import StoredExecution, StoredKey

metadata = sa.MetaData()

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("ledger_id", sa.Text, primary_key=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
)

executions = sa.Table(
    "executions",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("execution_id", sa.Text, nullable=False, unique=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("client_order_id", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("quote_key", sa.LargeBinary),
    sa.Column("market_data", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reject_code", sa.Text),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("time_in_force", sa.Text, nullable=False),
    sa.Column("requested_quantity", sa.Text),
    sa.Column("requested_total", sa.Text),
    sa.Column("filled_quantity", sa.Text, nullable=False),
    sa.Column("subtotal", sa.Text, nullable=False),
    sa.Column("fees", sa.Text, nullable=False),
    sa.Column("markup", sa.Text, nullable=False),
    sa.Column("total", sa.Text, nullable=False),
    sa.Column("executed_at", sa.Text, nullable=False),
    sa.Column("receipt", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("account", "client_order_id", name="one_execution_per_client_order_id"),
    sa.Index("executions_of_account", "account", "seq"),
    sqlite_autoincrement=True,
)

fills = sa.Table(
    "fills",
    metadata,
    sa.Column("execution_seq", sa.Integer, sa.ForeignKey("executions.seq"), primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("venue", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("price", sa.Text, nullable=False),
    sa.Column("quantity", sa.Text, nullable=False),
    sa.Column("subtotal", sa.Text, nullable=False),
    sa.Column("fee", sa.Text, nullable=False),
    sa.Column("markup", sa.Text, nullable=False),
    sa.Column("book_age_ms", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger),
)

quote_uses = sa.Table(
    "quote_uses",
    metadata,
    sa.Column("quote_key", sa.LargeBinary, primary_key=True),
    sa.Column("execution_seq", sa.Integer, sa.ForeignKey("executions.seq"), nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("revoked_at", sa.Text),
)

_STORED = (
    executions.c.execution_id,
    executions.c.account,
    executions.c.client_order_id,
    executions.c.fingerprint,
    executions.c.status,
    executions.c.reject_code,
    executions.c.receipt,
)
_bound_account: sa.BindParameter[str] = sa.bindparam("account")
_bound_id: sa.BindParameter[str] = sa.bindparam("id")
_bound_key: sa.BindParameter[bytes] = sa.bindparam("key")

select_ledger = sa.select(ledger.c.ledger_id, ledger.c.mode)
select_client_order = sa.select(*_STORED).where(
    executions.c.account == _bound_account, executions.c.client_order_id == _bound_id
)
select_execution = sa.select(*_STORED).where(
    executions.c.account == _bound_account, executions.c.execution_id == _bound_id
)
select_quote_use = sa.select(quote_uses.c.execution_seq).where(quote_uses.c.quote_key == _bound_key)
select_keys = sa.select(keys).order_by(keys.c.created_at, keys.c.key_id)
insert_execution, insert_fill, insert_quote_use = executions.insert(), fills.insert(), quote_uses.insert()


def select_page(
    account: str, symbol: str | None, status: str | None, since: datetime | None, after: int | None, limit: int
) -> sa.Select[Any]:
    """Select an account's executions newest first, one more than *limit* to see whether there is a next page."""
    chosen = sa.select(executions.c.seq, *_STORED).where(executions.c.account == account)
    if symbol is not None:
        chosen = chosen.where(executions.c.symbol == symbol)
    if status is not None:
        chosen = chosen.where(executions.c.status == status)
    if since is not None:
        chosen = chosen.where(executions.c.executed_at >= moment_text(since))
    if after is not None:
        chosen = chosen.where(executions.c.seq < after)
    return chosen.order_by(executions.c.seq.desc()).limit(limit + 1)


def moment_text(moment: datetime) -> str:
    """Write a time, in whatever zone, so that it sorts."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def moment_read(text: str) -> datetime:
    """Read what ``moment_text`` wrote."""
    return datetime.fromisoformat(text)


def execution_row(execution: Execution) -> dict[str, Any]:
    """Give an execution's row."""
    return {
        "execution_id": execution.execution_id,
        "account": execution.account,
        "client_order_id": execution.client_order_id,
        "fingerprint": execution.fingerprint,
        "quote_key": execution.quote_key,
        "market_data": execution.market_data,
        "status": execution.status,
        "reject_code": execution.reject_code,
        "symbol": execution.symbol,
        "side": execution.side,
        "time_in_force": execution.time_in_force,
        "requested_quantity": None
        if execution.requested_quantity is None
        else price_text(execution.requested_quantity),
        "requested_total": None if execution.requested_total is None else money_text(execution.requested_total),
        "filled_quantity": price_text(execution.filled_quantity),
        "subtotal": money_text(execution.subtotal),
        "fees": money_text(execution.fees),
        "markup": money_text(execution.markup),
        "total": money_text(execution.total),
        "executed_at": moment_text(execution.executed_at),
        "receipt": execution.receipt,
    }


def fill_rows(execution: Execution, seq: int) -> list[dict[str, Any]]:
    """Give the rows of an execution's fills, best first."""
    return [
        {
            "execution_seq": seq,
            "n": n,
            "venue": fill.venue,
            "symbol": fill.symbol,
            "price": price_text(fill.price),
            "quantity": price_text(fill.quantity),
            "subtotal": money_text(fill.subtotal),
            "fee": money_text(fill.fee),
            "markup": money_text(fill.markup),
            "book_age_ms": fill.book_age_ms,
            "sequence": fill.sequence,
        }
        for n, fill in enumerate(execution.fills)
    ]


def stored_execution(row: Any) -> StoredExecution:
    """Read an execution's row."""
    return StoredExecution(
        execution_id=row.execution_id,
        account=row.account,
        client_order_id=row.client_order_id,
        fingerprint=bytes(row.fingerprint),
        status=row.status,
        reject_code=row.reject_code,
        receipt=bytes(row.receipt),
    )


def key_row(key: StoredKey) -> dict[str, Any]:
    """Give a key's row."""
    return {
        "key_id": key.key_id,
        "account": key.account,
        "scopes": ",".join(key.scopes),
        "digest": key.digest,
        "created_at": moment_text(key.created_at),
        "revoked_at": None if key.revoked_at is None else moment_text(key.revoked_at),
    }


def stored_key(row: Any) -> StoredKey:
    """Read a key's row."""
    return StoredKey(
        key_id=row.key_id,
        account=row.account,
        scopes=tuple(row.scopes.split(",")),
        digest=bytes(row.digest),
        created_at=moment_read(row.created_at),
        revoked_at=None if row.revoked_at is None else moment_read(row.revoked_at),
    )
