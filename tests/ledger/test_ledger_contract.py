"""What every ledger promises the desk, whichever database keeps it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta, timezone
from functools import partial

import pytest
import sqlalchemy as sa

from service.errors import Unavailable
from service.ledger.protocol import Page, StoredExecution, StoredKey
from tests.ledger.ledger_cases import NOON, Outcome, execution, fill, quote_used, record, unsettled

QUOTE, OTHER_QUOTE = b"q" * 16, b"r" * 16


def stored(one):
    """What a ledger gives back of an execution."""
    return StoredExecution(
        one.execution_id,
        one.account,
        one.client_order_id,
        one.fingerprint,
        one.status,
        one.reject_code,
        one.executed_at,
        one.receipt,
    )


def key(key_id="k1", *, minutes=0, revoked_at=None, scopes=("quote", "execute")):
    return StoredKey(
        key_id, "demo", scopes, key_id.encode().ljust(32, b"."), NOON + timedelta(minutes=minutes), revoked_at
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": "partially_filled", "filled_quantity": fill().quantity, "fills": (fill(),)},
        {"status": "rejected"},
        # Bytes of any value come back as they were.
        {"fingerprint": bytes(range(32)), "receipt": bytes(range(256)), "quote_key": bytes(16)},
        {"receipt": '{"note":"…€\\u0000"}'.encode()},
        # More fills than SQLite takes variables in a row of one statement.
        {"fills": tuple(fill(price=str(n + 1)) for n in range(3_000))},
        {"fills": (fill(sequence=2**63 - 1),)},
    ],
)
async def test_recorded_execution_is_found_by_both_its_ids(ledger, changes):
    """
    What was recorded is found by the client's id and by ours, byte for byte.
    """
    one = execution(**changes)

    assert (Outcome.RECORDED, stored(one)) == await record(ledger, one)
    assert stored(one) == await ledger.find_client_order("demo", one.client_order_id)
    assert stored(one) == await ledger.find_execution("demo", one.execution_id)


async def test_empty_ledger_knows_nothing(ledger):
    """
    A new record has no orders, no quotes used, no keys.
    """
    assert await ledger.find_client_order("demo", "a") is None
    assert await ledger.find_execution("demo", "a") is None
    assert await quote_used(ledger, QUOTE) is False
    assert Page((), None) == await ledger.executions("demo")
    assert [] == list(await ledger.keys())


async def test_known_order_gives_first_execution_and_writes_nothing(ledger):
    """
    A second order under the same id gets what the first one became, whatever else it says.
    """
    first = execution("a")
    await record(ledger, first)

    again = execution("a", status="rejected", fingerprint=b"x" * 32, quote_key=QUOTE)

    assert (Outcome.KNOWN, stored(first)) == await record(ledger, again)
    assert await ledger.find_execution("demo", again.execution_id) is None
    assert (stored(first),) == (await ledger.executions("demo")).executions


async def test_quote_is_used_by_the_first_fill_only(ledger):
    """
    A second fill on the same quote is refused, and its client_order_id stays free.
    """
    await record(ledger, execution("a", quote_key=QUOTE))

    assert (Outcome.QUOTE_USED, None) == await record(ledger, execution("b", quote_key=QUOTE))
    assert await ledger.find_client_order("demo", "b") is None
    assert (await record(ledger, execution("b", quote_key=OTHER_QUOTE)))[0] is Outcome.RECORDED
    assert await quote_used(ledger, QUOTE) and await quote_used(ledger, OTHER_QUOTE)


async def test_known_order_is_looked_for_before_the_quotes_use(ledger):
    """
    A retry of an order on a quote is answered from the record, not refused because that quote is used.
    """
    first = execution("a", quote_key=QUOTE)
    await record(ledger, first)

    assert (Outcome.KNOWN, stored(first)) == await record(ledger, execution("a", quote_key=QUOTE))


async def test_rejection_does_not_use_a_quote_up(ledger):
    """
    A refused order leaves its quote to the next one, before and after the quote is used.
    """
    assert (await record(ledger, execution("a", status="rejected", quote_key=QUOTE)))[0] is Outcome.RECORDED
    assert await quote_used(ledger, QUOTE) is False
    assert (await record(ledger, execution("b", quote_key=QUOTE)))[0] is Outcome.RECORDED
    assert (await record(ledger, execution("c", status="rejected", quote_key=QUOTE)))[0] is Outcome.RECORDED


async def test_partial_fill_uses_its_quote_up(ledger):
    """
    A part of a quote is a use of the quote.
    """
    await record(ledger, execution(status="partially_filled", quote_key=QUOTE))

    assert await quote_used(ledger, QUOTE)


async def test_accounts_do_not_see_each_other(ledger):
    """
    Another account's executions are absent, and its client_order_ids are free.
    """
    mine, theirs = execution("a"), execution("a", account="other")
    await record(ledger, mine)

    assert (Outcome.RECORDED, stored(theirs)) == await record(ledger, theirs)
    assert stored(mine) == await ledger.find_client_order("demo", "a")
    assert await ledger.find_execution("demo", theirs.execution_id) is None
    assert (stored(mine),) == (await ledger.executions("demo")).executions
    assert (stored(theirs),) == (await ledger.executions("other")).executions
    assert await ledger.find_client_order("Demo", "a") is None


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "gfedcba"),
        ({"symbol": "ETH/USDT"}, "gdb"),
        ({"symbol": "eth/usdt"}, ""),
        ({"status": "rejected"}, "fd"),
        ({"status": "rejected", "symbol": "ETH/USDT"}, "d"),
        ({"since": NOON + timedelta(seconds=5)}, "gf"),
        ({"since": NOON + timedelta(seconds=2), "status": "filled", "symbol": "ETH/USDT", "limit": 1}, "g"),
        ({"since": NOON + timedelta(days=1)}, ""),
        ({"limit": 7}, "gfedcba"),
        ({"limit": 500}, "gfedcba"),
    ],
)
async def test_listing_is_newest_first_and_filtered(ledger, filters, expected):
    """
    An account's executions are listed from the newest, and only those that pass every filter.
    """
    for n, name in enumerate("abcdefg"):
        await record(
            ledger,
            execution(
                name,
                symbol="ETH/USDT" if name in "bdg" else "BTC/USDT",
                status="rejected" if name in "df" else "filled",
                executed_at=NOON + timedelta(seconds=n),
            ),
        )
        await record(ledger, execution(name, account="other"))

    page = await ledger.executions("demo", **filters)

    assert expected == "".join(one.client_order_id for one in page.executions)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
@pytest.mark.parametrize("symbol", [None, "BTC/USDT"])
async def test_pages_are_the_listing_cut_into_pieces(ledger, limit, symbol):
    """
    Page after page gives each execution once, and what arrives meanwhile does not shift them.
    """
    for name in "abcdefg":
        await record(ledger, execution(name))
        await record(ledger, execution(name, account="other", symbol="ETH/USDT"))
    pages, after = [], None
    while not pages or after is not None:
        page = await ledger.executions("demo", symbol=symbol, after=after, limit=limit)
        pages.append("".join(one.client_order_id for one in page.executions))
        after = page.next_after
        await record(ledger, execution())

    assert ["gfedcba"[start : start + limit] for start in range(0, 7, limit)] == pages


@pytest.mark.parametrize(
    ("since_us", "zone_hours", "expected"),
    [
        (122_000, 0, "dcb"),
        (123_000, 0, "dcb"),
        (123_000, 2, "dcb"),
        (123_000, -11, "dcb"),
        # A part of a millisecond later is later.
        (123_001, 0, "dc"),
        (123_999, 0, "dc"),
        (124_000, 0, "dc"),
        (124_456, 0, "d"),
        (125_000, 0, "d"),
        (125_001, 0, ""),
    ],
)
async def test_since_is_exact(ledger, since_us, zone_hours, expected):
    """
    ``since`` takes what was executed at that moment or after it, in whatever time zone it is given.
    """
    for name, microsecond in (("a", 0), ("b", 123_000), ("c", 124_000), ("d", 125_000)):
        await record(ledger, execution(name, executed_at=NOON.replace(microsecond=microsecond)))

    since = NOON.replace(microsecond=since_us).astimezone(timezone(timedelta(hours=zone_hours)))

    found = (await ledger.executions("demo", since=since)).executions
    assert expected == "".join(one.client_order_id for one in found)


@pytest.mark.parametrize("year", [1, 999, 2025])
async def test_since_long_ago_takes_everything(ledger, year):
    """
    A year with fewer than four digits is before today, too.
    """
    one = execution()
    await record(ledger, one)

    assert (stored(one),) == (await ledger.executions("demo", since=NOON.replace(year=year))).executions


async def test_concurrent_records_are_all_there_after_reopening(open_ledger):
    """
    What was acknowledged while hundreds were waiting is on record when the ledger is opened again.
    """
    ledger = open_ledger()
    orders = [execution(quote_key=n.to_bytes(16, "big")) for n in range(600)]
    outcomes = await asyncio.gather(*map(partial(record, ledger), orders))
    await ledger.close()
    ledger = open_ledger()

    assert [(Outcome.RECORDED, stored(one)) for one in orders] == outcomes
    assert list(map(stored, orders)) == [await ledger.find_client_order("demo", one.client_order_id) for one in orders]
    assert all([await quote_used(ledger, one.quote_key) for one in orders])


async def test_close_finishes_what_was_handed_over(open_ledger):
    """
    Orders that wait when the ledger is closed are recorded and answered.
    """
    ledger = open_ledger()
    waiting = [asyncio.ensure_future(record(ledger, execution())) for _ in range(50)]
    await asyncio.sleep(0)
    await ledger.close()

    assert {Outcome.RECORDED} == {outcome for outcome, _ in await asyncio.gather(*waiting)}
    assert 50 == len((await open_ledger().executions("demo")).executions)


async def test_one_id_sent_many_times_at_once_is_one_execution(ledger):
    """
    Of concurrent orders with one client_order_id one is recorded, and all get that one.
    """
    outcomes = await asyncio.gather(*(record(ledger, execution("a")) for _ in range(60)))

    assert {Outcome.RECORDED: 1, Outcome.KNOWN: 59} == Counter(outcome for outcome, _ in outcomes)
    assert 1 == len({one for _, one in outcomes})
    assert 1 == len((await ledger.executions("demo")).executions)


async def test_one_quote_used_many_times_at_once_is_used_once(ledger):
    """
    Of concurrent fills on one quote, of whatever account, one is recorded.
    """
    outcomes = await asyncio.gather(
        *(record(ledger, execution(account=f"account-{n % 3}", quote_key=QUOTE)) for n in range(60))
    )

    assert {Outcome.RECORDED: 1, Outcome.QUOTE_USED: 59} == Counter(outcome for outcome, _ in outcomes)


async def test_failing_operation_fails_alone(ledger):
    """
    An order that the database refuses does not take those that wait with it along, nor leave half of itself.
    """
    good = [execution() for _ in range(20)]
    broken = execution("broken", quote_key=QUOTE, fills=(fill(), fill(book_age_ms=None)))
    results = await asyncio.gather(
        *(record(ledger, one, unsettled) for one in [*good[:10], broken, *good[10:]]), return_exceptions=True
    )

    assert isinstance(results.pop(10), Exception)
    assert [(Outcome.RECORDED, stored(one)) for one in good] == results
    assert await ledger.find_client_order("demo", "broken") is None
    assert await quote_used(ledger, QUOTE) is False


async def test_caller_who_leaves_does_not_take_the_order_along(ledger):
    """
    A client that hangs up has its order recorded all the same, and finds it when it asks again.
    """
    leaving = asyncio.ensure_future(record(ledger, execution("a")))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    assert (await record(ledger, execution("a")))[0] is Outcome.KNOWN


async def test_ledger_keeps_its_id(open_ledger):
    """
    A record has a name for life.
    """
    ledger = open_ledger()
    name = ledger.ledger_id
    await ledger.close()

    assert name == open_ledger().ledger_id
    assert 32 == len(name) and set(name) <= set("0123456789abcdef")


async def test_keys_come_back_oldest_first(open_ledger):
    """
    Keys are kept whole, with the microsecond they were made at, and outlive the process.
    """
    ledger = open_ledger()
    made = [
        key("z", scopes=("admin",)),
        StoredKey("m", "demo", ("quote",), bytes(32), NOON + timedelta(microseconds=1), None),
        StoredKey("n", "demo", ("quote",), b"\xff" * 32, NOON + timedelta(microseconds=1_000), None),
        key("a", minutes=1, revoked_at=NOON + timedelta(minutes=2)),
    ]
    for one in (made[2], made[0], made[3], made[1]):
        await ledger.add_key(one)
    await ledger.close()

    assert made == list(await open_ledger().keys())


async def test_revoking_again_changes_nothing(ledger):
    """
    A key keeps the moment it was first revoked at; of an unknown id we are told.
    """
    await ledger.add_key(key("k1"))
    await ledger.add_key(key("k2"))
    first = NOON + timedelta(hours=1, microseconds=5)

    assert await ledger.revoke_key("k1", first) is True
    assert await ledger.revoke_key("k1", first + timedelta(hours=1)) is True
    assert await ledger.revoke_key("k3", first) is False
    assert [first, None] == [one.revoked_at for one in await ledger.keys()]


async def test_key_id_is_taken_once(ledger):
    """
    No key replaces another of the same id.
    """
    await ledger.add_key(key("k1"))

    with pytest.raises(Exception, match=r"UNIQUE|unique|duplicate"):
        await ledger.add_key(key("k1", minutes=1))
    assert [key("k1")] == list(await ledger.keys())


TERMS = {
    "expires_at": NOON + timedelta(days=1),
    "addresses": ("10.0.0.0/8", "2001:db8::/32"),
    "label": "a job",
    "quote_per_s": 0,
    "execute_per_s": 7,
    "last_used_at": NOON + timedelta(microseconds=1),
}


async def test_key_comes_back_with_its_terms(ledger):
    """
    What narrows a key is on record with it.
    """
    narrowed = replace(key(), **TERMS)
    await ledger.add_key(narrowed)

    assert [narrowed] == list(await ledger.keys())


@pytest.mark.parametrize(
    ("expires_at", "after", "expected"),
    [
        (None, timedelta(hours=1), timedelta(hours=1)),
        (timedelta(hours=2), timedelta(hours=1), timedelta(hours=1)),
        # Never later than it would have.
        (timedelta(minutes=5), timedelta(hours=1), timedelta(minutes=5)),
    ],
)
async def test_key_takes_anothers_place(ledger, expires_at, after, expected):
    """
    The new key is on record, and the old one ends, both at once.
    """
    old = replace(key("k1"), expires_at=None if expires_at is None else NOON + expires_at)
    await ledger.add_key(old)

    assert await ledger.replace_key("k1", key("k2", minutes=1), NOON + after) is True

    assert [replace(old, expires_at=NOON + expected), key("k2", minutes=1)] == list(await ledger.keys())


async def test_key_that_is_revoked_or_unknown_is_not_replaced(ledger):
    """
    A key that was revoked while another was made in its place leaves nothing behind that works.
    """
    await ledger.add_key(key("k1", revoked_at=NOON))
    await ledger.add_key(key("k3", minutes=1))

    assert await ledger.replace_key("k1", key("k2"), NOON) is False
    assert await ledger.replace_key("nobody", key("k2"), NOON) is False
    with pytest.raises(sa.exc.IntegrityError):
        await ledger.replace_key("k3", key("k1"), NOON)
    assert [key("k1", revoked_at=NOON), key("k3", minutes=1)] == list(await ledger.keys())


async def test_latest_use_of_a_key_is_kept(ledger):
    """
    Whichever process writes last, the latest use is on record; of an unknown key nothing is.
    """
    for one in (key("k1"), key("k2", minutes=1, revoked_at=NOON), key("k3", minutes=2)):
        await ledger.add_key(one)
    later = NOON + timedelta(microseconds=1)

    await ledger.note_key_uses({"k1": later, "k2": NOON, "nobody": NOON})
    await ledger.note_key_uses({"k1": NOON, "k2": later})
    await ledger.note_key_uses({})

    assert [later, later, None] == [one.last_used_at for one in await ledger.keys()]


class Watch:
    """What a ledger tells of its transactions."""

    def __init__(self):
        self.sizes, self.failures, self.executions = [], 0, []

    def committed(self, seconds, operations):
        assert seconds > 0
        self.sizes.append(operations)

    def commit_failed(self):
        self.failures += 1

    def recorded(self, execution):
        self.executions.append(execution.client_order_id)


async def test_transactions_are_told_to_whoever_watches(ledger):
    """
    How many operations each shared, and every execution once: neither one that was known, nor one that was refused.
    """
    watch = Watch()
    ledger.watch(watch)
    ones = [execution(f"{n}") for n in range(5)]
    await asyncio.gather(*(record(ledger, one) for one in ones))
    assert Outcome.KNOWN == (await record(ledger, ones[0]))[0]

    assert (6, 0) == (sum(watch.sizes), watch.failures)
    assert ["0", "1", "2", "3", "4"] == watch.executions


async def test_transaction_that_failed_is_told_and_the_record_is_down_until_one_succeeds(ledger):
    """
    While commits fail the record is down although it can be read; a probe that is committed brings it back.
    """
    watch = Watch()
    ledger.watch(watch)

    def full(connection):
        raise sa.exc.OperationalError("INSERT", {}, OSError("no space left"))

    with pytest.raises(Unavailable):
        await ledger._write(full)
    assert [] == await ledger.keys()
    assert (False, 1) == (ledger.up, watch.failures)
    await ledger.probe()

    assert (True, 1, [1]) == (ledger.up, watch.failures, watch.sizes)
