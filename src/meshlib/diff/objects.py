"""What was compiled, compared: hosts with their rules, clusters with their policies, endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from meshlib.diff.result import Change, Diff, Kind, ObjectChange
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Assignment
from meshlib.model.informed import BUILT_IN
from meshlib.model.route import DirectResponse, Forward, HeaderOps, Redirect, Route, WeightedCluster
from meshlib.model.snapshot import Snapshot
from meshlib.model.tcp import TcpRoute
from meshlib.model.words import match_words, plain

__all__ = ["diff_objects"]

Values = dict[str, Any]


Rule = tuple[str, Values, dict[str, str]]
"""Condition, effect, and where the values stand."""


class _Host(NamedTuple):
    """One host on one port, for HTTP or for connections that are not.

    Attributes:
        rules: In order.
        actions: What they do.
        owner: The VirtualService in force, None when none is.
    """

    rules: list[Rule]
    actions: list[Forward]
    owner: str | None


def diff_objects(old: Snapshot, new: Snapshot) -> Diff:
    """Every host, cluster and set of endpoints that differs."""
    before, after = _hosts(old), _hosts(new)
    found = [change for key in _keys(before, after) if (change := _host(key, before.get(key), after.get(key)))]
    names = _keys(_clusters(before.values()), _clusters(after.values()))
    found.extend(change for name in names if (change := _cluster(name, old, new)))
    found.extend(change for name in names if (change := _endpoints(name, old.assignment(name), new.assignment(name))))
    return Diff(objects=tuple(found))


def _hosts(snapshot: Snapshot) -> dict[str, _Host]:
    found: dict[str, _Host] = {}
    for name, port in snapshot.source.listing():
        host = snapshot.virtual_host(name, port)
        ways = snapshot.tcp_host(name, port) if host is None else None
        if host is not None:
            rules, owner = [_rule(route) for route in host.routes], host.virtual_service
            found[f"{name}:{port}"] = _Host(rules, _forwards(host.routes), owner)
        elif ways is not None:
            owners = [way.virtual_service for way in ways.routes if way.virtual_service is not None]
            routes = [way.route for way in ways.routes]
            owner = owners[0] if owners else None
            found[f"{name}:{port}"] = _Host([_way(way) for way in ways.routes], _forwards(routes), owner)
    return found


def _forwards(routes: Iterable[Route]) -> list[Forward]:
    return [route.action for route in routes if isinstance(route.action, Forward)]


def _clusters(hosts: Iterable[_Host]) -> dict[str, None]:
    """Every cluster that a rule leads to, copies included."""
    forwards = [action for host in hosts for action in host.actions]
    found = {weighted.cluster: None for action in forwards for weighted in action.clusters}
    found.update({mirror.cluster: None for action in forwards for mirror in action.mirrors})
    return found


def _keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted({*old, *new})


def _kind(old: object, new: object) -> Kind:
    return Kind.ADDED if old is None else Kind.REMOVED if new is None else Kind.CHANGED


# Hosts --------------------------------------------------------------------------------------------------------------


def _host(name: str, old: _Host | None, new: _Host | None) -> ObjectChange | None:
    rules = tuple(_rules(old.rules if old is not None else [], new.rules if new is not None else []))
    if not rules and (old is None) is (new is None):
        return None
    was, now = old.owner if old is not None else None, new.owner if new is not None else None
    owner = (Change("virtual_service", was, now),) if was != now else ()
    return ObjectChange("host", name, _kind(old, new), owner, rules)


def _rule(route: Route) -> Rule:
    name = f"{route.name}: " if route.name and route.origin.rule >= 0 else ""
    return name + match_words(route.match), _action(route), dict(route.origin.values)


def _way(way: TcpRoute) -> Rule:
    """A way for connections: server names and ranges, clusters, and how long a connection lasts."""
    words = [f"server name {', '.join(way.match.sni_hosts)}"] if way.match.sni_hosts else []
    words += [f"address in {', '.join(way.match.subnets)}"] if way.match.subnets else []
    effect = {**_action(way.route), "idle timeout": way.idle_timeout, "max duration": way.max_duration}
    return f"connections: {'; '.join(words) or '*'}", effect, dict(way.route.origin.values)


def _action(route: Route) -> Values:
    action = route.action
    common: Values = {"fault": plain(asdict(route.fault)) if route.fault is not None else None}
    common |= {"request headers": _ops(route.request_headers), "response headers": _ops(route.response_headers)}
    if isinstance(action, Redirect):
        return {
            "redirect": {key: value for key, value in asdict(action).items() if value not in (None, False)},
            **common,
        }
    if isinstance(action, DirectResponse):
        return {"answer": {"status": action.status, "body": action.body.decode("utf-8", "replace")}, **common}
    total = sum(weighted.weight for weighted in action.clusters)
    return {
        "to": [f"{100 * each.weight / total:.4g}% {each.cluster}" for each in action.clusters],
        "timeout": action.timeout,
        "retries": plain(asdict(action.retry)) if action.retry is not None else None,
        "rewrite": _rewrite(action),
        "mirrors": [f"{each.parts_per_million / 10_000:g}% {each.cluster}" for each in action.mirrors],
        "hash keys": plain([asdict(key) for key in action.hash_keys]),
        **common,
        "destination headers": {each.cluster: own for each in action.clusters if (own := _own_headers(each))},
    }


def _own_headers(weighted: WeightedCluster) -> Values:
    found = {
        "request": _ops(weighted.request_headers),
        "response": _ops(weighted.response_headers),
        "authority": weighted.host_rewrite,
    }
    return {name: value for name, value in found.items() if value}


def _rewrite(action: Forward) -> Values:
    regex = action.regex_rewrite
    found = {
        "path": action.path_rewrite,
        "authority": action.host_rewrite,
        "regex": None if regex is None else f"{regex.pattern} -> {regex.substitution}",
    }
    return {name: value for name, value in found.items() if value is not None}


def _ops(ops: HeaderOps) -> Values:
    return {key: plain(value) for key, value in asdict(ops).items() if value}


def _rules(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[ObjectChange]:
    """Rules with the same condition are one rule; the order counts, since the first that matches decides."""
    matcher = SequenceMatcher(None, [rule[0] for rule in old], [rule[0] for rule in new], autojunk=False)
    gone: list[Rule] = []
    fresh: list[Rule] = []
    for tag, start, end, begin, stop in matcher.get_opcodes():
        if tag == "equal":
            pairs = zip(old[start:end], new[begin:stop], strict=True)
            yield from (change for pair in pairs if (change := _changed(*pair, Kind.CHANGED)))
        else:
            gone.extend(old[start:end])
            fresh.extend(new[begin:stop])
    for rule in gone:
        twin = next((other for other in fresh if other[0] == rule[0]), None)
        if twin is None:
            yield ObjectChange("rule", rule[0], Kind.REMOVED, tuple(_values(_set(rule), {}, {})))
        else:
            fresh.remove(twin)
            yield _changed(rule, twin, Kind.MOVED) or ObjectChange("rule", rule[0], Kind.MOVED)
    for rule in fresh:
        yield ObjectChange("rule", rule[0], Kind.ADDED, tuple(_values({}, _set(rule), rule[2])))


def _set(rule: Rule) -> Values:
    """What a rule says itself: Istio's own values are no news when it comes or goes."""
    return {name: value for name, value in rule[1].items() if rule[2].get(name) != BUILT_IN}


