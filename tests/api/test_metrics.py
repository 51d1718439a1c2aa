"""What Prometheus is told of the running service, read as Prometheus reads it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from itertools import groupby

import pytest
import sqlalchemy as sa
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from service.api import admission as admission_module
from service.api.connection import HEAD_WITHIN_S
from service.api.guard import GUARD
from service.api.handlers import API
from service.api.metrics_routes import ROOM, metrics_app
from service.api.server import ADMISSION
from service.desk.keeper import KEEPER
from service.desk.realism import Realism
from service.errors import Unavailable
from service.metrics import exposition
from service.metrics.catalogue import CATALOGUE
from service.metrics.exposition import METRICS
from tests.api.conftest import LADDERS, Server
from tests.api.streaming import streaming
from tests.api.test_connections import connected, until, wire
from tests.api.test_reload_routes import reload
from tests.api.test_shedding import PLAIN, overloaded  # noqa: F401
from tests.exposed import samples, series
from tests.tools import tool

STATES = ("warming", "live", "stale", "suspect", "down")


async def scraped(house):
    reply = await house.get("/metrics", key="admin")
    assert 200 == reply.status
    return samples(reply.body.decode())


async def value(house, name, **labels):
    """Give one series' value, or None where there is no such series."""
    return (await scraped(house)).get(series(name, **labels))


# Requests


async def test_errors_of_the_service_begin_at_0(house):
    """
    The first that ever happens is an increase: nobody has to have seen one before.
    """
    found = await scraped(house)
    at_0 = [("GET", "/quote", "500", "internal_error"), ("POST", "/execute", "503", "outcome_unknown")]

    for method, route, status, code in at_0:
        assert 0 == found[series("iob_http_requests_total", method=method, route=route, status=status, code=code)]
    assert 0 == found[series("iob_executions_total", symbol="ETH/USDT", side="sell", status="partially_filled")]
    assert 0 == found[series("iob_rejections_total", code="risk_limit")]


async def test_answers_are_counted_by_route_status_and_code(house):
    """
    A quote is a 200, a refusal bears its code, and what each took is in the route's histogram.
    """
    await house.quote()
    await house.quote("symbol=BTC/USDT&quantity=1&limt_price=5")
    await house.quote(key=None)
    await house.buy()
    found = await scraped(house)

    def requests(status, code, route="/quote", method="GET"):
        return found[series("iob_http_requests_total", method=method, route=route, status=str(status), code=code)]

    assert 1 == requests(200, "") == requests(400, "unknown_parameter") == requests(401, "unauthenticated")
    assert 1 == requests(201, "", "/execute", "POST")
    durations = {"method": "GET", "route": "/quote"}
    assert 3 == found[series("iob_http_request_duration_seconds_count", **durations)]
    assert 3 == found[series("iob_http_request_duration_seconds_bucket", le="+Inf", **durations)]
    assert 0 < found[series("iob_http_request_duration_seconds_sum", **durations)]


async def test_what_is_no_request_is_counted_as_malformed(house):
    """
    Bytes that are not HTTP leave a count without any of them.
    """
    await house.wire(b"iob_live_x / HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n")

    labels = {"method": "other", "route": "unmatched", "status": "400", "code": "malformed_request"}
    assert 1 == await value(house, "iob_http_requests_total", **labels)


async def test_hostile_requests_make_no_series(house):
    """
    Two thousand paths, methods and symbols that nobody has seen before make no more series than a few of them.
    """

    def hostile(number):
        lines = [f"GET /{number} HTTP/1.1", f"X{number} / HTTP/1.1", f"GET /quote?symbol=A{number}/USDT HTTP/1.1"]
        lines += [f"GET /v1/executions/{number:032x} HTTP/1.1", f"PROPFIND /{number} HTTP/1.1"]
        key = house.keys["all"] if number % 2 else f"iob_live_{number}_{number}"
        return f"{lines[number % 5]}\r\nHost: x\r\nX-API-Key: {key}\r\nX-Request-Id: {number}\r\n\r\n".encode()

    async def send(numbers):
        left = list(numbers)
        while left:
            async with wire(house) as client:
                status = None
                while left and status != 400:  # What is not HTTP ends its connection.
                    client.send(hostile(left.pop()))
                    status = (await client.answer())[0]

    await send(range(10))
    before = (await scraped(house)).keys()
    await asyncio.gather(*(send(range(start, 2_000, 8)) for start in range(8)))
    after = (await scraped(house)).keys()

    # Those of the first scrape itself.
    assert {one for one in after - before if "route=/metrics" not in one} == set()
    assert all(len(one) < 150 for one in after)
    assert not [one for one in after if "PROPFIND" in one]


