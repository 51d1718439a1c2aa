"""API keys: make, check, scope, revoke.

A key is ``iob_<live|test>_<id>_<secret><checksum>`` with 10, 43 and 6 characters of base 62: one word for a double
click, found by secret scanners, and junk is dropped without a look-up.  What is kept is its HMAC-SHA-256 under a
pepper that no database holds.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import string
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from service.errors import ConfigError
from service.ledger.protocol import StoredKey

SCOPES = ("quote", "execute", "account", "admin")
PEPPER_LENGTH_MIN = 32
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 10, 43, 6
_KEY = re.compile(r"iob_(live|test)_([0-9A-Za-z]{10})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})", re.ASCII)
ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Limits of a key's own, in place of the settings'; None leaves theirs."""

    quote_per_s: int | None
    execute_per_s: int | None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key stands for: its id may be shown, the account owns everything done with it."""

    key_id: str
    account: str
    scopes: frozenset[str]
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    limits: KeyLimits | None = None

    def admits(self, address: str) -> bool:
        """Tell whether the key may be used from *address*."""
        return True


@dataclass(frozen=True, slots=True)
class Pepper:
    """The secret under which keys are hashed; ``made_at`` is the file it was made in just now, if it was."""

    secret: bytes
    made_at: Path | None = None

    def __repr__(self) -> str:
        return "Pepper(...)"


class KeyRing:
    """The keys that are in force, by id."""

    def __init__(self, pepper: bytes, mode: str) -> None:
        """Begin without keys; in mode ``live`` keys begin with ``iob_live_``, in all others with ``iob_test_``."""
        self._pepper = pepper
        self._kind = "live" if mode == "live" else "test"
        self._keys: dict[str, StoredKey] = {}

    def hold(self, keys: Iterable[StoredKey]) -> None:
        """Take these keys, and no others, as the known ones."""
        self._keys = {key.key_id: key for key in keys}

    def add(self, key: StoredKey) -> None:
        """Put a key that is on record in force."""
        self._keys[key.key_id] = key

    def drop(self, key_id: str) -> None:
        """Take a key out of force at once, if there is one of that id."""
        self._keys.pop(key_id, None)

    def make(self, account: str, scopes: Collection[str], now: datetime) -> tuple[str, StoredKey]:
        """
        Make a key; it is not in force until ``add`` or ``hold`` is given it.

        Returns:
            The key itself, which exists nowhere else, and what is to be kept of it.

        Raises:
            ValueError: With a sentence about the account's name or a scope.
        """
        if not ACCOUNT.fullmatch(account):
            raise ValueError("an account's name is 1 to 32 of a-z 0-9 _ -, and begins with a letter or digit")
        for scope in scopes:
            if scope not in SCOPES:
                near = get_close_matches(scope, SCOPES, n=1)
                raise ValueError(f"scopes are {', '.join(SCOPES)}" + (f"; did you mean {near[0]}?" if near else ""))
        if not scopes:
            raise ValueError(f"a key needs at least one scope of {', '.join(SCOPES)}")
        key_id = _random_text(_ID_LENGTH)
        text = f"iob_{self._kind}_{key_id}_{_random_text(_SECRET_LENGTH)}"
        text += _checksum(text)
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        return text, StoredKey(key_id, account, ordered, self._digest(text), now, None)

    def check(self, text: str) -> Principal | None:
        """Give whom a key stands for; None for junk, an unknown or a revoked one, all alike."""
        match = _KEY.fullmatch(text)
        if match is None or match[1] != self._kind or _checksum(text[:-_CHECKSUM_LENGTH]) != match[3]:
            return None
        key = self._keys.get(match[2])
        if key is None or key.revoked_at is not None or not hmac.compare_digest(key.digest, self._digest(text)):
            return None
        return Principal(key.key_id, key.account, frozenset(key.scopes))

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._pepper, text.encode(), hashlib.sha256)


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    number, digits = zlib.crc32(text.encode()), []
    for _ in range(_CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def quote_key(pepper: bytes, ledger_id: str) -> bytes:
    """Derive the key that signs quote ids, so that all processes of one ledger share it and no database holds it."""
    return hmac.digest(pepper, b"quote " + ledger_id.encode(), hashlib.sha256)


def load_pepper(env: Mapping[str, str], ledger: Path | None) -> Pepper:
    """
    Read the pepper from the environment or a file, or make one beside the ledger.

    Args:
        ledger: Its file, or None where it is kept elsewhere: then the pepper must be given.

    Raises:
        ConfigError: If it is too short, given twice, or open to others; it is never shown.
    """
    given, file = os.fsencode(env.get("IOB_PEPPER", "")).strip(), env.get("IOB_PEPPER_FILE")
    if given and file:
        raise ConfigError(["IOB_PEPPER and IOB_PEPPER_FILE are both set; keep one of them"])
    if given:
        return Pepper(_long_enough(given, "IOB_PEPPER"))
    if file:
        return Pepper(_read(Path(file), "IOB_PEPPER_FILE"))
    if ledger is None:
        raise ConfigError(["IOB_PEPPER or IOB_PEPPER_FILE must be set: every process of this ledger needs the same"])
    beside = ledger.absolute().parent / "pepper"
    try:
        beside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(beside, secrets.token_urlsafe(48).encode())
    except FileExistsError:
        return Pepper(_read(beside, "the pepper beside the ledger"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (isinstance(error, OSError) and error.strerror) or "not a file name"
        raise ConfigError([f"{beside} cannot be made: {reason}"]) from error
    return Pepper(_read(beside, "the pepper beside the ledger"), made_at=beside)


def _write_new(path: Path, secret: bytes) -> None:
    """Make a file that is whole as soon as it has its name; FileExistsError if the name is taken."""
    if path.exists():
        raise FileExistsError(path)
    unnamed = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with os.fdopen(os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
            made.write(secret)
            made.flush()
            os.fsync(made.fileno())
        path.hardlink_to(unnamed)
    finally:
        unnamed.unlink(missing_ok=True)


def _read(path: Path, name: str) -> bytes:
    try:
        open_to_others = path.stat().st_mode & 0o077
        secret = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError([f"{name}: {path} cannot be read: {error.strerror}"]) from error
    if open_to_others:
        raise ConfigError([f"{name}: {path} is open to other users; give it mode 0600"])
    return _long_enough(secret, name)


def _long_enough(secret: bytes, name: str) -> bytes:
    if len(secret) < PEPPER_LENGTH_MIN:
        raise ConfigError([f"{name}: the pepper needs at least {PEPPER_LENGTH_MIN} characters"])
    return secret


def key_sentence(key: StoredKey) -> Sequence[str]:
    """Give what may be shown of a key: id, account, scopes, when it was made and, if it was, revoked."""
    revoked = "" if key.revoked_at is None else key.revoked_at.isoformat(timespec="seconds")
    return key.key_id, key.account, ",".join(key.scopes), key.created_at.isoformat(timespec="seconds"), revoked
