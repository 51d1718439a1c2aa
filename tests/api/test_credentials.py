"""API keys: who gets in where, and that a key is found in nothing that leaves the process or stays on disk."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings

import pytest

from service.api.handlers import API

ROUTES = [
    ("GET", "/quote?symbol=BTC/USDT&quantity=1", "quote"),
    ("GET", "/v1/quote?symbol=BTC/USDT&quantity=1", "quote"),
    ("POST", "/execute", "execute"),
    ("POST", "/v1/execute", "execute"),
    ("GET", "/v1/executions", "account"),
    ("GET", "/v1/executions/" + "0" * 32, "account"),
    ("GET", "/v1/executions/by-client-id/a", "account"),
    ("GET", "/v1/book?symbol=BTC/USDT", "quote"),
    ("GET", "/v1/depth?symbol=BTC/USDT&bps=5", "quote"),
    ("GET", "/v1/venues", "quote"),
    ("GET", "/v1/symbols", "quote"),
    ("POST", "/v1/quotes", "quote+execute"),
    ("GET", "/v1/quotes/" + "0" * 32, "quote"),
    ("DELETE", "/v1/quotes/" + "0" * 32, "quote"),
    ("GET", "/v1/stream", "quote"),
    ("GET", "/v1/account", "account"),
    ("GET", "/v1/account/entries", "account"),
    ("POST", "/v1/admin/accounts", "admin"),
    ("POST", "/v1/admin/accounts/carol/deposits", "admin"),
    ("POST", "/v1/admin/accounts/carol/reset", "admin"),
    ("POST", "/v1/admin/keys", "admin"),
    ("GET", "/v1/admin/keys", "admin"),
    ("DELETE", "/v1/admin/keys/0123456789", "admin"),
    ("POST", "/v1/admin/keys/0123456789/rotate", "admin"),
    ("POST", "/v1/admin/reload", "admin"),
    ("POST", "/v1/admin/venues/kraken/enable", "admin"),
    ("POST", "/v1/admin/venues/kraken/disable", "admin"),
    ("GET", "/metrics", "admin"),
]
OPEN = ["/healthz", "/readyz", "/openapi.json", "/docs", "/docs/init.js", "/", "/web/main.js"]
BUY = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
BODIES = {
    "/execute": BUY,
    "/v1/execute": BUY,
    "/v1/quotes": {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2"},
    "/v1/admin/accounts": {"account": "carol"},
    "/v1/admin/keys": {"account": "carol", "scopes": ["quote"]},
    "/v1/admin/keys/0123456789/rotate": {"overlap_ms": 0},
    "/v1/admin/accounts/carol/deposits": {"asset": "BTC", "amount": "1"},
}
PARTS = {
    "0" * 32: "{id}",
    "0123456789": "{id}",
    "by-client-id/a": "by-client-id/{client_order_id}",
    "init.js": "{file}",
    "main.js": "{file}",
    "/carol/": "/{account}/",
    "/kraken/": "/{venue}/",
}
"""What stands in the paths above for parts of the routes' patterns."""


def test_every_route_has_a_row(house):
    """
    A route that is added says here which scope it needs.
    """
    patterns = {resource.canonical for resource in house.app.router.resources()}
    listed = {path.partition("?")[0] for _, path, _ in ROUTES} | set(OPEN)
    for part, pattern in PARTS.items():
        listed = {path.replace(part, pattern) for path in listed}
    assert patterns == listed


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
async def test_route_is_for_keys_of_its_scope(house, method, path, scope):
    """
    Without a valid key nothing is answered, and a valid one is good for its own scope only.
    """
    body, scopes = BODIES.get(path), scope.split("+")
    for key in (None, "revoked", "unknown", "test_mode", "other_pepper"):
        reply = await house.ask(method, path, key=key, body=body)
        assert (key, "unauthenticated") == (key, reply.code)
        assert "Bearer" == reply.headers["WWW-Authenticate"]
    for key in ("quote", "execute", "account", "admin"):
        reply = await house.ask(method, path, key=key, body=body)
        refused = reply.status in (401, 403)
        assert (key, [key] != scopes) == (key, refused)
        if refused:
            missing = next(one for one in scopes if one != key)
            assert ("insufficient_scope", True) == (reply.code, repr(missing) in reply.json["detail"])