async def test_quotes_that_are_sent_away_unread_are_counted(house, overloaded):  # noqa: F811
    """
    Under too much work each one is counted, though it leaves no line and is no request.
    """
    async with wire(house) as client:
        for _ in range(3):
            client.send(PLAIN)
            assert 503 == (await client.answer())[0]
    admission_module.AHEAD_MAX["quote"] = 32
    house.app[ADMISSION].overloaded = lambda now_ns: False
    found = await scraped(house)

    assert 3 == found["iob_http_requests_shed_total{}"]
    assert 0 == sum(count for one, count in found.items() if "route=/quote" in one)


@pytest.mark.parametrize("house", [{"service": {"connections_per_address_max": 2}}], indirect=True)
async def test_connections_are_counted_in_out_and_cut(house):
    """
    Open ones are a gauge; one that is cut, and one that is turned away, leaves its reason.
    """
    async with wire(house) as slow:
        slow.send(b"GET /")
        await until(connected(house))
        await scraped(house)
        async with wire(house) as third:
            assert b"overloaded" in await third.rest()
        await house.sweep(HEAD_WITHIN_S + 0.5)
        await slow.rest()
    await until(connected(house, 1))
    found = await scraped(house)

    assert 1 == found["iob_http_connections{}"]
    cut = {reason: found[series("iob_http_connections_cut_total", reason=reason)] for reason in ("heads", "bodies")}
    assert {"heads": 1, "bodies": 0} == cut
    assert 1 == found[series("iob_http_connections_cut_total", reason="turned_away")]


async def test_open_streams_are_a_gauge(house):
    """
    A WebSocket counts while it is open, and as a request once it has ended, whose length is in no histogram.
    """
    async with streaming(house) as stream:
        await stream.ask(op="ping")
        assert 1 == await value(house, "iob_streams")
    await until(lambda: any(key[1] == "/v1/stream" for key in house.app[METRICS].instruments._requests))
    found = await scraped(house)

    assert 0 == found["iob_streams{}"]
    assert 1 == found[series("iob_http_requests_total", method="GET", route="/v1/stream", status="101", code="")]
    assert not [one for one in found if "duration" in one and "/v1/stream" in one]


# The desk


async def test_quotes_are_counted_by_kind(house):
    """
    Indicative and firm ones are told apart, and a question that is refused is no quote.
    """
    await house.quote()
    await house.quote()
    await house.quote("symbol=BTC/USDT&quantity=1000000&venues=nowhere")
    await house.firm()
    found = await scraped(house)

    assert 2 == found[series("iob_quotes_total", symbol="BTC/USDT", kind="indicative")]
    assert 1 == found[series("iob_quotes_total", symbol="BTC/USDT", kind="firm")]


async def test_open_firm_quotes_are_a_gauge_until_they_end(house):
    """
    What holds funds is counted, and not any more once its time is over.
    """
    await house.firm()
    await house.app[API].firm.tend()
    assert 1 == await value(house, "iob_firm_quotes_open")
    house.clock.advance(60_000)
    await house.app[API].firm.tend()
    assert 0 == await value(house, "iob_firm_quotes_open")


async def test_orders_on_record_are_counted_once(house):
    """
    A fill and a rejection count when they are on record; a replay, a dry run and what is refused before do not.
    """
    for _ in range(3):
        assert (await house.buy("a")).status in (200, 201)
    await house.buy("b", dry_run=True)
    await house.buy("c", quantity="0")
    assert "insufficient_liquidity" == (await house.buy("d", quantity="900")).code
    found = await scraped(house)

    def executions(status):
        return found.get(series("iob_executions_total", symbol="BTC/USDT", side="buy", status=status))

    assert (1, 1, 0) == (executions("filled"), executions("rejected"), executions("partially_filled"))
    assert 1 == found[series("iob_rejections_total", code="insufficient_liquidity")]
    # 0.1 at 64009 of okx and the rest at the next best prices.
    notional = found[series("iob_executed_notional_total", symbol="BTC/USDT", side="buy")]
    assert 0.2 * 64_009 <= notional <= 0.2 * 64_040


