"""The whole service over HTTP on a board fed by hand, with a real ledger and a client that holds every answer to the
published document.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from jsonschema import Draft202012Validator
from multidict import CIMultiDict
from yarl import URL

import service.app
from exchanges.board import Board
from exchanges.instruments import Instrument
from service import logs
from service.api.guard import GUARD
from service.api.handlers import API
from service.api.openapi import OpenApi
from service.api.problems import CODES
from service.api.server import Runner
from service.app import create_app
from service.keys import KeyRing, quote_key
from service.ledger.opening import starting_balances
from service.ledger.sqlite import SqliteLedger
from service.room_rules import room
from service.settings import Settings, load_settings
from tests.conftest import venue_book
from tests.log_lines import hold_to_schema
from tests.standing import STALE_AFTER_MS, StandingFeeds

PEPPER = b"a pepper of at least 32 characters"
FEES_BPS = {"kraken": "26", "coinbase": "60", "okx": "10"}
QUANTITY_MIN = {"kraken": "0.0001", "coinbase": None, "okx": "0.00001"}
SETTINGS = {
    "market": {"symbols": ["BTC/USDT", "ETH/USDT"]},
    "pricing": {"markup_bps": 2},
    "limits": {"quote_per_s": 0, "execute_per_s": 0, "failed_keys_per_s": 0},
    "accounts": {"starting_balances": {"USDT": "100000000", "BTC": "10000", "ETH": "10000"}},
    "venues": {
        "kraken": {"exchange": "kraken"},
        "coinbase": {"exchange": "coinbaseexchange"},
        "okx": {"exchange": "okx"},
        "bitstamp": {"exchange": "bitstamp", "enabled": False},
    },
}
LADDERS = {
    ("kraken", "BTC/USDT"): """
        .      64030     2
        .      64020     0.5
        .      64010.1   0.25
        0.3    64000     .
        1      63990     .
        2      63980     .
    """,
    ("coinbase", "BTC/USDT"): """
        .      64025.55  3
        .      64011     0.12346
        0.4    64001.5   .
        4      63985     .
    """,
    ("okx", "BTC/USDT"): """
        .      64040     5
        .      64009     0.1
        0.05   63999     .
        6      63970     .
    """,
    ("kraken", "ETH/USDT"): """
        .      2500.5    10
        10     2500      .
    """,
    ("coinbase", "ETH/USDT"): """
        .      2500.7    10
        10     2500.2    .
    """,
    # okx does not trade ETH/USDT here.
}
NUMBER = 7_000
"""Sequence of the first book; each later one has one more."""


class SharedOpenApi(OpenApi):
    """Describes applications with the same routes once, which takes longer than most tests."""

    made: ClassVar[dict] = {}

    def _register(self, app):
        routes = tuple((route.method, route.resource.canonical, route.handler) for route in app.router.routes())
        if routes not in self.made:
            super()._register(app)
            self.made[routes] = self.spec
        self.spec = self.made[routes]


service.app.OpenApi = SharedOpenApi


class Ledger:
    """A real ledger that can be told to fail, to be slow, or to have no answer."""

    def __init__(self, real):
        self.real = real
        self.trouble = {}
        self.gates = {}
        self.waiting = asyncio.Event()

    def __getattr__(self, name):
        method = getattr(self.real, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args, **kwargs):
            if name in self.gates:
                self.waiting.set()
                await self.gates[name].wait()
            if name in self.trouble:
                raise self.trouble[name]
            return await method(*args, **kwargs)

        return call


class Server(TestServer):
    """The service's own runner on a loopback port."""

    def __init__(self, app, room=None):
        super().__init__(app)
        self._room = room

    async def _make_runner(self, **options):
        return Runner(self.app, self._room)


@dataclass
class Reply:
    """An answer, read to its end."""

    status: int
    headers: CIMultiDict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        return self.json.get("code")

    @property
    def faults(self):
        """All faults as (where, code)."""
        return [(fault.get("parameter", fault.get("pointer")), fault["code"]) for fault in self.json.get("errors", [])]


