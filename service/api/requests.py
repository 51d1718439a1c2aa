"""The messages that clients send, as aiohttp-apispec's decorators take them: one definition validates and documents.

Requests are refused for anything that a schema does not know.  Every amount is a decimal string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from marshmallow import RAISE, Schema, ValidationError, fields, validates_schema

from service.api.fields import (
    AccountName,
    Addresses,
    Amount,
    Asset,
    Choice,
    ClientOrderId,
    Count,
    Cursor,
    Distances,
    Flag,
    KeyCursor,
    Label,
    Limits,
    Milliseconds,
    Moment,
    MoneyAmount,
    QuoteId,
    Scopes,
    Symbol,
    VenueList,
    VenueNames,
    WholeNumber,
    fault,
)
from service.keys import OVERLAP_S_MAX

PAGE_MAX = 500
PAGE_DEFAULT = 50
DEPTH_MAX = 5_000
DEPTH_DEFAULT = 50
OVERLAP_MS_MAX = OVERLAP_S_MAX * 1_000


@dataclass(frozen=True, slots=True)
class Form:
    """One of several kinds of a message, for the document: what it must have besides, and what it must not."""

    title: str
    required: Sequence[str]
    without: Sequence[str]


class RequestSchema(Schema):
    """A message from a client: what it does not know, it refuses."""

    forms: ClassVar[Mapping[str, Form]] = {}
    """By the name of their schema in the document; ``check_together`` refuses whatever is none of them."""

    class Meta:
        """Refuse unknown names."""

        unknown = RAISE

    def __init__(self, **options: Any) -> None:
        """Take marshmallow's options."""
        super().__init__(**options)
        self.error_messages: dict[str, Any] = {
            **self.error_messages,
            "unknown": fault("unknown", "is not known here"),
            "type": fault("invalid_parameter", "must be an object"),
        }


class QuoteQuery(RequestSchema):
    """Query of ``GET /quote``."""

    symbol = Symbol(metadata={"description": "Required unless `ticker`, which is the same, is given."})
    ticker = Symbol(metadata={"description": "The same as `symbol`."})
    quantity = Amount(
        metadata={"description": "In the base asset; exactly one of this, `total` and `slippage_bps_max`."}
    )
    total = Amount(
        metadata={
            "description": "All that is paid (buy) or received (sell), in the quote asset, fees and markup included: "
            "the largest quantity that comes to no more is quoted."
        }
    )
    slippage_bps_max = Amount(
        zero=True,
        metadata={"description": "The largest quantity whose slippage from mid stays within this is quoted."},
    )
    side = Choice("buy", "sell", "both", load_default="both")
    limit_price = Amount(metadata={"description": "Levels worse than this are left alone; needs one side."})
    venues = VenueList(metadata={"description": "Only these venues."})
    exclude_venues = VenueList(metadata={"description": "All venues but these."})
    fills = Flag(load_default=False, in_query=True, description="Add every single fill.")

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_together(self, data: Mapping[str, Any], original: Mapping[str, Any], **_: Any) -> None:
        """Refuse what excludes each other, and a question without a symbol."""
        problems: dict[str, Any] = {}
        if "symbol" in original and "ticker" in original:
            problems["ticker"] = fault("conflicting_parameters", "is the same as symbol: send one of them")
        elif "symbol" not in original and "ticker" not in original:
            problems["symbol"] = fault("missing_parameter", "is required")
        problems |= _one_amount(original, ("quantity", "total", "slippage_bps_max"))
        if "limit_price" in original and original.get("side", "both") == "both":
            problems["limit_price"] = fault("conflicting_parameters", "needs side=buy or side=sell")
        if problems:
            raise ValidationError(problems)


