"""The command line as a user meets it: real processes, their output, their exit statuses."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service.__main__ import main
from service.keys import KEY_COLUMNS, SCOPES

ROOT = Path(__file__).parent.parent
KEY = re.compile(r"iob_test_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}")
READY_WITHIN_S = 15
ENDS_WITHIN_S = 15
PATIENCE_S = 180
"""A machine that is busy fails only the tests that measure."""
COMMANDS = [
    "demo",
    "serve",
    "simulator",
    "keys",
    "keys create",
    "keys list",
    "keys rotate",
    "keys revoke",
    "quote",
    "execute",
    "executions",
    "account",
    "book",
    "venues",
    "watch",
]


def environment(**variables):
    """Give the environment without what the one who runs the tests has set for the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("IOB_")} | variables


def start(arguments, folder, **variables):
    """Start a command in a folder; its output goes to files there, so that no pipe can fill."""
    name = arguments[0]
    with (folder / f"{name}.stdout").open("wb") as stdout, (folder / f"{name}.stderr").open("wb") as stderr:
        return subprocess.Popen(
            [sys.executable, "-m", "service", *map(str, arguments)],
            cwd=folder,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )


def run(arguments, folder, **variables):
    """Run a command to its end; no command ever ends in a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=folder,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
    return done


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def taken_port():
    """Give a port on which somebody else listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


def ask(method, url, key=None, body=None):
    """Send one request, as any program might."""
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if key is not None:
        headers["X-API-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


class Demo:
    """One demo after another on the same folder and port."""

    def __init__(self, folder):
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        self.ready_after_s = []

    def start(self):
        """Start it, and wait until it tells a person what to try."""
        started = time.monotonic()
        self.process = start(["demo", "--data", self.data, "--port", self.port], self.folder)
        while "curl" not in self.stderr():
            assert self.process.poll() is None, self.stderr()
            assert time.monotonic() - started < PATIENCE_S, self.stderr()
            time.sleep(0.02)
        self.ready_after_s.append(time.monotonic() - started)

    def end(self, number):
        """Send it a signal; give its exit status, and how long it took to end."""
        started = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(ENDS_WITHIN_S)
        return status, time.monotonic() - started

    def stdout(self):
        return (self.folder / "demo.stdout").read_text()

    def stderr(self):
        return (self.folder / "demo.stderr").read_text()

    def key(self, name="api-key"):
        return (self.data / name).read_text()

    def settings(self, **variables):
        """Name the demo's ledger to a command of its own."""
        venues = ("binance", "kraken", "coinbaseexchange", "okx", "bybit", "bitstamp")
        return {
            "IOB_LEDGER__URL": f"sqlite:///{self.data}/ledger.db",
            **{f"IOB_VENUES__{venue.upper()}__BASE_URL": "http://127.0.0.1:9" for venue in venues},
            **variables,
        }


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    demo = Demo(tmp_path_factory.mktemp("demo"))
    try:
        demo.start()
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()


@pytest.fixture
def settings(tmp_path):
    """A settings file of a simulation that nobody runs, and a ledger of its own."""
    path = tmp_path / "settings.toml"
    path.write_text(
        '[service]\nmode = "simulated"\n[market]\nsymbols = ["BTC/USDT"]\n[ledger]\nurl = "sqlite:///ledger.db"\n'
        '[venues.kraken]\nbase_url = "http://127.0.0.1:9"\n'
    )
    return path


# Usage


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(tmp_path, command):
    """
    ``--help`` explains each command on stdout, quickly and without settings.
    """
    done = run([*command.split(), "--help"], tmp_path)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith(f"usage: internal-orderbook {command}".rstrip())
    # Keys come from the environment or a file, where other users do not see them.
    options = set(re.findall(r"--[a-z-]+", done.stdout)) - {"--key-file"}
    assert [] == [option for option in options if re.search("key|pepper|secret|token|password", option)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["srve"], "invalid choice: 'srve'"),
        (["keys"], "the following arguments are required: VERB"),
        (["keys", "create", "--account", "a"], "the following arguments are required: --scopes"),
        (["keys", "revoke", "iob_test_0123456789_"], "a key's id is the 10 characters after iob_live_ or iob_test_"),
        (["keys", "revoke", os.fsdecode(b"\xff")], "a key's id is the 10 characters"),
        (["demo", "--port", "eighty"], "argument --port: a port is a whole number from 0 to 65535, not 'eighty'"),
        (["serve", "--port", "65536"], "argument --port: a port is a whole number from 0 to 65535, not '65536'"),
        (["serve", "--port", "-1"], "argument --port: a port is a whole number from 0 to 65535, not '-1'"),
        (["simulator", "--speed", "0"], "--speed: The speed must be from 0.01 to 10.0."),
        (["simulator", "--port", "8e3"], "argument --port: a port is a whole number from 0 to 65535, not '8e3'"),
        (["simulator", "--port", "9" * 5000], "argument --port: a port is a whole number from 0 to 65535"),
        (["demo", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["quote", "BTC/USDT"], "the following arguments are required: quantity"),
        (["quote", "BTC/USDT", "1", "--firm"], "--firm needs --side buy or --side sell"),
        (["quote", "BTC/USDT", "1", "--firm", "--side", "buy", "--fills"], "--firm goes with neither --fills nor"),
        (["quote", "BTC/USDT", "1", "--ttl-ms", "500"], "--ttl-ms needs --firm"),
        (["book", "BTC/USDT", "--depth", "0"], "argument --depth: must be a whole number from 1 to 999999999, not '0'"),
        (["quote", "BTC/USDT", "1", "--side", "bid"], "argument --side: invalid choice: 'bid'"),
        # A key on the command line would be seen by everybody on the machine.
        (["quote", "BTC/USDT", "1", "--key", "k"], "unrecognized arguments: --key k"),
        (["execute", "BTC/USDT", "1", "--api-key", "k"], "unrecognized arguments: --api-key k"),
    ],
)
def test_wrong_usage_is_explained(tmp_path, arguments, expected):
    """
    Wrong usage exits with 2 and says what is wrong.
    """
    done = run(arguments, tmp_path)

    assert (2, "") == (done.returncode, done.stdout)
    assert re.search(expected, " ".join(done.stderr.split()))


