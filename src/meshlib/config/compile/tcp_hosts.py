"""``tcp`` and ``tls`` rules, made into the ways that connections to a name or address may take.

Several VirtualServices may add to a service: all that have a host in common with it, in look-up order. A service
without TLS rules takes what is addressed to it; where it has no address of its own, its name in the TLS handshake is
what addresses it. Which protocol a port declares decides which rules count: TLS and HTTPS ports have ``tls`` rules,
HTTP ports have neither, all others have ``tcp`` rules.

A TCP service without an address would take every connection to its port in a sidecar, because nothing tells it from
others there. Here callers name it, so it takes what names it.

Source: Istio ``core/tls.go``, ``core/networkfilter.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from meshlib.config.compile.matches import inapplicable_connection
from meshlib.config.compile.services import DECLARED_HTTP, AppProtocol, Port, Resolution, Service
from meshlib.config.resources.virtual_service import RouteDestination, TCPRoute
from meshlib.model.cluster import cluster_name, parse_cluster_name
from meshlib.model.hosts import is_ip
from meshlib.model.route import Forward, Route, RouteMatch, RouteOrigin, SkippedRule, VirtualHost, WeightedCluster
from meshlib.model.tcp import TcpHost, TcpMatch, TcpRoute

if TYPE_CHECKING:
    from meshlib.config.compile.sidecar import Listener
    from meshlib.config.compile.universe import View
    from meshlib.config.compile.virtual_services import MeshRules

__all__ = ["TcpHosts"]


class TcpHosts:
    """The tables of connections of one client."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._seen = view.seen
        self._shared: dict[int, tuple[TcpRoute, ...]] = {}

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """What the client knows of connections to ``host`` on ``port``; None leaves them to the outbound policy."""
        listener = self._view.scope.listener(port)
        if listener is None:
            return None
        found = self._service(host, port, listener)
        if found is None:
            shared = self._addressless(port, listener)
            return TcpHost(host, port, shared) if shared else None
        name, service, number = found
        if number.protocol in DECLARED_HTTP or number.protocol is AppProtocol.UDP:
            return None
        skipped: list[SkippedRule] = []
        routes = {way.match: way for way in self._routes(service, number, listener, skipped)}
        if number.protocol.is_tls and not service.has_address:
            routes = {way.match: way for way in self._addressless(port, listener)} | routes
        address = next((address for address in service.addresses if is_ip(address)), "")
        return TcpHost(name, port, routes.values(), service.host, address, tuple(skipped))

    def over_http(self, name: str, port: int) -> VirtualHost | None:
        """A port that is not declared HTTP, for a caller that speaks HTTP or HTTPS there all the same.

        Its bytes take the way of any connection, whatever they say, so nothing is retried and no header is read.
        """
        host = self.tcp_host(name, port)
        found = host.select(name, name) if host is not None else None
        if host is None or found is None:
            return None
        return VirtualHost(
            host.name, port, (found.route,), found.virtual_service, host.service, host.skipped, by_address=True
        )

    # Which service --------------------------------------------------------------------------------------------------

    def _service(self, host: str, port: int, listener: Listener) -> tuple[str, Service, Port] | None:
        """The service that a name or address means, if it has that port, and how to call it."""
        if is_ip(host):
            found = self._seen.addressed(host, port, listener)
            if found is None or not (found.headless or found.is_at(host)):
                return None
            candidates: Iterable[tuple[str, Service | None]] = [(host, found)]
        else:
            candidates = self._candidates(host, listener)
        for name, service in candidates:
            number = service.port(port) if service is not None else None
            if service is not None and number is not None:
                return name, service, number
        return None

    def _candidates(self, host: str, listener: Listener) -> Iterator[tuple[str, Service | None]]:
        for name in self._seen.spellings(host):
            service = self._seen.on(name, listener)
            if service is not None and service.resolution is Resolution.ALIAS:
                service = self._seen.target(service) or service
            if service is not None:
                yield service.host, service
        for _, service in self._seen.wildcards(host.removesuffix("."), listener):
            yield (service.host if service.headless else host), service

    def _addressless(self, port: int, listener: Listener) -> tuple[TcpRoute, ...]:
        """The ways on a port that many services share, told apart by ranges of addresses and server names."""
        if port not in self._shared:
            routes: dict[TcpMatch, TcpRoute] = {}
            for service in self._seen.all_on(listener):
                number = service.port(port)
                shares = number is not None and not service.has_address and service.resolution is not Resolution.ALIAS
                if shares and number is not None and number.protocol not in DECLARED_HTTP:
                    for way in self._routes(service, number, listener, [], service.ranges):
                        if way.match.subnets or way.match.sni_hosts:
                            routes.setdefault(way.match, way)
            self._shared[port] = tuple(routes.values())
        return self._shared[port]

    # Rules ----------------------------------------------------------------------------------------------------------

    def _routes(
        self,
        service: Service,
        number: Port,
        listener: Listener,
        skipped: list[SkippedRule],
        ranges: tuple[str, ...] = (),
    ) -> Iterator[TcpRoute]:
        """The ways of a service; ``ranges`` are its own, where the address has to tell."""
        known = [
            rules
            for rules in self._view.rules.for_connections(service.host)
            if listener.imports_rules(rules.namespace, rules.hosts)
        ]
        if number.protocol.is_tls:
            made = self._tls(known, number, skipped, ranges)
            names = () if service.has_address else (service.host,)
            default = next(made, None)
            if default is not None:
                yield default
                yield from made
                return
            yield self._default(service, number, TcpMatch(names, ranges))
        else:
            yield from self._tcp(known, service, number, skipped, ranges)

    def _tls(
        self, known: Iterable[MeshRules], number: Port, skipped: list[SkippedRule], ranges: tuple[str, ...]
    ) -> Iterator[TcpRoute]:
        """One way for each match; of two with the same names and subnets the second is never reached."""
        handled: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        for rules in known:
            for index, rule in enumerate(rules.resource.spec.tls):
                for place, match in enumerate(rule.match):
                    key = (tuple(sorted(match.sni_hosts)), tuple(sorted(match.destination_subnets)))
                    reason = inapplicable_connection(match, self._view.client, number.number)
                    if reason is None and key in handled:
                        reason = "a match before it has the same server names and subnets"
                    if reason is not None:
                        skipped.append(SkippedRule(index, place, "", reason))
                        continue
                    handled.add(key)
                    names = tuple(name.lower() for name in match.sni_hosts)
                    subnets = tuple(match.destination_subnets) or ranges
                    yield self._way(rules, "tls", index, place, rule.route, number, TcpMatch(names, subnets))

    def _tcp(
        self,
        known: Iterable[MeshRules],
        service: Service,
        number: Port,
        skipped: list[SkippedRule],
        ranges: tuple[str, ...],
    ) -> Iterator[TcpRoute]:
        """One way for each rule; the first that asks for no subnet ends the list."""
        taken = False
        for rules in known:
            for index, rule in enumerate(rules.resource.spec.tcp):
                place, subnets = self._tcp_match(index, rule, number, skipped)
                if subnets is None:
                    continue
                match = TcpMatch((), subnets or ranges)
                yield self._way(rules, "tcp", index, place, rule.route, number, match)
                if not subnets:
                    return
                taken = taken or sorted(subnets) == sorted(ranges)
        if not taken:
            yield self._default(service, number, TcpMatch((), ranges))

    def _tcp_match(
        self, index: int, rule: TCPRoute, number: Port, skipped: list[SkippedRule]
    ) -> tuple[int | None, tuple[str, ...] | None]:
        """The match that counts, and the subnets that a rule asks for: none asks for nothing, None never holds."""
        subnets: list[str] = []
        first: int | None = None
        for place, match in enumerate(rule.match):
            reason = inapplicable_connection(match, self._view.client, number.number)
            if reason is not None:
                skipped.append(SkippedRule(index, place, "", reason))
            elif not match.destination_subnets:
                return place, ()
            else:
                first = place if first is None else first
                subnets.extend(match.destination_subnets)
        if subnets or not rule.match:
            return first, tuple(dict.fromkeys(subnets))
        return None, None

    # Ways -----------------------------------------------------------------------------------------------------------

    def _way(
        self,
        rules: MeshRules,
        kind: str,
        index: int,
        place: int | None,
        entries: list[RouteDestination],
        number: Port,
        match: TcpMatch,
    ) -> TcpRoute:
        several = len(entries) > 1
        clusters = tuple(
            WeightedCluster(
                self._view.destination(entry.destination, rules.namespace, number.number), entry.weight or 1
            )
            for entry in entries
            if entry.destination is not None and (entry.weight > 0 or not several)
        )
        origin = RouteOrigin(index, place, rules.resource.id, (("route", f"{rules.resource.id} spec.{kind}[{index}]"),))
        return self._made(match, clusters, origin, rules.virtual_service)

    def _default(self, service: Service, number: Port, match: TcpMatch) -> TcpRoute:
        return self._made(match, (WeightedCluster(cluster_name(service.host, number.number)),), RouteOrigin(), None)

    def _made(
        self, match: TcpMatch, clusters: tuple[WeightedCluster, ...], origin: RouteOrigin, name: str | None
    ) -> TcpRoute:
        """Connections are not retried; of consistent hashing only the source address has a meaning."""
        names = [weighted.cluster for weighted in clusters]
        keys = [k for name in names for k in self._view.outbound.hash_keys(name, parse_cluster_name(name).port)]
        action = Forward(clusters, hash_keys=tuple(key for key in keys if key.source == "source_ip"))
        route = Route("" if name else "default", RouteMatch(), action, origin=origin)
        first = clusters[0].cluster if clusters else ""
        return TcpRoute(match, route, name, *self._view.outbound.connection_times(first))
