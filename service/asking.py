"""Commands that ask a running service, by the Python client, and show its answer to a person or a program.

They bring neither ccxt nor the service itself along.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.command_line import EXIT_REFUSED, load, say
from service.errors import ConfigError
from service.printable import printable_values
from service.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

    from service.client import OrderBookClient, OrderBookError

WITHIN_S = 15.0
"""How long an answer may take, and how long the same order is sent until there is one."""
_REFUSALS = (401, 403, 429, 503)
"""Of a stream, which comes without the service's own words."""
Answers = list[Mapping[str, Any]]
_Ask = Callable[["OrderBookClient"], Awaitable[Answers]]
_Show = Callable[[Answers, "Console"], None]


def add_asking(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add what asks a running service."""
    client = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    client.add_argument("--url", help="address of the service (default: IOB_URL, else host and port of the settings)")
    client.add_argument("--key-file", type=Path, help="file that holds the API key (default: the variable IOB_API_KEY)")
    client.add_argument(
        "--json", action="store_true", help="print the service's answer as it came; of a list, each row"
    )
    parents = [common, client]
    _add_quote(commands, parents)
    _add_execute(commands, parents)

    executions = commands.add_parser("executions", parents=parents, help="the account's executions, newest first")
    executions.add_argument("--symbol")
    executions.add_argument("--status", choices=("filled", "partially_filled", "rejected"))
    executions.add_argument("--since", help="an RFC 3339 time")
    executions.add_argument("--limit", type=_count, default=20, help="how many (default: 20)")
    executions.set_defaults(run=_executions)

    account = commands.add_parser("account", parents=parents, help="the account's balances and positions")
    account.set_defaults(run=_account)

    book = commands.add_parser("book", parents=parents, help="the consolidated book")
    book.add_argument("symbol")
    book.add_argument("--depth", type=_count, default=10, help="levels a side (default: 10)")
    book.add_argument("--view", choices=("net", "gross"), help="rank by price with fees (default) or without")
    book.set_defaults(run=_book)

    _add_watch(commands, parents)

    venues = commands.add_parser("venues", parents=parents, help="every venue's state, and why")
    venues.set_defaults(run=_venues)


def _add_quote(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    quote = commands.add_parser("quote", parents=parents, help="ask a running service")
    quote.add_argument("symbol")
    quote.add_argument("quantity", nargs="?", help="of the base asset; or one of the two options for it")
    quote.add_argument("--total", help="all that is paid or received, in the quote asset")
    quote.add_argument("--slippage-bps-max", help="the most that keeps within it")
    quote.add_argument("--side", choices=("buy", "sell", "both"), default="both")
    quote.add_argument("--limit-price")
    quote.add_argument("--venues")
    quote.add_argument("--exclude-venues")
    quote.add_argument("--fills", action="store_true", help="show every single fill")
    quote.add_argument("--firm", action="store_true", help="have the price held; needs --side buy or sell")
    quote.add_argument("--ttl-ms", type=_count, help="how long a firm quote is held")
    quote.set_defaults(run=_quote, usage_error=quote.error)


def _add_execute(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    execute = commands.add_parser("execute", parents=parents, help="mock-execute on a running service")
    execute.add_argument("symbol", nargs="?", help="not with --quote-id")
    execute.add_argument("quantity", nargs="?", help="not with --quote-id")
    execute.add_argument("--total", help="in place of a quantity: all that is paid or received, in the quote asset")
    execute.add_argument("--side", choices=("buy", "sell"))
    execute.add_argument("--quote-id")
    execute.add_argument("--tolerance-bps")
    execute.add_argument("--time-in-force", choices=("fok", "ioc"))
    execute.add_argument("--limit-price")
    execute.add_argument("--slippage-bps-max")
    execute.add_argument("--valid-until")
    execute.add_argument("--client-order-id", help="send the same one again to repeat safely (default: a new one)")
    execute.add_argument("--dry-run", action="store_true")
    execute.set_defaults(run=_execute)


def _add_watch(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    watch = commands.add_parser("watch", parents=parents, help="the consolidated book and the venues' states, live")
    watch.add_argument("symbol")
    watch.add_argument("--depth", type=_count, help="levels a side (default: as many as there is room for)")
    watch.add_argument("--view", choices=("net", "gross"), help="rank by price with fees (default) or without")
    watch.add_argument("--quantity", help="show what this much of the base asset costs and gives, with all fees")
    watch.add_argument("--once", action="store_true", help="show it as it is now, and end")
    watch.set_defaults(run=_watch, usage_error=watch.error)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 999999999, not {text!r}")
    return int(text)


# What is asked


def _quote(options: argparse.Namespace) -> int:
    from service.terminal import show_quote

    if options.firm and options.side == "both":
        options.usage_error("--firm needs --side buy or --side sell")
    if options.firm and (options.fills or options.slippage_bps_max):
        options.usage_error("--firm goes with neither --fills nor --slippage-bps-max")
    if options.ttl_ms and not options.firm:
        options.usage_error("--ttl-ms needs --firm")
    if not (options.quantity or options.total or options.slippage_bps_max):
        options.usage_error("the following arguments are required: quantity, or --total, or --slippage-bps-max")
    amounts = {"quantity": options.quantity, "total": options.total, "limit_price": options.limit_price}
    chosen = {"venues": options.venues, "exclude_venues": options.exclude_venues}

    async def ask(client: OrderBookClient) -> Answers:
        if options.firm:
            firm = await client.firm_quote(options.symbol, options.side, **amounts, **chosen, ttl_ms=options.ttl_ms)
            return [firm.raw]
        amounts["slippage_bps_max"] = options.slippage_bps_max
        quote = await client.quote(options.symbol, side=options.side, fills=options.fills, **amounts, **chosen)
        return [quote.raw]

    return _run(options, ask, lambda answers, console: show_quote(answers[0], console))


def _execute(options: argparse.Namespace) -> int:
    from service.terminal import show_execution

    client_order_id = options.client_order_id or f"cli-{secrets.token_hex(8)}"
    terms = {
        name: getattr(options, name)
        for name in ("symbol", "quantity", "total", "side", "tolerance_bps", "time_in_force", "limit_price")
    } | {"slippage_bps_max": options.slippage_bps_max, "valid_until": options.valid_until}

    async def ask(client: OrderBookClient) -> Answers:
        if options.dry_run:
            return [(await client.dry_run(options.quote_id, **terms)).raw]
        return [(await client.execute(options.quote_id, client_order_id=client_order_id, **terms)).raw]

    return _run(options, ask, lambda answers, console: show_execution(answers[0], console), patient=True)


def _executions(options: argparse.Namespace) -> int:
    from service.terminal import show_executions

    async def ask(client: OrderBookClient) -> Answers:
        found: Answers = []
        pages = client.executions(
            symbol=options.symbol, status=options.status, since=options.since, page_size=min(options.limit, 500)
        )
        async for execution in pages:
            found.append(execution.raw)
            if len(found) == options.limit:
                break
        return found

    return _run(options, ask, show_executions)


def _account(options: argparse.Namespace) -> int:
    from service.terminal import show_account

    async def ask(client: OrderBookClient) -> Answers:
        return [(await client.account()).raw]

    return _run(options, ask, lambda answers, console: show_account(answers[0], console))


def _book(options: argparse.Namespace) -> int:
    from service.terminal import show_book

    async def ask(client: OrderBookClient) -> Answers:
        return [(await client.book(options.symbol, depth=options.depth, view=options.view)).raw]

    return _run(options, ask, lambda answers, console: show_book(answers[0], console))


def _venues(options: argparse.Namespace) -> int:
    from service.terminal import show_venues

    async def ask(client: OrderBookClient) -> Answers:
        return [venue.raw for venue in await client.venues()]

    return _run(options, ask, show_venues)


def _watch(options: argparse.Namespace) -> int:
    from service.client import OrderBookError
    from service.watching import watch

    try:
        return watch(options, connect(options))
    except OrderBookError as error:
        if error.code is None and error.status in _REFUSALS:
            say(error.detail)
            return EXIT_REFUSED
        return _refused(error, as_json=options.json)


# How


def connect(options: argparse.Namespace, *, patient: bool = False) -> OrderBookClient:
    """
    Give a client of the service that the options name.

    Args:
        patient: It sends the same again until there is an answer, and says so.
    """
    from service.client import OrderBookClient, Retries

    retries = Retries(WITHIN_S, WITHIN_S, attempts_max=None if patient else 1, notice=_notice)
    url = _address(options)
    try:
        return OrderBookClient(url, _api_key(options.key_file), retries=retries)
    except ValueError as error:
        raise ConfigError([f"no service answers on {url}: {error}"]) from error


def _run(options: argparse.Namespace, ask: _Ask, show: _Show, *, patient: bool = False) -> int:
    """
    Ask a running service and show its answer; give the exit status.

    Args:
        patient: Send the same again until there is an answer, and say so.
    """
    import orjson
    from rich.console import Console

    from service.client import OrderBookError

    client = connect(options, patient=patient)
    waiting = "waiting for the outcome" if patient else "waiting for the answer"

    async def answers() -> Answers:
        async with client:
            return await ask(client)

    try:
        with progress(waiting, silent=options.json):
            found = asyncio.run(answers())
    except OrderBookError as error:
        return _refused(error, as_json=options.json)
    if options.json:
        sys.stdout.writelines(orjson.dumps(answer).decode() + "\n" for answer in found)
    else:
        show(printable_values(found), Console())
    return 0


def _notice(error: OrderBookError, wait_s: float) -> None:
    say(f"{error}; the same is sent again in {wait_s:.1f} s")


def _refused(error: OrderBookError, *, as_json: bool) -> int:
    """Show why there is no answer; what is no answer of the service is for whoever gave its address."""
    if error.client_order_id is not None and error.execution_state == "unknown":
        say(f"it may have been executed: repeat the command with --client-order-id {error.client_order_id}")
    elif error.code is None:
        raise ConfigError([error.detail]) from error
    if error.code is None:
        say(error.detail)
    elif as_json:
        import orjson

        sys.stdout.write((error.body or orjson.dumps(error.raw)).decode() + "\n")
    else:
        from rich.console import Console

        from service.terminal import show_problem

        show_problem(printable_values(error.raw), Console(stderr=True))
    return EXIT_REFUSED


def _address(options: argparse.Namespace) -> str:
    url: str | None = options.url or os.environ.get("IOB_URL")
    if url is not None:
        return url
    service = load(options).service
    host = f"[{service.host}]" if ":" in service.host else service.host
    return f"http://{host}:{service.port}"


def _api_key(file: Path | None) -> str:
    """Read the key from a file or the environment; never from the command line, where others could see it."""
    try:
        key = file.read_text("ascii").strip() if file is not None else os.environ.get("IOB_API_KEY", "")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"--key-file: {file} cannot be read"]) from error
    if not key.isprintable() or not key or not key.isascii() or " " in key:
        raise ConfigError(["give the API key in the variable IOB_API_KEY or with --key-file"])
    return key
