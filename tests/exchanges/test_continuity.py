"""What only the history of a venue's books shows: old answers, wrong clocks, a side that stands still."""

from __future__ import annotations

import pytest

from exchanges.book import BookRejected, RawBook, decode
from exchanges.clock import MS
from exchanges.continuity import (
    CLOCK_LAG_MAX_MS,
    FROZEN_SIDE_BOOKS,
    FROZEN_SIDE_NS,
    Continuity,
)

BIDS = [[100.0, 2.0], [99.0, 1.0]]
ASKS = [[101.0, 1.0], [102.0, 5.0]]

START_MS = 1_900_000_000_000
"""A venue's clock when ours stands at 1,000 s."""


class History:
    """Feed books of one venue into `Continuity`, ours and its clock moving together."""

    def __init__(self, *, generation=True):
        self.continuity = Continuity(time_is_generation=generation)
        self.now_ms = 1_000_000

    def book(self, after_ms, *, sequence=None, late_ms=None, time_ms=None, took_ms=0, bids=BIDS, asks=ASKS):
        """
        Show a book *after_ms*, which took so long to be answered; give its age then, or why it was refused.
        """
        self.now_ms += after_ms
        if late_ms is not None:
            time_ms = START_MS + self.now_ms - 1_000_000 - late_ms
        message = RawBook("BTC/USDT", bids, asks, sequence, time_ms)
        answered_at_ns = self.now_ms * MS
        try:
            received_at_ns = self.continuity.received_at_ns(message, answered_at_ns - took_ms * MS, answered_at_ns)
            book = decode(message, venue="okx", symbol="BTC/USDT", received_at_ns=received_at_ns)
        except BookRejected as rejected:
            return rejected.reason.value
        self.continuity.accept(message, book, answered_at_ns)
        return (answered_at_ns - received_at_ns) // MS

    @property
    def frozen(self):
        return self.continuity.frozen_side(self.now_ms * MS)


@pytest.mark.parametrize("generation", [True, False])
def test_sequence_and_time_may_stand_or_rise_but_not_go_back(generation):
    """
    A quiet market repeats itself; one that goes back shows an old book.
    """
    venue = History(generation=generation)
    assert [0, 0, 0, "out_of_order", 0] == [
        venue.book(100, sequence=number) for number in (5, 5, 7, 6, 7)
    ]  # fmt: skip

    venue = History(generation=generation)
    assert [0, 0, "out_of_order", 0] == [
        venue.book(1, time_ms=START_MS + ms) for ms in (100, 101, 99, 103)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "answers"),
    [
        # An hour ahead at ten a second: what is shown next at the usual pace would look old.
        ((100, 120, 140, 36_140, 160), [0, 0, 0, "out_of_order", 0]),
        # A burst of the market is no leap, however quiet it was before.
        ((100, 120, 140, 10_000, 30_000), [0, 0, 0, 0, 0]),
        ((1, 100_001, 200_001, 90_000_001, 90_000_002), [0, 0, 0, 0, 0]),
        # Nothing is known of a pace from less than three seconds, or from a market that stood still.
        ((1, 2, 10_000_000, 10_000_001), [0, 0, 0, 0]),
        ((100, 100, 100, 10_101_000, 10_101_001), [0, 0, 0, 0, 0]),
    ],
)
def test_sequence_that_leaps_ahead_is_not_believed(numbers, answers):
    """
    A number far beyond the venue's pace is refused, or every honest book after it would be.
    """
    venue = History()

    assert answers == [venue.book(2_000, sequence=number) for number in numbers]


def test_pace_of_a_sequence_is_that_of_the_last_half_minute():
    """
    What a venue did long ago does not excuse a leap now.
    """
    venue = History()
    venue.book(0, sequence=0)
    venue.book(500, sequence=1_000_000)
    for n in range(40):
        venue.book(1_000, sequence=1_000_000 + n)

    assert "out_of_order" == venue.book(1_000, sequence=1_100_000)


def test_venue_without_sequence_and_time_is_taken_as_it_comes():
    """
    Kraken numbers and dates nothing: its age is our own clock's.
    """
    venue = History()
    assert [0] * 5 == [venue.book(60_000) for _ in range(5)]


def test_book_that_comes_in_later_than_usual_is_that_much_older():
    """
    The promptest recent answer tells what the way costs; what a book takes longer is its age.
    """
    venue = History()
    # The first is 80 ms late, which is taken for the way.
    assert [0, 0, 40, 0, 120] == [venue.book(1000, late_ms=late) for late in (80, 60, 100, 50, 170)]


