"""Which message reads which kind, in which API versions."""

from __future__ import annotations

from typing import NamedTuple

from meshlib.config.resources.base import Message
from meshlib.config.resources.destination_rule import DestinationRuleSpec
from meshlib.config.resources.kubernetes import EndpointSliceSpec, EndpointsSpec, KubernetesServiceSpec, PodSpec
from meshlib.config.resources.service_entry import (
    PeerAuthenticationSpec,
    ServiceEntrySpec,
    SidecarSpec,
    WorkloadEntrySpec,
)
from meshlib.config.resources.virtual_service import VirtualServiceSpec

__all__ = ["KINDS", "Kind"]

_NETWORKING = frozenset({"v1", "v1beta1", "v1alpha3"})


class Kind(NamedTuple):
    """How a kind is read.

    Attributes:
        group: API group, ``""`` for Kubernetes' core.
        versions: API versions that all read the same.
        spec: The message.
        field: Where its fields stand: ``spec``, or ``""`` beside ``metadata``.
        istio: Whether unknown fields are ours to report; Kubernetes objects have many that do not concern us.
    """

    group: str
    versions: frozenset[str]
    spec: type[Message]
    field: str = "spec"
    istio: bool = True


KINDS: dict[str, Kind] = {
    "VirtualService": Kind("networking.istio.io", _NETWORKING, VirtualServiceSpec),
    "DestinationRule": Kind("networking.istio.io", _NETWORKING, DestinationRuleSpec),
    "ServiceEntry": Kind("networking.istio.io", _NETWORKING, ServiceEntrySpec),
    "WorkloadEntry": Kind("networking.istio.io", _NETWORKING, WorkloadEntrySpec),
    "Sidecar": Kind("networking.istio.io", _NETWORKING, SidecarSpec),
    "PeerAuthentication": Kind("security.istio.io", frozenset({"v1", "v1beta1"}), PeerAuthenticationSpec),
    "Service": Kind("", frozenset({"v1"}), KubernetesServiceSpec, istio=False),
    "Pod": Kind("", frozenset({"v1"}), PodSpec, istio=False),
    "Endpoints": Kind("", frozenset({"v1"}), EndpointsSpec, field="", istio=False),
    "EndpointSlice": Kind("discovery.k8s.io", frozenset({"v1", "v1beta1"}), EndpointSliceSpec, field="", istio=False),
}
