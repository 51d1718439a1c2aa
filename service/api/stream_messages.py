"""The messages of a stream: what clients may send, read by the same fields as requests, and the frames that go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import orjson
from marshmallow import ValidationError

from service.api.fields import Choice, ClientOrderId, Milliseconds, Symbol, VenueNames, fault
from service.api.parsing import bounded, faults_of, read_object, refused
from service.api.problems import problem
from service.api.render import source_message
from service.api.requests import DEPTH_DEFAULT, QuoteQuery, RequestSchema
from service.errors import Fault, RequestError, Unavailable

BOOK, QUOTE, VENUES, EXECUTIONS = CHANNELS = ("book", "quote", "venues", "executions")
AUTH, SUBSCRIBE, UNSUBSCRIBE, PING = OPS = ("auth", "subscribe", "unsubscribe", "ping")
DEPTH_MAX = 500
"""Levels a side of a book in a stream: a frame is to be a small part of what may wait for one client."""


class KeyText(ClientOrderId):
    """A key; what is no key at all is refused by whoever checks it, in the same words as any other."""

    documented: ClassVar = {"maxLength": 256}

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        return value if isinstance(value, str) else ""


class Levels(Milliseconds):
    """A number of levels: a whole number."""


class AuthMessage(RequestSchema):
    """Says whose stream it is, where no header has."""

    op = Choice(AUTH, required=True)
    key = KeyText(required=True, metadata={"description": "The API key."})


class PingMessage(RequestSchema):
    """Asks for a ``pong``."""

    op = Choice(PING, required=True)
    id = ClientOrderId(metadata={"description": "Given back with the answer."})


class UnsubscribeMessage(RequestSchema):
    """Ends a subscription."""

    op = Choice(UNSUBSCRIBE, required=True)
    channel = Choice(*CHANNELS, required=True)
    symbol = Symbol(metadata={"description": "As it was subscribed to."})
    id = ClientOrderId(metadata={"description": "As it was subscribed to."})


def _channel(name: str) -> Choice:
    return Choice(name, required=True)


_ID = ClientOrderId(
    metadata={"description": "Tells subscriptions of one channel and symbol apart; stands in each of its frames."}
)


class BookSubscription(RequestSchema):
    """Subscribes to ``GET /v1/book``."""

    op = Choice(SUBSCRIBE, required=True)
    channel = _channel(BOOK)
    id = _ID
    symbol = Symbol(required=True)
    depth = Levels(1, DEPTH_MAX, load_default=DEPTH_DEFAULT, metadata={"description": "Levels a side."})
    view = Choice("net", "gross", load_default="net", metadata={"description": "Rank by price with or without fees."})


class QuoteSubscription(QuoteQuery):
    """Subscribes to ``GET /quote``."""

    class Meta(RequestSchema.Meta):
        """A stream has one name for the symbol, and no single fills."""

        exclude = ("ticker", "fills")

    op = Choice(SUBSCRIBE, required=True)
    channel = _channel(QUOTE)
    id = _ID
    venues = VenueNames(metadata={"description": "Only these venues."})
    exclude_venues = VenueNames(metadata={"description": "All venues but these."})


class VenuesSubscription(RequestSchema):
    """Subscribes to ``GET /v1/venues``."""

    op = Choice(SUBSCRIBE, required=True)
    channel = _channel(VENUES)
    id = _ID


class ExecutionsSubscription(RequestSchema):
    """Subscribes to what ``GET /v1/executions`` lists, one by one."""

    op = Choice(SUBSCRIBE, required=True)
    channel = _channel(EXECUTIONS)
    id = _ID


SUBSCRIPTIONS: Mapping[str, type[RequestSchema]] = {
    BOOK: BookSubscription,
    QUOTE: QuoteSubscription,
    VENUES: VenuesSubscription,
    EXECUTIONS: ExecutionsSubscription,
}
MESSAGES: Mapping[str, type[RequestSchema]] = {AUTH: AuthMessage, UNSUBSCRIBE: UnsubscribeMessage, PING: PingMessage}


class Said(NamedTuple):
    """
    A message as it came, as far as it could be read.

    Args:
        op: None where it is none of ours.
        channel: The same.
        id: Where it has the form of one.
        faults: What is wrong with its JSON.
    """

    data: dict[str, Any]
    op: str | None = None
    channel: str | None = None
    id: str | None = None
    faults: tuple[Fault, ...] = ()


def read(text: str) -> Said:
    """
    Read a message, without a look at what it asks for.

    Raises:
        RequestError: If it is no JSON object.
    """
    data, faults = read_object(text, "the message")
    op, channel, named = data.get("op"), data.get("channel"), data.get("id")
    return Said(
        data,
        op if op in OPS else None,
        channel if channel in CHANNELS else None,
        named if isinstance(named, str) and ClientOrderId.pattern.fullmatch(named) else None,
        tuple(faults),
    )


def load(said: Said, more: list[Fault]) -> dict[str, Any]:
    """
    Give what a message asks for.

    Args:
        more: What is wrong with it that no schema knows.

    Raises:
        RequestError: With all faults found.
    """
    schema = SUBSCRIPTIONS.get(said.channel or "") if said.op == SUBSCRIBE else MESSAGES.get(said.op or "")
    faults = [*said.faults, *more]
    loaded: dict[str, Any] = {}
    if schema is None:
        faults.append(_unreadable(said))
    else:
        try:
            reader = schema()
            loaded = reader.load(bounded(said.data, reader))
        except ValidationError as error:
            faults += faults_of(error.messages, "pointer", "unknown_field")
    if faults:
        raise refused(faults)
    return loaded


def _unreadable(said: Said) -> Fault:
    """Say what keeps a message from being any of ours."""
    name, words = ("op", OPS) if said.op is None else ("channel", CHANNELS)
    if name not in said.data:
        [missing] = fault("missing_parameter", "is required")
        return Fault(f"/{name}", missing["code"], missing["detail"], kind="pointer")
    return Fault(f"/{name}", "invalid_parameter", f"must be one of {', '.join(words)}", kind="pointer")


# What goes out


class Refusal(NamedTuple):
    """Why a subscription has no value now."""

    code: str
    detail: str
    faults: tuple[Fault, ...] = ()
    extra: Mapping[str, Any] | None = None


Value = bytes | Refusal
"""What a subscription is told: a message's JSON, which is the same for all who are told it, or why there is none."""


