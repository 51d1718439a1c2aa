"""Whatever is sent, the answer is a problem that names what was wrong, never a 500, and the market never sees it."""

from __future__ import annotations

import gzip
import json
import re
from decimal import Decimal
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marshmallow import Schema, ValidationError

from service.api.fields import Amount
from service.api.parsing import FAULTS_MAX, faults_of, refused
from service.api.problems import CODES
from service.api.requests import ExecuteBody

BUY = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
NOT_AMOUNTS = {
    "not a number": "nan",
    "infinite": "inf",
    "infinite in full": "-Infinity",
    "an exponent": "1e3",
    "an underscore": "1_000",
    "fullwidth": "\N{FULLWIDTH DIGIT ONE}",
    "arabic": "\N{ARABIC-INDIC DIGIT ONE}",
    "superscript": "²",
    "5,000 digits": "1" * 5_000,
    "13 digits before the point": "1" * 13,
    "13 digits after the point": "0." + "1" * 13,
    "negative": "-1",
    "negative zero": "-0",
    "a plus sign": "+1",
    "leading zeros": "01",
    "leading zeros before the point": "00.1",
    "nothing before the point": ".5",
    "nothing after the point": "5.",
    "two points": "1.2.3",
    "a comma": "1,5",
    "hexadecimal": "0x10",
    "a fraction": "1/2",
    "a space before": " 1",
    "a space after": "1 ",
    "empty": "",
    "only a space": " ",
    "a line feed after": "1\n",
    "a carriage return after": "1\r",
    "a NUL after": "1\0",
    "a no-break space after": "1\N{NO-BREAK SPACE}",
    "a minus that is none": "\N{MINUS SIGN}1",
    "a word": "all",
}
NOT_STRINGS = {
    "an integer": 1,
    "a float": 1.5,
    "a huge integer": 10**400,
    "null": None,
    "true": True,
    "a list": ["1"],
    "an object": {"value": "1"},
    "an empty object": {},
}
ZEROS = ("0", "0.0", "0.000000000000")


async def check_refused(house, ask, fault, values):
    """Hold the refusal of each value to its one fault, and see that the market and the ledger never saw it."""
    for name, value in values.items():
        reply = await ask(value)
        expected = (name, 400, "invalid_parameter", [(fault, "invalid_parameter")])
        assert expected == (name, reply.status, reply.code, reply.faults)
        assert {"symbol", "quantity"}.isdisjoint(house.lines("request")[-1])
    assert [] == (await house.get("/v1/executions")).json["executions"]


# Amounts


@pytest.mark.parametrize(
    ("parameter", "rest"),
    [
        ("quantity", "symbol=BTC/USDT"),
        ("total", "symbol=BTC/USDT"),
        ("slippage_bps_max", "symbol=BTC/USDT"),
        ("limit_price", "symbol=BTC/USDT&quantity=1&side=buy"),
    ],
)
async def test_parameter_that_is_no_amount_is_refused(house, parameter, rest):
    """
    An amount in a query is a plain decimal, or the request is refused by the parameter's name.
    """

    async def ask(text):
        return await house.quote(f"{rest}&{parameter}={quote(text, safe='')}")

    await check_refused(house, ask, parameter, NOT_AMOUNTS)


@pytest.mark.parametrize(
    ("field", "order"),
    [
        ("quantity", BUY),
        ("total", {name: value for name, value in BUY.items() if name != "quantity"}),
        ("limit_price", BUY),
        ("slippage_bps_max", BUY),
        ("tolerance_bps", {"quote_id": "q2.a.b", "side": "buy", "client_order_id": "a"}),
    ],
)
async def test_field_that_is_no_amount_is_refused(house, field, order):
    """
    An amount in a body is a plain decimal in a string: a JSON number has lost digits before anyone sees it.
    """

    async def ask(value):
        return await house.execute({**order, field: value})

    await check_refused(house, ask, f"/{field}", {**NOT_AMOUNTS, **NOT_STRINGS})


