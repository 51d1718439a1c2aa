"""Which request a row of the journal was written for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make room; rows that there are stay without, and the chain over them stays as it was."""
    op.add_column("journal", sa.Column("request_id", sa.Text))
    op.add_column("journal", sa.Column("trace_id", sa.Text))
