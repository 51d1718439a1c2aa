"""Bring a database's schema forward, and refuse one that is of another version, another mode or another program."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import structlog

from service.errors import ConfigError
from service.ledger import records, schema

SCHEMA_HEAD = "0005"

log = structlog.get_logger()


def migrate(connection: sa.Connection, name: str) -> None:
    """
    Bring the schema forward.

    Raises:
        ConfigError: If the database is ahead of this service; *name* says in it which one.
    """
    version = _version(connection)
    if version == SCHEMA_HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError([f"ledger.url: {name} was made by a newer version of this service"]) from error
    log.info("ledger.migrated", version_before=version, version=SCHEMA_HEAD)


def require_head(connection: sa.Connection, name: str) -> None:
    """
    Refuse a database whose schema is not this service's.

    Raises:
        ConfigError: With what to do.
    """
    version = _version(connection)
    if version != SCHEMA_HEAD:
        reason = "is no ledger" if version is None else "was made by another version of this service; start that first"
        raise ConfigError([f"ledger.url: {name} {reason}"])


def is_head(connection: sa.Connection) -> bool:
    """Tell whether a database's schema is this service's."""
    return _version(connection) == SCHEMA_HEAD


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return version


def stamp(connection: sa.Connection, name: str, mode: str) -> str:
    """
    Give the ledger's id, made and stamped with *mode* where it is new.

    Raises:
        ConfigError: If it was made under another mode.
    """
    row = connection.execute(schema.select_ledger).one_or_none()
    if row is None:
        ledger_id = secrets.token_hex(16)
        created_at = records.moment_text(datetime.now(UTC))
        connection.execute(schema.ledger.insert(), {"ledger_id": ledger_id, "mode": mode, "created_at": created_at})
        return ledger_id
    if row.mode != mode:
        raise ConfigError(
            [
                f"ledger.url: {name} was made under service.mode {row.mode!r} and does not open under {mode!r}; "
                "name another file, so that fills at simulated or recorded prices never stand among others"
            ]
        )
    return str(row.ledger_id)
