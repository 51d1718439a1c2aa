"""A Python client of the service: async, typed, and safe to be disconnected at any moment (``docs/client.md``)."""

from __future__ import annotations

from service.client import channels
from service.client.client import OrderBookClient
from service.client.errors import (
    InternalError,
    InvalidRequest,
    KeyRefused,
    NewQuoteNeeded,
    NoAnswer,
    NotAllowed,
    NotFound,
    OrderBookError,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    RequestRefused,
    ServiceFault,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
)
from service.client.quotes import FirmQuote, Quote
from service.client.record import Execution
from service.client.retrying import Retries
from service.client.streaming import (
    BookUpdate,
    ExecutionUpdate,
    Interrupted,
    NoValue,
    QuoteUpdate,
    Resumed,
    Stream,
    VenuesUpdate,
)

__all__ = [
    "BookUpdate",
    "Execution",
    "ExecutionUpdate",
    "FirmQuote",
    "InternalError",
    "Interrupted",
    "InvalidRequest",
    "KeyRefused",
    "NewQuoteNeeded",
    "NoAnswer",
    "NoValue",
    "NotAllowed",
    "NotFound",
    "OrderBookClient",
    "OrderBookError",
    "OrderRejected",
    "OutcomeUnknown",
    "Quote",
    "QuoteUpdate",
    "RateLimited",
    "RequestRefused",
    "Resumed",
    "Retries",
    "ServiceFault",
    "Stream",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "VenuesUpdate",
    "channels",
]