# Settings


def test_mistakes_stop_the_start_and_are_told_all_at_once(settings):
    """
    Misspelled venues, symbols and keys are named with the nearest right one, a line each, and nothing starts.
    """
    text = settings.read_text() + "dept = 5\n[quotes]\nttl_ms = 1\n"
    settings.write_text(text.replace("kraken", "krakn").replace("BTC/USDT", "btc/usdt").replace("mode =", "mod ="))

    done = run(["serve", "--port", "0"], settings.parent)

    assert (2, "") == (done.returncode, done.stdout)
    for expected in (
        'venues.krakn.exchange: ccxt knows no exchange "krakn"; did you mean kraken?',
        "service.mod: unknown key; did you mean service.mode?",
        "venues.krakn.dept: unknown key; did you mean venues.krakn.depth?",
        "quotes.ttl_ms: must be a whole number from 100 to 60000, not 1",
    ):
        assert expected in done.stderr.splitlines()
    assert re.search(r"^market\.symbols: .*btc/usdt.* upper-case", done.stderr, re.MULTILINE)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"sqlite:///ledger.db"', '"ledger.db"'), "ledger.url: must be an address sqlite:///path"),
        (('"sqlite:///ledger.db"', '"sqlite:///:memory:"'), "ledger.url: .*:memory:"),
        (('"sqlite:///ledger.db"', '"sqlite:///settings.toml"'), "is not a SQLite database; move it away or"),
        (("[service]", "[service"), "line 1, column"),
    ],
)
def test_setting_that_cannot_be_is_named(settings, change, expected):
    """
    What is wrong with a setting is said with its name, and nothing is made.
    """
    settings.write_text(settings.read_text().replace(*change))

    done = run(["keys", "list"], settings.parent)

    assert (2, "") == (done.returncode, done.stdout)
    assert re.search(expected, done.stderr), done.stderr
    assert not (settings.parent / "pepper").exists()


