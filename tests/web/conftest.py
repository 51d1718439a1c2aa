"""What the page's tests share: a browser for each file, and for each test a service and an empty profile."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest_asyncio
from playwright.async_api import expect

import service.app
from service import logs
from tests.api.conftest import SharedOpenApi
from tests.tools import tool
from tests.web.served import serving
from tests.web.visiting import WITHIN_MS, launched, visiting

service.app.OpenApi = SharedOpenApi
expect.set_options(timeout=WITHIN_MS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    """One browser without a window for all tests of a file: starting it takes as long as several of them."""
    async with launched(tool("chromium")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path, logging_as_before, request):
    """The service on a moving market; an indirect parameter changes its settings, table by table."""
    logs.configure("json", "critical", (tmp_path / "log").open("wb"))
    async with serving(tmp_path, getattr(request, "param", None)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def visit(browser, served):
    """
    Open the page as somebody who was never here; options are those of the browser's context.

    When the test is over, nothing may have gone wrong in it: see ``Visit.look_back``.
    """
    async with AsyncExitStack() as stack:

        async def come(*, key="all", address=None, **options):
            address = address or served.address
            visit = await stack.enter_async_context(visiting(browser, address, served.keys[key], **options))
            await visit.page.goto(address)
            return visit

        yield come
