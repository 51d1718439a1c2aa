"""A desk's room, and the record that it works on."""

from __future__ import annotations

import shutil

import pytest

from service.ledger.sqlite import SqliteLedger
from tests.service.desk.desk_room import COINBASE, KRAKEN, PLENTY, Room


@pytest.fixture
async def ledger(tmp_path, empty_ledger):
    path = shutil.copy(empty_ledger, tmp_path / "ledger.db")
    ledger = SqliteLedger.open(path, "simulated", PLENTY)
    yield ledger
    await ledger.close()


@pytest.fixture
def room(clock, ledger):
    room = Room(clock, ledger)
    room.publish(coinbase=COINBASE, kraken=KRAKEN)
    return room
