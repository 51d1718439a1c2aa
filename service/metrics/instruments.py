"""Count what happens: plain numbers, written on the event loop by whom it happens to, at well under a microsecond each.

prometheus_client's own instruments take a lock and several times as long, and write the time of their creation beside
every series; so only what is written to Prometheus is made by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from exchanges.book import Side
from exchanges.distribution import Distribution
from service.accounting import MONEY_SCALE
from service.desk.execution import FILLED, PARTIALLY_FILLED, REJECTED, Execution
from service.desk.realism import SHARE_SCALE, Realism
from service.metrics import catalogue
from service.metrics.catalogue import Metric

Reading = tuple[Metric, tuple[str, ...], float | Distribution]
"""A series as it is now: its metric, the values of its labels in their order, and its own."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
OTHER: Final = "other"
UNMATCHED: Final = "unmatched"
READING: Final = ("GET", "HEAD")
QUOTE_KINDS: Final = ("indicative", "firm")
REJECT_CODES: Final = (
    "price_moved",
    "limit_not_met",
    "slippage_exceeded",
    "insufficient_liquidity",
    "insufficient_balance",
    "risk_limit",
)
"""That orders come on record with, so that their counts begin at 0."""
CUT_REASONS: Final = ("heads", "bodies", "answers", "turned_away")
_SWITCHING_PROTOCOLS: Final = 101
_MARKOUT_UNIT: Final = 10_000


class Instruments:
    """The counters and histograms of one application."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self._requests: dict[tuple[str, str, int, str], int] = {}
        self._durations: dict[tuple[str, str], Distribution] = {}
        self._cut = Counter(dict.fromkeys(CUT_REASONS, 0))
        self._shed = 0
        self._connections = 0
        self._quotes: Counter[tuple[str, str]] = Counter()
        self._executions: Counter[tuple[str, str, str]] = Counter()
        self._notional: Counter[tuple[str, str]] = Counter()
        self._rejections = Counter(dict.fromkeys(REJECT_CODES, 0))
        self._survival: dict[str, Distribution] = {}
        self._markouts: dict[str, Distribution] = {}
        self._commits = Distribution(catalogue.LEDGER_DURATION.bounds)
        self._batches = Distribution(catalogue.LEDGER_BATCH.bounds)
        self._commit_failures = 0
        self._lag = Distribution(catalogue.LOOP_LAG.bounds)

    # The server's

    def expect(self, method: str, route: str) -> None:
        """
        Begin a route's errors of the service at 0.

        The first one that ever happens is an increase then: from nothing to 1 is none to Prometheus.
        """
        self._requests.setdefault((method, route, 500, "internal_error"), 0)
        if method not in READING:
            self._requests.setdefault((method, route, 503, "outcome_unknown"), 0)

    def answered(self, method: str, route: str | None, status: int, code: str, seconds: float | None) -> None:
        """
        Count a request.

        Args:
            route: The pattern, or None for a path that is no route's.
            code: Of the refusal, or empty.
            seconds: What it took, or None where nobody knows.
        """
        if method not in METHODS:
            method = OTHER
        if route is None:
            route = UNMATCHED
        key = (method, route, status, code)
        self._requests[key] = self._requests.get(key, 0) + 1
        if seconds is None or status == _SWITCHING_PROTOCOLS:
            return
        durations = self._durations.get((method, route))
        if durations is None:
            durations = self._durations[method, route] = Distribution(catalogue.HTTP_DURATION.bounds)
        durations.add(seconds)

    def shed(self) -> None:
        """Count a request that was sent away unread."""
        self._shed += 1

    def connected(self, more: int) -> None:
        """Count a connection in (1) or out (-1)."""
        self._connections += more

    def cut(self, reason: str) -> None:
        """Count a connection that was cut or turned away."""
        self._cut[reason] += 1

    # The desk's

    def quoted(self, symbol: str, kind: str) -> None:
        """Count a quote that was given: ``indicative`` or ``firm``."""
        self._quotes[symbol, kind] += 1

    def realised(self, realism: Realism) -> None:
        """Take note of what was seen after a fill; points that are open are left out."""
        for after_ms, share in realism.survival:
            if share is not None:
                _of(self._survival, str(after_ms), catalogue.SURVIVAL).add(share / 10**SHARE_SCALE)
        for after_s, moved in realism.markout_bps:
            if moved is not None:
                _of(self._markouts, str(after_s), catalogue.MARKOUT).add(moved / _MARKOUT_UNIT)

    # The ledger's: see ``service.ledger.protocol.LedgerWatch``

    def committed(self, seconds: float, operations: int) -> None:
        """Count a transaction."""
        self._commits.add(seconds)
        self._batches.add(operations)

    def commit_failed(self) -> None:
        """Count a transaction that was not committed."""
        self._commit_failures += 1

    def recorded(self, execution: Execution) -> None:
        """Count an execution that has come on record."""
        self._executions[execution.symbol, execution.side, execution.status] += 1
        if execution.reject_code is not None:
            self._rejections[execution.reject_code] += 1
        else:
            self._notional[execution.symbol, execution.side] += execution.subtotal

    # The loop's

    def woken(self, late_s: float) -> None:
        """Take note of how late a timer was."""
        self._lag.add(late_s)

    # For whoever reads

    def of_server(self) -> Iterator[Reading]:
        """Give what was counted of requests and connections."""
        for (method, route, status, code), count in self._requests.items():
            yield catalogue.HTTP_REQUESTS, (method, route, str(status), code), count
        for labels, durations in self._durations.items():
            yield catalogue.HTTP_DURATION, labels, durations
        yield catalogue.HTTP_SHED, (), self._shed
        yield catalogue.HTTP_CONNECTIONS, (), self._connections
        for reason, count in self._cut.items():
            yield catalogue.HTTP_CUT, (reason,), count
        yield catalogue.LOOP_LAG, (), self._lag

    def of_desk(self, symbols: frozenset[str]) -> Iterator[Reading]:
        """Give what was counted of quotes and orders, for these symbols."""
        for symbol in sorted(symbols):
            for kind in QUOTE_KINDS:
                yield catalogue.QUOTES, (symbol, kind), self._quotes[symbol, kind]
            for side in Side:
                for status in (FILLED, PARTIALLY_FILLED, REJECTED):
                    labels = (symbol, side.value, status)
                    yield catalogue.EXECUTIONS, labels, self._executions[labels]
                notional = self._notional[symbol, side.value]
                yield catalogue.NOTIONAL, (symbol, side.value), notional / 10**MONEY_SCALE
        for code, count in self._rejections.items():
            yield catalogue.REJECTIONS, (code,), count
        for after_ms, shares in self._survival.items():
            yield catalogue.SURVIVAL, (after_ms,), shares
        for after_s, markouts in self._markouts.items():
            yield catalogue.MARKOUT, (after_s,), markouts

    def of_ledger(self) -> Iterator[Reading]:
        """Give what was counted of transactions."""
        yield catalogue.LEDGER_DURATION, (), self._commits
        yield catalogue.LEDGER_BATCH, (), self._batches
        yield catalogue.LEDGER_FAILURES, (), self._commit_failures


def _of(kept: dict[str, Distribution], label: str, metric: Metric) -> Distribution:
    if label not in kept:
        kept[label] = Distribution(metric.bounds)
    return kept[label]
