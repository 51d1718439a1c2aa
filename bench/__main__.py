"""Run every measurement, or those that are named, print medians and ratios, and write ``bench/results.json``."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import engine, http, ledger, observability, recording, steady, wire

MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "engine": engine.run,
    "http": http.run,
    "ledger": ledger.run,
    "observability": observability.run,
    "recording": recording.run,
    "steady": steady.run,
    "wire": wire.run,
}
RESULTS = Path(__file__).with_name("results.json")


def main(names: Sequence[str]) -> int:
    """Measure; give the exit status."""
    unknown = set(names) - set(MEASUREMENTS)
    if unknown:
        print(f"there is no measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASUREMENTS)}")
        return 2
    results = json.loads(RESULTS.read_text()) if names and RESULTS.exists() else {}
    results["machine"] = {
        "python": platform.python_version(), "system": platform.system(), "processor": platform.machine(),
        "cores": os.cpu_count(),
    }  # fmt: skip
    for name in names or MEASUREMENTS:
        results[name] = MEASUREMENTS[name]()
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {RESULTS.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
