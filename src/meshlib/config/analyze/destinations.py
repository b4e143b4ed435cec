"""Where VirtualServices send requests: hosts, ports and subsets that must exist.

Source: Istio ``analyzers/virtualservice/destinationhosts.go``, ``destinationrules.go``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from meshlib.config.analyze.hosts import Registry, export_scope, names_of
from meshlib.config.analyze.world import Item, World
from meshlib.config.compile.visibility import visible
from meshlib.model.hosts import HostIndex, expand
from meshlib.model.problem import Problem

__all__ = [
    "Place",
    "defines",
    "defining_rules",
    "destination_hosts",
    "destination_subsets",
    "destinations",
    "hidden_subsets",
]


class Place(NamedTuple):
    """A destination, and the path of its field."""

    path: str
    host: str
    subset: str
    port: int


def destinations(item: Item) -> Iterator[Place]:
    """Every destination of a VirtualService: routes, then mirrors, of each rule."""
    for part in ("http", "tls", "tcp"):
        for number, rule in enumerate(item.spec.get(part) or []):
            path = f"spec.{part}[{number}]"
            for index, route in enumerate(rule.get("route") or []):
                yield from _place(f"{path}.route[{index}].destination", route.get("destination"))
            yield from _place(f"{path}.mirror", rule.get("mirror"))
            for index, mirror in enumerate(rule.get("mirrors") or []):
                yield from _place(f"{path}.mirrors[{index}].destination", mirror.get("destination"))


def _place(path: str, given: Any) -> Iterator[Place]:
    if isinstance(given, Mapping) and given.get("host"):
        port = (given.get("port") or {}).get("number") or 0
        yield Place(path, str(given["host"]).lower(), str(given.get("subset") or ""), port)


def destination_hosts(world: World) -> Iterator[Problem]:
    """Hosts and ports that do not exist; ports left out where the host has several."""
    registry = Registry(world)
    for item in world.of("VirtualService"):
        for place in destinations(item):
            known = registry.find(expand(place.host, item.namespace, world.domain), item.namespace)
            if known is None:
                yield item.missing("host", place.host, f"{place.path}.host")
            elif place.port and place.port not in known.ports:
                has = f"; it has {_listed(known.ports)}"
                path = f"{place.path}.port.number"
                yield item.report("IST0101", path, f"host {place.host!r} has no port {place.port}{has}")
            elif not place.port and len(known.ports) > 1:
                message = f"host {place.host!r} has the ports {_listed(known.ports)}: name one of them"
                yield item.report("IST0112", place.path, message)


def _listed(ports: tuple[int, ...]) -> str:
    return ", ".join(map(str, ports)) or "no port"


def destination_subsets(world: World) -> Iterator[Problem]:
    """Subsets that no visible DestinationRule of the host defines."""
    rules = defining_rules(world)
    for item in world.of("VirtualService"):
        for place in destinations(item):
            if place.subset and not defines(world, rules, item, place):
                message = f"no DestinationRule that {item.namespace} sees defines subset {place.subset!r}"
                yield item.report("IST0101", f"{place.path}.subset", f"{message} of host {place.host!r}")


def defining_rules(world: World) -> HostIndex[Item]:
    """The DestinationRules with subsets, by host."""
    rules: HostIndex[Item] = HostIndex()
    for rule in world.of("DestinationRule"):
        for host in names_of(world, rule.spec.get("host") or "", rule.namespace) if rule.spec.get("subsets") else ():
            rules.add(host, rule)
    return rules


def defines(world: World, rules: HostIndex[Item], item: Item, place: Place) -> bool:
    """Whether a rule that the namespace of ``item`` sees defines the subset of ``place``."""
    for host in names_of(world, place.host, item.namespace):
        for rule in (rule for group in rules.all_matching(host) for rule in group):
            scope = export_scope(rule, world.mesh, "defaultDestinationRuleExportTo")
            named = any(subset.get("name") == place.subset for subset in rule.spec["subsets"])
            if named and visible(scope, rule.namespace, item.namespace):
                return True
    return False


def hidden_subsets(world: World) -> Iterator[Problem]:
    """Gateway routes to a host without subset, though the mesh's own VirtualService of that host picks subsets.

    A gateway takes the destination as it stands: rules of another VirtualService do not apply to it.
    """
    split = _hosts_with_subsets(world)
    for item in world.of("VirtualService"):
        gateways = [name for name in item.spec.get("gateways") or [] if name != "mesh"]
        seen: set[str] = set()
        for place in destinations(item) if gateways else ():
            host = expand(place.host, item.namespace, world.domain)
            other = split.get(host)
            if place.subset or other is None or other is item or host in seen:
                continue
            seen.add(host)
            message = f"the subsets that {other.full_name} picks for {place.host!r} have no effect on {gateways[0]}"
            yield item.report("IST0140", f"{place.path}.host", message)


def _hosts_with_subsets(world: World) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for item in world.of("VirtualService"):
        gateways = item.spec.get("gateways") or ["mesh"]
        hosts = {expand(host, item.namespace, world.domain) for host in item.spec.get("hosts") or []}
        for place in destinations(item) if "mesh" in gateways else ():
            host = expand(place.host, item.namespace, world.domain)
            if place.subset and host in hosts:
                found.setdefault(host, item)
    return found
