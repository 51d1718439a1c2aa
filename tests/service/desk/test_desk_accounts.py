"""Balances, positions, double entry and limits of risk, as tables and laws."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.book import Side, units
from service.accounting import money_text
from service.desk.accounts import (
    AMOUNT_MAX,
    QUANTITY_PER_AMOUNT,
    AmountTooLarge,
    Balance,
    Entry,
    Holdings,
    Position,
    RiskLimits,
    deposit,
    settlement,
)
from service.desk.execution import ExecutedFill
from tests.service.shown import money

BUY, SELL = Side.BUY, Side.SELL


def bought(numbers):
    """A position as it is after "quantity for total" each, a sell's quantity negative."""
    position = Position()
    for trade in filter(None, numbers.split(", ")):
        quantity, total = trade.split(" for ")
        side = SELL if quantity.startswith("-") else BUY
        position = position.after(side, money(quantity.lstrip("-")), money(total))
    return position


def drawn(position):
    quantity, cost, realised = map(money_text, position)
    return f"{quantity} for {cost}, {realised} made"


def fill(venue="kraken", quantity="1", subtotal="100", fee="0.1", markup="0"):
    return ExecutedFill(
        venue, "BTC/USDT", units(Decimal(100)), units(Decimal(quantity)), money(subtotal), money(fee), money(markup),
        5, None, None,
    )  # fmt: skip


def lines(entries):
    return [f"{entry.account} {money_text(entry.amount)} {entry.asset}" for entry in entries]


# Positions


@pytest.mark.parametrize(
    ("trades", "expected"),
    [
        ("", "0 for 0, 0 made"),
        ("1 for 100", "1 for 100, 0 made"),
        # What is added is averaged; what is sold takes its share of the cost with it.
        ("1 for 100, 1 for 110", "2 for 210, 0 made"),
        ("1 for 100, 1 for 110, -1 for 120", "1 for 105, 15 made"),
        ("1 for 100, 1 for 110, -1 for 120, -1 for 90", "0 for 0, 0 made"),
        ("2 for 200, -0.5 for 55, 0.5 for 60", "2 for 210, 5 made"),
        # Short: what was received is its cost, with the quantity's sign.
        ("-1 for 100", "-1 for -100, 0 made"),
        ("-1 for 100, -1 for 110", "-2 for -210, 0 made"),
        ("-2 for 210, 1 for 95", "-1 for -105, 10 made"),
        ("-1 for 100, 1 for 130", "0 for 0, -30 made"),
        # Through zero: the part that closes is settled, the rest begins at its own price.
        ("1 for 100, -3 for 330", "-2 for -220, 10 made"),
        ("-1 for 100, 3 for 270", "2 for 180, 10 made"),
        # A cost that does not divide is rounded half-even and loses nothing.
        ("3 for 100, -1 for 40", "2 for 66.66666667, 6.66666667 made"),
        ("3 for 100, -1 for 40, -2 for 80", "0 for 0, 20 made"),
        ("-3 for 100, 1 for 40", "-2 for -66.66666667, -6.66666667 made"),
        # Dust whose fee is more than it brings.
        ("0.00000001 for 0.00000002, -0.00000001 for -0.00000001", "0 for 0, -0.00000003 made"),
    ],
)
def test_a_position_is_kept_at_average_cost(trades, expected):
    """
    A position costs what was paid for it, on average; what is closed makes the difference to that.
    """
    assert expected == drawn(bought(trades))


@pytest.mark.parametrize(
    ("trades", "mid", "expected"),
    [
        ("1 for 101.1", "100", "-1.1"),
        ("2 for 200", "110", "20"),
        ("-2 for 200", "110", "-20"),
        ("-2 for 200", "90.5", "19"),
        ("1 for 100, -1 for 110", "500", "0"),
        # Half-even at the eighth decimal.
        ("0.00000001 for 0", "0.5", "0"),
        ("0.00000001 for 0", "1.5", "0.00000002"),
        ("0.00000001 for 0", "0.50000001", "0.00000001"),
    ],
)
def test_unrealised_pnl_is_what_closing_at_mid_would_bring(trades, mid, expected):
    """
    At mid a position is worth its quantity times mid, and has cost what it has cost.
    """
    assert expected == money_text(bought(trades).unrealised_pnl(2 * units(Decimal(mid))))


AMOUNTS = st.integers(1, 10**15)
TRADES = st.lists(st.tuples(st.sampled_from([BUY, SELL]), AMOUNTS, AMOUNTS), max_size=8)


