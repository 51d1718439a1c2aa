"""The shipped dashboard and alerts ask for metrics that there are, in queries that Prometheus can read."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from service.metrics.catalogue import CATALOGUE
from tests.rigs.prometheus import queries
from tests.tools import tool

FOLDER = Path(__file__).parents[2] / "deploy"
METRICS = {metric.name: metric for metric in CATALOGUE}
EXPRESSIONS = [
    rule["expr"]
    for group in yaml.safe_load((FOLDER / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SERIES = [
    series["series"]
    for test in yaml.safe_load((FOLDER / "prometheus/alerts_test.yml").read_text())["tests"]
    for series in test["input_series"]
]
SCRAPED = {"job", "instance"}
"""Labels that Prometheus gives to all that it scrapes."""


def metric(name):
    """Give the metric that a series belongs to."""
    return METRICS[name if name in METRICS else re.sub(r"_(bucket|sum|count)$", "", name)]


def labels(selector):
    """Give the names in ``{name="value", …}``."""
    return set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector))


def test_every_query_can_be_read(tmp_path):
    """
    Promtool reads each query of the dashboard, as the expression of a rule.
    """
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [tool("promtool"), "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@pytest.mark.parametrize("query", [*queries(), *EXPRESSIONS, *SERIES])
def test_query_asks_for_metrics_and_labels_that_there_are(query):
    """
    A name or a label that nobody publishes would show nothing, and never fire.
    """
    for name, selector in re.findall(r"\b(iob_\w+)(\{[^}]*\})?", query):
        known = SCRAPED | set(metric(name).labels) | ({"le"} if name.endswith("_bucket") else set())
        assert labels(selector) <= known, name
    grouped = {name for names in re.findall(r"\b(?:by|without) \(([^)]*)\)", query) for name in names.split(", ")}
    asked = [set(metric(name).labels) for name in re.findall(r"\biob_\w+", query)]
    assert grouped <= SCRAPED | {"le"} | set().union(*asked)


def test_every_metric_is_on_the_dashboard():
    """
    Nothing is measured that nobody is shown.
    """
    shown = {metric(name).name for query in queries() for name in re.findall(r"\biob_\w+", query)}

    assert METRICS.keys() == shown


def test_panels_have_their_own_places():
    """
    Panels do not lie on each other, have numbers of their own, and ask sources that Grafana is provisioned with.
    """
    dashboard = json.loads((FOLDER / "grafana/dashboard.json").read_text())
    sources = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/datasources.yaml").read_text())
    places = [
        (x, y)
        for panel in dashboard["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    ids = [panel["id"] for panel in dashboard["panels"]]
    asked = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", [])}

    assert len(places) == len(set(places))
    assert 24 > max(x for x, _ in places)
    assert len(ids) == len(set(ids))
    assert asked == {source["uid"] for source in sources["datasources"]}


def test_labels_of_log_lines_are_those_that_alloy_gives():
    """
    The dashboard asks Loki by labels that Alloy puts on the lines, all of which have few values.
    """
    given = set(re.findall(r"^      (\w+) = \"\",$", (FOLDER / "alloy/config.alloy").read_text(), re.MULTILINE))
    dashboard = json.loads((FOLDER / "grafana/dashboard.json").read_text())
    asked = [
        target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
        if target["datasource"]["type"] == "loki"
    ]

    assert {"level", "event"} == given
    assert all(labels(query) <= given | {"service_name"} for query in asked) and asked
