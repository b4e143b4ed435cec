"""What both colours of a mesh channel hold: the mesh, the service, and the ways to endpoints."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from meshlib.context.current import NOTHING, current
from meshlib.dataplane import router
from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.cluster import PreparedCluster
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.request import Request, split_host
from meshlib.dataplane.state import EndpointState
from meshlib.errors import MeshError, NotYet
from meshlib.grpc.credentials import checked_name, credentials_of, is_plaintext, stamp
from meshlib.grpc.failures import translated
from meshlib.grpc.load_watch import LoadWatch
from meshlib.grpc.rpc import Metadata, request_of_rpc, service_of
from meshlib.grpc.subchannels import Key, Option, Subchannel, Subchannels, arguments
from meshlib.grpc.unheard import UnheardCall
from meshlib.mesh import MeshSource, as_mesh
from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.endpoint import Endpoint
from meshlib.model.policy import BalancerKind
from meshlib.model.route import Forward, Route, RouteMatch, VirtualHost, WeightedCluster
from meshlib.rate_limit_service import RateLimitServices
from meshlib.transport.targets import Targets
from meshlib.transport.tls import TlsContexts

__all__ = ["TAKES_REPORTS", "Ways"]

_CHECKED_EVERY = 5.0
"""Seconds after which the files of a cluster's TLS, or the addresses of its name, are looked at again."""


TAKES_REPORTS = BalancerKind.CLIENT_SIDE_WEIGHTED_ROUND_ROBIN
_CONNECTED = 8
"""Endpoints of a cluster that are connected to when a caller asks for it before the first RPC."""


_TIDY = 64
"""Ways from which on those that have ended are forgotten."""


class _Way(NamedTuple):
    """A remembered way to an endpoint, good for as long as cluster and authority stay."""

    cluster: Cluster
    authority: str
    subchannel: Subchannel
    stamp: tuple[tuple[str, int], ...]
    good_until: float


class _Held:
    """The subchannels that one mesh channel holds; let go when it is closed or collected."""

    def __init__(self) -> None:
        self.each: dict[Subchannel, Subchannels] = {}

    def release(self, at_once: bool = False) -> None:
        held, self.each = self.each, {}
        for subchannel, pool in held.items():
            pool.release(subchannel, at_once)


