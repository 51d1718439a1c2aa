"""API keys: make, check, scope, limit, rotate, revoke.

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
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from service.addresses import Network, is_within, read_address, read_range
from service.errors import ConfigError
from service.ledger.protocol import StoredKey

SCOPES = ("quote", "execute", "account", "admin")
PEPPER_LENGTH_MIN = 32
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_ID_LENGTH, _SECRET_LENGTH, _CHECKSUM_LENGTH = 10, 43, 6
_KEY = re.compile(r"iob_(live|test)_([0-9A-Za-z]{10})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})", re.ASCII)
KEY_ID = re.compile(r"[0-9A-Za-z]{1,20}", re.ASCII)
"""What may be looked for: anything else is no key's id, and not every database takes it for a text."""
ACCOUNT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)


ADDRESSES_MAX = 64
"""Ranges of one key."""
PER_S_MAX = 1_000_000
OVERLAP_S_MAX = 30 * 24 * 3600
"""For how long a key that was rotated may go on beside the new one."""
LABEL = re.compile(r"(?!.*iob_(live|test)_)[A-Za-z0-9][A-Za-z0-9 ._@:/-]{0,63}", re.ASCII)
"""A label is shown and kept in the clear: no key may get into one by mistake."""
LABEL_FORM = (
    "a label is 1 to 64 letters, digits, spaces and . _ @ : / -, begins with one of the former two, and is no key"
)

_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """Requests a second that a key may make, by class, in place of ``[limits]``; None: as that says; 0: no limit."""

    quote_per_s: int | None = None
    execute_per_s: int | None = None


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """
    What narrows a key, beside its scopes.

    Args:
        expires_at: From then on it is nobody's key; None: never.
        addresses: Ranges that it works from, as ``address_ranges`` writes them; none: from everywhere.
        label: What it is for, in its owner's words.
        limits: None: as the settings say.
    """

    expires_at: datetime | None = None
    addresses: tuple[str, ...] = ()
    label: str | None = None
    limits: KeyLimits | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """
    Who a key stands for: its id may be shown, the account owns everything done with it.

    Args:
        addresses: Where it works from; none: everywhere.
        limits: Its own, in place of the settings'.
    """

    key_id: str
    account: str
    scopes: frozenset[str]
    addresses: tuple[Network, ...] = ()
    limits: KeyLimits | None = None

    def admits(self, address: str) -> bool:
        """Tell whether the key works from an address; from what is none, only one without ranges does."""
        return not self.addresses or _within(address, self.addresses)


@lru_cache(maxsize=4096)
def _within(address: str, ranges: tuple[Network, ...]) -> bool:
    return is_within(read_address(address), ranges)


def address_ranges(texts: Collection[str]) -> tuple[Network, ...]:
    """
    Read ranges of addresses in CIDR notation; a single address is a range of one, a mapped one is the IPv4 one.

    Raises:
        ValueError: With a sentence; it repeats no more than the range that was meant.
    """
    if len(texts) > ADDRESSES_MAX:
        raise ValueError(f"a key has at most {ADDRESSES_MAX} ranges of addresses")
    return tuple(dict.fromkeys(map(read_range, texts)))


class _Held:
    """A key in the ring, with what its checks need made ready."""

    __slots__ = ("expires_at", "key", "principal")

    def __init__(self, key: StoredKey) -> None:
        self.key = key
        self.expires_at = key.expires_at
        limits = KeyLimits(key.quote_per_s, key.execute_per_s)
        self.principal = Principal(
            key.key_id,
            key.account,
            frozenset(key.scopes),
            address_ranges(key.addresses),
            None if limits == KeyLimits() else limits,
        )


@dataclass(frozen=True, slots=True)
class Pepper:
    """The secret under which keys are hashed; ``made_at`` is the file it was made in just now, if it was."""

    secret: bytes
    made_at: Path | None = None

    def __repr__(self) -> str:
        return "Pepper(...)"


