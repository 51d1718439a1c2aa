"""Name the ways in which a venue can go wrong, and do the part of each that needs no socket.

Pure: `FAULTS` is the table; `distort` spoils a book, `freeze_bids` mixes two of them, `spoil` spoils an answer, and
`read_switch` understands a request to switch a fault.  What happens to connections is done by the server.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_FLOOR, Decimal
from enum import Enum
from typing import cast

from exchanges.simulator.market import VENUES, Book, Level, Listing
from exchanges.simulator.wires import STREAM_WIRES
from exchanges.simulator.wires.wire import Reply, Wire


class Kind(Enum):
    """Say what a fault is done to."""

    CONNECTION = "connection"
    REPLY = "reply"  # Status, headers or bytes, without a look at the book.
    BOOK = "book"
    VIEW = "view"  # A sound book, but of the wrong moment or symbol, or with the wrong time on it.
    LINE = "line"  # A stream's connection, once it is made.
    DELTA = "delta"  # Single messages of a stream.


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A row of the table: what a fault is called, does, and can be told.

    Attributes:
        scopes: Where it can be done, first the one that is meant if none is named: to ``depth`` requests, to ``all``
            requests, or to a ``stream``.
        options: Name of each number it can be given, and its default.
        venues: Those whose streams it can be done to; its REST side can be done to all.
        whole_venue: Whether it cannot be done to one symbol of a stream, as there is none yet.
    """

    name: str
    kind: Kind
    description: str
    scopes: tuple[str, ...]
    options: Mapping[str, int] = field(default_factory=dict)
    venues: tuple[str, ...] = tuple(STREAM_WIRES)
    whole_venue: bool = False


_OPTIONS: Mapping[str, Mapping[str, int]] = {
    "slow": {"delay_ms": 2000},
    "rate_limited": {"retry_after_s": 2},
    "banned": {"retry_after_s": 2},
    "late": {"delay_ms": 3000},
    "close": {"close_code": 1012},
    "storm": {"within_ms": 200},
}
_ONCE = {"every": 0}
_VENUES = {"wrong_sequence": ("binance", "okx", "bybit"), "bad_checksum": ("kraken",)}
_BEFORE_SYMBOLS = ("refuse", "freeze", "html", "rate_limited", "banned", "forbidden", "server_error", "unavailable")


def _rows(kind: Kind, scopes: str, rows: str) -> Iterable[Fault]:
    for row in rows.strip().splitlines():
        name, _, description = row.strip().partition("  ")
        yield Fault(
            name,
            kind,
            description.strip(),
            tuple(scopes.split()),
            _OPTIONS.get(name, _ONCE if kind is Kind.DELTA else {}),
            _VENUES.get(name, tuple(STREAM_WIRES)),
            whole_venue=name in (*_BEFORE_SYMBOLS, "storm"),
        )


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        *_rows(Kind.CONNECTION, "depth all stream", """
            freeze     Take the request and never answer; when switched off, close the connection without an answer.
            refuse     Drop the connection before any reply.
        """),
        *_rows(Kind.CONNECTION, "depth all", """
            slow       Answer after 2 s, or after delay_ms.
            drip       Send headers at once, then the genuine body in a hundred small pieces over 40 s.
            cut        Announce the whole Content-Length, send half of the body, close the connection.
        """),
        *_rows(Kind.REPLY, "depth all stream", """
            html          Answer 200 with an HTML page.
            rate_limited  Answer 429 with the venue's own error and Retry-After: 2, or retry_after_s.
            banned        Answer 418 with the venue's own error and Retry-After: 2, or retry_after_s.
            forbidden     Answer 403 with an HTML page.
            server_error  Answer 500 with an HTML page.
            unavailable   Answer 503 with an HTML page.
        """),
        *_rows(Kind.REPLY, "depth all", """
            truncated     Answer 200 with the first half of the JSON.
            no_body       Answer 200 with an empty body.
            null          Answer 200 with null.
            empty_object  Answer 200 with {}.
            gzip_bomb     Answer 200 with less than 100 KiB of gzip that inflate to 64 MiB of JSON.
        """),
        *_rows(Kind.REPLY, "depth", """
            huge          Answer 200 with 5 to 8 MiB of well-formed levels.
        """),
        *_rows(Kind.BOOK, "depth stream", """
            empty         Show no level on either side, in a valid shape.
            one_sided     Show no asks.
            nan           Show a best bid of quantity NaN, and a bid in the middle at price NaN.
            negative      Show a best bid of quantity below zero, and a bid in the middle at a price below zero.
            zero          Show a best bid of quantity zero, and a bid in the middle at price zero.
            none_level    Show a bid in the middle that is null at null.
            crossed       Show bids above asks: the best bid one price step above the best ask.
            locked        Show the best bid at the price of the best ask.
            duplicate     Show the second bid's price twice, with different quantities (the best one's if it is alone).
            tenfold       Show all prices ten times as high.
            tenth         Show all prices a tenth as high.
            off_by_1_5_percent  Show all prices 1.5 % too high.
            jump          Show all prices 8 % higher from one moment to the next.
        """),
        *_rows(Kind.VIEW, "depth stream", """
            wrong_symbol   Show the book of the next symbol that the venue lists; an answer has it under its own name.
            clock_stopped  Repeat the book, time and sequence of the moment at which the fault began.
            clock_back     Put times and sequences of one hour ago on current books.
            clock_forward  Put times and sequences one hour ahead on current books.
            frozen_side    Keep the bids of the moment at which the fault began, while asks move; never crossed.
        """),
        *_rows(Kind.LINE, "stream", """
            silence    Send no book and no change; answer pings, and go on with the venue's own heartbeats.
            mute       Send nothing, not even pongs, and read what comes; when switched off, cut the connection.
            half_open  Neither read nor send, and keep the connection; when switched off, cut it.
            close      Close the connections that there are with the code 1012, or close_code.
            storm      Cut every connection within 200 ms of its making, or within_ms.
        """),
        *_rows(Kind.DELTA, "stream", """
            late            Send all changes 3 s late, or delay_ms.
            lost            Leave a change out.
            repeated        Send a change twice.
            reordered       Send a change after the one that follows it.
            wrong_sequence  Put a wrong sequence on a change: U (binance), prevSeqId (okx), u (bybit).
            bad_checksum    Put a wrong checksum on a change (kraken).
            oversize        Send 5 to 8 MiB of well-formed levels in place of a change.
            bad_utf8        Send a change as text that is not UTF-8.
            broken_json     Send the first half of a change.
            unexpected      Send well-formed JSON of a shape that no reader counts on, in place of a change.
        """),
    )
}  # fmt: skip

