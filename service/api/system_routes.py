"""What tells of the service itself: that it lives, that it is ready, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs

from service.api import answers
from service.api.handlers import API, json_answer, kept_answer, operation
from service.api.middleware import needs
from service.api.problems import CODES
from service.api.render import source_message
from service.errors import RequestError, Unavailable
from service.market.screening import used

_DOCS = Path(__file__).parent / "docs_ui"
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DOCS_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".png": "image/png"}


@needs(None)
@docs(security=[])
@operation("Check life", "200 while the process runs.", answers.HealthSchema, ("unknown_parameter",))
async def get_healthz(request: web.Request) -> web.Response:
    """Answer ``GET /healthz``."""
    return json_answer({"status": "alive"})


@needs(None)
@docs(security=[])
@operation(
    "Check readiness",
    "200 if every symbol has enough live venues, else 503 with every venue's reason.",
    answers.ReadinessSchema,
    ("unknown_parameter", "no_fresh_market_data", "shutting_down"),
)
async def get_readyz(request: web.Request) -> web.Response:
    """Answer ``GET /readyz``."""
    api = request.app[API]
    now_ns = api.clock.now_ns()
    if api.desk.closing:
        raise Unavailable("shutting_down", CODES["shutting_down"].meaning)
    needed = api.market.venues_min
    symbols = []
    for symbol in api.market.symbols:
        sources = api.market.sources(symbol, now_ns)
        live = sum(used(source) for source in sources)
        entry: dict[str, Any] = {"symbol": symbol, "live_venues": live, "venues_min": needed}
        if live < needed:
            entry["sources"] = [{**source_message(source), "used": False} for source in sources]
        symbols.append(entry)
    short = [entry for entry in symbols if "sources" in entry]
    if short:
        names = ", ".join(entry["symbol"] for entry in short)
        raise RequestError("no_fresh_market_data", f"too few live venues: {names}", symbols=short)
    return json_answer({"status": "ready", "symbols": symbols})


async def get_openapi(request: web.Request) -> web.Response:
    """Answer ``GET /openapi.json``."""
    return kept_answer(request, request.app[API].openapi(), "application/json")


async def get_docs(request: web.Request) -> web.StreamResponse:
    """Answer ``GET /docs`` and the files of its page."""
    name = request.match_info.get("file", "index.html")
    body = _docs_files().get(name)
    if body is None:
        raise web.HTTPNotFound
    return kept_answer(
        request,
        body,
        _DOCS_TYPES[Path(name).suffix],
        {"Content-Security-Policy": _DOCS_POLICY, "Referrer-Policy": "no-referrer"},
    )


@cache
def _docs_files() -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in _DOCS.iterdir() if path.suffix in _DOCS_TYPES}


SYSTEM_ROUTES = (
    web.get("/healthz", get_healthz),
    web.get("/readyz", get_readyz),
    web.get("/openapi.json", get_openapi),
    web.get("/docs", get_docs),
    web.get("/docs/{file}", get_docs),
)
