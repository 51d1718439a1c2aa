"""What every ledger promises a decision: it sees what went before, is written whole or not at all, in a chain."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from service.desk.accounts import Balance, Entry, Holdings, Position, deposit
from service.errors import RequestError, Unavailable
from service.ledger import schema, sql
from service.ledger.journal import BEGINNING, chained
from service.ledger.protocol import Changes, EntryPage
from tests.ledger.ledger_cases import (
    NOON,
    STARTING,
    Outcome,
    claim,
    execution,
    firm_quote,
    hold_for,
    in_one_batch,
    look,
    money,
    reaches,
    record,
    ref,
    stuck_commit,
)


async def pay_in(ledger, amount, account="demo", kind="deposit", now=NOON):
    """Deposit USDT; gives the balance before."""

    def decide(state):
        entries = deposit(account, {"USDT": amount})
        return state.holdings.balance("USDT").total, Changes(
            kind, None, state.holdings.with_entries(account, entries), entries
        )

    return await ledger.transact(claim(account, now=now), decide)


async def fails(ledger, error):
    """Have a decision made that raises."""

    def decide(state):
        raise error

    await ledger.transact(claim(), decide)


def rows(ledger, table, *order):
    """All rows of a table, past the ledger's own readers."""
    with ledger._read_engine.connect() as connection:
        return connection.execute(sa.select(table).order_by(*order)).all()


def commits_of(ledger):
    """Count commits from now on; gives a list that grows."""
    commits = []
    sa.event.listen(ledger._engine, "commit", commits.append)
    return commits


# One after the other


async def test_each_decision_sees_what_those_before_it_left(ledger):
    """
    Of deposits that share a commit each begins with the balance that the one before it left.
    """
    commits = commits_of(ledger)

    befores = await in_one_batch(ledger, *(pay_in(ledger, money(1)) for _ in range(20)))

    assert [STARTING["USDT"] + n * money(1) for n in range(20)] == befores
    assert 2 == len(commits)
    assert STARTING["USDT"] + money(20) == (await ledger.holdings("demo", NOON)).balance("USDT").total


async def test_order_sees_orders_quotes_and_holds_of_its_own_commit(ledger):
    """
    Within one commit an order id is known, a quote used and a firm quote open as soon as that is decided.
    """
    quote, key = firm_quote("f1"), b"q" * 16

    *_, state, outcome = await in_one_batch(
        ledger,
        record(ledger, execution("a", quote_key=key)),
        hold_for(ledger, quote),
        look(ledger, client_order_id="a", quote_key=key, firm_quote_id="f1"),
        record(ledger, execution("b", quote_key=key)),
    )

    assert ("a", True, True, quote, (quote,)) == (
        state.known.client_order_id, state.quote_used, state.opened, state.firm, state.open_firm
    )  # fmt: skip
    assert quote.held_amount == state.holdings.balance("USDT").held
    assert (Outcome.QUOTE_USED, None) == outcome


@pytest.mark.parametrize("error", [RequestError("risk_limit", "no"), ZeroDivisionError("a bug")])
async def test_decision_that_raises_harms_nobody_else(ledger, error, logged):
    """
    An order that cannot be decided is refused alone, and nothing of it is written.
    """
    before = await in_one_batch(ledger, pay_in(ledger, 1), fails(ledger, error), pay_in(ledger, 2))

    assert [STARTING["USDT"], error, STARTING["USDT"] + 1] == before
    kinds = ["account", "execution", "account", "deposit", "deposit"]
    assert kinds == [row.kind for row in rows(ledger, schema.journal, schema.journal.c.seq)]


async def test_what_is_not_to_be_written_is_not(ledger):
    """
    A decision without changes leaves no trace: no account, no row of the journal.
    """
    await look(ledger)

    assert await ledger.holdings("demo", NOON) is None
    assert [] == rows(ledger, schema.journal)
    assert (0, BEGINNING) == ledger.head


async def test_what_a_decision_answers_is_what_its_caller_gets(ledger):
    """
    Callers who share a commit get each their own answer.
    """
    assert list(range(300)) == await asyncio.gather(
        *(ledger.transact(claim(f"account-{n % 7}"), lambda state, n=n: (n, Changes("quiet"))) for n in range(300))
    )


# Accounts

FIRST = {
    "fill": lambda ledger: record(ledger, execution(fills=(), filled_quantity=0)),
    "rejection": lambda ledger: record(ledger, execution(status="rejected")),
    "opening": lambda ledger: ledger.open_account("demo", NOON),
    "deposit": lambda ledger: pay_in(ledger, 0),
    "firm quote": lambda ledger: hold_for(ledger, firm_quote(ref(), held_amount=0)),
}


