"""Show answers of a running service to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show_quote(quote: Mapping[str, Any], console: Console) -> None:
    """Print each side of a quote with its waterfall and legs."""
    console.print(
        f"[bold]{quote['symbol']}[/]  mid {quote['market']['mid']}  spread {quote['market']['spread_bps']} bps"
        f"  [yellow]{quote['market_data']} prices, mock execution[/]"
    )
    for name in ("buy", "sell"):
        side = quote[name]
        if side is None:
            continue
        verb = f"{side['pays']} to pay" if name == "buy" else f"{side['receives']} received"
        console.print(f"\n[bold]{name}[/] {side['quantity']} {quote['base_asset']}: [bold]{side['total']}[/] {verb}")
        if not side["fillable"]:
            console.print(f"[red]the books hold {side['shortfall']} less than was asked for[/]")
        _show_waterfall(side, console)
        _show_legs(side, console)
        if side.get("fills"):
            _show_fills(side, console)
    if "held" in quote:
        held = ", ".join(f"{amount} {asset}" for asset, amount in quote["held"].items())
        console.print(f"\n[bold]{quote['status']}[/], held: {held or 'nothing'}")
    console.print(f"\nquote_id, good for {quote['expires_in_ms']} ms:\n{quote['quote_id']}", soft_wrap=True)


def _show_waterfall(side: Mapping[str, Any], console: Console) -> None:
    table = Table("step", box=None)
    table.add_column("amount", justify="right", no_wrap=True, overflow="fold")
    table.add_column("bps", justify="right", no_wrap=True, overflow="fold")
    for step in side["waterfall"]:
        table.add_row(step["step"], step["amount"], step["bps"])
    console.print(table)


def _show_legs(side: Mapping[str, Any], console: Console) -> None:
    table = Table("venue", box=None)
    for column in ("quantity", "average price", "fee", "fee bps", "levels"):
        table.add_column(column, justify="right", no_wrap=True, overflow="fold")
    for leg in side["legs"]:
        table.add_row(
            leg["venue"], leg["quantity"], leg["average_price"], leg["fee"], leg["fee_bps"], str(leg["levels"])
        )
    console.print(table)


def _show_fills(side: Mapping[str, Any], console: Console) -> None:
    rows = [(fill["venue"], fill["price"], fill["quantity"], fill["subtotal"], fill["fee"]) for fill in side["fills"]]
    console.print(_table(("fill",), ("price", "quantity", "subtotal", "fee"), rows))


def _table(words: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str | None]]) -> Table:
    """Lay out rows that begin with *words* and end with *numbers*."""
    table = Table(box=None)
    for column in words:
        table.add_column(column, overflow="fold", min_width=len(column))
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    return table


def show_execution(execution: Mapping[str, Any], console: Console) -> None:
    """Print what became of an order."""
    console.print(
        f"[bold]{execution['status']}[/] {execution['side']} {execution['filled_quantity']} of "
        f"{execution['requested_quantity']} {execution['symbol']} at {execution['average_price']}, "
        f"total {execution['total']} (mock)"
    )
    console.print(f"execution {execution['execution_id']}")


def show_executions(executions: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print a line for each."""
    rows = [
        (
            one["executed_at"].replace("T", " ")[:19],
            one["reject_code"] or one["status"],
            f"{one['side']} {one['symbol']}",
            one["client_order_id"],
            one["filled_quantity"],
            one["total"],
        )
        for one in executions
    ]
    words = ("executed at", "outcome", "order", "client order id")
    console.print(_table(words, ("filled", "total"), rows))


def show_account(account: Mapping[str, Any], console: Console) -> None:
    """Print balances and positions."""
    console.print(f"[bold]{account['account']}[/] [yellow](paper)[/]")
    balances = [(asset, *map(one.get, ("available", "held", "total"))) for asset, one in account["balances"].items()]
    console.print(_table(("asset",), ("available", "held", "total"), balances))
    numbers = ("quantity", "average_cost", "realised_pnl", "unrealised_pnl", "mid")
    if account["positions"]:
        rows = [(one["symbol"], *map(one.get, numbers)) for one in account["positions"]]
        console.print(_table(("symbol",), [name.replace("_", " ") for name in numbers], rows))


def show_book(book: Mapping[str, Any], console: Console) -> None:
    """Print the asks, the best of them last, and the bids, the best of them first."""
    console.print(f"[bold]{book['symbol']}[/] {book['view']}  [yellow]{book['market_data']} prices[/]")
    numbers = ("price", "net_price", "quantity", "taken")
    levels = [("ask", level) for level in reversed(book["asks"])] + [("bid", level) for level in book["bids"]]
    rows = [(side, level["venue"], *map(level.get, numbers)) for side, level in levels]
    console.print(_table(("", "venue"), [name.replace("_", " ") for name in numbers], rows))


def show_venues(venues: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print each venue with its state and why."""
    rows = [
        (
            one["venue"],
            (one["state"] if one["enabled"] else "disabled"),
            one["reason"],
            one["transport"],
            one["taker_fee_bps"],
            one["accepted"],
            sum(one["rejected"].values()),
            sum(one["failed"].values()),
        )
        for one in venues
    ]
    words = ("venue", "state", "reason", "transport")
    console.print(_table(words, ("taker fee bps", "accepted", "rejected", "failed"), rows))


def show_problem(problem: Mapping[str, Any], console: Console) -> None:
    """Print a refusal with every fault."""
    console.print(f"[red]{problem['code']}[/]: {problem['detail']}")
    for fault in problem.get("errors", []):
        where = fault.get("parameter") or fault.get("pointer") or ""
        hint = f" ({fault['suggested']}?)" if "suggested" in fault else ""
        console.print(f"  {where}: {fault['detail']}{hint}", markup=False)
    for source in problem.get("sources", []):
        console.print(f"  {source['venue']}: {source['state']} {source['reason'] or ''}", markup=False)
