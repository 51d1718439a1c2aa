"""The log of a busy service with faults, through rsyslog with the shipped configuration: every line, by its level."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from service.control import key_desk
from service.keys import load_pepper
from tests.api.test_credentials import broken_requests
from tests.log_lines import EVENTS, faults, whole
from tests.rigs.clients import calling
from tests.rigs.ledgers import Database, NotHere, database
from tests.rigs.server import PEPPER, Setup
from tests.rigs.simulated import SimulatedVenues, simulated_venues
from tests.rigs.whole_service import Service
from tests.tools import WHERE

CONFIG = Path(__file__).parents[2] / "deploy/rsyslog/internal-orderbook.conf"
LOGS = "/var/log/internal-orderbook"
"""Where the shipped configuration finds and puts everything."""
BUG_OF = "eve"
"""Whose quotes meet the bug that is planted."""
PER_SECOND, PER_SECOND_SHORTENED = 150, 40
TAKEN_WITHIN_S = 30.0
VENUES = ("binance", "kraken", "okx")
STREAMED = '[venues.bybit]\nbase_url = "{}"\ntransport = "stream"\nrate_limit_ms = 0\n'
BROKEN = "depth = 0\n[quotes]\nttl_sm = 3\n"
VENUE_FAULTS = (
    ("okx", "crossed"),
    ("binance", "server_error"),
    ("kraken", "banned"),
    ("bybit", "wrong_sequence"),
    ("okx", "freeze"),
    ("binance", "one_sided"),
    ("kraken", "tenfold"),
    ("bybit", "storm"),
)
WANTED = {
    "book.rejected",
    "key.made",
    "key.revoked",
    "key.rotated",
    "ledger.unavailable",
    "request",
    "request.failed",
    "request.malformed",
    "service.started",
    "service.stopped",
    "service.stopping",
    "settings.refused",
    "settings.reloaded",
    "venue.down",
    "venue.live",
    "venue.switched",
}
"""What is to be seen at least, however short it is."""
WANTED_IN_FULL = WANTED | {
    "connections.cut",
    "stream.broken",
    "venue.paused",
    "venue.request_failed",
    "venue.stale",
    "venue.suspect",
}


async def rsyslog(
    folder: Path, seconds: float, *, program: str | None = None, fault: str = "a_bug", in_full: bool = True
) -> dict[str, Any]:
    """
    Have a busy time of so many seconds written, and taken by rsyslogd; give figures, with ``ok``.

    Args:
        program: Path of rsyslogd.
        fault: One of ``FAULTS``, which has the bug.
        in_full: Everything is to be seen that may be, and each line is held to the whole schema rather than to its
            event's branch, which takes five times as long.
    """
    program = program or shutil.which("rsyslogd") or shutil.which("rsyslogd", path=WHERE)
    if program is None:
        raise NotHere("rsyslogd is not installed")
    with database("sqlite", folder) as made:
        async with simulated_venues() as venues:
            more = STREAMED.format(venues.base_url)
            service = Service(made.url, folder, venues.base_url, VENUES, fault, more, said=folder / "said")
            taker = Taker(program, folder)
            taker.begin()
            try:
                async with service:
                    rate = PER_SECOND if in_full else PER_SECOND_SHORTENED
                    await Busy(service, made, venues, taker, more, rate).go_on(seconds)
                complete = await taker.has_all()
            finally:
                await asyncio.to_thread(taker.end)
    return judged(taker.files, complete, in_full)


def judged(files: dict[str, bytes], complete: bool, in_full: bool) -> dict[str, Any]:
    """Hold what rsyslog wrote against what the service wrote, and that against the schema."""
    written = files["service"].splitlines(keepends=True)
    levels: dict[str, list[bytes]] = {"warnings": [], "errors": []}
    events: Counter[str] = Counter()
    parsed, wrong, with_trace = 0, [], 0
    for line in written:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        parsed += 1
        name = {"warning": "warnings", "error": "errors", "critical": "errors"}.get(record.get("level"))
        if name is not None:
            levels[name].append(line)
        events[f"({record['logger']})" if "logger" in record else str(record.get("event"))] += 1
        with_trace += "trace_id" in record
        if not in_full or not whole().is_valid(record):
            wrong += faults(record) or ([f"of several kinds: {line[:200]!r}"] if in_full else [])
    same = {name: files[name] == b"".join(lines) for name, lines in {"all": written, **levels}.items()}
    figures = {
        "lines": len(written),
        "bytes": len(files["service"]),
        "parsed": parsed,
        "warnings": len(levels["warnings"]),
        "errors": len(levels["errors"]),
        "unparsed_by_rsyslog": files["unparsed"].count(b"\n"),
        "unparsed": files["unparsed"].decode("utf-8", "replace")[:500],
        "as_written": same,
        "of_a_trace": with_trace,
        "local_variables": files["service"].count(b"a local variable"),
        "not_of_the_schema": len(wrong),
        "wrong": wrong[:5],
        "events": dict(sorted(events.items())),
        "of_all_events": f"{len(events.keys() & set(EVENTS))} of {len(EVENTS)}",
        "missing": sorted((WANTED_IN_FULL if in_full else WANTED) - events.keys()),
    }
    routed = complete and all(same.values()) and not files["unparsed"] and parsed == len(written)
    sound = not wrong and not figures["local_variables"] and not figures["missing"]
    return {"ok": routed and sound and bool(written), **figures}


class Taker:
    """Debian's rsyslogd as an ordinary process, with the shipped configuration."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder, self._process = program, folder, None
        self.restarts = 0
        work = folder / "rsyslog"
        work.mkdir()
        included = work / "internal-orderbook.conf"
        included.write_text(CONFIG.read_text().replace(LOGS, str(folder)))
        self._config = work / "rsyslog.conf"
        self._config.write_text(f'global(workDirectory="{work}" maxMessageSize="256k")\ninclude(file="{included}")\n')

    def begin(self) -> None:
        """Start it."""
        arguments = [self._program, "-n", "-f", str(self._config), "-i", str(self._folder / "rsyslog/pid")]
        self._process = os.posix_spawn(arguments[0], arguments, dict(os.environ))

    def end(self) -> None:
        """Stop it, as its service manager would."""
        if self._process is not None:
            os.kill(self._process, signal.SIGTERM)
            os.waitpid(self._process, 0)
            self._process = None

    def begin_again(self) -> None:
        """Stop it and start it; what is written meanwhile waits in the file."""
        self.end()
        self.restarts += 1
        self.begin()

    @property
    def files(self) -> dict[str, bytes]:
        """Give the service's log, and what it has become."""
        names = ("service", "all", "warnings", "errors", "unparsed")
        paths = {name: self._folder / f"{name}.log" for name in names}
        return {name: path.read_bytes() if path.exists() else b"" for name, path in paths.items()}

    async def has_all(self) -> bool:
        """Wait until as much has come out as went in."""
        deadline = time.monotonic() + TAKEN_WITHIN_S
        while time.monotonic() < deadline:
            files = self.files
            if len(files["service"]) <= len(files["all"]) + len(files["unparsed"]):
                return True
            await asyncio.sleep(0.1)
        return False


