"""Write everything down for Prometheus; whatever fails of it is logged, and the rest is written all the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from time import perf_counter
from typing import Final, cast

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exchanges.distribution import Distribution
from service.metrics.catalogue import Metric
from service.metrics.instruments import Instruments, Reading
from service.metrics.readings import House

LAG_EVERY_S: Final = 0.1
SLICE_S: Final = 0.002
"""A scrape lets others have their turn after so long."""
END: Final = b"# EOF\n"
_ACCEPTED: Final = re.compile(
    r"(?:application/openmetrics-text|text/plain)"
    r"(?:; *(?:version=(?:0\.0\.[14]|1\.0\.0)|charset=utf-8|escaping=[a-z0-9-]{1,20}|q=[0-9.]{1,5}))*"
)

log = structlog.get_logger()


class Families:
    """A collector of prometheus_client over one source of readings."""

    def __init__(self, name: str, read: Callable[[], Iterable[Reading]]) -> None:
        """Read by *read*; *name* is for the log."""
        self.name = name
        self._read = read

    def collect(self) -> Iterable[Family]:
        """Give the readings by metric."""
        families: dict[str, Family] = {}
        for metric, labels, value in self._read():
            family = families.get(metric.name)
            if family is None:
                family = families[metric.name] = _family(metric)
            if isinstance(value, Distribution):
                cast(HistogramMetricFamily, family).add_metric(labels, _buckets(value), value.sum)
            else:
                cast(GaugeMetricFamily, family).add_metric(labels, float(value))
        return families.values()


def _family(metric: Metric) -> Family:
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.name.removesuffix("_total"), metric.meaning, labels=metric.labels)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        case _:
            return HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)


def _buckets(values: Distribution) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, values.bounds), "+Inf"]
    return list(zip(bounds, map(float, values.within), strict=True))


class Metrics:
    """All that Prometheus is told of one application."""

    def __init__(self, instruments: Instruments, house: House) -> None:
        """Tell what *instruments* have counted, what there is in the *house*, and of the process."""
        self.instruments = instruments
        self._ledger = house.ledger
        self._turn = asyncio.Lock()
        own = CollectorRegistry()  # The library's collectors want one to be registered with.
        self._collectors: list[tuple[str, Collector]] = [
            (name, Families(name, read)) for name, read in house.sources_of_readings(instruments).items()
        ]
        self._collectors += [
            ("process", ProcessCollector(registry=own)),
            ("platform", PlatformCollector(registry=own)),
            ("gc", GCCollector(registry=own)),
        ]

    async def counting(self, app: web.Application) -> AsyncIterator[None]:
        """Have the routes, the record and the loop counted for as long as an application runs."""
        for route in app.router.routes():
            if route.resource is not None and route.method != "HEAD":
                self.instruments.expect(route.method, route.resource.canonical)
        self._ledger.watch(self.instruments)
        task = asyncio.create_task(_watch_loop(self.instruments), name="loop lag")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """
        Write everything in the form that a header ``Accept`` asks for; gives it with its content type.

        It is written piece by piece, between which others have their turn; of those who scrape, one at a time has one.
        """
        encode, content_type = choose_encoder(", ".join(_known(accept)))
        written = []
        async with self._turn:
            began = perf_counter()
            for name, collector in self._collectors:
                for piece in _written(name, collector, encode):
                    written.append(piece)
                    if perf_counter() - began > SLICE_S:
                        await asyncio.sleep(0)
                        began = perf_counter()
        if content_type.startswith("application/openmetrics-text"):
            written.append(END)
        return b"".join(written), content_type


class _One:
    """A registry of one family."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        """Give it."""
        return (self._family,)


def _written(name: str, collector: Collector, encode: Callable[[Collector], bytes]) -> Iterator[bytes]:
    """Write what a collector gives, family by family, until something goes wrong."""
    try:
        for family in list(collector.collect()):
            yield encode(cast(Collector, _One(family))).removesuffix(END)
    except Exception:
        log.exception("metrics.failed", source=name)


def _known(accept: str) -> Iterator[str]:
    """Give the forms of a header that are known: what is chosen is repeated in the answer's content type."""
    for form in accept.split(","):
        if _ACCEPTED.fullmatch(form.strip()):
            yield form.strip()


async def _watch_loop(instruments: Instruments) -> None:
    """Note how late the loop wakes a timer, for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        instruments.woken(max(0.0, loop.time() - due))


METRICS: web.AppKey[Metrics] = web.AppKey("metrics", Metrics)
