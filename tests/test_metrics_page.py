"""Metrics as they are documented and named, and as a service on real feeds tells them."""

from __future__ import annotations

import asyncio
import re
import socket

import aiohttp
import pytest

from service.app import running
from service.errors import ConfigError
from service.metrics.catalogue import CATALOGUE
from tests.exposed import free_port, samples, series
from tests.test_documentation import rows
from tests.test_reloading import operated, simulator, until  # noqa: F401

UNITS = ("seconds", "ratio", "bps", "price", "notional", "quantity", "info", "size", "length")
WITHOUT_UNIT = {
    "iob_http_connections", "iob_streams", "iob_firm_quotes_open", "iob_venue_enabled", "iob_venue_state",
    "iob_book_venues_live", "iob_book_quotable", "iob_book_crossed", "iob_ledger_up",
}  # fmt: skip
"""Numbers of things, and states that are 0 or 1."""


def test_page_lists_every_metric():
    """
    The table of metrics is the program's, in the same order and words.
    """
    listed = [
        [f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels) or "–", one.meaning]  # noqa: RUF001
        for one in CATALOGUE
    ]

    assert listed == rows("docs/metrics.md", "`iob_[a-z_]+`")


def test_names_keep_to_the_conventions():
    """
    One prefix, counters and only they end in total, the rest in a base unit or counts things; each is explained.
    """
    assert len(CATALOGUE) == len({one.name for one in CATALOGUE})
    for one in CATALOGUE:
        assert re.fullmatch(r"iob(_[a-z]+)+", one.name)
        assert (one.kind == "counter") == one.name.endswith("_total")
        assert one.kind == "counter" or one.name.endswith(UNITS) or one.name in WITHOUT_UNIT, one.name
        assert one.meaning.endswith(".") and len(one.meaning) < 130
        assert list(one.bounds) == sorted(set(one.bounds))
        assert all(re.fullmatch("[a-z_]+", label) and label not in ("le", "job", "instance") for label in one.labels)


def test_page_explains_every_label():
    """
    What a label may hold stands on the page.
    """
    explained = {
        name for row in rows("docs/metrics.md", r"`(?!iob_)[a-z_`, ]+`.*") for name in re.findall("`([a-z_]+)`", row[0])
    }

    assert {label for one in CATALOGUE for label in one.labels} <= explained


async def test_service_tells_on_a_port_of_its_own(operated):  # noqa: F811
    """
    Without a key Prometheus reads how long polls take; the service's own port goes on asking for one.
    """
    port = free_port()
    operated.write(["binance", "kraken"], more=f"[metrics]\nport = {port}\n")
    async with operated.serving(), aiohttp.ClientSession() as prometheus:

        async def polled():
            async with prometheus.get(f"http://127.0.0.1:{port}/metrics") as answer:
                found = samples(await answer.text())
            return {
                venue: found.get(series("iob_venue_poll_duration_seconds_count", venue=venue), 0) > 2
                and found[series("iob_venue_state", venue=venue, symbol="BTC/USDT", state="live")]
                for venue in ("binance", "kraken")
            }

        await until(polled, {"binance": 1, "kraken": 1})
        async with prometheus.get(f"http://127.0.0.1:{port}/quote") as answer:
            assert 404 == answer.status
        async with operated.session.get("/metrics", headers={"X-API-Key": "none"}) as answer:
            assert 401 == answer.status


async def test_port_of_its_own_is_answered_for_as_long_as_the_service_is_ready(operated):  # noqa: F811
    """
    However long a client of Prometheus' port takes, whoever looks is told at once that the service stops.
    """
    port = free_port()
    operated.write(["binance", "kraken"], more=f"[metrics]\nport = {port}\n")

    async def looked(address):
        async with aiohttp.ClientSession() as looking:
            while True:
                answers = []
                for url in (f"http://127.0.0.1:{port}/metrics", f"{address}/readyz"):
                    try:
                        async with looking.get(url) as answer:
                            answers.append(answer.status)
                    except aiohttp.ClientError:
                        answers.append(None)
                if answers[0] is None:
                    return answers[1]

    async with operated.serving():
        _, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        await operated.until_status(200, "/readyz")
        looking = asyncio.create_task(looked(operated.address))
    slow.close()

    assert 200 != await looking


async def test_port_that_is_taken_keeps_the_service_from_starting(operated):  # noqa: F811
    """
    The operator is told which key of the settings it is.
    """
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        operated.write(["kraken"], more=f"[metrics]\nport = {taken.getsockname()[1]}\n")
        with pytest.raises(ConfigError, match=r"^metrics\.port: cannot listen on 127\.0\.0\.1:"):
            async with running(operated.read(), {}):
                pass
