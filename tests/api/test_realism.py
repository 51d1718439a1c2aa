"""Realism over HTTP: what stands beside a fill while it is watched, afterwards, and where nothing was seen."""

from __future__ import annotations

import orjson
import pytest

from service.desk.realism import WATCH_S, Realism
from tests.api.conftest import without_realism

SEEN = Realism(
    survival=((50, 10_000), (250, 9_200), (1_000, None)),
    markout_bps=((1, -4_000), (10, 0), (60, 12_500)),
    pending=False,
)
SHOWN = {
    "pending": False,
    "survival": [
        {"after_ms": 50, "share": "1"},
        {"after_ms": 250, "share": "0.92"},
        {"after_ms": 1_000, "share": None},
    ],
    "markout_bps": [{"after_s": 1, "bps": "-0.4"}, {"after_s": 10, "bps": "0"}, {"after_s": 60, "bps": "1.25"}],
}


def nothing(*, pending):
    return {
        "pending": pending,
        "survival": [{"after_ms": after_ms, "share": None} for after_ms in (50, 250, 1_000)],
        "markout_bps": [{"after_s": after_s, "bps": None} for after_s in (1, 10, 60)],
    }


async def everywhere(house, execution):
    """The realism of an execution, wherever it can be looked up."""
    by_id = (await house.get(f"/v1/executions/{execution['execution_id']}")).json
    by_client_id = (await house.get(f"/v1/executions/by-client-id/{execution['client_order_id']}")).json
    listed = (await house.get("/v1/executions")).json["executions"]
    [in_list] = [one for one in listed if one["execution_id"] == execution["execution_id"]]
    assert by_id == by_client_id == in_list
    assert execution == without_realism(by_id)
    return by_id["realism"]


async def test_answer_to_an_order_has_no_realism_yet(house):
    """
    At the moment of a fill nobody can have seen what came after it; a replay is the same answer.
    """
    first = await house.buy()
    await house.ledger.add_realism(first.json["execution_id"], orjson.dumps(SEEN.message()))
    again = await house.buy()
    assert "realism" not in first.json
    assert first.body == again.body


async def test_realism_is_pending_at_first_and_then_says_what_was_seen(house):
    """
    While the fill is watched nothing is told; afterwards it stands wherever the execution does.
    """
    execution = (await house.buy()).json
    assert nothing(pending=True) == await everywhere(house, execution)
    house.clock.advance(61_000)
    await house.ledger.add_realism(execution["execution_id"], orjson.dumps(SEEN.message()))
    assert SHOWN == await everywhere(house, execution)


async def test_what_was_seen_counts_at_once(house):
    """
    A watch that is cut short, as by a busy minute, is over when it has told.
    """
    execution = (await house.buy()).json
    await house.ledger.add_realism(execution["execution_id"], orjson.dumps(SEEN.message()))
    assert SHOWN == await everywhere(house, execution)


async def test_watch_that_never_told_is_over_in_the_end(house):
    """
    If the process that watched is no more, its fills do not stay pending for ever.
    """
    execution = (await house.buy()).json
    house.clock.advance(WATCH_S * 1_000 - 1)
    assert nothing(pending=True) == await everywhere(house, execution)
    house.clock.advance(1)
    assert nothing(pending=False) == await everywhere(house, execution)


async def test_each_execution_has_its_own(house):
    """
    In a list each fill bears what was seen after itself.
    """
    first, second = (await house.buy("a")).json, (await house.buy("b")).json
    await house.ledger.add_realism(second["execution_id"], orjson.dumps(SEEN.message()))
    assert [nothing(pending=True), SHOWN] == [await everywhere(house, first), await everywhere(house, second)]


@pytest.mark.parametrize(
    ("fields", "realism"), [({"limit_price": "1"}, False), ({"quantity": "9000", "time_in_force": "ioc"}, True)]
)
async def test_only_fills_have_realism(house, fields, realism):
    """
    Nothing was filled of a refused order, so there is nothing to be watched; what was filled in part is.
    """
    reply = await house.buy(**fields)
    found = (await house.get(f"/v1/executions/{reply.json['execution_id']}")).json
    [listed] = (await house.get("/v1/executions")).json["executions"]
    assert (realism, realism) == ("realism" in found, "realism" in listed)
