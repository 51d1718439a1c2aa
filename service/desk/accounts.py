"""Accounts: balances, positions, double entry, limits of risk.

Pure values and rules.  Amounts are whole numbers of 10**-8 of every asset (``service.accounting.MONEY_SCALE``) and fit
into 64 bits; what does not is refused, never cut.  Every set of entries sums to zero per asset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from exchanges.book import SCALE, Side
from service.accounting import MONEY_SCALE, NOTIONAL, near
from service.desk.execution import ExecutedFill

AMOUNT_MAX = 2**63 - 1
"""The largest amount that a ledger holds."""
QUANTITY_PER_AMOUNT = 10 ** (SCALE - MONEY_SCALE)
"""Divides a quantity of 10**-18 into an amount; of what single levels give it leaves a rest."""
DEPOSITS, FEES, MARKUP, VENUES = "desk:deposits", "fees:", "desk:markup", "venue:"
"""Names, and beginnings of names, of the ledger's own accounts; no client's account has a colon."""


class AmountTooLarge(ValueError):
    """An amount, or a balance after it, that a ledger cannot hold."""


class Balance(NamedTuple):
    """What an account has of an asset; ``held`` is the part that open firm quotes keep."""

    total: int = 0
    held: int = 0

    @property
    def available(self) -> int:
        """Give what an order may use."""
        return self.total - self.held


class Position(NamedTuple):
    """
    What an account has bought and not sold of a symbol since it was opened or reset, or sold and not bought.

    Args:
        quantity: Base asset; negative where more was sold than bought.
        cost: What it cost in the quote asset, fees and markup included; has the sign of the quantity.
        realised_pnl: Of what was bought and sold again, in the quote asset.
    """

    quantity: int = 0
    cost: int = 0
    realised_pnl: int = 0

    def after(self, side: Side, quantity: int, total: int) -> Position:
        """
        Give the position after a fill.

        Args:
            quantity: Of the fill, > 0.
            total: What was paid for a buy, or received for a sell.
        """
        sign = 1 if side is Side.BUY else -1
        moved, paid = sign * quantity, sign * total
        if not self.quantity or (self.quantity > 0) == (moved > 0):
            return Position(self.quantity + moved, self.cost + paid, self.realised_pnl)
        closed = min(quantity, abs(self.quantity))
        paid_for_closed = paid if closed == quantity else near(paid * closed, quantity)
        cost_of_closed = self.cost if closed == abs(self.quantity) else near(self.cost * closed, abs(self.quantity))
        return Position(
            quantity=self.quantity + moved,
            cost=self.cost - cost_of_closed + paid - paid_for_closed,
            realised_pnl=self.realised_pnl - paid_for_closed - cost_of_closed,
        )

    def unrealised_pnl(self, twice_mid: int) -> int:
        """Give what selling (or buying back) at mid would bring beyond the cost; *twice_mid* of 10**-18."""
        return near(twice_mid * self.quantity * QUANTITY_PER_AMOUNT, 2 * NOTIONAL) - self.cost


class Entry(NamedTuple):
    """One line of the double entry: *amount* of *asset* comes to *account*, or goes from it where negative."""

    account: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """
    What one account has.

    Args:
        turnover: Notional filled today (UTC), by quote asset.
    """

    balances: Mapping[str, Balance] = field(default_factory=dict)
    positions: Mapping[str, Position] = field(default_factory=dict)
    turnover: Mapping[str, int] = field(default_factory=dict)

    def balance(self, asset: str) -> Balance:
        """Give what there is of an asset."""
        return self.balances.get(asset, Balance())

    def position(self, symbol: str) -> Position:
        """Give what was traded of a symbol."""
        return self.positions.get(symbol, Position())

    def with_entries(self, account: str, entries: Iterable[Entry]) -> Holdings:
        """
        Give the holdings after those of *entries* that are the account's.

        Raises:
            AmountTooLarge: If a balance would be more than a ledger can hold.
        """
        balances = dict(self.balances)
        for entry in entries:
            if entry.account == account:
                total, held = balances.get(entry.asset, Balance())
                balances[entry.asset] = Balance(_fitting(total + entry.amount), held)
        return replace(self, balances=balances)

    def with_held(self, asset: str, amount: int) -> Holdings:
        """Give the holdings with *amount* more of an asset held, or less where negative."""
        total, held = self.balance(asset)
        return replace(self, balances={**self.balances, asset: Balance(total, held + amount)})

    def with_fill(self, symbol: str, side: Side, quantity: int, subtotal: int, total: int) -> Holdings:
        """Give the holdings with a fill in its position and in today's turnover; balances change by entries."""
        position = self.position(symbol).after(side, quantity, total)
        for number in position:
            _fitting(number)
        quote_asset = symbol.partition("/")[2]
        turned_over = _fitting(self.turnover.get(quote_asset, 0) + subtotal)
        return replace(
            self,
            positions={**self.positions, symbol: position},
            turnover={**self.turnover, quote_asset: turned_over},
        )


