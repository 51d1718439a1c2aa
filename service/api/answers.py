"""The messages that clients are sent, as aiohttp-apispec's decorators take them.

Every amount is a decimal string.
"""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate

from service.api.problems import CODES

STATES = ["warming", "live", "stale", "suspect", "down"]
"""Of a venue's book."""


class AnswerSchema(Schema):
    """A message to a client; it may grow."""

    class Meta:
        """Let clients ignore what they do not know."""

        unknown = INCLUDE


def text_field(description: str = "", *, null: bool = False, **metadata: Any) -> fields.Str:
    """Make a required text."""
    return fields.Str(required=True, allow_none=null, metadata={"description": description, **metadata})


def decimal_field(description: str = "", *, null: bool = False) -> fields.Str:
    """Make a required number, as text."""
    return fields.Str(
        required=True,
        allow_none=null,
        validate=validate.Regexp(r"^-?[0-9]{1,40}(\.[0-9]{1,80})?$"),
        metadata={"description": description},
    )


def integer_field(description: str = "", *, null: bool = False) -> fields.Int:
    """Make a required whole number."""
    return fields.Int(required=True, strict=True, allow_none=null, metadata={"description": description})


def flag_field() -> fields.Bool:
    """Make a required true or false."""
    return fields.Bool(required=True, truthy={True}, falsy={False})


def nested_field(schema: type[Schema], *, null: bool = False) -> fields.Nested:
    """Make a required message inside another."""
    return fields.Nested(schema, required=True, allow_none=null)


def list_field(schema: type[Schema]) -> fields.List[Any]:
    """Make a required list of messages."""
    return fields.List(fields.Nested(schema), required=True)


def names_field(description: str) -> fields.List[Any]:
    """Make a required list of names."""
    return fields.List(fields.Str(), required=True, metadata={"description": description})


def counts_field(description: str) -> fields.Dict:
    """Make a required table of counts by name."""
    return fields.Dict(keys=fields.Str(), values=fields.Int(), required=True, metadata={"description": description})


class SlippageSchema(AnswerSchema):
    """Positive is worse for the client; fees not counted."""

    from_mid = decimal_field(null=True)
    from_best = decimal_field(null=True)


class StepSchema(AnswerSchema):
    """A line of the waterfall; all but the last sum to the last."""

    step = text_field(enum=["mid", "half_spread", "depth", "conversion", "fees", "markup", "total"])
    amount = decimal_field("In the quote asset; a sell's costs are negative.")
    bps = decimal_field("Of the mid line.")


class LegConversionSchema(AnswerSchema):
    """How a leg's fills became money of the quote asset."""

    symbol = text_field("The stable pair.")
    side = text_field("Of the conversion's own order.", enum=["buy", "sell"])
    rate = decimal_field("Of the pair, on average, in the pair's own terms.")
    age_ms = integer_field("Of the oldest of the pair's books that were used.")
    cost = decimal_field("Against the pair's mid, in the quote asset, before fees; positive is worse for the client.")


class HopSchema(AnswerSchema):
    """Which level of the stable pair a fill was converted through."""

    symbol = text_field()
    venue = text_field()
    price = decimal_field("Of the stable pair's level.")
    own_price = decimal_field("As the venue shows it, in its own quote asset.")


class LegSchema(AnswerSchema):
    """All the fills of one venue."""

    venue = text_field()
    symbol = text_field()
    quantity = decimal_field()
    average_price = decimal_field()
    worst_price = decimal_field()
    subtotal = decimal_field()
    fee = decimal_field()
    fee_bps = decimal_field("The venue's own taker fee; `fee` holds the conversion's too.")
    levels = integer_field()
    conversion = nested_field(LegConversionSchema, null=True)


class QuoteFillSchema(AnswerSchema):
    """What one level gives."""

    venue = text_field()
    symbol = text_field()
    price = decimal_field()
    quantity = decimal_field()
    subtotal = decimal_field()
    fee = decimal_field()
    conversion = nested_field(HopSchema, null=True)


class BestSingleVenueSchema(AnswerSchema):
    """The venue that alone would be best."""

    venue = text_field()
    all_in_price = decimal_field()


class SideSchema(AnswerSchema):
    """One side of a quote."""

    fillable = flag_field()
    quantity = decimal_field("What there is, in the base asset.")
    shortfall = decimal_field("What is missing of the quantity, or of the total, that was asked for.")
    average_price = decimal_field(null=True)
    best_price = decimal_field(null=True)
    worst_price = decimal_field(null=True)
    all_in_price = decimal_field("total / quantity.", null=True)
    subtotal = decimal_field("Sum of price x quantity.")
    fees = decimal_field()
    markup = decimal_field()
    total = decimal_field("What is paid (buy) or received (sell).")
    pays = text_field("Asset.")
    receives = text_field("Asset.")
    slippage_bps = nested_field(SlippageSchema)
    waterfall = list_field(StepSchema)
    legs = list_field(LegSchema)
    best_single_venue = nested_field(BestSingleVenueSchema, null=True)
    saving_bps = decimal_field("Against the best single venue.", null=True)
    fills = fields.List(fields.Nested(QuoteFillSchema), metadata={"description": "Only with fills=true."})


