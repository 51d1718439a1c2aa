"""Keep the record in a SQLite file.

One process owns the file: a lock beside it says so, and goes with the process however that ends.  WAL and
``synchronous=FULL`` are set, read back, and refused otherwise.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any, Self

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from service.desk.firm import FirmQuote
from service.errors import ConfigError
from service.ledger import schema
from service.ledger.sql import SqlLedger
from service.ledger.versions import migrate, require_head, stamp

BUSY_TIMEOUT_MS = 1_500
"""How long SQLite itself waits for a lock, so that a refusal still comes in good time."""
_HEADER = b"SQLite format 3\x00"
_PRAGMAS = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    "busy_timeout": (str(BUSY_TIMEOUT_MS), BUSY_TIMEOUT_MS),
}
"""What is set on every connection, and what must be read back."""


class LedgerLocked(ConfigError):
    """Another process has the ledger open."""


class SqliteLedger(SqlLedger):
    """The record in one SQLite file; see ``Ledger`` for what its methods promise."""

    shared = False

    def __init__(
        self, path: Path, lock: IO[bytes], engine: sa.Engine, ledger_id: str, starting: Mapping[str, int]
    ) -> None:
        """Take over what ``open`` has checked."""
        super().__init__(engine, _engine(path, "BEGIN"), ledger_id, starting)
        self._file_lock = lock

    @classmethod
    def open(cls, path: Path, mode: str, starting: Mapping[str, int] | None = None) -> Self:
        """
        Open the ledger, or make it, and bring its schema forward.

        Args:
            path: Of the database; its folder is made if need be.
            mode: ``live``, ``simulated`` or ``replay``; a ledger made under one is refused under the others.
            starting: What a new account begins with, by asset; whole numbers of 10**-8.

        Raises:
            LedgerLocked: If another process has it open.
            ConfigError: If it cannot be used, and why; it has not been changed then.
        """
        path = _resolved(path)
        if path.name in ("", ":memory:"):
            raise ConfigError([f"ledger.url: {path} is not the name of a file; the record is kept in one"])
        with ExitStack() as undo:
            lock = undo.enter_context(_locked(path))
            try:
                _check_file(path)
                engine = _engine(path, "BEGIN IMMEDIATE")
                undo.callback(engine.dispose)
                with engine.begin() as connection:
                    _check_pragmas(connection, path)
                    migrate(connection, str(path))
                    ledger_id = stamp(connection, str(path), mode)
            except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
                reason = getattr(error, "orig", error)
                raise ConfigError([f"ledger.url: {path} cannot be used: {reason}"]) from error
            undo.pop_all()
        return cls(path, lock, engine, ledger_id, starting or {})

    def _lock(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """Do nothing: BEGIN IMMEDIATE keeps everyone else from everything."""

    def _read_head(self, connection: sa.Connection) -> sa.Row[Any]:
        return connection.execute(schema.select_ledger).one()

    def _insert(self, connection: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
        columns = ", ".join(column.name for column in table.columns)
        places = ", ".join("?" * len(table.columns))
        # Both are the schema's own names; the values are bound.
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({columns}) VALUES ({places})", rows)  # noqa: S608

    def _lost(self, error: sa.exc.DBAPIError) -> bool:
        return False  # A COMMIT that fails has been taken back.

    async def orphaned(self) -> Sequence[FirmQuote]:
        """Give the open firm quotes of earlier processes."""
        return [quote for quote in await self.open_firm_quotes() if quote.instance != self.instance]

    async def close(self) -> None:
        """Finish what was handed over, then let go of the file and of its lock."""
        await super().close()
        await asyncio.get_running_loop().run_in_executor(None, self._file_lock.close)


@contextmanager
def reading(path: Path) -> Iterator[sa.Connection]:
    """
    Read a ledger as it was at one moment, beside the process that has it open.

    Raises:
        ConfigError: If there is none, it was made by another version, or it cannot be read.
    """
    path = _resolved(path)
    if not path.is_file():
        raise ConfigError([f"ledger.url: {path} is not there"])
    _check_file(path)
    engine = _engine(path, "BEGIN")
    try:
        with engine.connect() as connection:
            require_head(connection, str(path))
            yield connection
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        raise ConfigError([f"ledger.url: {path} cannot be read: {getattr(error, 'orig', error)}"]) from error
    finally:
        engine.dispose()


@contextmanager
def as_it_is(path: Path) -> Iterator[sqlite3.Connection]:
    """
    Hold a ledger of any version as it is at this moment, beside the process that has it open, to be copied.

    Raises:
        ConfigError: If there is none, or it cannot be read.
    """
    path = _resolved(path)
    if not path.is_file():
        raise ConfigError([f"ledger.url: {path} is not there"])
    _check_file(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # The moment is that of the first read.
        except sqlite3.DatabaseError as error:
            raise ConfigError([f"ledger.url: {path} cannot be read: {error}"]) from error
        yield connection


def _resolved(path: Path) -> Path:
    """Give the one name of a file that links lead to: one file is one record, with one lock."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle; ValueError: a NUL
        raise _unusable(path, error) from error


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _private(path.with_name(path.name + ".lock"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise _unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if isinstance(error, BlockingIOError):
            raise LedgerLocked([f"ledger.url: another process has {path} open"]) from error
        raise _unusable(path, error) from error
    return lock


def _unusable(path: Path, error: OSError | RuntimeError | ValueError) -> ConfigError:
    if isinstance(error, FileExistsError):
        reason = "its folder is a file"
    else:
        reason = (isinstance(error, OSError) and error.strerror) or "not a file name"
    return ConfigError([f"ledger.url: {path} cannot be used: {reason}"])


def _private(path: Path) -> IO[bytes]:
    """Open a file to which nobody else has access, made if need be."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


def _check_file(path: Path) -> None:
    try:
        with _private(path) as file:
            header = file.read(len(_HEADER))
    except OSError as error:
        raise _unusable(path, error) from error
    if not header:
        return
    if header != _HEADER:
        raise ConfigError([f"ledger.url: {path} is not a SQLite database; move it away or name another file"])
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"ledger", "alembic_version"} <= tables:
        raise ConfigError([f"ledger.url: {path} is the database of another program; name another file"])


def _engine(path: Path, begin: str) -> sa.Engine:
    """Make an engine of one connection whose transactions start with the statement *begin*."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma, (wanted, _) in _PRAGMAS.items():
            connection.execute(f"PRAGMA {pragma}={wanted}")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=StaticPool, hide_parameters=True)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _check_pragmas(connection: sa.Connection, path: Path) -> None:
    for pragma, (wanted, expected) in _PRAGMAS.items():
        found = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
        if found != expected:
            raise ConfigError([f"ledger.url: {path} does not keep {pragma}={wanted}; it would lose what was confirmed"])