@pytest.mark.parametrize("command", [["keys", "list"], ["quote", "BTC/USDT", "1"]])
def test_missing_settings_file_is_named(tmp_path, command):
    """
    Without a settings file the command says which one it looked for.
    """
    done = run(command, tmp_path)

    assert (2, "") == (done.returncode, done.stdout)
    assert "settings.toml: cannot be read: No such file or directory" in done.stderr


# Keys


def test_keys_are_made_listed_and_revoked(settings):
    """
    ``keys create`` prints the key and nothing else on stdout; list and revoke work on its id.
    """
    folder = settings.parent
    made = run(["keys", "create", "--account", "desk-1", "--scopes", "quote, execute"], folder)
    assert 0 == made.returncode
    assert KEY.fullmatch(made.stdout.removesuffix("\n"))
    key_id = made.stdout.split("_")[2]
    assert f"key {key_id} of account desk-1; it is not shown again\n" == made.stderr

    listed = run(["keys", "list"], folder)
    assert (0, "") == (listed.returncode, listed.stderr)
    head, line = listed.stdout.splitlines()
    assert KEY_COLUMNS == tuple(head.split("\t"))
    assert [key_id, "desk-1", "quote,execute"] == line.split("\t")[:3] and line.endswith("\t" * 6)
    assert made.stdout.strip() not in listed.stdout

    revoked = run(["keys", "revoke", key_id], folder)
    assert (0, "", f"key {key_id} is revoked\n") == (revoked.returncode, revoked.stdout, revoked.stderr)
    assert re.search(r"\t20\d\d-.*\t\t20\d\d-", run(["keys", "list"], folder).stdout)

    unknown = run(["keys", "revoke", "nobody"], folder)
    assert (1, "", "there is no key nobody\n") == (unknown.returncode, unknown.stdout, unknown.stderr)


def test_keys_are_made_on_terms_and_rotated(settings):
    """
    Expiry, addresses, label and limits are kept and listed; ``keys rotate`` prints the new key and nothing else.
    """
    folder = settings.parent
    terms = ["--expires-in", "3600", "--address", "10.0.0.0/8", "--address", "::1", "--label", "a job"]
    limits = ["--quote-per-s", "5", "--execute-per-s", "0"]
    made = run(["keys", "create", "--account", "a", "--scopes", "quote", *terms, *limits], folder)
    assert 0 == made.returncode, made.stderr
    key_id = made.stdout.split("_")[2]

    rotated = run(["keys", "rotate", key_id, "--overlap", "60"], folder)
    assert 0 == rotated.returncode, rotated.stderr
    assert KEY.fullmatch(rotated.stdout.removesuffix("\n")) and rotated.stdout != made.stdout
    new_id = rotated.stdout.split("_")[2]
    assert f"key {new_id} of account a; it is not shown again\nkey {key_id} works until 20" in rotated.stderr

    rows = [dict(zip(KEY_COLUMNS, line.split("\t"), strict=True)) for line in listed_lines(folder)]
    assert [key_id, new_id] == [row["id"] for row in rows]
    assert {("10.0.0.0/8,::1/128", "quote=5,execute=0", "a job")} == {
        (row["addresses"], row["limits"], row["label"]) for row in rows
    }
    old, new = [datetime.fromisoformat(row["expires"]) - datetime.fromisoformat(rows[1]["created"]) for row in rows]
    assert old == timedelta(seconds=60) and new >= timedelta(seconds=3590)

    unknown = run(["keys", "rotate", "nobody", "--overlap", "60"], folder)
    assert (1, "", "there is no key nobody in force\n") == (unknown.returncode, unknown.stdout, unknown.stderr)


