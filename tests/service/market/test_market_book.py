"""Which venues may be believed, and what one book they make."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from exchanges.book import Side
from exchanges.health import State
from service.accounting import plain
from service.market.book import ConsolidatedBook, NoBook, Rules, merge, screen, used
from tests.conftest import venue_book
from tests.service import oracle
from tests.service.shown import as_shown, consolidated, source, sources_of


def around(venue, mid, *, half="0.01", quantity="1", fee_bps=0, **standing):
    """A venue that shows one level a side, *half* below and above *mid*."""
    mid, half = Decimal(mid), Decimal(half)
    ladder = f"""
        .  {mid + half}  {quantity}
        {quantity}  {mid - half}  .
        """
    return source(venue_book(venue, ladder), fee_bps, **standing)


STALE = {"state": State.STALE, "reason": "stale"}
DOWN = {"state": State.DOWN, "reason": "timeout"}
OUTLIER = {"state": State.SUSPECT, "reason": "outlier"}


def outcome(sources, rules=None, **more):
    """The code or "book", and each venue's reason."""
    screened = screen("BTC/USDT", sources, rules or Rules(), **more)
    if isinstance(screened, NoBook):
        code, sources = screened.code, screened.sources
    else:
        code, sources = "book", screened
    return code, [one.reason for one in sources]


@pytest.mark.parametrize(
    ("sources", "venues_min", "expected"),
    [
        ([around("a", 100)], 1, ("book", [None])),
        ([around("a", 100), around("b", 100)], 2, ("book", [None, None])),
        ([around("a", 100), around("b", 100, **STALE)], 2, ("no_fresh_market_data", [None, "stale"])),
        ([around("a", 100), around("b", 100, **DOWN)], 1, ("book", [None, "timeout"])),
        ([around("a", 100, **STALE)], 1, ("no_fresh_market_data", ["stale"])),
        ([], 1, ("no_fresh_market_data", [])),
        # Nobody can be quoted without a single venue, whatever the settings say.
        ([around("a", 100, **STALE)], 0, ("no_fresh_market_data", ["stale"])),
        ([around("a", 100)], 0, ("book", [None])),
        # Too few because one was left out for its price: the venues disagree.
        ([around("a", 100), around("b", 120, **OUTLIER)], 2, ("venues_disagree", [None, "outlier"])),
    ],
)
def test_a_symbol_needs_so_many_live_venues(sources, venues_min, expected):
    """
    A symbol is quoted when enough venues are live, and a venue that is not live contributes nothing.
    """
    assert expected == outcome(sources, Rules(venues_min=venues_min))


@pytest.mark.parametrize(
    ("mids", "outlier_bps", "expected"),
    [
        # Two that disagree by more than 100 bps: nobody can tell which is right.
        (("100", "101"), 100, ("book", [None, None])),
        (("100", "101.001"), 100, ("venues_disagree", ["disagrees", "disagrees"])),
        (("101.001", "100"), 100, ("venues_disagree", ["disagrees", "disagrees"])),
        # With three the one that is apart from the median is left out when the book is read ...
        (("100", "100.1", "101.2"), 100, ("book", [None, None, "outlier"])),
        (("98.9", "100", "100.1"), 100, ("book", ["outlier", None, None])),
        (("100", "100.1", "101.1"), 100, ("book", [None, None, None])),
        # ... and where no two agree, nobody is believed.
        (("100", "110", "120"), 100, ("venues_disagree", ["outlier", "outlier", "outlier"])),
        (("100", "100.1", "130", "140"), 5000, ("book", [None] * 4)),
    ],
)
def test_venues_that_are_too_far_apart_are_not_believed(mids, outlier_bps, expected):
    """
    Of three or more venues the odd one out is left out; two that disagree are not quoted at all.
    """
    sources = [around(name, mid, half=1) for name, mid in zip("abcd", mids, strict=False)]

    # How far they cross is another rule's business.
    assert expected == outcome(sources, Rules(outlier_bps=Decimal(outlier_bps), crossed_bps_max=Decimal(10_000)))


def test_an_outlier_at_read_time_is_suspect_and_may_leave_too_few():
    """
    A venue that stands alone since another went stale is suspect, and does not count among those that are needed.
    """
    sources = [around("a", 100), around("b", 100), around("c", 102), around("d", 103, **STALE)]

    screened = screen("BTC/USDT", sources, Rules())
    assert [State.LIVE, State.LIVE, State.SUSPECT, State.STALE] == [one.state for one in screened]
    assert [True, True, False, False] == [used(one) for one in screened]
    assert ("venues_disagree", [None, None, "outlier", "stale"]) == outcome(sources, Rules(venues_min=3))
    assert "BTC/USDT has 2 live venues and needs 3" == screen("BTC/USDT", sources, Rules(venues_min=3)).detail