@pytest.mark.parametrize("zero", ZEROS)
async def test_zero_is_no_quantity_and_no_price(house, zero):
    """
    Nothing can be bought for nothing; but a bound of zero basis points is a bound.
    """
    assert [("quantity", "invalid_parameter")] == (await house.quote(f"symbol=BTC/USDT&quantity={zero}")).faults
    assert [("total", "invalid_parameter")] == (await house.quote(f"symbol=BTC/USDT&total={zero}")).faults
    assert [("/quantity", "invalid_parameter")] == (await house.buy(quantity=zero)).faults
    assert [("/total", "invalid_parameter")] == (await house.buy(quantity=None, total=zero)).faults
    assert [("/limit_price", "invalid_parameter")] == (await house.buy(limit_price=zero)).faults
    assert "slippage_exceeded" == (await house.buy(slippage_bps_max=zero)).code
    assert "0" == (await house.quote(f"symbol=BTC/USDT&slippage_bps_max={zero}")).json["buy"]["quantity"]


@pytest.mark.parametrize("text", ["1", "0.5", "0.00001", "999999999999", "999999999999.99999999", "1.10"])
async def test_amount_of_the_form_is_understood_exactly(house, text):
    """
    The smallest and the largest amounts of the form are quoted to the last digit.
    """
    reply = await house.quote(f"symbol=BTC/USDT&quantity={text}&side=buy")
    buy = reply.json["buy"]
    assert Decimal(text) == Decimal(reply.json["requested"]["quantity"])
    assert Decimal(text) == Decimal(buy["quantity"]) + Decimal(buy["shortfall"])


@pytest.mark.parametrize("text", ["0.000000000001", "0.1", "999999999999.999999999999"])
@pytest.mark.parametrize("query", ["quantity=1&side=buy&limit_price=", "slippage_bps_max="])
async def test_bound_of_the_form_is_understood_exactly(house, query, text):
    """
    A price and a slippage are held to all of their decimals, and said again as they were understood.
    """
    requested = (await house.quote(f"symbol=BTC/USDT&{query}{text}")).json["requested"]
    assert text in (requested.get("limit_price"), requested.get("slippage_bps_max"))


@pytest.mark.parametrize(
    ("text", "understood"),
    [("0.64085811", "0.64085811"), ("999999999999.999999999999", "999999999999.99999999"), ("1.10", "1.1")],
)
async def test_total_of_the_form_is_understood_to_the_last_digit_of_money(house, text, understood):
    """
    A total has as many decimals as money has; further ones are cut.
    """
    assert understood == (await house.quote(f"symbol=BTC/USDT&side=buy&total={text}")).json["requested"]["total"]


@settings(deadline=None, max_examples=60)
@given(value=st.one_of(st.text(max_size=12), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.text())))
def test_only_the_form_passes_as_an_amount(value):
    """
    An amount is read if and only if it has the contract's form, whatever it is.
    """
    form = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?")
    expected = isinstance(value, str) and value.isascii() and form.fullmatch(value)
    try:
        read = Amount(zero=True).deserialize(value)
    except ValidationError:
        assert not expected
    else:
        assert expected and Decimal(value) == read


# Fields and parameters of other types


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("symbol", ["", "BTC", "BTC//USDT", "BTC/USDT\n", " BTC/USDT", "BTC/USDT/X",
                    "\uff22\uff34\uff23/USDT", "B" * 42, "../etc"]),
        ("side", ["", "BUY", "buy ", "both", "Buy\n", "long"]),
        ("time_in_force", ["", "gtc", "GTC", "FOK", "fok\n"]),
        ("client_order_id", ["", "a b", "a" * 65, "ä", "a/b", "a\n", "a\0", "\ud800"]),
        ("valid_until", ["", "now", "2026-11-01", "2026-11-01T12:00:00", "2026-13-01T00:00:00Z", "1793534400",
                         "2026-11-01T12:00:60Z", "0001-01-01T00:00:00+23:59", "2026-11-01T12:00:00Z\n"]),
        ("dry_run", ["true", "", 0, 1]),
    ],
)  # fmt: skip
async def test_field_of_another_form_is_refused(house, field, values):
    """
    A field is refused by its pointer for every type and every form that is not its own.
    """
    strings = [value for value in NOT_STRINGS.values() if not (field == "dry_run" and value is True)]
    for value in [*values, *strings]:
        reply = await house.execute({**BUY, field: value})
        if field == "symbol" and value == "BTC":
            assert "unknown_symbol" == reply.code  # It has the form of a symbol written without a separator.
            continue
        assert (400, [(f"/{field}", "invalid_parameter")]) == (reply.status, reply.faults), value


