"""Whether a policy is for a workload: by its selector, or by the object that it is attached to.

Source: Istio ``pilot/pkg/model/policyattachment.go``. Ordinary workloads go by selectors, and policies with a
``targetRef`` are never for them; gateways of the Gateway API, waypoints among them, go by ``targetRef``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from meshlib.config.compile.endpoints import selects
from meshlib.config.resources.selectors import PolicyTargetReference, WorkloadSelector

__all__ = ["AttachedService", "Policy", "Workload", "attaches", "is_general", "target_references"]

_GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
_GATEWAYS = "gateway.networking.k8s.io"
_WAYPOINT_CLASS = "istio-waypoint"
_GROUPS = {"Service": ("", "core"), "ServiceEntry": ("networking.istio.io",)}


@dataclass(frozen=True, slots=True)
class AttachedService:
    """A service that a waypoint stands in front of; ``kind`` is ``Service`` or ``ServiceEntry``."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Workload:
    """Whom a policy may be for.

    Attributes:
        namespace: Where it runs.
        labels: Of the workload.
        waypoint: Whether it is a waypoint.
        services: What a waypoint stands in front of.
    """

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    waypoint: bool = False
    services: tuple[AttachedService, ...] = ()


class Policy(Protocol):
    """A message with a selector and references."""

    @property
    def selector(self) -> WorkloadSelector | None: ...
    @property
    def target_ref(self) -> PolicyTargetReference | None: ...
    @property
    def target_refs(self) -> Sequence[PolicyTargetReference]: ...


def target_references(policy: Policy) -> Sequence[PolicyTargetReference]:
    """The objects that a policy is attached to, the older single field included."""
    if policy.target_refs or policy.target_ref is None:
        return policy.target_refs
    return (policy.target_ref,)


def is_general(policy: Policy) -> bool:
    """Whether a policy is for its whole namespace: neither labels nor references."""
    return not (policy.selector and policy.selector.match_labels) and not target_references(policy)


def attaches(
    policy: Policy, namespace: str, workload: Workload, root: str, *, selectors_for_gateways: bool = True
) -> bool:
    """Whether a policy of ``namespace`` is for the workload.

    The namespaces themselves are not compared for selectors: look in the workload's and the root's.

    Args:
        policy: The policy's spec.
        namespace: The policy's namespace.
        workload: Whom it may be for.
        root: The root namespace.
        selectors_for_gateways: Istio's ``ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY``.
    """
    references = target_references(policy)
    if _GATEWAY_NAME not in workload.labels:
        return not references and _selected(policy, workload)
    if not references:
        return selectors_for_gateways and not workload.waypoint and _selected(policy, workload)
    return any(_refers(reference, namespace, workload, root) for reference in references)


def _selected(policy: Policy, workload: Workload) -> bool:
    return policy.selector is None or selects(policy.selector.match_labels, workload.labels)


def _refers(reference: PolicyTargetReference, namespace: str, workload: Workload, root: str) -> bool:
    if workload.waypoint and _fronts(reference, namespace, workload):
        return True
    of_gateways = reference.group == _GATEWAYS
    if workload.waypoint and of_gateways and reference.kind == "GatewayClass" and reference.name == _WAYPOINT_CLASS:
        return namespace == root
    here = namespace == workload.namespace and reference.namespace in ("", workload.namespace)
    named = reference.name == workload.labels[_GATEWAY_NAME]
    return here and named and of_gateways and reference.kind == "Gateway"


def _fronts(reference: PolicyTargetReference, namespace: str, workload: Workload) -> bool:
    if reference.group not in _GROUPS.get(reference.kind, ()):
        return False
    return AttachedService(reference.kind, namespace, reference.name) in workload.services
