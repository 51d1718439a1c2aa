"""``internal-orderbook ledger backup``: a copy of one moment, whoever writes meanwhile, that a service can start on."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.__main__ import main
from service.errors import ConfigError
from service.keys import KeyRing, load_pepper
from service.ledger import backup as backing_up
from service.ledger.backup import back_up
from service.ledger.sqlite import SqliteLedger
from service.progress import Progress
from tests.ledger.ledger_cases import NOON, money

pytestmark = pytest.mark.usefixtures("logging_as_before")

STARTING = {"USDT": money(5), "BTC": money(1)}


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    for name in ("IOB_PEPPER", "IOB_PEPPER_FILE", "IOB_LEDGER__URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def settings(tmp_path):
    return settings_of(tmp_path)


def settings_of(folder):
    file = folder / "settings.toml"
    file.write_text(
        f'[market]\nsymbols = ["BTC/USDT"]\n[venues.kraken]\n[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n'
    )
    return file


@pytest.fixture
def server(tmp_path, settings):
    """A server that has a ledger with two accounts open; gives how a key is added there."""
    with asyncio.Runner() as runner:
        ledger = SqliteLedger.open(tmp_path / "ledger.db", "live", STARTING)
        for account in ("alice", "bob"):
            runner.run(ledger.open_account(account, NOON))
        yield lambda key: runner.run(ledger.add_key(key))
        runner.run(ledger.close())


@pytest.fixture
def ledger(tmp_path, server):
    """Its file."""
    return tmp_path / "ledger.db"


def back_up_by_command(settings, file):
    return main(["ledger", "backup", str(file), "--settings", str(settings)])


def change(path, statement):
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute(statement)
        connection.commit()


class Watcher(Progress):
    """Does something whenever pages have been copied."""

    def __init__(self, told):
        super().__init__("copying")
        self._told = told

    def tell(self, done=None, total=None, *, doing=None):
        if doing is None:
            self._told(done)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def count(path, table):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_backup_beside_a_server_is_whole_proved_and_nobody_elses(ledger, settings, tmp_path, capsys):
    """
    One file that needs no other, what is in it said on stderr, and nothing left over beside it.
    """
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert 0 == back_up_by_command(settings, elsewhere / "copy.db")

    out, err = capsys.readouterr()
    assert ("", True) == (out, "2 rows, 0 executions, 8 entries; the journal's head is 2 " in err)
    assert ["copy.db"] == names(elsewhere)
    assert 0o600 == stat.S_IMODE((elsewhere / "copy.db").stat().st_mode)
    assert 1 == (elsewhere / "copy.db").stat().st_nlink


def test_backup_is_of_one_moment_whatever_is_committed_meanwhile(ledger, tmp_path, monkeypatch):
    """
    Commits go through while it is being made, and it holds none of them: it neither begins anew nor mixes two moments.
    """
    monkeypatch.setattr(backing_up, "_PAGES_AT_ONCE", 1)
    change(ledger, "CREATE TABLE more (n INTEGER, blob BLOB)")
    steps = []

    def write(pages):
        steps.append(pages)
        if len(steps) <= 20:
            change(ledger, "INSERT INTO more VALUES (1, zeroblob(10000))")

    back_up(ledger, tmp_path / "copy.db", Watcher(write))

    assert (20, 0) == (count(ledger, "more"), count(tmp_path / "copy.db", "more"))
    assert sorted(set(steps)) == steps


def test_keys_work_on_what_was_restored(server, settings, tmp_path, capsys):
    """
    The pepper that the service made goes along: the copies, put into another folder, know the same key.
    """
    pepper = load_pepper({}, tmp_path / "ledger.db").secret
    text, key = KeyRing(pepper, "live").make("alice", ["quote"], datetime.now(UTC))
    server(key)

    assert 0 == back_up_by_command(settings, tmp_path / "copy.db")
    assert "copy.db.pepper: the pepper, without which no key works" in capsys.readouterr().err
    assert 0o600 == stat.S_IMODE((tmp_path / "copy.db.pepper").stat().st_mode)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "copy.db").rename(elsewhere / "ledger.db")
    (tmp_path / "copy.db.pepper").rename(elsewhere / "pepper")
    assert 0 == main(["ledger", "verify", "--settings", str(settings_of(elsewhere))])
    ring = KeyRing(load_pepper({}, elsewhere / "ledger.db").secret, "live")
    with asyncio.Runner() as runner:
        restored = SqliteLedger.open(elsewhere / "ledger.db", "live", STARTING)
        ring.hold(runner.run(restored.keys()))
        runner.run(restored.close())
    assert "alice" == ring.check(text).account


def test_pepper_that_was_given_stays_where_it_is(ledger, settings, tmp_path, capsys, monkeypatch):
    """
    What the environment gives is the operator's to keep, and the command says that it is not in the backup.
    """
    load_pepper({}, ledger)
    monkeypatch.setenv("IOB_PEPPER", "x" * 40)

    assert 0 == back_up_by_command(settings, tmp_path / "copy.db")
    assert "the pepper is not in it" in capsys.readouterr().err
    assert not (tmp_path / "copy.db.pepper").exists()


@pytest.mark.parametrize("taken", ["copy.db", "copy.db.pepper"])
def test_backup_overwrites_nothing(ledger, settings, tmp_path, capsys, taken):
    """
    A name that is taken, by the ledger's copy or the pepper's, is refused before anything is copied.
    """
    load_pepper({}, ledger)
    (tmp_path / taken).write_text("an earlier backup")
    before = names(tmp_path)

    assert 2 == back_up_by_command(settings, tmp_path / "copy.db")
    assert "overwrites nothing" in capsys.readouterr().err
    assert ("an earlier backup", before) == ((tmp_path / taken).read_text(), names(tmp_path))


def test_name_that_is_taken_meanwhile_is_left_alone(ledger, tmp_path):
    """
    Two backups to one name at once: the later one is refused and leaves nothing behind.
    """
    folder = tmp_path / "copies"
    folder.mkdir()

    def taken_meanwhile(pages):
        (folder / "copy.db").write_text("the other one")

    with pytest.raises(ConfigError, match="File exists"):
        back_up(ledger, folder / "copy.db", Watcher(taken_meanwhile), b"x" * 40)
    assert (["copy.db"], "the other one") == (names(folder), (folder / "copy.db").read_text())


def test_backup_goes_to_a_file_system_without_links_as_well(ledger, tmp_path, monkeypatch):
    """
    A share or a stick may know no second name for a file; the copy has its one name there all the same.
    """

    def no_links(path, other):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    folder = tmp_path / "copies"
    folder.mkdir()

    back_up(ledger, folder / "copy.db", Watcher(lambda pages: None))
    assert ["copy.db"] == names(folder)

    with pytest.raises(ConfigError, match="File exists"):
        back_up(ledger, folder / "other.db", Watcher(lambda pages: (folder / "other.db").touch()))
    assert (["copy.db", "other.db"], 0) == (names(folder), (folder / "other.db").stat().st_size)


def test_copy_that_breaks_off_leaves_nothing(ledger, tmp_path):
    """
    Whoever interrupts a backup finds no file that could be taken for one.
    """
    folder = tmp_path / "copies"
    folder.mkdir()

    def interrupted(pages):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(ledger, folder / "copy.db", Watcher(interrupted), b"x" * 40)
    assert [] == names(folder)


def test_copy_of_a_record_that_was_edited_is_kept_and_told(ledger, settings, tmp_path, capsys):
    """
    Exit status 1 and a sentence per fault: the copy is as good as the record, and the earlier ones may be better.
    """
    change(ledger, "UPDATE entries SET amount = amount + 1 WHERE seq = 2 AND n = 0")

    assert 1 == back_up_by_command(settings, tmp_path / "copy.db")
    assert capsys.readouterr().out.startswith("journal row 2 (account of bob) does not match")
    assert (tmp_path / "copy.db").exists()


@pytest.mark.parametrize(("statement", "said"), [
    # To SQLite itself neither is a fault.
    ("UPDATE journal SET account = CAST(x'ff' AS TEXT) WHERE seq = 2", "the copy cannot be read: Could not decode"),
    ("DROP TABLE turnover", None),
    ("DROP TABLE fills", "the copy cannot be read: no such table: fills"),
    ("DELETE FROM ledger", "the ledger's own row is missing"),
    ("UPDATE entries SET amount = 'much' WHERE seq = 2 AND n = 0", "journal row 2 (account of bob) does not match"),
])  # fmt: skip
def test_copy_of_a_record_that_cannot_be_read_is_kept_and_told(ledger, settings, tmp_path, capsys, statement, said):
    """
    What is left of a record is worth a copy above all when some of it cannot be read any more.
    """
    change(ledger, statement)

    assert (1 if said else 0) == back_up_by_command(settings, tmp_path / "copy.db")
    assert capsys.readouterr().out.startswith(said or "")
    assert (tmp_path / "copy.db").exists()


def test_pepper_that_cannot_be_written_leaves_nothing(ledger, tmp_path, monkeypatch):
    """
    A disk that is full at the very end leaves no half of a pepper, which would keep the name from the next backup.
    """
    folder = tmp_path / "copies"
    folder.mkdir()
    synced = os.fsync

    def full(descriptor):
        if str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith(".pepper"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(ConfigError, match="No space left"):
        back_up(ledger, folder / "copy.db", Watcher(lambda pages: None), b"x" * 40)
    assert [] == names(folder)


def test_ledger_of_another_version_is_copied_as_it_is(ledger, settings, tmp_path, capsys):
    """
    Whoever has installed a new version can still back up what the old one has left.
    """
    change(ledger, "UPDATE alembic_version SET version_num = '0002'")

    assert 0 == back_up_by_command(settings, tmp_path / "copy.db")
    assert "only that can prove the copy" in capsys.readouterr().err
    with closing(sqlite3.connect(tmp_path / "copy.db")) as connection:
        assert [("0002",)] == connection.execute("SELECT version_num FROM alembic_version").fetchall()


def test_folder_that_is_not_there_is_told(ledger, settings, tmp_path, capsys):
    """
    Nothing is made for a name that may be a slip.
    """
    assert 2 == back_up_by_command(settings, tmp_path / "missing" / "copy.db")
    assert "No such file or directory" in capsys.readouterr().err


def test_ledger_that_is_not_there_is_told(settings, tmp_path, capsys):
    """
    No empty ledger is made, copied or left behind.
    """
    assert 2 == back_up_by_command(settings, tmp_path / "copy.db")
    assert "is not there" in capsys.readouterr().err
    assert ["settings.toml"] == names(tmp_path)


def test_postgresql_is_left_to_its_own_tools_and_no_password_is_shown(settings, tmp_path, capsys, monkeypatch):
    """
    Usage: the commands to copy it and to bring it back, with neither user nor password.
    """
    monkeypatch.setenv("IOB_LEDGER__URL", "postgresql://iob:hunter2@db.example/orders")

    assert 2 == back_up_by_command(settings, tmp_path / "copy.db")

    said = capsys.readouterr().err
    assert "--format=custom" in said and "pg_restore" in said and "--dbname=postgresql://db.example/orders" in said
    assert "hunter2" not in said