class KeyRing:
    """The keys that are in force, by id."""

    def __init__(self, pepper: bytes, mode: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """
        Begin without keys.

        Args:
            mode: In ``live`` keys begin with ``iob_live_``, in all others with ``iob_test_``.
            now: The wall clock, which keys expire by, whatever clock the market goes by.
        """
        self._pepper = pepper
        self._kind = "live" if mode == "live" else "test"
        self.now = now
        self._keys: dict[str, _Held] = {}
        self._dropped: set[str] = set()
        self._added: dict[str, StoredKey] = {}
        self._used: dict[str, datetime] = {}

    def hold(self, keys: Iterable[StoredKey]) -> None:
        """Take these keys, and no others, as the known ones; but for what was dropped, which stays out of force."""
        before, self._keys = self._keys, {}
        for key in keys:
            if key.revoked_at is None and key.key_id not in self._dropped:
                held = before.get(key.key_id)
                self._keys[key.key_id] = held if held is not None and held.key == key else _Held(key)

    async def follow(self, read: Callable[[], Awaitable[Iterable[StoredKey]]]) -> None:
        """Hold what is on record, as *read* gives it; what was added while it was being read stays."""
        self._added.clear()
        keys = {key.key_id: key for key in await read()}
        self.hold((keys | self._added).values())

    def add(self, key: StoredKey) -> None:
        """Put a key that is on record in force, or under other terms; one that was dropped stays out of it."""
        if key.revoked_at is None and key.key_id not in self._dropped:
            self._keys[key.key_id] = _Held(key)
            self._added[key.key_id] = key

    def drop(self, key_id: str) -> None:
        """Take a key out of force at once and for good, if there is one of that id."""
        if self._keys.pop(key_id, None) is not None:
            self._dropped.add(key_id)
            self._added.pop(key_id, None)

    def in_force(self, key_id: str) -> bool:
        """Tell whether the key of that id still stands for somebody: neither revoked nor expired."""
        held = self._keys.get(key_id)
        return held is not None and (held.expires_at is None or self.now() < held.expires_at)

    def used(self) -> dict[str, datetime]:
        """Give when keys were last checked with success, as far as ``take_used`` has not given it."""
        return self._used

    def take_used(self) -> dict[str, datetime]:
        """Give the same, to be kept elsewhere; what cannot be kept goes back by ``give_back_used``."""
        taken, self._used = self._used, {}
        return taken

    def give_back_used(self, taken: Mapping[str, datetime]) -> None:
        """Take back what could not be kept."""
        self._used = {**taken, **self._used}

    def make(
        self, account: str, scopes: Collection[str], now: datetime, terms: KeyTerms = KeyTerms()
    ) -> tuple[str, StoredKey]:
        """
        Make a key; it is not in force until ``add`` or ``hold`` is given it.

        Returns:
            The key itself, which exists nowhere else, and what is to be kept of it.

        Raises:
            ValueError: With a sentence about the account's name, a scope or a term.
        """
        if not ACCOUNT.fullmatch(account):
            raise ValueError("an account's name is 1 to 32 of a-z 0-9 _ -, and begins with a letter or digit")
        for scope in scopes:
            if scope not in SCOPES:
                near = nearest_scope(scope)
                raise ValueError(f"scopes are {', '.join(SCOPES)}" + (f"; did you mean {near}?" if near else ""))
        if not scopes:
            raise ValueError(f"a key needs at least one scope of {', '.join(SCOPES)}")
        ranges = _checked(terms, now)
        ordered = tuple(scope for scope in SCOPES if scope in scopes)
        limits = terms.limits or KeyLimits()
        text, key_id = self._new_text()
        return text, StoredKey(
            key_id,
            account,
            ordered,
            self._digest(text),
            now,
            None,
            expires_at=terms.expires_at,
            addresses=tuple(map(str, ranges)),
            label=terms.label,
            quote_per_s=limits.quote_per_s,
            execute_per_s=limits.execute_per_s,
        )

    def make_after(self, old: StoredKey, now: datetime) -> tuple[str, StoredKey]:
        """
        Make a key to stand in for another: the same account, scopes, addresses, label and limits.

        It lives as long as the other was to live when that was made: for ever, or from now on as long again.
        """
        text, key_id = self._new_text()
        lives = None if old.expires_at is None else old.expires_at - old.created_at
        expires_at = None if lives is None else now + min(lives, _FOR_EVER - now)
        new = replace(old, key_id=key_id, digest=self._digest(text), created_at=now, expires_at=expires_at)
        return text, replace(new, revoked_at=None, last_used_at=None)

    def check(self, text: str) -> Principal | None:
        """Give whom a key stands for; None for junk, an unknown, a revoked or an expired one, all alike."""
        match = _KEY.fullmatch(text)
        if match is None or match[1] != self._kind or _checksum(text[:-_CHECKSUM_LENGTH]) != match[3]:
            return None
        held = self._keys.get(match[2])
        if held is None or not hmac.compare_digest(held.key.digest, self._digest(text)):
            return None
        now = self.now()
        if held.expires_at is not None and now >= held.expires_at:
            return None
        self._used[match[2]] = now
        return held.principal

    def _new_text(self) -> tuple[str, str]:
        key_id = _random_text(_ID_LENGTH)
        text = f"iob_{self._kind}_{key_id}_{_random_text(_SECRET_LENGTH)}"
        return text + _checksum(text), key_id

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._pepper, text.encode(), hashlib.sha256)


