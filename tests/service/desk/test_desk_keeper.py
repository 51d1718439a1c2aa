"""What is done between requests, with the keeper at work."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from service.api.render_record import receipt
from service.desk import keeper as keeper_module
from service.desk.desk import Desk
from service.desk.firm import FirmStatus
from service.desk.keeper import Keeper
from service.desk.orders import QuoteOrder
from service.errors import Unavailable
from service.keys import KeyRing
from tests.service.desk.desk_room import BUY_ONE, LOWER, Wrapped, order


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """The keeper looks as often as it can."""
    for name in ("TEND_EVERY_S", "KEYS_EVERY_S", "USES_EVERY_S"):
        monkeypatch.setattr(keeper_module, name, 0.001)


class Failing(Wrapped):
    """A ledger that cannot do one thing, as long as it is told so."""

    def __init__(self, ledger, verb, error):
        super().__init__(ledger)
        self.failing = True

        async def fail(*args):
            if self.failing:
                raise error
            return await getattr(ledger, verb)(*args)

        setattr(self, verb, fail)


class Shared(Wrapped):
    """A ledger that others write into as well."""

    shared = True


@asynccontextmanager
async def kept(room, ring=None):
    """Keep a room in order; gives a desk whose fills are watched."""
    keeper = Keeper(room.floor, room.firm, room.board)
    async with keeper.keeping(ring or KeyRing(b"p" * 32, "simulated")):
        yield Desk(room.floor, room.signer, receipt, keeper.watch)


async def until(condition, within_s=10.0):
    """Wait for a condition; give what it gave, the last time."""
    deadline = time.monotonic() + within_s
    while True:
        value = await condition()
        if value or time.monotonic() > deadline:
            return value
        await asyncio.sleep(0.005)


def logged(logs, event):
    async def look():
        return [line for line in logs if line["event"] == event]

    return look


async def fill(room, desk, on_quote):
    terms = QuoteOrder((await room.give()).quote_id) if on_quote else BUY_ONE
    return await desk.execute(order(terms))


@pytest.mark.parametrize("on_quote", [False, True])
async def test_what_was_seen_after_a_fill_is_on_record(room, on_quote):
    """
    Directly or on a firm quote: a minute after a fill the record says what the books showed since.
    """
    async with kept(room) as desk:
        answer = await fill(room, desk, on_quote)
        room.clock.advance(61_000)
        room.publish(kraken=LOWER)

        async def seen():
            return (await room.ledger.realism([answer.execution_id])).get(answer.execution_id)

        message = json.loads(await until(seen))

    assert message["pending"] is False
    assert [50, 250, 1_000] == [one["after_ms"] for one in message["survival"]]


async def test_firm_fill_without_a_market_is_not_watched(room):
    """
    Where there is no price that can be believed, nothing is guessed, and the fill stands.
    """
    async with kept(room) as desk:
        quote = await room.give(ttl_ms=10_000)
        room.board.fail("kraken", "BTC/USDT", "banned", room.clock.now_ns(), at_once=True)
        room.board.fail("coinbase", "BTC/USDT", "banned", room.clock.now_ns(), at_once=True)
        answer = await desk.execute(order(QuoteOrder(quote.quote_id)))

    assert "filled" == answer.status
    assert {} == await room.ledger.realism([answer.execution_id])


async def test_what_was_seen_and_cannot_be_written_is_told(room):
    """
    It is lost, and the log says of which fill; nobody waits for it.
    """
    room.floor.ledger = Failing(room.ledger, "add_realism", Unavailable("ledger_unavailable", "no"))
    with capture_logs() as logs:
        async with kept(room) as desk:
            answer = await desk.execute(order(BUY_ONE))
            room.clock.advance(61_000)

            (line,) = await until(logged(logs, "realism.lost"))

    assert (answer.execution_id, "ledger_unavailable") == (line["execution_id"], line["error"])


async def test_firm_quote_ends_by_itself(room):
    """
    Nobody has to ask: when its time is over, what it holds is free.
    """
    async with kept(room):
        quote = await room.give()
        room.clock.advance(3_001)

        async def ended():
            return (await room.ledger.firm_quote("alice", quote.quote_id)).status is FirmStatus.EXPIRED

        assert await until(ended)
    assert ("1000000", "0") == (await room.balances())["USDT"]


@pytest.mark.parametrize(("error", "event"), [
    (Unavailable("ledger_unavailable", "no"), "keeper.waits"),
    (ValueError("a bug"), "keeper.failed"),
])  # fmt: skip
async def test_keeper_goes_on_after_trouble(room, error, event):
    """
    What could not be done is done as soon as the record is back.
    """
    quote = await room.give()
    failing = Failing(room.ledger, "orphaned", error)
    failing.failing = False
    room.floor.ledger = failing
    with capture_logs() as logs:
        async with kept(room):
            failing.failing = True
            room.clock.advance(3_001)
            assert await until(logged(logs, event))
            failing.failing = False

            async def ended():
                return (await room.ledger.firm_quote("alice", quote.quote_id)).status is FirmStatus.EXPIRED

            assert await until(ended)


async def test_what_is_left_of_takings_and_cannot_be_written_is_told(room):
    """
    The record is behind then, to nobody's advantage: more is charged after a restart, never less.
    """
    with capture_logs() as logs:
        async with kept(room) as desk:
            await desk.execute(order(BUY_ONE))
            room.floor.ledger = Failing(room.ledger, "keep_lots", Unavailable("ledger_unavailable", "no"))
            room.publish(kraken=LOWER)

            assert await until(logged(logs, "keeper.waits"))


async def test_keys_of_a_shared_record_come_and_go(room):
    """
    A key that another process makes or revokes is in force, or not, a moment later.
    """
    ring = KeyRing(b"p" * 32, "simulated")
    text, key = ring.make("alice", ["quote"], datetime.now(UTC))
    room.floor.ledger = Shared(room.ledger)
    async with kept(room, ring):
        await room.ledger.add_key(key)

        async def accepted():
            return ring.check(text) is not None

        async def refused():
            return ring.check(text) is None

        assert await until(accepted)
        await room.ledger.revoke_key(key.key_id, datetime.now(UTC))
        assert await until(refused)


async def test_revocation_elsewhere_waits_for_nothing_slow(room):
    """
    A record that takes its time over takings does not keep a key in force that another process has revoked.
    """
    ring = KeyRing(b"p" * 32, "simulated")
    text, key = ring.make("alice", ["quote"], datetime.now(UTC))
    await room.ledger.add_key(key)
    slow, go_on = Shared(room.ledger), asyncio.Event()

    async def keep_lots(lots):
        await go_on.wait()

    slow.keep_lots = keep_lots
    room.floor.ledger = slow
    async with kept(room, ring):

        async def accepted():
            return ring.check(text) is not None

        async def refused():
            return ring.check(text) is None

        assert await until(accepted)
        await room.ledger.revoke_key(key.key_id, datetime.now(UTC))
        assert await until(refused)
        go_on.set()


async def test_uses_of_keys_are_written_down(room):
    """
    When a key was last used is on record soon after, and at once when the service ends.
    """
    ring = KeyRing(b"p" * 32, "simulated")
    text, key = ring.make("alice", ["quote"], datetime.now(UTC))
    await room.ledger.add_key(key)
    ring.hold([key])

    async def on_record():
        return (await room.ledger.keys())[0].last_used_at

    async with kept(room, ring):
        ring.check(text)
        first = await until(on_record)
    ring.check(text)
    async with kept(room, ring):
        pass

    assert first is not None and first < await on_record()


async def test_uses_of_keys_that_cannot_be_written_down_are_not_lost(room):
    """
    They are written once the record can be reached again.
    """
    ring = KeyRing(b"p" * 32, "simulated")
    text, key = ring.make("alice", ["quote"], datetime.now(UTC))
    await room.ledger.add_key(key)
    ring.hold([key])
    failing = Failing(room.ledger, "note_key_uses", Unavailable("ledger_unavailable", "no"))
    room.floor.ledger = failing

    async def on_record():
        return (await room.ledger.keys())[0].last_used_at

    with capture_logs() as logs:
        async with kept(room, ring):
            ring.check(text)
            assert await until(logged(logs, "keeper.waits"))
            assert await on_record() is None
            failing.failing = False
            assert await until(on_record)


async def test_head_of_the_journal_is_logged(room, monkeypatch):
    """
    The log holds what a journal that was written anew would have to lead to.
    """
    monkeypatch.setattr(keeper_module, "HEAD_EVERY_S", 0.0)
    await room.execute(BUY_ONE)
    with capture_logs() as logs:
        async with kept(room):
            (line, *_) = await until(logged(logs, "ledger.head"))

    seq, hashed = room.ledger.head
    assert (seq, hashed.hex()) == (line["seq"], line["hash"])