class Ways:
    """Begins calls, and finds the real channel of a picked endpoint.

    Args:
        target: ``host:port`` of a service, also behind ``dns:///`` or ``xds:///``.
        mesh: A ``Mesh``, or what ``Mesh`` takes.
        credentials: The caller's own, for endpoints that the configuration reaches in plaintext.
        options: Channel arguments for the real channels.
        aio: Which of gRPC's errors are raised.

    Attributes:
        opened: Is told of each further subchannel.
    """

    def __init__(
        self, target: str, mesh: MeshSource, credentials: Any, options: Sequence[Option] | None, *, aio: bool
    ) -> None:
        self.mesh, self.owns_mesh = as_mesh(mesh)
        self.service = service_of(target, "http" if credentials is None else "https")
        self.aio = aio
        self._credentials = credentials
        self._options = tuple(options or ())
        self._ways: dict[Any, _Way] = {}
        self._held = _Held()
        self._finalizer = weakref.finalize(self, self._held.release)
        self._finalizer.atexit = False
        self._straight: BoundRoute | None = None
        self.opened: Callable[[Subchannel], None] | None = None
        self.services = RateLimitServices(self.mesh, Targets(TlsContexts(), self.mesh.lookup))
        self.mesh.follow(self)

    def pool(self) -> Subchannels:
        """The subchannels of the process, or of the running event loop."""
        raise NotImplementedError

    def place(self, state: EndpointState) -> Any:
        """What a way to an endpoint is remembered by: the endpoint, and who may use the way."""
        return state

    def tidy(self) -> None:
        """Forget ways that nobody will take any more; called when a way is found anew."""
        if len(self._ways) > _TIDY:
            self._ways = {place: way for place, way in list(self._ways.items()) if not way.subchannel.retired}

    def begin(self, method: str, metadata: Metadata | None, timeout: float | None, *, repeatable: bool = True) -> Call:
        """Route an RPC; one to a host that the mesh does not know goes straight there.

        Without a configuration yet, and of a host that a control plane was just asked for, comes an ``UnheardCall``.

        Raises:
            MeshError: And ``grpc.RpcError``: it has no route.
        """
        mesh = self.mesh
        core = request_of_rpc(self.service, method, metadata, timeout, repeatable=repeatable)
        context = current()
        if context is not NOTHING:
            context.lend(core)
        now = mesh.clock.now()
        if not (mesh.is_ready and mesh.is_started):
            return self._unheard(None, core, now)
        try:
            call = router.begin(mesh.prepared, core, now, mesh.rng, mesh.observer)
        except NotYet as asked:
            return self._unheard(asked, core, now)
        except MeshError as error:
            raise translated(error, None, aio=self.aio) from None
        return call if call is not None else self._straight_call(core, now)

    def _unheard(self, asked: NotYet | None, core: Request, now: float) -> UnheardCall:
        unheard = UnheardCall(core, VirtualHost(core.host, core.port, ()), None, None, now, self.mesh.rng)
        unheard.asked = asked
        return unheard

    def _straight_call(self, core: Request, now: float) -> Call:
        bound = self._passthrough(now)
        host = VirtualHost(self.service.host, self.service.port, (bound.route,))
        return Call(core, host, bound, bound.destinations[0], now, self.mesh.rng)

    def subchannel(self, attempt: Attempt, authority: str) -> Subchannel:
        """The real channel of the picked endpoint, entered for one RPC.

        Raises:
            TlsUnavailable: The TLS that the configuration asks for cannot be set up.
        """
        way = self._ways.get(self.place(attempt.state))
        if (
            way is None
            or way.cluster is not attempt.cluster
            or way.authority != authority
            or way.subchannel.retired
            or attempt.started > way.good_until
        ):
            way = self._find(attempt, authority, way)
        while not way.subchannel.enter():
            way = self._find(attempt, authority, None)
        return way.subchannel

    def retire(self, addresses: Collection[tuple[str, int]]) -> None:
        """These endpoints have left the mesh; RPCs under way there run on."""
        raise NotImplementedError

    def held(self) -> list[Subchannel]:
        """The real channels that were used, as far as they are open."""
        return [each for each in list(self._held.each) if not each.retired]

    def connect(self) -> list[Subchannel]:
        """Real channels to endpoints that the service's rules lead to, a few of each cluster.

        Raises:
            NotYet: A control plane was just asked for the service.
        """
        now, service = self.mesh.clock.now(), self.service
        host = self.mesh.prepared.host(service.host, service.port)
        if host is None:
            clusters = [self._passthrough(now).destinations[0].cluster]
        else:
            clusters = [each.cluster for route in host.routes for each in route.destinations]
        for cluster in dict.fromkeys(each for each in clusters if each is not None):
            if cluster.awaited:
                raise NotYet(service.host, service.port, cluster.cluster.name, cluster.awaited)
            for state in self._reached(cluster, now):
                attempt = Attempt(0, state, cluster.cluster, now, None)
                self._find(attempt, service.authority, self._ways.get(self.place(state)))
        return self.held()

    def _reached(self, cluster: PreparedCluster, now: float) -> Sequence[EndpointState]:
        if cluster.cluster.discovery is Discovery.ORIGINAL_DST:
            return [cluster.state.dynamic(Endpoint(self.service.host, self.service.port), now)]
        return cluster.members[:_CONNECTED]

    def release(self, at_once: bool = False) -> None:
        """Let go of all subchannels; those that nobody else holds are closed, once idle or at once."""
        self._ways = {}
        self._held.release(at_once)

    def _find(self, attempt: Attempt, authority: str, before: _Way | None) -> _Way:
        cluster, tls = attempt.cluster, attempt.cluster.tls.to(attempt.endpoint.accepts_mtls)
        own = not is_plaintext(tls)
        known = stamp(tls) if own else ()
        addresses = self._addresses(attempt)
        good_until = attempt.started + _CHECKED_EVERY if known or addresses else float("inf")
        fits = before is not None and before.cluster is cluster and before.authority == authority
        if before is not None and fits and _moved(before.subchannel.key, addresses):
            self.pool().replace(before.subchannel)
        if before is not None and fits and before.stamp == known and not before.subchannel.retired:
            way = before._replace(good_until=good_until)
        else:
            way = _Way(cluster, authority, self._hold(attempt, authority, known, addresses), known, good_until)
        attempt.state.carried = True
        self.tidy()
        self._ways[self.place(attempt.state)] = way
        self._listen(attempt, way.subchannel)
        return way

    def _listen(self, attempt: Attempt, subchannel: Subchannel) -> None:
        """Have the endpoint tell its load beside the RPCs, where the configuration asks for that."""
        balancer, state = attempt.cluster.load_balancer, attempt.state
        if balancer.load_reports.out_of_band is None or balancer.kind is not TAKES_REPORTS:
            return
        if state not in subchannel.watched:
            subchannel.watched.add(state)
            self.listen(LoadWatch(state, balancer.load_reports, subchannel, self.mesh.clock))

    def listen(self, watch: LoadWatch) -> None:
        """Run a watch."""
        raise NotImplementedError

    def _addresses(self, attempt: Attempt) -> tuple[str, ...]:
        """What the name of a ``LOGICAL_DNS`` cluster stands for; empty for all others, and while nobody knows."""
        logical = attempt.cluster.discovery is Discovery.LOGICAL_DNS
        return self.mesh.lookup(attempt.endpoint.address) if logical else ()

    def _hold(
        self, attempt: Attempt, authority: str, known: tuple[tuple[str, int], ...], addresses: tuple[str, ...]
    ) -> Subchannel:
        cluster, endpoint = attempt.cluster, attempt.endpoint
        tls = cluster.tls.to(endpoint.accepts_mtls)
        own = not is_plaintext(tls)
        name = checked_name(tls, self.service.host) if own else ""
        credentials = credentials_of(tls) if own else self._credentials
        security = (tls, known) if own else credentials
        if name and split_host(authority) != name:
            authority = name  # grpcio sends no RPC to a service of another name than the certificate is checked for
        options = (("grpc.default_authority", authority), *arguments(cluster.connection_pool, name, self._options))
        key = Key(endpoint.address, endpoint.port or self.service.port, authority, security, options, addresses)
        pool = self.pool()
        held = pool.hold(key, credentials)
        if held in self._held.each:
            pool.release(held)
        self._held.each[held] = pool
        if self.opened is not None:
            self.opened(held)
        return held

    def _passthrough(self, now: float) -> BoundRoute:
        """The rule of a host that the mesh does not know: whatever its name resolves to."""
        if self._straight is None:
            name = "PassthroughCluster"
            host, port = self.service.host, self.service.port
            cluster = Cluster(name, host, port, discovery=Discovery.ORIGINAL_DST, protocol=Protocol.HTTP2)
            prepared = PreparedCluster(cluster, self.mesh.state.cluster(name), (), now, self.mesh.rng)
            weighted = WeightedCluster(name)
            action = Forward((weighted,))
            route = Route("allow_any", RouteMatch(), action)
            self._straight = BoundRoute(route, (Destination(weighted, route, action, prepared),))
        return self._straight


def _moved(key: Key, addresses: tuple[str, ...]) -> bool:
    """Whether a name stands for none of the addresses any more that its channel knows.

    One of them is enough to keep the channel: a connection is not given up because DNS gives another part of its
    answer. Source: Envoy ``LOGICAL_DNS``.
    """
    return bool(key.addresses and addresses) and set(key.addresses).isdisjoint(addresses)