class VenuePriceSchema(AnswerSchema):
    """A price and who shows it."""

    price = decimal_field()
    venue = text_field()


class LiquiditySchema(AnswerSchema):
    """What is left out of the sides that were asked for, in the base asset, since it has been taken."""

    taken = decimal_field("By mock fills that the venues have not replaced.")
    held = decimal_field("By open firm quotes.")


class MarketSchema(AnswerSchema):
    """The consolidated book's top, by the prices the venues show."""

    mid = decimal_field()
    best_bid = nested_field(VenuePriceSchema)
    best_ask = nested_field(VenuePriceSchema)
    spread_bps = decimal_field("Negative where the book is crossed.")
    crossed = flag_field()


class SourceSchema(AnswerSchema):
    """A venue's part in an answer."""

    venue = text_field()
    state = text_field(enum=STATES)
    used = flag_field()
    reason = text_field("Why it was not used.", null=True)
    age_ms = integer_field("Of the venue's latest believed book.", null=True)
    sequence = integer_field("The venue's own number of that book.", null=True)


class WarningSchema(AnswerSchema):
    """Something to know that is not wrong."""

    code = text_field(enum=["single_venue", "crossed", "thin", "unroutable"])


class RequestedSchema(AnswerSchema):
    """The question, as it was understood."""

    quantity = fields.Str()
    total = fields.Str()
    slippage_bps_max = fields.Str()
    side = text_field(enum=["buy", "sell", "both"])
    limit_price = fields.Str()
    venues = fields.List(fields.Str())
    exclude_venues = fields.List(fields.Str())


class QuoteSchema(AnswerSchema):
    """An indicative quote."""

    quote_id = text_field("Opaque; executable once per account until it expires.")
    kind = text_field(enum=["indicative"])
    executed = flag_field()
    market_data = text_field(enum=["live", "simulated", "replay"])
    execution = text_field(enum=["mock"])
    symbol = text_field()
    base_asset = text_field()
    quote_asset = text_field()
    requested = nested_field(RequestedSchema)
    created_at = text_field(format="date-time")
    expires_at = text_field(format="date-time")
    expires_in_ms = integer_field()
    buy = nested_field(SideSchema, null=True)
    sell = nested_field(SideSchema, null=True)
    market = nested_field(MarketSchema)
    liquidity = nested_field(LiquiditySchema)
    sources = list_field(SourceSchema)
    warnings = list_field(WarningSchema)


class FirmQuoteSchema(QuoteSchema):
    """A firm quote; `sources` and prices are those of the moment in which it was given."""

    kind = text_field(enum=["firm"])
    status = text_field(enum=["open", "used", "expired", "released", "void"])
    execution_id = text_field("Of the fill that used it.", null=True)
    held = fields.Dict(
        keys=fields.Str(),
        values=decimal_field(),
        required=True,
        metadata={"description": "Of the account's balance, by asset; nothing once it is not open."},
    )


class LevelSchema(AnswerSchema):
    """A venue's level."""

    price = decimal_field()
    net_price = decimal_field("With the venue's taker fee.")
    quantity = decimal_field("As the venue shows it.")
    taken = decimal_field("What mock fills and holds have taken of the quantity, and the venue has not replaced.")
    held = decimal_field("What of `taken` open firm quotes hold; it comes back if they are not executed.")
    venue = text_field()


class BookSchema(AnswerSchema):
    """The consolidated book."""

    symbol = text_field()
    view = text_field(enum=["net", "gross"])
    market_data = text_field(enum=["live", "simulated", "replay"])
    bids = list_field(LevelSchema)
    asks = list_field(LevelSchema)
    crossed = flag_field()
    sources = list_field(SourceSchema)


class RestingSchema(AnswerSchema):
    """What rests within a distance of mid; notionals in the quote asset, before fees."""

    bid_quantity = decimal_field()
    bid_notional = decimal_field()
    ask_quantity = decimal_field()
    ask_notional = decimal_field()


class VenueRestingSchema(RestingSchema):
    """The same on one venue."""

    venue = text_field()


class BandSchema(RestingSchema):
    """What rests within *bps* of mid."""

    bps = decimal_field()
    venues = list_field(VenueRestingSchema)


class DepthSchema(AnswerSchema):
    """Liquidity near mid."""

    symbol = text_field()
    market_data = text_field(enum=["live", "simulated", "replay"])
    mid = decimal_field()
    bands = list_field(BandSchema)
    sources = list_field(SourceSchema)