@pytest.mark.parametrize("path", OPEN)
async def test_open_route_asks_for_no_key(house, path):
    """
    What monitors and browsers read needs no key, and a wrong one does no harm.
    """
    for key in (None, "revoked", "all"):
        assert 200 == (await house.get(path, key=key)).status


async def test_missing_unknown_and_revoked_look_the_same(house):
    """
    A refusal does not tell whether a key ever existed.
    """
    bodies = set()
    for key in (None, "revoked", "unknown", "test_mode", "other_pepper"):
        problem = (await house.quote(key=key)).json
        del problem["request_id"]
        bodies.add(json.dumps(problem))
    assert 1 == len(bodies)


async def test_revocation_holds_at_once(house):
    """
    A key that worked a moment ago does not work once it is revoked.
    """
    assert 200 == (await house.quote(key="bob")).status
    key_id = house.keys["bob"].split("_")[2]
    await house.ledger.revoke_key(key_id, house.clock.utc())
    house.ring.hold(await house.ledger.keys())
    assert 401 == (await house.quote(key="bob")).status


def junk(key):
    """Give headers that hold something that is almost a key."""
    head, last = key[:-1], key[-1]
    return {
        "cut": {"X-API-Key": head},
        "longer": {"X-API-Key": key + "A"},
        "doubled": {"X-API-Key": key + key},
        "twice with a comma": {"X-API-Key": f"{key},{key}"},
        "wrong checksum": {"X-API-Key": head + ("A" if last != "A" else "B")},
        "wrong secret": {"X-API-Key": key[:30] + ("A" if key[30] != "A" else "B") + key[31:]},
        "upper case": {"X-API-Key": key.upper()},
        "quoted": {"X-API-Key": f'"{key}"'},
        "fullwidth": {"X-API-Key": key[:-1] + "１"},  # noqa: RUF001
        "not ASCII": {"X-API-Key": "ключ"},
        "not even text": {"X-API-Key": "\udcff\udcfe" + key},
        "bearer in the wrong header": {"X-API-Key": f"Bearer {key}"},
        "no scheme": {"Authorization": key},
        "another scheme": {"Authorization": f"Basic {key}"},
        "scheme only": {"Authorization": "Bearer"},
        "scheme and nothing": {"Authorization": "Bearer  "},
        "two words": {"Authorization": f"Bearer {key} {key}"},
        "a cookie": {"Cookie": f"X-API-Key={key}"},
        "a password": {"Proxy-Authorization": f"Bearer {key}"},
        "empty": {"X-API-Key": ""},
    }


async def test_what_is_almost_a_key_is_none(house):
    """
    A key counts whole, in its place, and by the letter.
    """
    for name, headers in junk(house.keys["all"]).items():
        lines = "".join(f"{header}: {value}\r\n" for header, value in headers.items())
        head = f"GET /v1/venues HTTP/1.1\r\nHost: x\r\n{lines}\r\n"
        reply = await house.wire(head.encode("utf-8", "surrogateescape"))
        assert (name, "unauthenticated") == (name, reply.code)


