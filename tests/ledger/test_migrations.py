"""The schema's versions: they end where the tables say, and go forward whole or not at all."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.errors import ConfigError
from service.ledger import records, schema, versions
from service.ledger.postgres import PostgresLedger
from service.ledger.protocol import StoredKey
from service.ledger.sqlite import SqliteLedger
from service.ledger.versions import SCHEMA_HEAD
from tests.databases import ask, new_database
from tests.ledger.ledger_cases import NOON, Outcome, execution, record

MIGRATIONS = Path(versions.__file__).parent / "migrations"
NEXT = "0006"
LATER = f'''
"""A version to come."""
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{NEXT}", "{SCHEMA_HEAD}"


def upgrade():
    op.create_table("later", sa.Column("n", sa.Integer, primary_key=True))
    op.add_column("keys", sa.Column("note", sa.Text))
    op.execute("UPDATE keys SET account = 'changed'")
'''


@pytest.fixture
async def path(tmp_path):
    """A ledger made today, with a key in it."""
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger.open(path, "simulated")
    await ledger.add_key(StoredKey("k", "demo", ("quote",), bytes(32), NOON, None))
    await record(ledger, execution("a"))
    await ledger.close()
    return path


@pytest.fixture
def later_version(tmp_path, monkeypatch):
    """Give the service another version of the schema; returns the file it stands in."""
    shutil.copytree(MIGRATIONS, tmp_path / "later" / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "later" / "versions.py"))
    monkeypatch.setattr(versions, "SCHEMA_HEAD", NEXT)
    file = tmp_path / "later" / "migrations" / "versions" / f"v{NEXT}_later.py"
    file.write_text(LATER)
    return file


def made_by(path, version):
    """Make a ledger of an older version, with an execution in it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        older = sa.MetaData()
        older.reflect(connection)
        stamp = {"ledger_id": "0" * 32, "mode": "simulated", "created_at": records.moment_text(NOON)}
        connection.execute(older.tables["ledger"].insert(), stamp)
        old = execution("a")
        row = {**records.execution_row(old), "requested_quantity": "1.5"}
        executions, columns = older.tables["executions"], older.tables["executions"].columns
        connection.execute(executions.insert(), {name: row[name] for name in row if name in columns})
        connection.execute(older.tables["fills"].insert(), records.fill_rows(old, 1))
    engine.dispose()


