"""Hosts that are not in the mesh, as ``outboundTrafficPolicy`` wants them treated.

``REGISTRY_ONLY`` refuses them and ``ALLOW_ANY`` lets them go straight to their address; neither needs a route. With an
``egressProxy`` they go to that service instead, and ``ALLOW_ANY_DYNAMIC_DNS`` resolves the name that was asked for and
may wrap TLS around it.

Source: Istio ``core/httproute.go`` (``buildCatchAllVirtualHost``), ``core/networkfilter.go``.
"""

from __future__ import annotations

from collections.abc import Callable

from meshlib.config.compile.client_tls import Peer, client_tls
from meshlib.config.resources.mesh_config import MeshOutboundTrafficPolicy, TLSConfig
from meshlib.config.resources.sidecar import OutboundTrafficMode, OutboundTrafficPolicy
from meshlib.config.resources.virtual_service import Destination
from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.route import Forward, Route, RouteMatch, VirtualHost, WeightedCluster
from meshlib.model.snapshot import OutboundPolicy
from meshlib.model.tcp import TcpHost, TcpMatch, TcpRoute

__all__ = ["DYNAMIC_DNS", "UnknownHosts"]

DYNAMIC_DNS = "AllowAnyDynamicDNSCluster"
"""Istio's name of the cluster that resolves whatever host is asked for."""


class UnknownHosts:
    """What a client does with hosts that the mesh does not know.

    Args:
        given: The policy in force.
        cluster: Destination, namespace and port -> cluster name.
        defaults: The mesh's ``tlsDefaults``.

    Attributes:
        policy: What is left to the data plane.
    """

    def __init__(
        self,
        given: OutboundTrafficPolicy | MeshOutboundTrafficPolicy,
        cluster: Callable[[Destination, str, int], str],
        defaults: TLSConfig | None = None,
    ) -> None:
        self._mode = given.mode
        self._proxy = given.egress_proxy if isinstance(given, OutboundTrafficPolicy) else None
        self._tls = given.tls if isinstance(given, MeshOutboundTrafficPolicy) else None
        self._cluster = cluster
        self._defaults = defaults
        refuse = given.mode is OutboundTrafficMode.REGISTRY_ONLY
        self.policy = OutboundPolicy.REGISTRY_ONLY if refuse else OutboundPolicy.ALLOW_ANY

    def virtual_host(self, host: str, port: int) -> VirtualHost | None:
        """The catch-all host; None leaves it to the policy."""
        route = self._route(port)
        return None if route is None else VirtualHost(host, port, (route,))

    def behind(self, known: TcpHost | None, host: str, port: int) -> TcpHost | None:
        """``known``, with a way for the connections that match nothing there."""
        route = self._route(port)
        if route is None:
            return known
        fallback = TcpRoute(TcpMatch(), route)
        if known is None:
            return TcpHost(host, port, (), fallback=fallback)
        return TcpHost(known.name, known.port, known.routes, known.service, known.address, known.skipped, fallback)

    def cluster(self, name: str) -> Cluster | None:
        """The cluster that ``ALLOW_ANY_DYNAMIC_DNS`` brings; None for every other name."""
        if name != DYNAMIC_DNS or self._tls is None:
            return None
        original, caller = Discovery.ORIGINAL_DST, Protocol.CALLER
        tls = client_tls(self._tls, Peer(external=True), automatic=False, defaults=self._defaults)
        return Cluster(name, "", 0, discovery=original, protocol=caller, tls=tls, external=True)

    def _route(self, port: int) -> Route | None:
        if self._mode is OutboundTrafficMode.ALLOW_ANY and self._proxy is not None:
            name = self._cluster(self._proxy, "", port)
        elif self._mode is OutboundTrafficMode.ALLOW_ANY_DYNAMIC_DNS and self._tls is not None:
            name = DYNAMIC_DNS
        else:
            return None
        return Route("allow_any", RouteMatch(), Forward((WeightedCluster(name),)))
