"""A symbol that one venue serves from another of its own, through a stable pair, over HTTP."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest

from exchanges.instruments import Instrument
from tests.api.conftest import SETTINGS, STALE_AFTER_MS, without_realism
from tests.conftest import venue_book

SERVED = {
    "venues": {**SETTINGS["venues"], "bitstamp": {"exchange": "bitstamp", "symbols": {"BTC/USDT": "BTC/USD"}}},
}
OWN_FEE_BPS, PAIR_FEE_BPS = Fraction(5), Fraction(2)
SERVING = pytest.mark.parametrize("house", [SERVED], indirect=True)
# A USDT brings 0.999 dollars and costs 1.001: the best ask's 63936 dollars take 64000 USDT, the best bid's 63935.872
# bring 63872.
BITSTAMP = """
    .        63951.984   5
    .        63936       0.5
    0.5      63935.872   .
    5        63910       .
"""
STABLE = """
    .     1.001    60000
    60000 0.999    .
"""
# A second price where the first has been used up.
THIN_STABLE = """
    .     1.002    900000
    .     1.001    6400
    6400  0.999    .
    900000 0.998   .
"""


@pytest.fixture
async def trade(house):
    """The house, with bitstamp's dollars and kraken's stable pair on its board."""
    trade = Trade(house)
    trade.seat("bitstamp", "BTC/USD", OWN_FEE_BPS)
    trade.seat("kraken", "USDT/USD", PAIR_FEE_BPS)
    return trade


class Trade:
    """What is shown on the two books that a converted price is made of."""

    def __init__(self, house):
        self.house = house

    def seat(self, venue, symbol, fee_bps):
        self.house.board.seat(venue, symbol, STALE_AFTER_MS, self.house.clock.now_ns())
        rules = Decimal("0.01"), Decimal("0.00000001"), None, None
        self.house.board.instruct(Instrument(venue, symbol, *rules, Decimal(str(fee_bps))))

    def show(self, own=BITSTAMP, stable=STABLE, *, pair="USDT/USD", age_ms=0, stable_age_ms=0):
        now_ns = self.house.clock.now_ns()
        for venue, symbol, ladder, age in (
            ("bitstamp", "BTC/USD", own, age_ms), ("kraken", pair, stable, stable_age_ms)
        ):  # fmt: skip
            received_at_ns = now_ns - age * 1_000_000
            book = venue_book(venue, ladder, symbol=symbol, received_at_ns=received_at_ns, sequence=9)
            self.house.board.publish(book, now_ns)

    async def quote(self, quantity, side, venues="bitstamp"):
        query = f"symbol=BTC/USDT&quantity={quantity}&side={side}&venues={venues}&fills=true"
        return (await self.house.quote(query)).json


def joint_fee(notional, side):
    """The fee on both trades, together, of what is paid or received before fees."""
    own, pair = OWN_FEE_BPS / 10_000, PAIR_FEE_BPS / 10_000
    # A buy pays dollars and their fee, bought with what is left of USDT after the pair's; a sell the other way round,
    # where the fee on the pair is paid on top of what the dollars buy.
    rate = (1 + own) / (1 - pair) - 1 if side == "buy" else 1 - (1 - own) / (1 + pair)
    return Fraction(ceil(notional * Fraction(ceil(rate * 10**10), 10**10) * 10**8), 10**8)


@SERVING
@pytest.mark.parametrize(
    ("side", "own_price", "stable_price", "price", "cost"),
    [
        # A quarter of what is lost between the stable pair's price and its mid, which is 1.
        ("buy", "63936", "0.999", "64000", "16"),
        ("sell", "63935.872", "1.001", "63872", "15.968"),
    ],
)
async def test_leg_and_fills_show_how_they_were_converted(trade, side, own_price, stable_price, price, cost):
    """
    A venue that trades in dollars is bought and sold at what its price comes to through the stable pair's own book.
    """
    trade.show(age_ms=10, stable_age_ms=30)
    message = await trade.quote("0.25", side)
    shown = message[side]
    [leg], [fill] = shown["legs"], shown["fills"]

    assert {
        "symbol": "USDT/USD", "side": "sell" if side == "buy" else "buy", "rate": stable_price, "age_ms": 30,
        "cost": cost,
    } == leg["conversion"]  # fmt: skip
    assert ("bitstamp", "BTC/USD", "0.25", "5", price, price) == tuple(
        leg[name] for name in ("venue", "symbol", "quantity", "fee_bps", "average_price", "worst_price")
    )
    assert {"symbol": "USDT/USD", "venue": "kraken", "price": stable_price, "own_price": own_price} == fill[
        "conversion"
    ]
    assert ("bitstamp", "BTC/USD", price, "0.25") == tuple(
        fill[name] for name in ("venue", "symbol", "price", "quantity")
    )
    assert joint_fee(Fraction(price) / 4, side) == Fraction(fill["fee"]) == Fraction(leg["fee"])
    assert ("BTC/USDT", "USDT") == (message["symbol"], message["quote_asset"])


@SERVING
async def test_waterfall_has_the_costs_of_conversion_on_a_line_of_their_own(trade):
    """
    What conversion costs against the stable pair's mid is its own line, in sum that of all legs, and lines add up.
    """
    trade.show(stable=THIN_STABLE)
    for side, sign in {"buy": 1, "sell": -1}.items():
        shown = (await trade.quote("2", side))[side]
        *steps, last = shown["waterfall"]
        line = next(Fraction(step["amount"]) for step in steps if step["step"] == "conversion")
        assert sign * line == sum(Fraction(leg["conversion"]["cost"]) for leg in shown["legs"]) > 0
        assert Fraction(last["amount"]) == Fraction(shown["total"]) == sum(Fraction(step["amount"]) for step in steps)
        # The stable pair's first price is enough for a tenth of a bitcoin only.
        assert (
            ["0.999", "0.998"]
            if side == "buy"
            else ["1.001", "1.002"] == list(dict.fromkeys(fill["conversion"]["price"] for fill in shown["fills"]))
        )


@SERVING
async def test_execution_shows_the_conversion_that_was_quoted(trade):
    """
    On the same books an order gets the quoted fills, conversions included, for the quoted total; so it is on record.
    """
    trade.show()
    for side in ("buy", "sell"):
        quoted = await trade.quote("1.1", side, venues="bitstamp,kraken")
        reply = await trade.house.execute({"quote_id": quoted["quote_id"], "client_order_id": side})
        executed = reply.json
        assert (201, quoted[side]["total"], "0") == (reply.status, executed["total"], executed["versus_quote_bps"])
        assert quoted[side]["fills"] == [
            {name: fill[name] for name in quoted[side]["fills"][0]} for fill in executed["fills"]
        ]
        converted = {fill["venue"]: fill["conversion"] is not None for fill in executed["fills"]}
        assert {"bitstamp": True, "kraken": False} == converted
        looked_up = (await trade.house.get(f"/v1/executions/{executed['execution_id']}")).json
        assert executed == without_realism(looked_up)


@SERVING
async def test_converted_venue_stands_in_the_symbols_book_at_converted_prices(trade):
    """
    The consolidated book shows what a converted level comes to, and the symbol's rules what the venue trades it as.
    """
    trade.show()
    book = (await trade.house.get("/v1/book?symbol=BTC/USDT&view=gross")).json
    symbols = (await trade.house.get("/v1/symbols")).json["symbols"]
    venues = (await trade.house.get("/v1/venues")).json["venues"]

    assert ["64000", "64016"] == [level["price"] for level in book["asks"] if level["venue"] == "bitstamp"]
    assert ["BTC/USDT", "ETH/USDT"] == [symbol["symbol"] for symbol in symbols]
    assert ("bitstamp", "BTC/USD") == tuple(symbols[0]["venues"][-1][name] for name in ("venue", "symbol"))
    shown = {venue["venue"]: [symbol["symbol"] for symbol in venue["symbols"]] for venue in venues}
    assert (["BTC/USD"], ["BTC/USDT", "ETH/USDT", "USDT/USD"]) == (shown["bitstamp"], shown["kraken"])


@SERVING
async def test_depth_counts_converted_levels_at_converted_prices(trade):
    """
    How far a converted level is from mid is told by what it comes to.
    """
    trade.show(own=". 63936 0.5\n0.5 63935 .")
    [band] = (await trade.house.get("/v1/depth?symbol=BTC/USDT&bps=9")).json["bands"]
    measured = {one["venue"]: (one["ask_quantity"], one["ask_notional"]) for one in band["venues"]}
    assert ("0.5", "32000") == measured["bitstamp"]


@SERVING
@pytest.mark.parametrize(
    ("stable", "stable_age_ms", "reason"),
    [
        # More than 100 bps from 1.
        (". 0.9895 60000\n60000 0.9885 .", 0, "depegged"),
        (STABLE, STALE_AFTER_MS + 1, "no_stable_pair"),
    ],
)
async def test_venue_that_cannot_be_converted_is_left_out_with_its_reason(trade, stable, stable_age_ms, reason):
    """
    Without a stable pair to go through a venue's dollars are not taken for USDT: it is not used.
    """
    trade.show(stable=stable, stable_age_ms=stable_age_ms)
    message = (await trade.house.quote("symbol=BTC/USDT&quantity=0.25")).json
    alone = await trade.house.quote("symbol=BTC/USDT&quantity=0.25&venues=bitstamp")

    [bitstamp] = [source for source in message["sources"] if source["venue"] == "bitstamp"]
    assert ("live", False, reason) == (bitstamp["state"], bitstamp["used"], bitstamp["reason"])
    assert (503, "no_fresh_market_data") == (alone.status, alone.code)
    assert reason in {source["reason"] for source in alone.json["sources"]}


@SERVING
async def test_venue_that_has_not_answered_yet_does_not_hide_the_stable_pair(trade):
    """
    A stable pair has one of two names; a venue of which nobody knows yet which it has takes it from nobody else.
    """
    house = trade.house
    house.board.unseat("kraken", "USDT/USD")
    trade.seat("kraken", "USD/USDT", PAIR_FEE_BPS)
    trade.show(stable=". 1.001 60000\n60000 0.999 .", pair="USD/USDT")
    assert 200 == (await house.quote("symbol=BTC/USDT&quantity=0.25&venues=bitstamp")).status

    house.board.seat("okx", "USDT/USD", STALE_AFTER_MS, house.clock.now_ns())
    house.board.seat("okx", "USD/USDT", STALE_AFTER_MS, house.clock.now_ns())
    assert 200 == (await house.quote("symbol=BTC/USDT&quantity=0.25&venues=bitstamp")).status


@SERVING
async def test_pair_that_only_serves_conversion_is_no_symbol_of_its_own(trade):
    """
    What is asked of venues for converting only is neither quoted nor listed, nor waited for.
    """
    assert "unknown_symbol" == (await trade.house.quote("symbol=USDT/USD&quantity=1")).code
    ready = await trade.house.get("/readyz", key=None)
    assert (200, ["BTC/USDT", "ETH/USDT"]) == (ready.status, [entry["symbol"] for entry in ready.json["symbols"]])
