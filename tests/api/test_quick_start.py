"""The README's program, run as it is printed."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITHIN_S = 60


def quick_start():
    """Give the README's program."""
    [program] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return program


async def test_quick_start_runs_as_it_is_printed(house):
    """
    With address and key in the environment the program quotes, executes, and follows the market.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
    address = f"http://{house.client.host}:{house.client.port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        quick_start(),
        env=own | {"IOB_URL": address, "IOB_API_KEY": house.keys["all"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()

    assert (0, b"") == (process.returncode, stderr)
    lines = stdout.decode().splitlines()
    [execution] = (await house.get("/v1/executions")).json["executions"]
    assert f"to pay: {execution['total']} USDT" == lines[0]
    assert f"executed: filled at {execution['all_in_price']}" == lines[1]
    assert "update: QuoteUpdate(" in lines[-1]
