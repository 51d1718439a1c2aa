"""A streamed book beside one that was asked for: what proves that the stream has lost something."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.book import Ladder, VenueBook, units
from exchanges.clock import MS
from exchanges.crosscheck import Shown, around, contradictions, reached


def side(text):
    return Ladder.of([tuple(map(Decimal, level.split(" x "))) for level in text.split(", ")])


def book(bids, asks="101 x 1, 102 x 1, 103 x 1", at_ms=0):
    return VenueBook("okx", "BTC/USDT", side(bids), side(asks), at_ms * MS, None)


STEADY = "100 x 5, 99 x 4, 98 x 3"


@pytest.mark.parametrize(("asked", "streamed", "wrong"), [
    # The same, before, while and after.
    (STEADY, [STEADY, STEADY], 0),
    # A level that is not there any more, one that is hidden, and one of another quantity.
    ("100 x 5, 98 x 3", [STEADY], 1),
    (STEADY, ["100 x 5, 98 x 3"], 1),
    (STEADY, ["100 x 5, 99 x 1, 98 x 3", "100 x 5, 99 x 1, 98 x 3"], 1),
    # It moved meanwhile: the answer may show any moment of it, or none that was seen.
    (STEADY, ["100 x 5, 99 x 4, 98 x 1", STEADY], 0),
    (STEADY, ["100 x 5, 99 x 4, 98 x 1", "100 x 5, 99 x 4, 98 x 2"], 0),
    (STEADY, ["100 x 5, 98 x 3", "100 x 5, 99 x 9, 98 x 3"], 0),
    # Another level moved: this one did not.
    (STEADY, ["100 x 5, 99 x 1, 98 x 1", "100 x 5, 99 x 1, 98 x 2"], 1),
    # What only one of them reaches says nothing.
    ("100 x 5, 99 x 4", [STEADY], 0),
    ("100 x 5, 99 x 4, 98 x 3, 97 x 1", [STEADY], 0),
    ("100 x 5, 98 x 3, 97 x 1", ["100 x 5, 99 x 4"], 1),
    # A whole other market.
    ("90 x 5, 89 x 4", [STEADY], 3),
])  # fmt: skip
def test_level_that_stood_still_must_be_as_the_venue_shows_it(asked, streamed, wrong):
    """
    Only what the stream did not change around the moment of the answer can contradict it, and then it does.
    """
    assert wrong == len(contradictions(book(asked), [book(state) for state in streamed]))


def test_asks_are_held_against_each_other_too():
    """
    A missing ask counts as a missing bid does, and the dearer end of a side is the one that may be cut.
    """
    assert {(1, units(Decimal(102)), 0)} == contradictions(book(STEADY, "101 x 1, 103 x 1"), [book(STEADY)])
    assert not contradictions(book(STEADY, "101 x 1, 102 x 1"), [book(STEADY)])


def test_levels_that_come_and_go_are_not_the_same_ones_twice():
    """
    What one answer happened to show between two changes is told apart from what the next one shows there.
    """
    one = contradictions(book("100 x 5, 99 x 7, 98 x 3"), [book("100 x 5, 98 x 3")])
    other = contradictions(book("100 x 5, 99 x 8, 98 x 3"), [book("100 x 5, 98 x 3")])
    assert 1 == len(one) == len(other)
    assert not one & other


def shown(*, sequence=None, time_ms=None, at_ms=0):
    return Shown(book(STEADY, at_ms=at_ms), sequence, time_ms)


def numbered(*sequences):
    return [shown(sequence=sequence) for sequence in sequences]


def timed(*times):
    return [shown(time_ms=time_ms) for time_ms in times]


def arrived(*times):
    return [shown(at_ms=at_ms) for at_ms in times]


@pytest.mark.parametrize(("streamed", "asked", "keyed", "places"), [
    # By the venue's own numbers: the last that is not newer, to the first that is not older.
    (numbered(1, 2, 3, 4), shown(sequence=2), True, [1]),
    (numbered(1, 2, 4, 5), shown(sequence=3), True, [1, 2]),
    # It has not come so far yet.
    (numbered(1, 2), shown(sequence=9), True, [1]),
    # All that is known of it is newer: an old answer.
    (numbered(5, 6), shown(sequence=4), True, []),
    # By the venue's clock, which may differ between its doors by half a second.
    (timed(0, 400, 600, 900, 1_500, 2_000), shown(time_ms=1_000), True, [1, 2, 3, 4]),
    (timed(600, 900), shown(time_ms=1_000), True, []),
    # By nothing but our own: all of it.
    (arrived(0, 400), shown(at_ms=900), False, [0, 1]),
    # Numbers before clocks, and one that only one of them has is of no use.
    ([shown(sequence=1, time_ms=9_000)], shown(sequence=1, time_ms=0), True, [0]),
    ([shown(sequence=7, time_ms=0)], shown(time_ms=1_000), True, [0]),
    ([shown(sequence=7, at_ms=5)], shown(time_ms=1_000, at_ms=5), False, [0]),
])  # fmt: skip
def test_answer_is_placed_among_what_the_stream_showed(streamed, asked, keyed, places):
    """
    The venue's own sequence, or else its clock, tells which part of the stream an answer must agree with.
    """
    assert (keyed, [streamed[place] for place in places]) == (
        around(streamed, asked)[0],
        list(around(streamed, asked)[1]),
    )


@pytest.mark.parametrize(("streamed", "asked", "there"), [
    (shown(sequence=3), shown(sequence=3), True),
    (shown(sequence=2), shown(sequence=3), False),
    (shown(time_ms=1_400), shown(time_ms=1_000), False),
    (shown(time_ms=1_500), shown(time_ms=1_000), True),
    (shown(at_ms=99), shown(at_ms=100), False),
    (shown(at_ms=100), shown(at_ms=100), True),
])  # fmt: skip
def test_stream_has_come_as_far_as_an_answer_when_it_surely_shows_as_much(streamed, asked, there):
    """
    Where clocks decide, it must be past the answer by as much as they may differ.
    """
    assert there is reached(streamed, asked)