@pytest.mark.parametrize("value", ["", "a b", "x" * 4_097, "q2.é.x", "q2.a.b\n", *NOT_STRINGS.values()])
async def test_quote_id_of_another_form_is_refused(house, value):
    """
    A quote id is text as it was given, or is not looked at.
    """
    reply = await house.execute({"quote_id": value, "side": "buy", "client_order_id": "a"})
    assert (400, [("/quote_id", "invalid_parameter")]) == (reply.status, reply.faults)


@pytest.mark.parametrize(
    ("path", "parameter", "values"),
    [
        ("/quote?quantity=1", "symbol", ["", "%20BTC/USDT", "BTC/USDT%0A", "%00", "%FF", "%ED%A0%80", "a" * 50]),
        ("/quote?quantity=1", "ticker", ["", "BTC/USDT%0A"]),
        ("/quote?symbol=BTC/USDT&quantity=1", "side", ["", "BUY", "bid", "buy,sell"]),
        ("/quote?symbol=BTC/USDT&quantity=1", "fills", ["", "1", "True", "yes", "TRUE"]),
        ("/quote?symbol=BTC/USDT&quantity=1", "venues", ["", ",", "kraken,", "Kraken", "kraken%20", "kr%C3%A4ken",
                                                         "kraken,,okx", ",".join(["a"] * 65)]),
        ("/quote?symbol=BTC/USDT&quantity=1", "exclude_venues", ["", "%0A", "a" * 33]),
        ("/v1/book?symbol=BTC/USDT", "depth", ["", "0", "-1", "01", "1.0", "5001", "1e3", "%EF%BC%91", "9" * 4_000]),
        ("/v1/book?symbol=BTC/USDT", "view", ["", "NET", "raw"]),
        ("/v1/executions?", "limit", ["", "0", "501", "-1", "+1", "1_0", "9" * 4_000]),
        ("/v1/executions?", "cursor", ["", "a", "ZTE=", "ZS0x", "*", "a" * 33, "ZQ"]),
        ("/v1/executions?", "status", ["", "open", "FILLED"]),
        ("/v1/executions?", "since", ["", "yesterday", "2026-11-01", "2026-11-01T12:00:00+02:00"]),
        ("/v1/executions?", "symbol", ["", "%00"]),
    ],
)  # fmt: skip
async def test_parameter_of_another_form_is_refused(house, path, parameter, values):
    """
    A query parameter is refused by its name for every form that is not its own.
    """
    for value in values:
        reply = await house.get(f"{path}&{parameter}={value}")
        assert (400, [(parameter, "invalid_parameter")]) == (reply.status, reply.faults), value


# Bodies


DEEP = b"[" * 60_000
BODIES = {
    "nothing": b"",
    "half an object": b'{"symbol": "BTC/USDT"',
    "a trailing comma": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "two objects": b"{}{}",
    "a comment": b"{} // a",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": "b"}'.encode("utf-16"),
    "not UTF-8": b'{"symbol": "\xff"}',
    "an encoded surrogate": b'{"symbol": "\xed\xa0\x80"}',
    "a raw NUL": b'{"symbol": "\x00"}',
    "a raw line feed in a text": b'{"symbol": "a\nb"}',
    "not a number": b'{"quantity": NaN}',
    "infinite": b'{"quantity": -Infinity}',
    "a list": b"[]",
    "a text": b'"{}"',
    "a number": b"1",
    "null": b"null",
    "60,000 brackets": DEEP,
    "60,000 brackets in a field": b'{"symbol": ' + DEEP,
    "30,000 nested objects": b'{"a":' * 12_000,
    "what a form sends": b"symbol=BTC/USDT&quantity=1",
}


