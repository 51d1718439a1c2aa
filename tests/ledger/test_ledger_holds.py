"""What every ledger promises firm quotes, taken liquidity and what is seen after fills."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from exchanges.book import Side
from service.desk.firm import FirmStatus
from service.desk.orders import QuoteRequest
from service.ledger.protocol import Changes
from service.market.side import Hop
from service.pricing.bounds import Ask
from tests.ledger.ledger_cases import (
    NOON,
    claim,
    execution,
    fill,
    firm_quote,
    hold_for,
    in_one_batch,
    look,
    lot,
    record,
    settled,
)

HOP = Hop("USDT/USD", 10**24 + 1, 10**25 + 3, "bitstamp", 999_900_000_000_000_001, (10**30 + 7, 10**31 + 9))


async def end(ledger, quote, status=FirmStatus.RELEASED, execution_id=None):
    """Let a firm quote go."""

    def decide(state):
        holdings = state.holdings.with_held(quote.held_asset, -quote.held_amount)
        ended = (quote.ended(status, execution_id),)
        return None, Changes("quiet", holdings=holdings, released=(quote.quote_id,), firm=ended)

    await ledger.transact(claim(quote.account, firm_quote_id=quote.quote_id), decide)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Filled at converted prices, whose numbers are longer than any integer of a database.
        {"fills": (fill(price="123456789.000000000000000001", quantity="999999999999", hop=HOP), fill(sequence=None))},
        {"request": QuoteRequest("ETH/USDC", Ask(total=5, limit_price=10**30), (Side.BUY,), ("kraken",), ())},
        {"request": QuoteRequest("BTC/USDT", Ask(1, None, Decimal("1.50"), 3), (Side.BUY,), None, ("a", "b"))},
        {
            "side": Side.SELL, "held_asset": "BTC",
            "request": QuoteRequest("BTC/USDT", Ask(slippage_bps_max=Decimal("0.000000000001")), (Side.SELL,)),
        },
        {"quantity": 10**30, "subtotal": 2**63 - 1, "fees": 1, "markup": 2, "total": 10**19, "held_amount": 2**62},
        {"created_at": NOON + timedelta(microseconds=123_456), "expires_at": NOON + timedelta(days=900)},
        {"message": bytes(range(256)), "fills": ()},
    ],
)  # fmt: skip
async def test_firm_quote_comes_back_as_it_was_given(open_ledger, changes):
    """
    A firm quote is read back to its last field, by its account, by a decision, and after a restart.
    """
    quote = firm_quote("f", **changes)
    ledger = open_ledger()
    await hold_for(ledger, quote)
    assert quote == (await look(ledger, firm_quote_id="f")).firm
    await ledger.close()
    ledger = open_ledger()

    assert quote == await ledger.firm_quote("demo", "f")
    assert [quote] == list(await ledger.open_firm_quotes())
    assert quote.held_amount == (await ledger.holdings("demo", NOON)).balance(quote.held_asset).held
    assert repr(quote) == repr(await ledger.firm_quote("demo", "f"))


@pytest.mark.parametrize("status", [FirmStatus.USED, FirmStatus.EXPIRED, FirmStatus.RELEASED, FirmStatus.VOID])
async def test_firm_quote_that_is_over_stays_on_record(ledger, status):
    """
    What became of a firm quote is told for ever, and it holds nothing any more.
    """
    quote, execution_id = firm_quote("f"), "e" if status is FirmStatus.USED else None
    await hold_for(ledger, quote, [lot("f", held_until_ms=5)])
    await end(ledger, quote, status, execution_id)

    over = quote.ended(status, execution_id)
    assert over == await ledger.firm_quote("demo", "f")
    state = await look(ledger, firm_quote_id="f")
    assert (over, (), 0) == (state.firm, state.open_firm, state.holdings.balance("USDT").held)
    assert [] == list(await ledger.open_firm_quotes()) == list(await ledger.lots())


async def test_firm_quotes_are_their_accounts_own(ledger):
    """
    Another account's firm quote looks like one that was never given.
    """
    await hold_for(ledger, firm_quote("f"))

    assert await ledger.firm_quote("other", "f") is None
    state = await look(ledger, "other", firm_quote_id="f")
    assert (None, ()) == (state.firm, state.open_firm)


async def test_open_firm_quotes_are_shown_oldest_first(ledger):
    """
    A decision sees the account's open quotes in the order they were given, those whose time is over too.
    """
    given = [
        firm_quote(name, created_at=NOON + timedelta(seconds=n), expires_at=NOON - timedelta(seconds=n))
        for n, name in enumerate("dbeac")
    ]
    for quote in given:
        await hold_for(ledger, quote)
    await end(ledger, given[2])

    assert [given[0], given[1], given[3], given[4]] == list((await look(ledger)).open_firm)


async def test_firm_quote_let_go_in_the_commit_that_gave_it_holds_nothing(ledger):
    """
    An account that is reset in the moment a firm quote is given is left without a hold.
    """
    quote = firm_quote("f")
    await in_one_batch(ledger, hold_for(ledger, quote, [lot("f", held_until_ms=5)]), end(ledger, quote))

    assert [] == list(await ledger.lots())
    assert FirmStatus.RELEASED is (await ledger.firm_quote("demo", "f")).status


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"left": "0.000000000000000001", "price": "123456789012.000000000000000001"},
        {"left": "999999999999", "step": 1, "shown": 10**30},
        {"held_until_ms": 2**52, "since_ms": 0},
        {"symbol": "BTC/USD", "account": "other"},
    ],
)
async def test_lots_come_back_as_they_were_taken(open_ledger, changes):
    """
    What was taken of a level is charged after a restart to the last unit.
    """
    taken = [lot("e", 0, **changes), lot("e", 1, price="102")]
    ledger = open_ledger()
    await record(ledger, execution(execution_id="e"), lambda one, state: settled(one, state, taken))
    await ledger.close()

    assert taken == sorted(await open_ledger().lots(), key=lambda lot: lot.n)


async def test_lots_shrink_and_end(ledger):
    """
    What is left of a lot is written down again and again, until nothing is; what is over is not charged again.
    """
    taken = [lot("e", n, "8") for n in range(3)]
    await record(ledger, execution(execution_id="e"), lambda one, state: settled(one, state, taken))
    halved = taken[0]._replace(left=taken[0].left // 2, since_ms=taken[0].since_ms + 30_000, shown=5)
    over = taken[1]._replace(left=0)

    await ledger.keep_lots([halved, over])
    await ledger.keep_lots([])
    assert [halved, taken[2]] == sorted(await ledger.lots(), key=lambda lot: lot.n)

    await ledger.keep_lots([taken[1]])
    assert [halved, taken[2]] == sorted(await ledger.lots(), key=lambda lot: lot.n)
    await ledger.keep_lots([lot("unknown")])
    assert 2 == len(await ledger.lots())


async def test_release_ends_what_a_quote_holds_and_nothing_else(ledger):
    """
    Where one firm quote is let go, the liquidity of the others stays held, and fills stay charged.
    """
    first, second = firm_quote("f1"), firm_quote("f2")
    await hold_for(ledger, first, [lot("f1", n, held_until_ms=5) for n in range(2)])
    await hold_for(ledger, second, [lot("f2", held_until_ms=5)])
    await record(ledger, execution(execution_id="e"), lambda one, state: settled(one, state, [lot("e")]))

    await end(ledger, first)

    assert {"f2", "e"} == {one.ref for one in await ledger.lots()}


async def test_what_is_seen_after_fills_is_kept(open_ledger):
    """
    What a fill looked like a moment later is kept beside it, byte for byte; seen twice it is kept as first seen.
    """
    ledger = open_ledger()
    await ledger.add_realism("a", bytes(range(256)))
    await ledger.add_realism("b", b"{}")
    await ledger.add_realism("b", b"[]")
    await ledger.close()
    ledger = open_ledger()

    assert {"a": bytes(range(256)), "b": b"{}"} == await ledger.realism(["a", "b", "c"])
    assert {} == await ledger.realism([])
