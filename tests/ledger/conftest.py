"""The ledger's implementations, each behind the same fixture."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from service.ledger.sqlite import SqliteLedger


@pytest.fixture(autouse=True)
def logged():
    """What was logged meanwhile."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture(params=["sqlite"])
def implementation(request, tmp_path):
    """How to open one and the same record, again and again; a second database is a second parameter."""
    return {"sqlite": lambda: SqliteLedger.open(tmp_path / "ledger.db", "simulated")}[request.param]


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
