"""The ledger alone beside the raw ceiling of group commit on the same database: one thread, plain statements.

A fill of the ceiling is what a record cannot do without: a look for the order's id, the order, three fills, two
balances.  Ours is a whole one: entries, positions, taken liquidity and the chain as well.
"""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

from bench.figures import ratios, show, spread
from exchanges.book import UNIT, Side
from service.desk.accounts import settlement
from service.desk.execution import FILLED, ExecutedFill, Execution
from service.ledger.postgres import PostgresLedger
from service.ledger.protocol import Changes, Claim, State
from service.ledger.sql import SqlLedger
from service.ledger.sqlite import SqliteLedger
from service.market.taken import LevelKey, Lot

CLIENTS = 128
ROUNDS = 5
SECONDS = 3.0
POSTGRES = os.environ.get("IOB_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
SYMBOL = "BTC/USDT"
ACCOUNT = "bench"
_TABLES = (
    "CREATE TABLE orders (account TEXT, client_order_id TEXT, status TEXT, total TEXT, at TEXT, receipt {blob}, "
    "PRIMARY KEY (account, client_order_id))",
    "CREATE TABLE order_fills (client_order_id TEXT, n INTEGER, venue TEXT, price TEXT, quantity TEXT, fee TEXT, "
    "PRIMARY KEY (client_order_id, n))",
    "CREATE TABLE sums (account TEXT, asset TEXT, amount BIGINT, PRIMARY KEY (account, asset))",
    "INSERT INTO sums VALUES ('bench', 'USDT', 0), ('bench', 'BTC', 0)",
)
_RECEIPT = b"x" * 1_200


def run() -> dict[str, Any]:
    """Measure and print."""
    return {name: asyncio.run(beside(name)) for name in ("sqlite", "postgres")}


async def beside(database: str) -> dict[str, Any]:
    """Fill by turns on the ceiling and on the ledger, each time on an empty database."""
    ceilings, ours = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder, empty_database() as url:
            if database == "sqlite":
                ceilings.append(await ceiling(_raw_sqlite(Path(folder) / "ceiling.db"), "?", "BLOB"))
                ledger: SqlLedger = SqliteLedger.open(Path(folder) / "ledger.db", "simulated")
            else:
                ceilings.append(await ceiling(psycopg.connect(url), "%s", "BYTEA"))
                ledger = PostgresLedger.open(url, "simulated")
            ours.append(await fills_per_s(ledger))
            await ledger.close()
    result = {
        "clients": CLIENTS,
        "ceiling_per_s": spread(ceilings),
        "ledger_per_s": spread(ours),
        "ratio": ratios(ceilings, ours),
    }
    print(f"{database}: fills on record, {CLIENTS} clients, {ROUNDS} rounds of {SECONDS:g} s in turn")
    for name, figures in result.items():
        if isinstance(figures, dict):
            show(name, figures)
    return result


@contextmanager
def empty_database() -> Iterator[str]:
    """Make a database of our own on the PostgreSQL server, and drop it afterwards."""
    name = f"iob_bench_{secrets.token_hex(4)}"
    with psycopg.connect(POSTGRES, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
        try:
            yield POSTGRES.rsplit("/", 1)[0] + f"/{name}"
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _raw_sqlite(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


async def ceiling(connection: Any, mark: str, blob: str) -> float:
    """Fill with plain statements, group commit in one thread; give fills per second."""
    for statement in _TABLES:
        connection.execute(statement.format(blob=blob))
    connection.commit()
    waiting: queue.Queue[tuple[str, Future[None]] | None] = queue.Queue()

    def write() -> None:
        going = True
        while going:
            batch = [waiting.get()]
            while not waiting.empty() and len(batch) < 256:
                batch.append(waiting.get())
            going = None not in batch
            _write_plainly(connection, [one for one in batch if one is not None], mark)

    thread = threading.Thread(target=write)
    thread.start()

    async def fill(client_order_id: str) -> None:
        done: Future[None] = Future()
        waiting.put((client_order_id, done))
        await asyncio.wrap_future(done)

    per_s = await _rate(fill)
    waiting.put(None)
    thread.join()
    connection.close()
    return per_s


def _write_plainly(connection: Any, batch: list[tuple[str, Future[None]]], mark: str) -> None:
    cursor = connection.cursor()
    cursor.execute("BEGIN") if mark == "?" else None
    ids = [client_order_id for client_order_id, _ in batch]
    places = ", ".join([mark] * len(ids)) or "NULL"
    cursor.execute(f"SELECT client_order_id FROM orders WHERE account = 'bench' AND client_order_id IN ({places})", ids)
    cursor.fetchall()
    if ids:
        row = ", ".join([mark] * 6)
        at = datetime.now(UTC).isoformat()
        cursor.executemany(
            f"INSERT INTO orders VALUES ({row})", [(ACCOUNT, one, "filled", "304.2", at, _RECEIPT) for one in ids]
        )
        cursor.executemany(
            f"INSERT INTO order_fills VALUES ({row})",
            [(one, n, "kraken", "101.5", "1", "0.1") for one in ids for n in range(3)],
        )
        cursor.executemany(
            f"UPDATE sums SET amount = amount + {mark} WHERE account = {mark} AND asset = {mark}",
            [(1, ACCOUNT, asset) for _ in ids for asset in ("BTC", "USDT")],
        )
    connection.execute("COMMIT") if mark == "?" else connection.commit()
    for _, done in batch:
        done.set_result(None)


async def fills_per_s(ledger: SqlLedger) -> float:
    """Fill through the ledger; give fills per second."""
    fills = tuple(
        ExecutedFill(venue, SYMBOL, 101 * UNIT + n, UNIT, 10_100_000_000, 10_000_000, 0, 12, 7, None)
        for n, venue in enumerate(("kraken", "okx", "bybit"))
    )
    entries = settlement(ACCOUNT, SYMBOL, Side.BUY, fills)

    async def fill(client_order_id: str) -> None:
        now, ref = datetime.now(UTC), secrets.token_hex(16)
        claim = Claim(ref, ACCOUNT, now, (SYMBOL,), client_order_id, secrets.token_bytes(16))
        lots = tuple(
            Lot(ref, n, LevelKey(one.venue, SYMBOL, Side.BUY, one.price), UNIT, 0, 1, 10 * UNIT, ACCOUNT, None)
            for n, one in enumerate(fills)
        )

        def decide(state: State) -> tuple[None, Changes]:
            assert state.known is None
            return None, Changes(
                "execution",
                execution=_execution(ref, client_order_id, claim.quote_key, fills, now),
                holdings=state.holdings.with_entries(ACCOUNT, entries).with_fill(
                    SYMBOL, Side.BUY, 300_000_000, 30_300_000_000, 30_330_000_000
                ),
                entries=entries,
                lots=lots,
            )

        await ledger.transact(claim, decide)

    return await _rate(fill)


def _execution(
    ref: str, client_order_id: str, quote_key: bytes | None, fills: tuple[ExecutedFill, ...], now: datetime
) -> Execution:
    return Execution(
        execution_id=ref,
        account=ACCOUNT,
        client_order_id=client_order_id,
        fingerprint=bytes(32),
        quote_key=quote_key,
        market_data="simulated",
        status=FILLED,
        reject_code=None,
        symbol=SYMBOL,
        side="buy",
        time_in_force="fok",
        requested_quantity=3 * UNIT,
        requested_total=None,
        filled_quantity=3 * UNIT,
        subtotal=30_300_000_000,
        fees=30_000_000,
        markup=0,
        total=30_330_000_000,
        fills=fills,
        executed_at=now,
        receipt=_RECEIPT,
    )


async def _rate(fill: Callable[[str], Any]) -> float:
    """Let all clients fill again and again; give how many per second."""
    done = 0
    deadline = perf_counter() + SECONDS

    async def client(number: int) -> None:
        nonlocal done
        while perf_counter() < deadline:
            await fill(f"{number}-{done}-{secrets.token_hex(4)}")
            done += 1

    began = perf_counter()
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return done / (perf_counter() - began)
