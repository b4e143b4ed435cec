"""A snapshot made ready for requests: matchers bound, policies bound, pickers built, all off the request path.

``Prepared`` is what a mesh swaps by one assignment. Hosts are prepared at first use, clusters when a route first names
them; both are remembered. A change of endpoints alone rebuilds the pickers that it concerns and nothing else.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.matchers import Test
from meshlib.dataplane.path_index import PathIndex
from meshlib.dataplane.policies.rate_limit import RateLimiter
from meshlib.dataplane.policies.token_buckets import TokenBuckets
from meshlib.dataplane.request import Request
from meshlib.model.client_policy import RateLimit
from meshlib.model.cluster import Cluster
from meshlib.model.policy import RetryPolicy
from meshlib.model.route import Forward, Route, VirtualHost, WeightedCluster
from meshlib.model.tcp import TcpHost

if TYPE_CHECKING:
    from meshlib.dataplane.state import State
    from meshlib.model.snapshot import Snapshot

__all__ = ["Prepared", "PreparedHost"]


class PreparedHost:
    """One virtual host on one port: its bound rules, tried in order."""

    INDEXED = 8
    """From so many rules on, those that a path cannot meet are not asked; below, asking all of them is cheaper."""

    __slots__ = ("_index", "_tests", "host", "routes")

    def __init__(self, host: VirtualHost, routes: Iterable[BoundRoute]) -> None:
        self.host = host
        self.routes = tuple(routes)
        self._tests = [(route, tuple(clause.test for clause in route.clauses)) for route in self.routes]
        paths = (route.route.match.path for route in self.routes)
        self._index = PathIndex(paths) if len(self.routes) >= self.INDEXED else None

    def find(self, request: Request, rng: random.Random) -> BoundRoute | None:
        """The first rule whose conditions all hold."""
        rules: Iterable[tuple[BoundRoute, tuple[Test, ...]]] = self._tests
        if self._index is not None:
            rules = map(self._tests.__getitem__, self._index.candidates(request.path))
        for route, tests in rules:
            for test in tests:
                if not test(request, rng):
                    break
            else:
                return route
        return None


class Prepared:
    """All that requests read: the snapshot's hosts and clusters, prepared at first use.

    Attributes:
        snapshot: What it was made from.
        state: Live counters, shared with every other ``Prepared`` of the mesh.
    """

    HOSTS = 8192
    """Host names remembered before the memory starts over."""

    def __init__(self, snapshot: Snapshot, state: State, now: float, rng: random.Random) -> None:
        self.snapshot = snapshot
        self.state = state
        self._made_at = now
        self._rng = rng
        self._lock = threading.Lock()
        self._hosts: dict[tuple[str, int], PreparedHost | None] = {}
        self._tcp_hosts: dict[tuple[str, int], TcpHost | None] = {}
        self._ways: dict[tuple[int, int], tuple[Route, BoundRoute]] = {}
        self._clusters: dict[str, PreparedCluster | None] = {}

    def host(self, name: str, port: int) -> PreparedHost | None:
        """The host a caller addressed as ``name`` on ``port``; None when the mesh does not know it."""
        try:
            return self._hosts[name, port]
        except KeyError:
            with self._lock:
                return self._prepare_host(name, port)

    def host_of(self, request: Request) -> PreparedHost | None:
        """The host that a request means: by its Host header, unless the dialled name decides.

        Source: Istio routes ports whose protocol is detected, and those of other protocols, by destination address;
        Gateway API's routes are for who dials their parent. A Host header leads to such a host only from outside. Of
        two names of one service the dialled one counts: a pod of a headless service is reached by dialling it.
        """
        named = self.host(request.host, request.port)
        if request.dialled == request.host:
            return named
        dialled = self.host(request.dialled, request.port)
        if dialled is None:
            return named
        known = dialled.host.service
        same = named is not None and known is not None and named.host.service == known
        by_address = dialled.host.by_address or (named is not None and named.host.by_address)
        return dialled if same or by_address else named

    def tcp_host(self, name: str, port: int) -> TcpHost | None:
        """What is known of connections to ``name`` on ``port``; None when the mesh does not know it."""
        with self._lock:
            if (name, port) not in self._tcp_hosts:
                if len(self._tcp_hosts) >= self.HOSTS:
                    self._tcp_hosts.clear()
                self._tcp_hosts[name, port] = self.snapshot.tcp_host(name, port)
            return self._tcp_hosts[name, port]

    def bound(self, route: Route, attempts: int = 1) -> BoundRoute:
        """A way of connections, ready to be taken.

        Args:
            route: The way.
            attempts: How often connecting may be tried (Envoy ``max_connect_attempts``), at least 1.
        """
        key = id(route), attempts
        with self._lock:
            known = self._ways.get(key)
            if known is None or known[0] is not route:
                known = self._ways[key] = route, self._bind(_insisting(route, attempts))
            return known[1]

    def cluster(self, name: str) -> PreparedCluster | None:
        """The prepared cluster, for ``explain`` and status pages; None when it does not exist."""
        with self._lock:
            return self._prepare_cluster(name)

    def with_endpoints(self, snapshot: Snapshot, now: float) -> Prepared:
        """The short way: same routes and clusters, new endpoints; only pickers whose set changed are rebuilt.

        With the endpoints may change whom a cluster trusts: the identities of its servers are those of its endpoints.
        """
        with self._lock:
            self.snapshot = snapshot
            for name, cluster in self._clusters.items():
                if cluster is not None:
                    cluster.trust(snapshot.cluster(name))
                    assignment = snapshot.assignment(name)
                    if assignment is not cluster.assignment:
                        cluster.update(assignment, now, self._rng)
                    if cluster.awaited:
                        cluster.awaited = snapshot.awaited(name)
        return self

    def after_fork(self) -> None:
        """In a forked child: nobody holds the lock; clusters are prepared anew around their reset state."""
        self._lock = threading.Lock()
        for cluster in self._clusters.values():
            if cluster is not None:
                cluster.inherited = True
        self._hosts, self._clusters, self._ways = {}, {}, {}

    def _prepare_host(self, name: str, port: int) -> PreparedHost | None:
        if len(self._hosts) >= self.HOSTS:
            self._hosts.clear()
        host = self.snapshot.virtual_host(name, port)
        prepared = None if host is None else PreparedHost(host, (self._bind(route) for route in host.routes))
        self._hosts[name, port] = prepared
        return prepared

    def _bind(self, route: Route) -> BoundRoute:
        action = route.action
        if not isinstance(action, Forward):
            return BoundRoute(route, ())
        destinations = (
            Destination(weighted, route, action, self._prepare_cluster(weighted.cluster))
            for weighted in action.clusters
        )
        return BoundRoute(route, tuple(destinations), tuple(self._bind_mirrors(route, action)))

    def _bind_mirrors(self, route: Route, action: Forward) -> Iterator[tuple[int, BoundRoute]]:
        """The rules of copies; one to a cluster that does not exist is silently none (Istio)."""
        for mirror in action.mirrors:
            cluster = self._prepare_cluster(mirror.cluster)
            if cluster is not None:
                weighted = WeightedCluster(mirror.cluster)
                copied = replace(action, clusters=(weighted,), retry=None, mirrors=())
                changed = replace(route, action=copied, fault=None)
                yield (
                    mirror.parts_per_million,
                    BoundRoute(changed, (Destination(weighted, changed, copied, cluster),)),
                )

    def _prepare_cluster(self, name: str) -> PreparedCluster | None:
        if name not in self._clusters:
            cluster = self.snapshot.cluster(name)
            self._clusters[name] = None if cluster is None else self._ready(cluster)
        return self._clusters[name]

    def _ready(self, cluster: Cluster) -> PreparedCluster:
        assignment = self.snapshot.assignment(cluster.name)
        ready = PreparedCluster(cluster, self.state.cluster(cluster.name), assignment, self._made_at, self._rng)
        if cluster.discovery.by_name:
            ready.doubt = self.state.doubt
            ready.awaited = self.snapshot.awaited(cluster.name)
        limit = cluster.client_policy.rate_limit
        if limit is not None:
            ready.limiter = RateLimiter(limit, cluster.service, self._buckets(limit))
        return ready

    def _buckets(self, limit: RateLimit) -> TokenBuckets | None:
        """The counts of a policy in this process, which outlive its clusters; None where it keeps none."""
        if not limit.max_tokens:
            return None
        return self.state.buckets(limit.name, limit.max_tokens, limit.tokens_per_fill, limit.fill_interval)


def _insisting(route: Route, attempts: int) -> Route:
    """The way, tried again where no connection could be made: at once, and elsewhere if there is an elsewhere."""
    if attempts < 2 or not isinstance(route.action, Forward):
        return route
    retry = RetryPolicy(attempts - 1, frozenset({"connect-failure"}), base=0.0, cap=0.0)
    return replace(route, action=replace(route.action, retry=retry))
