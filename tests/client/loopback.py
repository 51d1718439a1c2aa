"""A small server that speaks the contract, fails as it is told to, and counts what it has run."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer

from service.api.problems import CODES, CONTENT_TYPE, problem
from service.client import OrderBookClient, Retries

KEY = "iob_test_0123456789_" + "a" * 49
HTML = "<html><h1>Bad Gateway</h1></html>"

SIDE = {
    "fillable": True,
    "quantity": "1.5",
    "shortfall": "0",
    "average_price": "64012.31",
    "best_price": "64010",
    "worst_price": "64015.10",
    "all_in_price": "64076.32",
    "subtotal": "96018.465",
    "fees": "96.015",
    "markup": "0",
    "total": "96114.48",
    "pays": "USDT",
    "receives": "BTC",
    "slippage_bps": {"from_mid": "1.9", "from_best": "0.7"},
    "waterfall": [{"step": "mid", "amount": "96000", "bps": "0"}, {"step": "total", "amount": "96114.48", "bps": "12"}],
    "legs": [
        {
            "venue": "kraken",
            "symbol": "BTC/USDT",
            "quantity": "1.5",
            "average_price": "64012.31",
            "worst_price": "64015.10",
            "subtotal": "96018.465",
            "fee": "96.015",
            "fee_bps": "10",
            "levels": 4,
            "conversion": None,
        }
    ],
    "best_single_venue": {"venue": "kraken", "all_in_price": "64076.32"},
    "saving_bps": "0",
}
SOURCE = {"venue": "kraken", "state": "live", "used": True, "reason": None, "age_ms": 84, "sequence": 123}
QUOTE = {
    "quote_id": "q2.abc",
    "kind": "indicative",
    "executed": False,
    "market_data": "simulated",
    "execution": "mock",
    "symbol": "BTC/USDT",
    "base_asset": "BTC",
    "quote_asset": "USDT",
    "requested": {"quantity": "1.5", "side": "buy"},
    "created_at": "2026-11-01T12:00:00.000Z",
    "expires_at": "2026-11-01T12:00:03.000Z",
    "expires_in_ms": 3000,
    "buy": SIDE,
    "sell": None,
    "market": {
        "mid": "64000",
        "best_bid": {"price": "63990", "venue": "okx"},
        "best_ask": {"price": "64010", "venue": "kraken"},
        "spread_bps": "3.125",
        "crossed": False,
    },
    "liquidity": {"taken": "0", "held": "0"},
    "sources": [SOURCE],
    "warnings": [{"code": "single_venue"}],
}
FIRM = QUOTE | {"quote_id": "f" * 32, "kind": "firm", "status": "open", "held": {"USDT": "96114.48"}}
EXECUTION = {
    "execution_id": "e" * 32,
    "status": "filled",
    "reject_code": None,
    "client_order_id": "a",
    "quote_id": None,
    "market_data": "simulated",
    "execution": "mock",
    "dry_run": False,
    "symbol": "BTC/USDT",
    "side": "buy",
    "time_in_force": "fok",
    "requested_quantity": "1.5",
    "requested_total": None,
    "filled_quantity": "1.5",
    "unfilled_quantity": "0",
    "average_price": "64012.31",
    "all_in_price": "64076.32",
    "subtotal": "96018.465",
    "fees": "96.015",
    "markup": "0",
    "total": "96114.48",
    "fills": [],
    "versus_quote_bps": None,
    "balances": {"USDT": {"before": "100000", "after": "3885.52"}},
    "executed_at": "2026-11-01T12:00:01.000Z",
}
ACCOUNT = {"account": "alice", "balances": {"USDT": {"available": "5", "held": "0", "total": "5"}}, "positions": []}
BOOK = {
    "symbol": "BTC/USDT",
    "view": "net",
    "market_data": "simulated",
    "bids": [{"price": "63990", "net_price": "63926.01", "quantity": "2", "taken": "0", "held": "0", "venue": "okx"}],
    "asks": [],
    "crossed": False,
    "sources": [SOURCE],
}
LIMITS = {"quote_per_s": None, "execute_per_s": None}
STORED_KEY = {
    "id": "0123456789",
    "account": "alice",
    "scopes": ["quote"],
    "status": "in_force",
    "label": None,
    "addresses": [],
    "limits": LIMITS,
    "created_at": "2026-11-01T12:00:00.000Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
}


@dataclass
class HeldTime:
    """A clock that moves by being slept on."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def retries(self, **options):
        """Retry by this clock, without chance."""
        given = {"clock": self.clock, "sleep": self.sleep, "jitter": lambda: 1.0, **options}
        return Retries(**given)


