"""The book without what has been taken of it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.board import Board
from exchanges.book import UNIT, Ladder, Side, VenueBook, units
from exchanges.clock import MS
from service.accounting import plain, price_text
from service.market.screening import Rules
from service.market.taken import PER_ACCOUNT, SHARED, LevelKey, Lot, TakenLiquidity
from service.market.view import MarketView
from service.pricing.bounds import Ask
from service.pricing.depth import bands
from service.pricing.quote import price
from service.pricing.takings import lots
from tests.conftest import venue_book
from tests.service.shown import NOW_NS, ask, instrument

BUY, SELL = Side.BUY, Side.SELL
NOW_MS = NOW_NS // MS

COINBASE = """
    .   103    4
    .   101.5  2
    2    99.5  .
    4    97    .
    """
KRAKEN = """
    .   102    5
    .   101    1
    1    99    .
    5    98    .
    """
STABLE = """
    .      1.0010  50
    .      1.0020  1000
    50     0.9990  .
    1000   0.9980  .
    """
DIRECT = {"BTC/USDT": {"coinbase": "BTC/USDT", "kraken": "BTC/USDT"}}
CONVERTED = {"BTC/USDT": {"binance": "BTC/USDT", "kraken": "BTC/USD", "coinbase": "BTC/USD"}}


class Market:
    """A board, a view of it, and what orders have taken."""

    def __init__(self, listings, mode=SHARED, **rules):
        self.rules = rules
        self.board = Board(Decimal(1_000))
        self.view = MarketView(self.board, Rules(crossed_bps_max=Decimal(500), outlier_bps=Decimal(1_000)), listings)
        self.taken = TakenLiquidity(mode, 30_000)
        self.orders = 0

    def publish(self, venue, symbol, ladder):
        if not self.board.seated(venue, symbol):
            self.board.seat(venue, symbol, 5_000, NOW_NS)
            self.board.instruct(instrument(venue, 0, symbol, **self.rules))
        book = ladder if isinstance(ladder, VenueBook) else venue_book(venue, ladder, symbol=symbol)
        self.board.publish(book, NOW_NS)
        self.taken.observe(book, NOW_MS)

    def shown(self, chosen=None):
        return self.view.book("BTC/USDT", NOW_NS, chosen).book

    def book(self, account="alice", chosen=None):
        return self.view.book("BTC/USDT", NOW_NS, chosen, self.taken.of(account, NOW_MS)).book

    def price(self, side, wanted, account="alice"):
        return price(self.book(account), side, wanted)

    def take(self, side, quantity, account="alice", held_until_ms=None):
        """Fill an order, or hold for it, and give the fills as a trader would note them."""
        priced = self.price(side, ask(quantity), account)
        self.orders += 1
        self.taken.add(lots(priced, f"x{self.orders}", account, NOW_MS, held_until_ms))
        return drawn(priced)


def drawn(priced):
    fills = ", ".join(f"{fill.venue} {price_text(fill.quantity)} @ {price_text(fill.price)}" for fill in priced.fills)
    return fills + ("" if priced.stopped_by is None else f" | {priced.stopped_by}")


def lines(levels):
    """Levels as they are shown, and what is taken of them."""
    return [
        f"{level.venue} {price_text(level.quantity)} - {price_text(level.taken)} @ {price_text(level.price)}"
        for level in levels
    ]


@pytest.fixture
def market():
    market = Market(DIRECT)
    market.publish("coinbase", "BTC/USDT", COINBASE)
    market.publish("kraken", "BTC/USDT", KRAKEN)
    return market


@pytest.fixture
def dollars():
    """Kraken and coinbase trade in dollars, bitfinex the stable pair."""
    market = Market(CONVERTED)
    market.publish("bitfinex", "USDT/USD", STABLE)
    market.publish("kraken", "BTC/USD", ". 102 1\n. 100 1\n1 99 .\n1 98 .")
    market.publish("coinbase", "BTC/USD", ". 102.5 1\n1 97 .")
    return market


def test_second_order_pays_more(market):
    """
    Who asks for 60 % of a level after another has taken 60 % of it gets the rest of it, and goes on to the next.
    """
    assert "kraken 0.6 @ 101" == market.take(BUY, "0.6")
    assert "kraken 0.4 @ 101, coinbase 0.2 @ 101.5" == market.take(BUY, "0.6", "bob")
    assert "coinbase 1.8 @ 101.5, kraken 0.2 @ 102" == market.take(BUY, "2")
    assert "coinbase 2 @ 99.5, kraken 0.5 @ 99" == market.take(SELL, "2.5")
    assert "kraken 0.5 @ 99, kraken 1 @ 98" == market.take(SELL, "1.5")


def test_takers_together_get_exactly_what_there_is():
    """
    Sixty orders for 1 on a depth of 10 get ten fills.
    """
    market = Market({"BTC/USDT": {"kraken": "BTC/USDT"}})
    market.publish("kraken", "BTC/USDT", ". 101 4\n. 102 6\n1 99 .")

    assert {"kraken 1 @ 101": 4, "kraken 1 @ 102": 6, " | depth": 50} == Counter(
        market.take(BUY, "1") for _ in range(60)
    )


def test_book_of_which_nothing_is_taken_is_the_very_same(market):
    """
    Where nothing is taken, or nothing that is shown, there is no second book.
    """
    shown = market.shown()
    assert shown is market.book()
    assert shown is shown.shown
    assert (0, 0) == (shown.asks.taken, shown.asks.held)

    market.take(BUY, "3")
    assert shown is market.shown()
    assert shown.bids is market.book().bids
    # The ladders do not reach as far as what was taken.
    market.publish("kraken", "BTC/USDT", ". 100.9 1\n1 99 .")
    market.publish("coinbase", "BTC/USDT", ". 101.2 1\n1 99 .")
    assert market.shown() is market.book()


def test_netted_book_is_kept_until_something_in_it_changes(market):
    """
    What is left is made once; a new book, or another taking, makes a new one, and what did not change stays.
    """
    market.take(BUY, "3.5")
    first = market.book()
    assert first is market.book("bob")
    assert first.shown is market.shown()

    market.take(SELL, "1")
    second = market.book()
    assert second is not first
    assert first.asks.venues[0] is second.asks.venues[0]
    assert first.asks.venues[0] is not second.shown.asks.venues[0]
    market.publish("kraken", "BTC/USDT", KRAKEN)
    third = market.book()
    assert third is not second
    assert second.asks.venues[0] is third.asks.venues[0]
    assert market.book(chosen={"coinbase"}) is market.book(chosen={"coinbase"})
    assert ("coinbase",) == market.book(chosen={"coinbase"}).venues


def test_mid_and_best_prices_are_what_the_venues_show(market):
    """
    Taking moves what an order pays, not the market: the waterfall calls the difference depth.
    """
    shown = market.shown()
    before = {step.name: step.amount for step in market.price(BUY, ask("1")).waterfall}
    market.take(BUY, "1")
    priced = market.price(BUY, ask("1"))
    after = {step.name: step.amount for step in priced.waterfall}

    assert "coinbase 1 @ 101.5" == drawn(priced)
    assert (shown.mid, shown.asks.top, shown.bids.top) == (
        priced.book.mid,
        priced.book.asks.top,
        priced.book.bids.top,
    )
    assert before["half_spread"] == after["half_spread"] == 75 * 10**6
    assert (0, 50 * 10**6) == (before["depth"], after["depth"])
    assert after["total"] == priced.total == sum(step.amount for step in priced.waterfall[:-1])
    assert ("101.5", "coinbase") == (price_text(priced.best_price), priced.best_single_venue.venue)


def test_book_shows_each_level_and_what_is_taken_of_it(market):
    """
    Levels are listed as the venues show them, with what fills and holds have taken.
    """
    market.take(BUY, "2")
    market.take(BUY, "1.5", held_until_ms=NOW_MS + 3_000)
    asks = market.book().asks

    assert [
        "kraken 1 - 1 @ 101",
        "coinbase 2 - 2 @ 101.5",
        "kraken 5 - 0.5 @ 102",
        "coinbase 4 - 0 @ 103",
    ] == lines(asks.levels())
    assert ["kraken 1 - 1 @ 101"] == lines(asks.levels(gross=True, limit=1))
    assert ("2", "1.5") == (price_text(asks.taken), price_text(asks.held))
    assert asks.shown is market.shown().asks
    market.taken.drop("x2")
    assert ["kraken 1 - 1 @ 101", "coinbase 2 - 1 @ 101.5"] == lines(market.book().asks.levels(limit=2))


def test_book_tells_what_is_held_of_what_is_taken(market):
    """
    Of a level that a fill and a hold share, the hold's part is told apart: it may come back.
    """
    market.take(BUY, "2")
    market.take(BUY, "1.5", held_until_ms=NOW_MS + 3_000)
    held = [price_text(level.held) for level in market.book().asks.levels()]

    assert ["0", "1", "0.5", "0"] == held
    market.taken.drop("x2")
    assert {0} == {level.held for level in market.book().asks.levels()}


def test_no_more_is_taken_than_is_shown(market):
    """
    Of a level that other processes have taken more of than it shows nothing is left, and no less than nothing.
    """
    market.take(BUY, "1")
    priced = price(market.shown(), BUY, ask("0.7"))
    market.taken.add(lots(priced, "elsewhere", "bob", NOW_MS, NOW_MS + 3_000))
    asks = market.book().asks

    assert ("1", "0") == (price_text(asks.taken), price_text(asks.held))
    assert ["kraken 1 - 1 @ 101"] == lines(asks.levels(limit=1))


@pytest.mark.parametrize(
    "wanted",
    [
        ask("1"),
        ask(total="100"),
        ask(slippage_bps_max="1000"),
        ask("1", limit_price="101"),
        ask("1", slippage_bps_max="1000"),
    ],
)
def test_side_of_which_all_is_taken_gives_nothing(market, wanted):
    """
    An order on a side that has nothing left ends for want of depth, whatever it asks for; the market is still there.
    """
    everything = "kraken 1 @ 101, coinbase 2 @ 101.5, kraken 5 @ 102, coinbase 4 @ 103"
    assert everything == market.take(BUY, "12")
    priced = market.price(BUY, wanted)

    assert (0, 0, "depth", False) == (priced.quantity, priced.total, priced.stopped_by, priced.fillable)
    assert ((), [], None, None) == (priced.legs, priced.fills, priced.best_price, priced.best_single_venue)
    assert {0} == {step.amount for step in priced.waterfall}
    assert [] == lots(priced, "x", "alice", NOW_MS)
    book = priced.book
    assert ((), 0, ("coinbase", "kraken")) == (book.asks.venues, book.asks.depth, book.venues)
    assert (1, True) == (book.asks.step, book.asks.least > book.asks.depth)
    assert ("100.25", False) == (plain(book.mid), book.crossed)
    band = bands(book, [Decimal(1_000)])[0]
    assert (0, 12 * UNIT) == (band.all.ask_quantity, band.all.bid_quantity)
    assert {"coinbase", "kraken"} == set(band.venues)


def test_venue_of_which_all_is_taken_is_left_out(market):
    """
    What one venue has left is taken where the other one has nothing.
    """
    market.publish("kraken", "BTC/USDT", ". 101 1\n1 99 .")
    market.take(BUY, "1")
    asks = market.book().asks

    assert ["coinbase"] == [venue.venue for venue in asks.venues]
    assert "kraken" == asks.top.venue
    assert ("coinbase", "kraken") == market.book().venues


def test_steps_of_a_venue_stay_what_they_are():
    """
    What is left of a level is taken by the venue's rules.
    """
    market = Market({"BTC/USDT": {"kraken": "BTC/USDT"}}, step="0.1", quantity_min="0.3")
    market.publish("kraken", "BTC/USDT", ". 101 1\n1 99 .")
    market.take(BUY, "0.8")

    assert " | rules" == drawn(market.price(BUY, ask("0.2")))
    assert [units(Decimal("0.1"))] == [one.step for one in lots(price(market.shown(), BUY, ask("1")), "x", "a", 0)]


def test_accounts_that_do_not_share_have_books_of_their_own():
    """
    By setting, what one account takes is there for all others.
    """
    market = Market(DIRECT, PER_ACCOUNT)
    market.publish("coinbase", "BTC/USDT", COINBASE)
    market.publish("kraken", "BTC/USDT", KRAKEN)
    market.take(BUY, "1", "alice")

    assert market.shown() is market.book("bob")
    assert "coinbase 1 @ 101.5" == drawn(market.price(BUY, ask("1"), "alice"))
    market.take(BUY, "2", "bob")
    alices, bobs = market.book("alice"), market.book("bob")
    assert (UNIT, 2 * UNIT) == (alices.asks.taken, bobs.asks.taken)
    assert (alices, bobs) == (market.book("alice"), market.book("bob"))


# Converted venues.


def test_lots_are_of_the_venues_own_levels_and_of_the_stable_pairs(dollars):
    """
    A converted fill takes the venue's level at its own price, and what it exchanged of the stable pair's.
    """
    priced = dollars.price(BUY, ask("0.6"))
    made = lots(priced, "x1", "alice", NOW_MS, NOW_MS + 3_000)

    # 0.6 BTC at 100 USD are 60 USD: 50 USDT bring 49.95, and 10.05 USD take 10.07014029 more at 0.998.
    assert "kraken 0.4995 @ 100.100100101, kraken 0.1005 @ 100.200400802" == drawn(priced)
    assert [
        (LevelKey("kraken", "BTC/USD", BUY, 100 * UNIT), "0.6", "1"),
        (LevelKey("bitfinex", "USDT/USD", SELL, units(Decimal("0.999"))), "50", "50"),
        (LevelKey("bitfinex", "USDT/USD", SELL, units(Decimal("0.998"))), "10.070140280561122245", "1000"),
    ] == [(one.key, price_text(one.left), price_text(one.shown)) for one in made]
    assert {("x1", "alice", NOW_MS, 1, NOW_MS + 3_000)} == {
        (one.ref, one.account, one.since_ms, one.step, one.held_until_ms) for one in made
    }
    assert [0, 1, 2] == [one.n for one in made]


def test_levels_are_netted_before_they_are_converted(dollars):
    """
    What is left of a dollar level is converted through what is left of the stable pair.
    """
    dollars.take(BUY, "0.6")
    book = dollars.book()

    assert "kraken 0.4 @ 100.200400802, kraken 0.1 @ 102.204408818" == drawn(price(book, BUY, ask("0.5")))
    assert ("0.6", "0") == (price_text(book.asks.taken), price_text(book.asks.held))
    # Pieces that one level is converted in share what is taken of it, the best one first.
    assert [
        "kraken 0.4995 - 0.4995 @ 100.100100101",
        "kraken 0.5005 - 0.1005 @ 100.200400802",
        "kraken 1 - 0 @ 102.204408818",
        "coinbase 1 - 0 @ 102.705410822",
    ] == lines(book.asks.levels())
    shown = dollars.shown()
    assert (shown.mid, shown.asks.top) == (book.mid, book.asks.top)
    assert book.bids is shown.bids
    # A lot of what is left still knows what the venues show.
    again = lots(price(book, BUY, ask("0.1")), "x2", "bob", NOW_MS)
    assert ["1", "1000"] == [price_text(one.shown) for one in again]
    priced = price(book, BUY, ask("0.5"))
    assert priced.total == sum(step.amount for step in priced.waterfall[:-1])


def test_stable_pair_that_others_took_from_costs_more(dollars):
    """
    What is taken of the stable pair alone makes every venue behind it dearer, on the side that goes through it.
    """
    usdt = LevelKey("bitfinex", "USDT/USD", SELL, units(Decimal("0.999")))
    made = lots(dollars.price(BUY, ask("0.6")), "elsewhere", "bob", NOW_MS)
    dollars.taken.add([one for one in made if one.key == usdt])
    book = dollars.book()

    assert "kraken 0.5 @ 100.200400802" == drawn(price(book, BUY, ask("0.5")))
    assert ("0", book.shown.bids) == (price_text(book.asks.taken), book.bids)
    assert ["0"] * 4 == [price_text(level.taken) for level in book.asks.levels()]
    # A sale goes through the stable pair's asks.
    dollars.take(SELL, "1")
    left = dollars.book()
    assert "kraken 1 @ 97.8043912175" == drawn(price(left, SELL, ask("1")))
    assert UNIT == left.bids.taken


def test_stable_pair_of_which_nothing_is_left_converts_nothing(dollars):
    """
    Without depth of the stable pair its venues are not there; a venue with its own book of it uses no other.
    """
    dollars.publish("kraken", "USDT/USD", "20 0.9989 .\n. 1.0011 20")
    dollars.publish("binance", "BTC/USDT", ". 104 1\n1 96 .")
    assert "kraken 0.1 @ 100.110121134" == dollars.take(BUY, "0.1")
    key = LevelKey("kraken", "USDT/USD", SELL, units(Decimal("0.9989")))
    dollars.taken.add([Lot("elsewhere", 0, key, 20 * UNIT, NOW_MS, 1, 20 * UNIT, "bob", None)])
    book = dollars.book(chosen={"kraken", "binance"})

    assert ["binance", "kraken"] == [venue.venue for venue in book.shown.asks.venues]
    assert ["binance"] == [venue.venue for venue in book.asks.venues]
    assert "binance 1 @ 104 | depth" == drawn(price(book, BUY, ask("2")))
    # Coinbase, which has no book of the stable pair, goes through bitfinex's.
    assert ["binance", "coinbase"] == [venue.venue for venue in dollars.book().asks.venues]


def test_symbols_that_an_order_may_take_from(dollars):
    """
    What an order for a symbol may take from are the venues' own symbols, and the stable pairs that the board shows.
    """
    assert ("BTC/USD", "BTC/USDT", "USDT/USD") == dollars.view.traded("BTC/USDT")
    assert ("BTC/USDT",) == Market(DIRECT).view.traded("BTC/USDT")
    dollars.publish("kraken", "USD/USDT", STABLE)
    assert ("BTC/USD", "BTC/USDT", "USD/USDT", "USDT/USD") == dollars.view.traded("BTC/USDT")


# Laws.


@st.composite
def ladders(draw, venue):
    """A venue's book with up to five levels a side."""
    sides = []
    for best, away in ((1_000, -1), (1_001, 1)):
        gaps = draw(st.lists(st.integers(1, 3), max_size=4))
        prices = [best + away * sum(gaps[:n]) for n in range(len(gaps) + 1)]
        sides.append(Ladder.of([(Decimal(one), Decimal(draw(st.integers(1, 20)))) for one in prices]))
    return VenueBook(venue, "BTC/USDT", *sides, NOW_NS, None)


@given(ladders("coinbase"), ladders("kraken"), st.sampled_from(Side), st.lists(st.integers(1, 15), min_size=2))
def test_orders_one_after_another_take_what_one_order_would(coinbase, kraken, side, quantities):
    """
    Whoever comes later gets just the levels that one order for all of it would have gone on to.
    """
    market = Market(DIRECT)
    for book in (coinbase, kraken):
        market.publish(book.venue, "BTC/USDT", book)
    once = price(market.shown(), side, Ask(sum(quantities) * UNIT))
    several = Counter()
    for number, quantity in enumerate(quantities):
        priced = market.price(side, Ask(quantity * UNIT))
        market.taken.add(lots(priced, f"x{number}", "alice", NOW_MS))
        for fill in priced.fills:
            several[fill.venue, fill.price] += fill.quantity

    assert {(fill.venue, fill.price): fill.quantity for fill in once.fills} == several
    book = market.book()
    assert book.side(side).shown.depth - book.side(side).depth == book.side(side).taken == once.quantity
