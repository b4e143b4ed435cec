"""What a client sees of a world: the same answers that configuration compiled here gives, out of xDS resources.

Two forms are understood. A listener of gRPC is named after what is called, ``host:port`` or ``host``, and its table
has the host among its domains. A sidecar's listeners are sockets: all outbound ones of the port count, and of their
tables' virtual hosts the one with the most specific domain. Istio's ``allow_any`` and ``block_all`` are no hosts but
the outbound policy.

Source: istiod ``grpcgen`` and ``core/listener.go``, ``core/httproute.go``; gRFC A27.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from meshlib.errors import NotYet
from meshlib.model.cluster import Cluster, parse_cluster_name
from meshlib.model.domains import DomainKind, RouteTable, domain_kind
from meshlib.model.endpoint import Assignment, LocalityEndpoints
from meshlib.model.hosts import HostIndex, join_host_port, spellings
from meshlib.model.route import Forward, VirtualHost
from meshlib.model.snapshot import ANYONE, Client, OutboundPolicy, PathNormalization
from meshlib.model.tcp import TcpHost
from meshlib.xds.ads.warming import DEEPEST, Served, World
from meshlib.xds.connection_listeners import ANYWHERE, ConnectionListeners
from meshlib.xds.names import canonical

__all__ = ["XdsView"]

_POLICIES = {"allow_any": OutboundPolicy.ALLOW_ANY, "block_all": OutboundPolicy.REGISTRY_ONLY}


class _Table:
    """A route table with its domains indexed."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._exact: dict[str, VirtualHost] = {}
        self._suffixes: HostIndex[VirtualHost] = HostIndex()
        self._prefixes: list[tuple[str, VirtualHost]] = []
        self._other: VirtualHost | None = None
        for host, domains in table.hosts:
            for domain in domains:
                self._add(domain.lower(), host)
        self._prefixes.sort(key=lambda pair: -len(pair[0]))

    def _add(self, domain: str, host: VirtualHost) -> None:
        kind = domain_kind(domain)
        if kind is DomainKind.EXACT:
            self._exact.setdefault(domain, host)
        elif kind is DomainKind.SUFFIX:
            self._suffixes.add(domain, host)
        elif kind is DomainKind.PREFIX:
            self._prefixes.append((domain[:-1], host))
        elif kind is DomainKind.UNIVERSAL:
            self._other = self._other or host

    def find(self, host: str, port: int) -> tuple[DomainKind, VirtualHost] | None:
        """The virtual host of a name, by the kind of domain that it has there.

        A table that looks at ports knows names with and without them; callers of the default port write none.
        """
        names = (host,) if self.table.ignore_ports else (join_host_port(host, port), host)
        for name in names:
            if name in self._exact:
                return DomainKind.EXACT, self._exact[name]
        for name in names:
            for pattern, found in self._suffixes.patterns_over(name):
                if len(name) >= len(pattern):
                    return DomainKind.SUFFIX, found[0]
            for prefix, one in self._prefixes:
                if name.startswith(prefix) and len(name) > len(prefix):
                    return DomainKind.PREFIX, one
        return None if self._other is None else (DomainKind.UNIVERSAL, self._other)

    def listing(self) -> Iterator[tuple[str, int]]:
        """Full names with their ports."""
        return ((host.name, host.port) for host, _ in self.table.hosts if host.name not in _POLICIES and host.port)


class _Routing:
    """All of a world but its endpoints, indexed; shared by the views of worlds that differ in endpoints only."""

    def __init__(self, world: World) -> None:
        self.identity = world.routing
        self.named: dict[str, _Table] = {}
        self.ports: dict[int, list[_Table]] = {}
        self.connections = ConnectionListeners()
        self.outbound_policy = OutboundPolicy.ALLOW_ANY
        self.path_normalization = PathNormalization.NONE
        for name, served in sorted(world.listeners.items(), key=lambda pair: _rank(pair[1])):
            self.connections.add(served.listener)
            if served.listener.manager is None:
                continue
            table = _Table(served.table)
            if served.listener.port:
                self.ports.setdefault(served.listener.port, []).append(table)
                self._read_policies(served)
            else:
                self.named[name] = table

    def _read_policies(self, served: Served) -> None:
        for host, domains in served.table.hosts:
            if "*" in domains and _POLICIES.get(host.name) is OutboundPolicy.REGISTRY_ONLY:
                self.outbound_policy = OutboundPolicy.REGISTRY_ONLY
        if served.listener.manager is not None:
            self.path_normalization = served.listener.manager.paths


def _rank(served: Served) -> tuple[bool, str]:
    """Listeners on all addresses first; they are those of names, the others those of addresses."""
    return served.listener.address not in ANYWHERE, served.listener.name


