"""All services that the resources declare, and their endpoints on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from meshlib.config.compile.discovery import capped_export
from meshlib.config.compile.endpoint_changes import Change, EndpointChanges
from meshlib.config.compile.endpoints import from_endpoints, from_entry, from_slices
from meshlib.config.compile.service_objects import created, of_entry, of_kubernetes
from meshlib.config.compile.services import Port, Service
from meshlib.config.compile.topology import Topology
from meshlib.config.compile.workload_index import Workloads
from meshlib.config.resources.base import ObjectMeta, Resource
from meshlib.config.resources.kubernetes import PodSpec
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.service_entry import ServiceEntrySpec, WorkloadEntrySpec
from meshlib.model.endpoint import Endpoint
from meshlib.model.hosts import HostIndex
from meshlib.model.spiffe import expand_trust_domains, spiffe_uri

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Key = tuple[str, str]

__all__ = ["ENDPOINT_KINDS", "SERVICE_KINDS", "Key", "Registry", "age"]

ENDPOINT_KINDS = frozenset({"EndpointSlice", "Endpoints", "WorkloadEntry", "Pod", "Node"})
"""Kinds whose change moves endpoints only."""

SERVICE_KINDS = ("Service", "ServiceEntry", "Namespace")
"""Kinds that declare services and say something of them; a ServiceEntry may hold endpoints too."""


def age(resource: Resource[Any]) -> tuple[float, str, str]:
    """Istio's order wherever the first wins: creation time, name, namespace; no time counts as the oldest."""
    return (created(resource), resource.metadata.name, resource.metadata.namespace or "")


