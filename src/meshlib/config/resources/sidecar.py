"""Sidecar: what the workloads of a namespace may see, and how they are served (``networking.istio.io``)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from meshlib.config.resources.base import Message, UInt32, numbered
from meshlib.config.resources.destination_rule import ConnectionPoolSettings
from meshlib.config.resources.selectors import LabelsSelector
from meshlib.config.resources.server_tls import ServerTLSSettings
from meshlib.config.resources.support import Ignored, ServerSide
from meshlib.config.resources.virtual_service import Destination

__all__ = [
    "CaptureMode",
    "IstioEgressListener",
    "IstioIngressListener",
    "OutboundTrafficMode",
    "OutboundTrafficPolicy",
    "SidecarPort",
    "SidecarSpec",
]


class OutboundTrafficMode(StrEnum):
    """What happens to unknown hosts; ``ALLOW_ANY_DYNAMIC_DNS`` is for MeshConfig alone."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"
    ALLOW_ANY_DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"


class OutboundTrafficPolicy(Message):
    """What happens to unknown hosts; an empty object is REGISTRY_ONLY."""

    mode: Annotated[OutboundTrafficMode, numbered(OutboundTrafficMode.REGISTRY_ONLY, OutboundTrafficMode.ALLOW_ANY)] = (
        OutboundTrafficMode.REGISTRY_ONLY
    )
    egress_proxy: Destination | None = None


class CaptureMode(StrEnum):
    """How traffic gets to a listener; a client library has nothing to capture."""

    DEFAULT = "DEFAULT"
    IPTABLES = "IPTABLES"
    NONE = "NONE"


class SidecarPort(Message):
    """A port of a listener; ``number`` 0 goes with a unix socket as ``bind``."""

    number: UInt32 = 0
    protocol: str = ""
    name: Annotated[str, Ignored("a name for people")] = ""
    target_port: Annotated[UInt32, Ignored("Istio refuses it")] = 0


class IstioIngressListener(Message):
    """How one port of the workload is served.

    Attributes:
        default_endpoint: Where the application listens: ``127.0.0.1:PORT``, ``0.0.0.0:PORT``, ``[::1]:PORT``,
            ``[::]:PORT`` or ``unix:///path``; ``""`` for the workload's own address.
    """

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: Annotated[CaptureMode, numbered(*CaptureMode)] = CaptureMode.DEFAULT
    default_endpoint: str = ""
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class IstioEgressListener(Message):
    """What the client may see; ``hosts`` are ``namespace/dnsName``."""

    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: Annotated[CaptureMode, numbered(*CaptureMode), Ignored("a client library captures no traffic")] = (
        CaptureMode.DEFAULT
    )
    hosts: list[str] = Field(default_factory=list)


class SidecarSpec(Message):
    """What the workloads of a namespace may see, and how they are served."""

    workload_selector: LabelsSelector | None = None
    ingress: Annotated[list[IstioIngressListener], ServerSide("how the workload itself is served")] = Field(
        default_factory=list
    )
    egress: list[IstioEgressListener] = Field(default_factory=list)
    inbound_connection_pool: Annotated[
        ConnectionPoolSettings | None, ServerSide("how the workload itself is served")
    ] = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
