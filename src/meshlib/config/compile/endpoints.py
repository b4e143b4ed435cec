"""Endpoints of services, from EndpointSlices, Endpoints, ServiceEntries, WorkloadEntries and Pods.

Source: Istio ``serviceregistry/kube/controller/endpointslice.go``, ``endpoint_builder.go``,
``serviceregistry/serviceentry/conversion.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from meshlib.config.compile.services import Port, Resolution, Service
from meshlib.config.compile.topology import CLUSTER, Topology, labelled_locality
from meshlib.config.compile.workloads import workload_name, workload_of
from meshlib.config.resources.base import ObjectMeta, Resource
from meshlib.config.resources.kubernetes import (
    EndpointAddress,
    EndpointSliceSpec,
    PodSpec,
    PodStatus,
)
from meshlib.config.resources.service_entry import ServiceEntrySpec, WorkloadEntrySpec
from meshlib.config.resources.slice_endpoints import KnownEndpoint, Place
from meshlib.model.endpoint import Endpoint, Health, Locality
from meshlib.model.hosts import is_ip

__all__ = ["Pods", "from_endpoints", "from_entry", "from_slices", "selects"]

_TLS_MODE = "security.istio.io/tlsMode"
_DRAINING = "istio.io/draining"
_HEALTH_CHECKED = "proxy.istio.io/health-checks-enabled"
_UNIX = "unix://"

Pods = Mapping[tuple[str, str], Resource[PodSpec]]
"""Pods by namespace and name."""


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every pair of ``selector`` stands in ``labels``; an empty selector selects all."""
    return all(labels.get(key) == value for key, value in selector.items())


# Kubernetes ---------------------------------------------------------------------------------------------------------


def from_slices(
    service: Service,
    port: Port,
    slices: Iterable[Resource[EndpointSliceSpec]],
    pods: Pods,
    topology: Topology,
    *,
    departing: bool = False,
) -> list[Endpoint]:
    """The union of all slices of a service, for one of its ports; slice ports belong by name.

    ``departing`` asks for those that are going away instead, which nobody picks.
    """
    found: dict[str, Endpoint] = {}
    for resource in slices:
        number = next((p.port for p in resource.spec.ports if (p.name or "") == port.name and p.port), None)
        if number is None or resource.spec.address_type == "FQDN":
            continue
        for item in resource.spec.known:
            health = _health(service, item.place)
            for address in item.addresses if (health is None) is departing else ():
                endpoint = _of_slice(service, resource.metadata, item, address, number, pods, topology, health)
                found.setdefault(endpoint.key, endpoint)
    return list(found.values())


def _health(service: Service, conditions: Place) -> Health | None:
    """Unready endpoints are known but not picked; None for one that is going away.

    One that is going away but still serves stays for those who hold a session with it.
    """
    if conditions.ready is not False or service.publish_not_ready:
        return Health.HEALTHY
    if conditions.terminating is False:
        return Health.UNHEALTHY
    return Health.DRAINING if service.keeps_sessions and conditions.serving is not False else None


def _of_slice(
    service: Service,
    metadata: ObjectMeta,
    item: KnownEndpoint,
    address: str,
    port: int,
    pods: Pods,
    topology: Topology,
    health: Health | None,
) -> Endpoint:
    name, place = item.pod, item.place
    pod = pods.get((place.pod_namespace or service.namespace, name)) if name else None
    if pod is not None:
        node, hostname = pod.spec.node_name or place.node, place.hostname or _hostname(pod, service)
        return _of_pod(service, pod, address, port, node, place.zone, hostname, topology, health)
    given = _slice_labels(metadata)
    return _endpoint(service, given, name, "", address, port, place.node, place.zone, place.hostname, topology, health)


def _of_pod(
    service: Service,
    pod: Resource[PodSpec],
    address: str,
    port: int,
    node: str,
    zone: str,
    hostname: str,
    topology: Topology,
    health: Health | None,
) -> Endpoint:
    name, account = workload_name(pod.metadata), pod.spec.service_account_name
    labels = pod.metadata.labels
    return _endpoint(service, labels, name, account, address, port, node, zone, hostname, topology, health)


def _endpoint(
    service: Service,
    given: Mapping[str, str],
    name: str,
    account: str,
    address: str,
    port: int,
    node: str,
    zone: str,
    hostname: str | None,
    topology: Topology,
    health: Health | None,
) -> Endpoint:
    where, network = topology.locality(given, node, zone), topology.network(given)
    labels = topology.augmented(given, where, node, network)
    return Endpoint(
        address,
        port,
        labels,
        locality=where,
        health=Health.DRAINING if given.get(_DRAINING) else health or Health.HEALTHY,
        accepts_mtls=given.get(_TLS_MODE) == "istio",
        network=network,
        workload=workload_of(given, name, service.namespace, account, labels.get(CLUSTER, "")),
        hostname=hostname or "",
    )


def _hostname(pod: Resource[PodSpec], service: Service) -> str:
    """A pod has a name of its own below the service that its ``subdomain`` names."""
    below = pod.spec.subdomain and service.host.startswith(f"{pod.spec.subdomain}.")
    return (pod.spec.hostname or pod.metadata.name) if below else ""


def _slice_labels(metadata: ObjectMeta) -> dict[str, str]:
    """Labels for endpoints whose Pod is not known: those of the slice that are not Kubernetes' own."""
    own = ("kubernetes.io/", "endpointslice.kubernetes.io/")
    return {key: value for key, value in metadata.labels.items() if not key.startswith(own)}