class Registry:
    """Services by host, and what their endpoints are made from.

    Args:
        resources: Every object; other kinds than those of services and endpoints are passed over.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
        mesh: Mesh-wide settings.
        cluster: Id of the Kubernetes cluster that the objects are of, ``""`` when unknown.
    """

    def __init__(
        self, resources: Sequence[Resource[Any]], namespace: str, domain: str, mesh: MeshConfig, cluster: str = ""
    ) -> None:
        self._namespace = namespace
        self._domain = domain
        self._mesh = mesh
        self._cluster = cluster
        self._spaces = {r.metadata.name: r.metadata for r in resources if r.kind == "Namespace"}
        self._by_host: dict[str, list[Service]] = {}
        self._wildcards: HostIndex[str] = HostIndex()
        self._addresses: defaultdict[Address, list[Service]] = defaultdict(list)
        self._ranges: defaultdict[Network, list[Service]] = defaultdict(list)
        self._entries: dict[Key, list[tuple[str, ServiceEntrySpec]]] = {}
        self._read_services(resources)
        self._read_endpoints(resources)

    # Services -------------------------------------------------------------------------------------------------------

    def _read_services(self, resources: Sequence[Resource[Any]]) -> None:
        for resource in sorted((r for r in resources if r.kind in ("Service", "ServiceEntry")), key=age):
            namespace = resource.metadata.namespace or self._namespace
            notes = self._space(namespace).annotations
            if resource.kind == "Service":
                self.add(of_kubernetes(resource, namespace, self._domain, self._mesh.trust_domain, notes))
                continue
            export = self._export(resource, namespace)
            for service in of_entry(resource, namespace, export, notes):
                if self.add(service):
                    entry = (resource.metadata.name, resource.spec)
                    self._entries.setdefault((service.host, namespace), []).append(entry)

    def _space(self, namespace: str) -> ObjectMeta:
        return self._spaces.get(namespace) or ObjectMeta(name=namespace)

    def _export(self, resource: Resource[ServiceEntrySpec], namespace: str) -> Sequence[str]:
        bound = self._mesh.service_entry_visibility
        export = resource.spec.export_to
        if bound is None or not bound.apply_to_sidecars:
            return export
        return capped_export(export or self._mesh.default_service_export_to, bound, self._space(namespace))

    def add(self, service: Service) -> bool:
        """Take a service in; False when another of the same host and namespace is in its way.

        A Kubernetes Service beats a ServiceEntry, then the older wins; two that differ in ports alone are united.
        Source: Istio ``sidecar.go``.
        """
        known = self._by_host.setdefault(service.host, [])
        place = next((n for n, s in enumerate(known) if s.namespace == service.namespace), None)
        if place is None:
            known.append(service)
        elif service.kubernetes and not known[place].kubernetes:
            known[place] = service
        elif service.kubernetes == known[place].kubernetes and service.same_but_ports(known[place]):
            known[place] = known[place].with_ports(service.ports)
        else:
            return False
        if service.host.startswith("*") and not self._wildcards.exact(service.host):
            self._wildcards.add(service.host, service.host)
        self._add_addresses(service)
        return True

    def _add_addresses(self, service: Service) -> None:
        for address in service.addresses:
            with suppress(ValueError):
                network = ip_network(address, strict=False)
                if network.prefixlen == network.max_prefixlen:
                    self._addresses[network.network_address].append(service)
                else:
                    self._ranges[network].append(service)

    def services(self) -> Iterable[Service]:
        """All of them."""
        return (service for known in self._by_host.values() for service in known)

    def hosts(self) -> Iterable[str]:
        """Every host, once."""
        return self._by_host

    def headless(self) -> Iterable[Service]:
        """The services whose pods are dialled one by one."""
        return (service for service in self.services() if service.headless)

    def named(self, host: str) -> list[Service]:
        """The services of that very name, one per namespace, the oldest first."""
        return self._by_host.get(host, [])

    def wildcard(self, host: str) -> Iterator[list[Service]]:
        """The services of each wildcard that matches ``host``, the most specific first."""
        for patterns in self._wildcards.all_matching(host):
            yield self._by_host[patterns[0]]

    def addressed(self, address: str) -> Iterator[Service]:
        """The services with that virtual IP, then those with a range around it, the smallest range first."""
        wanted = ip_address(address)
        yield from self._addresses.get(wanted, ())
        for network in sorted((n for n in self._ranges if wanted in n), key=lambda network: -network.prefixlen):
            yield from self._ranges[network]

    # Endpoints ------------------------------------------------------------------------------------------------------

    def with_endpoints(self, resources: Sequence[Resource[Any]]) -> Registry:
        """The same services with the endpoints of ``resources``, which hold the Namespaces too."""
        other = copy(self)
        other._read_endpoints(resources)
        return other

    def _read_endpoints(self, resources: Sequence[Resource[Any]]) -> None:
        self._topology = Topology(resources, self._mesh.root_namespace, self._cluster)
        self._made: dict[tuple[str, str, int], list[Endpoint]] = {}
        self._known_by: dict[Key, tuple[str, ...]] = {}
        self._slices: dict[Key, tuple[Resource[Any], ...]] = {}
        self._endpoints: dict[Key, tuple[Resource[Any], ...]] = {}
        self._workloads = Workloads()
        self._pods: dict[Key, Resource[PodSpec]] = {}
        workloads: list[tuple[str, Resource[WorkloadEntrySpec]]] = []
        for resource in resources:
            namespace = resource.metadata.namespace or self._namespace
            if resource.kind == "WorkloadEntry":
                workloads.append((namespace, resource))
            elif resource.kind in ENDPOINT_KINDS:
                self._put(resource, namespace)
        self._workloads = Workloads(workloads)

    def _put(self, resource: Resource[Any], namespace: str) -> None:
        table, key = self._place(resource, namespace)
        if table is not None:
            table[key] = (*table.get(key, ()), resource)
        elif resource.kind == "Pod":
            self._pods[namespace, resource.metadata.name] = resource

    def _take_away(self, resource: Resource[Any], namespace: str) -> None:
        table, key = self._place(resource, namespace)
        if table is None:
            self._pods.pop((namespace, resource.metadata.name), None)
            return
        name = resource.metadata.name
        table[key] = tuple(each for each in table.get(key, ()) if each.metadata.name != name)
        if not table[key]:
            del table[key]

    def _place(
        self, resource: Resource[Any], namespace: str
    ) -> tuple[dict[Key, tuple[Resource[Any], ...]] | None, Key]:
        """Where objects stand by the service that they belong to."""
        if resource.kind == "EndpointSlice":
            return self._slices, (namespace, resource.metadata.labels.get("kubernetes.io/service-name", ""))
        if resource.kind == "Endpoints":
            return self._endpoints, (namespace, resource.metadata.name)
        return None, ("", "")

    def with_changes(self, changes: Sequence[Change]) -> tuple[Registry, frozenset[Key]]:
        """The same services after changes that move endpoints only.

        Returns:
            The registry, which shares the endpoints of all other services, and host and namespace of those whose
            endpoints had been made and may be others now.
        """
        other, about = copy(self), EndpointChanges(changes, self._namespace)
        other._slices, other._endpoints, other._pods = self._slices.copy(), self._endpoints.copy(), self._pods.copy()
        workloads = [change for change in changes if any(each and each.kind == "WorkloadEntry" for each in change)]
        other._workloads = self._workloads.with_changes([(about.space(b or a), b, a) for b, a in workloads])  # type: ignore[arg-type]
        for before, after in changes:
            kind = (before or after).kind  # type: ignore[union-attr]
            if kind in ("ServiceEntry", "WorkloadEntry"):
                continue
            if before is not None:
                other._take_away(before, about.space(before))
            if after is not None:
                other._put(after, about.space(after))
        other._swap_entries(about.entries)
        made = {key[:2] for key in self._made.copy()} | self._known_by.copy().keys()
        candidates = [key for key in made if about.may_concern(*key)]
        affected = frozenset(key for key in candidates if self._concerned(key, about, other))
        other._made = {key: made for key, made in self._made.copy().items() if key[:2] not in affected}
        other._known_by = {key: known for key, known in self._known_by.copy().items() if key not in affected}
        return other, affected

    def _swap_entries(self, changes: Iterable[Change]) -> None:
        self._entries = self._entries.copy() if changes else self._entries
        for before, after in changes:
            if before is None or after is None:
                continue
            namespace, name = before.metadata.namespace or self._namespace, before.metadata.name
            for host in {host.lower() for host in before.spec.hosts}:
                known = self._entries.get((host, namespace), [])
                self._entries[host, namespace] = [(n, after.spec if n == name else spec) for n, spec in known]

    def _concerned(self, key: Key, about: EndpointChanges, other: Registry) -> bool:
        host, namespace = key
        service = next((each for each in self.named(host) if each.namespace == namespace), None)
        if service is None:
            return True
        place = (namespace, host.partition(".")[0])
        slices = (*self._slices.get(place, ()), *other._slices.get(place, ()))
        return about.concern(service, slices, (*self._endpoints.get(place, ()), *other._endpoints.get(place, ())))

    def endpoints(self, service: Service, port: Port) -> list[Endpoint]:
        """The endpoints of a service on one of its ports, the unhealthy included; made once."""
        key = (service.host, service.namespace, port.number)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(service, port)
        return found

    def departing(self, service: Service, port: Port) -> list[Endpoint]:
        """Endpoints that are shutting down, for ``explain``: nobody picks them."""
        slices = self._slices.get((service.namespace, service.host.partition(".")[0]), ())
        if not service.kubernetes:
            return []
        return from_slices(service, port, slices, self._pods, self._topology, departing=True)

    def _make(self, service: Service, port: Port) -> list[Endpoint]:
        if not service.kubernetes:
            return list({endpoint.key: endpoint for endpoint in self._of_entries(service, port)}.values())
        key = (service.namespace, service.host.partition(".")[0])
        slices = self._slices.get(key)
        if slices:
            return from_slices(service, port, sorted(slices, key=age), self._pods, self._topology)
        return from_endpoints(service, port, self._endpoints.get(key, ()), self._pods, self._topology)

    def _of_entries(self, service: Service, port: Port) -> Iterator[Endpoint]:
        """From each ServiceEntry that declares the port."""
        namespace = service.namespace
        for _, spec in self._entries.get((service.host, namespace), ()):
            if any(declared.number == port.number for declared in spec.ports):
                pods = [pod for (space, _), pod in self._pods.items() if space == namespace] if service.selector else []
                selector = spec.workload_selector
                workloads = self._workloads.of(namespace, selector.labels) if selector is not None else ()
                yield from from_entry(service, port, spec, workloads, pods, self._topology)

    def identities(self, service: Service) -> tuple[str, ...]:
        """What certificates of the service's endpoints may carry, each also under every alias of the trust domain.

        The list is that of the service, not of the single endpoint: its own names, and the accounts of all endpoints.
        """
        key = (service.host, service.namespace)
        if key not in self._known_by:
            workloads = {e.workload for port in service.ports for e in self.endpoints(service, port)}
            domain = self._mesh.trust_domain
            accounts = (spiffe_uri(domain, w.namespace, w.service_account) for w in workloads if w.service_account)
            names = (*service.identities, *accounts)
            self._known_by[key] = expand_trust_domains(names, self._mesh.trust_domain_aliases)
        return self._known_by[key]
