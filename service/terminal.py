"""Show answers of a running service to a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def show_quote(quote: dict[str, Any], console: Console) -> None:
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
    console.print(f"\nquote_id, good for {quote['expires_in_ms']} ms:\n{quote['quote_id']}", soft_wrap=True)


def _show_waterfall(side: dict[str, Any], console: Console) -> None:
    table = Table("step", box=None)
    table.add_column("amount", justify="right", no_wrap=True, overflow="fold")
    table.add_column("bps", justify="right", no_wrap=True, overflow="fold")
    for step in side["waterfall"]:
        table.add_row(step["step"], step["amount"], step["bps"])
    console.print(table)


def _show_legs(side: dict[str, Any], console: Console) -> None:
    table = Table("venue", box=None)
    for column in ("quantity", "average price", "fee", "fee bps", "levels"):
        table.add_column(column, justify="right", no_wrap=True, overflow="fold")
    for leg in side["legs"]:
        table.add_row(
            leg["venue"], leg["quantity"], leg["average_price"], leg["fee"], leg["fee_bps"], str(leg["levels"])
        )
    console.print(table)


def show_execution(execution: dict[str, Any], console: Console) -> None:
    """Print what became of an order."""
    console.print(
        f"[bold]{execution['status']}[/] {execution['side']} {execution['filled_quantity']} of "
        f"{execution['requested_quantity']} {execution['symbol']} at {execution['average_price']}, "
        f"total {execution['total']} (mock)"
    )
    console.print(f"execution {execution['execution_id']}")


def show_problem(problem: dict[str, Any], console: Console) -> None:
    """Print a refusal with every fault."""
    console.print(f"[red]{problem['code']}[/]: {problem['detail']}")
    for fault in problem.get("errors", []):
        where = fault.get("parameter") or fault.get("pointer") or ""
        hint = f" ({fault['suggested']}?)" if "suggested" in fault else ""
        console.print(f"  {where}: {fault['detail']}{hint}", markup=False)
    for source in problem.get("sources", []):
        console.print(f"  {source['venue']}: {source['state']} {source['reason'] or ''}", markup=False)
