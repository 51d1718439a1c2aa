"""A caller's trace, and its request's id: on the lines of its request, on the ledger's rows, and nowhere else."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.api.stream_topics import BookTopic
from service.ledger import schema
from service.ledger.verify import verify
from service.tracing import read_traceparent
from tests.ledger.ledger_cases import reaches

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FOUND, NONE = (TRACE, SPAN), (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"00-{TRACE}-{SPAN}-01", FOUND),
        (f"00-{TRACE}-{SPAN}-00", FOUND),
        # Flags that nobody knows yet.
        (f"00-{TRACE}-{SPAN}-ff", FOUND),
        # Version 00 ends with the flags.
        (f"00-{TRACE}-{SPAN}-01-", NONE),
        (f"00-{TRACE}-{SPAN}-01-more", NONE),
        (f"00-{TRACE}-{SPAN}-01more", NONE),
        # A later one may go on, after a dash.
        (f"01-{TRACE}-{SPAN}-01", FOUND),
        (f"cc-{TRACE}-{SPAN}-01-what the future will be like", FOUND),
        (f"cc-{TRACE}-{SPAN}-01.what", NONE),
        (f"ff-{TRACE}-{SPAN}-01", NONE),
        # Zeros alone are no id.
        (f"00-{'0' * 32}-{SPAN}-01", NONE),
        (f"00-{TRACE}-{'0' * 16}-01", NONE),
        # Lower case, and digits that are ASCII.
        (f"00-{TRACE.upper()}-{SPAN}-01", NONE),
        (f"00-{TRACE}-{SPAN.upper()}-01", NONE),
        (f"0A-{TRACE}-{SPAN}-01", NONE),
        (f"00-{TRACE[:-1]}\uff14-{SPAN}-01", NONE),
        # Too long, too short, out of place.
        (f"00-{TRACE}0-{SPAN}-01", NONE),
        (f"00-{TRACE[1:]}-{SPAN}-01", NONE),
        (f"00-{TRACE}-{SPAN}-1", NONE),
        (f"00-{TRACE}-{SPAN}", NONE),
        (f"000-{TRACE}-{SPAN}-01", NONE),
        (f"00_{TRACE}_{SPAN}_01", NONE),
        (f" 00-{TRACE}-{SPAN}-01", NONE),
        (f"00-{TRACE}-{SPAN}-01\n", NONE),
        # Two that a proxy put into one field.
        (f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", NONE),
        ("", NONE),
        ("-", NONE),
    ],
)
def test_traceparent_is_read_as_the_specification_says(text, expected):
    """
    What is no valid place in a trace is none at all.
    """
    assert expected == read_traceparent(text)


@given(st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", fullmatch=True))
def test_whatever_is_sent_gives_two_ids_or_none(text):
    """
    Nothing gets any further than 32 and 16 hex digits, whatever stands in the header.
    """
    ids = read_traceparent(text)

    assert (None, None) == ids or [32, 16] == [len(one) for one in ids if set(one) <= set("0123456789abcdef")]


def ids(line):
    """Give where a line's request stands in a trace."""
    return line.get("trace_id"), line.get("span_id")


async def test_caller_s_trace_is_on_the_lines_of_its_request(house):
    """
    The request's own line, and what it brought about, can be found by the trace; the next request's cannot.
    """
    body = {"account": "carol", "scopes": ["quote"]}
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "r1"}
    reply = await house.ask("POST", "/v1/admin/keys", key="admin", body=body, headers=headers)
    await house.quote()

    made, request, after = house.lines()
    assert ["key.made", "request", "request"] == [made["event"], request["event"], after["event"]]
    assert [FOUND, FOUND, NONE] == [ids(line) for line in (made, request, after)]
    assert ["r1", "r1"] == [made["request_id"], request["request_id"]]
    # It is told to nobody else.
    assert not {name for name in reply.headers if name.lower().startswith("trace")}
    assert TRACE not in reply.body.decode()


@pytest.mark.parametrize(
    "headers",
    [
        [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("traceparent", f"00-{TRACE}-{SPAN}-01")],
        [("traceparent", "00-nonsense")],
        [("traceparent", f"ff-{TRACE}-{SPAN}-01")],
        [("traceparent", "")],
        [("tracestate", "a=b")],
    ],
)
async def test_invalid_trace_is_ignored(house, headers):
    """
    A caller whose place in a trace cannot be told is answered as one without, and nothing of it is on the line.
    """
    reply = await house.quote(headers=headers)

    assert 200 == reply.status
    assert NONE == ids(house.lines("request")[0])
    assert "nonsense" not in house.log.getvalue().decode()


