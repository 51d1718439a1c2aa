"""Write the desk's values as the contract's messages.

Decimals become plain strings without trailing zeros, times RFC 3339 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from typing import Any

import orjson

from exchanges.board import Source
from exchanges.book import Side
from exchanges.instruments import Instrument
from service.accounting import EXACT, ZERO, bps, plain
from service.desk.desk import Decision, executed_fills
from service.desk.execution import REJECTED
from service.desk.orders import Quote
from service.market.book import BookLevel, ConsolidatedBook, used
from service.pricing.quote import SideQuote

Message = dict[str, Any]


def moment(time: datetime) -> str:
    """Write a UTC time with milliseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1_000:03d}Z"


def _or_null(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)


def quote_message(quote: Quote, *, with_fills: bool = False) -> Message:
    """Write a quote; *with_fills* adds every single fill to its sides."""
    request = quote.request
    requested: Message = {
        "quantity": plain(request.quantity),
        "side": request.sides[0].value if len(request.sides) == 1 else "both",
    }
    if request.limit_price is not None:
        requested["limit_price"] = plain(request.limit_price)
    if request.venues is not None:
        requested["venues"] = list(request.venues)
    if request.exclude_venues is not None:
        requested["exclude_venues"] = list(request.exclude_venues)
    book = quote.book
    return {
        "quote_id": quote.quote_id,
        "kind": "indicative",
        "executed": False,
        "market_data": quote.market_data,
        "execution": "mock",
        "symbol": book.symbol,
        "base_asset": book.base_asset,
        "quote_asset": book.quote_asset,
        "requested": requested,
        "created_at": moment(quote.created_at),
        "expires_at": moment(quote.expires_at),
        "expires_in_ms": round((quote.expires_at - quote.created_at).total_seconds() * 1_000),
        **{
            side.value: _side(quote.sides[side], book, with_fills) if side in quote.sides else None
            for side in (Side.BUY, Side.SELL)
        },
        "market": _market(book),
        "sources": [source_message(source) for source in book.sources],
        "warnings": [{"code": code} for code in _warnings(quote)],
    }


def _side(priced: SideQuote, book: ConsolidatedBook, with_fills: bool) -> Message:
    buying = priced.side is Side.BUY
    single = priced.best_single_venue
    message: Message = {
        "fillable": priced.fillable,
        "quantity": plain(priced.quantity),
        "shortfall": plain(priced.shortfall),
        "average_price": _or_null(priced.average_price),
        "best_price": _or_null(priced.best_price),
        "worst_price": _or_null(priced.worst_price),
        "all_in_price": _or_null(priced.all_in_price),
        "subtotal": plain(priced.subtotal),
        "fees": plain(priced.fees),
        "markup": plain(priced.markup),
        "total": plain(priced.total),
        "pays": book.quote_asset if buying else book.base_asset,
        "receives": book.base_asset if buying else book.quote_asset,
        "slippage_bps": {"from_mid": _or_null(priced.from_mid_bps), "from_best": _or_null(priced.from_best_bps)},
        "waterfall": [
            {"step": step.name, "amount": plain(step.amount), "bps": plain(step.bps)} for step in priced.waterfall
        ],
        "legs": [
            {
                "venue": leg.venue,
                "symbol": leg.symbol,
                "quantity": plain(leg.quantity),
                "average_price": plain(leg.average_price),
                "worst_price": plain(leg.worst_price),
                "subtotal": plain(leg.subtotal),
                "fee": plain(leg.fee),
                "fee_bps": plain(leg.fee_bps),
                "levels": leg.levels,
                "conversion": None,
            }
            for leg in priced.legs
        ],
        "best_single_venue": None
        if single is None
        else {"venue": single.venue, "all_in_price": plain(single.all_in_price)},
        "saving_bps": None if single is None else plain(single.saving_bps),
    }
    if with_fills:
        message["fills"] = [
            {
                "venue": fill.level.venue,
                "symbol": book.symbol,
                "price": plain(fill.level.price),
                "quantity": plain(fill.quantity),
                "subtotal": plain(fill.subtotal),
                "fee": plain(fill.fee),
            }
            for fill in priced.fills
        ]
    return message