def listed_lines(folder):
    return run(["keys", "list"], folder).stdout.splitlines()[1:]


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (["--expires-at", "tomorrow"], "a time has its offset, such as 2027-01-31T12:00:00Z"),
        (["--expires-at", "2100-01-01T00:00:00"], "a time has its offset"),
        (["--expires-at", "2020-01-01T00:00:00Z"], "a key expires in the future"),
        (["--expires-in", "0"], "a key expires in the future"),
        (["--expires-in", "-1"], "expected one argument|seconds are a whole number"),
        (["--expires-in", "1", "--expires-at", "2100-01-01T00:00:00Z"], "not allowed with argument"),
        (["--address", "10.0.0.1/8"], "did you mean 10.0.0.0/8?"),
        (["--label", ""], "a label is 1 to 64"),
        (["--quote-per-s", "many"], "a whole number is needed"),
        (["--execute-per-s", "1000001"], "limits are whole numbers from 0 to 1000000"),
    ],
)
def test_key_on_terms_that_cannot_be_is_refused(tmp_path, capsys, monkeypatch, logging_as_before, term, expected):
    """
    A term with a mistake exits with 2, and nothing is on stdout that could be taken for a key.
    """
    monkeypatch.setenv("IOB_LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")
    settings = ["--settings", str(ROOT / "settings.toml")]
    try:
        status = main(["keys", "create", *settings, "--account", "a", "--scopes", "quote", *term])
    except SystemExit as refused:
        status = refused.code

    out, err = capsys.readouterr()
    assert (2, "") == (status, out)
    assert re.search(expected.replace("?", r"\?"), err), err


@pytest.mark.parametrize(
    ("account", "scopes", "expected"),
    [
        ("A", "quote", "an account's name is 1 to 32 of a-z 0-9 _ -"),
        ("a", "qoute", "scopes are quote, execute, account, admin; did you mean quote?"),
        ("a", "", "scopes are quote, execute, account, admin"),
    ],
)
def test_key_that_cannot_be_is_refused(settings, account, scopes, expected):
    """
    A wrong name or scope exits with 2, and nothing is on stdout that could be taken for a key.
    """
    done = run(["keys", "create", "--account", account, "--scopes", scopes], settings.parent)

    assert (2, "") == (done.returncode, done.stdout)
    assert expected in done.stderr


def test_short_pepper_is_refused_without_showing_it(settings):
    """
    A pepper that is too short is named by its variable only.
    """
    done = run(["keys", "list"], settings.parent, IOB_PEPPER="do-not-show-me")

    assert (2, "IOB_PEPPER: the pepper needs at least 32 characters\n") == (done.returncode, done.stderr)


def test_keys_are_managed_beside_the_running_demo(demo):
    """
    A key made beside the running service works in the next request, and after revoking it does not.
    """
    settings = ROOT / "service" / "demo.toml"
    variables = demo.settings()
    made = run(
        ["keys", "create", "--settings", settings, "--account", "x", "--scopes", "quote"], demo.folder, **variables
    )
    assert 0 == made.returncode, made.stderr
    url = f"{demo.url}/quote?symbol=BTC/USDT&quantity=1"
    assert 200 == ask("GET", url, made.stdout.strip()).status

    listed = run(["keys", "list", "--settings", settings], demo.folder, **variables)
    assert ["demo", "demo", "x"] == [line.split("\t")[1] for line in listed.stdout.splitlines()[1:]]

    revoke = ["keys", "revoke", made.stdout.split("_")[2], "--settings", settings]
    assert 0 == run(revoke, demo.folder, **variables).returncode
    assert 401 == ask("GET", url, made.stdout.strip()).status
    unknown = run(["keys", "revoke", "nobody", "--settings", settings], demo.folder, **variables)
    assert (1, "there is no key nobody\n") == (unknown.returncode, unknown.stderr)


# The demo


def test_demo_is_ready_within_15_seconds(demo):
    """
    From the start of the process to an invitation that works it takes less than 15 seconds.
    """
    assert max(demo.ready_after_s) < READY_WITHIN_S
    assert 200 == ask("GET", f"{demo.url}/readyz").status


