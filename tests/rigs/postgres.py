"""A proxy before PostgreSQL that cuts connections at COMMIT, and a PostgreSQL server of one's own to restart."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import sqlalchemy as sa

from tests.rigs.ledgers import NotHere

BEFORE, AT, AFTER = "before", "at", "after"
_CHUNK_BYTES = 65_536


class Proxy:
    """Passes everything on, until it is told to cut."""

    def __init__(self, url: str) -> None:
        """Stand before the database that *url* names."""
        self._to = sa.make_url(url)
        self._mode: str | None = None
        self.cuts = 0
        self._server: asyncio.Server | None = None

    def cut(self, mode: str | None) -> None:
        """Cut the next connection that sends COMMIT: before that arrives, as it does, or after it was done."""
        self._mode = mode

    @property
    def armed(self) -> bool:
        """Tell whether it has still to cut."""
        return self._mode is not None

    @property
    def url(self) -> str:
        """Give the database's address through here."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        through = self._to.set(host="127.0.0.1", port=port).update_query_dict({"sslmode": "disable"})
        return through.render_as_string(hide_password=False)

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[Proxy]:
        """Pass on for as long as the context lasts."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._to.host or "127.0.0.1", self._to.port or 5432
        there_reader, there_writer = await asyncio.open_connection(host, port)
        answers = asyncio.create_task(_pump(there_reader, writer))
        try:
            while data := await reader.read(_CHUNK_BYTES):
                if b"COMMIT" in data and self._mode is not None:
                    mode, self._mode = self._mode, None
                    self.cuts += 1
                    if mode == AFTER:
                        await _ended(answers)
                    if mode != BEFORE:
                        there_writer.write(data)
                        await there_writer.drain()
                    if mode == AFTER:
                        await there_reader.read(_CHUNK_BYTES)
                    break
                there_writer.write(data)
                await there_writer.drain()
        except OSError:
            pass
        finally:
            answers.cancel()
            _reset(writer)
            _reset(there_writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, as a connection that breaks."""
    end = writer.get_extra_info("socket")
    if end is not None and end.fileno() >= 0:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class PrivateServer:
    """A PostgreSQL server that nobody else uses."""

    def __init__(self, programs: Path, folder: Path, port: int) -> None:
        """Know where it is."""
        self._programs = programs
        self._folder = folder
        self._port = port

    @property
    def url(self) -> str:
        """Give the address of its first database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of its programs, as somebody who is not root."""
        other = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        with (self._folder / "said").open("ab") as said:
            subprocess.run(
                [self._programs / program, *arguments], cwd=self._folder, stdout=said, stderr=said, check=True, **other
            )

    def control(self, *verb: str) -> None:
        """Start, stop or restart it, and wait for that."""
        options = f"-p {self._port} -k {self._folder} -c listen_addresses=127.0.0.1"
        self.run("pg_ctl", "-D", f"{self._folder}/data", "-w", "-l", f"{self._folder}/log", "-o", options, *verb)

    def restart(self) -> None:
        """Let it end at once, as in a crash, and start again."""
        self.control("-m", "immediate", "restart")


@contextmanager
def private_server() -> Iterator[PrivateServer]:
    """
    Make a server, and remove it afterwards.

    Raises:
        NotHere: If PostgreSQL's programs are not there, or nobody but root is.
    """
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="iob-rig-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            try:
                shutil.chown(folder, "postgres", "postgres")
            except LookupError:
                raise NotHere(f"PostgreSQL does not run as {getpass.getuser()}, and no user postgres") from None
        server = PrivateServer(programs, folder, _free_port())
        server.run("initdb", "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "--no-sync")
        server.control("start")
        try:
            yield server
        finally:
            server.control("-m", "immediate", "stop")


def _programs() -> Path:
    found = [Path(shutil.which("initdb") or "/nowhere"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    for initdb in found:
        if initdb.exists():
            return initdb.parent
    raise NotHere("no initdb")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
