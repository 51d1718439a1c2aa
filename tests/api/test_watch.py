"""``internal-orderbook watch`` with the real service: in a terminal, once, and for a program."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from service.__main__ import main
from tests.api.conftest import LADDERS
from tests.api.streaming import eventually

ROOT = Path(__file__).parents[2]
WITHIN_S = 60
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-8][;m]")
CURSOR_BACK, SCREEN_BACK = "\x1b[?25h", "\x1b[?1049l"


# In a terminal


class Terminal:
    """A command in a terminal of its own, and what stands there."""

    def __init__(self, arguments, width, height, **variables):
        self.master, slave = os.openpty()
        self.resize(width, height)
        self.modes = termios.tcgetattr(self.master)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("IOB_", "NO_COLOR"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            env=environment | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)} | variables,
            preexec_fn=partial(os.login_tty, slave),
        )
        os.close(slave)
        self.written = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # A read may end within a character.
        os.set_blocking(self.master, False)
        asyncio.get_running_loop().add_reader(self.master, self._read)

    def _read(self):
        try:
            data = os.read(self.master, 65_536)
        except OSError:  # Linux says so where nobody has the other end any more.
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.master)
        self.written += self._decoder.decode(data)

    def resize(self, width, height):
        self.height = height
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def lines(self):
        """Give what stands on the screen, as it was last wiped and written line by line."""
        rows = {}
        for row, text in re.findall(
            r"\x1b\[(\d+);1H([^\n]*?)(?=\x1b\[\d+;1H|$)", self.written.rpartition("\x1b[2J")[2]
        ):
            rows[int(row)] = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rstrip()
        return [rows.get(row, "") for row in range(1, self.height + 1)]

    async def until(self, *texts):
        """Wait until all these stand there; give the lines."""
        async with asyncio.timeout(WITHIN_S):
            while not all(any(text in line for line in self.lines()) for text in texts):
                assert self.process.poll() is None, self.written
                await asyncio.sleep(0.02)
        return self.lines()

    async def end(self):
        """Wait for the end; give the exit status."""
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.to_thread(self.process.wait)

    def close(self):
        asyncio.get_running_loop().remove_reader(self.master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)


@asynccontextmanager
async def terminal(*arguments, width=90, height=24, **variables):
    opened = Terminal(arguments, width, height, **variables)
    try:
        yield opened
    finally:
        opened.close()


class Wire:
    """Stands between a client and the service, and can be cut."""

    def __init__(self, host, port):
        self._service = host, port
        self._server, self._tasks = None, set()
        self.port = 0

    async def connect(self):
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self):
        """Be gone: nobody listens any more, and what was open is closed."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        there_reader, there_writer = await asyncio.open_connection(*self._service)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, there_writer))
                both.create_task(_copy(there_reader, writer))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            there_writer.close()
            self._tasks.discard(asyncio.current_task())


async def _copy(reader, writer):
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.fixture
async def wire(house):
    wire = Wire(house.client.host, house.client.port)
    await wire.connect()
    yield wire
    await wire.cut()


async def test_terminal_shows_the_book_as_it_is(house, wire):
    """
    It appears, follows the book and the terminal's size, whatever COLUMNS says, tells that it is stale while the
    service is away, comes back by itself, and leaves the terminal as it was.
    """
    variables = {"IOB_URL": f"http://127.0.0.1:{wire.port}", "IOB_API_KEY": house.keys["all"]}
    variables |= {"COLUMNS": "80", "LINES": "24"}
    async with terminal("watch", "BTC/USDT", "--view", "gross", "--quantity", "0.1", **variables) as shown:
        lines = await shown.until("64009", "mid 64005.25", "● kraken", "buy  0.1 BTC at ")
        assert "BTC/USDT  live prices, mock execution" == lines[0]
        assert COLOUR.search(shown.written)
        assert any(re.match(r"64009\.00 +0\.100\d* █+ +okx", line) for line in lines)

        house.show(LADDERS | {("okx", "BTC/USDT"): ".     64007.5   0.7\n0.05  63999  ."})
        await shown.until("64007.50", "mid 64004.5")

        shown.resize(40, 16)
        lines = await shown.until("64007.50", "● okx")
        assert 40 >= max(map(len, lines))

        await wire.cut()
        await shown.until(" STALE for ", "? kraken")
        house.show()
        await wire.connect()
        await shown.until("updated ", "64009.00", "● kraken")

        os.write(shown.master, b"\x03")
        assert 0 == await shown.end()
        assert shown.written.rindex(CURSOR_BACK) < shown.written.rindex(SCREEN_BACK)
        assert shown.modes == termios.tcgetattr(shown.master)


