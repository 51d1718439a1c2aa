"""The Python client with the real service: every method, every message, every field."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from service.client import (
    InvalidRequest,
    NewQuoteNeeded,
    NotAllowed,
    NotFound,
    OrderBookClient,
    OrderRejected,
    Retries,
    Unauthenticated,
    Unavailable,
    access,
    market,
    quotes,
    record,
)
from service.client.decoding import Message, Undecodable, decode
from tests.api.conftest import document

SCHEMAS = document()["components"]["schemas"]
MESSAGES = {
    kind.__name__: kind
    for module in (quotes, market, record, access)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}
OTHER_NAMES = {
    "QuoteSide": "Side",
    "Warned": "Warning",
}
"""Of messages whose schemas are called otherwise."""


@pytest.fixture
async def client_of(house):
    """Make a client for one of the house's keys."""
    clients = []

    async def make(key="all", **options):
        url = f"http://{house.client.host}:{house.client.port}"
        text = house.keys.get(key, key)
        client = OrderBookClient(url, text, retries=Retries(**{"attempts_max": 1, **options}))
        clients.append(await client.__aenter__())
        return client

    yield make
    for client in clients:
        await client.close()


def test_every_answer_has_its_value():
    """
    The messages that quoting, executing and looking things up are answered with are values of the client.
    """
    wanted = "Quote FirmQuote Execution Executions Account Entries Book Depth Symbols Venues Readiness Health"

    assert set(wanted.split()) <= MESSAGES.keys() & SCHEMAS.keys()


@pytest.mark.parametrize("name", sorted(MESSAGES.keys() - {"Resting"}))
def test_messages_have_the_fields_of_the_published_document(name):
    """
    Each value has the document's fields, no more and no fewer; what may be left out there may be left out here.
    """
    schema = SCHEMAS[OTHER_NAMES.get(name, name)]
    fields = {one.name: one for one in dataclasses.fields(MESSAGES[name]) if one.name != "raw"}

    assert set(schema["properties"]) == set(fields)
    optional = {one.name for one in fields.values() if one.default is not dataclasses.MISSING}
    assert optional >= set(schema["properties"]) - set(schema["required"])


async def test_quotes_are_exact(client_of):
    """
    Amounts are decimals to the last digit, times are in UTC, and lines of the waterfall sum to the total.
    """
    client = await client_of()
    quote = await client.quote("btc-usdt", quantity=Decimal("0.5"), fills=True)

    assert ("BTC/USDT", Decimal("0.5")) == (quote.symbol, quote.side("buy").quantity)
    assert quote.buy.total == sum(step.amount for step in quote.buy.waterfall[:-1])
    assert quote.buy.subtotal == sum(fill.subtotal for fill in quote.buy.fills)
    assert quote.sell.total < quote.buy.total
    assert timedelta(milliseconds=quote.expires_in_ms) == quote.expires_at - quote.created_at
    assert quote.created_at.tzinfo is UTC
    with pytest.raises(LookupError, match="name one"):
        quote.side()

    by_total = await client.quote("BTC/USDT", total=1000, side="buy", venues=["kraken", "okx"])
    assert by_total.side().total <= 1000 and by_total.requested.venues == ("kraken", "okx")
    with pytest.raises(LookupError, match="no side sell"):
        by_total.side("sell")
    bounded = await client.quote("BTC/USDT", slippage_bps_max="5", side="sell", exclude_venues="okx")
    assert bounded.side().slippage_bps.from_mid <= 5
    limited = await client.quote("BTC/USDT", quantity="9", side="buy", limit_price="64010")
    assert not limited.side().fillable


