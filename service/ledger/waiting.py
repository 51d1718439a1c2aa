"""Callers that wait for the record, and what they are told if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from service.errors import OutcomeUnknown, Unavailable
from service.ledger.batch import Operation


class Waiting:
    """One caller's operation, and where its result goes once that is on disk."""

    def __init__(self, operation: Operation, result: asyncio.Future[Any]) -> None:
        """Wait to be taken into a transaction."""
        self.operation = operation
        self.result = result
        self.taken = False
        result.add_done_callback(_heard)


class OutcomeLost(Exception):
    """The connection broke at COMMIT: nobody knows what has become of the transaction."""


def fail(batch: Sequence[Waiting], told: Exception, cause: Exception) -> None:
    """Tell all callers of a batch that do not know yet."""
    told.__cause__ = cause if cause is not told else None
    for waiting in batch:
        if not waiting.result.done():
            waiting.result.set_exception(told)


def _heard(result: asyncio.Future[Any]) -> None:
    """Take note of a result, in case that nobody waits for it any more."""
    if not result.cancelled():
        result.exception()


def unknown() -> OutcomeUnknown:
    """Say that nobody knows whether it was done."""
    return OutcomeUnknown("outcome_unknown", "the record broke off in the middle")


def unavailable(cause: Exception | None = None) -> Unavailable:
    """Say that nothing was done."""
    refusal = Unavailable("ledger_unavailable", "the record cannot be reached; nothing was executed")
    refusal.__cause__ = cause
    return refusal
