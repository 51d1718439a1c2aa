"""Run what takes long on an event loop of its own, so that nobody's request waits for it.

A venue that answers with 45,000 levels keeps Python busy for 150 ms; loading 1,700 instruments takes 300.  On a second
thread both still cost their time, but the first loop goes on in between.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class OffLoop:
    """An event loop on a thread of its own; what is made on it must be used and closed on it."""

    def __init__(self) -> None:
        """Prepare; the thread starts with the first work."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run *work* there and wait for it here; to be cancelled here cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._started()))

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            ready = threading.Event()
            self._thread = threading.Thread(target=asyncio.run, args=(self._serve(ready),), name="offloop", daemon=True)
            self._thread.start()
            ready.wait()
        if self._loop is None:
            raise RuntimeError("the thread has not started")
        return self._loop

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._stop.wait()

    def close(self) -> None:
        """End the thread; what still runs there is cancelled."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