@dataclass(frozen=True)
class Problem:
    """Refuse with a code of the service's, in its own words; *more* members stand in it."""

    code: str
    more: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """Answer as something that is not the service."""

    status: int
    text: str = HTML
    headers: dict = field(default_factory=dict)
    content_type: str = "text/html"


class Loopback:
    """
    What it does with the requests to come stands in ``acts``; all later ones are answered.

    ``drop_before`` and ``drop_after`` break the connection before or after running, ``cut`` in the midst of the answer,
    ``hang_before`` and ``hang_after`` never answer, ``late`` runs only once the next request has been answered.
    """

    def __init__(self):
        self.acts = deque()
        self.always = "answer"
        self.received = []
        self.runs = 0
        self.executions = {}
        self.late = []
        self.over = asyncio.Event()
        self.url = ""

    @property
    def bodies(self):
        return [body for _, _, body, _ in self.received]

    async def handle(self, request):
        body = await request.read()
        self.received.append((request.method, request.path, body, request.headers))
        act = self.acts.popleft() if self.acts else self.always
        if isinstance(act, Problem) and not self._is_on_record(request, body, act):
            return self._refuse(act)
        if isinstance(act, Page):
            return web.Response(status=act.status, text=act.text, content_type=act.content_type, headers=act.headers)
        if act == "late":
            self.late.append((request, body))
            await self._hang()
        if act == "hang_before":
            await self._hang()
        if act == "drop_before":
            request.transport.abort()
            return web.Response()
        answer = self._run(request, body)
        while self.late:
            self._run(*self.late.pop())
        if act == "hang_after":
            await self._hang()
        if act == "drop_after":
            request.transport.abort()
        if act == "cut":
            response = web.StreamResponse(headers={"Content-Length": "10000", "Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(answer[:10])
            request.transport.abort()
            return response
        return web.Response(status=200, body=answer, content_type="application/json")

    def _is_on_record(self, request, body, problem):
        """Tell whether the service would answer from its record: it looks there before all that it decides itself."""
        decided = problem.code in CODES and CODES[problem.code].status in (409, 410, 422)
        return decided and request.path == "/execute" and json.loads(body)["client_order_id"] in self.executions

    async def _hang(self):
        await self.over.wait()
        raise web.HTTPServiceUnavailable

    def _refuse(self, act):
        code = CODES.get(act.code)
        body = problem(act.code if code else "internal_error", "a sentence", "the-service's-id", extra=act.more)
        headers = dict(act.headers)
        if code is not None and code.retry_after_s is not None:
            headers.setdefault("Retry-After", str(code.retry_after_s))
        status = json.loads(body)["status"]
        return web.Response(status=status, body=body, content_type=CONTENT_TYPE, headers=headers)

    def _run(self, request, body):
        """Do what is asked for, as often as it comes, but each order once."""
        path = request.path
        if path == "/execute":
            order = json.loads(body)
            if order["client_order_id"] not in self.executions:
                self.runs += 1
                answer = EXECUTION | {"client_order_id": order["client_order_id"]}
                self.executions[order["client_order_id"]] = (body, json.dumps(answer).encode())
            first, answer = self.executions[order["client_order_id"]]
            assert first == body
            return answer
        if request.method != "GET":
            self.runs += 1
        if path.startswith("/v1/quotes"):
            return json.dumps(FIRM).encode()
        if path.startswith("/v1/admin/keys"):
            return json.dumps(STORED_KEY | {"key": KEY, "replaces": STORED_KEY}).encode()
        return json.dumps(QUOTE if path == "/quote" else ACCOUNT).encode()


@asynccontextmanager
async def serving(handler):
    """Serve all paths by *handler*; gives the address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    try:
        yield f"http://{server.host}:{server.port}"
    finally:
        await server.close()


@asynccontextmanager
async def loopback(held=None, **options):
    """Give a server, and a client of it that keeps to a held time."""
    server, held = Loopback(), held or HeldTime()
    async with serving(server.handle) as server.url:
        async with OrderBookClient(server.url, KEY, retries=held.retries(**options)) as client:
            yield server, client
        server.over.set()
