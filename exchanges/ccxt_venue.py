"""Fetch and watch books, and load instruments, through ccxt; the only importer of ccxt.

Everything ccxt and aiohttp raise is translated here.  ccxt's own rate limiter is off: it cannot be bounded by a
timeout and sleeps before every call, idle or not; ``exchanges.line`` keeps the intervals.
"""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import partial
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
from ccxt.base.decimal_to_precision import SIGNIFICANT_DIGITS, TICK_SIZE

from exchanges.book import BookRejected, RawBook, Reject, exact
from exchanges.errors import VenueConfigError, VenueFailure, VenueMisuse, VenueRefusal
from exchanges.http import (
    BODY_MAX_BYTES,
    BodyTooLarge,
    BoundedResponse,
    InstrumentsResponse,
    open_session,
    redirected,
    retry_after_s,
)
from exchanges.instruments import Instrument
from exchanges.mending import mend
from exchanges.venues import VenueFacts, facts, request_interval_ms

HTTP_TIMEOUT_MS = 30_000
"""ccxt's own; callers set shorter ones around a whole call."""
PAUSE_DEFAULT_S = 60.0
"""How long a venue that said 418 or 403 is left alone when it does not say."""
CLOSE_WITHIN_S = 1.0
"""A stream's connections are cut first; what ccxt then still waits for is not worth more."""
_UNEXPECTED = (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError)
"""What ccxt's parsers raise at a shape they did not expect."""
_MARKETS = (
    "markets", "markets_by_id", "symbols", "ids",
    "currencies", "currencies_by_id", "codes", "baseCurrencies", "quoteCurrencies",
)  # fmt: skip
"""What ``set_markets`` of ccxt 4.5.90 fills in; read and never written afterwards."""


