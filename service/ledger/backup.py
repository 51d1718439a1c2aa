"""Copy a SQLite ledger while a server has it open, and prove the copy.

The copy is the ledger as it was at one moment: a reading transaction is held from the first page to the last, so that
what is committed meanwhile neither gets into it nor makes it begin anew.  Readers of a WAL keep no writer waiting.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa

from service.errors import ConfigError
from service.ledger.sqlite import as_it_is
from service.ledger.verify import Report, verify
from service.ledger.versions import is_head
from service.progress import Progress

_PAGES_AT_ONCE = 256
"""A mebibyte, as SQLite's pages are 4 KiB."""
_PAUSE_S_MAX = 0.1


@dataclass(frozen=True, slots=True)
class Backup:
    """
    A copy that stands under its name.

    Args:
        faults: What SQLite itself finds wrong with it, in its words.
        report: What ``ledger verify`` finds; None where the copy is damaged or another version made the ledger.
    """

    path: Path
    size: int
    faults: tuple[str, ...]
    report: Report | None


def back_up(source: Path, target: Path, progress: Progress, companion: bytes | None = None) -> Backup:
    """
    Copy a ledger of any version to a file that only its owner may read.

    Args:
        progress: Told how many pages are copied.
        target: Must not be there yet; has this name once it is whole and on disk.
        companion: Put beside it under the same name and ``.pepper``, and there first.

    Raises:
        ConfigError: If there is no ledger, a name is taken, or the copy cannot be written.
    """
    beside = target.with_name(target.name + ".pepper")
    for name in (target, *([beside] if companion is not None else [])):
        if os.path.lexists(name):
            raise ConfigError([f"{name} is there already; a backup overwrites nothing"])
    try:
        with _unnamed(target) as unnamed:
            _copy(source, unnamed, progress)
            progress.tell(0, 0, doing="proving rows of the copy")
            faults, report = _prove(unnamed, progress)
            size = unnamed.stat().st_size
            with _beside(beside, companion):
                _name(unnamed, target)
            _sync(target.parent)
    except OSError as error:
        raise ConfigError([f"{target} cannot be written: {error.strerror}"]) from error
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        raise ConfigError([f"{source} cannot be copied to {target}: {getattr(error, 'orig', error)}"]) from error
    return Backup(target, size, faults, report)


@contextmanager
def _unnamed(target: Path) -> Iterator[Path]:
    """Give an empty file in the target's folder, and take it away at the end whatever has happened."""
    path = target.with_name(f"{target.name}.{secrets.token_hex(4)}.new")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _copy(source: Path, unnamed: Path, progress: Progress) -> None:
    """Copy as of now, and have it on disk; half of the time is left to the server, and to its own syncs."""
    with (
        as_it_is(source) as original,
        unnamed.open("rb+") as file,
        closing(sqlite3.connect(unnamed, isolation_level=None)) as copy,
    ):
        # Whoever finds a copy that was broken off finds it without its name: it needs no journal.
        copy.execute("PRAGMA journal_mode=OFF")
        copy.execute("PRAGMA synchronous=OFF")
        began_s = time.monotonic()

        def step(status: int, remaining: int, total: int) -> None:
            nonlocal began_s
            os.fdatasync(file.fileno())  # Piece by piece: one sync of all of it would hold up the server's.
            progress.tell(total - remaining, total)
            if remaining:
                time.sleep(min(time.monotonic() - began_s, _PAUSE_S_MAX))
            began_s = time.monotonic()

        original.backup(copy, pages=_PAGES_AT_ONCE, progress=step)
        # One file, complete in itself; whoever opens it as a ledger gives it its WAL.
        copy.execute("PRAGMA journal_mode=DELETE")
        copy.close()
        os.fsync(file.fileno())


def _prove(path: Path, progress: Progress) -> tuple[tuple[str, ...], Report | None]:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1", uri=True)

    engine = sa.create_engine("sqlite://", creator=connect, hide_parameters=True)
    try:
        with engine.connect() as connection:
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
            faults = tuple(found) if found != ["ok"] else ()
            return faults, (None if faults or not is_head(connection) else verify(connection, progress.tell))
    except sa.exc.DBAPIError as error:  # A text that is none, a table that is gone: to SQLite itself that is no fault.
        return (f"the copy cannot be read: {error.orig}",), None
    finally:
        engine.dispose()


@contextmanager
def _beside(path: Path, companion: bytes | None) -> Iterator[None]:
    """Put the companion there; it goes again, whole or not, if the copy does not get its name."""
    if companion is None:
        yield
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(companion)
            file.flush()
            os.fsync(file.fileno())
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _name(unnamed: Path, target: Path) -> None:
    """Give the copy its name, unless somebody has taken that meanwhile."""
    try:
        target.hardlink_to(unnamed)
    except FileExistsError:
        raise
    except OSError as error:  # A file system without links, as those of shares and of sticks.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        unnamed.rename(target)


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
