"""A symbol's rules on a venue.

Pure.  Any rule may be missing: not every venue publishes each of them, and a guess would be worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """
    What a venue says about one symbol.

    Args:
        venue: The venue's name in the settings.
        symbol: ``BTC/USDT``.
        price_step: Quote asset; None where the venue's step depends on the price (bitfinex: five significant digits).
        quantity_step: Base asset.
        quantity_min: Base asset.
        notional_min: Quote asset.
        taker_fee_bps: Basis points of the notional.  The venue's public figure or the operator's own.
    """

    venue: str
    symbol: str
    price_step: Decimal | None
    quantity_step: Decimal | None
    quantity_min: Decimal | None
    notional_min: Decimal | None
    taker_fee_bps: Decimal

    @property
    def base_asset(self) -> str:
        """Give what is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote_asset(self) -> str:
        """Give what is paid."""
        return self.symbol.partition("/")[2]
