"""Executions to record, and programs that a test runs beside itself: ``python ledger_cases.py hold|record PATH``."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from exchanges.book import units
from service import logs
from service.desk.execution import ExecutedFill, Execution
from service.ledger.sqlite import SqliteLedger

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
_numbers = itertools.count()


def money(number):
    """Give an amount of money at its scale."""
    return int(Decimal(number).scaleb(8))


def fill(venue="kraken", price="101", quantity="1", **changes):
    """Make what one level gave."""
    values = {
        "venue": venue,
        "symbol": "BTC/USDT",
        "price": units(Decimal(price)),
        "quantity": units(Decimal(quantity)),
        "subtotal": money(Decimal(price) * Decimal(quantity)),
        "fee": money("0.1"),
        "markup": 0,
        "book_age_ms": 12,
        "sequence": 7,
        "hop": None,
    }
    return ExecutedFill(**values | changes)


def execution(client_order_id=None, **changes):
    """Make an execution: filled by two venues, unless *changes* say otherwise."""
    number = f"{os.getpid()}-{next(_numbers)}"
    client_order_id = client_order_id or f"order-{number}"
    rejected = changes.get("status") == "rejected"
    values = {
        "execution_id": f"execution-{number}",
        "account": "demo",
        "client_order_id": client_order_id,
        "fingerprint": bytes(32),
        "quote_key": None,
        "market_data": "simulated",
        "status": "filled",
        "reject_code": "limit_not_met" if rejected else None,
        "symbol": "BTC/USDT",
        "side": "buy",
        "time_in_force": "fok",
        "requested_quantity": units(Decimal(3)),
        "requested_total": None,
        "filled_quantity": units(Decimal(0 if rejected else 3)),
        "subtotal": money(0 if rejected else 304),
        "fees": money("0.2"),
        "markup": 0,
        "total": money("304.2"),
        "fills": () if rejected else (fill(), fill("coinbase", "101.5", "2", sequence=None)),
        "executed_at": NOON,
        "receipt": f'{{"client_order_id":"{client_order_id}"}}'.encode(),
    }
    return Execution(**values | changes)


def hold(path):
    """Have the ledger open until told to end."""
    ledger = SqliteLedger.open(path, "simulated")
    os.write(1, b"open\n")
    sys.stdin.read()
    asyncio.run(ledger.close())


async def record(path):
    """Record for ever, with 8 callers; print each order's id once it is acknowledged."""
    ledger = SqliteLedger.open(path, "simulated")

    async def caller():
        while True:
            one = execution(quote_key=os.urandom(16))
            await ledger.record(one)
            os.write(1, f"{one.client_order_id}\n".encode())

    await asyncio.gather(*(caller() for _ in range(8)))


if __name__ == "__main__":
    logs.configure("json", "error", sys.stderr.buffer)
    if sys.argv[1] == "hold":
        hold(Path(sys.argv[2]))
    else:
        asyncio.run(record(Path(sys.argv[2])))
