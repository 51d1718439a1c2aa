"""The commands that look after keys and the record, whether or not a server runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from service.command_line import EXIT_REFUSED, EXIT_USAGE, load, say
from service.progress import progress

if TYPE_CHECKING:
    from service.control import KeyDesk
    from service.keys import KeyTerms
    from service.ledger.verify import Report

T = TypeVar("T")
SECONDS_MAX = 100 * 366 * 24 * 3600


def add_keeping(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to a parser's others; *common* has the options of all of them."""
    keys = commands.add_parser("keys", help="make, list, rotate and revoke API keys").add_subparsers(
        required=True, metavar="VERB"
    )
    _add_create(keys.add_parser("create", parents=[common], help="make a key; it is printed once"))
    listing = keys.add_parser("list", parents=[common], help="all keys, without their secrets")
    listing.set_defaults(run=_keys_list)
    rotate = keys.add_parser("rotate", parents=[common], help="make a key like another, which ends after an overlap")
    rotate.add_argument("id", type=_key_id, help=_ID_HELP)
    rotate.add_argument(
        "--overlap", type=_seconds, required=True, metavar="SECONDS", help="how long the other one still works"
    )
    rotate.set_defaults(run=_keys_rotate)
    revoke = keys.add_parser("revoke", parents=[common], help="take a key out of force at once")
    revoke.add_argument("id", type=_key_id, help=_ID_HELP)
    revoke.set_defaults(run=_keys_revoke)

    ledger = commands.add_parser("ledger", help="prove the record, and copy it").add_subparsers(
        required=True, metavar="VERB"
    )
    verify = ledger.add_parser(
        "verify", parents=[common], help="the chain unbroken, every balance the sum of its entries"
    )
    verify.add_argument("--rebuild", action="store_true", help="write balances and positions anew; no server may run")
    verify.set_defaults(run=_ledger_verify)
    backup = ledger.add_parser(
        "backup", parents=[common], help="copy a SQLite ledger, whether or not a server runs, and prove the copy"
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="where to; it must not be there yet")
    backup.set_defaults(run=_ledger_backup)


def _add_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("--account", required=True)
    create.add_argument("--scopes", required=True, help="of quote,execute,account,admin, with commas between them")
    ends = create.add_mutually_exclusive_group()
    ends.add_argument("--expires-at", type=_moment, metavar="TIME", help="such as 2027-01-31T12:00:00Z")
    ends.add_argument("--expires-in", type=_seconds, metavar="SECONDS", help="from now on (default: never)")
    create.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="RANGE",
        help="where it works from, such as 192.0.2.0/24; may be given several times (default: everywhere)",
    )
    create.add_argument("--label", help="what it is for; shown by keys list")
    create.add_argument(
        "--quote-per-s", type=_number, metavar="NUMBER", help="in place of limits.quote_per_s; 0: no limit"
    )
    create.add_argument(
        "--execute-per-s", type=_number, metavar="NUMBER", help="in place of limits.execute_per_s; 0: no limit"
    )
    create.set_defaults(run=_keys_create)


_ID_HELP = "the 10 characters after iob_live_ or iob_test_"


def _key_id(text: str) -> str:
    if not (text.isascii() and text.isalnum()):
        raise argparse.ArgumentTypeError("a key's id is the 10 characters after iob_live_ or iob_test_")
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise argparse.ArgumentTypeError("a whole number is needed")
    return int(text)


def _seconds(text: str) -> timedelta:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= SECONDS_MAX):
        raise argparse.ArgumentTypeError("seconds are a whole number, of no more than a hundred years")
    return timedelta(seconds=int(text))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError("a time has its offset, such as 2027-01-31T12:00:00Z")


def _terms(options: argparse.Namespace) -> KeyTerms:
    """Give what narrows the key that the options describe."""
    from service.keys import KeyLimits, KeyTerms

    expires_at = options.expires_at
    if options.expires_in is not None:
        expires_at = datetime.now(UTC) + options.expires_in
    limits = None
    if options.quote_per_s is not None or options.execute_per_s is not None:
        limits = KeyLimits(options.quote_per_s, options.execute_per_s)
    return KeyTerms(expires_at, tuple(options.address), options.label, limits)


def _keys_create(options: argparse.Namespace) -> int:
    async def create(desk: KeyDesk) -> int:
        scopes = [scope.strip() for scope in options.scopes.split(",")]
        text, key = await _waited(desk.create(options.account, scopes, _terms(options)))
        print(text)
        say(f"key {key.key_id} of account {key.account}; it is not shown again")
        return 0

    return _with_keys(options, create)


def _keys_list(options: argparse.Namespace) -> int:
    from service.keys import KEY_COLUMNS, key_row

    async def listing(desk: KeyDesk) -> int:
        keys = await _waited(desk.list())
        print("\t".join(KEY_COLUMNS))
        for key in keys:
            print("\t".join(key_row(key)))
        return 0

    return _with_keys(options, listing)


