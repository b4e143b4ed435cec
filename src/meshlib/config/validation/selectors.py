"""Validation of what says which workloads or objects are meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from meshlib.config.resources.selectors import LabelsSelector, PolicyTargetReference, WorkloadSelector
from meshlib.config.validation import primitives as check
from meshlib.config.validation.report import Report

__all__ = ["labels", "labels_selector", "policy_target", "workload_selector"]

_TARGETS = frozenset(
    {
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)


def labels(report: Report, given: Mapping[str, str], path: str) -> None:
    """Labels that something carries."""
    for key, value in given.items():
        report.refuse(f"{path}.{key}", check.label_pair(key, value))


def workload_selector(report: Report, selector: WorkloadSelector | None, path: str) -> None:
    """``matchLabels`` of security and telemetry kinds."""
    if selector is not None:
        _pairs(report, selector.match_labels, path, f"{path}.matchLabels")


def labels_selector(report: Report, selector: LabelsSelector | None, path: str) -> None:
    """``labels`` of networking kinds."""
    if selector is not None:
        _pairs(report, selector.labels, path, f"{path}.labels")


def _pairs(report: Report, given: Mapping[str, str], path: str, below: str) -> None:
    if not given:
        report.warn(path, "a selector without labels means every workload of the namespace")
    for key, value in given.items():
        if not key:
            report.error(below, "a label key is empty")
        elif "*" in key or "*" in value:
            report.error(f"{below}.{key}", "a selector takes no wildcards")


class _Attached(Protocol):
    """A policy that is for workloads, or attached to objects."""

    @property
    def selector(self) -> WorkloadSelector | None: ...
    @property
    def target_ref(self) -> PolicyTargetReference | None: ...
    @property
    def target_refs(self) -> Sequence[PolicyTargetReference]: ...


def policy_target(report: Report, spec: _Attached) -> None:
    """A selector, or references to objects that can carry a policy."""
    workload_selector(report, spec.selector, "spec.selector")
    if spec.target_ref is not None:
        _reference(report, spec.target_ref, "spec.targetRef")
    for number, reference in enumerate(spec.target_refs):
        _reference(report, reference, f"spec.targetRefs[{number}]")


def _reference(report: Report, reference: PolicyTargetReference, path: str) -> None:
    if reference.namespace:
        report.error(f"{path}.namespace", "a policy can only be attached within its own namespace")
    if (reference.group, reference.kind) not in _TARGETS:
        name = "/".join(filter(None, (reference.group, reference.kind)))
        report.error(path, f"{name} cannot carry a policy: Service, ServiceEntry, Gateway and GatewayClass can")
