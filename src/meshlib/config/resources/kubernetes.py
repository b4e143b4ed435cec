"""The Kubernetes objects that Istio reads: Service, EndpointSlice, Endpoints, Pod, Node, Namespace."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import AfterValidator, Field, PlainSerializer

from meshlib.config.resources.base import Message
from meshlib.config.resources.slice_endpoints import KnownEndpoint, Place, SliceEndpoints
from meshlib.config.resources.support import Approximated, Ignored, ServerSide

__all__ = [
    "Container",
    "ContainerPort",
    "EndpointSliceSpec",
    "EndpointsSpec",
    "KubernetesServicePort",
    "KubernetesServiceSpec",
    "NamespaceSpec",
    "NodeSpec",
    "PodSpec",
    "PodStatus",
    "SliceEndpoint",
]


class KubernetesServicePort(Message):
    """A port of a Service."""

    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    target_port: Annotated[int | str | None, ServerSide("Kubernetes puts the resolved port into the EndpointSlice")] = (
        None
    )
    app_protocol: str | None = None
    node_port: Annotated[int | None, ServerSide("for traffic from outside the cluster")] = None


class KubernetesServiceSpec(Message):
    """A Service."""

    ports: list[KubernetesServicePort] = Field(default_factory=list)
    selector: dict[str, str] = Field(default_factory=dict)
    cluster_ip: str | None = Field(default=None, alias="clusterIP")
    cluster_ips: list[str] = Field(default_factory=list, alias="clusterIPs")
    type: str = "ClusterIP"
    external_name: str | None = None
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: Annotated[
        str | None, Approximated("for a caller that knows its node; others use the endpoints of all nodes")
    ] = None
    traffic_distribution: str | None = None


class ObjectReference(Message):
    """A reference to an object, here a Pod."""

    kind: Annotated[str, Ignored("endpoints refer to pods")] = ""
    name: str = ""
    namespace: str = ""


class EndpointConditions(Message):
    """None means unknown, which counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class SliceEndpoint(Message):
    """One endpoint of a slice."""

    addresses: list[str] = Field(default_factory=list)
    conditions: EndpointConditions = EndpointConditions()
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    zone: str | None = None
    hostname: str | None = None


class SlicePort(Message):
    """A port of a slice."""

    name: str | None = None
    port: int | None = None
    protocol: Annotated[str | None, Ignored("the Service tells the protocol")] = None
    app_protocol: Annotated[str | None, Ignored("the Service tells the protocol")] = None


def _kept(endpoints: list[SliceEndpoint]) -> Any:
    return SliceEndpoints(map(_known, endpoints))


def _known(each: SliceEndpoint) -> KnownEndpoint:
    conditions, reference = each.conditions, each.target_ref or ObjectReference()
    place = Place(
        conditions.ready,
        conditions.serving,
        conditions.terminating,
        reference.namespace,
        each.node_name or "",
        each.zone or "",
        each.hostname or "",
    )
    return KnownEndpoint(tuple(each.addresses), reference.name, place)


class EndpointSliceSpec(Message):
    """An EndpointSlice; its fields stand beside ``metadata``.

    ``endpoints`` says what is read; once it has been, ``known`` is what is kept of it.
    """

    address_type: str = "IPv4"
    endpoints: Annotated[list[SliceEndpoint], AfterValidator(_kept), PlainSerializer(SliceEndpoints.plain)] = Field(
        default_factory=list, validate_default=True
    )
    ports: list[SlicePort] = Field(default_factory=list)

    @property
    def known(self) -> SliceEndpoints:
        """The endpoints."""
        return cast(SliceEndpoints, self.endpoints)


class EndpointAddress(Message):
    """An address of an Endpoints object."""

    ip: str = ""
    target_ref: ObjectReference | None = None
    node_name: str | None = None
    hostname: str | None = None


class EndpointPort(Message):
    """A port of an Endpoints object."""

    name: str = ""
    port: int = 0
    protocol: Annotated[str | None, Ignored("the Service tells the protocol")] = None


class EndpointSubset(Message):
    """Addresses that share ports."""

    addresses: list[EndpointAddress] = Field(default_factory=list)
    not_ready_addresses: list[EndpointAddress] = Field(default_factory=list)
    ports: list[EndpointPort] = Field(default_factory=list)


class EndpointsSpec(Message):
    """An Endpoints object; its fields stand beside ``metadata``."""

    subsets: list[EndpointSubset] = Field(default_factory=list)


class ContainerPort(Message):
    """A port that a container names."""

    name: str = ""
    container_port: int = 0
    protocol: Annotated[str, Ignored("the name and number tell which port is meant")] = "TCP"


class Container(Message):
    """A container, as far as ports and names go."""

    name: Annotated[str, ServerSide("Kubernetes runs it")] = ""
    image: Annotated[str, ServerSide("Kubernetes runs it")] = ""
    ports: list[ContainerPort] = Field(default_factory=list)


class PodSpec(Message):
    """What Istio reads of a Pod; its labels are in ``metadata``, its addresses and phase in ``status``."""

    service_account_name: str = ""
    node_name: str = ""
    host_network: Annotated[bool, Ignored("endpoints tell their addresses")] = False
    hostname: str = ""
    subdomain: str = ""
    containers: list[Container] = Field(default_factory=list)
    init_containers: Annotated[list[Container], ServerSide("Kubernetes runs them")] = Field(default_factory=list)


class PodAddress(Message):
    """One of a Pod's addresses."""

    ip: str = ""


class StatusCondition(Message):
    """A condition, for example ``Ready: "True"``."""

    type: str = ""
    status: str = ""


class PodStatus(Message):
    """What Istio reads of a Pod's status; ``PodStatus.model_validate(resource.status)``."""

    phase: str = ""
    pod_ip: str = Field(default="", alias="podIP")
    pod_ips: list[PodAddress] = Field(default_factory=list, alias="podIPs")
    conditions: list[StatusCondition] = Field(default_factory=list)


class NodeSpec(Message):
    """A Node: Istio reads the labels of its ``metadata`` for region, zone and subzone."""

    pod_cidr: Annotated[str, ServerSide("for Kubernetes")] = Field(default="", alias="podCIDR")
    provider_id: Annotated[str, ServerSide("for Kubernetes")] = Field(default="", alias="providerID")
    unschedulable: Annotated[bool, ServerSide("for Kubernetes")] = False


class NamespaceSpec(Message):
    """A Namespace: Istio reads labels and annotations of its ``metadata``."""

    finalizers: Annotated[list[str], ServerSide("for Kubernetes")] = Field(default_factory=list)
