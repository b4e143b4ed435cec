"""Whose rules may decide about a host, in Istio's order.

Source: Istio ``push_context.go`` (``initVirtualServices``), ``virtualservice.go``: what is private to the client's
namespace, then what is exported to it by name, then what is public; within each group routes of the Gateway API from
the client's namespace, then by age. An exact host beats a wildcard whatever the age; the first that has rules for this
client and port owns the host, there is no merging.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from meshlib.config.compile.virtual_services import MeshRules
from meshlib.config.compile.visibility import is_private, is_public, visible
from meshlib.model.hosts import HostIndex, matches

if TYPE_CHECKING:
    from meshlib.config.compile.actions import Actions
    from meshlib.config.compile.services import Service
    from meshlib.config.compile.sidecar import Listener
    from meshlib.model.route import Route, SkippedRule
    from meshlib.model.snapshot import Client

__all__ = ["HostRules", "RuleIndex", "RulesSeen"]


class HostRules(Protocol):
    """The rules of one object, or of several objects that count as one."""

    @property
    def namespace(self) -> str:
        """Where the object stands."""
        ...

    @property
    def hosts(self) -> tuple[str, ...]:
        """Its hosts in full; wildcards allowed."""
        ...

    @property
    def export_to(self) -> tuple[str, ...]:
        """Who may see it."""
        ...

    @property
    def age(self) -> tuple[float, str, str]:
        """Creation time, name, namespace: the order wherever the first wins."""
        ...

    @property
    def port(self) -> int:
        """The only port that they are for, 0 where each rule says so itself."""
        ...

    @property
    def gateway_api(self) -> bool:
        """Whether it came from the Gateway API."""
        ...

    @property
    def virtual_service(self) -> str | None:
        """``namespace/name`` of the VirtualService, None for other kinds."""
        ...

    @property
    def objects(self) -> tuple[str, ...]:
        """What it came from, in the words of ``explain``."""
        ...

    def serves(self, owner: Service | None, namespace: str) -> bool:
        """Whether clients of ``namespace`` find it at a host that ``owner`` holds; None for an unregistered host."""
        ...

    def imported(self, listener: Listener) -> bool:
        """Whether a client's egress listener lets it in."""
        ...

    def routes(self, client: Client, port: int, actions: Actions) -> tuple[tuple[Route, ...], tuple[SkippedRule, ...]]:
        """The routes that this client may take on ``port``, and what was left out with the reason."""
        ...


class RulesSeen:
    """The rules that clients of one namespace see, by host, in look-up order."""

    def __init__(self, in_order: Iterable[HostRules]) -> None:
        self._index: HostIndex[HostRules] = HostIndex()
        self._connections: HostIndex[MeshRules] = HostIndex()
        self._places: dict[int, int] = {}
        self._all = list(in_order)
        for place, rules in enumerate(self._all):
            self._places[id(rules)] = place
            for host in dict.fromkeys(rules.hosts):
                self._index.add(host, rules)
                if isinstance(rules, MeshRules) and (rules.resource.spec.tcp or rules.resource.spec.tls):
                    self._connections.add(host, rules)

    def __iter__(self) -> Iterator[HostRules]:
        """Every one, in look-up order."""
        return iter(self._all)

    def exact(self, host: str) -> list[HostRules]:
        """Those that name that very host."""
        return self._index.exact(host)

    def all_matching(self, host: str) -> Iterator[list[HostRules]]:
        """Those of each pattern that matches ``host``, the most specific pattern first."""
        return self._index.all_matching(host)

    def wildcards(self, host: str) -> Iterator[tuple[str, list[HostRules]]]:
        """Each wildcard that matches ``host`` with those that name it, the longest first."""
        return ((pattern, found) for pattern, found in self._index.patterns_over(host) if pattern.startswith("*"))

    def before(self, one: HostRules, other: HostRules) -> bool:
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


class RuleIndex:
    """All rules that apply in the mesh, as the clients of a namespace see them."""

    def __init__(self, rules: Iterable[HostRules]) -> None:
        self._all = sorted(rules, key=lambda each: each.age)
        self._views: dict[str, RulesSeen] = {}

    def __iter__(self) -> Iterator[HostRules]:
        """Every one, by age."""
        return iter(self._all)

    def seen_from(self, namespace: str) -> RulesSeen:
        """What clients of ``namespace`` see, in look-up order."""
        if namespace not in self._views:
            self._views[namespace] = RulesSeen(self._in_order(namespace))
        return self._views[namespace]

    def _in_order(self, namespace: str) -> Iterator[HostRules]:
        seen = [r for r in self._all if visible(r.export_to, r.namespace, namespace)]
        private = [r for r in seen if r.namespace == namespace and is_private(r.export_to, namespace)]
        public = [r for r in seen if is_public(r.export_to)]
        chosen = {id(r) for r in (*private, *public)}
        for group in (private, [r for r in seen if id(r) not in chosen], public):
            yield from _own_gateway_routes_first(group, namespace)


def _own_gateway_routes_first(group: Sequence[HostRules], namespace: str) -> list[HostRules]:
    return sorted(group, key=lambda each: not (each.gateway_api and each.namespace == namespace))