async def test_failed_request_says_its_trace(house, monkeypatch):
    """
    The line with a bug's traceback leads to the caller, too.
    """
    monkeypatch.setattr(house.desk, "quote", lambda *_: 1 / 0)
    reply = await house.quote(headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})

    assert 500 == reply.status
    assert [FOUND, FOUND] == [ids(line) for line in house.lines()]


async def test_what_a_request_began_is_not_its_when_it_is_over(house, monkeypatch):
    """
    A task that goes on after its request's answer logs for nobody, as it would without that request.
    """
    quote, over, begun = house.desk.quote, asyncio.Event(), []

    async def go_on():
        await over.wait()
        structlog.get_logger().warning("venues.late", venues=["okx"])

    def begin(*asked):
        begun.append(asyncio.create_task(go_on()))
        return quote(*asked)

    monkeypatch.setattr(house.desk, "quote", begin)
    await house.quote(headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    over.set()
    await begun[0]

    request, late = house.lines()
    assert (FOUND, NONE) == (ids(request), ids(late))
    assert "request_id" not in late


async def test_stream_says_its_trace_when_it_ends(house):
    """
    A stream's one line has the trace of its handshake.
    """
    headers = {"X-API-Key": house.keys["all"], "traceparent": f"00-{TRACE}-{SPAN}-01"}
    async with house.client.session.ws_connect(f"{house.client.make_url('/v1/stream')}", headers=headers):
        pass
    await reaches(lambda: house.lines("request"))

    assert FOUND == ids(house.lines("request")[0])


async def test_bug_of_a_channel_is_not_its_first_follower_s(house, monkeypatch):
    """
    What all followers of a channel are told is worked out for all; that it fails is not laid at one's door.
    """
    monkeypatch.setattr(BookTopic, "look", lambda *_: 1 / 0)
    headers = {"X-API-Key": house.keys["all"], "traceparent": f"00-{TRACE}-{SPAN}-01"}
    async with house.client.session.ws_connect(f"{house.client.make_url('/v1/stream')}", headers=headers) as stream:
        await stream.send_json({"op": "subscribe", "channel": "book", "symbol": "BTC/USDT"})
        await reaches(lambda: house.lines("streams.failed"))

    (failed,) = house.lines("streams.failed")
    assert NONE == ids(failed)
    assert "request_id" not in failed


def journal(house):
    """Give kind and ref, request and trace of every row of the journal."""
    one = schema.journal.c
    with house.ledger.real._read_engine.connect() as connection:
        assert [] == verify(connection).faults
        return {
            (row.request_id, row.trace_id): (row.kind, row.ref)
            for row in connection.execute(sa.select(one.kind, one.ref, one.request_id, one.trace_id).order_by(one.seq))
        }


async def test_row_of_the_ledger_leads_to_its_request_and_back(house):
    """
    Orders, firm quotes, deposits and resets bear the ids of their requests; an order sent again keeps its first ones.
    """

    async def ask(request_id, path, body=None, key="all"):
        headers = {"X-Request-Id": request_id, "traceparent": f"00-{TRACE}-{SPAN}-01"}
        reply = await house.ask("POST", path, key=key, headers=headers, body=body)
        assert reply.status in (200, 201), reply.body
        return reply.json

    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
    executed = await ask("r1", "/execute", order)
    assert executed == await ask("r2", "/execute", order)
    quoted = await ask("r3", "/v1/quotes", {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2"})
    await ask("r4", "/v1/admin/accounts/alice/deposits", {"asset": "USDT", "amount": "5"}, "admin")
    await ask("r5", "/v1/admin/accounts/alice/reset", key="admin")
    await ask("r6", "/v1/admin/accounts", {"account": "carol"}, "admin")

    found = journal(house)
    assert [(f"r{n}", TRACE) for n in (1, 3, 4, 5, 6)] == list(found)
    assert ("execution", executed["execution_id"]) == found["r1", TRACE]
    assert ("firm_quote", quoted["quote_id"]) == found["r3", TRACE]
    assert ["deposit", "reset", "account"] == [found[f"r{n}", TRACE][0] for n in (4, 5, 6)]


async def test_id_that_is_not_sane_reaches_no_row(house):
    """
    The row has the id that the answer has, which is a new one where the caller's would not do.
    """
    order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}
    reply = await house.execute(order, headers={"X-Request-Id": "'; DROP TABLE journal"})

    assert {(reply.headers["X-Request-Id"], None)} == journal(house).keys()
