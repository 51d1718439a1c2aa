"""Give the consolidated book of a symbol as it is now.

A view over the board: built when first asked for and kept until a book in it is replaced.  Whether it may be used is
decided anew each time it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from exchanges.board import Board, Source
from exchanges.book import Ladder, Side, VenueBook, units
from exchanges.instruments import Instrument
from service.accounting import rate
from service.market.book import BookSide, ConsolidatedBook, Netted, NoBook, Snapshot
from service.market.conversion import StablePair, converted
from service.market.netting import charges_on, netted, pair_without_taken, without_taken
from service.market.screening import (
    DEPEGGED_REASON,
    NO_RULES_REASON,
    NO_STABLE_PAIR_REASON,
    Part,
    Rules,
    crossed_too_far,
    refuse_crossed,
    screen,
)
from service.market.side import OrderRules, OwnSide, VenueSide, direct
from service.market.taken import NOTHING, Charge, Charges

KEPT_MAX = 256
"""Books that are kept at once, choices of venues included."""

_BIDS, _ASKS = Side.SELL, Side.BUY

Listings = Mapping[str, Mapping[str, str]]
"""Symbols that are served, each with the venues that serve it and what they trade it as, in the settings' order."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A book, and the values that it was made from."""

    made_from: tuple[Any, ...]
    book: ConsolidatedBook


@dataclass(frozen=True, slots=True)
class _Seen:
    """
    What was seen of a symbol when the board stood like this.

    Args:
        parts: Screened; those that are used are in the book.
    """

    standing: int
    parts: Sequence[Part]
    book: ConsolidatedBook


