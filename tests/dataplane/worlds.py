"""A world for tests of the core: a source of hosts and clusters given as values."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.state import State
from meshlib.model.cluster import Cluster
from meshlib.model.endpoint import Assignment, Endpoint, LocalityEndpoints
from meshlib.model.policy import RetryPolicy
from meshlib.model.route import Forward, Route, RouteMatch, VirtualHost, WeightedCluster
from meshlib.model.snapshot import OutboundPolicy, PathNormalization, Snapshot
from meshlib.model.tcp import TcpHost

NAME = "outbound|80||svc"


class World:
    """A ``Source`` made of plain values."""

    def __init__(
        self, routes: Iterable[Route], clusters: dict[str, tuple[Cluster, Assignment]], policy: str = "ALLOW_ANY"
    ) -> None:
        self.outbound_policy = OutboundPolicy[policy]
        self.path_normalization = PathNormalization.BASE
        self.host = VirtualHost("svc", 80, tuple(routes), "default/svc", "svc")
        self.clusters = clusters

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        return self.host if (host, port) == ("svc", 80) else None

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        return None

    def cluster(self, name: str) -> Cluster | None:
        return self.clusters[name][0] if name in self.clusters else None

    def assignment(self, name: str) -> Assignment:
        return self.clusters[name][1] if name in self.clusters else ()

    def listing(self) -> Iterable[tuple[str, int]]:
        return [("svc", 80)]


def endpoints(*addresses: str, **options: Any) -> Assignment:
    """One locality with these addresses, all on port 80."""
    return (LocalityEndpoints(tuple(Endpoint(address, 80, **options) for address in addresses)),)


def prepared(
    assignment: Assignment,
    *,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    route: Route | None = None,
    seed: int = 1,
    **cluster: Any,
) -> Prepared:
    """A prepared world of one cluster behind one catch-all rule."""
    action = Forward((WeightedCluster(NAME),), timeout, retry)
    routes = [route or Route("all", RouteMatch(), action)]
    world = World(routes, {NAME: (Cluster(NAME, "svc", 80, **cluster), assignment)})
    return Prepared(Snapshot(world, 1), State(), 0.0, random.Random(seed))


def request(method: str = "GET", path: str = "/", headers: dict[str, str] | None = None, **options: Any) -> Request:
    """A request to ``http://svc``."""
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request(method, "http", "svc", 80, path, raw, **options)


def permits(world: Prepared) -> tuple[int, int, int]:
    """What is taken of the cluster now: attempts, retries, attempts at endpoints."""
    state = world.state.cluster(NAME)
    return state.active, state.retries, sum(endpoint.active for endpoint in state.endpoints.values())
