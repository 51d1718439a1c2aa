"""The settings: what wins, what is refused and in which words, and that the file and the page say the same."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import ConfigError
from service.settings import SECRETS, Settings, Table, VenueSettings, accepted, load_settings

ROOT = Path(__file__).parent.parent
EXCHANGES = ("binance", "bitstamp", "bybit", "coinbase", "coinbaseexchange", "kraken", "krakenfutures", "okx")
MINIMAL = """
[market]
symbols = ["BTC/USDT"]
[venues.kraken]
"""


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Name a file for the test to fill."""
    return tmp_path / "settings.toml"


def problems_of(
    path: Path | None, env: dict[str, str] | None = None, known: tuple[str, ...] | None = None
) -> list[str]:
    """Load what must be refused, and return why."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path, env or {}, exchanges=known)
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def test_minimal_file_gets_every_default(settings_file: Path) -> None:
    """
    Symbols and one venue are enough; everything else has its default.
    """
    settings_file.write_text(MINIMAL)

    settings = load_settings(settings_file, {}, exchanges=EXCHANGES)

    assert ("127.0.0.1", 8080, "live") == (settings.service.host, settings.service.port, settings.service.mode)
    assert ("BTC/USDT",) == settings.market.symbols
    assert Decimal(50) == settings.market.crossed_bps_max
    assert "sqlite:///var/ledger.db" == settings.ledger.url
    assert ("kraken", True, 1000, None) == (
        settings.venues["kraken"].exchange,
        settings.venues["kraken"].enabled,
        settings.venues["kraken"].poll_interval_ms,
        settings.venues["kraken"].rate_limit_ms,
    )


def test_settings_cannot_be_changed(settings_file: Path) -> None:
    """
    Settings are read once; nobody edits them in place.
    """
    settings_file.write_text(MINIMAL)
    settings = load_settings(settings_file, {})

    with pytest.raises(ValidationError):
        settings.service.port = 1


@pytest.mark.parametrize(
    ("variables", "path", "expected"),
    [
        ({"IOB_SERVICE__PORT": "9090"}, "service.port", 9090),
        # Numbers that are texts to their key stay as they were written.
        ({"IOB_SERVICE__HOST": "10"}, "service.host", "10"),
        ({"IOB_LOGS__LEVEL": "debug"}, "logs.level", "debug"),
        ({"IOB_QUOTES__TOLERANCE_BPS": "0.1"}, "quotes.tolerance_bps", Decimal("0.1")),
        ({"IOB_MARKET__SYMBOLS": '["ETH/USD", "BTC/USD"]'}, "market.symbols", ("ETH/USD", "BTC/USD")),
        ({"IOB_MARKET": '{"venues_min": 2}'}, "market.venues_min", 2),
        ({"IOB_VENUES__KRAKEN__DEPTH": "25"}, "venues.kraken.depth", 25),
        # A venue that the file has not is added.
        ({"IOB_VENUES__OKX__POLL_INTERVAL_MS": "250"}, "venues.okx.poll_interval_ms", 250),
        ({"IOB_VENUES__OKX__POLL_INTERVAL_MS": "250"}, "venues.okx.exchange", "okx"),
        ({"IOB_VENUES": '{"okx": {"enabled": false}}'}, "venues.okx.enabled", False),
        ({"IOB_VENUES__OKX__ENABLED": "False"}, "venues.okx.enabled", False),
        # The single key wins over the table, whatever their order.
        ({"IOB_VENUES__OKX__DEPTH": "5", "IOB_VENUES__OKX": '{"depth": 7}'}, "venues.okx.depth", 5),
        (
            {"IOB_VENUES__OKX__SYMBOLS": '{"BTC/USDT": "BTC/USD"}'},
            "venues.okx.symbols",
            {"BTC/USDT": "BTC/USD"},
        ),
        (
            {"IOB_PRICING__ACCOUNT_MARKUP_BPS": '{"alice": 0.1, "bob": "2.50", "eve": 0}'},
            "pricing.account_markup_bps",
            {"alice": Decimal("0.1"), "bob": Decimal("2.5"), "eve": Decimal(0)},
        ),
        ({"IOB_PRICING__ACCOUNT_MARKUP_BPS__ALICE": "5"}, "pricing.account_markup_bps", {"alice": Decimal(5)}),
        # Assets are upper-case; a table is merged into the file's.
        (
            {"IOB_ACCOUNTS__STARTING_BALANCES__BTC": "0.5", "IOB_ACCOUNTS__STARTING_BALANCES": '{"SOL": "7"}'},
            "accounts.starting_balances",
            {"USDT": Decimal(9), "SOL": Decimal(7), "BTC": Decimal("0.5")},
        ),
        (
            {"IOB_RISK__POSITION_MAX__BTC": "0", "IOB_RISK__POSITION_MAX__ETH": "10000000000"},
            "risk.position_max",
            {"BTC": Decimal(0), "ETH": Decimal(10**10)},
        ),
        ({"IOB_RISK": '{"daily_notional_max": 0.00000001}'}, "risk.daily_notional_max", Decimal("0.00000001")),
        ({"IOB_RISK__ORDER_NOTIONAL_MAX": "250000.50"}, "risk.order_notional_max", Decimal("250000.5")),
        ({"IOB_RISK__TRADING_ENABLED": "false"}, "risk.trading_enabled", False),
        ({"IOB_LIQUIDITY__TAKEN": "per_account"}, "liquidity.taken", "per_account"),
        ({"IOB_LEDGER__URL": "postgresql://desk@db/iob"}, "ledger.url", "postgresql://desk@db/iob"),
        # Takes out what the file says.
        ({"IOB_VENUES__KRAKEN__STALE_AFTER_MS": "null"}, "venues.kraken.stale_after_ms", None),
        # Empty is not set.
        ({"IOB_SERVICE__PORT": ""}, "service.port", 8081),
        # Left alone.
        (dict.fromkeys(SECRETS, "x") | {"PATH": "/bin", "IOBX": "1"}, "service.port", 8081),
    ],
)
def test_environment_wins_over_file(
    settings_file: Path, variables: dict[str, str], path: str, expected: object
) -> None:
    """
    A variable sets its key, whatever the file says.
    """
    before = "[service]\nport = 8081\n[accounts]\nstarting_balances = { USDT = 9, BTC = 1 }\n"
    settings_file.write_text(before + MINIMAL + "stale_after_ms = 9000\n")

    value: Any = load_settings(settings_file, variables, exchanges=EXCHANGES)
    for key in path.split("."):
        value = value[key] if isinstance(value, dict) else getattr(value, key)

    assert expected == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[service]\nprot = 1", "service.prot: unknown key; did you mean service.port?"),
        (
            "[service]\nzzz = 1",
            "service.zzz: unknown key; known here: host, port, mode, connections_per_address_max, connections_max, "
            "trusted_proxies, stream_origins, streams_per_key",
        ),
        # Right key, wrong table.
        ("[service]\nmarkup_bps = 1", "service.markup_bps: unknown key; did you mean pricing.markup_bps?"),
        ("[serivce]", "serivce: unknown name; did you mean service?"),
        (
            '[service]\n"a\\nb" = 1',
            'service."a\\nb": unknown key; known here: host, port, mode, connections_per_address_max, connections_max, '
            "trusted_proxies, stream_origins, streams_per_key",
        ),
        ('[service]\nport = "8080"', 'service.port: must be a whole number from 0 to 65535, not "8080"'),
        ("[service]\nport = 65536", "service.port: must be a whole number from 0 to 65535, not 65536"),
        ("[service]\nport = true", "service.port: must be a whole number from 0 to 65535, not true"),
        ("[service]\nport = 80.0", "service.port: must be a whole number from 0 to 65535, not 80.0"),
        (
            "[service]\nport = 0x" + "f" * 5000,
            "service.port: must be a whole number from 0 to 65535, not a very long number",
        ),
        ('[service]\nhost = "http://x"', 'service.host: must be an address or a host name, not "http://x"'),
        (f'[service]\nhost = "{"/" * 99}"', f'service.host: must be an address or a host name, not "{"/" * 39}…'),
        ('[service]\nmode = "real"', 'service.mode: must be "live" or "simulated" or "replay", not "real"'),
        ('[replay]\nfile = "x.rec"', 'replay.file: is not played in mode "live"; remove it, or set mode = "replay"'),
        ("[replay]\nfile = 5", 'replay.file: must be a path, or "" for none, not 5'),
        ("[replay]\nspeed = 0", "replay.speed: must be a number from 0.01 to 1000 with at most 6 decimals, not 0"),
        ("[recording]\nfile_mb_max = 0", "recording.file_mb_max: must be a whole number from 1 to 1000000, not 0"),
        ("service = 1", "service: must be a table: [service]"),
        ("[quotes]\nttl_ms = 99", "quotes.ttl_ms: must be a whole number from 100 to 60000, not 99"),
        (
            "[quotes]\ntolerance_bps = -1",
            "quotes.tolerance_bps: must be a number from 0 to 9999 with at most 6 decimals, not -1",
        ),
        (
            "[quotes]\ntolerance_bps = nan",
            "quotes.tolerance_bps: must be a number from 0 to 9999 with at most 6 decimals, not NaN",
        ),
        (
            "[quotes]\ntolerance_bps = 1e999999999999999999999",
            "quotes.tolerance_bps: must be a number from 0 to 9999 with at most 6 decimals, not NaN",
        ),
        (
            "[pricing]\nmarkup_bps = 0.0000001",
            "pricing.markup_bps: must be a number from 0 to 9999 with at most 6 decimals, not 1E-7",
        ),
        (
            '[pricing]\nmarkup_bps = "1e2"',
            'pricing.markup_bps: must be a number from 0 to 9999 with at most 6 decimals, not "1e2"',
        ),
        (
            "[pricing]\nmarkup_bps = true",
            "pricing.markup_bps: must be a number from 0 to 9999 with at most 6 decimals, not true",
        ),
        ('[logs]\nformat = "xml"', 'logs.format: must be "json" or "console" or "ecs", not "xml"'),
        # The address of a database may hold a password.
        (
            '[ledger]\nurl = "postgres://desk:hunter2@db/iob"',
            "ledger.url: must be an address sqlite:///path or postgresql://user:password@host/database",
        ),
        (
            '[ledger]\nurl = "postgresql://desk:hunter 2@db/iob"',
            "ledger.url: must be an address sqlite:///path or postgresql://user:password@host/database",
        ),
        # Amounts of assets.
        (
            "[risk]\norder_notional_max = -1",
            "risk.order_notional_max: must be a number from 0 to 10000000000 with at most 8 decimals, not -1",
        ),
        (
            "[risk]\norder_notional_max = 10000000000.00000001",
            "risk.order_notional_max: must be a number from 0 to 10000000000 with at most 8 decimals, "
            "not 10000000000.00000001",
        ),
        (
            "[risk]\ndaily_notional_max = 0.000000001",
            "risk.daily_notional_max: must be a number from 0 to 10000000000 with at most 8 decimals, not 1E-9",
        ),
        (
            '[risk]\ndaily_notional_max = "1e3"',
            'risk.daily_notional_max: must be a number from 0 to 10000000000 with at most 8 decimals, not "1e3"',
        ),
        (
            "[risk]\ndaily_notional_max = nan",
            "risk.daily_notional_max: must be a number from 0 to 10000000000 with at most 8 decimals, not NaN",
        ),
        (
            "[risk]\ndaily_notional_max = true",
            "risk.daily_notional_max: must be a number from 0 to 10000000000 with at most 8 decimals, not true",
        ),
        (
            '[risk]\nposition_max = { BTC = -1, eth = 5, SOL = 0.000000001, "a\\nb" = 1, DOGE = [1], XRP = "7" }',
            "risk.position_max: BTC must be a number from 0 to 10000000000 with at most 8 decimals, not -1; "
            '"eth" cannot be an asset: 1 to 20 upper-case letters and digits; '
            "SOL must be a number from 0 to 10000000000 with at most 8 decimals, not 1E-9; "
            '"a\\nb" cannot be an asset: 1 to 20 upper-case letters and digits; '
            "DOGE must be a number from 0 to 10000000000 with at most 8 decimals, not a list",
        ),
        (
            "[risk]\nposition_max = 5",
            "risk.position_max: must be a table of base assets and amounts with at most 8 decimals, "
            "like { BTC = 5 }, not 5",
        ),
        (
            "[accounts]\nstarting_balances = { USDT = 10000000001 }",
            "accounts.starting_balances: USDT must be a number from 0 to 10000000000 with at most 8 decimals, "
            "not 10000000001",
        ),
        (
            '[accounts]\nstarting_balances = ["USDT"]',
            "accounts.starting_balances: must be a table of assets and amounts with at most 8 decimals, "
            "like { USDT = 1000000 }, not a list",
        ),
        (
            "[accounts]\nstarting_balance = { USDT = 1 }",
            "accounts.starting_balance: unknown key; did you mean accounts.starting_balances?",
        ),
        (
            '[service]\nstream_origins = ["https://desk.example", "desk.example", "https://desk.example/", "null", 1]',
            'service.stream_origins: "desk.example" is not http:// or https:// and a host, in lower case; '
            '"https://desk.example/" is not http:// or https:// and a host, in lower case; '
            '"null" is not http:// or https:// and a host, in lower case; '
            "1 is not http:// or https:// and a host, in lower case",
        ),
        (
            '[service]\nstream_origins = "https://desk.example"',
            'service.stream_origins: must be a list of web origins, like ["https://desk.example:8443"], '
            'not "https://desk.example"',
        ),
        (
            "[risk]\ntrading_enabled = 1",
            "risk.trading_enabled: must be true or false, not 1",
        ),
        (
            '[liquidity]\ntaken = "all"',
            'liquidity.taken: must be "shared" or "per_account" or "off", not "all"',
        ),
        (
            "[quotes]\nfirm_ttl_ms_max = 10001",
            "quotes.firm_ttl_ms_max: must be a whole number from 100 to 10000, not 10001",
        ),
        ("[venues.okx]\ndepth = 5001", "venues.okx.depth: must be a whole number from 1 to 5000, not 5001"),
        (
            "[venues.okx]\npoll_interval_ms = 49",
            "venues.okx.poll_interval_ms: must be a whole number from 50 to 3600000, not 49",
        ),
        (
            "[venues.okx]\nstale_after_ms = 99",
            "venues.okx.stale_after_ms: must be a whole number from 100 to 3600000, not 99",
        ),
        (
            '[venues.okx]\ntransport = "carrier"',
            'venues.okx.transport: must be "poll" or "stream" or "replay", not "carrier"',
        ),
        (
            "[venues.okx]\ntaker_fee_bps = 1001",
            "venues.okx.taker_fee_bps: must be a number from 0 to 1000 with at most 6 decimals, not 1001",
        ),
        ("[venues.okx]\nrate_limit = 3", "venues.okx.rate_limit: unknown key; did you mean venues.okx.rate_limit_ms?"),
        ('[venues.x]\nexchange = "krakn"', 'venues.x.exchange: ccxt knows no exchange "krakn"; did you mean kraken?'),
        ("[venues.zzzzzz]", 'venues.zzzzzz.exchange: ccxt knows no exchange "zzzzzz"; see ccxt\'s list of exchanges'),
        # The symbols that a venue serves from others of its own.
        (
            '[venues.okx]\nsymbols = { "BTC/USTD" = "BTC/USD" }',
            "venues.okx.symbols: BTC/USTD is not in market.symbols; did you mean BTC/USDT?",
        ),
        (
            '[venues.okx]\nsymbols = { "ETH/EUR" = "ETH/USD" }',
            "venues.okx.symbols: ETH/EUR is not in market.symbols",
        ),
        (
            '[venues.okx]\nsymbols = { "BTC/USDT" = "ETH/USD" }',
            "venues.okx.symbols: BTC/USDT cannot be served from ETH/USD: their base assets differ",
        ),
        (
            '[venues.okx]\nsymbols = { "BTC/USDT" = 5 }',
            'venues.okx.symbols: "BTC/USDT" = 5 is not a pair of BASE/QUOTE',
        ),
        (
            '[venues.okx]\nsymbols = { "BTC/USDT" = "btc/usd" }',
            'venues.okx.symbols: "BTC/USDT" = "btc/usd" is not a pair of BASE/QUOTE',
        ),
        (
            '[venues.okx]\nsymbols = ["BTC/USD"]',
            "venues.okx.symbols: must be a table of served symbols and the venue's own, "
            'like { "BTC/USDT" = "BTC/USD" }, not a list',
        ),
        # The margins of single accounts.
        (
            "[pricing]\naccount_markup_bps = { alice = 10000 }",
            "pricing.account_markup_bps: alice must be a number from 0 to 9999 with at most 6 decimals, not 10000",
        ),
        (
            '[pricing]\naccount_markup_bps = { alice = -1, Bob = 5, eve = 0.0000001, "a\\nb" = 1, c = "1e1" }',
            "pricing.account_markup_bps: alice must be a number from 0 to 9999 with at most 6 decimals, not -1; "
            '"Bob" cannot be an account\'s name: 1 to 32 of a-z 0-9 _ -; '
            "eve must be a number from 0 to 9999 with at most 6 decimals, not 1E-7; "
            '"a\\nb" cannot be an account\'s name: 1 to 32 of a-z 0-9 _ -; '
            'c must be a number from 0 to 9999 with at most 6 decimals, not "1e1"',
        ),
        (
            "[pricing]\naccount_markup_bps = 5",
            "pricing.account_markup_bps: must be a table of accounts and their basis points, like { alice = 5 }, not 5",
        ),
        (
            "[pricing]\naccount_markup = { alice = 5 }",
            "pricing.account_markup: unknown key; did you mean pricing.account_markup_bps?",
        ),
        (
            "[venues.okx]\nsymbol = {}",
            "venues.okx.symbol: unknown key; did you mean venues.okx.symbols?",
        ),
        (
            '[venues.Okx]\nexchange = "okx"',
            "venues.Okx: a venue's name is 1 to 32 lower-case letters, digits, _ and -, "
            "and begins with a letter or digit",
        ),
        (
            '[venues.okx]\nbase_url = "http://127.0.0.1:9001"',
            'service.mode: is "live", where no enabled venue may have a base_url, but okx has one; '
            'remove it, or set mode = "simulated"',
        ),
    ],
)
def test_mistake_in_file_is_one_sentence_about_its_key(settings_file: Path, text: str, expected: str) -> None:
    """
    Each mistake is reported once, where it is and with what would be right.
    """
    settings_file.write_text(text + "\n" + MINIMAL)

    assert [expected] == problems_of(settings_file, known=EXCHANGES)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"IOB_SERVICE__PROT": "1"},
            "service.prot: unknown key; did you mean IOB_SERVICE__PORT? (set by IOB_SERVICE__PROT)",
        ),
        ({"IOB_SERVCE__PORT": "1"}, "servce: unknown name; did you mean IOB_SERVICE? (set by IOB_SERVCE__PORT)"),
        # A mistyped secret is not shown.
        (
            {"IOB_PEPPR": "hunter2"},
            "peppr: unknown name; did you mean IOB_PEPPER or IOB_PEPPER_FILE? (set by IOB_PEPPR)",
        ),
        (
            {"IOB_PORT": "1"},
            "port: unknown name; did you mean IOB_SERVICE__PORT or IOB_METRICS__PORT? (set by IOB_PORT)",
        ),
        (
            {"IOB_SERVICE__PORT": "abc"},
            'service.port: must be a whole number from 0 to 65535, not "abc" (set by IOB_SERVICE__PORT)',
        ),
        (
            {"IOB_SERVICE__PORT": "[" * 100_000},
            f'service.port: must be a whole number from 0 to 65535, not "{"[" * 39}… (set by IOB_SERVICE__PORT)',
        ),
        (
            {"IOB_SERVICE__PORT": "\udcff\n"},
            'service.port: must be a whole number from 0 to 65535, not "\\udcff\\n" (set by IOB_SERVICE__PORT)',
        ),
        (
            {"IOB_SERVICE__PORT__X": "1"},
            "service.port: must be a whole number from 0 to 65535, not a table (set by IOB_SERVICE__PORT__X)",
        ),
        (
            {"IOB_MARKET__SYMBOLS__X": "1"},
            "market.symbols.x: market.symbols is not a table (set by IOB_MARKET__SYMBOLS__X)",
        ),
        ({"IOB_LOGS": "debug"}, "logs: must be a table: [logs] (set by IOB_LOGS)"),
        (
            {"IOB_PRICING__ACCOUNT_MARKUP_BPS__ALICE": "much"},
            'pricing.account_markup_bps: alice must be a number from 0 to 9999 with at most 6 decimals, not "much" '
            "(set by IOB_PRICING__ACCOUNT_MARKUP_BPS__ALICE)",
        ),
        (
            {"IOB_RISK__POSITION_MAX__BTC": "-5"},
            "risk.position_max: BTC must be a number from 0 to 10000000000 with at most 8 decimals, not -5 "
            "(set by IOB_RISK__POSITION_MAX__BTC)",
        ),
        (
            {"IOB_LEDGER__URL": "mysql://desk:hunter2@db/iob"},
            "ledger.url: must be an address sqlite:///path or postgresql://user:password@host/database "
            "(set by IOB_LEDGER__URL)",
        ),
        (
            {"IOB_VENUES__KRAKEN__SYMBOLS": '{"BTC/USDT": "ETH/USD"}'},
            "venues.kraken.symbols: BTC/USDT cannot be served from ETH/USD: their base assets differ "
            "(set by IOB_VENUES__KRAKEN__SYMBOLS)",
        ),
        (
            {"IOB_QUOTES__TOLERANCE_BPS": "Infinity"},
            "quotes.tolerance_bps: must be a number from 0 to 9999 with at most 6 decimals, not Infinity "
            "(set by IOB_QUOTES__TOLERANCE_BPS)",
        ),
        (
            {"IOB_VENUES__KRAKN__DEPTH": "5"},
            'venues.krakn.exchange: ccxt knows no exchange "krakn"; did you mean kraken?',
        ),
    ],
)
def test_mistake_in_environment_names_its_variable(
    settings_file: Path, variables: dict[str, str], expected: str
) -> None:
    """
    Whoever mistyped a variable is told which one.
    """
    settings_file.write_text(MINIMAL)

    assert [expected] == problems_of(settings_file, variables, EXCHANGES)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("http://127.0.0.1:9001", True),
        ("https://sim.example/venues/", True),
        ("http://[::1]:9001", True),
        ("ftp://127.0.0.1", False),
        ("127.0.0.1:9001", False),
        ("http://", False),
        ("http://h:99999", False),
        ("http://h:0", False),
        ("http://[::1", False),
        ("http://desk:hunter2@h", False),
        ("http://@h", False),
        ("http://h/?key=hunter2", False),
        ("http://h /", False),
    ],
)
def test_base_url_is_a_plain_web_address(settings_file: Path, url: str, taken: bool) -> None:
    """
    A venue is redirected to a web address; one that is none is refused without showing it.
    """
    settings_file.write_text(f'service.mode = "simulated"\n{MINIMAL}base_url = "{url}"')
    if taken:
        assert url.rstrip("/") == load_settings(settings_file, {}).venues["kraken"].base_url
    else:
        assert [
            "venues.kraken.base_url: must be an address http://… or https://… without user, password, query or fragment"
        ] == problems_of(settings_file)


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (
            "[]",
            "must be a list of at least one BASE/QUOTE in upper-case letters and digits, none twice, "
            'like ["BTC/USDT"], not a list',
        ),
        (
            '"BTC/USDT"',
            "must be a list of at least one BASE/QUOTE in upper-case letters and digits, none twice, "
            'like ["BTC/USDT"], not "BTC/USDT"',
        ),
        (
            '["btc/usdt", 5, "A/B", "A/B"]',
            '"btc/usdt" is not BASE/QUOTE in upper-case letters and digits; '
            '5 is not BASE/QUOTE in upper-case letters and digits; "A/B" stands there twice',
        ),
        ('["BTC/USDT\\n"]', '"BTC/USDT\\n" is not BASE/QUOTE in upper-case letters and digits'),
    ],
)
def test_symbols_are_written_in_one_way(settings_file: Path, symbols: str, expected: str) -> None:
    """
    Every symbol that is wrong is named.
    """
    settings_file.write_text(f"market.symbols = {symbols}\n[venues.kraken]")

    assert [f"market.symbols: {expected}"] == problems_of(settings_file)


@pytest.mark.parametrize(
    ("mode", "venues", "expected"),
    [
        ("live", {"a": "", "b": ""}, None),
        ("live", {"a": "", "b": "url off"}, None),
        (
            "live",
            {"a": "url", "b": "url"},
            'service.mode: is "live", where no enabled venue may have a base_url, '
            'but a, b have one; remove it, or set mode = "simulated"',
        ),
        ("simulated", {"a": "url", "b": "url"}, None),
        ("simulated", {"a": "url", "b": "off"}, None),
        (
            "simulated",
            {"a": "url", "b": ""},
            'service.mode: is "simulated", where every enabled venue needs a base_url, '
            'but b has none; set it, set enabled = false there, or set mode = "live"',
        ),
        ("replay", {"a": "replay", "b": "replay", "c": "url off"}, None),
        (
            "replay",
            {"a": "replay", "b": ""},
            'service.mode: is "replay", where every enabled venue needs transport = "replay", but b has another; '
            'set it, set enabled = false there, or set mode = "live"',
        ),
        (
            "replay",
            {"a": "replay", "b": "replay url"},
            'service.mode: is "replay", where no enabled venue may have a base_url, but b has one; '
            'remove it, or set mode = "simulated"',
        ),
        (
            "live",
            {"a": "replay", "b": "replay", "c": ""},
            'service.mode: is "live", where no enabled venue may have transport = "replay", but a, b have it; '
            'change it, or set mode = "replay"',
        ),
        (
            "simulated",
            {"a": "replay url"},
            'service.mode: is "simulated", where no enabled venue may have transport = "replay", but a has it; '
            'change it, or set mode = "replay"',
        ),
        (
            "live",
            {"a": "off"},
            "venues: at least one venue must be enabled; a venue is a table such as [venues.kraken]",
        ),
        ("live", {}, "venues: at least one venue must be enabled; a venue is a table such as [venues.kraken]"),
    ],
)
def test_mode_and_venues_agree_on_what_is_real(
    settings_file: Path, mode: str, venues: dict[str, str], expected: str | None
) -> None:
    """
    Live prices never come from a simulator or a recording, nor simulated or recorded ones from a venue.
    """
    lines = [f'service.mode = "{mode}"', 'market.symbols = ["BTC/USDT"]']
    lines += ['replay.file = "x.rec"'] * (mode == "replay")
    for name, marks in venues.items():
        lines.append(f"[venues.{name}]")
        lines += ['base_url = "http://h"'] * ("url" in marks) + ["enabled = false"] * ("off" in marks)
        lines += ['transport = "replay"'] * ("replay" in marks)
    settings_file.write_text("\n".join(lines))
    if expected is None:
        assert mode == load_settings(settings_file, {}).service.mode
    else:
        assert [expected] == problems_of(settings_file)


def test_replay_needs_a_recording_and_may_go_stale_as_it_likes(settings_file: Path) -> None:
    """
    Without a file there is nothing to play; how often a venue would be asked means nothing there.
    """
    text = f"{MINIMAL}transport = 'replay'\nstale_after_ms = 800\n[service]\nmode = 'replay'\n"
    settings_file.write_text(text)

    assert ['replay.file: is needed in mode "replay": the recording to be played'] == problems_of(settings_file)
    settings_file.write_text(f"{text}[replay]\nfile = 'x.rec'\nspeed = 2.5")
    settings = load_settings(settings_file, {})
    assert ("x.rec", Decimal("2.5"), 800) == (
        settings.replay.file,
        settings.replay.speed,
        settings.venues["kraken"].stale_after_ms,
    )


def test_all_mistakes_are_reported_at_once(settings_file: Path) -> None:
    """
    An operator mends a file once, not once per mistake.
    """
    settings_file.write_text("""
        [service]
        prot = 1
        port = -1
        [market]
        venues_min = 0
        [venues.krakn]
        depth = "all"
        base_url = "http://h"
        symbols = { "BTC/USDT" = "ETH/USD" }
        [pricing]
        account_markup_bps = { alice = "much" }
    """)

    found = problems_of(settings_file, {"IOB_QUOTES__TTL": "1"}, EXCHANGES)

    assert {
        "service.prot",
        "service.port",
        "market.symbols",
        "market.venues_min",
        "venues.krakn.depth",
        "venues.krakn.exchange",
        "venues.krakn.symbols",
        "service.mode",
        "quotes.ttl",
        "pricing.account_markup_bps",
    } == {problem.split(":")[0] for problem in found}
    assert 10 == len(found)


@pytest.mark.parametrize("symbol", ["btc/usdt", "BTC\\nUSDT", "B" * 9_000])
def test_symbol_that_is_none_is_one_mistake_on_one_line(settings_file: Path, symbol: str) -> None:
    """
    What cannot be a symbol is named once, and briefly; whether it is served is not asked any more.
    """
    settings_file.write_text(f'{MINIMAL}symbols = {{ "{symbol}" = "BTC/USD" }}')

    (problem,) = problems_of(settings_file)
    assert problem.startswith('venues.kraken.symbols: "')
    assert problem.endswith('= "BTC/USD" is not a pair of BASE/QUOTE')
    assert len(problem) < 150


def test_every_line_of_a_table_of_symbols_is_checked(settings_file: Path) -> None:
    """
    A symbol that nobody is to serve and one that cannot be converted are named in one go, of every venue.
    """
    settings_file.write_text("""
        market.symbols = ["BTC/USDT", "ETH/USDT"]
        [venues.kraken]
        symbols = { "BTC/USDT" = "ETH/USD", "ETH/UST" = "ETH/USD" }
        [venues.okx]
        symbols = { "BTC/UST" = "BTC/USD" }
        [venues.bybit]
        enabled = false
        symbols = { "BTC/UST" = "BTC/USD" }
    """)

    assert [
        "venues.kraken.symbols: BTC/USDT cannot be served from ETH/USD: their base assets differ",
        "venues.kraken.symbols: ETH/UST is not in market.symbols; did you mean ETH/USDT?",
        "venues.okx.symbols: BTC/UST is not in market.symbols; did you mean BTC/USDT?",
    ] == problems_of(settings_file)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"[service]\nport = \n", "line 2, column 8: not TOML: Invalid value"),
        (b"[service]\nport", "line 2, column 5: not TOML: Expected '=' after a key in a key/value pair"),
        (b"a = 1\nb = '\xff'\n", "line 2, column 6: not UTF-8; save the file as UTF-8"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"9" * 5000, "a number has too many digits"),
    ],
)
def test_file_that_cannot_be_parsed_is_one_problem_with_its_place(
    settings_file: Path, data: bytes, expected: str
) -> None:
    """
    A file that is no TOML is reported with line and column.
    """
    settings_file.write_bytes(data)

    assert [f"{settings_file}: {expected}"] == problems_of(settings_file)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absent.toml", "cannot be read: No such file or directory"),
        ("", "cannot be read: Is a directory"),
    ],
)
def test_file_that_cannot_be_read_is_one_problem(tmp_path: Path, name: str, expected: str) -> None:
    """
    A missing file is said to be missing.
    """
    assert [f"{tmp_path / name}: {expected}"] == problems_of(tmp_path / name)


def test_file_with_byte_order_mark_is_read(settings_file: Path) -> None:
    """
    What some editors put before the text does no harm.
    """
    settings_file.write_text(MINIMAL, encoding="utf-8-sig")

    assert ("BTC/USDT",) == load_settings(settings_file, {}).market.symbols


def test_environment_alone_is_enough() -> None:
    """
    A container needs no file.
    """
    settings = load_settings(None, {"IOB_MARKET__SYMBOLS": '["BTC/USDT"]', "IOB_VENUES": '{"kraken": {}}'})

    assert ["kraken"] == list(settings.venues)


@given(st.decimals(0, 9999, places=6), st.sampled_from(["toml", "text", "env"]))
def test_basis_points_are_what_was_written(tmp_path_factory: pytest.TempPathFactory, bps: Decimal, how: str) -> None:
    """
    A tenth of a basis point is a tenth, not the nearest binary fraction.
    """
    path = tmp_path_factory.getbasetemp() / "bps.toml"
    written = f'"{bps:f}"' if how == "text" else f"{bps:f}"
    path.write_text(MINIMAL + (f"[pricing]\nmarkup_bps = {written}" if how != "env" else ""))
    env = {"IOB_PRICING__MARKUP_BPS": written} if how == "env" else {}

    markup_bps = load_settings(path, env).pricing.markup_bps

    assert Fraction(bps) == Fraction(markup_bps)
    assert str(markup_bps) == f"{bps:f}".rstrip("0").rstrip(".")


NAMES = ["service", "port", "mode", "market", "symbols", "venues", "kraken", "exchange", "base_url", "x", ""]
TEXTS = ["{}", "[]", "null", "1", '{"kraken": 1}', '{"kraken": {"exchange": []}}', '{"mode": {}}', '{"": {"": 1}}']


@given(
    st.dictionaries(
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(tuple),
        st.sampled_from(TEXTS) | st.text('a1"[]{}:,.\n\udcff', max_size=8),
        max_size=6,
    )
)
def test_any_environment_is_taken_or_refused_in_sentences(variables: dict[tuple[str, ...], str]) -> None:
    """
    No environment, however odd, ends in anything but settings or a list of problems.
    """
    env = {"IOB_" + "__".join(path).upper(): text for path, text in variables.items()}
    problems = ["-: settings"]
    try:
        load_settings(None, env, exchanges=EXCHANGES)
    except ConfigError as error:
        problems = error.problems

    assert problems
    assert all(": " in problem and "\n" not in problem for problem in problems)


def test_secret_addresses_are_not_in_the_repr(settings_file: Path) -> None:
    """
    Printing the settings shows no address that may hold a password.
    """
    settings_file.write_text(f'service.mode = "simulated"\n{MINIMAL}base_url = "http://hidden"')

    assert "hidden" not in repr(load_settings(settings_file, {}))


def test_reading_settings_does_not_import_ccxt() -> None:
    """
    Commands that need no venue start without the seconds that ccxt takes.
    """
    code = "import sys, service.settings; print(sorted({'ccxt', 'aiohttp', 'pydantic_settings'} & set(sys.modules)))"

    assert "[]\n" == subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout


# The file at the root and the page say what the model says


def keys_of_model() -> dict[str, tuple[object, str]]:
    """Return default and accepted values of each key; the default of a venue's optional ones is None."""
    keys = {}
    for table, field in Settings.model_fields.items():
        model = VenueSettings if table == "venues" else field.annotation
        assert isinstance(model, type)
        assert issubclass(model, Table)
        prefix = "venues.NAME" if table == "venues" else table
        for key, inner in model.model_fields.items():
            default = None if inner.is_required() else inner.default
            keys[f"{prefix}.{key}"] = (list(default) if isinstance(default, tuple) else default, accepted(inner))
    return keys


