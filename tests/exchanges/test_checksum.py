"""The sum that Kraken sends with each change of a book."""

from __future__ import annotations

import zlib

import pytest

from exchanges.checksum import KrakenChecksum

# The example of "Spot Websockets (v2) Book Checksum", docs.kraken.com/api/docs/guides/spot-ws-book-v2 (read 2026-11).
BIDS = [
    [45283.5, 0.1], [45283.4, 1.54582015], [45282.1, 0.1], [45281.0, 0.1], [45280.3, 1.54592586],
    [45279.0, 0.0799], [45277.6, 0.03310103], [45277.5, 0.3], [45277.3, 1.54602737], [45276.6, 0.15445238],
]  # fmt: skip
ASKS = [
    [45285.2, 0.001], [45286.4, 1.54571953], [45286.6, 1.54571109], [45289.6, 1.54560911], [45290.2, 0.15890660],
    [45291.8, 1.54553491], [45294.7, 0.04454749], [45296.1, 0.35380000], [45297.5, 0.09945542], [45299.5, 0.18772827],
]  # fmt: skip
INFO = {"pair_decimals": 1, "lot_decimals": 8}


def test_sum_is_the_one_of_krakens_own_example():
    """
    The book that Kraken's page takes apart has the sum that it gives.
    """
    assert 3310070434 == KrakenChecksum("BTC/USD", 0).of(BIDS, ASKS, INFO)


def test_ten_levels_a_side_are_summed_and_their_third_columns_are_not():
    """
    What is deeper, and what ccxt adds to a level, does not change the sum.
    """
    claim = KrakenChecksum("BTC/USD", 0)
    deeper = [[*level, 1] for level in BIDS] + [[1.0, 1.0]]
    assert claim.of(BIDS, ASKS, INFO) == claim.of(deeper, ASKS, INFO)
    assert claim.of(BIDS, ASKS, INFO) != claim.of([[45283.5, 0.2], *BIDS[1:]], ASKS, INFO)


def test_book_of_few_levels_is_summed_as_it_is():
    """
    Prices below one lose the zero before their point, too.
    """
    text = b"50001004900200"
    info = {"pair_decimals": 4, "lot_decimals": 2}
    assert zlib.crc32(text) == KrakenChecksum("DOGE/USD", 0).of([[0.49, 2.0]], [[0.5, 1.0]], info)


@pytest.mark.parametrize("message", [
    "pong", ["book"], {"channel": "heartbeat"}, {"channel": "status", "data": [{}]},
    {"method": "subscribe", "result": {"channel": "book"}}, {"channel": "book"},
])  # fmt: skip
def test_message_that_is_not_of_a_book_claims_nothing(message):
    """
    Heartbeats and acknowledgements have no sum.
    """
    assert KrakenChecksum.of_message(message) is None


def test_message_of_a_book_claims_its_sum():
    """
    The symbol is the message's own.
    """
    message = {"channel": "book", "type": "update", "data": [{"symbol": "BTC/USD", "checksum": 42, "bids": []}]}
    assert KrakenChecksum("BTC/USD", 42) == KrakenChecksum.of_message(message)
