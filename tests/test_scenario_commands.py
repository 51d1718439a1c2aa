"""Scenarios on the command line: by name or path, told to the person at the terminal."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest

from exchanges.simulator import load_scenario, scenario_names
from tests.test_command_line import ENDS_WITHIN_S, ask, run, start

WITHIN_S = 20
OWN = """
description = "A short one."
seed = 23
[[event]]
at_s = 0.1
says = "okx goes."
venue = "okx"
fault = "refuse"
[[event]]
at_s = 0.3
says = "okx returns."
venue = "okx"
fault = "off"
"""


def wait_for(text, folder, command, process):
    """Wait until a command has said something on stderr; give all that it said."""
    deadline = time.monotonic() + WITHIN_S
    while text not in (said := (folder / f"{command}.stderr").read_text()):
        assert process.poll() is None and time.monotonic() < deadline, said
        time.sleep(0.02)
    return said


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("command", ["demo", "simulator"])
def test_help_lists_the_scenarios(tmp_path, command):
    """
    Which scenarios there are is said by ``--help``.
    """
    shown = " ".join(run([command, "--help"], tmp_path).stdout.split())

    assert f"{', '.join(scenario_names())}, or the path of a file of your own" in shown


@pytest.mark.parametrize("command", ["demo", "simulator"])
def test_misspelled_scenario_is_answered_with_the_nearest_and_the_list(tmp_path, command):
    """
    A wrong name exits with 2 before anything is made.
    """
    done = run([command, "--scenario", "flashcrash"], tmp_path)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr == (
        "--scenario: there is no scenario 'flashcrash'; did you mean flash_crash? there are "
        f"{', '.join(scenario_names())}, and your own by the path of a file .toml\n"
    )
    assert [] == list(tmp_path.iterdir())


def test_mistakes_in_a_file_are_said_all_at_once(own):
    """
    Every mistake is a line with its place, and the status is 2.
    """
    own.write_text(OWN.replace("seed = 23", "").replace('"refuse"', '"refuze"').replace("0.3", "-1"))

    done = run(["simulator", "--port", "0", "--scenario", own], own.parent)

    assert (2, "") == (done.returncode, done.stdout)
    expected = [f"--scenario: {own}: {problem}" for problem in (
        "seed must be a whole number of at most 64 bits, such as 7",
        "event 1: there is no fault 'refuze'; did you mean refuse",
        "event 2: at_s must be a number of seconds from 0 to 86400 in steps of 0.1, not -1",
    )]  # fmt: skip
    assert expected == [line[: len(start)] for line, start in zip(done.stderr.splitlines(), expected, strict=True)]


@pytest.mark.parametrize(("more", "seed"), [([], 23), (["--seed", "4"], 4)])
def test_simulator_plays_a_file_of_ones_own(own, more, seed):
    """
    Each event is a line on stderr; the market's seed is the file's unless another one is given.
    """
    process = start(["simulator", "--port", "0", "--scenario", own, *more], own.parent)
    try:
        said = wait_for("is over", own.parent, "simulator", process)
        url = re.search(r"http://127\.0\.0\.1:\d+", said)[0]
        assert f"scenario {own} (GET {url}/scenario): A short one." in said
        lines = [line for line in said.splitlines() if line.startswith(f"{own} ")]
        assert [f"{own} 0.1 s: okx goes.", f"{own} 0.3 s: okx returns."] == lines[:2]
        assert seed == json.loads(ask("GET", f"{url}/").body)["seed"]
        assert json.loads(ask("GET", f"{url}/scenario").body)["scenario"]["over"]
    finally:
        process.kill()
        process.wait()


def test_demo_plays_a_scenario_by_its_name(tmp_path):
    """
    The demo announces the scenario beside its address and plays it on its simulated venues; log lines stay JSON.
    """
    process = start(["demo", "--data", tmp_path / "data", "--port", "0", "--scenario", "flash_crash"], tmp_path)
    try:
        said = wait_for("curl", tmp_path, "demo", process)
        url = re.search(r"scenario flash_crash \(GET (http://127\.0\.0\.1:\d+)/scenario\): BTC falls 12 %", said)[1]
        told = json.loads(ask("GET", f"{url}/scenario").body)["scenario"]
        assert ("flash_crash", load_scenario("flash_crash").description) == (told["name"], told["description"])
        assert load_scenario("flash_crash").seed == json.loads(ask("GET", f"{url}/").body)["seed"]
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(ENDS_WITHIN_S)
    finally:
        process.kill()
        process.wait()
    assert all(isinstance(json.loads(line), dict) for line in (tmp_path / "demo.stdout").read_text().splitlines())
