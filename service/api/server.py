"""Serve the application over HTTP, and answer what is not HTTP without echoing it."""

from __future__ import annotations

import secrets
from time import monotonic_ns
from typing import Any

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from service.api.problems import CONTENT_TYPE, problem

log = structlog.get_logger()


class _Refusal(web.Response):
    """An answer outside of the application, where no signal takes the Server header away."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop("Server", None)


def _refuse(code: str, status: int, error: BaseException | None) -> web.Response:
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


class _Connection(RequestHandler):
    """A connection whose parser errors become problems: aiohttp's own answer and log line repeat what was sent."""

    arrived_ns = 0
    """When the latest bytes came (``time.monotonic_ns``)."""

    def data_received(self, data: bytes) -> None:
        """Take bytes, and note when."""
        self.arrived_ns = monotonic_ns()
        super().data_received(data)

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
        return _refuse("malformed_request", 400, exc) if status < 500 else _refuse("internal_error", 500, exc)


class _Server(web.Server):
    """A server that makes our connections."""

    def __call__(self) -> RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application behind ``_Server``."""

    def __init__(self, app: web.Application, **options: Any) -> None:
        """Take aiohttp's options; there is no access log, and request bodies are never decompressed."""
        super().__init__(app, access_log=None, auto_decompress=False, **options)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await made.request_handler(request)
            except web.HTTPException as error:  # An Expect header that aiohttp does not know; its answer repeats it.
                return _refuse("malformed_request", 400, error)

        return _Server(answer, request_factory=made.request_factory, **made._kwargs)
