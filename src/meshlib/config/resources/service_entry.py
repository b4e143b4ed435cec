"""ServiceEntry, WorkloadEntry and Sidecar (``networking.istio.io``), and the mesh-wide settings we read."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from meshlib.config.resources.base import Duration, Message, numbered
from meshlib.config.resources.destination_rule import (
    ConnectionPoolSettings,
    H2UpgradePolicy,
    LocalityLoadBalancerSetting,
    OutlierDetection,
    TcpKeepalive,
    ZoneAwareLoadBalancerSetting,
)
from meshlib.config.resources.virtual_service import Destination, HTTPRetry

__all__ = [
    "DefaultTrafficPolicy",
    "IstioEgressListener",
    "Location",
    "MeshConfig",
    "OutboundTrafficMode",
    "OutboundTrafficPolicy",
    "PeerAuthenticationSpec",
    "Resolution",
    "ServiceEntrySpec",
    "ServicePort",
    "SidecarSpec",
    "WorkloadEntrySpec",
]


class Location(StrEnum):
    """Inside or outside the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(StrEnum):
    """How addresses are found."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


class ServicePort(Message):
    """A port of a ServiceEntry."""

    number: int = 0
    protocol: str = ""
    name: str = ""
    target_port: int = 0


class WorkloadEntrySpec(Message):
    """One workload: also the element of ``ServiceEntry.endpoints``."""

    address: str = ""
    ports: dict[str, int] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    network: str = ""
    locality: str = ""
    weight: int = 0
    service_account: str = ""


class LabelsSelector(Message):
    """Selects workloads by labels."""

    labels: dict[str, str] = Field(default_factory=dict)


class ServiceEntrySpec(Message):
    """Hosts that are not Kubernetes services."""

    hosts: list[str] = Field(default_factory=list)
    addresses: list[str] = Field(default_factory=list)
    ports: list[ServicePort] = Field(default_factory=list)
    location: Annotated[Location, numbered(Location.MESH_EXTERNAL, Location.MESH_INTERNAL)] = Location.MESH_EXTERNAL
    resolution: Annotated[
        Resolution,
        numbered(
            Resolution.NONE, Resolution.STATIC, Resolution.DNS, Resolution.DNS_ROUND_ROBIN, Resolution.DYNAMIC_DNS
        ),
    ] = Resolution.NONE
    endpoints: list[WorkloadEntrySpec] = Field(default_factory=list)
    workload_selector: LabelsSelector | None = None
    export_to: list[str] = Field(default_factory=list)
    subject_alt_names: list[str] = Field(default_factory=list)


class OutboundTrafficMode(StrEnum):
    """What happens to unknown hosts."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"
    ALLOW_ANY_DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"


class OutboundTrafficPolicy(Message):
    """What happens to unknown hosts; an empty object is REGISTRY_ONLY."""

    mode: Annotated[OutboundTrafficMode, numbered(OutboundTrafficMode.REGISTRY_ONLY, OutboundTrafficMode.ALLOW_ANY)] = (
        OutboundTrafficMode.REGISTRY_ONLY
    )
    egress_proxy: Destination | None = None


class SidecarPort(Message):
    """A port of a listener."""

    number: int = 0
    protocol: str = ""
    name: str = ""
    target_port: int = 0


class IstioEgressListener(Message):
    """What the client may see."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: Any = None
    hosts: list[str] = Field(default_factory=list)


class SidecarSpec(Message):
    """What the workloads of a namespace may see."""

    workload_selector: LabelsSelector | None = None
    ingress: list[dict[str, Any]] = Field(default_factory=list)
    egress: list[IstioEgressListener] = Field(default_factory=list)
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    inbound_connection_pool: ConnectionPoolSettings | None = None


class MutualTLSMode(StrEnum):
    """What a server accepts."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class MutualTLS(Message):
    """What a server accepts."""

    mode: Annotated[
        MutualTLSMode,
        numbered(MutualTLSMode.UNSET, MutualTLSMode.DISABLE, MutualTLSMode.PERMISSIVE, MutualTLSMode.STRICT),
    ] = MutualTLSMode.UNSET


class PeerAuthenticationSpec(Message):
    """What servers accept; clients read it to decide on automatic mutual TLS."""

    selector: dict[str, Any] | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: dict[int, MutualTLS] = Field(default_factory=dict)


class DefaultTrafficPolicy(Message):
    """Falls in where a DestinationRule leaves a block out."""

    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None


class MeshConfig(Message):
    """The mesh-wide settings that a client reads; the defaults are Istio's."""

    connect_timeout: Duration = 10.0
    tcp_keepalive: TcpKeepalive | None = None
    default_http_retry_policy: HTTPRetry | None = None
    default_traffic_policy: DefaultTrafficPolicy | None = None
    outbound_traffic_policy: OutboundTrafficPolicy = OutboundTrafficPolicy(mode=OutboundTrafficMode.ALLOW_ANY)
    locality_lb_setting: LocalityLoadBalancerSetting | None = LocalityLoadBalancerSetting(enabled=True)
    zone_aware_lb_setting: ZoneAwareLoadBalancerSetting | None = None
    enable_auto_mtls: bool = True
    h2_upgrade_policy: Annotated[H2UpgradePolicy, numbered(H2UpgradePolicy.DO_NOT_UPGRADE, H2UpgradePolicy.UPGRADE)] = (
        H2UpgradePolicy.DO_NOT_UPGRADE
    )
    default_service_export_to: list[str] = Field(default_factory=lambda: ["*"])
    default_virtual_service_export_to: list[str] = Field(default_factory=lambda: ["*"])
    default_destination_rule_export_to: list[str] = Field(default_factory=lambda: ["*"])
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