async def test_order_is_executed_once_and_found_again(client_of):
    """
    An order on a quote, or without one, is an execution that is given again, looked up and listed.
    """
    client = await client_of()
    quote = await client.quote("BTC/USDT", quantity="0.5", side="buy")
    checked = await client.dry_run(quote)
    assert checked.execution_id is None and checked.dry_run and checked.total == quote.side().total

    execution = await client.execute(quote, client_order_id="mine")
    assert ("filled", quote.side().total, quote.quote_id) == (execution.status, execution.total, execution.quote_id)
    assert execution == await client.execute(quote, client_order_id="mine")
    assert execution.balances["BTC"].after == execution.balances["BTC"].before + Decimal("0.5")

    direct = await client.execute(
        symbol="ETH/USDT",
        side="sell",
        quantity=2,
        time_in_force="ioc",
        valid_until=datetime(2026, 11, 1, 13, tzinfo=UTC),
    )
    assert re.fullmatch(r"py-[0-9a-f]{24}", direct.client_order_id)
    await client.execute(symbol="ETH/USDT", side="buy", total="100")

    found = await client.execution(execution.execution_id)
    assert found.realism.pending and execution.fills == found.fills
    assert found == await client.execution_by_client_id("mine")
    listed = [one.client_order_id async for one in client.executions(page_size=2)]
    assert 3 == len(listed) and "mine" == listed[-1]
    assert ["mine"] == [one.client_order_id async for one in client.executions(symbol="BTC/USDT", status="filled")]
    assert [] == [one async for one in client.executions(since=datetime.now(UTC) + timedelta(days=9))]


async def test_firm_quotes_are_held_filled_and_let_go(client_of):
    """
    A firm quote is held, and filled at its total, or let go.
    """
    client = await client_of()
    firm = await client.firm_quote("BTC/USDT", "buy", quantity="0.2", ttl_ms=5000)
    assert ("open", firm.side().total) == (firm.status, firm.held["USDT"])
    execution = await client.execute(firm)
    assert firm.side().total == execution.total
    used = await client.get_firm_quote(firm)
    assert ("used", execution.execution_id) == (used.status, used.execution_id)

    other = await client.firm_quote("BTC/USDT", "sell", total="1000")
    assert "released" == (await client.release_firm_quote(other)).status
    assert "released" == (await client.release_firm_quote(other.quote_id)).status


async def test_market_is_told(client_of):
    """
    Book, depth, symbols, venues and readiness come as values.
    """
    client = await client_of()
    book = await client.book("BTC/USDT", depth=2, view="gross")
    assert (2, "gross") == (len(book.bids), book.view)
    assert book.bids[0].price >= book.bids[1].price and book.bids[0].price < book.asks[0].price
    depth = await client.depth("BTC/USDT", bps=[5, Decimal("10.5"), "50"])
    assert [Decimal(5), Decimal("10.5"), Decimal(50)] == [band.bps for band in depth.bands]
    symbols = await client.symbols()
    assert ["BTC/USDT", "ETH/USDT"] == [one.symbol for one in symbols]
    assert {"kraken", "coinbase", "okx"} == {rules.venue for rules in symbols[0].venues}
    venues = await client.venues()
    assert ["kraken", "coinbase", "okx", "bitstamp"] == [one.venue for one in venues]
    assert "alive" == (await client.healthz()).status
    assert "ready" == (await client.readyz()).status


async def test_account_and_its_entries_are_told(client_of):
    """
    Balances are the sums of the ledger's lines, page after page.
    """
    client = await client_of()
    await client.execute(symbol="BTC/USDT", side="buy", quantity="0.2")
    account = await client.account()
    assert "alice" == account.account
    assert Decimal("0.2") == account.positions[0].quantity
    lines = [entry async for entry in client.entries(asset="USDT", page_size=1)]
    assert account.balances["USDT"].total == sum(entry.amount for entry in lines)
    assert {"USDT"} == {entry.asset for entry in lines} and len(lines) > 1


