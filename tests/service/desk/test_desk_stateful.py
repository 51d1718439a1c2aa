"""Whatever is done in whatever order: the desk and its record agree with a small model that knows neither."""

from __future__ import annotations

import asyncio
import functools
import shutil
import tempfile
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exchanges.book import units
from service.accounting import plain, rate
from service.desk.orders import QuoteOrder
from service.errors import RequestError
from service.ledger.sqlite import SqliteLedger
from tests.conftest import HeldClock
from tests.service.desk.desk_model import STARTING, Level, Owned, Promise, Taking, fills_of
from tests.service.desk.desk_room import BUY, FOK, HALF_LIFE_MS, IOC, SELL, Room, market
from tests.service.shown import money

ACCOUNTS = ("alice", "bob")
OTHERS = ("desk:deposits", "desk:markup", "venue:kraken", "venue:coinbase", "fees:kraken", "fees:coinbase")
OPEN_MAX = 2

RUNS = settings().max_examples if settings().max_examples >= 1_000 else settings().max_examples // 4


@functools.cache
def new_ledger():
    """An empty ledger, to be copied: that is faster than making one."""

    async def make(path):
        await SqliteLedger.open(path, "simulated", STARTING).close()

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        runner.run(make(Path(folder) / "ledger.db"))
        return (Path(folder) / "ledger.db").read_bytes()


QUANTITIES = st.sampled_from(["0.00000001", "0.1", "0.5", "1", "1.37", "2", "3.5"])
SHOWN = st.sampled_from([None, "0.5", "1", "1.5", "3"])
SIDES = st.sampled_from([BUY, SELL])
NAMES = st.sampled_from(ACCOUNTS)
PICKS = st.integers(0, 5)


