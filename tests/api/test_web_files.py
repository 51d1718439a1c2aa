"""Hold the dashboard's files to what was vendored, and how they are served to what its page needs and no more."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path

import pytest

import service
from service.api.web_routes import takes_gzip

WEB = Path(service.__file__).parent / "web"
VENDOR = WEB / "vendor"
PACKAGES = json.loads((VENDOR / "VENDORED.json").read_text(encoding="utf-8"))["packages"]
VENDORED = {name: file["sha256"] for package in PACKAGES for name, file in package["files"].items()}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
SERVED = {path.name: path for folder in (WEB, VENDOR) for path in folder.iterdir() if path.suffix in TYPES}
SCRIPTS = {name: path for name, path in SERVED.items() if path.suffix in (".js", ".mjs")}
OURS = {name: path.read_text(encoding="utf-8") for name, path in SERVED.items() if name not in VENDORED}
INDEX = OURS["index.html"]
[IMPORT_MAP] = re.findall(r'<script type="importmap">(.*?)</script>', INDEX, re.DOTALL)
IMPORTS = json.loads(IMPORT_MAP)["imports"]
TRANSFER_MAX_BYTES = 200_000


class Elements(HTMLParser):
    """Collect a page's elements, and the text that stands inside ``style``."""

    def __init__(self, markup):
        super().__init__()
        self.all = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))


ELEMENTS = Elements(INDEX).all


async def sent(house, path, *fields):
    """Ask for a file by hand: no client unpacks what came."""
    lines = (f"GET {path} HTTP/1.1", "Host: x", *fields)
    return await house.wire("\r\n".join([*lines, "", ""]).encode())


# What was vendored


@pytest.mark.parametrize(("name", "sha256"), sorted(VENDORED.items()))
def test_vendored_file_is_the_published_one(name, sha256):
    """
    A vendored file is byte for byte the one of the package version named beside it.
    """
    assert sha256 == hashlib.sha256((VENDOR / name).read_bytes()).hexdigest()


def test_every_vendored_file_is_listed_with_its_licence():
    """
    Nothing lies in the folder that is not listed with package, version and hash, and each licence came along.
    """
    assert {path.name for path in VENDOR.iterdir()} == VENDORED.keys() | {"VENDORED.json"}
    for package in PACKAGES:
        assert {"package", "version", "licence", "files"} == package.keys()
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"] in ("MIT", "Apache-2.0")
        assert [name for name in package["files"] if name.endswith(".LICENSE")]
    assert "://" not in (VENDOR / "VENDORED.json").read_text(encoding="utf-8")


def test_names_of_files_are_their_addresses():
    """
    Our files and vendored ones share one folder of addresses, so no two bear the same name.
    """
    paths = [path.name for folder in (WEB, VENDOR) for path in folder.iterdir() if path.is_file()]

    assert sorted(set(paths)) == sorted(paths)


# What the page is made of


def test_modules_find_what_they_import():
    """
    Every import is a file beside it, or a name that the page's table of modules knows.
    """
    for name, path in SCRIPTS.items():
        for imported in re.findall(r'\bfrom\s*"([\w@./-]+)"', path.read_text(encoding="utf-8")):
            address = IMPORTS.get(imported) or f"/web/{imported.removeprefix('./')}"
            assert address.removeprefix("/web/") in SERVED, f"{name} imports {imported}"


def test_page_has_one_inline_script_and_no_style():
    """
    Nothing on the page needs 'unsafe-inline': the table of modules is let in by its hash, all else are files.
    """
    inline = [attributes for tag, attributes in ELEMENTS if tag == "script" and "src" not in attributes]
    names = {name for _, attributes in ELEMENTS for name in attributes}

    assert [{"type": "importmap"}] == inline
    assert "style" not in {tag for tag, _ in ELEMENTS} | names
    assert not [name for name in names if name.startswith("on")]
    assert {1} == {len(re.findall("</", script)) for script in re.findall(r"<script.*?</script>", INDEX, re.DOTALL)}


def test_page_names_no_other_host():
    """
    Every address on the page and in our files is a path of ours; the namespace of SVG is a name, not an address.
    """
    addresses = [value for _, attributes in ELEMENTS for name, value in attributes.items() if name in ("href", "src")]

    assert addresses
    assert all(address.removeprefix("/web/") in SERVED for address in addresses)
    for name, text in OURS.items():
        found = set(re.findall(r"[a-z]+://[^`\s\"']*", text)) - {"http://www.w3.org/2000/svg"}
        assert set() == found, name


