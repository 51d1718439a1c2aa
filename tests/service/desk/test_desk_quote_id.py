"""A quote id holds the whole quote, and opens for nobody who changed it."""

from __future__ import annotations

import base64
import hmac
import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.book import Side
from service.desk.orders import QuotedSide, QuoteRequest
from service.desk.quote_id import QUOTE_ID_LENGTH_MAX, QuoteSigner, QuoteTerms
from service.pricing.bounds import Ask
from tests.service.shown import ask

SIGNER = QuoteSigner(b"k" * 32)
ISSUED_AT = datetime(2026, 11, 1, 12, 0, 0, 123_000, tzinfo=UTC)
TERMS = QuoteTerms(
    account="alice",
    market_data="simulated",
    request=QuoteRequest("BTC/USDT", ask("1.5"), (Side.BUY, Side.SELL)),
    sides={Side.BUY: QuotedSide(15 * 10**17, 9611448000000, True), Side.SELL: QuotedSide(0, 0, False)},
    issued_at=ISSUED_AT,
    expires_at=ISSUED_AT + timedelta(milliseconds=3_000),
    nonce=bytes(range(16)),
)

AMOUNTS = st.integers(0, 10**30)
ASKS = st.builds(
    Ask,
    quantity=st.none() | AMOUNTS,
    total=st.none() | AMOUNTS,
    slippage_bps_max=st.none() | st.decimals(0, 10**4, places=12, allow_nan=False, allow_infinity=False),
    limit_price=st.none() | AMOUNTS,
)
QUOTED = st.builds(QuotedSide, AMOUNTS, st.integers(-(10**20), 10**30), st.booleans())
NAMES = st.none() | st.lists(st.text("abcdefgh_-0123", min_size=1, max_size=12), max_size=4).map(tuple)
MOMENTS = st.integers(0, 4 * 10**12).map(lambda ms: datetime(1990, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms))


@st.composite
def terms_of_quotes(draw):
    """Any quote: whatever was asked, for one side or both, in either order."""
    sides = draw(st.dictionaries(st.sampled_from(list(Side)), QUOTED, min_size=1))
    request = QuoteRequest(
        draw(st.sampled_from(["BTC/USDT", "ETH/BTC"])), draw(ASKS), tuple(sides), draw(NAMES), draw(NAMES)
    )
    account = draw(st.text(max_size=30).filter(lambda text: text.isprintable()))
    mode, nonce = draw(st.sampled_from(["live", "simulated"])), draw(st.binary(min_size=16, max_size=16))
    return QuoteTerms(account, mode, request, sides, draw(MOMENTS), draw(MOMENTS), nonce)


@given(terms=terms_of_quotes())
def test_an_id_opens_to_the_terms_it_was_made_from(terms):
    """
    Everything that was promised is in the id, to the last digit and the millisecond.
    """
    quote_id = SIGNER.seal(terms)

    assert terms == SIGNER.open(quote_id)
    assert list(terms.sides) == list(SIGNER.open(quote_id).sides)
    assert quote_id.isascii()


def test_no_character_of_an_id_can_be_changed():
    """
    With any one character replaced, dropped or doubled an id is no id at all.
    """
    quote_id = SIGNER.seal(TERMS)

    for place, character in enumerate(quote_id):
        for other in string.ascii_letters + string.digits + "-_.=+/ ":
            if other != character:
                assert SIGNER.open(quote_id[:place] + other + quote_id[place + 1 :]) is None
        assert SIGNER.open(quote_id[:place] + quote_id[place + 1 :]) is None
        assert SIGNER.open(quote_id[:place] + character + quote_id[place:]) is None


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ".",
        "..",
        "q2",
        "q2.",
        "q2..",
        "q2.e30.",
        "q2.e30.AAAA",
        "nonsense",
        "q2.\ud800.\ud800",
        "q2.é.é",
        "\uff511.e30.AAAA",
        "\x00",
        "q2." + "A" * QUOTE_ID_LENGTH_MAX,
    ],
)
def test_what_was_never_given_does_not_open(forged):
    """
    Anything but a genuine id is unknown, and breaks nothing.
    """
    assert SIGNER.open(forged) is None


def test_an_id_with_something_after_it_does_not_open():
    """
    An id is one text only: neither padding nor a newline nor another case makes a second one.
    """
    quote_id = SIGNER.seal(TERMS)

    for other in (quote_id + "=", quote_id + ".", quote_id + "\n", " " + quote_id, quote_id.upper(), quote_id + "é"):
        assert SIGNER.open(other) is None


def test_terms_of_one_quote_with_the_mac_of_another_do_not_open():
    """
    The parts of two genuine ids do not make a third.
    """
    _, terms, _ = SIGNER.seal(TERMS).split(".")
    _, _, mac = SIGNER.seal(replace(TERMS, account="mallory")).split(".")

    assert SIGNER.open(f"q2.{terms}.{mac}") is None
    assert QuoteSigner(b"l" * 32).open(SIGNER.seal(TERMS)) is None


def test_an_id_longer_than_the_limit_does_not_open_though_it_is_genuine():
    """
    There is a length beyond which nobody looks.
    """
    payload = base64.urlsafe_b64encode(b"x" * QUOTE_ID_LENGTH_MAX).decode().rstrip("=")
    mac = base64.urlsafe_b64encode(hmac.digest(b"k" * 32, payload.encode(), "sha256")).decode().rstrip("=")

    assert SIGNER.open(f"q2.{payload}.{mac}") is None


def test_an_id_that_names_every_venue_there_is_still_opens():
    """
    However many venues a quote leaves out, it can be executed.
    """
    venues = tuple(f"venue{n:03d}" for n in range(110))
    wide = replace(TERMS, request=replace(TERMS.request, venues=venues, exclude_venues=venues))

    assert len(SIGNER.seal(wide)) <= QUOTE_ID_LENGTH_MAX
    assert wide == SIGNER.open(SIGNER.seal(wide))


OF_0_1_0 = (
    "q1."
    "WyJhbGljZSIsInNpbXVsYXRlZCIsIkJUQy9VU0RUIiwiMSIsbnVsbCxudWxsLG51bGwseyJidXkiOlsiMSIsIjEwMSJdfSwxNzkz"
    "NTM0NDAwMDAwLDE3OTM1MzQ0MDMwMDAsIjAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwIl0"
    ".WCh4Eou9nLq7ae_C08zPcKF-DDo_50ZV5Uvqa1HQUfg"
)
"""What version 0.1.0 sealed with the same key."""


def test_an_id_of_an_older_version_does_not_open():
    """
    A quote that was given before an upgrade is unknown after it, and no error of ours.
    """
    assert SIGNER.open(OF_0_1_0) is None