async def test_what_fills_take_and_quotes_hold_is_told_by_venue(house):
    """
    What an order took of a venue's asks is charged to buyers there, and what a firm quote holds stands beside it.
    """
    await house.buy(quantity="0.1")
    await house.firm(side="sell", quantity="0.3")
    found = await scraped(house)

    def charged(name, side):
        return {
            venue: found[series(name, symbol="BTC/USDT", venue=venue, side=side)]
            for venue in ("kraken", "coinbase", "okx")
        }

    assert 0.1 == sum(charged("iob_taken_quantity", "buy").values())
    assert pytest.approx(0.3) == sum(charged("iob_held_quantity", "sell").values())
    assert 0 == sum(charged("iob_taken_quantity", "sell").values()) + sum(charged("iob_held_quantity", "buy").values())


async def test_what_was_seen_after_fills_is_in_histograms(house):
    """
    Shares and mark-outs are counted by how long after the fill; what nobody saw is left out.
    """
    seen = Realism(((50, 10_000), (250, 9_200), (1_000, None)), ((1, -4_000), (10, 0), (60, 12_500)), pending=False)
    house.app[METRICS].instruments.realised(seen)
    found = await scraped(house)

    def survivals(after_ms, le):
        return found.get(series("iob_realism_survival_ratio_bucket", after_ms=after_ms, le=le))

    assert [0, 1] == [survivals("50", le) for le in ("0.99", "1.0")]
    assert [0, 1, None] == [survivals("250", "0.9"), survivals("250", "0.99"), survivals("1000", "1.0")]
    markouts = [
        found[series("iob_realism_markout_bps_bucket", after_s=after_s, le=le)]
        for after_s, le in (("1", "-1.0"), ("1", "0.0"), ("60", "1.0"), ("60", "2.0"))
    ]
    assert [0, 1, 0, 1] == markouts


# Venues and books


async def states_of(house, venue="okx"):
    found = await scraped(house)
    return {state: found[series("iob_venue_state", venue=venue, symbol="BTC/USDT", state=state)] for state in STATES}


async def test_stale_venue_is_told_with_its_books_age(house):
    """
    A live venue whose book grows too old is stale, and its age goes on; the one that shows a new book is live.
    """
    assert {**dict.fromkeys(STATES, 0), "live": 1} == await states_of(house)
    house.clock.advance(6_500)
    house.show({("kraken", "BTC/USDT"): LADDERS["kraken", "BTC/USDT"]})

    assert {**dict.fromkeys(STATES, 0), "stale": 1} == await states_of(house)
    assert 1 == (await states_of(house, "kraken"))["live"]
    found = await scraped(house)
    ages = [found[series("iob_venue_book_age_seconds", venue=venue, symbol="BTC/USDT")] for venue in ("okx", "kraken")]
    assert [6.5, 0] == ages
    assert 1 == found[series("iob_book_venues_live", symbol="BTC/USDT")]
    assert 0 == found[series("iob_book_venues_live", symbol="ETH/USDT")]


async def test_venue_without_a_book_has_no_age(house):
    """
    An age that nobody knows is absent, not 0.
    """
    house.board.empty("okx", "BTC/USDT", "sequence_gap", house.clock.now_ns())
    found = await scraped(house)

    assert series("iob_venue_book_age_seconds", venue="okx", symbol="BTC/USDT") not in found
    assert series("iob_venue_book_age_seconds", venue="kraken", symbol="BTC/USDT") in found


