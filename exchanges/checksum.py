"""Prove a streamed book by the checksum that its venue sends with every change.

Pure.  Kraken: "Spot Websockets (v2) Book Checksum" (docs.kraken.com/api/docs/guides/spot-ws-book-v2, read 2026-11): of
the ten best asks, then the ten best bids, each level's price and quantity, written with all their decimals, lose their
point and their leading zeros; the CRC32 of it all in a row is the checksum.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LEVELS = 10
"""So many levels a side are summed."""


class KrakenChecksum(NamedTuple):
    """
    What a message says that the book's checksum is once the message is applied.

    Args:
        symbol: As the message names it, ``BTC/USD``.
    """

    symbol: str
    checksum: int

    @classmethod
    def of_message(cls, message: Any) -> KrakenChecksum | None:
        """Read a message's claim; None for one that is not of a book."""
        if not isinstance(message, dict) or message.get("channel") != "book" or "data" not in message:
            return None
        change = message["data"][0]
        return cls(str(change["symbol"]), int(change["checksum"]))

    def of(self, bids: Sequence[Any], asks: Sequence[Any], info: Mapping[str, Any]) -> int:
        """
        Sum a book up.

        Args:
            bids: Rows ``[price, quantity]`` of floats, best first.
            asks: The same.
            info: The instrument as Kraken describes it: how many decimals its prices and quantities have.
        """
        price_decimals, quantity_decimals = int(info["pair_decimals"]), int(info["lot_decimals"])
        text = "".join(
            _bare(price, price_decimals) + _bare(quantity, quantity_decimals)
            for side in (asks, bids)
            for price, quantity, *_ in side[:LEVELS]
        )
        return zlib.crc32(text.encode())


def _bare(number: float, decimals: int) -> str:
    return f"{number:.{decimals}f}".replace(".", "").lstrip("0")
