"""Follow a symbol in the terminal, or line by line for a program: the command ``watch``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.control import Control
from rich.text import Text

from service.client import Interrupted, NoValue, OrderBookClient, OrderBookError, Resumed, Stream, channels
from service.client.channels import Subscription
from service.command_line import EXIT_REFUSED, say
from service.frame import LADDER, QUOTE, TOP, Watched, frame, rows_wanted
from service.progress import progress, writes_over

REDRAWN_EVERY_S = 0.1
AGES_EVERY_S = 1.0
_LOCAL = 3
"""Of a terminal's modes, those that are about what is typed."""
WITHIN_S = 15.0
"""How long the first values may take."""


def watch(options: argparse.Namespace, client: OrderBookClient) -> int:
    """
    Show a symbol until interrupted, or once; give the exit status.

    Raises:
        OrderBookError: If the service refuses it, or is not reached at the start.
    """
    console = Console(highlight=False)
    if options.json:
        following = _print(options, client)
    elif options.once:
        following = _show_once(options, client, console)
    elif writes_over(sys.stdout):
        following = _show(options, client, console)
    else:
        options.usage_error("stdout is no terminal: add --once for one frame, or --json for a line per update")

    async def run() -> int:
        async with client:
            try:
                return await following
            except OrderBookError as error:
                raise await _in_words(error, options.symbol, client) from error

    return asyncio.run(run())


async def _in_words(error: OrderBookError, symbol: str, client: OrderBookClient) -> OrderBookError:
    """Give what the service itself says to a request: a stream that is refused comes without words."""
    if error.code is None:
        try:
            await client.book(symbol, depth=1)
        except OrderBookError as worded:
            return worded
    return error


def _subscriptions(options: argparse.Namespace, height: int | None) -> list[Subscription]:
    symbol = options.symbol
    wanted = [_ladder(options, rows_wanted(options.depth, height)), Subscription("venues", id="venues")]
    if options.view != "gross" and not options.json:
        wanted.append(Subscription("book", symbol, channels.book(symbol, depth=1, view="gross").parameters, TOP))
    if options.quantity is not None:
        wanted.append(
            Subscription("quote", symbol, channels.quote(symbol, quantity=options.quantity).parameters, QUOTE)
        )
    return wanted


def _ladder(options: argparse.Namespace, depth: int) -> Subscription:
    asked = channels.book(options.symbol, depth=depth, view=options.view)
    return Subscription("book", options.symbol, asked.parameters, LADDER)


# For a program


async def _print(options: argparse.Namespace, client: OrderBookClient) -> int:
    """Print every update as it came; of --once, the first of each subscription."""
    subscriptions = _subscriptions(options, None)
    missing = {subscription.id for subscription in subscriptions}
    status = 0
    async with client.stream(*subscriptions) as stream:
        async for update in stream:
            if isinstance(update, Interrupted):
                if len(missing) == len(subscriptions):
                    raise update.error
                say(f"{update.error}; connecting again")
                continue
            if isinstance(update, Resumed):
                say(f"connected again after {update.after_s:.1f} s")
                continue
            if not _printed(orjson.dumps(update.raw).decode()):
                return 0
            if isinstance(update, NoValue) and update.subscription.id in missing:
                status = EXIT_REFUSED
            missing.discard(update.subscription.id)
            if options.once and not missing:
                break
    return status