async def test_what_came_of_venues_is_counted_by_reason(house):
    """
    Books that counted, that did not, requests that gave none and streams made anew, of each venue by itself.
    """
    now_ns, tally = house.clock.now_ns(), house.board.tally("okx")
    house.board.reject("okx", "BTC/USDT", "crossed", now_ns)
    tally.failed["http_503"] += 2
    tally.reconnects += 1
    tally.answered_s.add(0.03)
    tally.streamed_s.add(0.002)
    found = await scraped(house)

    assert 1 == found[series("iob_venue_books_accepted_total", venue="okx")]
    assert 1 == found[series("iob_venue_books_rejected_total", venue="okx", reason="crossed")]
    assert 2 == found[series("iob_venue_failures_total", venue="okx", reason="http_503")]
    assert 1 == found[series("iob_venue_reconnects_total", venue="okx")]
    assert [0, 1] == [
        found[series("iob_venue_poll_duration_seconds_bucket", venue="okx", le=le)] for le in ("0.025", "0.05")
    ]
    assert 1 == found[series("iob_venue_stream_delay_seconds_bucket", venue="okx", le="0.0025")]
    assert 0 == found[series("iob_venue_stream_delay_seconds_count", venue="kraken")]


async def test_consolidated_book_is_measured(house):
    """
    Mid, spread and depth are those of GET /v1/depth and of the best prices shown.
    """
    found = await scraped(house)
    depth = (await house.get("/v1/depth?symbol=BTC/USDT&bps=10,50")).json

    assert (64_001.5 + 64_009) / 2 == found[series("iob_book_mid_price", symbol="BTC/USDT")]
    spread = (64_009 - 64_001.5) / 64_005.25 * 10_000
    assert pytest.approx(spread) == found[series("iob_book_spread_bps", symbol="BTC/USDT")]
    for band in depth["bands"]:
        for side in ("bid", "ask"):
            shown = found[series("iob_book_depth_notional", symbol="BTC/USDT", side=side, bps=band["bps"])]
            assert float(band[f"{side}_notional"]) == shown
    assert 1 == found[series("iob_book_quotable", symbol="BTC/USDT")]


@pytest.mark.parametrize(("bid", "quotable"), [("64100", 1), ("64500", 0)])
async def test_crossed_market_is_told_whether_or_not_it_is_quoted(house, bid, quotable):
    """
    One venue bids more than another asks: by a little it is still quoted, by more than the settings allow it is not.
    """
    assert 0 == await value(house, "iob_book_crossed", symbol="BTC/USDT")
    house.show(
        {
            ("okx", "BTC/USDT"): f"""
        .      64600     5
        0.05   {bid}     .
    """
        }
    )
    found = await scraped(house)

    assert (1, quotable) == tuple(
        found[series(name, symbol="BTC/USDT")] for name in ("iob_book_crossed", "iob_book_quotable")
    )
    by = (float(bid) - 64_010.1) / ((float(bid) + 64_010.1) / 2) * 10_000
    assert pytest.approx(by, rel=0.02) == found[series("iob_book_crossed_bps", symbol="BTC/USDT")]
    assert quotable == (series("iob_book_mid_price", symbol="BTC/USDT") in found)
    assert 0 == found[series("iob_book_crossed", symbol="ETH/USDT")]


async def test_without_market_data_there_is_no_price(house):
    """
    With every venue stale a symbol is not quotable, and its prices are absent.
    """
    house.clock.advance(10_000)
    found = await scraped(house)

    assert 0 == found[series("iob_book_quotable", symbol="BTC/USDT")]
    assert not [one for one in found if one.startswith(("iob_book_mid", "iob_book_spread", "iob_book_depth"))]
    assert 0 == found[series("iob_book_crossed", symbol="BTC/USDT")]


# What goes away


async def test_series_of_venues_and_symbols_end_with_the_reload(house):
    """
    A venue that is switched off says only that; a venue or a symbol that the settings have no more is not named at all.
    """
    await house.quote("symbol=ETH/USDT&quantity=1")
    await house.buy(symbol="ETH/USDT", quantity="1")
    await house.ask("POST", "/v1/admin/venues/kraken/disable", key="admin")
    found = await scraped(house)
    assert [series("iob_venue_enabled", venue="kraken", transport="poll")] == [
        one for one in found if "venue=kraken" in one
    ]
    assert 0 == found[series("iob_venue_enabled", venue="kraken", transport="poll")]
    assert [one for one in found if "ETH/USDT" in one]

    await reload(house)
    text = (house.folder / "settings.toml").read_text()
    text = text.replace(', "ETH/USDT"', "").replace("[venues.okx]\n", "")
    (house.folder / "settings.toml").write_text(text)
    assert 200 == (await house.ask("POST", "/v1/admin/reload", key="admin")).status
    found = await scraped(house)

    assert [] == [one for one in found if "ETH/USDT" in one or "venue=okx" in one]
    assert [one for one in found if "venue=kraken" in one and "iob_venue_state" in one]


