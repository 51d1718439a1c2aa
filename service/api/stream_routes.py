"""``GET /v1/stream``: the handshake, and the conversation with one client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aiohttp import WebSocketError, WSMsgType, web
from aiohttp_apispec import docs

from exchanges.book import Side
from service.addresses import network_of
from service.api.answers_stream import StreamFrameSchema
from service.api.guard import GUARD
from service.api.handlers import API, GENERAL, ask_of, operation, venue_faults
from service.api.middleware import LIMIT, RECORD, REQUEST_ID, needs
from service.api.parsing import BODY_MAX_BYTES
from service.api.stream import STREAMS, Streams
from service.api.stream_client import CLOSE_WITHIN_S, POLICY, TRY_LATER, UNSUPPORTED, Client
from service.api.stream_messages import (
    AUTH,
    BOOK,
    EXECUTIONS,
    PING,
    QUOTE,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Said,
    done_frame,
    heading,
    load,
    read,
    refused_frame,
)
from service.api.stream_topics import BookTopic, ExecutionsTopic, QuoteTopic, Topic, VenuesTopic
from service.desk.orders import QuoteRequest
from service.errors import Fault, RequestError, Unavailable
from service.keys import Principal
from service.market.symbols import resolve

SUBSCRIPTIONS_MAX = 50
MESSAGES_AT_ONCE, MESSAGES_PER_S = 100, 20
"""A client that sends more is heard more slowly."""


def _check_handshake(request: web.Request) -> Principal | None:
    """
    Refuse what is no handshake, or comes from another's page; gives whom a header stands for, if there is one.

    Raises:
        RequestError: 401, 403 or 400.
    """
    upgrades = request.headers.get("Upgrade", "").strip().lower() == "websocket"
    principal = None
    if not upgrades or "X-API-Key" in request.headers or "Authorization" in request.headers:
        principal = request.app[GUARD].identify(request)
        if "quote" not in principal.scopes:
            raise RequestError("insufficient_scope", "a stream needs a key with the scope 'quote'")
    origins = request.headers.getall("Origin", [])
    if origins and not _may_open(request, origins):
        raise RequestError("origin_not_allowed", "pages of this origin may not open a stream here")
    if not upgrades or "Sec-WebSocket-Protocol" in request.headers:
        raise RequestError("malformed_request", "this route speaks WebSocket, version 13, and no subprotocol")
    if principal is not None:
        limit = request.app[GUARD].count(principal, "quote")
        if limit is not None:
            request[LIMIT] = limit
    return principal


def _may_open(request: web.Request, origins: list[str]) -> bool:
    """Tell whether a browser's page is the service's own, or of an origin that the settings name."""
    if len(origins) != 1:
        return False
    origin = origins[0].lower()
    scheme, _, host = origin.partition("://")
    own = scheme in ("http", "https") and host == request.host.lower() and bool(host)
    return own or origin in request.app[API].switching.settings.service.stream_origins


@needs(None)
@docs(security=[{"header": []}, {"bearer": []}, {}])
@operation(
    "Open stream",
    "A WebSocket: subscribe to books, to quotes at your quantity, to the venues' states and to your executions. "
    "A client that cannot send a header, as a browser cannot, sends its key in its first message. All messages: "
    "docs/stream.md.",
    StreamFrameSchema,
    (
        *GENERAL,
        "origin_not_allowed",
        "rate_limited",
        "unknown_parameter",
        "overloaded",
        "shutting_down",
    ),
    101,
)
async def get_stream(request: web.Request) -> web.WebSocketResponse:
    """Answer ``GET /v1/stream``."""
    streams, principal = request.app[STREAMS], _check_handshake(request)
    address = request.app[GUARD].address(request)
    network = "" if request.app[GUARD].is_proxy(address) else network_of(address)
    streams.admit(principal, network)
    connection = web.WebSocketResponse(
        timeout=CLOSE_WITHIN_S, autoping=False, compress=False, max_msg_size=BODY_MAX_BYTES
    )
    connection.headers["X-Request-Id"] = request[REQUEST_ID]
    if (limit := request.get(LIMIT)) is not None:
        connection.headers["RateLimit-Policy"], connection.headers["RateLimit"] = limit
    try:
        client = Client(request, await connection.prepare(request), request[REQUEST_ID])
    except ConnectionError:
        raise RequestError("malformed_request", "the connection broke off") from None
    streams.join(client, network)
    conversation = Conversation(request, connection, client)
    try:
        await conversation.run(principal)
    finally:
        streams.silence(client)
        await client.close(connection)
        streams.leave(client)
        request[RECORD].update(
            frames_sent=client.sent,
            frames_skipped=client.skipped,
            close_code=conversation.code or (client.ending or (None,))[0],
        )
    return connection


class Conversation:
    """What a client says, and what it is answered."""

    def __init__(self, request: web.Request, connection: web.WebSocketResponse, client: Client) -> None:
        """Hear a client."""
        self._request = request
        self._connection = connection
        self._client = client
        self._streams: Streams = request.app[STREAMS]
        self._api, self._guard = request.app[API], request.app[GUARD]
        self.code: int | None = None
        """What the connection was closed with, where it was not the service that wanted it so."""

    def _identify(self, principal: Principal) -> None:
        """Take note of whose stream it is."""
        self._streams.identify(self._client, principal)
        self._request[RECORD].update(account=principal.account, key_id=principal.key_id)

    async def run(self, principal: Principal | None) -> None:
        """Hear the client, whom a header may have named, until it leaves, or until it is to be closed."""
        client = self._client
        if principal is not None:
            try:
                self._identify(principal)
            except RequestError as error:  # The last that the key may have was opened in this very moment.
                self._refuse(Said({}), error)
        try:
            async with asyncio.timeout(None if client.ending is None else 0) as client.until:
                await self._hear()
        except TimeoutError:
            if client.ending is None:
                raise
        finally:
            client.until = None

    async def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        allowed, at = float(MESSAGES_AT_ONCE), loop.time()
        while True:
            message = await self._connection.receive()
            if message.type is WSMsgType.TEXT:
                await self._act(message.data)
                await self._client.room()
            elif message.type is WSMsgType.PING:
                self._client.pong(message.data)
            elif message.type is WSMsgType.PONG:
                self._client.ponged(message.data)
            elif message.type is WSMsgType.BINARY:
                self._client.end(UNSUPPORTED, "messages are texts")
            else:
                broken = message.data if message.type is WSMsgType.ERROR else None
                self.code = broken.code if isinstance(broken, WebSocketError) else self._connection.close_code
                return
            now = loop.time()
            allowed, at = min(MESSAGES_AT_ONCE, allowed + (now - at) * MESSAGES_PER_S) - 1, now
            if allowed < 0:
                await asyncio.sleep(1 / MESSAGES_PER_S)

    async def _act(self, text: str) -> None:
        """Do what a message asks for, or say why not."""
        said = Said({})
        try:
            said = read(text)
            await self._do(said)
        except (RequestError, Unavailable) as error:
            self._refuse(said, error)

    def _refuse(self, said: Said, error: RequestError | Unavailable) -> None:
        client = self._client
        client.reply(refused_frame(said, error, client.request_id))
        if client.principal is None:
            client.end(TRY_LATER if error.code == "rate_limited" else POLICY, "no key that may be used")

    async def _do(self, said: Said) -> None:
        client = self._client
        if client.principal is None and said.op != AUTH:
            raise RequestError("unauthenticated", 'the first message must be {"op": "auth", "key": …}')
        asked = load(said, self._faults(said))
        if said.op == AUTH:
            principal = self._guard.identify(self._request, asked["key"])
            if "quote" in principal.scopes:  # As where a header brings the key: opening counts.
                self._guard.count(principal, "quote")
            self._identify(principal)
            client.reply(done_frame("authenticated", account=self._account, scopes=sorted(self._principal.scopes)))
        elif said.op == PING:
            client.reply(done_frame("pong", id=asked.get("id")))
        elif said.op == UNSUBSCRIBE:
            self._unsubscribe(asked)
        else:
            self._guard.count(self._principal, "quote")
            await self._subscribe(asked)

    def _faults(self, said: Said) -> list[Fault]:
        """Find what the schemas cannot know."""
        if said.op == AUTH and self._client.principal is not None:
            return [Fault("/op", "conflicting_parameters", "the stream is authenticated already", kind="pointer")]
        if said.op == SUBSCRIBE and said.channel == QUOTE:
            return [
                replace(one, where=f"/{one.where}", kind="pointer") for one in venue_faults(self._request, said.data)
            ]
        return []

    @property
    def _principal(self) -> Principal:
        if self._client.principal is None:
            raise ValueError("only who has shown a key is asked for it")
        return self._client.principal

    @property
    def _account(self) -> str:
        return self._principal.account

    async def _subscribe(self, asked: Mapping[str, Any]) -> None:
        client, channel, named = self._client, asked["channel"], asked.get("id")
        if channel == EXECUTIONS and "account" not in self._principal.scopes:
            raise RequestError("insufficient_scope", "executions need a key with the scope 'account'")
        symbol = None
        if "symbol" in asked:
            fault = Fault("/symbol", "unknown_symbol", "is not served", kind="pointer")
            symbol = self._api.desk.resolve(asked["symbol"], fault)
        key = (channel, symbol, named)
        if key not in client.subscriptions and len(client.subscriptions) >= SUBSCRIPTIONS_MAX:
            raise RequestError("rate_limited", f"at most {SUBSCRIPTIONS_MAX} subscriptions of one stream may be open")
        began = heading(channel, symbol, named)
        begin = await self._streams.subscribe(client, key, self._topic(asked, symbol or ""), began)
        client.reply(done_frame("subscribed", channel=channel, symbol=symbol, id=named))
        begin()

    def _topic(self, asked: Mapping[str, Any], symbol: str) -> Topic:
        channel = asked["channel"]
        if channel == BOOK:
            return BookTopic(self._api, self._account, symbol, asked["depth"], asked["view"])
        if channel == QUOTE:
            side = asked["side"]
            sides = (Side.BUY, Side.SELL) if side == "both" else (Side(side),)
            request = QuoteRequest(symbol, ask_of(asked), sides, asked.get("venues"), asked.get("exclude_venues"))
            return QuoteTopic(self._account, request)
        return ExecutionsTopic(self._account) if channel == EXECUTIONS else VenuesTopic()

    def _unsubscribe(self, asked: Mapping[str, Any]) -> None:
        client, channel, named = self._client, asked["channel"], asked.get("id")
        symbol = None
        if "symbol" in asked:  # One that is served no more can be let go, too.
            mine = {own for _, own, _ in client.subscriptions if own is not None}
            symbol = resolve(asked["symbol"], mine) or asked["symbol"]
        if not self._streams.unsubscribe(client, (channel, symbol, named)):
            fault = Fault("/channel", "invalid_parameter", "there is no such subscription", kind="pointer")
            raise RequestError("invalid_parameter", "there is no such subscription", [fault])
        client.reply(done_frame("unsubscribed", channel=channel, symbol=symbol, id=named))


STREAM_ROUTES = (web.get("/v1/stream", get_stream, allow_head=False),)
