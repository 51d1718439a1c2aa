"""What subscriptions are about: each thing is looked at once for all who follow it, and told when it has changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from datetime import timedelta
from typing import Any

import orjson

from exchanges.board import Source
from exchanges.clock import MS
from service.api.handlers import Api
from service.api.render import book_message
from service.api.render_quote import quote_message
from service.api.render_record import execution_message
from service.api.stream_messages import Refusal, Value, refusal
from service.api.venue_routes import venue_messages
from service.desk.orders import QuoteRequest
from service.desk.realism import WATCH_S
from service.errors import RequestError, Unavailable
from service.ledger.protocol import Ledger, StoredExecution
from service.market.book import Snapshot
from service.market.taken import PER_ACCOUNT

FRAME_MAX_BYTES = 512 * 1024
"""What is longer is not sent at all."""
VENUES_EVERY_MS = 1_000
"""Counters and ages of venues change all the time; a change of a state is told at once."""
PAGE, PAGES_MAX = 100, 10
"""Executions that are read at once, and how often in a row, before a topic gives up to know them all."""


class Topic(ABC):
    """Something that subscriptions have in common; ``value`` is its latest."""

    key: Hashable
    executions = False

    def __init__(self) -> None:
        """Begin without a value."""
        self.value: Value | None = None
        self.followers: dict[Any, None] = {}
        """The subscriptions, in the order of their coming."""

    def tell(self, value: Value) -> Value:
        """Take a new value."""
        if isinstance(value, bytes) and len(value) > FRAME_MAX_BYTES:
            value = Refusal("overloaded", "the message is longer than a frame of a stream may be")
        self.value = value
        return value


class Watched(Topic):
    """A topic that is looked at again and again."""

    @abstractmethod
    def look(self, api: Api, now_ns: int) -> Value | None:
        """Give its value where that is another one than before, else None."""


def _mark(sources: Sequence[Source]) -> Hashable:
    """Give what must change for sources to be told anew: not ages, which always do."""
    return tuple((source.venue, source.state, source.reason) for source in sources)


class _OnBook(Watched):
    """A topic whose value is made from a symbol's book."""

    def __init__(self) -> None:
        super().__init__()
        self._made_from: object = None
        self._marked: Hashable = None

    def look(self, api: Api, now_ns: int) -> Value | None:
        """Give what it is now, if the book, a venue's state or what is taken has changed, or its time runs out."""
        try:
            snapshot = self._seen(api)
            made_from, marked = snapshot.book, _mark(snapshot.sources)
            if made_from is self._made_from and marked == self._marked and not self._running_out(api, now_ns):
                return None
            self._made_from, self._marked = made_from, marked
            return self._made(api, snapshot, now_ns)
        except (RequestError, Unavailable) as error:
            sources = error.sources if isinstance(error, Unavailable) else ()
            marked = (error.code, _mark(sources))
            if isinstance(self.value, Refusal) and marked == self._marked:
                return None
            self._made_from, self._marked = None, marked
            return refusal(error)

    @abstractmethod
    def _seen(self, api: Api) -> Snapshot:
        """Look at the book."""

    @abstractmethod
    def _made(self, api: Api, snapshot: Snapshot, now_ns: int) -> bytes:
        """Write the value."""

    def _running_out(self, api: Api, now_ns: int) -> bool:
        """Tell whether the value is soon none any more."""
        return False


class BookTopic(_OnBook):
    """``GET /v1/book``; one for all accounts, unless what is taken is each account's own."""

    def __init__(self, api: Api, account: str, symbol: str, depth: int, view: str) -> None:
        """Look at a symbol's book as an account sees it."""
        super().__init__()
        apart = api.switching.settings.liquidity.taken == PER_ACCOUNT
        self.key = ("book", account if apart else None, symbol, depth, view)
        self._account, self._symbol, self._depth, self._view = account, symbol, depth, view

    def _seen(self, api: Api) -> Snapshot:
        return api.desk.look(self._symbol, self._account)

    def _made(self, api: Api, snapshot: Snapshot, now_ns: int) -> bytes:
        return orjson.dumps(book_message(snapshot, self._view, self._depth, api.market_data))


class QuoteTopic(_OnBook):
    """``GET /quote``, made anew before it expires, and where it may have been used without a trace in the book."""

    def __init__(self, account: str, request: QuoteRequest) -> None:
        """Quote for an account."""
        super().__init__()
        self.key = ("quote", account, request)
        self._account, self._request = account, request
        self._good_until_ns = 0
        self._seq = -1

    def _seen(self, api: Api) -> Snapshot:
        return api.desk.look_for(self._account, self._request)

    def _made(self, api: Api, snapshot: Snapshot, now_ns: int) -> bytes:
        self._good_until_ns = now_ns + api.desk.rules.ttl_ms * MS // 2
        self._seq = api.ledger.head[0]
        return quote_message(api.desk.quote(self._account, self._request))

    def _running_out(self, api: Api, now_ns: int) -> bool:
        liquidity = api.switching.settings.liquidity
        untraced = liquidity.taken == "off" or not liquidity.taken_half_life_ms
        return now_ns >= self._good_until_ns or (untraced and api.ledger.head[0] != self._seq)


class VenuesTopic(Watched):
    """``GET /v1/venues``."""

    def __init__(self) -> None:
        """Begin without a look."""
        super().__init__()
        self.key = ("venues",)
        self._marked: Hashable = None
        self._due_ns = 0

    def look(self, api: Api, now_ns: int) -> Value | None:
        """Give the venues, if a state or a setting of theirs has changed, or from time to time."""
        reports = api.venues()
        marked = (
            tuple((one.name, one.enabled, one.transport, one.poll_interval_ms, one.fallback_reason) for one in reports),
            tuple((symbol, _mark(api.board.sources(symbol, now_ns))) for symbol in api.board.symbols),
        )
        if marked == self._marked and now_ns < self._due_ns:
            return None
        self._marked, self._due_ns = marked, now_ns + VENUES_EVERY_MS * MS
        return orjson.dumps({"venues": venue_messages(api, reports), "next_cursor": None})


class ExecutionsTopic(Topic):
    """What comes on an account's record, in its order; read from the record itself, so that it is there."""

    executions = True

    def __init__(self, account: str) -> None:
        """Begin with whatever comes after ``begin``."""
        super().__init__()
        self.key = ("executions", account)
        self.account = account
        self.troubled = False
        self._last: str | None = None

    async def begin(self, ledger: Ledger) -> None:
        """Take note of the newest execution; those after it are new."""
        page = await ledger.executions(self.account, limit=1)
        self._last = page.executions[0].execution_id if page.executions else None

    async def read(self, api: Api) -> tuple[list[bytes], bool]:
        """
        Give what has come on record since the last time, oldest first, as ``GET`` answers it, and whether that is all.

        Raises:
            Unavailable: If the record cannot be read; it is read again from the same place.
        """
        found, whole = await self._since(api.ledger)
        watched_since = api.clock.utc() - timedelta(seconds=WATCH_S)
        found.reverse()
        if found:
            self._last = found[-1].execution_id
        return [execution_message(one, None, one.executed_at > watched_since) for one in found], whole

    async def _since(self, ledger: Ledger) -> tuple[list[StoredExecution], bool]:
        found: list[StoredExecution] = []
        after: int | None = None
        for _ in range(PAGES_MAX):
            page = await ledger.executions(self.account, after=after, limit=PAGE)
            for execution in page.executions:
                if execution.execution_id == self._last:
                    return found, True
                found.append(execution)
            after = page.next_after
            if after is None:
                return found, True
        return found, False