@dataclass
class House:
    """Everything there is, and the one way to ask it."""

    clock: object
    board: Board
    ledger: Ledger
    ring: KeyRing
    app: web.Application
    folder: Path
    log: io.BytesIO
    feeds: StandingFeeds
    client: object = None
    keys: dict[str, str] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    published: int = 0

    @property
    def desk(self):
        return self.app[API].desk

    def show(self, ladders=LADDERS, *, age_ms=0):
        """Publish every venue's book as of now, or as *age_ms* ago."""
        now_ns = self.clock.now_ns()
        for (venue, symbol), ladder in ladders.items():
            book = venue_book(
                venue,
                ladder,
                symbol=symbol,
                received_at_ns=now_ns - age_ms * 1_000_000,
                sequence=None if venue == "coinbase" else NUMBER + self.published,
            )
            self.board.publish(book, now_ns)
        self.published += 1

    async def ask(self, method, path, *, key="all", headers=None, body=None, raw=None, **options):
        """
        Send a request, and hold its answer to the contract.

        Args:
            key: Name of one of ``keys``, or None to send none.
            path: May carry a query, sent as it is.
            body: Sent as JSON.
            raw: Bytes of a body, sent as they are.
        """
        sent = CIMultiDict(headers or {})
        if key is not None:
            sent["X-API-Key"] = self.keys[key]
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        url = URL(f"http://{self.client.host}:{self.client.port}{path}", encoded=True)
        async with self.client.session.request(
            method, url, headers=sent, data=raw, allow_redirects=False, **options
        ) as response:
            reply = Reply(response.status, CIMultiDict(response.headers), await response.read())
        self.keep(method, path.partition("?")[0], reply)
        return reply

    def keep(self, method, path, reply):
        """Remember an answer, having held it to what is true of every answer, and to the document."""
        self.replies.append(reply)
        check_answer(method, path, reply)

    async def get(self, path, **options):
        return await self.ask("GET", path, **options)

    async def quote(self, query="symbol=BTC/USDT&quantity=1.5", **options):
        return await self.get(f"/quote?{query}", **options)

    async def execute(self, fields, **options):
        return await self.ask("POST", "/execute", body=fields, **options)

    async def firm(self, *, key="all", **fields):
        """Ask for a firm quote that is given, unless *fields* say otherwise; None takes a field away."""
        asked = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2"}
        asked = {name: value for name, value in {**asked, **fields}.items() if value is not None}
        return await self.ask("POST", "/v1/quotes", key=key, body=asked)

    async def account(self, **options):
        """Give what an account has."""
        return (await self.get("/v1/account", **options)).json

    async def buy(self, client_order_id="a", **fields):
        """Execute a direct order that fills, unless *fields* say otherwise; None takes a field away."""
        order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": client_order_id}
        order = {name: value for name, value in {**order, **fields}.items() if value is not None}
        return await self.execute(order)

    async def wire(self, data):
        """Send bytes as they are on a connection of their own; give the one answer, held to the contract."""
        reader, writer = await asyncio.open_connection(self.client.host, self.client.port)
        try:
            writer.write(data)
            async with asyncio.timeout(5):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
                first, *lines = head.strip().split("\r\n")
                headers = CIMultiDict(line.split(": ", 1) for line in lines)
                reply = Reply(int(first.split()[1]), headers, await reader.readexactly(int(headers["Content-Length"])))
        finally:
            writer.close()
        method, _, rest = data.decode("latin-1").partition(" ")
        self.keep(method, rest.partition(" ")[0].partition("?")[0], reply)
        return reply

    @property
    def connections(self):
        """The server's connections."""
        return self.client.server.runner.connections

    async def sweep(self, later_s=0.0):
        """Look for connections to be cut, as it is done every second, as of *later_s* from now."""
        await self.connections.sweep(asyncio.get_running_loop().time() + later_s)

    def lines(self, event=None):
        """Give the log's lines so far; every one of them is a JSON object."""
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return [line for line in lines if event is None or line["event"] == event]


# The published document


