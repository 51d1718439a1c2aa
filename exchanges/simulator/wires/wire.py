"""Give all venues' formats one shape: what a venue is asked, what it answers, what its streams hear and say.

Pure.  `Wire` is the shape of a venue over REST, `StreamWire` of one that streams too; each venue's module has one.
What all of them write alike is here too: numbers, sides, times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, Protocol

import orjson

from exchanges.simulator.market import Book, Level, Listing

Query = Mapping[str, str]
Side = Sequence[Level] | orjson.Fragment  # A fragment is a side that has been rendered already.


class Moment(NamedTuple):
    """Hold when a book was made, by the venue's own clock (Unix time) and by its own count of changes."""

    time_ms: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold one HTTP answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DepthRequest:
    """
    Hold what a request for a book asks for.

    ``depth`` is the levels per side as the venue will cut them, all it has if None.  ``refusal`` is set where the
    venue answers with its own error instead; ``symbol`` is then None if it was the symbol that the venue does not know.
    """

    symbol: str | None
    depth: int | None = None
    full_format: bool = False
    refusal: Reply | None = None


class Wire(Protocol):
    """Translate between one venue's REST format and the simulator's values."""

    name: str
    hosts: tuple[str, ...]

    def read(self, path: str, query: Query, time_ms: int) -> DepthRequest | Reply | None:
        """
        Understand a GET request.

        Args:
            path: From the first slash after the host.
            time_ms: The venue's clock, Unix time.

        Returns:
            What book is asked for; or the whole answer for instruments and the like; or None for a path that is not
            spoken here.
        """

    def depth(self, request: DepthRequest, bids: Side, asks: Side, moment: Moment) -> bytes:
        """Render a book that was made at *moment*; *request* has a symbol and no refusal."""

    def level(self, level: Level, moment: Moment) -> object:
        """Render one level of an answer."""

    def too_many_requests(self) -> bytes:
        """Say, in the venue's own words, that its rate limit is exceeded."""

    def sequence(self, moment: Moment) -> int | None:
        """Give the number by which a reader knows a book of *moment* from others; None where only its time does."""


class Channel(NamedTuple):
    """Hold what a subscription is to: a symbol, the levels per side (all if None), and the venue's name for it."""

    symbol: str
    depth: int | None
    topic: str


class Change(NamedTuple):
    """
    Hold what one message of a stream tells.

    Attributes:
        bids: The levels that differ from what was told before, best first; with quantity zero, the ones that are gone.
            In a first message, all levels.
        asks: The same.
        book: All of it as it now stands, to the channel's depth.
        before: When the message before was made.
        number: Of messages on this stream, without gaps.
        first: Whether the reader is to forget what it knew.
    """

    bids: Side
    asks: Side
    book: Book
    before: Moment
    moment: Moment
    number: int
    first: bool = False


class Subscribe(NamedTuple):
    """Ask for a channel."""

    channel: Channel


class Unsubscribe(NamedTuple):
    """End a channel."""

    channel: Channel


Heard = Subscribe | Unsubscribe | bytes
"""A part of what a client's message leads to; bytes are an answer."""


class Caller(NamedTuple):
    """Hold what a venue knows of a connection: its number, what it is subscribed to, and the venue's clock."""

    number: int
    channels: Collection[Channel]
    time_ms: int


class StreamWire(Wire, Protocol):
    """Translate a venue's WebSocket format too."""

    stream_hosts: tuple[str, ...]
    begins_with_answer: bool
    """Whether readers take their first book over REST, and changes from there on."""
    readers_cut: bool
    """Whether the venue says nothing of a level that falls below the depth, as readers cut their books to it."""
    keeps_alive: bytes | None
    """What the venue sends after each second in which a subscribed connection was sent nothing."""
    pings_every_ms: int | None
    """How often the venue sends a ping frame; None if never."""
    unexpected: bytes
    """A message in well-formed JSON that no reader counts on."""

    def streams_at(self, path: str) -> bool:
        """Say whether connections are taken at *path*, from the first slash after the host."""

    def greeting(self, caller: Caller) -> Sequence[bytes]:
        """Say what the venue says first on a connection."""

    def repeats_after_ms(self, channel: Channel) -> int | None:
        """Say after how long without a change the venue sends the channel a message all the same; None if never."""

    def hear(self, text: str, caller: Caller) -> Sequence[Heard]:
        """Understand a client's message: what it subscribes to or ends, and the answers, in order."""

    def message(self, channel: Channel, change: Change) -> bytes | None:
        """Render a change; None for a first one where the venue's readers get that over REST."""

    def stream_level(self, level: Level) -> object:
        """Render one level of a message."""


def json_reply(status: int, value: object) -> Reply:
    """Answer in JSON."""
    return Reply(status, orjson.dumps(value))


def read_object(text: str) -> dict[str, object] | None:
    """Read a client's message; None if it is not a JSON object."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def strings(value: object) -> list[str]:
    """Take the strings out of what should be a list of them."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def digits(number: Decimal | None, places: int = 0) -> str | None:
    """Write *number* with at least *places* decimals and never fewer than it has; None stays None (JSON null)."""
    if number is None:
        return None
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and -exponent < places:
        return format(number, f".{places}f")
    return format(number, "f")


def stripped(number: Decimal | None) -> str | None:
    """Write *number* without zeros at its end."""
    text = digits(number)
    return text.rstrip("0").rstrip(".") if text and "." in text else text


def places(step: Decimal) -> int:
    """Count the decimals of *step*."""
    return max(0, -int(step.as_tuple().exponent))


def rows(side: Side, level: Callable[[Level, Moment], object], moment: Moment) -> object:
    """Render a side of an answer."""
    return side if isinstance(side, orjson.Fragment) else [level(one, moment) for one in side]


def stream_rows(side: Side, level: Callable[[Level], object]) -> object:
    """Render a side of a message."""
    return side if isinstance(side, orjson.Fragment) else [level(one) for one in side]


def depth_asked(text: str | None, default: int | None, most: int) -> int | None:
    """Give the depth to serve, or raise ValueError for a text that is no positive number."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ValueError(text)
    return min(int(text), most)


def iso(time_ms: int) -> str:
    """Write a Unix time as in 2027-01-15T08:00:00.000000Z."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def market_ids(listings: Mapping[str, Listing], between: str) -> dict[str, Listing]:
    """Name listings as a venue does that only differs in what stands between base and quote asset."""
    return {listing.symbol.replace("/", between): listing for listing in listings.values()}
