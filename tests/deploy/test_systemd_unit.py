"""The shipped systemd unit: systemd finds no fault with it, and it is closed to what the service does not need."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from service.app import CUT_AFTER_S, FINISHED_WITHIN_S
from service.settings import load_settings
from tests.tools import tool

UNIT = Path(__file__).parents[2] / "deploy/systemd/internal-orderbook.service"
EXPOSURE_MAX = 2.5


@pytest.fixture
def unit(tmp_path):
    """Give the unit with a program that is there: the service's own is where it has been installed."""
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE))
    return copy


def values(key):
    """Give what the unit says for a key, line by line."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_unit_is_well_formed(unit):
    """
    ``systemd-analyze verify`` finds nothing: no unknown key, no value that is none.
    """
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_unit_is_hardened(unit):
    """
    ``systemd-analyze security`` gives it an exposure of no more than 2.5 of 10.
    """
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", "--json=short", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    overall = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", unit], capture_output=True, text=True, check=False
    ).stdout.splitlines()[-1]

    assert json.loads(done.stdout)
    assert EXPOSURE_MAX >= float(re.search(r"Overall exposure level for \S+: ([\d.]+)", overall)[1])


def test_unit_gives_the_service_the_time_that_it_needs():
    """
    It is killed only after it would have ended by itself, whatever its clients do.
    """
    assert int(values("TimeoutStopSec")[0]) > 15 > FINISHED_WITHIN_S + 2 * CUT_AFTER_S


def test_unit_sets_settings_that_there_are():
    """
    Each variable of the unit is a setting or a secret of the service, and the ledger lies in the unit's own folder.
    """
    env = dict(item.split("=", 1) for line in values("Environment") for item in line.split())
    settings = load_settings(UNIT.parents[2] / "settings.toml", env)

    assert f"sqlite:////var/lib/{values('StateDirectory')[0]}/ledger.db" == settings.ledger.url
    assert "%d/" + values("LoadCredential")[0].split(":")[0] == env["IOB_PEPPER_FILE"]


def test_unit_starts_a_command_that_there_is():
    """
    It is started by ``serve`` with a settings file, and told by the signals that the service heeds.
    """
    assert values("ExecStart")[0].split("/internal-orderbook ")[-1].startswith("serve --settings /etc/")
    assert ["/bin/kill -HUP $MAINPID"] == values("ExecReload")
