"""What all of the desk works with: the market net of what is taken, the ledger, the clock, the rules.

One process's orders are decided here one after the other, while the ledger keeps everyone else from what they claim.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from exchanges.board import Board
from exchanges.book import VenueBook
from exchanges.clock import Clock
from service.desk.accounts import RiskLimits
from service.desk.orders import QuoteRequest
from service.errors import OutcomeUnknown, RequestError, Unavailable
from service.ledger.protocol import Changes, Claim, Ledger, State
from service.market.book import NoBook, Snapshot
from service.market.taken import Lot, TakenLiquidity
from service.market.view import MarketView

R = TypeVar("R")

KEPT_MIN = 1_000
"""Names of takings that are kept before those that are over are looked for."""


@dataclass(frozen=True, slots=True)
class DeskRules:
    """
    The desk's own numbers.

    Args:
        market_data: ``live``, ``simulated`` or ``replay``; stands in every answer and record.
        ttl_ms: How long a quote may be executed, unless a firm one says its own.
        tolerance_bps: Of an execute on a quote that does not say its own.
        markup_rate: The desk's margin.
        account_markup_rates: The same for single accounts, in place of the one above.
        firm_ttl_ms_max: What a firm quote may ask for at most.
        firm_open_max: Open firm quotes per account.
        firm_venues_min: Live venues that a firm quote needs.
        risk: Limits of every account.
        starting: What a new account begins with, by asset; whole numbers of 10**-8.
    """

    market_data: str
    ttl_ms: int = 3_000
    tolerance_bps: Decimal = Decimal(0)
    markup_rate: int = 0
    account_markup_rates: Mapping[str, int] = field(default_factory=dict)
    firm_ttl_ms_max: int = 10_000
    firm_open_max: int = 20
    firm_venues_min: int = 2
    risk: RiskLimits = field(default_factory=RiskLimits)
    starting: Mapping[str, int] = field(default_factory=dict)

    def markup(self, account: str) -> int:
        """Give the margin on an account's prices."""
        return self.account_markup_rates.get(account, self.markup_rate)


class Floor:
    """Where quotes are given and orders are decided."""

    def __init__(
        self,
        market: MarketView,
        ledger: Ledger,
        clock: Clock,
        rules: DeskRules,
        venues: Collection[str],
        taken: TakenLiquidity,
    ) -> None:
        """Set up; *venues* are the names that a request may choose from."""
        self.market = market
        self.ledger = ledger
        self.clock = clock
        self.rules = rules
        self.taken = taken
        self.venues = frozenset(venues)
        self._on_record: set[str] = set()
        """What others have taken, and what anyone holds, as far as it has been seen on record."""
        self._looked_through_at = KEPT_MIN
        self.closing = False

    def serve(self, rules: DeskRules, venues: Collection[str]) -> None:
        """Go by other *rules* from now on; requests may choose from other *venues*."""
        self.rules, self.venues = rules, frozenset(venues)

    def follow(self, board: Board) -> None:
        """Hold every book that is accepted against what is taken of it."""

        def observe(book: VenueBook, now_ns: int) -> None:
            self.taken.observe(book, milliseconds(self.clock.utc()))

        board.follow(observe)

    def now(self) -> datetime:
        """Give the time, cut to what answers show, so that what is shown is what counts."""
        moment = self.clock.utc()
        return moment - timedelta(microseconds=moment.microsecond % 1_000)

    def look(self, symbol: str, account: str, chosen: Collection[str] | None = None) -> Snapshot | NoBook:
        """Look at the market once, net of what is taken; what is seen here is what is checked, priced and filled."""
        if symbol not in self.market.symbols:
            raise RequestError("unknown_symbol", "the symbol is no longer served")
        charges = self.taken.of(account, milliseconds(self.clock.utc()))
        return self.market.book(symbol, self.clock.now_ns(), chosen, charges)

    def chosen(self, request: QuoteRequest) -> frozenset[str] | None:
        """Give the venues that a request leaves, or None for all."""
        if request.venues is None and request.exclude_venues is None:
            return None
        chosen = self.venues if request.venues is None else frozenset(request.venues)
        return chosen - frozenset(request.exclude_venues or ())

    def claim(
        self,
        ref: str,
        account: str,
        symbol: str | None = None,
        *,
        client_order_id: str | None = None,
        quote_key: bytes | None = None,
        firm_quote_id: str | None = None,
    ) -> Claim:
        """Claim an account, what an order for a symbol may take from, and what else it is about."""
        symbols = () if symbol is None or symbol not in self.market.symbols else self.market.traded(symbol)
        return Claim(ref, account, self.clock.utc(), symbols, client_order_id, quote_key, firm_quote_id)

    async def transact(self, claim: Claim, decide: Callable[[State], tuple[R, Changes | None]]) -> R:
        """
        Decide on record.  Liquidity that is taken or let go counts from the decision on, and not if it is not written.

        Raises:
            RequestError: What the decision raised.
            Unavailable: Now; nothing was done.
        """
        let_go: list[Lot] = []

        def decide_here(state: State) -> tuple[R, Changes | None]:
            self._undo(claim.ref, let_go)
            self._learn(claim, state)
            result, changes = decide(state)
            if changes is None:
                return result, None
            for ref in changes.released:
                let_go.extend(self.taken.drop(ref))
            changes = replace(changes, lots=self.taken.counting(changes.lots))
            self.taken.add(changes.lots)
            return result, changes

        if self.closing:
            raise Unavailable("shutting_down", "the service is stopping")
        may_be_written = False
        try:
            result = await self.ledger.transact(claim, decide_here)
            may_be_written = True
        except (OutcomeUnknown, asyncio.CancelledError):
            may_be_written = True
            raise
        finally:
            if not may_be_written:
                self._undo(claim.ref, let_go)
        if self.ledger.shared and any(lot.held_until_ms is not None for lot in self.taken.held(claim.ref)):
            self._on_record.add(claim.ref)  # Others may end it.
        return result

    def _undo(self, ref: str, let_go: list[Lot]) -> None:
        self.taken.drop(ref)
        self.taken.add(let_go)
        let_go.clear()

    def _learn(self, claim: Claim, state: State) -> None:
        """Take over what other processes have taken or let go."""
        if not self.ledger.shared:
            return
        on_record = {lot.ref for lot in state.lots}
        for ref in [ref for ref in self._on_record - on_record if self.taken.takes_of(ref, claim.symbols)]:
            self.taken.drop(ref)
            self._on_record.discard(ref)
        self.taken.add(state.lots)
        self._on_record |= on_record
        if len(self._on_record) > self._looked_through_at:
            self._on_record = {ref for ref in self._on_record if self.taken.held(ref)}
            self._looked_through_at = max(KEPT_MIN, 2 * len(self._on_record))


def new_id() -> str:
    """Make a name that nobody can guess: 32 hex digits."""
    return secrets.token_hex(16)


def milliseconds(moment: datetime) -> int:
    """Give a UTC time as milliseconds of the epoch."""
    return int(moment.timestamp() * 1_000)


def there(looked: Snapshot | NoBook) -> Snapshot:
    """
    Give what was seen.

    Raises:
        Unavailable: If it was no book.
    """
    if isinstance(looked, NoBook):
        raise Unavailable(looked.code, looked.detail, sources=looked.sources)
    return looked
