"""Endpoints off the wire.

Source: Envoy ``ClusterLoadAssignment``; gRFCs A27, A37, A61; Istio ``AppendLbEndpointMetadata``. gRPC leaves out
localities without a weight and endpoints that discovery calls unhealthy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from meshlib.model.endpoint import Assignment, Endpoint, Health, Locality, LocalityEndpoints, Workload, no_labels
from meshlib.model.hosts import is_ip
from meshlib.xds.decode.findings import Decoded, Findings, Place, Profile
from meshlib.xds.decode.subsets import texts
from meshlib.xds.decode.values import metadata, read
from meshlib.xds.messages import endpoint_pb2

__all__ = ["Assigned", "assigned", "load_assignment"]

_LARGEST = (1 << 32) - 1
_UNKNOWN = Workload()
_DEEPEST = 128
_HEALTH = (Health.HEALTHY, Health.HEALTHY, Health.UNHEALTHY, Health.DRAINING, Health.UNHEALTHY, Health.DEGRADED)
"""By Envoy's number of ``HealthStatus``: unknown, healthy, unhealthy, draining, timeout, degraded."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """A ``ClusterLoadAssignment``.

    Attributes:
        name: Of the cluster, or its name for endpoint discovery.
        assignment: The endpoints.
        overprovisioning: Health that counts as full is 1/overprovisioning.
    """

    name: str
    assignment: Assignment = ()
    overprovisioning: float = 1.4


def load_assignment(resource: Any, profile: Profile = Profile.HTTP) -> Decoded[Assigned]:
    """The endpoints of a message or of protobuf JSON.

    Raises:
        InvalidResource: With everything that is wrong.
    """
    message, findings = read(resource, endpoint_pb2.ClusterLoadAssignment), Findings(profile)
    return findings.close("ClusterLoadAssignment", message.cluster_name, assigned(message, Place(findings)))


def assigned(message: Any, at: Place, *, names: bool = False) -> Assigned:
    """As ``load_assignment``, inside a cluster, where ``names`` may stand for addresses."""
    at.only(message, {"cluster_name", "endpoints", "policy"})
    at.field("policy").only(message.policy, {"overprovisioning_factor"})
    factor = message.policy.overprovisioning_factor.value if message.policy.HasField("overprovisioning_factor") else 140
    if not factor:
        at.field("policy").field("overprovisioning_factor").error("must be above 0")
    groups = [
        group
        for number, each in enumerate(message.endpoints)
        if (group := _locality(each, names, at.field("endpoints", number))) is not None
    ]
    if at.is_grpc:
        _check_grpc(groups, at)
    return Assigned(message.cluster_name, tuple(groups), factor / 100)


def _check_grpc(groups: list[LocalityEndpoints], at: Place) -> None:
    priorities = {group.priority for group in groups}
    if priorities != set(range(len(priorities))):
        at.field("endpoints").error(f"priorities {sorted(priorities)} have gaps")
    keys = [endpoint.key for group in groups for endpoint in group.endpoints]
    for key in {key for key in keys if keys.count(key) > 1}:
        at.field("endpoints").error(f"address {key} stands twice")
    places = [(group.priority, group.locality) for group in groups]
    for priority, locality in {place for place in places if places.count(place) > 1}:
        at.field("endpoints").error(f"locality {locality} stands twice at priority {priority}")
    for priority in priorities:
        total = sum(group.weight or 0 for group in groups if group.priority == priority)
        if total > _LARGEST:
            at.field("endpoints").error(f"the weights at priority {priority} add up to {total}, above {_LARGEST}")


def _locality(message: Any, names: bool, at: Place) -> LocalityEndpoints | None:
    at.only(message, {"locality", "load_balancing_weight", "priority", "lb_endpoints", "metadata"})
    if at.is_grpc and not message.HasField("locality"):
        at.field("locality").error("is missing")
    if message.priority > _DEEPEST and not at.is_grpc:
        at.field("priority").error(f"{message.priority} is above {_DEEPEST}")
    weight = message.load_balancing_weight.value if message.HasField("load_balancing_weight") else None
    if at.is_grpc and not weight:
        return None
    if metadata(message, "meshlib").get("weighted") is False:
        weight = None
    locality = Locality(message.locality.region, message.locality.zone, message.locality.sub_zone)
    made = (
        _endpoint(each, locality, names, at.field("lb_endpoints", number))
        for number, each in enumerate(message.lb_endpoints)
    )
    return LocalityEndpoints(tuple(each for each in made if each is not None), locality, message.priority, weight)


def _endpoint(message: Any, locality: Locality, names: bool, at: Place) -> Endpoint | None:
    at.only(message, {"endpoint", "health_status", "load_balancing_weight", "metadata"})
    at.field("endpoint").only(message.endpoint, {"address"})
    weight = message.load_balancing_weight.value if message.HasField("load_balancing_weight") else 1
    if not weight:
        at.field("load_balancing_weight").error("must be above 0")
    health = _HEALTH[message.health_status] if message.health_status < len(_HEALTH) else Health.UNHEALTHY
    if at.is_grpc and health not in (Health.HEALTHY, Health.DRAINING):
        return None
    address, port = _address(message.endpoint.address, names, at.field("endpoint").field("address"))
    ours = metadata(message, "meshlib")
    chosen = metadata(message, "envoy.lb")
    labels = ours.get("labels") or (dict(texts(chosen, at.field("metadata"))) if chosen else None)
    return Endpoint(
        address,
        port,
        MappingProxyType(dict(labels)) if labels else no_labels(),
        max(1, weight),
        Locality(*ours["locality"]) if "locality" in ours else locality,
        health,
        metadata(message, "envoy.transport_socket_match").get("tlsMode") == "istio",
        str(ours.get("network", "")),
        _workload(metadata(message, "istio"), ours),
        str(ours.get("hostname", "")),
    )


def _address(message: Any, names: bool, at: Place) -> tuple[str, int]:
    if message.WhichOneof("address") == "pipe":
        if at.is_grpc:
            at.error("gRPC takes no unix sockets from discovery")
        return f"unix://{message.pipe.path}", 0
    socket = message.socket_address
    if not names and not is_ip(socket.address):
        at.field("socket_address").error(f"{socket.address!r} is no IP address")
    if socket.named_port or socket.resolver_name:
        at.field("socket_address").error("only numbered ports and plain addresses can be dialled")
    return socket.address, socket.port_value


def _workload(istio: Mapping[str, Any], ours: Mapping[str, Any]) -> Workload:
    """Istio writes ``name;namespace;canonical name;canonical revision;cluster``."""
    if not istio and not ours:
        return _UNKNOWN
    name, namespace, canonical, revision, cluster, *_ = [*str(istio.get("workload", "")).split(";"), *[""] * 4]
    return Workload(name, namespace, canonical, revision, cluster, str(ours.get("service_account", "")))
