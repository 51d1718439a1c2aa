"""Paper accounts: opened, funded, reset."""

from __future__ import annotations

from service.accounting import money_text
from service.desk.accounts import AMOUNT_MAX, Position, RiskLimits
from tests.service.desk.desk_room import BUY, COINBASE, KRAKEN, PLENTY, SELL, Room, market, refused
from tests.service.shown import money


async def written(room, account="alice"):
    """The account's entries, oldest first."""
    page = await room.ledger.entries(account, limit=500)
    return [f"{entry.kind} {money_text(entry.amount)} {entry.asset}" for entry in reversed(page.entries)]


async def test_an_account_begins_with_the_starting_balances(room):
    """
    Opened by name or by its first order it has the same, on record, once.
    """
    assert {"USDT": ("1000000", "0"), "BTC": ("1000", "0")} == await room.balances("nobody")
    assert [] == await written(room, "nobody")
    assert (True, False) == (await room.bank.open("alice"), await room.bank.open("alice"))
    await room.execute(market(BUY, "1"), account="bob")

    assert ["account 1000000 USDT", "account 1000 BTC"] == await written(room)
    assert (await written(room)) == (await written(room, "bob"))[:2]


async def test_a_refused_order_opens_an_account_too(room):
    """
    A rejection is on record, and so is whose it is.
    """
    await room.execute(market(BUY, "99"))

    assert ["account 1000000 USDT", "account 1000 BTC"] == await written(room)
    assert not await room.bank.open("alice")


async def test_deposits_come_on_top(room):
    """
    What is deposited is there, also of an asset that the account never had.
    """
    await room.bank.open("alice")
    holdings = await room.bank.deposit("alice", {"USDT": money("0.5"), "ETH": money(3)})

    assert {"USDT": ("1000000.5", "0"), "BTC": ("1000", "0"), "ETH": ("3", "0")} == await room.balances()
    assert holdings.balances == (await room.bank.holdings("alice")).balances
    assert ["deposit 0.5 USDT", "deposit 3 ETH"] == (await written(room))[2:]


async def test_a_deposit_that_the_ledger_cannot_hold_is_refused_whole(room):
    """
    Too much is too much, and nothing of the same deposit comes in.
    """
    await room.bank.open("alice")
    refusal = await refused(room.bank.deposit("alice", {"ETH": money(1), "USDT": AMOUNT_MAX - PLENTY["USDT"] + 1}))

    assert ("quantity_too_large", "/amount") == (refusal.code, refusal.faults[0].where)
    assert {"USDT": ("1000000", "0"), "BTC": ("1000", "0")} == await room.balances()
    await room.bank.deposit("alice", {"USDT": AMOUNT_MAX - PLENTY["USDT"]})
    assert AMOUNT_MAX == (await room.bank.holdings("alice")).balance("USDT").total


async def test_what_is_not_there_is_not_funded_and_not_reset(room):
    """
    An account that was never opened is not found.
    """
    assert "not_found" == (await refused(room.bank.deposit("nobody", {"USDT": 1}))).code
    assert "not_found" == (await refused(room.bank.reset("nobody"))).code
    assert None is await room.ledger.holdings("nobody", room.clock.utc())


async def test_a_reset_begins_again_and_keeps_the_record(clock, ledger):
    """
    Balances are the starting ones, positions and the day's turnover are nothing; executions and entries stay.
    """
    room = Room(clock, ledger, risk=RiskLimits(daily_notional_max=money(250)))
    room.publish(kraken=KRAKEN, coinbase=COINBASE)
    await room.execute(market(BUY, "1"), "a")
    await room.bank.deposit("alice", {"ETH": money(3)})
    await room.execute(market(SELL, "1.5"), "b")
    assert "risk_limit" == (await room.execute(market(BUY, "1"), "c")).reject_code
    before = await written(room)
    holdings = await room.bank.reset("alice")

    assert {"USDT": ("1000000", "0"), "BTC": ("1000", "0"), "ETH": ("0", "0")} == await room.balances()
    assert {} == holdings.positions
    assert Position() == (await room.bank.holdings("alice")).position("BTC/USDT")
    after = await written(room)
    assert before == after[: len(before)]
    assert ["reset -3 ETH", "reset -46.751 USDT", "reset 0.5 BTC"] == sorted(after[len(before) :])
    assert 3 == len(await room.recorded())
    assert "rejected" == (await room.execute(market(BUY, "1"), "c")).status
    assert "filled" == (await room.execute(market(BUY, "1"), "d")).status
    assert money(1) == (await room.bank.holdings("alice")).position("BTC/USDT").quantity


async def test_a_reset_of_an_account_that_did_nothing_moves_nothing(room):
    """
    Where everything is as at the beginning no entry is written.
    """
    await room.bank.open("alice")
    before = await written(room)
    await room.bank.reset("alice")

    assert before == await written(room)
