"""The ledger's implementations, each behind the same fixture."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from service.ledger.postgres import PostgresLedger
from service.ledger.sqlite import SqliteLedger
from tests.databases import new_database
from tests.ledger.ledger_cases import STARTING


@pytest.fixture(autouse=True)
def logged():
    """What was logged meanwhile."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture(scope="session")
def postgres_template():
    """The name of a database with the ledger's tables, to be copied: that is faster than making them."""

    async def make(url):
        await PostgresLedger.open(url, "simulated").close()

    with new_database() as url, ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, make(url)).result()
        yield url.rpartition("/")[2].partition("?")[0]


@pytest.fixture
def postgres_url(postgres_template):
    """An empty ledger in a database of its own."""
    with new_database(postgres_template) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def implementation(request):
    """How to open one and the same record, again and again."""
    if request.param == "sqlite":
        path = request.getfixturevalue("tmp_path") / "ledger.db"
        shutil.copy(request.getfixturevalue("empty_ledger"), path)
        return lambda: SqliteLedger.open(path, "simulated", STARTING)
    url = request.getfixturevalue("postgres_url")
    return lambda: PostgresLedger.open(url, "simulated", STARTING)


@pytest.fixture
async def open_ledger(implementation):
    """Open the record; what is still open at the end is closed."""
    opened = []

    def open_again():
        opened.append(implementation())
        return opened[-1]

    yield open_again
    for ledger in opened:
        await ledger.close()


@pytest.fixture
def ledger(open_ledger):
    return open_ledger()