@pytest.mark.parametrize(
    ("bid", "ask", "crossed_bps_max", "expected"),
    [
        # One venue bids what the other asks: locked, not crossed.
        ("100", "100", 0, ("book", False)),
        ("99.99", "100", 0, ("book", False)),
        ("100.01", "100", 0, ("venues_disagree", None)),
        # 50 bps of their mid, 100.25, and not a bit more.
        ("100.500625", "99.999375", 50, ("book", True)),
        ("100.500626", "99.999375", 50, ("venues_disagree", None)),
        ("100.500626", "99.999375", 51, ("book", True)),
    ],
)
def test_venues_may_cross_each_other_by_so_much(bid, ask, crossed_bps_max, expected):
    """
    A book that is crossed between venues is used as it is up to crossed_bps_max, and refused beyond.
    """
    bidder = source(venue_book("bidder", f"1 {bid} .\n. {Decimal(bid) + 1} 1"))
    asker = source(venue_book("asker", f". {ask} 1\n1 {Decimal(ask) - 1} ."))
    rules = Rules(crossed_bps_max=Decimal(crossed_bps_max), outlier_bps=Decimal(1000))
    screened = screen("BTC/USDT", [bidder, asker], rules)

    if isinstance(screened, NoBook):
        assert expected == (screened.code, None)
        assert ["crossed", "crossed"] == [one.reason for one in screened.sources]
    else:
        assert expected == ("book", merge("BTC/USDT", screened).crossed)


def test_an_unconfirmed_leap_holds_the_symbol():
    """
    While a leap of the price is not confirmed there is no book, and every live venue says why.
    """
    sources = [around("a", 100), around("b", 100, **STALE)]

    assert ("no_fresh_market_data", ["jump", "stale"]) == outcome(sources, held=True)
    # Too few venues is said first.
    assert ("no_fresh_market_data", [None, "stale"]) == outcome(sources, Rules(venues_min=2), held=True)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, ("book", [None, None, "timeout"])),
        ({"a"}, ("book", [None, "excluded", "timeout"])),
        ({"a", "b"}, ("book", [None, None, "timeout"])),
        # A venue that was asked for and is down keeps its own reason.
        ({"a", "c"}, ("book", [None, "excluded", "timeout"])),
        ({"c"}, ("no_fresh_market_data", ["excluded", "excluded", "timeout"])),
        ({"nobody"}, ("no_fresh_market_data", ["excluded", "excluded", "timeout"])),
        (set(), ("no_fresh_market_data", ["excluded", "excluded", "timeout"])),
    ],
)
def test_chosen_venues_are_used_and_live_ones_left_out_are_excluded(chosen, expected):
    """
    A request that names venues gets these only; a live one that it leaves out is "excluded".
    """
    sources = [around("a", 100), around("b", 100), around("c", 100, **DOWN)]

    assert expected == outcome(sources, chosen=chosen)


def test_prices_of_venues_left_out_still_count_against_the_others():
    """
    Leaving a venue out does not make one that disagrees with it, or crosses it, more credible.
    """
    disagreeing = [around("a", 100), around("b", 102)]
    crossing = [around("a", 100), around("b", "100.7")]
    outlying = [around("a", 102), around("b", 100), around("c", 100)]

    assert ("venues_disagree", ["disagrees"] * 2) == outcome(disagreeing, chosen={"a"})
    assert ("venues_disagree", ["crossed"] * 2) == outcome(crossing, chosen={"a"})
    assert ("no_fresh_market_data", ["outlier", "excluded", "excluded"]) == outcome(outlying, chosen={"a"})
    # venues_min is about what is live, not about what was chosen.
    assert ("book", ["excluded", None, None]) == outcome(
        [around(name, 100) for name in "abc"], Rules(venues_min=3), chosen={"b", "c"}
    )


def lines(levels):
    return [f"{level.venue} {plain(level.quantity)} @ {plain(level.price)}" for level in levels]


