"""Every status and code of the contract, over real HTTP, each for its own reason."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from service.api.guard import GUARD
from service.api.handlers import API
from service.api.limits import LimitRules
from service.api.problems import CODES
from service.desk import desk as desk_module
from service.errors import OutcomeUnknown, Unavailable
from service.keys import KeyTerms

BUY = {"symbol": "BTC/USDT", "side": "buy", "quantity": "0.2", "client_order_id": "a"}


async def quote_id(house, query="symbol=BTC/USDT&quantity=0.2&side=buy"):
    return (await house.quote(query)).json["quote_id"]


# Each case asks until it is refused, and gives the refusal.


async def body_too_large(house):
    return await house.ask("POST", "/execute", raw=b'{"a":"' + b"x" * 70_000 + b'"}')


async def body_too_large_in_chunks(house):
    async def chunks():
        for _ in range(80):
            yield b"x" * 1_024

    return await house.ask("POST", "/execute", raw=chunks())


async def unsupported_media_type(house):
    return await house.ask("POST", "/execute", raw=b"{}", headers={"Content-Type": "text/plain"})


async def unsupported_charset(house):
    return await house.ask("POST", "/execute", raw=b"{}", headers={"Content-Type": "application/json; charset=latin-1"})


async def unsupported_encoding(house):
    return await house.ask("POST", "/execute", raw=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})


async def method_not_allowed(house):
    return await house.ask("DELETE", "/quote")


async def not_found(house):
    return await house.get("/v1/nowhere?symbol=BTC/USDT")


async def unauthenticated(house):
    return await house.quote(key=None)


async def insufficient_scope(house):
    return await house.quote(key="account")


async def address_not_allowed(house):
    terms = KeyTerms(addresses=("192.0.2.0/24",))
    house.keys["elsewhere"], stored = house.ring.make("alice", ("quote",), datetime(2026, 11, 1, tzinfo=UTC), terms)
    house.ring.add(stored)
    return await house.quote(key="elsewhere")


async def rate_limited(house):
    house.app[GUARD].serve(LimitRules(quote_per_s=1, execute_per_s=0, failed_keys_per_s=0), ())
    return [await house.quote() for _ in range(9)][-1]


async def malformed_request(house):
    return await house.wire(b"GET /quote HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n")


async def malformed_json(house):
    return await house.ask("POST", "/execute", raw=b"{")


async def invalid_parameter(house):
    return await house.quote("symbol=BTC/USDT&quantity=1e3")


async def unknown_parameter(house):
    return await house.quote("symbol=BTC/USDT&quantity=1&sum=3")


async def unknown_parameter_on_post(house):
    return await house.ask("POST", "/execute?dry_run=true", body=BUY)


async def unknown_field(house):
    return await house.execute({**BUY, "sum": "3"})


async def duplicate_field(house):
    return await house.ask("POST", "/execute", raw=json.dumps(BUY).encode()[:-1] + b',"side":"sell"}')


async def duplicate_parameter(house):
    return await house.quote("symbol=BTC/USDT&quantity=1&quantity=2")


async def missing_parameter(house):
    return await house.quote("quantity=1")


async def missing_field(house):
    return await house.buy(quantity=None)


async def missing_side_of_a_quote_with_both(house):
    both = await quote_id(house, "symbol=BTC/USDT&quantity=0.2")
    return await house.execute({"quote_id": both, "client_order_id": "a"})


async def conflicting_parameters(house):
    return await house.quote("symbol=BTC/USDT&quantity=1&limit_price=5")


async def conflicting_fields(house):
    return await house.buy(quote_id=await quote_id(house))


async def side_that_was_not_quoted(house):
    return await house.execute({"quote_id": await quote_id(house), "side": "sell", "client_order_id": "a"})


async def unknown_symbol(house):
    return await house.quote("symbol=BTC/EUR&quantity=1")


async def unknown_symbol_of_an_order(house):
    return await house.buy(symbol="DOGE/USDT")


async def unknown_quote(house):
    return await house.execute({"quote_id": "q2.forged.id", "side": "buy", "client_order_id": "a"})


async def quote_of_another_account(house):
    body = {"quote_id": await quote_id(house), "client_order_id": "a"}
    return await house.execute(body, key="bob")


async def firm_quote_of_another_account(house):
    given = (await house.firm()).json
    return await house.get(f"/v1/quotes/{given['quote_id']}", key="bob")


async def firm_quote_let_go_by_another_account(house):
    given = (await house.firm()).json
    return await house.ask("DELETE", f"/v1/quotes/{given['quote_id']}", key="bob")


async def firm_quote_executed_by_another_account(house):
    given = (await house.firm()).json
    return await house.execute({"quote_id": given["quote_id"], "client_order_id": "a"}, key="bob")


async def no_such_account_to_fund(house):
    body = {"asset": "BTC", "amount": "1"}
    return await house.ask("POST", "/v1/admin/accounts/nobody/deposits", body=body, key="admin")


async def no_such_account_to_reset(house):
    return await house.ask("POST", "/v1/admin/accounts/nobody/reset", key="admin")


async def unknown_execution(house):
    return await house.get("/v1/executions/" + "0" * 32)


async def execution_of_another_account(house):
    execution_id = (await house.buy()).json["execution_id"]
    return await house.get(f"/v1/executions/{execution_id}", key="bob")


async def unknown_client_order_id(house):
    return await house.get("/v1/executions/by-client-id/nothing")


async def client_order_id_reused(house):
    await house.buy()
    return await house.buy(quantity="0.3")


async def quantity_step(house):
    return await house.quote("symbol=BTC/USDT&quantity=1.000000001")


async def quantity_step_of_an_order(house):
    return await house.buy(quantity="1.000000001")


async def quantity_too_small(house):
    return await house.quote("symbol=ETH/USDT&quantity=0.00005&venues=kraken")


async def notional_too_small(house):
    return await house.quote("symbol=ETH/USDT&quantity=0.001&venues=kraken")


async def notional_too_small_of_a_total(house):
    return await house.buy(symbol="BTC/USDT", quantity=None, total="0.00000001")


DEEP = {("kraken", "BTC/USDT"): "99999999 63999 .\n. 64001 99999999"}


async def quantity_too_large(house):
    house.show(DEEP)
    return await house.buy(quantity="99999999")


async def quantity_too_large_of_a_dry_run(house):
    house.show(DEEP)
    return await house.buy(quantity="99999999", dry_run=True)


async def quantity_too_large_of_a_firm_quote(house):
    house.show(DEEP)
    return await house.firm(quantity="99999999")


async def quantity_too_large_of_a_deposit(house):
    await house.ask("POST", "/v1/admin/accounts", body={"account": "carol"}, key="admin")
    body = {"asset": "BTC", "amount": "99999999999"}
    return await house.ask("POST", "/v1/admin/accounts/carol/deposits", body=body, key="admin")


async def too_many_open_quotes(house):
    for _ in range(20):
        assert 201 == (await house.firm(quantity="0.001")).status
    return await house.firm(quantity="0.001")


async def quote_void(house):
    given = (await house.firm()).json
    await house.ask("DELETE", f"/v1/quotes/{given['quote_id']}")
    return await house.execute({"quote_id": given["quote_id"], "client_order_id": "a"})


async def firm_quote_expired(house):
    given = (await house.firm()).json
    house.clock.advance(3_000)
    return await house.execute({"quote_id": given["quote_id"], "client_order_id": "a"})


async def firm_quote_used(house):
    given = (await house.firm()).json
    await house.execute({"quote_id": given["quote_id"], "client_order_id": "first"})
    return await house.execute({"quote_id": given["quote_id"], "client_order_id": "second"})


async def quote_expired(house):
    body = {"quote_id": await quote_id(house), "client_order_id": "a"}
    house.clock.advance(3_000)
    return await house.execute(body)


async def order_expired(house):
    return await house.buy(valid_until="2026-10-31T23:59:59.999Z")


async def quote_used(house):
    used = await quote_id(house)
    await house.execute({"quote_id": used, "client_order_id": "first"})
    return await house.execute({"quote_id": used, "client_order_id": "second"})


DEARER = {
    ("kraken", "BTC/USDT"): """
        .      64130     2
        0.3    64100     .
    """,
    ("coinbase", "BTC/USDT"): """
        .      64135.55  3
        0.4    64101.5   .
    """,
    ("okx", "BTC/USDT"): """
        .      64140     5
        0.05   64099     .
    """,
}


async def price_moved(house):
    body = {"quote_id": await quote_id(house), "client_order_id": "a"}
    house.show(DEARER)
    return await house.execute(body)


async def limit_not_met(house):
    return await house.buy(limit_price="1")


async def slippage_exceeded(house):
    return await house.buy(quantity="9", slippage_bps_max="0.1")


async def insufficient_liquidity(house):
    return await house.buy(quantity="5000")


async def insufficient_balance(house):
    house.show(DEEP)
    return await house.buy(quantity="2000")


async def insufficient_balance_for_a_firm_quote(house):
    house.show(DEEP)
    return await house.firm(quantity="2000")


async def risk_limit(house):
    house.show(DEEP)
    return await house.buy(quantity="1000.00001")


async def risk_limit_of_a_firm_quote(house):
    house.show(DEEP)
    return await house.firm(quantity="1000.00001")


async def execution_in_progress(house):
    gate = house.ledger.gates["transact"] = asyncio.Event()
    first = asyncio.create_task(house.buy())
    await house.ledger.waiting.wait()
    second = await house.buy()
    gate.set()
    assert 201 == (await first).status
    return second


async def no_fresh_market_data(house):
    house.clock.advance(5_001)
    return await house.quote()


async def no_fresh_market_data_for_readiness(house):
    house.clock.advance(5_001)
    return await house.get("/readyz", key=None)


async def venues_disagree(house):
    house.show({("kraken", "ETH/USDT"): LOW, ("coinbase", "ETH/USDT"): HIGH})
    return await house.quote("symbol=ETH/USDT&quantity=1")


LOW, HIGH = "1 2500 .\n. 2501 1", "1 2540 .\n. 2541 1"


async def too_few_venues_for_a_firm_quote(house):
    return await house.firm(venues="kraken")


async def overloaded(house):
    house.ledger.trouble["transact"] = Unavailable("overloaded", "too many orders wait")
    return await house.buy()


async def ledger_unavailable(house):
    house.ledger.trouble["transact"] = Unavailable("ledger_unavailable", "the disk is full")
    return await house.buy()


async def shutting_down(house):
    house.desk.close()
    return await house.buy()


async def shutting_down_is_not_ready(house):
    house.desk.close()
    return await house.get("/readyz", key=None)


async def outcome_unknown(house):
    house.ledger.trouble["transact"] = OutcomeUnknown("outcome_unknown", "the record did not answer in time")
    return await house.buy()


async def internal_error(house):
    house.ledger.trouble["transact"] = RuntimeError("secret detail")
    return await house.buy()


async def invalid_settings(house):
    (house.folder / "settings.toml").write_text("[market]\nsymbols = []\n")
    return await house.ask("POST", "/v1/admin/reload", key="admin")


async def venue_not_found(house):
    return await house.ask("POST", "/v1/admin/venues/krakn/disable", key="admin")


HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def page_of_another_origin(house):
    return await house.get("/v1/stream", headers={**HANDSHAKE, "Origin": "https://evil.example"})


async def too_many_streams(house):
    async with AsyncExitStack() as stack:
        for _ in range(house.app[API].switching.settings.service.streams_per_key):
            headers = {"X-API-Key": house.keys["all"]}
            await stack.enter_async_context(house.client.ws_connect("/v1/stream", headers=headers))
        return await house.get("/v1/stream", headers=HANDSHAKE)


CASES = {
    invalid_settings: "invalid_settings",
    venue_not_found: "not_found",
    body_too_large: "body_too_large",
    body_too_large_in_chunks: "body_too_large",
    unsupported_media_type: "unsupported_media_type",
    unsupported_charset: "unsupported_media_type",
    unsupported_encoding: "unsupported_media_type",
    method_not_allowed: "method_not_allowed",
    not_found: "not_found",
    unauthenticated: "unauthenticated",
    insufficient_scope: "insufficient_scope",
    address_not_allowed: "address_not_allowed",
    rate_limited: "rate_limited",
    page_of_another_origin: "origin_not_allowed",
    too_many_streams: "rate_limited",
    malformed_request: "malformed_request",
    malformed_json: "malformed_json",
    invalid_parameter: "invalid_parameter",
    unknown_parameter: "unknown_parameter",
    unknown_parameter_on_post: "unknown_parameter",
    unknown_field: "unknown_field",
    duplicate_field: "duplicate_field",
    duplicate_parameter: "duplicate_field",
    missing_parameter: "missing_parameter",
    missing_field: "missing_parameter",
    missing_side_of_a_quote_with_both: "missing_parameter",
    conflicting_parameters: "conflicting_parameters",
    conflicting_fields: "conflicting_parameters",
    side_that_was_not_quoted: "conflicting_parameters",
    unknown_symbol: "unknown_symbol",
    unknown_symbol_of_an_order: "unknown_symbol",
    unknown_quote: "unknown_quote",
    quote_of_another_account: "unknown_quote",
    firm_quote_of_another_account: "unknown_quote",
    firm_quote_let_go_by_another_account: "unknown_quote",
    firm_quote_executed_by_another_account: "unknown_quote",
    no_such_account_to_fund: "not_found",
    no_such_account_to_reset: "not_found",
    unknown_execution: "unknown_execution",
    execution_of_another_account: "unknown_execution",
    unknown_client_order_id: "unknown_execution",
    client_order_id_reused: "client_order_id_reused",
    quantity_step: "quantity_step",
    quantity_step_of_an_order: "quantity_step",
    quantity_too_small: "quantity_too_small",
    notional_too_small: "notional_too_small",
    notional_too_small_of_a_total: "notional_too_small",
    quantity_too_large: "quantity_too_large",
    quantity_too_large_of_a_dry_run: "quantity_too_large",
    quantity_too_large_of_a_firm_quote: "quantity_too_large",
    quantity_too_large_of_a_deposit: "quantity_too_large",
    too_many_open_quotes: "too_many_open_quotes",
    quote_void: "quote_void",
    firm_quote_expired: "quote_expired",
    firm_quote_used: "quote_used",
    quote_expired: "quote_expired",
    order_expired: "order_expired",
    quote_used: "quote_used",
    price_moved: "price_moved",
    limit_not_met: "limit_not_met",
    slippage_exceeded: "slippage_exceeded",
    insufficient_liquidity: "insufficient_liquidity",
    insufficient_balance: "insufficient_balance",
    insufficient_balance_for_a_firm_quote: "insufficient_balance",
    risk_limit: "risk_limit",
    risk_limit_of_a_firm_quote: "risk_limit",
    execution_in_progress: "execution_in_progress",
    no_fresh_market_data: "no_fresh_market_data",
    no_fresh_market_data_for_readiness: "no_fresh_market_data",
    too_few_venues_for_a_firm_quote: "no_fresh_market_data",
    venues_disagree: "venues_disagree",
    overloaded: "overloaded",
    ledger_unavailable: "ledger_unavailable",
    shutting_down: "shutting_down",
    shutting_down_is_not_ready: "shutting_down",
    outcome_unknown: "outcome_unknown",
    internal_error: "internal_error",
}


CAREFUL = {"risk": {"position_max": {"BTC": 1000}}}


def asked(*cases):
    """Give refusals with the settings under which each comes about."""
    rows = [(CAREFUL if CASES[case] == "risk_limit" else {}, case) for case in cases]
    names = [case.__name__ for case in cases]
    return pytest.mark.parametrize(("house", "case"), rows, ids=names, indirect=["house"])


@asked(*CASES)
async def test_refusal_says_its_code_and_what_to_do(house, monkeypatch, case):
    """
    Each refusal has the contract's code and status, and a body that says whether to retry and what happened.
    """
    monkeypatch.setattr(desk_module, "IN_PROGRESS_WAIT_S", 0.05)
    reply, code = await case(house), CASES[case]

    assert (CODES[code].status, code) == (reply.status, reply.code)


def test_every_code_has_a_case():
    """
    A code that nothing can produce is not in the contract.
    """
    assert set(CODES) == set(CASES.values())


async def test_internal_error_tells_nothing_and_logs_everything(house):
    """
    A client learns that it is our fault; the traceback is in the log, without what the variables held.
    """
    reply = await internal_error(house)

    assert b"secret detail" not in reply.body
    [line] = house.lines("request.failed")
    assert reply.json["request_id"] == line["request_id"]
    assert "RuntimeError" in json.dumps(line)
    assert house.keys["all"] not in json.dumps(line)


async def test_refusals_for_market_data_name_every_venue_and_reason(house):
    """
    Whoever is refused for want of prices sees which venue fails, and why.
    """
    sources = (await no_fresh_market_data(house)).json["sources"]

    assert [("kraken", "stale", "stale"), ("coinbase", "stale", "stale"), ("okx", "stale", "stale")] == [
        (source["venue"], source["state"], source["reason"]) for source in sources
    ]
    assert not any(source["used"] for source in sources)


@asked(quote_expired, quote_used, price_moved, quote_void, firm_quote_expired, firm_quote_used)
async def test_refusal_about_a_quote_carries_a_fresh_one(house, case):
    """
    A retry takes one round trip: the new quote is executable as it stands.
    """
    fresh = (await case(house)).json["fresh_quote"]
    reply = await house.execute({"quote_id": fresh["quote_id"], "client_order_id": "again"})

    assert (201, fresh["buy"]["total"]) == (reply.status, reply.json["total"])


@asked(price_moved, limit_not_met, slippage_exceeded, insufficient_liquidity, insufficient_balance, risk_limit)
async def test_evaluated_refusal_is_recorded_and_given_again(house, case):
    """
    A refused order is on record: the same id gets the same status, code and execution, though the market moves on.
    """
    first = await case(house)
    house.show()
    again = await case(house) if case is not price_moved else None
    execution = await house.get(f"/v1/executions/{first.json['execution_id']}")

    assert ("rejected", first.code) == (execution.json["status"], execution.json["reject_code"])
    assert "0" == execution.json["filled_quantity"] == execution.json["total"]
    if again is not None:
        assert (first.status, first.code, first.json["execution_id"]) == (
            again.status,
            again.code,
            again.json["execution_id"],
        )


@asked(
    unknown_field,
    order_expired,
    unknown_symbol_of_an_order,
    unknown_quote,
    quantity_step_of_an_order,
    notional_too_small_of_a_total,
    quantity_too_large,
    quote_void,
    firm_quote_expired,
    overloaded,
    ledger_unavailable,
)
async def test_other_refusals_do_not_use_up_the_id(house, case):
    """
    What was never evaluated leaves the client_order_id free.
    """
    await case(house)
    house.ledger.trouble.clear()
    reply = await house.buy()

    assert (201, "a") == (reply.status, reply.json["client_order_id"])


# The order of checks: of two faults, the earlier one in the contract is answered.


@pytest.mark.parametrize(
    ("method", "path", "options", "code"),
    [
        ("POST", "/nothing", {"key": None}, "not_found"),
        ("PUT", "/execute", {"key": None}, "method_not_allowed"),
        ("POST", "/execute", {"key": None, "raw": b"x" * 70_000}, "body_too_large"),
        ("POST", "/execute", {"key": None, "raw": b"{", "headers": {"Content-Type": "a/b"}}, "unsupported_media_type"),
        ("POST", "/execute", {"key": None, "raw": b"{"}, "unauthenticated"),
        ("POST", "/execute", {"key": "quote", "raw": b"{"}, "insufficient_scope"),
        ("GET", "/quote?symbol=NO/NO&quantity=1e3", {}, "invalid_parameter"),
        ("GET", "/quote?symbol=NO/NO&quantity=1", {}, "unknown_symbol"),
    ],
)
async def test_earlier_check_is_answered_first(house, method, path, options, code):
    """
    Faults are answered in the contract's order, so a client can rely on what a code implies.
    """
    house.clock.advance(60_000)
    assert code == (await house.ask(method, path, **options)).code


async def test_known_order_is_answered_before_anything_is_checked_again(house):
    """
    A retry gets its execution though the quote has expired, the market is gone and the service is stopping.
    """
    body = {"quote_id": await quote_id(house), "client_order_id": "a"}
    first = await house.execute(body)
    house.clock.advance(60_000)
    house.desk.close()
    again = await house.execute(body)

    assert (201, 200, first.body) == (first.status, again.status, again.body)
    assert "true" == again.headers["Idempotent-Replayed"]
