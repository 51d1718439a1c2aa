"""Taken liquidity over HTTP: disclosed in quotes and in the book, charged to later orders, and back in time."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.api.conftest import LADDERS

HALF_LIFE_MS = 30_000
SHRUNK = LADDERS | {
    ("okx", "BTC/USDT"): """
        .      64040     5
        .      64009     0.04
        0.05   63999     .
        6      63970     .
    """
}
"""okx shows 0.06 less of its best ask."""


async def liquidity(house, query="quantity=0.05&side=buy", **options):
    """What a quote says is left out."""
    message = (await house.quote(f"symbol=BTC/USDT&{query}", **options)).json
    return message["liquidity"]["taken"], message["liquidity"]["held"]


async def best_asks(house, count=2, view="gross", **options):
    """The best asks as (venue, price, quantity shown, taken)."""
    message = (await house.get(f"/v1/book?symbol=BTC/USDT&view={view}&depth={count}", **options)).json
    return [tuple(level[name] for name in ("venue", "price", "quantity", "taken")) for level in message["asks"]]


async def held_of_best_ask(house):
    """What firm quotes hold of the best ask."""
    return (await house.get("/v1/book?symbol=BTC/USDT&view=gross&depth=1")).json["asks"][0]["held"]


async def test_nothing_is_taken_before_anyone_has_traded(house):
    """
    A fresh market is whole, and quotes and book say so.
    """
    await house.quote()
    await house.buy(dry_run=True)
    await house.buy(limit_price="1")
    assert ("0", "0") == await liquidity(house)
    message = (await house.get("/v1/book?symbol=BTC/USDT")).json
    assert {"0"} == {level["taken"] for level in message["bids"] + message["asks"]}


@pytest.mark.parametrize("view", ["gross", "net"])
async def test_fill_is_disclosed_level_by_level(house, view):
    """
    What a fill took stands beside what the venue still shows; the level itself is shown as the venue shows it.
    """
    await house.buy(quantity="0.06")
    assert ("okx", "64009", "0.1", "0.06") in await best_asks(house, 9, view)
    assert ("kraken", "64010.1", "0.25", "0") in await best_asks(house, 9, view)
    assert ("0.06", "0") == await liquidity(house)


async def test_side_that_was_not_asked_for_is_not_counted(house):
    """
    Bids that were sold into say nothing about a buy; a quote of both sides counts both.
    """
    await house.buy("a", quantity="0.06")
    await house.buy("b", quantity="0.02", side="sell")
    assert [("0.06", "0"), ("0.02", "0"), ("0.08", "0")] == [
        await liquidity(house, f"quantity=0.05&side={side}") for side in ("buy", "sell", "both")
    ]


async def test_second_order_does_not_get_what_the_first_has_taken(house):
    """
    The best level fills one order only: the next one pays the next price.
    """
    first = (await house.buy("a", quantity="0.1")).json
    second = (await house.buy("b", quantity="0.1")).json
    assert ["64009"] == [fill["price"] for fill in first["fills"]]
    assert ["64040"] == [fill["price"] for fill in second["fills"]]
    assert ("0.2", "0") == await liquidity(house)


async def test_level_that_is_used_up_is_shown_and_not_offered(house):
    """
    A level of which all is taken stays in the book; quotes begin behind it.
    """
    await house.buy(quantity="0.1")
    assert ("okx", "64009", "0.1", "0.1") == (await best_asks(house))[0]
    quote = (await house.quote("symbol=BTC/USDT&quantity=0.05&side=buy&venues=okx")).json
    assert "64040" == quote["buy"]["best_price"]


async def test_hold_is_disclosed_as_held_and_then_as_taken(house):
    """
    An open firm quote holds what it would take; its fill has taken it, and is not counted twice.
    """
    firm = (await house.firm(quantity="0.06")).json
    assert ("0", "0") == (firm["liquidity"]["taken"], firm["liquidity"]["held"])
    assert ("0", "0.06") == await liquidity(house)
    assert ("okx", "64009", "0.1", "0.06") == (await best_asks(house))[0]
    assert "0.06" == await held_of_best_ask(house)
    await house.execute({"quote_id": firm["quote_id"], "client_order_id": "a"})
    assert ("0.06", "0") == await liquidity(house)
    assert ("okx", "64009", "0.1", "0.06") == (await best_asks(house))[0]
    assert "0" == await held_of_best_ask(house)


@pytest.mark.parametrize("how", ["let go", "expired"])
async def test_hold_that_has_ended_holds_nothing(house, how):
    """
    What a firm quote held is there again at once when it is let go, and from its last moment on.
    """
    firm = (await house.firm(quantity="0.06")).json
    if how == "let go":
        await house.ask("DELETE", f"/v1/quotes/{firm['quote_id']}")
    else:
        house.clock.advance(2_999)
        assert ("0", "0.06") == await liquidity(house)
        house.clock.advance(1)
    assert ("0", "0") == await liquidity(house)
    assert ("okx", "64009", "0.1", "0") == (await best_asks(house))[0]


async def test_taken_counts_for_every_account(house):
    """
    Liquidity is shared: what one account took is gone for the others too, in quotes, book and fills.
    """
    await house.buy(quantity="0.06")
    await house.firm(quantity="0.02")
    assert ("0.06", "0.02") == await liquidity(house, key="bob")
    assert ("okx", "64009", "0.1", "0.08") == (await best_asks(house, key="bob"))[0]
    body = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.04", "client_order_id": "a"}
    fills = (await house.execute(body, key="bob")).json["fills"]
    assert [("64009", "0.02"), ("64040", "0.02")] == [(fill["price"], fill["quantity"]) for fill in fills]


@pytest.mark.parametrize("house", [{"liquidity": {"taken": "per_account"}}], indirect=True)
async def test_taken_per_account_counts_for_the_taker_alone(house):
    """
    Where the settings say so, each account trades against a market of its own.
    """
    await house.buy(quantity="0.06")
    assert [("0.06", "0"), ("0", "0")] == [await liquidity(house), await liquidity(house, key="bob")]
    assert ["0.06", "0"] == [(await best_asks(house, key=key))[0][-1] for key in ("all", "bob")]


@pytest.mark.parametrize("house", [{"liquidity": {"taken": "off"}}], indirect=True)
async def test_taken_off_leaves_the_market_whole(house):
    """
    Where the settings say so, every order finds the book as the venues show it.
    """
    first = (await house.buy("a", quantity="0.1")).json
    second = (await house.buy("b", quantity="0.1")).json
    assert first["fills"] == second["fills"]
    assert ("0", "0") == await liquidity(house)
    assert ("okx", "64009", "0.1", "0") == (await best_asks(house))[0]


async def test_new_snapshot_alone_gives_nothing_back(house):
    """
    The same level in the venue's next book is the same liquidity: it stays taken.
    """
    await house.buy(quantity="0.06")
    for _ in range(3):
        house.clock.advance(1_000)
        house.show()
    assert ("0.06", "0") == await liquidity(house)


async def test_level_that_shrinks_by_what_was_taken_is_charged_once(house):
    """
    When the venue shows less by what was taken, its own book has it: nothing is left out twice.
    """
    await house.buy(quantity="0.06")
    house.clock.advance(1_000)
    house.show(SHRUNK)
    assert ("0", "0") == await liquidity(house)
    assert ("okx", "64009", "0.04", "0") == (await best_asks(house))[0]


async def test_half_is_back_after_the_half_life_and_nothing_before(house):
    """
    The venue is taken to have replaced half of it after each half-life, to the venue's own step.
    """
    await house.buy(quantity="0.06")
    for advance_ms, taken in ((HALF_LIFE_MS - 1, "0.06"), (1, "0.03"), (HALF_LIFE_MS, "0.015")):
        house.clock.advance(advance_ms)
        house.show()
        assert (taken, "0") == await liquidity(house)
        assert ("okx", "64009", "0.1", taken) == (await best_asks(house))[0]


async def test_market_is_not_moved_by_what_is_taken(house):
    """
    Mid and best prices are the venues' own: mock fills move no market.
    """
    before = (await house.quote()).json["market"]
    await house.buy(quantity="0.1")
    assert before == (await house.quote()).json["market"]


async def test_quote_leaves_out_exactly_what_it_says(house):
    """
    What a book holds, less what is taken and held, is what an order can get.
    """
    most = "quantity=9000&side=buy"
    whole = Decimal((await house.quote(f"symbol=BTC/USDT&{most}")).json["buy"]["quantity"])
    await house.buy(quantity="0.7")
    await house.firm(quantity="0.3")
    message = (await house.quote(f"symbol=BTC/USDT&{most}")).json
    assert ("0.7", "0.3") == (message["liquidity"]["taken"], message["liquidity"]["held"])
    assert whole - 1 == Decimal(message["buy"]["quantity"])


async def test_order_for_more_than_is_left_is_thin(house):
    """
    What others have taken is missing: a quote for the whole book is no longer fillable, and its order is refused.
    """
    everything = (await house.quote("symbol=BTC/USDT&quantity=9000&side=buy")).json["buy"]["quantity"]
    await house.buy("a", quantity="0.1")
    quote = (await house.quote(f"symbol=BTC/USDT&quantity={everything}&side=buy")).json
    assert (False, "0.1") == (quote["buy"]["fillable"], quote["buy"]["shortfall"])
    assert "insufficient_liquidity" == (await house.buy("b", quantity=everything)).code
