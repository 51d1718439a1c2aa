"""NautilusTrader's order book, asked from another process: one line in, one line out.

Runs in an environment of its own (see the Makefile): NautilusTrader may need another Python than the service.  The
first line holds the levels and the quantities; each number after it is answered with the milliseconds that so many
rounds of all quantities took, by ``get_avg_px_for_quantity`` and by ``simulate_fills``.
"""

from __future__ import annotations

import json
import sys
from time import process_time
from typing import Any

import nautilus_trader
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.data import BookOrder
from nautilus_trader.model.enums import BookType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.test_kit.stubs.execution import TestExecStubs


def main() -> None:
    """Answer until the input ends."""
    asked = json.loads(sys.stdin.readline())
    book = OrderBook(InstrumentId.from_str("BTCUSDT.BINANCE"), BookType.L2_MBP)
    for number, (price, quantity) in enumerate(asked["asks"], start=1):
        book.add(BookOrder(OrderSide.SELL, Price(price, 2), Quantity(quantity, 6), number), 0)
    for number, (price, quantity) in enumerate(asked["bids"], start=1_000_000):
        book.add(BookOrder(OrderSide.BUY, Price(price, 2), Quantity(quantity, 6), number), 0)
    quantities = [Quantity(quantity, 6) for quantity in asked["quantities"]]
    orders = [order(quantity) for quantity in quantities]
    answer({"version": nautilus_trader.__version__, "python": sys.version.split()[0]})
    for line in sys.stdin:
        rounds = int(line)
        averages = timed(lambda: [book.get_avg_px_for_quantity(one, OrderSide.BUY) for one in quantities], rounds)
        fills = timed(lambda: [book.simulate_fills(one, 2, 6, False) for one in orders], rounds)
        answer({"average_ms": averages, "simulate_fills_ms": fills})


def order(quantity: Quantity) -> Any:
    """Make a buy order that takes whatever the book has."""
    return TestExecStubs.limit_order(
        instrument=TestInstrumentProvider.btcusdt_binance(), price=Price(10_000_000, 2), quantity=quantity
    )


def timed(work: Any, rounds: int) -> float:
    """Give the CPU milliseconds that so many rounds take."""
    started = process_time()
    for _ in range(rounds):
        work()
    return (process_time() - started) * 1_000


def answer(message: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