def refusal(error: RequestError | Unavailable) -> Refusal:
    """Give what keeps a value from being made."""
    if isinstance(error, Unavailable):
        sources = [{**source_message(source), "used": False} for source in error.sources]
        return Refusal(error.code, error.detail, extra={"sources": sources} if sources else None)
    return Refusal(error.code, error.detail, error.faults)


def heading(channel: str, symbol: str | None, named: str | None) -> bytes:
    """Write the beginning that all frames of a subscription share."""
    members = {"channel": channel, "symbol": symbol, "id": named}
    return orjson.dumps({name: text for name, text in members.items() if text is not None})[:-1]


def value_frame(began: bytes, number: int, value: Value, request_id: str) -> bytes:
    """Write a frame with a subscription's value, *number* of it."""
    if isinstance(value, bytes):
        return b'%b,"sequence":%d,"data":%b}' % (began, number, value)
    extra = {**(value.extra or {}), "op": SUBSCRIBE}
    body = problem(value.code, value.detail, request_id, faults=value.faults, extra=extra)
    return b'%b,"sequence":%d,"error":%b}' % (began, number, body)


def done_frame(op: str, **members: Any) -> bytes:
    """Write the answer to a message that was done as it asked."""
    return orjson.dumps({"op": op, **{name: value for name, value in members.items() if value is not None}})


def refused_frame(said: Said, error: RequestError | Unavailable, request_id: str) -> bytes:
    """Write the answer to a message that was refused."""
    value = refusal(error)
    extra = {"op": said.op, "channel": said.channel, "id": said.id}
    extra = {name: text for name, text in extra.items() if text is not None or name == "op"} | dict(value.extra or {})
    return b'{"error":%b}' % problem(value.code, value.detail, request_id, faults=value.faults, extra=extra)
