"""What a stream tells of the way from one book to another."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.simulator.deltas import changes, shown
from exchanges.simulator.market import Book, Level


def book(bids):
    levels = (text.split("x") for text in bids.split())
    return Book(
        tuple(Level(Decimal(price), Decimal(quantity), 1, 0) for price, quantity in levels),
        (Level(Decimal(200), Decimal(1), 1, 0),),
    )


def told(before, now, cut_at=None, between=()):
    bids, asks = changes(shown(book(before)), shown(book(now)), cut_at, [shown(book(state)) for state in between])
    assert [] == asks
    return " ".join(f"{level.price}x{level.quantity}" for level in bids)


@pytest.mark.parametrize(("before", "now", "change"), [
    ("100x1 99x2", "100x1 99x2", ""),
    ("100x1 99x2", "100x3 99x2", "100x3"),
    ("100x1 99x2", "101x5 99x2", "101x5 100x0"),
    # A price that stands twice is told each time.
    ("100x1 99x2", "100x1 100x2 99x2", "100x1 100x2 99x2"),
])  # fmt: skip
def test_change_is_what_differs_and_what_is_gone(before, now, change):
    """
    Nothing that stayed is told again.
    """
    assert change == told(before, now)


def test_level_that_is_only_pushed_below_the_last_one_is_not_told_to_readers_who_cut():
    """
    They drop it themselves; who keeps all levels is told that it is gone.
    """
    assert "101x5" == told("100x1 99x2", "101x5 100x1", cut_at=2)
    assert "101x5 99x0" == told("100x1 99x2", "101x5 100x1")


def test_what_changed_and_changed_back_is_told_to_whoever_saw_it_in_between():
    """
    A reader whose snapshot is of a step in between would keep a level that is gone, and miss one that is back.
    """
    assert "100x1 98x0" == told("100x1 99x2", "100x1 99x2", between=["99x2 98x7"])
    assert "" == told("100x1 99x2", "100x1 99x2", between=["100x1 99x2"])


levels = st.dictionaries(st.integers(1, 12), st.integers(1, 4), max_size=8)
books = st.tuples(levels, levels)


@given(books, books, st.lists(books, max_size=3), st.sampled_from([None, 4]))
def test_changes_applied_to_what_was_are_what_is(before, now, between, cut_at):
    """
    Whoever applies them to any book that was shown, and cuts where the venue expects that, has the new one.
    """

    def drawn(sides):
        bids, asks = (
            tuple(Level(Decimal(price), Decimal(side[price]), 1, 0) for price in sorted(side, reverse=worst_first))
            for side, worst_first in zip(sides, (True, False), strict=True)
        )
        return Book(bids[:cut_at], asks[:cut_at])

    told = changes(shown(drawn(before)), shown(drawn(now)), cut_at, [shown(drawn(state)) for state in between])
    for begun_with in (before, *between):
        for was, change, wanted, reverse in zip(drawn(begun_with), told, drawn(now), (True, False), strict=True):
            kept = {level.price: level.quantity for level in (*was, *change)}
            rows = sorted(((price, quantity) for price, quantity in kept.items() if quantity), reverse=reverse)
            assert [(level.price, level.quantity) for level in wanted] == rows[:cut_at]
