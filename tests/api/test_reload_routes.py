"""Changing settings over HTTP while the service runs: reading them again, and switching a single venue."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service.api.handlers import API
from service.settings import load_settings
from service.settings_changes import NEEDS_RESTART
from tests.api.conftest import LADDERS, instrument

FILE = """
[market]
symbols = ["BTC/USDT", "ETH/USDT"]
venues_min = {venues_min}
[pricing]
markup_bps = {markup_bps}
[accounts]
starting_balances = {{ USDT = "{usdt}", BTC = "10000", ETH = "10000" }}
[limits]
quote_per_s = 0
execute_per_s = 0
failed_keys_per_s = 0
[logs]
level = "{level}"
[venues.kraken]
enabled = {kraken}
[venues.coinbase]
exchange = "coinbaseexchange"
[venues.okx]
[venues.bitstamp]
enabled = false
"""
AS_AT_START = {"venues_min": 1, "markup_bps": 2, "usdt": 100_000_000, "level": "info", "kraken": "true"}
ROUTES = ["/v1/admin/reload", "/v1/admin/venues/kraken/enable", "/v1/admin/venues/kraken/disable"]


def write(house, more="", **values):
    """Write the settings file: that of the start, but for some values, and with more at its end."""
    (house.folder / "settings.toml").write_text(FILE.format(**{**AS_AT_START, **values}) + more)


async def reload(house, more="", **values):
    """Write the settings file, and have it read."""
    write(house, more, **values)
    return await house.ask("POST", "/v1/admin/reload", key="admin")


async def switch(house, venue, verb):
    return await house.ask("POST", f"/v1/admin/venues/{venue}/{verb}", key="admin")


async def venues(house):
    return {row["venue"]: row for row in (await house.get("/v1/venues")).json["venues"]}


async def quoted(house, query="symbol=BTC/USDT&quantity=1"):
    """Name the venues that a quote uses."""
    quote = await house.quote(query)
    assert 200 == quote.status, quote.json
    return [source["venue"] for source in quote.json["sources"] if source["used"]]


# Who may


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, 401, "unauthenticated"),
        ("unknown", 401, "unauthenticated"),
        ("all", 403, "insufficient_scope"),
        ("quote", 403, "insufficient_scope"),
    ],
)
async def test_only_an_admin_changes_settings(house, path, key, status, code):
    """
    Without a key that may administer, nothing is read and nothing is switched.
    """
    write(house, venues_min=3, kraken="false")
    reply = await house.ask("POST", path, key=key)

    assert (status, code) == (reply.status, reply.code)
    assert ["kraken", "coinbase", "okx"] == await quoted(house)
    assert [] == house.lines("settings.reloaded") + house.lines("venue.switched")


@pytest.mark.parametrize("path", ROUTES)
async def test_reading_changes_nothing_and_parameters_are_refused(house, path):
    """
    GET is not known here, and a parameter is a mistake.
    """
    assert (405, "POST") == ((got := await house.get(path, key="admin")).status, got.headers["Allow"])
    assert [("force", "unknown_parameter")] == (await house.ask("POST", f"{path}?force=1", key="admin")).faults


# Reading settings again


async def test_unchanged_file_changes_nothing(house):
    """
    A file that says what is in force already is answered with empty lists.
    """
    reply = await reload(house)

    assert (200, {"changed": [], "needs_restart": []}) == (reply.status, reply.json)
    assert ["kraken", "coinbase", "okx"] == await quoted(house)
    [line] = house.lines("settings.reloaded")
    assert ([], [], "info") == (line["changed"], line["needs_restart"], line["level"])


async def test_changed_rule_counts_for_the_next_quote(house):
    """
    With three venues needed, a symbol that two trade is not quoted any more, nor ready.
    """
    assert 200 == (await house.quote("symbol=ETH/USDT&quantity=1")).status
    reply = await reload(house, venues_min=3)

    assert ["market.venues_min"] == reply.json["changed"] == house.lines("settings.reloaded")[0]["changed"]
    assert "no_fresh_market_data" == (await house.quote("symbol=ETH/USDT&quantity=1")).code
    assert [("ETH/USDT", 2, 3)] == [
        (entry["symbol"], entry["live_venues"], entry["venues_min"])
        for entry in (await house.get("/readyz", key=None)).json["symbols"]
    ]
    assert 200 == (await house.quote()).status


async def test_changed_markup_moves_the_price_and_the_quote_before_it(house):
    """
    A higher margin costs the next client more; a quote from before is not filled at a total that is no longer given.
    """
    before = (await house.quote("symbol=BTC/USDT&quantity=1&side=buy")).json
    assert ["pricing.markup_bps"] == (await reload(house, markup_bps=20)).json["changed"]
    after = (await house.quote("symbol=BTC/USDT&quantity=1&side=buy")).json

    assert before["buy"]["subtotal"] == after["buy"]["subtotal"]
    assert float(before["buy"]["markup"]) * 9.9 < float(after["buy"]["markup"])
    refused = await house.execute({"quote_id": before["quote_id"], "client_order_id": "a"})
    assert (409, "price_moved") == (refused.status, refused.code)
    assert 201 == (await house.execute({"quote_id": after["quote_id"], "client_order_id": "b"})).status


async def test_new_accounts_begin_with_what_the_file_says_now(house):
    """
    Starting balances count for accounts opened from then on; one that is open keeps what it has.
    """
    opened = await house.ask("POST", "/v1/admin/accounts", body={"account": "carol"}, key="admin")
    await reload(house, usdt=77)
    again = await house.ask("POST", "/v1/admin/accounts", body={"account": "carol"}, key="admin")
    later = await house.ask("POST", "/v1/admin/accounts", body={"account": "dave"}, key="admin")

    assert ["100000000", "100000000", "77"] == [
        reply.json["balances"]["USDT"]["total"] for reply in (opened, again, later)
    ]


async def test_half_life_of_zero_gives_back_what_was_taken(house):
    """
    What a fill has taken is there again as soon as the settings say so, and stays back.
    """
    await house.buy(quantity="0.1")
    taken = (await house.get("/v1/book?symbol=BTC/USDT")).json
    assert any(level["taken"] != "0" for level in taken["asks"])
    reply = await reload(house, "[liquidity]\ntaken_half_life_ms = 0\n")
    assert ["liquidity.taken_half_life_ms"] == reply.json["changed"]
    await reload(house)

    book = (await house.get("/v1/book?symbol=BTC/USDT")).json
    assert {"0"} == {level["taken"] for level in book["asks"]}


async def test_higher_level_of_the_log_silences_requests(house):
    """
    Above info the line of each request is gone; back at info it is there again.
    """
    await reload(house, level="warning")
    await house.quote(headers={"X-Request-Id": "silent"})
    await reload(house, level="info")
    await house.quote(headers={"X-Request-Id": "heard"})

    ids = [line["request_id"] for line in house.lines("request")]
    assert ("silent" in ids, "heard" in ids) == (False, True)


async def test_symbol_comes_and_goes(house):
    """
    A symbol that the file adds is served once its books are there; one that it drops is unknown at once.
    """
    first = (await house.quote("symbol=ETH/USDT&quantity=1&side=buy")).json
    write(house)
    text = (house.folder / "settings.toml").read_text().replace('"ETH/USDT"', '"SOL/USDT"')
    (house.folder / "settings.toml").write_text(text)
    reply = await house.ask("POST", "/v1/admin/reload", key="admin")

    assert ["market.symbols"] == reply.json["changed"]
    assert [(404, "unknown_symbol")] * 2 == [
        (refused.status, refused.code)
        for refused in [
            await house.quote("symbol=ETH/USDT&quantity=1"),
            await house.execute({"quote_id": first["quote_id"], "client_order_id": "a"}),
        ]
    ]
    assert "no_fresh_market_data" == (await house.quote("symbol=SOL/USDT&quantity=1")).code
    house.board.instruct(instrument("kraken", "SOL/USDT"))
    house.show({("kraken", "SOL/USDT"): ". 151 9\n9 150 ."})
    assert ["kraken"] == await quoted(house, "symbol=SOL/USDT&quantity=1")


async def test_venue_is_replaced_by_another(house):
    """
    One table goes and one comes: answers name the venues that there are now, and requests may choose from these.
    """
    write(house)
    text = (house.folder / "settings.toml").read_text().replace("[venues.okx]", "[venues.bybit]")
    (house.folder / "settings.toml").write_text(text)
    reply = await house.ask("POST", "/v1/admin/reload", key="admin")

    assert ["venues.okx", "venues.bybit"] == reply.json["changed"]
    rows = await venues(house)
    assert ["kraken", "coinbase", "bybit", "bitstamp"] == list(rows)
    assert ("warming", 1_000, True) == tuple(rows["bybit"][name] for name in ("state", "poll_interval_ms", "enabled"))
    assert ["kraken", "coinbase"] == await quoted(house)
    assert [("venues", "invalid_parameter")] == (await house.quote("symbol=BTC/USDT&quantity=1&venues=okx")).faults
    house.board.instruct(instrument("bybit", "BTC/USDT"))
    house.show({("bybit", "BTC/USDT"): LADDERS["okx", "BTC/USDT"]})
    assert ["coinbase", "bybit"] == await quoted(house, "symbol=BTC/USDT&quantity=1&exclude_venues=kraken")


async def test_what_needs_a_restart_is_named_and_left(house):
    """
    Where the service listens and records, and how it logs, stays; the answer and the log say that, and no secret.
    """
    more = """
