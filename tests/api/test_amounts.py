"""How much is asked for: a quantity, a total or a slippage; and amounts that no venue would accept."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from tests.api.conftest import LADDERS, without_realism

UNIT = Fraction(1, 10**8)
MID = (Fraction("64009") + Fraction("64001.5")) / 2
THIN = {
    ("kraken", "BTC/USDT"): "0.3 64000 .\n. 64010 0.25",
    ("coinbase", "BTC/USDT"): "0.4 64001 .\n. 64011 0.5",
    ("okx", "BTC/USDT"): "0.1 63999 .\n. 64009 0.1",
}
WHOLE_BOOK = {
    side: sum(
        Fraction(line.split()[at])
        for (_, symbol), drawn in LADDERS.items()
        if symbol == "BTC/USDT"
        for line in drawn.strip().splitlines()
        if line.split()[at] != "."
    )
    for side, at in {"buy": 2, "sell": 0}.items()
}


async def side_of(house, side, amount, **options):
    """Quote one side of BTC/USDT; *amount* and what follows is a part of the query."""
    return (await house.quote(f"symbol=BTC/USDT&side={side}&{amount}", **options)).json[side]


# GET /quote with a total


@pytest.mark.parametrize(
    ("side", "total", "quantity", "comes_to"),
    [
        # okx asks 64009 for 0.1: with a fee of 10 bps and a markup of 2 bps one costs 64085.8108 ...
        ("buy", "64.0858108", "0.001", "64.0858108"),
        ("buy", "64.08581079", "0.00099999", "64.08516995"),
        # ... and what money has no place for is cut.
        ("buy", "64.085810799999", "0.00099999", "64.08516995"),
        # It bids 63999: one brings 63922.2012.
        ("sell", "63.9222012", "0.001", "63.9222012"),
        ("sell", "63.9222011", "0.00099999", "63.92156196"),
    ],
)
async def test_total_is_answered_by_the_largest_quantity_that_comes_to_no_more(house, side, total, quantity, comes_to):
    """
    Whoever has so much to spend, or wants so much and no more, is quoted the quantity for it, fees and markup included.
    """
    message = (await house.quote(f"symbol=BTC/USDT&side={side}&total={total}")).json
    shown = message[side]
    assert (True, quantity, "0", comes_to) == tuple(
        shown[name] for name in ("fillable", "quantity", "shortfall", "total")
    )
    assert {"total": total[: total.index(".") + 9], "side": side} == message["requested"]
    assert [] == message["warnings"]


@pytest.mark.parametrize("total", ["1", "99.99", "6400", "64000.12345678", "250000"])
async def test_quote_for_a_total_is_the_quote_of_its_quantity(house, total):
    """
    Asking for the quantity that a total was answered with gives the same numbers, and one step more costs too much.
    """
    both = (await house.quote(f"symbol=BTC/USDT&total={total}")).json
    for side in ("buy", "sell"):
        shown = both[side]
        assert shown == await side_of(house, side, f"quantity={shown['quantity']}")
        more = await side_of(house, side, f"quantity={Decimal(shown['quantity']) + Decimal('1e-8'):f}")
        assert Fraction(shown["total"]) <= Fraction(total) < Fraction(more["total"])


async def test_total_that_is_more_than_there_is_is_thin(house):
    """
    What the books do not give is shortfall, and for a total that is money.
    """
    house.show(THIN)
    for side, quantity in {"buy": "0.85", "sell": "0.8"}.items():
        message = (await house.quote(f"symbol=BTC/USDT&side={side}&total=1000000")).json
        assert (False, quantity) == (message[side]["fillable"], message[side]["quantity"])
        assert 1_000_000 == Fraction(message[side]["total"]) + Fraction(message[side]["shortfall"])
        assert [{"code": "thin"}] == message["warnings"]


async def test_total_stops_at_a_limit(house):
    """
    A total spends nothing at prices that are worse than its limit.
    """
    shown = await side_of(house, "buy", "total=1000000&limit_price=64010.1")
    assert (False, "0.35", "64010.1") == tuple(shown[name] for name in ("fillable", "quantity", "worst_price"))
    assert 1_000_000 == Fraction(shown["total"]) + Fraction(shown["shortfall"])


# okx shows less than kraken takes as an order: nothing can be had between the two.
GAP = {("kraken", "BTC/USDT"): "1 64000 .\n. 64010 1", ("okx", "BTC/USDT"): "0.00005 63999 .\n. 64009 0.00005"}


@pytest.mark.parametrize(
    ("ladders", "query", "quantity"),
    [
        # The limit leaves okx out, which takes smaller orders and in finer steps than kraken, the only one left.
        ({}, "side=sell&venues=kraken,okx&limit_price=64000&total=10000", "0.15668"),
        ({}, "side=sell&venues=kraken,okx&limit_price=64000&total=6.4", "0.0001"),
        (GAP, "side=buy&venues=kraken,okx&total=6.5", "0.0001"),
        (GAP, "side=buy&venues=kraken,okx&total=7.8", "0.00012155"),
    ],
)
async def test_quantity_that_cannot_be_had_does_not_hide_a_larger_one_that_can(house, ladders, query, quantity):
    """
    A total is spent as far as venues' steps and minimums let it, whatever smaller quantities they refuse on the way.
    """
    house.show({**LADDERS, **ladders})
    reply = await house.quote(f"symbol=BTC/USDT&{query}")
    assert 200 == reply.status, reply.json.get("errors")
    shown = reply.json["buy"] or reply.json["sell"]
    assert (True, quantity) == (shown["fillable"], shown["quantity"])


# GET /quote with a slippage


@pytest.mark.parametrize(
    ("side", "bound"), [("buy", "0.6"), ("buy", "1"), ("buy", "2.5"), ("sell", "1"), ("sell", "3.000000000001")]
)
async def test_slippage_is_answered_by_the_largest_quantity_within_it(house, side, bound):
    """
    The quantity quoted moves the price as far as was allowed, and one step more would move it further.
    """

    def slippage_bps(shown):
        notional = sum(Fraction(fill["price"]) * Fraction(fill["quantity"]) for fill in shown["fills"])
        average = notional / Fraction(shown["quantity"])
        return (average - MID if side == "buy" else MID - average) / MID * 10_000

    message = (await house.quote(f"symbol=BTC/USDT&slippage_bps_max={bound}&fills=true")).json
    assert {"slippage_bps_max": bound, "side": "both"} == message["requested"]
    shown = message[side]
    more = await side_of(house, side, f"quantity={Decimal(shown['quantity']) + Decimal('1e-8'):f}&fills=true")
    assert slippage_bps(shown) <= Fraction(bound) < slippage_bps(more)
    assert (True, "0") == (shown["fillable"], shown["shortfall"])
    assert shown == await side_of(house, side, f"quantity={shown['quantity']}&fills=true")


async def test_slippage_wider_than_the_book_takes_all_of_it(house):
    """
    Who allows any price is quoted everything there is, and nothing is missing.
    """
    message = (await house.quote("symbol=BTC/USDT&slippage_bps_max=9999")).json
    for side in ("buy", "sell"):
        assert (WHOLE_BOOK[side], True, "0") == (
            Fraction(message[side]["quantity"]), message[side]["fillable"], message[side]["shortfall"],
        )  # fmt: skip


@pytest.mark.parametrize("bound", ["0", "0.1"])
async def test_slippage_that_the_best_price_breaks_is_answered_with_nothing(house, bound):
    """
    Where even the best level is further from mid than allowed, nothing can be had.
    """
    message = (await house.quote(f"symbol=BTC/USDT&slippage_bps_max={bound}")).json
    for side in ("buy", "sell"):
        assert (False, "0", "0", None, []) == tuple(
            message[side][name] for name in ("fillable", "quantity", "total", "average_price", "legs")
        )
    reply = await house.execute({"quote_id": message["quote_id"], "side": "buy", "client_order_id": "a"})
    assert "insufficient_liquidity" == reply.code


# One of the three


@pytest.mark.parametrize(
    ("amounts", "faults"),
    [
        ("", [("quantity", "missing_parameter")]),
        ("limit_price=1&side=buy", [("quantity", "missing_parameter")]),
        ("quantity=1&total=1", [("total", "conflicting_parameters")]),
        ("quantity=1&slippage_bps_max=1", [("slippage_bps_max", "conflicting_parameters")]),
        ("total=1&slippage_bps_max=1", [("slippage_bps_max", "conflicting_parameters")]),
        (
            "quantity=1&total=1&slippage_bps_max=1",
            [("slippage_bps_max", "conflicting_parameters"), ("total", "conflicting_parameters")],
        ),
        # Also where one of them is wrong for itself.
        ("quantity=x&total=1", [("quantity", "invalid_parameter"), ("total", "conflicting_parameters")]),
        ("total=0&slippage_bps_max=-1", [("slippage_bps_max", "invalid_parameter"), ("total", "invalid_parameter"),
                                         ("slippage_bps_max", "conflicting_parameters")]),
        ("total=1&total=2", [("total", "duplicate_field")]),
    ],
)  # fmt: skip
async def test_quote_asks_for_exactly_one_amount(house, amounts, faults):
    """
    A quantity, a total or a slippage: without one there is no question, and with two there are two.
    """
    reply = await house.quote(f"symbol=BTC/USDT&{amounts}")
    assert (400, faults) == (reply.status, reply.faults)


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"quantity": None}, [("/quantity", "missing_parameter")]),
        # A bound alone is no amount of an order.
        ({"quantity": None, "slippage_bps_max": "5"}, [("/quantity", "missing_parameter")]),
        ({"total": "5"}, [("/total", "conflicting_parameters")]),
        ({"quantity": "x", "total": "5"}, [("/quantity", "invalid_parameter"), ("/total", "conflicting_parameters")]),
        ({"quantity": None, "total": "0"}, [("/total", "invalid_parameter")]),
        ({"quantity": None, "total": 5}, [("/total", "invalid_parameter")]),
    ],
)
async def test_order_asks_for_exactly_one_amount(house, fields, faults):
    """
    A direct order is for a quantity or for a total.
    """
    body = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a", **fields}
    reply = await house.execute({name: value for name, value in body.items() if value is not None})
    assert (400, faults) == (reply.status, reply.faults)


async def test_order_on_a_quote_has_no_total_of_its_own(house):
    """
    How much is filled was settled when it was quoted.
    """
    quoted = (await house.quote("symbol=BTC/USDT&side=buy&total=1000")).json["quote_id"]
    reply = await house.execute({"quote_id": quoted, "client_order_id": "a", "total": "1000"})
    assert [("/total", "conflicting_parameters")] == reply.faults


# POST /execute with a total, and on a quote that was made with one


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_order_for_a_total_gets_what_was_quoted_for_it(house, side):
    """
    An order for a total is filled with the quantity that the same total is quoted, and says what was asked.
    """
    quoted = await side_of(house, side, "total=20000&fills=true")
    executed = (await house.buy(side=side, quantity=None, total="20000")).json

    assert ("filled", None, "20000", "0") == tuple(
        executed[name] for name in ("status", "requested_quantity", "requested_total", "unfilled_quantity")
    )
    assert quoted["quantity"] == executed["filled_quantity"]
    for name in ("average_price", "all_in_price", "subtotal", "fees", "markup", "total"):
        assert quoted[name] == executed[name]
    assert quoted["fills"] == [{name: fill[name] for name in quoted["fills"][0]} for fill in executed["fills"]]
    assert executed == without_realism((await house.get("/v1/executions/by-client-id/a")).json)


async def test_order_for_more_than_there_is_fills_in_part_or_not_at_all(house):
    """
    FOK spends all of a total or nothing; IOC what the books take, and nobody knows what the rest would have bought.
    """
    house.show(THIN)
    refused = await house.buy("fok", quantity=None, total="1000000")
    partly = (await house.buy("ioc", quantity=None, total="1000000", time_in_force="ioc")).json
    on_record = (await house.get(f"/v1/executions/{refused.json['execution_id']}")).json

    assert "insufficient_liquidity" == refused.code
    assert ("rejected", "1000000", None, "0", None) == tuple(
        on_record[name]
        for name in ("status", "requested_total", "requested_quantity", "filled_quantity", "unfilled_quantity")
    )
    assert ("partially_filled", "1000000", None, "0.85", None) == tuple(
        partly[name]
        for name in ("status", "requested_total", "requested_quantity", "filled_quantity", "unfilled_quantity")
    )


async def test_order_for_a_total_keeps_within_its_bounds(house):
    """
    Limit and slippage hold for an order for a total as for any other.
    """
    limited = await house.buy("a", quantity=None, total="1000000", limit_price="64010.1")
    bounded = await house.buy("b", quantity=None, total="1000000", slippage_bps_max="1")
    partly = (await house.buy("c", quantity=None, total="1000000", limit_price="64010.1", time_in_force="ioc")).json

    assert ["limit_not_met", "slippage_exceeded"] == [limited.code, bounded.code]
    assert ("partially_filled", "0.35") == (partly["status"], partly["filled_quantity"])


@pytest.mark.parametrize("amount", ["total=5000", "slippage_bps_max=1", "quantity=0.08"])
@pytest.mark.parametrize("okx", [LADDERS["okx", "BTC/USDT"], "6 64000 .\n. 64001 6"], ids=["same", "better"])
async def test_order_on_a_quote_fills_exactly_the_quantity_that_was_quoted(house, amount, okx):
    """
    However the quote was asked for, its quantity is filled, for its total or less: a better price does not buy more.
    """
    quoted = (await house.quote(f"symbol=BTC/USDT&side=buy&{amount}")).json
    house.show({("okx", "BTC/USDT"): okx})
    executed = (await house.execute({"quote_id": quoted["quote_id"], "client_order_id": "a"})).json

    quantity = quoted["buy"]["quantity"]
    assert ("filled", quantity, quantity, None, "0") == tuple(
        executed[name]
        for name in ("status", "filled_quantity", "requested_quantity", "requested_total", "unfilled_quantity")
    )
    improvement = Fraction(executed["total"]) - Fraction(quoted["buy"]["total"])
    assert improvement <= 0
    assert (improvement < 0) == (Fraction(executed["versus_quote_bps"]) < 0) == (okx != LADDERS["okx", "BTC/USDT"])


async def test_quote_for_a_total_that_is_not_there_cannot_be_executed(house):
    """
    A quote that fell short of its total stays one, though the books have grown since.
    """
    house.show(THIN)
    quoted = (await house.quote("symbol=BTC/USDT&side=buy&total=100000")).json["quote_id"]
    house.show()
    reply = await house.execute({"quote_id": quoted, "client_order_id": "a"})

    assert "insufficient_liquidity" == reply.code
    assert {"total": "100000", "side": "buy"} == reply.json["fresh_quote"]["requested"]
    assert True is reply.json["fresh_quote"]["buy"]["fillable"]


# What no venue would accept


@pytest.mark.parametrize(
    ("symbol", "amounts", "faults"),
    [
        # okx takes steps of 0.00000001 and at least 0.00001, kraken and coinbase 0.00001.
        ("BTC/USDT", {"quantity": "1.000000001"}, [("quantity", "quantity_step", "1")]),
        ("BTC/USDT", {"quantity": "0.123456789999"}, [("quantity", "quantity_step", "0.12345678")]),
        ("BTC/USDT", {"quantity": "0.00000999"}, [("quantity", "quantity_too_small", "0.00001")]),
        (
            "BTC/USDT",
            {"quantity": "0.000000000001"},
            [("quantity", "quantity_step", "0.00001"), ("quantity", "quantity_too_small", "0.00001")],
        ),
        # Of ETH/USDT no venue takes an order worth less than 5.
        ("ETH/USDT", {"quantity": "1.000001"}, [("quantity", "quantity_step", "1")]),
        ("ETH/USDT", {"quantity": "0.00199"}, [("quantity", "notional_too_small", "0.002")]),
        ("ETH/USDT", {"quantity": "0.000001"}, [("quantity", "quantity_step", "0.002"),
                                                ("quantity", "quantity_too_small", "0.002")]),
        # 0.00001 of okx cost 0.640858108 with fee and markup, each rounded up.
        ("BTC/USDT", {"total": "0.64085810"}, [("total", "notional_too_small", "0.64085811")]),
        ("BTC/USDT", {"total": "0.000000000001"}, [("total", "notional_too_small", "0.64085811")]),
        ("ETH/USDT", {"total": "5"}, [("total", "notional_too_small", "5.0150028")]),
    ],
)  # fmt: skip
async def test_amount_that_no_venue_accepts_is_refused_with_one_that_would_do(house, symbol, amounts, faults):
    """
    Too fine, too small or too cheap: a quote names the parameter, an order points to the field, and what both
    suggest is quoted and filled.
    """
    [(name, amount)] = amounts.items()
    quoted = await house.quote(f"symbol={symbol}&side=buy&{name}={amount}")
    ordered = await house.buy(**{"symbol": symbol, "quantity": None, name: amount})
    for reply, kind, prefix in ((quoted, "parameter", ""), (ordered, "pointer", "/")):
        assert (422, faults[0][1]) == (reply.status, reply.code)
        assert [(prefix + where, code, suggested) for where, code, suggested in faults] == [
            (fault[kind], fault["code"], fault["suggested"]) for fault in reply.json["errors"]
        ]
    assert [] == (await house.get("/v1/executions")).json["executions"]

    suggested = faults[0][2]
    assert True is (await house.quote(f"symbol={symbol}&side=buy&{name}={suggested}")).json["buy"]["fillable"]
    assert 201 == (await house.buy(**{"symbol": symbol, "quantity": None, name: suggested})).status


async def test_both_sides_of_a_quote_are_refused_with_what_both_accept(house):
    """
    A sell brings less than a buy costs: what is suggested for both is worth enough on either side.
    """
    [fault] = (await house.quote("symbol=ETH/USDT&quantity=0.001")).json["errors"]
    message = (await house.quote(f"symbol=ETH/USDT&quantity={fault['suggested']}")).json
    assert "notional_too_small" == fault["code"]
    assert (True, True) == (message["buy"]["fillable"], message["sell"]["fillable"])


async def test_total_too_small_on_both_sides_is_one_fault(house):
    """
    A total of which neither side gets anything is told once, with one that does on both.
    """
    [fault] = (await house.quote("symbol=BTC/USDT&total=0.5")).json["errors"]
    message = (await house.quote(f"symbol=BTC/USDT&total={fault['suggested']}")).json
    assert (True, True) == (message["buy"]["fillable"], message["sell"]["fillable"])


async def test_total_suggested_keeps_the_limit(house):
    """
    What is suggested is accepted with the same limit, or nothing is suggested.
    """
    query = "symbol=BTC/USDT&side=sell&venues=kraken,okx&limit_price=64000"
    [fault] = (await house.quote(f"{query}&total=0.5")).json["errors"]
    assert "notional_too_small" == fault["code"]
    if "suggested" in fault:
        assert 200 == (await house.quote(f"{query}&total={fault['suggested']}")).status


async def test_step_is_that_of_the_venues_asked(house):
    """
    A quantity is as fine as the finest venue that is used takes it.
    """
    [fault] = (await house.quote("symbol=BTC/USDT&quantity=0.123456&exclude_venues=okx")).json["errors"]
    assert ("quantity", "quantity_step", "0.12345") == (fault["parameter"], fault["code"], fault["suggested"])
    assert "must be a multiple of 0.00001" == fault["detail"]
    assert 200 == (await house.quote("symbol=BTC/USDT&quantity=0.123456")).status


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_every_venue_is_given_a_quantity_that_it_would_accept(house, side):
    """
    What the fine venue cannot give alone is shared out in the steps of the others, and nothing of it is lost.
    """
    steps = {"kraken": Fraction(1, 10**5), "coinbase": Fraction(1, 10**5), "okx": UNIT}
    quantity = Fraction("6.12345678")
    shown = await side_of(house, side, "quantity=6.12345678")
    assert (True, quantity) == (shown["fillable"], sum(Fraction(leg["quantity"]) for leg in shown["legs"]))
    assert len(shown["legs"]) > 1
    for leg in shown["legs"]:
        assert Fraction(leg["quantity"]) % steps[leg["venue"]] == 0, leg["venue"]


async def test_what_is_there_but_accepted_by_no_venue_is_said(house):
    """
    Where there is enough, but some of it is less than its venue takes as an order, the answer says so.
    """
    house.show({
        ("kraken", "BTC/USDT"): "0.00005 64000 .\n. 64010 0.00005",
        ("coinbase", "BTC/USDT"): "0.1 64001 .\n. 64011 0.1",
    })  # fmt: skip
    message = (await house.quote("symbol=BTC/USDT&side=buy&quantity=0.10005&venues=kraken,coinbase")).json
    assert ("0.1", "0.00005", ["coinbase"]) == (
        message["buy"]["quantity"], message["buy"]["shortfall"], [leg["venue"] for leg in message["buy"]["legs"]],
    )  # fmt: skip
    assert [{"code": "thin"}, {"code": "unroutable"}] == message["warnings"]


# The desk's margin


@pytest.mark.parametrize(
    "house", [{"pricing": {"markup_bps": 2, "account_markup_bps": {"bob": "12.5", "eve": 0}}}], indirect=True
)
async def test_account_with_a_margin_of_its_own_is_quoted_and_filled_with_it(house):
    """
    Bob pays his own margin on quotes and fills, and everybody else the desk's; the rest of the price is the same.
    """
    for key, margin_bps in {"all": Fraction(2), "bob": Fraction("12.5")}.items():
        shown = await side_of(house, "buy", "quantity=0.05", key=key)
        executed = (
            await house.execute(
                {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.05", "client_order_id": "a"}, key=key
            )
        ).json
        assert ("3200.45", "3.20045") == (shown["subtotal"], shown["fees"])
        assert Fraction("3200.45") * margin_bps / 10_000 == Fraction(shown["markup"]) == Fraction(executed["markup"])
        assert shown["total"] == executed["total"]
        assert shown["markup"] == next(step["amount"] for step in shown["waterfall"] if step["step"] == "markup")


# The log


async def test_line_of_an_order_for_a_total_says_so(house):
    """
    A line tells what was asked for: a total where it was a total, the quantity where it had been quoted.
    """
    await house.buy("a", quantity=None, total="1000.10")
    quoted = (await house.quote("symbol=BTC/USDT&side=buy&total=1000.10")).json
    await house.execute({"quote_id": quoted["quote_id"], "client_order_id": "b"})
    await house.quote("symbol=BTC/USDT&side=buy&slippage_bps_max=1")
    direct, quote, on_quote, slippage = house.lines("request")

    assert [("1000.1", False)] * 2 == [(line["total"], "quantity" in line) for line in (direct, quote)]
    assert (quoted["buy"]["quantity"], False) == (on_quote["quantity"], "total" in on_quote)
    assert on_quote["quantity"] == on_quote["filled"] == direct["filled"]
    assert {"quantity", "total"}.isdisjoint(slippage)
