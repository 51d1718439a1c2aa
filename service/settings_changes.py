"""Say what differs between two settings, and which of it a running service can take over.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from service.settings import Settings, Table
from service.settings_tables import VenueSettings

NEEDS_RESTART: Final = (
    "service.host",
    "service.port",
    "service.mode",
    "service.connections_per_address_max",
    "service.connections_max",
    "ledger.url",
    "liquidity.taken",
    "recording.file",
    "recording.file_mb_max",
    "replay.file",
    "replay.speed",
    "logs.format",
    "metrics.host",
    "metrics.port",
)
"""Keys that a running service keeps as they are; every other key is taken over."""


def changed_keys(before: Settings, after: Settings) -> tuple[str, ...]:
    """
    Name the keys that differ, as ``table.key``, in the order of the tables; never their values, some are secret.

    A venue's keys are ``venues.NAME.key``; a venue that comes or goes is ``venues.NAME``, and a new order of venues,
    which is the order of all answers, is ``venues``.
    """
    tables = [name for name in Settings.model_fields if name != "venues"]
    changed = [key for name in tables for key in _differences(name, getattr(before, name), getattr(after, name))]
    return (*changed, *_changed_venues(before, after))


def _differences(name: str, before: Table, after: Table) -> Iterable[str]:
    return [f"{name}.{key}" for key in type(before).model_fields if getattr(before, key) != getattr(after, key)]


def _changed_venues(before: Settings, after: Settings) -> list[str]:
    changed = []
    for name in dict.fromkeys((*before.venues, *after.venues)):
        if name not in before.venues or name not in after.venues:
            changed.append(f"venues.{name}")
        else:
            changed += _differences(f"venues.{name}", before.venues[name], after.venues[name])
    stayed = [
        [name for name in one.venues if name in other.venues] for one, other in ((before, after), (after, before))
    ]
    return changed if stayed[0] == stayed[1] else [*changed, "venues"]


def applicable(running: Settings, wanted: Settings) -> Settings:
    """Give the wanted settings with all that needs a restart as it is running."""
    tables: dict[str, Table] = {}
    for dotted in NEEDS_RESTART:
        name, _, key = dotted.partition(".")
        table = tables.get(name, getattr(wanted, name))
        tables[name] = table.model_copy(update={key: getattr(getattr(running, name), key)})
    return wanted.model_copy(update=tables)


def switched(settings: Settings, venue: str, enabled: bool) -> Settings:
    """Give the settings with one of their venues switched on or off."""
    changed: VenueSettings = settings.venues[venue].model_copy(update={"enabled": enabled})
    return settings.model_copy(update={"venues": {**settings.venues, venue: changed}})
