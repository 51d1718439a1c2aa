"""Firm quotes: given with funds and liquidity held, and honoured until they expire."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import orjson
import pytest

from service.accounting import money_text, price_text, rate
from service.desk.accounts import AMOUNT_MAX, RiskLimits
from service.desk.firm import FirmStatus
from service.desk.orders import QuoteOrder
from tests.service.desk.desk_room import (
    BUY,
    COINBASE,
    KRAKEN,
    PLENTY,
    SELL,
    STALE_AFTER_MS,
    Room,
    market,
    order,
    outcome,
    refused,
)
from tests.service.shown import money

# One percent against a buyer of the first.
AGAINST = """
    .   103.02   1
    .   102.01   1
    1    99.99   .
    """


# Given


async def test_a_firm_quote_holds_funds_and_liquidity(room):
    """
    What a buyer will pay, or a seller will give, is held in the account; what will be taken is held in the book.
    """
    bought, sold = await room.give(BUY, "1.5"), await room.give(SELL, "2")

    assert ("152.152", "USDT", "2", "BTC") == (
        money_text(bought.held_amount), bought.held_asset, money_text(sold.held_amount), sold.held_asset,
    )  # fmt: skip
    assert {"USDT": ("1000000", "152.152"), "BTC": ("1000", "2")} == await room.balances()
    assert ("0 + 1.5", "0 + 2") == (room.taken(BUY), room.taken(SELL))
    body = orjson.loads(bought.message)
    assert ("firm", "open", {"USDT": "152.152"}, 3_000) == tuple(
        body[name] for name in ("kind", "status", "held", "expires_in_ms")
    )
    assert bought == await room.firm.find("alice", bought.quote_id)


async def test_what_is_held_in_the_book_is_nobody_elses(room):
    """
    The next one is quoted and filled from what is left, and told how much is held.
    """
    await room.give(BUY, "1.5")
    priced = room.quote("1", account="bob").sides[BUY]
    filled = orjson.loads((await room.execute(market(BUY, "1"), account="bob")).receipt)

    assert money_text(priced.total) == filled["total"]
    assert [("kraken", "102", "0.5"), ("coinbase", "103", "0.5")] == [
        (fill["venue"], fill["price"], fill["quantity"]) for fill in filled["fills"]
    ]
    assert "1.5" == price_text(priced.book.side(BUY).held)
    assert "insufficient_liquidity" == (await room.execute(market(BUY, "2"), "b", account="bob")).reject_code


async def test_what_is_held_in_the_account_cannot_be_spent(clock, ledger):
    """
    Held funds are there and not available: neither for an order nor for another firm quote.
    """
    room = Room(clock, ledger)
    await room.bank.open("alice")
    await room.bank.deposit("alice", {"USDT": -PLENTY["USDT"] + money("250")})
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    held = await room.give(BUY, "1.5")

    assert "insufficient_balance" == (await room.execute(market(BUY, "1"), "a")).reject_code
    assert "insufficient_balance" == (await refused(room.give(BUY, "1"))).code
    assert {"USDT": ("250", "152.152"), "BTC": ("1000", "0")} == await room.balances()
    # What is sold brings funds that are available.
    assert "filled" == (await room.execute(market(SELL, "1"), "b")).status
    assert "filled" == (await room.execute(market(BUY, "1"), "c")).status
    assert "filled" == await outcome(room, held, "d")


async def test_a_quote_that_cannot_be_paid_is_not_given(clock, ledger):
    """
    Without the funds there is no firm quote, and nothing is held.
    """
    room = Room(clock, ledger)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    await room.bank.open("alice")
    await room.bank.deposit("alice", {"USDT": -PLENTY["USDT"] + money("101.1"), "BTC": -PLENTY["BTC"]})

    assert "insufficient_balance" == (await refused(room.give(BUY, "1"))).code
    assert "insufficient_balance" == (await refused(room.give(SELL, "0.5"))).code
    assert ("0 + 0", "0 + 0") == (room.taken(BUY), room.taken(SELL))
    assert "open" == (await room.give(BUY, "0.5")).status


@pytest.mark.parametrize(
    ("side", "amounts", "expected"),
    [
        (BUY, {"total": "101.101"}, "1 for 101.101"),
        (BUY, {"total": "120"}, "1.18509921 for 119.99999954"),
        (SELL, {"total": "98.901"}, "1 for 98.901"),
        (BUY, {"quantity": "2", "limit_price": "102"}, "2 for 203.203"),
        (BUY, {"quantity": "2", "limit_price": "101.5"}, "limit_not_met"),
        (BUY, {"quantity": "5"}, "insufficient_liquidity"),
        (BUY, {"total": "99999"}, "insufficient_liquidity"),
        (BUY, {"quantity": "0.000000001"}, "quantity_step"),
        (BUY, {"total": "0.00000001"}, "notional_too_small"),
        (BUY, {"quantity": "2", "venues": ("coinbase", "kraken")}, "2 for 203.203"),
    ],
)
async def test_a_firm_quote_is_for_all_that_was_asked_or_is_not_given(room, side, amounts, expected):
    """
    For a quantity or a total, within a limit, all of it: what cannot be had is refused, with nothing held.
    """
    if not expected[0].isdigit():
        assert expected == (await refused(room.give(side, **amounts))).code
        assert ("0 + 0", "0 + 0") == (room.taken(BUY), room.taken(SELL))
        return
    quote = await room.give(side, **amounts)
    assert expected == f"{price_text(quote.quantity)} for {money_text(quote.total)}"
    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)
    assert expected == f"{body['filled_quantity']} for {body['total']}"


async def test_a_firm_quote_is_of_the_desks_margin(clock, ledger):
    """
    The margin on a firm quote is held with the rest, and charged at the fill.
    """
    room = Room(clock, ledger, markup_rate=rate(Decimal(100)))
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    quote = await room.give()

    assert ("1.01", "102.111") == (money_text(quote.markup), money_text(quote.held_amount))
    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)
    assert ("101", "0.101", "1.01", "102.111") == (body["subtotal"], body["fees"], body["markup"], body["total"])


@pytest.mark.parametrize(("venues_min", "more", "given"), [
    (2, {}, True),
    (3, {}, False),
    (2, {"venues": ("kraken",)}, False),
    (2, {"exclude_venues": ("kraken",)}, False),
    (1, {"venues": ("kraken",)}, True),
])  # fmt: skip
async def test_a_firm_quote_needs_so_many_live_venues(clock, ledger, venues_min, more, given):
    """
    A price that will be honoured is not given on the word of too few.
    """
    room = Room(clock, ledger, firm_venues_min=venues_min)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    if given:
        assert "open" == (await room.give(**more)).status
    else:
        refusal = await refused(room.give(**more))
        assert "no_fresh_market_data" == refusal.code
        assert {"coinbase", "kraken"} == {source.venue for source in refusal.sources}


async def test_a_venue_that_went_silent_does_not_count(room, clock):
    """
    Of two venues one that is stale leaves too few; without any there is no quote of any kind.
    """
    clock.advance(STALE_AFTER_MS - 1)
    room.publish(kraken=KRAKEN)
    clock.advance(2)

    assert "no_fresh_market_data" == (await refused(room.give())).code
    clock.advance(STALE_AFTER_MS)
    assert "no_fresh_market_data" == (await refused(room.give())).code


async def test_a_venue_of_which_all_is_taken_still_counts(room):
    """
    A venue is there though nothing of it is left.
    """
    await room.execute(market(BUY, "2"), "a")

    assert "coinbase" == (await room.give(BUY, "1")).fills[0].venue


async def test_only_so_many_firm_quotes_may_be_open_per_account(clock, ledger):
    """
    At most firm_open_max: one more is refused until one expires, is used or let go; each account has its own.
    """
    room = Room(clock, ledger, firm_open_max=2)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    first, second = await room.give(quantity="0.1"), await room.give(quantity="0.1", ttl_ms=9_000)
    assert "too_many_open_quotes" == (await refused(room.give(quantity="0.1"))).code
    assert "open" == (await room.give(quantity="0.1", account="bob")).status

    clock.advance(3_000)
    third = await room.give(quantity="0.1")
    assert "too_many_open_quotes" == (await refused(room.give(quantity="0.1"))).code
    await room.firm.let_go("alice", third.quote_id)
    fourth = await room.give(quantity="0.1")
    assert "filled" == await outcome(room, second)
    assert "open" == (await room.give(quantity="0.1")).status
    assert ["expired", "used", "released", "open"] == [
        (await room.firm.find("alice", one.quote_id)).status for one in (first, second, third, fourth)
    ]


async def test_twenty_five_at_once_get_twenty(room):
    """
    However many firm quotes are asked for at once, no more are open than may be.
    """
    answers = await asyncio.gather(*(room.give(quantity="0.01") for _ in range(25)), return_exceptions=True)

    refusals = [answer.code for answer in answers if isinstance(answer, Exception)]
    assert ["too_many_open_quotes"] * 5 == refusals
    assert "0 + 0.2" == room.taken()


# Honoured


async def test_a_firm_quote_is_filled_at_its_total_though_the_market_moves_against_the_desk(room):
    """
    A percent later the client still gets the quoted fills at the quoted total, and an order without a quote does not.
    """
    quote = await room.give(BUY, "2")
    room.publish(kraken=AGAINST, coinbase=AGAINST)
    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)

    assert ("filled", "203.203", "0", quote.quote_id) == (
        body["status"], body["total"], body["versus_quote_bps"], body["quote_id"],
    )  # fmt: skip
    assert [("kraken", "101", "1"), ("kraken", "102", "1")] == [
        (fill["venue"], fill["price"], fill["quantity"]) for fill in body["fills"]
    ]
    assert {
        "USDT": {"before": "1000000", "after": "999796.797"},
        "BTC": {"before": "1000", "after": "1002"},
    } == body["balances"]
    assert {"USDT": ("999796.797", "0"), "BTC": ("1002", "0")} == await room.balances()
    assert "204.13" < orjson.loads((await room.execute(market(BUY, "2"), "b")).receipt)["total"]


@pytest.mark.parametrize("becomes", ["thin", "stale", "gone"])
async def test_a_firm_quote_is_honoured_whatever_becomes_of_its_venues(room, clock, becomes):
    """
    Too little in the book, no fresh book, no venue: the promise stands for its time.
    """
    quote = await room.give(BUY, "2", ttl_ms=10_000)
    if becomes == "thin":
        room.publish(kraken=". 200 1\n1 199 .", coinbase=". 200 1\n1 199 .")
    for venue in ("kraken", "coinbase") if becomes != "thin" else ():
        room.board.fail(venue, "BTC/USDT", "timeout", clock.now_ns(), at_once=True)
        if becomes == "gone":
            room.board.unseat(venue, "BTC/USDT")

    assert "203.203" == orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)["total"]


async def test_what_a_hold_took_the_fill_has_taken(room):
    """
    At the fill held liquidity becomes taken liquidity: charged once, from now on by half-lives.
    """
    quote = await room.give(BUY, "2")
    assert "0 + 2" == room.taken()
    await room.execute(QuoteOrder(quote.quote_id))

    assert "2 + 0" == room.taken()
    room.clock.advance(29_999)
    assert "2 + 0" == room.taken()
    room.clock.advance(1)
    assert "1 + 0" == room.taken()


async def test_what_the_venue_has_explained_of_a_hold_is_not_taken_at_the_fill(room):
    """
    Where the level shrank under the hold the fill is charged only for the rest.
    """
    quote = await room.give(BUY, "2")
    room.publish(kraken=". 102 1\n. 101 0.4\n1 99 .\n1 98 .")
    assert "0 + 1.4" == room.taken()
    await room.execute(QuoteOrder(quote.quote_id))

    assert "1.4 + 0" == room.taken()


async def test_a_firm_quote_fills_once(room):
    """
    The second order on a firm quote is refused; a repeat of the first is answered from the record.
    """
    quote = await room.give()
    first = await room.execute(QuoteOrder(quote.quote_id), "a")
    refusal = await refused(room.execute(QuoteOrder(quote.quote_id), "b"))
    again = await room.execute(QuoteOrder(quote.quote_id), "a")

    assert "quote_used" == refusal.code
    assert quote.request == refusal.context["fresh_quote"].request
    assert (first.receipt, True) == (again.receipt, again.replayed)
    assert 1 == len(await room.recorded())
    found = await room.firm.find("alice", quote.quote_id)
    assert (FirmStatus.USED, first.execution_id) == (found.status, found.execution_id)


async def test_forty_orders_on_one_firm_quote_at_once_are_one_fill(room):
    """
    However many race for a firm quote one gets it, at the quoted total.
    """
    quote = await room.give()
    outcomes = await asyncio.gather(*(outcome(room, quote, f"a{n}") for n in range(40)))

    assert ["filled", *["quote_used"] * 39] == sorted(outcomes)
    assert {"USDT": ("999898.899", "0"), "BTC": ("1001", "0")} == await room.balances()
    assert "1 + 0" == room.taken()


async def test_another_accounts_firm_quote_is_unknown(room):
    """
    Whose quote it is not cannot see, execute or let it go, and learns nothing; so with one that never was.
    """
    quote = await room.give()
    for account, quote_id in (("bob", quote.quote_id), ("alice", "0" * 32)):
        stranger = replace(quote, quote_id=quote_id)
        assert "unknown_quote" == await outcome(room, stranger, account=account)
        assert "unknown_quote" == (await refused(room.firm.find(account, quote_id))).code
        assert "unknown_quote" == (await refused(room.firm.let_go(account, quote_id))).code

    assert () == await room.recorded("bob")
    assert "filled" == await outcome(room, quote)


async def test_a_firm_quote_has_one_side(room):
    """
    The side may be said and must be the quote's.
    """
    quote = await room.give(SELL)
    wrong = await refused(room.execute(QuoteOrder(quote.quote_id, BUY)))

    assert ("conflicting_parameters", "/side") == (wrong.code, wrong.faults[0].where)
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id, SELL))).status


async def test_a_dry_run_on_a_firm_quote_changes_nothing(room):
    """
    A dry run says that it would be filled; quote, holds and id are as before.
    """
    quote = await room.give()
    dry = await room.execute(QuoteOrder(quote.quote_id), dry_run=True)

    assert ("filled", None) == (dry.status, dry.execution_id)
    assert (FirmStatus.OPEN, "0 + 1") == ((await room.firm.find("alice", quote.quote_id)).status, room.taken())
    assert {"USDT": ("1000000", "101.101"), "BTC": ("1000", "0")} == await room.balances()
    assert () == await room.recorded()
    assert "filled" == await outcome(room, quote)
    assert "quote_used" == await outcome(room, quote, dry_run=True)


async def test_an_order_that_is_late_by_its_own_time_does_not_use_the_quote(room, clock):
    """
    After valid_until the order is refused, and the firm quote is still good.
    """
    quote = await room.give()
    late = clock.utc()
    clock.advance(1)

    assert "order_expired" == await outcome(room, quote, valid_until=late)
    assert "filled" == await outcome(room, quote)


async def test_with_the_kill_switch_thrown_a_firm_quote_is_refused_and_kept(room):
    """
    When trading is stopped open promises wait: refused on record, not used up.
    """
    quote = await room.give()
    stopped = room.another_desk(rules=replace(room.rules, risk=RiskLimits(trading_enabled=False)))
    answer = await stopped.execute(order(QuoteOrder(quote.quote_id)))

    assert ("rejected", "risk_limit") == (answer.status, answer.reject_code)
    body = orjson.loads(answer.receipt)
    assert ("0", "0", [], {}) == (body["filled_quantity"], body["total"], body["fills"], body["balances"])
    assert (answer.receipt, True) == ((again := await room.execute(QuoteOrder(quote.quote_id))).receipt, again.replayed)
    assert "filled" == await outcome(room, quote, "b")


async def test_a_dust_sale_never_takes_an_account_below_zero(clock, ledger):
    """
    A sale whose fee is more than it brings has to be paid for: without the funds it is refused and stays open.
    """
    room = Room(clock, ledger, fees_bps={"coinbase": 10, "kraken": 10})
    room.publish(kraken=". 0.6 9\n9 0.5 .", coinbase=". 0.6 9\n9 0.5 .")
    await room.bank.open("alice")
    await room.bank.deposit("alice", {"USDT": -PLENTY["USDT"] + 1})
    quote = await room.give(SELL, "0.00000001")
    assert -1 == quote.total
    await room.bank.deposit("alice", {"USDT": -1})

    assert "insufficient_balance" == await outcome(room, quote)
    assert {"USDT": ("0", "0"), "BTC": ("1000", "0.00000001")} == await room.balances()
    await room.bank.deposit("alice", {"USDT": 1})
    assert "filled" == await outcome(room, quote, "b")
    assert {"USDT": ("0", "0"), "BTC": ("999.99999999", "0")} == await room.balances()


async def test_a_fill_that_the_ledger_cannot_hold_is_refused_and_the_quote_kept(room):
    """
    Where the account has become too rich for its balance to be written, the order is refused by name.
    """
    quote = await room.give(SELL)
    await room.bank.deposit("alice", {"USDT": AMOUNT_MAX - PLENTY["USDT"]})

    assert "quantity_too_large" == await outcome(room, quote)
    assert "quantity_too_large" == (await refused(room.execute(market(SELL, "1")))).code
    assert "quantity_too_large" == (await refused(room.give(SELL, "0.1"))).code
    await room.bank.deposit("alice", {"USDT": -PLENTY["USDT"]})
    assert "filled" == await outcome(room, quote)