def test_slow_answer_is_as_old_as_its_request_and_says_nothing_of_the_next():
    """
    A request that took two seconds brings a book two seconds old; the prompt ones after it are as fresh as ever.
    """
    venue = History()
    ages = [venue.book(100, late_ms=20, took_ms=took_ms) for took_ms in (30, 2_000, 30)]

    assert [30, 2_000, 30] == ages


def test_lateness_is_measured_against_the_last_half_minute_only():
    """
    A way that has become longer for good is not held against the venue for ever.
    """
    venue = History()
    assert 0 == venue.book(0, late_ms=0)
    ages = [venue.book(1_000, late_ms=400) for _ in range(40)]

    assert [400] * 31 == ages[:31]
    assert [0] * 9 == ages[31:]


def test_stopped_clock_makes_the_book_age_until_it_is_refused():
    """
    A cache that repeats an old answer does not renew its age: the book counts from the moment it was made.
    """
    venue = History()
    assert 0 == venue.book(0, late_ms=30)
    stopped = START_MS - 30
    assert [1000, 2000, 3000, 4000, 5000] == [venue.book(1000, time_ms=stopped) for _ in range(5)]
    assert "lagging" == venue.book(1, time_ms=stopped)


def test_clock_that_stands_still_is_never_believed():
    """
    However long a venue repeats one answer, it does not become a new one.
    """
    venue = History()
    assert 0 == venue.book(0, late_ms=0)
    assert {"lagging"} == {venue.book(5_001, time_ms=START_MS) for _ in range(60)}
    # A second one, later, that stands again, is no better.
    now_ms = START_MS + venue.now_ms - 1_000_000 - CLOCK_LAG_MAX_MS - 2_000
    assert {"lagging"} == {venue.book(500, time_ms=now_ms) for _ in range(240)}


def test_time_of_the_last_change_says_nothing_about_age():
    """
    Where the venue's time is that of the last change, a quiet market is not a stale one.
    """
    venue = History(generation=False)
    assert [0] * 4 == [venue.book(20_000, time_ms=START_MS) for _ in range(4)]


@pytest.mark.parametrize(("late_ms", "answer"), [
    (CLOCK_LAG_MAX_MS, 5000),
    (CLOCK_LAG_MAX_MS + 1, "lagging"),
    (-CLOCK_LAG_MAX_MS, 0),
    # Ahead of what was possible a moment ago: one of the two is wrong.
    (-CLOCK_LAG_MAX_MS - 1, "out_of_order"),
])  # fmt: skip
def test_clock_may_be_five_seconds_off_its_usual_course(late_ms, answer):
    """
    Five seconds late is old, more is refused; five seconds early is a clock that was set, more is refused.
    """
    venue = History()
    # Long enough between them that the time itself does not go back.
    assert 0 == venue.book(0, late_ms=0)
    assert answer == venue.book(6_000, late_ms=late_ms)


def until_believed(venue, step_ms, **book):
    """Show books until one is accepted; give the time that took."""
    began_ms = venue.now_ms
    for number in range(1000):
        shown = {name: value(number) for name, value in book.items()}
        if not isinstance(venue.book(step_ms if number else 0, **shown), str):
            return venue.now_ms - began_ms
    return None


@pytest.mark.parametrize("book", [
    # Numbered anew from one.
    {"sequence": lambda n: 1 + n},
    # Numbered anew, and nothing happens.
    {"sequence": lambda n: 1},
    # The clock was set back, or ahead, by an hour.
    {"sequence": lambda n: 1000 + n, "late_ms": lambda n: 3_600_000},
    {"sequence": lambda n: 1000 + n, "late_ms": lambda n: -3_600_000},
    # The clock was set, and its answers take a little longer or shorter.
    {"late_ms": lambda n: 3_600_000 + 300 * (n % 3)},
])  # fmt: skip
def test_venue_that_began_anew_is_believed_after_half_a_minute_of_agreement(book):
    """
    A restart is not an error for ever: books that agree with each other for 30 s are believed, not earlier.
    """
    venue = History()
    assert 0 == venue.book(0, sequence=999, late_ms=0)
    venue.now_ms += 1_000

    assert 30_000 == until_believed(venue, 1_000, **book)
    # From then on the new course is the usual one.
    assert 0 == venue.book(1_000, **{name: value(99) for name, value in book.items()})


@pytest.mark.parametrize("book", [
    # Two caches of different ages answer in turn.
    {"sequence": lambda n: 500 - n},
    {"late_ms": lambda n: 3_600_000 if n % 2 else 7_200_000},
    # Times rise, but not as clocks do.
    {"late_ms": lambda n: 3_600_000 + 400 * n},
])  # fmt: skip
def test_books_that_do_not_agree_with_each_other_are_never_believed(book):
    """
    Going back again and again is a broken venue, not a restarted one.
    """
    venue = History()
    assert 0 == venue.book(0, sequence=999, late_ms=0)

    assert until_believed(venue, 1_000, **book) is None