@pytest.mark.parametrize(
    "headers",
    [
        ["X-API-Key: {key}"],
        ["x-api-key: {key}"],
        ["X-API-Key:   {key}  "],
        ["Authorization: Bearer {key}"],
        ["authorization: bearer {key}"],
        ["Authorization: BEARER   {key}"],
        # The same key twice says one thing.
        ["X-API-Key: {key}", "Authorization: Bearer {key}"],
        ["X-API-Key: {key}", "X-API-Key: {key}"],
    ],
)
async def test_key_is_found_in_either_header(house, headers):
    """
    Both headers do, in any case of their names and of the scheme.
    """
    lines = "\r\n".join(headers).format(key=house.keys["all"])
    reply = await house.wire(f"GET /v1/venues HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode())
    assert 200 == reply.status


@pytest.mark.parametrize(
    "headers",
    [
        ["X-API-Key: {key}", "X-API-Key: {other}"],
        ["X-API-Key: {key}", "Authorization: Bearer {other}"],
        ["Authorization: Bearer {key}", "Authorization: Bearer {other}"],
        ["X-API-Key: {key}", "Authorization: Basic {key}"],
        ["X-API-Key: {key}", "X-API-Key: "],
    ],
)
async def test_two_different_credentials_are_none(house, headers):
    """
    Which of two keys was meant is not guessed.
    """
    lines = "\r\n".join(headers).format(key=house.keys["all"], other=house.keys["bob"])
    reply = await house.wire(f"GET /v1/venues HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode())
    assert "unauthenticated" == reply.code


@pytest.mark.parametrize("name", ["key", "api_key", "apikey", "X-API-Key", "access_token"])
async def test_key_in_an_address_is_no_key(house, name):
    """
    Addresses end up in histories and logs: a key in one opens nothing, and spoils a request that had one.
    """
    path = f"/quote?symbol=BTC/USDT&quantity=1&{name}={house.keys['all']}"
    assert "unauthenticated" == (await house.get(path, key=None)).code
    assert [(name, "unknown_parameter")] == (await house.get(path)).faults


# A key in nothing


def broken_requests(key):
    """Give requests, as bytes, that hold a key, or most of one, where it does or does not belong."""
    bare = key.encode()
    secret = bare.split(b"_")[3]
    body = json.dumps(BUY).encode()[:-1]

    def get(target, *headers):
        return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: x", *headers, b"", b""])

    def post(data, *headers):
        more = [b"X-API-Key: " + bare, b"Content-Type: application/json", *headers, b"Content-Length: %d" % len(data)]
        return b"\r\n".join([b"POST /execute HTTP/1.1", b"Host: x", *more, b"", data])

    quote = b"/quote?symbol=BTC/USDT&quantity=1"
    return [
        get(quote, b"X-API-Key: " + bare + b"\x01"),
        get(quote, b"X-API-Key: " + bare[:40] + b"\x00" + bare[40:]),
        get(quote, b"X-API-Key: " + bare[:40] + b"\r\n " + bare[40:]),
        get(quote, b"X-API-Key " + bare),
        get(quote, b"X-API-Key\x7f: " + bare),
        get(quote, bare + b": x"),
        get(quote, b"X-API-Key: " + bare * 200),
        get(quote, b"X-API-Key: " + bare[:-1]),
        get(quote, b"X-API-Key: " + bare + bare),
        get(quote, b"X-API-Key: " + bare, b"Expect: " + bare),
        get(quote, b"X-API-Key: " + bare, b"Content-Length: " + bare),
        get(quote, b"X-API-Key: " + bare, b"Transfer-Encoding: " + bare),
        get(quote, b"X-API-Key: " + bare, b"X-Request-Id: " + bare),
        get(quote, b"X-API-Key: " + bare, b"X-Request-Id: " + bare[:64]),
        get(quote, b"X-API-Key: " + bare, b"X-Request-Id: x." + bare[:62]),
        get(quote + b"&key=" + bare, b"X-API-Key: " + bare),
        get(quote + b"&" + bare + b"=1", b"X-API-Key: " + bare),
        get(quote + b"&" + bare[:40] + b"=" + bare[40:], b"X-API-Key: " + bare),
        get(quote + b"&" + secret + b"=1", b"X-API-Key: " + bare),
        get(quote + b"&%69ob_" + bare[4:] + b"=1", b"X-API-Key: " + bare),
        get(b"/quote?quantity=1&symbol=" + bare, b"X-API-Key: " + bare),
        get(b"/quote?quantity=1&symbol=" + secret[:40], b"X-API-Key: " + bare),
        get(b"/quote?symbol=BTC/USDT&quantity=" + bare, b"X-API-Key: " + bare),
        get(quote + b"&side=" + bare + b"&venues=" + bare.lower() + b"&fills=" + bare, b"X-API-Key: " + bare),
        get(quote + b"&venues=" + bare.lower()[:32], b"X-API-Key: " + bare),
        get(quote + b"\xff" + bare, b"X-API-Key: " + bare),
        get(b"/" + bare, b"X-API-Key: " + bare),
        get(b"/docs/" + bare, b"X-API-Key: " + bare),
        get(b"http://[" + bare + b"/quote", b"X-API-Key: " + bare),
        get(b"/v1/executions/" + bare, b"X-API-Key: " + bare),
        get(b"/v1/executions/by-client-id/" + bare, b"X-API-Key: " + bare),
        get(b"/v1/executions?cursor=" + bare[:32], b"X-API-Key: " + bare),
        bare + b" /quote HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /quote HTTP/" + bare + b"\r\nHost: x\r\n\r\n",
        b"GET /quote HTTP/1.1\r\nHost: " + bare + b"\x01\r\n\r\n",
        bare + b"\r\n\r\n",
        b"X-API-Key: " + bare + b"\r\nGET /quote HTTP/1.1\r\n\r\n",
        post(bare),
        post(b'"' + bare + b'"'),
        post(body + b',"' + bare + b'": 1}'),
        post(body + b',"' + secret + b'": 1, "' + secret + b'": 1}'),
        post(body.replace(b'"a"', b'"' + bare + b'"') + b"}"),
        post(body.replace(b"BTC/USDT", bare) + b"}"),
        post(body.replace(b"0.2", bare) + b"}"),
        post(b'{"quote_id": "' + bare + b'", "side": "buy", "client_order_id": "a"}'),
        post(b'{"quote_id": "q2.' + bare + b"." + bare + b'", "side": "buy", "client_order_id": "a"}'),
        post(b"{}", b"Content-Encoding: " + bare),
        post(b"{}", b"Content-Type: " + bare),
        post(b"{}").replace(b"application/json", b"application/json; charset=" + bare),
        post(b"{}").replace(b"application/json", bare + b"/" + bare),
        post(b"{}").replace(b"Content-Length: 2", b"Transfer-Encoding: chunked") + bare,
        post(body + b"}"),  # And one that is right.
    ]


def held(data, key):
    """Tell whether *data* holds the key, its secret, or a good part of it."""
    secret = key.split("_")[3].encode()
    return any(secret[at : at + 20].lower() in data.lower() for at in range(len(secret) - 20))


async def test_key_is_in_no_line_no_answer_and_no_file(house):
    """
    However a key is sent, well or badly, the only one who has it afterwards is who had it before.
    """
    key = house.keys["all"]
    requests = broken_requests(key)
    for data in requests:
        reply = await house.wire(data)
        assert reply.status < 500, data
        assert not held(reply.body + str(reply.headers).encode(), key), data
    await house.client.close()

    assert 201 == house.replies[-1].status
    lines = house.lines()
    assert len(requests) == len(lines)
    assert {"request", "request.malformed"} == {line["event"] for line in lines}
    for line in house.log.getvalue().splitlines():
        assert not held(line, key)
    files = sorted(house.folder.iterdir())
    assert {"ledger.db", "ledger.db-shm", "ledger.db-wal"} <= {file.name for file in files}
    for file in files:
        assert not any(held(file.read_bytes(), text) for text in house.keys.values()), file


async def test_key_is_not_in_the_line_of_a_bug(house):
    """
    A traceback says where it happened, not what was sent; nor does the standard library's logging.
    """
    key = house.keys["all"]
    house.ledger.trouble["transact"] = RuntimeError(f"lost {key}")
    reply = await house.buy()
    logging.getLogger("aiohttp.server").error("Error handling %s", {"X-API-Key": key})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"X-API-Key: {key}", stacklevel=1)

    assert (500, False) == (reply.status, held(reply.body, key))
    [failed] = house.lines("request.failed")
    assert "RuntimeError" == failed["exception"][0]["exc_type"]
    assert all("locals" not in frame for frame in failed["exception"][0]["frames"])
    assert reply.json["request_id"] == failed["request_id"]
    assert not held(house.log.getvalue(), key)


# One line per request


GENERAL = {"timestamp", "level", "event", "request_id", "method", "route", "status", "duration_ms", "remote"}
KNOWN = {"account", "key_id"}
QUOTED = {"symbol", "side", "quantity", "venues", "book_age_ms"}
EXECUTED = QUOTED | {"client_order_id", "execution_id", "execution_status", "replayed", "filled", "slippage_bps",
                     "ledger_ms"}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "options", "keys"),
    [
        ("GET", "/healthz", {"key": None}, set()),
        ("GET", "/nothing", {"key": None}, {"code"}),
        ("GET", "/quote", {"key": None}, {"code"}),
        ("GET", "/quote", {}, KNOWN | {"code"}),
        ("GET", "/quote?symbol=BTC/USDT&quantity=1.50", {}, KNOWN | QUOTED),
        ("GET", "/quote?symbol=BTC/USDT&total=1000", {}, KNOWN | QUOTED - {"quantity"} | {"total"}),
        ("GET", "/quote?symbol=BTC/USDT&quantity=1.000000001", {}, KNOWN | {"code", "symbol", "side", "quantity"}),
        ("GET", "/v1/book?symbol=BTC/USDT", {}, KNOWN | {"symbol"}),
        ("POST", "/execute", {"body": BUY}, KNOWN | EXECUTED),
        ("POST", "/execute", {"body": {**BUY, "limit_price": "1"}}, KNOWN | EXECUTED | {"code"}),
        ("POST", "/execute", {"body": {**BUY, "symbol": "NO/NO"}}, KNOWN | {"client_order_id", "side", "code"}),
    ],
)  # fmt: skip
async def test_request_leaves_one_line_with_everything_on_it(house, method, path, options, keys):
    """
    A request's line says who asked for what, what came of it and how long it took, and nothing else is logged.
    """
    reply = await house.ask(method, path, **options)
    [line] = house.lines()
    assert ("request", "info") == (line["event"], line["level"])
    assert GENERAL | keys == set(line)
    assert (reply.status, reply.headers["X-Request-Id"]) == (line["status"], line["request_id"])
    assert line.get("code") == (reply.code if reply.status >= 400 else None)
    assert 0 < line["duration_ms"] < 5_000


