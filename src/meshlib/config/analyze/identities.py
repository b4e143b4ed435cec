"""Policies that ask who calls, where nothing proves it: identities need mutual TLS.

A check of our own. Source of the rule: Istio's ``AuthorizationPolicy`` reference (``principals`` and ``namespaces``
require mutual TLS); Kiali knows it as KIA0105.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.config.analyze.hosts import names_of
from meshlib.config.analyze.world import Item, World, selects
from meshlib.model.hosts import more_specific, subset_of
from meshlib.model.problem import Problem

__all__ = ["identities"]

_FIELDS = ("principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts")
_PROVING = ("ISTIO_MUTUAL", "MUTUAL")


def identities(world: World) -> Iterator[Problem]:
    """Policies on identities for servers that refuse mutual TLS, or that clients call without it."""
    for item in world.of("AuthorizationPolicy"):
        path = next(_asking(item), None)
        if path is not None:
            labels = (item.spec.get("selector") or {}).get("matchLabels") or {}
            reason = _unproven(world, item.namespace, labels)
            if reason:
                yield item.report("MESH002", path, f"this needs mutual TLS, and {reason}")


def _asking(item: Item) -> Iterator[str]:
    for number, rule in enumerate(item.spec.get("rules") or []):
        for index, source in enumerate(rule.get("from") or []):
            for field in _FIELDS:
                if (source.get("source") or {}).get(field):
                    yield f"spec.rules[{number}].from[{index}].source.{field}"


def _unproven(world: World, namespace: str, labels: Mapping[str, str]) -> str:
    """Why nobody's identity is known; ``""`` when it is."""
    if _server_mode(world, namespace, labels) == "DISABLE":
        return "a PeerAuthentication disables it"
    rule = _client_rule(world, namespace, labels)
    if rule is not None and _mode(rule) not in _PROVING:
        return f"DestinationRule {rule.full_name} sends without it"
    if rule is None and world.mesh.get("enableAutoMtls") is False:
        return "without automatic mutual TLS a DestinationRule must ask for it, and none does"
    return ""


def _server_mode(world: World, namespace: str, labels: Mapping[str, str]) -> str:
    """Of the PeerAuthentication nearest to the workload: its own, its namespace's, the mesh's."""
    found: dict[int, str] = {}
    for item in world.of("PeerAuthentication"):
        selector = (item.spec.get("selector") or {}).get("matchLabels") or {}
        mode = str((item.spec.get("mtls") or {}).get("mode") or "UNSET")
        if mode == "UNSET":
            continue
        if item.namespace == namespace and (not selector or (labels and selects(selector, labels))):
            found.setdefault(1 if not selector else 0, mode)
        elif item.namespace == world.root and not selector:
            found.setdefault(2, mode)
    return found[min(found)] if found else "PERMISSIVE"


def _mode(rule: Item) -> str:
    tls: Any = (rule.spec.get("trafficPolicy") or {}).get("tls") or {}
    return str(tls.get("mode") or "")


def _client_rule(world: World, namespace: str, labels: Mapping[str, str]) -> Item | None:
    """The most specific DestinationRule with TLS settings for a service of the workload, or for all services there."""
    hosts = [f"*.{namespace}.svc.{world.domain}", *_service_hosts(world, namespace, labels)]
    best: tuple[str, Item] | None = None
    for rule in world.of("DestinationRule"):
        for name in names_of(world, rule.spec.get("host") or "", rule.namespace) if _mode(rule) else ():
            applies = any(subset_of(host, name) for host in hosts)
            if applies and (best is None or more_specific(name, best[0])):
                best = (name, rule)
    return best[1] if best else None


def _service_hosts(world: World, namespace: str, labels: Mapping[str, str]) -> list[str]:
    """Hosts of the services in front of the workload; where none is known, the one that its ``app`` label tells."""
    selecting = [
        service.name
        for service in world.of("Service")
        if labels and service.namespace == namespace and service.name and _fronts(service, labels)
    ]
    names = selecting or [labels[key] for key in ("app", "app.kubernetes.io/name") if key in labels]
    return [f"{name}.{namespace}.svc.{world.domain}" for name in names]


def _fronts(service: Item, labels: Mapping[str, str]) -> bool:
    selector = service.spec.get("selector") or {}
    return bool(selector) and selects(selector, labels)
