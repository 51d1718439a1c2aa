"""Merge the venues' books into one, ranked by what the client really pays or receives.

Pure: no clock, no I/O, no logging.  ``screen`` decides what may be believed, ``merge`` makes one book of it.  What
cannot be merged honestly is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from functools import cached_property
from typing import NamedTuple

from exchanges.board import Source
from exchanges.book import Side, VenueBook
from exchanges.health import OUTLIER_REASON, State, apart_bps, outliers
from service.accounting import BPS, EXACT


class BookLevel(NamedTuple):
    """
    One venue's level in the consolidated book.

    Args:
        price: Quote asset per base asset, as the venue shows it.
        quantity: Base asset.
        net_price: What a taker pays (asks) or receives (bids) per unit with the venue's fee.
        fee_bps: The venue's taker fee.
    """

    venue: str
    price: Decimal
    quantity: Decimal
    net_price: Decimal
    fee_bps: Decimal


@dataclass(frozen=True)
class ConsolidatedBook:
    """
    All live venues' levels of one symbol at one moment; never empty on either side.

    Args:
        symbol: ``BTC/USDT``.
        bids: Best net price first.
        asks: Best net price first.
        best_bid: The highest bid by the price the venue shows.
        best_ask: The lowest ask by the price the venue shows.
        venues: Those whose levels are in it.
        sources: Every venue's part when the book was asked for, used or not.
    """

    symbol: str
    bids: tuple[BookLevel, ...]
    asks: tuple[BookLevel, ...]
    best_bid: BookLevel
    best_ask: BookLevel
    venues: tuple[str, ...]
    sources: tuple[Source, ...]

    @property
    def base_asset(self) -> str:
        """Give what is bought and sold."""
        return self.symbol.partition("/")[0]

    @property
    def quote_asset(self) -> str:
        """Give what is paid."""
        return self.symbol.partition("/")[2]

    @cached_property
    def mid(self) -> Decimal:
        """Give (best bid + best ask) / 2, crossed or not."""
        with localcontext(EXACT):
            return (self.best_bid.price + self.best_ask.price) / 2

    @property
    def crossed(self) -> bool:
        """Tell whether one venue bids more than another asks."""
        return self.best_bid.price > self.best_ask.price

    def levels(self, side: Side) -> tuple[BookLevel, ...]:
        """Give what an order of this side takes, best net price first."""
        return self.asks if side is Side.BUY else self.bids

    def best(self, side: Side) -> BookLevel:
        """Give the level with the best shown price for an order of this side."""
        return self.best_ask if side is Side.BUY else self.best_bid

    def gross(self, side: Side) -> list[BookLevel]:
        """Give the levels by the price the venues show, best first."""
        return sorted(self.levels(side), key=_gross_ranks[side])


@dataclass(frozen=True, slots=True)
class NoBook:
    """Why there is no consolidated book: a code of the contract, a sentence, and every venue's part."""

    code: str
    detail: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Rules:
    """
    When a symbol may be quoted.

    Args:
        venues_min: Live venues it needs.
        crossed_bps_max: How far venues may cross each other.
        outlier_bps: How far a venue's mid may be from the median, or two venues' from each other.
    """

    venues_min: int = 1
    crossed_bps_max: Decimal = Decimal(50)
    outlier_bps: Decimal = Decimal(100)


EXCLUDED_REASON, JUMP_REASON, DISAGREES_REASON, CROSSED_REASON = "excluded", "jump", "disagrees", "crossed"
"""Why a live venue's book is not used: left out by the request, or for what the venues say together."""


def screen(
    symbol: str, sources: Sequence[Source], rules: Rules, *, held: bool = False, chosen: Collection[str] | None = None
) -> tuple[Source, ...] | NoBook:
    """
    Decide which sources a symbol's book may be made from, or why there can be none.

    Args:
        sources: One per venue.  The board has left outliers out as they came; what a venue's going stale has
            brought to light since is left out here.
        held: The price leapt and has not been confirmed.
        chosen: Only these venues are wanted; what the others show is still held against them.

    Returns:
        The sources, each with the reason why it is not used, or None if it is.
    """
    sources = _without_outliers(sources, rules)
    live = [source for source in sources if source.live]
    needed = max(1, rules.venues_min)
    if len(live) < needed:
        outlying = any(source.reason == OUTLIER_REASON for source in sources)
        code = "venues_disagree" if outlying else "no_fresh_market_data"
        return NoBook(code, f"{symbol} has {len(live)} live venues and needs {needed}", sources)
    with localcontext(EXACT):
        trouble = _common_trouble(symbol, live, rules, held)
    if trouble is not None:
        code, reason, detail = trouble
        return NoBook(code, detail, _with_reason(sources, [source.venue for source in live], reason))
    if chosen is not None:
        left_out = [source.venue for source in live if source.venue not in chosen]
        sources = _with_reason(sources, left_out, EXCLUDED_REASON)
        if not any(used(source) for source in sources):
            return NoBook("no_fresh_market_data", f"none of the venues asked for is live for {symbol}", sources)
    return sources


