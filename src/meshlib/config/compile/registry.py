"""All services that the resources declare, and their endpoints on demand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from meshlib.config.compile.endpoints import from_endpoints, from_entry, from_slices, selects
from meshlib.config.compile.services import Port, Resolution, Service, kubernetes_protocol, parse_protocol
from meshlib.config.resources.base import Resource
from meshlib.config.resources.kubernetes import KubernetesServiceSpec
from meshlib.config.resources.service_entry import Location, ServiceEntrySpec
from meshlib.config.resources.service_entry import Resolution as EntryResolution
from meshlib.model.endpoint import Endpoint
from meshlib.model.hosts import HostIndex

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

__all__ = ["ENDPOINT_KINDS", "SERVICE_KINDS", "Registry", "age"]

ENDPOINT_KINDS = frozenset({"EndpointSlice", "Endpoints", "WorkloadEntry", "Pod"})
"""Kinds whose change moves endpoints only."""

SERVICE_KINDS = ("Service", "ServiceEntry")
"""Kinds that declare services; a ServiceEntry may hold endpoints too."""

_RESOLUTIONS = {
    EntryResolution.NONE: Resolution.NONE,
    EntryResolution.STATIC: Resolution.ENDPOINTS,
    EntryResolution.DNS: Resolution.DNS,
    EntryResolution.DNS_ROUND_ROBIN: Resolution.DNS_ROUND_ROBIN,
    EntryResolution.DYNAMIC_DNS: Resolution.NONE,
}


def age(resource: Resource[Any]) -> tuple[float, str, str]:
    """Istio's order wherever the first wins: creation time, name, namespace; no time counts as the oldest."""
    created = resource.metadata.creation_timestamp
    seconds = created.timestamp() if created is not None else 0.0
    return (seconds, resource.metadata.name, resource.metadata.namespace or "")


def _allocated(resource: Resource[Any], host: str) -> tuple[str, ...]:
    """The virtual IPs that the control plane gave a ServiceEntry without addresses (``status.addresses``)."""
    given = (resource.status or {}).get("addresses") or ()
    return tuple(str(each["value"]) for each in given if each.get("value") and each.get("host") in (None, "", host))


