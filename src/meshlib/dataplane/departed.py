"""Endpoints that no cluster names any more, so that connections to them can be let go."""

from __future__ import annotations

from typing import Any

from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import ClusterState, State
from meshlib.model.endpoint import Endpoint

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
    named = {Endpoint(*address).key: address for address in gone}
    for cluster in clusters if gone else ():
        gone.difference_update([named[key] for key in named if _is_named(cluster, key)])
    return gone


def _left(cluster: ClusterState) -> set[Address]:
    if not cluster.has_left:
        return set()
    with cluster.lock:
        left = [each for each in cluster.endpoints.values() if each.left_at is not None]
        found = {_dialled(each.target) for each in left if each.target is not None}
        found |= {(each.endpoint.address, each.endpoint.port) for each in left if each.carried}
        for each in left:
            each.target, each.carried = None, False
    return found


def _is_named(cluster: ClusterState, key: str) -> bool:
    with cluster.lock:
        state = cluster.endpoints.get(key)
        return state is not None and state.left_at is None


def _dialled(target: Any) -> Address:
    """Of the transport's note no more than the address is read."""
    return target[2].address, target[2].port
