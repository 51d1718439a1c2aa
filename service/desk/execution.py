"""The recorded outcome of one ``POST /execute``.

Pure values.  A fill and a refusal that was evaluated against the book are both executions;
only these reach the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from service.market.side import Hop

FILLED, PARTIALLY_FILLED, REJECTED = "filled", "partially_filled", "rejected"


@dataclass(frozen=True, slots=True)
class ExecutedFill:
    """What one level of one venue gave.

    ``price`` in the quote asset per base asset and ``quantity`` in the base asset are whole numbers of 10**-18;
    ``subtotal``, ``fee`` and ``markup`` money of the quote asset, already rounded.  ``book_age_ms`` is the age of the
    venue's book at the decision; ``hop`` how the price was converted, if it was.
    """

    venue: str
    symbol: str
    price: int
    quantity: int
    subtotal: int
    fee: int
    markup: int
    book_age_ms: int
    sequence: int | None
    hop: Hop | None


@dataclass(frozen=True, slots=True)
class Execution:
    """
    One decided order, ready to be recorded.

    Args:
        execution_id: Made by the desk, unique.
        account: Whose order it was.
        client_order_id: Unique per account, for ever.
        fingerprint: SHA-256 over the request as parsed and the account, 32 bytes.
        quote_key: 16-byte nonce of the quote it was made on, or None.  A fill uses the quote up; a rejection does not.
        status: FILLED, PARTIALLY_FILLED or REJECTED.
        reject_code: A code of the contract if rejected, else None.
        requested_quantity: A whole number of 10**-18 of the base asset; None where a total was asked for.
        fills: Best first; empty if rejected.
        quote_id: As the client sent it, or None.
        versus_quote_bps: How much worse (positive) or better than quoted, a whole number of 10**-4; None without one.
        balances: What a fill made of the account's: asset, before and after, whole numbers of 10**-8.
        receipt: The answer's JSON body, given again byte for byte whenever this execution is asked for.
    """

    execution_id: str
    account: str
    client_order_id: str
    fingerprint: bytes
    quote_key: bytes | None
    market_data: str
    status: str
    reject_code: str | None
    symbol: str
    side: str
    time_in_force: str
    requested_quantity: int | None
    requested_total: int | None
    filled_quantity: int
    subtotal: int
    fees: int
    markup: int
    total: int
    fills: tuple[ExecutedFill, ...]
    executed_at: datetime
    quote_id: str | None = None
    versus_quote_bps: int | None = None
    balances: tuple[tuple[str, int, int], ...] = ()
    receipt: bytes = b""

    def refused(self, reject_code: str) -> Execution:
        """Give it as an order that was evaluated and refused: nothing of it is filled."""
        return replace(
            self,
            status=REJECTED,
            reject_code=reject_code,
            filled_quantity=0,
            subtotal=0,
            fees=0,
            markup=0,
            total=0,
            fills=(),
            versus_quote_bps=None,
        )

    @property
    def uses_quote(self) -> bool:
        """Tell whether the quote that it was made on, if there was one, is used up."""
        return self.status != REJECTED
