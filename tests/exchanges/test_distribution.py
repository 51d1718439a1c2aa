"""Values counted by bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exchanges.distribution import Distribution

BOUNDS = (-1.0, 0.0, 0.5, 2.0)


@given(st.lists(st.floats(-5, 5)))
def test_value_is_within_every_bound_that_is_not_less(values):
    """
    A bound's count is that of the values up to and including it; the last count is of all.
    """
    distribution = Distribution(BOUNDS)
    for value in values:
        distribution.add(value)

    assert [*(sum(value <= bound for value in values) for bound in BOUNDS), len(values)] == distribution.within
    assert sum(values) == distribution.sum
