"""The stream's edges: who may open one, what is refused, who is closed, and what a client that does not read costs."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import aiohttp
import pytest

from service.api import stream, stream_client, stream_routes
from service.api.stream import STREAMS, close_streams
from tests.api.streaming import WITHIN_S, eventually, raw_stream, streaming
from tests.api.test_codes import HANDSHAKE

QUOTE = {"channel": "quote", "symbol": "BTC/USDT", "quantity": "0.2", "side": "buy"}
CANARY = "iob_live_canarycana_0123456789012345678901234567890123456789012abcdef"


@pytest.fixture
def hurried(monkeypatch):
    """Streams that are looked after all the time."""
    monkeypatch.setattr(stream, "LOOK_AFTER_S", 0.02)


@pytest.fixture
def narrow(monkeypatch):
    """Streams with little room on the way to their clients, so that it is soon filled."""
    monkeypatch.setattr(stream, "ROUND_S", 0.001)
    monkeypatch.setattr(stream_client, "WRITTEN_MAX_BYTES", 2_048)


@pytest.fixture
def impatient(hurried, monkeypatch):
    """Streams whose clients have little time to read."""
    monkeypatch.setattr(stream_client, "READ_WITHIN_S", 0.3)
    monkeypatch.setattr(stream_client, "CLOSE_WITHIN_S", 0.2)


async def refused(house, **options):
    """Give the status of a handshake that is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with streaming(house, **options):
            pass
    return caught.value.status


def end_of(house, key="close_code"):
    """Give the stream's line, once it is there."""
    return [line for line in house.lines("request") if line["route"] == "/v1/stream" and key in line]


# The handshake


async def test_bad_key_opens_nothing(house):
    """
    A header with a key that is not in force is refused before there is a stream.
    """
    for key in ("revoked", "unknown", "test_mode", "other_pepper"):
        assert 401 == await refused(house, key=key), key


async def test_request_that_is_no_handshake(house):
    """
    A plain GET is refused in the usual order: no key, no scope, no WebSocket.
    """
    replies = [await house.get("/v1/stream", key=key) for key in (None, "admin", "quote")]
    assert [(401, "unauthenticated"), (403, "insufficient_scope"), (400, "malformed_request")] == [
        (reply.status, reply.code) for reply in replies
    ]


async def test_broken_handshake_is_refused_without_an_echo(house):
    """
    A handshake that is none is refused before there is a stream, and nothing of it is repeated.
    """
    for header in ("Sec-WebSocket-Version", "Sec-WebSocket-Key", "Connection"):
        reply = await house.get("/v1/stream", headers={**HANDSHAKE, header: CANARY})
        assert (400, "malformed_request") == (reply.status, reply.code), header
        assert b"canary" not in reply.body + house.log.getvalue(), header


async def test_those_without_a_key_keep_nobody_out(house, monkeypatch):
    """
    So many may wait to show a key, and one more is turned away; whoever shows it at once is not.
    """
    monkeypatch.setattr(stream, "WITHOUT_KEY_MAX", 1)
    async with streaming(house, key=None) as one:
        assert 503 == await refused(house, key=None)
        async with streaming(house):
            pass
        await one.ask(op="auth", key=house.keys["all"])
        async with streaming(house, key=None):
            pass


@pytest.mark.parametrize("house", [{"service": {"trusted_proxies": ["127.0.0.1"]}}], indirect=True)
async def test_one_address_without_a_key_keeps_no_other_out(house, monkeypatch):
    """
    So many may come from where one client is; others have room, those behind a proxy that says nothing of them as well.
    """
    monkeypatch.setattr(stream, "WITHOUT_KEY_OF_ADDRESS_MAX", 1)
    one, neighbour, other, unknown = (
        {"X-Forwarded-For": "2001:db8::1"},
        {"X-Forwarded-For": "2001:db8::2"},
        {"X-Forwarded-For": "2001:db8:0:1::1"},
        {},
    )
    async with streaming(house, key=None, headers=one) as first:
        assert 503 == await refused(house, key=None, headers=neighbour)
        for others in (other, unknown, unknown):
            async with streaming(house, key=None, headers=others):
                pass
        async with streaming(house, headers=neighbour):
            pass
        await first.ask(op="auth", key=house.keys["all"])
        async with streaming(house, key=None, headers=neighbour):
            pass


