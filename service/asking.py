"""Ask a running service from the command line, and show its answer to a person or a program.

It brings neither ccxt nor the service itself along.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from rich.console import Console

from service import terminal
from service.errors import ConfigError

TIMEOUT_S = 15


def ask(
    url: str,
    key_file: Path | None,
    method: str,
    path: str,
    *,
    as_json: bool,
    params: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
) -> bool:
    """
    Send one request and show its answer; tell whether it was granted.

    Args:
        url: The service's address.
        key_file: Holds the API key; without it the variable IOB_API_KEY does.
        as_json: Print the answer as it came.

    Raises:
        ConfigError: If there is no key, or no such service.
    """
    status, answer = asyncio.run(_request(url, key_file, method, path, params, body))
    if as_json:
        sys.stdout.write(answer.decode() + "\n")
        return status < 400
    try:
        message = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise ConfigError([f"what answers there with status {status} is not this service"]) from None
    if status >= 400:
        terminal.show_problem(message, Console(stderr=True))
        return False
    show = terminal.show_quote if path == "/quote" else terminal.show_execution
    show(message, Console())
    return True


async def _request(
    url: str,
    key_file: Path | None,
    method: str,
    path: str,
    params: dict[str, str] | None,
    body: dict[str, Any] | None,
) -> tuple[int, bytes]:
    headers = {"X-API-Key": _api_key(key_file)}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.request(method, url.rstrip("/") + path, params=params, json=body) as response,
        ):
            return response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ConfigError([f"no service answers on {url} ({type(error).__name__})"]) from error


def _api_key(file: Path | None) -> str:
    """Read the key from a file or the environment; never from the command line, where others could see it."""
    try:
        key = file.read_text("ascii").strip() if file is not None else os.environ.get("IOB_API_KEY", "")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"--key-file: {file} cannot be read"]) from error
    if not key.isprintable() or not key:
        raise ConfigError(["give the API key in the variable IOB_API_KEY or with --key-file"])
    return key
