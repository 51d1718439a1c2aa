"""Texts from elsewhere, on their way to a terminal."""

from __future__ import annotations

import pytest

from service.printable import printable, printable_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no price: two lines\nof it, “quoted”", "no price: two lines\nof it, “quoted”"),
        # What moves the cursor, names the window, or is one sign of C1.
        ("\x1b[2J\x1b]0;gone\x07", "�[2J�]0;gone�"),
        ("\x9b31m\r\x08\x7f\t", "�31m����"),
        # What turns the direction of writing, and a half of a pair.
        ("abc\u202ecba\ud800", "abc�cba�"),
    ],
)
def test_terminal_is_given_nothing_that_steers_it(text, expected):
    """
    Every sign that is not shown stands as one that is; nothing else changes, and nothing gets longer.
    """
    assert expected == printable(text)
    assert len(text) == len(printable(text))


def test_values_and_names_are_both_printable():
    """
    Wherever a text stands in an answer; what is no text stays as it is.
    """
    answer = {"a\x1b": [{"b": "\x1bc"}, 1, None, True]}

    assert {"a�": [{"b": "�c"}, 1, None, True]} == printable_values(answer)