@pytest.mark.parametrize("raw", BODIES.values(), ids=BODIES)
async def test_body_that_is_no_json_object_is_refused(house, raw):
    """
    What is not one JSON object in UTF-8 is malformed_json; how it breaks makes no difference.
    """
    reply = await house.ask("POST", "/execute", raw=raw)
    assert (400, "malformed_json") == (reply.status, reply.code)
    assert "errors" not in reply.json


async def test_closed_deep_body_is_refused_too(house):
    """
    Nesting that ends is either too deep to read or the wrong type; the process lives either way.
    """
    for depth in (10, 900, 5_000, 30_000):
        reply = await house.ask("POST", "/execute", raw=b'{"symbol":' + b"[" * depth + b"]" * depth + b"}")
        assert 400 == reply.status
    assert 200 == (await house.get("/healthz", key=None)).status


def with_fields(more):
    return json.dumps(BUY).encode()[:-1] + b"," + more + b"}"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (with_fields(b'"symbol": "BTC/USDT"'), ("/symbol", "duplicate_field")),  # Even with the same value.
        (with_fields(b'"\\u0073ide": "sell"'), ("/side", "duplicate_field")),  # Spelt otherwise, the same name.
        (with_fields(b'"x": {"y": 1, "y": 2}'), ("/y", "duplicate_field")),
        (with_fields(b'"total": "5"'), ("/total", "conflicting_parameters")),
        (with_fields(b'"Symbol": "BTC/USDT"'), ("/Symbol", "unknown_field")),
        (with_fields(b'"a/b~c": 1'), ("/a~1b~0c", "unknown_field")),
        # What does not look like a name is not repeated.
        (with_fields(b'"": 1'), ("/", "unknown_field")),
        (with_fields(b'"<script>": 1'), ("", "unknown_field")),
        (with_fields(b'"\\ud800": 1'), ("", "unknown_field")),
        (with_fields(b'"\\u0000": 1'), ("", "unknown_field")),
        (with_fields(b'"' + b"n" * 60_000 + b'": 1'), ("", "unknown_field")),
        (with_fields(b'"n": ' + b"9" * 60_000), ("/n", "unknown_field")),
        (with_fields(b'"code": 1'), ("/code", "unknown_field")),
        (with_fields(b'"detail": 1'), ("/detail", "unknown_field")),
        (with_fields(b'"__class__": 1'), ("/__class__", "unknown_field")),
    ],
)
async def test_field_too_many_is_refused_by_name(house, raw, fault):
    """
    A field that nobody knows, or that stands twice, is refused: which of two values counts must never be a guess.
    """
    reply = await house.ask("POST", "/execute", raw=raw)
    assert 400 == reply.status
    assert fault in reply.faults


async def test_names_that_faults_are_made_of_are_names_like_any_other(house):
    """
    ``code`` and ``detail``, together, are two unknown names.
    """
    reply = await house.execute({**BUY, "code": 1, "detail": 2})
    assert [("/code", "unknown_field"), ("/detail", "unknown_field")] == reply.faults
    reply = await house.quote("symbol=BTC/USDT&quantity=1&detail=2&code=1")
    assert [("code", "unknown_parameter"), ("detail", "unknown_parameter")] == reply.faults


