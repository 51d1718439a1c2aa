"""The durable record, as the desk sees it.

Acknowledged means on disk: when ``record`` returns, the transaction has been synced.  Every method may raise
``service.errors.Unavailable("ledger_unavailable", …)``; nothing was written then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from service.desk.execution import Execution


class Outcome(StrEnum):
    """What became of an execution handed to ``Ledger.record``."""

    RECORDED = "recorded"
    """It is on record now."""
    KNOWN = "known"
    """This account's ``client_order_id`` was on record before; nothing was written."""
    QUOTE_USED = "quote_used"
    """Another fill has used the quote; nothing was written."""


@dataclass(frozen=True, slots=True)
class StoredExecution:
    """An execution as the ledger kept it; see ``Execution`` for the fields' meanings."""

    execution_id: str
    account: str
    client_order_id: str
    fingerprint: bytes
    status: str
    reject_code: str | None
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Executions newest first, and the ``after`` of the next page, or None on the last."""

    executions: tuple[StoredExecution, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as the ledger kept it: its HMAC, never the key.

    ``key_id`` is the part of the key that may be shown; ``digest`` 32 bytes; times in UTC.
    """

    key_id: str
    account: str
    scopes: tuple[str, ...]
    digest: bytes
    created_at: datetime
    revoked_at: datetime | None


class Ledger(Protocol):
    """The record behind the desk.  One writer; any number of concurrent callers."""

    @property
    def ledger_id(self) -> str:
        """Give the 32 hex digits that name this record, made when it was created."""

    async def record(self, execution: Execution) -> tuple[Outcome, StoredExecution | None]:
        """
        Write an execution with its fills and its use of the quote, in one transaction, and sync it.

        Returns:
            (RECORDED, itself), (KNOWN, what was there) or (QUOTE_USED, None).  A known ``client_order_id``
            is looked for before the quote's use.
        """

    async def find_client_order(self, account: str, client_order_id: str) -> StoredExecution | None:
        """Give what this account's order id stands for, or None."""

    async def find_execution(self, account: str, execution_id: str) -> StoredExecution | None:
        """Give an execution of this account, or None; another account's is None too."""

    async def quote_used(self, quote_key: bytes) -> bool:
        """Tell whether a fill has used this quote."""

    async def executions(
        self,
        account: str,
        *,
        symbol: str | None = None,
        status: str | None = None,
        since: datetime | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page:
        """
        List an account's executions, newest first.

        Args:
            since: Only those executed at or after this moment.
            after: ``Page.next_after`` of the page before.
            limit: 1 to 500.
        """

    async def add_key(self, key: StoredKey) -> None:
        """Keep a new key."""

    async def keys(self) -> Sequence[StoredKey]:
        """Give all keys, revoked ones too, oldest first."""

    async def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False if there is none of that id.  Revoking again changes nothing and is True."""

    async def close(self) -> None:
        """Finish what was handed over, then let go of the files."""
