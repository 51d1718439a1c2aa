"""Do the faults of single changes to a stream, one change after another.

Pure: what a change becomes is given back; sending it, late or not, is left to the stream.
"""

from __future__ import annotations

from exchanges.simulator.faults import Kind
from exchanges.simulator.market import Book
from exchanges.simulator.venues import Active
from exchanges.simulator.wires.wire import Change, Channel, StreamWire

Sent = tuple[bytes, Change | None]
"""A message, and the change that it tells truly, if it does."""
_SKIPPED = 7  # By so many a wrong sequence is off.


class Spoiling:
    """Count one channel's changes while a fault is on, and spoil those that are due."""

    def __init__(self) -> None:
        """Start with no fault."""
        self._active: Active | None = None
        self._count = 0
        self._held: list[Sent] = []

    def frames(self, wire: StreamWire, channel: Channel, change: Change, active: Active | None) -> list[Sent] | None:
        """
        Say what is sent for *change*, in order.

        Returns:
            None where it is a message too long to be made here.
        """
        name = self._strikes(active)
        if name == "oversize":
            return None
        sent = _spoilt(name, wire, channel, change)
        if name == "reordered" and not self._held:
            self._held = sent
            return []
        held, self._held = self._held, []
        return [*sent, *held]

    def _strikes(self, active: Active | None) -> str:
        if active is None or active.fault.kind is not Kind.DELTA:
            return ""
        if active is not self._active:
            self._active, self._count = active, 0
        self._count += 1
        every = active.options.get("every", 0)
        due = self._count % every == 0 if every else self._count == 1
        return active.name if due else ""


def _spoilt(name: str, wire: StreamWire, channel: Channel, change: Change) -> list[Sent]:
    data = wire.message(channel, _changed(name, change)) or b""
    half = len(data) // 2
    match name:
        case "lost":
            return []
        case "repeated":
            return [(data, change), (data, change)]
        case "wrong_sequence" | "bad_checksum":
            return [(data, None)]
        case "bad_utf8":
            return [(data[:half] + b"\xff\xfe" + data[half:], None)]
        case "broken_json":
            return [(data[:half], None)]
        case "unexpected":
            return [(wire.unexpected, None)]
    return [(data, change)]


def _changed(name: str, change: Change) -> Change:
    if name == "wrong_sequence":
        before = change.before._replace(sequence=change.before.sequence + _SKIPPED)
        return change._replace(before=before, number=change.number + _SKIPPED)
    if name == "bad_checksum":
        return change._replace(book=Book(change.book.asks, change.book.bids))
    return change
