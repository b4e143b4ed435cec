"""Endpoints on the wire.

Source: Istio ``endpoint_builder.go``, ``AppendLbEndpointMetadata``.
"""

from __future__ import annotations

from typing import Any

from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Assignment, Endpoint, Health, LocalityEndpoints, Workload
from meshlib.xds.encode.values import struct, uint32
from meshlib.xds.messages import address_pb2, endpoint_components_pb2, endpoint_pb2

__all__ = ["address", "load_assignment"]

_FULL_HEALTH = 1.4
_LARGEST_FACTOR = 100


def load_assignment(cluster: Cluster, assignment: Assignment) -> Any:
    """``ClusterLoadAssignment``."""
    made = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster.name)
    made.endpoints.extend(_locality(group) for group in assignment)
    if cluster.load_balancer.overprovisioning != _FULL_HEALTH:
        made.policy.overprovisioning_factor.value = round(cluster.load_balancer.overprovisioning * _LARGEST_FACTOR)
    return made


def _locality(group: LocalityEndpoints) -> Any:
    """GRPC clients drop a locality without a weight, so one that has none is given the number of its endpoints."""
    made = endpoint_components_pb2.LocalityLbEndpoints(priority=group.priority)
    made.locality.SetInParent()
    made.locality.region, made.locality.zone, made.locality.sub_zone = group.locality
    weight = group.weight
    if weight is None:
        weight = max(1, sum(endpoint.weight for endpoint in group.endpoints))
        made.metadata.filter_metadata["meshlib"].CopyFrom(struct({"weighted": False}))
    made.load_balancing_weight.value = weight
    made.lb_endpoints.extend(_endpoint(endpoint, group) for endpoint in group.endpoints)
    return made


def _endpoint(endpoint: Endpoint, group: LocalityEndpoints) -> Any:
    made = endpoint_components_pb2.LbEndpoint(load_balancing_weight=uint32(endpoint.weight))
    made.endpoint.address.CopyFrom(address(endpoint.address, endpoint.port))
    made.health_status = endpoint.health.value if endpoint.health is not Health.HEALTHY else "HEALTHY"
    metadata = made.metadata.filter_metadata
    if endpoint.accepts_mtls:
        metadata["envoy.transport_socket_match"].CopyFrom(struct({"tlsMode": "istio"}))
    workload = endpoint.workload
    if workload != Workload():
        names = (workload.name, workload.namespace, workload.canonical_name, workload.canonical_revision)
        metadata["istio"].CopyFrom(struct({"workload": ";".join([*names, workload.cluster])}))
    ours = _beyond(endpoint, group)
    if ours:
        metadata["meshlib"].CopyFrom(struct(ours))
        if endpoint.labels:
            metadata["envoy.lb"].CopyFrom(struct(dict(endpoint.labels)))
    return made


def _beyond(endpoint: Endpoint, group: LocalityEndpoints) -> dict[str, Any]:
    """What Envoy has no field for."""
    found: dict[str, Any] = {}
    if endpoint.labels:
        found["labels"] = dict(endpoint.labels)
    if endpoint.network:
        found["network"] = endpoint.network
    if endpoint.hostname:
        found["hostname"] = endpoint.hostname
    if endpoint.workload.service_account:
        found["service_account"] = endpoint.workload.service_account
    if endpoint.locality != group.locality:
        found["locality"] = list(endpoint.locality)
    return found


def address(host: str, port: int) -> Any:
    """``Address`` of an IP address, a DNS name or a ``unix:///path``."""
    made = address_pb2.Address()
    if host.startswith("unix:"):
        made.pipe.path = host.removeprefix("unix:").removeprefix("//")
    else:
        made.socket_address.address = host
        made.socket_address.port_value = port
    return made
