"""A scenario's file is read whole, or refused with all that is wrong with it; what it does is a function of time."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.simulator import VENUES, ScenarioError, SimulatedMarket, load_scenario, scenario_names
from exchanges.simulator.market import STEP_MS
from exchanges.simulator.scenario import read_scenario
from exchanges.simulator.scenario_files import FILE_BYTES_MAX, shipped_scenarios
from exchanges.simulator.shocks import ASSETS, ONE, Move, Shocks

LISTINGS = [(venue.name, listing) for venue in VENUES.values() for listing in venue.listings.values()]
HEAD = 'description = "Something happens."\nseed = 3\n'


def event(**fields: object) -> str:
    """Write a table of an event; what is given as None is left out."""
    whole = {"at_s": 1, "says": '"It happens."', **fields}
    return "[[event]]\n" + "".join(f"{name} = {value}\n" for name, value in whole.items() if value is not None)


def problems(text: str) -> list[str]:
    """Give what is said to be wrong with a file's text, without its name."""
    with pytest.raises(ScenarioError) as raised:
        read_scenario("own", text)
    assert str(raised.value) == "\n".join(raised.value.problems)
    assert all(problem.startswith("own: ") for problem in raised.value.problems)
    return [problem.removeprefix("own: ") for problem in raised.value.problems]


OK_OUT = event(venue='"okx"', fault='"slow"', delay_ms=5)
OK_BACK = event(at_s=2.5, venue='"okx"', fault='"off"')


# Reading.


