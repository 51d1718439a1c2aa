"""Write quotes, both kinds, as the contract's messages.

These are the longest answers and the ones that are asked for most: they are written as text at once, without a nest of
values in between.  What is the same in every answer from a book is written once per book, and a venue's leg of whole
levels once per venue's book; all amounts of a side are turned into text together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache

import orjson

from exchanges.board import Source
from exchanges.book import BUY, SELL, Side
from exchanges.clock import MS
from exchanges.health import State
from service.accounting import (
    BPS_SCALE,
    MONEY_SCALE,
    amount_texts,
    bps,
    bps_text,
    money_text,
    near_ratio,
    plain,
    price_text,
    rate_text,
)
from service.api.render import hop_message, moment
from service.desk.firm_quotes import Given
from service.desk.orders import Quote, QuoteRequest
from service.market.book import ConsolidatedBook, Snapshot
from service.market.screening import counts
from service.pricing.bounds import Ask
from service.pricing.quote import STEPS, Leg, LegConversion, SideQuote


def quote_message(quote: Quote, *, with_fills: bool = False) -> bytes:
    """Write the body that an indicative quote is answered with; *with_fills* adds every single fill to its sides."""
    ttl_ms = round((quote.expires_at - quote.created_at).total_seconds() * 1_000)
    return (
        f'{{"quote_id":"{quote.quote_id}","kind":"indicative","executed":false,'
        f'"market_data":"{quote.market_data}","execution":"mock",'
        f"{_in_common(quote.request, quote.sides, quote.snapshot, with_fills)},"
        f'"created_at":"{moment(quote.created_at)}","expires_at":"{moment(quote.expires_at)}",'
        f'"expires_in_ms":{ttl_ms}}}'
    ).encode()


def firm_message(given: Given) -> bytes:
    """Write the body that a firm quote is answered with."""
    quote, priced, snapshot, market_data = given.quote, given.priced, given.snapshot, given.market_data
    ttl_ms = round((quote.expires_at - quote.created_at).total_seconds() * 1_000)
    return (
        f'{{"quote_id":"{quote.quote_id}","kind":"firm","status":"{quote.status.value}",'
        f'"held":{{{_text(quote.held_asset)}:"{money_text(quote.held_amount)}"}},"executed":false,'
        f'"market_data":"{market_data}","execution":"mock",'
        f"{_in_common(quote.request, {quote.side: priced}, snapshot, with_fills=False)},"
        f'"created_at":"{moment(quote.created_at)}","expires_at":"{moment(quote.expires_at)}",'
        f'"expires_in_ms":{ttl_ms}}}'
    ).encode()


def _in_common(request: QuoteRequest, sides: Mapping[Side, SideQuote], snapshot: Snapshot, with_fills: bool) -> str:
    """Write what quotes of both kinds have in common."""
    book, sources, at_ns = snapshot
    buy, sell = sides.get(BUY), sides.get(SELL)
    taken = sum([book.side(side).taken for side in sides])
    held = sum([book.side(side).held for side in sides])
    return (
        f"{_assets(book)},"
        f'"requested":{_requested(request)},'
        f'"buy":{"null" if buy is None else _side(buy, at_ns, with_fills)},'
        f'"sell":{"null" if sell is None else _side(sell, at_ns, with_fills)},'
        f'"market":{_market(book)},'
        f'"liquidity":{{"taken":"{price_text(taken)}","held":"{price_text(held)}"}},'
        f'"sources":[{",".join([_source(source) for source in sources])}],'
        f'"warnings":[{_warnings(book, sides.values())}]'
    )


@lru_cache(4_096)
def _text(name: str | None) -> str:
    """Write a name of a venue, a symbol, an asset or a reason."""
    return orjson.dumps(name).decode()


def _requested(request: QuoteRequest) -> str:
    fields = [*_amounts(request.ask), f'"side":"{request.sides[0].value if len(request.sides) == 1 else "both"}"']
    for name, venues in (("venues", request.venues), ("exclude_venues", request.exclude_venues)):
        if venues is not None:
            fields.append(f'"{name}":[{",".join(map(_text, venues))}]')
    return f"{{{','.join(fields)}}}"


def _amounts(ask: Ask) -> Iterable[str]:
    quantity, total, slippage_bps_max, limit_price = ask
    if quantity is not None:
        yield f'"quantity":"{price_text(quantity)}"'
    if total is not None:
        yield f'"total":"{money_text(total)}"'
    if slippage_bps_max is not None:
        yield f'"slippage_bps_max":"{plain(slippage_bps_max)}"'
    if limit_price is not None:
        yield f'"limit_price":"{price_text(limit_price)}"'


def _assets(book: ConsolidatedBook) -> str:
    written = book.written.get("assets")
    if written is None:
        written = (
            f'"symbol":{_text(book.symbol)},"base_asset":{_text(book.base_asset)},'
            f'"quote_asset":{_text(book.quote_asset)}'
        )
        book.written["assets"] = written
    return written


def _market(book: ConsolidatedBook) -> str:
    written = book.written.get("market")
    if written is None:
        bid, ask = book.bids.top, book.asks.top
        spread_bps = bps(2 * (ask.price - bid.price), book.twice_mid)
        written = (
            f'{{"mid":"{plain(book.mid)}",'
            f'"best_bid":{{"price":"{price_text(bid.price)}","venue":{_text(bid.venue)}}},'
            f'"best_ask":{{"price":"{price_text(ask.price)}","venue":{_text(ask.venue)}}},'
            f'"spread_bps":"{bps_text(spread_bps)}","crossed":{_truth(book.crossed)}}}'
        )
        book.written["market"] = written
    return written


def _source(source: Source) -> str:
    standing = _standing(source.venue, source.state, source.reason)
    return f'{standing}"age_ms":{_number(source.age_ms)},"sequence":{_number(source.sequence)}}}'


@lru_cache(4_096)
def _standing(venue: str, state: State, reason: str | None) -> str:
    used = _truth(counts(state, reason))
    return f'{{"venue":{_text(venue)},"state":"{state.value}","used":{used},"reason":{_text(reason)},'


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


def _warnings(book: ConsolidatedBook, sides: Collection[SideQuote]) -> str:
    codes = []
    if len(book.shown.venues) == 1:
        codes.append("single_venue")
    if book.crossed:
        codes.append("crossed")
    if False in [priced.fillable for priced in sides]:
        codes.append("thin")
    if "rules" in [priced.stopped_by for priced in sides]:
        codes.append("unroutable")
    return ",".join([f'{{"code":"{code}"}}' for code in codes])


_BPS = 10 ** (MONEY_SCALE - BPS_SCALE)
"""Brings basis points to money's scale."""
_PRICES = '"average_price":"%s","best_price":"%s","worst_price":"%s","all_in_price":"%s"'
_NO_PRICES = '"average_price":null,"best_price":null,"worst_price":null,"all_in_price":null'
_AMOUNTS = '"subtotal":"%s","fees":"%s","markup":"%s","total":"%s"'
_SLIPPAGE = '"slippage_bps":{"from_mid":"%s","from_best":"%s"}'
_NO_SLIPPAGE = '"slippage_bps":{"from_mid":null,"from_best":null}'
_WATERFALL = ",".join([f'{{"step":"{name}","amount":"%s","bps":"%s"}}' for name in STEPS])
_WATERFALL_END = 4 + 2 * len(STEPS)
_price_text = lru_cache(16_384)(price_text)
"""Levels' prices come again and again."""
_rate_text = lru_cache(256)(rate_text)


