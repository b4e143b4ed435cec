"""Endpoints of services, from EndpointSlices, Endpoints, ServiceEntries and WorkloadEntries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from meshlib.config.compile.services import Port, Resolution, Service
from meshlib.config.resources.base import Resource
from meshlib.config.resources.kubernetes import EndpointAddress, EndpointSliceSpec, SliceEndpoint
from meshlib.config.resources.service_entry import ServiceEntrySpec, WorkloadEntrySpec
from meshlib.model.endpoint import Endpoint, Health, Locality, Workload

__all__ = ["from_endpoints", "from_entry", "from_slices", "selects"]

_TLS_MODE = "security.istio.io/tlsMode"


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every pair of ``selector`` stands in ``labels``; an empty selector selects all."""
    return all(labels.get(key) == value for key, value in selector.items())


def workload_of(labels: Mapping[str, str], name: str, namespace: str, account: str = "") -> Workload:
    """Names for metrics, by Istio's order of label precedence."""
    canonical = labels.get("service.istio.io/canonical-name") or labels.get("app.kubernetes.io/name")
    revision = labels.get("service.istio.io/canonical-revision") or labels.get("app.kubernetes.io/version")
    return Workload(
        name,
        namespace,
        canonical or labels.get("app") or name,
        revision or labels.get("version") or "latest",
        labels.get("topology.istio.io/cluster", ""),
        account,
    )


def from_slices(
    service: Service,
    port: Port,
    slices: Iterable[Resource[EndpointSliceSpec]],
    pods: Mapping[tuple[str, str], Any],
    *,
    departing: bool = False,
) -> list[Endpoint]:
    """The union of all slices of a service, for one of its ports (slice ports belong by name).

    ``departing`` asks for those that are going away instead, which nobody picks.
    """
    found: dict[str, Endpoint] = {}
    for resource in slices:
        if resource.spec.address_type == "FQDN":
            continue
        number = next((p.port for p in resource.spec.ports if (p.name or "") == port.name and p.port), None)
        if number is None and len(service.ports) == 1 and len(resource.spec.ports) == 1:
            number = resource.spec.ports[0].port
        if number is None:
            continue
        for item in resource.spec.endpoints:
            health = _health(service, item)
            for address in item.addresses if (health is None) is departing else ():
                endpoint = _of_slice(service, resource, item, address, number, health, pods)
                found.setdefault(endpoint.key, endpoint)
    return list(found.values())


def _health(service: Service, item: SliceEndpoint) -> Health | None:
    """None for an endpoint that is going away.

    Source: Istio ``endpointslice.go``: unready endpoints are known but not picked, terminating ones are dropped.
    """
    if item.conditions.ready is not False or service.publish_not_ready:
        return Health.HEALTHY
    return None if item.conditions.terminating is not False else Health.UNHEALTHY


def _of_slice(
    service: Service,
    resource: Resource[EndpointSliceSpec],
    item: SliceEndpoint,
    address: str,
    port: int,
    health: Health | None,
    pods: Mapping[tuple[str, str], Any],
) -> Endpoint:
    reference = item.target_ref
    name = reference.name if reference is not None else ""
    pod = pods.get(((reference.namespace if reference is not None else "") or service.namespace, name))
    given = pod.metadata.labels if pod is not None else _slice_labels(resource)
    account = pod.spec.service_account_name if pod is not None else ""
    locality = _locality(given, item.zone or "")
    labels = {**given, **_topology(locality)}
    return Endpoint(
        address,
        port,
        MappingProxyType(labels),
        locality=locality,
        health=health or Health.HEALTHY,
        accepts_mtls=given.get(_TLS_MODE) == "istio",
        network=given.get("topology.istio.io/network", ""),
        workload=workload_of(given, name, service.namespace, account),
    )


def _slice_labels(resource: Resource[EndpointSliceSpec]) -> dict[str, str]:
    """Labels for endpoints whose Pod is not known: those of the slice that are not Kubernetes' own."""
    return {
        key: value
        for key, value in resource.metadata.labels.items()
        if not key.startswith(("kubernetes.io/", "endpointslice.kubernetes.io/"))
    }


def _locality(labels: Mapping[str, str], zone: str) -> Locality:
    given = labels.get("istio-locality") or labels.get("topology.istio.io/locality")
    if given:
        return Locality.parse(given if "/" in given else given.replace(".", "/"))
    return Locality(
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", zone),
        labels.get("topology.istio.io/subzone", ""),
    )


def _topology(locality: Locality) -> dict[str, str]:
    pairs = zip(
        ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"),
        locality,
        strict=True,
    )
    return {key: value for key, value in pairs if value}


def from_endpoints(service: Service, port: Port, objects: Iterable[Resource[Any]]) -> list[Endpoint]:
    """The older Endpoints objects, read when a service has no slices."""
    found: dict[str, Endpoint] = {}
    for resource in objects:
        for subset in resource.spec.subsets:
            number = next((p.port for p in subset.ports if p.name == port.name), None)
            if number is None and len(subset.ports) == 1 and len(service.ports) == 1:
                number = subset.ports[0].port
            if number is None:
                continue
            unready = Health.HEALTHY if service.publish_not_ready else Health.UNHEALTHY
            for addresses, health in ((subset.addresses, Health.HEALTHY), (subset.not_ready_addresses, unready)):
                for address in addresses:
                    endpoint = _of_address(service, address, number, health)
                    found.setdefault(endpoint.key, endpoint)
    return list(found.values())


def _of_address(service: Service, address: EndpointAddress, port: int, health: Health) -> Endpoint:
    name = address.target_ref.name if address.target_ref is not None else ""
    return Endpoint(address.ip, port, health=health, workload=workload_of({}, name, service.namespace))


def from_entry(
    service: Service,
    port: Port,
    spec: ServiceEntrySpec,
    selected: Sequence[Resource[WorkloadEntrySpec]],
) -> list[Endpoint]:
    """The endpoints of a ServiceEntry: inline ones, selected workloads, or for DNS the host itself."""
    if service.resolution is Resolution.NONE:
        return []
    found = [_of_workload(service, port, entry, entry.labels, "") for entry in spec.endpoints]
    found.extend(
        _of_workload(service, port, entry.spec, {**entry.spec.labels, **entry.metadata.labels}, entry.metadata.name)
        for entry in selected
    )
    is_dns = service.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN)
    if is_dns and not found and spec.workload_selector is None and not service.host.startswith("*"):
        found.append(Endpoint(service.host, port.target or port.number))
    return list({endpoint.key: endpoint for endpoint in found}.values())


def _of_workload(
    service: Service, port: Port, entry: WorkloadEntrySpec, labels: Mapping[str, str], name: str
) -> Endpoint:
    unix = entry.address.startswith("unix://")
    number = 0 if unix else entry.ports.get(port.name) or port.target or port.number
    given = entry.locality or labels.get("topology.istio.io/locality", labels.get("istio-locality", ""))
    locality = Locality.parse(given if "/" in given else given.replace(".", "/"))
    mode = labels.get(_TLS_MODE, "istio" if entry.service_account else "disabled")
    return Endpoint(
        entry.address,
        number,
        MappingProxyType({**labels, **_topology(locality)}),
        weight=entry.weight or 1,
        locality=locality,
        accepts_mtls=mode == "istio",
        network=entry.network or labels.get("topology.istio.io/network", ""),
        workload=workload_of(labels, name, service.namespace, entry.service_account),
    )
