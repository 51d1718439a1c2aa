"""What the document says of a request is what requests are read by: the same bodies and parameters pass, and no others.

Answers have no test of their own here: every answer that any test in this folder gets is held to the document
(``conftest.check_answer``), and no field of it may be undocumented.
"""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, validators
from marshmallow import ValidationError

from service.api import fields, requests
from tests.api.conftest import document


def _pattern(validator, pattern, instance, schema):
    """Read ``$`` as ECMA-262 does: the end, and not what comes before a line's last break."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance, re.ASCII):
        yield from Draft202012Validator.VALIDATORS["pattern"](validator, "^(?!)", "", schema)


Validator = validators.extend(Draft202012Validator, {"pattern": _pattern})


def _words(*lines):
    return [word for line in lines for word in line.split(" ")]


AMOUNTS = [
    *_words(
        "1 0.5 999999999999.999999999999 0 0.0 0.000000000001 0.0000000000001 1000000000000 01 1. .5 1e3 -1 +1 1_000",
        "NaN 1.123456780000 1.123456789 \uff11 1\n",
    ),
    *[" 1", ""],
]
TIMES = [
    *_words(
        "2026-11-01T12:00:00Z 2026-11-01T12:00:00.123456789+02:00 2024-02-29T00:00:00Z 2026-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z 2026-11-01t12:00:00z 2026-11-01T24:00:00Z 2026-11-01T12:00:60Z 2026-11-01T12:00:00",
        "2026-11-01 0001-01-01T00:00:00+05:00 9999-12-31T23:59:59-05:00 2999-12-31T23:59:59-23:59",
        "2026-11-01T12:00:00+24:00 2026-11-01T12:00:00.1234567890Z",
    ),
    "2026-11-01 12:00:00Z",
]
WORDS = [
    *_words(
        "buy sell both fok ioc gtc net gross filled rejected true false True BTC/USDT BTC-USDT btcusdt BTC//USDT",
        "USDT usdt alice Alice -alice order-1 q2.abc.def kraken,okx kraken, kraken,Okx 5,10 5, 9999.9 10000 0,0",
        "7fffffffffffffff 8000000000000000 000000000000000g 50 500 501 5000 5001 007 \x00 \u00e9",
    ),
    *["B" * 20, "B" * 21, "a" * 32, "a" * 33, "A" * 64, "A" * 65, "q" * 4096, "q" * 4097, "1" * 15, "a b"],
    *[",".join("a" * 64), ",".join("a" * 65), ",".join("1" * 20), ",".join("1" * 21)],
]
OTHERS = [
    *[None, True, False, 0, 1, 100, 10_000, 10_001, 99, 100.0, 100.5, -100, {}, {"a": 1}],
    *[[], ["kraken"], ["kraken", "okx"], ["kraken,okx"], [1], [""], ["a"] * 64, ["a"] * 65],
]
TEXTS = [*AMOUNTS, *TIMES, *WORDS]
BODIES = {
    requests.ExecuteBody: [
        {"client_order_id": "a", "quote_id": "q", "side": "buy", "tolerance_bps": "0"},
        {
            "client_order_id": "a",
            "symbol": "BTC/USDT",
            "side": "sell",
            "quantity": "1",
            "time_in_force": "ioc",
            "slippage_bps_max": "5",
            "valid_until": "2026-11-01T12:00:00Z",
        },
        {
            "client_order_id": "a",
            "symbol": "BTC/USDT",
            "side": "buy",
            "total": "1",
            "limit_price": "2",
            "dry_run": True,
        },
    ],
    requests.FirmQuoteBody: [
        {
            "symbol": "BTC/USDT",
            "side": "buy",
            "quantity": "1",
            "venues": ["kraken"],
            "ttl_ms": 1000,
            "limit_price": "5",
        },
        {"symbol": "BTC/USDT", "side": "buy", "total": "1", "exclude_venues": "okx"},
    ],
    requests.AccountBody: [{"account": "alice"}],
    requests.DepositBody: [{"asset": "USDT", "amount": "5"}],
    requests.RotateBody: [{"overlap_ms": 0}],
}
QUERIES = {
    requests.QuoteQuery: ("/quote", {"symbol": "BTC/USDT", "quantity": "1", "side": "buy"}),
    requests.BookQuery: ("/v1/book", {"symbol": "BTC/USDT"}),
    requests.DepthQuery: ("/v1/depth", {"symbol": "BTC/USDT", "bps": "5"}),
    requests.ExecutionsQuery: ("/v1/executions", {}),
    requests.EntriesQuery: ("/v1/account/entries", {}),
}
IN_PLACE_OF = {"ticker": "symbol", "total": "quantity", "slippage_bps_max": "quantity"}


def published(name):
    """Give a validator of a message by the name of its schema."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    return Validator(schema, format_checker=Validator.FORMAT_CHECKER)