@cache
def document():
    """The OpenAPI document, as an application of its own gives it."""
    app = _app_without_market()

    async def start():
        runner = Runner(app)
        await runner.setup()
        text = app[API].openapi()
        await runner.cleanup()
        return text

    return json.loads(_run_elsewhere(start))


def _run_elsewhere(start):
    """Run a coroutine to its end in a thread: a test's own loop is running."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(start())).result()


def _app_without_market():
    ring = KeyRing(PEPPER, "live")
    feeds = StandingFeeds.of(Board(Decimal(100)))
    ledger = SimpleNamespace(watch=lambda watch: None)
    return create_app(Settings.model_validate(SETTINGS), feeds, ledger, ring, b"k" * 32, None)


@cache
def strict_components():
    """The document's schemas, with everything that they do not name forbidden."""

    def close(node):
        if isinstance(node, dict):
            closed = {name: close(value) for name, value in node.items()}
            if "properties" in node:
                closed["additionalProperties"] = False
            return closed
        return [close(item) for item in node] if isinstance(node, list) else node

    return close(document()["components"])


@cache
def validator(schema_text):
    schema = {**json.loads(schema_text), "components": strict_components()}
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


@cache
def _paths():
    return [
        (re.compile(re.sub(r"\\\{[^/]+\\\}", "[^/]*", re.escape(path))), operations)
        for path, operations in sorted(document()["paths"].items(), key=lambda item: item[0].count("{"))
    ]


def operation_of(method, path):
    """Find what the document says of a route, or None."""
    for pattern, operations in _paths():
        if pattern.fullmatch(path):
            return operations.get("get" if method == "HEAD" else method.lower())
    return None


OUTSIDE_OF_OPERATIONS = {"method_not_allowed", "malformed_request"}
"""Refusals that come before a route is known to take the request."""


def check_answer(method, path, reply):
    """Hold an answer to what the contract says of all answers, and to the document's schema of this one."""
    assert "Server" not in reply.headers
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", reply.headers["X-Request-Id"])
    operation = operation_of(method, path)
    if operation is not None or reply.status >= 400:
        assert "no-store" == reply.headers["Cache-Control"]
    if method == "HEAD":
        assert b"" == reply.body
        return
    if reply.status >= 400:
        check_problem(reply)
    if operation is None or (reply.status >= 400 and reply.code in OUTSIDE_OF_OPERATIONS):
        return
    content = operation["responses"][str(reply.status)]["content"]
    [(media_type, described)] = content.items()
    assert media_type == reply.headers["Content-Type"].partition(";")[0]
    hold_to(described["schema"], reply.json)
    if reply.status >= 400:
        assert f"`{reply.code}`" in operation["responses"][str(reply.status)]["description"]


def without_realism(message):
    """Give an execution that was looked up as it was answered at first."""
    return {name: value for name, value in message.items() if name != "realism"}


def hold_to(schema, instance):
    errors = list(validator(json.dumps(schema, sort_keys=True)).iter_errors(instance))
    assert not errors, [f"{error.json_path}: {error.message[:300]}" for error in errors]


def check_problem(reply):
    """Hold a refusal to RFC 9457 and to the contract's table of codes."""
    assert "application/problem+json" == reply.headers["Content-Type"].partition(";")[0]
    problem = reply.json
    hold_to({"$ref": "#/components/schemas/Problem"}, problem)
    check_problem_body(problem)
    assert reply.status == problem["status"]
    assert reply.headers["X-Request-Id"] == problem["request_id"]
    if reply.status in (429, 503) or problem["code"] == "execution_in_progress":
        assert int(reply.headers["Retry-After"]) >= 1
    else:
        assert "Retry-After" not in reply.headers
    assert (reply.status == 401) == ("WWW-Authenticate" in reply.headers)
    assert (reply.status == 405) == ("Allow" in reply.headers)


def check_problem_body(problem):
    """Hold a problem, wherever it stands, to the table of codes."""
    meaning = CODES[problem["code"]]
    assert meaning.status == problem["status"]
    assert "/problems/" + problem["code"].replace("_", "-") == problem["type"]
    assert (meaning.retry, meaning.execution_state) == (problem["retry"], problem["execution_state"])
    for fault in problem.get("errors", ()):
        assert 1 == len({"parameter", "pointer"} & set(fault))
        assert fault["code"] in CODES


