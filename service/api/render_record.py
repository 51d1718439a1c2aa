"""Write what is on record as the contract's messages: executions, accounts, and the lines of their ledger."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from exchanges.book import SCALE, decimal
from service.accounting import money_text, plain, price_text, quotient, ratio
from service.api.render import Message, bps_or_null, hop_message, moment, price_or_null
from service.desk.accounts import Holdings, Position
from service.desk.execution import FILLED, REJECTED, ExecutedFill, Execution
from service.desk.realism import pending_realism, unseen_realism
from service.ledger.protocol import StoredEntry, StoredExecution


def receipt(execution: Execution, dry_run: bool) -> bytes:
    """Write the body that stands for an execution for ever."""
    quantity = execution.filled_quantity
    return orjson.dumps(
        {
            "execution_id": None if dry_run else execution.execution_id,
            "status": execution.status,
            "reject_code": execution.reject_code,
            "client_order_id": execution.client_order_id,
            "quote_id": execution.quote_id,
            "market_data": execution.market_data,
            "execution": "mock",
            "dry_run": dry_run,
            "symbol": execution.symbol,
            "side": execution.side,
            "time_in_force": execution.time_in_force,
            "requested_quantity": price_or_null(execution.requested_quantity),
            "requested_total": None if execution.requested_total is None else money_text(execution.requested_total),
            "filled_quantity": price_text(quantity),
            "unfilled_quantity": price_or_null(_unfilled(execution)),
            "average_price": plain(ratio(execution.subtotal, quantity)) if quantity else None,
            "all_in_price": plain(ratio(execution.total, quantity)) if quantity else None,
            "subtotal": money_text(execution.subtotal),
            "fees": money_text(execution.fees),
            "markup": money_text(execution.markup),
            "total": money_text(execution.total),
            "fills": [_executed_fill(fill) for fill in execution.fills],
            "versus_quote_bps": bps_or_null(execution.versus_quote_bps),
            "balances": {
                asset: {"before": money_text(before), "after": money_text(after)}
                for asset, before, after in execution.balances
            },
            "executed_at": moment(execution.executed_at),
        }
    )


def _unfilled(execution: Execution) -> int | None:
    """Give what is missing of a quantity; of a total that was not reached nobody knows what it would have bought."""
    if execution.requested_quantity is None:
        return None if execution.status != FILLED else 0
    return execution.requested_quantity - execution.filled_quantity


def _executed_fill(fill: ExecutedFill) -> Message:
    return {
        "venue": fill.venue,
        "symbol": fill.symbol,
        "price": price_text(fill.price),
        "quantity": price_text(fill.quantity),
        "subtotal": money_text(fill.subtotal),
        "fee": money_text(fill.fee),
        "markup": money_text(fill.markup),
        "book_age_ms": fill.book_age_ms,
        "sequence": fill.sequence,
        "conversion": hop_message(fill.hop),
    }


def execution_message(stored: StoredExecution, seen: bytes | None, watched: bool) -> bytes:
    """Write an execution as it was answered, with what was seen after its fill; *watched*: more may come."""
    if stored.status == REJECTED:
        return stored.receipt
    if seen is None:
        seen = orjson.dumps((pending_realism() if watched else unseen_realism()).message())
    return stored.receipt[:-1] + b',"realism":' + seen + b"}"


def account_message(account: str, holdings: Holdings, twice_mids: Mapping[str, int]) -> Message:
    """Write what an account has; *twice_mids* by symbol, as far as they are known, value its positions."""
    return {
        "account": account,
        "balances": balances_message(holdings),
        "positions": [
            {
                "symbol": symbol,
                "quantity": money_text(position.quantity),
                "average_cost": plain(quotient(position.cost, position.quantity)) if position.quantity else None,
                "realised_pnl": money_text(position.realised_pnl),
                "unrealised_pnl": money_text(position.unrealised_pnl(twice_mids[symbol]))
                if symbol in twice_mids
                else None,
                "mid": plain(decimal(twice_mids[symbol] * 5, SCALE + 1)) if symbol in twice_mids else None,
            }
            for symbol, position in sorted(holdings.positions.items())
            if position != Position()
        ],
    }


def balances_message(holdings: Holdings) -> Message:
    """Write what an account has of each asset."""
    return {
        asset: {
            "available": money_text(balance.available),
            "held": money_text(balance.held),
            "total": money_text(balance.total),
        }
        for asset, balance in sorted(holdings.balances.items())
    }


def entry_message(entry: StoredEntry) -> Message:
    """Write a line of an account's ledger."""
    return {
        "entry_id": str(entry.number),
        "kind": entry.kind,
        "ref": entry.ref,
        "asset": entry.asset,
        "amount": money_text(entry.amount),
        "at": moment(entry.at),
    }
