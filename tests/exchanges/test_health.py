"""A venue's standing: what moves it, what venues say of each other, and what holds a symbol back."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.book import UNIT, units
from exchanges.clock import MS
from exchanges.health import TRANSITIONS, Event, Health, JumpGuard, State, Status, apart, median, outliers

STALE_AFTER_MS = 5_000


class Venue:
    """A venue's health and a clock that is moved between events."""

    def __init__(self):
        self.now_ms = 1_000
        self.health = Health(self.now_ns, STALE_AFTER_MS * MS)

    @property
    def now_ns(self):
        return self.now_ms * MS

    @property
    def status(self):
        return self.health.status(self.now_ns)

    @property
    def seen(self):
        return f"{self.status.state} {self.status.reason} {self.status.since_ns // MS}"

    def good(self, times=1, *, every_ms=0, age_ms=0):
        for _ in range(times):
            self.now_ms += every_ms
            self.health.accepted(self.now_ns, self.now_ns - age_ms * MS)
        return self

    def bad(self, reason="crossed", times=1, *, every_ms=0):
        for _ in range(times):
            self.now_ms += every_ms
            self.health.rejected(reason, self.now_ns)
        return self

    def silent(self, reason="timeout", times=1, *, at_once=False):
        for _ in range(times):
            self.health.failed(reason, self.now_ns, at_once=at_once)
        return self

    def doubted(self, reason="outlier", *, own=True):
        self.health.doubted(reason, self.now_ns, by_its_own_book=own)
        return self

    def later(self, ms):
        self.now_ms += ms
        return self


def warming():
    return Venue()


def live():
    return Venue().good()


def stale():
    return live().later(5_001)


def suspect():
    return live().doubted()


def down():
    return live().silent(times=3)


STATES = {
    State.WARMING: warming, State.LIVE: live, State.STALE: stale, State.SUSPECT: suspect, State.DOWN: down,
}  # fmt: skip


@pytest.mark.parametrize(("state", "make"), STATES.items())
def test_every_state_can_be_reached(state, make):
    """
    The five words are five places that a venue does stand in.
    """
    assert state is make().status.state


# What happens to a venue, and the event in the table that it is.
EVENTS = {
    Event.GOOD_BOOK: lambda venue: venue.good(),
    Event.AGED: lambda venue: venue.health.spoiled("loop_stalled", venue.now_ns),
    Event.DOUBTED: lambda venue: venue.doubted(own=False),
    Event.CONFIRMED: lambda venue: venue.good(3, every_ms=500),
    Event.GAVE_OUT: lambda venue: venue.silent(at_once=True),
}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_event_moves_a_state_as_the_table_says_and_no_other_way(state, event):
    """
    The table is the whole truth: an event that it does not name for a state leaves the state alone.
    """
    venue = STATES[state]()
    EVENTS[event](venue)
    expected = TRANSITIONS.get((state, event), state)
    if event is Event.CONFIRMED and state in (State.WARMING, State.STALE, State.DOWN):
        expected = State.LIVE  # The first of the three books is enough for those.

    assert expected is venue.status.state


@pytest.mark.parametrize(("start", "end"), [
    (State.WARMING, State.LIVE), (State.LIVE, State.STALE), (State.STALE, State.LIVE), (State.LIVE, State.SUSPECT),
    (State.SUSPECT, State.LIVE), (State.SUSPECT, State.DOWN), (State.DOWN, State.LIVE),
    (State.WARMING, State.DOWN), (State.LIVE, State.DOWN), (State.STALE, State.DOWN), (State.STALE, State.SUSPECT),
])  # fmt: skip
def test_ways_between_states_are_those_of_the_design(start, end):
    """
    Warming, live, stale, suspect and down are joined as the drawing shows.
    """
    assert end in {after for (before, _), after in TRANSITIONS.items() if before is start}


