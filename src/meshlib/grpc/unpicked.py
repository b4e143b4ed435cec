"""The mesh as it is for channels that the application made itself: all that it decides but the endpoint.

Rules, faults, header operations, timeouts, retries with their budget, thresholds, breakers and rate limits need no
endpoint, so the same core decides them, over a view in which each cluster has one endpoint: the application's channel.
What judges endpoints among each other (balancer, ejection, active checks) has nothing to judge there. Counts are kept
apart from those of mesh channels, one set for all intercepted channels of a mesh.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from weakref import WeakKeyDictionary, ref

from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.state import State
from meshlib.mesh import Mesh
from meshlib.model.client_policy import BreakerScope, ClientPolicy
from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.endpoint import Assignment, Endpoint, LocalityEndpoints
from meshlib.model.policy import LoadBalancer
from meshlib.model.route import Forward, Route, VirtualHost
from meshlib.model.snapshot import OutboundPolicy, PathNormalization, Snapshot, Source
from meshlib.model.tcp import TcpHost

__all__ = ["OWN_CHANNEL", "Unpicked", "unpicked_of"]


class _OwnChannel(Endpoint):
    """Whom the application's channel sends to; nobody here knows."""

    __slots__ = ()

    @property
    def key(self) -> str:
        """How errors call it."""
        return "the application's own channel"


OWN_CHANNEL = _OwnChannel("", 0)
_ASSIGNMENT: Assignment = (LocalityEndpoints((OWN_CHANNEL,)),)


class Unpicked:
    """A ``Source`` in which every cluster has one endpoint, the application's channel.

    Args:
        source: What the clusters are of.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.outbound_policy: OutboundPolicy = source.outbound_policy
        self.path_normalization: PathNormalization = source.path_normalization

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """Without copies, which the application's channel has no way for."""
        found = self._source.virtual_host(host, port)
        return None if found is None else replace(found, routes=tuple(map(_without_mirrors, found.routes)))

    def tcp_host(self, host: str, port: int) -> TcpHost | None:
        """No RPC asks for it."""
        return self._source.tcp_host(host, port)

    def cluster(self, name: str) -> Cluster | None:
        """Without what chooses among endpoints; the pool of connections is the application's own."""
        cluster = self._source.cluster(name)
        if cluster is None:
            return None
        return replace(
            cluster,
            discovery=Discovery.ENDPOINTS,
            protocol=Protocol.HTTP2,
            load_balancer=LoadBalancer(),
            outlier_detection=None,
            client_policy=_without_endpoints(cluster.client_policy),
        )

    def assignment(self, name: str) -> Assignment:
        """The one endpoint."""
        return _ASSIGNMENT

    def listing(self) -> Iterable[tuple[str, int]]:
        """As the source has it."""
        return self._source.listing()


def _without_mirrors(route: Route) -> Route:
    action = route.action
    return replace(route, action=replace(action, mirrors=())) if isinstance(action, Forward) else route


def _without_endpoints(policy: ClientPolicy) -> ClientPolicy:
    breaker = policy.breaker
    whole = replace(breaker, scope=BreakerScope.CLUSTER) if breaker is not None else None
    return replace(policy, breaker=whole, health_check=None)


class _View:
    """The view of one mesh, made anew when its rules change."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = ref(mesh)
        told = mesh.observer
        self._state = State(told.health_changed if told is not None else None, mesh.state.stalls)
        self._known: tuple[object, Prepared] | None = None
        self._lock = threading.Lock()

    def prepared(self) -> Prepared:
        """What is in force now; a change of endpoints alone changes nothing here."""
        mesh = self._mesh()
        assert mesh is not None, "whoever asks holds the mesh"
        snapshot, known = mesh.snapshot, self._known
        if known is not None and known[0] is snapshot.routing:
            return known[1]
        with self._lock:
            made = Prepared(Snapshot(Unpicked(snapshot.source)), self._state, mesh.clock.now(), mesh.rng)
            self._known = snapshot.routing, made
        return made

    def after_fork(self) -> None:
        """In a forked child: nothing runs, and nobody holds a lock."""
        self._lock = threading.Lock()
        self._known = None
        self._state.after_fork(0)


_views: WeakKeyDictionary[Mesh, _View] = WeakKeyDictionary()
_lock = threading.Lock()


def unpicked_of(mesh: Mesh) -> Prepared:
    """What is in force for channels of the application's own."""
    view = _views.get(mesh)
    if view is None:
        with _lock:
            view = _views.setdefault(mesh, _View(mesh))
    return view.prepared()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for view in list(_views.values()):
        view.after_fork()


os.register_at_fork(after_in_child=_after_fork)
