"""What is answered about API keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from service.client.decoding import Message


@dataclass(frozen=True, slots=True)
class KeyLimits(Message):
    """Requests a second that a key may make; None: as the settings say; 0: no limit."""

    quote_per_s: int | None
    execute_per_s: int | None


@dataclass(frozen=True, slots=True)
class Key(Message):
    """What may be shown of an API key."""

    id: str
    account: str
    scopes: tuple[str, ...]
    status: str
    label: str | None
    addresses: tuple[str, ...]
    limits: KeyLimits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey(Key):
    """An API key, with the key itself, which is shown this once; printing this does not show it."""

    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RotatedKey(NewKey):
    """An API key that takes another's place."""

    replaces: Key


@dataclass(frozen=True, slots=True)
class Keys(Message):
    """A page of keys, newest first."""

    keys: tuple[Key, ...]
    next_cursor: str | None
