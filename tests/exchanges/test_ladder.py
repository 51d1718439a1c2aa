"""The ladder in the terminal: `python -m exchanges BTC/USDT`."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from decimal import Decimal

from rich.console import Console

from exchanges.__main__ import main, render
from exchanges.board import Board
from exchanges.simulator import run_in_thread
from tests.conftest import venue_book

KRAKEN = """
    .   102  5
    .   101  1
    2   100  .
"""
OKX = """
    .   101.5  3
    4   99.5   .
"""


def drawn(board, now_ns, depth=10):
    """Draw the ladder as plain lines, without blanks at their ends."""
    console = Console(file=io.StringIO(), width=100)
    console.print(render(board, "BTC/USDT", depth, now_ns))
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def test_ladder_shows_live_venues_levels_best_price_in_the_middle(clock):
    """
    Asks stand above bids, each with its venue, the best prices next to each other.
    """
    board = Board(Decimal(200))
    for venue, ladder in (("kraken", KRAKEN), ("okx", OKX)):
        board.seat(venue, "BTC/USDT", 5_000, clock.now_ns())
        board.publish(venue_book(venue, ladder), clock.now_ns())

    assert [
        ["kraken", "102", "5"],
        ["okx", "101.5", "3"],
        ["kraken", "101", "1"],
        ["kraken", "2", "100"],
        ["okx", "4", "99.5"],
    ] == drawn(board, clock.now_ns())[-5:]
    assert [["kraken", "101", "1"], ["kraken", "2", "100"]] == drawn(board, clock.now_ns(), depth=1)[-2:]


def test_ladder_leaves_stale_venues_out_and_says_why(clock):
    """
    A venue that does not count is in the list of venues with its reason, and not in the ladder.
    """
    board = Board(Decimal(200))
    board.seat("kraken", "BTC/USDT", 5_000, clock.now_ns())
    board.publish(venue_book("kraken", KRAKEN), clock.now_ns())
    clock.advance(5_001)
    lines = drawn(board, clock.now_ns())

    assert ["kraken", "stale", "stale", "5001", "100", "101"] == lines[1]
    assert 1 == sum("kraken" in line for line in lines)


def test_unknown_venue_is_named_before_anything_is_drawn(capsys):
    """
    A misspelled venue ends the command with a sentence.
    """
    assert 2 == main(["BTC/USDT", "--venues", "krakn"])
    assert "krakn" in capsys.readouterr().err


def test_ladder_runs_until_it_is_interrupted():
    """
    Started on the simulated venues it draws their levels, and an interrupt ends it without a traceback.
    """
    with run_in_thread() as simulator:
        # Who starts the tests in the background has them, and so their children, deaf to interrupts.
        hearing = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        module = 'runpy.run_module("exchanges", run_name="__main__", alter_sys=True)'
        ladder = subprocess.Popen(
            [
                sys.executable,
                "-c",
                hearing + module,
                "BTC/USDT",
                "--venues",
                "okx,bybit",
                "--base-url",
                simulator.base_url,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "FORCE_COLOR": "1"},
        )
        try:
            ladder.stdout.read(1)  # It draws, or ends.
            ladder.send_signal(signal.SIGINT)
            _, errors = ladder.communicate(timeout=60)
        finally:
            ladder.kill()
            ladder.communicate()

    assert (0, b"") == (ladder.returncode, errors)
