"""Unmodified ccxt.pro follows the simulated streams: after every step its book is the market's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from decimal import Decimal
from typing import Any

import ccxt.pro as ccxt_pro
import pytest

from exchanges.simulator import VENUES, SimulatedMarket
from tests.exchanges.simulator.conftest import SEED, STARTED_S, HeldClock, Line, asking, redirected, until

STREAMED = ("binance", "kraken", "okx", "bybit", "bitstamp")
SIDES = ("bids", "asks")
LIMITS = {"kraken": 25, "bybit": 50}  # Binance must not be told one; the others have one depth.


class Follower:
    """Watch one symbol through ccxt.pro, and keep the last book and all errors."""

    def __init__(self, exchange: Any, symbol: str, limit: int | None) -> None:
        self.book: Any = None
        self.errors: list[Exception] = []
        self._exchange, self._symbol, self._limit = exchange, symbol, limit
        self.task = asyncio.create_task(self._watch())

    def levels(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Both sides of the last book, to the digit."""
        bids, asks = (
            [(Decimal(repr(float(price))), Decimal(repr(float(quantity)))) for price, quantity, *_ in self.book[side]]
            for side in SIDES
        )
        return bids, asks

    def shows(self, wanted: Any) -> bool:
        """Tell whether the last book is *wanted*, to the digit; most often a glance is enough to see that it is not."""
        if self.book is None or any(
            len(self.book[name]) != len(side) for name, side in zip(SIDES, wanted, strict=True)
        ):
            return False
        for name, side in zip(SIDES, wanted, strict=True):
            for (price, quantity, *_), level in zip(self.book[name], side, strict=True):
                if (price, quantity) != (float(level[0]), float(level[1])):
                    return False
        return self.levels() == wanted

    async def _watch(self) -> None:
        while True:
            try:
                self.book = await self._exchange.watch_order_book(self._symbol, self._limit)
            except ccxt_pro.BaseError as error:
                self.errors.append(error)
                await asyncio.sleep(0.01)


@pytest.fixture
async def exchange(request, simulator):
    """A venue as ccxt.pro has it, sent to the simulator."""
    made = getattr(ccxt_pro, request.param)(
        {"options": {"fetchMarkets": {"types": ["spot"]}}, "enableRateLimit": False, "timeout": 5000}
    )
    yield redirected(made, str(simulator.make_url("")).rstrip("/"))
    await made.close()


@pytest.fixture
async def follow(exchange):
    """Start followers, and end them with the test."""
    followers: list[Follower] = []

    def start(symbol: str, limit: int | None) -> Follower:
        followers.append(Follower(exchange, symbol, limit))
        return followers[-1]

    yield start
    for follower in followers:
        follower.task.cancel()
    await asyncio.gather(*(follower.task for follower in followers), return_exceptions=True)


def market_levels(venue: str, symbol: str, at_ms: int, depth: int | None) -> Any:
    """What the market says that the venue shows."""
    book = SimulatedMarket(SEED).book(venue, symbol, at_ms, depth)
    return tuple([(level.price, level.quantity) for level in side] for side in book)


async def synced(follower: Follower, clock: HeldClock, elapsed_ms: int, expected: Any) -> int:
    """Move the clock on, step by step, until ccxt has a book: some venues need changes before they ask for one."""
    for at_ms in range(elapsed_ms, elapsed_ms + 9000, 100):
        clock.now_s = STARTED_S + at_ms / 1000
        with contextlib.suppress(AssertionError):
            wanted = expected(at_ms)
            await until(lambda wanted=wanted: follower.shows(wanted), 0.3)
            return at_ms
    raise AssertionError(f"ccxt had no right book: {follower.errors}")


@pytest.mark.parametrize("exchange", STREAMED, indirect=True)
async def test_ccxt_follows_a_stream_to_the_digit(exchange, follow, held_clock):
    """Through thirty steps, one at a time and some at once, ccxt's streamed book is the market's."""
    symbol, limit = "BTC/USDT", LIMITS.get(exchange.id)

    def expected(at_ms: int) -> Any:
        return market_levels(exchange.id, symbol, at_ms, limit)

    follower = follow(symbol, limit)
    elapsed_ms = await synced(follower, held_clock, 50_000, expected)
    for step in range(30):
        elapsed_ms += 100 if step % 7 else 900
        held_clock.now_s = STARTED_S + elapsed_ms / 1000
        wanted = expected(elapsed_ms)
        await until(lambda wanted=wanted: follower.shows(wanted))

    assert [] == follower.errors


