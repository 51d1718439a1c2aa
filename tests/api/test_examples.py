"""The document's examples are what the service answers on the simulator's books, asked again by each test run.

Nothing in them is made up: the market has a seed, the clock is held, requests name themselves, and what is random in a
running service, ids and nonces, comes from ``secrets``, which counts here.  Two things are masked, both of API keys:
their moments are the wall clock's, so the market's stand in their place, and of a new key only its id is shown.
``pytest tests/api/test_examples.py --rewrite-examples`` writes the file anew.
"""

from __future__ import annotations

import json
import secrets
from decimal import Decimal
from hashlib import sha256
from itertools import count
from urllib.parse import quote as escaped
from urllib.parse import urlencode

import pytest

from exchanges.board import Board
from exchanges.book import Ladder, Level, VenueBook
from exchanges.instruments import Instrument
from exchanges.simulator import VENUES, SimulatedMarket
from service.api.described import EXAMPLES_FILE
from service.api.render import moment
from service.app import create_app
from service.keys import KeyRing, quote_key
from service.ledger.opening import starting_balances
from service.ledger.sqlite import SqliteLedger
from service.settings import Settings
from tests.api.conftest import PEPPER, House, Server, document, hold_to
from tests.standing import STALE_AFTER_MS, StandingFeeds

SEED, DEPTH, SYMBOL = 7, 2, "BTC/USDT"
WIDTH = 140
AGE_MS = {"kraken": 120, "okx": 40}
SETTINGS = {
    "service": {"mode": "simulated"},
    "market": {"symbols": [SYMBOL]},
    "pricing": {"markup_bps": 2},
    "accounts": {"starting_balances": {"USDT": "100000", "BTC": "2"}},
    "venues": {venue: {"exchange": venue, "base_url": "http://127.0.0.1:1"} for venue in AGE_MS},
}


class Shop:
    """The service on two simulated venues' books, and what it was asked and answered."""

    def __init__(self, house, clock):
        self.house, self.clock = house, clock
        self.examples = []
        self.replies = {}
        self.market_ms = 60_000

    def show(self, later_ms=0):
        """Move the clock, and show the books of then."""
        self.clock.advance(later_ms)
        self.market_ms += later_ms
        now_ns = self.clock.now_ns()
        for number, (venue, age_ms) in enumerate(AGE_MS.items()):
            drawn = SimulatedMarket(SEED).book(venue, SYMBOL, self.market_ms - age_ms, DEPTH)
            bids, asks = (
                Ladder.of([Level(level.price, level.quantity) for level in side]) for side in (drawn.bids, drawn.asks)
            )
            book = VenueBook(venue, SYMBOL, bids, asks, now_ns - age_ms * 1_000_000, self.market_ms + number)
            self.house.board.publish(book, now_ns)

    async def ask(self, operation, name, summary, *, key="admin", path=None, query=None, body=None):
        """Ask an operation by its id, and keep question and answer as an example."""
        [(template, method)] = [
            (template, method)
            for template, item in document()["paths"].items()
            for method, described in item.items()
            if described["operationId"] == operation
        ]
        address = template.format(**{part: escaped(text, safe="") for part, text in (path or {}).items()})
        if query is not None:
            address += "?" + urlencode(query)
        headers = {"X-Request-Id": f"example-{len(self.examples) + 1}"}
        reply = await self.house.ask(method.upper(), address, key=key, headers=headers, body=body)
        answer = of_key(reply.json, moment(self.clock.utc())) if template.startswith("/v1/admin/keys") else reply.json
        request = {"path": path, "query": query, "body": body}
        self.examples.append(
            {
                "operation": operation,
                "name": name,
                "summary": summary,
                "request": {part: given for part, given in request.items() if given is not None},
                "status": reply.status,
                "answer": answer,
            }
        )
        return reply.json


KEY_MOMENTS = ("created_at", "expires_at", "revoked_at", "last_used_at")


