"""Venues that are swapped under load cost nobody an answer."""

from __future__ import annotations

import pytest

from tests.rigs.reload import reload


async def test_reload_under_load_fails_no_request(run):
    """
    The service as its command starts it: venues come and go under 200 quotes a second, and every one is answered.
    """
    figures = await run(reload, 1, busy=True)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(("fault", "trouble"), [("begin_anew", "failed"), ("mistakes_in_force", "wrong")])
async def test_reload_finds_broken_copies(run, fault, trouble):
    """
    A service that closes all venues to change two, or changes anything by a broken file, is found out.
    """
    figures = await run(reload, 1, fault=fault, busy=True)

    assert not figures["ok"]
    assert figures[trouble], str(figures)
