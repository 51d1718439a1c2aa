"""The frames of a stream, as the OpenAPI document describes them."""

from __future__ import annotations

from marshmallow import fields

from service.api.answers import AnswerSchema


class StreamFrameSchema(AnswerSchema):
    """A frame of a stream: an answer to a message has ``op`` or ``error``, a subscription's value ``channel``."""

    op = fields.Str(metadata={"description": "`authenticated`, `subscribed`, `unsubscribed` or `pong`."})
    channel = fields.Str(metadata={"description": "`book`, `quote`, `venues` or `executions`."})
    symbol = fields.Str()
    id = fields.Str(metadata={"description": "The client's own name for the subscription."})
    sequence = fields.Int(metadata={"description": "Counts the subscription's values from 1; a gap was skipped."})
    data = fields.Dict(metadata={"description": "The message that the channel's route answers."})
    error = fields.Nested("ProblemSchema", metadata={"description": "Why there is none."})
