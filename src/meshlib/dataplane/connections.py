"""From a connection to a call: which cluster takes a raw TCP or TLS connection.

One draw for each connection decides among weighted destinations. What comes out is an ordinary ``Call``, so that
picking, permits and ejection are those of requests: dial what ``next_attempt`` names, ``settleX

Source: Istio ``core/tls.go``, ``core/networkfilter.go``; Envoy ``tcp_proxy``.
"""

from __future__ import annotations

import random
from typing import NamedTuple
from urllib.parse import urlsplit

from meshlib.dataplane.bound_route import BoundRoute
from meshlib.dataplane.call import Attempt, Call
from meshlib.dataplane.destination import Destination
from meshlib.dataplane.events import Observer
from meshlib.dataplane.policies.hash_key import Maker, hash_key
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request
from meshlib.dataplane.router import refuse_awaited, refuse_unknown
from meshlib.errors import NoCluster, Overflow
from meshlib.model.cluster import cluster_name
from meshlib.model.hosts import join_host_port
from meshlib.model.route import Forward, Route, RouteMatch, VirtualHost, WeightedCluster
from meshlib.model.tcp import TcpHost, TcpMatch, TcpRoute

__all__ = ["Connection", "Target", "begin", "host_of", "next_attempt", "select", "straight_to", "target_of"]


class Target(NamedTuple):
    """What a caller wants to be connected to.

    Attributes:
        host: Name or IP address, lower case, without a trailing dot and without brackets.
        port: Port number.
        sni: Server name of the TLS handshake, lower case; ``""`` for a connection that begins without TLS.
    """

    host: str
    port: int
    sni: str = ""

    @property
    def request(self) -> Request:
        """The connection as the core reads requests."""
        scheme = "tls" if self.sni else "tcp"
        return Request("CONNECT", scheme, join_host_port(self.host, self.port), self.port, "/", host=self.host)


class Connection(NamedTuple):
    """A connection that was given its way.

    Attributes:
        call: Picks the endpoint and holds the permits.
        way: Timeouts of the connection.
    """

    call: Call
    way: TcpRoute


def target_of(url: str, sni: str | None = None) -> Target:
    """``tcp://host:port`` or ``tls://host:port``; TLS names the host unless ``sni`` names another.

    Raises:
        ValueError: Another scheme, or no host or port.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("tcp", "tls") or not parts.hostname or not parts.port:
        raise ValueError(f"{url!r} is not of the form tcp://host:port or tls://host:port")
    host = parts.hostname.removesuffix(".")
    named = sni if sni is not None else host if parts.scheme == "tls" else ""
    return Target(host, parts.port, named.lower().removesuffix("."))


def select(host: TcpHost | None, target: Target) -> TcpRoute | None:
    """The way of a connection; None leaves it to the outbound policy.

    A short name that the caller did not choose as server name stands for the full one too.
    """
    if host is None:
        return None
    found = host.select(target.host, target.sni)
    if (found is None or found is host.fallback) and target.sni == target.host and host.name != target.host:
        return host.select(target.host, host.name)
    return found


def host_of(host: TcpHost, way: TcpRoute) -> VirtualHost:
    """A way in the form that calls know."""
    return VirtualHost(host.name, host.port, (way.route,), way.virtual_service, host.service, host.skipped)


def begin(
    prepared: Prepared,
    target: Target,
    now: float,
    rng: random.Random,
    observer: Observer | None = None,
    attempts: int = 1,
) -> Connection | None:
    """Route a connection; None when nobody knows it and it goes straight to its address (Istio ALLOW_ANY).

    Args:
        prepared: The world.
        target: Where to.
        now: The time.
        rng: For the draw among destinations.
        observer: Is told of it.
        attempts: How often connecting may be tried, each time at an endpoint picked anew (``max_connect_attempts``).

    Raises:
        UnknownHost: Nobody knows it and the mesh is REGISTRY_ONLY.
        NoCluster: The rule's destination does not exist.
        NotYet: Nothing is known yet of where the rule's destination is; ask again later.
    """
    host = prepared.tcp_host(target.host, target.port)
    way = select(host, target)
    request = target.request
    if host is None or way is None:
        refuse_unknown(prepared, request)
        return None
    bound = prepared.bound(way.route, attempts)
    destination = bound.draw(rng)
    if destination is not None and destination.cluster is not None and destination.cluster.awaited:
        refuse_awaited(destination.cluster, request)
    call = Call(request, host_of(host, way), bound, destination, now, rng)
    if observer is not None:
        call.observe(observer.call_started(call, now))
    if bound.hash_keys:
        call.hash_key, _ = hash_key(bound.hash_keys, request, Maker(rng))
    if destination is None or destination.cluster is None:
        name = destination.name if destination is not None else "none"
        raise call.fail(NoCluster, f"cluster {name} does not exist", now)
    return Connection(call, way)


def next_attempt(call: Call, now: float) -> Attempt:
    """The next endpoint to dial, with every permit. Connections do not wait for each other: beyond the most, none is.

    Raises:
        NoHealthyUpstream: No endpoint may be picked.
        Overflow: ``maxConnections`` of the cluster are open (Envoy ``upstream_cx_overflow``).
    """
    attempt = call.next_attempt(now)
    gate = attempt.gate
    if gate is not None:
        attempt.ticket = gate.enter(_unheard)
        if attempt.ticket is None or not attempt.ticket.admitted:
            raise call.error(Overflow, f"{gate.capacity} connections are open, the most that are allowed")
    return attempt


def _unheard() -> None:
    """Nobody waits."""


def straight_to(
    prepared: Prepared, target: Target, now: float, rng: random.Random, observer: Observer | None = None
) -> Connection | None:
    """A connection to a service whose rules read requests, which a connection has none of: to all its endpoints.

    None when ``target`` is no such service.
    """
    known = prepared.host(target.host, target.port)
    service = known.host.service if known is not None else None
    cluster = prepared.cluster(cluster_name(service, target.port)) if service else None
    if cluster is None:
        return None
    if cluster.awaited:
        refuse_awaited(cluster, target.request)
    action = Forward((WeightedCluster(cluster.cluster.name),))
    route = Route("default", RouteMatch(), action)
    destination = Destination(action.clusters[0], route, action, cluster)
    host = VirtualHost(target.host, target.port, (route,), service=service)
    call = Call(target.request, host, BoundRoute(route, (destination,)), destination, now, rng)
    if observer is not None:
        call.observe(observer.call_started(call, now))
    pool = cluster.cluster.connection_pool
    return Connection(call, TcpRoute(TcpMatch(), route, None, pool.idle_timeout, pool.max_connection_duration))
