"""Which venues may be believed together."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.health import State
from service.market.book import NoBook
from service.market.screening import Part, Rules, crossed_too_far, refuse_crossed, screen, used
from tests.conftest import venue_book
from tests.service.shown import merged, source, sources_of


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


def screened(sources, rules=None, **more):
    """What screening makes of sources: others with their reasons, or why there is no book."""
    rules = rules or Rules()
    found = screen("BTC/USDT", [Part(one) for one in sources], rules, **more)
    if isinstance(found, NoBook):
        return found
    if more.get("chosen") is None and crossed_too_far(merged([part.source for part in found if part.used]), rules):
        return refuse_crossed("BTC/USDT", found)
    return [part.source for part in found]


def outcome(sources, rules=None, **more):
    """The code or "book", and each venue's reason."""
    found = screened(sources, rules, **more)
    if isinstance(found, NoBook):
        return found.code, [one.reason for one in found.sources]
    return "book", [one.reason for one in found]


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

    found = screened(sources)
    assert [State.LIVE, State.LIVE, State.SUSPECT, State.STALE] == [one.state for one in found]
    assert [True, True, False, False] == [used(one) for one in found]
    assert ("venues_disagree", [None, None, "outlier", "stale"]) == outcome(sources, Rules(venues_min=3))
    assert "BTC/USDT has 2 live venues and needs 3" == screened(sources, Rules(venues_min=3)).detail


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
    found = screened([bidder, asker], rules)

    if isinstance(found, NoBook):
        assert expected == (found.code, None)
        assert ["crossed", "crossed"] == [one.reason for one in found.sources]
    else:
        assert expected == ("book", merged(found).crossed)


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
    Leaving a venue out does not make one that disagrees with it more credible.
    """
    disagreeing = [around("a", 100), around("b", 102)]
    outlying = [around("a", 102), around("b", 100), around("c", 100)]

    assert ("venues_disagree", ["disagrees"] * 2) == outcome(disagreeing, chosen={"a"})
    assert ("no_fresh_market_data", ["outlier", "excluded", "excluded"]) == outcome(outlying, chosen={"a"})
    # venues_min is about what is live, not about what was chosen.
    assert ("book", ["excluded", None, None]) == outcome(
        [around(name, 100) for name in "abc"], Rules(venues_min=3), chosen={"b", "c"}
    )


def test_live_without_a_book_is_a_bug_and_says_so():
    """
    A source that claims to be live must have a book.
    """
    with pytest.raises(ValueError, match="a is live without a book"):
        screened([around("a", 100)._replace(book=None)])
    with pytest.raises(ValueError, match="a is used without an instrument"):
        _ = Part(around("a", 100)._replace(instrument=None)).instrument


def test_sources_of_ladders_are_all_used():
    """
    Venues that agree make one book of all of them.
    """
    ladder = ". 101 1\n1 99 ."

    assert ("book", [None] * 3) == outcome(sources_of({"a": ladder, "b": ladder, "c": ladder}))
