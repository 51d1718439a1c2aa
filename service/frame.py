"""Draw what a stream has told of a symbol: ladder, spread, quote and venues' lamps, as large as the terminal.

Pure: no clock, no I/O.  The same told at the same moment in the same space gives the same lines.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Literal

from rich.text import Text

from service.client import (
    BookUpdate,
    Interrupted,
    NoValue,
    OrderBookError,
    Quote,
    QuoteUpdate,
    Resumed,
    VenuesUpdate,
)
from service.client.market import Book, Level, Venue
from service.client.quotes import QuoteSide, Source
from service.client.streaming import Update
from service.printable import printable
from service.progress import duration

LADDER, TOP, QUOTE = "ladder", "top", "quote"
"""What the subscriptions are called: the levels that are shown, the best of them without fees, a quote."""
SILENT_AFTER_S = 5.0
"""The venues are told of every second: whoever hears nothing for so long is no longer heard himself."""
ROWS = 10
"""Levels a side where nothing limits them."""
NARROW = 60
_BAR_MAX = 40
_VENUE_COLOURS = (33, 166, 133, 35, 161, 136, 37, 99, 71, 169, 68, 130)
"""Of the 256; to be read on a light and on a dark ground."""
_STATE_STYLES = {"live": "green", "warming": "dark_orange", "disabled": "dim"}
_BANNERS = {"simulated": "SIMULATED", "replay": "REPLAYED"}
_LAMPS = {"live": "●", "warming": "◐", "stale": "○", "suspect": "▲", "down": "✕", "disabled": "-"}
_LAMPS_ASCII = {"live": "+", "warming": "~", "stale": "o", "suspect": "!", "down": "x", "disabled": "-"}


@dataclass(frozen=True, slots=True)
class Digits:
    """How long numbers have been so far: columns grow, and do not jump."""

    price_whole: int = 1
    price_part: int = 0
    quantity_whole: int = 1
    quantity_part: int = 0

    def seeing(self, levels: Iterable[Level]) -> Digits:
        """Give what holds these as well."""
        whole, part, quantity_whole, quantity_part = (
            self.price_whole,
            self.price_part,
            self.quantity_whole,
            self.quantity_part,
        )
        for level in levels:
            whole = max(whole, level.price.adjusted() + 1, level.net_price.adjusted() + 1)
            part = max(part, _decimals(level.price))
            quantity_whole = max(quantity_whole, level.quantity.adjusted() + 1)
            quantity_part = max(quantity_part, _decimals(level.quantity))
        return Digits(whole, part, quantity_whole, quantity_part)


def _decimals(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


@dataclass(frozen=True, slots=True)
class Watched:
    """
    What has been told so far.

    Args:
        refused: Why there is no book at present.
        lost: Why nothing is told at present.
        told_s: When the book was.
        heard_s: When anything was.
    """

    symbol: str
    market_data: str | None = None
    book: Book | None = None
    top: Book | None = None
    quote: Quote | None = None
    venues: tuple[Venue, ...] = ()
    sources: tuple[Source, ...] = ()
    refused: OrderBookError | None = None
    quote_refused: OrderBookError | None = None
    lost: OrderBookError | None = None
    told_s: float | None = None
    heard_s: float = 0.0
    digits: Digits = field(default_factory=Digits)

    def after(self, update: Update, now_s: float) -> Watched:
        """Give what is known once this was told, too."""
        told = replace(self, heard_s=now_s)
        match update:
            case Interrupted():
                return replace(self, lost=update.error)
            case Resumed():
                return replace(told, lost=None)
            case BookUpdate() if update.subscription.id == TOP:
                return replace(told, top=update.book)
            case BookUpdate():
                book = update.book
                return replace(
                    told,
                    symbol=book.symbol,
                    market_data=book.market_data,
                    book=book,
                    sources=book.sources,
                    refused=None,
                    told_s=now_s,
                    digits=self.digits.seeing((*book.bids, *book.asks)),
                )
            case QuoteUpdate():
                return replace(told, quote=update.quote, quote_refused=None)
            case VenuesUpdate():
                return replace(told, venues=update.venues)
            case NoValue() if update.subscription.id == LADDER:
                sources = update.error.sources or self.sources
                return replace(told, book=None, refused=update.error, sources=sources, told_s=now_s)
            case NoValue() if update.subscription.id == TOP:
                return replace(told, top=None)
            case NoValue() if update.subscription.id == QUOTE:
                return replace(told, quote=None, quote_refused=update.error)
        return told

    def silent_s(self, now_s: float) -> float | None:
        """Give for how long nothing was heard, if that is too long; None while all is well."""
        passed_s = now_s - self.heard_s
        return passed_s if self.lost is not None or passed_s > SILENT_AFTER_S else None


def rows_wanted(depth: int | None, height: int | None) -> int:
    """Give how many levels a side may be shown at most."""
    return min(500, depth or (ROWS if height is None else max(1, height // 2)))


def frame(
    seen: Watched, width: int, height: int | None, now_s: float, *, depth: int | None = None, ascii_only: bool = False
) -> list[Text]:
    """
    Draw one frame.

    Args:
        height: Lines there are; None if there is no end of them.
        depth: Levels a side; None for as many as there is room for.
        ascii_only: Draw with what every terminal can show.

    Returns:
        Its lines, none longer than *width*, and no more of them than *height*.
    """
    lamps = _lamps(seen, width, None if height is None else max(2, height // 3), now_s, ascii_only=ascii_only)
    below = [*_quote_lines(seen, width), *([Text()] if height is None or height >= 16 else []), *lamps]
    wanted = rows_wanted(depth, height)
    rows = wanted if height is None else max(1, min(wanted, (height - 4 - len(below)) // 2))
    stale = seen.silent_s(now_s) is not None
    if seen.refused is None:
        ladder = _Ladder(seen, width, rows, ascii_only=ascii_only).lines(padded=height is not None)
    else:
        ladder = [Text(line) for line in ["", *textwrap.wrap(seen.refused.detail, max(1, width))]]
        ladder += [Text() for _ in range(2 * rows + 2 - len(ladder)) if height is not None]
    if stale:
        for line in (*ladder, *below):
            line.stylize("dim")
    lines = [_title(seen, width), _condition(seen, width, now_s), *ladder, *below]
    for line in lines:
        line.plain = printable(line.plain)
        line.truncate(width)
    return lines if height is None else lines[:height]


# What stands above


def _title(seen: Watched, width: int) -> Text:
    title = Text(seen.symbol, "bold")
    match seen.market_data:
        case None:
            pass
        case "live":
            title.append("  live prices, mock execution", "not bold")
        case other:
            banner = f" *** {_BANNERS.get(other, other.upper())} prices *** "
            title.append("  ").append(banner, "bold black on yellow")
            if width >= NARROW:
                title.append(" mock execution", "not bold")
    return title


def _condition(seen: Watched, width: int, now_s: float) -> Text:
    """Say how good it is what is shown: the worst of it first."""
    silent_s = seen.silent_s(now_s)
    if silent_s is not None and seen.told_s is None and seen.lost is None:
        return Text("waiting for the service to tell something")
    if silent_s is not None:
        why = "reconnecting" if seen.lost is not None else "nothing is heard"
        line = Text().append(f" STALE for {duration(silent_s)}, {why} ", "bold white on red")
        return line if seen.lost is None else line.append(f" {seen.lost.detail}")
    if seen.refused is not None:
        return Text().append(" NO PRICE ", "bold white on red").append(f" {seen.refused.code}", "red")
    if seen.book is None or seen.told_s is None:
        return Text("waiting for the first book")
    line = Text()
    if seen.book.crossed:
        line.append(" CROSSED ", "bold white on red").append(" ")
    line.append(f"updated {_age(now_s - seen.told_s)} ago")
    if width >= NARROW:
        line.append(", net of fees" if seen.book.view == "net" else ", without fees")
    used = sum(source.used for source in seen.sources)
    return line.append(f", {used} of {len(seen.sources)}" + (" venues" if width >= NARROW else ""))


def _age(seconds: float) -> str:
    return f"{max(0.0, seconds):.1f} s" if seconds < 60 else duration(seconds)


# The ladder


class _Ladder:
    """Asks above bids, the best of both in the middle, where the spread is."""

    def __init__(self, seen: Watched, width: int, rows: int, *, ascii_only: bool) -> None:
        self._seen, self._rows, self._width = seen, rows, width
        self._full, self._light, self._rule = ("#", ".", "-") if ascii_only else ("█", "░", "─")
        book, digits = seen.book, seen.digits
        self._asks = () if book is None else book.asks[:rows]
        self._bids = () if book is None else book.bids[:rows]
        self._net = book is not None and book.view == "net"
        self._styles = venue_styles(seen)
        self._most = max((level.quantity for level in (*self._asks, *self._bids)), default=Decimal(1)) or Decimal(1)
        self._price_part = digits.price_part + self._net
        self._price = max(digits.price_whole, 1) + (self._price_part + 1 if self._price_part else 0)
        self._price = max(self._price, len("net price") if self._net else len("price"))
        room = (8 if width >= NARROW else 6) - digits.quantity_whole
        self._quantity_part = max(0, min(digits.quantity_part, room))
        self._quantity = digits.quantity_whole + (self._quantity_part + 1 if self._quantity_part else 0)
        self._quantity = max(self._quantity, len("quantity") if width >= NARROW else 4)
        self._share_out(width)

    def _share_out(self, width: int) -> None:
        """Give each column its room: what matters least goes first where there is not enough."""
        longest = max((len(name) for name in self._styles), default=5)
        self._venue = max(5, min(longest, 16 if width >= NARROW else 9))
        left = width - self._price - 1 - self._quantity - 1 - self._venue
        self._taken = self._quantity if left >= self._quantity + 1 + 9 else 0
        left -= self._taken + 1 if self._taken else 0
        self._shown = self._price if self._net and left >= self._price + 1 + 11 else 0
        left -= self._shown + 1 if self._shown else 0
        self._bar = min(_BAR_MAX, left - 1) if left >= 4 else 0

    def lines(self, *, padded: bool) -> list[Text]:
        """Give a line for the columns' names and one per level; *padded*, so that the middle stays where it is."""
        asks = [self._row(level, "red") for level in reversed(self._asks)]
        bids = [self._row(level, "green") for level in self._bids]
        above = [Text() for _ in range(self._rows - len(asks)) if padded]
        below = [Text() for _ in range(self._rows - len(bids)) if padded]
        return [self._heads(), *above, *asks, self._middle(), *bids, *below]

    def _heads(self) -> Text:
        quantity = "quantity" if self._quantity >= 8 else "qty"
        price = "net price" if self._net else "price"
        return Text(self._cells(price, "price", quantity, "", "venue", "taken").rstrip(), "dim")

    def _cells(self, price: str, shown: str, quantity: str, bar: str, venue: str, taken: str) -> str:
        cells = [price.rjust(self._price)]
        if self._shown:
            cells.append(shown.rjust(self._shown))
        cells.append(quantity.rjust(self._quantity))
        if self._bar:
            cells.append(bar.ljust(self._bar))
        cells.append(venue[: self._venue].ljust(self._venue))
        if self._taken:
            cells.append(taken.rjust(self._taken))
        return " ".join(cells)

    def _row(self, level: Level, style: str) -> Text:
        price = _fixed(level.net_price if self._net else level.price, self._price_part, ROUND_HALF_EVEN)
        shown = _fixed(level.price, self._seen.digits.price_part, ROUND_HALF_EVEN)
        quantity = _fixed(level.quantity, self._quantity_part, ROUND_DOWN)
        taken = _fixed(level.taken, self._quantity_part, ROUND_HALF_EVEN) if level.taken else ""
        venue_style = self._styles.get(level.venue, "default")
        row = Text(self._cells(price, shown, quantity, "", level.venue, taken).rstrip())
        row.stylize(style, 0, self._price)
        start = self._price + (self._shown + 1 if self._shown else 0) + 1 + self._quantity + 1
        if self._bar:
            bar = self._drawn(level)
            row.plain = row.plain[:start] + bar.ljust(self._bar) + row.plain[start + self._bar :]
            row.stylize(venue_style, start, start + len(bar))
            start += self._bar + 1
        row.stylize(venue_style, start, start + self._venue)
        return row

    def _drawn(self, level: Level) -> str:
        """Draw a level's quantity, of which what is taken is light."""
        long = max(1, round(self._bar * level.quantity / self._most))
        light = min(long, round(long * level.taken / level.quantity)) if level.quantity else 0
        light = light or (1 if level.taken and long > 1 else 0)
        return self._full * (long - light) + self._light * light

    def _middle(self) -> Text:
        best = self._seen.top or self._seen.book
        if self._seen.book is None or best is None or not (best.bids and best.asks):
            return Text(self._rule * self._width, "dim")
        bid, ask = best.bids[0].price, best.asks[0].price
        mid = (bid + ask) / 2
        part = max(self._seen.digits.price_part, _decimals(mid.normalize()))
        line = Text(f"{self._rule * 2} ", "dim")
        line.append(f"mid {_fixed(mid, part, ROUND_HALF_EVEN)}", "bold not dim")
        line.append(f" {self._rule} spread {(ask - bid) / mid * 10_000:.2f} bps ", "not dim")
        return line.append(self._rule * max(0, self._width - len(line)), "dim")