def _printed(line: str) -> bool:
    """Print a line at once; tell whether somebody still reads."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # What is left in the buffer goes nowhere.
        return False
    return True


# Once


async def _show_once(options: argparse.Namespace, client: OrderBookClient, console: Console) -> int:
    subscriptions = _subscriptions(options, None)
    missing = {subscription.id for subscription in subscriptions}
    seen = Watched(options.symbol)
    with progress("waiting for the first book"):
        try:
            async with asyncio.timeout(WITHIN_S), client.stream(*subscriptions) as stream:
                async for update in stream:
                    if isinstance(update, Interrupted):
                        raise update.error
                    seen = seen.after(update, time.monotonic())
                    if not isinstance(update, Resumed):
                        missing.discard(update.subscription.id)
                    if not missing:
                        break
        except TimeoutError:
            say(f"the service has told nothing of {', '.join(sorted(missing))} within {WITHIN_S:.0f} s")
            return EXIT_REFUSED
    lines = frame(seen, console.width, None, time.monotonic(), depth=options.depth, ascii_only=_is_ascii_only(console))
    for line in lines:
        console.print(line, soft_wrap=True)
    return 0 if seen.book is not None else EXIT_REFUSED


def _is_ascii_only(console: Console) -> bool:
    return not console.encoding.startswith("utf")


# Live


async def _show(options: argparse.Namespace, client: OrderBookClient, console: Console) -> int:
    return await _Watch(options, client, console).run()


class _Watch:
    """One symbol on the screen, until it is enough."""

    def __init__(self, options: argparse.Namespace, client: OrderBookClient, console: Console) -> None:
        self._options, self._client, self._console = options, client, console
        self._seen = Watched(options.symbol, heard_s=time.monotonic())
        self._changed = asyncio.Event()
        self._stopped = False
        self._screen = _Screen(console)
        self._depth = 0

    async def run(self) -> int:
        """Show it; whatever ends it, the terminal is as it was before."""
        loop = asyncio.get_running_loop()
        _, height = self._screen.size
        self._depth = rows_wanted(self._options.depth, height)
        async with self._client.stream(*_subscriptions(self._options, height)) as stream:
            # Nothing is shown before it is known that there is something to show.
            with progress("waiting for the first book"):
                self._seen = self._seen.after(await anext(stream), time.monotonic())
            if self._seen.lost is not None:
                raise self._seen.lost
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop)
            loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
            loop.add_signal_handler(signal.SIGTSTP, self._pause)
            following = asyncio.create_task(self._follow(stream))
            following.add_done_callback(lambda _: self._changed.set())
            try:
                with self._screen.shown(self._key):
                    while not self._stopped and not following.done():
                        await self._draw(stream)
                        await self._until_changed()
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait([following])
            if not following.cancelled():
                following.result()
        return 0

    async def _follow(self, stream: Stream) -> None:
        async for update in stream:
            self._seen = self._seen.after(update, time.monotonic())
            self._changed.set()

    async def _draw(self, stream: Stream) -> None:
        self._changed.clear()
        width, height = self._screen.size
        options = self._options
        ascii_only = _is_ascii_only(self._console)
        lines = frame(self._seen, width, height, time.monotonic(), depth=options.depth, ascii_only=ascii_only)
        self._screen.draw(lines, width, height)
        depth = rows_wanted(options.depth, height)
        if depth > self._depth:
            self._depth = depth
            await stream.subscribe(_ladder(options, depth))

    async def _until_changed(self) -> None:
        """Wait until there is something else to show: a moment at least, and not for longer than ages may stand."""
        await asyncio.sleep(REDRAWN_EVERY_S)
        try:
            async with asyncio.timeout(AGES_EVERY_S - REDRAWN_EVERY_S):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _stop(self) -> None:
        self._stopped = True
        self._changed.set()

    def _key(self) -> None:
        """Take what was typed: q is enough."""
        if b"q" in os.read(sys.stdin.fileno(), 64):
            self._stop()

    def _pause(self) -> None:
        """Give the terminal back while the process is suspended."""
        with self._screen.given_back():
            os.kill(os.getpid(), signal.SIGSTOP)
        self._changed.set()


class _Screen:
    """The whole terminal; a line is written only where it is another than before."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: Sequence[Text] = ()
        self._size = (0, 0)
        self._modes: list[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Give its width and height as they are now, whatever a shell has exported as COLUMNS and LINES."""
        width, height = os.get_terminal_size(self._console.file.fileno())
        return (width, height) if width and height else (self._console.width, self._console.height)

    @contextmanager
    def shown(self, typed: Callable[[], None]) -> Iterator[None]:
        """
        Have the terminal to itself, without a cursor, and leave it as it was.

        Args:
            typed: Called when there is something to be read; none of it is shown.
        """
        loop = asyncio.get_running_loop()
        if sys.stdin.isatty():
            self._modes = termios.tcgetattr(sys.stdin)
            loop.add_reader(sys.stdin, typed)
        self._enter()
        try:
            yield
        finally:
            loop.remove_reader(sys.stdin)
            self._leave()

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Leave it for a while."""
        self._leave()
        try:
            yield
        finally:
            self._enter()

    def _enter(self) -> None:
        self._size = (0, 0)
        if self._modes is not None:
            modes = termios.tcgetattr(sys.stdin)
            modes[_LOCAL] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)
        self._console.control(Control.alt_screen(True), Control.show_cursor(False))

    def _leave(self) -> None:
        self._console.control(Control.show_cursor(True), Control.alt_screen(False))
        if self._modes is not None:
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, self._modes)

    def draw(self, lines: Sequence[Text], width: int, height: int) -> None:
        """Show lines, from the top."""
        before = self._lines
        written = []
        if self._size != (width, height):
            before, self._size = (), (width, height)
            written.append("\x1b[0m\x1b[2J")
        for n in range(max(len(lines), len(before))):
            line = lines[n] if n < len(lines) else Text()
            if n >= len(before) or before[n] != line:
                wipe = "\x1b[K" if line.cell_len < width else ""  # At the end of a full line it wipes the last sign.
                written.append(f"\x1b[{n + 1};1H{self._rendered(line)}{wipe}")
        self._lines = lines
        if written:
            self._console.file.write("".join(written))
            self._console.file.flush()

    def _rendered(self, line: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(line, soft_wrap=True, end="")
        return captured.get()
