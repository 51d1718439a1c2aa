"""Find scenarios by name among those that are shipped, or by the path of one's own file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from exchanges.simulator.scenario import Scenario, ScenarioError, read_scenario

FILE_BYTES_MAX = 256 * 1024
_SUFFIX = ".toml"


def scenario_names() -> tuple[str, ...]:
    """Name the scenarios that are shipped, sorted; no file is read."""
    found = (files("exchanges.simulator") / "scenarios").iterdir()
    return tuple(sorted(file.name.removesuffix(_SUFFIX) for file in found if file.name.endswith(_SUFFIX)))


@lru_cache(maxsize=1)
def shipped_scenarios() -> Mapping[str, Scenario]:
    """Read all scenarios that are shipped, by name."""
    return {name: load_scenario(name) for name in scenario_names()}


def load_scenario(name_or_path: str) -> Scenario:
    """
    Read a scenario.

    Args:
        name_or_path: The name of a shipped one; what contains a slash or ends in ``.toml`` is the path of a file.

    Raises:
        ScenarioError: There is none of that name, with the nearest, or the file cannot be read, or says what cannot be.
    """
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith(_SUFFIX):
        return read_scenario(name_or_path, _read(name_or_path))
    names = scenario_names()
    if name_or_path not in names:
        nearest = difflib.get_close_matches(name_or_path[:100], names, n=1, cutoff=0.5)
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        listed = f"there are {', '.join(names)}, and your own by the path of a file {_SUFFIX}"
        raise ScenarioError([f"there is no scenario {name_or_path[:100]!r}; {meant}{listed}"])
    file = files("exchanges.simulator") / "scenarios" / f"{name_or_path}{_SUFFIX}"
    return read_scenario(name_or_path, file.read_text("utf-8"))


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (isinstance(error, OSError) and error.strerror) or "not a file name"
        raise ScenarioError([f"{path}: cannot be read: {reason}"]) from error
    if len(data) > FILE_BYTES_MAX:
        raise ScenarioError([f"{path}: is longer than {FILE_BYTES_MAX} bytes, which no scenario needs"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScenarioError([f"{path}: is not UTF-8; save it as UTF-8"]) from error
