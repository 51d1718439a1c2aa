"""The OpenAPI document and its browser.  That real answers keep to the document is held by every test's client."""

from __future__ import annotations

import json
import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.api.described import LINKS
from service.api.problems import CODES
from tests.api.conftest import OUTSIDE_OF_OPERATIONS, Reply, check_answer, document

NOT_IN_THE_DOCUMENT = {"/openapi.json", "/docs", "/docs/{file}", "/metrics", "/", "/web/{file}"}
"""What gives the document and shows it is not part of the contract that it describes; nor are metrics and the page."""


def operations():
    return [
        (method, path, operation) for path, item in document()["paths"].items() for method, operation in item.items()
    ]


def test_document_is_valid():
    """
    The document is OpenAPI 3.1 without a fault, and so are its schemas.
    """
    assert "3.1.0" == document()["openapi"]
    assert [] == [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()]


async def test_document_is_the_same_for_every_application(house):
    """
    Two applications in one process give the same document, and so does one asked twice.
    """
    first, second = [await house.get("/openapi.json", key=None) for _ in range(2)]
    assert first.body == second.body
    assert document() == first.json


async def test_document_has_every_route_of_the_contract(house):
    """
    Whatever the router answers stands in the document, method by method, and nothing else does.
    """
    routed = {
        (route.method.lower(), route.resource.canonical)
        for route in house.app.router.routes()
        if route.method != "HEAD" and route.resource.canonical not in NOT_IN_THE_DOCUMENT
    }
    assert routed == {(method, path) for method, path, _ in operations()}


def test_document_gives_every_code_its_route():
    """
    Each code of the contract stands, with its status, at some operation; but for what comes before any operation.
    """
    named = set()
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            codes = re.findall(r"`([a-z_]+)`: ", response["description"]) if int(status) >= 400 else []
            assert all(CODES[code].status == int(status) for code in codes)
            assert bool(codes) == (int(status) >= 400)
            named.update(codes)
    assert set(CODES) - OUTSIDE_OF_OPERATIONS == named


def test_operations_are_told_apart():
    """
    Each operation has an id of its own, a summary and a description.
    """
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))
    assert all(operation["summary"] and operation["description"] for _, _, operation in operations())


def test_document_asks_for_a_key_where_the_service_does():
    """
    Either header carries the key; life and readiness need none, and a stream may be told it in its first message.
    """
    schemes = document()["components"]["securitySchemes"]
    assert {"type": "apiKey", "in": "header", "name": "X-API-Key"} == schemes["header"]
    assert ("http", "bearer") == (schemes["bearer"]["type"], schemes["bearer"]["scheme"])
    for _, path, operation in operations():
        open_to_all = operation["security"] == [] or {} in operation["security"]
        assert (path in ("/healthz", "/readyz", "/v1/stream")) == open_to_all


def test_document_asks_for_the_scopes_that_a_route_needs(house):
    """
    Either header carries a key with the scopes of the route's own mark.
    """
    for route in house.app.router.routes():
        scopes = getattr(route.handler, "__scopes__", [])
        item = document()["paths"].get(route.resource.canonical, {})
        if route.method.lower() in item:
            security = item[route.method.lower()]["security"]
            assert security == [{"header": scopes}, {"bearer": scopes}] if scopes else [] == security or {} in security


def test_every_operation_stands_under_a_tag():
    """
    Tags have descriptions, and each has operations.
    """
    tags = {tag["name"]: tag["description"] for tag in document()["tags"]}
    assert all(tags.values())
    assert set(tags) == {tag for _, _, operation in operations() for tag in operation["tags"]}
    assert all(1 == len(operation["tags"]) for _, _, operation in operations())


def test_answers_name_their_headers():
    """
    Each answer has its X-Request-Id, each with a key its limits, and refusals say when or how to come again.
    """
    for _, path, operation in operations():
        for status, response in operation["responses"].items():
            named = set(response["headers"])
            codes = re.findall(r"`([a-z_]+)`: ", response["description"]) if int(status) >= 400 else []
            assert "X-Request-Id" in named
            assert (status == "401") == ("WWW-Authenticate" in named)
            assert (status in ("429", "503") or "execution_in_progress" in codes) == ("Retry-After" in named)
            limited = (
                operation["security"] and {} not in operation["security"] and status not in ("401", "403", "413", "415")
            )
            assert (2 if limited else 0) == len({"RateLimit", "RateLimit-Policy"} & named), (path, status)
    execute = document()["paths"]["/execute"]["post"]
    assert "Idempotent-Replayed" in execute["responses"]["200"]["headers"]
    assert {"$ref": "#/components/parameters/Idempotency-Key"} in execute["parameters"]


def test_links_lead_to_what_they_name():
    """
    Every link is to an operation of the document, and its words are that operation's and that answer's.
    """
    by_id = {operation["operationId"]: operation for _, _, operation in operations()}
    followed = 0
    for _, _, operation in operations():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                followed += 1
                names = {parameter.get("name") for parameter in by_id[link["operationId"]]["parameters"]}
                assert set(link.get("parameters", ())) <= names
                answered = fields_of(response["content"]["application/json"]["schema"])
                used = [*link.get("parameters", {}).values(), *link.get("requestBody", {}).values()]
                assert {name.rpartition("/")[2] for name in used if "body#" in name} <= answered
    assert followed >= 10


