"""Debian's Prometheus with the shipped files scrapes a running service: queries give data, alerts fire and end."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.rigs.clients import Clients, calling
from tests.rigs.ledgers import Database, NotHere, database
from tests.rigs.outages import OUTAGES, traded
from tests.rigs.simulated import SimulatedVenues, simulated_venues
from tests.rigs.whole_service import Service

SHIPPED = Path(__file__).parents[2] / "deploy"
READY_WITHIN_S = 30.0
DATA_WITHIN_S = 150.0
"""What is seen of a fill is counted a minute after it."""
ALERT_WITHIN_S = 60.0
FOR = "2s"
"""In place of each alert's own."""
VENUES = ("kraken", "okx", "coinbaseexchange")
_STREAMED = '[venues.bybit]\nbase_url = "{url}"\ntransport = "stream"\nrate_limit_ms = 0\n'
_TROUBLES = (
    ("okx", "crossed", "depth"),
    ("coinbaseexchange", "server_error", "depth"),
    ("bybit", "close", "stream"),
)
_PAUSE_S = 0.2
_FIRM_EVERY = 10


async def prometheus(
    folder: Path,
    *,
    expressions: dict[str, str] | None = None,
    data_within_s: float = DATA_WITHIN_S,
    alert_within_s: float = ALERT_WITHIN_S,
) -> dict[str, Any]:
    """
    Watch a service with quotes and orders; give figures, with ``ok``.

    Args:
        expressions: Other expressions of alerts than the shipped ones, by name.
        data_within_s: So long is waited until every query of the dashboard has had data.
        alert_within_s: And so long for an alert to fire, and to end.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise NotHere("no prometheus")
    metrics, listening = _free_port(), _free_port()
    # Venues that disagree by 1.5 % are usually left out; here they are believed, and so the market is crossed.
    env = {
        "IOB_METRICS__PORT": str(metrics),
        "IOB_LIQUIDITY__TAKEN": "shared",
        "IOB_MARKET__OUTLIER_BPS": "500",
    }
    with database("sqlite", folder) as made:
        clients = Clients(made.keys, random.Random(1))
        key = next(iter(made.keys.values()))
        async with (
            simulated_venues() as venues,
            Service(
                made.url, folder, venues.base_url, VENUES, more=_STREAMED.format(url=venues.base_url), env=env
            ) as service,
            traded(clients, service.address),
            _quoted(service.address, key),
            _watching(program, folder, metrics, listening, expressions or {}) as watch,
        ):
            up_s = await watch.until('up{job="internal-orderbook"} == 1', READY_WITHIN_S)
            async with _trouble(venues):
                empty, data_s = await _data(watch, queries(), data_within_s)
            alerts = {}
            for name, (fault, label) in _faults(venues, made).items():
                alerts[name] = await _alerted(watch, name, fault, label, alert_within_s)
    return {
        "ok": up_s is not None and not empty and all(None not in times.values() for times in alerts.values()),
        "up_after_s": up_s,
        "queries": len(queries()),
        "without_data": empty,
        "data_after_s": data_s,
        "alerts": alerts,
        "executed": sum(answer.filled for answer in clients.heard),
    }


def queries() -> list[str]:
    """Give every query of the shipped dashboard that Prometheus answers, as Grafana asks it for everything."""
    dashboard = json.loads((SHIPPED / "grafana/dashboard.json").read_text())
    found = [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if target["datasource"]["type"] == "prometheus"
    ]
    found += [
        re.sub(r"^label_values\((.*), \w+\)$", r"\1", variable["definition"])
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    ]
    return [re.sub(r"\$(instance|symbol|venue)\b", ".*", one).replace("$__rate_interval", "30s") for one in found]


class Watch:
    """A Prometheus that runs."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address, self._session = address, session

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """Give the series of a query now; ValueError with what is wrong with it."""
        async with self._session.get(f"{self._address}/api/v1/query", params={"query": query}) as response:
            answer = await response.json()
        if answer["status"] != "success":
            raise ValueError(f"{query}: {answer['error']}")
        found: list[dict[str, Any]] = answer["data"]["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    async def until(self, query: str, within_s: float, *, gone: bool = False) -> float | None:
        """Give after how long a query has data, or with *gone* has none any more; None if not in time."""
        began = time.monotonic()
        while time.monotonic() < began + within_s:
            try:
                if bool(await self.ask(query)) is not gone:
                    return round(time.monotonic() - began, 1)
            except (aiohttp.ClientError, OSError):
                pass  # It is starting.
            await asyncio.sleep(0.2)
        return None


@asynccontextmanager
async def _watching(
    program: str, folder: Path, metrics: int, listening: int, expressions: dict[str, str]
) -> AsyncIterator[Watch]:
    """Run Prometheus on the shipped files, with our addresses, and often."""
    config = yaml.safe_load((SHIPPED / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    ports = {"internal-orderbook": metrics, "prometheus": listening}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    rules = yaml.safe_load((SHIPPED / "prometheus/alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule["for"] = FOR
        rule["expr"] = expressions.get(rule["alert"], rule["expr"])
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{listening}",
            stdout=log,
            stderr=log,
        )
    try:
        async with calling() as session:
            yield Watch(f"http://127.0.0.1:{listening}", session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def _quoted(address: str, key: str) -> AsyncIterator[None]:
    """Ask for quotes meanwhile, for a firm one now and then, and for one that cannot be."""

    async def ask() -> None:
        async with calling() as session:
            session.headers["X-API-Key"] = key
            firm = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.01", "ttl_ms": 5_000}
            for number in range(1_000_000):
                quote = {"symbol": "BTC/USDT" if number % 7 else "BTC/NONE", "quantity": "0.5"}
                async with session.get(f"{address}/quote", params=quote) as response:
                    await response.read()
                if number % _FIRM_EVERY == 0:
                    async with session.post(f"{address}/v1/quotes", json=firm) as response:
                        await response.read()
                await asyncio.sleep(_PAUSE_S)

    asking = asyncio.create_task(ask())
    try:
        yield
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@asynccontextmanager
async def _trouble(venues: SimulatedVenues) -> AsyncIterator[None]:
    """Have venues fail, show what cannot be and break streams, again and again: some queries are about nothing else."""

    async def make() -> None:
        while True:
            for venue, fault, scope in _TROUBLES:
                await venues.switch(fault, venue, scope=scope)
                await asyncio.sleep(1)
                await venues.switch(None, venue)
            await asyncio.sleep(5)

    making = asyncio.create_task(make())
    try:
        yield
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        await venues.switch(None)


async def _data(watch: Watch, asked: Iterable[str], within_s: float) -> tuple[list[str], float]:
    """Wait until every query has had data once; gives those that had none, and how long it took."""
    began = time.monotonic()
    empty = list(asked)
    while empty and time.monotonic() < began + within_s:
        empty = [query for query in empty if not await watch.ask(query)]
        await asyncio.sleep(0.5)
    return empty, round(time.monotonic() - began, 1)


def _faults(venues: SimulatedVenues, made: Database) -> dict[str, tuple[AbstractAsyncContextManager[None], str]]:
    """Give what makes each alert fire, and which of its alerts that is."""
    locked, _ = OUTAGES["locked"]

    @asynccontextmanager
    async def switched(fault: str, venue: str) -> AsyncIterator[None]:
        await venues.switch(fault, venue)
        yield
        await venues.switch(None, venue)

    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        with locked(made, None):
            yield

    return {
        "VenueStale": (switched("freeze", "okx"), 'venue="okx"'),
        "CrossedMarket": (switched("off_by_1_5_percent", "kraken"), 'symbol="BTC/USDT"'),
        "LedgerUnavailable": (away(), ""),
    }


async def _alerted(
    watch: Watch, name: str, fault: AbstractAsyncContextManager[None], label: str, within_s: float
) -> dict[str, float | None]:
    """Have a fault until its alert fires; gives how long that took, and its end after the fault's."""
    firing = f'ALERTS{{alertname="{name}", alertstate="firing", {label}}}'
    quiet_s = await watch.until(firing, within_s, gone=True)
    async with fault:
        fired_s = await watch.until(firing, within_s)
    ended_s = await watch.until(firing, within_s, gone=True)
    return {"quiet_before_s": quiet_s, "fired_after_s": fired_s, "ended_after_s": ended_s}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
