"""Read the settings once, check them all at once, and hand them on as frozen values.

Defaults, then ``settings.toml``, then variables ``IOB_…`` of the environment; the later one wins.  Nothing here
imports ccxt: a command that has it anyway passes the ids it knows, and exchanges are checked against them.

The keys themselves stand in ``service.settings_tables``.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from service.errors import ConfigError
from service.settings_tables import (
    BY_ASSET,
    SYMBOL,
    Settings,
    Table,
    VenueSettings,
    accepted,
    kinds,
    shown,
)

__all__ = ["SECRETS", "Settings", "Table", "VenueSettings", "accepted", "contradictions", "load_settings"]

ENV_PREFIX = "IOB_"
ENV_LEVEL = "__"
SECRETS = frozenset({"IOB_PEPPER", "IOB_PEPPER_FILE", "IOB_API_KEY", "IOB_URL", "IOB_TEST_POSTGRES"})
"""Variables with our prefix that are no settings: secrets, and what only clients and tests read."""

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

Tree = dict[str, Any]
KeyPath = tuple[str, ...]


def load_settings(path: Path | None, env: Mapping[str, str], *, exchanges: Collection[str] | None = None) -> Settings:
    """
    Read, merge and check the settings.

    Args:
        path: The settings file; None for the environment alone.
        env: The environment; only variables that begin with ``IOB_`` are looked at.
        exchanges: The ids ccxt knows; None leaves the venues' ``exchange`` unchecked.

    Raises:
        ConfigError: With every mistake there is, one sentence each.
    """
    tree = _read_toml(path) if path else {}
    origins, problems = _overlay_environment(tree, env)
    tree.setdefault("market", {})
    _name_exchanges(tree)
    settings = None
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += [_sentence(detail, origins) for detail in error.errors(include_url=False)]
    problems += _problems_across(tree)
    if exchanges is not None:
        problems += _unknown_exchanges(tree, sorted(exchanges), origins)
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def contradictions(settings: Settings) -> list[str]:
    """Name what does not fit together in settings that were put together otherwise than by ``load_settings``."""
    return _problems_across(settings.model_dump())


# Reading


def _read_toml(path: Path) -> Tree:
    """Parse the file; its floats become exact Decimals.  What is wrong with it is one problem."""
    name = _one_line(str(path))
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (isinstance(error, OSError) and error.strerror) or "not a file name"
        raise ConfigError([f"{name}: cannot be read: {reason}"]) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        raise ConfigError([f"{name}: line {line}, column {column}: not UTF-8; save the file as UTF-8"]) from error
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except ValueError as error:
        raise ConfigError([f"{name}: {_toml_reason(str(error), text)}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{name}: nested too deeply"]) from error


def _toml_reason(message: str, text: str) -> str:
    """Put the place first; tomllib says it last, and for the end of the file not in numbers."""
    lines = text.split("\n")
    message = message.replace("(at end of document)", f"(at line {len(lines)}, column {len(lines[-1]) + 1})")
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if not found:  # the one error without a place: more digits than Python converts
        return "a number has too many digits"
    return f"line {found[2]}, column {found[3]}: not TOML: {_one_line(found[1])}"


def _decimal(text: str) -> Decimal:
    """Read a float literal exactly; one that no Decimal can hold becomes NaN, which no setting takes."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _overlay_environment(tree: Tree, env: Mapping[str, str]) -> tuple[dict[KeyPath, str], list[str]]:
    """
    Write the variables over *tree*, whole tables before single keys.

    Returns:
        Which variable set which path, and the problems found on the way.
    """
    origins: dict[KeyPath, str] = {}
    problems = []
    ours = {name: text for name, text in env.items() if name.startswith(ENV_PREFIX) and name not in SECRETS and text}
    for name in sorted(ours, key=lambda name: (name.count(ENV_LEVEL), name)):
        path = _path(name)
        table = tree
        for depth, key in enumerate(path[:-1], start=1):
            below = table.setdefault(key, {})
            if not isinstance(below, dict):
                problems.append(f"{_dotted(path)}: {_dotted(path[:depth])} is not a table (set by {name})")
                break
            table = below
        else:
            _merge(table, path[-1], _parsed(ours[name], _field(path)))
            origins[path] = name
    return origins, problems


def _path(name: str) -> KeyPath:
    """Give the key that a variable sets: lower case, apart from assets."""
    path = tuple(name.removeprefix(ENV_PREFIX).lower().split(ENV_LEVEL))
    return (*path[:2], *(key.upper() for key in path[2:])) if path[:2] in BY_ASSET else path