@pytest.mark.parametrize("first", FIRST)
async def test_account_is_opened_by_what_is_written_first(ledger, first):
    """
    Whatever an account begins with, it has its starting balances, once, and they are on record as entries.
    """
    await in_one_batch(ledger, *(FIRST[kind](ledger) for kind in (first, *FIRST)))
    await FIRST["deposit"](ledger)

    holdings = await ledger.holdings("demo", NOON)
    assert {asset: Balance(amount) for asset, amount in STARTING.items()} == holdings.balances
    page = await ledger.entries("demo")
    assert sorted(STARTING.items()) == sorted((entry.asset, entry.amount) for entry in page.entries)
    assert {"account"} == {entry.kind for entry in page.entries}


async def test_opening_an_account_tells_whether_it_was_new(ledger):
    """
    An account is opened once, however many ask for it at once.
    """
    opened = await asyncio.gather(*(ledger.open_account(name, NOON) for name in ("a", "b", "a", "a", "b")))

    assert {True: 2, False: 3} == Counter(opened)
    assert not await ledger.open_account("a", NOON)


async def test_holdings_are_read_as_they_were_left(ledger):
    """
    Balances, holds, positions and the day's turnover come back to the last unit; another account's are its own.
    """
    left = Holdings(
        {"USDT": Balance(2**63 - 1, 5), "BTC": Balance(-(2**63) + 1, 0)},
        {"BTC/USDT": Position(-(2**62), 2**62, -3), "ETH/USDT": Position(1, 2, 3)},
        {"USDT": 2**63 - 1},
    )
    await ledger.transact(claim(), lambda state: (None, Changes("deposit", holdings=left)))
    await ledger.open_account("other", NOON)

    assert left == await ledger.holdings("demo", NOON)
    assert left == (await look(ledger)).holdings
    assert {} == (await ledger.holdings("other", NOON)).positions
    # Tomorrow nothing is turned over yet, and today's is not forgotten.
    tomorrow = NOON + timedelta(days=1)
    assert (
        {} == (await ledger.holdings("demo", tomorrow)).turnover == (await look(ledger, now=tomorrow)).holdings.turnover
    )
    assert {"USDT": 2**63 - 1} == (await ledger.holdings("demo", NOON.replace(hour=0))).turnover


async def test_days_that_share_a_commit_are_counted_apart(ledger):
    """
    Orders a moment before and after midnight in UTC share a commit, not a day's turnover.
    """
    midnight = NOON.replace(hour=0) + timedelta(days=1)

    def trade(now):
        def decide(state):
            turnover = state.holdings.turnover.get("USDT", 0) + 1
            return turnover, Changes("deposit", holdings=Holdings(state.holdings.balances, {}, {"USDT": turnover}))

        return ledger.transact(claim(now=now), decide)

    before = midnight - timedelta(microseconds=1)
    assert [1, 1, 2, 2] == await in_one_batch(ledger, trade(before), trade(midnight), trade(before), trade(midnight))
    assert {"USDT": 2} == (await ledger.holdings("demo", before)).turnover
    assert 3 == await trade(midnight)


async def test_positions_that_are_over_are_flat(ledger):
    """
    After a reset an account has no position, and one that is traded again begins anew.
    """
    await record(ledger, execution())
    assert (await ledger.holdings("demo", NOON)).positions["BTC/USDT"].quantity == 3 * 10**8

    await ledger.transact(claim(), lambda state: (None, Changes("reset", holdings=Holdings(state.holdings.balances))))
    assert Position() == (await ledger.holdings("demo", NOON)).position("BTC/USDT")

    await record(ledger, execution())
    assert (await ledger.holdings("demo", NOON)).positions["BTC/USDT"].quantity == 3 * 10**8


# Entries


async def test_entries_of_a_fill_are_on_record_with_it(ledger):
    """
    The client's two lines of a fill say what it was paid and with what, and refer to the execution.
    """
    one = execution(executed_at=NOON)
    await record(ledger, one)

    usdt, btc = (await ledger.entries("demo")).entries[:2]
    assert [("USDT", money("-304.2")), ("BTC", 3 * 10**8)] == [(line.asset, line.amount) for line in (usdt, btc)]
    assert {("execution", one.execution_id, NOON)} == {(line.kind, line.ref, line.at) for line in (usdt, btc)}
    # Everybody's sum to zero.
    sums = Counter()
    for row in rows(ledger, schema.entries):
        sums[row.asset] += row.amount
    assert {"USDT": 0, "BTC": 0} == sums


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize(("asset", "expected"), [(None, "87654321"), ("ETH", "8642"), ("BTC", "7531"), ("XRP", "")])
async def test_pages_of_entries_are_the_list_cut_into_pieces(ledger, asset, expected, limit):
    """
    Page after page gives each line once, newest first, and what is written meanwhile does not shift them.
    """
    await ledger.open_account("demo", NOON)
    start = (await ledger.entries("demo", limit=1)).entries[0].number

    async def write(first, second):
        entries = (
            Entry("demo", "BTC", first),
            Entry("desk:deposits", "BTC", -first),
            Entry("demo", "ETH", second),
            Entry("desk:deposits", "ETH", -second),
        )
        await ledger.transact(claim(), lambda state: (None, Changes("deposit", entries=entries)))

    for n in range(1, 9, 2):
        await write(n, n + 1)
        await pay_in(ledger, 1, account="other")
    pages, after = [], None
    while not pages or after is not None:
        assert len(pages) < 20, "the pages never end"
        page = await ledger.entries("demo", asset=asset, after=after, limit=limit)
        pages.append("".join(str(line.amount) for line in page.entries if line.number > start))
        after = page.next_after
        await write(9, 9)

    assert [expected[at : at + limit] for at in range(0, len(expected), limit)] == [page for page in pages if page]


