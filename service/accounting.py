"""Scales and rounding.

Pure.  Money, prices and quantities are whole numbers at fixed scales wherever they are computed with; what is rounded
is rounded here, by name and direction.

    price, quantity   10**-18   ``exchanges.book.SCALE``
    money             10**-8    ``MONEY_SCALE``, of every asset
    rate              10**-10   ``RATE_SCALE``: a share of 1, so that basis points may have 6 decimals
    basis points      10**-4    ``BPS_SCALE``, where they are an answer
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from math import floor, log10
from typing import Final

import orjson

from exchanges.book import SCALE

MONEY_SCALE: Final = 8
BPS_SCALE: Final = 4
RATE_SCALE: Final = 10
RATE_ONE: Final[int] = 10**RATE_SCALE
"""A rate of 1, or 10,000 basis points."""
RATIO_DIGITS: Final = 12
"""Significant digits of a price that is a quotient."""
NOTIONAL: Final[int] = 10 ** (2 * SCALE - MONEY_SCALE)
"""Divides a price times a quantity into money ..."""
RATED_NOTIONAL: Final[int] = NOTIONAL * RATE_ONE
"""... and a price times a quantity times a rate."""

QUANTITY_UNIT: Final = 10**10
"""What the quantity that answers a total or a slippage is a multiple of, besides the venues' finest step: 10**-8."""
FLOAT_DIGITS: Final[int] = 10**15
"""A decimal of fewer digits than this has is given back by the float nearest to it."""

_MONEY_PER_QUANTITY: Final[int] = 10 ** (SCALE - MONEY_SCALE)
_MONEY_ONE: Final[int] = 10**MONEY_SCALE
_BPS_ONE: Final[int] = 10 ** (4 + BPS_SCALE)
_TWELVE_DIGITS: Final[int] = 10 ** (RATIO_DIGITS - 1)
_POWERS: Final[tuple[int, ...]] = tuple(10**power for power in range(20))


