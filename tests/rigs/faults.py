"""Broken copies of what the rigs check: each plants one fault into the process that calls it, to see a rig turn red."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from exchanges.feeds import Feeds
from service import app
from service.api import connection, fields, middleware, routes
from service.api.admission import Admission
from service.api.connection import Connection
from service.api.server import Runner, Server
from service.api.stream_client import Client
from service.desk.desk import Desk
from service.errors import ConfigError
from service.keys import KeyRing
from service.ledger import postgres, schema, sql, sqlite
from service.ledger.batch import Batch, stored_execution
from service.ledger.waiting import OutcomeLost
from service.settings_changes import switched
from service.switching import Switching
from tests.rigs.broken_feeds import FEED_FAULTS

GAP_S = 0.6
"""How wide a fault's gap is, so that a kill hits it."""
_OVERLAP_S = 0.1


def acknowledge_before_commit() -> None:
    """Tell callers what was decided while it is not yet written."""
    transaction = sql.SqlLedger._transaction

    async def told_first(self: sql.SqlLedger, batch: Any, work: Batch) -> None:
        decide, write = work.decide, work.write

        def decide_and_tell() -> None:
            decide()
            for waiting in batch:
                operation = waiting.operation
                if operation.decide is None or waiting.result.done():
                    continue
                if operation.error is not None:
                    waiting.result.set_exception(operation.error)
                else:
                    waiting.result.set_result(operation.result)

        def write_later(*arguments: Any) -> Any:
            time.sleep(GAP_S)
            return write(*arguments)

        work.decide, work.write = decide_and_tell, write_later  # type: ignore[method-assign]
        await transaction(self, batch, work)

    sql.SqlLedger._transaction = told_first  # type: ignore[method-assign]


def two_transactions() -> None:
    """Commit executions before their fills and entries."""
    for ledger in (sqlite.SqliteLedger, postgres.PostgresLedger):
        _commit_after_executions(ledger)


def _commit_after_executions(ledger: Any) -> None:
    insert = ledger._insert

    def insert_and_commit(self: Any, connection: sa.Connection, table: sa.Table, rows: Any) -> None:
        insert(self, connection, table, rows)
        if table is schema.executions:
            connection.commit()
            time.sleep(GAP_S)
            connection.begin()

    ledger._insert = insert_and_commit


def no_unique_key() -> None:
    """Never ask the record for a client_order_id; needs a database without the key."""
    Batch._read_known = lambda self, connection, accounts: None  # type: ignore[method-assign]
    _forget_within_batches()


def _forget_within_batches() -> None:
    apply = Batch._apply

    def apply_and_forget(self: Batch, claim: Any, changes: Any) -> None:
        apply(self, claim, changes)
        self._known.clear()

    Batch._apply = apply_and_forget  # type: ignore[method-assign]


def idempotency_in_memory() -> None:
    """Know the client_order_ids of this process only; needs a database without the key."""
    known: dict[tuple[str, str], Any] = {}
    apply = Batch._apply

    def apply_and_keep(self: Batch, claim: Any, changes: Any) -> None:
        apply(self, claim, changes)
        if changes is not None and changes.execution is not None:
            execution = changes.execution
            known[execution.account, execution.client_order_id] = stored_execution(execution)

    Batch._read_known = lambda self, connection, accounts: self._known.update(known)  # type: ignore[method-assign]
    Batch._apply = apply_and_keep  # type: ignore[method-assign]


def synchronous_normal() -> None:
    """Let SQLite answer before the disk has it."""
    sqlite._PRAGMAS["synchronous"] = ("NORMAL", 1)


def no_locks() -> None:
    """Let processes that share PostgreSQL decide without keeping each other from what they claim."""
    read_head = postgres.PostgresLedger._read_head

    def read_head_later(self: postgres.PostgresLedger, connection: sa.Connection) -> Any:
        time.sleep(_OVERLAP_S)
        return read_head(self, connection)

    postgres._advise = lambda connection, names: None
    postgres.PostgresLedger._read_head = read_head_later  # type: ignore[method-assign]


def quote_unchecked() -> None:
    """Leave it to the table's key that a quote is used once."""
    state = Batch._state

    def unused(self: Batch, claim: Any) -> Any:
        self._used.clear()
        return state(self, claim)

    Batch._state = unused  # type: ignore[method-assign]


def patient() -> None:
    """Wait for the record for as long as it takes."""
    sql.ANSWER_WITHIN_S = 60.0
    sqlite._PRAGMAS["busy_timeout"] = ("60000", 60_000)


def never_again() -> None:
    """Give the record up at the first failure."""
    commit, broken = sql.SqlLedger._commit, []

    async def commit_unless_broken(self: sql.SqlLedger, batch: Any) -> None:
        if broken:
            raise broken[0]
        try:
            await commit(self, batch)
        except sa.exc.OperationalError as error:
            broken.append(error)
            raise

    sql.SqlLedger._commit = commit_unless_broken  # type: ignore[method-assign]


def commit_believed() -> None:
    """Take a COMMIT whose answer was lost for one that happened."""
    end = sql.SqlLedger._end

    def end_and_believe(self: sql.SqlLedger, connection: sa.Connection, work: Batch) -> Any:
        try:
            return end(self, connection, work)
        except OutcomeLost:
            return self.head

    sql.SqlLedger._end = end_and_believe  # type: ignore[method-assign]


def commit_disbelieved() -> None:
    """Take a COMMIT whose answer was lost for one that did not happen."""
    postgres.PostgresLedger._lost = lambda self, error: False  # type: ignore[method-assign]


