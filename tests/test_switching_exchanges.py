"""Switching exchanges is editing settings.toml: a venue that no code of ours knows is added, others go."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from fractions import Fraction

import aiohttp
import pytest
from aiohttp import web

from exchanges.simulator import running as simulated
from service.app import running
from service.control import key_desk
from service.errors import ConfigError
from service.keys import load_pepper
from service.settings import load_settings

SETTINGS = """
[service]
port = 0
mode = "simulated"
[market]
symbols = [{symbols}]
[ledger]
url = "sqlite:///{folder}/ledger.db"
"""
VENUE = """
[venues.{name}]
base_url = "{base_url}"
rate_limit_ms = 0
poll_interval_ms = 100
"""


@pytest.fixture
async def kucoin(recorded, aiohttp_server):
    """A server that gives the recorded answers of KuCoin, under the addresses that ccxt asks."""
    instruments = (recorded / "rest_markets/kucoin_symbols.json").read_bytes()
    asked = []

    async def answer(request):
        asked.append(request.path)
        if request.path.endswith("/symbols"):
            return web.Response(body=instruments, content_type="application/json")
        if "orderbook" in request.path:
            body = (recorded / f"rest_depth/KUCOIN__{request.query['symbol']}.json").read_bytes()
            return web.Response(body=body, content_type="application/json")
        return web.json_response({"code": "200000", "data": []})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    server = await aiohttp_server(app)
    return str(server.make_url("")).rstrip("/")


def settings_of(tmp_path, symbols, venues):
    """Write a settings file with these symbols and venues (name to address), and load it."""
    text = SETTINGS.format(folder=tmp_path, symbols=", ".join(f'"{symbol}"' for symbol in symbols))
    text += "".join(VENUE.format(name=name, base_url=base_url) for name, base_url in venues.items())
    (tmp_path / "settings.toml").write_text(text)
    return written_settings(tmp_path)


def written_settings(tmp_path):
    """Load the settings file that stands there."""
    from exchanges.feeds import exchange_ids

    return load_settings(tmp_path / "settings.toml", {}, exchanges=exchange_ids())


async def ask(tmp_path, address, path):
    """Ask the running service with a key made beside it, until it has what it needs; 5 seconds at most."""
    async with key_desk(written_settings(tmp_path), lambda: load_pepper({}, tmp_path / "ledger.db").secret) as keys:
        text, _ = await keys.create("tester", ["quote"])
    async with aiohttp.ClientSession(headers={"X-API-Key": text}) as session:
        async with asyncio.timeout(5):
            while True:
                async with session.get(address + path) as response:
                    answer = await response.json(content_type=None)
                if response.status == 200:
                    return answer
                await asyncio.sleep(0.02)


async def test_kucoin_serves_recorded_books_after_adding_a_table(tmp_path, kucoin, recorded):
    """
    KuCoin is a table in the settings: its recorded book is quoted to the last digit.
    """
    settings = settings_of(tmp_path, ["SNX/BTC"], {"kucoin": kucoin})
    body = json.loads((recorded / "rest_depth/KUCOIN__SNX-BTC.json").read_text())["data"]
    async with running(settings, {}) as address:
        quote = await ask(tmp_path, address, "/quote?symbol=SNX/BTC&quantity=30&side=buy&fills=true")
        book = await ask(tmp_path, address, "/v1/book?symbol=SNX/BTC&depth=500&view=gross")

    expected = sorted(((Decimal(price), Decimal(quantity)) for price, quantity, *_ in body["asks"]))
    assert expected[:100] == [(Decimal(level["price"]), Decimal(level["quantity"])) for level in book["asks"]]
    left, notional = Fraction(30), Fraction(0)
    for price, quantity in expected:
        taken = min(left, Fraction(quantity))
        notional += taken * Fraction(price)
        left -= taken
    fills = quote["buy"]["fills"]
    assert notional == sum(Fraction(fill["price"]) * Fraction(fill["quantity"]) for fill in fills)
    assert 0 <= Fraction(quote["buy"]["subtotal"]) - notional < Fraction(len(fills), 10**8)
    assert "simulated" == quote["market_data"]


async def test_two_venues_go_and_one_comes(tmp_path):
    """
    An edited file is all it takes: the venues of every answer are the tables'.
    """
    seen = []
    async with simulated() as base_url:
        for names in (["binance", "kraken", "okx"], ["okx", "bitstamp"]):
            settings = settings_of(tmp_path, ["BTC/USDT"], dict.fromkeys(names, base_url))
            async with running(settings, {}) as address:
                await ask(tmp_path, address, "/quote?symbol=BTC/USDT&quantity=1")
                venues = await ask(tmp_path, address, "/v1/venues")
            seen.append([venue["venue"] for venue in venues["venues"]])

    assert [["binance", "kraken", "okx"], ["okx", "bitstamp"]] == seen


async def test_venue_that_trades_in_dollars_serves_tether_after_adding_a_line(tmp_path):
    """
    One line in a venue's table, and its dollars are quoted in USDT through the live stable pair, which nobody named.
    """
    async with simulated() as base_url:
        settings_of(tmp_path, ["BTC/USDT"], dict.fromkeys(["okx", "bitstamp"], base_url))
        with (tmp_path / "settings.toml").open("a") as file:
            file.write('symbols = { "BTC/USDT" = "BTC/USD" }\n')
        async with running(load_settings(tmp_path / "settings.toml", {}), {}) as address:
            quote = await ask(tmp_path, address, "/quote?symbol=BTC/USDT&quantity=0.01&venues=bitstamp&fills=true")
            symbols = await ask(tmp_path, address, "/v1/symbols")

    for side, crossing in {"buy": "sell", "sell": "buy"}.items():
        [leg] = quote[side]["legs"]
        assert ("bitstamp", "BTC/USD", "0.01") == (leg["venue"], leg["symbol"], leg["quantity"])
        assert ("USDT/USD", crossing) == (leg["conversion"]["symbol"], leg["conversion"]["side"])
        for fill in quote[side]["fills"]:
            exact = Fraction(fill["conversion"]["own_price"]) / Fraction(fill["conversion"]["price"])
            worse = Fraction(fill["price"]) - exact if side == "buy" else exact - Fraction(fill["price"])
            assert "bitstamp" == fill["conversion"]["venue"]
            assert 0 <= worse < Fraction(1, 10**7)  # Twelve digits of about 64000, against the client.
    assert [("BTC/USDT", ["BTC/USDT", "BTC/USD"])] == [
        (symbol["symbol"], [venue["symbol"] for venue in symbol["venues"]]) for symbol in symbols["symbols"]
    ]


async def test_misspelled_symbol_fails_at_start_with_the_nearest(tmp_path):
    """
    A symbol that no venue trades is named at start, with what was probably meant.
    """
    async with simulated() as base_url:
        settings = settings_of(tmp_path, ["BTC/UDST"], {"okx": base_url})
        with pytest.raises(ConfigError, match=r"no venue trades 'BTC/UDST'; the nearest are BTC/USDT"):
            async with running(settings, {}):
                pass


def test_misspelled_venue_fails_at_start_with_the_nearest(tmp_path):
    """
    A venue that ccxt does not have is named at start, with what was probably meant.
    """
    with pytest.raises(ConfigError, match=r"venues\.kukoin.*kucoin"):
        settings_of(tmp_path, ["BTC/USDT"], {"kukoin": "http://127.0.0.1:1"})
