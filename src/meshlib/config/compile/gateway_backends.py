"""What a reference to a backend means: a destination, or why it cannot be honoured.

Kinds: Service, ServiceImport (``multicluster.x-k8s.io``), and Istio's Hostname (``networking.istio.io``), which names a
host of the registry directly. References across namespaces need no ReferenceGrant in the mesh.

Source: Istio ``conversion.go`` (``buildDestination``); Gateway API ``HTTPBackendRef``.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshlib.config.resources.gateway_api import HTTPRouteRule
from meshlib.config.resources.gateway_filters import BackendObjectReference
from meshlib.config.resources.virtual_service import Destination, PortSelector
from meshlib.model.cluster import cluster_name
from meshlib.model.hosts import expand

__all__ = ["destination_of", "destinations_of", "unusable"]

_SERVICE = ("", "Service")
_SERVICE_IMPORT = ("multicluster.x-k8s.io", "ServiceImport")
_HOSTNAME = ("networking.istio.io", "Hostname")


def destination_of(ref: BackendObjectReference, namespace: str, domain: str) -> Destination | str:
    """Where ``ref`` in a route of ``namespace`` leads; a text says why it leads nowhere."""
    kind = (ref.group, ref.kind)
    if kind == _HOSTNAME and ref.namespace is not None:
        return "a Hostname has no namespace"
    if kind == _SERVICE and "." in ref.name:
        return f"{ref.name!r} is not the name of a Service"
    if kind not in (_SERVICE, _SERVICE_IMPORT, _HOSTNAME):
        return f"kind {ref.kind} of group {ref.group!r} is not supported"
    if ref.port is None:
        return "the port is missing"
    space = ref.namespace or namespace
    host = {
        _SERVICE: expand(ref.name, space, domain),
        _SERVICE_IMPORT: f"{ref.name}.{space}.svc.clusterset.local",
        _HOSTNAME: ref.name,
    }[kind]
    return Destination(host=host, port=PortSelector(number=ref.port))


def destinations_of(rule: HTTPRouteRule, namespace: str, domain: str) -> Iterator[Destination]:
    """Where a rule may send requests and copies of them."""
    copied = [given.request_mirror.backend_ref for given in rule.filters if given.request_mirror is not None]
    for ref in (*(ref for ref in rule.backend_refs if ref.weight > 0), *copied):
        to = destination_of(ref, namespace, domain)
        if not isinstance(to, str):
            yield to


def unusable(ref: BackendObjectReference) -> str:
    """The name of a cluster that cannot exist, for the share of a backend that cannot be honoured."""
    return cluster_name(f"{ref.kind}/{ref.name}", ref.port or 0)