def test_good_book_in_between_ends_the_run_of_a_restart():
    """
    A venue that goes back to its old numbers has not restarted; the half minute begins again.
    """
    venue = History()
    assert 0 == venue.book(0, sequence=999)
    for _ in range(25):
        assert "out_of_order" == venue.book(1_000, sequence=1)
    assert 0 == venue.book(1_000, sequence=1000)

    assert 30_000 == until_believed(venue, 1_000, sequence=lambda n: 1)


def test_clock_of_a_venue_that_dates_only_changes_may_leap():
    """
    A time of the last change must not go back, and an hour's leap of it after a quiet hour is a change.
    """
    venue = History(generation=False)
    assert [0, 0] == [venue.book(0, time_ms=START_MS), venue.book(10, time_ms=START_MS + 3_600_000)]
    # Set back for good, it is believed after the half minute, though its offset to our clock wanders.
    assert 30_000 == until_believed(venue, 1_000, time_ms=lambda n: START_MS + n // 10)


def moving(number):
    return [[101.0 + number / 100, 1.0]]


def test_side_that_stands_still_while_the_other_moves_is_frozen():
    """
    Bids that stood for 5 s while the asks changed ten times and more are not the market's.
    """
    venue = History()
    for number in range(FROZEN_SIDE_BOOKS + 1):
        assert not venue.frozen
        assert 0 == venue.book(500 if number else 0, asks=moving(number))
    assert venue.frozen

    assert 0 == venue.book(1_000, bids=[[100.5, 1.0]], asks=moving(99))
    assert not venue.frozen


def test_asks_may_be_the_frozen_side():
    """
    Either side can freeze.
    """
    venue = History()
    for number in range(31):
        venue.book(1_000 if number else 0, bids=[[90.0 + number / 100, 1.0]])
    assert venue.frozen


@pytest.mark.parametrize(("books", "step_ms"), [
    # Nothing moves at all: a quiet market.
    (0, 1_000),
    # The other side moved too seldom to tell.
    (FROZEN_SIDE_BOOKS - 1, 1_000),
])  # fmt: skip
def test_quiet_market_is_not_frozen(books, step_ms):
    """
    A side stands still when nothing happens; that alone is no fault.
    """
    venue = History()
    for number in range(120):
        venue.book(step_ms, asks=moving(min(number, books)))
    assert not venue.frozen


def test_side_that_moved_is_watched_anew():
    """
    What the asks did before the bids last moved is not held against the bids.
    """
    venue = History()
    for number in range(9):
        venue.book(1_000, asks=moving(number))
    venue.book(1_000, bids=[[100.5, 1.0]], asks=moving(20))
    venue.book(6_000, bids=[[100.5, 1.0]], asks=moving(21))

    assert not venue.frozen


@pytest.mark.parametrize(("generation", "book", "genuine"), [
    # Its clock was an hour ahead, or behind, for so long that this became believable.
    (True, {"late_ms": -3_600_000}, {"late_ms": 0}),
    (True, {"late_ms": 3_600_000}, {"late_ms": 0}),
    (False, {"sequence": 1}, {"sequence": 1_000}),
    (False, {"sequence": 90_000_000}, {"sequence": 2_000}),
])  # fmt: skip
def test_venue_that_goes_on_where_it_left_off_is_believed_at_once(generation, book, genuine):
    """
    When the trouble of a clock or a sequence ends, the venue does not wait for another half minute.
    """
    venue = History(generation=generation)
    for number in range(5):
        assert 0 == venue.book(1_000, **({"sequence": 900 + number} if "sequence" in genuine else genuine))
    assert 30_000 == until_believed(
        venue, 1_000, **{name: lambda n, value=value: value for name, value in book.items()}
    )

    assert 0 == venue.book(1_000, **genuine)
    assert 0 == venue.book(1_000, **genuine)


def test_leap_does_not_become_credible_by_being_repeated():
    """
    A sequence an hour ahead is refused as long as it is refused, not only for the first few seconds.
    """
    venue = History()
    for number in range(5):
        assert 0 == venue.book(1_000, sequence=10 * number)
    assert ["out_of_order"] * 25 == [venue.book(1_000, sequence=36_050 + 10 * number) for number in range(25)]
    assert 0 == venue.book(1_000, sequence=310)


def test_fast_market_is_not_frozen_after_ten_books():
    """
    Ten changes within a second are not five seconds.
    """
    venue = History()
    for number in range(FROZEN_SIDE_NS // (1_000 * MS) * 9):
        venue.book(100, asks=moving(number))
    assert not venue.frozen
