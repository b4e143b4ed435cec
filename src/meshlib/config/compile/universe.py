"""Everything that the resources say, indexed once; and what one client sees of it, compiled host by host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from meshlib.config.compile import account
from meshlib.config.compile.client_policies import ClientPolicies
from meshlib.config.compile.cluster_local import ClusterLocalHosts
from meshlib.config.compile.destination_rules import DestinationRules, Rule
from meshlib.config.compile.discovery import Discovery
from meshlib.config.compile.endpoint_changes import Change, moves_endpoints_only
from meshlib.config.compile.gateway_routes import gateway_routes
from meshlib.config.compile.host_rules import HostRules, RuleIndex
from meshlib.config.compile.http_hosts import UNREGISTERED_PORT, HttpHosts
from meshlib.config.compile.outbound import Outbound, Parts
from meshlib.config.compile.peer_authentication import PeerAuthentications
from meshlib.config.compile.registry import ENDPOINT_KINDS, SERVICE_KINDS, Key, Registry
from meshlib.config.compile.seen import Seen
from meshlib.config.compile.services import Resolution, Service
from meshlib.config.compile.sidecar import Scope, scope_for
from meshlib.config.compile.tcp_hosts import TcpHosts
from meshlib.config.compile.unknown_hosts import UnknownHosts
from meshlib.config.compile.virtual_services import VirtualServices
from meshlib.config.compile.visibility import visible
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig, NormalizationType
from meshlib.config.resources.virtual_service import Destination
from meshlib.model.cluster import Cluster, cluster_name
from meshlib.model.endpoint import Assignment
from meshlib.model.hosts import expand, matches
from meshlib.model.informed import PolicyValue
from meshlib.model.route import VirtualHost
from meshlib.model.snapshot import Client, OutboundPolicy, PathNormalization
from meshlib.model.tcp import TcpHost

__all__ = ["ENDPOINT_KINDS", "Universe", "View", "path_normalization"]


class Universe:
    """All resources, indexed.

    Args:
        resources: Valid objects of any kinds.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
        mesh: Mesh-wide settings.
        before: The one that this follows, of the same namespace, domain, cluster and revision; indexes of kinds that
            did not change are taken over.
        cluster: Id of the Kubernetes cluster that the objects are of, ``""`` when unknown.
        revision: Control plane revision whose objects count beside those of no revision; ``""`` takes all.
    """

    def __init__(
        self,
        resources: Sequence[Resource[Any]],
        namespace: str = "default",
        domain: str = "cluster.local",
        mesh: MeshConfig | None = None,
        before: Universe | None = None,
        *,
        cluster: str = "",
        revision: str = "",
    ) -> None:
        self.mesh = mesh or MeshConfig()
        self.domain = domain
        self.namespace = namespace
        self.cluster = cluster
        self._kinds: dict[str, list[Resource[Any]]] = {}
        self._moved: frozenset[str] = frozenset()
        self._swapped: dict[tuple[str | None, str], Resource[Any]] = {}
        self._discovery = Discovery(resources, self.mesh, namespace, revision)
        for resource in filter(self._discovery.covers, resources):
            self._kinds.setdefault(resource.kind, []).append(resource)
        old = before if before is not None and before.mesh == self.mesh else None
        self.registry = self._registry(old)
        self.virtual_services = self._virtual_services(old)
        self.rules = self._rules(old)
        self.destination_rules = self._destination_rules(old)
        self.sidecars = self._of("Sidecar")
        root = self.mesh.root_namespace
        self.peer_authentications = PeerAuthentications(self._of("PeerAuthentication"), namespace, root)
        self.client_policies = ClientPolicies(self._of("ClientPolicy"), namespace, domain)
        local = ((s.settings is not None and s.settings.cluster_local, s.hosts) for s in self.mesh.service_settings)
        self.cluster_local = ClusterLocalHosts(local, domain)

    def _of(self, *kinds: str) -> list[Resource[Any]]:
        return [resource for kind in kinds for resource in self._kinds.get(kind, ())]

    def _same(self, old: Universe, kinds: Iterable[str]) -> bool:
        """Whether the objects of these kinds are those of ``old``; quick for the very same Python objects."""
        return all(kind not in old._moved and self._kinds.get(kind) == old._known(kind) for kind in kinds)

    def _known(self, kind: str) -> list[Resource[Any]] | None:
        """The objects of a kind, with the ServiceEntries whose endpoints have moved since all were indexed."""
        found = self._kinds.get(kind)
        if kind != "ServiceEntry" or found is None or not self._swapped:
            return found
        return [self._swapped.get(_name(each), each) for each in found]

    def _registry(self, old: Universe | None) -> Registry:
        if old is None or not self._same(old, SERVICE_KINDS):
            objects = self._of(*SERVICE_KINDS, *ENDPOINT_KINDS)
            return Registry(objects, self.namespace, self.domain, self.mesh, self.cluster)
        if self._same(old, ENDPOINT_KINDS):
            return old.registry
        return old.registry.with_endpoints(self._of("Namespace", *ENDPOINT_KINDS))

    def _virtual_services(self, old: Universe | None) -> VirtualServices:
        if old is not None and self._same(old, ("VirtualService",)):
            return old.virtual_services
        exported, objects = self.mesh.default_virtual_service_export_to, self._of("VirtualService")
        before = old.virtual_services if old is not None else None
        return VirtualServices(objects, self.namespace, self.domain, exported, before)

    def _rules(self, old: Universe | None) -> RuleIndex:
        """Everybody's rules; those of the Gateway API depend on what they are attached to as well."""
        routes = ("HTTPRoute", "GRPCRoute")
        kinds = ("VirtualService", *routes, *(SERVICE_KINDS if self._of(*routes) else ()))
        if old is not None and self._same(old, kinds):
            return old.rules
        exported, objects = self.mesh.default_virtual_service_export_to, self._of(*routes, "ServiceEntry")
        made = gateway_routes(objects, self.namespace, self.domain, self.registry, exported)
        return RuleIndex([*self.virtual_services, *made])

    def _destination_rules(self, old: Universe | None) -> DestinationRules:
        if old is not None and self._same(old, ("DestinationRule",)):
            return old.destination_rules
        exported, objects = self.mesh.default_destination_rule_export_to, self._of("DestinationRule")
        return DestinationRules(objects, self.namespace, self.domain, exported)

    def has_routing_of(self, other: Universe) -> bool:
        """Whether nothing but endpoints may differ between the two."""
        kinds = (self._kinds.keys() | other._kinds.keys()) - ENDPOINT_KINDS
        return self.mesh == other.mesh and self._same(other, kinds)

    def with_endpoints(self, changes: Sequence[Change]) -> tuple[Universe, frozenset[Key]] | None:
        """The universe after some changes, and host and namespace of the services in use that they are about.

        Returns:
            None where the changes are about more than endpoints.
        """
        if not all(map(moves_endpoints_only, changes)):
            return None
        covers = self._discovery.covers
        seen = [(b if b and covers(b) else None, a if a and covers(a) else None) for b, a in changes]
        other = copy(self)
        other.registry, affected = self.registry.with_changes([each for each in seen if any(each)])
        entries = [after for before, after in seen if before and after and after.kind == "ServiceEntry"]
        other._swapped = {**self._swapped, **{_name(entry): entry for entry in entries}}
        other._moved = self._moved | {
            each.kind for change in seen for each in change if each and each.kind != "ServiceEntry"
        }
        return other, affected

    def view(self, client: Client) -> View:
        """What ``client`` sees."""
        return View(self, client)