def _keys_rotate(options: argparse.Namespace) -> int:
    async def rotate(desk: KeyDesk) -> int:
        rotated = await _waited(desk.rotate(options.id, options.overlap))
        if rotated is None:
            say(f"there is no key {options.id} in force")
            return EXIT_REFUSED
        print(rotated.text)
        ends = rotated.replaced.expires_at
        when = "" if ends is None else ends.isoformat(timespec="seconds")
        say(f"key {rotated.key.key_id} of account {rotated.key.account}; it is not shown again")
        say(f"key {options.id} works until {when}")
        return 0

    return _with_keys(options, rotate)


def _keys_revoke(options: argparse.Namespace) -> int:
    async def revoke(desk: KeyDesk) -> int:
        found = await _waited(desk.revoke(options.id))
        say(f"key {options.id} is revoked" if found else f"there is no key {options.id}")
        return 0 if found else EXIT_REFUSED

    return _with_keys(options, revoke)


async def _waited(answer: Awaitable[T]) -> T:
    with progress("waiting for the service, or for its ledger"):
        return await answer


def _with_keys(options: argparse.Namespace, work: Callable[[KeyDesk], Awaitable[int]]) -> int:
    """Do something with the keys of the settings' ledger, whoever has it open; give the exit status."""
    settings = load(options)
    from service import logs
    from service.control import key_desk
    from service.keys import load_pepper
    from service.ledger.opening import ledger_path

    logs.configure("console", "warning", sys.stderr.buffer)

    async def run() -> int:
        async with key_desk(settings, lambda: load_pepper(os.environ, ledger_path(settings)).secret) as desk:
            try:
                return await work(desk)
            except ValueError as error:
                say(str(error))
                return EXIT_USAGE

    return asyncio.run(run())


def _ledger_verify(options: argparse.Namespace) -> int:
    settings = load(options)
    from service import logs
    from service.ledger.opening import open_ledger, reading_ledger
    from service.ledger.verify import verify

    logs.configure("console", "warning", sys.stderr.buffer)
    if options.rebuild:

        async def run() -> Report:
            ledger = open_ledger(settings)
            try:
                with progress("writing balances anew"):
                    return await ledger.rebuild()
            finally:
                await ledger.close()

        report = asyncio.run(run())
    else:
        with reading_ledger(settings) as connection, progress("verifying the record", unit="rows") as shown:
            report = verify(connection, shown.tell)
    return _tell(report)


def _tell(report: Report) -> int:
    """Print what a proof has found; give the exit status."""
    for fault in report.faults:
        print(fault)
    counted = f"{report.rows} rows, {report.executions} executions, {report.entries} entries"
    say(f"{counted}; the journal's head is {report.head[0]} {report.head[1].hex()}")
    return EXIT_REFUSED if report.faults else 0


def _ledger_backup(options: argparse.Namespace) -> int:
    settings = load(options)
    from service.keys import own_pepper
    from service.ledger.backup import back_up
    from service.ledger.opening import ledger_path

    path = ledger_path(settings)
    if path is None:
        from service.ledger import postgres

        say(_BY_PG_DUMP.format(address=postgres.shown(settings.ledger.url), file=options.file))
        return EXIT_USAGE
    pepper = own_pepper(os.environ, path)
    with progress("copying pages of the record") as shown:
        backup = back_up(path, options.file, shown, pepper)
    say(f"{backup.path}: the ledger, {_megabytes(backup.size)}")
    if pepper is not None:
        say(f"{backup.path}.pepper: the pepper, without which no key works; keep both, and show them to nobody")
    elif os.environ.get("IOB_PEPPER", "").strip() or os.environ.get("IOB_PEPPER_FILE"):
        say("the pepper is not in it: it was given by the environment, and without it no key works; keep it as well")
    else:
        say(f"no pepper lies beside {path}: if the service is given one, keep that as well; without it no key works")
    for fault in backup.faults:
        print(fault)
    if backup.faults:
        return EXIT_REFUSED
    if backup.report is None:
        say("another version of this service made the ledger; only that can prove the copy (ledger verify)")
        return 0
    return _tell(backup.report)


_BY_PG_DUMP = """ledger.url is a PostgreSQL database, which PostgreSQL's own tools copy while the service runs:
  umask 077 && pg_dump --format=custom --file={file} --dbname={address}
and bring back to an empty one:
  pg_restore --exit-on-error --single-transaction --no-owner --dbname={address} {file}
The user's name goes into PGUSER and the password into a file that PGPASSFILE names, not into the command.
Keep the pepper (IOB_PEPPER or IOB_PEPPER_FILE) as well: without it no key works. See docs/operating.md."""


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
