"""The ledger's tables and statements, alike on every database.

Decimals are text in plain notation, times RFC 3339 text in UTC with microseconds, all of one length: they sort as text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.desk.firm import FirmStatus
from service.ledger import records

metadata = sa.MetaData()
_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite numbers the rows of an INTEGER key only; they have 64 bits all the same."""

ledger = sa.Table(
    "ledger",
    metadata,
    sa.Column("ledger_id", sa.Text, primary_key=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("journal_start", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("journal_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("journal_hash", sa.LargeBinary),
)

executions = sa.Table(
    "executions",
    metadata,
    sa.Column("seq", _ROW_NUMBER, primary_key=True, autoincrement=True),
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
    sa.Column("execution_seq", _ROW_NUMBER, sa.ForeignKey("executions.seq"), primary_key=True),
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
    sa.Column("execution_seq", _ROW_NUMBER, sa.ForeignKey("executions.seq"), nullable=False),
)

journal = sa.Table(
    "journal",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("ref", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("trace_id", sa.Text),
)

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("seq", sa.BigInteger, sa.ForeignKey("journal.seq"), primary_key=True, autoincrement=False),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Index("entries_of_account", "account", "seq"),
)

accounts = sa.Table("accounts", metadata, sa.Column("account", sa.Text, primary_key=True))

balances = sa.Table(
    "balances",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
)

positions = sa.Table(
    "positions",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("symbol", sa.Text, primary_key=True),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("realised_pnl", sa.BigInteger, nullable=False),
)

turnover = sa.Table(
    "turnover",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("day", sa.Text, primary_key=True),
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("notional", sa.BigInteger, nullable=False),
)

# Prices and quantities of takings are whole numbers of 10**-18, which are too long for an integer of a database.
takings = sa.Table(
    "takings",
    metadata,
    sa.Column("ref", sa.Text, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("venue", sa.Text, nullable=False),
    sa.Column("symbol", sa.Text, nullable=False),
    sa.Column("side", sa.Text, nullable=False),
    sa.Column("price", sa.Text, nullable=False),
    sa.Column("quantity", sa.Text, nullable=False),
    sa.Column("remaining", sa.Text, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("shown", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("held_until_ms", sa.BigInteger),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Index("takings_that_count", "ended", "instance"),
    sa.Index("takings_that_hold", "ended", "held_until_ms"),
)

firm_quotes = sa.Table(
    "firm_quotes",
    metadata,
    sa.Column("quote_id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("instance", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("held_asset", sa.Text, nullable=False),
    sa.Column("held_amount", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.Text, nullable=False),
    sa.Column("execution_id", sa.Text),
    sa.Column("terms", sa.LargeBinary, nullable=False),
    sa.Column("message", sa.LargeBinary, nullable=False),
    sa.Index("firm_quotes_of_account", "account", "status"),
    sa.Index("firm_quotes_by_status", "status"),
)

realism = sa.Table(
    "realism",
    metadata,
    sa.Column("execution_id", sa.Text, primary_key=True),
    sa.Column("message", sa.LargeBinary, nullable=False),
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
    sa.Column("expires_at", sa.Text),
    sa.Column("addresses", sa.Text),
    sa.Column("label", sa.Text),
    sa.Column("quote_per_s", sa.Integer),
    sa.Column("execute_per_s", sa.Integer),
    sa.Column("last_used_at", sa.Text),
)

_STORED = (
    executions.c.execution_id,
    executions.c.account,
    executions.c.client_order_id,
    executions.c.fingerprint,
    executions.c.status,
    executions.c.reject_code,
    executions.c.executed_at,
    executions.c.receipt,
)
_bound_account: sa.BindParameter[str] = sa.bindparam("account")
_bound_id: sa.BindParameter[str] = sa.bindparam("id")
_bound_key: sa.BindParameter[bytes] = sa.bindparam("key")

select_ledger = sa.select(ledger)
touch_ledger = ledger.update().values(journal_seq=ledger.c.journal_seq)
select_client_order = sa.select(*_STORED).where(
    executions.c.account == _bound_account, executions.c.client_order_id == _bound_id
)
select_execution = sa.select(*_STORED).where(
    executions.c.account == _bound_account, executions.c.execution_id == _bound_id
)
select_keys = sa.select(keys).order_by(keys.c.created_at, keys.c.key_id)

select_key = sa.select(keys).where(keys.c.key_id == _bound_id)
_later = sa.bindparam("at", type_=sa.Text)
revoke_key = (
    keys.update()
    .where(keys.c.key_id == sa.bindparam("a"), keys.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("at"))
)
end_key = (
    keys.update()
    .where(
        keys.c.key_id == sa.bindparam("a"),
        keys.c.revoked_at.is_(None),
        sa.or_(keys.c.expires_at.is_(None), keys.c.expires_at > _later),
    )
    .values(expires_at=_later)
)
note_key_use = (
    keys.update()
    .where(keys.c.key_id == sa.bindparam("a"), sa.or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < _later))
    .values(last_used_at=_later)
)


def _bound(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name, expanding=True)


select_client_orders = sa.select(executions.c.client_order_id, *_STORED).where(
    executions.c.account.in_(_bound("accounts")), executions.c.client_order_id.in_(_bound("ids"))
)
select_quote_uses = sa.select(quote_uses.c.quote_key).where(quote_uses.c.quote_key.in_(_bound("keys")))
select_refs = sa.select(journal.c.ref).where(journal.c.ref.in_(_bound("refs")))
select_accounts = sa.select(accounts).where(accounts.c.account.in_(_bound("accounts")))
select_balances = sa.select(balances).where(balances.c.account.in_(_bound("accounts")))
select_positions = sa.select(positions).where(positions.c.account.in_(_bound("accounts")))
select_turnover = sa.select(turnover).where(
    turnover.c.account.in_(_bound("accounts")), turnover.c.day.in_(_bound("days"))
)
select_firm_quotes = sa.select(firm_quotes).where(
    firm_quotes.c.account.in_(_bound("accounts")),
    sa.or_(firm_quotes.c.status == FirmStatus.OPEN.value, firm_quotes.c.quote_id.in_(_bound("ids"))),
)
select_firm_quote = sa.select(firm_quotes).where(
    firm_quotes.c.account == _bound_account, firm_quotes.c.quote_id == _bound_id
)
select_open_firm_quotes = sa.select(firm_quotes).where(firm_quotes.c.status == FirmStatus.OPEN.value)
select_lots = sa.select(takings).where(takings.c.ended == sa.false())
_lots_of = select_lots.where(sa.or_(takings.c.symbol.in_(_bound("symbols")), takings.c.ref.in_(_bound("refs"))))
# Three ranges of two indexes: a process's own fills, of which there are most, are not even looked at.
select_lots_of = sa.union(
    _lots_of.where(takings.c.instance < sa.bindparam("instance")),
    _lots_of.where(takings.c.instance > sa.bindparam("instance")),
    _lots_of.where(takings.c.held_until_ms > 0),
)
select_lots_of_others = sa.union(
    select_lots.where(takings.c.instance < sa.bindparam("instance")),
    select_lots.where(takings.c.instance > sa.bindparam("instance")),
)
select_realism = sa.select(realism).where(realism.c.execution_id.in_(_bound("ids")))

update_balance = (
    balances.update()
    .where(balances.c.account == sa.bindparam("a"), balances.c.asset == sa.bindparam("b"))
    .values(total=sa.bindparam("total"), held=sa.bindparam("held"))
)
update_position = (
    positions.update()
    .where(positions.c.account == sa.bindparam("a"), positions.c.symbol == sa.bindparam("b"))
    .values(quantity=sa.bindparam("quantity"), cost=sa.bindparam("cost"), realised_pnl=sa.bindparam("realised_pnl"))
)
update_turnover = (
    turnover.update()
    .where(
        turnover.c.account == sa.bindparam("a"),
        turnover.c.day == sa.bindparam("d"),
        turnover.c.asset == sa.bindparam("b"),
    )
    .values(notional=sa.bindparam("notional"))
)
update_firm_quote = (
    firm_quotes.update()
    .where(firm_quotes.c.quote_id == sa.bindparam("a"))
    .values(status=sa.bindparam("status"), execution_id=sa.bindparam("execution_id"))
)
end_lots = takings.update().where(takings.c.ref == sa.bindparam("a")).values(ended=sa.true())
update_lot = (
    takings.update()
    .where(takings.c.ref == sa.bindparam("a"), takings.c.n == sa.bindparam("b"), takings.c.ended == sa.false())
    .values(
        remaining=sa.bindparam("remaining"),
        since_ms=sa.bindparam("since_ms"),
        shown=sa.bindparam("shown"),
        ended=sa.bindparam("ended"),
    )
)


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
        chosen = chosen.where(executions.c.executed_at >= records.moment_text(since))
    if after is not None:
        chosen = chosen.where(executions.c.seq < after)
    return chosen.order_by(executions.c.seq.desc()).limit(limit + 1)


_ENTRIES_PER_ROW = 1_000
"""Bounds the entries of one row of the journal: three a venue, and two."""


def entry_number(seq: int, n: int) -> int:
    """Number an entry over the whole ledger."""
    return seq * _ENTRIES_PER_ROW + n


def select_entries(account: str, asset: str | None, after: int | None, limit: int) -> sa.Select[Any]:
    """Select an account's entries newest first, one more than *limit* to see whether there is a next page."""
    chosen = (
        sa.select(entries, journal.c.kind, journal.c.ref, journal.c.at)
        .join(journal, journal.c.seq == entries.c.seq)
        .where(entries.c.account == account)
    )
    if asset is not None:
        chosen = chosen.where(entries.c.asset == asset)
    if after is not None:
        seq, n = divmod(after, _ENTRIES_PER_ROW)
        chosen = chosen.where(sa.or_(entries.c.seq < seq, sa.and_(entries.c.seq == seq, entries.c.n < n)))
    return chosen.order_by(entries.c.seq.desc(), entries.c.n.desc()).limit(limit + 1)
