"""API keys over HTTP: what an admin may do with them, the own one among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from aiohttp_apispec import json_schema, match_info_schema, querystring_schema
from marshmallow import ValidationError

from service.api import answers_keys, requests
from service.api.fields import KeyCursor, Moment
from service.api.handlers import API, BODIES, GENERAL, PARAMETERS, WRITES, json_answer, operation
from service.api.middleware import RECORD, needs
from service.api.parsing import also_check, refused
from service.api.render import moment
from service.errors import Fault, RequestError
from service.keys import KeyTerms, status
from service.ledger.protocol import StoredKey

_NOT_THERE = "there is no such key"


def _key_message(key: StoredKey, now: datetime) -> dict[str, Any]:
    """Give what may be shown of a key."""
    moments = ("created_at", "expires_at", "revoked_at", "last_used_at")
    return {
        "id": key.key_id,
        "account": key.account,
        "scopes": key.scopes,
        "status": status(key, now),
        "label": key.label,
        "addresses": key.addresses,
        "limits": {"quote_per_s": key.quote_per_s, "execute_per_s": key.execute_per_s},
        **{name: None if (at := getattr(key, name)) is None else moment(at) for name in moments},
    }


def _in_the_past(request: web.Request, asked: Mapping[str, Any]) -> list[Fault]:
    """Find a key that would be expired before it is used."""
    try:
        expires_at = Moment().deserialize(asked["expires_at"])
    except (KeyError, ValidationError):  # None is asked for, or the schema says what is wrong with it.
        return []
    # The wall clock: a replay's market may be in the past, its keys are not.
    if expires_at > datetime.now(UTC):
        return []
    return [Fault("expires_at", "invalid_parameter", "must be in the future")]


@needs("admin")
@operation(
    "Create key",
    "Make an API key for an account, which is opened if it is not open yet. The answer is the only one that shows the "
    "key; it works at once here, and within a second on every other process of the record.",
    answers_keys.NewKeySchema,
    (*GENERAL, *BODIES, *WRITES),
    201,
)
@json_schema(requests.KeyBody)
@also_check(_in_the_past)
async def post_key(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/keys``."""
    body = request["json"]
    terms = KeyTerms(body.get("expires_at"), body["addresses"], body.get("label"), body.get("limits"))
    request[RECORD].update(for_account=body["account"])
    try:
        text, key = await request.app[API].key_desk.create(body["account"], body["scopes"], terms)
    except ValueError as error:  # All else has been read: its time was over in this very moment.
        raise refused([Fault("/expires_at", "invalid_parameter", str(error), kind="pointer")]) from error
    request[RECORD].update(for_key_id=key.key_id)
    return json_answer({**_key_message(key, datetime.now(UTC)), "key": text}, 201)


@needs("admin")
@operation(
    "List keys",
    "All keys of all accounts, revoked and expired ones too, newest first. No answer holds a key's secret.",
    answers_keys.KeysSchema,
    (*GENERAL, *PARAMETERS[:3], "ledger_unavailable"),
)
@querystring_schema(requests.KeysQuery)
async def get_keys(request: web.Request) -> web.Response:
    """Answer ``GET /v1/admin/keys``."""
    query, now = request["querystring"], datetime.now(UTC)
    keys = list(reversed(await request.app[API].key_desk.list()))
    begins = _after(keys, query.get("cursor"))
    page = keys[begins : begins + query["limit"]]
    more = begins + len(page) < len(keys)
    return json_answer(
        {
            "keys": [_key_message(key, now) for key in page],
            "next_cursor": KeyCursor.write(page[-1].key_id) if more else None,
        }
    )


def _after(keys: Sequence[StoredKey], cursor: str | None) -> int:
    """Give where a page begins; no key ever goes, so the last of the page before is still there."""
    if cursor is None:
        return 0
    for number, key in enumerate(keys, 1):
        if key.key_id == cursor:
            return number
    raise refused([Fault("cursor", "invalid_parameter", KeyCursor.form)])


@needs("admin")
@operation(
    "Revoke key",
    "Take a key out of force: here at once, within a second on every other process of the record, and for ever. One "
    "that is revoked already is answered as it stands. The key that asks may revoke itself.",
    answers_keys.KeySchema,
    (*GENERAL, "unknown_parameter", "not_found", *WRITES),
)
@match_info_schema(requests.KeyPath)
async def delete_key(request: web.Request) -> web.Response:
    """Answer ``DELETE /v1/admin/keys/{id}``."""
    desk, key_id = request.app[API].key_desk, request["match_info"]["id"]
    if not await desk.revoke(key_id):
        raise RequestError("not_found", _NOT_THERE)
    request[RECORD].update(for_key_id=key_id)
    [key] = [key for key in await desk.list() if key.key_id == key_id]
    return json_answer(_key_message(key, datetime.now(UTC)))


@needs("admin")
@operation(
    "Rotate key",
    "Make a key with the same account, scopes, addresses, label and limits, and as long a life, to take another's "
    "place. The other one works for the overlap beside it, and never longer than it would have. A key that is not in "
    "force is not rotated (404). The key that asks may rotate itself.",
    answers_keys.RotatedKeySchema,
    (*GENERAL, *BODIES, "not_found", *WRITES),
    201,
)
@match_info_schema(requests.KeyPath)
@json_schema(requests.RotateBody)
async def post_rotate(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/keys/{id}/rotate``."""
    desk, key_id = request.app[API].key_desk, request["match_info"]["id"]
    rotated = await desk.rotate(key_id, timedelta(milliseconds=request["json"]["overlap_ms"]))
    if rotated is None:
        raise RequestError("not_found", f"{_NOT_THERE} in force")
    request[RECORD].update(for_account=rotated.key.account, for_key_id=key_id)
    now = datetime.now(UTC)
    replaces = _key_message(rotated.replaced, now)
    return json_answer({**_key_message(rotated.key, now), "key": rotated.text, "replaces": replaces}, 201)


KEY_ROUTES = (
    web.post("/v1/admin/keys", post_key),
    web.get("/v1/admin/keys", get_keys),
    web.delete("/v1/admin/keys/{id}", delete_key),
    web.post("/v1/admin/keys/{id}/rotate", post_rotate),
)
