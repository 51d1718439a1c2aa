"""What narrows an API key, and when it was last used."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make room; keys that there are stay as they were: from everywhere, for ever."""
    op.add_column("keys", sa.Column("expires_at", sa.Text))
    op.add_column("keys", sa.Column("addresses", sa.Text))
    op.add_column("keys", sa.Column("label", sa.Text))
    op.add_column("keys", sa.Column("quote_per_s", sa.Integer))
    op.add_column("keys", sa.Column("execute_per_s", sa.Integer))
    op.add_column("keys", sa.Column("last_used_at", sa.Text))