async def test_admin_looks_after_accounts_and_venues(client_of):
    """
    What an admin may do: accounts, deposits, venues, settings.
    """
    admin = (await client_of("admin")).admin
    opened = await admin.open_account("carol")
    assert opened == await admin.open_account("carol")
    deposited = await admin.deposit("carol", "USDT", Decimal("12.5"))
    assert Decimal("12.5") == deposited.balances["USDT"].total - opened.balances["USDT"].total
    assert opened.balances == (await admin.reset_account("carol")).balances
    assert not (await admin.disable_venue("okx")).enabled
    assert (await admin.enable_venue("okx")).enabled
    with pytest.raises(NotFound, match="no such venue"):
        await admin.disable_venue("../okx?")
    with pytest.raises(InvalidRequest) as raised:
        await admin.reload()
    assert "invalid_settings" == raised.value.code


async def test_admin_looks_after_keys(client_of):
    """
    Keys are made, listed, rotated and revoked; only the answer to its making shows a key, and printing it does not.
    """
    admin = (await client_of("admin")).admin
    made = await admin.create_key(
        "carol", ["quote"], label="hers", addresses=["127.0.0.0/8"], limits={"quote_per_s": 9}
    )
    assert made.key not in repr(made)
    assert ("carol", ("quote",), 9) == (made.account, made.scopes, made.limits.quote_per_s)
    hers = await client_of(made.key)
    await hers.quote("BTC/USDT", quantity="0.1")
    rotated = await admin.rotate_key(made.id, overlap_ms=60_000)
    assert made.id == rotated.replaces.id
    assert {made.id, rotated.id} <= {key.id async for key in admin.keys(page_size=2)}
    assert "revoked" == (await admin.revoke_key(made.id)).status
    assert "revoked" == (await admin.revoke_key(made.id)).status
    with pytest.raises(Unauthenticated):
        await hers.quote("BTC/USDT", quantity="0.1")


@pytest.mark.parametrize(
    ("key", "asking", "expected", "code"),
    [
        ("revoked", lambda client: client.account(), Unauthenticated, "unauthenticated"),
        ("quote", lambda client: client.account(), NotAllowed, "insufficient_scope"),
        ("all", lambda client: client.quote("BTX/USDT", quantity="1"), NotFound, "unknown_symbol"),
        ("all", lambda client: client.quote("BTC/USDT"), InvalidRequest, "missing_parameter"),
        ("all", lambda client: client.execution("a/../b"), NotFound, "unknown_execution"),
        (
            "all",
            lambda client: client.execute(symbol="BTC/USDT", side="buy", quantity="nan"),
            InvalidRequest,
            "invalid_parameter",
        ),
        (
            "all",
            lambda client: client.execute(symbol="BTC/USDT", side="buy", quantity="9000"),
            OrderRejected,
            "insufficient_liquidity",
        ),
    ],
)
async def test_refusals_are_raised_by_who_can_act(client_of, key, asking, expected, code):
    """
    The service's own refusals arrive as the classes that the client has for them.
    """
    client = await client_of(key)
    with pytest.raises(expected) as raised:
        await asking(client)
    assert (expected, code) == (type(raised.value), raised.value.code)


async def test_price_that_moved_comes_with_a_fresh_quote(house, client_of):
    """
    Nothing is ordered on the fresh quote until the caller says so.
    """
    client = await client_of()
    quote = await client.quote("BTC/USDT", quantity="0.2", side="buy")
    house.show(
        {
            ("okx", "BTC/USDT"): ".  65000 1\n 1 63000 .",
            ("kraken", "BTC/USDT"): ". 65001 1\n 1 63000 .",
            ("coinbase", "BTC/USDT"): ". 65002 1\n 1 63000 .",
        }
    )
    with pytest.raises(NewQuoteNeeded) as moved:
        await client.execute(quote)
    assert "price_moved" == moved.value.code and moved.value.execution_id is not None
    fresh = moved.value.fresh_quote
    assert fresh.side().total > quote.side().total
    assert fresh.side().total == (await client.execute(fresh)).total


