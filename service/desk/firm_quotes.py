"""Give firm quotes, and let them go: on demand, when their time is over, and when their process is no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from exchanges.book import Side
from service.desk.accounts import QUANTITY_PER_AMOUNT, AmountTooLarge, Holdings
from service.desk.deciding import as_filled, executed_fills, refuse_amount, settle, too_large
from service.desk.firm import FirmQuote, FirmStatus
from service.desk.floor import Floor, milliseconds, new_id, there
from service.desk.orders import QuoteRequest, TimeInForce, amount_faults, refusal, total_faults
from service.errors import RequestError, Unavailable
from service.ledger.protocol import Changes, State
from service.market.book import Snapshot
from service.pricing.quote import SideQuote, price
from service.pricing.takings import lots


@dataclass(frozen=True, slots=True)
class Given:
    """A firm quote as it is given, with what it was priced on."""

    quote: FirmQuote
    priced: SideQuote
    snapshot: Snapshot
    market_data: str


class FirmQuotes:
    """The desk's firm quotes."""

    def __init__(self, floor: Floor, message: Callable[[Given], bytes]) -> None:
        """Write the body that a quote is answered with by *message*."""
        self._floor = floor
        self._message = message
        self.open = 0
        """Quotes of all accounts that are open, as of the latest look."""

    async def give(self, account: str, request: QuoteRequest, ttl_ms: int | None) -> FirmQuote:
        """
        Give a firm quote for one side, with funds and liquidity held.

        Raises:
            RequestError: 409 and 422 as an order of the same kind would be refused; 429 with too many open ones.
            Unavailable: Without a book that can be believed, or with too few live venues.
        """
        floor, quote_id = self._floor, new_id()
        claim = floor.claim(quote_id, account, request.symbol)

        def decide(state: State) -> tuple[FirmQuote, Changes]:
            now = floor.now()
            expired = released(state, now, FirmStatus.EXPIRED)
            over = {one.quote_id for one in expired.firm}
            if len(state.open_firm) - len(over) >= floor.rules.firm_open_max:
                raise RequestError("too_many_open_quotes", f"at most {floor.rules.firm_open_max} may be open")
            priced, snapshot = self._priced(account, request)
            lasts_ms = ttl_ms or min(floor.rules.ttl_ms, floor.rules.firm_ttl_ms_max)
            expires_at = now + timedelta(milliseconds=lasts_ms)
            quote = _quote(quote_id, account, floor.ledger.instance, request, priced, snapshot, now, expires_at)
            holdings = expired.holdings or state.holdings
            try:
                open_too = [one for one in state.open_firm if one.quote_id not in over]
                promised = _with_fills(holdings, open_too)
                refused = settle(as_filled(quote, floor.rules.market_data), promised, floor.rules, expired, ())
            except AmountTooLarge:
                raise too_large() from None
            if isinstance(refused, str):
                raise RequestError(refused, _REFUSED[refused])
            quote = replace(quote, message=self._message(Given(quote, priced, snapshot, floor.rules.market_data)))
            held = lots(priced, quote_id, account, milliseconds(now), milliseconds(expires_at))
            return quote, replace(
                expired,
                kind="firm_quote",
                holdings=holdings.with_held(quote.held_asset, quote.held_amount),
                lots=tuple(held),
                firm=(*expired.firm, quote),
            )

        return await floor.transact(claim, decide)

    def _priced(self, account: str, request: QuoteRequest) -> tuple[SideQuote, Snapshot]:
        floor, side = self._floor, request.sides[0]
        snapshot = there(floor.look(request.symbol, account, floor.chosen(request)))
        if len(snapshot.book.shown.venues) < floor.rules.firm_venues_min:
            raise Unavailable(
                "no_fresh_market_data",
                f"a firm quote needs {floor.rules.firm_venues_min} live venues",
                sources=snapshot.sources,
            )
        refuse_amount(amount_faults(snapshot.book.shown, request.sides, request.ask), kind="pointer")
        priced = price(snapshot.book, side, request.ask, floor.rules.markup(account))
        refuse_amount(total_faults([priced]), kind="pointer")
        refused = refusal(priced, TimeInForce.FOK, None)
        if refused is not None:
            raise RequestError(refused, _REFUSED[refused])
        return priced, snapshot

    async def find(self, account: str, quote_id: str) -> FirmQuote:
        """
        Give a firm quote as it stands.

        Raises:
            RequestError: If the account has none of that id.
        """
        quote = await self._floor.ledger.firm_quote(account, quote_id)
        if quote is None:
            raise RequestError("unknown_quote", "no such quote was given to this account")
        late = quote.open and self._floor.clock.utc() >= quote.expires_at
        return quote.ended(FirmStatus.EXPIRED) if late else quote

    async def let_go(self, account: str, quote_id: str) -> FirmQuote:
        """
        Release what a firm quote holds; one that is not open stays what it is.

        Raises:
            RequestError: If the account has none of that id.
        """
        claim = self._floor.claim(new_id(), account, firm_quote_id=quote_id)

        def decide(state: State) -> tuple[FirmQuote, Changes | None]:
            if state.firm is None:
                raise RequestError("unknown_quote", "no such quote was given to this account")
            expired = released(state, self._floor.now(), FirmStatus.EXPIRED)
            rest = [quote for quote in expired.firm if quote.quote_id == quote_id]
            if rest:
                return rest[0], expired
            if not state.firm.open:
                return state.firm, expired if expired.firm else None
            changes = ended(expired, expired.holdings or state.holdings, [state.firm], FirmStatus.RELEASED)
            return changes.firm[-1], changes

        return await self._floor.transact(claim, decide)

    async def tend(self) -> None:
        """End the quotes whose time is over, and those of processes that are no more."""
        floor = self._floor
        orphaned = {quote.quote_id for quote in await floor.ledger.orphaned()}
        quotes = await floor.ledger.open_firm_quotes()
        now = floor.clock.utc()
        over = [quote for quote in quotes if quote.expires_at <= now or quote.quote_id in orphaned]
        self.open = len(quotes) - len(over)
        accounts = {quote.account for quote in over}
        for account in sorted(accounts):

            def decide(state: State) -> tuple[None, Changes | None]:
                changes = released(state, floor.now(), FirmStatus.EXPIRED)
                void = [quote for quote in state.open_firm if quote.quote_id in orphaned and quote not in changes.firm]
                over = {quote.quote_id for quote in changes.firm}
                void = [quote for quote in void if quote.quote_id not in over]
                changes = ended(changes, changes.holdings or state.holdings, void, FirmStatus.VOID)
                return None, changes if changes.firm else None

            await floor.transact(floor.claim(new_id(), account), decide)