def exchange_ids() -> frozenset[str]:
    """Name all of ccxt's exchanges that a venue may be."""
    return frozenset(ccxt.exchanges)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What ccxt does not pass on of the HTTP answer: the last one, or the last error where several were asked for."""

    status: int
    headers: Mapping[str, str]


class CcxtVenue:
    """One venue's public market data.  Not for concurrent use: one request at a time."""

    def __init__(
        self, name: str, exchange: str, *, base_url: str | None = None, taker_fee_bps: Decimal | None = None
    ) -> None:
        """
        Prepare a venue without connecting.

        Args:
            name: The venue's name in the settings.
            exchange: ccxt's id.
            base_url: Where all of the venue's addresses are sent, as base_url/<original host>/<path>.
            taker_fee_bps: Takes the place of what the venue reports.

        Raises:
            VenueConfigError: If ccxt has no such exchange, or it offers no order books.
        """
        if exchange not in exchange_ids():
            nearest = get_close_matches(exchange, sorted(exchange_ids()), n=3)
            hint = f"; the nearest are {', '.join(nearest)}" if nearest else ""
            raise VenueConfigError([f"venues.{name}.exchange: ccxt knows no exchange {exchange!r}{hint}"])
        self.name = name
        self.facts = facts(exchange)
        self._exchange_id = exchange
        self._taker_fee_bps = taker_fee_bps
        self._base_url = None if base_url is None else base_url.rstrip("/")
        self._answer: _Answer | None = None
        self._ccxt = _instance(getattr(ccxt, exchange), self.facts, self._base_url)
        if not self._ccxt.has.get("fetchOrderBook"):
            raise VenueConfigError([f"venues.{name}.exchange: {exchange} offers no order books"])
        self._ccxt.enableLastJsonResponse = True
        self._ccxt.on_rest_response = self._keep_answer
        self._sessions: dict[type[BoundedResponse], aiohttp.ClientSession] = {}

    @property
    def streams(self) -> bool:
        """Tell whether ccxt speaks WebSocket with this exchange at all."""
        return bool(self._ccxt.pro)

    def know(self, other: CcxtVenue) -> None:
        """Take over the instruments that the same venue has loaded elsewhere; they are shared, not copied."""
        _share_markets(other._ccxt, self._ccxt)

    async def open_stream(self, depth: int) -> CcxtStream:
        """
        Prepare a connection for books of *depth* levels a side, with the instruments that are known here.

        Raises:
            VenueMisuse: If ccxt cannot stream order books of this exchange.
        """
        # Importing it takes a second, for all exchanges at once; the loop goes on meanwhile.
        pro = await asyncio.to_thread(importlib.import_module, "ccxt.pro")
        exchange = getattr(pro, self._exchange_id, None)
        if exchange is None:
            raise VenueMisuse("not_supported", f"ccxt streams nothing of {self._exchange_id}")
        self._ccxt.open()
        return CcxtStream(
            _instance(exchange, self.facts, self._base_url), self.facts, self._ccxt, depth, self._base_url
        )

    def rate_limit_ms(self, depth: int) -> int:
        """Give the default time between two requests for *depth* levels."""
        return request_interval_ms(self._exchange_id, depth, float(self._ccxt.rateLimit))

    async def load_instruments(self) -> dict[str, Instrument]:
        """
        Load all spot instruments, by symbol.

        Raises:
            VenueFailure: Also where the answer holds none; ccxt would take that for a venue without markets.  The
                symbols that were known before stay known.
        """
        self._use_session(InstrumentsResponse)
        known = self._ccxt.markets
        try:
            markets = await self._asked(lambda: self._ccxt.load_markets(True))
        except BodyTooLarge as error:
            raise VenueFailure("too_large", "the instruments' answer is larger than any genuine one") from error
        spot = {
            symbol: self._instrument(symbol, market)
            for symbol, market in markets.items()
            if market.get("spot") and market.get("active") is not False
        }
        if not spot:
            if known:
                self._ccxt.set_markets(known)
            raise VenueFailure("no_instruments", "the venue's answer held no spot instruments that are traded")
        instruments = {symbol: instrument for symbol, instrument in spot.items() if instrument is not None}
        if not instruments:
            raise VenueMisuse("no_fee", f"set venues.{self.name}.taker_fee_bps: the venue publishes no fee")
        return instruments

    async def fetch_book(self, symbol: str, depth: int) -> RawBook:
        """
        Ask for a symbol's book once, with at least *depth* levels a side where the venue gives so many.

        Raises:
            VenueFailure: If no book came.
            BookRejected: TOO_LARGE, before the body was parsed.
        """
        self._use_session(BoundedResponse)
        try:
            book = await self._asked(lambda: self._ccxt.fetch_order_book(symbol, self.facts.depth(depth)))
        except BodyTooLarge as error:
            raise BookRejected(Reject.TOO_LARGE) from error
        return RawBook(
            symbol=symbol if self._is_for(symbol) else None,
            bids=book["bids"],
            asks=book["asks"],
            sequence=book["nonce"],
            time_ms=self._time_ms(book["timestamp"]),
        )

    async def close(self) -> None:
        """Close the venue's connections."""
        await self._ccxt.close()
        for session in self._sessions.values():
            await session.close()

    def _time_ms(self, timestamp: int | None) -> int | None:
        """Give the venue's own time of the last answer, if it sends one that can be read."""
        if self.facts.time_is_local:
            return None
        if self.facts.time_ms is None:
            return timestamp
        try:
            return self.facts.time_ms(self._ccxt.last_json_response)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def _is_for(self, symbol: str) -> bool:
        """Tell whether the answer is for the symbol's own market id, where it says what it is for."""
        body = self._ccxt.last_json_response
        if self.facts.market_id is None or not isinstance(body, dict):
            return True
        try:
            market_id = self.facts.market_id(body)
        except (KeyError, TypeError, StopIteration):
            return True  # Not an answer with a book in it: the book's own checks will say so.
        market = self._ccxt.market(symbol)
        info = market["info"] if isinstance(market["info"], dict) else {}
        return market_id in (market["id"], info.get("wsname"), info.get("altname"))

    def _instrument(self, symbol: str, market: Mapping[str, Any]) -> Instrument | None:
        fee = self._taker_fee_bps
        if fee is None and market.get("taker") is not None:
            fee = exact(float(market["taker"])) * 10_000
        if fee is None:
            return None
        limits, precision = market["limits"], market["precision"]
        return Instrument(
            venue=self.name,
            symbol=symbol,
            price_step=self._step(precision.get("price")),
            quantity_step=self._step(precision.get("amount")),
            quantity_min=_positive(limits["amount"].get("min")),
            notional_min=_positive(limits["cost"].get("min")),
            taker_fee_bps=fee,
        )

    def _step(self, precision: float | None) -> Decimal | None:
        if precision is None or self._ccxt.precisionMode == SIGNIFICANT_DIGITS:
            return None
        if self._ccxt.precisionMode == TICK_SIZE:
            return _positive(precision)
        return Decimal(1).scaleb(-int(precision))

    def _use_session(self, response_class: type[BoundedResponse]) -> None:
        self._ccxt.open()  # Makes the TLS context, with the certificates that ccxt ships.
        if response_class not in self._sessions:
            self._sessions[response_class] = open_session(response_class, self._ccxt.ssl_context, self._base_url)
        self._ccxt.session = self._sessions[response_class]

    def _keep_answer(
        self, code: int, reason: str, url: str, method: str, headers: Mapping[str, str], body: str, *_: Any
    ) -> str:
        if code >= 400 or self._answer is None or self._answer.status < 400:
            self._answer = _Answer(code, {name.lower(): value for name, value in headers.items()})
        return body.strip()

    async def _asked(self, call: Callable[[], Any]) -> Any:
        """Await a call of ccxt's and translate whatever it raises, but for a body that is too large."""
        self._answer = None
        try:
            return await call()
        except (ccxt.BadSymbol, ccxt.NotSupported) as error:
            raise VenueMisuse("not_supported", _words(error)) from error
        except (ccxt.PermissionDenied, ccxt.AuthenticationError) as error:
            raise self._refusal(error) or VenueMisuse("authentication", _words(error)) from error
        except ccxt.RequestTimeout as error:
            raise VenueFailure("timeout", _words(error)) from error
        except ccxt.BaseError as error:
            raise self._refusal(error) or VenueFailure(self._reason(), _words(error)) from error
        except aiohttp.ClientError as error:
            raise VenueFailure("unreachable", type(error).__name__) from error
        except _UNEXPECTED as error:
            raise VenueFailure("bad_response", type(error).__name__) from error

    def _reason(self) -> str:
        """Name what came instead of a book, by the HTTP status, which tells more than the class of ccxt's error."""
        if self._answer is None:
            return "unreachable"
        return f"http_{self._answer.status}" if self._answer.status >= 400 else "bad_response"

    def _refusal(self, error: Exception) -> VenueRefusal | None:
        if self._answer is None or self._answer.status not in (403, 418, 429, 503):
            return None
        pause_s = retry_after_s(self._answer.headers)
        if self._answer.status in (429, 503):
            reason = "rate_limited" if self._answer.status == 429 else self._reason()
            return None if pause_s is None else VenueRefusal(reason, _words(error), pause_s)
        return VenueRefusal("banned", _words(error), PAUSE_DEFAULT_S if pause_s is None else pause_s)


