"""The Dockerfile's steps, one by one, give a service that is ready as an ordinary user who can write its data alone."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.rigs.clients import calling
from tests.rigs.container import Root, Stage, build, context, interpreter, needs_mounts, stages
from tests.rigs.simulated import simulated_venues

ROOT = Path(__file__).parents[2]
READY_WITHIN_S, ENDS_WITHIN_S = 60.0, 15.0
_SETTINGS = """
[service]
mode = "simulated"
[market]
symbols = ["BTC/USDT"]
[venues.kraken]
base_url = "{url}"
poll_interval_ms = 200
rate_limit_ms = 0
[venues.okx]
base_url = "{url}"
poll_interval_ms = 200
rate_limit_ms = 0
"""
_WRITABLE = """
import os
found = []
for folder, names, _ in os.walk("/"):
    names[:] = [name for name in names if os.path.join(folder, name) not in ("/proc", "/sys")]
    try:
        with open(os.path.join(folder, ".probe"), "w"):
            pass
    except OSError:
        continue
    os.unlink(os.path.join(folder, ".probe"))
    found.append(folder)
print(*found, sep="\\n")
"""
"""Tries to make a file in every folder; prints those in which it could."""
WRITABLE = {"/data", "/dev/shm", "/tmp"}
"""/dev/shm is the memory that every engine gives a container, /tmp what it is started with (``--tmpfs /tmp``)."""


async def dockerfile(folder: Path, *, user: str | None = None) -> dict[str, Any]:
    """
    Build and run it on simulated venues; give figures, with ``ok``.

    Args:
        user: Numbers of another user and group to run it as than the Dockerfile says.
    """
    needs_mounts()
    began = time.monotonic()
    plan = stages(ROOT / "Dockerfile")
    python = interpreter(re.findall(r"^python:(\d+\.\d+)", plan[-1].base)[0])
    sent = folder / "context"
    sent.mkdir()
    context(ROOT, sent)
    built: dict[str, Root] = {}
    for number, stage in enumerate(plan):
        built[stage.name] = root = Root(folder / f"stage{number}", python)
        await asyncio.to_thread(build, stage, root, sent, built)
    built_s = round(time.monotonic() - began, 1)
    stage.user = user or stage.user
    figures = await _used(folder, stage, root)
    size = sum(path.lstat().st_size for path in (root.folder / "opt/venv").rglob("*"))
    return figures | {
        "steps": sum(len(stage.steps) for stage in plan),
        "built_s": built_s,
        "venv_mb": size // 1_000_000,
        "python": python.name,
    }


async def _used(folder: Path, stage: Stage, root: Root) -> dict[str, Any]:
    """Start what was built as its user would; ask it, look around in it, and end it."""
    data = folder / "data"
    shutil.copytree(root.folder / "data", data)  # As an engine fills a new volume: what the image has there, and whose.
    image = (root.folder / "data").stat()
    os.chown(data, image.st_uid, image.st_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = stage.env | {"IOB_SERVICE__PORT": str(port)}
    async with simulated_venues() as venues:
        settings = folder / "settings.toml"
        settings.write_text(_SETTINGS.format(url=venues.base_url))
        settings.chmod(0o644)
        mounted = {"/etc/internal-orderbook/settings.toml": settings}

        def inside(command: list[str]) -> list[str]:
            return root.isolated(command, env, stage.folder, stage.user, {stage.volumes[0]: data}, mounted)

        async with _started(inside(stage.entrypoint + stage.command), folder / "service.log") as process:
            began = time.monotonic()
            await _ready(process, f"http://127.0.0.1:{port}", folder / "service.log")
            ready_s = round(time.monotonic() - began, 1)
            pid = _first_child(process.pid)
            ids, rights = _credentials(pid)
            healthy = await _ended(inside(stage.healthcheck))
            looked = await asyncio.create_subprocess_exec(
                *inside(["python", "-c", _WRITABLE]), stdout=asyncio.subprocess.PIPE, env={}
            )
            writable = set((await looked.communicate())[0].decode().split())
            began = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            status = await asyncio.wait_for(process.wait(), ENDS_WITHIN_S)
            ended_s = round(time.monotonic() - began, 1)
        unhealthy = await _ended(inside(stage.healthcheck))
    owned = {path.name for path in data.iterdir()}
    return {
        "ok": (ids, status, healthy) == (["10001", "10001"], 0, 0)
        and rights == {0}
        and unhealthy != 0
        and writable == WRITABLE
        and "ledger.db" in owned,
        "user": ":".join(ids),
        "ready_s": ready_s,
        "healthcheck": healthy,
        "healthcheck_after_the_end": unhealthy,
        "writable": sorted(writable),
        "data": sorted(owned),
        "exit": status,
        "ended_s": ended_s,
    }


@asynccontextmanager
async def _started(command: list[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, env={})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(process: asyncio.subprocess.Process, address: str, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    async with calling() as session:
        while True:
            try:
                async with session.get(f"{address}/readyz") as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, OSError):
                pass
            if process.returncode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"it does not start: {_last_lines(log)}")
            await asyncio.sleep(0.05)


async def _ended(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, env={}
    )
    return await process.wait()


def _first_child(pid: int) -> int:
    """Give the process that ``unshare`` has started: the first of its own."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _credentials(pid: int) -> tuple[list[str], set[int]]:
    """Give the numbers of a process' user and group, and what rights of root's it has or could get."""
    status = Path(f"/proc/{pid}/status").read_text()
    ids = re.findall(r"^(?:Uid|Gid):\t(\d+)", status, re.MULTILINE)
    return ids, {int(right, 16) for right in re.findall(r"^Cap(?:Eff|Prm|Bnd):\t(\w+)", status, re.MULTILINE)}


def _last_lines(log: Path) -> str:
    return log.read_text()[-2_000:]
