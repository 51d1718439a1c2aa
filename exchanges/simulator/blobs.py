"""Make bodies and messages that are too long to be made on the event loop."""

from __future__ import annotations

import asyncio
import zlib
from functools import lru_cache

from exchanges.simulator.market import SimulatedMarket
from exchanges.simulator.wires import STREAM_WIRES, WIRES, long_sides, render_long
from exchanges.simulator.wires.wire import Change, Channel, DepthRequest, Moment, Reply

_LONG_BYTES = 6 * 1024 * 1024
_BOMB_BYTES = 64 * 1024 * 1024
_SAMPLE = 1000  # So many levels tell how long one is.


class Blobs:
    """Make one at a time, or take it from its cache."""

    def __init__(self, market: SimulatedMarket) -> None:
        """Make books as long as need be of *market*'s."""
        self._market = market
        self._one = asyncio.Lock()

    async def bomb(self) -> Reply:
        """Answer with little gzip that becomes much JSON."""
        async with self._one:
            return Reply(200, await asyncio.to_thread(_bomb), headers={"Content-Encoding": "gzip"})

    async def answer(self, venue: str, symbol: str, moment: Moment) -> Reply:
        """Answer with a book of 5 to 8 MiB."""
        async with self._one:
            return Reply(200, await asyncio.to_thread(_long_answer, self._market, moment, venue, symbol))

    async def message(self, venue: str, channel: Channel, change: Change) -> bytes:
        """Put 5 to 8 MiB of levels into a message in place of *change*'s."""
        async with self._one:
            return await asyncio.to_thread(_long_message, venue, channel, change)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    rows = b"[0,0]," * (1024 * 1024 // 6)
    parts = [packer.compress(b"[")]
    parts += [packer.compress(rows) for _ in range(_BOMB_BYTES // len(rows) + 1)]
    return b"".join((*parts, packer.compress(b"[0,0]]"), packer.flush()))


@lru_cache(maxsize=6)
def _long_answer(market: SimulatedMarket, moment: Moment, venue: str, symbol: str) -> bytes:
    wire, asked = WIRES[venue], DepthRequest(symbol)
    book = market.book(venue, symbol, 0, 1)
    sample = len(render_long(wire, asked, book, moment, _SAMPLE))
    return render_long(wire, asked, book, moment, _LONG_BYTES * _SAMPLE // sample)


def _long_message(venue: str, channel: Channel, change: Change) -> bytes:
    wire = STREAM_WIRES[venue]

    def message(levels: int) -> bytes:
        bids, asks = long_sides(change.book, levels, wire.stream_level)
        return wire.message(channel, change._replace(bids=bids, asks=asks)) or b""

    return message(_LONG_BYTES * _SAMPLE // len(message(_SAMPLE)))
