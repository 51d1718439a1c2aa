"""Raw requests as an attacker sends them, over one server: each has the answer that it ought to have, and no other."""

from __future__ import annotations

import asyncio
import gzip
import json
import re

from tests.api.test_connections import wire

CANARY = b"kanarienvogel"
"""Stands in much of what is sent; nothing that is answered or logged may repeat it."""
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
OK = "200"
MALFORMED = "400 malformed_request"
HALF = "more is owed"
"""Stands after the answers to a request that is not whole."""
AT_ONCE = 16


def get(target, *lines, method=b"GET", version=b"HTTP/1.1"):
    """Make a request with a key, without a body."""
    head = [method + b" " + target + b" " + version, b"Host: x", b"X-API-Key: {key}", *lines, b"", b""]
    return b"\r\n".join(head)


def post(body, *lines, target=b"/execute"):
    """Make an order with a key and with its body's length, unless *lines* say something of it."""
    framed = any(re.match(rb"(?i)(content-length|transfer)", line) for line in lines)
    length = [] if framed else [b"Content-Length: %d" % len(body)]
    return get(target, b"Content-Type: application/json", *length, *lines, method=b"POST") + body


def order(**fields):
    """Make an order's body; it would fill."""
    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
    return json.dumps({**order, **fields}).encode()


def chunked(*chunks, more=(), end=b"0\r\n\r\n"):
    return post(b"".join(chunks) + end, b"Transfer-Encoding: chunked", *more)


INSIDE = b"GET /v1/account HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\n\r\n"
"""A request that hides in another."""

