"""Addresses and ranges of them: how they are read, and which one is a client's behind proxies.

Pure.  An IPv4 address inside an IPv6 one is the IPv4 address: a listener on both protocols sees IPv4 callers so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_RANGE = re.compile(r"[0-9A-Fa-f.:]+(/[0-9]{1,3})?", re.ASCII)
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|([0-9.]{7,15}):\d{1,5}", re.ASCII)


def read_range(text: str) -> Network:
    """
    Read a range of addresses in CIDR notation; a single address is a range of one.

    Raises:
        ValueError: With a sentence; it repeats no more than the range that was meant.
    """
    try:
        if not _RANGE.fullmatch(text):
            raise ValueError(text)
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("addresses are ranges such as 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32") from None
    if ip_address(text.partition("/")[0]) != network.network_address:
        raise ValueError(f"an address with bits beyond its range; did you mean {network}?")
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if mapped is None or network.prefixlen < 96 else IPv4Network((mapped, network.prefixlen - 96))


def read_address(text: str) -> Address | None:
    """Read an address, with or without a port; None if it is none."""
    match = _WITH_PORT.fullmatch(text)
    try:
        found = ip_address(text if match is None else match[1] or match[2])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def is_within(address: Address | None, ranges: Iterable[Network]) -> bool:
    """Tell whether an address is in one of some ranges; what is none is in no range."""
    return address is not None and any(address in one for one in ranges)


def network_of(text: str) -> str:
    """Give what of an address one client can be expected to have: of IPv6 the /64 network; what is none, as it came."""
    found = read_address(text)
    if isinstance(found, IPv6Address):
        return str(IPv6Address(int(found) >> 64 << 64))
    return text if found is None else str(found)


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
        if not is_within(address, trusted):
            return known
    return known
