"""The lines of an account's ledger over HTTP: what stands in them, their order, their pages."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from tests.api.conftest import without_realism

START = {"USDT": "100000000", "BTC": "10000", "ETH": "10000"}


async def entries(house, query="", **options):
    reply = await house.get("/v1/account/entries" + (f"?{query}" if query else ""), **options)
    assert 200 == reply.status, reply.json
    return reply.json


async def lived(house):
    """An account's life, a minute apart: a buy, a sell, a deposit, a refused order, a reset, another buy."""

    async def later(reply):
        house.clock.advance(60_000)
        house.show()
        return (await reply).json

    deposit = {"asset": "SOL", "amount": "7"}
    return [
        await later(house.buy("a")),
        await later(house.buy("b", side="sell", quantity="0.3")),
        await later(house.ask("POST", "/v1/admin/accounts/alice/deposits", body=deposit, key="admin")),
        await later(house.buy("c", limit_price="1")),
        await later(house.ask("POST", "/v1/admin/accounts/alice/reset", key="admin")),
        await later(house.buy("d", symbol="ETH/USDT", quantity="1")),
    ]


async def test_account_that_has_done_nothing_has_no_entries(house):
    """
    Until an account does something there is nothing to list.
    """
    assert {"entries": [], "next_cursor": None} == await entries(house)


async def test_fill_leaves_two_entries_behind_the_opening_ones(house):
    """
    The first fill opens the account: its lines say what was given and what was paid, newest first.
    """
    execution = (await house.buy()).json
    listed = (await entries(house))["entries"]
    assert [
        ("execution", execution["execution_id"], "USDT", f"-{execution['total']}"),
        ("execution", execution["execution_id"], "BTC", "0.2"),
    ] == [tuple(line[name] for name in ("kind", "ref", "asset", "amount")) for line in listed[:2]]
    assert START == {line["asset"]: line["amount"] for line in listed[2:]}
    assert {"account"} == {line["kind"] for line in listed[2:]}
    assert {"2026-11-01T12:00:00.000Z"} == {line["at"] for line in listed}


async def test_entries_of_each_asset_sum_to_its_balance(house):
    """
    Whatever an account has been through, its balances are the sums of its lines.
    """
    await lived(house)
    sums = Counter()
    for line in (await entries(house))["entries"]:
        sums[line["asset"]] += Decimal(line["amount"])
    balances = (await house.account())["balances"]
    assert {asset: Decimal(balance["total"]) for asset, balance in balances.items()} == sums


async def test_entries_tell_an_accounts_life_newest_first(house):
    """
    Each line says what it comes from; a refused order leaves none, and a reset undoes what came before it.
    """
    buy, sell, _, refused, _, last = await lived(house)
    listed = (await entries(house))["entries"]
    kinds = list(dict.fromkeys((line["kind"], line["at"][14:16]) for line in listed))
    assert [
        ("execution", "06"),
        ("reset", "05"),
        ("deposit", "03"),
        ("execution", "02"),
        ("execution", "01"),
        ("account", "01"),
    ] == kinds
    refs = {line["ref"] for line in listed if line["kind"] == "execution"}
    assert {buy["execution_id"], sell["execution_id"], last["execution_id"]} == refs
    assert refused["execution_id"] not in {line["ref"] for line in listed}
    undone = {line["asset"]: line["amount"] for line in listed if line["kind"] == "reset"}
    paid = Decimal(buy["total"]) - Decimal(sell["total"])
    assert {"USDT": paid, "BTC": Decimal("0.1"), "SOL": Decimal(-7)} == {
        asset: Decimal(amount) for asset, amount in undone.items()
    }


async def test_ref_leads_to_the_execution(house):
    """
    From a line one finds the execution that it comes from.
    """
    execution = (await house.buy()).json
    [line, _] = (await entries(house, "limit=2"))["entries"]
    found = (await house.get(f"/v1/executions/{line['ref']}")).json
    assert execution == without_realism(found)


