"""Quote and execute.

The desk takes checked requests, looks at the book once, decides with pure functions and writes the outcome into the
ledger before anyone hears of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from exchanges.book import Side
from exchanges.clock import MS, Clock
from service.desk.execution import FILLED, PARTIALLY_FILLED, REJECTED, ExecutedFill, Execution
from service.desk.orders import (
    DirectOrder,
    Order,
    Promise,
    Quote,
    QuotedSide,
    QuoteOrder,
    QuoteRequest,
    TimeInForce,
    amount_faults,
    refusal,
    total_faults,
)
from service.desk.quote_id import NONCE_BYTES, QuoteSigner, QuoteTerms
from service.errors import Fault, RequestError, Unavailable
from service.ledger.protocol import Ledger, Outcome, StoredExecution
from service.market.book import NoBook, Snapshot
from service.market.symbols import nearest, resolve
from service.market.view import MarketView
from service.pricing.bounds import Ask
from service.pricing.quote import SideQuote, price

IN_PROGRESS_WAIT_S = 2.0
"""How long a repeated request waits for the first one's answer."""


@dataclass(frozen=True, slots=True)
class DeskRules:
    """
    The desk's own numbers.

    Args:
        market_data: ``live`` or ``simulated``; stands in every answer and record.
        ttl_ms: How long an indicative quote may be executed.
        tolerance_bps: Of an execute on a quote that does not say its own.
        markup_rate: The desk's margin.
        account_markup_rates: The same for single accounts, in place of the one above.
    """

    market_data: str
    ttl_ms: int = 3_000
    tolerance_bps: Decimal = Decimal(0)
    markup_rate: int = 0
    account_markup_rates: Mapping[str, int] = field(default_factory=dict)

    def markup(self, account: str) -> int:
        """Give the margin on an account's prices."""
        return self.account_markup_rates.get(account, self.markup_rate)