def test_key_is_kept_for_the_tab_only():
    """
    The one thing that outlives the tab is the choice of a theme.
    """
    assert {"theme.js"} == {name for name, text in OURS.items() if "localStorage" in text}
    assert {"desk.js"} == {name for name, text in OURS.items() if "sessionStorage" in text}
    assert not [name for name, text in OURS.items() if "document.cookie" in text or "indexedDB" in text]


def test_nothing_is_made_of_texts_that_came():
    """
    What the service says is shown as text: no markup and no code is made of it.
    """
    for name, text in OURS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )


# How it is served


async def test_files_are_served_as_they_are_and_compressed(house):
    """
    Each file comes with its type, whole or compressed as the client has it, and says that it depends on that.
    """
    for name, file in SERVED.items():
        await check_served(house, f"/web/{name}", file)
    await check_served(house, "/", SERVED["index.html"])


async def check_served(house, path, file):
    plain = await sent(house, path)
    zipped = await sent(house, path, "Accept-Encoding: br;q=1, gzip;q=0.5")

    for reply in (plain, zipped):
        assert (200, TYPES[file.suffix]) == (reply.status, reply.headers["Content-Type"].partition(";")[0])
        assert ("Accept-Encoding", "no-cache", "nosniff", "no-referrer") == tuple(
            reply.headers[name] for name in ("Vary", "Cache-Control", "X-Content-Type-Options", "Referrer-Policy")
        )
    assert "Content-Encoding" not in plain.headers
    assert file.read_bytes() == plain.body
    assert "gzip" == zipped.headers["Content-Encoding"]
    assert plain.body == gzip.decompress(zipped.body)
    assert plain.headers["ETag"] != zipped.headers["ETag"]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("deflate, x-gzip", "gzip"),
        ("gzip; q=0.001", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000, br", None),
        ("identity", None),
        ("br", None),
        ("", None),
    ],
)
def test_file_is_compressed_for_whom_it_can_be(accepted, encoding):
    """
    Only who names gzip, and does not rule it out, is sent it.
    """
    assert (encoding == "gzip") == takes_gzip([accepted])


async def test_policy_lets_our_files_run_and_nothing_else(house):
    """
    The policy names the table of modules by its hash; what is inline otherwise, and every other host, stay out.
    """
    digest = b64encode(hashlib.sha256(IMPORT_MAP.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    for path in ("/", "/web/main.js", "/web/app.css"):
        assert policy == (await sent(house, path)).headers["Content-Security-Policy"]


@pytest.mark.parametrize("accept", [(), ("Accept-Encoding: gzip",)])
async def test_what_a_browser_has_is_not_sent_again(house, accept):
    """
    Who knows a file by its tag gets 304 and nothing more; the tag of the other encoding does not count.
    """
    first = await sent(house, "/web/main.js", *accept)
    other = await sent(house, "/web/main.js", *(() if accept else ("Accept-Encoding: gzip",)))
    again = await house.get("/web/main.js", headers=dict(_fields(accept, first.headers["ETag"])), key=None)
    changed = await sent(house, "/web/main.js", *accept, f"If-None-Match: {other.headers['ETag']}")

    assert (304, b"", first.headers["ETag"]) == (again.status, again.body, again.headers["ETag"])
    assert first.headers["Content-Security-Policy"] == again.headers["Content-Security-Policy"]
    assert 200 == changed.status


def _fields(accept, tag):
    yield "If-None-Match", tag
    yield "Accept-Encoding", "gzip" if accept else "identity"


async def test_first_visit_is_small(house):
    """
    All that the page can ask for comes to less than 200 KB.
    """
    replies = [await sent(house, f"/web/{name}", "Accept-Encoding: gzip") for name in SERVED]

    assert sum(len(reply.body) for reply in replies) < TRANSFER_MAX_BYTES


async def test_page_needs_no_key_and_takes_no_parameters(house):
    """
    The page is for everyone; nothing in its address changes it.
    """
    assert 200 == (await house.get("/", key=None)).status
    for path in ("/?symbol=BTC/USDT", "/web/main.js?v=2"):
        assert "unknown_parameter" == (await house.get(path, key=None)).code


NOT_THERE = """
    /web /web/ /web/VENDORED.json /web/vendor/VENDORED.json /web/preact.LICENSE /web/vendor/preact.mjs
    /web/../keys.py /web/..%2fkeys.py /web/%2e%2e%2fkeys.py /web/..%5ckeys.py /web/main.js%00 /web/main.js/
    /web//main.js /web/MAIN.JS /web/. /web/.. /web/%FF /index.html /favicon.ico
"""


async def test_no_other_file_is_served(house):
    """
    Only the page's own files are there: nothing beside them, nothing above them.
    """
    for path in NOT_THERE.split():
        assert (path, "not_found") == (path, (await sent(house, path)).code)
