"""What one book the venues make."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from exchanges.book import UNIT, Side, units
from service.accounting import plain, price_text
from tests.conftest import venue_book
from tests.service import oracle
from tests.service.shown import as_shown, consolidated, merged, source


def lines(levels):
    return [f"{level.venue} {price_text(level.quantity)} @ {price_text(level.price)}" for level in levels]


def nets(book, side):
    return [plain(level.net_price(side)) for level in book.side(side).levels()]


def test_levels_rank_by_what_the_client_pays_or_receives():
    """
    Net ranks by the price with the venue's fee, gross by the price that is shown; best prices and mid are gross.
    """
    book = consolidated(
        {
            "dear": """
                .   100.2  1
                .   100.1  1
                1    99.9  .
                1    99.8  .
                """,
            "free": """
                .   100.4  1
                .   100.3  1
                1    99.7  .
                1    99.6  .
                """,
        },
        {"dear": 50},
    )

    assert ["free 1 @ 100.3", "free 1 @ 100.4", "dear 1 @ 100.1", "dear 1 @ 100.2"] == lines(book.asks.levels())
    assert ["free 1 @ 99.7", "free 1 @ 99.6", "dear 1 @ 99.9", "dear 1 @ 99.8"] == lines(book.bids.levels())
    assert ["100.3", "100.4", "100.6005", "100.701"] == nets(book, Side.BUY)
    assert ["99.7", "99.6", "99.4005", "99.301"] == nets(book, Side.SELL)
    assert ["dear 1 @ 100.1", "dear 1 @ 100.2", "free 1 @ 100.3"] == lines(book.asks.levels(gross=True, limit=3))
    assert ["dear 1 @ 99.9", "dear 1 @ 99.8", "free 1 @ 99.7"] == lines(book.bids.levels(gross=True, limit=3))
    # The best of all are the best of what each venue has best.
    assert ["free 1 @ 100.3"] == lines(book.asks.levels(limit=1))
    tops = [(top.venue, price_text(top.price), price_text(top.at_mid)) for top in (book.bids.top, book.asks.top)]
    assert [("dear", "99.9", "99.9"), ("dear", "100.1", "100.1")] == tops
    assert (book.asks, book.bids) == (book.side(Side.BUY), book.side(Side.SELL))
    assert ("100", False, ("dear", "free")) == (plain(book.mid), book.crossed, book.venues)
    assert ("BTC", "USDT") == (book.base_asset, book.quote_asset)


def test_equal_levels_go_to_the_venue_that_stands_first_in_the_settings():
    """
    Of levels at one net price, and of venues at one best price, the operator's order decides.
    """
    ladder = """
        .   101   1
        1    99   .
        """
    # 100 with 1 % is 101 as well, and 100 less 1 % is 99.
    fee = """
        .   100   1
        1   100   .
        """
    for names in (["b", "a", "fee"], ["fee", "a", "b"]):
        book = consolidated({name: fee if name == "fee" else ladder for name in names}, {"fee": 100})
        assert names == [level.venue for level in book.asks.levels()]
        assert names == [level.venue for level in book.bids.levels()]
    tied = consolidated({"z": ladder, "y": ladder})
    assert ["z", "z"] == [tied.bids.top.venue, tied.asks.top.venue]


def test_net_prices_have_every_digit():
    """
    A price with a fee is exact, however many digits it takes.
    """
    shown = [
        source(venue_book("a", ". 12345678901.123456789 1\n1 12345678901.123456788 ."), "0.123456"),
        source(venue_book("b", ". 0.000000012345678902 1\n1 0.000000012345678901 ."), "26"),
    ]
    for one in shown:
        book, market = merged([one]), as_shown([one])
        for side in Side:
            expected = [(p, q, net) for p, q, _, _, net in oracle.ranked(market, side.value)]
            assert expected == [
                (Fraction(level.price, UNIT), Fraction(level.quantity, UNIT), Fraction(level.net_price(side)))
                for level in book.side(side).levels()
            ]
        assert oracle.mid(market) == Fraction(book.mid)


def test_at_mid_of_what_is_not_converted_is_its_subtotal():
    """
    Where no stable pair is between, there is no mid of one to differ from.
    """
    book = consolidated({"kraken": ".  101  1\n.  100.5  2\n1  100  ."})
    [venue] = book.asks.venues

    quantities = [units(Decimal(quantity)) for quantity in ("1", "2", "2.5", "3")]
    assert [venue.amounts(quantity).subtotal for quantity in quantities] == list(map(venue.at_mid, quantities))
