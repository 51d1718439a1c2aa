"""Turn the desk's values into rows of the ledger's tables, and rows into values again.

Pure.  What is whole numbers of 10**-18 is too long for an integer of a database, and is text there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from exchanges.book import Side
from service.accounting import money_text, price_text
from service.desk.execution import ExecutedFill, Execution
from service.desk.firm import FirmQuote, FirmStatus
from service.desk.orders import QuoteRequest
from service.ledger.protocol import StoredExecution, StoredKey
from service.market.side import Hop
from service.market.taken import LevelKey, Lot
from service.pricing.bounds import Ask


def moment_text(moment: datetime) -> str:
    """Write a time, in whatever zone, so that it sorts."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def moment_read(text: str) -> datetime:
    """Read what ``moment_text`` wrote."""
    return datetime.fromisoformat(text)


def execution_row(execution: Execution) -> dict[str, Any]:
    """Give an execution's row."""
    return {
        "execution_id": execution.execution_id,
        "account": execution.account,
        "client_order_id": execution.client_order_id,
        "fingerprint": execution.fingerprint,
        "quote_key": execution.quote_key,
        "market_data": execution.market_data,
        "status": execution.status,
        "reject_code": execution.reject_code,
        "symbol": execution.symbol,
        "side": execution.side,
        "time_in_force": execution.time_in_force,
        "requested_quantity": None
        if execution.requested_quantity is None
        else price_text(execution.requested_quantity),
        "requested_total": None if execution.requested_total is None else money_text(execution.requested_total),
        "filled_quantity": price_text(execution.filled_quantity),
        "subtotal": money_text(execution.subtotal),
        "fees": money_text(execution.fees),
        "markup": money_text(execution.markup),
        "total": money_text(execution.total),
        "executed_at": moment_text(execution.executed_at),
        "receipt": execution.receipt,
    }


def fill_rows(execution: Execution, seq: int) -> list[dict[str, Any]]:
    """Give the rows of an execution's fills, best first."""
    return [
        {
            "execution_seq": seq,
            "n": n,
            "venue": fill.venue,
            "symbol": fill.symbol,
            "price": price_text(fill.price),
            "quantity": price_text(fill.quantity),
            "subtotal": money_text(fill.subtotal),
            "fee": money_text(fill.fee),
            "markup": money_text(fill.markup),
            "book_age_ms": fill.book_age_ms,
            "sequence": fill.sequence,
        }
        for n, fill in enumerate(execution.fills)
    ]


def stored_execution(row: Any) -> StoredExecution:
    """Read an execution's row."""
    return StoredExecution(
        execution_id=row.execution_id,
        account=row.account,
        client_order_id=row.client_order_id,
        fingerprint=bytes(row.fingerprint),
        status=row.status,
        reject_code=row.reject_code,
        executed_at=moment_read(row.executed_at),
        receipt=bytes(row.receipt),
    )


def lot_row(lot: Lot, instance: str) -> dict[str, Any]:
    """Give the row of liquidity that was just taken by this *instance* of the service."""
    return {
        "ref": lot.ref,
        "n": lot.n,
        "venue": lot.key.venue,
        "symbol": lot.key.symbol,
        "side": lot.key.side.value,
        "price": str(lot.key.price),
        "quantity": str(lot.left),
        "remaining": str(lot.left),
        "since_ms": lot.since_ms,
        "step": str(lot.step),
        "shown": str(lot.shown),
        "account": lot.account,
        "held_until_ms": lot.held_until_ms,
        "instance": instance,
        "ended": not lot.left,
    }


def lot_update(lot: Lot) -> dict[str, Any]:
    """Give what is written of a lot of which less is left."""
    return {
        "a": lot.ref,
        "b": lot.n,
        "remaining": str(lot.left),
        "since_ms": lot.since_ms,
        "shown": str(lot.shown),
        "ended": not lot.left,
    }


def stored_lot(row: Any) -> Lot:
    """Read what is still charged."""
    return Lot(
        ref=row.ref,
        n=row.n,
        key=LevelKey(row.venue, row.symbol, Side(row.side), int(row.price)),
        left=int(row.remaining),
        since_ms=row.since_ms,
        step=int(row.step),
        shown=int(row.shown),
        account=row.account,
        held_until_ms=row.held_until_ms,
    )


