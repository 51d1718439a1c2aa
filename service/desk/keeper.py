"""Keep the desk in order between requests: firm quotes end, what fills took is explained, fills are watched.

Whatever of it fails is logged and done again; nothing of it stands in a request's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import orjson
import structlog
from aiohttp import web

from exchanges.board import Board
from exchanges.book import Side
from service.desk.deciding import Decision
from service.desk.firm_quotes import FirmQuotes
from service.desk.floor import Floor
from service.desk.realism import FilledLevel, Realism, RealismWatch, Watched
from service.errors import Unavailable
from service.keys import KeyRing
from service.market.book import NoBook

TEND_EVERY_S = 0.25
"""How often firm quotes are looked through, and what is left of takings is written down."""
HEAD_EVERY_S = 60.0
"""How often the journal's head is logged: a chain that was written anew does not lead to it."""
KEYS_EVERY_S = 0.25
"""How often keys are read where others write them too: a revocation holds within a second."""
PROBE_EVERY_S = 2.0
"""How often a record that failed is tried."""
USES_EVERY_S = 60.0
"""How often it is written down when keys were last used."""

log = structlog.get_logger()


class Keeper:
    """What is done between requests."""

    def __init__(
        self, floor: Floor, firm: FirmQuotes, board: Board, seen: Callable[[Realism], None] | None = None
    ) -> None:
        """Keep a floor; *seen* is told what was seen after each fill."""
        self._floor = floor
        self._tell_seen = seen
        self._firm = firm
        self._realism = RealismWatch(floor.market, board, floor.clock, self._seen)
        self._writing: set[asyncio.Task[None]] = set()

    def watch(self, decision: Decision) -> None:
        """Watch what becomes of the levels that a fill has taken."""
        execution, snapshot = decision.execution, decision.snapshot
        if snapshot is None:  # A firm quote was filled without a look at the market.
            market = self._floor.market
            if execution.symbol not in market.symbols:
                return
            looked = market.book(execution.symbol, self._floor.clock.now_ns())
            if isinstance(looked, NoBook):
                return
            snapshot = looked
        levels = [
            FilledLevel(fill.venue, fill.symbol, fill.price if fill.hop is None else fill.hop.own_price, fill.quantity)
            for fill in execution.fills
        ]
        self._realism.watch(
            Watched(
                execution_id=execution.execution_id,
                account=execution.account,
                symbol=execution.symbol,
                side=Side(execution.side),
                levels=tuple(levels),
                mid=snapshot.book.twice_mid,
                at_ns=snapshot.at_ns,
            )
        )

    def _seen(self, execution_id: str, account: str, realism: Realism) -> None:
        if self._tell_seen is not None:
            self._tell_seen(realism)
        task = asyncio.ensure_future(self._write_seen(execution_id, orjson.dumps(realism.message())))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_seen(self, execution_id: str, message: bytes) -> None:
        try:
            await self._floor.ledger.add_realism(execution_id, message)
        except Unavailable as error:  # It is not worth keeping anybody waiting.
            log.warning("realism.lost", execution_id=execution_id, error=error.code)

    @asynccontextmanager
    async def keeping(self, ring: KeyRing) -> AsyncIterator[None]:
        """
        Take over what is on record, and keep everything in order for as long as the context lasts.

        Args:
            ring: In a ledger that others write into, keys come and go.
        """
        self._floor.taken.add(await self._floor.ledger.lots())
        await self._firm.tend()
        tasks = [
            asyncio.create_task(self._realism.run(), name="realism"),
            self._task("keeper", TEND_EVERY_S, self._tend),
            self._task("ledger probe", PROBE_EVERY_S, self._probe),
            self._task("journal head", HEAD_EVERY_S, self._tell_head),
            self._task("key uses", USES_EVERY_S, partial(self._keep_uses, ring)),
        ]
        if self._floor.ledger.shared:
            # Keys come and go as others make and revoke them; nothing slow stands between two looks.
            tasks.append(self._task("keys", KEYS_EVERY_S, partial(ring.follow, self._floor.ledger.keys)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, *self._writing, return_exceptions=True)
            await self._keep_lots()
            await self._keep_uses(ring)

    def _task(self, name: str, every_s: float, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(self._over_and_over(every_s, work), name=name)

    async def _over_and_over(self, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* every so often, until cancelled; it goes on after trouble, which is logged."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await work()
            except Unavailable as error:
                log.warning("keeper.waits", error=error.code)
            except Exception:
                log.exception("keeper.failed")

    async def _keep_uses(self, ring: KeyRing) -> None:
        used = ring.take_used()
        try:
            await self._floor.ledger.note_key_uses(used)
        except Unavailable as error:
            ring.give_back_used(used)
            log.warning("keeper.waits", error=error.code)

    async def _tend(self) -> None:
        await self._firm.tend()
        await self._keep_lots()
        if self._floor.ledger.shared:
            self._floor.taken.add(await self._floor.ledger.lots(of_others=True))

    async def _probe(self) -> None:
        """Try a record that has failed: while nobody orders, nothing else would tell that it is back."""
        if not self._floor.ledger.up:
            await self._floor.ledger.probe()

    async def _tell_head(self) -> None:
        seq, hashed = self._floor.ledger.head
        log.info("ledger.head", seq=seq, hash=hashed.hex())

    async def _keep_lots(self) -> None:
        changed = self._floor.taken.changed()
        try:
            await self._floor.ledger.keep_lots(changed)
        except Unavailable as error:
            log.warning("keeper.waits", error=error.code)


KEEPER: Final = web.AppKey("keeper", Keeper)
