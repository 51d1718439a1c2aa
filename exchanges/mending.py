"""Mend what ccxt.pro 4.5.90 does to some venues' streamed books, on one of its exchange objects.

Nothing here imports ccxt: these are the methods that its exchange objects call on themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from exchanges.venues import StreamFacts

SNAPSHOT_AGAIN_S = 0.25
"""Before a snapshot is asked for again, where the last one was older than the changes that it was asked for."""


def mend(pro: Any, stream: StreamFacts) -> None:
    """Take the place of what would lose levels or changes, or ask a venue without a pause."""
    if stream.keeps_every_level:
        make_book = pro.order_book
        pro.order_book = lambda snapshot={}, depth=None: make_book(snapshot)
    if stream.change_sequence is not None:
        pro.get_cache_index = partial(_first_newer, stream.change_sequence)
    pro.fetch_rest_order_book_safe = partial(_snapshot, pro, set())


def _first_newer(
    sequence_of: Callable[[Mapping[str, Any]], int], snapshot: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]
) -> int:
    """Find the first of the changes that came meanwhile that a snapshot does not have; -1 if it may lack others."""
    sequences = [sequence_of(change) for change in changes]
    if not sequences or snapshot["nonce"] is None or snapshot["nonce"] < sequences[0]:
        return -1
    return sum(sequence <= snapshot["nonce"] for sequence in sequences)


async def _snapshot(
    pro: Any, asked: set[str], symbol: str, limit: int | None = None, params: Mapping[str, Any] | None = None
) -> Any:
    """Ask for a snapshot once; a stream that gets none is thrown away, and made anew after a pause."""
    if symbol in asked:
        await asyncio.sleep(SNAPSHOT_AGAIN_S)
    asked.add(symbol)
    return await pro.fetch_order_book(symbol, limit, params or {})
