"""Say what happens on the simulated venues and when: a scenario, and how its file is read.

Pure.  A scenario is a seed and a list of events in simulated time, each of which switches a fault of a venue, in the
vocabulary of ``POST /faults``, or moves an asset's price or depth everywhere.  It leaves a calm market behind.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from exchanges.simulator.faults import Switch, SwitchError, read_switch
from exchanges.simulator.market import STEP_MS
from exchanges.simulator.shocks import ASSETS, ONE, Move, Shocks

SECONDS_MAX = 86_400
EVENTS_MAX = 200
OFF = "off"
"""In a file, in place of a fault: whatever is on there ends.  TOML has no null."""
PERCENT = {"price_percent": (10, 1_000), "depth_percent": (1, 1_000)}
"""What can be moved, and how far: percent of what it would be without any move."""

_WHOLE_FIELDS = ("description", "seed", "event")
_WHEN_FIELDS = ("at_s", "says")
_MOVE_FIELDS = ("asset", "over_s", *PERCENT)
_FAULT_FIELDS = ("venue", "fault", "symbol", "scope")


@dataclass(frozen=True, slots=True)
class Event:
    """What happens ``at_ms`` of simulated time, in words for people and in what is done."""

    at_ms: int
    says: str
    does: Switch | Move

    @property
    def until_ms(self) -> int:
        """Give the time at which it has happened: a move takes a while."""
        return self.at_ms + (self.does.over_ms if isinstance(self.does, Move) else 0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story told in at least one event, in the order of time, with the seed of the market that it happens to."""

    name: str
    description: str
    seed: int
    events: tuple[Event, ...]

    @property
    def ends_ms(self) -> int:
        """Give the time from which on nothing more happens."""
        return max(event.until_ms for event in self.events)

    def shocks(self) -> Shocks:
        """Give what it does to prices and depths."""
        return Shocks((event.at_ms, event.does) for event in self.events if isinstance(event.does, Move))

    def position(self, elapsed_ms: int) -> Mapping[str, object]:
        """Tell where a market that is *elapsed_ms* old stands in it: what happened last, and what comes next."""
        passed = [event for event in self.events if event.at_ms <= elapsed_ms]
        coming = self.events[len(passed) :]
        over = not coming and elapsed_ms >= self.ends_ms
        return {
            "elapsed_s": _seconds(elapsed_ms),
            "over": over,
            "now": None if over or not passed else _told(passed[-1]),
            "next": {**_told(coming[0]), "in_s": _seconds(coming[0].at_ms - elapsed_ms)} if coming else None,
            "ends_s": _seconds(self.ends_ms),
        }


def _seconds(ms: int) -> float:
    return ms / 1000


def _told(event: Event) -> dict[str, object]:
    return {"at_s": _seconds(event.at_ms), "says": event.says}