async def test_all_faults_of_a_body_come_at_once(house):
    """
    One round trip tells everything that has to be changed; the code is the first in the contract's order.
    """
    body = {"symbol": 1, "side": "long", "quantity": "-1", "time_in_force": "gtc", "dry_run": "no", "what": "ever"}
    reply = await house.ask("POST", "/execute", raw=json.dumps(body).encode()[:-1] + b', "what": 1}')
    assert "invalid_parameter" == reply.code
    assert [
        ("/dry_run", "invalid_parameter"),
        ("/quantity", "invalid_parameter"),
        ("/side", "invalid_parameter"),
        ("/symbol", "invalid_parameter"),
        ("/time_in_force", "invalid_parameter"),
        ("/what", "unknown_field"),
        ("/what", "duplicate_field"),
        ("/client_order_id", "missing_parameter"),
    ] == reply.faults


async def test_all_faults_of_a_query_come_at_once(house):
    """
    The same for a query: also the missing symbol, and a limit that has no one side.
    """
    reply = await house.quote("quantity=1e3&limit_price=x&fills=maybe&colour=red&colour=blue")
    assert [
        ("fills", "invalid_parameter"),
        ("limit_price", "invalid_parameter"),
        ("quantity", "invalid_parameter"),
        ("colour", "unknown_parameter"),
        ("colour", "duplicate_field"),
        ("symbol", "missing_parameter"),
        ("limit_price", "conflicting_parameters"),
    ] == reply.faults


@pytest.mark.parametrize(
    ("more", "faults"),
    [
        # A field of the other kind is a conflict, and its form is a fault of its own.
        ({"symbol": 5}, [("/symbol", "invalid_parameter"), ("/symbol", "conflicting_parameters")]),
        (
            {"symbol": "BTC/USDT", "quantity": "1", "limit_price": "1", "slippage_bps_max": "1",
             "time_in_force": "ioc"},
            [(f"/{name}", "conflicting_parameters")
             for name in ("limit_price", "quantity", "slippage_bps_max", "symbol", "time_in_force")],
        ),
    ],
)  # fmt: skip
async def test_order_on_a_quote_settles_nothing_again(house, more, faults):
    """
    What the quote has settled cannot be said a second time.
    """
    reply = await house.execute({"quote_id": "q2.a.b", "client_order_id": "a", **more})
    assert faults == reply.faults


async def test_direct_order_has_no_tolerance(house):
    """
    A tolerance is of a quoted total; without a quote it is a conflict, and what is missing is named with it.
    """
    reply = await house.execute({"tolerance_bps": "1", "client_order_id": "a"})
    missing = [(f"/{name}", "missing_parameter") for name in ("quantity", "side", "symbol")]
    assert [*missing, ("/tolerance_bps", "conflicting_parameters")] == reply.faults


# Headers, media types, queries and addresses


JSON_TYPES = ["application/json", "application/json; charset=utf-8", "Application/JSON; charset=UTF-8"]
OTHER_TYPES = ["text/json", "application/jsonp", "application/json5", "application/json; charset=latin-1", "",
               "application/json; charset=utf-16", "application/x-www-form-urlencoded", "*/*", ";", "json",
               "application/vnd.api+json", "multipart/form-data; boundary=x"]  # fmt: skip


@pytest.mark.parametrize("media_type", JSON_TYPES)
async def test_json_in_utf8_is_read(house, media_type):
    """
    JSON is JSON in any spelling of its name.
    """
    reply = await house.ask("POST", "/execute", body=BUY, headers={"Content-Type": media_type})
    assert 201 == reply.status


@pytest.mark.parametrize("media_type", OTHER_TYPES)
async def test_other_media_types_are_refused(house, media_type):
    """
    What does not say that it is JSON in UTF-8 is not guessed at.
    """
    reply = await house.ask("POST", "/execute", body=BUY, headers={"Content-Type": media_type})
    assert "unsupported_media_type" == reply.code


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "x", "gzip, gzip", "", "identity, gzip"])
async def test_encoded_body_is_refused_unread(house, coding):
    """
    A small body that grows when it is unpacked never is: no Content-Encoding is taken.
    """
    bomb = gzip.compress(b"[" * 20_000_000)
    assert len(bomb) < 64 * 1024
    reply = await house.ask("POST", "/execute", raw=bomb, headers={"Content-Encoding": coding})
    assert "unsupported_media_type" == reply.code


