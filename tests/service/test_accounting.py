"""Money is rounded by name and direction, and never by accident."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchanges.book import decimal, units
from service.accounting import (
    FLOAT_DIGITS,
    amount_texts,
    bps,
    bps_text,
    decimal_texts,
    down,
    money_text,
    near,
    near_ratio,
    plain,
    price_text,
    quotient,
    rate,
    rate_text,
    ratio,
    significant_down,
    significant_near,
    significant_up,
    text,
    up,
)
from tests.service.oracle import four_decimals, twelve_digits

AMOUNTS = st.integers(-(10**45), 10**45)
POSITIVE = st.integers(1, 10**45)
DIVISORS = st.sampled_from([1, 2, 3, 10, 10**8, 10**28, 7 * 10**17])


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        # In tenths: up, down, and near, half to the even neighbour.
        (10, (1, 1, 1)),
        (11, (2, 1, 1)),
        (15, (2, 1, 2)),
        (25, (3, 2, 2)),
        (19, (2, 1, 2)),
        (0, (0, 0, 0)),
        # Up and down are directions on the scale, not away from zero.
        (-11, (-1, -2, -1)),
        (-15, (-1, -2, -2)),
        (-25, (-2, -3, -2)),
    ],
)
def test_amounts_are_rounded_in_the_named_direction(amount, expected):
    """
    Who pays is never charged less than the amount, who receives never gets more, and what is shown is the nearest.
    """
    assert expected == (up(amount, 10), down(amount, 10), near(amount, 10))


@given(AMOUNTS, DIVISORS)
def test_rounding_is_that_of_the_exact_quotient(amount, divisor):
    """
    Up is the least whole number not below, down the greatest not above, near the nearer of the two.
    """
    exact = Fraction(amount, divisor)

    assert (ceil(exact), floor(exact), round(exact)) == (
        up(amount, divisor),
        down(amount, divisor),
        near(amount, divisor),
    )


@given(AMOUNTS, POSITIVE)
def test_ratios_have_twelve_significant_digits(money, quantity):
    """
    A price that is a quotient is the exact one, half to even at the twelfth digit.
    """
    assert Fraction(ratio(money, quantity)) == twelve_digits(Fraction(money, 10**8) / Fraction(quantity, 10**18))
    assert Fraction(quotient(money, quantity)) == twelve_digits(Fraction(money, quantity))


@given(POSITIVE, POSITIVE)
def test_significant_digits_are_rounded_in_the_named_direction(numerator, denominator):
    """
    A whole number is cut to twelve digits up, down or to the nearest; what is shorter keeps all of its digits.
    """
    exact = Fraction(numerator, denominator)
    unit = 10 ** max(0, len(str(floor(exact))) - 12)

    assert ceil(exact / unit) * unit == significant_up(numerator, denominator)
    assert floor(exact / unit) * unit == significant_down(numerator, denominator)
    assert round(exact / unit) * unit == significant_near(numerator, denominator)


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (1, 10_000, "1"),
        (-1, 10_000, "-1"),
        (1, 3, "3333.3333"),
        (2, 3, "6666.6667"),
        # Half of the last decimal goes to the even one.
        (1, 200_000_000, "0"),
        (3, 200_000_000, "0.0002"),
    ],
)
def test_basis_points_have_four_decimals(part, whole, expected):
    """
    Shares are told in basis points, half to even at the fourth decimal.
    """
    assert expected == bps_text(bps(part, whole))


@given(AMOUNTS, POSITIVE)
def test_basis_points_are_those_of_the_exact_share(part, whole):
    """
    No rounding comes before the last one.
    """
    assert Fraction(bps(part, whole), 10**4) == four_decimals(Fraction(part, whole) * 10_000)


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (1, "0.00000001"),
        (-1, "-0.00000001"),
        (10, "0.0000001"),
        (123456789, "1.23456789"),
        (100000000, "1"),
        (-150000000, "-1.5"),
        (100000000000, "1000"),
        (9999999999999999999999, "99999999999999.99999999"),
    ],
)
def test_money_is_written_plainly(number, written):
    """
    No exponent, no trailing zeros, no sign of nothing.
    """
    assert written == money_text(number)


@given(st.lists(AMOUNTS | st.integers(-2 * FLOAT_DIGITS, 2 * FLOAT_DIGITS) | st.integers(-(10**6), 10**6), max_size=9))
def test_many_amounts_are_written_as_each_by_itself(amounts):
    """
    How many are written together, and how large they are, changes no digit.
    """
    assert [money_text(amount) for amount in amounts] == amount_texts(amounts)


@given(st.lists(st.tuples(AMOUNTS | st.integers(-(10**14), 10**14), POSITIVE | st.integers(1, 10**20)), max_size=5))
@example([(10**45, 1), (1, 10**45), (0, 7), (-5, 10**18)])
@example([(99_999_999_999_949, 10**18), (99_999_999_999_950, 10**18), (100_000_000_000_050, 10**18)])
def test_quotients_are_written_as_the_decimals_that_they_are(pairs):
    """
    A float stands between a quotient and its text only where it gives back all twelve digits.
    """
    assert [plain(ratio(*pair)) for pair in pairs] == amount_texts([], [near_ratio(*pair) for pair in pairs])


def test_quotient_of_two_negative_amounts_is_that_of_two_positive_ones():
    """
    What a short position cost per unit is a price like any other.
    """
    assert Decimal("2.5") == quotient(-5, -2) == -quotient(5, -2)


def test_decimals_beyond_what_floats_are_written_as_plainly_have_no_exponent():
    """
    Tiny and huge ones are written out.
    """
    assert ["0.00000001", "0", "-0.0000015", "100000000000000000000"] == decimal_texts([1e-8, 0.0, -1.5e-6, 1e20])


@given(AMOUNTS, st.integers(1, 40))
def test_what_is_written_reads_back_as_the_same_number(number, scale):
    """
    Text, Decimal and whole number are one number, at any scale.
    """
    written = text(scale, number)

    assert Fraction(number, 10**scale) == Fraction(written) == Fraction(decimal(number, scale))
    assert written == plain(Decimal(written)) == plain(decimal(number, scale))
    assert written == written.strip()
    assert "e" not in written.lower()


def test_scales_have_names():
    """
    Prices have 18 decimals, money 8, rates are told in basis points of up to 6 decimals.
    """
    assert ("1.5", "1.5") == (price_text(units(Decimal("1.5"))), money_text(150_000_000))
    assert ("12.5", "0.000001") == (rate_text(rate(Decimal("12.5"))), rate_text(rate(Decimal("0.000001"))))
    assert ("0", "-0.0001") == (bps_text(0), bps_text(-1))


@pytest.mark.parametrize(
    ("number", "written"),
    [("1E+3", "1000"), ("1.500", "1.5"), ("-0.000", "0"), ("0E-8", "0"), ("1E-18", "0.000000000000000001"), ("7", "7")],
)
def test_decimals_are_written_plainly(number, written):
    """
    However a Decimal came about, it is written without exponent and trailing zeros.
    """
    assert written == plain(Decimal(number))
