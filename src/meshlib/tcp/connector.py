"""From what a caller asks for to leases of endpoints, and plans of how to dial them; nothing waits here."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from meshlib.clock import Clock
from meshlib.dataplane import connections
from meshlib.dataplane.call import Call
from meshlib.dataplane.connections import Target
from meshlib.dataplane.events import Observer
from meshlib.dataplane.prepared import Prepared
from meshlib.errors import ConnectFailure, MeshError, NotYet
from meshlib.model.cluster import Cluster, Discovery
from meshlib.model.endpoint import Endpoint
from meshlib.model.hosts import is_ip
from meshlib.model.policy import ConnectionPool, Tunnel
from meshlib.model.tcp import TcpRoute
from meshlib.tcp.failures import ConnectTimeout, as_os_error
from meshlib.tcp.lease import Lease
from meshlib.tcp.tunnel import Unsupported
from meshlib.tcp.watch import Watch
from meshlib.transport.tls import TlsContexts, TlsUnavailable

__all__ = ["Connector", "Opening", "Plan", "Wish", "World", "wish"]


class World(Protocol):
    """What a connector needs of a mesh."""

    prepared: Prepared
    clock: Clock
    rng: random.Random
    observer: Observer | None

    def lookup(self, name: str) -> tuple[str, ...]:
        """See ``Mesh.lookup``."""
        ...


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks for.

    Attributes:
        target: Where to.
        tls: The context of TLS that the caller itself speaks, or None.
        timeout: Seconds for connecting, TLS included; the configuration's where that is less; None leaves it to that.
        attempts: How often connecting may be tried.
    """

    target: Target
    tls: ssl.SSLContext | None = None
    timeout: float | None = None
    attempts: int = 1


