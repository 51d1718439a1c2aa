"""Too much work: what is sent away, and what is not."""

from __future__ import annotations

from time import monotonic_ns

import pytest

from service.api.admission import INTERVAL_NS, MS, REQUESTS_MIN, TARGET_NS, WAIT_MAX_NS, Admission
from service.app import ADMISSION

LATE_NS = TARGET_NS + MS


def late_since(began_ns, until_ns, asked=REQUESTS_MIN):
    """Give an admission to which nothing has come in time since then, with so many requests each time."""
    admission = Admission()
    for now_ns in range(began_ns, until_ns + 1, 10 * MS):
        for _ in range(asked):
            admission.admits("quote", now_ns, now_ns)
        admission.feel(LATE_NS, now_ns)
    return admission


def test_burst_is_no_overload():
    """
    What is late for less than an interval is worked off, all of it.
    """
    admission = late_since(0, INTERVAL_NS)

    assert admission.admits("quote", 0, INTERVAL_NS)
    assert not admission.overloaded(INTERVAL_NS)


@pytest.mark.parametrize(
    ("kind", "waited_ns", "admitted"),
    [
        ("quote", 0, True),
        ("quote", TARGET_NS, True),
        ("quote", LATE_NS, False),
        # An order is worth waiting for.
        ("execute", LATE_NS, True),
        ("execute", 20 * TARGET_NS, True),
        ("execute", 20 * TARGET_NS + 1, False),
    ],
)
def test_overload_sends_away_what_has_waited(kind, waited_ns, admitted):
    """
    Prices after the target, orders twenty times as late; what has just come is answered.
    """
    now_ns = 10 * INTERVAL_NS
    admission = late_since(0, now_ns)

    assert admission.overloaded(now_ns)
    assert admitted == admission.admits(kind, now_ns - waited_ns, now_ns)


def test_one_moment_in_time_ends_the_overload():
    """
    As soon as the loop is in time again, everything is admitted.
    """
    now_ns = 10 * INTERVAL_NS
    admission = late_since(0, now_ns)
    admission.feel(TARGET_NS, now_ns)

    assert admission.admits("quote", 0, now_ns)


def test_lateness_without_a_queue_is_no_overload():
    """
    A slow machine with few requests answers all of them, late as it may be.
    """
    now_ns = 10 * INTERVAL_NS
    admission = late_since(0, now_ns, asked=REQUESTS_MIN - 1)

    assert admission.admits("quote", 0, now_ns)


def test_one_long_stall_is_no_overload():
    """
    After a pause of seconds, for whatever reason, what has come meanwhile is answered.
    """
    admission = Admission()
    admission.feel(0, 0)
    for _ in range(REQUESTS_MIN):
        assert admission.admits("quote", 10 * MS, 50 * INTERVAL_NS)
    admission.feel(50 * INTERVAL_NS, 50 * INTERVAL_NS)

    assert admission.admits("quote", 10 * MS, 50 * INTERVAL_NS + MS)


async def test_overloaded_service_says_so_and_lives(house, monkeypatch):
    """
    What has waited too long is refused with a time to come again; life and readiness are told all the same.
    """
    now_ns = monotonic_ns()
    admission = late_since(now_ns - 10 * INTERVAL_NS, now_ns)
    monkeypatch.setattr(house.app[ADMISSION], "overloaded", admission.overloaded)
    for kind in WAIT_MAX_NS:
        monkeypatch.setitem(WAIT_MAX_NS, kind, -1)
    quote, order = await house.quote(), await house.buy()
    life, ready = await house.get("/healthz", key=None), await house.get("/readyz", key=None)

    assert [(503, "overloaded", "1")] * 2 == [
        (reply.status, reply.code, reply.headers["Retry-After"]) for reply in (quote, order)
    ]
    assert (200, 200) == (life.status, ready.status)
    monkeypatch.undo()
    assert (200, 201) == ((await house.quote()).status, (await house.buy()).status)