def _changed(old: Rule, new: Rule, kind: Kind) -> ObjectChange | None:
    changes = tuple(_values(old[1], new[1], new[2]))
    return ObjectChange("rule", new[0], kind, changes) if changes else None


def _values(old: Values, new: Values, origins: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name) or None, new.get(name) or None
        if before != after:
            yield Change(name, before, after, origins.get(name, ""))


# Clusters and endpoints ---------------------------------------------------------------------------------------------


def _cluster(name: str, old: Snapshot, new: Snapshot) -> ObjectChange | None:
    before, after = old.cluster(name), new.cluster(name)
    if before is None and after is None:
        return None
    origins = {value.field: value.origin for value in new.policy_values(name)}
    changes = tuple(_values(_policy(before, old), _policy(after, new), origins)) if before and after else ()
    if before is not None and after is not None and not changes:
        return None
    return ObjectChange("cluster", name, _kind(before, after), changes)


def _policy(cluster: Cluster | None, snapshot: Snapshot) -> Values:
    """The policy as Istio spells it where the source can say so, else the fields of the model."""
    if cluster is None:
        return {}
    values = {value.field: value.value for value in snapshot.policy_values(cluster.name)}
    if not values:
        return {key: plain(value) for key, value in asdict(cluster).items() if key != "origins"}
    return {**values, "protocol": cluster.protocol.value, "discovery": cluster.discovery.value}


def _endpoints(name: str, old: Assignment, new: Assignment) -> ObjectChange | None:
    before, after = _members(old), _members(new)
    changes = tuple(
        Change(key, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    )
    return ObjectChange("endpoints", name, Kind.CHANGED, changes) if changes else None


def _members(assignment: Assignment) -> dict[str, Values]:
    return {
        endpoint.key: {
            "priority": group.priority,
            "locality": str(group.locality),
            "locality weight": group.weight,
            "weight": endpoint.weight,
            "health": endpoint.health.value,
            "labels": dict(sorted(endpoint.labels.items())),
        }
        for group in assignment
        for endpoint in group.endpoints
    }