_REFUSED = {
    "limit_not_met": "not all of it can be had within the limit",
    "slippage_exceeded": "not all of it can be had within the slippage",
    "insufficient_liquidity": "the venues do not show enough",
    "insufficient_balance": "the account has too little available",
    "risk_limit": "a limit of risk does not allow it",
}


def released(state: State, now: datetime, status: FirmStatus) -> Changes:
    """Give what is to be written of the account's open quotes whose time is over."""
    over = [quote for quote in state.open_firm if quote.expires_at <= now]
    return ended(Changes("quiet"), state.holdings, over, status)


def ended(changes: Changes, holdings: Holdings, quotes: Sequence[FirmQuote], status: FirmStatus) -> Changes:
    """Add the end of quotes to what is to be written."""
    for quote in quotes:
        holdings = holdings.with_held(quote.held_asset, -quote.held_amount)
    return replace(
        changes,
        holdings=holdings,
        released=(*changes.released, *(quote.quote_id for quote in quotes)),
        firm=(*changes.firm, *(quote.ended(status) for quote in quotes)),
    )


def _with_fills(holdings: Holdings, quotes: Sequence[FirmQuote]) -> Holdings:
    """Give the positions and the turnover that there would be if these quotes were filled: limits are held to all."""
    for quote in quotes:
        quantity = quote.quantity // QUANTITY_PER_AMOUNT
        holdings = holdings.with_fill(quote.request.symbol, quote.side, quantity, quote.subtotal, quote.total)
    return holdings


def _quote(
    quote_id: str,
    account: str,
    instance: str,
    request: QuoteRequest,
    priced: SideQuote,
    snapshot: Snapshot,
    now: datetime,
    expires_at: datetime,
) -> FirmQuote:
    base_asset, _, quote_asset = request.symbol.partition("/")
    buying = priced.side is Side.BUY
    return FirmQuote(
        quote_id=quote_id,
        account=account,
        instance=instance,
        status=FirmStatus.OPEN,
        request=request,
        side=priced.side,
        quantity=priced.quantity,
        subtotal=priced.subtotal,
        fees=priced.fees,
        markup=priced.markup,
        total=priced.total,
        fills=executed_fills(priced, snapshot),
        held_asset=quote_asset if buying else base_asset,
        held_amount=priced.total if buying else priced.quantity // QUANTITY_PER_AMOUNT,
        created_at=now,
        expires_at=expires_at,
        message=b"",
    )
