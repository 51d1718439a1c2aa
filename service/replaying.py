"""Run the whole service on a recording, with everything made for somebody who has nothing but the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from exchanges.errors import RecordingError
from exchanges.recorded import Header
from exchanges.recording import Recording
from service.demo import serve_newcomer
from service.errors import ConfigError
from service.settings import Settings, load_settings

BASE_BALANCE, QUOTE_BALANCE = "1000", "10000000"
"""What accounts begin with, so that nothing of what was recorded is refused for want of funds."""


def replay_settings(
    recording: Path, settings_file: Path | None, data: Path, speed: str | None, env: Mapping[str, str]
) -> Settings:
    """
    Give the settings of a service that plays a recording, with its record in the folder *data*.

    Args:
        settings_file: Its venues, symbols and numbers; None for those that were recorded.

    Raises:
        ConfigError: With everything that keeps it from being played.
    """
    header = _header(recording)
    variables = {
        "IOB_SERVICE__MODE": "replay",
        "IOB_REPLAY__FILE": str(recording),
        "IOB_LEDGER__URL": f"sqlite:///{data}/ledger.db",
    }
    if speed is not None:
        variables["IOB_REPLAY__SPEED"] = speed
    if settings_file is None:
        variables |= _as_recorded(header)
    return load_settings(settings_file, {**env, **variables})


def _header(recording: Path) -> Header:
    try:
        with Recording(recording) as opened:
            return opened.header
    except RecordingError as error:
        raise ConfigError([str(error)]) from error


def _as_recorded(header: Header) -> dict[str, str]:
    """Set the service up as the recorded one was: its venues, symbols and outlier rule."""
    bases, _, quotes = zip(*(symbol.partition("/") for symbol in header.symbols), strict=True)
    balances = dict.fromkeys(bases, BASE_BALANCE) | dict.fromkeys(quotes, QUOTE_BALANCE)
    venues = {
        venue.name: {"exchange": venue.exchange, "symbols": dict(venue.symbols), "transport": "replay"}
        for venue in header.venues
    }
    return {
        "IOB_MARKET__SYMBOLS": json.dumps(header.symbols),
        "IOB_MARKET__OUTLIER_BPS": str(header.outlier_bps),
        "IOB_ACCOUNTS__STARTING_BALANCES": json.dumps(balances),
        "IOB_VENUES": json.dumps(venues),
    }


async def run_replay(
    settings: Settings,
    env: Mapping[str, str],
    data: Path,
    say: Callable[[str], None],
    read: Callable[[], Settings],
) -> int:
    """Serve until stopped; see ``serve_newcomer``."""
    file, speed = settings.replay.file, settings.replay.speed
    header = _header(Path(file))

    def announce(address: str) -> None:
        pages = f"dashboard: {address}/, API browser: {address}/docs"
        say(f"internal order book on {address} ({pages}), recorded prices, mock execution")
        began, venues = f"{header.started_at:%Y-%m-%d %H:%M:%S} UTC", ", ".join(settings.venues)
        say(f"{file}: {header.market_data} books of {venues} from {began}, {speed} times as fast")

    return await serve_newcomer(settings, env, data, announce, say, read)