def _one_amount(original: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Refuse no amount, and more than one."""
    given = [name for name in names if name in original]
    if not given:
        return {names[0]: fault("missing_parameter", f"one of {', '.join(names)} is required")}
    return {name: fault("conflicting_parameters", f"excludes {given[0]}: send one of them") for name in given[1:]}


class DepthQuery(RequestSchema):
    """Query of ``GET /v1/depth``."""

    symbol = Symbol(required=True)
    bps = Distances(required=True, metadata={"description": "Distances from mid, with commas between them."})


class BookQuery(RequestSchema):
    """Query of ``GET /v1/book``."""

    symbol = Symbol(required=True)
    depth = Count(DEPTH_MAX, load_default=DEPTH_DEFAULT, metadata={"description": "Levels a side."})
    view = Choice("net", "gross", load_default="net", metadata={"description": "Rank by price with or without fees."})


class ExecutionsQuery(RequestSchema):
    """Query of ``GET /v1/executions``."""

    limit = Count(PAGE_MAX, load_default=PAGE_DEFAULT)
    cursor = Cursor()
    symbol = Symbol()
    status = Choice("filled", "partially_filled", "rejected")
    since = Moment(metadata={"description": "Only those executed at or after this time."})


class ExecuteBody(RequestSchema):
    """Body of ``POST /execute``: on a quote, or directly."""

    client_order_id = ClientOrderId(
        required=True, metadata={"description": "Required, unless the header `Idempotency-Key` says it."}
    )
    quote_id = QuoteId(metadata={"description": "Execute this quote."})
    side = Choice("buy", "sell", metadata={"description": "Required unless the quote has one side only."})
    tolerance_bps = Amount(zero=True, metadata={"description": "How much worse than quoted is still accepted."})
    symbol = Symbol()
    quantity = Amount(metadata={"description": "In the base asset; or `total` instead."})
    total = Amount(
        metadata={
            "description": "All that is paid (buy) or received (sell), in the quote asset, fees and markup included: "
            "the largest quantity that comes to no more is filled."
        }
    )
    time_in_force = Choice("fok", "ioc", metadata={"description": "fok unless it says ioc. GTC is not offered."})
    limit_price = Amount()
    slippage_bps_max = Amount(zero=True, metadata={"description": "From mid to the average price, fees not counted."})
    valid_until = Moment()
    dry_run = Flag(load_default=False, description="Check everything, record nothing.")

    _DIRECT: ClassVar = ("symbol", "quantity", "total", "time_in_force", "limit_price", "slippage_bps_max")
    _REQUIRED: ClassVar = ("symbol", "side")
    _OF_QUOTE: ClassVar = ("quote_id", "tolerance_bps")
    forms: ClassVar = {
        "OrderOnQuote": Form("What was quoted", ("quote_id",), _DIRECT),
        "OrderOfQuantity": Form("A quantity", (*_REQUIRED, "quantity"), (*_OF_QUOTE, "total")),
        "OrderOfTotal": Form("A total", (*_REQUIRED, "total"), (*_OF_QUOTE, "quantity")),
    }

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_together(self, data: Mapping[str, Any], original: Mapping[str, Any], **_: Any) -> None:
        """Refuse a mixture of the two kinds of order, and a direct one that lacks something."""
        if "quote_id" in original:
            problems = {
                name: fault("conflicting_parameters", "is settled by the quote")
                for name in self._DIRECT
                if name in original
            }
        else:
            problems = {
                name: fault("missing_parameter", "is required without a quote_id")
                for name in self._REQUIRED
                if name not in original
            } | _one_amount(original, ("quantity", "total"))
            if "tolerance_bps" in original:
                problems["tolerance_bps"] = fault("conflicting_parameters", "needs a quote_id")
        if problems:
            raise ValidationError(problems)


FIRM_TTL_MS = Milliseconds(
    100, 10_000, metadata={"description": "How long it is honoured; the settings may allow less (`firm_ttl_ms_max`)."}
)


class FirmQuoteBody(RequestSchema):
    """Body of ``POST /v1/quotes``."""

    symbol = Symbol(required=True)
    side = Choice("buy", "sell", required=True)
    quantity = Amount(metadata={"description": "In the base asset; or `total` instead."})
    total = Amount(metadata={"description": "All that is paid or received, fees and markup included."})
    limit_price = Amount()
    venues = VenueNames(metadata={"description": "Only these venues."})
    exclude_venues = VenueNames(metadata={"description": "All venues but these."})
    ttl_ms = FIRM_TTL_MS

    forms: ClassVar = {
        "FirmQuoteOfQuantity": Form("Of a quantity", ("quantity",), ("total",)),
        "FirmQuoteOfTotal": Form("Of a total", ("total",), ("quantity",)),
    }

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def check_together(self, data: Mapping[str, Any], original: Mapping[str, Any], **_: Any) -> None:
        """Refuse no amount, and two."""
        problems = _one_amount(original, ("quantity", "total"))
        if problems:
            raise ValidationError(problems)


class FirmQuotePath(RequestSchema):
    """Path of ``/v1/quotes/{id}``."""

    id = fields.Str(required=True)


class EntriesQuery(RequestSchema):
    """Query of ``GET /v1/account/entries``."""

    limit = Count(PAGE_MAX, load_default=PAGE_DEFAULT)
    cursor = Cursor()
    asset = Asset()


class AccountBody(RequestSchema):
    """Body of ``POST /v1/admin/accounts``."""

    account = AccountName(required=True)


class AccountPath(RequestSchema):
    """Path of the admin's routes of one account."""

    account = fields.Str(required=True)


class VenuePath(RequestSchema):
    """Path of the admin's routes of one venue."""

    venue = fields.Str(required=True)


class DepositBody(RequestSchema):
    """Body of ``POST /v1/admin/accounts/{account}/deposits``."""

    asset = Asset(required=True)
    amount = MoneyAmount(required=True)


class ExecutionPath(RequestSchema):
    """Path of ``GET /v1/executions/{id}``."""

    id = fields.Str(required=True)


class ClientOrderPath(RequestSchema):
    """Path of ``GET /v1/executions/by-client-id/{client_order_id}``."""

    client_order_id = fields.Str(required=True)


class KeysQuery(RequestSchema):
    """Query of ``GET /v1/admin/keys``."""

    limit = Count(PAGE_MAX, load_default=PAGE_DEFAULT)
    cursor = KeyCursor()


class KeyBody(RequestSchema):
    """Body of ``POST /v1/admin/keys``."""

    account = AccountName(required=True, metadata={"description": "It is opened if it is not open yet."})
    scopes = Scopes(required=True)
    expires_at = Moment(metadata={"description": "In the future; left out, the key works until it is revoked."})
    addresses = Addresses(
        load_default=(), metadata={"description": "Where the key works from; left out or empty: from everywhere."}
    )
    label = Label(metadata={"description": "What it is for; shown in the list of keys."})
    limits = Limits(metadata={"description": "In place of the settings' `[limits]`; 0 is no limit."})


class KeyPath(RequestSchema):
    """Path of the admin's routes of one key."""

    id = fields.Str(required=True)


class RotateBody(RequestSchema):
    """Body of ``POST /v1/admin/keys/{id}/rotate``."""

    overlap_ms = WholeNumber(
        0,
        OVERLAP_MS_MAX,
        required=True,
        metadata={"description": "For how long the old key works beside the new one, unless it expires before."},
    )
