"""A desk on a board fed by hand, with a real ledger and a clock that is held."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest

from exchanges.board import Board
from exchanges.book import Side
from service.accounting import money_text, price_text
from service.api.render_quote import firm_message
from service.api.render_record import receipt
from service.desk.bank import Bank
from service.desk.desk import Desk
from service.desk.firm_quotes import FirmQuotes
from service.desk.floor import DeskRules, Floor
from service.desk.keeper import Keeper
from service.desk.orders import DirectOrder, Order, QuoteOrder, QuoteRequest, TimeInForce
from service.desk.quote_id import QuoteSigner
from service.errors import RequestError, Unavailable
from service.keys import KeyRing
from service.ledger.sqlite import SqliteLedger
from service.market.screening import Rules
from service.market.taken import SHARED, TakenLiquidity
from service.market.view import MarketView
from tests.conftest import venue_book
from tests.service.shown import ask, instrument, money

BUY, SELL = Side.BUY, Side.SELL
FOK, IOC = TimeInForce.FOK, TimeInForce.IOC
STALE_AFTER_MS = 60_000
HALF_LIFE_MS = 30_000
FEES_BPS = {"coinbase": 20, "kraken": 10}
PLENTY = {"USDT": money("1000000"), "BTC": money("1000")}

# Mid is 100; what is bought costs 101.101 (101 and 10 bps) to begin with.
KRAKEN = """
    .   102   1
    .   101   1
    1    99   .
    1    98   .
    """
COINBASE = """
    .   103   2
    2    97   .
    """
HIGHER = """
    .   102   9
    9   100   .
    """
LOWER = """
    .   100   9
    9    98   .
    """


class Room:
    """
    A desk with its board, ledger and clock.

    Args:
        starting: What an account begins with; the ledger's own has to be the same.
    """

    def __init__(
        self,
        clock,
        ledger,
        rules=None,
        *,
        key=b"k" * 32,
        taken=SHARED,
        half_life_ms=HALF_LIFE_MS,
        fees_bps=FEES_BPS,
        **more,
    ):
        self.clock = clock
        self.fees_bps = fees_bps
        self.shown = {}
        self.signer = QuoteSigner(key)
        self.rules = rules or DeskRules(market_data="simulated", **{"starting": PLENTY, **more})
        self.taken_mode, self.half_life_ms = taken, half_life_ms
        self.sit_down(ledger)

    def sit_down(self, ledger):
        """Begin a process on this record; what it has to take over comes with ``take_over``."""
        self.ledger = ledger
        self.board = Board(Decimal(1_000))
        for venue, fee_bps in self.fees_bps.items():
            self.board.seat(venue, "BTC/USDT", STALE_AFTER_MS, self.clock.now_ns())
            self.board.instruct(instrument(venue, fee_bps))
        self.floor = self.another_floor()
        self.floor.follow(self.board)
        self.firm = FirmQuotes(self.floor, firm_message)
        self.bank = Bank(self.floor)
        self.desk = Desk(self.floor, self.signer, receipt)

    def another_floor(self, ledger=None, rules=None):
        rules_of_market = Rules(crossed_bps_max=Decimal(500), outlier_bps=Decimal(1_000))
        view = MarketView(self.board, rules_of_market, {"BTC/USDT": dict.fromkeys(self.fees_bps, "BTC/USDT")})
        taken = TakenLiquidity(self.taken_mode, self.half_life_ms)
        return Floor(view, ledger or self.ledger, self.clock, rules or self.rules, list(self.fees_bps), taken)

    def another_desk(self, ledger=None, rules=None):
        """A second process on the same books and, unless another is given, the same record."""
        return Desk(self.another_floor(ledger, rules), self.signer, receipt)

    async def take_over(self):
        """Do what a process does first, and last: take over what is on record, and write down what is left of it."""
        async with Keeper(self.floor, self.firm, self.board).keeping(KeyRing(b"p" * 32, "simulated")):
            pass

    async def restart(self, path):
        """Close the record, and open it again in a process that remembers nothing, on books as they were."""
        await self.take_over()
        await self.ledger.close()
        self.sit_down(SqliteLedger.open(path, "simulated", self.rules.starting))
        await self.take_over()
        self.publish(**self.shown)

    def publish(self, **ladders):
        self.shown.update(ladders)
        now_ns = self.clock.now_ns()
        for n, (venue, ladder) in enumerate(ladders.items(), start=1):
            self.board.publish(venue_book(venue, ladder, received_at_ns=now_ns, sequence=n), now_ns)

    def quote(self, quantity="1", sides=(BUY,), account="alice", venues=None, exclude_venues=None, **amounts):
        return self.desk.quote(account, request(quantity, sides, venues, exclude_venues, **amounts))

    async def give(self, side=BUY, quantity="1", account="alice", ttl_ms=None, **more):
        """A firm quote."""
        return await self.firm.give(account, request(quantity, (side,), **more), ttl_ms)

    async def execute(self, terms, client_order_id="a", **more):
        return await self.desk.execute(order(terms, client_order_id, **more))

    async def recorded(self, account="alice"):
        return (await self.ledger.executions(account, limit=500)).executions

    async def balances(self, account="alice"):
        """Total, and what is held of it: by asset, in a trader's numbers."""
        holdings = await self.bank.holdings(account)
        return {asset: (money_text(total), money_text(held)) for asset, (total, held) in holdings.balances.items()}

    def taken(self, side=BUY, account="alice"):
        """What is taken and held of all venues' books: taken + held, in a trader's numbers."""
        charges = self.floor.taken.of(account, int(self.clock.utc().timestamp() * 1_000))
        of_venues = [charges.of(venue, "BTC/USDT", side) for venue in self.fees_bps]
        taken = sum(sum(charge.taken.values()) for charge in of_venues)
        held = sum(sum(charge.held.values()) for charge in of_venues)
        return f"{price_text(taken)} + {price_text(held)}"


def request(quantity="1", sides=(BUY,), venues=None, exclude_venues=None, **amounts):
    wanted = ask(None if amounts.keys() & {"total", "slippage_bps_max"} else quantity, **amounts)
    return QuoteRequest("BTC/USDT", wanted, sides, venues, exclude_venues)


def order(terms, client_order_id="a", account="alice", **more):
    fingerprint = hashlib.sha256(repr((account, terms, sorted(more.items()))).encode()).digest()
    return Order(account, client_order_id, fingerprint, terms, **more)


def market(side, quantity=None, time_in_force=FOK, **bounds):
    return DirectOrder("BTC/USDT", side, ask(quantity, **bounds), time_in_force)


BUY_ONE = market(BUY, "1")


async def outcome(room, quote, client_order_id="a", **more):
    """How an order on a quote ends: status or code."""
    try:
        answer = await room.execute(QuoteOrder(quote.quote_id), client_order_id, **more)
    except RequestError as error:
        return error.code
    return answer.reject_code or answer.status


async def refused(awaitable):
    """The refusal, where it is no outcome."""
    with pytest.raises((RequestError, Unavailable)) as caught:
        await awaitable
    return caught.value


class Wrapped:
    """A ledger in front of another: what is not its own goes there."""

    def __init__(self, ledger):
        self._ledger = ledger

    def __getattr__(self, name):
        return getattr(self._ledger, name)


class SlowByTheClock(Wrapped):
    """A ledger that takes so long by the clock until an order may decide."""

    def __init__(self, ledger, clock, ms):
        super().__init__(ledger)
        self._clock, self._ms = clock, ms

    async def transact(self, claim, decide):
        def decide_late(state):
            self._clock.advance(self._ms)
            return decide(state)

        return await self._ledger.transact(claim, decide_late)