@pytest.mark.parametrize(("venue", "seen"), [
    (warming(), "warming no_book_yet 1000"),
    # A live venue has no reason, and its since is not renewed by further books.
    (live().good(5, every_ms=100), "live None 1000"),
    # Stale since the moment at which the book became too old, not since somebody looked.
    (live().later(60_000), "stale stale 6000"),
    (live().later(5_000), "live None 1000"),
    (stale().good(), "live None 6001"),
    # Age counts from when the book was asked for.
    (Venue().good(age_ms=2_000).later(3_000), "live None 1000"),
    (Venue().good(age_ms=2_000).later(3_001), "stale stale 4000"),
    # A book that is too old when it comes in makes nobody live.
    (Venue().good(age_ms=5_001), "warming no_book_yet 1000"),
    (down().good(age_ms=5_001), "down timeout 1000"),
    (stale().good(age_ms=5_001), "stale stale 6000"),
    # Failures: two are nothing, the third takes it down, with its reason kept up to date.
    (live().silent(times=2), "live None 1000"),
    (live().silent(times=2).good().silent(times=2), "live None 1000"),
    (live().silent(times=3), "down timeout 1000"),
    (live().silent(times=3).later(9).silent("http_503"), "down http_503 1000"),
    (live().silent("banned", at_once=True), "down banned 1000"),
    (warming().silent("unreachable"), "warming unreachable 1000"),
    (warming().later(1).silent(times=3), "down timeout 1001"),
    # A rejected book is an answer: the row of failures is broken.
    (live().silent(times=2).bad().silent(times=2), "live None 1000"),
    (live().silent(times=2).doubted("outlier").silent(times=2), "suspect timeout 1000"),
    (suspect().silent(times=3), "down timeout 1000"),
    # Rejects: the third within a minute.
    (live().bad(times=2), "live None 1000"),
    (live().bad(times=3), "suspect crossed 1000"),
    (live().bad(times=3).bad("empty"), "suspect empty 1000"),
    (warming().bad(times=3), "warming crossed 1000"),
    (down().bad(), "down crossed 1000"),
    (stale().bad(), "stale stale 6000"),
    (stale().bad(times=3), "suspect crossed 6001"),
    # Doubt.
    (live().later(5).doubted(), "suspect outlier 1005"),
    (suspect().later(5).doubted("frozen_side"), "suspect frozen_side 1000"),
    (stale().doubted(), "suspect outlier 6001"),
    # It answers, so it is not down, and not warming; but it does not count.
    (down().later(1).doubted(), "suspect outlier 1001"),
    (warming().later(1).doubted(), "suspect outlier 1001"),
    # Others' books say nothing about a venue that shows none.
    (down().doubted(own=False), "down timeout 1000"),
    (warming().doubted(own=False), "warming no_book_yet 1000"),
    (live().later(7).doubted(own=False), "suspect outlier 1007"),
])  # fmt: skip
def test_standing_after(venue, seen):
    """
    State, reason and since say what happened to a venue, and nothing else does.
    """
    assert seen == venue.seen


def test_rejects_are_counted_over_a_minute():
    """
    Three bad books in sixty seconds make a suspect; three spread over more do not.
    """
    assert State.SUSPECT is live().bad(every_ms=1, times=2).good(1, every_ms=58_000).bad(every_ms=1_999).status.state
    assert State.LIVE is live().bad().good(1, every_ms=30_000).bad().good(1, every_ms=30_001).bad().status.state


@pytest.mark.parametrize(("books", "every_ms", "state"), [
    (2, 5_000, State.SUSPECT),
    (3, 499, State.SUSPECT),
    (3, 500, State.LIVE),
    # Many books in little time are as little proof as few.
    (10, 100, State.SUSPECT),
    (11, 100, State.LIVE),
])  # fmt: skip
def test_suspect_ends_after_three_good_books_over_a_second(books, every_ms, state):
    """
    A venue that was wrong must be right three times, and for a second, before it counts again.
    """
    venue = suspect().good(books, every_ms=every_ms)

    assert state is venue.status.state
    assert (None if state is State.LIVE else "outlier") == venue.status.reason


@pytest.mark.parametrize("trouble", [Venue.bad, Venue.silent, Venue.doubted])
def test_trouble_in_between_begins_the_three_good_books_anew(trouble):
    """
    Right, wrong, right, right is not three times right.
    """
    venue = suspect().good(2, every_ms=700)
    trouble(venue)

    assert State.SUSPECT is venue.good(2, every_ms=700).status.state
    assert State.LIVE is venue.good(1, every_ms=700).status.state


def test_confirmed_venue_starts_with_a_clean_slate():
    """
    What was rejected before a venue was confirmed is not held against it afterwards.
    """
    venue = live().bad(times=3).good(3, every_ms=500)

    assert State.LIVE is venue.bad(times=2).status.state
    assert State.SUSPECT is venue.bad().status.state


def test_good_books_of_long_ago_do_not_confirm():
    """
    Good books from before the doubt prove nothing about what came after it.
    """
    assert State.SUSPECT is live().good(50, every_ms=100).doubted().good(1, every_ms=1).status.state


HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["good", "bad", "silent", "doubted", "others", "spoiled", "late"]), st.integers(0, 3_000)
    ),
    max_size=40,
)


@given(HAPPENINGS)
def test_live_is_fresh_and_has_no_reason_and_everything_else_has_one(happenings):
    """
    Whatever happens, a venue that counts has shown a good book within its time, and one that does not says why.
    """
    venue, last_good_ms = Venue(), None
    for what, ms in happenings:
        venue.later(ms)
        match what:
            case "good":
                venue.good()
                last_good_ms = venue.now_ms
            case "late":
                venue.good(age_ms=ms)
                last_good_ms = venue.now_ms - ms
            case "bad":
                venue.bad()
            case "silent":
                venue.silent()
            case "doubted" | "others":
                venue.doubted(own=what == "doubted")
            case "spoiled":
                venue.health.spoiled("loop_stalled", venue.now_ns)
        status = venue.status
        assert (status.state is State.LIVE) == (status.reason is None)
        assert status.since_ns <= venue.now_ns
        if status.state is State.LIVE:
            assert last_good_ms is not None and venue.now_ms - last_good_ms <= STALE_AFTER_MS
            assert what not in ("doubted", "others", "spoiled")


# Outliers.


@pytest.mark.parametrize(("mids", "named"), [
    ("100", ""),
    # Two that disagree: who is wrong cannot be told.
    ("100 1000", ""),
    ("100 100 1000", "2"),
    ("100 10 100", "1"),
    ("101.5 100 100", "0"),
    ("100 100.9 99.1", ""),
    # Exactly at the limit is not over it.
    ("100 101 100", ""),
    ("100 101.01 100", "1"),
    ("100 100.1 99.9 1000", "3"),
    ("100 100.1 99.9 10", "3"),
    ("100 100.1 99.9 101.5", "3"),
    # Two against two: the median is nobody's, and nobody is believed.
    ("100 100 1000 1000", "0 1 2 3"),
    ("100 200 300", "0 1 2"),
    ("100 100 100 1000 10", "3 4"),
    ("100 100 100 101.5 98.5", "3 4"),
    # Three of five that are wrong in the same way cannot be told from right ones.
    ("100 100 1000 1000 1000", "0 1"),
    ("100 120 140 160 180", "0 1 2 3 4"),
])  # fmt: skip
def test_venue_far_from_the_median_is_named(mids, named):
    """
    With three or more venues the one that is 10 times, a tenth, or 1.5 % off is left out; with fewer nobody is.
    """
    shown = {str(place): units(Decimal(mid)) for place, mid in enumerate(mids.split())}

    assert set(named.split()) == outliers(shown, Decimal(100))


MIDS = st.lists(st.decimals(min_value=1, max_value=10**6, places=2), max_size=7)


@given(MIDS, st.sampled_from([Decimal(1), Decimal(100), Decimal(5_000)]))
def test_those_who_are_left_agree_with_at_least_one_other(mids, bps):
    """
    After the outliers are gone, either nobody is left or at least two stand near the median.
    """
    shown = {str(place): units(mid) for place, mid in enumerate(mids)}
    named = outliers(shown, bps)
    left = shown.keys() - named

    assert named <= shown.keys()
    if len(shown) < 3:
        assert not named
    else:
        assert not left or len(left) >= 2
    if left and named:
        # Any two that are left are no further apart than twice the limit allows.
        low, high = min(shown[venue] for venue in left), max(shown[venue] for venue in left)
        assert high <= low * (1 + bps / 10_000) / max(Decimal("0.0001"), 1 - bps / 10_000)


@pytest.mark.parametrize("mid", ["101.5", "98.5"])
def test_distance_is_in_basis_points_of_the_other(mid):
    """
    1.5 % is 150 bps, up or down, and what is just at the limit is not beyond it.
    """
    assert not apart(units(Decimal(mid)), units(Decimal(100)), Decimal(150))
    assert apart(units(Decimal(mid)), units(Decimal(100)), Decimal("149.999999"))


@pytest.mark.parametrize(("mids", "middle"), [("7", 7), ("9 7", 8), ("7 10", 8), ("9 1 8", 8), ("9 1 4 7", 5)])
def test_median_is_the_middle_one_or_between_the_middle_two(mids, middle):
    """
    Between two whole numbers it is rounded down.
    """
    assert middle == median(list(map(int, mids.split())))


# Jumps.


