"""The messages to clients about what is on record: executions, accounts, and the lines of their ledger."""

from __future__ import annotations

from marshmallow import fields

from service.api.answers import (
    AnswerSchema,
    HopSchema,
    decimal_field,
    flag_field,
    integer_field,
    list_field,
    nested_field,
    text_field,
)


class SurvivalSchema(AnswerSchema):
    """How much of a fill was still there; null where nothing could be seen."""

    after_ms = integer_field()
    share = decimal_field(null=True)


class MarkoutSchema(AnswerSchema):
    """How far mid has moved since, positive the client's way; null where nothing could be seen."""

    after_s = integer_field()
    bps = decimal_field(null=True)


class RealismSchema(AnswerSchema):
    """What the real books showed after a mock fill; pending for the first minute."""

    pending = flag_field()
    survival = list_field(SurvivalSchema)
    markout_bps = list_field(MarkoutSchema)


class BalanceChangeSchema(AnswerSchema):
    """A balance around a fill."""

    before = decimal_field()
    after = decimal_field()


class FillSchema(AnswerSchema):
    """What one level of one venue gave."""

    venue = text_field()
    symbol = text_field()
    price = decimal_field()
    quantity = decimal_field()
    subtotal = decimal_field()
    fee = decimal_field()
    markup = decimal_field()
    book_age_ms = integer_field()
    sequence = integer_field(null=True)
    conversion = nested_field(HopSchema, null=True)


class ExecutionSchema(AnswerSchema):
    """The recorded outcome of one order; `execution_id` is null for a dry run."""

    execution_id = text_field(null=True)
    status = text_field(enum=["filled", "partially_filled", "rejected"])
    reject_code = text_field(null=True)
    client_order_id = text_field()
    quote_id = text_field(null=True)
    market_data = text_field(enum=["live", "simulated", "replay"])
    execution = text_field(enum=["mock"])
    dry_run = flag_field()
    symbol = text_field()
    side = text_field(enum=["buy", "sell"])
    time_in_force = text_field(enum=["fok", "ioc"])
    requested_quantity = decimal_field("Null where a total was asked for.", null=True)
    requested_total = decimal_field("Null where a quantity was asked for.", null=True)
    filled_quantity = decimal_field()
    unfilled_quantity = decimal_field("Null where it cannot be told: a total was asked for and not reached.", null=True)
    average_price = decimal_field(null=True)
    all_in_price = decimal_field(null=True)
    subtotal = decimal_field()
    fees = decimal_field()
    markup = decimal_field()
    total = decimal_field()
    fills = list_field(FillSchema)
    versus_quote_bps = decimal_field("Positive is worse than quoted.", null=True)
    balances = fields.Dict(
        keys=fields.Str(), values=fields.Nested(BalanceChangeSchema), metadata={"description": "By asset; of a fill."}
    )
    realism = fields.Nested(RealismSchema, metadata={"description": "Where a fill is looked up later."})
    executed_at = text_field(format="date-time")


class ExecutionsSchema(AnswerSchema):
    """A page, newest first."""

    executions = list_field(ExecutionSchema)
    next_cursor = text_field(null=True)


class BalanceSchema(AnswerSchema):
    """What an account has of an asset."""

    available = decimal_field()
    held = decimal_field("By open firm quotes.")
    total = decimal_field()


class PositionSchema(AnswerSchema):
    """What was traded of a symbol; null where there is no price."""

    symbol = text_field()
    quantity = decimal_field("Negative where more was sold than bought.")
    average_cost = decimal_field("Fees and markup included.", null=True)
    realised_pnl = decimal_field()
    unrealised_pnl = decimal_field("At mid.", null=True)
    mid = decimal_field(null=True)


class AccountSchema(AnswerSchema):
    """A paper account."""

    account = text_field()
    balances = fields.Dict(keys=fields.Str(), values=fields.Nested(BalanceSchema), required=True)
    positions = list_field(PositionSchema)


class EntrySchema(AnswerSchema):
    """A line of an account's ledger."""

    entry_id = text_field()
    kind = text_field(enum=["execution", "account", "deposit", "reset"])
    ref = text_field("Of the execution, where it is one.")
    asset = text_field()
    amount = decimal_field()
    at = text_field(format="date-time")


class EntriesSchema(AnswerSchema):
    """A page, newest first."""

    entries = list_field(EntrySchema)
    next_cursor = text_field(null=True)
