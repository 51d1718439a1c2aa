"""What ``watch`` draws, of what a stream has told: the same for the same, in any space."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from service.client import BookUpdate, Interrupted, NoAnswer, NoValue, QuoteUpdate, Resumed, VenuesUpdate
from service.client.channels import Subscription
from service.client.decoding import decode
from service.client.errors import problem_error
from service.client.market import Book, Venue
from service.client.quotes import Quote
from service.frame import Watched, frame, venue_styles
from tests.client.loopback import QUOTE, SIDE

ABOUT = {"sequence": 1, "raw": {}}
BOOK = """
    ask  64030.5   64096.92  2         0      kraken
    ask  64011     64395.07  0.12346   0      coinbaseexchange
    ask  64009     64073     4         3      okx
    bid  64000     63833.6   0.3       0      kraken
    bid  63999.25  63935.25  0.05      0.05   okx
"""
SOURCES = {
    "kraken": ("live", None, 84),
    "coinbaseexchange": ("live", None, 410),
    "okx": ("live", None, 1_200),
    "bitstamp": ("down", "http_503", None),
}
GROSS = Subscription("book", "BTC/USDT", id="ladder")
TOP = Subscription("book", "BTC/USDT", id="top")


def sources(of):
    return [
        {"venue": venue, "state": state, "used": state == "live" and reason is None, "reason": reason}
        | {"age_ms": age_ms, "sequence": None}
        for venue, (state, reason, age_ms) in of.items()
    ]


def book(ladder=BOOK, *, view="gross", market_data="simulated", of=SOURCES):
    """Draw a book: side, price, net price, quantity, taken, venue; asks are drawn best last."""
    levels = {"ask": [], "bid": []}
    for line in ladder.strip().splitlines():
        side, *values = line.split()
        level = dict(zip(("price", "net_price", "quantity", "taken", "venue"), values, strict=True))
        levels[side].append({**level, "held": "0"})
    bids, asks = levels["bid"], levels["ask"][::-1]
    crossed = bool(bids and asks) and float(bids[0]["price"]) > float(asks[0]["price"])
    about = {"symbol": "BTC/USDT", "view": view, "market_data": market_data, "crossed": crossed}
    return decode(Book, about | {"bids": bids, "asks": asks, "sources": sources(of)})


def venue(name, *, transport="poll", enabled=True):
    counts = {"accepted": 1, "rejected": {}, "failed": {}, "reconnects": 0}
    unknown = dict.fromkeys(("poll_interval_ms", "state", "reason", "since", "taker_fee_bps"))
    about = {"venue": name, "enabled": enabled, "transport": transport, "symbols": []}
    return decode(Venue, about | counts | unknown)


def no_price(subscription=GROSS):
    problem = {"code": "no_fresh_market_data", "detail": "0 live venues, 1 is needed", "status": 503}
    stale = sources({"kraken": ("stale", "stale", 6_000), "okx": ("warming", "no_book_yet", None)})
    error = problem_error(503, problem | {"sources": stale}, request_id=None)
    return NoValue(subscription=subscription, error=error, **ABOUT)


def watched(*updates, at_s=100.0):
    """Tell of a book (all of it *at_s*), and then of *updates*."""
    seen = Watched("BTC/USDT", heard_s=at_s)
    for update in updates or (told(book()), VENUES):
        seen = seen.after(update, at_s)
    return seen


def told(of, subscription=GROSS):
    return BookUpdate(subscription=subscription, book=of, **ABOUT)


VENUES = VenuesUpdate(
    subscription=Subscription("venues", id="venues"),
    venues=(
        venue("kraken"),
        venue("coinbaseexchange", transport="stream"),
        venue("okx"),
        venue("bitstamp"),
        venue("bybit", enabled=False),
    ),
    **ABOUT,
)


def drawn(seen, width=80, height=None, *, now_s=100.1, **options):
    return [line.plain.rstrip() for line in frame(seen, width, height, now_s, **options)]


def test_ladder_has_asks_above_bids_and_a_lamp_for_each_venue():
    """
    Price, quantity, what is left of it as a bar, venue and taken; then each venue with its state, age, way and reason.
    """
    expected = """\
        BTC/USDT   *** SIMULATED prices ***  mock execution
        updated 0.1 s ago, without fees, 3 of 4 venues
           price quantity                                          venue               taken
        64030.50  2.00000 ████████████████████                     kraken
        64011.00  0.12346 █                                        coinbaseexchange
        64009.00  4.00000 ██████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ okx               3.00000
        ── mid 64004.50 ─ spread 1.41 bps ──────────────────────────────────────────────────
        64000.00  0.30000 ███                                      kraken
        63999.25  0.05000 ░                                        okx               0.05000

        ● kraken           live        0.2 s  poll
        ● coinbaseexchange live        0.5 s  stream
        ● okx              live        1.3 s  poll
        ✕ bitstamp         down               poll    http_503
        - bybit            disabled           poll"""

    assert dedent(expected).splitlines() == drawn(watched(), 84)


def test_readme_shows_what_is_drawn():
    """
    The picture in the README is a frame.
    """
    readme = (Path(__file__).parents[1] / "README.md").read_text()

    assert indent("\n".join(drawn(watched(), 84)), "    ") in readme


def test_forty_columns_are_enough():
    """
    On a narrow terminal the same stands in less; what is taken is the light part of the bar.
    """
    expected = """\
        BTC/USDT   *** SIMULATED prices ***
        updated 0.1 s ago, 3 of 4
           price     qty               venue
        64030.50 2.00000 ██████        kraken
        64011.00 0.12346 █             coinbasee
        64009.00 4.00000 ███░░░░░░░░░░ okx
        ── mid 64004.50 ─ spread 1.41 bps ──────
        64000.00 0.30000 █             kraken
        63999.25 0.05000 ░             okx

        ● kraken     live        0.2 s poll
        ● coinbaseex live        0.5 s stream
        ● okx        live        1.3 s poll
        ✕ bitstamp   down              http_503
        - bybit      disabled          poll"""

    assert dedent(expected).splitlines() == drawn(watched(), 40)


def test_terminal_without_such_signs_is_drawn_on_as_well():
    """
    Where only ASCII can be shown, nothing else is.
    """
    text = "\n".join(drawn(watched(told(book()), VENUES, Interrupted(NoAnswer("gone"))), 84, ascii_only=True))

    assert text.isascii()
    assert "64009.00  4.00000 ##########.............................. okx" in text


def test_ranks_are_by_price_with_fees_and_the_spread_is_the_venues_own():
    """
    In the net view the price with fees stands first; mid and spread are those of the best prices that venues show.
    """
    top = book("ask 64009 64073 4 3 okx\n bid 64000 63833.6 0.3 0 kraken")
    net = book("ask 64009 64073.009 4 3 okx\n bid 63999.25 63935.25 1 0 okx", view="net")
    lines = drawn(watched(told(net), told(top, TOP)), 84)

    assert "updated 0.1 s ago, net of fees, 3 of 4 venues" == lines[1]
    assert lines[2].startswith("net price     price quantity ")
    assert lines[3].startswith("64073.009  64009.00        4 ")
    assert lines[4].startswith("── mid 64004.50 ─ spread 1.41 bps ──")


@pytest.mark.parametrize(("market_data", "expected"), [
    ("live", "BTC/USDT  live prices, mock execution"),
    ("simulated", "BTC/USDT   *** SIMULATED prices ***  mock execution"),
    ("replay", "BTC/USDT   *** REPLAYED prices ***  mock execution"),
])  # fmt: skip
def test_prices_that_are_not_live_are_said_so_in_capitals(market_data, expected):
    """
    Simulated and replayed prices cannot be taken for live ones, on a terminal without colours either.
    """
    assert expected == drawn(watched(told(book(market_data=market_data))))[0]


def test_crossed_market_is_warned_of():
    """
    Where one venue bids more than another asks, that stands first, and the spread is negative.
    """
    lines = drawn(watched(told(book("ask 100 101 1 0 okx\n bid 101 100 1 0 kraken"))))

    assert " CROSSED  updated 0.1 s ago, without fees, 3 of 4 venues" == lines[1]
    assert lines[4].startswith("── mid 100.5 ─ spread -99.50 bps ──")


def test_without_a_price_every_venue_says_why():
    """
    No level stands where none can be had; the reasons of all venues do.
    """
    lines = drawn(watched(told(book()), VENUES, no_price()), height=20, now_s=101.0)

    assert [" NO PRICE  no_fresh_market_data", "", "0 live venues, 1 is needed", ""] == lines[1:5]
    assert [
        "○ kraken stale       7.0 s  poll",
        "◐ okx    warming            poll    no_book_yet",
    ] == [line for line in lines if "kraken" in line or "okx" in line]
    assert not any("64" in line for line in lines)


def test_lost_connection_is_shown_until_it_is_back():
    """
    What was told is old: it says since when, no lamp claims to know, and the next book is fresh again.
    """
    lost = watched(told(book()), VENUES, Interrupted(NoAnswer("the stream broke")))
    lines = drawn(lost, now_s=112.0)
    assert " STALE for 12 s, reconnecting  the stream broke" == lines[1]
    assert "? kraken           live       12.1 s  poll" in lines
    assert all("dim" in {str(span.style) for span in line.spans} for line in frame(lost, 80, None, 112.0)[2:] if line)

    back = lost.after(Resumed(12.0), 112.0).after(told(book()), 112.0)
    assert "updated 0.1 s ago, without fees, 3 of 4 venues" == drawn(back, now_s=112.1)[1]


def test_silence_is_stale():
    """
    A service that says nothing for longer than it ever does is not believed to be there.
    """
    assert drawn(watched(), now_s=104.9)[1].startswith("updated 4.9 s ago")
    assert " STALE for 5 s, nothing is heard" == drawn(watched(), now_s=105.1)[1]


def test_left_out_venue_says_why():
    """
    A venue that is live and does not count is not shown as if it did.
    """
    lines = drawn(watched(told(book(of=SOURCES | {"kraken": ("live", "outlier", 84)})), VENUES))

    assert "2 of 4 venues" in lines[1]
    assert "● kraken           live        0.2 s  poll    left out: outlier" in lines


def test_quote_stands_below_the_ladder():
    """
    A quote's sides stand with their price with all fees, and what is missing; or why there is none.
    """
    about = Subscription("quote", "BTC/USDT", id="quote")
    quote = decode(Quote, QUOTE | {"sell": SIDE | {"fillable": False, "shortfall": "0.5"}})
    given = QuoteUpdate(subscription=about, quote=quote, **ABOUT)
    lines = drawn(watched(told(book()), given))
    assert "buy  1.5 BTC at 64076.32 with all fees, 96114.48 USDT to pay" in lines
    assert "sell 1.5 BTC at 64076.32, 0.5 short with all fees, 96114.48 USDT received" in lines
    assert "buy  1.5 BTC at 64076.32" in drawn(watched(told(book()), given), 40)

    lines = drawn(watched(told(book()), given, no_price(about)))
    assert "no quote: no_fresh_market_data: 0 live venues, 1 is needed" in lines


def test_venue_keeps_its_colour():
    """
    A venue's colour does not depend on its rank, its state, or on who else is there.
    """
    alone = watched(VENUES, told(book("ask 64009 64073 4 3 okx", of={"okx": SOURCES["okx"]})))

    assert venue_styles(watched())["okx"] == venue_styles(alone)["okx"]
    assert 5 == len(set(venue_styles(watched()).values()))


def test_columns_do_not_jump():
    """
    A book of shorter numbers is drawn in the columns of the one before.
    """
    wide = watched()
    after = wide.after(told(book("ask 64009 64073 4 0 okx\n bid 64000 63833 1 0 kraken")), 100.0)

    assert drawn(wide)[2] == drawn(after)[2]
    assert "64009.00  4.00000" in drawn(after)[3]


def test_many_venues_are_counted():
    """
    Where there is no room for all, those that are not well have it.
    """
    of = {f"venue{n}": ("live", None, 10) for n in range(20)} | {"broken": ("down", "http_503", None)}
    lines = drawn(watched(told(book(of=of))), height=24)

    assert ["✕", "broken", "down", "http_503"] in [line.split() for line in lines]
    assert "  and 14 more: 14 live" == lines[-1]


@pytest.mark.parametrize("width", [1, 10, 20, 39, 40, 59, 60, 80, 200])
@pytest.mark.parametrize("height", [1, 4, 10, 16, 24, 60])
def test_nothing_is_drawn_beyond_the_terminal(width, height):
    """
    Whatever the size, lines are no longer than the terminal is wide, and no more than it is high.
    """
    for seen in (
        Watched("BTC/USDT"),
        watched(),
        watched(VENUES, no_price()),
        watched(VENUES, Interrupted(NoAnswer("x"))),
    ):
        lines = frame(seen, width, height, 100.1)
        assert len(lines) <= height
        assert max(line.cell_len for line in lines) <= width


def test_names_do_not_steer_the_terminal():
    """
    A venue's name, reason or symbol that holds signs for the terminal is drawn as a name with a hole.
    """
    odd = SOURCES | {"ok\x1b[2J": ("down", "time\x1bout", None)}
    lines = drawn(watched(told(book(of=odd))))

    assert any("ok�[2J" in line and "time�out" in line for line in lines)
    assert all(line.isprintable() for line in lines)
