"""What is taken of a level, until the venue has replaced it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.book import Ladder, Side, VenueBook, units
from service.accounting import price_text
from service.market import taken
from service.market.taken import NOTHING, OFF, PER_ACCOUNT, SHARED, Charge, LevelKey, Lot, TakenLiquidity
from tests.conftest import venue_book

BUY, SELL = Side.BUY, Side.SELL
HALF_LIFE_MS = 30_000

BOOK = """
    .   102   8
    .   101  10
    5   100   .
    7    99   .
    """


def u(number):
    return units(Decimal(number))


def lot(quantity, ref="x1", n=0, *, price="101", side=BUY, shown="10", at_ms=0, step="1", account="alice", until=None):
    """A lot in a trader's numbers; *until* makes it a hold's."""
    return Lot(
        ref, n, LevelKey("kraken", "BTC/USDT", side, u(price)), u(quantity), at_ms, u(step), u(shown), account, until
    )


class Taken:
    """What is taken of kraken's BTC/USDT, with a clock."""

    def __init__(self, mode=SHARED, half_life_ms=HALF_LIFE_MS):
        self.liquidity = TakenLiquidity(mode, half_life_ms)
        self.now_ms = 0

    def add(self, *lots):
        self.liquidity.add(lots)

    def at(self, now_ms):
        self.now_ms = now_ms
        return self

    def show(self, ladder, venue="kraken", symbol="BTC/USDT"):
        self.liquidity.observe(venue_book(venue, ladder, symbol=symbol), self.now_ms)

    def charge(self, side=BUY, account="alice"):
        return self.liquidity.of(account, self.now_ms).of("kraken", "BTC/USDT", side)

    def drawn(self, side=BUY, account="alice"):
        """What is charged: quantity @ price."""
        charged = self.charge(side, account).all
        return ", ".join(f"{price_text(charged[price])} @ {price_text(price)}" for price in sorted(charged))

    def changed(self):
        return [f"{one.ref}/{one.n} {price_text(one.left)} since {one.since_ms}" for one in self.liquidity.changed()]


@pytest.fixture
def liquidity():
    return Taken()


@pytest.mark.parametrize("mode", [SHARED, PER_ACCOUNT])
def test_totals_are_everybodys(mode):
    """
    What all accounts' fills have taken, and what their quotes hold, is summed up by side, whoever it counts for.
    """
    liquidity = Taken(mode)
    liquidity.add(lot("6"), lot("1", "x2", price="102", account="bob"), lot("3", "q1", until=3_000, account="bob"))
    liquidity.add(lot("4", "x3", side=SELL, price="100"))

    buys, sells = ("kraken", "BTC/USDT", BUY), ("kraken", "BTC/USDT", SELL)
    assert {buys: (u("7"), u("3")), sells: (u("4"), 0)} == liquidity.liquidity.totals(0)
    assert {buys: (u("7"), 0), sells: (u("4"), 0)} == liquidity.liquidity.totals(3_000)


def test_what_fills_and_holds_take_is_charged_by_level(liquidity):
    """
    All that is taken of one level is added up, each side of the book for itself.
    """
    liquidity.add(lot("6"), lot("1", "x2"), lot("2", "x2", 1, price="102"), lot("3", "q1", until=3_000))
    liquidity.add(lot("4", "x3", side=SELL, price="100"))

    assert "10 @ 101, 2 @ 102" == liquidity.drawn()
    assert Charge({u(101): u(7), u(102): u(2)}, {u(101): u(3)}) == liquidity.charge()
    assert "4 @ 100" == liquidity.drawn(SELL)
    assert NOTHING is liquidity.liquidity.of("alice", 0).of("okx", "BTC/USDT", BUY)


def test_nothing_returns_before_the_half_life_and_half_right_after_it(liquidity):
    """
    What nobody has replaced is halved at each full half-life, floored to the quantity step, until nothing is left.
    """
    liquidity.add(lot("7"))

    assert "7 @ 101" == liquidity.at(HALF_LIFE_MS - 1).drawn()
    assert "3 @ 101" == liquidity.at(HALF_LIFE_MS).drawn()
    assert "3 @ 101" == liquidity.at(2 * HALF_LIFE_MS - 1).drawn()
    assert [] == liquidity.changed()
    assert "1 @ 101" == liquidity.at(2 * HALF_LIFE_MS).drawn()
    assert "" == liquidity.at(3 * HALF_LIFE_MS).drawn()
    assert NOTHING is liquidity.charge()
    assert ["x1/0 0 since 0"] == liquidity.changed()