def _side(priced: SideQuote, at_ns: int, with_fills: bool) -> str:
    """Write a side: first all its amounts, and its prices that are quotients, as text at once, then what they are."""
    book, side, ask, spread, legs, _, markup, _ = priced
    quantity, total, best, single = spread.quantity, priced.total, priced.best_price, priced.best_single_venue
    amounts = [spread.subtotal, spread.fees, markup, total]
    for amount, share in priced.lines:
        amounts += (amount, _BPS * share)
    ratios: list[float] = []
    if best is not None:
        amounts += (_BPS * (priced.worse_by_bps(book.twice_mid, 2) or 0), _BPS * (priced.worse_by_bps(best) or 0))
        ratios += (near_ratio(spread.subtotal, quantity), near_ratio(total, quantity))
    if single is not None:
        amounts.append(_BPS * single.saving_bps)
        ratios.append(near_ratio(single.total, quantity))
    for source, taken in legs:
        if taken.quantity not in source.written:
            amounts += (taken.subtotal, taken.fee)
            ratios.append(near_ratio(taken.subtotal, taken.quantity))
    texts = amount_texts(amounts, ratios)
    sums, waterfall = _AMOUNTS % tuple(texts[:4]), _WATERFALL % tuple(texts[4:_WATERFALL_END])
    money, quotients = iter(texts[_WATERFALL_END:]), iter(texts[len(amounts) :])
    prices, slippage = _NO_PRICES, _NO_SLIPPAGE
    if best is not None:
        worst = priced.worst_price or 0
        prices = _PRICES % (next(quotients), _price_text(best), _price_text(worst), next(quotients))
        slippage = _SLIPPAGE % (next(money), next(money))
    alone = '"best_single_venue":null,"saving_bps":null'
    if single is not None:
        alone = (
            f'"best_single_venue":{{"venue":{_text(single.venue)},"all_in_price":"{next(quotients)}"}},'
            f'"saving_bps":"{next(money)}"'
        )
    missing = priced.shortfall
    shortfall = (price_text if ask.total is None else money_text)(missing) if missing else "0"
    return (
        f'{{"fillable":{_truth(priced.fillable)},"quantity":"{price_text(quantity)}","shortfall":"{shortfall}",'
        f'{prices},{sums},{_directions(book, side)},{slippage},"waterfall":[{waterfall}],'
        f'"legs":[{",".join([_leg(leg, money, quotients, at_ns) for leg in legs])}],{alone}'
        f"{_fills(priced) if with_fills else ''}}}"
    )


