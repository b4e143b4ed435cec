"""The Kubernetes objects that Istio reads: Service, EndpointSlice, Endpoints, Pod, Node, Namespace."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from meshlib.config.resources.base import Message

__all__ = [
    "EndpointSliceSpec",
    "EndpointsSpec",
    "KubernetesServicePort",
    "KubernetesServiceSpec",
    "PodSpec",
    "SliceEndpoint",
]


class KubernetesServicePort(Message):
    """A port of a Service."""

    name: str = ""
    protocol: str = "TCP"
    port: int = 0
    target_port: int | str | None = None
    app_protocol: str | None = None
    node_port: int | None = None


class KubernetesServiceSpec(Message):
    """A Service."""

    ports: list[KubernetesServicePort] = Field(default_factory=list)
    selector: dict[str, str] = Field(default_factory=dict)
    cluster_ip: str | None = Field(default=None, alias="clusterIP")
    cluster_ips: list[str] = Field(default_factory=list, alias="clusterIPs")
    type: str = "ClusterIP"
    external_name: str | None = None
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None


class ObjectReference(Message):
    """A reference to an object, here a Pod."""

    kind: str = ""
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
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSliceSpec(Message):
    """An EndpointSlice; its fields stand beside ``metadata``."""

    address_type: str = "IPv4"
    endpoints: list[SliceEndpoint] = Field(default_factory=list)
    ports: list[SlicePort] = Field(default_factory=list)


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
    protocol: str | None = None


class EndpointSubset(Message):
    """Addresses that share ports."""

    addresses: list[EndpointAddress] = Field(default_factory=list)
    not_ready_addresses: list[EndpointAddress] = Field(default_factory=list)
    ports: list[EndpointPort] = Field(default_factory=list)


class EndpointsSpec(Message):
    """An Endpoints object; its fields stand beside ``metadata``."""

    subsets: list[EndpointSubset] = Field(default_factory=list)


class PodSpec(Message):
    """What we read of a Pod."""

    service_account_name: str = ""
    node_name: str = ""
    containers: list[dict[str, Any]] = Field(default_factory=list)
