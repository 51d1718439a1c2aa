"""Open, fund and reset paper accounts, and say what they have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from service.desk.accounts import AmountTooLarge, Holdings, deposit
from service.desk.firm import FirmStatus
from service.desk.firm_quotes import ended, released
from service.desk.floor import Floor, new_id
from service.errors import Fault, RequestError
from service.ledger.protocol import Changes, State


class Bank:
    """The desk's accounts."""

    def __init__(self, floor: Floor) -> None:
        """Work on the floor's ledger."""
        self._floor = floor

    async def holdings(self, account: str) -> Holdings:
        """Give what an account has; one that was never used has its starting balances."""
        found = await self._floor.ledger.holdings(account, self._floor.clock.utc())
        if found is None:
            return Holdings().with_entries(account, deposit(account, self._floor.rules.starting))
        return found

    async def open(self, account: str) -> bool:
        """Open an account with the starting balances; False if it is open already."""
        return await self._floor.ledger.open_account(account, self._floor.clock.utc())

    async def deposit(self, account: str, amounts: Mapping[str, int]) -> Holdings:
        """
        Bring amounts, whole numbers of 10**-8, to an account.

        Raises:
            RequestError: If there is no such account, or it would have more than a ledger can hold.
        """

        def decide(state: State) -> tuple[Holdings, Changes]:
            _needed(state)
            entries = deposit(account, amounts)
            try:
                holdings = state.holdings.with_entries(account, entries)
            except AmountTooLarge:
                detail = "comes to more than the ledger can hold"
                fault = Fault("/amount", "quantity_too_large", detail, kind="pointer")
                raise RequestError("quantity_too_large", f"the balance {detail}", [fault]) from None
            return holdings, Changes("deposit", holdings=holdings, entries=entries)

        return await self._floor.transact(self._floor.claim(new_id(), account), decide)

    async def reset(self, account: str) -> Holdings:
        """
        Bring an account back to its starting balances, without positions or open quotes; what is on record stays.

        Raises:
            RequestError: If there is no such account.
        """
        starting = self._floor.rules.starting

        def decide(state: State) -> tuple[Holdings, Changes]:
            _needed(state)
            expired = released(state, self._floor.now(), FirmStatus.EXPIRED)
            over = {quote.quote_id for quote in expired.firm}
            rest = [quote for quote in state.open_firm if quote.quote_id not in over]
            before = expired.holdings or state.holdings
            changes = ended(replace(expired, kind="reset"), before, rest, FirmStatus.RELEASED)
            holdings = changes.holdings or state.holdings
            assets = dict.fromkeys((*holdings.balances, *starting))
            missing = {asset: starting.get(asset, 0) - holdings.balance(asset).total for asset in assets}
            entries = deposit(account, missing)
            holdings = replace(
                holdings.with_entries(account, entries), positions={}, turnover=dict.fromkeys(holdings.turnover, 0)
            )
            return holdings, replace(changes, holdings=holdings, entries=entries)

        return await self._floor.transact(self._floor.claim(new_id(), account), decide)


def _needed(state: State) -> None:
    if not state.opened:
        raise RequestError("not_found", "there is no such account")