async def test_line_names_the_route_and_never_the_address(house):
    """
    An address may hold anything; the log has the route's pattern, or nothing where there is no route.
    """
    for path, route in {
        "/v1/executions/a-typing-error": "/v1/executions/{id}",
        "/v1/executions/by-client-id/a-typing-error": "/v1/executions/by-client-id/{client_order_id}",
        "/docs/a-typing-error": "/docs/{file}",
        "/a-typing-error": None,
        "/quote?a-typing-error=1": "/quote",
    }.items():
        await house.get(path)
        assert route == house.lines()[-1]["route"]
    assert b"a-typing-error" not in house.log.getvalue()


async def test_line_of_an_execution_tells_what_was_filled(house):
    """
    What the line says of an order is what its answer says.
    """
    house.clock.advance(40)
    reply = await house.buy(quantity="9000", time_in_force="ioc")
    [line] = house.lines()
    legs = list(dict.fromkeys(fill["venue"] for fill in reply.json["fills"]))
    assert ("BTC/USDT", "buy", "9000", reply.json["filled_quantity"], legs, 40) == tuple(
        line[name] for name in ("symbol", "side", "quantity", "filled", "venues", "book_age_ms")
    )
    assert ("alice", "a", "partially_filled", False) == tuple(
        line[name] for name in ("account", "client_order_id", "execution_status", "replayed")
    )


