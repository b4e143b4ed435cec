"""Everything that the resources say, indexed once; and what one client sees of it, compiled host by host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from meshlib.config.compile import account
from meshlib.config.compile.clusters import build_cluster, locality_of
from meshlib.config.compile.destination_rules import DestinationRules, Rule
from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.http_hosts import HttpHosts
from meshlib.config.compile.locality import assign, with_topology
from meshlib.config.compile.policy_values import policy_values
from meshlib.config.compile.registry import ENDPOINT_KINDS, SERVICE_KINDS, Registry
from meshlib.config.compile.seen import Seen
from meshlib.config.compile.services import Port, Resolution, Service
from meshlib.config.compile.sidecar import Scope, scope_for
from meshlib.config.compile.tcp_hosts import TcpHosts
from meshlib.config.compile.traffic_policy import effective_policy
from meshlib.config.compile.unknown_hosts import UnknownHosts
from meshlib.config.compile.virtual_services import MeshRules, VirtualServices
from meshlib.config.compile.visibility import visible
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.virtual_service import Destination
from meshlib.model.cluster import Cluster, cluster_name
from meshlib.model.endpoint import Assignment, Endpoint, no_labels
from meshlib.model.hosts import expand
from meshlib.model.informed import PolicyValue
from meshlib.model.policy import HashKey
from meshlib.model.route import VirtualHost
from meshlib.model.snapshot import Client, OutboundPolicy
from meshlib.model.tcp import TcpHost

__all__ = ["ENDPOINT_KINDS", "Universe", "View"]

IDLE = 3600.0
"""Seconds without a byte after which Envoy closes a connection unless told otherwise."""


class Universe:
    """All resources, indexed.

    Args:
        resources: Valid objects of any kinds.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
        mesh: Mesh-wide settings.
        before: The one that this follows, of the same namespace and domain; indexes of kinds that did not change are
            taken over.
    """

    def __init__(
        self,
        resources: Sequence[Resource[Any]],
        namespace: str = "default",
        domain: str = "cluster.local",
        mesh: MeshConfig | None = None,
        before: Universe | None = None,
    ) -> None:
        self.mesh = mesh or MeshConfig()
        self.domain = domain
        self.namespace = namespace
        self._kinds: dict[str, list[Resource[Any]]] = {}
        for resource in resources:
            self._kinds.setdefault(resource.kind, []).append(resource)
        old = before if before is not None and before.mesh == self.mesh else None
        self.registry = self._registry(old)
        self.virtual_services = self._virtual_services(old)
        self.destination_rules = self._destination_rules(old)
        self.sidecars = self._of("Sidecar")

    def _of(self, *kinds: str) -> list[Resource[Any]]:
        return [resource for kind in kinds for resource in self._kinds.get(kind, ())]

    def _same(self, old: Universe, kinds: Iterable[str]) -> bool:
        """Whether the objects of these kinds are those of ``old``; quick for the very same Python objects."""
        return all(self._kinds.get(kind) == old._kinds.get(kind) for kind in kinds)

    def _registry(self, old: Universe | None) -> Registry:
        if old is None or not self._same(old, SERVICE_KINDS):
            return Registry(self._of(*SERVICE_KINDS, *ENDPOINT_KINDS), self.namespace, self.domain)
        if self._same(old, ENDPOINT_KINDS):
            return old.registry
        return old.registry.with_endpoints(self._of(*ENDPOINT_KINDS))

    def _virtual_services(self, old: Universe | None) -> VirtualServices:
        if old is not None and self._same(old, ("VirtualService",)):
            return old.virtual_services
        exported, objects = self.mesh.default_virtual_service_export_to, self._of("VirtualService")
        before = old.virtual_services if old is not None else None
        return VirtualServices(objects, self.namespace, self.domain, exported, before)

    def _destination_rules(self, old: Universe | None) -> DestinationRules:
        if old is not None and self._same(old, ("DestinationRule",)):
            return old.destination_rules
        exported, objects = self.mesh.default_destination_rule_export_to, self._of("DestinationRule")
        return DestinationRules(objects, self.namespace, self.domain, exported)

    def has_routing_of(self, other: Universe) -> bool:
        """Whether nothing but endpoints may differ between the two."""
        kinds = (self._kinds.keys() | other._kinds.keys()) - ENDPOINT_KINDS
        return self.mesh == other.mesh and self._same(other, kinds)

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
        self.rules = universe.virtual_services.seen_from(client.namespace)
        default = mesh.default_service_export_to
        self.seen = Seen(universe.registry, client, self.scope, universe.domain, default)
        self.http = HttpHosts(self)
        self.tcp = TcpHosts(self)
        self.unknown = UnknownHosts(self.scope.unknown, self.destination)
        self.outbound_policy: OutboundPolicy = self.unknown.policy

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

    def imported(self, rules: MeshRules, port: int) -> bool:
        """Whether the client's Sidecar lets a VirtualService in for that port."""
        listener = self.scope.listener(port)
        return listener is not None and listener.imports_rules(rules.namespace, rules.hosts)

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

    def parts(self, name: str) -> tuple[Service, Port, str, Rule | None] | None:
        """Service, port, subset and DestinationRule of a cluster; None when it does not exist."""
        parts = name.split("|")
        if len(parts) != 4 or parts[0] != "outbound" or not parts[1].isdigit():
            return None
        service = self.seen.destination(parts[3])
        port = service.port(int(parts[1])) if service is not None else None
        if service is None or port is None:
            return None
        rule = self.rule(service)
        if parts[2] and (rule is None or parts[2] not in rule.subsets):
            return None
        return service, port, parts[2], rule

    def rule(self, service: Service) -> Rule | None:
        """The DestinationRule in force for a service, as this client sees it."""
        root = self.universe.mesh.root_namespace
        return self.universe.destination_rules.find(service.host, service.namespace, self.client, root)

    def cluster(self, name: str) -> Cluster | None:
        """See ``Source.cluster``."""
        found = self.parts(name)
        if found is None:
            return self.unknown.cluster(name)
        service, port, subset, rule = found
        mesh = self.universe.mesh
        policy = effective_policy(rule, subset, port.number, mesh.default_traffic_policy)
        return build_cluster(service, port, subset, policy, mesh)

    def hash_keys(self, name: str) -> tuple[HashKey, ...] | None:
        """The consistent-hash keys of a cluster; None when it does not hash."""
        cluster = self.cluster(name)
        if cluster is None or cluster.load_balancer.kind.value not in ("RING_HASH", "MAGLEV"):
            return None
        return cluster.load_balancer.hash_keys

    def connection_times(self, name: str) -> tuple[float | None, float | None]:
        """Idle timeout and longest duration of connections to a cluster, by its own ``tcp`` settings."""
        found = self.parts(name)
        if found is None:
            return IDLE, None
        _, port, subset, rule = found
        policy = effective_policy(rule, subset, port.number, self.universe.mesh.default_traffic_policy)
        tcp = policy.connection_pool.tcp if policy.connection_pool is not None else None
        if tcp is None:
            return IDLE, None
        return IDLE if tcp.idle_timeout is None else tcp.idle_timeout or None, tcp.max_connection_duration

    def assignment(self, name: str) -> Assignment:
        """See ``Source.assignment``."""
        found = self.parts(name)
        if found is None:
            return ()
        service, port, subset, rule = found
        labels = self.subset_labels(rule, subset)
        endpoints = [endpoint for endpoint in self.endpoints(service, port) if selects(labels, endpoint.labels)]
        mesh = self.universe.mesh
        policy = effective_policy(rule, subset, port.number, mesh.default_traffic_policy)
        setting = locality_of(policy, service, mesh)
        return assign(with_topology(self.client), endpoints, setting, ejects=policy.outlier_detection is not None)

    @staticmethod
    def subset_labels(rule: Rule | None, subset: str) -> Mapping[str, str]:
        """What the endpoints of a subset carry; empty for the whole service."""
        return rule.subsets[subset][0].labels if subset and rule is not None else no_labels()

    def endpoints(self, service: Service, port: Port) -> list[Endpoint]:
        if service.resolution is Resolution.ALIAS:
            return [Endpoint(service.alias_of, port.number)]
        return self.universe.registry.endpoints(service, port)

    # Accounts -------------------------------------------------------------------------------------------------------

    def host_reasons(self, host: str, port: int) -> tuple[str, ...]:
        """See ``Informed.host_reasons``."""
        return tuple(account.host_reasons(self, host, port))

    def left_out(self, cluster: str) -> tuple[tuple[str, str], ...]:
        """See ``Informed.left_out``."""
        return tuple(account.left_out(self, cluster))

    def policy_values(self, cluster: str) -> tuple[PolicyValue, ...]:
        """See ``Informed.policy_values``."""
        found = self.parts(cluster)
        if found is None:
            return ()
        service, port, subset, rule = found
        policy = effective_policy(rule, subset, port.number, self.universe.mesh.default_traffic_policy)
        built = build_cluster(service, port, subset, policy, self.universe.mesh)
        return policy_values(built, policy, service, self.universe.mesh)

    def seen_by(self, client: Client) -> View:
        """See ``Informed.seen_by``."""
        return self.universe.view(client)

    def listing(self) -> Iterator[tuple[str, int]]:
        """See ``Source.listing``."""
        seen: set[tuple[str, int]] = set()
        for listener in self.scope.listeners:
            for service in self.seen.all_on(listener):
                ports = self.seen.ports_on(listener, service)
                seen.update((service.host, port.number) for port in ports)
            for rules in self.universe.virtual_services:
                own, imported = self.client.namespace, listener.imports_rules(rules.namespace, rules.hosts)
                if imported and visible(rules.export_to, rules.namespace, own):
                    seen.update((host, 80) for host in rules.hosts if not self.universe.registry.named(host))
        yield from sorted(seen)
