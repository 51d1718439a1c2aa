"""Programs that some tests need beside Python: found, or the reason why their test is skipped."""

from __future__ import annotations

import os
import shutil

import pytest

WHERE = "/usr/sbin:/sbin:/usr/local/sbin"
"""Where daemons are that an ordinary user's path does not name."""


def tool(name: str) -> str:
    """Give the path of a program; a test that needs a missing one is skipped, and fails where ``CI`` is ``true``."""
    path = shutil.which(name) or shutil.which(name, path=WHERE)
    if path is None:
        reason = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