@pytest.mark.parametrize(
    ("half_life_ms", "expected"),
    [
        # Half of it was back after 30 s; what is left is halved 60 s after that, or 10 s.
        (60_000, [(40_000, "4"), (89_999, "4"), (90_000, "2")]),
        (10_000, [(40_000, "2"), (49_999, "2"), (50_000, "1")]),
        (HALF_LIFE_MS, [(40_000, "4"), (59_999, "4"), (60_000, "2")]),
        # All of it is back at once.
        (0, [(40_000, "0"), (90_000, "0")]),
    ],
)
def test_another_half_life_counts_from_the_last_halving(liquidity, half_life_ms, expected):
    """
    What has come back is not taken again, holds hold as long as they would, and a restart comes to the same.
    """
    made = [lot("8"), lot("3", "q1", price="102", until=200_000)]
    liquidity.add(*made)
    liquidity.at(40_000).liquidity.halve_every(half_life_ms, 40_000)
    recorded = {(one.ref, one.n): one for one in (*made, *liquidity.liquidity.changed())}

    again = Taken(half_life_ms=half_life_ms)
    again.add(*recorded.values())
    for one in (liquidity, again):
        for now_ms, left in expected:
            drawn = one.at(now_ms).drawn()
            assert ("3 @ 102" if left == "0" else f"{left} @ 101, 3 @ 102") == drawn
    liquidity.add(lot("5", "x2", at_ms=90_000))
    assert bool(half_life_ms) == ("x2" in liquidity.liquidity._lots)
    assert "" == liquidity.at(10**7).drawn()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        # A level of 10 from which 6 is taken shrinks to 4: all 4 are there to be taken.
        (["4"], ""),
        # A new snapshot alone ends nothing, and neither does growth.
        (["10", "10"], "6 @ 101"),
        (["25"], "6 @ 101"),
        # The next one shrinks from what was seen last.
        (["25", "21"], "2 @ 101"),
        (["7"], "3 @ 101"),
        # What has been explained once is not explained again ...
        (["7", "7"], "3 @ 101"),
        # ... but the level may shrink again.
        (["7", "10", "8"], "1 @ 101"),
        (["7", "6", "3"], ""),
    ],
)
def test_what_a_level_shrinks_by_explains_as_much_of_what_was_taken(liquidity, shown, expected):
    """
    The venue's own book leaves out what has gone from it; only the rest is still left out by us.
    """
    liquidity.add(lot("6"))
    for quantity in shown:
        liquidity.show(f". 102 1\n. 101 {quantity}\n1 99 .")

    assert expected == liquidity.drawn()


@pytest.mark.parametrize(
    ("ladder", "side", "price", "expected"),
    [
        # Gone from between others, and gone from the top.
        (". 102 1\n. 100.5 1\n1 99 .", BUY, "101", ""),
        (". 102 1\n1 99 .", BUY, "101", ""),
        ("1 99 .\n1 98 .\n. 102 1", SELL, "100", ""),
        # Behind the worst level that is shown nobody knows.
        (". 100.5 1\n1 99 .", BUY, "101", "6 @ 101"),
        ("1 100.2 .\n1 100.1 .\n. 102 1", SELL, "100", "6 @ 100"),
    ],
)
def test_vanished_level_is_explained_and_one_out_of_sight_is_not(liquidity, ladder, side, price, expected):
    """
    A level that the venue does not show any more is explained whole, unless its ladder does not reach that far.
    """
    liquidity.add(lot("4", price=price, side=side), lot("2", "x2", price=price, side=side))
    liquidity.show(ladder)

    assert expected == liquidity.drawn(side)


def test_a_level_that_comes_back_into_sight_goes_on_from_what_was_seen_last(liquidity):
    """
    What happened out of sight shows when the level is seen again.
    """
    liquidity.add(lot("6"))
    liquidity.show(". 100.5 1\n1 99 .")
    liquidity.show(". 101 8\n1 99 .")

    assert "4 @ 101" == liquidity.drawn()


