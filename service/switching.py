"""Change the settings of a running service: read the file again, or switch a single venue.

One change at a time, each checked whole before anything of it is applied.  Then the feeds go over to it, and with them,
in one step, everything that requests are answered by: a request sees the settings before or those after, never a
mixture.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from service.errors import ConfigError
from service.settings import Settings, contradictions
from service.settings_changes import NEEDS_RESTART, applicable, changed_keys, switched

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """
    What reading the settings again came to.

    Args:
        changed: Keys that are now in force as the file says.
        needs_restart: Keys that differ from the file until the service is restarted.
    """

    changed: tuple[str, ...]
    needs_restart: tuple[str, ...]


class Apply(Protocol):
    """Makes everybody go by other settings, all at once."""

    async def __call__(self, settings: Settings, *, unserved: bool) -> None:
        """
        Change over.

        Args:
            unserved: A symbol that none of the venues trades is no mistake.

        Raises:
            ConfigError: With everything that cannot work; nothing has changed then.
        """


class Switching:
    """The settings in force, and the one place where they are replaced."""

    def __init__(self, settings: Settings, read: Callable[[], Settings], apply: Apply) -> None:
        """
        Begin with the settings of the start.

        Args:
            read: Reads the settings anew from where they came from; raises ConfigError with every mistake.
        """
        self.settings = settings
        self._read = read
        self._apply = apply
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Let all changes wait until the context is left."""
        async with self._turn:
            yield

    async def reload(self) -> Reloaded:
        """
        Read the settings again and go by them; a venue that was switched is again what the file says.

        Raises:
            ConfigError: With every mistake there is; nothing has changed.
        """
        async with self._turn:
            try:
                reloaded = await self._reload()
            except ConfigError as error:
                log.error("settings.refused", problems=error.problems)
                raise
        log.info("settings.reloaded", changed=reloaded.changed, needs_restart=reloaded.needs_restart)
        return reloaded

    async def _reload(self) -> Reloaded:
        wanted = await asyncio.to_thread(self._read)  # A slow disk keeps nobody waiting.
        settings = applicable(self.settings, wanted)
        differing = changed_keys(self.settings, wanted)
        needs_restart = tuple(key for key in differing if key in NEEDS_RESTART)
        problems = contradictions(settings)
        if problems:  # The file is right in itself: it asks for another mode.
            kept = f'the service runs in mode "{settings.service.mode}" until it is restarted'
            raise ConfigError([f"{problem} ({kept})" for problem in problems])
        await self._change_to(settings, unserved=False)
        return Reloaded(tuple(key for key in differing if key not in NEEDS_RESTART), needs_restart)

    async def switch(self, venue: str, *, enabled: bool) -> None:
        """
        Switch one venue of the settings on or off, until they are read again.

        Raises:
            KeyError: If the settings have no such venue.
            ConfigError: With what keeps it from being switched on; nothing has changed.
        """
        async with self._turn:
            if self.settings.venues[venue].enabled is enabled:
                return
            settings = switched(self.settings, venue, enabled)
            problems = contradictions(settings) if enabled else []  # What remains has fitted together before.
            if problems:
                raise ConfigError(problems)
            await self._change_to(settings, unserved=True)
            log.info("venue.switched", venue=venue, enabled=enabled)

    async def _change_to(self, settings: Settings, *, unserved: bool) -> None:
        if changed_keys(self.settings, settings):
            await self._apply(settings, unserved=unserved)
            self.settings = settings

    async def reload_at(self, hangup: asyncio.Event) -> None:
        """Reload whenever *hangup* is set, until cancelled; what comes meanwhile is one reload more."""
        while True:
            await hangup.wait()
            hangup.clear()
            try:
                await self.reload()
            except ConfigError:
                pass  # It is in the log, and nothing has changed.
            except Exception:
                log.exception("settings.failed")
