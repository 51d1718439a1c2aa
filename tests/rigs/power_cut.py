"""Cut the power: trace what SQLite writes and syncs, and open what a disk may hold that lost everything unsynced.

``strace`` writes down every write and sync, and the acknowledgements among them, in one order.  A cut keeps what was
synced before it and any part of the rest, by sectors.  ``python -m tests.rigs.power_cut URL COUNT FAULT`` is traced.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from exchanges.book import Side, units
from service import logs
from service.api.handlers import API
from service.desk.orders import DirectOrder, Order
from service.keys import KeyRing
from service.ledger.opening import open_ledger, reading_ledger
from service.ledger.verify import verify
from service.pricing.bounds import Ask
from tests.rigs.faults import FAULTS
from tests.rigs.ledgers import NotHere, database
from tests.rigs.server import ACCOUNTS, PEPPER, Setup, application

SECTOR_BYTES = 512
CALLERS = 3
_SYSCALLS = "pwrite64,write,ftruncate,fsync,fdatasync,unlink"
_WHOLE = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)")
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_FD = re.compile(r"^(\d+)(?:<([^>]*)>)?")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Event(NamedTuple):
    """
    Something that happened to a file, or an acknowledgement.

    Args:
        what: ``write``, ``truncate``, ``sync``, ``unlink`` or ``acknowledged``.
        number: The offset of a write; the length after truncating.
    """

    what: str
    name: str
    number: int = 0
    data: bytes = b""


@dataclass
class Disk:
    """What is on the disk for certain, and what was written since and may be."""

    synced: dict[str, bytearray]
    pending: dict[str, list[Event]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Let something happen."""
        if event.what == "sync":
            content = self.synced.setdefault(event.name, bytearray())
            for one in self.pending.pop(event.name, ()):
                _apply(content, one, one.data)
        elif event.what == "unlink":
            self.synced.pop(event.name, None)
            self.pending.pop(event.name, None)
        elif event.what != "acknowledged":
            self.pending.setdefault(event.name, []).append(event)

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Give files as they may be found: of what was not synced, any sectors."""
        found = {name: bytearray(content) for name, content in self.synced.items()}
        kept = chance.choice([0.0, 0.5, 0.9])
        for name, events in self.pending.items():
            content = found.setdefault(name, bytearray())
            for event in events:
                for start in range(0, len(event.data), SECTOR_BYTES) if event.what == "write" else (0,):
                    if chance.random() < kept:
                        part = event._replace(number=event.number + start)
                        _apply(content, part, event.data[start : start + SECTOR_BYTES])
        return {name: bytes(content) for name, content in found.items()}


def _apply(content: bytearray, event: Event, data: bytes) -> None:
    if event.what == "truncate":
        del content[event.number :]
        content.extend(bytes(event.number - len(content)))
        return
    content.extend(bytes(max(0, event.number - len(content))))
    content[event.number : event.number + len(data)] = data


async def power_cut(folder: Path, executes: int, cuts: int, *, fault: str | None = None) -> dict[str, Any]:
    """Cut the power at *cuts* points of a trace of *executes* orders; give figures, with ``ok``."""
    if shutil.which("strace") is None:
        raise NotHere("no strace")
    chance, trace = random.Random(1), folder / "trace"
    with database("sqlite", folder) as made:
        files = {made.path.name: bytearray(made.path.read_bytes())}
        await _traced(made.url, executes, fault, trace)
    disk, events = Disk(files), list(_events(trace, made.path))
    first = next(n for n, event in enumerate(events) if event.what == "acknowledged")
    points = sorted(chance.randrange(first, len(events) + 1) for _ in range(cuts))
    told: set[str] = set()
    lost, broken, cut_at = 0, 0, iter(points)
    wanted = next(cut_at, None)
    for n, event in enumerate([*events, None]):
        while wanted == n:
            missing, faults = _opened(folder / "cut", disk.after_a_cut(chance), told)
            lost += bool(missing)
            broken += bool(faults)
            wanted = next(cut_at, None)
        if event is not None:
            disk.take(event)
            if event.what == "acknowledged":
                told.add(event.name)
    syncs = sum(event.what == "sync" for event in events)
    return {
        "ok": not lost and not broken and len(told) == executes,
        "acknowledged": len(told),
        "cuts": cuts,
        "cuts_that_lost": lost,
        "cuts_that_broke": broken,
        "writes": sum(event.what == "write" for event in events),
        "syncs": syncs,
    }


def _opened(folder: Path, files: dict[str, bytes], told: set[str]) -> tuple[set[str], list[str]]:
    """Open what a cut has left; gives acknowledged orders that are missing, and what does not add up."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    url = f"sqlite:///{folder / 'ledger.db'}"
    with reading_ledger(Setup(url).settings()) as connection:
        if connection.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok":
            return set(), ["the database is damaged"]
        found = set(connection.exec_driver_sql("SELECT client_order_id FROM executions").scalars())
        return told - found, verify(connection).faults


