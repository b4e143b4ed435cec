"""Ways of raw connections off the wire: filter chains that end in a ``TcpProxy``.

Chains that tell protocols of HTTP apart are for requests. Istio's ``PassthroughCluster`` and ``BlackHoleCluster`` are
no destinations but the outbound policy.

Source: Envoy ``FilterChainMatch``, ``TcpProxy``; Istio ``core/networkfilter.go``, ``core/tls.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from meshlib.model.policy import HashKey
from meshlib.model.route import Forward, Route, RouteMatch, WeightedCluster
from meshlib.model.tcp import TcpMatch, TcpRoute
from meshlib.xds.decode.findings import Place
from meshlib.xds.decode.subsets import metadata_match
from meshlib.xds.decode.values import optional_duration, unpack
from meshlib.xds.messages import tcp_proxy_pb2

__all__ = ["POLICIES", "PROXY", "ways_of"]

PROXY = tcp_proxy_pb2.TcpProxy
POLICIES = ("PassthroughCluster", "BlackHoleCluster")
_KNOWN = {
    "cluster",
    "weighted_clusters",
    "idle_timeout",
    "max_downstream_connection_duration",
    "metadata_match",
    "hash_policy",
}
_PROXY = {"stat_prefix", "access_log", "access_log_options", "upgrade_configs"}
"""What concerns a proxy's own logs."""
_IDLE = 3600.0
"""Seconds, where nothing is said of it."""


def ways_of(chains: Iterable[tuple[Any, Place]], port: int) -> Iterator[TcpRoute]:
    """The ways of a listener at ``port``; ``chains`` are its filter chains with their places."""
    for chain, at in chains:
        match = chain.filter_chain_match
        if match.application_protocols or (match.HasField("destination_port") and match.destination_port.value != port):
            continue
        for number, each in enumerate(chain.filters):
            place = at.field("filters", number)
            proxy = unpack(each.typed_config, {PROXY.DESCRIPTOR.full_name: PROXY}, place)
            if proxy is not None and (made := _way(proxy, match, place)) is not None:
                yield made


def _way(proxy: Any, match: Any, at: Place) -> TcpRoute | None:
    at.only(proxy, _KNOWN | _PROXY)
    clusters = _clusters(proxy, at)
    if not clusters or clusters[0].cluster in POLICIES:
        return None
    keys = tuple(
        HashKey("source_ip", "") for each in proxy.hash_policy if each.WhichOneof("policy_specifier") == "source_ip"
    )
    subnets = tuple(f"{each.address_prefix}/{each.prefix_len.value}" for each in match.prefix_ranges)
    idle = optional_duration(proxy, "idle_timeout", at)
    return TcpRoute(
        TcpMatch(tuple(name.lower() for name in match.server_names), subnets),
        Route("default", RouteMatch(), Forward(clusters, hash_keys=keys)),
        None,
        _IDLE if idle is None else idle or None,
        optional_duration(proxy, "max_downstream_connection_duration", at) or None,
    )


def _clusters(proxy: Any, at: Place) -> tuple[WeightedCluster, ...]:
    wanted = metadata_match(proxy, at)
    if proxy.WhichOneof("cluster_specifier") == "cluster":
        return (WeightedCluster(proxy.cluster, metadata_match=wanted),)
    if not proxy.weighted_clusters.clusters:
        at.error("no cluster")
    return tuple(
        WeightedCluster(each.name, each.weight, metadata_match=metadata_match(each, at) or wanted)
        for each in proxy.weighted_clusters.clusters
        if each.weight
    )
