"""The messages that clients are sent, as aiohttp-apispec's decorators take them.

Every amount is a decimal string.
"""

from __future__ import annotations

from typing import Any

from marshmallow import INCLUDE, Schema, fields, validate


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


class LiquiditySchema(AnswerSchema):
    """What is left out of the sides that were asked for, in the base asset, since it has been taken."""

    taken = _decimal("By mock fills that the venues have not replaced.")
    held = _decimal("By open firm quotes.")


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
    liquidity = _nested(LiquiditySchema)
    sources = _list(SourceSchema)
    warnings = _list(WarningSchema)


class FirmQuoteSchema(QuoteSchema):
    """A firm quote; `sources` and prices are those of the moment in which it was given."""

    kind = _text(enum=["firm"])
    status = _text(enum=["open", "used", "expired", "released", "void"])
    execution_id = _text("Of the fill that used it.", null=True)
    held = fields.Dict(keys=fields.Str(), values=fields.Str(), required=True)


class SurvivalSchema(AnswerSchema):
    """How much of a fill was still there; null where nothing could be seen."""

    after_ms = _integer()
    share = _decimal(null=True)


class MarkoutSchema(AnswerSchema):
    """How far mid has moved since, positive the client's way; null where nothing could be seen."""

    after_s = _integer()
    bps = _decimal(null=True)


class RealismSchema(AnswerSchema):
    """What the real books showed after a mock fill; pending for the first minute."""

    pending = _flag()
    survival = _list(SurvivalSchema)
    markout_bps = _list(MarkoutSchema)


class BalanceChangeSchema(AnswerSchema):
    """A balance around a fill."""

    before = _decimal()
    after = _decimal()


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
    balances = fields.Dict(
        keys=fields.Str(), values=fields.Nested(BalanceChangeSchema), metadata={"description": "By asset; of a fill."}
    )
    realism = fields.Nested(RealismSchema, metadata={"description": "Where a fill is looked up later."})
    executed_at = _text(format="date-time")


class ExecutionsSchema(AnswerSchema):
    """A page, newest first."""

    executions = _list(ExecutionSchema)
    next_cursor = _text(null=True)


class BalanceSchema(AnswerSchema):
    """What an account has of an asset."""

    available = _decimal()
    held = _decimal("By open firm quotes.")
    total = _decimal()


class PositionSchema(AnswerSchema):
    """What was traded of a symbol; null where there is no price."""

    symbol = _text()
    quantity = _decimal("Negative where more was sold than bought.")
    average_cost = _decimal("Fees and markup included.", null=True)
    realised_pnl = _decimal()
    unrealised_pnl = _decimal("At mid.", null=True)
    mid = _decimal(null=True)


class AccountSchema(AnswerSchema):
    """A paper account."""

    account = _text()
    balances = fields.Dict(keys=fields.Str(), values=fields.Nested(BalanceSchema), required=True)
    positions = _list(PositionSchema)


class EntrySchema(AnswerSchema):
    """A line of an account's ledger."""

    entry_id = _text()
    kind = _text(enum=["execution", "account", "deposit", "reset"])
    ref = _text("Of the execution, where it is one.")
    asset = _text()
    amount = _decimal()
    at = _text(format="date-time")


class EntriesSchema(AnswerSchema):
    """A page, newest first."""

    entries = _list(EntrySchema)
    next_cursor = _text(null=True)


class LevelSchema(AnswerSchema):
    """A venue's level."""

    price = _decimal()
    net_price = _decimal("With the venue's taker fee.")
    quantity = _decimal("As the venue shows it.")
    taken = _decimal("What mock fills and holds have taken of the quantity, and the venue has not replaced.")
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
