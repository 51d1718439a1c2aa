"""Watch fills on a board fed by hand and a clock that is held."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exchanges.board import Board
from exchanges.book import Side, decimal, units
from exchanges.clock import MS, SystemClock
from service.accounting import plain
from service.desk.realism import FilledLevel, RealismWatch, Watched, pending_realism, still_there
from service.market.screening import Rules
from service.market.view import MarketView
from tests.conftest import venue_book
from tests.service.shown import instrument

BUY, SELL = Side.BUY, Side.SELL
STALE_AFTER_MS = 120_000
LISTINGS = {"BTC/USDT": {"coinbase": "BTC/USD", "kraken": "BTC/USDT"}}
ALL_MS = (50, 250, 1_000, 10_000, 60_000)

# Mid is 100.
KRAKEN = """
    .   102   1
    .   101   1
    1    99   .
    1    98   .
    """
# In dollars, of which there is no price here: it serves survival only.
COINBASE = """
    .   110   2
    2    90   .
    """
# Mid is 100.5.
UP = """
    .   102   9
    9    99   .
    """


class Room:
    """A watch with its board and clock, and what it has told."""

    def __init__(self, clock, watched_max=10):
        self.clock = clock
        self.board = Board(Decimal(1_000))
        for venue, symbol in LISTINGS["BTC/USDT"].items():
            self.board.seat(venue, symbol, STALE_AFTER_MS, clock.now_ns())
            self.board.instruct(instrument(venue, 0, symbol))
        self.told = []
        self.view = MarketView(self.board, Rules(), LISTINGS)
        self.watch = RealismWatch(self.view, self.board, clock, self.done, watched_max)

    def done(self, execution_id, account, realism):
        self.told.append((execution_id, account, realism))

    def publish(self, **ladders):
        now_ns = self.clock.now_ns()
        for venue, ladder in ladders.items():
            symbol = LISTINGS["BTC/USDT"][venue]
            self.board.publish(venue_book(venue, ladder, symbol=symbol, received_at_ns=now_ns), now_ns)

    def fill(self, levels="kraken 1 @ 101", side=BUY, execution_id="a", mid="100", at_ns=None):
        at_ns = self.clock.now_ns() if at_ns is None else at_ns
        twice_mid = 2 * units(Decimal(mid))
        self.watch.watch(Watched(execution_id, "alice", "BTC/USDT", side, taken(levels), twice_mid, at_ns))

    def go(self, *moments_ms):
        """Move the clock to each of these moments, counted from now, and look; give what the last look gave."""
        began_ns = self.clock.now_ns()
        for ms in moments_ms:
            self.clock.advance(ms - (self.clock.now_ns() - began_ns) // MS)
            wait_s = self.watch.advance(self.clock.now_ns())
        return wait_s

    def outcome(self):
        """What was told of the one execution."""
        [(_, _, realism)] = self.told
        return points(realism)


def points(realism):
    """Shares and mark-outs as the contract writes them."""
    message = realism.message()
    return [point["share"] for point in message["survival"]], [point["bps"] for point in message["markout_bps"]]


def taken(text):
    """Levels as a trader writes them: ``kraken 1 @ 101, coinbase 2 @ 110``."""
    levels = []
    for level in text.split(", "):
        venue, quantity, _, price = level.split()
        symbol = LISTINGS["BTC/USDT"].get(venue, "BTC/USDT")
        levels.append(FilledLevel(venue, symbol, units(Decimal(price)), units(Decimal(quantity))))
    return tuple(levels)


@pytest.fixture
def room(clock):
    room = Room(clock)
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    return room


# What is still there


@pytest.mark.parametrize(
    ("side", "levels", "ladder", "expected"),
    [
        # As it was.
        (BUY, "kraken 1 @ 101, kraken 1 @ 102", KRAKEN, "2"),
        (SELL, "kraken 1 @ 99, kraken 1 @ 98", KRAKEN, "2"),
        # Less of it, and none.
        (BUY, "kraken 3 @ 101", KRAKEN, "1"),
        (SELL, "kraken 3 @ 99", KRAKEN, "1"),
        (BUY, "kraken 1 @ 100.9", KRAKEN, "0"),
        (SELL, "kraken 1 @ 99.1", KRAKEN, "0"),
        # A better price is as good, a worse one is not.
        (BUY, "kraken 3 @ 102", KRAKEN, "2"),
        (SELL, "kraken 3 @ 98", KRAKEN, "2"),
        (BUY, "kraken 3 @ 101.9", KRAKEN, "1"),
        (SELL, "kraken 3 @ 98.1", KRAKEN, "1"),
        # More than was filled there is not counted.
        (BUY, "kraken 0.5 @ 102", KRAKEN, "0.5"),
        # What is seen once counts once ...
        (BUY, "kraken 1 @ 101, kraken 1 @ 102", ". 101 1\n1 99 .", "1"),
        (SELL, "kraken 1 @ 99, kraken 1 @ 98", ". 101 1\n1 99 .", "1"),
        (BUY, "kraken 1 @ 101, kraken 1 @ 101", ". 101 1.5\n1 99 .", "1.5"),
        # ... and goes as far as it can, in whatever order it was taken.
        (BUY, "kraken 1 @ 102, kraken 1 @ 101", ". 101 2\n1 99 .", "2"),
        (BUY, "kraken 1 @ 102, kraken 1 @ 101", ". 102 2\n. 101 0.5\n1 99 .", "1.5"),
    ],
)
def test_what_is_still_there_at_the_price_or_better(side, levels, ladder, expected):
    """
    What counts is what a venue still shows of a fill at the same price or better, each visible quantity once.
    """
    assert expected == plain(decimal(still_there(side, taken(levels), venue_book("kraken", ladder))))


ROWS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=6)


@given(st.sampled_from([BUY, SELL]), ROWS, st.dictionaries(st.integers(1, 12), st.integers(1, 5), min_size=1))
def test_no_sharing_out_could_count_more(side, filled, shown):
    """
    The count is the most that the visible quantity can give: what is worse than some price and was filled there, and
    what is shown up to it, bound it for every price.
    """
    sign = 1 if side is BUY else -1
    resting = "\n".join(f". {100 + price} {n}" if side is BUY else f"{n} {100 - price} ." for price, n in shown.items())
    other_side = "1 50 ." if side is BUY else ". 150 1"
    levels = ", ".join(f"kraken {n} @ {100 + sign * price}" for price, n in filled)
    most = min(
        sum(n for price, n in shown.items() if price <= bound) + sum(n for price, n in filled if price > bound)
        for bound in range(13)
    )

    book = venue_book("kraken", f"{resting}\n{other_side}")
    assert most == decimal(still_there(side, taken(levels), book))


# Survival


@pytest.mark.parametrize(
    ("side", "levels"), [(BUY, "kraken 1 @ 101, kraken 1 @ 102"), (SELL, "kraken 1 @ 99, kraken 1 @ 98")]
)
def test_survival_is_judged_at_three_moments(room, side, levels):
    """
    At 50, 250 and 1000 ms the share still there is what the venue shows just then.
    """
    room.fill(levels, side)
    room.clock.advance(10)
    room.publish(kraken=KRAKEN)
    room.clock.advance(40)
    room.watch.advance(room.clock.now_ns())
    room.publish(kraken=". 101 0.5\n0.5 99 .")
    room.clock.advance(200)
    room.watch.advance(room.clock.now_ns())
    room.publish(kraken=". 102.5 9\n9 97.5 .")
    room.clock.advance(750)
    room.watch.advance(room.clock.now_ns())
    room.go(9_000, 59_000)

    assert ["1", "0.25", "0"] == room.outcome()[0]


@pytest.mark.parametrize(
    ("filled", "left", "expected"),
    [
        ("3", "1", "0.3333"),
        ("3", "2", "0.6667"),
        ("2", "1.84", "0.92"),
        # Half goes to the even digit.
        ("2", "0.0001", "0"),
        ("2", "0.0003", "0.0002"),
        ("2", "0.0005", "0.0002"),
    ],
)
def test_a_share_has_four_decimals_at_most(room, filled, left, expected):
    """
    A share is rounded half-even to 4 decimals and written without trailing zeros.
    """
    room.fill(f"kraken {filled} @ 101")
    room.clock.advance(1)
    room.publish(kraken=f". 101 {left}\n1 99 .")
    room.go(49, 249, 999, 9_999, 59_999)

    assert [expected] * 3 == room.outcome()[0]


def test_a_level_is_held_against_its_own_venue_and_symbol(room):
    """
    A venue that trades in another asset is judged at its own price on its own book.
    """
    room.fill("coinbase 2 @ 110, kraken 1 @ 101, kraken 1 @ 102")
    room.clock.advance(1)
    room.publish(coinbase=". 110 1\n1 90 .", kraken=". 101 1\n1 99 .")
    room.go(49, 249, 999, 9_999, 59_999)

    assert ["0.5"] * 3 == room.outcome()[0]


def gone(room):
    room.publish(coinbase=COINBASE)
    room.board.fail("coinbase", "BTC/USD", "timeout", room.clock.now_ns(), at_once=True)


def taken_away(room):
    room.board.unseat("coinbase", "BTC/USD")


def silent(_):
    """Nothing has come from it since the fill."""


@pytest.mark.parametrize("becomes", [gone, taken_away, silent])
def test_a_level_that_cannot_be_judged_is_left_out_of_both_sums(room, becomes):
    """
    A venue that is not live, or has shown nothing since the fill, says neither that it was there nor that it was not.
    """
    room.fill("coinbase 2 @ 110, kraken 1 @ 101, kraken 1 @ 102")
    room.clock.advance(1)
    room.publish(kraken=". 101 1\n1 99 .")
    becomes(room)
    room.go(49, 249, 999, 9_999, 59_999)

    assert ["0.5"] * 3 == room.outcome()[0]


def test_a_share_is_null_until_a_book_has_come_that_is_newer_than_the_fill(room):
    """
    A book received at the moment of the fill shows nothing new; where no level can be judged the share is null.
    """
    room.fill()
    room.go(50)
    room.publish(kraken=KRAKEN)
    room.go(200, 950, 9_950, 59_950)

    assert [None, "1", "1"] == room.outcome()[0]


# Mark-outs


@pytest.mark.parametrize(
    ("side", "mid", "expected"),
    [
        # Mid is 100.5 by then.
        (BUY, "100", "50"),
        (SELL, "100", "-50"),
        (BUY, "100.5", "0"),
        (SELL, "100.5", "0"),
        (BUY, "101", "-49.505"),
        (SELL, "101", "49.505"),
        (BUY, "99", "151.5152"),
        (SELL, "99", "-151.5152"),
    ],
)
def test_a_markout_is_positive_where_mid_moved_the_clients_way(room, side, mid, expected):
    """
    After a buy a rise of mid counts for the client, after a sell a fall does.
    """
    room.fill(side=side, mid=mid)
    room.publish(kraken=UP)
    room.go(*ALL_MS)

    assert [expected] * 3 == room.outcome()[1]


def test_markout_of_a_symbol_that_is_not_served_any_more_is_null(room):
    """
    The watch over a fill outlives the end of its symbol: what can still be seen is told, and no mid is made up.
    """
    room.fill()
    room.go(50, 250, 1_000)
    room.view.serve(Rules(), {})
    room.go(9_000, 59_000)

    assert [None, None] == room.outcome()[1][1:]


def test_markouts_are_judged_at_three_moments(room):
    """
    At 1, 10 and 60 s a mark-out is by the consolidated mid of just then, and null while there is none.
    """
    room.fill()
    room.publish(kraken=UP)
    room.go(50, 250, 1_000)
    room.board.fail("kraken", "BTC/USDT", "timeout", room.clock.now_ns(), at_once=True)
    room.go(9_000)
    room.publish(kraken=KRAKEN)
    room.go(50_000)

    assert ["50", None, "0"] == room.outcome()[1]


# Time


@pytest.mark.parametrize(
    ("place", "late_ms", "seen"),
    [(0, 60, True), (0, 61, False), (1, 100, True), (1, 101, False), (2, 250, True), (2, 251, False)],
)
def test_a_share_seen_too_late_is_null(room, place, late_ms, seen):
    """
    A loop that was blocked for more than 50 ms and a fifth of the delay makes a point null rather than wrong.
    """
    moments_ms = list(ALL_MS)
    moments_ms[place] += late_ms
    room.fill()
    room.clock.advance(1)
    room.publish(kraken=KRAKEN)
    room.go(*(ms - 1 for ms in moments_ms))

    assert ["1" if seen or other != place else None for other in range(3)] == room.outcome()[0]


@pytest.mark.parametrize(
    ("place", "late_ms", "seen"),
    [(0, 250, True), (0, 251, False), (1, 2_050, True), (1, 2_051, False), (2, 12_050, True), (2, 12_051, False)],
)
def test_a_markout_seen_too_late_is_null(room, place, late_ms, seen):
    """
    The same holds for mark-outs.
    """
    moments_ms = list(ALL_MS)
    moments_ms[2 + place] += late_ms
    room.fill()
    room.go(*moments_ms)

    assert ["0" if seen or other != place else None for other in range(3)] == room.outcome()[1]


def test_points_that_were_all_missed_are_all_null(room):
    """
    A fill that nobody could look after for two minutes is done with at once.
    """
    room.fill()
    assert room.go(120_000) is None

    assert ([None] * 3, [None] * 3) == room.outcome()


def test_advance_tells_when_the_next_point_is_due(room):
    """
    Between two points there is nothing to do, and after the last nothing to wait for.
    """
    assert room.watch.advance(room.clock.now_ns()) is None
    room.fill()
    assert [0.05, 0.001, 0.2, 0.75, 9, 50, None] == [
        room.go(ms) for ms in (0, 49, 1, 200, 750, 9_000, 50_000)
    ]  # Each from the one before.


def test_fills_are_judged_when_each_is_due_in_whatever_order_they_came(room):
    """
    A fill that was handed over late is looked at before one that is younger.
    """
    room.clock.advance(100)
    room.fill(execution_id="younger")
    room.fill(execution_id="older", at_ns=room.clock.now_ns() - 40 * MS)

    assert 0.01 == room.watch.advance(room.clock.now_ns())
    assert 0.04 == room.go(10)
    room.go(*(ms - 10 for ms in ALL_MS), 60_000)
    assert ["older", "younger"] == [execution_id for execution_id, _, _ in room.told]


def test_done_is_told_once_and_at_the_end(room):
    """
    Nothing is told before the last point is over; then it is the whole, once, for the account whose it is.
    """
    room.fill()
    room.clock.advance(10)
    room.publish(kraken=UP)
    room.go(40, 240, 990, 9_990, 59_980)
    assert [] == room.told
    room.go(10, 60_000, 120_000)

    [(execution_id, account, realism)] = room.told
    assert ("a", "alice") == (execution_id, account)
    assert {
        "pending": False,
        "survival": [
            {"after_ms": 50, "share": "0"},
            {"after_ms": 250, "share": "0"},
            {"after_ms": 1000, "share": "0"},
        ],
        "markout_bps": [{"after_s": 1, "bps": "50"}, {"after_s": 10, "bps": "50"}, {"after_s": 60, "bps": "50"}],
    } == realism.message()


def test_what_is_pending_is_all_null():
    """
    Of an execution whose watch is not over nothing is told yet.
    """
    message = pending_realism().message()

    assert True is message["pending"]
    assert [(50, None), (250, None), (1000, None)] == [tuple(point.values()) for point in message["survival"]]
    assert [(1, None), (10, None), (60, None)] == [tuple(point.values()) for point in message["markout_bps"]]


# Bounds


def test_when_full_the_oldest_is_finished_as_it_is(clock):
    """
    A fill for which there is no room any more keeps what was seen; its open points are null.
    """
    room = Room(clock, watched_max=2)
    room.publish(kraken=KRAKEN)
    room.fill(execution_id="a")
    room.clock.advance(1)
    room.publish(kraken=KRAKEN)
    room.fill(execution_id="b")
    room.go(49)
    room.fill(execution_id="c")
    assert [] == room.told
    room.watch.advance(room.clock.now_ns())

    assert ["a"] == [execution_id for execution_id, _, _ in room.told]
    assert (["1", None, None], [None] * 3) == room.outcome()
    room.go(*ALL_MS)
    assert ["a", "b", "c"] == [execution_id for execution_id, _, _ in room.told]


def test_a_watch_that_nobody_advances_stays_small(clock):
    """
    However many fills come, no more are kept than are watched and as many that are over.
    """
    room = Room(clock, watched_max=3)
    for n in range(1_000):
        room.fill(execution_id=str(n))
        assert len(room.watch._due) <= 6
    room.watch.advance(clock.now_ns())

    assert ["994", "995", "996"] == [execution_id for execution_id, _, _ in room.told]
    room.go(*ALL_MS)
    assert ["997", "998", "999"] == [execution_id for execution_id, _, _ in room.told[3:]]


def test_levels_are_let_go_of_once_their_survival_is_known(room):
    """
    For the minute of mark-outs a fill's levels, of which there may be thousands, are not kept.
    """
    room.fill()
    room.go(50, 250)
    assert [1] == [len(watch.fill.levels) for watch in room.watch._watches.values()]
    room.go(750)
    assert [0] == [len(watch.fill.levels) for watch in room.watch._watches.values()]


def test_many_points_are_done_a_few_at_a_time(room):
    """
    Others have their turn while there is more to do; what is left is done by the calls that follow.
    """
    for n in range(5):
        room.fill(execution_id=str(n))
    room.clock.advance(50)

    assert [0, 0, 0.2] == [room.watch.advance(room.clock.now_ns(), steps_max=2) for _ in range(3)]


# Faults


def test_what_done_raises_costs_one_execution_only(room):
    """
    An execution that cannot be told of is not told of again; the others are.
    """
    tell = room.done

    def done(execution_id, account, realism):
        if execution_id == "a":
            raise OSError("the disk is full")
        tell(execution_id, account, realism)

    room.watch._done = done
    room.fill(execution_id="a")
    room.fill(execution_id="b")
    room.go(*ALL_MS[:-1])
    with pytest.raises(OSError, match="full"):
        room.go(50_000)
    room.go(0)
    room.go(60_000)

    assert ["b"] == [execution_id for execution_id, _, _ in room.told]


def test_a_point_that_cannot_be_judged_stays_open(room):
    """
    A mid of nothing has no mark-out; what else there is to see of that execution is seen, and so are the others.
    """
    room.fill(execution_id="a", mid="0")
    room.fill(execution_id="b")
    room.clock.advance(1)
    room.publish(kraken=KRAKEN)
    room.go(49, 249)
    for ms in (750, 9_000, 50_000):
        with pytest.raises(ZeroDivisionError):
            room.go(ms)
        room.go(0)

    assert ["a", "b"] == [execution_id for execution_id, _, _ in room.told]
    assert [(["1"] * 3, [None] * 3), (["1"] * 3, ["0"] * 3)] == [points(realism) for _, _, realism in room.told]


# The loop


@pytest.fixture
async def running():
    """A room whose watch runs by the machine's clock."""
    room = Room(SystemClock(), watched_max=2)
    room.publish(kraken=KRAKEN)
    task = asyncio.create_task(room.watch.run())
    yield room
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def reaches(condition, within_s=5.0):
    """Wait until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.005)


async def test_the_loop_judges_a_point_when_it_is_due(running):
    """
    A sleeping loop is woken by a fill, and again when the fill's last minute is over.
    """
    await asyncio.sleep(0)
    due_ns = running.clock.now_ns() + 30 * MS
    running.fill(at_ns=due_ns - 60_000 * MS)
    await reaches(lambda: running.told)

    assert due_ns <= running.clock.now_ns()
    assert ([None] * 3, [None, None, "0"]) == running.outcome()


async def test_the_loop_tells_at_once_of_what_there_is_no_room_for(running):
    """
    The oldest is not kept until something else is due, so that none is forgotten.
    """
    for execution_id in ("a", "b", "c", "d", "e"):
        await asyncio.sleep(0)
        running.fill(execution_id=execution_id)
    await reaches(lambda: len(running.told) == 3)

    assert ["a", "b", "c"] == [execution_id for execution_id, _, _ in running.told]


async def test_the_loop_outlives_what_goes_wrong_in_it(running):
    """
    A bug is logged with its traceback, and the watch goes on.
    """
    tell, running.watch._done = running.watch._done, None
    with capture_logs() as lines:
        running.fill(execution_id="a", at_ns=running.clock.now_ns() - 90_000 * MS)
        await reaches(lambda: lines)
        running.watch._done = tell
        running.fill(execution_id="b", at_ns=running.clock.now_ns() - 90_000 * MS)
        await reaches(lambda: running.told)

    assert ["b"] == [execution_id for execution_id, _, _ in running.told]
    assert [("realism.failed", "error", True)] == [
        (line["event"], line["log_level"], line["exc_info"]) for line in lines
    ]
