"""The engine alone, in turn with others that answer the same question: NautilusTrader, ccxt.pro, a naive Decimal walk.

Ten buys of mixed depth on five venues of 500 levels a side; a book that changes; and how both grow.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any

from ccxt.async_support.base.ws.order_book import OrderBook

from bench.books import LEVELS, Books, rows
from bench.figures import cpu_ms, ratios, show, spread
from bench.naive import merged_asks, walk
from exchanges.book import Side, VenueBook, decimal, units
from service.market.book import ConsolidatedBook
from service.pricing.bounds import Ask
from service.pricing.quote import price
from service.pricing.routing import MERGE_AFTER

ROUNDS = 9
REPEATS = 200
VENUES = 5
SHARES = (0.0005, 0.001, 0.004, 0.01, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Quantities of the ten orders, as shares of all that rests on the side: a few levels to 2,000."""
NAUTILUS_PYTHON = Path(__file__).parents[1] / ".venv-nautilus/bin/python"


def ten_quotes() -> dict[str, Any]:
    """Measure ten quotes on a clean book: allocation, fees, and what the waterfall is made from."""
    books = Books()
    shown = [books.accepted(books.raw(number), number) for number in range(VENUES)]
    book = books.consolidated(shown)
    quantities = [step(decimal(int(book.asks.depth * share))) for share in SHARES]
    asks = [Ask(units(quantity)) for quantity in quantities]
    merge(book, asks)
    fees = [books.instrument(number).taker_fee_bps for number in range(VENUES)]
    ours, naive_ms, ccxt_ms, average_ms, fills_ms = [], [], [], [], []
    naive_levels, floats = merged_asks(shown, fees), OrderBook({"asks": merged(shown, "asks"), "bids": []})
    with nautilus(shown, quantities) as other:
        for _ in range(ROUNDS):
            ours.append(cpu_ms(lambda: [priced(book, one) for one in asks], REPEATS))
            naive_ms.append(cpu_ms(lambda: [walk(naive_levels, one) for one in quantities], 3))
            ccxt_ms.append(
                cpu_ms(lambda: [walk_floats(floats["asks"], float(one)) for one in quantities], REPEATS // 10)
            )
            if other is not None:
                told = other.measure(REPEATS)
                average_ms.append(told["average_ms"] / REPEATS)
                fills_ms.append(told["simulate_fills_ms"] / REPEATS)
    result: dict[str, Any] = {
        "venues": VENUES,
        "levels_a_side": LEVELS,
        "levels_taken": [sum(leg.amounts.levels for leg in price(book, Side.BUY, one).legs) for one in asks],
        "ours_ms": spread(ours),
        "naive_decimal_ms": spread(naive_ms),
        "ccxt_pro_floats_ms": spread(ccxt_ms),
        "naive_over_ours": ratios(ours, naive_ms),
        "ccxt_pro_over_ours": ratios(ours, ccxt_ms),
    }
    if other is not None:
        result |= {
            "nautilus": other.about,
            "nautilus_average_ms": spread(average_ms),
            "nautilus_simulate_fills_ms": spread(fills_ms),
            "nautilus_average_over_ours": ratios(ours, average_ms),
            "nautilus_simulate_fills_over_ours": ratios(ours, fills_ms),
        }
    print(f"ten quotes of {result['levels_taken']} levels, {VENUES} venues of {LEVELS} levels a side (CPU time)")
    for name, figures in result.items():
        if isinstance(figures, dict) and "median" in figures:
            show(name, figures)
    return result


def merge(book: ConsolidatedBook, asks: list[Ask]) -> None:
    """Ask so often that the side is merged where it is asked: the book is clean."""
    for _ in range(MERGE_AFTER + 1):
        quote_all(book, asks)


def quote_all(book: ConsolidatedBook, asks: list[Ask]) -> None:
    """Price all orders once."""
    for one in asks:
        price(book, Side.BUY, one)


def priced(book: ConsolidatedBook, ask: Ask) -> tuple[Any, ...]:
    """Price an order: quantity per venue, money, fees, and the amounts that the waterfall is made from."""
    quote = price(book, Side.BUY, ask)
    spread_ = quote.spread
    return spread_.quantities, spread_.subtotal, spread_.fees, spread_.notional, book.twice_mid, book.asks.top


def step(quantity: Decimal) -> Decimal:
    """Cut a quantity to the venues' step."""
    return quantity.quantize(Decimal("0.00001"))


def merged(shown: list[VenueBook], side: str) -> list[list[float]]:
    """Add up all venues' levels by price, as a book for one venue wants them."""
    quantities: dict[float, float] = {}
    for book in shown:
        for level_price, quantity in rows(getattr(book, side)):
            quantities[level_price] = quantities.get(level_price, 0.0) + quantity
    return [[level_price, round(quantity, 6)] for level_price, quantity in sorted(quantities.items())]


def walk_floats(levels: Any, quantity: float) -> float:
    """Average a quantity over ccxt.pro's own book, in floats."""
    left, notional = quantity, 0.0
    for level_price, there in levels:
        take = min(left, there)
        notional += level_price * take
        left -= take
        if left <= 0:
            break
    return notional / quantity


class Nautilus:
    """NautilusTrader's book in a process of its own; calling it measures so many rounds there."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._to, self._from = process.stdin, process.stdout
        self.about: dict[str, str] = {}

    def load(self, asked: dict[str, Any]) -> None:
        """Hand over the levels and the quantities."""
        self.about = self._say(json.dumps(asked))

    def measure(self, rounds: int) -> dict[str, float]:
        """Give the milliseconds that so many rounds of all quantities take there."""
        return dict(self._say(str(rounds)))

    def _say(self, line: str) -> Any:
        to, answers = _open(self._to), _open(self._from)
        to.write(line + "\n")
        to.flush()
        return json.loads(answers.readline())


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def nautilus(shown: list[VenueBook], quantities: list[Decimal]) -> Iterator[Nautilus | None]:
    """Start NautilusTrader on the venues' merged levels; None where its environment is not there."""
    if not NAUTILUS_PYTHON.exists():
        print("  NautilusTrader is left out: its environment is not there (make bench makes it where it can)")
        yield None
        return
    asked = {
        "asks": merged(shown, "asks"),
        "bids": merged(shown, "bids"),
        "quantities": [float(quantity) for quantity in quantities],
    }
    program = Path(__file__).parent / "nautilus/book.py"
    with subprocess.Popen(
        [NAUTILUS_PYTHON, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        book = Nautilus(process)
        book.load(asked)
        yield book
        _open(process.stdin).close()


def change() -> dict[str, Any]:
    """Measure a book that comes in (checks, exact numbers, running sums) and the next deep quote, 5 and 20 venues."""
    result = {}
    for venues in (5, 20):
        figures = {
            "one_side": spread([first_quote(venues, LEVELS, (Side.BUY,), n) for n in range(ROUNDS * 5)]),
            "both_sides": spread([first_quote(venues, LEVELS, tuple(Side), n) for n in range(ROUNDS * 5)]),
        }
        print(f"a book of {LEVELS} levels a side comes in, and the next deep quote, {venues} venues (CPU time, ms)")
        for name, one in figures.items():
            show(name, one)
        result[f"{venues}_venues_ms"] = figures
    return result


_kept: dict[tuple[int, int], tuple[Books, list[VenueBook], ConsolidatedBook]] = {}


def _market(venues: int, levels: int) -> tuple[Books, list[VenueBook], ConsolidatedBook]:
    if (venues, levels) not in _kept:
        books = Books()
        shown = [books.accepted(books.raw(number, levels=levels), number) for number in range(venues)]
        book = books.consolidated(shown)
        for side in Side:
            price(book, side, Ask(book.side(side).depth // 3 // 10**13 * 10**13))  # The others' sums are made.
        _kept[venues, levels] = (books, shown, book)
    return _kept[venues, levels]


def first_quote(venues: int, levels: int, sides: tuple[Side, ...], number: int) -> float:
    """Accept a new book of the first venue, then quote a third of all there is."""
    books, _, before = _market(venues, levels)
    raw = books.raw(0, 60_000 + 500 * number, levels)

    def accept_and_quote() -> None:
        new = books.accepted(raw, 0)
        book = books.consolidated([new])
        for side in sides:
            kept = before.side(side)
            whole = type(kept)(side, (*book.side(side).venues, *kept.venues[1:]))
            quote = price(ConsolidatedBook(before.symbol, whole, whole), side, Ask(whole.depth // 3 // 10**13 * 10**13))
            assert quote.quantity

    return cpu_ms(accept_and_quote)


def growth() -> dict[str, Any]:
    """Measure how a quote on a clean book, and the first one after a change, grow with venues and with levels."""
    result: dict[str, Any] = {"venues": {}, "levels": {}}
    print("growth: ten quotes on a clean book; a book that comes in and the next quote (CPU time, ms, medians)")
    for name, sizes in (
        ("venues", [(venues, LEVELS) for venues in (1, 2, 5, 10, 20, 40)]),
        ("levels", [(5, levels) for levels in (20, 100, 500, 1_000, 5_000)]),
    ):
        for venues, levels in sizes:
            _, _, book = _market(venues, levels)
            asks = [Ask(units(step(decimal(int(book.asks.depth * share))))) for share in SHARES]
            merge(book, asks)
            clean = spread([cpu_ms(partial(quote_all, book, asks), 20) for _ in range(ROUNDS)])
            first = spread([first_quote(venues, levels, (Side.BUY,), n) for n in range(ROUNDS)])
            count = venues if name == "venues" else levels
            result[name][count] = {"ten_quotes_ms": clean, "change_and_quote_ms": first}
            print(f"  {count:6} {name:8} {clean['median']:10.3f} {first['median']:10.3f}")
    return result


def run() -> dict[str, Any]:
    """Measure everything of the engine."""
    return {"ten_quotes": ten_quotes(), "change": change(), "growth": growth()}
