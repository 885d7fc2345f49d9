"""Which addresses may be called: the public internet's, and what the operator opens."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.addresses import why_closed

CLOSED = {
    "0.0.0.0": "this network",
    "0.1.2.3": "this network",
    "10.0.0.1": "private",
    "100.64.0.1": "shared by a carrier",
    "100.100.100.200": "shared by a carrier",
    "100.127.255.255": "shared by a carrier",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "a cloud's metadata",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4 relay",
    "192.168.1.1": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation",
    "203.0.113.7": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "this network",
    "::1": "loopback",
    "::127.0.0.1": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:10.0.0.1": "private",
    "::ffff:0:7f00:1": "reserved",
    "64:ff9b::7f00:1": "NAT64",
    "64:ff9b::808:808": "NAT64",
    "64:ff9b:1::1": "NAT64",
    "100::1": "reserved",
    "2001::1": "reserved",
    "2001:0:7f00:1::": "reserved",
    "2001:2::1": "reserved",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "6to4",
    "2002:808:808::1": "6to4",
    "3fff::1": "documentation",
    "3fff:fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "reserved",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "reserved",
    "ff02::1": "multicast",
    "ff0e::1": "multicast",
    "127.1": "no address",
    "localhost": "no address",
    "": "no address",
}
OPEN = ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"]


@pytest.mark.parametrize("address", CLOSED)
def test_what_leads_inside_nowhere_or_to_everybody_is_closed(address: str) -> None:
    assert why_closed(address, ()) == CLOSED[address]


@pytest.mark.parametrize("address", OPEN)
def test_the_public_internet_is_open(address: str) -> None:
    assert why_closed(address, ()) is None


def test_the_operator_opens_networks_and_nothing_beside_them() -> None:
    opened = (ip_network("10.20.0.0/16"), ip_network("fd00::/8"))
    for address in ("10.20.30.40", "::ffff:10.20.0.1", "fd12::1"):
        assert why_closed(address, opened) is None
    for address in ("10.21.0.1", "127.0.0.1", "fc00::1", "::ffff:10.21.0.1", "64:ff9b::a14:1"):
        assert why_closed(address, opened) is not None


def test_an_open_gateway_opens_nothing_that_lies_behind_it() -> None:
    gateway = (ip_network("64:ff9b::/96"),)
    assert why_closed("64:ff9b::808:808", gateway) is None
    assert why_closed("64:ff9b::7f00:1", gateway) == "loopback"
    assert why_closed("64:ff9b::7f00:1", (*gateway, ip_network("127.0.0.0/8"))) is None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_what_python_knows_to_be_inside_is_never_open(address: IPv4Address) -> None:
    if address.is_private or address.is_multicast or address.is_reserved or address.is_link_local or not address.is_global:
        assert why_closed(str(address), ()) is not None
    assert why_closed(f"::ffff:{address}", ()) == why_closed(str(address), ())


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_of_ipv6_only_what_was_given_out_is_open(address: IPv6Address) -> None:
    mapped = address.ipv4_mapped is not None
    if (address.is_private and not mapped) or address.is_multicast or address.packed[0] >> 5 != 1:
        assert mapped or why_closed(str(address), ()) is not None
