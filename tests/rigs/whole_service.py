"""The whole service as a process, started by its command."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp

from tests.rigs.clients import calling
from tests.rigs.server import PEPPER, STARTS_WITHIN_S, SYMBOLS

_MUCH = "10000000000"
_VENUES = ("kraken", "okx")


class Service:
    """A process of ``internal-orderbook serve`` on simulated venues."""

    def __init__(self, url: str, folder: Path, simulator_url: str) -> None:
        """Be ready to start on a ledger that is there."""
        self._settings = folder / "settings.toml"
        venues = "".join(
            f'[venues.{name}]\nbase_url = "{simulator_url}"\npoll_interval_ms = 200\nrate_limit_ms = 0\n'
            for name in _VENUES
        )
        self._settings.write_text(
            f'[service]\nmode = "simulated"\n[ledger]\nurl = "{url}"\n[market]\nsymbols = {list(SYMBOLS)}\n'
            f'[liquidity]\ntaken = "off"\n'
            f'[accounts]\nstarting_balances = {{ USDT = "{_MUCH}", BTC = "{_MUCH}", ETH = "{_MUCH}" }}\n' + venues
        )
        self._log = folder / "service.log"
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""

    async def start(self) -> None:
        """Start it, and wait until it has books."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service", "serve", "--settings", str(self._settings), "--port", str(port)),
                env=environment | {"IOB_PEPPER": PEPPER.decode()},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + STARTS_WITHIN_S
        async with calling() as session:
            while not await _ready(session, self.address):
                if self._process.returncode is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the service does not start: {self._log.read_text()[-2_000:]}")
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it in the middle of whatever it is doing."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: int) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        await self._process.wait()

    async def __aenter__(self) -> Service:
        await self.start()
        return self

    async def __aexit__(self, *failed: object) -> None:
        await self._end(signal.SIGTERM)


async def _ready(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.get(f"{address}/readyz") as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError):
        return False
