"""Too much work: what is sent away, and what is not."""

from __future__ import annotations

import pytest

from service.api import admission as admission_module
from service.api.admission import AHEAD_MAX, INTERVAL_NS, MS, Admission
from service.api.server import ADMISSION

CROWD = AHEAD_MAX["quote"] + 1


class Looks:
    """An admission, and the looks of its loop at what has come."""

    def __init__(self):
        self._later = []
        self._now_ns = 0
        self.admission = Admission(self._later.append, lambda: self._now_ns)

    def look(self, count, now_ns, takes_ns=0, meanwhile=0):
        """Let so many come together; gives what each is told when all are answered, and some more have come before."""
        self._now_ns = now_ns
        ahead = [self.admission.arrive(now_ns) for _ in range(count)]
        self._turn()
        for _ in range(meanwhile):
            self.admission.arrive(now_ns)
        self._turn()
        self._now_ns += takes_ns
        self._turn()
        self._turn()
        return ahead

    def _turn(self):
        due, self._later[:] = self._later[:], []
        for call in due:
            call()

    def crowds(self, since_ns, until_ns):
        """Let a crowd come at every look."""
        for now_ns in range(since_ns, until_ns + 1, 10 * MS):
            self.look(CROWD, now_ns)


@pytest.fixture
def looks():
    return Looks()


def test_each_is_told_how_many_came_before_it_at_the_same_look(looks):
    """
    The next look begins anew.
    """
    assert [[0, 1, 2], [0, 1]] == [looks.look(3, 0), looks.look(2, 0)]


def test_burst_is_no_overload(looks):
    """
    A crowd for less than an interval is worked off, all of it.
    """
    looks.crowds(0, INTERVAL_NS)

    assert not looks.admission.overloaded(INTERVAL_NS)
    assert looks.admission.admits("quote", 10_000, INTERVAL_NS)


@pytest.mark.parametrize(
    ("kind", "ahead", "admitted"),
    [
        ("quote", 0, True),
        ("quote", AHEAD_MAX["quote"] - 1, True),
        ("quote", AHEAD_MAX["quote"], False),
        # Orders come before prices.
        ("execute", AHEAD_MAX["quote"], True),
        ("execute", AHEAD_MAX["execute"] - 1, True),
        ("execute", AHEAD_MAX["execute"], False),
    ],
)
def test_overload_sends_away_what_came_after_too_many(looks, kind, ahead, admitted):
    """
    Of each look, so many are answered; orders in far greater number.
    """
    now_ns = 10 * INTERVAL_NS
    looks.crowds(0, now_ns)

    assert looks.admission.overloaded(now_ns)
    assert admitted == looks.admission.admits(kind, ahead, now_ns)


def test_one_look_without_a_crowd_ends_the_overload(looks):
    """
    As soon as there is less to do, everything is admitted.
    """
    now_ns = 10 * INTERVAL_NS
    looks.crowds(0, now_ns)
    looks.look(CROWD - 1, now_ns)

    assert looks.admission.admits("quote", 10_000, now_ns)


def test_quiet_time_ends_the_overload(looks):
    """
    A crowd that comes after a pause is a burst again.
    """
    now_ns = 10 * INTERVAL_NS
    looks.crowds(0, now_ns)
    later_ns = now_ns + INTERVAL_NS + MS
    looks.look(CROWD, later_ns)

    assert not looks.admission.overloaded(later_ns + INTERVAL_NS)


@pytest.mark.parametrize("meanwhile", [0, 1, CROWD - 1])
def test_crowds_that_take_longer_than_an_interval_are_an_overload(looks, meanwhile):
    """
    Where few come, or none, because all that came is still being answered, there is more to do than ever.
    """
    takes_ns = 2 * INTERVAL_NS
    for number in range(3):
        looks.look(2_000, number * takes_ns, takes_ns, meanwhile)

    assert looks.admission.overloaded(2 * takes_ns)
    looks.look(CROWD - 1, 3 * takes_ns)
    assert not looks.admission.overloaded(3 * takes_ns)


async def test_overloaded_service_says_so_and_lives(house, monkeypatch):
    """
    Prices and orders are refused with a time to come again; life and readiness are told all the same.
    """
    monkeypatch.setattr(house.app[ADMISSION], "overloaded", lambda now_ns: True)
    for kind in AHEAD_MAX:
        monkeypatch.setitem(admission_module.AHEAD_MAX, kind, 0)
    quote, order, book = await house.quote(), await house.buy(), await house.get("/v1/book?symbol=BTC/USDT")
    life, ready = await house.get("/healthz", key=None), await house.get("/readyz", key=None)

    assert [(503, "overloaded", "1")] * 3 == [
        (reply.status, reply.code, reply.headers["Retry-After"]) for reply in (quote, order, book)
    ]
    assert (200, 200) == (life.status, ready.status)
    monkeypatch.undo()
    assert (200, 201) == ((await house.quote()).status, (await house.buy()).status)
    # Quotes were not even read; the log tells how many.
    assert ["POST", "GET"] == [line["method"] for line in house.lines("request") if line["status"] == 503]
