"""What is read with a schema's own fields is what the schema loads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError
from multidict import MultiDict
from yarl import URL

from service.api import requests
from service.api.fields import JsonNumber
from service.api.reading import Reader, plain_query
from service.api.requests import RequestSchema

SCHEMAS = sorted(
    (found for found in vars(requests).values() if isinstance(found, type) and issubclass(found, RequestSchema)),
    key=lambda schema: schema.__name__,
)
WORDS = (
    "buy sell both fok ioc net true false kraken kraken,okx BTC/USDT 1.5 0 0.0 1e3 \N{FULLWIDTH DIGIT FIVE} 5,10 99999 "
    "50 2026-11-01T12:00:00Z 2026-02-30T12:00:00Z ZTE abc-1"
)
TEXTS = st.one_of(st.sampled_from([*WORDS.split(" "), ""]), st.text(max_size=12))
VALUES = st.one_of(
    TEXTS,
    st.none(),
    st.booleans(),
    st.builds(JsonNumber, st.sampled_from(["1", "3000", "1.5", "-1", "99999999999"])),
    st.lists(TEXTS, max_size=3),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
)


def loaded(schema, message):
    """Give what a schema loads, or None where it refuses."""
    try:
        return schema.load(message)
    except ValidationError:
        return None


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
@given(data=st.data())
def test_reader_gives_what_the_schema_loads_and_nothing_that_it_refuses(schema, data):
    """
    Whatever a client sends, the quick way takes nothing that the schema refuses, and makes the same of the rest.
    """
    names = [*schema().fields, "unknown"]
    message = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=5))
    expected = loaded(schema(), message)
    read = Reader(schema()).read(message)

    assert read is None or read == expected
    if expected is not None and all(isinstance(value, str) for value in message.values()):
        assert read == expected


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (requests.QuoteQuery, {"symbol": "BTC/USDT", "quantity": "1.5"}),
        (requests.QuoteQuery, {"ticker": "BTC-USDT", "total": "1000", "side": "buy", "limit_price": "64000"}),
        (requests.ExecuteBody, {"symbol": "BTC/USDT", "side": "buy", "quantity": "1", "client_order_id": "a"}),
        (requests.ExecuteBody, {"quote_id": "abc", "client_order_id": "a", "dry_run": True}),
    ],
)
def test_usual_requests_are_read_the_quick_way(schema, message):
    """
    What clients ask most often is not left to the slow way.
    """
    assert loaded(schema(), message) == Reader(schema()).read(message)
    assert Reader(schema()).read(message) is not None


@given(text=st.text(alphabet="abcD/.,:=&%+;2F\N{EURO SIGN} ", max_size=30))
def test_plain_query_says_what_the_full_parser_says(text):
    """
    A query that is taken as it came has the names and values that a full parser finds.
    """
    raw = URL(f"/quote?{text}").raw_query_string
    read = plain_query(raw)

    if read is not None:
        assert MultiDict(read) == URL(f"/quote?{text}").query


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("symbol=BTC/USDT&quantity=1.5", {"symbol": "BTC/USDT", "quantity": "1.5"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=", {"a": ""}),
        ("a=1&a=1", None),
        ("a", None),
        ("a=1&", None),
        ("a=%2F", None),
        ("a=1+1", None),
    ],
)
def test_plain_query_leaves_the_rest_to_the_full_parser(text, expected):
    """
    What is escaped, repeated or torn is not plain.
    """
    assert expected == plain_query(text)


def test_all_amounts_of_a_message_are_told_apart_from_numbers():
    """
    A JSON number is no amount on either way.
    """
    message = json.loads('{"quantity": 1.5}', parse_float=JsonNumber)
    assert Reader(requests.QuoteQuery()).read({"symbol": "BTC/USDT", **message}) is None
