"""Secrets are nowhere but where they belong."""

from __future__ import annotations

import pytest

from tests.rigs.canaries import canaries


async def test_no_secret_gets_out_by_broken_requests(run):
    """
    Key, pepper and the database's password are in no line, no answer, no table and no command line.
    """
    figures = await run(canaries, kind="postgresql")

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
async def test_canaries_find_broken_copies(run):
    """
    A service that logs what it could not read, as its HTTP library does by itself, is found out.
    """
    figures = await run(canaries, kind="sqlite", fault="parser_tells")

    assert not figures["ok"]
    assert {"key in logs", "key in bodies"} & set(figures["hits"]), str(figures)
