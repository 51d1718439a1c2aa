"""Decide which venues' books of a symbol may be believed together.

Pure: no clock, no I/O, no logging.  What cannot be merged honestly is refused with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from exchanges.board import Source
from exchanges.book import VenueBook
from exchanges.health import OUTLIER_REASON, State, apart, outliers
from exchanges.instruments import Instrument
from service.market.book import ConsolidatedBook, NoBook
from service.market.conversion import StablePair


@dataclass(frozen=True, slots=True)
class Rules:
    """
    When a symbol may be quoted.

    Args:
        venues_min: Live venues it needs.
        crossed_bps_max: How far venues may cross each other.
        outlier_bps: How far a venue's mid may be from the median, or two venues' from each other.
        depeg_bps: How far a stable pair may be from 1 before nothing is converted through it.
    """

    venues_min: int = 1
    crossed_bps_max: Decimal = Decimal(50)
    outlier_bps: Decimal = Decimal(100)
    depeg_bps: Decimal = Decimal(100)


EXCLUDED_REASON, JUMP_REASON, DISAGREES_REASON, CROSSED_REASON = "excluded", "jump", "disagrees", "crossed"
NO_STABLE_PAIR_REASON, DEPEGGED_REASON, NO_RULES_REASON = "no_stable_pair", "depegged", "no_instrument"
"""Why a live venue's book is not used: left out by the request, for what the venues say together, for want of a way to
convert it, or because the venue's fee and steps are not known."""


class Part(NamedTuple):
    """One venue's part in a symbol, and the stable pair that it is converted through; None where it need not be."""

    source: Source
    pair: StablePair | None = None

    @property
    def used(self) -> bool:
        """Tell whether its levels are in the book, once it is screened."""
        return used(self.source)

    @property
    def book(self) -> VenueBook:
        """Give the book of a live source."""
        if self.source.book is None:
            raise ValueError(f"{self.source.venue} is live without a book")
        return self.source.book

    @property
    def instrument(self) -> Instrument:
        """Give the venue's rules for the symbol, without which nothing is used."""
        if self.source.instrument is None:
            raise ValueError(f"{self.source.venue} is used without an instrument")
        return self.source.instrument

    @property
    def mid(self) -> int:
        """Give the book's mid in the symbol's own quote asset."""
        return self.book.mid if self.pair is None else self.pair.at_mid(self.book.mid)

    def without(self, reason: str, state: State | None = None) -> Part:
        """Leave it out."""
        return self._replace(source=self.source._replace(reason=reason, state=state or self.source.state))


_LIVE = State.LIVE


def used(source: Source) -> bool:
    """Tell whether a screened source's levels are in the book."""
    return counts(source.state, source.reason)


def counts(state: State, reason: str | None) -> bool:
    """Tell whether a screened source of this state, left out for this reason if any, is in the book."""
    return reason is None and state is _LIVE


def screen(
    symbol: str, parts: Sequence[Part], rules: Rules, *, held: bool = False, chosen: Collection[str] | None = None
) -> tuple[Part, ...] | NoBook:
    """
    Decide which parts a symbol's book may be made from, or why there can be none.

    Args:
        parts: One per venue, some of them perhaps left out already.  The board has left outliers among one symbol's
            books out as they came; what a venue's going stale or a conversion brings to light is left out here.
        held: The price leapt and has not been confirmed.
        chosen: Only these venues are wanted; what the others show is still held against them.

    Returns:
        The parts, each with the reason why it is not used, or None if it is.
    """
    parts = _without_outliers(parts, rules)
    live = [part for part in parts if part.used]
    needed = max(1, rules.venues_min)
    if len(live) < needed:
        outlying = any(part.source.reason == OUTLIER_REASON for part in parts)
        code = "venues_disagree" if outlying else "no_fresh_market_data"
        return _no_book(code, f"{symbol} has {len(live)} live venues and needs {needed}", parts)
    mids = [part.mid for part in live]
    if len(mids) == 2 and apart(max(mids), min(mids), rules.outlier_bps):
        return _no_book(
            "venues_disagree", f"the two live prices of {symbol} are too far apart", _left_out(parts, DISAGREES_REASON)
        )
    if held:
        return _no_book(
            "no_fresh_market_data",
            f"the price of {symbol} leapt and is not confirmed yet",
            _left_out(parts, JUMP_REASON),
        )
    if chosen is not None:
        parts = tuple(
            part.without(EXCLUDED_REASON) if part.used and part.source.venue not in chosen else part for part in parts
        )
        if not any(part.used for part in parts):
            return _no_book("no_fresh_market_data", f"none of the venues asked for is live for {symbol}", parts)
    return tuple(parts)


def crossed_too_far(book: ConsolidatedBook, rules: Rules) -> bool:
    """Tell whether venues cross each other by more than they may."""
    over = book.bids.top.price - book.asks.top.price
    return over * 2 * 10_000_000_000 > int(rules.crossed_bps_max * 1_000_000) * book.twice_mid


def refuse_crossed(symbol: str, parts: Sequence[Part]) -> NoBook:
    """Say that the live books cross by too much."""
    return _no_book(
        "venues_disagree", f"the live books of {symbol} cross by too much", _left_out(parts, CROSSED_REASON)
    )


def _no_book(code: str, detail: str, parts: Sequence[Part]) -> NoBook:
    return NoBook(code, detail, tuple(part.source for part in parts))


def _left_out(parts: Sequence[Part], reason: str) -> list[Part]:
    return [part.without(reason) if part.used else part for part in parts]


def _without_outliers(parts: Sequence[Part], rules: Rules) -> Sequence[Part]:
    out = outliers({part.source.venue: part.mid for part in parts if part.used}, rules.outlier_bps)
    if not out:
        return parts
    return [part.without(OUTLIER_REASON, State.SUSPECT) if part.source.venue in out else part for part in parts]
