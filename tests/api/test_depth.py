"""GET /v1/depth: what rests within so many basis points of mid, counted by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tests.api.conftest import FEES_BPS, LADDERS, NUMBER

MID = (Fraction("64009") + Fraction("64001.5")) / 2
MEASURES = ("bid_quantity", "bid_notional", "ask_quantity", "ask_notional")
EVEN = {
    # Mid is 64000: 6.4 away is one basis point.
    ("kraken", "BTC/USDT"): "1 63993.6 .\n2 63987.2 .\n. 64006.4 1\n. 64012.8 2",
    ("coinbase", "BTC/USDT"): "3 63993.59 .\n. 64006.41 3",
    ("okx", "BTC/USDT"): "4 63990 .\n. 64010 4",
}


def resting(venue, bps):
    """Quantity and notional of a venue's bids and asks within a distance of mid, by its own drawing."""
    found = dict.fromkeys(MEASURES, Fraction(0))
    for line in LADDERS[venue, "BTC/USDT"].strip().splitlines():
        bid, price, ask = line.split()
        name, quantity = ("ask", ask) if bid == "." else ("bid", bid)
        if abs(Fraction(price) - MID) <= MID * Fraction(bps) / 10_000:
            found[f"{name}_quantity"] += Fraction(quantity)
            found[f"{name}_notional"] += Fraction(quantity) * Fraction(price)
    return found


def measured(band):
    return {name: Fraction(band[name]) for name in MEASURES}


async def test_depth_is_what_every_venue_shows_within_each_distance(house):
    """
    Each band has what rests there on every venue, and in all, in base asset and in money before fees.
    """
    distances = ["5", "0.5", "10", "9999"]
    message = (await house.get(f"/v1/depth?symbol=BTC/USDT&bps={','.join(distances)}")).json

    assert {"symbol", "market_data", "mid", "bands", "sources"} == set(message)
    assert ("BTC/USDT", "live", MID) == (message["symbol"], message["market_data"], Fraction(message["mid"]))
    assert distances == [band["bps"] for band in message["bands"]]
    for band in message["bands"]:
        by_venue = {one["venue"]: measured(one) for one in band["venues"]}
        assert list(FEES_BPS) == list(by_venue)
        assert {venue: resting(venue, band["bps"]) for venue in FEES_BPS} == by_venue
        assert {name: sum(one[name] for one in by_venue.values()) for name in MEASURES} == measured(band)
    assert [NUMBER, None, NUMBER] == [source["sequence"] for source in message["sources"]]
    assert all(source["used"] for source in message["sources"])


@pytest.mark.parametrize(
    ("bps", "bids", "asks"),
    [
        # The best prices are one basis point away, on kraken; coinbase's are a hair further, okx' 1.5625.
        ("0", "0", "0"),
        ("0.999999999999", "0", "0"),
        ("1", "1", "1"),
        ("1.0015625", "4", "4"),
        ("1.5625", "8", "8"),
        ("1.999999999999", "8", "8"),
        ("2", "10", "10"),
    ],
)
async def test_level_at_the_very_distance_is_within_it(house, bps, bids, asks):
    """
    A distance is meant inclusively, to the last of its decimals.
    """
    house.show(EVEN)
    [band] = (await house.get(f"/v1/depth?symbol=BTC/USDT&bps={bps}")).json["bands"]
    assert (bids, asks) == (band["bid_quantity"], band["ask_quantity"])


@pytest.mark.parametrize(
    "bps",
    [
        "10,5,10",
        pytest.param(
            "10,5,10.0,5.00",
        ),
    ],
)
async def test_distance_asked_for_twice_is_answered_once(house, bps):
    """
    A band stands where it was first asked for.
    """
    bands = (await house.get(f"/v1/depth?symbol=BTC/USDT&bps={bps}")).json["bands"]
    assert ["10", "5"] == [band["bps"] for band in bands]


async def test_venue_that_is_not_used_is_not_in_the_bands(house):
    """
    Depth is that of the consolidated book: a venue that does not count is named with its reason only.
    """
    house.board.fail("okx", "BTC/USDT", "banned", house.clock.now_ns(), at_once=True)
    message = (await house.get("/v1/depth?symbol=BTC/USDT&bps=5")).json
    assert ["kraken", "coinbase"] == [venue["venue"] for venue in message["bands"][0]["venues"]]
    assert [("kraken", True, None), ("coinbase", True, None), ("okx", False, "banned")] == [
        (source["venue"], source["used"], source["reason"]) for source in message["sources"]
    ]


@pytest.mark.parametrize(
    ("query", "faults"),
    [
        ("symbol=BTC/USDT", [("bps", "missing_parameter")]),
        ("bps=5", [("symbol", "missing_parameter")]),
        ("", [("bps", "missing_parameter"), ("symbol", "missing_parameter")]),
        ("symbol=BTC/USDT&bps=5&bps=10", [("bps", "duplicate_field")]),
        ("symbol=BTC/USDT&bps=5&depth=10", [("depth", "unknown_parameter")]),
        ("symbol=BTC/USDT&ticker=BTC/USDT&bps=5", [("ticker", "unknown_parameter")]),
        ("symbol=BTC&symbol=BTC&bps=x", [("bps", "invalid_parameter"), ("symbol", "duplicate_field")]),
        *(
            (f"symbol=BTC/USDT&bps={bps}", [("bps", "invalid_parameter")])
            for bps in (
                "", ",", "5,", ",5", "5,,10", "5;10", "5,%2010", "-1", "%2B1", "1e1", "nan", "05", "1_0", "5,five",
                "%EF%BC%95", "5%0A", "0.0000000000001", "1234567890123", ",".join(map(str, range(21))), "9" * 4_000,
                # So far down there are no prices.
                "10000", "5,10000.000000000001", "999999999999",
            )
        ),
    ],
)  # fmt: skip
async def test_query_of_another_form_is_refused(house, query, faults):
    """
    Distances are up to twenty plain numbers with commas between them, each less than the whole price.
    """
    reply = await house.get(f"/v1/depth?{query}")
    assert (400, faults) == (reply.status, reply.faults)


async def test_twenty_distances_are_taken(house):
    """
    Twenty are answered in one go, the furthest just short of nothing at all.
    """
    distances = [*map(str, range(19)), "9999.999999999999"]
    bands = (await house.get(f"/v1/depth?symbol=btc-usdt&bps={','.join(distances)}")).json["bands"]
    assert distances == [band["bps"] for band in bands]
    quantities = [Fraction(band["ask_quantity"]) for band in bands]
    assert quantities == sorted(quantities)


async def test_depth_of_an_unknown_symbol_is_refused_with_the_nearest(house):
    """
    A mistyped symbol is answered with the one that was probably meant.
    """
    reply = await house.get("/v1/depth?symbol=BTC/USTD&bps=5")
    [fault] = reply.json["errors"]
    assert ("unknown_symbol", "symbol", "BTC/USDT") == (reply.code, fault["parameter"], fault["suggested"])


async def test_without_a_market_there_is_no_depth(house):
    """
    What cannot be quoted has no depth either, and the answer says why.
    """
    house.clock.advance(5_001)
    reply = await house.get("/v1/depth?symbol=BTC/USDT&bps=5")
    assert (503, "no_fresh_market_data") == (reply.status, reply.code)
    assert ["stale"] * 3 == [source["reason"] for source in reply.json["sources"]]
    [line] = house.lines("request")
    assert ("/v1/depth", "BTC/USDT", "no_fresh_market_data") == (line["route"], line["symbol"], line["code"])