class DeskAndRecord(RuleBasedStateMachine):
    """A desk on a record that is closed and opened again, and what the model makes of the answers."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.db"
        self.path.write_bytes(new_ledger())
        self.clock = HeldClock()
        self.owned = {account: Owned() for account in ACCOUNTS}
        self.promises = []
        self.executions = []
        self.levels = defaultdict(Level)
        self.ids = 0
        self.books = {
            venue: {BUY: {"101": "1.5", "103": "3", "104": "1"}, SELL: {"99": "1.5", "97": "3", "96": "1"}}
            for venue in ("kraken", "coinbase")
        }
        self.run(self._open())

    async def _open(self):
        ledger = SqliteLedger.open(self.path, "simulated", STARTING)
        self.room = Room(
            self.clock, ledger, starting=STARTING, markup_rate=rate(Decimal("7.5")), firm_open_max=OPEN_MAX
        )
        for account in ACCOUNTS:
            await self.room.bank.open(account)
        self._publish()

    def teardown(self):
        self.audit()
        self.run(self.room.ledger.close())
        self.runner.close()
        self.folder.cleanup()

    def run(self, awaitable):
        async def wait():
            return await awaitable

        return self.runner.run(wait())

    def tried(self, awaitable):
        """The answer, or None and the code of the refusal."""
        try:
            return self.run(awaitable), None
        except RequestError as refused:
            return None, refused.code

    @property
    def now_ms(self):
        return int(self.clock.utc().timestamp() * 1_000)

    def new_id(self):
        self.ids += 1
        return f"a{self.ids}"

    def _publish(self):
        for venue, sides in self.books.items():
            lines = [f". {price} {quantity}" for price, quantity in sides[BUY].items()]
            lines += [f"{quantity} {price} ." for price, quantity in sides[SELL].items()]
            self.room.publish(**{venue: "\n".join(lines)})

    # What the model makes of an answer

    def held(self, account, asset):
        return sum(
            one.held[1]
            for one in self.promises
            if one.held and one.account == account and one.held[0] == asset
            and one.became is None and self.now_ms < one.expires_ms
        )  # fmt: skip

    def affordable(self, account, side, quantity, total):
        owned = self.owned[account].balances
        after = {
            "USDT": owned["USDT"] + (-total if side is BUY else total),
            "BTC": owned["BTC"] + (quantity if side is BUY else -quantity),
        }
        return all(after[asset] >= self.held(account, asset) for asset in after)

    def lapse(self):
        """Quotes whose time is over are over."""
        for one in self.promises:
            if self.now_ms >= one.expires_ms and (one.became is None or not one.held):
                one.became = "quote_expired"

    def take(self, side, fills, promise=None):
        """Count what one or several orders at once were given: never more than is shown and not taken."""
        given = Counter()
        for venue, price, quantity in fills:
            given[venue, side, price] += quantity
        for key, quantity in given.items():
            venue, _, price = key
            shown = units(Decimal(self.books[venue][side].get(price, "0")))
            assert quantity + self.levels[key].least(self.now_ms) <= shown
            self.levels[key].takings.append(Taking(quantity, self.now_ms, promise))

    def filled(self, account, side, body):
        """Count what an account paid and got; gives the fills."""
        owned, sign = self.owned[account], 1 if side is BUY else -1
        quantity, total = money(body["filled_quantity"]), money(body["total"])
        before = dict(owned.balances)
        owned.balances["USDT"] -= sign * total
        owned.balances["BTC"] += sign * quantity
        owned.position += sign * quantity
        owned.paid += sign * total
        owned.turnover += money(body["subtotal"])
        assert {asset: (before[asset], owned.balances[asset]) for asset in before} == {
            asset: (money(one["before"]), money(one["after"])) for asset, one in body["balances"].items()
        }
        parts = [money(body[name]) for name in ("subtotal", "fees", "markup")]
        assert total == parts[0] + sign * (parts[1] + parts[2])
        return fills_of(body)

    def remember(self, account, client_order_id, terms, answer):
        assert not answer.replayed
        self.executions.append((account, client_order_id, terms, answer.execution_id, answer.receipt))

    # The market

    @rule(
        venue=st.sampled_from(["kraken", "coinbase"]),
        asks=st.tuples(SHOWN, SHOWN, SHOWN),
        bids=st.tuples(SHOWN, SHOWN, SHOWN),
    )
    def tick(self, venue, asks, bids):
        before = self.books[venue]
        self.books[venue] = {
            BUY: {price: shown for price, shown in zip(("101", "102", "103"), asks, strict=True) if shown}
            | {"104": "1"},
            SELL: {price: shown for price, shown in zip(("99", "98", "97"), bids, strict=True) if shown} | {"96": "1"},
        }
        for (of_venue, side, price), level in self.levels.items():
            if of_venue == venue:
                was, is_ = (Decimal(book[side].get(price, "0")) for book in (before, self.books[venue]))
                level.explained += max(0, units(was - is_))
                if not is_:
                    level.explained = 0
                    for one in level.takings:
                        one.gone, one.back = True, False
        self._publish()

    @rule(ms=st.sampled_from([1, 50, 500, 1_000, 2_999, 3_000, 10_000, HALF_LIFE_MS]), tended=st.booleans())
    def time_passes(self, ms, tended):
        self.clock.advance(ms)
        self.lapse()
        self._publish()
        if tended:
            self.tend()

    # Promises

    @rule(account=NAMES, side=SIDES, quantity=QUANTITIES)
    def quote(self, account, side, quantity):
        quote = self.room.quote(quantity, (side,), account)
        priced = quote.sides[side]
        fills = [(fill.venue, plain(Decimal(fill.price).scaleb(-18)), fill.quantity) for fill in priced.fills]
        self.promises.append(
            Promise(
                quote.quote_id, account, side, priced.quantity // 10**10, priced.total, priced.fillable, fills,
                self.now_ms + 3_000,
            )
        )  # fmt: skip

    @rule(
        account=NAMES,
        side=SIDES,
        quantity=QUANTITIES,
        ttl_ms=st.sampled_from([None, 1, 1_000, 10_000]),
        then=st.sampled_from(["", "fill", "outlive"]),
    )
    def give(self, account, side, quantity, ttl_ms, then):
        priced = self.room.quote(quantity, (side,), account).sides[side]
        still_open = [one for one in self.promises if one.held and one.account == account and one.became is None]
        if len(still_open) == OPEN_MAX:
            expected = "too_many_open_quotes"
        elif not priced.fillable:
            expected = "insufficient_liquidity"
        elif not self.affordable(account, side, priced.quantity // 10**10, priced.total):
            expected = "insufficient_balance"
        else:
            expected = None
        quote, code = self.tried(self.room.give(side, quantity, account, ttl_ms))
        assert expected == code
        if code is not None:
            return
        assert priced.total == quote.total
        held = ("USDT", quote.total) if side is BUY else ("BTC", quote.quantity // 10**10)
        fills = [(fill.venue, plain(Decimal(fill.price).scaleb(-18)), fill.quantity) for fill in quote.fills]
        promise = Promise(
            quote.quote_id, account, side, quote.quantity // 10**10, quote.total, True, fills,
            self.now_ms + (ttl_ms or 3_000), held,
        )  # fmt: skip
        self.take(side, fills, promise)
        self.promises.append(promise)
        if then == "fill":
            self.execute(promise)
        elif then == "outlive":
            self.time_passes(10_000, tended=True)

    @precondition(lambda self: self.promises)
    @rule(pick=PICKS, stranger=st.sampled_from([False, False, False, True]))
    def execute_promise(self, pick, stranger):
        self.execute(self.promises[-1 - pick % len(self.promises)], stranger)

    def execute(self, promise, stranger=False):
        account = next(one for one in ACCOUNTS if (one == promise.account) is not stranger)
        terms, client_order_id = QuoteOrder(promise.quote_id), self.new_id()
        answer, code = self.tried(self.room.execute(terms, client_order_id, account=account))
        assert ("unknown_quote" if stranger else promise.became) == code
        if code is not None:
            return
        self.remember(account, client_order_id, terms, answer)
        body = orjson.loads(answer.receipt)
        if answer.reject_code is not None:
            self.refused_promise(promise, answer.reject_code)
            client_order_id = self.new_id()
            again = self.run(self.room.execute(terms, client_order_id, account=account))
            assert answer.reject_code == again.reject_code
            self.remember(account, client_order_id, terms, again)
            return
        quantity, total = money(body["filled_quantity"]), money(body["total"])
        assert ("filled", promise.quantity) == (answer.status, quantity)
        promise.became = "quote_used"
        fills = self.filled(account, promise.side, body)
        if promise.held:
            assert (promise.fills, promise.total) == (fills, total)
            for level in self.levels.values():
                for one in level.takings:
                    if one.promise is promise:
                        one.promise, one.at_ms = None, self.now_ms
        else:
            assert total <= promise.total if promise.side is BUY else total >= promise.total
            self.take(promise.side, fills)

    def refused_promise(self, promise, code):
        if promise.held:
            assert code == "insufficient_balance"  # Of a sale that costs more than it brings.
            assert promise.total < 0
        elif code == "insufficient_balance":
            assert not self.affordable(promise.account, promise.side, promise.quantity, promise.total)
        else:
            assert code == "insufficient_liquidity" or (promise.fillable and code == "price_moved")

    @precondition(lambda self: any(one.held for one in self.promises))
    @rule(pick=PICKS)
    def let_go(self, pick):
        firm = [one for one in self.promises if one.held]
        promise = firm[-1 - pick % len(firm)]
        status = self.run(self.room.firm.let_go(promise.account, promise.quote_id)).status.value
        if promise.became is None:
            promise.became = "quote_void"
            assert "released" == status
        else:
            assert promise.became == f"quote_{status.replace('released', 'void')}"

    def tend(self):
        """After the desk has looked through its firm quotes nothing is held but for those that are open."""
        self.run(self.room.firm.tend())
        for account in ACCOUNTS:
            balances = self.run(self.room.bank.holdings(account)).balances
            assert {asset: self.held(account, asset) for asset in STARTING} == {
                asset: balances[asset].held for asset in STARTING
            }

    # Orders

    @rule(
        account=NAMES,
        side=SIDES,
        quantity=QUANTITIES,
        time_in_force=st.sampled_from([FOK, IOC]),
        dry_run=st.sampled_from([False, False, True]),
    )
    def order(self, account, side, quantity, time_in_force, dry_run):
        priced = self.room.quote(quantity, (side,), account).sides[side]
        terms, client_order_id = market(side, quantity, time_in_force), self.new_id()
        more = {"dry_run": True} if dry_run else {}
        answer = self.run(self.room.execute(terms, client_order_id, account=account, **more))
        if not priced.quantity or (time_in_force is FOK and not priced.fillable):
            expected = "insufficient_liquidity"
        elif not self.affordable(account, side, priced.quantity // 10**10, priced.total):
            expected = "insufficient_balance"
        else:
            expected = None
        assert expected == answer.reject_code
        if dry_run:
            return
        self.remember(account, client_order_id, terms, answer)
        if expected is None:
            self.take(side, self.filled(account, side, orjson.loads(answer.receipt)))

    @rule(side=SIDES, quantity=QUANTITIES, orders=st.integers(2, 6))
    def orders_at_once(self, side, quantity, orders):
        terms = market(side, quantity)
        sent = [(ACCOUNTS[n % 2], self.new_id()) for n in range(orders)]

        async def race():
            return await asyncio.gather(*(self.room.execute(terms, name, account=account) for account, name in sent))

        fills = []
        for (account, name), answer in zip(sent, self.run(race()), strict=True):
            self.remember(account, name, terms, answer)
            if answer.reject_code is None:
                fills += self.filled(account, side, orjson.loads(answer.receipt))
        self.take(side, fills)

    @precondition(lambda self: self.executions)
    @rule(pick=PICKS, copies=st.integers(1, 3))
    def send_again(self, pick, copies):
        account, name, terms, execution_id, receipt = self.executions[-1 - pick % len(self.executions)]

        async def again():
            return await asyncio.gather(*(self.room.execute(terms, name, account=account) for _ in range(copies)))

        for answer in self.run(again()):
            assert (True, execution_id, receipt) == (answer.replayed, answer.execution_id, answer.receipt)
        _, code = self.tried(self.room.execute(market(BUY, "0.7"), name, account=account))
        assert "client_order_id_reused" == code

    # Accounts and processes

    @rule(account=NAMES, asset=st.sampled_from(sorted(STARTING)), amount=st.sampled_from(["1", "250"]))
    def deposit(self, account, asset, amount):
        self.run(self.room.bank.deposit(account, {asset: money(amount)}))
        self.owned[account].balances[asset] += money(amount)

    @rule(account=NAMES)
    def reset(self, account):
        self.run(self.room.bank.reset(account))
        self.owned[account] = Owned()
        for one in self.promises:
            if one.held and one.account == account and one.became is None:
                one.became = "quote_void"

    @rule(orderly=st.booleans())
    def restart(self, orderly):
        if orderly:
            self.run(self.room.restart(self.path))
        else:
            self.run(self._crash())
        for one in self.promises:
            if one.held and one.became is None:
                one.became = "quote_void"
        for level in self.levels.values():
            level.takings = [one for one in level.takings if not orderly or one.back or not one.gone]
            for one in level.takings:
                one.back = one.gone

    async def _crash(self):
        """Go on with what was on disk: nothing is written on the way out."""
        left = self.path.with_name(f"crashed{self.new_id()}.db")
        for ending in ("", "-wal"):
            shutil.copy(f"{self.path}{ending}", f"{left}{ending}")
        await self.room.ledger.close()
        self.path = left
        self.room.sit_down(SqliteLedger.open(left, "simulated", STARTING))
        await self.room.take_over()
        self.room.publish(**self.room.shown)

    # What holds at every moment

    @invariant()
    def accounts_are_as_the_model_has_them(self):
        for account in ACCOUNTS:
            owned = self.owned[account]
            holdings = self.run(self.room.bank.holdings(account))
            assert owned.balances == {asset: holdings.balance(asset).total for asset in STARTING}
            for asset in STARTING:
                balance = holdings.balance(asset)
                assert 0 <= self.held(account, asset) <= balance.held <= balance.total
            position = holdings.position("BTC/USDT")
            assert (owned.position, owned.paid) == (position.quantity, position.cost - position.realised_pnl)
            assert owned.turnover == holdings.turnover.get("USDT", 0)

    @invariant()
    def what_is_taken_was_filled_or_is_held(self):
        charges = self.room.floor.taken.of("alice", self.now_ms)
        charged = {
            (venue, side, plain(Decimal(price).scaleb(-18))): quantity
            for venue in self.books
            for side in (BUY, SELL)
            for price, quantity in charges.of(venue, "BTC/USDT", side).all.items()
        }
        assert charged.keys() <= self.levels.keys()
        for key, level in self.levels.items():
            assert level.least(self.now_ms) <= charged.get(key, 0) <= level.most(self.now_ms)

    @rule()
    def audit(self):
        """Read all of the record: entries come to the balances, and to nothing in all."""
        sums = Counter()
        for account in (*ACCOUNTS, *OTHERS):
            after = None
            own = Counter()
            while True:
                page = self.run(self.room.ledger.entries(account, after=after, limit=500))
                for entry in page.entries:
                    own[entry.asset] += entry.amount
                after = page.next_after
                if after is None:
                    break
            sums.update(own)
            if account in ACCOUNTS:
                assert self.owned[account].balances == dict(own)
        assert {0} == {sums[asset] for asset in STARTING}
        for account in ACCOUNTS:
            recorded = self.run(self.room.recorded(account))
            assert [one[3] for one in self.executions if one[0] == account][-500:] == [
                one.execution_id for one in reversed(recorded)
            ]


TestDeskAndRecord = DeskAndRecord.TestCase
TestDeskAndRecord.settings = settings(max_examples=RUNS, stateful_step_count=30)
