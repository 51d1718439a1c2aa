"""Manage API keys whether or not a server runs.

The ledger has one writer.  While a server has it open, the command line asks the server through a Unix socket beside
the ledger, to which only its own user has access; otherwise it opens the ledger itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson
import structlog
from aiohttp import web

from service.errors import ConfigError, Unavailable
from service.keys import KEY_ID, OVERLAP_S_MAX, KeyLimits, KeyRing, KeyTerms, ends, status
from service.ledger.opening import ledger_path, open_ledger
from service.ledger.protocol import Ledger, StoredKey
from service.ledger.sqlite import LedgerLocked
from service.settings import Settings

_PATH_MAX = 100
"""Bytes of a Unix socket's path: Linux takes 107, macOS 103."""
_ANSWER_WITHIN_S = 5
_ENDS_WITHIN_S = 1.0
"""So long, twice, is waited at the end for whoever has not said all that it wants."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new key, which is shown this once, and the one whose place it takes, with its last moment."""

    text: str
    key: StoredKey
    replaced: StoredKey


class KeyDesk(Protocol):
    """What can be done with keys, here or in the server."""

    async def create(
        self, account: str, scopes: Collection[str], terms: KeyTerms = KeyTerms()
    ) -> tuple[str, StoredKey]:
        """Make a key, keep it and put it in force; ValueError for a name, scope or term that cannot be."""

    async def list(self) -> Sequence[StoredKey]:
        """Give all keys, oldest first."""

    async def revoke(self, key_id: str) -> bool:
        """Take a key out of force; False if there is none of that id."""

    async def rotate(self, key_id: str, overlap: timedelta) -> Rotated | None:
        """
        Make a key with the same account, scopes and terms as another, which works for the overlap beside it.

        Returns:
            None if there is no key of that id in force.
        """


class LocalKeyDesk:
    """Works on the ledger that this process has open."""

    def __init__(self, ledger: Ledger, ring: KeyRing) -> None:
        """Keep *ring* up to date with what is done."""
        self._ledger = ledger
        self._ring = ring
        self._rotating = asyncio.Lock()

    async def create(
        self, account: str, scopes: Collection[str], terms: KeyTerms = KeyTerms()
    ) -> tuple[str, StoredKey]:
        """Make a key, keep it and put it in force."""
        now = self._ring.now()
        text, key = self._ring.make(account, scopes, now, terms)
        await self._ledger.open_account(account, now)
        await self._ledger.add_key(key)
        self._ring.add(key)
        log.info("key.made", key_id=key.key_id, account=account, scopes=key.scopes)
        return text, key

    async def list(self) -> Sequence[StoredKey]:
        """Give all keys, oldest first."""
        used = self._ring.used()
        return [_used(key, used.get(key.key_id)) for key in await self._ledger.keys()]

    async def revoke(self, key_id: str) -> bool:
        """Take a key out of force."""
        if not KEY_ID.fullmatch(key_id):
            return False
        # First: whatever the ledger answers, a key that somebody wants revoked works no longer here.
        self._ring.drop(key_id)
        found = await self._ledger.revoke_key(key_id, self._ring.now())
        if found:
            log.info("key.revoked", key_id=key_id)
        return found

    async def rotate(self, key_id: str, overlap: timedelta) -> Rotated | None:
        """Make a key to take another's place, and let that expire."""
        async with self._rotating:  # Each goes by what the one before has left of the key's life.
            return await self._rotate(key_id, overlap)

    async def _rotate(self, key_id: str, overlap: timedelta) -> Rotated | None:
        now = self._ring.now()
        old = next((key for key in await self._ledger.keys() if key.key_id == key_id), None)
        if old is None or status(old, now) != "in_force":
            return None
        text, new = self._ring.make_after(old, now)
        expires_at = ends(old, now, overlap)
        if not await self._ledger.replace_key(key_id, new, expires_at):
            return None
        old = replace(old, expires_at=expires_at)
        self._ring.add(new)
        self._ring.add(old)
        log.info("key.rotated", key_id=key_id, new_key_id=new.key_id, expires_at=expires_at.isoformat())
        return Rotated(text, new, old)


def _used(key: StoredKey, at: datetime | None) -> StoredKey:
    """Give a key with the later of what is on record of its use and what this process knows."""
    if at is None or (key.last_used_at is not None and key.last_used_at >= at):
        return key
    return replace(key, last_used_at=at)


class RemoteKeyDesk:
    """Asks the server that has the ledger open."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Use a session whose connector leads to the socket."""
        self._session = session

    async def create(
        self, account: str, scopes: Collection[str], terms: KeyTerms = KeyTerms()
    ) -> tuple[str, StoredKey]:
        """Make a key in the server."""
        answer = await self._ask("create", account=account, scopes=list(scopes), terms=asdict(terms))
        return answer["text"], _key(answer["key"])

    async def list(self) -> Sequence[StoredKey]:
        """Give all keys, oldest first."""
        return [_key(key) for key in (await self._ask("list"))["keys"]]

    async def revoke(self, key_id: str) -> bool:
        """Take a key out of force in the server."""
        return bool((await self._ask("revoke", key_id=key_id))["found"])

    async def rotate(self, key_id: str, overlap: timedelta) -> Rotated | None:
        """Have the server make a key to take another's place."""
        answer = await self._ask("rotate", key_id=key_id, overlap_s=int(overlap.total_seconds()))
        return Rotated(answer["text"], _key(answer["key"]), _key(answer["replaced"])) if answer["found"] else None

    async def _ask(self, verb: str, **arguments: Any) -> Any:
        try:
            async with self._session.post(f"http://control/{verb}", data=orjson.dumps(arguments)) as response:
                answer = orjson.loads(await response.read())
        except orjson.JSONEncodeError as error:
            raise ValueError("what was given is not text") from error
        except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
            raise ConfigError(["the server that has the ledger open does not answer on its control socket"]) from error
        if response.status == 503:
            raise Unavailable(answer["code"], answer["error"])
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


