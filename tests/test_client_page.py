"""The client's page is the client: methods, what is sent again, errors, updates."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing

import pytest
from aiohttp import web

from service import client as package
from service.api.routes import add_routes
from service.client import OrderBookClient, OrderBookError, Retries, Stream, errors, streaming
from service.client.admin import Admin
from tests.client.loopback import Page, Problem, loopback
from tests.test_documentation import ROOT, rows

PAGE = "docs/client.md"
ARGUMENTS = {
    "symbol": "BTC/USDT",
    "side": "buy",
    "quote": "q2.abc",
    "bps": ["5"],
    "account": "alice",
    "asset": "USDT",
    "amount": "5",
    "venue": "okx",
    "scopes": ["quote"],
    "overlap_ms": 1000,
}


def methods():
    """Give the rows of the page's methods."""
    return list(rows(PAGE, r"`client\..*`"))


def public(kind):
    return {name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")}


def test_page_lists_every_method():
    """
    The table of methods is the client's and its admin's.
    """
    wanted = {f"client.{name}" for name in public(OrderBookClient) - {"close"}}
    wanted |= {f"client.admin.{name}" for name in public(Admin)}

    assert wanted == {row[0].strip("`") for row in methods()}


def test_page_names_routes_of_the_contract():
    """
    Every route on the page is one of the service's, and every one of the service's that is for programs is on it.
    """
    app = web.Application()
    add_routes(app)
    routed = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.method != "HEAD"
        and not re.fullmatch(
            r"/v1/quote|/v1/execute|/docs.*|/openapi.json|/metrics|/|/web/.*", route.resource.canonical
        )
    }

    assert routed <= {row[1].strip("`") for row in methods()}


@pytest.mark.parametrize("row", [row for row in methods() if row[0] != "`client.stream`"], ids=lambda row: row[0])
async def test_each_method_asks_its_route_and_is_sent_again_as_the_page_says(row):
    """
    Each method sends what its row says; a proxy's page, and a refusal that passes, are followed by another if so.
    """
    name, route, again = (cell.strip("`") for cell in row)
    sent = []
    async with loopback(deadline_s=2) as (server, client):
        for act in (Page(502), Problem("shutting_down")):
            server.always = act
            server.received.clear()
            method = client
            for part in name.split(".")[1:]:
                method = getattr(method, part)
            needed = {
                one.name: ARGUMENTS.get(one.name, "an-id")
                for one in inspect.signature(method).parameters.values()
                if one.default is one.empty and one.kind is not one.VAR_KEYWORD
            }
            asked = method(**needed)
            with pytest.raises(OrderBookError):
                await (anext(asked) if inspect.isasyncgen(asked) else asked)
            sent.append(len(server.received) > 1)

    verb, path = route.split(" ")
    assert re.fullmatch(re.sub(r"\{[^/]+\}", "[^/]+", path), server.received[0][1])
    assert verb == server.received[0][0]
    assert {"yes": [True, True], "if nothing has run": [False, True], "no": [False, False]}[again] == sent


def test_page_lists_every_setting_of_retries():
    """
    The table of settings is that of `Retries`, with its defaults.
    """
    listed = {row[0].strip("`"): row[1].strip("`") for row in rows(PAGE, r"`[a-z_]+`") if len(row) == 3}
    defaults = {one.name: one.default for one in dataclasses.fields(Retries)}

    assert listed.keys() == defaults.keys()
    for name, default in defaults.items():
        assert listed[name].split(".")[-1] == str(getattr(default, "__name__", default)).split(".")[-1]


def test_page_lists_every_error():
    """
    The table of errors is the tree of classes, each with its codes.
    """
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OrderBookError)]
    expected = {
        kind.__name__: (kind.__base__.__name__, {code for code, one in errors.CODES.items() if one is kind})
        for kind in classes
        if kind is not OrderBookError
    }
    listed = {
        row[0].strip("`"): (row[1].strip("`"), set(re.findall(r"`(\w+)`", row[3])))
        for row in rows(PAGE, r"`[A-Z]\w+`")
        if len(row) == 4
    }

    assert expected == listed
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert sorted(expected) == sorted(drawn)
    assert expected.keys() <= set(package.__all__)


def test_page_lists_every_update():
    """
    The table of updates is what a stream gives.
    """
    listed = {row[0].strip("`") for row in rows(PAGE, r"`[A-Z]\w+`") if len(row) == 2}

    assert {kind.__name__ for kind in typing.get_args(streaming.Update)} == listed <= set(package.__all__)
    text = (ROOT / PAGE).read_text()
    assert all(f"`stream.{name}`" in text for name in public(Stream))