_NEVER_SENT = (1004, 1005, 1006, 1015)  # RFC 6455, section 7.4.1.
RETRY_AFTER_STATUS = {"rate_limited": 429, "banned": 418}
_HOUR_MS = 3_600_000
TIME_SHIFT_MS = {"clock_back": -_HOUR_MS, "clock_forward": _HOUR_MS}


@dataclass(frozen=True, slots=True)
class Switch:
    """
    Hold a request to switch a fault on, or, with ``fault`` None, whatever is on there off.

    ``scope`` is None where requests and streams are both meant, which is only so to switch off.
    """

    venues: tuple[str, ...]
    symbol: str | None
    fault: Fault | None
    scope: str | None
    options: Mapping[str, int]

    @property
    def streamed(self) -> bool:
        """Say whether streams are meant."""
        return self.scope == "stream"


class SwitchError(ValueError):
    """Tell the caller what is wrong with a request to switch a fault, with the nearest names that would be right."""

    def __init__(self, message: str, nearest: Iterable[str] = ()) -> None:
        """Keep *nearest* beside the message."""
        super().__init__(message)
        self.nearest = tuple(nearest)


def read_switch(body: object) -> Switch:
    """
    Check the JSON body of ``POST /faults``.

    Raises:
        SwitchError: A name, field or number that is not known or out of range; nothing is to be switched.
    """
    if not isinstance(body, dict):
        raise SwitchError('The body must be a JSON object such as {"venue": "okx", "fault": "freeze"}.')
    for required in ("venue", "fault"):
        if required not in body:
            raise SwitchError(f"The field {required!r} is missing.", [required])
    fault = None
    if body["fault"] is not None:
        fault = FAULTS[_known("fault", body["fault"], FAULTS)]
    options = dict(fault.options) if fault else {}
    for name in body:
        _known("field", name, ("venue", "fault", "symbol", "scope", *options))
    scope = None if fault is None else fault.scopes[0]
    if "scope" in body:
        scope = _known("scope", body["scope"], fault.scopes if fault else ("depth", "all", "stream"))
    venues = _venues(body["venue"], fault, scope)
    symbol = body.get("symbol")
    if symbol is not None:
        listed = {one: None for venue in venues for one in VENUES[venue].listings}
        symbol = _known("symbol", symbol, listed)
        venues = tuple(venue for venue in venues if symbol in VENUES[venue].listings)
        if scope == "all" or (scope == "stream" and fault and fault.whole_venue):
            raise SwitchError("This goes with a whole venue, and without a symbol.", ["depth"])
    for name in options.keys() & body.keys():
        options[name] = _number(name, body[name])
    return Switch(venues, symbol, fault, scope, options)


def _venues(name: object, fault: Fault | None, scope: str | None) -> tuple[str, ...]:
    possible: tuple[str, ...] = tuple(VENUES)
    if scope == "stream":
        possible = fault.venues if fault else tuple(STREAM_WIRES)
    venue = _known("venue", name, ("*", *possible))
    return possible if venue == "*" else (venue,)


def _number(name: str, number: object) -> int:
    if type(number) is not int or not 0 <= number <= 600_000:
        raise SwitchError(f"The field {name!r} must be a whole number from 0 to 600000.")
    if name == "close_code" and not (1000 <= number <= 4999 and number not in _NEVER_SENT):
        raise SwitchError("The field 'close_code' must be a code that can be sent, from 1000 to 4999.")
    return number


