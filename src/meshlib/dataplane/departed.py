"""Endpoints that no cluster names any more, so that connections to them can be let go."""

from __future__ import annotations

from typing import Any

from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import ClusterState, State

__all__ = ["departed"]

Address = tuple[str, int]


def departed(state: State, prepared: Prepared, now: float) -> set[Address]:
    """Addresses that were dialled, left their clusters, and are in none now; each is told once.

    Calls that run there run on: this takes nothing from anybody.
    """
    clusters = state.clusters()
    for cluster in clusters:
        if prepared.cluster(cluster.name) is None:
            cluster.adopt((), now)  # the whole cluster is gone
            cluster.members = []
    gone: set[Address] = set()
    for cluster in clusters:
        gone |= _left(cluster)
    if gone:
        for cluster in clusters:
            gone -= _named(cluster)
    return gone


def _left(cluster: ClusterState) -> set[Address]:
    with cluster.lock:
        left = [each for each in cluster.endpoints.values() if each.left_at is not None and each.target is not None]
        found = {_dialled(each.target) for each in left}
        for each in left:
            each.target = None
    return found


def _named(cluster: ClusterState) -> set[Address]:
    with cluster.lock:
        here = [each for each in cluster.endpoints.values() if each.left_at is None]
        return {(each.endpoint.address, each.endpoint.port) for each in here}


def _dialled(target: Any) -> Address:
    """Of the transport's note no more than the address is read."""
    return target[2].address, target[2].port