def _fitting(amount: int) -> int:
    if abs(amount) > AMOUNT_MAX:
        raise AmountTooLarge
    return amount


def settlement(account: str, symbol: str, side: Side, fills: Sequence[ExecutedFill]) -> tuple[Entry, ...]:
    """
    Write the entries of an order's fills: between the client, each venue, its fees, and the desk's margin.

    A converted venue is settled in the symbol's own quote asset.

    Returns:
        Entries that sum to zero per asset, the client's first; none of zero.

    Raises:
        AmountTooLarge: If one of them is more than a ledger can hold.
    """
    base_asset, _, quote_asset = symbol.partition("/")
    sign = 1 if side is Side.BUY else -1
    venues: dict[str, tuple[int, int, int]] = {}
    markup = 0
    for fill in fills:
        quantity, subtotal, fee = venues.get(fill.venue, (0, 0, 0))
        venues[fill.venue] = (
            quantity + fill.quantity,
            subtotal + fill.subtotal,
            fee + fill.fee,
        )
        markup += fill.markup
    entries = [Entry(MARKUP, quote_asset, markup)]
    given = 0
    for venue, (quantity, subtotal, fee) in venues.items():
        # A level may give parts of 10**-8; all together are rounded once, and each venue is entered with its share.
        amount = (given + quantity) // QUANTITY_PER_AMOUNT - given // QUANTITY_PER_AMOUNT
        given += quantity
        entries.append(Entry(VENUES + venue, base_asset, -sign * amount))
        entries.append(Entry(VENUES + venue, quote_asset, sign * subtotal))
        entries.append(Entry(FEES + venue, quote_asset, fee))
    own = [
        Entry(account, asset, -sum(entry.amount for entry in entries if entry.asset == asset))
        for asset in (base_asset, quote_asset)
    ]
    written = tuple(entry for entry in (*own, *entries) if entry.amount)
    for entry in written:
        _fitting(entry.amount)
    return written


def deposit(account: str, amounts: Mapping[str, int]) -> tuple[Entry, ...]:
    """Write the entries that bring *amounts* to an account, or take them away where negative."""
    entries = [
        entry
        for asset, amount in amounts.items()
        if amount
        for entry in (Entry(account, asset, amount), Entry(DEPOSITS, asset, -amount))
    ]
    return tuple(entries)


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """
    What one account's orders may not exceed; 0, or no entry, is no limit.

    Args:
        order_notional_max: Price x quantity of one order, in the symbol's quote asset.
        daily_notional_max: The same of a day (UTC) in one quote asset.
        position_max: Largest position by base asset, long or short.
        trading_enabled: False refuses every order.
    """

    order_notional_max: int = 0
    daily_notional_max: int = 0
    position_max: Mapping[str, int] = field(default_factory=dict)
    trading_enabled: bool = True

    def broken_by(self, before: Holdings, after: Holdings, symbol: str, subtotal: int) -> bool:
        """Tell whether a fill of *subtotal* breaks a limit; making a position smaller never breaks that one's."""
        base_asset, _, quote_asset = symbol.partition("/")
        position_max = self.position_max.get(base_asset, 0)
        position = _position_in(after, base_asset)
        return (
            not self.trading_enabled
            or 0 < self.order_notional_max < subtotal
            or 0 < self.daily_notional_max < after.turnover.get(quote_asset, 0)
            or 0 < position_max < position > _position_in(before, base_asset)
        )


def _position_in(holdings: Holdings, base_asset: str) -> int:
    return abs(
        sum(
            position.quantity
            for symbol, position in holdings.positions.items()
            if symbol.partition("/")[0] == base_asset
        )
    )
