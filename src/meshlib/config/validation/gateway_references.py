"""Validation of what Gateway API objects refer to: parents, backends, and the grants for both.

Source: Gateway API ``ParentReference``, ``BackendObjectReference``, ``ReferenceGrantSpec``.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshlib.config.resources import gateway_api as api
from meshlib.config.resources.gateway_filters import BackendObjectReference
from meshlib.config.validation import gateway_names as names
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report

__all__ = ["backend", "parents", "reference_grant"]

_PARENTS, _GRANTS = 32, 16
_BACKENDS = {("", "Service"), ("multicluster.x-k8s.io", "ServiceImport"), ("networking.istio.io", "Hostname")}


def parents(report: Report, given: Sequence[api.ParentReference], path: str) -> None:
    """What a route is attached to."""
    names.limit(report, path, given, _PARENTS)
    for number, ref in enumerate(given):
        where = f"{path}[{number}]"
        _reference(report, ref.group, ref.kind, ref.name, ref.namespace, where)
        if ref.section_name:
            report.refuse(f"{where}.sectionName", names.section(ref.section_name))
        if ref.port is not None:
            report.refuse(f"{where}.port", check.port(ref.port))
        _distinct(report, ref, given[:number], where)


def _distinct(report: Report, ref: api.ParentReference, earlier: Sequence[api.ParentReference], path: str) -> None:
    """References to one object name the same set of fields, with different values."""
    for other in earlier:
        if (other.group, other.kind, other.name, other.namespace or "") != (
            ref.group,
            ref.kind,
            ref.name,
            ref.namespace or "",
        ):
            continue
        parts = (bool(ref.section_name), bool(ref.port)), (bool(other.section_name), bool(other.port))
        if parts[0] != parts[1]:
            report.error(path, f"{ref.kind} {ref.name} stands before with other fields: give all a sectionName or port")
        elif (ref.section_name or "", ref.port or 0) == (other.section_name or "", other.port or 0):
            report.error(path, f"{ref.kind} {ref.name} stands twice")


def _reference(report: Report, group: str, kind: str, name: str, namespace: str | None, path: str) -> None:
    report.refuse(f"{path}.group", names.group(group))
    report.refuse(f"{path}.kind", names.kind(kind))
    report.refuse(f"{path}.name", names.object_name(name))
    if namespace is not None:
        report.refuse(f"{path}.namespace", check.dns_label(namespace))


def backend(report: Report, ref: BackendObjectReference, path: str, fate: str) -> None:
    """Where requests go; ``fate`` says what becomes of those for a backend that cannot be honoured."""
    _reference(report, ref.group, ref.kind, ref.name, ref.namespace, path)
    known = (ref.group, ref.kind) in _BACKENDS
    if ref.port is not None:
        report.refuse(f"{path}.port", check.port(ref.port))
    elif (ref.group, ref.kind) == ("", "Service"):
        report.error(f"{path}.port", "a Service needs a port")
    elif known:
        report.warn(f"{path}.port", f"without a port {ref.kind} {ref.name} cannot be reached: {fate}")
    if not known:
        report.warn(f"{path}.kind", f"kind {ref.kind} of group {ref.group!r} is not supported: {fate}")
    elif ref.kind == "Service" and "." in ref.name:
        report.warn(f"{path}.name", f"{ref.name!r} is not the name of a Service: {fate}")
    elif ref.kind == "Hostname" and ref.namespace is not None:
        report.warn(f"{path}.namespace", f"a Hostname has no namespace: {fate}")


def reference_grant(report: Report, spec: api.ReferenceGrantSpec) -> None:
    """Everything about a ReferenceGrant."""
    names.limit(report, "spec.from", spec.from_, _GRANTS, 1)
    names.limit(report, "spec.to", spec.to, _GRANTS, 1)
    for number, source in enumerate(spec.from_):
        where = f"spec.from[{number}]"
        report.refuse(f"{where}.group", names.group(source.group))
        report.refuse(f"{where}.kind", names.kind(source.kind))
        report.refuse(f"{where}.namespace", check.dns_label(source.namespace))
    for number, target in enumerate(spec.to):
        where = f"spec.to[{number}]"
        report.refuse(f"{where}.group", names.group(target.group))
        report.refuse(f"{where}.kind", names.kind(target.kind))
        if target.name:
            report.refuse(f"{where}.name", names.object_name(target.name))