def nearest_scope(scope: str) -> str | None:
    """Give the scope that a misspelt word may mean."""
    near = get_close_matches(scope, SCOPES, n=1)
    return near[0] if near else None


def _checked(terms: KeyTerms, now: datetime) -> tuple[Network, ...]:
    """Read a key's ranges; ValueError, with a sentence, for these or for another term that cannot be."""
    if terms.expires_at is not None and terms.expires_at <= now:
        raise ValueError("a key expires in the future")
    if terms.label is not None and not LABEL.fullmatch(terms.label):
        raise ValueError(LABEL_FORM)
    limits = terms.limits or KeyLimits()
    if any(one is not None and not 0 <= one <= PER_S_MAX for one in (limits.quote_per_s, limits.execute_per_s)):
        raise ValueError(f"limits are whole numbers from 0 to {PER_S_MAX}")
    return address_ranges(terms.addresses)


def ends(key: StoredKey, now: datetime, overlap: timedelta) -> datetime:
    """Give when a key expires that another one has been made for: after the overlap, and never later than it would."""
    after = now + overlap
    return after if key.expires_at is None else min(key.expires_at, after)


def status(key: StoredKey, now: datetime) -> str:
    """Give a key's state in a word: ``in_force``, ``expired`` or ``revoked``."""
    if key.revoked_at is not None:
        return "revoked"
    return "in_force" if key.expires_at is None or now < key.expires_at else "expired"


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    """Write a CRC-32 as six digits to the base 62, two at a time."""
    rest, last = divmod(zlib.crc32(text.encode()), len(_PAIRS))
    first, middle = divmod(rest, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[last]


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
        # What systemd hands over is for us alone, by an ACL, whose mask the mode shows as if it were a group's.
        credentials = env.get("CREDENTIALS_DIRECTORY")
        handed_over = bool(credentials) and Path(file).parent == Path(str(credentials))
        return Pepper(_read(Path(file), "IOB_PEPPER_FILE", open_bits=0o027 if handed_over else 0o077))
    if ledger is None:
        raise ConfigError(["IOB_PEPPER or IOB_PEPPER_FILE must be set: every process of this ledger needs the same"])
    beside = _beside(ledger)
    try:
        beside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(beside, secrets.token_urlsafe(48).encode())
    except FileExistsError:
        return Pepper(_read(beside, "the pepper beside the ledger"))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (isinstance(error, OSError) and error.strerror) or "not a file name"
        raise ConfigError([f"{beside} cannot be made: {reason}"]) from error
    return Pepper(_read(beside, "the pepper beside the ledger"), made_at=beside)


def own_pepper(env: Mapping[str, str], ledger: Path) -> bytes | None:
    """
    Read the pepper that the service made for itself beside the ledger; None where it is given, or not yet made.

    Raises:
        ConfigError: If it is too short, or open to others; it is never shown.
    """
    beside = _beside(ledger)
    if env.get("IOB_PEPPER", "").strip() or env.get("IOB_PEPPER_FILE") or not beside.exists():
        return None
    return _read(beside, "the pepper beside the ledger")


def _beside(ledger: Path) -> Path:
    return ledger.absolute().parent / "pepper"


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


def _read(path: Path, name: str, *, open_bits: int = 0o077) -> bytes:
    try:
        open_to_others = path.stat().st_mode & open_bits
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


KEY_COLUMNS = ("id", "account", "scopes", "created", "expires", "revoked", "last used", "addresses", "limits", "label")


def key_row(key: StoredKey) -> Sequence[str]:
    """Give what may be shown of a key, in the order of ``KEY_COLUMNS``; what it does not have is empty."""
    moments = (key.created_at, key.expires_at, key.revoked_at, key.last_used_at)
    limits = (("quote", key.quote_per_s), ("execute", key.execute_per_s))
    return (
        key.key_id,
        key.account,
        ",".join(key.scopes),
        *("" if at is None else at.isoformat(timespec="seconds") for at in moments),
        ",".join(key.addresses),
        ",".join(f"{name}={per_s}" for name, per_s in limits if per_s is not None),
        key.label or "",
    )
