"""What a stream tells of the way from one book to another."""

from __future__ import annotations

from decimal import Decimal

import pytest

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
