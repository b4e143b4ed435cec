"""Which message reads which kind, in which API versions."""

from __future__ import annotations

from typing import NamedTuple

from meshlib.config.resources.base import Message
from meshlib.config.resources.client_policy import ClientPolicySpec
from meshlib.config.resources.destination_rule import DestinationRuleSpec
from meshlib.config.resources.gateway import GatewaySpec
from meshlib.config.resources.gateway_api import GROUP, GRPCRouteSpec, HTTPRouteSpec, ReferenceGrantSpec
from meshlib.config.resources.kubernetes import (
    EndpointSliceSpec,
    EndpointsSpec,
    KubernetesServiceSpec,
    NamespaceSpec,
    NodeSpec,
    PodSpec,
)
from meshlib.config.resources.proxy_config import ProxyConfigSpec
from meshlib.config.resources.security import (
    AuthorizationPolicySpec,
    PeerAuthenticationSpec,
    RequestAuthenticationSpec,
)
from meshlib.config.resources.service_entry import ServiceEntrySpec, WorkloadEntrySpec
from meshlib.config.resources.sidecar import SidecarSpec
from meshlib.config.resources.support import Ignored, Mark, ServerSide
from meshlib.config.resources.telemetry import TelemetrySpec
from meshlib.config.resources.virtual_service import VirtualServiceSpec
from meshlib.config.resources.workload_group import WorkloadGroupSpec

__all__ = ["KINDS", "Kind", "kind_of"]


class Kind(NamedTuple):
    """How a kind is read.

    Attributes:
        versions: API versions that all read the same.
        spec: The message.
        field: Where its fields stand: ``spec``, or ``""`` beside ``metadata``.
        istio: Whether unknown fields are ours to report; Kubernetes objects have many that do not concern us.
        support: What becomes of the whole kind; None when its fields say so themselves.
    """

    versions: frozenset[str]
    spec: type[Message]
    field: str = "spec"
    istio: bool = True
    support: Mark | None = None


_NETWORKING = frozenset({"v1", "v1beta1", "v1alpha3"})
_SECURITY = frozenset({"v1", "v1beta1"})
_CORE = frozenset({"v1"})
_GATEWAY_API = frozenset({"v1", "v1beta1", "v1alpha2"})
_SERVERS = ServerSide("servers decide by it")

KINDS: dict[tuple[str, str], Kind] = {
    ("networking.istio.io", "VirtualService"): Kind(_NETWORKING, VirtualServiceSpec),
    ("networking.istio.io", "DestinationRule"): Kind(_NETWORKING, DestinationRuleSpec),
    ("networking.istio.io", "ServiceEntry"): Kind(_NETWORKING, ServiceEntrySpec),
    ("networking.istio.io", "WorkloadEntry"): Kind(_NETWORKING, WorkloadEntrySpec),
    ("networking.istio.io", "WorkloadGroup"): Kind(
        _NETWORKING, WorkloadGroupSpec, support=ServerSide("istiod makes WorkloadEntries of it")
    ),
    ("networking.istio.io", "Sidecar"): Kind(_NETWORKING, SidecarSpec),
    ("networking.istio.io", "Gateway"): Kind(
        _NETWORKING, GatewaySpec, support=ServerSide("a gateway is a proxy of its own")
    ),
    ("networking.istio.io", "ProxyConfig"): Kind(
        frozenset({"v1beta1"}), ProxyConfigSpec, support=ServerSide("it configures the proxy process")
    ),
    ("security.istio.io", "PeerAuthentication"): Kind(_SECURITY, PeerAuthenticationSpec),
    ("security.istio.io", "RequestAuthentication"): Kind(_SECURITY, RequestAuthenticationSpec, support=_SERVERS),
    ("security.istio.io", "AuthorizationPolicy"): Kind(_SECURITY, AuthorizationPolicySpec, support=_SERVERS),
    ("telemetry.istio.io", "Telemetry"): Kind(
        frozenset({"v1", "v1alpha1"}),
        TelemetrySpec,
        support=Ignored("spans and metrics follow OpenTelemetry's own settings"),
    ),
    ("meshlib.dev", "ClientPolicy"): Kind(frozenset({"v1alpha1"}), ClientPolicySpec),
    (GROUP, "HTTPRoute"): Kind(_GATEWAY_API, HTTPRouteSpec),
    (GROUP, "GRPCRoute"): Kind(_GATEWAY_API, GRPCRouteSpec),
    (GROUP, "ReferenceGrant"): Kind(
        _GATEWAY_API, ReferenceGrantSpec, support=ServerSide("Istio asks for grants at gateways, not in the mesh")
    ),
    ("", "Service"): Kind(_CORE, KubernetesServiceSpec, istio=False),
    ("", "Pod"): Kind(_CORE, PodSpec, istio=False),
    ("", "Node"): Kind(_CORE, NodeSpec, istio=False),
    ("", "Namespace"): Kind(_CORE, NamespaceSpec, istio=False),
    ("", "Endpoints"): Kind(_CORE, EndpointsSpec, field="", istio=False),
    ("discovery.k8s.io", "EndpointSlice"): Kind(frozenset({"v1", "v1beta1"}), EndpointSliceSpec, field="", istio=False),
}
"""(API group, kind) -> how it is read; Kubernetes' core is the group ``""``."""


def kind_of(api_version: str, kind: str) -> Kind | None:
    """How a kind is read; None for one that is not modelled, or not in that version."""
    group, _, version = api_version.rpartition("/")
    known = KINDS.get((group, kind))
    return known if known is not None and version in known.versions else None