def test_demo_tells_a_person_on_stderr(demo):
    """
    Address, simulator, keys and what to try stand on stderr; on stdout there are JSON lines only, without a key.
    """
    told = demo.stderr()
    for text in (demo.url, "/faults", demo.key(), "api-key", "admin-key", "curl"):
        assert text in told
    assert demo.key("admin-key") not in told

    lines = demo.stdout().splitlines()
    assert lines and all(isinstance(json.loads(line), dict) for line in lines)
    assert demo.key() not in demo.stdout() and (demo.data / "pepper").read_text() not in demo.stdout()


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl")
def test_printed_curl_works_as_printed(demo):
    """
    The line that begins with curl, pasted into a shell, gets a quote.
    """
    (line,) = [line for line in demo.stderr().splitlines() if line.strip().startswith("curl")]
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=20)

    assert "BTC/USDT" == json.loads(done.stdout)["symbol"]
    assert shlex.split(line)[0] == "curl"


def test_demo_keeps_its_keys_to_itself(demo):
    """
    Folder, keys, pepper and record are open to their owner only; the keys differ in scopes.
    """
    assert 0o700 == demo.data.stat().st_mode & 0o777
    assert {0o600} == {file.stat().st_mode & 0o777 for file in demo.data.iterdir()}
    assert KEY.fullmatch(demo.key()) and KEY.fullmatch(demo.key("admin-key"))
    assert demo.key() != demo.key("admin-key")
    settings = ROOT / "service" / "demo.toml"
    listed = run(["keys", "list", "--settings", settings], demo.folder, **demo.settings()).stdout
    assert {",".join(SCOPES[:-1]), ",".join(SCOPES)} <= {line.split("\t")[2] for line in listed.splitlines()}


def test_second_demo_on_the_same_folder_is_refused(demo):
    """
    Two services never write one record; the second says why it does not start, and the first goes on.
    """
    done = run(["demo", "--data", demo.data, "--port", "0"], demo.folder)

    assert 2 == done.returncode
    assert re.fullmatch(r"ledger\.url: another process has .*/ledger\.db open\n", done.stderr)
    assert 200 == ask("GET", f"{demo.url}/readyz").status


def test_port_in_use_is_named(demo, tmp_path):
    """
    A port that somebody else has is named with the reason.
    """
    with taken_port() as port:
        done = run(["demo", "--data", tmp_path / "data", "--port", port], tmp_path)
        assert 2 == done.returncode
        assert re.search(rf"service\.port: cannot listen on 127\.0\.0\.1:{port}: .*in use", done.stderr)

        simulator = run(["simulator", "--port", port], tmp_path)
        assert 2 == simulator.returncode
        assert re.search(rf"cannot listen on 127\.0\.0\.1:{port}: .*in use", simulator.stderr)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("file", "--data: .*file cannot be made: File exists"),
        ("file/below", "--data: .*below cannot be made: Not a dir"),
    ],
)
def test_data_folder_that_cannot_be_is_named(tmp_path, data, expected):
    """
    Where no folder can be the demo says so.
    """
    (tmp_path / "file").touch()

    done = run(["demo", "--data", tmp_path / data], tmp_path)

    assert 2 == done.returncode and re.search(expected, done.stderr), done.stderr


# Asking the running service


def test_quote_for_a_person(demo):
    """
    Both sides with waterfall and legs, and the quote's id on one line; that nothing is traded is said first.
    """
    done = run(["quote", "BTC/USDT", "0.5", "--url", demo.url, "--key-file", demo.data / "api-key"], demo.folder)

    assert (0, "") == (done.returncode, done.stderr)
    assert "simulated prices, mock execution" in done.stdout.splitlines()[0]
    for text in ("buy 0.5 BTC: ", "sell 0.5 BTC: ", "half_spread", "fees", "total", "venue", "quote_id"):
        assert text in done.stdout
    assert re.search(r"^q2\.\S+$", done.stdout, re.MULTILINE)


