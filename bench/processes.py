"""Start the simulated venues and the service as processes of their own, as their user would."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Service:
    """A running service: its port, its process, a key for quotes, and the simulated venues' address."""

    port: int
    pid: int
    key: str
    simulator_url: str

    @property
    def headers(self) -> dict[str, str]:
        """Give what a request needs."""
        return {"X-API-Key": self.key}

    def cpu_s(self) -> float:
        """Give the CPU seconds that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_mb(self) -> float:
        """Give the memory that it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0


@contextlib.contextmanager
def running(symbols: tuple[str, ...], venues: str) -> Iterator[Service]:
    """
    Run both for as long as the context lasts.

    Args:
        venues: Tables of the settings; BASE_URL in them stands for the simulator's address.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-m", "service", "simulator", "--port", "0"], stderr=subprocess.PIPE, text=True
        ) as simulator,
    ):
        base_url = told(simulator, r"on (http://\S+)")
        settings = Path(folder) / "settings.toml"
        listed = ", ".join(f'"{symbol}"' for symbol in symbols)
        settings.write_text(
            f'[service]\nmode = "simulated"\nport = 0\n[market]\nsymbols = [{listed}]\n'
            f'[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n{venues.replace("BASE_URL", base_url)}\n'
        )
        env = {**os.environ, "IOB_PEPPER": "p" * 32}
        create = [sys.executable, "-m", "service", "keys", "create", "--account", "bench", "--scopes", "quote"]
        key = subprocess.run(
            [*create, "--settings", str(settings)], check=True, capture_output=True, text=True, env=env
        ).stdout.strip()
        with subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--settings", settings],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env,
        ) as service:  # fmt: skip
            yield Service(int(told(service, r"on http://127.0.0.1:(\d+)")), service.pid, key, base_url)
            service.terminate()
        simulator.terminate()


def told(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a process says on its standard error until it has said this."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found[1]
    raise RuntimeError("it ended without saying so")
