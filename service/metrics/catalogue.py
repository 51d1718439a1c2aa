"""Every metric of the service: name, kind, labels, and what it means.  ``docs/metrics.md`` has the same table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

REQUEST_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
COMMIT_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
BATCH_BOUNDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
LAG_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SHARE_BOUNDS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
MARKOUT_BOUNDS_BPS: Final = (-100.0, -50.0, -20.0, -10.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """
    A metric as it is published.

    Args:
        meaning: One line, its help.
        bounds: Of a histogram that this room keeps; the venues' have their own.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()


HTTP_REQUESTS: Final = Metric(
    "iob_http_requests_total",
    "counter",
    ("method", "route", "status", "code"),
    "Requests that were answered, by the route's pattern and the code of the refusal if it was one.",
)
HTTP_DURATION: Final = Metric(
    "iob_http_request_duration_seconds",
    "histogram",
    ("method", "route"),
    "Time from a request's head to its answer; streams, which last, are not in it.",
    REQUEST_BOUNDS_S,
)
HTTP_SHED: Final = Metric(
    "iob_http_requests_shed_total", "counter", (), "Quotes that were sent away unread as overloaded."
)
HTTP_CONNECTIONS: Final = Metric("iob_http_connections", "gauge", (), "Open connections.")
HTTP_CUT: Final = Metric(
    "iob_http_connections_cut_total",
    "counter",
    ("reason",),
    "Connections that were cut for what their clients owed, or turned away because there were too many.",
)
STREAMS: Final = Metric("iob_streams", "gauge", (), "Open WebSockets.")

QUOTES: Final = Metric("iob_quotes_total", "counter", ("symbol", "kind"), "Quotes that were given on request.")
EXECUTIONS: Final = Metric(
    "iob_executions_total",
    "counter",
    ("symbol", "side", "status"),
    "Orders that came on record, rejected ones too; replays are not counted.",
)
REJECTIONS: Final = Metric(
    "iob_rejections_total", "counter", ("code",), "Orders that came on record as rejected, by reject code."
)
NOTIONAL: Final = Metric(
    "iob_executed_notional_total",
    "counter",
    ("symbol", "side"),
    "Price times quantity of all fills, in the symbol's quote asset.",
)
FIRM_OPEN: Final = Metric(
    "iob_firm_quotes_open", "gauge", (), "Firm quotes that hold funds and liquidity, of all accounts."
)

VENUE_ENABLED: Final = Metric(
    "iob_venue_enabled",
    "gauge",
    ("venue", "transport"),
    "1 for a venue that is switched on, 0 for one that is not; transport is how its books come at present.",
)
VENUE_STATE: Final = Metric(
    "iob_venue_state",
    "gauge",
    ("venue", "symbol", "state"),
    "1 for the state that a venue is in for a symbol, 0 for the four others.",
)
VENUE_AGE: Final = Metric(
    "iob_venue_book_age_seconds", "gauge", ("venue", "symbol"), "Age of a venue's latest book; absent without one."
)
VENUE_ACCEPTED: Final = Metric("iob_venue_books_accepted_total", "counter", ("venue",), "Books that counted.")
VENUE_REJECTED: Final = Metric(
    "iob_venue_books_rejected_total", "counter", ("venue", "reason"), "Books that did not count, by reason."
)
VENUE_FAILURES: Final = Metric(
    "iob_venue_failures_total", "counter", ("venue", "reason"), "Requests and streams that gave no book, by reason."
)
VENUE_RECONNECTS: Final = Metric(
    "iob_venue_reconnects_total", "counter", ("venue",), "Streams that were made anew after they broke."
)
VENUE_POLL: Final = Metric(
    "iob_venue_poll_duration_seconds",
    "histogram",
    ("venue",),
    "Time from a request to the book that it gave, read and checked.",
)
VENUE_DELAY: Final = Metric(
    "iob_venue_stream_delay_seconds",
    "histogram",
    ("venue",),
    "Time from the venue's own timestamp of a streamed book to the board, by this machine's clock; 0 if it is behind.",
)

BOOK_LIVE: Final = Metric("iob_book_venues_live", "gauge", ("symbol",), "Venues whose books count.")
BOOK_QUOTABLE: Final = Metric("iob_book_quotable", "gauge", ("symbol",), "1 if a quote would be given now, else 0.")
BOOK_MID: Final = Metric(
    "iob_book_mid_price", "gauge", ("symbol",), "Mid of the consolidated book; absent where there is none."
)
BOOK_SPREAD: Final = Metric(
    "iob_book_spread_bps",
    "gauge",
    ("symbol",),
    "Best ask less best bid over mid, in basis points, below 0 if crossed; absent where there is no book.",
)
BOOK_DEPTH: Final = Metric(
    "iob_book_depth_notional",
    "gauge",
    ("symbol", "side", "bps"),
    "What the venues show within so many basis points of mid, in the quote asset; absent where there is no book.",
)
BOOK_CROSSED: Final = Metric(
    "iob_book_crossed",
    "gauge",
    ("symbol",),
    "1 if the best bid of one live venue is above the best ask of another, else 0.",
)
BOOK_CROSSED_BPS: Final = Metric(
    "iob_book_crossed_bps", "gauge", ("symbol",), "By how much they are crossed, in basis points of mid; 0 if not."
)
TAKEN: Final = Metric(
    "iob_taken_quantity",
    "gauge",
    ("symbol", "venue", "side"),
    "What mock fills have taken of a venue's levels and it has not replaced, base asset, by the side of the orders.",
)
HELD: Final = Metric(
    "iob_held_quantity", "gauge", ("symbol", "venue", "side"), "The same of what firm quotes hold, base asset."
)

SURVIVAL: Final = Metric(
    "iob_realism_survival_ratio",
    "histogram",
    ("after_ms",),
    "Share of a mock fill that the venues still showed so long after it; counted a minute after the fill.",
    SHARE_BOUNDS,
)
MARKOUT: Final = Metric(
    "iob_realism_markout_bps",
    "histogram",
    ("after_s",),
    "How far mid has moved the client's way so long after a mock fill, in basis points; counted a minute after it.",
    MARKOUT_BOUNDS_BPS,
)

LEDGER_DURATION: Final = Metric(
    "iob_ledger_commit_duration_seconds",
    "histogram",
    (),
    "Time of a transaction that was committed, from its beginning to its sync.",
    COMMIT_BOUNDS_S,
)
LEDGER_BATCH: Final = Metric(
    "iob_ledger_batch_size", "histogram", (), "Operations that shared a committed transaction.", BATCH_BOUNDS
)
LEDGER_QUEUE: Final = Metric("iob_ledger_queue_length", "gauge", (), "Operations that wait for a transaction.")
LEDGER_FAILURES: Final = Metric(
    "iob_ledger_commit_failures_total", "counter", (), "Transactions that were begun and not committed."
)
LEDGER_UP: Final = Metric(
    "iob_ledger_up", "gauge", (), "0 from a failed commit or read of the record until one succeeds, else 1."
)

LOOP_LAG: Final = Metric(
    "iob_loop_lag_seconds", "histogram", (), "How late the event loop wakes a timer, ten times a second.", LAG_BOUNDS_S
)
BUILD_INFO: Final = Metric(
    "iob_build_info",
    "gauge",
    ("version", "market_data", "ledger"),
    "1; what runs, on what prices, with which kind of record.",
)

CATALOGUE: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""In the order of the page."""