def _market(book: ConsolidatedBook) -> Message:
    with localcontext(EXACT):
        spread_bps = bps(book.best_ask.price - book.best_bid.price, book.mid)
    return {
        "mid": plain(book.mid),
        "best_bid": {"price": plain(book.best_bid.price), "venue": book.best_bid.venue},
        "best_ask": {"price": plain(book.best_ask.price), "venue": book.best_ask.venue},
        "spread_bps": plain(spread_bps),
        "crossed": book.crossed,
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


def _warnings(quote: Quote) -> list[str]:
    codes = []
    if len(quote.book.venues) == 1:
        codes.append("single_venue")
    if quote.book.crossed:
        codes.append("crossed")
    if any(not priced.fillable for priced in quote.sides.values()):
        codes.append("thin")
    return codes


def receipt(decision: Decision) -> bytes:
    """Write the body that stands for a decision for ever."""
    priced, order = decision.priced, decision.order
    rejected = decision.status == REJECTED
    return orjson.dumps(
        {
            "execution_id": None if order.dry_run else decision.execution_id,
            "status": decision.status,
            "reject_code": decision.reject_code,
            "client_order_id": order.client_order_id,
            "quote_id": decision.quote_id,
            "market_data": decision.market_data,
            "execution": "mock",
            "dry_run": order.dry_run,
            "symbol": decision.symbol,
            "side": decision.side.value,
            "time_in_force": decision.time_in_force.value,
            "requested_quantity": plain(priced.requested),
            "filled_quantity": plain(ZERO if rejected else priced.quantity),
            "unfilled_quantity": plain(priced.requested if rejected else priced.shortfall),
            "average_price": None if rejected else _or_null(priced.average_price),
            "all_in_price": None if rejected else _or_null(priced.all_in_price),
            "subtotal": plain(ZERO if rejected else priced.subtotal),
            "fees": plain(ZERO if rejected else priced.fees),
            "markup": plain(ZERO if rejected else priced.markup),
            "total": plain(ZERO if rejected else priced.total),
            "fills": [] if rejected else _fills(decision),
            "versus_quote_bps": _or_null(decision.versus_quote_bps),
            "executed_at": moment(decision.executed_at),
        }
    )


def _fills(decision: Decision) -> list[Message]:
    return [
        {
            "venue": fill.venue,
            "symbol": fill.symbol,
            "price": plain(fill.price),
            "quantity": plain(fill.quantity),
            "subtotal": plain(fill.subtotal),
            "fee": plain(fill.fee),
            "markup": plain(fill.markup),
            "book_age_ms": fill.book_age_ms,
            "sequence": fill.sequence,
        }
        for fill in executed_fills(decision)
    ]


def book_message(book: ConsolidatedBook, view: str, depth: int, market_data: str) -> Message:
    """Write the best *depth* levels a side, ranked by net or gross price."""
    bids: Sequence[BookLevel] = book.bids if view == "net" else book.gross(Side.SELL)
    asks: Sequence[BookLevel] = book.asks if view == "net" else book.gross(Side.BUY)
    return {
        "symbol": book.symbol,
        "view": view,
        "market_data": market_data,
        "bids": [_level(level) for level in bids[:depth]],
        "asks": [_level(level) for level in asks[:depth]],
        "crossed": book.crossed,
        "sources": [source_message(source) for source in book.sources],
    }


def _level(level: BookLevel) -> Message:
    return {
        "price": plain(level.price),
        "net_price": plain(level.net_price),
        "quantity": plain(level.quantity),
        "venue": level.venue,
    }


def symbol_message(symbol: str, instruments: Collection[Instrument]) -> Message:
    """Write a symbol's rules on all venues; the outer ones are the most permissive of them."""
    return {
        "symbol": symbol,
        "base_asset": symbol.partition("/")[0],
        "quote_asset": symbol.partition("/")[2],
        **{
            rule: _or_null(_least(getattr(instrument, rule) for instrument in instruments))
            for rule in ("quantity_step", "quantity_min", "notional_min")
        },
        "venues": [
            {
                "venue": instrument.venue,
                "symbol": instrument.symbol,
                "price_step": _or_null(instrument.price_step),
                "quantity_step": _or_null(instrument.quantity_step),
                "quantity_min": _or_null(instrument.quantity_min),
                "notional_min": _or_null(instrument.notional_min),
                "taker_fee_bps": plain(instrument.taker_fee_bps),
            }
            for instrument in instruments
        ],
    }


def _least(rules: Any) -> Decimal | None:
    return min((rule for rule in rules if rule is not None), default=None)


_WORST_FIRST = ("down", "suspect", "stale", "warming", "live")


def venue_message(
    name: str,
    sources: Sequence[Source],
    *,
    enabled: bool,
    poll_interval_ms: int | None,
    accepted: int,
    rejected: Mapping[str, int],
    since: Mapping[str, datetime],
) -> Message:
    """
    Write a venue's standing with all its symbols; its own state is the worst of theirs.

    Args:
        since: When each symbol's state began.
    """
    worst = min(sources, key=lambda source: _WORST_FIRST.index(source.state), default=None)
    return {
        "venue": name,
        "enabled": enabled,
        "poll_interval_ms": poll_interval_ms,
        "transport": "poll",
        "state": None if worst is None else worst.state.value,
        "reason": None if worst is None else worst.reason,
        "since": None if worst is None else moment(since[worst.symbol]),
        "symbols": [
            {
                "symbol": source.symbol,
                "state": source.state.value,
                "reason": source.reason,
                "age_ms": source.age_ms,
                "sequence": source.sequence,
                "levels": None if source.book is None else len(source.book.bids) + len(source.book.asks),
                "taker_fee_bps": _or_null(_fee_bps(source)),
            }
            for source in sources
        ],
        "taker_fee_bps": _or_null(max((fee for fee in map(_fee_bps, sources) if fee is not None), default=None)),
        "accepted": accepted,
        "rejected": dict(rejected),
    }


def _fee_bps(source: Source) -> Decimal | None:
    return None if source.instrument is None else source.instrument.taker_fee_bps
