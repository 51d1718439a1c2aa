"""A recording plays as what it was: the same books in the same order, the same quotes to the digit, every time."""

from __future__ import annotations

import pytest

from exchanges.board import Board
from exchanges.book import Ladder
from exchanges.inputs import Failed, Rejected, Spoiled
from exchanges.replay import ReplayClock
from tests.rigs.replay import replay


async def test_replay_is_what_was_recorded(run):
    """
    Six venues, faults and a stalled loop: books, states, ages and quotes of two replays are those of the recording.
    """
    figures = await run(replay, 3)

    assert figures["ok"], str(figures)
    assert figures["books"] > 50
    assert figures["quotes"] > 20


def forgets_trouble(monkeypatch):
    """Play the books alone."""
    take = Board.take
    forgotten = (Failed, Rejected, Spoiled)
    monkeypatch.setattr(Board, "take", lambda board, told: None if isinstance(told, forgotten) else take(board, told))


def rounds(monkeypatch):
    """Lose the last digits on the way home."""

    def ladder(prices, quantities):
        return Ladder(prices, tuple(max(1, quantity // 10**15 * 10**15) for quantity in quantities))

    monkeypatch.setattr("exchanges.recorded.Ladder", ladder)


def runs_ahead(monkeypatch):
    """Let the clock run past what has not been played."""
    monkeypatch.setattr(ReplayClock, "hold", lambda clock, limit_ns: setattr(clock, "_limit_ns", None))


@pytest.mark.broken_copy
@pytest.mark.parametrize("broken", [forgets_trouble, rounds, runs_ahead])
async def test_rig_finds_a_replay_that_is_not(run, monkeypatch, broken):
    """
    What would make a replay another market than the recorded one turns the rig red.
    """
    broken(monkeypatch)

    assert not (await run(replay, 2))["ok"]
