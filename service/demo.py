"""Run the whole service on simulated venues, with everything made for a newcomer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from exchanges.simulator import Play
from service.app import serve
from service.errors import ConfigError
from service.keys import SCOPES, KeyRing, load_pepper
from service.ledger.opening import ledger_path, open_ledger
from service.progress import progress
from service.settings import Settings

ACCOUNT = "demo"
_KEYS = {"api-key": SCOPES[:-1], "admin-key": SCOPES}
_READY_WITHIN_S = 60


async def run_demo(
    settings: Settings,
    env: Mapping[str, str],
    data: Path,
    simulator_url: str,
    play: Play | None,
    say: Callable[[str], None],
    read: Callable[[], Settings],
) -> int:
    """
    Serve until stopped; keys in ``<data>/api-key`` and ``<data>/admin-key`` are made, or kept if they still work.

    Args:
        play: What happens on the simulated venues, if anything; it is announced here, and played by them.
        say: Tells a person the address and, once the service is ready, what to try.
        read: Gives the settings anew.
    """

    def announce(address: str) -> None:
        pages = f"dashboard: {address}/, API browser: {address}/docs"
        say(f"internal order book on {address} ({pages}), simulated prices, mock execution")
        say(f"simulated venues on {simulator_url} (faults: POST {simulator_url}/faults)")
        if play is not None:
            say(play.invitation(simulator_url))

    return await serve_newcomer(settings, env, data, announce, say, read)


async def serve_newcomer(
    settings: Settings,
    env: Mapping[str, str],
    data: Path,
    announce: Callable[[str], None],
    say: Callable[[str], None],
    read: Callable[[], Settings],
) -> int:
    """
    Serve until stopped, for somebody who has no keys yet: they are made in the folder *data*, or kept if they work.

    Args:
        announce: Told the address.
        say: Tells a person, once the service is ready, what to try.
        read: Gives the settings anew.
    """
    for name, scopes in _KEYS.items():
        await _keep_or_make_key(settings, env, data / name, scopes)
    api_key = _read_key(data / "api-key")
    symbol = settings.market.symbols[0]

    async def invite(address: str) -> None:
        announce(address)
        await _until_ready(address)
        say(f"API key: {api_key}   (also in {data / 'api-key'}; {data / 'admin-key'} has all scopes)")
        say("in another shell, for the commands and the Python client of the README:")
        say(f"  export IOB_URL={address} IOB_API_KEY={api_key}")
        say("try:")
        say(f"  curl -H 'X-API-Key: {api_key}' '{address}/quote?symbol={symbol}&quantity=1.5'")

    await serve(settings, env, invite, read)
    return 0


async def _keep_or_make_key(settings: Settings, env: Mapping[str, str], file: Path, scopes: Collection[str]) -> None:
    path = ledger_path(settings)
    ring = KeyRing(load_pepper(env, path).secret, settings.service.mode)
    ledger = open_ledger(settings)
    try:
        ring.hold(await ledger.keys())
        if ring.check(_read_key(file)) is not None:
            _keep_private(file)
            return
        text, key = ring.make(ACCOUNT, scopes, datetime.now(UTC))
        await ledger.open_account(ACCOUNT, key.created_at)
        await ledger.add_key(key)
        _write_private(file, text)
    finally:
        await ledger.close()


def _read_key(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError([f"{file} cannot be read: {error.strerror}"]) from error


def _keep_private(file: Path) -> None:
    """Take a key's file away from other users, whatever happened to it since it was made."""
    file.chmod(0o600)


def _write_private(file: Path, text: str) -> None:
    """Replace a file whole by one that nobody else can read."""
    new = file.with_name(file.name + ".new")
    try:
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(text)
        new.replace(file)
    except OSError as error:
        raise ConfigError([f"{file} cannot be written: {error.strerror}"]) from error


async def _until_ready(address: str) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_WITHIN_S
    with progress("waiting for prices") as shown:
        async with aiohttp.ClientSession() as session:
            while asyncio.get_running_loop().time() < deadline:
                async with session.get(f"{address}/readyz") as response:
                    if response.status == 200:
                        return
                    shown.tell(doing=f"waiting for {_missing(await response.json(content_type=None))}")
                await asyncio.sleep(0.1)


def _missing(answer: Mapping[str, Any]) -> str:
    """Name the symbols that have no price yet, each with how many venues are there of those it needs."""
    short = [one for one in answer.get("symbols", ()) if one["live_venues"] < one["venues_min"]]
    named = [f"{one['symbol']} ({one['live_venues']} of {one['venues_min']} venues)" for one in short]
    return ", ".join(named) or "prices"