class ScenarioError(ValueError):
    """Name everything that is wrong with a scenario, one sentence each, in ``problems``."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Keep the *problems*."""
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def read_scenario(name: str, text: str) -> Scenario:
    """
    Understand the text of a scenario's file.

    Args:
        name: What the scenario is called; its problems begin with it.

    Raises:
        ScenarioError: With all that is wrong.
    """
    try:
        whole = tomllib.loads(text, parse_float=_decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ScenarioError([f"{name}: is not TOML: {error}"]) from error
    problems = [f"{name}: {problem}" for problem in _whole_problems(whole)]
    tables = whole.get("event")
    events: list[Event] = []
    for number, table in enumerate(tables if isinstance(tables, list) else [], 1):
        event, wrong = _read_event(table)
        if event is not None and events and event.at_ms < events[-1].at_ms:
            wrong.append("at_s is earlier than the event before it; write them in the order of time")
        problems += [f"{name}: event {number}: {problem}" for problem in wrong]
        events += [event] if event is not None else []
    if problems:
        raise ScenarioError(problems)
    problems = [f"{name}: {problem}" for problem in _left_behind(events)]
    if problems:
        raise ScenarioError(problems)
    return Scenario(name, whole["description"], whole["seed"], tuple(events))


def _decimal(text: str) -> Decimal:
    """Read a number exactly; one that no Decimal can hold becomes NaN, which is out of every range."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _whole_problems(whole: Mapping[str, Any]) -> list[str]:
    problems = _unknown(whole, _WHOLE_FIELDS)
    if not _is_text(whole.get("description")):
        problems.append("description must be a line of text that says what happens")
    if type(whole.get("seed")) is not int or not -(2**63) <= whole["seed"] < 2**63:
        problems.append("seed must be a whole number of at most 64 bits, such as 7")
    tables = whole.get("event")
    if not isinstance(tables, list) or not 1 <= len(tables) <= EVENTS_MAX:
        problems.append(f"needs 1 to {EVENTS_MAX} tables [[event]]")
    return problems


def _read_event(table: object) -> tuple[Event | None, list[str]]:
    """Give the event of a table, or what is wrong with it."""
    if not isinstance(table, dict):
        return None, ["must be a table [[event]]"]
    problems = []
    at_ms = _milliseconds(table.get("at_s"))
    if at_ms is None:
        problems.append(_no_seconds("at_s", table))
    if not _is_text(table.get("says")):
        problems.append("says must be a line of text that says what happens")
    fields = {field: value for field, value in table.items() if field not in _WHEN_FIELDS}
    does: Switch | Move | None
    if fields.keys() & set(_FAULT_FIELDS):
        if fields.keys() & set(_MOVE_FIELDS):
            problems.append("is of a venue or of an asset; write two events")
            fields = {field: value for field, value in fields.items() if field not in _MOVE_FIELDS}
        does, wrong = _read_switch(fields)
    else:
        does, wrong = _read_move(fields)
    problems += wrong
    if problems or at_ms is None or does is None:
        return None, problems
    return Event(at_ms, table["says"], does), []


def _read_switch(fields: Mapping[str, Any]) -> tuple[Switch | None, list[str]]:
    """Read what ``POST /faults`` would take; every field that it does not take is a problem of its own."""
    body = {field: None if (field, value) == ("fault", OFF) else value for field, value in fields.items()}
    try:
        return read_switch(body), []
    except SwitchError as error:
        whole_problem = _sentence(error)
    problems = [f"{field} is missing" for field in ("venue", "fault") if field not in body]
    good: dict[str, Any] = {"venue": "*", "fault": None}
    unsure: set[str] = set()  # Which numbers go with a fault that is not known, nobody can tell.
    for field in (*_FAULT_FIELDS, *(field for field in body if field not in _FAULT_FIELDS)):
        if field not in body or field in unsure:
            continue
        try:
            read_switch({**good, field: body[field]})
        except SwitchError as error:
            problems.append(_sentence(error))
            unsure |= body.keys() - set(_FAULT_FIELDS) if field == "fault" else set()
        else:
            good[field] = body[field]
    return None, problems or [whole_problem]


def _sentence(error: SwitchError) -> str:
    said = str(error).rstrip(".")
    nearest = f"; did you mean {' or '.join(error.nearest)}?" if error.nearest else ""
    return said[:1].lower() + said[1:] + nearest


def _read_move(fields: Mapping[str, Any]) -> tuple[Move | None, list[str]]:
    problems = _unknown(fields, _MOVE_FIELDS)
    if fields.get("asset") not in ASSETS:
        problems.append(
            f"asset must be one of {', '.join(ASSETS)}{_not(fields, 'asset')}"
            if "asset" in fields
            else "needs a venue and a fault, or an asset and where its price or depth goes"
        )
    over_ms = _milliseconds(fields.get("over_s", 0))
    if over_ms is None:
        problems.append(_no_seconds("over_s", fields))
    targets = {field: _factor(fields[field], *PERCENT[field]) for field in PERCENT if field in fields}
    if not targets and "asset" in fields:
        problems.append(f"needs {' or '.join(PERCENT)}")
    for field in [field for field, target in targets.items() if target is None]:
        low, high = PERCENT[field]
        problems.append(f"{field} must be a number from {low} to {high} with at most 4 decimals{_not(fields, field)}")
    if problems or over_ms is None:
        return None, problems
    return Move(over_ms, fields["asset"], targets.get("price_percent"), targets.get("depth_percent")), []


def _left_behind(events: Iterable[Event]) -> list[str]:
    """Say what would not be as before at the end; prices alone may stay where they went."""
    on: dict[tuple[str, str | None, bool], str] = {}
    depths: dict[str, int] = {}
    for event in events:
        does = event.does
        if isinstance(does, Move):
            depths[does.asset] = does.depth or depths.get(does.asset, ONE)
            continue
        for venue in does.venues:
            if does.fault is not None:
                on[venue, does.symbol, does.streamed] = does.fault.name
                continue
            for key in [key for key in on if key[0] == venue and does.symbol in (None, key[1])]:
                if does.scope is None or does.streamed == key[2]:
                    del on[key]
    return [
        *(
            f'{venue} is never rid of {fault}; end with an event of fault = "{OFF}"'
            for (venue, _, _), fault in on.items()
        ),
        *(
            f"the depth of {asset} never comes back; end with an event of depth_percent = 100"
            for asset, depth in depths.items()
            if depth != ONE
        ),
    ]


def _unknown(table: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    problems = []
    for field in table:
        if field not in known:
            nearest = difflib.get_close_matches(field, list(known), n=1, cutoff=0.5)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known here: {', '.join(known)}"
            problems.append(f"there is no field {field[:100]!r}; {hint}")
    return problems


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _milliseconds(seconds: object) -> int | None:
    """Give a time as a number of the market's steps, in milliseconds, or None for what is no such time."""
    if not _is_number(seconds) or not 0 <= (number := Decimal(cast("int | Decimal", seconds))) <= SECONDS_MAX:
        return None
    return int(number * 1000) if number * 1000 % STEP_MS == 0 else None


def _factor(percent: object, low: int, high: int) -> int | None:
    if not _is_number(percent) or not low <= (number := Decimal(cast("int | Decimal", percent))) <= high:
        return None
    return int(number * (ONE // 100)) if number * 10_000 % 1 == 0 else None


def _is_number(value: object) -> bool:
    return type(value) is int or (isinstance(value, Decimal) and value.is_finite())


def _no_seconds(field: str, table: Mapping[str, Any]) -> str:
    return f"{field} must be a number of seconds from 0 to {SECONDS_MAX} in steps of 0.1{_not(table, field)}"


def _not(table: Mapping[str, Any], field: str) -> str:
    value = table.get(field)
    if value is None:
        return ""
    return f", not {str(value) if isinstance(value, int | Decimal) else repr(value)[:100]}"