def forms(schema):
    """Name the schemas of a message that the document has for it."""
    return list(schema.forms) or [schema.__name__]


def taken(schema, data):
    """Tell whether a request with these values passes its schema; an order's header stands in for its id."""
    if schema is requests.ExecuteBody:
        data = {"client_order_id": "of-the-header", **data}
    try:
        schema().load(data)
    except ValidationError:
        return False
    return True


def as_read(body):
    """Give a body as the service reads it: its numbers are texts."""
    return json.loads(json.dumps(body), parse_int=fields.JsonNumber, parse_float=fields.JsonNumber)


def changed_bodies(schema):
    """Make bodies that are good, or nearly so: up to three fields changed, taken away, or too many."""
    names = st.sampled_from([*schema().fields, "unknown"])
    values = st.sampled_from([*TEXTS, *OTHERS]) | st.sampled_from(AMOUNTS) | st.text(max_size=5) | st.just(...)
    return st.builds(
        lambda good, changes: {name: value for name, value in {**good, **changes}.items() if value is not ...},
        st.sampled_from(BODIES[schema]),
        st.dictionaries(names, values, max_size=3),
    )


@pytest.mark.parametrize("schema", BODIES)
def test_good_bodies_are_good_to_both(schema):
    """
    What the laws below start from passes.
    """
    for body in BODIES[schema]:
        assert (True, True) == (taken(schema, as_read(body)), published(schema.__name__).is_valid(body))


@pytest.mark.parametrize("schema", BODIES)
def test_each_value_of_each_field_passes_both_or_neither(schema):
    """
    Field by field, over all values of the table: one is taken exactly if the document allows it.
    """
    met = set()
    for good in BODIES[schema]:
        [form] = [form for form in forms(schema) if published(form).is_valid(good)]
        for name in set(good) - met:
            met.add(name)
            described = document()["components"]["schemas"][form]["properties"][name]
            validator = Validator(described, format_checker=Validator.FORMAT_CHECKER)
            for value in [*TEXTS, *OTHERS]:
                assert validator.is_valid(value) == taken(schema, as_read({**good, name: value})), (name, value)
    assert set(schema().fields) == met


@pytest.mark.parametrize("schema", BODIES)
def test_fields_too_many_or_too_few_pass_both_or_neither(schema):
    """
    A body with a field more, of whatever form, or with one less, is taken exactly if the document allows it.
    """
    validator = published(schema.__name__)
    every = {name: value for good in BODIES[schema] for name, value in good.items()} | {"unknown": "1"}
    for good in BODIES[schema]:
        for name, value in every.items():
            body = {**good, name: value} if name not in good else {key: good[key] for key in good if key != name}
            assert validator.is_valid(body) == taken(schema, as_read(body)), body


@pytest.mark.parametrize("schema", BODIES)
def test_changed_bodies_pass_both_or_neither(schema):
    """
    Whatever fields are changed together, the document and the service are of one mind.
    """
    validator = published(schema.__name__)

    @given(changed_bodies(schema))
    @settings(max_examples=40)
    def hold(body):
        assert validator.is_valid(body) == taken(schema, as_read(body))

    hold()


@pytest.mark.parametrize("schema", QUERIES)
def test_each_value_of_each_parameter_passes_both_or_neither(schema):
    """
    Parameter by parameter, over all texts of the table: a query is taken exactly if the document allows it.
    """
    path, good = QUERIES[schema]
    described = {
        parameter["name"]: parameter
        for parameter in document()["paths"][path]["get"]["parameters"]
        if parameter.get("in") == "query"
    }
    assert set(schema().fields) == set(described)
    for name, parameter in described.items():
        rest = {other: value for other, value in good.items() if other not in (name, IN_PLACE_OF.get(name))}
        validator = Validator(parameter["schema"], format_checker=Validator.FORMAT_CHECKER)
        for text in TEXTS:
            allowed = validator.is_valid(typed(text, parameter["schema"]["type"]))
            assert allowed == taken(schema, {**rest, name: text}), (name, text)
        if parameter["required"]:
            assert not taken(schema, rest)
        elif name not in good:
            assert taken(schema, good)


def typed(text, kind):
    """Read a parameter's text as OpenAPI does."""
    if kind == "integer" and re.fullmatch("0|[1-9][0-9]*", text, re.ASCII):
        return int(text)
    return {"true": True, "false": False}.get(text, text) if kind == "boolean" else text