@dataclass
class Busy:
    """Clients, operators and everything that goes wrong, all at once."""

    service: Service
    made: Database
    venues: SimulatedVenues
    taker: Taker
    more: str
    per_second: int
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _numbers: Any = field(default_factory=count)

    async def go_on(self, seconds: float) -> None:
        """Be busy for so long, and have everything happen at its time."""
        pepper = load_pepper({"IOB_PEPPER": PEPPER.decode()}, self.made.path).secret
        async with key_desk(Setup(self.made.url).settings(), lambda: pepper) as keys:
            admin, _ = await keys.create("ann", ["quote", "execute", "account", "admin"])
        happenings: list[Callable[[], Awaitable[object]]] = [
            lambda: self._venues_fail(seconds * 0.8),
            lambda: self._malformed(admin),
            lambda: self._stream(seconds / 2),
            lambda: self._keys(admin),
            self._settings,
            lambda: asyncio.to_thread(self.taker.begin_again),
            lambda: self._outage(2.5),
            lambda: self._accounts(admin),
            self._flood,
        ]
        async with calling() as session, self._asking(session), self._half_heads():
            began = time.monotonic()
            for number, happens in enumerate(happenings):
                due = began + seconds * 0.8 * number / len(happenings)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self._begin(happens())
            await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
        await asyncio.gather(*self.tasks)

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)

    @asynccontextmanager
    async def _asking(self, session: aiohttp.ClientSession) -> AsyncIterator[None]:
        """Ask for quotes, execute, and have quotes held, at a steady rate."""

        async def ask() -> None:
            began = time.monotonic()
            for number in count():
                await asyncio.sleep(max(0.0, began + number / self.per_second - time.monotonic()))
                self._begin(self._ask(session, number))

        load = asyncio.create_task(ask())
        try:
            yield
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        account = list(self.made.keys)[number % len(self.made.keys)]
        symbol = ("BTC/USDT", "ETH/USDT", "BTC-USDT", "DOGE/USDT")[number % 4]
        order = {"symbol": symbol, "side": "buy", "quantity": "0.01", "client_order_id": f"order-{number // 30}"}
        if number % 20 == 1:
            await self._send(session, "POST", "/execute", account, order)
        elif number % 20 == 2:
            await self._send(session, "POST", "/execute", account, order | {"limit_price": "1", "side": "buy"})
        elif number % 20 == 3:
            body = {"symbol": symbol, "side": "sell", "quantity": "0.01", "ttl_ms": 1_000}
            quote = await self._send(session, "POST", "/v1/quotes", account, body)
            if "quote_id" in quote and number % 40 == 3:
                await self._send(session, "DELETE", f"/v1/quotes/{quote['quote_id']}", account)
        elif number % 20 == 4:
            await self._send(session, "GET", "/v1/executions?limit=2", account)
        else:
            await self._send(session, "GET", f"/quote?symbol={symbol}&quantity=0.{number % 9}", account)

    async def _send(
        self, session: aiohttp.ClientSession, method: str, path: str, account: str, body: Any = None
    ) -> dict[str, Any]:
        """Send as a client that takes part in a trace, or names its request, or neither."""
        number, headers = next(self._numbers), {"X-API-Key": self.made.keys.get(account, account)}
        if number % 3 == 0:
            headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        if number % 4 == 0:
            headers["X-Request-Id"] = (f"rig-{number}", "not sane: é\t")[number % 8 == 0]
        if number % 7 == 0:
            headers["traceparent"] = "ff-nonsense"
        try:
            async with session.request(method, self.service.address + path, headers=headers, json=body) as response:
                found: dict[str, Any] = await response.json(content_type=None) if response.status != 204 else {}
                return found
        except (aiohttp.ClientError, OSError, TimeoutError):
            return {}

    async def _done(self, session: aiohttp.ClientSession, *asked: Any) -> dict[str, Any]:
        """Send until it is done: while the record cannot be reached nothing is."""
        for _ in range(100):
            found = await self._send(session, *asked)
            if found and "code" not in found:
                return found
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{asked[0]} {asked[1]} is never done: {found}")

    @asynccontextmanager
    async def _half_heads(self) -> AsyncIterator[None]:
        """Open connections that never say what they want."""
        host, _, port = self.service.address.removeprefix("http://").partition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(10)]
        for _, writer in opened:
            writer.write(b"GET / HTTP/1.1\r\nHost:")
        try:
            yield
        finally:
            for _, writer in opened:
                writer.close()

    async def _venues_fail(self, seconds: float) -> None:
        for venue, fault in VENUE_FAULTS:
            scope = {"scope": "stream"} if venue == "bybit" else {}
            await self.venues.switch(fault, venue, **scope)
            await asyncio.sleep(seconds / len(VENUE_FAULTS) * 0.7)
            await self.venues.switch(None, venue)
            await asyncio.sleep(seconds / len(VENUE_FAULTS) * 0.3)

    async def _malformed(self, key: str) -> None:
        """Send what is no HTTP, or no request, a key in each."""
        host, _, port = self.service.address.removeprefix("http://").partition(":")

        async def send(data: bytes) -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(data)
            try:
                async with asyncio.timeout(1):
                    await reader.read(1_024)
            except (OSError, TimeoutError):
                pass
            writer.close()

        await asyncio.gather(*map(send, broken_requests(key)))

    async def _flood(self) -> None:
        """Ask for more than can be answered, for a second."""
        host, _, port = self.service.address.removeprefix("http://").partition(":")
        ask = f"GET /quote?symbol=BTC/USDT&quantity=1 HTTP/1.1\r\nHost: x\r\nX-API-Key: {self.made.keys['ann']}\r\n\r\n"

        async def flood() -> None:
            reader, writer = await asyncio.open_connection(host, int(port))
            ends = time.monotonic() + 1
            while time.monotonic() < ends:
                writer.write(4 * ask.encode())
                await reader.read(65_536)
            writer.close()

        await asyncio.gather(*(flood() for _ in range(64)))

    async def _stream(self, seconds: float) -> None:
        async with calling() as session:
            headers = {"X-API-Key": self.made.keys["ann"], "traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}
            async with session.ws_connect(f"{self.service.address}/v1/stream", headers=headers) as stream:
                await stream.send_json({"op": "subscribe", "channel": "book", "symbol": "BTC/USDT"})
                await asyncio.sleep(seconds)

    async def _keys(self, admin: str) -> None:
        """Make a key, turn it over, and revoke both while the first one asks."""
        async with calling() as session:
            made = await self._done(session, "POST", "/v1/admin/keys", admin, {"account": "zoe", "scopes": ["quote"]})
            path = f"/v1/admin/keys/{made['id']}"
            turned = await self._done(session, "POST", f"{path}/rotate", admin, {"overlap_ms": 60_000})
            for key_id in (made["id"], turned["id"]):
                await self._done(session, "DELETE", f"/v1/admin/keys/{key_id}", admin)
            await self._send(session, "GET", "/quote?symbol=BTC/USDT&quantity=1", made["key"])

    async def _settings(self) -> None:
        """Have settings with mistakes read by signal, and right ones; switch a venue off and on."""
        for more, event in ((BROKEN, "settings.refused"), ("", "settings.reloaded")):
            known = len(self.service.logged(event))
            self.service.write(VENUES, self.more + more)
            self.service.hang_up()
            for _ in range(200):
                if len(self.service.logged(event)) > known:
                    break
                await asyncio.sleep(0.05)

    async def _outage(self, seconds: float) -> None:
        """Hold the ledger's file in a transaction of somebody else's."""
        with closing(sqlite3.connect(self.made.path, isolation_level=None, timeout=30)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await asyncio.sleep(seconds)

    async def _accounts(self, admin: str) -> None:
        async with calling() as session:
            await self._send(session, "POST", "/v1/admin/accounts", admin, {"account": "yan"})
            amount = {"asset": "USDT", "amount": "5"}
            await self._send(session, "POST", "/v1/admin/accounts/yan/deposits", admin, amount)
            await self._send(session, "POST", "/v1/admin/accounts/yan/reset", admin)
            for verb in ("disable", "enable"):
                await self._send(session, "POST", f"/v1/admin/venues/okx/{verb}", admin)
