"""Write an order as the service takes it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict

from service.client.quotes import Quote, Side
from service.client.record import TimeInForce
from service.client.wording import Amount, amount_text, given, moment_text


class OrderTerms(TypedDict, total=False):
    """
    What is ordered.

    ``side`` may be left out on a quote that has one side only; ``tolerance_bps`` says how much worse than quoted is
    still accepted.  ``symbol``, one of ``quantity`` and ``total``, and all else are of an order without a quote.
    """

    side: Side | None
    tolerance_bps: Amount | None
    symbol: str | None
    quantity: Amount | None
    total: Amount | None
    time_in_force: TimeInForce | None
    limit_price: Amount | None
    slippage_bps_max: Amount | None
    valid_until: datetime | str | None


_AMOUNTS = frozenset({"tolerance_bps", "quantity", "total", "limit_price", "slippage_bps_max"})


def order_body(
    quote: Quote | str | None, terms: Mapping[str, Any], client_order_id: str | None, *, dry_run: bool = False
) -> Mapping[str, Any]:
    """
    Give the body of ``POST /execute``; an order without a *client_order_id* is given a new one.

    Raises:
        TypeError: For an amount that is none, or a name that no order has.
    """
    unknown = set(terms) - set(OrderTerms.__annotations__)
    if unknown:
        raise TypeError(f"an order has no {', '.join(sorted(unknown))}")
    written = {name: amount_text(value) if name in _AMOUNTS else value for name, value in terms.items()}
    return given(
        client_order_id=client_order_id or f"py-{secrets.token_hex(12)}",
        quote_id=None if quote is None else quote_id(quote),
        dry_run=True if dry_run else None,
        **{**written, "valid_until": moment_text(terms.get("valid_until"))},
    )


def quote_id(quote: Quote | str) -> str:
    """Give the id of a quote, or of what is one."""
    return quote if isinstance(quote, str) else quote.quote_id