def test_settings_file_shows_every_key_with_its_default() -> None:
    """
    What an operator reads in the file is what would hold without it.
    """
    text = (ROOT / "settings.toml").read_text()
    tree = tomllib.loads(text, parse_float=Decimal)
    first, *others = tree.pop("venues").items()
    shown = {f"{table}.{key}": value for table, keys in tree.items() for key, value in keys.items()}
    shown |= {f"venues.NAME.{key}": value for key, value in first[1].items()}
    commented = {f"venues.NAME.{key}" for key in re.findall(r"^# (\w+) = ", text, re.MULTILINE)}
    model = keys_of_model()

    assert model.keys() == shown.keys() | commented
    assert {key for key, (default, _) in model.items() if default is None} == (
        commented | {"market.symbols", "venues.NAME.exchange"}
    )
    assert {key: default for key, (default, _) in model.items() if default is not None} == {
        key: value for key, value in shown.items() if key not in ("market.symbols", "venues.NAME.exchange")
    }
    assert all(not keys for _, keys in others)
    assert "kraken" == first[0] == first[1]["exchange"]


def test_settings_file_is_accepted() -> None:
    """
    The file that comes with the project starts the service.
    """
    settings = load_settings(ROOT / "settings.toml", {}, exchanges=EXCHANGES)

    assert ["kraken", "coinbaseexchange", "binance", "okx", "bybit", "bitstamp"] == list(settings.venues)
    assert ("BTC/USDT", "ETH/USDT") == settings.market.symbols


