"""The whole service as a process, started by its command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.rigs.clients import calling
from tests.rigs.server import PEPPER, STARTS_WITHIN_S, SYMBOLS

_MUCH = "10000000000"
_VENUES = ("kraken", "okx")
_WITH_FAULT = "from tests.rigs.faults import FAULTS; FAULTS[{!r}](); from service.__main__ import main; main({!r})"


class Service:
    """A process of ``internal-orderbook serve`` on simulated venues."""

    def __init__(
        self,
        url: str,
        folder: Path,
        simulator_url: str,
        venues: Sequence[str] = _VENUES,
        fault: str | None = None,
        more: str = "",
        env: Mapping[str, str] | None = None,
        said: Path | None = None,
    ) -> None:
        """
        Be ready to start on a ledger that is there.

        Args:
            fault: One of ``FAULTS``.
            more: Ends the settings file.
            env: Variables of its environment.
            said: Where what it says to people goes; by default into its log.
        """
        self._env = {"IOB_PEPPER": PEPPER.decode(), **(env or {})}
        self._settings = folder / "settings.toml"
        self._url, self._simulator_url, self._fault = url, simulator_url, fault
        self.write(venues, more)
        self._log = folder / "service.log"
        self._said = said or self._log
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""

    def write(self, venues: Sequence[str], more: str = "") -> None:
        """Write the settings file, whole or not at all; *more* stands at its end."""
        tables = "".join(
            f'[venues.{name}]\nbase_url = "{self._simulator_url}"\npoll_interval_ms = 200\nrate_limit_ms = 0\n'
            for name in venues
        )
        new = self._settings.with_suffix(".new")
        new.write_text(
            f'[service]\nmode = "simulated"\n[ledger]\nurl = "{self._url}"\n[market]\nsymbols = {list(SYMBOLS)}\n'
            f'[liquidity]\ntaken = "off"\n'
            "[limits]\nquote_per_s = 0\nexecute_per_s = 0\nfailed_keys_per_s = 0\n"
            f'[accounts]\nstarting_balances = {{ USDT = "{_MUCH}", BTC = "{_MUCH}", ETH = "{_MUCH}" }}\n'
            f"{tables}{more}"
        )
        new.replace(self._settings)

    def hang_up(self) -> None:
        """Have it read its settings again, as an operator would."""
        self._signal(signal.SIGHUP)

    def hold_still(self) -> None:
        """Stop it where it is; it notices nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on from there."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def log(self) -> bytes:
        """Give all that it has said so far."""
        return self._log.read_bytes()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Give its log's lines of this event so far."""
        whole = self._log.read_bytes().rpartition(b"\n")[0].splitlines()
        wanted = f'"{event}"'.encode()
        return [json.loads(line) for line in whole if wanted in line and line.startswith(b"{")]

    async def start(self) -> None:
        """Start it, and wait until it has books."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
        arguments = ["serve", "--settings", str(self._settings), "--port", str(port)]
        broken = ["-c", _WITH_FAULT.format(self._fault, arguments)]
        with self._log.open("ab") as log, self._said.open("ab") as said:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *(broken if self._fault else ["-m", "service", *arguments]),
                env=environment | self._env,
                stdout=log,
                stderr=said,
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

    async def stop(self) -> int:
        """Let it finish; gives its exit status."""
        return await self._end(signal.SIGTERM)

    @property
    def pid(self) -> int:
        """Give the process."""
        assert self._process is not None
        return self._process.pid

    async def _end(self, number: int) -> int:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

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
