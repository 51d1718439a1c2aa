"""Keep the record in a SQLite file.

One process owns the file: a lock beside it says so, and goes with the process however that ends.  One thread writes,
and what waits for it shares a commit: many orders, one transaction, one sync of the disk, and only then the answers.
Another thread reads.  WAL and ``synchronous=FULL`` are set, read back, and refused otherwise.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import secrets
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.pool import StaticPool

from service.desk.execution import REJECTED, Execution
from service.errors import ConfigError, OutcomeUnknown, Unavailable
from service.ledger import schema
from service.ledger.protocol import Outcome, Page, StoredExecution, StoredKey

BATCH_MAX = 256
"""Operations that share one transaction at most."""
QUEUE_MAX = 4_096
ANSWER_WITHIN_S = 2.0
BUSY_TIMEOUT_MS = 1_500
"""How long SQLite itself waits for a lock, so that a refusal still comes within ``ANSWER_WITHIN_S``."""
SCHEMA_HEAD = "0002"
_HEADER = b"SQLite format 3\x00"
_PRAGMAS = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    "busy_timeout": (str(BUSY_TIMEOUT_MS), BUSY_TIMEOUT_MS),
}
"""What is set on every connection, and what must be read back."""

T = TypeVar("T")
log = structlog.get_logger()


class LedgerLocked(ConfigError):
    """Another process has the ledger open."""


@dataclass(slots=True)
class _Operation:
    """One caller's piece of a transaction, and where its result goes once that is on disk."""

    run: Callable[[sa.Connection], Any]
    result: Future[Any]

    def take(self) -> bool:
        """Begin to run; False if the caller has taken it back, who can do so no longer afterwards."""
        result = self.result
        return result.running() or (not result.cancelled() and result.set_running_or_notify_cancel())