def kraken_checksum(bids: list[Any], asks: list[Any], price_decimals: int, quantity_decimals: int) -> int:
    """The checksum as Kraken's page tells it, from floats: asks from the lowest, bids from the highest, ten each."""
    text = ""
    for price, quantity, *_ in [*asks[:10], *bids[:10]]:
        text += f"{price:.{price_decimals}f}".replace(".", "").lstrip("0")
        text += f"{quantity:.{quantity_decimals}f}".replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


@pytest.mark.parametrize("exchange", ["kraken"], indirect=True)
async def test_kraken_checksum_proves_ccxts_book(exchange, follow, held_clock, lab):
    """Of each message, the checksum is that of the book which ccxt then has; numbers stand without quotes."""
    raw = await lab.line("kraken", asking("kraken", "ETH/USD", 25))
    follower = follow("ETH/USD", 25)
    await until(lambda: follower.book is not None and any('"snapshot","data"' in one for one in raw.messages))
    market = exchange.market("ETH/USD")["info"]
    decimals = int(market["pair_decimals"]), int(market["lot_decimals"])
    for step in range(8):
        wanted = market_levels("kraken", "ETH/USD", 50_000 + step * 100, 25)
        await until(lambda wanted=wanted: follower.shows(wanted))
        await until(lambda step=step: len(books(raw)) == step + 1)
        told = books(raw)[-1]
        assert kraken_checksum(follower.book["bids"], follower.book["asks"], *decimals) == told["checksum"]
        assert f"2027-01-15T08:00:50.{step}00000Z" == told["timestamp"]
        lab.step()
    assert all(type(level["price"]) is float and type(level["qty"]) is float for level in books(raw)[0]["bids"])


def books(line: Line) -> list[dict[str, Any]]:
    """The books and changes that kraken has sent."""
    messages = [json.loads(message) for message in line.messages]
    return [message["data"][0] for message in messages if message.get("channel") == "book"]


@pytest.mark.parametrize("exchange", STREAMED, indirect=True)
async def test_ccxt_follows_all_symbols_on_one_connection(exchange, follow, held_clock):
    """All that the venue lists, at once: each book is its own symbol's, also where a step changes nothing."""
    limit = LIMITS.get(exchange.id)
    followers = {symbol: follow(symbol, limit) for symbol in VENUES[exchange.id].listings}
    elapsed_ms = 50_000
    for symbol, follower in followers.items():

        def expected(at_ms: int, symbol: str = symbol) -> Any:
            return market_levels(exchange.id, symbol, at_ms, limit)

        elapsed_ms = await synced(follower, held_clock, elapsed_ms, expected)
    for _ in range(5):
        elapsed_ms += 100
        held_clock.now_s = STARTED_S + elapsed_ms / 1000
        for symbol, follower in followers.items():
            wanted = market_levels(exchange.id, symbol, elapsed_ms, limit)
            await until(lambda follower=follower, wanted=wanted: follower.shows(wanted))
    assert [] == [error for follower in followers.values() for error in follower.errors]


@pytest.mark.parametrize("exchange", STREAMED, indirect=True)
async def test_ccxts_streamed_book_agrees_with_its_polled_one(exchange, follow, held_clock):
    """What ccxt streams and what it fetches at the same moment are the same book."""
    depth = LIMITS.get(exchange.id, 1000 if exchange.id == "binance" else 400)
    follower = follow("ETH/USDT", LIMITS.get(exchange.id))
    await synced(follower, held_clock, 50_000, lambda at_ms: market_levels(exchange.id, "ETH/USDT", at_ms, depth))

    polled = await exchange.fetch_order_book("ETH/USDT", depth)
    for side in ("bids", "asks"):
        assert [level[:2] for level in polled[side]] == [level[:2] for level in follower.book[side]]