# The record and the loop


async def test_record_that_fails_is_down_until_it_works(house):
    """
    A full disk takes the record down, and reads that go on do not bring it back; a commit that succeeds does.
    """
    real = house.ledger.real
    assert 1 == await value(house, "iob_ledger_up")
    commits = await value(house, "iob_ledger_commit_duration_seconds_count")
    with real._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    full = []
    for number in range(20):
        full.append((await house.buy(f"full-{number}", side="buy", quantity="5")).code)
        if full[-1] == "ledger_unavailable":
            break
    assert "ledger_unavailable" == full[-1]
    assert 200 == (await house.get("/v1/account")).status
    found = await scraped(house)
    assert (0, 1) == (found["iob_ledger_up{}"], found["iob_ledger_commit_failures_total{}"])

    with real._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    await real.probe()
    found = await scraped(house)
    assert (1, 0) == (found["iob_ledger_up{}"], found["iob_ledger_queue_length{}"])
    assert commits < found["iob_ledger_commit_duration_seconds_count{}"]
    assert found["iob_ledger_commit_duration_seconds_count{}"] == found["iob_ledger_batch_size_count{}"]


async def test_record_that_failed_is_tried_while_nobody_orders(house, monkeypatch):
    """
    Nothing but the keeper writes, and within its next try the record is known to be back.
    """
    monkeypatch.setattr("service.desk.keeper.PROBE_EVERY_S", 0.02)

    def full(connection):
        raise sa.exc.OperationalError("INSERT", {}, OSError("no space left"))

    with pytest.raises(Unavailable):
        await house.ledger.real._write(full)
    assert 0 == await value(house, "iob_ledger_up")
    async with house.app[KEEPER].keeping(house.ring):
        await until(lambda: house.ledger.real.up)
    assert 1 == await value(house, "iob_ledger_up")


async def test_loop_that_is_held_up_is_seen(house):
    """
    Whoever computes for a third of a second without a pause makes a timer that late.
    """
    held_up_s = 0.3
    await until(lambda: house.app[METRICS].instruments._lag.sum > 0)
    time.sleep(held_up_s)  # noqa: ASYNC251
    await until(lambda: house.app[METRICS].instruments._lag.sum > held_up_s - 0.1)
    found = await scraped(house)

    late = found[series("iob_loop_lag_seconds_count")] - found[series("iob_loop_lag_seconds_bucket", le="0.1")]
    assert late >= 1


async def test_build_is_told(house):
    """
    What runs, on which prices, with which kind of record.
    """
    [info] = [one for one in await scraped(house) if one.startswith("iob_build_info")]

    assert "ledger=sqlite,market_data=live,version=" in info


# The route


async def test_own_routes_answer_needs_an_admins_key(house):
    """
    Without a key, without the scope, with a query or another method it is refused as everywhere.
    """
    found = [
        (reply.status, reply.code)
        for reply in (
            await house.get("/metrics", key=None),
            await house.get("/metrics", key="revoked"),
            await house.get("/metrics", key="all"),
            await house.get("/metrics?name=x", key="all"),
            await house.get("/metrics?name=x", key="admin"),
            await house.ask("POST", "/metrics", key="admin"),
        )
    ]

    assert [
        (401, "unauthenticated"),
        (401, "unauthenticated"),
        (403, "insufficient_scope"),
        (403, "insufficient_scope"),
        (400, "unknown_parameter"),
        (405, "method_not_allowed"),
    ] == found
    head = await house.ask("HEAD", "/metrics", key="admin")
    assert (200, b"") == (head.status, head.body)


async def test_port_of_its_own_needs_no_key(house, aiohttp_client):
    """
    There nothing but metrics is answered, the same ones, and everything else is refused as everywhere.
    """
    app = metrics_app(house.app[METRICS], house.app[GUARD])
    house.client = await aiohttp_client(Server(app, ROOM))
    reply = await house.get("/metrics", key=None)
    others = [
        await house.get("/metrics?a=1", key=None),
        await house.ask("DELETE", "/metrics", key=None),
        await house.get("/v1", key="admin"),
    ]

    assert 1 == samples(reply.body.decode())[series("iob_book_quotable", symbol="BTC/USDT")]
    assert ["unknown_parameter", "method_not_allowed", "not_found"] == [one.code for one in others]


