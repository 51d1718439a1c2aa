"""Write the desk's values as the contract's messages.

Decimals become plain strings without trailing zeros, times RFC 3339 in UTC with milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from exchanges.board import Source, Tally
from exchanges.book import Side, units
from exchanges.clock import MS
from exchanges.instruments import Instrument
from service.accounting import bps, bps_text, money_text, plain, price_text, rate_text
from service.desk.firm import FirmQuote, FirmStatus
from service.desk.firm_quotes import Given
from service.desk.orders import Quote, QuoteRequest
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


def or_null(number: Decimal | None) -> str | None:
    """Write a number, if there is one."""
    return None if number is None else plain(number)


def price_or_null(number: int | None) -> str | None:
    """Write a price or a quantity, if there is one."""
    return None if number is None else price_text(number)


def bps_or_null(number: int | None) -> str | None:
    """Write basis points, if there are any."""
    return None if number is None else bps_text(number)


def quote_message(quote: Quote, *, with_fills: bool = False) -> Message:
    """Write an indicative quote; *with_fills* adds every single fill to its sides."""
    return {
        "quote_id": quote.quote_id,
        "kind": "indicative",
        "executed": False,
        "market_data": quote.market_data,
        "execution": "mock",
        **_quote_message(quote.request, quote.sides, quote.snapshot, with_fills),
        "created_at": moment(quote.created_at),
        "expires_at": moment(quote.expires_at),
        "expires_in_ms": round((quote.expires_at - quote.created_at).total_seconds() * 1_000),
    }


def _quote_message(
    request: QuoteRequest, sides: Mapping[Side, SideQuote], snapshot: Snapshot, with_fills: bool
) -> Message:
    """Write what quotes of both kinds have in common."""
    requested = _requested(request.ask) | {"side": request.sides[0].value if len(request.sides) == 1 else "both"}
    if request.venues is not None:
        requested["venues"] = list(request.venues)
    if request.exclude_venues is not None:
        requested["exclude_venues"] = list(request.exclude_venues)
    book, sources, at_ns = snapshot
    return {
        "symbol": book.symbol,
        "base_asset": book.base_asset,
        "quote_asset": book.quote_asset,
        "requested": requested,
        **{
            side.value: _side(sides[side], book, at_ns, with_fills) if side in sides else None
            for side in (Side.BUY, Side.SELL)
        },
        "market": _market(book),
        "liquidity": {
            "taken": price_text(sum(book.side(side).taken for side in sides)),
            "held": price_text(sum(book.side(side).held for side in sides)),
        },
        "sources": [source_message(source) for source in sources],
        "warnings": [{"code": code} for code in _warnings(book, sides.values())],
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
        "average_price": or_null(priced.average_price),
        "best_price": price_or_null(priced.best_price),
        "worst_price": price_or_null(priced.worst_price),
        "all_in_price": or_null(priced.all_in_price),
        "subtotal": money_text(priced.subtotal),
        "fees": money_text(priced.fees),
        "markup": money_text(priced.markup),
        "total": money_text(priced.total),
        "pays": book.quote_asset if buying else book.base_asset,
        "receives": book.base_asset if buying else book.quote_asset,
        "slippage_bps": {
            "from_mid": bps_or_null(priced.from_mid_bps),
            "from_best": bps_or_null(priced.from_best_bps),
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
                "conversion": hop_message(fill.hop),
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


def _warnings(book: ConsolidatedBook, sides: Collection[SideQuote]) -> list[str]:
    codes = []
    if len(book.shown.venues) == 1:
        codes.append("single_venue")
    if book.crossed:
        codes.append("crossed")
    if any(not priced.fillable for priced in sides):
        codes.append("thin")
    if any(priced.stopped_by == "rules" for priced in sides):
        codes.append("unroutable")
    return codes


def firm_message(given: Given) -> bytes:
    """Write the body that a firm quote is answered with."""
    quote, priced, snapshot, market_data = given.quote, given.priced, given.snapshot, given.market_data
    message = _quote_message(quote.request, {quote.side: priced}, snapshot, with_fills=False)
    ttl_ms = round((quote.expires_at - quote.created_at).total_seconds() * 1_000)
    return orjson.dumps(
        {
            "quote_id": quote.quote_id,
            "kind": "firm",
            "status": quote.status.value,
            "held": {quote.held_asset: money_text(quote.held_amount)},
            "executed": False,
            "market_data": market_data,
            "execution": "mock",
            **message,
            "created_at": moment(quote.created_at),
            "expires_at": moment(quote.expires_at),
            "expires_in_ms": ttl_ms,
        }
    )


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
