"""Decide whether a request that failed is sent again, and when.

A request that changes nothing, or something once however often it comes, is sent again whenever that may help.  Any
other one only where it is certain that nothing has run.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from service.client.errors import (
    NewQuoteNeeded,
    OrderBookError,
    OutcomeUnknown,
    RequestRefused,
    Unavailable,
)

_DECIDED_AFTER_LOOKUP = frozenset({404, 409, 410, 422})
"""With these an order is refused only after its client_order_id was looked up: it is not on record."""


@dataclass(frozen=True, slots=True)
class Retries:
    """
    How patiently requests are sent again.

    Args:
        deadline_s: For all attempts at one request and the waiting between them.
        timeout_s: For one attempt.
        attempts_max: 1 sends everything once; None goes on until the deadline.
        backoff_s: Waited after the first attempt, at most; doubled after each further one.
        backoff_max_s: It is not doubled beyond this.
        notice: Told each error that is followed by another attempt, and after how many seconds.
        clock: Gives seconds that never go back.
        sleep: Waits.
        jitter: Gives numbers from 0 to 1, so that many clients do not come back at once.
    """

    deadline_s: float = 30.0
    timeout_s: float = 10.0
    attempts_max: int | None = None
    backoff_s: float = 0.2
    backoff_max_s: float = 5.0
    notice: Callable[[OrderBookError, float], None] | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def wait_s(self, attempt: int, retry_after_s: float | None) -> float:
        """Give how long to wait after the *attempt*-th attempt: what the service asked for, and somewhat more."""
        backoff_s = min(self.backoff_max_s, self.backoff_s * 2.0 ** min(attempt - 1, 30))
        return (retry_after_s or 0.0) + backoff_s * (0.5 + 0.5 * self.jitter())


def may_repeat(error: OrderBookError, repeatable: bool) -> bool:
    """
    Tell whether the same request may be sent again, and may fare better.

    Args:
        error: What the attempt ended in.
        repeatable: The request changes nothing, or once however often it comes.
    """
    return error.retry == "same_request" and (repeatable or error.execution_state == "not_executed")


def settle(error: OrderBookError, unknown_before: bool) -> OrderBookError:
    """
    Give the error that all attempts at a writing request come to.

    Args:
        error: The last attempt's.
        unknown_before: Of an earlier attempt it is not known whether it ran.
    """
    if not unknown_before or error.execution_state == "executed" or _tells_of_all(error):
        return error
    if not isinstance(error, Unavailable):
        error.execution_state = "unknown"
        return error
    unknown = OutcomeUnknown(
        f"an attempt may have run, and then: {error.detail}",
        status=error.status,
        execution_state="unknown",
        retry="same_request",
        retry_after_s=error.retry_after_s,
        request_id=error.request_id,
        raw=error.raw,
        body=error.body,
    )
    unknown.__cause__ = error
    return unknown


def _tells_of_all(error: OrderBookError) -> bool:
    """Tell whether the service looked at what is on record before it refused."""
    decided = isinstance(error, RequestRefused | NewQuoteNeeded) and error.code not in (None, "not_found")
    return decided and error.status in _DECIDED_AFTER_LOOKUP