@asynccontextmanager
async def key_desk(settings: Settings, pepper: Callable[[], bytes]) -> AsyncIterator[KeyDesk]:
    """
    Give the keys of a ledger to the command line, whoever has it open.

    Args:
        pepper: Asked only where no server has the ledger open: a server uses its own.

    Raises:
        ConfigError: If the ledger cannot be opened, or its server does not answer.
    """
    try:
        ledger = open_ledger(settings)
    except LedgerLocked:
        file = ledger_path(settings)
        if file is None or not _own(path := socket_path(file)):
            raise
        timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield RemoteKeyDesk(session)
        return
    try:
        yield LocalKeyDesk(ledger, KeyRing(pepper(), settings.service.mode))
    finally:
        await ledger.close()


@asynccontextmanager
async def serving(desk: KeyDesk, ledger: Path) -> AsyncIterator[None]:
    """Answer the command line beside a ledger that this process has open."""
    app = web.Application(middlewares=[_refusing])

    async def create(request: web.Request) -> web.Response:
        asked = await _asked(request, {"account": str, "scopes": list})
        terms = _terms(asked.get("terms", {}))
        text, key = await desk.create(asked["account"], [str(scope) for scope in asked["scopes"]], terms)
        return _answer({"text": text, "key": _fields(key)})

    async def listing(request: web.Request) -> web.Response:
        return _answer({"keys": [_fields(key) for key in await desk.list()]})

    async def revoke(request: web.Request) -> web.Response:
        asked = await _asked(request, {"key_id": str})
        return _answer({"found": await desk.revoke(asked["key_id"])})

    async def rotate(request: web.Request) -> web.Response:
        asked = await _asked(request, {"key_id": str, "overlap_s": int})
        if not 0 <= asked["overlap_s"] <= OVERLAP_S_MAX:
            raise ValueError(f"an overlap is from 0 to {OVERLAP_S_MAX} seconds")
        made = await desk.rotate(asked["key_id"], timedelta(seconds=asked["overlap_s"]))
        if made is None:
            return _answer({"found": False})
        return _answer({"found": True, "text": made.text, "key": _fields(made.key), "replaced": _fields(made.replaced)})

    app.router.add_post("/rotate", rotate)
    app.router.add_post("/create", create)
    app.router.add_post("/list", listing)
    app.router.add_post("/revoke", revoke)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_ENDS_WITHIN_S)
    await runner.setup()
    path = socket_path(ledger)
    try:
        await web.SockSite(runner, _listening(path)).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError([f"the control socket {path} cannot be made: {error.strerror}"]) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        await runner.cleanup()


def _listening(path: Path) -> socket.socket:
    """Make the socket; it takes no connection before it is its user's alone."""
    path.unlink(missing_ok=True)  # A dead server's: the ledger's lock is ours.
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def _own(path: Path) -> bool:
    """Tell whether something stands there that this user has made, and no link to somewhere else."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and found.st_uid == os.getuid()


def socket_path(ledger: Path) -> Path:
    """Give the socket's place: beside the ledger, or where that is too long a path, in the temporary folder."""
    ledger = ledger.resolve()
    beside = ledger.with_name(ledger.name + ".sock")
    if len(os.fsencode(beside)) <= _PATH_MAX:
        return beside
    name = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"iob-{os.getuid()}-{name}.sock"


@web.middleware
async def _refusing(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer with a sentence what cannot be done."""
    try:
        return await handler(request)
    except ValueError as error:
        return _answer({"error": str(error)}, 400)
    except Unavailable as error:
        return _answer({"code": error.code, "error": error.detail}, 503)


async def _asked(request: web.Request, kinds: dict[str, type]) -> dict[str, Any]:
    """Read the arguments of a verb; ValueError if they are not of these kinds."""
    asked = orjson.loads(await request.read())
    if not isinstance(asked, dict) or not all(isinstance(asked.get(name), kind) for name, kind in kinds.items()):
        raise ValueError(f"a JSON object with {', '.join(kinds)} is needed")
    return asked


def _answer(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _fields(key: StoredKey) -> dict[str, Any]:
    """Give what may be shown of a key: all but its digest."""
    return {name: value for name, value in asdict(key).items() if name != "digest"}


def _key(fields: dict[str, Any]) -> StoredKey:
    """Read a key as ``_fields`` gave it; what this version does not know of is left out."""
    known = {name: fields[name] for name in StoredKey.__dataclass_fields__ if name in fields}
    for name, value in known.items():
        if name.endswith("_at"):
            known[name] = _moment(value)
        elif isinstance(value, list):
            known[name] = tuple(value)
    return StoredKey(**known, digest=b"")


def _terms(asked: Any) -> KeyTerms:
    """Read a key's terms; ValueError if they are not of their kinds, or not known here."""
    try:
        given = KeyTerms(**asked)
        limits = None if given.limits is None else KeyLimits(**given.limits)  # type: ignore[arg-type]
        texts = [given.label, *given.addresses]
        numbers = [] if limits is None else [limits.quote_per_s, limits.execute_per_s]
        if not all(isinstance(text, str | None) for text in texts) or not all(
            type(n) in (int, type(None)) for n in numbers
        ):
            raise TypeError("kinds")
        moment = _moment(given.expires_at)
    except TypeError as error:
        raise ValueError("the terms of a key are not of their kinds") from error
    if moment is not None and moment.tzinfo is None:
        raise ValueError("a time needs its offset")
    return KeyTerms(moment, tuple(given.addresses), given.label, limits)


def _moment(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