@pytest.mark.parametrize("house", [{"limits": {"quote_per_s": 1}}], indirect=True)
async def test_opening_and_subscribing_count_against_the_limit(house):
    """
    A key that has used up its requests begins no more subscriptions; those that are open go on.
    """
    async with streaming(house) as one:
        await one.subscribe(**QUOTE)
        answer = await one.ask(op="subscribe", channel="venues")
        assert "pong" == (await one.ask(op="ping"))["op"]
    assert "rate_limited" == answer["error"]["code"]


@pytest.mark.parametrize("house", [{"limits": {"quote_per_s": 5}, "service": {"streams_per_key": 1}}], indirect=True)
async def test_handshake_says_how_the_limit_stands(house):
    """
    As every answer to a key that has one does, whether the stream is opened or refused.
    """
    async with raw_stream(house) as one:
        opened = one.head.decode().lower()
        refusal = await house.get("/v1/stream", headers=HANDSHAKE)

    assert 'ratelimit-policy: "quote";q=10;w=2' in opened and 'ratelimit: "quote";r=9;t=1' in opened
    assert (429, '"quote";q=10;w=2') == (refusal.status, refusal.headers["RateLimit-Policy"])


@pytest.mark.parametrize("house", [{"limits": {"quote_per_s": 1}}], indirect=True)
async def test_opening_counts_wherever_the_key_comes(house):
    """
    A key that comes in a message has used up its requests as one in a header has.
    """
    codes = []
    for _ in range(3):
        async with streaming(house, key=None) as one:
            answer = await one.ask(op="auth", key=house.keys["all"])
            if "error" in answer:
                codes.append((answer["error"]["code"], await one.closed()))
    assert [("rate_limited", 1013)] == codes
    assert 429 == await refused(house)


async def test_other_methods_are_not_allowed(house):
    """
    There is nothing to post to a stream, and a HEAD of it says nothing.
    """
    for method in ("POST", "HEAD"):
        assert 405 == (await house.ask(method, "/v1/stream")).status, method


async def test_scopes_are_needed(house):
    """
    A stream needs the scope quote, the channel executions account as well; the stream goes on without.
    """
    assert 403 == await refused(house, key="execute")
    async with streaming(house, key="quote") as one:
        answer = await one.ask(op="subscribe", channel="executions")
        await one.subscribe(channel="venues")
    assert ("insufficient_scope", "executions") == (answer["error"]["code"], answer["error"]["channel"])


@pytest.mark.parametrize("house", [{"service": {"stream_origins": ["https://desk.example"]}}], indirect=True)
async def test_pages_of_others_open_nothing(house):
    """
    A browser's page opens a stream if it is the service's own, or of an origin that the settings name.
    """
    own = f"{house.client.host}:{house.client.port}"
    for origin in (f"http://{own}", f"https://{own}", "https://desk.example", "https://DESK.example"):
        async with streaming(house, headers={"Origin": origin}) as one:
            assert "pong" == (await one.ask(op="ping"))["op"], origin
    for origin in ("https://evil.example", "null", "", f"ftp://{own}", "http://desk.example", f"http://{own}.evil"):
        assert 403 == await refused(house, headers={"Origin": origin}), origin
    assert {"origin_not_allowed"} == {line["code"] for line in house.lines("request") if line["status"] == 403}


async def test_subprotocol_is_refused_and_not_repeated(house):
    """
    No subprotocol is spoken; some put a key there, which must get nowhere.
    """
    assert 400 == await refused(house, protocols=[CANARY])
    assert b"canary" not in house.log.getvalue()


@pytest.mark.parametrize("house", [{"service": {"streams_per_key": 1}}], indirect=True)
async def test_a_key_has_so_many_streams(house):
    """
    One stream more than allowed is refused, by header or by message, until another has ended.
    """
    async with streaming(house):
        assert 429 == await refused(house)
        async with streaming(house, key=None) as late:
            answer = await late.ask(op="auth", key=house.keys["all"])
            assert ("rate_limited", 1013) == (answer["error"]["code"], await late.closed())
        async with streaming(house, key="bob"):
            pass
    await eventually(lambda: 2 < len(end_of(house)))
    async with streaming(house) as again:
        assert "pong" == (await again.ask(op="ping"))["op"]


# The first message


async def test_first_message_brings_the_key(house):
    """
    Who sends no header says in the first message whose stream it is.
    """
    async with streaming(house, key=None) as one:
        answer = await one.ask(op="auth", key=house.keys["quote"])
        await one.subscribe(**QUOTE)
        frame = await one.hear()
        twice = await one.ask(op="auth", key=house.keys["quote"])

    assert {"op": "authenticated", "account": "alice", "scopes": ["quote"]} == answer
    assert "data" in frame
    assert "conflicting_parameters" == twice["error"]["code"]


