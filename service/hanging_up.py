"""Say what SIGHUP means: that a person's terminal is gone, or else that the settings are to be read again."""

from __future__ import annotations

import asyncio
import os
import signal


class HangUp:
    """
    Hears SIGHUP from the beginning of a process on, before there is a loop that could do something about it.

    One that asks for a reload is remembered until there is.  The one that says that the terminal is gone ends the
    process, as it does any other.
    """

    def __init__(self) -> None:
        """Note whether there is a terminal that may go."""
        self._on_terminal = os.isatty(0)
        self._remembered = False

    @classmethod
    def of_process(cls) -> HangUp:
        """Give the one that hears the process's signals, now if not before."""
        listening = signal.getsignal(signal.SIGHUP)
        if isinstance(listening, cls):
            return listening
        new = cls()
        signal.signal(signal.SIGHUP, new)
        return new

    def __call__(self, *_: object) -> None:
        """Hear a signal while there is no loop."""
        if not self._terminal_gone():
            self._remembered = True
            return
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGHUP)

    def serve(self, stop: asyncio.Event, hangup: asyncio.Event) -> None:
        """Set one of them at each signal from now on: *hangup* at once, if one has come before."""

        def heard() -> None:
            (stop if self._terminal_gone() else hangup).set()

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heard)
        if self._remembered:
            hangup.set()

    def _terminal_gone(self) -> bool:
        return self._on_terminal and not os.isatty(0)