class CcxtStream:
    """
    One connection's worth of a venue's streamed books, thrown away whole at the first trouble.

    ccxt's stream classes go on after a gap, or hang, or keep what they had before a reconnect, each venue in its own
    way; here whatever is wrong makes every waiting ``next_book`` raise, and the stream is of no more use.
    """

    def __init__(self, pro: Any, venue: VenueFacts, rest: Any, depth: int, base_url: str | None) -> None:
        """Take an exchange object of ``ccxt.pro``, and what its REST sibling *rest* knows; nothing is sent yet."""
        self._ccxt = pro
        self._facts = venue.stream
        self._depth = depth
        self._limit = venue.stream.depth(depth)
        _share_markets(rest, pro)
        pro.ssl_context = rest.ssl_context
        # ccxt opens a socket for each of some venues' symbols, and asks for snapshots beside them.
        pro.session = self._session = open_session(BoundedResponse, rest.ssl_context, base_url, connections_max=0)
        self._handle = pro.handle_message
        pro.handle_message = self._on_message
        self._make_client = pro.client
        pro.client = self._client
        mend(pro, venue.stream)
        self._sequences: dict[str, int] = {}
        self._broken: VenueFailure | None = None

    async def next_book(self, symbol: str) -> RawBook:
        """
        Wait for the book's next change; the first one is the venue's snapshot.

        Returns:
            A copy, of as many levels a side as were asked for.

        Raises:
            VenueFailure: The stream is broken: ``sequence_gap``, ``bad_checksum``, ``bad_message``, ``too_large``,
                ``disconnected``, ``no_pong``, ``unreachable``, or the status of a refused handshake.
        """
        if self._broken is None:
            try:
                book = await self._ccxt.watch_order_book(symbol, self._limit)
            except ccxt.BaseError as error:
                self._broken = self._broken or _stream_failure(error)
            except BodyTooLarge:  # The snapshot that was asked for.
                self._broken = self._broken or VenueFailure("too_large")
            except (aiohttp.ClientError, OSError) as error:
                self._broken = self._broken or VenueFailure("unreachable", type(error).__name__)
            except _UNEXPECTED as error:
                self._broken = self._broken or VenueFailure("bad_message", type(error).__name__)
        if self._broken is not None:
            raise self._broken
        time_ms = book["timestamp"] if self._facts.time_ms is None else self._facts.time_ms(book)
        return RawBook(
            symbol=book["symbol"],
            bids=[level[:2] for level in book["bids"][: self._depth]],
            asks=[level[:2] for level in book["asks"][: self._depth]],
            sequence=book["nonce"],
            time_ms=time_ms,
        )

    async def close(self) -> None:
        """Cut the connections at once; nobody waits for the other end's goodbye."""
        self._broken = self._broken or VenueFailure("closed")
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._session.close()
                await self._ccxt.close()
        except (TimeoutError, ccxt.BaseError, aiohttp.ClientError, OSError):
            pass  # Its sockets are gone already.
        finally:
            self._ccxt.session = None

    def _client(self, url: str) -> Any:
        """Make ccxt's client of an address, or find it, with an ear at its messages."""
        known = url in (self._ccxt.clients or {})
        client = self._make_client(url)
        if not known:
            client.handle_message = partial(self._receive, client, client.handle_message)
        return client

    def _receive(self, client: Any, handle: Callable[[Any], None], message: Any) -> None:
        """Hand a frame to ccxt, whose loop would end for good, unseen, if this raised."""
        if isinstance(message.data, str | bytes) and len(message.data) > BODY_MAX_BYTES:
            self._break(client, VenueFailure("too_large"))
            return
        try:
            handle(message)
        except (ccxt.BaseError, *_UNEXPECTED) as error:
            self._break(client, VenueFailure("bad_message", type(error).__name__))

    def _on_message(self, client: Any, message: Any) -> None:
        """Let ccxt apply a message, and hold it against what the venue says of its own messages' order and sum."""
        self._handle(client, message)
        link = None if self._facts.link is None else self._facts.link(message)
        if link is not None:
            before = self._sequences.get(link.market_id)
            self._sequences[link.market_id] = link.sequence
            if link.previous is not None and link.previous != before:
                self._break(client, VenueFailure("sequence_gap"))
        claim = None if self._facts.checksum is None else self._facts.checksum(message)
        if claim is not None and claim.symbol in self._ccxt.orderbooks:
            book, info = self._ccxt.orderbooks[claim.symbol], self._ccxt.market(claim.symbol)["info"]
            if claim.of(book["bids"], book["asks"], info) != claim.checksum:
                self._break(client, VenueFailure("bad_checksum"))

    def _break(self, client: Any, failure: VenueFailure) -> None:
        self._broken = self._broken or failure
        client.reset(ccxt.NetworkError(failure.reason))