async def test_request_head_without_a_media_type(house):
    """
    A body without a Content-Type is refused before anyone asks for a key.
    """
    reply = await house.wire(b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    assert "unsupported_media_type" == reply.code


@pytest.mark.parametrize(("length", "status"), [(64 * 1024, 201), (64 * 1024 + 1, 413)])
async def test_body_of_64_kib_is_read_and_no_more(house, length, status):
    """
    The limit is 65,536 bytes, whether they are announced or come in chunks.
    """

    async def chunks(data):
        for at in range(0, len(data), 8_192):
            yield data[at : at + 8_192]

    for name in ("announced", "chunked"):
        data = json.dumps({**BUY, "client_order_id": name}).encode()
        data += b" " * (length - len(data))
        reply = await house.ask("POST", "/execute", raw=data if name == "announced" else chunks(data))
        assert (name, status) == (name, reply.status)


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("symbol=BTC/USDT&ticker=BTC/USDT&quantity=1", [("ticker", "conflicting_parameters")]),
        ("symbol=BTC/USDT&symbol=BTC/USDT&quantity=1", [("symbol", "duplicate_field")]),
        ("symbol=BTC/USDT&quantity=1&qty=2", [("qty", "unknown_parameter")]),
        ("symbol=BTC/USDT&Quantity=1", [("Quantity", "unknown_parameter"), ("quantity", "missing_parameter")]),
        ("symbol=BTC/USDT&quantity=1&total=5", [("total", "conflicting_parameters")]),
        ("symbol=BTC/USDT&quantity=1&slippage_bps_max=5", [("slippage_bps_max", "conflicting_parameters")]),
        ("symbol=BTC/USDT&quantity=1&=", [("", "unknown_parameter")]),
        ("symbol=BTC/USDT&quantity=1&%FF=1", [("", "unknown_parameter")]),
        ("symbol=BTC/USDT&quantity=1&a%00=1", [("", "unknown_parameter")]),
        ("symbol=BTC/USDT&quantity=1&" + "n" * 4_000 + "=1", [("", "unknown_parameter")]),
        ("symbol=%zz&quantity=1", [("symbol", "invalid_parameter")]),
        ("symbol=BTC%2&quantity=1", [("symbol", "invalid_parameter")]),
        ("symbol=BTC/USDT&quantity=1%", [("quantity", "invalid_parameter")]),
        ("symbol=BTC/USDT&quantity=1+", [("quantity", "invalid_parameter")]),
        ("symbol=BTC/USDT;quantity=1", [("symbol", "invalid_parameter"), ("quantity", "missing_parameter")]),
        ("", [("quantity", "missing_parameter"), ("symbol", "missing_parameter")]),
    ],
)
async def test_query_is_taken_by_the_letter(house, query, faults):
    """
    A typing error in a query must not silently change a price.
    """
    reply = await house.quote(query)
    assert (400, faults) == (reply.status, reply.faults)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/execute"), ("GET", "/v1/venues"), ("GET", "/v1/symbols"), ("GET", "/v1/executions/x"),
     ("GET", "/v1/executions/by-client-id/x")],
)  # fmt: skip
async def test_route_without_parameters_takes_none(house, method, path):
    """
    A query where there is nothing to ask is a mistake, also beside a body.
    """
    reply = await house.ask(method, f"{path}?verbose=1&verbose=2", body=BUY if method == "POST" else None)
    assert {("verbose", "unknown_parameter")} == set(reply.faults)