# Clients that go away


async def test_client_that_leaves_inside_its_body_is_no_error_of_ours(house):
    """
    A body that breaks off leaves the one line of a refused request, and no traceback.
    """
    head = f"POST /execute HTTP/1.1\r\nHost: x\r\nX-API-Key: {house.keys['all']}\r\nContent-Type: application/json\r\n"
    _, writer = await asyncio.open_connection(house.client.host, house.client.port)
    writer.write(f"{head}Content-Length: 20\r\n\r\n{{".encode())
    await house.get("/healthz", key=None)  # By then the other has begun.
    writer.transport.abort()
    async with asyncio.timeout(5):
        while not (lines := [line for line in house.lines() if line["route"] == "/execute"]):
            await house.get("/healthz", key=None)
    assert [("request", 400, "malformed_request")] == [(line["event"], line["status"], line["code"]) for line in lines]


async def test_order_of_a_client_that_has_left_is_finished(house):
    """
    Who hangs up has still traded: the order is recorded, and the same request gets its answer.
    """
    gate = house.ledger.gates["transact"] = asyncio.Event()
    body = json.dumps(BUY)
    head = f"POST /execute HTTP/1.1\r\nHost: x\r\nX-API-Key: {house.keys['all']}\r\nContent-Type: application/json\r\n"
    _, writer = await asyncio.open_connection(house.client.host, house.client.port)
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    await house.ledger.waiting.wait()
    writer.transport.abort()
    await house.get("/healthz", key=None)
    gate.set()
    again = await house.execute(BUY)

    assert (200, "filled") == (again.status, again.json["status"])
    assert {"request"} == {line["event"] for line in house.lines()}
    assert [201, 200] == [line["status"] for line in house.lines() if line["route"] == "/execute"]


async def test_stopping_service_finishes_what_is_under_way(house):
    """
    An order that was being recorded when the desk closed is answered; the next one is not taken.
    """
    gate = house.ledger.gates["transact"] = asyncio.Event()
    first = asyncio.create_task(house.buy())
    await house.ledger.waiting.wait()
    house.app[API].desk.close()
    refused = await house.buy("b")
    gate.set()
    assert (201, "shutting_down") == ((await first).status, refused.code)
