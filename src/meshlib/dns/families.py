"""Which IP versions are of use here: an address that no route leads to would only fail."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address

__all__ = ["own_families", "usable"]

_ELSEWHERE = ((4, socket.AF_INET, "192.0.2.1"), (6, socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation: nothing is sent, the kernel is asked for a route."""


def own_families() -> frozenset[int]:
    """The IP versions that this machine has a route for; both when it has none for either.

    Source: Istio looks names up in the families of the caller's own addresses (``dnsLookupFamily``).
    """
    found = frozenset(version for version, family, address in _ELSEWHERE if _has_route(family, address))
    return found or frozenset({4, 6})


def usable(addresses: Iterable[str], families: frozenset[int]) -> tuple[str, ...]:
    """Those of ``families``, and loopback ones."""
    parsed = ((text, ip_address(text)) for text in addresses)
    return tuple(text for text, address in parsed if address.version in families or address.is_loopback)


def _has_route(family: int, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True
