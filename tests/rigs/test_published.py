"""A demo keeps to its published document."""

from __future__ import annotations

import pytest

from tests.rigs.published import schemathesis


async def test_demo_keeps_to_its_document(run):
    """
    What the document allows is answered as it says, and what it does not allow is refused: of orders and the book.
    """
    figures = await run(schemathesis, 2, only=["get_book", "execute_order"], phases="examples,fuzzing")

    assert figures["ok"], str(figures)
    assert 2 == figures["operations"]


@pytest.mark.broken_copy
async def test_rig_finds_broken_copy(run):
    """
    A service that takes what its document forbids is found out.
    """
    figures = await run(schemathesis, 1, only=["get_book"], phases="coverage", fault="any_word")

    assert not figures["ok"]
    assert figures["failures"], str(figures)
