"""Know whether the record can be read and written, and tell whoever wants to know."""

from __future__ import annotations

from service.desk.execution import Execution
from service.ledger.batch import Operation
from service.ledger.protocol import LedgerWatch


class Condition:
    """How a record does."""

    def __init__(self) -> None:
        """Believe that it is well; nobody is told."""
        self._watch: LedgerWatch | None = None
        self.readable = True
        self.writable = True

    def watch(self, watch: LedgerWatch) -> None:
        """Tell *watch* from now on."""
        self._watch = watch

    @property
    def up(self) -> bool:
        """Tell whether the latest commit and the latest read succeeded."""
        return self.readable and self.writable

    def committed(self, seconds: float, operations: list[Operation]) -> None:
        """Take note of a transaction that is on disk."""
        self.writable = True
        if self._watch is None:
            return
        self._watch.committed(seconds, len(operations))
        for operation in operations:
            if (execution := _executed(operation)) is not None:
                self._watch.recorded(execution)

    def commit_failed(self, *, down: bool) -> None:
        """Take note of a transaction that was not committed; *down* if it was the database's doing."""
        if down:
            self.writable = False
        if self._watch is not None:
            self._watch.commit_failed()


def _executed(operation: Operation) -> Execution | None:
    return None if operation.changes is None else operation.changes.execution
