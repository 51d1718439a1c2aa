"""More than can be answered, for a moment."""

from __future__ import annotations

import pytest

from tests.rigs.overload import EXPECTED, Load, overload

SHORT = Load(calm_s=0.5, overload_s=1.5, clients=300, obey=False, times=20.0, orders_per_s=10.0, normal_within_s=1.0)


async def test_what_is_too_much_is_sent_away(run):
    """
    Under far too much some quotes are granted and the others told to come again; orders are filled.
    """
    figures = await run(overload, SHORT)

    assert {200, 503} <= set(figures["statuses"]) <= EXPECTED, str(figures)
    assert 201 in figures["orders"] and set(figures["orders"]) <= EXPECTED, str(figures)


@pytest.mark.broken_copy
async def test_overload_finds_a_broken_copy(run):
    """
    A service that begins everything, and makes all answers late, is found out.
    """
    figures = await run(overload, SHORT, faults=["everything_is_admitted"])

    assert not figures["ok"]
    assert {200} == set(figures["statuses"]), str(figures)
