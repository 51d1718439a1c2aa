"""Quote and execute on a board fed by hand, with a real ledger."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchanges.board import Board
from exchanges.book import Side
from service.accounting import money_text, plain, price_text, rate
from service.api.render import receipt
from service.desk import desk as desk_module
from service.desk.desk import Desk, DeskRules
from service.desk.orders import DirectOrder, Order, QuoteOrder, QuoteRequest, TimeInForce
from service.desk.quote_id import QuoteSigner
from service.errors import Fault, RequestError, Unavailable
from service.ledger.sqlite import SqliteLedger
from service.market.screening import Rules
from service.market.view import MarketView
from tests.conftest import HeldClock, venue_book
from tests.service.shown import ask, instrument, money

BUY, SELL = Side.BUY, Side.SELL
FOK, IOC = TimeInForce.FOK, TimeInForce.IOC
STALE_AFTER_MS = 60_000
FEES_BPS = {"coinbase": 20, "kraken": 10}

# Mid is 100; what is bought costs 101.101 (101 and 10 bps) to begin with.
KRAKEN = """
    .   102   1
    .   101   1
    1    99   .
    1    98   .
    """
COINBASE = """
    .   103   2
    2    97   .
    """
HIGHER = """
    .   102   9
    9   100   .
    """
LOWER = """
    .   100   9
    9    98   .
    """


class Room:
    """A desk with its board, ledger and clock."""

    def __init__(self, clock, ledger, rules=None, *, key=b"k" * 32):
        self.clock = clock
        self.ledger = ledger
        self.board = Board(Decimal(1_000))
        for venue, fee_bps in FEES_BPS.items():
            self.board.seat(venue, "BTC/USDT", STALE_AFTER_MS, clock.now_ns())
            self.board.instruct(instrument(venue, fee_bps))
        self.signer = QuoteSigner(key)
        self.rules = rules or DeskRules(market_data="simulated")
        self.desk = self.another_desk()

    def another_desk(self, ledger=None, rules=None):
        """A second process on the same books and, unless another is given, the same record."""
        rules_of_market = Rules(crossed_bps_max=Decimal(500), outlier_bps=Decimal(1_000))
        view = MarketView(self.board, rules_of_market, {"BTC/USDT": dict.fromkeys(FEES_BPS, "BTC/USDT")})
        return Desk(view, ledger or self.ledger, self.signer, self.clock, rules or self.rules, list(FEES_BPS), receipt)

    def publish(self, **ladders):
        now_ns = self.clock.now_ns()
        for n, (venue, ladder) in enumerate(ladders.items(), start=1):
            self.board.publish(venue_book(venue, ladder, received_at_ns=now_ns, sequence=n), now_ns)

    def quote(self, quantity="1", sides=(BUY,), account="alice", venues=None, exclude_venues=None, **amounts):
        wanted = ask(None if amounts.keys() & {"total", "slippage_bps_max"} else quantity, **amounts)
        return self.desk.quote(account, QuoteRequest("BTC/USDT", wanted, sides, venues, exclude_venues))

    async def execute(self, terms, client_order_id="a", **more):
        return await self.desk.execute(order(terms, client_order_id, **more))

    async def recorded(self, account="alice"):
        return (await self.ledger.executions(account, limit=500)).executions


def order(terms, client_order_id="a", account="alice", **more):
    fingerprint = hashlib.sha256(repr((account, terms, sorted(more.items()))).encode()).digest()
    return Order(account, client_order_id, fingerprint, terms, **more)


def market(side, quantity=None, time_in_force=FOK, **bounds):
    return DirectOrder("BTC/USDT", side, ask(quantity, **bounds), time_in_force)


BUY_ONE = market(BUY, "1")


@pytest.fixture
async def ledger(tmp_path):
    ledger = SqliteLedger.open(tmp_path / "ledger.db", "simulated")
    yield ledger
    await ledger.close()


@pytest.fixture
def room(clock, ledger):
    room = Room(clock, ledger)
    room.publish(coinbase=COINBASE, kraken=KRAKEN)
    return room


async def refused(awaitable):
    """The code of a refusal that is no outcome."""
    with pytest.raises((RequestError, Unavailable)) as caught:
        await awaitable
    return caught.value


class Wrapped:
    """A ledger in front of another: what is not its own goes there."""

    def __init__(self, ledger):
        self._ledger = ledger

    def __getattr__(self, name):
        return getattr(self._ledger, name)


class SlowToRecord(Wrapped):
    """A ledger that records when it is told to go on."""

    def __init__(self, ledger):
        super().__init__(ledger)
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def record(self, execution):
        self.asked.set()
        await self.go_on.wait()
        return await self._ledger.record(execution)


class SlowToLookUp(Wrapped):
    """A ledger whose answer about a quote takes so long by the clock."""

    def __init__(self, ledger, clock, ms):
        super().__init__(ledger)
        self._clock, self._ms = clock, ms

    async def quote_used(self, quote_key):
        used = await self._ledger.quote_used(quote_key)
        self._clock.advance(self._ms)
        return used


# Quotes


async def test_a_quote_executes_at_the_quoted_total(room):
    """
    On the same book an order gets exactly the fills and the total that it was quoted.
    """
    quote = room.quote("2.5")
    answer = await room.execute(QuoteOrder(quote.quote_id))

    priced = quote.sides[BUY]
    body = orjson.loads(answer.receipt)
    assert ("filled", None, False, None) == (answer.status, answer.reject_code, answer.replayed, answer.fresh_quote)
    assert money_text(priced.total) == body["total"] == "254.806"  # 203.203 + 51.5 and 20 bps of it.
    assert "0" == body["versus_quote_bps"]
    assert quote.quote_id == body["quote_id"]
    assert ("2.5", "2.5", "0") == (body["requested_quantity"], body["filled_quantity"], body["unfilled_quantity"])
    assert [("kraken", "101", "1"), ("kraken", "102", "1"), ("coinbase", "103", "0.5")] == [
        (fill["venue"], fill["price"], fill["quantity"]) for fill in body["fills"]
    ]
    assert [2, 2, 1] == [fill["sequence"] for fill in body["fills"]]
    assert answer.receipt == (await room.ledger.find_execution("alice", answer.execution_id)).receipt


async def test_a_fill_tells_the_age_of_the_book_it_came_from(room, clock):
    """
    Each fill says how old its venue's book was when the order was decided.
    """
    clock.advance(70)
    room.publish(coinbase=COINBASE)
    clock.advance(7)

    fills = orjson.loads((await room.execute(market(BUY, "3"))).receipt)["fills"]
    assert [("kraken", 77), ("kraken", 77), ("coinbase", 7)] == [(fill["venue"], fill["book_age_ms"]) for fill in fills]


async def test_a_fill_has_its_own_markup_which_is_in_the_total(clock, ledger):
    """
    The desk's margin is charged alike on a quote and on a fill.
    """
    room = Room(clock, ledger, DeskRules(market_data="simulated", markup_rate=rate(Decimal(100))))
    room.publish(kraken=KRAKEN)
    quote = room.quote()

    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)
    assert ("101", "0.101", "1.01", "102.111") == (body["subtotal"], body["fees"], body["markup"], body["total"])
    assert "102.111" == money_text(quote.sides[BUY].total)
    direct = orjson.loads((await room.execute(BUY_ONE, "b")).receipt)
    assert "102.111" == direct["total"]


async def test_quotes_of_both_sides_need_a_side_and_have_both(room):
    """
    On a quote of both sides the order says which one; on a quote of one side it need not, and cannot say the other.
    """
    both, bought = room.quote(sides=(BUY, SELL)), room.quote(sides=(BUY,))
    missing = await refused(room.execute(QuoteOrder(both.quote_id)))
    wrong = await refused(room.execute(QuoteOrder(bought.quote_id, SELL)))

    assert ("missing_parameter", "/side") == (missing.code, missing.faults[0].where)
    assert ("conflicting_parameters", "/side") == (wrong.code, wrong.faults[0].where)
    sold = await room.execute(QuoteOrder(both.quote_id, SELL))
    assert "98.901" == orjson.loads(sold.receipt)["total"]
    # Good for one fill of one side.
    assert "quote_used" == (await refused(room.execute(QuoteOrder(both.quote_id, BUY), "b"))).code
    assert "filled" == (await room.execute(QuoteOrder(bought.quote_id, BUY), "c")).status


@pytest.mark.parametrize(("after_ms", "code"), [(2_999, None), (3_000, "quote_expired"), (3_001, "quote_expired")])
async def test_a_quote_expires_at_its_millisecond(room, clock, after_ms, code):
    """
    A quote is good until just before expires_at, and a late order is told a new price at once.
    """
    clock.advance(7)
    quote = room.quote()
    assert timedelta(milliseconds=3_000) == quote.expires_at - quote.created_at
    clock.advance(after_ms)

    if code is None:
        assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status
    else:
        refusal = await refused(room.execute(QuoteOrder(quote.quote_id)))
        assert code == refusal.code
        assert clock.utc() == refusal.context["fresh_quote"].created_at
        assert quote.request == refusal.context["fresh_quote"].request
        assert () == await room.recorded()


async def test_parts_of_a_millisecond_do_not_lengthen_a_quote(clock, ledger):
    """
    What a quote shows is what counts: its times are whole milliseconds.
    """
    clock._utc += timedelta(microseconds=999)
    room = Room(clock, ledger)
    room.publish(kraken=KRAKEN)
    quote = room.quote()

    assert (0, 0) == (quote.created_at.microsecond, quote.expires_at.microsecond)
    assert quote.expires_at == room.signer.open(quote.quote_id).expires_at
    clock.advance(2_999)
    clock._utc += timedelta(microseconds=1)
    assert "quote_expired" == (await refused(room.execute(QuoteOrder(quote.quote_id)))).code


async def test_expiry_is_judged_at_the_decision_and_not_before_the_record_was_asked(room, clock):
    """
    No fill on a quote is dated after the quote's end, however slow the record is.
    """
    quote = room.quote()
    clock.advance(2_990)
    slow = room.another_desk(SlowToLookUp(room.ledger, clock, 10))

    assert "quote_expired" == (await refused(slow.execute(order(QuoteOrder(quote.quote_id))))).code
    assert () == await room.recorded()


async def test_a_changed_foreign_or_invented_quote_is_unknown(room, clock, ledger):
    """
    An id that was not given to this account, in this mode, exactly so, is no quote.
    """
    quote = room.quote()
    forged = room.signer.open(quote.quote_id)
    cheaper = {BUY: replace(forged.sides[BUY], total=money(1_000))}
    other_key = QuoteSigner(b"x" * 32).seal(replace(forged, sides=cheaper))
    for quote_id in ("", "q1", other_key, quote.quote_id + "A", quote.quote_id[:-1]):
        assert "unknown_quote" == (await refused(room.execute(QuoteOrder(quote_id)))).code
    for place in range(len(quote.quote_id)):
        changed = quote.quote_id[:place] + ("A" if quote.quote_id[place] != "A" else "B") + quote.quote_id[place + 1 :]
        assert "unknown_quote" == (await refused(room.execute(QuoteOrder(changed)))).code
    assert "unknown_quote" == (await refused(room.execute(QuoteOrder(quote.quote_id), account="bob"))).code
    live = room.another_desk(rules=DeskRules(market_data="live"))
    assert "unknown_quote" == (await refused(live.execute(order(QuoteOrder(quote.quote_id))))).code

    assert () == await room.recorded()
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status


async def test_a_quote_fills_once(room):
    """
    A second order on a used quote is refused with a fresh quote, and nothing of it is recorded.
    """
    quote = room.quote()
    await room.execute(QuoteOrder(quote.quote_id), "a")
    refusal = await refused(room.execute(QuoteOrder(quote.quote_id), "b"))

    assert "quote_used" == refusal.code
    assert quote.request == refusal.context["fresh_quote"].request
    assert quote.quote_id != refusal.context["fresh_quote"].quote_id
    assert ["a"] == [one.client_order_id for one in await room.recorded()]
    # The refused order's id was not used up.
    assert "filled" == (await room.execute(BUY_ONE, "b")).status


async def test_forty_orders_on_one_quote_at_once_are_one_fill(room):
    """
    However many orders race for a quote, one gets it.
    """
    quote = room.quote()
    answers = await asyncio.gather(
        *(room.execute(QuoteOrder(quote.quote_id), f"a{n}") for n in range(40)), return_exceptions=True
    )

    filled = [answer for answer in answers if not isinstance(answer, Exception)]
    lost = [answer for answer in answers if isinstance(answer, RequestError)]
    assert (1, 39) == (len(filled), len(lost))
    assert {"quote_used"} == {error.code for error in lost}
    assert all(error.context["fresh_quote"] is not None for error in lost)
    assert [filled[0].execution_id] == [one.execution_id for one in await room.recorded()]


async def test_a_rejection_does_not_use_the_quote(room):
    """
    After the price came back a quote that was refused for it can still be filled.
    """
    quote = room.quote()
    room.publish(coinbase=HIGHER, kraken=HIGHER)
    moved = await room.execute(QuoteOrder(quote.quote_id), "a")
    room.publish(coinbase=COINBASE, kraken=KRAKEN)
    filled = await room.execute(QuoteOrder(quote.quote_id), "b")

    assert ("rejected", "price_moved") == (moved.status, moved.reject_code)
    assert quote.request == moved.fresh_quote.request
    assert "102.102" == money_text(moved.fresh_quote.sides[BUY].total)
    assert "filled" == filled.status


@pytest.mark.parametrize(
    ("side", "now", "tolerance_bps", "expected"),
    [
        # Quoted 101.101 for a buy and 98.901 for a sell; now 102.102 or 100.1, and 99.9 or 97.902.
        (BUY, HIGHER, None, ("price_moved", None, "0")),
        (BUY, HIGHER, "99", ("price_moved", None, "0")),
        (BUY, HIGHER, "99.1", (None, "99.0099", "102.102")),
        (BUY, LOWER, None, (None, "-99.0099", "100.1")),
        (SELL, LOWER, None, ("price_moved", None, "0")),
        (SELL, LOWER, "101", ("price_moved", None, "0")),
        (SELL, LOWER, "101.1", (None, "101.0101", "97.902")),
        (SELL, HIGHER, None, (None, "-101.0101", "99.9")),
        (BUY, KRAKEN, "0", (None, "0", "101.101")),
    ],
)
async def test_a_moved_price_is_refused_beyond_the_tolerance_and_improvement_is_the_clients(
    room, side, now, tolerance_bps, expected
):
    """
    A quote is filled at its total or better; worse only within the client's tolerance, and what is better is theirs.
    """
    quote = room.quote(sides=(side,))
    room.publish(coinbase=now, kraken=now)
    tolerance = None if tolerance_bps is None else Decimal(tolerance_bps)
    answer = await room.execute(QuoteOrder(quote.quote_id, tolerance_bps=tolerance))

    body = orjson.loads(answer.receipt)
    assert expected == (answer.reject_code, body["versus_quote_bps"], body["total"])


async def test_the_desks_tolerance_holds_where_the_order_names_none(clock, ledger):
    """
    An order's own tolerance goes before the desk's, even where it is none at all.
    """
    room = Room(clock, ledger, DeskRules(market_data="simulated", tolerance_bps=Decimal(100)))
    room.publish(kraken=KRAKEN)
    quote = room.quote()
    room.publish(kraken=HIGHER)

    assert "price_moved" == (await room.execute(QuoteOrder(quote.quote_id, tolerance_bps=Decimal(0)), "a")).reject_code
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id), "b")).status


@pytest.mark.parametrize(
    ("quantity", "more"),
    [("9", {}), ("2", {"limit_price": "101"}), ("1", {"limit_price": "100"}), (None, {"total": "99999"})],
)
async def test_a_quote_that_could_not_be_filled_executes_to_insufficient_liquidity(room, quantity, more):
    """
    A quote of less than was asked for is information, not something that can be had, even when the book has grown.
    """
    quote = room.quote(quantity, **more)
    assert not quote.sides[BUY].fillable

    for client_order_id in "ab":
        answer = await room.execute(QuoteOrder(quote.quote_id), client_order_id)
        assert ("rejected", "insufficient_liquidity") == (answer.status, answer.reject_code)
        room.publish(coinbase=LOWER, kraken=LOWER)


async def test_a_quote_keeps_its_limit_and_its_venues(room):
    """
    What the quote was asked for holds for its fill: no other venue and no worse price comes in later.
    """
    coinbase = room.quote(venues=("coinbase",))
    without = room.quote(exclude_venues=("kraken",))
    limited = room.quote(limit_price="101.5")
    assert ["103.206", "103.206", "101.101"] == [money_text(q.sides[BUY].total) for q in (coinbase, without, limited)]
    assert ["coinbase"] == [leg.venue for leg in without.sides[BUY].legs]

    for n, quote in enumerate((coinbase, without)):
        body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id), f"a{n}")).receipt)
        assert ["coinbase"] == [fill["venue"] for fill in body["fills"]]
    room.publish(coinbase=HIGHER, kraken=HIGHER)
    moved = await room.execute(QuoteOrder(limited.quote_id, tolerance_bps=Decimal(10_000)), "b")
    assert "limit_not_met" == moved.reject_code


async def test_a_quote_made_with_a_total_fills_the_quantity_that_it_was_quoted(room):
    """
    When the price gets better a quote for a total costs less; it does not become a larger order.
    """
    quote = room.quote(total="101.101")
    room.publish(coinbase=LOWER, kraken=LOWER)
    body = orjson.loads((await room.execute(QuoteOrder(quote.quote_id))).receipt)

    assert ("1", None, "1", "0") == (
        body["requested_quantity"], body["requested_total"], body["filled_quantity"], body["unfilled_quantity"],
    )  # fmt: skip
    assert ("100.1", "-99.0099") == (body["total"], body["versus_quote_bps"])


async def test_a_quote_made_with_a_slippage_bound_fills_the_quantity_that_it_was_quoted(room):
    """
    What keeps within the bound is found once, when the quote is given.
    """
    quote = room.quote(slippage_bps_max="100")
    assert "filled" == (answer := await room.execute(QuoteOrder(quote.quote_id))).status
    assert "1" == orjson.loads(answer.receipt)["filled_quantity"]


async def test_a_margin_of_ones_own_takes_the_place_of_the_desks(clock, ledger):
    """
    An account with a margin of its own is quoted and filled with that; everyone else with the desk's.
    """
    rates = {"bob": rate(Decimal(100)), "eve": 0}
    room = Room(clock, ledger, DeskRules("simulated", markup_rate=rate(Decimal(10)), account_markup_rates=rates))
    room.publish(kraken=KRAKEN)

    assert ["0.101", "1.01", "0"] == [
        money_text(room.quote(account=account).sides[BUY].markup) for account in ("alice", "bob", "eve")
    ]
    assert "1.01" == orjson.loads((await room.execute(BUY_ONE, account="bob")).receipt)["markup"]


@pytest.mark.parametrize(
    ("amounts", "code", "where", "suggested"),
    [
        ({"quantity": "1.000000001"}, "quantity_step", "quantity", "1"),
        ({"quantity": "0.000000001"}, "quantity_step", "quantity", "0.00000001"),
        ({"total": "0.00000001"}, "notional_too_small", "total", "0.00000102"),
    ],
)
async def test_an_amount_that_no_venue_accepts_is_refused_and_not_recorded(room, amounts, code, where, suggested):
    """
    The refusal says which amount would do, uses up no id, and points to where the amount was said.
    """
    with pytest.raises(RequestError) as quoted:
        room.quote(**amounts)
    ordered = await refused(room.execute(market(BUY, **amounts)))

    assert [(code, where, suggested, "parameter")] == [
        (fault.code, fault.where, fault.suggested, fault.kind) for fault in quoted.value.faults[:1]
    ]
    assert (code, "/" + where, suggested, "pointer") == (
        ordered.code, ordered.faults[0].where, ordered.faults[0].suggested, ordered.faults[0].kind,
    )  # fmt: skip
    assert () == await room.recorded()
    assert "filled" == (await room.execute(BUY_ONE)).status


async def test_what_is_wrong_with_an_amount_is_said_before_what_is_late(room, clock):
    """
    A quantity that nobody accepts comes before an order's own end, and that before missing market data.
    """
    late = clock.utc() - timedelta(seconds=1)
    assert "quantity_step" == (await refused(room.execute(market(BUY, "0.000000001"), valid_until=late))).code
    quote = room.quote()
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status
    # On a quote: its own end, the order's end, and only then that it was used.
    assert "order_expired" == (await refused(room.execute(QuoteOrder(quote.quote_id), "b", valid_until=late))).code
    clock.advance(STALE_AFTER_MS + 1)
    assert "order_expired" == (await refused(room.execute(BUY_ONE, "c", valid_until=late))).code
    assert "quote_expired" == (await refused(room.execute(QuoteOrder(quote.quote_id), "d", valid_until=late))).code


FRESH_QUOTE_RAISES = "Desk._fresh_quote lets the RequestError of a quantity that is no longer accepted through"


async def test_an_expired_quote_is_expired_though_its_question_cannot_be_asked_again(room, clock):
    """
    Where the venue with the fine step is gone there is no fresh quote, but the code is the quote's own.
    """
    room.board.instruct(instrument("coinbase", FEES_BPS["coinbase"], step="0.1"))
    quote = room.quote("1.05")
    room.board.fail("kraken", "BTC/USDT", "banned", clock.now_ns(), at_once=True)
    clock.advance(3_000)

    expired = await refused(room.execute(QuoteOrder(quote.quote_id)))
    assert ("quote_expired", None) == (expired.code, expired.context.get("fresh_quote"))


async def test_a_recorded_refusal_is_answered_as_it_was_recorded(room, clock):
    """
    An order that was refused on record is told so at once, and not only when it is sent again.
    """
    room.board.instruct(instrument("coinbase", FEES_BPS["coinbase"], step="0.1"))
    quote = room.quote("1.05")
    room.board.fail("kraken", "BTC/USDT", "banned", clock.now_ns(), at_once=True)

    answers = [await room.execute(QuoteOrder(quote.quote_id)) for _ in range(2)]
    assert ["insufficient_liquidity"] * 2 == [answer.reject_code for answer in answers]
    assert [False, True] == [answer.replayed for answer in answers]
    assert None is answers[0].fresh_quote


# Orders without a quote


@pytest.mark.parametrize(
    ("terms", "status", "code", "filled", "total"),
    [
        (market(BUY, "1"), "filled", None, "1", "101.101"),
        (market(SELL, "1"), "filled", None, "1", "98.901"),
        (market(BUY, "4"), "filled", None, "4", "409.615"),
        (market(BUY, "5"), "rejected", "insufficient_liquidity", "0", "0"),
        (market(BUY, "5", IOC), "partially_filled", None, "4", "409.615"),
        (market(BUY, "2", limit_price="101"), "rejected", "limit_not_met", "0", "0"),
        (market(BUY, "2", IOC, limit_price="101"), "partially_filled", None, "1", "101.101"),
        (market(BUY, "2", IOC, limit_price="100"), "rejected", "limit_not_met", "0", "0"),
        (market(BUY, "2", slippage_bps_max="149"), "rejected", "slippage_exceeded", "0", "0"),
        (market(BUY, "2", slippage_bps_max="150"), "filled", None, "2", "203.203"),
        (market(BUY, "2", IOC, slippage_bps_max="100"), "partially_filled", None, "1", "101.101"),
        (market(BUY, "2", IOC, slippage_bps_max="99"), "rejected", "slippage_exceeded", "0", "0"),
        (market(SELL, "2", limit_price="98"), "filled", None, "2", "196.803"),
        # For a total: the largest quantity that comes to no more, to the eighth decimal.
        (market(BUY, total="101.101"), "filled", None, "1", "101.101"),
        (market(BUY, total="120"), "filled", None, "1.18509921", "119.99999954"),
        (market(SELL, total="98.901"), "filled", None, "1", "98.901"),
        (market(BUY, total="9999"), "rejected", "insufficient_liquidity", "0", "0"),
        (market(BUY, None, IOC, total="9999"), "partially_filled", None, "4", "409.615"),
        (market(BUY, total="9999", limit_price="101"), "rejected", "limit_not_met", "0", "0"),
        (market(BUY, total="9999", slippage_bps_max="100"), "rejected", "slippage_exceeded", "0", "0"),
    ],
)
async def test_orders_fill_or_are_refused_on_record(room, terms, status, code, filled, total):
    """
    FOK is all or nothing, IOC what can be had within limit and bound; every outcome is on record and repeatable.
    """
    answer = await room.execute(terms)
    body = orjson.loads(answer.receipt)

    assert (status, code) == (answer.status, answer.reject_code)
    assert (status, code, filled, total) == (
        body["status"], body["reject_code"], body["filled_quantity"], body["total"],
    )  # fmt: skip
    if terms.ask.quantity is None:
        assert None is body["requested_quantity"]
        assert money_text(terms.ask.total) == body["requested_total"]
        assert ("0" if status == "filled" else None) == body["unfilled_quantity"]
    else:
        parts = Decimal(body["filled_quantity"]) + Decimal(body["unfilled_quantity"])
        assert Decimal(price_text(terms.ask.quantity)) == parts == Decimal(body["requested_quantity"])
    assert answer.fresh_quote is None
    (stored,) = await room.recorded()
    assert (answer.execution_id, status, code, answer.receipt) == (
        stored.execution_id, stored.status, stored.reject_code, stored.receipt,
    )  # fmt: skip

    # By now the market is another, the outcome is not.
    room.publish(coinbase=LOWER, kraken=LOWER)
    again = await room.execute(terms)
    assert (answer.status, answer.reject_code, answer.execution_id, answer.receipt, True) == (
        again.status, again.reject_code, again.execution_id, again.receipt, again.replayed,
    )  # fmt: skip
    assert 1 == len(await room.recorded())


@pytest.mark.parametrize(("late_ms", "code"), [(-1, None), (0, None), (1, "order_expired")])
async def test_an_order_is_good_until_its_own_time(room, clock, late_ms, code):
    """
    After valid_until an order is not even looked at, and its id stays free.
    """
    valid_until = clock.utc() - timedelta(milliseconds=late_ms)
    if code is None:
        assert "filled" == (await room.execute(BUY_ONE, valid_until=valid_until)).status
    else:
        refusal = await refused(room.execute(BUY_ONE, valid_until=valid_until))
        assert (code, "/valid_until") == (refusal.code, refusal.faults[0].where)
        assert () == await room.recorded()
        assert "filled" == (await room.execute(BUY_ONE)).status


@pytest.mark.parametrize(
    ("terms", "status", "code"),
    [
        (BUY_ONE, "filled", None),
        (market(BUY, "5"), "rejected", "insufficient_liquidity"),
        (market(BUY, "5", IOC), "partially_filled", None),
    ],
)
async def test_a_dry_run_checks_everything_and_touches_nothing(room, terms, status, code):
    """
    A dry run says what would happen; its id is as free afterwards as before, and one that is used does not matter.
    """
    dry = await room.execute(terms, dry_run=True)
    body = orjson.loads(dry.receipt)

    assert (status, code, None, False) == (dry.status, dry.reject_code, dry.execution_id, dry.replayed)
    assert (None, True, status) == (body["execution_id"], body["dry_run"], body["status"])
    assert () == await room.recorded()
    real = await room.execute(terms)
    assert (status, False) == (real.status, real.replayed)
    assert None is (await room.execute(terms, dry_run=True)).execution_id
    assert 1 == len(await room.recorded())


async def test_a_dry_run_on_a_quote_does_not_use_it(room):
    """
    A dry run on a quote leaves it good, and one that would be refused brings a fresh quote.
    """
    quote = room.quote()
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id), dry_run=True)).status
    assert "filled" == (await room.execute(QuoteOrder(quote.quote_id))).status
    assert "quote_used" == (await refused(room.execute(QuoteOrder(quote.quote_id), dry_run=True))).code

    thin = await room.execute(QuoteOrder(room.quote("9").quote_id), dry_run=True)
    assert "insufficient_liquidity" == thin.reject_code
    assert ask("9") == thin.fresh_quote.request.ask


async def test_a_symbol_is_understood_and_an_unknown_one_is_named_with_the_nearest(room):
    """
    An order for btc-usdt is one for BTC/USDT; one for what is not served is told what is.
    """
    body = orjson.loads((await room.execute(replace(BUY_ONE, symbol="btc-usdt"))).receipt)
    assert "BTC/USDT" == body["symbol"]

    near = await refused(room.execute(replace(BUY_ONE, symbol="BTC/USD"), "b"))
    far = await refused(room.execute(replace(BUY_ONE, symbol="XXX/YYY"), "b"))
    assert ("unknown_symbol", "BTC/USDT", "/symbol") == (near.code, near.faults[0].suggested, near.faults[0].where)
    assert ("unknown_symbol", None) == (far.code, far.faults[0].suggested)
    with pytest.raises(RequestError, match="unknown_symbol"):
        room.desk.resolve("nope", Fault("symbol", "unknown_symbol", "is not served"))


async def test_a_quote_whose_symbol_is_gone_says_so(room, clock, ledger):
    """
    A genuine quote of a symbol that is no longer served cannot be filled.
    """
    terms = room.signer.open(room.quote().quote_id)
    gone = room.signer.seal(replace(terms, request=replace(terms.request, symbol="ETH/USDT")))

    assert "unknown_symbol" == (await refused(room.execute(QuoteOrder(gone)))).code


# Repeats


async def test_a_repeated_order_gets_the_first_answer_byte_for_byte(room, clock):
    """
    A retry with the same body gets the stored execution and writes nothing, also when its quote has expired.
    """
    terms = QuoteOrder(room.quote().quote_id)
    first = await room.execute(terms)
    clock.advance(10_000)
    room.publish(coinbase=LOWER, kraken=LOWER)
    second = await room.execute(terms)

    assert (False, True) == (first.replayed, second.replayed)
    assert (first.receipt, first.execution_id) == (second.receipt, second.execution_id)
    assert (None, None) == (second.decision, second.fresh_quote)
    assert 1 == len(await room.recorded())


async def test_a_client_order_id_is_one_order_for_ever(room):
    """
    The same id with another body is refused; another account may use it.
    """
    await room.execute(BUY_ONE)

    assert "client_order_id_reused" == (await refused(room.execute(market(BUY, "1.1")))).code
    assert "filled" == (await room.execute(BUY_ONE, account="bob")).status
    assert (1, 1) == (len(await room.recorded()), len(await room.recorded("bob")))


async def test_twenty_equal_orders_at_once_are_one_execution(room):
    """
    Retries that overtake each other all get the one execution's receipt.
    """
    answers = await asyncio.gather(*(room.execute(BUY_ONE) for _ in range(20)))

    assert 1 == len({answer.receipt for answer in answers}) == len(await room.recorded())
    assert 1 == sum(not answer.replayed for answer in answers)


async def test_equal_orders_at_two_desks_are_one_execution(room):
    """
    Two processes that share the record answer one order once, and know another body for what it is.
    """
    other = room.another_desk()
    answers = await asyncio.gather(room.execute(BUY_ONE), other.execute(order(BUY_ONE)))
    assert 1 == len({answer.receipt for answer in answers}) == len(await room.recorded())
    assert [False, True] == sorted(answer.replayed for answer in answers)

    outcomes = await asyncio.gather(
        room.execute(BUY_ONE, "b"), other.execute(order(market(BUY, "1.1"), "b")), return_exceptions=True
    )
    assert ["client_order_id_reused"] == [error.code for error in outcomes if isinstance(error, RequestError)]
    assert 2 == len(await room.recorded())


async def test_a_repeat_that_waited_too_long_is_told_that_the_first_is_still_running(room, monkeypatch):
    """
    While the first request is being recorded its repeat waits, then gives up, and is answered later.
    """
    monkeypatch.setattr(desk_module, "IN_PROGRESS_WAIT_S", 0.05)
    slow = SlowToRecord(room.ledger)
    desk = room.another_desk(slow)
    first = asyncio.ensure_future(desk.execute(order(BUY_ONE)))
    await slow.asked.wait()

    assert "execution_in_progress" == (await refused(desk.execute(order(BUY_ONE)))).code
    # Nobody else is kept waiting, but for the record itself.
    assert "filled" == (await desk.execute(order(BUY_ONE, "b", dry_run=True))).status
    monkeypatch.setattr(desk_module, "IN_PROGRESS_WAIT_S", 60)
    waiting = asyncio.ensure_future(desk.execute(order(BUY_ONE)))
    await asyncio.sleep(0)
    slow.go_on.set()
    assert (await first).receipt == (await waiting).receipt == (await desk.execute(order(BUY_ONE))).receipt
    assert 1 == len(await room.recorded())


async def test_a_repeat_after_the_first_was_broken_off_is_executed(room):
    """
    A client that hangs up before the record was asked may send its order again.
    """
    slow = SlowToRecord(room.ledger)
    desk = room.another_desk(slow)
    first = asyncio.ensure_future(desk.execute(order(BUY_ONE)))
    await slow.asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    slow.go_on.set()
    assert not (await desk.execute(order(BUY_ONE))).replayed


# No market, no desk


async def test_without_fresh_market_data_nothing_is_executed_and_the_id_stays_free(room, clock):
    """
    An order on stale books is refused for now, leaves no record, and succeeds when the market is back.
    """
    quote = room.quote()
    clock.advance(STALE_AFTER_MS + 1)
    refusal = await refused(room.execute(BUY_ONE))
    assert "no_fresh_market_data" == refusal.code
    assert ["stale", "stale"] == [source.reason for source in refusal.sources]
    with pytest.raises(Unavailable, match="no_fresh_market_data"):
        room.quote()
    # A quote that has expired in the meantime brings no fresh one.
    expired = await refused(room.execute(QuoteOrder(quote.quote_id)))
    assert ("quote_expired", None) == (expired.code, expired.context["fresh_quote"])

    assert () == await room.recorded()
    room.publish(kraken=KRAKEN)
    assert "filled" == (await room.execute(BUY_ONE)).status


async def test_a_refused_order_has_no_fresh_quote_when_its_venues_are_gone(room, clock):
    """
    Where nobody can be quoted any more the refusal stands alone.
    """
    quote = room.quote("9", venues=("kraken",))
    slow = SlowToRecord(room.ledger)
    pending = asyncio.ensure_future(room.another_desk(slow).execute(order(QuoteOrder(quote.quote_id))))
    await slow.asked.wait()
    clock.advance(STALE_AFTER_MS + 1)
    slow.go_on.set()

    answer = await pending
    assert ("insufficient_liquidity", None) == (answer.reject_code, answer.fresh_quote)


async def test_a_closing_desk_takes_no_orders_but_answers_for_old_ones(room):
    """
    A desk that is stopping refuses what is new, and still says what became of an order it had.
    """
    first = await room.execute(BUY_ONE)
    room.desk.close()

    assert "shutting_down" == (await refused(room.execute(BUY_ONE, "b"))).code
    assert "shutting_down" == (await refused(room.execute(BUY_ONE, dry_run=True))).code
    assert first.receipt == (await room.execute(BUY_ONE)).receipt
    assert 1 == len(await room.recorded())


# One walk

PRICES = st.decimals("90", "110", places=3, allow_nan=False, allow_infinity=False)
QUANTITIES = st.decimals("0.00000001", "5", places=8, allow_nan=False, allow_infinity=False)
SIDES = st.lists(st.tuples(PRICES, QUANTITIES), min_size=1, max_size=5, unique_by=lambda level: level[0])
COUNTER = itertools.count()


@st.composite
def ladders(draw):
    middle = draw(st.decimals("99", "101", places=3, allow_nan=False, allow_infinity=False))
    lines = [f". {middle + 1} 1", f"1 {middle - 1} ."]
    for price, quantity in draw(SIDES):
        if price > middle + 1:
            lines.append(f". {price} {quantity}")
        if price < middle - 1:
            lines.append(f"{quantity} {price} .")
    return "\n".join(lines)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kraken=ladders(),
    coinbase=ladders(),
    quantity=QUANTITIES,
    side=st.sampled_from(list(Side)),
    markup_bps=st.sampled_from([Decimal(0), Decimal("7.5")]),
)
async def test_quoting_and_filling_are_the_same_walk(ledger, kraken, coinbase, quantity, side, markup_bps):
    """
    An order right after its quote, on it or with the same terms, gets the quoted fills to the last digit.
    """
    room = Room(HeldClock(), ledger, DeskRules(market_data="simulated", markup_rate=rate(markup_bps)))
    room.publish(kraken=kraken, coinbase=coinbase)
    quote = room.quote(plain(quantity), (BUY, SELL))
    on_quote = await room.execute(QuoteOrder(quote.quote_id, side), f"a{next(COUNTER)}")
    direct = await room.execute(market(side, plain(quantity), IOC), f"a{next(COUNTER)}")

    priced = quote.sides[side]
    assert priced.fills == on_quote.decision.priced.fills == direct.decision.priced.fills
    if priced.fillable:
        body, direct_body = orjson.loads(on_quote.receipt), orjson.loads(direct.receipt)
        assert money_text(priced.total) == body["total"] == direct_body["total"]
        assert "0" == body["versus_quote_bps"]
        assert body["fills"] == direct_body["fills"]
    else:
        assert "insufficient_liquidity" == on_quote.reject_code
