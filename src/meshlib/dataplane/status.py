"""How clusters in use are doing, as plain values for status pages."""

from __future__ import annotations

from typing import Any

from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.state import ClusterState, EndpointState

__all__ = ["cluster_status"]


def cluster_status(state: ClusterState, cluster: PreparedCluster | None, now: float) -> dict[str, Any]:
    """One cluster.

    Args:
        state: What is known of it.
        cluster: What is configured now; None when nothing is any more.
        now: The time.

    Returns:
        ``name``, ``active``, ``retries``, ``retry_overflows``, ``connections`` (that carry something) and ``pending``
        (requests that wait for one), None where the configuration bounds neither, ``panic``, ``breaker`` (why the
        cluster's circuit breaker refuses, or None), ``breaker_state`` (``closed``, ``open``, ``half-open``, or None
        where there is none) and ``endpoints``: ``address``, ``active``, ``ejected``, ``ejected_for`` (seconds until it
        comes back, or None), ``healthy`` (what active checks say; None without), ``check`` (what the last one saw),
        ``breaker``, ``breaker_state`` and ``draining``.
    """
    with state.lock:
        members = [each for each in state.endpoints.values() if each.left_at is None]
        facts = {
            "name": state.name,
            "active": state.active,
            "retries": state.retries,
            "retry_overflows": state.retry_overflows,
        }
    gate = cluster.gate if cluster is not None else None
    return {
        **facts,
        "connections": gate.inside if gate is not None and gate.is_bounded else None,
        "pending": gate.pending if gate is not None else None,
        "panic": cluster is not None and cluster.picker_at(now).panic,
        "breaker": (cluster.breaker_words(None, now) or None) if cluster is not None else None,
        "breaker_state": cluster.breaker_state(None) if cluster is not None else None,
        "endpoints": [_endpoint(each, cluster, now) for each in members],
    }


def _endpoint(state: EndpointState, cluster: PreparedCluster | None, now: float) -> dict[str, Any]:
    until = cluster.ejected_until(state) if cluster is not None else None
    checked = state.checked
    return {
        "address": state.key,
        "active": state.active,
        "ejected": state.ejected_at is not None,
        "ejected_for": None if until is None else round(max(0.0, until - now), 3),
        "healthy": checked.healthy if checked is not None else None,
        "check": checked.last if checked is not None else "",
        "breaker": (cluster.breaker_words(state, now) or None) if cluster is not None else None,
        "breaker_state": cluster.breaker_state(state) if cluster is not None else None,
        "draining": state.endpoint.health.name == "DRAINING",
    }
