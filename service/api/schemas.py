"""The messages of the contract, as aiohttp-apispec's decorators take them: one definition validates and documents.

Requests are refused for anything that a schema does not know.  Every amount is a decimal string.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, validate, validates_schema

from service.market.symbols import SYMBOL_PATTERN

AMOUNT_PATTERN = r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?$"
CLIENT_ORDER_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
_AMOUNT = re.compile(AMOUNT_PATTERN[1:-1], re.ASCII)
_CLIENT_ORDER_ID = re.compile(CLIENT_ORDER_ID_PATTERN[1:-1], re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_VENUES = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}(,[a-z0-9][a-z0-9_-]{0,31}){0,63}", re.ASCII)
PAGE_MAX = 500
PAGE_DEFAULT = 50
DEPTH_MAX = 5_000
DEPTH_DEFAULT = 50


def fault(code: str, detail: str) -> list[dict[str, str]]:
    """Give a message that ``service.api.parsing`` turns into a fault; marshmallow adds lists up, and mixes dicts."""
    return [{"code": code, "detail": detail}]


_MESSAGES: dict[str, Any] = {
    "required": fault("missing_parameter", "is required"),
    "null": fault("invalid_parameter", "must not be null; leave it out"),
}


class _Text(fields.Field[Any]):
    """A string that is read by a pattern of its own; anything else is one fault."""

    pattern: ClassVar[re.Pattern[str]]
    form: ClassVar[str]
    documented: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, metadata: Mapping[str, Any] | None = None, **options: Any) -> None:
        """Take marshmallow's options; *metadata* adds to what the OpenAPI document says of the type."""
        documented = {"type": "string", **self.documented, **(metadata or {})}
        super().__init__(error_messages=_MESSAGES, metadata=documented, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, str) or not self.pattern.fullmatch(value):
            raise ValidationError(fault("invalid_parameter", self.form))
        return self.read(value)

    def read(self, text: str) -> Any:
        """Make a value of a text that has the form."""
        return text


