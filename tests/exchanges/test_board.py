"""The board: whose book counts for a symbol right now, what the others' books say of it, and a loop that stalled."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from exchanges.board import Board
from exchanges.book import UNIT, Ladder, VenueBook
from exchanges.clock import MS
from exchanges.health import State
from exchanges.inputs import Instructed, Seated, Spoiled
from exchanges.instruments import Instrument

FIVE = ("binance", "kraken", "coinbase", "okx", "bybit")


class Market:
    """A board with venues seated for BTC/USDT, a clock, and the changes that were told."""

    def __init__(self, clock, venues=FIVE, stale_after_ms=5_000):
        self.clock = clock
        self.told = []
        self.board = Board(Decimal(100), self._on_change)
        for venue in venues:
            self.board.seat(venue, "BTC/USDT", stale_after_ms, clock.now_ns())

    def _on_change(self, venue, symbol, before, after):
        self.told.append(f"{venue} {before.state}>{after.state} {after.reason}")

    def show(self, shown, *, age_ms=0, frozen_side=False):
        """
        Publish books: "kraken 100, okx 101", a spread of two around each mid.
        """
        for one in shown.split(", "):
            venue, mid = one.split()
            book = VenueBook(
                venue,
                "BTC/USDT",
                Ladder.of([(Decimal(mid) - 1, Decimal(1))]),
                Ladder.of([(Decimal(mid) + 1, Decimal(1))]),
                self.clock.now_ns() - age_ms * MS,
                None,
            )
            self.board.publish(book, self.clock.now_ns(), frozen_side=frozen_side)
        return self

    def beat(self, ms, every_ms=100):
        for _ in range(ms // every_ms):
            self.clock.advance(every_ms)
            self.board.beat(self.clock.now_ns())
        return self

    @property
    def sources(self):
        return {source.venue: source for source in self.board.sources("BTC/USDT", self.clock.now_ns())}

    @property
    def states(self):
        return " ".join(source.state for source in self.sources.values())

    def reason(self, venue):
        return self.sources[venue].reason


@pytest.fixture
def market(clock):
    return Market(clock)


def all_at(mid, venues=FIVE):
    return ", ".join(f"{venue} {mid}" for venue in venues)


def test_sources_come_in_the_order_of_the_settings(market):
    """
    The answer lists venues as the operator does, whoever answered first.
    """
    market.show("bybit 1000, kraken 1000")

    assert list(FIVE) == list(market.sources)
    assert "warming live warming warming live" == market.states
    assert ("BTC/USDT",) == market.board.symbols


def test_source_shows_book_age_and_rules(market, clock):
    """
    Whoever reads a source sees the book, how old it is, and the venue's rules, with its state.
    """
    kraken = market.sources["kraken"]
    assert (State.WARMING, "no_book_yet", None, None, None, None, False) == (
        kraken.state, kraken.reason, kraken.book, kraken.age_ms, kraken.instrument, kraken.sequence, kraken.live,
    )  # fmt: skip

    rules = Instrument("kraken", "BTC/USDT", Decimal("0.1"), Decimal("1E-8"), None, None, Decimal(40))
    market.board.instruct(rules)
    market.show("kraken 1000", age_ms=30)
    clock.advance(300)
    kraken = market.sources["kraken"]

    assert kraken.live
    assert (330, rules, 1000 * UNIT) == (kraken.age_ms, kraken.instrument, kraken.book.mid)
    assert ("BTC", "USDT") == (kraken.instrument.base_asset, kraken.instrument.quote_asset)
    assert 7 == kraken._replace(book=replace(kraken.book, sequence=7)).sequence


def test_book_goes_stale_when_it_is_read_not_when_somebody_notices(market, clock):
    """
    Nobody has to see a disconnect: a book that was not renewed stops counting by itself.
    """
    market.show("kraken 1000")
    clock.advance(5_000)
    assert market.sources["kraken"].live
    clock.advance(1)
    assert ("stale", "stale", 5_001) == (
        market.sources["kraken"].state, market.reason("kraken"), market.sources["kraken"].age_ms
    )  # fmt: skip


def test_board_stands_as_it_did_until_it_is_told_something_or_a_book_ages_out(market, clock):
    """
    Who keeps what he made of the sources may use it as long as the number is the same: only ages differ then.
    """
    standing = lambda: market.board.standing(clock.now_ns())  # noqa: E731
    market.show("kraken 1000, okx 1000")
    first = standing()
    kraken = market.sources["kraken"]
    market.beat(300)
    assert first == standing()
    assert market.sources["kraken"] == kraken.at(clock.now_ns())

    market.show("kraken 1001")
    second = standing()
    assert first != second == standing()

    market.beat(6_000)
    assert second != standing() == standing()
    assert "stale stale" == f"{market.sources['kraken'].state} {market.sources['okx'].state}"
    clock.advance(10_000)
    stalled = standing()
    assert second != stalled == standing()


def test_symbol_that_a_venue_does_not_trade_loses_its_seat(market):
    """
    A venue without the symbol is no source of it, and no trouble either.
    """
    market.board.unseat("kraken", "BTC/USDT")
    market.board.unseat("kraken", "BTC/USDT")
    market.board.unseat("kraken", "DOGE/USDT")

    assert "kraken" not in market.sources


@pytest.mark.parametrize("wrong", ["10000", "100", "1015", "985"])
def test_outlier_does_not_count_and_its_book_is_not_kept(market, wrong):
    """
    A venue that shows ten times, a tenth, or 1.5 % off the others keeps its last good book, which does not count.
    """
    market.show(all_at(1000))
    market.show(f"okx {wrong}")

    assert "live live live suspect live" == market.states
    assert "outlier" == market.reason("okx")
    assert 1000 * UNIT == market.sources["okx"].book.mid
    assert 1 == market.board.tally("okx").rejected["outlier"]
    assert 1 == market.board.tally("okx").accepted


def test_first_book_that_is_an_outlier_counts_no_time(market):
    """
    A venue that starts up wrong is suspect at once and never was live.
    """
    market.show(all_at(1000, FIVE[:4]))
    market.show("bybit 10000")

    assert "live live live live suspect" == market.states
    assert market.sources["bybit"].book is None
    assert "bybit warming>suspect outlier" == market.told[-1]


def test_wrong_venue_that_came_first_is_named_when_the_others_show_up(market):
    """
    Two that disagree cannot be told apart; the third decides who was wrong.
    """
    market.show("okx 10000, kraken 1000")
    assert "warming live warming live warming" == market.states

    market.show("binance 1000")
    assert "live live warming suspect warming" == market.states
    # It was its neighbours' books that named it: none of its own was refused.
    assert 0 == market.board.tally("okx").rejected["outlier"]


def test_outlier_is_measured_against_fresh_books_only(market):
    """
    What three venues showed a minute ago says nothing about now.
    """
    market.show(all_at(1000, FIVE[:4]))
    market.clock.advance(5_001)
    market.show("bybit 1200")

    assert "stale stale stale stale live" == market.states


def test_prices_of_an_outlier_count_when_the_next_one_is_looked_for(market):
    """
    Three of five that move together are the market: they are not named one by one for being first.
    """
    market.show(all_at(1000))
    market.show("binance 1030, kraken 1030")
    assert "suspect suspect live live live" == market.states
    market.show("coinbase 1030")

    assert "okx" in {venue for venue, source in market.sources.items() if source.reason == "outlier"}
    market.beat(1_000)
    for _ in range(3):
        market.beat(500).show(all_at(1030))
    assert "live live live live live" == market.states


def test_outlier_returns_after_three_good_books_over_a_second(market):
    """
    Back among the others, a venue counts again after it was right three times and for a second.
    """
    market.show(all_at(1000)).show("okx 10000")
    market.show("okx 1000").beat(500).show("okx 1000").beat(400).show("okx 1000")
    assert "outlier" == market.reason("okx")
    market.beat(100).show("okx 1000")

    assert "live live live live live" == market.states


def test_frozen_side_makes_a_suspect(market):
    """
    A venue whose bids stood still while its asks moved does not count.
    """
    market.show(all_at(1000)).show("okx 1000", frozen_side=True)

    assert ("suspect", "frozen_side") == (market.sources["okx"].state, market.reason("okx"))
    assert {"frozen_side": 1} == market.board.tally("okx").rejected


def test_outlier_with_a_frozen_side_is_called_an_outlier(market):
    """
    Where both are true the graver one is said.
    """
    assert "outlier" == market.show(all_at(1000)).show("okx 2000", frozen_side=True).reason("okx")


def test_books_and_rejects_are_counted_by_venue_and_reason(market):
    """
    The operator sees how many books came, and how many were refused for what, over all symbols.
    """
    market.board.seat("okx", "ETH/USDT", 5_000, market.clock.now_ns())
    market.show("okx 1000, okx 1000")
    for symbol, reason in (("BTC/USDT", "crossed"), ("ETH/USDT", "crossed"), ("ETH/USDT", "empty")):
        market.board.reject("okx", symbol, reason, market.clock.now_ns())

    assert 2 == market.board.tally("okx").accepted
    assert {"crossed": 2, "empty": 1} == market.board.tally("okx").rejected
    assert ("BTC/USDT", "ETH/USDT") == market.board.symbols
    # The other symbol's trouble is not this one's.
    assert market.sources["okx"].live


def test_change_is_told_once(market):
    """
    The log gets a line when a venue's state or reason changes, and none while it stays.
    """
    now_ns = market.clock.now_ns
    market.show("okx 1000, okx 1000")
    for reason in ("timeout", "timeout", "timeout", "timeout", "http_503"):
        market.board.fail("okx", "BTC/USDT", reason, now_ns())
    market.board.fail("kraken", "BTC/USDT", "banned", now_ns(), at_once=True)
    market.show("okx 1000")
    market.beat(5_100)
    market.beat(1_000)

    assert [
        "okx warming>live None",
        "okx live>down timeout",
        "okx down>down http_503",
        "kraken warming>down banned",
        "okx down>live None",
        "okx live>stale stale",
    ] == market.told


def test_board_may_be_kept_without_telling_anyone(clock):
    """
    Who wants no log gets none.
    """
    board = Board(Decimal(100))
    board.seat("okx", "BTC/USDT", 5_000, clock.now_ns())
    board.fail("okx", "BTC/USDT", "banned", clock.now_ns(), at_once=True)

    assert [State.DOWN] == [source.state for source in board.sources("BTC/USDT", clock.now_ns())]


# The event loop itself.


def test_gap_between_beats_makes_every_book_unusable_until_it_is_refreshed(market):
    """
    Who could not read the clock for half a second could not read the sockets either.
    """
    market.beat(100).show(all_at(1000))
    market.clock.advance(501)

    assert "stale stale stale stale stale" == market.states
    assert "loop_stalled" == market.reason("okx")
    assert "stale live stale stale stale" == market.show("kraken 1000").states


def test_gap_of_half_a_second_is_no_stall(market):
    """
    Half a second is allowed, not a millisecond more.
    """
    market.beat(100).show(all_at(1000))
    market.clock.advance(500)

    assert "live live live live live" == market.states


def test_book_that_was_asked_for_before_the_stall_is_dropped(market):
    """
    What waited in a socket during the gap is old, whenever it is read.
    """
    market.beat(100).show(all_at(1000))
    market.clock.advance(600)
    market.show("kraken 999", age_ms=50)

    assert ("stale", "loop_stalled") == (market.sources["kraken"].state, market.reason("kraken"))
    assert 1000 * UNIT == market.sources["kraken"].book.mid
    assert 1 == market.board.tally("kraken").accepted

    market.clock.advance(10)
    assert market.show("kraken 999").sources["kraken"].live


@pytest.mark.parametrize("how", ["beat", "sources", "publish"])
def test_stall_is_noticed_by_whoever_comes_first(market, how):
    """
    A reader, a book or the next beat: no order sees a price from before the gap.
    """
    market.beat(100).show(all_at(1000))
    market.clock.advance(2_000)
    now_ns = market.clock.now_ns()
    if how == "beat":
        market.board.beat(now_ns)
    elif how == "publish":
        market.show("okx 1000", age_ms=1)
    else:
        market.board.sources("BTC/USDT", now_ns)
    # The beats go on as if nothing had been.
    market.clock.advance(10)
    market.board.beat(market.clock.now_ns())

    assert "stale stale stale stale stale" == market.states
    assert "okx live>stale loop_stalled" in market.told


def test_board_without_beats_has_no_stalls(market):
    """
    Before the loop runs there is nothing that can stall.
    """
    market.show("okx 1000")
    market.clock.advance(4_000)

    assert market.sources["okx"].live


def test_first_beat_begins_the_watch(market):
    """
    What lies before the first beat is start-up, not a stall.
    """
    market.show("okx 1000")
    market.clock.advance(2_000)
    market.board.beat(market.clock.now_ns())

    assert market.sources["okx"].live


# Leaps of the whole symbol.


def test_leap_of_a_lone_venue_holds_its_symbol(clock):
    """
    One venue alone that moves 8 % in a moment is not dealt on until it has said so three times more.
    """
    market = Market(clock, ("okx",))
    held = []
    for mid in (1000, 1000, 1080, 1080, 1080, 1080):
        market.beat(800).show(f"okx {mid}")
        held.append(market.board.held("BTC/USDT"))

    assert [False, False, True, True, True, False] == held
    assert market.sources["okx"].live


def test_leap_of_one_among_many_holds_nothing(market):
    """
    Among five the outlier is left out, and the symbol goes on.
    """
    market.show(all_at(1000)).show("okx 1080")

    assert not market.board.held("BTC/USDT")
    assert "live live live suspect live" == market.states


def test_book_that_does_not_count_confirms_no_leap(clock):
    """
    Only books that count move the mid that leaps are measured by.
    """
    market = Market(clock, ("okx",))
    market.beat(100).show("okx 1000").beat(100).show("okx 1080")
    for _ in range(4):
        market.beat(1_000).show("okx 1080", frozen_side=True)

    assert market.board.held("BTC/USDT")


# A stream that broke, a book that was believed and proved wrong, venues that come and go.


def test_emptied_book_is_nobodys_until_the_next_whole_one(market):
    """
    A stream's gap takes the book away at once, with its reason; the next book is live.
    """
    market.show(all_at(100))
    market.board.empty("okx", "BTC/USDT", "sequence_gap", market.clock.now_ns())
    source = market.sources["okx"]
    assert ("stale", "sequence_gap", None, None) == (source.state, source.reason, source.book, source.age_ms)
    # Its reason stays what it was, however long it takes.
    market.clock.advance(60_000)
    assert "sequence_gap" == market.reason("okx")
    market.show("okx 100")
    assert market.sources["okx"].live


def test_emptied_book_judges_no_other_venue(market):
    """
    Prices of a book that was thrown away do not count when an outlier is looked for.
    """
    market.show("kraken 100, okx 100, bybit 105")
    assert "outlier" == market.reason("bybit")
    for venue in ("kraken", "okx"):
        market.board.empty(venue, "BTC/USDT", "disconnected", market.clock.now_ns())
    market.show("bybit 105, binance 105, coinbase 105")
    assert "live live" == " ".join(market.sources[venue].state for venue in ("binance", "coinbase"))


def test_book_that_the_venue_itself_contradicts_makes_a_suspect(market):
    """
    It is not believed again before three good books over a second, even if the stream is made anew meanwhile.
    """
    market.show(all_at(100))
    market.board.doubt("okx", "BTC/USDT", "rest_disagrees", market.clock.now_ns())
    market.board.empty("okx", "BTC/USDT", "rest_disagrees", market.clock.now_ns())
    assert ("suspect", "rest_disagrees") == (market.sources["okx"].state, market.reason("okx"))
    assert {"rest_disagrees": 1} == market.board.tally("okx").rejected
    for _ in range(2):
        market.show("okx 100")
        market.clock.advance(500)
        assert not market.sources["okx"].live
    market.show("okx 100")
    assert market.sources["okx"].live


def test_stall_since_a_connection_was_made_is_known(market):
    """
    What came over a connection from before a stall is old; over one from after it, it is not.
    """
    market.show(all_at(100)).beat(100)
    before_ns = market.clock.now_ns()
    assert not market.board.stalled_since(before_ns, market.clock.now_ns())
    market.clock.advance(600)
    assert market.board.stalled_since(before_ns, market.clock.now_ns())
    assert not market.board.stalled_since(market.clock.now_ns(), market.clock.now_ns())


def test_seat_is_kept_by_who_takes_it_again(market):
    """
    A venue that begins anew with another limit of age has its book, judged by the new limit.
    """
    market.show("okx 100").clock.advance(3_000)
    market.board.seat("okx", "BTC/USDT", 2_000, market.clock.now_ns())
    assert ("stale", 3_000) == (market.sources["okx"].state, market.sources["okx"].age_ms)
    market.board.seat("okx", "BTC/USDT", 9_000, market.clock.now_ns())
    market.show("okx 100").clock.advance(8_000)
    assert market.sources["okx"].live


def test_board_is_arranged_anew(market):
    """
    Venues stand in the new order, those that are gone are not shown, and the new distance of outliers holds.
    """
    market.show("kraken 100, okx 100, bybit 100")
    market.board.arrange(["okx", "kraken", "bybit"], ["BTC/USDT"], Decimal(1_000))
    assert ["okx", "kraken", "bybit"] == list(market.sources)
    market.show("bybit 105")
    assert market.sources["bybit"].live
    market.board.arrange([], [], Decimal(100))
    assert ((), {}) == (market.board.symbols, market.sources)


def test_who_has_lost_his_seat_is_not_heard(market):
    """
    What a venue that was switched off still had under way changes nothing.
    """
    now_ns = market.clock.now_ns()
    market.board.unseat("okx", "BTC/USDT")
    told = list(market.told)
    market.show("okx 100")
    market.board.instruct(Instrument("okx", "BTC/USDT", None, None, None, None, Decimal(10)))
    market.board.reject("okx", "BTC/USDT", "crossed", now_ns)
    market.board.fail("okx", "BTC/USDT", "timeout", now_ns)
    market.board.doubt("okx", "BTC/USDT", "rest_disagrees", now_ns)
    market.board.empty("okx", "BTC/USDT", "disconnected", now_ns)
    assert ("okx" not in market.sources, told) == (True, market.told)


READS = {
    "beat",
    "follow",
    "held",
    "report",
    "seated",
    "source",
    "sources",
    "stalled_since",
    "symbols",
    "take",
    "tally",
    "unwatch",
    "standing",
    "watch",
}
"""What tells the board nothing but the time; a stall that it notices is told as ``spoil``."""


def test_all_that_a_board_is_told_can_be_told_to_another(clock):
    """
    Whatever changes the board is told to who watches it: what a recording does not have, its replay would lack.
    """
    market, told = Market(clock, ("kraken",)), []
    board, now_ns = market.board, clock.now_ns()
    board.watch(told.append)
    board.seat("okx", "BTC/USDT", 3_000, now_ns)
    board.instruct(Instrument("okx", "BTC/USDT", None, None, None, None, Decimal(5)))
    market.show("okx 100", frozen_side=True)
    board.reject("okx", "BTC/USDT", "crossed", now_ns)
    board.fail("okx", "BTC/USDT", "timeout", now_ns, at_once=True)
    board.spoil("loop_stalled", now_ns)
    board.doubt("okx", "BTC/USDT", "contradicted", now_ns)
    board.empty("okx", "BTC/USDT", "gap", now_ns)
    board.unseat("okx", "BTC/USDT")
    board.arrange(["kraken"], ["BTC/USDT"], Decimal(50))

    changing = {name for name in dir(Board) if not name.startswith("_")} - READS
    assert "Seated Seated Instructed Published Rejected Failed Spoiled Doubted Emptied Unseated Arranged" == " ".join(
        type(one).__name__ for one in told
    )
    assert {
        "arrange", "doubt", "empty", "fail", "instruct", "publish", "reject", "seat", "spoil", "unseat"
    } == changing  # fmt: skip


def test_stall_is_told_whoever_notices_it(clock):
    """
    A read that finds the loop stalled spoils the books; so it does in a replay, where nobody looks at that moment.
    """
    market, told = Market(clock).show("kraken 100").beat(200), []
    market.board.watch(told.append)
    clock.advance(600)

    assert "loop_stalled" == market.reason("kraken")
    assert [Spoiled("loop_stalled", clock.now_ns())] == told[len(FIVE) :]


def test_watcher_is_told_of_seats_and_rules_that_were_there_before(clock):
    """
    A recording that begins after the venues were set up begins with them; one that has ended is told no more.
    """
    market, told = Market(clock, ("kraken",)), []
    rules = Instrument("kraken", "BTC/USDT", None, None, None, None, Decimal(5))
    market.board.instruct(rules)
    clock.advance(500)
    market.board.watch(told.append)
    market.board.unwatch(told.append)
    market.show("kraken 100")

    assert [Seated("kraken", "BTC/USDT", 5_000, clock.now_ns() - 500 * MS), Instructed(rules)] == told