def of_key(answer, now):
    """Mask what stands in an answer about keys: its moments, and the secret of a new one."""
    if isinstance(answer, list):
        return [of_key(one, now) for one in answer]
    if not isinstance(answer, dict):
        return answer
    masked = {name: of_key(value, now) for name, value in answer.items()}
    masked |= {name: now for name in KEY_MOMENTS if answer.get(name) is not None}
    if "key" in answer:
        masked["key"] = answer["key"].rpartition("_")[0] + "_" + "\u2026"
    return masked


@pytest.fixture
async def shop(clock, tmp_path, log_bytes, aiohttp_client, monkeypatch):
    numbers = count()
    random_bytes = lambda: sha256(str(next(numbers)).encode()).digest()  # noqa: E731
    monkeypatch.setattr(secrets, "token_bytes", lambda length: random_bytes()[:length])
    monkeypatch.setattr(secrets, "token_hex", lambda length: random_bytes()[:length].hex())
    monkeypatch.setattr(secrets, "choice", lambda options: options[random_bytes()[0] % len(options)])
    settings = Settings.model_validate(SETTINGS)
    ledger = SqliteLedger.open(tmp_path / "ledger.db", "simulated", starting_balances(settings))
    ring = KeyRing(PEPPER, "simulated")
    text, key = ring.make("alice", ("quote", "execute", "account", "admin"), clock.utc())
    await ledger.add_key(key)
    ring.hold(await ledger.keys())
    board = Board(settings.market.outlier_bps)
    for venue in AGE_MS:
        listing = VENUES[venue].listings[SYMBOL]
        board.seat(venue, SYMBOL, STALE_AFTER_MS, clock.now_ns())
        board.instruct(
            Instrument(
                venue=venue,
                symbol=SYMBOL,
                price_step=listing.price_step,
                quantity_step=listing.quantity_step,
                quantity_min=listing.quantity_min,
                notional_min=listing.notional_min,
                taker_fee_bps=Decimal(VENUES[venue].taker_fee_bps),
            )
        )
    feeds = StandingFeeds.of(board, AGE_MS, clock.now_ns)
    app = create_app(settings, feeds, ledger, ring, quote_key(PEPPER, ledger.ledger_id), clock)
    house = House(clock, board, ledger, ring, app, tmp_path, log_bytes, feeds, keys={"admin": text})
    house.client = await aiohttp_client(Server(app))
    yield Shop(house, clock)
    await house.client.close()
    await ledger.close()


async def quotes(shop):
    """Ask what there is to ask of quotes; gives one."""
    both = {"symbol": SYMBOL, "quantity": "0.1"}
    good = await shop.ask("get_quote", "both_sides", "What 0.1 BTC cost and bring", query=both)
    spend = {"symbol": SYMBOL, "total": "1000", "side": "buy", "fills": "true"}
    await shop.ask("get_quote", "a_total", "What 1,000 USDT buy, with every single fill", query=spend)
    wrong = {"symbol": SYMBOL, "quantity": "1e3", "side": "bid", "venue": "okx"}
    await shop.ask("get_quote", "all_faults", "All faults of a request at once", query=wrong)
    fine = {"symbol": SYMBOL, "quantity": "0.000000001"}
    await shop.ask("get_quote", "quantity_step", "Finer than any venue's step", query=fine)
    elsewhere = {"symbol": "BTC/USTD", "quantity": "1"}
    await shop.ask("get_quote", "unknown_symbol", "A symbol that is not served", query=elsewhere)
    await shop.ask("get_quote", "unauthenticated", "No key, or none that works", key=None, query=both)
    return good


