"""What a stream can be subscribed to.

client.stream(channels.quote("BTC/USDT", quantity="1.5"), channels.executions())
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from service.client.market import View
from service.client.quotes import Sides
from service.client.wording import Amount, amount_text, given

Channel = Literal["book", "quote", "venues", "executions"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """
    One channel of a stream, as the service is asked for it.

    Args:
        symbol: None for channels that are about no symbol.
        parameters: The rest of what is asked.
        id: Tells it apart from all others, in every frame.
    """

    channel: Channel
    symbol: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str = field(default_factory=lambda: secrets.token_hex(4))

    def message(self, op: Literal["subscribe", "unsubscribe"]) -> Mapping[str, Any]:
        """Give what the service is sent."""
        asked = self.parameters if op == "subscribe" else {}
        return given(op=op, channel=self.channel, symbol=self.symbol, id=self.id, **asked)


def book(symbol: str, *, depth: int | None = None, view: View | None = None) -> Subscription:
    """Subscribe to the consolidated book, *depth* levels a side."""
    return Subscription("book", symbol, given(depth=depth, view=view))


def quote(
    symbol: str,
    *,
    quantity: Amount | None = None,
    total: Amount | None = None,
    slippage_bps_max: Amount | None = None,
    side: Sides | None = None,
    limit_price: Amount | None = None,
    venues: Collection[str] | None = None,
    exclude_venues: Collection[str] | None = None,
) -> Subscription:
    """Subscribe to a quote as the market moves; one of the three amounts is asked for, as of ``client.quote``."""
    parameters = given(
        quantity=amount_text(quantity),
        total=amount_text(total),
        slippage_bps_max=amount_text(slippage_bps_max),
        side=side,
        limit_price=amount_text(limit_price),
        venues=None if venues is None else list(venues),
        exclude_venues=None if exclude_venues is None else list(exclude_venues),
    )
    return Subscription("quote", symbol, parameters)


def venues() -> Subscription:
    """Subscribe to the venues' states."""
    return Subscription("venues")


def executions() -> Subscription:
    """Subscribe to the executions of the key's account."""
    return Subscription("executions")
