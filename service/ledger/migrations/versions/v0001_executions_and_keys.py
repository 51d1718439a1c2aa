"""Executions, their fills, the quotes they used up, and API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "ledger",
        sa.Column("ledger_id", sa.Text, primary_key=True),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "executions",
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
        sa.Column("requested_quantity", sa.Text, nullable=False),
        sa.Column("filled_quantity", sa.Text, nullable=False),
        sa.Column("subtotal", sa.Text, nullable=False),
        sa.Column("fees", sa.Text, nullable=False),
        sa.Column("markup", sa.Text, nullable=False),
        sa.Column("total", sa.Text, nullable=False),
        sa.Column("executed_at", sa.Text, nullable=False),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("account", "client_order_id", name="one_execution_per_client_order_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("executions_of_account", "executions", ["account", "seq"])
    op.create_table(
        "fills",
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
    op.create_table(
        "quote_uses",
        sa.Column("quote_key", sa.LargeBinary, primary_key=True),
        sa.Column("execution_seq", sa.Integer, sa.ForeignKey("executions.seq"), nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("revoked_at", sa.Text),
    )
