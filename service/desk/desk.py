"""Quote and execute.

The desk takes checked requests, looks at the book once, decides with pure functions and writes the outcome into the
ledger before anyone hears of it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta

from exchanges.clock import MS
from service.desk.accounts import AmountTooLarge
from service.desk.deciding import Decision, Terms, decided, filled_as_promised, refuse_amount, too_large
from service.desk.execution import Execution
from service.desk.firm import FirmQuote, FirmStatus
from service.desk.firm_quotes import released
from service.desk.floor import DeskRules, Floor, new_id, there
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
from service.ledger.protocol import Changes, State, StoredExecution
from service.market.book import Snapshot
from service.market.symbols import nearest, resolve
from service.pricing.bounds import Ask
from service.pricing.quote import price

IN_PROGRESS_WAIT_S = 2.0
"""How long a repeated request waits for the first one's answer."""

Receipt = Callable[[Execution, bool], bytes]
"""Writes the JSON body that stands for an execution for ever; the second argument tells a dry run."""


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


class Desk:
    """The two verbs."""

    def __init__(
        self, floor: Floor, signer: QuoteSigner, receipt: Receipt, filled: Callable[[Decision], None] | None = None
    ) -> None:
        """
        Sit down.

        Args:
            filled: Told of every fill that is on record.
        """
        self._floor = floor
        self._signer = signer
        self._receipt = receipt
        self._filled = filled
        self._running: dict[tuple[str, str], asyncio.Future[None]] = {}

    @property
    def rules(self) -> DeskRules:
        """Give the desk's own numbers."""
        return self._floor.rules

    @property
    def closing(self) -> bool:
        """Tell whether no more orders are taken."""
        return self._floor.closing

    def close(self) -> None:
        """Take no more orders; those under way are finished."""
        self._floor.closing = True

    def quote(self, account: str, request: QuoteRequest) -> Quote:
        """
        Say what an order would get now.

        Raises:
            RequestError: 422, where no venue would accept the amount as an order.
            Unavailable: If there is no book that can be believed.
        """
        floor = self._floor
        snapshot = there(floor.look(request.symbol, account, floor.chosen(request)))
        refuse_amount(amount_faults(snapshot.book.shown, request.sides, request.ask))
        markup_rate = floor.rules.markup(account)
        sides = {side: price(snapshot.book, side, request.ask, markup_rate) for side in request.sides}
        refuse_amount(total_faults(sides.values()))
        now = floor.now()
        expires_at = now + timedelta(milliseconds=floor.rules.ttl_ms)
        terms = QuoteTerms(
            account=account,
            market_data=floor.rules.market_data,
            request=request,
            sides={side: QuotedSide(one.quantity, one.total, one.fillable) for side, one in sides.items()},
            issued_at=now,
            expires_at=expires_at,
            nonce=secrets.token_bytes(NONCE_BYTES),
        )
        return Quote(self._signer.seal(terms), request, floor.rules.market_data, now, expires_at, sides, snapshot)

    async def execute(self, order: Order) -> Answer:
        """
        Fill an order now or refuse it, on record.

        The same ``client_order_id`` is always safe to send again.

        Raises:
            RequestError: For what the caller sent; nothing is recorded and the id is not used up.
            Unavailable: For now; nothing was executed.
        """
        if order.dry_run:
            return await self._decide_on_record(order)
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
        try:
            return await self._decide_on_record(order)
        except (RequestError, Unavailable) as refused:
            # What is on record comes before everything that may be wrong with the order by now.
            if isinstance(refused, Unavailable) and refused.code not in _BEFORE_THE_RECORD:
                raise
            stored = await self._floor.ledger.find_client_order(order.account, order.client_order_id)
            if stored is None:
                raise
            return _replay(stored, order)

    async def _decide_on_record(self, order: Order) -> Answer:
        floor = self._floor
        terms = self._terms(order)
        began_ns = floor.clock.now_ns()
        claim = floor.claim(
            new_id(),
            order.account,
            terms.request.symbol if terms.request is not None else terms.symbol,
            client_order_id=None if order.dry_run else order.client_order_id,
            quote_key=terms.quote_key,
            firm_quote_id=terms.firm_quote_id,
        )

        def decide(state: State) -> tuple[Answer, Changes | None]:
            if state.known is not None:
                return _replay(state.known, order), None
            try:
                decision, changes = self._decision(order, terms, claim.ref, state)
            except AmountTooLarge:
                raise too_large() from None
            execution = decision.execution
            receipt = self._receipt(execution, order.dry_run)
            answer = Answer(
                status=execution.status,
                reject_code=execution.reject_code,
                execution_id=None if order.dry_run else execution.execution_id,
                receipt=receipt,
                replayed=False,
                decision=decision,
                fresh_quote=self._fresh_quote(decision.request, order.account) if execution.reject_code else None,
            )
            return answer, None if order.dry_run else replace(changes, execution=replace(execution, receipt=receipt))

        answer = await floor.transact(claim, decide)
        if answer.replayed or order.dry_run:
            return answer
        if self._filled is not None and answer.decision is not None and answer.reject_code is None:
            self._filled(answer.decision)
        return replace(answer, ledger_ms=(floor.clock.now_ns() - began_ns) / MS)

    def _terms(self, order: Order) -> Terms:
        """Bring an order to one form, as far as the record is not needed for it."""
        wanted = order.terms
        if isinstance(wanted, DirectOrder):
            fault = Fault("/symbol", "unknown_symbol", "is not served", kind="pointer")
            symbol = self.resolve(wanted.symbol, fault)
            return Terms(symbol, wanted.side, wanted.ask, wanted.time_in_force)
        if _is_firm(wanted.quote_id):
            return Terms(
                "", wanted.side, Ask(), TimeInForce.FOK, quote_id=wanted.quote_id, firm_quote_id=wanted.quote_id
            )
        return self._quoted_terms(order, wanted)

    def _quoted_terms(self, order: Order, wanted: QuoteOrder) -> Terms:
        rules, quoted = self._floor.rules, self._signer.open(wanted.quote_id)
        if quoted is None or quoted.account != order.account or quoted.market_data != rules.market_data:
            raise RequestError("unknown_quote", "no such quote was given to this account")
        side = wanted.side or (next(iter(quoted.sides)) if len(quoted.sides) == 1 else None)
        if side is None:
            raise _side_fault("missing_parameter", "the quote has both sides: say which one is executed")
        if side not in quoted.sides:
            raise _side_fault("conflicting_parameters", f"the quote has no {side} side")
        request, promised = quoted.request, quoted.sides[side]
        tolerance_bps = rules.tolerance_bps if wanted.tolerance_bps is None else wanted.tolerance_bps
        return Terms(
            symbol=request.symbol,
            side=side,
            # What was quoted is what is filled, however the amount was asked for.
            ask=Ask(promised.quantity, limit_price=request.ask.limit_price) if promised.fillable else request.ask,
            time_in_force=TimeInForce.FOK,
            venues=self._floor.chosen(request),
            promise=Promise(promised, tolerance_bps),
            quote_id=wanted.quote_id,
            quote_key=quoted.nonce,
            expires_at=quoted.expires_at,
            request=request,
        )

    def _decision(self, order: Order, terms: Terms, ref: str, state: State) -> tuple[Decision, Changes]:
        """Decide an order while all that it is about is ours."""
        if terms.firm_quote_id is not None:
            return self._firm_decision(order, terms, ref, state)
        if terms.expires_at is not None and self._floor.clock.utc() >= terms.expires_at:
            raise self._about_quote("quote_expired", "the quote's time is over", terms.request, order.account)
        if terms.side is None:
            raise ValueError("only a firm quote says its side itself")
        looked = self._floor.look(terms.symbol, order.account, terms.venues)
        if terms.promise is None and isinstance(looked, Snapshot):
            refuse_amount(amount_faults(looked.book.shown, [terms.side], terms.ask), kind="pointer")
        self._refuse_late(order)
        if state.quote_used:
            raise self._about_quote("quote_used", "the quote has been used", terms.request, order.account)
        snapshot = there(looked)
        priced = price(snapshot.book, terms.side, terms.ask, self._floor.rules.markup(order.account))
        if terms.promise is None:
            refuse_amount(total_faults([priced]), kind="pointer")
        now = self._floor.now()
        expired = released(state, now, FirmStatus.EXPIRED)
        reject_code = refusal(priced, terms.time_in_force, terms.promise)
        return decided(
            order,
            terms,
            ref,
            priced,
            snapshot,
            expired,
            expired.holdings or state.holdings,
            self._floor.rules,
            now,
            reject_code,
        )

    def _firm_decision(self, order: Order, terms: Terms, ref: str, state: State) -> tuple[Decision, Changes]:
        quote, now = state.firm, self._floor.now()
        if quote is None:
            raise RequestError("unknown_quote", "no such quote was given to this account")
        if terms.side not in (None, quote.side):
            raise _side_fault("conflicting_parameters", f"the quote has no {terms.side} side")
        refused = _firm_refusal(quote, self._floor.clock.utc() >= quote.expires_at)
        if refused is not None:
            raise self._about_quote(*refused, quote.request, order.account)
        self._refuse_late(order)
        expired = released(state, now, FirmStatus.EXPIRED)
        held = self._floor.taken.held(quote.quote_id)
        holdings = expired.holdings or state.holdings
        try:
            return filled_as_promised(order, quote, ref, held, expired, holdings, self._floor.rules, now)
        except AmountTooLarge:
            raise too_large() from None

    def _refuse_late(self, order: Order) -> None:
        if order.valid_until is not None and self._floor.clock.utc() > order.valid_until:
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
        symbols: Collection[str] = self._floor.market.symbols
        symbol = resolve(text, symbols)
        if symbol is None:
            near = nearest(text, symbols)
            fault = replace(fault, suggested=near[0] if near else None)
            raise RequestError("unknown_symbol", "this symbol is not served", [fault])
        return symbol

    def look(self, symbol: str, account: str) -> Snapshot:
        """
        Give a symbol's consolidated book as it is now for an account.

        Raises:
            Unavailable: If there is none that can be believed.
        """
        return there(self._floor.look(symbol, account))

    def look_for(self, account: str, request: QuoteRequest) -> Snapshot:
        """Give the book that ``quote`` would price now, as ``look`` does; the very same one while nothing changes."""
        return there(self._floor.look(request.symbol, account, self._floor.chosen(request)))


_BEFORE_THE_RECORD = ("no_fresh_market_data", "venues_disagree", "shutting_down")
"""Refusals of what may have been executed long ago."""


def _is_firm(quote_id: str) -> bool:
    return len(quote_id) == 32


def _firm_refusal(quote: FirmQuote, late: bool) -> tuple[str, str] | None:
    if quote.status is FirmStatus.USED:
        return "quote_used", "the quote has been used"
    if quote.status is FirmStatus.EXPIRED or (quote.open and late):
        return "quote_expired", "the quote's time is over"
    if not quote.open:
        return "quote_void", "the quote was let go"
    return None


def _replay(stored: StoredExecution, order: Order) -> Answer:
    if stored.fingerprint != order.fingerprint:
        raise RequestError("client_order_id_reused", "this client_order_id was sent before with another body")
    return Answer(stored.status, stored.reject_code, stored.execution_id, stored.receipt, replayed=True)


def _side_fault(code: str, detail: str) -> RequestError:
    return RequestError(code, detail, [Fault("/side", code, detail, kind="pointer")])
