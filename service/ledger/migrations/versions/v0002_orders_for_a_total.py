"""Orders for a total, which name no quantity."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make room for a total, and let an order do without a quantity."""
    # Column by column: SQLite would have to rebuild the table, which others refer to, to change one in place.
    op.add_column("executions", sa.Column("asked_quantity", sa.Text))
    op.execute("UPDATE executions SET asked_quantity = requested_quantity")
    op.drop_column("executions", "requested_quantity")
    op.execute("ALTER TABLE executions RENAME COLUMN asked_quantity TO requested_quantity")
    op.add_column("executions", sa.Column("requested_total", sa.Text))
