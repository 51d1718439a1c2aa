"""A real Prometheus with the shipped files sees what the service tells, and alerts fire and end."""

from __future__ import annotations

import pytest

from tests.rigs.prometheus import prometheus


@pytest.mark.rig
async def test_prometheus_sees_the_service_and_alerts_fire(run):
    """
    All queries of the dashboard but those of realism, which take a minute, have data soon; three alerts fire and end.
    """
    figures = await run(prometheus, data_within_s=25)

    assert [] == [query for query in figures["without_data"] if "realism" not in query], str(figures)
    assert all(None not in times.values() for times in figures["alerts"].values()), str(figures)


@pytest.mark.broken_copy
async def test_alert_that_never_fires_is_found_out(run):
    """
    An alert on a state that there is not stays quiet whatever happens.
    """
    expressions = {"VenueStale": 'iob_venue_state{state="old"} == 1'}
    figures = await run(prometheus, expressions=expressions, data_within_s=0, alert_within_s=20)

    assert not figures["ok"]
    assert figures["alerts"]["VenueStale"]["fired_after_s"] is None, str(figures)
    assert figures["alerts"]["CrossedMarket"]["fired_after_s"] is not None, str(figures)