@given(TRADES)
def test_a_position_that_is_flat_again_has_cost_nothing_and_made_what_came_in(trades):
    """
    Whatever way it went, what is bought and sold to nothing has cost 0 and made what was received less what was paid.
    """
    position, received = Position(), 0
    for side, quantity, total in trades:
        position = position.after(side, quantity, total)
        received += total if side is SELL else -total
    if position.quantity:
        side, total = (SELL if position.quantity > 0 else BUY), 12_345
        received += total if side is SELL else -total
        position = position.after(side, abs(position.quantity), total)

    assert Position(0, 0, received) == position


@given(TRADES)
def test_cost_and_profit_never_lose_a_unit(trades):
    """
    At every moment what was paid, less what was received, is what is left of the cost less what was made.
    """
    position, paid = Position(), 0
    for side, quantity, total in trades:
        position = position.after(side, quantity, total)
        paid += total if side is BUY else -total
        assert paid == position.cost - position.realised_pnl
        assert position.quantity * position.cost >= 0


@given(TRADES)
def test_the_average_cost_is_that_of_fractions_but_for_rounding(trades):
    """
    Each trade rounds by half a unit at most: so far is the cost from the one in exact fractions, and no further.
    """
    position, quantity, cost = Position(), Fraction(0), Fraction(0)
    for side, moved, total in trades:
        sign = 1 if side is BUY else -1
        position = position.after(side, moved, total)
        closed = 0 if quantity * sign >= 0 else min(moved, abs(quantity))
        cost -= cost * closed / abs(quantity) if closed else 0
        cost += sign * (moved - closed) * Fraction(total, moved)
        quantity += sign * moved

    assert quantity == position.quantity
    assert abs(position.cost - cost) <= len(trades)


# Entries


@pytest.mark.parametrize(
    ("side", "fills", "expected"),
    [
        (
            BUY,
            [fill("kraken", "1", "101", "0.101", "1.01")],
            ["alice 1 BTC", "alice -102.111 USDT", "desk:markup 1.01 USDT",
             "venue:kraken -1 BTC", "venue:kraken 101 USDT", "fees:kraken 0.101 USDT"],
        ),
        (
            SELL,
            [fill("kraken", "1", "99", "0.099", "0.99")],
            ["alice -1 BTC", "alice 97.911 USDT", "desk:markup 0.99 USDT",
             "venue:kraken 1 BTC", "venue:kraken -99 USDT", "fees:kraken 0.099 USDT"],
        ),
        # One line per venue, whatever it took; none of nothing.
        (
            BUY,
            [fill("kraken", "1", "101", "0"), fill("coinbase", "2", "204", "0.4"), fill("kraken", "0.5", "51", "0")],
            ["alice 3.5 BTC", "alice -356.4 USDT", "venue:kraken -1.5 BTC", "venue:kraken 152 USDT",
             "venue:coinbase -2 BTC", "venue:coinbase 204 USDT", "fees:coinbase 0.4 USDT"],
        ),
        # What two levels give in parts of the last digit is whole together.
        (
            BUY,
            [fill("kraken", "0.499999995", "50", "0"), fill("kraken", "0.3", "30", "0"),
             fill("coinbase", "0.570000005", "57", "0")],
            ["alice 1.37 BTC", "alice -137 USDT", "venue:kraken -0.79999999 BTC", "venue:kraken 80 USDT",
             "venue:coinbase -0.57000001 BTC", "venue:coinbase 57 USDT"],
        ),
        # Dust that brings nothing costs its fee.
        (
            SELL,
            [fill("kraken", "0.00000001", "0", "0.00000001")],
            ["alice -0.00000001 BTC", "alice -0.00000001 USDT", "venue:kraken 0.00000001 BTC",
             "fees:kraken 0.00000001 USDT"],
        ),
        (BUY, [], []),
    ],
)  # fmt: skip
def test_a_fill_is_settled_between_client_venue_fees_and_margin(side, fills, expected):
    """
    The client's lines come first; what is paid goes to the venue, its fees and the desk's margin.
    """
    assert expected == lines(settlement("alice", "BTC/USDT", side, fills))


FILLS = st.lists(
    st.builds(
        lambda venue, quantity, subtotal, fee, markup: ExecutedFill(
            venue, "BTC/USDT", 10**20, quantity, subtotal, fee, markup, 5, None, None
        ),
        st.sampled_from(["kraken", "coinbase", "okx"]),
        st.integers(1, 10**25),
        st.integers(0, 10**15),
        st.integers(0, 10**12),
        st.integers(0, 10**12),
    ),
    max_size=8,
)