@pytest.mark.parametrize(("mids", "held"), [
    ("0:100", "-"),
    # Five per cent is a lot, and allowed.
    ("0:100 1000:105", "- -"),
    ("0:100 1000:105.01", "- h"),
    ("0:100 1000:94.9", "- h"),
    # Three further updates over two seconds confirm it.
    ("0:100 1000:108 1700:108 2400:108 3100:108", "- h h h -"),
    ("0:100 1000:108 1600:108 2200:108 2800:108 3000:108", "- h h h h -"),
    ("0:100 1000:108 2000:108 3000:108", "- h h h"),
    # It returns: that was it.
    ("0:100 1000:108 1100:100", "- h -"),
    # And leaps again.
    ("0:100 1000:108 1100:100 1200:108", "- h - h"),
    # After a silence of more than ten seconds a new price is news.
    ("0:100 10001:108", "- -"),
    ("0:100 10000:108", "- h"),
    # A second leap while held begins the confirmation anew.
    ("0:100 1000:108 2000:108 3000:108 3500:120 4000:120 5000:120 5500:120", "- h h h h h h -"),
    # Held through a silence, it goes on counting.
    ("0:100 9000:108 20000:108 20100:108 20200:108", "- h h h -"),
    ("0:100 9000:108 20000:125 20100:125 20200:125 22100:125", "- h h h h -"),
    # More than 30 % is hardly a market's: it must stand for a minute.
    ("0:100 1000:131 20000:131 40000:131 60999:131 61000:131", "- h h h h -"),
    ("0:100 1000:69 2000:69 3000:69 4000:69 61000:69", "- h h h h -"),
    # The old price is believed at once, however long ago it was last seen ...
    ("0:100 1000:1000 2000:1000 30000:1000 30001:104", "- h h h -"),
    # ... and after a wild one a jump is only a jump.
    ("0:100 1000:1000 30000:108 31000:108 32000:108 32001:108", "- h h h h -"),
    # Creeping is not leaping, but what creeps out of the window's reach within ten seconds is.
    ("0:100 4000:103 8000:106", "- - h"),
    ("0:100 4000:97 8000:94", "- - h"),
    ("0:100 6000:103 12000:106 18000:109", "- - - -"),
    # A slide is held from where it has leapt, however little one update adds to the one before.
    ("0:100 500:98 1000:96 1500:94 2000:92 2500:91 3000:91 3500:91", "- - - h h h h -"),
    ("0:100 500:98 1000:96 1500:94 2000:92 2500:96 3000:96", "- - - h h - -"),
    ("0:100 500:80 1000:68 1500:68 2000:68 2500:68 4000:68 61000:68", "- h h h h h h -"),
    # Confirmed, the old price is forgotten ...
    ("0:100 1000:108 2000:108 3000:108 4000:108 4100:108", "- h h h - -"),
    # ... and the new one is the one that leaps are measured from.
    ("0:100 1000:108 2000:108 3000:108 4000:108 4100:100", "- h h h - h"),
])  # fmt: skip
def test_leap_is_held_until_it_is_confirmed(mids, held):
    """
    A mid that moves more than 5 % within ten seconds waits for three further updates over two seconds.
    """
    guard, seen = JumpGuard(), []
    for update in mids.split():
        at_ms, mid = update.split(":")
        guard.observe(units(Decimal(mid)), int(at_ms) * MS)
        seen.append("h" if guard.held else "-")

    assert held == " ".join(seen)


@given(st.lists(st.tuples(st.integers(0, 4_000), st.integers(90, 130)), max_size=60))
def test_symbol_is_never_held_for_ever(updates):
    """
    Whatever came before, a price that stays where it is gets confirmed within four updates and a minute.
    """
    guard, now_ms = JumpGuard(), 0
    for step_ms, mid in updates:
        now_ms += step_ms
        guard.observe(mid * UNIT, now_ms * MS)
    for _ in range(4):
        now_ms += 20_000
        guard.observe(200 * UNIT, now_ms * MS)

    assert not guard.held


def test_venue_whose_book_was_spoiled_is_stale_once_it_is_too_old():
    """
    A stall of the service is the reason until a book would have aged by itself; from there the venue owes the next.
    """
    health = Health(0, 1_000 * MS)
    health.accepted(0, 0)
    health.spoiled("loop_stalled", 500 * MS)

    assert Status(State.STALE, "loop_stalled", 500 * MS) == health.status(1_000 * MS)
    assert Status(State.STALE, "stale", 500 * MS) == health.status(1_001 * MS)
