"""The dashboard: static files of ``service/web``, read once, each held ready as it is and compressed."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from aiohttp import web

from service.api.handlers import kept_answer

_WEB: Final = Path(__file__).parents[1] / "web"
_INDEX: Final = "index.html"
_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
_IMPORT_MAP: Final = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)
_POLICY: Final = (
    "default-src 'none'; script-src 'self' '{import_map}'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent: whole, and compressed."""

    media_type: str
    plain: bytes
    zipped: bytes


@dataclass(frozen=True, slots=True)
class _Site:
    """All files of the page by name, and the headers that every one of them bears."""

    files: Mapping[str, _File]
    headers: Mapping[str, str]


@cache
def _site() -> _Site:
    """Read our files and the vendored ones; what has no type that a page needs is not served."""
    paths = [path for folder in (_WEB, _WEB / "vendor") for path in folder.iterdir() if path.suffix in _TYPES]
    files = {path.name: _file(_TYPES[path.suffix], path.read_bytes()) for path in paths}
    policy = _POLICY.format(import_map=_hash_of_import_map(files[_INDEX].plain.decode()))
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Vary": "Accept-Encoding"}
    return _Site(files, headers)


def _file(media_type: str, body: bytes) -> _File:
    return _File(media_type, body, gzip.compress(body, 9, mtime=0))


def _hash_of_import_map(page: str) -> str:
    """Give what lets the page's one inline script be read: the table of where modules are."""
    [import_map] = _IMPORT_MAP.findall(page)
    return f"sha256-{b64encode(sha256(import_map.encode()).digest()).decode()}"


async def get_page(request: web.Request) -> web.Response:
    """Answer ``GET /`` and the files of its page."""
    site = _site()
    file = site.files.get(request.match_info.get("file", _INDEX))
    if file is None:
        raise web.HTTPNotFound
    headers = dict(site.headers)
    if takes_gzip(request.headers.getall("Accept-Encoding", [])):
        return kept_answer(request, file.zipped, file.media_type, {**headers, "Content-Encoding": "gzip"})
    return kept_answer(request, file.plain, file.media_type, headers)


def takes_gzip(accepted: list[str]) -> bool:
    """Tell whether the header fields ``Accept-Encoding`` name gzip, and do not rule it out by ``q=0``."""
    for entry in ",".join(accepted).split(","):
        coding, _, quality = entry.replace(" ", "").lower().partition(";")
        if coding in ("gzip", "x-gzip"):
            return not re.fullmatch(r"q=0(\.0{0,3})?", quality)
    return False


WEB_ROUTES = (
    web.get("/", get_page),
    web.get("/web/{file}", get_page),
)