def firm_quote_row(quote: FirmQuote) -> dict[str, Any]:
    """Give the row of a new firm quote."""
    request, ask = quote.request, quote.request.ask
    terms = {
        "symbol": request.symbol,
        "ask": [None if one is None else str(one) for one in ask],
        "venues": request.venues,
        "exclude_venues": request.exclude_venues,
        "side": quote.side.value,
        "quantity": str(quote.quantity),
        "money": [str(amount) for amount in (quote.subtotal, quote.fees, quote.markup, quote.total)],
        "fills": [_fill_fields(fill) for fill in quote.fills],
        "created_at": moment_text(quote.created_at),
    }
    return {
        "quote_id": quote.quote_id,
        "account": quote.account,
        "instance": quote.instance,
        "status": quote.status.value,
        "held_asset": quote.held_asset,
        "held_amount": quote.held_amount,
        "expires_at": moment_text(quote.expires_at),
        "execution_id": quote.execution_id,
        "terms": orjson.dumps(terms),
        "message": quote.message,
    }


def stored_firm_quote(row: Any) -> FirmQuote:
    """Read a firm quote's row."""
    terms = orjson.loads(bytes(row.terms))
    quantity, total, slippage_bps_max, limit_price = terms["ask"]
    side = Side(terms["side"])
    subtotal, fees, markup, whole = map(int, terms["money"])
    return FirmQuote(
        quote_id=row.quote_id,
        account=row.account,
        instance=row.instance,
        status=FirmStatus(row.status),
        request=QuoteRequest(
            symbol=terms["symbol"],
            ask=Ask(
                None if quantity is None else int(quantity),
                None if total is None else int(total),
                None if slippage_bps_max is None else Decimal(slippage_bps_max),
                None if limit_price is None else int(limit_price),
            ),
            sides=(side,),
            venues=None if terms["venues"] is None else tuple(terms["venues"]),
            exclude_venues=None if terms["exclude_venues"] is None else tuple(terms["exclude_venues"]),
        ),
        side=side,
        quantity=int(terms["quantity"]),
        subtotal=subtotal,
        fees=fees,
        markup=markup,
        total=whole,
        fills=tuple(_fill_read(fields) for fields in terms["fills"]),
        held_asset=row.held_asset,
        held_amount=row.held_amount,
        created_at=moment_read(terms["created_at"]),
        expires_at=moment_read(row.expires_at),
        message=bytes(row.message),
        execution_id=row.execution_id,
    )


def _fill_fields(fill: ExecutedFill) -> list[Any]:
    """Bring a fill to what JSON holds: numbers beyond 64 bits are text."""
    numbers = [str(number) for number in (fill.price, fill.quantity, fill.subtotal, fill.fee, fill.markup)]
    hop = None if fill.hop is None else [_texts(part) for part in fill.hop]
    return [fill.venue, fill.symbol, numbers, fill.book_age_ms, fill.sequence, hop]


def _texts(part: Any) -> Any:
    """Write a part of a hop: a name as it is, numbers as lists of texts."""
    return part if isinstance(part, str) else [str(number) for number in (part if isinstance(part, tuple) else (part,))]


def _read_part(part: Any) -> Any:
    if isinstance(part, str):
        return part
    numbers = tuple(map(int, part))
    return numbers if len(numbers) > 1 else numbers[0]


def _fill_read(fields: list[Any]) -> ExecutedFill:
    venue, symbol, numbers, book_age_ms, sequence, hop = fields
    price, quantity, subtotal, fee, markup = map(int, numbers)
    return ExecutedFill(
        venue,
        symbol,
        price,
        quantity,
        subtotal,
        fee,
        markup,
        book_age_ms,
        sequence,
        None if hop is None else Hop(*map(_read_part, hop)),
    )


def key_row(key: StoredKey) -> dict[str, Any]:
    """Give a key's row."""
    return {
        "key_id": key.key_id,
        "account": key.account,
        "scopes": ",".join(key.scopes),
        "digest": key.digest,
        "created_at": moment_text(key.created_at),
        "revoked_at": _moment_or_none(key.revoked_at),
        "expires_at": _moment_or_none(key.expires_at),
        "addresses": ",".join(key.addresses) or None,
        "label": key.label,
        "quote_per_s": key.quote_per_s,
        "execute_per_s": key.execute_per_s,
        "last_used_at": _moment_or_none(key.last_used_at),
    }


def _moment_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else moment_text(moment)


def stored_key(row: Any) -> StoredKey:
    """Read a key's row."""
    return StoredKey(
        key_id=row.key_id,
        account=row.account,
        scopes=tuple(row.scopes.split(",")),
        digest=bytes(row.digest),
        created_at=moment_read(row.created_at),
        revoked_at=_read_or_none(row.revoked_at),
        expires_at=_read_or_none(row.expires_at),
        addresses=tuple(row.addresses.split(",")) if row.addresses else (),
        label=row.label,
        quote_per_s=row.quote_per_s,
        execute_per_s=row.execute_per_s,
        last_used_at=_read_or_none(row.last_used_at),
    )


def _read_or_none(text: str | None) -> datetime | None:
    return None if text is None else moment_read(text)
