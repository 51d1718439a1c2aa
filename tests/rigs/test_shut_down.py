"""A service that ends loses no order, whatever its clients do."""

from __future__ import annotations

import pytest

from tests.rigs.shutdown import shutdown

pytestmark = pytest.mark.rig


async def test_service_ends_in_time_with_orders_under_way(run):
    """
    Every order that was under way is answered, and clients that do nothing are not waited for.
    """
    figures = await run(shutdown, kind="sqlite", dead=2)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(("fault", "trouble"), [("cut_at_the_end", "unanswered"), ("waits_for_everybody", "late")])
async def test_shutdown_finds_broken_copies(run, fault, trouble):
    """
    A service that ends without finishing, or that waits for clients that do not read, is found out.
    """
    figures = await run(shutdown, kind="sqlite", dead=2, within_s=7, fault=fault)

    assert not figures["ok"]
    assert figures[trouble] > 0, str(figures)