def begin_anew() -> None:
    """Go over to other venues by closing all, and opening those that are wanted."""
    apply = Feeds.apply

    async def close_and_open(self: Feeds, configs: Any, symbols: Any, outlier_bps: Any, **options: Any) -> None:
        await apply(self, [], symbols, outlier_bps, unserved=True)
        await apply(self, configs, symbols, outlier_bps, **options)

    Feeds.apply = close_and_open  # type: ignore[method-assign]


def mistakes_in_force() -> None:
    """Change something by a file with mistakes."""
    reload = Switching._reload

    async def reload_and_change(self: Switching) -> Any:
        try:
            return await reload(self)
        except ConfigError:
            last = list(self.settings.venues)[-1]
            await self._change_to(switched(self.settings, last, False), unserved=True)
            raise

    Switching._reload = reload_and_change  # type: ignore[method-assign]


def keys_stay_in_force() -> None:
    """Learn of new keys, and of no revocation before the next start."""
    hold = KeyRing.hold

    def hold_and_keep(self: KeyRing, keys: Any) -> None:
        before = dict(self._keys)
        hold(self, keys)
        self._keys = before | self._keys

    KeyRing.hold = hold_and_keep  # type: ignore[method-assign]
    KeyRing.drop = lambda self, key_id: None  # type: ignore[method-assign]


def parser_tells() -> None:
    """Answer what cannot be parsed, and log it, as aiohttp does by itself."""
    del Connection.handle_error


def everything_is_admitted() -> None:
    """Begin whatever comes, however much waits."""
    Admission.admits = lambda self, kind, ahead, now_ns: True  # type: ignore[method-assign]


def slow_record() -> None:
    """Take so long for each transaction that much is under way at any moment; no fault by itself."""
    transaction = sql.SqlLedger._transaction

    async def transaction_later(self: sql.SqlLedger, batch: Any, work: Batch) -> None:
        await asyncio.sleep(GAP_S)
        await transaction(self, batch, work)

    sql.SqlLedger._transaction = transaction_later  # type: ignore[method-assign]


def cut_at_the_end() -> None:
    """Take long for each transaction, and stop without waiting for any."""
    slow_record()

    async def at_once(self: Runner, within_s: float) -> None:
        for _, transport in self.connections.ours:
            transport.abort()

    Runner.finish = at_once  # type: ignore[method-assign]


def quick_to_cut() -> None:
    """Give slow clients less time; no fault by itself."""
    connection.HEAD_WITHIN_S, connection.BODY_WITHIN_S = 1.0, 0.5  # type: ignore[misc]


def never_cut() -> None:
    """Let clients take the time they like."""

    async def sweep_nothing(self: Server, now: float) -> None:
        pass

    Server.sweep = sweep_nothing  # type: ignore[method-assign]


def waits_for_everybody() -> None:
    """Wait at the end until every answer is read."""
    Connection.under_way = lambda self, now, unread_s: self._request_in_progress  # type: ignore[method-assign]
    app.FINISHED_WITHIN_S = 60.0
    connection.ANSWER_WITHIN_S = 60.0  # type: ignore[misc]


def streams_queue() -> None:
    """Write to clients of streams whether or not they read."""

    def write_on(self: Client) -> None:
        for frame in self._replies:
            self._write(0x81, frame)
        self._replies.clear()
        for subscription in self._ready:
            self._write(0x81, subscription.take(self.request_id))
        self._ready.clear()

    Client._flush = write_on  # type: ignore[method-assign]


def any_word() -> None:
    """Take any word where one of a few is asked for."""

    def taken(self: fields.Choice, value: Any, *_: Any, **__: Any) -> str:
        return str(value)

    fields.Choice._deserialize = taken  # type: ignore[method-assign, assignment]


def a_bug() -> None:
    """Have what one account asks for fail deep inside, with a secret in a variable; for looking at the log."""
    quote = Desk.quote

    def fail(self: Desk, account: str, request: Any) -> Any:
        secret = f"of {account}: a local variable"  # noqa: F841 - it must not get into the log
        if account == "eve":
            try:
                _ = {}["what is not there"]
            except KeyError as error:
                raise ExceptionGroup("a bug", [ValueError("\ud800"), ZeroDivisionError()]) from error
        return quote(self, account, request)

    Desk.quote = fail  # type: ignore[method-assign]


def prints() -> None:
    """Write to stdout past the log."""
    a_bug()
    answer = middleware._answered

    async def answer_and_print(*arguments: Any) -> Any:
        sys.stdout.write("answered\n")
        sys.stdout.flush()
        return await answer(*arguments)

    middleware._answered = answer_and_print


def misspelt() -> None:
    """Log a key that is on no page."""
    a_bug()
    record = routes._record_answer

    def record_and_more(request: Any, answer: Any) -> None:
        record(request, answer)
        request[middleware.RECORD].update(exectuion_id="0")

    routes._record_answer = record_and_more


FAULTS: dict[str, Callable[[], None]] = FEED_FAULTS | {
    fault.__name__: fault
    for fault in (
        acknowledge_before_commit,
        two_transactions,
        no_unique_key,
        idempotency_in_memory,
        synchronous_normal,
        no_locks,
        quote_unchecked,
        patient,
        never_again,
        commit_believed,
        commit_disbelieved,
        begin_anew,
        mistakes_in_force,
        keys_stay_in_force,
        parser_tells,
        everything_is_admitted,
        slow_record,
        cut_at_the_end,
        waits_for_everybody,
        quick_to_cut,
        never_cut,
        streams_queue,
        any_word,
        a_bug,
        prints,
        misspelt,
    )
}
WITHOUT_UNIQUE_KEY = ("no_unique_key", "idempotency_in_memory")
"""Faults that need a database made for them."""
