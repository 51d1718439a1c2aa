"""Say what went wrong with a venue, by who can act.

    VenueError
    ├── VenueConfigError      the operator: a name, an interval or an address in the settings
    └── VenueFailure          time: the venue did not give what was asked; it will be asked again
        ├── VenueRefusal      the venue asked for a pause (429, 418, 403) of a stated length
        └── VenueMisuse       asking again will not help: symbol unknown, not supported, key required

    RecordingError            the operator: a recording that cannot be written, or that is not one

No exception of ccxt or aiohttp leaves ``exchanges.ccxt_venue``; these do.
"""

from __future__ import annotations


class VenueError(Exception):
    """Be the root of what this package raises."""


class VenueConfigError(VenueError):
    """Name everything in the venues' settings that cannot work, one sentence each, in ``problems``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class VenueFailure(VenueError):
    """Say that a request to a venue gave no book: ``reason`` is a word for counters, ``detail`` is for people."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class VenueRefusal(VenueFailure):
    """Say that the venue wants to be left alone for ``pause_s`` seconds."""

    def __init__(self, reason: str, detail: str, pause_s: float) -> None:
        super().__init__(reason, detail)
        self.pause_s = pause_s


class VenueMisuse(VenueFailure):
    """Say that the same request will fail in the same way until someone changes something."""


class RecordingError(Exception):
    """Say why a recording cannot be made, or be read on."""
