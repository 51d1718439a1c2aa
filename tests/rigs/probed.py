"""The whole service in a process of its own that also measures itself: delays of its loop, memory, sockets, tasks."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from exchanges import ccxt_venue, feed, streaming
from exchanges.clock import MS
from service import logs
from service.api import stream_client
from service.app import running
from service.settings import Settings
from tests.rigs.faults import FAULTS
from tests.rigs.server import ENDS_WITHIN_S, FORKS, PEPPER, STARTS_WITHIN_S

STREAMED = ("binance", "kraken", "okx", "bybit", "bitstamp")
TICK_S = 0.005
_MUCH = "10000000000"


class Sample(NamedTuple):
    """
    What the service's process measured of itself.

    Args:
        late_ms: By how much the event loop was late at most since the last sample.
        blocked_ms: The same, as far as the process itself was computing: on a machine that runs other things too, it
            may wait for a processor, and be late without a fault of its own.
        rss_kb: Resident memory.
        files: Open file descriptors, sockets among them.
        tasks: Those of the event loop.  What is held for clients' connections is theirs, and not counted in any of
            these.
    """

    late_ms: float
    blocked_ms: float
    rss_kb: int
    files: int
    sockets: int
    tasks: int


@dataclass(frozen=True)
class ProbedSetup:
    """
    How the service is set up.

    Args:
        venues: Tables of settings.
        hurried: Whether what the feeds do every minute or so is done every few seconds.
        broken: Names of ``FAULTS`` that are planted.
    """

    url: str
    log: Path
    symbols: Sequence[str]
    venues: Mapping[str, Mapping[str, Any]]
    hurried: bool = True
    broken: tuple[str, ...] = ()
    streams_per_key: int = 20

    def settings(self) -> Settings:
        """Give the service's settings."""
        return Settings.model_validate(
            {
                "service": {"mode": "simulated", "port": 0, "streams_per_key": self.streams_per_key},
                "ledger": {"url": self.url},
                "market": {"symbols": list(self.symbols)},
                "liquidity": {"taken": "off"},
                "limits": {"quote_per_s": 0, "execute_per_s": 0, "failed_keys_per_s": 0},
                "accounts": {"starting_balances": {"USDT": _MUCH, "BTC": _MUCH, "ETH": _MUCH}},
                "venues": self.venues,
            }
        )


class ProbedService:
    """The process."""

    def __init__(self, setup: ProbedSetup) -> None:
        """Be ready to start on a ledger that is there."""
        self.setup = setup
        self.address = ""
        self._process: Any = None
        self._ours: Any = None
        self._read_to = 0
        self._one_at_a_time = asyncio.Lock()

    @property
    def alive(self) -> bool:
        """Tell whether it still runs."""
        return bool(self._process.is_alive())

    async def sample(self) -> Sample:
        """Ask for its measurements since it was last asked."""
        async with self._one_at_a_time:
            self._ours.send("sample")
            return Sample(*await asyncio.wait_for(asyncio.to_thread(self._ours.recv), STARTS_WITHIN_S))

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """Read what it has logged since the last call."""
        with self.setup.log.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read_to += len(line)
                yield json.loads(line)

    async def __aenter__(self) -> ProbedService:
        self._ours, theirs = FORKS.Pipe()
        self._process = FORKS.Process(target=_run, args=(self.setup, theirs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.address = await asyncio.wait_for(asyncio.to_thread(self._ours.recv), STARTS_WITHIN_S)
        except EOFError:
            raise RuntimeError(f"the service does not start: {self.setup.log.read_text()[-2_000:]}") from None
        return self

    async def __aexit__(self, *failed: object) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.join, ENDS_WITHIN_S)
        if self._process.is_alive():
            self._process.kill()
            raise RuntimeError("the service did not end")
        self._ours.close()
        self._process.close()


def _run(setup: ProbedSetup, told: Any) -> None:
    """Be the service."""
    with setup.log.open("ab") as log:
        logs.configure("json", "info", log)
        if setup.hurried:
            _hurry()
        for name in setup.broken:
            FAULTS[name]()
        asyncio.run(_serve(setup, told))


def _hurry() -> None:
    """Do every few seconds what is done every minute or so, and pause for as long."""
    feed.FALLBACK_S, feed.FALLBACK_MAX_S = 2.0, 4.0
    streaming.CROSS_CHECK_MS = (1_000, 2_000)
    streaming.BREAKS_WINDOW_NS = 5_000 * MS
    ccxt_venue.PAUSE_DEFAULT_S = 2.0
    stream_client.PING_EVERY_S, stream_client.READ_WITHIN_S = 1.0, 3.0


async def _serve(setup: ProbedSetup, told: Any) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with running(setup.settings(), {"IOB_PEPPER": PEPPER.decode()}) as address:
        gc.collect()
        gc.freeze()  # As the service's own command does.
        probe = Probe()
        probing = asyncio.create_task(probe.tick())
        loop.add_reader(told.fileno(), lambda: told.send(tuple(probe.sample())) if told.recv() else None)
        told.send(address)
        await stop.wait()
        loop.remove_reader(told.fileno())
        probing.cancel()


@dataclass
class Probe:
    """Measures the process that it runs in."""

    late_ms: float = 0.0
    blocked_ms: float = 0.0

    async def tick(self) -> None:
        """Look again and again how late the event loop is."""
        while True:
            began_s, computed_s = time.perf_counter(), time.process_time()
            await asyncio.sleep(TICK_S)
            late_ms = (time.perf_counter() - began_s - TICK_S) * 1_000
            self.late_ms = max(self.late_ms, late_ms)
            self.blocked_ms = max(self.blocked_ms, min(late_ms, (time.process_time() - computed_s) * 1_000))

    def sample(self) -> Sample:
        """Give the measurements, and begin anew."""
        files = [_target(file) for file in Path("/proc/self/fd").iterdir()]
        tasks = [task.get_coro() for task in asyncio.all_tasks()]
        clients = sum(getattr(coroutine, "__qualname__", "") == "RequestHandler.start" for coroutine in tasks)
        status = Path("/proc/self/status").read_text()
        rss_kb = int(status.split("VmRSS:")[1].split()[0])
        taken = Sample(
            round(self.late_ms, 1),
            round(self.blocked_ms, 1),
            rss_kb,
            len(files) - clients,
            sum(target.startswith("socket:") for target in files) - clients,
            len(tasks) - clients,
        )
        self.late_ms = self.blocked_ms = 0.0
        return taken


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""  # Closed meanwhile: it is the one that lists them.