async def test_unknown_account_has_no_entries(ledger):
    """
    An account that does not exist has no lines and no balances.
    """
    assert EntryPage((), None) == await ledger.entries("demo")
    assert await ledger.holdings("demo", NOON) is None


# The chain


async def test_journal_is_a_chain_over_all_that_is_written(open_ledger):
    """
    Each row of the journal hashes what was written with it and the row before, over restarts too.
    """
    ledger = open_ledger()
    await record(ledger, execution("a", quote_key=b"q" * 16, requested_quantity=None, requested_total=5))
    await in_one_batch(
        ledger, record(ledger, execution(status="rejected")), pay_in(ledger, 5), hold_for(ledger, firm_quote("f"))
    )
    await ledger.transact(claim(), lambda state: (None, Changes("quiet")))
    await ledger.close()
    ledger = open_ledger()
    await pay_in(ledger, 6, "new")

    executions = {row.seq: list(row) for row in rows(ledger, schema.executions)}
    head, kinds = BEGINNING, []
    for seq, name, kind, account, at, found, *request in rows(ledger, schema.journal, schema.journal.c.seq):
        kinds.append(kind)
        head = chained(
            head,
            [seq, name, kind, account, at, *request],
            execution=executions.pop(seq, None),
            fills=[row for row in rows(ledger, schema.fills, schema.fills.c.n) if row.execution_seq == seq],
            entries=[row[1:] for row in rows(ledger, schema.entries, schema.entries.c.n) if row.seq == seq],
        )
        assert head == bytes(found), seq

    assert ["account", "execution"] * 2 + ["execution", "deposit", "firm_quote", "account", "deposit"] == kinds
    assert {} == executions
    assert (len(kinds), head) == ledger.head
    (stamp,) = rows(ledger, schema.ledger)
    assert (0, len(kinds), head) == (stamp.journal_start, stamp.journal_seq, bytes(stamp.journal_hash))


# Coming and going


async def test_closed_ledger_does_nothing_more(ledger):
    """
    After the close whatever is asked is refused as unavailable.
    """
    await ledger.close()

    for late in (
        record(ledger, execution()), ledger.open_account("demo", NOON), ledger.find_client_order("demo", "a"),
        ledger.find_execution("demo", "a"), ledger.executions("demo"), ledger.holdings("demo", NOON),
        ledger.entries("demo"), ledger.firm_quote("demo", "f"), ledger.open_firm_quotes(), ledger.orphaned(),
        ledger.lots(), ledger.add_realism("e", b"{}"), ledger.realism(["e"]), ledger.keys(),
        ledger.revoke_key("k", NOON),
    ):  # fmt: skip
        with pytest.raises(Unavailable, match="ledger_unavailable"):
            await late


async def test_full_queue_is_overloaded(ledger, monkeypatch):
    """
    When too many orders wait the next is turned away at once; those that wait are recorded.
    """
    monkeypatch.setattr(sql, "QUEUE_MAX", 3)
    with stuck_commit(ledger) as inside:
        waiting = [asyncio.ensure_future(record(ledger, execution()))]
        await reaches(inside.is_set)
        waiting += [asyncio.ensure_future(record(ledger, execution())) for _ in range(3)]
        await reaches(lambda: len(ledger._waiting) == 3)
        with pytest.raises(Unavailable) as refused:
            await record(ledger, execution("late"))

    assert "overloaded" == refused.value.code
    assert {Outcome.RECORDED} == {outcome for outcome, _ in await asyncio.gather(*waiting)}
    assert await ledger.find_client_order("demo", "late") is None


async def test_callers_who_leave_do_not_break_the_rest(ledger):
    """
    Clients that hang up while their orders wait have them recorded, and so has everybody else.
    """
    with stuck_commit(ledger) as inside:
        orders = [asyncio.ensure_future(record(ledger, execution("0")))]
        await reaches(inside.is_set)
        orders += [asyncio.ensure_future(record(ledger, execution(f"{n}"))) for n in range(1, 12)]
        await reaches(lambda: len(ledger._waiting) == 11)
        for leaving in orders[::3]:
            leaving.cancel()
    results = await asyncio.gather(*orders, return_exceptions=True)

    assert [n % 3 == 0 for n in range(12)] == [isinstance(result, asyncio.CancelledError) for result in results]
    assert {Outcome.KNOWN} == {(await record(ledger, execution(f"{n}")))[0] for n in range(12)}