async def test_open_metrics_is_written_where_it_is_asked_for(house):
    """
    Prometheus's own header gets OpenMetrics, whole and valid; anything else the old text format.
    """
    asked = (
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,*/*;q=0.1"
    )
    reply = await house.get("/metrics", key="admin", headers={"Accept": asked})

    assert (
        "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"
        == reply.headers["Content-Type"]
    )
    assert "iob_venue_books_accepted" in {one.name for one in open_metrics_families(reply.body.decode())}
    plain = await house.get("/metrics", key="admin", headers={"Accept": "application/json"})
    assert "text/plain; version=0.0.4; charset=utf-8" == plain.headers["Content-Type"]


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=1.a",
        "application/openmetrics-text;version=9.0.0<script>",
        "application/openmetrics-text;version=" + "1" * 5_000,
        "text/plain;version=1.0.0;escaping=iob_live_x",
    ],
)
async def test_header_that_makes_no_sense_is_answered_in_plain_text(house, accept):
    """
    Nothing of it is repeated, and it is nobody's error.
    """
    reply = await house.get("/metrics", key="admin", headers={"Accept": accept})

    assert (200, "text/plain; version=0.0.4; charset=utf-8") == (reply.status, reply.headers["Content-Type"])


async def test_of_those_who_scrape_one_at_a_time_has_a_turn(house, monkeypatch):
    """
    However many ask at once, whoever wants a quote waits for a piece of one answer, not of each.
    """
    turns = []

    def written(name, collector, encode):
        for piece in exposition._written_by(name, collector, encode):
            turns.append(asyncio.current_task())
            yield piece

    monkeypatch.setattr(exposition, "_written_by", exposition._written, raising=False)
    monkeypatch.setattr(exposition, "_written", written)
    monkeypatch.setattr(exposition, "SLICE_S", 0)
    answers = await asyncio.gather(*(house.app[METRICS].scrape("") for _ in range(5)))

    assert 5 == len(answers) == len([task for task, _ in groupby(turns)])


async def test_what_cannot_be_read_is_left_out(house, monkeypatch):
    """
    A mistake in one place leaves a line in the log, and everything else in the answer.
    """

    def broken(now_ms):
        raise RuntimeError("broken")

    monkeypatch.setattr(house.desk._floor.taken, "totals", broken)
    found = await scraped(house)

    assert not [one for one in found if one.startswith("iob_taken_quantity")]
    assert 1 == found[series("iob_book_quotable", symbol="BTC/USDT")]
    [line] = house.lines("metrics.failed")
    assert ("taken", "error") == (line["source"], line["level"])


async def everything(house):
    """Have something happen of all that is counted; gives what Prometheus reads then."""
    await house.quote()
    await house.buy()
    await house.buy("rejected", quantity="900")
    await house.firm()
    tally = house.board.tally("okx")
    tally.failed["timeout"] += 1
    tally.rejected["crossed"] += 1
    seen = Realism(((50, 10_000),), ((1, -4_000),), pending=False)
    house.app[METRICS].instruments.realised(seen)
    return (await house.get("/metrics", key="admin")).body


async def test_every_metric_of_the_list_is_told_with_its_labels(house):
    """
    What is told is what the list promises: kinds, labels and meanings, and nothing beside it but the process's own.
    """
    told = {}
    for family in text_string_to_metric_families((await everything(house)).decode()):
        name = family.name + "_total" * (family.type == "counter")
        if not name.startswith(("process_", "python_")):
            [labels] = {frozenset(sample.labels) - {"le"} for sample in family.samples}
            told[name] = (family.type, labels, family.documentation)

    assert {one.name: (one.kind, frozenset(one.labels), one.meaning) for one in CATALOGUE} == told


async def test_promtool_finds_nothing_to_mend(house):
    """
    Prometheus's own checker takes everything that can be told, names, units, types and helps.
    """
    promtool = tool("promtool")
    text = await everything(house)
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert (0, b"", b"") == (checked.returncode, checked.stdout, checked.stderr)
