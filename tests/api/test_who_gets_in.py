"""Every operation of the published document for every kind of wrong key: the table of 401, 403 and 404.

Operations come from the document and the scopes that they need from ``docs/api.md``, so that a new route is in the
table as soon as it is in either; one that is not in both is a failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from service.keys import SCOPES, KeyTerms
from tests.api.conftest import document

PAGE = Path(__file__).parents[2] / "docs/api.md"
AT_THE_ROOT_TOO = {"/v1/quote": "/quote", "/v1/execute": "/execute"}
OPEN = "–"  # noqa: RUF001
NOT_DESCRIBED = {"GET /openapi.json", "GET /docs", "GET /metrics", "GET /"}
"""What gives the document and shows it is not part of what it describes; nor are Prometheus's numbers, nor the page."""


@dataclass(frozen=True)
class Operation:
    """An operation of the document, and the scopes that the page says it needs."""

    method: str
    path: str
    has_body: bool

    @property
    def needs(self):
        scope = scopes_of_routes()[f"{self.method} {AT_THE_ROOT_TOO.get(self.path, self.path)}"]
        return () if scope == OPEN else tuple(scope.split(" and "))

    async def ask(self, house, key, path=None, body=None):
        """Send it; {} where it takes a body and nothing better is given: who asks is looked at first."""
        target = path or re.sub(r"\{[^}]*\}", "0" * 32, self.path)
        return await house.ask(self.method, target, key=key, body=body or ({} if self.has_body else None))

    def __str__(self):
        return f"{self.method} {self.path}"


OPERATIONS = [
    Operation(method.upper(), path, "requestBody" in described)
    for path, item in document()["paths"].items()
    for method, described in item.items()
]


def scopes_of_routes():
    """Read the page's table of routes."""
    rows = re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {route: scope.strip() for route, scope in rows}


def guarded():
    return [operation for operation in OPERATIONS if operation.needs]


async def key_of(house, scopes, account="alice", *, expired=False):
    """Have a key made, and let the house ask with it; gives its name there."""
    now = house.ring.now()
    made_at, terms = (now - timedelta(hours=2), KeyTerms(now - timedelta(hours=1))) if expired else (now, KeyTerms())
    text, key = house.ring.make(account, scopes, made_at, terms)
    await house.ledger.add_key(key)
    house.ring.add(key)
    house.keys[key.key_id] = text
    return key.key_id


def test_page_has_the_documents_operations():
    """
    What the document describes the page has with its scopes, and no other.
    """
    described = {f"{one.method} {AT_THE_ROOT_TOO.get(one.path, one.path)}" for one in OPERATIONS}

    assert described == scopes_of_routes().keys() - NOT_DESCRIBED
    assert {scope for one in guarded() for scope in one.needs} == set(SCOPES)


async def test_without_a_key_in_force_every_operation_is_401(house):
    """
    No key, one of the right form, another mode's, one under another pepper, a revoked and an expired one look the same.
    """
    kinds = [None, "unknown", "test_mode", "other_pepper", "revoked", await key_of(house, SCOPES, expired=True)]
    answers = {}
    for operation in guarded():
        for kind in kinds:
            reply = await operation.ask(house, kind)
            told = {name: value for name, value in reply.json.items() if name != "request_id"}
            answers.setdefault((reply.status, reply.code, reply.headers["WWW-Authenticate"], str(told)), []).append(
                str(operation)
            )

    [(answer, asked)] = answers.items()
    assert (401, "unauthenticated", "Bearer") == answer[:3]
    assert len(guarded()) * len(kinds) == len(asked)


async def test_key_without_the_scope_is_403_at_every_operation(house):
    """
    All other scopes together do not stand in for the one that is missing, and the answer says which one that is.
    """
    without = {scope: await key_of(house, [one for one in SCOPES if one != scope]) for scope in SCOPES}
    found = {}
    for operation in guarded():
        for scope in operation.needs:
            reply = await operation.ask(house, without[scope])
            found[str(operation), scope] = (reply.status, reply.code, repr(scope) in reply.json["detail"])

    assert dict.fromkeys(found, (403, "insufficient_scope", True)) == found


