"""Which VirtualServices may decide about a host, in Istio's order.

Source: Istio ``push_context.go`` (``initVirtualServices``), ``virtualservice.go``: private ones of the client's
namespace, then those exported to it by name, then public ones; each group by age. An exact host beats a wildcard
whatever the age; the first that has rules for this client and port owns the host, there is no merging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from meshlib.config.compile.delegates import LostRule, PlacedRule, with_delegates
from meshlib.config.compile.registry import age
from meshlib.config.compile.visibility import is_private, is_public, visible
from meshlib.config.resources.base import Resource
from meshlib.config.resources.virtual_service import VirtualServiceSpec
from meshlib.model.hosts import HostIndex, expand, matches

__all__ = ["MeshRules", "RulesSeen", "VirtualServices", "in_mesh"]


@dataclass(frozen=True, slots=True)
class MeshRules:
    """A VirtualService bound to the mesh, delegates merged in.

    Attributes:
        resource: The object.
        namespace: Where it stands.
        hosts: Its hosts in full.
        http: Its rules, each with the place that it came from.
        export_to: Who may see it.
        lost: Rules whose delegate lends them nothing.
    """

    resource: Resource[VirtualServiceSpec]
    namespace: str
    hosts: tuple[str, ...]
    http: tuple[PlacedRule, ...]
    export_to: tuple[str, ...]
    lost: tuple[LostRule, ...] = ()

    @property
    def name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.resource.metadata.name}"


def in_mesh(gateways: Sequence[str]) -> bool:
    """Whether rules with these gateways apply to clients in the mesh; none named means ``mesh``."""
    return not gateways or "mesh" in gateways


class RulesSeen:
    """The VirtualServices that clients of one namespace see, by host, in look-up order."""

    def __init__(self, in_order: Iterable[MeshRules]) -> None:
        self._index: HostIndex[MeshRules] = HostIndex()
        self._connections: HostIndex[MeshRules] = HostIndex()
        self._places: dict[int, int] = {}
        self._all = list(in_order)
        for place, rules in enumerate(self._all):
            self._places[id(rules)] = place
            for host in dict.fromkeys(rules.hosts):
                self._index.add(host, rules)
                if rules.resource.spec.tcp or rules.resource.spec.tls:
                    self._connections.add(host, rules)

    def __iter__(self) -> Iterator[MeshRules]:
        """Every one, in look-up order."""
        return iter(self._all)

    def exact(self, host: str) -> list[MeshRules]:
        """Those that name that very host."""
        return self._index.exact(host)

    def all_matching(self, host: str) -> Iterator[list[MeshRules]]:
        """Those of each pattern that matches ``host``, the most specific pattern first."""
        return self._index.all_matching(host)

    def wildcards(self, host: str) -> Iterator[tuple[str, list[MeshRules]]]:
        """Each wildcard that matches ``host`` with those that name it, the longest first."""
        return ((pattern, found) for pattern, found in self._index.patterns_over(host) if pattern.startswith("*"))

    def before(self, one: MeshRules, other: MeshRules) -> bool:
        """Whether ``one`` is looked at first."""
        return self._places[id(one)] < self._places[id(other)]

    def for_connections(self, host: str) -> list[MeshRules]:
        """Those with ``tcp`` or ``tls`` rules that have any host in common with ``host``."""
        groups: Iterable[list[MeshRules]]
        if host.startswith("*"):
            groups = (found for pattern, found in self._connections.items() if matches(pattern, host))
        else:
            groups = self._connections.all_matching(host)
        found = {id(rules): rules for group in groups for rules in group}
        return sorted(found.values(), key=lambda rules: self._places[id(rules)])


class VirtualServices:
    """All VirtualServices that apply in the mesh.

    Args:
        resources: All objects.
        namespace: For objects that name none.
        domain: DNS suffix of the cluster.
        default: The mesh's ``exportTo``.
        before: Of the same namespace, domain and default; what it made of objects that did not change is taken over.
    """

    def __init__(
        self,
        resources: Iterable[Resource[Any]],
        namespace: str,
        domain: str,
        default: Sequence[str],
        before: VirtualServices | None = None,
    ) -> None:
        objects = sorted((r for r in resources if r.kind == "VirtualService"), key=age)
        delegates = {(r.metadata.namespace or namespace, r.metadata.name): r for r in objects if not r.spec.hosts}
        self._views: dict[str, RulesSeen] = {}
        known = before._by_spec() if before is not None else {}
        self._all = [
            _same_rules(known.get(id(r.spec)), r)
            or _rules(r, namespace, domain, tuple(r.spec.export_to or default), delegates, default)
            for r in objects
            if r.spec.hosts and in_mesh(r.spec.gateways)
        ]
        self.gateway_only = tuple(r for r in objects if r.spec.hosts and not in_mesh(r.spec.gateways))

    def _by_spec(self) -> dict[int, MeshRules]:
        """By the identity of the message, which outlives a move in the file."""
        return {id(rules.resource.spec): rules for rules in self._all}

    def __iter__(self) -> Iterator[MeshRules]:
        """Every one, by age."""
        return iter(self._all)

    def seen_from(self, namespace: str) -> RulesSeen:
        """What clients of ``namespace`` see, in look-up order."""
        if namespace not in self._views:
            self._views[namespace] = RulesSeen(self._in_order(namespace))
        return self._views[namespace]

    def _in_order(self, namespace: str) -> Iterator[MeshRules]:
        seen = [r for r in self._all if visible(r.export_to, r.namespace, namespace)]
        private = [r for r in seen if r.namespace == namespace and is_private(r.export_to, namespace)]
        public = [r for r in seen if is_public(r.export_to)]
        chosen = {id(r) for r in (*private, *public)}
        yield from private
        yield from (r for r in seen if id(r) not in chosen)
        yield from public


def _same_rules(before: MeshRules | None, resource: Resource[VirtualServiceSpec]) -> MeshRules | None:
    """What was made of the object before; None when it, or what it delegates to, may have changed."""
    if before is None or before.resource.spec is not resource.spec or before.resource.metadata is not resource.metadata:
        return None
    return None if before.lost or any(rule.delegate for rule in before.http) else before


def _rules(
    resource: Resource[VirtualServiceSpec],
    default_namespace: str,
    domain: str,
    export_to: tuple[str, ...],
    delegates: dict[tuple[str, str], Resource[VirtualServiceSpec]],
    default_export: Sequence[str],
) -> MeshRules:
    namespace = resource.metadata.namespace or default_namespace
    hosts = tuple(expand(host, namespace, domain) for host in resource.spec.hosts)
    found = list(with_delegates(resource, namespace, delegates, default_export))
    http = tuple(rule for rule in found if isinstance(rule, PlacedRule))
    lost = tuple(rule for rule in found if isinstance(rule, LostRule))
    return MeshRules(resource, namespace, hosts, http, export_to, lost)
