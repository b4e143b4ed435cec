"""Domains of virtual hosts: which of several patterns is meant by a host name, in Envoy's and gRPC's order.

An exact name goes before ``*.suffix``, that before ``prefix.*``, and ``*`` comes last; of several wildcards of a kind
the longest wins. A wildcard stands for at least one character, and case does not matter.

Source: Envoy ``VirtualHost.domains``; gRFC A27.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from meshlib.model.route import VirtualHost

__all__ = ["DomainKind", "RouteTable", "best", "domain_kind", "matches_domain"]


class DomainKind(Enum):
    """Kinds of patterns, the most specific first; ``INVALID`` has its asterisk inside and matches nothing."""

    EXACT = 0
    SUFFIX = 1
    PREFIX = 2
    UNIVERSAL = 3
    INVALID = 4


def domain_kind(pattern: str) -> DomainKind:
    """What kind of pattern it is; the empty one is invalid."""
    if pattern == "*":
        return DomainKind.UNIVERSAL
    if not pattern or "*" in pattern[1:-1] or pattern.count("*") > 1:
        return DomainKind.INVALID
    if pattern.startswith("*"):
        return DomainKind.SUFFIX
    return DomainKind.PREFIX if pattern.endswith("*") else DomainKind.EXACT


def matches_domain(pattern: str, host: str) -> bool:
    """Whether ``host`` is among the names that ``pattern`` stands for."""
    pattern, host, kind = pattern.lower(), host.lower(), domain_kind(pattern)
    if kind is DomainKind.EXACT:
        return pattern == host
    if kind is DomainKind.SUFFIX:
        return len(host) >= len(pattern) and host.endswith(pattern[1:])
    if kind is DomainKind.PREFIX:
        return len(host) >= len(pattern) and host.startswith(pattern[:-1])
    return kind is DomainKind.UNIVERSAL


def best(patterns: Iterable[str], host: str) -> str | None:
    """The most specific of ``patterns`` that matches ``host``; of equals the first. None when none does."""
    found = [pattern for pattern in patterns if matches_domain(pattern, host)]
    return min(found, key=lambda pattern: (domain_kind(pattern).value, -len(pattern)), default=None)


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Virtual hosts by the domains under which callers know them (Envoy ``RouteConfiguration``).

    Attributes:
        name: For Istio's sidecars the port, for gRPC clients the cluster's name.
        hosts: Each host with its domains.
        ignore_ports: A port in the Host header does not count.
    """

    name: str
    hosts: tuple[tuple[VirtualHost, tuple[str, ...]], ...] = ()
    ignore_ports: bool = True

    def find(self, authority: str) -> VirtualHost | None:
        """The host that a caller of ``authority`` means, or None."""
        name = _without_port(authority) if self.ignore_ports else authority
        found = best((domain for _, domains in self.hosts for domain in domains), name)
        return None if found is None else next(host for host, domains in self.hosts if found in domains)


def _without_port(authority: str) -> str:
    host, colon, port = authority.rpartition(":")
    return host if colon and port.isdigit() else authority
