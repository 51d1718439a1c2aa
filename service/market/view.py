"""Give the consolidated book of a symbol as it is now.

A view over the board: built when first asked for and kept until a book in it is replaced.  Whether it may be used is
decided anew each time it is read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from exchanges.board import Board
from exchanges.book import VenueBook
from service.market.book import ConsolidatedBook, NoBook, Rules, merge, screen, used


class MarketView:
    """Consolidated books of all symbols."""

    def __init__(self, board: Board, rules: Rules) -> None:
        """Look at *board* by *rules*."""
        self._board = board
        self._rules = rules
        self._kept: dict[str, tuple[tuple[VenueBook, ...], ConsolidatedBook]] = {}

    @property
    def symbols(self) -> Collection[str]:
        """Name the symbols that can be asked for."""
        return self._board.symbols

    def book(self, symbol: str, now_ns: int, chosen: Collection[str] | None = None) -> ConsolidatedBook | NoBook:
        """
        Give a symbol's book, or why there is none.

        Args:
            now_ns: Boot-time clock; ages are judged at this moment.
            chosen: Use these venues only; None for all.
        """
        sources = screen(
            symbol, self._board.sources(symbol, now_ns), self._rules, held=self._board.held(symbol), chosen=chosen
        )
        if isinstance(sources, NoBook):
            return sources
        books = tuple(source.book for source in sources if used(source) and source.book is not None)
        kept = self._kept.get(symbol)
        if kept is not None and len(kept[0]) == len(books) and all(map(_is, kept[0], books)):
            return replace(kept[1], sources=sources)
        merged = merge(symbol, sources)
        if chosen is None:
            self._kept[symbol] = (books, merged)
        return merged

    @property
    def venues_min(self) -> int:
        """Give how many live venues a symbol needs."""
        return max(1, self._rules.venues_min)


def _is(one: object, other: object) -> bool:
    return one is other
