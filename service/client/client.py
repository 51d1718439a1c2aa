"""Ask an internal order book, from Python.

    async with OrderBookClient(url, key) as client:
        quote = await client.quote("BTC/USDT", quantity="1.5", side="buy")
        execution = await client.execute(quote)

Every amount is a `Decimal`, and may be given as one, as a text or as a whole number; never as a float.  The service
checks what is asked, and names all that is wrong with it; this client does not second-guess it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

from service.client.admin import Admin
from service.client.channels import Subscription
from service.client.market import Book, Depth, Health, Readiness, Symbol, Symbols, Venue, Venues, View
from service.client.orders import OrderTerms, order_body, quote_id
from service.client.quotes import FirmQuote, Quote, Side, Sides
from service.client.record import Account, Entries, Entry, Execution, Executions, ExecutionStatus
from service.client.retrying import Retries
from service.client.sending import Request, Sender
from service.client.streaming import Stream
from service.client.wording import Amount, amount_text, given, moment_text, names_text, segment

Names = Collection[str] | str
"""Names of venues, or a text with commas between them."""


class OrderBookClient:
    """
    One service, asked with one key.

    What may be sent again is, as ``service.client.retrying`` says; in the end there is an answer, or an error of
    ``service.client.errors``.
    """

    def __init__(self, url: str, key: str, *, retries: Retries | None = None) -> None:
        """
        Take an address and a key; nothing is connected before ``async with``.

        Raises:
            ValueError: If that is no address, or no key.
        """
        self._sender = Sender(url, key, retries or Retries())
        self._streams: set[Stream] = set()
        self.admin = Admin(self._sender)

    async def __aenter__(self) -> Self:
        await self._sender.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all streams and connections."""
        for stream in tuple(self._streams):
            await stream.close()
        await self._sender.close()

    # Quotes

    async def quote(
        self,
        symbol: str,
        *,
        quantity: Amount | None = None,
        total: Amount | None = None,
        slippage_bps_max: Amount | None = None,
        side: Sides | None = None,
        limit_price: Amount | None = None,
        venues: Names | None = None,
        exclude_venues: Names | None = None,
        fills: bool = False,
    ) -> Quote:
        """
        Give what an order would get now; exactly one of the three amounts is asked for.

        Args:
            quantity: Of the base asset.
            total: All that is paid (buy) or received (sell), in the quote asset, fees and markup included.
            slippage_bps_max: The most that keeps within it is quoted.
            side: Both where it is left out.
            fills: Have every single fill listed.
        """
        params = given(
            symbol=symbol,
            quantity=amount_text(quantity),
            total=amount_text(total),
            slippage_bps_max=amount_text(slippage_bps_max),
            side=side,
            limit_price=amount_text(limit_price),
            venues=names_text(venues),
            exclude_venues=names_text(exclude_venues),
            fills="true" if fills else None,
        )
        return await self._sender.message(Quote, Request.of("GET", "/quote", params))

    async def firm_quote(
        self,
        symbol: str,
        side: Side,
        *,
        quantity: Amount | None = None,
        total: Amount | None = None,
        limit_price: Amount | None = None,
        venues: Names | None = None,
        exclude_venues: Names | None = None,
        ttl_ms: int | None = None,
    ) -> FirmQuote:
        """
        Give a price that is honoured for *ttl_ms*; funds and liquidity are held for it.

        Raises:
            OutcomeUnknown: If one may have been given: it expires by itself.  It is never asked for again by itself.
        """
        body = given(
            symbol=symbol,
            side=side,
            quantity=amount_text(quantity),
            total=amount_text(total),
            limit_price=amount_text(limit_price),
            venues=names_text(venues),
            exclude_venues=names_text(exclude_venues),
            ttl_ms=ttl_ms,
        )
        return await self._sender.message(FirmQuote, Request.of("POST", "/v1/quotes", body=body, effect="each"))

    async def get_firm_quote(self, quote: FirmQuote | str) -> FirmQuote:
        """Give a firm quote as it stands."""
        return await self._sender.message(FirmQuote, Request.of("GET", f"/v1/quotes/{segment(quote_id(quote))}"))

    async def release_firm_quote(self, quote: FirmQuote | str) -> FirmQuote:
        """Let a firm quote go; one that is not open any more is given as it stands."""
        path = f"/v1/quotes/{segment(quote_id(quote))}"
        return await self._sender.message(FirmQuote, Request.of("DELETE", path, effect="once"))

    # Executions

    async def execute(
        self, quote: Quote | str | None = None, *, client_order_id: str | None = None, **terms: Unpack[OrderTerms]
    ) -> Execution:
        """
        Mock-fill an order: on a quote, or directly.

        It is sent until its outcome is known or time is over, each time the same, so that it is executed once at most.

        Args:
            quote: A quote, firm or not, or its id; left out for a direct order.
            client_order_id: Stands for the order for ever; a new one where it is left out.  An order that you may want
                to repeat after this program has ended needs one of your own.
            terms: As `OrderTerms` says.

        Raises:
            NewQuoteNeeded: The quote is no good any more; ``fresh_quote`` is never followed by itself.
            OrderRejected: It was decided against.
            OutcomeUnknown: It may have been executed: call again with the error's ``client_order_id``.
        """
        body = order_body(quote, terms, client_order_id)
        return await self._sender.message(Execution, Request.of("POST", "/execute", body=body, effect="once"))

    async def dry_run(self, quote: Quote | str | None = None, **terms: Unpack[OrderTerms]) -> Execution:
        """Check an order as ``execute`` would, and record nothing: what is given has no ``execution_id``."""
        body = order_body(quote, terms, None, dry_run=True)
        return await self._sender.message(Execution, Request.of("POST", "/execute", body=body))

    async def executions(
        self,
        *,
        symbol: str | None = None,
        status: ExecutionStatus | None = None,
        since: datetime | str | None = None,
        page_size: int = 50,
    ) -> AsyncIterator[Execution]:
        """Give the account's executions, filled and rejected, newest first, asking for one page after another."""
        cursor: str | None = None
        while True:
            params = given(symbol=symbol, status=status, since=moment_text(since), limit=str(page_size), cursor=cursor)
            page = await self._sender.message(Executions, Request.of("GET", "/v1/executions", params))
            for execution in page.executions:
                yield execution
            if (cursor := page.next_cursor) is None:
                return

    async def execution(self, execution_id: str) -> Execution:
        """Give one execution, with what was seen after its fill."""
        return await self._sender.message(Execution, Request.of("GET", f"/v1/executions/{segment(execution_id)}"))

    async def execution_by_client_id(self, client_order_id: str) -> Execution:
        """Give the execution that a client_order_id stands for."""
        path = f"/v1/executions/by-client-id/{segment(client_order_id)}"
        return await self._sender.message(Execution, Request.of("GET", path))

    # The market

    async def book(self, symbol: str, *, depth: int | None = None, view: View | None = None) -> Book:
        """Give the consolidated book, the best *depth* levels a side, ranked net of fees unless *view* says gross."""
        params = given(symbol=symbol, depth=None if depth is None else str(depth), view=view)
        return await self._sender.message(Book, Request.of("GET", "/v1/book", params))

    async def depth(self, symbol: str, *, bps: Collection[Amount]) -> Depth:
        """Give what rests within each of these distances from mid."""
        params = given(symbol=symbol, bps=",".join(str(amount_text(distance)) for distance in bps))
        return await self._sender.message(Depth, Request.of("GET", "/v1/depth", params))

    async def symbols(self) -> tuple[Symbol, ...]:
        """Give every symbol's rules on each venue."""
        return (await self._sender.message(Symbols, Request.of("GET", "/v1/symbols"))).symbols

    async def venues(self) -> tuple[Venue, ...]:
        """Give every venue's state, reason, age, counters and fees."""
        return (await self._sender.message(Venues, Request.of("GET", "/v1/venues"))).venues

    # The account

    async def account(self) -> Account:
        """Give the account's balances and positions."""
        return await self._sender.message(Account, Request.of("GET", "/v1/account"))

    async def entries(self, *, asset: str | None = None, page_size: int = 50) -> AsyncIterator[Entry]:
        """Give the lines of the account's ledger, newest first, asking for one page after another."""
        cursor: str | None = None
        while True:
            params = given(asset=asset, limit=str(page_size), cursor=cursor)
            page = await self._sender.message(Entries, Request.of("GET", "/v1/account/entries", params))
            for entry in page.entries:
                yield entry
            if (cursor := page.next_cursor) is None:
                return

    # The service

    async def healthz(self) -> Health:
        """Tell that the service's process lives; asked once."""
        return await self._sender.message(Health, Request.of("GET", "/healthz", once=True))

    async def readyz(self) -> Readiness:
        """
        Tell that every symbol can be quoted; asked once.

        Raises:
            Unavailable: If one cannot; ``raw["symbols"]`` says which, and why.
        """
        return await self._sender.message(Readiness, Request.of("GET", "/readyz", once=True))

    # What changes

    def stream(self, *subscriptions: Subscription) -> Stream:
        """
        Follow what is subscribed to (``service.client.channels``) over one WebSocket, as long as it is iterated over.

        It connects anew by itself; see `Stream`.
        """
        stream = Stream(self._sender, subscriptions, self._streams.discard)
        self._streams.add(stream)
        return stream
