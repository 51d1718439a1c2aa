"""A simulator whose clock a test moves, and unmodified ccxt that is sent there."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from exchanges.simulator import create_app

STARTED_S = 1_800_000_000.0
SEED = 7


class HeldClock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        """Start at a fixed time."""
        self.now_s = STARTED_S

    def __call__(self) -> float:
        """Read it."""
        return self.now_s


def redirected(exchange: Any, base_url: str) -> Any:
    """Send every address of a ccxt exchange to the simulator."""

    def mapped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        value = re.sub(r"^https?://", f"{base_url}/", value)
        return re.sub(r"^wss?://", f"{base_url.replace('http', 'ws', 1)}/", value)

    exchange.urls["api"] = mapped(exchange.urls["api"])
    exchange.timeout_on_exit = 0
    return exchange


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Wait for *condition* to hold, and give what it gave."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (held := condition()):
        assert asyncio.get_running_loop().time() < deadline, "The condition did not come to hold."
        await asyncio.sleep(0.002)
    return held


@pytest.fixture
def held_clock() -> HeldClock:
    """The venues' clock."""
    return HeldClock()


@pytest.fixture
async def simulator(held_clock) -> AsyncIterator[TestServer]:
    """A simulator with seed 7, 50 s after its start."""
    async with TestServer(create_app(SEED, held_clock)) as server:
        held_clock.now_s += 50
        yield server


STREAM_ADDRESS = {
    "binance": "/stream.binance.com:9443/ws/0",
    "kraken": "/ws.kraken.com/v2",
    "okx": "/ws.okx.com:443/ws/v5/public",
    "bybit": "/stream.bybit.com/v5/public/spot",
    "bitstamp": "/ws.bitstamp.net",
}


def asking(venue: str, symbol: str = "BTC/USDT", depth: int | None = None, verb: str = "subscribe") -> str:
    """What a client of *venue* says to subscribe to a symbol's book, or with another *verb*, to end that."""
    match venue:
        case "binance":
            topics = [f"{symbol.replace('/', '').lower()}@depth@100ms"]
            return json.dumps({"method": verb.upper(), "params": topics, "id": 1})
        case "kraken":
            params = {"channel": "book", "symbol": [symbol], "depth": depth or 10}
            return json.dumps({"method": verb, "params": params, "req_id": 1})
        case "okx":
            return json.dumps({"op": verb, "args": [{"channel": "books", "instId": symbol.replace("/", "-")}]})
        case "bybit":
            topic = f"orderbook.{depth or 50}.{symbol.replace('/', '')}"
            return json.dumps({"op": verb, "args": [topic], "req_id": "1"})
    channel = f"diff_order_book_{symbol.replace('/', '').lower()}"
    return json.dumps({"event": f"bts:{verb}", "data": {"channel": channel}})


class Line:
    """A raw WebSocket client that keeps all that it is sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Read until the connection ends."""
        self.socket = socket
        self.messages: list[str] = []
        self.pongs = 0
        self.error: BaseException | None = None
        self.task = asyncio.create_task(self._read())

    async def say(self, text: str) -> None:
        """Send a message."""
        await self.socket.send_str(text)

    @property
    def ended(self) -> bool:
        """Whether the other side has ended it."""
        return self.task.done()

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                self.messages.append(message.data)
            elif message.type is aiohttp.WSMsgType.PONG:
                self.pongs += 1
            elif message.type is not aiohttp.WSMsgType.PING:
                self.error = message.data if isinstance(message.data, BaseException) else None
                return


class Lab:
    """A simulator, a clock to move, and raw clients of its streams."""

    def __init__(self, server: TestServer, clock: HeldClock, session: aiohttp.ClientSession) -> None:
        """Keep them."""
        self.server, self.clock, self.session = server, clock, session
        self.lines: list[Line] = []

    async def line(self, venue: str, *asked: str) -> Line:
        """Connect to a venue's stream, and say what is *asked*."""
        address = self.server.make_url(STREAM_ADDRESS[venue])
        socket = await self.session.ws_connect(
            address, max_msg_size=16 * 1024 * 1024, autoping=False, timeout=aiohttp.ClientWSTimeout(ws_close=0.5)
        )
        line = Line(socket)
        self.lines.append(line)
        for text in asked:
            await line.say(text)
        return line

    async def subscribed(self, venue: str, symbol: str = "BTC/USDT", depth: int | None = None) -> Line:
        """Connect and subscribe; what the venue said to that, and the book if it sent one, is forgotten."""
        line = await self.line(venue, asking(venue, symbol, depth))
        expected = {"binance": 1, "kraken": 3, "okx": 2, "bybit": 2, "bitstamp": 1}[venue]  # Kraken greets first.
        await until(lambda: len(line.messages) >= expected)
        line.messages.clear()
        return line

    async def switch(self, **body: Any) -> Any:
        """Switch a fault."""
        async with self.session.post(self.server.make_url("/faults"), json=body) as response:
            answer = await response.json()
            assert 200 == response.status, answer
            return answer

    async def get(self, path: str) -> Any:
        """Ask for a path's JSON."""
        async with self.session.get(self.server.make_url(path)) as response:
            return await response.json()

    def step(self, count: int = 1) -> None:
        """Move the market on by *count* steps."""
        self.clock.now_s = round(self.clock.now_s + count * 0.1, 1)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of all simulators."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield session


async def _hang_up(lab: Lab) -> None:
    for line in lab.lines:
        line.task.cancel()
    await asyncio.gather(*(line.task for line in lab.lines), return_exceptions=True)
    await lab.switch(venue="*", fault=None)
    await asyncio.gather(*(line.socket.close() for line in lab.lines))


@pytest.fixture
async def lab(simulator, held_clock, session) -> AsyncIterator[Lab]:
    """A simulator to break."""
    lab = Lab(simulator, held_clock, session)
    yield lab
    await _hang_up(lab)


@pytest.fixture
async def sound(held_clock, session) -> AsyncIterator[Lab]:
    """A second simulator of the same market on the same clock, that nothing is done to."""
    started_s, held_clock.now_s = held_clock.now_s, STARTED_S
    async with TestServer(create_app(SEED, held_clock)) as server:
        held_clock.now_s = started_s
        lab = Lab(server, held_clock, session)
        yield lab
        await _hang_up(lab)
