"""Which AuthorizationPolicies and RequestAuthentications are for a workload.

Source: Istio ``pilot/pkg/model/authorization.go``, ``model/authentication.go``: those of the root namespace and of the
workload's own, the older first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from meshlib.config.compile.attachment import Workload, attaches
from meshlib.config.compile.registry import age
from meshlib.config.resources.base import Resource
from meshlib.config.resources.security import (
    AuthorizationAction,
    AuthorizationPolicySpec,
    RequestAuthenticationSpec,
)

__all__ = ["AppliedPolicies", "SecurityPolicies", "is_tried_without_effect"]

AuthorizationPolicy = Resource[AuthorizationPolicySpec]
RequestAuthentication = Resource[RequestAuthenticationSpec]
_DRY_RUN = "istio.io/dry-run"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


def is_tried_without_effect(policy: AuthorizationPolicy) -> bool:
    """Whether a policy is only to be evaluated and logged."""
    return policy.metadata.annotations.get(_DRY_RUN) in _TRUE


@dataclass(frozen=True, slots=True)
class AppliedPolicies:
    """The AuthorizationPolicies of a workload by what they do, in the order in which they are asked."""

    custom: tuple[AuthorizationPolicy, ...] = ()
    deny: tuple[AuthorizationPolicy, ...] = ()
    allow: tuple[AuthorizationPolicy, ...] = ()
    audit: tuple[AuthorizationPolicy, ...] = ()


class SecurityPolicies:
    """All policies, by namespace.

    Args:
        resources: Objects of any kinds.
        namespace: For objects that name none.
        root: The root namespace, whose policies are for the whole mesh.
    """

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, root: str) -> None:
        self._root = root
        self._found: dict[tuple[str, str], list[Resource[Any]]] = {}
        for resource in sorted(resources, key=age):
            if resource.kind in ("AuthorizationPolicy", "RequestAuthentication"):
                own = resource.metadata.namespace or namespace
                self._found.setdefault((resource.kind, own), []).append(resource)

    def authorization(self, workload: Workload) -> AppliedPolicies:
        """The AuthorizationPolicies of a workload."""
        by_action: dict[AuthorizationAction, list[AuthorizationPolicy]] = {action: [] for action in AuthorizationAction}
        for policy in self._of("AuthorizationPolicy", workload):
            by_action[policy.spec.action].append(policy)
        return AppliedPolicies(
            custom=tuple(by_action[AuthorizationAction.CUSTOM]),
            deny=tuple(by_action[AuthorizationAction.DENY]),
            allow=tuple(by_action[AuthorizationAction.ALLOW]),
            audit=tuple(by_action[AuthorizationAction.AUDIT]),
        )

    def request_authentications(self, workload: Workload) -> tuple[RequestAuthentication, ...]:
        """The RequestAuthentications of a workload; all their rules count together."""
        return tuple(self._of("RequestAuthentication", workload))

    def _of(self, kind: str, workload: Workload) -> Iterable[Resource[Any]]:
        namespaces = (self._root, workload.namespace, *(service.namespace for service in workload.services))
        for namespace in dict.fromkeys(namespaces):
            for policy in self._found.get((kind, namespace), ()):
                if attaches(policy.spec, namespace, workload, self._root):
                    yield policy
