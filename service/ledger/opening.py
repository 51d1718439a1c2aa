"""Open the ledger that the settings name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from service.accounting import MONEY_SCALE
from service.ledger.sql import SqlLedger
from service.ledger.sqlite import SqliteLedger, reading
from service.settings import Settings

_SQLITE = "sqlite:///"


def ledger_path(settings: Settings) -> Path | None:
    """Give the file that one process owns, or None where the ledger is a database that many may share."""
    url = settings.ledger.url
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def starting_balances(settings: Settings) -> dict[str, int]:
    """Give what a new account begins with, by asset; whole numbers of 10**-8."""
    return {asset: int(amount.scaleb(MONEY_SCALE)) for asset, amount in settings.accounts.starting_balances.items()}


def open_ledger(settings: Settings) -> SqlLedger:
    """
    Open the ledger, or make it.

    Raises:
        LedgerLocked: If it is a file that another process has open.
        ConfigError: If it cannot be used, and why.
    """
    path, mode, starting = ledger_path(settings), settings.service.mode, starting_balances(settings)
    if path is not None:
        return SqliteLedger.open(path, mode, starting)
    from service.ledger.postgres import PostgresLedger  # Its driver takes a while to import.

    return PostgresLedger.open(settings.ledger.url, mode, starting)


@contextmanager
def reading_ledger(settings: Settings) -> Iterator[sa.Connection]:
    """
    Read a ledger as it was at one moment, whether or not a server has it open.

    Raises:
        ConfigError: If there is none, or it cannot be read.
    """
    path = ledger_path(settings)
    if path is not None:
        with reading(path) as connection:
            yield connection
        return
    from service.ledger import postgres

    with postgres.reading(settings.ledger.url) as connection:
        yield connection