def used(source: Source) -> bool:
    """Tell whether a screened source's levels are in the book."""
    return source.live and source.reason is None


def _common_trouble(symbol: str, live: Sequence[Source], rules: Rules, held: bool) -> tuple[str, str, str] | None:
    """Find what the live venues together are not to be believed for: code, reason and a sentence."""
    if held:
        return "no_fresh_market_data", JUMP_REASON, f"the price of {symbol} leapt and is not confirmed yet"
    mids = [_book(source).mid for source in live]
    if len(mids) == 2 and apart_bps(max(mids), min(mids)) > rules.outlier_bps:
        return "venues_disagree", DISAGREES_REASON, f"the two live prices of {symbol} are too far apart"
    best_bid = max(_book(source).bids[0].price for source in live)
    best_ask = min(_book(source).asks[0].price for source in live)
    if (best_bid - best_ask) / ((best_bid + best_ask) / 2) * BPS > rules.crossed_bps_max:
        return "venues_disagree", CROSSED_REASON, f"the live books of {symbol} cross by too much"
    return None


def merge(symbol: str, sources: Sequence[Source]) -> ConsolidatedBook:
    """Merge the books of screened sources, at least one of which is used."""
    in_use = [source for source in sources if used(source)]
    with localcontext(EXACT):
        bids = [level for source in in_use for level in _levels(source, Side.SELL)]
        asks = [level for source in in_use for level in _levels(source, Side.BUY)]
        bids.sort(key=_net_ranks[Side.SELL])
        asks.sort(key=_net_ranks[Side.BUY])
        return ConsolidatedBook(
            symbol=symbol,
            bids=tuple(bids),
            asks=tuple(asks),
            best_bid=min(bids, key=_gross_ranks[Side.SELL]),
            best_ask=min(asks, key=_gross_ranks[Side.BUY]),
            venues=tuple(source.venue for source in in_use),
            sources=tuple(sources),
        )


def _without_outliers(sources: Sequence[Source], rules: Rules) -> tuple[Source, ...]:
    mids = {source.venue: _book(source).mid for source in sources if source.live}
    out = outliers(mids, rules.outlier_bps)
    return tuple(
        replace(source, state=State.SUSPECT, reason=OUTLIER_REASON) if source.venue in out else source
        for source in sources
    )


def _with_reason(sources: Sequence[Source], venues: Collection[str], reason: str) -> tuple[Source, ...]:
    return tuple(replace(source, reason=reason) if source.venue in venues else source for source in sources)


def _book(source: Source) -> VenueBook:
    if source.book is None:
        raise ValueError(f"{source.venue} is live without a book")
    return source.book


def _levels(source: Source, side: Side) -> list[BookLevel]:
    book = _book(source)
    fee_bps = source.instrument.taker_fee_bps if source.instrument is not None else Decimal(0)
    factor = 1 + fee_bps / BPS if side is Side.BUY else 1 - fee_bps / BPS
    return [
        BookLevel(source.venue, price, quantity, price * factor, fee_bps)
        for price, quantity in (book.asks if side is Side.BUY else book.bids)
    ]


# Equal prices: the larger quantity first, then the venue's name, so that the same books always give the same fills.
_Rank = Callable[[BookLevel], tuple[Decimal, Decimal, Decimal, str]]
_net_ranks: dict[Side, _Rank] = {
    Side.BUY: lambda level: (level.net_price, level.price, -level.quantity, level.venue),
    Side.SELL: lambda level: (-level.net_price, -level.price, -level.quantity, level.venue),
}
_gross_ranks: dict[Side, _Rank] = {
    Side.BUY: lambda level: (level.price, level.net_price, -level.quantity, level.venue),
    Side.SELL: lambda level: (-level.price, -level.net_price, -level.quantity, level.venue),
}
