"""What an order takes, drawn as ladders and tables."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.book import UNIT, Side
from service.accounting import bps_text, money_text, plain, price_text, rate
from service.pricing.depth import bands
from service.pricing.quote import price
from service.pricing.routing import MERGE_AFTER
from tests.service.shown import ask, consolidated

BUY, SELL = Side.BUY, Side.SELL

# Without fees; mid is 100.25.
TWO_VENUES = consolidated(
    {
        "coinbase": """
            .   103    4
            .   101.5  2
            2    99.5  .
            4    97    .
            """,
        "kraken": """
            .   102    5
            .   101    1
            1    99    .
            5    98    .
            """,
    }
)

# Mid is 100.
AROUND_100 = consolidated(
    {
        "coinbase": """
            .   103    4
            .   101.5  2
            2    98.5  .
            4    97    .
            """,
        "kraken": """
            .   102    5
            .   101    1
            1    99    .
            5    98    .
            """,
    }
)

# The venue that shows the better prices charges so much that the other one is cheaper.
FEES_DECIDE = consolidated(
    {
        "dear": """
            .   100.2  1
            .   100.1  1
            1    99.9  .
            1    99.8  .
            """,
        "free": """
            .   100.4  1
            .   100.3  1
            1    99.7  .
            1    99.6  .
            """,
    },
    {"dear": 50},
)


def walk(book, side, quantity=None, limit_price=None, slippage_bps_max=None, total=None, markup_bps=0):
    """Fills as a trader would note them, and what ended the walk; the same whether the side is merged or not."""
    wanted = ask(quantity, limit_price=limit_price, slippage_bps_max=slippage_bps_max, total=total)
    drawn = []
    for reads in (0, MERGE_AFTER):
        book.side(side).reads = reads
        priced = price(book, side, wanted, rate(Decimal(markup_bps)))
        fills = ", ".join(
            f"{fill.venue} {price_text(fill.quantity)} @ {price_text(fill.price)}" for fill in priced.fills
        )
        drawn.append(fills + ("" if priced.stopped_by is None else f" | {priced.stopped_by}"))
    assert drawn[0] == drawn[1]
    return drawn[0]


@pytest.mark.parametrize(
    ("side", "quantity", "limit_price", "expected"),
    [
        # A buy lifts the cheapest ask, whoever shows it; a sell hits the highest bid.
        (BUY, "2", None, "kraken 1 @ 101, coinbase 1 @ 101.5"),
        (SELL, "2.5", None, "coinbase 2 @ 99.5, kraken 0.5 @ 99"),
        # A level that is just used up ends the walk as a filled order.
        (BUY, "3", None, "kraken 1 @ 101, coinbase 2 @ 101.5"),
        # A thin book gives what it has.
        (BUY, "13", None, "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 5 @ 102, coinbase 4 @ 103 | depth"),
        (SELL, "13", None, "coinbase 2 @ 99.5, kraken 1 @ 99, kraken 5 @ 98, coinbase 4 @ 97 | depth"),
        # A limit stops the walk at the last price that is not worse.
        (BUY, "9", "101.5", "kraken 1 @ 101, coinbase 2 @ 101.5 | limit"),
        (SELL, "9", "99", "coinbase 2 @ 99.5, kraken 1 @ 99 | limit"),
        (BUY, "9", "100.99", " | limit"),
        (SELL, "9", "99.51", " | limit"),
        # A limit that is not needed does no harm; where it leaves nothing out, it is the depth that is missing.
        (BUY, "3", "101.5", "kraken 1 @ 101, coinbase 2 @ 101.5"),
        (BUY, "13", "103", "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 5 @ 102, coinbase 4 @ 103 | depth"),
    ],
)
def test_levels_are_taken_best_first_until_the_quantity_the_limit_or_the_end(side, quantity, limit_price, expected):
    """
    An order takes the best price first, whoever shows it, and never more than rests there.
    """
    assert expected == walk(TWO_VENUES, side, quantity, limit_price)


@pytest.mark.parametrize(
    ("side", "quantity", "limit_price", "expected"),
    [
        # Net of 50 bps, 100.1 costs 100.6005 and 100.4 is cheaper.
        (BUY, "2", None, "free 1 @ 100.3, free 1 @ 100.4"),
        (SELL, "2", None, "free 1 @ 99.7, free 1 @ 99.6"),
        # The limit is about the shown price: the levels that rank first are skipped, those behind them are not.
        (BUY, "2", "100.2", "dear 1 @ 100.1, dear 1 @ 100.2"),
        (SELL, "2", "99.8", "dear 1 @ 99.9, dear 1 @ 99.8"),
        (BUY, "3", "100.3", "free 1 @ 100.3, dear 1 @ 100.1, dear 1 @ 100.2"),
        (BUY, "3", "100.2", "dear 1 @ 100.1, dear 1 @ 100.2 | limit"),
    ],
)
def test_limit_leaves_worse_levels_alone_wherever_they_rank(side, quantity, limit_price, expected):
    """
    Levels rank by what the client pays with the fee, and a limit holds for the price that the venue shows.
    """
    assert expected == walk(FEES_DECIDE, side, quantity, limit_price)


@pytest.mark.parametrize(
    ("side", "quantity", "slippage_bps_max", "expected"),
    [
        # 100 bps of 100 is 101: just the first level.
        (BUY, "9", "100", "kraken 1 @ 101 | slippage"),
        (SELL, "9", "100", "kraken 1 @ 99 | slippage"),
        (BUY, "9", "99.9999", " | slippage"),
        (SELL, "9", "49", " | slippage"),
        # The better price of the first level pays for as much of the third as is worse than the bound.
        (BUY, "9", "150", "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 1 @ 102 | slippage"),
        (SELL, "9", "150", "kraken 1 @ 99, coinbase 2 @ 98.5, kraken 1 @ 98 | slippage"),
        (BUY, "9", "130", "kraken 1 @ 101, coinbase 1.5 @ 101.5 | slippage"),
        # 1.272727...: cut to 1e-8, never rounded up.
        (BUY, "9", "128", "kraken 1 @ 101, coinbase 1.27272727 @ 101.5 | slippage"),
        (SELL, "9", "128", "kraken 1 @ 99, coinbase 1.27272727 @ 98.5 | slippage"),
        # An order that keeps within the bound is not cut, however fine its quantity is.
        (BUY, "2.272727272", "128", "kraken 1 @ 101, coinbase 1.272727272 @ 101.5"),
        (BUY, "2.272727273", "128", "kraken 1 @ 101, coinbase 1.27272727 @ 101.5 | slippage"),
        # Asked for as much as keeps within it, what is found is all that was asked for.
        (BUY, None, "150", "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 1 @ 102"),
        (SELL, None, "1000", "kraken 1 @ 99, coinbase 2 @ 98.5, kraken 5 @ 98, coinbase 4 @ 97"),
        (BUY, None, "99", ""),
        # A bound that is wide enough does no harm.
        (BUY, "3", "150", "kraken 1 @ 101, coinbase 2 @ 101.5"),
        (BUY, "13", "1000", "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 5 @ 102, coinbase 4 @ 103 | depth"),
        # No price is so low that a sell would be more than 100 % from mid.
        (SELL, "13", "10001", "kraken 1 @ 99, coinbase 2 @ 98.5, kraken 5 @ 98, coinbase 4 @ 97 | depth"),
    ],
)
def test_slippage_bound_ends_the_walk_where_the_average_would_leave_it(side, quantity, slippage_bps_max, expected):
    """
    A slippage bound gives as much as keeps the average price within it, cut to 1e-8.
    """
    assert expected == walk(AROUND_100, side, quantity, None, slippage_bps_max)


@pytest.mark.parametrize(
    ("side", "total", "limit_price", "markup_bps", "expected"),
    [
        # Just the first level, then a part of the next, to the eighth decimal.
        (BUY, "101", None, 0, "kraken 1 @ 101"),
        (BUY, "101.0000005", None, 0, "kraken 1 @ 101"),
        (BUY, "200", None, 0, "kraken 1 @ 101, coinbase 0.97536945 @ 101.5"),
        (SELL, "99", None, 0, "kraken 1 @ 99"),
        (SELL, "200", None, 0, "kraken 1 @ 99, coinbase 1.02538071 @ 98.5"),
        # The desk's margin is in the total.
        (BUY, "102.01", None, 100, "kraken 1 @ 101"),
        (SELL, "98.01", None, 100, "kraken 1 @ 99"),
        # More than there is; or more than the limit leaves.
        (BUY, "99999", None, 0, "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 5 @ 102, coinbase 4 @ 103 | depth"),
        (BUY, "99999", "101.5", 0, "kraken 1 @ 101, coinbase 2 @ 101.5 | limit"),
        # All that there is, to the last digit.
        (BUY, "1226", None, 0, "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 5 @ 102, coinbase 4 @ 103"),
    ],
)
def test_total_buys_or_brings_as_much_as_it_says_and_no_more(side, total, limit_price, markup_bps, expected):
    """
    A total is answered by the largest quantity that comes to no more, fees and margin included.
    """
    assert expected == walk(AROUND_100, side, None, limit_price, None, total, markup_bps)


def test_total_and_bound_hold_together():
    """
    Of a total and a slippage bound the one that is reached first ends the order; only the total is all that was asked.
    """
    assert "kraken 1 @ 101" == walk(AROUND_100, BUY, None, None, "1000", "101")
    assert "kraken 1 @ 101 | slippage" == walk(AROUND_100, BUY, None, None, "100", "1000")
    thin = price(AROUND_100, BUY, ask(total="99999"))
    assert ("98773", False) == (money_text(thin.shortfall), thin.fillable)


# A venue whose shown prices are better but whose fee is high ranks behind: within 40 bps the average gets worse on the
# free venue first, and better again on the dear one.
BETTER_AGAIN = consolidated(
    {
        "free": """
            .   100.5  1
            1   99.9   .
            """,
        "dear": """
            .   100.2  3
            1   99.8   .
            """,
    },
    {"dear": 60},
)


@pytest.mark.parametrize(
    ("slippage_bps_max", "expected"),
    [
        # Mid is 100.05: 100.5 alone is 44.978 bps from it, with all of 100.2 it is 22.4888 on average.
        ("45", "free 1 @ 100.5, dear 3 @ 100.2"),
        ("30", "free 1 @ 100.5, dear 3 @ 100.2"),
        ("22.4888", "free 1 @ 100.5, dear 3 @ 100.2"),
        ("22.4887", ""),
        ("14", ""),
    ],
)
def test_largest_quantity_within_a_bound_is_found_behind_one_that_breaks_it(slippage_bps_max, expected):
    """
    Where the average price leaves the bound and comes back, as fees rank levels, the last quantity within it counts.
    """
    assert expected == walk(BETTER_AGAIN, BUY, None, None, slippage_bps_max)


def test_limit_and_bound_hold_together():
    """
    Of a limit and a slippage bound the one that is reached first ends the order.
    """
    assert "kraken 1 @ 101, coinbase 2 @ 101.5 | limit" == walk(AROUND_100, BUY, "9", "101.5", "1000")
    assert "kraken 1 @ 101 | slippage" == walk(AROUND_100, BUY, "9", "102", "100")


def test_a_fill_rounds_subtotal_against_the_client_and_fee_and_markup_up():
    """
    Each fill is rounded by itself: what is paid up, what is received down, fee and markup up.
    """
    book = consolidated(
        {
            "kraken": """
                .       1.00000003  1
                1       1.00000001  .
                """
        },
        {"kraken": Decimal("0.5")},
    )
    (bought,) = price(book, BUY, ask("0.5"), rate(Decimal("0.25"))).fills
    (sold,) = price(book, SELL, ask("0.5"), rate(Decimal("0.25"))).fills

    # 0.500000015, of which 0.5 bps are 0.00002500000075 and 0.25 bps 0.000012500000375.
    assert ("0.50000002", "0.00002501", "0.00001251") == tuple(map(money_text, bought[5:8]))
    # 0.500000005, of which 0.5 bps are 0.00002500000025.
    assert ("0.5", "0.00002501", "0.00001251") == tuple(map(money_text, sold[5:8]))


def test_a_quote_explains_itself_line_by_line():
    """
    The waterfall goes from mid over half spread, depth, fees and markup to the total, and every line is right.
    """
    book = consolidated(
        {
            "coinbase": """
                .   101   1
                1    99   .
                """,
            "kraken": """
                .   102   1
                1    98   .
                """,
        },
        {"coinbase": 10, "kraken": 20},
    )
    bought = price(book, BUY, ask("2"), rate(Decimal(5)))
    sold = price(book, SELL, ask("2"), rate(Decimal(5)))

    assert [
        ("mid", "200", "0"),
        ("half_spread", "2", "100"),
        ("depth", "1", "50"),
        ("conversion", "0", "0"),
        ("fees", "0.305", "15.25"),  # 10 bps of 101 and 20 bps of 102.
        ("markup", "0.1015", "5.075"),
        ("total", "203.4065", "170.325"),
    ] == [(step.name, money_text(step.amount), bps_text(step.bps)) for step in bought.waterfall]
    assert [
        ("mid", "200", "0"),
        ("half_spread", "-2", "-100"),
        ("depth", "-1", "-50"),
        ("conversion", "0", "0"),
        ("fees", "-0.295", "-14.75"),
        ("markup", "-0.0985", "-4.925"),
        ("total", "196.6065", "-169.675"),
    ] == [(step.name, money_text(step.amount), bps_text(step.bps)) for step in sold.waterfall]
    assert ("150", "49.505") == (bps_text(bought.from_mid_bps), bps_text(bought.from_best_bps))
    assert ("150", "50.5051") == (bps_text(sold.from_mid_bps), bps_text(sold.from_best_bps))
    assert (None, None) == (bought.best_single_venue, sold.best_single_venue)


def test_basis_points_of_the_waterfall_add_up_to_the_last_digit():
    """
    The lines' basis points sum to those of the total, though each is rounded.
    """
    book = consolidated(
        {
            "kraken": """
                .   3.00004  1
                .   3.00003  1
                1   2.99998  .
                """
        },
        {"kraken": 7},
    )
    *lines, total = price(book, BUY, ask("2"), rate(Decimal("0.33333"))).waterfall

    assert total.bps == sum(line.bps for line in lines)
    assert total.amount == sum(line.amount for line in lines)


def test_best_single_venue_is_the_one_that_would_fill_the_same_quantity_best():
    """
    Routing is held against the best venue alone; one that could not fill the quantity does not count.
    """
    book = consolidated(
        {
            "cheap": """
                .   101   1
                1    99   .
                """,
            "deep": """
                .   103   9
                9    97   .
                """,
            "deeper": """
                .   102   9
                9    98   .
                """,
        }
    )
    bought, sold = (price(book, side, ask("2")) for side in (BUY, SELL))

    assert ("deeper", "102", "49.0196") == (  # 203 against 204.
        bought.best_single_venue.venue,
        plain(bought.best_single_venue.all_in_price),
        bps_text(bought.best_single_venue.saving_bps),
    )
    assert ("deeper", "98", "51.0204") == (
        sold.best_single_venue.venue,
        plain(sold.best_single_venue.all_in_price),
        bps_text(sold.best_single_venue.saving_bps),
    )
    # The limit and the markup hold for the single venue as well.
    assert price(book, BUY, ask("1", limit_price="101.5")).best_single_venue.venue == "cheap"
    assert plain(price(book, BUY, ask("1"), rate(Decimal(100))).best_single_venue.all_in_price) == "102.01"


def test_equal_single_venues_are_told_apart_by_the_settings_order():
    """
    Of two venues that would cost the same the one that stands first in the settings is shown.
    """
    ladder = """
        .   101   2
        2    99   .
        """
    book = consolidated({"kraken": ladder, "coinbase": ladder})

    assert "kraken" == price(book, BUY, ask("1")).best_single_venue.venue
    assert "kraken" == price(book, SELL, ask("1")).best_single_venue.venue


def test_a_side_with_nothing_to_give_has_no_prices():
    """
    Where nothing fills there is no price, no slippage and no money, and all of it is shortfall.
    """
    nothing = price(TWO_VENUES, BUY, ask("2", limit_price="50"))

    assert not nothing.fillable
    assert (0, 2 * UNIT, "limit") == (nothing.quantity, nothing.shortfall, nothing.stopped_by)
    assert {None} == {
        nothing.average_price,
        nothing.best_price,
        nothing.worst_price,
        nothing.all_in_price,
        nothing.from_mid_bps,
        nothing.from_best_bps,
        nothing.best_single_venue,
    }
    assert {0} == {nothing.subtotal, nothing.fees, nothing.markup, nothing.total}
    assert {0} == {step.amount for step in nothing.waterfall} | {step.bps for step in nothing.waterfall}
    assert ((), []) == (nothing.legs, nothing.fills)


def test_an_order_of_dust_has_prices_though_its_money_is_rounding():
    """
    An order so small that mid rounds to nothing still adds up, and shows no share of nothing.
    """
    dust = price(TWO_VENUES, SELL, ask("0.000000000001"))

    assert (0, 0) == (dust.subtotal, dust.total)
    assert {0} == {step.bps for step in dust.waterfall}
    assert "74.813" == bps_text(dust.from_mid_bps)
    assert 0 == dust.best_single_venue.saving_bps


def test_crossed_venues_have_a_negative_half_spread():
    """
    Where one venue bids more than another asks, the best price is better than mid, and the waterfall says so.
    """
    book = consolidated(
        {
            "coinbase": """
                .   100   3
                1    99   .
                """,
            "kraken": """
                .   103   1
                3   102   .
                """,
        }
    )
    bought, sold = (price(book, side, ask("2")) for side in (BUY, SELL))

    assert ("-2", "2") == tuple(money_text(one.waterfall[1].amount) for one in (bought, sold))
    assert ("-99.0099", "-99.0099") == tuple(bps_text(one.from_mid_bps) for one in (bought, sold))
    assert book.crossed


def test_depth_is_what_rests_within_a_distance_of_mid():
    """
    A band counts the levels whose shown price is within so many basis points of mid, per side and per venue.
    """
    narrow, wide, all_of_it = bands(AROUND_100, [Decimal("100"), Decimal("199.99"), Decimal(9999)])

    assert (100, UNIT, 99 * 10**8, UNIT, 101 * 10**8) == (narrow.bps, *narrow.all)
    assert {"coinbase": (0, 0, 0, 0), "kraken": (UNIT, 99 * 10**8, UNIT, 101 * 10**8)} == narrow.venues
    assert (3 * UNIT, 296 * 10**8, 3 * UNIT, 304 * 10**8) == wide.all
    assert (2 * UNIT, 197 * 10**8, 2 * UNIT, 203 * 10**8) == wide.venues["coinbase"]
    assert (12 * UNIT, 12 * UNIT) == (all_of_it.all.bid_quantity, all_of_it.all.ask_quantity)