[service]
port = 9999
host = "0.0.0.0"
connections_max = 7
connections_per_address_max = 7
[ledger]
url = "postgresql://user:hunter2@host/database"
[liquidity]
taken = "off"
[recording]
file = "books.rec"
file_mb_max = 7
[replay]
speed = 2
[metrics]
host = "0.0.0.0"
port = 9464
"""
    write(house, more, venues_min=2)
    text = (house.folder / "settings.toml").read_text().replace("[logs]", '[logs]\nformat = "console"')
    (house.folder / "settings.toml").write_text(text)
    for changed in (["market.venues_min"], []):  # What waits for a restart is said each time.
        reply = await house.ask("POST", "/v1/admin/reload", key="admin")
        assert changed == reply.json["changed"]
        assert sorted(set(NEEDS_RESTART) - {"service.mode", "replay.file"}) == sorted(reply.json["needs_restart"])
    assert 200 == (await house.quote()).status
    assert 2 == len(house.lines("settings.reloaded"))  # Each line is still an object of JSON.
    assert b"hunter2" not in house.log.getvalue() + b"".join(reply.body for reply in house.replies)


@pytest.mark.parametrize(
    ("more", "about"),
    [
        # Several mistakes come all at once.
        ("[quotes]\nttl_ms = 1\n[risk]\ntrading_enabled = 3\n[venues.kracken]\ndepth = 0\n",
         ["quotes.ttl_ms", "risk.trading_enabled", "venues.kracken.depth"]),
        ("[quotes]\nttl_sm = 700\n", ["quotes.ttl_sm"]),
        # Right in itself, and no settings of a service that runs with real prices.
        ("[service]\nmode = 'simulated'\n[venues.kucoin]\nbase_url = 'http://127.0.0.1:1'\n", ["service.mode"]),
        ("[", None),
    ],
)  # fmt: skip
async def test_file_with_mistakes_changes_nothing_and_says_why(house, more, about):
    """
    Every mistake is answered and logged in the words of the start, and all goes on as before.
    """
    before = await venues(house)
    reply = await reload(house, more, venues_min=3)

    assert (422, "invalid_settings") == (reply.status, reply.code)
    problems = [fault["detail"] for fault in reply.json["errors"]]
    [line] = house.lines("settings.refused")
    assert (problems, "error") == (line["problems"], line["level"])
    if about is not None:
        assert about == [fault["parameter"] for fault in reply.json["errors"]]
        assert all(problem.startswith(f"{key}: ") for key, problem in zip(about, problems, strict=True))
    assert before == await venues(house)
    assert 200 == (await house.quote("symbol=ETH/USDT&quantity=1")).status
    assert [] == house.lines("settings.reloaded")


async def test_file_of_another_mode_waits_for_a_restart(house):
    """
    Simulated venues cannot join a service that runs with real prices; the answer says what would have to happen.
    """
    (house.folder / "settings.toml").write_text(
        '[service]\nmode = "simulated"\n[market]\nsymbols = ["BTC/USDT"]\n[venues.okx]\nbase_url = "http://127.0.0.1:1"\n'
    )
    reply = await house.ask("POST", "/v1/admin/reload", key="admin")

    [fault] = reply.json["errors"]
    assert "okx has one" in fault["detail"]
    assert fault["detail"].endswith('(the service runs in mode "live" until it is restarted)')


async def test_missing_file_changes_nothing(house):
    """
    Without a file to read, the service goes on with what it has.
    """
    reply = await house.ask("POST", "/v1/admin/reload", key="admin")

    assert (422, "cannot be read") == (reply.status, reply.json["errors"][0]["detail"].split(": ")[1])
    assert 200 == (await house.quote()).status


async def test_two_reloads_at_once_are_two_in_a_row(house):
    """
    The second reload reads the file when the first is done, and neither fails.
    """
    write(house, venues_min=2)
    first_reads, go_on, read = asyncio.Event(), threading.Event(), []
    switching, loop = house.app[API].switching, asyncio.get_running_loop()

    def read_slowly():
        settings = load_settings(house.folder / "settings.toml", {})
        read.append(settings.market.venues_min)
        loop.call_soon_threadsafe(first_reads.set)
        go_on.wait(10)
        return settings

    switching._read = read_slowly
    asked = [asyncio.ensure_future(house.ask("POST", "/v1/admin/reload", key="admin")) for _ in range(2)]
    await first_reads.wait()
    write(house, venues_min=3)
    assert [2] == read and 200 == (await house.quote()).status  # A slow disk keeps nobody waiting.
    go_on.set()
    replies = await asyncio.gather(*asked)

    assert [2, 3] == read
    assert [["market.venues_min"]] * 2 == [reply.json["changed"] for reply in replies]
    assert "no_fresh_market_data" == (await house.quote("symbol=ETH/USDT&quantity=1")).code


# Switching one venue


async def test_disabled_venue_is_left_alone_until_it_is_enabled(house):
    """
    A venue that is switched off has no part in answers, keeps its row, and begins anew when it is switched on.
    """
    off = await switch(house, "kraken", "disable")
    assert (200, "kraken", False, None, []) == (
        off.status, *(off.json[name] for name in ("venue", "enabled", "state", "symbols"))
    )  # fmt: skip
    assert "until the next reload or restart" == off.json["in_force"]
    assert (await venues(house))["kraken"] == {name: off.json[name] for name in off.json if name != "in_force"}
    assert ["coinbase", "okx"] == await quoted(house)
    assert "kraken" not in [source["venue"] for source in (await house.quote()).json["sources"]]
    assert (
        "names kraken, which is switched off"
        == (await house.quote("symbol=BTC/USDT&quantity=1&venues=kraken")).json["errors"][0]["detail"]
    )

    on = await switch(house, "kraken", "enable")
    assert (True, "warming", 1_000) == tuple(on.json[name] for name in ("enabled", "state", "poll_interval_ms"))
    assert ["coinbase", "okx"] == await quoted(house)
    for symbol in ("BTC/USDT", "ETH/USDT"):
        house.board.instruct(instrument("kraken", symbol))
    house.show()
    assert ["kraken", "coinbase", "okx"] == await quoted(house)
    assert [("kraken", False), ("kraken", True)] == [
        (line["venue"], line["enabled"]) for line in house.lines("venue.switched")
    ]
    assert ["kraken", "kraken"] == [line["for_venue"] for line in house.lines("request") if "for_venue" in line]


@pytest.mark.parametrize(("venue", "verb", "enabled"), [("kraken", "enable", True), ("bitstamp", "disable", False)])
async def test_switching_to_what_is_already_so_does_nothing(house, venue, verb, enabled):
    """
    A venue that is as it should be is answered as it stands, with its books.
    """
    before = await venues(house)
    reply = await switch(house, venue, verb)

    assert (200, enabled) == (reply.status, reply.json["enabled"])
    assert before == await venues(house)
    assert [] == house.lines("venue.switched")


async def test_next_reload_puts_a_switched_venue_back(house):
    """
    The file decides at the next reload, and the answer says that it did.
    """
    await switch(house, "kraken", "disable")
    reply = await reload(house)

    assert ["venues.kraken.enabled"] == reply.json["changed"]
    assert (await venues(house))["kraken"]["enabled"]


@pytest.mark.parametrize("verb", ["enable", "disable"])
@pytest.mark.parametrize(
    ("venue", "said"),
    [
        ("krakn", "the settings have no such venue; the nearest is kraken"),
        ("zzzzzzzz", "the settings have no such venue"),
        ("iob_live_0123456789_secret", "the settings have no such venue"),
        ("%00", "the settings have no such venue"),
    ],
)
async def test_venue_that_the_settings_lack_is_not_found(house, verb, venue, said):
    """
    Only venues of the settings can be switched; the nearest name is suggested, and what was sent is never echoed.
    """
    reply = await switch(house, venue, verb)

    assert (404, "not_found", said) == (reply.status, reply.code, reply.json["detail"])


@pytest.mark.parametrize("house", [{"venues": {
    "kraken": {"exchange": "kraken"}, "coinbase": {"exchange": "coinbaseexchange"}, "okx": {"exchange": "okx"},
    "simulated": {"exchange": "bitstamp", "enabled": False, "base_url": "http://127.0.0.1:1"},
}}], indirect=True)  # fmt: skip
async def test_venue_that_does_not_fit_the_others_is_not_enabled(house):
    """
    A simulated venue does not join real ones.
    """
    reply = await switch(house, "simulated", "enable")

    assert (422, "invalid_settings", ["service.mode"]) == (
        reply.status, reply.code, [fault["parameter"] for fault in reply.json["errors"]]
    )  # fmt: skip
    assert not (await venues(house))["simulated"]["enabled"]


async def test_without_a_venue_nothing_is_quoted_and_nothing_breaks(house):
    """
    Whoever switches off all venues gets the usual refusals from every route, and one venue is enough to go on.
    """
    quote = (await house.quote("symbol=BTC/USDT&quantity=0.2&side=buy")).json
    for venue in ("kraken", "coinbase", "okx"):
        assert 200 == (await switch(house, venue, "disable")).status

    refused = [
        await house.quote(),
        await house.quote("symbol=BTC/USDT&quantity=1&exclude_venues=bitstamp"),
        await house.get("/v1/book?symbol=BTC/USDT"),
        await house.get("/v1/depth?symbol=BTC/USDT&bps=5"),
        await house.get("/readyz", key=None),
        await house.firm(),
        await house.buy(),
        await house.execute({"quote_id": quote["quote_id"], "client_order_id": "b"}),
    ]
    refused[1:2] = []  # Whoever leaves venues out is told that none is left.
    assert {(503, "no_fresh_market_data")} == {(reply.status, reply.code) for reply in refused}
    assert [[], []] == [symbol["venues"] for symbol in (await house.get("/v1/symbols")).json["symbols"]]
    assert 200 == (await house.get("/v1/account")).status

    await switch(house, "kraken", "enable")
    house.board.instruct(instrument("kraken", "BTC/USDT"))
    house.show({("kraken", "BTC/USDT"): LADDERS["kraken", "BTC/USDT"]})
    assert ["kraken"] == await quoted(house)


# Quotes from before


async def test_quote_of_a_venue_that_is_gone_is_refused_in_words(house):
    """
    What one venue alone was quoted on cannot be had when it is gone; the order is refused, never broken.
    """
    alone = (await house.quote("symbol=BTC/USDT&quantity=0.2&side=buy&venues=kraken")).json
    best = (await house.quote("symbol=BTC/USDT&quantity=0.1&side=buy")).json
    assert ["okx"] == [leg["venue"] for leg in best["buy"]["legs"]]
    await switch(house, "kraken", "disable")
    await switch(house, "okx", "disable")

    gone = await house.execute({"quote_id": alone["quote_id"], "client_order_id": "a"})
    assert (503, "no_fresh_market_data") == (gone.status, gone.code)
    moved = await house.execute({"quote_id": best["quote_id"], "client_order_id": "b"})
    assert (409, "price_moved") == (moved.status, moved.code)


async def test_firm_quote_is_kept_though_its_venue_and_its_symbol_are_gone(house):
    """
    A promise is a promise: an open firm quote is filled as given, released, or expires, whatever is served by then.
    """
    filled, released, expiring = [(await house.firm(quantity="0.01")).json for _ in range(3)]
    write(house)
    text = (house.folder / "settings.toml").read_text().replace('"BTC/USDT", ', "")
    (house.folder / "settings.toml").write_text(text)
    reply = await house.ask("POST", "/v1/admin/reload", key="admin")
    assert ["market.symbols"] == reply.json["changed"]
    await switch(house, "okx", "disable")

    execution = await house.execute({"quote_id": filled["quote_id"], "client_order_id": "a"})
    assert (201, filled["buy"]["total"]) == (execution.status, execution.json["total"])
    let_go = await house.ask("DELETE", f"/v1/quotes/{released['quote_id']}")
    assert (200, "released") == (let_go.status, let_go.json["status"])
    house.clock.advance(10_001)
    expired = await house.get(f"/v1/quotes/{expiring['quote_id']}")
    assert (200, "expired") == (expired.status, expired.json["status"])
    assert 200 == (await house.get(f"/v1/executions/{execution.json['execution_id']}")).status
