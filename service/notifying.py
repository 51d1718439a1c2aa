"""Tell systemd, where it has started the process, that the service is ready, alive and stopping (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def notifying(env: Mapping[str, str]) -> AsyncIterator[None]:
    """Say that it is ready, that it lives as often as is asked for, and on the way out that it is stopping."""
    address = env.get("NOTIFY_SOCKET")
    if not address:
        yield
        return
    _send(address, "READY=1")
    alive = asyncio.create_task(_live(address, _every_s(env)), name="watchdog")
    try:
        yield
    finally:
        alive.cancel()
        _send(address, "STOPPING=1")


def _every_s(env: Mapping[str, str]) -> float | None:
    """Give half of the time after which systemd takes the process for dead, or None where it does not watch it."""
    watched, by = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID")
    if not (watched.isascii() and watched.isdecimal()) or by not in (None, "", str(os.getpid())):
        return None
    return int(watched) / 2_000_000 or None  # 0 is what says nothing, and would be fed without a pause.


async def _live(address: str, every_s: float | None) -> None:
    """A loop that is blocked says nothing: that is what systemd watches for."""
    while every_s is not None:
        _send(address, "WATCHDOG=1")
        await asyncio.sleep(every_s)


def _send(address: str, state: str) -> None:
    """Send one message; that nobody listens is no reason not to serve."""
    name = "\0" + address[1:] if address.startswith("@") else address  # An abstract name.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(state.encode(), name)
