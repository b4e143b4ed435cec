"""From a picked endpoint to the target that a transport dials."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from meshlib.dataplane.call import Attempt, Call
from meshlib.model.cluster import Cluster, Discovery, Protocol
from meshlib.model.endpoint import Endpoint
from meshlib.model.hosts import is_ip
from meshlib.model.policy import TlsMode
from meshlib.transport.base import Target
from meshlib.transport.tls import TlsContexts

__all__ = ["Lookup", "Targets"]

Lookup = Callable[[str], tuple[str, ...]]


class Targets:
    """Remembers one target per cluster and endpoint, so that a request makes none.

    Args:
        contexts: TLS.
        lookup: Tells the IP addresses that the name of a ``LOGICAL_DNS`` cluster stands for now, none while nobody
            knows; without it the system is asked.
    """

    def __init__(self, contexts: TlsContexts, lookup: Lookup | None = None) -> None:
        self._contexts = contexts
        self._lookup = lookup

    def get(self, call: Call, attempt: Attempt, caller_tls: ssl.SSLContext | None, *, http2: bool) -> Target:
        """Where ``attempt`` goes.

        Args:
            call: For the server name.
            attempt: For cluster and endpoint.
            caller_tls: The caller's own context when it asked for ``https``, else None.
            http2: Whether the caller would like HTTP/2, for clusters that keep the caller's protocol.

        Raises:
            TlsUnavailable: See ``TlsContexts.get``.
        """
        cluster, state = attempt.cluster, attempt.state
        known = state.target
        if known is not None and known[0] is cluster and known[1] is caller_tls:
            found: Target = known[2]
            as_asked = cluster.protocol is not Protocol.CALLER or found.http2 is http2
            if as_asked and found.gate is attempt.gate and found.server_name in ("", call.request.host):
                return found
        target = self._make(cluster, call, attempt, caller_tls, http2)
        state.target = (cluster, caller_tls, target)
        return target

    def to(
        self, cluster: Cluster, endpoint: Endpoint, host: str, *, port: int = 0, http2: bool | None = None, idle: float
    ) -> Target:
        """Where something goes that is no caller's, for instance a health check.

        Args:
            cluster: What is spoken, and what TLS.
            endpoint: Whom to dial.
            host: TLS server name where the cluster names none.
            port: Dialled instead of the endpoint's; 0 keeps that.
            http2: Speak it, or not; None speaks what the cluster does.
            idle: Seconds that a connection may rest at most.

        Raises:
            TlsUnavailable: See ``TlsContexts.get``.
        """
        wants_http2 = cluster.protocol is Protocol.HTTP2 if http2 is None else http2
        tls = cluster.tls.to(endpoint.accepts_mtls)
        context = self._contexts.get(tls, http2=wants_http2)
        name = "" if context is None else cluster.tls.sni or host
        longest = cluster.connection_pool.idle_timeout
        pool = replace(cluster.connection_pool, idle_timeout=idle if longest is None else min(idle, longest))
        lookup, mesh = self._lookup_of(cluster, endpoint), tls.mode is TlsMode.ISTIO_MUTUAL
        address = endpoint.address
        return Target(address, port or endpoint.port, wants_http2, context, name, pool, lookup=lookup, mesh=mesh)

    def _make(
        self, cluster: Cluster, call: Call, attempt: Attempt, caller_tls: ssl.SSLContext | None, http2: bool
    ) -> Target:
        endpoint = attempt.endpoint
        wants_http2 = cluster.protocol is Protocol.HTTP2 or (cluster.protocol is Protocol.CALLER and http2)
        tls = cluster.tls.to(endpoint.accepts_mtls)
        own = self._contexts.get(tls, http2=wants_http2)
        context = own or caller_tls
        server_name = "" if context is None else (cluster.tls.sni if own is not None else "") or call.request.host
        port = endpoint.port
        if cluster.discovery is Discovery.ORIGINAL_DST and not port:
            port = call.request.port
        asks = wants_http2 and context is not None and cluster.protocol is Protocol.CALLER
        settings, gate, mesh = cluster.connection_pool, attempt.gate, tls.mode is TlsMode.ISTIO_MUTUAL
        lookup = self._lookup_of(cluster, endpoint)
        return Target(endpoint.address, port, wants_http2, context, server_name, settings, asks, gate, lookup, mesh)

    def _lookup_of(self, cluster: Cluster, endpoint: Endpoint) -> Callable[[], tuple[str, ...]] | None:
        if self._lookup is None or cluster.discovery is not Discovery.LOGICAL_DNS or is_ip(endpoint.address):
            return None
        return partial(self._lookup, endpoint.address)