def _parsed(text: str, field: FieldInfo | None) -> object:
    """Read a variable: texts as they stand; numbers, true and false, lists and tables as JSON."""
    taken = kinds(field) if field else ()
    if any(kind is str or isinstance(kind, str) for kind in taken):
        return text
    if bool in taken:
        text = text.lower()
    try:
        return json.loads(text, parse_float=_decimal, parse_constant=_decimal)
    except (ValueError, RecursionError):
        return text


def _merge(table: Tree, key: str, value: object) -> None:
    """Set ``table[key]``; a table is merged into the one there, key by key."""
    there = table.get(key)
    if isinstance(there, dict) and isinstance(value, dict):
        for below, inner in value.items():
            _merge(there, below, inner)
    else:
        table[key] = value


def _venues(tree: Tree) -> dict[str, Tree]:
    """Return the venues that are tables at least."""
    venues = tree.get("venues")
    if not isinstance(venues, dict):
        return {}
    return {name: venue for name, venue in venues.items() if isinstance(venue, dict)}


def _name_exchanges(tree: Tree) -> None:
    """Give each venue without an ``exchange`` the one its table is named after."""
    tree.setdefault("venues", {})
    for name, venue in _venues(tree).items():
        venue.setdefault("exchange", name)


# Checking what concerns several keys: on the raw tree, so that it is reported together with everything else


def _problems_across(tree: Tree) -> list[str]:
    """Check that there is a venue to ask, and what has to agree between tables."""
    enabled = {_key(name): venue for name, venue in _venues(tree).items() if venue.get("enabled", True) is not False}
    if not enabled:
        return ["venues: at least one venue must be enabled; a venue is a table such as [venues.kraken]"]
    return [
        *_mixed_modes(tree, enabled),
        *_mixed_replay(tree, enabled),
        *_unserved(tree, enabled),
        *_too_soon_stale(enabled),
    ]


def _mixed_modes(tree: Tree, venues: Mapping[str, Tree]) -> list[str]:
    """Say where real and simulated venues stand side by side."""
    mode = _mode(tree)
    redirected = [name for name, venue in venues.items() if venue.get("base_url") is not None]
    direct = [name for name in venues if name not in redirected]
    if mode in ("live", "replay") and redirected:
        return [
            f'service.mode: is "{mode}", where no enabled venue may have a base_url, but {_have(redirected)} one; '
            'remove it, or set mode = "simulated"'
        ]
    if mode == "simulated" and direct:
        return [
            f'service.mode: is "simulated", where every enabled venue needs a base_url, but {_have(direct)} none; '
            'set it, set enabled = false there, or set mode = "live"'
        ]
    return []


def _mixed_replay(tree: Tree, venues: Mapping[str, Tree]) -> list[str]:
    """Say where venues of a recording stand beside others, or a recording is missing or left over."""
    mode, replay = _mode(tree), tree.get("replay", {})
    file = isinstance(replay, dict) and replay.get("file", "")
    replayed = [name for name, venue in venues.items() if venue.get("transport") == "replay"]
    others = [name for name in venues if name not in replayed]
    problems = []
    if mode == "replay" and others:
        problems.append(
            f'service.mode: is "replay", where every enabled venue needs transport = "replay", but {_have(others)} '
            'another; set it, set enabled = false there, or set mode = "live"'
        )
    if mode == "replay" and file == "":
        problems.append('replay.file: is needed in mode "replay": the recording to be played')
    if mode in ("live", "simulated") and replayed:
        problems.append(
            f'service.mode: is "{mode}", where no enabled venue may have transport = "replay", but '
            f'{_have(replayed)} it; change it, or set mode = "replay"'
        )
    if mode in ("live", "simulated") and isinstance(file, str) and file:
        problems.append(f'replay.file: is not played in mode "{mode}"; remove it, or set mode = "replay"')
    return problems


def _mode(tree: Tree) -> object:
    service = tree.get("service", {})
    return service.get("mode", "live") if isinstance(service, dict) else None


def _have(names: list[str]) -> str:
    return f"{', '.join(names)} {'has' if len(names) == 1 else 'have'}"


def _too_soon_stale(venues: Mapping[str, Tree]) -> list[str]:
    """Name the venues whose books would go stale between two fetches, as far as the file alone can tell."""
    problems = []
    for name, venue in venues.items():
        if venue.get("transport") == "replay":
            continue  # Its books come when they were recorded.
        stale, interval = venue.get("stale_after_ms"), venue.get("poll_interval_ms", 1000)
        if type(stale) is int and type(interval) is int and 100 <= stale < 2 * interval:
            problems.append(
                f"venues.{name}.stale_after_ms: {stale} is less than twice the poll_interval_ms of {interval}; "
                f"at least {2 * interval} is needed"
            )
    return problems


