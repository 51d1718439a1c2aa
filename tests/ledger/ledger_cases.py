"""Executions to record, and programs that a test runs beside itself: ``python ledger_cases.py hold|record PATH``."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa

from exchanges.book import Side, units
from service import logs
from service.desk.accounts import QUANTITY_PER_AMOUNT, settlement
from service.desk.execution import ExecutedFill, Execution
from service.desk.firm import FirmQuote, FirmStatus
from service.desk.orders import QuoteRequest
from service.ledger.batch import stored_execution
from service.ledger.protocol import Changes, Claim
from service.ledger.sqlite import SqliteLedger
from service.market.taken import LevelKey, Lot
from service.pricing.bounds import Ask
from service.tracing import handle

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
STARTING = {"USDT": 1_000_000 * 10**8, "BTC": 10 * 10**8}
"""What a new account begins with."""
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


def ref():
    """Name something new."""
    return f"{os.getpid()}-{next(_numbers)}"


def execution(client_order_id=None, **changes):
    """Make an execution: filled by two venues, unless *changes* say otherwise."""
    number = ref()
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


def lot(name, n=0, left="1", *, price="101", symbol="BTC/USDT", **changes):
    """Make what was taken of one of kraken's asks under a name."""
    key = LevelKey("kraken", symbol, Side.BUY, units(Decimal(price)))
    values = {"since_ms": 1_793_534_400_000, "step": 10**10, "shown": units(Decimal(10)), "account": "demo"}
    return Lot(name, n, key, units(Decimal(left)), **values | {"held_until_ms": None} | changes)


def firm_quote(name, **changes):
    """Make an open firm quote for one BTC, unless *changes* say otherwise."""
    values = {
        "quote_id": name,
        "account": "demo",
        "instance": "instance",
        "status": FirmStatus.OPEN,
        "request": QuoteRequest("BTC/USDT", Ask(quantity=units(Decimal(1))), (Side.BUY,)),
        "side": Side.BUY,
        "quantity": units(Decimal(1)),
        "subtotal": money(101),
        "fees": money("0.1"),
        "markup": 0,
        "total": money("101.1"),
        "fills": (fill(),),
        "held_asset": "USDT",
        "held_amount": money("101.1"),
        "created_at": NOON,
        "expires_at": NOON + timedelta(seconds=3),
        "message": b"{}",
    }
    return FirmQuote(**values | changes)


async def hold_for(ledger, quote, lots=()):
    """Have a firm quote recorded, with the funds and the liquidity that it holds."""

    def decide(state):
        holdings = state.holdings.with_held(quote.held_asset, quote.held_amount)
        return None, Changes("firm_quote", holdings=holdings, lots=tuple(lots), firm=(quote,))

    await ledger.transact(claim(quote.account, ref=quote.quote_id, symbols=(quote.request.symbol,)), decide)


class Outcome(StrEnum):
    """What has become of an order that was to be recorded."""

    RECORDED = "recorded"
    KNOWN = "known"
    QUOTE_USED = "quote_used"


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def handling(request_id, trace_id=None):
    """Do for a request what is done meanwhile."""
    request = handle(request_id, [f"00-{trace_id}-{SPAN}-01"] if trace_id else [])
    try:
        yield
    finally:
        request.over = True


def claim(account="demo", **changes):
    """Claim an account, and what *changes* say."""
    return Claim(**{"ref": ref(), "account": account, "now": NOON} | changes)


def claim_of(one):
    """Claim what an execution is about."""
    return claim(
        one.account,
        ref=one.execution_id,
        symbols=(one.symbol,),
        client_order_id=one.client_order_id,
        quote_key=one.quote_key,
    )


def settled(one, state, lots=()):
    """What an execution changes, its entries and balances with it."""
    holdings, entries = None, ()
    if one.fills:
        side = Side(one.side)
        entries = settlement(one.account, one.symbol, side, one.fills)
        quantity = one.filled_quantity // QUANTITY_PER_AMOUNT
        holdings = state.holdings.with_entries(one.account, entries)
        holdings = holdings.with_fill(one.symbol, side, quantity, one.subtotal, one.total)
    return Changes("execution", execution=one, holdings=holdings, entries=entries, lots=tuple(lots))


def unsettled(one, state):
    """What an execution changes where nobody pays for it."""
    return Changes("execution", execution=one)


async def record(ledger, one, changes=settled):
    """Have an execution recorded as the desk does it: not twice under one id, nor two fills on one quote."""

    def decide(state):
        if state.known is not None:
            return (Outcome.KNOWN, state.known), None
        if state.quote_used and one.uses_quote:
            return (Outcome.QUOTE_USED, None), None
        return (Outcome.RECORDED, stored_execution(one)), changes(one, state)

    return await ledger.transact(claim_of(one), decide)


async def look(ledger, account="demo", **claimed):
    """Give the state that a decision is made from, and write nothing."""
    return await ledger.transact(claim(account, **claimed), lambda state: (state, None))


async def quote_used(ledger, key):
    """Tell whether a quote is used."""
    return (await look(ledger, quote_key=key)).quote_used


def select(path, statement):
    """Read the file past the ledger, as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


async def reaches(condition, within_s=5.0):
    """Wait until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.005)


@contextmanager
def stuck_commit(ledger):
    """Keep the writer inside its next commit until the block ends; gives an event: it is there."""
    inside, go_on = threading.Event(), threading.Event()

    def wait(connection):
        inside.set()
        go_on.wait(10)

    sa.event.listen(ledger._engine, "commit", wait)
    try:
        yield inside
    finally:
        go_on.set()


async def in_one_batch(ledger, *calls):
    """Start calls while an earlier commit keeps them waiting, so that they share the next; gives results or errors."""
    with stuck_commit(ledger) as inside:
        first = asyncio.ensure_future(record(ledger, execution(account="first")))
        await reaches(inside.is_set)
        rest = [asyncio.ensure_future(call) for call in calls]
        await reaches(lambda: len(ledger._waiting) == len(calls))
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


def hold(path):
    """Have the ledger open until told to end."""
    ledger = SqliteLedger.open(path, "simulated")
    os.write(1, b"open\n")
    sys.stdin.read()
    asyncio.run(ledger.close())


async def record_for_ever(path):
    """Record for ever, with 8 callers; print each order's id once it is acknowledged."""
    ledger = SqliteLedger.open(path, "simulated")

    async def caller():
        while True:
            one = execution(quote_key=os.urandom(16))
            await record(ledger, one)
            os.write(1, f"{one.client_order_id}\n".encode())

    await asyncio.gather(*(caller() for _ in range(8)))


if __name__ == "__main__":
    logs.configure("json", "error", sys.stderr.buffer)
    if sys.argv[1] == "hold":
        hold(Path(sys.argv[2]))
    else:
        asyncio.run(record_for_ever(Path(sys.argv[2])))
