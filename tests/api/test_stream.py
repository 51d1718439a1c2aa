"""The stream: what its channels tell, and when."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Unavailable
from tests.api.conftest import LADDERS
from tests.api.streaming import eventually, streaming

ASKED = {"symbol": "BTC/USDT", "quantity": "0.2", "side": "buy"}
QUOTE = {"channel": "quote", **ASKED}
ANEW = {"quote_id", "created_at", "expires_at"}
"""What differs between two quotes of the same book."""
OFF = {"liquidity": {"taken": "off"}}
PER_ACCOUNT = {"liquidity": {"taken": "per_account"}}


def without(message, names):
    return {name: value for name, value in message.items() if name not in names}


def told(channel, what="data"):
    return lambda frame: frame.get("channel") == channel and what in frame


# Books


async def test_book_is_told_as_it_is_answered(house):
    """
    The channel book tells what GET /v1/book answers, at once and whenever a venue's book has changed.
    """
    async with streaming(house) as stream:
        await stream.subscribe(channel="book", symbol="btc-usdt", depth=2)
        first = await stream.hear()
        house.show()
        second = await stream.until(lambda frame: frame["data"]["sources"][0]["sequence"] == 7_001)
        reply = await house.get("/v1/book?symbol=BTC/USDT&depth=2")

    assert ("book", "BTC/USDT", 1) == (first["channel"], first["symbol"], first["sequence"])
    assert reply.json == second["data"]


async def test_book_tells_what_a_fill_takes(house):
    """
    What a mock fill takes of a level shows in the stream without a message of any venue.
    """
    async with streaming(house) as stream:
        await stream.subscribe(channel="book", symbol="BTC/USDT", depth=1)
        before = await stream.hear()
        assert 201 == (await house.buy()).status
        after = await stream.hear()

    assert "0" == before["data"]["asks"][0]["taken"]
    assert "0.1" == after["data"]["asks"][0]["taken"]


@pytest.mark.parametrize(("house", "seen"), [({}, "0.1"), (PER_ACCOUNT, "0")], indirect=["house"])
async def test_book_is_the_accounts_own_where_liquidity_is(house, seen):
    """
    What one account has taken shows to another in the settings' way, in the stream as elsewhere.
    """
    async with streaming(house) as mine, streaming(house, key="bob") as others:
        for stream in (mine, others):
            await stream.subscribe(channel="book", symbol="BTC/USDT", depth=1)
        assert 201 == (await house.buy()).status
        await mine.until(lambda frame: frame["data"]["asks"][0]["taken"] == "0.1")
        house.show()
        last = await others.until(lambda frame: frame["data"]["sources"][0]["sequence"] == 7_001)

    assert seen == last["data"]["asks"][0]["taken"]


async def test_stale_venue_shows_without_a_message(house, clock):
    """
    A venue that says nothing more is told to be stale once its book is too old, by the time alone.
    """
    async with streaming(house) as stream:
        await stream.subscribe(channel="book", symbol="BTC/USDT")
        clock.advance(3_000)
        house.show({name: ladder for name, ladder in LADDERS.items() if name[0] != "kraken"})
        clock.advance(2_100)
        frame = await stream.until(lambda frame: frame["data"]["sources"][0]["state"] == "stale")

    assert ["stale", "live", "live"] == [source["state"] for source in frame["data"]["sources"]]
    assert {"coinbase", "okx"} == {level["venue"] for level in frame["data"]["asks"]}


# Quotes


async def test_quote_is_told_as_it_is_answered(house):
    """
    The channel quote tells what GET /quote answers, with a quote id of its own.
    """
    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE, limit_price="64020", venues=["kraken", "okx"], exclude_venues="okx")
        frame = await stream.hear()
    reply = await house.quote(
        "symbol=BTC/USDT&quantity=0.2&side=buy&limit_price=64020&venues=kraken,okx&exclude_venues=okx"
    )

    assert without(reply.json, ANEW) == without(frame["data"], ANEW)
    assert {"channel": "quote", "symbol": "BTC/USDT", "sequence": 1} == without(frame, {"data"})


async def test_quote_is_executable(house):
    """
    A quote of the stream is executed by its id, at its total, however the amount was asked for.
    """
    for name, amount in {"slippage_bps_max": "2", "quantity": "0.2", "total": "10000"}.items():
        async with streaming(house) as stream:
            await stream.subscribe(channel="quote", symbol="BTC/USDT", side="buy", **{name: amount})
            frame = await stream.hear()
        reply = await house.execute({"quote_id": frame["data"]["quote_id"], "client_order_id": name})
        assert (201, frame["data"]["buy"]["total"]) == (reply.status, reply.json.get("total")), name


@pytest.mark.parametrize("house", [{}, OFF], indirect=True)
async def test_used_quote_is_followed_by_another(house):
    """
    Once a quote was used, the stream tells one that is not, whether or not the fill has taken anything of the book.
    """
    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE)
        for number in range(2):
            frame = await stream.hear()
            reply = await house.execute({"quote_id": frame["data"]["quote_id"], "client_order_id": f"a{number}"})
            assert 201 == reply.status, reply.json


async def test_quote_is_made_anew_before_it_expires(house, clock):
    """
    Where nothing happens at all, a quote still has half of its time when the next one is told.
    """
    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE)
        first = await stream.hear()
        clock.advance(1_501)
        second = await stream.hear()

    assert first["data"]["quote_id"] != second["data"]["quote_id"]
    assert without(first["data"], {*ANEW, "sources"}) == without(second["data"], {*ANEW, "sources"})


async def test_unquotable_is_told_and_recovers_by_itself(house, clock):
    """
    A quote that cannot be given any more is an error of the subscription, with every venue's reason, until there are
    books again.
    """
    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE, id="mine")
        await stream.hear()
        clock.advance(6_000)
        refused = await stream.hear()
        house.show()
        again = await stream.hear()

    assert ("no_fresh_market_data", "subscribe") == (refused["error"]["code"], refused["error"]["op"])
    assert ["stale"] * 3 == [source["state"] for source in refused["error"]["sources"]]
    assert [1, 2, 3] == [frame["sequence"] for frame in stream.heard[1:]]
    assert ("mine", "mine", True) == (refused["id"], again["id"], again["data"]["buy"]["fillable"])


async def test_refused_amount_is_an_error_of_the_subscription(house):
    """
    An amount that no venue takes is refused as GET /quote refuses it, with one that would do.
    """
    async with streaming(house) as stream:
        await stream.subscribe(channel="quote", symbol="BTC/USDT", quantity="0.000000001")
        frame = await stream.hear()
    reply = await house.quote("symbol=BTC/USDT&quantity=0.000000001")

    assert 422 == reply.status == frame["error"]["status"]
    assert reply.json["errors"] == frame["error"]["errors"]


async def test_clients_of_an_account_share_a_quote(house):
    """
    The same question of one account is answered once for all its clients; another account has quotes of its own.
    """
    async with streaming(house) as one, streaming(house, key="quote") as same, streaming(house, key="bob") as other:
        for stream in (one, same, other):
            await stream.subscribe(**QUOTE)
        ids = [(await stream.hear())["data"]["quote_id"] for stream in (one, same, other)]

    assert ids[0] == ids[1] != ids[2]


async def test_subscriptions_are_told_apart_by_their_ids(house):
    """
    Several quotes of one symbol bear the client's own names, and end one by one.
    """
    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE, id="small")
        await stream.subscribe(**{**QUOTE, "quantity": "0.3"}, id="large")
        while len(heard := {frame["id"]: frame for frame in stream.heard if "data" in frame}) < 2:
            await stream.hear()
        answer = await stream.ask(op="unsubscribe", channel="quote", symbol="BTCUSDT", id="small")
        house.show()
        later = await stream.until(told("quote"))

    assert {"small": "0.2", "large": "0.3"} == {
        name: frame["data"]["requested"]["quantity"] for name, frame in heard.items()
    }
    assert {"op": "unsubscribed", "channel": "quote", "symbol": "BTC/USDT", "id": "small"} == answer
    assert "large" == later["id"]


async def test_subscribing_again_replaces(house):
    """
    The same channel and symbol with other parameters takes the place of the first, and is counted anew.
    """
    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE)
        await stream.hear()
        await stream.subscribe(**{**QUOTE, "quantity": "0.3"})
        frame = await stream.hear()

    assert (1, "0.3") == (frame["sequence"], frame["data"]["requested"]["quantity"])


# Venues


async def test_venues_are_told_as_they_are_answered(house, clock):
    """
    The channel venues tells what GET /v1/venues answers, and a change of a state at once.
    """
    async with streaming(house) as stream:
        await stream.subscribe(channel="venues")
        first = await stream.hear()
        reply = await house.get("/v1/venues")
        house.board.fail("kraken", "BTC/USDT", "timeout", clock.now_ns(), at_once=True)
        second = await stream.hear()

    assert reply.json == first["data"]
    assert {"channel": "venues", "sequence": 1} == without(first, {"data"})
    [kraken] = [venue for venue in second["data"]["venues"] if venue["venue"] == "kraken"]
    assert ("down", "timeout") == (kraken["state"], kraken["reason"])


# Executions


async def test_executions_are_told_once_on_record(house):
    """
    Each execution of the account, filled or rejected, is told in its order, as GET answers it.
    """
    async with streaming(house) as stream:
        await house.buy("before")
        await stream.subscribe(channel="executions")
        await house.buy("a")
        await house.buy("b", limit_price="1")
        frames = [await stream.hear() for _ in range(2)]
        answers = [(await house.get(f"/v1/executions/by-client-id/{name}")).json for name in ("a", "b")]

    assert answers == [frame["data"] for frame in frames]
    assert [("executions", 1, "filled"), ("executions", 2, "rejected")] == [
        (frame["channel"], frame["sequence"], frame["data"]["status"]) for frame in frames
    ]


async def test_executions_of_another_account_are_never_told(house):
    """
    Whoever streams hears of its own account alone.
    """
    async with streaming(house) as mine, streaming(house, key="bob") as others:
        for stream in (mine, others):
            await stream.subscribe(channel="executions")
        await house.buy("alices")
        await house.ask("POST", "/execute", key="bob", body={**ASKED, "client_order_id": "bobs"})
        heard = [(await stream.hear())["data"]["client_order_id"] for stream in (mine, others)]

    assert ["alices", "bobs"] == heard
    assert 1 == sum("data" in frame for frame in mine.heard) == sum("data" in frame for frame in others.heard)


async def test_executions_come_late_rather_than_never(house):
    """
    While the record cannot be read, that is told once; what came on it meanwhile follows.
    """
    async with streaming(house) as stream:
        await stream.subscribe(channel="executions")
        house.ledger.trouble["executions"] = Unavailable("ledger_unavailable", "the record cannot be read")
        await house.buy()
        trouble = await stream.hear()
        refused = await streaming_refused(house)
        house.ledger.trouble.clear()
        frame = await stream.hear()

    assert "ledger_unavailable" == trouble["error"]["code"] == refused["error"]["code"]
    assert "a" == frame["data"]["client_order_id"]


async def streaming_refused(house):
    """Ask for executions on a stream of its own, by a key of another account."""
    async with streaming(house, key="bob") as stream:
        return await stream.ask(op="subscribe", channel="executions")


# What it costs


async def test_nothing_is_computed_while_nobody_listens(house):
    """
    When the last subscription ends, all that served it ends too.
    """

    def working():
        return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("streams: ")}

    async with streaming(house) as stream:
        await stream.subscribe(**QUOTE)
        await stream.subscribe(channel="executions")
        assert {"streams: look", "streams: record", "streams: look after"} == working()
        await stream.ask(op="unsubscribe", channel="quote", symbol="BTC/USDT")
        await stream.ask(op="unsubscribe", channel="executions")
        await eventually(lambda: working() == {"streams: look after"})
