"""The address of a client behind proxies."""

from __future__ import annotations

import pytest

from service.addresses import client_address, read_address, read_range

PROXIES = tuple(map(read_range, ["10.0.0.0/8", "fd00::/8"]))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # Whoever is no proxy of ours can say what it likes.
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        # What stands further left was said by the client itself.
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9"], "198.51.100.9"),
        # Through two proxies.
        ("10.0.0.1", ["198.51.100.9, 10.0.0.2"], "198.51.100.9"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.9:5123"], "198.51.100.9"),
        ("10.0.0.1", ["::ffff:198.51.100.9"], "198.51.100.9"),
        ("::ffff:10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        # All are ours, or what a proxy passed on is no address: the last that is known.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("", ["198.51.100.9"], ""),
    ],
)
def test_client_is_the_rightmost_address_that_is_no_proxy_of_ours(peer, forwarded_for, expected):
    """
    Only what a trusted proxy has added is believed.
    """
    assert expected == client_address(peer, forwarded_for, PROXIES)


def test_without_trusted_proxies_the_connection_itself_counts():
    """
    A header that anyone can send changes nothing.
    """
    assert "10.0.0.1" == client_address("10.0.0.1", ["198.51.100.9"], ())


@pytest.mark.parametrize(
    "text", ["", "1.2.3", "1.2.3.4:x", "[1.2.3.4", "999.1.1.1:80", "\N{FULLWIDTH DIGIT ONE}.2.3.4"]
)
def test_what_is_no_address_is_none(text):
    """
    Nothing is guessed.
    """
    assert read_address(text) is None


@pytest.mark.parametrize(
    ("text", "expected"), [("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("::ffff:10.0.0.1", "10.0.0.1/32")]
)
def test_proxy_that_is_named_by_its_mapped_address_is_the_same_proxy(text, expected):
    """
    However an operator writes a proxy, the client behind it is found.
    """
    assert expected == str(read_range(text))
    assert "198.51.100.9" == client_address("10.0.0.1", ["198.51.100.9"], [read_range(text)])
