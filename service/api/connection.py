"""One connection of a client: what it may send, how long it may take, and when it is cut.

The parser, keep-alive and pipelining are aiohttp's.  What aiohttp has no bound for is bounded here, without a timer
per request: a connection notes since when its client owes something, and whoever sweeps over all connections asks.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from service.api.problems import CODES, CONTENT_TYPE, problem, sane_request_id
from service.metrics.instruments import Instruments

if TYPE_CHECKING:
    from service.api.server import Server

HEAD_WITHIN_S: Final = 10.0
"""From a head's first byte to its last; and from a connection's beginning to its first byte."""
BODY_WITHIN_S: Final = 5.0
"""From a head's last byte to its body's."""
ANSWER_WITHIN_S: Final = 10.0
"""How long a client may leave the rest of an answer unread, or of a connection that is being closed."""
KEPT_ALIVE_S: Final = 75.0
"""How long an idle connection is kept: longer than proxies in front keep theirs (60 s with most)."""
HEAD_MAX_BYTES: Final = 32 * 1024
LINE_MAX_BYTES: Final = 8190
"""Of the first line's target, and of one header with its name."""
HEADERS_MAX: Final = 100
PIPELINED_MAX: Final = 8
"""Requests that may wait behind the one being answered; what comes then is not read before some are answered."""
DISCARDED_MAX_BYTES: Final = 1024 * 1024
"""Of a body that nobody wants, so much is read and thrown away for its client to see the answer."""

_QUOTES: Final = (b"GET /quote?", b"GET /v1/quote?")
_NOT_PLAIN: Final = (b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"close")
"""What a head may hold, in lower case, of which more comes than the head, or the connection's end."""

