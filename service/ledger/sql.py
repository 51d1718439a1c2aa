"""Keep the record in an SQL database: what SQLite and PostgreSQL have in common.

Operations that wait together share a transaction: what all of them claim is locked and read, each decides in turn, all
is written and synced, and only then do the answers go out (group commit).  One thread writes, another reads; decisions
are made on the event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import perf_counter
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from service.desk.accounts import Balance, Holdings, Position
from service.desk.firm import FirmQuote
from service.errors import OutcomeUnknown, Unavailable
from service.ledger import key_table, records, schema
from service.ledger.batch import Batch, Operation
from service.ledger.condition import Condition
from service.ledger.journal import BEGINNING
from service.ledger.protocol import (
    Changes,
    Claim,
    Decide,
    EntryPage,
    LedgerWatch,
    Page,
    State,
    StoredEntry,
    StoredExecution,
    StoredKey,
)
from service.ledger.verify import Report, rebuild
from service.ledger.waiting import OutcomeLost, Waiting, fail, unavailable, unknown
from service.market.taken import Lot
from service.tracing import handled

BATCH_MAX = 256
"""Operations that share one transaction at most."""
QUEUE_MAX = 4_096
ANSWER_WITHIN_S = 2.0

R = TypeVar("R")
T = TypeVar("T")
log = structlog.get_logger()


class SqlLedger(ABC):
    """The record in an SQL database; see ``Ledger`` for what its methods promise."""

    shared: bool

    def __init__(
        self,
        engine: sa.Engine,
        read_engine: sa.Engine,
        ledger_id: str,
        starting: Mapping[str, int],
        readers: int = 1,
    ) -> None:
        """Take over engines to a database that has been checked."""
        self._engine = engine
        self._read_engine = read_engine
        self._ledger_id = ledger_id
        self._starting = starting
        self._instance = secrets.token_hex(8)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger writer")
        self._reader = ThreadPoolExecutor(readers, thread_name_prefix="ledger reader")
        self._waiting: deque[Waiting] = deque()
        self._wake = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._closed = False
        self._head: tuple[int, bytes] = (0, BEGINNING)
        self._condition = Condition()

    # What differs between databases

    @abstractmethod
    def _lock(self, connection: sa.Connection, names: Sequence[str]) -> None:
        """Keep every other transaction from what has these names until this one ends."""

    @abstractmethod
    def _read_head(self, connection: sa.Connection) -> sa.Row[Any]:
        """Read the ledger's row, and keep others from the journal until the transaction ends."""

    @abstractmethod
    async def orphaned(self) -> Sequence[FirmQuote]:
        """Give the open firm quotes of processes that are no more."""

    @abstractmethod
    def _insert(self, connection: sa.Connection, table: sa.Table, rows: list[tuple[Any, ...]]) -> None:
        """Put many rows into a table, their values in the order of its columns."""

    @abstractmethod
    def _lost(self, error: sa.exc.DBAPIError) -> bool:
        """Tell whether an error at COMMIT leaves it open what has become of the transaction."""

    # Writing

    @property
    def ledger_id(self) -> str:
        """Give the 32 hex digits that name this record."""
        return self._ledger_id

    @property
    def instance(self) -> str:
        """Name this process in the firm quotes that it gives."""
        return self._instance

    @property
    def head(self) -> tuple[int, bytes]:
        """Give the journal's last number and hash, as far as this process knows."""
        return self._head

    @property
    def up(self) -> bool:
        """Tell whether the latest commit and the latest read succeeded."""
        return self._condition.up

    @property
    def queued(self) -> int:
        """Count the operations that wait for a transaction."""
        return len(self._waiting)

    def watch(self, watch: LedgerWatch) -> None:
        """Tell *watch* of every transaction from now on."""
        self._condition.watch(watch)

    async def probe(self) -> None:
        """Commit a transaction that changes nothing; what it writes is synced all the same."""
        await self._write(lambda connection: connection.execute(schema.touch_ledger))

    async def transact(self, claim: Claim, decide: Decide[R]) -> R:
        """Lock and read what is claimed, decide, write and sync; see ``Ledger.transact``."""
        result: R = await self._submit(Operation(claim=claim, decide=decide, handled=handled()))
        return result

    async def open_account(self, account: str, now: datetime) -> bool:
        """Open an account with the starting balances; False if it is open already."""

        def decide(state: State) -> tuple[bool, Changes | None]:
            return not state.opened, None if state.opened else Changes("quiet")

        return await self.transact(Claim(secrets.token_hex(16), account, now), decide)

    async def _write(self, run: Callable[[sa.Connection], T]) -> T:
        result: T = await self._submit(Operation(run=run))
        return result

    async def _submit(self, operation: Operation) -> Any:
        if self._closed:
            raise unavailable()
        if len(self._waiting) >= QUEUE_MAX:
            raise Unavailable("overloaded", "too many orders wait for the record")
        waiting = Waiting(operation, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._work is None:
            # It works for all, not for the request that came first.
            nobody_s = contextvars.Context()
            self._work = asyncio.create_task(self._commit_batches(), name="ledger", context=nobody_s)
        self._wake.set()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await asyncio.shield(waiting.result)
        except TimeoutError:
            self._condition.writable = False
            if not waiting.taken:
                waiting.operation.taken_back = True
                if waiting in self._waiting:  # Else it is in a transaction that waits for its locks.
                    self._waiting.remove(waiting)
                raise unavailable() from None
            raise OutcomeUnknown("outcome_unknown", "the record did not answer in time") from None

    async def _commit_batches(self) -> None:
        while True:
            while not self._waiting:
                if self._closed:
                    return
                self._wake.clear()
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            await self._commit_again(batch)

    async def _commit_again(self, batch: Sequence[Waiting]) -> None:
        """Commit, and where the outcome was lost, look what has become of it, for as long as callers wait."""
        deadline = asyncio.get_running_loop().time() + ANSWER_WITHIN_S
        while True:
            try:
                await self._commit(batch)
            except OutcomeLost as lost:
                if asyncio.get_running_loop().time() < deadline:
                    continue
                fail(batch, unknown(), lost)
            except sa.exc.OperationalError as error:
                attempted = any(waiting.operation.attempted for waiting in batch)
                if attempted and asyncio.get_running_loop().time() < deadline:
                    await asyncio.sleep(0.05)
                    continue
                log.warning("ledger.unavailable", error=str(error.orig), waiting=len(batch))
                fail(batch, unknown() if attempted else unavailable(), error)
            return

    async def _commit(self, batch: Sequence[Waiting]) -> None:
        """Run a batch in one transaction; what one operation alone broke is not held against the others."""
        operations = [waiting.operation for waiting in batch]
        began = perf_counter()
        try:
            await self._transaction(batch, Batch(operations, self._starting, self._instance, shared=self.shared))
        except (sa.exc.OperationalError, OutcomeLost):
            self._condition.commit_failed(down=True)
            raise
        except Exception as error:
            # A damaged file; a server that has become another's copy, which is read only.
            database_s = type(error) in (sa.exc.DatabaseError, sa.exc.InternalError)
            self._condition.commit_failed(down=database_s)
            if len(batch) > 1:
                for waiting in batch:
                    await self._commit_again([waiting])
                return
            log.exception("ledger.failed")
            fail(batch, unavailable() if database_s else error, error)
        else:
            self._condition.committed(perf_counter() - began, operations)
            for waiting in batch:
                if waiting.result.done():
                    continue
                if waiting.operation.error is not None:
                    waiting.result.set_exception(waiting.operation.error)
                else:
                    waiting.result.set_result(waiting.operation.result)

    async def _transaction(self, batch: Sequence[Waiting], work: Batch) -> None:
        connection = await self._in_writer(self._engine.connect)
        try:
            await self._in_writer(self._begin, connection, work)
            # Only now that what is claimed is ours: while it is locked, callers may still take theirs back.
            for waiting in batch:
                waiting.taken = True
            work.decide()
            head = await self._in_writer(self._end, connection, work)
        finally:
            await self._in_writer(connection.close)
        self._head = head

    def _begin(self, connection: sa.Connection, work: Batch) -> None:
        connection.begin()
        self._lock(connection, work.locks)
        work.read(connection)

    def _end(self, connection: sa.Connection, work: Batch) -> tuple[int, bytes]:
        row = self._read_head(connection)
        head = (row.journal_seq, BEGINNING if row.journal_hash is None else bytes(row.journal_hash))
        head = work.write(connection, head, self._insert)
        try:
            connection.commit()
        except sa.exc.DBAPIError as error:
            if self._lost(error):
                for operation in work.operations:
                    operation.attempted = True
                raise OutcomeLost from error
            raise
        return head

    async def _in_writer(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call, *arguments)

    # Reading

    async def _read(self, run: Callable[[sa.Connection], T]) -> T:
        def read() -> T:
            with self._read_engine.connect() as connection:
                return run(connection)

        if self._closed:
            raise unavailable()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                result = await asyncio.get_running_loop().run_in_executor(self._reader, read)
        except (TimeoutError, sa.exc.DBAPIError) as error:
            self._condition.readable = False
            raise unavailable(error) from error
        self._condition.readable = True
        return result

    def begin_with(self, starting: Mapping[str, int]) -> None:
        """Let accounts that are opened from now on begin with other balances."""
        self._starting = starting

    async def find_client_order(self, account: str, client_order_id: str) -> StoredExecution | None:
        """Give what this account's order id stands for."""
        return await self._find(schema.select_client_order, account, client_order_id)

    async def find_execution(self, account: str, execution_id: str) -> StoredExecution | None:
        """Give an execution of this account."""
        return await self._find(schema.select_execution, account, execution_id)

    async def _find(self, statement: sa.Select[Any], account: str, wanted: str) -> StoredExecution | None:
        row = await self._read(
            lambda connection: connection.execute(statement, {"account": account, "id": wanted}).one_or_none()
        )
        return None if row is None else records.stored_execution(row)

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
        rows = await self._read(lambda connection: connection.execute(statement).all())
        more = rows[limit - 1].seq if len(rows) > limit else None
        return Page(tuple(records.stored_execution(row) for row in rows[:limit]), more)

    async def holdings(self, account: str, now: datetime) -> Holdings | None:
        """Give what an account has, or None if there is no such account."""

        def read(connection: sa.Connection) -> Holdings | None:
            wanted = {"accounts": [account]}
            if connection.execute(schema.select_accounts, wanted).one_or_none() is None:
                return None
            days = {**wanted, "days": [now.date().isoformat()]}
            return Holdings(
                {row.asset: Balance(row.total, row.held) for row in connection.execute(schema.select_balances, wanted)},
                {
                    row.symbol: Position(row.quantity, row.cost, row.realised_pnl)
                    for row in connection.execute(schema.select_positions, wanted)
                },
                {row.asset: row.notional for row in connection.execute(schema.select_turnover, days)},
            )

        return await self._read(read)

    async def entries(
        self, account: str, *, asset: str | None = None, after: int | None = None, limit: int = 50
    ) -> EntryPage:
        """List an account's entries, newest first."""
        statement = schema.select_entries(account, asset, after, limit)
        rows = await self._read(lambda connection: connection.execute(statement).all())
        found = [
            StoredEntry(
                number=schema.entry_number(row.seq, row.n),
                kind=row.kind,
                ref=row.ref,
                asset=row.asset,
                amount=row.amount,
                at=records.moment_read(row.at),
            )
            for row in rows
        ]
        return EntryPage(tuple(found[:limit]), found[limit - 1].number if len(found) > limit else None)

    async def firm_quote(self, account: str, quote_id: str) -> FirmQuote | None:
        """Give a firm quote of this account, or None."""
        wanted = {"account": account, "id": quote_id}
        row = await self._read(lambda connection: connection.execute(schema.select_firm_quote, wanted).one_or_none())
        return None if row is None else records.stored_firm_quote(row)

    async def open_firm_quotes(self) -> Sequence[FirmQuote]:
        """Give all open firm quotes."""
        rows = await self._read(lambda connection: connection.execute(schema.select_open_firm_quotes).all())
        return [records.stored_firm_quote(row) for row in rows]

    async def lots(self, *, of_others: bool = False) -> Sequence[Lot]:
        """Give all liquidity that is still charged, or what other processes have taken of it."""
        statement, mine = (
            (schema.select_lots_of_others, {"instance": self._instance}) if of_others else (schema.select_lots, {})
        )
        rows = await self._read(lambda connection: connection.execute(statement, mine).all())
        return [records.stored_lot(row) for row in rows]

    async def keep_lots(self, lots: Collection[Lot]) -> None:
        """Write down what is left of lots."""
        rows = [records.lot_update(lot) for lot in lots]
        if rows:
            await self._write(lambda connection: connection.execute(schema.update_lot, rows))

    async def add_realism(self, execution_id: str, message: bytes) -> None:
        """Keep what was seen after a fill."""
        row = {"execution_id": execution_id, "message": message}

        def add(connection: sa.Connection) -> None:
            if not connection.execute(schema.select_realism, {"ids": [execution_id]}).all():
                connection.execute(schema.realism.insert(), row)

        await self._write(add)

    async def realism(self, execution_ids: Collection[str]) -> Mapping[str, bytes]:
        """Give what was seen after these fills, as far as it is on record."""
        wanted = {"ids": list(execution_ids)}
        rows = await self._read(lambda connection: connection.execute(schema.select_realism, wanted).all())
        return {row.execution_id: bytes(row.message) for row in rows}

    async def add_key(self, key: StoredKey) -> None:
        """Keep a new key."""
        await self._write(lambda connection: key_table.add_key(connection, key))

    async def keys(self) -> Sequence[StoredKey]:
        """Give all keys, oldest first."""
        rows = await self._read(lambda connection: connection.execute(schema.select_keys).all())
        return [records.stored_key(row) for row in rows]

    async def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False if there is none of that id."""
        return await self._write(lambda connection: key_table.revoke_key(connection, key_id, at))

    async def replace_key(self, key_id: str, key: StoredKey, expires_at: datetime) -> bool:
        """Keep a new key, and let another one expire, both or neither."""
        return await self._write(lambda connection: key_table.replace_key(connection, key_id, key, expires_at))

    async def note_key_uses(self, used: Mapping[str, datetime]) -> None:
        """Keep when keys were last used, where that is news."""
        await self._write(lambda connection: key_table.note_uses(connection, used))

    async def rebuild(self) -> Report:
        """Write balances and positions anew from what is on record, and verify it all."""
        return await self._write(rebuild)

    async def close(self) -> None:
        """Finish what was handed over, then let go of the database."""
        self._closed = True
        self._wake.set()
        if self._work is not None:
            await self._work
        await asyncio.get_running_loop().run_in_executor(None, self._let_go)

    def _let_go(self) -> None:
        self._writer.shutdown()
        self._reader.shutdown()
        self._read_engine.dispose()
        self._engine.dispose()
