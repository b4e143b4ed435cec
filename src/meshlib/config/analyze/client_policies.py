"""ClientPolicy, meshlib's own kind: hosts and subsets that exist, one policy a host, breakers that can open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meshlib.config.analyze.destinations import Place, defines, defining_rules
from meshlib.config.analyze.hosts import Registry
from meshlib.config.analyze.pitfalls import traffic_policies
from meshlib.config.analyze.world import Item, World
from meshlib.model.hosts import expand, matches
from meshlib.model.problem import Problem

__all__ = ["breakers", "budgets", "known_hosts", "rivals"]

KIND = "ClientPolicy"


def _hosts(world: World, item: Item) -> list[str]:
    return [expand(str(host), item.namespace, world.domain) for host in item.spec.get("hosts") or []]


def _subsets(item: Item) -> list[str]:
    return [str(name) for name in item.spec.get("subsets") or []]


def known_hosts(world: World) -> Iterator[Problem]:
    """Hosts that no service has, and subsets that no DestinationRule of a host defines."""
    registry, defining = Registry(world), defining_rules(world)
    for item in world.of(KIND):
        given = [str(host) for host in item.spec.get("hosts") or []]
        for number, host in enumerate(_hosts(world, item)):
            if registry.find(host, item.namespace) is None:
                yield item.report("MESH020", f"spec.hosts[{number}]", f"no service has the host {given[number]!r}")
        for number, subset in enumerate(_subsets(item)):
            path = f"spec.subsets[{number}]"
            if not any(defines(world, defining, item, Place(path, host, subset, 0)) for host in given):
                message = f"no DestinationRule of {', '.join(given) or 'its hosts'} defines subset {subset!r}"
                yield item.report("MESH021", path, message)


def rivals(world: World) -> Iterator[Problem]:
    """Two policies of a namespace for one host and subset: of each field only the older one's value applies."""
    by_host: dict[tuple[str, str], list[Item]] = {}
    for item in world.of(KIND):
        for host in set(_hosts(world, item)):
            by_host.setdefault((item.namespace, host), []).append(item)
    for item in world.of(KIND):
        rivals = [other for host in _hosts(world, item) for other in by_host[item.namespace, host]]
        others = sorted({other.full_name for other in rivals if other is not item and _meet(item, other)})
        if others:
            message = f"{', '.join(others)} is for a host of this one too: of each field only the older one's applies"
            yield item.report("MESH022", "spec.hosts", message)


def _meet(one: Item, other: Item) -> bool:
    """Of the same host: a policy for some subsets goes before one for all; the same subset twice is a conflict."""
    mine, theirs = set(_subsets(one)), set(_subsets(other))
    return mine == theirs or bool(mine & theirs)


def breakers(world: World) -> Iterator[Problem]:
    """Circuit breakers that count nothing."""
    for item in world.of(KIND):
        given = item.spec.get("circuitBreaker")
        if isinstance(given, Mapping) and not given.get("consecutiveErrors") and not given.get("errorRate"):
            message = "neither consecutiveErrors nor errorRate is set: the breaker never opens"
            yield item.report("MESH023", "spec.circuitBreaker", message)


def budgets(world: World) -> Iterator[Problem]:
    """A retry budget here and in a DestinationRule of the same host."""
    with_budget = [rule for rule in world.of("DestinationRule") if _has_budget(rule)]
    for item in world.of(KIND):
        if not isinstance(item.spec.get("retryBudget"), Mapping):
            continue
        hosts = _hosts(world, item)
        rules = [rule.full_name for rule in with_budget if _is_for(world, rule, hosts)]
        if rules:
            message = (
                f"DestinationRule {', '.join(sorted(rules))} sets a retry budget for the host too: this one applies"
            )
            yield item.report("MESH024", "spec.retryBudget", message)


def _has_budget(rule: Item) -> bool:
    return any(policy.get("retryBudget") for _, policy, _ in traffic_policies(rule))


def _is_for(world: World, rule: Item, hosts: list[str]) -> bool:
    host = expand(str(rule.spec.get("host") or ""), rule.namespace, world.domain)
    return any(matches(host, one) for one in hosts)
