"""Token buckets: what is granted, what is left, and how long to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.addresses import network_of
from service.api.limits import WINDOW_S, Bucket, Buckets, S

MS = 1_000_000


def test_full_bucket_grants_two_seconds_worth_at_once():
    """
    Ten a second may be twenty at once; the next one waits for a tenth of a second.
    """
    bucket = Bucket("quote", 10)

    assert [0] * 20 == [bucket.take(0) for _ in range(20)]
    assert S // 10 == bucket.take(0)
    assert 1 == bucket.take(S // 10 - 1)
    assert 0 == bucket.take(S // 10)


def test_refusal_costs_no_token():
    """
    A client that asks too often is granted as much as one that waits.
    """
    bucket = Bucket("quote", 10)
    for _ in range(1_000):
        bucket.take(0)

    assert 0 == bucket.take(S // 10)


def test_header_says_what_is_left_and_when_it_is_full():
    """
    Remaining requests, and whole seconds until all of them are there again.
    """
    bucket = Bucket("execute", 10)
    assert ('"execute";q=20;w=2', '"execute";r=20;t=0') == (bucket.policy, bucket.state(0))
    bucket.take(0)
    assert '"execute";r=19;t=1' == bucket.state(0)
    for _ in range(19):
        bucket.take(0)
    assert '"execute";r=0;t=2' == bucket.state(0)
    assert '"execute";r=10;t=1' == bucket.state(S)
    assert '"execute";r=20;t=0' == bucket.state(5 * S)


@given(
    per_s=st.integers(1, 1_000),
    pauses=st.lists(st.integers(0, 300 * MS), min_size=1, max_size=200),
)
def test_no_two_seconds_see_more_than_the_window_and_what_came_meanwhile(per_s, pauses):
    """
    In any stretch of time, no more is granted than a full bucket and what flowed into it.
    """
    bucket, now_ns, granted = Bucket("quote", per_s), 0, []
    for pause in pauses:
        now_ns += pause
        if bucket.take(now_ns) == 0:
            granted.append(now_ns)

    for first, began in enumerate(granted):
        for last in range(first, len(granted)):
            flowed = (granted[last] - began) * per_s / S
            assert last - first + 1 <= per_s * WINDOW_S + flowed + 1


@given(per_s=st.integers(1, 1_000), pauses=st.lists(st.integers(0, 300 * MS), min_size=1, max_size=100))
def test_waiting_as_long_as_told_is_enough(per_s, pauses):
    """
    Whoever waits for the time that a refusal names is granted the next request.
    """
    bucket, now_ns = Bucket("quote", per_s), 0
    for pause in pauses:
        now_ns += pause
        wait_ns = bucket.take(now_ns)
        if wait_ns:
            now_ns += wait_ns
            assert 0 == bucket.take(now_ns)


def test_holders_have_buckets_of_their_own():
    """
    One client's requests cost another none; another limit begins anew.
    """
    buckets = Buckets()
    for _ in range(2):
        buckets.of("a", "quote", 1, 0).take(0)

    assert 0 < buckets.of("a", "quote", 1, 0).take(0)
    assert 0 == buckets.of("b", "quote", 1, 0).take(0)
    assert 0 == buckets.of("a", "execute", 1, 0).take(0)
    assert 0 == buckets.of("a", "quote", 2, 0).take(0)


def test_room_is_made_by_forgetting_full_buckets_first():
    """
    However many addresses come by, memory is bounded, and those that have just been refused stay refused.
    """
    buckets = Buckets(holders_max=3)
    for _ in range(2):
        buckets.of("busy", "failed_keys", 1, 0).take(0)
    buckets.of("idle", "failed_keys", 1, 0)
    buckets.of("also idle", "failed_keys", 1, 0)
    buckets.of("new", "failed_keys", 1, 0)
    assert 0 < buckets.of("busy", "failed_keys", 1, 0).take(0)

    for name in ("x", "y", "z"):
        buckets.of(name, "failed_keys", 1, 0).take(0)
    assert 0 == buckets.of("busy", "failed_keys", 1, 0).take(0)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        # A client has a whole /64 of IPv6.
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("a path", "a path"),
    ],
)
def test_failures_are_counted_by_what_one_client_has(address, network):
    """
    An IPv4 address, or a /64 network of IPv6.
    """
    assert network == network_of(address)
