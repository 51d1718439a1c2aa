"""``internal-orderbook ledger verify``: on a ledger that nobody has open, and beside a server that has."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from service.__main__ import main
from service.ledger.sqlite import SqliteLedger
from tests.ledger.ledger_cases import NOON, money

pytestmark = pytest.mark.usefixtures("logging_as_before")

STARTING = {"USDT": money(5), "BTC": money(1)}


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text(
        f'[market]\nsymbols = ["BTC/USDT"]\n[venues.kraken]\n[ledger]\nurl = "sqlite:///{tmp_path}/ledger.db"\n'
    )
    return file


@pytest.fixture
def ledger(tmp_path, settings):
    """A ledger with two accounts, closed."""

    async def fill():
        ledger = SqliteLedger.open(tmp_path / "ledger.db", "live", STARTING)
        await ledger.open_account("alice", NOON)
        await ledger.open_account("bob", NOON)
        await ledger.close()

    asyncio.run(fill())
    return tmp_path / "ledger.db"


def change(path, statement):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def verify(settings, *more):
    return main(["ledger", "verify", "--settings", str(settings), *more])


def test_sound_ledger_is_told_with_its_head(ledger, settings, capsys):
    """
    Nothing on stdout, the counts and the head for a person, exit status 0.
    """
    assert 0 == verify(settings)

    out, err = capsys.readouterr()
    assert "" == out
    assert err.startswith("2 rows, 0 executions, 8 entries; the journal's head is 2 ")


def test_first_bad_row_is_named_and_the_exit_status_is_1(ledger, settings, capsys):
    """
    One sentence per fault on stdout.
    """
    change(ledger, "UPDATE entries SET amount = amount + 1 WHERE seq = 2 AND n = 0")

    assert 1 == verify(settings)
    assert capsys.readouterr().out.startswith("journal row 2 (account of bob) does not match")


def test_ledger_is_proved_beside_the_server_that_has_it_open(ledger, settings, capsys):
    """
    Reading needs no lock and disturbs no writer; writing balances anew needs the ledger for itself.
    """
    open_elsewhere = SqliteLedger.open(ledger, "live", STARTING)
    try:
        assert 0 == verify(settings)
        assert 2 == verify(settings, "--rebuild")
        assert "another process has" in capsys.readouterr().err
    finally:
        asyncio.run(open_elsewhere.close())


def test_balances_are_rebuilt(ledger, settings):
    """
    Balances that were changed come back to what their entries say.
    """
    change(ledger, "UPDATE balances SET total = 7")
    assert 1 == verify(settings)

    assert 0 == verify(settings, "--rebuild")
    assert 0 == verify(settings)


@pytest.mark.parametrize(("prepare", "said"), [
    (lambda path: path.unlink(), "is not there"),
    (lambda path: path.write_bytes(b"no database at all"), "is not a SQLite database"),
    (lambda path: change(path, "UPDATE alembic_version SET version_num = '0002'"), "another version"),
])  # fmt: skip
def test_what_is_no_ledger_of_this_version_is_refused(ledger, settings, capsys, prepare, said):
    """
    Nothing is made, moved forward or guessed.
    """
    prepare(ledger)

    assert 2 == verify(settings)
    assert said in capsys.readouterr().err