def test_every_link_is_of_an_operation():
    """
    No link waits for an operation that there is not.
    """
    ids = {operation["operationId"] for _, _, operation in operations()}
    assert {operation_id for operation_id, _ in LINKS} <= ids


def fields_of(schema):
    """Give the names of a message's fields, over all of its forms."""
    if "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return set(schema.get("properties", ())).union(*map(fields_of, schema.get("oneOf", ())))


async def test_client_of_these_tests_sees_what_the_document_does_not_name(house):
    """
    A member too many, one too few, an unlisted status or an unlisted code would fail any test that meets it.
    """
    good = await house.quote()
    check_answer("GET", "/quote", good)
    without_warnings = {name: value for name, value in good.json.items() if name != "warnings"}
    for changed in (
        good.json | {"total": "1"},
        good.json | {"market": good.json["market"] | {"last": "1"}},
        good.json | {"created_at": 5},
        good.json | {"kind": "firm"},
        without_warnings,
    ):
        with pytest.raises(AssertionError):
            check_answer("GET", "/quote", Reply(good.status, good.headers, json.dumps(changed).encode()))
    with pytest.raises(KeyError):
        check_answer("GET", "/quote", Reply(201, good.headers, good.body))
    refused = await house.get("/v1/book?symbol=NO/NO")
    elsewhere = Reply(404, refused.headers, refused.body)
    with pytest.raises((AssertionError, KeyError)):
        check_answer("GET", "/v1/venues", elsewhere)


# The browser


DOCS = {
    "/docs": "text/html",
    "/docs/index.html": "text/html",
    "/docs/init.js": "text/javascript",
    "/docs/swagger-ui-bundle.js": "text/javascript",
    "/docs/swagger-ui.css": "text/css",
    "/docs/favicon-32x32.png": "image/png",
}


async def test_browser_is_served_behind_a_strict_policy(house):
    """
    The page and its files come with their types and with a policy that lets nothing else run or be reached.
    """
    for path, media_type in DOCS.items():
        reply = await house.get(path, key=None)
        assert (path, 200, media_type) == (path, reply.status, reply.headers["Content-Type"].partition(";")[0])
        policy = reply.headers["Content-Security-Policy"]
        assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= set(
            policy.split("; ")
        )
        assert "unsafe" not in policy
        assert ("nosniff", "no-referrer") == (
            reply.headers["X-Content-Type-Options"],
            reply.headers["Referrer-Policy"],
        )
    page = (await house.get("/docs", key=None)).body.decode()
    for address in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert 200 == (await house.get(address, key=None)).status


@pytest.mark.parametrize("path", ["/openapi.json", *DOCS])
async def test_what_a_client_has_is_not_sent_again(house, path):
    """
    The document and the browser's files bear a tag of their content: who knows it gets 304 and nothing more.
    """
    first = await house.get(path, key=None)
    tag = first.headers["ETag"]
    assert (200, "no-cache", "nosniff") == (
        first.status,
        first.headers["Cache-Control"],
        first.headers["X-Content-Type-Options"],
    )
    assert re.fullmatch('"[0-9a-f]{32}"', tag)
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await house.get(path, key=None, headers={"If-None-Match": known})
        assert (304, b"", tag) == (again.status, again.body, again.headers["ETag"])
        assert first.headers.get("Content-Security-Policy") == again.headers.get("Content-Security-Policy")
    assert 200 == (await house.get(path, key=None, headers={"If-None-Match": '"other"'})).status
    head = await house.ask("HEAD", path, key=None)
    assert (200, b"", tag, str(len(first.body))) == (
        head.status,
        head.body,
        head.headers["ETag"],
        head.headers["Content-Length"],
    )


async def test_an_address_of_another_document_is_not_looked_at(house):
    """
    ``?url=`` shows nobody's document under our name: it is refused, and the page would not read it.
    """
    assert "unknown_parameter" == (await house.get("/docs?url=https://example.org/", key=None)).code


@pytest.mark.parametrize(
    "path",
    ["/docs/VENDORED.json", "/docs/LICENSE", "/docs/NOTICE", "/docs/swagger-ui-bundle.js.LICENSE.txt", "/docs/../x",
     "/docs/..%2fproblems.py", "/docs/%2e%2e%2f%2e%2e%2fkeys.py", "/docs/..%5cproblems.py", "/docs/%00", "/docs/",
     "/docs/init.js%00.png", "/docs/init.js/", "/docs//init.js", "/docs/INIT.JS", "/docs/%2fetc%2fpasswd",
     "/docs/.", "/docs/..", "/docs/%FF"],
)  # fmt: skip
async def test_no_other_file_is_served(house, path):
    """
    Only the page's own files are there: nothing beside them, nothing above them.
    """
    reply = await house.wire(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert "not_found" == reply.code
