"""What is in force for clients, asked of the compiler itself: rules that hide others, and settings without effect.

Checks of our own. A DestinationRule is looked up in the client's namespace, then the service's, then the root's, and
nothing is inherited, so that what one client is routed to another may not have. Source of the rules: Istio
``push_context.go`` (``destinationRule``), ``serviceentry/conversion.go``, Envoy ``outlier_detection_impl.cc``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.config.analyze.destinations import Place, defines, defining_rules, destinations
from meshlib.config.analyze.hosts import KnownHost, Registry, all_hosts, export_scope
from meshlib.config.analyze.pitfalls import traffic_policies
from meshlib.config.analyze.world import Item, World
from meshlib.config.compile.destination_rules import Rule
from meshlib.config.compile.endpoints import selects
from meshlib.config.compile.registry import age
from meshlib.config.compile.services import Resolution, Service
from meshlib.config.compile.visibility import visible
from meshlib.model.hosts import HostIndex, expand, matches, more_specific, subset_of
from meshlib.model.problem import Problem
from meshlib.model.snapshot import Client

__all__ = ["duplicate_hosts", "ejections", "hidden_rules", "subsets_in_force"]

_ANYWHERE = "(any other)"
"""Stands for the namespaces that hold no rule of their own."""
_NAMED = 5
"""So many hidden rules are named; further ones are not looked for."""


def _in_force(world: World, known: KnownHost, client: Client) -> Rule | None:
    rules = world.universe.destination_rules
    return rules.find(known.host, known.item.namespace, client, world.universe.mesh.root_namespace)


def subsets_in_force(world: World) -> Iterator[Problem]:
    """Subsets that some visible rule defines, but not the one that a client's look-up ends at."""
    registry, defining, rules = Registry(world), defining_rules(world), _Rules(world)
    for item in world.of("VirtualService"):
        if "mesh" not in (item.spec.get("gateways") or ["mesh"]):
            continue
        for place in destinations(item):
            known = registry.find(expand(place.host, item.namespace, world.domain), item.namespace)
            if place.subset and known is not None and defines(world, defining, item, place):
                yield from _without_subset(world, item, place, known, _clients(world, item, known, rules))


class _Rules:
    """The DestinationRules, by host; each host is spelled out once."""

    def __init__(self, world: World) -> None:
        self.index: HostIndex[Item] = HostIndex()
        self._hosts: dict[int, str] = {}
        for rule in world.of("DestinationRule"):
            self._hosts[id(rule)] = expand(str(rule.spec.get("host") or ""), rule.namespace, world.domain)
            self.index.add(self.host(rule), rule)

    def host(self, rule: Item) -> str:
        """The host of a rule, in full."""
        return self._hosts[id(rule)]

    def over(self, host: str) -> Iterator[Item]:
        """The rules whose host matches, the most specific first."""
        return (rule for group in self.index.all_matching(host) for rule in group)


def _clients(world: World, item: Item, known: KnownHost, rules: _Rules) -> Iterator[Client]:
    """One client for each namespace, and each selector, that can make a difference."""
    scope = export_scope(item, world.mesh, "defaultVirtualServiceExportTo")
    yield from (Client(name, {}) for name in (item.namespace, _ANYWHERE) if visible(scope, item.namespace, name))
    for rule in rules.over(known.host):
        if visible(scope, item.namespace, rule.namespace):
            yield Client(rule.namespace, (rule.spec.get("workloadSelector") or {}).get("matchLabels") or {})


def _without_subset(
    world: World, item: Item, place: Place, known: KnownHost, clients: Iterator[Client]
) -> Iterator[Problem]:
    for client in clients:
        rule = _in_force(world, known, client)
        if rule is None or place.subset not in rule.subsets:
            found = f"{rule.object.id} is in force" if rule is not None else "no DestinationRule is in force"
            message = f"for clients of namespace {client.namespace}, {found} for {place.host!r}"
            yield item.report("MESH003", f"{place.path}.subset", f"{message}: subset {place.subset!r} is not there")
            return