async def test_terminal_is_given_back_before_a_refusal_is_told(house):
    """
    A key that is refused while it is watched ends it, with the reason where it can be read.
    """
    url = f"http://{house.client.host}:{house.client.port}"
    variables = {"IOB_URL": url, "IOB_API_KEY": house.keys["bob"], "NO_COLOR": "1"}
    async with terminal("watch", "BTC/USDT", **variables) as shown:
        await shown.until("● kraken")
        assert not COLOUR.search(shown.written)

        house.ring.drop(house.ring.check(house.keys["bob"]).key_id)

        assert 1 == await shown.end()
        await eventually(lambda: "unauthenticated: " in shown.written.rpartition(SCREEN_BACK)[2])


# Once, and for a program


@pytest.fixture
async def command(house, monkeypatch, capsys):
    """Ask the house; gives the status and what was said."""
    monkeypatch.setenv("IOB_URL", f"http://{house.client.host}:{house.client.port}")
    monkeypatch.setenv("IOB_API_KEY", house.keys["all"])
    monkeypatch.setenv("COLUMNS", "90")

    async def run(*arguments):
        status = await asyncio.to_thread(main, ["watch", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


async def test_one_frame_is_plain_where_it_is_no_terminal(house, command):
    """
    ``--once`` prints the ladder as it is, without control codes; where there is no price, the reasons, with status 1.
    """
    status, out, err = await command("btc-usdt", "--once", "--depth", "2")
    assert (0, "") == (status, err)
    assert "\x1b" not in out and out.startswith("BTC/USDT  live prices, mock execution\n")
    assert 13 == len(out.splitlines()) and "mid 64005.25" in out and "● coinbase live" in out

    house.clock.advance(60_000)
    status, out, err = await command("BTC/USDT", "--once")
    assert (1, "") == (status, err)
    assert " NO PRICE  no_fresh_market_data" in out and "○ kraken" in out


async def test_program_is_given_each_update_on_a_line(house, command):
    """
    ``--json`` prints what the stream tells, as it comes; ``--once`` the first of each.
    """
    status, out, err = await command("BTC/USDT", "--json", "--once", "--depth", "1", "--quantity", "1")

    assert (0, "") == (status, err)
    frames = [json.loads(line) for line in out.splitlines()]
    assert {"book", "venues", "quote"} == {frame["channel"] for frame in frames}
    assert [1] == [len(frame["data"]["asks"]) for frame in frames if frame["channel"] == "book"]


@pytest.mark.parametrize(
    ("arguments", "key", "expected", "told"),
    [
        (["BTX/USDT", "--once"], "all", 1, "/symbol: is not served (BTC/USDT?)"),
        (["BTC/USDT", "--once"], "revoked", 1, "unauthenticated: "),
        (["BTC/USDT", "--once"], "account", 1, "insufficient_scope: "),
        (["BTC/USDT", "--once", "--quantity", "x"], "all", 1, "invalid_parameter: "),
        (["BTC/USDT", "--once", "--url", "http://127.0.0.1:9"], "all", 2, "no service answers on http://127.0.0.1:9 "),
    ],
)  # fmt: skip
async def test_what_cannot_be_watched_is_explained(house, command, monkeypatch, arguments, key, expected, told):
    """
    What is refused ends with the service's own words and the status of the other commands.
    """
    monkeypatch.setenv("IOB_API_KEY", house.keys[key])

    status, out, err = await command(*arguments)

    assert (expected, "") == (status, out)
    assert told in err


async def test_pipe_is_told_what_to_ask_for(command, capsys):
    """
    Where there is no terminal to draw on, it says how to get frames or lines.
    """
    with pytest.raises(SystemExit, match="2"):
        await command("BTC/USDT")

    assert "stdout is no terminal: add --once for one frame, or --json" in capsys.readouterr().err