def _fixed(number: Decimal, part: int, rounding: str) -> str:
    return f"{number.quantize(Decimal(1).scaleb(-part), rounding):f}"


def venue_styles(seen: Watched) -> Mapping[str, str]:
    """Give each venue a colour by its place in the settings: it keeps it, whatever its state and its rank."""
    names = dict.fromkeys([venue.venue for venue in seen.venues] + [source.venue for source in seen.sources])
    return {name: f"color({_VENUE_COLOURS[n % len(_VENUE_COLOURS)]})" for n, name in enumerate(names)}


# What stands below


def _quote_lines(seen: Watched, width: int) -> list[Text]:
    if seen.quote_refused is not None:
        return [Text(f"no quote: {seen.quote_refused}", "red")]
    if seen.quote is None:
        return []
    sides: list[tuple[Literal["buy", "sell"], QuoteSide]] = []
    if seen.quote.buy is not None:
        sides.append(("buy", seen.quote.buy))
    if seen.quote.sell is not None:
        sides.append(("sell", seen.quote.sell))
    return [_quote_line(name, side, seen.quote, width) for name, side in sides]


def _quote_line(name: Literal["buy", "sell"], side: QuoteSide, quote: Quote, width: int) -> Text:
    line = Text(f"{name:4} {side.quantity:f} {quote.base_asset}", "red" if name == "buy" else "green")
    at = "no price" if side.all_in_price is None else f"{side.all_in_price:f}"
    line.append(" at ", "default").append(at, "bold default")
    if not side.fillable:
        line.append(f", {side.shortfall:f} short", "bold red")
    if width >= NARROW:
        verb = "to pay" if name == "buy" else "received"
        line.append(f" with all fees, {side.total:f} {quote.quote_asset} {verb}", "default")
    return line