def hidden_rules(world: World) -> Iterator[Problem]:
    """Wildcard rules that take a host from a more specific rule elsewhere, for clients of their namespace."""
    registry, rules = Registry(world), _Rules(world)
    hidden: dict[int, list[str]] = {}
    for other in world.of("DestinationRule"):
        for wide in rules.over(rules.host(other)):
            names = hidden.setdefault(id(wide), [])
            if len(names) < _NAMED and _hides(world, registry, rules, wide, other):
                names.append(other.full_name)
    for wide in world.of("DestinationRule"):
        found = hidden.get(id(wide))
        if found:
            said = ", ".join(sorted(found)) + (", perhaps others" if len(found) == _NAMED else "")
            message = f"for clients of namespace {wide.namespace} this hides {said}; nothing is inherited from there"
            yield wide.report("MESH008", "spec.host", message)


def _hides(world: World, registry: Registry, rules: _Rules, wide: Item, other: Item) -> bool:
    host, pattern = rules.host(other), rules.host(wide)
    if wide.namespace in (other.namespace, world.root) or not pattern.startswith("*"):
        return False
    if not subset_of(host, pattern) or not more_specific(host, pattern):
        return False
    scope = export_scope(other, world.mesh, "defaultDestinationRuleExportTo")
    known = registry.find(host, wide.namespace)
    if known is None or not visible(scope, other.namespace, wide.namespace) or other.spec.get("workloadSelector"):
        return False
    if other.namespace not in (known.item.namespace, world.root):
        return False
    labels = (wide.spec.get("workloadSelector") or {}).get("matchLabels") or {}
    chosen = _in_force(world, known, Client(wide.namespace, labels))
    return chosen is not None and chosen.namespace == wide.namespace and chosen.host == pattern


def ejections(world: World) -> Iterator[Problem]:
    """Outlier detection that may not eject a single endpoint of any service that it is for."""
    rules = _Rules(world)
    for item in world.of("DestinationRule"):
        for path, policy, labels in traffic_policies(item):
            detection = policy.get("outlierDetection")
            if not isinstance(detection, Mapping):
                continue
            percent = detection.get("maxEjectionPercent") or 10
            sizes = list(_sizes(world, rules.host(item), labels))
            if sizes and all(percent * size < 100 for size in sizes):
                most = max(sizes)
                what = f"{most} endpoints" if most > 1 else "1 endpoint"
                message = f"maxEjectionPercent {percent} of {what} is less than one: none is ever ejected"
                field = "maxEjectionPercent" if "maxEjectionPercent" in detection else ""
                where = f"{path}.outlierDetection"
                yield item.report("MESH007", f"{where}.{field}" if field else where, message)


def _sizes(world: World, host: str, labels: Mapping[str, str]) -> Iterator[int]:
    """How many endpoints each service of the host has; those behind a DNS name are not counted, nor is none."""
    registry = world.universe.registry
    for service in registry.services() if host.startswith("*") else registry.named(host):
        if service.resolution is Resolution.ENDPOINTS and matches(host, service.host):
            size = max((_size(world, service, number, labels) for number in range(len(service.ports))), default=0)
            if size:
                yield size


def _size(world: World, service: Service, number: int, labels: Mapping[str, str]) -> int:
    endpoints = world.universe.registry.endpoints(service, service.ports[number])
    return sum(selects(labels, endpoint.labels) for endpoint in endpoints)


def duplicate_hosts(world: World) -> Iterator[Problem]:
    """Hosts that two objects of a namespace declare, where only the first counts."""
    first: dict[tuple[str, str], KnownHost] = {}
    for known in sorted(all_hosts(world), key=_precedence):
        winner = first.setdefault((known.item.namespace, known.host), known)
        if winner.item is not known.item and not _united(winner.item, known.item):
            path = "spec.hosts" if known.item.resource.kind == "ServiceEntry" else ""
            message = f"host {known.host!r} is declared by {winner.item.resource.id}, which counts; this one does not"
            yield known.item.report("MESH009", path, message)


def _precedence(known: KnownHost) -> tuple[bool, Any]:
    return known.item.resource.kind != "Service", age(known.item.resource)


def _united(one: Item, other: Item) -> bool:
    """Whether Istio joins the ports of two ServiceEntries."""
    if one.resource.kind != "ServiceEntry" or one.labels != other.labels:
        return False
    fields = ("resolution", "workloadSelector", "exportTo")
    return all(one.spec.get(field) == other.spec.get(field) for field in fields)
