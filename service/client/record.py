"""What is answered about what is on record: executions, accounts and the lines of their ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from service.client.decoding import Message
from service.client.quotes import Hop, Side

TimeInForce = Literal["fok", "ioc"]
ExecutionStatus = Literal["filled", "partially_filled", "rejected"]


@dataclass(frozen=True, slots=True)
class Survival(Message):
    """The share of a fill that was still there; None where nothing could be seen."""

    after_ms: int
    share: Decimal | None


@dataclass(frozen=True, slots=True)
class Markout(Message):
    """How far mid has moved since, positive the client's way; None where nothing could be seen."""

    after_s: int
    bps: Decimal | None


@dataclass(frozen=True, slots=True)
class Realism(Message):
    """What the real books showed after a mock fill; pending for the first minute."""

    pending: bool
    survival: tuple[Survival, ...]
    markout_bps: tuple[Markout, ...]


@dataclass(frozen=True, slots=True)
class BalanceChange(Message):
    """A balance around a fill."""

    before: Decimal
    after: Decimal


@dataclass(frozen=True, slots=True)
class Fill(Message):
    """What one level of one venue gave."""

    venue: str
    symbol: str
    price: Decimal
    quantity: Decimal
    subtotal: Decimal
    fee: Decimal
    markup: Decimal
    book_age_ms: int
    sequence: int | None
    conversion: Hop | None


@dataclass(frozen=True, slots=True)
class Execution(Message):
    """
    The recorded outcome of one order.

    ``execution_id`` is None for a dry run; ``balances`` are those of a fill; ``realism`` is there where it was looked
    up later.
    """

    execution_id: str | None
    status: ExecutionStatus
    reject_code: str | None
    client_order_id: str
    quote_id: str | None
    market_data: str
    execution: str
    dry_run: bool
    symbol: str
    side: Side
    time_in_force: TimeInForce
    requested_quantity: Decimal | None
    requested_total: Decimal | None
    filled_quantity: Decimal
    unfilled_quantity: Decimal | None
    average_price: Decimal | None
    all_in_price: Decimal | None
    subtotal: Decimal
    fees: Decimal
    markup: Decimal
    total: Decimal
    fills: tuple[Fill, ...]
    versus_quote_bps: Decimal | None
    executed_at: datetime
    balances: Mapping[str, BalanceChange] | None = None
    realism: Realism | None = None


@dataclass(frozen=True, slots=True)
class Executions(Message):
    """A page, newest first."""

    executions: tuple[Execution, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Balance(Message):
    """What an account has of an asset."""

    available: Decimal
    held: Decimal
    total: Decimal


@dataclass(frozen=True, slots=True)
class Position(Message):
    """What was traded of a symbol; None where there is no price."""

    symbol: str
    quantity: Decimal
    average_cost: Decimal | None
    realised_pnl: Decimal
    unrealised_pnl: Decimal | None
    mid: Decimal | None


@dataclass(frozen=True, slots=True)
class Account(Message):
    """A paper account."""

    account: str
    balances: Mapping[str, Balance]
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Entry(Message):
    """A line of an account's ledger."""

    entry_id: str
    kind: str
    ref: str
    asset: str
    amount: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Entries(Message):
    """A page, newest first."""

    entries: tuple[Entry, ...]
    next_cursor: str | None