def _unserved(tree: Tree, venues: Mapping[str, Tree]) -> list[str]:
    """Name what venues are to serve from another symbol, though nobody is to serve it."""
    market = tree.get("market")
    served = market.get("symbols") if isinstance(market, dict) else None
    if not isinstance(served, list | tuple):
        return []
    return [
        f"venues.{name}.symbols: {symbol} is not in market.symbols{_nearest_symbol(symbol, served)}"
        for name, venue in venues.items()
        if isinstance(own := venue.get("symbols"), dict)
        for symbol in own
        if SYMBOL.fullmatch(symbol) and symbol not in served
    ]


def _nearest_symbol(symbol: str, served: Collection[object]) -> str:
    close = difflib.get_close_matches(symbol, [one for one in served if isinstance(one, str)], n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown_exchanges(tree: Tree, exchanges: list[str], origins: Mapping[KeyPath, str]) -> list[str]:
    """Name the venues whose exchange ccxt does not know."""
    problems = []
    for name, venue in _venues(tree).items():
        exchange = venue["exchange"]
        if isinstance(exchange, str) and exchange and exchange not in exchanges:
            path = ("venues", name, "exchange")
            problems.append(
                f"{_dotted(path)}: ccxt knows no exchange {shown(exchange)}"
                f"{_nearest(exchange, exchanges)}{_origin(path, origins)}"
            )
    return problems


# Saying what is wrong


def _sentence(detail: ErrorDetails, origins: Mapping[KeyPath, str]) -> str:
    """Turn one of pydantic's findings into a sentence of ours; theirs echo values and say no ranges."""
    path = tuple(str(part) for part in detail["loc"])
    field = _field(path)
    if path[-1] == "[key]":
        path = path[:-1]
        reason = "a venue's name is 1 to 32 lower-case letters, digits, _ and -, and begins with a letter or digit"
    elif detail["type"] == "extra_forbidden":
        reason = _unknown(path, origins)
    elif detail["type"] == "missing" and field:
        reason = f"is required: {accepted(field)}"
    elif detail["type"] == "said":
        reason = detail["msg"]
    elif field and not _table(path) and path != ("venues",):
        instead = f", not {shown(detail['input'])}" if field.repr else ""
        reason = f"must be {accepted(field)}{instead}"
    else:
        reason = f"must be a table: [{_dotted(path)}]"
    return f"{_dotted(path)}: {reason}{_origin(path, origins)}"


def _unknown(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Say which known key was meant, in the writer's own notation; never repeat the value, it may be a secret."""
    table = _table(path[:-1])
    from_env = bool(_origin(path, origins))
    name_of = _variable if from_env else _dotted
    known = {key: name_of((*path[:-1], key)) for key in (table.model_fields if table else ())}
    if from_env and len(path) == 1:
        known |= {secret.removeprefix(ENV_PREFIX).lower(): secret for secret in sorted(SECRETS)}
    near = [name_of((name, path[-1])) for name in Settings.model_fields if _field((name, path[-1]))]
    near = near or [known[key] for key in difflib.get_close_matches(path[-1].lower(), known, n=2, cutoff=0.6)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"known here: {', '.join(known)}"
    return f"unknown {'key' if len(path) > 1 else 'name'}; {hint}"


def _nearest(name: str, names: Collection[str]) -> str:
    """Suggest up to three names like *name*."""
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(close)}?" if close else "; see ccxt's list of exchanges"


def _table(path: KeyPath) -> type[Table] | None:
    """Find the model of the table at *path*."""
    if not path:
        return Settings
    if path[0] == "venues":
        return VenueSettings if len(path) == 2 else None
    field = Settings.model_fields.get(path[0])
    kind = field.annotation if field and len(path) == 1 else None
    return kind if isinstance(kind, type) and issubclass(kind, Table) else None


def _field(path: KeyPath) -> FieldInfo | None:
    """Find the key at *path*; a table counts as none unless it stands at the top."""
    table = _table(path[:-1])
    return table.model_fields.get(path[-1]) if table else None


def _origin(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Name the variable that set *path*, a table around it or, in an unknown table, a key in it."""
    around = [origins[path[:length]] for length in range(len(path), 0, -1) if path[:length] in origins]
    inside = [name for key, name in origins.items() if key[: len(path)] == path]
    return next((f" (set by {name})" for name in around + inside), "")


def _variable(path: Iterable[str]) -> str:
    return ENV_PREFIX + ENV_LEVEL.join(path).upper()


def _dotted(path: Iterable[str]) -> str:
    return ".".join(_key(part) for part in path)


def _key(key: str) -> str:
    """Write a key as TOML would, on one line."""
    return key if BARE_KEY.fullmatch(key) else shown(key)


def _one_line(text: str) -> str:
    """Escape what would break a line or cannot be printed."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
