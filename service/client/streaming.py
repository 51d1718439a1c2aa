"""Follow the market over one WebSocket that is made anew when it breaks.

Between the connection and whoever iterates stands the latest value of each subscription, never a queue: a slow reader
skips.  Executions are the exception, each of them is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import orjson

from service.client.channels import Subscription
from service.client.decoding import Undecodable, decode
from service.client.errors import (
    NoAnswer,
    OrderBookError,
    UnexpectedAnswer,
    problem_error,
    status_error,
)
from service.client.market import Book, Venue, Venues
from service.client.quotes import Quote
from service.client.record import Execution
from service.client.sending import Sender, read_retry_after

_SILENT_S = 20.0
"""After so long without a word the service is asked whether it is still there; no answer ends the connection."""
_CLOSES_WITHIN_S = 2.0
_MESSAGE_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _FromService:
    """
    Something that the service tells of a subscription.

    Args:
        sequence: Counts what the subscription was told on this connection; numbers are left out where it was skipped.
        raw: The frame as it came.
    """

    subscription: Subscription
    sequence: int
    raw: Mapping[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteUpdate(_FromService):
    """A quote as it is now; it can be executed until it expires."""

    quote: Quote


@dataclass(frozen=True, slots=True, kw_only=True)
class BookUpdate(_FromService):
    """The consolidated book as it is now."""

    book: Book


@dataclass(frozen=True, slots=True, kw_only=True)
class VenuesUpdate(_FromService):
    """The venues as they are now."""

    venues: tuple[Venue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionUpdate(_FromService):
    """An execution that has come on record."""

    execution: Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class NoValue(_FromService):
    """There is no value at present, and the one before does not count any more; or executions were left out."""

    error: OrderBookError


@dataclass(frozen=True, slots=True)
class Interrupted:
    """There is no connection: all that was given is getting old until there is another value of it."""

    error: OrderBookError


@dataclass(frozen=True, slots=True)
class Resumed:
    """There is a connection again, and everything is subscribed to; executions in between are not told of."""

    after_s: float


Update = QuoteUpdate | BookUpdate | VenuesUpdate | ExecutionUpdate | NoValue | Interrupted | Resumed


class Stream:
    """
    What is subscribed to, as it changes: `async for update in stream`.

    It ends by ``close``, with the client, or with an error that connecting anew does not mend: the key is refused, or a
    subscription will never do.
    """

    def __init__(self, sender: Sender, subscriptions: Iterable[Subscription], closed: Callable[[Stream], None]) -> None:
        """Connect when the first update is asked for; tell *closed* at the end."""
        self._sender, self._closed = sender, closed
        self._subscriptions = {subscription.id: subscription for subscription in subscriptions}
        self._waiting: dict[object, Update] = {}
        self._something = asyncio.Event()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self._attempt = 0
        self._broken_at: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        if self._task is None and not self._ended:
            self._task = asyncio.create_task(self._follow())
            self._task.add_done_callback(lambda _: self._something.set())
        while not self._waiting:
            if self._ended or self._task is None:
                raise StopAsyncIteration
            if self._task.done():
                task = self._task
                await self.close()
                task.result()
            self._something.clear()
            await self._something.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether what is given is being kept up to date."""
        return self._socket is not None and not self._socket.closed

    async def subscribe(self, subscription: Subscription) -> None:
        """Follow something more."""
        self._subscriptions[subscription.id] = subscription
        await self._tell(subscription, "subscribe")

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Follow something no longer."""
        self._subscriptions.pop(subscription.id, None)
        self._waiting.pop(subscription.id, None)
        await self._tell(subscription, "unsubscribe")

    async def close(self) -> None:
        """End; whoever iterates is at the end, too."""
        self._ended = True
        self._something.set()
        self._closed(self)
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        self._waiting.clear()

    # The connection

    async def _follow(self) -> None:
        """Keep a connection until one is refused for good."""
        retries = self._sender.retries
        while True:
            try:
                error = await self._listen()
            except OrderBookError as refused:
                if refused.retry == "never":
                    raise
                error = refused
            except (aiohttp.ClientError, TimeoutError, OSError) as broken:
                error = self._lost(type(broken).__name__)
            if self._broken_at is None:
                self._broken_at = retries.clock()
                self._waiting.pop(Resumed, None)
                self._put(Interrupted, Interrupted(error))
            self._attempt += 1
            await retries.sleep(retries.wait_s(self._attempt, error.retry_after_s))

    async def _listen(self) -> OrderBookError:
        """Take what one connection gives, and give its end."""
        async with await self._connect() as socket:
            self._socket = socket
            try:
                for subscription in tuple(self._subscriptions.values()):
                    await self._tell(subscription, "subscribe")
                if self._broken_at is not None:
                    self._put(Resumed, Resumed(self._sender.retries.clock() - self._broken_at))
                    self._broken_at = None
                async for message in socket:
                    self._attempt = 0
                    self._take(message.data)
                return self._lost(f"closed with {socket.close_code}")
            finally:
                self._socket = None

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        sender = self._sender
        try:
            async with asyncio.timeout(sender.retries.timeout_s):
                return await sender.session.ws_connect(
                    sender.url.joinpath("v1/stream"),
                    heartbeat=_SILENT_S,
                    max_msg_size=_MESSAGE_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSES_WITHIN_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            passing = error.status == 429 or error.status >= 500
            raise status_error(
                error.status,
                f"the stream is refused with status {error.status}",
                retry="same_request" if passing else "never",
                retry_after_s=read_retry_after(error.headers or {}),
            ) from error

    async def _tell(self, subscription: Subscription, op: Literal["subscribe", "unsubscribe"]) -> None:
        """Say what is wanted, where there is a connection; the next one is told everything."""
        if self._socket is None or self._socket.closed:
            return
        try:
            await self._socket.send_str(orjson.dumps(subscription.message(op)).decode())
        except (aiohttp.ClientError, OSError):
            return  # Whoever listens to the connection meets its end as well.

    def _lost(self, reason: str) -> OrderBookError:
        return NoAnswer(f"the stream of {self._sender.url} broke ({reason})", retry="same_request")

    # What it gives

    def _take(self, text: object) -> None:
        """
        Put a frame where whoever iterates finds it.

        Raises:
            OrderBookError: If it refuses a subscription, or the stream.
        """
        try:
            frame = orjson.loads(text) if isinstance(text, str) else None
        except orjson.JSONDecodeError:
            frame = None
        if not isinstance(frame, dict):
            raise UnexpectedAnswer("a frame of the stream is no JSON object")
        subscription = self._subscriptions.get(str(frame.get("id")))
        if not isinstance(frame.get("sequence"), int):
            if isinstance(problem := frame.get("error"), dict):
                raise _refusal(problem)
        elif subscription is not None:  # Else it is about what was subscribed to a moment ago.
            key, update = _read(frame, subscription)
            self._put(key, update)

    def _put(self, key: object, update: Update) -> None:
        """Let an update wait in place of the one before it, never before something that happened earlier."""
        if Interrupted in self._waiting or Resumed in self._waiting:
            self._waiting.pop(key, None)
        self._waiting[key] = update
        self._something.set()


def _read(frame: Mapping[str, Any], subscription: Subscription) -> tuple[object, Update]:
    """Give an update, and which one before it it takes the place of."""
    sequence = frame["sequence"]
    about: dict[str, Any] = {
        "subscription": subscription,
        "sequence": sequence if isinstance(sequence, int) else 0,
        "raw": frame,
    }
    data, key = frame.get("data"), subscription.id
    if isinstance(frame.get("error"), dict):
        channel = subscription.channel
        return (key, sequence) if channel == "executions" else key, NoValue(error=_refusal(frame["error"]), **about)
    try:
        match subscription.channel:
            case "quote":
                return key, QuoteUpdate(quote=decode(Quote, data), **about)
            case "book":
                return key, BookUpdate(book=decode(Book, data), **about)
            case "venues":
                return key, VenuesUpdate(venues=decode(Venues, data).venues, **about)
            case "executions":
                return (key, sequence), ExecutionUpdate(execution=decode(Execution, data), **about)
    except Undecodable as error:
        raise UnexpectedAnswer(f"a frame of the stream cannot be read: {error}") from error


def _refusal(problem: Mapping[str, Any]) -> OrderBookError:
    status = problem.get("status")
    return problem_error(status if isinstance(status, int) else 400, problem, request_id=None)
