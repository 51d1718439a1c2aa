"""The shipped configuration of Prometheus: it is valid, and each alert fires when it should and only then."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.tools import tool

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
CASES = [
    case
    for test in yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    for case in test["alert_rule_test"]
]


def promtool(*arguments):
    """Run promtool where the files are; give its exit status and all that it said."""
    done = subprocess.run([tool("promtool"), *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_finds_no_mistake(arguments):
    """
    The configuration and the rules are valid, and all unit tests of the alerts pass.
    """
    status, said = promtool(*arguments)

    assert 0 == status, said


def test_each_alert_has_cases_in_which_it_fires_and_in_which_it_does_not():
    """
    No alert is without a test of either kind, and none that is not there is tested.
    """
    assert set(RULES) == {case["alertname"] for case in CASES if case["exp_alerts"]}
    assert set(RULES) == {case["alertname"] for case in CASES if not case["exp_alerts"]}


@pytest.mark.parametrize("name", RULES)
def test_alert_says_what_it_means_and_where_that_is_explained(name):
    """
    Each alert has a severity, two sentences and its place in the operator's guide.
    """
    rule = RULES[name]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    assert f"docs/operating.md#{name.lower()}" == rule["annotations"]["runbook"]


def test_guide_explains_each_alert():
    """
    The operator's guide has a heading for each alert.
    """
    guide = (FOLDER.parents[1] / "docs/operating.md").read_text()

    assert set(RULES) <= set(re.findall(r"^### (\w+)$", guide, re.MULTILINE))