async def test_pages_give_every_entry_once(house):
    """
    Following the cursor, page by page, gives what one large page gives, and ends.
    """
    await lived(house)
    whole = (await entries(house, "limit=500"))["entries"]
    for limit in (1, 2, len(whole) - 1, len(whole)):
        collected, query = [], f"limit={limit}"
        while True:
            page = await entries(house, query)
            collected += page["entries"]
            assert len(page["entries"]) <= limit
            if page["next_cursor"] is None:
                break
            query = f"limit={limit}&cursor={page['next_cursor']}"
        assert whole == collected
    assert len(whole) == len({line["entry_id"] for line in whole})


async def test_pages_are_not_moved_by_new_entries(house):
    """
    What is written while a client turns pages shifts none of them.
    """
    await house.buy("a")
    first = await entries(house, "limit=2")
    rest = await entries(house, f"cursor={first['next_cursor']}")
    await house.buy("b")
    assert rest == await entries(house, f"cursor={first['next_cursor']}")


@pytest.mark.parametrize(("asset", "kinds"), [("SOL", ["reset", "deposit"]), ("DOGE", [])])
async def test_asset_chooses_entries(house, asset, kinds):
    """
    One asset's lines alone are its own story.
    """
    await lived(house)
    listed = (await entries(house, f"asset={asset}"))["entries"]
    assert kinds == [line["kind"] for line in listed]
    assert {asset} >= {line["asset"] for line in listed}


async def test_asset_is_paged_as_well(house):
    """
    Pages of one asset's lines hold only its own, and all of them.
    """
    await lived(house)
    whole = (await entries(house, "asset=BTC"))["entries"]
    first = await entries(house, "asset=BTC&limit=2")
    second = await entries(house, f"asset=BTC&limit=500&cursor={first['next_cursor']}")
    assert whole == first["entries"] + second["entries"]
    assert ["reset", "execution", "execution", "account"] == [line["kind"] for line in whole]


async def test_another_accounts_entries_are_not_shown(house):
    """
    Nobody sees whose liquidity he has traded against, or anyone else's lines.
    """
    await lived(house)
    assert [] == (await entries(house, key="bob"))["entries"]
    body = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.1", "client_order_id": "a"}
    theirs = (await house.execute(body, key="bob")).json
    listed = (await entries(house, key="bob"))["entries"]
    assert {theirs["execution_id"]} == {line["ref"] for line in listed if line["kind"] == "execution"}
    assert 5 == len(listed)


async def test_firm_quote_leaves_no_entry_until_it_is_filled(house):
    """
    Holding moves no balance, and so leaves no line; the fill of a firm quote does.
    """
    firm = (await house.firm()).json
    assert {"account"} >= {line["kind"] for line in (await entries(house))["entries"]}
    execution = (await house.execute({"quote_id": firm["quote_id"], "client_order_id": "a"})).json
    listed = (await entries(house, "limit=2"))["entries"]
    assert {execution["execution_id"]} == {line["ref"] for line in listed}


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("limit=0", [("limit", "invalid_parameter")]),
        ("limit=501", [("limit", "invalid_parameter")]),
        ("limit=x", [("limit", "invalid_parameter")]),
        ("cursor=!", [("cursor", "invalid_parameter")]),
        ("cursor=abc", [("cursor", "invalid_parameter")]),
        ("asset=btc", [("asset", "invalid_parameter")]),
        ("asset=BTC/USDT", [("asset", "invalid_parameter")]),
        ("asset=", [("asset", "invalid_parameter")]),
        ("symbol=BTC/USDT", [("symbol", "unknown_parameter")]),
        ("limit=1&limit=2", [("limit", "duplicate_field")]),
    ],
)
async def test_mistake_in_a_query_is_named(house, query, faults):
    """
    What is wrong with a query is told by its parameter.
    """
    reply = await house.get(f"/v1/account/entries?{query}")
    assert (400, faults) == (reply.status, reply.faults)