async def test_without_a_key_there_is_no_stream(house):
    """
    Whatever comes first and is no good key ends the connection.
    """
    for message, code in (
        ({"op": "subscribe", **QUOTE}, "unauthenticated"),
        ({"op": "auth", "key": CANARY}, "unauthenticated"),
        ({"op": "auth", "key": 1}, "unauthenticated"),
        ({"op": "auth"}, "missing_parameter"),
        ({"op": "auth", "key": house.keys["execute"]}, "insufficient_scope"),
    ):
        async with streaming(house, key=None) as one:
            answer = await one.ask(**message)
            assert (code, 1008) == (answer["error"]["code"], await one.closed()), message
        assert "canary" not in json.dumps(one.heard)


async def test_key_has_to_come_in_time(house, hurried, monkeypatch):
    """
    A connection on which no key comes is closed.
    """
    monkeypatch.setattr(stream, "AUTH_WITHIN_S", 0.05)
    async with streaming(house, key=None) as one:
        assert 1008 == await one.closed()


async def test_revoked_keys_streams_are_closed(house, hurried):
    """
    A stream lives no longer than its key; those of other keys go on.
    """
    async with streaming(house) as one, streaming(house, key="bob") as other:
        await one.subscribe(**QUOTE)
        house.ring.drop(house.keys["all"].split("_")[2])
        assert 1008 == await one.closed()
        await other.subscribe(**QUOTE)


# Bad messages


BAD = [
    ("", "malformed_json", None),
    ("[]", "malformed_json", None),
    ("[" * 5_000, "malformed_json", None),
    ('{"op": NaN}', "malformed_json", None),
    ('{"op": "subscribe", "op": "subscribe", "channel": "venues"}', "duplicate_field", ["/op"]),
    ("{}", "missing_parameter", ["/op"]),
    ('{"op": "shout"}', "invalid_parameter", ["/op"]),
    ('{"op": ["subscribe"]}', "invalid_parameter", ["/op"]),
    ('{"op": "subscribe"}', "missing_parameter", ["/channel"]),
    ('{"op": "subscribe", "channel": "trades"}', "invalid_parameter", ["/channel"]),
    ('{"op": "subscribe", "channel": "venues", "symbol": "BTC/USDT"}', "unknown_field", ["/symbol"]),
    ('{"op": "subscribe", "channel": "book"}', "missing_parameter", ["/symbol"]),
    (
        '{"op": "subscribe", "channel": "book", "symbol": "?", "depth": 501, "view": "top", "id": ""}',
        "invalid_parameter",
        ["/depth", "/id", "/symbol", "/view"],
    ),
    ('{"op": "subscribe", "channel": "book", "symbol": "BTC/USDT", "depth": "20"}', "invalid_parameter", ["/depth"]),
    ('{"op": "subscribe", "channel": "book", "symbol": "XRP/USDT"}', "unknown_symbol", ["/symbol"]),
    ('{"op": "subscribe", "channel": "quote", "symbol": "BTC/USDT"}', "missing_parameter", ["/quantity"]),
    (
        '{"op": "subscribe", "channel": "quote", "symbol": "BTC/USDT", "quantity": 1, "total": "1", '
        '"limit_price": "1"}',
        "invalid_parameter",
        ["/quantity", "/limit_price", "/total"],
    ),
    (
        '{"op": "subscribe", "channel": "quote", "symbol": "BTC/USDT", "quantity": "1", "venues": ["krakn"]}',
        "invalid_parameter",
        ["/venues"],
    ),
    (
        '{"op": "subscribe", "channel": "quote", "ticker": "BTC/USDT", "quantity": "1", "fills": "true"}',
        "unknown_field",
        ["/fills", "/ticker"],
    ),
    ('{"op": "unsubscribe", "channel": "venues"}', "invalid_parameter", ["/channel"]),
    ('{"op": "unsubscribe"}', "missing_parameter", ["/channel"]),
    ('{"op": "ping", "key": "x"}', "unknown_field", ["/key"]),
    (f'{{"op": "ping", "{CANARY}": "{CANARY}", "id": "{CANARY}!"}}', "invalid_parameter", ["/id", ""]),
]