def _instance(exchange: Any, venue: VenueFacts, base_url: str | None) -> Any:
    """Make one of ccxt's exchange objects, public and for spot markets only."""
    options = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", **venue.options}
    # With "session" given, even as None, ccxt makes none of its own and closes none.
    made = exchange({"enableRateLimit": False, "timeout": HTTP_TIMEOUT_MS, "options": options, "session": None})
    # Currencies are not needed for books; some venues want a key for them.
    made.has["fetchCurrencies"] = False
    made.timeout_on_exit = 0
    if base_url is not None:
        made.urls = redirected(made.urls, base_url)
    return made


def _share_markets(source: Any, target: Any) -> None:
    for name in _MARKETS:
        setattr(target, name, getattr(source, name))


def _stream_failure(error: Exception) -> VenueFailure:
    """Say what ended a stream; a refused handshake lies inside of ccxt's error."""
    cause = error.args[0] if error.args else None
    if isinstance(cause, aiohttp.WSServerHandshakeError):
        pause_s = retry_after_s({name.lower(): value for name, value in (cause.headers or {}).items()})
        if cause.status in (403, 418):
            return VenueRefusal("banned", _words(error), PAUSE_DEFAULT_S if pause_s is None else pause_s)
        if pause_s is not None:
            return VenueRefusal("rate_limited" if cause.status == 429 else f"http_{cause.status}", "", pause_s)
        return VenueFailure(f"http_{cause.status}", _words(error))
    if isinstance(error, ccxt.NotSupported | ccxt.BadSymbol | ccxt.ArgumentsRequired):
        return VenueMisuse("not_supported", _words(error))
    if isinstance(error, ccxt.AuthenticationError):
        return VenueMisuse("authentication", _words(error))
    if isinstance(error, ccxt.InvalidNonce):
        return VenueFailure("sequence_gap", _words(error))
    if isinstance(error, ccxt.DDoSProtection | ccxt.RateLimitExceeded):  # The snapshot that was asked for.
        return VenueFailure("rate_limited", _words(error))
    if isinstance(error, ccxt.RequestTimeout):
        return VenueFailure("no_pong" if "ping-pong" in str(error) else "timeout", _words(error))
    if isinstance(error, ccxt.NetworkError):
        closed = cause is None or isinstance(cause, str)
        return VenueFailure("disconnected" if closed else "unreachable", _words(error))
    return VenueFailure("bad_message", _words(error))


def _positive(number: float | None) -> Decimal | None:
    return None if not number or not math.isfinite(number) or number < 0 else exact(float(number))


def _words(error: Exception) -> str:
    """Give the beginning of an error's text: it may hold a whole page of HTML."""
    return " ".join(str(error).split())[:200]
