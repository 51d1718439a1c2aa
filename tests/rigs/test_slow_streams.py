"""Clients of streams that do not read, a few and for a while only."""

from __future__ import annotations

from tests.rigs.slow_streams import RSS_KB_MAX, Length, slow_streams

SHORT = Length(clients=40, calm_s=1.0, closed_within_s=20.0, streams_revoked=2, lag_ms_max=5_000.0)
"""How late things are on a busy machine is no matter here."""


async def test_clients_that_do_not_read_are_closed(run):
    """
    They take little memory and are closed, and so are the streams of a key that is revoked.
    """
    figures = await run(slow_streams, SHORT)

    assert figures["ok"], str(figures)


async def test_broken_copies_are_found(run):
    """
    A service that writes to whoever does not read takes memory without end.
    """
    figures = await run(slow_streams, SHORT, fault="streams_queue")

    assert not figures["ok"]
    assert figures["rss_more_kb"] > RSS_KB_MAX, str(figures)
