"""Send requests, each until it is answered for good, and read what comes back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
import orjson
from yarl import URL

from service.client.decoding import M, Undecodable, decode
from service.client.errors import (
    ExecutionState,
    NoAnswer,
    OrderBookError,
    OutcomeUnknown,
    UnexpectedAnswer,
    problem_error,
    read_problem,
)
from service.client.retrying import Retries, may_repeat, settle

_IDLE_S = 5.0
"""How long an unused connection is kept: shorter than any server does, or a request would meet one that is closing."""
_SHORTEST_S = 0.001
_AWAY = frozenset({429, 502, 503, 504})
"""What proxies say while the service behind them is away."""

Effect = Literal["none", "once", "each"]
"""What a request changes: nothing, something once however often it comes, or something each time."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request that is the same each time it is sent, byte for byte.

    Args:
        body: JSON.
        request_id: Finds all attempts in the service's log.
        client_order_id: Of the order that it is, if it is one.
        once: It is sent once, whatever comes back.
    """

    method: str
    path: str
    params: Mapping[str, str]
    body: bytes | None
    effect: Effect
    request_id: str
    client_order_id: str | None = None
    once: bool = False

    @classmethod
    def of(
        cls,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        effect: Effect = "none",
        once: bool = False,
    ) -> Request:
        """Make a request; *path* is percent-encoded."""
        return cls(
            method,
            path,
            params or {},
            None if body is None else orjson.dumps(body),
            effect,
            secrets.token_hex(8),
            None if body is None else body.get("client_order_id"),
            once,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service granted."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Sender:
    """The connections to one service, with one key."""

    def __init__(self, url: str, key: str, retries: Retries) -> None:
        """Take a service's address; nothing is connected yet."""
        self.url = _service_url(url)
        self._key = _sane_key(key)
        self.retries = retries
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections, while the client is open."""
        if self._session is None:
            raise RuntimeError("the client is not open: use it in `async with`")
        return self._session

    async def open(self) -> None:
        """Get ready to connect."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(keepalive_timeout=_IDLE_S), middlewares=(self._with_key,)
        )

    async def _with_key(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> Any:
        """Show the key to this service, and follow it nowhere else: aiohttp takes a WebSocket where it is sent to."""
        if request.url.origin() != self.url.origin():
            raise UnexpectedAnswer(f"{self.url} sends elsewhere")
        request.headers["X-API-Key"] = self._key
        return await handler(request)

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def message(self, kind: type[M], request: Request) -> M:
        """
        Send a request until it is answered for good, and read the answer.

        Raises:
            OrderBookError: As drawn in ``service.client.errors``.
        """
        answer = await self.send(request)
        try:
            return decode(kind, orjson.loads(answer.body))
        except (Undecodable, orjson.JSONDecodeError) as error:
            reason = str(error) if isinstance(error, Undecodable) else "it is no JSON"
            unexpected = self._unexpected(request, answer.status, answer.body, f"it cannot be read: {reason}")
            unexpected.client_order_id = request.client_order_id
            raise unexpected from error

    async def send(self, request: Request) -> Answer:
        """
        Send a request until it is answered for good.

        Raises:
            OrderBookError: As drawn in ``service.client.errors``.
        """
        retries = self.retries
        ends_at, attempt, unknown = retries.clock() + retries.deadline_s, 1, False
        attempts_max = 1 if request.once else retries.attempts_max
        while True:
            left_s = max(ends_at - retries.clock(), _SHORTEST_S)
            try:
                return await self._attempt(request, min(retries.timeout_s, left_s))
            except OrderBookError as failed:
                error = failed
            wait_s = retries.wait_s(attempt, error.retry_after_s)
            again = may_repeat(error, request.effect != "each") and attempt != attempts_max
            if not again or retries.clock() + wait_s >= ends_at:
                last = error if request.effect == "none" else settle(error, unknown)
                last.client_order_id = request.client_order_id
                raise last
            unknown = unknown or error.execution_state == "unknown"
            if retries.notice is not None:
                retries.notice(error, wait_s)
            await retries.sleep(wait_s)
            attempt += 1

    async def _attempt(self, request: Request, timeout_s: float) -> Answer:
        headers = {"X-Request-Id": request.request_id}
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with self.session.request(
                request.method,
                self.url.joinpath(request.path.lstrip("/"), encoded=True),
                params=request.params,
                data=request.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                return self._read(request, response, await response.read())
        except aiohttp.ClientConnectorError as error:
            raise self._not_reached(request, error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._lost(request, error) from error

    def _read(self, request: Request, response: aiohttp.ClientResponse, body: bytes) -> Answer:
        if 200 <= response.status < 300:
            return Answer(response.status, response.headers, body)
        raw = read_problem(response.headers.get("Content-Type", ""), body)
        retry_after_s = read_retry_after(response.headers)
        if raw is not None:
            error = problem_error(
                response.status, raw, body=body, request_id=request.request_id, retry_after_s=retry_after_s
            )
            if request.effect == "none":
                error.execution_state = "not_executed"
            raise error
        detail = f"status {response.status}, and it is no problem of this service"
        raise self._unexpected(request, response.status, body, detail, retry_after_s)

    def _unexpected(
        self, request: Request, status: int, body: bytes, detail: str, retry_after_s: float | None = None
    ) -> OrderBookError:
        """Say that what answered is not the service; a proxy whose service is away is waited for."""
        away = status in _AWAY
        kind: type[OrderBookError] = UnexpectedAnswer
        if away:
            kind = NoAnswer if request.effect == "none" else OutcomeUnknown
        return kind(
            f"what answers on {self.url} is not as expected: {detail}",
            status=status,
            execution_state=_state(request),
            retry="same_request" if away else "never",
            retry_after_s=retry_after_s,
            request_id=request.request_id,
            body=body,
        )

    def _not_reached(self, request: Request, error: aiohttp.ClientConnectorError) -> OrderBookError:
        """Say that there was no connection, so that nothing can have run; a wrong certificate stays wrong."""
        return NoAnswer(
            f"no service answers on {self.url} ({type(error).__name__})",
            retry="never" if isinstance(error, aiohttp.ClientSSLError) else "same_request",
            request_id=request.request_id,
        )

    def _lost(self, request: Request, error: Exception) -> OrderBookError:
        """Say that the connection broke, or that time was over, once the request was under way."""
        kind = NoAnswer if request.effect == "none" else OutcomeUnknown
        return kind(
            f"the connection to {self.url} broke, or time was over ({type(error).__name__})",
            execution_state=_state(request),
            retry="same_request",
            request_id=request.request_id,
        )


def _state(request: Request) -> ExecutionState:
    return "not_executed" if request.effect == "none" else "unknown"


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Give the seconds of ``Retry-After``, where it has any."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _service_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.user or url.password:
        raise ValueError("the service's address is http://host:port or https://host, without a key or a query")
    return url


def _sane_key(key: str) -> str:
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("an API key is one word of letters, digits and underscores")
    return key
