"""What all commands share: how they end, how they speak to a person, which settings they go by."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from service.printable import printable
from service.progress import wiped

if TYPE_CHECKING:
    from service.settings import Settings

EXIT_REFUSED, EXIT_USAGE = 1, 2
DEFAULT_SETTINGS = Path("settings.toml")


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(wiped(printable(text), sys.stderr), file=sys.stderr, flush=True)


def load(options: argparse.Namespace, **overrides: str | None) -> Settings:
    """Read the settings that a command was given; *overrides* are variables that its options stand for."""
    from service.settings import load_settings

    env = {**os.environ, **{name: value for name, value in overrides.items() if value is not None}}
    return load_settings(options.settings or DEFAULT_SETTINGS, env)
