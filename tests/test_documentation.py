"""What the documentation says is what the program does: every command, route, error code, log key and fault."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from aiohttp import web

from exchanges.recorded import LINES
from exchanges.simulator import FAULTS, VENUES
from exchanges.simulator.scenario_files import shipped_scenarios
from service.__main__ import _parser
from service.api.problems import CODES
from service.api.requests import ExecuteBody, FirmQuoteBody, QuoteQuery
from service.api.routes import add_routes

ROOT = Path(__file__).parents[1]
SOURCES = [*ROOT.glob("service/**/*.py"), *ROOT.glob("exchanges/**/*.py")]


def rows(page, first_column=r"`[^`]+`.*"):
    """Give the cells of every table row of a page whose first cell has this form."""
    lines = (ROOT / page).read_text().splitlines()
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line.startswith("|")]
    return [row for row in cells if re.fullmatch(first_column, row[0])]


def commands(parser, path=()):
    """Give the words of every command that a parser knows."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        return {" ".join(path)}
    return {found for name, sub in groups[0].choices.items() for found in commands(sub, (*path, name))}


def test_readme_lists_every_command():
    """
    The table of commands is the command line's own list.
    """
    listed = {row[0].strip("`").removeprefix("internal-orderbook ") for row in rows("README.md", "`internal-.*`")}

    assert commands(_parser()) == listed


def test_every_command_takes_settings():
    """
    No command is without --settings.
    """
    for command in commands(_parser()):
        shown = subprocess.run(
            [sys.executable, "-m", "service", *command.split(), "--help"], cwd=ROOT, capture_output=True, text=True
        )
        assert (0, True) == (shown.returncode, "--settings" in shown.stdout), command


def test_readme_uses_verbs_of_the_makefile():
    """
    Every make command in the documentation is a verb of the Makefile.
    """
    verbs = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    used = {verb for page in pages for verb in re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), re.MULTILINE)}

    assert {"demo", "run", "test"} <= used <= verbs


def test_readme_names_pages_that_exist():
    """
    Every page the documentation names is there.
    """
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for name in re.findall(r"[`(]((?:docs|service|exchanges)/[\w/.]*)[`)]", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


OF_OTHERS = ("/v1/quote", "/v1/execute", "/docs/{file}", "/web/{file}")
"""Other names of routes, and what belongs to them."""


def test_api_page_lists_every_route():
    """
    The table of routes is the router's.
    """
    app = web.Application()
    add_routes(app)
    routed = {
        f"{route.method} {route.resource.canonical}"
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource.canonical not in OF_OTHERS
    }

    assert routed == {row[0].strip("`") for row in rows("docs/api.md", "`(GET|POST|DELETE) .*`")}


@pytest.mark.parametrize(
    ("schema", "heading"),
    [
        (QuoteQuery, "## `GET /quote`"),
        (FirmQuoteBody, "## `POST /v1/quotes`"),
        (ExecuteBody, "## `POST /execute`"),
    ],
)
def test_api_page_lists_every_parameter(schema, heading):
    """
    The parameters of quoting and executing are the schemas'.
    """
    section = (ROOT / "docs/api.md").read_text().split(heading)[1].split("\n## ")[0]
    first_cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} | set(
        re.findall(r"`(ticker)` is the same", section)
    )

    assert set(schema().fields) == named


def test_errors_page_lists_every_code():
    """
    The table of codes is the program's, in the same order.
    """
    expected = [
        [f"`{name}`", str(code.status), code.retry, code.execution_state, code.meaning] for name, code in CODES.items()
    ]

    assert expected == rows("docs/errors.md", r"`[a-z_]+`")


def test_simulator_page_lists_every_fault():
    """
    The table of faults is the simulator's.
    """
    assert [[f"`{name}`", ", ".join(fault.scopes), fault.description] for name, fault in FAULTS.items()] == rows(
        "docs/simulator.md", r"`[a-z_0-9]+`"
    )


def test_simulator_page_lists_every_scenario():
    """
    The table of scenarios is that of the files, in the same words.
    """
    shipped = [[f"**`{name}`**", scenario.description] for name, scenario in shipped_scenarios().items()]

    assert shipped == sorted(row[:2] for row in rows("docs/simulator.md", r"\*\*`[a-z_]+`\*\*"))