async def executions(shop, quoted):
    """Execute a quote and direct orders, and look them up."""
    on_quote = {"quote_id": quoted["quote_id"], "side": "buy", "client_order_id": "order-1"}
    filled = await shop.ask("execute_order", "on_a_quote", "Buy what was quoted", body=on_quote)
    await shop.ask("execute_order", "replayed", "The same request again", body=on_quote)
    direct = {"symbol": SYMBOL, "side": "sell", "quantity": "0.01", "client_order_id": "order-2"}
    await shop.ask("execute_order", "direct", "Sell at once, all or nothing", body=direct)
    most = {**direct, "quantity": "2", "time_in_force": "ioc", "client_order_id": "order-3", "dry_run": True}
    await shop.ask("execute_order", "dry_run", "Try what can be had now, off the record", body=most)
    large = {**direct, "quantity": "2", "client_order_id": "order-4"}
    await shop.ask("execute_order", "insufficient_liquidity", "More than there is, all or nothing", body=large)
    other = {**direct, "quantity": "0.02"}
    await shop.ask("execute_order", "client_order_id_reused", "Another order under a used id", body=other)
    await shop.ask("list_executions", "a_page", "The newest two", query={"limit": "2"})
    found = {"id": filled["execution_id"]}
    await shop.ask("get_execution", "filled", "As it was answered, and what was seen since", path=found)
    await shop.ask("get_execution", "unknown_execution", "None of this account's", path={"id": "0" * 32})
    named = {"client_order_id": "order-2"}
    await shop.ask("get_execution_by_client_order_id", "filled", "The same, by the client's own id", path=named)


async def firm_quotes(shop):
    """Have a firm quote, and let it go."""
    asked = {"symbol": SYMBOL, "side": "buy", "quantity": "0.01", "ttl_ms": 5000}
    firm = await shop.ask("give_firm_quote", "open", "Held for five seconds", body=asked)
    path = {"id": firm["quote_id"]}
    shop.clock.advance(1_000)
    await shop.ask("get_firm_quote", "open", "A second later", path=path)
    await shop.ask("let_firm_quote_go", "released", "Nothing is held any more", path=path)
    await shop.ask("get_firm_quote", "unknown_quote", "None of this account's", path={"id": "0" * 32})
    dear = {**asked, "quantity": "2"}
    await shop.ask("give_firm_quote", "insufficient_liquidity", "More than there is", body=dear)


async def market_and_account(shop):
    """Look at the market, and at the account."""
    symbol = {"symbol": SYMBOL}
    await shop.ask("get_book", "net", "The best two levels a side, fees counted", query={**symbol, "depth": "2"})
    await shop.ask("get_depth", "near_mid", "Within 5 and 10 basis points", query={**symbol, "bps": "5,10"})
    await shop.ask("list_symbols", "all", "All symbols", query=None)
    await shop.ask("list_venues", "all", "All venues", query=None)
    await shop.ask("get_account", "own", "After a buy and a sell", query=None)
    await shop.ask("list_entries", "a_page", "The newest two", query={"limit": "2"})


async def admin(shop):
    """Do what an admin does."""
    bob = {"account": "bob"}
    await shop.ask("open_account", "opened", "A new paper account", body=bob)
    await shop.ask("open_account", "open_already", "It was open", body=bob)
    await shop.ask("deposit", "deposited", "More money", path=bob, body={"asset": "USDT", "amount": "5000"})
    await shop.ask("reset_account", "reset", "As at the start", path=bob)
    okx = {"venue": "okx"}
    await shop.ask("disable_venue", "disabled", "Left alone", path=okx)
    await shop.ask("enable_venue", "enabled", "Asked again", path=okx)
    await shop.ask("disable_venue", "not_found", "A misspelt venue", path={"venue": "okex"})
    await shop.ask("reload_settings", "nothing_changed", "The settings were the same", query=None)


async def keys(shop):
    """Make a key, rotate it, and end it."""
    wanted = {"account": "bob", "scopes": ["quote"], "addresses": ["192.0.2.0/24"], "label": "pricing page"}
    made = await shop.ask("create_key", "of_one_network", "For one network, to look only", body=wanted)
    path, overlap = {"id": made["id"]}, {"overlap_ms": 60_000}
    await shop.ask("rotate_key", "rotated", "Another in its place, a minute beside it", path=path, body=overlap)
    await shop.ask("list_keys", "a_page", "The newest two", query={"limit": "2"})
    await shop.ask("revoke_key", "revoked", "Out of force at once", path=path)
    await shop.ask("revoke_key", "not_found", "None of this service's", path={"id": "0" * 10})


