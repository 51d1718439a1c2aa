"""What systemd is told: that the service is ready, that it lives, that it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from exchanges.simulator import run_in_thread
from service.app import serve
from service.notifying import notifying
from service.settings import load_settings

WITHIN_S = 20
SETTINGS = """
[service]
mode = "simulated"
port = 0
[market]
symbols = ["BTC/USDT"]
[ledger]
url = "sqlite:///{folder}/ledger.db"
[venues.kraken]
base_url = "{url}"
poll_interval_ms = 200
rate_limit_ms = 0
"""


@pytest.fixture(params=["in a folder", "abstract"])
def listener(tmp_path, request):
    """Listen as systemd does; gives the socket and the address that a service finds in its environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        name = f"iob-{os.getpid()}-notify" if request.param == "abstract" else str(tmp_path / "notify")
        listening.bind("\0" + name if request.param == "abstract" else name)
        yield listening, "@" + name if request.param == "abstract" else name


async def heard(listening):
    """Wait for the next message."""
    async with asyncio.timeout(WITHIN_S):
        return (await asyncio.get_running_loop().sock_recv(listening, 100)).decode()


async def test_watched_service_says_that_it_is_ready_alive_and_stopping(listener):
    """
    A watchdog is fed at half of its time, first at once, for as long as the service runs.
    """
    listening, address = listener
    async with notifying({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}):
        said = [await heard(listening) for _ in range(4)]

    assert ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"] == said
    while (last := await heard(listening)) == "WATCHDOG=1":
        pass
    assert "STOPPING=1" == last


@pytest.mark.parametrize("watchdog", [
    {}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"},
])  # fmt: skip
async def test_service_that_nobody_watches_feeds_no_watchdog(listener, watchdog):
    """
    Without a watchdog, with one for another process, or with one that is no time, it only says when it is ready.
    """
    listening, address = listener
    async with notifying({"NOTIFY_SOCKET": address, **watchdog}):
        assert "READY=1" == await heard(listening)
        await asyncio.sleep(0)

    assert "STOPPING=1" == await heard(listening)


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here", "/" + "x" * 200])
async def test_service_runs_where_nobody_listens(address):
    """
    Without systemd, or with an address at which nobody listens, the service runs all the same.
    """
    async with notifying({"NOTIFY_SOCKET": address}):
        pass


@pytest.mark.parametrize("listener", ["in a folder"], indirect=True)
async def test_whole_service_is_ready_once_it_has_books(tmp_path, listener):
    """
    What is started by ``serve`` says READY when it can be asked, and STOPPING at SIGTERM.
    """
    listening, address = listener
    with run_in_thread() as simulator:
        file = tmp_path / "settings.toml"
        file.write_text(SETTINGS.format(folder=tmp_path, url=simulator.base_url))
        told = []
        serving = asyncio.create_task(serve(load_settings(file, {}), {"NOTIFY_SOCKET": address}, told.append))
        first = asyncio.create_task(heard(listening))
        await asyncio.wait([serving, first], return_when=asyncio.FIRST_COMPLETED)

        assert "READY=1" == first.result()
        assert 1 == len(told)
        os.kill(os.getpid(), signal.SIGTERM)
        assert "STOPPING=1" == await heard(listening)
        async with asyncio.timeout(WITHIN_S):
            await serving