def test_books_of_others_explain_nothing(liquidity):
    """
    A level belongs to its venue and the venue's own symbol.
    """
    liquidity.add(lot("6"))
    liquidity.show(". 101 1\n1 99 .", venue="okx")
    liquidity.show(". 101 1\n1 99 .", symbol="BTC/USD")

    assert "6 @ 101" == liquidity.drawn()


def test_oldest_is_explained_first_and_goes_on_halving_when_it_would_have(liquidity):
    """
    What is explained in the midst of a half-life counts from the last halving, so that the next is not put off.
    """
    liquidity.add(lot("8"))
    liquidity.at(10_000).add(lot("2", "x2", at_ms=10_000))
    liquidity.at(35_000).show(". 101 9\n1 99 .")

    assert "5 @ 101" == liquidity.drawn()
    # What is left of the other is as it was, but what its level shows has to be on record.
    assert ["x1/0 3 since 30000", "x2/0 2 since 10000"] == liquidity.changed()
    assert [] == liquidity.changed()
    assert "4 @ 101" == liquidity.at(40_000).drawn()
    assert "2 @ 101" == liquidity.at(60_000).drawn()

    liquidity.show(". 101 7.5\n1 99 .")
    assert ["x1/0 0 since 60000", "x2/0 0.5 since 40000"] == liquidity.changed()


def test_newest_lot_says_what_was_shown_until_a_book_does(liquidity):
    """
    What the venue showed when a level was first taken from is what the next book is held against.
    """
    liquidity.add(lot("2", "x2", shown="9", at_ms=5), lot("2", shown="12"))
    liquidity.show(". 101 8\n1 99 .")
    assert "3 @ 101" == liquidity.drawn()

    liquidity.add(lot("1", "x3", shown="20", at_ms=6))
    liquidity.show(". 101 8\n1 99 .")
    assert "4 @ 101" == liquidity.drawn()


def test_hold_counts_whole_until_it_ends(liquidity):
    """
    A firm quote's hold does not return by halves; when it ends it is gone at once.
    """
    liquidity.add(lot("6", "q1", until=60_000), lot("2", "q2", until=60_000))
    assert Charge({}, {u(101): u(8)}) == liquidity.at(59_999).charge()

    liquidity.show(". 101 9\n1 99 .")
    assert ["q1/0 5 since 0", "q2/0 2 since 0"] == liquidity.changed()
    assert "" == liquidity.at(60_000).drawn()
    assert {"q1/0 0 since 0", "q2/0 0 since 0"} == set(liquidity.changed())
    liquidity.add(lot("6", "q3", until=50_000))
    assert "" == liquidity.drawn()


def test_lots_that_are_dropped_can_be_added_again(liquidity):
    """
    A release gives back what was held, and undoing it goes on from where it was.
    """
    liquidity.add(lot("6", "q1", until=9_000), lot("2", "q1", 1, price="102", shown="8", until=9_000), lot("1"))
    liquidity.show(". 102 8\n. 101 8\n1 99 .")
    dropped = liquidity.liquidity.drop("q1")

    assert [u(4), u(2)] == [one.left for one in dropped]
    assert "1 @ 101" == liquidity.drawn()
    assert [] == liquidity.liquidity.drop("q1")
    liquidity.add(*dropped)
    assert "5 @ 101, 2 @ 102" == liquidity.drawn()
    liquidity.show(". 102 8\n. 101 8\n1 99 .")
    assert "5 @ 101, 2 @ 102" == liquidity.drawn()


def test_what_has_taken_of_a_symbol_can_be_named(liquidity):
    """
    Executions and quotes are named by the venues' own symbols that they have taken of and that are not over.
    """
    liquidity.add(lot("6", "q1", until=9_000), lot("2"))
    assert ["q1", "x1"] == [ref for ref in ("q1", "x1") if liquidity.liquidity.takes_of(ref, {"BTC/USDT", "USDT/USD"})]
    assert [] == [ref for ref in ("q1", "x1") if liquidity.liquidity.takes_of(ref, {"BTC/USD"})]

    liquidity.show(". 101 8\n1 99 .")
    assert [u(4)] == [one.left for one in liquidity.liquidity.held("q1")]
    liquidity.at(9_000).drawn()
    assert ["x1"] == [ref for ref in ("q1", "x1") if liquidity.liquidity.takes_of(ref, {"BTC/USDT"})]
    assert [] == liquidity.liquidity.held("q1")


