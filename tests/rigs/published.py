"""A running demo keeps to its published document, whatever schemathesis makes of that."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from tests.rigs.clients import calling
from tests.rigs.server import STARTS_WITHIN_S

CONFIG = Path(__file__).with_name("schemathesis.toml")
ROOT = Path(__file__).parents[2]
_WITH_FAULT = "from tests.rigs.faults import FAULTS; FAULTS[{!r}](); from service.__main__ import main; main({!r})"


async def schemathesis(
    folder: Path, examples: int, *, only: Sequence[str] = (), phases: str | None = None, fault: str | None = None
) -> dict[str, Any]:
    """
    Have schemathesis ask a demo all that its document allows, and much that it does not.

    Args:
        examples: For each operation.
        only: Ids of operations; all where there are none.
        phases: Of schemathesis, with commas between them; all where there are none.
        fault: One of ``FAULTS``.
    """
    data, log = folder / "demo", folder / "demo.log"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    demo = await _start(["demo", "--port", str(port), "--data", str(data)], fault, log)
    try:
        await _until_ready(demo, address, log)
        report = await _ask(address, (data / "admin-key").read_text().strip(), folder, examples, only, phases)
    finally:
        demo.send_signal(signal.SIGTERM)
        await demo.wait()
    refusals = Counter(
        line["code"]
        for line in map(json.loads, log.read_bytes().splitlines())
        if line["event"] == "request" and line["status"] >= 500 and line["route"] != "/readyz"
    )
    server_errors = refusals.pop("internal_error", 0)
    failures = [f"{one['code']} {one['title']}: {', '.join(one['operations'])}" for one in report["failures"]]
    return {
        "ok": report["complete"] and not failures and not report["errors"] and not server_errors,
        "operations": report["operations"]["tested"],
        "cases": report["test_cases"]["generated"],
        "failures": failures,
        "errors": report["errors"],
        "server_errors": server_errors,
        "unavailable": dict(refusals),  # On a machine that is busy with other things: 503, and what for.
    }


async def _start(arguments: list[str], fault: str | None, log: Path) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
    command = ["-m", "service", *arguments] if fault is None else ["-c", _WITH_FAULT.format(fault, arguments)]
    with log.open("wb") as lines, log.with_suffix(".err").open("wb") as said:
        return await asyncio.create_subprocess_exec(
            sys.executable, *command, cwd=ROOT, env=environment, stdout=lines, stderr=said
        )


async def _until_ready(demo: asyncio.subprocess.Process, address: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    async with calling() as session:
        while demo.returncode is None and time.monotonic() < deadline:
            try:
                async with session.get(f"{address}/readyz") as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, OSError):
                pass  # Not yet.
            await asyncio.sleep(0.05)
    raise RuntimeError(f"the demo does not start: {log.with_suffix('.err').read_text()[-2_000:]}")


async def _ask(
    address: str, key: str, folder: Path, examples: int, only: Sequence[str], phases: str | None
) -> dict[str, Any]:
    report = folder / "report.json"
    options = ["--max-examples", str(examples), "--report", "json", "--report-json-path", str(report), "--no-color"]
    for operation_id in only:
        options += ["--include-operation-id", operation_id]
    if phases is not None:
        options += ["--phases", phases]
    asking = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{address}/openapi.json"],
        *options,
        cwd=ROOT,
        env={**os.environ, "IOB_API_KEY": key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asking.communicate()
    if not report.exists():
        raise RuntimeError(f"schemathesis does not run: {said.decode()[-2_000:]}")
    (folder / "said.txt").write_bytes(said)
    return dict(json.loads(report.read_bytes()))