def _known(what: str, name: object, names: Iterable[str]) -> str:
    known = tuple(names)
    if isinstance(name, str) and name in known:
        return name
    nearest = difflib.get_close_matches(str(name)[:100], known, n=3, cutoff=0.4) or known
    raise SwitchError(f"There is no {what} {str(name)[:100]!r}.", nearest)


def distort(name: str, book: Book, listing: Listing) -> Book:
    """
    Do the fault *name*, of kind ``BOOK``, to *book*.

    Args:
        book: Sound and with both sides.
        listing: Of the book's symbol; its steps say by how much prices move.
    """
    return _DISTORTIONS[name](book, listing)


def freeze_bids(then: Book, now: Book, listing: Listing) -> Book:
    """Join the bids of *then* and the asks of *now*, which are moved up together where they would cross."""
    bid, ask = _price(then.bids[0]), _price(now.asks[0])
    up = max(Decimal(0), bid + listing.price_step - ask)
    return Book(then.bids, _priced(now.asks, lambda price: price + up))


def spoil(name: str, genuine: Reply, wire: Wire, options: Mapping[str, int]) -> Reply:
    """Do the fault *name*, of kind ``REPLY``, to a *genuine* answer; ``huge`` and ``gzip_bomb`` are not done here."""
    if name in RETRY_AFTER_STATUS:
        headers = {"Retry-After": str(options["retry_after_s"])}
        return Reply(RETRY_AFTER_STATUS[name], wire.too_many_requests(), headers=headers)
    if name == "truncated":
        return Reply(200, genuine.body[: len(genuine.body) // 2])
    return _SPOILT[name]


def _page(status: int, title: str) -> Reply:
    html = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, html.encode(), "text/html")


_SPOILT = {
    "html": _page(200, "Just a moment..."),
    "no_body": Reply(200, b""),
    "null": Reply(200, b"null"),
    "empty_object": Reply(200, b"{}"),
    "forbidden": _page(403, "403 Forbidden"),
    "server_error": _page(500, "500 Internal Server Error"),
    "unavailable": _page(503, "503 Service Temporarily Unavailable"),
}


def _price(level: Level) -> Decimal:
    return cast(Decimal, level.price)  # Only a book that is spoilt already lacks one.


def _priced(levels: Iterable[Level], new_price: Callable[[Decimal], Decimal]) -> tuple[Level, ...]:
    return tuple(level._replace(price=new_price(_price(level))) for level in levels)


def _bad_numbers(factor: Decimal) -> Callable[[Book, Listing], Book]:
    def spoiled(book: Book, listing: Listing) -> Book:
        bids = list(book.bids)
        middle = len(bids) // 2
        bids[middle] = bids[middle]._replace(price=_price(bids[middle]) * factor)
        bids[0] = bids[0]._replace(quantity=(bids[0].quantity or Decimal(1)) * factor)
        return Book(tuple(bids), book.asks)

    return spoiled


def _none_level(book: Book, listing: Listing) -> Book:
    bids = list(book.bids)
    middle = len(bids) // 2
    bids[middle] = bids[middle]._replace(price=None, quantity=None)
    return Book(tuple(bids), book.asks)


def _overlapping(steps: int) -> Callable[[Book, Listing], Book]:
    def overlapping(book: Book, listing: Listing) -> Book:
        up = _price(book.asks[0]) - _price(book.bids[0]) + steps * listing.price_step
        return Book(_priced(book.bids, lambda price: price + up), book.asks)

    return overlapping


def _duplicate(book: Book, listing: Listing) -> Book:
    at = min(1, len(book.bids) - 1)
    twin = book.bids[at]
    twin = twin._replace(quantity=(twin.quantity or Decimal(0)) + listing.quantity_shown)
    return Book((*book.bids[: at + 1], twin, *book.bids[at + 1 :]), book.asks)


def _scaled(factor: Decimal, *, on_step: bool = True) -> Callable[[Book, Listing], Book]:
    def scaled(book: Book, listing: Listing) -> Book:
        def new_price(price: Decimal) -> Decimal:
            if not on_step:
                return price * factor
            # Rounded down: prices a step or more apart stay apart under a factor above one.
            return (price * factor / listing.price_step).to_integral_value(ROUND_FLOOR) * listing.price_step

        return Book(_priced(book.bids, new_price), _priced(book.asks, new_price))

    return scaled


_DISTORTIONS: Mapping[str, Callable[[Book, Listing], Book]] = {
    "empty": lambda book, listing: Book((), ()),
    "one_sided": lambda book, listing: Book(book.bids, ()),
    "nan": _bad_numbers(Decimal("NaN")),
    "negative": _bad_numbers(Decimal(-1)),
    "zero": _bad_numbers(Decimal(0)),
    "none_level": _none_level,
    "crossed": _overlapping(1),
    "locked": _overlapping(0),
    "duplicate": _duplicate,
    "tenfold": _scaled(Decimal(10)),
    "tenth": _scaled(Decimal("0.1"), on_step=False),
    "off_by_1_5_percent": _scaled(Decimal("1.015")),
    "jump": _scaled(Decimal("1.08")),
}
