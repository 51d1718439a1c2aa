"""Find the address of a client behind proxies.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|([0-9.]{7,15}):\d{1,5}", re.ASCII)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and networks; ValueError if one is none."""
    return tuple(ip_network(text) for text in texts)


def read_address(text: str) -> Address | None:
    """Read an address, with or without a port; an IPv4 address inside an IPv6 one is the IPv4 address."""
    match = _WITH_PORT.fullmatch(text)
    try:
        found = ip_address(text if match is None else match[1] or match[2])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """
    Give the address that a request came from.

    Args:
        peer: Of the connection itself.
        forwarded_for: Values of ``X-Forwarded-For``, in order; each proxy has added its own peer at the end.
        trusted: Of the proxies whose word is taken.

    Returns:
        The rightmost address that is no proxy of ours; the last one that is known where what stands there is none.
    """
    if not trusted or not forwarded_for:
        return peer
    known = peer
    for hop in (peer, *reversed([hop.strip() for value in forwarded_for for hop in value.split(",")])):
        address = read_address(hop)
        if address is None:
            return known
        known = str(address)
        if not any(address in network for network in trusted):
            return known
    return known
