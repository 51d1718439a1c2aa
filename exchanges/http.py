"""Ask venues over HTTP with bounds: answers that end at a limit, addresses that stay where they were sent.

Nothing here knows ccxt; ``exchanges.ccxt_venue`` gives ccxt the sessions made here.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

BODY_MAX_BYTES = 4 * 1024 * 1024
"""Decompressed; the largest genuine depth body on record has 1.2 MB.  Instruments may be larger."""
INSTRUMENTS_BODY_MAX_BYTES = 64 * 1024 * 1024
PAUSE_MAX_S = 86_400.0
"""After a day, a venue that asked for a longer pause is asked once whether it still means it."""
_CONNECTIONS_MAX = 4


class BodyTooLarge(Exception):
    """A venue's answer went over the limit of its kind."""


class BoundedResponse(aiohttp.ClientResponse):
    """A response that stops reading, and decompressing, at a limit."""

    body_max_bytes = BODY_MAX_BYTES

    async def read(self) -> bytes:
        """Give the body; raise ``BodyTooLarge`` once it is longer than ``body_max_bytes``."""
        if self._body is None:
            chunks: list[bytes] = []
            length = 0
            async for chunk in self.content.iter_any():
                length += len(chunk)
                if length > self.body_max_bytes:
                    self.close()
                    raise BodyTooLarge
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body


class InstrumentsResponse(BoundedResponse):
    """One for instruments, which are longer than books."""

    body_max_bytes = INSTRUMENTS_BODY_MAX_BYTES


def open_session(
    response_class: type[BoundedResponse],
    tls: object,
    base_url: str | None = None,
    *,
    connections_max: int = _CONNECTIONS_MAX,
) -> aiohttp.ClientSession:
    """
    Open a session of its own connections; closing it cuts them, whatever the other end does.

    Args:
        response_class: Sets the limit of a body.
        tls: An ``ssl.SSLContext``; anything else stands for the system's own.
        base_url: Where the venue was redirected to: requests to any other place are refused.
        connections_max: At one time, whoever waits for one; 0 for no limit.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls if isinstance(tls, ssl.SSLContext) else True, limit=connections_max),
        response_class=response_class,
        middlewares=() if base_url is None else (_only(URL(base_url).origin()),),
    )


def _only(origin: URL) -> aiohttp.ClientMiddlewareType:
    """Keep a redirected venue from reaching a real one by an address that ccxt keeps elsewhere."""

    async def refuse_other_hosts(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if request.url.with_scheme(origin.scheme).origin() != origin:
            raise aiohttp.ClientConnectionError(f"{request.url.host} is outside of base_url")
        return await handler(request)

    return refuse_other_hosts


def redirected(value: Any, base_url: str) -> Any:
    """Send every address in a structure to base_url/<host>/<path>, WebSocket ones by the WebSocket scheme."""
    if isinstance(value, dict):
        return {key: redirected(item, base_url) for key, item in value.items()}
    if isinstance(value, list):
        return [redirected(item, base_url) for item in value]
    match = re.match(r"(https?|wss?)://([^/:]+)(?::\d+)?(.*)", value) if isinstance(value, str) else None
    if match is None:
        return value
    scheme, host, path = match.groups()
    base = base_url.replace("http", "ws", 1) if scheme.startswith("ws") else base_url
    return f"{base}/{host}{path}"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """
    Read seconds or an HTTP date, by the answer's own clock where it tells it; anything else is nothing said.

    Args:
        headers: With their names in lower case.
    """
    value = headers.get("retry-after", "")
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value, re.ASCII):
        return min(float(value), PAUSE_MAX_S)
    until = _http_date(value)
    if until is None:
        return None
    now = _http_date(headers.get("date", "")) or datetime.now(UTC)
    return min(max(0.0, (until - now).total_seconds()), PAUSE_MAX_S)


def _http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