def up(amount: int, divisor: int) -> int:
    """Divide and round up: against the client where it pays."""
    return -(-amount // divisor)


def down(amount: int, divisor: int) -> int:
    """Divide and round down: against the client where it receives."""
    return amount // divisor


def near(amount: int, divisor: int) -> int:
    """Divide by a positive number and round half to even: for what is shown and never paid."""
    whole, rest = divmod(amount, divisor)
    doubled = 2 * rest
    return whole + (doubled > divisor or (doubled == divisor and whole % 2 == 1))


def rate(bps: Decimal) -> int:
    """Give basis points of at most 6 decimals as a rate."""
    return int(bps * 1_000_000)


def bps(part: int, whole: int) -> int:
    """Give *part* in basis points of *whole* (positive), half-even to 4 decimals."""
    share, rest = divmod(part * _BPS_ONE, whole)
    doubled = 2 * rest
    return share + (doubled > whole or (doubled == whole and share % 2 == 1))


def ratio(money: int, quantity: int) -> Decimal:
    """Give money per quantity: a price, half-even to 12 significant digits."""
    return quotient(money * _MONEY_PER_QUANTITY, quantity)


def quotient(numerator: int, denominator: int) -> Decimal:
    """Divide amounts of one scale, half-even to 12 significant digits."""
    if denominator < 0:
        numerator, denominator = -numerator, -denominator
    digits, scale = _significant(numerator, denominator)
    return Decimal(digits).scaleb(-scale)


def near_ratio(money: int, quantity: int) -> float:
    """Give the float that is nearest to ``ratio``, as ``decimal_texts`` wants it."""
    value = money * _MONEY_PER_QUANTITY / quantity
    if 1 <= value < _TWELVE_DIGITS:
        one = _POWERS[RATIO_DIGITS - 1 - floor(log10(value))]
        scaled = value * one  # As in ``_significant``, at half its cost.
        digits = round(scaled)
        if -0.499 < scaled - digits < 0.499 and digits >= _TWELVE_DIGITS:
            return digits / one
    digits, scale = _significant(money * _MONEY_PER_QUANTITY, quantity)
    return digits / _POWERS[scale] if 0 <= scale < len(_POWERS) else float(Decimal(digits).scaleb(-scale))


def _significant(numerator: int, denominator: int) -> tuple[int, int]:
    """Divide by a positive number, half-even to 12 significant digits: a whole number, and its scale."""
    if not numerator:
        return 0, 0
    value = abs(numerator) / denominator
    scale = RATIO_DIGITS - 1 - floor(log10(value))
    if 0 <= scale < len(_POWERS):
        scaled = value * _POWERS[scale]  # Less than 0.001 off: so small, that only near a half it can matter.
        if abs(scaled % 1 - 0.5) > 0.001 and scaled >= _TWELVE_DIGITS:
            return round(scaled) if numerator > 0 else -round(scaled), scale
    # Where the logarithm was rounded up to a whole number, the quotient is that power of ten to more than 12 digits.
    if scale >= 0:
        return near(numerator * 10**scale, denominator), scale
    return near(numerator, denominator * 10**-scale), scale


def significant_up(numerator: int, denominator: int) -> int:
    """Divide positive numbers and round up to 12 significant digits, as far as the quotient has more of them."""
    unit = _unit(numerator, denominator)
    return up(numerator, denominator * unit) * unit


def significant_down(numerator: int, denominator: int) -> int:
    """Divide positive numbers and round down to 12 significant digits, as far as the quotient has more of them."""
    unit = _unit(numerator, denominator)
    return numerator // (denominator * unit) * unit


def significant_near(numerator: int, denominator: int) -> int:
    """Divide positive numbers, half-even to 12 significant digits, as far as the quotient has more of them."""
    unit = _unit(numerator, denominator)
    return near(numerator, denominator * unit) * unit


def _unit(numerator: int, denominator: int) -> int:
    """Give the place of the twelfth significant digit of a quotient, at least 1."""
    place = max(0, len(str(numerator // denominator)) - RATIO_DIGITS)
    return int(10**place)


def plain(number: Decimal) -> str:
    """Write a decimal without exponent or trailing zeros; zero has no sign."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text(scale: int, number: int) -> str:
    """Write a whole number of 10**-scale (> 0) as a decimal without exponent or trailing zeros."""
    if number < 0:
        return "-" + text(scale, -number)
    digits = str(number)
    if len(digits) <= scale:
        digits = digits.zfill(scale + 1)
    fraction = digits[-scale:].rstrip("0")
    return f"{digits[:-scale]}.{fraction}" if fraction else digits[:-scale]


def decimal_texts(numbers: Sequence[float]) -> list[str]:
    """
    Write many floats at once, each the nearest to a decimal of at most 15 digits: as ``plain`` writes that decimal.

    A float's shortest text is that decimal again; writing one by one takes five times as long.
    """
    if not numbers:
        return []
    together = orjson.dumps(numbers).decode().replace(".0,", ",").replace(".0]", "]")
    texts = together[1:-1].split(",")
    return [plain(Decimal(one)) if "e" in one else one for one in texts] if "e" in together else texts


def amount_texts(amounts: Sequence[int], prices: Sequence[float] = ()) -> list[str]:
    """Write money as ``money_text`` does, and after it prices that ``near_ratio`` gave, all at once."""
    if amounts and (max(amounts) >= FLOAT_DIGITS or min(amounts) <= -FLOAT_DIGITS):
        return [*map(money_text, amounts), *decimal_texts(prices)]
    return decimal_texts([*[amount / _MONEY_ONE for amount in amounts], *prices])


price_text = partial(text, SCALE)
"""Write a price or a quantity."""
money_text = partial(text, MONEY_SCALE)
"""Write money."""
bps_text = partial(text, BPS_SCALE)
"""Write basis points that were computed here."""
rate_text = partial(text, RATE_SCALE - 4)
"""Write a rate in basis points."""
