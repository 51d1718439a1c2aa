"""``docs/stream.md`` says what the program does: its messages, channels, limits and close codes."""

from __future__ import annotations

import re

from service.api import stream, stream_client, stream_messages, stream_routes, stream_topics
from service.api.parsing import BODY_MAX_BYTES
from tests.test_documentation import ROOT, rows


def page(heading):
    """Give the rows of the tables under a heading, by their first cell."""
    text = (ROOT / "docs/stream.md").read_text()
    below = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    listed = [row for row in rows("docs/stream.md", ".*") if f"| {row[0]} |" in below]
    return {row[0].strip("`"): row[1:] for row in listed}


def words(cell):
    return set(re.findall(r"`(\w+)`", cell))


def test_page_lists_every_message_with_its_fields():
    """
    The messages that a client may send are the program's, field by field.
    """
    listed = page("What you send")
    schemas = {**stream_messages.MESSAGES, **stream_messages.SUBSCRIPTIONS}

    assert {*stream_messages.OPS, *stream_messages.CHANNELS} == listed.keys() - {"message", "channel", "---"}
    for name, schema in schemas.items():
        fields = set(schema().fields) - {"op"}
        if name in stream_messages.CHANNELS:
            scope, named, _ = listed[name]
            assert ("account" if name == "executions" else "quote", fields - {"channel", "id"}) == (scope, words(named))
        else:
            assert fields == words(listed[name][0]), name


def test_page_says_the_limits():
    """
    Every limit on the page is the program's.
    """
    expected = {
        "a message": f"{BODY_MAX_BYTES} bytes",
        "messages": f"{stream_routes.MESSAGES_AT_ONCE} at once, {stream_routes.MESSAGES_PER_S} a second",
        "subscriptions of a stream": str(stream_routes.SUBSCRIPTIONS_MAX),
        "streams of a key": "`[service] streams_per_key`",
        "streams in all": str(stream.STREAMS_MAX),
        "streams without a key yet": str(stream.WITHOUT_KEY_MAX),
        "… from one IPv4 address, or one IPv6 network of 64 bits": str(stream.WITHOUT_KEY_OF_ADDRESS_MAX),
        "streams opened, and subscriptions begun": "`[limits] quote_per_s`",
        "a frame to you": f"{stream_topics.FRAME_MAX_BYTES} bytes",
        "waiting for you": f"less than {1024 * 1024} bytes",
        "time for the first message": f"{stream.AUTH_WITHIN_S:.0f} s",
        "time without a sign of reading": f"{stream_client.READ_WITHIN_S:.0f} s",
        "pings to you": f"every {stream_client.PING_EVERY_S:.0f} s",
    }
    listed = {name: value for name, (value, *_) in page("Limits").items() if name not in ("limit", "---")}

    assert expected == listed
    text = " ".join((ROOT / "docs/stream.md").read_text().split())
    assert f"At most {1 / stream.ROUND_S:.0f} times a second" in text
    assert (
        f"more than {stream_client.WAITING_MAX} of them, or more than {stream_client.WAITING_MAX_BYTES >> 10} KiB"
        in text
    )
    assert f"a number from 1 to {stream_messages.DEPTH_MAX}, {stream_messages.DEPTH_DEFAULT} if left out" in text
    assert f"its connection breaks off {stream_client.CLOSE_WITHIN_S:.0f} s later" in text


def test_what_may_wait_for_a_client_is_less_than_a_megabyte():
    """
    All that may wait for one client together, a frame that was begun included, keeps within the page's bound.
    """
    held = (
        stream_client.WRITTEN_MAX_BYTES
        + stream_topics.FRAME_MAX_BYTES
        + stream_client.WAITING_MAX_BYTES
        + stream_client.REPLIES_MAX * 4 * 1024
    )
    assert held < 1024 * 1024


def test_page_lists_every_close_code():
    """
    The codes that streams are closed with are the program's and those that WebSocket itself has for broken messages.
    """
    ours = {
        stream_client.GOING_AWAY,
        stream_client.UNSUPPORTED,
        stream_client.POLICY,
        stream_client.TRY_LATER,
    }
    assert ours | {1002, 1007, 1009} == {int(code) for code in page("Closed with") if code.isdigit()}
