"""What the client sends again, when it gives up, and that an order is executed once whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.problems import CODES
from service.client import (
    NewQuoteNeeded,
    NoAnswer,
    OrderBookClient,
    OrderBookError,
    OutcomeUnknown,
    RateLimited,
    Retries,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from service.client import errors as client_errors
from tests.client.loopback import KEY, QUOTE, HeldTime, Loopback, Page, Problem, loopback, serving

BUY = {"symbol": "BTC/USDT", "side": "buy", "quantity": "1.5"}


async def deposit(client):
    return await client.admin.deposit("alice", "USDT", "5")


async def execute(client):
    return await client.execute(**BUY, client_order_id="a")


async def get_quote(client):
    return await client.quote("BTC/USDT", quantity="1.5")


async def firm_quote(client):
    return await client.firm_quote("BTC/USDT", "buy", quantity="1.5")


async def create_key(client):
    return await client.admin.create_key("alice", ["quote"])


async def rotate_key(client):
    return await client.admin.rotate_key("0123456789", overlap_ms=1000)


async def reset_account(client):
    return await client.admin.reset_account("alice")


async def release(client):
    return await client.release_firm_quote("f" * 32)


EACH_TIME = [deposit, firm_quote, create_key, rotate_key, reset_account]
"""What happens again if it is asked for again."""
ONCE = [get_quote, execute, release]


async def failure(asking):
    with pytest.raises(OrderBookError) as raised:
        await asking
    return raised.value


# Codes


@pytest.mark.parametrize("code", CODES)
async def test_each_code_has_its_class_and_its_number_of_attempts(code):
    """
    A refusal is raised as its code's class; an order is sent again if that may help, a deposit only if nothing has run.
    """
    meaning = CODES[code]
    async with loopback(deadline_s=5) as (server, client):
        server.always = Problem(code)
        error = await failure(execute(client))
        assert client_errors.CODES[code] is type(error)
        assert (code, meaning.status, meaning.retry) == (error.code, error.status, error.retry)
        assert meaning.execution_state == error.execution_state
        assert (meaning.retry == "same_request") == (len(server.received) > 1)
        assert 1 == len(set(server.bodies))

        server.received.clear()
        await failure(deposit(client))
        safe = meaning.retry == "same_request" and meaning.execution_state == "not_executed"
        assert safe == (len(server.received) > 1)
        assert 0 == server.runs


async def test_error_carries_all_that_the_problem_says():
    """
    Faults, the record's id, a fresh quote, the sources and the request's id come with the error, and all as it came.
    """
    faults = [{"pointer": "/quantity", "code": "quantity_step", "detail": "too fine", "suggested": "1.5"}, "?"]
    more = {"errors": faults, "execution_id": "e" * 32, "fresh_quote": QUOTE, "sources": QUOTE["sources"], "new": 1}
    async with loopback() as (server, client):
        server.always = Problem("price_moved", more)
        error = await failure(execute(client))

    assert isinstance(error, NewQuoteNeeded)
    assert [("/quantity", "quantity_step", "too fine", "1.5")] == [
        (fault.where, fault.code, fault.detail, fault.suggested) for fault in error.errors
    ]
    assert ("e" * 32, "a", "the-service's-id") == (error.execution_id, error.client_order_id, error.request_id)
    assert "96114.48" == str(error.fresh_quote.side().total)
    assert ["kraken"] == [source.venue for source in error.sources]
    assert 1 == error.raw["new"] == json.loads(error.body)["new"]
    # It is for the caller to look at: nothing was ordered on it.
    assert 1 == len(server.received)


@pytest.mark.parametrize(
    ("broken", "expected"),
    [({"fresh_quote": {"quote_id": 7}}, None), ({"fresh_quote": []}, None), ({"errors": 7, "sources": [{}]}, None)],
)
async def test_refusal_counts_though_a_part_of_it_cannot_be_read(broken, expected):
    """
    A refusal whose additions are of a later version is a refusal all the same.
    """
    async with loopback() as (server, client):
        server.always = Problem("quote_expired", broken)
        error = await failure(execute(client))

    assert ("quote_expired", expected, ()) == (error.code, error.fresh_quote, error.sources)


@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        (400, "not_executed", client_errors.InvalidRequest),
        (401, "not_executed", Unauthenticated),
        (409, "not_executed", client_errors.OrderRejected),
        (418, "not_executed", client_errors.InvalidRequest),
        (429, "not_executed", RateLimited),
        (500, "unknown", client_errors.InternalError),
        (503, "not_executed", Unavailable),
        (503, "unknown", OutcomeUnknown),
    ],
)
async def test_code_of_a_later_service_goes_by_its_status(status, state, expected):
    """
    A code that this client does not know is raised as what its status stands for.
    """
    raw = {"code": "brand_new", "status": status, "execution_state": state, "retry": "never", "detail": "new"}
    async with loopback() as (server, client):
        server.always = Page(status, json.dumps(raw), content_type="application/problem+json")
        error = await failure(execute(client))

    assert (expected, "brand_new", state) == (type(error), error.code, error.execution_state)


# What is no answer of the service


HANGS_S = 0.2
"""How long an attempt is waited for where the server never answers."""


@pytest.mark.parametrize(
    ("asking", "act"),
    [
        *((asking, act) for asking in ONCE for act in ("drop_before", "drop_after", "cut", Page(502), Page(504))),
        (execute, "hang_before"),
        (execute, "hang_after"),
    ],
)
async def test_what_may_be_repeated_is_until_it_is_answered(asking, act):
    """
    A lost connection, a lost answer, silence and a proxy's page do not keep a quote or an order from its answer.
    """
    hangs = "hang" in str(act)
    async with loopback(timeout_s=HANGS_S if hangs else 5.0) as (server, client):
        server.acts += [act] if hangs else [act, act]
        await asking(client)

    assert (2 if hangs else 3) == len(server.received)
    assert 1 == len(set(server.bodies))
    if asking is execute:
        assert 1 == server.runs


@pytest.mark.parametrize(
    ("asking", "act"),
    [
        *((ask, act) for ask in EACH_TIME for act in ("drop_before", "drop_after", "cut", Page(502), Page(503))),
        (deposit, "hang_before"),
    ],
)
async def test_what_happens_each_time_is_sent_once_where_it_may_have_run(asking, act):
    """
    A deposit, a firm quote or a key whose answer is lost is not asked for again; that it may be there is said.
    """
    async with loopback(timeout_s=HANGS_S if "hang" in str(act) else 5.0) as (server, client):
        server.acts += [act]
        error = await failure(asking(client))

    assert (OutcomeUnknown, "unknown", 1) == (type(error), error.execution_state, len(server.received))


@pytest.mark.parametrize("asking", EACH_TIME)
@pytest.mark.parametrize("code", ["rate_limited", "overloaded", "ledger_unavailable"])
async def test_what_happens_each_time_is_repeated_where_nothing_has_run(asking, code):
    """
    A deposit that the service says it has not run is asked for again, and runs once.
    """
    async with loopback() as (server, client):
        server.acts += [Problem(code), Problem(code)]
        await asking(client)

    assert (3, 1) == (len(server.received), server.runs)


@pytest.mark.parametrize("asking", [*ONCE, *EACH_TIME])
async def test_service_that_is_not_there_is_said_with_nothing_run(asking):
    """
    Where nobody listens every request is tried until the deadline, and it is certain that nothing has run.
    """
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        held = HeldTime()
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        async with OrderBookClient(address, KEY, retries=held.retries(deadline_s=5)) as client:
            error = await failure(asking(client))

    assert (NoAnswer, "not_executed", None) == (type(error), error.execution_state, error.code)
    assert len(held.slept) > 2


@pytest.mark.parametrize(
    "page",
    [
        Page(200),
        Page(200, "{}", content_type="application/json"),
        Page(200, json.dumps([]), content_type="application/json"),
        Page(302, headers={"Location": "http://127.0.0.1:9/"}),
        Page(404),
        Page(500),
        Page(400, "{", content_type="application/problem+json"),
        Page(400, "{}", content_type="application/problem+json"),
    ],
)
async def test_answer_of_something_else_is_not_believed(page):
    """
    A page, a redirect, or a message that is not the one asked for is no answer; an order may have run behind it.
    """
    async with loopback() as (server, client):
        server.always = page
        quoting, ordering = await failure(get_quote(client)), await failure(execute(client))

    assert (UnexpectedAnswer, "not_executed") == (type(quoting), quoting.execution_state)
    assert (UnexpectedAnswer, "unknown", "a") == (type(ordering), ordering.execution_state, ordering.client_order_id)
    assert page.text.encode() == ordering.body
    assert 2 == len(server.received)


async def test_key_goes_to_no_other_address():
    """
    Whoever answers with a redirect does not get the key sent elsewhere, over a WebSocket neither.
    """
    elsewhere = Loopback()
    async with serving(elsewhere.handle) as other, loopback() as (server, client):
        server.always = Page(307, headers={"Location": f"{other}/quote"})
        await failure(get_quote(client))
        await failure(anext(client.stream()))

    assert [KEY, KEY] == [headers["X-API-Key"] for _, _, _, headers in server.received]
    assert [] == elsewhere.received


# When


async def test_waiting_grows_and_follows_what_the_service_asks_for():
    """
    Waiting doubles up to a bound; what Retry-After asks for comes before it.
    """
    held = HeldTime()
    async with loopback(held, deadline_s=100, backoff_s=1.0, backoff_max_s=3.0) as (server, client):
        asks = Problem("overloaded", headers={"Retry-After": "7"})
        server.acts += [
            "drop_before",
            "drop_before",
            "drop_before",
            "drop_before",
            asks,
            Page(503, headers={"Retry-After": "2"}),
        ]
        server.acts += [Page(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})]
        await execute(client)

    assert [1, 2, 3, 3, 10, 5, 3] == held.slept


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, [0.5, 1.0]), (1.0, [1.0, 2.0])])
async def test_many_clients_do_not_come_back_at_once(jitter, expected):
    """
    Half of each wait is left to chance.
    """
    held = HeldTime()
    async with loopback(held, backoff_s=1.0, jitter=lambda: jitter) as (server, client):
        server.acts += ["drop_before", "drop_before"]
        await execute(client)

    assert expected == held.slept


async def test_waiting_beyond_the_deadline_is_not_begun():
    """
    A service that asks for longer than there is time is given up at once, with what it asks for.
    """
    held = HeldTime()
    async with loopback(held, deadline_s=30) as (server, client):
        server.always = Problem("overloaded", headers={"Retry-After": "60"})
        error = await failure(execute(client))

    assert ([], 60.0, 1) == (held.slept, error.retry_after_s, len(server.received))


async def test_deadline_holds_over_all_attempts():
    """
    However often it is tried, time is over at the deadline.
    """
    held = HeldTime()
    async with loopback(held, deadline_s=10, backoff_s=1.0, backoff_max_s=1.0) as (server, client):
        server.always = Problem("no_fresh_market_data")
        error = await failure(get_quote(client))

    assert ("no_fresh_market_data", 5) == (error.code, len(server.received))
    assert 8 == sum(held.slept)


async def test_attempts_can_be_bounded_and_are_told_of():
    """
    A number of attempts can be set, and whoever wants to is told of each failure that is followed by another attempt.
    """
    told = []
    async with loopback(attempts_max=3, notice=lambda error, wait_s: told.append((error.code, wait_s))) as (
        server,
        client,
    ):
        server.always = Problem("shutting_down")
        await failure(execute(client))

    assert (3, [("shutting_down", 1.2), ("shutting_down", 1.4)]) == (len(server.received), told)


@pytest.mark.parametrize("probe", ["healthz", "readyz"])
async def test_health_is_told_as_it_is(probe):
    """
    Whether the service lives and is ready is asked once.
    """
    async with loopback() as (server, client):
        server.always = Problem("no_fresh_market_data", {"symbols": []})
        error = await failure(getattr(client, probe)())

    assert (Unavailable, 1) == (type(error), len(server.received))


async def test_all_attempts_bear_one_request_id():
    """
    All attempts at one request are found under one id in the service's log, another request's under another.
    """
    async with loopback() as (server, client):
        server.acts += ["drop_before", "drop_after"]
        await execute(client)
        await execute(client)

    ids = [headers["X-Request-Id"] for _, _, _, headers in server.received]
    assert 1 == len(set(ids[:3])) and ids[3] not in ids[:3]


# What is known at the end


@pytest.mark.parametrize(
    ("acts", "expected", "state"),
    [
        # The service has looked the order up before it refuses it.
        (["drop_before", Problem("insufficient_balance")], client_errors.OrderRejected, "not_executed"),
        (["drop_before", Problem("quote_expired")], NewQuoteNeeded, "not_executed"),
        (["drop_before", Problem("unknown_symbol")], client_errors.NotFound, "not_executed"),
        (["drop_before", Problem("client_order_id_reused")], client_errors.InvalidRequest, "not_executed"),
        # It has not: the first attempt may be on record.
        (["drop_after", Problem("unauthenticated")], Unauthenticated, "unknown"),
        (["drop_after", Problem("insufficient_scope")], client_errors.NotAllowed, "unknown"),
        (["drop_after", Problem("not_found")], client_errors.NotFound, "unknown"),
        (["drop_after", Problem("malformed_request")], client_errors.InvalidRequest, "unknown"),
        (["drop_after", *[Problem("shutting_down")] * 40], OutcomeUnknown, "unknown"),
        ([Problem("shutting_down"), "drop_after", *[Problem("overloaded")] * 40], OutcomeUnknown, "unknown"),
        ([Problem("execution_in_progress")] * 40, OutcomeUnknown, "unknown"),
        ([Problem("shutting_down")] * 40, Unavailable, "not_executed"),
    ],
)
async def test_what_is_said_of_an_order_counts_all_attempts(acts, expected, state):
    """
    After an attempt that may have run, only an answer from behind the look-up says that nothing has.
    """
    async with loopback() as (server, client):
        server.acts += acts
        error = await failure(execute(client))

    assert (expected, state, "a") == (type(error), error.execution_state, error.client_order_id)


async def test_order_can_be_taken_up_again_after_an_unknown_outcome():
    """
    The id of an order whose outcome is unknown stands in the error; ordering with it again gives its execution.
    """
    async with loopback(attempts_max=1) as (server, client):
        server.acts += ["drop_after"]
        error = await failure(client.execute(**BUY))
        execution = await client.execute(**BUY, client_order_id=error.client_order_id)

    assert (1, error.client_order_id) == (server.runs, execution.client_order_id)


FAILURES = st.sampled_from(
    [
        "drop_before",
        "drop_after",
        "cut",
        Page(502),
        Page(503),
        Page(200),
        Problem("overloaded"),
        Problem("outcome_unknown"),
        Problem("execution_in_progress"),
        Problem("internal_error"),
        Problem("price_moved"),
        Problem("unauthenticated"),
        Problem("too_many_open_quotes"),
        "late",
        "answer",
    ]
)


@settings(max_examples=40)
@given(acts=st.lists(FAILURES, max_size=6), asking=st.sampled_from([execute, *EACH_TIME]))
def test_whatever_fails_nothing_runs_twice(acts, asking):
    """
    Whatever happens to the requests of one call, it runs once at most; if it is granted it ran, and if it is said not
    to have run it did not.
    """

    async def call():
        async with loopback(timeout_s=0.03 if "late" in acts else 5.0) as (server, client):
            server.acts += acts
            try:
                await asking(client)
                state = "executed"
            except OrderBookError as error:
                state = error.execution_state
            assert len(set(server.bodies)) <= 1
            return server.runs, state

    runs, state = asyncio.run(call())
    assert runs <= 1
    if state == "executed":
        assert 1 == runs
    if state == "not_executed":
        assert 0 == runs


def test_retries_are_bounded_by_default():
    """
    Without a word from the caller a request ends within half a minute.
    """
    assert (30.0, 10.0, None) == (Retries().deadline_s, Retries().timeout_s, Retries().attempts_max)
