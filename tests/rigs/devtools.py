"""A browser with nothing attached to it but what is asked for.

Test frameworks read along what a page hears, each message of a stream, and that costs the page time.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.rigs.ledgers import NotHere
from tests.web.visiting import ARGUMENTS

STARTS_WITHIN_S = 60.0
ANSWERS_WITHIN_S = 60.0


class Tab:
    """One page of the browser, spoken to in its own protocol."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse, browser_pid: int) -> None:
        self._browser_pid = browser_pid
        self.events: list[dict[str, Any]] = []
        self._connection = connection
        self._numbers = itertools.count(1)

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have it do something; gives the result.  Events that come meanwhile are kept."""
        number = next(self._numbers)
        await self._connection.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            while True:
                message = await self._connection.receive_json()
                if message.get("id") == number:
                    break
                self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def rss_kb(self) -> int:
        """Give the memory of the process that shows the page."""
        return max(_rss_kb(pid) for pid in _descendants(self._browser_pid) if b"--type=renderer" in _command(pid))

    async def evaluate(self, expression: str) -> Any:
        """Give what an expression comes to, once it is there."""
        answer = await self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, expression: str, within_s: float = 30.0) -> None:
        """Wait until an expression is true."""
        async with asyncio.timeout(within_s):
            while not await self.evaluate(f"Boolean({expression})"):  # noqa: ASYNC110 - pages tell nobody
                await asyncio.sleep(0.05)


@asynccontextmanager
async def tab(width: int, height: int) -> AsyncIterator[Tab]:
    """
    Start a browser with one empty page.

    Raises:
        NotHere: If there is none.
    """
    path = shutil.which("chromium")
    if path is None:
        raise NotHere("chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            path,
            *ARGUMENTS,
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            f"--window-size={width},{height}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(folder) / "DevToolsActivePort")
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                    [page] = [one for one in await response.json() if one["type"] == "page"]
                async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as connection:
                    yield Tab(connection, process.pid)
        finally:
            process.terminate()
            await process.wait()


async def _port(told: Path) -> int:
    async with asyncio.timeout(STARTS_WITHIN_S):
        while (port := _written(told)) is None:  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.05)
    return port


def _written(told: Path) -> int | None:
    """Give the port, once the file that the browser writes it into is whole."""
    lines = told.read_text().splitlines() if told.exists() else []
    return int(lines[0]) if len(lines) == 2 else None


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # It has ended meanwhile.
                continue
            parents.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _rss_kb(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])