@dataclass(frozen=True, slots=True)
class Decision:
    """
    An order, decided but not yet on record.

    Args:
        quote_id: As the client sent it, or None.
        quote_key: The quote's nonce, or None.
        request: What the quote had been asked, or None.
        reject_code: A code of the contract, or None if it fills; nothing of *priced* counts if it is rejected.
    """

    execution_id: str
    order: Order
    market_data: str
    side: Side
    symbol: str
    time_in_force: TimeInForce
    request: QuoteRequest | None
    quote_id: str | None
    quote_key: bytes | None
    reject_code: str | None
    priced: SideQuote
    snapshot: Snapshot
    versus_quote_bps: int | None
    executed_at: datetime

    @property
    def status(self) -> str:
        """Give the execution's status."""
        if self.reject_code is not None:
            return REJECTED
        return FILLED if self.priced.fillable else PARTIALLY_FILLED


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the desk says to an order.

    Args:
        decision: How it was decided just now; None if it was on record before.
        execution_id: None for a dry run.
        receipt: The body of the answer.
        fresh_quote: A new quote for the same question, where an order on a quote was refused just now.
        ledger_ms: How long it took to be on record; None where nothing was recorded just now.
    """

    status: str
    reject_code: str | None
    execution_id: str | None
    receipt: bytes
    replayed: bool
    decision: Decision | None = None
    fresh_quote: Quote | None = None
    ledger_ms: float | None = None


@dataclass(slots=True)
class _Terms:
    """A direct order and an order on a quote, brought to one form."""

    symbol: str
    side: Side
    ask: Ask
    time_in_force: TimeInForce
    venues: frozenset[str] | None
    promise: Promise | None = None
    quote_id: str | None = None
    quote_key: bytes | None = None
    request: QuoteRequest | None = None


class Desk:
    """The two verbs."""

    def __init__(
        self,
        market: MarketView,
        ledger: Ledger,
        signer: QuoteSigner,
        clock: Clock,
        rules: DeskRules,
        venues: Collection[str],
        receipt: Callable[[Decision], bytes],
    ) -> None:
        """
        Sit down.

        Args:
            venues: Names that a request may choose from.
            receipt: Writes the JSON body that stands for a decision for ever.
        """
        self._market = market
        self._ledger = ledger
        self._signer = signer
        self._clock = clock
        self.rules = rules
        self._venues = frozenset(venues)
        self._receipt = receipt
        self._running: dict[tuple[str, str], asyncio.Future[None]] = {}
        self.closing = False

    def close(self) -> None:
        """Take no more orders; those under way are finished."""
        self.closing = True

    def quote(self, account: str, request: QuoteRequest) -> Quote:
        """
        Say what an order would get now.

        Raises:
            RequestError: 422, where no venue would accept the amount as an order.
            Unavailable: If there is no book that can be believed.
        """
        snapshot = self._snapshot(request.symbol, self._chosen(request.venues, request.exclude_venues))
        _refuse_amount(amount_faults(snapshot.book, request.sides, request.ask))
        markup_rate = self.rules.markup(account)
        sides = {side: price(snapshot.book, side, request.ask, markup_rate) for side in request.sides}
        _refuse_amount(total_faults(sides.values()))
        now = _to_milliseconds(self._clock.utc())
        expires_at = now + timedelta(milliseconds=self.rules.ttl_ms)
        terms = QuoteTerms(
            account=account,
            market_data=self.rules.market_data,
            request=request,
            sides={side: QuotedSide(one.quantity, one.total, one.fillable) for side, one in sides.items()},
            issued_at=now,
            expires_at=expires_at,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        return Quote(self._signer.seal(terms), request, self.rules.market_data, now, expires_at, sides, snapshot)

    async def execute(self, order: Order) -> Answer:
        """
        Fill an order now or refuse it, on record.

        The same ``client_order_id`` is always safe to send again.

        Raises:
            RequestError: For what the caller sent; nothing is recorded and the id is not used up.
            Unavailable: For now; nothing was executed.
        """
        if order.dry_run:
            return self._dry_answer(await self._decide(order))
        key = (order.account, order.client_order_id)
        await self._wait_for_the_same(key)
        running = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._execute_alone(order)
        finally:
            del self._running[key]
            running.set_result(None)

    async def _wait_for_the_same(self, key: tuple[str, str]) -> None:
        """Let an earlier request with the same id finish, so that this one finds its outcome."""
        deadline = asyncio.get_running_loop().time() + IN_PROGRESS_WAIT_S
        try:
            async with asyncio.timeout_at(deadline):
                while (earlier := self._running.get(key)) is not None:
                    await asyncio.shield(earlier)
        except TimeoutError:
            raise RequestError("execution_in_progress", "the same order is being executed; ask again") from None

    async def _execute_alone(self, order: Order) -> Answer:
        stored = await self._ledger.find_client_order(order.account, order.client_order_id)
        if stored is not None:
            return _replay(stored, order)
        decision = await self._decide(order)
        began_ns = self._clock.now_ns()
        outcome, stored = await self._ledger.record(self._execution(decision))
        ledger_ms = (self._clock.now_ns() - began_ns) / MS
        if outcome is Outcome.QUOTE_USED:
            raise self._about_quote("quote_used", "the quote has been used", decision.request, order.account)
        if stored is None:
            raise RuntimeError(f"the ledger answered {outcome} without an execution")
        if outcome is Outcome.KNOWN:
            return _replay(stored, order)
        return Answer(
            status=stored.status,
            reject_code=stored.reject_code,
            execution_id=stored.execution_id,
            receipt=stored.receipt,
            replayed=False,
            decision=decision,
            fresh_quote=self._fresh_quote(decision.request, order.account) if stored.reject_code else None,
            ledger_ms=ledger_ms,
        )

    def _dry_answer(self, decision: Decision) -> Answer:
        return Answer(
            status=decision.status,
            reject_code=decision.reject_code,
            execution_id=None,
            receipt=self._receipt(decision),
            replayed=False,
            decision=decision,
            fresh_quote=self._fresh_quote(decision.request, decision.order.account) if decision.reject_code else None,
        )

    async def _decide(self, order: Order) -> Decision:
        """Check what only the desk can check, then price the order on one book and decide it."""
        if self.closing:
            raise Unavailable("shutting_down", "the service is stopping")
        terms = await self._terms(order)
        snapshot = self._look(terms.symbol, terms.venues)
        if terms.promise is None and isinstance(snapshot, Snapshot):
            _refuse_amount(amount_faults(snapshot.book, [terms.side], terms.ask), kind="pointer")
        self._refuse_late(order)
        snapshot = _there(snapshot)
        priced = price(snapshot.book, terms.side, terms.ask, self.rules.markup(order.account))
        if terms.promise is None:
            _refuse_amount(total_faults([priced]), kind="pointer")
        reject_code = refusal(priced, terms.time_in_force, terms.promise)
        versus = None
        if terms.promise is not None and reject_code is None:
            versus = terms.promise.versus_quote_bps(terms.side, priced.total)
        return Decision(
            execution_id=secrets.token_hex(16),
            order=order,
            market_data=self.rules.market_data,
            side=terms.side,
            symbol=terms.symbol,
            time_in_force=terms.time_in_force,
            request=terms.request,
            quote_id=terms.quote_id,
            quote_key=terms.quote_key,
            reject_code=reject_code,
            priced=priced,
            snapshot=snapshot,
            versus_quote_bps=versus,
            executed_at=_to_milliseconds(self._clock.utc()),
        )

    async def _terms(self, order: Order) -> _Terms:
        terms = order.terms
        if isinstance(terms, DirectOrder):
            return _Terms(
                symbol=self.resolve(terms.symbol, Fault("/symbol", "unknown_symbol", "is not served", kind="pointer")),
                side=terms.side,
                ask=terms.ask,
                time_in_force=terms.time_in_force,
                venues=None,
            )
        return await self._quoted_terms(order, terms)

    async def _quoted_terms(self, order: Order, wanted: QuoteOrder) -> _Terms:
        account, quoted = order.account, self._signer.open(wanted.quote_id)
        if quoted is None or quoted.account != account or quoted.market_data != self.rules.market_data:
            raise RequestError("unknown_quote", "no such quote was given to this account")
        side = wanted.side or (next(iter(quoted.sides)) if len(quoted.sides) == 1 else None)
        if side is None:
            raise _side_fault("missing_parameter", "the quote has both sides: say which one is executed")
        if side not in quoted.sides:
            raise _side_fault("conflicting_parameters", f"the quote has no {side} side")
        request, promised = quoted.request, quoted.sides[side]
        used = await self._ledger.quote_used(quoted.nonce)
        # Nothing is awaited between here and the decision: the time that counts is the fill's own.
        if self._clock.utc() >= quoted.expires_at:
            raise self._about_quote("quote_expired", "the quote's time is over", request, account)
        self._refuse_late(order)
        if used:
            raise self._about_quote("quote_used", "the quote has been used", request, account)
        tolerance_bps = self.rules.tolerance_bps if wanted.tolerance_bps is None else wanted.tolerance_bps
        return _Terms(
            symbol=request.symbol,
            side=side,
            # What was quoted is what is filled, however the amount was asked for.
            ask=Ask(promised.quantity, limit_price=request.ask.limit_price) if promised.fillable else request.ask,
            time_in_force=TimeInForce.FOK,
            venues=self._chosen(request.venues, request.exclude_venues),
            promise=Promise(promised, tolerance_bps),
            quote_id=wanted.quote_id,
            quote_key=quoted.nonce,
            request=request,
        )

    def _refuse_late(self, order: Order) -> None:
        if order.valid_until is not None and self._clock.utc() > order.valid_until:
            fault = Fault("/valid_until", "order_expired", "has passed", kind="pointer")
            raise RequestError("order_expired", "the order's valid_until has passed", [fault])

    def _about_quote(self, code: str, detail: str, request: QuoteRequest | None, account: str) -> RequestError:
        return RequestError(code, detail, fresh_quote=self._fresh_quote(request, account))

    def _fresh_quote(self, request: QuoteRequest | None, account: str) -> Quote | None:
        if request is None:
            return None
        try:
            return self.quote(account, request)
        except (RequestError, Unavailable):  # The same question may have no answer any more.
            return None

    def resolve(self, text: str, fault: Fault) -> str:
        """
        Find the symbol that a client means.

        Raises:
            RequestError: With *fault*, and the nearest symbol, if none is meant or more than one could be.
        """
        symbol = resolve(text, self._market.symbols)
        if symbol is None:
            near = nearest(text, self._market.symbols)
            fault = replace(fault, suggested=near[0] if near else None)
            raise RequestError("unknown_symbol", "this symbol is not served", [fault])
        return symbol

    def look(self, symbol: str) -> Snapshot:
        """
        Give a symbol's consolidated book as it is now.

        Raises:
            Unavailable: If there is none that can be believed.
        """
        return self._snapshot(symbol, None)

    def _look(self, symbol: str, chosen: Collection[str] | None) -> Snapshot | NoBook:
        """Look at the market once; what is seen here is what is checked, priced and filled."""
        if symbol not in self._market.symbols:
            raise RequestError("unknown_symbol", "the quote's symbol is no longer served")
        return self._market.book(symbol, self._clock.now_ns(), chosen)

    def _snapshot(self, symbol: str, chosen: Collection[str] | None) -> Snapshot:
        return _there(self._look(symbol, chosen))

    def _chosen(self, venues: Collection[str] | None, exclude_venues: Collection[str] | None) -> frozenset[str] | None:
        if venues is None and exclude_venues is None:
            return None
        chosen = self._venues if venues is None else frozenset(venues)
        return chosen - frozenset(exclude_venues or ())

    def _execution(self, decision: Decision) -> Execution:
        rejected = decision.reject_code is not None
        priced = decision.priced
        return Execution(
            execution_id=decision.execution_id,
            account=decision.order.account,
            client_order_id=decision.order.client_order_id,
            fingerprint=decision.order.fingerprint,
            quote_key=decision.quote_key,
            market_data=decision.market_data,
            status=decision.status,
            reject_code=decision.reject_code,
            symbol=decision.symbol,
            side=decision.side.value,
            time_in_force=decision.time_in_force.value,
            requested_quantity=priced.ask.quantity,
            requested_total=priced.ask.total,
            filled_quantity=0 if rejected else priced.quantity,
            subtotal=0 if rejected else priced.subtotal,
            fees=0 if rejected else priced.fees,
            markup=0 if rejected else priced.markup,
            total=0 if rejected else priced.total,
            fills=() if rejected else executed_fills(decision),
            executed_at=decision.executed_at,
            receipt=self._receipt(decision),
        )


def executed_fills(decision: Decision) -> tuple[ExecutedFill, ...]:
    """Give a decision's fills with the age and number of the books they came from."""
    sources = {source.venue: source for source in decision.snapshot.sources}
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
        for fill in decision.priced.fills
    )


def _there(looked: Snapshot | NoBook) -> Snapshot:
    if isinstance(looked, NoBook):
        raise Unavailable(looked.code, looked.detail, sources=looked.sources)
    return looked


def _refuse_amount(faults: Sequence[Fault], kind: str = "parameter") -> None:
    """Refuse an amount that no venue would accept; the first fault's code is the refusal's."""
    if faults:
        prefix = "/" if kind == "pointer" else ""
        faults = [replace(fault, where=prefix + fault.where, kind=kind) for fault in faults]
        raise RequestError(faults[0].code, f"the {faults[0].where.lstrip('/')} {faults[0].detail}", faults)


def _replay(stored: StoredExecution, order: Order) -> Answer:
    if stored.fingerprint != order.fingerprint:
        raise RequestError("client_order_id_reused", "this client_order_id was sent before with another body")
    return Answer(stored.status, stored.reject_code, stored.execution_id, stored.receipt, replayed=True)


def _side_fault(code: str, detail: str) -> RequestError:
    return RequestError(code, detail, [Fault("/side", code, detail, kind="pointer")])


def _to_milliseconds(moment: datetime) -> datetime:
    """Cut a time to what answers show, so that what is shown is what counts."""
    return moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)
