"""Show a live ladder of several venues in the terminal: ``python -m exchanges BTC/USDT``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from decimal import Decimal

import structlog
from rich.console import Group
from rich.live import Live
from rich.table import Table

from exchanges.board import Board, Source
from exchanges.clock import SystemClock
from exchanges.errors import VenueConfigError
from exchanges.feeds import Feeds, VenueConfig

REDRAW_S = 0.25
VENUES = "binance,kraken,coinbaseexchange,okx,bybit,bitstamp"
_STYLES = {"live": "green", "warming": "yellow", "stale": "red", "suspect": "red", "down": "red"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until interrupted; give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m exchanges", description=__doc__)
    parser.add_argument("symbol", help="such as BTC/USDT")
    parser.add_argument("--venues", default=VENUES, help=f"ccxt ids with commas between them (default: {VENUES})")
    parser.add_argument("--depth", type=int, default=10, help="levels a side")
    parser.add_argument("--base-url", help="send all addresses there, for the simulator")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        asyncio.run(_watch(options.symbol, options.venues.split(","), options.depth, options.base_url))
    except VenueConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


async def _watch(symbol: str, venues: Sequence[str], depth: int, base_url: str | None) -> None:
    clock = SystemClock()
    configs = [VenueConfig(name, name, base_url=base_url) for name in venues]
    feeds = Feeds(configs, [symbol], Decimal(100), clock)
    try:
        with Live(screen=sys.stdout.isatty(), refresh_per_second=1 / REDRAW_S, transient=False) as live:
            starting = asyncio.create_task(feeds.start())
            while True:
                live.update(render(feeds.board, symbol, depth, clock.now_ns()))
                if starting.done():
                    starting.result()
                await asyncio.sleep(REDRAW_S)
    finally:
        await feeds.close()


def render(board: Board, symbol: str, depth: int, now_ns: int) -> Group:
    """Draw the venues and, best price first, the levels that all live ones show."""
    sources = board.sources(symbol, now_ns)
    return Group(_venues_table(sources), _ladder(symbol, [source for source in sources if source.live], depth))


def _venues_table(sources: Sequence[Source]) -> Table:
    table = Table("venue", "state", "reason", box=None)
    for column in ("age ms", "bid", "ask"):
        table.add_column(column, justify="right")
    for source in sources:
        book = source.book
        table.add_row(
            source.venue,
            f"[{_STYLES[source.state]}]{source.state}[/]",
            source.reason or "",
            "" if source.age_ms is None else str(source.age_ms),
            "" if book is None else f"{book.bids[0].price:f}",
            "" if book is None else f"{book.asks[0].price:f}",
        )
    return table


def _ladder(symbol: str, live: Sequence[Source], depth: int) -> Table:
    table = Table("venue", title=symbol, box=None)
    for column in ("bid quantity", "price", "ask quantity"):
        table.add_column(column, justify="right")
    asks = sorted((level, source.venue) for source in live if source.book for level in source.book.asks)[:depth]
    bids = sorted(((level, source.venue) for source in live if source.book for level in source.book.bids), reverse=True)
    for level, venue in reversed(asks):
        table.add_row(venue, "", f"[red]{level.price:f}[/]", f"{level.quantity:f}")
    for level, venue in bids[:depth]:
        table.add_row(venue, f"{level.quantity:f}", f"[green]{level.price:f}[/]", "")
    return table


if __name__ == "__main__":
    sys.exit(main())
