"""What differs between two settings, what a running service takes over of it, and what waits for a restart."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from service.room_rules import desk_rules, door, listings, market_rules, venue_configs
from service.settings import Settings, VenueSettings
from service.settings_changes import NEEDS_RESTART, applicable, changed_keys, switched

ROOT = Path(__file__).parents[1]
RUNNING = {
    "market": {"symbols": ["BTC/USDT", "ETH/USDT"]},
    "venues": {"kraken": {"exchange": "kraken"}, "okx": {"exchange": "okx", "enabled": False}},
}
OTHERS = {
    "service.host": "0.0.0.0",
    "service.port": 9090,
    "service.mode": "simulated",
    "service.connections_per_address_max": 7,
    "service.connections_max": 7,
    "service.trusted_proxies": ["10.0.0.1"],
    "service.stream_origins": ["https://desk.example"],
    "service.streams_per_key": 7,
    "market.symbols": ["BTC/USDT"],
    "market.venues_min": 2,
    "market.crossed_bps_max": 7,
    "market.outlier_bps": 7,
    "ledger.url": "postgresql://user:secret@host/database",
    "quotes.ttl_ms": 700,
    "quotes.tolerance_bps": 7,
    "quotes.firm_ttl_ms_max": 700,
    "quotes.firm_open_max": 7,
    "quotes.firm_venues_min": 7,
    "pricing.markup_bps": 7,
    "pricing.account_markup_bps": {"alice": 7},
    "pricing.depeg_bps": 7,
    "liquidity.taken": "off",
    "liquidity.taken_half_life_ms": 7,
    "accounts.starting_balances": {"USDT": 7},
    "risk.order_notional_max": 7,
    "risk.daily_notional_max": 7,
    "risk.position_max": {"BTC": 7},
    "risk.trading_enabled": False,
    "limits.quote_per_s": 7,
    "limits.execute_per_s": 7,
    "limits.failed_keys_per_s": 7,
    "recording.file": "x.rec",
    "recording.file_mb_max": 7,
    "replay.file": "x.rec",
    "replay.speed": 7,
    "logs.format": "ecs",
    "logs.level": "error",
    "metrics.host": "0.0.0.0",
    "metrics.port": 9464,
    "venues.kraken.exchange": "bitstamp",
    "venues.kraken.enabled": False,
    "venues.kraken.transport": "stream",
    "venues.kraken.poll_interval_ms": 700,
    "venues.kraken.rate_limit_ms": 7,
    "venues.kraken.depth": 7,
    "venues.kraken.stale_after_ms": 70_000,
    "venues.kraken.taker_fee_bps": 7,
    "venues.kraken.base_url": "http://127.0.0.1:7",
    "venues.kraken.symbols": {"BTC/USDT": "BTC/USD"},
}
"""Another value for every key."""


def tree_with(*keys):
    """Give the running settings' tree with other values at some keys."""
    tree = {table: dict(values) for table, values in RUNNING.items()}
    tree["venues"] = {name: dict(values) for name, values in tree["venues"].items()}
    for dotted in keys:
        *path, key = dotted.split(".")
        table = tree
        for name in path:
            table = table.setdefault(name, {})
        table[key] = OTHERS[dotted]
    return tree


def settings_with(*keys):
    return Settings.model_validate(tree_with(*keys))


def in_force(settings):
    """Give all that a running service goes by and can change."""
    return (
        market_rules(settings),
        desk_rules(settings),
        venue_configs(settings),
        listings(settings),
        door(settings),
        settings.service.stream_origins,
        settings.service.streams_per_key,
        settings.liquidity.taken_half_life_ms,
        settings.logs.level,
    )


def test_every_key_has_another_value():
    """
    No key of the settings is left out of what follows.
    """
    keys = {f"{name}.{key}" for name, field in Settings.model_fields.items() if name != "venues"
            for key in field.annotation.model_fields}  # fmt: skip

    assert keys | {f"venues.kraken.{key}" for key in VenueSettings.model_fields} == set(OTHERS)


@pytest.mark.parametrize("key", OTHERS)
def test_key_that_differs_is_named_alone(key):
    """
    Whatever one key is changed to, that key is what has changed.
    """
    assert (key,) == changed_keys(settings_with(), settings_with(key))
    assert (key,) == changed_keys(settings_with(key), settings_with())


@pytest.mark.parametrize("key", OTHERS)
def test_key_is_taken_over_or_needs_a_restart(key):
    """
    A changed key reaches what a running service goes by, or is one of those that are said to need a restart.
    """
    running, applied = settings_with(), applicable(settings_with(), settings_with(key))

    assert (key not in NEEDS_RESTART) == (in_force(running) != in_force(applied))
    assert ((key,) if key not in NEEDS_RESTART else ()) == changed_keys(running, applied)


def test_several_keys_are_named_in_the_order_of_the_tables():
    """
    All differences are named at once, tables in the settings' order, and never a value.
    """
    keys = ("risk.trading_enabled", "ledger.url", "venues.kraken.depth", "market.venues_min")

    expected = ("market.venues_min", "ledger.url", "risk.trading_enabled", "venues.kraken.depth")
    assert expected == changed_keys(settings_with(), settings_with(*keys))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["kraken", "okx"], ()),
        (["kraken"], ("venues.okx",)),
        (["kraken", "okx", "bitstamp"], ("venues.bitstamp",)),
        (["bitstamp", "kraken"], ("venues.okx", "venues.bitstamp")),
        # The order of the tables is the order of all answers.
        (["okx", "kraken"], ("venues",)),
        (["bitstamp", "okx", "kraken"], ("venues.bitstamp", "venues")),
    ],
)
def test_venues_that_come_and_go_are_named(names, expected):
    """
    A venue that is new or gone is named as a whole.
    """
    venues = {name: RUNNING["venues"].get(name, {"exchange": name}) for name in names}

    assert expected == changed_keys(settings_with(), Settings.model_validate({**RUNNING, "venues": venues}))


def test_basis_points_written_otherwise_are_the_same():
    """
    5, 5.0 and "5" are one number.
    """
    written = [Settings.model_validate({**RUNNING, "pricing": {"markup_bps": bps}}) for bps in (5, Decimal("5.0"), "5")]

    assert () == changed_keys(written[0], written[1]) == changed_keys(written[1], written[2])


def test_switched_venue_is_all_that_differs():
    """
    Switching a venue leaves every other setting as it is, and the settings it was made from too.
    """
    settings = settings_with()

    assert ("venues.okx.enabled",) == changed_keys(settings, switched(settings, "okx", True))
    assert not settings.venues["okx"].enabled
    assert () == changed_keys(settings, switched(settings, "kraken", True))


def test_page_lists_what_needs_a_restart():
    """
    The page's list of keys that need a restart is the program's.
    """
    section = (ROOT / "docs/settings.md").read_text().split("## Changing them while")[1].split("\n## ")[0]
    listed = [line for line in section.splitlines() if line.startswith("* ")]

    assert list(NEEDS_RESTART) == [key for line in listed for key in re.findall(r"`([a-z._]+)`", line)]
