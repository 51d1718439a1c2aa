"""Databases for tests: each PostgreSQL database is made for one test and dropped after it.

The server is ``IOB_TEST_POSTGRES``, an address of a database of a user who may make others, or the one on this machine.
"""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager

import psycopg
import pytest

SERVER = os.environ.get("IOB_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")


def needs_postgres():
    """Skip the test that calls it where there is no server; a machine that has to have one says ``CI=true``."""
    try:
        psycopg.connect(SERVER, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        reason = f"no PostgreSQL (IOB_TEST_POSTGRES): {str(error).strip().splitlines()[0]}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def ask(url, statement):
    """Ask a database as another program would; gives the rows, if there are any."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextmanager
def new_database(template="template1"):
    """Make a database and give its address; *template* is the name of the one it is a copy of."""
    needs_postgres()
    name = f"iob_test_{secrets.token_hex(6)}"
    ask(SERVER, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield at(name)
    finally:
        ask(SERVER, f"DROP DATABASE {name} WITH (FORCE)")


def at(name, **changes):
    """Give the address of a database of the server; *changes*: ``user``, ``password``, ``host``, ``port``."""
    return changed(re.sub(r"/[^/?]*($|\?)", rf"/{name}\1", SERVER), **changes)


def changed(url, *, user=None, password=None, host=None, port=None):
    """Give an address with other parts."""
    scheme, old_user, old_password, old_host, old_port, rest = re.fullmatch(
        r"(postgresql)://(?:([^:@/]*)(?::([^@/]*))?@)?([^:/?]*)(?::(\d+))?(.*)", url
    ).groups()
    user, password = user or old_user or "", password or old_password
    credentials = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return f"{scheme}://{credentials}{host or old_host}:{port or old_port or 5432}{rest}"