def _directions(book: ConsolidatedBook, side: Side) -> str:
    base_asset, quote_asset = _text(book.base_asset), _text(book.quote_asset)
    if side is BUY:
        return f'"pays":{quote_asset},"receives":{base_asset}'
    return f'"pays":{base_asset},"receives":{quote_asset}'


def _leg(leg: Leg, amounts: Iterator[str], ratios: Iterator[str], at_ns: int) -> str:
    """Write a leg; one of whole levels is the same for every order until the venue's book is replaced."""
    source, taken = leg
    written = source.written.get(taken.quantity)
    if written is not None:
        return written
    conversion = leg.conversion
    written = (
        f'{{"venue":{_text(source.venue)},"symbol":{_text(source.symbol)},"quantity":"{price_text(taken.quantity)}",'
        f'"average_price":"{next(ratios)}","worst_price":"{_price_text(taken.worst_price)}",'
        f'"subtotal":"{next(amounts)}","fee":"{next(amounts)}",'
        f'"fee_bps":"{_rate_text(source.taker_rate)}","levels":{taken.levels},'
        f'"conversion":{"null" if conversion is None else _conversion(conversion, at_ns)}}}'
    )
    if conversion is None and taken.quantity == source.reach[taken.levels]:
        source.written[taken.quantity] = written
    return written


def _conversion(conversion: LegConversion, at_ns: int) -> str:
    return (
        f'{{"symbol":{_text(conversion.symbol)},"side":"{conversion.side.value}","rate":"{plain(conversion.rate)}",'
        f'"age_ms":{(at_ns - conversion.received_at_ns) // MS},"cost":"{money_text(conversion.cost)}"}}'
    )


def _fills(priced: SideQuote) -> str:
    fills = [
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
    return f',"fills":{orjson.dumps(fills).decode()}'
