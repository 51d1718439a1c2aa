"""Accounts with double entry, firm quotes, taken liquidity, what was seen after fills, and the chain over it all."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables; the chain begins after the executions that there are."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE executions ALTER COLUMN seq TYPE BIGINT")
        op.execute("ALTER TABLE fills ALTER COLUMN execution_seq TYPE BIGINT")
        op.execute("ALTER TABLE quote_uses ALTER COLUMN execution_seq TYPE BIGINT")
    op.add_column("ledger", sa.Column("journal_start", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("ledger", sa.Column("journal_seq", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("ledger", sa.Column("journal_hash", sa.LargeBinary))
    last = "(SELECT COALESCE(MAX(seq), 0) FROM executions)"
    op.execute(f"UPDATE ledger SET journal_start = {last}, journal_seq = {last}")
    _chain()
    _accounts()
    _promises()


def _chain() -> None:
    """Make what every change of money is written into."""
    op.create_table(
        "journal",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ref", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("seq", sa.BigInteger, sa.ForeignKey("journal.seq"), primary_key=True, autoincrement=False),
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
    )
    op.create_index("entries_of_account", "entries", ["account", "seq"])


def _accounts() -> None:
    """Make what is derived from it."""
    op.create_table("accounts", sa.Column("account", sa.Text, primary_key=True))
    op.create_table(
        "balances",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("asset", sa.Text, primary_key=True),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "positions",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("symbol", sa.Text, primary_key=True),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.BigInteger, nullable=False),
        sa.Column("realised_pnl", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "turnover",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("day", sa.Text, primary_key=True),
        sa.Column("asset", sa.Text, primary_key=True),
        sa.Column("notional", sa.BigInteger, nullable=False),
    )


def _promises() -> None:
    """Make what is taken, held and seen of the market."""
    op.create_table(
        "takings",
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
    )
    op.create_index("takings_that_count", "takings", ["ended", "instance"])
    op.create_index("takings_that_hold", "takings", ["ended", "held_until_ms"])
    op.create_table(
        "firm_quotes",
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
    )
    op.create_index("firm_quotes_of_account", "firm_quotes", ["account", "status"])
    op.create_index("firm_quotes_by_status", "firm_quotes", ["status"])
    op.create_table(
        "realism",
        sa.Column("execution_id", sa.Text, primary_key=True),
        sa.Column("message", sa.LargeBinary, nullable=False),
    )
