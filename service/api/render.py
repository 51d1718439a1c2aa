"""Write the desk's values as the contract's messages; quotes are written in ``service.api.render_quote``.

Decimals become plain strings without trailing zeros, times RFC 3339 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from exchanges.board import Source, Tally
from exchanges.book import Side, units
from exchanges.instruments import Instrument
from service.accounting import QUANTITY_UNIT, bps_text, money_text, plain, price_text
from service.desk.firm import FirmQuote, FirmStatus
from service.market.book import BookLevel, Snapshot
from service.market.screening import used
from service.market.side import Hop
from service.pricing.depth import Band, Resting

Message = dict[str, Any]


def moment(time: datetime) -> str:
    """Write a UTC time with milliseconds."""
    return f"{_second(int(time.timestamp() // 1))}.{time.microsecond // 1_000:03}Z"


@lru_cache(16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def or_null(number: Decimal | None) -> str | None:
    """Write a number, if there is one."""
    return None if number is None else plain(number)


def price_or_null(number: int | None) -> str | None:
    """Write a price or a quantity, if there is one."""
    return None if number is None else price_text(number)


def bps_or_null(number: int | None) -> str | None:
    """Write basis points, if there are any."""
    return None if number is None else bps_text(number)


def hop_message(hop: Hop | None) -> Message | None:
    """Write how a fill's price was converted, if it was."""
    if hop is None:
        return None
    return {
        "symbol": hop.symbol,
        "venue": hop.venue,
        "price": price_text(hop.price),
        "own_price": price_text(hop.own_price),
    }


def source_message(source: Source) -> Message:
    """Write a venue's part in an answer."""
    return {
        "venue": source.venue,
        "state": source.state.value,
        "used": used(source),
        "reason": source.reason,
        "age_ms": source.age_ms,
        "sequence": source.sequence,
    }


def firm_quote_message(quote: FirmQuote, now: datetime) -> Message:
    """Write a firm quote as it stands: as it was given, with what has become of it."""
    left_ms = round((quote.expires_at - now).total_seconds() * 1_000)
    message: Message = orjson.loads(quote.message)
    return message | {
        "status": quote.status.value,
        "executed": quote.status is FirmStatus.USED,
        "execution_id": quote.execution_id,
        "held": {quote.held_asset: money_text(quote.held_amount)} if quote.open else {},
        "expires_in_ms": max(0, left_ms) if quote.open else 0,
    }


def book_message(snapshot: Snapshot, view: str, depth: int, market_data: str) -> Message:
    """Write the best *depth* levels a side that are shown, by net or gross price, and what is taken of them."""
    book, sources, _ = snapshot
    gross = view == "gross"
    return {
        "symbol": book.symbol,
        "view": view,
        "market_data": market_data,
        "bids": [_level(level, Side.SELL) for level in book.bids.levels(gross=gross, limit=depth)],
        "asks": [_level(level, Side.BUY) for level in book.asks.levels(gross=gross, limit=depth)],
        "crossed": book.crossed,
        "sources": [source_message(source) for source in sources],
    }


def _level(level: BookLevel, side: Side) -> Message:
    return {
        "price": price_text(level.price),
        "net_price": plain(level.net_price(side)),
        "quantity": price_text(level.quantity),
        "taken": price_text(level.taken),
        "held": price_text(level.held),
        "venue": level.venue,
    }


def depth_message(snapshot: Snapshot, bands: Sequence[Band], market_data: str) -> Message:
    """Write how much rests within each distance of mid."""
    book, sources, _ = snapshot
    return {
        "symbol": book.symbol,
        "market_data": market_data,
        "mid": plain(book.mid),
        "bands": [
            {
                "bps": plain(band.bps),
                **_resting(band.all),
                "venues": [{"venue": venue, **_resting(resting)} for venue, resting in band.venues.items()],
            }
            for band in bands
        ],
        "sources": [source_message(source) for source in sources],
    }


def _resting(resting: Resting) -> Message:
    return {
        "bid_quantity": price_text(resting.bid_quantity),
        "bid_notional": money_text(resting.bid_notional),
        "ask_quantity": price_text(resting.ask_quantity),
        "ask_notional": money_text(resting.ask_notional),
    }


def symbol_message(symbol: str, instruments: Collection[Instrument]) -> Message:
    """Write a symbol's rules on all venues; the outer ones are what a routed order may use: the most permissive."""
    return {
        "symbol": symbol,
        "base_asset": symbol.partition("/")[0],
        "quote_asset": symbol.partition("/")[2],
        "quantity_step": None
        if not instruments
        else price_text(max(QUANTITY_UNIT, units(_least(instruments, "quantity_step") or Decimal(0)))),
        "quantity_min": or_null(_least(instruments, "quantity_min")),
        "notional_min": or_null(_least(instruments, "notional_min")),
        "venues": [
            {
                "venue": instrument.venue,
                "symbol": instrument.symbol,
                "price_step": or_null(instrument.price_step),
                "quantity_step": or_null(instrument.quantity_step),
                "quantity_min": or_null(instrument.quantity_min),
                "notional_min": or_null(instrument.notional_min),
                "taker_fee_bps": plain(instrument.taker_fee_bps),
            }
            for instrument in instruments
        ],
    }


def _least(instruments: Collection[Instrument], rule: str) -> Decimal | None:
    """Give the smallest of the venues' rules; None where one of them names none, since then there is none to keep."""
    rules: list[Decimal | None] = [getattr(instrument, rule) for instrument in instruments]
    named = [one for one in rules if one is not None]
    return min(named) if named and len(named) == len(rules) else None


_WORST_FIRST = ("down", "suspect", "stale", "warming", "live")


def venue_message(
    name: str,
    sources: Sequence[Source],
    *,
    enabled: bool,
    poll_interval_ms: int | None,
    transport: str,
    fallback_reason: str | None,
    tally: Tally | None,
    since: Mapping[str, datetime],
) -> Message:
    """
    Write a venue's standing with all its symbols; its own state is the worst of theirs.

    Args:
        fallback_reason: Is the venue's reason where none of its symbols has one.
        tally: None for a venue that is not enabled.
        since: When each symbol's state began.
    """
    tally = tally or Tally()
    worst = min(sources, key=lambda source: _WORST_FIRST.index(source.state), default=None)
    return {
        "venue": name,
        "enabled": enabled,
        "poll_interval_ms": poll_interval_ms,
        "transport": transport,
        "state": None if worst is None else worst.state.value,
        "reason": None if worst is None else worst.reason or fallback_reason,
        "since": None if worst is None else moment(since[worst.symbol]),
        "symbols": [
            {
                "symbol": source.symbol,
                "state": source.state.value,
                "reason": source.reason,
                "age_ms": source.age_ms,
                "sequence": source.sequence,
                "levels": None if source.book is None else len(source.book.bids) + len(source.book.asks),
                "taker_fee_bps": or_null(_fee_bps(source)),
            }
            for source in sources
        ],
        "taker_fee_bps": or_null(max((fee for fee in map(_fee_bps, sources) if fee is not None), default=None)),
        "accepted": tally.accepted,
        "rejected": dict(tally.rejected),
        "failed": dict(tally.failed),
        "reconnects": tally.reconnects,
    }


def _fee_bps(source: Source) -> Decimal | None:
    return None if source.instrument is None else source.instrument.taker_fee_bps
