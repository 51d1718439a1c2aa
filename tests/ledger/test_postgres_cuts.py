"""The wire to PostgreSQL breaks around a COMMIT: orders are on record once or not at all, answers are true."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from service.desk.firm import FirmStatus
from service.errors import OutcomeUnknown, Unavailable
from service.ledger import sql
from service.ledger.postgres import PostgresLedger
from service.ledger.protocol import Changes, StoredKey
from tests.databases import ask, changed
from tests.ledger.ledger_cases import (
    NOON,
    STARTING,
    Outcome,
    claim,
    execution,
    firm_quote,
    hold_for,
    look,
    lot,
    money,
    quote_used,
    record,
)
from tests.ledger.wire_cutter import Cut, cut_wire

pytestmark = pytest.mark.parametrize("when", Cut)


@pytest.fixture
async def wire(postgres_url, when):
    """A wire that is whole until ``wire.when`` is set."""
    with psycopg.connect(postgres_url) as connection:
        host, port = connection.info.hostaddr or connection.info.host, connection.info.port
    async with cut_wire(host, port) as (cutter, own_port):
        cutter.port = own_port
        yield cutter


@pytest.fixture
async def ledger(postgres_url, wire):
    """A ledger at the far end of the wire."""
    url = changed(postgres_url, host="127.0.0.1", port=wire.port)
    ledger = await asyncio.to_thread(PostgresLedger.open, url, "simulated", STARTING)
    yield ledger
    wire.when, wire.dead = None, False
    await ledger.close()


def recorded(url, client_order_id):
    """Which executions there are under an id, asked of the server itself."""
    found = ask(url, f"SELECT execution_id FROM executions WHERE client_order_id = '{client_order_id}'")
    return [execution_id for (execution_id,) in found]


async def order(ledger, url, client_order_id, seen):
    """Send an order until it is answered, as a client does; each time it is told the truth."""
    for _ in range(20):
        one = execution(client_order_id, quote_key=client_order_id.encode().ljust(16, b"."))
        try:
            outcome, stored = await record(ledger, one)
        except OutcomeUnknown:
            seen["unknown"] += 1
        except Unavailable:
            seen["unavailable"] += 1
            assert one.execution_id not in await asyncio.to_thread(recorded, url, client_order_id)
        else:
            seen[outcome] += 1
            assert [stored.execution_id] == await asyncio.to_thread(recorded, url, client_order_id)
            assert (outcome is Outcome.RECORDED) == (one.execution_id == stored.execution_id)
            return
    raise AssertionError("the order was never answered")


async def test_each_order_is_on_record_once(ledger, wire, when, postgres_url):
    """
    Sixty orders, every second COMMIT cut: each ends as one execution, paid for once, and no answer is a guess.
    """
    wire.when, seen = when, Counter()

    async def client(name):
        for n in range(10):
            await order(ledger, postgres_url, f"{name}-{n}", seen)

    await asyncio.gather(*map(client, "abcdef"))
    wire.when = None

    assert wire.cuts >= 5
    assert 60 == seen[Outcome.RECORDED] + seen[Outcome.KNOWN]
    assert [(60, 60, 60)] == ask(
        postgres_url,
        "SELECT count(*), count(DISTINCT client_order_id), (SELECT count(*) FROM quote_uses) FROM executions",
    )
    holdings = await ledger.holdings("demo", NOON)
    assert (STARTING["USDT"] - 60 * money("304.2"), 180 * 10**8) == (
        holdings.balance("USDT").total,
        holdings.position("BTC/USDT").quantity,
    )
    assert [(-60 * money("304.2"),)] == ask(
        postgres_url, "SELECT sum(amount)::bigint FROM entries JOIN journal USING (seq)"
        " WHERE entries.account = 'demo' AND asset = 'USDT' AND kind = 'execution'"
    )  # fmt: skip


async def test_where_the_server_is_back_in_time_nobody_notices(ledger, wire, when, postgres_url):
    """
    An order whose COMMIT was cut is looked for and answered as if nothing had been.
    """
    wire.when, wire.every = when, 10**9
    one = execution("a", quote_key=b"q" * 16)

    assert Outcome.RECORDED is (await record(ledger, one))[0]
    assert 1 == wire.cuts
    assert [one.execution_id] == recorded(postgres_url, "a")
    assert await quote_used(ledger, b"q" * 16)


async def test_where_the_server_stays_away_the_outcome_is_unknown(ledger, wire, when, postgres_url, monkeypatch):
    """
    If nobody can tell in time what became of an order its client is told so, and asking again later tells.
    """
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 0.5)
    await record(ledger, execution("before"))
    wire.when, wire.dead = when, True
    one, seen = execution("a"), Counter()

    if when is Cut.AFTER_ANSWER:
        assert Outcome.RECORDED is (await record(ledger, one))[0]
    else:
        with pytest.raises(OutcomeUnknown):
            await record(ledger, one)
    assert 1 == wire.cuts
    # Meanwhile what never began is refused for certain.
    with pytest.raises(Unavailable) as refused:
        await record(ledger, execution("b"))
    assert "ledger_unavailable" == refused.value.code

    wire.when, wire.dead = None, False
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 60)
    await order(ledger, postgres_url, "a", seen)
    assert ([], Outcome.KNOWN in seen) == (recorded(postgres_url, "b"), when is not Cut.BEFORE_COMMIT)


async def test_ledger_that_gives_up_says_that_it_does_not_know(ledger, wire, when, monkeypatch):
    """
    Where a COMMIT is lost from sight, the ledger never says afterwards that nothing was executed.
    """
    wire.when, wire.dead = when, True
    waiting = asyncio.ensure_future(record(ledger, execution("a")))
    await asyncio.sleep(0)
    # From here on the ledger gives up before its caller does.
    monkeypatch.setattr(sql, "ANSWER_WITHIN_S", 0.3)

    if when is Cut.AFTER_ANSWER:
        assert Outcome.RECORDED is (await waiting)[0]
    else:
        with pytest.raises(OutcomeUnknown):
            await waiting


async def test_everything_else_is_done_once_too(ledger, wire, when, postgres_url):
    """
    Keys, deposits, firm quotes and what is seen after fills survive a cut COMMIT as orders do.
    """
    wire.when, wire.every = when, 2
    key = StoredKey("k", "demo", ("quote",), bytes(32), NOON, None)
    quote = firm_quote("f")

    await ledger.add_key(key)
    await ledger.add_realism("e", b"{}")
    await hold_for(ledger, quote, [lot("f", held_until_ms=5)])

    def let_go(state):
        holdings = state.holdings.with_held("USDT", -quote.held_amount)
        over = tuple(one.ended(FirmStatus.RELEASED) for one in state.open_firm)
        return None, Changes("quiet", holdings=holdings, released=("f",), firm=over) if over else None

    await ledger.transact(claim(), let_go)
    await ledger.revoke_key("k", NOON + timedelta(seconds=1))
    await ledger.add_key(replace(key, key_id="l"))
    wire.when = None

    assert wire.cuts >= 3
    assert [("k", True), ("l", False)] == [(one.key_id, one.revoked_at is not None) for one in await ledger.keys()]
    assert {"e": b"{}"} == await ledger.realism(["e"])
    state = await look(ledger, firm_quote_id="f")
    assert (FirmStatus.RELEASED, 0) == (state.firm.status, state.holdings.balance("USDT").held)
    assert [] == list(await ledger.lots())