def dump(path):
    """All that a database holds, as statements."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def tables(connection):
    """What can be seen of the tables: columns, keys, references, uniqueness, indexes."""
    seen = sa.inspect(connection)
    return {
        table: {
            "columns": {column["name"]: column | {"type": str(column["type"])} for column in seen.get_columns(table)},
            "primary key": seen.get_pk_constraint(table),
            "references": seen.get_foreign_keys(table),
            "unique": sorted(map(str, seen.get_unique_constraints(table))),
            "indexes": sorted(map(str, seen.get_indexes(table))),
            "options": seen.get_table_options(table),
        }
        for table in seen.get_table_names()
        if table != "alembic_version"
    }


def test_migrations_end_at_the_tables_of_the_schema(path, tmp_path):
    """
    A ledger brought forward by migrations is the one that ``schema.py`` describes, to the last index.
    """
    migrated, made = sa.create_engine(f"sqlite:///{path}"), sa.create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    with migrated.connect() as connection, made.begin() as other:
        schema.metadata.create_all(other)
        assert tables(other) == tables(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert [] == compare_metadata(context, schema.metadata)
    migrated.dispose()
    made.dispose()


def test_schema_head_is_the_newest_version():
    """
    The version that is taken for current without asking Alembic is the newest one there is.
    """
    scripts = ScriptDirectory(str(MIGRATIONS))

    assert [SCHEMA_HEAD] == scripts.get_heads()
    assert [SCHEMA_HEAD] == [scripts.get_current_head()]


def test_every_version_begins_its_file_name():
    """
    The files read in the order they are run in.
    """
    scripts = ScriptDirectory(str(MIGRATIONS))
    names = [Path(script.path).name for script in scripts.walk_revisions()]

    assert sorted(names, reverse=True) == names
    assert all(
        name.startswith(f"v{script.revision}_") for name, script in zip(names, scripts.walk_revisions(), strict=True)
    )


async def test_opening_again_changes_nothing(path, logged):
    """
    A ledger of today's version is not migrated.
    """
    before = dump(path)
    logged.clear()
    await SqliteLedger.open(path, "simulated").close()

    assert before == dump(path)
    assert [] == logged


async def test_first_opening_is_logged_with_the_version(path, logged):
    """
    A migration never happens silently.
    """
    assert ("ledger.migrated", None, SCHEMA_HEAD) in [
        (line["event"], line.get("version_before"), line.get("version")) for line in logged
    ]


async def test_older_ledger_is_brought_forward(path, later_version, logged):
    """
    A new version of the service opens the record of the one before, with everything in it.
    """
    ledger = SqliteLedger.open(path, "simulated")

    assert ["changed"] == [key.account for key in await ledger.keys()]
    assert await ledger.find_client_order("demo", "a") is not None
    assert (SCHEMA_HEAD, NEXT) == (logged[-1]["version_before"], logged[-1]["version"])
    await ledger.close()


@pytest.mark.parametrize("version", ["0001", "0002"])
async def test_ledger_of_an_earlier_version_takes_new_orders(tmp_path, version):
    """
    Whoever upgrades goes on with the record there is: with its quantities, and with orders for a total too.
    """
    path = tmp_path / "first.db"
    made_by(path, version)
    ledger = SqliteLedger.open(path, "simulated")
    try:
        assert await ledger.find_client_order("demo", "a") is not None
        outcome, _ = await record(ledger, execution("b", requested_quantity=None, requested_total=1))
        assert outcome is Outcome.RECORDED
    finally:
        await ledger.close()
    with closing(sqlite3.connect(path)) as connection:
        requested = "SELECT requested_quantity, requested_total FROM executions ORDER BY seq"
        assert [("1.5", None), (None, "0.00000001")] == connection.execute(requested).fetchall()
        assert [] == connection.execute("PRAGMA foreign_key_check").fetchall()
        # The chain begins after what there was: with the opening of the account, whose order follows.
        assert [(1, 3)] == connection.execute("SELECT journal_start, journal_seq FROM ledger").fetchall()
        assert [(2, "account"), (3, "execution")] == connection.execute("SELECT seq, kind FROM journal").fetchall()


async def test_keys_of_an_earlier_version_stay_as_they_were(tmp_path):
    """
    A key that was made before keys had terms works from everywhere and for ever.
    """
    path = tmp_path / "earlier.db"
    made_by(path, "0003")
    with closing(sqlite3.connect(path)) as connection:
        row = ("k", "demo", "quote,execute", bytes(32), records.moment_text(NOON))
        connection.execute("INSERT INTO keys (key_id, account, scopes, digest, created_at) VALUES (?, ?, ?, ?, ?)", row)
        connection.commit()
    ledger = SqliteLedger.open(path, "simulated")

    assert [StoredKey("k", "demo", ("quote", "execute"), bytes(32), NOON, None)] == list(await ledger.keys())
    await ledger.close()


async def test_postgres_migrations_end_at_the_tables_of_the_schema(postgres_url):
    """
    PostgreSQL, too, is brought to exactly what ``schema.py`` describes.
    """
    engine = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert [] == compare_metadata(context, schema.metadata)
    engine.dispose()


async def test_processes_that_start_at_once_make_one_ledger(logged):
    """
    Of several replicas that start on an empty database one makes the tables, and all find the same record.
    """
    with new_database() as url:
        opened = await asyncio.gather(*(asyncio.to_thread(PostgresLedger.open, url, "simulated") for _ in range(3)))
        names = {ledger.ledger_id for ledger in opened}
        for ledger in opened:
            await ledger.close()

    assert 1 == len(names)
    assert 1 == [line["event"] for line in logged].count("ledger.migrated")


async def test_newer_postgres_is_refused(postgres_url):
    """
    A database that a later version has brought forward is not touched by an older one.
    """
    ask(postgres_url, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(ConfigError, match="was made by a newer version of this service"):
        PostgresLedger.open(postgres_url, "simulated")
    assert [("9999",)] == ask(postgres_url, "SELECT version_num FROM alembic_version")


async def test_failing_migration_leaves_nothing_half_done(path, later_version):
    """
    What a migration did before it failed is undone, and the version before still opens the record.
    """
    before = dump(path)
    later_version.write_text(LATER + "    raise RuntimeError('half way')\n")

    with pytest.raises(RuntimeError, match="half way"):
        SqliteLedger.open(path, "simulated")

    assert before == dump(path)
    later_version.write_text(LATER)
    await SqliteLedger.open(path, "simulated").close()


async def test_failing_first_migration_leaves_an_empty_file(tmp_path, later_version):
    """
    A ledger is made whole or not at all.
    """
    later_version.write_text(LATER + "    op.execute('SELECT * FROM nowhere')\n")
    path = tmp_path / "new.db"

    with pytest.raises(ConfigError, match=r"new\.db cannot be used: no such table: nowhere"):
        SqliteLedger.open(path, "simulated")

    assert ["BEGIN TRANSACTION;", "COMMIT;"] == dump(path)
