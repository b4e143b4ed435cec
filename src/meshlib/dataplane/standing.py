"""How one destination of a rule stands at a moment: who may be picked, who is left out and why, and the live counters.

The answers come from the picker and the state that live calls use; nothing is drawn and nothing is counted.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from meshlib.dataplane.balancing.pick import Level, Picker
from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.decision import DecisionDestination, Sent
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.rewriting import rewrite
from meshlib.dataplane.state import EndpointState
from meshlib.model.cluster import parse_cluster_name
from meshlib.model.endpoint import Health
from meshlib.model.route import WeightedCluster

__all__ = ["destination_of"]

_HEALTH = {
    Health.UNHEALTHY: "not ready",
    Health.DRAINING: "draining",
    Health.DEGRADED: "degraded",
}


_UNUSED = random.Random(0)  # noqa: S311 - draws nothing but a request id, which is left out


def destination_of(
    prepared: Prepared,
    bound: BoundRoute,
    number: int,
    weighted: WeightedCluster,
    request: Request,
    now: float,
    hash_key: int | None,
) -> DecisionDestination:
    """The destination of that number of a rule."""
    destination = bound.destinations[number]
    named = parse_cluster_name(weighted.cluster)
    host, port, subset = named.host or weighted.cluster, named.port, named.subset
    total = sum(each.weight for each in bound.destinations)
    share = 100 * weighted.weight / total
    cluster = destination.cluster
    if cluster is None:
        return DecisionDestination(host, subset, port, share, weighted.cluster, exists=False)
    picker = cluster.picker_at(now, destination.subset)
    reached = cluster.reach(request, now, hash_key, destination.subset)
    snapshot = prepared.snapshot
    return DecisionDestination(
        host,
        subset,
        port,
        share,
        weighted.cluster,
        tuple(reached),
        cluster.cluster.load_balancer.kind.value,
        cluster.cluster.tls.mode.value,
        left_out=(*_left_out(cluster, picker, set(reached), now), *snapshot.left_out(weighted.cluster)),
        priorities=tuple(_priority(level) for level in picker.levels),
        sends=_sent(bound, destination, request) if request.scheme in ("http", "https") else None,
        request_headers=weighted.request_headers,
        response_headers=weighted.response_headers,
        policy=snapshot.policy_values(weighted.cluster),
        live=_live(cluster, picker, now),
    )


# Endpoints ----------------------------------------------------------------------------------------------------------


def _left_out(cluster: PreparedCluster, picker: Picker, reached: set[str], now: float) -> Iterator[tuple[str, str]]:
    waiting = dict(_waiting(picker))
    usable = {state.key for level in picker.levels if level.percent for part in level.parts for state in part.usable}
    for state in cluster.members:
        if state.key in reached:
            continue
        if state.key in usable:
            yield state.key, "the hash key of this request leads to another"
        else:
            yield state.key, _unfit(cluster, state, now) or waiting.get(state.key) or _spared(cluster)


def _spared(cluster: PreparedCluster) -> str:
    balancer = cluster.cluster.load_balancer
    if balancer.subset_size:
        return f"not among the {balancer.subset_size} that this process uses (subsetSize)"
    return "its locality has no weight"


def _unfit(cluster: PreparedCluster, state: EndpointState, now: float) -> str:
    until = cluster.ejected_until(state)
    if state.ejected_at is not None and (until is None or until > now):
        timed = until is not None and math.isfinite(now)
        return f"ejected, back in {until - now:.3g} s at the earliest" if timed and until is not None else "ejected"
    if words := cluster.breaker_words(state, now):
        return words
    if not state.health_ok:
        last = state.checked.last if state.checked is not None else ""
        return f"its health checks fail ({last})" if last else "it waits for its first health check"
    return _HEALTH.get(state.endpoint.health, "")


def _waiting(picker: Picker) -> Iterator[tuple[str, str]]:
    """Endpoints of priorities that get nothing now."""
    busy = [level for level in picker.levels if level.percent]
    for level in picker.levels:
        if not level.percent and busy:
            words = f"priority {level.priority} waits while priority {busy[0].priority} is healthy enough"
            yield from ((state.key, words) for part in level.parts for state in part.usable)


def _priority(level: Level) -> Mapping[str, Any]:
    total = sum(part.weight for part in level.parts)
    return {
        "priority": level.priority,
        "percent": level.percent,
        "panic": level.panic,
        "localities": [
            {
                "locality": None if part.locality is None else str(part.locality),
                "percent": round(100 * part.weight / total, 2),
                "endpoints": [state.key for state in part.usable],
            }
            for part in level.parts
        ],
    }


def _live(cluster: PreparedCluster, picker: Picker, now: float) -> dict[str, Any]:
    state, gate = cluster.state, cluster.gate
    limit = cluster.cluster.circuit_breaker.max_requests
    ejected = {member.key: cluster.ejected_until(member) for member in cluster.members if member.ejected_at is not None}
    return {
        "requests": state.active,
        "retries": state.retries,
        "connections": gate.inside if gate is not None and gate.is_bounded else None,
        "pending": gate.pending if gate is not None else None,
        "retry_limit": cluster.retry_limit(now),
        "full": limit is not None and state.active >= limit,
        "panic": picker.panic,
        "breaker": cluster.breaker_words(None, now) or None,
        "breaker_state": cluster.breaker_state(None),
        "breakers": {
            member.key: phase
            for member in cluster.members
            if (phase := cluster.breaker_state(member)) not in (None, "closed")
        },
        "ejected": {
            key: None if until is None or not math.isfinite(now) else round(max(0.0, until - now), 3)
            for key, until in ejected.items()
        },
    }


# The head -----------------------------------------------------------------------------------------------------------


def _sent(bound: BoundRoute, destination: Destination, request: Request) -> Sent:
    path, raw = rewrite(bound, request, destination, _UNUSED)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in (*raw, *bound.expected())]
    if request.header("x-request-id") is None:
        headers = [pair for pair in headers if pair[0].lower() != "x-request-id"]
    authority = next((value for name, value in headers if name.lower() == "host"), request.authority)
    before = _joined((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers)
    after = _joined(iter(headers))
    changed: dict[str, str | None] = {name: value for name, value in after.items() if before.get(name) != value}
    changed.update({name: None for name in before if name not in after})
    changed.pop("host", None)
    return Sent(path, authority, tuple(headers), changed)


def _joined(headers: Iterator[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        found[lower] = f"{found[lower]},{value}" if lower in found else value
    return found
