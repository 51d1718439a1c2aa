"""How often clients are answered, from where, and what stands in for a client order id: over HTTP."""

from __future__ import annotations

import json

import pytest

from service.api.guard import GUARD
from service.api.limits import LimitRules

ORDER = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2"}
TWO_A_SECOND = {"limits": {"quote_per_s": 2, "execute_per_s": 1, "failed_keys_per_s": 1}}


@pytest.fixture
def held_limits(house):
    """The clock that limits go by, as a list with its one number of nanoseconds."""
    now = [0]
    house.app[GUARD]._now_ns = lambda: now[0]
    return now


@pytest.mark.parametrize("house", [TWO_A_SECOND], indirect=True)
async def test_key_is_refused_when_its_bucket_is_empty_and_granted_when_it_fills(house, held_limits):
    """
    Two a second are four at once; the fifth is told when to come again, and then granted.
    """
    granted = [await house.quote() for _ in range(4)]
    refused = await house.quote()

    assert [(200, f'"quote";r={left};t={t}') for left, t in ((3, 1), (2, 1), (1, 2), (0, 2))] == [
        (reply.status, reply.headers["RateLimit"]) for reply in granted
    ]
    assert {'"quote";q=4;w=2'} == {reply.headers["RateLimit-Policy"] for reply in [*granted, refused]}
    assert (429, "rate_limited", "1") == (refused.status, refused.code, refused.headers["Retry-After"])
    held_limits[0] += 500_000_000
    assert 200 == (await house.quote()).status


@pytest.mark.parametrize("house", [TWO_A_SECOND], indirect=True)
async def test_orders_have_a_bucket_of_their_own(house, held_limits):
    """
    Asking for prices never keeps a client from trading, nor the other way round.
    """
    for _ in range(5):
        last = await house.quote()
    first = await house.buy("a")
    await house.firm()
    refused = await house.buy("c")

    assert (429, 201, 429) == (last.status, first.status, refused.status)
    assert '"execute";q=2;w=2' == refused.headers["RateLimit-Policy"]
    assert 429 == (await house.firm()).status
    # Nothing has run, and the id is not used up.
    held_limits[0] += 1_000_000_000
    assert 201 == (await house.buy("c")).status


@pytest.mark.parametrize("house", [TWO_A_SECOND], indirect=True)
async def test_one_keys_limit_leaves_another_key_alone(house, held_limits):
    """
    Buckets belong to keys.
    """
    for _ in range(5):
        await house.quote()

    assert (429, 200) == ((await house.quote()).status, (await house.quote(key="bob")).status)


@pytest.mark.parametrize("house", [TWO_A_SECOND], indirect=True)
async def test_limit_comes_before_what_is_wrong_with_the_request(house, held_limits):
    """
    An empty bucket answers 429 to a broken request too; a missing scope is told before.
    """
    for _ in range(4):
        await house.quote("nonsense=1")

    assert "rate_limited" == (await house.quote("nonsense=1")).code
    assert "insufficient_scope" == (await house.quote(key="account")).code
    assert "not_found" == (await house.get("/v1/nothing")).code


@pytest.mark.parametrize("house", [TWO_A_SECOND], indirect=True)
async def test_address_with_wrong_keys_is_refused_but_valid_keys_from_there_are_not(house, held_limits):
    """
    Guessing is slowed down for the address that guesses, whose valid keys work as ever.
    """
    codes = [(await house.quote(key=key)).code for key in ("unknown", None, "revoked")]

    assert ["unauthenticated", "unauthenticated", "rate_limited"] == codes
    assert 200 == (await house.quote()).status
    held_limits[0] += 1_000_000_000
    assert "unauthenticated" == (await house.quote(key=None)).code


async def test_open_routes_and_unlimited_keys_carry_no_limit(house):
    """
    Where nothing is limited, no header says so.
    """
    replies = [await house.get("/healthz", key=None), await house.quote()]

    assert [False, False] == ["RateLimit" in reply.headers for reply in replies]


async def test_reload_changes_limits_at_once(house, held_limits):
    """
    New limits begin with full buckets; 0 takes them away.
    """
    assert 200 == (await house.quote()).status
    house.app[GUARD].serve(LimitRules(1, 0, 0), ())

    assert [200, 200, 429] == [(await house.quote()).status for _ in range(3)]


PROXIED = {"service": {"trusted_proxies": ["127.0.0.1"]}, "limits": {"failed_keys_per_s": 1}}


@pytest.mark.parametrize("house", [PROXIED], indirect=True)
async def test_failures_behind_a_trusted_proxy_are_counted_by_the_client(house, held_limits):
    """
    The proxy's own address is not blamed for its clients, and the log names the client.
    """
    for _ in range(3):
        last = await house.quote(key=None, headers={"X-Forwarded-For": "198.51.100.9"})
    other = await house.quote(key=None, headers={"X-Forwarded-For": "198.51.100.10"})

    assert ("rate_limited", "unauthenticated") == (last.code, other.code)
    assert ["198.51.100.9"] * 3 + ["198.51.100.10"] == [line["remote"] for line in house.lines("request")]


# The header in place of the field


@pytest.mark.parametrize("value", ["abc-1", '"abc-1"'])
async def test_idempotency_key_stands_in_for_the_client_order_id(house, value):
    """
    The header names the order, and the same order named in its body is the same request.
    """
    first = await house.ask("POST", "/execute", body=ORDER, headers={"Idempotency-Key": value})
    again = await house.ask("POST", "/execute", body=ORDER, headers={"Idempotency-Key": value})
    in_body = await house.execute({**ORDER, "client_order_id": "abc-1"})
    both = await house.ask(
        "POST", "/execute", body={**ORDER, "client_order_id": "abc-1"}, headers={"Idempotency-Key": value}
    )

    assert (201, "abc-1") == (first.status, first.json["client_order_id"])
    assert [(200, first.body)] * 3 == [(reply.status, reply.body) for reply in (again, in_body, both)]


@pytest.mark.parametrize(
    ("body", "header", "faults"),
    [
        ({**ORDER, "client_order_id": "b"}, "a", [("Idempotency-Key", "conflicting_parameters")]),
        (ORDER, "no spaces", [("Idempotency-Key", "invalid_parameter")]),
        (ORDER, "", [("Idempotency-Key", "invalid_parameter")]),
        (ORDER, '"', [("Idempotency-Key", "invalid_parameter")]),
        (ORDER, "a" * 65, [("Idempotency-Key", "invalid_parameter")]),
        (ORDER, None, [("/client_order_id", "missing_parameter")]),
        # All faults come at once.
        (
            {**ORDER, "quantity": 1, "client_order_id": "b"},
            "a",
            [("/quantity", "invalid_parameter"), ("Idempotency-Key", "conflicting_parameters")],
        ),
    ],
)
async def test_idempotency_key_that_cannot_be_is_told(house, body, header, faults):
    """
    Two names for one order, or a name that is none, are refused before anything runs.
    """
    headers = {} if header is None else {"Idempotency-Key": header}
    reply = await house.ask("POST", "/execute", body=body, headers=headers)

    assert (400, faults) == (reply.status, reply.faults)


async def test_two_idempotency_keys_are_refused(house):
    """
    Which of two names is meant is not guessed.
    """
    body = json.dumps(ORDER).encode()
    head = (
        f"POST /execute HTTP/1.1\r\nHost: a\r\nX-API-Key: {house.keys['all']}\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reply = await house.wire(head.encode() + body)

    assert [("Idempotency-Key", "duplicate_field")] == reply.faults
