"""Lines of a recording: exact there and back, and nothing else is believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.book import SEQUENCE_MAX, UNIT, Ladder, VenueBook
from exchanges.errors import RecordingError
from exchanges.inputs import (
    Arranged,
    Doubted,
    Emptied,
    Failed,
    Instructed,
    Published,
    Rejected,
    Seated,
    Spoiled,
    Unseated,
    venue_of,
)
from exchanges.instruments import Instrument
from exchanges.recorded import CLOSED, Decoder, Encoder, Ended, Header, RecordedVenue

START_NS = 5_000_000_000
HEADER = Header(
    market_data="simulated",
    started_at=datetime(2026, 11, 1, 12, 0, 0, 123456, UTC),
    started_ns=START_NS,
    outlier_bps=Decimal("100.5"),
    symbols=("BTC/USDT", "ETH/USDT"),
    venues=(
        RecordedVenue("kraken", "kraken", 1_000, 5_000, {"BTC/USDT": "BTC/USD"}),
        RecordedVenue("okx2", "okx", 500, 3_000),
    ),
)
SEAT = Seated("kraken", "BTC/USDT", 5_000, START_NS)

VENUES, SYMBOLS = ("okx2", "kraken"), ("ETH/USDT", "BTC/USDT")
numbers = st.one_of(
    st.integers(1, 10**30 - 1),
    # Whole cents and lots, as venues have them.
    st.builds(lambda mantissa, power: mantissa * 10**power, st.integers(1, 10**9), st.sampled_from([8, 10, 16, 18])),
)


@st.composite
def books(draw, venues=("kraken", "okx2"), symbols=("BTC/USDT", "ETH/USDT")):
    """Books that may share levels with one another: few prices, all of them around one middle."""
    prices = st.integers(1, 30).map(lambda n: n * 10**16) | numbers
    asks = draw(st.lists(prices.map(lambda price: price + 10**30), min_size=1, max_size=6, unique=True))
    bids = draw(st.lists(prices, min_size=1, max_size=6, unique=True))
    quantity = st.sampled_from([UNIT, 3 * UNIT // 10, 7]) | numbers
    sides = []
    for side, descending in ((bids, True), (asks, False)):
        side.sort(reverse=descending)
        sides.append(Ladder(tuple(side), tuple(draw(quantity) for _ in side)))
    return VenueBook(
        draw(st.sampled_from(venues)),
        draw(st.sampled_from(symbols)),
        *sides,
        draw(st.integers(0, 2**62)),
        draw(st.none() | st.integers(0, SEQUENCE_MAX)),
    )


moments = st.integers(0, 2**62)
reasons = st.sampled_from(["timeout", "http_502", "crossed", "CancelledError"])
rules = st.none() | st.decimals("0.000000000000000001", 10**6, places=18)
pair = (st.sampled_from(VENUES), st.sampled_from(SYMBOLS))
inputs = st.one_of(
    st.builds(Published, books(), moments, st.booleans()),
    st.builds(Rejected, *pair, reasons, moments),
    st.builds(Doubted, *pair, reasons, moments),
    st.builds(Emptied, *pair, reasons, moments),
    st.builds(Arranged, st.just(VENUES), st.just(SYMBOLS), st.decimals(0, 9_999, places=6)),
    st.builds(Failed, *pair, reasons, moments, st.booleans()),
    st.builds(Spoiled, reasons, moments),
    st.builds(Seated, *pair, st.integers(1, 10**9), moments),
    st.builds(
        Instructed, st.builds(Instrument, *pair, rules, rules, rules, rules, st.decimals(-100, 1_000, places=10))
    ),
)
SEATED = [Seated(venue, symbol, 5_000, START_NS) for venue in VENUES for symbol in SYMBOLS]


def there_and_back(told, now_ns=START_NS):
    encoder, decoder = Encoder(START_NS), Decoder(START_NS)
    return [decoder.read(encoder.line(one, now_ns)) for one in told]


@given(st.lists(inputs, max_size=12), moments)
def test_what_is_told_comes_back_to_the_digit(told, now_ns):
    """
    Books, rejects, failures, seats and rules are read as they were told, in their order and at their moments.
    """
    told = [*SEATED, *told]
    back = there_and_back(told, now_ns)

    assert told == [one for _, one in back]
    assert [getattr(one, "now_ns", now_ns) for one in told] == [at_ns for at_ns, _ in back]


@given(st.lists(books(("kraken",), ("BTC/USDT",)), min_size=2, max_size=8))
def test_books_that_change_a_little_come_back_whole(shown):
    """
    Each book rests on the one before it, and is the whole book again.
    """
    back = there_and_back([SEAT, *(Published(book, book.received_at_ns, False) for book in shown)])

    assert shown == [published.book for _, published in back[1:]]


def book(bids, asks, venue="kraken"):
    sides = [Ladder.of((Decimal(price), Decimal(quantity)) for price, quantity in side) for side in (bids, asks)]
    return VenueBook(venue, "BTC/USDT", *sides, START_NS, 7)


BOOK = book([("99.5", "1"), ("99", "2.25")], [("100.5", "1"), ("101", "3")])


def test_line_holds_only_what_changed():
    """
    One level of one side that changed is one level in the line; a side that stood still takes two characters.
    """
    encoder = Encoder(START_NS)
    lines = [
        encoder.line(told, START_NS)
        for told in (
            SEAT,
            Published(BOOK, START_NS, False),
            Published(replace(BOOK, asks=Ladder.of([(Decimal("101"), Decimal(3))])), START_NS + 5, True),
            Published(replace(BOOK, asks=Ladder.of([(Decimal("101"), Decimal(4))])), START_NS + 6, False),
        )
    ]

    assert [
        b'["s",0,"kraken","BTC/USDT",5000]',
        b'["b",0,0,0,7,0,[0,17,16,[995,990],[100,225]],[0,17,18,[1005,1010],[1,3]]]',
        b'["b",5,0,5,7,1,[],[0,17,18,[1005],[0]]]',
        b'["b",1,0,6,7,0,[],[0,18,18,[101],[4]]]',
    ] == lines


def test_instrument_keeps_rules_that_are_not_known():
    """
    A rule that the venue does not publish is not known in the replay either.
    """
    rules = Instrument("kraken", "BTC/USDT", None, Decimal("0.00001"), Decimal("1E-8"), None, Decimal("-1.5"))
    unseated = Unseated("kraken", "BTC/USDT")

    assert [Instructed(rules), unseated] == [
        told for _, told in there_and_back([SEAT, Instructed(rules), unseated])[1:]
    ]


def test_recording_ends_with_a_line_that_says_so():
    """
    The last line of a recording that was closed says that it is the last.
    """
    assert (START_NS + 9, Ended(CLOSED)) == Decoder(START_NS).read(Encoder(START_NS).end(START_NS + 9))


@pytest.mark.parametrize(
    ("told", "venue"),
    [
        (Published(BOOK, 1, False), "kraken"),
        (Instructed(Instrument("okx2", "BTC/USDT", None, None, None, None, Decimal(1))), "okx2"),
        (SEAT, "kraken"),
        (Spoiled("loop_stalled", 1), None),
        (Arranged(("kraken",), ("BTC/USDT",), Decimal(5)), None),
    ],
)
def test_what_is_told_is_of_a_venue_or_of_all(told, venue):
    """
    A replay of some venues can leave out what was told of the others.
    """
    assert venue == venue_of(told)


GOOD = [
    ["s", 0, "kraken", "BTC/USDT", 5000],
    ["b", 0, 0, 0, None, 0, [1, 18, 18, [10, 9], [1, 1]], [1, 18, 18, [11], [1]]],
]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "not JSON"),
        (b"[", "not JSON"),
        (b"[" * 5_000, "not JSON"),
        (b"{}", "a list of a letter"),
        (b'["x"]', "a list of a letter"),
        (["q", 0], "no known kind"),
        ([1, 0], "no known kind"),
        ([["b"], 0], "no known kind"),
        (["x", 0], "no known kind"),
        (["x", 0.5, "stale"], "not a whole one"),
        (["x", True, "stale"], "not a whole one"),
        (["x", -(10**15), "stale"], "out of its range"),
        (["x", 2**63 - 1, "stale"], "out of its range"),
        (["x", 0, ""], "a reason is not"),
        (["x", 0, "a\nb"], "a reason is not"),
        (["x", 0, "x" * 101], "a reason is not"),
        (["x", 0, 5], "a reason is not"),
        (["r", 0, 1, "crossed"], "out of its range"),
        (["r", 0, -1, "crossed"], "out of its range"),
        (["a", 0, {}, ["BTC/USDT"], "5"], "list of names"),
        (["a", 0, ["okx"], 5, "5"], "list of names"),
        (["a", 0, ["okx", "okx"], ["BTC/USDT"], "5"], "stands there twice"),
        (["a", 0, ["okx"], ["BTC/USDT"], 5], "not of its form"),
        (["f", 0, 0, "timeout", 2], "out of its range"),
        (["s", 0, "Kraken", "BTC/USDT", 5000], "not of its form"),
        (["s", 0, "kraken", "BTC-USDT", 5000], "not of its form"),
        (["s", 0, "kraken", None, 5000], "not of its form"),
        (["s", 0, "kraken", "BTC/USDT", 0], "out of its range"),
        (["i", 0, 0, "1e5", None, None, None, "1"], "not of its form"),
        (["i", 0, 0, "0", None, None, None, "1"], "is 0"),
        (["i", 0, 0, None, "NaN", None, None, "1"], "not of its form"),
        (["i", 0, 0, None, None, None, None, None], "not of its form"),
        # A book's times, numbers, sides and levels.
        (["b", 0, 0, 2**62, None, 0, [], []], "out of its range"),
        (["b", 0, 0, 0, -1, 0, [], []], "out of its range"),
        (["b", 0, 0, 0, 2**63, 0, [], []], "not a whole one"),
        (["b", 0, 0, 0, None, None, [], []], "not a whole one"),
        (["b", 0, 0, 0, None, 0, 5, []], "no list"),
        (["b", 0, 0, 0, None, 0, [1], []], "five parts"),
        (["b", 0, 0, 0, None, 0, [2, 18, 18, [1], [1]], []], "out of its range"),
        (["b", 0, 0, 0, None, 0, [0, 19, 18, [1], [1]], []], "out of its range"),
        (["b", 0, 0, 0, None, 0, [0, 18, -1, [1], [1]], []], "out of its range"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, 1, [1]], []], "column"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [1] * 10_001, [1]], []], "column"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [1, 2], [1]], []], "more prices"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [-1], [1]], []], "out of its range"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [1], [-1]], []], "out of its range"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [1.5], [1]], []], "not of its form"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, ["1" * 37], [1]], []], "not of its form"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, ["1" * 30], [1]], []], "out of its range"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, ["-5"], [1]], []], "not of its form"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [0], [1]], []], "a price is 0"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [3], [0]], []], "was not there"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [10, 9], [0, 0]], []], "levels"),
        (["b", 0, 0, 0, None, 0, [0, 0, 0, list(range(1, 5_001)), [1] * 5_000], []], "levels"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [11], [1]], []], "crossed or locked"),
        (["b", 0, 0, 0, None, 0, [0, 18, 18, [12], [1]], []], "crossed or locked"),
    ],
)
def test_line_that_is_not_as_it_is_written_is_refused(line, problem):
    """
    A number out of range, a level that was not there, a crossed book: each is refused with what is wrong.
    """
    decoder = Decoder(START_NS)
    for good in GOOD:
        decoder.read(orjson.dumps(good))

    with pytest.raises(RecordingError, match=problem):
        decoder.read(line if isinstance(line, bytes) else orjson.dumps(line))


def test_first_book_without_levels_is_refused():
    """
    Nothing can rest on a book that was never there.
    """
    decoder = Decoder(START_NS)
    decoder.read(orjson.dumps(GOOD[0]))

    with pytest.raises(RecordingError, match="no levels"):
        decoder.read(orjson.dumps(["b", 0, 0, 0, None, 0, [], []]))


@pytest.mark.parametrize(
    "gone",
    [
        ["u", 0, "kraken", "BTC/USDT"],
        ["a", 0, ["okx"], ["BTC/USDT"], "100"],
        ["a", 0, ["kraken"], ["ETH/USDT"], "100"],
    ],
)
def test_venue_without_a_seat_is_refused(gone):
    """
    Nothing is told of a venue that does not trade the symbol any more, or that is not there any more.
    """
    decoder = Decoder(START_NS)
    for line in (GOOD[0], gone):
        decoder.read(orjson.dumps(line))

    with pytest.raises(RecordingError, match="no seat"):
        decoder.read(orjson.dumps(["r", 0, 0, "crossed"]))


def test_too_many_seats_are_refused(monkeypatch):
    """
    A file cannot fill the memory with venues and symbols.
    """
    monkeypatch.setattr("exchanges.recorded.SEATS_MAX", 1)
    decoder = Decoder(START_NS)
    for _ in range(2):
        decoder.read(orjson.dumps(GOOD[0]))

    with pytest.raises(RecordingError, match="too many"):
        decoder.read(orjson.dumps(["s", 0, "okx2", "BTC/USDT", 5000]))


def test_header_comes_back():
    """
    Where the books came from, when, of which venues and symbols: all of it is read as it was.
    """
    assert HEADER == Header.decode(HEADER.encode())


VENUE = orjson.loads(HEADER.encode())["venues"][0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2}, "of version '2'; this service reads version 1"),
        ({"version": "x" * 100}, "of version 'xxxxxxxxxxxxxxxxxxxx'"),
        ({"market_data": "real"}, "no market data"),
        ({"started_at": "yesterday"}, "time is none"),
        ({"started_at": None}, "time is none"),
        ({"started_at": "2026-11-01T12:00:00"}, "no zone"),
        ({"started_at": "0001-01-01T00:00:00+23:00"}, "time is none"),
        ({"started_at": "9999-01-01T00:00:00+00:00"}, "time is none"),
        ({"started_ns": -1}, "out of its range"),
        ({"started_ns": 2**63 - 1}, "out of its range"),
        ({"outlier_bps": 5}, "not of its form"),
        ({"symbols": []}, "no symbols"),
        ({"symbols": 5}, "list of names"),
        ({"symbols": ["BTC"]}, "not of its form"),
        ({"venues": {}}, "no venues"),
        ({"venues": [VENUE, VENUE]}, "twice"),
        ({"venues": [5]}, "no symbols"),
        ({"venues": [{**VENUE, "name": "../x"}]}, "not of its form"),
        ({"venues": [{**VENUE, "exchange": ""}]}, "not of its form"),
        ({"venues": [{**VENUE, "stale_after_ms": 0}]}, "out of its range"),
        ({"venues": [{**VENUE, "symbols": {"BTC/USDT": 5}}]}, "not of its form"),
        ({"venues": [{**VENUE, "colour": 5}]}, "not the fields"),
        ({"colour": "red"}, "not the fields"),
    ],
)
def test_header_that_is_not_one_is_refused(changes, problem):
    """
    A header of another version, or with anything in it that is not a header's, is refused with what is wrong.
    """
    fields = orjson.loads(HEADER.encode())

    with pytest.raises(RecordingError, match=problem):
        Header.decode(orjson.dumps({**fields, **changes}))


def test_header_must_be_one():
    """
    A file that begins with something else is no recording.
    """
    with pytest.raises(RecordingError, match="begins with its header"):
        Header.decode(b"[]")