async def test_missing_market_data_is_waited_for(house, client_of):
    """
    A service without books is asked again until it has some; who does not wait gets every venue's reason.
    """
    house.clock.advance(60_000)
    impatient = await client_of()
    with pytest.raises(Unavailable) as raised:
        await impatient.quote("BTC/USDT", quantity="0.2")
    assert {"stale"} == {source.state for source in raised.value.sources if source.state != "down"}

    async def show(seconds):
        assert seconds >= 1
        house.show()

    patient = await client_of(attempts_max=None, sleep=show)
    assert (await patient.quote("BTC/USDT", quantity="0.2")).side("buy").fillable


def test_what_a_client_is_made_of_is_checked():
    """
    An address or a key that cannot be one is refused before anything is sent.
    """
    for url in ("nowhere", "ftp://host", "http://", "http://user:password@host", "http://host?key=x", "http://[", ""):
        with pytest.raises(ValueError, match="address is"):
            OrderBookClient(url, "key")
    for key in ("", "a b", "a\nb", "ключ"):
        with pytest.raises(ValueError, match="one word"):
            OrderBookClient("http://host", key)
    assert "secret" not in repr(OrderBookClient("http://host", "secret"))


async def test_client_is_used_open():
    """
    A client that was not opened, or is closed, says so.
    """
    client = OrderBookClient("http://127.0.0.1:9", "key")
    with pytest.raises(RuntimeError, match="async with"):
        await client.account()


@pytest.mark.parametrize(
    ("amount", "expected"), [("1.50", "1.50"), (3, "3"), (Decimal("1E+3"), "1000"), (Decimal("1E-5"), "0.00001")]
)
async def test_amounts_are_sent_exactly(client_of, amount, expected):
    """
    Amounts are written in full, without exponents.
    """
    client = await client_of()
    quote = await client.quote("BTC/USDT", quantity=amount, side="buy")
    assert Decimal(expected) == quote.requested.quantity


@pytest.mark.parametrize("amount", [1.5, True, b"1", float("nan")])
async def test_floats_are_no_amounts(client_of, amount):
    """
    A float has lost digits before it gets here; it is refused, not rounded.
    """
    client = await client_of()
    with pytest.raises(TypeError, match="an amount is"):
        await client.quote("BTC/USDT", quantity=amount)
    with pytest.raises(TypeError, match="an order has no prize"):
        await client.execute(symbol="BTC/USDT", prize="1")
    with pytest.raises(ValueError, match="time zone"):
        await client.execute(symbol="BTC/USDT", valid_until=datetime(2026, 11, 1))  # noqa: DTZ001


LEVEL = {"price": "1", "net_price": "1.1", "quantity": "2", "taken": "0", "held": "0", "venue": "okx"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"venue": None}, "Level.venue"),
        ({"venue": 7}, "Level.venue"),
        ({"price": "x"}, "Level.price"),
        ({"price": "NaN"}, "Level.price"),
        ({"price": 1.5}, "Level.price"),
        ({"price": ...}, "Level.price is missing"),
    ],
)
def test_message_that_lacks_what_is_needed_is_not_taken(change, expected):
    """
    A field that is missing, or is not what it has to be, is named; what stands in it is not repeated.
    """
    raw = {name: value for name, value in {**LEVEL, **change}.items() if value is not ...}
    with pytest.raises(Undecodable, match=re.escape(expected)) as raised:
        decode(market.Level, raw)
    assert "1.5" not in str(raised.value)


def test_message_may_grow():
    """
    What a later service adds is left in ``raw``, and does not make values differ.
    """
    level = decode(market.Level, LEVEL | {"new": {"much": [1]}})
    assert level == decode(market.Level, LEVEL) and level.raw["new"] == {"much": [1]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        level.price = Decimal(2)
    with pytest.raises(Undecodable):
        decode(record.Execution, [])
