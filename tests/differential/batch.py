"""Many worlds in one proxy: all pairs decided by both, and the disagreements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from meshlib.model.cluster import Cluster, Discovery
from meshlib.model.domains import RouteTable
from meshlib.model.endpoint import Endpoint, LocalityEndpoints
from meshlib.model.route import VirtualHost
from meshlib.model.snapshot import OutboundPolicy
from meshlib.xds import encode
from tests.differential.configurations import World
from tests.differential.decisions import Decision, Ours, differences, theirs
from tests.differential.proxy import Proxy
from tests.differential.requests import Asked

__all__ = ["Disagreement", "Pair", "compare", "proxy_for"]

PORTS = (80, 8080)


@dataclass
class Pair:
    """A world and a request in it."""

    world: World
    asked: Asked


@dataclass
class Disagreement:
    """A pair that the two decide differently."""

    pair: Pair
    ours: Decision
    envoy: Decision
    words: list[str]


def proxy_for(worlds: Sequence[Ours], port_of_original: int) -> Proxy:
    """An Envoy that knows all worlds; ORIGINAL_DST clusters lead to the upstream's last port instead."""
    hosts: dict[int, list[tuple[VirtualHost, tuple[str, ...]]]] = {port: [] for port in PORTS}
    clusters: dict[str, Any] = {}
    original = (LocalityEndpoints((Endpoint("127.0.0.1", port_of_original),)),)
    for ours in worlds:
        found = encode.tables(ours.snapshot, ours.world.namespace)
        for table in found:
            hosts[int(table.name)].extend(table.hosts)
        for cluster in encode.clusters(ours.snapshot, found):
            assignment = ours.snapshot.assignment(cluster.name)
            if cluster.discovery is Discovery.ORIGINAL_DST:
                cluster, assignment = replace(cluster, discovery=Discovery.ENDPOINTS), original
            clusters[cluster.name] = encode.cluster(cluster, assignment, inline=True)
    passthrough = Cluster("PassthroughCluster", "PassthroughCluster", 0)
    clusters[passthrough.name] = encode.cluster(passthrough, original, inline=True)
    unknown = encode.unknown_hosts(OutboundPolicy.ALLOW_ANY)  # worlds differ in this; the shared table sends them on
    tables = {port: encode.route_configuration(RouteTable(str(port), (*hosts[port], unknown))) for port in PORTS}
    return Proxy(tables, clusters.values())


def compare(pairs: Sequence[Pair], port_of_original: int) -> list[Disagreement]:
    """Decide every pair twice. Worlds must differ in their numbers.

    Raises:
        Rejected: Envoy does not take what was encoded.
    """
    worlds: dict[int, Ours] = {}
    for pair in pairs:
        if pair.world.number not in worlds:
            worlds[pair.world.number] = Ours(pair.world)
    found = []
    with proxy_for(list(worlds.values()), port_of_original) as proxy:
        for pair in pairs:
            envoy = theirs(proxy, pair.asked)
            ours, words = differences(worlds[pair.world.number].decisions(pair.asked), envoy)
            if words and not _refused_alike(pair.world, ours, envoy):
                found.append(Disagreement(pair, ours, envoy, words))
    return found


def _refused_alike(world: World, ours: Decision, envoy: Decision) -> bool:
    """An unknown host is refused under REGISTRY_ONLY, where the shared table sends it on."""
    return world.registry_only and ours.raised and envoy.cluster == "PassthroughCluster"