FIRST_LINES = {
    "HTTP/0.9": (b"GET /healthz\r\n\r\n", MALFORMED),
    "HTTP/0.9 with headers": (b"GET /healthz\r\nHost: x\r\nX: " + CANARY + b"\r\n\r\n", MALFORMED),
    "HTTP/0.9 by name": (get(b"/healthz", version=b"HTTP/0.9"), MALFORMED),
    "HTTP/1.2": (get(b"/healthz", version=b"HTTP/1.2"), MALFORMED),
    "HTTP/1.": (get(b"/healthz", version=b"HTTP/1."), MALFORMED),
    "HTTP/11.1": (get(b"/healthz", version=b"HTTP/11.1"), MALFORMED),
    "HTTP/2.0": (get(b"/healthz", version=b"HTTP/2.0"), MALFORMED),
    "HTTP/2 from the start": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9, MALFORMED),
    "another protocol's name": (get(b"/healthz", version=b"HTTQ/1.1"), MALFORMED),
    "small letters of the version": (get(b"/healthz", version=b"http/1.1"), MALFORMED),
    "a word after the version": (get(b"/healthz", version=b"HTTP/1.1 " + CANARY), MALFORMED),
    # The one thing that is put up with: it cannot mean anything else.
    "two spaces": (b"GET  /healthz  HTTP/1.1\r\nHost: x\r\n\r\n", OK),
    "tabs": (b"GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n", MALFORMED),
    "a space before": (b" GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", MALFORMED),
    "no target": (b"GET HTTP/1.1\r\nHost: x\r\n\r\n", MALFORMED),
    "no method": (b"/healthz HTTP/1.1\r\nHost: x\r\n\r\n", MALFORMED),
    "a method that nobody knows": (get(b"/healthz", method=CANARY.upper()), MALFORMED),
    "small letters of the method": (get(b"/healthz", method=b"get"), MALFORMED),
    "a NUL in the method": (get(b"/healthz", method=b"GE\0T"), MALFORMED),
    "a method of 9,000 letters": (get(b"/healthz", method=b"G" * 9_000), MALFORMED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + CANARY + b"\r\n\r\n", MALFORMED),
    "SSH": (b"SSH-2.0-" + CANARY + b"\r\n", MALFORMED),
    "SMTP": (b"EHLO " + CANARY + b"\r\n", MALFORMED),
    "a proxy's own protocol": (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + ALIVE, MALFORMED),
    "noise": (bytes(range(255, 127, -1)) * 4 + b"\r\n\r\n", MALFORMED),
    "bare line feeds": (b"GET /healthz HTTP/1.1\nHost: x\n\n", MALFORMED),
    "bare carriage returns": (b"GET /healthz HTTP/1.1\rHost: x\r\r", MALFORMED),
}
TARGETS = {
    "9,000 bytes": (get(b"/quote?symbol=" + b"a" * 9_000), MALFORMED),
    "a NUL": (get(b"/quote\0?symbol=" + CANARY), MALFORMED),
    "a carriage return": (get(b"/quote\rX: 1"), MALFORMED),
    "raw bytes": (get(b"/quote?symbol=\xff\xfe"), MALFORMED),
    "a broken host": (get(b"http://[::1/quote"), MALFORMED),
    "no host": (get(b"http:///quote"), MALFORMED),
    "another scheme": (get(b"javascript:" + CANARY), MALFORMED),
    "nothing but a host": (get(b"x:80"), MALFORMED),
    "a star": (get(b"*"), MALFORMED),
    "no slash": (get(b"healthz"), MALFORMED),
    "CONNECT to a host": (get(b"x:443", method=b"CONNECT"), "404 not_found"),
    "CONNECT to a path": (get(b"/quote", method=b"CONNECT"), "404 not_found"),
    "two slashes": (get(b"//quote?symbol=BTC/USDT&quantity=1"), "404 not_found"),
    "a slash after": (get(b"/quote/?symbol=BTC/USDT&quantity=1"), "404 not_found"),
    "an encoded NUL": (get(b"/quote%00"), "404 not_found"),
    "an encoded slash": (get(b"/v1%2Fvenues"), "404 not_found"),
    "up and away": (get(b"/docs/../../../../etc/passwd"), "404 not_found"),
    "up and away, encoded": (get(b"/docs/%2e%2e%2f%2e%2e%2fetc%2fpasswd"), "404 not_found"),
    "up and away, backslashes": (get(b"/docs/..\\..\\settings.toml"), "404 not_found"),
    "a hidden file": (get(b"/docs/.git"), "404 not_found"),
    "an overlong encoding": (get(b"/docs/%c0%ae%c0%ae/"), "404 not_found"),
    "a half percent": (get(b"/v1/executions/%"), "404 unknown_execution"),
    "an id of 4,000 letters": (get(b"/v1/executions/" + b"a" * 4_000), "404 unknown_execution"),
    "an id that is a statement": (get(b"/v1/executions/%27%20OR%201=1--"), "404 unknown_execution"),
    "a fragment": (get(b"/v1/executions/a#" + CANARY), "404 unknown_execution"),
    "somebody's template": (get(b"/{{7*7}}"), "404 not_found"),
}
QUERIES = {
    "a parameter twice": (get(b"/quote?symbol=BTC/USDT&quantity=1&quantity=2"), "400 duplicate_field"),
    "a list": (get(b"/quote?symbol[]=BTC/USDT&quantity=1"), "400 unknown_parameter"),
    "4,000 parameters": (get(b"/quote?" + b"&".join([b"a=1"] * 2_000)), "400 unknown_parameter"),
    "not a number": (get(b"/quote?symbol=BTC/USDT&quantity=NaN"), "400 invalid_parameter"),
    "infinite": (get(b"/quote?symbol=BTC/USDT&quantity=Infinity"), "400 invalid_parameter"),
    "an exponent": (get(b"/quote?symbol=BTC/USDT&quantity=1e400"), "400 invalid_parameter"),
    "negative": (get(b"/quote?symbol=BTC/USDT&quantity=-1"), "400 invalid_parameter"),
    "5,000 digits": (get(b"/quote?symbol=BTC/USDT&quantity=" + b"9" * 5_000), "400 invalid_parameter"),
    "fullwidth": (get(b"/quote?symbol=BTC/USDT&quantity=%EF%BC%91"), "400 invalid_parameter"),
    "a header within": (get(b"/quote?symbol=BTC/USDT%0d%0aSet-Cookie:a=1&quantity=1"), "400 invalid_parameter"),
    "a NUL": (get(b"/quote?symbol=BTC/USDT%00&quantity=1"), "400 invalid_parameter"),
    "not UTF-8": (get(b"/quote?symbol=%ff%fe&quantity=1"), "400 invalid_parameter"),
    "a script": (get(b"/quote?symbol=<script>" + CANARY + b"</script>&quantity=1"), "400 invalid_parameter"),
    "a look-up": (get(b"/quote?symbol=${jndi:ldap://" + CANARY + b"}&quantity=1"), "400 invalid_parameter"),
    "a key in the address": (get(b"/v1/account?api_key={key}"), "400 unknown_parameter"),
    "a limit of 400 digits": (get(b"/v1/executions?limit=" + b"1" * 400), "400 invalid_parameter"),
    "a forged cursor": (get(b"/v1/executions?cursor=" + CANARY), "400 invalid_parameter"),
}
HEADERS = {
    "a control character": (get(b"/healthz", b"X: a\x01" + CANARY), MALFORMED),
    "a NUL": (get(b"/healthz", b"X: a\0" + CANARY), MALFORMED),
    "a folded line": (get(b"/healthz", b"X: a", b" " + CANARY), MALFORMED),
    "a line that begins with a space": (b"GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n", MALFORMED),
    "a space before the colon": (get(b"/healthz", b"X : " + CANARY), MALFORMED),
    "no colon": (get(b"/healthz", CANARY), MALFORMED),
    "no name": (get(b"/healthz", b": " + CANARY), MALFORMED),
    "a name with brackets": (get(b"/healthz", b"X(1): " + CANARY), MALFORMED),
    "a name that is not ASCII": (get(b"/healthz", b"\xc3\xa4: " + CANARY), MALFORMED),
    "a bare line feed": (get(b"/healthz", b"X: 1\nY: " + CANARY), MALFORMED),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", MALFORMED),
    "two hosts": (get(b"/healthz", b"Host: " + CANARY), MALFORMED),
    "1,000 headers": (get(b"/healthz", *[b"X%d: 1" % number for number in range(1_000)]), MALFORMED),
    "40 KiB": (get(b"/healthz", *[b"X: " + b"a" * 4_096] * 10), MALFORMED),
    "a key of 9,000 bytes": (get(b"/v1/account", b"Authorization: Bearer " + b"k" * 9_000), MALFORMED),
    "a cookie of 9,000 bytes": (get(b"/healthz", b"Cookie: a=" + b"b" * 9_000), MALFORMED),
    "another expectation": (get(b"/healthz", b"Expect: " + CANARY), MALFORMED),
    "an old WebSocket": (get(b"/healthz", b"Sec-WebSocket-Key1: " + CANARY), MALFORMED),
    "another key": (get(b"/v1/account", b"X-API-Key: " + CANARY), "401 unauthenticated"),
    "another scheme": (get(b"/v1/account", b"Authorization: Basic " + CANARY), "401 unauthenticated"),
    "an empty key": (b"GET /v1/account HTTP/1.1\r\nHost: x\r\nX-API-Key: \r\n\r\n", "401 unauthenticated"),
    "a key that is not ASCII": (
        b"GET /v1/account HTTP/1.1\r\nHost: x\r\nX-API-Key: k\xff\r\n\r\n", "401 unauthenticated"),
    "an empty bearer": (
        b"GET /v1/account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n\r\n", "401 unauthenticated"),
    "a query in the name of a host": (get(b"/v1/account", b"X-Forwarded-Host: " + CANARY), OK),
    "another method on top": (get(b"/v1/account", b"X-HTTP-Method-Override: DELETE"), OK),
    "another path on top": (get(b"/v1/account", b"X-Original-URL: /v1/" + CANARY), OK),
    "an id with a header within": (get(b"/v1/account", b"X-Request-Id: %0d%0a" + CANARY), OK),
    "a key for an id": (get(b"/v1/account", b"X-Request-Id: {key}"), OK),
    "a range": (get(b"/v1/account", b"Range: bytes=0-0"), OK),
    "another protocol": (get(b"/v1/account", b"Connection: Upgrade", b"Upgrade: h2c"), OK),
    "a WebSocket where there is none": (
        get(b"/v1/account", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="), OK),
}  # fmt: skip
SMUGGLING = {
    "a length and chunks": (
        post(b"0\r\n\r\n" + INSIDE, b"Content-Length: 5", b"Transfer-Encoding: chunked"), MALFORMED),
    "chunks and a length": (
        post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked", b"Content-Length: 5"), MALFORMED),
    "two lengths": (post(b"{}" + INSIDE, b"Content-Length: 2", b"Content-Length: 90"), MALFORMED),
    "two lengths that agree": (post(b"{}", b"Content-Length: 2", b"Content-Length: 2"), MALFORMED),
    "a list of lengths": (post(b"{}", b"Content-Length: 2, 2"), MALFORMED),
    "a length with a sign": (post(b"{}", b"Content-Length: +2"), MALFORMED),
    "a negative length": (post(b"{}", b"Content-Length: -2"), MALFORMED),
    "a hexadecimal length": (post(b"{}", b"Content-Length: 0x2"), MALFORMED),
    "a length with an exponent": (post(b"{}", b"Content-Length: 2e0"), MALFORMED),
    "a length with a point": (post(b"{}", b"Content-Length: 2.0"), MALFORMED),
    "an empty length": (post(b"{}", b"Content-Length: "), MALFORMED),
    "a length of 20 digits": (post(b"{}", b"Content-Length: 18446744073709551618"), MALFORMED),
    "a space within a length": (post(b"{}" + INSIDE, b"Content-Length: 1 2"), MALFORMED),
    "a space before a length's colon": (post(b"{}" + INSIDE, b"Content-Length : 2"), MALFORMED),
    "a length on a folded line": (post(b"{}", b"Content-Length:", b" 2"), MALFORMED),
    "another coding": (post(b"{}", b"Transfer-Encoding: " + CANARY), MALFORMED),
    "no coding": (post(b"{}", b"Transfer-Encoding: identity"), MALFORMED),
    "an empty coding": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: "), MALFORMED),
    "chunks that are packed": (post(b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked"), MALFORMED),
    "chunks first": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked, identity"), MALFORMED),
    "chunks twice": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked, chunked"), MALFORMED),
    "chunks on two lines": (
        post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), MALFORMED),
    "chunks, and none": (
        post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), MALFORMED),
    "chunks by another name": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: xchunked"), MALFORMED),
    "chunks with a parameter": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked;a=b"), MALFORMED),
    "chunks with a tab": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding:\x0bchunked"), MALFORMED),
    "chunks with a space before the colon": (post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding : chunked"), MALFORMED),
    "chunks in quotes": (post(b"0\r\n\r\n" + INSIDE, b'Transfer-Encoding: "chunked"'), MALFORMED),
    "chunks in HTTP/1.0": (
        post(b"0\r\n\r\n" + INSIDE, b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0", 1), MALFORMED),
    "a size that is none": (chunked(b"zz\r\n{}\r\n"), MALFORMED),
    "a negative size": (chunked(b"-2\r\n{}\r\n"), MALFORMED),
    "a size with 0x": (chunked(b"0x2\r\n{}\r\n"), MALFORMED),
    "a size of 17 digits": (chunked(b"10000000000000002\r\n{}\r\n"), MALFORMED),
    "an empty size": (chunked(b"\r\n{}\r\n"), MALFORMED),
    "a size with a bare line feed": (chunked(b"2\n{}\r\n"), MALFORMED),
    "a size with a space": (chunked(b"2 \r\n{}\r\n"), MALFORMED),
    "a chunk that is longer": (chunked(b"2\r\n{}}}\r\n"), MALFORMED),
    "a chunk that ends with a line feed": (chunked(b"2\r\n{}\n"), MALFORMED),
    "a line feed in an extension": (chunked(b"2;a=\n" + CANARY + b"\r\n{}\r\n"), MALFORMED),
    "a trailer that is none": (chunked(b"2\r\n{}\r\n", end=b"0\r\n" + CANARY + b"\r\n\r\n"), MALFORMED),
    "a trailer of 9,000 bytes": (chunked(b"2\r\n{}\r\n", end=b"0\r\nX: " + b"a" * 9_000 + b"\r\n\r\n"), MALFORMED),
    "a key in a trailer": (
        chunked(order(), end=b"0\r\nX-API-Key: " + CANARY + b"\r\n\r\n").replace(
            order(), b"%x\r\n%s\r\n" % (len(order()), order())), "201"),
    "a request in a body that nobody reads": (get(b"/healthz", b"Content-Length: %d" % len(INSIDE)) + INSIDE, OK),
    "a request in a body that is refused": (post(INSIDE), "400 malformed_json"),
    "a request behind a blank line": (get(b"/healthz") + b"\r\n", OK),
    # All that came at once is refused together.
    "junk behind a request": (get(b"/healthz") + CANARY + b"\r\n\r\n", MALFORMED),
    "an order with junk behind": (post(order(client_order_id="c")) + CANARY, MALFORMED),
    # It is no Transfer-Encoding, and two requests to everybody.
    "a coding with an underscore": (
        post(INSIDE, b"Transfer_Encoding: chunked", b"Content-Length: 0"), "400 malformed_json", "401 unauthenticated"),
    "three at once": (get(b"/healthz") + get(b"/v1/nothing") + get(b"/v1/account"), OK, "404 not_found", OK),
    "an order, and a forged end": (post(order() + b"\r\n0\r\n\r\n"), "400 malformed_json"),
    "a hundred at once": (get(b"/healthz") * 100, *[OK] * 100),
}  # fmt: skip
BOMB = gzip.compress(b"[" * 20_000_000)
BODIES = {
    "a bomb": (post(BOMB, b"Content-Encoding: gzip"), "415 unsupported_media_type"),
    "a bomb by another name": (post(BOMB, b"Content-Encoding: x-gzip"), "415 unsupported_media_type"),
    "a bomb within a bomb": (post(BOMB, b"Content-Encoding: gzip, gzip"), "415 unsupported_media_type"),
    "a bomb that says nothing": (post(BOMB), "400 malformed_json"),
    "64 KiB and a byte": (post(b" " * 65_537), "413 body_too_large"),
    "10 GiB, it says": (post(b"{", b"Content-Length: 10737418240"), "413 body_too_large", HALF),
    "1 MiB in chunks": (chunked(*[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 16), "413 body_too_large"),
    "60,000 brackets": (post(b"[" * 60_000), "400 malformed_json"),
    "12,000 objects in objects": (post(b'{"a":' * 12_000), "400 malformed_json"),
    "a field twice": (post(order()[:-1] + b',"side":"sell"}'), "400 duplicate_field"),
    "a field nobody knows": (post(order()[:-1] + b',"__proto__":{"a":1}}'), "400 unknown_field"),
    "a byte order mark": (post(b"\xef\xbb\xbf" + order()), "400 malformed_json"),
    "UTF-16": (post(order().decode().encode("utf-16")), "400 malformed_json"),
    "not UTF-8": (post(order(symbol="x").replace(b'"x"', b'"\xff"')), "400 malformed_json"),
    "half a surrogate": (post(order(symbol="x").replace(b'"x"', b'"\\ud800"')), "400 invalid_parameter"),
    "a NUL in a text": (post(order(client_order_id="a\0b")), "400 invalid_parameter"),
    "a number for a text": (post(order(quantity=1)), "400 invalid_parameter"),
    "60,000 digits": (post(order(quantity="x").replace(b'"x"', b"9" * 60_000)), "400 invalid_parameter"),
    "an exponent of a million": (post(order(quantity="x").replace(b'"x"', b"1e1000000")), "400 invalid_parameter"),
    "not a number": (post(order(quantity="x").replace(b'"x"', b"NaN")), "400 malformed_json"),
    "infinite": (post(order(quantity="x").replace(b'"x"', b"-Infinity")), "400 malformed_json"),
    "a text of infinity": (post(order(quantity="1e999")), "400 invalid_parameter"),
    "more than there is": (post(order(quantity="999999999999", client_order_id="b")), "409 insufficient_liquidity"),
    "a line feed in an id": (post(order(client_order_id="a\n" + CANARY.decode())), "400 invalid_parameter"),
    "a statement for an id": (post(order(client_order_id="'; DROP TABLE fills; --")), "400 invalid_parameter"),
    "a list": (post(b"[]"), "400 malformed_json"),
    "two objects": (post(order() + order()), "400 malformed_json"),
    "what a form sends": (
        post(b"symbol=BTC/USDT").replace(b"application/json", b"application/x-www-form-urlencoded"),
        "415 unsupported_media_type"),
    "XML": (post(b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>"), "400 malformed_json"),
    "another charset": (post(order()).replace(b"/json", b"/json; charset=utf-7"), "415 unsupported_media_type"),
    "nothing at all": (get(b"/execute", b"Content-Type: application/json", method=b"POST"), "400 malformed_json"),
    "a forged quote": (post(b'{"quote_id":"q2.a.b","side":"buy","client_order_id":"d"}'), "404 unknown_quote"),
}  # fmt: skip
CORPUS = {
    f"{family}: {name}": row
    for family, rows in {
        "first line": FIRST_LINES, "target": TARGETS, "query": QUERIES, "headers": HEADERS,
        "smuggling": SMUGGLING, "body": BODIES,
    }.items()
    for name, row in rows.items()
}  # fmt: skip


async def heard(house, data, expected):
    """Send a request; give what came back as statuses and codes, and all bytes of it."""
    seen, raw = [], bytearray()
    async with wire(house) as client:
        client.send(data.replace(b"{key}", house.keys["all"].encode()))
        try:
            for _ in [one for one in expected if one != HALF]:
                status, headers, body = await client.answer()
                raw += repr(headers).encode() + body
                seen.append(told(status, headers, body))
            if HALF in expected:
                return (*seen, HALF), bytes(raw)
            if seen[-1] == MALFORMED or headers.get("connection") == "close":
                rest = await client.rest()
            else:  # What was sent is used up, or this is not answered.
                client.send(ALIVE)
                status, headers, _ = await client.answer()
                rest = b"" if status == 200 else b"out of step: %d" % status
            seen += [repr(rest)] if rest else []
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError) as error:
            seen.append(type(error).__name__)
    return tuple(seen), bytes(raw)


def told(status, headers, body):
    """Give an answer as its status and code; what all answers have in common is held here."""
    assert "server" not in headers
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", headers["x-request-id"])
    if status < 400:
        return str(status)
    assert "application/problem+json" == headers["content-type"].partition(";")[0]
    problem = json.loads(body)
    assert (status, headers["x-request-id"]) == (problem["status"], problem["request_id"])
    return f"{status} {problem['code']}"


async def test_hostile_requests_have_the_answers_they_ought_to_have(house):
    """
    Nothing crashes, nothing is repeated, nothing is done that should not be, and every connection stays in step.
    """
    gate, wrong = asyncio.Semaphore(AT_ONCE), {}

    async def hold(name, data, expected):
        async with gate:
            seen, raw = await heard(house, data, expected)
        if seen != expected:
            wrong[name] = seen
        if CANARY in raw or house.keys["all"].encode() in raw:
            wrong[f"{name}, repeated"] = raw

    await asyncio.gather(*(hold(name, row[0], row[1:]) for name, row in CORPUS.items()))
    assert not wrong, "\n".join(f"{name}: {seen}" for name, seen in wrong.items())
    assert 120 <= len(CORPUS)
    assert CANARY not in house.log.getvalue()
    assert house.keys["all"].encode() not in house.log.getvalue()
    assert {"request", "request.malformed"} == {line["event"] for line in house.lines()}
    assert [] == [line for line in house.lines() if line["status"] >= 500]
    assert 1 == len((await house.get("/v1/executions?status=filled")).json["executions"])
