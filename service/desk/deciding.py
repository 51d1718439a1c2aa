"""Decide an order on one book and one state of the record: what is filled, what it is refused for, what is written.

Pure: the same order, book and state always come to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from exchanges.book import Side
from service.desk.accounts import QUANTITY_PER_AMOUNT, Holdings, settlement
from service.desk.execution import FILLED, PARTIALLY_FILLED, ExecutedFill, Execution
from service.desk.firm import FirmQuote, FirmStatus
from service.desk.floor import DeskRules, milliseconds
from service.desk.orders import Order, Promise, QuoteRequest, TimeInForce
from service.errors import Fault, RequestError
from service.ledger.protocol import Changes
from service.market.book import Snapshot
from service.market.taken import Lot
from service.pricing.bounds import Ask
from service.pricing.quote import SideQuote
from service.pricing.takings import lots


@dataclass(slots=True)
class Terms:
    """
    A direct order and an order on a quote, brought to one form.

    Args:
        symbol: Empty for a firm quote, which says it itself; so does its side.
        request: What the quote had been asked, or None.
        expires_at: Of the indicative quote, or None.
    """

    symbol: str
    side: Side | None
    ask: Ask
    time_in_force: TimeInForce
    venues: frozenset[str] | None = None
    promise: Promise | None = None
    quote_id: str | None = None
    quote_key: bytes | None = None
    firm_quote_id: str | None = None
    expires_at: datetime | None = None
    request: QuoteRequest | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """
    An order as it was decided, with what it was decided on.

    Args:
        request: What its quote had been asked, or None.
        priced: None where a firm quote was filled as promised ...
        snapshot: ... without a look at the market.
    """

    execution: Execution
    request: QuoteRequest | None
    priced: SideQuote | None
    snapshot: Snapshot | None


def decided(
    order: Order,
    terms: Terms,
    ref: str,
    priced: SideQuote,
    snapshot: Snapshot,
    expired: Changes,
    holdings: Holdings,
    rules: DeskRules,
    now: datetime,
    reject_code: str | None,
) -> tuple[Decision, Changes]:
    """
    Decide an order that was priced on the book as it is now.

    Args:
        ref: The execution's id.
        expired: What has to be written of the account's quotes whose time is over.
        holdings: The account's, after that.
        reject_code: What pricing alone refuses it for, or None.

    Raises:
        AmountTooLarge: If an amount is more than a ledger can hold.
    """
    versus = None if terms.promise is None else terms.promise.versus_quote_bps(priced.side, priced.total)
    execution = Execution(
        execution_id=ref,
        account=order.account,
        client_order_id=order.client_order_id,
        fingerprint=order.fingerprint,
        quote_key=terms.quote_key,
        market_data=rules.market_data,
        status=FILLED if priced.fillable else PARTIALLY_FILLED,
        reject_code=None,
        symbol=terms.symbol,
        side=priced.side.value,
        time_in_force=terms.time_in_force.value,
        requested_quantity=priced.ask.quantity,
        requested_total=priced.ask.total,
        filled_quantity=priced.quantity,
        subtotal=priced.subtotal,
        fees=priced.fees,
        markup=priced.markup,
        total=priced.total,
        fills=executed_fills(priced, snapshot),
        executed_at=now,
        quote_id=terms.quote_id,
        versus_quote_bps=versus,
    )
    if reject_code is None:
        taken = lots(priced, ref, order.account, milliseconds(now))
        settled = settle(execution, holdings, rules, expired, taken)
        if isinstance(settled, tuple):
            return Decision(settled[0], terms.request, priced, snapshot), settled[1]
        reject_code = settled
    refused = execution.refused(reject_code)
    return Decision(refused, terms.request, priced, snapshot), replace(expired, kind="execution", execution=refused)


def filled_as_promised(
    order: Order,
    quote: FirmQuote,
    ref: str,
    held: Sequence[Lot],
    expired: Changes,
    holdings: Holdings,
    rules: DeskRules,
    now: datetime,
) -> tuple[Decision, Changes]:
    """
    Fill an order on an open firm quote, whatever the market does.

    Args:
        held: What the quote holds of the venues' levels; the fill has taken it from now on.
        holdings: The account's, what the quote holds still held.

    Raises:
        AmountTooLarge: If an amount is more than a ledger can hold.
    """
    execution = replace(
        as_filled(quote, rules.market_data),
        execution_id=ref,
        client_order_id=order.client_order_id,
        fingerprint=order.fingerprint,
        executed_at=now,
        versus_quote_bps=0,
    )
    at_ms = milliseconds(now)
    taken = tuple(lot._replace(ref=ref, since_ms=at_ms, held_until_ms=None) for lot in held)
    freed = holdings.with_held(quote.held_asset, -quote.held_amount)
    done, changes = _settled(execution, freed, expired, taken)
    reject_code = None
    if not rules.risk.trading_enabled:
        reject_code = "risk_limit"
    elif _overdrawn(changes.holdings or freed, execution.symbol):  # A sale of dust may bring less than its fee.
        reject_code = "insufficient_balance"
    if reject_code is not None:
        refused = execution.refused(reject_code)
        return Decision(refused, quote.request, None, None), replace(expired, kind="execution", execution=refused)
    return Decision(done, quote.request, None, None), replace(
        changes,
        released=(*expired.released, quote.quote_id),
        firm=(*expired.firm, quote.ended(FirmStatus.USED, ref)),
    )


def as_filled(quote: FirmQuote, market_data: str) -> Execution:
    """Give what filling a firm quote as it was given is, but for the order that does."""
    return Execution(
        execution_id=quote.quote_id,
        account=quote.account,
        client_order_id="",
        fingerprint=b"",
        quote_key=None,
        market_data=market_data,
        status=FILLED,
        reject_code=None,
        symbol=quote.request.symbol,
        side=quote.side.value,
        time_in_force=TimeInForce.FOK.value,
        requested_quantity=quote.request.ask.quantity,
        requested_total=quote.request.ask.total,
        filled_quantity=quote.quantity,
        subtotal=quote.subtotal,
        fees=quote.fees,
        markup=quote.markup,
        total=quote.total,
        fills=quote.fills,
        executed_at=quote.created_at,
        quote_id=quote.quote_id,
    )


def settle(
    execution: Execution, holdings: Holdings, rules: DeskRules, expired: Changes, taken: Sequence[Lot]
) -> tuple[Execution, Changes] | str:
    """
    Settle a fill, if the account can pay for it and may have it.

    Returns:
        The execution with the balances it leaves and what is written; or a code of the contract.
    """
    done, changes = _settled(execution, holdings, expired, taken)
    after = changes.holdings or holdings
    if _overdrawn(after, execution.symbol):
        return "insufficient_balance"
    if rules.risk.broken_by(holdings, after, execution.symbol, execution.subtotal):
        return "risk_limit"
    return done, changes


def _overdrawn(holdings: Holdings, symbol: str) -> bool:
    return any(holdings.balance(asset).available < 0 for asset in symbol.split("/"))


def _settled(
    execution: Execution, holdings: Holdings, expired: Changes, taken: Sequence[Lot]
) -> tuple[Execution, Changes]:
    account, symbol, side = execution.account, execution.symbol, Side(execution.side)
    entries = settlement(account, symbol, side, execution.fills)
    quantity = execution.filled_quantity // QUANTITY_PER_AMOUNT
    after = holdings.with_entries(account, entries).with_fill(
        symbol, side, quantity, execution.subtotal, execution.total
    )
    base_asset, _, quote_asset = symbol.partition("/")
    balances = tuple(
        (asset, holdings.balance(asset).total, after.balance(asset).total) for asset in (quote_asset, base_asset)
    )
    done = replace(execution, balances=balances)
    changes = replace(expired, kind="execution", execution=done, holdings=after, entries=entries, lots=tuple(taken))
    return done, changes


def executed_fills(priced: SideQuote, snapshot: Snapshot) -> tuple[ExecutedFill, ...]:
    """Give the fills of a price with the age and number of the books they come from."""
    sources = {source.venue: source for source in snapshot.sources}
    return tuple(
        ExecutedFill(
            venue=fill.venue,
            symbol=fill.symbol,
            price=fill.price,
            quantity=fill.quantity,
            subtotal=fill.subtotal,
            fee=fill.fee,
            markup=fill.markup,
            book_age_ms=sources[fill.venue].age_ms or 0,
            sequence=sources[fill.venue].sequence,
            hop=fill.hop,
        )
        for fill in priced.fills
    )


def too_large() -> RequestError:
    """Say that an order's amount is more than a ledger can hold."""
    detail = "comes to more than the ledger can hold"
    fault = Fault("/quantity", "quantity_too_large", detail, kind="pointer")
    return RequestError("quantity_too_large", f"the order {detail}", [fault])


def refuse_amount(faults: Sequence[Fault], kind: str = "parameter") -> None:
    """
    Refuse an amount that no venue would accept; the first fault's code is the refusal's.

    Raises:
        RequestError: If there are *faults*.
    """
    if faults:
        prefix = "/" if kind == "pointer" else ""
        faults = [replace(fault, where=prefix + fault.where, kind=kind) for fault in faults]
        raise RequestError(faults[0].code, f"the {faults[0].where.lstrip('/')} {faults[0].detail}", faults)
