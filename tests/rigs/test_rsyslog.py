"""Debian's rsyslog takes the service's log with the shipped configuration."""

from __future__ import annotations

import pytest

from tests.rigs.rsyslog import rsyslog
from tests.tools import tool


async def test_rsyslog_takes_every_line_of_a_busy_service(run):
    """
    Orders, bugs, outages and restarts: each line is JSON of the schema, and arrives once, in the file of its level.
    """
    figures = await run(rsyslog, 4, program=tool("rsyslogd"), in_full=False)

    assert figures["ok"], str(figures)


@pytest.mark.broken_copy
@pytest.mark.parametrize(("fault", "trouble"), [("prints", "unparsed_by_rsyslog"), ("misspelt", "not_of_the_schema")])
async def test_rsyslog_finds_broken_copies(run, fault, trouble):
    """
    A service that prints past its log, or logs what is on no page, is found out.
    """
    figures = await run(rsyslog, 4, program=tool("rsyslogd"), fault=fault, in_full=False)

    assert not figures["ok"]
    assert figures[trouble], str(figures)
