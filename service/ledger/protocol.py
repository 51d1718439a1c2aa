"""The durable record, as the desk sees it.

Acknowledged means on disk: when ``transact`` returns, the transaction has been synced.  Every method may raise
``service.errors.Unavailable("ledger_unavailable", …)``; nothing was written then.  ``transact`` may also raise
``service.errors.OutcomeUnknown``: only asking again tells.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from service.desk.accounts import Entry, Holdings
from service.desk.execution import Execution
from service.desk.firm import FirmQuote
from service.market.taken import Lot

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StoredExecution:
    """An execution as the ledger kept it; see ``Execution`` for the fields' meanings."""

    execution_id: str
    account: str
    client_order_id: str
    fingerprint: bytes
    status: str
    reject_code: str | None
    executed_at: datetime
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Executions newest first, and the ``after`` of the next page, or None on the last."""

    executions: tuple[StoredExecution, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """
    A line of an account's ledger.

    Args:
        number: Sorts as the lines were written; unique.
        kind: ``execution``, ``account``, ``deposit`` or ``reset``.
        ref: Of the execution, or of the deposit or reset.
        amount: A whole number of 10**-8.
    """

    number: int
    kind: str
    ref: str
    asset: str
    amount: int
    at: datetime


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries newest first, and the ``after`` of the next page, or None on the last."""

    entries: tuple[StoredEntry, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as the ledger kept it: its HMAC, never the key.

    ``key_id`` is the part of the key that may be shown; ``digest`` 32 bytes; times in UTC; what the rest means:
    ``service.keys.KeyTerms``.  ``last_used_at`` may be a minute old.
    """

    key_id: str
    account: str
    scopes: tuple[str, ...]
    digest: bytes
    created_at: datetime
    revoked_at: datetime | None
    expires_at: datetime | None = None
    addresses: tuple[str, ...] = ()
    label: str | None = None
    quote_per_s: int | None = None
    execute_per_s: int | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """
    What a transaction is about: all of it is locked against every other transaction and read before the decision.

    Args:
        ref: Names what would be written, unique for ever; 32 hex digits.
        account: Whose holdings it is about.
        now: UTC; its day is the one whose turnover counts.
        symbols: What it may take liquidity of, stable pairs included.
        client_order_id: Or None where it is no order.
        quote_key: Of the indicative quote that would be used, or None.
        firm_quote_id: Of the firm quote that it is about, or None.
    """

    ref: str
    account: str
    now: datetime
    symbols: tuple[str, ...] = ()
    client_order_id: str | None = None
    quote_key: bytes | None = None
    firm_quote_id: str | None = None


@dataclass(frozen=True, slots=True)
class State:
    """
    What a decision is made from: what is on record, and what the transaction has decided before.

    Args:
        known: What the claim's ``client_order_id`` stands for, or None.
        quote_used: A fill has used the quote.
        opened: The account exists; one that does not is opened with its starting balances by whatever is written first.
        firm: The firm quote that was asked about, if it is the account's.
        open_firm: The account's open firm quotes, oldest first, expired ones too.
        lots: What is on record of the claim's symbols, or of its firm quote, as taken by other processes, or as held by
            any; of one that does not share its record, nothing.
    """

    known: StoredExecution | None
    quote_used: bool
    opened: bool
    holdings: Holdings
    firm: FirmQuote | None
    open_firm: tuple[FirmQuote, ...]
    lots: tuple[Lot, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What a decision writes, in one transaction.

    Args:
        kind: ``execution``, ``deposit``, ``reset`` or ``firm_quote``; ``quiet`` is not a matter of the journal.
        holdings: The account's, afterwards; None leaves them.  Positions that are not in them are over.
        entries: Sum to zero per asset.
        lots: Liquidity that is taken or held from now on.
        released: Firm quotes whose hold of liquidity ends.
        firm: Firm quotes that are new or have another status.
    """

    kind: str
    execution: Execution | None = None
    holdings: Holdings | None = None
    entries: tuple[Entry, ...] = ()
    lots: tuple[Lot, ...] = ()
    released: tuple[str, ...] = ()
    firm: tuple[FirmQuote, ...] = ()


Decide = Callable[[State], tuple[R, Changes | None]]
"""
A decision: what to answer, and what to write, if anything.

It runs on the event loop while all that was claimed is locked, awaits nothing, and may be called again where an attempt
could not be written.  What it raises is the caller's; nothing is written then.
"""


class LedgerWatch(Protocol):
    """Whoever wants to know how the record does; told on the event loop, and quick."""

    def committed(self, seconds: float, operations: int) -> None:
        """Take note of a transaction that is on disk, and of how many operations shared it."""

    def commit_failed(self) -> None:
        """Take note of a transaction that was not committed."""

    def recorded(self, execution: Execution) -> None:
        """Take note of an execution that has come on record."""


class Ledger(Protocol):
    """The record behind the desk; any number of concurrent callers."""

    @property
    def ledger_id(self) -> str:
        """Give the 32 hex digits that name this record, made when it was created."""

    @property
    def shared(self) -> bool:
        """Tell whether other processes write into it too."""

    @property
    def instance(self) -> str:
        """Name this process in the firm quotes that it gives."""

    @property
    def head(self) -> tuple[int, bytes]:
        """Give the journal's last number and hash, as far as this process knows."""

    @property
    def up(self) -> bool:
        """Tell whether the latest commit and the latest read succeeded."""

    @property
    def queued(self) -> int:
        """Count the operations that wait for a transaction."""

    def watch(self, watch: LedgerWatch) -> None:
        """Tell *watch* of every transaction from now on."""

    async def probe(self) -> None:
        """Commit a transaction that changes nothing, to see whether the record can be written again."""

    async def transact(self, claim: Claim, decide: Decide[R]) -> R:
        """Lock and read what is claimed, decide, write, sync: all in one transaction, or nothing of it."""

    async def open_account(self, account: str, now: datetime) -> bool:
        """Open an account with the starting balances; False if it is open already."""

    def begin_with(self, starting: Mapping[str, int]) -> None:
        """Let accounts that are opened from now on begin with *starting*, whole numbers of 10**-8 by asset."""

    async def find_client_order(self, account: str, client_order_id: str) -> StoredExecution | None:
        """Give what this account's order id stands for, or None."""

    async def find_execution(self, account: str, execution_id: str) -> StoredExecution | None:
        """Give an execution of this account, or None; another account's is None too."""

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

    async def holdings(self, account: str, now: datetime) -> Holdings | None:
        """Give what an account has, or None if there is no such account."""

    async def entries(
        self, account: str, *, asset: str | None = None, after: int | None = None, limit: int = 50
    ) -> EntryPage:
        """List an account's entries, newest first; *after* and *limit* as of ``executions``."""

    async def firm_quote(self, account: str, quote_id: str) -> FirmQuote | None:
        """Give a firm quote of this account, or None; another account's is None too."""

    async def open_firm_quotes(self) -> Sequence[FirmQuote]:
        """Give all open firm quotes, of every account."""

    async def orphaned(self) -> Sequence[FirmQuote]:
        """Give the open firm quotes of processes that are no more."""

    async def lots(self, *, of_others: bool = False) -> Sequence[Lot]:
        """Give all liquidity that is still charged, or what other processes have taken of it."""

    async def keep_lots(self, lots: Collection[Lot]) -> None:
        """Write down what is left of lots that are not over."""

    async def add_realism(self, execution_id: str, message: bytes) -> None:
        """Keep what was seen after a fill, as JSON."""

    async def realism(self, execution_ids: Collection[str]) -> Mapping[str, bytes]:
        """Give what was seen after these fills, as far as it is on record."""

    async def add_key(self, key: StoredKey) -> None:
        """Keep a new key."""

    async def keys(self) -> Sequence[StoredKey]:
        """Give all keys, revoked ones too, oldest first."""

    async def revoke_key(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False if there is none of that id.  Revoking again changes nothing and is True."""

    async def replace_key(self, key_id: str, key: StoredKey, expires_at: datetime) -> bool:
        """
        Keep a new key, and let another one expire at *expires_at* unless it does before, both or neither.

        Returns:
            False, with nothing done, if there is no such other key, or it is revoked.
        """

    async def note_key_uses(self, used: Mapping[str, datetime]) -> None:
        """Keep when keys were last used; an earlier time than what is on record changes nothing."""

    async def close(self) -> None:
        """Finish what was handed over, then let go of the files."""
