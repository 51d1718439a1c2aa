"""Move the prices and the depth of assets along paths that are written down beforehand.

Pure, and in whole numbers: where a price stands depends on the moves and on the moment, and on nothing asked before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ONE = 10**10
"""A factor of 1 as an integer."""
ASSETS = ("BTC", "ETH", "USDT", "USDC")
"""What can be moved: the assets that have a price in dollars."""


@dataclass(frozen=True, slots=True)
class Move:
    """
    Bring an asset's price, or the depth of its books, to somewhere else.

    Args:
        over_ms: How long it takes, in a straight line; 0 for at once.
        asset: One of ``ASSETS``.
        price: Where the price in dollars goes, in units of ``ONE``, of what it would be without any move; None leaves
            it alone.
        depth: Where the quantities of the books with this base asset go, likewise.
    """

    over_ms: int
    asset: str
    price: int | None = None
    depth: int | None = None


class Shocks:
    """
    Where all prices and depths stand at any moment.

    Args:
        moves: Each with the simulated time in ms at which it begins, in the order of these times.  One that begins
            before another one of the same asset is over takes over from where that one has come to.
    """

    def __init__(self, moves: Iterable[tuple[int, Move]] = ()) -> None:
        """Join the moves to a path for each asset."""
        self._prices: dict[str, _Path] = {}
        self._depths: dict[str, _Path] = {}
        for at_ms, move in moves:
            for paths, target in ((self._prices, move.price), (self._depths, move.depth)):
                if target is not None:
                    path = paths.get(move.asset, _NO_PATH)
                    paths[move.asset] = path.going_on(at_ms, move.over_ms, target)

    def price(self, symbol: str, at_ms: int) -> tuple[int, int]:
        """Give the factor on a symbol's mid as numerator and denominator: base in dollars, quote asset in dollars."""
        base, _, quote = symbol.partition("/")
        return self._prices.get(base, _NO_PATH).at(at_ms), self._prices.get(quote, _NO_PATH).at(at_ms)

    def depth(self, base: str, at_ms: int) -> int:
        """Give the factor, in units of ``ONE``, on the quantities of the books with this base asset."""
        return self._depths.get(base, _NO_PATH).at(at_ms)


class _Path:
    """Straight lines from ``ONE`` through points of time and value, and from the last one on its value."""

    def __init__(self, points: Sequence[tuple[int, int]]) -> None:
        self._points = tuple(points)

    def at(self, at_ms: int) -> int:
        after = bisect_right(self._points, at_ms, key=lambda point: point[0])
        if after == 0:
            return ONE
        since_ms, value = self._points[after - 1]
        if after == len(self._points):
            return value
        until_ms, target = self._points[after]
        return value + (target - value) * (at_ms - since_ms) // (until_ms - since_ms)

    def going_on(self, at_ms: int, over_ms: int, target: int) -> _Path:
        before = [point for point in self._points if point[0] < at_ms]
        return _Path([*before, (at_ms, self.at(at_ms)), (at_ms + over_ms, target)])


_NO_PATH = _Path(())