def test_quote_as_json_and_execute_on_it(demo):
    """
    ``--json`` prints the answer as it came, for a program; a quote is executed by its id.
    """
    client = {"IOB_URL": demo.url, "IOB_API_KEY": demo.key()}
    done = run(["quote", "btc-usdt", "0.25", "--side", "sell", "--json"], demo.folder, **client)
    quote = json.loads(done.stdout)
    assert ("BTC/USDT", None) == (quote["symbol"], quote["buy"])

    done = run(
        ["execute", "--quote-id", quote["quote_id"], "--side", "sell", "--tolerance-bps", "500", "--json"],
        demo.folder,
        **client,
    )
    execution = json.loads(done.stdout)
    assert (0, "filled", "0.25") == (done.returncode, execution["status"], execution["filled_quantity"])
    assert quote["quote_id"] == execution["quote_id"]


def test_execute_for_a_person(demo):
    """
    One line says what was filled at what price, that it is a mock, and under which id.
    """
    done = run(
        ["execute", "ETH/USDT", "2", "--side", "buy", "--url", demo.url, "--key-file", demo.data / "api-key"],
        demo.folder,
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert re.search(r"filled buy 2 of 2 ETH/USDT at [\d.]+,\s+total [\d.]+\s+\(mock\)", done.stdout)
    assert re.search(r"execution [0-9a-f]{32}", done.stdout)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["quote", "BTC/USDT", "--total", "1000", "--side", "buy", "--fills"],
            r"(?s)buy 0\.\d+ BTC: 9\d\d\..* fill .* subtotal",
        ),
        (["quote", "BTC/USDT", "--slippage-bps-max", "5", "--side", "sell"], r"sell [\d.]+ BTC: "),
        (
            ["quote", "BTC/USDT", "0.1", "--side", "buy", "--firm", "--ttl-ms", "900"],
            r"open, held: [\d.]+ USDT\s+quote_id, good for 900",
        ),
        (["executions", "--limit", "2"], r"executed at +outcome +order +client order id +filled +total"),
        (["account"], r"(?s)demo \(paper\).*asset +available +held +total.* BTC +[\d.]+ "),
        (
            ["book", "BTC/USDT", "--depth", "1", "--view", "gross"],
            r"BTC/USDT gross +simulated prices\s+venue.*\s+ask .*\s+bid ",
        ),
        (["venues"], r"(?s)venue +state .* bitstamp +live +poll"),
    ],
)
def test_answers_for_a_person(demo, command, expected):
    """
    What is asked for is shown as text or as a table, the kind of prices beside them.
    """
    done = run(command, demo.folder, IOB_URL=demo.url, IOB_API_KEY=demo.key())

    assert (0, "") == (done.returncode, done.stderr)
    assert re.search(expected, done.stdout), done.stdout


def test_lists_are_a_row_a_line_for_a_program(demo):
    """
    ``--json`` prints a list's rows, each on a line, as the service gives them.
    """
    done = run(["venues", "--json"], demo.folder, IOB_URL=demo.url, IOB_API_KEY=demo.key())

    rows = json.loads(ask("GET", f"{demo.url}/v1/venues", demo.key()).body)["venues"]
    assert [row["venue"] for row in rows] == [json.loads(line)["venue"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("command", "key", "expected"),
    [
        (["quote", "BTX/USDT", "1"], None, "unknown_symbol: "),
        (["quote", "[red]", "1"], None, "(unknown_symbol|invalid_parameter): "),
        (["quote", "BTC/USDT", "one", "--json"], None, "invalid_parameter"),
        (["execute", "BTC/USDT", "1"], None, "missing_parameter: "),
        (["execute", "BTC/USDT", "1", "--side", "buy", "--limit-price", "1", "--json"], None, "limit_not_met"),
        (["quote", "BTC/USDT", "1"], "iob_test_0123456789_" + "a" * 49, "unauthenticated: "),
    ],
)
def test_refusal_exits_with_1(demo, command, key, expected):
    """
    What the service refuses goes to stderr with its code for a person, to stdout for a program; the status is 1.
    """
    done = run(command, demo.folder, IOB_URL=demo.url, IOB_API_KEY=key or demo.key())

    assert 1 == done.returncode
    if "--json" in command:
        assert (expected, "") == (json.loads(done.stdout)["code"], done.stderr)
    else:
        assert "" == done.stdout
        assert re.match(expected, done.stderr)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"IOB_URL": "http://127.0.0.1:9", "IOB_API_KEY": "x"}, "no service answers on http://127.0.0.1:9"),
        ({"IOB_URL": "nowhere", "IOB_API_KEY": "x"}, "no service answers on nowhere"),
        ({"IOB_URL": "http://127.0.0.1:9"}, "give the API key in the variable IOB_API_KEY or with --key-file\n"),
        ({"IOB_URL": "http://127.0.0.1:9", "IOB_API_KEY": "a\nb"}, "give the API key in the variable"),
    ],
)
def test_client_without_service_or_key_is_told(tmp_path, variables, expected):
    """
    Where nobody answers, or no key is given, a sentence says so.
    """
    done = run(["quote", "BTC/USDT", "1"], tmp_path, **variables)

    assert (2, "") == (done.returncode, done.stdout)
    assert expected in done.stderr


