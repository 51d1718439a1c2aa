"""What the Dockerfile's steps give is looked at as an ordinary user, and not as root."""

from __future__ import annotations

import pytest

from tests.rigs.dockerfile import dockerfile


@pytest.mark.broken_copy
async def test_container_of_root_is_found_out(run):
    """
    A service that runs as root is ready, too, and not good enough.
    """
    figures = await run(dockerfile, user="0:0")

    assert not figures["ok"]
    assert ("0:0", 0) == (figures["user"], figures["healthcheck"]), str(figures)