# The house


@pytest.fixture(scope="session")
def ledger_with_keys(tmp_path_factory):
    """A ledger with keys and no executions, to be copied, and the keys' texts: making one takes longer than a test."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    texts, stored = make_keys(KeyRing(PEPPER, "live"))

    async def make():
        ledger = SqliteLedger.open(path, "live")
        for key in stored.values():
            await ledger.add_key(key)
        await ledger.revoke_key(stored["revoked"].key_id, datetime(2026, 11, 1, 1, tzinfo=UTC))
        await ledger.close()

    _run_elsewhere(make)
    return path, texts


@pytest.fixture
def log_bytes(logging_as_before):
    """Where the log goes."""
    stream = io.BytesIO()
    logs.configure("json", "info", stream)
    return stream


def make_keys(ring):
    """Make keys of several scopes and accounts; gives the texts by name, and what is to be kept."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    wanted = {
        "all": ("alice", ("quote", "execute", "account")),
        "quote": ("alice", ("quote",)),
        "execute": ("alice", ("execute",)),
        "account": ("alice", ("account",)),
        "admin": ("alice", ("admin",)),
        "bob": ("bob", ("quote", "execute", "account")),
        "revoked": ("alice", ("quote", "execute", "account")),
        "unknown": ("alice", ("quote", "execute", "account")),
    }
    made = {name: ring.make(account, scopes, now) for name, (account, scopes) in wanted.items()}
    texts = {name: text for name, (text, _) in made.items()}
    texts["test_mode"] = KeyRing(PEPPER, "simulated").make("alice", ("quote",), now)[0]
    texts["other_pepper"] = KeyRing(PEPPER + b"!", "live").make("alice", ("quote",), now)[0]
    return texts, {name: stored for name, (_, stored) in made.items() if name != "unknown"}


def instrument(venue, symbol):
    """Give a venue's rules for a symbol."""
    return Instrument(
        venue=venue,
        symbol=symbol,
        price_step=Decimal("0.01"),
        quantity_step=Decimal("0.00000001") if venue == "okx" else Decimal("0.00001"),
        quantity_min=None if (least := QUANTITY_MIN.get(venue)) is None else Decimal(least),
        notional_min=Decimal(5) if symbol == "ETH/USDT" else None,
        taker_fee_bps=Decimal(FEES_BPS.get(venue, "0")),
    )


@pytest.fixture
async def house(clock, tmp_path, ledger_with_keys, log_bytes, aiohttp_client, request):
    """The service with fresh books of three venues; an indirect parameter changes its settings, table by table."""
    tables = getattr(request, "param", {})
    changed = {name: {**SETTINGS.get(name, {}), **table} for name, table in tables.items()}
    settings = Settings.model_validate({**SETTINGS, **changed})
    path = tmp_path / "ledger.db"
    made, texts = ledger_with_keys
    shutil.copy(made, path)
    real = SqliteLedger.open(path, "live", starting_balances(settings))
    ring = KeyRing(PEPPER, "live")
    ring.hold(await real.keys())

    board = Board(settings.market.outlier_bps)
    for venue, symbol in LADDERS:
        board.seat(venue, symbol, STALE_AFTER_MS, clock.now_ns())
        board.instruct(instrument(venue, symbol))
    ledger = Ledger(real)
    signing_key = quote_key(PEPPER, real.ledger_id)
    feeds = StandingFeeds.of(board, FEES_BPS, clock.now_ns)
    written = tmp_path / "settings.toml"
    app = create_app(settings, feeds, ledger, ring, signing_key, clock, lambda: load_settings(written, {}))
    house = House(clock, board, ledger, ring, app, tmp_path, log_bytes, feeds, keys=texts)
    house.show()
    house.client = await aiohttp_client(Server(app, room(settings, app[GUARD])))
    yield house
    await house.client.close()
    await real.close()
    hold_to_schema(house.lines())
