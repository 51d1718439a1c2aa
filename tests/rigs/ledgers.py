"""Ledgers that a rig may ruin: a SQLite file, or a PostgreSQL database of its own that is dropped afterwards."""

from __future__ import annotations

import asyncio
import re
import secrets
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from service.keys import KeyRing
from service.ledger.opening import open_ledger
from tests.databases import SERVER
from tests.rigs.server import ACCOUNTS, PEPPER, Setup


class NotHere(Exception):
    """The machine lacks what a rig needs; says what."""


class ServerNotHere(NotHere):
    """It lacks a database server, which a machine with ``CI=true`` has to have."""


@dataclass(frozen=True)
class Database:
    """
    A ledger with keys and without executions.

    Args:
        keys: Texts of keys with all scopes but admin, by account.
    """

    url: str
    keys: dict[str, str]

    @property
    def path(self) -> Path:
        """Give the file of a SQLite database."""
        return Path(self.url.removeprefix("sqlite:///"))


def postgres_missing() -> str | None:
    """Say why there is no PostgreSQL to use, or None."""
    try:
        psycopg.connect(SERVER, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        return f"no PostgreSQL (IOB_TEST_POSTGRES): {str(error).strip().splitlines()[0]}"
    return None


@contextmanager
def database(kind: str, folder: Path, *, unique: bool = True, server: str | None = None) -> Iterator[Database]:
    """
    Make a database: ``sqlite`` or ``postgresql``.

    Args:
        unique: False leaves the unique key on client_order_id out.
        server: Address of another PostgreSQL server than the usual one.

    Raises:
        NotHere: If there is no PostgreSQL.
    """
    if kind == "sqlite":
        made = _with_keys(f"sqlite:///{folder / 'ledger.db'}")
        if not unique:
            _without_unique_key(made.path)
        yield made
        return
    missing = None if server else postgres_missing()
    if missing is not None:
        raise ServerNotHere(missing)
    server = server or SERVER
    name = f"iob_rig_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = re.sub(r"/[^/?]*($|\?)", rf"/{name}\1", server)
    try:
        made = _with_keys(url)
        if not unique:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("ALTER TABLE executions DROP CONSTRAINT one_execution_per_client_order_id")
        yield made
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _with_keys(url: str) -> Database:
    """Make the tables and the keys; in a thread, as the caller's event loop may be running."""
    ring = KeyRing(PEPPER, "simulated")
    texts = {}

    async def make() -> None:
        ledger = open_ledger(Setup(url).settings())
        for account in ACCOUNTS:
            texts[account], stored = ring.make(account, ("quote", "execute", "account"), datetime.now(UTC))
            await ledger.add_key(stored)
        await ledger.close()

    _elsewhere(make)
    return Database(url, texts)


def _elsewhere(make) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(make())).result()


def _without_unique_key(path: Path) -> None:
    """Make the table anew, as SQLite cannot drop a constraint."""
    with closing(sqlite3.connect(path)) as connection:
        (text,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'executions'").fetchone()
        indexes = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'executions' AND sql IS NOT NULL"
        ).fetchall()
        without = re.sub(r",\s*CONSTRAINT one_execution_per_client_order_id UNIQUE \([^)]*\)", "", text)
        assert without != text
        connection.execute("DROP TABLE executions")
        connection.execute(without)
        for (index,) in indexes:
            connection.execute(index)
        connection.commit()
