"""Connections that are not HTTP to us: which go where, by address and server name (Envoy ``filter_chains``).

A ``TcpHost`` is what a client knows of one name or address on one port, as a ``VirtualHost`` is for HTTP. Its routes
are chosen once for each connection, by what an Envoy listener looks at, in its order: the most specific range around
the dialled address, then the most specific server name; there is no second thought when the name fits nothing there.

Source: Envoy ``FilterChainMatch``; Istio ``core/tls.go``, ``core/networkfilter.go``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from meshlib.model.hosts import HostIndex, is_ip
from meshlib.model.route import Route, SkippedRule

__all__ = ["TcpHost", "TcpMatch", "TcpRoute"]

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class TcpMatch:
    """What a connection must have.

    Attributes:
        sni_hosts: Server names of its TLS handshake, wildcards allowed; empty asks for nothing.
        subnets: Ranges (CIDR) of the dialled address; empty asks for nothing.
    """

    sni_hosts: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TcpRoute:
    """One way for connections.

    Attributes:
        match: The conditions.
        route: Name, weighted clusters and origin; the action is a ``Forward`` that neither retries nor times out.
        virtual_service: ``namespace/name`` of the VirtualService that it came from, None for a default.
        idle_timeout: Seconds without a byte after which the connection is closed; None is none.
        max_duration: Seconds after which it is closed whatever it does; None is none.
    """

    match: TcpMatch
    route: Route
    virtual_service: str | None = None
    idle_timeout: float | None = 3600.0
    max_duration: float | None = None


class TcpHost:
    """What a client knows about connections to one name or address on one port.

    Attributes:
        name: The full name, or the address.
        port: The port the client addressed.
        routes: Of equal conditions the first counts.
        service: The registry's name of the host; None for an address that belongs to no service.
        address: The service's virtual IP, for callers that dial the name; ``""`` when it has none.
        skipped: Rules that were left out for this client and port.
        fallback: Where connections go that match nothing; None leaves it to the outbound policy.
    """

    __slots__ = ("_groups", "address", "fallback", "name", "port", "routes", "service", "skipped")

    def __init__(
        self,
        name: str,
        port: int,
        routes: Iterable[TcpRoute],
        service: str | None = None,
        address: str = "",
        skipped: tuple[SkippedRule, ...] = (),
        fallback: TcpRoute | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.routes = tuple(routes)
        self.service = service
        self.address = address
        self.skipped = skipped
        self.fallback = fallback
        self._groups = _groups(self.routes)

    def select(self, dialled: str, sni: str = "") -> TcpRoute | None:
        """The route of a connection; ``fallback`` when none matches.

        Args:
            dialled: What the caller named: an address counts itself, a name by the service's address.
            sni: Server name of the TLS handshake in lower case, ``""`` for none or no TLS.
        """
        address = dialled if is_ip(dialled) else self.address
        ip = ip_address(address) if address else None
        for network, by_name, anyone in self._groups:
            if network is None or (ip is not None and ip in network):
                found = by_name.best(sni) if sni else []
                return found[0] if found else anyone or self.fallback
        return self.fallback


def _groups(routes: Iterable[TcpRoute]) -> list[tuple[Network | None, HostIndex[TcpRoute], TcpRoute | None]]:
    """The routes by range, the smallest range first and those without one last; in each by server name."""
    named: dict[Network | None, HostIndex[TcpRoute]] = {}
    unnamed: dict[Network | None, TcpRoute] = {}
    for route in routes:
        networks: list[Network | None] = [ip_network(text, strict=False) for text in route.match.subnets]
        for network in networks or [None]:
            index = named.setdefault(network, HostIndex())
            for host in route.match.sni_hosts:
                index.add(host, route)
            if not route.match.sni_hosts:
                unnamed.setdefault(network, route)
    order = sorted(named, key=lambda network: -1 if network is None else network.prefixlen, reverse=True)
    return [(network, named[network], unnamed.get(network)) for network in order]
