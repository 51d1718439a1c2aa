"""Recording and replay as an operator meets them: beside the service, by command, and what is refused."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from exchanges.recorded import CLOSED, Ended
from exchanges.recording import Recording
from exchanges.simulator import run_in_thread
from service.__main__ import main
from service.app import running
from service.control import key_desk
from service.errors import ConfigError
from service.keys import load_pepper
from service.replaying import replay_settings
from service.settings import load_settings
from tests.exposed import free_port, samples, series

pytestmark = pytest.mark.usefixtures("logging_as_before")

ROOT = Path(__file__).parents[1]
WITHIN_S = 20.0
SIMULATED = """
[service]
port = 0
mode = "simulated"
[market]
symbols = ["BTC/USDT", "USDT/USD"]
outlier_bps = 90
[ledger]
url = "sqlite:///{folder}/simulated.db"
[recording]
file = "{file}"
[venues.okx]
base_url = "{base_url}"
rate_limit_ms = 0
poll_interval_ms = 100
[venues.bitstamp]
base_url = "{base_url}"
rate_limit_ms = 0
poll_interval_ms = 100
stale_after_ms = 2500
symbols = {{ "BTC/USDT" = "BTC/USD" }}
"""


@pytest.fixture(scope="module")
def simulator():
    with run_in_thread(port=0, seed=7) as simulator:
        yield simulator


@pytest.fixture
def settings_file(tmp_path, simulator):
    """Settings of simulated venues, which record to a file only if they are written anew."""
    path = tmp_path / "settings.toml"

    def write(file=""):
        path.write_text(SIMULATED.format(folder=tmp_path, base_url=simulator.base_url, file=file))
        return path

    write()
    return SimpleNamespace(path=path, write=write)


async def asked(address, key, path, method="GET", body=None, until=lambda answer: True):
    """Ask until the answer is as wanted, but not for ever."""
    async with aiohttp.ClientSession(headers={"X-API-Key": key}) as session:
        deadline = time.monotonic() + WITHIN_S
        while True:
            async with session.request(method, address + path, json=body) as response:
                answer = await response.json(content_type=None)
            if response.status < 300 and until(answer):
                return answer
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.05)


async def key_for(settings, folder):
    async with key_desk(settings, lambda: load_pepper({}, folder).secret) as keys:
        text, _ = await keys.create("tester", ["quote", "execute", "account"])
    return text


def recorded_in(folder):
    (file,) = folder.glob("books-*.rec")
    return file


@pytest.fixture
async def recording(tmp_path, settings_file):
    """A recording that a running service has made of two simulated venues, two symbols and their conversion."""
    settings = load_settings(settings_file.write(tmp_path / "books.rec"), {})
    async with running(settings, {}) as address:
        key = await key_for(settings, tmp_path / "simulated.db")
        path = "/quote?symbol=BTC/USDT&quantity=1"
        answer = await asked(address, key, path, until=lambda answer: len(live(answer)) == 2)
        assert "simulated" == answer["market_data"]
        await asyncio.sleep(0.5)
    return recorded_in(tmp_path)


def live(answer):
    return [source["venue"] for source in answer["sources"] if source["used"]]


async def test_service_records_what_it_quotes_on(recording):
    """
    The file holds the books of every venue, the pair's that one of them is converted through included.
    """
    with Recording(recording) as opened:
        *told, end = [one for _, one in opened]
        header = opened.header

    assert Ended(CLOSED) == end
    assert re.fullmatch(r"books-\d{8}T\d{6}\.\d{6}Z\.rec", recording.name)
    assert ("simulated", Decimal(90), ("BTC/USDT", "USDT/USD")) == (
        header.market_data,
        header.outlier_bps,
        header.symbols,
    )
    assert [("okx", 100, 5_000, {}), ("bitstamp", 100, 2_500, {"BTC/USDT": "BTC/USD"})] == [
        (venue.name, venue.poll_interval_ms, venue.stale_after_ms, venue.symbols) for venue in header.venues
    ]
    books = {(one.book.venue, one.book.symbol) for one in told if type(one).__name__ == "Published"}
    assert {("okx", "BTC/USDT"), ("bitstamp", "BTC/USD"), ("bitstamp", "USDT/USD")} <= books


async def test_recording_is_served_as_it_was(recording, tmp_path):
    """
    The same venues quote through the same conversion, at the recording's time; every answer and the record say replay.
    """
    settings = replay_settings(recording, None, tmp_path, "1", {"IOB_SERVICE__PORT": "0"})
    async with running(settings, {}) as address:
        key = await key_for(settings, tmp_path / "ledger.db")
        path = "/quote?symbol=BTC/USDT&quantity=1"
        quote = await asked(address, key, path, until=lambda answer: len(live(answer)) == 2)
        order = {"symbol": "BTC/USDT", "side": "buy", "quantity": "1", "client_order_id": "a"}
        execution = await asked(address, key, "/execute", "POST", order)
        ready = await asked(address, key, "/v1/account")
        gone = await asked(address, key, "/v1/venues", until=all_stale)

    assert key.startswith("iob_test_")
    assert ("replay", ["okx", "bitstamp"]) == (quote["market_data"], live(quote))
    assert ("replay", "filled") == (execution["market_data"], execution["status"])
    assert {"BTC", "USDT", "USD"} == ready["balances"].keys()
    assert [100, 100] == [venue["poll_interval_ms"] for venue in gone["venues"]]
    with Recording(recording) as opened:
        began = opened.header.started_at.isoformat()[:16]
    assert quote["created_at"][:15] == began[:15]


async def test_replay_tells_prometheus_what_it_plays(recording, tmp_path):
    """
    Venues are replayed, books are measured at the recording's time, and what is converted has its own symbol taken.
    """
    port = free_port()
    env = {"IOB_SERVICE__PORT": "0", "IOB_METRICS__PORT": str(port)}
    settings = replay_settings(recording, None, tmp_path, "1", env)
    async with running(settings, {}), aiohttp.ClientSession() as prometheus:

        async def told():
            async with prometheus.get(f"http://127.0.0.1:{port}/metrics") as answer:
                return samples(await answer.text())

        deadline = time.monotonic() + WITHIN_S
        while 2 != (found := await told())[series("iob_book_venues_live", symbol="BTC/USDT")]:
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    assert 1 == found[series("iob_venue_enabled", venue="okx", transport="replay")]
    assert 1 <= found[series("iob_venue_books_accepted_total", venue="okx")]
    assert 0 <= found[series("iob_venue_book_age_seconds", venue="bitstamp", symbol="BTC/USDT")] < 3
    assert 0 == found[series("iob_taken_quantity", venue="bitstamp", symbol="BTC/USD", side="buy")]
    assert 0 == found[series("iob_venue_poll_duration_seconds_count", venue="okx")]
    assert [one for one in found if one.startswith("iob_build_info") and "market_data=replay" in one]


def all_stale(answer):
    return {"stale"} == {venue["state"] for venue in answer["venues"]}


@pytest.mark.parametrize("replayed_first", [True, False])
async def test_ledger_of_one_mode_refuses_the_other(recording, tmp_path, settings_file, replayed_first):
    """
    Fills at recorded prices never stand among others: neither ledger opens in the other's mode.
    """
    simulated = load_settings(settings_file.write(), {})
    replay = replay_settings(recording, None, tmp_path, None, {"IOB_SERVICE__PORT": "0"})
    other = replay.model_copy(update={"ledger": simulated.ledger})
    if replayed_first:
        async with running(replay, {}):
            pass
        other = simulated.model_copy(update={"ledger": replay.ledger})

    with pytest.raises(ConfigError, match=r"was made under service.mode '\w+' and does not open under '\w+'"):
        async with running(other, {}):
            pass


async def test_settings_choose_what_is_played(recording, tmp_path):
    """
    A settings file of one's own may leave venues out, and set other numbers than were recorded.
    """
    file = tmp_path / "mine.toml"
    file.write_text(
        '[service]\nport = 0\n[market]\nsymbols = ["USDT/USD"]\n[replay]\nspeed = 20\n'
        '[venues.bitstamp]\ntransport = "replay"\ntaker_fee_bps = 1\n'
    )
    settings = replay_settings(recording, file, tmp_path, None, {})
    async with running(settings, {}) as address:
        key = await key_for(settings, tmp_path / "ledger.db")
        venues = await asked(address, key, "/v1/venues", until=lambda answer: answer["venues"][0]["accepted"])

    assert (20, ["bitstamp"]) == (settings.replay.speed, [venue["venue"] for venue in venues["venues"]])
    assert "1" == venues["venues"][0]["taker_fee_bps"]


async def test_recording_that_cannot_be_played_stops_the_start(recording, tmp_path):
    """
    A file that is none, a venue that it does not have: each is a sentence about its key.
    """
    text = f'[service]\nmode = "replay"\nport = 0\n[market]\nsymbols = ["BTC/USDT"]\n[replay]\nfile = "{recording}"\n'
    file = tmp_path / "mine.toml"
    for venue, change, expected in (
        ("kraken", str, "venues.kraken: is not in the recording, which has okx, bitstamp"),
        ("okx", lambda text: text.replace(recording.name, "gone.rec"), "replay.file: .*gone.rec cannot be read"),
        ("okx", lambda text: text.replace(str(recording), str(file)), "replay.file: .*mine.toml cannot be replayed"),
    ):
        file.write_text(change(text) + f'[venues.{venue}]\ntransport = "replay"\n')
        with pytest.raises(ConfigError, match=expected):
            async with running(load_settings(file, {}), {}):
                pass


async def test_file_that_cannot_be_recorded_to_stops_the_start(tmp_path, settings_file):
    """
    Who asks for a recording is told at the start that there will be none.
    """
    settings = load_settings(settings_file.write(tmp_path / "missing" / "books.rec"), {})

    with pytest.raises(ConfigError, match=r"recording.file: .*cannot be written: No such file"):
        async with running(settings, {}):
            pass


def test_record_command_records_for_some_seconds(tmp_path, settings_file, capsys):
    """
    The command tells a person what it did; the file is whole, and is not written over by the next one.
    """
    file = tmp_path / "books.rec"
    command = ["record", str(file), "--settings", str(settings_file.path), "--for", "1"]

    assert 0 == main(command)
    told = capsys.readouterr().err
    assert re.search(r"recording to \S+books.rec; Ctrl-C ends it\n\d+ books of 3 symbols, [\d.]+ MB: closed\n$", told)
    with Recording(file) as recorded:
        *_, (_, end) = recorded
    assert Ended(CLOSED) == end
    assert 2 == main(command)
    assert f"{file} is there already; name another file, or remove it\n" == capsys.readouterr().err


def test_record_command_tells_how_far_it_is(tmp_path, settings_file, capsys, monkeypatch):
    """
    Who watches sees the recording grow.
    """
    monkeypatch.setattr("service.recording.TELL_EVERY_S", 0.3)
    assert 0 == main(["record", str(tmp_path / "a.rec"), "--settings", str(settings_file.path), "--for", "1"])

    assert 3 <= len(re.findall(r"^\d+ books of", capsys.readouterr().err, re.MULTILINE))


def test_record_command_ends_with_the_disk(settings_file):
    """
    A full disk ends the command with its reason and the status of a refusal.
    """
    done = run("record", "/dev/full", "--settings", settings_file.path)

    assert 1 == done.returncode
    assert done.stderr.endswith(" symbols, 0.0 MB: No space left on device\n")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda text: text.replace('"BTC/USDT"', '"NOT/THERE"', 1), r"market.symbols: no venue trades 'NOT/THERE'"),
        (lambda text: text.replace("rate_limit_ms = 0", "rate_limit_ms = 900"), "venues.bitstamp.stale_after_ms"),
    ],
)
def test_record_command_refuses_settings_that_cannot_work(tmp_path, settings_file, capsys, change, expected):
    """
    The feeds are the service's: what stops the one stops the other, and leaves no connection behind.
    """
    settings_file.path.write_text(change(settings_file.path.read_text()).replace('{ "BTC/USDT" = "BTC/USD" }', "{}"))

    assert 2 == main(["record", str(tmp_path / "a.rec"), "--settings", str(settings_file.path)])
    assert expected in capsys.readouterr().err


async def test_replay_is_not_recorded_by_the_command(recording, tmp_path):
    """
    What is played has been recorded already.
    """
    file = tmp_path / "mine.toml"
    file.write_text(
        f'[service]\nmode = "replay"\n[market]\nsymbols = ["BTC/USDT"]\n[replay]\nfile = "{recording}"\n'
        '[venues.okx]\ntransport = "replay"\n'
    )
    done = await asyncio.to_thread(run, "record", tmp_path / "b.rec", "--settings", file)

    assert (2, 'service.mode: is "replay"; what is played has been recorded already\n') == (
        done.returncode,
        done.stderr,
    )


def run(*words):
    env = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
    command = [sys.executable, "-m", "service", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=40, check=False)


def test_replay_command_refuses_what_is_no_recording(tmp_path, capsys):
    """
    A missing file, another kind of file, or a speed that cannot be is one sentence.
    """
    other = tmp_path / "other.rec"
    other.write_text("{}")

    for file, expected in (
        (tmp_path / "gone.rec", "gone.rec cannot be read: No such file or directory\n"),
        (other, "other.rec cannot be replayed: it is no recording\n"),
    ):
        assert 2 == main(["replay", str(file)])
        assert capsys.readouterr().err.endswith(expected)


async def test_replay_speed_is_checked(recording, tmp_path):
    """
    A speed out of range is refused with the range.
    """
    with pytest.raises(ConfigError, match=r"replay.speed: must be a number from 0.01 to 1000 with at most 6 decimals"):
        replay_settings(recording, None, tmp_path, "0", {})


def test_seconds_to_record_are_checked(capsys):
    """
    Usage is explained.
    """
    for seconds in ("0", "1.5", "x"):
        with pytest.raises(SystemExit, match="2"):
            main(["record", "a.rec", "--for", seconds])
        assert "seconds are a whole number from 1 to 999999999" in capsys.readouterr().err


def told_by(process, pattern):
    """Read what a process says on its standard error until it has said this."""
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"it ended without saying {pattern}")


def test_recorded_until_interrupted_and_replayed(tmp_path, settings_file):
    """
    Ctrl-C ends a recording whole; replaying it prints an address, a key and a curl, and keeps to its folder.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("IOB_")}
    started = {"cwd": ROOT, "env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    file, data = tmp_path / "books.rec", tmp_path / "data"
    command = [sys.executable, "-m", "service", "record", file, "--settings", settings_file.path]
    with subprocess.Popen(command, **started) as recording:
        told_by(recording, r"(Ctrl-C)")
        deadline = time.monotonic() + WITHIN_S
        while file.stat().st_size < 6_000 and time.monotonic() < deadline:
            time.sleep(0.05)
        recording.send_signal(signal.SIGINT)
        assert "closed" in recording.communicate(timeout=WITHIN_S)[1]
    assert 0 == recording.returncode

    with subprocess.Popen(
        [sys.executable, "-m", "service", "replay", file, "--data", data, "--port", "0", "--speed", "1"], **started
    ) as replay:
        address = told_by(replay, r"internal order book on (\S+) .*recorded prices, mock execution")
        key = told_by(replay, r"API key: (iob_test_\w+)")
        curl = told_by(replay, r"'(http://\S+)'")
        answer = asyncio.run(asked(curl.partition("/quote")[0], key, "/quote" + curl.partition("/quote")[2]))
        replay.send_signal(signal.SIGTERM)
        replay.communicate(timeout=WITHIN_S)

    assert (0, "replay") == (replay.returncode, answer["market_data"])
    assert curl.startswith(f"{address}/quote?symbol=BTC/USDT")
    assert {"ledger.db", "api-key", "admin-key"} <= {path.name for path in data.iterdir()}
