"""Fetch books and instruments through ccxt; the only importer of ccxt.

Everything ccxt and aiohttp raise is translated here.  ccxt's own rate limiter is off: it cannot be bounded by a
timeout and sleeps before every call, idle or not; ``exchanges.feed`` keeps the intervals.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import ccxt.async_support as ccxt
from ccxt.base.decimal_to_precision import SIGNIFICANT_DIGITS, TICK_SIZE
from yarl import URL

from exchanges.book import BookRejected, RawBook, Reject, exact
from exchanges.errors import VenueConfigError, VenueFailure, VenueMisuse, VenueRefusal
from exchanges.instruments import Instrument
from exchanges.venues import facts, request_interval_ms

BODY_MAX_BYTES = 4 * 1024 * 1024
"""Decompressed; the largest genuine depth body on record has 1.2 MB.  Instruments may be larger."""
INSTRUMENTS_BODY_MAX_BYTES = 64 * 1024 * 1024
HTTP_TIMEOUT_MS = 30_000
"""ccxt's own; callers set shorter ones around a whole call."""
PAUSE_DEFAULT_S = 60.0
PAUSE_MAX_S = 86_400.0
"""How long a venue that said 418 or 403 is left alone when it does not say, and at most when it does: after a day it
is asked once whether it still means it."""


def exchange_ids() -> frozenset[str]:
    """Name all of ccxt's exchanges that a venue may be."""
    return frozenset(ccxt.exchanges)


class _BoundedResponse(aiohttp.ClientResponse):
    """A response that stops reading, and decompressing, at a limit."""

    body_max_bytes = BODY_MAX_BYTES

    async def read(self) -> bytes:
        if self._body is None:
            chunks: list[bytes] = []
            length = 0
            async for chunk in self.content.iter_any():
                length += len(chunk)
                if length > self.body_max_bytes:
                    self.close()
                    raise _BodyTooLarge
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body


class _InstrumentsResponse(_BoundedResponse):
    body_max_bytes = INSTRUMENTS_BODY_MAX_BYTES


class _BodyTooLarge(Exception):
    """A venue's answer went over the limit of its kind."""


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
        self._answer: _Answer | None = None
        options = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", **self.facts.options}
        # With "session" given, even as None, ccxt makes none of its own and closes none.
        self._ccxt: Any = getattr(ccxt, exchange)(
            {"enableRateLimit": False, "timeout": HTTP_TIMEOUT_MS, "options": options, "session": None}
        )
        if not self._ccxt.has.get("fetchOrderBook"):
            raise VenueConfigError([f"venues.{name}.exchange: {exchange} offers no order books"])
        # Currencies are not needed for books; some venues want a key for them.
        self._ccxt.has["fetchCurrencies"] = False
        self._ccxt.timeout_on_exit = 0
        self._ccxt.enableLastJsonResponse = True
        self._ccxt.on_rest_response = self._keep_answer
        self._redirected_to: URL | None = None
        if base_url is not None:
            self._ccxt.urls = _redirected(self._ccxt.urls, base_url.rstrip("/"))
            self._redirected_to = URL(base_url).origin()
        self._sessions: dict[type[_BoundedResponse], aiohttp.ClientSession] = {}

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
        self._use_session(_InstrumentsResponse)
        known = self._ccxt.markets
        try:
            markets = await self._asked(lambda: self._ccxt.load_markets(True))
        except _BodyTooLarge as error:
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
        self._use_session(_BoundedResponse)
        try:
            book = await self._asked(lambda: self._ccxt.fetch_order_book(symbol, self.facts.depth(depth)))
        except _BodyTooLarge as error:
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

    def _use_session(self, response_class: type[_BoundedResponse]) -> None:
        self._ccxt.open()  # Makes the TLS context, with the certificates that ccxt ships.
        session = self._sessions.get(response_class)
        if session is None:
            tls = self._ccxt.ssl_context
            session = self._sessions[response_class] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls if isinstance(tls, ssl.SSLContext) else True, limit=4),
                response_class=response_class,
                middlewares=() if self._redirected_to is None else (self._refuse_other_hosts,),
            )
        self._ccxt.session = session

    async def _refuse_other_hosts(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Keep a redirected venue from reaching a real one by an address that ccxt keeps elsewhere."""
        if request.url.origin() != self._redirected_to:
            raise aiohttp.ClientConnectionError(f"{request.url.host} is outside of base_url")
        return await handler(request)

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
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
            # ccxt's parsers meet a shape they did not expect.
            raise VenueFailure("bad_response", type(error).__name__) from error

    def _reason(self) -> str:
        """Name what came instead of a book, by the HTTP status, which tells more than the class of ccxt's error."""
        if self._answer is None:
            return "unreachable"
        return f"http_{self._answer.status}" if self._answer.status >= 400 else "bad_response"

    def _refusal(self, error: Exception) -> VenueRefusal | None:
        if self._answer is None or self._answer.status not in (403, 418, 429, 503):
            return None
        pause_s = _retry_after_s(self._answer.headers)
        if self._answer.status in (429, 503):
            reason = "rate_limited" if self._answer.status == 429 else self._reason()
            return None if pause_s is None else VenueRefusal(reason, _words(error), pause_s)
        return VenueRefusal("banned", _words(error), PAUSE_DEFAULT_S if pause_s is None else pause_s)


def _redirected(value: Any, base_url: str) -> Any:
    """Send every address in a structure to base_url/<host>/<path>, WebSocket ones by the WebSocket scheme."""
    if isinstance(value, dict):
        return {key: _redirected(item, base_url) for key, item in value.items()}
    if isinstance(value, list):
        return [_redirected(item, base_url) for item in value]
    match = re.match(r"(https?|wss?)://([^/:]+)(?::\d+)?(.*)", value) if isinstance(value, str) else None
    if match is None:
        return value
    scheme, host, path = match.groups()
    base = base_url.replace("http", "ws", 1) if scheme.startswith("ws") else base_url
    return f"{base}/{host}{path}"


def _positive(number: float | None) -> Decimal | None:
    return None if not number or not math.isfinite(number) or number < 0 else exact(float(number))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read seconds or an HTTP date, by the answer's own clock where it tells it; anything else is nothing said."""
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


def _words(error: Exception) -> str:
    """Give the beginning of an error's text: it may hold a whole page of HTML."""
    return " ".join(str(error).split())[:200]
