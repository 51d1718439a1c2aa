"""Errors of the service, by who can act.

    ServiceError
    ├── ConfigError        the operator, at start: all problems of the settings in one message
    ├── RequestError       the caller: 4xx, a code of the contract and the faults found
    └── Unavailable        time: 503, a code of the contract; nothing was executed
        └── OutcomeUnknown     503: whether it was executed cannot be told; send the same request again

A refused order is none of these: it is an ``Execution`` with ``status="rejected"``, on record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class ServiceError(Exception):
    """Be the root of what the service raises on purpose."""


class ConfigError(ServiceError):
    """List everything that keeps the service from starting, one sentence each, in ``problems``."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing wrong with a request.

    Args:
        where: Name of the query parameter or header, or RFC 6901 pointer into the body.
        code: A code of the contract.
        detail: A sentence for a person; never repeats a secret or an unchecked value.
        suggested: A value that would have been accepted, where there is one.
        kind: ``parameter`` or ``pointer``, which says how to read *where*.
    """

    where: str
    code: str
    detail: str
    suggested: str | None = None
    kind: str = "parameter"


class RequestError(ServiceError):
    """Refuse a request for what the caller sent; ``code`` decides the status (``service.api.problems``)."""

    def __init__(self, code: str, detail: str, faults: Sequence[Fault] = (), **context: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.faults = tuple(faults)
        self.context = context


class Unavailable(ServiceError):
    """Refuse a request that may succeed later; nothing was executed.

    ``sources`` says per venue why its book does not count, where that is the reason.
    """

    def __init__(self, code: str, detail: str, *, sources: Sequence[Any] = (), retry_after_s: int = 1) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.sources = tuple(sources)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(Unavailable):
    """Say that a commit's fate could not be learned in time; the same request will tell."""
