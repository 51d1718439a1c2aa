"""Keep the record in PostgreSQL 15 or newer, where any number of processes may share it.

What a transaction claims is locked by advisory locks, symbols before accounts, each in sorted order, so that processes
wait for each other and never for themselves.  ``fsync`` and ``synchronous_commit`` are read back, and refused where a
confirmed commit could be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import psycopg
import sqlalchemy as sa
from psycopg import sql

from service.desk.firm import FirmQuote
from service.errors import ConfigError
from service.ledger import schema
from service.ledger.sql import SqlLedger
from service.ledger.versions import migrate, require_head, stamp

LOCK_WAIT_MS = 1_500
"""How long a transaction waits for others', so that a refusal still comes in good time."""
VERSION_MIN = 15
_NOTICE_A_LOST_SERVER = {
    "tcp_user_timeout": 2_000,
    "keepalives_idle": 2,
    "keepalives_interval": 1,
    "keepalives_count": 2,
}
_CONNECT_WITHIN_S = 2
_OPTIONS = f"-c lock_timeout={LOCK_WAIT_MS} -c statement_timeout=1900 -c idle_in_transaction_session_timeout=10000"
_DURABLE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "local", "remote_apply")}
"""Settings under which a commit that was confirmed is on disk."""
_MIGRATING = "migrating"


class PostgresLedger(SqlLedger):
    """The record in a PostgreSQL database; see ``Ledger`` for what its methods promise."""

    shared = True

    @classmethod
    def open(cls, url: str, mode: str, starting: Mapping[str, int] | None = None) -> Self:
        """
        Open the ledger, or make its tables, and bring its schema forward.

        Args:
            url: ``postgresql://…``, as libpq knows it.
            mode: ``live``, ``simulated`` or ``replay``; a ledger made under one is refused under the others.
            starting: What a new account begins with, by asset; whole numbers of 10**-8.

        Raises:
            ConfigError: If it cannot be used, and why.
        """
        parsed, name = _parsed(url)
        engine = _engine(parsed, 1)
        try:
            with engine.begin() as connection:
                _check(connection, name)
                # Several processes may start at once, and one of them may have much to do.
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                _advise(connection, [_MIGRATING])
                migrate(connection, name)
                ledger_id = stamp(connection, name, mode)
            ledger = cls(engine, _engine(parsed, 2), ledger_id, starting or {}, readers=2)
            ledger._alive = _engine(parsed, 1)
            ledger._show_that_it_lives()
        except sa.exc.DBAPIError as error:
            engine.dispose()
            reason = str(error.orig).strip().split("\n")[0]
            raise ConfigError([f"ledger.url: {name} cannot be used: {reason}"]) from error
        except ConfigError:
            engine.dispose()
            raise
        return ledger

    _alive: sa.Engine
    _life: sa.Connection | None = None

    def _lock(self, connection: sa.Connection, names: Sequence[str]) -> None:
        _advise(connection, names)

    def _read_head(self, connection: sa.Connection) -> sa.Row[Any]:
        return connection.execute(schema.select_ledger.with_for_update()).one()

    def _insert(self, connection: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
        try:
            cursor: psycopg.Cursor[Any] = connection.connection.cursor()  # type: ignore[assignment]
            with cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except psycopg.Error as error:
            raise sa.exc.DBAPIError.instance(
                None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=connection.closed
            ) from error

    def _lost(self, error: sa.exc.DBAPIError) -> bool:
        return error.connection_invalidated or isinstance(error, sa.exc.OperationalError)

    def _show_that_it_lives(self) -> None:
        """Hold a lock for as long as this process lives, and hold it again after the connection broke."""
        if self._life is not None and not self._life.invalidated and not self._life.closed:
            try:
                self._life.exec_driver_sql("SELECT 1")
            except sa.exc.DBAPIError:
                self._life.close()
            else:
                return
        self._life = self._alive.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._life.execute(sa.text("SELECT pg_advisory_lock_shared(:key)"), {"key": _key(f"instance {self.instance}")})

    async def orphaned(self) -> Sequence[FirmQuote]:
        """Give the open firm quotes of processes that hold no lock any more."""

        def living(connection: sa.Connection) -> set[str]:
            self._show_that_it_lives()
            # A lock of 64 bits stands in two columns of 32.
            rows = connection.exec_driver_sql(
                "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks "
                "WHERE locktype = 'advisory' AND objsubid = 1 AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ).scalars()
            held = set(rows)
            return {quote.instance for quote in quotes if _key(f"instance {quote.instance}") in held}

        quotes = await self.open_firm_quotes()
        alive = await self._read(living)
        return [quote for quote in quotes if quote.instance not in alive]

    def _let_go(self) -> None:
        if self._life is not None:
            self._life.close()
        self._alive.dispose()
        super()._let_go()


@contextmanager
def reading(url: str) -> Iterator[sa.Connection]:
    """
    Read a ledger as it was at one moment, beside the processes that have it open.

    Raises:
        ConfigError: If there is none, it was made by another version, or it cannot be read.
    """
    parsed, name = _parsed(url)
    engine = sa.create_engine(parsed, hide_parameters=True, connect_args={"connect_timeout": _CONNECT_WITHIN_S})
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            require_head(connection, name)
            yield connection
    except sa.exc.DatabaseError as error:
        reason = str(error.orig).strip().split("\n")[0]
        raise ConfigError([f"ledger.url: {name} cannot be read: {reason}"]) from error
    finally:
        engine.dispose()


def shown(url: str) -> str:
    """Give an address without user and password, as it may be shown; ConfigError if it is none."""
    return _parsed(url)[1]


def _parsed(url: str) -> tuple[sa.URL, str]:
    """Give an address for the driver, and what may be shown of it."""
    try:
        parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
    except (sa.exc.ArgumentError, ValueError):  # What was raised may hold the password.
        raise ConfigError(["ledger.url: is not an address postgresql://user:password@host:port/database"]) from None
    shown = sa.URL.create("postgresql", host=parsed.host, port=parsed.port, database=parsed.database)
    return parsed, shown.render_as_string()


def _engine(url: sa.URL, size: int) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=_CONNECT_WITHIN_S,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_WITHIN_S, "options": _OPTIONS, **_NOTICE_A_LOST_SERVER},
    )


def _check(connection: sa.Connection, name: str) -> None:
    version = connection.exec_driver_sql("SHOW server_version_num").scalar_one()
    if int(version) < VERSION_MIN * 10_000:
        raise ConfigError([f"ledger.url: {name} is older than PostgreSQL {VERSION_MIN}"])
    for setting, durable in _DURABLE.items():
        found = connection.exec_driver_sql(f"SHOW {setting}").scalar_one()
        if found not in durable:
            raise ConfigError([f"ledger.url: {name} has {setting}={found}; it would lose what was confirmed"])


def _advise(connection: sa.Connection, names: Sequence[str]) -> None:
    """Lock names until the transaction ends, in their order."""
    for name in names:
        connection.execute(_LOCK, {"key": _key(name)})


_LOCK = sa.text("SELECT pg_advisory_xact_lock(:key)")


def _key(name: str) -> int:
    """Give the 63 bits that stand for a name."""
    return int.from_bytes(hashlib.sha256(f"internal-orderbook {name}".encode()).digest()[:8], "big") >> 1
