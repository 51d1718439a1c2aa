"""Log how venues' states change."""

from __future__ import annotations

import structlog

from exchanges.health import State, Status

log = structlog.get_logger()


def log_change(venue: str, symbol: str, before: Status, after: Status) -> None:
    """Write one line for a venue's new state for a symbol, or its new reason: for ``Board``'s *on_change*."""
    level = log.info if after.state in (State.LIVE, State.WARMING) else log.warning
    level(
        f"venue.{after.state}",
        venue=venue,
        symbol=symbol,
        reason=after.reason,
        state_before=before.state.value,
        reason_before=before.reason,
    )
