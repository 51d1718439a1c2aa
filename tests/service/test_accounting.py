"""Money is rounded by name and direction, and never by accident."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.accounting import EXACT, bps, money_down, money_near, money_up, plain, ratio
from tests.service.oracle import four_decimals, twelve_digits

AMOUNTS = st.decimals(-(10**24), 10**24, allow_nan=False, allow_infinity=False, places=35)
POSITIVE = st.decimals(Decimal("1e-18"), 10**12, allow_nan=False, allow_infinity=False, places=18)


@pytest.mark.parametrize(
    ("amount", "up", "down", "near"),
    [
        ("1", "1", "1", "1"),
        ("1.00000000", "1", "1", "1"),
        # A part of a unit is a whole one for the one who pays and none for the one who receives.
        ("1.000000001", "1.00000001", "1", "1"),
        ("1.00000000999", "1.00000001", "1", "1.00000001"),
        # Half of a unit goes to the even neighbour where nobody pays it.
        ("1.000000005", "1.00000001", "1", "1"),
        ("1.000000015", "1.00000002", "1.00000001", "1.00000002"),
        # The least that can be: an order of dust still costs a unit.
        ("1e-30", "0.00000001", "0", "0"),
        # Up and down are directions on the scale, not away from zero.
        ("-1.000000001", "-1", "-1.00000001", "-1"),
        ("0", "0", "0", "0"),
        # The largest notional there can be keeps every digit.
        (
            "999999999999999999999999.123456785", "999999999999999999999999.12345679",
            "999999999999999999999999.12345678", "999999999999999999999999.12345678",
        ),
    ],
)  # fmt: skip
def test_money_is_rounded_to_eight_decimals_in_the_named_direction(amount, up, down, near):
    """
    Who pays is never charged less than the amount, who receives never gets more.
    """
    assert (up, down, near) == tuple(plain(to(Decimal(amount))) for to in (money_up, money_down, money_near))


@given(AMOUNTS)
def test_rounded_money_is_the_next_multiple_of_its_unit(amount):
    """
    Up is the least amount of money not below, down the greatest not above, near the nearer of the two.
    """
    units = Fraction(amount) * 10**8

    assert Fraction(money_up(amount)) * 10**8 == ceil(units)
    assert Fraction(money_down(amount)) * 10**8 == floor(units)
    assert Fraction(money_near(amount)) * 10**8 == round(units)
    assert all(to(amount).as_tuple().exponent == -8 for to in (money_up, money_down, money_near))


@given(AMOUNTS, POSITIVE)
def test_a_ratio_has_twelve_significant_digits(numerator, denominator):
    """
    A price that is a quotient is the exact one, half to even at the twelfth digit.
    """
    assert Fraction(ratio(numerator, denominator)) == twelve_digits(Fraction(numerator) / Fraction(denominator))


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        ("1", "10000", "1"),
        ("-1", "10000", "-1"),
        ("1", "3", "3333.3333"),
        ("2", "3", "6666.6667"),
        # Half of the last decimal goes to the even one.
        ("0.00005", "10000", "0"),
        ("0.00015", "10000", "0.0002"),
        ("0.000050000000000000000000000001", "10000", "0.0001"),
        ("0", "7", "0"),
    ],
)
def test_basis_points_are_rounded_half_to_even_at_the_fourth_decimal(part, whole, expected):
    """
    A ten-thousandth of a basis point is the least difference that is shown.
    """
    assert expected == plain(bps(Decimal(part), Decimal(whole)))


@given(AMOUNTS, POSITIVE)
def test_basis_points_are_those_of_the_exact_quotient(part, whole):
    """
    Basis points are rounded once, from the exact quotient.
    """
    assert Fraction(bps(part, whole)) == four_decimals(Fraction(part) / Fraction(whole) * 10_000)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1.50", "1.5"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("1E-12", "0.000000000001"),
        ("0", "0"),
        ("0.000", "0"),
        ("0E+5", "0"),
        ("0E-8", "0"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("-1.10", "-1.1"),
        ("10.0", "10"),
        ("0.10", "0.1"),
    ],
)
def test_a_decimal_is_written_without_exponent_or_trailing_zeros(number, text):
    """
    An amount is written one way only, as a person would write it.
    """
    assert text == plain(Decimal(number))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_what_is_written_reads_back_as_the_same_amount(number):
    """
    Nothing of an amount is lost by writing it.
    """
    text = plain(number)

    assert number == Decimal(text)
    assert "E" not in text
    assert not ("." in text and text[-1] in "0.")
    assert text != "-0"


@given(st.lists(st.tuples(POSITIVE, POSITIVE), max_size=50))
def test_products_and_sums_are_exact(levels):
    """
    A total of many notionals has lost no digit before it is rounded.
    """
    total = Decimal(0)
    for price, quantity in levels:
        total = EXACT.add(total, EXACT.multiply(price, quantity))

    assert Fraction(total) == sum(Fraction(price) * Fraction(quantity) for price, quantity in levels)
