"""Revoke keys that are in use, by the command line and by an admin's request, on one process and on two."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import aiohttp

from service.control import key_desk
from tests.rigs.clients import calling
from tests.rigs.ledgers import database
from tests.rigs.server import PEPPER, Server, Setup

PER_SECOND = 50
"""Requests to each process."""
HOLDS_WITHIN_S = 1.0
STREAMS_CLOSED_WITHIN_S = 5.0
_OVERLOADED = 503
"""Of a busy machine; nobody is let in by it."""
_BEFORE_S = 0.5
_WORKS_WITHIN_S = 10.0
_COMMAND_WITHIN_S = 60.0


@dataclass
class Heard:
    """What one process answered: when each request was sent and answered (monotonic), and with which status."""

    address: str
    answers: list[tuple[float, float, int]] = field(default_factory=list)

    def last_success(self) -> float:
        """Give when the last request that was granted was answered."""
        return max((done for _, done, status in self.answers if status == 200), default=0.0)

    def after(self, moment: float) -> list[int]:
        """Give the statuses of what was sent after a moment."""
        return [status for sent, _, status in self.answers if sent > moment]


async def revocation(
    kind: str,
    folder: Path,
    rounds: int,
    *,
    ways: tuple[str, ...] = ("route", "command"),
    fault: str | None = None,
) -> dict[str, Any]:
    """
    Revoke a key in use *rounds* times; give figures, with ``ok``.  PostgreSQL has two processes.

    On each process the key has a stream open, too, which must be closed.

    Args:
        ways: How, in turn: ``route`` asks the first process, ``command`` is the command line.
    """
    with database(kind, folder) as made:
        setup = Setup(made.url, faults=(fault,) if fault else ())
        async with key_desk(setup.settings(), lambda: PEPPER) as keys:
            admin, _ = await keys.create("admin", ["admin"])
        async with AsyncExitStack() as stack:
            servers = [Server(setup) for _ in range(1 if kind == "sqlite" else 2)]
            for server in servers:
                await stack.enter_async_context(server)
            pids = [server.process.pid for server in servers]
            rig = _Rig(made.url, folder, [server.address for server in servers])
            session = await stack.enter_async_context(calling())
            for way in islice(cycle(ways), rounds):
                await rig.round(session, way, admin)
            same = pids == [server.process.pid for server in servers if server.process.is_alive()]
    return rig.figures() | {"ok": rig.ok() and same, "rounds": rounds, "processes": len(pids), "restarted": not same}


class _Rig:
    def __init__(self, url: str, folder: Path, addresses: list[str]) -> None:
        self._addresses = addresses
        self._settings = folder / "settings.toml"
        self._settings.write_text(
            f'[service]\nmode = "simulated"\n[ledger]\nurl = "{url}"\n[market]\nsymbols = ["BTC/USDT"]\n'
            '[venues.kraken]\nbase_url = "http://127.0.0.1:9"\n'
        )
        self._asked = 0
        self._success_after_s: list[float] = []
        self._closed_after_s: list[float] = []
        self._works_after_s: list[float] = []
        self._unexpected: list[int] = []
        self._overloaded = 0

    async def round(self, session: aiohttp.ClientSession, way: str, admin: str) -> None:
        """Make a key, use it on every process, revoke it, and go on asking."""
        body = {"account": "ann", "scopes": ["quote"]}
        async with session.post(
            f"{self._addresses[0]}/v1/admin/keys", json=body, headers={"X-API-Key": admin}
        ) as response:
            key = (await response.json())["key"]
        made_at = time.monotonic()
        for address in self._addresses:
            await self._until_it_works(session, address, key)
        self._works_after_s.append(time.monotonic() - made_at)
        streams = [asyncio.create_task(_closed(session, address, key)) for address in self._addresses]
        heard = [Heard(address) for address in self._addresses]
        load = [asyncio.create_task(_ask(session, one, key)) for one in heard]
        await asyncio.sleep(_BEFORE_S)
        key_id = key.split("_")[2]
        await (self._by_route(session, admin, key_id) if way == "route" else self._by_command(key_id))
        revoked_at = time.monotonic()
        await asyncio.sleep(2 * HOLDS_WITHIN_S)
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
        await self._judge(heard, streams, revoked_at)

    async def _judge(self, heard: list[Heard], streams: list[asyncio.Task[float]], revoked_at: float) -> None:
        for one in heard:
            self._asked += len(one.answers)
            self._success_after_s.append(one.last_success() - revoked_at)
            statuses = [status for _, _, status in one.answers]
            self._overloaded += statuses.count(_OVERLOADED)
            later = one.after(revoked_at + HOLDS_WITHIN_S)
            self._unexpected += [status for status in later if status not in (401, _OVERLOADED)]
            self._unexpected += [status for status in statuses if status not in (200, 401, _OVERLOADED)]
            # Nothing granted before, or nothing refused after, would say nothing.
            self._unexpected += [] if one.last_success() and 401 in later else [0]
        await asyncio.wait(streams, timeout=max(0.0, revoked_at + STREAMS_CLOSED_WITHIN_S - time.monotonic()))
        for one in streams:
            closed = one.done() and not one.exception()
            self._closed_after_s.append(one.result() - revoked_at if closed else float("inf"))
            one.cancel()

    async def _until_it_works(self, session: aiohttp.ClientSession, address: str, key: str) -> None:
        deadline = time.monotonic() + _WORKS_WITHIN_S
        while time.monotonic() < deadline:
            if await _status(session, address, key) == 200:
                return
            await asyncio.sleep(0.02)

    async def _by_route(self, session: aiohttp.ClientSession, admin: str, key_id: str) -> None:
        headers = {"X-API-Key": admin}
        async with session.delete(f"{self._addresses[0]}/v1/admin/keys/{key_id}", headers=headers) as response:
            if response.status != 200:
                self._unexpected.append(response.status)

    async def _by_command(self, key_id: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
        command = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "service", "keys", "revoke", key_id, "--settings", str(self._settings)),
            env=environment | {"IOB_PEPPER": PEPPER.decode()},
            stderr=asyncio.subprocess.DEVNULL,
        )
        if await asyncio.wait_for(command.wait(), _COMMAND_WITHIN_S):
            self._unexpected.append(command.returncode or 0)

    def ok(self) -> bool:
        """Tell whether every revocation held in time, and nothing else went wrong."""
        return (
            max(self._success_after_s) <= HOLDS_WITHIN_S
            and not self._unexpected
            # One that was closed long before was no stream of that key.
            and -_COMMAND_WITHIN_S < min(self._closed_after_s)
            and max(self._closed_after_s) <= STREAMS_CLOSED_WITHIN_S
        )

    def figures(self) -> dict[str, Any]:
        """Give what was measured, in seconds after the revocation was answered; below 0 is before."""
        return {
            "asked": self._asked,
            "last_success_after_s": round(max(self._success_after_s), 3),
            "streams_closed_after_s": round(max(self._closed_after_s), 3),
            "new_key_works_everywhere_after_s": round(max(self._works_after_s), 3),
            "overloaded": self._overloaded,
            "unexpected": self._unexpected[:10],
        }


async def _closed(session: aiohttp.ClientSession, address: str, key: str) -> float:
    """Open a stream with a key, and give when (monotonic) the server closed it."""
    async with session.ws_connect(f"{address}/v1/stream", headers={"X-API-Key": key}) as stream:
        await stream.send_json({"op": "subscribe", "channel": "venues"})
        async for _ in stream:
            pass
        return time.monotonic()


async def _ask(session: aiohttp.ClientSession, heard: Heard, key: str) -> None:
    """Ask at a steady rate, whether or not the answers come."""
    asking: set[asyncio.Task[None]] = set()

    async def ask() -> None:
        sent = time.monotonic()
        status = await _status(session, heard.address, key)
        heard.answers.append((sent, time.monotonic(), status))

    began, number = time.monotonic(), 0
    try:
        while True:
            number += 1
            task = asyncio.create_task(ask())
            asking.add(task)
            task.add_done_callback(asking.discard)
            await asyncio.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
    finally:
        await asyncio.gather(*asking, return_exceptions=True)


async def _status(session: aiohttp.ClientSession, address: str, key: str) -> int:
    params = {"symbol": "BTC/USDT", "quantity": "0.1"}
    async with session.get(f"{address}/quote", params=params, headers={"X-API-Key": key}) as response:
        await response.read()
        return response.status