class Registry:
    """Services by host, and what their endpoints are made from.

    Args:
        resources: Every object; other kinds than those of services and endpoints are passed over.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
    """

    def __init__(self, resources: Sequence[Resource[Any]], namespace: str, domain: str) -> None:
        self._namespace = namespace
        self._domain = domain
        self._by_host: dict[str, list[Service]] = {}
        self._wildcards: HostIndex[str] = HostIndex()
        self._addresses: dict[Address, list[Service]] = {}
        self._ranges: dict[Network, list[Service]] = {}
        self._entries: defaultdict[tuple[str, str], list[ServiceEntrySpec]] = defaultdict(list)
        self._read_services(resources)
        self._read_endpoints(resources)

    # Services -------------------------------------------------------------------------------------------------------

    def _read_services(self, resources: Sequence[Resource[Any]]) -> None:
        for resource in sorted((r for r in resources if r.kind in SERVICE_KINDS), key=age):
            found = self._of_kubernetes(resource) if resource.kind == "Service" else self._of_entry(resource)
            for service in found:
                if self.add(service) and resource.kind == "ServiceEntry":
                    self._entries[service.host, service.namespace].append(resource.spec)

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
                    self._addresses.setdefault(network.network_address, []).append(service)
                else:
                    self._ranges.setdefault(network, []).append(service)

    def _of_kubernetes(self, resource: Resource[KubernetesServiceSpec]) -> Iterator[Service]:
        spec, metadata = resource.spec, resource.metadata
        namespace = metadata.namespace or self._namespace
        alias = spec.external_name or "" if spec.type == "ExternalName" else ""
        addresses = [a for a in (spec.cluster_ips or [spec.cluster_ip or ""]) if a and a != "None"]
        export = metadata.annotations.get("networking.istio.io/exportTo", "")
        yield Service(
            f"{metadata.name}.{namespace}.svc.{self._domain}".lower(),
            namespace,
            tuple(
                Port(p.port, p.name, kubernetes_protocol(p.protocol, p.app_protocol, p.name, p.port))
                for p in spec.ports
            ),
            Resolution.ALIAS if alias else Resolution.ENDPOINTS,
            tuple(addresses),
            tuple(part.strip() for part in export.split(",") if part.strip()),
            external=bool(alias),
            kubernetes=True,
            headless=spec.cluster_ip == "None",
            created=age(resource)[0],
            alias_of=alias.lower(),
            publish_not_ready=spec.publish_not_ready_addresses,
            object=f"Service {namespace}/{metadata.name}",
            traffic_distribution=spec.traffic_distribution
            or metadata.annotations.get("networking.istio.io/traffic-distribution"),
        )

    def _of_entry(self, resource: Resource[ServiceEntrySpec]) -> Iterator[Service]:
        spec = resource.spec
        namespace = resource.metadata.namespace or self._namespace
        for host in spec.hosts:
            host = host.lower()
            yield Service(
                host,
                namespace,
                tuple(Port(p.number, p.name, parse_protocol(p.protocol), p.target_port) for p in spec.ports),
                _RESOLUTIONS[spec.resolution],
                tuple(spec.addresses) or _allocated(resource, host),
                tuple(spec.export_to),
                external=spec.location is Location.MESH_EXTERNAL,
                created=age(resource)[0],
                subject_alt_names=tuple(spec.subject_alt_names),
                object=f"ServiceEntry {namespace}/{resource.metadata.name}",
                labels=resource.metadata.labels,
                selector=spec.workload_selector.labels if spec.workload_selector is not None else None,
            )

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
        """The service with that virtual IP, then those with a range around it, the smallest range first."""
        wanted = ip_address(address)
        yield from self._addresses.get(wanted, ())
        around = [network for network in self._ranges if wanted in network]
        for network in sorted(around, key=lambda network: -network.prefixlen):
            yield from self._ranges[network]

    # Endpoints ------------------------------------------------------------------------------------------------------

    def with_endpoints(self, resources: Sequence[Resource[Any]]) -> Registry:
        """The same services with the endpoints of ``resources``."""
        other = copy(self)
        other._read_endpoints(resources)
        return other

    def _read_endpoints(self, resources: Sequence[Resource[Any]]) -> None:
        self._slices: defaultdict[tuple[str, str], list[Resource[Any]]] = defaultdict(list)
        self._endpoints: defaultdict[tuple[str, str], list[Resource[Any]]] = defaultdict(list)
        self._workloads: defaultdict[str, list[Resource[Any]]] = defaultdict(list)
        self._pods: dict[tuple[str, str], Resource[Any]] = {}
        for resource in resources:
            namespace = resource.metadata.namespace or self._namespace
            if resource.kind == "EndpointSlice":
                owner = resource.metadata.labels.get("kubernetes.io/service-name", "")
                self._slices[namespace, owner].append(resource)
            elif resource.kind == "Endpoints":
                self._endpoints[namespace, resource.metadata.name].append(resource)
            elif resource.kind == "WorkloadEntry":
                self._workloads[namespace].append(resource)
            elif resource.kind == "Pod":
                self._pods[namespace, resource.metadata.name] = resource

    def endpoints(self, service: Service, port: Port) -> list[Endpoint]:
        """The endpoints of a service on one of its ports, the unhealthy included."""
        if service.kubernetes:
            key = (service.namespace, service.host.partition(".")[0])
            slices = self._slices.get(key)
            if slices:
                return from_slices(service, port, sorted(slices, key=age), self._pods)
            return from_endpoints(service, port, self._endpoints.get(key, ()))
        entries = self._entries.get((service.host, service.namespace), ())
        found = [
            endpoint
            for spec in entries
            if any(declared.number == port.number for declared in spec.ports)
            for endpoint in from_entry(service, port, spec, self._selected(service, spec))
        ]
        return list({endpoint.key: endpoint for endpoint in found}.values())

    def departing(self, service: Service, port: Port) -> list[Endpoint]:
        """Endpoints that are shutting down, for ``explain``: nobody picks them."""
        slices = self._slices.get((service.namespace, service.host.partition(".")[0]), ())
        return from_slices(service, port, slices, self._pods, departing=True) if service.kubernetes else []

    def _selected(self, service: Service, spec: ServiceEntrySpec) -> list[Resource[Any]]:
        if spec.workload_selector is None:
            return []
        wanted = spec.workload_selector.labels
        return [
            entry
            for entry in self._workloads.get(service.namespace, ())
            if selects(wanted, {**entry.spec.labels, **entry.metadata.labels})
        ]
