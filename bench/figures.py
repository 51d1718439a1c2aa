"""Measure, sum up and print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import process_time


def cpu_ms(work: Callable[[], object], times: int = 1) -> float:
    """Give the CPU milliseconds that *work* takes, each of so many times on average."""
    started = process_time()
    for _ in range(times):
        work()
    return (process_time() - started) * 1_000 / times


def spread(figures: Sequence[float]) -> dict[str, float]:
    """Give median, least and most."""
    return {
        "median": round(median(figures), 4),
        "min": round(min(figures), 4),
        "max": round(max(figures), 4),
        "samples": len(figures),
    }


def ratios(ones: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Sum up how many times the others' figures are ours, pair by pair as they were measured."""
    return spread([other / one for one, other in zip(ones, others, strict=True)])


def show(name: str, figures: dict[str, float]) -> None:
    """Print one row."""
    print(f"  {name:34} median {figures['median']:10.3f}   min {figures['min']:10.3f}   max {figures['max']:10.3f}")
