"""Everything that the resources say, indexed once; and what one client sees of it, compiled host by host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

from meshlib.config.compile import account
from meshlib.config.compile.actions import Actions, forward_of
from meshlib.config.compile.clusters import build_cluster, locality_of
from meshlib.config.compile.destination_rules import DestinationRules, Rule
from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.locality import assign, with_topology
from meshlib.config.compile.policy_values import policy_values
from meshlib.config.compile.registry import ENDPOINT_KINDS, Registry
from meshlib.config.compile.routes import flatten
from meshlib.config.compile.services import DECLARED_HTTP, Port, Resolution, Service
from meshlib.config.compile.sidecar import Scope, scope_for
from meshlib.config.compile.traffic_policy import effective_policy
from meshlib.config.compile.virtual_services import MeshRules, VirtualServices
from meshlib.config.compile.visibility import visible
from meshlib.config.resources.base import Resource
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.virtual_service import Destination
from meshlib.model.cluster import Cluster, cluster_name
from meshlib.model.endpoint import Assignment, Endpoint, no_labels
from meshlib.model.hosts import expand, is_ip, matches, spellings
from meshlib.model.informed import BUILT_IN, PolicyValue
from meshlib.model.policy import HashKey
from meshlib.model.route import Route, RouteMatch, RouteOrigin, VirtualHost, WeightedCluster
from meshlib.model.snapshot import Client, OutboundPolicy

__all__ = ["ENDPOINT_KINDS", "Universe", "View"]

UNREGISTERED_PORT = 80
"""Hosts outside the registry are served on this port only (Istio ``route.go``)."""


class Universe:
    """All resources, indexed.

    Args:
        resources: Valid objects of any kinds.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
        mesh: Mesh-wide settings.
    """

    def __init__(
        self,
        resources: Sequence[Resource[Any]],
        namespace: str = "default",
        domain: str = "cluster.local",
        mesh: MeshConfig | None = None,
    ) -> None:
        self.mesh = mesh or MeshConfig()
        self.domain = domain
        self.namespace = namespace
        self.registry = Registry(resources, namespace, domain)
        defaults = self.mesh
        self.virtual_services = VirtualServices(
            resources, namespace, domain, defaults.default_virtual_service_export_to
        )
        self.destination_rules = DestinationRules(
            resources, namespace, domain, defaults.default_destination_rule_export_to
        )
        self.sidecars = [resource for resource in resources if resource.kind == "Sidecar"]

    def with_endpoints(self, resources: Sequence[Resource[Any]]) -> Universe:
        """The short way: the same routing, the endpoints of ``resources``."""
        other = copy(self)
        other.registry = self.registry.with_endpoints(resources)
        return other

    def view(self, client: Client) -> View:
        """What ``client`` sees."""
        return View(self, client)


class View:
    """What one client sees; a ``Source`` of snapshots."""

    def __init__(self, universe: Universe, client: Client) -> None:
        self.universe = universe
        self.client = client
        self.scope: Scope = scope_for(universe.sidecars, client, universe.namespace, universe.mesh)
        self.outbound_policy: OutboundPolicy = self.scope.outbound_policy
        self.rules = universe.virtual_services.seen_from(client.namespace)
        self._claims: dict[str, bool] = {}

    # Hosts ----------------------------------------------------------------------------------------------------------

    def service(self, name: str) -> Service | None:
        """The service of that full name that this client sees; of several namespaces its own, then Kubernetes'."""
        return self._best(self.universe.registry.named(name), name)

    def _best(self, known: Iterable[Service], name: str) -> Service | None:
        default = self.universe.mesh.default_service_export_to
        own = self.client.namespace
        seen = [
            s
            for s in known
            if visible(s.export_to or default, s.namespace, own) and self.scope.imports(s.namespace, name)
        ]
        return next((s for s in seen if s.namespace == own), None) or next(
            (s for s in seen if s.kubernetes), seen[0] if seen else None
        )

    def find(self, name: str) -> tuple[str, Service | None]:
        """The full name that a caller meant, and the service of that name or of a wildcard over it."""
        registry, client = self.universe.registry, self.client
        if is_ip(name):
            addressed = registry.addressed(name)
            found = self._best([addressed] if addressed is not None else [], name)
            return (found.host if found is not None else name), found
        for spelling in spellings(name, client.namespace, self.universe.domain):
            found = self.service(spelling)
            if found is not None:
                return spelling, found
        for spelling in spellings(name, client.namespace, self.universe.domain):
            if any(map(self.imported, self.rules.exact(spelling))):
                return spelling, None
        return self._find_wildcard(name)

    def _find_wildcard(self, name: str) -> tuple[str, Service | None]:
        for known in self.universe.registry.wildcard(name):
            found = self._best(known, name)
            if found is not None:
                return name, found
        return name, self._pod_of_headless(name)

    def _pod_of_headless(self, name: str) -> Service | None:
        """``pod-0.db.ns.svc...`` belongs to the headless service ``db``."""
        _, _, rest = name.partition(".")
        for spelling in spellings(rest, self.client.namespace, self.universe.domain):
            found = self.service(spelling)
            if found is not None and found.headless:
                return found
        return None

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """See ``Source.virtual_host``."""
        name, service = self.find(host)
        if service is None:
            return self._unregistered(name, port)
        if service.resolution is Resolution.ALIAS:
            target = self.service(service.alias_of)
            if target is not None:
                return self._alias_host(host, service, target, port)
        number = service.port(port)
        if number is None or not self.scope.imports(service.namespace, name, port):
            return None
        found = self._with_rules(name, service, port) if number.protocol.is_http else None
        return found or self._default_host(name, service, port)

    def _alias_host(self, spelled: str, alias: Service, target: Service, port: int) -> VirtualHost | None:
        """An ExternalName of a known service: the service answers; rules of the alias hold for its full name."""
        number = target.port(port)
        if number is None:
            return None
        if spelled.removesuffix(".") == alias.host and number.protocol in DECLARED_HTTP:
            found = self._with_rules(alias.host, target, port)
            if found is not None:
                return found
        return self._default_host(alias.host, target, port)

    def _unregistered(self, name: str, port: int) -> VirtualHost | None:
        """A host that only a VirtualService knows: served on port 80, as istiod does it.

        A wildcard host is one of these only while it claims no service of the registry.
        """
        if port != UNREGISTERED_PORT:
            return None
        for candidates in self.rules.all_matching(name):
            imported = [rules for rules in candidates if self.imported(rules)]
            patterns = {host for rules in imported for host in rules.hosts if matches(host, name)}
            if imported and not any(self._claims_services(pattern) for pattern in patterns):
                return self._first_with_routes(imported, name, None, port)
            if imported:
                return None
        return None

    def _claims_services(self, pattern: str) -> bool:
        if not pattern.startswith("*"):
            return False
        if pattern not in self._claims:
            self._claims[pattern] = any(
                matches(pattern, service.host) and service.port(UNREGISTERED_PORT) and self.service(service.host)
                for service in self.universe.registry.services()
            )
        return self._claims[pattern]

    def imported(self, rules: MeshRules) -> bool:
        """Whether the client's Sidecar lets a VirtualService in."""
        return self.scope.imports_any(rules.namespace, rules.hosts)

    def _with_rules(self, name: str, service: Service, port: int) -> VirtualHost | None:
        """The first VirtualService of the most specific host that has any rule for this client and port."""
        for candidates in self.rules.all_matching(name):
            imported = [rules for rules in candidates if self.imported(rules)]
            if imported:
                return self._first_with_routes(imported, name, service, port)
        return None

    def _first_with_routes(
        self, candidates: Sequence[MeshRules], name: str, service: Service | None, port: int
    ) -> VirtualHost | None:
        for rules in candidates:
            routes, skipped = flatten(rules, self.client, port, self._actions(rules, port))
            if routes:
                known = service.host if service is not None else None
                return VirtualHost(name, port, routes, rules.name, known, skipped)
        return None

    def _default_host(self, name: str, service: Service, port: int) -> VirtualHost:
        cluster = cluster_name(service.host, port)
        keys = self._hash_keys(cluster)
        action = forward_of(
            (WeightedCluster(cluster),),
            retries=self.universe.mesh.default_http_retry_policy,
            hash_keys=keys or (),
            consistent_hash=keys is not None,
        )
        retries = self.universe.mesh.default_http_retry_policy
        values = (
            ("timeout", BUILT_IN),
            ("retries", BUILT_IN if retries is None else "MeshConfig.defaultHttpRetryPolicy"),
        )
        route = Route("default", RouteMatch(), action, origin=RouteOrigin(values=values))
        return VirtualHost(name, port, (route,), None, service.host)

    def _actions(self, rules: MeshRules, port: int) -> Actions:
        def cluster(destination: Destination) -> str:
            return self._destination(destination, rules.namespace, port)

        return Actions(cluster, self._hash_keys, self.universe.mesh.default_http_retry_policy)

    def _destination(self, destination: Destination, namespace: str, port: int) -> str:
        """Istio's rule for the port: the destination's, else the service's only one, else the one addressed."""
        host = expand(destination.host, namespace, self.universe.domain)
        service = self._routable(host)
        if service is not None and service.resolution is Resolution.ALIAS and self._routable(service.alias_of):
            service = self._routable(service.alias_of)
        host = service.host if service is not None else host
        if destination.port is not None and destination.port.number:
            port = destination.port.number
        elif service is not None and len(service.ports) == 1:
            port = service.ports[0].number
        return cluster_name(host, port, destination.subset)

    def _routable(self, host: str) -> Service | None:
        """A destination's service: scope does not hide what an imported VirtualService names."""
        default, own = self.universe.mesh.default_service_export_to, self.client.namespace
        known = self.universe.registry.named(host)
        if not known:
            known = next(self.universe.registry.wildcard(host), [])
        seen = [s for s in known if visible(s.export_to or default, s.namespace, own)]
        return next((s for s in seen if s.namespace == own), None) or next(
            (s for s in seen if s.kubernetes), seen[0] if seen else None
        )

    # Clusters -------------------------------------------------------------------------------------------------------

    def parts(self, name: str) -> tuple[Service, Port, str, Rule | None] | None:
        """Service, port, subset and DestinationRule of a cluster; None when it does not exist."""
        parts = name.split("|")
        if len(parts) != 4 or parts[0] != "outbound" or not parts[1].isdigit():
            return None
        service = self._routable(parts[3])
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
            return None
        service, port, subset, rule = found
        mesh = self.universe.mesh
        policy = effective_policy(rule, subset, port.number, mesh.default_traffic_policy)
        return build_cluster(service, port, subset, policy, mesh)

    def _hash_keys(self, name: str) -> tuple[HashKey, ...] | None:
        cluster = self.cluster(name)
        if cluster is None or cluster.load_balancer.kind.value not in ("RING_HASH", "MAGLEV"):
            return None
        return cluster.load_balancer.hash_keys

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
        for service in self.universe.registry.services():
            if self.service(service.host) is service:
                seen.update((service.host, port.number) for port in service.ports)
        for rules in self.universe.virtual_services:
            for host in rules.hosts:
                if not self.universe.registry.named(host) and visible(
                    rules.export_to, rules.namespace, self.client.namespace
                ):
                    seen.add((host, 80))
        yield from sorted(seen)
