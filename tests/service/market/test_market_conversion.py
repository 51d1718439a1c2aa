"""Serving a symbol in another quote asset: through the stable pair's own book, never at 1 and never at mid."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.board import Board
from exchanges.book import UNIT, Ladder, Side, VenueBook, decimal, units
from service.accounting import plain, price_text, rate_text
from service.market.book import BookSide, ConsolidatedBook, NoBook
from service.market.conversion import StablePair, converted
from service.market.screening import Rules
from service.market.side import direct
from service.market.view import MarketView, own_side, stable_pairs
from service.pricing.quote import price
from tests.conftest import venue_book
from tests.service.shown import NOW_NS, ask, instrument

BUY, SELL = Side.BUY, Side.SELL

STABLE = """
    .      1.0010  100000
    100000 0.9990  .
    """


def sides_of(book, side, fee_bps=0, **rules):
    """One venue's side in its own quote asset."""
    rules = instrument(book.venue, fee_bps, book.symbol, **rules)
    return own_side(side, book.asks if side is BUY else book.bids, book, rules)


def pair_of(books, fees=None, symbol="USDT/USD", quote_asset="USDT"):
    """The stable pair that venues' books make."""
    sides = {
        side: {book.venue: direct(side, sides_of(book, side, (fees or {}).get(book.venue, 0))) for book in books}
        for side in Side
    }
    book = ConsolidatedBook(
        symbol, BookSide(SELL, list(sides[SELL].values())), BookSide(BUY, list(sides[BUY].values()))
    )
    received = {one.venue: one.received_at_ns for one in books}
    return StablePair(symbol, quote_asset, book.twice_mid // 2, sides[SELL], sides[BUY], received)


def stable(ladder, venue="kraken", symbol="USDT/USD"):
    return venue_book(venue, ladder, symbol=symbol, received_at_ns=NOW_NS)


def drawn(sides):
    """What is converted, as a trader would note it: quantity @ price, fee in bps, through which stable price."""
    return [
        f"{side.venue} {price_text(quantity)} @ {price_text(price)} fee {rate_text(rate)} via {price_text(hop.price)}"
        for side in sides
        for price, quantity, rate, hop in zip(
            side.prices, side.quantities, side.rates, side.conversion.hops, strict=True
        )
    ]


USD_BOOK = """
    .   102   1
    .   100   1
    1    99   .
    1    98   .
    """


def usd(ladder=USD_BOOK, venue="kraken", symbol="BTC/USD"):
    return venue_book(venue, ladder, symbol=symbol, received_at_ns=NOW_NS)


@pytest.mark.parametrize(
    ("side", "served", "expected"),
    [
        # To buy with USDT what costs dollars, USDT are sold at the bid; 100 / 0.999, against the client.
        (BUY, "USDT", ["1 @ 100.100100101 fee 0 via 0.999", "1 @ 102.102102103 fee 0 via 0.999"]),
        # What a sale brings in dollars buys USDT at the ask; 99 / 1.001.
        (SELL, "USDT", ["1 @ 98.901098901 fee 0 via 1.001", "1 @ 97.902097902 fee 0 via 1.001"]),
        # The other way: to buy with dollars what costs USDT, USDT are bought at the ask.
        (BUY, "USD", ["1 @ 100.1 fee 0 via 1.001", "1 @ 102.102 fee 0 via 1.001"]),
        (SELL, "USD", ["1 @ 98.901 fee 0 via 0.999", "1 @ 97.902 fee 0 via 0.999"]),
    ],
)  # fmt: skip
def test_levels_are_converted_at_the_executable_side(side, served, expected):
    """
    A level's price is what it really comes to: through the side of the stable pair that the client would hit.
    """
    pair = pair_of([stable(STABLE)], quote_asset=served)
    made = converted(side, [sides_of(usd(), side)], pair)

    assert [f"kraken {line}" for line in expected] == drawn(made)
    assert all(UNIT * 100 != price for price in made[0].prices)


def test_fees_of_both_trades_are_paid():
    """
    The stable pair's fee is of what the venue's order needs with its own fee: (1 + f) / (1 - g), rounded up.
    """
    pair = pair_of([stable(STABLE)], {"kraken": 20})
    bought = converted(BUY, [sides_of(usd(), BUY, 10)], pair)
    sold = converted(SELL, [sides_of(usd(), SELL, 10)], pair)

    # 1.001 / 0.998 - 1 and 1 - 0.999 / 1.002.
    assert ["30.060121", "30.060121"] == [rate_text(rate) for rate in bought[0].rates]
    assert ["29.94012", "29.94012"] == [rate_text(rate) for rate in sold[0].rates]
    assert "10" == rate_text(bought[0].taker_rate)


THIN = """
    .      1.0010  50
    .      1.0020  1000
    50     0.9990  .
    1000   0.9980  .
    """


def test_depth_of_the_stable_pair_is_used_once_whichever_venue_uses_it():
    """
    A level that needs more than a stable level has is cut in two; the next one begins where it left off.
    """
    pair = pair_of([stable(THIN, "bitfinex")])
    made = converted(BUY, [sides_of(usd(venue=venue), BUY) for venue in ("kraken", "coinbase")], pair)

    # 50 USDT bring 49.95 USD: not quite half of the first level, whose rest goes through the next stable level.
    assert [
        "kraken 0.4995 @ 100.100100101 fee 0 via 0.999",
        "kraken 0.5005 @ 100.200400802 fee 0 via 0.998",
        "kraken 1 @ 102.204408818 fee 0 via 0.998",
        "coinbase 1 @ 100.200400802 fee 0 via 0.998",
        "coinbase 1 @ 102.204408818 fee 0 via 0.998",
    ] == drawn(made)


def test_thin_stable_depth_becomes_shortfall():
    """
    What the stable pair is not deep enough for is not there, and a venue of which nothing is left is gone.
    """
    pair = pair_of([stable("50 0.999 .\n. 1.001 50", "bitfinex")])
    kraken, coinbase = (sides_of(usd(venue=venue), BUY) for venue in ("kraken", "coinbase"))
    made = converted(BUY, [kraken, coinbase], pair)

    assert ["kraken 0.4995 @ 100.100100101 fee 0 via 0.999"] == drawn(made)
    book = ConsolidatedBook("BTC/USDT", BookSide(SELL, converted(SELL, [kraken], pair)), BookSide(BUY, made))
    thin = price(book, BUY, ask("1"))
    assert (units(Decimal("0.4995")), "depth") == (thin.quantity, thin.stopped_by)


def test_dust_in_the_stable_pair_is_passed_over():
    """
    A stable level that is not even enough for the smallest piece of a level makes no level; the next one does.
    """
    pair = pair_of([stable(". 1.001 1\n0.0000001 0.999 .\n50 0.998 .", "bitfinex")])
    made = converted(BUY, [sides_of(usd(), BUY)], pair)

    assert ["kraken 0.499 @ 100.200400802 fee 0 via 0.998"] == drawn(made)


def test_venue_is_served_from_its_own_book_of_the_pair_if_it_has_one():
    """
    Kraken's dollars change hands on kraken, at kraken's price; who has no book of the pair takes the best there is.
    """
    pair = pair_of([stable("9999 0.99 .\n. 1.01 9999", "kraken"), stable("9999 0.999 .\n. 1.001 9999", "bitstamp")])
    made = converted(BUY, [sides_of(usd(". 100 1\n1 99 .", venue), BUY) for venue in ("kraken", "coinbase")], pair)

    assert [
        "kraken 1 @ 101.010101011 fee 0 via 0.99",
        "coinbase 1 @ 100.100100101 fee 0 via 0.999",
    ] == drawn(made)


def test_leg_shows_rate_age_and_cost_and_the_waterfall_has_its_line():
    """
    The conversion costs what the executable side is worse than the pair's mid; the other lines are at that mid.
    """
    pair = pair_of([stable(THIN, "bitfinex")])
    sides = {side: BookSide(side, converted(side, [sides_of(usd(), side)], pair)) for side in Side}
    bought = price(ConsolidatedBook("BTC/USDT", sides[SELL], sides[BUY]), BUY, ask("1"))
    conversion = bought.legs[0].conversion

    # 100 USD at mid 1 are 100 USDT; 50.00000001 USDT are paid through 0.999 and 50.15030061 through 0.998.
    assert ("USDT/USD", SELL, NOW_NS) == (conversion.symbol, conversion.side, conversion.received_at_ns)
    assert "0.998499249618" == plain(conversion.rate)
    assert 15030062 == conversion.cost
    lines = {step.name: step.amount for step in bought.waterfall}
    assert 15030062 == lines["conversion"]
    # Mid is that of the book as it can be traded; best and depth are at the stable pair's mid.
    assert (0, "0") == (lines["depth"], price_text(lines["depth"]))
    assert bought.total == sum(step.amount for step in bought.waterfall[:-1])
    # Of two asks the second is worse by 2 at the stable pair's mid.
    two = {step.name: step.amount for step in price(bought.book, BUY, ask("2")).waterfall}
    assert 2 * 10**8 == two["depth"]


def test_a_venue_by_itself_has_the_stable_pair_to_itself():
    """
    The best single venue is priced as if nobody else took of the stable pair's depth.
    """
    market = Market(bitfinex=THIN)
    market.publish("kraken", "BTC/USD", ". 100 1\n1 99 .")
    market.publish("coinbase", "BTC/USD", ". 100.1 1\n1 99 .")
    bought = price(market.book(), BUY, ask("1"))

    assert "kraken" == bought.best_single_venue.venue
    alone = price(market.book(), BUY, ask("1"))
    assert alone.best_single_venue.saving_bps == 0
    by_itself = market.book().asks.alone[1]
    assert price_text(by_itself.prices[0]) == "100.200200201"


# Through the view.


class Market:
    """A board on which kraken and coinbase trade in dollars, and others the stable pair."""

    def __init__(self, **stables):
        self.now_ns = NOW_NS
        self.board = Board(Decimal(100))
        for venue in ("kraken", "coinbase"):
            self.seat(venue, "BTC/USD", 10)
        self.seat("binance", "BTC/USDT", 10)
        for venue, ladder in stables.items():
            self.seat(venue, "USDT/USD", 0)
            self.publish(venue, "USDT/USD", ladder)
        listings = {"BTC/USDT": {"binance": "BTC/USDT", "kraken": "BTC/USD", "coinbase": "BTC/USD"}}
        self.view = MarketView(self.board, Rules(crossed_bps_max=Decimal(200)), listings)

    def seat(self, venue, symbol, fee_bps):
        self.board.seat(venue, symbol, 5_000, self.now_ns)
        self.board.instruct(instrument(venue, fee_bps, symbol))

    def publish(self, venue, symbol, ladder):
        self.board.publish(venue_book(venue, ladder, symbol=symbol, received_at_ns=self.now_ns), self.now_ns)

    def look(self, chosen=None):
        return self.view.book("BTC/USDT", self.now_ns, chosen)

    def book(self, chosen=None):
        return self.look(chosen).book

    def reasons(self):
        return {source.venue: source.reason for source in self.look().sources}


TIGHT = ". 100.2 1\n1 99.8 ."


@pytest.fixture
def market():
    market = Market(kraken=STABLE)
    for venue, symbol in (("binance", "BTC/USDT"), ("kraken", "BTC/USD"), ("coinbase", "BTC/USD")):
        market.publish(venue, symbol, TIGHT)
    return market


def test_symbol_is_served_by_native_and_converted_venues_together(market):
    """
    One book of three venues, two of which are converted, each under its own symbol.
    """
    book = market.book()

    assert [("binance", "BTC/USDT"), ("kraken", "BTC/USD"), ("coinbase", "BTC/USD")] == [
        (side.venue, side.symbol) for side in book.asks.venues
    ]
    assert ("BTC/USDT",) == tuple(market.view.symbols)
    assert {"binance": None, "kraken": None, "coinbase": None} == market.reasons()
    assert [one.venue for one in market.view.sources("BTC/USDT", NOW_NS)] == ["binance", "kraken", "coinbase"]
    assert book is market.book()


def test_new_book_of_the_stable_pair_makes_a_new_book(market):
    """
    When the stable pair moves, what is converted through it moves; what is not, is not made again.
    """
    before = market.book()
    market.publish("kraken", "USDT/USD", "100000 0.998 .\n. 1.0005 100000")
    after = market.book()

    assert before.asks.venues[1].prices != after.asks.venues[1].prices
    assert before.asks.venues[0] is after.asks.venues[0]


@pytest.mark.parametrize(
    ("ladder", "reason"),
    [
        ("9 0.9890 .\n. 0.9900 9", None),  # Mid 0.9895 would be 105 bps off: see the guard of 110 below.
        ("9 0.9850 .\n. 0.9860 9", "depegged"),
        ("9 1.0150 .\n. 1.0160 9", "depegged"),
    ],
)
def test_depeg_takes_the_converted_venues_out(market, ladder, reason):
    """
    A stable pair further from 1 than the guard allows converts nothing; venues that need no conversion go on.
    """
    listings = {"BTC/USDT": {"binance": "BTC/USDT", "kraken": "BTC/USD"}}
    rules = Rules(crossed_bps_max=Decimal(200), outlier_bps=Decimal(300), depeg_bps=Decimal(110))
    market.view = MarketView(market.board, rules, listings)
    market.publish("kraken", "USDT/USD", ladder)

    assert {"binance": None, "kraken": reason} == market.reasons()
    assert (("binance",) if reason else ("binance", "kraken")) == market.book().venues


def test_without_a_live_stable_pair_nothing_is_converted(market):
    """
    A stable pair that is stale converts nothing, and the venues that need it say so.
    """
    market.now_ns += 6_000_000_000
    for venue, symbol in (("binance", "BTC/USDT"), ("kraken", "BTC/USD"), ("coinbase", "BTC/USD")):
        market.publish(venue, symbol, TIGHT)

    assert {"binance": None, "kraken": "no_stable_pair", "coinbase": "no_stable_pair"} == market.reasons()
    assert ("binance",) == market.book().venues
    refused = market.look({"kraken"})
    assert isinstance(refused, NoBook)
    assert "no_fresh_market_data" == refused.code


def test_without_any_stable_pair_nothing_is_converted():
    """
    Where no venue shows the pair under either name, the venues that need it say so.
    """
    market = Market()
    for venue, symbol in (("binance", "BTC/USDT"), ("kraken", "BTC/USD")):
        market.publish(venue, symbol, TIGHT)

    assert {"binance": None, "kraken": "no_stable_pair", "coinbase": "no_book_yet"} == market.reasons()


def test_outliers_are_measured_in_the_served_asset(market):
    """
    A dollar price that is only right for dollars is converted before it is held against the others.
    """
    market.publish("kraken", "USDT/USD", "100000 0.9949 .\n. 0.9951 100000")
    market.publish("binance", "BTC/USDT", ". 100.7 1\n1 100.3 .")
    assert {"binance": None, "kraken": None, "coinbase": None} == market.reasons()
    # At 1:1 coinbase would be within a percent of the others; converted it is not.
    market.publish("coinbase", "BTC/USD", ". 101.2 1\n1 100.9 .")
    assert {"binance": None, "kraken": None, "coinbase": "outlier"} == market.reasons()


def test_venue_without_rules_is_not_used(market):
    """
    A venue whose fee is not known yet has no price that could be believed.
    """
    market.board.seat("okx", "BTC/USDT", 5_000, NOW_NS)
    market.view = MarketView(market.board, Rules(), {"BTC/USDT": {"binance": "BTC/USDT", "okx": "BTC/USDT"}})
    market.publish("okx", "BTC/USDT", TIGHT)

    assert {"binance": None, "okx": "no_instrument"} == market.reasons()


def test_venue_without_a_seat_is_not_named(market):
    """
    A venue that does not trade what it is to be served from has no part.
    """
    market.board.unseat("coinbase", "BTC/USD")

    assert {"binance": None, "kraken": None} == market.reasons()


def test_pairs_have_two_spellings():
    """
    A stable pair may be traded as either asset's price in the other.
    """
    assert ("USDT/USD", "USD/USDT") == stable_pairs("USDT", "USD")


# Laws.

PRICES = st.integers(900, 1_100)
FEES = st.sampled_from([Decimal(0), Decimal(5), Decimal("12.5"), Decimal(60)])


@st.composite
def ladders(draw, tick, best, away, scale):
    gaps = draw(st.lists(st.integers(1, 5), max_size=3))
    prices = [best + away * sum(gaps[:n]) for n in range(len(gaps) + 1)]
    return Ladder.of([(tick * one, Decimal(draw(st.integers(1, 3_000))) / scale) for one in prices])


@st.composite
def books(draw, venue, symbol, tick, scale):
    bid = draw(PRICES)
    bids = draw(ladders(tick, bid, -1, scale))
    asks = draw(ladders(tick, bid + draw(st.integers(1, 5)), 1, scale))
    return VenueBook(venue, symbol, bids, asks, NOW_NS, None)


@st.composite
def conversions(draw):
    """A venue in dollars, a stable pair in either direction, both fees, a side and a quantity."""
    served = draw(st.sampled_from(["USDT", "USD"]))
    own = draw(books("kraken", "BTC/USD" if served == "USDT" else "BTC/USDT", Decimal("0.1"), 1_000))
    pair = draw(books("bitstamp", "USDT/USD", Decimal("0.001"), 10))
    return served, own, draw(FEES), pair, draw(FEES), draw(st.sampled_from(list(Side)))


@given(conversions(), st.integers(1, 10_000))
def test_converted_levels_come_to_what_both_trades_really_cost(conversion, part):
    """
    What is paid is never less, what is received never more, than the two walks cost exactly, and not by more than dust.
    """
    served, own, fee, pair, pair_fee, side = conversion
    made = converted(side, [sides_of(own, side, fee)], pair_of([pair], {"bitstamp": pair_fee}, quote_asset=served))
    if not made:
        return
    quantity = Fraction(made[0].depth * part, 10_000 * UNIT)
    quantity = Fraction(int(quantity * 10**8), 10**8)
    if not quantity:
        return
    amounts = made[0].amounts(int(quantity * UNIT))
    paid = Fraction(amounts.subtotal + amounts.fee if side is BUY else amounts.subtotal - amounts.fee, 10**8)
    exact = walked_twice(served, own, Fraction(fee), pair, Fraction(pair_fee), side, quantity)

    assert exact is not None
    worse = paid - exact if side is BUY else exact - paid
    # 12 digits of the price, 10 decimals of the rate, and units of 10^-8 of the base asset per stable level.
    assert 0 <= worse <= exact * Fraction(1, 10**8) + Fraction(len(made[0].prices) * 3, 10**6)


def walked_twice(served, own, fee, pair, pair_fee, side, quantity):
    """What a quantity costs, or brings: the venue's walk, and then the stable pair's walk for what that came to."""
    sign = 1 if side is BUY else -1
    own_levels = own.asks if side is BUY else own.bids
    amount, left = Fraction(0), quantity
    for own_price, there in own_levels:
        take = min(left, Fraction(there))
        amount += take * Fraction(own_price) * (1 + sign * fee / 10_000)
        left -= take
    if left:
        return None
    selling_base = (served == "USDT") == (side is BUY)  # USDT is the pair's base asset.
    total = Fraction(0)
    for stable_price, there in pair.bids if selling_base else pair.asks:
        rate, stable_fee = Fraction(stable_price), pair_fee / 10_000
        if served == "USDT":  # The pair's quote asset is exchanged for its base.
            per_base = rate * (1 - sign * stable_fee)
            used = min(Fraction(there), amount / per_base)
            total += used
            amount -= used * per_base
        else:
            used = min(Fraction(there), amount)
            total += used * rate * (1 + sign * stable_fee)
            amount -= used
    return None if amount > 0 else total


@given(conversions())
def test_no_more_of_the_stable_pair_is_used_than_is_there(conversion):
    """
    All that can be taken through a pair needs no more than the pair's depth, and leaves no more than dust of it.
    """
    served, own, fee, pair, pair_fee, side = conversion
    made = converted(side, [sides_of(own, side, fee)], pair_of([pair], {"bitstamp": pair_fee}, quote_asset=served))
    shown = own.asks if side is BUY else own.bids
    taken = {}
    for one in made:
        for hop, quantity in zip(one.conversion.hops, one.quantities, strict=True):
            taken[hop.own_price] = taken.get(hop.own_price, 0) + quantity

    assert all(
        taken[price] <= there for price, there in zip(shown.prices, shown.quantities, strict=True) if price in taken
    )
    everything = sum(taken.values())
    if everything:
        exact = walked_twice(served, own, Fraction(fee), pair, Fraction(pair_fee), side, Fraction(everything, UNIT))
        assert exact is not None
    if everything < sum(shown.quantities):
        more = Fraction(everything, UNIT) + Fraction(len(pair.bids) + len(pair.asks), 10**8)
        assert more > Fraction(sum(shown.quantities), UNIT) or (
            walked_twice(served, own, Fraction(fee), pair, Fraction(pair_fee), side, more) is None
        )
    assert all(decimal(one.prices[0]) > 0 for one in made)
