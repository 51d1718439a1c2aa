"""Scales and rounding of money.

Pure.  Sums and products are exact (``EXACT`` has more digits than any of them needs); what is rounded is rounded
here, by name and direction.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

MONEY_SCALE: Final = 8
"""Decimals of every amount of money."""
RATIO_DIGITS: Final = 12
"""Significant digits of a price that is a quotient."""
BPS_SCALE: Final = 4
"""Decimals of basis points."""

# Prices and quantities have at most 12 integer digits and about 35 decimals, rates 6 decimals: a notional with a rate
# applied has at most 24 + 70 + 6 digits, and sums of thousands of them a few more.
EXACT: Final = Context(prec=200, rounding=ROUND_HALF_EVEN)
_UNIT: Final = Decimal(1).scaleb(-MONEY_SCALE)
_BPS_UNIT: Final = Decimal(1).scaleb(-BPS_SCALE)
_RATIO: Final = Context(prec=RATIO_DIGITS, rounding=ROUND_HALF_EVEN)

ZERO: Final = Decimal(0)
BPS: Final = Decimal(10_000)


def money_up(amount: Decimal) -> Decimal:
    """Round to the money's scale, against the client when paying: never below *amount*."""
    return amount.quantize(_UNIT, ROUND_CEILING, EXACT)


def money_down(amount: Decimal) -> Decimal:
    """Round to the money's scale, against the client when receiving: never above *amount*."""
    return amount.quantize(_UNIT, ROUND_FLOOR, EXACT)


def money_near(amount: Decimal) -> Decimal:
    """Round to the money's scale, half to even: for amounts that are shown and never paid."""
    return amount.quantize(_UNIT, ROUND_HALF_EVEN, EXACT)


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """Divide, half-even to 12 significant digits."""
    return _RATIO.divide(numerator, denominator)


def bps(part: Decimal, whole: Decimal) -> Decimal:
    """Give *part* in basis points of *whole*, half-even to 4 decimals."""
    # Two roundings in a row could differ from one in the last digit; 200 digits in between make that impossible
    # for any quotient of numbers this long that is not a tie itself.
    return EXACT.divide(EXACT.multiply(part, BPS), whole).quantize(_BPS_UNIT, ROUND_HALF_EVEN, EXACT)


def plain(number: Decimal) -> str:
    """Write a decimal without exponent or trailing zeros; zero has no sign."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