def test_file_is_read_as_it_is_written():
    """Seed, description, times, words, faults and moves are the file's."""
    crash = event(at_s=3, asset='"BTC"', price_percent=87.5, depth_percent=20, over_s=0.3)
    calm = event(at_s=4, asset='"BTC"', depth_percent=100)
    scenario = read_scenario("own", HEAD + OK_OUT + OK_BACK + crash + calm)

    assert ("own", "Something happens.", 3) == (scenario.name, scenario.description, scenario.seed)
    assert [1_000, 2_500, 3_000, 4_000] == [event.at_ms for event in scenario.events]
    on, off, move, _ = (event.does for event in scenario.events)
    assert (("okx",), None, "slow", "depth", {"delay_ms": 5}) == (
        on.venues, on.symbol, on.fault.name, on.scope, on.options,
    )  # fmt: skip
    assert (("okx",), None) == (off.venues, off.fault)
    assert Move(300, "BTC", ONE * 875 // 1_000, ONE // 5) == move
    assert 4_000 == scenario.ends_ms


@pytest.mark.parametrize(("text", "expected"), [
    ("", [
        "description must be a line of text that says what happens",
        "seed must be a whole number of at most 64 bits, such as 7",
        "needs 1 to 200 tables [[event]]",
    ]),
    ("x = [", ["is not TOML: Invalid value (at end of document)"]),
    (HEAD, ["needs 1 to 200 tables [[event]]"]),
    (HEAD + "event = 1", ["needs 1 to 200 tables [[event]]"]),
    (HEAD + "event = [1]", ["event 1: must be a table [[event]]"]),
    (HEAD.replace("seed", "sed") + OK_OUT + OK_BACK, [
        "there is no field 'sed'; did you mean seed?", "seed must be a whole number of at most 64 bits, such as 7",
    ]),
    (HEAD + event(), ["event 1: needs a venue and a fault, or an asset and where its price or depth goes"]),
    # Of venues: as `POST /faults` says it, but all at once.
    (HEAD + event(venue='"bybt"', fault='"slwo"', symbol='"BTC/USD T"', scope='"al"', delay_ms=3), [
        "event 1: there is no venue 'bybt'; did you mean bybit",
        "event 1: there is no fault 'slwo'; did you mean slow",
        "event 1: there is no symbol 'BTC/USD T'; did you mean BTC/USDT or BTC/USD or BTC/USDC?",
        "event 1: there is no scope 'al'; did you mean all?",
    ]),
    (HEAD + event(venue='"okx"', fault='"slow"', delay_ms=-3, delay=1), [
        "event 1: the field 'delay_ms' must be a whole number from 0 to 600000",
        "event 1: there is no field 'delay'; did you mean delay_ms?",
    ]),
    (HEAD + event(venue='"okx"'), ["event 1: fault is missing"]),
    (HEAD + event(fault='"cutt"'), [
        "event 1: venue is missing",
        "event 1: there is no fault 'cutt'; did you mean cut",
    ]),
    (HEAD + event(venue='"okx"', fault='"crossed"', scope='"all"') + OK_BACK, [
        "event 1: there is no scope 'all'; did you mean depth",
    ]),
    # Of assets.
    (HEAD + event(asset='"DOGE"', price_percent=50, over=3), [
        "event 1: there is no field 'over'; did you mean over_s?",
        "event 1: asset must be one of BTC, ETH, USDT, USDC, not 'DOGE'",
    ]),
    (HEAD + event(asset='"BTC"'), ["event 1: needs price_percent or depth_percent"]),
    (HEAD + event(asset='"BTC"', price_percent=9.9, depth_percent='"1"', over_s=-1), [
        "event 1: over_s must be a number of seconds from 0 to 86400 in steps of 0.1, not -1",
        "event 1: price_percent must be a number from 10 to 1000 with at most 4 decimals, not 9.9",
        "event 1: depth_percent must be a number from 1 to 1000 with at most 4 decimals, not '1'",
    ]),
    (HEAD + event(asset='"BTC"', price_percent="nan"), [
        "event 1: price_percent must be a number from 10 to 1000 with at most 4 decimals, not NaN",
    ]),
    (HEAD + event(asset='"BTC"', price_percent="99.00001"), [
        "event 1: price_percent must be a number from 10 to 1000 with at most 4 decimals, not 99.00001",
    ]),
    (HEAD + event(asset='"BTC"', price_percent="true", venue='"okx"'), [
        "event 1: is of a venue or of an asset; write two events",
        "event 1: fault is missing",
    ]),
    # Of time and words.
    (HEAD + event(at_s=0.05, says='""', venue='"okx"', fault='"off"'), [
        "event 1: at_s must be a number of seconds from 0 to 86400 in steps of 0.1, not 0.05",
        "event 1: says must be a line of text that says what happens",
    ]),
    (HEAD + event(at_s=None, says=None, venue='"okx"', fault='"off"'), [
        "event 1: at_s must be a number of seconds from 0 to 86400 in steps of 0.1",
        "event 1: says must be a line of text that says what happens",
    ]),
    (HEAD + event(at_s="1e999999999999999999999", venue='"okx"', fault='"off"'), [
        "event 1: at_s must be a number of seconds from 0 to 86400 in steps of 0.1, not NaN",
    ]),
    (HEAD + event(at_s=5, venue='"okx"', fault='"off"') + event(at_s=4, venue='"okx"', fault='"off"'), [
        "event 2: at_s is earlier than the event before it; write them in the order of time",
    ]),
    # What is left behind.
    (HEAD + OK_OUT, ['okx is never rid of slow; end with an event of fault = "off"']),
    (HEAD + OK_OUT + event(venue='"okx"', fault='"off"', symbol='"BTC/USDT"'), [
        'okx is never rid of slow; end with an event of fault = "off"',
    ]),
    (HEAD + OK_OUT + event(venue='"okx"', fault='"off"', scope='"stream"'), [
        'okx is never rid of slow; end with an event of fault = "off"',
    ]),
    (HEAD + event(asset='"BTC"', depth_percent=20) + event(asset='"BTC"', price_percent=90), [
        "the depth of BTC never comes back; end with an event of depth_percent = 100",
    ]),
])  # fmt: skip
def test_everything_that_is_wrong_is_said_at_once(text, expected):
    """A sentence for each mistake, with the place and the nearest name that would be right."""
    said = problems(text)
    # Which names are nearest after the first depends on all the others.
    assert expected == [problem[: len(start)] for problem, start in zip(said, expected, strict=True)]


def test_own_file_is_found_by_its_path(tmp_path):
    """What looks like a path is one; what cannot be read says why."""
    own = tmp_path / "own.toml"
    own.write_text(HEAD + OK_OUT + OK_BACK)
    assert str(own) == load_scenario(str(own)).name

    (tmp_path / "long.toml").write_text("#" * (FILE_BYTES_MAX + 1))
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    for name, expected in {
        "missing.toml": "cannot be read: No such file or directory",
        "nul\0.toml": "cannot be read: not a file name",
        "long.toml": f"is longer than {FILE_BYTES_MAX} bytes, which no scenario needs",
        "latin.toml": "is not UTF-8; save it as UTF-8",
    }.items():
        with pytest.raises(ScenarioError, match=re.escape(f"{name}: {expected}")):
            load_scenario(f"{tmp_path}/{name}")


@pytest.mark.parametrize(("name", "expected"), [
    ("flsh_crash", "there is no scenario 'flsh_crash'; did you mean flash_crash? there are crossed_feed, depeg, "),
    ("x" * 500, f"there is no scenario '{'x' * 100}'; there are crossed_feed, depeg, "),
    ("", "there is no scenario ''; there are crossed_feed, depeg, "),
])  # fmt: skip
def test_misspelled_name_is_answered_with_the_nearest_and_the_list(name, expected):
    """Nobody has to look up how a scenario is called."""
    with pytest.raises(ScenarioError) as raised:
        load_scenario(name)

    assert raised.value.problems[0].startswith(expected)


@pytest.mark.parametrize("name", scenario_names())
def test_shipped_scenario_is_small_and_tells_its_story(name):
    """A file of at most 60 lines, a description of a line, the first event late enough to be watched."""
    scenario = shipped_scenarios()[name]
    text = (Path(__file__).parents[3] / "exchanges/simulator/scenarios" / f"{name}.toml").read_text()

    assert name == scenario.name
    assert len(text.splitlines()) <= 60
    assert 20_000 <= scenario.events[0].at_ms < scenario.ends_ms <= 300_000
    assert all(event.says.endswith(".") for event in scenario.events)


# What it does to the market.


def test_moves_go_in_straight_lines_and_take_over_from_each_other():
    """Half the way in half the time; a move that begins during another one starts from where that one has come to."""
    shocks = Shocks(
        [
            (1_000, Move(2_000, "BTC", price=ONE // 2)),
            (2_000, Move(1_000, "BTC", price=ONE)),
            (5_000, Move(0, "BTC", price=2 * ONE)),
        ]
    )

    at = {
        at_ms: Decimal(shocks.price("BTC/USD", at_ms)[0]) / ONE
        for at_ms in (0, 1_000, 1_500, 2_000, 2_500, 3_000, 4_999, 5_000, 9_000)
    }

    assert ["1", "1", "0.875", "0.75", "0.875", "1", "1", "2", "2"] == [str(value.normalize()) for value in at.values()]


def test_price_in_another_asset_is_the_quotient_of_prices_in_dollars():
    """While USDT loses a tenth, BTC keeps its worth in dollars and is dearer in USDT."""
    calm, depegged = SimulatedMarket(7), SimulatedMarket(7, Shocks([(0, Move(0, "USDT", price=ONE * 9 // 10))]))

    def factor(symbol: str) -> Decimal:
        before, after = (market.book("kraken", symbol, 50_000, 1).bids[0].price for market in (calm, depegged))
        assert before is not None and after is not None
        return round(after / before, 3)

    assert ["1.000", "1.111", "0.900", "1.000", "1.111"] == [
        str(factor(symbol)) for symbol in ("BTC/USD", "BTC/USDT", "USDT/USD", "USDC/USD", "USDC/USDT")
    ]


def test_depth_is_of_the_books_with_that_base_asset():
    """A fifth of each quantity is left, apart from rounding; other assets' books are as before, and so are prices."""
    calm, thin = SimulatedMarket(7), SimulatedMarket(7, Shocks([(0, Move(0, "BTC", depth=ONE // 5))]))

    before, after = (market.book("okx", "BTC/USDT", 50_000, 50) for market in (calm, thin))
    assert [level.price for level in before.asks] == [level.price for level in after.asks]
    assert all(
        abs(one.quantity - 5 * other.quantity) < Decimal("1e-7")
        for one, other in zip(before.bids, after.bids, strict=True)
    )
    assert calm.book("okx", "ETH/USDT", 50_000) == thin.book("okx", "ETH/USDT", 50_000)


def test_depth_at_the_touch_falls_with_a_crash_that_thins_it():
    """Whoever rests quantities moves them along: no wall of old orders stands where the price has fallen to."""
    scenario = shipped_scenarios()["flash_crash"]
    market = SimulatedMarket(scenario.seed, scenario.shocks())

    def near(at_ms: int) -> Decimal:
        book = market.book("binance", "BTC/USDT", at_ms, 100)
        return sum((level.quantity or Decimal(0) for level in (*book.bids, *book.asks)), Decimal(0))

    assert near(24_500) < near(19_000) / 3


moves = st.lists(
    st.tuples(
        st.integers(0, 100).map(lambda tenths: tenths * STEP_MS),
        st.builds(
            Move,
            st.integers(0, 50).map(lambda tenths: tenths * STEP_MS),
            st.sampled_from(ASSETS),
            st.none() | st.integers(ONE // 10, 10 * ONE),
            st.none() | st.integers(ONE // 100, 10 * ONE),
        ),
    ),
    max_size=4,
).map(lambda timed: sorted(timed, key=lambda one: one[0]))


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(LISTINGS), moves, st.integers(0, 20_000))
def test_book_keeps_every_rule_during_any_crash(where, timed, at_ms):
    """However prices and depth are moved, books are sorted, uncrossed, on step, positive and as deep as before."""
    venue, listing = where
    book = SimulatedMarket(5, Shocks(timed)).book(venue, listing.symbol, at_ms, 100)

    for side, away in ((book.bids, -1), (book.asks, 1)):
        prices = [level.price for level in side]
        assert 100 == len(prices)
        assert all((there - here) * away > 0 for here, there in pairwise(prices))
        assert all(price > 0 == price % listing.price_step for price in prices)
        assert all(
            level.quantity >= listing.quantity_min and not level.quantity % listing.quantity_shown for level in side
        )
    assert book.bids[0].price < book.asks[0].price


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(LISTINGS),
    st.integers(0, 300_000),
    st.lists(st.integers(0, 300_000), max_size=4),
    st.sampled_from(scenario_names()),
)
def test_market_of_a_scenario_can_be_asked_for_any_moment(where, at_ms, asked_before, name):
    """The same seed and scenario give the same book, whatever was asked for before."""
    venue, listing = where
    scenario = shipped_scenarios()[name]
    fresh, asked = (SimulatedMarket(scenario.seed, scenario.shocks()) for _ in range(2))
    for earlier_ms in asked_before:
        asked.book(venue, listing.symbol, earlier_ms, 3)

    assert fresh.book(venue, listing.symbol, at_ms, 50) == asked.book(venue, listing.symbol, at_ms, 50)
