"""Paper accounts over HTTP: what one has, its lines, and what an admin may do with it."""

from __future__ import annotations

from aiohttp import web
from aiohttp_apispec import json_schema, match_info_schema, querystring_schema, response_schema

from service.accounting import MONEY_SCALE
from service.api import answers_record, requests
from service.api.fields import Cursor
from service.api.handlers import API, BODIES, GENERAL, PARAMETERS, WRITES, Api, json_answer, operation
from service.api.middleware import PRINCIPAL, RECORD, needs
from service.api.render_record import account_message, entry_message
from service.desk.accounts import Holdings
from service.errors import RequestError, Unavailable
from service.keys import ACCOUNT


@needs("account")
@operation(
    "Get account",
    "Balances, what open quotes hold of them, and positions with average cost and profit at mid.",
    answers_record.AccountSchema,
    (*GENERAL, "unknown_parameter", "ledger_unavailable"),
)
async def get_account(request: web.Request) -> web.Response:
    """Answer ``GET /v1/account``."""
    api, account = request.app[API], request[PRINCIPAL].account
    return _account(api, account, await api.bank.holdings(account))


def _account(api: Api, account: str, holdings: Holdings, status: int = 200) -> web.Response:
    twice_mids = {}
    for symbol in holdings.positions:
        try:
            twice_mids[symbol] = api.desk.look(symbol, account).book.twice_mid
        except (RequestError, Unavailable):  # Not served any more, or no price that can be believed.
            continue
    return json_answer(account_message(account, holdings, twice_mids), status)


@needs("account")
@operation(
    "List entries",
    "The lines of this account's ledger, newest first; an asset's balance is the sum of its lines.",
    answers_record.EntriesSchema,
    (*GENERAL, *PARAMETERS[:3], "ledger_unavailable"),
)
@querystring_schema(requests.EntriesQuery)
async def get_entries(request: web.Request) -> web.Response:
    """Answer ``GET /v1/account/entries``."""
    api, query = request.app[API], request["querystring"]
    page = await api.ledger.entries(
        request[PRINCIPAL].account, asset=query.get("asset"), after=query.get("cursor"), limit=query["limit"]
    )
    return json_answer(
        {
            "entries": [entry_message(entry) for entry in page.entries],
            "next_cursor": None if page.next_after is None else Cursor.write(page.next_after),
        }
    )


@needs("admin")
@operation(
    "Open account",
    "Open a paper account with the starting balances; one that is open already is answered as it stands (200).",
    answers_record.AccountSchema,
    (*GENERAL, *BODIES, *WRITES),
    201,
)
@response_schema(answers_record.AccountSchema, 200, description="It was open already.")
@json_schema(requests.AccountBody)
async def post_account(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/accounts``."""
    api, account = request.app[API], request["json"]["account"]
    request[RECORD].update(for_account=account)
    opened = await api.bank.open(account)
    return _account(api, account, await api.bank.holdings(account), 201 if opened else 200)


@needs("admin")
@operation(
    "Deposit",
    "Bring an amount of an asset to a paper account.",
    answers_record.AccountSchema,
    (*GENERAL, *BODIES, "not_found", "quantity_too_large", *WRITES),
    201,
)
@match_info_schema(requests.AccountPath)
@json_schema(requests.DepositBody)
async def post_deposit(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/accounts/{account}/deposits``."""
    api, body = request.app[API], request["json"]
    account = _named(request)
    amount = int(body["amount"].scaleb(MONEY_SCALE))
    holdings = await api.bank.deposit(account, {body["asset"]: amount})
    return _account(api, account, holdings, 201)


@needs("admin")
@operation(
    "Reset account",
    "Bring a paper account back to its starting balances, without positions or open quotes. What is on record stays.",
    answers_record.AccountSchema,
    (*GENERAL, "unknown_parameter", "not_found", *WRITES),
)
@match_info_schema(requests.AccountPath)
async def post_reset(request: web.Request) -> web.Response:
    """Answer ``POST /v1/admin/accounts/{account}/reset``."""
    api, account = request.app[API], _named(request)
    return _account(api, account, await api.bank.reset(account))


def _named(request: web.Request) -> str:
    account: str = request["match_info"]["account"]
    if not ACCOUNT.fullmatch(account):
        raise RequestError("not_found", "there is no such account")
    request[RECORD].update(for_account=account)
    return account


ACCOUNT_ROUTES = (
    web.get("/v1/account", get_account),
    web.get("/v1/account/entries", get_entries),
    web.post("/v1/admin/accounts", post_account),
    web.post("/v1/admin/accounts/{account}/deposits", post_deposit),
    web.post("/v1/admin/accounts/{account}/reset", post_reset),
)