def test_recording_page_lists_every_kind_of_line():
    """
    The table of letters is what a recording is read by.
    """
    listed = {letter for row in rows("docs/recording.md", r"`[a-z]`.*") for letter in re.findall(r"`(\w)`", row[0])}

    assert LINES.keys() == listed


def test_faults_page_tells_of_every_fault_at_every_venue():
    """
    Two tables, of requests and of streams, have a row for each fault and a cell for each venue that can have it; their
    reasons are on the page of the logs.
    """
    known = set(re.findall(r"`(\w+)`", (ROOT / "docs/logs.md").read_text().partition("Reasons of venues' states")[2]))
    listed = [[row[0].strip("`"), *row[1:]] for row in rows("docs/faults.md", r"`[a-z_0-9]+`")]
    expected = [
        (name, [scope == "depth" or venue in fault.venues for venue in VENUES])
        for scope in ("depth", "stream")
        for name, fault in FAULTS.items()
        if scope in fault.scopes
    ]
    assert expected == [(name, [cell != "·" for cell in cells]) for name, *cells in listed]
    reasons = {reason for _, *cells in listed for cell in cells for reason in re.findall(r"`(\w+)`", cell)}
    assert {reason for reason in reasons if not re.fullmatch(r"http_\d{3}", reason)} <= known


LOGGERS = ("log.info", "log.warning", "log.error", "log.exception", "level")


@cache
def log_calls():
    """Collect the log calls in the code, each with the name of what it calls."""
    calls = []
    for path in SOURCES:
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and call.args and isinstance(call.func, ast.Attribute | ast.Name):
                logger = ast.unparse(call.func)
                if logger in LOGGERS:
                    calls.append((logger, call))
    return calls


def logged_events():
    """Collect events and their keys from the log calls in the code."""
    found = {}
    for _, call in log_calls():
        event = call.args[0]
        name = event.value if isinstance(event, ast.Constant) else "venue.{state}"
        keys = {keyword.arg for keyword in call.keywords if keyword.arg}
        found.setdefault(name, set()).update(keys)
    return found


def test_logs_page_lists_every_event_and_key():
    """
    Every event that the code logs is on the page with its keys, and no other.
    """
    states = {"warming", "live", "stale", "suspect", "down"}
    events = logged_events()
    state_keys = events.pop("venue.{state}")
    events.update({f"venue.{state}": state_keys for state in states})
    listed = {}
    for name, _, keys, _ in rows("docs/logs.md", r"`[a-z_.]+`"):
        listed[name.strip("`")] = set(re.findall(r"`(\w+)`", keys.partition(", and where they apply")[0]))
        if keys == "the same":
            listed[name.strip("`")] = state_keys

    assert events == listed


def keys_given(call, module):
    """Give a call's keywords; of ``**f(…)`` those that the module's own ``f`` puts into what it returns."""
    made_by = {ast.unparse(keyword.value.func) for keyword in call.keywords if keyword.arg is None}
    makers = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name in made_by]
    assert made_by == {maker.name for maker in makers}
    return {keyword.arg for keyword in call.keywords if keyword.arg} | {
        ast.literal_eval(node.slice)
        for maker in makers
        for node in ast.walk(maker)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }


def test_logs_page_lists_what_handlers_add_to_the_request_line():
    """
    Whatever a handler puts on its request's line is on the page.
    """
    added = set()
    for path in (ROOT / "service/api").glob("*.py"):
        module = ast.parse(path.read_text())
        for call in ast.walk(module):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith((".update", "record.update")):
                target = ast.unparse(call.func)
                if "RECORD" in target or target == "record.update":
                    added |= keys_given(call, module)
            if isinstance(call, ast.Subscript) and ast.unparse(call.value) in ("record", "request[RECORD]"):
                added.add(ast.literal_eval(call.slice))
    row = next(row for row in rows("docs/logs.md", "`request`"))

    assert added == set(re.findall(r"`(\w+)`", row[2].partition("and where they apply")[2]))


def test_no_page_names_a_setting_that_is_not_there():
    """
    Settings named on any page as `[table] key` are keys of settings.toml.
    """
    settings = (ROOT / "settings.toml").read_text()
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for table, key in re.findall(r"`\[(\w+)\] (\w+)`", page.read_text()):
            assert re.search(rf"^\[{table}\](?:(?!^\[).)*^(?:# )?{key} = ", settings, re.MULTILINE | re.DOTALL), key