class VenueSymbolSchema(AnswerSchema):
    """A venue's standing with one symbol."""

    symbol = text_field()
    state = text_field(enum=STATES)
    reason = text_field(null=True)
    age_ms = integer_field(null=True)
    sequence = integer_field(null=True)
    levels = integer_field("Of both sides together.", null=True)
    taker_fee_bps = decimal_field(null=True)


class VenueSchema(AnswerSchema):
    """A venue; its own state is the worst of its symbols'."""

    venue = text_field()
    enabled = flag_field()
    poll_interval_ms = integer_field("Effective.", null=True)
    transport = text_field(
        "How its books come at present: a stream that cannot be kept up is polled meanwhile.",
        enum=["poll", "stream", "replay"],
    )
    state = text_field(null=True, enum=[*STATES, None])
    reason = text_field("Why it is not live, or is polled in place of its stream.", null=True)
    since = text_field(format="date-time", null=True)
    symbols = list_field(VenueSymbolSchema)
    taker_fee_bps = decimal_field("The highest of its symbols'.", null=True)
    accepted = integer_field("Books that counted, since the start.")
    rejected = counts_field("Books that failed a check, by reason.")
    failed = counts_field("Requests and streams that gave no book, by reason.")
    reconnects = integer_field("Streams that were made anew.")


class SwitchedVenueSchema(VenueSchema):
    """A venue that was switched."""

    in_force = text_field("For how long.", enum=["until the next reload or restart"])


class ReloadedSchema(AnswerSchema):
    """What reading the settings again came to."""

    changed = names_field("Keys that are now in force as the settings say.")
    needs_restart = names_field("Keys that differ from what is in force until the service is restarted.")


class VenuesSchema(AnswerSchema):
    """All venues of the settings."""

    venues = list_field(VenueSchema)
    next_cursor = text_field(null=True)


class InstrumentSchema(AnswerSchema):
    """A symbol's rules on one venue; null where the venue names none."""

    venue = text_field()
    symbol = text_field()
    price_step = decimal_field(null=True)
    quantity_step = decimal_field(null=True)
    quantity_min = decimal_field(null=True)
    notional_min = decimal_field(null=True)
    taker_fee_bps = decimal_field()


class SymbolSchema(AnswerSchema):
    """A symbol; the outer rules are the most permissive of its venues'."""

    symbol = text_field()
    base_asset = text_field()
    quote_asset = text_field()
    quantity_step = decimal_field(null=True)
    quantity_min = decimal_field(null=True)
    notional_min = decimal_field(null=True)
    venues = list_field(InstrumentSchema)


class SymbolsSchema(AnswerSchema):
    """All symbols of the settings."""

    symbols = list_field(SymbolSchema)
    next_cursor = text_field(null=True)


class HealthSchema(AnswerSchema):
    """The process is alive."""

    status = text_field(enum=["alive"])


class SymbolReadinessSchema(AnswerSchema):
    """Whether one symbol can be quoted."""

    symbol = text_field()
    live_venues = integer_field()
    venues_min = integer_field()
    sources = fields.List(fields.Nested(SourceSchema), metadata={"description": "Where there are too few."})


class ReadinessSchema(AnswerSchema):
    """All symbols can be quoted."""

    status = text_field(enum=["ready"])
    symbols = list_field(SymbolReadinessSchema)


class FaultSchema(AnswerSchema):
    """One thing wrong with a request."""

    parameter = fields.Str(metadata={"description": "Where it stands, of a query or a path."})
    pointer = fields.Str(metadata={"description": "Where it stands in the body (RFC 6901)."})
    code = text_field(enum=list(CODES))
    detail = text_field("For a person.")
    suggested = fields.Str(metadata={"description": "What would do."})


class ProblemSchema(AnswerSchema):
    """A refusal (RFC 9457)."""

    type = text_field("The code as an address.", format="uri-reference")
    title = text_field("The code in words.")
    status = integer_field()
    detail = text_field("For a person.")
    code = text_field("For a program.", enum=list(CODES))
    request_id = text_field("Of the header X-Request-Id.")
    retry = text_field("What may help.", enum=["never", "same_request", "new_quote"])
    execution_state = text_field("Whether the order was executed.", enum=["not_executed", "executed", "unknown"])
    errors = fields.List(
        fields.Nested(FaultSchema), metadata={"description": "All things wrong with the request, at once."}
    )
    execution_id = fields.Str(metadata={"description": "Under which a refused order is on record."})
    fresh_quote = fields.Nested(QuoteSchema, metadata={"description": "What the order would get now."})
    sources = fields.List(fields.Nested(SourceSchema), metadata={"description": "Why there are no books to go by."})
    symbols = fields.List(
        fields.Nested(SymbolReadinessSchema), metadata={"description": "Of /readyz: those that lack live venues."}
    )
