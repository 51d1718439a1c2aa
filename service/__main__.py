"""The command line.

Log lines go to stdout, what is meant for a person's eyes to stderr, and what a command was asked for to stdout.
Commands that talk to a running service do not import ccxt.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.asking import add_asking
from service.command_line import DEFAULT_SETTINGS, EXIT_REFUSED, EXIT_USAGE
from service.command_line import say as _say
from service.errors import ConfigError, Unavailable
from service.hanging_up import HangUp
from service.keeping import add_keeping
from service.progress import progress

if TYPE_CHECKING:
    from exchanges.simulator import Play
    from service.settings import Settings

SEED = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; give the exit status: 0 done, 1 refused, 2 settings or usage."""
    options = _parser().parse_args(arguments)
    if options.run in (_serve, _demo, _replay):
        HangUp.of_process()
    try:
        return int(options.run(options))
    except ConfigError as error:
        for problem in error.problems:
            _say(problem)
        return EXIT_USAGE
    except Unavailable as error:
        _say(f"{error.code}: {error.detail}")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names only: ``--key …`` for ``--key-file`` would show the key to all users."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument("--settings", type=Path, help="settings file (default: settings.toml)")
    listening = _Parser(add_help=False)
    listening.add_argument("--host", help="address to listen on")
    listening.add_argument("--port", type=_port, help="port to listen on")
    parser = _Parser(prog="internal-orderbook", description="What an order would really cost.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_running(commands, common, listening)
    add_keeping(commands, common)
    add_asking(commands, common)
    return parser


def _add_running(commands: Any, common: _Parser, listening: _Parser) -> None:
    """Add what runs until it is stopped."""
    demo = commands.add_parser("demo", parents=[common, listening], help="simulated venues and the service, at once")
    demo.add_argument("--data", type=Path, default=Path("var/demo"), help="folder of ledger and keys")
    _add_market(demo)
    demo.set_defaults(run=_demo)

    serve = commands.add_parser("serve", parents=[common, listening], help="the service on the settings' venues")
    serve.set_defaults(run=_serve)

    record = commands.add_parser("record", parents=[common], help="record what the settings' venues show")
    record.add_argument("file", type=Path, metavar="FILE", help="where to; it must not be there yet")
    record.add_argument("--for", type=_seconds, metavar="SECONDS", help="how long (default: until interrupted)")
    record.set_defaults(run=_record)

    replay = commands.add_parser("replay", parents=[common, listening], help="a recording and the service, at once")
    replay.add_argument("file", type=Path, metavar="FILE", help="what was recorded")
    replay.add_argument("--speed", help="how many times as fast as it was recorded (default: 1)")
    replay.add_argument("--data", type=Path, default=Path("var/replay"), help="folder of ledger and keys")
    replay.set_defaults(run=_replay)

    simulator = commands.add_parser("simulator", parents=[common], help="the simulated venues alone")
    simulator.add_argument("--host", default="127.0.0.1", help="address to listen on")
    simulator.add_argument("--port", type=_port, default=9000, help="port to listen on")
    _add_market(simulator)
    simulator.add_argument("--speed", type=float, default=1.0, help="of the market: 0.1 is ten times slower")
    simulator.set_defaults(run=_simulator)


def _add_market(command: argparse.ArgumentParser) -> None:
    """Let a command choose the simulated market."""
    shipped = (files("exchanges") / "simulator" / "scenarios").iterdir()
    names = ", ".join(sorted(file.name.removesuffix(".toml") for file in shipped))
    command.add_argument("--seed", type=int, help=f"of the simulated market (default: the scenario's, else {SEED})")
    command.add_argument("--scenario", help=f"what happens there: {names}, or the path of a file of your own")


def _market(options: argparse.Namespace) -> tuple[int, Play | None]:
    """Give the seed of the simulated market, and what is played there to the one at the terminal."""
    from exchanges.simulator import Play, ScenarioError, load_scenario

    if options.scenario is None:
        return (SEED if options.seed is None else options.seed), None
    try:
        scenario = load_scenario(options.scenario)
    except ScenarioError as error:
        raise ConfigError([f"--scenario: {problem}" for problem in error.problems]) from error
    return (scenario.seed if options.seed is None else options.seed), Play(scenario, _say)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"a port is a whole number from 0 to 65535, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
        raise argparse.ArgumentTypeError(f"seconds are a whole number from 1 to 999999999, not {text!r}")
    return float(text)


def _loop(main: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _reader(path: Path, env: Mapping[str, str]) -> Callable[[], Settings]:
    """Give what reads the settings of a command that opens feeds: exchanges' names are checked with all else."""
    with progress("loading ccxt"):
        from exchanges.feeds import exchange_ids
    from service.settings import load_settings

    return lambda: load_settings(path, env, exchanges=exchange_ids())


def _read_first(read: Callable[[], Settings]) -> Settings:
    """Read the settings for the start, and log as they say from now on."""
    from service import logs

    settings = read()
    logs.configure(settings.logs.format, settings.logs.level)
    return settings


def _address(options: argparse.Namespace) -> dict[str, str]:
    given = {"IOB_SERVICE__HOST": options.host, "IOB_SERVICE__PORT": options.port}
    return {name: str(value) for name, value in given.items() if value is not None}


def _serve(options: argparse.Namespace) -> int:
    read = _reader(options.settings or DEFAULT_SETTINGS, {**os.environ, **_address(options)})
    settings = _read_first(read)
    with progress("loading the service"):
        from service.app import serve

    async def run() -> int:
        await serve(settings, os.environ, lambda address: _say(f"internal order book on {address}"), read)
        return 0

    return _loop(run())


def _demo(options: argparse.Namespace) -> int:
    from exchanges.simulator import VENUES, run_in_thread

    seed, play = _market(options)
    _make_data_folder(options)
    with run_in_thread(port=0, seed=seed, play=play) as simulator:
        env = {
            **os.environ,
            "IOB_SERVICE__MODE": "simulated",
            "IOB_LEDGER__URL": f"sqlite:///{options.data}/ledger.db",
            **_address(options),
        }
        path = options.settings or Path(str(files("service") / "demo.toml"))

        def read() -> Settings:
            simulated = {
                f"IOB_VENUES__{venue.upper()}__BASE_URL": simulator.base_url
                for venue in _venue_names(path, env)
                if venue in VENUES
            }
            return _reader(path, {**env, **simulated})()

        settings = _read_first(read)
        with progress("loading the service"):
            from service.demo import run_demo

        return _loop(run_demo(settings, os.environ, options.data, simulator.base_url, play, _say, read))


def _make_data_folder(options: argparse.Namespace) -> None:
    try:
        options.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError([f"--data: {options.data} cannot be made: {error.strerror}"]) from error


def _record(options: argparse.Namespace) -> int:
    settings = _read_first(_reader(options.settings or DEFAULT_SETTINGS, dict(os.environ)))
    with progress("loading the service"):
        from service.recording import record
        from service.room_rules import venue_configs

    seconds = getattr(options, "for")
    return 0 if _loop(record(settings, venue_configs(settings), options.file, seconds, _say)) else EXIT_REFUSED


def _replay(options: argparse.Namespace) -> int:
    with progress("loading the service"):
        from service.replaying import replay_settings, run_replay

    env = {**os.environ, **_address(options)}
    read = partial(replay_settings, options.file, options.settings, options.data, options.speed, env)
    settings = _read_first(read)
    _make_data_folder(options)
    return _loop(run_replay(settings, os.environ, options.data, _say, read))


def _venue_names(path: Path, env: dict[str, str]) -> list[str]:
    """Name the venues of a settings file before it can be checked: the simulator's address is still missing."""
    from service.settings import load_settings

    return list(load_settings(path, {**env, "IOB_SERVICE__MODE": "live"}).venues)


def _simulator(options: argparse.Namespace) -> int:
    from exchanges.simulator import running

    seed, play = _market(options)

    async def run() -> int:
        try:
            async with running(options.host, options.port, seed, speed=options.speed, play=play) as address:
                _say(f"simulated venues on {address} (faults: POST {address}/faults)")
                if play is not None:
                    _say(play.invitation(address))
                await asyncio.Event().wait()
        except OSError as error:
            _say(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
            return EXIT_USAGE
        except ValueError as error:
            _say(f"--speed: {error}")
            return EXIT_USAGE
        return 0

    return _loop(run())


if __name__ == "__main__":
    sys.exit(main())
