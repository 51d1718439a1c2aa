"""The operator's guide names what is there: alerts, commands, settings, routes, metrics, log events and files."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from service.__main__ import _parser
from service.api.problems import CODES
from service.api.routes import add_routes

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operating.md").read_text()
SPANS = set(re.findall(r"`([^`\n]+)`", PAGE))
BLOCKS = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]


def commands_given():
    """Collect what is typed after ``internal-orderbook``, in blocks and in sentences, word by word."""
    lines = [*BLOCKS, *(span for span in SPANS if span.startswith("internal-orderbook "))]
    given = set()
    for line in lines:
        _, found, rest = re.sub(r"\$\([^)]*\)", "X", line).partition("internal-orderbook ")
        if found:
            words = shlex.shlex(rest, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            given.add(tuple(itertools.takewhile(lambda word: word not in ("&&", "|", ";", ">"), words)))
    return sorted(given)


def is_routed(path, methods):
    """Tell whether the service has a route for a path, which may have names or words in the place of its parts."""
    app = web.Application()
    add_routes(app)
    for route in app.router.routes():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(route.resource.canonical))
        if re.fullmatch(pattern, path) and route.method in methods:
            return True
    return False


def test_guide_explains_every_alert_and_no_other():
    """
    Each rule has a heading under which it is explained, a line in the table, and a link that leads there.
    """
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"]}
    section = PAGE.partition("\n## Alerts\n")[2]
    runbooks = {f"docs/operating.md#{name.lower()}" for name in alerts}

    assert set(alerts) == set(re.findall(r"^### (\w+)$", section, re.MULTILINE))
    assert set(alerts) == set(re.findall(r"^\| `([A-Z]\w+)` \|", section, re.MULTILINE))
    assert runbooks == {rule["annotations"]["runbook"] for rule in alerts.values()}


def test_every_alert_says_what_to_look_at_and_what_to_do():
    """
    Whoever is woken finds the same five answers under each.
    """
    _, *alerts = re.split(r"^### ", PAGE.partition("\n## Alerts\n")[2], flags=re.MULTILINE)
    for alert in alerts:
        parts = re.findall(r"^\* \*\*(.+?)\*\*", alert, re.MULTILINE)
        assert ["Says", "First look", "Usual causes", "Do", "Worry when"] == parts, alert.splitlines()[0]


@pytest.mark.parametrize("words", commands_given(), ids=" ".join)
def test_command_line_understands_every_command_of_the_guide(words, capsys):
    """
    Commands, options and the number of words are those of the program.
    """
    try:
        _parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"internal-orderbook {' '.join(words)}: {capsys.readouterr().err}")


def test_guide_has_the_commands_that_keep_a_record():
    """
    What the test above reads is not nothing.
    """
    starts = {" ".join(words[:2]) for words in commands_given()}

    assert {"ledger backup", "ledger verify", "keys create", "keys rotate", "keys revoke", "serve"} <= starts


def test_options_of_keys_in_the_guide_are_the_programs(capsys):
    """
    What narrows a key is spelt as the command wants it.
    """
    with pytest.raises(SystemExit):
        _parser().parse_args(["keys", "create", "--help"])
    shown = capsys.readouterr().out
    row = next(line for line in PAGE.splitlines() if line.startswith("| narrow it |"))

    assert all(option in shown for option in re.findall(r"--[a-z-]+", row))


def test_every_route_of_the_guide_is_routed():
    """
    By its method where the guide names one.
    """
    named = {(method, path) for method, path in re.findall(r"`(GET|POST|DELETE) (/[^` ?]*)[^`]*`", PAGE)}
    named |= {
        ("", span) for span in SPANS if re.fullmatch(r"/(v1/[\w/{}-]+|healthz|readyz|metrics|quote|execute)", span)
    }

    assert ("GET", "/readyz") in named
    for method, path in named:
        assert is_routed(path, {method} if method else {"GET", "POST", "DELETE"}), f"{method} {path}"


def test_every_metric_of_the_guide_is_on_the_page_of_metrics():
    """
    A name in the guide can be typed into Prometheus.
    """
    metrics = set(re.findall(r"`(iob_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    named = set(re.findall(r"\biob_[a-z_]+[a-z]\b", PAGE))

    assert "iob_ledger_up" in metrics
    assert named <= metrics, named - metrics


def test_every_log_event_of_the_guide_is_on_the_page_of_logs():
    """
    What the guide says to look for is what is logged.
    """
    events = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)`", (ROOT / "docs/logs.md").read_text(), re.MULTILINE))
    groups = {event.partition(".")[0] for event in events}
    no_events = {"ledger.db", "settings.toml"}
    named = {span for span in SPANS if re.fullmatch(r"[a-z_]+\.[a-z_]+", span) and span.partition(".")[0] in groups}

    assert "ledger.unavailable" in named
    assert named - no_events <= events, named - no_events - events


def test_every_file_of_the_guide_is_there():
    """
    Pages, folders and rigs that it sends its reader to.
    """
    for name in re.findall(r"`((?:docs|deploy|tests)/[\w./-]*)`", PAGE):
        assert (ROOT / name).exists(), name


def test_codes_of_the_guide_are_codes_of_the_api():
    """
    A refusal that the guide explains is one that clients get.
    """
    named = set(re.findall(r"\b(?:401|409|429|503|refused with) `([a-z_]+)`", PAGE))

    assert {"ledger_unavailable", "overloaded"} <= named <= set(CODES), named - set(CODES)