def from_endpoints(
    service: Service, port: Port, objects: Iterable[Resource[Any]], pods: Pods, topology: Topology
) -> list[Endpoint]:
    """The older Endpoints objects, read when a service has no slices."""
    found: dict[str, Endpoint] = {}
    for resource in objects:
        for subset in resource.spec.subsets:
            number = next((p.port for p in subset.ports if p.name == port.name), None)
            if number is None:
                continue
            unready = Health.HEALTHY if service.publish_not_ready else Health.UNHEALTHY
            for addresses, health in ((subset.addresses, Health.HEALTHY), (subset.not_ready_addresses, unready)):
                for address in addresses:
                    endpoint = _of_address(service, address, number, pods, topology, health)
                    found.setdefault(endpoint.key, endpoint)
    return list(found.values())


def _of_address(
    service: Service, address: EndpointAddress, port: int, pods: Pods, topology: Topology, health: Health
) -> Endpoint:
    name = address.target_ref.name if address.target_ref is not None else ""
    pod, node = pods.get((service.namespace, name)), address.node_name or ""
    if pod is not None:
        hostname = address.hostname or _hostname(pod, service)
        return _of_pod(service, pod, address.ip, port, node, "", hostname, topology, health)
    return _endpoint(service, {}, name, "", address.ip, port, node, "", address.hostname, topology, health)


# ServiceEntry -------------------------------------------------------------------------------------------------------


def from_entry(
    service: Service,
    port: Port,
    spec: ServiceEntrySpec,
    workloads: Sequence[Resource[WorkloadEntrySpec]],
    pods: Sequence[Resource[PodSpec]],
    topology: Topology,
) -> list[Endpoint]:
    """The endpoints of a ServiceEntry: inline ones, selected workloads, or for DNS the host itself.

    Args:
        service: The service.
        port: One of its ports.
        spec: The ServiceEntry that declares the port.
        workloads: WorkloadEntries of its namespace.
        pods: Pods of its namespace.
        topology: Where they run.
    """
    if service.resolution in (Resolution.NONE, Resolution.DYNAMIC_DNS):
        return []
    found = [_of_workload(service, port, each, each.labels, "", topology, Health.HEALTHY) for each in spec.endpoints]
    is_dns = service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
    if spec.workload_selector is not None:
        wanted = spec.workload_selector.labels
        found.extend(_selected(service, port, wanted, workloads, topology, is_dns=is_dns))
        if not is_dns:
            found.extend(_selected_pods(service, port, wanted, pods, topology))
    elif is_dns and not found and not service.host.startswith("*"):
        found.append(Endpoint(service.host, port.target or port.number))
    return list({endpoint.key: endpoint for endpoint in found}.values())


def _selected(
    service: Service,
    port: Port,
    wanted: Mapping[str, str],
    workloads: Iterable[Resource[WorkloadEntrySpec]],
    topology: Topology,
    *,
    is_dns: bool,
) -> Iterator[Endpoint]:
    """Those with all the labels; an empty selector selects none. Names, which need DNS, join DNS services only."""
    for entry in workloads:
        labels = {**entry.spec.labels, **entry.metadata.labels}
        address = entry.spec.address
        is_name = not is_ip(address) and not address.startswith(_UNIX)
        if wanted and selects(wanted, labels) and (is_dns or not is_name):
            yield _of_workload(service, port, entry.spec, labels, entry.metadata.name, topology, _entry_health(entry))


def _selected_pods(
    service: Service, port: Port, wanted: Mapping[str, str], pods: Iterable[Resource[PodSpec]], topology: Topology
) -> Iterator[Endpoint]:
    for pod in pods:
        if not wanted or not selects(wanted, pod.metadata.labels):
            continue
        status = PodStatus.model_validate(pod.status or {})
        if not status.pod_ip or not _is_ready(status):
            continue
        named = (p.container_port for c in pod.spec.containers for p in c.ports if p.name == port.name)
        number = next(named, 0) or port.target or port.number
        yield _of_pod(service, pod, status.pod_ip, number, pod.spec.node_name, "", "", topology, Health.HEALTHY)


def _is_ready(status: PodStatus) -> bool:
    """No condition says otherwise; a pod that has ended is not."""
    if status.phase in ("Succeeded", "Failed"):
        return False
    return all(condition.status == "True" for condition in status.conditions if condition.type == "Ready")


def _entry_health(entry: Resource[WorkloadEntrySpec]) -> Health:
    """The ``Healthy`` condition; where probes are announced and none has reported yet, unhealthy."""
    conditions = (entry.status or {}).get("conditions") or ()
    told = next((c.get("status") for c in conditions if isinstance(c, dict) and c.get("type") == "Healthy"), None)
    probed = entry.metadata.annotations.get(_HEALTH_CHECKED, "").lower() in ("true", "t", "1")
    return Health.UNHEALTHY if told == "False" or (probed and told != "True") else Health.HEALTHY


def _of_workload(
    service: Service,
    port: Port,
    entry: WorkloadEntrySpec,
    labels: Mapping[str, str],
    name: str,
    topology: Topology,
    health: Health,
) -> Endpoint:
    number = 0 if entry.address.startswith(_UNIX) else entry.ports.get(port.name) or port.target or port.number
    where = Locality.parse(entry.locality) if entry.locality else labelled_locality(labels) or Locality()
    network = topology.network(labels, entry.network)
    augmented = topology.augmented(labels, where, "", network)
    account = entry.service_account
    return Endpoint(
        entry.address,
        number,
        augmented,
        weight=entry.weight or 1,
        locality=where,
        health=Health.DRAINING if labels.get(_DRAINING) else health,
        accepts_mtls=labels.get(_TLS_MODE, "istio" if account else "disabled") == "istio",
        network=network,
        workload=workload_of(labels, name, service.namespace, account, augmented.get(CLUSTER, "")),
    )
