"""Write the desk's values as the contract's messages.

Decimals become plain strings without trailing zeros, times RFC 3339 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from exchanges.board import Source
from exchanges.book import Side, units
from exchanges.clock import MS
from exchanges.instruments import Instrument
from service.accounting import bps, bps_text, money_text, plain, price_text, rate_text
from service.desk.desk import Decision, executed_fills
from service.desk.execution import FILLED, REJECTED
from service.desk.orders import Quote
from service.market.book import BookLevel, ConsolidatedBook, Snapshot
from service.market.screening import used
from service.market.side import Hop
from service.pricing.bounds import QUANTITY_UNIT, Ask
from service.pricing.depth import Band, Resting
from service.pricing.quote import Leg, SideQuote

Message = dict[str, Any]


def moment(time: datetime) -> str:
    """Write a UTC time with milliseconds."""
    return time.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _or_null(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)


def _price_or_null(number: int | None) -> str | None:
    return None if number is None else price_text(number)


def _bps_or_null(number: int | None) -> str | None:
    return None if number is None else bps_text(number)


def quote_message(quote: Quote, *, with_fills: bool = False) -> Message:
    """Write a quote; *with_fills* adds every single fill to its sides."""
    request = quote.request
    requested = _requested(request.ask) | {"side": request.sides[0].value if len(request.sides) == 1 else "both"}
    if request.venues is not None:
        requested["venues"] = list(request.venues)
    if request.exclude_venues is not None:
        requested["exclude_venues"] = list(request.exclude_venues)
    book, sources, at_ns = quote.snapshot
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
            side.value: _side(quote.sides[side], book, at_ns, with_fills) if side in quote.sides else None
            for side in (Side.BUY, Side.SELL)
        },
        "market": _market(book),
        "sources": [source_message(source) for source in sources],
        "warnings": [{"code": code} for code in _warnings(quote)],
    }


def _requested(ask: Ask) -> Message:
    requested: Message = {}
    if ask.quantity is not None:
        requested["quantity"] = price_text(ask.quantity)
    if ask.total is not None:
        requested["total"] = money_text(ask.total)
    if ask.slippage_bps_max is not None:
        requested["slippage_bps_max"] = plain(ask.slippage_bps_max)
    if ask.limit_price is not None:
        requested["limit_price"] = price_text(ask.limit_price)
    return requested


def _side(priced: SideQuote, book: ConsolidatedBook, at_ns: int, with_fills: bool) -> Message:
    buying = priced.side is Side.BUY
    single = priced.best_single_venue
    of_money = priced.ask.total is not None
    message: Message = {
        "fillable": priced.fillable,
        "quantity": price_text(priced.quantity),
        "shortfall": money_text(priced.shortfall) if of_money else price_text(priced.shortfall),
        "average_price": _or_null(priced.average_price),
        "best_price": _price_or_null(priced.best_price),
        "worst_price": _price_or_null(priced.worst_price),
        "all_in_price": _or_null(priced.all_in_price),
        "subtotal": money_text(priced.subtotal),
        "fees": money_text(priced.fees),
        "markup": money_text(priced.markup),
        "total": money_text(priced.total),
        "pays": book.quote_asset if buying else book.base_asset,
        "receives": book.base_asset if buying else book.quote_asset,
        "slippage_bps": {
            "from_mid": _bps_or_null(priced.from_mid_bps),
            "from_best": _bps_or_null(priced.from_best_bps),
        },
        "waterfall": [
            {"step": name, "amount": money_text(amount), "bps": bps_text(share)}
            for name, amount, share in priced.waterfall
        ],
        "legs": [_leg(leg, at_ns) for leg in priced.legs],
        "best_single_venue": None
        if single is None
        else {"venue": single.venue, "all_in_price": plain(single.all_in_price)},
        "saving_bps": None if single is None else bps_text(single.saving_bps),
    }
    if with_fills:
        message["fills"] = [
            {
                "venue": fill.venue,
                "symbol": fill.symbol,
                "price": price_text(fill.price),
                "quantity": price_text(fill.quantity),
                "subtotal": money_text(fill.subtotal),
                "fee": money_text(fill.fee),
                "conversion": _hop(fill.hop),
            }
            for fill in priced.fills
        ]
    return message


def _leg(leg: Leg, at_ns: int) -> Message:
    source, amounts = leg
    conversion = leg.conversion
    return {
        "venue": source.venue,
        "symbol": source.symbol,
        "quantity": price_text(amounts.quantity),
        "average_price": plain(leg.average_price),
        "worst_price": price_text(amounts.worst_price),
        "subtotal": money_text(amounts.subtotal),
        "fee": money_text(amounts.fee),
        "fee_bps": rate_text(source.taker_rate),
        "levels": amounts.levels,
        "conversion": None
        if conversion is None
        else {
            "symbol": conversion.symbol,
            "side": conversion.side.value,
            "rate": plain(conversion.rate),
            "age_ms": (at_ns - conversion.received_at_ns) // MS,
            "cost": money_text(conversion.cost),
        },
    }


def _hop(hop: Hop | None) -> Message | None:
    if hop is None:
        return None
    return {
        "symbol": hop.symbol,
        "venue": hop.venue,
        "price": price_text(hop.price),
        "own_price": price_text(hop.own_price),
    }


def _market(book: ConsolidatedBook) -> Message:
    bid, ask = book.bids.top, book.asks.top
    return {
        "mid": plain(book.mid),
        "best_bid": {"price": price_text(bid.price), "venue": bid.venue},
        "best_ask": {"price": price_text(ask.price), "venue": ask.venue},
        "spread_bps": bps_text(bps(2 * (ask.price - bid.price), book.twice_mid)),
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
    if len(quote.snapshot.book.venues) == 1:
        codes.append("single_venue")
    if quote.snapshot.book.crossed:
        codes.append("crossed")
    if any(not priced.fillable for priced in quote.sides.values()):
        codes.append("thin")
    if any(priced.stopped_by == "rules" for priced in quote.sides.values()):
        codes.append("unroutable")
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
            "requested_quantity": _price_or_null(priced.ask.quantity),
            "requested_total": None if priced.ask.total is None else money_text(priced.ask.total),
            "filled_quantity": price_text(0 if rejected else priced.quantity),
            "unfilled_quantity": _price_or_null(_unfilled(decision)),
            "average_price": None if rejected else _or_null(priced.average_price),
            "all_in_price": None if rejected else _or_null(priced.all_in_price),
            "subtotal": money_text(0 if rejected else priced.subtotal),
            "fees": money_text(0 if rejected else priced.fees),
            "markup": money_text(0 if rejected else priced.markup),
            "total": money_text(0 if rejected else priced.total),
            "fills": [] if rejected else _fills(decision),
            "versus_quote_bps": _bps_or_null(decision.versus_quote_bps),
            "executed_at": moment(decision.executed_at),
        }
    )


def _unfilled(decision: Decision) -> int | None:
    """Give what is missing of a quantity; of a total that was not reached nobody knows what it would have bought."""
    priced = decision.priced
    if priced.ask.quantity is None:
        return None if decision.status != FILLED else 0
    return priced.ask.quantity if decision.status == REJECTED else priced.ask.quantity - priced.quantity


def _fills(decision: Decision) -> list[Message]:
    return [
        {
            "venue": fill.venue,
            "symbol": fill.symbol,
            "price": price_text(fill.price),
            "quantity": price_text(fill.quantity),
            "subtotal": money_text(fill.subtotal),
            "fee": money_text(fill.fee),
            "markup": money_text(fill.markup),
            "book_age_ms": fill.book_age_ms,
            "sequence": fill.sequence,
            "conversion": _hop(fill.hop),
        }
        for fill in executed_fills(decision)
    ]


def book_message(snapshot: Snapshot, view: str, depth: int, market_data: str) -> Message:
    """Write the best *depth* levels a side, ranked by net or gross price."""
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
        "quantity_min": _or_null(_least(instruments, "quantity_min")),
        "notional_min": _or_null(_least(instruments, "notional_min")),
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