async def test_bad_message_is_refused_and_the_stream_goes_on(house):
    """
    All faults are told at once, nothing that was not understood is repeated, and the connection is as good as before.
    """
    async with streaming(house) as one:
        for text, code, pointers in BAD:
            await one.connection.send_str(text)
            answer = await one.hear()
            assert code == answer["error"]["code"], answer
            assert pointers == ([fault["pointer"] for fault in answer["error"]["errors"]] if pointers else None)
        assert {"op": "pong", "id": "still-there"} == await one.ask(op="ping", id="still-there")
    assert "canary" not in json.dumps(one.heard)
    assert b"canary" not in house.log.getvalue()


BROKEN = {
    "binary": (0x82, b"{}", 1003),
    "too large": (0x81, b"x" * 65_537, 1009),
    "no UTF-8": (0x81, b"\xff\xfe", 1007),
    "unknown opcode": (0x83, b"", 1002),
    "reserved bit": (0xC1, b"", 1002),
}


async def test_broken_protocol_ends_the_connection(house):
    """
    What is no text message of at most 64 KiB ends the connection with the code for it, and no other connection.
    """
    async with streaming(house) as other:
        for name, (head, payload, code) in BROKEN.items():
            async with raw_stream(house) as raw:
                await raw.frame(head, payload)
                assert (0x88, code) == (await closing(raw)), name
        assert "pong" == (await other.ask(op="ping"))["op"]
        await eventually(lambda: len(end_of(house)) == len(BROKEN))
        assert sorted(code for *_, code in BROKEN.values()) == sorted(line["close_code"] for line in end_of(house))


async def closing(raw):
    """Give the close frame's first byte and code."""
    while (heard := await raw.hear())[0] != 0x88:
        pass
    return heard[0], int.from_bytes(heard[1][:2], "big")


async def test_subscriptions_are_bounded(house, monkeypatch):
    """
    One subscription more than allowed is refused; replacing one is not one more.
    """
    monkeypatch.setattr(stream_routes, "SUBSCRIPTIONS_MAX", 2)
    async with streaming(house) as one:
        for name in ("a", "b", "b"):
            await one.subscribe(**QUOTE, id=name)
        answer = await one.ask(op="subscribe", **QUOTE, id="c")
    assert ("rate_limited", "c") == (answer["error"]["code"], answer["error"]["id"])


async def test_client_that_says_too_much_is_heard_more_slowly(house, monkeypatch):
    """
    Whoever sends messages without end is not answered faster than others can bear.
    """
    monkeypatch.setattr(stream_routes, "MESSAGES_AT_ONCE", 2)
    monkeypatch.setattr(stream_routes, "MESSAGES_PER_S", 100)
    async with streaming(house) as one:
        began = asyncio.get_running_loop().time()
        for number in range(22):
            await one.say(op="ping", id=str(number))
        answers = [await one.hear() for _ in range(22)]
        took_s = asyncio.get_running_loop().time() - began
    assert [str(number) for number in range(22)] == [answer["id"] for answer in answers]
    assert took_s > 0.15


# Clients that do not read


async def skipping(house, clock, client, healthy):
    """Let books come until a client that does not read is not told of all of them any more."""
    async with asyncio.timeout(WITHIN_S):
        while not client.skipped:
            clock.advance(1)
            house.show()
            await healthy.hear()


async def test_slow_reader_skips_and_never_queues(house, narrow, clock):
    """
    Who reads late gets what fitted on the way, then the newest value: a gap in the sequence says how many were skipped.
    """
    async with raw_stream(house) as raw, streaming(house) as healthy:
        await raw.say(op="subscribe", channel="book", symbol="BTC/USDT")
        await healthy.subscribe(channel="book", symbol="BTC/USDT")
        client = next(iter(house.app[STREAMS].clients))
        await skipping(house, clock, client, healthy)
        frames, newest = [], 6_999 + house.published
        while not frames or frames[-1]["data"]["sources"][0]["sequence"] < newest:
            _, payload = await raw.hear()
            if b'"data"' in payload:
                frames.append(json.loads(payload))

    numbers = [frame["sequence"] for frame in frames]
    assert sorted(set(numbers)) == numbers
    assert len(numbers) < numbers[-1]
    assert client.skipped == numbers[-1] - len(numbers)