@dataclass(frozen=True, slots=True)
class _Lamp:
    """One venue's."""

    venue: str
    state: str
    age: str = ""
    reason: str = ""
    transport: str = ""


def _lamps(seen: Watched, width: int, lines: int | None, now_s: float, *, ascii_only: bool) -> list[Text]:
    """Draw a line for each venue; where there are too many, those that are well are only counted."""
    lamps = _all_lamps(seen, now_s)
    styles = venue_styles(seen)
    long = max((len(lamp.venue) for lamp in lamps), default=0)
    long = min(long, 16 if width >= NARROW else 10)
    rest: Sequence[_Lamp] = ()
    if lines is not None and len(lamps) > lines:
        lamps.sort(key=lambda lamp: lamp.state == "live")  # Stable: else as in the settings.
        lamps, rest = lamps[: lines - 1], lamps[lines - 1 :]
    signs = _LAMPS_ASCII if ascii_only else _LAMPS
    if seen.silent_s(now_s) is not None:
        signs = {}  # Nobody knows any more.
    drawn = [_lamp_line(lamp, long, width, styles[lamp.venue], signs.get(lamp.state, "?")) for lamp in lamps]
    if rest:
        counted = {state: sum(lamp.state == state for lamp in rest) for state in _LAMPS}
        states = ", ".join(f"{count} {state}" for state, count in counted.items() if count)
        drawn.append(Text(f"  and {len(rest)} more: {states}", "dim"))
    return drawn