def test_key_file_that_cannot_be_read_is_named(tmp_path):
    """
    A key file that is not there, or holds no text, is named.
    """
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for file in ("missing", "bytes"):
        done = run(["quote", "BTC/USDT", "1", "--url", "http://127.0.0.1:9", "--key-file", file], tmp_path)
        assert (2, f"--key-file: {file} cannot be read\n") == (done.returncode, done.stderr)


def test_clients_address_comes_from_the_settings(settings):
    """
    Without an address the client asks where the settings say the service listens, IPv6 included.
    """
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", r"\[::1\]")):
        done = run(
            ["quote", "BTC/USDT", "1"], settings.parent, IOB_API_KEY="x", IOB_SERVICE__HOST=host, IOB_SERVICE__PORT="9"
        )
        assert 2 == done.returncode
        assert re.search(rf"no service answers on http://{shown}:9 \(ClientConnector", done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ["quote", "BTC/USDT", "0.1"],
        ["venues"],
        ["execute", "BTC/USDT", "0.1", "--side", "buy"],
        ["keys", "list"],
        ["--help"],
    ],
)
def test_light_commands_do_not_import_ccxt(demo, arguments):
    """
    What only talks to a service starts quickly: ccxt, which takes seconds, is not loaded.
    """
    program = (
        "import sys; from service.__main__ import main\n"
        "try: status = main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = [name for name in sys.modules if name.split('.')[0] in ('ccxt', 'marshmallow')]\n"
        "print(status, heavy, file=sys.stderr)"
    )
    settings = [] if "--help" in arguments else ["--settings", str(ROOT / "service" / "demo.toml")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments, *settings],
        env=environment(**demo.settings(IOB_URL=demo.url, IOB_API_KEY=demo.key())),
        cwd=demo.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert "0 []" == done.stderr.splitlines()[-1]


# The record outlives the process.  These two come last: they end the demo.


def test_execution_outlives_kill_9(demo):
    """
    Quote, execute, again, kill -9, restart, again: one execution, the same bytes each time, under the same keys.
    """
    quote = json.loads(ask("GET", f"{demo.url}/quote?symbol=BTC/USDT&quantity=0.5&side=buy", demo.key()).body)
    order = {"client_order_id": "survivor", "quote_id": quote["quote_id"], "side": "buy", "tolerance_bps": "500"}
    first = ask("POST", f"{demo.url}/execute", demo.key(), order)
    again = ask("POST", f"{demo.url}/execute", demo.key(), order)
    keys = {name: demo.key(name) for name in ("api-key", "admin-key")}

    assert -signal.SIGKILL == demo.end(signal.SIGKILL)[0]
    demo.start()
    after = ask("POST", f"{demo.url}/execute", keys["api-key"], order)
    other = ask("POST", f"{demo.url}/execute", keys["api-key"], order | {"client_order_id": "other"})

    assert (201, None) == (first.status, first.headers["Idempotent-Replayed"])
    for replayed in (again, after):
        assert (200, "true") == (replayed.status, replayed.headers["Idempotent-Replayed"])
        assert first.body == replayed.body
    assert "filled" == json.loads(first.body)["status"]
    assert keys == {name: demo.key(name) for name in keys}
    assert other.status in (409, 410), other.body
    assert max(demo.ready_after_s) < READY_WITHIN_S


