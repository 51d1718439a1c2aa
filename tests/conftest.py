"""What several rooms' tests share: a clock that is held, books drawn as ladders, recorded data."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import aioresponses.core
import pytest
import structlog
from aiohttp import ClientResponse
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader
from hypothesis import HealthCheck, settings

from exchanges.book import Ladder, Level, VenueBook
from exchanges.clock import MS
from service.ledger.sqlite import SqliteLedger

# How fast a machine makes examples is no law of ours.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=150, **_PATIENT)
settings.register_profile("thorough", max_examples=2_000, **_PATIENT)  # pytest --hypothesis-profile=thorough


LONG = (
    "tests/rigs/test_soak.py",
    "tests/test_command_line.py",
    "tests/web/",
    "tests/rigs/test_silence.py",
    "tests/service/desk/test_desk_stateful.py",
    "tests/rigs/test_outages.py",
    "tests/service/pricing/test_pricing_laws.py",
    "tests/rigs/",
    "tests/ledger/test_ledger_contract.py",
    "tests/exchanges/test_faults.py",
    "tests/exchanges/simulator/test_stream",
    "tests/exchanges/simulator/test_simulator_streams.py",
    "tests/test_replaying.py",
)
"""The files that take longest, those that mostly wait and those that mostly compute by turns."""


def pytest_collection_modifyitems(items):
    """Begin with the longest files, so that at the end no core is left without work while one of them goes on."""
    items.sort(key=lambda item: next((n for n, path in enumerate(LONG) if item.nodeid.startswith(path)), len(LONG)))


def pytest_addoption(parser):
    """Let the document's examples be written anew: see tests/api/test_examples.py."""
    parser.addoption("--rewrite-examples", action="store_true", help="write service/api/examples.json anew")


def pytest_configure(config):
    """Let laws be tried on fewer examples, unless a profile is asked for."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("quick")


def pytest_xdist_auto_num_workers(config):
    """Run one file more at a time than there are cores: much of the tests is waiting, for processes and for sockets."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish():
    """Spare what was imported (all of ccxt, above all) each later look for garbage."""
    gc.collect()
    gc.freeze()


if "stream_writer" in inspect.signature(ClientResponse.__init__).parameters:
    # aioresponses 0.7.9 does not know aiohttp 3.14's constructor (its issue #289).

    class _Response(ClientResponse):
        def __init__(self, *args, **kwargs):
            kwargs.setdefault("stream_writer", SimpleNamespace(output_size=0))
            super().__init__(*args, **kwargs)

    aioresponses.core.ClientResponse = _Response
    # Bodies over 128 KiB fail an assertion without a larger limit.
    aioresponses.core.stream_reader_factory = lambda loop=None: StreamReader(
        ResponseHandler(loop=loop), limit=2**30, loop=loop
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A disk that is busy for seconds fails no test; what happens then has tests of its own."""
    monkeypatch.setattr("service.ledger.sql.ANSWER_WITHIN_S", 60)


@pytest.fixture(autouse=True)
def logging_as_before():
    """Whatever a test makes of logging, the next one finds it as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    logging.getLogger("aiohttp.access").disabled = False
    structlog.reset_defaults()


class HeldClock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self._now_ns = 1_000_000 * MS
        self._utc = datetime(2026, 11, 1, 12, tzinfo=UTC)

    def now_ns(self):
        return self._now_ns

    def utc(self):
        return self._utc

    def advance(self, ms):
        self._now_ns += ms * MS
        self._utc += timedelta(milliseconds=ms)


@pytest.fixture
def clock():
    return HeldClock()


def venue_book(venue, ladder, *, symbol="BTC/USDT", received_at_ns=1_000_000 * MS, sequence=None):
    """
    Draw a book: one line a price, best ask lowest; "." where a side rests nothing.

        bid quantity   price   ask quantity
    """
    bids, asks = [], []
    for line in ladder.strip().splitlines():
        bid, price, ask = line.split()
        if bid != ".":
            bids.append(Level(Decimal(price), Decimal(bid)))
        if ask != ".":
            asks.append(Level(Decimal(price), Decimal(ask)))
    bids.sort(reverse=True)
    asks.sort()
    return VenueBook(venue, symbol, Ladder.of(bids), Ladder.of(asks), received_at_ns, sequence)


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory):
    """A simulation's ledger in which nothing has happened, to be copied: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "ledger.db"

    async def make():
        await SqliteLedger.open(path, "simulated").close()

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(asyncio.run, make()).result()
    return path


@pytest.fixture(scope="session")
def recorded():
    """The folder of genuine recorded market data, which a user's checkout does not have."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the recorded market data (../shared/data) is not there")
    return folder