class XdsView:
    """A ``Source`` made of a world.

    Args:
        world: What may be used.
        client: Whose short names count.
        listener_name: What a listener of gRPC is called for a target; the bootstrap's template.
        before: A view whose indexes are taken over where they are the same.
        ask: Asks for a host by the name of its listener, if that is to be done; whether it was. None for no one.
        absent: Names of listeners that were asked for and are not to be had.
    """

    def __init__(
        self,
        world: World,
        client: Client = ANYONE,
        listener_name: Callable[[str], str] = str,
        before: XdsView | None = None,
        ask: Callable[[str, str], bool] | None = None,
        absent: frozenset[str] = frozenset(),
    ) -> None:
        self.world = world
        self.absent = absent
        self._ask = ask
        self._client = client
        self._listener_name = listener_name
        old = before._routing if before is not None else None
        self._routing: _Routing = old if old is not None and old.identity is world.routing else _Routing(world)
        self.outbound_policy = self._routing.outbound_policy
        self.path_normalization = self._routing.path_normalization

    @property
    def routing(self) -> object:
        """The same object in views that differ in endpoints only."""
        return self._routing

    # Hosts ----------------------------------------------------------------------------------------------------------

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """See ``Source.virtual_host``.

        Raises:
            NotYet: The control plane was asked, and has not answered.
        """
        found = self._by_listener(host, port) or self._by_port(host, port)
        if found is None and self._ask is not None:
            name = canonical(self.listeners(host, port)[0])
            if name not in self.absent and self._ask(host, name):
                raise NotYet(host, port)
        return None if found is None else _addressed(found, port)

    def listeners(self, host: str, port: int) -> tuple[str, str]:
        """The names that gRPC's form of a listener may have for a host."""
        return self._listener_name(join_host_port(host, port)), self._listener_name(host)

    def _by_listener(self, host: str, port: int) -> VirtualHost | None:
        for name in self.listeners(host, port):
            table = self._routing.named.get(name)
            found = table.find(host, port) if table is not None else None
            if table is not None and found is None:
                full = (table.find(each, port) for each in self._spellings(host))
                found = next((each for each in full if each is not None), None)
            if found is not None:
                return found[1]
        return None

    def _by_port(self, host: str, port: int) -> VirtualHost | None:
        best: tuple[DomainKind, VirtualHost] | None = None
        for table in self._routing.ports.get(port, ()):
            found = table.find(host, port)
            if found is not None and (best is None or found[0].value < best[0].value):
                best = found
        if best is None or best[1].name in _POLICIES:
            return None
        return best[1]

    def _spellings(self, host: str) -> Iterable[str]:
        return spellings(host, self._client.namespace, self._client.cluster_domain)

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """See ``Source.tcp_host``."""
        return self._routing.connections.find(host, port, self._spellings)

    def listing(self) -> Iterable[tuple[str, int]]:
        """See ``Source.listing``."""
        tables = (*self._routing.named.values(), *(each for many in self._routing.ports.values() for each in many))
        return dict.fromkeys(pair for table in tables for pair in table.listing())

    # Clusters -------------------------------------------------------------------------------------------------------

    def cluster(self, name: str) -> Cluster | None:
        """See ``Source.cluster``; an aggregate is as the first of its parts that there is."""
        found = self.world.clusters.get(name)
        if found is None or not found.children:
            return None if found is None else found.cluster
        leaves = self._leaves(name)
        return None if not leaves else replace(leaves[0], name=name)

    def assignment(self, name: str) -> Assignment:
        """See ``Source.assignment``; of an aggregate, one part after the other in priority."""
        found = self.world.clusters.get(name)
        if found is None:
            return ()
        if not found.children:
            return self._endpoints(name)
        return self._joined(self._leaves(name))

    def _endpoints(self, name: str) -> Assignment:
        cluster = self.world.clusters[name]
        told = self.world.assignments.get(cluster.service_name) if cluster.service_name else cluster.endpoints
        return told.assignment if told is not None else ()

    def _leaves(self, name: str) -> list[Cluster]:
        """The clusters that an aggregate comes down to, once each, in order; those of another TLS are left out.

        Which endpoint belongs to which part is not known any more when one is dialled, so that all have the TLS of the
        first.
        """
        found: dict[str, Cluster] = {}
        self._collect(name, found, 0)
        leaves = list(found.values())
        return [leaf for leaf in leaves if leaf.tls == leaves[0].tls and leaf.discovery is leaves[0].discovery]

    def _collect(self, name: str, found: dict[str, Cluster], depth: int) -> None:
        decoded = self.world.clusters.get(name)
        if decoded is None or depth > DEEPEST:
            return
        if not decoded.children:
            found.setdefault(name, decoded.cluster)
        for child in decoded.children:
            self._collect(child, found, depth + 1)

    def _joined(self, leaves: Iterable[Cluster]) -> Assignment:
        joined: list[LocalityEndpoints] = []
        first = 0
        for leaf in leaves:
            groups = self._endpoints(leaf.name)
            levels = {level: first + at for at, level in enumerate(sorted({group.priority for group in groups}))}
            joined.extend(replace(group, priority=levels[group.priority]) for group in groups)
            first += len(levels)
        return tuple(joined)


def _addressed(found: VirtualHost, port: int) -> VirtualHost:
    """With the port, where its name tells none, and the service, where its routes agree upon one."""
    service = found.service
    if service is None:
        targets = (route.action.clusters for route in found.routes if isinstance(route.action, Forward))
        parts = {parse_cluster_name(to.cluster).host for clusters in targets for to in clusters}
        service = found.name if found.name in parts else None
    if found.port == port and found.service == service:
        return found
    return replace(found, port=port, service=service)
