"""The messages to admins about API keys: a key itself stands in the one answer to its making, its digest in none."""

from __future__ import annotations

from service.api.answers import AnswerSchema, integer_field, list_field, names_field, nested_field, text_field
from service.keys import SCOPES


class KeyLimitsSchema(AnswerSchema):
    """Requests a second that a key may make, by class; null: as the settings' `[limits]` say; 0: no limit."""

    quote_per_s = integer_field(null=True)
    execute_per_s = integer_field(null=True)


class KeySchema(AnswerSchema):
    """What may be shown of an API key."""

    id = text_field("The 10 characters after `iob_live_` or `iob_test_`.")
    account = text_field()
    scopes = names_field(f"Of {', '.join(SCOPES)}.")
    status = text_field(enum=["in_force", "expired", "revoked"])
    label = text_field(null=True)
    addresses = names_field("Ranges that it works from; none: from everywhere.")
    limits = nested_field(KeyLimitsSchema)
    created_at = text_field(format="date-time")
    expires_at = text_field("Null: it works until it is revoked.", null=True, format="date-time")
    revoked_at = text_field(null=True, format="date-time")
    last_used_at = text_field("Of other processes up to a minute old.", null=True, format="date-time")


class NewKeySchema(KeySchema):
    """An API key, with the key itself: it is shown this once."""

    key = text_field("To be kept by its owner; nobody can show it again.")


class RotatedKeySchema(NewKeySchema):
    """An API key that takes another's place."""

    replaces = nested_field(KeySchema)


class KeysSchema(AnswerSchema):
    """A page of keys, newest first."""

    keys = list_field(KeySchema)
    next_cursor = text_field(null=True)