async def refusals_of_time(shop):
    """Come too late for the price, for the quote, and for the books."""
    quoted = (await shop.house.quote(f"symbol={SYMBOL}&quantity=0.02", key="admin")).json
    shop.show(later_ms=2_000)
    late = {"quote_id": quoted["quote_id"], "side": "sell", "client_order_id": "order-5"}
    await shop.ask("execute_order", "price_moved", "The market left meanwhile; a fresh quote comes along", body=late)
    shop.show(later_ms=2_000)
    later = {**late, "client_order_id": "order-6"}
    await shop.ask("execute_order", "quote_expired", "Its time is over", body=later)
    await shop.ask("check_life", "alive", "The process runs", key=None)
    await shop.ask("check_readiness", "ready", "Every symbol has enough live venues", key=None)
    shop.clock.advance(60_000)
    await shop.ask("check_readiness", "not_ready", "Too few live venues", key=None)
    query = {"symbol": SYMBOL, "quantity": "0.02"}
    await shop.ask("get_quote", "no_fresh_market_data", "All books are too old", query=query)


def written(examples):
    """Give the text of the file: what fits stands on one line."""

    def lines(value, indent, before="", after=""):
        whole = f"{indent}{before}{json.dumps(value, ensure_ascii=False)}{after}"
        if len(whole) <= WIDTH or not isinstance(value, dict | list) or not value:
            return [whole]
        opened, closed = "{}" if isinstance(value, dict) else "[]"
        parts = (
            [(f"{json.dumps(key)}: ", one) for key, one in value.items()]
            if isinstance(value, dict)
            else [("", one) for one in value]
        )
        inner = [
            line
            for number, (name, one) in enumerate(parts, 1)
            for line in lines(one, indent + "  ", name, "," if number < len(parts) else "")
        ]
        return [f"{indent}{before}{opened}", *inner, f"{indent}{closed}{after}"]

    return "\n".join(lines(examples, "")) + "\n"


async def test_examples_are_what_the_simulator_gives(shop, request):
    """
    Asking everything again gives the file, to the digit.
    """
    shop.show()
    await executions(shop, await quotes(shop))
    await firm_quotes(shop)
    await market_and_account(shop)
    await refusals_of_time(shop)
    shop.show()
    await admin(shop)
    await keys(shop)
    if request.config.getoption("--rewrite-examples"):
        EXAMPLES_FILE.write_text(written(shop.examples), encoding="utf-8")
    kept = json.loads(EXAMPLES_FILE.read_text(encoding="utf-8"))
    assert [(one["operation"], one["name"]) for one in kept] == [
        (one["operation"], one["name"]) for one in shop.examples
    ]
    for before, now in zip(kept, shop.examples, strict=True):
        assert before == now
    assert EXAMPLES_FILE.read_text(encoding="utf-8") == written(kept)


def test_every_operation_shows_its_success():
    """
    The document shows what an operation answers when it does what it was asked; each example keeps to its schema.
    """
    shown = 0
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                for media in response.get("content", {}).values():
                    examples = media.get("examples", {})
                    if 200 <= int(status) < 300:
                        assert examples, (method, path, status)
                    shown += len(examples)
                    for example in examples.values():
                        hold_to(media["schema"], example["value"])
    assert shown > 50


def test_examples_of_parameters_keep_to_their_schemas():
    """
    What a parameter is shown with is of its own kind.
    """
    for item in document()["paths"].values():
        for operation in item.values():
            for parameter in operation["parameters"]:
                if "example" in parameter:
                    hold_to(parameter["schema"], parameter["example"])