class MarketView:
    """Consolidated books of all symbols."""

    def __init__(self, board: Board, rules: Rules, listings: Listings) -> None:
        """Look at *board* by *rules*; what it shows beside the *listings* is for converting only."""
        self._board = board
        self._rules = rules
        self._listings = listings
        self._seen: dict[tuple[str, frozenset[str] | None], _Seen] = {}
        self._kept: dict[tuple[str, frozenset[str] | None, str | None], _Kept] = {}
        self._own_sides: dict[tuple[str, str], tuple[VenueBook, Instrument, dict[Side, OwnSide]]] = {}
        self._left_sides: dict[tuple[str, str, Side], tuple[OwnSide, Charge, OwnSide]] = {}
        self._direct: dict[tuple[str, str, Side, bool], tuple[OwnSide, VenueSide]] = {}
        self._pairs: dict[tuple[str, str], tuple[ConsolidatedBook, StablePair]] = {}

    def serve(self, rules: Rules, listings: Listings) -> None:
        """Go by other *rules* and *listings* from now on; nothing is kept of what was made by those before."""
        self._rules, self._listings = rules, listings
        self._seen.clear()
        kept = (self._kept, self._own_sides, self._left_sides, self._direct, self._pairs)
        for books in kept:
            books.clear()

    @property
    def symbols(self) -> Collection[str]:
        """Name the symbols that can be asked for."""
        return self._listings.keys()

    @property
    def venues_min(self) -> int:
        """Give how many live venues a symbol needs."""
        return max(1, self._rules.venues_min)

    def sources(self, symbol: str, now_ns: int) -> tuple[Source, ...]:
        """Give every venue's part in a symbol, with the reason why it cannot be used, in the settings' order."""
        return tuple(part.source for part in self._parts(symbol, now_ns))

    def serving(self, symbol: str) -> list[str]:
        """Name the venues that have a part in a symbol, in the settings' order."""
        return [venue for venue, own in self._listings[symbol].items() if self._board.seated(venue, own)]

    def traded(self, symbol: str) -> tuple[str, ...]:
        """Name all symbols of the venues that an order may take from, those of stable pairs included, sorted."""
        quote_asset = symbol.partition("/")[2]
        names = set(self._listings[symbol].values())
        for own in tuple(names):
            names.update(set(stable_pairs(quote_asset, own.partition("/")[2])).intersection(self._board.symbols))
        return tuple(sorted(names))

    def book(
        self, symbol: str, now_ns: int, chosen: Collection[str] | None = None, charges: Charges | None = None
    ) -> Snapshot | NoBook:
        """
        Give a symbol's book, or why there is none.

        Args:
            now_ns: Boot-time clock; ages are judged at this moment.
            chosen: Use these venues only; None for all.
            charges: What is taken is left out of the book, and nothing else is judged by what is left.
        """
        standing = self._board.standing(now_ns)
        among = None if chosen is None else frozenset(chosen)
        seen = self._seen.get((symbol, among))
        if seen is not None and seen.standing == standing:
            self._kept[symbol, among, None] = self._kept.pop((symbol, among, None))  # As the latest asked for.
        else:
            looked = self._screened(symbol, self._parts(symbol, now_ns), self._held(symbol), among)
            if isinstance(looked, NoBook):
                return looked
            seen = self._seen[symbol, among] = _Seen(standing, *looked)
        book = seen.book if charges is None else self._netted(seen.book, seen.parts, among, charges)
        return Snapshot(book, tuple([part.source.at(now_ns) for part in seen.parts]), now_ns)

    def _held(self, symbol: str) -> bool:
        return any(self._board.held(own) for own in dict.fromkeys(self._listings[symbol].values()))

    def _screened(
        self, symbol: str, parts: Sequence[Part], held: bool, chosen: frozenset[str] | None
    ) -> tuple[Sequence[Part], ConsolidatedBook] | NoBook:
        """Give the parts as they are screened, and the book that is made of those in use, as the venues show it."""
        screened = screen(symbol, parts, self._rules, held=held, chosen=chosen)
        if isinstance(screened, NoBook):
            return screened
        book = self._merged(symbol, [part for part in screened if part.used], chosen)
        if crossed_too_far(book, self._rules):
            return refuse_crossed(symbol, screened)
        return screened, book

    def _parts(self, symbol: str, now_ns: int) -> list[Part]:
        parts = []
        for venue, own_symbol in self._listings[symbol].items():
            source = self._board.source(venue, own_symbol, now_ns)
            if source is not None:
                parts.append(self._part(source, symbol, now_ns))
        return parts

    def _part(self, source: Source, symbol: str, now_ns: int) -> Part:
        part = Part(source)
        if source.live and source.instrument is None:
            return part.without(NO_RULES_REASON)
        if source.symbol == symbol or not source.live:
            return part
        pair = self._pair(symbol.partition("/")[2], source.symbol.partition("/")[2], now_ns)
        if pair is None:
            return part.without(NO_STABLE_PAIR_REASON)
        if pair.depegged(self._rules.depeg_bps):
            return part.without(DEPEGGED_REASON)
        return Part(source, pair)

    def _pair(self, quote_asset: str, own_quote_asset: str, now_ns: int) -> StablePair | None:
        """Give the stable pair between two assets as it is now, or None where no live book shows it."""
        for symbol in stable_pairs(quote_asset, own_quote_asset):
            sources = self._board.sources(symbol, now_ns) if symbol in self._board.symbols else ()
            parts = [Part(source) for source in sources if source.instrument is not None]
            if not parts:
                continue
            screened = self._screened(symbol, parts, self._board.held(symbol), None)
            return None if isinstance(screened, NoBook) else self._pair_of(screened[1], quote_asset, sources)
        return None

    def _pair_of(self, book: ConsolidatedBook, quote_asset: str, sources: Sequence[Source]) -> StablePair:
        kept = self._pairs.get((book.symbol, quote_asset))
        if kept is not None and kept[0] is book:
            return kept[1]
        pair = StablePair(
            symbol=book.symbol,
            quote_asset=quote_asset,
            mid=book.twice_mid // 2,
            bids={side.venue: side for side in book.bids.venues},
            asks={side.venue: side for side in book.asks.venues},
            received_at_ns={source.venue: source.book.received_at_ns for source in sources if source.book is not None},
        )
        self._pairs[book.symbol, quote_asset] = (book, pair)
        return pair

    def _merged(self, symbol: str, parts: Sequence[Part], chosen: frozenset[str] | None) -> ConsolidatedBook:
        made_from = tuple(value for part in parts for value in (part.source.book, part.source.instrument, part.pair))
        return self._keep((symbol, chosen, None), made_from, lambda: self._made(symbol, parts))

    def _netted(
        self, shown: ConsolidatedBook, parts: Sequence[Part], chosen: frozenset[str] | None, charges: Charges
    ) -> ConsolidatedBook:
        """Give what is left of a book; the very same one where nothing of it is taken."""
        if not charges:
            return shown
        parts = [part for part in parts if part.used]
        charged = tuple(charges_on(parts, charges))
        if all(charge is NOTHING for charge in charged):
            return shown
        key = (shown.symbol, chosen, charges.owner)
        return self._keep(key, (shown, *charged), lambda: self._left(shown, parts, charges))

    def _keep(
        self,
        key: tuple[str, frozenset[str] | None, str | None],
        made_from: tuple[Any, ...],
        make: Callable[[], ConsolidatedBook],
    ) -> ConsolidatedBook:
        """Give the book that is kept if it was made from just these values, else make it."""
        kept = self._kept.pop(key, None)
        if kept is None or len(kept.made_from) != len(made_from) or not all(map(_is, kept.made_from, made_from)):
            kept = _Kept(made_from, make())
        self._kept[key] = kept  # As the latest that was asked for.
        if len(self._kept) > KEPT_MAX:
            forgotten = next(iter(self._kept))
            del self._kept[forgotten]
            self._seen.pop(forgotten[:2], None)
        return kept.book

    def _made(self, symbol: str, parts: Sequence[Part]) -> ConsolidatedBook:
        bids, asks = (
            self._side(side, [(self._own_side(part, side), part.pair) for part in parts]) for side in (_BIDS, _ASKS)
        )
        return ConsolidatedBook(symbol, bids, asks)

    def _left(self, shown: ConsolidatedBook, parts: Sequence[Part], charges: Charges) -> ConsolidatedBook:
        bids, asks = (self._left_side(shown.side(side), parts, charges) for side in (_BIDS, _ASKS))
        if bids is shown.bids and asks is shown.asks:
            return shown
        return ConsolidatedBook(shown.symbol, bids, asks, shown)

    def _left_side(self, shown: BookSide, parts: Sequence[Part], charges: Charges) -> BookSide:
        side = shown.side
        pairs = {id(part.pair): part.pair and pair_without_taken(part.pair, side, charges) for part in parts}
        own_sides = [self._own_side(part, side) for part in parts]
        left = [
            (self._left_of(own, side, charges), pairs[id(part.pair)])
            for own, part in zip(own_sides, parts, strict=True)
        ]
        same = zip(left, own_sides, parts, strict=True)
        if all(one is own and pair is part.pair for (one, pair), own, part in same):
            return shown
        return self._side(side, left, netted(shown, own_sides, charges))

    def _side(
        self, side: Side, own_sides: Sequence[tuple[OwnSide, StablePair | None]], left_out: Netted | None = None
    ) -> BookSide:
        """Merge the venues' own sides, each with the stable pair that it is converted through."""
        through: dict[int, tuple[StablePair, list[OwnSide]]] = {}
        by_venue: dict[str, VenueSide] = {}
        for own, pair in own_sides:
            if pair is not None:
                through.setdefault(id(pair), (pair, []))[1].append(own)
            elif own.prices:
                by_venue[own.venue] = self._as_it_is(own, side)
        for pair, several in through.values():
            by_venue.update((made.venue, made) for made in converted(side, several, pair))
        in_order = [by_venue[own.venue] for own, _ in own_sides if own.venue in by_venue]

        sharing = {own.venue: (pair, own) for pair, several in through.values() for own in several if len(several) > 1}

        @cache
        def by_itself(venue: str) -> VenueSide:
            if venue not in sharing:
                return by_venue[venue]
            pair, own = sharing[venue]
            return next(iter(converted(side, [own], pair)))

        return BookSide(side, in_order, lambda made: by_itself(made.venue), left_out)

    def _own_side(self, part: Part, side: Side) -> OwnSide:
        """Give a venue's side in its own quote asset; it is kept until the venue's book is replaced."""
        source, book, instrument = part.source, part.book, part.instrument
        kept = self._own_sides.get((source.venue, source.symbol))
        if kept is None or kept[0] is not book or kept[1] is not instrument:
            kept = (book, instrument, {})
            self._own_sides[source.venue, source.symbol] = kept
        if side not in kept[2]:
            kept[2][side] = own_side(side, book.asks if side is Side.BUY else book.bids, book, instrument)
        return kept[2][side]

    def _left_of(self, own: OwnSide, side: Side, charges: Charges) -> OwnSide:
        """Give what is left of a venue's side; it is kept until that, or what is taken of it, changes."""
        charge = charges.of(own.venue, own.symbol, side)
        if charge is NOTHING:
            return own
        kept = self._left_sides.get((own.venue, own.symbol, side))
        if kept is None or kept[0] is not own or kept[1] is not charge:
            kept = (own, charge, without_taken(side, own, charge))
            self._left_sides[own.venue, own.symbol, side] = kept
        return kept[2]

    def _as_it_is(self, own: OwnSide, side: Side) -> VenueSide:
        key = (own.venue, own.symbol, side, own.shown is None)
        kept = self._direct.get(key)
        if kept is None or kept[0] is not own:
            kept = (own, direct(side, own))
            self._direct[key] = kept
        return kept[1]


def own_side(side: Side, ladder: Ladder, book: VenueBook, instrument: Instrument) -> OwnSide:
    """Give one side of a venue's book with the venue's fee and rules."""
    rules = OrderRules(
        step=_units_or_0(instrument.quantity_step),
        quantity_min=_units_or_0(instrument.quantity_min),
        notional_min=_units_or_0(instrument.notional_min),
    )
    return OwnSide(book.venue, book.symbol, ladder.prices, ladder.quantities, rate(instrument.taker_fee_bps), rules)


def stable_pairs(quote_asset: str, own_quote_asset: str) -> tuple[str, str]:
    """Name the symbols that a pair of two assets may have."""
    return f"{quote_asset}/{own_quote_asset}", f"{own_quote_asset}/{quote_asset}"


def _units_or_0(rule: Decimal | None) -> int:
    return 0 if rule is None else units(rule)


def _is(one: object, other: object) -> bool:
    return one is other
