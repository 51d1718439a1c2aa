"""Clients of streams that do not read, a few and for a while only."""

from __future__ import annotations

import pytest

from tests.rigs.slow_streams import Length, slow_streams

pytestmark = pytest.mark.rig

SHORT = Length(
    clients=10,
    calm_s=0.2,
    closed_within_s=20.0,
    streams_revoked=2,
    lag_ms_max=5_000.0,
    room_bytes=4_096,
    hurried=True,
)
"""How late things are on a busy machine is no matter here."""


async def test_clients_that_do_not_read_are_closed(run):
    """
    They take little memory and are closed, and so are the streams of a key that is revoked.
    """
    figures = await run(slow_streams, SHORT)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
async def test_slow_streams_finds_a_broken_copy(run):
    """
    A service that writes to whoever does not read, and so skips nothing, is found out.
    """
    figures = await run(slow_streams, SHORT, fault="streams_queue")

    assert not figures["ok"]
    assert 0 == figures["skipped"], str(figures)
