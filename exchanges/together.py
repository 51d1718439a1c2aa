"""Run several loops as one: if one ends, all end, and whoever cancels them is obeyed.

``asyncio.TaskGroup`` of Python 3.11 forgets a cancellation that arrives while it is ending for another reason, so that
what was to be closed goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_together(*loops: Coroutine[Any, Any, None]) -> None:
    """
    Run until the first of them ends; then the others are cancelled, and waited for.

    Raises:
        Exception: What the first one raised.
    """
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
