"""Which objects a control plane would look at: by revision, by namespace, and how far ServiceEntries reach.

Source: Istio ``pkg/config/model.go`` (``LabelsInRevision``), ``pkg/kube/namespace/filter.go``; MeshConfig
``discoverySelectors``, ``serviceEntryVisibility``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshlib.config.resources.base import ObjectMeta, Resource
from meshlib.config.resources.mesh_config import MeshConfig, ServiceEntryVisibility, Visibility
from meshlib.config.resources.selectors import LabelSelector, LabelSelectorRequirement, SelectorOperator

__all__ = ["Discovery", "capped_export", "selected"]

_REVISION = "istio.io/rev"
_NAME = "kubernetes.io/metadata.name"
_CLUSTER_WIDE = frozenset({"Namespace", "Node"})


class Discovery:
    """Which objects count.

    Args:
        resources: All of them, for the labels of Namespaces.
        mesh: For ``discoverySelectors``: namespaces that none of them selects are invisible.
        namespace: For objects that name none.
        revision: Objects labelled with another ``istio.io/rev`` are left out; ``""`` takes all.
    """

    def __init__(
        self, resources: Sequence[Resource[Any]], mesh: MeshConfig, namespace: str, revision: str = ""
    ) -> None:
        self._selectors = mesh.discovery_selectors
        self._namespace = namespace
        self._revision = revision
        self._seen: dict[str, bool] = {}
        self._spaces: dict[str, ObjectMeta] = {}
        if self._selectors:
            known = (each for each in resources if each.kind == "Namespace" and _of_revision(each, revision))
            self._spaces = {each.metadata.name: each.metadata for each in known if not isinstance(each.spec, dict)}

    def covers(self, resource: Resource[Any]) -> bool:
        """Whether the object counts; one of a kind that is not modelled does not."""
        if isinstance(resource.spec, dict) or not _of_revision(resource, self._revision):
            return False
        if not self._selectors or resource.kind in _CLUSTER_WIDE:
            return True
        return self._visible(resource.metadata.namespace or self._namespace)

    def _visible(self, space: str) -> bool:
        if space not in self._seen:
            labels = _labels(self._spaces.get(space) or ObjectMeta(name=space))
            self._seen[space] = any(selected(selector, labels) for selector in self._selectors)
        return self._seen[space]


def _of_revision(resource: Resource[Any], revision: str) -> bool:
    return not revision or resource.metadata.labels.get(_REVISION, revision) == revision


def _labels(space: ObjectMeta) -> Mapping[str, str]:
    """A namespace's labels, with the one that Kubernetes always sets."""
    return {_NAME: space.name, **space.labels}


def selected(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether all of a Kubernetes selector holds; an empty one always does."""
    equal = all(labels.get(key) == value for key, value in selector.match_labels.items())
    return equal and all(_holds(each, labels) for each in selector.match_expressions)


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case SelectorOperator.EXISTS:
            return value is not None
        case SelectorOperator.DOES_NOT_EXIST:
            return value is None
        case SelectorOperator.IN:
            return value in requirement.values
        case _:
            return value not in requirement.values


def capped_export(export_to: Sequence[str], bound: ServiceEntryVisibility, space: ObjectMeta) -> tuple[str, ...]:
    """``exportTo`` of a ServiceEntry in namespace ``space``, no wider than the mesh allows.

    The first policy with a rule for the namespace decides, else the default; a bound that says nothing is none.
    """
    labels = _labels(space)
    rules = ((policy, rule.namespace_selector) for policy in bound.policies for rule in policy.matching_rules)
    chosen = (policy.visibility for policy, selector in rules if selector is not None and selected(selector, labels))
    visibility = next(chosen, bound.default_visibility)
    if visibility is Visibility.NONE:
        return ("~",)
    if visibility is Visibility.NAMESPACE:
        at_home = any(name in ("*", ".", space.name) for name in export_to)
        return (".",) if at_home else ("~",)
    return tuple(export_to)