@given(st.sampled_from([BUY, SELL]), FILLS)
def test_entries_sum_to_zero_per_asset(side, fills):
    """
    Nothing comes from nowhere: what the client gets in each asset the others give, and the client pays the total; what
    levels give in parts of a hundred-millionth is rounded once, for all of it.
    """
    entries = settlement("alice", "BTC/USDT", side, fills)
    sums = Counter()
    for entry in entries:
        assert entry.amount
        sums[entry.asset] += entry.amount
    own = {entry.asset: entry.amount for entry in entries if entry.account == "alice"}
    sign = 1 if side is BUY else -1
    costs = sum(fill.fee + fill.markup for fill in fills)

    assert {0} >= set(sums.values())
    assert sign * (sum(fill.quantity for fill in fills) // QUANTITY_PER_AMOUNT) == own.get("BTC", 0)
    assert -sign * sum(fill.subtotal for fill in fills) - costs == own.get("USDT", 0)
    assert len(entries) == len({(entry.account, entry.asset) for entry in entries})


def test_what_is_deposited_comes_from_the_desks_own_account():
    """
    A deposit's other side is the desk's, a negative one goes back there, and none of nothing is written.
    """
    entries = deposit("alice", {"USDT": money(5), "BTC": money(-2), "ETH": 0})

    assert ["alice 5 USDT", "desk:deposits -5 USDT", "alice -2 BTC", "desk:deposits 2 BTC"] == lines(entries)


# Holdings


def test_holdings_follow_the_entries_that_are_the_accounts_own():
    """
    An account has what its entries come to; what is held of it is not available, and nobody else's entries matter.
    """
    entries = [
        Entry("alice", "USDT", 7),
        Entry("bob", "USDT", 50),
        Entry("alice", "USDT", -3),
        Entry("alice", "BTC", 1),
    ]
    before = Holdings().with_held("USDT", 3)
    after = before.with_entries("alice", entries)

    assert {"USDT": Balance(4, 3), "BTC": Balance(1, 0)} == after.balances
    assert (1, 1, 0) == tuple(after.balance(asset).available for asset in ("USDT", "BTC", "ETH"))
    assert Balance(4, 0) == after.with_held("USDT", -3).balance("USDT")
    # A value: nothing is edited in place.
    assert {"USDT": Balance(0, 3)} == before.balances


def test_a_fill_is_in_the_position_and_in_the_days_turnover():
    """
    Bought or sold, the turnover of a quote asset grows by the notional; each symbol has its own position.
    """
    holdings = (
        Holdings()
        .with_fill("BTC/USDT", BUY, 2, 200, 201)
        .with_fill("ETH/USDT", SELL, 3, 30, 29)
        .with_fill("ETH/BTC", BUY, 5, 50, 51)
    )

    assert {"USDT": 230, "BTC": 50} == holdings.turnover
    assert (Position(2, 201), Position(-3, -29), Position(5, 51), Position()) == tuple(
        holdings.position(symbol) for symbol in ("BTC/USDT", "ETH/USDT", "ETH/BTC", "XRP/USDT")
    )
    assert {} == holdings.balances


@given(st.integers(-AMOUNT_MAX, AMOUNT_MAX), st.integers(-AMOUNT_MAX, AMOUNT_MAX))
def test_a_balance_is_exact_or_refused(total, amount):
    """
    What a ledger cannot hold is refused and never cut.
    """
    before = Holdings({"USDT": Balance(total)})
    if abs(total + amount) <= AMOUNT_MAX:
        assert total + amount == before.with_entries("alice", [Entry("alice", "USDT", amount)]).balance("USDT").total
    else:
        with pytest.raises(AmountTooLarge):
            before.with_entries("alice", [Entry("alice", "USDT", amount)])


@pytest.mark.parametrize(
    ("holdings", "fill"),
    [
        (Holdings(positions={"BTC/USDT": Position(AMOUNT_MAX)}), (BUY, 1, 1, 1)),
        (Holdings(positions={"BTC/USDT": Position(-AMOUNT_MAX)}), (SELL, 1, 1, 1)),
        (Holdings(positions={"BTC/USDT": Position(1, AMOUNT_MAX)}), (BUY, 1, 1, 1)),
        (Holdings(positions={"BTC/USDT": Position(1, 0, AMOUNT_MAX)}), (SELL, 1, 1, 1)),
        (Holdings(turnover={"USDT": AMOUNT_MAX}), (BUY, 1, 1, 1)),
    ],
)
def test_a_position_or_turnover_that_would_not_fit_is_refused(holdings, fill):
    """
    Quantity, cost, profit and turnover each fit into a ledger's integers, or the fill is refused.
    """
    side, quantity, subtotal, total = fill
    with pytest.raises(AmountTooLarge):
        holdings.with_fill("BTC/USDT", side, quantity, subtotal, total)


@pytest.mark.parametrize(("subtotal", "fits"), [(AMOUNT_MAX, True), (AMOUNT_MAX + 1, False)])
def test_an_entry_that_would_not_fit_is_refused(subtotal, fits):
    """
    An amount of 2**63 - 1 can be written, one more cannot, and it is not cut.
    """
    large = ExecutedFill("kraken", "BTC/USDT", 10**20, QUANTITY_PER_AMOUNT, subtotal, 0, 0, 5, None, None)
    if fits:
        assert Entry("venue:kraken", "USDT", AMOUNT_MAX) in settlement("alice", "BTC/USDT", BUY, [large])
    else:
        with pytest.raises(AmountTooLarge):
            settlement("alice", "BTC/USDT", BUY, [large])


# Risk

NONE = RiskLimits()


@pytest.mark.parametrize(
    ("limits", "before", "trade", "broken"),
    [
        (NONE, "", "99 for 9900", False),
        (RiskLimits(trading_enabled=False), "", "1 for 100", True),
        (RiskLimits(order_notional_max=money(100)), "", "1 for 100", False),
        (RiskLimits(order_notional_max=money(100)), "", "1 for 100.00000001", True),
        (RiskLimits(order_notional_max=money(100)), "", "-1 for 100.00000001", True),
        # The day's turnover adds up over both sides.
        (RiskLimits(daily_notional_max=money(300)), "1 for 100, -1 for 100", "1 for 100", False),
        (RiskLimits(daily_notional_max=money(300)), "1 for 100, -1 for 100", "1 for 100.00000001", True),
        # Long or short.
        (RiskLimits(position_max={"BTC": money(2)}), "1 for 100", "1 for 100", False),
        (RiskLimits(position_max={"BTC": money(2)}), "1 for 100", "1.00000001 for 100", True),
        (RiskLimits(position_max={"BTC": money(2)}), "", "-2.00000001 for 100", True),
        (RiskLimits(position_max={"BTC": money(2)}), "1 for 100", "-3 for 300", False),
        (RiskLimits(position_max={"BTC": money(2)}), "1 for 100", "-3.00000001 for 300", True),
        # One that is too large already may be made smaller, and not larger.
        (RiskLimits(position_max={"BTC": money(2)}), "5 for 500", "-1 for 100", False),
        (RiskLimits(position_max={"BTC": money(2)}), "5 for 500", "-10 for 900", False),
        (RiskLimits(position_max={"BTC": money(2)}), "5 for 500", "-10.00000001 for 900", True),
        (RiskLimits(position_max={"BTC": money(2)}), "5 for 500", "0.00000001 for 1", True),
        (RiskLimits(position_max={"ETH": money(2)}), "", "5 for 500", False),
    ],
)
def test_a_fill_breaks_a_limit_or_keeps_it(limits, before, trade, broken):
    """
    A limit may be reached and not passed.
    """

    def filled(holdings, one):
        quantity, total = one.split(" for ")
        side = SELL if quantity.startswith("-") else BUY
        return holdings.with_fill("BTC/USDT", side, money(quantity.lstrip("-")), money(total), money(total))

    holdings = Holdings()
    for one in filter(None, before.split(", ")):
        holdings = filled(holdings, one)

    assert broken == limits.broken_by(holdings, filled(holdings, trade), "BTC/USDT", money(trade.split(" for ")[1]))


def test_a_position_counts_over_all_symbols_of_its_base_asset():
    """
    BTC bought for dollars and for euros is one position in BTC; limits of turnover are by quote asset.
    """
    before = Holdings().with_fill("BTC/USDT", BUY, 10, 1000, 1000)
    after = before.with_fill("BTC/EUR", BUY, 5, 500, 500)

    assert RiskLimits(position_max={"BTC": 14}).broken_by(before, after, "BTC/EUR", 500)
    assert not RiskLimits(position_max={"BTC": 15}).broken_by(before, after, "BTC/EUR", 500)
    assert not RiskLimits(daily_notional_max=1000).broken_by(before, after, "BTC/EUR", 500)