def test_levels_rank_by_what_the_client_pays_or_receives():
    """
    Net ranks by the price with the venue's fee, gross by the price that is shown; best prices and mid are gross.
    """
    book = consolidated(
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

    assert ["free 1 @ 100.3", "free 1 @ 100.4", "dear 1 @ 100.1", "dear 1 @ 100.2"] == lines(book.asks)
    assert ["free 1 @ 99.7", "free 1 @ 99.6", "dear 1 @ 99.9", "dear 1 @ 99.8"] == lines(book.bids)
    assert ["100.3", "100.4", "100.6005", "100.701"] == [plain(level.net_price) for level in book.asks]
    assert ["99.7", "99.6", "99.4005", "99.301"] == [plain(level.net_price) for level in book.bids]
    assert ["dear 1 @ 100.1", "dear 1 @ 100.2", "free 1 @ 100.3", "free 1 @ 100.4"] == lines(book.gross(Side.BUY))
    assert ["dear 1 @ 99.9", "dear 1 @ 99.8", "free 1 @ 99.7", "free 1 @ 99.6"] == lines(book.gross(Side.SELL))
    assert ["dear 1 @ 99.9", "dear 1 @ 100.1"] == lines([book.best_bid, book.best_ask])
    assert (book.best_ask, book.best_bid) == (book.best(Side.BUY), book.best(Side.SELL))
    assert (book.asks, book.bids) == (book.levels(Side.BUY), book.levels(Side.SELL))
    assert ("100", False, ("dear", "free")) == (plain(book.mid), book.crossed, book.venues)
    assert ("BTC", "USDT") == (book.base_asset, book.quote_asset)


def test_equal_levels_have_one_order_whatever_order_the_venues_come_in():
    """
    Of levels at one net price the better shown price goes first, then the larger quantity, then the venue's name.
    """
    ladders = {
        "c": """
            .   101   1
            1    99   .
            """,
        "b": """
            .   101   2
            2    99   .
            """,
        "a": """
            .   101   1
            1    99   .
            """,
        # 100 with 1 % is 101 as well, and 100 less 1 % is 99.
        "fee": """
            .   100.1 1
            1   100   .
            """,
        "fee2": """
            .   100   1
            1    98   .
            """,
    }
    fees = {"fee": 100, "fee2": 100}
    names = list(ladders)
    orders = [names, names[::-1], names[2:] + names[:2]]
    books = [consolidated({name: ladders[name] for name in order}, fees) for order in orders]

    for book in books:
        assert [
            "fee2 1 @ 100", "b 2 @ 101", "a 1 @ 101", "c 1 @ 101", "fee 1 @ 100.1",
        ] == lines(book.asks)  # fmt: skip
        assert ["fee 1 @ 100", "b 2 @ 99", "a 1 @ 99", "c 1 @ 99", "fee2 1 @ 98"] == lines(book.bids)
    locked = consolidated({"z": ". 101 2\n1 99 .", "y": ". 101 1\n1 99 .", "x": ". 101 2\n1 99 ."})
    assert ["y", "x"] != [locked.best_bid.venue, locked.best_ask.venue] == ["x", "x"]


def test_a_venue_without_instrument_has_no_fee():
    """
    Until a venue's rules are known nothing is added to its prices.
    """
    bare = replace(around("a", 100, fee_bps=10), instrument=None)

    assert merge("BTC/USDT", [bare]).asks[0].net_price == Decimal("100.01")


def test_only_used_sources_are_in_the_book_and_all_are_named():
    """
    A stale, suspect or excluded venue's levels are not there, but its part is told.
    """
    sources = [around("a", 100), around("b", 100, **STALE), around("c", 100), around("d", 100)]
    screened = screen("BTC/USDT", sources, Rules(), chosen={"a", "b", "d"})
    book = merge("BTC/USDT", screened)

    assert ("a", "d") == book.venues
    assert {"a", "d"} == {level.venue for level in book.bids + book.asks}
    assert ["a", "b", "c", "d"] == [one.venue for one in book.sources]


def test_live_without_a_book_is_a_bug_and_says_so():
    """
    A source that claims to be live must have a book.
    """
    with pytest.raises(ValueError, match="a is live without a book"):
        merge("BTC/USDT", [replace(around("a", 100), book=None)])


def test_net_prices_have_every_digit():
    """
    A price with a fee is exact, however many digits it takes.
    """
    shown = [
        around("a", "12345678901.123456789", half="0.000000001", fee_bps="0.123456"),
        around("b", "0.000000012345678901", half="0.000000000000000001", fee_bps="26"),
    ]
    for one in shown:
        book: ConsolidatedBook = merge("BTC/USDT", [one])
        market = as_shown([one])
        for side in Side:
            expected = [(p, q, net) for p, q, _, _, net in oracle.ranked(market, side.value)]
            levels = book.levels(side)
            assert expected == [tuple(map(Fraction, (lv.price, lv.quantity, lv.net_price))) for lv in levels]
        assert oracle.mid(market) == Fraction(book.mid)


def test_sources_of_ladders_are_all_used():
    """
    Venues that agree make one book of all of them.
    """
    ladder = ". 101 1\n1 99 ."

    assert ("book", [None] * 3) == outcome(sources_of({"a": ladder, "b": ladder, "c": ladder}))