def wish(
    host: str,
    port: int,
    sni: str | None = None,
    tls: ssl.SSLContext | None = None,
    timeout: float | None = None,
    attempts: int = 1,
) -> Wish:
    """What ``Mesh.open_tcp`` was asked for.

    Raises:
        ValueError: A port, timeout or number of attempts that makes no sense.
    """
    if not 0 < port < 65536:
        raise ValueError(f"port {port} is not in 1..65535")
    if attempts < 1:
        raise ValueError(f"{attempts} attempts make no connection")
    if timeout is not None and timeout <= 0:
        raise ValueError(f"a timeout of {timeout:g} s leaves no time to connect")
    name = host.strip("[]").lower().removesuffix(".")
    named = sni if sni is not None else name if tls is not None else ""
    return Wish(Target(name, port, named.lower().removesuffix(".")), tls, timeout, attempts)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one endpoint is dialled, in this order.

    Attributes:
        addresses: IP addresses that are raced, a single name or a single ``unix:///path``.
        port: Port number.
        limit: Seconds for all of it.
        settings: Keepalive, PROXY header.
        dialled: Address and port that the caller means, for the PROXY header; None where only a name is known.
        tls: TLS that the configuration or the caller asks for, or None.
        server_name: For TLS; None sends none.
        tunnel: What the endpoint is asked to connect to, or None.
        around: TLS goes around the tunnel (the configuration's), not inside it (the caller's).
    """

    addresses: tuple[str, ...]
    port: int
    limit: float
    settings: ConnectionPool = ConnectionPool()
    dialled: tuple[str, int] | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    tunnel: Tunnel | None = None
    around: bool = True


class Connector:
    """Opens connections of one mesh.

    Args:
        world: The mesh.
        call_soon: Has the background thread call something; False when there is none.
    """

    def __init__(self, world: World, call_soon: Callable[[Callable[[], Any]], bool]) -> None:
        self.clock = world.clock
        self.watch = Watch(world.clock, call_soon)
        self.contexts = TlsContexts()
        self._world = world

    def begin(self, wish: Wish) -> Opening:
        """Route a connection.

        Raises:
            UnknownHost: Nobody knows the host, and the mesh is REGISTRY_ONLY.
            NoCluster: The rule's destination does not exist.
            NotYet: See ``dataplane.connections.begin``.
        """
        world, target = self._world, wish.target
        prepared, now = world.prepared, world.clock.now()
        try:
            host = prepared.tcp_host(target.host, target.port)
            found = None
            if host is None:
                found = connections.straight_to(prepared, target, now, world.rng, world.observer)
            if found is None:
                found = connections.begin(prepared, target, now, world.rng, world.observer, wish.attempts)
        except NotYet:
            raise
        except MeshError as error:
            raise as_os_error(error) from None
        if found is None:
            return Opening(self, wish, None, None)
        return Opening(self, wish, found.call, found.way, host.address if host is not None else "")

    def addresses(self, cluster: Cluster, address: str) -> tuple[str, ...]:
        """What to dial for an endpoint; the name of a ``LOGICAL_DNS`` cluster is dialled as it was last answered."""
        logical = cluster.discovery is Discovery.LOGICAL_DNS and not is_ip(address)
        return (self._world.lookup(address) if logical else ()) or (address,)

    def close(self) -> None:
        """End every connection."""
        self.watch.close()


class Opening:
    """A connection on its way: asked for a lease, told how dialling went, asked again."""

    def __init__(
        self, connector: Connector, wish: Wish, call: Call | None, way: TcpRoute | None, address: str = ""
    ) -> None:
        self._connector = connector
        self._wish = wish
        self._call = call
        self._way = way
        self._address = wish.target.host if is_ip(wish.target.host) else address

    def lease(self) -> Lease:
        """An endpoint, with every permit; a host that the mesh does not know is its own.

        Raises:
            NoHealthyUpstream: No endpoint may be picked.
            Overflow: As many connections are open as there may be.
        """
        call, target = self._call, self._wish.target
        if call is None:
            return Lease(Endpoint(target.host, target.port), None, None, None, self._connector.watch)
        now = self._connector.clock.now()
        try:
            attempt = connections.next_attempt(call, now)
        except MeshError as error:
            call.close(now)
            raise as_os_error(error) from None
        return Lease(attempt.endpoint, self._way, call, attempt, self._connector.watch)

    def plan(self, lease: Lease) -> Plan:
        """How to dial the endpoint of a lease.

        Raises:
            TlsUnavailable: The TLS that is asked for cannot be set up.
        """
        cluster, wish = lease.cluster, self._wish
        name = wish.target.sni or wish.target.host
        if cluster is None:
            limit = ConnectionPool().connect_timeout
            tls = wish.tls
            return Plan(
                (lease.address,),
                lease.port,
                _less(limit, wish.timeout),
                tls=tls,
                server_name=name if tls is not None else None,
            )
        spoken = cluster.tls.to(lease.endpoint.accepts_mtls)
        settings, own = cluster.connection_pool, self._connector.contexts.get(spoken, raw=True)
        if own is not None and wish.tls is not None:
            raise TlsUnavailable(f"cluster {cluster.name} has TLS by its configuration: leave the caller's own out")
        port = lease.port
        if cluster.discovery is Discovery.ORIGINAL_DST and not port:
            port = wish.target.port
        return Plan(
            self._connector.addresses(cluster, lease.address),
            port,
            _less(settings.connect_timeout, wish.timeout),
            settings,
            (self._address, wish.target.port) if self._address else None,
            own or wish.tls,
            (cluster.tls.sni or wish.target.host) if own is not None else name if wish.tls is not None else None,
            cluster.tunnel,
            around=own is not None,
        )

    def failed(self, lease: Lease, error: BaseException) -> float | None:
        """Dialling failed, or was given up: seconds until the next lease, or None when it stays at that."""
        if isinstance(error, Exception):
            return lease.failed(error)
        lease.failed(error)
        return None

    def error(self, error: Exception, limit: float) -> Exception:
        """What to raise for a failure that stands; what is no failure to connect stays as it is."""
        if not isinstance(error, OSError | TlsUnavailable | Unsupported):
            return error
        timed_out = isinstance(error, TimeoutError)
        text = f"no connection within {limit:.3g} s" if timed_out else f"connecting failed: {error}"
        call, target = self._call, self._wish.target
        if call is None:
            made: ConnectFailure = ConnectFailure(f"{text} ({target.host}:{target.port}, not known to the mesh)")
        else:
            made = call.error(ConnectFailure, text)
        if not timed_out:
            return as_os_error(made)
        return ConnectTimeout(
            str(made), route=made.route, cluster=made.cluster, endpoint=made.endpoint, attempts=made.attempts
        )


def _less(limit: float, asked: float | None) -> float:
    return limit if asked is None else min(limit, asked)