class View:
    """What one client sees; a ``Source`` of snapshots."""

    def __init__(self, universe: Universe, client: Client) -> None:
        mesh = universe.mesh
        self.universe = universe
        self.client = client
        self.scope: Scope = scope_for(universe.sidecars, client, universe.namespace, mesh)
        self.rules = universe.rules.seen_from(client.namespace)
        default = mesh.default_service_export_to
        self.seen = Seen(universe.registry, client, self.scope, universe.domain, default)
        self.outbound = Outbound(universe, client, self.seen)
        self.http = HttpHosts(self)
        self.tcp = TcpHosts(self)
        self.unknown = UnknownHosts(self.scope.unknown, self.destination, mesh.tls_defaults)
        self.outbound_policy: OutboundPolicy = self.unknown.policy
        self.path_normalization = path_normalization(mesh)

    def with_endpoints(self, changes: Sequence[Change]) -> View | None:
        """The view after some changes, which keeps all they do not touch; None where they are about more."""
        made = self.universe.with_endpoints(changes)
        if made is None:
            return None
        universe, affected = made
        view = universe.view(self.client)
        view.outbound.keep(self.outbound, affected)
        return view

    # Hosts ----------------------------------------------------------------------------------------------------------

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """See ``Source.virtual_host``."""
        return self.http.virtual_host(host, port) or self.unknown.virtual_host(host, port)

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """See ``Source.tcp_host``."""
        return self.unknown.behind(self.tcp.tcp_host(host, port), host, port)

    def find(self, host: str, port: int) -> tuple[str, Service | None]:
        """The full name that a caller meant, and the service that it stands for, whatever its ports; for accounts."""
        listener = self.scope.listener(port)
        return self.http.find(host, listener) if listener is not None else (host, None)

    def imported(self, rules: HostRules, port: int) -> bool:
        """Whether the client's Sidecar lets an object in for that port."""
        listener = self.scope.listener(port)
        return listener is not None and rules.imported(listener)

    def destination(self, destination: Destination, namespace: str, port: int) -> str:
        """The cluster of a destination. Istio's rule for the port: its own, else the service's only one, else ``port``.

        Args:
            destination: As a rule names it.
            namespace: Of the object that the rule stands in.
            port: The port that the caller addressed.
        """
        host = expand(destination.host, namespace, self.universe.domain)
        service = self.seen.destination(host)
        if service is not None and service.resolution is Resolution.ALIAS:
            service = self.seen.target(service) or service
        host = service.host if service is not None else host
        if destination.port is not None and destination.port.number:
            port = destination.port.number
        elif service is not None and len(service.ports) == 1:
            port = service.ports[0].number
        return cluster_name(host, port, destination.subset)

    # Clusters -------------------------------------------------------------------------------------------------------

    def parts(self, name: str) -> Parts | None:
        """See ``Outbound.parts``."""
        return self.outbound.parts(name)

    def rule(self, service: Service) -> Rule | None:
        """The DestinationRule in force for a service, as this client sees it."""
        return self.outbound.rule(service)

    def cluster(self, name: str) -> Cluster | None:
        """See ``Source.cluster``."""
        return self.outbound.cluster(name) or self.unknown.cluster(name)

    def assignment(self, name: str) -> Assignment:
        """See ``Source.assignment``."""
        return self.outbound.assignment(name)

    # Accounts -------------------------------------------------------------------------------------------------------

    def host_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.host_reasons``."""
        return tuple(account.host_reasons(self, host, port))

    def connection_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.connection_reasons``."""
        return tuple(account.connection_reasons(self, host, port))

    def left_out(self, cluster: str) -> tuple[tuple[str, str], ...]:
        """See ``Informed.left_out``."""
        return tuple(self.outbound.left_out(cluster))

    def policy_values(self, cluster: str) -> tuple[PolicyValue, ...]:
        """See ``Informed.policy_values``."""
        return self.outbound.policy_values(cluster)

    def seen_by(self, namespace: str | None, labels: Mapping[str, str] | None) -> View:
        """See ``Informed.seen_by``."""
        own = self.client
        client = replace(
            own,
            namespace=own.namespace if namespace is None else namespace,
            labels=own.labels if labels is None else dict(labels),
        )
        return self.universe.view(client)

    def listing(self) -> Iterator[tuple[str, int]]:
        """See ``Source.listing``."""
        seen: set[tuple[str, int]] = set()
        for listener in self.scope.listeners:
            for service in self.seen.all_on(listener):
                ports = self.seen.ports_on(listener, service)
                seen.update((service.host, port.number) for port in ports)
            for rules in self.universe.rules:
                own, imported = self.client.namespace, listener.imports_rules(rules.namespace, rules.hosts)
                if imported and visible(rules.export_to, rules.namespace, own):
                    seen.update(self._beyond_registry(rules))
        yield from sorted(seen)

    def _beyond_registry(self, rules: HostRules) -> Iterator[tuple[str, int]]:
        """The hosts of a VirtualService on the ports where it is for some service, and on 80: it serves them all there.

        A service of the very name and port is among them too, which does no harm.
        """
        services = self.universe.registry.services
        claimed = (
            (each for each in services() if matches(host, each.host))
            if host.startswith("*")
            else self.universe.registry.named(host)
            for host in rules.hosts
        )
        ports = {port.number for found in claimed for service in found for port in service.ports}
        for port in sorted({UNREGISTERED_PORT, *ports}):
            for host in rules.hosts:
                if self.http.virtual_host(host, port) is not None:
                    yield host, port


def _name(resource: Resource[Any]) -> tuple[str | None, str]:
    return resource.metadata.namespace, resource.metadata.name


def path_normalization(mesh: MeshConfig) -> PathNormalization:
    """How paths are normalized before anything reads them; ``DEFAULT`` is ``BASE``."""
    given = mesh.path_normalization.normalization
    return PathNormalization.BASE if given is NormalizationType.DEFAULT else PathNormalization[given.value]