async def _traced(url: str, executes: int, fault: str | None, trace: Path) -> None:
    program = [sys.executable, "-m", "tests.rigs.power_cut", url, str(executes), fault or ""]
    options = ["-f", "-y", "-xx", "-s", "10000000", "-o", str(trace), "-e", f"trace={_SYSCALLS}", "--seccomp-bpf"]
    process = await asyncio.create_subprocess_exec(
        "strace", *options, *program, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        if b"ptrace" in said:
            raise NotHere("no right to trace a process")
        raise RuntimeError(said.decode()[-2_000:])


def _events(trace: Path, path: Path) -> Iterator[Event]:
    """Read what happened to the database and its log, in the order of its ending."""
    begun: dict[str, tuple[str, str]] = {}
    with trace.open() as lines:
        for line in lines:
            if match := _WHOLE.match(line):
                _, call, arguments, result = match.groups()
            elif match := _BEGUN.match(line):
                begun[match[1]] = (match[2], match[3])
                continue
            elif match := _ENDED.match(line):
                call, before = begun.pop(match[1])
                arguments, result = before + match[3], match[4]
            else:
                continue
            if int(result) >= 0 and (event := _event(call, arguments, int(result), path)) is not None:
                yield event


def _event(call: str, arguments: str, result: int, path: Path) -> Event | None:
    if call == "unlink":
        name = Path(_text(arguments)).name
        return Event("unlink", name) if name.startswith(path.name) else None
    described = _FD.match(arguments)
    assert described
    number, shown = described.groups()
    if call == "write" and number == "1":
        return Event("acknowledged", _text(arguments).strip())
    name = Path(_unescaped(shown or "").decode(errors="replace")).name
    if name not in (path.name, f"{path.name}-wal", f"{path.name}-journal"):
        return None
    if call in ("fsync", "fdatasync"):
        return Event("sync", name)
    last = int(arguments.rpartition(",")[2])
    if call == "ftruncate":
        return Event("truncate", name, last)
    assert call == "pwrite64"
    found = _BYTES.search(arguments)
    assert found
    return Event("write", name, last, _unescaped(found[1])[:result])


def _text(arguments: str) -> str:
    found = _BYTES.search(arguments)
    assert found
    return _unescaped(found[1]).decode()


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


async def _execute(url: str, executes: int) -> None:
    """Be what is traced: execute, and tell of each order when it is acknowledged."""
    setup = Setup(url)
    ledger = open_ledger(setup.settings())
    desk, numbers = application(setup, ledger, KeyRing(PEPPER, "simulated"))[API].desk, iter(range(executes))

    async def caller() -> None:
        for number in numbers:
            terms = DirectOrder("BTC/USDT", Side.BUY, Ask(quantity=units(Decimal("0.01"))))
            order = Order(ACCOUNTS[number % len(ACCOUNTS)], f"order-{number}", bytes(32), terms)
            answer = await desk.execute(order)
            os.write(1, f"{order.client_order_id}\n".encode())
            assert answer.status == "filled"

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await ledger.close()


if __name__ == "__main__":
    logs.configure("json", "critical", sys.stderr.buffer)
    if sys.argv[3]:
        FAULTS[sys.argv[3]]()
    asyncio.run(_execute(sys.argv[1], int(sys.argv[2])))