async def test_client_that_never_reads_is_closed(house, narrow, impatient, clock):
    """
    A client that reads nothing for too long is closed (1013), and costs the others nothing.
    """
    async with raw_stream(house) as raw, streaming(house) as healthy:
        await raw.say(op="subscribe", channel="book", symbol="BTC/USDT")
        await healthy.subscribe(channel="book", symbol="BTC/USDT")
        while not end_of(house):
            clock.advance(1)
            house.show()
            await healthy.hear()

    [line] = [line for line in end_of(house) if line["close_code"] == 1013]
    assert 0 < line["frames_sent"] < healthy.heard[-1]["sequence"]
    assert line["frames_skipped"] > 0
    assert healthy.heard[-1]["sequence"] == len(healthy.heard) - 1
    assert await raw.values()


async def test_client_that_does_not_pong_is_closed(house, impatient, monkeypatch):
    """
    Where there is nothing to read but a ping, its pong is the sign of reading.
    """
    monkeypatch.setattr(stream_client, "PING_EVERY_S", 0.05)
    async with raw_stream(house) as silent, streaming(house) as healthy:
        reading = asyncio.create_task(healthy.connection.receive())
        assert 0x89 == (await silent.hear())[0]
        assert (0x88, 1013) == await closing(silent)
        assert not healthy.connection.closed and not reading.done()
        reading.cancel()


async def test_pong_that_answers_no_ping_is_no_sign_of_reading(house, impatient, monkeypatch):
    """
    Only who has read a ping knows what it says.
    """
    monkeypatch.setattr(stream_client, "PING_EVERY_S", 0.05)
    async with raw_stream(house) as blind:
        async with asyncio.timeout(WITHIN_S):
            while not end_of(house):
                with suppress(ConnectionError):
                    for payload in (b"", b"\0" * 8):
                        await blind.frame(0x8A, payload)
                await asyncio.sleep(0.02)
    assert [1013] == [line["close_code"] for line in end_of(house)]


async def test_executions_are_not_lost_silently(house, monkeypatch):
    """
    Too many executions that wait to be read are left out with a word of how many; later ones follow.
    """
    monkeypatch.setattr(stream_client, "WAITING_MAX", 3)
    monkeypatch.setattr(stream_client, "WRITTEN_MAX_BYTES", 1)
    async with raw_stream(house, room=2_048) as raw:
        await raw.say(op="subscribe", channel="executions")
        await raw.hear()
        [client] = house.app[STREAMS].clients
        bought = []
        while not client.skipped:
            bought.append(await house.buy(f"a{len(bought)}", quantity="0.00001"))
            await eventually(lambda: client.sent + client.skipped + client.queued >= len(bought))
        await house.buy("last")
        frames = []
        while not frames or frames[-1].get("data", {}).get("client_order_id") != "last":
            frames.append(json.loads((await raw.hear())[1]))

    [notice] = [frame for frame in frames if "error" in frame]
    assert "overloaded" == notice["error"]["code"]
    told = [frame["data"]["client_order_id"] for frame in frames if "data" in frame]
    assert len(bought) + 1 == len(told) + notice["error"]["missed"] == frames[-1]["sequence"]


# The end


async def test_streams_are_closed_when_the_service_stops(house, narrow, monkeypatch, clock):
    """
    All streams are told that the service goes (1001); one that does not read is not waited for, and no new one opens.
    """
    monkeypatch.setattr(stream_client, "CLOSE_WITHIN_S", 0.3)
    async with raw_stream(house) as raw, streaming(house) as healthy:
        await raw.say(op="subscribe", channel="book", symbol="BTC/USDT")
        await healthy.subscribe(channel="book", symbol="BTC/USDT")
        client = next(iter(house.app[STREAMS].clients))
        await skipping(house, clock, client, healthy)
        async with asyncio.timeout(5):
            _, code = await asyncio.gather(close_streams(house.app), healthy.closed())
        assert 1001 == code
        assert 503 == await refused(house)
    assert [1001, 1001] == [line["close_code"] for line in end_of(house)]


async def test_end_of_a_stream_is_logged(house):
    """
    One line tells of a whole stream: whose, how long, how much, and how it ended.
    """
    async with streaming(house, headers={"X-Request-Id": "mine"}) as one:
        await one.subscribe(**QUOTE)
        await one.hear()
        assert "mine" == one.connection._response.headers["X-Request-Id"]
        assert "Server" not in one.connection._response.headers
        await one.connection.close(code=4_000)
    await eventually(lambda: end_of(house))
    [line] = end_of(house)

    assert ("mine", "GET", "/v1/stream", 101, "alice") == tuple(
        line[key] for key in ("request_id", "method", "route", "status", "account")
    )
    assert (1, 0, 4_000) == tuple(line[key] for key in ("frames_sent", "frames_skipped", "close_code"))