_REQUEST_ID = re.compile(rb"\r\nX-Request-Id:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.IGNORECASE)

HEAD, BODY, ANSWER = "heads", "bodies", "answers"

log = structlog.get_logger()


class _Refusal(web.Response):
    """An answer outside of the application, where no signal takes the Server header away."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop("Server", None)


def refuse(counted: Instruments, code: str, status: int, error: BaseException | None) -> web.Response:
    """Make the answer to what did not reach the application; its log line and its body repeat nothing."""
    counted.answered("", None, status, code, None)
    request_id = secrets.token_hex(8)
    log.warning("request.malformed", request_id=request_id, status=status, error=type(error).__name__)
    response = _Refusal(
        body=problem(code, "the request could not be read", request_id),
        status=status,
        content_type=CONTENT_TYPE,
        headers={"X-Request-Id": request_id, "Cache-Control": "no-store"},
    )
    response.force_close()
    return response


def turn_away(transport: asyncio.WriteTransport) -> None:
    """Answer that there are too many connections, whatever is asked, and close."""
    transport.write(overloaded("there are too many connections", "Connection: close\r\n"))
    transport.close()


def overloaded(detail: str, more: str = "", asked: bytes = b"") -> bytes:
    """Write the answer that costs least, for whatever was *asked*; *more* are whole lines of its head."""
    offered = _REQUEST_ID.search(asked)
    request_id = sane_request_id("" if offered is None else offered[1].decode("latin-1"))
    body = problem("overloaded", detail, request_id)
    head = (
        f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-Id: {request_id}\r\nCache-Control: no-store\r\nRetry-After: 1\r\n{more}\r\n"
    )
    return head.encode() + body


class Connection(RequestHandler):
    """A connection within bounds, whose parser errors become problems: aiohttp's own answer repeats what was sent."""

    __slots__ = (
        "_answer_since",
        "_body",
        "_body_since",
        "_closing_since",
        "_counted",
        "_group",
        "_head_bytes",
        "_head_since",
        "_held",
        "_over",
        "ahead",
    )

    ahead: int
    """How much came before the latest bytes, at the same look of the loop."""

    def __init__(self, manager: Server, **options: Any) -> None:
        """Belong to a server."""
        super().__init__(manager, **options)
        self._counted = manager.counted  # aiohttp forgets the server before the last answer is made.
        self._max_msg_queue_size = PIPELINED_MAX
        self._msg_queue_resume_size = PIPELINED_MAX // 2
        self._group: str | None = None
        self._head_since: float | None = None
        self._head_bytes = 0
        self._held = b""
        self._over = False
        self._body: StreamReader | None = None
        self._body_since = 0.0
        self._answer_since: float | None = None
        self._closing_since: float | None = None
        self.ahead = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many of them."""
        server: Any = self._manager
        self._group = server.admit(transport)
        if self._group is None:
            self._force_close = True
            turn_away(cast(asyncio.WriteTransport, transport))
            return
        self._head_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        server: Any = self._manager
        super().connection_lost(exc)
        if self._group is not None:
            server.let_go(self._group)
            self._group = None

    def data_received(self, data: bytes) -> None:
        """Let aiohttp parse what came, and note what the client owes from now on."""
        server: Any = self._manager
        now_ns = monotonic_ns()
        self.ahead = server.admission.arrive(now_ns)
        if not server.admission.admits("quote", self.ahead, now_ns) and self._is_quote(data):
            self._send_away(data)
            return
        if self._over:
            return
        if self._payload_parser is not None or self._close:
            super().data_received(data)
            return
        # In pieces of which each is looked at: what stands behind a whole request is no less bounded than that.
        data, self._held = self._held + data, b""
        for at in range(0, len(data) or 1, HEAD_MAX_BYTES):
            if self._over:
                return
            full = len(self._messages) >= self._max_msg_queue_size or self._reading_paused
            if at and full and not self._upgraded:
                self._held = data[at:]  # Nothing more comes before aiohttp has called for it.
                return
            self._take(data[at : at + HEAD_MAX_BYTES])

    def _take(self, data: bytes) -> None:
        body, count = self._body, self._request_count
        in_body = body is not None and not body.is_eof()
        super().data_received(data)
        if self._request_count != count:
            self._begun(data, self._request_count - count)
        elif in_body:
            if body is not None and body.total_bytes > DISCARDED_MAX_BYTES:
                self._break_off(body)
        elif data and not self._upgraded:
            self._owes_head(len(data))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Read what came behind a request to change protocols that was declined as all else is read."""
        declined = self._upgraded and not self._messages and self._payload_parser is None
        if declined and self._parser is not None:
            self._parser.set_upgraded(False)
            self._upgraded = False
            tail, self._message_tail = self._message_tail, b""
            if tail:
                self.data_received(tail)
            if self._buffer_paused and len(self._messages) < self._max_msg_queue_size:
                self._resume_reading_if_drained()
        return await super().finish_response(request, resp, start_time)

    def _is_quote(self, data: bytes) -> bool:
        """Tell whether bytes are one whole request for a quote and no more, on a connection that waits for one."""
        idle = self._waiter is not None and not self._waiter.done() and not self._head_bytes
        if not idle or self.unread or not data.startswith(_QUOTES) or data.find(b"\r\n\r\n") != len(data) - 4:
            return False
        head = data.lower()
        # Whatever else a head may ask for is the parser's to read: above all, a body is no next request.
        return head.find(b" http/1.1\r\n") + 9 == head.find(b"\r\n") and not any(word in head for word in _NOT_PLAIN)

    def _send_away(self, data: bytes) -> None:
        """Answer the quote that *data* asks for; its client owes nothing now, and has its time again for the next."""
        server: Any = self._manager
        server.shed += 1
        self._counted.shed()
        self._head_since = None
        self._next_keepalive_close_time = self._loop.time() + KEPT_ALIVE_S
        cast(asyncio.WriteTransport, self.transport).write(overloaded(CODES["overloaded"].meaning, asked=data))

    def _begun(self, data: bytes, requests: int) -> None:
        """Look at requests whose heads are whole, and at what comes behind the last one's."""
        messages = self._messages
        long = self._head_bytes + len(data) > HEAD_MAX_BYTES
        for place in range(len(messages) - requests, len(messages)):
            message = messages[place][0]
            if isinstance(message, _ErrInfo):
                continue
            version = message.version
            if long and _head_bytes(message) > HEAD_MAX_BYTES:
                self._refuse_at(place, "the head is too large")
            elif version != HttpVersion11 and version != HttpVersion10:
                self._refuse_at(place, "another version")
            elif message.chunked and [name.lower() for name in message.headers.getall("Transfer-Encoding")] != [
                "chunked"
            ]:
                # The parser lets other codings before chunks pass, and does not undo them.
                self._refuse_at(place, "a coding that is not known")
        self._head_since, self._head_bytes = None, 0
        payload = messages[-1][1]
        if not payload.is_eof():
            self._body, self._body_since = payload, self._loop.time()
            return
        self._body = None
        if payload is EMPTY_PAYLOAD and data and not data.endswith(b"\r\n\r\n") and not self._upgraded:
            self._owes_head(1)  # The next head has begun.

    def _owes_head(self, received: int) -> None:
        if not self._head_bytes:
            self._head_since = self._loop.time()
        self._head_bytes += received
        if self._head_bytes > HEAD_MAX_BYTES:
            self._messages.append((_error("the head is too large"), EMPTY_PAYLOAD))
            self._over = True  # Nothing more is read; what came before has its answers.
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def _refuse_at(self, place: int, reason: str) -> None:
        self._messages[place] = _error(reason), EMPTY_PAYLOAD

    def _break_off(self, body: StreamReader) -> None:
        """Let whoever waits for a body know that it does not come; the connection ends with its answer."""
        body.set_exception(TimeoutError("the body did not come in time"))
        self._body = None

    def pause_writing(self) -> None:
        """Note since when the client does not read."""
        super().pause_writing()
        self._answer_since = self._loop.time()

    def resume_writing(self) -> None:
        """Note that it has read."""
        super().resume_writing()
        self._answer_since = None

    # For whoever sweeps

    def overdue(self, now: float, transport: asyncio.WriteTransport) -> str | None:
        """Say what the client has owed for too long: ``heads``, ``bodies``, ``answers`` (reading them), or None."""
        if self._payload_parser is not None and not transport.is_closing():
            return None  # Streams have rules of their own.
        if transport.is_closing():
            self._closing_since = self._closing_since or now
            return ANSWER if now - self._closing_since >= ANSWER_WITHIN_S else None
        if self._answer_since is not None:
            return ANSWER if now - self._answer_since >= ANSWER_WITHIN_S else None
        if self._body is not None and not self._body.is_eof():
            held = self._reading_paused or self._buffer_paused  # by us: it is not the client who is slow
            return BODY if now - self._body_since >= BODY_WITHIN_S and not held else None
        owed = self._head_since is not None and not self._request_in_progress
        return HEAD if owed and now - (self._head_since or now) >= HEAD_WITHIN_S else None

    def cut(self, owed: str, transport: asyncio.WriteTransport) -> None:
        """End it; who waits for a body is answered first."""
        if owed == BODY and self._body is not None:
            self._break_off(self._body)
        else:
            transport.abort()

    def under_way(self, now: float, unread_s: float) -> bool:
        """Tell whether a request is being answered; not one whose client has not read its answer for so long."""
        unread = self._answer_since is not None and now - self._answer_since >= unread_s
        return self._request_in_progress and self._payload_parser is None and not unread

    @property
    def unread(self) -> bool:
        """Tell whether the client leaves more unread than is kept for it."""
        return self._answer_since is not None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or what failed outside of the middleware."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was under way")
        code = "malformed_request" if status < 500 else "internal_error"
        return refuse(self._counted, code, CODES[code].status, exc)


def _error(reason: str) -> _ErrInfo:
    return _ErrInfo(status=400, exc=BadHttpMessage(reason), message=reason)


def _head_bytes(message: RawRequestMessage) -> int:
    """Give how large a head was, to some bytes."""
    return len(message.path) + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)
