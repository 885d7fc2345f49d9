"""Which addresses Rollcall may call on behalf of a company: those of the public internet, and what the operator opens.

`ipaddress.is_global` is not the rule: by Python 3.11 multicast, NAT64, 6to4 and several reserved networks are global. The networks
below are those of IANA's special-purpose registries (RFC 6890 and its successors) that lead inside, nowhere, or to everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

__all__ = ["LOOPBACK", "Address", "Network", "why_closed"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# What an operator opens where everything runs on one machine.
LOOPBACK: Final[Sequence[Network]] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

_CLOSED_V4: Final[Sequence[tuple[IPv4Network, str]]] = [
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "a cloud's metadata"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]
# Of IPv6 only 2000::/3 was ever given to anybody; these are the exceptions in it.
_UNICAST: Final = IPv6Network("2000::/3")
_CLOSED_V6: Final[Sequence[tuple[IPv6Network, str]]] = [
    (IPv6Network(network), kind)
    for network, kind in (
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("::/128", "this network"),
        ("::1/128", "loopback"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
    )
]
_NAT64: Final = IPv6Network("64:ff9b::/96")


def why_closed(address: str, opened: Iterable[Network]) -> str | None:
    """Why the address may not be dialled, in a word or two; None where it may. `opened` are the operator's networks."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "no address"
    return _why_closed(parsed, tuple(opened))


def _why_closed(address: Address, opened: tuple[Network, ...]) -> str | None:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            # The same machine by another spelling: what holds for one holds for the other.
            return _why_closed(address.ipv4_mapped, opened)
        if address.scope_id is not None:
            return "link-local"
    kind = _kind(address)
    if kind is None or not any(address in network for network in opened if network.version == address.version):
        return kind
    if isinstance(address, IPv6Address) and address in _NAT64:
        # To open the gateway is not to open what lies behind it.
        return _why_closed(IPv4Address(int(address) & 0xFFFFFFFF), opened)
    return None


def _kind(address: Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _CLOSED_V4 if address in network), None)
    kind = next((kind for network, kind in _CLOSED_V6 if address in network), None)
    return kind if kind is not None or address in _UNICAST else "reserved"
