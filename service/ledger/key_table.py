"""Write API keys into the ledger's table, inside somebody's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from service.ledger import records, schema
from service.ledger.protocol import StoredKey


def add_key(connection: sa.Connection, key: StoredKey) -> None:
    """Put a new key into the table."""
    row = connection.execute(schema.select_key, {"id": key.key_id}).one_or_none()
    if row is None or records.stored_key(row) != key:  # The same one is from a commit that was lost from sight.
        connection.execute(schema.keys.insert(), records.key_row(key))


def revoke_key(connection: sa.Connection, key_id: str, at: datetime) -> bool:
    """Revoke a key; tell whether there is one of that id."""
    connection.execute(schema.revoke_key, {"a": key_id, "at": records.moment_text(at)})
    return connection.execute(schema.select_key, {"id": key_id}).one_or_none() is not None


def replace_key(connection: sa.Connection, key_id: str, key: StoredKey, expires_at: datetime) -> bool:
    """Put a new key in and let another expire; False, with nothing done, if that is revoked or not there."""
    connection.execute(schema.end_key, {"a": key_id, "at": records.moment_text(expires_at)})
    old = connection.execute(schema.select_key, {"id": key_id}).one_or_none()
    if old is None or old.revoked_at is not None:
        return False
    add_key(connection, key)
    return True


def note_uses(connection: sa.Connection, used: Mapping[str, datetime]) -> None:
    """Write down when keys were last used, where that is news; always in one order, whichever process does it."""
    rows = [{"a": key_id, "at": records.moment_text(at)} for key_id, at in sorted(used.items())]
    if rows:
        connection.execute(schema.note_key_use, rows)