def test_sigterm_ends_the_demo_in_order(demo):
    """
    On SIGTERM the service finishes and exits with 0 within 15 seconds; its last line says that it stopped.
    """
    status, took_s = demo.end(signal.SIGTERM)

    assert 0 == status and took_s < ENDS_WITHIN_S
    assert "Traceback" not in demo.stderr()
    lines = [json.loads(line) for line in demo.stdout().splitlines()]
    assert "service.stopped" == lines[-1]["event"]
    assert [] == [line for line in lines if line["level"] in ("error", "critical")]
    assert not (demo.data / "ledger.db.sock").exists()
    assert not (demo.data / "ledger.db-wal").exists()


STARTING = (
    '[service]\nmode = "simulated"\n[market]\nsymbols = ["BTC/USDT"]\n[venues.okx]\nbase_url = "http://127.0.0.1:9"\n'
)


def test_service_ends_with_its_terminal(tmp_path):
    """
    Whoever closes the window in which the service runs has ended it; SIGHUP means a reload only while the terminal is
    there, or where there has never been one.
    """
    (tmp_path / "settings.toml").write_text(STARTING)
    process, ours = _serve_on_terminal(tmp_path)
    seen = _read_until(ours, b"service.started")
    process.send_signal(signal.SIGHUP)
    seen += _read_until(ours, b"settings.reloaded")
    os.close(ours)

    assert 0 == process.wait(ENDS_WITHIN_S), seen


def test_sighup_while_the_service_starts_is_a_reload_once_it_runs(tmp_path):
    """
    Whoever asks for a reload while the service still starts does not kill it: the settings are read again once it runs.
    """
    os.mkfifo(tmp_path / "settings.toml")
    process, ours = _serve_on_terminal(tmp_path)
    with _starting(tmp_path):
        process.send_signal(signal.SIGHUP)
    seen = _read_until(ours, b"settings.reloaded")
    process.terminate()
    status = process.wait(ENDS_WITHIN_S)
    os.close(ours)

    assert 0 == status, seen
    assert seen.index(b"service.started") < seen.index(b"settings.reloaded")


def test_service_that_still_starts_ends_with_its_terminal(tmp_path):
    """
    Whoever closes the window in which the service is starting has ended it, as any other program.
    """
    os.mkfifo(tmp_path / "settings.toml")
    process, ours = _serve_on_terminal(tmp_path)
    with _starting(tmp_path):
        os.close(ours)

    assert -signal.SIGHUP == process.wait(ENDS_WITHIN_S)


def _serve_on_terminal(folder):
    """Start the service on a terminal; gives the process, and our end of the terminal."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", str(free_port())],
        cwd=folder,
        env=environment(IOB_LEDGER__URL=f"sqlite:///{folder}/ledger.db"),
        preexec_fn=lambda: os.login_tty(theirs),
    )
    os.close(theirs)
    return process, ours


@contextmanager
def _starting(folder):
    """Hold up a service that starts, where it reads its settings."""
    path = folder / "settings.toml"
    with path.open("w") as read_first:  # Waits until it is opened to be read.
        path.unlink()
        path.write_text(STARTING)
        yield
        read_first.write(STARTING)


def _read_until(terminal, wanted):
    """Read a terminal until something stands there; what comes after it in the same piece is read too."""
    seen, deadline = b"", time.monotonic() + PATIENCE_S
    while wanted not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        piece = os.read(terminal, 65_536)
        assert piece, seen
        seen += piece
    return seen
