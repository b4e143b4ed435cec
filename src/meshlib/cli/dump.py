"""What a snapshot holds, as plain rows: one function for each ``meshlib config`` command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from meshlib.model.cluster import Cluster
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
    for name in names:
        yield name, snapshot.cluster(name)


def routes(snapshot: Snapshot) -> list[Row]:
    """One row for each rule of each host."""
    return [
        {
            "host": host.name,
            "port": host.port,
            "resource": _resource(host, route),
            "rule": route.origin.rule if route.origin.rule >= 0 else "default",
            "match": match_words(route.match),
            "action": _action(route),
        }
        for host in _hosts(snapshot)
        for route in host.routes
    ]


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
    """One row for each cluster that a rule leads to."""
    rows: list[Row] = []
    for name, cluster in _clusters(snapshot):
        if cluster is None:
            rows.append({"cluster": name, "load_balancer": "does not exist", "protocol": "", "outlier": "", "tls": ""})
            continue
        detection = cluster.outlier_detection
        rows.append(
            {
                "cluster": name,
                "load_balancer": cluster.load_balancer.kind.value,
                "protocol": cluster.protocol.value,
                "outlier": "" if detection is None else f"{detection.consecutive_5xx} x 5xx",
                "tls": cluster.tls.mode.value,
            }
        )
    return rows


def endpoints(snapshot: Snapshot) -> list[Row]:
    """One row for each endpoint of each cluster."""
    return [
        {
            "cluster": name,
            "endpoint": endpoint.key,
            "health": endpoint.health.value,
            "weight": endpoint.weight,
            "priority": group.priority,
            "locality": str(group.locality),
            "labels": ",".join(f"{key}={value}" for key, value in sorted(endpoint.labels.items())),
        }
        for name, _ in _clusters(snapshot)
        for group in snapshot.assignment(name)
        for endpoint in group.endpoints
    ]


def dump(snapshot: Snapshot) -> Row:
    """Everything, as plain values."""
    return {
        "version": snapshot.version,
        "outbound_policy": snapshot.outbound_policy.value,
        "hosts": [plain(asdict(host)) for host in _hosts(snapshot)],
        "clusters": [plain(asdict(cluster)) for _, cluster in _clusters(snapshot) if cluster is not None],
        "endpoints": endpoints(snapshot),
    }