@pytest.mark.parametrize(("exchange", "error"), [
    ("binance", ccxt_pro.ChecksumError),
    ("okx", ccxt_pro.InvalidNonce),
    ("bybit", None),  # ccxt does not look at its sequence.
    ("kraken", None),  # Nor at its checksum.
    ("bitstamp", None),  # There is none.
], indirect=["exchange"])  # fmt: skip
async def test_lost_change_is_noticed_by_ccxt_where_it_looks(exchange, follow, lab, error):
    """One change less: an error of ccxt's where the protocol tells and ccxt reads it, a wrong book elsewhere."""
    limit = LIMITS.get(exchange.id)

    def expected(at_ms: int) -> Any:
        return market_levels(exchange.id, "BTC/USDT", at_ms, limit)

    follower = follow("BTC/USDT", limit)
    elapsed_ms = await synced(follower, lab.clock, 50_000, expected)
    witness = await lab.subscribed(exchange.id, "ETH/USDT")
    await lab.switch(venue=exchange.id, symbol="BTC/USDT", fault="lost")
    for count in (1, 2):
        lab.step()
        await until(lambda count=count: len(witness.messages) == count)

    if error:
        await until(lambda: follower.errors)
        assert {error} == {type(one) for one in follower.errors}
    else:
        await until(lambda: follower.book["bids"][0][0] == float(expected(elapsed_ms + 200)[0][0][0]))
        assert expected(elapsed_ms + 200) != follower.levels()


@pytest.mark.parametrize("exchange", STREAMED, indirect=True)
async def test_unexpected_message_breaks_ccxts_handler(exchange, follow, lab):
    """The message handler of ccxt raises where nobody catches it: from then on the connection is deaf."""
    broken: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    follower = follow("BTC/USDT", LIMITS.get(exchange.id))

    def expected(at_ms: int) -> Any:
        return market_levels(exchange.id, "BTC/USDT", at_ms, LIMITS.get(exchange.id))

    await synced(follower, lab.clock, 50_000, expected)
    await lab.switch(venue=exchange.id, fault="unexpected", every=1)
    lab.step()
    await until(lambda: broken)

    assert "exception" in broken[0]
    assert [] == follower.errors


@pytest.mark.parametrize("exchange", ["binance", "okx", "bybit", "bitstamp"], indirect=True)
async def test_ccxt_ends_a_subscription_and_takes_it_up_again(exchange, follow, held_clock):
    """Unsubscribed, the venue sends no more; subscribed again, ccxt has the book of the moment."""
    limit = LIMITS.get(exchange.id)

    def expected(at_ms: int) -> Any:
        return market_levels(exchange.id, "BTC/USDT", at_ms, limit)

    follower = follow("BTC/USDT", limit)
    elapsed_ms = await synced(follower, held_clock, 50_000, expected)
    follower.task.cancel()
    async with asyncio.timeout(10):
        await exchange.un_watch_order_book("BTC/USDT")

    assert {} == dict(exchange.orderbooks)
    again = follow("BTC/USDT", limit)
    await synced(again, held_clock, elapsed_ms + 1000, expected)
    assert [] == again.errors


async def test_whoever_begins_in_the_midst_of_a_silence_is_told_all_that_has_changed_since(lab):
    """What changed and changed back while the stream told nothing stays in no reader's book."""
    await lab.switch(venue="binance", fault="silence")
    line = await lab.subscribed("binance")
    begun = []
    for steps in (1, 25, 30):
        lab.step(steps)
        begun.append(await lab.get("/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"))
    lab.step(25)
    await lab.switch(venue="binance", fault=None)
    lab.step()
    latest = (await lab.get("/api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5"))["lastUpdateId"]
    await until(lambda: line.messages and json.loads(line.messages[-1])["u"] == latest)

    changes = [json.loads(message) for message in line.messages]  # Two if the last of the silence was told by itself.
    wanted = market_levels("binance", "BTC/USDT", 58_200, None)
    for answer in begun:
        assert changes[0]["U"] <= answer["lastUpdateId"] + 1 <= changes[0]["u"]
        for of_answer, of_change, right in (("bids", "b", wanted[0]), ("asks", "a", wanted[1])):
            rows = [*answer[of_answer], *(row for change in changes for row in change[of_change])]
            kept = {Decimal(price): Decimal(quantity) for price, quantity in rows}
            assert dict(right) == {price: quantity for price, quantity in kept.items() if quantity}
