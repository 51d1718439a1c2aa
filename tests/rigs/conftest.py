"""How the tests run rigs: shortened, and skipped where the machine lacks something."""

from __future__ import annotations

import os
from itertools import count

import pytest

from tests.rigs.ledgers import NotHere, ServerNotHere


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Servers that are forked or killed never write what coverage saw of them, and watching takes half their time."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def run(tmp_path):
    """Run a rig to its end; a database that is missing where it has to be (CI=true) is a failure."""
    numbers = count()

    async def run_rig(rig, *arguments, kind=None, **options):
        try:
            folder = tmp_path / f"run{next(numbers)}"
            folder.mkdir()
            return await rig(*([kind] if kind else []), folder, *arguments, **options)
        except NotHere as missing:
            if isinstance(missing, ServerNotHere) and os.environ.get("CI") == "true":
                pytest.fail(str(missing))
            pytest.skip(str(missing))

    return run_rig