async def test_open_operations_look_at_no_key(house):
    """
    What monitors read is answered whoever asks.
    """
    expired = await key_of(house, SCOPES, expired=True)
    open_to_all = [operation for operation in OPERATIONS if not operation.needs]
    answered = {
        (str(operation), (await operation.ask(house, kind)).status)
        for operation in open_to_all
        for kind in (None, "unknown", "revoked", expired, "bob")
    }

    assert {("GET /healthz", 200), ("GET /readyz", 200)} <= answered
    assert len(open_to_all) == len(answered)


# Another account's


async def objects(house):
    """Have one of everything made that an account owns; gives paths to it, by the document's path, and its names."""
    fill = (await house.buy("the-first")).json
    quote = (await house.firm()).json
    paths = {
        "/v1/executions/{id}": f"/v1/executions/{fill['execution_id']}",
        "/v1/executions/by-client-id/{client_order_id}": "/v1/executions/by-client-id/the-first",
        "/v1/quotes/{id}": f"/v1/quotes/{quote['quote_id']}",
    }
    return paths, {fill["execution_id"], "the-first", quote["quote_id"], "alice"}


async def test_another_accounts_objects_look_absent(house):
    """
    Asked for by name, what another account owns is answered as what never was; its owner sees it all along.
    """
    paths, _ = await objects(house)
    bob = await key_of(house, SCOPES[:3], "bob")
    by_name = [one for one in guarded() if "{" in one.path and "admin" not in one.needs]
    assert {one.path for one in by_name} == paths.keys()
    for operation in by_name:
        theirs, never = [
            await operation.ask(house, bob, path) for path in (paths[operation.path], _unknown(operation.path))
        ]
        assert (str(operation), 404, 404) == (str(operation), theirs.status, never.status)
        told = [{**reply.json, "request_id": ""} for reply in (theirs, never)]
        assert told[0] == told[1], operation
        assert theirs.headers.keys() == never.headers.keys()
    for operation in by_name:  # DELETE comes last.
        assert 200 == (await operation.ask(house, "all", paths[operation.path])).status


def _unknown(path):
    return re.sub(r"\{[^}]*\}", "0" * 32, path)


QUERIES = {
    "/quote": "symbol=BTC/USDT&quantity=0.1",
    "/v1/quote": "symbol=BTC/USDT&quantity=0.1",
    "/v1/book": "symbol=BTC/USDT",
    "/v1/depth": "symbol=BTC/USDT&bps=5",
}
BODIES = {
    "/execute": {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.01", "client_order_id": "own-1"},
    "/v1/execute": {"symbol": "BTC/USDT", "side": "sell", "quantity": "0.01", "client_order_id": "own-2"},
    "/v1/quotes": {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.01"},
}


async def test_no_answer_to_another_account_names_the_objects(house):
    """
    Lists, books, quotes, orders and what is asked of oneself tell nothing of another account.
    """
    _, names = await objects(house)
    bob = await key_of(house, SCOPES[:3], "bob")
    asked = [one for one in guarded() if "{" not in one.path and "admin" not in one.needs]
    found = {}
    for operation in asked:
        path = "?".join(filter(None, (operation.path, QUERIES.get(operation.path))))
        reply = await operation.ask(house, bob, path, BODIES.get(operation.path))
        # A stream is another matter: it begins with a handshake, which this is not.
        granted = reply.status in ((400,) if operation.path == "/v1/stream" else (200, 201))
        found[str(operation)] = (granted, [name for name in names if name in reply.body.decode()])

    assert {str(operation): (True, []) for operation in asked} == found


async def test_client_order_ids_of_accounts_do_not_meet(house):
    """
    An id that another account has used is as good as new.
    """
    await objects(house)
    bob = await key_of(house, SCOPES[:3], "bob")
    order = {"symbol": "BTC/USDT", "side": "sell", "quantity": "0.01", "client_order_id": "the-first"}

    assert 201 == (await house.execute(order, key=bob)).status


async def test_admin_operations_are_for_admins_only(house):
    """
    An account's own keys open none of them, were they about that account.
    """
    bob = await key_of(house, SCOPES[:3], "bob")
    found = {
        str(operation): (await operation.ask(house, bob)).status
        for operation in guarded()
        if "admin" in operation.needs
    }

    assert dict.fromkeys(found, 403) == found
    assert len(found) >= 10
