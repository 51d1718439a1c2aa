"""Many callers at once get no more than there is, and the same order is done once."""

from __future__ import annotations

import pytest

from tests.rigs.idempotency import idempotency
from tests.rigs.races import last_of_a_level, one_quote

ONE_AND_TWO_PROCESSES = [("sqlite", 1), ("postgresql", 2)]


@pytest.mark.parametrize(("kind", "processes"), ONE_AND_TWO_PROCESSES)
async def test_one_quote_is_filled_once(run, kind, processes):
    """
    Of 40 callers with the same quote, one is filled and 39 hear that it was used.
    """
    figures = await run(one_quote, processes, 2, kind=kind)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
async def test_one_quote_finds_a_desk_that_does_not_ask(run):
    """
    A desk that leaves it to the database to refuse the second fill does not say why it refuses.
    """
    assert not (await run(one_quote, 1, 1, kind="sqlite", fault="quote_unchecked"))["ok"]


@pytest.mark.parametrize(("kind", "processes"), ONE_AND_TWO_PROCESSES)
async def test_takers_share_what_is_shown(run, kind, processes):
    """
    Of 60 takers of 1 on a depth of 10, ten are filled, at exactly the levels' prices.
    """
    figures = await run(last_of_a_level, processes, 1, kind=kind)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(
    ("kind", "processes", "fault", "taken"),
    [
        ("sqlite", 1, None, "off"),
        ("postgresql", 2, "no_locks", "shared"),
    ],
)
async def test_takers_find_liquidity_given_twice(run, kind, processes, fault, taken):
    """
    Where takings do not count, or processes do not wait for each other, more is given than is shown.
    """
    figures = await run(last_of_a_level, processes, 1, kind=kind, fault=fault, taken=taken)

    assert not figures["ok"]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_same_order_is_done_once(run, kind):
    """
    Sent twenty times at once, and again after a restart, an order is done once and answered with the same bytes; the
    same id with another body is refused; a rejection stays one.
    """
    figures = await run(idempotency, 30, kind=kind)

    assert figures["ok"], str(figures)
    assert figures["rejected"] > 0


@pytest.mark.broken_copy
@pytest.mark.parametrize("fault", ["no_unique_key", "idempotency_in_memory"])
async def test_the_same_order_finds_doubled_fills(run, fault):
    """
    Without a key on record, or with one that does not survive a restart, an order is done twice.
    """
    figures = await run(idempotency, 5, kind="sqlite", fault=fault)

    assert not figures["ok"]
    assert figures["duplicated"] > 0, str(figures)
