"""The chain over the record: every row of the journal holds a hash of what it stands for and of the row before.

Pure.  Whoever edits, removes or swaps a row breaks the chain there, unless everything after it is written anew; the
head, which is logged, tells that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

BEGINNING = bytes(32)
"""Stands for the row before the first."""

_OWN = 5
"""So many columns every row of the journal has."""

Row = Sequence[Any]


def chained(
    before: bytes, row: Row, *, execution: Row | None = None, fills: Iterable[Row] = (), entries: Iterable[Row] = ()
) -> bytes:
    """
    Give the hash of a row of the journal.

    Args:
        before: The hash of the row before, 32 bytes.
        row: seq, ref, kind, account, at, and of the request that it was written for request_id and trace_id: a row that
            has neither is hashed without them, as all were before there were such columns.
        execution: All columns of its execution, in the table's order, if it is one.
        fills: All columns of the execution's fills, by number.
        entries: n, account, asset, amount of its entries, by number.
    """
    own = list(row[:_OWN]) if all(one is None for one in row[_OWN:]) else list(row)
    content = orjson.dumps([own, execution and list(execution), _lists(fills), _lists(entries)], default=_text)
    return hashlib.sha256(before + content).digest()


def _lists(rows: Iterable[Row]) -> list[list[Any]]:
    return [list(row) for row in rows]


def _text(value: bytes | memoryview) -> str:
    """Write what JSON does not know."""
    return bytes(value).hex()
