"""Clusters and their endpoints, as one client sees them.

Source: Istio ``core/cluster.go``, ``xds/endpoints``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from meshlib.config.compile.client_balancing import kept, sticky_keys
from meshlib.config.compile.client_policies import Found
from meshlib.config.compile.client_tls import Peer, inferred_mode
from meshlib.config.compile.clusters import Towards, build_cluster, locality_of
from meshlib.config.compile.destination_rules import Rule
from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.load_balancers import route_hash_keys
from meshlib.config.compile.locality import assign, with_topology
from meshlib.config.compile.policy_values import policy_values
from meshlib.config.compile.pools import IDLE
from meshlib.config.compile.services import Port, Resolution, Service
from meshlib.config.compile.topology import CLUSTER, HOSTNAME
from meshlib.config.compile.traffic_policy import EffectivePolicy, effective_policy
from meshlib.config.resources.destination_rule import SimpleLB
from meshlib.config.resources.security import MutualTLSMode
from meshlib.model.cluster import Cluster, parse_cluster_name, sni_name
from meshlib.model.endpoint import Assignment, Endpoint, Health, no_labels
from meshlib.model.informed import PolicyValue
from meshlib.model.policy import HashKey

if TYPE_CHECKING:
    from meshlib.config.compile.registry import Key
    from meshlib.config.compile.seen import Seen
    from meshlib.config.compile.universe import Universe
    from meshlib.model.snapshot import Client

__all__ = ["Outbound", "Parts", "subset_labels"]


class Parts(NamedTuple):
    """What a cluster is made of.

    Attributes:
        service: The service.
        port: One of its ports.
        subset: Subset name, ``""`` for the whole service.
        rule: The DestinationRule in force.
        member: DNS label of one member of a headless service; ``""`` for all.
    """

    service: Service
    port: Port
    subset: str
    rule: Rule | None
    member: str = ""

    @property
    def key(self) -> Key:
        """Which service it is: host and namespace."""
        return (self.service.host, self.service.namespace)


class Outbound:
    """Clusters of one client.

    Args:
        universe: Everything that is known.
        client: Who calls.
        seen: The services that the client sees.
    """

    def __init__(self, universe: Universe, client: Client, seen: Seen) -> None:
        self._universe = universe
        self._client = client
        self._labelled = with_topology(client)
        self._seen = seen
        self._clusters: dict[str, tuple[Key, Cluster]] = {}
        self._assignments: dict[str, tuple[Key, Assignment]] = {}
        self._own: list[Service] | None = None

    def keep(self, before: Outbound, affected: Collection[Key]) -> None:
        """Take over what ``before`` made, but for the services of ``affected`` (host and namespace).

        The services are those of before, and the client, its rules and policies too.
        """
        self._own = before._own
        if any((service.host, service.namespace) in affected for service in self._own or ()):
            return  # with the caller's own kind, the shares of every locality may have moved
        self._clusters = {name: made for name, made in before._clusters.copy().items() if made[0] not in affected}
        self._assignments = {name: made for name, made in before._assignments.copy().items() if made[0] not in affected}

    def parts(self, name: str) -> Parts | None:
        """What a cluster is made of; None when host, port or subset do not exist."""
        direction, number, subset, host = parse_cluster_name(name)
        service, member = self._service(host) if direction == "outbound" else (None, "")
        port = service.port(number) if service is not None else None
        if service is None or port is None:
            return None
        rule = self.rule(service)
        if subset and (rule is None or subset not in rule.subsets or service.resolution is Resolution.DYNAMIC_DNS):
            return None
        return Parts(service, port, subset, rule, member)

    def _service(self, host: str) -> tuple[Service | None, str]:
        """The service that a route names, and the label of the one member that ``host`` names below a headless one."""
        service = self._seen.destination(host)
        if service is not None:
            return service, ""
        member, _, rest = host.partition(".")
        service = self._seen.destination(rest)
        return (service, member) if service is not None and service.headless else (None, "")

    def rule(self, service: Service) -> Rule | None:
        """The DestinationRule in force for a service."""
        root = self._universe.mesh.root_namespace
        return self._universe.destination_rules.find(service.host, service.namespace, self._client, root)

    def _policy(self, parts: Parts) -> EffectivePolicy:
        mesh = self._universe.mesh
        return effective_policy(parts.rule, parts.subset, parts.port.number, mesh.default_traffic_policy)

    # Clusters -------------------------------------------------------------------------------------------------------

    def cluster(self, name: str) -> Cluster | None:
        """See ``Source.cluster``; made once."""
        known = self._clusters.get(name)
        if known is not None:
            return known[1]
        parts = self.parts(name)
        if parts is None:
            return None
        made = self._build(parts, self._policy(parts))
        if not parts.member:  # of which callers may invent as many as they like
            self._clusters[name] = (parts.key, made)
        return made

    def _build(self, parts: Parts, policy: EffectivePolicy) -> Cluster:
        service, port, subset, rule, member = parts
        universe, client = self._universe, self._client
        towards = Towards(
            service,
            port,
            subset,
            policy,
            self._peer(parts, policy),
            self._client_policy(parts),
            for_workloads=rule is not None and rule.selector is not None,
            host=f"{member}.{service.host}" if member else "",
            address=client.address,
        )
        return build_cluster(towards, universe.mesh, client.certificate)

    def _client_policy(self, parts: Parts) -> Found:
        service, universe = parts.service, self._universe
        namespaces = (self._client.namespace, service.namespace, universe.mesh.root_namespace)
        return universe.client_policies.find(service.host, parts.subset, namespaces, self._client.labels)

    def _peer(self, parts: Parts, policy: EffectivePolicy) -> Peer:
        """Who answers: of a service that is passed through, nothing is known but all of its endpoints."""
        service, port = parts.service, parts.port
        balancer = policy.load_balancer
        passed = service.headless or service.resolution is Resolution.NONE
        passed = passed or (balancer is not None and balancer.simple is SimpleLB.PASSTHROUGH)
        endpoints = self.endpoints(service, port) if passed else None
        declared = self._universe.peer_authentications.of_namespace(service.namespace)
        return Peer(
            self._universe.registry.identities(service),
            sni_name(service.host, port.number, parts.subset),
            inferred_mode(declared, endpoints, external=service.external),
            external=service.external,
            registered=not service.kubernetes,
        )

    def hash_keys(self, cluster: str, port: int) -> tuple[HashKey, ...]:
        """Where hash keys of a route to ``cluster`` come from; ``port`` is the one that the rule names, or 0."""
        parts = self.parts(cluster)
        if parts is None:
            return ()
        keys = route_hash_keys(parts.rule, parts.subset, port, self._client.address)
        return kept(keys, self._client_policy(parts).load_balancer) if keys else ()

    def weight_keys(self, cluster: str) -> tuple[HashKey, ...] | None:
        """What the weights of a route to ``cluster`` are drawn by; empty means by its hash keys, None at random."""
        parts = self.parts(cluster)
        found = self._client_policy(parts) if parts is not None else Found()
        if found.sticky_weights is None:
            return None
        return kept(sticky_keys(found.sticky_weights), found.load_balancer)

    def connection_times(self, cluster: str) -> tuple[float | None, float | None]:
        """Idle timeout and longest duration of connections to a cluster, by its own ``tcp`` settings, in seconds."""
        parts = self.parts(cluster)
        pool = self._policy(parts).connection_pool if parts is not None else None
        tcp = pool.tcp if pool is not None else None
        if tcp is None:
            return IDLE, None
        return IDLE if tcp.idle_timeout is None else tcp.idle_timeout or None, tcp.max_connection_duration

    def policy_values(self, name: str) -> tuple[PolicyValue, ...]:
        """See ``Informed.policy_values``."""
        parts = self.parts(name)
        if parts is None:
            return ()
        policy = self._policy(parts)
        return policy_values(self._build(parts, policy), policy, parts.service, self._universe.mesh)

    # Endpoints ------------------------------------------------------------------------------------------------------

    def assignment(self, name: str) -> Assignment:
        """See ``Source.assignment``; made once, so that endpoints that did not change are the very same value."""
        known = self._assignments.get(name)
        if known is not None:
            return known[1]
        parts = self.parts(name)
        if parts is None:
            return ()
        made = self._assign(parts)
        if not parts.member:
            self._assignments[name] = (parts.key, made)
        return made

    def _assign(self, parts: Parts) -> Assignment:
        policy = self._policy(parts)
        found = self.endpoints(parts.service, parts.port)
        endpoints = [endpoint for endpoint in found if not self._misfit(parts, policy, endpoint)]
        setting = locality_of(policy, parts.service, self._universe.mesh)
        ejects = policy.outlier_detection is not None
        return assign(self._labelled, list(self._judged(endpoints)), setting, ejects=ejects, peers=self._peers)

    def _peers(self) -> list[Endpoint]:
        """The workloads of the client's own kind: those behind the oldest service that selects the client.

        Source: Istio's self-discovery, which names Envoy's ``local_cluster``.
        """
        if self._own is None:
            own = (s for s in self._universe.registry.services() if s.namespace == self._client.namespace)
            mine = (s for s in own if s.selector and s.ports and selects(s.selector, self._client.labels))
            oldest = min(mine, key=lambda service: (service.created, service.host), default=None)
            self._own = [] if oldest is None else [oldest]
        return [each for s in self._own for each in self._universe.registry.endpoints(s, s.ports[0])]

    def left_out(self, name: str) -> Iterator[tuple[str, str]]:
        """See ``Informed.left_out``: the tests of ``assignment``, with their words."""
        parts = self.parts(name)
        if parts is None:
            return
        service, port, policy = parts.service, parts.port, self._policy(parts)
        assigned = {endpoint.key for group in self.assignment(name) for endpoint in group.endpoints}
        for endpoint in self._known(service, port):
            why = self._elsewhere(service, endpoint) or self._misfit(parts, policy, endpoint)
            if why:
                yield endpoint.key, why
            elif endpoint.key not in assigned:
                where = endpoint.locality or "(unknown)"
                yield endpoint.key, f"locality {where} gets nothing by localityLbSetting.distribute"
        for endpoint in self._universe.registry.departing(service, port):
            yield endpoint.key, "terminating"

    def endpoints(self, service: Service, port: Port) -> list[Endpoint]:
        """Those of a service that this client may reach: on its node or in its cluster, where that is asked for."""
        return [each for each in self._known(service, port) if not self._elsewhere(service, each)]

    def _known(self, service: Service, port: Port) -> list[Endpoint]:
        if service.resolution is Resolution.ALIAS:
            return [Endpoint(service.alias_of, port.number)]
        return self._universe.registry.endpoints(service, port)

    def _elsewhere(self, service: Service, endpoint: Endpoint) -> str:
        """Why this client may not reach an endpoint of a service; ``""`` when it may."""
        node, cluster = self._client.node, self._client.cluster
        if service.same_node and node and endpoint.labels.get(HOSTNAME) != node:
            return f"not on the client's node {node} (internalTrafficPolicy: Local)"
        where = endpoint.labels.get(CLUSTER, cluster)
        if cluster and where != cluster and self._universe.cluster_local.covers(service.host):
            return f"in cluster {where}, and the host stays in {cluster}"
        return ""

    @staticmethod
    def _misfit(parts: Parts, policy: EffectivePolicy, endpoint: Endpoint) -> str:
        """Why an endpoint of the service does not belong to a cluster; ``""`` when it does."""
        labels = subset_labels(parts.rule, parts.subset)
        if not selects(labels, endpoint.labels):
            return f"not in subset {parts.subset}: {_difference(labels, endpoint.labels)}"
        if parts.member and endpoint.hostname != parts.member:
            return f"is not the member {parts.member}"
        detection = policy.outlier_detection
        if detection is not None and detection.min_health_percent > 0 and endpoint.health is Health.UNHEALTHY:
            return "not ready, and minHealthPercent leaves such endpoints out of the count"
        return ""

    def _judged(self, endpoints: Iterable[Endpoint]) -> Iterable[Endpoint]:
        """Those whose own PeerAuthentication switches mutual TLS off do not accept it, whatever they advertise."""
        policies = self._universe.peer_authentications
        for endpoint in endpoints:
            namespace = endpoint.workload.namespace
            if endpoint.accepts_mtls and policies.has_workload_policies(namespace):
                mode = policies.of_workload(namespace, endpoint.labels, endpoint.port)
                yield replace(endpoint, accepts_mtls=mode is not MutualTLSMode.DISABLE)
            else:
                yield endpoint


def _difference(wanted: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """The first label that differs."""
    name = next(name for name, value in wanted.items() if labels.get(name) != value)
    has = f"is {labels[name]}" if name in labels else "is absent"
    return f"label {name} {has}, wanted {wanted[name]}"


def subset_labels(rule: Rule | None, subset: str) -> Mapping[str, str]:
    """What the endpoints of a subset carry; empty for the whole service."""
    return rule.subsets[subset][0].labels if subset and rule is not None else no_labels()
