"""The OpenAPI document and its browser.  That real answers keep to the document is held by every test's client."""

from __future__ import annotations

import json
import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.api.fields import Amount
from service.api.problems import CODES
from service.api.requests import AccountBody, DepositBody, EntriesQuery, ExecuteBody, FirmQuoteBody, QuoteQuery
from tests.api.conftest import OUTSIDE_OF_OPERATIONS, Reply, check_answer, document

NOT_IN_THE_DOCUMENT = {"/openapi.json", "/docs", "/docs/{file}"}
"""What gives the document and shows it is not part of the contract that it describes."""


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
    Either header carries the key; life and readiness need none.
    """
    schemes = document()["components"]["securitySchemes"]
    assert {"type": "apiKey", "in": "header", "name": "X-API-Key"} == schemes["header"]
    assert ("http", "bearer") == (schemes["bearer"]["type"], schemes["bearer"]["scheme"])
    for _, path, operation in operations():
        assert (path in ("/healthz", "/readyz")) == ([] == operation.get("security"))


@pytest.mark.parametrize(
    ("path", "method", "schema"),
    [
        ("/quote", "get", QuoteQuery),
        ("/execute", "post", ExecuteBody),
        ("/v1/quotes", "post", FirmQuoteBody),
        ("/v1/account/entries", "get", EntriesQuery),
        ("/v1/admin/accounts", "post", AccountBody),
        ("/v1/admin/accounts/{account}/deposits", "post", DepositBody),
    ],
)
def test_document_names_what_is_understood(path, method, schema):
    """
    The parameters and fields of the document are those that requests are read by; amounts have their pattern.
    """
    operation = document()["paths"][path][method]
    if method == "get":
        described = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
        required = {parameter["name"] for parameter in operation["parameters"] if parameter["required"]}
    else:
        name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        body = document()["components"]["schemas"][name]
        described, required = body["properties"], set(body["required"])
        assert False is body["additionalProperties"]
    assert set(schema().fields) == set(described)
    assert {name for name, field in schema().fields.items() if field.required} == required
    for name, field in schema().fields.items():
        if isinstance(field, Amount):
            assert ("string", True) == (described[name]["type"], described[name]["pattern"].startswith("^(0|[1-9]"))


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
