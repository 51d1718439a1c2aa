"""A browser in front of the service, and everything that must not happen in it, noticed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    WebSocket,
    async_playwright,
    expect,
)

from tests.web.served import NAME

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
)
STARTS_WITHIN_MS = 60_000
WITHIN_MS = 20_000
"""So long is waited for anything on a page; a machine that is busy fails no test."""
_WATCH = """
    window.watched = {shifted: 0, moved: []};
    document.addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile}) =>
        console.error(`policy violated: ${violatedDirective} by ${blockedURI} in ${sourceFile}`));
    new PerformanceObserver(list => {
        for (const entry of list.getEntries()) {
            if (entry.hadRecentInput) continue;
            watched.shifted += entry.value;
            for (const {node, previousRect: was, currentRect: is} of entry.sources) {
                if (Math.abs(was.y - is.y) <= 1 && Math.abs(was.height - is.height) <= 1) continue;
                const name = node && (node.id || node.className || node.nodeName);
                watched.moved.push(`${name}: from ${was.y} (${was.height} high) to ${is.y} (${is.height} high)`);
            }
        }
    }).observe({type: "layout-shift", buffered: true});
"""
FORBIDDEN = ("'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:", "data:", "blob:")
"""What a strict policy does not let scripts and styles come from."""


@asynccontextmanager
async def launched(path: str) -> AsyncIterator[Browser]:
    """Start a browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=list(ARGUMENTS), timeout=STARTS_WITHIN_MS, chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """
    One person's page, from an empty browser on, and what went wrong in it.

    Args:
        key: A key that must not be found anywhere but where it belongs.
    """

    context: BrowserContext
    page: Page
    address: str
    key: str
    faults: list[str] = field(default_factory=list)
    documents: list[dict[str, str]] = field(default_factory=list)
    _expected: list[re.Pattern[str]] = field(default_factory=list)

    def expect_in_console(self, pattern: str) -> None:
        """
        Let the browser itself say this in its console from now on.

        It does so of every answer that is a refusal, and of every connection that cannot be made; no page can keep it
        from that.
        """
        self._expected.append(re.compile(pattern))

    # What a person does

    async def enter(self) -> None:
        """Give the key, and see the page come to life."""
        await self.page.get_by_label("API key").fill(self.key)
        await self.page.get_by_role("button", name="Open").click()
        await self.is_live()

    async def is_live(self) -> None:
        """See that the page hears of the service, and shows a book."""
        await expect(self.connection).to_have_attribute("data-state", "live")
        await expect(self.asks.first).to_be_visible()

    async def ask_for(self, quantity: str, side: str = "Buy") -> None:
        """Fill in the ticket, and see a price that can be executed."""
        await self.ticket.get_by_text(side, exact=True).click()
        await self.ticket.get_by_label("Quantity").fill(quantity)
        await expect(self.execute).to_contain_text(f"{side.lower()} {quantity}")
        await expect(self.execute).to_be_enabled()

    async def moves(self) -> None:
        """See the ladder become another one."""
        before = await self.ladder.inner_text()
        await expect(self.ladder).not_to_have_text(before, use_inner_text=True)

    # What a person looks at

    @property
    def connection(self) -> Locator:
        return self.page.get_by_test_id("connection")

    @property
    def ladder(self) -> Locator:
        return self.page.get_by_test_id("ladder")

    @property
    def asks(self) -> Locator:
        return self.ladder.locator("[data-side=ask]")

    @property
    def ticket(self) -> Locator:
        return self.page.get_by_role("form", name="Quote")

    @property
    def execute(self) -> Locator:
        return self.page.get_by_role("button", name="Execute")

    @property
    def refusal(self) -> Locator:
        return self.page.get_by_test_id("refusal")

    @property
    def waterfall(self) -> Locator:
        return self.page.get_by_role("figure", name="Waterfall")

    @property
    def executions(self) -> Locator:
        return self.page.get_by_role("table", name="Executions")

    @property
    def account(self) -> Locator:
        return self.page.get_by_role("region", name="Account")

    @property
    def fill(self) -> Locator:
        return self.page.get_by_test_id("fill")

    @property
    def stale(self) -> Locator:
        return self.page.get_by_test_id("stale")

    def lamp(self, venue: str) -> Locator:
        return self.page.get_by_role("list", name="Venues").locator(f"[data-venue={venue}]")

    # What must not happen

    def watch(self) -> None:
        """Notice what happens."""
        self.context.on("request", self._on_request)
        self.context.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error of the page: {error}"))
        self.page.on("websocket", self._on_websocket)
        self.page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        said = f"{message.text} ({message.location.get('url', '')})"
        if not any(pattern.search(said) for pattern in self._expected):
            self.faults.append(f"{message.type} in the console: {said}")

    def _on_request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("data", "blob") and f"{url.scheme}://{url.netloc}" != self.address:
            self.faults.append(f"request to another host: {request.url}")
        if self.key in request.url:
            self.faults.append(f"the key stands in an address: {request.method} {url.path}")
        if self.key in (request.post_data or ""):
            self.faults.append(f"the key stands in a body: {request.method} {url.path}")
        for name, value in request.headers.items():
            if self.key in value and name not in ("x-api-key", "authorization"):
                self.faults.append(f"the key stands in the header {name}: {request.method} {url.path}")

    def _on_response(self, response: Any) -> None:
        if response.request.resource_type == "document":
            self.documents.append(response.headers)

    def _on_websocket(self, socket: WebSocket) -> None:
        if not socket.url.startswith(self.address.replace("http", "ws", 1) + "/"):
            self.faults.append(f"stream of another host: {socket.url}")
        if self.key in socket.url:
            self.faults.append("the key stands in the address of a stream")
        sent: list[str | bytes] = []

        def told(text: str | bytes) -> None:
            if sent and self.key in str(text):
                self.faults.append("the key stands in a message that is not a stream's first")
            sent.append(text)

        socket.on("framesent", told)

    async def look_back(self) -> None:
        """
        Be sure that nothing went wrong up to now.

        Raises:
            AssertionError: With everything that did.
        """
        if self.page.url.startswith(self.address):
            await self._look_into_stores()
        for headers in self.documents:
            self.faults += _weaknesses(headers.get("content-security-policy", ""))
        assert not self.faults, "\n".join(self.faults)

    async def _look_into_stores(self) -> None:
        stores = await self.page.evaluate(
            "({local: Object.entries(localStorage).join(), cookies: document.cookie, address: location.href})"
        )
        self.faults += [f"the key stands in the page's {name}" for name, text in stores.items() if self.key in text]
        if await self.context.cookies():
            self.faults.append("the page set a cookie")


def _weaknesses(policy: str) -> list[str]:
    """Say where a policy is not strict."""
    directives = {name: rest.split() for name, _, rest in (part.strip().partition(" ") for part in policy.split(";"))}
    if directives.get("default-src") not in (["'none'"], ["'self'"]):
        return [f"not a strict policy: {policy!r}"]
    return [
        f"{name} allows {source}"
        for name in ("default-src", "script-src", "style-src", "connect-src", "object-src", "frame-src")
        for source in directives.get(name, ())
        if source in FORBIDDEN
    ]


@asynccontextmanager
async def visiting(browser: Browser, address: str, key: str, **options: Any) -> AsyncIterator[Visit]:
    """
    Open an empty page as somebody who was never here; on the way out nothing may have gone wrong.

    Args:
        options: Of the browser's context, such as ``color_scheme`` and ``viewport``.
    """
    context = await browser.new_context(**options)
    try:
        context.set_default_timeout(WITHIN_MS)
        await context.add_init_script(_WATCH)
        visit = Visit(context, await context.new_page(), address, key)
        visit.watch()
        yield visit
        await visit.look_back()
    finally:
        await context.close()