MALFORMED = {
    "a control character in a header": b"GET /quote HTTP/1.1\r\nHost: x\r\nX-API-Key: a\x01b\r\n\r\n",
    "a folded header": b"GET /quote HTTP/1.1\r\nHost: x\r\nX-API-Key: a\r\n b\r\n\r\n",
    "a bare line feed": b"GET /quote HTTP/1.1\nHost: x\n\n\r\n\r\n",
    "a space before the colon": b"GET /quote HTTP/1.1\r\nHost: x\r\nX-API-Key : a\r\n\r\n",
    "no host": b"GET /quote HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /quote HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a method that nobody knows": b"STEAL /quote HTTP/1.1\r\nHost: x\r\n\r\n",
    "another version": b"GET /quote HTTP/9.9\r\nHost: x\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "raw bytes in the address": b"GET /quote?symbol=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "a broken address": b"GET http://[::1/quote HTTP/1.1\r\nHost: x\r\n\r\n",
    "a very long address": b"GET /quote?symbol=" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a very long header": b"GET /quote HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"a" * 9_000 + b"\r\n\r\n",
    "two lengths": b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length that is none": b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}",
    "a length and chunks": b"POST /execute HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is none": b"POST /execute HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "an expectation that nobody knows": b"GET /quote HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n",
    "an expectation on no route": b"GET /nothing HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_not_http_is_refused_without_an_echo(house, data):
    """
    A request that cannot be read gets a problem like any other, and neither answer nor log repeats it.
    """
    reply = await house.wire(data)
    assert (400, "malformed_request") == (reply.status, reply.code)
    assert b"miracles" not in reply.body + house.log.getvalue()
    [line] = house.lines()
    assert ("request.malformed", reply.json["request_id"]) == (line["event"], line["request_id"])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_method_that_a_route_lacks_is_refused_with_those_it_has(house, method):
    """
    405 names the methods that would do.
    """
    for path, allowed in {"/quote": "GET, HEAD", "/execute": "POST", "/healthz": "GET, HEAD"}.items():
        if method not in allowed:
            reply = await house.ask(method, path, key=None)
            assert (405, allowed) == (reply.status, reply.headers["Allow"])


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.one_of(st.sampled_from([*BUY, "quote_id", "dry_run", "limit_price", "code", "detail"]), st.text(max_size=9)),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.sampled_from("15")),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=8,
    )
)
def test_no_body_is_an_error_of_ours(body):
    """
    Whatever object is sent, the schema either reads it or finds faults that the contract has a code for.
    """
    try:
        ExecuteBody().load(body)
    except ValidationError as error:
        refusal = refused(faults_of(error.messages, "pointer", "unknown_field"))
        assert 400 == CODES[refusal.code].status


MANY = ",".join(f'"f{number}":1,"g":1' for number in range(3_000))


async def test_thousands_of_faults_are_not_all_told(house, monkeypatch):
    """
    What is beyond what is told is not looked for: 64 KiB of unknown names would keep everybody waiting.
    """
    looked_at = []
    load = Schema.load
    monkeypatch.setattr(Schema, "load", lambda self, data: looked_at.append(len(data)) or load(self, data))
    query = "&".join(f"f{number}=1&f{number}=2" for number in range(500))
    for reply in (
        await house.ask("POST", "/execute", raw=b'{"side":"buy",%s}' % MANY.encode()),
        await house.quote(f"symbol=BTC/USDT&{query}"),
    ):
        assert (400, FAULTS_MAX) == (reply.status, len(reply.json["errors"]))
    async with house.client.ws_connect("/v1/stream") as connection:
        await connection.send_str(f'{{"op":"auth","key":"x",{MANY}}}')
        error = (await connection.receive_json())["error"]
    assert ("unknown_field", FAULTS_MAX) == (error["code"], len(error["errors"]))
    assert 3 == len(looked_at) and max(looked_at) <= FAULTS_MAX + 5


async def test_unknown_names_hide_no_known_fault(house):
    """
    Fields that are known are read, however many stand beside them that are not.
    """
    unknown = {f"f{number}": "1" for number in range(100)}
    order = {"symbol": "BTC/USDT", "side": "hold", "quantity": "1", "client_order_id": "a", **unknown}
    faults = (await house.execute(order)).faults

    assert ("/side", "invalid_parameter") in faults and FAULTS_MAX == len(faults)