class _Writer:
    """The one thread that writes, with group commit."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._waiting: queue.Queue[_Operation | None] = queue.Queue(QUEUE_MAX)
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ledger writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[sa.Connection], T]) -> Future[T]:
        """Queue an operation; its future is done when its transaction is synced, or failed."""
        if self._closed:
            raise _unavailable()
        operation = _Operation(run, Future())
        try:
            self._waiting.put_nowait(operation)
        except queue.Full:
            raise Unavailable("overloaded", "too many orders wait for the record") from None
        return operation.result

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._next_batch()
            self._commit(batch)

    def _next_batch(self) -> tuple[list[_Operation], bool]:
        batch: list[_Operation] = []
        operation = self._waiting.get()
        while operation is not None:
            batch.append(operation)
            if len(batch) == BATCH_MAX:
                return batch, True
            try:
                operation = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: list[_Operation]) -> None:
        """Run a batch in one transaction; what one operation alone broke is not held against the others."""
        if not batch:
            return
        taken: list[_Operation] = []
        try:
            with self._engine.begin() as connection:
                # Only now that the database is ours: while it is locked, callers may still take theirs back.
                taken = [operation for operation in batch if operation.take()]
                results = [operation.run(connection) for operation in taken]
        except sa.exc.OperationalError as error:
            log.warning("ledger.unavailable", error=str(error.orig), waiting=len(batch))
            for operation in batch:
                if operation.take():
                    operation.result.set_exception(_unavailable(error))
        except Exception as error:
            if len(taken) > 1:
                for operation in taken:
                    self._commit([operation])
                return
            log.exception("ledger.failed")
            for operation in taken:
                operation.result.set_exception(_unavailable(error) if type(error) is sa.exc.DatabaseError else error)
        else:
            for operation, result in zip(taken, results, strict=True):
                operation.result.set_result(result)


class SqliteLedger:
    """The record in one SQLite file; see ``Ledger`` for what its methods promise."""

    def __init__(self, path: Path, lock: IO[bytes], engine: sa.Engine, ledger_id: str) -> None:
        """Take over what ``open`` has checked."""
        self._path = path
        self._lock = lock
        self._engine = engine
        self._ledger_id = ledger_id
        self._closed = False
        self._writer = _Writer(engine)
        self._read_engine = _engine(path, "BEGIN")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ledger reader")

    @classmethod
    def open(cls, path: Path, mode: str) -> Self:
        """
        Open the ledger, or make it, and bring its schema forward.

        Args:
            path: Of the database; its folder is made if need be.
            mode: ``live`` or ``simulated``; a ledger made under one is refused under the other.

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
                    _migrate(connection, path)
                    ledger_id = _stamp(connection, path, mode)
            except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
                reason = getattr(error, "orig", error)
                raise ConfigError([f"ledger.url: {path} cannot be used: {reason}"]) from error
            undo.pop_all()
        return cls(path, lock, engine, ledger_id)

    @property
    def ledger_id(self) -> str:
        """Give the 32 hex digits that name this record."""
        return self._ledger_id

    async def record(self, execution: Execution) -> tuple[Outcome, StoredExecution | None]:
        """Write an execution in one transaction and sync it; see ``Ledger.record``."""
        return await self._write(lambda connection: _record(connection, execution))

    async def find_client_order(self, account: str, client_order_id: str) -> StoredExecution | None:
        """Give what this account's order id stands for."""
        return await self._read(lambda connection: _find_client_order(connection, account, client_order_id))

    async def find_execution(self, account: str, execution_id: str) -> StoredExecution | None:
        """Give an execution of this account."""

        def find(connection: sa.Connection) -> StoredExecution | None:
            row = connection.execute(schema.select_execution, {"account": account, "id": execution_id}).one_or_none()
            return None if row is None else schema.stored_execution(row)

        return await self._read(find)

    async def quote_used(self, quote_key: bytes) -> bool:
        """Tell whether a fill has used this quote."""
        return await self._read(lambda connection: _quote_used(connection, quote_key))

    async def executions(
        self,
        account: str,
        *,
        symbol: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        """List an account's executions, newest first; see ``Ledger.executions``."""
        statement = schema.select_page(account, symbol, status, since, after, limit)

        def page(connection: sa.Connection) -> Page:
            rows = connection.execute(statement).all()
            more = rows[limit - 1].seq if len(rows) > limit else None
            return Page(tuple(schema.stored_execution(row) for row in rows[:limit]), more)

        return await self._read(page)

    async def add_key(self, key: StoredKey) -> None:
        """Keep a new key."""
        await self._write(lambda connection: connection.execute(schema.keys.insert(), schema.key_row(key)))

    async def keys(self) -> Sequence[StoredKey]:
        """Give all keys, oldest first."""
        return await self._read(
            lambda connection: [schema.stored_key(row) for row in connection.execute(schema.select_keys)]
        )

    async def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False if there is none of that id."""

        def revoke(connection: sa.Connection) -> bool:
            mine = schema.keys.c.key_id == key_id
            connection.execute(
                schema.keys.update()
                .where(mine, schema.keys.c.revoked_at.is_(None))
                .values(revoked_at=schema.moment_text(at))
            )
            return connection.execute(sa.select(schema.keys.c.key_id).where(mine)).one_or_none() is not None

        return await self._write(revoke)

    async def close(self) -> None:
        """Finish what was handed over, then let go of the files."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._closed = True
        self._writer.close()
        self._reader.shutdown()
        self._read_engine.dispose()
        self._engine.dispose()
        self._lock.close()

    async def _write(self, run: Callable[[sa.Connection], T]) -> T:
        future = self._writer.submit(run)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await asyncio.shield(asyncio.wrap_future(future))
        except TimeoutError:
            if future.cancel():
                raise _unavailable() from None
            raise OutcomeUnknown("outcome_unknown", "the record did not answer in time") from None

    async def _read(self, run: Callable[[sa.Connection], T]) -> T:
        def read() -> T:
            with self._read_engine.connect() as connection:
                return run(connection)

        if self._closed:
            raise _unavailable()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await asyncio.get_running_loop().run_in_executor(self._reader, read)
        except (TimeoutError, sa.exc.DatabaseError) as error:
            raise _unavailable() from error


def _unavailable(cause: Exception | None = None) -> Unavailable:
    refusal = Unavailable("ledger_unavailable", "the record cannot be reached; nothing was executed")
    refusal.__cause__ = cause
    return refusal


def _record(connection: sa.Connection, execution: Execution) -> tuple[Outcome, StoredExecution | None]:
    known = _find_client_order(connection, execution.account, execution.client_order_id)
    if known is not None:
        return Outcome.KNOWN, known
    filled = execution.status != REJECTED
    if filled and execution.quote_key is not None and _quote_used(connection, execution.quote_key):
        return Outcome.QUOTE_USED, None
    inserted = connection.execute(schema.insert_execution, schema.execution_row(execution)).inserted_primary_key
    if inserted is None:
        raise RuntimeError("the database gave no number to an execution")
    seq = inserted[0]
    if execution.fills:
        connection.execute(schema.insert_fill, schema.fill_rows(execution, seq))
    if filled and execution.quote_key is not None:
        connection.execute(schema.insert_quote_use, {"quote_key": execution.quote_key, "execution_seq": seq})
    return Outcome.RECORDED, StoredExecution(
        execution.execution_id,
        execution.account,
        execution.client_order_id,
        execution.fingerprint,
        execution.status,
        execution.reject_code,
        execution.receipt,
    )


def _find_client_order(connection: sa.Connection, account: str, client_order_id: str) -> StoredExecution | None:
    row = connection.execute(schema.select_client_order, {"account": account, "id": client_order_id}).one_or_none()
    return None if row is None else schema.stored_execution(row)


def _quote_used(connection: sa.Connection, quote_key: bytes) -> bool:
    return connection.execute(schema.select_quote_use, {"key": quote_key}).one_or_none() is not None


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


def _migrate(connection: sa.Connection, path: Path) -> None:
    version = None
    if sa.inspect(connection).has_table("alembic_version"):
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
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
        raise ConfigError([f"ledger.url: {path} was made by a newer version of this service"]) from error
    log.info("ledger.migrated", version_before=version, version=SCHEMA_HEAD)


def _stamp(connection: sa.Connection, path: Path, mode: str) -> str:
    row = connection.execute(schema.select_ledger).one_or_none()
    if row is None:
        ledger_id = secrets.token_hex(16)
        created_at = schema.moment_text(datetime.now(UTC))
        connection.execute(schema.ledger.insert(), {"ledger_id": ledger_id, "mode": mode, "created_at": created_at})
        return ledger_id
    if row.mode != mode:
        raise ConfigError(
            [
                f"ledger.url: {path} was made under service.mode {row.mode!r} and does not open under {mode!r}; "
                "name another file, so that simulated fills never stand among real ones"
            ]
        )
    return str(row.ledger_id)
