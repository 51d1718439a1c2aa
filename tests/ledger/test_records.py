"""Times as text: what is written sorts as the moments do, and is read back exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from service.ledger.records import moment_read, moment_text

zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001
milliseconds = moments.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1_000 * 1_000))


@given(moments | milliseconds)
def test_moments_are_read_as_they_were_written(moment):
    """
    A moment comes back to the microsecond, in UTC.
    """
    assert moment == moment_read(moment_text(moment))
    assert UTC == moment_read(moment_text(moment)).tzinfo


@given(moments | milliseconds, st.integers(-2_000, 2_000).map(lambda us: timedelta(microseconds=us)))
def test_moments_sort_as_text(moment, later):
    """
    Of two moments the earlier has the lesser text, however near they are and whatever their zones.
    """
    other = (moment + later).astimezone(UTC)

    assert (moment < other) == (moment_text(moment) < moment_text(other))
    assert len(moment_text(moment)) == len(moment_text(other))
