"""Run all rigs in full: ``python -m tests.rigs [RIG …]``.

Prints one line of JSON per rig; the exit status is 1 if any fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from service import logs
from tests.rigs.backup import backup
from tests.rigs.canaries import canaries
from tests.rigs.connections import cut_at_commit, restarts
from tests.rigs.dockerfile import dockerfile
from tests.rigs.frames import frames
from tests.rigs.growth import growth
from tests.rigs.idempotency import idempotency
from tests.rigs.kill import kill, kill_service
from tests.rigs.ledgers import NotHere
from tests.rigs.outages import outage
from tests.rigs.overload import overload
from tests.rigs.power_cut import power_cut
from tests.rigs.prometheus import prometheus
from tests.rigs.published import schemathesis
from tests.rigs.races import last_of_a_level, one_quote
from tests.rigs.reload import reload
from tests.rigs.replay import replay
from tests.rigs.revocation import revocation
from tests.rigs.rsyslog import rsyslog
from tests.rigs.shutdown import shutdown_service
from tests.rigs.silence import silence
from tests.rigs.slow_connections import slow_connections_of_service
from tests.rigs.slow_streams import slow_streams
from tests.rigs.soak import soak
from tests.rigs.venue_faults import venue_faults

RIGS: dict[str, Callable[[Path], Awaitable[dict[str, Any]]]] = {
    "kill sqlite": lambda folder: kill("sqlite", folder, 200),
    "kill postgresql": lambda folder: kill("postgresql", folder, 200),
    "kill service sqlite": lambda folder: kill_service("sqlite", folder, 10),
    "kill service postgresql": lambda folder: kill_service("postgresql", folder, 10),
    "power cut": lambda folder: power_cut(folder, 240, 300),
    "one quote sqlite": lambda folder: one_quote("sqlite", folder, 1, 20),
    "one quote postgresql": lambda folder: one_quote("postgresql", folder, 2, 20),
    "last of a level sqlite": lambda folder: last_of_a_level("sqlite", folder, 1, 10),
    "last of a level postgresql": lambda folder: last_of_a_level("postgresql", folder, 2, 10),
    "idempotency sqlite": lambda folder: idempotency("sqlite", folder, 500),
    "idempotency postgresql": lambda folder: idempotency("postgresql", folder, 500),
    "locked sqlite": lambda folder: outage("sqlite", folder, "locked", 10),
    "locked postgresql": lambda folder: outage("postgresql", folder, "locked", 10),
    "nothing written sqlite": lambda folder: outage("sqlite", folder, "nothing written", 10),
    "disk full sqlite": lambda folder: outage("sqlite", folder, "disk full", 10),
    "cut at commit postgresql": lambda folder: cut_at_commit(folder, 180),
    "restarts postgresql": lambda folder: restarts(folder, 10),
    "backup sqlite": lambda folder: backup("sqlite", folder),
    "backup postgresql": lambda folder: backup("postgresql", folder),
    "growth sqlite": lambda folder: growth("sqlite", folder),
    "growth postgresql": lambda folder: growth("postgresql", folder),
    "reload": lambda folder: reload(folder, 20),
    "replay": lambda folder: replay(folder, 300, quote_every=25),
    "canaries sqlite": lambda folder: canaries("sqlite", folder),
    "canaries postgresql": lambda folder: canaries("postgresql", folder),
    "revocation sqlite": lambda folder: revocation("sqlite", folder, 10),
    "revocation postgresql": lambda folder: revocation("postgresql", folder, 10),
    "shutdown sqlite": lambda folder: shutdown_service("sqlite", folder),
    "shutdown postgresql": lambda folder: shutdown_service("postgresql", folder),
    "overload": overload,
    "silence": silence,
    "slow streams": slow_streams,
    "venue faults": venue_faults,
    "rsyslog": lambda folder: rsyslog(folder, 60),
    "slow connections": slow_connections_of_service,
    "soak": soak,
    "prometheus": prometheus,
    "dockerfile": dockerfile,
    "frames": frames,
    "schemathesis": lambda folder: schemathesis(folder, 100),
}


def main(names: list[str]) -> int:
    """Run rigs by name, or all."""
    logs.configure("json", "critical", sys.stderr.buffer)
    failed = False
    for name in names or RIGS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="iob-rig-") as folder:
            try:
                figures = asyncio.run(RIGS[name](Path(folder)))
            except NotHere as missing:
                # Where everything is meant to be there, what is missing is a failure.
                figures = {"ok": os.environ.get("CI") != "true", "skipped": str(missing)}
        failed = failed or not figures["ok"]
        took_s = round(time.monotonic() - began, 1)
        print(json.dumps({"rig": name, **figures, "took_s": took_s}), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
