"""Hold the API browser's files to what was vendored and to what its Content-Security-Policy lets run."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import service.api

DOCS_UI = Path(service.api.__file__).parent / "docs_ui"
OURS = {"VENDORED.json", "index.html", "init.js"}
VENDORED = json.loads((DOCS_UI / "VENDORED.json").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Collect a page's elements, and the text that stands inside ``script`` and ``style``."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self._open = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in {"script", "style"}:
            self.inline += data


@pytest.fixture(scope="module")
def index() -> Page:
    return Page((DOCS_UI / "index.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "sha256"), sorted(VENDORED["sha256"].items()))
def test_vendored_file_is_the_published_one(name: str, sha256: str) -> None:
    """
    A vendored file is byte for byte the one of the package version named beside it.
    """
    assert sha256 == hashlib.sha256((DOCS_UI / name).read_bytes()).hexdigest()


def test_every_file_is_ours_or_listed() -> None:
    """
    Nothing lies in the folder that is neither ours nor listed with its hash, and the licence came along.
    """
    assert OURS | set(VENDORED["sha256"]) == {path.name for path in DOCS_UI.iterdir()}
    assert {"LICENSE", "NOTICE", "swagger-ui-bundle.js.LICENSE.txt"} <= set(VENDORED["sha256"])


def test_list_names_package_version_and_licence() -> None:
    """
    The list says which package the files are from, and nothing of where it was fetched.
    """
    assert {"package", "version", "licence", "sha256"} == set(VENDORED)
    assert ("swagger-ui-dist", "Apache-2.0") == (VENDORED["package"], VENDORED["licence"])
    assert re.fullmatch(r"5\.\d+\.\d+", VENDORED["version"])
    assert "//" not in json.dumps(VENDORED)


def test_index_has_nothing_inline(index: Page) -> None:
    """
    The page runs and looks right without 'unsafe-inline': scripts and styles are files, and no tag has a handler.
    """
    names = {name for _, attributes in index.elements for name in attributes}

    assert "" == index.inline.strip()
    assert all(attributes.get("src") for tag, attributes in index.elements if tag == "script")
    assert "style" not in {tag for tag, _ in index.elements} | names
    assert not [name for name in names if name.startswith("on")]


def test_index_asks_this_server_only(index: Page) -> None:
    """
    Every address on the page is a path of ours, and every file that it asks for is there.
    """
    addresses = [
        value or "" for _, attributes in index.elements for name, value in attributes.items() if name in {"href", "src"}
    ]
    files = [address.removeprefix("/docs/") for address in addresses if address.startswith("/docs/")]

    assert [] == [address for address in addresses if not re.match(r"/[^/\\]", address)]
    assert "//" not in (DOCS_UI / "index.html").read_text(encoding="utf-8")
    assert {"swagger-ui.css", "swagger-ui-bundle.js", "init.js"} <= set(files)
    assert [] == [name for name in files if not (DOCS_UI / name).is_file()]


@pytest.mark.parametrize(
    "setting",
    [
        'url: "/openapi.json"',
        'layout: "BaseLayout"',
        "deepLinking: false",
        # The three that keep ?url= without effect and our document's address to ourselves.
        "queryConfigEnabled: false",
        "validatorUrl: null",
        "persistAuthorization: false",
    ],
)
def test_init_keeps_the_page_to_our_document(setting: str) -> None:
    """
    The browser shows our document only, tells nobody of it, and forgets the keys typed into it.
    """
    assert 1 == (DOCS_UI / "init.js").read_text(encoding="utf-8").count(f"  {setting},\n")