def test_lot_that_is_known_keeps_the_smaller_remainder(liquidity):
    """
    Adding what is known already changes nothing, unless somebody else has seen more of it explained.
    """
    liquidity.add(lot("8"))
    liquidity.add(lot("8"), lot("9"))
    assert "8 @ 101" == liquidity.drawn()
    liquidity.add(lot("5"))
    assert "5 @ 101" == liquidity.drawn()
    # 3 after the first halving is more than the half of 5, and 1 is less.
    liquidity.at(30_000).add(lot("3", at_ms=30_000))
    assert "2 @ 101" == liquidity.drawn()
    liquidity.add(lot("1", at_ms=30_000))
    assert "1 @ 101" == liquidity.drawn()
    assert [] == liquidity.changed()
    liquidity.add(lot("0", at_ms=30_000))
    assert "" == liquidity.drawn()


def test_known_hold_keeps_the_smaller_remainder(liquidity):
    """
    The same is true for holds, which do not halve.
    """
    liquidity.add(lot("8", until=9_000), lot("5", until=9_000), lot("6", until=9_000))

    assert "5 @ 101" == liquidity.drawn()


def test_lot_that_is_over_is_not_taken_again(liquidity, monkeypatch):
    """
    A lot that was read before it was explained does not come back, unless what it belongs to was undone.
    """
    monkeypatch.setattr(taken, "OVER_MAX", 1)
    liquidity.add(lot("3"))
    liquidity.show(". 101 4\n1 99 .")
    liquidity.add(lot("3"), lot("0", "x2"))
    assert "" == liquidity.drawn()

    liquidity.liquidity.drop("x1")
    liquidity.add(lot("3"))
    assert "3 @ 101" == liquidity.drawn()
    # Only so many are remembered.
    liquidity.add(lot("1", "x2"))
    liquidity.show(". 102 4\n1 99 .")
    liquidity.add(lot("3"))
    assert "3 @ 101" == liquidity.drawn()


def test_clock_that_is_set_back_takes_nothing_again(liquidity):
    """
    What has come back stays, and the next halving comes at its time.
    """
    liquidity.add(lot("8"))
    assert "4 @ 101" == liquidity.at(HALF_LIFE_MS).drawn()
    assert "4 @ 101" == liquidity.at(0).drawn()

    liquidity.show(". 101 9\n1 99 .")
    assert "3 @ 101" == liquidity.drawn()
    assert ["x1/0 3 since 30000"] == liquidity.changed()
    assert "1 @ 101" == liquidity.at(2 * HALF_LIFE_MS).drawn()


def test_whose_takings_count_is_a_setting():
    """
    Shared liquidity is taken once for all; per account each has the venues to itself; switched off nobody takes.
    """
    drawn = {}
    for mode in (SHARED, PER_ACCOUNT, OFF):
        liquidity = Taken(mode)
        liquidity.add(lot("6"), lot("2", "x2", account="bob"))
        liquidity.show(". 101 9\n1 99 .")
        drawn[mode] = [liquidity.drawn(account=account) for account in ("alice", "bob", "carol")]

    # Alone with the venue, each finds its own takings explained.
    assert {SHARED: ["7 @ 101"] * 3, PER_ACCOUNT: ["5 @ 101", "1 @ 101", ""], OFF: ["", "", ""]} == drawn


def test_without_a_half_life_fills_return_at_once_and_holds_hold():
    """
    A half-life of 0 ends what fills take; a firm quote's hold is still its own.
    """
    liquidity = Taken(half_life_ms=0)
    liquidity.add(lot("6"), lot("2", "q1", until=3_000))
    assert Charge({}, {u(101): u(2)}) == liquidity.charge()

    liquidity.show(". 101 9\n1 99 .")
    assert "1 @ 101" == liquidity.drawn()
    assert "" == liquidity.at(3_000).drawn()


