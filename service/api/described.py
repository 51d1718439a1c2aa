"""What the OpenAPI document says besides the schemas: tags, headers, links from answer to request, and examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from service.api.fields import CLIENT_ORDER_ID_PATTERN
from service.api.problems import CODES

EXAMPLES_FILE = Path(__file__).parent / "examples.json"
"""Real answers, which a test recomputes."""

_REQUEST_ID = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}


class Tag(NamedTuple):
    """A group of operations, by what their paths begin with."""

    name: str
    paths: str
    description: str


TAGS = (
    Tag("Quotes", r"(/v1)?/quotes?(/|$)", "What an order would get: indicative, or firm and held."),
    Tag("Executions", r"(/v1)?/execut", "Mock fills at once, on record, and looked up later."),
    Tag("Market data", r"/v1/(book|depth|symbols|venues|stream)", "What the venues show, and how they are doing."),
    Tag("Account", r"/v1/account", "The balances, positions and ledger lines of the key's own account."),
    Tag("Admin", r"/v1/admin/", "Keys, paper accounts, venues and settings, for a key with the scope `admin`."),
    Tag("Service", r"/", "Whether the service lives and is ready."),
)


def tag_of(path: str) -> str:
    """Name the tag of a path."""
    return next(tag.name for tag in TAGS if re.match(tag.paths, path))


PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "X-Request-Id": {
        "in": "header",
        "schema": {"type": "string"},
        "description": "A name for this request, to be found again in its answer and in the log: up to 64 letters, "
        "digits, `.`, `_`, `-`. Anything else is passed over.",
    },
    "traceparent": {
        "in": "header",
        "schema": {"type": "string"},
        "description": "Your place in a trace (W3C Trace Context): its ids are on the log's lines of this request, and "
        "the trace's in the ledger. Anything else is passed over.",
    },
    "Idempotency-Key": {
        "in": "header",
        "schema": {
            "type": "string",
            "pattern": f'^("{CLIENT_ORDER_ID_PATTERN[1:-1]}"|{CLIENT_ORDER_ID_PATTERN[1:-1]})$',
        },
        "description": "The `client_order_id`, in place of the body's. Both together must be the same.",
    },
}
HEADERS: Mapping[str, Mapping[str, Any]] = {
    "X-Request-Id": {
        "description": "The request's own, if it was a sane one, else a new one.",
        "required": True,
        "schema": _REQUEST_ID,
    },
    "RateLimit": {
        "description": "How many requests of the class are left (`r`), and in how many seconds there are more (`t`).",
        "schema": {"type": "string", "pattern": '^"[a-z_]+";r=[0-9]+;t=[0-9]+$'},
        "example": '"quote";r=399;t=1',
    },
    "RateLimit-Policy": {
        "description": "How many requests of the class (`q`) may come within so many seconds (`w`).",
        "schema": {"type": "string", "pattern": '^"[a-z_]+";q=[0-9]+;w=[0-9]+$'},
        "example": '"quote";q=400;w=2',
    },
    "Retry-After": {
        "description": "Seconds after which it is worth trying again.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "WWW-Authenticate": {
        "description": "How a key may be sent.",
        "required": True,
        "schema": {"type": "string"},
        "example": "Bearer",
    },
    "Idempotent-Replayed": {
        "description": "There where the answer was on record before.",
        "schema": {"type": "string", "enum": ["true"]},
    },
}
_BEFORE_LIMITS = frozenset({401, 403, 413, 415})
"""Of refusals that come before requests are counted."""


def headers_of(operation_id: str, status: int, description: str, *, keyed: bool) -> dict[str, Any]:
    """
    Give the headers of one answer, as references.

    Args:
        description: Names the codes that the answer may have.
        keyed: The operation needs a key.
    """
    names = ["X-Request-Id"]
    if keyed and status not in _BEFORE_LIMITS:
        names += ["RateLimit", "RateLimit-Policy"]
    if any(f"`{code}`" in description for code, meaning in CODES.items() if _to_be_tried_again(meaning.status, code)):
        names.append("Retry-After")
    if status == 401:
        names.append("WWW-Authenticate")
    if operation_id == "execute_order" and status == 200:
        names.append("Idempotent-Replayed")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _to_be_tried_again(status: int, code: str) -> bool:
    return status == 429 or CODES[code].retry_after_s is not None


LINKS: Mapping[tuple[str, int], Mapping[str, Mapping[str, Any]]] = {
    ("get_quote", 200): {
        "execute": {
            "operationId": "execute_order",
            "description": "Fill what was quoted; `side` is needed where the quote has both.",
            "requestBody": {
                "quote_id": "$response.body#/quote_id",
                "client_order_id": "$response.header.X-Request-Id",
            },
        }
    },
    ("give_firm_quote", 201): {
        "execute": {
            "operationId": "execute_order",
            "description": "Fill it at its price.",
            "requestBody": {
                "quote_id": "$response.body#/quote_id",
                "client_order_id": "$response.header.X-Request-Id",
            },
        },
        "get": {"operationId": "get_firm_quote", "parameters": {"id": "$response.body#/quote_id"}},
        "let_go": {"operationId": "let_firm_quote_go", "parameters": {"id": "$response.body#/quote_id"}},
    },
    ("execute_order", 201): {
        "get": {"operationId": "get_execution", "parameters": {"id": "$response.body#/execution_id"}},
        "get_by_client_order_id": {
            "operationId": "get_execution_by_client_order_id",
            "parameters": {"client_order_id": "$response.body#/client_order_id"},
        },
    },
    ("list_executions", 200): {
        "next_page": {"operationId": "list_executions", "parameters": {"cursor": "$response.body#/next_cursor"}},
    },
    ("list_entries", 200): {
        "next_page": {"operationId": "list_entries", "parameters": {"cursor": "$response.body#/next_cursor"}},
    },
    ("create_key", 201): {
        "revoke": {"operationId": "revoke_key", "parameters": {"id": "$response.body#/id"}},
        "rotate": {"operationId": "rotate_key", "parameters": {"id": "$response.body#/id"}},
    },
    ("open_account", 201): {
        "deposit": {"operationId": "deposit", "parameters": {"account": "$response.body#/account"}},
        "reset": {"operationId": "reset_account", "parameters": {"account": "$response.body#/account"}},
    },
}
"""From an answer, by operation and status, to what it gives the words for."""


class Example(NamedTuple):
    """
    A request and its answer.

    Args:
        request: Its ``query``, ``path`` and ``body``, as far as it has them.
    """

    operation: str
    name: str
    summary: str
    request: Mapping[str, Any]
    status: int
    answer: Any


@cache
def examples() -> tuple[Example, ...]:
    """Read the examples."""
    return tuple(Example(**entry) for entry in orjson.loads(EXAMPLES_FILE.read_bytes()))
