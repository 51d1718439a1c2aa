"""What a key with the scope ``admin`` may do: keys, paper accounts, venues and settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime

from service.client.access import Key, Keys, NewKey, RotatedKey
from service.client.market import Reloaded, SwitchedVenue
from service.client.record import Account
from service.client.sending import Effect, Request, Sender
from service.client.wording import Amount, amount_text, given, moment_text, segment


class Admin:
    """The admin's routes; `OrderBookClient` has it as ``admin``."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def create_key(
        self,
        account: str,
        scopes: Collection[str],
        *,
        expires_at: datetime | str | None = None,
        addresses: Collection[str] | None = None,
        label: str | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> NewKey:
        """
        Make an API key; the answer is the only one that shows it.

        Args:
            scopes: Of quote, execute, account, admin.
            addresses: Ranges that it works from; left out: from everywhere.
            limits: Requests a second, ``quote_per_s`` and ``execute_per_s``.

        Raises:
            OutcomeUnknown: If it may have been made: the list of keys tells, and it can be revoked by its id.  It is
                never sent again by itself.
        """
        body = given(
            account=account,
            scopes=list(scopes),
            expires_at=moment_text(expires_at),
            addresses=None if addresses is None else list(addresses),
            label=label,
            limits=limits,
        )
        return await self._sender.message(NewKey, Request.of("POST", "/v1/admin/keys", body=body, effect="each"))

    async def keys(self, *, page_size: int = 50) -> AsyncIterator[Key]:
        """Give all keys without their secrets, newest first."""
        cursor: str | None = None
        while True:
            params = given(limit=str(page_size), cursor=cursor)
            page = await self._sender.message(Keys, Request.of("GET", "/v1/admin/keys", params))
            for key in page.keys:
                yield key
            if (cursor := page.next_cursor) is None:
                return

    async def revoke_key(self, key_id: str) -> Key:
        """Take a key out of force, for ever; one that is revoked already is given as it stands."""
        request = Request.of("DELETE", f"/v1/admin/keys/{segment(key_id)}", effect="once")
        return await self._sender.message(Key, request)

    async def rotate_key(self, key_id: str, *, overlap_ms: int) -> RotatedKey:
        """
        Make a key that takes another's place; both work for the overlap.

        Raises:
            OutcomeUnknown: As for ``create_key``.
        """
        path = f"/v1/admin/keys/{segment(key_id)}/rotate"
        return await self._sender.message(
            RotatedKey, Request.of("POST", path, body={"overlap_ms": overlap_ms}, effect="each")
        )

    async def open_account(self, account: str) -> Account:
        """Open a paper account with the starting balances, or give it as it stands."""
        request = Request.of("POST", "/v1/admin/accounts", body={"account": account}, effect="once")
        return await self._sender.message(Account, request)

    async def deposit(self, account: str, asset: str, amount: Amount) -> Account:
        """
        Bring an amount of an asset to a paper account.

        Raises:
            OutcomeUnknown: If it may be there: its entries tell.  It is never sent again by itself.
        """
        path = f"/v1/admin/accounts/{segment(account)}/deposits"
        body = {"asset": asset, "amount": amount_text(amount)}
        return await self._sender.message(Account, Request.of("POST", path, body=body, effect="each"))

    async def reset_account(self, account: str) -> Account:
        """Bring a paper account back to its starting balances; never sent again where it may have run."""
        return await self._sender.message(Account, _post(f"/v1/admin/accounts/{segment(account)}/reset", "each"))

    async def enable_venue(self, venue: str) -> SwitchedVenue:
        """Have a venue asked again, until the next reload or restart."""
        return await self._sender.message(SwitchedVenue, _post(f"/v1/admin/venues/{segment(venue)}/enable"))

    async def disable_venue(self, venue: str) -> SwitchedVenue:
        """Have a venue left alone, until the next reload or restart."""
        return await self._sender.message(SwitchedVenue, _post(f"/v1/admin/venues/{segment(venue)}/disable"))

    async def reload(self) -> Reloaded:
        """Have the settings read again."""
        return await self._sender.message(Reloaded, _post("/v1/admin/reload"))


def _post(path: str, effect: Effect = "once") -> Request:
    return Request.of("POST", path, effect=effect)
