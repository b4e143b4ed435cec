"""What surrounds the mesh: the Gateway API's definitions, istiod's own settings, networks and clusters.

Source: Istio ``analyzers/k8sgateway/crdversion.go``, ``istioctl x precheck``, ``analyzers/authn/blockedcidrs.go``,
``analyzers/multicluster/meshnetworks.go`` and ``service.go``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.config.analyze.world import Item, World
from meshlib.config.resources.yaml_lines import read
from meshlib.model.problem import Problem

__all__ = ["gateway_api_versions", "inconsistent_services", "jwks_addresses", "network_registries"]

_GROUP = "gateway.networking.k8s.io"
_BUNDLE = f"{_GROUP}/bundle-version"
_MINIMUM = {"grpcroutes": (1, 1, 0), "backendtlspolicies": (1, 4, 0), "tlsroutes": (1, 5, 0)}
"""Least versions of the Gateway API's bundle, by definition; istiod does not watch older ones."""
_BETA = frozenset({"Gateway", "GatewayClass", "HTTPRoute", "ReferenceGrant"})
_STABLE = frozenset({"Gateway", "GatewayClass", "HTTPRoute", "GRPCRoute"})
_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?")


def gateway_api_versions(world: World) -> Iterator[Problem]:
    """Definitions of the Gateway API that istiod cannot use, or will not for ever."""
    for item in world.of("CustomResourceDefinition"):
        if item.spec.get("group") == _GROUP:
            yield from _served(item)
        yield from _bundle(item)


def _served(item: Item) -> Iterator[Problem]:
    kind = str((item.spec.get("names") or {}).get("kind"))
    served = sorted(str(each.get("name")) for each in item.spec.get("versions") or [] if each.get("served"))
    has = ", ".join(served) or "none"
    if kind in _BETA and "v1beta1" not in served:
        yield item.report("IST0156", "spec.versions", f"{kind} is served as {has}: v1beta1 is needed")
    if kind in _STABLE and "v1" not in served:
        yield item.report("IST0172", "spec.versions", f"{kind} is served as {has}: later v1 will be needed")


def _bundle(item: Item) -> Iterator[Problem]:
    name = item.name.removesuffix(f".{_GROUP}")
    found = _VERSION.match(item.annotations.get(_BUNDLE, ""))
    if found is None or name not in _MINIMUM or not item.name.endswith(_GROUP):
        return
    if tuple(int(part or 0) for part in found.groups()) < _MINIMUM[name]:
        least = ".".join(map(str, _MINIMUM[name]))
        message = f"bundle {found[0]} is older than {least}: istiod does not read objects of this kind"
        yield item.report("IST0176", f"metadata.annotations.{_BUNDLE}", message)


def jwks_addresses(world: World) -> Iterator[Problem]:
    """An istiod that fetches keys for RequestAuthentications from any address."""
    count = len(world.of("RequestAuthentication"))
    for item in world.of("Deployment"):
        if not count or item.labels.get("app") != "istiod":
            continue
        spec = (item.spec.get("template") or {}).get("spec") or {}
        settings = [each for container in spec.get("containers") or [] for each in container.get("env") or []]
        if not any(each.get("name") == "BLOCKED_CIDRS_IN_JWKS_URIS" and each.get("value") for each in settings):
            message = f"BLOCKED_CIDRS_IN_JWKS_URIS is not set: {count} RequestAuthentication may name any address"
            yield item.report("IST0175", "spec.template.spec.containers", message)


_REGISTRIES = frozenset({"Mock", "Kubernetes", "External"})


def network_registries(world: World) -> Iterator[Problem]:
    """Networks of registries that are neither built in nor clusters with a remote secret."""
    remote = [item for item in world.of("Secret") if item.labels.get("istio/multiCluster") == "true"]
    known = {*_REGISTRIES, *(name for item in remote for name in item.resource.spec.get("data") or {})}
    for item in world.of("ConfigMap"):
        for path, networks in _networks(item):
            for network, settings in networks.items():
                for endpoint in (settings or {}).get("endpoints") or []:
                    registry = endpoint.get("fromRegistry")
                    if registry is not None and registry not in known:
                        message = f"network {network!r} is of registry {registry!r}, which nobody knows"
                        yield item.report("IST0126", path, message)


def _networks(item: Item) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = (item.resource.spec.get("data") or {}).get("meshNetworks") if item.name == "istio" else None
    if isinstance(text, str):
        value = read(text, 1).value
        networks = value.get("networks") if isinstance(value, Mapping) else None
        if isinstance(networks, Mapping):
            yield "data.meshNetworks", networks


def inconsistent_services(world: World) -> Iterator[Problem]:
    """A Service that differs from cluster to cluster; the label ``topology.istio.io/cluster`` tells the cluster."""
    for copies in world.clusters.values():
        (first, item), *others = sorted(copies.items())
        differs = [(name, _differences(item, other)) for name, other in others]
        said = "; ".join(f"{name}: {', '.join(found)}" for name, found in differs if found)
        if said:
            yield item.report("IST0170", "spec", f"not the same in every cluster, compared with {first}: {said}")


def _differences(one: Item, other: Item) -> list[str]:
    found = []
    if (one.spec.get("clusterIP") == "None") != (other.spec.get("clusterIP") == "None"):
        found.append("headless or not")
    if (one.spec.get("type") or "ClusterIP") != (other.spec.get("type") or "ClusterIP"):
        found.append("type")
    if _ports(one) != _ports(other):
        found.append("ports")
    return found


def _ports(item: Item) -> list[Any]:
    return sorted(item.spec.get("ports") or [], key=lambda port: str(port.get("name") or ""))