def test_charge_is_the_same_object_until_something_in_it_changes(liquidity):
    """
    A book that was made from a charge can be kept for as long as the charge is the very same.
    """
    liquidity.add(lot("6"), lot("4", "x2", side=SELL, price="100", shown="5"))
    bought, sold = liquidity.charge(), liquidity.charge(SELL)
    liquidity.show(BOOK)
    liquidity.show(". 101 30\n9 100 .")
    assert bought is liquidity.at(HALF_LIFE_MS - 1).charge()
    assert bought.all is bought.all

    liquidity.add(lot("1", "x3"))
    liquidity.liquidity.drop("x3")
    assert bought is liquidity.charge()
    liquidity.add(lot("1", "x4"))
    assert bought is not liquidity.charge()
    assert sold is liquidity.charge(SELL)
    assert sold is not liquidity.at(HALF_LIFE_MS).charge(SELL)


# Laws.

QUANTITIES = st.integers(1, 40)
STEPS = st.sampled_from([1, 2, 5])
TAKES = st.tuples(st.just("take"), st.integers(0, 2), QUANTITIES, STEPS)
SHOWS = st.tuples(st.just("show"), st.lists(st.integers(0, 40), min_size=4, max_size=4))
WAITS = st.tuples(st.just("wait"), st.integers(1, 3 * HALF_LIFE_MS))
EVENTS = st.lists(TAKES | SHOWS | WAITS, max_size=25)


def shown(quantities):
    """A book with asks at 1, 2 and 3 where something rests there, and one at 4."""
    rows = [(price, quantity) for price, quantity in enumerate(quantities, 1) if quantity or price == 4]
    asks = Ladder(tuple(price for price, _ in rows), tuple(max(1, quantity) for _, quantity in rows))
    return VenueBook("kraken", "BTC/USDT", Ladder((0,), (1,)), asks, 0, None)


class Naive:
    """The rules as they are written down, lot by lot and halving by halving."""

    def __init__(self):
        self.seen, self.lots = {}, []

    def take(self, price, quantity, step, shows, now_ms):
        if not any(row[0] == price and row[1] for row in self.lots):
            self.seen[price] = shows
        self.lots.append([price, quantity, step, now_ms])

    def settle(self, now_ms):
        for row in self.lots:
            while now_ms - row[3] >= HALF_LIFE_MS:
                row[1], row[3] = row[1] // 2 // row[2] * row[2], row[3] + HALF_LIFE_MS

    def show(self, quantities):
        for price in range(1, 4):
            there = quantities[price - 1]
            gone = 10**9 if not there else self.seen.get(price, there) - there
            self.seen[price] = there
            for row in self.lots:
                if row[0] == price and gone > 0:
                    explained = min(row[1], gone)
                    row[1], gone = row[1] - explained, gone - explained

    def charged(self):
        charged = Counter()
        for price, left, _, _ in self.lots:
            charged[price] += left
        return dict(+charged)


@given(EVENTS)
def test_charges_are_what_the_rules_say_and_never_more_than_was_taken(events):
    """
    However books come and time goes: never negative, never more than was taken, only less until more is taken, and the
    same after a restart from what was recorded.
    """
    liquidity, naive = TakenLiquidity(SHARED, HALF_LIFE_MS), Naive()
    now_ms, resting, before = 0, [40, 40, 40, 40], Counter()
    took, recorded = Counter(), {}
    for number, (kind, *values) in enumerate(events):
        if kind == "take":
            place, quantity, step = values
            made = Lot(
                f"x{number}",
                0,
                LevelKey("kraken", "BTC/USDT", BUY, place + 1),
                quantity,
                now_ms,
                step,
                resting[place],
                "alice",
                None,
            )
            liquidity.add([made])
            naive.take(place + 1, quantity, step, resting[place], now_ms)
            recorded[made.ref] = made
            took[place + 1] += quantity
            before[place + 1] += quantity
        elif kind == "show":
            resting = values[0]
            liquidity.observe(shown(resting), now_ms)
            naive.show(resting)
        else:
            now_ms += values[0]
            naive.settle(now_ms)
        charged = dict(liquidity.of("alice", now_ms).of("kraken", "BTC/USDT", BUY).taken)

        assert naive.charged() == charged
        assert all(0 < charged[price] <= min(took[price], before[price]) for price in charged)
        before = Counter(charged)
        recorded.update((one.ref, one) for one in liquidity.changed())
        again = TakenLiquidity(SHARED, HALF_LIFE_MS)
        again.add(recorded.values())
        assert charged == again.of("bob", now_ms).of("kraken", "BTC/USDT", BUY).all
