"""What is kept of an object: the fields that something reads, nothing that only changes.

A Pod is mostly what Kubernetes needs to run it, an object's ``managedFields`` are often larger than the object, and
statuses change many times a minute. What is dropped here costs no memory, and its change is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lean"]

_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_WITH_STATUS = frozenset({"ServiceEntry", "WorkloadEntry"})
"""Kinds of Istio's whose ``status`` is read: allocated addresses, health."""

Object = Mapping[str, Any]


def lean(api_version: str, kind: str, value: Object) -> dict[str, Any]:
    """The object as the loader takes it; lists leave out ``apiVersion`` and ``kind``, so they are given."""
    make = _KINDS.get(kind, _configured)
    metadata = _metadata(value.get("metadata"), annotations=kind not in ("Pod", "Node", "EndpointSlice"))
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **make(kind, value)}


def _metadata(given: Any, annotations: bool) -> Any:
    if not isinstance(given, Mapping):
        return given
    kept = _only(given, "name", "namespace", "labels", "creationTimestamp")
    notes = given.get("annotations")
    if annotations and notes:
        kept["annotations"] = {k: v for k, v in notes.items() if k != _APPLIED} if isinstance(notes, dict) else notes
    owners = given.get("ownerReferences")
    if isinstance(owners, list):
        owner = next((each for each in owners if isinstance(each, dict) and each.get("controller")), None)
        if owner is not None:
            kept["ownerReferences"] = [_only(owner, "kind", "name", "controller")]
    return kept


def _only(value: Object, *names: str) -> dict[str, Any]:
    return {name: value[name] for name in names if value.get(name) is not None}


def _part(value: Object, name: str) -> Object:
    part = value.get(name)
    return part if isinstance(part, Mapping) else {}


def _rows(value: Object, name: str, *fields: str) -> list[Any]:
    rows = value.get(name)
    if not isinstance(rows, list):
        return []
    return [_only(each, *fields) if isinstance(each, Mapping) else each for each in rows]


# Kinds --------------------------------------------------------------------------------------------------------------


def _configured(kind: str, value: Object) -> dict[str, Any]:
    """Istio's and the Gateway API's kinds, ConfigMaps: everything but what the server adds."""
    dropped = (
        ("apiVersion", "kind", "metadata") if kind in _WITH_STATUS else ("apiVersion", "kind", "metadata", "status")
    )
    return {name: part for name, part in value.items() if name not in dropped}


def _nothing(kind: str, value: Object) -> dict[str, Any]:
    return {}


def _service(kind: str, value: Object) -> dict[str, Any]:
    spec = _part(value, "spec")
    kept = _only(
        spec,
        "selector",
        "clusterIP",
        "clusterIPs",
        "type",
        "externalName",
        "publishNotReadyAddresses",
        "internalTrafficPolicy",
        "trafficDistribution",
    )
    return {"spec": {**kept, "ports": _rows(spec, "ports", "name", "protocol", "port", "targetPort", "appProtocol")}}


def _slice(kind: str, value: Object) -> dict[str, Any]:
    endpoints = _rows(value, "endpoints", "addresses", "conditions", "targetRef", "nodeName", "zone", "hostname")
    for each in endpoints:
        reference = each.get("targetRef") if isinstance(each, dict) else None
        if isinstance(reference, Mapping):
            each["targetRef"] = _only(reference, "kind", "name", "namespace")
    ports = _rows(value, "ports", "name", "port", "protocol", "appProtocol")
    return {"addressType": value.get("addressType", "IPv4"), "endpoints": endpoints, "ports": ports}


def _pod(kind: str, value: Object) -> dict[str, Any]:
    spec, status = _part(value, "spec"), _part(value, "status")
    kept = _only(spec, "serviceAccountName", "nodeName", "hostname", "subdomain")
    named = [ports for each in spec.get("containers") or () if isinstance(each, Mapping) and (ports := _named(each))]
    if named:
        kept["containers"] = [{"ports": ports} for ports in named]
    conditions = _rows(status, "conditions", "type", "status")
    ready = [each for each in conditions if isinstance(each, dict) and each.get("type") == "Ready"]
    return {"spec": kept, "status": {**_only(status, "phase", "podIP"), "conditions": ready}}


def _named(container: Object) -> list[Any]:
    ports = _rows(container, "ports", "name", "containerPort")
    return [each for each in ports if isinstance(each, dict) and each.get("name")]


_KINDS: dict[str, Callable[[str, Object], dict[str, Any]]] = {
    "Service": _service,
    "EndpointSlice": _slice,
    "Pod": _pod,
    "Node": _nothing,
    "Namespace": _nothing,
}