def _all_lamps(seen: Watched, now_s: float) -> list[_Lamp]:
    passed_ms = 0.0 if seen.told_s is None else (now_s - seen.told_s) * 1_000
    venues = {venue.venue: venue for venue in seen.venues}
    sources = {source.venue: source for source in seen.sources}
    lamps = []
    for name in dict.fromkeys((*venues, *sources)):
        venue, source = venues.get(name), sources.get(name)
        transport = "" if venue is None else venue.transport
        if source is None:
            disabled = venue is not None and not venue.enabled
            if disabled:
                lamps.append(_Lamp(name, "disabled", transport=transport))
            continue
        age = "" if source.age_ms is None else _age((source.age_ms + passed_ms) / 1_000)
        left_out = source.state == "live" and not source.used
        reason = f"left out: {source.reason}" if left_out else source.reason or ""
        reason = "" if reason == source.state else reason
        lamps.append(_Lamp(name, source.state, age, reason, transport))
    return lamps


def _lamp_line(lamp: _Lamp, long: int, width: int, venue_style: str, sign: str) -> Text:
    style = _STATE_STYLES.get(lamp.state, "bold red")
    line = Text(f"{sign} ", style)
    line.append(lamp.venue[:long].ljust(long), f"not bold {venue_style}")
    line.append(f" {lamp.state:8}").append(f" {lamp.age:>8}", "not bold default")
    if width >= NARROW:
        line.append(f"  {lamp.transport:6}  {lamp.reason}", "not bold default")
    else:
        line.append(f" {lamp.reason or lamp.transport}", "not bold default")
    line.rstrip()
    return line