class Amount(_Text):
    """A decimal string, > 0 unless *zero*; loads as an exact ``Decimal``."""

    pattern = _AMOUNT
    form = 'must be a decimal string such as "1.5", at most 12 digits before and 12 after the point'

    documented: ClassVar = {"pattern": AMOUNT_PATTERN, "format": "decimal"}

    def __init__(self, *, zero: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._zero = zero

    def read(self, text: str) -> Decimal:
        """Make an exact number."""
        number = Decimal(text)
        if not number and not self._zero:
            raise ValidationError(fault("invalid_parameter", "must be greater than zero"))
        return number


class Symbol(_Text):
    """``BTC/USDT`` in any of its spellings, not yet looked up."""

    pattern = SYMBOL_PATTERN
    form = "must be a symbol such as BTC/USDT"
    documented: ClassVar = {"pattern": f"^{SYMBOL_PATTERN.pattern}$"}


class ClientOrderId(_Text):
    """The client's name for an order."""

    pattern = _CLIENT_ORDER_ID
    form = "must be 1 to 64 of A-Z a-z 0-9 _ -"
    documented: ClassVar = {"pattern": CLIENT_ORDER_ID_PATTERN}


class QuoteId(_Text):
    """An opaque quote id; whether it is genuine is for the desk to say."""

    pattern = re.compile(r"[A-Za-z0-9._-]{1,4096}", re.ASCII)
    form = "must be a quote_id as it was given"
    documented: ClassVar = {"maxLength": 4096}


class Moment(_Text):
    """An RFC 3339 time with an offset; loads in UTC."""

    pattern = _TIME
    form = "must be an RFC 3339 time such as 2026-11-01T12:00:00.000Z"
    documented: ClassVar = {"format": "date-time"}

    def read(self, text: str) -> datetime:
        """Make a time in UTC."""
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError(fault("invalid_parameter", self.form)) from None


class VenueList(_Text):
    """Comma-separated names of venues; loads sorted, without repeats."""

    pattern = _VENUES
    form = "must be names of venues with commas between them"
    documented: ClassVar = {"pattern": f"^{_VENUES.pattern}$"}

    def read(self, text: str) -> tuple[str, ...]:
        """Make a sorted tuple."""
        return tuple(sorted(set(text.split(","))))


class Distances(_Text):
    """Comma-separated basis points, each below 10,000; loads as Decimals in the order given."""

    pattern = re.compile(rf"{_AMOUNT.pattern}(,{_AMOUNT.pattern}){{0,19}}", re.ASCII)
    form = "must be up to 20 numbers of basis points with commas between them"
    documented: ClassVar = {"pattern": f"^{pattern.pattern}$"}

    def read(self, text: str) -> tuple[Decimal, ...]:
        """Make numbers."""
        distances = tuple(dict.fromkeys(map(Decimal, text.split(","))))
        if max(distances) >= 10_000:
            raise ValidationError(fault("invalid_parameter", "must each be below 10000"))
        return distances


class Choice(_Text):
    """One of some words."""

    pattern = re.compile(r"[a-z_]{1,32}", re.ASCII)
    form = "is not one of the words allowed"

    def __init__(self, *words: str, **options: Any) -> None:
        super().__init__(metadata={"enum": list(words), **options.pop("metadata", {})}, **options)
        self._words = words

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        if value not in self._words:
            raise ValidationError(fault("invalid_parameter", f"must be one of {', '.join(self._words)}"))
        return str(value)


class Count(_Text):
    """A whole number in a query string."""

    pattern = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
    form = "must be a whole number"

    def __init__(self, most: int, **options: Any) -> None:
        documented = {"type": "integer", "minimum": 1, "maximum": most, **options.pop("metadata", {})}
        super().__init__(metadata=documented, **options)
        self._most = most

    def read(self, text: str) -> int:
        """Make a number in range."""
        if int(text) > self._most:
            raise ValidationError(fault("invalid_parameter", f"must be from 1 to {self._most}"))
        return int(text)


class Cursor(_Text):
    """What ``next_cursor`` of the page before said; loads as the number that it stands for."""

    pattern = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
    form = "must be a next_cursor as it was given"
    documented: ClassVar = {"maxLength": 32}

    @staticmethod
    def write(after: int) -> str:
        """Make a cursor."""
        return base64.urlsafe_b64encode(f"e{after}".encode()).rstrip(b"=").decode()

    def read(self, text: str) -> int:
        """Make a number again."""
        try:
            number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        except ValueError:
            number = ""
        if not re.fullmatch(r"e[0-9]{1,18}", number, re.ASCII):
            raise ValidationError(fault("invalid_parameter", self.form))
        return int(number[1:])


class Flag(fields.Field[Any]):
    """``true`` or ``false``: the JSON words in a body, the same words in a query string."""

    def __init__(self, *, in_query: bool = False, description: str = "", **options: Any) -> None:
        """Say whether the words come as text."""
        metadata = {"type": "boolean", "description": description}
        super().__init__(error_messages=_MESSAGES, metadata=metadata, **options)
        self._in_query = in_query

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        if self._in_query and value in ("true", "false"):
            return bool(value == "true")
        raise ValidationError(fault("invalid_parameter", "must be true or false"))


class RequestSchema(Schema):
    """A message from a client: what it does not know, it refuses."""

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

    symbol = Symbol(
        metadata={"description": "Required unless `ticker`, which is the same, is given.", "example": "BTC/USDT"}
    )
    ticker = Symbol(metadata={"description": "The same as `symbol`."})
    quantity = Amount(metadata={"description": "In the base asset; or one of the two below instead.", "example": "1.5"})
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
    bps = Distances(required=True, metadata={"description": "Distances from mid.", "example": "5,10,50"})


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

    client_order_id = ClientOrderId(required=True)
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


class ExecutionPath(RequestSchema):
    """Path of ``GET /v1/executions/{id}``."""

    id = fields.Str(required=True)


class ClientOrderPath(RequestSchema):
    """Path of ``GET /v1/executions/by-client-id/{client_order_id}``."""

    client_order_id = fields.Str(required=True)


class AnswerSchema(Schema):
    """A message to a client; it may grow."""

    class Meta:
        """Let clients ignore what they do not know."""

        unknown = INCLUDE


def _text(description: str = "", *, null: bool = False, **metadata: Any) -> fields.Str:
    return fields.Str(required=True, allow_none=null, metadata={"description": description, **metadata})


def _decimal(description: str = "", *, null: bool = False) -> fields.Str:
    return fields.Str(
        required=True,
        allow_none=null,
        validate=validate.Regexp(r"^-?[0-9]{1,40}(\.[0-9]{1,80})?$"),
        metadata={"description": description},
    )


def _integer(description: str = "", *, null: bool = False) -> fields.Int:
    return fields.Int(required=True, strict=True, allow_none=null, metadata={"description": description})


def _flag() -> fields.Bool:
    return fields.Bool(required=True, truthy={True}, falsy={False})


def _nested(schema: type[Schema], *, null: bool = False) -> fields.Nested:
    return fields.Nested(schema, required=True, allow_none=null)


def _list(schema: type[Schema]) -> fields.List[Any]:
    return fields.List(fields.Nested(schema), required=True)


class SlippageSchema(AnswerSchema):
    """Positive is worse for the client; fees not counted."""

    from_mid = _decimal(null=True)
    from_best = _decimal(null=True)


class StepSchema(AnswerSchema):
    """A line of the waterfall; all but the last sum to the last."""

    step = _text()
    amount = _decimal("In the quote asset; a sell's costs are negative.")
    bps = _decimal("Of the mid line.")


class LegConversionSchema(AnswerSchema):
    """How a leg's fills became money of the quote asset."""

    symbol = _text("The stable pair.")
    side = _text("Of the conversion's own order.", enum=["buy", "sell"])
    rate = _decimal("Of the pair, on average, in the pair's own terms.")
    age_ms = _integer("Of the oldest of the pair's books that were used.")
    cost = _decimal("Against the pair's mid, in the quote asset, before fees; positive is worse for the client.")


class HopSchema(AnswerSchema):
    """Which level of the stable pair a fill was converted through."""

    symbol = _text()
    venue = _text()
    price = _decimal("Of the stable pair's level.")
    own_price = _decimal("As the venue shows it, in its own quote asset.")


class LegSchema(AnswerSchema):
    """All the fills of one venue."""

    venue = _text()
    symbol = _text()
    quantity = _decimal()
    average_price = _decimal()
    worst_price = _decimal()
    subtotal = _decimal()
    fee = _decimal()
    fee_bps = _decimal("The venue's own taker fee; `fee` holds the conversion's too.")
    levels = _integer()
    conversion = _nested(LegConversionSchema, null=True)


class QuoteFillSchema(AnswerSchema):
    """What one level gives."""

    venue = _text()
    symbol = _text()
    price = _decimal()
    quantity = _decimal()
    subtotal = _decimal()
    fee = _decimal()
    conversion = _nested(HopSchema, null=True)


class BestSingleVenueSchema(AnswerSchema):
    """The venue that alone would be best."""

    venue = _text()
    all_in_price = _decimal()


class SideSchema(AnswerSchema):
    """One side of a quote."""

    fillable = _flag()
    quantity = _decimal("What there is, in the base asset.")
    shortfall = _decimal("What is missing of the quantity, or of the total, that was asked for.")
    average_price = _decimal(null=True)
    best_price = _decimal(null=True)
    worst_price = _decimal(null=True)
    all_in_price = _decimal("total / quantity.", null=True)
    subtotal = _decimal("Sum of price x quantity.")
    fees = _decimal()
    markup = _decimal()
    total = _decimal("What is paid (buy) or received (sell).")
    pays = _text("Asset.")
    receives = _text("Asset.")
    slippage_bps = _nested(SlippageSchema)
    waterfall = _list(StepSchema)
    legs = _list(LegSchema)
    best_single_venue = _nested(BestSingleVenueSchema, null=True)
    saving_bps = _decimal("Against the best single venue.", null=True)
    fills = fields.List(fields.Nested(QuoteFillSchema), metadata={"description": "Only with fills=true."})


class VenuePriceSchema(AnswerSchema):
    """A price and who shows it."""

    price = _decimal()
    venue = _text()


class MarketSchema(AnswerSchema):
    """The consolidated book's top, by the prices the venues show."""

    mid = _decimal()
    best_bid = _nested(VenuePriceSchema)
    best_ask = _nested(VenuePriceSchema)
    spread_bps = _decimal("Negative where the book is crossed.")
    crossed = _flag()


class SourceSchema(AnswerSchema):
    """A venue's part in an answer."""

    venue = _text()
    state = _text(enum=["warming", "live", "stale", "suspect", "down"])
    used = _flag()
    reason = _text("Why it was not used.", null=True)
    age_ms = _integer("Of the venue's latest believed book.", null=True)
    sequence = _integer("The venue's own number of that book.", null=True)


class WarningSchema(AnswerSchema):
    """Something to know that is not wrong."""

    code = _text(enum=["single_venue", "crossed", "thin", "unroutable"])


class RequestedSchema(AnswerSchema):
    """The question, as it was understood."""

    quantity = fields.Str()
    total = fields.Str()
    slippage_bps_max = fields.Str()
    side = _text(enum=["buy", "sell", "both"])
    limit_price = fields.Str()
    venues = fields.List(fields.Str())
    exclude_venues = fields.List(fields.Str())


class QuoteSchema(AnswerSchema):
    """An indicative quote."""

    quote_id = _text("Opaque; executable once per account until it expires.")
    kind = _text(enum=["indicative"])
    executed = _flag()
    market_data = _text(enum=["live", "simulated"])
    execution = _text(enum=["mock"])
    symbol = _text()
    base_asset = _text()
    quote_asset = _text()
    requested = _nested(RequestedSchema)
    created_at = _text(format="date-time")
    expires_at = _text(format="date-time")
    expires_in_ms = _integer()
    buy = _nested(SideSchema, null=True)
    sell = _nested(SideSchema, null=True)
    market = _nested(MarketSchema)
    sources = _list(SourceSchema)
    warnings = _list(WarningSchema)


class FillSchema(AnswerSchema):
    """What one level of one venue gave."""

    venue = _text()
    symbol = _text()
    price = _decimal()
    quantity = _decimal()
    subtotal = _decimal()
    fee = _decimal()
    markup = _decimal()
    book_age_ms = _integer()
    sequence = _integer(null=True)
    conversion = _nested(HopSchema, null=True)


class ExecutionSchema(AnswerSchema):
    """The recorded outcome of one order; `execution_id` is null for a dry run."""

    execution_id = _text(null=True)
    status = _text(enum=["filled", "partially_filled", "rejected"])
    reject_code = _text(null=True)
    client_order_id = _text()
    quote_id = _text(null=True)
    market_data = _text(enum=["live", "simulated"])
    execution = _text(enum=["mock"])
    dry_run = _flag()
    symbol = _text()
    side = _text(enum=["buy", "sell"])
    time_in_force = _text(enum=["fok", "ioc"])
    requested_quantity = _decimal("Null where a total was asked for.", null=True)
    requested_total = _decimal("Null where a quantity was asked for.", null=True)
    filled_quantity = _decimal()
    unfilled_quantity = _decimal("Null where it cannot be told: a total was asked for and not reached.", null=True)
    average_price = _decimal(null=True)
    all_in_price = _decimal(null=True)
    subtotal = _decimal()
    fees = _decimal()
    markup = _decimal()
    total = _decimal()
    fills = _list(FillSchema)
    versus_quote_bps = _decimal("Positive is worse than quoted.", null=True)
    executed_at = _text(format="date-time")


class ExecutionsSchema(AnswerSchema):
    """A page, newest first."""

    executions = _list(ExecutionSchema)
    next_cursor = _text(null=True)


class LevelSchema(AnswerSchema):
    """A venue's level."""

    price = _decimal()
    net_price = _decimal("With the venue's taker fee.")
    quantity = _decimal()
    venue = _text()


class BookSchema(AnswerSchema):
    """The consolidated book."""

    symbol = _text()
    view = _text(enum=["net", "gross"])
    market_data = _text(enum=["live", "simulated"])
    bids = _list(LevelSchema)
    asks = _list(LevelSchema)
    crossed = _flag()
    sources = _list(SourceSchema)


class RestingSchema(AnswerSchema):
    """What rests within a distance of mid; notionals in the quote asset, before fees."""

    bid_quantity = _decimal()
    bid_notional = _decimal()
    ask_quantity = _decimal()
    ask_notional = _decimal()


class VenueRestingSchema(RestingSchema):
    """The same on one venue."""

    venue = _text()


class BandSchema(RestingSchema):
    """What rests within *bps* of mid."""

    bps = _decimal()
    venues = _list(VenueRestingSchema)


class DepthSchema(AnswerSchema):
    """Liquidity near mid."""

    symbol = _text()
    market_data = _text(enum=["live", "simulated"])
    mid = _decimal()
    bands = _list(BandSchema)
    sources = _list(SourceSchema)


class VenueSymbolSchema(AnswerSchema):
    """A venue's standing with one symbol."""

    symbol = _text()
    state = _text()
    reason = _text(null=True)
    age_ms = _integer(null=True)
    sequence = _integer(null=True)
    levels = _integer("Of both sides together.", null=True)
    taker_fee_bps = _decimal(null=True)


class VenueSchema(AnswerSchema):
    """A venue; its own state is the worst of its symbols'."""

    venue = _text()
    enabled = _flag()
    poll_interval_ms = _integer("Effective.", null=True)
    transport = _text(enum=["poll"])
    state = _text(null=True)
    reason = _text(null=True)
    since = _text(format="date-time", null=True)
    symbols = _list(VenueSymbolSchema)
    taker_fee_bps = _decimal("The highest of its symbols'.", null=True)
    accepted = _integer()
    rejected = fields.Dict(keys=fields.Str(), values=fields.Int(), required=True)


class VenuesSchema(AnswerSchema):
    """All venues of the settings."""

    venues = _list(VenueSchema)
    next_cursor = _text(null=True)


class InstrumentSchema(AnswerSchema):
    """A symbol's rules on one venue; null where the venue names none."""

    venue = _text()
    symbol = _text()
    price_step = _decimal(null=True)
    quantity_step = _decimal(null=True)
    quantity_min = _decimal(null=True)
    notional_min = _decimal(null=True)
    taker_fee_bps = _decimal()


class SymbolSchema(AnswerSchema):
    """A symbol; the outer rules are the most permissive of its venues'."""

    symbol = _text()
    base_asset = _text()
    quote_asset = _text()
    quantity_step = _decimal(null=True)
    quantity_min = _decimal(null=True)
    notional_min = _decimal(null=True)
    venues = _list(InstrumentSchema)


class SymbolsSchema(AnswerSchema):
    """All symbols of the settings."""

    symbols = _list(SymbolSchema)
    next_cursor = _text(null=True)


class HealthSchema(AnswerSchema):
    """The process is alive."""

    status = _text(enum=["alive"])


class SymbolReadinessSchema(AnswerSchema):
    """Whether one symbol can be quoted."""

    symbol = _text()
    live_venues = _integer()
    venues_min = _integer()
    sources = fields.List(fields.Nested(SourceSchema), metadata={"description": "Where there are too few."})


class ReadinessSchema(AnswerSchema):
    """All symbols can be quoted."""

    status = _text(enum=["ready"])
    symbols = _list(SymbolReadinessSchema)


class FaultSchema(AnswerSchema):
    """One thing wrong with a request."""

    parameter = fields.Str()
    pointer = fields.Str()
    code = _text()
    detail = _text()
    suggested = fields.Str()


class ProblemSchema(AnswerSchema):
    """A refusal (RFC 9457)."""

    type = _text()
    title = _text()
    status = _integer()
    detail = _text()
    code = _text()
    request_id = _text()
    retry = _text(enum=["never", "same_request", "new_quote"])
    execution_state = _text(enum=["not_executed", "executed", "unknown"])
    errors = fields.List(fields.Nested(FaultSchema))
    execution_id = fields.Str()
    fresh_quote = fields.Nested(QuoteSchema)
    sources = fields.List(fields.Nested(SourceSchema))
    symbols = fields.List(
        fields.Nested(SymbolReadinessSchema), metadata={"description": "Of /readyz: those that lack live venues."}
    )
