"""Which DestinationRule is in force for a service, as a client sees it.

Source: Istio ``push_context.go`` (``destinationRule``), ``destination_rule.go`` (``mergeDestinationRule``): the
client's namespace, the service's, the root's; in each the most specific host; no inheritance between the three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.registry import age
from meshlib.config.compile.visibility import is_private, visible
from meshlib.config.resources.base import Resource
from meshlib.config.resources.destination_rule import DestinationRuleSpec, Subset, TrafficPolicy
from meshlib.model.hosts import HostIndex, expand
from meshlib.model.snapshot import Client

__all__ = ["DestinationRules", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One DestinationRule, or several of one namespace, host and visibility merged into the oldest.

    Attributes:
        object: The oldest object.
        host: Full host or wildcard.
        policy: The first trafficPolicy that is set, as a whole, and the object that it came from.
        subsets: All of them with the object and index that each came from; of equal names the first.
        export_to: Who may see it.
        selector: Labels of the client workloads that it is for; None is all.
    """

    object: Resource[DestinationRuleSpec]
    host: str
    namespace: str
    policy: tuple[TrafficPolicy, str] | None
    subsets: dict[str, tuple[Subset, str]]
    export_to: tuple[str, ...]
    selector: dict[str, str] | None


class DestinationRules:
    """All DestinationRules, by namespace and host."""

    def __init__(self, resources: Iterable[Resource[Any]], namespace: str, domain: str, default: Sequence[str]) -> None:
        self._by_namespace: defaultdict[str, HostIndex[Rule]] = defaultdict(HostIndex)
        rules = [r for r in resources if r.kind == "DestinationRule"]
        rules.sort(key=lambda r: (r.spec.workload_selector is None, age(r)))
        for resource in rules:
            own = resource.metadata.namespace or namespace
            selector = resource.spec.workload_selector
            labels = selector.match_labels if selector is not None else None
            private = labels is not None or (not resource.spec.export_to and "." in default)
            export = (".",) if private else tuple(resource.spec.export_to) or ("*",)
            self._add(_rule(resource, own, domain, export, labels))

    def _add(self, rule: Rule) -> None:
        known = self._by_namespace[rule.namespace].exact(rule.host)
        for number, other in enumerate(known):
            if set(other.export_to) == set(rule.export_to) and other.selector == rule.selector:
                known[number] = _merged(other, rule)
                return
        self._by_namespace[rule.namespace].add(rule.host, rule)

    def find(self, service_host: str, service_namespace: str, client: Client, root: str) -> Rule | None:
        """The rule in force for a service, None when there is none.

        The first namespace with a visible rule decides, also where none of its rules is for this client's workload.
        """
        own = client.namespace
        kept = [r for r in self._in(own, service_host) if _usable_at_home(r, own, own == root)]
        if kept:
            return _choose(kept, client)
        for namespace in dict.fromkeys((service_namespace, root)):
            kept = [r for r in self._in(namespace, service_host) if visible(r.export_to, namespace, own)]
            kept = [r for r in kept if r.selector is None]
            if kept:
                return _choose(kept, client)
        return None

    def _in(self, namespace: str, host: str) -> list[Rule]:
        """The rules of one namespace for its most specific host."""
        index = self._by_namespace.get(namespace)
        return index.best(host) if index is not None and namespace else []


def _usable_at_home(rule: Rule, namespace: str, private_only: bool) -> bool:
    if private_only and not is_private(rule.export_to, namespace):
        return False
    return visible(rule.export_to, namespace, namespace)


def _choose(rules: list[Rule], client: Client) -> Rule | None:
    """The first whose selector fits the client, else the last without a selector."""
    for rule in rules:
        if rule.selector is not None and selects(rule.selector, client.labels):
            return rule
    return next((rule for rule in reversed(rules) if rule.selector is None), None)


def _rule(
    resource: Resource[DestinationRuleSpec],
    namespace: str,
    domain: str,
    export: tuple[str, ...],
    labels: dict[str, str] | None,
) -> Rule:
    spec = resource.spec
    place = f"DestinationRule {namespace}/{resource.metadata.name} spec"
    subsets: dict[str, tuple[Subset, str]] = {}
    for number, subset in enumerate(spec.subsets):
        subsets.setdefault(subset.name, (subset, f"{place}.subsets[{number}]"))
    policy = None if spec.traffic_policy is None else (spec.traffic_policy, f"{place}.trafficPolicy")
    return Rule(resource, expand(spec.host, namespace, domain), namespace, policy, subsets, export, labels)


def _merged(older: Rule, newer: Rule) -> Rule:
    return Rule(
        older.object,
        older.host,
        older.namespace,
        older.policy or newer.policy,
        {**newer.subsets, **older.subsets},
        older.export_to,
        older.selector,
    )