def test_examples_in_comments_of_the_file_are_accepted(settings_file: Path) -> None:
    """
    Taking away the # before an example gives a value that is accepted; only the address asks for the other mode.
    """
    text = (ROOT / "settings.toml").read_text()
    settings_file.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))

    (problem,) = problems_of(settings_file, known=EXCHANGES)
    assert problem.startswith('service.mode: is "live"')


def test_every_key_of_the_file_has_a_comment() -> None:
    """
    No key stands without a word about it, apart from a port under its host.
    """
    lines = (ROOT / "settings.toml").read_text().splitlines()
    bare = [line for before, line in pairwise(lines) if re.match(r"(# )?\w+ = ", line) and not before.startswith("# ")]

    assert ["port = 8080"] == bare


def test_page_lists_every_key_with_default_and_range() -> None:
    """
    The page of settings is the model's, row by row.
    """
    text = (ROOT / "docs/settings.md").read_text()
    rows = [re.split(r" \| ", line.strip("| ")) for line in text.splitlines() if re.match(r"\| `[a-z]", line)]
    model = keys_of_model()

    assert list(model) == [row[0].strip("`") for row in rows]
    for row in rows:
        key, default, values, meaning = row
        expected, taken = model[key.strip("`")]
        assert taken == values, key
        assert meaning.endswith("."), key
        if expected is None:
            assert re.match(r"required$|none: |the table's name$", default), key
        else:
            assert expected == tomllib.loads(f"x = {default.strip('`')}")["x"], key


def test_page_lists_every_secret() -> None:
    """
    The variables that are left alone are the ones the page says.
    """
    text = (ROOT / "docs/settings.md").read_text()

    assert set(SECRETS) == set(re.findall(r"^\| `(IOB_\w+)` \|", text, re.MULTILINE))
