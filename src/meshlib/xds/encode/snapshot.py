"""All that one client sees, as the resources a control plane would send it.

A table of routes stands for a port, as in istiod's sidecar dialect. Under which domains a host is listed is asked of
the snapshot itself: a spelling belongs to the host that a caller would reach by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshlib.model.cluster import Cluster
from meshlib.model.domains import RouteTable
from meshlib.model.route import DirectResponse, Forward, Route, RouteMatch, VirtualHost, WeightedCluster
from meshlib.model.snapshot import OutboundPolicy, Snapshot

__all__ = ["PASSTHROUGH", "clusters", "domains", "tables", "unknown_hosts"]

PASSTHROUGH = "PassthroughCluster"
"""Istio's name for the cluster that dials what the caller named."""

_REFUSED = 502


def tables(snapshot: Snapshot, namespace: str = "default", cluster_domain: str = "cluster.local") -> list[RouteTable]:
    """The route tables of a snapshot, named by their ports; short names are those of a caller in ``namespace``."""
    ports: dict[int, list[tuple[VirtualHost, tuple[str, ...]]]] = {}
    for name, port in snapshot.source.listing():
        host = snapshot.virtual_host(name, port)
        if host is not None:
            spelled = tuple(domains(snapshot, name, port, namespace, cluster_domain))
            ports.setdefault(port, []).append((host, spelled))
    return [RouteTable(str(port), tuple(hosts)) for port, hosts in sorted(ports.items())]


def domains(snapshot: Snapshot, name: str, port: int, namespace: str, cluster_domain: str) -> Iterator[str]:
    """The spellings that mean ``name``, the full one first.

    Source: Istio ``generateVirtualHostDomains``.
    """
    yield name
    if name.startswith("*"):
        return
    for spelling in (f"{name}.", *_short(name, namespace, cluster_domain)):
        found = snapshot.virtual_host(spelling, port)
        if found is not None and found.name == name:
            yield spelling


def _short(name: str, namespace: str, cluster_domain: str) -> Iterable[str]:
    svc = f".svc.{cluster_domain}"
    if not name.endswith(svc):
        return []
    short = name.removesuffix(svc)
    own = [short.removesuffix(f".{namespace}")] if short.endswith(f".{namespace}") else []
    return [*own, short, f"{short}.svc"]


def unknown_hosts(policy: OutboundPolicy) -> tuple[VirtualHost, tuple[str, ...]]:
    """The virtual host for everything else: straight on, or refused with 502 as Istio's ``block_all``."""
    if policy is OutboundPolicy.REGISTRY_ONLY:
        return VirtualHost("block_all", 0, (Route("block_all", RouteMatch(), DirectResponse(_REFUSED)),)), ("*",)
    action = Forward((WeightedCluster(PASSTHROUGH),))
    return VirtualHost("allow_any", 0, (Route("allow_any", RouteMatch(), action),)), ("*",)


def _named(route: Route) -> Iterator[str]:
    if isinstance(route.action, Forward):
        yield from (weighted.cluster for weighted in route.action.clusters)
        yield from (mirror.cluster for mirror in route.action.mirrors)


def clusters(snapshot: Snapshot, found: Iterable[RouteTable]) -> Iterator[Cluster]:
    """The clusters that the tables name and the snapshot knows, once each."""
    hosts = (host for table in found for host, _ in table.hosts)
    for name in dict.fromkeys(name for host in hosts for route in host.routes for name in _named(route)):
        cluster = snapshot.cluster(name)
        if cluster is not None:
            yield cluster
