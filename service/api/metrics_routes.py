"""What Prometheus reads, beside the other routes and on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from service.api.admission import Admission
from service.api.guard import GUARD, Guard
from service.api.middleware import contract, drop_server_header, needs
from service.api.server import ADMISSION, Room, Runner, listen
from service.metrics.exposition import METRICS, Metrics

ROOM: Final = Room(per_address=20, total=50)
CUT_AFTER_S: Final = 1.0


@needs("admin")
async def get_metrics(request: web.Request) -> web.Response:
    """Answer ``GET /metrics``."""
    return await _scraped(request)


@needs(None)
async def get_open_metrics(request: web.Request) -> web.Response:
    """Answer the same on a port of its own, whoever asks."""
    return await _scraped(request)


async def _scraped(request: web.Request) -> web.Response:
    body, content_type = await request.app[METRICS].scrape(", ".join(request.headers.getall("Accept", [])))
    return web.Response(body=body, headers={"Content-Type": content_type})


METRICS_ROUTES = (web.get("/metrics", get_metrics),)


def metrics_app(metrics: Metrics, guard: Guard) -> web.Application:
    """Make an application that answers Prometheus and nobody else, without a key."""
    admission = Admission(lambda taken_in: asyncio.get_running_loop().call_soon(taken_in))
    app = web.Application(middlewares=[contract(guard, admission, lambda: False, metrics.instruments)])
    app.router.add_get("/metrics", get_open_metrics)
    app.on_response_prepare.append(drop_server_header)
    app[METRICS], app[ADMISSION] = metrics, admission
    return app


@asynccontextmanager
async def metrics_port(app: web.Application, host: str, port: int) -> AsyncIterator[None]:
    """
    Answer Prometheus on a port of its own, if there is one.

    Raises:
        ConfigError: If somebody else listens there.
    """
    if not port:
        yield
        return
    runner = Runner(metrics_app(app[METRICS], app[GUARD]), ROOM, shutdown_timeout=CUT_AFTER_S)
    await runner.setup()
    try:
        await listen(runner, host, port, "metrics")
        yield
    finally:
        await runner.cleanup()
