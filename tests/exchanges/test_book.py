"""A venue's book: what is refused and why, what is kept, and what only its history shows."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.book import (
    LEVELS_MAX,
    BookRejected,
    Ladder,
    Level,
    RawBook,
    Reject,
    VenueBook,
    decode,
    exact,
    units,
)

BIDS = [[100.0, 2.0], [99.0, 1.0]]
ASKS = [[101.0, 1.0], [102.0, 5.0]]
NAN = math.nan


def raw(bids=BIDS, asks=ASKS, symbol="BTC/USDT", sequence=None, time_ms=None):
    return RawBook(symbol, bids, asks, sequence, time_ms)


def decoded(book, **how):
    return decode(book, venue="kraken", symbol="BTC/USDT", received_at_ns=7, **how)


def refusal(book, **how):
    with pytest.raises(BookRejected) as caught:
        decoded(book, **how)
    return caught.value.reason


@pytest.mark.parametrize(("book", "reason"), [
    # The name comes first: what a book for another symbol holds does not matter.
    (raw(symbol="BTC/USD"), Reject.WRONG_SYMBOL),
    (raw(symbol="BTC/USDC"), Reject.WRONG_SYMBOL),
    (raw([], [], symbol=None), Reject.WRONG_SYMBOL),
    (raw([], []), Reject.EMPTY),
    (raw(asks=[]), Reject.ONE_SIDED),
    (raw(bids=[]), Reject.ONE_SIDED),
    (raw([[NAN, 1.0]]), Reject.BAD_NUMBER),
    (raw([[100.0, NAN]]), Reject.BAD_NUMBER),
    (raw(asks=[[math.inf, 1.0]]), Reject.BAD_NUMBER),
    (raw([[-math.inf, 1.0]]), Reject.BAD_NUMBER),
    (raw([[100.0, math.inf]]), Reject.BAD_NUMBER),
    (raw([[100.0, 0.0]]), Reject.BAD_NUMBER),
    (raw([[0.0, 1.0]]), Reject.BAD_NUMBER),
    (raw([[100.0, -1.0]]), Reject.BAD_NUMBER),
    (raw([[-100.0, 1.0]]), Reject.BAD_NUMBER),
    # Thirteen integer digits.
    (raw(asks=[[1e12, 1.0]]), Reject.BAD_NUMBER),
    (raw([[100.0, 1e12]]), Reject.BAD_NUMBER),
    # Finer than anything that is traded.
    (raw([[100.0, 1e-19]]), Reject.BAD_NUMBER),
    (raw([[None, None]]), Reject.BAD_NUMBER),
    (raw([[100.0, None]]), Reject.BAD_NUMBER),
    (raw([["100", "1"]]), Reject.BAD_NUMBER),
    (raw([[]]), Reject.BAD_NUMBER),
    (raw([[100.0]]), Reject.BAD_NUMBER),
    (raw([None]), Reject.BAD_NUMBER),
    (raw([{"price": 100.0}]), Reject.BAD_NUMBER),
    # One bad level, however deep, and the whole book is refused.
    (raw(BIDS * 0 + [[100.0 - n, 1.0] for n in range(90)] + [[5.0, NAN]]), Reject.BAD_NUMBER),
    (raw([[101.5, 1.0]]), Reject.CROSSED),
    # The best bid is found wherever it stands.
    (raw([[99.0, 1.0], [101.5, 1.0]]), Reject.CROSSED),
    (raw([[101.0, 1.0]]), Reject.LOCKED),
    (raw([[100.0, 1.0], [100.0, 2.0]]), Reject.DUPLICATE_PRICE),
    (raw(asks=[[103.0, 1.0], [101.0, 1.0], [103.0, 2.0]]), Reject.DUPLICATE_PRICE),
])  # fmt: skip
def test_book_that_cannot_be_traded_on_is_refused_whole_for_one_reason(book, reason):
    """
    Garbage is never repaired: the book is refused, and the counter says why.
    """
    assert reason == refusal(book)


@pytest.mark.parametrize("number", [2**63, 10**20, -1, 1.5, True, "7"])
@pytest.mark.parametrize("field", ["sequence", "time_ms"])
def test_sequence_or_time_that_is_no_count_is_refused(field, number):
    """
    What no record could keep, and no clock could show, is a fault of the message.
    """
    assert Reject.BAD_NUMBER == refusal(raw(**{field: number}))
    assert 2**63 - 1 == decoded(raw(sequence=2**63 - 1)).sequence


@pytest.mark.parametrize("text", ["0.000000000000000001", "999999999999", "0.1", "123456.789012345", "1e-7"])
def test_whole_numbers_are_those_of_the_texts(text):
    """
    What is computed with is exactly what the venue wrote, whatever stands beside it.
    """
    book = decoded(raw([[float(text), 1.0]], [[999999999999.5, float(text)]]))

    assert units(Decimal(text)) == book.bids.prices[0] == book.asks.quantities[0]


@pytest.mark.parametrize("number", [1.23e-17, 0.1234567890123456789, 1.0000000000000000002e-18 * 1.5])
def test_number_with_more_decimals_than_anything_is_traded_in_is_refused(number):
    """
    A number of more than 18 decimals is garbage, and nothing is rounded away.
    """
    fine = Decimal(repr(number)) == Decimal(repr(number)).quantize(Decimal("1e-18"))

    assert fine or Reject.BAD_NUMBER == refusal(raw([[number, 1.0]]))


def test_ladder_is_read_as_levels_of_decimals():
    """
    A side of a book reads like a list of levels, best first.
    """
    bids = decoded(raw()).bids

    assert (Level(Decimal(100), Decimal(2)), 2) == (bids[0], len(bids))
    assert [Level(Decimal(99), Decimal(1))] == list(bids[1:]) == bids[-1:]
    assert ["100", "99"] == [str(level.price) for level in bids]
    with pytest.raises(ValueError, match="more than 18 decimals"):
        Ladder.of([(Decimal("1e-19"), Decimal(1))])


def test_repeat_below_the_cut_is_refused_too():
    """
    Every level is checked, also those that nobody asked for.
    """
    assert Reject.DUPLICATE_PRICE == refusal(raw([*BIDS, [98.0, 1.0], [98.0, 1.0]]), depth=1)
    assert Reject.BAD_NUMBER == refusal(raw([*BIDS, [98.0, 0.0]]), depth=1)


def test_refusal_says_its_reason_in_words():
    """
    The reason is one of the words that the log and the metrics use.
    """
    with pytest.raises(BookRejected, match=r"^crossed$"):
        decoded(raw([[101.5, 1.0]]))


def test_accepted_book_has_the_best_price_first_on_both_sides():
    """
    However a venue sorts its levels, bids come highest first and asks lowest first.
    """
    book = decoded(raw([[99.0, 1.0], [100.0, 2.0]], [[102.0, 5.0], [101.0, 1.0]], sequence=3))

    assert (
        VenueBook(
            venue="kraken",
            symbol="BTC/USDT",
            bids=Ladder.of([(Decimal(100), Decimal(2)), (Decimal(99), Decimal(1))]),
            asks=Ladder.of([(Decimal(101), Decimal(1)), (Decimal(102), Decimal(5))]),
            received_at_ns=7,
            sequence=3,
        )
        == book
    )
    assert units(Decimal("100.5")) == book.mid


def test_repeated_prices_add_up_where_the_venue_documents_them():
    """
    Raw books list orders: two of one price are one level of both quantities, exactly.
    """
    book = decoded(raw([[100.0, 0.1], [99.0, 1.0], [100.0, 0.2]], [[101.0, 1.0], [101.0, 2.5]]), merge_repeats=True)

    assert [Level(Decimal(100), Decimal("0.3")), Level(Decimal(99), Decimal(1))] == list(book.bids)
    assert [Level(Decimal(101), Decimal("3.5"))] == list(book.asks)


@pytest.mark.parametrize(("depth", "merge", "bids"), [
    (1, False, "100"),
    (2, False, "100 99"),
    (3, False, "100 99"),
    # Cut after adding up: two prices, not two rows.
    (1, True, "100"),
    (2, True, "100 99"),
])  # fmt: skip
def test_book_is_cut_to_the_wanted_levels(depth, merge, bids):
    """
    The best levels are kept, the rest is left away.
    """
    rows = [*BIDS, BIDS[0]] if merge else BIDS
    book = decoded(raw(rows), depth=depth, merge_repeats=merge)

    assert bids == " ".join(str(level.price) for level in book.bids)


@pytest.mark.parametrize("merge", [False, True])
def test_endless_book_is_cut_to_five_thousand_levels(merge):
    """
    No venue makes a book that costs more to walk than five thousand levels a side.
    """
    bids = [[1000.0 - n / 100, 1.0] for n in range(LEVELS_MAX + 10)]
    asks = [[1001.0 + n / 100, 1.0] for n in range(LEVELS_MAX + 10)]
    book = decoded(raw(bids, asks), depth=10**6, merge_repeats=merge)

    assert (LEVELS_MAX, LEVELS_MAX) == (len(book.bids), len(book.asks))
    assert Decimal("1000.0") == book.bids[0].price
    assert Decimal("950.01") == book.bids[-1].price


@pytest.mark.parametrize("text", [
    "61837.63", "0.00006547", "1528.00000000", "0.0000002181", "5.05374021", "999999999999.9", "0.000000000000000001",
    "18747.56", "1E-8", "0.30000000000000004",
])  # fmt: skip
def test_numbers_are_those_that_the_venue_wrote(text):
    """
    A price that went through a float comes out as the digits the venue sent.
    """
    assert Decimal(text) == exact(float(text))


@pytest.mark.parametrize("texts", [
    # A book is read at the fineness of its first levels: others may be finer, and finer again ...
    ["1", "2", "1", "3", "1.5", "1.25", "1.125", "1.0625", "1.03125", "1.015625"],
    # ... or so large that both together are more digits than a float has.
    ["0.00000001", "1", "123456789"],
])  # fmt: skip
def test_levels_of_any_fineness_are_those_that_the_venue_wrote(texts):
    """
    However different the numbers of one book are, none loses a digit.
    """
    bids = [[100.0 - place, float(text)] for place, text in enumerate(texts)]

    assert [Decimal(text) for text in texts] == [level.quantity for level in decoded(raw(bids)).bids]


DIGITS = st.integers(1, 10**15 - 1)
PLACES = st.integers(0, 12)
NUMBERS = st.builds(lambda digits, places: Decimal(digits).scaleb(-places), DIGITS, PLACES)


@given(NUMBERS)
def test_fifteen_digits_survive_the_float(number):
    """
    Up to fifteen significant digits nothing is lost, anywhere between dust and billions.
    """
    assert number == exact(float(number))


SIDES = st.dictionaries(
    st.decimals(min_value="0.01", max_value="99999.99", places=2),
    st.decimals(min_value="0.00000001", max_value="999999", places=8),
    min_size=1,
    max_size=20,
)


def floats(side):
    return [[float(price), float(quantity)] for price, quantity in side.items()]


@given(SIDES, SIDES, st.randoms(use_true_random=False), st.integers(1, 25))
def test_accepted_books_are_sorted_uncrossed_positive_and_hold_what_was_given(bids, asks, shuffle, depth):
    """
    A book that counts can be walked from its best level, and every level in it is one that the venue showed.
    """
    bid_rows, ask_rows = floats(bids), floats(asks)
    shuffle.shuffle(bid_rows)
    shuffle.shuffle(ask_rows)
    best_bid, best_ask = max(bids), min(asks)
    if best_bid >= best_ask:
        with pytest.raises(BookRejected) as refused:
            decoded(raw(bid_rows, ask_rows), depth=depth)
        assert refused.value.reason is (Reject.CROSSED if best_bid > best_ask else Reject.LOCKED)
        return
    book = decoded(raw(bid_rows, ask_rows), depth=depth)

    assert book.bids[0].price < book.asks[0].price
    assert sorted(bids.items(), reverse=True)[:depth] == list(book.bids)
    assert sorted(asks.items())[:depth] == list(book.asks)
    assert all(level.price > 0 and level.quantity > 0 for level in (*book.bids, *book.asks))


ROWS = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(1, 10**6).map(lambda n: n / 10**6)), min_size=1)


@given(ROWS)
def test_adding_up_repeats_loses_nothing(rows):
    """
    The quantities of merged levels add up to the quantities shown, to the last digit.
    """
    book = decoded(raw(rows, [[7.0, 1.0]]), merge_repeats=True)

    assert len({price for price, _ in rows}) == len(book.bids)
    assert sum(exact(quantity) for _, quantity in rows) == sum(level.quantity for level in book.bids)


ANYTHING = st.one_of(
    st.none(), st.floats(), st.text(max_size=3), st.integers(-5, 200), st.lists(st.floats(), max_size=3)
)


@given(st.lists(st.lists(ANYTHING, max_size=3) | ANYTHING, max_size=3), st.lists(st.lists(ANYTHING, max_size=3)))
def test_garbage_is_refused_and_never_breaks_the_check(bids, asks):
    """
    Whatever a parser makes of garbage, the book is refused with a reason, or is a sound one.
    """
    try:
        book = decoded(raw(bids, asks))
    except BookRejected:
        return
    assert 0 < book.bids[0].price < book.asks[0].price
