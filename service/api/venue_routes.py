"""The venues over HTTP: how each is doing, and changing them, with all other settings, while the service runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp_apispec import match_info_schema

from exchanges.board import Source
from service.api import answers, requests
from service.api.handlers import API, GENERAL, Api, VenueReport, json_answer, nearest_venue, operation
from service.api.middleware import RECORD, needs
from service.api.render import venue_message
from service.errors import ConfigError, Fault, RequestError

_IN_FORCE = "until the next reload or restart"


@needs("quote")
@operation(
    "List venues",
    "Every venue of the settings in force: state, reason, age, poll or stream, counters and fees.",
    answers.VenuesSchema,
    (*GENERAL, "unknown_parameter"),
)
async def get_venues(request: web.Request) -> web.Response:
    """Answer ``GET /v1/venues``."""
    api = request.app[API]
    return json_answer({"venues": venue_messages(api, api.venues()), "next_cursor": None})


def venue_messages(api: Api, reports: Sequence[VenueReport]) -> list[dict[str, Any]]:
    """Write how venues are doing."""
    now_ns, now = api.clock.now_ns(), api.clock.utc()
    by_venue: dict[str, list[Source]] = {report.name: [] for report in reports}
    for symbol in api.board.symbols:
        for source in api.board.sources(symbol, now_ns):
            if source.venue in by_venue:
                by_venue[source.venue].append(source)
    return [
        venue_message(
            report.name,
            by_venue[report.name],
            enabled=report.enabled,
            poll_interval_ms=report.poll_interval_ms,
            transport=report.transport,
            fallback_reason=report.fallback_reason,
            tally=report.tally,
            since=_since(by_venue[report.name], now_ns, now),
        )
        for report in reports
    ]


def _since(sources: Sequence[Source], now_ns: int, now: datetime) -> dict[str, datetime]:
    """Put the beginnings of states, which the boot-time clock measured, on the wall clock."""
    return {source.symbol: now - timedelta(microseconds=(now_ns - source.since_ns) // 1_000) for source in sources}


@needs("admin")
@operation(
    "Reload settings",
    "Read the settings file and the environment of the start again, and go by them at once; requests under way finish "
    "on what they started with. Settings with a mistake change nothing. Venues that were switched are again what the "
    "file says.",
    answers.ReloadedSchema,
    (*GENERAL, "unknown_parameter", "invalid_settings"),
)
async def post_reload(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/reload``."""
    try:
        reloaded = await request.app[API].switching.reload()
    except ConfigError as error:
        raise _invalid(error) from error
    return json_answer({"changed": reloaded.changed, "needs_restart": reloaded.needs_restart})


@needs("admin")
@operation(
    "Enable venue",
    "Ask a venue of the settings again, until the next reload or restart, when the settings file decides. One that is "
    "enabled already is answered as it stands.",
    answers.SwitchedVenueSchema,
    (*GENERAL, "unknown_parameter", "not_found", "invalid_settings"),
)
@match_info_schema(requests.VenuePath)
async def post_enable(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/venues/{venue}/enable``."""
    return await _switch(request, enabled=True)


@needs("admin")
@operation(
    "Disable venue",
    "Leave a venue of the settings alone, until the next reload or restart, when the settings file decides. One that "
    "is disabled already is answered as it stands. Symbols that no other venue serves are not quoted meanwhile.",
    answers.SwitchedVenueSchema,
    (*GENERAL, "unknown_parameter", "not_found"),
)
@match_info_schema(requests.VenuePath)
async def post_disable(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/venues/{venue}/disable``."""
    return await _switch(request, enabled=False)


async def _switch(request: web.Request, *, enabled: bool) -> web.Response:
    api, venue = request.app[API], request["match_info"]["venue"]
    try:
        await api.switching.switch(venue, enabled=enabled)
    except KeyError:
        near = nearest_venue(venue, api.switching.settings.venues)
        raise RequestError(
            "not_found", "the settings have no such venue" + (f"; the nearest is {near}" if near else "")
        ) from None
    except ConfigError as error:
        raise _invalid(error) from error
    request[RECORD].update(for_venue=venue)
    [message] = venue_messages(api, [report for report in api.venues() if report.name == venue])
    return json_answer({**message, "in_force": _IN_FORCE})


def _invalid(error: ConfigError) -> RequestError:
    """Give every mistake with the key that it is about."""
    faults = [Fault(problem.partition(": ")[0], "invalid_settings", problem) for problem in error.problems]
    return RequestError("invalid_settings", "the settings have mistakes; nothing was changed", faults)


VENUE_ROUTES = (
    web.get("/v1/venues", get_venues),
    web.post("/v1/admin/reload", post_reload),
    web.post("/v1/admin/venues/{venue}/enable", post_enable),
    web.post("/v1/admin/venues/{venue}/disable", post_disable),
)
