"""What a snapshot holds, as plain rows: one function for each ``meshlib config`` command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from meshlib.model.cluster import Cluster
from meshlib.model.informed import BUILT_IN
from meshlib.model.route import DirectResponse, Forward, Redirect, Route, VirtualHost
from meshlib.model.snapshot import Snapshot
from meshlib.model.words import match_words, plain

__all__ = ["clusters", "dump", "endpoints", "routes"]

Row = dict[str, Any]


def _hosts(snapshot: Snapshot) -> Iterator[VirtualHost]:
    for name, port in snapshot.source.listing():
        host = snapshot.virtual_host(name, port)
        if host is not None:
            yield host


def _clusters(snapshot: Snapshot) -> Iterator[tuple[str, Cluster | None]]:
    names: dict[str, None] = {}
    for host in _hosts(snapshot):
        for route in host.routes:
            if isinstance(route.action, Forward):
                names.update(dict.fromkeys(weighted.cluster for weighted in route.action.clusters))
                names.update(dict.fromkeys(mirror.cluster for mirror in route.action.mirrors))
    for name in names:
        yield name, snapshot.cluster(name)


def routes(snapshot: Snapshot) -> list[Row]:
    """One row for each rule of each host, in the order they are tried; then those that this client cannot take."""
    return [row for host in _hosts(snapshot) for row in (*_rules(host), *_skipped(host))]


def _rules(host: VirtualHost) -> Iterator[Row]:
    for route in host.routes:
        forward = route.action if isinstance(route.action, Forward) else None
        retry = forward.retry if forward is not None else None
        yield {
            "host": host.name,
            "port": host.port,
            "resource": _resource(host, route),
            "rule": route.origin.rule if route.origin.rule >= 0 else "default",
            "match": match_words(route.match),
            "action": _action(route),
            "timeout": "" if forward is None or forward.timeout is None else f"{forward.timeout:g} s",
            "retries": "" if retry is None else retry.attempts,
        }


def _skipped(host: VirtualHost) -> Iterator[Row]:
    for rule in host.skipped:
        yield {
            "host": host.name,
            "port": host.port,
            "resource": f"VirtualService {host.virtual_service}" if host.virtual_service else "",
            "rule": rule.rule,
            "match": f"match {rule.match}" if rule.match is not None else "*",
            "action": f"not tried: {rule.reason}",
            "timeout": "",
            "retries": "",
        }


def _resource(host: VirtualHost, route: Route) -> str:
    """The object that the rule stands in; empty for a default route."""
    return f"VirtualService {host.virtual_service}" if host.virtual_service else route.origin.object


def _action(route: Route) -> str:
    action = route.action
    if isinstance(action, Redirect):
        return f"redirect {action.status}"
    if isinstance(action, DirectResponse):
        return f"answer {action.status}"
    total = sum(weighted.weight for weighted in action.clusters)
    return ", ".join(f"{100 * weighted.weight / total:g}% {weighted.cluster}" for weighted in action.clusters)


def clusters(snapshot: Snapshot) -> list[Row]:
    """One row for each cluster that a rule leads to, with what objects set for it and where."""
    return [_cluster(snapshot, name, cluster) for name, cluster in _clusters(snapshot)]


def _cluster(snapshot: Snapshot, name: str, cluster: Cluster | None) -> Row:
    if cluster is None:
        keys = ("load_balancer", "protocol", "outlier", "tls", "set")
        return {"cluster": name, **dict.fromkeys(keys, ""), "load_balancer": "does not exist", "set": {}}
    detection = cluster.outlier_detection
    values = [value for value in snapshot.policy_values(name) if value.origin != BUILT_IN]
    return {
        "cluster": name,
        "load_balancer": cluster.load_balancer.kind.value,
        "protocol": cluster.protocol.value,
        "outlier": "" if detection is None else f"{detection.consecutive_5xx} x 5xx",
        "tls": cluster.tls.mode.value,
        "set": {value.field: {"value": value.value, "origin": value.origin} for value in values},
    }


def endpoints(snapshot: Snapshot) -> list[Row]:
    """One row for each endpoint of each cluster, those of the service that the cluster leaves out included."""
    return [row for name, _ in _clusters(snapshot) for row in (*_members(snapshot, name), *_outsiders(snapshot, name))]


def _members(snapshot: Snapshot, name: str) -> Iterator[Row]:
    for group in snapshot.assignment(name):
        for endpoint in group.endpoints:
            yield {
                "cluster": name,
                "endpoint": endpoint.key,
                "health": endpoint.health.value,
                "weight": endpoint.weight,
                "priority": group.priority,
                "locality": str(group.locality),
                "labels": ",".join(f"{key}={value}" for key, value in sorted(endpoint.labels.items())),
                "left_out": "",
            }


def _outsiders(snapshot: Snapshot, name: str) -> Iterator[Row]:
    for key, why in snapshot.left_out(name):
        empty = dict.fromkeys(("health", "weight", "priority", "locality", "labels"), "")
        yield {"cluster": name, "endpoint": key, **empty, "left_out": why}


def dump(snapshot: Snapshot) -> Row:
    """Everything, as plain values."""
    return {
        "version": snapshot.version,
        "outbound_policy": snapshot.outbound_policy.value,
        "hosts": [plain(asdict(host)) for host in _hosts(snapshot)],
        "clusters": [plain(asdict(cluster)) for _, cluster in _clusters(snapshot) if cluster is not None],
        "endpoints": endpoints(snapshot),
    }
